"""Any model audited: the page's example word for word, a loop as reference, and every refusal."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from sklearn.metrics import log_loss

from attacks import Target
from attacks.attempt import Attempt
from attacks.auc import auc
from attacks.errors import AuditRefusedError
from attacks.measure import measure
from attacks.table import text_table

PAGE = Path(__file__).parents[2] / "docs/how-to/audit-any-model.md"
RECORDS, MODELS = 400, 21


def test_the_page_runs(capsys: pytest.CaptureFixture[str]) -> None:
    (example,) = re.findall(r"```python\n(.*?)```", PAGE.read_text("utf-8"), re.DOTALL)
    exec(compile(example, str(PAGE), "exec"), {})  # noqa: S102
    lines = capsys.readouterr().out.splitlines()
    assert all(len(line) < 80 for line in lines)
    areas = {line.split()[0]: float(line.split()[1]) for line in lines[1:-1]}
    # 1,797 records: the standard error of a chance attack's AUC is 0.014.
    assert set(areas) == {
        "loss", "entropy", "modified-entropy", "calibrated-loss", "lira", "lira-online", "rmia",
    }  # fmt: skip
    assert areas["loss"] > 0.68
    assert areas["rmia"] > areas["lira"] > areas["loss"]


def planted(strength: float, *, findings: bool) -> dict[str, Any]:
    """Outputs of models that remember ``strength`` of each label, and inputs that say nothing."""
    rng = np.random.default_rng(1)
    coins = rng.random((MODELS, RECORDS)) < 0.5
    logits = rng.normal(size=(MODELS, RECORDS, 3))
    if findings:
        labels = rng.integers(0, 2, (RECORDS, 3)).astype(float)
        sign = 2.0 * labels - 1.0
        labels[rng.random(labels.shape) < 0.2] = np.nan
        labels[:, 0] = (sign[:, 0] + 1.0) / 2.0
    else:
        labels = rng.integers(0, 3, RECORDS)
        sign = np.eye(3)[labels] * 2.0 - 1.0
    logits = logits + strength * coins[..., np.newaxis] * sign
    return {
        "logits": logits[0], "labels": labels, "members": coins[0], "shadows": logits[1:],
        "inside": coins[1:], "inputs": rng.normal(size=(RECORDS, 4)),
    }  # fmt: skip


def unchecked(given: dict[str, Any]) -> list[Attempt]:
    return Target(**{**given, "inputs": None}, not_blind_checked="known by design").attempts()


def areas(attempts: list[Attempt]) -> dict[str, float]:
    return {a.attack: auc(a.scores, a.members).area for a in attempts}


@pytest.mark.parametrize("findings", [False, True])
def test_leak_is_found_and_nothing_is_found_in_nothing(findings: bool) -> None:
    for name, area in areas(unchecked(planted(1.5, findings=findings))).items():
        if name not in ("entropy",):
            assert area > 0.8, name
    for name, area in areas(unchecked(planted(0.0, findings=findings))).items():
        # Standard error 0.029: five of them for 14 attacks fail by chance < 1e-5, six < 1e-6.
        assert abs(area - 0.5) < 6 * 0.029, name


def test_loss_against_scikit_learn_and_constants() -> None:
    given = planted(1.0, findings=False)
    raw = np.exp(given["logits"])
    p = raw / raw.sum(axis=1, keepdims=True)
    audit = Target.from_predict_proba(
        lambda _: p, given["inputs"], given["labels"], given["members"]
    )
    loss = audit.attempts()[0].scores
    each = [
        -log_loss([y], [row], labels=[0, 1, 2]) for y, row in zip(given["labels"], p, strict=True)
    ]
    assert np.allclose(loss, each, atol=1e-5)
    flat = Target(
        np.zeros((RECORDS, 3)), np.zeros(RECORDS, int), given["members"], not_blind_checked="x"
    )
    assert set(areas(flat.attempts()).values()) == {0.5}


def test_a_module_is_asked_in_evaluation_mode() -> None:
    given = planted(0.0, findings=False)
    model = torch.nn.Sequential(torch.nn.Linear(4, 3), torch.nn.Dropout(0.5))
    with pytest.raises(AuditRefusedError, match="evaluation mode"):
        Target.from_module(model, given["inputs"], given["labels"], given["members"])
    audit = Target.from_module(model.eval(), given["inputs"], given["labels"], given["members"])
    with torch.no_grad():
        expected = model(torch.tensor(given["inputs"], dtype=torch.float32)).numpy()
    assert np.allclose(audit.logits, expected, atol=1e-6)


def test_one_score_a_patient_whatever_the_order() -> None:
    given = planted(1.0, findings=True)
    patients = np.arange(RECORDS) // 2
    coins = np.vstack([given["members"], given["inside"]])[:, patients * 2]
    given |= {"members": coins[0], "inside": coins[1:]}
    first = Target(**given, patients=patients).attempts()
    order = np.random.default_rng(3).permutation(RECORDS)
    moved = {k: v[:, order] if k in ("shadows", "inside") else v[order] for k, v in given.items()}
    second = Target(**moved, patients=patients[order]).attempts()
    assert len(first[0].scores) == RECORDS // 2
    for one, other in zip(first, second, strict=True):
        assert np.allclose(one.scores, other.scores, rtol=1e-9)
        assert np.array_equal(one.members, other.members)


def test_refusals() -> None:
    given = planted(0.0, findings=False)
    with pytest.raises(AuditRefusedError, match="members and non-members at once"):
        Target(**given, patients=np.zeros(RECORDS))
    shown = given | {"inputs": given["inputs"] + 3.0 * given["members"][:, np.newaxis]}
    with pytest.raises(AuditRefusedError, match="before any model"):
        Target(**shown)
    noted = Target(**shown, not_blind_checked="a test").attempts()
    assert all("a test" in attempt.note for attempt in noted)
    with pytest.raises(AuditRefusedError, match="not_blind_checked"):
        Target(**{**given, "inputs": None})
    with pytest.raises(ValueError, match="go together"):
        Target(**{**given, "inside": None})


def test_the_table_says_what_is_not_resolved() -> None:
    attempt = Target(**planted(0.0, findings=False)).attempts()[0]
    text = text_table([measure(attempt, delta=1e-5)])
    assert text.count("*") == 2
    assert "0.53 %" in text
