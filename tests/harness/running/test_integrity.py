"""`bench verify` and what it rests on: whatever was changed in a run's folder is found and named."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from miasbench.datasets.phantom import phantom_brain_mri, write_bmad
from miasbench.harness.analysis.doubts import doubts, scores_against_cases
from miasbench.harness.analysis.recorded import moved_datasets, recorded_config, recorded_datasets
from miasbench.harness.analysis.run_difference import compare_runs
from miasbench.harness.api import DataError, UsageError
from miasbench.harness.running.integrity import Verification, verify_run
from miasbench.harness.running.rescoring import rescore
from miasbench.results.predictions import StoredPrediction
from miasbench.results.store import RunStore

from ...support import running
from ...support.records import rewrite


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> RunStore:
    """A run of two methods without randomness on a folder of images."""
    root = tmp_path_factory.mktemp("made")
    write_bmad(phantom_brain_mri(Path(), train=3, valid=4, test=6, size=64), root / "mine")
    store, _ = running.run(root / "results", "intensity", "intensity[sigma=4]", dataset=[str(root / "mine")])
    return store


@pytest.fixture
def store(made: RunStore, tmp_path: Path) -> RunStore:
    """A copy of it, to be changed."""
    shutil.copytree(made.folder.path, tmp_path / made.name)
    return RunStore(tmp_path / made.name)


def folder(store: RunStore) -> Path:
    assert isinstance(store.folder, Path)
    return store.folder


def change(path: Path, how: Callable[[pd.DataFrame], None]) -> None:
    table = pd.read_parquet(path)
    how(table)
    table.to_parquet(path, index=False)


def add_half(scores: pd.DataFrame) -> None:
    scores.loc[scores["metric"].isin(["dice", "dice_pooled"]) & (scores["policy"] == "valid_dice"), "value"] += 0.5


def about(found: Verification, *words: str) -> list[str]:
    return [problem for problem in found.problems if all(word in problem for word in words)]


def without_checksums(store: RunStore) -> None:
    """As version 0.1.0 wrote it."""
    path = folder(store) / "run.json"
    record = json.loads(path.read_text())
    del record["tables"], record["seal"]
    path.write_text(json.dumps(record))


def test_a_run_as_it_was_written_agrees(made: RunStore) -> None:
    found = verify_run(made)
    assert (found.problems, found.unchecked) == ([], [])
    checked = " ".join(found.checked)
    for what in ("12 files of tables", "seal", "scores against cases", "scores against volumes", "ranks"):
        assert what in checked
    assert "against its predictions" in checked
    assert doubts(made) == []


def test_it_agrees_still_after_it_was_scored_again(store: RunStore) -> None:
    rescore(store, None)
    assert verify_run(store).problems == []


@pytest.mark.parametrize("older", [False, True])
def test_half_added_to_scores_is_found(store: RunStore, older: bool) -> None:
    if older:
        without_checksums(store)
    change(folder(store) / "scores.parquet", add_half)
    (said, *_) = doubts(store)
    assert ("the cases give" if older else "its checksum is another") in said
    found = verify_run(store)
    scores = store.scores().query("metric == 'dice' and policy == 'valid_dice'")
    value = scores["value"].iloc[0]
    (first, *_) = about(found, "scores.parquet", "valid_dice · dice:", scores["cell"].iloc[0])
    assert f"the value is {value:.6g}, the cases give {value - 0.5:.6g}" in first
    assert about(found, "scores.csv", "value")
    assert bool(about(found, "checksum")) != older
    assert bool([why for why in found.unchecked if "older version" in why]) == older


def test_a_changed_row_of_the_cases_is_found(store: RunStore) -> None:
    def better(cases: pd.DataFrame) -> None:
        cases.loc[cases.index[0], "dice"] = 0.987

    before = store.cases()["dice"].iloc[0]
    change(folder(store) / "cases.parquet", better)
    row = store.cases().iloc[0]
    found = verify_run(store)
    (first, *_) = about(found, "cases.parquet", row["case"], "dice")
    assert f"it is 0.987, the cell's own table {before:.6g}" in first


def test_what_is_changed_everywhere_is_found_by_the_predictions(store: RunStore) -> None:
    def better(cases: pd.DataFrame) -> None:
        cases["image_score"] += 1

    for path in [folder(store) / "cases.parquet", *folder(store).glob("cells/*/cases.parquet")]:
        change(path, better)
    found = verify_run(store)
    assert about(found, "cases.parquet", "image_score", "the prediction has")
    assert about(found, "cells/", "image_score", "the predictions give")


def test_swapped_predictions_are_found(store: RunStore) -> None:
    one, other = sorted(folder(store).glob("cells/*/test/*.npz"))[:2]
    content = one.read_bytes()
    one.write_bytes(other.read_bytes())
    other.write_bytes(content)
    found = verify_run(store)
    assert not about(found, "seal")
    assert about(found, f"{one.name} cannot be read (it is that of the case {other.stem})")
    assert about(found, f"{other.name} cannot be read (it is that of the case {one.stem})")


def test_another_prediction_without_a_broken_seal_is_found(store: RunStore) -> None:
    (cell, *_) = [store.cell(cell.name) for cell in store.read().cells]
    case = str(store.cases()["case"].iloc[0])
    stored = cell.read_prediction("test", case)
    better = StoredPrediction(stored.prediction, stored.seconds)
    better.prediction.anomaly_map[:] = np.random.default_rng(0).random(better.prediction.anomaly_map.shape)
    cell.write_prediction("test", case, better, "float32")
    assert about(verify_run(store), "otsu", "threshold", "the predictions give")


def test_a_damaged_and_a_missing_prediction_are_found(store: RunStore) -> None:
    one, other = sorted(folder(store).glob("cells/*/test/*.npz"))[:2]
    one.write_bytes(one.read_bytes()[:-80] + b"0" * 80)
    other.unlink()
    found = verify_run(store)
    assert about(found, one.name, "its seal is broken")
    assert about(found, "5 predictions are there, run.json has 6 cases")


@pytest.mark.parametrize("key", ["seed", "size", "fingerprint", "code", "options"])
def test_a_changed_entry_of_the_record_is_found(store: RunStore, key: str) -> None:
    record = json.loads((folder(store) / "run.json").read_text())
    entry = record["cells"][0]
    entry[key] = {"seed": 7, "size": 99, "options": {"sigma": 1.0}}.get(key, "other")
    (folder(store) / "run.json").write_text(json.dumps(record))
    found = verify_run(store)
    assert about(found, "run.json: it was changed")
    assert about(found, f"cell {entry['name']}: its entry was changed")


def test_a_changed_environment_is_found(store: RunStore) -> None:
    record = json.loads((folder(store) / "run.json").read_text())
    record["environment"]["git_commit"] = "0" * 40
    (folder(store) / "run.json").write_text(json.dumps(record))
    assert verify_run(store).problems == ["run.json: it was changed after it was written: its seal is broken."]


@pytest.mark.parametrize("name", ["ranks", "comparisons"])
def test_changed_ranks_and_comparisons_are_found(store: RunStore, name: str) -> None:
    def turn(table: pd.DataFrame) -> None:
        column = "rank" if name == "ranks" else "difference"
        table[column] = -table[column]

    without_checksums(store)
    change(folder(store) / f"{name}.parquet", turn)
    assert about(verify_run(store), f"{name}.parquet", "the cases give")


def test_a_table_that_is_gone_or_damaged_is_found(store: RunStore) -> None:
    (folder(store) / "curves.parquet").unlink()
    (folder(store) / "ranks.parquet").write_bytes(b"none")
    (folder(store) / "scores.csv").unlink()
    found = verify_run(store)
    assert about(found, "curves.parquet: it is gone")
    assert about(found, "ranks.parquet cannot be read")
    assert about(found, "scores.csv: it is gone.")


def test_a_changed_csv_is_found_by_its_line(store: RunStore) -> None:
    without_checksums(store)
    path = folder(store) / "cases.csv"
    lines = path.read_text().splitlines()
    lines[2] = lines[2].replace("intensity", "intensive", 1)
    path.write_text("\n".join(lines) + "\n")
    assert about(verify_run(store), "cases.csv, line 3", "intensive")


def test_without_the_images_it_says_what_was_not_checked(store: RunStore, tmp_path: Path) -> None:
    rewrite(store, lambda record: record["config"].update(dataset=[str(tmp_path / "gone")]))
    found = verify_run(store)
    assert found.problems == []
    assert [why for why in found.unchecked if "against its predictions" in why and "--dataset mine=PATH" in why]


def test_without_maps_it_says_what_was_not_checked(tmp_path: Path) -> None:
    store, _ = running.run(tmp_path, "intensity", maps="none")
    found = verify_run(store)
    assert found.problems == []
    assert [why for why in found.unchecked if "were not kept" in why]


def test_two_runs_with_changed_tables_are_not_compared_in_silence(made: RunStore, store: RunStore) -> None:
    without_checksums(store)
    change(folder(store) / "scores.parquet", add_half)
    difference = compare_runs(made, store)
    assert difference.changes[0][1:] == (
        "tables",
        "as written",
        "changed since the run",
    )
    assert "the cases give" in difference.doubts[0]


class TestDatasets:
    """Where a run's datasets are now."""

    def test_names_may_hold_an_equals_sign(self) -> None:
        names = ["phantom:test=6", "mine", "mine=a"]
        texts = ["phantom:test=6=/x=y", "mine=a=/z", "mine=/w"]
        assert moved_datasets(texts, names) == {"phantom:test=6": "/x=y", "mine=a": "/z", "mine": "/w"}

    @pytest.mark.parametrize("text", ["other=/x", "mine", "mine="])
    def test_other_texts_are_refused(self, text: str) -> None:
        with pytest.raises(UsageError, match=r"NAME=PATH.* There: mine\."):
            moved_datasets([text], ["mine"])

    def test_a_moved_dataset_is_found_where_it_is_said_to_be(self, store: RunStore, tmp_path: Path) -> None:
        shutil.copytree(recorded_config(store).dataset[0], tmp_path / "moved")
        rewrite(store, lambda record: record["config"].update(dataset=[str(tmp_path / "gone")]))
        with pytest.raises(DataError, match="--dataset mine=PATH says where it is now"):
            rescore(store)
        moved = {"mine": str(tmp_path / "moved")}
        assert rescore(store, moved=moved) == []
        assert verify_run(store, moved).unchecked == []

    def test_another_one_is_refused_with_both_fingerprints(self, store: RunStore, tmp_path: Path) -> None:
        write_bmad(phantom_brain_mri(Path(), train=3, valid=4, test=5, size=64), tmp_path / "other")
        fingerprint = store.read().datasets["mine"].fingerprint
        for use in (rescore, verify_run):
            with pytest.raises(UsageError, match=rf"fingerprint is [0-9a-f]{{64}}, the run's {fingerprint}"):
                use(store, moved={"mine": str(tmp_path / "other")})

    def test_one_that_is_gone_hides_no_other(self, store: RunStore) -> None:
        def add_another(record: dict[str, Any]) -> None:
            record["config"]["dataset"].insert(0, "./gone")
            record["datasets"] = {"gone": {"fingerprint": "0" * 64, "card": {}}} | record["datasets"]

        rewrite(store, add_another)
        opened, missing = recorded_datasets(store)
        assert (list(opened), list(missing)) == (["mine"], ["gone"])


def test_cases_of_an_older_version_lack_what_came_later(store: RunStore) -> None:
    later = ["foreground_px", "predicted_foreground_px", "aupimo"]
    cases, scores = store.cases().drop(columns=later), store.scores()
    scores = scores[~scores["metric"].str.contains("normal_fpr|normal_image_fpr|foreground|aupimo")].copy()
    assert list(scores_against_cases(scores, cases)) == []
    scores.loc[scores["metric"] == "dice", "value"] += 0.1
    assert list(scores_against_cases(scores, cases))
