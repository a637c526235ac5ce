import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from miasbench.reports.latex import escape_latex, latex
from miasbench.reports.markdown import markdown
from miasbench.reports.paper_files import write_tables
from miasbench.reports.paper_table import PaperRow, PaperTable, tidy
from miasbench.reports.paper_tables import paper_tables
from miasbench.results.extent import Extent
from miasbench.results.tables import HEADLINE, RANKS, SCORES, failed_cell, table

EMPTY = {"str": "", "int64": 0, "float64": float("nan"), "bool": False, "object": None}
NASTY = r"a_b[x=1,y=50%] & $m^2$ #1 {~} \new <é> 中 | *"


def row(columns: dict[str, str], **values: Any) -> dict[str, Any]:
    return {name: EMPTY[kind] for name, kind in columns.items()} | values


def dice(method: str, policy: str, value: float, **more: Any) -> dict[str, Any]:
    known = {"oracle": policy == "oracle_dice", "ci_low": value - 0.1, "ci_high": value + 0.1, "metric": "dice"}
    return row(SCORES, **{"dataset": "liver", "method": method, "policy": policy, "value": value} | known | more)


def scores(*more: dict[str, Any]) -> pd.DataFrame:
    rows = [
        dice("sam", "own", 0.4),
        dice("sam", "valid_dice", 0.1),
        dice("sam", "oracle_dice", 0.9),
        dice("core", "valid_dice", 0.5),
        dice("core", "oracle_dice", 0.6),
        dice("grey", "valid_dice", 0.3),
        *(dice(method, "none", 0.8, metric="pixel_auroc", oracle=False) for method in ("sam", "core", "grey")),
        *(dice(method, "none", 12.0, metric="predict_ms", oracle=False) for method in ("sam", "core")),
    ]
    return table([*rows, *more], SCORES)


def ranks(*tied: str, policy: str = HEADLINE, dataset: str = "liver") -> pd.DataFrame:
    named = {"dataset": dataset, "policy": policy}
    rows = [row(RANKS, **named, method=method, tied_with_best=True) for method in tied]
    return table(rows, RANKS)


def made(name: str, *arguments: Any, **more: Any) -> PaperTable:
    return next(one for one in paper_tables(*arguments, **more) if one.name == name)


def rows_of(one: PaperTable, kind: str = "method") -> dict[str, PaperRow]:
    return {row.label: row for row in one.rows if row.kind == kind}


def test_the_best_and_the_second_are_marked_and_ties_by_the_statistics() -> None:
    one = made("dice", scores(), ranks("core", "grey"))
    cells = {label: row.cells[0] for label, row in rows_of(one).items()}
    assert {label: (cell.value, cell.mark, cell.tied) for label, cell in cells.items() if cell} == {
        "sam": (0.4, "second", False),
        "core": (0.5, "best", False),  # the best is not tied with itself
        "grey": (0.3, "", True),
    }
    assert "Masks of their own: sam; all others: valid_dice." in one.notes


def test_oracles_stand_apart_and_are_never_marked() -> None:
    one = made("dice", scores(), ranks("sam"))
    assert [row.kind for row in one.rows] == ["method"] * 3 + ["oracle"] * 2
    assert list(rows_of(one, "oracle")) == ["sam, oracle_dice", "core, oracle_dice"]
    assert all(not cell.mark for row in rows_of(one, "oracle").values() for cell in row.cells if cell)
    policies = made("policies-liver", scores(), ranks("sam"))
    assert [column.title for column in policies.columns] == ["own", "valid dice", "oracle dice"]
    assert all(not row.cells[-1].mark for row in policies.rows if row.cells[-1])


def test_promises_and_what_came_true_are_a_table_without_a_best() -> None:
    rate = {"metric": "normal_fpr", "promised": 0.01, "patients": 30}
    measured = scores(
        dice("sam", "normal_fpr", 0.004, **rate, ci_low=0.002, ci_high=0.006),
        dice("core", "normal_fpr", 0.03, **rate, ci_low=0.02, ci_high=0.04),
    )
    one = made("promises-liver", measured, ranks())
    assert [column.title for column in one.columns] == ["normal fpr, at most 0.01"]
    assert "| sam | 0.0040 (0.002–0.006, kept) |" in markdown(one).splitlines()
    assert "| core | 0.0300 (0.020–0.040, missed) |" in markdown(one).splitlines()
    assert r" & {\scriptsize missed} \\" in latex(one)
    assert tidy(one)["verdict"].tolist() == ["kept", "missed"]
    assert not any(cell.mark for row in one.rows for cell in row.cells if cell)
    assert any(note.startswith("missed: the whole interval") for note in one.notes)
    assert "promises-liver" not in {table.name for table in paper_tables(scores(), ranks())}


