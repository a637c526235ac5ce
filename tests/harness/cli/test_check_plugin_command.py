"""`bench check-plugin`: a line for each rule, and an exit code."""

from pathlib import Path

import numpy as np
import pytest

from miasbench.datasets.phantom import phantom_brain_mri, write_bmad
from miasbench.harness import registry
from miasbench.harness.api import ImagePolicy
from miasbench.harness.cli import main
from miasbench.harness.registry import Entry

SUPPORT = Path(__file__).parents[2] / "support"


@pytest.fixture(autouse=True)
def _broken(monkeypatch: pytest.MonkeyPatch) -> None:
    """Registers two broken plugins of one name."""
    monkeypatch.syspath_prepend(SUPPORT)
    monkeypatch.setitem(registry.METHODS, "half", Entry("broken_methods:Cropped", "for a test"))
    monkeypatch.setitem(registry.POLICIES, "half", Entry(f"{__name__}:Half", "for a test"))


class Half(ImagePolicy):
    name = "half"

    def threshold(self, anomaly_map: np.ndarray) -> float:
        return float("nan")


def bench(capsys: pytest.CaptureFixture[str], *arguments: str) -> tuple[int, str, str]:
    with pytest.raises(SystemExit) as end:
        main(["check-plugin", *arguments])
    assert isinstance(end.value.code, int)
    out, err = capsys.readouterr()
    return end.value.code, out, err


def test_a_plugin_that_keeps_every_rule(capsys: pytest.CaptureFixture[str]) -> None:
    code, out, err = bench(capsys, "intensity[sigma=1]")
    first, *rules, last = out.splitlines()
    assert (code, err) == (0, "")
    assert first == "The method intensity[sigma=1]"
    assert last == "intensity[sigma=1]: every rule is kept."
    assert "  ok      it fits" in rules
    assert all(line.startswith("  ok      ") for line in rules)
    assert out.isascii()


def test_all_that_has_the_name_is_checked_and_what_breaks_is_said(capsys: pytest.CaptureFixture[str]) -> None:
    code, out, _ = bench(capsys, "half")
    lines = out.splitlines()
    assert code == 1
    assert [line for line in lines if not line.startswith("  ok")] == [
        "The method half",
        "  broken  predictions have the shapes and types of the contract: the anomaly map is (63, 64), the image "
        "(64, 64).",
        "The policy half",
        "  broken  it chooses a threshold: it chose NaN; where it has nothing to look at, it should raise "
        "PolicyUnavailableError.",
        "half: 2 rules are broken.",
    ]


def test_a_folder_and_a_dataset_with_options_are_checked(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_bmad(phantom_brain_mri(Path(), train=2, valid=2, test=2, size=64), tmp_path / "set")
    assert bench(capsys, str(tmp_path / "set"))[0] == 0
    code, out, _ = bench(capsys, "phantom_liver_ct:train=2,valid=2,test=2,size=64")
    assert code == 0
    assert "  ok      ids are unique" in out.splitlines()


@pytest.mark.parametrize(
    ("name", "says"),
    [
        ("intensty", "There is no method, policy or dataset 'intensty'. Did you mean 'intensity'?"),
        ("intensity[sigm=1]", "has no option 'sigm'. Did you mean 'sigma'?"),
        ("./nowhere", "There is no dataset at"),
    ],
)
def test_what_is_not_there_is_one_message(name: str, says: str, capsys: pytest.CaptureFixture[str]) -> None:
    code, _, err = bench(capsys, name)
    assert code == 2
    assert err.startswith("Error: ")
    assert says in err
    assert len(err.splitlines()) == 1


def test_its_help_has_examples(capsys: pytest.CaptureFixture[str]) -> None:
    code, out, _ = bench(capsys, "--help")
    assert code == 0
    assert "bench check-plugin ./my_data" in out
