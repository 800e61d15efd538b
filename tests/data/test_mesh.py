"""The map from MeSH terms to labels: only heads count, and what is not coded stays unknown."""

import numpy as np
import pytest

from privfin.data.chexpert_labels import CHEXPERT_LABELS
from privfin.data.mesh import MESH_LABELS, mesh_labels


def positives(*terms: str) -> set[str]:
    values = mesh_labels(terms, CHEXPERT_LABELS)
    return {name for name, value in zip(CHEXPERT_LABELS, values, strict=True) if value == 1}


def value(name: str, *terms: str) -> float:
    return float(mesh_labels(terms, (name,))[0])


def test_a_normal_report_has_no_finding_and_nothing_else() -> None:
    labels = mesh_labels(("normal",), CHEXPERT_LABELS)
    assert positives("normal") == {"No Finding"}
    assert not np.isnan(labels).any()


def test_heads_count_and_qualifiers_do_not() -> None:
    assert positives("Opacity/lung/base/left", "Calcinosis/pneumonia") == {"Lung Opacity"}
    assert positives("CARDIOMEGALY/borderline") == {"Cardiomegaly"}
    assert positives("Lung/opacity", "Emphysema", "Spine/degenerative") == set()
    assert value("No Finding", "Spine/degenerative") == 0


def test_thickening_is_pleural_only_where_it_says_so() -> None:
    assert positives("Thickening/pleura/apex/right") == {"Pleural Other"}
    assert positives("Thickening/bronchovascular") == set()


def test_every_label_of_the_map_is_one_of_the_fourteen() -> None:
    reached = {name for names in MESH_LABELS.values() for name in names}
    assert reached == set(CHEXPERT_LABELS) - {"Enlarged Cardiomediastinum"}


@pytest.mark.parametrize(
    "terms", [(), ("No Indexing",), ("Technical Quality of Image Unsatisfactory",), ("",)]
)
def test_uncoded_reports_have_unknown_labels(terms) -> None:
    assert np.isnan(mesh_labels(terms, CHEXPERT_LABELS)).all()


def test_what_no_head_decides_is_unknown() -> None:
    assert np.isnan(value("Enlarged Cardiomediastinum", "Opacity"))
    assert np.isnan(value("Cardiomegaly", "Cardiac Shadow/enlarged"))
    assert value("Cardiomegaly", "Cardiac Shadow/enlarged", "Cardiomegaly/mild") == 1
    assert value("Cardiomegaly", "Opacity") == 0


def test_names_choose_and_order_the_labels() -> None:
    labels = mesh_labels(("Pneumonia", "Pulmonary Edema/mild"), ("Pneumonia", "Fracture", "Edema"))
    assert labels.tolist() == [1, 0, 1]
    assert labels.dtype == np.float32
