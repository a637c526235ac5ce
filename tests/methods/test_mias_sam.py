import inspect
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from miasbench.datasets.phantom import phantom_liver_ct
from miasbench.harness.api import Diagnostic, Method, Prediction, UsageError
from miasbench.harness.download.fetching import file_checksum
from miasbench.harness.registry import build_method
from miasbench.harness.specs import parse_method
from miasbench.methods import weights
from miasbench.methods.mias_sam import MiasSam, SamControl, sam_method
from miasbench.methods.mias_sam.memory_bank import MemoryBank, anomaly_map, patch_descriptors
from miasbench.methods.mias_sam.prompts import centroid_prompt, peak_prompts, threshold_boxes
from miasbench.methods.mias_sam.sam import Sam

from ..support.blur_sam import BlurSam, answer
from ..support.kept import cache_entries

DESCRIPTOR = 128
PROMPTS = ["centroid", "centroid_box", "centroid_mask", "peaks", "threshold_boxes", "vote"]


@pytest.fixture
def blur(monkeypatch: pytest.MonkeyPatch, cache_folder: Path) -> BlurSam:
    sam = BlurSam()
    monkeypatch.setattr(sam_method, "load_sam", lambda *_, **__: sam)
    return sam


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch, blur: BlurSam) -> None:
    """Time in which encoding an image takes a second and nothing else takes any."""
    monkeypatch.setattr("time.perf_counter", lambda: float(len(blur.encoded)))


@pytest.fixture(scope="module")
def images() -> dict[str, list[np.ndarray]]:
    dataset = phantom_liver_ct(Path(), train=8, valid=2, test=4)
    return {split: [dataset.load(case).image for case in dataset.cases(split)] for split in ("train", "test")}


def grainy(images: Sequence[np.ndarray]) -> list[np.ndarray]:
    """Without black patches that are the same in every image, so that no image is at distance 0 from others."""
    rng = np.random.default_rng(0)
    return [np.maximum(image, rng.integers(10, 60, image.shape, dtype=np.uint8)) for image in images]


def make(seed: int = 0, weights: str = "embedded", **options: Any) -> Method:
    return build_method("mias_sam", options, weights=weights, device="cpu", seed=seed)


def fitted(images: Sequence[np.ndarray], **options: Any) -> Method:
    """Fits a method; its descriptors are shorter than by default, as nearly all time goes into comparing them."""
    values: dict[str, Any] = {"descriptor_size": DESCRIPTOR} | options
    method = make(**values)
    method.fit(images)
    return method


def predict(fitted: Method, images: Sequence[np.ndarray]) -> list[Any]:
    return list(fitted.predict_many(images))


def described(image: np.ndarray) -> np.ndarray:
    return patch_descriptors(BlurSam().encode(image), 5, 2, DESCRIPTOR)[0].numpy()


def bank_of(images: Sequence[np.ndarray]) -> MemoryBank:
    bank = MemoryBank(len(images))
    for image in images:
        bank.add(described(image))
    bank.finish()
    return bank


def test_the_steps_of_the_paper_in_order(blur: BlurSam, images: dict[str, list[np.ndarray]]) -> None:
    """The whole procedure, written out once more with numpy for `normalisation=test_set`."""
    train = images["train"][:4]
    method = fitted(train, flip=0.0, normalisation="test_set", prompt="centroid", mask="predicted_iou")
    predictions = predict(method, images["test"])

    bank = bank_of(train)
    distances = [bank.distances(described(image)) for image in images["test"]]
    maps = np.stack([anomaly_map(one, 256, 4.0) for one in distances])
    normalised = (maps - maps.min()) / (maps.max() - maps.min())
    for index, prediction in enumerate(predictions):
        np.testing.assert_allclose(prediction.anomaly_map, maps[index], rtol=1e-4)
        assert prediction.image_score == pytest.approx(distances[index].max(), rel=1e-4)
        expected = centroid_prompt(normalised[index] ** 5)
        assert expected is not None
        assert expected.point is not None
        assert blur.prompts[index].point == pytest.approx(expected.point, rel=1e-3)
        second = answer(blur.prompts[index], 256, 1)
        np.testing.assert_array_equal(prediction.mask, second, "the second of three masks has the highest IoU")


