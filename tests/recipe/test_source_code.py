"""What can be told of source without running it."""

from __future__ import annotations

import pytest

from soundbench.recipe.source_code import argument_docs, defined_in, find_source, imports_neighbours, runs_when_imported

DOC = """What it is.

    More of it: with a colon.

    Args:
        width: of each layer; a long
            explanation goes on.
        depth (int): how many.

            Even over a paragraph.
        *rest: whatever else.

    Attributes:
        height: not an argument.
    """


def test_the_args_section_is_read_a_parameter_at_a_time() -> None:
    assert argument_docs(DOC) == {
        "width": "of each layer; a long explanation goes on.",
        "depth": "how many. Even over a paragraph.",
        "rest": "whatever else.",
    }


@pytest.mark.parametrize("doc", [None, "", "What it is.", "Args:", "Args:\n\nReturns:\n    it: self"])
def test_a_docstring_without_arguments_documents_none(doc: str | None) -> None:
    assert argument_docs(doc) == {}


def test_what_a_file_defines_is_listed_without_what_is_private() -> None:
    assert defined_in("class A: ...\ndef b(): ...\ndef _c(): ...\nd = 1") == ["A", "b"]
    assert defined_in("class (") == []


def test_source_is_found_in_packages_and_nested_modules() -> None:
    assert "class JSONDecoder" in (find_source("json.decoder") or "")
    assert find_source("json.nowhere") is None
    assert find_source("nowhere.at.all") is None
    assert find_source("sys") is None


@pytest.mark.parametrize(
    ("source", "runs"),
    [('if __name__ == "__main__":\n    go()', False), ("go()", True), ("class A: ...", True), ("class (", True)],
)
def test_a_script_without_its_guard_runs_when_imported(source: str, runs: bool) -> None:
    assert runs_when_imported(source) is runs


@pytest.mark.parametrize(
    ("source", "needs"), [("from . import x", True), ("def f():\n    from ..a import x", True), ("import a.b", False)]
)
def test_relative_imports_need_the_files_beside(source: str, needs: bool) -> None:
    assert imports_neighbours(source) is needs
