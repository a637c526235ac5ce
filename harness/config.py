"""The options of `bench run`, from the command line or a YAML file."""

import datetime
import os
import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from types import MappingProxyType
from typing import Annotated, Any, Literal

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
    ValidationError,
)
from upath import UPath

from .api import UsageError
from .files import explain
from .paths import DEVICES, expanded, folder_of
from .specs import Spec, parse_method, parse_setting, split_datasets, split_list, suggest
from .yaml_files import read_yaml

COMMAND_LINE = "on the command line"
_ON_THE_COMMAND_LINE_ONLY = ("config", "force")
_MOST_SEEDS = 1000
_ONE_TEXT = (
    "a name and its options are one text, such as name[option=value]; where a blank follows a colon, YAML reads a key "
    "and its value"
)
_EXAMPLES = {
    "methods": "for example --methods mias_sam,patchcore; bench list methods shows what there is",
    "dataset": "for example --dataset phantom_brain_mri; bench list datasets shows what there is",
}


def default_data_root() -> Path:
    """Where datasets are looked for: `$MIASBENCH_DATA`, or the user's data folder."""
    return folder_of("MIASBENCH_DATA", Path(platformdirs.user_data_dir("miasbench")) / "datasets")


def default_results() -> UPath:
    """Where runs are kept: `$MIASBENCH_RESULTS`, or `bench-results` in the current folder."""
    return UPath(expanded(os.environ.get("MIASBENCH_RESULTS") or "bench-results"))


class ScoreConfig(BaseModel):
    """How stored predictions are scored.

    Attributes:
        mask_edges: How lesion masks are brought to the run's size; see `frame.frame_mask`.
        fixed_threshold: The threshold of the policy `fixed`, in the maps' own units; without it the policy is left out.
        pixels: How map values are told apart: `exact`; `binned`, rounded down as far as it takes to keep at most two
            million of them, with the error stated; or `auto`, exact up to 67 million test pixels.
        padding: Whether the borders that make an image a square are scored as if they were part of it: `exclude`, or
            `count`, as the released MIAS-SAM code does.
    """

    model_config = ConfigDict(extra="forbid")

    mask_edges: Literal["nearest", "paper"] = "nearest"
    fixed_threshold: Annotated[float, Field(allow_inf_nan=False)] | None = None
    pixels: Literal["auto", "exact", "binned"] = "auto"
    padding: Literal["exclude", "count"] = "exclude"


def _default_executor() -> Any:
    return os.environ.get("MIASBENCH_EXECUTOR") or "local"


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
        raise UsageError(f"The results folder {text} cannot be reached: {error}") from error


Results = Annotated[UPath, BeforeValidator(_address), PlainSerializer(str, when_used="json")]
"""A folder for runs, here or anywhere that fsspec reaches; its text holds no credentials."""


def _seeds(value: Any) -> Any:
    """Reads `0,2` and `0-2`, which is 0, 1 and 2; in a list too."""
    items = value.split(",") if isinstance(value, str) else value if isinstance(value, list | tuple) else [value]
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


def _as_text(value: Any) -> Any:
    """What YAML takes for a number or a date, such as 2026-11-27, as the user wrote it."""
    is_date = isinstance(value, datetime.date) and not isinstance(value, datetime.datetime)
    return str(value) if is_date or type(value) is int else value


def _parsed(parse: Callable[[str], Any]) -> BeforeValidator:
    """Applies a parser to text; what is parsed already stays."""

    def read(value: Any) -> Any:
        try:
            return parse(value) if isinstance(value, str) else value
        except UsageError as error:
            raise ValueError(str(error)) from error  # so that the message names the option and its place

    return BeforeValidator(read)


def _spec(parse: Callable[[str], Spec]) -> PlainValidator:
    """Takes a spec or its text."""

    def read(value: Any) -> Spec:
        if isinstance(value, Spec):
            return value
        if not isinstance(value, str):
            raise ValueError(_ONE_TEXT)
        try:
            return parse(value)
        except UsageError as error:
            raise ValueError(str(error)) from error

    return PlainValidator(read)


