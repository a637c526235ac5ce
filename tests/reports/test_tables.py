import io
from typing import Any

import pandas as pd
from rich.console import Console

from miasbench.reports.names import policy_title
from miasbench.reports.tables import POLICY_ORDER, default_policy, ordered_policies, run_tables
from miasbench.results.extent import Extent
from miasbench.results.tables import HEADLINE, SCORES, failed_cell, table

SHOWN = (*POLICY_ORDER, "of_a_plugin", "oracle_dice")
CELL: dict[str, Any] = {
    "dataset": "liver_ct",
    "dataset_fingerprint": "f",
    "method": "mias_sam",
    "options": "{}",
    "weights": "lite_medsam (embedded)",
    "weights_sha256": "ab",
    "seed": 0,
    "size": 256,
    "transductive": False,
    "external": "",
    "seen": "",
    "cell": "c",
}


def row(metric: str, value: float, policy: str = "none", **changes: Any) -> dict[str, Any]:
    oracle = policy == "oracle_dice"
    base = {"policy": policy, "looks_at": "nothing", "oracle": oracle, "threshold": float("nan")}
    scored = {"metric": metric, "value": value, "ci_low": float("nan"), "ci_high": float("nan"), "n": 5}
    return CELL | base | scored | {"convention": "", "note": "", "error": ""} | changes


def text(*rows: dict[str, Any], failed: pd.DataFrame | None = None) -> str:
    scores = table(rows, SCORES)
    out = io.StringIO()
    Console(file=out, width=300).print(run_tables(scores if failed is None else pd.concat([scores, failed])))
    return out.getvalue()


def test_a_column_for_each_policy_in_its_order() -> None:
    shown = text(*(row("dice", 0.1 + index / 100, policy) for index, policy in enumerate(reversed(SHOWN))))
    header = next(line for line in shown.splitlines() if "method" in line)
    places = [header.index(policy.replace("_", " ")) for policy in SHOWN]
    assert places == sorted(places)
    assert "an upper bound, not a result" in shown


def test_one_seed_has_an_interval_and_several_a_deviation() -> None:
    one = text(row("dice", 0.4256, "own", ci_low=0.33, ci_high=0.52))
    assert "0.426" in one
    assert "0.33–0.52" in one
    several = text(row("dice", 0.4, "own", ci_low=0.3, ci_high=0.5), row("dice", 0.5, "own", seed=1))
    assert "0.450 ± 0.071" in several
    assert "0.30–0.50" not in several
    both = text(*(row("dice", 0.4 + seed / 10, "otsu", seed=seed, ci_low=0.3, ci_high=0.5) for seed in (0, 1)))
    assert "0.450 ± 0.071" in both
    assert "0.00–1.00" in both, "over seeds and patients together"
    assert "0.33–0.52‡" in text(row("dice", 0.4256, "own", ci_low=0.33, ci_high=0.52, patients=3))


def test_the_policy_to_report_is_never_chosen_by_its_score() -> None:
    def chosen(*rows: dict[str, Any]) -> tuple[str, str]:
        return default_policy(table(rows, SCORES))

    own = row("dice", 0.1, "own")
    assert chosen(own, row("dice", 0.9, "otsu")) == (HEADLINE, "")
    assert chosen(row("dice", 0.1, "valid_dice"), row("dice", 0.9, "otsu")) == (HEADLINE, "")
    better = row("dice", 0.9, "otsu"), row("dice", 0.1, "normal_quantile"), row("dice", 0.9, "otsu + largest")
    policy, why = chosen(*better)
    assert policy == "normal_quantile"
    assert "Masks are those of normal_quantile" in why
    assert chosen(*better, row("dice", 0.2, "otsu", method="patchcore"))[0] == "otsu", "which all methods have"


def test_what_was_not_measured_is_a_dash() -> None:
    shown = text(row("dice", 0.3, "own"), row("dice", 0.2, "otsu", method="patchcore"), row("pixel_auroc", 0.9))
    lines = [line for line in shown.splitlines() if "patchcore" in line]
    assert lines
    assert all("–" in line for line in lines)


def test_what_a_reader_must_know_stands_below() -> None:
    shown = text(
        row("dice", 0.3, "own", transductive=True),
        row("dice", float("nan"), "valid_dice", note="left out: the validation split has no lesion"),
        failed=failed_cell(CELL | {"method": "patchcore", "seed": 3}, "RuntimeError: broken")[1],
    )
    assert "mias_sam *" in shown
    assert "*: transductive" in shown
    assert "valid_dice left out: the validation split has no lesion." in shown
    assert "FAILED liver_ct · patchcore · seed 3: RuntimeError: broken" in shown
    assert "Weights: lite_medsam (embedded)." in shown


