"""Words that name the diagnosis are hidden; words that only look like them are not."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from privfin.data.masking import DIAGNOSIS_WORDS, MASK, mask_words


@pytest.mark.parametrize(
    "word",
    [
        "covid", "COVID-19", "Covid 19", "Covid19", "covid_19", "COVID-2019", "covid-positive",
        "coronavirus", "Corona virus", "corona", "SARS", "SARS-CoV-2", "SARS-CoV2", "sars cov 2",
        "nCoV", "2019-nCoV", "2019 nCoV", "MERS", "MERS-CoV", "pneumonia", "Pneumoniae",
        "bronchopneumonia", "bronchopneumonic", "pneumocystis", "PJP", "PCP", "ARDS",
        "acute respiratory distress syndrome", "Streptococcus", "streptococcal", "pneumococcal",
        "Legionella", "legionella-ag", "pneumophila", "Klebsiella", "E. coli", "E.Coli", "e coli",
        "influenza", "Influenza-A", "flu", "flu-like", "H1N1", "Mycoplasma", "tuberculosis",
    ],
)  # fmt: skip
def test_diagnosis_words_are_hidden(word) -> None:
    assert mask_words(f"Known {word}, improving.") == "Known [masked], improving."


@pytest.mark.parametrize(
    "text",
    [
        "pneumothorax and pneumomediastinum", "fluid, influx and confluent opacities",
        "colitis of the colon", "recovery was uncovered", "ritonavir and antiviral drugs",
        "numbers and tumors", "towards the wards", "peribronchovascular cuffing",
        "coronary disease", "hazards", "",
    ],
)  # fmt: skip
def test_other_words_stay(text) -> None:
    assert mask_words(text) == text


def test_punctuation_around_words_stays() -> None:
    assert mask_words("(covid-19); ARDS/SARS.") == "([masked]); [masked]/[masked]."
    assert mask_words("post-covid changes") == "post-[masked] changes"


def test_own_words_replace_the_default_list() -> None:
    assert mask_words("Covid with edema", ["edema"]) == "Covid with [masked]"
    assert mask_words("a.b axb", ["a.b"]) == "[masked] axb"
    assert mask_words("Covid", []) == "Covid"
    assert mask_words("Covid", [" "]) == "Covid"


def test_an_exact_word_leaves_longer_ones() -> None:
    assert mask_words("flu fluid flu.", ["=flu"]) == "[masked] fluid [masked]."
    assert mask_words("flu fluid", ["flu"]) == "[masked] [masked]"


@given(st.text(max_size=80))
def test_masking_twice_changes_nothing_more(text) -> None:
    once = mask_words(text)
    assert mask_words(once) == once


@given(before=st.text("abc ,.", max_size=9), word=st.sampled_from(DIAGNOSIS_WORDS))
def test_every_listed_word_is_hidden(before, word) -> None:
    plain = word.removeprefix("=")
    assert mask_words(f"{before} {plain}") == f"{before} {MASK}"
    assert mask_words(f"{before} {plain.upper()}!") == f"{before} {MASK}!"
