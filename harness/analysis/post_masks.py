"""The masks behind a chain of post-processing, made again from stored predictions."""

from collections.abc import Mapping
from typing import Any

import numpy as np
import pandas as pd

from ...results.predictions import StoredPrediction, mask_by
from ...results.store import CellStore, RunStore
from ...results.tables import without_post
from ..api import LazySequence, Split
from ..scoring.decisions import Decision, PolicyColumns
from ..scoring.post import PostDecision, Processed, make_chain
from ..scoring.scanning import SplitTruths, load_truths, where_scored
from ..specs import parse_chain
from .case_images import FramedImages
from .recorded import recorded_config

Prompts = tuple[tuple[float, ...], ...]


class CaseMasks:
    """Masks of a dataset's test images by the policies of a run, with post-processing or without.

    Args:
        store: The run.
        images: The dataset's images in the run's frame.
    """

    def __init__(self, store: RunStore, images: FramedImages) -> None:
        self._store, self._images = store, images
        self._truths: SplitTruths | None = None
        self._behind: dict[tuple[str, str], _Behind] = {}

    def __call__(self, stored: StoredPrediction, row: Mapping[Any, Any]) -> tuple[np.ndarray, Prompts]:
        """As `results.predictions.mask_by`, where `row` may have a chain; it needs the column `cell`.

        Raises:
            ResultsError: A prediction of the same volume was not kept, or is damaged.
        """
        if not row.get("post"):
            return mask_by(stored, row)
        key = str(row["cell"]), str(row["policy"])
        if key not in self._behind:
            cases = self._store.cases()
            rows = cases[(cases["cell"] == key[0]) & (cases["policy"] == key[1])]
            self._behind[key] = _Behind(self._store.cell(key[0]), rows, self._truths_of_all())
        return self._behind[key].mask(str(row["case"]), stored.prediction.anomaly_map.shape), ()

    def _truths_of_all(self) -> SplitTruths:
        if self._truths is None:
            config = recorded_config(self._store)
            self._truths = load_truths(self._images.dataset, ("test",), config.size, config.score)["test"]
        return self._truths


class _Behind:
    """The masks of one cell by one policy with a chain."""

    def __init__(self, store: CellStore, rows: pd.DataFrame, truths: SplitTruths) -> None:
        of_case = rows.set_index("case")
        self._truths = truths.of(of_case.index)
        self._places = {name: index for index, name in enumerate(self._truths.ids)}
        ids = self._truths.ids
        every = LazySequence(len(ids), lambda index: store.read_prediction("test", ids[index]))
        self._stored = where_scored(every, self._truths.rectangles)
        name, _ = without_post(str(rows["policy"].iloc[0]))
        thresholds: dict[Split, np.ndarray] = {"test": of_case.loc[ids, "threshold"].to_numpy(np.float32)}
        chain = make_chain(parse_chain(str(rows["post"].iloc[0])))
        processed: dict[Split, Processed] = {"test": Processed(chain, self._truths, self._stored)}
        self._decision = PostDecision.of(
            Decision(PolicyColumns(name), None if name == "own" else thresholds), chain, processed
        )

    def mask(self, case: str, shape: tuple[int, ...]) -> np.ndarray:
        """The mask of an image in the run's frame, bool (S, S)."""
        index = self._places[case]
        whole = np.zeros(shape, bool)
        prediction = self._stored[index].prediction
        whole[self._truths.rectangles[index]] = self._decision.mask("test", index, prediction)
        return whole
