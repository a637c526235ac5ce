"""The options of `bench run`, from the command line or a YAML file."""

import datetime
import os
import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from types import MappingProxyType
from typing import Annotated, Any, Literal, TypeVar

import platformdirs
import yaml
from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    PlainSerializer,
    PlainValidator,
    TypeAdapter,
    ValidationError,
)
from upath import UPath

from .api import UsageError
from .files import explain
from .paths import DEVICES, expanded, folder_of, is_there
from .registry import ALL_POLICIES
from .specs import (
    Spec,
    chain_text,
    parse_chain,
    parse_method,
    parse_policy,
    parse_setting,
    split_datasets,
    split_list,
    suggest,
)
from .texts import redacted
from .yaml_files import Lines, explain_yaml, read_text_yaml

COMMAND_LINE = "on the command line"
_ON_THE_COMMAND_LINE_ONLY = ("config", "force")
_ONLY_TYPED = {"address": "--address or $RAY_ADDRESS", "results": "--results or $MIASBENCH_RESULTS"}
_OF_WHO_RAN_IT = ("results", "executor", "address")
_MOST_SEEDS = 1000
_SHOWN = 300  # characters of a wrong value
_ONE_TEXT = (
    "a name and its options are one text, such as name[option=value]; where a blank follows a colon, YAML reads a key "
    "and its value"
)
_THOUSANDS = {"k": 1000, "M": 1_000_000}
_EXAMPLES = {
    "methods": "for example --methods mias_sam,patchcore; bench list methods shows what there is",
    "dataset": "for example --dataset phantom_brain_mri; bench list datasets shows what there is",
}


@dataclass(frozen=True)
class Shown:
    """How help and docs show an option, where its type and its default value do not say it.

    Attributes:
        value: What stands for its value, such as `N`.
        default: What it is where it is not given.
    """

    value: str = ""
    default: str = ""


def default_data_root() -> Path:
    """Where datasets are looked for: `$MIASBENCH_DATA`, or the user's data folder."""
    return folder_of("MIASBENCH_DATA", Path(platformdirs.user_data_dir("miasbench")) / "datasets")


def default_results() -> UPath:
    """Where runs are kept: `$MIASBENCH_RESULTS`, or `bench-results` in the current folder."""
    return UPath(expanded(os.environ.get("MIASBENCH_RESULTS") or "bench-results"))


def _default_executor() -> Any:
    return os.environ.get("MIASBENCH_EXECUTOR") or "local"


def _is_address(text: str) -> bool:
    """Whether it is for a file system of fsspec's, `s3://…` or `reference::…`, and not a path of this machine."""
    return re.match(r"[A-Za-z][\w+.-]*(://|::)", text) is not None


def results_folder(text: Any) -> UPath:
    """A folder of runs: a path, or an address such as `s3://bucket/results`, which is asked whether it answers.

    Raises:
        UsageError: It cannot be reached from here; the text says what is missing.
    """
    with _reaching(text):
        folder = UPath(expanded(text))
        folder.exists()
    return folder


def _address(text: Any) -> UPath:
    """An address that need not answer, such as that of a run which was made on another machine."""
    with _reaching(text):
        folder = UPath(expanded(text))
        _ = folder.fs  # imports what reaches there
    return folder


@contextmanager
def _reaching(text: Any) -> Iterator[None]:
    try:
        yield
    except Exception as error:  # the client of each kind of store has errors of its own
        raise UsageError(redacted(f"The results folder {text} cannot be reached: {error}")) from error


Results = Annotated[UPath, BeforeValidator(_address), PlainSerializer(str, when_used="json")]
"""A folder for runs, here or anywhere that fsspec reaches."""


def _seeds(value: Any) -> Any:
    """Reads `0,2` and `0-2`, which is 0, 1 and 2; in a list too, or in a range or an array of Python."""
    listed = isinstance(value, list | tuple | range) or getattr(value, "ndim", 0)
    items = value.split(",") if isinstance(value, str) else list(value) if listed else [value]
    seeds: list[Any] = []
    for item in items:
        if not isinstance(item, str):
            seeds.append(item)
            continue
        match = re.fullmatch(r"\s*([0-9]{1,10})\s*(?:-\s*([0-9]{1,10})\s*)?", item)
        if not match:
            raise ValueError(f"{item.strip()!r} is neither a whole number nor a range such as 0-2")
        first, last = int(match[1]), int(match[2] or match[1])
        if not first <= last < first + _MOST_SEEDS:
            raise ValueError(f"{item.strip()!r} is not a range from a number to a larger one, of {_MOST_SEEDS} at most")
        seeds += range(first, last + 1)
    return seeds


