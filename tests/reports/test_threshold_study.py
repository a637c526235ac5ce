"""How thresholds of another dataset, and of fewer validation images, are shown."""

import io
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from PIL import Image
from rich.console import Console, RenderableType

from miasbench.harness.analysis.threshold_shift import UNCHANGED
from miasbench.reports.threshold_shift import shift_report
from miasbench.reports.validation_sizes import sizes_figure, sizes_report

NAN = float("nan")


def shown(what: RenderableType) -> str:
    out = io.StringIO()
    Console(file=out, width=170).print(what)
    return out.getvalue()


def shift() -> pd.DataFrame:
    own = {"dataset": "liver", "threshold_from": "brain:size=64", "method": "padim", "looks_at": "normals"}
    own |= {"dice_own": 0.5, "dice_other": 0.375, "difference": -0.125, "difference_low": -0.3, "difference_high": 0.05}
    own |= {"patients": 5, "few_patients": True, "fpr_own": 0.01, "fpr_other": 0.125, "note": ""}
    same = {"dice_other": 0.5, "difference": 0.0, "looks_at": "image", "note": UNCHANGED["image"]}
    lost = dict.fromkeys(("dice_own", "dice_other", "difference", "fpr_own", "fpr_other", "difference_low"), NAN)
    note = "left out: on brain:size=64, the validation split has no lesion"
    return pd.DataFrame(
        [
            own | {"policy": "normal_quantile"},
            own | same | {"policy": "otsu"},
            own | lost | {"policy": "valid_dice", "few_patients": False, "note": note},
        ]
    )


def test_a_shift_is_shown_beside_the_own_threshold_and_what_is_unchanged_says_so() -> None:
    lines = shown(shift_report(shift())).splitlines()
    moved = next(line for line in lines if "normal_quantile" in line)
    for part in ("0.500", "0.375", "-0.125", "-0.30 to +0.05‡", "1 %", "12.5 %"):
        assert part in moved
    assert "unchanged" in next(line for line in lines if "otsu" in line)
    assert any(line.startswith("otsu is unchanged: it chooses for each image") for line in lines)
    assert "padim, valid_dice left out: on brain:size=64, the validation split has no lesion." in lines
    assert "thresholds chosen on brain instead of" in lines[0]


def sizes() -> pd.DataFrame:
    rows: list[dict[str, Any]] = []
    for method in ("a", "b", "c"):
        for policy in ("valid_dice", "normal_quantile"):
            for images, chose, dice in ((4, 15, 0.2), (8, 20, 0.25), (23, 1, 0.3)):
                row = {"dataset": "liver", "method": method, "policy": policy, "images": images, "of_images": 23}
                spread = {"dice_std": 0.05, "dice_low": dice - 0.1, "dice_high": dice + 0.05}
                rows.append(row | spread | {"draws": 1 if images == 23 else 20, "chose": chose, "dice_mean": dice})
    rows[0] |= {"chose": 0, "dice_mean": NAN, "dice_low": NAN, "dice_high": NAN}
    return pd.DataFrame(rows)


def test_the_table_of_sizes_says_how_many_draws_held_nothing_to_choose_by() -> None:
    text = shown(sizes_report(sizes()))
    assert "all 23" in text
    assert "0.200 ×5" in text
    assert "(0.10–0.25)" in text
    assert "– ×20" in text
    assert "nan" not in text


def test_the_figure_of_sizes_has_a_panel_for_each_method(tmp_path: Path) -> None:
    png = sizes_figure(sizes(), "liver", tmp_path)
    assert png == tmp_path / "validation_sizes-liver.png"
    assert png.with_suffix(".pdf").read_bytes().startswith(b"%PDF")
    assert Image.open(png).size[0] == pytest.approx(3.4 * 300, abs=2)
