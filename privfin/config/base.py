"""What every group of options has in common."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict


class Section(BaseModel):
    """A group of options: unknown keys are refused and values cannot change once read."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=True)
