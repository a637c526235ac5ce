"""Does a method keep the contract? It is fitted and predicts on a small phantom, as a run would have it do."""

import json
import pickle
import random
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path
from types import MappingProxyType
from typing import Any

import numpy as np

from ...results.metrics import METRICS
from ..api import BenchError, Diagnostic, LazySequence, Method, Prediction, UsageError, Weights
from ..config import default_data_root
from ..contract import diagnostics_problem, method_problem, prediction_problem
from ..data.frame import frame_image
from ..registry import build_method, check_names, method_class, open_dataset
from ..running.device import seed_everything
from ..specs import Spec, option_types, parse_method
from .other_process import answer
from .rules import Check, Rule, held, problems, told

SIZE = 64
_PHANTOM = f"phantom_brain_mri:train=4,valid=2,test=3,size={SIZE}"
_IN_COLOUR = _PHANTOM.replace("brain_mri", "histology")
_CLOSE = 1e-3  # of the range of a map; what batches and other processes may change
_GENERATORS = ("random", "numpy.random", "torch")


def check_method(
    method: type[Method] | str,
    *,
    options: Mapping[str, Any] = MappingProxyType({}),
    weights: str = "embedded",
    device: str = "cpu",
) -> list[str]:
    """Holds a method to the contract of `harness.api`: fits it and predicts on a small phantom.

    Args:
        method: A class, or the spec of a registered method: `name` or `name[option=value,…]`.
        options: Values of options, such as `{"epochs": 1}`; the other options have their defaults.
        weights: `published` or `embedded`: which pretrained weights, where the method has a choice.
        device: A torch device.

    Returns:
        A sentence for each rule that is broken; empty where the method keeps the contract.

    Raises:
        UsageError: There is no such method, an option is wrong or missing, or the method has no such weights.
        WeightsError: Weights cannot be fetched.

    Examples:
        >>> check_method("intensity")
        []
    """
    return problems(method_checks(method, options=options, weights=weights, device=device))


def method_checks(
    method: type[Method] | str, *, options: Mapping[str, Any], weights: str, device: str
) -> Iterator[Check]:
    """As `check_method`, with every rule that was checked, as soon as it is.

    Raises:
        UsageError: As for `check_method`.
        WeightsError: As for `check_method`.
    """
    complete = "it is a class of methods"
    if isinstance(method, str):
        spec = parse_method(method)
        check_names([spec], [], default_data_root())
        try:
            cls = method_class(spec.name)
        except UsageError as error:
            yield Check(complete, str(error))
            return
    else:
        problem = method_problem(method)
        if problem:
            yield Check(complete, problem)
            return
        spec, cls = Spec(method.__name__), method
    yield Check(complete)
    make = partial(build_method, spec, cls=cls, weights=weights, device=device)
    try:
        make(options, seed=0).weights_used()
    except BenchError:
        raise
    except Exception as error:  # a plugin may raise anything
        yield Check("it can be made", told(error))
        return
    yield from held(_RULES, _MethodTrial(make, dict(options)))


