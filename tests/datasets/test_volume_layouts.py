"""Volumes and masks in folders of patients: recognised by their names, or found by patterns."""

from collections.abc import Sequence
from pathlib import Path

import pytest

from miasbench.datasets.adding import find_volumes
from miasbench.datasets.splitting import SplitRule
from miasbench.datasets.volume_files import VolumePairs
from miasbench.harness.api import BenchError


def touch(root: Path, *names: str) -> Path:
    """Makes empty files, as only their names are looked at."""
    for name in names:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).touch()
    return root


def found(root: Path, channel: str | None = None, images: str | None = None, masks: str | None = None) -> VolumePairs:
    volumes = find_volumes(root, images, Path(masks) if masks else None, channel)
    assert volumes is not None
    return volumes


def pairs(volumes: VolumePairs, root: Path) -> dict[str, tuple[str, str | None]]:
    return {
        name: (path.relative_to(root).as_posix(), mask and mask.relative_to(root).as_posix())
        for name, (path, mask) in volumes.pairs.items()
    }


def patients(volumes: VolumePairs) -> list[str]:
    return [SplitRule(volumes.patient).patient_of(name) for name in volumes.pairs]


def refusal(root: Path, *options: str | None) -> str:
    with pytest.raises(BenchError) as error:
        find_volumes(root, *(Path(one) if one and place == 1 else one for place, one in enumerate(options)))  # type: ignore[arg-type]
    return str(error.value)


def brats(root: Path, names: Sequence[str] = ("BraTS_001", "BraTS_002"), around: str = "", mark: str = "_") -> Path:
    kinds = ("flair", "t1", "t1ce", "t2", "seg") if mark == "_" else ("t1c", "t1n", "t2f", "t2w", "seg")
    return touch(root, *(f"{around}{name}/{name}{mark}{kind}.nii.gz" for name in names for kind in kinds))


class TestBrats:
    @pytest.mark.parametrize("around", ["", "HGG/", "train/HGG/"])
    def test_a_channel_is_taken_by_its_name(self, tmp_path: Path, around: str) -> None:
        volumes = found(brats(tmp_path, around=around), "FLAIR")
        folder = f"{around}BraTS_001/BraTS_001"
        assert pairs(volumes, tmp_path)["BraTS_001"] == (f"{folder}_flair.nii.gz", f"{folder}_seg.nii.gz")
        assert patients(volumes) == ["BraTS_001", "BraTS_002"]
        assert volumes.images == f"{tmp_path}/{around}*/*_flair.nii.gz"
        assert volumes.masks == f"{tmp_path}/{around}*/*_seg.nii.gz"
        assert volumes.passed_over == {".nii.gz": 6}, "the other channels"

    def test_no_channel_is_guessed(self, tmp_path: Path) -> None:
        told = refusal(brats(tmp_path))
        assert "several kinds: flair, t1, t1ce, t2." in told
        assert told.endswith("such as --channel flair.")
        assert "no volumes of the kind 'dwi'. --channel can be flair, t1, t1ce, t2." in refusal(
            tmp_path, None, None, "dwi"
        )

    def test_the_only_channel_needs_no_word(self, tmp_path: Path) -> None:
        touch(tmp_path, *(f"{name}/{name}_{kind}.nii" for name in ("a", "b") for kind in ("t1", "seg")))
        assert list(found(tmp_path).pairs) == ["a", "b"]

    def test_visits_of_a_patient_stay_together(self, tmp_path: Path) -> None:
        names = [f"BraTS-GLI-0000{patient}-00{visit}" for patient in range(2) for visit in range(2)]
        volumes = found(brats(tmp_path, names, mark="-"), "t2f")
        assert list(volumes.pairs) == names
        assert patients(volumes) == ["BraTS-GLI-00000"] * 2 + ["BraTS-GLI-00001"] * 2

    def test_a_patient_without_mask_is_not_taken_for_normal(self, tmp_path: Path) -> None:
        (brats(tmp_path) / "BraTS_002/BraTS_002_seg.nii.gz").rename(tmp_path / "BraTS_002/W39_Segm.nii.gz")
        told = refusal(tmp_path, None, None, "t1")
        assert told.startswith(f"{tmp_path}/BraTS_002/BraTS_002_t1.nii.gz has no mask.")
        assert "--images '*/*_t1.nii.gz' --masks '*/*_seg.nii.gz'" in told
        volumes = found(tmp_path, images="*/*_t1.nii.gz", masks="*/*_seg.nii.gz")
        assert [mask is None for _, mask in volumes.pairs.values()] == [False, True]

    def test_several_kinds_of_masks_are_told(self, tmp_path: Path) -> None:
        touch(brats(tmp_path), "BraTS_001/BraTS_001_mask.nii.gz")
        assert "has masks of several kinds: mask, seg." in refusal(tmp_path, None, None, "t1")


