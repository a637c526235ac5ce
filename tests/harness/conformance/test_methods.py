"""A method that keeps the contract passes; one that breaks a rule is told which, in a sentence, and no other."""

import importlib
from collections.abc import Sequence
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest

from miasbench.harness.api import Method, Prediction, UsageError
from miasbench.harness.conformance.methods import check_method
from miasbench.harness.conformance.testing import assert_method_conforms

SUPPORT = Path(__file__).parents[2] / "support"
RESTORING = ("ae[epochs=1]", "vae[epochs=1]", "ae_u[epochs=1]", "dae[epochs=1,width=8]")
SLOWER = (*RESTORING, "fae[epochs=1,width=16]", "patchcore", "subspace", "dpmm")


@pytest.fixture
def methods(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    """The methods of broken_methods.py, where a process that this one starts finds them too."""
    monkeypatch.syspath_prepend(SUPPORT)
    return importlib.import_module("broken_methods")


@pytest.mark.parametrize(
    "spec",
    ["intensity", *(pytest.param(spec, marks=pytest.mark.slow) for spec in SLOWER)],
)
def test_built_in_methods_keep_the_contract(spec: str) -> None:
    assert check_method(spec) == []


@pytest.mark.parametrize("name", ["Sound", "Together", "Coloured"])
def test_a_class_that_is_not_registered_can_be_checked(methods: ModuleType, name: str) -> None:
    assert_method_conforms(getattr(methods, name))


def test_options_can_be_given_to_a_class(methods: ModuleType) -> None:
    assert check_method(methods.Sound, options={"gain": "2"}) == []
    with pytest.raises(UsageError, match="Sound has no option 'gian'"):
        check_method(methods.Sound, options={"gian": 2})


@pytest.mark.parametrize(
    ("name", "says"),
    [
        ("Incomplete", "it is a class of methods: it does not define predict."),
        ("Tinted", "it is a class of methods: its attribute `colour` is 'yes'; it should be True or False"),
        ("Flat", "it takes images in colour, as it says: the anomaly map is (64, 64, 3), the image (64, 64)."),
        ("Unmade", "it can be made: RuntimeError: no licence ("),
        ("Shadowing", "its options can be kept and given again: the option seed has the name of an attribute"),
        ("Unrecorded", "its options can be kept and given again: options() cannot be kept as JSON (Object of type nda"),
        ("Squaring", "made with options() has power=81.0 instead of 9.0"),
        ("Hiding", "options() leaves out gain"),
        ("Weighty", "it names its weights: weights_used() should return a tuple"),
        ("Accompanied", "its controls exist: There is no method 'intensty'. Did you mean 'intensity'?"),
        ("Failing", "it fits: ValueError: out of cheese ("),
        ("Listing", "it fits: AttributeError: '_Images' object has no attribute 'copy' ("),
        ("Adapting", "fitting leaves its options as they are: fit changes the option level"),
        ("Tuple", "it predicts: it returned tuple instead of miasbench.harness.api.Prediction."),
        ("Dropping", "it predicts: predict_many made 2 predictions of 3 images."),
        ("Cropped", "shapes and types of the contract: the anomaly map is (63, 64), the image (64, 64)."),
        ("Doubled", "shapes and types of the contract: the anomaly map is float64, it should be a numpy array of floa"),
        ("Undefined", "shapes and types of the contract: the anomaly map or the image score holds NaN or infinity."),
        ("Endless", "shapes and types of the contract: the anomaly map or the image score holds NaN or infinity."),
        ("Masked", "shapes and types of the contract: the mask is uint8 (64, 64), it should be bool (64, 64)."),
        ("Prompted", "shapes and types of the contract: a prompt is neither a point (x, y) nor a box"),
        ("Lost", "shapes and types of the contract: a prompt is neither a point (x, y) nor a box"),
        ("Scribbling", "the images that it is given stay as they are: predict writes into the images"),
        ("Drifting", "a second prediction of an image is the first one: when the same images are predicted a second"),
        ("DrawingNumpy", "predictions change with the global generator of numpy.random: draw"),
        ("DrawingRandom", "predictions change with the global generator of random: draw"),
        ("DrawingTorch", "predictions change with the global generator of torch: draw"),
        ("Short", "predict_many does what predict does: predict_many made 2 predictions of 3 images."),
        ("Backward", "predict_many does what predict does: predict_many returns predictions in another order"),
        ("Batched", "predict_many does what predict does: predict_many and predict disagree: the anomaly map of image"),
        ("Unseeded", "the same seed gives the same predictions: of two methods with the seed 0, the anomaly map of im"),
        ("Certain", "the seed changes nothing where nothing is random: `stochastic` is False, but with another seed"),
        ("Remembering", "a second fit forgets the first: after a fit on other images and one on the same images, the"),
        ("Boasting", "its diagnostics have names of their own: it reports a diagnostic 'dice', but a metric of the h"),
        ("Repeating", "its diagnostics have names of their own: it reports a diagnostic 'index_recall', but"),
        ("Holding", "another process can use it: it cannot be pickled: "),
    ],
)
def test_a_broken_rule_is_named_and_no_other(methods: ModuleType, name: str, says: str) -> None:
    (problem,) = check_method(getattr(methods, name))
    assert says in problem
    assert "\n" not in problem


def test_a_class_that_other_processes_do_not_find_is_told_so() -> None:
    class Local(Method):
        def fit(self, images: Sequence[np.ndarray]) -> None: ...

        def predict(self, image: np.ndarray) -> Prediction:
            return Prediction(image.astype(np.float32), 0.0)

    (problem,) = check_method(Local)
    assert problem.startswith("another process can use it: it cannot be pickled: ")
    Local.__module__ = "__main__"
    (problem,) = check_method(Local)
    assert "it is defined in a script or a notebook" in problem


def test_a_test_that_fails_has_a_line_for_each_broken_rule(methods: ModuleType) -> None:
    class Worse(methods.Scribbling):
        def predict(self, image: np.ndarray) -> Prediction:
            return Prediction(super().predict(image).anomaly_map.astype(float), 0.0)

    with pytest.raises(AssertionError) as caught:
        assert_method_conforms(Worse)
    first, *others = str(caught.value).splitlines()
    assert first == "It breaks the contract."
    assert [line.partition(":")[0] for line in others] == [
        "predictions have the shapes and types of the contract",
        "the images that it is given stay as they are",
        "another process can use it",
    ]


def test_a_name_that_there_is_none_of_is_one_message() -> None:
    with pytest.raises(UsageError, match="Did you mean 'intensity'"):
        check_method("intensty")


def test_weights_that_a_method_has_not_are_one_message() -> None:
    with pytest.raises(UsageError, match="has no embedded weights"):
        check_method("anomaly_dino")
