"""``privfin doctor``: what this machine makes of a run, measured."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from privfin.config import load_config, parse_override

if TYPE_CHECKING:
    from rich.console import Console

    from privfin.config import RunConfig
    from privfin.federation.sizing import SchemeSize, Sizing

CRYPTO_EPILOG = """Examples:

  privfin doctor crypto

  privfin doctor crypto --sites 16 --precision 3x15

  privfin doctor crypto configs/quick.toml --repeats 3 --json

Seconds are of one CPU thread, medians of measurements taken in turn.
NVFlare's row is CKKS as its HEBuilder sets it by default, run with TenSEAL.
Exit codes: 0 done, 2 bad input, or a cohort that cannot be summed."""

app = typer.Typer(
    help="Measure on this machine what a run would cost.",
    no_args_is_help=True,
    rich_markup_mode=None,
    context_settings={"help_option_names": ["-h", "--help"]},
)

_NAMES = {
    "2x20": "bfv 2x20",
    "3x15": "bfv 3x15",
    "2x28": "bfv 2x28",
    "ckks": "ckks",
    "nvflare": "NVFlare",
    "plain": "none",
}


@app.callback()
def _doctor() -> None:
    """Keep ``crypto`` a command of its own, however many there are."""


@app.command("crypto", epilog=CRYPTO_EPILOG)
def crypto(
    config: Annotated[
        Path | None, typer.Argument(help="Configuration in TOML; the built-in one if left out.")
    ] = None,
    sites: Annotated[int | None, typer.Option(help="Number of sites.")] = None,
    encryption: Annotated[str | None, typer.Option(help="bfv (with masks), ckks or none.")] = None,
    precision: Annotated[
        str | None,
        typer.Option(
            help="Fields x bits in a slot: 2x20; 3x15 for a third fewer bytes; 2x28 for many sites."
        ),
    ] = None,
    repeats: Annotated[int, typer.Option(min=1, max=100, help="Measurements of each scheme.")] = 5,
    set_: Annotated[
        list[str] | None, typer.Option("--set", help="Any option, as section.key=value.")
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Show what encryption costs for this model and cohort, measured now."""
    from rich.progress import Progress

    from privfin.cli.display import plain_console
    from privfin.federation.encryption_statement import encryption_statement
    from privfin.federation.sizing import ROWS, size_up

    overrides: list[tuple[str, Any]] = [parse_override(text) for text in set_ or []]
    named = {
        "federation.sites": sites,
        "crypto.encryption": encryption,
        "crypto.layout": precision,
    }
    overrides += [(key, value) for key, value in named.items() if value is not None]
    settings = load_config(config, overrides)
    console = plain_console(as_json)
    with Progress(console=console, transient=True, disable=not console.is_terminal) as progress:
        task = progress.add_task("measuring", total=repeats * len(ROWS))
        found = size_up(settings, repeats, lambda: progress.advance(task))
    if as_json:
        content = {**asdict(found), "encryption": encryption_statement(settings.crypto)}
        typer.echo(json.dumps(content, indent=2))
        return
    _print(console, settings, found)


def _print(console: Console, config: RunConfig, found: Sizing) -> None:
    from rich.table import Table

    from privfin.cli.display import human_bytes
    from privfin.federation.encryption_statement import CKKS_IS_WEAKER

    console.print(
        f"{found.values} numbers in an update, {found.sites} sites, {found.rounds} exchanges",
        highlight=False,
    )
    table = Table(title="A round", title_justify="left")
    for name in ("scheme", "B a number", "up", "site", "masks", "coordinator"):
        table.add_column(name, justify="left" if name == "scheme" else "right")
    for one in found.schemes:
        table.add_row(
            ("> " if one.is_own else "  ") + _NAMES[one.scheme],
            f"{one.bytes_a_value:.1f}",
            human_bytes(one.bytes_up),
            f"{one.site_seconds:.3f} s",
            f"{one.mask_seconds:.3f} s" if one.margin_bits is not None else "-",
            f"{one.coordinator_seconds:.3f} s",
        )
    console.print(table)
    console.print("CPU seconds of one thread; a site's include its masks", highlight=False)
    for one in found.schemes:
        if one.security_bits:
            console.print(_settings(one), highlight=False)
    own = next(one for one in found.schemes if one.is_own)
    other = next(one for one in found.schemes if one.scheme == "nvflare")
    console.print(
        f"This run sends {own.bytes_up / other.bytes_up:.2f} of the bytes and takes "
        f"{own.site_seconds / other.site_seconds:.2f} of a site's CPU time of NVFlare's setting",
        highlight=False,
    )
    sampled = (
        f" with {found.measured_values} numbers, the rest in proportion to ciphertexts"
        if found.measured_values < found.values
        else ""
    )
    console.print(
        f"Measured now, {found.repeats} times in turn{sampled}; '>' is this run", highlight=False
    )
    if config.crypto.encryption == "ckks":
        console.print(f"Weaker: {CKKS_IS_WEAKER}", style="bold red", highlight=False)


def _settings(one: SchemeSize) -> str:
    line = f"{_NAMES[one.scheme]}: {one.parameters}, {one.security_bits}-bit security"
    if one.margin_bits is None or one.failure_log2 is None:
        return f"{line}, no masks"
    return (
        f"{line}, masks; {one.margin_bits} bits of noise margin, fails to decrypt with "
        f"probability below 2^{max(one.failure_log2, -1000):.0f}"
    )
