import hashlib
import json
import os
import re
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from upath import UPath

from miasbench.harness.api import Prediction
from miasbench.results.files import ResultsError, read_json, slug, write_json
from miasbench.results.predictions import StoredPrediction
from miasbench.results.record import CellRecord, RunRecord
from miasbench.results.store import CellStore, RunStore, find_run, find_runs
from miasbench.results.tables import CASES, COMPARISONS, CURVES, RANKS, SCORES, empty_tables, failed_cell, table

from ..support.records import RECORD, record


def stored(shape: tuple[int, int] = (9, 13), *, seed: int = 0, mask: bool = True, **values: Any) -> StoredPrediction:
    rng = np.random.default_rng(seed)
    anomaly_map = values.pop("anomaly_map", rng.normal(size=shape).astype(np.float32))
    made = Prediction(anomaly_map, 0.1 + seed, rng.random(shape) > 0.5 if mask else None, **values)
    return StoredPrediction(made, 0.25)


def assert_same(one: StoredPrediction, other: StoredPrediction) -> None:
    assert one.prediction.anomaly_map.dtype == other.prediction.anomaly_map.dtype == np.float32
    np.testing.assert_array_equal(one.prediction.anomaly_map, other.prediction.anomaly_map)
    np.testing.assert_equal(one.prediction.mask, other.prediction.mask)
    assert (one.prediction.image_score, one.prediction.note) == (other.prediction.image_score, other.prediction.note)
    np.testing.assert_equal(one.seconds, other.seconds)


def files(folder: UPath | Path) -> list[str]:
    whole = Path(str(folder))
    return sorted(str(path.relative_to(whole)) for path in whole.rglob("*") if path.is_file())


@pytest.fixture
def cell(tmp_path: Path) -> CellStore:
    return CellStore(UPath(tmp_path) / "cells" / "one")


class TestFileNames:
    @pytest.mark.parametrize("text", ["brain_mri", "mias_sam", "anomaly-dino", "v1.2", "a+b=c", "_x", "x" * 80])
    def test_a_usual_name_stays_as_it_is(self, text: str) -> None:
        assert slug(text) == text

    @pytest.mark.parametrize(
        ("text", "readable"),
        [
            ("scan v1", "scan_v1"),
            ("Liver", "Liver"),
            ("phantom_liver_ct:train=8,test=4", "phantom_liver_ct_train=8_test=4"),
            ("mias_sam[gamma=0.5]", "mias_sam_gamma=0.5"),
            ("肝脏", "data"),
            ("../up", "up"),
            ("", "data"),
            ("..", "data"),
            ("-x", "x"),
            ("con", "con_"),
            ("NUL.txt", "NUL_.txt"),
            ("a.", "a"),
            ("x" * 81, "x" * 69),
        ],
    )
    def test_any_other_is_cleaned_and_ends_in_a_hash(self, text: str, readable: str) -> None:
        name, _, digest = slug(text).rpartition("-")
        assert (name, digest) == (readable, hashlib.sha256(text.encode()).hexdigest()[:10])

    HOSTILE = st.one_of(
        st.text(max_size=12),
        st.text("aA-_. /\\:é́肝\0\n", max_size=4),
        st.sampled_from(["con", "aux.md", "COM1", ".", "..", "~", "a" * 300, "a-0123456789", "\udcff", "é", "é", "ß"]),
    )

    @given(texts=st.sets(HOSTILE, min_size=2, max_size=30))
    def test_no_two_texts_share_a_name_on_any_file_system(self, texts: set[str]) -> None:
        names = {text: slug(text) for text in texts}
        assert len({name.lower() for name in names.values()}) == len(texts)
        for text, name in names.items():
            assert re.fullmatch(r"[A-Za-z0-9_+=][A-Za-z0-9_.+=-]*", name), text
            assert len(name) <= 80
            assert not name.endswith(".")
            assert name.partition(".")[0].lower() not in ("con", "prn", "aux", "nul", "com1", "lpt1")

    @given(text=HOSTILE)
    def test_no_text_is_named_as_what_another_becomes(self, text: str) -> None:
        assert slug(slug(text)) == slug(text) if slug(text) == text else slug(slug(text)) != slug(text)


