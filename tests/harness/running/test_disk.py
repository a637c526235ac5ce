import shutil
from pathlib import Path

import pytest

from miasbench.harness.api import UsageError

from ...support.running import predictions, run

pytestmark = pytest.mark.usefixtures("plugins")

OF_A_CELL = 10 * (4 * 64**2 + 64**2 // 8)  # bytes of ten maps and masks, in float32


def with_free(monkeypatch: pytest.MonkeyPatch, free: int) -> None:
    monkeypatch.setattr(shutil, "disk_usage", lambda folder: (10**12, 10**12 - free, free))


def test_a_run_whose_predictions_do_not_fit_is_refused_before_it_starts(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with_free(monkeypatch, OF_A_CELL)
    with pytest.raises(UsageError, match=r"The run's predictions take about .* GB are free where .* is\. Use"):
        run(tmp_path / "new" / "results", "scripted", "intensity")
    assert not (tmp_path / "new").exists()


def test_the_files_are_no_larger_than_is_said_and_not_much_smaller(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store, _ = run(tmp_path, "scripted")
    written = sum((Path(str(store.folder)) / name).stat().st_size for name in predictions(store))
    with_free(monkeypatch, written)
    with pytest.raises(UsageError):
        run(tmp_path / "again", "scripted")
    with_free(monkeypatch, 2 * written)
    run(tmp_path / "again", "scripted")


def test_what_is_finished_needs_no_room(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run(tmp_path, "scripted")
    with_free(monkeypatch, 0)
    _, outcomes = run(tmp_path, "scripted")
    assert [outcome.status for outcome in outcomes] == ["kept"]


def test_maps_in_float16_take_half_and_those_that_are_not_kept_one_cell_at_a_time(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with_free(monkeypatch, OF_A_CELL)
    run(tmp_path / "half", "scripted", maps="float16")
    with_free(monkeypatch, 2 * OF_A_CELL)
    run(tmp_path / "none", "scripted", "intensity", "telling", maps="none")
