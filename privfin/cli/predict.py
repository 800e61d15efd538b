"""``privfin predict``."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer

from privfin.errors import ConfigError

EPILOG = """Examples:

  privfin predict runs/a --image X.png

  privfin predict runs/a --text "heart size is enlarged" --json

  privfin predict runs/b --image X.png --value age=63 --value sex=F"""


def predict(
    run: Annotated[Path, typer.Argument(help="Run directory of a finished run.")],
    image: Annotated[Path | None, typer.Option(help="A chest X-ray, PNG or JPEG.")] = None,
    text: Annotated[str | None, typer.Option(help="The report's text.")] = None,
    weights: Annotated[
        list[str] | None,
        typer.Option(help="MODALITY=PATH: where a frozen encoder's weights lie now."),
    ] = None,
    value: Annotated[
        list[str] | None,
        typer.Option(help="A value of a tabular modality, as column=number (sex: M or F)."),
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Score one study with whichever modalities are there; the others are imputed."""
    from privfin.federation.prediction import predict_study
    from privfin.federation.public_weights import with_weights
    from privfin.runs import load_run

    opened = load_run(run)
    if weights:
        opened.config = with_weights(opened.config, _places(weights))
    found = predict_study(opened, image=image, text=text, values=_values(value or []))
    claim = str(opened.manifest["claim"])
    if as_json:
        content = {
            "claim": claim,
            "scores": found.scores,
            "uncertainty": found.uncertainty,
            "notes": list(found.notes),
        }
        typer.echo(json.dumps(content, indent=2))
        return
    from rich.console import Console
    from rich.table import Table

    table = Table(title=f"Scores from {run}", title_justify="left")
    table.add_column("label")
    table.add_column("score", justify="right")
    for name, score in sorted(found.scores.items(), key=lambda item: -item[1]):
        table.add_row(name, f"{score:.3f}")
    console = Console()
    console.print(table)
    for modality, variance in found.uncertainty.items():
        console.print(
            f"{modality} was imputed with a variance of {variance:.2f} (1 is as good as a guess)",
            highlight=False,
            markup=False,
        )
    for note in found.notes:
        console.print(f"Note: {note}", highlight=False, markup=False)
    if claim != "dp":
        console.print(f"!!! {claim} !!!", style="bold red", highlight=False)
    console.print("Research use only: not a medical device.", highlight=False)


def _places(given: list[str]) -> dict[str, Path]:
    found = {}
    for text in given:
        name, separator, path = text.partition("=")
        if not separator or not path:
            raise ConfigError(f"--weights '{text}' must look like MODALITY=PATH")
        found[name] = Path(path)
    return found


def _values(given: list[str]) -> dict[str, str]:
    """``column=number`` options by column. Raises UserInputError for another form or a repeat."""
    from privfin.errors import UserInputError

    found: dict[str, str] = {}
    for text in given:
        column, sep, value = (part.strip() for part in text.partition("="))
        if not sep or not column:
            raise UserInputError(f"--value '{text}' must look like column=number")
        if column in found:
            raise UserInputError(f"--value gives '{column}' twice")
        found[column] = value
    return found