def _run_name(name: str) -> str:
    if not re.fullmatch(r"[A-Za-z0-9_][A-Za-z0-9_.+=-]{0,99}", name) or name == "latest":
        raise ValueError("it should be of letters, digits and _.+=-, at most 100 of them, and not latest")
    if DEVICES.search(name) or name.endswith("."):
        raise ValueError(
            "Windows can have no folder of this name, so that a run of it could not be shared; take another"
        )
    return name


def _count(value: Any) -> Any:
    """Reads `10k` and `2M`; a truth value is no number."""
    if isinstance(value, bool):
        raise ValueError("it should be a whole number, such as 64 or 10k")
    match = re.fullmatch(r"\s*([0-9]{1,9})([kM])\s*", value) if isinstance(value, str) else None
    return int(match[1]) * _THOUSANDS[match[2]] if match else value


def _as_text(value: Any) -> Any:
    """What YAML takes for a number or a date, such as 2026-11-27, as the user wrote it."""
    is_date = isinstance(value, datetime.date) and not isinstance(value, datetime.datetime)
    return str(value) if is_date or type(value) in (int, float) else value


def _parsed(parse: Callable[[str], Any]) -> BeforeValidator:
    """Applies a parser to text; a list stays as it is."""

    def read(value: Any) -> Any:
        if isinstance(value, Mapping):
            raise ValueError(_ONE_TEXT)
        return _read(parse, value) if isinstance(value, str) else value

    return BeforeValidator(read)


def _spec(parse: Callable[[str], Spec]) -> PlainValidator:
    """Takes a spec or its text."""

    def read(value: Any) -> Spec:
        if not isinstance(value, str | Spec):
            raise ValueError(_ONE_TEXT)
        return _read(parse, value) if isinstance(value, str) else value

    return PlainValidator(read)


def _chain(value: Any) -> tuple[Spec, ...]:
    """Takes a chain of post-processing or its text."""
    if isinstance(value, str):
        return _read(parse_chain, value)
    if isinstance(value, tuple) and all(isinstance(one, Spec) for one in value):
        return value
    raise ValueError("a chain is one text, such as median[size=5],fill_holes")


def _some_chains(chains: list[tuple[Spec, ...]]) -> list[tuple[Spec, ...]]:
    """Each chain once, without `none`."""
    return [chain for chain in dict.fromkeys(chains) if chain != (Spec("none"),)]


def _read(parse: Callable[[str], Any], text: str) -> Any:
    try:
        return parse(text)
    except UsageError as error:
        raise ValueError(str(error)) from error  # so that the message names the option and its place


def _whole(datasets: list[str]) -> list[str]:
    """Refuses an option that YAML has cut off its dataset."""
    for before, text in pairwise(datasets):
        if ":" in before and re.match(r"\w+=", text) and not is_there(text):
            raise ValueError(f"within [ ], YAML splits at each comma: put {before},{text} in quotes")
    return datasets


_Method = Annotated[Spec, _spec(parse_method), PlainSerializer(str)]
_Policy = Annotated[Spec, _spec(parse_policy), PlainSerializer(str)]
_Chain = Annotated[tuple[Spec, ...], PlainValidator(lambda value: _chain(value)), PlainSerializer(chain_text)]
_AtLeastOne = Annotated[int, Field(ge=1), BeforeValidator(_count)]
_Finite = Annotated[float, Field(allow_inf_nan=False)]


