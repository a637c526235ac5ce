"""Runs from Python, with the options, defaults and errors of `bench run`."""

import io
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from rich.console import Console
from upath import UPath

from ...results.record import Cell
from ...results.store import CellStore, RunStore, find_run
from ...results.tables import HEADLINE, masks_by
from ..analysis.case_images import FramedImages, framed_images
from ..analysis.post_masks import CaseMasks
from ..api import Case, DataError, LazySequence, UsageError
from ..cli.console import SafeConsole, console, print_run, run_with_progress, stage_status
from ..config import RunConfig, default_results, find_config, make_config, read_config, results_folder
from ..network import tell_libraries
from .exporting import ExportKind, export_run
from .report import write_report

_WIDTH = 140  # columns of a table; what is wider is stacked
_CALL = "in run()"


@dataclass(frozen=True)
class CasePrediction:
    """A test image and what a method made of it, in the run's frame of S x S pixels.

    Attributes:
        case: The image's name within the dataset.
        patient: Whose image it is.
        label: 0 for a normal image, 1 for an anomalous one.
        volume: The volume that it is a slice of; `None` where that is not known.
        position: The slice's number in its volume.
        image: uint8 (S, S), or RGB (S, S, 3).
        truth: Where the lesion is, bool (S, S).
        scored: Where scores were computed, bool (S, S): not in the padding, unless that counted.
        anomaly_map: float32 (S, S), higher is more anomalous.
        image_score: Higher is more anomalous.
        mask: bool (S, S): the method's own, or where the map reaches the threshold of the policy; `None` where there is
            neither.
        prompts: The points (x, y) and boxes (x0, y0, x1, y1), in pixels, that SAM was given for the mask.
        note: The method's remark on this image, such as why a mask is empty.
    """

    case: str
    patient: str
    label: int
    volume: str | None
    position: int | None
    image: np.ndarray
    truth: np.ndarray
    scored: np.ndarray
    anomaly_map: np.ndarray
    image_score: float
    mask: np.ndarray | None
    prompts: tuple[tuple[float, ...], ...]
    note: str


