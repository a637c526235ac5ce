"""Names of methods, datasets and threshold policies, and how each becomes an object.

Targets are strings that are imported when asked for, so that listing them loads no torch. What is known of the
built-in methods stands in `methods/cards.yaml`. Third parties add theirs through the entry-point groups
`miasbench.methods`, `miasbench.datasets`, `miasbench.policies` and `miasbench.foregrounds`.
"""

import dataclasses
import importlib
import importlib.resources
import inspect
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager, nullcontext
from functools import lru_cache
from importlib.metadata import EntryPoint, EntryPoints, entry_points
from pathlib import Path
from types import MappingProxyType
from typing import Any, cast, get_type_hints

import numpy as np
import yaml

from .api import BenchError, DataError, Dataset, Method, ThresholdPolicy, UsageError
from .contract import method_problem, policy_problem
from .paths import absolute, expanded, is_there
from .specs import (
    Spec,
    check_complete,
    check_options,
    dataset_name,
    option_types,
    parse_dataset,
    parse_method,
    suggest,
)

BUILT_IN = "miasbench"
GROUPS = ("miasbench.methods", "miasbench.datasets", "miasbench.policies", "miasbench.foregrounds")
"""The entry-point groups in which plugins declare what they bring."""


@dataclasses.dataclass(frozen=True)
class Entry:
    """The facts about a name before it is imported; for a method, its card in `methods/cards.yaml`.

    Attributes:
        target: `module:attribute`.
        summary: One line.
        distribution: The distribution that provides it.
        paper: Where the method comes from.
        trained: Whether fitting it is training by gradients.
        needs: Things that it requires, beside weights.
        weights: The network behind each value of `--weights`: `{"published": "Wide ResNet-50-2"}`.
        licence: Licence of code and weights that come from others.
        anomalib: The class that an adapter drives.
        options: Its hyperparameters, where they are not the class's own.
        schedule: Schedule of the training, as published.
        input_size: Width in pixels to which it resizes images.
        source: Source of the hyperparameters.
    """

    target: str
    summary: str
    distribution: str = BUILT_IN
    paper: str = ""
    trained: bool = False
    needs: str = ""
    weights: Mapping[str, str] = dataclasses.field(default_factory=dict)
    licence: str = ""
    anomalib: str = ""
    options: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    schedule: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    input_size: int | None = None
    source: str = ""


def _read_cards() -> dict[str, Entry]:
    text = importlib.resources.files("miasbench.methods").joinpath("cards.yaml").read_text(encoding="utf-8")
    return {name: Entry(**card) for name, card in yaml.safe_load(text).items()}


