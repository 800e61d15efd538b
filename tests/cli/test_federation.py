"""``privfin federation`` as sites meet it: three homes in one folder, files handed around."""

from __future__ import annotations

import getpass
import json
import re
import shlex
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from privfin.crypto.federation_home import load_federation_key, load_identity, load_roster
from privfin.crypto.key_files import is_protected

Call = Callable[..., Any]
PAGE = Path(__file__).resolve().parents[2] / "docs/how-to/federation.md"


@pytest.fixture
def at(folder: Path, privfin: Call) -> Call:
    """Runs ``privfin federation`` at a site, whose home is a folder of its name."""
    return lambda site, *words: privfin("federation", *words, "--home", site)


def fingerprint(at: Call, site: str) -> str:
    return str(json.loads(at(site, "show", "--json").out)["fingerprint"])


@pytest.fixture
def three(at: Call) -> Call:
    assert at("north", "new", "lungs", "--site", "north", "--modalities", "image,text").code == 0
    for site in ("south", "west"):
        assert at(site, "join", "lungs", "--site", site, "--modalities", "text").code == 0
        digits = fingerprint(at, site)
        assert at("north", "add", f"lungs-{site}.request", "--fingerprint", digits).code == 0
    digits = fingerprint(at, "north")
    for site in ("south", "west"):
        said = at(site, "accept", f"lungs-v3-{site}.ceremony", "--fingerprint", digits)
        assert said.code == 0, said.err
    return at


def test_sites_see_one_roster_and_share_one_key(three: Call, folder: Path) -> None:
    facts = [json.loads(three(site, "show", "--json").out) for site in ("north", "south", "west")]
    for name in ("roster_fingerprint", "key_id", "version", "sites"):
        assert facts[0][name] == facts[1][name] == facts[2][name]
    assert [site["name"] for site in facts[0]["sites"]] == ["north", "south", "west"]
    assert facts[0]["sites"][0]["modalities"] == ["image", "text"]
    for one in facts:
        home = folder / one["site"]
        assert load_federation_key(home, "lungs").public().key_id == one["key_id"]
        assert (
            load_identity(home, "lungs").public()
            == load_roster(home, "lungs").roster()[one["site"]]
        )


def test_show_fits_a_terminal_and_has_every_fingerprint(three: Call) -> None:
    said = three("south", "show")
    assert max(map(len, said.out.splitlines())) <= 80
    flat = " ".join(re.findall(r"\d{5}", said.out))
    for site in ("north", "south", "west"):
        assert fingerprint(three, site) in flat
    assert "outgoing" not in said.out
    assert "to hand out: north/federation/lungs/outgoing-3" in three("north", "show").out


def test_remove_and_rotate_make_files_for_those_who_stay(three: Call) -> None:
    said = three("north", "remove", "west", "--json")
    assert json.loads(said.out)["files"] == ["lungs-v4-south.ceremony"]
    assert three("south", "accept", "lungs-v4-south.ceremony").code == 0
    assert three("north", "rotate", "--layout", "3x15").code == 0
    assert three("south", "accept", "lungs-v5-south.ceremony").code == 0
    assert "(3x15)" in three("south", "show").out
    said = three("west", "accept", "lungs-v5-south.ceremony")
    assert (said.code, said.err.count("\n")) == (6, 1)
    assert "it is for site south, not west" in said.err


def test_refused_messages_are_named_on_one_line(three: Call, folder: Path) -> None:
    three("north", "rotate")
    changed = bytearray(Path("lungs-v4-south.ceremony").read_bytes())
    changed[-100] ^= 1
    Path("changed").write_bytes(changed)
    Path("empty").touch()
    for file, reason in (
        ("changed", "ceremony message from north: the signature is not valid"),
        ("empty", "not a privfin ceremony file"),
        ("lungs-v3-south.ceremony", "message 2 is replayed, number 2 was accepted already"),
        ("lungs-v4-west.ceremony", "it is for site west, not south"),
        ("lungs-south.request", "not a privfin ceremony file"),
    ):
        said = three("south", "accept", file)
        assert said.code == 6, said
        assert reason in said.err
        assert said.err.count("\n") == 1
    assert json.loads(three("south", "show", "--json").out)["version"] == 3


def test_a_swapped_request_is_noticed_by_its_fingerprint(at: Call) -> None:
    at("north", "new", "lungs", "--site", "north", "--modalities", "image")
    at("south", "join", "lungs", "--site", "south", "--modalities", "text")
    honest = fingerprint(at, "south")
    at("eve", "join", "lungs", "--site", "south", "--modalities", "text")
    said = at("north", "add", "lungs-south.request", "--fingerprint", honest)
    assert said.code == 6
    assert "another fingerprint than the one that was read out" in said.err
    assert json.loads(at("north", "show", "--json").out)["version"] == 1


def test_a_fingerprint_is_asked_for_and_never_taken_from_the_file(
    at: Call, monkeypatch: pytest.MonkeyPatch
) -> None:
    at("north", "new", "lungs", "--site", "north", "--modalities", "image")
    at("south", "join", "lungs", "--site", "south", "--modalities", "text")
    digits = fingerprint(at, "south")
    said = at("north", "add", "lungs-south.request")
    assert said.code == 2
    assert "give --fingerprint" in said.err
    assert digits not in said.err + said.out
    monkeypatch.setattr(sys.stdin, "isatty", lambda: True, raising=False)
    asked: list[str] = []

    def answer(text: str, **options: Any) -> str:
        asked.append(text)
        return digits.replace(" ", "")

    monkeypatch.setattr("typer.prompt", answer)
    assert at("north", "add", "lungs-south.request").code == 0
    assert asked == ["Fingerprint that site south reads to you"]


