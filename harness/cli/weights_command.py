"""`bench weights`."""

import click

from ..api import WeightsError
from ..registry import build_method, methods, needs_methods
from ..specs import parse_method, suggest
from . import OK, USAGE


@click.group()
def command() -> None:
    """Fetch, list or verify model weights.

    They are kept in $MIASBENCH_WEIGHTS or the user's cache folder; timm's are kept in the Hugging Face hub's cache.
    With MIASBENCH_OFFLINE=1 nothing is downloaded.
    """


@command.command(
    epilog="""\b
Examples:
  bench weights get sam_vit_b medsam_vit_b
  bench weights get patchcore 'mias_sam[encoder=vit_h]'
""",
)
@click.argument("names", nargs=-1, required=True, metavar="NAME|METHOD…")
@needs_methods("bench weights")
def get(names: tuple[str, ...]) -> None:
    """Fetch weight files by name, or all files that a METHOD needs with --weights published."""
    from ...methods.weights import FILES
    from .console import console, stage_status

    for name in names:
        with stage_status() as progress:
            if name in FILES:
                console.print(f"{name}: {FILES[name].fetch(progress)}", soft_wrap=True)
                continue
            spec = parse_method(name)
            if spec.name not in methods():
                raise WeightsError(
                    f"There are no weights and no method {name!r}. {suggest(name, [*FILES, *methods()])}"
                )
            method = build_method(spec, {}, weights="published", device="cpu", seed=0)
            method.progress = progress
            for weights in method.weights_used():
                console.print(f"{weights.name}, for {name}: SHA-256 {weights.sha256}", soft_wrap=True)


@command.command("list")
def list_weights() -> None:
    """List weight files: which are here, where they are, and how each is verified."""
    _table()


@command.command(
    epilog="""\b
Examples:
  bench weights verify
""",
)
def verify() -> int:
    """Verify every weight file that is here against its checksum; exit code 2 if one is wrong."""
    return _table(verify=True)


@needs_methods("bench weights")
def _table(verify: bool = False) -> int:
    from ...methods.weights import FILES
    from ...reports.fitting import Column, FittedTable
    from .console import console

    columns = [Column("name", "label"), *(Column(title, "text") for title in ("verified by", "state", "file"))]
    table = FittedTable("", columns)
    problems = []
    for name, source in FILES.items():
        path = source.here()
        algorithm = source.checksum.partition(":")[0]
        proof = {"sha256": "SHA-256, pinned", "md5": "MD5, pinned; SHA-256 of first use"}.get(
            algorithm, "SHA-256 of first use"
        )
        state = "here" if path else "not here"
        if verify and path:
            try:
                source.fetch()
                state = "right"
            except WeightsError as error:
                state = "wrong"
                problems.append(str(error))
        table.add_row(name, proof, state, str(path or ""))
    console.print(table)
    for problem in problems:
        console.print(problem, style="red", soft_wrap=True)
    return USAGE if problems else OK
