"""Block ``report``: what this report is, of which run, and until when it is to be relied on."""

from __future__ import annotations

import hashlib
import json
import os
import secrets
from collections.abc import Sequence
from datetime import UTC, datetime
from importlib import metadata

from privfin.errors import UserInputError
from privfin.reporting.answers.answers import SOURCE, Answers
from privfin.reporting.answers.questions import answered
from privfin.reporting.blocks_people import About, Audience
from privfin.reporting.evidence import Evidence
from privfin.reporting.facts import Fact, declared, derived, measured
from privfin.runs import now

_EPOCH = "SOURCE_DATE_EPOCH"
#: Files whose bytes an identifier is derived from, if it is.
_FILES = (
    *("manifest.json", "privacy.json", "metrics.json", "events.jsonl"),
    *("audit.json", "model.safetensors"),
)
_MANIFEST = "manifest.json"


def about_block(
    evidence: Evidence, answers: Answers, audience: Audience, others: Sequence[Evidence] = ()
) -> About:
    """The block.

    With ``SOURCE_DATE_EPOCH`` (seconds since 1970) in the environment, time and identifier are
    derived from it, the runs' files and the answers, so that the same input gives the same bytes.

    Args:
        evidence: of the run.
        answers: what people answered.
        audience: for whom the report is.
        others: runs that are shown beside it.

    Raises:
        UserInputError: ``SOURCE_DATE_EPOCH`` is not a time.
    """
    version = metadata.version("privfin")
    made_with = str(evidence.manifest["versions"].get("privfin", "unknown"))
    created = _fixed_time()
    report_id: Fact[str]
    if created is None:
        report_id = measured(secrets.token_hex(16), "random")
        moment = measured(now(), "clock")
    else:
        found = _derived_id([evidence, *others], answers, audience, created)
        report_id = derived(found, f"the runs' files, the answers and {_EPOCH}")
        moment = declared(created, _EPOCH)
    return About(
        report_id=report_id,
        created=moment,
        tool=measured(
            f"privfin {version}",
            "installed package",
            "" if version == made_with else f"the run was made with privfin {made_with}",
        ),
        audience=declared(audience, "command line"),
        release_class=derived("public" if audience == "public" else "internal", "audience"),
        withheld=derived((), "audience"),
        run_id=measured(evidence.run.run_id, _MANIFEST),
        run_name=measured(evidence.run.path.resolve().name, "run directory"),
        run_created=measured(str(evidence.manifest["created"]), _MANIFEST),
        valid_until=answered(evidence, answers, "report.valid_until"),
        supersedes=answered(evidence, answers, "report.supersedes"),
    )


def _fixed_time() -> str | None:
    """The time that the environment fixes; None if it does not."""
    text = os.environ.get(_EPOCH, "").strip()
    if not text:
        return None
    try:
        return datetime.fromtimestamp(int(text), UTC).isoformat(timespec="seconds")
    except (ValueError, OverflowError, OSError) as error:
        raise UserInputError(
            f"{_EPOCH}={text!r} is not a time: give seconds since 1970, or unset it"
        ) from error


def _derived_id(
    runs: Sequence[Evidence], answers: Answers, audience: Audience, created: str
) -> str:
    """32 hexadecimal digits of everything that a report is made from."""
    digest = hashlib.sha256()
    for one in runs:
        for name in _FILES:
            path = one.run.path / name
            content = path.read_bytes() if path.exists() else b""
            digest.update(f"{name} {len(content)}\n".encode() + content)
    rest = [SOURCE, answers.values, audience, created]
    digest.update(json.dumps(rest, sort_keys=True).encode())
    return digest.hexdigest()[:32]
