"""Letters of figures: a name in any script is drawn with the fonts that are installed, and never as empty boxes."""

import re
import unicodedata
from collections.abc import Iterable
from functools import cache

from matplotlib import font_manager
from matplotlib.figure import Figure
from matplotlib.text import Text

_BOXES = "Last Resort"  # a font of boxes that matplotlib falls back to
_EAST_ASIAN = ("CJK", "HIRAGANA", "KATAKANA", "HANGUL", "BOPOMOFO", "IDEOGRAPHIC", "FULLWIDTH")


def drawable(text: str) -> str:
    """Names letters that no installed font has by their code points, such as [U+809D 810F]; others stay."""
    lacking = _lacking(text)
    if not lacking:
        return text
    run = f"[{re.escape(''.join(lacking))}]+"
    return re.sub(run, lambda found: f"[U+{' '.join(f'{ord(letter):04X}' for letter in found[0])}]", text)


def font_advice(texts: Iterable[str]) -> str:
    """A sentence on letters that no installed font has, and which font has them; empty where there are none."""
    lacking = _lacking("".join(dict.fromkeys("".join(texts))))
    if not lacking:
        return ""
    east_asian = any(unicodedata.name(letter, "").startswith(_EAST_ASIAN) for letter in lacking)
    font = "Noto Sans CJK (Debian: fonts-noto-cjk)" if east_asian else "one of Noto (Debian: fonts-noto)"
    return (
        f"No font of this machine has {''.join(lacking)}, so figures name letters by their code points, such as "
        f"{drawable(lacking[0])}: install a font that has them, such as {font}, and run the same command again."
    )


def set_fonts(figure: Figure) -> None:
    """Gives every text of a figure the fonts that have its letters."""
    for text in figure.findobj(Text):
        assert isinstance(text, Text)
        own = font_manager.findfont(text.get_fontproperties())
        others = {_family(letter) for letter in set(text.get_text()) - {"\n"} if ord(letter) not in _letters(own)}
        if others - {None}:
            text.set_fontfamily([font_manager.get_font(own).family_name, *sorted(filter(None, others))])


def _lacking(text: str) -> list[str]:
    return [letter for letter in dict.fromkeys(text) if not letter.isspace() and _family(letter) is None]


@cache
def _family(letter: str) -> str | None:
    """The first family that has a letter, the default one before all others."""
    if ord(letter) in _letters(font_manager.findfont("DejaVu Sans")):
        return "DejaVu Sans"
    fonts = sorted(font_manager.fontManager.ttflist, key=lambda font: (font.style != "normal", font.weight != 400))
    return next((font.name for font in fonts if ord(letter) in _letters(font.fname)), None)


@cache
def _letters(file: str) -> frozenset[int]:
    """The code points that a font can draw at any size."""
    try:
        font = font_manager.get_font(file)
    except (OSError, RuntimeError):  # removed since matplotlib listed it, or of a kind that it cannot read
        return frozenset()
    return frozenset(font.get_charmap()) if font.scalable and not font.family_name.startswith(_BOXES) else frozenset()
