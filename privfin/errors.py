"""Errors that a user can act on, with the exit code the command line gives them."""

from __future__ import annotations

from collections.abc import Iterable
from difflib import get_close_matches


class PrivfinError(Exception):
    """A problem with one clear line for the user: what is wrong and what to do.

    The command line prints the message without a traceback and exits with ``exit_code``.
    """

    exit_code = 1


class UserInputError(PrivfinError):
    """An option, configuration, data set or file that cannot be used (exit code 2)."""

    exit_code = 2


class ConfigError(UserInputError):
    """A configuration that is not valid."""


class DataError(UserInputError):
    """A data set that cannot be used as it is."""


class PlanError(UserInputError):
    """A plan whose privacy or overflow conditions cannot be met."""


class BudgetError(PrivfinError):
    """A step that would spend more than the privacy budget (exit code 3)."""

    exit_code = 3


class LedgerError(PrivfinError):
    """A ledger that is missing, damaged, cut short or older than its anchors (exit code 4)."""

    exit_code = 4


class SealError(PrivfinError):
    """A report, run or ledger that is not as it was sealed (exit code 4)."""

    exit_code = 4


class PolicyError(PrivfinError):
    """Something that the site's policy does not allow (exit code 5)."""

    exit_code = 5


class ProtocolError(PrivfinError):
    """A message that is forged, replayed, malformed or out of order (exit code 6)."""

    exit_code = 6


def nearest(word: str, known: Iterable[str]) -> str:
    """Return ``; did you mean 'x'?`` for the known word closest to ``word``, or nothing."""
    close = get_close_matches(word, list(known), n=1, cutoff=0.5)
    return f"; did you mean '{close[0]}'?" if close else ""
