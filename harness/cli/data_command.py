"""`bench data`."""

import sys
from functools import partial
from pathlib import Path

import click
from click.core import ParameterSource

from ..api import SPLITS, Dataset, UsageError
from ..cache import reading_all
from ..config import default_data_root
from ..safe_files import read_bytes, write_named, write_whole
from ..specs import suggest
from . import OK, USAGE
from .options import LocalPath, complete_dataset

_SHOWN = 5  # findings of a kind


@click.group()
def command() -> None:
    """Download, register, verify or generate datasets."""


_DATA_ROOT = click.option(
    "--data-root",
    type=LocalPath(),
    default=default_data_root,
    help="The folder of all datasets.  [default: $MIASBENCH_DATA or the user's data folder]",
)


@command.command(
    epilog="""\b
Examples:
  bench data get brain_mri
  bench data get liver_ct retina_oct --accept-licence --data-root DIR
""",
)
@click.argument("names", nargs=-1, required=True, metavar="brain_mri|liver_ct|retina_oct…")
@click.option("--accept-licence", is_flag=True, help="Accept the licence without being asked, as a script must.")
@_DATA_ROOT
def get(names: tuple[str, ...], accept_licence: bool, data_root: Path) -> None:
    """Download datasets of BMAD. Those of oct2017, rsna and camelyon16 label whole images and have no masks.

    One archive holds all six. It is kept in the data root, so that the next one needs no download. When a download is
    interrupted, run the same command again: it continues.
    """
    from ...datasets import bmad
    from ..registry import open_dataset
    from .console import console, stage_status

    for name in names:
        if name not in bmad.NAMES:
            raise UsageError(f"{name!r} cannot be downloaded. {suggest(name, bmad.NAMES)}")
    _accept(bmad.LICENCE, bmad.LICENCE_TEXT, accept_licence, data_root / "accepted-licences.txt")
    for name in names:
        with stage_status() as progress:
            bmad.download(name, data_root, progress)
            dataset = open_dataset(name, data_root)
        console.print(f"{name} is in {data_root.resolve() / name}", soft_wrap=True)
        _print_counts(dataset)
    console.print("bmad.zip is kept there for BMAD's other datasets; delete it when you need no more of them.")


