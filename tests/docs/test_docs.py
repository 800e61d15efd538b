"""The documentation builds, agrees with the code, and its examples work as they are written."""

from __future__ import annotations

import csv
import importlib.util
import math
import os
import re
import shlex
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from html.parser import HTMLParser
from pathlib import Path

import click
import pytest
import typer
from PIL import Image

from privfin.cli import app as command_line
from privfin.config import load_config, parse_config, parse_override
from privfin.data.phantom import generate_phantom
from privfin.errors import PrivfinError
from privfin.federation.plan import declared_sites, make_plan
from privfin.runs import load_run

ROOT = Path(__file__).resolve().parents[2]
PAGES = sorted([ROOT / "README.md", *(ROOT / "docs").rglob("*.md")])
CONFIGS = sorted((ROOT / "configs").glob("*.toml"))
EXAMPLES = [ROOT / "README.md", ROOT / "docs/how-to/own-data.md"]


def name_of(path: Path) -> str:
    return path.relative_to(ROOT).as_posix()


def blocks(text: str, language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```", text, re.MULTILINE | re.DOTALL)


def generator():
    spec = importlib.util.spec_from_file_location(
        "generate_reference", ROOT / "docs/generate_reference.py"
    )
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


# What is derived from the code.


def test_derived_pages_are_up_to_date() -> None:
    old = [name_of(p) for p, text in generator().pages().items() if p.read_text("utf-8") != text]
    assert not old, f"run python docs/generate_reference.py: {', '.join(old)} out of date"


def test_the_quick_configuration_is_the_built_in_one() -> None:
    spelled_out = load_config(ROOT / "configs/quick.toml")
    assert spelled_out == load_config(None)
    assert spelled_out.digest() == load_config(None).digest()


@pytest.mark.parametrize("path", CONFIGS, ids=name_of)
def test_configurations_load_and_can_be_planned(path: Path) -> None:
    # Without privacy nothing is calibrated, which is the slow part of a plan.
    config = load_config(path, [("privacy.epsilon", math.inf)])
    plan = make_plan(config, declared_sites(config))
    assert plan.parameters > 0


@pytest.mark.parametrize("path", CONFIGS, ids=name_of)
def test_every_option_of_a_configuration_has_a_comment(path: Path) -> None:
    for line in path.read_text("utf-8").splitlines():
        named = re.match(r"(match|name|patients|kind) = ", line)
        if " = " in line and not line.startswith("#") and not named:
            assert "#" in line, line


def test_every_exit_code_is_explained() -> None:
    page = (ROOT / "docs/reference/exit-codes.md").read_text("utf-8")
    kinds = [PrivfinError]
    for kind in kinds:
        kinds.extend(kind.__subclasses__())
    codes = {kind.exit_code for kind in kinds} | {0, command_line.INTERRUPTED}
    assert codes == {int(code) for code in re.findall(r"^\| (\d+) \|", page, re.MULTILINE)}


def test_every_observer_of_the_statement_has_a_row() -> None:
    readme = (ROOT / "README.md").read_text("utf-8")
    table = readme.split("## What is protected from whom")[1].split("\n## ")[0]
    for observer in ("final model", "another site", "coordinator", "together with sites"):
        assert observer in table


# Commands, tests and files that the pages name.


def commands() -> Iterator[tuple[str, str]]:
    for path in PAGES:
        text = path.read_text("utf-8")
        for block in blocks(text, "bash"):
            for line in block.replace("\\\n", " ").splitlines():
                if line.strip().startswith("privfin "):
                    yield name_of(path), line.strip()
        for inline in re.findall(r"`(privfin (?:train|predict|data) [^`\n]*)`", text):
            if "--" in inline:
                yield name_of(path), inline
    for path in CONFIGS:
        for line in re.findall(r"^#\s+(privfin .*)$", path.read_text("utf-8"), re.MULTILINE):
            yield name_of(path), line


@pytest.mark.parametrize(("page", "line"), sorted(set(commands())))
def test_commands_parse(page: str, line: str) -> None:
    words = shlex.split(line, comments=True)[1:]
    command: click.Command = typer.main.get_command(command_line.app)
    while isinstance(command, click.Group):
        _, found, words = command.resolve_command(click.Context(command), words)
        assert found is not None
        command = found
    with command.make_context(str(command.name), words) as context:
        load_config(None, [parse_override(text) for text in context.params.get("set_") or []])
        config = context.params.get("config")
        assert config is None or str(config) == "own.toml" or (ROOT / str(config)).exists()


def test_there_are_commands_to_check() -> None:
    assert len(set(commands())) > 10


@pytest.mark.parametrize("path", PAGES, ids=name_of)
def test_named_tests_and_files_exist(path: Path) -> None:
    text = path.read_text("utf-8")
    for file, test in re.findall(r"`(tests/[\w/]+\.py)(?:::(\w+))?`", text):
        source = (ROOT / file).read_text("utf-8")
        assert not test or f"def {test}(" in source, f"{file} has no {test}"
    for file in re.findall(r"`((?:privfin|benchmarks|docs|configs)/[\w/.-]+)`", text):
        assert (ROOT / file).exists(), f"{file} does not exist"


def test_code_in_the_pages_is_valid() -> None:
    for path in PAGES:
        text = path.read_text("utf-8")
        for block in blocks(text, "toml"):
            tomllib.loads(block)
        for block in blocks(text, "python"):
            compile(block, str(path), "exec")


def test_links_of_the_readme_lead_somewhere() -> None:
    for target in re.findall(r"\]\(([^)]+)\)", (ROOT / "README.md").read_text("utf-8")):
        assert (ROOT / target.split("#")[0]).exists(), target


# The example with one's own data, word for word.


def write_hospital_data(folder: Path, columns: list[str]) -> None:
    (folder / "images").mkdir(parents=True)
    with (folder / "records.csv").open("w", encoding="utf-8", newline="") as stream:
        table = csv.DictWriter(stream, columns)
        table.writeheader()
        for number, record in enumerate(generate_phantom(120, 32, seed=3).records):
            at_north = int(record.patient_id[-2:]) % 2 == 0
            image = f"images/{record.record_id}.png"
            Image.fromarray(record.inputs["image"]).save(folder / image)
            table.writerow(
                {
                    "patient_id": record.patient_id,
                    "hospital": "North" if at_north else "South",
                    "image": image,
                    "text": record.inputs["text"] if at_north and number % 5 else "",
                    "pneumonia": int(record.labels[7]),
                    "effusion": int(record.labels[10]) if number % 7 else "",
                }
            )


@pytest.mark.parametrize("page", EXAMPLES, ids=name_of)
def test_the_example_with_own_data_works(
    page: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    text = page.read_text("utf-8")
    toml, *more = blocks(text, "toml")
    for addition in more:  # what the page adds later fits into the same file
        parse_config(tomllib.loads(f"{toml}\n{addition}"), page.name)
    (table,) = blocks(text, "csv")
    header, *rows = csv.reader(table.splitlines())
    assert all(len(row) == len(header) for row in rows)
    (line,) = [
        line
        for block in blocks(text, "bash")
        for line in block.splitlines()
        if line.startswith("privfin train own.toml")
    ]
    monkeypatch.chdir(tmp_path)
    Path("own.toml").write_text(toml, "utf-8")
    write_hospital_data(Path("hospital-data"), header)
    short = ["--rounds", "1", "--set", "evaluation.bootstrap=20"]
    code = command_line.run([*shlex.split(line)[1:], *short])
    printed = capsys.readouterr()
    assert code == 0, printed.err
    assert "macro AUROC" in printed.out
    run = load_run("runs/own")
    assert run.privacy["claim"] == "dp"
    assert {site["site"] for site in run.privacy["sites"]} == {"north", "south"}
    assert all(site["epsilon"] <= 8 for site in run.privacy["sites"])


def test_the_example_of_shards_can_be_planned() -> None:
    text = (ROOT / "docs/how-to/missingness.md").read_text("utf-8")
    (toml,) = blocks(text, "toml")
    config = parse_config(tomllib.loads(toml), "missingness.md")
    config = config.model_copy(
        update={"privacy": config.privacy.model_copy(update={"epsilon": math.inf})}
    )
    sites = make_plan(config, declared_sites(config)).sites
    assert [s.modalities for s in sites] == [("image",)] * 8 + [("image", "text")] * 2
    assert [sites[0].name, sites[7].name, sites[-1].name] == ["chexpert-1", "chexpert-8", "openi-2"]


# The site.


class Fetched(HTMLParser):
    """Collects what a browser loads by itself."""

    def __init__(self) -> None:
        super().__init__()
        self.found: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        given = dict(attrs)
        if tag in ("script", "img", "iframe", "source", "audio", "video", "embed"):
            self.found.append(given.get("src") or "")
        loaded = ("stylesheet", "preconnect", "preload", "icon", "prefetch", "dns-prefetch")
        if tag == "link" and any(word in (given.get("rel") or "").split() for word in loaded):
            self.found.append(given.get("href") or "")


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    if importlib.util.find_spec("mkdocs") is None or importlib.util.find_spec("material") is None:
        pytest.skip("mkdocs and mkdocs-material are not installed (pip install .[docs])")
    if not (ROOT / "docs/results/imputers.md").exists():
        pytest.skip("docs/results/imputers.md is not there: `make bench-imputers` writes it")
    target = tmp_path_factory.mktemp("site")
    done = subprocess.run(  # noqa: S603
        [sys.executable, "-m", "mkdocs", "build", "--strict", "--site-dir", str(target)],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=120,
        env={**os.environ, "NO_MKDOCS_2_WARNING": "1"},
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return target


def test_the_site_builds(site: Path) -> None:
    for page in PAGES[1:]:
        relative = page.relative_to(ROOT / "docs").with_suffix(".html")
        assert (site / relative).exists(), relative


def test_the_site_asks_no_other_server(site: Path) -> None:
    outside = re.compile(r"^(https?:)?//")
    for page in site.rglob("*.html"):
        parser = Fetched()
        parser.feed(page.read_text("utf-8"))
        assert parser.found
        assert not [url for url in parser.found if outside.match(url)], page
    for sheet in site.rglob("*.css"):
        text = sheet.read_text("utf-8")
        assert not re.search(r"(@import\s*|url\(\s*)[\"']?(https?:)?//", text), sheet


# What must not be in the tree.


def test_no_machine_paths_and_no_registries() -> None:
    # Put together here, so that this file does not find itself.
    forbidden = re.compile(
        "|".join(
            [
                r"(?<![\w.])/(?:" + "home|root|Users|work|mnt" + r")/\w",
                r"\b[A-Za-z]:\\\\" + r"Users",
                "files.python" + "hosted",
                r"pypi" + r"\.org",
                "index" + "-url",
                r"localhost:\d",
                r"\b(?:10|192\.168|172\.16)(?:\.\d{1,3}){2,3}\b",
            ]
        )
    )
    names = [*PAGES, *CONFIGS, ROOT / "mkdocs.yml", ROOT / "Makefile", ROOT / "constraints.txt"]
    names += [ROOT / "pyproject.toml", ROOT / "docs/generate_reference.py"]
    for folder in ("privfin", "attacks", "tests", "benchmarks", "configs", "docs", ".ci"):
        names += [p for p in (ROOT / folder).rglob("*") if p.suffix in (".py", ".sh", ".toml", "")]
    for path in sorted({p for p in names if p.is_file() and "__pycache__" not in p.parts}):
        found = forbidden.search(path.read_text("utf-8", errors="replace"))
        assert not found, f"{name_of(path)}: {found and found.group()}"