class TestBids:
    def isles(self, root: Path, sessions: Sequence[str] = ("ses-0001",), patients: int = 2) -> Path:
        for patient in range(patients):
            for session in sessions:
                place, name = f"sub-stroke{patient}/{session}", f"sub-stroke{patient}_{session}"
                touch(root, f"{place}/dwi/{name}_dwi.nii.gz", f"{place}/dwi/{name}_adc.nii.gz")
                touch(root, f"{place}/anat/{name}_FLAIR.nii.gz", f"derivatives/{place}/{name}_msk.nii.gz")
        return touch(root, "dataset_description.json", "participants.tsv")

    def test_masks_are_found_in_derivatives(self, tmp_path: Path) -> None:
        volumes = found(self.isles(tmp_path), "dwi")
        assert pairs(volumes, tmp_path)["sub-stroke0"] == (
            "sub-stroke0/ses-0001/dwi/sub-stroke0_ses-0001_dwi.nii.gz",
            "derivatives/sub-stroke0/ses-0001/sub-stroke0_ses-0001_msk.nii.gz",
        )
        assert volumes.images == f"{tmp_path}/sub-*/ses-*/dwi/*_dwi.nii.gz"
        assert volumes.masks == f"{tmp_path}/derivatives/sub-*/ses-*/*_msk.nii.gz"
        assert volumes.passed_over == {".nii.gz": 4}

    def test_no_kind_is_guessed(self, tmp_path: Path) -> None:
        assert "several kinds: FLAIR, adc, dwi." in refusal(self.isles(tmp_path))

    def test_sessions_of_a_patient_stay_together(self, tmp_path: Path) -> None:
        volumes = found(self.isles(tmp_path, ("ses-1", "ses-2")), "flair")
        assert list(volumes.pairs) == [f"sub-stroke{patient}_ses-{visit}" for patient in (0, 1) for visit in (1, 2)]
        assert patients(volumes) == ["sub-stroke0"] * 2 + ["sub-stroke1"] * 2

    def test_masks_of_brains_are_no_lesions(self, tmp_path: Path) -> None:
        for patient in "12":
            touch(tmp_path, f"sub-{patient}/anat/sub-{patient}_acq-iso_T1w.nii")
            touch(tmp_path, f"derivatives/prep/sub-{patient}/anat/sub-{patient}_desc-preproc_T1w.nii")
            touch(tmp_path, f"derivatives/prep/sub-{patient}/anat/sub-{patient}_desc-brain_mask.nii")
        assert find_volumes(tmp_path) is None
        for patient in "12":
            touch(tmp_path, f"derivatives/hand/sub-{patient}/anat/sub-{patient}_space-orig_label-lesion_mask.nii")
        volumes = found(tmp_path)
        assert pairs(volumes, tmp_path)["sub-1"] == (
            "sub-1/anat/sub-1_acq-iso_T1w.nii",
            "derivatives/hand/sub-1/anat/sub-1_space-orig_label-lesion_mask.nii",
        )
        assert volumes.masks == f"{tmp_path}/derivatives/hand/sub-*/anat/*_label-lesion_mask.nii"

    def test_two_scans_of_a_session_are_told(self, tmp_path: Path) -> None:
        touch(tmp_path, "sub-1/anat/sub-1_run-1_T1w.nii", "sub-1/anat/sub-1_run-2_T1w.nii", "sub-1/anat/sub-1_roi.nii")
        told = refusal(tmp_path)
        assert "sub-1_run-1_T1w.nii and" in told
        assert "sub-1_run-2_T1w.nii are both volumes of sub-1, and only one can be taken" in told


