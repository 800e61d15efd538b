"""Splits and deals patients. Everything here moves whole patients, never single records.

Sizes are functions of public numbers only (how many patients, how many sites): a size that
depended on labels would tell something about them.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence

import numpy as np
import numpy.typing as npt

from privfin.data.records import Dataset
from privfin.errors import DataError, UserInputError, nearest

#: From this concentration on, a Dirichlet deal counts as the same label mix at every site.
IID_ALPHA = 1e6


def test_size(patients: int, fraction: float) -> int:
    """Number of test patients: ``fraction`` * ``patients`` to the nearest whole, ties to even.

    Raises :class:`UserInputError` unless 0 < ``fraction`` < 1 and both parts get a patient.
    """
    if not 0.0 < fraction < 1.0:
        raise UserInputError(f"the test fraction must lie between 0 and 1, got {fraction}")
    size = round(fraction * patients)
    if not 0 < size < patients:
        raise UserInputError(
            f"a test fraction of {fraction} leaves one part of {patients} patients empty; "
            "use more patients or another fraction"
        )
    return size


test_size.__test__ = False  # type: ignore[attr-defined]  # a name pytest would collect


def split_patients(
    dataset: Dataset, test_fraction: float, seed: int
) -> tuple[list[str], list[str]]:
    """Training and test patients of a data set, drawn with the public ``seed`` >= 0.

    Both lists are in the data set's order of patients. Raises as :func:`test_size` does.
    """
    patients = list(dataset.patients())
    size = test_size(len(patients), test_fraction)
    chosen = set(public_rng(seed, "split").permutation(len(patients))[:size].tolist())
    train = [p for i, p in enumerate(patients) if i not in chosen]
    test = [p for i, p in enumerate(patients) if i in chosen]
    return train, test


def validation_size(patients: int, fraction: float) -> int:
    """Number of validation patients among training patients, as :func:`test_size` counts.

    Raises :class:`UserInputError` unless both parts get a patient.
    """
    size = round(fraction * patients)
    if not 0 < size < patients:
        raise UserInputError(
            f"data.validation_fraction = {fraction} leaves one part of {patients} training "
            "patients empty; use more patients or another fraction"
        )
    return size


def split_validation(
    train: Sequence[str], fraction: float, seed: int
) -> tuple[list[str], list[str]]:
    """Training patients without, and the validation patients drawn from them with the ``seed``.

    Both lists keep the order of ``train``. Raises as :func:`validation_size` does.
    """
    size = validation_size(len(train), fraction)
    chosen = set(public_rng(seed, "validation").permutation(len(train))[:size].tolist())
    kept = [p for i, p in enumerate(train) if i not in chosen]
    return kept, [p for i, p in enumerate(train) if i in chosen]


def refuse_overlap(train: Iterable[str], test: Iterable[str]) -> None:
    """Raise :class:`DataError`, naming a patient, if one is in both groups."""
    both = sorted(set(train) & set(test))
    if both:
        raise DataError(
            f"patient '{both[0]}' is in both training and test data ({len(both)} such patients); "
            "put each patient into one"
        )


def refuse_shared(dealt: Mapping[str, Iterable[str]]) -> None:
    """Raise :class:`DataError`, naming the sites, if a patient is at two of them.

    ``dealt`` holds every site's patients, by name of the site. That a patient's records are at one
    site is what a statement calls checked.
    """
    at: dict[str, str] = {}
    for site, patients in dealt.items():
        for patient in patients:
            if at.setdefault(patient, site) != site:
                raise DataError(
                    f"patient '{patient}' is at the sites '{at[patient]}' and '{site}'; put each "
                    "patient into one"
                )


def site_sizes(n: int, sites: int) -> list[int]:
    """Patients at each of ``sites`` sites: n // sites, and one more at the first n % sites.

    Raises :class:`UserInputError` if ``sites`` < 1 or there are fewer patients than sites.
    """
    if sites < 1:
        raise UserInputError(f"there must be at least 1 site, got {sites}")
    if n < sites:
        raise UserInputError(f"{n} patients cannot be dealt to {sites} sites; use fewer sites")
    return [n // sites + (k < n % sites) for k in range(sites)]


def partition_patients(
    dataset: Dataset, patient_ids: Sequence[str], sites: int, alpha: float, seed: int
) -> list[list[str]]:
    """Deal patients to sites of equal size (:func:`site_sizes`) with skewed labels.

    Each patient has one dominant label: the rarest among the labels of their records, or none.
    The patients of each dominant label are spread over the sites in proportions from a symmetric
    Dirichlet distribution with concentration ``alpha`` (Yurochkin et al. 2019): the smaller
    ``alpha`` > 0, the more sites differ; from 1e6 on, patients are dealt blindly. Since sizes are
    fixed, the proportions are scaled (Sinkhorn's iteration) until they use up every patient.

    Returns one list of patients per site. Raises :class:`UserInputError` for ``alpha`` <= 0 or
    too many sites, :class:`DataError` for a patient that is unknown or listed twice.
    """
    if not alpha > 0:
        raise UserInputError(f"alpha must be above 0 (inf for equal label mixes), got {alpha}")
    _check_patients(dataset, patient_ids)
    sizes = np.array(site_sizes(len(patient_ids), sites))
    rng = public_rng(seed, "deal")
    order = rng.permutation(len(patient_ids))
    if alpha >= IID_ALPHA:
        ends = np.cumsum(sizes)[:-1]
        return [[patient_ids[i] for i in sorted(part)] for part in np.split(order, ends)]

    groups = _dominant_labels(dataset, patient_ids)
    kinds, group = np.unique(groups, return_inverse=True)
    totals = np.bincount(group, minlength=kinds.size)
    counts = _deal_counts(rng, totals, sizes, alpha)
    dealt: list[list[int]] = [[] for _ in range(sites)]
    for kind in range(kinds.size):
        members = order[group[order] == kind]
        for site, part in enumerate(np.split(members, np.cumsum(counts[:, kind])[:-1])):
            dealt[site].extend(part.tolist())
    return [[patient_ids[i] for i in sorted(part)] for part in dealt]


def deal_like(
    dataset: Dataset, dealt: Mapping[str, Sequence[str]], others: Sequence[str], seed: int
) -> dict[str, list[str]]:
    """Deal further patients to sites as likely as patients like them were dealt.

    Each goes where a patient of the same dominant label is, drawn at random among all those dealt;
    where none has that label, among all. Sites need not get equally many.

    Args:
        dataset: holds all of them.
        dealt: the patients of every site so far.
        others: the patients to deal.
        seed: public, >= 0.
    """
    everyone = [patient for own in dealt.values() for patient in own]
    _check_patients(dataset, [*everyone, *others])
    homes = np.repeat(np.arange(len(dealt)), [len(own) for own in dealt.values()])
    groups = _dominant_labels(dataset, [*everyone, *others])
    known, wanted = groups[: len(everyone)], groups[len(everyone) :]
    rng = public_rng(seed, "deal like")
    names = list(dealt)
    found: dict[str, list[str]] = {name: [] for name in names}
    for patient, kind in zip(others, wanted.tolist(), strict=True):
        alike = homes[known == kind]
        found[names[int(rng.choice(alike if alike.size else homes))]].append(patient)
    return found


def _check_patients(dataset: Dataset, patient_ids: Sequence[str]) -> None:
    known = {record.patient_id for record in dataset.records}
    seen: set[str] = set()
    for patient in patient_ids:
        if patient not in known:
            raise DataError(f"patient '{patient}' is not in {dataset.name}")
        if patient in seen:
            raise DataError(f"patient '{patient}' is listed twice")
        seen.add(patient)


def _dominant_labels(dataset: Dataset, patient_ids: Sequence[str]) -> npt.NDArray[np.int64]:
    """Each patient's rarest positive label, or -1 for none.

    The rarest, because it tells most: nearly every patient has the commonest one.
    """
    wanted = {patient: i for i, patient in enumerate(patient_ids)}
    positive = np.zeros((len(patient_ids), len(dataset.label_names)), dtype=np.bool_)
    for record in dataset.records:
        if record.patient_id in wanted:
            positive[wanted[record.patient_id]] |= record.labels == 1.0
    from_rarest = np.argsort(positive.sum(axis=0), kind="stable")
    first = from_rarest[np.argmax(positive[:, from_rarest], axis=1)]
    return np.where(positive.any(axis=1), first, -1)


def _deal_counts(
    rng: np.random.Generator,
    totals: npt.NDArray[np.int64],
    sizes: npt.NDArray[np.int64],
    alpha: float,
) -> npt.NDArray[np.int64]:
    """Whole numbers (sites, kinds) with row sums ``sizes`` and column sums ``totals``."""
    # The floors keep the scaling below from dividing by nothing when alpha is tiny.
    concentration = np.full(sizes.size, max(alpha, 1e-3))
    table = np.maximum(rng.dirichlet(concentration, size=totals.size).T, 1e-9)
    for _ in range(200):
        table *= (sizes / table.sum(axis=1))[:, None]
        table *= totals / table.sum(axis=0)
    counts = np.floor(table).astype(np.int64)
    # Deal what rounding left over, largest fractions first, to sites that still have room.
    rest = table - counts
    room, left = sizes - counts.sum(axis=1), totals - counts.sum(axis=0)
    for cell in np.argsort(-rest, axis=None, kind="stable").tolist():
        site, kind = divmod(cell, totals.size)
        if room[site] > 0 and left[kind] > 0:
            counts[site, kind] += 1
            room[site] -= 1
            left[kind] -= 1
    # Where the iteration had not settled, single passes leave gaps: fill them in order.
    for site in range(sizes.size):
        for kind in range(totals.size):
            more = min(room[site], left[kind])
            counts[site, kind] += more
            room[site] -= more
            left[kind] -= more
    return counts


def partition_by_origin(
    dataset: Dataset, patient_ids: Sequence[str], rules: Sequence[tuple[str, Sequence[str]]]
) -> dict[str, list[str]]:
    """Deal patients to named sites by the origin of their first record.

    A rule is a site's name and parts of place names; case does not matter, the first site with a
    match wins, and "*" takes whatever no other site matches, blank origins too.

    Returns a list of patients, perhaps empty, for every site. Raises :class:`UserInputError` for
    rules that are empty or ambiguous, :class:`DataError` for patients that no site takes.
    """
    names = [name for name, _ in rules]
    if not rules:
        raise UserInputError("no site is given to deal patients to")
    for name, parts in rules:
        if names.count(name) > 1:
            raise UserInputError(f"site '{name}' is given twice")
        if not parts or not all(part.strip() for part in parts):
            raise UserInputError(f'site \'{name}\' needs match = ["part of a place name"] or ["*"]')
    rest = [name for name, parts in rules if "*" in parts]
    if len(rest) > 1:
        raise UserInputError(f"sites '{rest[0]}' and '{rest[1]}' both match \"*\"; keep one")
    _check_patients(dataset, patient_ids)
    first: dict[str, str] = {}
    for record in dataset.records:
        first.setdefault(record.patient_id, record.origin.casefold())
    dealt: dict[str, list[str]] = {name: [] for name in names}
    unmatched = 0
    for patient in patient_ids:
        origin = first[patient]
        site = next(
            (
                name
                for name, parts in rules
                if any(part != "*" and part.strip().casefold() in origin for part in parts)
            ),
            rest[0] if rest else None,
        )
        if site is None:
            unmatched += 1
        else:
            dealt[site].append(patient)
    if unmatched:
        raise DataError(
            f"{unmatched} of {len(patient_ids)} patients match no site; "
            'add their places, or a site with match = ["*"]'
        )
    return dealt


def deal_shards(
    patient_ids: Sequence[str], names: Sequence[str], seed: int
) -> dict[str, list[str]]:
    """Deal one place's patients blindly to several sites of equal size (:func:`site_sizes`).

    The same ``seed`` and patients give the same deal; the first name seasons it. Raises
    :class:`UserInputError` if there are fewer patients than names.
    """
    if len(names) == 1:
        return {names[0]: list(patient_ids)}
    if len(patient_ids) < len(names):
        raise UserInputError(
            f"{len(patient_ids)} patients cannot be dealt to the {len(names)} sites "
            f"{names[0]} to {names[-1]}; use fewer shards"
        )
    order = public_rng(seed, f"shards {names[0]}").permutation(len(patient_ids))
    ends = np.cumsum(site_sizes(len(patient_ids), len(names)))[:-1]
    parts = np.split(order, ends)
    return {
        name: [patient_ids[i] for i in sorted(part)]
        for name, part in zip(names, parts, strict=True)
    }


#: A pattern: which modalities a kind of site holds, and how many such sites there are.
Pattern = list[tuple[tuple[str, ...], int]]


def read_pattern(pattern: str, modalities: Sequence[str] = ("image", "text")) -> Pattern:
    """What a modality pattern says, in its order, without the kinds that have no site.

    Two forms: "4:4:2" for two modalities, sites with the first only : the second only : both;
    and "image=4, text=4, image+text=2" for any number. Raises :class:`UserInputError` for a
    pattern that is malformed or empty, or that names an unknown modality or a kind twice.
    """
    found = _colons(pattern, modalities) if ":" in pattern else _named(pattern, modalities)
    kept = [(held, count) for held, count in found if count]
    if not kept:
        raise UserInputError(f"the modality pattern '{pattern}' has no sites at all")
    return kept


def _colons(pattern: str, modalities: Sequence[str]) -> Pattern:
    if not re.fullmatch(r"\s*\d{1,6}\s*:\s*\d{1,6}\s*:\s*\d{1,6}\s*", pattern, re.ASCII):
        raise _malformed(pattern)
    if len(modalities) != 2:
        each = ", ".join(f"{m}=1" for m in modalities)
        raise UserInputError(
            f"the modality pattern '{pattern}' is for two modalities, and there are "
            f"{len(modalities)}: write '{each}', with + for sites that hold several"
        )
    first, second = modalities
    held = [(first,), (second,), (first, second)]
    return [(h, int(count)) for h, count in zip(held, pattern.split(":"), strict=True)]


def _named(pattern: str, modalities: Sequence[str]) -> Pattern:
    found: dict[tuple[str, ...], int] = {}
    for part in pattern.split(","):
        match = re.fullmatch(r"([\w\s+]+)=\s*(\d{1,6})\s*", part)
        if match is None:
            raise _malformed(pattern)
        names = [name.strip() for name in match[1].split("+")]
        for name in names:
            if name not in modalities:
                raise UserInputError(
                    f"the modality pattern '{pattern}' names an unknown modality '{name}'"
                    f"{nearest(name, modalities)}"
                )
        held = tuple(m for m in modalities if m in names)
        if len(held) != len(names) or held in found:
            raise UserInputError(
                f"the modality pattern '{pattern}' names '{match[1].strip()}' twice"
            )
        found[held] = int(match[2])
    return list(found.items())


def _malformed(pattern: str) -> UserInputError:
    return UserInputError(
        f"the modality pattern '{pattern}' is not of the form a:b:c, for example 4:4:2 (sites "
        "with image only : text only : both), or image=4, text=4, image+text=2"
    )


def sites_modalities(
    pattern: str, sites: int, modalities: Sequence[str] = ("image", "text")
) -> list[tuple[str, ...]]:
    """The modalities of each of ``sites`` sites, in a pattern's proportions and order.

    Largest remainders, but every kind that the pattern has gets at least one site. Raises
    :class:`UserInputError` as :func:`read_pattern` does, and for fewer sites than kinds.
    """
    kinds = read_pattern(pattern, modalities)
    if sites < len(kinds):
        raise UserInputError(
            f"the modality pattern '{pattern}' needs at least {len(kinds)} sites, got {sites}"
        )
    parts = np.array([count for _, count in kinds])
    exact = parts * (sites / parts.sum())
    counts = np.floor(exact + 1e-9).astype(np.int64)
    by_remainder = np.argsort(-(exact - counts), kind="stable")
    counts[by_remainder[: sites - counts.sum()]] += 1
    for part in np.flatnonzero(counts == 0):
        counts[np.argmax(counts)] -= 1
        counts[part] = 1
    numbers = counts.tolist()
    return [held for (held, _), n in zip(kinds, numbers, strict=True) for _ in range(n)]


def public_rng(seed: int, purpose: str) -> np.random.Generator:
    """A public stream for one purpose: splits, deals and what is taken away are not secret.

    Raises :class:`UserInputError` for a negative ``seed``.
    """
    if seed < 0:
        raise UserInputError(f"a seed must not be negative, got {seed}")
    return np.random.Generator(np.random.PCG64([seed, *purpose.encode()]))
