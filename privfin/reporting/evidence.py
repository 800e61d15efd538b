"""What a report is made from: the files of one finished run, read once and checked."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

from privfin.config import RunConfig
from privfin.errors import UserInputError
from privfin.federation.plan import SiteDeclaration, TrainingPlan, make_plan
from privfin.federation.training_run import check_same_plan
from privfin.runs import METRICS_FORMAT, Run, load_run

_AUDIT_FORMAT = 1
_PRIVACY_FORMAT = 2


@dataclass(frozen=True)
class Evidence:
    """A finished run's files.

    Attributes:
        run: the run directory.
        manifest: ``manifest.json``.
        privacy: ``privacy.json``.
        metrics: ``metrics.json``.
        audit: ``audit.json``, or None if the run was not audited.
        events: ``events.jsonl``, oldest first.
    """

    run: Run
    manifest: dict[str, Any] = field(repr=False)
    privacy: dict[str, Any] = field(repr=False)
    metrics: dict[str, Any] = field(repr=False)
    audit: dict[str, Any] | None = field(repr=False)
    events: list[dict[str, Any]] = field(repr=False)

    @property
    def config(self) -> RunConfig:
        """The configuration of the run."""
        return self.run.config

    @cached_property
    def plan(self) -> TrainingPlan:
        """The plan, made again from the configuration and the sites in the manifest.

        Raises:
            ConfigError: it is not the plan that the run was started with.
        """
        plan = make_plan(
            self.config,
            [
                SiteDeclaration(one["site"], tuple(one["modalities"]), int(one["patients"]))
                for one in self.manifest["sites"]
            ],
        )
        check_same_plan(self.run, plan)
        return plan

    @contextmanager
    def reading(self, name: str) -> Iterator[None]:
        """Turn what is missing in one of the files, or of another type, into one clear line.

        Raises:
            UserInputError: the file is damaged.
        """
        try:
            yield
        except (ArithmeticError, AttributeError, KeyError, TypeError, ValueError) as error:
            raise UserInputError(
                f"{self.run.path / name} is damaged ({type(error).__name__}: "
                f"{str(error).partition(chr(10))[0]})"
            ) from error


def read_evidence(path: Path) -> Evidence:
    """Read a finished run.

    Raises:
        UserInputError: it is no run, has not finished, a file is damaged or of another format, or
            the audit is of another run.
    """
    run = load_run(path)
    if not run.is_finished:
        raise UserInputError(
            f"{path} has not finished: go on with privfin train --resume --out {path}"
        )
    metrics, privacy = run.metrics, run.privacy
    _check_format(metrics, path / "metrics.json", METRICS_FORMAT)
    _check_format(privacy, path / "privacy.json", _PRIVACY_FORMAT)
    return Evidence(run, run.manifest, privacy, metrics, _audit(run), run.events())


def _audit(run: Run) -> dict[str, Any] | None:
    path = run.path / "audit.json"
    if not path.exists():
        return None
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise UserInputError(f"{path} cannot be read as JSON") from error
    if not isinstance(content, dict):
        raise UserInputError(f"{path} is not a JSON object")
    _check_format(content, path, _AUDIT_FORMAT)
    if content.get("run_id") != run.run_id:
        raise UserInputError(f"{path} is the audit of another run: audit this one again")
    model = run.model_sha256()
    if (content.get("model_sha256") or model) != model:  # audits of earlier versions have none
        raise UserInputError(f"{path} is the audit of another model: audit the run again")
    return content


def _check_format(content: dict[str, Any], path: Path, expected: int) -> None:
    if content.get("format") != expected:
        raise UserInputError(f"{path} has format {content.get('format')}, expected {expected}")
