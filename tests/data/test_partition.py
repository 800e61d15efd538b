"""Splitting and dealing: every patient once, public sizes, more skew for a smaller alpha."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from privfin.data import partition
from privfin.data.partition import (
    deal_shards,
    partition_by_origin,
    partition_patients,
    read_pattern,
    refuse_overlap,
    site_sizes,
    sites_modalities,
    split_patients,
)
from privfin.data.records import Dataset, Record
from privfin.errors import DataError, UserInputError


def make(patients: int, seed: int = 0, labels: int = 4, origins: tuple[str, ...] = ("",)):
    rng = np.random.default_rng(seed)
    rates = np.linspace(0.1, 0.6, labels)
    records = []
    for i in range(patients):
        for j in range(int(rng.integers(1, 4))):
            values = (rng.random(labels) < rates).astype(np.float32)
            values[rng.random(labels) < 0.1] = np.nan
            origin = origins[(i + j) % len(origins)]
            records.append(Record(f"r{i}-{j}", f"p{i}", {"text": "x"}, values, origin))
    return Dataset("made", tuple(f"l{k}" for k in range(labels)), tuple(records))


@given(n=st.integers(1, 10_000), sites=st.integers(1, 200))
def test_site_sizes_are_equal_and_add_up(n, sites) -> None:
    if n < sites:
        with pytest.raises(UserInputError, match="fewer sites"):
            site_sizes(n, sites)
        return
    sizes = site_sizes(n, sites)
    assert len(sizes) == sites
    assert sum(sizes) == n
    assert sizes == sorted(sizes, reverse=True)
    assert max(sizes) - min(sizes) <= 1


@settings(max_examples=40, deadline=None)
@given(
    n=st.integers(1, 120),
    sites=st.integers(1, 12),
    alpha=st.sampled_from([1e-9, 0.01, 0.3, 1.0, 100.0, 1e6, float("inf")]),
    seed=st.integers(0, 1000),
)
def test_every_patient_is_dealt_once(n, sites, alpha, seed) -> None:
    dataset = make(n, seed)
    patients = list(dataset.patients())
    if n < sites:
        return
    dealt = partition_patients(dataset, patients, sites, alpha, seed)
    assert [len(part) for part in dealt] == site_sizes(n, sites)
    assert sorted(p for part in dealt for p in part) == sorted(patients)
    assert dealt == partition_patients(dataset, patients, sites, alpha, seed)


def skew(alpha: float) -> float:
    """Mean distance of the sites' label rates from the overall ones."""
    dataset = make(1500)
    patients = list(dataset.patients())
    distances = []
    for seed in range(3):
        overall = label_rates(dataset, patients)
        for part in partition_patients(dataset, patients, 8, alpha, seed):
            distances.append(np.abs(label_rates(dataset, part) - overall).mean())
    return float(np.mean(distances))


def label_rates(dataset: Dataset, patients: list[str]) -> np.ndarray:
    rows = [r.labels for r in dataset.of_patients(patients).records]
    return np.nanmean(np.array(rows), axis=0)


def test_skew_grows_as_alpha_falls() -> None:
    values = [skew(alpha) for alpha in (0.1, 1.0, 10.0, float("inf"))]
    assert values[0] > 1.3 * values[1] > 1.3**2 * values[2]
    assert values[2] > values[3]


def test_different_seeds_deal_differently() -> None:
    dataset = make(100)
    patients = list(dataset.patients())
    assert partition_patients(dataset, patients, 4, 1.0, 0) != partition_patients(
        dataset, patients, 4, 1.0, 1
    )


def test_only_the_named_patients_are_dealt() -> None:
    dataset = make(60)
    chosen = list(dataset.patients())[::2]
    dealt = partition_patients(dataset, chosen, 3, 0.5, 0)
    assert sorted(p for part in dealt for p in part) == sorted(chosen)


@pytest.mark.parametrize("alpha", [0.0, -1.0, float("nan")])
def test_alpha_must_be_positive(alpha) -> None:
    dataset = make(10)
    with pytest.raises(UserInputError, match="alpha"):
        partition_patients(dataset, list(dataset.patients()), 2, alpha, 0)


def test_unknown_or_repeated_patients_are_refused() -> None:
    dataset = make(10)
    with pytest.raises(DataError, match="'stranger' is not in made"):
        partition_patients(dataset, ["p0", "stranger"], 2, 1.0, 0)
    with pytest.raises(DataError, match="'p0' is listed twice"):
        partition_patients(dataset, ["p0", "p0"], 2, 1.0, 0)


@settings(max_examples=40, deadline=None)
@given(n=st.integers(2, 80), fraction=st.floats(0.01, 0.99), seed=st.integers(0, 10_000))
def test_splits_are_disjoint_by_patient(n, fraction, seed) -> None:
    dataset = make(n)
    size = round(fraction * n)
    if not 0 < size < n:
        with pytest.raises(UserInputError, match="empty"):
            split_patients(dataset, fraction, seed)
        return
    train, test = split_patients(dataset, fraction, seed)
    assert len(test) == size == partition.test_size(n, fraction)
    assert set(train).isdisjoint(test)
    assert set(train) | set(test) == set(dataset.patients())
    assert (train, test) == split_patients(dataset, fraction, seed)
    refuse_overlap(train, test)