class _MethodTrial:
    """A method on a phantom.

    Attributes:
        method: Fitted, by the rule that it fits.
        first: The first predictions after that fit, by the rule that it predicts.
        written_to: The functions that wrote into images: `fit`, `predict`, `predict_many`.
        is_steady: Whether, as far as is known, a fitted method predicts the same each time.
        is_seeded: Whether, as far as is known, methods with one seed predict the same.
    """

    method: Method
    first: Sequence[Prediction]

    def __init__(self, make: Callable[..., Method], options: Mapping[str, Any], phantom: str = _PHANTOM) -> None:
        self._make, self._options = make, options
        dataset = open_dataset(phantom, default_data_root())
        self.normal, self.images = (
            [frame_image(dataset.load(case).image, SIZE) for case in dataset.cases(split)]
            for split in ("train", "test")
        )
        self.written_to: list[str] = []
        self.is_steady = self.is_seeded = True

    def in_colour(self) -> "_MethodTrial":
        """The same method on a phantom in colour."""
        return _MethodTrial(self._make, self._options, _IN_COLOUR)

    def make(self, seed: int = 0, options: Mapping[str, Any] | None = None) -> Method:
        method = self._make(self._options if options is None else options, seed=seed)
        method.progress = _unheard
        return method

    def fit(self, method: Method, images: Sequence[np.ndarray]) -> None:
        """Fits as a run does: behind global generators that have the method's seed."""
        seed_everything(method.seed)
        given = _Images(images)
        method.fit(given)
        self._look(given, "fit")

    def fitted(self, seed: int = 0) -> Method:
        method = self.make(seed)
        self.fit(method, self.normal)
        return method

    def predict(self, method: Method, reseed: Callable[[], None] = lambda: seed_everything(1)) -> list[Prediction]:
        """Predicts the test images one by one, those of a transductive method together."""
        reseed()
        if method.transductive:
            return self.predict_many(method)
        given = _Images(self.images)
        found = [method.predict(image) for image in given]
        self._look(given, "predict")
        return found

    def predict_many(self, method: Method) -> list[Prediction]:
        given = _Images(self.images)
        found = list(method.predict_many(given))
        self._look(given, "predict_many")
        return found

    def _look(self, given: "_Images", what: str) -> None:
        if given.were_written_to() and what not in self.written_to:
            self.written_to.append(what)


def _unheard(stage: str, done: int, total: int) -> None:
    """Stands in for a progress bar; unlike a run's, it can go to another process with the method."""


class _Images(LazySequence[np.ndarray]):
    """Images as a run hands them out: no list, and a new array each time one is asked for."""

    def __init__(self, images: Sequence[np.ndarray]) -> None:
        super().__init__(len(images), self._give)
        self._images = images
        self._given: list[tuple[int, np.ndarray]] = []

    def _give(self, position: int) -> np.ndarray:
        image = self._images[position].copy()
        self._given.append((position, image))
        return image

    def were_written_to(self) -> bool:
        return any(not np.array_equal(image, self._images[index]) for index, image in self._given)


def _options(trial: _MethodTrial) -> str:
    method = trial.make()
    taken = {"spec", "weights", "device", "seed", "progress", "report", "saved_seconds", "colour", "batches", "batch"}
    shadowed = sorted(taken & set(option_types(type(method))))
    if shadowed:
        return f"the option {shadowed[0]} has the name of an attribute that the harness sets; give it another name."
    options, known = method.options(), option_types(type(method))
    forgotten = [name for name in known if name not in options]
    if forgotten:
        return f"options() leaves out {forgotten[0]}: what is not kept cannot be given again."
    try:
        record = json.loads(json.dumps(options))
    except (TypeError, ValueError) as error:
        return f"options() cannot be kept as JSON ({error}): use numbers, text, lists and None."
    again = {name: record[name]["method"] if kind is Method else record[name] for name, kind in known.items()}
    try:
        repeated = trial.make(options=again).options()
    except UsageError as error:
        return f"options() cannot be given as options: {error}"
    changed = [name for name in options if not _same(options[name], repeated.get(name))]
    if changed:
        name = changed[0]
        return (
            f"a method that is made with options() has {name}={repeated.get(name)!r} instead of {options.get(name)!r}: "
            "options must stay as they are given."
        )
    return ""


def _same(one: Any, other: Any) -> bool:
    """Whether two options are the same in a record."""
    return json.dumps(one, sort_keys=True, default=str) == json.dumps(other, sort_keys=True, default=str)


def _weights(trial: _MethodTrial) -> str:
    weights = trial.make().weights_used()
    if not isinstance(weights, tuple) or not all(isinstance(one, Weights) for one in weights):
        return "weights_used() should return a tuple of miasbench.harness.api.Weights."
    return "" if weights == trial.make().weights_used() else "weights_used() differs from one call to the next."


def _controls(trial: _MethodTrial) -> str:
    check_names(map(parse_method, trial.make().controls()), [], default_data_root())
    return ""


def _fits(trial: _MethodTrial) -> str:
    trial.method = trial.fitted()
    return ""


def _keeps_options(trial: _MethodTrial) -> str:
    before, after = trial.make().options(), trial.method.options()
    changed = [name for name in before if not _same(before[name], after.get(name))]
    return (
        f"fit changes the option {changed[0]}: keep what it finds in an attribute of another name." if changed else ""
    )