class Run:
    """A run: its tables as data frames, its predictions, and its report. In a notebook it shows its table.

    The columns of each table are explained in docs/scores.md.

    Attributes:
        store: The run's folder.
    """

    def __init__(self, store: RunStore) -> None:
        self.store = store

    @property
    def name(self) -> str:
        """The name of the run's folder."""
        return self.store.name

    @property
    def scores(self) -> pd.DataFrame:
        """A row for each cell (method, dataset and seed), threshold policy and metric."""
        return self.store.scores()

    @property
    def cases(self) -> pd.DataFrame:
        """A row for each cell, threshold policy and test image."""
        return self.store.cases()

    @property
    def volumes(self) -> pd.DataFrame:
        """A row for each cell, threshold policy and test volume; none where volumes are not known."""
        return self.store.volumes()

    @property
    def curves(self) -> pd.DataFrame:
        """A row for each cell, split and threshold: what masks at that threshold are worth."""
        return self.store.curves()

    @property
    def comparisons(self) -> pd.DataFrame:
        """A row for each pair of methods: the paired difference of their DICE, with its interval and p value."""
        return self.store.comparisons()

    @property
    def ranks(self) -> pd.DataFrame:
        """A row for each method: its rank by DICE, and how sure it is."""
        return self.store.ranks()

    def table(self, width: int = _WIDTH) -> str:
        """What `bench show` prints.

        Args:
            width: Columns of text.
        """
        text = io.StringIO()
        print_run(self.store, _page(text, width))
        return text.getvalue()

    def predictions(
        self,
        method: str | None = None,
        dataset: str | None = None,
        seed: int | None = None,
        *,
        policy: str | None = None,
    ) -> Sequence[CasePrediction]:
        """The test images of a dataset with what a method made of them, each read from disk when it is asked for.

        Args:
            method: The method's name in the run. It can be left out where the run has only one; so can `dataset` and
                `seed`.
            dataset: The dataset's name in the run.
            seed: One of the run's.
            policy: Whose masks to show; by default the method's own, or those of `valid_dice`.

        Raises:
            UsageError: No cell of the run fits, or several do; or there are no masks by this policy.
            DataError: The dataset is not where it was.
            ResultsError: A prediction was not kept, or is damaged; raised when it is read.

        Examples:
            >>> for one in run.predictions(method="mias_sam", dataset="liver_ct"):
            ...     plt.imshow(one.image), plt.contour(one.mask)
        """
        entry = self._cell(method, dataset, seed)
        images, missing = framed_images(self.store)
        if entry.dataset not in images:
            raise DataError(f"The images of {entry.dataset} cannot be read. {missing[entry.dataset]}")
        cases = self.cases
        of_cell = cases[cases["cell"] == entry.name]
        rows = masks_by(of_cell, policy or HEADLINE)
        if policy and rows.empty:
            known = ", ".join(of_cell.loc[~of_cell["oracle"], "policy"].unique()) or "none"
            raise UsageError(f"{entry.method} has no masks by {policy!r}. There are those of: {known}.")
        cell, framed, masks = self.store.cell(entry.name), images[entry.dataset], rows.set_index("case")
        of_dataset = list(framed.cases.values())
        if entry.external:  # cases may be missing
            there = cell.intact("test", framed.cases)
            of_dataset = [case for case in of_dataset if case.id in there]
        make = CaseMasks(self.store, framed)
        return LazySequence(len(of_dataset), lambda position: _read(cell, framed, of_dataset[position], masks, make))

    def _cell(self, method: str | None, dataset: str | None, seed: int | None) -> Cell:
        asked = {"method": method, "dataset": dataset, "seed": seed}
        asked = {name: value for name, value in asked.items() if value is not None}
        entries = self.store.read().cells
        fitting = [entry for entry in entries if all(getattr(entry, name) == value for name, value in asked.items())]
        if len(fitting) != 1:
            there = "; ".join(
                ", ".join(f"{name}={getattr(entry, name)!r}" for name in ("method", "dataset", "seed"))
                for entry in fitting or entries
            )
            fit = f"{len(fitting)} cells of {self.name} fit" if fitting else f"{self.name} has no such cell"
            raise UsageError(f"{fit}. Give method, dataset and seed, as far as needed, of one of these: {there}.")
        return fitting[0]

    def report(self, out: str | Path, *, policy: str | None = None, published: bool = False) -> Path:
        """Writes the page, tables and figures that `bench report` writes.

        Args:
            out: The folder to write to.
            policy: Whose masks to report; by default each method's own, or those of `valid_dice`.
            published: Whether to add what papers have published of the same methods, in rows apart.

        Returns:
            The page to look at, `report.html`.

        Raises:
            UsageError: There is nothing to report, or no masks by this policy.
        """
        with stage_status() as progress:
            written = write_report([self.store], Path(out), policy=policy, published=published, progress=progress)
        return written.files[0]

    def export(
        self,
        out: str | Path,
        kinds: Sequence[ExportKind] = ("predictions",),
        *,
        method: str | None = None,
        dataset: str | None = None,
        seed: int | None = None,
        policy: str | None = None,
    ) -> list[Path]:
        """Writes predictions for other programs, as `bench export` does.

        Args:
            out: The folder to write to; each cell has a folder in it.
            kinds: `predictions` (what `import_predictions` reads), `images` (masks and maps in the pixels of the
                original images), `volumes` (the same as NIfTI, on the grid of the original volumes), `coco` (masks as
                JSON) and `overlays` (pictures for slides).
            method: Only this method; by default all, likewise `dataset` and `seed`.
            dataset: Only this dataset.
            seed: Only this seed.
            policy: Whose masks to write; by default each method's own, or those of `valid_dice`.

        Returns:
            The folders.

        Raises:
            UsageError: No cell fits, its predictions were not kept, or the grid of a volume is not known.
            DataError: A dataset is not where it was.
        """
        with stage_status() as progress:
            return export_run(
                self.store,
                Path(out),
                kinds,
                method=method,
                dataset=dataset,
                seed=seed,
                policy=policy,
                progress=progress,
            )

    def __repr__(self) -> str:
        return f"Run({str(self.store.folder)!r})"

    def _repr_html_(self) -> str:
        """The table in a notebook; names are shown as they are and are no markup."""
        page = _page(io.StringIO(), _WIDTH)
        print_run(self.store, page)
        return page.export_html(inline_styles=True, code_format='<pre style="line-height: normal">{code}</pre>')


