"""Measures what MIAS-SAM costs at the paper's scale, and writes docs/performance.md.

    python -m benchmarks.performance --images FOLDER

Every figure is a ratio against something plain that is measured in the same process run: the textbook's procedure, or
exhaustive search. FOLDER is a dataset in BMAD's layout, whose normal training images make the memory bank; without it,
generated images do. It takes about an hour on two cores, and 14 GB of memory.
"""

import multiprocessing
import platform
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import click
import faiss
import numpy as np
import psutil
import torch
from rich.console import Console

from miasbench.harness.api import Dataset
from miasbench.harness.cli.options import LocalPath
from miasbench.harness.config import make_config
from miasbench.harness.data.frame import frame_image
from miasbench.harness.registry import build_method, open_dataset
from miasbench.harness.running.device import PeakMemory
from miasbench.harness.running.provenance import command_line, environment
from miasbench.harness.running.session import execute_plan, plan_run
from miasbench.methods import weights
from miasbench.methods.mias_sam.index import FACTORIES, PROBES
from miasbench.methods.mias_sam.memory_bank import MemoryBank, anomaly_map, patch_descriptors
from miasbench.methods.mias_sam.sam import load_sam
from miasbench.methods.mias_sam.tiny_vit import FastTinyViT

from .grown_rows import GrownRows
from .random_sam import as_published, random_sam
from .textbook import Textbook, literal_lite_medsam

DOCUMENT = Path(__file__).parents[1] / "docs" / "performance.md"
DEFAULT_IMAGES = "phantom_brain_mri:train=122,valid=4,test=20"
VARIANTS = ({"precision": "float32"}, {"precision": "bfloat16"}, {"precision": "bfloat16", "input_size": 512})
FEW_PROBES = 12  # beside the default: what speed costs
QUERIES = 10  # test images whose search is timed
LIVER_IMAGES, BRAIN_IMAGES = 1542, 7500  # BMAD's training images

console = Console(highlight=False)


class Table(NamedTuple):
    """A table of the document."""

    head: Sequence[str]
    rows: Sequence[Sequence[str]]

    def markdown(self) -> str:
        lines = [self.head, ["---"] * len(self.head), *self.rows]
        return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def timed(function: Callable[[], Any], rounds: int = 1) -> tuple[float, Any]:
    """The median seconds of some calls, and what the last returned."""
    seconds, result = [], None
    for _ in range(rounds):
        start = time.perf_counter()
        result = function()
        seconds.append(time.perf_counter() - start)
    return float(np.median(seconds)), result


def timed_in_turn(functions: Sequence[Callable[[], Any]], rounds: int) -> list[tuple[float, Any]]:
    """As `timed`, of several functions that take turns, so that what else the machine does slows all of them alike."""
    calls = [[timed(function) for function in functions] for _ in range(rounds)]
    return [(float(np.median([seconds for seconds, _ in turn])), turn[-1][1]) for turn in zip(*calls, strict=True)]


def images_of(dataset: Dataset, split: Any) -> list[np.ndarray]:
    return [frame_image(dataset.load(case).image, 256) for case in dataset.cases(split)]


def one_image(normal: Sequence[np.ndarray], image: np.ndarray) -> Table:
    """A test image's whole procedure with SAM ViT-B, random weights, a bank of two images."""
    network = random_sam()
    textbook = Textbook(network).fit(normal[:2])
    seconds, (expected, _) = timed(lambda: textbook.predict(image), rounds=3)
    rows = [["textbook: two encoder passes, the neck after each block", f"{seconds:.1f}", "1.0", "–", "–"]]
    with as_published(network):
        for options in VARIANTS:
            settings = {"flip": 0.0, "normalisation": "image", "mask": "0"} | options
            method = build_method("mias_sam", settings, weights="published", device="cpu", seed=0)
            method.fit(normal[:2])
            method.predict(image)
            mine, prediction = timed(lambda method=method: method.predict(image), rounds=5)
            difference = prediction.anomaly_map - expected
            rows.append(
                [
                    "mias_sam[" + ",".join(f"{name}={value}" for name, value in options.items()) + "]",
                    f"{mine:.1f}",
                    f"{seconds / mine:.1f}",
                    f"{np.abs(difference).max() / expected.max():.1e}",
                    f"{np.linalg.norm(difference) / np.linalg.norm(expected):.2%}",
                ]
            )
    return Table(
        ["", "s an image", "times faster", "map: largest difference / largest value", "map: relative error"], rows
    )


