"""Guesses the patient of an image from its file name, where nobody has said who it is."""

import re
from collections import Counter
from collections.abc import Iterator, Sequence
from typing import NamedTuple

from ..harness.api import Case

_BIDS_PATIENT = re.compile(r"(?:^|_)(sub-[A-Za-z0-9]+)")
_WORD = re.compile(r"(?i)(patient|subject|case|(?<![a-z])(?:pat|pt|subj?|person)|^p)[-_. ]?\d+")
_LAST_NUMBER = re.compile(r"[-. ]\w*\d+$")


class PatientGuess(NamedTuple):
    """Who the patients are by the look of names, where that is not whom names are taken to tell.

    Attributes:
        pattern: A pattern for a card.
        why: A sentence without its full stop, and what more there is to say.
    """

    pattern: str
    why: str


def patient_by_name(name: str) -> str:
    """The patient of an image where nobody says who it is: BIDS's `sub-…`, or the name up to its last underscore."""
    bids = _BIDS_PATIENT.search(name)
    return bids.group(1) if bids else name.rpartition("_")[0] or name


def likely_patient(name: str) -> str:
    """The patient by the look of a name: `patient 7` or `case12` in it, or else by `patient_by_name`."""
    word = _WORD.search(name)
    return word.group() if word else patient_by_name(name)


def guess_patients(cases: Sequence[Case]) -> PatientGuess | None:
    """Guesses whether several images are of one patient, and not those that are taken for it.

    Args:
        cases: Their patients are what names gave without a pattern.
    """
    names = [case.id.rpartition("/")[2] for case in cases]
    taken = [case.patient for case in cases]
    words = [_WORD.search(name) for name in names]
    likely = [word.group() if word else patient for word, patient in zip(words, taken, strict=True)]
    apart = set(zip(likely, taken, strict=True))
    if 1 < len(set(likely)) < len(cases) and not len(apart) == len(set(likely)) == len(set(taken)):
        shown = next(index for index, word in enumerate(words) if word and word.group() != taken[index])
        why = (
            f"Names such as {names[shown]} look as if {likely[shown]} were the patient, and {taken[shown]} is taken "
            f"for it: {len(set(taken)):,} patients instead of {len(set(likely)):,}. What is of one patient belongs in "
            "one split, and intervals draw patients"
        )
        return PatientGuess(_pattern(words), why)
    if len(set(taken)) == len(cases):
        begins = Counter(_LAST_NUMBER.sub("", patient) for patient in taken)
        if len(begins) >= 2 and min(begins.values()) >= 2:
            why = (
                f"Each of the {len(cases):,} images counts as a patient of its own, but names such as {taken[0]} look "
                f"as if {_LAST_NUMBER.sub('', taken[0])} is the patient, of several images"
            )
            return PatientGuess("^(.+)[-. ]", why)
    return None


def patients_in_names(cases: Sequence[Case]) -> Iterator[str]:
    """Says where names look as if several images were of one patient, with the pattern for a card."""
    guess = guess_patients(cases)
    if guess:
        yield f"{guess.why}. If it is so, say on a card: `patient: '{guess.pattern}'`."


def _pattern(words: Sequence[re.Match[str] | None]) -> str:
    """A pattern that finds what was found, and in other names what is the patient by default."""
    found = "|".join(sorted({"^p" if word.group(1) in "pP" else word.group(1).lower() for word in words if word}))
    numbered = rf"(?:{found})[-_. ]?\d+" if "|" in found else rf"{found}[-_. ]?\d+"
    return rf"(?i)({numbered})" if all(words) else rf"(?i)({numbered}|^(?!.*{numbered})(?:.+(?=_)|.+))"
