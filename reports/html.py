"""The report as one HTML file that needs nothing else: tables to sort, curves to slide along, cases to look at.

Nothing of a dataset, a method or a run is trusted: Jinja2 escapes it, and the script makes text of it, never markup.
"""

import base64
import importlib.resources
import io
import json
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import Any

import matplotlib
import numpy as np
import pandas as pd
from jinja2 import Environment
from markupsafe import Markup
from matplotlib.colors import to_hex
from PIL import Image

from ..results.extent import Extent
from ..results.files import ResultsError, slug, write_file
from ..results.joining import JoinedRuns
from ..results.metrics import METRICS
from ..results.predictions import mask_by
from ..results.seeds import over_seeds
from ..results.store import RunStore
from ..results.tables import FEW_PATIENTS, masks_by, may_be_best, with_post, without_post
from .galleries import GREEN, ORANGE, MaskBy, Read, picture
from .marks import label_notes, with_labels
from .names import short_names
from .promises import promise_notes, promises
from .ranks import ranks_in_words
from .spread import deviation, interval, spread_notes
from .style import looks
from .tables import ordered_policies

PICTURED = 40
"""So many cases of a dataset have images, evenly spread over the ranking by mean DICE: a file must stay small."""
_PIXELS = 256  # at most
_POINTS = 120  # of a curve
_DASHES = {"-": "none", "--": "7 4", ":": "2 3", "-.": "7 3 2 3"}


def write_html(
    file: Path,
    runs: Sequence[RunStore],
    tables: JoinedRuns,
    comparison: tuple[pd.DataFrame, pd.DataFrame],
    policy: str,
    figures: Iterable[Path],
    images: Mapping[tuple[str, str], Read],
    measured: Mapping[str, Extent],
    remarks: Sequence[str] = (),
    masks: Mapping[tuple[str, str], MaskBy] = MappingProxyType({}),
) -> None:
    """Writes the report.

    Args:
        file: Where it goes.
        runs: The runs that it shows.
        tables: Their tables, joined.
        comparison: `comparisons` and `ranks` of the same.
        policy: The policy whose masks the text, the figures and the cases show.
        figures: PNG files to embed.
        images: Functions that read a case's image and lesion mask, by the names of run and dataset.
        measured: How much of each dataset was measured, by `results.extent.extents`.
        remarks: Sentences that no reader may miss, such as that a run is unfinished.
        masks: Functions that make masks, by the names of run and dataset; by default `mask_by`.
    """
    short = short_names(tables.scores["dataset"])
    cases, scores, curves, comparisons, ranks = (
        with_labels(table, tables.scores) for table in (*tables[:3], *comparison)
    )
    pictures = _pictures(masks_by(cases, policy), {run.name: run for run in runs}, images, masks)
    failed, promised = scores[scores["error"] != ""], promises(tables.scores)
    templates = importlib.resources.files("miasbench.reports").joinpath("templates")
    css, js, page = (templates.joinpath(f"report.{kind}").read_text(encoding="utf-8") for kind in ("css", "js", "html"))
    # Style and script are the project's own; everything else is escaped.
    html = Environment(autoescape=True, trim_blocks=True, lstrip_blocks=True).from_string(page)
    text = html.render(
        title="Anomaly segmentation: " + ", ".join(short.values()),
        css=Markup(css),
        js=Markup(js),
        policy=policy,
        words={short[dataset]: words for dataset, words in _words(ranks, comparisons, policy).items()},
        remarks=remarks,
        datasets=[
            {"short": short[name], "name": name, "extent": str(one), "notes": one.notes}
            for name, one in measured.items()
        ],
        promises=[
            {"dataset": short[one.dataset], "method": one.label, "policy": one.policy, "promised": f"{one.promised:g}"}
            | {"metric": METRICS[one.metric].title, "realised": one.text, "verdict": one.verdict}
            for one in promised
        ],
        promise_notes=list(promise_notes(promised)),
        spread_notes=spread_notes(scores),
        label_notes=list(label_notes(tables.scores)),
        failures=[f"{row.dataset} · {row.method} · seed {row.seed}: {row.error}" for row in failed.itertuples()],
        runs=[_run(run) for run in runs],
        figures=[_figure(path, short) for path in figures],
        measured="; ".join(f"{short[name]}: {one}" for name, one in measured.items()),
        images_note=(
            f"Images are shown of up to {PICTURED} cases of a dataset, evenly spread over the ranking by mean DICE."
            if pictures
            else "There are no images: the datasets or the anomaly maps are not where they were."
        ),
        data={
            "datasets": short,
            "policies": list(dict.fromkeys([policy, *ordered_policies(scores[scores["metric"] == "dice"])])),
            "columns": [
                {"name": one.name, "title": one.title, "digits": one.digits, "better": one.direction}
                for one in METRICS.values()
                if one.shown and one.name in set(scores["metric"])
            ],
            "scores": _score_rows(scores, ranks, policy),
            "curves": _curves(curves),
            "looks": {
                method: {"colour": to_hex(look.colour), "dash": _DASHES[look.dash]}
                for method, look in looks([str(name) for name in scores["method"].unique()]).items()
            },
            "cases": _cases(masks_by(cases, policy)),
            "images": pictures,
        },
    )
    write_file(file, text)