def test_another_policy_is_another_table() -> None:
    one = made("dice", scores(), ranks("core", policy="valid_dice"), "valid_dice")
    assert [row.cells[0].value for row in rows_of(one).values() if row.cells[0]] == [0.1, 0.5, 0.3]


def test_what_prints_the_same_is_marked_the_same() -> None:
    one = made("dice", scores(dice("twin", "valid_dice", 0.50004)), ranks("core"))
    assert [row.label for row in one.rows if row.cells[0] and row.cells[0].mark == "best"] == ["core", "twin"]


def test_one_seed_has_an_interval_and_several_a_deviation() -> None:
    one = made("dice", scores(dice("core", "valid_dice", 0.7, seed=1)), ranks("core"))
    spreads = {label: row.cells[0].beside(3) for label, row in rows_of(one).items() if row.cells[0]}
    assert spreads == {
        "sam": ("", "0.30–0.50", ""),
        "core": ("± 0.141", "0.00–1.00", ""),
        "grey": ("", "0.20–0.40", ""),
    }
    assert "±: standard deviation over seeds." in one.notes
    assert "Ranges: 95 % intervals over patients, and over seeds where there are several." in one.notes
    assert "| core | **0.600** (± 0.141, 0.00–1.00) |" in markdown(one).splitlines()
    below = latex(one).splitlines()
    first = below.index(r" & {\scriptsize $\pm$ 0.141} \\[-1pt]")
    assert below[first + 1] == r" & {\scriptsize 0.00--1.00} \\"


def test_intervals_of_few_patients_are_marked() -> None:
    one = made("dice", scores(dice("twin", "valid_dice", 0.2, patients=3)), ranks("core"))
    assert "| twin | 0.200 (0.10–0.30‡) |" in markdown(one).splitlines()
    assert any(note.startswith("‡: an interval over fewer than 8 patients") for note in one.notes)
    assert r"0.10--0.30$^\ddagger$" in latex(one)


def test_captions_say_how_much_was_measured_and_notes_what_datasets_are_called() -> None:
    spec = "phantom:train=4,size=64"
    extent = Extent(spec, 5, 2, 3, 2, 64, 8, (0,), ("colour was made grey",))
    found = paper_tables(scores(dice("sam", "own", 0.4, dataset=spec)), ranks(), measured={spec: extent})
    by_name = {one.name: one for one in found}
    assert (
        by_name[f"policies-{spec}"].caption
        == f"phantom: mean DICE of anomalous test images, by threshold policy. {extent}"
    )
    assert by_name["dice"].caption.endswith(f"phantom: {extent}")
    assert [column.title for column in by_name["dice"].columns] == ["liver", "phantom"]
    for one in (by_name["dice"], by_name[f"policies-{spec}"]):
        assert {f"phantom: {spec}.", "phantom: colour was made grey"} <= set(one.notes)
    assert not any("phantom" in note for note in by_name["policies-liver"].notes)


def test_costs_are_not_ranked_and_failed_cells_are_named() -> None:
    identity = {str(name): value for name, value in scores().iloc[0][list(SCORES)[:10]].items()}
    failed = failed_cell(identity | {"method": "broken"}, "no")[1]
    one = made("maps-liver", pd.concat([scores(), failed]), ranks("core"))
    assert [column.title for column in one.columns] == ["pixel AUROC", "ms/image"]
    assert rows_of(one)["broken"].cells == (None, None)
    assert "Failed: liver, broken, seed 0." in one.notes
    assert not any(cell.mark for row in one.rows for cell in row.cells if cell), "equal, or a cost"


def test_published_numbers_have_rows_of_their_own_with_their_source() -> None:
    quoted = {
        "dataset": "liver",
        "published_dataset": "liver",
        "metric": "dice",
        "published_std": float("nan"),
        "source": "Paper (2025), Table 1",
    }
    published = pd.DataFrame(
        [
            quoted | {"method": "sam", "policy": "own", "published": 0.99, "reasons": ("other images",)},
            quoted | {"method": "core", "policy": "valid_dice", "published": 0.2, "reasons": ()},
            quoted | {"method": "core", "policy": "oracle_dice", "published": 0.2, "reasons": ("an oracle",)},
        ]
    )
    one = made("dice", scores(), ranks("core"), published=published)
    rows = rows_of(one, "published")
    assert {label: row.cells[0].value for label, row in rows.items() if row.cells[0]} == {
        "sam, published in Paper": 0.99,
        "core, published in Paper": 0.2,
    }
    assert rows_of(one)["core"].cells[0].mark == "best", "what was published is not ranked"  # type: ignore[union-attr]
    assert "Published, not measured here: Paper (2025), Table 1. 1 of 2 can be compared; published.csv says why." in (
        one.notes
    )
    assert not rows_of(made("dice", scores(), ranks("core")), "published")


