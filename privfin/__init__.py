"""privfin: privacy-hardened federated learning with missing modalities."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from privfin.runs import Run as Run
    from privfin.runs import load_run as load_run

__all__ = ["Run", "load_run"]


def __getattr__(name: str) -> Any:
    """Load public names on first use, because torch takes seconds to import."""
    if name in __all__:
        return getattr(import_module("privfin.runs"), name)
    raise AttributeError(f"module 'privfin' has no attribute '{name}'")
