"""Small packages that bring models: a folder in them, and metadata with an entry point, as an installation leaves."""

from __future__ import annotations

from pathlib import Path

from soundbench.data import digests

MODEL = 'format = 2\nclasses = ["dog", "owl"]\n'


def install(
    site: Path,
    name: str,
    *,
    distribution: str = "acme-sounds",
    version: str = "1.0",
    model: str | None = MODEL,
    value: str | None = None,
) -> Path:
    """Install a distribution that brings one model; its package raises when it is imported.

    Args:
        site: the folder that stands for `site-packages`.
        name: of the model.
        distribution: its name.
        version: its version.
        model: the content of `model.toml`; None for a folder that is missing.
        value: that of the entry point; None for that of the model folder.

    Returns:
        The model folder.
    """
    package = distribution.replace("-", "_")
    folder = site / package / "models" / name.strip("./-")
    folder.parent.mkdir(parents=True, exist_ok=True)
    (site / package / "__init__.py").write_text('raise RuntimeError("nobody may import this")\n')
    if model is not None:
        folder.mkdir(exist_ok=True)
        (folder / "model.toml").write_text(model)
        digests.write_table(folder / "digests.json", digests.table_of(folder, ["model.toml"]))
    info = site / f"{package}-{version}.dist-info"
    info.mkdir(exist_ok=True)
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {distribution}\nVersion: {version}\n")
    with (info / "entry_points.txt").open("a") as file:
        file.write(f"[soundbench.model]\n{name} = {f'{package}.models.{folder.name}' if value is None else value}\n")
    return folder
