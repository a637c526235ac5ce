"""Compares MIAS-SAM's prompts with its controls and with thresholded baselines, and writes docs/quality.md.

    python -m benchmarks.quality --images FOLDER --images FOLDER

Each FOLDER is a dataset in BMAD's layout; without any, generated images do. Embedded weights.
"""

from collections.abc import Sequence
from pathlib import Path

import click
import numpy as np
import pandas as pd
from rich.console import Console

from miasbench.harness.api import Dataset
from miasbench.harness.cache import Cache
from miasbench.harness.cli.options import LocalPath
from miasbench.harness.config import make_config
from miasbench.harness.data.frame import frame_image, frame_mask, image_rectangle
from miasbench.harness.running.session import execute_plan, plan_run
from miasbench.harness.scoring.intervals import mean_interval
from miasbench.harness.scoring.masks import Overlap
from miasbench.methods import weights
from miasbench.methods.mias_sam.sam import Prompt, load_sam
from miasbench.results.store import RunStore

DOCUMENT = Path(__file__).parents[1] / "docs" / "quality.md"
PHANTOMS = ("phantom_brain_mri", "phantom_liver_ct", "phantom_retina_oct")
REFERENCE = "mias_sam[prompt=centroid_box]"
PROMPTS = ("centroid", "centroid_mask", "threshold_boxes", "peaks", "vote")
CONTROLS = (
    "sam_control[prompt=foreground_box]",
    "sam_control[prompt=foreground_box,share=0.6]",
    "sam_control[prompt=intensity_box]",
    "sam_control[prompt=intensity_box,sigma=2]",  # smoothed as `intensity` is
    "sam_control[prompt=vote,sigma=2]",
)
BASELINES = ("patchcore", "intensity")

console = Console(markup=False, highlight=False)


def ceiling(dataset: Dataset) -> float:
    """Mean DICE on test of SAM with the true box: what the decoder could reach."""
    sam = load_sam("lite_medsam", weights.SAM["lite_medsam"].fetch(), "cpu", cache=Cache.from_environment())
    values = []
    for case in dataset.cases("test"):
        image, mask = dataset.load(case)
        inside, truth = image_rectangle(mask.shape, 256), frame_mask(mask, 256).overlap
        if truth.any():
            y, x = np.nonzero(truth)
            box = Prompt(box=(float(x.min()), float(y.min()), float(x.max()), float(y.max())))
            logits, _ = sam.decode(sam.encode(frame_image(image, 256)), [box], 256, multimask=False)
            values.append(Overlap.of((logits[0, 0] > 0)[inside], truth[inside]).dice)
    return float(np.mean(values))


def paired(cases: pd.DataFrame, method: str) -> str:
    """The difference in DICE to the reference on the same images, with its 95 % interval over patients."""
    own = cases[(cases["policy"] == "own") & (cases["label"] == 1)]
    mine, reference = (own[own["method"] == name].set_index("case") for name in (method, REFERENCE))
    joined = mine.join(reference[["dice"]], rsuffix="_reference", validate="one_to_one")
    difference = (joined["dice"] - joined["dice_reference"]).to_numpy()
    low, high, _ = mean_interval(difference, joined["patient"].tolist(), (-1, 1))
    return f"{difference.mean():+.3f} [{low:+.3f}, {high:+.3f}]"


def section(store: RunStore, dataset: Dataset, segmenting: Sequence[str]) -> str:
    """The table of one dataset: a row for each method with masks of its own, and what they are to be held against."""
    cases, scores = store.cases(), store.scores()
    cases, scores = (table[table["dataset"] == dataset.name] for table in (cases, scores))
    dice = scores[scores["metric"] == "dice"]
    valid = scores[(scores["metric"] == "dice_valid") & (scores["policy"] == "own")].set_index("method")["value"]
    lines = [
        f"## {Path(dataset.name).name}",
        "",
        "| prompt | DICE, validation | DICE, test | test, difference to the centroid box, paired |",
        "|---|---|---|---|",
    ]
    for method in segmenting:
        row = dice[(dice["method"] == method) & (dice["policy"] == "own")].iloc[0]
        against = "–" if method == REFERENCE else paired(cases, method)
        lines.append(f"| `{method}` | {valid[method]:.3f} | {row['value']:.3f} | {against} |")
    thresholded = dice[dice["method"].isin(BASELINES)]
    best = thresholded[~thresholded["oracle"]].sort_values("value").iloc[-1]
    oracle = thresholded[thresholded["oracle"] & (thresholded["method"] == best["method"])].iloc[0]
    count, patients = dice["n"].max(), cases.loc[cases["label"] == 1, "patient"].nunique()
    return "\n".join(
        [
            *lines,
            "",
            f"{count} anomalous test images of {patients} patients. The best thresholded baseline is {best['method']} "
            f"with `{best['policy']}`, {best['value']:.3f}; its oracle reaches {oracle['value']:.3f}, and SAM with the "
            f"true box {ceiling(dataset):.3f}.",
        ]
    )


@click.command()
@click.option("--images", multiple=True, default=PHANTOMS, show_default=True, help="A dataset: a name, or a folder.")
@click.option("--prompts", default=",".join(PROMPTS), show_default=True, help="Beside the centroid box.")
@click.option("--results", type=LocalPath(), default=Path("bench-results"), show_default=True)
@click.option("--out", type=LocalPath(), default=DOCUMENT, show_default=True, help="The document.")
def main(images: Sequence[str], prompts: str, results: Path, out: Path) -> None:
    """Run everything that is not finished, and write the document."""
    segmenting = [REFERENCE, *(f"mias_sam[prompt={prompt}]" for prompt in prompts.split(",")), *CONTROLS]
    values = {
        "methods": [*segmenting, *BASELINES],
        "dataset": list(images),
        "weights": "embedded",
        "results": results,
        "controls": False,
    }
    plan = plan_run(make_config(values, "in benchmarks/quality.py"))

    def tell(cell: str, stage: str, done: int, total: int) -> None:
        if done in (0, total):
            console.print(f"{cell}: {stage}")

    execute_plan(plan, progress=tell)
    parts = [
        "# What the prompt is worth",
        "Made by `python -m benchmarks.quality`. Embedded weights (LiteMedSAM), which are not the paper's; mean DICE "
        "of anomalous images. The intervals are 95 %, over patients.",
        *(section(plan.store, dataset, segmenting) for dataset in plan.datasets.values()),
    ]
    out.parent.mkdir(parents=True, exist_ok=True)
    out.write_text("\n\n".join(parts) + "\n", encoding="utf-8")
    console.print(f"Written to {out}.")


if __name__ == "__main__":
    main()
