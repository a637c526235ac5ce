"""NIfTI volumes become a dataset."""

import sys
from collections.abc import Callable
from itertools import repeat
from pathlib import Path

import nibabel
import numpy as np
import pytest
from PIL import Image

from miasbench.datasets.card import CardFile, SlicedVolumes
from miasbench.datasets.folder import FolderDataset, open_folder
from miasbench.datasets.nifti import MissingNibabelError
from miasbench.datasets.splitting import PATIENT, SplitRule
from miasbench.datasets.volume_files import has_volumes, pair_volumes
from miasbench.datasets.volumes import Slicing, describe_volumes, slice_volumes
from miasbench.harness.api import SPLITS, DataError, UsageError

SHAPE = (12, 10, 6)
PATIENTS = [f"p{number}" for number in range(10)]
TILTED = np.array([[-0.68, 0.12, 0.3, 40], [-0.1, -0.66, 1.1, 55], [0.11, -0.15, 4.86, -20], [0, 0, 0, 1]])
"""An oblique affine of voxels of about 0.7 x 0.7 x 5 mm, stored to the left, posterior and superior."""


def save(path: Path, volume: np.ndarray, affine: np.ndarray | None = None) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    image = nibabel.Nifti1Image(volume, None)
    image.header.set_sform(np.eye(4) if affine is None else affine, 2)
    nibabel.save(nibabel.Nifti1Image(volume, None, image.header), path)


def read(path: Path) -> np.ndarray:
    return np.asanyarray(nibabel.load(path).dataobj)  # type: ignore[attr-defined]


@pytest.fixture
def volumes(tmp_path: Path) -> Path:
    """Ten patients, each with a lesion in the two highest axial slices, labelled 2 in an organ labelled 1."""
    generator = np.random.default_rng(0)
    for patient in range(10):
        volume = generator.normal(0, 100, SHAPE).astype(np.float32)
        labels = np.zeros(SHAPE, np.uint8)
        labels[2:9, 2:9] = 1
        labels[3:6, 4:7, 4:] = 2
        volume[labels == 2] = 500
        save(tmp_path / "images" / f"p{patient}.nii.gz", volume)
        save(tmp_path / "masks" / f"p{patient}.nii.gz", labels)
    return tmp_path


def slice_them(volumes: Path, out: str = "out", rule: SplitRule | None = None, **how: object) -> SlicedVolumes:
    found = pair_volumes(volumes / "images", volumes / "masks", how.pop("channel", None))  # type: ignore[arg-type]
    return slice_volumes(found, volumes / out, Slicing(**how), rule=rule)  # type: ignore[arg-type]


def pictures(folder: Path) -> dict[str, list[list[int]]]:
    return {str(file.relative_to(folder)): np.asarray(Image.open(file)).tolist() for file in folder.rglob("*.png")}


def dataset_of(volumes: Path, made: SlicedVolumes, rule: SplitRule) -> FolderDataset:
    card = CardFile(name="made", root="out", patient=rule.patient, volumes=made)  # type: ignore[arg-type]
    card.write(volumes / "made.yaml")
    return open_folder(volumes / "made.yaml")


def refusal(volumes: Path, **how: object) -> str:
    before = sorted(volumes.iterdir())
    with pytest.raises(DataError) as error:
        slice_them(volumes, "refused", **how)  # type: ignore[arg-type]
    assert sorted(volumes.iterdir()) == before, "nothing of it stays"
    return str(error.value)


def test_patients_are_dealt_out_and_lesions_found(volumes: Path) -> None:
    assert has_volumes(volumes / "images")
    slice_them(volumes, lesion=(2,))
    dataset = open_folder(volumes / "out")
    assert {split: len(dataset.cases(split)) for split in SPLITS} == {"train": 6 * 4, "valid": 6, "test": 3 * 6}
    patients = [{case.patient for case in dataset.cases(split)} for split in SPLITS]
    assert len(set.union(*patients)) == sum(map(len, patients)) == 10
    case = next(case for case in dataset.cases("test") if case.label)
    image, mask = dataset.load(case)
    assert image.shape == (10, 12)
    assert mask.sum() == 9
    assert (image[mask] == 255).all(), "image and mask are turned alike"
    assert dataset.fingerprint