@pytest.mark.parametrize("normalisation", ["train", "image", "test_set"])
def test_no_image_passes_the_encoder_twice(
    blur: BlurSam, images: dict[str, list[np.ndarray]], normalisation: str
) -> None:
    method = fitted(images["train"][:4], normalisation=normalisation)
    assert len(blur.encoded) == 4
    predict(method, images["test"])
    assert len(blur.encoded) == 8


@pytest.mark.parametrize("normalisation", ["train", "image"])
def test_a_prediction_does_not_depend_on_other_test_images(
    blur: BlurSam, images: dict[str, list[np.ndarray]], normalisation: str
) -> None:
    method = fitted(images["train"][:4], normalisation=normalisation)
    assert not method.transductive
    together = predict(method, images["test"])
    prompts = list(blur.prompts)
    alone = method.predict(images["test"][3])
    np.testing.assert_array_equal(alone.anomaly_map, together[3].anomaly_map)
    assert blur.prompts[-1] == prompts[3]


def test_test_set_normalisation_is_transductive(blur: BlurSam, images: dict[str, list[np.ndarray]]) -> None:
    method = fitted(images["train"][:4], normalisation="test_set")
    assert method.transductive
    rng = np.random.default_rng(0)
    noises = [rng.integers(0, top, (256, 256), dtype=np.uint8) for top in (30, 120, 250)]
    predict(method, noises)
    together = blur.prompts[:]
    blur.prompts.clear()
    for image in noises:
        predict(method, [image])
    assert blur.prompts != together, "the minimum that was subtracted came from another image"


@pytest.mark.parametrize(("count", "held_out", "expected"), [(2, 8, 1), (4, 8, 1), (8, 8, 2), (8, 1, 1)])
def test_the_floor_of_train_comes_from_images_that_were_held_out_of_the_bank(
    blur: BlurSam, images: dict[str, list[np.ndarray]], count: int, held_out: int, expected: int
) -> None:
    """They are the first that are encoded, at most a quarter of all, and at least one."""
    train = grainy(images["train"][:count])
    method = fitted(train, flip=0.0, gamma=1.0, prompt="centroid", held_out=held_out)
    held, others = blur.encoded[:expected], blur.encoded[expected:]
    prediction = method.predict(images["test"][3])
    bank = bank_of(others)
    floor = min(anomaly_map(bank.distances(described(image)), 256, 4.0).min() for image in held)
    assert floor > 0
    centre = centroid_prompt(np.clip(prediction.anomaly_map - floor, 0, None))
    assert centre is not None
    assert centre.point is not None
    assert blur.prompts[-1].point == pytest.approx(centre.point, rel=1e-4)
    (rows,) = (found for found in method.diagnostics() if found.metric == "bank_rows")
    assert rows.value == count * 1024, "what was held out is in the bank now"


@pytest.mark.parametrize(
    ("mask", "which"), [("0", 0), ("1", 1), ("2", 2), ("predicted_iou", 1), ("single", 0), ("auto", 0)]
)
def test_which_mask(blur: BlurSam, images: dict[str, list[np.ndarray]], mask: str, which: int) -> None:
    prediction = fitted(images["train"][:2], mask=mask).predict(images["test"][3])
    np.testing.assert_array_equal(prediction.mask, answer(blur.prompts[0], 256, which))


def normalised(prediction: Prediction) -> np.ndarray:
    """What `normalisation=image` makes of a map."""
    low, high = prediction.anomaly_map.min(), prediction.anomaly_map.max()
    return (prediction.anomaly_map - low) / (high - low)


@pytest.fixture
def two_lesions() -> np.ndarray:
    """Both lie in the same way on the grid of patches, so that they are equally anomalous."""
    image = np.zeros((256, 256), np.uint8)
    texture = np.random.default_rng(0).integers(0, 256, (24, 24), dtype=np.uint8)
    image[88:112, 72:96] = image[128:152, 168:192] = texture
    return image