@command.command(
    epilog="""\b
Examples:
  bench data add my_data ./slices
  bench data add liver_ct ~/Downloads/Liver_AD.zip
  bench data add tumours ./imagesTr --masks ./labelsTr --axis 2 --window -160 240 --lesion 2
  bench data add gliomas ./BraTS2021 --channel flair
  bench data add livers ./patients --masks ./labels --window -160 240
  bench data add strokes ./scans --images '*/*_dwi.nii.gz' --masks '*/*_lesion.nii.gz'
  bench data add strokes ./images --masks ./masks --patient '^(p[0-9]+)_' --seed 1 --shares 0.5 0.2 0.3
  bench data add scans ./imagesTr --masks ./labelsTr --train-from my_data
""",
)
@click.argument("name")
@click.argument("path", type=LocalPath())
@click.option(
    "--images",
    metavar="PATTERN",
    help="The NIfTI volumes in PATH, such as '*/*_flair.nii.gz'. Not needed for BraTS's and BIDS's names.",
)
@click.option(
    "--masks",
    type=LocalPath(),
    metavar="DIR|PATTERN",
    help="PATH holds NIfTI volumes or DICOM series, and DIR their masks; beside --images, the pattern of the masks in "
    "PATH.",
)
@click.option(
    "--axis",
    type=click.IntRange(0, 2),
    default=2,
    show_default=True,
    help="How volumes are cut: 0 into sagittal slices, 1 into coronal, 2 into axial ones.",
)
@click.option(
    "--window",
    type=(float, float),
    metavar="LOW HIGH",
    help="The values of volumes that become black and white.  [default: percentiles of each volume]",
)
@click.option(
    "--lesion",
    type=int,
    multiple=True,
    metavar="LABEL",
    help="A label in masks that means a lesion; may be repeated. Labels within 0.01 of a whole number are rounded.  "
    "[default: all above 0]",
)
@click.option(
    "--trust",
    type=click.Choice(["image"]),
    help="Use the volume's header for its mask too, where the two headers disagree about the position.",
)
@click.option(
    "--channel",
    help="The volumes to cut, where patients have several: 1 is nnU-Net's case_0001.nii.gz, flair BraTS's "
    "patient_flair.nii.gz, dwi BIDS's sub-1_dwi.nii.gz, 'T2 FLAIR' a DICOM series.  [default: the only one]",
)
@click.option(
    "--patient",
    metavar="REGEX",
    help="A pattern with one group that finds the patient in the names of volumes.  [default: BIDS's "
    "sub-LABEL, otherwise the whole name]",
)
@click.option(
    "--seed",
    type=int,
    default=0,
    show_default=True,
    help="Another seed deals patients out otherwise.",
)
@click.option(
    "--shares",
    type=(float, float, float),
    default=(0.6, 0.1, 0.3),
    metavar="TRAIN VALID TEST",
    help="Shares of the patients in each split of volumes.  [default: 0.6 0.1 0.3]",
)
@click.option(
    "--train-from",
    metavar="DATASET",
    shell_complete=complete_dataset,
    help="Another dataset, by its name, folder or card, whose train and validation splits are taken. All volumes, or "
    "the folder's test split, become the test split.",
)
@_DATA_ROOT
@click.pass_context
def add(
    context: click.Context,
    name: str,
    path: Path,
    images: str | None,
    masks: Path | None,
    axis: int,
    window: tuple[float, float] | None,
    lesion: tuple[int, ...],
    trust: str | None,
    channel: str | None,
    patient: str | None,
    seed: int,
    shares: tuple[float, float, float],
    train_from: str | None,
    data_root: Path,
) -> None:
    """Register a folder, an archive, NIfTI volumes or DICOM series that you have, as a dataset called NAME.

    A folder stays where it is. Volumes are cut into slices. 60 % of the patients are for training, with their slices
    that show no lesion, 10 % for validation and 30 % for the test; all volumes of a patient are in one split. Under
    one of BMAD's names, an archive of its Google Drive folder becomes that dataset.
    """
    from ...datasets.adding import add_dataset, find_volumes
    from ...datasets.bmad import NAMES
    from ...datasets.card import CardFile
    from ...datasets.splitting import PATIENT, TEST_ONLY, SplitRule
    from ...datasets.volumes import Slicing, describe_volumes
    from ..data.leaks import one_patient_note
    from ..registry import datasets, open_dataset
    from .console import console, stage_status

    found = find_volumes(path, images, masks, channel)
    for option in () if found else ("axis", "window", "lesion", "trust", "channel", "patient", "seed", "shares"):
        if context.get_parameter_source(option) is not ParameterSource.DEFAULT:
            raise UsageError(
                f"--{option} is for volumes, and none are recognised in {path}: say with --masks where masks are."
            )
    slicing = Slicing(axis, window, lesion, trust_image=trust == "image")
    for option in ("seed", "shares") if train_from else ():
        if context.get_parameter_source(option) is not ParameterSource.DEFAULT:
            raise UsageError(f"--{option} divides patients, and with --train-from all of them are for the test.")
    shares = TEST_ONLY if train_from else shares
    rule = SplitRule(patient or (found.patient if found else PATIENT), seed, shares)
    if name in datasets() and name not in NAMES:
        raise UsageError(f"{name} is the name of a dataset that is built in or from a plugin. Choose another one.")
    with stage_status() as progress:
        base = _files_of(train_from, data_root) if train_from else None
        made = add_dataset(name, path, data_root, progress, found, slicing, rule, base)
    console.print(f"{name} is registered: {made}", soft_wrap=True)
    dataset = open_dataset(name, data_root)
    if made.suffix == ".yaml":
        console.print("Add its licence, citation and modality to that card: results carry them.")
        volumes = CardFile.read(made).volumes
        alone = one_patient_note(dataset)
        for line in describe_volumes(volumes, dataset) if volumes else [f"Note: {alone}"] if alone else []:
            console.print(line, soft_wrap=True)
    _print_counts(dataset)


@command.command(
    epilog="""\b
Examples:
  bench data init ./my_data
  bench data init ./VisA --where object=candle --out candle.yaml
""",
)
@click.argument("folder", type=LocalPath(), metavar="DIR")
@click.option(
    "--where",
    multiple=True,
    metavar="COLUMN=VALUE",
    help="The rows that are meant of a table that lists several datasets; may be repeated.",
)
@click.option("--out", type=LocalPath(dir_okay=False), help="The card.  [default: DIR/card.yaml]")
@click.option("--force", is_flag=True, help="Replace a card that is there already.")
def init(folder: Path, where: tuple[str, ...], out: Path | None, force: bool) -> None:
    """Look at a folder of images, say what it is taken for, and write a card for you to edit.

    Layout, splits, masks, patients, and what is passed over are told; what is a guess is said to be one. The card
    stands in the folder, so that `--dataset DIR` is read as it says.
    """
    from ...datasets.folder import CARD
    from ...datasets.proposing import TO_EDIT, propose_card
    from .console import console, stage_status

    file = out or folder / CARD
    if file.exists() and not force:
        raise UsageError(f"{file} is there already, and is left as it is. --force replaces it.")
    chosen: dict[str, str] = {}
    for text in where:
        column, _, value = text.partition("=")
        if not column or not value:
            raise UsageError(f"--where {text} is to be COLUMN=VALUE, such as --where object=candle.")
        chosen[column] = value
    with stage_status() as progress:
        progress("looking at the folder", 0, 0)
        found = propose_card(folder, file, chosen)
    for line in (
        *found.beliefs,
        *(f"Note: {note}" for note in found.notes),
        *(f"Wrong: {problem}" for problem in found.problems[:_SHOWN]),
    ):
        console.print(line, soft_wrap=True)
    if len(found.problems) > _SHOWN:
        console.print(f"and {len(found.problems) - _SHOWN:,} more; bench data verify lists all of them.")
    found.card.write(file, ["Written by bench data init. Check what is a guess.", *found.beliefs], TO_EDIT)
    console.print(f"The card is written: {file}", soft_wrap=True)
    console.print("Check it, and add title, modality, origin, licence and citation: results carry them.")


