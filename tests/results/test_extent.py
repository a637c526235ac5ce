from typing import Any

from miasbench.results.extent import Extent, extents
from miasbench.results.tables import CASES, SCORES, table

from ..support.records import record as least_record

EMPTY = {"str": "", "int64": 0, "float64": float("nan"), "bool": False}


def row(columns: dict[str, str], **values: Any) -> dict[str, Any]:
    return {name: EMPTY[kind] for name, kind in columns.items()} | {"dataset": "liver"} | values


def measured(record: dict[str, Any], cases: int = 5) -> Extent:
    of_policies = [
        row(CASES, policy=policy, case=str(case), patient=str(case // 2), label=int(case > 2))
        for policy in ("own", "otsu")
        for case in range(cases)
    ]
    scores = [row(SCORES, seed=seed, size=64) for seed in (1, 0)]
    config = {"methods": [], "score": {"mask_edges": "nearest"}} | record["config"]
    datasets = {name: {"fingerprint": "f" * 64, "card": {}} | one for name, one in record["datasets"].items()}
    return extents([least_record(config=config, datasets=datasets)], table(of_policies, CASES), table(scores, SCORES))[
        "liver"
    ]


def test_images_are_counted_once_with_their_patients() -> None:
    found = measured({"config": {"limit": 8}, "datasets": {"liver": {"notes": ["grey"]}}})
    assert (found.images, found.anomalous, found.patients, found.anomalous_patients) == (5, 2, 3, 2)
    assert found.notes == ("grey",)
    counts, how = (
        "5 test images of 3 patients (3 normal, 2 anomalous of 2 patients)",
        "64 x 64 pixels; limit 8, a part of the dataset",
    )
    assert str(found) == f"{counts}; {how}; seeds 0, 1"


def test_a_record_of_an_older_version_is_read() -> None:
    assert str(measured({"config": {}, "datasets": {"liver": {}}}, cases=0)) == "64 x 64 pixels; seeds 0, 1"
    counted = measured({"config": {}, "datasets": {"liver": {"counts": {"test": 1}}}}, cases=0)
    assert str(counted) == "1 test image; 64 x 64 pixels; seeds 0, 1"