class TestLabels:
    @pytest.mark.parametrize("kind", ["scaled", "float32", "float64", "int32", "uint16"])
    def test_are_rounded_whatever_the_file_stores(self, volumes: Path, kind: str) -> None:
        expected = slice_them(volumes, "plain", lesion=(2,))
        assert expected.label_rounding == 0
        for file in (volumes / "masks").iterdir():
            labels = read(file)
            if kind == "scaled":  # 0, 1 and 2 come back as 0, 0.99999 and 1.99998
                stored = nibabel.Nifti1Image((labels * 0.99999).astype(np.float32), np.eye(4))
                stored.header.set_data_dtype(np.int16)
                nibabel.save(stored, file)
            else:
                save(file, labels.astype(kind) if kind != "float32" else labels.astype(kind) - np.float32(0.004))
        made = slice_them(volumes, lesion=(2,))
        assert pictures(volumes / "out") == pictures(volumes / "plain")
        assert made.labels == expected.labels == {0: 10, 1: 10, 2: 10}
        assert 0 <= made.label_rounding < 0.01

    @pytest.mark.parametrize(
        ("values", "said"),
        [
            (lambda labels: labels * np.float32(0.7) / 2, ("0.35, 0.7", "threshold it first")),
            (lambda labels: labels * np.float32(1.4), ("1.4, 2.8", "nearest neighbour")),
            (lambda labels: np.where(labels == 2, np.nan, labels), ("18 NaN, 0 infinite", "p1.nii.gz has 18 voxels")),
            (
                lambda labels: np.stack([labels == 0, labels == 2], -1).astype(np.uint8),
                ("12 x 10 x 6 x 2", "one volume"),
            ),
        ],
        ids=["probabilities", "resampled", "nan", "one-hot"],
    )
    def test_what_is_no_label_is_refused(self, volumes: Path, values: Callable, said: tuple[str, ...]) -> None:
        file = volumes / "masks" / "p1.nii.gz"
        save(file, values(read(file)))
        told = refusal(volumes, lesion=(2,))
        assert all(text in told for text in (str(file), *said))

    def test_a_lesion_that_no_mask_holds_is_refused_and_the_labels_are_named(self, volumes: Path) -> None:
        save(volumes / "masks" / "p1.nii.gz", np.full(SHAPE, 40_000, np.uint16))
        told = refusal(volumes, lesion=(2, 3))
        assert "holds the label 3 of --lesion" in told
        assert "Labels found: 0 (in 9), 1 (in 9), 2 (in 9), 40000 (in 1)." in told

    def test_masks_without_any_lesion_are_refused(self, volumes: Path) -> None:
        for file in (volumes / "masks").iterdir():
            save(file, np.zeros(SHAPE, np.uint8))
        assert "holds a label above 0, so there is no lesion. Labels found: 0 (in 10)." in refusal(volumes)

    def test_labels_below_zero_are_to_be_said(self, volumes: Path) -> None:
        for file in (volumes / "masks").iterdir():
            labels = read(file).astype(np.int8)
            save(file, np.where(labels == 2, -56, labels).astype(np.int8))  # 200, once cast to int8
        assert "Say with --lesion which mean a lesion. Labels found: -56 (in 10)" in refusal(volumes)
        assert slice_them(volumes, lesion=(-56,)).lesion_slices_left_out == 12

    def test_of_organs_are_lesions_unless_it_is_said(self, volumes: Path) -> None:
        told = refusal(volumes)
        assert "leave no normal slices to learn from" in told
        assert "1 (in 10), 2 (in 10)" in told

    def test_a_volume_without_a_mask_is_normal_and_counted(self, volumes: Path) -> None:
        (volumes / "masks" / "p1.nii.gz").unlink()
        (volumes / "masks" / "p7.nii.gz").unlink()
        made = slice_them(volumes, lesion=(2,))
        assert made.without_mask == 2
        assert made.labels == {0: 8, 1: 8, 2: 8}
        told = " ".join(describe_volumes(made, open_folder(volumes / "out")))
        assert "Note: 2 volumes have no mask and are taken for normal." in told


