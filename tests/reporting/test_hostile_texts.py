"""Whatever people write as answers, or files hold as names, every format keeps its structure."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator
from typing import Any

import markdown
import pydantic
import pytest
import yaml
from cyclonedx.schema import SchemaVersion
from cyclonedx.validation.json import JsonStrictValidator
from markdown_it import MarkdownIt

from privfin.reporting.formats.card import model_card
from privfin.reporting.formats.cyclonedx import bill_of_materials
from privfin.reporting.formats.registry import registry_entry
from privfin.reporting.schema import Report, report_content

HOSTILE = (
    "---\nlicense: mit\n---\n# h1\n\n| a | b |\n|---|---|\n",
    "<script>alert(1)</script><!-- <img src=x onerror=alert(1)> &lt;b&gt; ]]>",
    "``` ` [l](javascript:x) ![i](u) **b** _e_ ~~s~~ $x$ \\| \\( {{ x }} {% x %}",
    "1. one\n2) two\n- three\n+ four\n> five\n    six\n=====\n: seven\n[x]: http://y",
    "\u202egnp.exe\u2066\x00\x1b[31m\u2028---\u2029\ud7ff\ufeff",
    "'\"\\ &a *a !!python/object/apply:os.system ['x'] %YAML ${HOME} @u #t",
)

#: What a program writes in a fixed form, and is no free text.
FIXED = {"status", "sha256", "created", "run_created", "report_id", "schema_version", "key", "tone",
         "fields"}  # fmt: skip


def _texts(value: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """Paths to all texts that are not of a fixed form."""
    pairs = value.items() if isinstance(value, dict) else enumerate(value)
    for key, one in pairs:
        if key in FIXED or (path[:1] == ("report",) and key == "tool"):
            continue
        if isinstance(one, str):
            yield (*path, key)
        elif isinstance(one, dict | list):
            yield from _texts(one, (*path, key))


def _put(content: Any, path: tuple[Any, ...], text: str) -> Any:
    for key in path[:-1]:
        content = content[key]
    before, content[path[-1]] = content[path[-1]], text
    return before


@pytest.fixture(scope="module")
def filled(sample_report: Callable[..., Report]) -> Callable[[str], Report]:
    """Makes the sample report with one text in place of every text that the schema lets free."""
    content = report_content(sample_report())
    free = []
    for path in _texts(content):
        before = _put(content, path, "any text at all")
        try:
            Report.model_validate(content)
        except pydantic.ValidationError:
            pass  # one of a few words: not free
        else:
            free.append(path)
        _put(content, path, before)
    assert len(free) > 200

    def fill(text: str) -> Report:
        for path in free:
            _put(content, path, text)
        return Report.model_validate(content)

    return fill


def _tags(rendered: str) -> list[str]:
    return re.findall(r"<[^>]*>", rendered)


def _shape(value: Any) -> Any:
    """Keys and lengths, without texts."""
    if isinstance(value, dict):
        return {key: _shape(one) for key, one in value.items()}
    if isinstance(value, list):
        return [_shape(one) for one in value]
    return type(value).__name__


@pytest.mark.parametrize("text", HOSTILE)
def test_the_card_keeps_its_structure(text: str, filled: Callable[[str], Report]) -> None:
    head, body = model_card(filled(text)).split("\n---\n", 1)
    plain_head, plain_body = model_card(filled("plain words")).split("\n---\n", 1)
    assert _shape(yaml.safe_load(head[4:])) == _shape(yaml.safe_load(plain_head[4:]))
    github = MarkdownIt("commonmark").enable(["table", "strikethrough"])
    assert _tags(github.render(body)) == _tags(github.render(plain_body))
    extensions = ["tables", "fenced_code", "def_list"]
    assert _tags(markdown.markdown(body, extensions=extensions)) == _tags(
        markdown.markdown(plain_body, extensions=extensions)
    )


@pytest.mark.parametrize("text", HOSTILE)
def test_the_registry_entry_keeps_its_structure(text: str, filled: Callable[[str], Report]) -> None:
    entry = yaml.safe_load(registry_entry(filled(text)))
    plain = yaml.safe_load(registry_entry(filled("plain words")))
    assert _shape(entry) == _shape(plain)

    def lines(value: Any) -> Any:
        if isinstance(value, dict):
            return {key: lines(one) for key, one in value.items()}
        return value.count("\n") if isinstance(value, str) else None

    assert lines(entry) == lines(plain)


@pytest.mark.parametrize("text", HOSTILE)
def test_the_bill_of_materials_stays_valid(text: str, filled: Callable[[str], Report]) -> None:
    bill = bill_of_materials(filled(text))
    validator = JsonStrictValidator(SchemaVersion.V1_6)
    assert validator.validate_str(json.dumps(bill)) is None
    assert _shape(bill) == _shape(bill_of_materials(filled("plain words")))
