import dataclasses
import os
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Annotated, Any, Literal

import numpy as np
import pytest
from pydantic import Field

from miasbench.harness import registry
from miasbench.harness.api import (
    Dataset,
    ImagePolicy,
    Method,
    OraclePolicy,
    Prediction,
    ThresholdPolicy,
    UsageError,
    ValidationPolicy,
)
from miasbench.harness.registry import (
    ALL_POLICIES,
    Entry,
    build_method,
    check_policies,
    located,
    make_policies,
    make_policy,
    method_class,
    open_dataset,
    with_inner,
)
from miasbench.harness.scoring.image_policies import Otsu
from miasbench.harness.scoring.policies import Fixed, NormalQuantile
from miasbench.harness.specs import Spec, parse_policy, split_list

Register = Callable[..., None]


@dataclass(kw_only=True)
class Plain(Method):
    """Keeps the contract."""

    depth: Annotated[int, Field(ge=1)] = 3
    kind: Literal["a", "0"] = "a"
    fast: bool = False
    uses_weights = ("embedded",)

    def fit(self, images: Sequence[np.ndarray]) -> None: ...

    def predict(self, image: np.ndarray) -> Prediction:
        return Prediction(image.astype(np.float32), 0.0)


@dataclass(kw_only=True)
class Outer(Plain):
    """Has another method inside."""

    inside: Method
    depth: int = 1


class NoPredict(Method):
    def fit(self, images: Sequence[np.ndarray]) -> None: ...


class WrongPredict(Plain):
    def predict(self, image: np.ndarray, threshold: float) -> Prediction:  # pyright: ignore[reportIncompatibleMethodOverride]
        return Prediction(image, threshold)


@pytest.fixture
def register(monkeypatch: pytest.MonkeyPatch) -> Iterator[Register]:
    module = ModuleType("bench_test_plugins")
    monkeypatch.setitem(sys.modules, module.__name__, module)

    def add(name: str, target: Any, group: str = "METHODS") -> None:
        setattr(module, name, target)
        entry = Entry(f"{module.__name__}:{name}", "for a test", "plugins 1.0")
        monkeypatch.setitem(getattr(registry, group), name, entry)

    yield add


def build(name: str, weights: str = "embedded", **options: Any) -> Method:
    return build_method(name, options, weights=weights, device="cpu", seed=7)


@pytest.mark.parametrize("name", sorted(registry.METHODS))
def test_every_method_keeps_the_contract(name: str) -> None:
    options = {"base": "intensity"} if name == "sam_refine" else {}
    kinds = method_class(name).uses_weights or ("embedded",)
    method = build(name, kinds[0], **options)
    assert isinstance(method, Method)
    assert (method.spec, method.weights, method.device, method.seed) == (name, kinds[0], "cpu", 7)
    assert method.options() == method.options()
    assert set(method.options()) == set(build(name, kinds[0], **options).options())


@pytest.mark.parametrize("name", sorted(registry.METHODS))
def test_every_card_is_complete(name: str) -> None:
    card = registry.METHODS[name]
    for text in (card.target, card.summary, card.paper, card.licence, card.source):
        assert text
        assert "\n" not in text.strip()
    assert set(card.weights) <= {"published", "embedded"}
    cls = method_class(name)
    assert set(card.weights) == set(cls.uses_weights)
    if card.trained:  # what the page says is what is done
        schedule = vars(cls.published)  # type: ignore[attr-defined]
        assert {key: value for key, value in schedule.items() if value} == dict(card.schedule)


@pytest.mark.parametrize(
    ("name", "says"),
    [("mias_sma", "Did you mean 'mias_sam'?"), ("zebra", f"Known: {', '.join(sorted(registry.METHODS))}.")],
)
def test_an_unknown_method_gets_a_suggestion_and_the_list(name: str, says: str) -> None:
    with pytest.raises(UsageError) as caught:
        build(name)
    assert f"There is no method {name!r}." in str(caught.value)
    assert says in str(caught.value)
    assert ("Did you mean" in str(caught.value)) == (name != "zebra")


