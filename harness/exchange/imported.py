"""Predictions from elsewhere as a method: nothing is fitted or predicted here, files are read."""

import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, Literal

import numpy as np

from ..api import Case, DataError, Dataset, Method, Prediction, Progress, Split, UsageError
from ..data.frame import frame_map
from ..data.subset import whole_of
from ..download.fetching import file_checksum
from ..paths import absolute, expanded
from .arrays import ArrayReader
from .checking import check_maps, refuse
from .folder import PREDICTED, CaseFiles, Found, find_files, nearest_name, path_by
from .manifest import MANIFEST, NOTHING, SEEN, SEEN_EXPLAINED, Manifest


@dataclass(frozen=True)
class Import:
    """A folder of predictions that was held against a dataset.

    Attributes:
        manifest: What the folder says of itself.
        found: Its files.
        given: Which of `maps`, `masks` and `scores` there are for every case; image scores may follow from the maps.
        geometry: What maps and masks cover: the image, or the frame.
        sha256: A hash (hex) of all files that are used, and of the image scores.
        notes: What a reader of the scores should know, a sentence each.
    """

    manifest: Manifest
    found: Found
    given: tuple[str, ...]
    geometry: Literal["image", "frame"]
    sha256: str
    notes: tuple[str, ...]

    def options(self, dataset: Dataset) -> dict[str, Any]:
        """What a cell's record keeps, and what its scores depend on."""
        manifest = self.manifest.model_dump(
            mode="json", exclude_defaults=True, exclude={"dataset", "dataset_fingerprint"}
        )
        return manifest | {
            "geometry": self.geometry,
            "given": list(self.given),
            "cases": {split: len(self.found.cases[split]) for split in PREDICTED},
            "of": {split: len(dataset.cases(split)) for split in PREDICTED},
            "sha256": self.sha256,
        }

    def cases(self, dataset: Dataset, split: Split) -> list[Case]:
        """The cases of a split that have predictions."""
        return [case for case in dataset.cases(split) if case.id in self.found.cases[split]]

    def predictions(self, dataset: Dataset, split: Split, size: int) -> Iterator[tuple[Case, Prediction]]:
        """The predictions of a split in a run's frame, in the order of the cases.

        Without a map, the map is 0 everywhere; without an image score, the score is NaN. `given` says so.

        Args:
            dataset: The dataset.
            split: `valid` or `test`.
            size: Width and height of the frame.

        Raises:
            DataError: A file has changed and can no longer be read.
        """
        reader = ArrayReader()
        for case in self.cases(dataset, split):
            files = self.found.cases[split][case.id]
            shape = dataset.load(case).image.shape[:2] if self.geometry == "image" else None
            yield case, self._prediction(reader, files, size, shape)

    def _prediction(
        self, reader: ArrayReader, files: CaseFiles, size: int, shape: tuple[int, int] | None
    ) -> Prediction:
        sign = -1 if self.manifest.higher_is == "normal" else 1
        anomaly_map = np.zeros((size, size), np.float32)
        score, mask = float("nan") if files.score is None else sign * files.score, None
        if "maps" in self.given and files.map is not None:
            values = sign * reader.anomaly_map(files.map)
            anomaly_map = frame_map(values, size, shape, self.manifest.interpolation)
            if files.score is None and self.manifest.image_score != "none":
                score = float(values.max() if self.manifest.image_score == "max" else values.mean())
        if "masks" in self.given and files.mask is not None:
            mask = frame_map(reader.own_mask(files.mask).astype(np.float32), size, shape, "nearest", padding=0) > 0
        return Prediction(anomaly_map, score, mask)