class TestPatients:
    @pytest.fixture
    def sessions(self, volumes: Path) -> Path:
        """The ten volumes as two sessions of five patients."""
        for file in list(volumes.rglob("*.nii.gz")):
            patient, session = divmod(int(file.name[1]), 2)
            file.rename(file.with_name(f"sub-0{patient}_ses-{session}_FLAIR.nii.gz"))
        return volumes

    def test_sessions_of_a_bids_patient_stay_together(self, sessions: Path) -> None:
        rule = SplitRule()
        made = slice_them(sessions, lesion=(2,))
        dataset = dataset_of(sessions, made, rule)
        patients = {split: {case.patient for case in dataset.cases(split)} for split in SPLITS}
        assert set.union(*patients.values()) == {f"sub-0{number}" for number in range(5)}
        assert sum(map(len, patients.values())) == 5
        assert made.patients.model_dump() == {split: len(found) for split, found in patients.items()}
        assert made.volumes.model_dump() == {split: 2 * len(found) for split, found in patients.items()}
        assert next(describe_volumes(made, dataset)).startswith(
            "10 volumes of 5 patients (sub-00, sub-01, sub-02, sub-03, sub-04)"
        )

    @pytest.mark.parametrize(
        ("names", "pattern", "expected"),
        [
            (["{0}a_0", "{0}a_1"], r"^(\d+)", "{0}"),
            (["scan_{0}", "again_{0}"], r"(\d+)$", "{0}"),  # the end of the volume's name, not of its slice's
            (["Ä b.{0}__x_1", "Ä b.{0}__y_22"], r"^(.+)_._", "Ä b.{0}_"),
            (["p[{0}]+(_1", "p[{0}]+(_2"], r"(.*\])", "p[{0}]"),
            (["A\u0308{0}-1", "A\u0308{0}-2"], r"^(Ä\d)", "Ä{0}"),  # as macOS spells it
        ],
    )
    def test_the_dataset_reads_the_patient_that_was_dealt(
        self, volumes: Path, names: list[str], pattern: str, expected: str
    ) -> None:
        for file in list(volumes.rglob("*.nii.gz")):
            patient, scan = divmod(int(file.name[1]), 2)
            file.rename(file.with_name(f"{names[scan].format(patient)}.nii.gz"))
        rule = SplitRule(pattern)
        made = slice_them(volumes, lesion=(2,), rule=rule)
        dataset = dataset_of(volumes, made, rule)
        patients = [{case.patient for case in dataset.cases(split)} for split in SPLITS]
        assert set.union(*patients) == {expected.format(number) for number in range(5)}
        assert sum(map(len, patients)) == 5

    @pytest.mark.parametrize(("names", "alike"), [("p{0}_t{1}", True), ("case_{0}{1}", False), ("{0}{1}", False)])
    def test_names_that_begin_alike_are_pointed_out(self, volumes: Path, names: str, alike: bool) -> None:
        for file in list(volumes.rglob("*.nii.gz")):
            file.rename(file.with_name(f"{names.format(*divmod(int(file.name[1]), 2))}.nii.gz"))
        rule = SplitRule()
        made = slice_them(volumes, lesion=(2,), rule=rule)
        told = " ".join(describe_volumes(made, dataset_of(volumes, made, rule)))
        assert ("such as p0_t0 and p0_t1, say so with --patient" in told) == alike
        assert ("say so with --patient" in told) == alike

    def test_a_name_that_the_pattern_does_not_fit_is_refused(self, sessions: Path) -> None:
        for folder in ("images", "masks"):
            (sessions / folder / "sub-03_ses-1_FLAIR.nii.gz").rename(sessions / folder / "phantom.nii.gz")
        assert "'phantom'" in refusal(sessions, lesion=(2,), rule=SplitRule(r"sub-(\d+)"))

    @pytest.mark.parametrize(
        ("rule", "said"),
        [
            ({"patient": r"sub-\d+"}, "0 groups"),
            ({"patient": r"(a)(b)"}, "2 groups"),
            ({"patient": "(("}, "not a regular expression"),
            ({"shares": (0.6, 0.1, 0.2)}, "sum to 1"),
            ({"shares": (60, 10, 30)}, "sum to 1"),
            ({"shares": (1, 0, 0)}, "above 0"),
            ({"shares": (float("nan"), 0.5, 0.5)}, "sum to 1"),
        ],
    )
    def test_a_rule_that_is_none_is_refused(self, rule: dict, said: str) -> None:
        with pytest.raises(UsageError, match=said):
            SplitRule(**rule)

    def test_seed_and_shares_decide_who_goes_where(self) -> None:
        names = [f"p{number}" for number in range(20)]
        halves = SplitRule(shares=(0.5, 0.25, 0.25)).deal(names)
        assert [list(halves.values()).count(split) for split in SPLITS] == [10, 5, 5]
        assert halves == SplitRule(shares=(0.5, 0.25, 0.25)).deal(reversed(names))
        assert halves != SplitRule(seed=1, shares=(0.5, 0.25, 0.25)).deal(names)

    @pytest.mark.parametrize("number", range(2, 40))
    def test_how_many_patients_a_split_needs_is_right(self, number: int) -> None:
        rule = SplitRule()
        needed = rule.patients_needed("valid", number)
        assert needed is not None
        assert needed > number
        assert "valid" in rule.deal(map(str, range(needed))).values()

    def test_few_patients_leave_no_validation_and_it_is_said(self, volumes: Path) -> None:
        for number in range(6, 10):
            for folder in ("images", "masks"):
                (volumes / folder / f"p{number}.nii.gz").unlink()
        made = slice_them(volumes, lesion=(2,))
        assert made.patients.valid == 0
        told = " ".join(describe_volumes(made, open_folder(volumes / "out")))
        assert "6 patients leave none for the validation split" in told
        assert "it takes 7" in told

    def test_lesions_of_one_patient_to_test_are_told(self, volumes: Path) -> None:
        for number in range(9):
            (volumes / "masks" / f"p{number}.nii.gz").unlink()
        rule = next(rule for rule in map(SplitRule, repeat(PATIENT), range(20)) if rule.deal(PATIENTS)["p9"] == "test")
        told = list(describe_volumes(slice_them(volumes, lesion=(2,), rule=rule), open_folder(volumes / "out")))
        assert any(
            line.startswith("Note: The lesions of the test split are of one patient, p9: DICE has no interval")
            for line in told
        )
        for number in range(8):
            save(volumes / "masks" / f"p{number}.nii.gz", read(volumes / "masks" / "p9.nii.gz"))
        told = list(
            describe_volumes(slice_them(volumes, "more", lesion=(2,), rule=rule), open_folder(volumes / "more"))
        )
        assert not any("of one patient" in line for line in told)

    def test_no_lesion_to_test_is_refused(self, volumes: Path) -> None:
        for number in range(9):
            (volumes / "masks" / f"p{number}.nii.gz").unlink()
        rule = next(rule for rule in map(SplitRule, repeat(PATIENT), range(20)) if rule.deal(PATIENTS)["p9"] != "test")
        told = refusal(volumes, lesion=(2,), rule=rule)
        assert "no lesions to find: 3 patients have none, and without one there is no DICE" in told

    def test_one_patient_is_too_few(self, sessions: Path) -> None:
        assert "Of 1 patients none is left for the test split" in refusal(
            sessions, lesion=(2,), rule=SplitRule(r"(sub)")
        )


