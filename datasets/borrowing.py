"""A dataset whose train and validation splits are another's: what must be alike, and what is said of it."""

from collections.abc import Iterator
from pathlib import Path

from ..harness.api import Dataset


def problems_of_base(own: Dataset, base: Dataset) -> Iterator[str]:
    """Says what keeps a dataset from taking the train and validation splits of another one.

    Args:
        own: The dataset; its name and card are looked at.
        base: The other one.
    """
    if base.card.channels != own.card.channels:
        yield (
            f"The images of {own.name} are read with channels {own.card.channels}, and those of {base.name}, from "
            f"which it takes train and validation, with {base.card.channels}. Write the same channels on both cards."
        )
    if own.card.foreground == "masks" and base.card.foreground != "masks":
        yield (
            f"The foreground of {own.name} is masks, and {base.name}, from which it takes train and validation, has "
            f"none. Give {base.name} masks too, or write a rule on the card, such as `foreground: otsu`."
        )


def notes_on_base(own: Dataset, base: Dataset, root: Path) -> Iterator[str]:
    """Says whose the train and validation splits are, and what of both differs.

    Args:
        own: The dataset.
        base: The other one.
        root: Where the other one is.
    """
    card = base.card
    yield (
        f"The train and validation splits are those of {card.name} ({root}; origin {card.origin}, licence "
        f"{card.licence}). Its test split is not used."
    )
    if card.foreground != own.card.foreground:
        yield (
            f"The foreground of all splits is {own.card.foreground}, as the card of {own.name} says; that of "
            f"{card.name} says {card.foreground}."
        )
    yield from (f"{card.name}: {note}" for note in base.notes())
