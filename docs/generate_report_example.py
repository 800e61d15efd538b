"""Makes the example report in ``docs/example-report/`` from a run on made-up patients.

    python docs/generate_report_example.py
    python docs/generate_report_example.py --run runs/a

Trains the built-in run at epsilon 8, audits it, answers some questions, signs with a key that is
thrown away, and takes pictures of page one, for which it needs Chromium. Noise is secret, so that
every time gives other numbers. ``--run`` takes a finished and audited run instead of training one.
"""

from __future__ import annotations

import argparse
import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

HERE = Path(__file__).resolve().parent
EXAMPLE = HERE / "example-report"
PICTURES = HERE / "report_screenshots.py"
#: The run directory's name is part of the report.
NAME = "example"


def privfin(*words: str | Path, folder: Path) -> str:
    """Run the command in a folder; its error is the script's."""
    code = "from privfin.cli import main; main()"
    done = subprocess.run(  # noqa: S603
        [sys.executable, "-c", code, *map(str, words)],
        cwd=folder,
        env={**os.environ, "PYTHONPATH": str(HERE.parent)},
        check=True,
        stdout=subprocess.PIPE,
        text=True,
    )
    return done.stdout


def main() -> None:
    """Make the files."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--run", type=Path, help="a finished and audited run on the phantom")
    given = parser.parse_args()
    answers = EXAMPLE / "answers.toml"
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        if given.run is None:
            privfin("train", "--epsilon", "8", "--out", NAME, folder=folder)
            privfin("audit", NAME, "--suite", "quick", folder=folder)
        else:
            shutil.copytree(given.run, folder / NAME, ignore=shutil.ignore_patterns("report"))
        said = privfin("report", "key", "officer.pem", folder=folder)
        formats = "html,json,md,registry,cyclonedx"
        for audience in ("officer", "public"):
            privfin(
                *("report", NAME, "--audience", audience, "--format", formats),
                *("--answers", answers, "--sign", "officer.pem", "--out", "made"),
                folder=folder,
            )
        (EXAMPLE / "public-key.txt").write_text(_public_key(said))
        for made in sorted((folder / "made").iterdir()):
            shutil.copyfile(made, EXAMPLE / made.name)
    subprocess.run(  # noqa: S603
        [sys.executable, PICTURES, EXAMPLE / "report-officer.html", EXAMPLE], check=True
    )


def _public_key(said: str) -> str:
    """The 64 hexadecimal digits that ``privfin report key`` prints."""
    (key,) = [word for word in said.split() if len(word) == 64]
    return key + "\n"


if __name__ == "__main__":
    main()