def turned(volume: np.ndarray, affine: np.ndarray, order: tuple[int, int, int], flip: int) -> tuple:
    """The same grid, stored with its axes in another order and one of them backwards, and its affine."""
    orientation = np.array([[axis, -1 if axis == flip else 1] for axis in np.argsort(order)])
    stored = nibabel.orientations.apply_orientation(volume, orientation)
    return stored, affine @ nibabel.orientations.inv_ornt_aff(orientation, volume.shape)


class TestGeometry:
    def test_axes_are_those_of_the_body_however_the_files_are_stored(self, volumes: Path) -> None:
        for file in volumes.rglob("*.nii.gz"):
            save(file, read(file), TILTED)
        for number, (order, flip, which) in enumerate(
            (((2, 0, 1), 0, "*"), ((1, 2, 0), 2, "images"), ((0, 2, 1), 1, "masks"), ((0, 1, 2), 0, "masks"))
        ):
            for file in volumes.glob("[im]*/*.nii.gz"):
                changed = turned(read(file), TILTED, order, flip) if which in ("*", file.parent.name) else None
                save(volumes / f"turned{number}" / file.relative_to(volumes), *(changed or (read(file), TILTED)))
        for axis, shape in ((0, (6, 10)), (1, (6, 12)), (2, (10, 12))):
            slice_them(volumes, f"out{axis}", axis=axis, lesion=(2,))
            expected = pictures(volumes / f"out{axis}")
            assert np.shape(next(iter(expected.values()))) == shape
            for number in range(4):
                slice_them(volumes / f"turned{number}", f"out{axis}", axis=axis, lesion=(2,))
                assert pictures(volumes / f"turned{number}" / f"out{axis}") == expected

    def test_right_anterior_and_superior_are_where_they_belong(self, volumes: Path) -> None:
        """One bright voxel of a lesion: right, anterior and superior of the middle. The view is from above, nose up."""
        for file in volumes.rglob("*.nii.gz"):
            volume = np.full(SHAPE, 1, np.int16) * (file.parent.name == "images")
            volume[0, 0] *= 2  # so that no slice is of one grey value
            volume[3, 2, 4] += 9  # stored to the left and to posterior, so 3 is right of the middle, 2 anterior
            save(file, volume, TILTED)
        made = slice_them(volumes, window=(0, 10))
        assert made.smallest_voxel_mm == made.largest_voxel_mm
        np.testing.assert_allclose(made.smallest_voxel_mm, np.linalg.norm(TILTED[:3, :3], axis=0), atol=1e-3)
        case = next(case for case in open_folder(volumes / "out").cases("test") if case.label)
        image, mask = open_folder(volumes / "out").load(case)
        assert case.id.endswith("_004")
        assert np.argwhere(mask).tolist() == np.argwhere(image == 255).tolist() == [[2, 12 - 1 - 3]]

    @pytest.mark.parametrize(
        ("affine", "said"),
        [
            (np.eye(4), ("is the identity", "right, anterior, superior, the volume's left, posterior, superior")),
            (TILTED + np.eye(4, k=3) * 0.2, ("by up to 0.3 voxels", "first voxel is at")),
            (
                TILTED @ np.diag([1, 1, 1.1, 1]),
                ("voxels are 0.696 x 0.687 x 5.491 mm, the volume's 0.696 x 0.687 x 4.992 mm",),
            ),
            (TILTED @ np.diag([-1, 1, 1, 1]), ("axes point right, posterior, superior",)),
        ],
        ids=["lost", "shifted", "of other voxels", "flipped"],
    )
    def test_a_mask_that_lies_elsewhere_is_refused_unless_the_image_is_trusted(
        self, volumes: Path, affine: np.ndarray, said: tuple[str, ...]
    ) -> None:
        for file in volumes.rglob("*.nii.gz"):
            save(file, read(file), TILTED)
        slice_them(volumes, "right", lesion=(2,))
        for file in (volumes / "masks").iterdir():
            save(file, read(file), affine)
        told = refusal(volumes, lesion=(2,))
        for text in (f"{volumes / 'masks' / 'p0.nii.gz'} lies elsewhere", "--trust image", "9 more", *said):
            assert text in told
        made = slice_them(volumes, lesion=(2,), trust_image=True)
        assert made.trust == "image"
        assert pictures(volumes / "out") == pictures(volumes / "right")

    def test_headers_that_differ_by_rounding_are_the_same(self, volumes: Path) -> None:
        for file in volumes.rglob("*.nii.gz"):
            save(file, read(file), TILTED + (np.eye(4, k=3) * 0.05 if file.parent.name == "masks" else 0))
        assert slice_them(volumes, lesion=(2,)).lesion_slices_left_out == 12

    def test_a_mask_on_another_grid_is_refused_even_so(self, volumes: Path) -> None:
        file = volumes / "masks" / "p1.nii.gz"
        for shape, said in (((6, 5, 3), "6 x 5 x 3"), ((10, 12, 6), "in another order")):
            save(file, np.zeros(shape, np.uint8))
            for trust in (False, True):
                told = refusal(volumes, lesion=(2,), trust_image=trust)
                assert "has the shape" in told
                assert said in told
                assert "12 x 10 x 6" in told

    @pytest.mark.parametrize("folder", ["images", "masks"])
    @pytest.mark.parametrize(
        ("wrong", "said"),
        [(0.0, "is all zero"), (np.nan, "holds NaN"), (None, "is singular")],
        ids=["0", "NaN", "flat"],
    )
    def test_an_affine_that_is_none_is_named_as_such(
        self, volumes: Path, folder: str, wrong: float | None, said: str
    ) -> None:
        file = volumes / folder / "p1.nii.gz"
        affine = np.diag([1.0, 1, 0, 1])
        if wrong is not None:
            affine[:3] = wrong
        save(file, read(file), affine)
        told = refusal(volumes, lesion=(2,))
        assert f"The affine of {file} {said}" in told
        assert "Copy it again" not in told
        if folder == "masks":
            assert "--trust image" in told
            assert slice_them(volumes, lesion=(2,), trust_image=True).trust == "image"

    @pytest.mark.parametrize(
        ("affine", "code", "unplaced"),
        [(np.eye(4), 2, True), (TILTED, 2, False), (TILTED, 0, True), (np.diag([1, 1, 5, 1]), 1, False)],
    )
    def test_volumes_without_geometry_are_told(
        self, volumes: Path, affine: np.ndarray, code: int, unplaced: bool
    ) -> None:
        for file in list(volumes.rglob("*.nii.gz")):
            image = nibabel.Nifti1Image(read(file), None)
            image.header.set_sform(affine, code)
            nibabel.save(nibabel.Nifti1Image(read(file), None, image.header), file)
        made = slice_them(volumes, lesion=(2,))
        assert made.unplaced == (10 if unplaced else 0)
        said = (
            "The headers of 10 volumes have no geometry (an identity, or no form), so that orientation and spacing "
            "are unknown: voxels are taken as they lie."
        )
        assert (said in dataset_of(volumes, made, SplitRule()).notes()) == unplaced

    def test_an_sform_and_a_qform_that_disagree_are_counted_and_named(self, volumes: Path) -> None:
        for name in ("images/p1", "masks/p1"):
            stored = nibabel.load(volumes / f"{name}.nii.gz")
            stored.header.set_qform(np.diag([-1, -1, 1, 1]), 1)  # type: ignore[attr-defined]
            stored.header.set_sform(np.eye(4), 2)  # type: ignore[attr-defined]
            nibabel.save(
                nibabel.Nifti1Image(read(volumes / f"{name}.nii.gz"), None, stored.header), volumes / "x.nii.gz"
            )
            (volumes / "x.nii.gz").replace(volumes / f"{name}.nii.gz")
        made = slice_them(volumes, lesion=(2,))
        assert made.forms_disagree == 1
        assert "sform and the qform of 1 volumes disagree" in " ".join(
            describe_volumes(made, open_folder(volumes / "out"))
        )
        stored = nibabel.load(volumes / "masks" / "p1.nii.gz")
        stored.header["sform_code"] = 0  # type: ignore[index]
        labels = read(volumes / "masks" / "p1.nii.gz")
        nibabel.save(nibabel.Nifti1Image(labels, None, stored.header), volumes / "masks" / "p1.nii.gz")
        assert f"The sform and the qform of {volumes / 'images' / 'p1.nii.gz'} disagree" in refusal(
            volumes, lesion=(2,)
        )


