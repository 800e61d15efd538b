"""``privfin federation``: who takes part, under which keys, and the key that all sites share."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from privfin.cli.federation_display import draw, roster_facts, say
from privfin.cli.federation_input import (
    ask_fingerprint,
    new_passphrase,
    passphrase_source,
    read_file,
)
from privfin.errors import UserInputError

if TYPE_CHECKING:
    from privfin.crypto.membership import Issued

NEW_EPILOG = """Examples:

  privfin federation new lungs --site north --modalities image,text

  privfin federation new lungs --site north --modalities image --passphrase"""
JOIN_EPILOG = """Examples:

  privfin federation join lungs --site south --modalities image,text

  privfin federation join lungs --site south --modalities text --passphrase-file secret.txt"""
ADD_EPILOG = """Examples:

  privfin federation add lungs-south.request

  privfin federation add lungs-south.request --out handout --passphrase-file secret.txt"""
REMOVE_EPILOG = """Examples:

  privfin federation remove south

  privfin federation remove south --federation lungs --out handout"""
ROTATE_EPILOG = """Examples:

  privfin federation rotate

  privfin federation rotate --federation lungs --layout 3x15"""
ACCEPT_EPILOG = """Examples:

  privfin federation accept lungs-v2-south.ceremony

  privfin federation accept lungs-v2-south.ceremony --passphrase-file secret.txt"""
SHOW_EPILOG = """Examples:

  privfin federation show

  privfin federation show --federation lungs --json"""

app = typer.Typer(
    help="Say which sites take part, check their keys, and hand out the key they share.",
    no_args_is_help=True,
    rich_markup_mode=None,
    context_settings={"help_option_names": ["-h", "--help"]},
)

Home = Annotated[Path | None, typer.Option(help="Folder of the site's keys and ledger.")]
Json = Annotated[bool, typer.Option("--json", help="Print JSON.")]
Name = Annotated[str, typer.Argument(help="Name of the federation.")]
Which = Annotated[
    str | None, typer.Option("--federation", help="Its name, where the home has several.")
]
Site = Annotated[str, typer.Option(help="Name of this site.")]
Modalities = Annotated[str, typer.Option(help="What this site holds, as in image,text.")]
Out = Annotated[Path, typer.Option(help="Folder for the files to hand out.")]
Protect = Annotated[
    bool, typer.Option("--passphrase", help="Protect the key files; asks for a passphrase.")
]
PassphraseFile = Annotated[
    Path | None, typer.Option(help="File of mode 0600 with the passphrase of the key files.")
]
Fingerprint = Annotated[
    str | None, typer.Option(help="Digits that the other site's people read to you.")
]


@app.command("new", epilog=NEW_EPILOG)
def new(
    name: Name,
    site: Site,
    modalities: Modalities,
    layout: Annotated[str, typer.Option(help="Packing of the key: 2x20, 3x15 or 2x28.")] = "2x20",
    passphrase: Protect = False,
    passphrase_file: PassphraseFile = None,
    home: Home = None,
    as_json: Json = False,
) -> None:
    """Found a federation; this site becomes its keeper."""
    from privfin.crypto.membership import found

    place = _home(home)
    secret = new_passphrase(passphrase, passphrase_file)
    roster = found(place, name, site, _split(modalities), layout, secret)
    say(
        roster_facts(roster, site),
        f"Founded federation '{name}' in {place}; site {site} is its keeper.\n"
        f"Fingerprint of {site}: {roster_facts(roster, site)['fingerprint']}\n"
        "Next: the other sites run privfin federation join; read them this fingerprint.",
        as_json,
    )


@app.command("join", epilog=JOIN_EPILOG)
def join(
    name: Name,
    site: Site,
    modalities: Modalities,
    out: Out = Path(),
    passphrase: Protect = False,
    passphrase_file: PassphraseFile = None,
    home: Home = None,
    as_json: Json = False,
) -> None:
    """Make this site's keys, if it has none, and a request to hand to the keeper."""
    from privfin.crypto.membership import join as ask
    from privfin.crypto.site_entry import read_request
    from privfin.crypto.spoken import spoken
    from privfin.files import write_bytes

    _check_folder(out)
    secret = new_passphrase(passphrase, passphrase_file)
    unlock = passphrase_source(passphrase_file)
    request = ask(_home(home), name, site, _split(modalities), secret, unlock)
    path = out / f"{name}-{site}.request"
    write_bytes(path, request)
    fingerprint = spoken(read_request(request)[1].public.fingerprint)
    say(
        {"federation": name, "site": site, "fingerprint": fingerprint, "request": str(path)},
        f"Wrote {path}: hand it to the keeper. It holds nothing secret.\n"
        f"Fingerprint of {site}: {fingerprint}\n"
        "Next: read the keeper's people this fingerprint; they send back a file to accept.",
        as_json,
    )


@app.command("add", epilog=ADD_EPILOG)
def add(
    request: Annotated[Path, typer.Argument(help="File of federation join.")],
    fingerprint: Fingerprint = None,
    out: Out = Path(),
    passphrase_file: PassphraseFile = None,
    home: Home = None,
    as_json: Json = False,
) -> None:
    """At the keeper: list a site, and seal the federation key to it."""
    from privfin.crypto.membership import admit
    from privfin.crypto.site_entry import MAX_TEXT

    _check_folder(out)
    content = read_file(request, MAX_TEXT)
    issued = admit(
        _home(home), content, ask_fingerprint(fingerprint), passphrase_source(passphrase_file)
    )
    _hand_out(issued, out, as_json)


