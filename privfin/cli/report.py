"""``privfin report``: write a report on a finished run, and all that goes with one."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, cast, get_args

import typer

from privfin.cli import report_key, report_verify
from privfin.cli.run_first import RunFirst
from privfin.errors import ConfigError, UserInputError

if TYPE_CHECKING:
    from rich.console import Console

    from privfin.reporting.blocks_people import Audience
    from privfin.reporting.schema import Report

#: Exit code of --strict: something is left that a person has to answer or decide.
OPEN = 5

EPILOG = """Examples:

  privfin report runs/a

  privfin report runs/a --format html,json,md,pdf --sign officer.pem

  privfin report runs/a --audience public --out public

  privfin report runs/a runs/without-privacy --compare

  privfin report questions runs/a

  privfin report runs/a --answers runs/a/report/answers.toml --strict

  privfin report verify runs/a/report/report-officer.html --run runs/a

Writes report-AUDIENCE.* into RUN/report/, with a seal over all of them.
Formats: html, json, md (model card), pdf, registry (OpenDP), cyclonedx.
Exit codes: 0 written, 2 bad input, 5 with --strict: something is open."""
QUESTIONS_EPILOG = """Examples:

  privfin report questions runs/a

  privfin report questions runs/a --answers old.toml --out new.toml"""
SCHEMA_EPILOG = """Example:

  privfin report schema"""

app = typer.Typer(
    cls=RunFirst,
    help="Report on a finished run (privfin report RUN), and verify a report.",
    no_args_is_help=True,
    rich_markup_mode=None,
    context_settings={"help_option_names": ["-h", "--help"]},
    epilog=EPILOG,
)
app.command("verify", epilog=report_verify.EPILOG)(report_verify.verify)
app.command("key", epilog=report_key.EPILOG)(report_key.key)


@app.command("run", epilog=EPILOG)
def report(
    runs: Annotated[
        list[Path], typer.Argument(help="Run directory; with --compare further ones beside it.")
    ],
    audience: Annotated[
        str, typer.Option(help="officer, engineer or public (coarse counts, no small cells).")
    ] = "officer",
    formats: Annotated[
        str, typer.Option("--format", help="html,json,md,pdf,registry,cyclonedx.")
    ] = "html,json,md",
    answers: Annotated[
        Path | None, typer.Option(help="What persons answered: see privfin report questions.")
    ] = None,
    sign: Annotated[
        Path | None, typer.Option(help="Key that signs the report: see privfin report key.")
    ] = None,
    compare: Annotated[
        bool, typer.Option("--compare", help="Show further runs beside the first.")
    ] = False,
    strict: Annotated[
        bool, typer.Option("--strict", help="Exit with 5 while something is open.")
    ] = False,
    out: Annotated[
        Path | None, typer.Option(help="Folder to write to; RUN/report if left out.")
    ] = None,
    replace: Annotated[
        bool, typer.Option("--replace", help="Write over a signed report that is there.")
    ] = False,
    open_it: Annotated[
        bool, typer.Option("--open", help="Show the HTML in the browser when it is written.")
    ] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print the report as JSON.")] = False,
) -> None:
    """Write a report on a finished run."""
    from privfin.cli.display import plain_console
    from privfin.files import write_bytes
    from privfin.reporting.files import read_formats, report_files, seal_name
    from privfin.reporting.sealing.canonical import canonical_json
    from privfin.reporting.sealing.signing import ReportKey

    wanted = read_formats(formats)
    who = _audience(audience)
    if compare is (len(runs) == 1):
        raise ConfigError(
            "--compare needs further runs: privfin report RUN1 RUN2 --compare"
            if compare
            else f"{len(runs)} runs were given: add --compare to show them beside {runs[0]}"
        )
    if open_it and "html" not in wanted:
        raise ConfigError("--open needs html among --format")
    key = None if sign is None else ReportKey.read(sign)
    folder = runs[0] / "report" if out is None else out
    if folder.exists() and not folder.is_dir():
        raise UserInputError(f"--out {folder} is a file: name a folder")
    seal = folder / seal_name(who)
    if seal.exists() and not replace:
        _refuse_to_replace_signed(seal)
    console = plain_console(as_json)
    made = _build(console, runs, who, answers)
    files = report_files(made, wanted, key)
    _make_folder(folder)
    seal.unlink(missing_ok=True)  # an old seal must not stand beside new files
    for name, content in files.items():
        write_bytes(folder / name, content)
    if as_json:
        typer.echo(canonical_json(made).decode())
    else:
        _print(console, made, folder, list(files), key is not None)
    if open_it:
        typer.launch((folder / f"report-{who}.html").resolve().as_uri())
    left = _left_open(made) if strict else []
    if left:
        typer.echo(f"privfin: --strict: {'; '.join(left)}", err=True)
        raise typer.Exit(OPEN)


@app.command("questions", epilog=QUESTIONS_EPILOG)
def questions(
    run: Annotated[Path, typer.Argument(help="Run directory of a finished run.")],
    answers: Annotated[
        Path | None, typer.Option(help="Answers given so far, which are kept.")
    ] = None,
    out: Annotated[
        Path | None, typer.Option(help="File to write; RUN/report/answers.toml if left out.")
    ] = None,
) -> None:
    """Write the answers file: only what a person has to answer, each explained."""
    from privfin.cli.display import plain_console
    from privfin.files import write_bytes
    from privfin.reporting.answers.answers import read_answers
    from privfin.reporting.answers.questions import answers_template
    from privfin.reporting.evidence import read_evidence
    from privfin.reporting.summary.risks import RISK_IDS

    evidence = read_evidence(run)
    given = None if answers is None else read_answers(answers)
    path = out or run / "report" / "answers.toml"
    if path.exists():
        raise UserInputError(
            f"{path} exists: fill it in, or name another --out (with --answers {path}, what it "
            "says is kept)"
        )
    _make_folder(path.parent)
    write_bytes(path, answers_template(evidence, given, RISK_IDS).encode())
    plain_console().print(
        f"Written: {path}\nFill it in, then: privfin report {run} --answers {path}",
        highlight=False,
        markup=False,
        soft_wrap=True,
    )


@app.command("schema", epilog=SCHEMA_EPILOG)
def schema() -> None:
    """Print the JSON Schema of a report."""
    from privfin.reporting.schema import report_schema

    typer.echo(json.dumps(report_schema(), indent=2))


def _audience(name: str) -> Audience:
    from privfin.reporting.blocks_people import Audience

    for known in get_args(Audience):
        if name == known:
            return cast("Audience", known)
    raise ConfigError(f"--audience '{name}' must be officer, engineer or public")


def _build(console: Console, runs: Sequence[Path], audience: Audience, file: Path | None) -> Report:
    from privfin.cli.display import TrainingDisplay
    from privfin.reporting.answers.answers import Answers, read_answers
    from privfin.reporting.build import build_report
    from privfin.reporting.evidence import read_evidence

    answers = Answers({}) if file is None else read_answers(file)
    evidence = [read_evidence(path) for path in runs]
    with TrainingDisplay(console) as display:
        return build_report(
            evidence[0],
            answers,
            audience=audience,
            others=evidence[1:],
            progress=lambda stage: display.stage(stage, 0, 1),
        )


def _refuse_to_replace_signed(seal: Path) -> None:
    from privfin.reporting.sealing.seal import open_seal

    try:
        signatures = open_seal(seal.read_bytes())[1]
    except UserInputError as error:
        raise UserInputError(
            f"{seal} is there and is no whole seal ({error}): name another --out, or add --replace"
        ) from error
    if signatures:
        raise UserInputError(
            f"{seal} is of a signed report: name another --out, or add --replace to write over it"
        )


def _make_folder(folder: Path) -> None:
    from privfin.files import clear_disk_errors

    with clear_disk_errors(folder):
        folder.mkdir(parents=True, exist_ok=True)


def _print(
    console: Console, made: Report, folder: Path, names: Sequence[str], is_signed: bool
) -> None:
    """Page one, and where the files are."""
    styles = {"plain": "", "good": "green", "open": "yellow", "bad": "bold red"}
    for sentence in made.summary:
        console.print(sentence.question, style="bold", highlight=False, markup=False)
        console.print(
            f"  {sentence.text}", style=styles[sentence.tone], highlight=False, markup=False
        )
    console.print("Written:", *(str(folder / name) for name in names), sep="\n  ", highlight=False)
    if not is_signed:
        console.print(
            "Not signed: the seal finds accidents, not forgery (privfin report key, then --sign).",
            highlight=False,
        )


def _left_open(made: Report) -> list[str]:
    """What --strict fails on: open questions, and findings that a person has to decide on."""
    found = []
    questions = made.sign_off.questions
    required = [q.key for q in questions.get() if q.is_required and not q.is_answered]
    if required:
        more = f" and {len(required) - 3} more" if len(required) > 3 else ""
        count = (
            "1 required answer is"
            if len(required) == 1
            else f"{len(required)} required answers are"
        )
        found.append(f"{count} open: {', '.join(required[:3])}{more}")
    if not made.audit.was_done.is_known or not made.audit.was_done.get():
        found.append("the run was not audited")
    if made.audit.verdict.is_known and made.audit.verdict.get() != "none found":
        found.append(f"the audit's verdict is {made.audit.verdict.get()}")
    if made.ledger.budgets.is_known and any(one.is_over for one in made.ledger.budgets.get()):
        found.append("a budget is overspent")
    return found
