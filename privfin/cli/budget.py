"""``privfin budget``: caps, bound data sets, and what their patients were charged."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from privfin.errors import LedgerError, UserInputError

if TYPE_CHECKING:
    from privfin.privacy.ledger import Ledger, PopulationStatus

INIT_EPILOG = """Example:

  privfin budget init --name 'North General'"""
CAP_EPILOG = """Examples:

  privfin budget cap lungs --epsilon 12 --delta 1e-5 --officer 'Ann Lee'

  privfin budget cap lungs --epsilon 14 --delta 1e-5 --officer 'Ann Lee' --reason 'follow-up'"""
BIND_EPILOG = """Examples:

  privfin budget bind --source openi --data-root openi --population lungs --officer 'Ann Lee'

  privfin budget bind own.toml --data-root data --population lungs --officer 'Ann Lee'

  privfin budget bind own.toml --population lungs --epsilon 8 --delta 1e-5 --officer 'Ann Lee'"""
SHOW_EPILOG = """Examples:

  privfin budget show

  privfin budget show --json"""
VERIFY_EPILOG = """Examples:

  privfin budget verify --anchor runs/first/manifest.json

  privfin budget verify --export ledger.json --public-key 0a1b...

Exit codes: 0 nothing found, 4 something is wrong with the ledger."""
EXPORT_EPILOG = """Examples:

  privfin budget export ledger.json

  privfin budget export --csv spends.csv"""

RECOVER_EPILOG = """Examples:

  privfin budget recover ledger.json --officer 'Ann Lee' --reason 'disk failed'

  privfin budget recover old.json --accept-loss --officer 'Ann Lee' --reason 'disk failed'"""

app = typer.Typer(
    help="Say how much of patients' privacy may be spent, and show what was.",
    no_args_is_help=True,
    rich_markup_mode=None,
    context_settings={"help_option_names": ["-h", "--help"]},
)

Home = Annotated[Path | None, typer.Option(help="Folder of the ledger.")]
Json = Annotated[bool, typer.Option("--json", help="Print JSON.")]
Officer = Annotated[str, typer.Option(help="Name of the person who decides.")]


@app.command("init", epilog=INIT_EPILOG)
def init(
    name: Annotated[str, typer.Option(help="Name of the data holder.")],
    home: Home = None,
    as_json: Json = False,
) -> None:
    """Make a ledger: its home, its keys and its anchor."""
    from privfin.privacy.ledger import Ledger, anchors_folder
    from privfin.privacy.policy import POLICY_FILE, write_template

    place = _home(home)
    with Ledger.create(place, name=name) as ledger:
        head = ledger.head().to_dict()
    if not (place / POLICY_FILE).exists():
        write_template(place / POLICY_FILE)
    _say(
        {"home": str(place), "anchors": str(anchors_folder()), "head": head},
        f"Made a ledger in {place}; its anchor is in {anchors_folder()}.\n"
        f"Its public key: {head['public_key']}\n"
        f"What runs may do is in {place / POLICY_FILE}: read it and change it to suit you.\n"
        "Next: privfin budget cap, then privfin budget bind.",
        as_json,
    )


@app.command("cap", epilog=CAP_EPILOG)
def cap(
    population: Annotated[str, typer.Argument(help="Name of the population.")],
    epsilon: Annotated[str, typer.Option(help="Most that may be spent in total.")],
    delta: Annotated[str, typer.Option(help="The delta of that epsilon.")],
    officer: Officer,
    reason: Annotated[str, typer.Option(help="Why; needed to raise a cap.")] = "",
    home: Home = None,
    as_json: Json = False,
) -> None:
    """Set the most that a population's patients may be charged."""
    from privfin.privacy.ledger.spending import Cap
    from privfin.privacy.policy import load_policy

    wanted = Cap.read(epsilon, delta)
    load_policy(_home(home)).check_cap(float(wanted.epsilon), float(wanted.delta))
    with _open(home) as ledger:
        ledger.set_cap(population, wanted.epsilon, wanted.delta, officer=officer, reason=reason)
        head = ledger.head().to_dict()
    _say(
        {"population": population, "epsilon": epsilon, "delta": delta, "head": head},
        f"Population '{population}' has a cap of epsilon {epsilon} at delta {delta}.",
        as_json,
    )