def _predicts(trial: _MethodTrial) -> str:
    found = trial.predict(trial.method)
    wrong = [one for one in found if not isinstance(one, Prediction)]
    if wrong:
        return f"it returned {type(wrong[0]).__name__} instead of miasbench.harness.api.Prediction."
    if len(found) != len(trial.images):
        return _wrong_number(found, trial)
    trial.first = found
    return ""


def _wrong_number(found: Sequence[Prediction], trial: _MethodTrial) -> str:
    return f"predict_many made {len(found)} predictions of {len(trial.images)} images."


def _types(trial: _MethodTrial) -> str:
    for prediction in trial.first:
        anomaly_map, mask = prediction.anomaly_map, prediction.mask
        if not isinstance(anomaly_map, np.ndarray) or anomaly_map.dtype != np.float32:
            kind = anomaly_map.dtype if isinstance(anomaly_map, np.ndarray) else type(anomaly_map).__name__
            return f"the anomaly map is {kind}, it should be a numpy array of float32."
        if mask is not None and not isinstance(mask, np.ndarray):
            return f"the mask is {type(mask).__name__}, it should be a numpy array of bool, or None."
        problem = prediction_problem(prediction, SIZE)
        if problem:
            return problem
    return ""


def _images(trial: _MethodTrial) -> str:
    if trial.written_to:
        return f"{' and '.join(trial.written_to)} writes into the images that it is given: work on a copy."
    return ""


def _repeats(trial: _MethodTrial) -> str:
    difference = _difference(trial.first, trial.predict(trial.method))
    trial.is_steady = not difference
    if difference:
        return f"when the same images are predicted a second time, {difference}: predictions change the method."
    return ""


def _global_generators(trial: _MethodTrial) -> str | None:
    if not trial.is_steady:
        return None
    if not _difference(trial.first, trial.predict(trial.method, lambda: seed_everything(2))):
        return ""
    trial.is_steady = False
    used = [name for name in _GENERATORS if _difference(trial.first, trial.predict(trial.method, _reseeded(name)))]
    return (
        f"predictions change with the global generator of {' and '.join(used)}: draw from a generator that is made of "
        "self.seed."
    )


def _reseeded(name: str) -> Callable[[], None]:
    """Brings the global generators to where `_MethodTrial.predict` has them, but for one."""

    def reseed() -> None:
        import torch

        seed_everything(1)
        seed = {"random": random.seed, "numpy.random": np.random.seed, "torch": torch.manual_seed}[name]
        seed(2)

    return reseed


def _predicts_many(trial: _MethodTrial) -> str | None:
    if not trial.is_steady or trial.method.transductive:
        return None
    seed_everything(1)
    found = trial.predict_many(trial.method)
    if len(found) != len(trial.images):
        return _wrong_number(found, trial)
    difference = _difference(trial.first, found, _CLOSE)
    if not difference:
        return ""
    alone = [[not _difference([one], [other], _CLOSE) for other in found] for one in trial.first]
    if all(any(row) for row in alone):
        return "predict_many returns predictions in another order than that of the images."
    return f"predict_many and predict disagree: {difference}."


def _is_seeded(trial: _MethodTrial) -> str:
    difference = _difference(trial.first, trial.predict(trial.fitted()))
    trial.is_seeded = not difference
    if difference:
        return f"of two methods with the seed 0, {difference}: make every generator of self.seed."
    return ""


def _is_deterministic(trial: _MethodTrial) -> str | None:
    if trial.method.stochastic or not trial.is_seeded:
        return None
    difference = _difference(trial.first, trial.predict(trial.fitted(seed=1)))
    if difference:
        return f"`stochastic` is False, but with another seed {difference}."
    return ""


def _forgets(trial: _MethodTrial) -> str | None:
    if not trial.is_seeded:
        return None
    method = trial.make()
    trial.fit(method, [255 - image for image in trial.normal])
    trial.fit(method, trial.normal)
    difference = _difference(trial.first, trial.predict(method))
    if difference:
        return f"after a fit on other images and one on the same images, {difference}: fit must begin anew."
    return ""