def lite_medsam(image: np.ndarray) -> Table:
    """LiteMedSAM's encoder, with the embedded weights, against the literal one."""
    literal = literal_lite_medsam()
    pixels = (torch.from_numpy(image) / 255).expand(1, 3, -1, -1)
    encoders = {"the package's own": literal}
    for precision in ("float32", "bfloat16"):
        encoders[f"`precision={precision}`"] = FastTinyViT(literal, precision)
    with torch.inference_mode():
        for encoder in encoders.values():
            encoder(pixels)
        measured = timed_in_turn([partial(encoder, pixels) for encoder in encoders.values()], rounds=9)
    slowest, expected = measured[0]
    rows = [
        [
            name,
            f"{seconds:.2f}",
            f"{slowest / seconds:.1f}",
            f"{(features - expected).abs().max() / expected.abs().max():.1e}",
            f"{(features - expected).norm() / expected.norm():.2%}",
        ]
        for name, (seconds, features) in zip(encoders, measured, strict=True)
    ]
    what = ["features: largest difference / largest value", "features: relative error"]
    return Table(["", "s an image", "times faster", *what], rows)


def embedded_rows(images: Sequence[np.ndarray]) -> np.ndarray:
    """LiteMedSAM's descriptors of images, float32 (n, 1024, 1024)."""
    sam = load_sam("lite_medsam", weights.SAM["lite_medsam"].fetch(), "cpu")
    rows = np.empty((len(images), 1024, 1024), np.float32)
    for row, image in zip(rows, images, strict=True):
        row[:] = patch_descriptors(sam.encode(image), 5, 2, 1024)[0].numpy()
    return rows


def filled(index: str, images: Iterator[np.ndarray], count: int, held_out: int, probes: int = PROBES) -> MemoryBank:
    bank = MemoryBank(count, index, held_out=held_out, probes=probes)
    for rows in images:
        bank.add(rows)
    bank.finish()
    return bank


def search(
    rows: Callable[[], Iterator[np.ndarray]], count: int, queries: np.ndarray, indexes: Sequence[tuple[str, int]]
) -> Table:
    """Search in banks of the same rows, with indexes and probes, against exhaustive search in the same run."""

    def ask(bank: MemoryBank) -> tuple[float, np.ndarray]:
        bank.distances(queries[0][:8])
        answers = [timed(lambda one=one: bank.distances(one)) for one in queries]
        maps = np.stack([anomaly_map(scores, 256, 4.0) for _, scores in answers])
        return float(np.median([seconds for seconds, _ in answers])), maps

    table = []
    exact_seconds, exact_maps = 0.0, np.empty(0)
    for index, probes in (("exact", PROBES), *indexes):
        building, bank = timed(lambda index=index, probes=probes: filled(index, rows(), count, 0, probes))
        seconds, maps = ask(bank)
        if index == "exact":
            exact_seconds, exact_maps = seconds, maps
        pearson = [np.corrcoef(one.ravel(), other.ravel())[0, 1] for one, other in zip(maps, exact_maps, strict=True)]
        name = f"`{index}`" if index == bank.choice.name else f"`{index}`: {bank.choice.name}"
        table.append(
            [
                name if probes == PROBES else f"{name}, {probes} probes",
                bank.choice.factory,
                f"{bank.nbytes / len(bank):,.0f}",
                f"{building:.0f}",
                f"{1000 * seconds:,.1f}",
                f"{exact_seconds / seconds:.1f}",
                f"{np.mean(pearson):.5f}",
                f"{np.min(pearson):.5f}",
                f"{np.linalg.norm(maps - exact_maps) / np.linalg.norm(exact_maps):.2%}",
            ]
        )
        console.print(" | ".join(table[-1]))
    head = ["index", "FAISS factory", "bytes a row", "build s", "ms an image", "times faster"]
    return Table([*head, "Pearson, mean", "Pearson, worst image", "relative error"], table)


