"""Whose held-out patients are whose, where sites measure the model on their own."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

from privfin.config import RunConfig
from privfin.data.partition import partition_by_origin, public_rng
from privfin.data.records import Dataset
from privfin.errors import PlanError
from privfin.federation.plan import site_names

#: Held-out records that a site may have for each training patient that the largest one declares.
RECORDS_A_PATIENT = 64
_MOST_RECORDS = 2**20


def largest_records(patients: Sequence[int]) -> int:
    """The most held-out records of a site that secure metrics leave room for: a public bound.

    Nobody declares held-out records, and a patient may have several, so the bound follows from the
    training patients that every site declares, with much room.

    Args:
        patients: declared training patients by site.
    """
    return min(RECORDS_A_PATIENT * max(patients), _MOST_RECORDS) - 1


def check_records(sites: Sequence[str], patients: Sequence[int]) -> None:
    """Refuse a site with more held-out records than :func:`largest_records`.

    Args:
        sites: the site of every held-out record.
        patients: declared training patients by site.

    Raises:
        PlanError: naming neither the site nor its number.
    """
    most = largest_records(patients)
    if max(Counter(sites).values(), default=0) > most:
        raise PlanError(
            f"a site has more than {most} held-out records, the most that secure metrics can "
            "count here: use evaluation.secure = false, or more sites"
        )


def held_out_owners(config: RunConfig, dataset: Dataset, test: Sequence[str]) -> dict[str, str]:
    """The site of every held-out patient, for ``evaluation.secure``; empty without it.

    That of the data where sites are places; else, and among the shards of a place, by a public
    deal that knows nothing of the patients. A site may get none.

    Raises:
        DataError: a patient is of a place that no site takes.
    """
    if not config.evaluation.secure:
        return {}
    places = [(list(test), site_names(config))]
    if config.federation.site:
        rules = [(s.name, s.match) for s in config.federation.site]
        found = partition_by_origin(dataset, test, rules)
        places = [(found[s.name], list(s.names)) for s in config.federation.site]
    owners = {}
    for patients, names in places:
        order = public_rng(config.training.seed, f"held-out {names[0]}").permutation(len(patients))
        for turn, at in enumerate(order.tolist()):
            owners[patients[at]] = names[turn % len(names)]
    return owners