def test_what_each_prompt_tells_sam(
    blur: BlurSam, images: dict[str, list[np.ndarray]], two_lesions: np.ndarray
) -> None:
    told, one = {}, np.empty(0)
    for prompt in PROMPTS:
        blur.prompts.clear()
        method = fitted(images["train"][:4], prompt=prompt, normalisation="image", gamma=3, box_scale=2, flip=0)
        one = normalised(method.predict(two_lesions))
        told[prompt] = list(blur.prompts)
    point, box = centroid_prompt(one**3), centroid_prompt(one**3, 2)
    assert point is not None
    assert box is not None
    for prompt in ("centroid", "centroid_mask"):
        (found,) = told[prompt]
        assert found.point == pytest.approx(point.point)
        assert found.box is None
    assert told["centroid"][0].mask is None
    np.testing.assert_allclose(told["centroid_mask"][0].mask, one, atol=1e-5)
    (found,) = told["centroid_box"]
    assert found.box == pytest.approx(box.box)
    assert found.point is found.mask is None
    assert len(told["peaks"]) == 2
    for found, expected in zip(told["peaks"], peak_prompts(one**3, 2), strict=True):
        assert found.box == pytest.approx(expected.box)
    assert told["threshold_boxes"]
    for found, expected in zip(told["threshold_boxes"], threshold_boxes(one), strict=True):
        assert found.box == expected.box
        np.testing.assert_allclose(found.mask, one, atol=1e-5)
    assert 20 < len(told["vote"]) == len(set(told["vote"]))
    assert all(prompt.box and prompt.point is prompt.mask is None for prompt in told["vote"])
    assert max(blur.batches) <= 8, "the decoder's memory stays small"


def test_the_masks_of_several_prompts_are_united(
    blur: BlurSam, images: dict[str, list[np.ndarray]], two_lesions: np.ndarray
) -> None:
    prediction = fitted(images["train"][:4], prompt="peaks").predict(two_lesions)
    first, second = (answer(prompt, 256, 0) for prompt in blur.prompts)
    assert not (first & second).any()
    assert prediction.prompts == tuple(prompt.point or prompt.box for prompt in blur.prompts)
    np.testing.assert_array_equal(prediction.mask, first | second)
    assert blur.batches == [2]


def test_training_images_are_flipped_by_the_seed(
    monkeypatch: pytest.MonkeyPatch, blur: BlurSam, images: dict[str, list[np.ndarray]]
) -> None:
    monkeypatch.setenv("MIASBENCH_CACHE_GB", "0")
    originals = {image.tobytes() for image in images["train"]}
    mirrored = {image[:, ::-1].tobytes() for image in images["train"]}

    def flips(seed: int, flip: float) -> list[bool]:
        blur.encoded.clear()
        fitted(images["train"], seed=seed, flip=flip, patch_size=1, stride=8)
        contents = [image.tobytes() for image in blur.encoded]
        assert len(set(contents)) == 8
        assert all(content in originals | mirrored for content in contents)
        return [content in mirrored for content in contents]

    assert flips(0, 0.5) == flips(0, 0.5) != flips(1, 0.5)
    assert not any(flips(0, 0.0))
    assert all(flips(0, 1.0))


@pytest.mark.parametrize("value", [0, 128, 255])
def test_a_constant_image_has_an_empty_mask_and_a_note(
    blur: BlurSam, images: dict[str, list[np.ndarray]], value: int
) -> None:
    prediction = fitted(images["train"][:2]).predict(np.full((256, 256), value, np.uint8))
    assert prediction.mask is not None
    assert not prediction.mask.any()
    assert prediction.note == "the image is constant: no mask"
    assert np.isfinite(prediction.anomaly_map).all()
    assert not blur.prompts


@pytest.mark.parametrize("prompt", PROMPTS)
def test_a_map_below_the_floor_has_an_empty_mask_and_a_note(
    blur: BlurSam, images: dict[str, list[np.ndarray]], prompt: str
) -> None:
    """An image of the bank is at no distance from it, and the floor is where images that are not begin."""
    train = grainy(images["train"][:2])
    prediction = fitted(train, flip=0.0, prompt=prompt).predict(train[0])
    assert prediction.anomaly_map.max() < 1e-2
    assert prediction.mask is not None
    assert not prediction.mask.any()
    assert prediction.note == "the anomaly map gives no prompt: no mask"
    assert not blur.prompts


def test_constant_training_images_do_no_harm(blur: BlurSam) -> None:
    method = fitted([np.zeros((256, 256), np.uint8)] * 2)
    checkered = np.tile(np.kron([[0, 255], [255, 0]], np.ones((4, 4))).astype(np.uint8), (32, 32))
    assert np.isfinite(method.predict(checkered).anomaly_map).all()
    assert all(np.isfinite(prompt.box).all() for prompt in blur.prompts if prompt.box)