@pytest.mark.parametrize("fraction", [0.0, 1.0, -0.2, 1.5, float("nan")])
def test_fractions_outside_the_unit_interval_are_refused(fraction) -> None:
    with pytest.raises(UserInputError, match="fraction"):
        split_patients(make(10), fraction, 0)


def test_seeds_choose_the_split() -> None:
    dataset = make(60)
    assert split_patients(dataset, 0.5, 0) != split_patients(dataset, 0.5, 1)
    with pytest.raises(UserInputError, match="seed"):
        split_patients(dataset, 0.5, -1)


def test_overlap_names_a_patient() -> None:
    with pytest.raises(DataError, match="'p2' is in both"):
        refuse_overlap(["p1", "p2"], ["p2", "p3"])


PLACES = ("Rome, Italy", "Madrid, Spain", "", "Toronto, Canada")


def test_origins_choose_the_site() -> None:
    dataset = make(40, origins=PLACES)
    patients = list(dataset.patients())
    rules = [("south", ["ITALY", "spain"]), ("rest", ["*"])]
    dealt = partition_by_origin(dataset, patients, rules)
    first = {}
    for record in dataset.records:
        first.setdefault(record.patient_id, record.origin)
    assert {first[p] for p in dealt["south"]} == {"Rome, Italy", "Madrid, Spain"}
    assert {first[p] for p in dealt["rest"]} == {"", "Toronto, Canada"}
    assert sorted(p for part in dealt.values() for p in part) == sorted(patients)


def test_the_star_is_last_wherever_it_stands_and_the_first_match_wins() -> None:
    dataset = make(40, origins=PLACES)
    patients = list(dataset.patients())
    rules = [("rest", ["*"]), ("rome", ["rome"]), ("italy", ["italy"])]
    dealt = partition_by_origin(dataset, patients, rules)
    assert len(dealt["rome"]) == 10
    assert dealt["italy"] == []
    assert len(dealt["rest"]) == 30


def test_patients_of_no_site_are_counted() -> None:
    dataset = make(40, origins=PLACES)
    with pytest.raises(DataError, match=r'20 of 40 patients match no site.*match = \["\*"\]'):
        partition_by_origin(dataset, list(dataset.patients()), [("a", ["italy", "spain"])])


@pytest.mark.parametrize(
    ("rules", "message"),
    [
        ([], "no site"),
        ([("a", [])], "'a' needs match"),
        ([("a", [" "])], "'a' needs match"),
        ([("a", ["x"]), ("a", ["y"])], "'a' is given twice"),
        ([("a", ["*"]), ("b", ["*"])], "both match"),
    ],
)
def test_ambiguous_rules_are_refused(rules, message) -> None:
    dataset = make(5)
    with pytest.raises(UserInputError, match=message):
        partition_by_origin(dataset, list(dataset.patients()), rules)


def test_a_pattern_says_what_sites_hold() -> None:
    both = ("image", "text")
    assert read_pattern("2:1:3") == [(("image",), 2), (("text",), 1), (both, 3)]
    assert read_pattern(" 1 : 0 : 1 ", ("xray", "notes")) == [
        (("xray",), 1),
        (("xray", "notes"), 1),
    ]
    assert read_pattern("text + image = 2,image=1") == [(both, 2), (("image",), 1)]


MALFORMED = ["", "4:4", "4:4:2:1", "a:b:c", "-1:4:2", "1.5:1:1", "0:0:0", "image", "image=", "=4"]


@pytest.mark.parametrize(
    "pattern", [*MALFORMED, "image=4;text=2", "image=-1", "image=0", "image=4,", "image:4:2"]
)
def test_malformed_patterns_are_refused(pattern) -> None:
    with pytest.raises(UserInputError, match="pattern"):
        read_pattern(pattern)
    with pytest.raises(UserInputError, match="pattern"):
        sites_modalities(pattern, 10)


@pytest.mark.parametrize(
    ("pattern", "says"),
    [
        ("imgae=4", "unknown modality 'imgae'; did you mean 'image'?"),
        ("image+=4", "unknown modality ''"),
        ("image+image=4", "names 'image+image' twice"),
        ("image+text=4, text+image=2", "names 'text+image' twice"),
    ],
)
def test_patterns_that_name_the_wrong_things_are_refused(pattern, says) -> None:
    with pytest.raises(UserInputError) as caught:
        read_pattern(pattern)
    assert says in str(caught.value)


def subsets(names: tuple[str, ...]) -> list[tuple[str, ...]]:
    return [
        held
        for code in range(1, 2 ** len(names))
        if (held := tuple(n for i, n in enumerate(names) if code >> i & 1))
    ]