def run(
    methods: str | Sequence[str] | None = None,
    dataset: str | Path | Sequence[str | Path] | None = None,
    *,
    config: str | Path | None = None,
    force: bool = False,
    quiet: bool = False,
    **options: Any,
) -> Run:
    """Runs methods on datasets and scores them: what `bench run` does, with the same options under the same names.

    What is finished already is not done again, so that the same call goes on where it stopped.

    Args:
        methods: Names, or `name[option=value,…]` for a variant; a text may hold several, with commas.
        dataset: A name, `name:option=value,…`, a folder, or a card (`.yaml`); or several.
        config: A run file, or the name of one that comes with the package, such as `paper`; other arguments win.
        force: Whether to run again what is finished.
        quiet: Whether to print nothing.
        options: All others of `bench run`, such as `weights="embedded"`, `seeds=[0, 1]`, `size=128`,
            `set={"mias_sam": {"gamma": 3}}`, `fixed_threshold=0.5`.

    Returns:
        The run. A method that fails does not raise: its row in `scores` says why, in the column `error`.

    Raises:
        UsageError: A name, option or value is wrong.
        DataError: A dataset is missing or broken.
        WeightsError: Weights cannot be fetched.
        ResultsError: The results cannot be written; what is finished is kept.

    Examples:
        >>> import miasbench
        >>> run = miasbench.run("mias_sam,intensity", "phantom_liver_ct:train=8,valid=4,test=8", weights="embedded")
        >>> run.scores[run.scores["metric"] == "dice"]
    """
    given = options | {
        name: value for name, value in (("methods", methods), ("dataset", _texts(dataset))) if value is not None
    }
    if config is None:
        asked = make_config(given, _CALL)
    else:
        asked = make_config(read_config(find_config(Path(config))), f"in {config}", given, _CALL)
    return run_config(asked, force=force, quiet=quiet)


def run_config(config: RunConfig, *, force: bool = False, quiet: bool = False) -> Run:
    """Runs what options ask for, as `run` does.

    Args:
        config: The options, checked.
        force: Whether to run again what is finished.
        quiet: Whether to print nothing.

    Raises:
        BenchError: As for `run`.
    """
    tell_libraries()
    with _quiet(quiet):
        plan, _ = run_with_progress(config, force=force)
    return Run(plan.store)


def open_run(run: str | Path | UPath = "latest", results: str | Path | UPath | None = None) -> Run:
    """Opens a run that was made before, here or on the command line.

    Args:
        run: Its folder, its name, the beginning of its name, or `latest`.
        results: Where runs are kept; by default `$MIASBENCH_RESULTS`, or `bench-results` in the current folder.

    Raises:
        ResultsError: There is none, or several begin so.

    Examples:
        >>> miasbench.open_run("liver_ct-1a2b3c4d").scores
    """
    folder = default_results() if results is None else results_folder(results)
    return Run(find_run(str(run), folder))


def _page(file: io.StringIO, width: int) -> Console:
    # In a notebook rich would show the text at once, whatever the file.
    return SafeConsole(file=file, width=width, record=True, force_jupyter=False)


def _texts(dataset: Any) -> Any:
    if isinstance(dataset, Path):
        return [str(dataset)]
    if isinstance(dataset, str) or not isinstance(dataset, Iterable):
        return dataset
    return [str(one) if isinstance(one, Path) else one for one in dataset]


@contextmanager
def _quiet(quiet: bool) -> Iterator[None]:
    before, console.quiet = console.quiet, quiet or console.quiet
    try:
        yield
    finally:
        console.quiet = before


def _read(cell: CellStore, images: FramedImages, case: Case, masks: pd.DataFrame, make: CaseMasks) -> CasePrediction:
    stored = cell.read_prediction("test", case.id)
    image, truth, scored = images(case.id)
    mask, prompts = None, ()
    if case.id in masks.index:
        mask, prompts = make(stored, masks.loc[case.id].to_dict() | {"case": case.id})
    prediction = stored.prediction
    return CasePrediction(
        case=case.id,
        patient=case.patient,
        label=case.label,
        volume=case.volume,
        position=case.position,
        image=image,
        truth=truth,
        scored=scored,
        anomaly_map=prediction.anomaly_map,
        image_score=prediction.image_score,
        mask=None if mask is None else mask & scored,
        prompts=prompts,
        note=prediction.note,
    )