METHODS = _read_cards()
DATASETS = {
    "brain_mri": Entry("miasbench.datasets.bmad:brain_mri", "BMAD: BraTS2021 FLAIR slices"),
    "liver_ct": Entry("miasbench.datasets.bmad:liver_ct", "BMAD: BTCV and LiTS liver CT slices"),
    "retina_oct": Entry("miasbench.datasets.bmad:retina_oct", "BMAD: RESC OCT scans"),
    "oct2017": Entry("miasbench.datasets.bmad:oct2017", "BMAD: OCT2017 scans, image labels only"),
    "rsna": Entry("miasbench.datasets.bmad:rsna", "BMAD: RSNA chest X-rays, image labels only"),
    "camelyon16": Entry("miasbench.datasets.bmad:camelyon16", "BMAD: Camelyon16 patches, image labels only"),
    "phantom_brain_mri": Entry("miasbench.datasets.phantom:phantom_brain_mri", "Generated FLAIR-like slices"),
    "phantom_liver_ct": Entry("miasbench.datasets.phantom:phantom_liver_ct", "Generated liver CT slices"),
    "phantom_retina_oct": Entry("miasbench.datasets.phantom:phantom_retina_oct", "Generated OCT B-scans"),
    "phantom_histology": Entry("miasbench.datasets.histology:phantom_histology", "Generated tissue in colour"),
}
POLICIES = {
    "normal_quantile": Entry("miasbench.harness.scoring.policies:NormalQuantile", "Normal images: their quantile q"),
    "normal_mean_std": Entry("miasbench.harness.scoring.policies:NormalMeanStd", "Normal images: mean + deviations"),
    "normal_fpr": Entry(
        "miasbench.harness.scoring.normal_policies:NormalFpr", "Normal images: a rate of false-positive pixels"
    ),
    "normal_image_fpr": Entry(
        "miasbench.harness.scoring.normal_policies:NormalImageFpr", "Normal images: a rate of images with any positive"
    ),
    "conformal": Entry(
        "miasbench.harness.scoring.normal_policies:Conformal", "Normal images: that rate, guaranteed for new ones"
    ),
    "conformal_risk": Entry(
        "miasbench.harness.scoring.normal_policies:ConformalRisk", "Normal images: the rate of pixels, guaranteed"
    ),
    "valid_dice": Entry("miasbench.harness.scoring.policies:ValidDice", "Validation: the best mean DICE"),
    "valid_f1": Entry("miasbench.harness.scoring.policies:ValidF1", "Validation: the best F1 of all pixels"),
    "otsu": Entry("miasbench.harness.scoring.image_policies:Otsu", "The image itself: Otsu's threshold of its map"),
    "triangle": Entry("miasbench.harness.scoring.image_policies:Triangle", "The image itself: the triangle threshold"),
    "entropy": Entry("miasbench.harness.scoring.image_policies:Entropy", "The image itself: the largest entropy"),
    "mebin": Entry("miasbench.harness.scoring.image_policies:MeBin", "The image and normal images: stable components"),
    "oracle_dice": Entry("miasbench.harness.scoring.policies:OracleDice", "The test set's masks: an upper bound"),
}
GIVEN_POLICIES = {
    "own": Entry("", "Nothing: the mask that the method itself makes"),
    "fixed": Entry("miasbench.harness.scoring.policies:Fixed", "Nothing: the threshold that the user gives"),
}
"""Names that stand among the policies in the tables, and choose nothing."""

ALL_POLICIES = Spec("all")
"""Among policies, it stands for every one that there is, each with its defaults."""

FOREGROUNDS = {
    "all": Entry("miasbench.harness.data.foreground:whole", "All of the image"),
    "otsu": Entry("miasbench.harness.data.foreground:otsu", "The body on dark air: Otsu's threshold, holes filled"),
}
"""The rules that find the foreground of an image, uint8 (H, W) to bool (H, W)."""
FOREGROUND_MASKS = "masks"
"""Among the rules of foregrounds, it stands for masks that come with the dataset."""

IMPORTED = "imported"
"""The name of predictions from a folder, as in `imported[path=DIR]`."""

ANOMALIB = "anomalib:"
"""The beginning of the name of a model of anomalib."""

_FOLDER = Entry("miasbench.datasets.folder:open_folder", "A folder in BMAD's layout, or a YAML card")


@contextmanager
def needs_methods(what: str) -> Iterator[None]:
    """Says in a block, or in a function that this decorates, how to install what only methods need.

    Args:
        what: The subject of the sentence, such as `mias_sam`.

    Raises:
        UsageError: The block imports a package that is not installed.
    """
    try:
        yield
    except ModuleNotFoundError as error:
        raise UsageError(
            f"{what} needs {error.name}, which is not installed: pip install 'miasbench[methods]'"
        ) from error


def plugin_points(group: str) -> EntryPoints:
    """The entry points of a group; every distribution is read again only where something was installed meanwhile."""
    return _points(group, tuple((folder, _changed(folder)) for folder in sys.path))


def methods() -> dict[str, Entry]:
    """Every method's name, built in or from a plugin; built-in names win."""
    return _plugins("miasbench.methods") | METHODS


def datasets() -> dict[str, Entry]:
    """Every dataset's name, built in or from a plugin; built-in names win."""
    return _plugins("miasbench.datasets") | DATASETS


