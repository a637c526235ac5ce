"""Post-processing: a chain of operations between map and mask, the same for the masks of every policy and method.

Operations on maps come first: a policy chooses its threshold on what they make of the maps. Operations on masks follow
the threshold, and change a method's own masks too.
"""

from collections.abc import Hashable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace

import numpy as np

from ...results.predictions import StoredPrediction
from ...results.tables import with_post
from ..api import BenchError, LazySequence, Prediction, Split, UsageError
from ..config import ScoreConfig
from ..specs import Spec, chain_text, check_complete, check_options, option_types, suggest
from .decisions import Decision, decide
from .operations import OPERATIONS, ForegroundOperation, MapOperation, MaskOperation, Operation
from .scanning import IMAGES_OF, Predictions, Scanned, SplitTruths, Truths, scan
from .volumes import VolumeSlices

VALID = (Spec("valid"),)
"""Among chains, it stands for the one that is best on validation."""

ROOM = 2**27
"""Bytes of processed maps that are kept for each split and chain: each is needed about ten times."""


class PostUnavailableError(BenchError):
    """A chain that a dataset does not allow; the text says why, as the end of a sentence."""


@dataclass(frozen=True)
class Chain:
    """Operations in their order.

    Attributes:
        text: As in `--post`, such as `median[size=5],fill_holes`.
        of_maps: Those on maps.
        of_masks: Those on masks.
    """

    text: str
    of_maps: tuple[MapOperation, ...]
    of_masks: tuple[MaskOperation | ForegroundOperation, ...]

    @property
    def of_volumes(self) -> bool:
        """Whether a mask depends on the other slices of its volume."""
        return any(one.of_volumes for one in self.of_masks)

    def map(self, anomaly_map: np.ndarray) -> np.ndarray:
        """The map that thresholds are chosen for, float32 (H, W)."""
        for operation in self.of_maps:
            anomaly_map = operation.apply(anomaly_map)
        return anomaly_map


def make_chain(specs: Sequence[Spec]) -> Chain:
    """Makes a chain of post-processing.

    Args:
        specs: Its operations, in their order.

    Raises:
        UsageError: An operation is unknown, an option is unknown, missing or wrong, an operation on maps follows one on
            masks, or `valid` is one of several.
    """
    if VALID[0] in specs:
        raise UsageError(
            f"--post {chain_text(specs)}: valid chooses a chain, so it must stand alone, as in --post valid."
        )
    of_maps: list[MapOperation] = []
    of_masks: list[MaskOperation | ForegroundOperation] = []
    for operation, spec in zip(map(_make, specs), specs, strict=True):
        if isinstance(operation, MaskOperation | ForegroundOperation):
            of_masks.append(operation)
        elif isinstance(operation, MapOperation):
            if of_masks:
                raise UsageError(
                    f"--post {chain_text(specs)}: {spec} changes the map, before the threshold, so it must stand "
                    f"before {of_masks[0].name}, which changes the mask."
                )
            of_maps.append(operation)
    return Chain(chain_text(specs), tuple(of_maps), tuple(of_masks))


def _make(spec: Spec) -> Operation:
    if spec.name not in OPERATIONS:
        raise UsageError(f"There is no operation {spec.name!r} for --post. {suggest(spec.name, OPERATIONS)}")
    cls = OPERATIONS[spec.name]
    options = check_options(str(spec), dict(spec.options), option_types(cls))
    check_complete(spec, cls, options)
    try:
        return cls(**options)
    except ValueError as error:
        raise UsageError(f"{spec}: {error}.") from error


def check_chains(chains: Iterable[Sequence[Spec]]) -> None:
    """Refuses chains that cannot be made, but for `valid`.

    Raises:
        UsageError: As `make_chain`.
    """
    for specs in chains:
        if tuple(specs) != VALID:
            make_chain(specs)


