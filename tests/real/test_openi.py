"""The reader on real data: all 3,955 reports of Open-I."""

from pathlib import Path

import numpy as np
import pytest

from privfin.data.openi import read_openi
from privfin.data.openi_report import OpeniReport
from privfin.data.openi_xml import read_xml_reports
from privfin.data.reports import section_text

ROOT = Path(__file__).resolve().parents[2].parent / "shared" / "data" / "openi"
SECTIONS = ("findings", "impression", "indication")


@pytest.fixture(scope="module")
def reports() -> list[OpeniReport]:
    if not (ROOT / "NLMCXR_reports.tgz").exists():
        pytest.skip(f"real data not found in {ROOT}")
    return read_xml_reports(ROOT)


def test_every_report_is_read(reports) -> None:
    assert len(reports) == len({r.uid for r in reports}) == 3955
    filled = {name: sum(bool(r.sections[name].strip()) for r in reports)
              for name in ("comparison", *SECTIONS)}  # fmt: skip
    assert filled == {
        "comparison": 3333, "indication": 3865, "findings": 3425, "impression": 3921,
    }  # fmt: skip
    # Without the folder of images none is claimed to be there.
    assert not any(r.images for r in reports)


def test_major_terms_have_the_published_counts(reports) -> None:
    heads = [t.split("/")[0].lower() for r in reports for t in r.terms]
    expected = {"normal": 1391, "lung": 568, "opacity": 536, "cardiomegaly": 375, "pneumonia": 43,
                "pulmonary atelectasis": 347, "pleural effusion": 172, "nodule": 121}  # fmt: skip
    assert {name: heads.count(name) for name in expected} == expected


def test_every_filled_section_has_text_of_its_own(reports) -> None:
    for name in ("findings", "impression"):
        texts = [section_text(r.sections, (name,)) for r in reports]
        assert (
            sum(text is not None for text in texts) == {"findings": 3425, "impression": 3921}[name]
        )
    # One report repeats itself whole inside its impression; nothing else may leak between parts.
    both = [
        r for r in reports if r.sections["findings"].strip() and r.sections["impression"].strip()
    ]
    changed = 0
    for report in both:
        text = section_text(report.sections, ("findings",))
        changed += text != " ".join(report.sections["findings"].split())
        assert "IMPRESSION" not in text
    assert changed <= 2


def test_labels_come_from_the_codes_and_unknown_stays_unknown(reports) -> None:
    names = ("No Finding", "Cardiomegaly", "Atelectasis", "Pneumonia", "Enlarged Cardiomediastinum")
    loaded = read_openi(ROOT, image_size=32, labels=names, sections=SECTIONS)
    labels = np.array([r.labels for r in loaded.dataset.records])
    positive = dict(zip(names, (labels == 1).sum(axis=0).tolist(), strict=True))
    assert positive == {"No Finding": 1391, "Cardiomegaly": 375, "Atelectasis": 332,
                        "Pneumonia": 42, "Enlarged Cardiomediastinum": 0}  # fmt: skip
    uncoded = int(np.isnan(labels[:, 0]).sum())
    notice = f"{uncoded} reports are not coded: their labels are unknown"
    assert notice in loaded.dataset.notices
    # 95 reports say "No Indexing"; a few more name only the image's quality.
    assert 95 < uncoded < 105
    assert np.isnan(labels[:, 4]).sum() == len(labels) - 1391


def test_findings_only_by_default(reports) -> None:
    loaded = read_openi(ROOT, image_size=32)
    assert len(loaded.dataset.records) == 3425
    assert all(set(r.inputs) == {"text"} for r in loaded.dataset.records)
    left = "left out 530 reports without the sections asked for and without an image"
    assert left in loaded.dataset.notices
    assert loaded.test_patients is None
