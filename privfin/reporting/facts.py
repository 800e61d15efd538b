"""One value of a report with its status and its source, so that nothing absent looks fine."""

from __future__ import annotations

import math
from typing import Annotated, Generic, Literal, Self, TypeVar

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, PlainSerializer, model_validator

Status = Literal["measured", "derived", "declared", "not_assessed", "not_applicable"]
"""How a value is known.

``measured``: read off data, a model or the run's own records. ``derived``: calculated from other
values. ``declared``: somebody says so, nothing checked it. ``not_assessed``: it could be known and
is not. ``not_applicable``: there is nothing to know.
"""

T = TypeVar("T")


def _from_text(value: object) -> object:
    return math.inf if value == "inf" else value


def _to_text(value: float) -> float | Literal["inf"]:
    return "inf" if math.isinf(value) else value


Extended = Annotated[
    float,
    Field(ge=0.0, allow_inf_nan=True),
    BeforeValidator(_from_text),
    PlainSerializer(_to_text, return_type=float | Literal["inf"], when_used="json"),
]
"""A number of at least 0 that may be infinite, which JSON writes as ``"inf"``."""


class Strict(BaseModel):
    """A part of a report: unknown keys are refused, and it never changes."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)


class Fact(Strict, Generic[T]):
    """One value with its status and source.

    Attributes:
        status: how it is known.
        value: what is known; None exactly where ``status`` says that nothing is.
        source: where it comes from: a file of the run, a calculation, or who declares it.
        note: why nothing is known, or what the reader has to know beside the value.

    Raises:
        ValueError: a value that nobody knows, a known one without value, or no reason for a gap.
    """

    status: Status
    value: T | None = None
    source: str = Field(min_length=1)
    note: str = ""

    @model_validator(mode="after")
    def _is_whole(self) -> Self:
        if self.is_known is (self.value is None):
            raise ValueError(f"a value that is {self.status} cannot be {self.value!r}")
        if not self.is_known and not self.note:
            raise ValueError(f"a value that is {self.status} needs a note that says why")
        return self

    @property
    def is_known(self) -> bool:
        """Whether there is a value."""
        return self.status in ("measured", "derived", "declared")

    def get(self) -> T:
        """The value.

        Raises:
            ValueError: there is none.
        """
        if self.value is None:
            raise ValueError(f"nothing is known: {self.note}")
        return self.value


def measured(value: T, source: str, note: str = "") -> Fact[T]:
    """A value read off data, a model or the run's records."""
    return Fact(status="measured", value=value, source=source, note=note)


def derived(value: T, source: str, note: str = "") -> Fact[T]:
    """A value calculated from others; ``source`` says how."""
    return Fact(status="derived", value=value, source=source, note=note)


def declared(value: T, source: str, note: str = "") -> Fact[T]:
    """A value that somebody states; nothing checked it."""
    return Fact(status="declared", value=value, source=source, note=note)


def not_assessed(why: str, source: str) -> Fact[T]:
    """A gap: it could be known, and is not."""
    return Fact(status="not_assessed", source=source, note=why)


def not_applicable(why: str, source: str) -> Fact[T]:
    """There is nothing to know here."""
    return Fact(status="not_applicable", source=source, note=why)