def registered(data_root: Path) -> dict[str, Entry]:
    """The names of the cards in a data root, where `bench data add` puts them."""
    cards = sorted(data_root.glob("*.yaml")) if data_root.is_dir() else []
    return {card.stem: Entry(_FOLDER.target, f"Registered: {card}") for card in cards}


def policies() -> dict[str, Entry]:
    """Every threshold policy's name, built in or from a plugin; built-in names win."""
    return _plugins("miasbench.policies") | POLICIES


def dataset_entry(text: str) -> Entry:
    """The entry of a dataset, with or without options; for a folder or a card, that of miasbench's own reader."""
    return datasets().get(dataset_name(text), _FOLDER)


def all_policies() -> dict[str, Entry]:
    """Everything that stands in the column `policy` of the tables of masks, with what it looks at."""
    return GIVEN_POLICIES | policies()


def method_entry(name: str) -> Entry:
    """The entry of a method, also of `imported` and of `anomalib:ClassName`, which have no card.

    Raises:
        UsageError: The name is unknown.
    """
    if name == IMPORTED:
        return Entry("miasbench.harness.exchange.imported:Imported", "Predictions that were made elsewhere")
    if name.startswith(ANOMALIB):
        return Entry(f"miasbench.methods.{name}", "A model of anomalib's with its own defaults")
    return _find(name, methods(), "method")


def method_class(name: str) -> type[Method]:
    """Imports a method and checks it against the contract.

    Raises:
        UsageError: The name is unknown, or the plugin behind it is broken.
    """
    entry = method_entry(name)
    method: Any = _import(name, entry)
    problem = method_problem(method)
    if problem:
        raise UsageError(
            f"The method {name} ({entry.target}, from {entry.distribution}) breaks the contract: {problem}"
        )
    return method


def find_policy(name: str) -> Entry:
    """What is known of a threshold policy.

    Raises:
        UsageError: The name is unknown.
    """
    return _find(name, policies(), "policy")


def policy_class(name: str) -> type[ThresholdPolicy]:
    """Imports a threshold policy and checks it against the contract.

    Raises:
        UsageError: The name is unknown, or the plugin behind it is broken.
    """
    if name in GIVEN_POLICIES:
        entry = GIVEN_POLICIES[name]
        if not entry.target:
            raise UsageError(f"{name} cannot be chosen: where a method makes masks itself, they are always scored.")
        return _import(name, entry)
    entry = find_policy(name)
    policy: Any = _import(name, entry)
    if problem := policy_problem(name, policy):
        raise UsageError(f"{entry.target} breaks the contract: {problem}")
    return policy


def foreground_entry(name: str) -> Entry:
    """What is known of a rule that finds the foreground of an image.

    Raises:
        UsageError: The name is unknown.
    """
    return _find(name, _plugins("miasbench.foregrounds") | FOREGROUNDS, "foreground")


def foreground_rule(name: str) -> Callable[[np.ndarray], np.ndarray]:
    """Imports a rule that finds the foreground of an image.

    Raises:
        UsageError: The name is unknown, or the plugin behind it is broken.
    """
    entry = foreground_entry(name)
    rule: Any = _import(name, entry)
    if not callable(rule):
        raise UsageError(f"The foreground {name} ({entry.target}, from {entry.distribution}) is no function of images.")
    return cast("Callable[[np.ndarray], np.ndarray]", rule)


def make_policy(spec: Spec) -> ThresholdPolicy:
    """Makes a threshold policy, whose options are its fields.

    Raises:
        UsageError: The name is unknown, the plugin behind it is broken, or an option is unknown, missing or wrong.
    """
    cls = policy_class(spec.name)
    options = check_options(str(spec), dict(spec.options), option_types(cls)) if spec.options else {}
    check_complete(spec, cls, options)
    try:
        return cls(**options)
    except (TypeError, ValueError) as error:  # a plugin may check its options itself
        raise UsageError(f"{spec}: {error}") from error