def test_defaults_follow_the_encoder() -> None:
    embedded = make()
    assert embedded.options()["encoder"] == "lite_medsam"
    assert (embedded.options()["prompt"], embedded.options()["mask"]) == ("centroid_box", "single")
    published = MiasSam()
    assert published.options() == {
        "encoder": "vit_b",
        "precision": "float32",
        "input_size": 1024,
        "flip": 0.5,
        "patch_size": 5,
        "stride": 2,
        "descriptor_size": 1024,
        "index": "auto",
        "probes": 48,
        "coreset": 0.1,
        "neighbours": 1,
        "sigma": 4.0,
        "normalisation": "train",
        "held_out": 8,
        "gamma": 5.0,
        "prompt": "centroid",
        "box_scale": 1.5,
        "mask": "predicted_iou",
    }
    assert MiasSam(encoder="medsam").options()["prompt"] == "centroid_box"
    assert MiasSam(encoder="vit_h", prompt="centroid_box").options()["prompt"] == "centroid_box"


def test_peaks_are_points_for_sam_and_boxes_for_the_two_medsams(
    monkeypatch: pytest.MonkeyPatch, blur: BlurSam, images: dict[str, list[np.ndarray]]
) -> None:
    for encoder in ("vit_b", "medsam"):
        monkeypatch.setitem(weights.SAM, encoder, weights.SAM["lite_medsam"])  # any file that is there
        fitted(images["train"][:2], weights="published", encoder=encoder, prompt="peaks").predict(images["test"][3])
    point, box = blur.prompts[0], blur.prompts[-1]
    assert point.point is not None
    assert point.box is None
    assert box.box is not None
    assert box.point is None


@pytest.mark.parametrize(
    ("options", "weights", "says"),
    [
        ({"encoder": "vit_b"}, "embedded", "vit_b has no embedded weights"),
        ({"encoder": "lite_medsam"}, "published", "lite_medsam has no published weights"),
        ({"patch_size": 4}, "embedded", "must be odd"),
        ({"index": "Falt"}, "embedded", r"mias_sam\.index=Falt: FAISS cannot .* Known names: auto, exact"),
        ({"index": "PQ7"}, "embedded", r"mias_sam\.index=PQ7: FAISS cannot make this index for rows of 1024 numbers"),
        ({"input_size": 512}, "embedded", "lite_medsam's input is always 256"),
    ],
)
def test_what_does_not_go_together_is_said_before_the_run(options: dict[str, Any], weights: str, says: str) -> None:
    made = make(weights=weights, **options)
    with pytest.raises(UsageError, match=says):
        made.weights_used()


@pytest.mark.parametrize("options", [{"input_size": 1000}, {"input_size": 128}, {"precision": "float16"}])
def test_what_sam_cannot_compute_is_refused_when_it_is_asked_for(options: dict[str, Any]) -> None:
    with pytest.raises(UsageError, match=rf"mias_sam\.{next(iter(options))}"):
        make(weights="published", **options)


def test_holding_an_image_out_needs_two_training_images(blur: BlurSam, images: dict[str, list[np.ndarray]]) -> None:
    with pytest.raises(UsageError, match="normalisation=image"):
        make().fit(images["train"][:1])
    method = fitted(images["train"][:1], normalisation="image", index="half")
    assert method.predict(images["test"][3]).anomaly_map.any()
    assert [found.metric for found in method.diagnostics()] == ["bank_rows"], "no image was there to measure it with"


def test_progress_is_reported(blur: BlurSam, images: dict[str, list[np.ndarray]]) -> None:
    told: list[tuple[str, int, int]] = []
    for index in ("exact", "8bit", "coreset"):
        method = make(index=index, descriptor_size=DESCRIPTOR)
        method.progress = lambda stage, done, total: told.append((stage, done, total))
        method.fit(images["train"][:4])
    assert [step for step in told if step[0] == "memory bank"] == [("memory bank", done, 4) for done in range(1, 5)] * 3
    assert told.count(("training the index", 0, 0)) == 1
    coreset = [step for step in told if step[0] == "coreset"]
    assert coreset[-1] == ("coreset", 408, 408), "a tenth of 4,096 rows, the first of which was given"


def diagnostics(method: Method) -> dict[str, Diagnostic]:
    return {found.metric: found for found in method.diagnostics()}


def test_an_exact_index_has_nothing_to_measure(blur: BlurSam, images: dict[str, list[np.ndarray]]) -> None:
    (rows,) = fitted(images["train"][:4]).diagnostics()
    assert (rows.metric, rows.value) == ("bank_rows", 4096)
    assert rows.note == "index exact: 4,096 rows are no more than 32,768"
    (rows,) = fitted(images["train"][:4], index="exact", stride=4).diagnostics()
    assert (rows.value, rows.note) == (1024, "index exact: asked for")


