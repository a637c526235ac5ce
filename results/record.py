"""What run.json and cell.json hold, as models: parsed once when they are read, and handed on.

A model names what the project reads. Whatever else a record holds, such as what a later version writes, stays in it. A
field that has a default here is absent from records of older versions.
"""

from collections import Counter
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationInfo, field_validator

from ..harness.api import Diagnostic
from ..harness.texts import redacted, redacted_in
from .files import hash_of, readable

EXTERNAL = "external"
"""The device of a cell whose predictions were made elsewhere."""


_KINDS = {"command": str, "packages": dict, "plugins": dict, "threads": int}  # of what is read of an environment


def _of_its_kinds(environment: dict[str, Any]) -> dict[str, Any]:
    wrong = [name for name, kind in _KINDS.items() if not isinstance(environment.get(name, kind()), kind)]
    plugins = {} if wrong else environment.get("plugins", {})
    wrong += [name for name, one in plugins.items() if not isinstance(one, dict)]
    if wrong:
        raise ValueError(f"the entry {wrong[0]!r} is not of its kind")
    return environment


# A command line and versions, without secrets.
_Kept = Annotated[dict[str, Any], AfterValidator(_of_its_kinds), AfterValidator(redacted_in)]
_Address = Annotated[str | None, AfterValidator(redacted_in)]
_HOW_READ = ("seen", "given", "higher_is", "geometry", "interpolation", "image_score")


class Record(BaseModel):
    """A part of a record that cannot be changed; `model_copy(update=…)` makes another."""

    model_config = ConfigDict(frozen=True, extra="allow")

    def content(self) -> dict[str, Any]:
        """What is written: all that was read or set, and no default."""
        return self.model_dump(exclude_unset=True)


class WeightsRecord(Record):
    """A file of weights, as `harness.api.Weights`."""

    name: str
    kind: str
    sha256: str


def _folder_name(content: dict[str, Any]) -> str:
    cell = Cell.model_construct(**content, name="")
    return f"{readable(cell.dataset, 100)}-{readable(cell.method, 80)}-seed{cell.seed}-{cell.key[:10]}"


class Cell(Record):
    """One method, fully configured, on one dataset with one seed: all that a stored prediction depends on.

    Attributes:
        dataset: The dataset's name.
        fingerprint: A hash of its images, masks and splits.
        method: The text of the method's spec, so that two variants of a method are two cells.
        options: Each option of the method with its value.
        weights: The files that it loads.
        seed: The seed of everything random.
        size: The width and height of the run's frame, in pixels.
        device: Where it ran, such as `cpu`; `EXTERNAL` where its predictions were made elsewhere.
        maps: `float32` or `float16`: how anomaly maps are kept.
        code: The version of the code that the predictions depend on.
        transductive: Whether a prediction depends on other test images.
        name: The name of the cell's folder; it follows from all others.
    """

    dataset: str
    fingerprint: str
    method: str
    options: dict[str, Any]
    weights: tuple[WeightsRecord, ...]
    seed: int
    size: int
    device: str
    maps: str
    code: str
    transductive: bool
    name: str = Field(pattern=r"^[A-Za-z0-9_+=][A-Za-z0-9_.+=-]*$", default_factory=_folder_name)

    @property
    def key(self) -> str:
        """SHA-256 (hex) of all attributes but the name."""
        return hash_of(self.model_dump(exclude={"name"}))

    @property
    def external(self) -> bool:
        """Whether its predictions were made elsewhere. Then `options` tell what there is, and of which cases."""
        return self.device == EXTERNAL

    @property
    def settings(self) -> dict[str, Any]:
        """The options by which two cells are of one method: of predictions from elsewhere, how they are read."""
        if not self.external:
            return self.options
        return {name: self.options[name] for name in _HOW_READ if name in self.options}

    def __str__(self) -> str:
        return f"{self.dataset} · {self.method} · seed {self.seed}"


def _not_negative(value: float) -> float:
    if value < 0:
        raise ValueError("it is below 0")
    return value