@app.command("bind", epilog=BIND_EPILOG)
def bind(
    population: Annotated[str, typer.Option(help="Whose patients they are.")],
    officer: Officer,
    config: Annotated[Path | None, typer.Argument(help="A configuration file.")] = None,
    source: Annotated[str | None, typer.Option(help="A source of `privfin data list`.")] = None,
    data_root: Annotated[Path | None, typer.Option(help="Folder of the data.")] = None,
    name: Annotated[str | None, typer.Option(help="Name of the data set.")] = None,
    set_: Annotated[
        list[str] | None, typer.Option("--set", help="Any option, as section.key=value.")
    ] = None,
    different_people: Annotated[
        bool, typer.Option("--different-people", help="Equal identifiers are other people.")
    ] = False,
    epsilon: Annotated[
        str | None, typer.Option(help="Set the population's cap as well, with --delta.")
    ] = None,
    delta: Annotated[str | None, typer.Option(help="The delta of that epsilon.")] = None,
    reason: Annotated[str, typer.Option(help="Why other people, or why the cap is raised.")] = "",
    home: Home = None,
    as_json: Json = False,
) -> None:
    """Say whose data a data set holds; reads its patients' identifiers once."""
    from privfin.cli.display import TrainingDisplay, plain_console
    from privfin.config import load_config, parse_override
    from privfin.data.load import load_source
    from privfin.privacy.ledger import DataSet, dataset_keys
    from privfin.privacy.ledger.datasets import patients_by_dataset
    from privfin.privacy.ledger.spending import Cap
    from privfin.privacy.policy import load_policy

    if (epsilon is None) != (delta is None):
        raise UserInputError("--epsilon and --delta go together")
    wanted = None
    if epsilon is not None and delta is not None:
        wanted = Cap.read(epsilon, delta)
        load_policy(_home(home)).check_cap(float(wanted.epsilon), float(wanted.delta))
    if different_people and not reason.strip():
        raise UserInputError("--different-people needs --reason TEXT")
    overrides: list[tuple[str, Any]] = [parse_override(text) for text in set_ or []]
    if data_root is not None:
        overrides.append(("data.root", data_root))
    if source is not None:
        overrides.append(("data.source", source))
    if config is None and source is None:
        raise UserInputError("give a configuration file, or --source NAME")
    settings = load_config(config, overrides)
    keys = dataset_keys(settings)
    with _open(home) as ledger:
        # Before data are read, so that nothing is bound whose cap is then refused.
        if wanted is not None and ledger.needs_reason(population, wanted) and not reason.strip():
            raise UserInputError(f"the cap of '{population}' would need --reason TEXT")
        with TrainingDisplay(plain_console(stderr=as_json)) as display:
            display.stage("reading data", 0, 1)
            patients = load_source(settings).dataset.patients()
        of_each = patients_by_dataset(settings, patients)
        parts = []
        for number, key in enumerate(keys):
            label = name or key.source
            if settings.data.source == "mix":
                part = settings.data.part[number].name
                label = f"{name} {part}" if name else part
            parts.append(DataSet(key, label, of_each[number]))
        bound = ledger.bind(
            parts,
            population,
            officer=officer,
            different_people_reason=reason if different_people else None,
        )
        if wanted is not None:
            ledger.set_cap(population, wanted.epsilon, wanted.delta, officer=officer, reason=reason)
        head = ledger.head().to_dict()
    text = f" Its cap is epsilon {epsilon} at delta {delta}." if wanted is not None else ""
    names = ", ".join(binding.name for binding in bound)
    _say(
        {"bound": [asdict(binding) for binding in bound], "head": head},
        f"Bound to population '{population}': {names}.{text}",
        as_json,
    )


