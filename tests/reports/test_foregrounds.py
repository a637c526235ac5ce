"""The drawn foregrounds: from the smallest to the largest, outlined in orange."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from miasbench.harness.front.report import write_report
from miasbench.reports.foregrounds import SHOWN, Foreground, foreground_figure, spread

from ..support.running import run

SIDE = 48


def shown(count: int) -> list[Foreground]:
    found = []
    for index in range(count):
        foreground, truth = np.zeros((SIDE, SIDE), bool), np.zeros((SIDE, SIDE), bool)
        foreground[8:40, 8 : 12 + 3 * index] = True
        truth[20:24, 9:12] = index > 0
        found.append(Foreground(f"$case_{index}", np.full((SIDE, SIDE), 60, np.uint8), truth, foreground))
    return found


def has(colour: tuple[int, int, int], path: Path) -> bool:
    pixels = np.asarray(Image.open(path).convert("RGB")).astype(int)
    return bool((np.abs(pixels - colour).max(axis=2) < 6).any())


@pytest.mark.parametrize("count", [1, 3, 8])
def test_outlines_are_drawn(tmp_path: Path, count: int) -> None:
    pdf, png = foreground_figure("liver_ct:size=64", "liver: foreground (otsu)", shown(count), tmp_path)
    assert pdf.exists() and png.name.startswith("foreground-liver_ct")
    assert has((230, 159, 0), png), "the foreground"
    assert has((0, 158, 115), png) == (count > 1), "the lesion"


def test_images_are_spread_from_the_smallest_share_to_the_largest() -> None:
    shares = np.random.default_rng(0).permutation(40) / 40
    chosen = [shares[index] for index in spread(shares.tolist())]
    assert chosen == sorted(chosen) and len(chosen) == SHOWN
    assert (chosen[0], chosen[-1]) == (0, 39 / 40)
    assert spread([0.5, 0.1]) == [1, 0]


def test_a_report_shows_the_foreground_where_it_is_not_all_of_the_image(tmp_path: Path) -> None:
    store, _ = run(tmp_path / "results", "intensity")
    written = write_report([store], tmp_path / "otsu")
    (drawn,) = [file for file in written.files if file.name.startswith("foreground-") and file.suffix == ".png"]
    assert drawn.exists()
    page = (tmp_path / "otsu" / "report.html").read_text(encoding="utf-8")
    assert "the foreground in orange" in page and "Promised and realised false positives" in page
    whole, _ = run(tmp_path / "whole", "intensity", score={"foreground": "all"})
    written = write_report([whole], tmp_path / "all")
    assert not [file for file in written.files if file.name.startswith("foreground-")]