def _words(ranks: pd.DataFrame, comparisons: pd.DataFrame, policy: str) -> dict[str, list[str]]:
    words = {}
    for dataset, ranking in ranks[ranks["policy"] == policy].groupby("dataset", sort=False):
        pairs = comparisons[(comparisons["policy"] == policy) & (comparisons["dataset"] == dataset)]
        words[str(dataset)] = list(ranks_in_words(ranking, pairs))
    return words


def _run(run: RunStore) -> dict[str, Any]:
    record = run.read()
    kept = ("options", "weights", "size", "device", "code", "fingerprint", "transductive")
    cells = [
        {name: cell[name] for name in ("dataset", "method", "seed")}
        | {"text": json.dumps({name: cell[name] for name in kept}, indent=2, ensure_ascii=False)}
        for cell in (one.model_dump() for one in record.cells)
    ]
    return {"name": run.name, "environment": record.environment, "created": record.created, "cells": cells}


def _figure(path: Path, short: Mapping[str, str]) -> dict[str, str]:
    ranges = f"95 % intervals over patients and seeds, dotted where there are fewer than {FEW_PATIENTS} patients"
    kinds = {
        "dice": f"Mean DICE of each method and dataset, with {ranges}; a tick is a seed",
        "distributions": "DICE of every anomalous image and seed, by method: quartiles and median",
        "volumes": f"DICE and HD95 of volumes by method, with {ranges}; a dot is a volume",
        "lesion_size": f"Mean DICE by lesion size, with {ranges}",
        "cost": "DICE over runtime and memory, means over seeds, with the Pareto front",
        "roc": "Receiver operating characteristic over all test pixels, of the first seed",
        "precision_recall": "Precision over recall of all test pixels, of the first seed",
        "regret": "Regret of each threshold policy by dataset: a small dot is a method; mean and standard deviation",
        "ranks": "How often each method has each rank when patients are drawn again; a tick is its rank on all of them",
    } | {
        f"thresholds-{slug(dataset)}": f"{name}: DICE over thresholds, of the first seed; thresholds are in units of "
        "each method's map and cannot be compared from panel to panel"
        for dataset, name in short.items()
    }
    kinds |= {
        f"false_positives-{slug(dataset)}": f"{name}: DICE over the false-positive rate in the foreground of normal "
        "test images, of the first seed, with the point of each threshold policy"
        for dataset, name in short.items()
    }
    kinds |= {
        f"foreground-{slug(dataset)}": f"{name}: the foreground in orange, lesions in green, of test images from the "
        "smallest share of foreground to the largest"
        for dataset, name in short.items()
    }
    alt = kinds[path.stem]
    return {"uri": _uri(path.read_bytes(), "png"), "alt": alt}


def _score_rows(scores: pd.DataFrame, ranks: pd.DataFrame, policy: str) -> list[dict[str, Any]]:
    """A row for each dataset, policy and method, with scores that need no threshold in all of a method's rows."""
    shown = [one.name for one in METRICS.values() if one.shown]
    kept = scores[(scores["error"] == "") & scores["value"].notna() & scores["metric"].isin(shown)]
    needs_none = kept["policy"].isin([one for one in kept["policy"].unique() if without_post(one)[0] == "none"])
    of_maps = dict(list(kept[needs_none].groupby(["dataset", "method", "policy"], sort=False)))
    masks = kept[~needs_none]
    if policy not in set(masks["policy"]):  # such as the headline, which takes each method's best legal one
        masks = pd.concat([masks_by(masks, policy).assign(policy=policy), masks])
    tied = ranks[ranks["tied_with_best"]]
    tied_keys = set(tied[["dataset", "policy", "method"]].itertuples(index=False, name=None))
    rows = []
    for (dataset, name, method), own in masks.groupby(["dataset", "policy", "method"], sort=False):
        maps = with_post("none", without_post(str(name))[1])  # the chain's own, where it changes maps
        plain = of_maps.get((dataset, method, "none"), own[:0])
        changed = of_maps.get((dataset, method, maps), own[:0])
        parts = pd.concat([own, changed, plain[~plain["metric"].isin(changed["metric"])]])
        parts = parts[~parts["oracle"] | bool(own["oracle"].iloc[0])]
        rows.append(
            {
                "dataset": dataset,
                "policy": name,
                "method": method,
                "told": _told(own),
                "ranked": may_be_best(own),
                "oracle": bool(own["oracle"].iloc[0]),
                "tied": (dataset, name, method) in tied_keys,
                "values": {str(metric): _value(one) for metric, one in parts.groupby("metric", sort=False)},
            }
        )
    return rows