def test_what_an_approximate_index_loses_is_reported(blur: BlurSam, images: dict[str, list[np.ndarray]]) -> None:
    train = images["train"]
    half, few, coreset = (
        diagnostics(fitted(train, descriptor_size=256, **options))
        for options in ({"index": "half"}, {"index": "IVF64,Flat", "probes": 1}, {"index": "coreset", "coreset": 0.02})
    )
    for found in (half, few, coreset):
        assert set(found) == {"bank_rows", "index_recall", "index_map_error"}
        for metric in ("index_recall", "index_map_error"):
            assert "2 training images held out of the bank" in found[metric].convention
    assert half["bank_rows"].note == "index half: asked for"
    assert half["index_recall"].value > 0.95
    assert 0 < half["index_map_error"].value < 0.01
    assert few["index_recall"].value < half["index_recall"].value
    assert few["index_map_error"].value > half["index_map_error"].value
    assert coreset["bank_rows"].value == int(0.02 * 8192)
    assert coreset["index_recall"].value < half["index_recall"].value
    assert coreset["index_map_error"].value > half["index_map_error"].value


def test_the_bank_is_read_from_the_cache(
    blur: BlurSam, clock: None, images: dict[str, list[np.ndarray]], cache_folder: Path
) -> None:
    first = fitted(images["train"][:4], index="half")
    expected = first.predict(images["test"][3])
    assert first.saved_seconds == 0
    blur.encoded.clear()
    second = fitted(images["train"][:4], index="half", gamma=2, prompt="peaks", box_scale=3, mask="0")
    assert not blur.encoded
    assert second.saved_seconds == 4, "what encoding four images had taken"
    assert second.diagnostics() == first.diagnostics()
    assert len(cache_entries(cache_folder)) == 1
    third = fitted(images["train"][:4], index="half")
    blur.prompts.clear()
    found = third.predict(images["test"][3])
    np.testing.assert_array_equal(found.anomaly_map, expected.anomaly_map)
    np.testing.assert_array_equal(found.mask, expected.mask)
    assert found.image_score == expected.image_score


def test_what_the_features_cache_saved_belongs_to_the_banks_cost(
    blur: BlurSam, clock: None, images: dict[str, list[np.ndarray]]
) -> None:
    blur.saving = 10
    assert fitted(images["train"][:4]).saved_seconds == 40
    assert fitted(images["train"][:4]).saved_seconds == 44, "the same cost, wherever the saving came from"


@pytest.mark.parametrize(
    "options",
    [
        {"seed": 1},
        {"index": "half"},
        {"probes": 3},
        {"coreset": 0.2},
        {"neighbours": 2},
        {"held_out": 1},
        {"patch_size": 3},
        {"stride": 3},
        {"descriptor_size": 512},
        {"flip": 0.4},
    ],
    ids=lambda options: next(iter(options)),
)
def test_another_bank_is_not_taken_for_it(
    blur: BlurSam, images: dict[str, list[np.ndarray]], options: dict[str, Any]
) -> None:
    fitted(images["train"][:2])
    blur.encoded.clear()
    fitted(images["train"][:2], **options)
    assert len(blur.encoded) == 2


def test_a_bank_of_other_images_or_another_network_is_not_taken_for_it(
    blur: BlurSam, images: dict[str, list[np.ndarray]]
) -> None:
    train = images["train"][:2]
    changed = [train[0], train[1].copy()]
    changed[1][128, 128] ^= 1
    for others in (train, train[::-1], changed, [*train, train[0]], [image[:252, :252] for image in train]):
        blur.encoded.clear()
        fitted(others)
        assert len(blur.encoded) == len(others)
    blur.identity = "another"
    fitted(train)
    assert len(blur.encoded) == 2 * 2


@pytest.mark.parametrize("damaged", ["bank.faiss", "bank.npz"])
def test_a_damaged_bank_is_filled_again(
    blur: BlurSam, images: dict[str, list[np.ndarray]], cache_folder: Path, damaged: str
) -> None:
    expected = fitted(images["train"][:2]).predict(images["test"][3])
    (entry,) = cache_entries(cache_folder)
    (entry / damaged).write_bytes((entry / damaged).read_bytes()[:100])
    blur.encoded.clear()
    found = fitted(images["train"][:2])
    assert len(blur.encoded) == 2
    np.testing.assert_array_equal(found.predict(images["test"][3]).anomaly_map, expected.anomaly_map)
    blur.encoded.clear()
    fitted(images["train"][:2])
    assert not blur.encoded, "it was kept again"


