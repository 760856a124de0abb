"""How long `soundbench --help` and `soundbench list-plugins` take, as multiples of `python -c "import click"`.

    python benchmarks/startup.py [--rounds 20]

Ten packages of plugins are installed beside soundbench, from `soundbench new-plugin`: their modules and metadata lie in
a folder on the path. The module of one cannot be imported. The programs alternate.
"""

from __future__ import annotations

import argparse
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
import tomllib
from pathlib import Path

from turns import in_turns, line, machine_info, ratio

from soundbench.contracts import KINDS
from soundbench.recipe.new_plugin.package import write_package

PACKAGES = 10
MOST = {"--help": 2.0, "list-plugins": 4.0}


def install(package: Path, site: Path) -> None:
    """The module of a package and its metadata, README and all, as pip leaves them."""
    project = tomllib.loads((package / "pyproject.toml").read_text())["project"]
    stem = project["name"].replace("-", "_")
    shutil.copy(package / f"{stem}.py", site)
    info = site / f"{stem}-0.1.0.dist-info"
    info.mkdir()
    head = f"Metadata-Version: 2.4\nName: {project['name']}\nVersion: 0.1.0\n"
    head += "".join(f"Requires-Dist: {requirement}\n" for requirement in project["dependencies"])
    (info / "METADATA").write_text(head + "\n" + (package / "README.md").read_text())
    ((group, entries),) = project["entry-points"].items()
    ((name, value),) = entries.items()
    (info / "entry_points.txt").write_text(f"[{group}]\n{name} = {value}\n")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--rounds", type=int, default=20)
    rounds = parser.parse_args().rounds
    with tempfile.TemporaryDirectory(prefix="soundbench-") as temporary:
        site = Path(temporary) / "site"
        site.mkdir()
        for kind in list(KINDS)[:PACKAGES]:
            install(write_package(kind, f"startup-{kind}", parent=Path(temporary)), site)
        (site / "soundbench_startup_backbone.py").write_text("raise RuntimeError('broken')\n")
        environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(site), os.environ.get("PYTHONPATH", "")])}
        environment.pop("PYTHONDONTWRITEBYTECODE", None)  # an installation has its bytecode
        commands = [["-c", "import click"], *(["-m", "soundbench", argument] for argument in MOST)]
        seconds: list[list[float]] = [[] for _ in commands]
        for number in in_turns(rounds + 1, len(commands)):  # the first round fills caches
            began = time.perf_counter()
            subprocess.run([sys.executable, *commands[number]], env=environment, check=True, stdout=subprocess.DEVNULL)
            seconds[number].append(time.perf_counter() - began)
    print(f"`python benchmarks/startup.py --rounds {rounds}`: {machine_info()}.\n")
    print(line(["program", "milliseconds, median", 'times `python -c "import click"`', "at most"]))
    print(line(["---"] * 4))
    base = [1e3 * value for value in seconds[0][1:]]
    print(line(['`python -c "import click"`', f"{statistics.median(base):.0f}", "1", ""]))
    for (name, most), found in zip(MOST.items(), seconds[1:], strict=True):
        times = ratio([1e3 * value for value in found[1:]], base)
        verdict = f"{times:.2f}" if times <= most else f"{times:.2f}: MISSED"
        print(line([f"`soundbench {name}`", f"{1e3 * statistics.median(found[1:]):.0f}", verdict, f"{most:g}"]))


if __name__ == "__main__":
    main()