class TestGrey:
    def test_a_window_maps_its_ends_to_black_and_white(self, volumes: Path) -> None:
        made = slice_them(volumes, lesion=(2,), window=(-50, 50))
        assert (made.window, made.window_percentiles) == ((-50, 50), None)
        pixels = np.concatenate(
            [np.asarray(Image.open(file)).ravel() for file in volumes.rglob("out/*/good/img/*.png")]
        )
        assert pixels.min() == 0
        assert pixels.max() == 255
        assert 0.2 < (pixels == 0).mean() < 0.4, "a normal deviate of 100 lies below -50 in 31 of 100 voxels"

    @pytest.mark.parametrize("window", [(50, -50), (3, 3), (float("nan"), 3), (0, float("inf"))])
    def test_a_window_that_is_none_is_refused(self, window: tuple[float, float]) -> None:
        with pytest.raises(UsageError, match="the lower one first"):
            Slicing(window=window)

    def test_a_window_that_shows_nothing_is_refused(self, volumes: Path) -> None:
        assert "shows nothing of" in refusal(volumes, lesion=(2,), window=(1000, 2000))

    def test_a_volume_of_two_values_is_black_and_white(self, volumes: Path) -> None:
        for file in (volumes / "images").iterdir():
            save(file, (read(file) > 0).astype(np.uint8))
        slice_them(volumes, lesion=(2,))
        dataset = open_folder(volumes / "out")
        grey = np.stack([dataset.load(case).image for case in dataset.cases("train")])
        assert np.unique(grey).tolist() == [0, 255]
        assert 0.4 < grey.mean() / 255 < 0.6

    def test_slices_left_out_are_counted(self, volumes: Path) -> None:
        for file in (volumes / "images").iterdir():
            volume = read(file).copy()
            volume[:, :, 0] = -1000
            save(file, volume)
        made = slice_them(volumes, lesion=(2,))
        assert made.lesion_slices_left_out == 6 * 2
        assert made.constant_slices_left_out == 10
        told = " ".join(describe_volumes(made, open_folder(volumes / "out")))
        assert "Left out: 12 slices with a lesion, of training patients; 10 slices of one grey value." in told


