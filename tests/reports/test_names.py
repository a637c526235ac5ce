import pytest

from miasbench.reports.names import short_names


@pytest.mark.parametrize(
    ("names", "short"),
    [
        (["liver_ct", "brain_mri"], ["liver_ct", "brain_mri"]),
        (["phantom_liver_ct:train=8,size=128"], ["phantom_liver_ct"]),
        (["p:train=8,size=64", "p:train=16,size=64"], ["p:train=8", "p:train=16"]),
        (["p", "p:train=8"], ["p", "p:train=8"]),
        (["p:a=1,b=2", "p:b=2,a=1"], ["p:a=1,b=2", "p:b=2,a=1"]),
        (["scan:v1", "肝脏, 2024"], ["scan:v1", "肝脏, 2024"]),
    ],
)
def test_a_short_name_is_no_other_datasets(names: list[str], short: list[str]) -> None:
    assert list(short_names(names).values()) == short
