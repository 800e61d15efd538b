"""Each held-out patient is measured at one site, and no site has more than there is room for."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from privfin.config import RunConfig
from privfin.data.records import Dataset, Record
from privfin.errors import DataError, PlanError
from privfin.federation.held_out import check_records, held_out_owners, largest_records


def dataset(origins: list[str]) -> Dataset:
    records = tuple(
        Record(f"r{i}", f"p{i}", {"text": "x"}, np.zeros(1, dtype=np.float32), origin=origin)
        for i, origin in enumerate(origins)
    )
    return Dataset("some", ("sick",), records)


def patients(data: Dataset) -> list[str]:
    return list(data.patients())


SITES = [
    {"name": "south", "match": ["south"]},
    {"name": "north", "match": ["north"], "shards": 2},
    {"name": "west", "match": ["west"]},
]


def test_patients_belong_to_the_site_of_their_place(tiny: Callable[..., RunConfig]) -> None:
    config = tiny(evaluation__secure=True, federation__site=SITES)
    data = dataset(["south"] * 3 + ["north"] * 5)
    owners = held_out_owners(config, data, patients(data))
    assert {owners[f"p{i}"] for i in range(3)} == {"south"}
    shards = [owners[f"p{i}"] for i in range(3, 8)]
    assert sorted(shards.count(name) for name in set(shards)) == [2, 3]
    assert all(name.startswith("north") for name in shards)
    assert "west" not in owners.values()  # a site may have none


def test_a_patient_of_no_site_is_refused(tiny: Callable[..., RunConfig]) -> None:
    config = tiny(evaluation__secure=True, federation__site=SITES)
    data = dataset(["south", "east"])
    with pytest.raises(DataError, match="match no site"):
        held_out_owners(config, data, patients(data))


def test_the_deal_is_even_public_and_knows_nothing_of_the_patients(
    tiny: Callable[..., RunConfig],
) -> None:
    config = tiny(evaluation__secure=True, federation__sites=4)
    data, others = dataset([""] * 10), dataset(["elsewhere"] * 10)
    owners = held_out_owners(config, data, patients(data))
    assert owners == held_out_owners(config, others, patients(others))
    counts = [list(owners.values()).count(name) for name in set(owners.values())]
    assert sorted(counts) == [2, 2, 3, 3]
    few = dataset([""] * 2)
    assert len(set(held_out_owners(config, few, patients(few)).values())) == 2


def test_without_secure_metrics_nobody_is_dealt(tiny: Callable[..., RunConfig]) -> None:
    data = dataset([""] * 4)
    assert held_out_owners(tiny(), data, patients(data)) == {}


@pytest.mark.parametrize("declared", [[1, 2], [10, 10, 10], [10**6]])
def test_more_records_than_there_is_room_for_are_refused(declared: list[int]) -> None:
    most = largest_records(declared)
    assert most == min(64 * max(declared), 2**20) - 1
    check_records(["a"] * most + ["b"] * most, declared)
    with pytest.raises(PlanError, match=f"more than {most} held-out records") as refusal:
        check_records(["a"] * (most + 1), declared)
    assert "'a'" not in str(refusal.value)


def test_a_prepared_record_knows_its_site(tiny: Callable[..., RunConfig], prepared: Any) -> None:
    config = tiny(evaluation__secure=True, federation__sites=4)
    data = prepared(config)
    assert len(data.test.sites) == len(data.test.patient_ids)
    assert set(data.test.sites) <= set(data.sites)
    assert prepared(tiny()).test.sites == ()
