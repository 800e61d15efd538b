"""The reader on real data: all 3,955 reports of Open-I."""

from pathlib import Path

import numpy as np
import pytest

from privfin.data.mesh import mesh_labels
from privfin.data.openi import read_openi
from privfin.data.openi_report import OpeniReport
from privfin.data.openi_xml import read_xml_reports
from privfin.data.reports import section_text

ROOT = Path(__file__).resolve().parents[2].parent / "shared" / "data" / "openi"


@pytest.fixture(scope="module")
def reports() -> list[OpeniReport]:
    if not (ROOT / "NLMCXR_reports.tgz").exists():
        pytest.skip(f"real data not found in {ROOT}")
    return read_xml_reports(ROOT)


def test_every_report_is_read(reports) -> None:
    assert len(reports) == len({r.uid for r in reports}) == 3955
    counts = {"comparison": 3333, "indication": 3865, "findings": 3425, "impression": 3921}
    assert {n: sum(bool(r.sections[n].strip()) for r in reports) for n in counts} == counts
    # Without the folder of images none is claimed to be there.
    assert not any(r.images for r in reports)


def test_major_terms_have_the_published_counts(reports) -> None:
    heads = [t.split("/")[0].lower() for r in reports for t in r.terms]
    counts = {"normal": 1391, "lung": 568, "opacity": 536, "cardiomegaly": 375, "pneumonia": 43,
              "pulmonary atelectasis": 347, "pleural effusion": 172, "nodule": 121}  # fmt: skip
    assert {name: heads.count(name) for name in counts} == counts


def test_every_filled_section_has_text(reports) -> None:
    for name, count in {"findings": 3425, "impression": 3921}.items():
        assert sum(section_text(r.sections, (name,)) is not None for r in reports) == count


def test_the_impression_stays_out_of_the_findings(reports) -> None:
    changed = 0
    for report in reports:
        text = section_text(report.sections, ("findings",)) or ""
        changed += text != " ".join(report.sections["findings"].split())
        assert "IMPRESSION" not in text
    # One has the heading "Comparison:" in the middle of its findings.
    assert changed == 1


def test_labels_come_from_the_codes_and_unknown_stays_unknown(reports) -> None:
    names = ("No Finding", "Cardiomegaly", "Atelectasis", "Pneumonia", "Enlarged Cardiomediastinum")
    labels = np.array([mesh_labels(r.terms, names) for r in reports])
    positive = dict(zip(names, (labels == 1).sum(axis=0).tolist(), strict=True))
    assert positive == {"No Finding": 1391, "Cardiomegaly": 375, "Atelectasis": 332,
                        "Pneumonia": 42, "Enlarged Cardiomediastinum": 0}  # fmt: skip
    # 95 reports say "No Indexing", and 6 name only the image's quality.
    assert np.isnan(labels[:, 0]).sum() == 95 + 6
    assert np.isnan(labels[:, 4]).sum() == len(labels) - 1391


def test_findings_only_by_default(reports) -> None:
    loaded = read_openi(ROOT, image_size=32)
    assert len(loaded.dataset.records) == 3425
    assert all(set(r.inputs) == {"text"} for r in loaded.dataset.records)
    left = "left out 530 reports without the sections asked for and without an image"
    assert left in loaded.dataset.notices
    assert loaded.test_patients is None
