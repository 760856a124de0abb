"""What an importer promises."""

from __future__ import annotations

from soundbench.errors import SoundbenchError
from soundbench.testing.cases import Case
from soundbench.testing.results import Broken, Checks

__all__ = ["CHECKS"]


def refuses(case: Case) -> str:
    """A path that holds no model is refused, in an error that names it."""
    empty = case.folder / "empty"
    empty.mkdir()
    for path in (case.missing_path, empty):
        try:
            case.make(path)
        except SoundbenchError as error:
            if path.name not in str(error):
                raise Broken(f"the error for {path.name} must name the path, says: {error}") from error
        else:
            what = "an empty folder" if path == empty else "a path that does not exist"
            raise Broken(f"it must refuse {what}, but returns a model")
    return "names the path without a model"


CHECKS: Checks = {"refuses": refuses}