def _told(rows: pd.DataFrame) -> str:
    """What no reader of a row may overlook beside the marks of its method: weights that are not the paper's."""
    weights = str(rows["weights"].iloc[0])
    return "; ".join(kind for kind in ("embedded", "random") if f"({kind})" in weights)


def _value(rows: pd.DataFrame) -> dict[str, Any]:
    digits, score = METRICS[str(rows["metric"].iloc[0])].digits, over_seeds(rows)
    ends = interval(score.low, score.high, digits, few=score.few_patients)
    return {"value": score.value, "spread": [text for text in (deviation(score.std, digits), ends) if text]}


def _curves(curves: pd.DataFrame) -> dict[str, dict[str, dict[str, Any]]]:
    """DICE of the first seed over the share of normal test pixels that reach the threshold."""
    found: dict[str, dict[str, dict[str, Any]]] = {}
    for (dataset, method), rows in curves[curves["split"] == "test"].groupby(["dataset", "method"], sort=False):
        own = rows[rows["seed"] == rows["seed"].iloc[0]].sort_values("threshold", ascending=False)
        own = own.iloc[np.unique(np.linspace(0, len(own) - 1, _POINTS).astype(int))]
        found.setdefault(str(dataset), {})[str(method)] = {
            "share": own["false_positive_rate"].round(6).tolist(),
            "dice": own["dice"].round(4).tolist(),
            "seed": int(own["seed"].iloc[0]),
        }
    return found


def _cases(cases: pd.DataFrame) -> dict[str, list[dict[str, Any]]]:
    found: dict[str, list[dict[str, Any]]] = {}
    scored = cases[cases["dice"].notna() & (cases["label"] == 1)]
    for (dataset, case), rows in scored.groupby(["dataset", "case"], sort=False):
        dice = rows.groupby("method", sort=False)["dice"].mean().round(4).to_dict()
        one = {"case": str(case), "patient": str(rows["patient"].iloc[0]), "dice": dice}
        found.setdefault(str(dataset), []).append(one)
    return found


def _pictures(
    cases: pd.DataFrame,
    runs: Mapping[str, RunStore],
    images: Mapping[tuple[str, str], Read],
    masks: Mapping[tuple[str, str], MaskBy],
) -> dict[str, dict[str, Any]]:
    """Images of some cases, of the first seed, as data URIs: by dataset and case."""
    found: dict[str, dict[str, Any]] = {}
    scored = cases[cases["dice"].notna() & (cases["label"] == 1)]
    for dataset, rows in scored.groupby("dataset", sort=False):
        ranked = rows.groupby("case")["dice"].mean().sort_values(kind="stable").index
        chosen = ranked[np.unique(np.linspace(0, len(ranked) - 1, min(PICTURED, len(ranked))).astype(int))]
        first = rows.drop_duplicates(["method", "case"])
        for row in first[first["case"].isin(chosen)].to_dict("records"):
            read = images.get((row["run"], str(dataset)))
            if read is None:
                continue
            try:
                one = picture("", row, runs[row["run"]], read, masks.get((row["run"], str(dataset)), mask_by))
            except ResultsError:
                continue
            of_case = found.setdefault(str(dataset), {}).setdefault(
                str(row["case"]),
                {"image": _photo(one.image), "truth": _layer(one.truth, GREEN), "size": len(one.image), "methods": {}},
            )
            of_case["methods"][row["method"]] = {
                "map": _heat(one.anomaly_map),
                "mask": _layer(one.mask, ORANGE),
                "prompts": [list(prompt) for prompt in one.prompts],
                "seed": int(row["seed"]),
            }
    return found


def _photo(image: np.ndarray) -> str:
    return _webp(_small(Image.fromarray(image)))


def _layer(mask: np.ndarray, colour: str) -> str:
    """A mask in a colour that lets the image through."""
    alpha = _small(Image.fromarray(mask).convert("L"))
    layer = Image.new("RGB", alpha.size, colour)
    layer.putalpha(alpha.point(lambda value: value * 0.5))
    return _webp(layer)


def _heat(anomaly_map: np.ndarray) -> str:
    """An anomaly map in colours, from its own minimum to its own maximum."""
    low, high = float(anomaly_map.min()), float(anomaly_map.max())
    unit = (anomaly_map - low) / (high - low or 1.0)
    coloured = matplotlib.colormaps["magma"](unit, bytes=True)
    return _webp(_small(Image.fromarray(coloured).convert("RGB")))


def _small(image: Image.Image) -> Image.Image:
    side = min(_PIXELS, image.width)
    return image.resize((side, side), Image.Resampling.BILINEAR)


def _webp(image: Image.Image) -> str:
    buffer = io.BytesIO()
    image.save(buffer, "WEBP", quality=70, method=2)
    return _uri(buffer.getvalue(), "webp")


def _uri(content: bytes, kind: str) -> str:
    return f"data:image/{kind};base64,{base64.b64encode(content).decode()}"
