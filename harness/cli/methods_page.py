"""docs/methods.md, made from the cards of the built-in methods."""

from collections.abc import Iterator, Mapping

from ..registry import Entry

COMMAND = "bench list methods --markdown > docs/methods.md"


def methods_page(methods: Mapping[str, Entry]) -> str:
    """Renders cards as a page of Markdown: an overview, then a section for each method."""
    return "\n".join(
        [*_overview(methods), *(line for name in sorted(methods) for line in _section(name, methods[name]))]
    )


def _overview(methods: Mapping[str, Entry]) -> Iterator[str]:
    yield from (
        "# Methods",
        "",
        f"Made from `methods/cards.yaml` by `{COMMAND}`.",
        "",
        "Methods that are *trained* take `--epochs` and `--batch-size`. Without these options they follow the schedule "
        "below, which has the same source as their hyperparameters. Any other model of anomalib that makes a pixel map "
        "is called `anomalib:ClassName`, such as `anomalib:Padim[n_features=50]`, and has anomalib's own defaults.",
        "",
        "| method | what it does | trained | `--weights` |",
        "|---|---|---|---|",
    )
    for name in sorted(methods):
        entry = methods[name]
        trained = "yes" if entry.trained else "no"
        yield f"| [`{name}`](#{name}) | {entry.summary} | {trained} | {', '.join(entry.weights) or 'none'} |"
    yield ""


def _section(name: str, entry: Entry) -> Iterator[str]:
    facts = {
        "Paper": entry.paper,
        "Trained": f"yes{_schedule(entry.schedule)}" if entry.trained else "no",
        "Needs": entry.needs or "nothing else",
        **{f"`--weights {kind}`": text for kind, text in entry.weights.items()},
        "Licence": entry.licence,
        "Image width": f"{entry.input_size} pixels" if entry.input_size else "",
        "Hyperparameters": entry.source,
        "Options set": ", ".join(f"`{option}={value}`" for option, value in entry.options.items()),
    }
    yield from (f"## {name}", "", f"{entry.summary}.", "")
    yield from (f"- {fact}: {text}" for fact, text in facts.items() if text)
    yield ""


def _schedule(schedule: Mapping[str, int]) -> str:
    """Says `, 200 epochs in batches of 32`; steps, where there are some, stand for epochs that do not count."""
    if not schedule:
        return ""
    length = f"{schedule['steps']:,} steps" if "steps" in schedule else f"{schedule['epochs']:,} epochs"
    return f", {length} in batches of {schedule['batch_size']}"
