"""DICOM series: read with their geometry, paired with masks, and refused where they are no even stack."""

import struct
from collections import Counter
from pathlib import Path

import nibabel
import numpy as np
import pytest
import SimpleITK as sitk

from miasbench.datasets.adding import add_dataset, find_volumes
from miasbench.datasets.dicom import is_dicom
from miasbench.datasets.folder import open_folder
from miasbench.datasets.nifti import Volume
from miasbench.datasets.splitting import SplitRule
from miasbench.datasets.volume_files import VolumePairs
from miasbench.harness.api import BenchError, DataError

from ..support.dicom import write_series
from ..support.volumes import OBLIQUE, SHAPE

FLIPPED = OBLIQUE @ np.diag([1.0, 1.0, -1.0, 1.0])
UPRIGHT = np.diag([-0.7, -0.65, 5.0, 1.0])
PATIENT, DESCRIPTION = "0010|0020", "0008|103e"


def values(seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(-1000, 1000, SHAPE).astype(np.int16)


def right_handed(affine: np.ndarray) -> np.ndarray:
    """DICOM has the direction of rows and of columns; slices are stacked along their cross product."""
    return affine if np.linalg.det(affine[:3, :3]) > 0 else FLIPPED


@pytest.fixture
def headers_read(monkeypatch: pytest.MonkeyPatch) -> Counter[str]:
    """How often the header of each file is read."""
    counted: Counter[str] = Counter()

    class Counting(sitk.ImageFileReader):
        def ReadImageInformation(self) -> None:
            counted[self.GetFileName()] += 1
            super().ReadImageInformation()

    monkeypatch.setattr(sitk, "ImageFileReader", Counting)
    return counted


def labels(seed: int = 0) -> np.ndarray:
    made = np.zeros(SHAPE, np.int16)
    made[2:6, 3:7, 1:3] = np.random.default_rng(seed).random((4, 4, 2)) < 0.6
    made[3, 3, 2] = 1
    return made


class TestVolume:
    @pytest.mark.parametrize("affine", [OBLIQUE, FLIPPED, UPRIGHT])
    @pytest.mark.parametrize("ending", [".dcm", ".IMA", ""])
    def test_voxels_lie_where_another_reader_puts_them(self, tmp_path: Path, affine: np.ndarray, ending: str) -> None:
        files = write_series(tmp_path, values(), affine, ending=ending)
        volume = Volume(files[0])
        image = sitk.ReadImage(sitk.ImageSeriesReader.GetGDCMSeriesFileNames(str(tmp_path)))
        assert volume.shape == image.GetSize()
        for index in ((0, 0, 0), (8, 0, 0), (0, 10, 0), (8, 10, 5), (3, 4, 2)):
            left, back, up = image.TransformIndexToPhysicalPoint(index)
            assert (volume.affine @ (*index, 1))[:3] == pytest.approx((-left, -back, up), abs=1e-4)
            assert volume.voxels()[index] == image.GetPixel(*index)
        np.testing.assert_allclose(np.linalg.norm(volume.affine[:3, :3], axis=0), volume.spacing)
        assert volume.is_placed

    def test_voxels_are_those_that_were_written(self, tmp_path: Path) -> None:
        affine = right_handed(OBLIQUE)
        volume = Volume(write_series(tmp_path, values(), affine)[3])
        to_written = np.linalg.inv(affine) @ volume.affine
        indices = np.stack(np.meshgrid(*map(np.arange, SHAPE), indexing="ij"), -1).reshape(-1, 3)
        written = np.rint(indices @ to_written[:3, :3].T + to_written[:3, 3]).astype(int)
        np.testing.assert_array_equal(volume.voxels()[tuple(indices.T)], values()[tuple(written.T)])

    def test_a_slope_and_an_intercept_are_applied(self, tmp_path: Path) -> None:
        scaled = {"0028|1052": "-1024", "0028|1053": "2"}
        volume = Volume(write_series(tmp_path, values() // 2 * 2, UPRIGHT, scaled)[0])
        assert set(np.unique(volume.voxels())) <= set(range(-1000, 1000))

    def test_another_series_in_the_folder_is_not_mixed_in(self, tmp_path: Path) -> None:
        first, second = (write_series(tmp_path, values(seed), UPRIGHT) for seed in (0, 1))
        assert Volume(first[0]).shape == Volume(second[0]).shape == SHAPE
        assert not np.array_equal(Volume(first[0]).voxels(), Volume(second[0]).voxels())

    def test_all_slices_may_be_in_one_file(self, tmp_path: Path) -> None:
        grey = np.abs(values()).astype(np.uint16)
        sitk.WriteImage(sitk.GetImageFromArray(np.ascontiguousarray(grey.T)), tmp_path / "all.dcm")
        volume = Volume(tmp_path / "all.dcm")
        assert volume.shape == SHAPE
        np.testing.assert_array_equal(volume.voxels(), grey)
        assert not volume.is_placed, "such a file says nothing of its place"

    def test_what_is_no_even_stack_is_refused(self, tmp_path: Path) -> None:
        for name, said, files in (
            ("gap", "a slice is missing", write_series(tmp_path / "gap", values(), UPRIGHT, without=[2])),
            ("tilt", "as by a tilted gantry", write_series(tmp_path / "tilt", values(), UPRIGHT, shift=1.5)),
        ):
            with pytest.raises(DataError, match=said) as error:
                Volume(files[0])
            assert str(tmp_path / name) in str(error.value)

    def test_two_slices_in_one_place_are_refused(self, tmp_path: Path) -> None:
        write_series(tmp_path, values(0), UPRIGHT, {"0020|000e": "1.2.3.4"})
        files = write_series(tmp_path, values(1), UPRIGHT, {"0020|000e": "1.2.3.4"})
        with pytest.raises(DataError, match="slices of one DICOM series in one place"):
            Volume(files[0])

    def test_a_damaged_file_is_named(self, tmp_path: Path) -> None:
        files = write_series(tmp_path, values(), UPRIGHT)
        files[2].write_bytes(files[2].read_bytes()[:200])
        with pytest.raises(DataError, match=f"{files[2]} cannot be read as a DICOM image"):
            Volume(files[0])

    def test_a_segmentation_object_is_refused(self, tmp_path: Path) -> None:
        with pytest.raises(DataError, match=r"DICOM segmentation .* dcmqi"):
            Volume(write_series(tmp_path, values(), UPRIGHT, {"0008|0060": "SEG"})[0])


def test_a_file_without_an_ending_is_known_by_its_first_bytes(tmp_path: Path) -> None:
    (tmp_path / "README").write_text("no DICOM")
    files = write_series(tmp_path / "made", values(), UPRIGHT, ending="")
    assert is_dicom(files[0]) and not is_dicom(tmp_path / "README") and not is_dicom(tmp_path / "nothing")
    assert is_dicom(files[0].rename(files[0].with_name("1.2.840.10008.1")))


def write_patients(root: Path, dicom_masks: bool = False, patient: str = "P{}") -> Path:
    """Ten patients, each with a series in a folder of its own."""
    for number in range(10):
        tags = {PATIENT: patient.format(number), DESCRIPTION: "T2 FLAIR"}
        affine = right_handed(OBLIQUE)
        write_series(root / f"images/p{number}/t2", values(number), affine, tags)
        if dicom_masks:
            write_series(root / f"masks/p{number}/t2", labels(number), affine, tags)
        else:
            (root / "masks").mkdir(exist_ok=True)
            nibabel.save(nibabel.Nifti1Image(labels(number), affine), root / f"masks/p{number}_t2.nii.gz")
    return root


def found(root: Path, channel: str | None = None) -> VolumePairs:
    volumes = find_volumes(root / "images", masks=root / "masks", channel=channel)
    assert volumes is not None
    return volumes


@pytest.mark.parametrize("dicom_masks", [False, True])
def test_series_become_slices_with_masks_and_a_grid(tmp_path: Path, dicom_masks: bool) -> None:
    volumes = found(write_patients(tmp_path, dicom_masks))
    assert list(volumes.pairs) == [f"p{number}" for number in range(10)]
    dataset = open_folder(add_dataset("made", tmp_path / "images", tmp_path / "data", volumes=volumes))
    name = dataset.cases("test")[0].volume
    assert name is not None
    masks = {case.position or 0: dataset.load(case).mask for case in dataset.cases("test") if case.volume == name}
    grid = dataset.grid(name)
    assert grid is not None
    back = grid.to_image(masks)
    path, mask = volumes.pairs[name]
    assert mask is not None
    source, expected = Volume(path), Volume(mask)
    np.testing.assert_allclose(back.affine, source.affine, atol=1e-6)
    assert back.header.get_xyzt_units()[0] == "mm"
    turned = nibabel.orientations.apply_orientation(expected.labels()[0], expected.orientation_in(source))
    np.testing.assert_array_equal(np.asarray(back.dataobj) > 0, turned > 0)


def test_the_header_of_a_file_is_read_once(tmp_path: Path, headers_read: Counter[str]) -> None:
    write_patients(tmp_path, dicom_masks=True)
    add_dataset("made", tmp_path / "images", tmp_path / "data", volumes=found(tmp_path))
    assert len(headers_read) == 2 * 10 * SHAPE[2]
    assert set(headers_read.values()) == {1}


def test_the_header_of_a_file_that_was_replaced_is_read_again(tmp_path: Path) -> None:
    files = write_series(tmp_path, values(), UPRIGHT)
    before = Volume(files[0])
    for file in files:
        file.unlink()
    other = write_series(tmp_path, values()[:, :6], OBLIQUE)
    assert other[0] == files[0]
    assert Volume(files[0]).shape != before.shape


class TestPairing:
    def test_folders_of_one_patient_stay_together_by_the_patients_id(self, tmp_path: Path) -> None:
        for folder, patient in (("visit1", "A"), ("visit2", "A"), ("visit3", "B")):
            write_series(tmp_path / "images" / folder, values(), UPRIGHT, {PATIENT: patient})
            write_series(tmp_path / "masks" / folder, labels(), UPRIGHT, {PATIENT: "X"})
        volumes = found(tmp_path)
        patients = {name: SplitRule(volumes.patient).patient_of(name) for name in volumes.pairs}
        assert len(set(patients.values())) == 2
        assert not any("A" in name for name in patients), "the ID may be a person's name"

    def test_folders_tell_patients_where_all_have_the_same_id(self, tmp_path: Path) -> None:
        volumes = found(write_patients(tmp_path, patient="anonymous"))
        assert len({SplitRule(volumes.patient).patient_of(name) for name in volumes.pairs}) == 10

    def test_a_kind_of_series_is_chosen_by_its_description(self, tmp_path: Path) -> None:
        write_patients(tmp_path)
        write_series(tmp_path / "images/p3/t1", values(99), UPRIGHT, {PATIENT: "P3", DESCRIPTION: "T1"})
        with pytest.raises(BenchError, match=r"p3 has DICOM series of several kinds: T1, T2 FLAIR.* --channel 'T1'"):
            found(tmp_path)
        assert len(found(tmp_path, "t2 flair").pairs) == 10
        with pytest.raises(BenchError, match=r"no DICOM series called 'T3'\. --channel can be T1, T2 FLAIR"):
            found(tmp_path, "T3")

    def test_a_mask_without_series_is_named(self, tmp_path: Path) -> None:
        mask = tmp_path / "masks/p3_t2.nii.gz"
        write_patients(tmp_path)
        mask.rename(mask.with_name("q3.nii.gz"))
        with pytest.raises(DataError, match=r"q3.nii.gz has no volume"):
            found(tmp_path)

    def test_what_is_to_be_said_is_asked_for(self, tmp_path: Path) -> None:
        write_patients(tmp_path)
        with pytest.raises(BenchError, match="holds DICOM series: say with --masks"):
            find_volumes(tmp_path / "images")
        (tmp_path / "empty").mkdir()
        with pytest.raises(DataError, match="holds no masks"):
            find_volumes(tmp_path / "images", masks=tmp_path / "empty")


def element(group: int, number: int, kind: str, content: bytes) -> bytes:
    """A data element, little endian, with its kind."""
    long = kind in ("OW", "SQ")
    head = struct.pack("<HH2s", group, number, kind.encode())
    return head + struct.pack("<xxI" if long else "<H", len(content)) + content


def image_file(
    rows: int = 8,
    columns: int = 8,
    frames: bytes = b"",
    sequences: bytes = b"",
    pixels: bytes = bytes(128),
    syntax: bytes = b"1.2.840.10008.1.2.1\0",
) -> bytes:
    """A DICOM file, of which no part needs to be true."""
    ct = b"1.2.840.10008.5.1.4.1.1.2\0"
    meta = element(2, 2, "UI", ct) + element(2, 3, "UI", b"1.2.3\0") + element(2, 0x10, "UI", syntax)
    numbers = {2: 1, 0x10: rows, 0x11: columns, 0x100: 16, 0x101: 16, 0x102: 15, 0x103: 0}
    parts = {number: element(0x28, number, "US", struct.pack("<H", value)) for number, value in numbers.items()}
    parts |= {4: element(0x28, 4, "CS", b"MONOCHROME2 ")} | ({8: element(0x28, 8, "IS", frames)} if frames else {})
    begin = bytes(128) + b"DICM" + element(2, 0, "UL", struct.pack("<I", len(meta))) + meta
    begin += element(8, 0x16, "UI", ct) + element(8, 0x18, "UI", b"1.2.3\0") + sequences
    begin += element(0x20, 0xE, "UI", b"1.2.4\0")
    return begin + b"".join(parts[number] for number in sorted(parts)) + element(0x7FE0, 0x10, "OW", pixels)


def nested(levels: int, endless: bool) -> bytes:
    """A sequence in a sequence, and so on."""
    content, none = b"", 0xFFFFFFFF
    if endless:
        begin = struct.pack("<HH2sxxI", 8, 0x1140, b"SQ", none) + struct.pack("<HHI", 0xFFFE, 0xE000, none)
        return begin * levels + struct.pack("<HHIHHI", 0xFFFE, 0xE00D, 0, 0xFFFE, 0xE0DD, 0) * levels
    for _ in range(levels):
        content = element(8, 0x1140, "SQ", struct.pack("<HHI", 0xFFFE, 0xE000, len(content)) + content)
    return content


class TestHostile:
    """Files that somebody has made up: a sentence, before memory is taken or GDCM ends the process."""

    @pytest.mark.parametrize("endless", [True, False])
    @pytest.mark.parametrize("levels", [101, 20_000])
    def test_sequences_in_sequences(self, levels: int, endless: bool, tmp_path: Path) -> None:
        (tmp_path / "a.dcm").write_bytes(image_file(sequences=nested(levels if endless else 101, endless)))
        with pytest.raises(DataError, match="nested deeper than 100 levels"):
            Volume(tmp_path / "a.dcm")

    @pytest.mark.parametrize("endless", [True, False])
    def test_as_deep_as_devices_write_is_read(self, endless: bool, tmp_path: Path) -> None:
        siblings = 500 * nested(1, endless)
        (tmp_path / "a.dcm").write_bytes(image_file(sequences=nested(20, endless) + siblings))
        assert Volume(tmp_path / "a.dcm").shape[:2] == (8, 8)

    @pytest.mark.parametrize(
        "content",
        [
            image_file(65535, 65535),
            image_file(frames=b"2147483646"),
            image_file(4096, 4096, frames=b"4000"),
            image_file(32768, 2),
        ],
        ids=["wide", "frames", "both", "side"],
    )
    def test_a_header_that_announces_more_than_any_scan_has(self, content: bytes, tmp_path: Path) -> None:
        (tmp_path / "a.dcm").write_bytes(content)
        with pytest.raises(DataError, match="which no scan has"):
            Volume(tmp_path / "a.dcm")

    def test_what_is_deflated_as_a_whole(self, tmp_path: Path) -> None:
        (tmp_path / "a.dcm").write_bytes(image_file(syntax=b"1.2.840.10008.1.2.1.99"))
        with pytest.raises(DataError, match="all of it is deflated"):
            Volume(tmp_path / "a.dcm")