class Processed:
    """The predictions of a split behind a chain.

    Args:
        chain: The chain.
        truths: The split's cases, with the distances between pixels and the volumes.
        stored: Predictions of the same cases, in the same order, where they are scored.

    Attributes:
        chain: The chain.
        stored: The predictions with the maps that thresholds are chosen for.

    Raises:
        PostUnavailableError: The dataset does not say what the chain needs.
    """

    def __init__(self, chain: Chain, truths: SplitTruths, stored: Sequence[StoredPrediction]) -> None:
        self.chain = chain
        self._spacings = [one.spacing for one in truths.lesions]
        self._foregrounds = truths.foregrounds
        self._volumes = {index: volume for volume in truths.volumes for index in volume.indices}
        self.stored = LazySequence(len(stored), _Kept(chain, stored)) if chain.of_maps else stored
        _check(chain, truths, self._spacings, self._volumes)

    def mask(self, decision: Decision, split: Split, index: int, prediction: Prediction) -> np.ndarray:
        """The mask of an image behind a chain that does not look at its volume, bool (H, W).

        Args:
            decision: It makes the mask of a map.
            split: The split.
            index: The image's place in it.
            prediction: The image's, as it is stored.
        """
        if self.chain.of_maps:
            prediction = self.stored[index].prediction
        mask = decision.mask(split, index, prediction)
        for operation in self.chain.of_masks:
            mask = self._changed(operation, mask, index)
        return mask

    def _changed(self, operation: MaskOperation | ForegroundOperation, mask: np.ndarray, index: int) -> np.ndarray:
        """The mask of one image behind one operation."""
        if isinstance(operation, ForegroundOperation):
            return operation.apply(mask, None if self._foregrounds is None else self._foregrounds[index])
        return operation.apply(mask, self._spacings[index])

    def volume(self, index: int) -> VolumeSlices:
        """The volume that an image is a slice of."""
        return self._volumes[index]

    def masks(self, decision: Decision, split: Split, volume: VolumeSlices) -> list[np.ndarray]:
        """The masks of a volume's slices, bool (H, W) each."""
        masks = [decision.mask(split, index, self.stored[index].prediction) for index in volume.indices]
        for operation in self.chain.of_masks:
            if isinstance(operation, MaskOperation) and operation.of_volumes:
                whole = operation.apply(volume.put_together(masks), volume.spacing)
                masks = [whole[position - volume.positions[0]] for position in volume.positions]
            else:
                indexed = zip(masks, volume.indices, strict=True)
                masks = [self._changed(operation, mask, index) for mask, index in indexed]
        return masks


@dataclass(frozen=True)
class PostDecision(Decision):
    """A policy that has chosen, with a chain behind it.

    Attributes:
        before: The same without the operations on masks.
        processed: The predictions of each split.
        latest: The masks of the volume that was asked for last, where the chain works on volumes.
    """

    before: Decision = field(kw_only=True)
    processed: Mapping[Split, Processed] = field(kw_only=True)
    latest: dict[Split, tuple[VolumeSlices, list[np.ndarray]]] = field(
        default_factory=dict, kw_only=True, compare=False
    )

    @classmethod
    def of(cls, before: Decision, chain: Chain, processed: Mapping[Split, Processed]) -> "PostDecision":
        """Puts a chain behind a decision that was made on the chain's maps."""
        columns = before.columns._replace(policy=with_post(before.columns.policy, chain.text), post=chain.text)
        told = "; ".join(filter(None, [before.convention, f"post-processing: {chain.text}"]))
        return cls(columns, before.thresholds, told, before=before, processed=processed)

    def mask(self, split: Split, index: int, prediction: Prediction) -> np.ndarray:
        processed = self.processed[split]
        if not processed.chain.of_volumes:
            return processed.mask(self.before, split, index, prediction)
        volume = processed.volume(index)
        if split not in self.latest or self.latest[split][0] is not volume:
            self.latest[split] = volume, processed.masks(self.before, split, volume)
        return self.latest[split][1][volume.indices.index(index)]

    def of_mask(self, split: Split, index: int) -> Hashable:
        processed = self.processed[split]
        slices = processed.volume(index).indices if processed.chain.of_volumes else (index,)
        return self.columns.post, *(self.threshold(split, one) for one in slices)