class TestPredictions:
    @pytest.mark.parametrize("width", [1, 7, 8, 9, 16, 31])
    @pytest.mark.parametrize("mask", [True, False])
    def test_come_back_as_they_were(self, cell: CellStore, width: int, mask: bool) -> None:
        one = stored((5, width), mask=mask, note="keine Läsion – 空")
        cell.write_prediction("test", "a", one, "float32")
        back = cell.read_prediction("test", "a")
        assert_same(back, one)
        assert (back.prediction.mask is not None) is mask
        if back.prediction.mask is not None:
            assert back.prediction.mask.dtype == bool

    def test_prompts_come_back_as_points_and_boxes(self, cell: CellStore) -> None:
        prompts = ((1.5, 2.0), (0.0, 1.0, 2.5, 3.0))
        one = stored(mask=True)
        cell.write_prediction("test", "a", replace(one, prediction=replace(one.prediction, prompts=prompts)), "float32")
        assert cell.read_prediction("test", "a").prediction.prompts == prompts
        cell.write_prediction("test", "b", one, "float32")
        assert cell.read_prediction("test", "b").prediction.prompts == ()

    def test_a_time_that_nobody_knows_and_no_note(self, cell: CellStore) -> None:
        one = StoredPrediction(stored().prediction, float("nan"))
        cell.write_prediction("test", "a", one, "float32")
        assert_same(cell.read_prediction("test", "a"), one)
        assert cell.read_prediction("test", "a").prediction.note == ""

    def test_half_precision_where_it_holds_every_value(self, cell: CellStore) -> None:
        values = np.linspace(-65504, 65504, 35, dtype=np.float32).reshape(5, 7)
        cell.write_prediction("test", "a", stored((5, 7), anomaly_map=values), "float16")
        back = cell.read_prediction("test", "a").prediction
        assert back.anomaly_map.dtype == np.float32
        np.testing.assert_array_equal(back.anomaly_map, values.astype(np.float16).astype(np.float32))
        assert back.image_score == stored().prediction.image_score, "scores keep their precision"

    @pytest.mark.parametrize("large", [65_600.0, -1e9, 3e38])
    def test_full_precision_where_a_value_is_too_large(self, cell: CellStore, large: float) -> None:
        values = np.full((4, 4), 1 / 3, np.float32)
        values[0, 0] = large
        cell.write_prediction("test", "a", stored((4, 4), anomaly_map=values), "float16")
        np.testing.assert_array_equal(cell.read_prediction("test", "a").prediction.anomaly_map, values)

    def test_full_precision_where_every_value_is_too_small(self, cell: CellStore) -> None:
        values = np.linspace(1e-9, 1e-8, 16, dtype=np.float32).reshape(4, 4)
        cell.write_prediction("test", "a", stored((4, 4), anomaly_map=values), "float16")
        assert len(np.unique(cell.read_prediction("test", "a").prediction.anomaly_map)) == 16

    def test_half_precision_takes_less_room(self, cell: CellStore) -> None:
        one = stored((64, 64), mask=False)
        cell.write_prediction("test", "half", one, "float16")
        cell.write_prediction("test", "full", one, "float32")
        half, full = (cell.folder / "test" / f"{name}.npz" for name in ("half", "full"))
        assert half.stat().st_size < 0.7 * full.stat().st_size

    @given(
        first=st.text(st.characters(codec="utf-8"), min_size=1, max_size=40),
        second=st.text(st.characters(codec="utf-8"), min_size=1, max_size=40),
    )
    @settings(max_examples=25)
    def test_any_id_has_a_file_of_its_own(
        self, tmp_path_factory: pytest.TempPathFactory, first: str, second: str
    ) -> None:
        cell = CellStore(UPath(tmp_path_factory.mktemp("cell")))
        for seed, case_id in enumerate({first, second}):
            cell.write_prediction("test", case_id, stored((2, 3), seed=seed), "float32")
        for seed, case_id in enumerate({first, second}):
            assert_same(cell.read_prediction("test", case_id), stored((2, 3), seed=seed))
        assert [Path(name).parts[0] for name in files(cell.folder)] == ["test"] * len({first, second})

    @pytest.mark.parametrize(
        "case_id",
        [
            "a/b",
            "../../up",
            "/root",
            "..",
            ".",
            ".hidden",
            "a.b.npz",
            "Ü ber 空.1",
            "a\\b",
            "x" * 5000,
            "é" * 90,
            "%2F",
        ],
        ids=lambda case_id: case_id[:12],
    )
    def test_odd_ids_stay_in_the_folder_of_the_split(self, cell: CellStore, case_id: str) -> None:
        assert not cell.intact("test", [case_id])
        cell.write_prediction("test", case_id, stored(), "float32")
        assert cell.intact("test", [case_id]) == {case_id}
        assert not cell.intact("valid", [case_id])
        assert_same(cell.read_prediction("test", case_id), stored())
        assert [path.suffix for path in (cell.folder / "test").iterdir()] == [".npz"]
        cell.drop_predictions()
        assert not cell.intact("test", [case_id])
        assert files(cell.folder) == []

    def test_long_ids_that_begin_alike_differ(self, cell: CellStore) -> None:
        ids = ["x" * 300 + end for end in "ab"]
        for seed, case_id in enumerate(ids):
            cell.write_prediction("test", case_id, stored(seed=seed), "float32")
        for seed, case_id in enumerate(ids):
            assert_same(cell.read_prediction("test", case_id), stored(seed=seed))

    def test_ids_that_differ_by_case_only_have_files_that_differ_by_more(self, cell: CellStore) -> None:
        for seed, case_id in enumerate(("P1", "p1")):
            cell.write_prediction("test", case_id, stored(seed=seed), "float32")
        assert len({name.lower() for name in files(cell.folder)}) == 2
        assert cell.intact("test", ["P1", "p1"]) == {"P1", "p1"}
        assert_same(cell.read_prediction("test", "P1"), stored(seed=0))

    def test_an_id_of_three_bytes_a_letter_has_a_name_of_moderate_length(self, cell: CellStore) -> None:
        cell.write_prediction("test", "肝" * 60, stored(), "float32")
        assert len(files(cell.folder)[0]) < 100

    @pytest.mark.parametrize(
        ("case_id", "old"), [("P 1", "P 1"), ("ä/b", "%C3%A4%2Fb"), ("B" * 201, hashlib.sha256(b"B" * 201).hexdigest())]
    )
    def test_what_version_0_1_0_wrote_is_read(self, cell: CellStore, case_id: str, old: str) -> None:
        cell.write_prediction("test", case_id, stored(), "float32")
        (written,) = (cell.folder / "test").iterdir()
        written.rename(written.with_name(f"{old}.npz"))
        assert cell.intact("test", [case_id]) == {case_id}
        assert_same(cell.read_prediction("test", case_id), stored())

    def test_one_of_another_case_is_not_taken_for_it(self, cell: CellStore) -> None:
        cell.write_prediction("test", "a", stored(), "float32")
        (cell.folder / "test" / "a.npz").rename(cell.folder / "test" / "b.npz")
        with pytest.raises(ResultsError, match=r"b\.npz cannot be read \(it is that of the case a\)"):
            cell.read_prediction("test", "b")

    def test_writing_again_replaces(self, cell: CellStore) -> None:
        for seed in (0, 1):
            cell.write_prediction("test", "a", stored(seed=seed), "float32")
        assert_same(cell.read_prediction("test", "a"), stored(seed=1))
        assert files(cell.folder) == ["test/a.npz"]

    def test_one_that_is_not_there_is_named(self, cell: CellStore) -> None:
        with pytest.raises(ResultsError) as caught:
            cell.read_prediction("test", "a")
        assert str(cell.folder / "test" / "a.npz") in str(caught.value)

    @pytest.mark.parametrize(
        "damage",
        [
            pytest.param(lambda content: content[: len(content) // 2], id="half"),
            pytest.param(lambda content: content[:-1], id="last byte"),
            pytest.param(lambda content: b"no archive at all", id="text"),
            pytest.param(lambda content: b"\0" * len(content), id="zeros"),
            pytest.param(lambda content: b"", id="empty"),
        ],
    )
    def test_a_damaged_one_is_named(self, cell: CellStore, damage: Callable[[bytes], bytes]) -> None:
        cell.write_prediction("test", "a", stored(), "float32")
        path = cell.folder / "test" / "a.npz"
        path.write_bytes(damage(path.read_bytes()))
        with pytest.raises(ResultsError) as caught:
            cell.read_prediction("test", "a")
        assert str(path) in str(caught.value)
        assert "Run the same command again" in str(caught.value), "and what to do is said"
        assert not cell.intact("test", ["a"])

    def test_no_changed_byte_raises_anything_else(self, cell: CellStore) -> None:
        cell.write_prediction("test", "a", stored(), "float32")
        path = cell.folder / "test" / "a.npz"
        content = path.read_bytes()
        for position in range(len(content)):
            changed = bytearray(content)
            changed[position] ^= 0xFF
            path.write_bytes(bytes(changed))
            assert not cell.intact("test", ["a"])
            try:
                cell.read_prediction("test", "a")
            except ResultsError as error:
                assert str(path) in str(error)

    @pytest.mark.parametrize("missing", ["anomaly_map", "image_score", "seconds", "note"])
    def test_one_with_a_part_missing_is_named(self, cell: CellStore, missing: str) -> None:
        cell.write_prediction("test", "a", stored(), "float32")
        path = cell.folder / "test" / "a.npz"
        with np.load(path.path) as arrays:
            kept = {name: arrays[name] for name in arrays if name != missing}
        np.savez_compressed(path.path, allow_pickle=False, **kept)
        with pytest.raises(ResultsError, match=r"a\.npz"):
            cell.read_prediction("test", "a")


class TestWritingWholeOrNotAtAll:
    def test_a_full_disk_keeps_the_old_prediction(self, cell: CellStore, full_disk: Callable[[], None]) -> None:
        cell.write_prediction("test", "a", stored(), "float32")
        full_disk()
        with pytest.raises(OSError, match="No space left"):
            cell.write_prediction("test", "a", stored(seed=1), "float32")
        with pytest.raises(OSError, match="No space left"):
            cell.write_prediction("test", "b", stored(seed=1), "float32")
        assert_same(cell.read_prediction("test", "a"), stored())
        assert not cell.intact("test", ["b"])
        assert files(cell.folder) == ["test/a.npz"], "no temporary files remain"

    def test_a_full_disk_keeps_the_old_record(self, tmp_path: Path, full_disk: Callable[[], None]) -> None:
        run = RunStore(tmp_path / "run")
        run.write(record())
        kept = run.read()
        full_disk()
        with pytest.raises(OSError, match="No space left"):
            run.write(record(status="done"))
        assert run.read() == kept
        assert kept.status == "running"
        assert files(tmp_path) == ["run/run.json"]

    def test_a_full_disk_keeps_the_old_tables(self, tmp_path: Path, full_disk: Callable[[], None]) -> None:
        run = RunStore(tmp_path / "run")
        run.write_tables({"scores": failed_cell(CELL, "first").scores})
        before = {name: (tmp_path / name).read_bytes() for name in files(tmp_path)}
        full_disk()
        with pytest.raises(OSError, match="No space left"):
            run.write_tables({"scores": failed_cell(CELL, "second").scores})
        assert {name: (tmp_path / name).read_bytes() for name in files(tmp_path)} == before

    def test_an_interruption_while_replacing_leaves_nothing(
        self, cell: CellStore, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        def interrupted(self: Path, target: Path) -> Path:
            raise KeyboardInterrupt

        cell.write(CellRecord(status="finished"))
        monkeypatch.setattr(Path, "replace", interrupted)
        with pytest.raises(KeyboardInterrupt):
            cell.write(CellRecord(status="failed"))
        assert cell.read() == CellRecord(status="finished")
        assert files(cell.folder) == ["cell.json"]


class TestCell:
    def test_has_no_record_before_its_end(self, cell: CellStore) -> None:
        assert cell.read() is None
        record = CellRecord.model_validate({"status": "finished", "note": "ä"})
        cell.write(record)
        assert cell.read() == record
        cell.reopen()
        assert cell.read() is None
        cell.reopen()

    def test_clear_forgets_record_and_predictions(self, cell: CellStore) -> None:
        for split in ("valid", "test"):
            cell.write_prediction(split, "a", stored(), "float32")
        cell.write(CellRecord(status="finished"))
        cell.clear()
        assert files(cell.folder) == []

    def test_drop_predictions_follows_no_link(self, cell: CellStore, tmp_path: Path) -> None:
        (tmp_path / "mine").mkdir()
        (tmp_path / "mine" / "a.npz").write_text("mine")
        folder = Path(str(cell.folder))
        (folder / "valid").mkdir(parents=True)
        (folder / "valid" / "linked").symlink_to(tmp_path / "mine")
        (folder / "valid" / "a.npz").symlink_to(tmp_path / "mine" / "a.npz")
        (folder / "valid" / "notes.txt").write_text("mine")
        (folder / "valid" / "b.npz").write_text("a prediction")
        cell.drop_predictions()
        assert sorted(path.name for path in (folder / "valid").iterdir()) == ["a.npz", "linked", "notes.txt"]
        (folder / "test").symlink_to(tmp_path / "mine")
        with pytest.raises(OSError, match="symbolic links"):
            cell.drop_predictions()
        assert (tmp_path / "mine" / "a.npz").read_text() == "mine"

    def test_a_sweep_takes_only_what_was_being_written(self, cell: CellStore, tmp_path: Path) -> None:
        folder = Path(str(cell.folder))
        (tmp_path / "mine" / "test").mkdir(parents=True)
        (folder / "test").mkdir(parents=True)
        left = ".0123456789abcdef.tmp"
        for path in (tmp_path / "mine" / left, folder / "test" / left, folder / "mine.tmp", folder / ".a.tmp"):
            path.write_text("x")
        (folder / "valid").symlink_to(tmp_path / "mine")
        cell.sweep()
        assert (tmp_path / "mine" / left).exists()
        assert sorted(path.name for path in folder.rglob("*")) == [".a.tmp", "mine.tmp", "test", "valid"]

    def test_drop_predictions_keeps_the_rest(self, cell: CellStore) -> None:
        cell.write_prediction("test", "a", stored(), "float32")
        cell.write_tables(failed_cell(CELL, "why"))
        cell.write_error("Traceback …")
        cell.write(CellRecord(status="failed"))
        cell.drop_predictions()
        assert files(cell.folder) == [
            "cases.parquet",
            "cell.json",
            "curves.parquet",
            "error.txt",
            "scores.parquet",
            "volumes.parquet",
        ]
        assert (cell.folder / "error.txt").read_text(encoding="utf-8") == "Traceback …"

    def test_tables_come_back(self, cell: CellStore) -> None:
        tables = failed_cell(CELL, "why")
        cell.write_tables(tables)
        for back, one in zip(cell.read_tables(), tables, strict=True):
            pd.testing.assert_frame_equal(back, one)

    def test_a_table_that_an_older_version_did_not_write_is_empty(self, cell: CellStore) -> None:
        cell.write_tables(failed_cell(CELL, "why"))
        (cell.folder / "curves.parquet").unlink()
        assert list(cell.read_tables().curves) == list(CURVES)
        assert len(cell.read_tables().scores) == 1


CELL: dict[str, Any] = {
    "dataset": "a, “b”\nc",
    "dataset_fingerprint": "ab12",
    "method": "intensity",
    "options": '{"sigma": 1.5}',
    "weights": "none",
    "weights_sha256": "",
    "seed": 0,
    "size": 64,
    "transductive": False,
    "external": "",
    "seen": "",
    "cell": "intensity-seed0",
}


TABLES = {"cases": CASES, "scores": SCORES, "curves": CURVES, "comparisons": COMPARISONS}


def full_table(columns: dict[str, str]) -> pd.DataFrame:
    """Twenty rows of text that CSV must quote, numbers of full precision, and gaps."""
    rng = np.random.default_rng(0)
    values = {
        "str": lambda: str(rng.choice(["", "mean, of; “all”", "two\nlines"])),
        "int64": lambda: int(rng.integers(5000)),
        "bool": lambda: bool(rng.random() < 0.5),
        "float64": lambda: float(rng.choice([rng.normal() * 1e-9, 1 / 3, float("nan")])),
    }
    known = {"level": lambda number: "image", **dict.fromkeys(("case", "metric", "method_a"), "{}, of ”all”".format)}
    rows = [
        {name: known[name](number) if name in known else values[kind]() for name, kind in columns.items()}
        for number in range(20)
    ]
    return table(rows, columns)


class TestRun:
    def test_names_its_cells_and_record(self, tmp_path: Path) -> None:
        run = RunStore(tmp_path / "brain-1234")
        run.write(record())
        assert run.name == "brain-1234"
        written = json.loads((tmp_path / "brain-1234" / "run.json").read_text())
        assert {name: value for name, value in written.items() if name != "seal"} == RECORD
        assert RunRecord.model_validate(written) == run.read()
        assert run.cell("x").folder == tmp_path / "brain-1234" / "cells" / "x"

    def test_scores_of_an_older_version_know_of_no_patients(self, tmp_path: Path) -> None:
        run, scores = RunStore(tmp_path / "run"), full_table(SCORES)
        older = scores.drop(columns="patients")
        run.write_tables({"scores": older})
        cell = run.cell("x")
        cell.write_tables(empty_tables()._replace(scores=older))
        for read in (run.scores(), cell.read_tables().scores):
            pd.testing.assert_frame_equal(read, scores.assign(patients=np.nan))

    @pytest.mark.parametrize("name", TABLES)
    def test_parquet_and_csv_hold_the_same(self, tmp_path: Path, name: str) -> None:
        run, content = RunStore(tmp_path / "run"), full_table(TABLES[name])
        run.write_tables({name: content})
        pd.testing.assert_frame_equal(getattr(run, name)(), content)
        text = {column for column in content if content[column].dtype == "str"}
        csv = pd.read_csv(
            (run.folder / f"{name}.csv").path,
            na_filter=True,
            keep_default_na=False,
            na_values={str(column): [""] for column in content if column not in text},
        )
        pd.testing.assert_frame_equal(csv.astype(TABLES[name]), content)

    def test_ranks_keep_their_lists(self, tmp_path: Path) -> None:
        run = RunStore(tmp_path / "run")
        row = {name: {"str": "a", "int64": 1, "bool": True, "float64": 0.5}.get(kind) for name, kind in RANKS.items()}
        run.write_tables({"ranks": table([row | {"rank_shares": [0.25, 0.75]}], RANKS)})
        assert run.ranks()["rank_shares"].iloc[0].tolist() == [0.25, 0.75]
        assert pd.read_csv((run.folder / "ranks.csv").path)["rank_shares"].iloc[0] == "[0.25, 0.75]"

    @pytest.mark.parametrize("name", [*TABLES, "ranks"])
    def test_without_a_table_says_what_to_do(self, tmp_path: Path, name: str) -> None:
        run = RunStore(tmp_path / "run")
        run.write(record(status="done"))
        with pytest.raises(ResultsError) as error:
            getattr(run, name)()
        remedy = f"bench score {run.folder} makes it again from the predictions."
        assert str(error.value) == f"The run {run.folder} has no table {name}.parquet: {remedy}"

    def test_without_a_table_of_an_unfinished_run_says_how_far_it_is(self, tmp_path: Path) -> None:
        run = RunStore(tmp_path / "run")
        entry: dict[str, Any] = dict.fromkeys(("dataset", "fingerprint", "method", "device", "maps", "code"), "a")
        entry |= {"options": {}, "weights": [], "seed": 0, "size": 64, "transductive": False}
        run.write(record(cells=[{"name": name} | entry for name in "ab"]))
        run.cell("a").write(CellRecord(status="finished"))
        with pytest.raises(ResultsError, match=r"scores\.parquet: the run is unfinished: 1 of 2 cells\. The same"):
            run.scores()

    @pytest.mark.parametrize(
        "content",
        [
            None,
            b"",
            b'{"status": ',
            b"\xff\xfe{",
        ],
        ids=["missing", "empty", "cut", "not text"],
    )
    def test_without_a_record_is_none(self, tmp_path: Path, content: bytes | None) -> None:
        if content is not None:
            (tmp_path / "run.json").write_bytes(content)
        with pytest.raises(ResultsError) as caught:
            RunStore(tmp_path).read()
        assert str(tmp_path) in str(caught.value)

    def test_a_record_is_readable_text(self, tmp_path: Path) -> None:
        path = tmp_path / "deep" / "run.json"
        write_json(path, {"name": "Läsion", "list": [1, 2]})
        assert "Läsion" in path.read_text(encoding="utf-8")
        assert path.read_text(encoding="utf-8").endswith("}\n")
        assert json.loads(path.read_text(encoding="utf-8")) == read_json(path) == {"name": "Läsion", "list": [1, 2]}

    @pytest.mark.parametrize("content", [{"notes": ["x" * 200_001]}, {"x" * 200_001: 1}])
    def test_a_record_with_a_text_of_endless_length_is_damaged(self, tmp_path: Path, content: dict[str, Any]) -> None:
        write_json(tmp_path / "run.json", content)
        assert read_json(tmp_path / "run.json") is None


@pytest.fixture
def results(tmp_path: Path) -> Path:
    """Three runs, the newest in the middle of the alphabet, and a folder that is none."""
    folder = tmp_path / "results"
    for age, name in enumerate(["brain-2", "brain-1", "liver"]):
        RunStore(folder / name).write(record(name=name))
        os.utime(folder / name / "run.json", (1_000_000 - age, 1_000_000 - age))
    (folder / "brain-no-run").mkdir()
    return folder


class TestFindRun:
    def test_newest_first(self, results: Path) -> None:
        assert [run.name for run in find_runs(results)] == ["brain-2", "brain-1", "liver"]

    def test_of_the_same_second_by_name(self, results: Path) -> None:
        for file in results.glob("*/run.json"):
            os.utime(file, (5, 5))
        assert [run.name for run in find_runs(results)] == ["brain-1", "brain-2", "liver"]

    @pytest.mark.parametrize(
        ("name", "found"), [("latest", "brain-2"), ("brain-1", "brain-1"), ("l", "liver"), ("liver", "liver")]
    )
    def test_by_name_or_its_beginning(self, results: Path, name: str, found: str) -> None:
        assert find_run(name, results).folder == results / found

    def test_a_whole_name_wins_over_a_beginning(self, results: Path) -> None:
        RunStore(results / "brain").write(record())
        assert find_run("brain", results).name == "brain"

    def test_by_path(self, results: Path, tmp_path: Path) -> None:
        assert find_run(str(results / "liver"), tmp_path / "elsewhere").name == "liver"

    @pytest.mark.parametrize(
        ("name", "says", "listed"),
        [
            ("brain", "2 runs", "'brain': brain-2, brain-1. Give"),
            ("heart", "No run", "There: brain-2, brain-1, liver."),
        ],
    )
    def test_lists_what_there_is(self, results: Path, name: str, says: str, listed: str) -> None:
        with pytest.raises(ResultsError) as caught:
            find_run(name, results)
        message = str(caught.value)
        assert message.startswith(says)
        assert repr(name) in message
        assert listed in message
        assert "brain-no-run" not in message

    @pytest.mark.parametrize("exists", [True, False])
    @pytest.mark.parametrize("name", ["latest", "brain"])
    def test_no_runs_at_all(self, tmp_path: Path, name: str, exists: bool) -> None:
        folder = tmp_path / "results"
        if exists:
            folder.mkdir()
        with pytest.raises(ResultsError, match="There are no runs in"):
            find_run(name, folder)


def test_reading_a_table_starts_no_threads_that_the_end_of_python_could_meet(tmp_path: Path) -> None:
    file = tmp_path / "scores.parquet"
    pd.DataFrame({"value": [0.5]}).to_parquet(file)
    code = (
        "import pathlib, pyarrow.parquet, pandas\n"
        "from upath import UPath\n"
        "from miasbench.results.files import read_parquet\n"
        "def threads():\n"
        "    names = [task.joinpath('comm').read_text() for task in pathlib.Path('/proc/self/task').iterdir()]\n"
        "    return len([name for name in names if not name.startswith('jemalloc')])\n"
        "before = threads()\n"
        f"read_parquet(UPath({str(file)!r}))\n"
        "print(threads() - before)\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "0\n"


@pytest.mark.parametrize("protocol", ["file", "local"])
def test_no_link_is_followed_at_an_address_of_this_machine_either(protocol: str, tmp_path: Path) -> None:
    (tmp_path / "mine").mkdir()
    (tmp_path / "it").mkdir()
    (tmp_path / "it" / "cells").symlink_to(tmp_path / "mine")
    run = RunStore(UPath(f"{protocol}://{tmp_path}/it"))
    assert isinstance(run.folder, Path)
    with pytest.raises(OSError, match="symbolic links"):
        run.cell("one").write_error("x")
    assert not [*(tmp_path / "mine").iterdir()]