class Built(NamedTuple):
    """What building and searching a bank took, in seconds and GiB above the process before it."""

    choice: str
    seconds: float
    peak: float
    after: float
    search_ms: float
    recall: float
    error: float


def build_large(path: str, queries: np.ndarray, count: int) -> Built:
    """Builds a bank of so many grown images, in a process of its own."""
    grown = GrownRows(np.load(path))
    resident = psutil.Process().memory_info
    before = resident().rss
    with PeakMemory("cpu") as memory:
        seconds, bank = timed(lambda: filled("auto", grown.images(count), count, held_out=1))
    after = resident().rss
    with PeakMemory("cpu") as searching:
        times = [timed(lambda one=one: bank.distances(one))[0] for one in queries]
    held_out = bank.held_out
    assert held_out is not None
    error = np.linalg.norm(held_out.indexed - held_out.exact) / np.linalg.norm(held_out.exact)
    peak = max(memory.host_mib, searching.host_mib) - before / 2**20
    return Built(
        f"{bank.choice.name} ({bank.choice.factory})",
        seconds,
        peak / 2**10,
        (after - before) / 2**30,
        1000 * float(np.median(times)),
        held_out.recall,
        float(error),
    )


def large_bank(path: Path, queries: np.ndarray, count: int) -> Table:
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        built = pool.apply(build_large, (str(path), queries, count))
    rows = [
        ["index", built.choice],
        ["rows", f"{count * 1024:,}"],
        ["at float32", f"{count * 2**22 / 2**30:.1f} GiB"],
        ["memory when built", f"{built.after:.1f} GiB"],
        ["largest memory while building and searching", f"{built.peak:.1f} GiB"],
        ["on top while building", f"{built.peak - built.after:.2f} GiB"],
        ["built in, with growing the rows and holding out one image", f"{built.seconds / 60:.0f} min"],
        ["search", f"{built.search_ms:.0f} ms an image"],
        ["recall, held-out image against exhaustive search", f"{built.recall:.3f}"],
        ["relative error of its patch scores", f"{built.error:.2%}"],
    ]
    return Table(["", ""], rows)


def dice(spec: str, results: Path, methods: Sequence[str]) -> Table:
    """By how much the scores of two methods differ, embedded weights."""
    values = {"methods": list(methods), "dataset": [spec], "weights": "embedded", "results": results, "controls": False}
    plan = plan_run(make_config(values, "in benchmarks/performance.py"))
    execute_plan(plan, progress=lambda cell, stage, done, total: None)
    scores = plan.store.scores()
    kept = scores[(scores["policy"] == "own") & (scores["metric"] == "dice") | (scores["metric"] == "pixel_auroc")]
    pivot = kept.pivot_table(index="method", columns="metric", values="value").loc[list(methods)]
    difference = (pivot.iloc[1] - pivot.iloc[0]).abs()
    metrics = ["dice", "pixel_auroc"]
    rows = [[f"`{method}`", *(f"{pivot.loc[method, metric]:.4f}" for metric in metrics)] for method in methods]
    rows.append(["difference", *(f"{difference[metric]:.4f}" for metric in metrics)])
    return Table(["", "mean DICE of anomalous images, own mask", "pixel AUROC"], rows)


def machine() -> str:
    known = environment("cpu", command_line())
    packages = known["packages"]
    memory = known["memory_gib"]
    flags = Path("/proc/cpuinfo").read_text() if Path("/proc/cpuinfo").exists() else ""
    extras = ", ".join(name for name in ("avx2", "avx512f", "avx512_bf16", "amx_bf16") if name in flags)
    return (
        f"{known['processor']} ({extras or platform.machine()}), {known['cores']} cores, {memory} GiB of memory; "
        f"Python {known['python']}, torch {packages['torch']}, FAISS {faiss.__version__}; commit {known['git_commit']}."
    )


