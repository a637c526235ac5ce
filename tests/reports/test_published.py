import io
import json
from typing import Any

import pandas as pd
import pytest
from rich.console import Console

from miasbench.reports.published import compare_with_published, published_tables
from miasbench.results.published_numbers import published
from miasbench.results.record import RunRecord
from miasbench.results.tables import SCORES, table

from ..support.records import record as least_record

PAPERS = {
    "encoder": "vit_b", "input_size": 1024, "precision": "float32", "flip": 0.5, "patch_size": 5, "stride": 2,
    "descriptor_size": 1024, "neighbours": 1, "sigma": 4.0, "normalisation": "test_set", "gamma": 5.0,
    "prompt": "centroid",
}  # fmt: skip
MIAS_SAM = "mias_sam[normalisation=test_set]"


def record(
    dataset: str = "liver_ct", tested: int = 1493, edges: str = "paper", padding: str = "count", **config: Any
) -> RunRecord:
    score = {"mask_edges": edges, "padding": padding}
    base = {"methods": [], "limit": 0, "set": {}, "epochs": None, "batch_size": None, "score": score}
    card = {"counts": {"test": 1493} if dataset == "liver_ct" else None}
    known = {dataset: {"fingerprint": "f" * 64, "card": card, "counts": {"test": tested}}}
    return least_record(config=base | config, datasets=known)


def row(method: str, metric: str, value: float, policy: str = "none", **changes: Any) -> dict[str, Any]:
    options = PAPERS if method.startswith("mias_sam") else {"epochs": 3, "batch_size": 32}
    base = dict.fromkeys(SCORES, "") | {
        "dataset": "liver_ct", "method": method, "metric": metric, "value": value, "policy": policy, "seed": 0,
        "size": 256, "transductive": False, "oracle": policy.startswith("oracle"), "threshold": 0.0, "n": 1493,
        "ci_low": 0.0, "ci_high": 0.0, "promised": float("nan"), "patients": 20,
        "weights": "some (published)", "options": json.dumps(options),
    }  # fmt: skip
    return base | changes


def compared(*rows: dict[str, Any], of: RunRecord | None = None) -> pd.DataFrame:
    return compare_with_published(of or record(), table(rows, SCORES), published())


def shown(comparison: pd.DataFrame) -> str:
    out = io.StringIO()
    Console(file=out, width=200).print(published_tables(comparison))
    return out.getvalue()


def test_a_run_of_the_papers_protocol_is_comparable() -> None:
    found = compared(row(MIAS_SAM, "dice", 0.4, "own"), row(MIAS_SAM, "pixel_auroc", 0.98))
    assert found["reasons"].tolist() == [(), ()]
    assert found["published"].tolist() == [0.4285, 0.9756]
    assert found["difference"].tolist() == pytest.approx([-0.0285, 0.0044])
    text = shown(found)
    assert text.count("yes") == 2
    assert "-0.029" in text or "-0.028" in text
    assert "liver_ct: measured, beside what was published of liver_ct" in text
    assert "MIAS-SAM (BMVC 2025, arXiv 2505.22762), Table 1: " in text


def test_seeds_are_averaged_and_the_papers_deviation_is_shown() -> None:
    found = compared(*(row("rd4ad", "image_auroc", value, seed=seed) for seed, value in enumerate((0.6, 0.7))))
    (one,) = found.itertuples()
    assert (one.measured, one.published, one.published_std) == pytest.approx((0.65, 0.6038, 0.0117))
    assert one.reasons == ()
    assert "0.650 ± 0.071" in shown(found)
    assert "0.604 ± 0.012" in shown(found)


@pytest.mark.parametrize(
    ("of", "changes", "says"),
    [
        (record(limit=50), {}, "only a part of the dataset was run (--limit 50)"),
        (record(tested=7), {}, "7 test images, where BMAD has 1493"),
        (record(edges="nearest"), {}, "--mask-edges nearest, where the source has paper"),
        (record(), {"weights": "lite_medsam (embedded)"}, "embedded weights, where the source has the paper's"),
        (record(), {"weights": "a (published), b (random)"}, "random weights, where the source has the paper's"),
        (record(), {"size": 128}, "--size 128, not the 256 of the paper's protocol"),
        (
            record(),
            {"options": json.dumps(PAPERS | {"gamma": 3.0}), "method": "mias_sam[gamma=3]"},
            "mias_sam[gamma=3]: gamma=3.0, where the source has 5.0",
        ),
    ],
)
def test_what_makes_a_run_not_comparable_is_said(of: RunRecord, changes: dict[str, Any], says: str) -> None:
    found = compared(row(MIAS_SAM, "dice", 0.4, "own") | changes, of=of)
    assert found["reasons"].tolist() == [(says,)]
    text = shown(found)
    assert "not comparable: a" in text
    assert f"a  {says}" in text