@pytest.mark.parametrize(
    ("target", "says"),
    [
        (NoPredict, "does not define predict"),
        (WrongPredict, "predict(self, image: numpy.ndarray, threshold: float)"),
        (print, "not a subclass"),
        (Dataset, "not a subclass"),
    ],
)
def test_a_plugin_that_breaks_the_contract_is_named(register: Register, target: Any, says: str) -> None:
    register("broken", target)
    with pytest.raises(UsageError) as caught:
        build("broken")
    message = str(caught.value)
    assert "broken" in message
    assert "plugins 1.0" in message
    assert says in message


@pytest.mark.parametrize(
    ("target", "says"),
    [
        ("no_such_module_at_all:X", "ModuleNotFoundError"),
        ("json:NoSuchThing", "AttributeError"),
    ],
)
def test_a_plugin_that_cannot_be_imported_is_named(monkeypatch: pytest.MonkeyPatch, target: str, says: str) -> None:
    monkeypatch.setitem(registry.METHODS, "broken", Entry(target, "", "plugins 1.0"))
    with pytest.raises(UsageError) as caught:
        build("broken")
    assert says in str(caught.value)
    assert target in str(caught.value)
    build("intensity")  # the others work


def test_options_are_typed(register: Register) -> None:
    register("plain", Plain)
    assert build("plain", depth="5", fast="true").options() == {"depth": 5, "kind": "a", "fast": True}
    assert build("plain", kind=0).options()["kind"] == "0", "YAML reads 0 as a number"


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"dpeth": 1}, "plain has no option 'dpeth'. Did you mean 'depth'?"),
        ({"depth": 0}, "plain.depth=0: "),
        ({"depth": "deep"}, "plain.depth=deep: "),
        ({"depth": 2.5}, "plain.depth=2.5: "),
        ({"kind": "b"}, "plain.kind=b: "),
    ],
)
def test_a_wrong_option_is_refused(register: Register, options: dict[str, Any], says: str) -> None:
    register("plain", Plain)
    with pytest.raises(UsageError) as caught:
        build("plain", **options)
    assert says in str(caught.value)
    assert "\n" not in str(caught.value)


def test_weights_that_a_method_has_not(register: Register) -> None:
    register("plain", Plain)
    with pytest.raises(UsageError, match=r"plain has no published weights\. It has embedded ones\."):
        build_method("plain", {}, weights="published", device="cpu", seed=0)


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("plain[depth=2", "The method 'plain[depth=2' is not of the form name or name[option=value,option=value]"),
        ("plain]", "The method 'plain]' is not of the form"),
        ("plain[depth=2]x", "The method 'plain[depth=2]x' is not of the form"),
        ("[depth=2]", "The method '[depth=2]' is not of the form"),
        ("", "The method '' is not of the form"),
        ("plain[depth=2][kind=a]", "A bracket has no counterpart"),
        ("plain[kind=b[c=1]", "A bracket has no counterpart"),
        ("plain[depth]", "'depth' in the method plain[depth] is not of the form option=value"),
        ("plain[depth=]", "'depth=' in the method plain[depth=] is not of the form option=value"),
        ("plain[depth=2,depth=3]", "The option depth is given twice in the method plain[depth=2,depth=3]"),
        ("plian[depth=2]", "There is no method 'plian'. Did you mean 'plain'?"),
        ("plain[kind=a,dpeth=2]", "plain[kind=a,dpeth=2] has no option 'dpeth'. Did you mean 'depth'?"),
        ("plain[depth=deep]", "plain[depth=deep].depth=deep: "),
    ],
)
def test_a_wrong_variant_is_one_message(register: Register, text: str, says: str) -> None:
    register("plain", Plain)
    with pytest.raises(UsageError) as caught:
        build(text)
    assert says in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_variants_own_options_win_over_those_of_its_method(register: Register) -> None:
    register("plain", Plain)
    assert build("plain[depth=2]", depth=5, fast=True).options() == {"depth": 2, "kind": "a", "fast": True}