class TestPatterns:
    def test_the_texts_of_wildcards_pair(self, tmp_path: Path) -> None:
        touch(tmp_path, "scans/a_flair.nii.gz", "scans/b_flair.nii", "truth/a-seg.nii.gz", "scans/a_t1.nii.gz")
        volumes = found(tmp_path, images="scans/*_flair", masks="truth/*-seg")
        assert pairs(volumes, tmp_path) == {
            "a": ("scans/a_flair.nii.gz", "truth/a-seg.nii.gz"),
            "b": ("scans/b_flair.nii", None),
        }
        assert volumes.passed_over == {".nii.gz": 1}

    @pytest.mark.parametrize("mask", ["lesion.nii", "sub-{0}_label-L_mask.nii", "x{0}y.nii"])
    def test_folders_pair_where_names_do_not(self, tmp_path: Path, mask: str) -> None:
        for patient in ("p1", "p2"):
            touch(tmp_path, f"{patient}/anat/{patient}_T1w.nii", f"{patient}/truth/{mask.format(patient)}")
        volumes = found(tmp_path, images="*/anat/*.nii", masks="*/truth/*.nii")
        assert pairs(volumes, tmp_path)["p2"] == ("p2/anat/p2_T1w.nii", f"p2/truth/{mask.format('p2')}")

    def test_folders_pair_whatever_part_of_their_names_a_wildcard_is(self, tmp_path: Path) -> None:
        for patient in ("sub-1", "sub-2"):
            touch(tmp_path, f"{patient}/{patient}_T1w.nii", f"derivatives/{patient}/{patient}_msk.nii")
        volumes = found(tmp_path, images="sub-*/*_T1w", masks="derivatives/*/*_msk")
        assert pairs(volumes, tmp_path)["sub-2"] == ("sub-2/sub-2_T1w.nii", "derivatives/sub-2/sub-2_msk.nii")

    @pytest.mark.parametrize("scan", ["s_{}", "{}", "p_1-{}"])
    def test_scans_in_the_folder_of_a_patient_stay_together(self, tmp_path: Path, scan: str) -> None:
        for patient in ("p_1", "p_2"):
            for number in "12":
                name = f"{patient}/{scan.format(number)}"
                touch(tmp_path, f"{name}_ct.nii", f"{name}_seg.nii")
        volumes = found(tmp_path, images="*/*_ct.nii", masks="*/*_seg.nii")
        assert len(volumes.pairs) == 4
        assert patients(volumes) == ["p_1", "p_1", "p_2", "p_2"]

    @pytest.mark.parametrize(
        ("images", "masks", "said"),
        [
            ("*/*_t2.nii", "*/*_seg.nii", "fits --images '*/*_t2.nii'. There is p1/p1_ct.nii. Mend the pattern"),
            ("*/*.nii", "*/*_seg.nii", "p1/p1_seg.nii fits both --images"),
            ("*/*_ct.nii", "p1/*", "p1/p1_ct.nii fits both"),
            ("**/*_ct.nii", "*/*_seg.nii", "with one * for each folder"),
            ("../*/*_ct.nii", "*/*_seg.nii", "without .."),
            ("/*/*_ct.nii", "*/*_seg.nii", "is to be a pattern of files in"),
            ("p1/*_ct.nii", "*/*_seg.nii", "p2_seg.nii has no volume: it is of p2, and no volume is;"),
            ("*/*_ct.nii", None, "--images PATTERN goes with --masks PATTERN"),
        ],
    )
    def test_patterns_that_do_not_fit(self, tmp_path: Path, images: str, masks: str | None, said: str) -> None:
        touch(tmp_path, *(f"{name}/{name}_{kind}.nii" for name in ("p1", "p2") for kind in ("ct", "seg")))
        assert said in refusal(tmp_path, images, masks)

    def test_channels_are_not_chosen_beside_patterns(self, tmp_path: Path) -> None:
        assert "say with both patterns" in refusal(tmp_path, "*.nii", "*.nii", "t1")


def test_pictures_are_no_volumes(tmp_path: Path) -> None:
    touch(tmp_path, "train/good/a.png", "sub-1/anat/sub-1_T1w.nii", "p/p_t1.nii")
    assert find_volumes(tmp_path) is None