def test_what_was_published_of_other_images_has_a_table_of_its_own() -> None:
    quoted = {"dataset": "liver", "published_dataset": "liver_ct", "metric": "dice", "policy": "own", "published": 0.99}
    more = {"method": "sam", "published_std": 0.01, "source": "Paper (2025), Table 1", "reasons": ("other images",)}
    *others, apart = paper_tables(scores(), ranks("core"), published=pd.DataFrame([quoted | more]))
    assert not [row for one in others for row in one.rows if row.kind == "published"]
    assert apart.name == "published-elsewhere"
    assert [column.title for column in apart.columns] == ["liver_ct: DICE"]
    assert {label: row.cells[0].value for label, row in rows_of(apart, "published").items() if row.cells[0]} == {
        "sam, published in Paper": 0.99
    }


def test_markdown_has_marks_and_escapes_names() -> None:
    text = markdown(made("dice", scores(dice(NASTY, "valid_dice", 0.2)), ranks("grey")))
    lines = text.splitlines()
    assert "| core | **0.500** (0.40–0.60) |" in lines
    assert "| sam | <ins>0.400</ins> (0.30–0.50) |" in lines
    assert "| grey | 0.300† (0.20–0.40) |" in lines
    assert "| *core, oracle\\_dice* | *0.600 (0.50–0.70)* |" in lines
    (nasty,) = [line for line in lines if "new" in line]
    assert len(re.findall(r"(?<!\\)\|", nasty)) == 3, "a bar in a name is not a column"


def test_latex_marks_best_second_ties_and_oracles() -> None:
    text = latex(made("dice", scores(), ranks("core", "grey")))
    assert r"core & \bfseries 0.500 \\" in text
    assert r"sam & {\underline{0.400}} \\" in text
    assert r"grey & {0.300\rlap{$^\dagger$}} \\" in text
    assert r"{\color{gray}0.600} \\" in text
    assert "S[table-format=1.3]" in text
    assert text.count(r"\midrule") == 2


@pytest.mark.parametrize(
    ("text", "in_latex"),
    [
        ("a_b 50% & #1", r"a\_b 50\% \& \#1"),
        ("~^\\{}", r"\textasciitilde{}\textasciicircum{}\textbackslash{}\{\}"),
        ("é ± –", r"é $\pm$ --"),
        ("中\x07\n", "[U+4E2D][U+0007] "),
    ],
)
def test_every_character_stands_in_latex(text: str, in_latex: str) -> None:
    assert escape_latex(text) == in_latex


def test_what_stands_for_a_letter_that_latex_lacks_is_said() -> None:
    lines = latex(made("dice", scores(dice("中é", "own", 0.2)), ranks())).splitlines()
    assert lines[:2] == ["% [U+4E2D] is 中, which pdfLaTeX has not got.", r"\begin{table}[p]"]
    assert any(line.startswith("{}[U+4E2D]é &") for line in lines), "no bracket follows the end of a line"


def test_numbers_are_kept_one_a_row(tmp_path: Path) -> None:
    found = tidy(made("dice", scores(), ranks("grey"))).set_index("row")
    assert found.loc["core", "mark"] == "best"
    assert found.loc["grey", "tied_with_best"]
    assert found.loc["core, oracle_dice", "kind"] == "oracle"
    files = write_tables(paper_tables(scores(), ranks("grey")), tmp_path)
    assert pd.read_csv(tmp_path / "dice.csv")["value"].tolist() == [0.4, 0.5, 0.3, 0.9, 0.6]
    assert {file.name for file in files} >= {
        "dice.tex",
        "policies-liver.csv",
        "maps-liver.tex",
        "tables.md",
        "tables.tex",
    }
    assert all(file.exists() for file in files)


@pytest.mark.skipif(
    shutil.which("pdflatex") is None, reason="pdflatex is not installed: Debian's texlive-science has it"
)
@pytest.mark.slow
def test_the_latex_compiles(tmp_path: Path) -> None:
    nasty = [
        dice(NASTY, "valid_dice", 0.2, dataset=NASTY, transductive=True, weights=NASTY),
        dice(NASTY, "oracle_dice", 0.3, dataset=NASTY),
        dice(NASTY, "valid_dice", 1234.5, metric="hd95_px", dataset=NASTY),
        dice("core", "valid_dice", 0.7, seed=1),
    ]
    write_tables(paper_tables(scores(*nasty), ranks("core", "sam", "grey")), tmp_path)
    command = ["pdflatex", "-interaction=nonstopmode", "-halt-on-error", "tables.tex"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    if re.search(r"File `(siunitx|booktabs|xcolor)\.sty' not found", done.stdout):
        pytest.skip("LaTeX lacks siunitx, booktabs or xcolor: Debian's texlive-science and texlive-latex-recommended")
    assert done.returncode == 0, done.stdout[-2000:]
    assert (tmp_path / "tables.pdf").read_bytes().startswith(b"%PDF")
    assert "too large" not in done.stdout
