"""The gate's findings: as a table, as Markdown for a pull request, and as JUnit XML for CI systems."""

import re
from collections import Counter
from collections.abc import Iterator, Sequence
from xml.etree import ElementTree

from rich.console import Group, RenderableType
from rich.text import Text

from ..results.baseline import RUNTIME, Finding, FindingKind
from .fitting import Column, FittedTable
from .markdown import escape_markdown
from .names import short_names

_COLUMNS = (
    *(Column(title, "label") for title in ("method", "what")),
    *map(Column, ("baseline", "run")),
    *(Column(title, "text") for title in ("found", "")),
)
_OUTCOMES = {"regression": "failure", "slower": "failure", "not judged": "skipped", "new": "skipped"}
_SENTENCES: dict[FindingKind, str] = {
    "crashed": "crashed: no score is worse, there is none.",
    "missing": "missing: the baseline has it, the run does not.",
    "dataset changed": "on a dataset that has changed: scores are of other images, and not compared.",
    "configuration changed": "configured in another way than in the baseline.",
    "tables changed": "against tables that are not what the run wrote: their numbers cannot be believed.",
    "regression": "worse by more than the tolerance: a regression.",
    "slower": "slower by more than the tolerance, also for this machine: a regression.",
    "unsure": "with a large loss, of which the patients are too few or too different to be sure: look at their images, "
    "or take a tolerance such as dice=0.02, which needs no interval.",
    "nothing judged": "without anything to judge, so that the gate could not fail: make the baseline again, with a "
    "tolerance that can be broken, or take what judges nothing out of the file.",
    "not judged": "not judged.",
    "code changed": "made by other code than the baseline, which its scores are to judge.",
    "improved": "better by more than the tolerance.",
    "new": "not in the baseline yet.",
}
_TO_ACCEPT: tuple[FindingKind, ...] = ("improved", "new", "dataset changed", "configuration changed")
_NOT_IN_XML = re.compile("[^\t\n\r\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")


def gate_table(findings: Sequence[Finding], accept: str) -> RenderableType:
    """Renders what was found, dataset by dataset, and sums it up in words.

    Args:
        findings: The gate's findings.
        accept: The command that makes the run the new baseline.
    """
    parts: list[RenderableType] = []
    names = short_names(finding.dataset for finding in findings)
    for dataset, of_dataset in _by_dataset(findings).items():
        short = names[dataset]
        title = f"{short}: held against the baseline"
        table = FittedTable(title, _COLUMNS, dataset if dataset != short else "")
        for finding in of_dataset:
            style = "red" if finding.failed else "green" if finding.kind == "improved" else ""
            table.add_row(*_row(finding), style=style)
        parts.append(table)
    failed = any(finding.failed for finding in findings)
    parts.append(Text(f"The gate {_verdict(findings)}.", style="bold red" if failed else "bold green"))
    return Group(*parts, *(Text(sentence) for sentence in gate_in_words(findings, accept)))


def gate_markdown(findings: Sequence[Finding], accept: str) -> str:
    """Writes the same as Markdown: failures and what else is worth a look first, the rest folded away.

    Args:
        findings: The gate's findings.
        accept: The command that makes the run the new baseline.
    """
    fine = [finding for finding in findings if finding.kind == "ok"]
    notable = [finding for finding in findings if finding.kind != "ok"]
    lines = [f"### Benchmark gate: {_verdict(findings)}", ""]
    lines += [*(f"- {sentence}" for sentence in gate_in_words(findings, f"`{accept}`")), ""]
    lines += _markdown_tables(notable)
    if fine:
        summary = f"<details><summary>{len(fine)} as before</summary>"
        lines += [summary, "", *_markdown_tables(fine), "</details>", ""]
    return "\n".join(lines)


def junit_xml(findings: Sequence[Finding]) -> str:
    """Writes a test case for each finding: a failure is a score or a runtime, an error is what kept one from being had.

    What was not judged, or is not in the baseline yet, is skipped.
    """
    root = ElementTree.Element("testsuites")
    suite = ElementTree.SubElement(root, "testsuite", name="bench check", tests=str(len(findings)))
    counts: Counter[str] = Counter()
    for finding in findings:
        name = _printable(f"{finding.method} · {finding.what}")
        case = ElementTree.SubElement(suite, "testcase", classname=_printable(finding.dataset), name=name, time="0")
        outcome = _OUTCOMES.get(finding.kind, "error" if finding.failed else "")
        if outcome:
            counts[outcome] += 1
            message = _printable(f"{finding.kind}: {finding.text}")
            ElementTree.SubElement(case, outcome, message=message, type=finding.kind).text = message
    for outcome, attribute in (("failure", "failures"), ("error", "errors"), ("skipped", "skipped")):
        suite.set(attribute, str(counts[outcome]))
    ElementTree.indent(root)
    return f'<?xml version="1.0" encoding="utf-8"?>\n{ElementTree.tostring(root, encoding="unicode")}\n'


def gate_in_words(findings: Sequence[Finding], accept: str) -> Iterator[str]:
    """Sums the findings up, the most serious first, a sentence at a time."""
    counts = Counter(finding.kind for finding in findings)
    yield from (f"{counts[kind]} × {sentence}" for kind, sentence in _SENTENCES.items() if counts[kind])
    if not any(finding.failed for finding in findings):
        yield "Nothing is worse than the baseline by more than its tolerance."
    if any(counts[kind] for kind in _TO_ACCEPT):
        yield f"If that is what you want, this makes the run the new baseline: {accept}"


def _verdict(findings: Sequence[Finding]) -> str:
    return "failed" if any(finding.failed for finding in findings) else "passed"


def _by_dataset(findings: Sequence[Finding]) -> dict[str, list[Finding]]:
    found: dict[str, list[Finding]] = {}
    for finding in findings:
        found.setdefault(finding.dataset, []).append(finding)
    return found


def _row(finding: Finding) -> tuple[str, ...]:
    numbers = (_number(finding.before, finding.what), _number(finding.now, finding.what))
    return finding.method, finding.what, *numbers, finding.kind, finding.text


def _number(value: float | None, what: str) -> str:
    if value is None:
        return "–"
    return f"{value:.1f} ×" if what == RUNTIME else f"{value:.3f}"


def _markdown_tables(findings: Sequence[Finding]) -> Iterator[str]:
    for dataset, of_dataset in _by_dataset(findings).items():
        yield from (
            escape_markdown(dataset),
            "",
            f"| {' | '.join(column.title for column in _COLUMNS)} |",
            f"|{'---|' * len(_COLUMNS)}",
        )
        for finding in of_dataset:
            *cells, kind, text = map(escape_markdown, _row(finding))
            yield f"| {' | '.join(cells)} | {f'**{kind}**' if finding.failed else kind} | {text} |"
        yield ""


def _printable(text: str) -> str:
    return _NOT_IN_XML.sub("\ufffd", text)