class ScoreConfig(BaseModel):
    """How stored predictions are scored; what each option means stands in its description."""

    model_config = ConfigDict(extra="forbid")

    thresholds: Annotated[
        list[_Policy],
        Field(
            min_length=1,
            description="Threshold policies, by name, or `NAME[option=value,…]` for a variant; several of one kind "
            "stand beside each other. `all` is every one with its defaults. See `bench list policies`.",
        ),
        _parsed(split_list),
        Shown("NAME,…", default="all"),
    ] = [ALL_POLICIES]
    fixed_threshold: Annotated[
        _Finite | None,
        Field(description="Also score masks at this threshold (policy fixed), in the maps' own units."),
        Shown("T"),
    ] = None
    post: Annotated[
        list[_Chain],
        Field(
            description="Post-processing: operations between map and mask, in their order, as in "
            "`median[size=5],min_area[px=20]`. Each policy's masks are scored with it, beside those without it. May be "
            "repeated, for several chains; `none` is no chain. See `bench list operations`.",
        ),
        BeforeValidator(lambda value: [value] if isinstance(value, str) else value),
        AfterValidator(_some_chains),
        Shown("CHAIN", default="none"),
    ] = []
    mask_edges: Annotated[
        Literal["nearest", "paper"],
        Field(
            description="How lesion masks are resized: `nearest`, so that they stay masks; `paper`, with grey edges, "
            "as the released MIAS-SAM code does: all of them are lesion for DICE, and none for AUROC."
        ),
    ] = "nearest"
    padding: Annotated[
        Literal["exclude", "count"],
        Field(
            description="Whether the borders that make an image a square are scored as part of it, as the released "
            "MIAS-SAM code does."
        ),
    ] = "exclude"
    foreground: Annotated[
        str,
        Field(
            min_length=1,
            description="Which pixels count as the body where scores and threshold policies look at the foreground: "
            "`card`, as the dataset's card says; `all`; `otsu`; or another rule by its name.",
        ),
        Shown("NAME"),
    ] = "card"
    surface_tolerance: Annotated[
        float,
        Field(
            gt=0,
            allow_inf_nan=False,
            description="How far in mm two surfaces may be apart where they count as the same (`volume_nsd`).",
        ),
        Shown("MM"),
    ] = 1.0
    pixels: Annotated[
        Literal["auto", "exact", "binned"],
        Field(
            description="How map values are told apart: `exact`; `binned`, rounded down until at most two million "
            "different ones are left, with the error stated; `auto`, exact up to 67 million test pixels."
        ),
    ] = "auto"