@command.command(
    epilog="""\b
Examples:
  bench data verify brain_mri
  bench data verify ./my_data --out findings.csv
""",
)
@click.argument("name", metavar="NAME|PATH", shell_complete=complete_dataset)
@click.option("--out", type=LocalPath(dir_okay=False), help="Write all findings to this CSV file.")
@_DATA_ROOT
def verify(name: str, out: Path | None, data_root: Path) -> int:
    """Read every image and mask, and say what is wrong and where; nothing is changed.

    This finds counts that differ from the card, unreadable files, files that are not used, images without masks, odd
    sizes and values, foregrounds that leave out a part of a lesion, images that occur twice or look alike, and patients
    in more than one split. Exit code 2 if something is wrong.
    """
    import csv
    import io

    from ..data.verifying import verify_dataset
    from ..registry import open_dataset
    from .console import console, stage_status

    with reading_all(), stage_status() as progress:
        dataset, findings = verify_dataset(lambda: open_dataset(name, data_root), progress)
    _print_counts(dataset)
    for kind in dict.fromkeys(finding.kind for finding in findings):
        of_kind = [finding for finding in findings if finding.kind == kind]
        console.print(f"{kind}: {len(of_kind):,}", style="bold")
        for finding in of_kind[:_SHOWN]:
            console.print(f"  {'wrong' if finding.wrong else 'note'}  {finding.text}", soft_wrap=True)
        if len(of_kind) > _SHOWN:
            console.print(f"  and {len(of_kind) - _SHOWN:,} more{'' if out else '; --out FILE keeps all of them'}")
    if out:
        table = io.StringIO()
        rows = csv.writer(table)
        rows.writerow(("kind", "wrong", "text"))
        rows.writerows((finding.kind, finding.wrong, finding.text) for finding in findings)
        write_named(out, table.getvalue())
    wrong = sum(finding.wrong for finding in findings)
    console.print(f"{wrong:,} wrong, {len(findings) - wrong:,} to look at." if findings else "Nothing is wrong.")
    return USAGE if wrong else OK


def _files_of(text: str, data_root: Path) -> Path:
    """The folder or card of a dataset, by its name or its path."""
    from ...datasets.folder import FolderDataset
    from ..registry import dataset_path, open_dataset, registered

    path = dataset_path(text, data_root)
    if path is not None:
        return path
    if text in registered(data_root):
        return data_root / f"{text}.yaml"
    dataset = open_dataset(text, data_root)
    if not isinstance(dataset, FolderDataset):
        raise UsageError(f"--train-from {text}: train and validation splits can be taken of files only.")
    return dataset.root


def _accept(licence: str, text: str, accepted: bool, record: Path) -> None:
    """Shows a licence and asks for it to be accepted, once."""
    already = read_bytes(record, follow=True).decode(errors="replace").splitlines() if record.exists() else []
    if licence in already:
        return
    click.echo(text)
    if not accepted:
        if sys.stdin is None or not sys.stdin.isatty():
            raise UsageError("Accept the licence first: run this in a terminal, or add --accept-licence.")
        click.confirm("Do you accept it?", abort=True)
    write_whole(record, "".join(f"{line}\n" for line in [*already, licence]))


def _print_counts(dataset: Dataset) -> None:
    from .console import console

    counts = ", ".join(f"{len(dataset.cases(split)):,} {split}" for split in SPLITS)
    console.print(f"{dataset.name}: {counts} images", soft_wrap=True)


@command.command(
    epilog="""\b
Examples:
  bench data phantom --out phantoms
  bench data phantom phantom_liver_ct:train=100,test=40 --out phantoms
""",
)
@click.argument("names", nargs=-1)
@click.option("--out", type=LocalPath(), required=True, help="A folder; each phantom becomes a folder in it.")
def phantom(names: tuple[str, ...], out: Path) -> None:
    """Write generated datasets as folders in BMAD's layout; all of them when no NAME is given."""
    from ...datasets.phantom import PHANTOMS, write_bmad
    from ..registry import open_dataset
    from .console import console, stage_status

    folders = {spec: out / spec.partition(":")[0] for spec in names or PHANTOMS}
    for folder in folders.values():
        if list(folders.values()).count(folder) > 1:
            raise UsageError(f"Two of these would be the folder {folder}. Write each to an --out of its own.")
    for spec, folder in folders.items():
        dataset = open_dataset(spec, default_data_root())
        with stage_status() as progress:
            write_bmad(dataset, folder, partial(progress, f"writing {spec}"))
        console.print(f"{folder.resolve()}", soft_wrap=True)
