"""The command line: ``privfin``. Exit codes are in :mod:`privfin.cli.app`."""

from __future__ import annotations

from privfin.cli.app import main

__all__ = ["main"]