def test_what_methods_measured_of_themselves_stands_below_once() -> None:
    note = "pca_ivf: 124,928 rows"
    shown = text(
        row("dice", 0.3, "own"),
        row("index_recall", 0.9931, note=note),
        row("index_map_error", 0.0058, note=note),
        row("bank_rows", 124928, method="patchcore"),
        row("lost", float("nan"), method="patchcore"),
        row("dice", float("nan"), "valid_dice", note="left out: the validation split has no lesion"),
    )
    lines = shown.splitlines()
    assert "mias_sam: index_recall 0.993, index_map_error 0.006 (pca_ivf: 124,928 rows)" in lines
    assert "patchcore: bank_rows 124,928, lost –" in lines
    assert shown.count(note) == 1
    assert shown.count("left out: the validation split has no lesion.") == 1


def test_what_was_measured_with_several_seeds_has_a_deviation() -> None:
    shown = text(*(row("index_recall", value, seed=seed, note="pca") for seed, value in enumerate((0.9, 1.0))))
    assert "mias_sam: index_recall 0.950 ± 0.071 (pca)" in shown.splitlines()


def test_each_dataset_has_its_own_measurements() -> None:
    shown = text(
        row("depth", 0.1), row("dice", 0.4, "own", dataset="brain_mri"), row("depth", 0.2, dataset="brain_mri")
    )
    assert shown.index("depth 0.100") < shown.index("brain_mri: mean DICE") < shown.index("depth 0.200")


def test_text_in_brackets_is_shown_as_it_is() -> None:
    shown = text(
        row("dice", 0.3, "own", dataset="a[1]", method="b[red]"),
        failed=failed_cell(CELL, "KeyError: [bold]'x'[/bold]")[1],
    )
    assert "a[1]" in shown
    assert "b[red]" in shown
    assert "[bold]'x'[/bold]" in shown


def test_how_much_was_measured_stands_above_and_what_concerns_the_data_below() -> None:
    spec = "phantom:train=4,size=64"
    extent = Extent(spec, 5, 2, 3, 2, 64, 8, (0,), ("colour was made grey",))
    out = io.StringIO()
    Console(file=out, width=200).print(
        run_tables(table([row("dice", 0.3, "own", dataset=spec)], SCORES), {spec: extent})
    )
    lines = out.getvalue().splitlines()
    assert lines[:3] == ["phantom: mean DICE of anomalous images, by threshold policy", spec, f"{extent}."]
    assert f"{spec}: colour was made grey" in lines[3:]


def test_each_dataset_has_its_tables() -> None:
    shown = text(row("dice", 0.3, "own"), row("dice", 0.4, "own", dataset="brain_mri"))
    assert shown.index("liver_ct: mean DICE") < shown.index("brain_mri: mean DICE")


def test_a_long_name_is_shown_whole() -> None:
    name = "sam_refine[base=patchcore[coreset=0.1,neighbours=1],normalisation=test_set,prompt=centroid_box]"
    rows = [row("dice", 0.1, policy, method=name) for policy in SHOWN]
    out = io.StringIO()
    Console(file=out, width=140).print(run_tables(table(rows, SCORES)))
    first_column = "".join(line[1:].split("│")[0].strip() for line in out.getvalue().splitlines() if line[:1] == "│")
    assert name in first_column


def test_variants_of_a_policy_stand_together_in_the_order_of_the_table_and_oracles_last() -> None:
    names = ["best", "otsu", "mine[b=10]", "mine[b=2]", "normal_quantile[q=0.99]", "normal_quantile[q=0.5]", "mine"]
    rows = pd.DataFrame({"policy": names, "oracle": [name == "best" for name in names]})
    expected = ["normal_quantile[q=0.99]", "normal_quantile[q=0.5]", "otsu", "mine[b=10]", "mine[b=2]", "mine", "best"]
    assert ordered_policies(rows) == expected


def test_the_title_of_a_policy_keeps_the_text_of_its_options() -> None:
    assert policy_title("normal_quantile") == "normal quantile"
    assert policy_title("normal_quantile[q=0.95]") == "normal quantile [q=0.95]"
    assert policy_title("by_rule[a_b=c_d]") == "by rule [a_b=c_d]"


def test_each_oracle_of_the_table_is_told_below() -> None:
    oracles = [row("dice", 0.5, name, oracle=True, looks_at="oracle") for name in ("oracle_dice", "greedy")]
    shown = text(*oracles, row("dice", 0.4, "otsu"))
    assert "oracle_dice chooses its threshold on the test set's own masks" in shown
    assert "greedy chooses its threshold on the test set's own masks" in shown
    assert "own masks" not in text(row("dice", 0.4, "otsu"), row("best_f1", 0.4, oracle=True))