def make_policies(specs: Iterable[Spec] = (ALL_POLICIES,)) -> dict[str, ThresholdPolicy | UsageError]:
    """Makes threshold policies, by their texts; in the place of one that cannot be made stands why."""
    made: dict[str, ThresholdPolicy | UsageError] = {}
    for spec in _each(specs):
        try:
            made[str(spec)] = make_policy(spec)
        except UsageError as error:
            made[str(spec)] = error
    return made


def check_policies(specs: Iterable[Spec]) -> None:
    """Refuses threshold policies that cannot be made, among those that are asked for by name.

    Raises:
        UsageError: As `make_policy`.
    """
    for spec in specs:
        if spec != ALL_POLICIES:
            make_policy(spec)


def _each(policies_asked: Iterable[Spec]) -> Iterator[Spec]:
    for spec in policies_asked:
        yield from map(Spec, policies()) if spec == ALL_POLICIES else [spec]


def build_method(
    spec: Spec | str,
    options: Mapping[str, Any],
    *,
    weights: str,
    device: str,
    seed: int,
    settings: Mapping[str, Mapping[str, Any]] = MappingProxyType({}),
    shared: Mapping[str, Any] = MappingProxyType({}),
    cls: type[Method] | None = None,
) -> Method:
    """Makes a method ready to fit.

    An option that is annotated `Method` is given by a spec, and the method behind it is made in the same way.

    Args:
        spec: A spec, or its text, `name` or `name[option=value,…]`.
        options: Options of every variant of the method; the spec's own win over them.
        weights: `published` or `embedded`.
        device: A torch device.
        seed: Seed of everything random.
        settings: `options` of the methods that this one is given as options, by name.
        shared: Options that go to this method and those inside it as far as they have them; all others win over them.
        cls: The class to make, where it is not the one that is registered under the name.

    Raises:
        UsageError: An option is unknown, missing or has a wrong value, or a method has no such weights.
    """
    variant = parse_method(spec) if isinstance(spec, str) else spec
    cls = cls or method_class(variant.name)
    known = option_types(cls)
    given = {key: value for key, value in shared.items() if key in known} | dict(options) | dict(variant.options)
    inner: dict[str, Method] = {}
    for key in [key for key in given if known.get(key) is Method]:
        text = str(given.pop(key))
        try:
            inside = parse_method(text)
            own = settings.get(inside.name, {})
            inner[key] = build_method(
                inside, own, weights=weights, device=device, seed=seed, settings=settings, shared=shared
            )
        except UsageError as error:
            raise UsageError(f"{variant.name}.{key}: {error}") from error
    checked = check_options(str(variant), given, known) | inner
    check_complete(variant, cls, checked)
    method = cls(**checked)
    if cls.uses_weights and weights not in cls.uses_weights:
        reason = f": it {cls.lacks_weights}" if cls.lacks_weights else ""
        raise UsageError(f"{variant} has no {weights} weights{reason}. It has {', '.join(cls.uses_weights)} ones.")
    method.spec, method.weights, method.device, method.seed = str(variant), weights, device, seed
    return method


def with_inner(method: Method) -> Iterator[Method]:
    """The method, and those it was given as options."""
    yield method
    for name in option_types(type(method)):
        value = getattr(method, name)
        if isinstance(value, Method):
            yield from with_inner(value)


def method_names(method: Method) -> list[str]:
    """The names, without options, of the method and of those it was given as options; each once."""
    return list(dict.fromkeys(parse_method(one.spec).name for one in with_inner(method)))


def dataset_path(text: str, data_root: Path) -> Path | None:
    """The folder or card that a text means; `None` where it is a dataset's name, with options or without."""
    if dataset_name(text) in datasets() or text in registered(data_root):
        return None
    path = expanded(text)
    is_path = is_there(path) or "/" in path or path.endswith((".yaml", ".yml"))
    return Path(path) if is_path else None