@app.command("show", epilog=SHOW_EPILOG)
def show(home: Home = None, as_json: Json = False) -> None:
    """Draw what every population's patients were charged, and what is left."""
    with _open(home) as ledger:
        found, head = ledger.status(), ledger.head().to_dict()
    if as_json:
        content = {"populations": [asdict(one) for one in found], "head": head}
        typer.echo(json.dumps(content, indent=2, default=str))
        return
    if not found:
        typer.echo("No population yet: privfin budget cap sets a cap, bind adds data.")
    for one in found:
        _draw(one)


@app.command("verify", epilog=VERIFY_EPILOG)
def verify(
    anchor: Annotated[
        list[Path] | None, typer.Option(help="JSON with a head: manifest, report, export.")
    ] = None,
    export: Annotated[Path | None, typer.Option(help="Verify this export instead.")] = None,
    public_key: Annotated[str | None, typer.Option(help="Key that the export must have.")] = None,
    home: Home = None,
    as_json: Json = False,
) -> None:
    """Look for changed, lost or swapped rows, and for spends over a cap."""
    from privfin.privacy.ledger import verify_ledger
    from privfin.privacy.ledger.export import read_export, read_heads
    from privfin.privacy.ledger.verify import Finding, verify_rows

    if public_key is not None and export is None:
        raise UserInputError("--public-key goes with --export FILE")
    heads = [head for path in anchor or [] for head in read_heads(path)]
    if export is None:
        found = verify_ledger(_home(home), heads)
    else:
        rows, own = read_export(export)
        found, state = verify_rows(rows, [own, *heads])
        if public_key is not None and state.public_key != public_key:
            found.append(Finding(1, "the export is signed by another key"))
    if as_json:
        typer.echo(json.dumps({"findings": [asdict(one) for one in found]}, indent=2))
    else:
        for one in found:
            typer.echo(one.problem)
    if found:
        raise LedgerError(f"the ledger is not whole: {len(found)} findings")
    if not as_json:
        typer.echo("Nothing is wrong with the ledger.")


@app.command("export", epilog=EXPORT_EPILOG)
def export(
    file: Annotated[Path | None, typer.Argument(help="JSON file to write.")] = None,
    csv: Annotated[
        Path | None, typer.Option("--csv", help="Write what runs were charged as a table.")
    ] = None,
    home: Home = None,
    as_json: Json = False,
) -> None:
    """Write all rows for others to verify, or a table: no keys, fingerprints or places."""
    from privfin.files import write_json
    from privfin.privacy.ledger.export import export_rows, write_spends

    wanted = [path for path in (file, csv) if path is not None]
    if not wanted:
        raise UserInputError("give a file for all rows, or --csv FILE for what runs were charged")
    for path in wanted:
        if path.exists() or wanted.count(path) > 1:
            raise UserInputError(f"{path} exists: choose another name")
    lines = []
    with _open(home) as ledger:
        head = ledger.head()
        if file is not None:
            write_json(file, export_rows(ledger.home, head))
            lines.append(f"Wrote {head.seq} rows to {file}. Public key: {head.public_key}")
        if csv is not None:
            lines.append(f"Wrote {write_spends(csv, ledger.runs())} runs to {csv}.")
    names = {"file": file, "csv": csv}
    content = {name: str(path) for name, path in names.items() if path is not None}
    _say({**content, "head": head.to_dict()}, "\n".join(lines), as_json)


