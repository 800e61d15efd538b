"""Why an audit refuses to print a number."""

from __future__ import annotations


class AuditRefusedError(Exception):
    """The numbers of this audit would not mean what they seem to mean."""
