"""Components found by kind and name; what is wrong with those that cannot be used, told in one message each."""

from __future__ import annotations

import json
import subprocess
import sys
from collections import Counter
from collections.abc import Callable
from importlib.metadata import distributions
from pathlib import Path
from typing import TYPE_CHECKING, Any

import attrs
import pytest
from helpers import toys
from helpers.entry_points import Listener, fake, toy_registry

from soundbench.contracts import API_VERSION, KINDS
from soundbench.errors import BrokenPlugin, ClaimedTwice, NotInstalled, OtherApi, PluginError, UnknownPlugin
from soundbench.recipe.catalogue import catalogue
from soundbench.recipe.entry_points import Listing, made_for
from soundbench.recipe.registry import Registry

if TYPE_CHECKING:
    from nowhere import Tensor  # type: ignore[import-not-found]

Write = Callable[[str, str], None]


@pytest.fixture
def write(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Write:
    """Writes a module, or a package's, that can be imported."""
    monkeypatch.syspath_prepend(tmp_path)

    def write(module: str, source: str) -> None:
        path = tmp_path.joinpath(*module.split(".")).with_suffix(".py")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(source, encoding="utf-8")
        monkeypatch.delitem(sys.modules, module, raising=False)

    return write


def refused(error: type[PluginError], kind: str, use: Any, registry: Registry, **more: Any) -> str:
    with pytest.raises(error) as caught:
        registry.get(kind, use, **more)
    return str(caught.value)


# -- found ---------------------------------------------------------------------------------------------------------


def test_a_component_is_found_by_kind_and_name() -> None:
    found = toy_registry().get("backbone", "conv")
    assert found.obj is toys.ToyBackbone
    assert (found.kind, found.name, found.distribution, found.version) == ("backbone", "conv", "toys", "1.0")
    assert found.source is None
    assert {field.name: field.default for field in attrs.fields(found.options)} == {"channels": 16, "dropout": 0.2}


def test_every_kind_takes_a_component() -> None:
    registry = toy_registry()
    assert [registry.load(listing).kind for listing in registry.listings()] == [
        kind for kind in KINDS for listing in registry.listings(kind)
    ]
    assert {listing.kind for listing in registry.listings()} == set(KINDS)


def test_listings_come_in_the_order_of_kinds_and_then_of_names() -> None:
    listed = [(item.kind, item.name) for item in toy_registry(fake("dataset", "alpha", "a:A")).listings()]
    assert listed[:4] == [
        ("dataset", "alpha"), ("dataset", "noise"), ("augmentation", "drop"), ("augmentation", "gain"),
    ]  # fmt: skip
    assert [item.name for item in toy_registry().listings("augmentation")] == ["drop", "gain"]


@pytest.mark.parametrize(
    ("requires", "fits"),
    [
        ([], True),
        (["soundbench"], True),
        (["soundbench>=0.1"], True),
        (["Soundbench[av] (>=0.1,<0.3)"], True),
        (["torch>=99", "soundbench-runtime>=99", "soundbench_tiny>=99"], True),
        (['soundbench>=99; extra == "new"'], True),
        (["soundbench >=, 99"], True),  # nobody can read it
        (["soundbench>=99"], False),
        (["torch", "soundbench[av]>=99 ; python_version > '3'"], False),
        (["soundbench<0.1"], False),
        (["soundbench", "soundbench[av]<0.1"], False),
    ],
)
def test_a_distribution_says_which_api_it_is_made_for_by_what_it_requires(requires: list[str], fits: bool) -> None:
    registry = Registry([fake("pooling", "p", "helpers.toys:ToyPooling", "theirs", "1.2", requires)])
    if fits:
        assert registry.get("pooling", "p").obj is toys.ToyPooling
        return
    message = refused(OtherApi, "pooling", "p", registry)
    assert message.startswith('pooling "p" (theirs 1.2, module helpers.toys) is made for soundbench')
    assert message.endswith("install another version of theirs, or of soundbench")


@pytest.mark.parametrize(
    ("own", "requires", "fits"),
    [
        ("0.2.0.dev1", "soundbench>=0.2,<0.3", True),
        ("0.2.0rc1", "soundbench~=0.2.0", True),
        ("0.2.0rc1", "soundbench==0.2.0rc1", True),
        ("0.2.0rc1", "soundbench>=0.1,<0.2", False),
        ("0.2.0.dev1", "soundbench>=0.3", False),
        ("0.1.0+cpu", "soundbench>=0.1.0", True),
    ],
)
def test_a_version_before_a_release_has_the_api_of_the_release(
    own: str, requires: str, fits: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("soundbench.recipe.entry_points._own_version", lambda: own)
    registry = Registry([fake("pooling", "p", "helpers.toys:ToyPooling", requires=[requires])])
    (entry,) = catalogue(registry, check=True)
    assert entry.status == ("ok" if fits else "other API")


def test_what_is_made_for_another_api_is_not_imported(write: Write) -> None:
    write("of_the_future", "raise RuntimeError('imported')")
    registry = Registry([fake("pooling", "p", "of_the_future:P", requires=["soundbench>=99"])])
    assert "imported" not in refused(OtherApi, "pooling", "p", registry)


def test_what_fails_and_is_made_for_an_older_api_is_not_called_broken_alone(write: Write) -> None:
    write("of_the_past", "from soundbench.contracts import WhatIsGone")
    for requires, error in ((["soundbench>=0.0.3,<9"], OtherApi), ([f"soundbench~={API_VERSION}"], BrokenPlugin)):
        registry = Registry([fake("pooling", "p", "of_the_past:P", requires=requires)])
        message = refused(error, "pooling", "p", registry)
        assert "cannot import name 'WhatIsGone'" in message
        past = f"; it is made for plugin API 0.0, and this is {API_VERSION}"
        assert message.endswith(past) == (error is OtherApi)


@pytest.mark.parametrize(
    ("requires", "api"),
    [
        (["soundbench>=1"], "1.0"),
        (["soundbench>=0.2.3,<0.3"], "0.2"),
        (["soundbench>0.2"], "0.2"),
        (["soundbench~=0.2.0"], "0.2"),
        (["soundbench==0.2.*"], "0.2"),
        (["soundbench===0.2"], "0.2"),
        (["soundbench===nightly"], ""),
        (["soundbench>=v0.2rc1"], "0.2"),
        (["soundbench>=0.9,>=0.10"], "0.10"),
        (["soundbench[av]>=0.2 ; python_version > '3'", "soundbench>=0.1"], "0.2"),
        (["soundbench>=7; python_version < '3'", "soundbench>=0.1"], "0.1"),
        (["soundbench<9"], ""),
        (["soundbench!=0.1.2"], ""),
        (["soundbench @ https://host/soundbench.whl"], ""),
        (["torch>=2"], ""),
    ],
)
def test_the_api_that_something_is_made_for_is_the_least_that_it_requires(requires: list[str], api: str) -> None:
    assert made_for(Listing("pooling", "p", "theirs", "1", "a:A", tuple(requires))) == api


def test_groups_that_are_no_kind_are_left_alone() -> None:
    registry = Registry([fake("recipe", "tiny", "m:M"), fake("loss", "l", "m:L")])
    assert [item.kind for item in registry.listings()] == ["loss"]


def test_a_class_from_python_is_found_again_by_its_name() -> None:
    registry = toy_registry()
    found = registry.get("observer", Listener)
    assert (found.name, found.distribution) == ("listener", "toys")


def test_a_class_from_python_that_no_plugin_offers_keeps_its_file() -> None:
    class Own(toys.ToyBackbone):
        """A network of one's own."""

    found = toy_registry().get("backbone", Own)
    assert found.source == Path(__file__).resolve()
    assert found.name.startswith(f"{Path(__file__).resolve()}:")
    assert found.distribution == ""


def test_an_object_is_no_component() -> None:
    message = refused(BrokenPlugin, "pooling", toys.ToyPooling(3), toy_registry())
    assert message == "a pooling must be given as a class or a function, not as ToyPooling()"


# -- listing imports nothing ---------------------------------------------------------------------------------------


def test_a_summary_is_read_without_importing_module_or_package(write: Write) -> None:
    write("shop.__init__", "raise RuntimeError('imported')")
    write("shop.net", "'''Module.'''\nraise RuntimeError('imported')\nclass Net:\n    '''A net.\n\n    More.'''\n")
    (listing,) = Registry([fake("backbone", "net", "shop.net:Net")]).listings()
    assert listing.summary() == "A net."
    assert "shop" not in sys.modules


def test_a_summary_is_found_where_a_module_only_passes_the_class_on(write: Write) -> None:
    write("hall.__init__", "from .room import Chair as Seat\nfrom hall.room import stool")
    write("hall.room", "class Chair:\n    'For one.'\ndef stool():\n    'Without a back.'\n")
    seat, stool = Registry([fake("loss", "seat", "hall:Seat"), fake("loss", "stool", "hall:stool")]).listings()
    assert seat.summary() == "For one."
    assert stool.summary() == "Without a back."


@pytest.mark.parametrize("value", ["nowhere:Net", "json:NoSuchThing", "json", "torch._C:Net", "json.nowhere.at:Net"])
def test_a_summary_that_cannot_be_found_is_empty(value: str) -> None:
    (listing,) = Registry([fake("backbone", "net", value)]).listings()
    assert listing.summary() == ""


def test_a_file_that_is_no_python_has_no_summary(write: Write) -> None:
    write("torn", "class Net(")
    (listing,) = Registry([fake("backbone", "net", "torn:Net")]).listings()
    assert listing.summary() == ""


def test_listing_everything_installed_imports_neither_torch_nor_numpy_nor_a_plugin() -> None:
    script = (
        "import json, sys\n"
        "from soundbench.recipe.registry import Registry\n"
        "listings = Registry().listings()\n"
        "summaries = [listing.summary() for listing in listings]\n"
        "modules = {listing.module for listing in listings}\n"
        "tops = {module.partition('.')[0] for module in modules} | {'torch', 'numpy', 'ignite'}\n"
        "print(json.dumps(sorted(tops & set(sys.modules))))\n"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert json.loads(done.stdout) == []


def test_entry_points_are_read_once_and_metadata_once_a_distribution(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of two distributions with three components of each kind, beside all that is installed."""
    for name in ("many", "more"):
        about = tmp_path / f"{name}-1.0.dist-info"
        about.mkdir()
        (about / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.0\n\n{'A README. ' * 999}")
        kinds = [f"[soundbench.{kind}]\n" + "".join(f"{name}{n} = nowhere:X\n" for n in range(3)) for kind in KINDS]
        (about / "entry_points.txt").write_text("\n".join(kinds))
    monkeypatch.syspath_prepend(tmp_path)
    read: Counter[str] = Counter()
    kind_of_distribution = type(next(iter(distributions())))  # of importlib_metadata, where a library has imported it
    read_text = kind_of_distribution.read_text

    def counted(self: Any, filename: str) -> str | None:
        read[f"{self._path.name}/{filename}"] += 1
        return read_text(self, filename)

    monkeypatch.setattr(kind_of_distribution, "read_text", counted)
    registry = Registry()
    listings = [item for kind in KINDS for item in registry.listings(kind) if item.distribution in ("many", "more")]
    assert len(listings) == 2 * 3 * len(KINDS)
    assert {item.version for item in listings} == {"1.0"}
    for name in ("many", "more"):
        assert read[f"{name}-1.0.dist-info/METADATA"] == read[f"{name}-1.0.dist-info/entry_points.txt"] == 1
    assert max(read.values()) == 1


def test_an_allow_list_hides_other_distributions(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SOUNDBENCH_PLUGINS", "nobody, no.body_else")
    registry = Registry()
    assert registry.listings() == []
    message = refused(UnknownPlugin, "backbone", "net", registry)
    assert message == 'there is no backbone "net"; known: none (SOUNDBENCH_PLUGINS allows nobody, no.body_else)'


# -- unknown -------------------------------------------------------------------------------------------------------


def test_an_unknown_name_is_reported_with_the_nearest_and_all() -> None:
    message = refused(UnknownPlugin, "augmentation", "gian", toy_registry())
    assert message == 'there is no augmentation "gian"; did you mean "gain"? known: drop, gain'


def test_a_name_of_another_kind_is_reported_so() -> None:
    message = refused(UnknownPlugin, "pooling", "conv", toy_registry())
    assert message == 'there is no pooling "conv"; "conv" is a backbone; known: mean'


def test_an_unknown_distribution_is_reported_with_full_names() -> None:
    message = refused(UnknownPlugin, "pooling", "toy/mean", toy_registry())
    assert message == 'there is no pooling "toy/mean"; did you mean "toys/mean"? known: mean'


# -- not installed -------------------------------------------------------------------------------------------------


def test_a_missing_package_is_reported_with_the_extra_that_brings_it(write: Write) -> None:
    write("needy", "import no_such_package.deep")
    requires = [
        'no-such-package; extra == "dev"',
        'ruff; extra == "dev"',
        'no-such-package>=2 ; extra == "deep"',
        "attrs",
    ]
    registry = Registry([fake("backbone", "net", "needy:Net", "needy-dist", "0.3", requires)])
    message = refused(NotInstalled, "backbone", "net", registry)
    assert message == (
        'backbone "net" (needy-dist 0.3, module needy) needs no_such_package, which is not installed: '
        'pip install "needy-dist[deep]"'
    )


@pytest.mark.parametrize(("requires", "cure"), [(["no_such_package (>=2)"], ": pip install no_such_package"), ([], "")])
def test_a_missing_package_is_reported_by_its_name(write: Write, requires: list[str], cure: str) -> None:
    write("needy", "import no_such_package")
    registry = Registry([fake("backbone", "net", "needy:Net", "needy-dist", "0.3", requires)])
    message = refused(NotInstalled, "backbone", "net", registry)
    assert (
        message == f'backbone "net" (needy-dist 0.3, module needy) needs no_such_package, which is not installed{cure}'
    )


# -- broken --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("source", "cause"),
    [
        ("1 / 0", "ZeroDivisionError: division by zero"),
        ("import torn.inside", "ModuleNotFoundError: No module named 'torn.inside'; 'torn' is not a package"),
        ("import json.nowhere", "ModuleNotFoundError: No module named 'json.nowhere'"),
        ("from json import nothing", "ImportError: cannot import name 'nothing' from 'json' ({json})"),
        ("raise SystemExit(4)", "SystemExit: 4"),
        ("raise OSError('a library\\n   is missing')", "OSError: a library is missing"),
        ("def (", "SyntaxError: invalid syntax"),
    ],
)
def test_a_broken_module_is_reported_with_its_cause(write: Write, source: str, cause: str) -> None:
    write("torn", source)
    registry = toy_registry(fake("backbone", "net", "torn:Net", "torn-dist", "2.0"))
    with pytest.raises(BrokenPlugin) as caught:
        registry.get("backbone", "net")
    cause = cause.format(json=json.__file__)
    assert str(caught.value) == f'backbone "net" (torn-dist 2.0, module torn) cannot be imported: {cause}'
    assert caught.value.__cause__ is not None
    assert registry.get("backbone", "conv").obj is toys.ToyBackbone  # nobody else is harmed


def test_a_missing_attribute_is_reported_with_the_nearest(write: Write) -> None:
    write("whole", "class Net: ...")
    message = refused(BrokenPlugin, "backbone", "net", Registry([fake("backbone", "net", "whole:Nett")]))
    assert message == (
        'backbone "net" (toys 1.0, module whole) cannot be used: the module has no "Nett"; did you mean "Net"?'
    )


def test_an_entry_point_without_attribute_is_broken() -> None:
    message = refused(BrokenPlugin, "loss", "l", Registry([fake("loss", "l", "json")]))
    assert message == 'loss "l" (toys 1.0, module json) cannot be used: its entry point "json" names no attribute'


def test_what_cannot_be_called_is_broken() -> None:
    message = refused(BrokenPlugin, "loss", "l", Registry([fake("loss", "l", "sys:version")]))
    assert message == 'loss "l" (toys 1.0, module sys) cannot be used: it is not a class or function'


# -- claimed twice -------------------------------------------------------------------------------------------------


def test_a_name_of_two_distributions_is_refused_until_one_is_named() -> None:
    registry = toy_registry(fake("pooling", "mean", "helpers.entry_points:Listener", "Other.Toys", "2.1"))
    assert refused(ClaimedTwice, "pooling", "mean", registry) == (
        'a pooling "mean" is provided by Other.Toys 2.1 and toys 1.0; '
        'choose one: use = "Other.Toys/mean" or use = "toys/mean"'
    )
    found = registry.get("pooling", "toys/mean")
    assert (found.obj, found.name) == (toys.ToyPooling, "toys/mean")
    with pytest.raises(BrokenPlugin, match=r"Other\.Toys"):
        registry.get("pooling", "other-toys/mean")


def test_the_same_entry_point_met_twice_is_no_conflict() -> None:
    registry = toy_registry(fake("pooling", "mean", "helpers.toys:ToyPooling"))
    assert registry.get("pooling", "mean").obj is toys.ToyPooling


# -- signatures ----------------------------------------------------------------------------------------------------


class Typed:
    """Its positional annotation exists for type checkers alone."""

    def __init__(self, channels: Tensor, *, needed: int, path: Path | None = None) -> None: ...


class Hiding:
    def __init__(self, channels: int, *rest: int, **options: Any) -> None: ...


class Untyped:
    def __init__(self, channels: int, *, power=2) -> None: ...  # type: ignore[no-untyped-def]


class Unheard:
    def __init__(self, channels: int, *, lookup: Tensor) -> None: ...


class Strange:
    def __init__(self, channels: int, *, names: set[str] = frozenset(), power: int = 2.5) -> None: ...  # type: ignore


class Taken:
    def __init__(self, channels: int, *, use: str = "") -> None: ...


class Misplaced:
    def __init__(self, channels: int, power: int = 2) -> None: ...


@attrs.define(kw_only=True)
class Written:
    """A dataset written with attrs."""

    root: Path = attrs.field()
    seconds: float = 1


def test_only_annotations_of_options_are_evaluated_and_required_ones_are_fine() -> None:
    options = attrs.fields(toy_registry().get("pooling", Typed).options)
    assert {field.name: (field.type, field.default) for field in options} == {
        "needed": (int, attrs.NOTHING),
        "path": (Path | None, None),
    }


def test_a_class_written_with_attrs_is_a_component() -> None:
    options = attrs.fields(toy_registry().get("dataset", Written).options)
    assert {field.name: field.type for field in options} == {"root": Path, "seconds": float}


@pytest.mark.parametrize(
    ("obj", "fault"),
    [
        (Hiding, "*rest hides its options; **options hides its options"),
        (Untyped, 'option "power" has no type'),
        (Taken, 'option "use" has a reserved name: in a recipe, this key names the component'),
        (
            Unheard,
            "option \"lookup\" has a type that cannot be evaluated, Tensor: name 'Tensor' is not defined",
        ),
        (
            Strange,
            'option "names" has the type set[str], which a recipe cannot hold; '
            'option "power" has a default that is not of its type: it must be an integer, is 2.5',
        ),
        (
            Misplaced,
            "its positional parameters are (channels, power), but the framework supplies (channels); "
            "options must be keyword-only, after the star",
        ),
    ],
)
def test_a_signature_against_the_contract_is_refused(obj: type, fault: str) -> None:
    message = refused(BrokenPlugin, "pooling", obj, toy_registry())
    assert message == f"pooling {Path(__file__).resolve()}:{obj.__qualname__} cannot be used: {fault}"


# -- options -------------------------------------------------------------------------------------------------------


def test_options_are_structured_with_every_default_written_out() -> None:
    component = toy_registry().get("dataset", Written)
    assert component.structure({"root": "~/sounds"}, "dataset") == (
        {"root": Path.home() / "sounds", "seconds": 1.0},
        [],
    )
    assert isinstance(component.structure({"root": "x"}, "dataset")[0]["seconds"], float)


def test_paths_are_made_absolute_from_the_working_directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    options, _ = toy_registry().get("dataset", Written).structure({"root": "sounds"}, "dataset")
    assert options["root"] == tmp_path / "sounds"


def test_what_is_none_is_left_out_unless_it_would_become_something_else() -> None:
    component = toy_registry().get("pooling", Typed)
    assert component.structure({"needed": 3, "path": None}, "pooling") == ({"needed": 3}, [])
    conv = toy_registry().get("backbone", "conv")
    assert [str(problem) for problem in conv.structure({"channels": None}, "backbone")[1]] == [
        "backbone.channels: cannot be None; leave it out for the default, 16"
    ]


def test_all_faults_of_a_table_are_reported_at_once() -> None:
    _, problems = toy_registry().get("pooling", Typed).structure({"path": 3, "neded": 1}, "pooling")
    assert [str(problem) for problem in problems] == [
        "pooling.needed: is missing; it must be an integer",
        "pooling.path: must be a path, is 3",
        'pooling.neded: unknown key; did you mean "needed"? known: needed, path',
    ]


# -- local files ---------------------------------------------------------------------------------------------------

NET = '''
from dataclasses import dataclass


@dataclass
class Size:
    width: int


class Net:
    """A net of one's own."""

    def __init__(self, bands, *, width: int = 3):
        self.size = Size(width)
'''


def test_a_component_of_a_local_file_is_relative_to_its_base_and_leaves_the_path_alone(tmp_path: Path) -> None:
    (tmp_path / "mine.py").write_text(NET)
    before = list(sys.path)
    found = toy_registry().get("backbone", "./mine.py:Net", tmp_path)
    assert (found.name, found.source) == (f"{tmp_path}/mine.py:Net", tmp_path / "mine.py")
    assert found.obj(80, width=5).size.width == 5
    assert sys.path == before
    assert "mine" not in sys.modules
    assert sorted(path.name for path in tmp_path.iterdir()) == ["mine.py"]  # no bytecode beside a user's file
    assert toy_registry().get("backbone", f"{tmp_path}/mine.py:Net").obj is found.obj


def test_a_changed_file_is_read_again(tmp_path: Path) -> None:
    path = tmp_path / "mine.py"
    path.write_text(NET)
    old = toy_registry().get("backbone", f"{path}:Net")
    path.write_text(NET.replace("width: int = 3", "width: int = 4"))
    new = toy_registry().get("backbone", f"{path}:Net")
    assert [attrs.fields(component.options)[0].default for component in (old, new)] == [3, 4]


def test_two_files_of_one_name_are_two_modules(tmp_path: Path) -> None:
    for folder in ("a", "b"):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / "mine.py").write_text(NET)
    one, two = (toy_registry().get("backbone", f"./{folder}/mine.py:Net", tmp_path) for folder in ("a", "b"))
    assert one.obj is not two.obj


@pytest.mark.parametrize(
    ("use", "error", "message"),
    [
        ("./mien.py:Net", UnknownPlugin, './mien.py:Net: there is no file {0}/mien.py; did you mean "mine.py"?'),
        ("./mine.py", UnknownPlugin, './mine.py: write "./mine.py:NAME"; {0}/mine.py defines Size, Net'),
        (
            "./mine.py:Ned",
            UnknownPlugin,
            './mine.py:Ned: {0}/mine.py defines no "Ned"; did you mean "Net"? it defines Size, Net',
        ),
        (
            "./wrong.py:Net",
            BrokenPlugin,
            "{0}/wrong.py:Net, line 2, cannot be imported: NameError: name 'nothing' is not defined",
        ),
        (
            "./torn.py:Net",
            BrokenPlugin,
            "{0}/torn.py:Net, line 2, cannot be imported: SyntaxError: invalid syntax",
        ),
        (
            "./beside.py:Net",
            BrokenPlugin,
            "{0}/beside.py:Net, line 1, cannot import a_file_beside: a local component must be a single file",
        ),
        (
            "./needy.py:Net",
            NotInstalled,
            "{0}/needy.py:Net, line 1, needs no_such_package, which is not installed",
        ),
    ],
)
def test_mistakes_in_a_local_file_are_named(tmp_path: Path, use: str, error: type[PluginError], message: str) -> None:
    (tmp_path / "mine.py").write_text(NET)
    (tmp_path / "wrong.py").write_text("x = 1\ny = nothing\n")
    (tmp_path / "torn.py").write_text("\nclass (\n")
    (tmp_path / "a_file_beside.py").write_text("")
    (tmp_path / "beside.py").write_text("import a_file_beside\n")
    (tmp_path / "needy.py").write_text("import no_such_package\n")
    told = refused(error, "backbone", use, toy_registry(), base=tmp_path)
    assert told.removeprefix("backbone ") == message.format(tmp_path)