@dataclass(frozen=True)
class Behind:
    """All that a chain makes of a cell.

    Attributes:
        chain: The chain.
        decisions: Those of every policy, with the chain behind them.
        stored: The predictions of the test split, with the chain's maps.
        scanned: The pass over them.
    """

    chain: Chain
    decisions: list[PostDecision]
    stored: Sequence[StoredPrediction]
    scanned: Scanned


def decide_behind(
    specs: Sequence[Spec],
    truths: Truths,
    predictions: Predictions,
    scanned: Mapping[Split, Scanned],
    plain: Sequence[Decision],
    config: ScoreConfig,
) -> Behind:
    """Puts a chain behind every policy, whose thresholds are chosen anew where the chain changes maps.

    Args:
        specs: The chain.
        truths: Cases and masks of each split.
        predictions: Predictions of the same cases, where they are scored.
        scanned: The pass over them.
        plain: The decisions without a chain.
        config: How to score.

    Raises:
        PostUnavailableError: The dataset does not say what the chain needs.
    """
    chain = make_chain(specs)
    processed: dict[Split, Processed] = {
        split: Processed(chain, one, predictions[split]) for split, one in truths.items()
    }
    if chain.of_maps:
        scanned = {split: scan(one, processed[split].stored, scanned[split].limit) for split, one in truths.items()}
        plain, _ = decide(scanned, config.thresholds, config.fixed_threshold)
    decisions = [PostDecision.of(one, chain, processed) for one in plain]
    return Behind(chain, decisions, processed["test"].stored, scanned["test"])


class _Kept:
    """Reads predictions with their processed maps, of which as many are kept as there is room for."""

    def __init__(self, chain: Chain, stored: Sequence[StoredPrediction]) -> None:
        self._chain, self._stored = chain, stored
        self._maps: dict[int, np.ndarray] = {}
        self._room = ROOM
        self._latest: tuple[int, StoredPrediction] | None = None

    def __call__(self, index: int) -> StoredPrediction:
        if self._latest is None or self._latest[0] != index:
            one = self._stored[index]
            processed = replace(one.prediction, anomaly_map=self._map(index, one.prediction.anomaly_map))
            self._latest = index, replace(one, prediction=processed)
        return self._latest[1]

    def _map(self, index: int, anomaly_map: np.ndarray) -> np.ndarray:
        if index in self._maps:
            return self._maps[index]
        processed = self._chain.map(anomaly_map)
        if processed.nbytes <= self._room:
            self._maps[index], self._room = processed, self._room - processed.nbytes
        return processed


def _check(
    chain: Chain,
    truths: SplitTruths,
    spacings: Sequence[tuple[float, ...] | None],
    volumes: Mapping[int, VolumeSlices],
) -> None:
    images = range(len(truths.cases))
    for operation in chain.of_masks:
        without = [index for index in images if index not in volumes] if operation.of_volumes else []
        if without:
            why = _unknown(truths, without, "it")
            left_out = "".join(f"; {sentence}" for sentence in truths.volumes_left_out)
            raise PostUnavailableError(
                f"{operation.name} needs to know which volume each image is a slice of, and {why}{left_out}"
            )
        known = [volumes[index].spacing for index in images] if operation.of_volumes else spacings
        without = [index for index in images if known[index] is None] if operation.needs_spacing else []
        if without:
            why = _unknown(truths, without, "them")
            raise PostUnavailableError(f"{operation.name} needs the distances between pixels in mm, and {why}")


def _unknown(truths: SplitTruths, without: Sequence[int], what: str) -> str:
    """Says of how many images the dataset does not say something."""
    first, total = truths.cases[without[0]], len(truths.cases)
    image = IMAGES_OF[first.split]
    if len(without) == total:
        return f"the dataset does not say {what} of any {image}"
    return f"the dataset does not say {what} of {len(without)} of {total} {image}s, such as {first.id}"