@dataclass(kw_only=True)
class Imported(Method):
    """Predictions that another program made, read from a folder.

    Attributes:
        path: The folder.
        name: The method's name in the tables; by default the one in `predictions.yaml`, or the folder's.
        higher_is: `anomalous` or `normal`, where `predictions.yaml` does not say it.
        seen: What the method has seen, joined by `+` as in `normal+text`, or `nothing`, where `predictions.yaml` does
            not say it.
        partial: Whether to take a set in which a tenth of a split's cases, or more, is missing.
    """

    path: str
    name: str = ""
    higher_is: str = ""
    seen: str = ""
    partial: bool = False

    @property
    def stochastic(self) -> bool:
        return False

    @property
    def folder(self) -> Path:
        return absolute(Path(expanded(self.path)))

    @cached_property
    def manifest(self) -> Manifest:
        """What the folder says of itself, with what was said beside it.

        Raises:
            DataError: There is no such folder, or its manifest is wrong.
        """
        if not self.folder.is_dir():
            raise DataError(f"There is no folder of predictions at {self.folder}.")
        said: dict[str, Any] = {"method": self.name, "higher_is": self.higher_is, "seen": self._seen()}
        return Manifest.read(self.folder, {key: value for key, value in said.items() if value or value == ()})

    @property
    def label(self) -> str:
        """The method's name in the tables."""
        return self.manifest.method or self.folder.name

    def is_for(self, dataset: Dataset) -> bool:
        """Whether the predictions are of this dataset, as far as the manifest names one."""
        manifest = self.manifest
        if manifest.dataset_fingerprint:  # a run with --limit takes some of the cases
            return manifest.dataset_fingerprint in (dataset.fingerprint, whole_of(dataset).fingerprint)
        return manifest.dataset in ("", dataset.name)

    def hold_against(self, dataset: Dataset, size: int, progress: Progress = lambda *_: None) -> Import:
        """Finds and reads everything once, and refuses what cannot be scored.

        Args:
            dataset: The dataset that was predicted.
            size: Width and height of the run's frame.
            progress: Told about progress.

        Raises:
            DataError: Cases are missing, a file is damaged or has a wrong size, or it is not said what values mean.
        """
        manifest = self.manifest
        cases: dict[Split, Sequence[Case]] = {split: dataset.cases(split) for split in PREDICTED}
        found = find_files(self.folder, manifest, dataset)
        refuse(self.folder, found.problems)
        given = self._given(found, cases)
        self._ask(manifest, given)
        maps = check_maps(dataset, found, manifest, progress)
        refuse(self.folder, maps.problems)
        notes = (*self._notes(found, cases, given), *maps.notes)
        if "maps" in given and "scores" not in given and manifest.image_score != "none":
            given = (*given, "scores")
        return Import(manifest, found, given, maps.geometry, _hash(found), notes)

    def _seen(self) -> tuple[str, ...] | None:
        """What is said here that the method has seen; `None` where nothing is said."""
        named = tuple(filter(None, self.seen.replace(" ", "").split("+")))
        if named == (NOTHING,):
            return ()
        if unknown := [one for one in named if one not in SEEN]:
            raise UsageError(f"seen: {unknown[0]!r} is unknown. {SEEN_EXPLAINED}.")
        return named or None

    def _given(self, found: Found, cases: dict[Split, Sequence[Case]]) -> tuple[str, ...]:
        """What there is of every case that is there; anything else is refused, as is what lacks too many cases."""
        kinds = [set(files.given) for split in PREDICTED for files in found.cases[split].values()]
        if not found.cases["test"]:
            first = cases["test"][0].id if cases["test"] else "CASE"
            expected = path_by(self.manifest.maps, "test", first)
            passed = ""
            if found.passed_over:
                nearest = nearest_name(expected, found.passed_over)
                passed = f" {len(found.passed_over)} files there belong to no case, such as {nearest}."
            mask = path_by(self.manifest.masks, "test", first, ".png")
            raise DataError(
                f"{self.folder} has no prediction for any test case.{passed} Expected is, for example, {expected}, "
                f"{mask}, or {first} in {self.manifest.scores}; {MANIFEST} can say other places "
                "(`maps: …/{split}/{case}_map.npy`)."
            )
        everywhere = tuple(name for name in ("maps", "masks", "scores") if all(name in kind for kind in kinds))
        for name in sorted(set().union(*kinds) - set(everywhere)):
            lacking = [
                f"{case} ({split})"
                for split in PREDICTED
                for case, files in found.cases[split].items()
                if name not in files.given
            ]
            raise DataError(
                f"{self.folder} has {name} of some cases and not of {len(lacking)} others, such as {lacking[0]}. Give "
                "them for all cases or for none."
            )
        for split in PREDICTED:
            missing, total = found.missing[split], len(cases[split])
            if missing and len(missing) < total and 10 * len(missing) >= total and not self.partial:
                raise DataError(
                    f"{self.folder} lacks {len(missing)} of {total} {split} cases, such as {missing[0]}. Add them; or "
                    "take the set as it is with --partial, or `partial=true` behind its path; every row then says so."
                )
        return everywhere

    def _ask(self, manifest: Manifest, given: Sequence[str]) -> None:
        """Refuses to guess what only the author knows."""
        asked = []
        if manifest.seen is None:
            asked.append(
                f"{self.folder} does not say what the method has seen, that is, learned from or been chosen on. Write "
                f"it into {MANIFEST}, such as `seen: [normal]`, or give --seen normal. {SEEN_EXPLAINED}."
            )
        if manifest.higher_is is None and set(given) & {"maps", "scores"}:
            asked.append(
                f"{self.folder} does not say whether higher values mean anomalous or normal. Write it into {MANIFEST}, "
                "such as `higher_is: anomalous`, or give --higher-is anomalous."
            )
        if asked:
            raise DataError("\n".join(asked))

    def _notes(self, found: Found, cases: dict[Split, Sequence[Case]], given: Sequence[str]) -> Iterator[str]:
        yield from self.manifest.overruled
        for split in PREDICTED:
            missing, total = found.missing[split], len(cases[split])
            if missing and len(missing) == total:
                yield (
                    f"there is no prediction for the {split} split, such as "
                    f"{path_by(self.manifest.maps, split, missing[0])}, so policies that choose on it are left out."
                )
            elif missing:
                yield f"{len(missing)} of {total} {split} cases are missing, such as {missing[0]}."
        files, rows = len(found.passed_over), len(found.unknown)
        if files or rows:
            counted = [f"{files} {'file' if files == 1 else 'files'}"] * bool(files)
            counted += [f"{rows} {'row' if rows == 1 else 'rows'} of {self.manifest.scores}"] * bool(rows)
            belong = "belongs" if files + rows == 1 else "belong"
            first = [*found.passed_over, *found.unknown][0]
            yield f"{' and '.join(counted)} {belong} to no case, such as {first}."
        lacking = [name for name in ("maps", "masks", "scores") if name not in given]
        if "scores" in lacking and "maps" in given and self.manifest.image_score != "none":
            lacking.remove("scores")
            yield f"image scores are the {self.manifest.image_score} of the maps, as {MANIFEST} says."
        if "maps" in lacking:
            yield "there are no anomaly maps, so pixels are not ranked and no threshold is chosen."
        if "scores" in lacking:
            hint = f" `image_score: max` in {MANIFEST} makes them of the maps." if "maps" in given else ""
            yield f"there are no image scores, so there is no image AUROC.{hint}"

    def fit(self, images: Sequence[np.ndarray]) -> None:
        raise UsageError(f"{self.label} was made elsewhere: it can be scored, but not fitted or asked.")

    def predict(self, image: np.ndarray) -> Prediction:
        raise UsageError(f"{self.label} was made elsewhere: it can be scored, but not fitted or asked.")


def _hash(found: Found) -> str:
    digest = hashlib.sha256()
    for path in found.files():
        digest.update(bytes.fromhex(file_checksum(path)))
    scores = [(split, case, files.score) for split in PREDICTED for case, files in found.cases[split].items()]
    digest.update(repr(scores).encode(errors="surrogatepass"))
    return digest.hexdigest()