@pytest.mark.parametrize("ones", [1, 2])
def test_trailing_axes_of_length_one_are_dropped(volumes: Path, ones: int) -> None:
    slice_them(volumes, "plain", lesion=(2,))
    for file in volumes.glob("[im]*/*.nii.gz"):
        save(file, read(file).reshape(SHAPE + (1,) * ones))
    slice_them(volumes, lesion=(2,))
    assert pictures(volumes / "out") == pictures(volumes / "plain")


@pytest.mark.parametrize(
    ("damage", "says"),
    [
        (lambda folder: (folder / "images" / "p1.nii.gz").write_bytes(b"no volume"), "p1.nii.gz cannot be read"),
        (lambda folder: save(folder / "images" / "p1.nii.gz", np.zeros((2, 2, 2, 2), np.float32)), "three dimensions"),
        (lambda folder: save(folder / "images" / "p1.nii.gz", np.zeros((2, 2, 2, 3), np.int16)), "Pick one channel"),
        (lambda folder: save(folder / "images" / "p1.nii.gz", np.zeros((4, 4), np.float32)), "the shape 4 x 4,"),
        (lambda folder: save(folder / "images" / "p1.nii.gz", np.ones(SHAPE, np.complex64)), "holds complex64 values"),
        (lambda folder: save(folder / "images" / "p1.nii.gz", np.ones(SHAPE, np.int16)), "one value in all voxels, 1"),
        (lambda folder: save(folder / "masks" / "p1.nii.gz", np.zeros((3, 3, 3), np.float32)), "has the shape"),
        (lambda folder: (folder / "images" / "p1.nii.gz").unlink(), "has no volume of its name"),
        (lambda folder: (folder / "images" / "p1.nii").write_bytes(b""), "have the same name"),
        (
            lambda folder: (folder / "images" / "x.nii").symlink_to("../.git/annex/x"),
            r"a link to .*annex/x, which is not",
        ),
    ],
)
def test_what_is_wrong_is_named_and_leaves_nothing(volumes: Path, damage: Callable[[Path], object], says: str) -> None:
    damage(volumes)
    with pytest.raises(DataError, match=says):
        slice_them(volumes, lesion=(2,))
    assert sorted(path.name for path in volumes.iterdir()) == ["images", "masks"]