def test_what_is_set_for_a_method_is_refused_in_the_name_of_the_variant(register: Register) -> None:
    register("plain", Plain)
    with pytest.raises(UsageError, match=r"^plain\[depth=2\] has no option 'knid'"):
        build("plain[depth=2]", knid="a")


def test_weights_that_a_variant_has_not(register: Register) -> None:
    register("plain", Plain)
    with pytest.raises(UsageError, match=r"plain\[depth=2\] has no published weights"):
        build("plain[depth=2]", weights="published")


def test_a_method_inside_another_is_given_by_its_spec(register: Register) -> None:
    register("plain", Plain)
    register("outer", Outer)
    method = build("outer[inside=outer[depth=4,inside=plain[kind=0]]]")
    assert isinstance(method, Outer)
    parts = list(with_inner(method))
    assert [part.spec for part in parts] == [
        "outer[inside=outer[depth=4,inside=plain[kind=0]]]",
        "outer[depth=4,inside=plain[kind=0]]",
        "plain[kind=0]",
    ]
    assert {(part.weights, part.device, part.seed) for part in parts} == {("embedded", "cpu", 7)}
    assert method.options() == {
        "depth": 1,
        "kind": "a",
        "fast": False,
        "inside": {
            "method": "outer[depth=4,inside=plain[kind=0]]",
            "depth": 4,
            "kind": "a",
            "fast": False,
            "inside": {"method": "plain[kind=0]", "depth": 3, "kind": "0", "fast": False},
        },
    }
    assert build("outer", inside="plain").options()["inside"]["method"] == "plain"


def test_what_is_set_for_methods_holds_for_those_inside_others(register: Register) -> None:
    register("plain", Plain)
    register("outer", Outer)

    def depths(spec: str) -> list[int]:
        settings = {"plain": {"depth": 5}}
        method = build_method(
            spec, {}, weights="embedded", device="cpu", seed=0, settings=settings, shared={"depth": 8, "other": 1}
        )
        return [part.options()["depth"] for part in with_inner(method)]

    assert depths("outer[inside=plain]") == [8, 5], "what is set for one wins over what is for all"
    assert depths("outer[depth=2,inside=plain[depth=6]]") == [2, 6], "what stands in brackets wins"


@pytest.mark.parametrize(
    ("spec", "says"),
    [
        ("outer", "outer needs the option inside: outer[inside=…]."),
        ("outer[inside=plian]", "outer.inside: There is no method 'plian'. Did you mean 'plain'?"),
        ("outer[inside=outer[inside=plain[dpeth=1]]]", "outer.inside: outer.inside: plain[dpeth=1] has no option"),
        ("outer[inside=plain[]x]", "outer.inside: The method 'plain[]x' is not of the form"),
    ],
)
def test_a_wrong_method_inside_another_is_one_message(register: Register, spec: str, says: str) -> None:
    register("plain", Plain)
    register("outer", Outer)
    with pytest.raises(UsageError) as caught:
        build(spec)
    assert says in str(caught.value)
    assert "\n" not in str(caught.value)


def test_weights_that_a_method_inside_another_has_not(register: Register) -> None:
    register("plain", Plain)
    register("outer", Outer)
    with pytest.raises(UsageError, match=r"outer\.inside: plain has no published weights. It has embedded ones"):
        build("outer[inside=plain]", weights="published")


def test_options_of_datasets(tmp_path: Path) -> None:
    dataset = open_dataset("phantom_liver_ct:train=3,valid=2,test=4,seed=1", tmp_path)
    assert [len(dataset.cases(split)) for split in ("train", "valid", "test")] == [3, 2, 4]
    assert dataset.name == "phantom_liver_ct:train=3,valid=2,test=4,seed=1", "two variants must differ in the tables"