def test_a_passphrase_comes_from_a_private_file_or_the_terminal(
    at: Call, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    secret = folder / "secret.txt"
    secret.write_text("correct horse\n")
    secret.chmod(0o644)
    words = ("new", "lungs", "--site", "north", "--modalities", "image")
    said = at("north", *words, "--passphrase-file", secret)
    assert said.code == 2
    assert "chmod 600" in said.err
    assert not (folder / "north").exists()
    secret.chmod(0o600)
    assert at("north", *words, "--passphrase-file", secret).code == 0
    keys = list((folder / "north").rglob("*.key"))
    assert len(keys) == 2
    assert all(map(is_protected, keys))
    said = at("north", "rotate")
    assert said.code == 2
    assert "--passphrase-file" in said.err
    monkeypatch.setattr(sys.stdin, "isatty", lambda: True, raising=False)
    typed = ["wrong horse", "correct horse"]
    monkeypatch.setattr(getpass, "getpass", lambda prompt: typed.pop(0))
    said = at("north", "rotate")
    assert said.code == 2
    assert "does not open" in said.err
    assert at("north", "rotate").code == 0
    assert not typed


def test_a_new_passphrase_is_typed_twice(at: Call, monkeypatch: pytest.MonkeyPatch) -> None:
    words = ("join", "lungs", "--site", "south", "--modalities", "text", "--passphrase")
    assert at("south", *words).code == 2
    monkeypatch.setattr(sys.stdin, "isatty", lambda: True, raising=False)
    for typed, code in ((["correct horse", "correct house"], 2), (["short", "short"], 2)):
        monkeypatch.setattr(getpass, "getpass", lambda prompt, typed=typed: typed.pop(0))
        assert at("south", *words).code == code
        assert not Path("lungs-south.request").exists()
    typed = ["correct horse"] * 2
    monkeypatch.setattr(getpass, "getpass", lambda prompt: typed.pop(0))
    assert at("south", *words).code == 0
    assert is_protected(Path("south/federation/lungs/identity.key"))


@pytest.mark.parametrize(
    ("words", "reason"),
    [
        (("new", "Lungs", "--site", "north", "--modalities", "image"), "cannot name a federation"),
        (("new", "lungs", "--site", "a/b", "--modalities", "image"), "cannot name a site"),
        (("new", "lungs", "--site", "north", "--modalities", "image,"), "cannot name a modality"),
        (
            ("new", "lungs", "--site", "north", "--modalities", "image", "--layout", "2x21"),
            "did you mean",
        ),
        (("join", "lungs", "--site", "s", "--modalities", "text", "--out", "no"), "not a folder"),
        (("show",), "privfin federation new or join"),
        (("show", "--federation", "hips"), "no federation 'hips'"),
        (("rotate",), "privfin federation new or join"),
        (("remove", "west", "--federation", "lungs"), "no federation 'lungs'"),
        (("add", "nothing.request"), "cannot read nothing.request"),
        (("accept", "nothing.ceremony"), "cannot read nothing.ceremony"),
    ],
)
def test_bad_input_is_said_and_changes_nothing(
    refused: Call, words: tuple[str, ...], reason: str
) -> None:
    assert reason in refused("federation", *words, "--home", "site/home")


def test_a_home_with_two_federations_asks_which(three: Call) -> None:
    three("north", "new", "hips", "--site", "north", "--modalities", "image")
    said = three("north", "show")
    assert said.code == 2
    assert "--federation: hips, lungs" in said.err
    assert "Federation hips, version 1" in three("north", "show", "--federation", "hips").out


def test_a_home_in_a_run_directory_is_refused(at: Call, folder: Path) -> None:
    for name in ("manifest.json", "events.jsonl"):
        (folder / name).touch()
    said = at("keys", "new", "lungs", "--site", "north", "--modalities", "image")
    assert said.code == 2
    assert "is a run directory" in said.err


def test_files_that_cannot_be_handed_out_are_still_in_the_home(
    three: Call, monkeypatch: pytest.MonkeyPatch
) -> None:
    Path("out").mkdir()
    Path("out/lungs-v4-south.ceremony").mkdir()  # in the way
    said = three("north", "rotate", "--out", "out")
    assert said.code == 2
    assert "Version 4 holds all the same" in said.err
    kept = Path("north/federation/lungs/outgoing-4/lungs-v4-south.ceremony")
    assert str(kept.parent) in said.err
    assert three("south", "accept", kept).code == 0


def test_the_home_is_the_ledgers(
    privfin: Call, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PRIVFIN_HOME", str(folder / "own"))
    words = ("new", "lungs", "--site", "north", "--modalities", "image", "--json")
    assert privfin("federation", *words).code == 0
    assert load_roster(folder / "own", "lungs").version == 1


def test_the_page_works_word_for_word(privfin: Call, folder: Path) -> None:
    """The page's commands in their order; what people read out is put where the page says."""
    blocks = re.findall(r"^```bash\n(.*?)^```", PAGE.read_text("utf-8"), re.M | re.S)
    said: dict[str, str] = {}
    ran = []
    for line in "".join(blocks).splitlines():
        if line.startswith("mkdir "):
            for name in line.split()[1:]:
                Path(name).mkdir()
            continue
        for site, digits in said.items():
            line = line.replace(f"DIGITS-OF-{site.upper()}", digits)
        words = shlex.split(line)
        assert words[:2] == ["privfin", "federation"], line
        done = privfin(*words[1:])
        assert done.code == 0, (line, done.err)
        ran.append(words[2])
        if found := re.search(r"Fingerprint of (north|south|west): ([\d ]+)", done.out):
            said[found.group(1)] = found.group(2)
    assert set(ran) == {"new", "join", "add", "accept", "show", "remove", "rotate"}
