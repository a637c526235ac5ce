"""A baseline: what a run measured, in small, for the gate to hold later runs against; and what the gate finds.

Values are rounded to six digits, so that the file stays small and reads well in a diff.
"""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import ConfigDict, Field, TypeAdapter, ValidationError, with_config

from ..harness.api import BenchError
from ..harness.safe_files import read_bytes, write_named
from .files import json_bytes

_LARGEST = 2**26  # bytes
DIGITS = 6
RUNTIME = "runtime"
"""The tolerance that is no metric's: milliseconds per image, measured in calibration workloads."""

_STRICT = ConfigDict(extra="forbid")
# Nothing is below NaN, and everything is above -1: a gate would pass whatever comes.
_Share = Annotated[float, Field(ge=0, le=1, allow_inf_nan=False)]


class BaselineError(BenchError):
    """A baseline that is missing or is not one; the text names the file."""


@with_config(_STRICT)
@dataclass(frozen=True)
class Absolute:
    """A score may fall by so much."""

    absolute: Annotated[float, Field(ge=0, allow_inf_nan=False)]


@with_config(_STRICT)
@dataclass(frozen=True)
class Factor:
    """The runtime may become so many times as long."""

    factor: Annotated[float, Field(gt=1, allow_inf_nan=False)]


Tolerance = Absolute | Factor | Literal["paired"]
"""`paired` is for DICE: the interval of the case by case difference, patients being drawn, must not lie below zero."""

DEFAULT_TOLERANCES: dict[str, Tolerance] = {
    "dice": Absolute(0.02),
    "pixel_auroc": Absolute(0.01),
    "aupro": Absolute(0.02),
    RUNTIME: Factor(2.0),
}


@with_config(_STRICT)
@dataclass(frozen=True)
class Score:
    """A metric, 0 to 1, higher is better: its mean over seeds, and the 95 % interval over seeds and patients.

    `policy` is `own`, `valid_dice`, or `none` where no mask is involved; an end that could not be computed is `None`.
    `deviation` is that of the seeds' values, n - 1 in its denominator; `None` with one seed, and in older baselines.
    """

    policy: str
    value: _Share
    ci_low: _Share | None
    ci_high: _Share | None
    deviation: _Share | None = None


@with_config(_STRICT)
@dataclass(frozen=True)
class Runtime:
    """Milliseconds per image, and those of the calibration workload beside it, means over seeds; and where."""

    device: str
    threads: int
    predict_ms: Annotated[float, Field(ge=0, allow_inf_nan=False)]
    calibration_ms: Annotated[float, Field(gt=0, allow_inf_nan=False)]

    @property
    def ratio(self) -> float:
        """The runtime in calibration workloads: alike on a quick machine and on a slow one."""
        return self.predict_ms / self.calibration_ms

    @property
    def where(self) -> str:
        """Ratios can be compared only here: devices and numbers of threads suit one method better than another."""
        return f"{self.device} with {self.threads} {'thread' if self.threads == 1 else 'threads'}"


@with_config(_STRICT)
@dataclass(frozen=True)
class BaselineCell:
    """The measurements of one method on one dataset, over all its seeds.

    Attributes:
        fingerprint: The fingerprint of the dataset.
        configuration: All that scores depend on beside images, seed and code: the method's options, the checksums of
            its weights, the size, how masks are resized, whether padding counts.
        scores: By metric.
        runtime: `None` where the run has no calibration.
        dice: Patient by patient and case by case, mean over seeds; anomalous images only.
        code: The version of the code that made the predictions; empty in older baselines.
        external: Whether the predictions were made elsewhere, so that there is no runtime.
    """

    dataset: str
    method: str
    seeds: tuple[int, ...]
    fingerprint: str
    configuration: dict[str, Any]
    scores: dict[str, Score]
    runtime: Runtime | None
    dice: dict[str, dict[str, _Share]]
    code: str = ""
    external: bool = False

    @property
    def key(self) -> tuple[str, str]:
        return self.dataset, self.method


