"""A site's policy: what it allows a run to do, whoever asks (``policy.toml`` in its home).

The site's own code checks it against the configuration, the plan and the cohort that arrive, so a
launcher or a coordinator that is more generous changes nothing. What is not in the file has the
careful default below; a file that is missing or cannot be read allows nothing.
"""

from __future__ import annotations

import math
import tomllib
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Annotated, Literal, Protocol

from pydantic import Field, ValidationError, field_validator

from privfin.config import METRICS, Metric, RunConfig
from privfin.config.base import Section
from privfin.errors import PolicyError, nearest
from privfin.files import write_bytes

POLICY_FILE = "policy.toml"
Trust = Literal["local", "shared"]
Digest = Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]


class PlannedSite(Protocol):
    """What a policy reads of a site's part of a plan."""

    @property
    def name(self) -> str:
        """The site."""
        ...

    @property
    def epsilon(self) -> float:
        """Of all its steps; inf without differential privacy."""
        ...

    @property
    def delta(self) -> float:
        """Its failure probability."""
        ...


class Planned(Protocol):
    """What a policy reads of a plan."""

    @property
    def sites(self) -> Sequence[PlannedSite]:
        """Every site's part."""
        ...


class Policy(Section):
    """The rules of a site. Every figure is a limit that may be reached and not passed."""

    largest_epsilon: float = Field(
        default=8.0, gt=0, allow_inf_nan=False, description="of one run, for a patient of a site"
    )
    largest_delta: float = Field(default=1e-5, gt=0, lt=1, description="of one run")
    largest_total_epsilon: float = Field(
        default=16.0,
        gt=0,
        allow_inf_nan=False,
        description="of everything a population ever spends; no cap may be set higher",
    )
    largest_total_delta: float = Field(
        default=1e-4, gt=0, lt=1, description="likewise; no cap may be set higher"
    )
    smallest_cohort: int = Field(
        default=3, ge=1, le=1000, description="fewest sites in a sum; with 2 each can subtract"
    )
    trust: tuple[Trust, ...] = Field(
        default=("local", "shared"), description="values of privacy.trust that are allowed"
    )
    encryption_required: bool = Field(
        default=True, description="refuse runs whose updates the coordinator could read"
    )
    masks_required: bool = Field(
        default=True, description="refuse runs whose updates another site could decrypt"
    )
    metrics: tuple[Metric, ...] = Field(
        default=METRICS, description="what may be measured on held-out patients and released"
    )
    configurations: tuple[Digest, ...] = Field(
        default=(), description="SHA-256 of the configurations that are allowed; empty allows any"
    )
    allow_not_private: bool = Field(
        default=False, description="allow epsilon = inf and the test mode, which bound nothing"
    )
    allow_without_ledger: bool = Field(
        default=False, description="allow --no-ledger: runs that no budget counts"
    )

    @field_validator("trust")
    @classmethod
    def _some_trust(cls, value: tuple[Trust, ...]) -> tuple[Trust, ...]:
        if not value:
            raise ValueError("name at least one of local, shared")
        return value

    def check(self, config: RunConfig, *, sites: int, with_ledger: bool) -> None:
        """Refuse a configuration that breaks a rule.

        Args:
            config: the run's configuration.
            sites: how many sites add up their updates.
            with_ledger: whether a ledger counts what the run spends.

        Raises:
            PolicyError: every rule that is broken, with both values.
        """
        _refuse(self.violations(config, sites=sites, with_ledger=with_ledger))

    def violations(self, config: RunConfig, *, sites: int, with_ledger: bool) -> list[str]:
        """One line a broken rule of :meth:`check`; empty if there is none."""
        found = []
        privacy = config.privacy
        if not self.allow_not_private and not privacy.is_private:
            found.append("allow_not_private = false: the run has epsilon = inf")
        if not self.allow_not_private and privacy.reproducible:
            found.append("allow_not_private = false: the run is in test mode")
        if privacy.is_private and privacy.epsilon > self.largest_epsilon:
            found.append(
                f"largest_epsilon = {self.largest_epsilon:g}: the run asks for {privacy.epsilon:g}"
            )
        if privacy.is_private and privacy.delta != "auto" and privacy.delta > self.largest_delta:
            found.append(
                f"largest_delta = {self.largest_delta:g}: the run asks for {privacy.delta:g}"
            )
        if not self.allow_without_ledger and not with_ledger:
            found.append("allow_without_ledger = false: the run would be counted by no ledger")
        if privacy.trust not in self.trust:
            found.append(f"trust = {', '.join(self.trust)}: the run has '{privacy.trust}'")
        # Masks exist inside BFV only, and are always on there; CKKS sums are approximate, so that
        # masks would not cancel.
        readable = config.crypto.encryption == "none"
        if self.encryption_required and readable:
            found.append("encryption_required = true: the run has crypto.encryption = 'none'")
        if self.masks_required and readable:
            found.append("masks_required = true: without encryption there are no masks")
        if self.masks_required and config.crypto.encryption == "ckks":
            found.append("masks_required = true: crypto.encryption = 'ckks' has no masks")
        other = [name for name in config.evaluation.metrics if name not in self.metrics]
        if other:
            allowed = ", ".join(self.metrics) or "none"
            found.append(f"metrics = {allowed}: the run measures {', '.join(other)}")
        digest = config.digest()
        if self.configurations and digest not in self.configurations:
            found.append(f"configurations: {digest} is not listed")
        return [*found, *self.cohort_violations(sites)]

    def check_plan(self, plan: Planned) -> None:
        """Refuse a plan whose figures break a rule, whatever its configuration says.

        Raises:
            PolicyError: every rule that is broken, with site and both values.
        """
        _refuse(self.plan_violations(plan))

    def plan_violations(self, plan: Planned) -> list[str]:
        """One line a broken rule of :meth:`check_plan`; empty if there is none."""
        found = self.cohort_violations(len(plan.sites))
        for site in plan.sites:
            if math.isfinite(site.epsilon) and site.epsilon > self.largest_epsilon:
                found.append(
                    f"largest_epsilon = {self.largest_epsilon:g}: the plan has "
                    f"{site.epsilon:g} for site '{site.name}'"
                )
            elif not math.isfinite(site.epsilon) and not self.allow_not_private:
                found.append(
                    f"allow_not_private = false: the plan has epsilon = {site.epsilon:g} for site "
                    f"'{site.name}'"
                )
            elif math.isfinite(site.epsilon) and not site.delta <= self.largest_delta:
                found.append(
                    f"largest_delta = {self.largest_delta:g}: the plan has {site.delta:g} for "
                    f"site '{site.name}'"
                )
        return found

    def check_cohort(self, sites: int) -> None:
        """Refuse a sum over too few sites. Raises PolicyError."""
        _refuse(self.cohort_violations(sites))

    def cohort_violations(self, sites: int) -> list[str]:
        """The broken rule of :meth:`check_cohort`, if any."""
        if sites >= self.smallest_cohort:
            return []
        return [f"smallest_cohort = {self.smallest_cohort}: there are {sites} sites"]

    def check_cap(self, epsilon: float, delta: float) -> None:
        """Refuse a cap of a population above what the policy allows in total.

        Raises:
            PolicyError: naming the rule and both values.
        """
        found = []
        if not epsilon <= self.largest_total_epsilon:
            found.append(
                f"largest_total_epsilon = {self.largest_total_epsilon:g}: the cap is {epsilon:g}"
            )
        if not delta <= self.largest_total_delta:
            found.append(
                f"largest_total_delta = {self.largest_total_delta:g}: the cap is {delta:g}"
            )
        _refuse(found)


