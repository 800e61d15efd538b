"""Sealed reports on copies of real runs, and ledgers of their patients."""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from privfin.privacy.accounting import SubsampledGaussianEvent
from privfin.privacy.composition import Spend
from privfin.privacy.ledger import DataSet, DatasetKey, Ledger
from privfin.reporting.facts import derived, measured
from privfin.reporting.schema import Report
from privfin.reporting.sealing.canonical import canonical_json, digest
from privfin.reporting.sealing.checks import Check
from privfin.reporting.sealing.seal import seal, statement
from privfin.reporting.sealing.signing import ReportKey
from privfin.reporting.sealing.verify import verify_report


@dataclass(frozen=True)
class SealedReport:
    """A report's files beside their seal, the run that they are about, and a ledger.

    Attributes:
        folder: of ``report-officer.json`` and the others.
        report: what they say.
        run: the run directory.
        home: of the ledger.
        key: that signed the seal; None if nobody did.
    """

    folder: Path
    report: Report
    run: Path
    home: Path
    key: ReportKey | None

    def file(self, ending: str) -> Path:
        return self.folder / f"report-officer{ending}"

    def check(self, ending: str = ".json", **options: Any) -> list[Check]:
        """As the command does, with run and ledger."""
        given = {"run": self.run, "ledger_home": self.home, **options}
        return verify_report(self.file(ending), **given)

    def wrong(self, ending: str = ".json", **options: Any) -> set[str]:
        """What does not hold."""
        return {one.subject for one in self.check(ending, **options) if one.holds is False}


def write_sealed(folder: Path, report: Report, key: ReportKey | None) -> None:
    """The files of a report and its seal."""
    page = f'<html><body><p id="fingerprint">SHA-256: {digest(report)}</p></body></html>'
    files = {
        "report-officer.json": canonical_json(report),
        "report-officer.html": page.encode(),
        "report-officer.md": b"# A model card\n",
    }
    folder.mkdir(exist_ok=True)
    for name, content in files.items():
        (folder / name).write_bytes(content)
    (folder / "report-officer.seal.json").write_bytes(seal(statement(report, files), key))


@pytest.fixture
def make_ledger(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Path]:
    """Makes a ledger with a settled run, a few rows in all; gives its home."""
    monkeypatch.setenv("PRIVFIN_ANCHORS", str(tmp_path / "anchors"))

    def make(name: str = "home") -> Path:
        key = DatasetKey("openi", "/data/openi")
        spend = Spend(((SubsampledGaussianEvent(1.0, 0.05, 10),),))
        with Ledger.create(tmp_path / name, name="Clinic") as ledger:
            ledger.set_cap("lungs", Decimal(8), Decimal("1e-5"), officer="Ann", reason="")
            ledger.bind([DataSet(key, "openi", ["p1", "p2"])], "lungs", officer="Ann")
            binding = ledger.binding_of(key)
            assert binding is not None
            run = ledger.reserve("a", [binding], spend, kind="train", config_digest="c", delta=1e-5)
            ledger.settle(ledger.start(run, spend))
        return tmp_path / name

    return make


@pytest.fixture
def sealed_report(
    tmp_path: Path,
    sample_report: Callable[..., Report],
    finished_runs: Callable[..., Any],
    make_ledger: Callable[..., Path],
) -> Callable[..., SealedReport]:
    """Makes a sealed report on a copy of a real run: ``sealed_report(signed=False)``."""

    def make(*, signed: bool = True, kind: str = "dp", **changes: Any) -> SealedReport:
        run = tmp_path / "run"
        shutil.copytree(finished_runs(kind).path, run)
        manifest, privacy = (
            json.loads((run / f"{name}.json").read_text()) for name in ("manifest", "privacy")
        )
        audit = {"format": 1, "run_id": manifest["run_id"], "verdict": "none found"}
        (run / "audit.json").write_text(json.dumps(audit))
        hashes = tuple(
            {"file": name, "sha256": hashlib.sha256((run / name).read_bytes()).hexdigest()}
            for name in ("manifest.json", "model.safetensors", "metrics.json", "privacy.json",
                         "events.jsonl", "audit.json")
        )  # fmt: skip
        home = make_ledger()
        with Ledger.open(home) as ledger:
            head = ledger.head().to_dict()
        headline = privacy["population"]
        facts = {
            "report__run_id": measured(manifest["run_id"], "manifest.json"),
            "guarantee__claim": measured(privacy["claim"], "privacy.json"),
            "guarantee__epsilon": derived(headline["epsilon"], "privacy.json"),
            "guarantee__delta": measured(headline["delta"], "privacy.json"),
            "reproducibility__files": measured(hashes, "files"),
            "ledger__head": measured(head, "ledger"),
        }
        report = sample_report(**{**facts, **changes})
        key = ReportKey.make(tmp_path / "reports.key") if signed else None
        write_sealed(tmp_path / "report", report, key)
        return SealedReport(tmp_path / "report", report, run, home, key)

    return make