def test_voxels_that_are_not_finite_are_counted(volumes: Path) -> None:
    file = volumes / "images" / "p1.nii.gz"
    volume = read(file).copy()
    volume[0, :3] = np.nan
    volume[5, 5, 5] = np.inf
    save(file, volume)
    assert f"{file} has 19 voxels without a finite value (18 NaN, 1 infinite)" in refusal(volumes, lesion=(2,))


class TestNames:
    """Volumes and masks whose names do not fit: the cause and the way out are named."""

    def rename(self, folder: Path, name: str) -> None:
        for file in list(folder.iterdir()):
            file.rename(folder / name.format(file.name.partition(".")[0]))

    def test_of_nnunet(self, volumes: Path) -> None:
        for file in list((volumes / "images").iterdir()):
            (volumes / "images" / f"{file.name[:2]}_0001.nii.gz").write_bytes(file.read_bytes())
        self.rename(volumes / "images", "{}_0000.nii.gz")
        for file in (volumes / "images").glob("*_0001_0000.nii.gz"):
            file.rename(file.with_name(f"{file.name[:2]}_0001.nii.gz"))
        told = refusal(volumes)
        for text in ("true of 9 other masks.", "nnU-Net", "p0_0000.nii.gz", "without '_0000'", "Leave out '_0001'"):
            assert text in told

    def test_of_nnunet_with_one_channel_are_taken(self, volumes: Path) -> None:
        slice_them(volumes, "plain", lesion=(2,))
        self.rename(volumes / "images", "{}_0000.nii.gz")
        made = slice_them(volumes, lesion=(2,))
        assert (made.without_mask, made.passed_over) == (0, {})
        assert pictures(volumes / "out") == pictures(volumes / "plain")

    def test_of_nnunet_one_mask_of_another_name_is_told_alone(self, volumes: Path) -> None:
        self.rename(volumes / "images", "{}_0000.nii.gz")
        (volumes / "masks" / "p7.nii.gz").rename(volumes / "masks" / "patient7.nii.gz")
        assert refusal(volumes) == (
            f"The mask {volumes / 'masks' / 'patient7.nii.gz'} has no volume of its name in {volumes / 'images'}. A "
            "mask has the name of its volume; the nearest there is p7_0000.nii.gz. If they belong together, rename the "
            "mask to p7.nii.gz."
        )

    def test_of_nnunet_with_several_channels_are_taken_by_number(self, volumes: Path) -> None:
        slice_them(volumes, "plain", lesion=(2,))
        self.rename(volumes / "images", "{}_0001.nii.gz")
        for file in list((volumes / "images").iterdir()):
            save(file.with_name(file.name.replace("_0001", "_0000")), np.ones(SHAPE, np.uint8))
        assert "Or say with --channel which." in refusal(volumes, lesion=(2,))
        made = slice_them(volumes, lesion=(2,), channel="1")
        assert made.passed_over == {".nii.gz": 10}
        assert pictures(volumes / "out") == pictures(volumes / "plain")
        told = refusal(volumes, channel="2")
        assert f"{volumes / 'images'} has no channel 2 of 10 cases, such as p0. The channels there are 0, 1." in told

    def test_a_channel_goes_with_nnunets_names(self, volumes: Path) -> None:
        for channel in ("0", "flair"):
            told = refusal(volumes, channel=channel)
            assert f"images has p0.nii.gz, and --channel is {channel}." in told

    def test_of_masks_with_a_suffix(self, volumes: Path) -> None:
        self.rename(volumes / "masks", "{}_seg.nii.gz")
        told = refusal(volumes)
        assert "There is p0.nii.gz" in told
        assert "without '_seg'" in told

    def test_of_something_else(self, volumes: Path) -> None:
        self.rename(volumes / "masks", "mask of {}.nii.gz")
        assert "the nearest there is p0.nii.gz" in refusal(volumes)

    def test_upper_case_endings_are_read(self, volumes: Path) -> None:
        self.rename(volumes / "images", "{}.NII.GZ")
        assert slice_them(volumes, lesion=(2,)).without_mask == 0

    def test_one_folder_cannot_hold_both(self, volumes: Path) -> None:
        with pytest.raises(DataError, match="cannot hold both the volumes and their masks"):
            pair_volumes(volumes / "images", volumes / "masks" / ".." / "images")

    def test_files_that_are_passed_over_are_counted(self, volumes: Path) -> None:
        for name in ("images/a.png", "images/b.PNG", "masks/c.nrrd", "images/p1.json"):
            (volumes / name).touch()
        made = slice_them(volumes, lesion=(2,))
        assert made.passed_over == {".png": 2, ".nrrd": 1}
        told = " ".join(describe_volumes(made, open_folder(volumes / "out")))
        assert "Note: Files beside the volumes are passed over: 2 .png, 1 .nrrd." in told


def test_without_nibabel_it_says_what_to_install(volumes: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "nibabel", None)
    with pytest.raises(MissingNibabelError, match=r"pip install 'miasbench\[nifti\]'"):
        slice_them(volumes, lesion=(2,))