class RunConfig(BaseModel):
    """A run, whole: every option of `bench run` under its own name.

    What an option means stands in its description: `bench run --help` and docs/run-options.md are made from those.
    Wherever an option holds several values, a text is split at its commas, and an item of a list is taken as it is.
    """

    model_config = ConfigDict(extra="forbid")

    methods: Annotated[
        list[_Method],
        Field(
            min_length=1,
            description="Methods, by name, or `NAME[option=value,…]` for a variant. See `bench list methods`.",
        ),
        _parsed(split_list),
        Shown("NAME,…"),
    ]
    dataset: Annotated[
        list[Annotated[str, BeforeValidator(_as_text), _parsed(str)]],
        Field(
            min_length=1,
            description="A dataset's name, `NAME[option=value,…]` or `NAME:option=value,…`, a folder of images, or a "
            "YAML card. May be repeated.",
        ),
        _parsed(split_datasets),
        BeforeValidator(_as_text),
        AfterValidator(_whole),
        Shown("NAME|PATH"),
    ]
    weights: Annotated[
        Literal["published", "embedded"], Field(description="The papers' weights, or small ones from Python packages.")
    ] = "published"
    seeds: Annotated[
        list[Annotated[int, Field(ge=0, lt=2**32), BeforeValidator(_count)]],
        Field(min_length=1, description="One cell for each method, dataset and seed: 0,1,2 or 0-2."),
        BeforeValidator(_seeds),
        Shown("N,…", default="0"),
    ] = [0]
    device: Annotated[
        Literal["auto", "cpu", "cuda"],
        Field(description="Where methods compute; `auto` is a GPU where there is one."),
    ] = "auto"
    data_root: Annotated[
        Path,
        Field(description="Where datasets are."),
        BeforeValidator(lambda value: expanded(value) if isinstance(value, str | Path) else value),
        Shown("DIR", default="$MIASBENCH_DATA or the user's data folder"),
    ] = Field(default_factory=default_data_root)
    results: Annotated[
        Results,
        Field(description="Where runs are kept."),
        Shown("DIR", default="$MIASBENCH_RESULTS or ./bench-results"),
    ] = Field(default_factory=default_results)
    name: Annotated[
        str | None,
        Field(
            description="The run's folder. If that run is there, it grows: cells of other methods, datasets and seeds "
            "stay in it and in its tables; a cell of the same dataset, method and seed is replaced where anything has "
            "changed."
        ),
        BeforeValidator(_as_text),
        AfterValidator(_run_name),
        Shown("TEXT", default="datasets and a hash of the cells"),
    ] = None
    limit: Annotated[
        int,
        Field(ge=0, description="At most N cases of each split, stratified, for a quick look; 0 for all."),
        BeforeValidator(_count),
        Shown("N"),
    ] = 0
    size: Annotated[
        int,
        Field(ge=32, le=4096, description="Width of the square in which images are seen and scored, 32 to 4096."),
        BeforeValidator(_count),
        Shown("PX"),
    ] = 256
    epochs: Annotated[
        _AtLeastOne | None,
        Field(description="Epochs of every method that is trained in epochs; what is set for one of them wins."),
        Shown("N", default="as published"),
    ] = None
    batch_size: Annotated[
        _AtLeastOne | None,
        Field(description="Batch size of every method that is trained; what is set for one of them wins."),
        Shown("N", default="as published"),
    ] = None
    set: Annotated[
        dict[str, dict[str, Any]],
        Field(
            description="An option of a method and all its variants; what a variant has in its brackets wins. May be "
            "repeated."
        ),
        Shown("METHOD.OPTION=VALUE"),
    ] = {}
    controls: Annotated[
        bool, Field(description="Also run the methods that others name as their controls, to be held against.")
    ] = True
    maps: Annotated[
        Literal["float32", "float16", "none"],
        Field(description="How anomaly maps are kept; with `none`, no other thresholds can be computed later."),
    ] = "float32"
    score: ScoreConfig = ScoreConfig()
    executor: Annotated[
        Literal["local", "ray", "inline"],
        Field(
            description="What runs the cells: `local`, processes of this machine; `ray`, a Ray cluster; `inline`, this "
            "process, one after the other.",
        ),
        Shown(default="$MIASBENCH_EXECUTOR or local"),
    ] = Field(default_factory=_default_executor, validate_default=True)
    workers: Annotated[
        _AtLeastOne | None,
        Field(description="At most N cells at once."),
        Shown("N", default="as cores or GPUs allow"),
    ] = None
    threads: Annotated[
        _AtLeastOne | None,
        Field(description="Threads of each cell."),
        Shown("N", default="$OMP_NUM_THREADS, or 4 and more"),
    ] = None
    cell_memory: Annotated[
        float,
        Field(
            gt=0,
            allow_inf_nan=False,
            description="GiB that a cell is taken to need before one has run; what a task asks a cluster for.",
        ),
        Shown("GIB"),
    ] = 2.0
    address: Annotated[
        str | None,
        Field(description="Address of the Ray cluster."),
        Shown("HOST:PORT", default="$RAY_ADDRESS, or one on this machine"),
    ] = None
    shard_cases: Annotated[
        int,
        Field(ge=0, description="On a Ray cluster: N cases of a split are one task; 0 for all of a cell's."),
        BeforeValidator(_count),
        Shown("N"),
    ] = 0

    @property
    def training(self) -> dict[str, int]:
        """The options that go to every method that has them."""
        given = {"epochs": self.epochs, "batch_size": self.batch_size}
        return {name: value for name, value in given.items() if value is not None}


def shipped_configs() -> dict[str, Path]:
    """The run files that come with the package, by name."""
    return {file.stem: file for file in sorted(Path(__file__).with_name("configs").glob("*.yaml"))}


def find_config(path: Path) -> Path:
    """The run file itself, or the one that comes with the package under this name.

    Raises:
        UsageError: There is neither.
    """
    shipped = shipped_configs()
    if path.exists():
        return path
    if str(path) in shipped:
        return shipped[str(path)]
    raise UsageError(f"There is no run file {path}, and none of that name comes with miasbench: {', '.join(shipped)}.")


class RunFile(dict[str, Any]):
    """The options that a run file holds.

    Attributes:
        lines: Where each stands, by the keys that lead there, such as `("set", "mias_sam", "gamma")`.
    """

    def __init__(self, options: Mapping[str, Any], lines: Lines) -> None:
        super().__init__(options)
        self.lines = {tuple(name.replace("-", "_") for name in path): line for path, line in lines.items()}