def load_policy(home: Path) -> Policy:
    """The policy of a home.

    Raises:
        PolicyError: it is missing, cannot be read, or is not valid. Nothing may go on then.
    """
    path = home / POLICY_FILE
    try:
        content = tomllib.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise PolicyError(
            f"{path} is missing: without a policy nothing is allowed; put it back, or write a new "
            "one with privfin budget init"
        ) from None
    except OSError as error:
        raise PolicyError(
            f"cannot read {path} ({error.strerror}): without a policy nothing is allowed"
        ) from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise PolicyError(f"{path} is not valid TOML: {error}; nothing is allowed") from error
    try:
        return Policy.model_validate(content)
    except ValidationError as error:
        raise PolicyError(f"{path}: {_first_problem(error)}; nothing is allowed") from None


def write_template(path: Path) -> None:
    """Write a policy of the defaults with a comment a rule. An existing file is never replaced.

    Raises:
        PolicyError: the file exists.
        UserInputError: it cannot be written.
    """
    if path.exists():
        raise PolicyError(f"{path} exists: change it by hand, it is not written over")
    write_bytes(path, template().encode())


def template() -> str:
    """The text of :func:`write_template`."""
    lines = [
        "# What this site allows a run to do. The site's own code enforces it, whatever plan",
        "# arrives. Delete no rule to switch it off: a rule that is not here has its default.",
        "",
    ]
    defaults = Policy()
    for name, field in Policy.model_fields.items():
        lines += [f"# {field.description}", f"{name} = {_toml(getattr(defaults, name))}", ""]
    return "\n".join(lines)


def _toml(value: object) -> str:
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, tuple):
        quoted = ", ".join(f'"{v}"' for v in value)
        return f"[{quoted}]"
    return repr(value)


def _refuse(violations: Iterable[str]) -> None:
    found = list(violations)
    if found:
        raise PolicyError(f"the site's policy does not allow it: {'; '.join(found)}")


def _first_problem(error: ValidationError) -> str:
    """One plain line for the first thing that is wrong; a mistyped name comes first."""
    problems = error.errors(include_url=False)
    unknown = (p for p in problems if p["type"] == "extra_forbidden")
    first = next(unknown, problems[0])
    where = ".".join(str(part) for part in first["loc"])
    if first["type"] == "extra_forbidden":
        known = Policy.model_fields
        hint = nearest(where, known) or f" (known: {', '.join(known)})"
        return f"unknown key '{where}'{hint}"
    message = str(first["msg"]).removeprefix("Value error, ")
    return f"{where}: {message[:1].lower()}{message[1:]}"