@app.command("remove", epilog=REMOVE_EPILOG)
def remove(
    site: Annotated[str, typer.Argument(help="Name of the site that leaves.")],
    federation: Which = None,
    out: Out = Path(),
    passphrase_file: PassphraseFile = None,
    home: Home = None,
    as_json: Json = False,
) -> None:
    """At the keeper: take a site off the roster, and give the others a new key."""
    from privfin.crypto.membership import remove as take_off

    _check_folder(out)
    name, place = _which(home, federation)
    _hand_out(take_off(place, name, site, passphrase_source(passphrase_file)), out, as_json)


@app.command("rotate", epilog=ROTATE_EPILOG)
def rotate(
    federation: Which = None,
    layout: Annotated[
        str | None, typer.Option(help="Packing of the new key: 2x20, 3x15 or 2x28; unset keeps it.")
    ] = None,
    out: Out = Path(),
    passphrase_file: PassphraseFile = None,
    home: Home = None,
    as_json: Json = False,
) -> None:
    """At the keeper: give all sites a new federation key."""
    from privfin.crypto.membership import rotate as renew

    _check_folder(out)
    name, place = _which(home, federation)
    _hand_out(renew(place, name, layout, passphrase_source(passphrase_file)), out, as_json)


@app.command("accept", epilog=ACCEPT_EPILOG)
def accept(
    file: Annotated[Path, typer.Argument(help="File that the keeper made for this site.")],
    fingerprint: Fingerprint = None,
    passphrase_file: PassphraseFile = None,
    home: Home = None,
    as_json: Json = False,
) -> None:
    """Take a new roster and the federation key from the keeper."""
    from privfin.crypto.ceremony import MAX_BYTES
    from privfin.crypto.federation_home import federation_folder
    from privfin.crypto.home_state import read_state
    from privfin.crypto.membership import accept as take

    place = _home(home)
    content = read_file(file, MAX_BYTES)
    roster = take(place, content, ask_fingerprint(fingerprint), passphrase_source(passphrase_file))
    facts = roster_facts(roster, read_state(federation_folder(place, roster.federation)).site)
    say(
        facts,
        f"Accepted version {roster.version} of federation '{roster.federation}': "
        f"{', '.join(roster.names())}.\n"
        f"Fingerprint of the roster: {facts['roster_fingerprint']}\n"
        "It must be the same at all sites: read it to each other.",
        as_json,
    )


@app.command("show", epilog=SHOW_EPILOG)
def show(federation: Which = None, home: Home = None, as_json: Json = False) -> None:
    """Draw the accepted roster, with fingerprints to read to each other."""
    from privfin.crypto.federation_home import (
        REQUEST,
        federation_folder,
        load_roster,
        outgoing_folder,
    )
    from privfin.crypto.home_state import read_state
    from privfin.crypto.site_entry import read_request
    from privfin.crypto.spoken import spoken

    name, place = _which(home, federation)
    folder = federation_folder(place, name)
    state = read_state(folder)
    if not state.version:
        path = folder / REQUEST
        entry = read_request(read_file(path, 2**20))[1]
        fingerprint = spoken(entry.public.fingerprint)
        say(
            {"federation": name, "site": state.site, "version": 0, "fingerprint": fingerprint},
            f"Federation '{name}': site {state.site} has asked to be listed ({path}).\n"
            f"Fingerprint of {state.site}: {fingerprint}",
            as_json,
        )
        return
    roster = load_roster(place, name)
    outgoing = outgoing_folder(place, name)
    facts = roster_facts(roster, state.site) | {
        "outgoing": None if outgoing is None else str(outgoing)
    }
    if as_json:
        typer.echo(json.dumps(facts, indent=2))
    else:
        draw(facts)


def _hand_out(issued: Issued, out: Path, as_json: bool) -> None:
    """Copy the messages to ``out`` and say so; what was changed at the keeper holds either way."""
    from privfin.files import write_bytes

    roster, written = issued.roster, []
    for path in issued.messages:
        try:
            write_bytes(out / path.name, read_file(path, 2**25))
        except UserInputError as error:
            raise UserInputError(
                f"{error}. Version {roster.version} holds all the same: its files are in "
                f"{path.parent}"
            ) from error
        written.append(str(out / path.name))
    facts = roster_facts(roster, roster.keeper)
    lines = [
        f"Version {roster.version} of federation '{roster.federation}': "
        f"{', '.join(roster.names())}.",
        f"Fingerprint of the roster: {facts['roster_fingerprint']}",
        *(f"Wrote {path}" for path in written),
    ]
    if written:
        lines.append("Next: hand each site its file; it runs privfin federation accept FILE.")
    say(facts | {"files": written}, "\n".join(lines), as_json)


def _split(modalities: str) -> tuple[str, ...]:
    return tuple(one.strip() for one in modalities.split(","))


def _check_folder(out: Path) -> None:
    if not out.is_dir():
        raise UserInputError(f"--out {out} is not a folder: make it first")


def _home(given: Path | None) -> Path:
    from privfin.privacy.ledger.places import ledger_home

    return given if given is not None else ledger_home()


def _which(home: Path | None, federation: str | None) -> tuple[str, Path]:
    """The federation that is meant, and the home."""
    from privfin.crypto.federation_home import federations

    place = _home(home)
    known = federations(place)
    if federation is not None:
        return federation, place
    if not known:
        raise UserInputError(f"no federation in {place}: privfin federation new or join makes one")
    if len(known) > 1:
        raise UserInputError(f"say which with --federation: {', '.join(known)}")
    return known[0], place
