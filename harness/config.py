"""What a run is asked to do: the options of `bench run`, from the command line or a YAML file."""

import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Any, Literal

import platformdirs
import yaml
from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, PlainSerializer, ValidationError
from upath import UPath

from .api import UsageError
from .registry import suggest


def default_data_root() -> Path:
    """Where datasets are looked for: `$MIASBENCH_DATA`, or the user's data folder."""
    return Path(os.environ.get("MIASBENCH_DATA") or Path(platformdirs.user_data_dir("miasbench")) / "datasets")


def default_results() -> UPath:
    """Where runs are kept: `$MIASBENCH_RESULTS`, or `bench-results` in the current folder."""
    return UPath(os.environ.get("MIASBENCH_RESULTS") or "bench-results")


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
        folder = UPath(text)
        folder.exists()
    return folder


def _address(text: Any) -> UPath:
    """An address that need not answer, such as that of a run which was made on another machine."""
    with _reaching(text):
        folder = UPath(text)
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

_OneOrSeveral = BeforeValidator(lambda value: [value] if isinstance(value, str | int) else value)


class RunConfig(BaseModel):
    """A run, whole: every option of `bench run` under its own name.

    Attributes:
        methods: Each `name` or `name[option=value,…]`, a variant.
        size: Width and height of the frame in which methods see images and scores are computed.
        set: Options of methods, for every variant of them: `{"mias_sam": {"gamma": 5}}`; a variant's own win.
        epochs: Of every method that is trained in epochs; what is set for one of them wins.
        batch_size: Likewise.
        controls: Whether methods that others name as their controls are run beside them.
        limit: At most so many cases of each split, stratified; 0 for all.
        maps: How anomaly maps are kept once a cell is scored.
        executor: What runs the cells: `local`, in processes; `ray`, on a cluster; `inline`, in this process, one after
            the other. By default `$MIASBENCH_EXECUTOR`, or `local`.
        workers: At most so many cells at once.
        threads: Of each cell.
        cell_memory: GiB that a cell is taken to need, until one has needed more; what a task asks a cluster for.
        address: Of the Ray cluster; by default `$RAY_ADDRESS`, or one on this machine alone.
        shard_cases: On a cluster, so many cases of a split are predicted by one task; 0 for all of the cell's.
    """

    model_config = ConfigDict(extra="forbid")

    methods: Annotated[list[str], Field(min_length=1), _OneOrSeveral]
    dataset: Annotated[list[str], Field(min_length=1), _OneOrSeveral]
    weights: Literal["published", "embedded"] = "published"
    seeds: Annotated[list[Annotated[int, Field(ge=0)]], Field(min_length=1), _OneOrSeveral] = [0]
    device: Literal["auto", "cpu", "cuda"] = "auto"
    data_root: Path = Field(default_factory=default_data_root)
    results: Results = Field(default_factory=default_results)
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


def find_config(path: Path) -> Path:
    """The run file itself, or the one that comes with the package under this name.

    Raises:
        UsageError: There is neither.
    """
    shipped = {file.stem: file for file in sorted(Path(__file__).with_name("configs").glob("*.yaml"))}
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
        content = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError) as error:
        raise UsageError(f"The run file {path} cannot be read: {error}") from error
    except yaml.YAMLError as error:
        raise UsageError(f"The run file {path} is not YAML: {' '.join(str(error).split())}") from error
    if not isinstance(content, dict):
        raise UsageError(f"The run file {path} should hold options such as `methods: [mias_sam]`.")
    return content


def make_config(values: Mapping[str, Any], where: str) -> RunConfig:
    """Checks the options of a run.

    Args:
        values: Options by name.
        where: Where they were written, for messages.

    Raises:
        UsageError: An option is unknown, missing, or has a wrong value.
    """
    try:
        return RunConfig.model_validate(dict(values))
    except ValidationError as error:
        first = error.errors()[0]
        name = ".".join(str(part) for part in first["loc"])
        if first["type"] == "extra_forbidden":
            known = ScoreConfig if len(first["loc"]) > 1 else RunConfig
            raise UsageError(f"Unknown option {name!r} {where}. {suggest(name, known.model_fields)}") from error
        raise UsageError(f"Option {name} {where}: {first['msg']} (got {first['input']!r}).") from error