_Method = Annotated[Spec, _spec(parse_method), PlainSerializer(str)]
_Home = BeforeValidator(lambda value: expanded(value) if isinstance(value, str | Path) else value)


class RunConfig(BaseModel):
    """A run, whole: every option of `bench run` under its own name.

    Attributes:
        methods: Each `name` or `name[option=value,…]`, a variant. Here and for `dataset`, a text is split at commas,
            and an item of a list is taken as it is.
        seeds: A text may hold ranges, such as `0-2`.
        name: The run's folder; by default it is named by datasets and a hash of the cells.
        size: Width and height of the frame in which methods see images and scores are computed.
        set: Options of methods, for every variant of them: `{"mias_sam": {"gamma": 5}}`; a variant's own win.
        epochs: Epochs of every method that is trained; what is set for one of them wins.
        batch_size: Likewise.
        controls: Whether methods that others name as their controls are run beside them.
        limit: At most so many cases of each split, stratified; 0 for all.
        maps: How anomaly maps are kept once a cell is scored.
        executor: The way to run the cells: `local`, in processes; `ray`, on a cluster; `inline`, in this process, one
            after the other. By default `$MIASBENCH_EXECUTOR`, or `local`.
        workers: At most so many cells at once.
        threads: CPU threads of each cell.
        cell_memory: GiB that a cell is taken to need, until one has needed more; what a task asks a cluster for.
        address: Address of the Ray cluster; by default `$RAY_ADDRESS`, or one on this machine alone.
        shard_cases: On a cluster, so many cases of a split are predicted by one task; 0 for all of the cell's.
    """

    model_config = ConfigDict(extra="forbid")

    methods: Annotated[list[_Method], Field(min_length=1), _parsed(split_list)]
    dataset: Annotated[list[str], Field(min_length=1), _parsed(split_datasets)]
    weights: Literal["published", "embedded"] = "published"
    seeds: Annotated[list[Annotated[int, Field(ge=0, lt=2**32)]], Field(min_length=1), BeforeValidator(_seeds)] = [0]
    device: Literal["auto", "cpu", "cuda"] = "auto"
    data_root: Annotated[Path, _Home] = Field(default_factory=default_data_root)
    results: Results = Field(default_factory=default_results)
    name: Annotated[str, BeforeValidator(_as_text), AfterValidator(_run_name)] | None = None
    limit: Annotated[int, Field(ge=0)] = 0
    size: Annotated[int, Field(ge=32, le=4096)] = 256
    maps: Literal["float32", "float16", "none"] = "float32"
    set: dict[str, dict[str, Any]] = {}
    epochs: Annotated[int, Field(ge=1)] | None = None
    batch_size: Annotated[int, Field(ge=1)] | None = None
    controls: bool = True
    executor: Literal["local", "ray", "inline"] = Field(default_factory=_default_executor, validate_default=True)
    workers: Annotated[int, Field(ge=1)] | None = None
    threads: Annotated[int, Field(ge=1)] | None = None
    cell_memory: Annotated[float, Field(gt=0, allow_inf_nan=False)] = 2.0
    address: str | None = None
    shard_cases: Annotated[int, Field(ge=0)] = 0
    score: ScoreConfig = ScoreConfig()

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