def test_controls_share_the_decoder_and_nothing_else() -> None:
    made = make(weights="published", encoder="vit_l", mask="2", input_size=512, precision="bfloat16", gamma=2)
    controls = [build_method(name, {}, weights="published", device="cpu", seed=0) for name in made.controls()]
    for control, prompt in zip(controls, ("foreground_box", "intensity_box"), strict=True):
        assert isinstance(control, SamControl)
        assert control.prompt == prompt
        assert (control.encoder, control.mask, control.input_size, control.precision) == ("vit_l", "2", 512, "bfloat16")
        assert control.gamma == SamControl().gamma
    assert MiasSam(gamma=2).controls() == ("sam_control[prompt=foreground_box]", "sam_control[prompt=intensity_box]")
    assert [str(parse_method(name)) for name in made.controls()] == list(made.controls())
    assert MiasSam(prompt="vote").controls()[-1] == "sam_control[prompt=vote,sigma=2]", "as many boxes"


def test_with_real_features_a_lesion_stands_out(cache_folder: Path) -> None:
    dataset = phantom_liver_ct(Path(), train=2, valid=2, test=4)
    method = make()
    assert method.weights_used()[0].kind == "embedded"
    train = [dataset.load(case).image for case in dataset.cases("train")]
    method.fit(train)
    case = dataset.cases("test")[-1]
    image, mask = dataset.load(case)
    prediction = method.predict(image)
    assert prediction.anomaly_map.shape == (256, 256)
    assert prediction.anomaly_map.dtype == np.float32
    assert prediction.mask is not None
    assert prediction.mask.any()
    assert prediction.anomaly_map[mask].mean() > prediction.anomaly_map[(image > 0) & ~mask].mean()
    again = make()
    again.fit(train)
    repeated = again.predict(image)
    np.testing.assert_array_equal(repeated.anomaly_map, prediction.anomaly_map)
    np.testing.assert_array_equal(repeated.mask, prediction.mask)
    assert again.saved_seconds > 0


@pytest.mark.slow
def test_the_published_path_runs_with_random_weights(
    serve: Callable[[Path], str],
    tmp_path: Path,
    cache_folder: Path,
    monkeypatch: pytest.MonkeyPatch,
    images: dict[str, list[np.ndarray]],
) -> None:
    """SAM ViT-B, whole: download, verification, encoder, point prompt, three masks; a benchmark runs it at 1024."""
    from segment_anything import sam_model_registry

    torch.manual_seed(0)
    served = tmp_path / "served"
    served.mkdir()
    torch.save(sam_model_registry["vit_b"](checkpoint=None).state_dict(), served / "random.pth")
    checksum = file_checksum(served / "random.pth")
    source = weights.Download("sam_vit_b", f"{serve(served)}/random.pth", f"sha256:{checksum}")
    monkeypatch.setitem(weights.SAM, "vit_b", source)
    monkeypatch.setenv("MIASBENCH_WEIGHTS", str(tmp_path / "weights"))
    for options in ({"precision": "float32", "input_size": 320}, {"precision": "bfloat16", "input_size": 256}):
        method = make(weights="published", normalisation="image", **options)
        assert method.weights_used()[0].sha256 == checksum
        method.fit(images["train"][:1])
        side = options["input_size"] // 32
        assert method.diagnostics()[0].value == side**2
        prediction = method.predict(images["test"][3])
        assert prediction.anomaly_map.shape == (256, 256)
        assert prediction.anomaly_map.min() >= 0
        assert prediction.mask is not None
        assert prediction.mask.shape == (256, 256)


def test_sam_keeps_what_the_stand_in_promises() -> None:
    network = torch.nn.Module()
    network.image_encoder = torch.nn.Identity()
    network.image_encoder.img_size = 64  # type: ignore[assignment]
    sam, stand_in = Sam(network, lambda rgb: rgb, "cpu"), BlurSam()
    for name in ("encode", "decode"):
        assert inspect.signature(getattr(stand_in, name)).parameters.keys() == (
            inspect.signature(getattr(sam, name)).parameters.keys()
        )
    assert isinstance(sam.identity, str)
    assert sam.saved_seconds == stand_in.saved_seconds == 0
