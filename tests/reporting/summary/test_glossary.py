"""The glossary: every word that a reader meets, in one plain sentence."""

from __future__ import annotations

import re

import pytest

from privfin.reporting.summary.glossary import GLOSSARY

WORDS = ["differential privacy", "epsilon", "delta", "patient-level", "clip norm",
         "noise multiplier", "sampling rate", "membership inference", "false alarm",
         "trade-off curve", "mu", "AUROC", "calibration error", "shadow model", "canary",
         "ceiling", "ledger", "ciphertext", "mask", "imputed", "odds", "population", "cap",
         "test mode", "contradiction", "risk rule"]  # fmt: skip


@pytest.mark.parametrize("word", WORDS)
def test_words_are_explained(word: str) -> None:
    assert word in {one.term for one in GLOSSARY}


def test_one_plain_sentence_each_in_order() -> None:
    terms = [one.term for one in GLOSSARY]
    assert terms == sorted(set(terms), key=str.lower)
    for one in GLOSSARY:
        assert one.meaning[0].isupper()
        assert len(re.findall(r"[.!?](?=\s|$)", one.meaning)) == 1, one
        assert one.meaning.endswith(".")
        assert len(one.meaning) <= 180
        for word in ("anonym", "complian", "certif", "safe"):
            assert word not in one.meaning.lower()
