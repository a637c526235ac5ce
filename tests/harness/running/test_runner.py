import json
from collections.abc import Callable
from pathlib import Path
from typing import Any, cast

import numpy as np
import pandas as pd
import pytest

from miasbench.datasets.phantom import phantom_brain_mri, write_bmad
from miasbench.harness import registry
from miasbench.harness.analysis.recorded import recorded_config
from miasbench.harness.api import (
    BenchError,
    DataError,
    Dataset,
    Diagnostic,
    Method,
    Prediction,
    UsageError,
    Weights,
)
from miasbench.harness.config import ScoreConfig, find_config, make_config, read_config
from miasbench.harness.registry import Entry
from miasbench.harness.running import cell_run, cells
from miasbench.harness.running.planning import make_plan
from miasbench.harness.running.rescoring import rescore
from miasbench.harness.running.runner import execute
from miasbench.results.files import ResultsError
from miasbench.results.published_numbers import published
from miasbench.results.record import CellRecord
from miasbench.results.seeds import over_seeds

from ...support.running import COSTS, TINY, assert_equal_runs, config, predictions, run, without_costs

pytestmark = pytest.mark.usefixtures("plugins")


class TestRun:
    def test_leaves_tables_predictions_and_a_record(self, tmp_path: Path) -> None:
        store, outcomes = run(tmp_path, "scripted", "intensity", seeds=[0, 1])
        assert [outcome.status for outcome in outcomes] == ["finished"] * 3, "intensity has nothing that is random"
        scores = store.scores()
        assert set(scores["method"]) == {"scripted", "intensity"}
        assert set(scores["seed"]) == {0, 1}
        assert (scores["dataset"] == TINY).all()
        assert len(predictions(store)) == 3 * 10
        record = store.read()
        assert record.status == "done"
        assert recorded_config(store).dataset == [TINY]
        assert {"command", "python", "packages", "git_commit", "processor", "cores"} <= set(record.environment)
        assert record.environment["packages"]["torch"]
        assert record.datasets[TINY].fingerprint == scores["dataset_fingerprint"].iloc[0]
        assert record.datasets[TINY].card.model_dump()["licence"]
        assert [cell.name for cell in record.cells] == scores["cell"].drop_duplicates().tolist()
        for cell in scores["cell"].unique():
            end = store.cell(cell).read()
            assert end is not None
            assert end.environment["packages"] == record.environment["packages"]

    def test_weights_are_recorded_with_their_kind_and_checksum(self, tmp_path: Path) -> None:
        plan = make_plan(config(tmp_path, "mias_sam", "patchcore", "intensity", controls=False))
        kinds = {cell.method: [(weights.kind, len(weights.sha256)) for weights in cell.weights] for cell in plan.cells}
        assert kinds == {"mias_sam": [("embedded", 64)], "patchcore": [("embedded", 64)], "intensity": []}

    def test_methods_without_randomness_are_run_with_the_first_seed_only(self, tmp_path: Path) -> None:
        methods = ("wrapping[inside=intensity]", "sam_refine[base=intensity]", "intensity", "sam_control")
        plan = make_plan(config(tmp_path, *methods, seeds=[3, 1, 3], controls=False))
        seeds = {name: [cell.seed for cell in plan.cells if cell.method == name] for name in methods}
        assert seeds == {methods[0]: [3, 1]} | {name: [3] for name in methods[1:]}
        assert plan.once == methods[1:]
        single = make_plan(config(tmp_path, *methods, seeds=[3], controls=False))
        assert (single.once, {cell.seed for cell in single.cells}) == ((), {3})

    def test_tables_hold_one_cell_beside_several_seeds(self, tmp_path: Path) -> None:
        store, _ = run(tmp_path, "scripted", "intensity", seeds=[0, 1, 2])
        ranks = store.ranks().query("policy == 'valid_dice'").set_index("method")
        dice = store.scores().query("metric == 'dice' and policy == 'valid_dice'")
        for method, own in dice.groupby("method"):
            found = over_seeds(own)
            assert (found.seeds, np.isnan(found.std)) == ((1, True) if method == "intensity" else (3, False))
            shown = list(ranks.loc[method, ["mean", "ci_low", "ci_high"]])
            assert shown == pytest.approx([found.value, found.low, found.high], nan_ok=True)
        assert rescore(store) == []

    def test_seeds_change_what_is_random(self, tmp_path: Path) -> None:
        store, _ = run(tmp_path, seeds=[0, 1, 0])
        own = store.scores().query("metric == 'pixel_auroc'")
        assert own["seed"].tolist() == [0, 1]
        assert own["value"].nunique() == 2

    def test_progress_is_told(self, tmp_path: Path) -> None:
        told: list[tuple[str, str, int, int]] = []
        execute(make_plan(config(tmp_path)), progress=lambda *step: told.append(step))
        assert {stage for _, stage, _, _ in told} >= {"fit", "predict valid", "predict test", "score"}
        assert [done for _, stage, done, _ in told if stage == "predict test"] == list(range(1, 7))

    def test_fit_sees_training_images_only_in_the_runs_frame(
        self, tmp_path: Path, plugins: Any, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        seen: list[np.ndarray] = []
        monkeypatch.setattr(plugins.Scripted, "fit", lambda self, images: seen.extend(images))
        run(tmp_path, dataset=["phantom_retina_oct:train=3,valid=4,test=6,size=64"], size=32)
        assert len(seen) == 3
        assert {(image.shape, image.dtype.name) for image in seen} == {((32, 32), "uint8")}
        assert all((image[:7] == 0).all() for image in seen), "a wide image is padded to a square"

    def test_limit_is_part_of_the_cells_identity(self, tmp_path: Path) -> None:
        whole, part = (make_plan(config(tmp_path, limit=limit)) for limit in (0, 2))
        assert whole.cells[0].fingerprint != part.cells[0].fingerprint
        assert whole.store.folder != part.store.folder
        assert {outcome.status for outcome in execute(part)} == {"finished"}
        assert len(part.store.cases().query("policy == 'own'")) == 2

    def test_transductive_methods_get_whole_splits_and_are_marked(self, tmp_path: Path) -> None:
        store, outcomes = run(tmp_path, "together")
        assert outcomes[0].status == "finished"
        assert store.scores()["transductive"].all()
        assert store.cases()["transductive"].all()
        assert store.cases()["predict_ms"].isna().all()
        assert store.scores().query("metric == 'predict_ms'")["value"].item() > 0


class TestVariants:
    def test_are_methods_of_their_own_in_tables_folders_and_the_record(self, tmp_path: Path) -> None:
        asked = ["scripted", " scripted[ pause = 0.001 ]"]
        store, outcomes = run(tmp_path, *asked)
        assert [outcome.status for outcome in outcomes] == ["finished"] * 2
        names = ["scripted", "scripted[pause=0.001]"]
        for table in (store.scores(), store.cases()):
            assert table["method"].drop_duplicates().tolist() == names
        record = store.read()
        assert [cell.method for cell in record.cells] == names
        assert [cell.options["pause"] for cell in record.cells] == [0.0, 0.001]
        assert record.config.methods == names
        folders = sorted(path.name for path in store.folder.glob("cells/*"))
        assert [folder.split("-seed0-")[0].split("64-")[1] for folder in folders] == [
            "scripted",
            "scripted_pause=0.001",
        ]

    def test_the_same_twice_is_one_and_two_texts_of_equal_options_are_two(self, tmp_path: Path) -> None:
        plan = make_plan(config(tmp_path, "scripted", "scripted", "scripted[pause=0]", "scripted[ pause=0 ]"))
        assert [cell.method for cell in plan.cells] == ["scripted", "scripted[pause=0]"]
        assert plan.cells[0].options == plan.cells[1].options
        assert plan.cells[0].name != plan.cells[1].name

    def test_what_is_set_for_the_method_holds_for_its_variants_whose_own_options_win(self, tmp_path: Path) -> None:
        specs = ("intensity", "intensity[sigma=2]")
        plan = make_plan(config(tmp_path, *specs, set={"intensity": {"sigma": 3}}))
        assert [cell.options["sigma"] for cell in plan.cells] == [3, 2]
        make_plan(config(tmp_path, "intensity[sigma=2]", set={"intensity": {"sigma": 3}}))

    def test_are_scored_again(self, tmp_path: Path) -> None:
        store, _ = run(tmp_path, "scripted[pause=0]")
        assert rescore(store, ScoreConfig(fixed_threshold=1.0)) == []
        assert "fixed" in set(store.scores()["policy"])

    def test_have_the_code_version_of_their_method(self, tmp_path: Path) -> None:
        one, other = make_plan(config(tmp_path, "intensity", "intensity[sigma=2]")).cells
        assert one.code == other.code

    def test_many_options_make_no_folder_that_is_too_long(self, tmp_path: Path) -> None:
        spec = f"wrong[how={'x' * 400}]"
        (cell,) = make_plan(config(tmp_path, spec)).cells
        assert cell.method == spec
        assert len(cell.name) < 200

    def test_a_failed_one_is_named(self, tmp_path: Path) -> None:
        _, outcomes = run(tmp_path, "wrong[how=nan]", "intensity")
        assert [outcome.status for outcome in outcomes] == ["failed", "finished"]
        assert outcomes[0].error.startswith("wrong[how=nan] on the case ")


class TestMethodsInside:
    def test_are_part_of_the_cells_identity(self, tmp_path: Path) -> None:
        def key(spec: str, **options: Any) -> str:
            (cell,) = make_plan(config(tmp_path, spec, **options)).cells
            return cell.key

        keys = [
            key("wrapping[inside=intensity]"),
            key("wrapping[inside=intensity[sigma=3]]"),
            key("wrapping[inside=scripted]"),
            key("wrapping[inside=intensity]", set={"intensity": {"sigma": 3}}),
            key("wrapping", set={"wrapping": {"inside": "intensity"}}),
        ]
        assert len(set(keys)) == 5

    def test_their_code_counts(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        (before,) = make_plan(config(tmp_path, "wrapping[inside=trained]")).cells
        target = registry.METHODS["trained"].target
        monkeypatch.setitem(registry.METHODS, "trained", Entry(target, "", "plugins 2.0", schedule={"epochs": 4}))
        (after,) = make_plan(config(tmp_path, "wrapping[inside=trained]")).cells
        assert after.code.endswith(", plugins 2.0")
        assert after.code.split(",")[0] != before.code, "hyperparameters on a card are code"

    def test_what_is_set_for_one_that_is_not_there_is_refused(self, tmp_path: Path) -> None:
        with pytest.raises(UsageError, match="Options are set for 'trained', which is not run"):
            make_plan(config(tmp_path, "wrapping[inside=intensity]", set={"trained": {"epochs": 3}}))

    def test_run(self, tmp_path: Path) -> None:
        _, outcomes = run(tmp_path, "wrapping[inside=intensity]")
        assert [outcome.status for outcome in outcomes] == ["finished"]


class TestTraining:
    def test_epochs_and_batch_size_go_to_every_method_that_has_them(self, tmp_path: Path) -> None:
        specs = ("trained", "trained[epochs=7]", "wrapping[inside=trained]", "intensity")
        plan = make_plan(config(tmp_path, *specs, epochs=3, batch_size=2, set={"trained": {"batch_size": 5}}))
        found = [cell.options.get("inside", cell.options) for cell in plan.cells]
        assert [options.get("epochs") for options in found] == [3, 7, 3, None]
        assert [options.get("batch_size") for options in found] == [5, 5, 5, None]

    def test_they_are_part_of_the_cells_identity(self, tmp_path: Path) -> None:
        keys = {make_plan(config(tmp_path, "trained", epochs=epochs)).cells[0].key for epochs in (None, 3, 4)}
        assert len(keys) == 3

    @pytest.mark.parametrize("option", ["epochs", "batch_size"])
    def test_are_refused_where_no_method_has_them(self, tmp_path: Path, option: str) -> None:
        with pytest.raises(UsageError) as caught:
            make_plan(config(tmp_path, "intensity", "scripted", **{option: 3}))
        says = f"{option} is 3, but no method of this run has that option: intensity, scripted."
        assert says in str(caught.value)


class TestPaper:
    """The shipped configuration `paper`."""

    def test_plans_the_whole_of_table_1(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        values = read_config(find_config(Path("paper"))) | {"results": tmp_path, "controls": False}
        asked = make_config(values, "in paper")
        assert asked.score.mask_edges == "paper"
        monkeypatch.setattr(
            registry, "open_dataset", lambda spec, _: phantom(Path(), spec, train=3, valid=2, test=4, size=64)
        )
        monkeypatch.setattr(registry, "build_method", without_downloads(registry.build_method))
        plan = make_plan(asked)
        table = published().query("source.str.startswith('MIAS-SAM')")
        planned = {(cell.dataset, cell.method.partition("[")[0]) for cell in plan.cells}
        assert planned == set(zip(table["dataset"], table["method"], strict=True))
        assert len(plan.cells) == 21
        assert {cell.size for cell in plan.cells} == {256}
        (options,) = {json.dumps(cell.options) for cell in plan.cells if cell.transductive}
        (source,) = set(table.query("method == 'mias_sam'")["options"])
        for item in source.split(";"):
            name, _, value = item.partition("=")
            assert str(json.loads(options)[name]) == value, "what the paper is held against is what is run"


def phantom(root: Path, name: str, **options: int) -> Dataset:
    dataset = phantom_brain_mri(root, **options)
    dataset.name = name
    return dataset


def without_downloads(build: Callable[..., Method]) -> Callable[..., Method]:
    """Makes methods whose weights are said to be there."""

    def made(*arguments: Any, **options: Any) -> Method:
        method: Any = build(*arguments, **options)
        method.weights_used = lambda: (Weights("stub", "published", "0" * 64),)
        return method

    return made


class TestDiagnostics:
    def test_are_in_the_cells_record_and_in_the_scores(self, tmp_path: Path) -> None:
        store, _ = run(tmp_path, "telling", "scripted")
        scores = store.scores()
        told = scores[scores["metric"].isin(["index_recall", "index_error"])].set_index("metric")
        assert set(told["method"]) == {"telling"}
        assert set(told["policy"]) == {"none"}
        assert not told["oracle"].any()
        assert told["value"]["index_recall"] == 0.5
        assert np.isnan(told["value"]["index_error"])
        assert told["convention"].to_dict() == {
            "index_recall": "share of nearest rows found",
            "index_error": "of the map",
        }
        assert told["note"].to_dict() == {"index_recall": "of 3 rows", "index_error": ""}
        assert (told["n"] == 1).all()
        end = store.cell(told["cell"].iloc[0]).read()
        assert end is not None
        assert [diagnostic.metric for diagnostic in end.diagnostics] == ["index_recall", "index_error"]

    def test_a_value_of_numpy_is_kept_too(self, tmp_path: Path, plugins: Any, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(
            plugins.Telling, "diagnostics", lambda self: (Diagnostic("depth", cast(float, np.float32(0.25)), ""),)
        )  # fmt: skip
        store, outcomes = run(tmp_path, "telling")
        assert outcomes[0].error == ""
        assert store.scores().query("metric == 'depth'")["value"].item() == 0.25

    def test_stay_when_scored_again(self, tmp_path: Path) -> None:
        store, _ = run(tmp_path, "telling")
        before = store.scores()
        rescore(store)
        pd.testing.assert_frame_equal(store.scores(), before)
        run(tmp_path, "telling", score={"fixed_threshold": 1.0})
        assert {"index_recall", "index_error"} <= set(store.scores()["metric"])

    def test_a_cell_measured_before_there_were_any_is_scored_again(self, tmp_path: Path) -> None:
        store, _ = run(tmp_path)
        cell = store.cell(store.scores()["cell"].iloc[0])
        end = cell.read()
        assert end is not None
        cell.write(CellRecord.model_validate({k: v for k, v in end.content().items() if k != "diagnostics"}))
        assert rescore(store) == []
        assert (store.scores()["error"] == "").all()

    @pytest.mark.parametrize("name", ["dice", "fit_seconds", "none", "index_error"])
    def test_a_name_that_is_taken_is_refused(self, tmp_path: Path, name: str) -> None:
        store, outcomes = run(tmp_path, f"telling[name={name}]")
        assert outcomes[0].status == "failed"
        assert outcomes[0].error.startswith(f"telling[name={name}] reports a diagnostic ")
        assert "Give it one of its own" in outcomes[0].error
        assert not predictions(store), "it is refused before time is spent"


class TestCachedWork:
    def test_is_not_free(self, tmp_path: Path) -> None:
        store, _ = run(tmp_path, "cached", seeds=[0, 1])
        for _, scores in store.scores().groupby("seed"):
            costs = scores.set_index("metric")["value"]
            assert costs["fit_seconds"] == pytest.approx(1000, abs=50)
            assert costs["predict_ms"] == pytest.approx(100_000, abs=5_000)
        times = store.cases().query("policy == 'own'")["predict_ms"]
        assert times.to_numpy() == pytest.approx(100_000, abs=5_000), "each image has its own share only"

    def test_is_not_free_for_whole_splits_either(self, tmp_path: Path) -> None:
        store, _ = run(tmp_path, "together[saves=600]")
        costs = store.scores().set_index("metric")["value"]
        assert costs["predict_ms"] == pytest.approx(1000 * 600 / 6, abs=5_000)
        assert costs["fit_seconds"] < 50

    def test_is_told_by_the_conventions(self, tmp_path: Path) -> None:
        store, _ = run(tmp_path, "cached")
        conventions = store.scores().set_index("metric")["convention"]
        for metric in ("fit_seconds", "predict_ms"):
            assert "with the time that a cache saved" in conventions[metric]


class TestBatches:
    def test_each_image_has_its_share_of_a_batchs_time(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(cell_run, "images_at_once", lambda device, predict_one: 4)
        store, outcomes = run(tmp_path, "inbatches")
        assert outcomes[0].error == ""
        of_policy = [times.to_numpy() for _, times in store.cases().groupby("policy")["predict_ms"]]
        expected = [30_000] * 4 + [60_000] * 2  # of six test images, four are in the first batch
        assert all(times == pytest.approx(expected, rel=0.01) for times in of_policy)
        end = store.cell(store.scores()["cell"].iloc[0]).read()
        assert end is not None
        assert end.batch == 4

    def test_they_do_not_move_scores(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        one_by_one, _ = run(tmp_path / "one", "inbatches")
        monkeypatch.setattr(cell_run, "images_at_once", lambda device, predict_one: 4)
        in_batches, _ = run(tmp_path / "four", "inbatches")
        assert_equal_runs(one_by_one, in_batches)


class TestControls:
    ADDED = ("intensity[sigma=1]", "followed")

    def test_are_run_behind_the_methods_asked_for_with_the_same_seeds(self, tmp_path: Path) -> None:
        store, _ = run(tmp_path, "controlled", "scripted", seeds=[1, 2])
        scores = store.scores()
        assert scores["method"].drop_duplicates().tolist() == ["controlled", "scripted", *self.ADDED]
        seeds = scores.groupby("method", sort=False)["seed"].unique().map(list)
        assert seeds.tolist() == [[1, 2], [1, 2], [1], [1, 2]], "intensity has nothing that is random"
        record = store.read()
        assert record.config.methods == ["controlled", "scripted"]
        assert len(record.cells) == 7
        assert rescore(store) == []

    def test_are_built_like_the_methods_asked_for(
        self, tmp_path: Path, plugins: Any, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(plugins.Controlled, "controls", lambda self: ("patchcore",))
        plan = make_plan(config(tmp_path, "controlled", set={"patchcore": {"coreset": 0.5}}))
        control = plan.cells[1]
        assert (control.method, control.options["coreset"], control.device) == ("patchcore", 0.5, "cpu")
        assert [weights.kind for weights in control.weights] == ["embedded"]

    def test_are_left_out_where_they_are_not_wanted(self, tmp_path: Path) -> None:
        plan = make_plan(config(tmp_path, "controlled", controls=False))
        assert [cell.method for cell in plan.cells] == ["controlled"]
        assert plan.controls == {}

    def test_that_are_asked_for_stay_where_they_are(self, tmp_path: Path) -> None:
        plan = make_plan(config(tmp_path, "intensity[ sigma = 1 ]", "controlled"))
        assert [cell.method for cell in plan.cells] == ["intensity[sigma=1]", "controlled", "followed"]
        assert plan.controls == {"controlled": ("followed",)}

    def test_of_two_variants_are_run_once(self, tmp_path: Path) -> None:
        variants = ("controlled", "controlled[pause=0]")
        plan = make_plan(config(tmp_path, *variants))
        assert [cell.method for cell in plan.cells] == [*variants, *self.ADDED]
        assert plan.controls == dict.fromkeys(variants, self.ADDED)

    def test_of_controls_are_not_followed(self, tmp_path: Path) -> None:
        assert "failing" not in {cell.method for cell in make_plan(config(tmp_path, "controlled")).cells}
        assert "failing" in {cell.method for cell in make_plan(config(tmp_path, "followed")).cells}

    def test_that_cannot_be_run_are_named_with_the_way_out(
        self, tmp_path: Path, plugins: Any, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(plugins.Controlled, "controls", lambda self: ("scriptde[pause=1]",))
        says = r"scriptde\[pause=1\], a control of controlled, .*--no-controls\. There is no method 'scriptde'\. Did"
        with pytest.raises(UsageError, match=says):
            make_plan(config(tmp_path, "controlled"))
        make_plan(config(tmp_path, "controlled", controls=False))


class TestGoingOn:
    def test_a_finished_cell_is_not_run_again(self, tmp_path: Path) -> None:
        store, _ = run(tmp_path)
        before, tables = predictions(store), without_costs(store)
        again, outcomes = run(tmp_path)
        assert again.folder == store.folder
        assert [outcome.status for outcome in outcomes] == ["kept"]
        assert predictions(store) == before
        for mine, theirs in zip(without_costs(store), tables, strict=True):
            pd.testing.assert_frame_equal(mine, theirs)

    def test_force_runs_it_again(self, tmp_path: Path) -> None:
        store, _ = run(tmp_path)
        before = predictions(store)
        _, outcomes = run(tmp_path, force=True)
        assert [outcome.status for outcome in outcomes] == ["finished"]
        assert all(time > before[name] for name, time in predictions(store).items())

    @pytest.mark.parametrize(
        "changed", [{"set": {"scripted": {"pause": 0.001}}}, {"size": 32}, {"seeds": [5]}, {"limit": 3}]
    )
    def test_what_a_prediction_depends_on_makes_another_cell(self, tmp_path: Path, changed: dict[str, Any]) -> None:
        one, other = make_plan(config(tmp_path)), make_plan(config(tmp_path, **changed))
        assert one.cells[0].key != other.cells[0].key
        assert one.store.folder != other.store.folder

    def test_scoring_otherwise_keeps_predictions(self, tmp_path: Path) -> None:
        store, _ = run(tmp_path)
        before = predictions(store)
        _, outcomes = run(tmp_path, score={"fixed_threshold": 1.0})
        assert [outcome.status for outcome in outcomes] == ["kept"]
        assert predictions(store) == before
        assert "fixed" in set(store.scores()["policy"])

    @pytest.mark.parametrize("stop_at", [1, 3, 8])
    def test_an_interruption_loses_nothing_that_is_finished(self, tmp_path: Path, plugins: Any, stop_at: int) -> None:
        def stop(count: int) -> None:
            if count == stop_at:
                raise KeyboardInterrupt

        plugins.hook = stop
        with pytest.raises(KeyboardInterrupt):
            run(tmp_path, "intensity", "scripted")
        store = make_plan(config(tmp_path, "intensity", "scripted")).store
        assert store.read().status == "running"
        assert set(store.scores()["method"]) == {"intensity"}
        before = predictions(store)
        assert len(before) == 10 + stop_at - 1, "the first prediction of a cell is its warm-up"
        plugins.hook = lambda count: None
        _, outcomes = run(tmp_path, "intensity", "scripted")
        assert [outcome.status for outcome in outcomes] == ["kept", "finished"]
        assert all(predictions(store)[name] == time for name, time in before.items())
        undisturbed, _ = run(tmp_path / "other", "intensity", "scripted")
        assert_equal_runs(store, undisturbed)

    def test_a_damaged_prediction_is_found_and_only_its_cell_is_run_again(self, tmp_path: Path) -> None:
        store, _ = run(tmp_path, "scripted", "intensity")
        before, tables = predictions(store), without_costs(store)
        victim = sorted(store.folder.glob("cells/*-intensity-*/test/*.npz"))[2]
        content = bytearray(victim.read_bytes())
        content[len(content) // 2] ^= 1
        victim.write_bytes(bytes(content))
        _, outcomes = run(tmp_path, "scripted", "intensity")
        assert [outcome.status for outcome in outcomes] == ["kept", "finished"]
        changed = [name for name, at in predictions(store).items() if at != before[name]]
        assert changed == [str(victim.relative_to(store.folder))]
        for mine, theirs in zip(without_costs(store), tables, strict=True):
            pd.testing.assert_frame_equal(mine, theirs)

    def test_a_cell_that_another_process_runs_is_waited_for(self, tmp_path: Path) -> None:
        plan = make_plan(config(tmp_path, "scripted", "intensity"))
        busy = plan.store.cell(plan.cells[0].name).lock()
        assert busy is not None
        busy.acquire()
        stages: list[tuple[str, str]] = []

        def progress(cell: str, stage: str, done: int, total: int) -> None:
            stages.append((cell, stage))
            if stage.startswith("waiting"):
                busy.release()

        outcomes = execute(plan, progress=progress)
        assert [outcome.status for outcome in outcomes] == ["finished"] * 2
        cells = [cell for cell, stage in stages if stage in ("finished", "waiting for the process that runs it")]
        assert cells == [str(plan.cells[1]), str(plan.cells[0]), str(plan.cells[0])]


class TestFailing:
    def test_the_other_cells_finish(self, tmp_path: Path) -> None:
        store, outcomes = run(tmp_path, "intensity", "failing", "scripted")
        assert [outcome.status for outcome in outcomes] == ["finished", "failed", "finished"]
        failed = store.scores().query("method == 'failing'")
        assert failed["error"].tolist() == ["RuntimeError: out of [bold]cheese[/bold]"]
        traceback = (store.cell(failed["cell"].item()).folder / "error.txt").read_text()
        assert "Traceback" in traceback
        assert "cheese" in traceback
        assert (store.scores().query("method == 'scripted'")["error"] == "").all()

    def test_without_memory_the_row_says_so(
        self, tmp_path: Path, plugins: Any, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(plugins.Failing, "fit", lambda self, images: np.empty(2**50))
        store, outcomes = run(tmp_path, "failing", "scripted")
        assert [outcome.status for outcome in outcomes] == ["failed", "finished"]
        (error,) = store.scores().query("method == 'failing'")["error"]
        assert error.startswith("Out of memory (")
        assert "--batch-size" in error

    def test_an_error_of_a_megabyte_is_cut(self, tmp_path: Path, plugins: Any, monkeypatch: pytest.MonkeyPatch) -> None:
        def fail(*_: object) -> None:
            raise RuntimeError("x" * 2**20)

        monkeypatch.setattr(plugins.Failing, "fit", fail)
        store, _ = run(tmp_path, "failing", "scripted")
        (error,) = store.scores().query("method == 'failing'")["error"]
        assert error.startswith("RuntimeError: xxx")
        assert len(error) <= 10_000

    def test_a_failed_cell_is_tried_again_and_its_error_goes(
        self, tmp_path: Path, plugins: Any, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        store, _ = run(tmp_path, "failing")
        assert list(store.folder.rglob("error.txt"))
        monkeypatch.setattr(plugins.Failing, "fit", lambda self, images: None)
        monkeypatch.setattr(plugins.Failing, "predict", lambda self, image: Prediction(image.astype(np.float32), 0.0))
        _, outcomes = run(tmp_path, "failing")
        assert outcomes[0].status == "finished"
        assert (store.scores()["error"] == "").all()
        assert not list(store.folder.rglob("error.txt"))

    @pytest.mark.parametrize(
        ("how", "says"),
        [
            ("shape", "the anomaly map is (63, 64), the image (64, 64)"),
            ("nan", "NaN or infinity"),
            ("score", "NaN or infinity"),
            ("mask", "the mask is float32 (64, 64), it should be bool (64, 64)"),
            ("prompt", "a prompt is neither a point (x, y) nor a box (x0, y0, x1, y1)"),
        ],
    )
    def test_a_prediction_that_breaks_the_contract_names_the_case(self, tmp_path: Path, how: str, says: str) -> None:
        _, outcomes = run(tmp_path, "wrong", set={"wrong": {"how": how}})
        assert outcomes[0].status == "failed"
        assert outcomes[0].error.startswith("wrong on the case ")
        assert says in outcomes[0].error

    def test_too_few_predictions(self, tmp_path: Path) -> None:
        _, outcomes = run(tmp_path, "together", set={"together": {"short": True}})
        assert "made no prediction for the case" in outcomes[0].error

    def test_a_file_that_breaks_during_the_run_fails_the_cell_and_is_named(self, tmp_path: Path, plugins: Any) -> None:
        write_bmad(phantom_brain_mri(Path(), train=3, valid=4, test=6, size=64), tmp_path / "data")
        victim = sorted((tmp_path / "data" / "test" / "Ungood" / "img").iterdir())[0]

        def truncate(count: int) -> None:
            if count == 3:
                victim.write_bytes(victim.read_bytes()[:100])

        plugins.hook = truncate
        store, outcomes = run(tmp_path / "results", dataset=[str(tmp_path / "data")])
        assert outcomes[0].status == "failed"
        assert str(victim) in outcomes[0].error
        assert predictions(store)

    def test_a_full_disk_says_so_and_keeps_what_is_finished(
        self, tmp_path: Path, plugins: Any, full_disk: Callable[..., None]
    ) -> None:
        def fill(count: int) -> None:
            if count == 5:
                full_disk()

        plugins.hook = fill
        with pytest.raises(ResultsError) as caught:
            run(tmp_path, "intensity", "scripted")
        full_disk(False)
        assert "its disk is full. Free some space, and run the same command again." in str(caught.value)
        assert str(tmp_path) in str(caught.value)
        plugins.hook = lambda count: None
        store, outcomes = run(tmp_path, "intensity", "scripted")
        assert [outcome.status for outcome in outcomes] == ["kept", "finished"]
        undisturbed, _ = run(tmp_path / "other", "intensity", "scripted")
        assert_equal_runs(store, undisturbed)


def test_odd_file_names_come_through_to_the_tables(tmp_path: Path) -> None:
    data = tmp_path / "data"
    write_bmad(phantom_brain_mri(Path(), train=3, valid=4, test=6, size=64), data)
    odd = ["a b_1", "Ä 脳_1", "two\nlines_1"]
    for name, number in zip(odd, ("50000_60", "50000_61", "50000_62"), strict=True):
        for folder in ("img", "anomaly_mask"):
            path = data / "test" / "Ungood" / folder / f"{number}.png"
            path.rename(path.with_name(f"{name}.png"))
    markup = ["-rf_1", "[bold]_1", "<script>alert(1)<&script>_%2e"]
    for name, path in zip(markup, sorted((data / "test" / "good" / "img").iterdir()), strict=True):
        path.rename(path.with_name(f"{name}.png"))
    store, outcomes = run(tmp_path / "results", "intensity", dataset=[str(data)])
    assert outcomes[0].error == ""
    assert set(store.cases()["case"]) == {*odd, *markup}
    pd.testing.assert_series_equal(pd.read_csv((store.folder / "cases.csv").path)["case"], store.cases()["case"])
    assert run(tmp_path / "results", "intensity", dataset=[str(data)])[1][0].status == "kept"


class TestBeforeTheRun:
    def test_options_for_a_method_that_is_not_run(self, tmp_path: Path) -> None:
        with pytest.raises(UsageError, match=r"'patchcor', which is not run.*Did you mean 'patchcore'"):
            make_plan(config(tmp_path, "patchcore[coreset=0.1]", set={"patchcor": {"coreset": 0.1}}))

    def test_two_datasets_of_one_name(self, tmp_path: Path) -> None:
        for place in ("a", "b"):
            write_bmad(phantom_brain_mri(Path(), train=3, valid=4, test=6, size=64), tmp_path / place / "brain")
        with pytest.raises(UsageError, match="Two datasets have the name brain: "):
            make_plan(config(tmp_path, dataset=[str(tmp_path / "a" / "brain"), str(tmp_path / "b" / "brain")]))

    def test_a_broken_file_is_named_before_anything_runs(self, tmp_path: Path) -> None:
        write_bmad(phantom_brain_mri(Path(), train=3, valid=4, test=6, size=64), tmp_path / "data")
        victim = sorted((tmp_path / "data" / "valid" / "good" / "img").iterdir())[1]
        victim.write_bytes(b"no image")
        with pytest.raises(DataError) as caught:
            make_plan(config(tmp_path / "results", dataset=[str(tmp_path / "data")]))
        assert str(victim) in str(caught.value)
        assert not (tmp_path / "results").exists()

    def test_cuda_where_there_is_none(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr("torch.cuda.is_available", lambda: False)
        with pytest.raises(UsageError, match="Use --device cpu or auto"):
            make_plan(config(tmp_path, device="cuda"))
        assert make_plan(config(tmp_path, device="auto")).device == "cpu"


class TestMaps:
    def test_none_keeps_scores_only(self, tmp_path: Path) -> None:
        full, _ = run(tmp_path / "full")
        store, _ = run(tmp_path / "none", maps="none")
        assert not predictions(store)
        assert_equal_runs(store, full)
        _, outcomes = run(tmp_path / "none", maps="none")
        assert [outcome.status for outcome in outcomes] == ["kept"]

    def test_maps_that_are_wanted_after_all_are_made(self, tmp_path: Path) -> None:
        store, _ = run(tmp_path, maps="none")
        _, outcomes = run(tmp_path)
        assert [outcome.status for outcome in outcomes] == ["finished"]
        assert len(predictions(store)) == 10

    def test_other_scores_than_those_kept_need_the_maps(self, tmp_path: Path) -> None:
        run(tmp_path, maps="none")
        store, outcomes = run(tmp_path, maps="none", score={"fixed_threshold": 1.0})
        assert [outcome.status for outcome in outcomes] == ["finished"]
        assert "fixed" in set(store.scores()["policy"])

    def test_float16_is_near(self, tmp_path: Path) -> None:
        full, _ = run(tmp_path / "full")
        half, _ = run(tmp_path / "half", maps="float16")
        one, other = (store.scores().query("metric == 'pixel_auroc'")["value"].item() for store in (full, half))
        assert one == pytest.approx(other, abs=1e-3)


class TestRescore:
    def test_gives_the_same_scores(self, tmp_path: Path) -> None:
        store, _ = run(tmp_path, "scripted", "intensity")
        before, costs = without_costs(store), store.scores()[store.scores()["metric"].isin(COSTS)]
        assert rescore(store) == []
        for mine, theirs in zip(without_costs(store), before, strict=True):
            pd.testing.assert_frame_equal(mine, theirs)
        pd.testing.assert_frame_equal(store.scores()[store.scores()["metric"].isin(COSTS)], costs)

    def test_scores_otherwise_and_remembers(self, tmp_path: Path) -> None:
        store, _ = run(tmp_path)
        rescore(store, ScoreConfig(mask_edges="paper", fixed_threshold=1.0))
        assert "fixed" in set(store.scores()["policy"])
        assert store.read().config.score.model_dump() == {
            "mask_edges": "paper",
            "surface_tolerance": 1.0,
            "thresholds": ["all"],
            "fixed_threshold": 1.0,
            "pixels": "auto",
            "padding": "exclude",
            "foreground": "card",
            "post": [],
        }
        rescore(store)
        assert "fixed" in set(store.scores()["policy"])

    def test_other_scoring_code_scores_again(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        store, outcomes = run(tmp_path)
        table = store.cell(outcomes[0].cell.name).folder / "scores.parquet"
        before = table.stat().st_mtime_ns
        run(tmp_path)
        assert table.stat().st_mtime_ns == before
        monkeypatch.setattr(cells, "scoring_version", lambda: "later")
        _, outcomes = run(tmp_path)
        assert outcomes[0].status == "kept", "nothing is predicted again"
        assert table.stat().st_mtime_ns > before

    def test_names_cells_whose_maps_are_gone(self, tmp_path: Path) -> None:
        store, _ = run(tmp_path, maps="none")
        before = store.scores()
        assert rescore(store) == before["cell"].unique().tolist()
        pd.testing.assert_frame_equal(store.scores(), before)

    def test_takes_no_other_settings_where_maps_are_gone(self, tmp_path: Path) -> None:
        store, _ = run(tmp_path, maps="none")
        record = store.read()
        with pytest.raises(UsageError, match="kept no maps"):
            rescore(store, ScoreConfig(padding="count"))
        assert store.read() == record

    def test_refuses_other_data(self, tmp_path: Path) -> None:
        write_bmad(phantom_brain_mri(Path(), train=3, valid=4, test=6, size=64), tmp_path / "data")
        store, _ = run(tmp_path / "results", dataset=[str(tmp_path / "data")])
        image = sorted((tmp_path / "data" / "train" / "good" / "img").iterdir())[0]
        image.unlink()
        with pytest.raises(BenchError, match="has changed since"):
            rescore(store)

    def test_keeps_failed_cells(self, tmp_path: Path) -> None:
        store, _ = run(tmp_path, "failing", "intensity")
        rescore(store)
        assert (store.scores()["error"] != "").sum() == 1
