"""Names of methods and datasets as tables and figures have room for them."""

import re
from collections import Counter
from collections.abc import Iterable

import pandas as pd

from ..results.metrics import METRICS
from ..results.tables import with_post, without_post

_WITH_OPTIONS = re.compile(r"[^:]+:\w+=[^,]*(,\w+=[^,]*)*")


def broken_lines(name: str, length: int) -> list[str]:
    """Breaks a name of more letters into lines, before brackets and after commas and semicolons."""
    lines = [""]
    for part in filter(None, re.findall(r"(?:\[| \()?(?:(?! \()[^\[,;])*[,;]?", name)):
        if lines[-1] and len(lines[-1] + part) > length:
            lines.append("")
        lines[-1] += part if lines[-1] else part.lstrip()
    return lines


def policy_title(policy: str) -> str:
    """A threshold policy as the title of a column, `normal quantile [q=0.95]`; its options keep their text.

    So does a chain of post-processing behind it.
    """
    plain, chain = without_post(policy)
    name, bracket, options = plain.partition("[")
    return with_post(name.replace("_", " ") + (f" {bracket}{options}" if options else ""), chain)


def left_out_notes(rows: pd.DataFrame) -> list[str]:
    """A sentence for each reason why policies, chains of post-processing or metrics were left out.

    Args:
        rows: Rows of the table `scores` whose note says why.
    """
    rows = rows.assign(what=[_left_out(policy, metric) for policy, metric in rows[["policy", "metric"]].to_numpy()])
    return [f"{', '.join(own.unique())} {note}." for note, own in rows.groupby("note", sort=False)["what"]]


def _left_out(policy: str, metric: str) -> str:
    name, chain = without_post(policy)
    if name != "none":
        return policy
    return f"post-processing {chain}" if chain else METRICS[metric].title


def short_names(datasets: Iterable[str]) -> dict[str, str]:
    """Gives each dataset a short name that none of the others has.

    Args:
        datasets: Names as in the tables: `name`, or `name:option=value,…`.

    Returns:
        By the dataset's name: what stands before its options. Where several have that in common, the options follow
        in which they differ; where that tells them apart no better, the name stays whole.
    """
    names = list(dict.fromkeys(datasets))
    parts = {name: _parted(name) for name in names}
    found = {}
    for name, (base, options) in parts.items():
        alike = [own for other, own in parts.values() if other == base]
        common = set(alike[0]).intersection(*alike[1:]) if len(alike) > 1 else set(options)
        differing = [option for option in options if option not in common]
        found[name] = f"{base}:{','.join(differing)}" if differing else base
    counts = Counter(found.values())
    return {name: short if counts[short] == 1 else name for name, short in found.items()}


def _parted(name: str) -> tuple[str, list[str]]:
    if not _WITH_OPTIONS.fullmatch(name):  # a colon may also stand in the name of a folder
        return name, []
    base, _, options = name.partition(":")
    return base, options.split(",")
