"""What an importer promises."""

from __future__ import annotations

from soundbench.errors import SoundbenchError
from soundbench.testing.cases import Case
from soundbench.testing.findings import Broken, Checks

__all__ = ["CHECKS"]


def refuses(case: Case) -> str:
    """What is no model is refused, and named."""
    empty = case.folder / "empty"
    empty.mkdir()
    for path in (case.nowhere, empty):
        try:
            case.make(path)
        except SoundbenchError as error:
            if path.name not in str(error):
                raise Broken(f"given {path.name}, its error does not name it: {error}") from error
        else:
            raise Broken(f"it makes a model of {'an empty folder' if path == empty else 'a folder that is not there'}")
    return "names what is no model"


CHECKS: Checks = {"refuses": refuses}