@pytest.mark.parametrize("dataset", ["phantom_liver_ct:train=4", "../data/liver_ct_msd", "my/Liver/"])
def test_other_data_are_not_comparable(dataset: str) -> None:
    found = compared(row(MIAS_SAM, "pixel_auroc", 0.9, dataset=dataset), of=record(dataset))
    assert found["published_dataset"].tolist() == ["liver_ct"]
    assert found["reasons"].tolist() == [("these are not BMAD's images of liver_ct",)]
    text = shown(found)
    assert "Published of liver_ct, whose images are not those of" in text
    assert "0.900" not in text, "what was measured on other images does not stand beside it"


def test_of_other_anatomy_nothing_is_known() -> None:
    found = compared(row(MIAS_SAM, "pixel_auroc", 0.9, dataset="knee"), of=record("knee"))
    assert found.empty
    assert "No published numbers are known" in shown(found)


def test_every_policy_stands_beside_a_baselines_dice_and_none_is_comparable() -> None:
    policies = ("own", "valid_dice", "oracle_dice")
    found = compared(*(row("rd4ad", "dice", 0.2, policy) for policy in policies))
    assert found["policy"].tolist() == ["valid_dice", "oracle_dice"], "a baseline of the paper's has no mask of its own"
    unknown = "the paper does not say how the baselines' thresholds were chosen"
    upper_bound = "its threshold was chosen on the test set's own masks: an upper bound"
    assert found["reasons"].tolist() == [(unknown,), (upper_bound, unknown)]


def test_only_its_own_mask_stands_beside_mias_sams_dice() -> None:
    assert compared(*(row(MIAS_SAM, "dice", 0.2, policy) for policy in ("own", "otsu")))["policy"].tolist() == ["own"]


def test_what_was_repeated_from_another_paper_is_shown_once_with_its_origin() -> None:
    found = compared(row("rd4ad", "pixel_auroc", 0.9))
    assert [source.partition(" ")[0] for source in found["source"]] == ["BMAD"]


def test_padding_that_only_one_of_two_numbers_counts_is_said() -> None:
    def reasons(method: str, metric: str, padding: str, dataset: str = "retina_oct") -> tuple[str, ...]:
        policy = "own" if metric == "dice" else "none"
        of = record(dataset, padding=padding)
        found = compared(row(method, metric, 0.9, policy, dataset=dataset), of=of)["reasons"].item()
        return tuple(reason for reason in found if "padding" in reason)

    assert reasons(MIAS_SAM, "pixel_auroc", "count") == reasons(MIAS_SAM, "dice", "count") == ()
    lifts = "--padding exclude, where the source counts the padding, which lifts its pixel scores"
    assert reasons(MIAS_SAM, "pixel_auroc", "exclude") == reasons(MIAS_SAM, "dice", "exclude") == (lifts,)
    lifted = "--padding count, which lifts what was measured; the source has no padding"
    assert lifted in reasons("patchcore", "pixel_auroc", "count")
    assert lifted not in reasons("patchcore", "pixel_auroc", "exclude")
    assert lifted not in reasons("patchcore", "image_auroc", "count")
    for padding in ("count", "exclude"):
        assert reasons(MIAS_SAM, "pixel_auroc", padding, "liver_ct") == (), "its images are square"
    of_paper = compared(row(MIAS_SAM, "pixel_auroc", 0.9, dataset="retina_oct"), of=record("retina_oct"))
    assert "half of each being black padding that counts" in shown(of_paper)


@pytest.mark.parametrize("metric", ["aupro", "pixel_auroc"])
def test_what_no_run_can_be_held_against_says_why(metric: str) -> None:
    liver = compared(row("rd4ad", metric, 0.9))["reasons"].item()
    retina = compared(row("rd4ad", metric, 0.9, dataset="retina_oct"), of=record("retina_oct"))["reasons"].item()
    assert any("AUPRO" in reason for reason in liver) == (metric == "aupro")
    assert any("stretches" in reason for reason in retina)


@pytest.mark.parametrize(
    ("of", "method", "says"),
    [
        (record(epochs=3), "rd4ad", "rd4ad: set was epochs=3"),
        (record(set={"rd4ad": {"backbone": "x"}}), "rd4ad", "rd4ad: set was backbone=x"),
        (record(epochs=3), "rd4ad[lr=1,k=2]", "rd4ad[lr=1,k=2]: set was lr=1,k=2, epochs=3"),
        (record(batch_size=3), "rd4ad", None),  # what it did not take
        (record(set={"cfa": {"k": 2}}), "rd4ad", None),
    ],
)
def test_options_that_a_baseline_was_given_make_it_not_comparable(of: RunRecord, method: str, says: str | None) -> None:
    assert compared(row(method, "image_auroc", 0.9), of=of)["reasons"].item() == ((says,) if says else ())


def test_failed_cells_and_what_could_not_be_measured_are_left_out() -> None:
    rows = [row(MIAS_SAM, "dice", float("nan"), "own"), row(MIAS_SAM, "pixel_auroc", 0.4, error="broken")]
    assert compared(*rows).empty