def read_config(path: Path) -> dict[str, Any]:
    """Reads a run file.

    Raises:
        UsageError: It cannot be read, is not YAML, or is not a mapping.
    """
    try:
        content = read_yaml(path)
    except OSError as error:
        raise UsageError(f"The run file cannot be read. {explain(error, '--config')}") from error
    except UnicodeDecodeError as error:
        raise UsageError(f"The run file {path} cannot be read: it is not UTF-8. Save it as UTF-8.") from error
    except yaml.YAMLError as error:
        raise UsageError(f"The run file {path} is not YAML: {' '.join(str(error).split())}") from error
    if not isinstance(content, dict):
        raise UsageError(f"The run file {path} should hold options such as `methods: [mias_sam]`.")
    return content


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
    written, given = _spelt(values, where), _spelt(given, given_where)
    options = written | given | {"score": written["score"] | given["score"]}
    options["set"] = {
        name: written["set"].get(name, {}) | given["set"].get(name, {}) for name in [*written["set"], *given["set"]]
    }
    try:
        return RunConfig.model_validate(options)
    except ValidationError as error:
        # A missing option may be one whose name is misspelt.
        first = min(error.errors(), key=lambda each: each["type"] != "extra_forbidden")
        name = ".".join(str(part) for part in first["loc"])
        if first["type"] == "missing":
            raise UsageError(f"Option {name} {where}: it is required, {_EXAMPLES[name]}.") from error
        place = given_where if _holds(given, first["loc"]) else where
        if first["type"] == "extra_forbidden":
            known = ScoreConfig.model_fields if len(first["loc"]) > 1 else _known()
            raise UsageError(f"Unknown option {name!r} {place}. {suggest(name, known)}") from error
        message = first["msg"].removeprefix("Value error, ")
        raise UsageError(f"Option {name} {place}: {message} (got {first['input']!r}).") from error


def _known() -> list[str]:
    return [*RunConfig.model_fields, *ScoreConfig.model_fields]


def _spelt(values: Mapping[str, Any], where: str) -> dict[str, Any]:
    """Brings every spelling of an option to one; `score` and `set` become mappings."""
    spelt = _with_underscores(values, where)
    for name in _ON_THE_COMMAND_LINE_ONLY:
        if name in spelt:
            raise UsageError(f"Option {name} {where}: it belongs on the command line, as --{name}.")
    score = _with_underscores(_section("score", spelt.get("score"), where), where)
    for name in spelt.keys() & ScoreConfig.model_fields.keys():
        if name in score:
            raise UsageError(f"Option {name} is given twice {where}: {spelt[name]!r}, and {score[name]!r} below score.")
        score[name] = spelt.pop(name)
    if "no_controls" in spelt:
        spelt["controls"] = not spelt.pop("no_controls")
    return spelt | {"score": score, "set": _settings(spelt.get("set"), where)}


def _with_underscores(values: Mapping[Any, Any], where: str) -> dict[str, Any]:
    spelt: dict[str, Any] = {}
    for key, value in values.items():
        name = str(key).replace("-", "_")
        if name in spelt:
            raise UsageError(f"Option {name} is given twice {where}, with - and with _.")
        spelt[name] = value
    return {name: value for name, value in spelt.items() if value is not None}  # null stands for the default


def _section(name: str, value: Any, where: str) -> Mapping[Any, Any]:
    if value is None:
        return {}
    if not isinstance(value, Mapping):
        raise UsageError(f"Option {name} {where}: it should hold options, such as `{name}: {{…}}` (got {value!r}).")
    return value


def _settings(value: Any, where: str) -> dict[str, dict[str, Any]]:
    """Options of methods, from `mias_sam.gamma=5`, from several of those, or from mappings."""
    if isinstance(value, str):
        value = [value]
    settings: dict[str, dict[str, Any]] = {}
    if isinstance(value, list | tuple):
        for text in value:
            spec = _setting(text, where)
            settings.setdefault(spec.name, {}).update(spec.options)
        return settings
    for key, told in _section("set", value, where).items():
        method, dot, option = str(key).partition(".")
        own = {option: told} if dot else {str(name): one for name, one in _section(f"set.{key}", told, where).items()}
        settings.setdefault(method, {}).update(own)
    return settings


def _setting(text: Any, where: str) -> Spec:
    try:
        return parse_setting(str(text))
    except UsageError as error:
        raise UsageError(f"Option set {where}: {error}") from error


def _holds(values: Any, place: Iterable[int | str]) -> bool:
    try:
        for key in place:
            values = values[key]
    except (LookupError, TypeError):
        return False
    return True