@with_config(_STRICT)
@dataclass(frozen=True)
class Baseline:
    """The cells of a run, and what a later run may differ by.

    Attributes:
        run: The run it was made of.
        tolerance: By metric, and for `RUNTIME`; what has none is not judged.
        cells: By dataset and method.
    """

    run: str
    tolerance: dict[str, Tolerance]
    cells: tuple[BaselineCell, ...]

    def __post_init__(self) -> None:
        for name, tolerance in self.tolerance.items():
            if isinstance(tolerance, Factor) != (name == RUNTIME):
                raise ValueError(f"a factor is for {RUNTIME} alone, which takes nothing else (got {name})")
            if tolerance == "paired" and name != "dice":
                raise ValueError(f"only dice can be paired: {name} is not kept case by case")
        if not self.tolerance or not self.cells:
            raise ValueError(f"without {'cells' if self.tolerance else 'a tolerance'} it judges nothing")


FindingKind = Literal[
    "ok",
    "improved",
    "new",
    "code changed",
    "not judged",
    "unsure",
    "nothing judged",
    "regression",
    "slower",
    "dataset changed",
    "configuration changed",
    "tables changed",
    "missing",
    "crashed",
]
JUDGED: tuple[FindingKind, ...] = ("ok", "improved", "regression", "slower")
"""The kinds of findings in which a score or a runtime was held against its tolerance."""
FAILURES: tuple[FindingKind, ...] = (
    "unsure",
    "nothing judged",
    "regression",
    "slower",
    "dataset changed",
    "configuration changed",
    "tables changed",
    "missing",
    "crashed",
)
"""The kinds of findings that make the gate fail, the least serious first."""


@dataclass(frozen=True)
class Finding:
    """One thing that the gate looked at.

    Attributes:
        what: A metric, `runtime`, `cell` for the cell as a whole, or `tables` for those of the run.
        before: In the baseline, `None` where there is no number.
        now: In the run, likewise.
        text: The finding in words.
    """

    kind: FindingKind
    dataset: str
    method: str
    what: str
    before: float | None
    now: float | None
    text: str

    @property
    def failed(self) -> bool:
        return self.kind in FAILURES


def find_baseline(path: Path) -> Path:
    """The file itself, or the baseline that comes with the package under this name."""
    shipped = Path(__file__).parent / "baselines" / f"{path}.json"
    return shipped if not path.exists() and shipped.exists() else path


def read_baseline(path: Path) -> Baseline:
    """Reads a baseline.

    Raises:
        BaselineError: It cannot be read, or is not a baseline; the text names the cell and the value that is wrong.
    """
    try:
        content = read_bytes(path, follow=True, most=_LARGEST)
    except OSError as error:
        raise BaselineError(
            f"The baseline {path} cannot be read ({error.strerror}). Make one with bench baseline RUN --out {path}."
        ) from error
    try:
        baseline = TypeAdapter(Baseline).validate_json(content)
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"]) or "the file"
        if len(first["loc"]) > 2 and first["loc"][0] == "cells":
            cell = json.loads(content)["cells"][first["loc"][1]]
            where += f" of {cell.get('dataset')} · {cell.get('method')}"
        value = first["input"]
        got = "" if isinstance(value, (dict, list, bytes)) else f", not {value}"
        raise BaselineError(
            f"{path} is not a baseline of this version: {where}: {first['msg']}{got}. Take its last version that was "
            f"good, or delete it and make another with bench baseline RUN --out {path}."
        ) from error
    for cell in baseline.cells:  # of version 0.1.0, which counted the padding and did not say so
        cell.configuration.setdefault("padding", "count")
    return baseline


def write_baseline(path: Path, baseline: Baseline) -> None:
    """Writes a baseline, whole or not at all."""
    write_named(path, json_bytes(TypeAdapter(Baseline).dump_python(baseline, mode="json")))
