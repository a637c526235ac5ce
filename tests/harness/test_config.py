import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from miasbench.harness.api import UsageError
from miasbench.harness.cache import Cache
from miasbench.harness.config import (
    RunConfig,
    default_data_root,
    default_results,
    find_config,
    make_config,
    make_score_config,
    read_config,
)
from miasbench.harness.specs import Spec
from miasbench.methods.weights import weights_folder

LEAST = {"methods": ["intensity"], "dataset": ["phantom_brain_mri"]}
WHERE = "in run.yaml"


def refused(values: dict[str, Any]) -> str:
    with pytest.raises(UsageError) as caught:
        make_config(values, WHERE)
    return str(caught.value)


def test_defaults(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("MIASBENCH_DATA", raising=False)
    monkeypatch.delenv("MIASBENCH_RESULTS", raising=False)
    config = make_config(LEAST, WHERE)
    assert (config.methods, config.dataset) == ([Spec("intensity")], ["phantom_brain_mri"])
    assert (config.weights, config.seeds, config.device) == ("published", [0], "auto")
    assert (config.limit, config.size, config.maps, config.set) == (0, 256, "float32", {})
    assert config.controls
    assert (config.score.mask_edges, config.score.fixed_threshold) == ("nearest", None)
    assert config.results == Path("bench-results")
    assert config.data_root.parts[-2:] == ("miasbench", "datasets")


def test_folders_come_from_the_environment(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("MIASBENCH_DATA", str(tmp_path / "data"))
    monkeypatch.setenv("MIASBENCH_RESULTS", str(tmp_path / "runs"))
    config = make_config(LEAST, WHERE)
    assert config.data_root == default_data_root() == tmp_path / "data"
    assert config.results == default_results() == tmp_path / "runs"
    named = make_config({**LEAST, "data_root": "here", "results": "there"}, WHERE)
    assert (named.data_root, named.results) == (Path("here"), Path("there"))


@pytest.mark.parametrize("address", [["results"], 7, "none://results", "zip://results", "dir://results"])
def test_results_that_nothing_reaches_are_named(address: Any) -> None:
    with pytest.raises(UsageError, match=f"The results folder {re.escape(str(address))} cannot be reached: "):
        make_config({**LEAST, "results": address}, WHERE)


def test_an_empty_variable_is_as_good_as_none(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MIASBENCH_DATA", "")
    monkeypatch.setenv("MIASBENCH_RESULTS", "")
    assert default_results() == Path("bench-results")
    assert default_data_root().is_absolute()


def test_a_whole_file_reads_into_a_config(tmp_path: Path) -> None:
    path = tmp_path / "run.yaml"
    path.write_text(
        "methods: [mias_sam, intensity]\n"
        "dataset: ['phantom_brain_mri:mask=0', folder/ä]\n"
        "weights: embedded\n"
        "seeds: [0, 1, 2]\n"
        "set: {mias_sam: {gamma: 5}}\n"
        "score: {mask_edges: paper, fixed_threshold: 0.5}\n",
        encoding="utf-8",
    )
    config = make_config(read_config(path), f"in {path}")
    assert config.dataset == ["phantom_brain_mri:mask=0", "folder/ä"]
    assert config.seeds == [0, 1, 2]
    assert config.set == {"mias_sam": {"gamma": 5}}
    assert (config.score.mask_edges, config.score.fixed_threshold) == ("paper", 0.5)


def test_one_needs_no_list() -> None:
    config = make_config({"methods": "intensity", "dataset": "./mine", "seeds": 3}, WHERE)
    assert (config.methods, config.dataset, config.seeds) == ([Spec("intensity")], ["./mine"], [3])


@pytest.mark.parametrize(
    ("option", "text", "read"),
    [
        (
            "methods",
            "intensity, padim[n_features=50,backbone=resnet18]",
            [Spec("intensity"), Spec("padim", (("n_features", "50"), ("backbone", "resnet18")))],
        ),
        ("dataset", "./a, ./b", ["./a", "./b"]),
        ("dataset", "phantom_liver_ct:train=8, test=8,./b", ["phantom_liver_ct:train=8,test=8", "./b"]),
        ("dataset", "./a:v1,./b=2,c[1]", ["./a:v1", "./b=2", "c[1]"]),
        ("dataset", "\"./x, y\",'./it\"s, so',./it's,./p\\, q", ["./x, y", './it"s, so', "./it's", "./p, q"]),
        ("seeds", "0,2", [0, 2]),
        ("seeds", "0-2, 5", [0, 1, 2, 5]),
        ("seeds", ["1-2", 7, "9"], [1, 2, 7, 9]),
        ("seeds", range(3), [0, 1, 2]),
        ("seeds", np.arange(2), [0, 1]),
        ("seeds", np.int64(2), [2]),
    ],
)
def test_a_text_is_read_as_on_the_command_line(option: str, text: Any, read: list[Any]) -> None:
    assert getattr(make_config(LEAST | {option: text}, WHERE), option) == read


def test_what_is_there_is_one_dataset_whatever_is_in_its_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "x, y=1,z").mkdir()
    for dataset in ("x, y=1,z", "./x, y=1,z", ["./x, y=1,z"]):
        config = make_config(LEAST | {"dataset": dataset}, WHERE)
        assert config.dataset == ([dataset] if isinstance(dataset, str) else dataset)
    assert make_config(LEAST | {"dataset": ["./gone, too"]}, WHERE).dataset == ["./gone, too"], "an item is exact"


@pytest.mark.parametrize(
    "values",
    [
        {"batch-size": 3, "mask_edges": "paper", "set": {"intensity.sigma": 3}, "no-controls": True},
        {"batch_size": 3, "mask-edges": "paper", "set": ["intensity.sigma=3"], "no_controls": True},
        {"batch_size": 3, "score": {"mask-edges": "paper"}, "set": "intensity.sigma=3", "controls": False},
        {"batch_size": 3, "score": {"mask_edges": "paper"}, "set": {"intensity": {"sigma": 3}}, "controls": False},
    ],
)
def test_every_spelling_of_an_option_is_taken(values: dict[str, Any]) -> None:
    config = make_config(LEAST | values, WHERE)
    assert (config.batch_size, config.score.mask_edges, config.controls) == (3, "paper", False)
    assert float(config.set["intensity"]["sigma"]) == 3


@pytest.mark.parametrize(
    ("values", "says"),
    [
        ({"batch-size": 1, "batch_size": 1}, "Option batch_size is given twice in run.yaml, with - and with _."),
        ({"mask_edges": "paper", "score": {"mask_edges": "nearest"}}, "Option mask_edges is given twice in run.yaml: "),
        ({"set": ["sigma=3"]}, "Option set in run.yaml: 'sigma=3' should look like mias_sam.gamma=5."),
        ({"set": {"sigma": 3}}, "Option set.sigma in run.yaml: it should hold options, such as"),
        ({"force": True}, "Option force in run.yaml: it belongs on the command line, as --force."),
        ({"mask_edge": "paper"}, "Unknown option 'mask_edge' in run.yaml. Did you mean 'mask_edges'?"),
    ],
)
def test_a_spelling_that_is_wrong_is_named_with_file_and_key(values: dict[str, Any], says: str) -> None:
    assert refused(LEAST | values).startswith(says)


def test_the_command_line_wins_and_is_named_where_it_is_wrong() -> None:
    file = LEAST | {"size": 64, "fixed_threshold": 1, "set": {"intensity": {"sigma": 1}, "mias_sam.gamma": 2}}
    given = {"seeds": "0-1", "size": 128, "mask_edges": "paper", "set": ("intensity.sigma=3",)}
    config = make_config(file, WHERE, given)
    assert (config.size, config.seeds) == (128, [0, 1])
    assert (config.score.mask_edges, config.score.fixed_threshold) == ("paper", 1)
    assert config.set == {"intensity": {"sigma": "3"}, "mias_sam": {"gamma": 2}}
    with pytest.raises(UsageError, match=r"^Option size on the command line: "):
        make_config(file, WHERE, {"size": 3})
    with pytest.raises(UsageError, match=r"^Option score\.fixed_threshold in run\.yaml: "):
        make_config(file | {"fixed_threshold": "x"}, WHERE, {"mask_edges": "paper"})


def test_home_is_expanded_in_every_path(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    config = make_config(LEAST | {"data_root": "~/data", "results": "~/runs"}, WHERE)
    assert (config.data_root, config.results) == (tmp_path / "data", tmp_path / "runs")
    for variable in ("DATA", "RESULTS", "WEIGHTS", "CACHE"):
        monkeypatch.setenv(f"MIASBENCH_{variable}", "~/x")
    assert default_data_root() == default_results() == weights_folder() == tmp_path / "x"
    Cache.from_environment().store("key", 1, lambda path: path.write_text("1"))
    assert (tmp_path / "x" / "key").exists()
    assert make_config(LEAST | {"results": "memory://~/x"}, WHERE).results.path == "/~/x", "an address is left alone"
    with pytest.raises(UsageError, match=r"^~nobody-here/x: there is no such home folder\. .* \./~nobody-here/x$"):
        make_config(LEAST | {"data_root": "~nobody-here/x"}, WHERE)


def test_a_config_survives_the_record_of_a_run() -> None:
    config = make_config({**LEAST, "seeds": [3], "score": {"fixed_threshold": 1}}, WHERE)
    assert make_config(config.model_dump(mode="json"), WHERE) == config


@pytest.mark.parametrize(
    ("key", "suggestion"),
    [
        ("method", "methods"),
        ("datasets", "dataset"),
        ("seed", "seeds"),
        ("treshold", "thresholds"),
        ("colour", None),
        ("lmit", "limit"),
    ],
)
def test_an_unknown_option_gets_a_suggestion(key: str, suggestion: str | None) -> None:
    message = refused({**LEAST, key: 1})
    assert f"{key!r} {WHERE}" in message
    assert (f"Did you mean {suggestion!r}?" in message) if suggestion else "Did you mean" not in message
    assert "data_root" in message, "all known options are listed"


def test_an_unknown_option_of_scoring_gets_a_suggestion_from_scoring() -> None:
    message = refused({**LEAST, "score": {"mask_edge": "paper"}})
    assert "'score.mask_edge'" in message
    assert "Did you mean 'mask_edges'?" in message
    assert "fixed_threshold" in message
    assert "data_root" not in message


@pytest.mark.parametrize(
    ("change", "option", "got"),
    [
        ({"seeds": "many"}, "seeds", "'many'"),
        ({"seeds": "2-0"}, "seeds", "'2-0'"),
        ({"seeds": ["0", "-1"]}, "seeds", "['0', '-1']"),
        ({"seeds": 2**32}, "seeds.0", "4294967296"),
        ({"name": "a/b"}, "name", "'a/b'"),
        ({"name": "latest"}, "name", "'latest'"),
        ({"name": "con"}, "name", "'con'"),
        ({"name": "NUL.txt"}, "name", "'NUL.txt'"),
        ({"name": "con/nul.txt"}, "name", "'con/nul.txt'"),
        ({"name": "brain."}, "name", "'brain.'"),
        ({"seeds": [0, -1]}, "seeds.1", "-1"),
        ({"seeds": []}, "seeds", "[]"),
        ({"methods": []}, "methods", "[]"),
        ({"methods": {"intensity": 1}}, "methods", "{'intensity': 1}"),
        ({"methods": " , "}, "methods", "[]"),
        ({"size": 16}, "size", "16"),
        ({"size": 5000}, "size", "5000"),
        ({"limit": -1}, "limit", "-1"),
        ({"weights": "best"}, "weights", "'best'"),
        ({"device": "tpu"}, "device", "'tpu'"),
        ({"maps": "float64"}, "maps", "'float64'"),
        ({"set": {"mias_sam": 5}}, "set.mias_sam", "5"),
        ({"score": {"mask_edges": "soft"}}, "score.mask_edges", "'soft'"),
        ({"score": {"fixed_threshold": float("nan")}}, "score.fixed_threshold", "nan"),
        ({"score": {"fixed_threshold": float("inf")}}, "score.fixed_threshold", "inf"),
    ],
)
def test_a_wrong_value_is_named_with_its_place(change: dict[str, Any], option: str, got: str) -> None:
    message = refused({**LEAST, **change})
    assert message.startswith(f"Option {option} {WHERE}: ")
    assert message.endswith(f"(got {got}).")


@pytest.mark.parametrize("missing", ["methods", "dataset"])
def test_a_missing_option_is_named(missing: str) -> None:
    message = refused({key: value for key, value in LEAST.items() if key != missing})
    assert message.startswith(f"Option {missing} {WHERE}: ")
    assert "required" in message.lower()


def _missing(path: Path) -> None:
    path.unlink(missing_ok=True)


def _folder(path: Path) -> None:
    path.mkdir()


def _holds(content: bytes) -> Callable[[Path], None]:
    def write(path: Path) -> None:
        path.write_bytes(content)

    return write


@pytest.mark.parametrize(
    ("make", "says"),
    [
        (_missing, "there is no such file"),
        (_folder, "it is a folder and not a file"),
        (_holds(b"methods: \xff\xfe"), "Save it as UTF-8"),
        (_holds(b"methods: [intensity\nseeds: 1"), "is not YAML"),
        (_holds(b"methods: !!python/object:os.system {}"), "is not YAML"),
        (_holds(b"a: 1\n---\nb: 2\n"), "is not YAML"),
        (_holds(b"- intensity\n- mias_sam\n"), "should hold options such as"),
        (_holds(b"just words"), "should hold options such as"),
        (_holds(b""), "should hold options such as"),
    ],
    ids=["missing", "folder", "not text", "not closed", "python object", "two documents", "list", "text", "empty"],
)
def test_a_run_file_that_is_none(make: Callable[[Path], None], says: str, tmp_path: Path) -> None:
    path = tmp_path / "run.yaml"
    make(path)
    with pytest.raises(UsageError) as caught:
        read_config(path)
    message = str(caught.value)
    assert message.startswith("The run file ")
    assert str(path) in message
    assert says in message
    assert "\n" not in message


def test_where_the_yaml_breaks_is_said(tmp_path: Path) -> None:
    path = tmp_path / "run.yaml"
    path.write_text("methods: [intensity]\nseeds: {0\n")
    with pytest.raises(UsageError, match=r"line \d+"):
        read_config(path)


def test_a_key_that_is_written_twice_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "run.yaml"
    path.write_text("size: 64\nmethods: [intensity]\nset: {intensity: {sigma: 1, sigma: 3}}\n")
    with pytest.raises(UsageError, match=r"line 3, column 29, option set: sigma is given twice"):
        read_config(path)


def test_null_stands_for_the_default() -> None:
    nulls = {"limit": None, "results": None, "seeds": None, "set": None, "score": {"padding": None}}
    assert make_config(LEAST | nulls, WHERE) == make_config(LEAST, WHERE)


@pytest.mark.parametrize(("written", "read"), [("2026", "2026"), ("2026-11-27", "2026-11-27")])
def test_a_name_may_look_like_a_number_or_a_date(written: str, read: str, tmp_path: Path) -> None:
    path = tmp_path / "run.yaml"
    path.write_text(f"methods: intensity\ndataset: ./a\nname: {written}\n")
    assert make_config(read_config(path), WHERE).name == read


@pytest.mark.parametrize(("written", "meant"), [("method", "methods"), ("datasets", "dataset")])
def test_a_needed_option_that_is_misspelt_is_said_to_be_unknown_and_not_missing(written: str, meant: str) -> None:
    message = refused({written: LEAST[meant], **{key: value for key, value in LEAST.items() if key != meant}})
    assert message.startswith(f"Unknown option {written!r} {WHERE}. Did you mean {meant!r}?")


def test_a_key_that_is_no_text_is_refused() -> None:
    values: dict[Any, Any] = {**LEAST, 1: 2}
    assert WHERE in refused(values)


@pytest.mark.parametrize("option", ["epochs", "batch_size"])
def test_epochs_and_batch_size_are_at_least_one(option: str) -> None:
    assert make_config(LEAST, WHERE).training == {}
    assert make_config(LEAST | {option: 3}, WHERE).training == {option: 3}
    assert refused(LEAST | {option: 0}).startswith(f"Option {option} in run.yaml: ")


def test_a_shipped_run_file_is_found_by_its_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert find_config(Path("paper")).name == "paper.yaml"
    Path("paper").write_text("methods: intensity")
    assert find_config(Path("paper")) == Path("paper"), "a file of the user's own wins"
    with pytest.raises(UsageError, match=r"no run file papre, and none of that name comes with miasbench: paper\."):
        find_config(Path("papre"))


@pytest.fixture
def file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[str], RunConfig]:
    """Reads a run file of these lines, which stand below the two that every run needs."""
    monkeypatch.chdir(tmp_path)

    def read(*lines: str) -> RunConfig:
        Path("run.yaml").write_text("\n".join(["methods: intensity", "dataset: ./a", *lines]), encoding="utf-8")
        return make_config(read_config(Path("run.yaml")), WHERE)

    return read


@pytest.mark.parametrize(
    ("line", "option", "read"),
    [
        ("size: '64'", "size", 64),
        ("size: 0100", "size", 100),
        ("limit: 10k", "limit", 10_000),
        ('limit: "2M"', "limit", 2_000_000),
        ("workers: 2", "workers", 2),
        ("cell_memory: 1e1", "cell_memory", 10.0),
        ("cell_memory: .5", "cell_memory", 0.5),
        ("seeds: 0-2", "seeds", [0, 1, 2]),
        ("seeds: 010", "seeds", [10]),
        ("controls: no", "controls", False),
        ("controls: 'off'", "controls", False),
        ("no_controls: yes", "controls", False),
        ("no-controls: 'false'", "controls", True),
        ("name: 1.10", "name", "1.10"),
        ("name: yes", "name", "yes"),
        ("name: 0123", "name", "0123"),
        ("name: 2026-11-27", "name", "2026-11-27"),
        ("name: 2026-13-45", "name", "2026-13-45"),
        ("set: intensity.sigma=3", "set", {"intensity": {"sigma": "3"}}),
        ("set: 'intensity[sigma=3]'", "set", {"intensity": {"sigma": "3"}}),
        ("set: {intensity.sigma=3, ae.epochs=1}", "set", {"intensity": {"sigma": "3"}, "ae": {"epochs": "1"}}),
        ("set: [intensity.sigma: 3, ae.epochs=1]", "set", {"intensity": {"sigma": 3}, "ae": {"epochs": "1"}}),
        ("name: ~", "name", None),
    ],
)
def test_a_run_file_takes_what_the_command_line_takes(
    file: Callable[..., RunConfig], line: str, option: str, read: Any
) -> None:
    assert getattr(file(line), option) == read


@pytest.mark.parametrize(
    "line",
    [
        "thresholds: normal_quantile[q=0.95], valid_dice",
        'thresholds: "normal_quantile[q=0.95],valid_dice"',
        "thresholds: ['normal_quantile[q=0.95]', valid_dice]",
        "thresholds:\n  - normal_quantile[q=0.95]\n  - valid_dice",
        "score: {thresholds: ['normal_quantile[ q = 0.95 ]', valid_dice]}",
    ],
)
def test_names_with_options_have_many_spellings(file: Callable[..., RunConfig], line: str) -> None:
    assert file(line).score.thresholds == [Spec("normal_quantile", (("q", "0.95"),)), Spec("valid_dice")]


@pytest.mark.parametrize("dataset", ["2024", "2024-01-02", "1.50", "no"])
def test_a_folder_may_look_like_a_number_a_date_or_a_truth_value(
    file: Callable[..., RunConfig], tmp_path: Path, dataset: str
) -> None:
    for text in (dataset, f"[{dataset}]", f"[./a, '{dataset}']"):
        Path("run.yaml").write_text(f"methods: intensity\ndataset: {text}\n")
        assert make_config(read_config(Path("run.yaml")), WHERE).dataset[-1] == dataset


@pytest.mark.parametrize(
    ("lines", "says"),
    [
        (["", "size: big"], "Option size in run.yaml, line 4: Input should be a valid integer"),
        (["limit: yes"], "Option limit in run.yaml, line 3: Input should be a valid integer"),
        (["seeds: [0, 1.5]"], "Option seeds.1 in run.yaml, line 3: "),
        (["seeds:", "  - 0", "  - -1"], "Option seeds.1 in run.yaml, line 5: "),
        (["mask-edges: soft"], "Option score.mask_edges in run.yaml, line 3: "),
        (["score:", "  mask_edges: soft"], "Option score.mask_edges in run.yaml, line 4: "),
        (
            ["score:", "  mask_edgs: soft"],
            "Unknown option 'score.mask_edgs' in run.yaml, line 4. Did you mean 'mask_edges'?",
        ),
        (["", "seed: 3"], "Unknown option 'seed' in run.yaml, line 4. Did you mean 'seeds'?"),
        (
            ["batch-size: 1", "batch_size: 2"],
            "Option batch_size is given twice in run.yaml, line 4, with - and with _.",
        ),
        (["set:", "  intensity: 3"], "Option set.intensity in run.yaml, line 4: it should hold options"),
        (["set: sigma=3"], "Option set in run.yaml, line 3: 'sigma=3' should look like mias_sam.gamma=5."),
        (["force: true"], "Option force in run.yaml, line 3: it belongs on the command line, as --force."),
        (["no_controls: maybe"], "Option no_controls in run.yaml, line 3: it should be true or false (got 'maybe')."),
        (["controls: no", "no_controls: yes"], "Option controls is given twice in run.yaml, line 4, with no_"),
        (["thresholds: ''"], "Option score.thresholds in run.yaml, line 3: List should have at least 1 item"),
        (["thresholds: [3]"], "Option score.thresholds.0 in run.yaml, line 3: a name and its options are one text"),
        (["thresholds: {otsu: 3}"], "Option score.thresholds in run.yaml, line 3: a name and its options are one text"),
        (
            ["thresholds: otsu[a"],
            "Option score.thresholds in run.yaml, line 3: A bracket has no counterpart in 'otsu[a'",
        ),
        (["thresholds: [otsu=3]", "size: 1"], "Option size in run.yaml, line 4: "),
    ],
)
def test_a_message_names_the_file_the_option_and_the_line(
    file: Callable[..., RunConfig], lines: list[str], says: str
) -> None:
    with pytest.raises(UsageError) as caught:
        file(*lines)
    assert str(caught.value).startswith(says)


@pytest.mark.parametrize(
    ("text", "says"),
    [
        (
            "methods: [intensity[sigma=3], ae]\ndataset: ./a",
            ": line 1, column 20, option methods: within [ ], a name with options needs quotes, as in "
            '["mias_sam[gamma=3]"].',
        ),
        (
            "methods: intensity\ndataset: phantom_brain_mri: train=4",
            ": line 2, column 27, option dataset: where a blank follows a colon, YAML reads a key and its value; leave "
            "out the blank, or put the text in quotes",
        ),
        (
            "methods:\n  - 'intensity', 'ae'\ndataset: ./a",
            ": line 2, column 16, option methods: several texts in quotes need [ ] around them.",
        ),
        (
            "methods: intensity\n\tdataset: ./a",
            ": line 2, column 1, option methods: blanks should stand before a key, not tabs.",
        ),
        ("methods: @all\ndataset: ./a", ": line 1, column 10, option methods: a text that begins so needs quotes."),
        ("[" * 2000, ": maximum recursion depth exceeded"),
    ],
)
def test_what_yaml_reads_otherwise_is_told_with_line_and_option(tmp_path: Path, text: str, says: str) -> None:
    path = tmp_path / "run.yaml"
    path.write_text(text)
    with pytest.raises(UsageError) as caught:
        read_config(path)
    assert str(caught.value).startswith(f"The run file {path} is not YAML{says}")
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("line", "says"),
    [
        (
            "dataset: [phantom:train=4,size=64]",
            "Option dataset in run.yaml, line 2: within [ ], YAML splits at each comma:",
        ),
        ("dataset: [phantom: train=4]", "Option dataset.0 in run.yaml, line 2: a name and its options are one text"),
        ("dataset: {phantom: {train: 4}}", "Option dataset in run.yaml, line 2: a name and its options are one text"),
    ],
)
def test_a_dataset_that_yaml_takes_apart_is_told(file: Callable[..., RunConfig], line: str, says: str) -> None:
    Path("run.yaml").write_text(f"methods: intensity\n{line}\n")
    with pytest.raises(UsageError) as caught:
        make_config(read_config(Path("run.yaml")), WHERE)
    assert str(caught.value).startswith(says)


def test_a_method_of_another_form_is_told_with_its_place() -> None:
    message = refused(LEAST | {"methods": ["intensity", "ae[epochs]"]})
    assert message.startswith("Option methods.1 in run.yaml: 'epochs' in the method ae[epochs] is not of the form")


def test_options_of_scoring_alone() -> None:
    config = make_score_config({"thresholds": "otsu, fixed[value=3]", "pixels": None}, "in score()")
    assert config.thresholds == [Spec("otsu"), Spec("fixed", (("value", "3"),))]
    assert config.pixels == "auto"
    with pytest.raises(UsageError, match=r"^Option fixed_threshold in score\(\): .* \(got nan\)\.$"):
        make_score_config({"fixed_threshold": float("nan")}, "in score()")


def test_thresholds_survive_the_record_of_a_run() -> None:
    config = make_config(LEAST | {"thresholds": "all,normal_quantile[q=0.5]"}, WHERE)
    record = config.model_dump(mode="json")
    assert record["score"]["thresholds"] == config.score.model_dump()["thresholds"] == ["all", "normal_quantile[q=0.5]"]
    assert make_config(record, WHERE) == config
    del record["score"]["thresholds"]
    assert make_config(record, WHERE).score.thresholds == [Spec("all")], "as version 0.1.0 wrote it"


@pytest.mark.parametrize(
    ("line", "remedy"),
    [
        ("address: ray://127.0.0.1:9", "Give --address or"),
        ("address: auto", "Give --address or"),
        ("results: ftp://127.0.0.1:9/x", "Give --results or"),
        ("results: reference::http://127.0.0.1:9/x.json", "Give --results or"),
        ("results: file:///data/x", "Give --results or"),
    ],
)
def test_a_run_file_connects_to_nowhere(line: str, remedy: str, tmp_path: Path) -> None:
    (tmp_path / "run.yaml").write_text(f"methods: [intensity]\ndataset: [x]\nexecutor: ray\n{line}\n")
    with pytest.raises(UsageError, match=f"an address is not taken from a run file.*{re.escape(remedy)}"):
        read_config(tmp_path / "run.yaml")


def test_a_run_file_says_in_which_folder_results_are_kept(tmp_path: Path) -> None:
    (tmp_path / "run.yaml").write_text("methods: [intensity]\nexecutor: ray\nresults: ~/runs\n")
    assert read_config(tmp_path / "run.yaml") == {"methods": ["intensity"], "executor": "ray", "results": "~/runs"}
