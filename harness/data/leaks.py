"""Patients that a dataset has in more than one split, which its user should know of before a score is believed."""

import re
from itertools import combinations

from ..api import SPLITS, Case, Dataset, Split

_SHOWN = 3  # names of a pair of splits
_OF_A_PATIENT = 3  # anomalous images; more of the same patient, and of no other, look like a name that all share
_VISIT = re.compile(  # at the end of a patient's name; one letter alone may be part of the name
    r"(?i)[_\-. ]?((ses|session|visit|scan|run|time|timepoint|tp|day|week|month|year)[_\-. ]?\w+|[_\-. ][vts]\d+"
    r"|[_\-. ](baseline|followup|pre|post|left|right|od|os))$"
)


def shared_patients(dataset: Dataset) -> dict[str, list[str]]:
    """The patients in more than one split, sorted, by the two splits: `{"train and test": ["00003"]}`.

    Patients are what the dataset says they are. Where it guesses them from file names, a name that is a mere number, as
    in `train/good/000.png`, is passed over if it can be the file's place in its folder, which begins again in each.
    Numbers above the count of images, such as those of a hospital, are patients.
    """
    patients = {split: _patients(dataset, split) for split in SPLITS}
    shared = {f"{one} and {other}": sorted(patients[one] & patients[other]) for one, other in combinations(SPLITS, 2)}
    return {splits: names for splits, names in shared.items() if names}


def shared_patients_note(dataset: Dataset) -> str:
    """One line for the user on the patients in more than one split, or nothing where there are none."""
    shared = shared_patients(dataset)
    if not shared:
        return ""
    count = len(set().union(*shared.values()))
    where = "; ".join(f"{splits}: {_first(names)}" for splits, names in shared.items())
    return (
        f"There {'is 1 patient' if count == 1 else f'are {count} patients'} in more than one split, as far as names "
        f"or a table tell ({where}). Images of a patient are alike, so scores and their intervals come out too good, "
        "unless the numbers start again in each split. Keep a patient in one split. Where file names hold the patient "
        "elsewhere, say so with `patient` on a card (.yaml)."
    )


def visits_note(dataset: Dataset) -> str:
    """One line for the user where names look like visits of one patient that are in two splits, or nothing."""
    visits: dict[str, dict[str, Split]] = {}
    for split in SPLITS:
        for patient in sorted(_patients(dataset, split)):
            visits.setdefault(_VISIT.sub("", patient), {}).setdefault(patient, split)
    apart = [of_one for of_one in visits.values() if len(set(of_one.values())) > 1]
    if not apart or len(visits) == 1:
        return ""
    (one, split), (other, another) = next(iter(apart[0].items())), list(apart[0].items())[-1]
    return (
        f"{len(apart):,} {'name looks' if len(apart) == 1 else 'names look'} like a patient with visits in more than "
        f"one split, such as {one} ({split}) and {other} ({another}). If so, images of one patient are trained on and "
        "tested: say who the patient is with `patient` on a card (.yaml), and keep patients in one split."
    )


def one_patient_note(dataset: Dataset) -> str:
    """One line for the user where all that is tested is of one patient, or nothing."""
    cases = dataset.cases("test")
    anomalous = [case for case in cases if case.label]
    for kind, tested, fewest in (("", cases, 2), ("anomalous ", anomalous, _OF_A_PATIENT + 1)):
        patients = {case.patient for case in tested}
        if len(patients) == 1 and len(tested) >= fewest:
            return (
                f"All {len(tested):,} {kind}test images are of one patient, {patients.pop()}, as far as names tell. "
                "Intervals are over patients, so there are none, and all methods are tied. Where file names "
                "hold the patient elsewhere, or each image is a patient, say so with `patient` on a card (.yaml), such "
                "as `patient: '(.+)'`."
            )
    return ""


def _patients(dataset: Dataset, split: Split) -> set[str]:
    cases = dataset.cases(split)
    return {case.patient for case in cases if not (dataset.guesses_patients and _is_place(case, len(cases)))}


def _is_place(case: Case, count: int) -> bool:
    """Whether the name of a case, of so many in its split, can be its place in its folder: `000` or `good/000`."""
    return case.patient == case.id.rpartition("/")[2] and case.patient.isdecimal() and int(case.patient) <= count


def _first(names: list[str]) -> str:
    more = len(names) - _SHOWN
    return ", ".join(names[:_SHOWN]) + (f" and {more} more" if more > 0 else "")
