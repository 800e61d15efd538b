"""The ``privfin`` command and what its exit codes mean.

0 done, 1 failed, 2 bad input, 3 over the privacy budget, 4 a ledger, a claim or a sealed report
does not hold, 5 a rule is broken or a person has to decide, 6 a message was refused, 130
interrupted (the run can be resumed). No traceback reaches a user unless ``PRIVFIN_DEBUG=1`` asks
for one.
"""

from __future__ import annotations

import logging
import os
import sys
import warnings
from collections.abc import Sequence

import click
import typer

from privfin.cli import (
    audit,
    budget,
    compare,
    data,
    doctor,
    federation,
    plan,
    predict,
    report,
    sweep,
    train,
)
from privfin.cli.stopping import INTERRUPTED, StoppedError
from privfin.errors import PrivfinError

app = typer.Typer(
    name="privfin",
    help="Train one model over hospitals that do not all have every modality, under patient-level "
    "differential privacy and encrypted aggregation.",
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode=None,
    context_settings={"help_option_names": ["-h", "--help"]},
    epilog="Exit codes: 0 done, 1 failed, 2 bad input, 3 over the privacy budget, 4 a "
    "ledger, a claim or a sealed report does not hold, 5 a rule is broken or a person has to "
    "decide, 6 a message was refused, 130 interrupted (continue with --resume).",
)
app.command("train", epilog=train.EPILOG)(train.train)
app.command("plan", epilog=plan.EPILOG)(plan.plan)
app.command("predict", epilog=predict.EPILOG)(predict.predict)
app.command("compare", epilog=compare.EPILOG)(compare.compare)
app.add_typer(audit.app, name="audit")
app.add_typer(report.app, name="report")
app.add_typer(data.app, name="data")
app.add_typer(budget.app, name="budget")
app.add_typer(doctor.app, name="doctor")
app.add_typer(federation.app, name="federation")
app.command("sweep", epilog=sweep.EPILOG)(sweep.sweep)


@app.callback(invoke_without_command=True)
def _root(
    context: typer.Context,
    version: bool = typer.Option(False, "--version", help="Print the version and stop."),
) -> None:
    if version:
        from importlib.metadata import version as installed

        typer.echo(f"privfin {installed('privfin')}")
        raise typer.Exit


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the command line and exit with a documented code."""
    if os.environ.get("PRIVFIN_DEBUG") != "1":
        # Other libraries' notes about their own future are not for our users.
        warnings.simplefilter("ignore")
        for library in ("opacus", "weasyprint"):
            logging.getLogger(library).setLevel(logging.ERROR)
    sys.exit(run(arguments))


def run(arguments: Sequence[str] | None = None) -> int:
    """Run the command line and return its exit code."""
    command = typer.main.get_command(app)
    debug = os.environ.get("PRIVFIN_DEBUG") == "1"
    try:
        code = command.main(
            args=None if arguments is None else list(arguments),
            prog_name="privfin",
            standalone_mode=False,
        )
    except click.exceptions.NoArgsIsHelpError as error:
        click.echo(error.format_message())
        return 0
    except click.ClickException as error:
        return _fail(f"{error.format_message()} (see privfin --help)", 2)
    except (click.Abort, KeyboardInterrupt):
        code = INTERRUPTED
    except PrivfinError as error:
        if debug and not isinstance(error, StoppedError):
            raise
        return _fail(str(error), error.exit_code)
    except BrokenPipeError:
        # The reader of our output has gone; give Python somewhere to flush to at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    except Exception as error:
        if debug:
            raise
        kind = type(error).__name__
        return _fail(f"internal error ({kind}); run again with PRIVFIN_DEBUG=1 for details", 1)
    if code == INTERRUPTED:  # also what typer makes of a KeyboardInterrupt, without a word
        return _fail(
            "interrupted; a run goes on with train --resume, all else with the same command",
            INTERRUPTED,
        )
    return code if isinstance(code, int) else 0


def _fail(message: str, code: int) -> int:
    line = " ".join(message.split())
    click.echo(f"privfin: {line}", err=True)
    return code
