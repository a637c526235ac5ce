"""docs/run-options.md, made from the models in `config.py`."""

from collections.abc import Iterable, Iterator

from .run_options import RunOption

COMMAND = "bench list options --markdown > docs/run-options.md"

_HEAD = f"""\
# Options of a run

Made from `harness/config.py` by `{COMMAND}`.

These are the options of `bench run`, of a run file, and of `miasbench.run()`. `bench score` takes those of scoring:
`thresholds`, `fixed_threshold`, `post`, `mask_edges`, `padding`, `foreground`, `surface_tolerance` and `pixels`. On the
command line a name has `-` for `_`; in a run file either will do.

| option | value | default | what it means |
|---|---|---|---|
"""
_TAIL = """
## In a run file

A run file takes every spelling of the command line, in quotes or not, and its own:

| what | spellings |
|---|---|
| several names | `intensity,mias_sam[gamma=3]` · `[intensity, "mias_sam[gamma=3]"]` · a line `- …` for each |
| a dataset with options | `phantom_liver_ct:train=4,size=64` · `phantom_liver_ct[train=4]`; in quotes within `[ ]` |
| numbers | `64` · `10k` is 10,000 · `2M` is 2,000,000 |
| seeds | `0` · `0,2` · `0-2` · `[0, 1, 2]` |
| truth values | `true`, `false` · `yes`, `no` · `on`, `off`; `no_controls: true` is `controls: false` |
| options of methods | `mias_sam.gamma=3` · `[mias_sam.gamma=3]` · `{mias_sam.gamma: 3}` · `{mias_sam: {gamma: 3}}` |
| scoring | `mask_edges: paper` · `score: {mask_edges: paper}` |

A name keeps the text in which it is written: `name: 1.10` and `name: yes` name a folder so. A message about an option
names the file, the option and the line.
"""


def options_page(options: Iterable[RunOption]) -> str:
    """Renders options as a page of Markdown."""
    return _HEAD + "".join(f"| {' | '.join(_cells(one))} |\n" for one in options) + _TAIL


def _cells(option: RunOption) -> Iterator[str]:
    yield f"`{option.name}`"
    values = [f"`{one}`" for one in option.choices or [option.value or "true", *([] if option.value else ["false"])]]
    yield " · ".join(values).replace("|", "` or `")
    yield option.default
    yield option.description