@given(
    counts=st.dictionaries(
        st.sampled_from(subsets(("image", "text", "labs", "ecg"))), st.integers(0, 30), min_size=1
    ),
    data=st.data(),
)
def test_named_patterns_of_any_number_of_modalities_are_read_as_written(counts, data) -> None:
    """However the names of a kind are ordered and spaced."""
    blank = st.sampled_from(["", " ", "  "])
    parts = []
    for held, count in counts.items():
        words = [data.draw(blank) + m + data.draw(blank) for m in data.draw(st.permutations(held))]
        parts.append(f"{'+'.join(words)}={data.draw(blank)}{count}{data.draw(blank)}")
    pattern = ",".join(parts)
    kinds = [(held, count) for held, count in counts.items() if count]
    modalities = ("image", "text", "labs", "ecg")
    if not kinds:
        with pytest.raises(UserInputError, match="no sites at all"):
            read_pattern(pattern, modalities)
        return
    assert read_pattern(pattern, modalities) == kinds
    total = sum(count for _, count in kinds)
    expanded = [held for held, count in kinds for _ in range(count)]
    assert sites_modalities(pattern, total, modalities) == expanded
    assert set(sites_modalities(pattern, len(kinds), modalities)) == {held for held, _ in kinds}


@given(parts=st.tuples(*[st.integers(0, 20)] * 3), sites=st.integers(1, 60))
def test_the_two_forms_of_a_pattern_agree(parts, sites) -> None:
    colons = ":".join(map(str, parts))
    named = "image={}, text={}, image+text={}".format(*parts)
    if sites < sum(part > 0 for part in parts) or not any(parts):
        return
    assert sites_modalities(colons, sites) == sites_modalities(named, sites)


@given(parts=st.tuples(*[st.integers(0, 20)] * 3), sites=st.integers(1, 60))
def test_patterns_scale_to_any_number_of_sites(parts, sites) -> None:
    pattern = ":".join(map(str, parts))
    used = sum(part > 0 for part in parts)
    if used == 0 or sites < used:
        with pytest.raises(UserInputError, match="pattern"):
            sites_modalities(pattern, sites)
        return
    held = sites_modalities(pattern, sites)
    kinds = [("image",), ("text",), ("image", "text")]
    assert len(held) == sites
    assert held == sorted(held, key=kinds.index)
    for part, kind in zip(parts, kinds, strict=True):
        count = held.count(kind)
        exact = part * sites / sum(parts)
        assert (count > 0) == (part > 0)
        # Largest remainders stay within one; giving a part its single site may take two more.
        assert abs(count - exact) < 1 or count == 1 or exact - count <= 3
    if sites == sum(parts):
        assert held == [kind for part, kind in zip(parts, kinds, strict=True) for _ in range(part)]


def test_known_scalings() -> None:
    def counts(pattern: str, sites: int) -> list[int]:
        held = sites_modalities(pattern, sites)
        return [held.count(kind) for kind in (("image",), ("text",), ("image", "text"))]

    assert counts("4:4:2", 20) == [8, 8, 4]
    assert counts("4:4:2", 5) == [2, 2, 1]
    assert counts("8:0:2", 5) == [4, 0, 1]
    assert counts("98:1:1", 3) == [1, 1, 1]
    assert counts("4:4:2", 3) == [1, 1, 1]


def test_a_pattern_with_colons_is_for_two_modalities() -> None:
    with pytest.raises(UserInputError, match="two modalities, and there are 3: write 'image=1"):
        sites_modalities("4:4:2", 10, ("image", "text", "tabular"))


@settings(max_examples=40, deadline=None)
@given(n=st.integers(0, 90), shards=st.integers(1, 9), seed=st.integers(0, 1000))
def test_shards_are_equal_and_hold_every_patient_once(n, shards, seed) -> None:
    patients = [f"p{i}" for i in range(n)]
    names = [f"a-{i + 1}" for i in range(shards)]
    if n < shards and shards > 1:
        with pytest.raises(UserInputError, match=f"the {shards} sites a-1 to a-{shards}"):
            deal_shards(patients, names, seed)
        return
    dealt = deal_shards(patients, names, seed)
    assert list(dealt) == names
    assert [len(part) for part in dealt.values()] == ([n] if shards == 1 else site_sizes(n, shards))
    assert sorted(p for part in dealt.values() for p in part) == sorted(patients)
    assert dealt == deal_shards(patients, names, seed)


def test_shards_are_dealt_blindly() -> None:
    """Neither in the order of the file, nor alike for every seed and place."""
    patients = [f"p{i:03d}" for i in range(200)]
    dealt = deal_shards(patients, ["a-1", "a-2"], 0)
    assert dealt["a-1"] != patients[:100]
    assert dealt["a-1"] != deal_shards(patients, ["a-1", "a-2"], 1)["a-1"]
    assert dealt["a-1"] != deal_shards(patients, ["b-1", "b-2"], 0)["b-1"]
