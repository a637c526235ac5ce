"""The grammar of names with options, and the check of options."""

import time
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from miasbench.harness.api import UsageError
from miasbench.harness.specs import (
    Spec,
    check_options,
    parse_dataset,
    parse_method,
    parse_policy,
    parse_setting,
    split_datasets,
    split_list,
)

names = st.text(st.characters(blacklist_characters="[],=", blacklist_categories=["Z", "C"]), min_size=1, max_size=8)
simple = st.text(st.characters(blacklist_characters="[],", blacklist_categories=["Z", "C"]), min_size=1, max_size=6)


def specs(values: st.SearchStrategy[str]) -> st.SearchStrategy[Spec]:
    options = st.dictionaries(names, values, max_size=3).map(lambda one: tuple(one.items()))
    return st.builds(Spec, names, options)


nested = st.recursive(simple, lambda inner: specs(inner).map(str), max_leaves=4)


@given(specs(nested))
def test_a_spec_is_read_back_from_its_text(spec: Spec) -> None:
    assert parse_method(str(spec)) == parse_policy(str(spec)) == spec


@given(specs(simple))
def test_a_dataset_is_read_back_from_both_of_its_texts(spec: Spec) -> None:
    assert parse_dataset(str(spec)) == spec or ":" in spec.name
    assert parse_dataset(spec.with_colon()) == spec or ":" in str(spec)


@given(st.lists(specs(nested)))
def test_a_list_of_specs_is_read_back_from_its_text(listed: list[Spec]) -> None:
    assert [parse_method(text) for text in split_list(", ".join(map(str, listed)))] == listed


@pytest.mark.parametrize(
    "parse", [parse_method, parse_policy, parse_dataset, parse_setting, split_list, split_datasets]
)
@given(text=st.text() | st.text(st.sampled_from("ab[],=:. \n\"'\\")))
def test_no_text_is_too_much_for_a_parser(parse: Callable[[str], Any], text: str) -> None:
    try:
        parse(text)
    except UsageError as error:
        assert str(error)


def test_many_blanks_take_no_longer_for_each_of_them() -> None:
    begin = time.process_time()
    assert parse_method(f"a{' ' * 100_000}b[c{' ' * 100_000}={' ' * 100_000}d]").options == (("c", "d"),)
    assert time.process_time() - begin < 1


@pytest.mark.parametrize(
    ("text", "canonical"),
    [
        ("mias_sam", "mias_sam"),
        ("  mias_sam ", "mias_sam"),
        ("mias_sam[]", "mias_sam"),
        (" mias_sam [ prompt = peaks , gamma=3 ] ", "mias_sam[prompt=peaks,gamma=3]"),
        ("mias_sam[gamma=3,prompt=peaks]", "mias_sam[gamma=3,prompt=peaks]"),
        ("refine[base=core[ ratio = 0.1, k=1 ],box=2]", "refine[base=core[ratio=0.1,k=1],box=2]"),
    ],
    ids=["name", "blanks", "no options", "blanks inside", "the order given", "brackets in a value"],
)
def test_a_variant_has_one_text(text: str, canonical: str) -> None:
    spec = parse_method(text)
    assert str(spec) == canonical
    assert parse_method(str(spec)) == spec


def test_the_options_of_a_variant() -> None:
    spec = parse_method("refine[base=patchcore[coreset=0.1,neighbours=1],box=2]")
    assert spec.name == "refine"
    assert dict(spec.options) == {"base": "patchcore[coreset=0.1,neighbours=1]", "box": "2"}


def test_a_list_is_split_outside_of_brackets() -> None:
    assert split_list(" a , b[x=1,y=c[z=2,w=3]],, d[u=1], ") == ["a", "b[x=1,y=c[z=2,w=3]]", "d[u=1]"]
    assert split_list("") == []


@pytest.mark.parametrize("text", ["a[x=1", "a[x=b[y=1]", "a]", "b,a]x=1[", "a[x=1]]"])
def test_a_list_with_a_bracket_too_many_is_refused(text: str) -> None:
    with pytest.raises(UsageError) as caught:
        split_list(text)
    assert f"A bracket has no counterpart in {text!r}" in str(caught.value)
    assert "name[option=value,option=value]" in str(caught.value)


@pytest.mark.parametrize(
    "text",
    [
        "phantom_liver_ct:train=3,size=64",
        "phantom_liver_ct[train=3,size=64]",
        " phantom_liver_ct [ train = 3, size=64 ] ",
        "phantom_liver_ct: train=3, size=64",
    ],
)
def test_a_dataset_has_one_name_in_tables_however_it_is_spelt(text: str) -> None:
    spec = parse_dataset(text)
    assert spec == Spec("phantom_liver_ct", (("train", "3"), ("size", "64")))
    assert spec.with_colon() == "phantom_liver_ct:train=3,size=64"


def test_datasets_with_options_stand_in_a_list_in_either_spelling() -> None:
    text = "phantom[train=3,size=64],./a,phantom:train=4,size=64, ./b[1], phantom"
    assert split_datasets(text) == ["phantom[train=3,size=64]", "./a", "phantom:train=4,size=64", "./b[1]", "phantom"]


@pytest.mark.parametrize(
    ("text", "spec"),
    [
        ("mias_sam.gamma=3", Spec("mias_sam", (("gamma", "3"),))),
        (" mias_sam . gamma =3", Spec("mias_sam", (("gamma", "3"),))),
        ("mias_sam.index=IVF64,Flat", Spec("mias_sam", (("index", "IVF64,Flat"),))),
        ("refine.base=core[k=1]", Spec("refine", (("base", "core[k=1]"),))),
        ("mias_sam[gamma=3,prompt=peaks]", Spec("mias_sam", (("gamma", "3"), ("prompt", "peaks")))),
    ],
)
def test_what_is_set_for_a_method(text: str, spec: Spec) -> None:
    assert parse_setting(text) == spec


@pytest.mark.parametrize("text", ["", "gamma=3", ".gamma=3", "mias_sam.=3", "mias_sam.gamma"])
def test_what_is_set_in_another_form_is_shown_an_example(text: str) -> None:
    with pytest.raises(UsageError, match=r"should look like mias_sam\.gamma=5\.$"):
        parse_setting(text)


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("otsu]", "The policy 'otsu]' is not of the form name or name[option=value,option=value]"),
        ("otsu,valid_dice", "'otsu,valid_dice' should be one policy and is several"),
        ("normal_quantile[q]", "'q' in the policy normal_quantile[q] is not of the form option=value."),
        ("normal_quantile[q=1,q=2]", "The option q is given twice in the policy normal_quantile[q=1,q=2]."),
    ],
)
def test_a_policy_of_another_form_is_named(text: str, says: str) -> None:
    with pytest.raises(UsageError) as caught:
        parse_policy(text)
    assert str(caught.value).startswith(says)


def test_check_options_of_nothing() -> None:
    with pytest.raises(UsageError, match="It has none"):
        check_options("intensity", {"a": 1}, {})