@pytest.mark.parametrize(
    "text",
    ["phantom_liver_ct:train=3,size=64", "phantom_liver_ct[train=3,size=64]", "phantom_liver_ct[ train=3, size=64]"],
)
def test_a_dataset_is_the_same_in_either_spelling(tmp_path: Path, text: str) -> None:
    dataset = open_dataset(text, tmp_path)
    assert dataset.name == located(text, tmp_path) == "phantom_liver_ct:train=3,size=64"
    assert len(dataset.cases("train")) == 3


@pytest.mark.parametrize(
    ("spec", "says"),
    [
        ("phantom_liver_ct[tran=3]", "has no option 'tran'. Did you mean 'train'?"),
        ("phantom_liver_ct[train=3", "The dataset 'phantom_liver_ct[train=3' is not of the form name"),
        ("brain_mir[size=3]", "There is no dataset 'brain_mir'. Did you mean 'brain_mri'?"),
        ("brain_mir", "There is no dataset 'brain_mir'. Did you mean 'brain_mri'?"),
        ("phantom_liver_ct:tran=3", "has no option 'tran'. Did you mean 'train'?"),
        ("phantom_liver_ct:train", "'train' in --dataset phantom_liver_ct:train is not of the form option=value"),
        ("phantom_liver_ct:train=many", "phantom_liver_ct.train=many: "),
        ("phantom_liver_ct:train=0", "phantom_liver_ct.train=0: "),
        ("phantom_liver_ct:train=3,train=4", "The option train is given twice in --dataset phantom_liver_ct:train=3,"),
        ("liver_ct:train=3", "liver_ct has no option 'train'."),
    ],
)
def test_a_wrong_dataset_is_refused(spec: str, says: str, tmp_path: Path) -> None:
    with pytest.raises(UsageError) as caught:
        open_dataset(spec, tmp_path)
    assert says in str(caught.value)


def test_a_dataset_plugin_that_returns_something_else(register: Register, tmp_path: Path) -> None:
    register("broken", lambda _data_root: 5, "DATASETS")
    with pytest.raises(UsageError, match="its factory returned int"):
        open_dataset("broken", tmp_path)


@dataclass(frozen=True)
class Half(ImagePolicy):
    """Keeps the contract of a threshold policy."""

    name = "half"
    share: Annotated[float, Field(gt=0, le=1)] = 0.5

    def threshold(self, anomaly_map: np.ndarray) -> float:
        return self.share * float(anomaly_map.max())


class Bare(ThresholdPolicy):
    name, looks_at = "bare", "nothing"


class Undecided(ValidationPolicy):
    name = "undecided"


class Greedy(OraclePolicy):
    name = "greedy"

    def threshold(self, maps: Any, truths: Any) -> float:  # pyright: ignore[reportIncompatibleMethodOverride]
        return 0.0


@dataclass(frozen=True)
class Needy(Half):
    name = "needy"
    more: float = dataclasses.field(kw_only=True)


def test_every_built_in_policy_keeps_the_contract() -> None:
    made = make_policies()
    assert {policy.name for policy in made.values() if isinstance(policy, ThresholdPolicy)} == set(registry.POLICIES)


def test_a_plugins_policy_is_made_beside_the_others(register: Register) -> None:
    register("half", Half, "POLICIES")
    assert make_policies()["half"] == Half()


