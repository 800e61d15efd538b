"""A patient at several sites: what is known of it, and what it does to the headline epsilon."""

from __future__ import annotations

from typing import Literal

from privfin.config import RunConfig

#: How far a statement can be relied on.
Status = Literal["checked", "declared", "unknown"]


def disjoint_status(config: RunConfig) -> Status:
    """Whether no person is at two sites.

    ``checked``: one process dealt the patients of one source by their ids, and ``prepare`` refuses
    a patient at two sites. In a mix a person may have a name in each part, so there it is
    ``declared`` by ``federation.disjoint``, or ``unknown``.
    """
    if config.data.source != "mix":
        return "checked"
    return "declared" if config.federation.disjoint else "unknown"


def disjoint_basis(config: RunConfig) -> str:
    """By what :func:`disjoint_status` knows it, in words."""
    return {
        "checked": "one process dealt the patients of one source to the sites by their ids, and "
        "refuses a patient at two sites",
        "declared": "federation.disjoint is set; nothing checks it",
        "unknown": "a mix: a person may be in two parts under two names, and nothing declares "
        "otherwise (federation.disjoint)",
    }[disjoint_status(config)]