def read_config(path: Path) -> RunFile:
    """Reads a run file.

    Raises:
        UsageError: It cannot be read, is not YAML, is not a mapping, or holds an address to connect to.
    """
    try:
        content, lines = read_text_yaml(path)
    except OSError as error:
        raise UsageError(f"The run file cannot be read. {explain(error, '--config')}") from error
    except (UnicodeDecodeError, yaml.YAMLError) as error:
        raise UsageError(f"The run file {path} is not YAML: {explain_yaml(error, 'option')}.") from error
    if not isinstance(content, dict):
        raise UsageError(f"The run file {path} should hold options such as `methods: [mias_sam]`.")
    for name, remedy in _ONLY_TYPED.items():
        if content.get(name) and (name == "address" or _is_address(str(content[name]))):
            raise UsageError(
                f"Option {name} in {path}: an address is not taken from a run file, which may be somebody else's, so "
                f"that no file connects you to anywhere. Give {remedy}."
            )
    return RunFile(content, lines)


def make_config(
    values: Mapping[str, Any],
    where: str,
    given: Mapping[str, Any] = MappingProxyType({}),
    given_where: str = COMMAND_LINE,
) -> RunConfig:
    """Checks the options of a run.

    Options may be spelt as on the command line: `batch-size`, `mask_edges` beside the others and not below `score`,
    `set` with `mias_sam.gamma: 5` or a list of `mias_sam.gamma=5`.

    Args:
        values: Options by name, of a run file or of a run's record.
        where: Where they were written, for messages.
        given: Options that were given beside these, and win.
        given_where: Where those were written.

    Raises:
        UsageError: An option is unknown, missing, given twice or has a wrong value.
    """
    first, second = _Written(values, where), _Written(given, given_where)
    written, won = first.spelt(), second.spelt()
    options = written | won | {"score": written["score"] | won["score"]}
    options["set"] = {
        name: written["set"].get(name, {}) | won["set"].get(name, {}) for name in [*written["set"], *won["set"]]
    }
    return _checked(RunConfig, options, lambda path: (second if _holds(won, path) else first).at(*path))


def config_of_record(
    content: Mapping[str, Any], where: str, given: Mapping[str, Any] = MappingProxyType({})
) -> RunConfig:
    """The options of a run by its record, but for where it was kept and computed.

    A record may come from anybody: no address in it is looked up.

    Args:
        content: The part `config` of the record.
        where: The record, for messages.
        given: Options that win.

    Raises:
        UsageError: This version does not know an option of the record, or not its value; or a given one is wrong.
    """
    return make_config({name: value for name, value in content.items() if name not in _OF_WHO_RAN_IT}, where, given)


def make_score_config(values: Mapping[str, Any], where: str) -> ScoreConfig:
    """Checks the options of scoring alone.

    Args:
        values: Options by name; `None` stands for the default.
        where: Where they were written, for messages.

    Raises:
        UsageError: An option is unknown or has a wrong value.
    """
    given = {name: value for name, value in values.items() if value is not None}
    return _checked(ScoreConfig, given, lambda _: where)


_Model = TypeVar("_Model", bound=BaseModel)


def _checked(model: type[_Model], options: Mapping[str, Any], place: Callable[[Sequence[Any]], str]) -> _Model:
    """Makes a model of options, or a message that names the wrong one, by `place` also where it is written."""
    try:
        return model.model_validate(options)
    except ValidationError as error:
        # A missing option may be one whose name is misspelt.
        first = min(error.errors(), key=lambda each: each["type"] != "extra_forbidden")
        name, where = ".".join(str(part) for part in first["loc"]), place(first["loc"])
        if first["type"] == "missing":
            raise UsageError(f"Option {name} {where}: it is required, {_EXAMPLES[name]}.") from error
        if first["type"] == "extra_forbidden":
            known = ScoreConfig.model_fields if len(first["loc"]) > 1 else _known()
            raise UsageError(f"Unknown option {_short(name)} {where}. {suggest(name, known)}") from error
        message = first["msg"].removeprefix("Value error, ").rstrip(".")
        raise UsageError(f"Option {name} {where}: {message} (got {_short(first['input'])}).") from error