@app.command("recover", epilog=RECOVER_EPILOG)
def recover(
    export: Annotated[Path, typer.Argument(help="File that budget export wrote.")],
    officer: Officer,
    reason: Annotated[str, typer.Option(help="Why; it is recorded.")],
    anchor: Annotated[
        list[Path] | None, typer.Option(help="JSON with a head that the export must reach.")
    ] = None,
    accept_loss: Annotated[
        bool, typer.Option("--accept-loss", help="Rows may be lost: withdraw all caps.")
    ] = False,
    new_key: Annotated[
        bool, typer.Option("--new-key", help="Sign with a new key; the old one is lost.")
    ] = False,
    home: Home = None,
    as_json: Json = False,
) -> None:
    """Rebuild a lost ledger from an export; data sets are then bound again."""
    from privfin.privacy.ledger import recover_ledger
    from privfin.privacy.ledger.export import read_export, read_heads
    from privfin.privacy.policy import POLICY_FILE, write_template

    place = _home(home)
    rows, head = read_export(export)
    found = recover_ledger(
        place,
        rows,
        head,
        officer=officer,
        reason=reason,
        heads=[head for path in anchor or [] for head in read_heads(path)],
        accept_loss=accept_loss,
        new_key=new_key,
    )
    if not (place / POLICY_FILE).exists():
        write_template(place / POLICY_FILE)
    text = f"Rebuilt a ledger of {found.rows} rows in {place}.\n"
    if found.new_key:
        text += f"Its public key is now: {found.head.public_key}\n"
    if found.caps_withdrawn:
        lost = "unknown" if found.rows_lost is None else found.rows_lost
        text += f"Rows lost: {lost}. No cap holds and open runs count in full.\n"
        text += "Next: privfin budget cap with --reason, then privfin budget bind."
    else:
        text += "Next: privfin budget bind, once for every data set."
    content = {
        "home": str(place),
        "rows": found.rows,
        "rows_lost": found.rows_lost,
        "caps_withdrawn": found.caps_withdrawn,
        "new_key": found.new_key,
        "head": found.head.to_dict(),
    }
    _say(content, text, as_json)


def _home(given: Path | None) -> Path:
    from privfin.privacy.ledger import ledger_home

    return given if given is not None else ledger_home()


def _open(given: Path | None) -> Ledger:
    from privfin.privacy.ledger import Ledger

    return Ledger.open(_home(given))


def _say(content: dict[str, Any], text: str, as_json: bool) -> None:
    typer.echo(json.dumps(content, indent=2) if as_json else text)


def _draw(one: PopulationStatus) -> None:
    from rich.table import Table
    from rich.text import Text

    from privfin.cli.display import human_epsilon, plain_console

    console = plain_console()
    limit = f"epsilon {one.epsilon} at delta {one.delta}" if one.epsilon else "none"
    raised = f", raised {one.raised} times" if one.raised else ""
    console.print(f"{one.name}: cap {limit}{raised}", style="bold", highlight=False, markup=False)
    if one.epsilon:
        # Spent and reserved are rounded up, so that what is left never looks larger than it is.
        scale = 40 / float(one.epsilon)
        used = min(40, -int(-one.spent * scale // 1))
        held = min(40 - used, -int(-one.reserved * scale // 1))
        bar = f"[{'#' * used}{'+' * held}{'.' * (40 - used - held)}]"
        console.print(f"  {bar}", highlight=False, markup=False)
        left = int(one.left * 100) / 100
        console.print(
            f"  # spent {human_epsilon(one.spent)}   + reserved {human_epsilon(one.reserved)}   "
            f". left {left:.2f}",
            highlight=False,
            markup=False,
        )
    console.print(f"  runs {one.runs}, refusals {one.refusals}", highlight=False, markup=False)
    if one.datasets:
        table = Table(title_justify="left")
        for column in ("data set", "source", "runs", "epsilon of its runs"):
            table.add_column(column, overflow="fold")
        for each in one.datasets:
            spent = human_epsilon(each.spent)
            table.add_row(Text(each.name), Text(each.source), str(each.runs), spent)
        console.print(table)
