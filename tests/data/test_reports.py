"""Sections of reports: what was not asked for must never be in the text."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from privfin.data.reports import report_text, section_text, split_sections

# Laid out as MIMIC-CXR's reports are, with made-up content.
MIMIC = """                                 FINAL REPORT
 EXAMINATION:  CHEST (PA AND LAT)

 INDICATION:  ___F with cough  // eval for infection

 TECHNIQUE:  Chest PA and lateral

 COMPARISON:  None.

 FINDINGS:

 There is no focal consolidation.
 The heart is normal.

 IMPRESSION:

 No acute process. Secretword.
"""


def test_a_report_in_mimics_layout() -> None:
    named = [("+".join(sorted(names)), text) for names, text in split_sections(MIMIC)]
    assert named == [
        ("examination", "CHEST (PA AND LAT)"),
        ("indication", "___F with cough // eval for infection"),
        ("technique", "Chest PA and lateral"),
        ("comparison", "None."),
        ("findings", "There is no focal consolidation. The heart is normal."),
        ("impression", "No acute process. Secretword."),
    ]


def test_sections_come_in_the_order_asked_for() -> None:
    text = report_text(MIMIC, ("impression", "findings"))
    assert text == (
        "No acute process. Secretword.\nThere is no focal consolidation. The heart is normal."
    )
    assert report_text(MIMIC, ("indication",)) == "___F with cough // eval for infection"


@pytest.mark.parametrize(
    "report",
    [
        "FINDINGS: Clear lungs. IMPRESSION: Secretword.",
        "Findings: Clear lungs.\nImpression: Secretword.",
        "findings: Clear lungs. impression: Secretword.",
        "FINDINGS: Clear lungs.\n\nFINDINGS AND IMPRESSION: Secretword.",
        "FINDINGS: Clear lungs.\nIMPRESSION/FINDINGS: Secretword.",
        "FINDINGS: Clear lungs.\nCONCLUSION: Secretword.",
        "FINDINGS: Clear lungs.\nRECOMMENDATION(S): Secretword.",
        "FINDINGS: Clear lungs.\nNOTIFICATION: Secretword.",
        "FINDINGS: Clear lungs.\nADDENDUM Secretword.",
        "FINDINGS: Clear lungs.\n____________\nSecretword.",
        "WET READ: Secretword.\n FINAL REPORT\n FINDINGS: Clear lungs.",
        "Secretword.\n FINDINGS: Clear lungs.",
        "FINDINGS : Clear lungs.\r\nIMPRESSION : Secretword.",
        "FINDINGS: Clear lungs.\nPREVIOUSLY UNHEARD HEADING: Secretword.",
    ],
)
def test_other_sections_stay_out(report) -> None:
    assert report_text(report, ("findings",)) == "Clear lungs."


@pytest.mark.parametrize(
    "report",
    [
        "",
        "The lungs are clear, secretword.",
        "PA AND LATERAL VIEWS: The lungs are clear.",
        "FINDINGS:\n\nIMPRESSION: Normal.",
        "FINDINGS: ___ ___.\nIMPRESSION: Normal.",
        "FINDINGS: XXXX XXXX.\nIMPRESSION: Normal.",
        "FINDINGS AND IMPRESSION: Normal.",
        "There are new findings in the left lung.",
    ],
)
def test_a_report_without_the_section_has_no_text(report) -> None:
    assert report_text(report, ("findings",)) is None


def test_joined_headings_count_where_both_sections_are_asked_for() -> None:
    report = "FINDINGS AND IMPRESSION: Normal."
    assert report_text(report, ("impression",)) is None
    assert report_text(report, ("impression", "findings")) == "Normal."


def test_prose_is_no_heading() -> None:
    report = "FINDINGS: Film taken for comparison: none. LUNGS clear.\nHEART: Normal size."
    assert report_text(report, ("findings",)) == (
        "Film taken for comparison: none. LUNGS clear. HEART: Normal size."
    )


def test_a_heading_inside_a_part_is_obeyed() -> None:
    parts = {"findings": "Clear lungs. IMPRESSION: Secretword.", "impression": "Secretword."}
    assert section_text(parts, ("findings",)) == "Clear lungs."
    assert section_text(parts, ("impression",)) == "Secretword."
    assert section_text({"findings": "", "impression": "x"}, ("findings",)) is None
    assert section_text({"findings": "Clear.", "indication": "Cough."}, ("indication",)) == "Cough."


WORDS = st.lists(st.sampled_from(["lungs", "are", "clear", "heart", "normal"]), min_size=1)
HEADINGS = {
    "findings": ("FINDINGS:", "Findings:", "findings :"),
    "impression": ("IMPRESSION:", "Impression:", "CONCLUSION:"),
    "indication": ("INDICATION:", "Reason for exam:", "CLINICAL HISTORY:"),
    "comparison": ("COMPARISON:", "Comparison :"),
}


@given(st.data())
def test_any_layout_gives_back_exactly_the_sections(data) -> None:
    names = data.draw(st.permutations(sorted(HEADINGS)))
    report, truth = "", {}
    for name in names:
        truth[name] = f"{name[:4]}word " + " ".join(data.draw(WORDS)) + "."
        heading = data.draw(st.sampled_from(HEADINGS[name]))
        gap = data.draw(st.sampled_from([" ", "\n", "\n\n   "]))
        report += heading + gap + truth[name] + data.draw(st.sampled_from(["\n", "\n\n", " "]))
    assert {next(iter(n)): text for n, text in split_sections(report)} == truth
    for name in names:
        assert report_text(report, (name,)) == truth[name]