def _short(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= _SHOWN else f"{text[:_SHOWN]}…"


def _known() -> list[str]:
    return [*RunConfig.model_fields, *ScoreConfig.model_fields]


class _Written:
    """Options as a user wrote them, and where."""

    def __init__(self, values: Mapping[str, Any], where: str) -> None:
        self._values, self._where = values, where
        self._lines: Lines = values.lines if isinstance(values, RunFile) else {}

    def at(self, *path: Any) -> str:
        """Where an option stands, with its line where that is known."""
        keys = tuple(map(str, path))
        for known in (keys, keys[1:], keys[:-1], keys[:1]):  # options of `score` may stand beside it
            if known in self._lines:
                return f"{self._where}, line {self._lines[known]}"
        return self._where

    def spelt(self) -> dict[str, Any]:
        """Brings every spelling of an option to one; `score` and `set` become mappings."""
        spelt = self._with_underscores(self._values)
        for name in _ON_THE_COMMAND_LINE_ONLY:
            if name in spelt:
                raise UsageError(f"Option {name} {self.at(name)}: it belongs on the command line, as --{name}.")
        score = self._with_underscores(self._section(spelt.get("score"), "score"), "score")
        for name in spelt.keys() & ScoreConfig.model_fields.keys():
            if name in score:
                raise UsageError(
                    f"Option {name} is given twice {self.at(name)}: {_short(spelt[name])}, and "
                    f"{_short(score[name])} below score."
                )
            score[name] = spelt.pop(name)
        if "no_controls" in spelt:
            spelt["controls"] = self._opposite(spelt)
        return spelt | {"score": score, "set": self._settings(spelt.get("set"))}

    def _with_underscores(self, values: Mapping[Any, Any], *path: str) -> dict[str, Any]:
        spelt: dict[str, Any] = {}
        for key, value in values.items():
            name = str(key).replace("-", "_")
            if name in spelt:
                raise UsageError(f"Option {name} is given twice {self.at(*path, name)}, with - and with _.")
            spelt[name] = value
        return {name: value for name, value in spelt.items() if value is not None}  # null stands for the default

    def _section(self, value: Any, *path: str) -> Mapping[Any, Any]:
        if value is None:
            return {}
        if not isinstance(value, Mapping):
            name = ".".join(path)
            raise UsageError(
                f"Option {name} {self.at(*path)}: it should hold options, such as `{name}: {{…}}` "
                f"(got {_short(value)})."
            )
        return value

    def _opposite(self, spelt: dict[str, Any]) -> bool:
        value, where = spelt.pop("no_controls"), self.at("no_controls")
        if "controls" in spelt:
            raise UsageError(f"Option controls is given twice {where}, with no_ and without.")
        try:
            return not TypeAdapter(bool).validate_python(value)
        except ValidationError as error:
            raise UsageError(
                f"Option no_controls {where}: it should be true or false (got {_short(value)})."
            ) from error

    def _settings(self, value: Any) -> dict[str, dict[str, Any]]:
        """Options of methods, from `mias_sam.gamma=5`, from mappings, or from a list of both."""
        settings: dict[str, dict[str, Any]] = {}
        for item in value if isinstance(value, list | tuple) else [value]:
            for name, options in self._settings_of(item):
                settings.setdefault(name, {}).update(options)
        return settings

    def _settings_of(self, item: Any) -> Iterator[tuple[str, Mapping[str, Any]]]:
        if isinstance(item, str):
            yield self._setting(item)
            return
        for key, told in self._section(item, "set").items():
            method, dot, option = str(key).partition(".")
            if told is None and "=" in option:  # as in {mias_sam.gamma=5}
                yield self._setting(str(key))
            elif dot:
                yield method, {option: told}
            else:
                yield method, {str(name): one for name, one in self._section(told, "set", str(key)).items()}

    def _setting(self, text: str) -> tuple[str, Mapping[str, Any]]:
        try:
            spec = parse_setting(text)
        except UsageError as error:
            raise UsageError(f"Option set {self.at('set')}: {error}") from error
        return spec.name, dict(spec.options)


def _holds(values: Any, place: Iterable[int | str]) -> bool:
    try:
        for key in place:
            values = values[key]
    except (LookupError, TypeError):
        return False
    return True