def _takes_colour(trial: _MethodTrial) -> str | None:
    if not trial.method.colour:
        return None
    in_colour = trial.in_colour()
    for rule in (_fits, _predicts, _types, _images):
        if problem := rule(in_colour):
            return problem
    if trial.is_steady and (difference := _difference(in_colour.first, in_colour.predict(in_colour.method))):
        return f"when the same images are predicted a second time, {difference}."
    return ""


def _diagnostics(trial: _MethodTrial) -> str:
    diagnostics = trial.method.diagnostics()
    if not all(isinstance(one, Diagnostic) for one in diagnostics):
        return "diagnostics() should return a tuple of miasbench.harness.api.Diagnostic."
    for one in diagnostics:
        float(one.value)
    problem = diagnostics_problem(diagnostics, METRICS)
    return f"it {problem}" if problem else ""


def _moves(trial: _MethodTrial) -> str | None:
    if not trial.is_steady:
        return None
    if type(trial.method).__module__ == "__main__":
        return "it is defined in a script or a notebook, where other processes do not find it: put it into a module."
    try:
        request = pickle.dumps((trial.method, trial.images))
    except Exception as error:  # pickle raises whatever an attribute raises
        return f"it cannot be pickled: {' '.join(str(error).split())}"
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "request.pickle"
        path.write_bytes(request)
        code = f"import sys; sys.path[:] = {sys.path!r}; from {answer.__module__} import answer; answer(sys.argv[1])"
        done = subprocess.run([sys.executable, "-c", code, path], capture_output=True, text=True, check=False)
        if done.returncode:
            last = (done.stderr.strip().splitlines() or [f"exit code {done.returncode}"])[-1]
            return f"another process cannot use it: {last}"
        found = pickle.loads(path.read_bytes())
    difference = _difference(trial.first, found, _CLOSE)
    return f"in another process {difference}." if difference else ""


def _difference(ones: Sequence[Prediction], others: Sequence[Prediction], tolerance: float = 0.0) -> str:
    """How the second predictions differ from the first, as a clause; empty where they do not.

    Args:
        ones: Predictions of some images.
        others: Predictions of the same images.
        tolerance: Allowed difference, as a share of a map's range and of a mask's pixels.
    """
    for number, (one, other) in enumerate(zip(ones, others, strict=True), start=1):
        maps = np.asarray(one.anomaly_map, float), np.asarray(other.anomaly_map, float)
        room = tolerance * float(np.ptp(maps[0])) if np.isfinite(maps[0]).all() else 0.0
        if maps[0].shape != maps[1].shape or not np.allclose(*maps, rtol=0, atol=room, equal_nan=True):
            return f"the anomaly map of image {number} differs"
        if not np.isclose(one.image_score, other.image_score, rtol=tolerance, atol=room, equal_nan=True):
            return f"the image score of image {number} is {other.image_score} instead of {one.image_score}"
        if _masks_differ(one.mask, other.mask, tolerance):
            return f"the mask of image {number} differs"
    return ""


def _masks_differ(one: np.ndarray | None, other: np.ndarray | None, tolerance: float) -> bool:
    if one is None or other is None:
        return one is not other
    return np.shape(one) != np.shape(other) or float(np.mean(np.not_equal(one, other))) > tolerance


_RULES: tuple[Rule[_MethodTrial], ...] = (
    Rule("its options can be kept and given again", _options),
    Rule("it names its weights", _weights),
    Rule("its controls exist", _controls),
    Rule("it fits", _fits, needed=True),
    Rule("fitting leaves its options as they are", _keeps_options),
    Rule("it predicts", _predicts, needed=True),
    Rule("predictions have the shapes and types of the contract", _types),
    Rule("the images that it is given stay as they are", _images),
    Rule("a second prediction of an image is the first one", _repeats),
    Rule("predictions use no global random generator", _global_generators),
    Rule("predict_many does what predict does", _predicts_many),
    Rule("the same seed gives the same predictions", _is_seeded),
    Rule("the seed changes nothing where nothing is random", _is_deterministic),
    Rule("a second fit forgets the first", _forgets),
    Rule("it takes images in colour, as it says", _takes_colour),
    Rule("its diagnostics have names of their own", _diagnostics),
    Rule("another process can use it", _moves),
)