_Measured = Annotated[float, AfterValidator(_not_negative)] | None  # NaN is what could not be measured


class Measurements(Record):
    """What was measured while a method ran; `None` is what was not.

    Attributes:
        fit_seconds: The seconds that `fit` took.
        predict_ms: Milliseconds an image: the median, or the mean of a transductive method.
        calibration_ms: Milliseconds that a fixed piece of work took on the same machine.
        peak_memory_mib: The most memory, in MiB.
        peak_gpu_memory_mib: The most memory of the GPU, in MiB; NaN on the CPU.
        batch: How many images were predicted at a time, which the time for an image is an average of.
        diagnostics: What the method measured of itself.
    """

    fit_seconds: _Measured = None
    predict_ms: _Measured = None
    calibration_ms: _Measured = None
    peak_memory_mib: _Measured = None
    peak_gpu_memory_mib: _Measured = None
    batch: int | None = None
    diagnostics: tuple[Diagnostic, ...] = ()


class CellRecord(Measurements):
    """How a cell ended: its cell.json.

    Attributes:
        status: `finished` or `failed`.
        error: Why it failed.
        maps: How its anomaly maps were kept: `float32`, `float16` or `none`.
        score: The options that it was scored with, and the version of that code.
        environment: The machine that measured it.
    """

    status: str
    error: Annotated[str, AfterValidator(redacted)] = ""
    maps: str = "none"
    score: dict[str, Any] = {}
    environment: _Kept = {}

    @property
    def finished_whole(self) -> bool:
        """Whether the cell is finished and its predictions were kept."""
        return self.status == "finished" and self.maps != "none"


class CardRecord(Record):
    """A dataset's card."""

    counts: dict[str, int] | None = None


class DatasetRecord(Record):
    """A dataset, as it was when it was measured: images in each split, and what a user should know of it."""

    fingerprint: str
    card: CardRecord
    counts: dict[str, int] = {}
    notes: tuple[str, ...] = ()


class ScoreRecord(Record):
    """How scores were computed. What is older than two of these options counted the padding and took every policy."""

    mask_edges: Literal["nearest", "paper"]
    surface_tolerance: float = 1.0
    padding: Literal["exclude", "count"] = "count"
    thresholds: list[str] = ["all"]
    foreground: str = "card"
    post: list[str] = []


class ConfigRecord(Record):
    """What was asked for. Addresses are kept without their secrets, and are never used."""

    methods: list[str]
    score: ScoreRecord
    limit: int = 0
    set: dict[str, dict[str, Any]] = {}
    epochs: int | None = None
    batch_size: int | None = None
    results: _Address = None
    address: _Address = None


class RunRecord(Record):
    """A run: its run.json.

    Attributes:
        status: `running` or `done`.
        created: When it began.
        config: What was asked for.
        environment: The command, versions and hardware of its last invocation.
        datasets: Its datasets, by name.
        cells: Its cells.
        tables: The SHA-256 (hex) of each file of its tables.
    """

    status: str
    created: str
    config: ConfigRecord
    environment: _Kept
    datasets: dict[str, DatasetRecord]
    cells: tuple[Cell, ...]
    tables: dict[Annotated[str, Field(pattern=r"^[a-z_]+\.(csv|parquet)$")], str] = {}

    @field_validator("cells")
    @classmethod
    def _of_one_piece(cls, cells: tuple[Cell, ...], others: ValidationInfo) -> tuple[Cell, ...]:
        datasets = others.data.get("datasets")
        times = Counter(cell.name for cell in cells)
        for cell in cells:
            if times[cell.name] > 1:
                raise ValueError(f"{cell.name} is there twice")
            if datasets and cell.dataset not in datasets:
                raise ValueError(f"{cell.dataset} of {cell.name} is not among the datasets")
        return cells

    def content(self) -> dict[str, Any]:
        return super().content() | {"cells": [cell.model_dump() for cell in self.cells]}
