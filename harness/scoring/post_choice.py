"""Post-processing that is chosen on validation: `--post valid`."""

from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np

from ...results.predictions import StoredPrediction
from ...results.tables import with_post
from ..api import Split
from ..config import ScoreConfig
from ..specs import Spec, chain_text, parse_chain
from .decisions import NO_POLICY, Decision, PolicyColumns, of_imported
from .dice_curve import ROUNDING
from .masks import Overlap
from .post import VALID, Behind, PostDecision, PostUnavailableError, decide_behind
from .scanning import Predictions, Scanned, SplitTruths, Truths

DECLARED = (
    "median[size=5]",
    "min_area[px=20]",
    "largest",
    "fill_holes",
    "median[size=5],min_area[px=20],fill_holes",
)
"""The chains that `valid` chooses from, beside none at all, where no others are given."""

LeftOut = tuple[PolicyColumns, str]


def mean_dice(decision: Decision, truths: SplitTruths, stored: Sequence[StoredPrediction]) -> tuple[float, int]:
    """Mean DICE of a policy's masks over the validation images with a lesion, NaN without any; and their number.

    Args:
        decision: The policy, which makes a mask of each of these images.
        truths: Cases and masks of the validation split.
        stored: Predictions of the same cases, where they are scored.
    """
    anomalous = [index for index, truth in enumerate(truths.masks) if truth.overlap.any()]
    masks = [decision.mask("valid", index, stored[index].prediction) for index in anomalous]
    dice = [Overlap.of(mask, truths.masks[index].overlap).dice for mask, index in zip(masks, anomalous, strict=True)]
    return float(np.mean(dice)) if dice else float("nan"), len(dice)


def decide_behind_chains(
    truths: Truths,
    predictions: Predictions,
    scanned: Mapping[Split, Scanned],
    plain: Sequence[Decision],
    config: ScoreConfig,
) -> tuple[list[Behind], list[Decision], list[LeftOut]]:
    """Puts the chains that were asked for behind every policy.

    Args:
        truths: Cases and masks of each split.
        predictions: Predictions of the same cases, where they are scored.
        scanned: The pass over them.
        plain: The decisions without a chain.
        config: How to score.

    Returns:
        What each chain makes; the decisions of `valid`, where it is asked for; and what the dataset does not allow,
        with the reason.
    """

    def made(chains: Sequence[tuple[Spec, ...]]) -> tuple[list[Behind], list[LeftOut]]:
        found, left_out = [], []
        for specs in chains:
            try:
                found.append(decide_behind(specs, truths, predictions, scanned, plain, config))
            except PostUnavailableError as reason:
                text = chain_text(specs)
                left_out.append((PolicyColumns(with_post(NO_POLICY.policy, text), post=text), str(reason)))
        return found, left_out

    given = [specs for specs in config.post if specs != VALID]
    behind, left_out = made(given)
    if VALID not in config.post:
        return behind, [], left_out
    candidates = behind if given else made([parse_chain(text) for text in DECLARED])[0]
    chosen: list[Decision] = []
    for one in plain:
        why = _impossible(one, truths["valid"], scanned["valid"])
        name = with_post(one.columns.policy, chain_text(VALID))
        if why:
            left_out.append((one.columns._replace(policy=name, post=""), why))
        else:
            rivals = [one, *(each for chain in candidates for each in chain.decisions if _same(each, one))]
            chosen.append(_best(name, rivals, truths["valid"], predictions["valid"]))
    return behind, chosen, left_out


def _impossible(decision: Decision, valid: SplitTruths, scanned: Scanned) -> str:
    if not any(truth.overlap.any() for truth in valid.masks):
        return of_imported("the validation split has no lesion", scanned)
    if decision.thresholds is None and not scanned.own_masks:
        return "the method's own masks of the validation images are not there"
    return ""


def _same(behind: Decision, plain: Decision) -> bool:
    return behind.columns.policy == with_post(plain.columns.policy, behind.columns.post)


def _best(name: str, rivals: Sequence[Decision], valid: SplitTruths, stored: Sequence[StoredPrediction]) -> Decision:
    """The rival of the largest mean DICE on validation; of several, the first."""
    dice = np.array([mean_dice(one, valid, stored)[0] for one in rivals])
    best = int(np.flatnonzero(dice >= dice.max() - ROUNDING)[0])
    chosen = rivals[best]
    told = (
        f"post-processing chosen by mean DICE of anomalous validation images: {chosen.columns.post or 'none'}, "
        f"{dice[best]:.4g}; without any {dice[0]:.4g}; of {len(rivals)} chains"
    )
    before = chosen.before if isinstance(chosen, PostDecision) else chosen
    convention = "; ".join(filter(None, [before.convention, told]))
    # A promise is of the masks without a chain, as in the rows of each chain: also where none was chosen.
    return replace(chosen, columns=chosen.columns._replace(policy=name), convention=convention, promise=None)
