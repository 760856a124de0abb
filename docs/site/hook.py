"""The site's pages for MkDocs: those of the repository where they are, so that their links work, and generated ones."""

from __future__ import annotations

import re
import shutil
import tempfile
from pathlib import Path
from typing import Any

from generated import pages

ROOT = Path(__file__).parents[2]
# What pages lie in, or link to.
FOLDERS = ("docs", "recipes", "benchmarks/results")
FILES = ("README.md", "README.zh-CN.md", "CHANGELOG.md", "CITATION.cff", "CONTRIBUTING.md", "LICENSE", "SECURITY.md")

_pages: tempfile.TemporaryDirectory[str] | None = None


def on_config(config: Any) -> None:
    """Let MkDocs read a folder with all pages in place of `docs_dir`, and fill the parts of `nav` that are folders."""
    global _pages
    if _pages is None:  # it is called for each language
        _pages = tempfile.TemporaryDirectory(prefix="soundbench-pages-")
        lay_out(Path(_pages.name))
    config["docs_dir"] = _pages.name
    config["nav"] = filled(config["nav"], Path(_pages.name))
    config["mdx_configs"]["toc"]["slugify"] = slug


def filled(nav: list[Any], pages: Path) -> list[Any]:
    """A navigation with the pages of each folder in place of its name, which ends in a slash."""
    made = []
    for entry in nav:
        ((title, value),) = entry.items()
        if isinstance(value, list):
            value = filled(value, pages)
        elif value.endswith("/"):
            value = [{page.stem: page.relative_to(pages).as_posix()} for page in sorted((pages / value).glob("*.md"))]
        made.append({title: value})
    return made


def on_page_content(html: str, **_: Any) -> str:
    """Mark options in the text as words: browsers break a line after a hyphen."""

    def marked(code: re.Match[str]) -> str:
        return re.sub(r"(?<![\w-])--?[a-z][\w-]*", r'<span class="word">\g<0></span>', code[0])

    return re.sub(r"(?<=<code>)[^<]+(?=</code>)", marked, html)


def on_shutdown() -> None:
    """Remove that folder."""
    if _pages is not None:
        _pages.cleanup()


def lay_out(folder: Path) -> None:
    """Write every page of the site into a folder: as they are in the repository, and those made from the code."""
    for name in FOLDERS:
        ignored = shutil.ignore_patterns("__pycache__", "site", "*.py[co]")
        shutil.copytree(ROOT / name, folder / name, ignore=ignored)
    for name in FILES:
        shutil.copy(ROOT / name, folder / name)
    for name in ("site.css", "iframe-worker.js"):
        shutil.copy(Path(__file__).with_name(name), folder)
    (folder / "README.zh-CN.md").rename(folder / "README.zh.md")
    for path, text in pages().items():
        page = folder / path
        page.parent.mkdir(parents=True, exist_ok=True)
        page.write_text(text, encoding="utf-8")
    for page in folder.rglob("*.md"):
        page.write_text(_for_the_site(page.read_text(encoding="utf-8")), encoding="utf-8")


def slug(title: str, separator: str) -> str:
    """What a link to a heading ends in, as code hosts write it."""
    return re.sub(r"[^\w\- ]", "", title.lower()).replace(" ", separator)


def _for_the_site(text: str) -> str:
    """A page without its line of languages, which the site has in its head, and without what fences say to tests."""
    text = re.sub(r"^(English|\[English\]\(.*?\)) \| .*\n\n", "", text, count=1, flags=re.MULTILINE)
    text = text.replace("README.zh-CN.md", "README.zh.md")
    return re.sub(r"^( *```\w+) .*$", r"\1", text, flags=re.MULTILINE)
