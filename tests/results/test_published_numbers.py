import pandas as pd
import pytest

from miasbench.harness.registry import METHODS
from miasbench.results.metrics import METRICS
from miasbench.results.published_numbers import PUBLISHED, published


@pytest.fixture(scope="module")
def table() -> pd.DataFrame:
    return published()


def test_both_tables_are_there_whole(table: pd.DataFrame) -> None:
    assert table.dtypes.astype(str).to_dict() == PUBLISHED
    counts = table.groupby([table["source"].str.partition(" ")[0], "metric"]).size().to_dict()
    assert counts == {
        ("BMAD", "aupro"): 30,
        ("BMAD", "image_auroc"): 30,
        ("BMAD", "pixel_auroc"): 30,
        ("MIAS-SAM", "dice"): 21,
        ("MIAS-SAM", "pixel_auroc"): 21,
    }
    assert not table.duplicated(["dataset", "method", "metric", "source"]).any()
    assert table["value"].between(0.05, 1).all(), "fractions"
    assert set(table["dataset"]) == {"brain_mri", "liver_ct", "retina_oct"}
    assert set(table["metric"]) <= set(METRICS)
    assert (table["protocol"] != "").all()


@pytest.mark.parametrize(
    ("dataset", "method", "metric", "value", "std"),
    [
        ("liver_ct", "mias_sam", "dice", 0.4285, None),
        ("retina_oct", "patchcore", "dice", 0.5704, None),
        ("brain_mri", "recontrast", "pixel_auroc", 0.9564, None),
        ("liver_ct", "draem", "image_auroc", 0.6995, 0.0386),
        ("retina_oct", "cflow", "aupro", 0.7680, 0.0172),
    ],
)
def test_numbers_are_those_of_the_papers(
    table: pd.DataFrame, dataset: str, method: str, metric: str, value: float, std: float | None
) -> None:
    (row,) = table.query("dataset == @dataset and method == @method and metric == @metric").itertuples()
    assert row.value == value
    assert pd.isna(row.std) if std is None else row.std == std  # type: ignore[arg-type]


def test_methods_have_the_registrys_names(table: pd.DataFrame) -> None:
    assert set(table["method"]) - set(METHODS) == {"utrad", "mkd"}, "these two are not here"


def test_what_mias_sams_table_repeats_from_bmads_is_marked_and_is_the_same(table: pd.DataFrame) -> None:
    copied = table[table["copied_from"] != ""]
    assert len(copied) == 5 * 3
    assert set(copied["metric"]) == {"pixel_auroc"}
    for row in copied.itertuples():
        original = table.query("source == @row.copied_from and dataset == @row.dataset and method == @row.method")
        assert original.loc[original["metric"] == "pixel_auroc", "value"].tolist() == [row.value]
