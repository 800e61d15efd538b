"""``privfin audit``: attack a finished run, and test the audit itself."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from privfin.cli import self_test
from privfin.cli.run_first import RunFirst
from privfin.errors import ConfigError

if TYPE_CHECKING:
    from rich.console import Console

    from privfin.auditing.options import AuditOptions
    from privfin.auditing.report import AuditReport
    from privfin.config import RunConfig
    from privfin.runs import Run

#: Exit codes of the two verdicts.
CONTRADICTION, RISK = 4, 5

EPILOG = """Examples:

  privfin audit runs/a

  privfin audit runs/a --suite full --shadows 64

  privfin audit runs/a --fail-on "tpr@0.1%>0.01" --fail-on "auc>0.6"

  privfin audit runs/a --data-root covid-chestxray --json

  privfin audit self-test

Writes audit.json, audit-roc.png and audit-roc.svg into the run directory.
An interrupted audit goes on with the same command: shadow models are kept.
Exit codes: 0 nothing found, 2 bad input or numbers that would mislead,
4 a bound contradicts the claim, 5 a --fail-on rule was passed, 130
interrupted."""


app = typer.Typer(
    cls=RunFirst,
    help="Attack a finished run (privfin audit RUN), or test the audit itself.",
    no_args_is_help=True,
    rich_markup_mode=None,
    context_settings={"help_option_names": ["-h", "--help"]},
    epilog=EPILOG,
)
app.command("self-test", epilog=self_test.EPILOG)(self_test.self_test)


@app.command("run", epilog=EPILOG)
def audit(
    run: Annotated[Path, typer.Argument(help="Run directory of a finished run.")],
    suite: Annotated[
        str,
        typer.Option(help="quick, or full: also coordinator, canaries, attributes, inversion."),
    ] = "quick",
    attacks: Annotated[
        str | None, typer.Option(help="Membership attacks, as loss,lira,rmia; the suite's if out.")
    ] = None,
    shadows: Annotated[
        int | None, typer.Option(help="Shadow models; 16 (quick) or 64 (full) if left out.")
    ] = None,
    observer: Annotated[
        str, typer.Option(help="Whose view: all, outsider, site or coordinator.")
    ] = "all",
    confidence: Annotated[
        float, typer.Option(help="Of every interval, and of all bounds together.")
    ] = 0.95,
    fail_on: Annotated[
        list[str] | None,
        typer.Option("--fail-on", help="bound>claim, bound>3, auc>0.6 or tpr@0.1%>0.01."),
    ] = None,
    data_root: Annotated[
        Path | None, typer.Option(help="Folder of the data that the run was trained on.")
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print audit.json.")] = False,
) -> None:
    """Attack a finished run from the view of each observer."""
    from privfin.cli.display import plain_console
    from privfin.files import jsonable, write_json
    from privfin.runs import load_run

    options = _options(suite, attacks, shadows, observer, confidence, fail_on)
    opened = load_run(run)
    opened.model()  # refuses a run that has not finished, before anything is read
    config = _with_root(opened.config, data_root)
    console = plain_console(as_json)
    with opened.lock():
        report = _attack(console, opened, config, options)
        content = report.to_dict()
        write_json(opened.path / "audit.json", content)
        _draw(report, opened.path)
    if as_json:
        typer.echo(json.dumps(jsonable(content), indent=2))
    else:
        from privfin.cli.audit_display import print_report

        print_report(console, report, run)
    if report.contradictions:
        raise typer.Exit(CONTRADICTION)
    if report.risks:
        raise typer.Exit(RISK)


def _options(
    suite: str,
    attacks: str | None,
    shadows: int | None,
    observer: str,
    confidence: float,
    fail_on: list[str] | None,
) -> AuditOptions:
    from privfin.auditing.membership import ATTACKS
    from privfin.auditing.options import FULL_ATTACKS, QUICK_ATTACKS, SHADOWS, AuditOptions
    from privfin.auditing.risk import read_rule
    from privfin.errors import nearest

    if suite not in ("quick", "full"):
        raise ConfigError(f"--suite '{suite}' must be quick or full")
    if observer not in ("all", "outsider", "site", "coordinator"):
        raise ConfigError(f"--observer '{observer}' must be all, outsider, site or coordinator")
    if observer == "coordinator" and suite == "quick":
        raise ConfigError("--observer coordinator needs --suite full")
    if not 0.5 < confidence < 1:
        raise ConfigError(f"--confidence {confidence} must lie between 0.5 and 1")
    number = SHADOWS[suite] if shadows is None else shadows
    if number < 0 or 0 < number < 8:
        raise ConfigError(f"--shadows {number} must be 0 or at least 8")
    names: tuple[str, ...] = QUICK_ATTACKS if suite == "quick" else FULL_ATTACKS
    if attacks is not None:
        names = tuple(dict.fromkeys(name.strip() for name in attacks.split(",")))
        for name in names:
            if name not in ATTACKS:
                raise ConfigError(
                    f"--attacks: unknown attack '{name}'{nearest(name, ATTACKS)} "
                    f"(known: {', '.join(ATTACKS)})"
                )
    rules = tuple(read_rule(text) for text in fail_on or [])
    return AuditOptions(suite, names, number, observer, confidence, rules)  # type: ignore[arg-type]


def _with_root(config: RunConfig, root: Path | None) -> RunConfig:
    from privfin.config import parse_config

    if root is None:
        return config
    content = config.model_dump(mode="json")
    content["data"]["root"] = str(root)
    return parse_config(content, "the options")


def _attack(console: Console, run: Run, config: RunConfig, options: AuditOptions) -> AuditReport:
    from attacks.errors import AuditRefusedError
    from privfin.auditing import shadow_training
    from privfin.auditing.audit import audit_run
    from privfin.cli.display import TrainingDisplay
    from privfin.cli.stopping import StoppedError, stop_on_interrupt
    from privfin.errors import UserInputError
    from privfin.models.feature_cache import default_cache

    display = TrainingDisplay(console)
    note = (
        "stopping before the next part (press Ctrl-C again to stop now); shadow models that are "
        "done are kept"
    )
    with display, stop_on_interrupt(lambda _: display.note(note)) as asked:
        try:
            return audit_run(
                run,
                config,
                options,
                cache=default_cache(),
                progress=display.stage,
                should_stop=asked,
            )
        except AuditRefusedError as error:
            raise UserInputError(f"the audit refuses to print a number: {error}") from error
        except shadow_training.StoppedError:
            raise StoppedError(
                f"stopped; the same command goes on: privfin audit {run.path}"
            ) from None


def _draw(report: AuditReport, folder: Path) -> None:
    from privfin.auditing.plots import draw_roc

    paths = [folder / f"audit-roc.{kind}" for kind in ("png", "svg")]
    draw_roc(report.measured, paths, "Membership attacks on all patients")
