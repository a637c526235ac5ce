import warnings
from pathlib import Path

from matplotlib.figure import Figure

from miasbench.reports.fonts import drawable, font_advice
from miasbench.reports.style import label_methods, panels, save

RARE = "\U00012000"  # cuneiform: whoever has a font for it is asked to name another script here
NAMES = (f"肝脏{RARE}", "كبد", "😀$_{x}$", "é\x07")


def drawn(names: tuple[str, ...], folder: Path) -> Figure:
    with panels(1, 1, 2, [names[0]]) as (figure, (axis,)):
        label_methods(axis, names)
        figure.suptitle(drawable(names[0]))
        save(figure, folder, "names")
        return figure


def test_letters_without_a_font_are_named_and_not_drawn_as_boxes(tmp_path: Path) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")  # as of a glyph that is missing
        drawn(NAMES, tmp_path)
    assert (tmp_path / "names.png").exists()
    assert drawable(f"a{RARE}{RARE}b") == "a[U+12000 12000]b"
    assert drawable("liver_ct é") == "liver_ct é"


def test_a_sentence_says_which_font_to_install() -> None:
    assert font_advice(["liver", "é"]) == ""
    advice = font_advice(["liver", RARE])
    assert (
        f"No font of this machine has {RARE}, so figures name letters by their code points, such as [U+12000]" in advice
    )
    assert "fonts-noto" in advice


def test_letters_come_from_whichever_font_has_them(tmp_path: Path) -> None:
    letter = "\u1d81"  # which matplotlib's default font lacks, and STIX, which it brings along, has
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        figure = drawn((f"x{letter}",), tmp_path)
    (axis,) = figure.axes
    for text in (axis.title, axis.get_yticklabels()[0]):
        assert text.get_text() == f"x{letter}"
        assert len(text.get_fontfamily()) == 2