def located(text: str, data_root: Path) -> str:
    """The dataset as it means the same from every folder: a path from the root on, or the name in its one spelling.

    Raises:
        UsageError: The options behind a name are not of the form option=value.
    """
    path = dataset_path(text, data_root)
    if path is not None:
        return str(absolute(path))
    return parse_dataset(text).with_colon() if dataset_name(text) in datasets() else text


def check_names(specs: Iterable[Spec], dataset_texts: Iterable[str], data_root: Path) -> None:
    """Refuses methods and datasets that there are none of; takes no import of torch, and so no seconds.

    Raises:
        UsageError: A name is unknown.
        DataError: There is nothing at a path.
    """
    for spec in specs:
        method_entry(spec.name)
    for text in dataset_texts:
        path = dataset_path(text, data_root)
        if path is None:
            _find_dataset(text, data_root)
        elif not is_there(str(path)):
            raise DataError(f"There is no dataset at {path.absolute()}. Give a folder of images or a card (.yaml).")


def open_dataset(text: str, data_root: Path) -> Dataset:
    """Opens a dataset by its name, or a folder of images, or a card (`.yaml`).

    Args:
        text: `name`, `name[option=value,…]`, `name:option=value,…`, the name of a card in the data root, or a path.
        data_root: Where datasets are.

    Raises:
        UsageError: The name or an option is unknown.
        DataError: The data are missing or broken.
    """
    path = dataset_path(text, data_root)
    if path is not None:
        return _import(text, _FOLDER)(path)
    entry = _find_dataset(text, data_root)
    if text in registered(data_root) and dataset_name(text) not in datasets():
        return _import(text, _FOLDER)(data_root / f"{text}.yaml")
    spec = parse_dataset(text)
    factory = _import(spec.name, entry)
    hints = get_type_hints(factory, include_extras=True)
    parameters = list(inspect.signature(factory).parameters.values())[1:]
    checked = check_options(spec.name, dict(spec.options), {p.name: hints.get(p.name, str) for p in parameters})
    dataset = factory(data_root, **checked)
    if not isinstance(dataset, Dataset):
        raise UsageError(f"The dataset {spec.name} breaks the contract: its factory returned {type(dataset).__name__}.")
    dataset.name = spec.with_colon()  # two variants of one dataset in a run must differ in the tables
    return dataset


def _find_dataset(text: str, data_root: Path) -> Entry:
    known = datasets() | registered(data_root)
    return known[text] if text in known else _find(dataset_name(text), known, "dataset")


def _plugins(group: str) -> dict[str, Entry]:
    return {point.name: _entry(point) for point in plugin_points(group)}


@lru_cache(maxsize=len(GROUPS))
def _points(group: str, folders: tuple[tuple[str, int], ...]) -> EntryPoints:
    """Reads the entry points of every distribution in these folders, of which each has the time of its last change."""
    return entry_points(group=group)


def _changed(folder: str) -> int:
    path = Path(folder or ".")
    return path.stat().st_mtime_ns if path.exists() else 0


def _entry(point: EntryPoint) -> Entry:
    distribution = f"{point.dist.name} {point.dist.version}" if point.dist else "an unknown distribution"
    return Entry(point.value, f"Plugin of {distribution}", distribution)


def _find(name: str, known: Mapping[str, Entry], kind: str) -> Entry:
    if name not in known:
        more = " A folder is named by its path, such as ./NAME." if kind == "dataset" else ""
        raise UsageError(f"There is no {kind} {name!r}. {suggest(name, known)}{more}")
    return known[name]


def _import(name: str, entry: Entry) -> Any:
    module, _, attribute = entry.target.partition(":")
    try:
        with needs_methods(name) if entry.distribution == BUILT_IN else nullcontext():
            return getattr(importlib.import_module(module), attribute)
    except BenchError:
        raise
    except Exception as error:  # a plugin's module may raise anything when it is imported
        raise UsageError(
            f"{name} ({entry.target}, from {entry.distribution}) cannot be imported: {type(error).__name__}: {error}"
        ) from error
