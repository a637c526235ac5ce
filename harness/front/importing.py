"""Predictions from elsewhere as a run."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

from ..api import UsageError
from ..config import RunConfig, make_config
from ..exchange.manifest import NOTHING, Seen
from ..registry import IMPORTED
from ..specs import parse_method, split_datasets
from .runs import Run, run_config


def import_predictions(
    folder: str | Path,
    dataset: str | Path,
    *,
    method: str | None = None,
    higher_is: Literal["anomalous", "normal"] | None = None,
    seen: str | Sequence[Seen] | None = None,
    partial: bool = False,
    quiet: bool = False,
    **options: Any,
) -> Run:
    """Scores predictions that another program made, as `bench import` does.

    Args:
        folder: Holds `maps/SPLIT/CASE.npy`, `masks/SPLIT/CASE.png` or `scores.csv`, and `predictions.yaml`, which says
            what they are; docs/exchange.md explains it.
        dataset: The dataset that was predicted: a name, a folder, or a card (`.yaml`).
        method: The method's name in the tables; by default the one in `predictions.yaml`, or the folder's.
        higher_is: What a higher value means, where `predictions.yaml` does not say it.
        seen: What the method has learned from, where `predictions.yaml` does not say it; `[]` for nothing.
        partial: Whether to take a set in which a tenth of a split's cases, or more, is missing.
        quiet: Whether to print nothing.
        options: Those of a run that concern scoring, such as `size=128` or `thresholds="valid_dice"`.

    Returns:
        The run, with one cell.

    Raises:
        UsageError: A name or an option is wrong.
        DataError: The dataset or the predictions cannot be used; the text says what is wrong and where.

    Examples:
        >>> run = miasbench.import_predictions("their_maps", "liver_ct", higher_is="anomalous", seen=["normal"])
        >>> run.scores[run.scores["metric"] == "pixel_auroc"]
    """
    given = options | {"dataset": [str(dataset)]}
    named = seen if seen is None or isinstance(seen, str) else ",".join(seen) or NOTHING
    config = import_config(Path(folder), method, higher_is, named, partial, given)
    return run_config(config, quiet=quiet)


def import_config(
    folder: Path,
    method: str | None,
    higher_is: str | None,
    seen: str | None,
    partial: bool,
    options: Mapping[str, Any],
) -> RunConfig:
    """The run that an import is.

    Args:
        folder: The folder of predictions.
        method: The method's name in the tables.
        higher_is: What a higher value means.
        seen: What the method has learned from, with commas, or `nothing`.
        partial: Whether cases may be missing.
        options: Those of a run.

    Raises:
        UsageError: An option is wrong.
    """
    seen = (seen or "").replace(",", "+")
    said = {"path": str(folder), "name": method, "higher_is": higher_is, "seen": seen, "partial": partial}
    spec = f"{IMPORTED}[{','.join(f'{key}={value}' for key, value in said.items() if value)}]"
    try:
        options_read = dict(parse_method(spec).options)
    except UsageError:
        options_read = {}
    if options_read != {key: str(value) for key, value in said.items() if value}:
        named = f", or the name {method}," if method else ""
        raise UsageError(f"{folder}{named} has a comma, a bracket or a blank that lists of options need. Rename it.")
    dataset = options.get("dataset", ())
    texts = [dataset] if isinstance(dataset, str) else list(dataset)
    datasets = [one for text in texts for one in split_datasets(text)]
    if not datasets:
        raise UsageError("Say with --dataset NAME or --dataset DIR of which dataset the predictions are.")
    return make_config({"methods": [spec], **options, "dataset": datasets}, "in the import")