@click.command()
@click.option("--images", default=DEFAULT_IMAGES, show_default=True, help="A dataset: a name, or a folder.")
@click.option("--liver", default=LIVER_IMAGES, show_default=True, help="Images in the bank of liver's size.")
@click.option("--brain", default=BRAIN_IMAGES, show_default=True, help="Images in the bank of brain's size.")
@click.option("--out", type=LocalPath(), default=DOCUMENT, show_default=True, help="The document.")
def main(images: str, liver: int, brain: int, out: Path) -> None:
    """Measure everything and write the document."""
    dataset = open_dataset(images, Path())
    normal, test = images_of(dataset, "train"), images_of(dataset, "test")
    what = f"{Path(images).name} ({len(normal)} normal images)"
    sections: list[tuple[str, str, Table]] = []

    def section(title: str, text: str, make: Callable[[], Table]) -> None:
        console.print(f"\n[bold]{title}")
        sections.append((title, text, make()))
        console.print(sections[-1][2].markdown(), markup=False)
        write(out, what, sections)

    with tempfile.TemporaryDirectory() as folder:
        section(
            "One test image, SAM ViT-B",
            "Random seeded weights, which take as long as the published ones. Encoding, search in a bank of two "
            "images, map, prompt and mask.",
            lambda: one_image(normal, test[-1]),
        )
        section(
            "LiteMedSAM's encoder",
            "The embedded weights. The three encode the same image in turn, nine times; medians.",
            lambda: lite_medsam(test[-1]),
        )
        real, queries = embedded_rows(normal), embedded_rows(test[:: max(1, len(test) // QUERIES)][:QUERIES])
        np.save(Path(folder) / "rows.npy", real)
        section(
            f"Search in the bank of {what}, {len(real) * 1024:,} rows",
            f"LiteMedSAM's descriptors; {len(queries)} test images, one after the other; {PROBES} probes where "
            "nothing else is said; maps against those of exhaustive search.",
            lambda: search(
                lambda: iter(real),
                len(real),
                queries,
                [*((index, PROBES) for index in list(FACTORIES)[1:]), ("pca_ivf", FEW_PROBES), ("auto", PROBES)],
            ),
        )
        grown = GrownRows(real)
        section(
            f"Search in a bank of liver's size, {liver * 1024:,} rows",
            "Rows grown from the real ones (benchmarks/grown_rows.py), so that they spread and neighbour as those do.",
            lambda: search(lambda: grown.images(liver), liver, queries, [("auto", FEW_PROBES), ("auto", PROBES)]),
        )
        section(
            f"A bank of brain's size, {brain * 1024:,} rows",
            "Likewise grown. Memory is resident memory above what the process held before.",
            lambda: large_bank(Path(folder) / "rows.npy", queries, brain),
        )
        section(
            f"Scores with the automatic index, {what}",
            "Embedded weights (LiteMedSAM).",
            lambda: dice(images, Path(folder) / "results", ["mias_sam[index=exact]", "mias_sam[index=auto]"]),
        )
        section(
            f"Scores in bfloat16, {what}",
            "Embedded weights (LiteMedSAM).",
            lambda: dice(images, Path(folder) / "results", ["mias_sam", "mias_sam[precision=bfloat16]"]),
        )
    console.print(f"\nWritten to {out}.")


def write(out: Path, what: str, sections: Sequence[tuple[str, str, Table]]) -> None:
    """Writes what is measured so far."""
    parts = [
        "# What MIAS-SAM costs",
        "Made by `python -m benchmarks.performance --images FOLDER`. Every ratio is within one run of it.",
        machine(),
        *(f"## {title}\n\n{text}\n\n{table.markdown()}" for title, text, table in sections),
    ]
    out.parent.mkdir(parents=True, exist_ok=True)
    out.write_text("\n\n".join(parts) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
