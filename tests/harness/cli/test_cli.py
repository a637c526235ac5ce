"""The command line as a user meets it: exit codes, messages, output."""

import json
import os
import re
import shlex
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import click
import pandas as pd
import pytest
import yaml

from miasbench.datasets.phantom import phantom_brain_mri, write_bmad
from miasbench.harness.cli import cli, main
from miasbench.harness.cli.options import LocalPath
from miasbench.harness.running.local import prepare
from miasbench.harness.running.runner import write_run_tables
from miasbench.results.store import RunStore, find_runs

from ...support.records import rewrite

TINY = "phantom_brain_mri:train=3,valid=4,test=6,size=64"

Bench = Callable[..., tuple[int, str, str]]


@pytest.fixture
def bench(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Bench:
    """Runs a command in an empty folder and returns its exit code, output and messages."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("MIASBENCH_DATA", str(tmp_path / "data"))
    monkeypatch.setenv("TQDM_DISABLE", "1")

    def run(*arguments: object) -> tuple[int, str, str]:
        with pytest.raises(SystemExit) as end:
            main([str(argument) for argument in arguments])
        output = capsys.readouterr()
        assert "Traceback" not in output.out + output.err
        assert isinstance(end.value.code, int)
        return end.value.code, output.out, output.err

    return run


def run_tiny(bench: Bench, *more: object, methods: str = "intensity") -> tuple[int, str, str]:
    return bench("run", "--methods", methods, "--dataset", TINY, "--size", 64, "--weights", "embedded", *more)


HaveRun = Callable[..., RunStore]


@pytest.fixture(scope="module")
def made() -> dict[tuple[object, ...], Path]:
    """The results folders that `have_run` copies, each of one run."""
    return {}


@pytest.fixture
def have_run(
    bench: Bench, made: dict[tuple[object, ...], Path], tmp_path: Path, tmp_path_factory: pytest.TempPathFactory
) -> HaveRun:
    """Puts a finished run into the test's results folder, for tests of what reads it: the same run is made once."""

    def have(*more: object, methods: str = "intensity") -> RunStore:
        key = (methods, *more)
        if key not in made:
            folder = tmp_path_factory.mktemp("made")
            code, _, err = run_tiny(bench, *more, "--results", folder, methods=methods)
            assert code == 0, err
            made[key] = folder
        (run,) = find_runs(made[key])
        there = tmp_path / "bench-results" / run.name
        shutil.copytree(str(run.folder), there)
        (there / "run.json").touch()  # it is the latest
        return RunStore(there)

    return have


class TestHelp:
    @pytest.mark.parametrize(
        "command",
        [
            [],
            ["run"],
            ["score"],
            ["show"],
            ["thresholds"],
            ["stats"],
            ["report"],
            ["compare"],
            ["baseline"],
            ["check"],
            ["verify"],
            ["list"],
            ["list", "runs"],
            ["data"],
            ["data", "phantom"],
            ["data", "get"],
            ["data", "add"],
            ["data", "verify"],
            ["weights"],
            ["weights", "get"],
            ["weights", "list"],
            ["weights", "verify"],
        ],
    )
    def test_every_command_has_help(self, bench: Bench, command: list[str]) -> None:
        code, out, _ = bench(*command, "--help")
        assert code == 0
        assert "Usage: bench" in out

    @pytest.mark.parametrize(
        "command",
        [
            [],
            ["run"],
            ["score"],
            ["show"],
            ["thresholds"],
            ["stats"],
            ["report"],
            ["compare"],
            ["baseline"],
            ["check"],
            ["data", "phantom"],
            ["data", "get"],
            ["data", "add"],
            ["data", "verify"],
            ["weights", "get"],
        ],
    )
    def test_help_has_examples(self, bench: Bench, command: list[str]) -> None:
        assert f"  bench {' '.join(command)}".rstrip() in bench(*command, "-h")[1].split("Examples:")[1]

    def test_version(self, bench: Bench) -> None:
        assert bench("--version")[1].startswith("bench, version 0")

    def test_lists(self, bench: Bench) -> None:
        for name in ("mias_sam", "patchcore", "intensity"):
            assert name in bench("list", "methods")[1]
        for name in ("brain_mri", "liver_ct", "retina_oct", "phantom_liver_ct"):
            assert name in bench("list", "datasets")[1]
        code, out, _ = bench("list", "runs")
        assert code == 0
        assert "There are no runs" in out

    def test_methods_say_whether_they_are_trained_and_which_weights_they_have(self, bench: Bench) -> None:
        lines = {line.split()[0]: line for line in bench("list", "methods")[1].splitlines() if line}
        assert re.match(r"rd4ad +trained +published, embedded +\w", lines["rd4ad"])
        assert re.match(r"patchcore +published, embedded +anomalib", lines["patchcore"])
        assert re.match(r"intensity +The smoothed", lines["intensity"])
        assert "# Methods" in bench("list", "methods", "--markdown")[1]


class TestAnUnfinishedRun:
    @pytest.fixture
    def killed(self, have_run: HaveRun) -> RunStore:
        """A run of four cells, of which a killed process has left three; nothing in `intensity` is random."""
        run = have_run("--seeds", "0-2", "--limit", 4, "--epochs", 1, methods="intensity,ae")
        record = run.read()
        run.cell(record.cells[-1].name).reopen()
        run.write(record.model_copy(update={"status": "running"}))
        write_run_tables(run, [cell.name for cell in record.cells])
        return run

    @pytest.mark.usefixtures("undrawn")
    @pytest.mark.parametrize("command", ["show", "stats", "thresholds", "compare", "report"])
    def test_every_command_says_how_far_it_came(
        self, bench: Bench, killed: RunStore, tmp_path: Path, command: str
    ) -> None:
        arguments: list[object] = [killed.folder]
        if command == "compare":
            shutil.copytree(killed.folder.path, tmp_path / "other")
            arguments.append(tmp_path / "other")
        if command == "report":
            arguments += ["--out", tmp_path / "out"]
        code, out, _ = bench(command, *arguments)
        assert code == 0
        assert f"{killed.name} is unfinished: 3 of 4 cells" in out
        if command == "report":
            for file in ("report.html", "tables/tables.md", "tables/dice.tex"):
                assert "unfinished: 3 of 4 cells" in (tmp_path / "out" / file).read_text()

    def test_it_runs_only_while_a_process_holds_a_lock(self, bench: Bench, killed: RunStore) -> None:
        assert "unfinished: 3 of 4 cells" in bench("list", "runs")[1]
        lock = killed.cell(killed.read().cells[-1].name).lock()
        assert lock is not None
        with lock:
            assert "running: 3 of 4 cells" in bench("list", "runs")[1]
        with killed.lock():
            assert "running: 3 of 4 cells" in bench("list", "runs")[1]
        assert "unfinished: 3 of 4 cells" in bench("list", "runs")[1]

    def test_a_finished_run_is_done(self, bench: Bench, killed: RunStore) -> None:
        killed.write(killed.read().model_copy(update={"status": "done"}))
        assert "  done  " in bench("list", "runs")[1]
        assert "unfinished" not in bench("show")[1]

    def test_a_record_that_cannot_be_read_does_not_hide_the_others(
        self, bench: Bench, killed: RunStore, tmp_path: Path
    ) -> None:
        (tmp_path / "bench-results" / "broken" / "run.json").mkdir(parents=True)
        code, out, _ = bench("list", "runs")
        assert code == 0
        assert "broken  " in out
        assert f"{killed.name}  " in out

    def test_how_little_was_measured_stands_above_the_table(self, bench: Bench, killed: RunStore) -> None:
        counts = r"4 test images of \d patients \(2 normal, 2 anomalous of \d patients?\)"
        how = "64 x 64 pixels; limit 4, a part of the dataset; seeds 0, 1"
        assert re.search(f"{counts}; {how}", " ".join(bench("show")[1].split()))


class TestRun:
    def test_prints_the_table_and_where_the_files_are(self, bench: Bench, tmp_path: Path) -> None:
        code, out, err = run_tiny(bench)
        assert (code, err) == (0, "")
        assert "mean DICE of anomalous images" in out
        assert "AUPRO" in out
        assert "predict test" in out, "without a terminal every stage is a line"
        run = find_runs(tmp_path / "bench-results")[0]
        assert str(run.folder) in out
        assert {path.name for path in run.folder.iterdir()} == {
            ".lock",
            "run.json",
            "cases.csv",
            "cases.parquet",
            "volumes.csv",
            "volumes.parquet",
            "scores.csv",
            "scores.parquet",
            "curves.csv",
            "curves.parquet",
            "comparisons.csv",
            "comparisons.parquet",
            "ranks.csv",
            "ranks.parquet",
            "cells",
        }

    def test_the_same_command_again_says_what_it_kept(self, bench: Bench) -> None:
        run_tiny(bench)
        code, out, _ = run_tiny(bench)
        assert code == 0
        assert "1 of 1 cells were finished before; --force runs them again." in out
        assert "finished before" not in run_tiny(bench, "--force")[1]

    def test_show_and_list_find_the_run(self, bench: Bench, have_run: HaveRun, tmp_path: Path) -> None:
        name = have_run().name
        assert name in bench("list", "runs")[1]
        for which in ([], ["latest"], [name], [name[:-3]], [tmp_path / "bench-results" / name]):
            code, out, _ = bench("show", *which)
            assert code == 0
            assert "mean DICE of anomalous images" in out

    def test_published_numbers_of_other_images_stand_apart(self, bench: Bench, have_run: HaveRun) -> None:
        have_run(methods="patchcore,intensity")
        assert "ublished of" not in bench("show")[1]
        code, out, _ = bench("show", "--published")
        assert code == 0
        title = "Published of brain_mri, whose images are not those of phantom_brain_mri: not comparable"
        assert title in " ".join(out.split())
        assert "measured, beside what was published" not in out, "these are other images"
        assert "│ yes" not in out

    def test_epochs_go_to_what_is_trained(self, bench: Bench, tmp_path: Path, plugins: Any) -> None:
        code, _, err = run_tiny(bench, "--epochs", 3, "--batch-size", 2, methods="trained,intensity")
        assert code == 0, err
        cells = find_runs(tmp_path / "bench-results")[0].read().cells
        assert [(cell.options.get("epochs"), cell.options.get("batch_size")) for cell in cells] == [
            (3, 2),
            (None, None),
        ]

    def test_score_again(self, bench: Bench, have_run: HaveRun) -> None:
        have_run()
        code, out, _ = bench("score", "latest", "--fixed-threshold", 100)
        assert code == 0
        assert "fixed" in out
        assert "fixed" in bench("show")[1]

    def test_maps_none_says_what_cannot_be_done_any_more(self, bench: Bench) -> None:
        code, out, _ = run_tiny(bench, "--maps", "none")
        assert code == 0
        assert "new thresholds and metrics cannot be computed from this run" in " ".join(out.split())
        code, _, err = bench("score", "--fixed-threshold", 100)
        assert code == 2
        assert "kept no maps (--maps none), so it cannot be scored in another way" in err
        code, out, _ = bench("score")
        assert code == 0
        assert "1 cell keeps its old scores" in out
        assert bench("verify")[0] == 0

    def test_a_run_file_holds_every_option(self, bench: Bench, tmp_path: Path) -> None:
        options: dict[str, Any] = {
            "methods": ["intensity"],
            "dataset": [TINY],
            "weights": "embedded",
            "seeds": [0, 1],
            "device": "cpu",
            "data_root": str(tmp_path / "data"),
            "results": str(tmp_path / "kept"),
            "name": None,
            "limit": 3,
            "size": 64,
            "maps": "float16",
            "epochs": None,
            "batch_size": None,
            "controls": False,
            "executor": "local",
            "workers": 1,
            "threads": 1,
            "cell_memory": 1.5,
            "address": None,
            "shard_cases": 0,
            "set": {"intensity": {"sigma": 1}},
            "score": {
                "thresholds": ["normal_quantile[q=0.9]", "valid_dice"],
                "mask_edges": "paper",
                "fixed_threshold": 90,
                "surface_tolerance": 2.0,
                "pixels": "exact",
                "padding": "count",
                "foreground": "otsu",
                "post": ["fill_holes"],
            },
        }
        (tmp_path / "run.yaml").write_text(yaml.safe_dump(options))
        code, _, err = bench("run", "--config", "run.yaml", "--seeds", "4", "--set", "intensity.sigma=3")
        assert code == 0, err
        record = find_runs(tmp_path / "kept")[0].read()
        config = record.config.content()
        assert config | {"seeds": 0, "set": 0} == options | {"seeds": 0, "set": 0}
        assert config["seeds"] == [4], "the command line wins"
        assert record.cells[0].options == {"sigma": 3.0}

    @pytest.mark.parametrize(
        ("content", "says"),
        [
            ("set: 5", "Option set in run.yaml, line 1: it should hold options"),
            ("set: {intensity: 5}", "Option set.intensity in run.yaml, line 1: it should hold options"),
            ("score: paper", "Option score in run.yaml, line 1: it should hold options"),
            ("methds: [intensity]", "Did you mean 'methods'?"),
        ],
    )
    def test_a_run_file_that_is_wrong(self, bench: Bench, tmp_path: Path, content: str, says: str) -> None:
        (tmp_path / "run.yaml").write_text(f"{content}\n")
        code, _, err = bench(
            "run", "--config", "run.yaml", "-m", "intensity", "-d", TINY, "--set", "intensity.sigma=1"
        )  # fmt: skip
        assert code == 2
        assert says in err

    def test_a_run_file_with_empty_sections(self, bench: Bench, tmp_path: Path) -> None:
        (tmp_path / "run.yaml").write_text(f"methods: intensity\ndataset: '{TINY}'\nsize: 64\nset:\nscore:\n")
        assert bench("run", "--config", "run.yaml")[0] == 0
        assert bench("run", "--config", "run.yaml", "--set", "intensity.sigma=1")[0] == 0

    def test_several_datasets_and_methods(self, bench: Bench, tmp_path: Path) -> None:
        write_bmad(phantom_brain_mri(Path(), train=3, valid=4, test=6, size=64), tmp_path / "mine")
        code, out, _ = bench(
            "run", "-m", "intensity", "-d", f"{TINY},phantom_liver_ct:train=3,valid=4,test=6,size=64",
            "-d", "./mine", "--size", 64,
        )  # fmt: skip
        assert code == 0
        assert out.count("mean DICE of anomalous images") == 3

    def test_the_next_commands_are_named_as_they_can_be_given(self, bench: Bench, tmp_path: Path) -> None:
        _, out, _ = run_tiny(bench, "--name", "one")
        assert out.endswith("\nNext: bench report one --out paper · bench thresholds one\n"), (
            "one method has none beside it"
        )
        _, out, _ = run_tiny(bench, "--results", "my runs", "--name", "two", methods="intensity[sigma=1],intensity")
        *_, last = out.splitlines()
        run = f"'{tmp_path}/my runs/two'"
        commands = f"report {run} --out paper", f"thresholds {run}", f"stats {run}"
        assert last == "Next: " + " · ".join(f"bench {command}" for command in commands)
        assert [bench(*shlex.split(command))[0] for command in commands[1:]] == [0, 0]

    def test_variants_of_a_method(self, bench: Bench, tmp_path: Path) -> None:
        methods = "intensity[sigma=1], intensity[ sigma=2 ],intensity"
        code, out, err = run_tiny(bench, "--set", "intensity.sigma=3", methods=methods)
        assert code == 0, err
        for name in ("intensity[sigma=1]", "intensity[sigma=2]"):
            assert f"│ {name} " in out
        record = find_runs(tmp_path / "bench-results")[0].read()
        assert [cell.options["sigma"] for cell in record.cells] == [1, 2, 3]
        assert "intensity[sigma=1], intensity[sigma=2], intensity\n" in bench("list", "runs")[1]

    def test_variants_in_a_run_file(self, bench: Bench, tmp_path: Path) -> None:
        content = {"methods": ["intensity[sigma=1]", "intensity"], "set": {"intensity": {"sigma": 3}}}
        (tmp_path / "run.yaml").write_text(yaml.safe_dump({**content, "dataset": TINY, "size": 64}))
        code, out, err = bench("run", "--config", "run.yaml")
        assert code == 0, err
        assert "│ intensity[sigma=1] " in out

    def test_a_run_file_says_the_same_in_the_words_of_the_command_line(self, bench: Bench, tmp_path: Path) -> None:
        for name in ("a", "x, y"):
            write_bmad(phantom_brain_mri(Path(), train=3, valid=4, test=6, size=64), tmp_path / name)
        (tmp_path / "run.yaml").write_text(
            "methods: intensity,intensity[sigma=1]\ndataset: ./a,'./x, y'\nseeds: 0-1\nsize: 64\n"
            "mask-edges: paper\nset: {intensity.sigma: 3}\n"
        )
        code, _, err = bench("run", "--config", "run.yaml")
        assert code == 0, err
        (from_file,) = find_runs(tmp_path / "bench-results")
        code, _, err = bench(
            "run", "-m", "intensity,intensity[sigma=1]", "-d", "./a", "-d", "./x, y", "--seeds", "0,1", "--size", 64,
            "--mask-edges", "paper", "--set", "intensity.sigma=3",
        )  # fmt: skip
        assert code == 0, err
        assert [run.name for run in find_runs(tmp_path / "bench-results")] == [from_file.name]
        record = from_file.read()
        assert len(record.cells) == 4, "nothing in intensity is random: one seed is enough"
        assert record.config.content()["dataset"] == [str(tmp_path / "a"), str(tmp_path / "x, y")]

    @pytest.mark.usefixtures("undrawn")
    def test_a_run_is_scored_and_reported_from_any_folder(
        self, bench: Bench, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        write_bmad(phantom_brain_mri(Path(), train=3, valid=4, test=6, size=64), tmp_path / "one" / "mine")
        (tmp_path / "one" / "card.yaml").write_text("name: carded\nroot: ../one/mine\n")
        (tmp_path / "other").mkdir()
        monkeypatch.chdir(tmp_path / "one")
        code, _, err = bench("run", "-m", "intensity", "-d", "./mine,card.yaml", "--size", 64, "--results", "../runs")
        assert code == 0, err
        (run,) = find_runs(tmp_path / "runs")
        monkeypatch.chdir(tmp_path / "other")
        assert bench("score", run.folder)[0] == 0
        code, out, err = bench("report", run.folder, "--out", "paper")
        assert (code, err) == (0, "")
        assert "No gallery" not in out
        assert "gallery_mine@intensity.png" in out
        record = run.read()
        assert {cell.dataset for cell in record.cells} == {"mine", "carded"}
        assert str(tmp_path) not in json.dumps(record.content()["cells"]), "what a cell depends on knows no paths"

    def test_home_is_found_behind_an_option_and_in_files(
        self, bench: Bench, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setenv("HOME", str(tmp_path / "home"))
        write_bmad(phantom_brain_mri(Path(), train=3, valid=4, test=6, size=64), tmp_path / "home" / "d")
        (tmp_path / "run.yaml").write_text("methods: intensity\ndataset: [~/d]\nresults: ~/r1\nsize: 64\n")
        assert bench("run", "--config", "run.yaml")[0] == 0
        (tmp_path / "c.yaml").write_text("name: c\nroot: ~/d\n")
        assert bench("data", "verify", "c.yaml")[0] == 0
        assert bench("score", "--results=~/r1")[0] == 0
        run = find_runs(tmp_path / "home" / "r1")[0].name
        assert bench("show", f"~/r1/{run}")[0] == 0
        assert bench("thresholds", "--results=~/r1", "--out=~/figures")[0] == 0
        assert bench("baseline", "--results=~/r1", "--out=~/baseline.json")[0] == 0
        assert bench("check", "--results=~/r1", "--baseline=~/baseline.json", "--junit=~/gate.xml")[0] == 0
        made = {path.name for path in (tmp_path / "home").iterdir()}
        assert made == {"d", "r1", "figures", "baseline.json", "gate.xml"}
        assert not (tmp_path / "~").exists()

    def test_two_datasets_of_one_name_are_told_with_their_paths_and_the_way_out(
        self, bench: Bench, tmp_path: Path
    ) -> None:
        for place in ("a", "b"):
            write_bmad(phantom_brain_mri(Path(), train=3, valid=4, test=6, size=64), tmp_path / place / "mine")
        code, _, err = bench("run", "-m", "intensity", "-d", "a/mine,b/mine", "--size", 64)
        assert code == 2
        for part in (str(tmp_path / "a" / "mine"), str(tmp_path / "b" / "mine"), "a card (.yaml)", "name: mine_2"):
            assert part in err
        assert bench("run", "-m", "intensity", "-d", "a/mine,./a/mine", "--size", 64)[0] == 0, "one, named twice"

    def test_a_run_with_one_more_method_or_seed_takes_finished_cells_over(self, bench: Bench, tmp_path: Path) -> None:
        assert run_tiny(bench)[0] == 0
        (first,) = find_runs(tmp_path / "bench-results")
        code, out, err = run_tiny(bench, "--seeds", "0-1", methods="intensity,intensity[sigma=1]")
        assert code == 0, err
        assert "1 of 2 cells were finished before" in out
        assert f"1 of these was taken from the run {first.name}." in out
        second = find_runs(tmp_path / "bench-results")[0]
        assert second.name != first.name
        (cell,) = first.read().cells
        for path in (one.cell(cell.name).folder / "test" for one in (first, second)):
            assert len(list(path.glob("*.npz"))) == 6
        assert first.cell(cell.name).read() == second.cell(cell.name).read()
        shutil.rmtree(first.folder.path)
        assert bench("score", second.name)[0] == 0, "it needs the other no more"
        assert "taken" not in run_tiny(bench, "--force", "--seeds", "0")[1]

    def test_a_named_run_grows_and_loses_nothing(self, bench: Bench, tmp_path: Path) -> None:
        write_bmad(phantom_brain_mri(Path(), train=3, valid=4, test=6, size=64), tmp_path / "mine")
        assert run_tiny(bench, "--name", "mine")[0] == 0
        code, _, err = run_tiny(bench, "--name", "mine", methods="intensity[sigma=1]")
        assert code == 0, err
        assert bench("run", "--name", "mine", "-m", "intensity", "-d", "./mine", "--seeds", 1, "--size", 64)[0] == 0
        (run,) = find_runs(tmp_path / "bench-results")
        assert run.name == "mine"
        cells = [(TINY, "intensity", 0), (TINY, "intensity[sigma=1]", 0), ("mine", "intensity", 1)]
        record = run.read()
        assert [(cell.dataset, cell.method, cell.seed) for cell in record.cells] == cells
        scores = run.scores()[["dataset", "method", "seed"]].drop_duplicates()
        assert list(scores.itertuples(index=False, name=None)) == cells
        assert bench("score", "mine", "--fixed-threshold", 100)[0] == 0
        assert run_tiny(bench, "--name", "mine", "--fixed-threshold", 100, "--set", "intensity.sigma=3")[0] == 0
        assert [cell.options["sigma"] for cell in run.read().cells] == [1, 2, 3], "a cell takes another's place"
        code, _, err = run_tiny(bench, "--name", "mine", methods="intensity[sigma=4]")
        assert code == 2
        assert "measured with fixed_threshold 100.0, and this command says None" in err
        assert "give another --name" in err
        code, _, err = bench("run", "--name", "mine", "-m", "intensity", "-d", TINY, "--size", 128)
        assert code == 2
        assert "measured with size 64, and this command says 128" in err

    @pytest.mark.usefixtures("undrawn")
    def test_names_that_look_alike_have_files_of_their_own(self, bench: Bench, tmp_path: Path) -> None:
        names = ("scan v1", "scan_v1", "肝脏", "大脑", "A", "a")
        for place, name in enumerate(names):
            folder = tmp_path / str(place) / name
            write_bmad(phantom_brain_mri(Path(), train=3, valid=4, test=6, size=64), folder)
        datasets = [part for place, name in enumerate(names) for part in ("-d", f"./{place}/{name}")]
        code, _, err = bench("run", "-m", "intensity", *datasets, "--size", 64)
        assert code == 0, err
        assert bench("report", "--out", "paper")[0] == 0
        for place, pattern in (
            ("tables", "policies-*.csv"),
            ("tables", "masks-*.tex"),
            ("tables", "maps-*.tex"),
            ("figures", "thresholds-*.pdf"),
            ("figures", "gallery_*.png"),
        ):
            found = {path.name.lower() for path in (tmp_path / "paper" / place).glob(pattern)}
            assert len(found) == len(names), pattern
        inputs = re.findall(r"\\input{(.*?)}", (tmp_path / "paper" / "tables" / "tables.tex").read_text())
        assert len(set(inputs)) == len(inputs)
        assert all((tmp_path / "paper" / "tables" / name).exists() for name in inputs)

    def test_patients_in_two_splits_are_pointed_out(self, bench: Bench, tmp_path: Path) -> None:
        write_bmad(phantom_brain_mri(Path(), train=3, valid=4, test=6, size=64), tmp_path / "mine")
        good = tmp_path / "mine" / "test" / "good" / "img"
        image = sorted((tmp_path / "mine" / "train" / "good" / "img").iterdir())[0]
        (good / f"{image.stem}9.png").write_bytes(image.read_bytes())
        code, out, _ = bench("run", "-m", "intensity", "-d", "./mine", "--size", 64)
        assert code == 0
        assert "patient in more than one split" in " ".join(out.split())


class TestReading:
    """Commands that read a finished run."""

    def test_thresholds_are_tabled_and_drawn(self, bench: Bench, have_run: HaveRun, tmp_path: Path) -> None:
        have_run(methods="intensity[sigma=1],intensity[sigma=4],intensity[sigma=2]")
        code, out, err = bench("thresholds", "latest", "--out", tmp_path / "figures")
        assert (code, err) == (0, "")
        assert "where each policy landed" in out
        assert "Kendall's tau" in out
        figure = "thresholds-phantom_brain_mri_train=3_valid=4_test=6_size=64-2a8d706913"
        found = {path.name for path in (tmp_path / "figures").iterdir()}
        figures = (figure, figure.replace("thresholds", "false_positives"), "regret")
        assert found == {*(f"{name}.{kind}" for name in figures for kind in ("png", "pdf")), "thresholds.csv"}
        rows = pd.read_csv(tmp_path / "figures" / "thresholds.csv")
        assert rows.loc[rows["policy"] == "oracle_dice", "rank"].isna().all()
        assert (rows["regret"].dropna() >= -1e-12).all(), "no threshold beats the oracle"

    def test_stats_say_who_leads_and_who_is_tied(self, bench: Bench, have_run: HaveRun) -> None:
        have_run(methods="intensity[sigma=1],intensity[sigma=4]")
        code, out, err = bench("stats")
        assert (code, err) == (0, "")
        assert "has the highest DICE" in out
        assert "every two methods" not in out
        code, out, _ = bench("stats", "latest", "--policy", "otsu", "--pairs")
        assert code == 0
        assert "DICE of otsu, ranked" in out
        assert "every two methods" in out

    def test_stats_say_what_choosing_a_threshold_costs(self, bench: Bench, have_run: HaveRun) -> None:
        have_run(methods="intensity[sigma=1],intensity[sigma=4]")
        code, out, err = bench("stats", "latest", "--policy", "otsu", "--regret")
        assert (code, err) == (0, "")
        assert "regret of otsu" in out
        assert "No two methods can be told apart by their regret" in out
        assert "Tests of other policies are not corrected for" in " ".join(out.split())

    def test_stats_of_some_methods_are_corrected_for_their_pairs(self, bench: Bench) -> None:
        methods, dataset = "intensity[sigma=1],intensity[sigma=2],intensity[sigma=4]", TINY.replace("test=6", "test=12")
        bench("run", "--methods", methods, "--dataset", dataset, "--size", 64)
        assert "Holm over 3 pairs" in bench("stats")[1]
        code, out, _ = bench("stats", "--methods", "intensity[sigma=1],intensity[sigma=4]")
        assert code == 0
        assert "a single pair;" in out
        code, _, err = bench("stats", "--methods", "intensity[sigma=1],intensity[sigma=5]")
        assert code == 2
        assert "has no 'intensity[sigma=5]'. Did you mean" in err

    def test_what_cannot_be_compared_is_said(self, bench: Bench, have_run: HaveRun) -> None:
        have_run()
        code, _, err = bench("stats")
        assert code == 2
        assert "no two methods on the same dataset" in err
        code, _, err = bench("stats", "--policy", "otus")
        assert code == 2
        assert "has no masks by 'otus' to compare. Did you mean 'otsu'?" in err
        have_run(methods="intensity[sigma=1],intensity[sigma=4]")
        code, _, err = bench("stats", "--policy", "otus")
        assert code == 2
        assert "Did you mean 'otsu'?" in err
        assert bench("thresholds", "nothing")[0] == 2

    def test_pixels_are_binned_when_asked_for(self, bench: Bench, have_run: HaveRun, tmp_path: Path) -> None:
        run = have_run()
        assert bench("score", "--pixels", "binned")[0] == 0
        assert run.read().config.score.content()["pixels"] == "binned"

    def test_padding_is_left_out_or_counted_as_asked(self, bench: Bench, tmp_path: Path) -> None:
        oct_scans = "phantom_retina_oct:train=3,valid=4,test=6,size=64"  # half as high as they are wide
        run = ("run", "--methods", "intensity", "--dataset", oct_scans, "--size", 64, "--executor", "inline")
        assert bench(*run, "--padding", "count")[0] == 0
        (store,) = find_runs(tmp_path / "bench-results")

        def auroc(*score: str) -> float:
            if score:
                assert bench(*score)[0] == 0
            (row,) = store.scores().query("metric == 'pixel_auroc'").to_dict("records")
            padding = store.read().config.score.padding
            assert {"count": "padding counted", "exclude": "padding left out"}[padding] in row["convention"]
            pixels = store.cases()["image_px"].unique().tolist()
            assert pixels == [64 * (64 if padding == "count" else 32)]
            return row["value"]

        counted, left_out = auroc(), auroc("score", "--padding", "exclude")
        assert left_out < counted
        assert auroc("score") == left_out, "as in the run"
        assert auroc("score", "--padding", "count") == counted
        rewrite(store, lambda record: record["config"]["score"].pop("padding"))  # a run from before the option
        assert auroc("score") == left_out

    def test_no_path_option_leaves_home_to_the_shell(self) -> None:
        def parameters(command: click.Command, ctx: click.Context) -> Iterator[click.Parameter]:
            yield from command.params
            if isinstance(command, click.Group):
                for name in command.list_commands(ctx):
                    inner = command.get_command(ctx, name)
                    assert inner is not None
                    yield from parameters(inner, ctx)

        found = [each.type for each in parameters(cli, click.Context(cli)) if isinstance(each.type, click.Path)]
        assert len(found) > 10
        assert all(isinstance(each, LocalPath) for each in found)

    @pytest.mark.parametrize(
        ("typed", "offered"),
        [
            ("bench run --methods intensity,pad", ["intensity,padim"]),
            ("bench run --dataset live", ["liver_ct"]),
            ("bench run --dataset my", ["my_data"]),
            ("bench run --config pa", ["paper"]),
            ("bench report --policy ow", ["own"]),
            ("bench show la", ["latest"]),
            ("bench show one", ["one_run"]),
            ("bench data verify phantom_l", ["phantom_liver_ct"]),
        ],
    )
    def test_a_shell_completes_names(
        self, bench: Bench, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, typed: str, offered: list[str]
    ) -> None:
        (tmp_path / "data").mkdir()
        (tmp_path / "data" / "my_data.yaml").write_text("name: my_data")
        (tmp_path / "bench-results" / "one_run").mkdir(parents=True)
        (tmp_path / "bench-results" / "one_run" / "run.json").write_text("{}")
        monkeypatch.setenv("_BENCH_COMPLETE", "bash_complete")
        monkeypatch.setenv("COMP_WORDS", typed)
        monkeypatch.setenv("COMP_CWORD", str(typed.count(" ")))
        code, out, _ = bench()
        assert code == 0
        assert out.split() == [f"plain,{name}" for name in offered]

    def test_policies_are_listed(self, bench: Bench) -> None:
        code, out, _ = bench("list", "policies")
        assert code == 0
        assert {"oracle_dice", "own", "fixed"} <= {line.split()[0] for line in out.splitlines()}


class TestReport:
    def test_tables_and_figures_are_written_and_listed(self, bench: Bench, have_run: HaveRun, tmp_path: Path) -> None:
        have_run(methods="patchcore,intensity")
        code, out, err = bench("report", "--out", "paper", "--published")
        assert (code, err) == (0, "")
        written = {str(path) for path in (tmp_path / "paper").rglob("*") if path.is_file()}
        listed = out.splitlines()
        assert set(listed) == written
        assert len(listed) == len(written)
        names = {Path(path).relative_to(tmp_path / "paper").as_posix() for path in written}
        assert names >= {
            "tables/dice.csv",
            "tables/dice.tex",
            "tables/tables.md",
            "tables/tables.tex",
            "tables/published.csv",
            "figures/dice.pdf",
            "figures/ranks.png",
            "figures/cost.pdf",
            "figures/gallery_phantom_brain_mri_train=3_valid=4_test=6_size=64-2a8d706913@patchcore.pdf",
        }

    @pytest.mark.usefixtures("undrawn")
    def test_several_runs_are_joined_and_none_loses_silently(self, bench: Bench, tmp_path: Path) -> None:
        run_tiny(bench, "--results", "one")
        run_tiny(bench, "--results", "two", methods="patchcore,intensity")
        runs = [find_runs(tmp_path / name)[0] for name in ("one", "two")]
        assert runs[0].name != runs[1].name
        folders = [run.folder for run in runs]
        code, _, err = bench("report", *folders, "--out", "paper")
        assert code == 2
        assert f"--prefer {runs[0].name} or --prefer {runs[1].name}" in err
        assert not (tmp_path / "paper").exists()
        code, _, err = bench("report", *folders, "--out", "paper", "--prefer", runs[0].name)
        assert (code, err) == (0, "")
        rows = pd.read_csv(tmp_path / "paper" / "tables" / "dice.csv")
        assert rows.loc[rows["kind"] == "method", "row"].tolist() == ["intensity", "patchcore"]

    @pytest.mark.usefixtures("undrawn")
    def test_a_dataset_that_is_gone_costs_its_galleries_only(self, bench: Bench, tmp_path: Path) -> None:
        write_bmad(phantom_brain_mri(Path(), train=3, valid=4, test=6, size=64), tmp_path / "set")
        bench("run", "--methods", "intensity", "--dataset", "./set", "--size", 64)
        shutil.rmtree(tmp_path / "set")
        code, out, err = bench("report", "--out", "paper")
        assert code == 0
        assert "No gallery of " in out + err
        assert "figures/dice.pdf" in out
        assert "gallery" not in out.replace("No gallery of", "")

    @pytest.mark.usefixtures("undrawn")
    def test_what_cannot_be_reported_is_said(self, bench: Bench, have_run: HaveRun) -> None:
        have_run()
        code, _, err = bench("report", "--out", "paper", "--policy", "oracle_dice")
        assert code == 2
        assert "No method has masks by 'oracle_dice', or they are an oracle's." in err
        assert "--out" in bench("report")[2]
        code, out, err = bench("report", "--out", "paper", "--published")
        assert (code, err) == (0, "")
        assert out.startswith("No published numbers are known of what was measured.")

    def test_a_folder_that_cannot_be_written(self, bench: Bench, have_run: HaveRun, tmp_path: Path) -> None:
        have_run()
        (tmp_path / "file").touch()
        code, _, err = bench("report", "--out", "file/paper")
        assert code == 2
        assert "a part of its path is a file and not a folder. Move that, or name another place." in err


class TestCompare:
    def test_two_runs_side_by_side(self, bench: Bench, tmp_path: Path) -> None:
        run_tiny(bench, "--results", "one")
        run_tiny(bench, "--results", "two", "--seeds", 1)
        folders = [find_runs(tmp_path / name)[0].folder for name in ("one", "two")]
        code, out, err = bench("compare", *folders, "--csv", "differences.csv")
        assert (code, err) == (0, "")
        assert "seeds" in out
        assert "oracle" not in out
        written = pd.read_csv("differences.csv")
        assert {"dice", "iou", "pixel_auroc"} <= set(written["metric"])
        assert "iou" not in out
        assert "iou" in bench("compare", *folders, "--all")[1]

    def test_what_cannot_be_compared_is_said(self, bench: Bench, have_run: HaveRun, tmp_path: Path) -> None:
        have_run()
        code, _, err = bench("compare", "latest", "latest")
        assert code == 2
        assert "A and B are both the run" in err


class TestGate:
    def test_the_same_again_passes(self, bench: Bench, have_run: HaveRun) -> None:
        have_run()
        code, out, err = bench("baseline", "latest")
        assert (code, err) == (0, "")
        assert "Baseline of 1 cell of the run" in out
        code, out, err = bench("check", "latest", "--baseline", "baseline.json")
        assert (code, err) == (0, "")
        assert "Nothing is worse than the baseline" in out

    def test_a_drop_and_a_gain_are_reported_where_they_are_read(
        self, bench: Bench, have_run: HaveRun, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        have_run()
        bench("baseline")
        kept = json.loads((tmp_path / "baseline.json").read_text())
        kept["cells"][0]["scores"]["aupro"]["value"] = 1.0
        kept["cells"][0]["scores"]["pixel_auroc"]["value"] = 0.0
        (tmp_path / "baseline.json").write_text(json.dumps(kept))
        (tmp_path / "summary").write_text("before\n")
        monkeypatch.setenv("GITHUB_STEP_SUMMARY", str(tmp_path / "summary"))
        reports = ("--github", "--junit", "gate.xml", "--markdown", "gate.md")
        code, out, _ = bench("check", "--baseline", "baseline.json", *reports)
        assert code == 1
        assert "1 × worse by more than the tolerance: a regression." in out
        assert "1 × better by more than the tolerance." in out
        markdown = (tmp_path / "gate.md").read_text()
        assert (tmp_path / "summary").read_text() == f"before\n{markdown}"
        assert "**regression**" in markdown
        assert 'failures="1"' in (tmp_path / "gate.xml").read_text()
        (accept,) = re.findall(r"new baseline: `bench (.*)`", markdown)
        assert bench(*shlex.split(accept))[0] == 0
        assert bench("check", "--baseline", "baseline.json")[0] == 0, "the command that was named accepts it"

    def test_tolerances_stay_when_a_baseline_is_made_again(
        self, bench: Bench, have_run: HaveRun, tmp_path: Path
    ) -> None:
        have_run()
        bench("baseline", "--out", "b.json", "--tolerance", "dice=0.05", "--tolerance", "runtime=9")
        bench("baseline", "--out", "b.json", "--tolerance", "iou=0.1")
        assert json.loads((tmp_path / "b.json").read_text())["tolerance"] == {
            "dice": {"absolute": 0.05},
            "pixel_auroc": {"absolute": 0.01},
            "aupro": {"absolute": 0.02},
            "runtime": {"factor": 9.0},
            "iou": {"absolute": 0.1},
        }
        assert bench("check", "--baseline", "b.json")[0] == 0

    def test_a_dataset_without_validation_has_no_dice_to_judge(self, bench: Bench, tmp_path: Path) -> None:
        write_bmad(phantom_brain_mri(Path(), train=3, valid=4, test=6, size=64), tmp_path / "mine")
        shutil.rmtree(tmp_path / "mine" / "valid")
        bench("run", "-m", "intensity", "-d", "./mine", "--size", 64)
        code, _, err = bench("baseline", "--tolerance", "dice=0.05")
        assert code == 2
        assert "dice: there is no dice of the method's own masks or of valid_dice." in err
        assert "The run has pixel_auroc, pixel_ap, aupro" in err
        assert not (tmp_path / "baseline.json").exists()
        code, out, _ = bench("baseline")
        assert code == 0
        assert "No tolerance for dice, which judges nothing here." in out
        code, out, _ = bench("check", "--baseline", "baseline.json")
        assert (code, "The gate passed." in out) == (0, True)
        kept = json.loads((tmp_path / "baseline.json").read_text())
        kept["tolerance"] = {"dice": {"absolute": 0.05}}  # as 0.1.0 wrote it
        (tmp_path / "baseline.json").write_text(json.dumps(kept))
        code, out, _ = bench("check", "--baseline", "baseline.json", "--markdown", "gate.md", "--junit", "gate.xml")
        assert code == 5
        assert "The gate failed." in out
        assert "2 × without anything to judge" in out
        assert "Nothing is worse" not in out
        assert (tmp_path / "gate.md").read_text().startswith("### Benchmark gate: failed")

    def test_a_baseline_names_the_cells_that_a_tolerance_does_not_judge(self, bench: Bench, tmp_path: Path) -> None:
        for name in ("mine", "bare"):
            write_bmad(phantom_brain_mri(Path(), train=3, valid=4, test=6, size=64), tmp_path / name)
        shutil.rmtree(tmp_path / "bare" / "valid")
        bench("run", "-m", "intensity", "-d", "./mine", "-d", "./bare", "--size", 64)
        code, out, _ = bench("baseline", "--tolerance", "dice=0.05")
        assert code == 0
        assert "bare · intensity: dice is not judged there: there is no dice" in out
        assert "mine · intensity" not in out

    def test_a_test_of_one_patient_cannot_be_paired(self, bench: Bench, have_run: HaveRun, tmp_path: Path) -> None:
        have_run()  # all of its lesions are one patient's
        code, _, err = bench("baseline", "--tolerance", "dice=paired")
        assert code == 2
        assert "dice: a paired interval takes two patients or more." in err
        bench("baseline")
        kept = json.loads((tmp_path / "baseline.json").read_text())
        kept["tolerance"]["dice"] = "paired"  # as 0.1.0 wrote it
        (tmp_path / "baseline.json").write_text(json.dumps(kept))
        code, out, _ = bench("check", "--baseline", "baseline.json")
        assert code == 5
        assert "1 × without anything to judge" in out

    def test_a_deleted_dataset_a_changed_one_and_an_option_are_not_drops(self, bench: Bench, tmp_path: Path) -> None:
        write_bmad(phantom_brain_mri(Path(), train=3, valid=4, test=6, size=64), tmp_path / "mine")
        both = ("run", "-m", "intensity", "-d", "./mine", "-d", TINY, "--size", 64)
        bench(*both)
        bench("baseline")
        check = ("check", "--baseline", "baseline.json")
        next((tmp_path / "mine" / "test" / "good" / "img").iterdir()).unlink()
        bench(*both)
        code, out, _ = bench(*check)
        assert code == 2
        assert "1 × on a dataset that has changed" in out
        assert "worse" not in out
        shutil.rmtree(tmp_path / "mine")
        assert bench(*both)[0] == 2
        run_tiny(bench)
        code, out, _ = bench(*check)
        assert code == 2
        assert "the dataset mine is not in the run" in " ".join(out.replace("│", " ").split())
        assert "worse" not in out
        run_tiny(bench, "--set", "intensity.sigma=20")
        code, out, _ = bench(*check)
        assert code == 2
        assert "option sigma is 20.0, was 2.0" in out

    @pytest.mark.usefixtures("plugins")
    def test_a_crash_is_told_from_a_run_that_measured_nothing(self, bench: Bench, plugins: Any) -> None:
        def crash(count: int) -> None:
            raise RuntimeError("out of cheese")

        run_tiny(bench, methods="scripted,intensity")
        bench("baseline")
        plugins.hook = crash
        run_tiny(bench, "--force", methods="scripted,intensity")
        code, out, _ = bench("check", "--baseline", "baseline.json")
        assert code == 3
        assert "RuntimeError: out of cheese" in out
        code, _, err = bench("baseline")
        assert code == 2
        assert "is not finished" in err
        run_tiny(bench, "--force", methods="scripted")
        assert bench("check", "--baseline", "baseline.json")[0] == 4


class TestVerify:
    @pytest.mark.usefixtures("undrawn")
    def test_a_run_whose_numbers_were_changed_is_told_wherever_it_is_read(self, bench: Bench, tmp_path: Path) -> None:
        write_bmad(phantom_brain_mri(Path(), train=3, valid=4, test=6, size=64), tmp_path / "mine")
        bench("run", "-m", "intensity", "-d", "./mine", "--size", 64)
        (run,) = find_runs(tmp_path / "bench-results")
        shutil.copytree(str(run.folder), tmp_path / "theirs")
        assert bench("baseline", "theirs", "--out", "b.json")[0] == 0
        code, out, err = bench("verify", "theirs")
        assert (code, err) == (0, "")
        assert "all that could be checked agrees" in out
        scores = pd.read_parquet(tmp_path / "theirs" / "scores.parquet")
        scores.loc[scores["metric"] == "dice", "value"] += 0.5
        scores.to_parquet(tmp_path / "theirs" / "scores.parquet", index=False)
        code, out, _ = bench("verify", "theirs")
        assert code == 1
        assert "wrong        scores.parquet, " in out
        said = "scores.parquet of theirs is not what the run wrote: its checksum is another. bench verify says more."
        for command in (["show", "theirs"], ["compare", run.folder, "theirs"], ["report", "theirs", "--out", "out"]):
            assert said in bench(*command)[1]
        assert "Nothing else differs" not in bench("compare", run.folder, "theirs")[1]
        code, out, _ = bench("check", "theirs", "--baseline", "b.json")
        assert code == 2
        assert "1 × against tables that are not what the run wrote" in out
        code, _, err = bench("baseline", "theirs")
        assert code == 2
        assert "bench score theirs makes them again" in err

    @pytest.mark.usefixtures("undrawn")
    def test_a_dataset_that_was_moved_is_named(self, bench: Bench, tmp_path: Path) -> None:
        write_bmad(phantom_brain_mri(Path(), train=3, valid=4, test=6, size=64), tmp_path / "mine")
        bench("run", "-m", "intensity", "-d", "./mine", "--size", 64)
        (tmp_path / "mine").rename(tmp_path / "there")
        code, out, _ = bench("verify")
        assert code == 0
        assert "--dataset mine=PATH says where it is" in out
        code, _, err = bench("score")
        assert code == 2
        assert "--dataset mine=PATH says where it is now" in err
        here = ("--dataset", "mine=there")
        assert bench("score", "latest", *here)[0] == 0
        code, out, _ = bench("verify", "latest", *here)
        assert code == 0
        assert "not checked" not in out
        code, out, _ = bench("report", "latest", "--out", "out", *here)
        assert code == 0
        assert "No gallery" not in out
        write_bmad(phantom_brain_mri(Path(), train=3, valid=4, test=5, size=64), tmp_path / "other")
        for command in (["score", "latest"], ["verify", "latest"], ["report", "latest", "--out", "out"]):
            code, _, err = bench(*command, "--dataset", "mine=other")
            assert code == 2
            assert re.search(r"fingerprint is [0-9a-f]{64}, the run's [0-9a-f]{64}", " ".join(err.split()))
            code, _, err = bench(*command, "--dataset", "yours=there")
            assert code == 2
            assert "it should be NAME=PATH" in err


class TestWrongUsage:
    @pytest.mark.parametrize(
        ("arguments", "says"),
        [
            (["run", "--methods", "mias_sma", "--dataset", TINY], "Did you mean 'mias_sam'?"),
            (["run", "--methods", "intensity", "--dataset", "liverct"], "Did you mean 'liver_ct'?"),
            (["run", "--methods", "intensity", "--dataset", TINY, "--set", "intensity.sgima=1"], "mean 'sigma'?"),
            (["run", "--methods", "intensity", "--dataset", TINY, "--set", "intensity.sigma=a"], "intensity.sigma=a"),
            (["run", "--methods", "intensity", "--dataset", TINY, "--set", "sigma=1"], "like mias_sam.gamma=5"),
            (["run", "--methods", "intensity", "--dataset", TINY, "--set", "intensty.sigma=1"], "mean 'intensity'?"),
            (["run", "--methods", "intensity[sigma=1", "--dataset", TINY], "no counterpart in 'intensity[sigma=1'"),
            (["run", "--methods", "intensity[sigma]", "--dataset", TINY], "'sigma' in the method intensity[sigma] is"),
            (["run", "--methods", "intensty[sigma=1]", "--dataset", TINY], "'intensty'. Did you mean 'intensity'?"),
            (["run", "--methods", "intensity[sgima=1]", "--dataset", TINY], "intensity[sgima=1] has no option 'sgima'"),
            (
                ["run", "--methods", "intensity", "--dataset", TINY, "--seeds", "0,x"],
                "Option seeds on the command line: 'x' is neither a whole number nor a range such as 0-2 (got '0,x').",
            ),
            (["run", "--methods", "intensity", "--dataset", TINY, "--size", "3"], "size"),
            (["run", "--methods", "intensity", "--datset", TINY], "--dataset"),
            (["run", "--methods", "intensity", "--dataset", TINY, "--weights", "own"], "embedded"),
            (["run", "--dataset", TINY], "--methods mias_sam,patchcore; bench list methods shows what there is"),
            (["run", "--methods", "intensity"], "--dataset phantom_brain_mri; bench list datasets shows what there is"),
            (["run", "--methods", "intensity", "--dataset", "x" * 300], "There is no dataset 'xxx"),
            (
                ["run", "--config", "none.yaml"],
                "no run file none.yaml, and none of that name comes with miasbench: paper.",
            ),
            (["run", "--methods", "intensity", "--dataset", TINY, "--epochs", "3"], "epochs is 3, but no method of"),
            (["run", "--methods", "intensity", "--dataset", TINY, "--epochs", "0"], "epochs"),
            (["run", "--methods", "sam_refine", "--dataset", TINY], "sam_refine needs the option base"),
            (["run", "--methods", "intensity", "--dataset", "./nowhere"], "nowhere"),
            (["show", "nothing"], "There are no runs in"),
            (["score", "nothing"], "There are no runs in"),
            (["baseline", "nothing"], "There are no runs in"),
            (["baseline", "--tolerance", "dise=0.1"], "Did you mean 'dice'?"),
            (["check", "latest"], "Missing option '--baseline'"),
            (["check", "--baseline", "none.json"], "none.json cannot be read (No such file or directory). Make one"),
            (["check", "--baseline", "phantoms"], "There are no runs in"),
            (["check", "--baseline", "phantoms", "--github"], "$GITHUB_STEP_SUMMARY is not set"),
            (["rum"], "There is no command 'rum'. Did you mean 'run'?"),
        ],
    )
    def test_is_one_message_and_exit_code_2(self, bench: Bench, arguments: list[str], says: str) -> None:
        code, out, err = bench(*arguments)
        assert code == 2
        assert says in err
        assert "Error: " in err
        assert out == ""

    @pytest.mark.parametrize("name", ["brain_mri", "liver_ct", "retina_oct"])
    def test_missing_data_say_where_how_and_what_meanwhile(self, bench: Bench, tmp_path: Path, name: str) -> None:
        code, _, err = bench("run", "--methods", "intensity", "--dataset", name)
        assert code == 2
        assert err.count("Error") == 1
        for part in (str(tmp_path / "data"), "--data-root", "README", f"--dataset phantom_{name}"):
            assert part in err

    def test_the_papers_table_without_its_data_says_where_to_put_them(self, bench: Bench, tmp_path: Path) -> None:
        code, _, err = bench("run", "--config", "paper")
        assert code == 2
        for part in ("The dataset brain_mri was not found", str(tmp_path / "data"), "DorisBao/BMAD", "--data-root"):
            assert part in err

    def test_a_truncated_image_is_named(self, bench: Bench, tmp_path: Path) -> None:
        write_bmad(phantom_brain_mri(Path(), train=3, valid=4, test=6, size=64), tmp_path / "mine")
        victim = sorted((tmp_path / "mine" / "test" / "good" / "img").iterdir())[0]
        victim.write_bytes(victim.read_bytes()[:200])
        code, _, err = bench("run", "--methods", "intensity", "--dataset", "./mine")
        assert code == 2
        assert str(victim) in err

    def test_weights_that_cannot_be_had(self, bench: Bench, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("MIASBENCH_WEIGHTS", str(tmp_path / "weights"))
        (tmp_path / "weights").mkdir()
        (tmp_path / "weights" / "sam_vit_b_01ec64.pth").write_bytes(b"not SAM")
        code, _, err = bench("run", "--methods", "mias_sam", "--dataset", TINY)
        assert code == 2
        assert str(tmp_path / "weights" / "sam_vit_b_01ec64.pth") in err
        assert "Delete the file" in err


@pytest.mark.usefixtures("plugins")
class TestSeeds:
    def test_methods_that_are_run_once_are_named(self, bench: Bench) -> None:
        _, out, _ = run_tiny(bench, "--seeds", "2,1", "--thresholds", "valid_dice", methods="intensity,scripted")
        said = " ".join(out.split())
        assert "Note: intensity is run once, with seed 2, because nothing in it is random: every seed would" in said
        dice = out[out.index("mean DICE") : out.index("anomaly maps")]
        intensity, scripted = (
            next(line for line in dice.splitlines() if name in line) for name in ("│ intensity", "│ scripted")
        )
        assert ("±" in intensity, "±" in scripted) == (False, True)
        _, out, _ = run_tiny(bench, "--seeds", "2", methods="intensity,scripted")
        assert "run once" not in out


@pytest.mark.usefixtures("plugins")
class TestControls:
    def test_are_announced_once_with_the_way_to_leave_them_out(self, bench: Bench) -> None:
        code, out, _ = run_tiny(bench, methods="controlled,controlled[pause=0]")
        assert code == 0
        said = " ".join(out.split())
        note = (
            "Note: intensity[sigma=1] and followed are run beside controlled and controlled[pause=0], to show what can "
            "be scored without an anomaly map; --no-controls leaves them out."
        )
        assert said.count(note) == said.count("--no-controls") == 1
        table = out[out.index("mean DICE") :]
        assert table.index("│ controlled[pause=0]") < table.index("│ intensity[sigma=1]") < table.index("│ followed")

    def test_one_alone_is_announced_as_one(self, bench: Bench) -> None:
        _, out, _ = run_tiny(bench, methods="controlled,followed")
        said = " ".join(out.split())
        assert "Note: intensity[sigma=1] and failing are run beside controlled and followed, to" in said
        _, out, _ = run_tiny(bench, methods="controlled,intensity[sigma=1]")
        said = " ".join(out.split())
        assert "Note: followed is run beside controlled, to show" in said
        assert "--no-controls leaves it out" in said

    def test_can_be_left_out(self, bench: Bench, tmp_path: Path) -> None:
        for more in (["--no-controls"], ["--config", "run.yaml"]):
            (tmp_path / "run.yaml").write_text("controls: false\n")
            code, out, _ = run_tiny(bench, *more, methods="controlled")
            assert code == 0
            assert "Note:" not in out
            assert "followed" not in out
        code, out, _ = run_tiny(bench, "--config", "run.yaml", "--controls", methods="controlled")
        assert "followed" in out, "the command line wins"

    def test_methods_without_any_are_run_in_silence(self, bench: Bench) -> None:
        assert "Note:" not in run_tiny(bench, methods="scripted")[1]


@pytest.mark.usefixtures("plugins")
class TestTrouble:
    def test_some_cells_failed(self, bench: Bench, tmp_path: Path) -> None:
        code, out, _ = run_tiny(bench, methods="failing,intensity")
        assert code == 3
        assert "1 of 2 cells failed" in out
        assert "RuntimeError: out of [bold]cheese[/bold]" in " ".join(out.split())
        path = next((tmp_path / "bench-results").rglob("error.txt"))
        assert str(path) in out
        assert "in fit" in path.read_text()

    def test_all_cells_failed(self, bench: Bench) -> None:
        assert run_tiny(bench, methods="failing")[0] == 4

    def test_interrupted_and_gone_on(self, bench: Bench, plugins: Any) -> None:
        def stop(count: int) -> None:
            if count == 5:
                raise KeyboardInterrupt

        plugins.hook = stop
        code, _, err = run_tiny(bench, methods="intensity,scripted")
        assert code == 130
        assert "the same command goes on from there" in err
        plugins.hook = lambda count: None
        code, out, _ = run_tiny(bench, methods="intensity,scripted")
        assert code == 0
        assert "1 of 2 cells were finished before" in out

    def test_an_interruption_leaves_a_process_that_can_start_others(self, bench: Bench, plugins: Any) -> None:
        def stop(count: int) -> None:
            raise KeyboardInterrupt

        prepare(["intensity"])
        plugins.hook = stop
        assert run_tiny(bench, methods="scripted")[0] == 130
        prepare(["intensity"])

    def test_a_user_without_a_home_folder_and_a_name(self, bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
        pwd = pytest.importorskip("pwd")

        def nobody(number: int) -> None:
            raise KeyError(f"getpwuid(): uid not found: {number}")

        monkeypatch.setattr(pwd, "getpwuid", nobody)
        for name in ("HOME", "USER", "LOGNAME", "LNAME", "USERNAME"):
            monkeypatch.setenv(name, "")
            monkeypatch.delenv(name)
        code, out, err = run_tiny(bench)
        assert code == 0, err
        assert "mean DICE of anomalous images" in out
        assert err.startswith("Note: this user has no home folder.")
        assert err.count("\n") == 1
        assert "HOME" not in os.environ
        assert not Path("~").exists()

    def test_a_full_disk(self, bench: Bench, plugins: Any, full_disk: Callable[..., None]) -> None:
        plugins.hook = lambda count: full_disk()
        code, _, err = run_tiny(bench, methods="scripted")
        assert code == 2
        assert "its disk is full" in err

    def test_results_that_cannot_be_written(self, bench: Bench, tmp_path: Path) -> None:
        (tmp_path / "file").write_text("")
        code, _, err = run_tiny(bench, "--results", tmp_path / "file" / "deep")
        assert code == 2
        assert str(tmp_path / "file" / "deep") in err


class TestData:
    def test_phantoms_are_written_as_datasets(self, bench: Bench, tmp_path: Path) -> None:
        code, out, _ = bench("data", "phantom", "phantom_liver_ct:train=3,valid=4,test=6,size=64", "--out", "here")
        assert code == 0
        assert str(tmp_path / "here" / "phantom_liver_ct") in out
        code, out, _ = bench("run", "-m", "intensity", "-d", "here/phantom_liver_ct", "--size", 64)
        assert code == 0

    def test_two_phantoms_of_one_folder_are_refused_before_one_is_written(self, bench: Bench, tmp_path: Path) -> None:
        specs = [f"phantom_liver_ct:train={count},valid=4,test=6,size=64" for count in (3, 4)]
        code, _, err = bench("data", "phantom", *specs, "--out", "here")
        assert code == 2
        assert "Two of these would be the folder here/phantom_liver_ct" in err
        assert not (tmp_path / "here").exists()

    @pytest.mark.parametrize(
        ("name", "says"), [("phantom_livr_ct", "Did you mean 'phantom_liver_ct'?"), ("liver_ct", "phantom")]
    )
    def test_other_names_are_refused(self, bench: Bench, name: str, says: str) -> None:
        code, _, err = bench("data", "phantom", name, "--out", "here")
        assert code == 2
        assert says in err
