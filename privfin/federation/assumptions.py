"""What a privacy statement rests on, and how far each of it is known."""

from __future__ import annotations

from privfin.config import RunConfig
from privfin.federation.overlap import Status, disjoint_basis, disjoint_status

# Sources whose records have no person's identifier: each report or image counts as a patient.
_NAMELESS = {"openi": "a report", "medmnist": "an image"}


def assumptions(config: RunConfig) -> list[dict[str, str]]:
    """Every assumption with ``id``, ``text``, ``status`` and ``by``: by what it is known.

    ``checked`` means that the program enforces it or looked; ``declared`` that somebody says so;
    ``unknown`` that nobody does.
    """
    found: list[tuple[str, str, Status, str]] = [
        (
            "poisson-sampling",
            "every patient is drawn independently with the stated sampling rate in every step",
            "checked",
            "the only sampler there is draws so; a batch that is given has no other way in",
        ),
        _noise(config),
        (
            "clipping",
            "one patient moves the sum of a step by at most the clipping norm",
            "checked",
            "one record of each drawn patient, whose gradient over all parameters is clipped",
        ),
        (
            "one-site-a-patient",
            "no person is a patient of two sites",
            disjoint_status(config),
            disjoint_basis(config),
        ),
        _names(config),
        _honesty(config),
        _numbers(config),
        (
            "settings-chosen-in-advance",
            "the settings were not chosen by results of earlier runs on the same patients",
            "unknown",
            "a run does not see earlier ones; a ledger adds them up so that it does not matter",
        ),
    ]
    return [{"id": i, "text": t, "status": s, "by": b} for i, t, s, b in found]


def _honesty(config: RunConfig) -> tuple[str, str, Status, str]:
    if config.privacy.trust == "shared":
        return (
            "honest-shares",
            f"all but {config.privacy.collusion} sites add their share of the noise in secret",
            "unknown",
            "nothing proves it; privacy.json lists what holds against more colluding sites",
        )
    return (
        "honest-sites",
        "a site trains as this program does",
        "unknown",
        "nothing proves it to others; the guarantee of a site's own patients needs that site alone",
    )


def _numbers(config: RunConfig) -> tuple[str, str, Status, str]:
    if config.privacy.trust == "shared":
        return (
            "real-numbers",
            "gradients are clipped and summed in floating point before they become integers",
            "unknown",
            "the bound has a margin for it; noise and sums are whole numbers, sampled exactly",
        )
    return (
        "real-numbers",
        "noise and sums are floating point, the proof is for real numbers",
        "unknown",
        "noise is summed from several draws against the known attack; that is no proof",
    )


def _noise(config: RunConfig) -> tuple[str, str, Status, str]:
    text = "noise and sampling come from a cryptographic generator keyed by the operating system"
    if config.privacy.reproducible:
        return (
            "secret-noise",
            "nobody knows the noise",
            "unknown",
            "test mode: it can be computed from the public seed, so this does not hold",
        )
    return ("secret-noise", text, "checked", "the program has no other source outside test mode")


def _names(config: RunConfig) -> tuple[str, str, Status, str]:
    text = "a patient's identifier in the data stands for one person, and a person has only one"
    sources = (
        [part.source for part in config.data.part]
        if config.data.source == "mix"
        else [config.data.source]
    )
    nameless = sorted({_NAMELESS[s] for s in sources if s in _NAMELESS})
    if nameless:
        by = f"the data name no persons: {' and '.join(nameless)} counts as a patient"
        return ("ids-name-persons", text, "unknown", by)
    if all(source == "phantom" for source in sources):
        return ("ids-name-persons", text, "checked", "the patients are made up")
    return ("ids-name-persons", text, "declared", "by the data; nothing can check it")