@pytest.mark.parametrize(
    ("name", "policy", "says"),
    [
        (
            "bare",
            Bare,
            "class of NormalsPolicy, ForegroundPolicy, ValidationPolicy, ImagePolicy, CalibratedPolicy, OraclePolicy",
        ),
        ("plain", Plain, "not a subclass of NormalsPolicy"),
        ("undecided", Undecided, "does not define threshold"),
        ("greedy", Greedy, "should take self and one argument"),
        ("other", Half, "its attribute `name` should be 'other'"),
        ("needy", Needy, "its fields need defaults"),
    ],
)
def test_a_broken_policy_says_what_is_wrong_and_harms_no_other(
    register: Register, name: str, policy: type, says: str
) -> None:
    register(name, policy, "POLICIES")
    made = make_policies()
    assert isinstance(made[name], UsageError)
    assert says in str(made[name])
    assert sum(isinstance(one, ThresholdPolicy) for one in made.values()) == len(registry.POLICIES) - 1


def test_a_plugin_that_is_installed_meanwhile_is_seen(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(tmp_path)
    os.utime(tmp_path, (0, 0))  # long ago
    assert "late" not in registry.methods()
    installed = tmp_path / "late-1.0.dist-info"
    installed.mkdir()
    (installed / "METADATA").write_text("Name: late\nVersion: 1.0\n")
    (installed / "entry_points.txt").write_text("[miasbench.methods]\nlate = late:Late\n")
    assert registry.methods()["late"].distribution == "late 1.0"


def test_policies_have_options_and_several_of_one_kind_stand_beside_each_other() -> None:
    asked = map(parse_policy, split_list("normal_quantile[q=0.95],normal_quantile[q=.5],otsu,fixed[value=60]"))
    assert make_policies(asked) == {
        "normal_quantile[q=0.95]": NormalQuantile(0.95),
        "normal_quantile[q=.5]": NormalQuantile(0.5),
        "otsu": Otsu(),
        "fixed[value=60]": Fixed(60),
    }


def test_all_stands_for_every_policy_with_its_defaults() -> None:
    made = make_policies([ALL_POLICIES, Spec("normal_quantile", (("q", "0.5"),))])
    assert list(made) == [*registry.POLICIES, "normal_quantile[q=0.5]"]
    assert made["normal_quantile"] == NormalQuantile(0.99), "named as version 0.1.0 named it"


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("normal_quantil", "There is no policy 'normal_quantil'. Did you mean 'normal_quantile'? Known: "),
        ("normal_quantile[p=1]", "normal_quantile[p=1] has no option 'p'. Known: q."),
        ("normal_quantile[q=2]", "normal_quantile[q=2].q=2: Input should be less than or equal to 1."),
        ("normal_quantile[q=nan]", "normal_quantile[q=nan].q=nan: Input should be "),
        ("normal_quantile[q=high]", "normal_quantile[q=high].q=high: Input should be a valid number"),
        ("normal_mean_std[deviations=inf]", "normal_mean_std[deviations=inf].deviations=inf: Input should be a finite"),
        ("otsu[bins=3]", "otsu[bins=3] has no option 'bins'. It has none."),
        ("fixed", "fixed needs the option value: fixed[value=…]."),
        ("own", "own cannot be chosen: where a method makes masks itself, they are always scored."),
        ("half[share=0]", "half[share=0].share=0: Input should be greater than 0."),
        ("picky[even=3]", "picky[even=3]: 3 is odd"),
    ],
)
def test_a_wrong_policy_is_one_message(register: Register, text: str, says: str) -> None:
    @dataclass(frozen=True)
    class Picky(Half):
        name = "picky"
        even: int = 2

        def __post_init__(self) -> None:
            if self.even % 2:
                raise ValueError(f"{self.even} is odd")

    register("half", Half, "POLICIES")
    register("picky", Picky, "POLICIES")
    with pytest.raises(UsageError) as caught:
        make_policy(parse_policy(text))
    assert str(caught.value).startswith(says)
    with pytest.raises(UsageError):
        check_policies([ALL_POLICIES, parse_policy(text)])


def test_a_plugins_policy_takes_options(register: Register) -> None:
    register("half", Half, "POLICIES")
    assert make_policy(parse_policy("half[share=0.25]")) == Half(0.25)
