"""Blocks of a report that people fill in or decide on: purpose, parties, data, risks, sign-off."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from privfin.reporting.facts import Fact, Strict

Count = int | str
"""A number of people or records; a text (``about 100``, ``1 to 10``) where it was made coarser."""

Audience = Literal["officer", "engineer", "public"]
ReleaseClass = Literal["internal", "public"]


class About(Strict):
    """The report itself.

    Attributes:
        report_id: random, of this report.
        created: UTC, ISO 8601; ``SOURCE_DATE_EPOCH`` sets it.
        tool: ``privfin`` and its version.
        audience: for whom it was written.
        release_class: how far it may travel. ``public`` has small cells suppressed and counts
            rounded.
        withheld: what was made coarser or left out for the release class, in words.
        run_id: of the run that it is about.
        run_name: the run directory's name.
        run_created: when the run was started, UTC.
        valid_until: until when the finding is to be relied on, ISO date.
        supersedes: the report that this one replaces.
    """

    report_id: Fact[str]
    created: Fact[str]
    tool: Fact[str]
    audience: Fact[Audience]
    release_class: Fact[ReleaseClass]
    withheld: Fact[tuple[str, ...]]
    run_id: Fact[str]
    run_name: Fact[str]
    run_created: Fact[str]
    valid_until: Fact[str]
    supersedes: Fact[str]


class Purpose(Strict):
    """What the model is for. All but ``task`` and ``labels`` a person has to state.

    Attributes:
        task: what the model predicts from what.
        labels: the labels, in the order of the model's outputs.
        intended_use: clinical or research use.
        people: whose data: the population in words.
        out_of_scope: uses that it is not for.
        legal_basis: of the processing (for example of GDPR articles 6 and 9).
        necessity: why patients' data are needed, and why not less of them.
        permit: number of an ethics vote, waiver or data permit.
        impact_assessment: reference of the data protection impact assessment.
        protection_officer: who is the data protection officer.
    """

    task: Fact[str]
    labels: Fact[tuple[str, ...]]
    intended_use: Fact[str]
    people: Fact[str]
    out_of_scope: Fact[str]
    legal_basis: Fact[str]
    necessity: Fact[str]
    permit: Fact[str]
    impact_assessment: Fact[str]
    protection_officer: Fact[str]


class Site(Strict):
    """A site: what it holds and how many patients it declared."""

    site: str
    modalities: tuple[str, ...]
    patients: Count


class Departure(Strict):
    """A site that dropped out during a round."""

    site: str
    round: int
    attempt: int


class Parties(Strict):
    """Who takes part.

    Attributes:
        sites: that train.
        sites_left: that dropped out on the way; empty if none did.
        roles: controller, joint controller or processor, for each party.
        coordinator: who runs the coordinator.
        recipients: who gets the model.
        trust: who is trusted with what.
    """

    sites: Fact[tuple[Site, ...]]
    sites_left: Fact[tuple[Departure, ...]]
    roles: Fact[str]
    coordinator: Fact[str]
    recipients: Fact[str]
    trust: Fact[str]


class Data(Strict):
    """The data.

    Attributes:
        source: name of the source.
        is_simulated: whether all patients are made up.
        unit: whose whole record set counts as one: the protected unit, in words.
        training_patients: of all sites.
        held_out_patients: kept for measuring.
        notices: what was left out in reading, and why; no names.
        fingerprints: SHA-256 of each site's data (by name), and of the held-out ones.
        period: which years the data are from.
        label_origin: how the labels were made.
        consent: consent, waiver or opt-out, and whether it was applied.
    """

    source: Fact[str]
    is_simulated: Fact[bool]
    unit: Fact[str]
    training_patients: Fact[Count]
    held_out_patients: Fact[Count]
    notices: Fact[tuple[str, ...]]
    fingerprints: Fact[dict[str, str]]
    period: Fact[str]
    label_origin: Fact[str]
    consent: Fact[str]


class Tuning(Strict):
    """How the settings came about.

    Attributes:
        trials: how many runs were made to choose the settings.
        is_counted: whether these trials are in the stated epsilon or in a ledger, in words.
        chosen_by: how the reported round was chosen.
    """

    trials: Fact[int]
    is_counted: Fact[str]
    chosen_by: Fact[str]


class Release(Strict):
    """Something computed from patients without the guarantee: what, and who sees it."""

    what: str
    seen_by: str


class OtherReleases(Strict):
    """What the guarantee does not cover.

    Attributes:
        not_covered: the list of the privacy statement, in words.
        releases: outputs that were computed without noise.
        justification: why a person finds them acceptable.
    """

    not_covered: Fact[tuple[str, ...]]
    releases: Fact[tuple[Release, ...]]
    justification: Fact[str]


Level = Literal["negligible", "limited", "significant", "maximal"]


class Risk(Strict):
    """A feared event.

    Attributes:
        risk_id: short name.
        event: what could happen to a patient.
        criterion: of WP29 opinion 05/2014: which of three things it is, or ``other``.
        evidence: what this report has on it, with numbers.
        fields: JSON pointers into the report.
        measure: what works against it.
        residual: what stays.
        severity: a person's estimate; None while open.
        likelihood: a person's estimate; None while open.
        decision: a person's; None while open.
    """

    risk_id: str
    event: str
    criterion: Literal["singling out", "linkability", "inference", "other"]
    evidence: str
    fields: tuple[str, ...]
    measure: str
    residual: str
    severity: Level | None = None
    likelihood: Level | None = None
    decision: str | None = None


class Risks(Strict):
    """Feared events: the tool proposes, a person decides."""

    risks: Fact[tuple[Risk, ...]]


class Clause(Strict):
    """A clause of a law or standard.

    Attributes:
        framework: law or standard.
        edition: with its date.
        clause: number, as far as known.
        subject: what it asks for, in our words.
        is_verified: whether the number was checked against the original.
        fields: JSON pointers to the evidence in this report.
        evidence: whether it is ``here``, ``partly`` here, or ``missing`` (fields not assessed).
        remains: what is left for a person.
    """

    framework: str
    edition: str
    clause: str
    subject: str
    is_verified: bool
    fields: tuple[str, ...]
    evidence: Literal["here", "partly", "missing"]
    remains: str


class ClauseMap(Strict):
    """Which field is evidence for which clause. Evidence, never a verdict.

    Attributes:
        edition: version of the map.
        as_of: date of the state of law that it knows.
        clauses: rows.
    """

    edition: Fact[str]
    as_of: Fact[str]
    clauses: Fact[tuple[Clause, ...]]


class Signature(Strict):
    """A person's line. ``decision`` is None while open."""

    role: str
    name: str | None = None
    date: str | None = None
    decision: str | None = None
    comment: str = ""


class Question(Strict):
    """A question that only a person can answer. ``key`` is that of the answers file."""

    key: str
    text: str
    is_required: bool
    is_answered: bool


class SignOff(Strict):
    """Who decides, and what is still open."""

    signatures: Fact[tuple[Signature, ...]]
    questions: Fact[tuple[Question, ...]]


class Sentence(Strict):
    """One answer of page one.

    Attributes:
        key: which question: ``trained``, ``protected``, ``odds``, ``attacked``, ``budget``,
            ``left-sites``, ``not-covered``, ``decide``, ``verify``.
        question: in plain words.
        text: the answer: one to three sentences, with a number.
        tone: ``plain``, ``good`` only for something that was checked, ``open`` for gaps, ``bad``
            for what must be seen at once.
        fields: JSON pointers to what it rests on.
    """

    key: str
    question: str
    text: str = Field(min_length=1)
    tone: Literal["plain", "good", "open", "bad"]
    fields: tuple[str, ...]
