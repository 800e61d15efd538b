"""The run directory: nothing counted is lost, nothing corrupt believed, one process at a time."""

from __future__ import annotations

import errno
import json
import math
import multiprocessing
import os
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from safetensors.numpy import save as save_tensors

from privfin.config import RunConfig, load_config
from privfin.errors import ConfigError, DataError, UserInputError
from privfin.models.segments import flatten, initial_model
from privfin.runs import Checkpoint, Run, check_same_config, create_run, load_run, versions

SMALL = load_config(
    None,
    [
        ("modalities.text.features", 16),
        ("model.width", 8),
        ("model.fin", {"layers": 1, "heads": 2, "feedforward": 8, "tokens": 2}),
        ("privacy.epsilon", math.inf),
    ],
)


def manifest(config: RunConfig = SMALL) -> dict:
    return {
        "run_id": "r1",
        "claim": "dp",
        "config": config.model_dump(mode="json"),
        "label_names": ["a", "b"],
    }


@pytest.fixture
def run(tmp_path: Path) -> Run:
    return create_run(tmp_path / "run", manifest())


def one_line(caught: pytest.ExceptionInfo) -> str:
    line = str(caught.value)
    assert "\n" not in line
    return line


# Making and opening


def test_a_run_can_be_opened_again_as_it_was_made(run):
    again = load_run(run.path)
    assert again.config == SMALL
    assert again.run_id == "r1"
    assert again.label_names == ("a", "b")
    assert again.events() == []
    assert again.last_checkpoint() is None
    assert not again.is_finished


def test_an_existing_folder_is_never_written_over(run):
    before = (run.path / "manifest.json").read_bytes()
    with pytest.raises(UserInputError, match="--resume"):
        create_run(run.path, manifest())
    assert (run.path / "manifest.json").read_bytes() == before


def test_what_is_not_a_run_is_refused_in_one_line(tmp_path):
    for path in (tmp_path, tmp_path / "absent"):
        with pytest.raises(UserInputError, match="not a run directory") as caught:
            load_run(path)
        one_line(caught)


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"{",
        b'{"format": 1',
        b"[1]",
        b"\xff\xfe",
        b'{"format": 2}',
        b"{}",
        b"null",
        b"[" * 200_000,
    ],
)
def test_a_manifest_that_is_corrupt_or_foreign_is_refused(run, content):
    (run.path / "manifest.json").write_bytes(content)
    with pytest.raises(UserInputError) as caught:
        load_run(run.path)
    assert str(run.path) in one_line(caught)


@pytest.mark.parametrize("name", ["metrics", "privacy"])
def test_results_are_read_or_refused(run, name):
    with pytest.raises(UserInputError, match="--resume"):
        getattr(run, name)
    (run.path / f"{name}.json").write_text('{"a": 1', encoding="utf-8")
    with pytest.raises(UserInputError, match="cannot be read as JSON"):
        getattr(run, name)
    (run.path / f"{name}.json").write_text('{"a": 1}', encoding="utf-8")
    assert getattr(run, name) == {"a": 1}


@pytest.mark.parametrize("line", [b"[]", b"3", b"{}", b"null", b"[" * 200_000 + b"\n{}"])
def test_events_that_are_none_are_refused(run, line):
    """JSON of another kind is no cut line, which a stopped machine may leave."""
    (run.path / "events.jsonl").write_bytes(line + b"\n")
    with pytest.raises(DataError, match="line"):
        run.events()


def test_events_that_cannot_be_read_are_refused(run):
    (run.path / "events.jsonl").unlink(missing_ok=True)
    (run.path / "events.jsonl").mkdir()
    with pytest.raises(DataError, match="cannot be read"):
        run.events()


def test_versions_name_what_the_guarantee_rests_on():
    assert {"python", "privfin", "opacus", "dp-accounting", "tenseal"} <= versions().keys()


# Events


def kinds(run: Run) -> list[str]:
    return [e["event"] for e in run.events()]


def test_events_are_only_ever_appended(run):
    """Each event leaves every byte before it alone, across processes too."""
    path, before = run.path / "events.jsonl", b""
    for i in range(5):
        load_run(run.path).record("round-started", round=i, text="line\nbreak \u2028 é")
        now = path.read_bytes()
        assert now.startswith(before)
        assert len(now) > len(before)
        before = now
    events = run.events()
    assert [e["round"] for e in events] == list(range(5))
    assert all(e["text"] == "line\nbreak \u2028 é" for e in events)


def test_an_event_is_on_disk_before_record_returns(run, monkeypatch):
    """Spending is written down before data is touched, so it must survive a power cut."""
    synced = []
    real = os.fsync
    monkeypatch.setattr(os, "fsync", lambda fd: synced.append(os.fstat(fd).st_size) or real(fd))
    run.record("round-started", round=1, attempt=1)
    assert synced == [(run.path / "events.jsonl").stat().st_size]


def test_events_survive_a_line_torn_at_any_place(run):
    """A crash in the middle of a line loses that line only; the run can be read and continued, as
    often as it crashes."""
    run.record("round-started", round=1, attempt=1)
    path = run.path / "events.jsonl"
    whole = path.read_bytes()
    run.record("round-started", round=2, attempt=1)
    longer = path.read_bytes()
    for cut in range(len(whole) + 1, len(longer) - 1):
        path.write_bytes(longer[:cut])
        assert kinds(run) == ["round-started", "unreadable"]
        assert run.attempts() == 1
        run.record("resumed")
        run.record("round-started", round=2, attempt=1)
        assert kinds(run)[:2] == ["round-started", "unreadable"]
        assert kinds(run)[-2:] == ["resumed", "round-started"]
        assert (run.attempts(), run.attempts(1), run.attempts(2)) == (2, 1, 1)
        assert path.read_bytes().startswith(longer[:cut])


def test_a_second_crash_while_the_first_is_noted_is_survived(run):
    path = run.path / "events.jsonl"
    run.record("round-started", round=1, attempt=1)
    path.write_bytes(path.read_bytes() + b'{"time": "2')
    run.record("resumed")
    path.write_bytes(path.read_bytes()[:-30])
    run.record("resumed")
    assert kinds(run)[0] == "round-started"
    assert kinds(run)[-1] == "resumed"


def test_a_line_that_only_lacks_its_end_counts(run):
    """The event was written in full; only its newline was lost."""
    path = run.path / "events.jsonl"
    run.record("round-started", round=1, attempt=1)
    path.write_bytes(path.read_bytes()[:-1])
    assert run.attempts() == 1
    run.record("resumed")
    assert run.attempts() == 1
    assert kinds(run)[-1] == "resumed"


@pytest.mark.parametrize("damage", [b"{", b"\xff\xff", b""])
def test_damage_in_the_middle_is_not_passed_over(run, damage):
    """An unreadable line with nothing to explain it may hide a round that was spent."""
    for i in (1, 2, 3):
        run.record("round-started", round=i, attempt=1)
    path = run.path / "events.jsonl"
    lines = path.read_bytes().splitlines(keepends=True)
    path.write_bytes(lines[0] + damage + b"\n" + lines[2])
    with pytest.raises(DataError, match="line 2 is not valid JSON"):
        run.events()


def test_a_full_disk_refuses_the_event(run, monkeypatch):
    def full(fd: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(UserInputError, match="no space left"):
        run.record("round-started", round=1, attempt=1)


def test_numbers_that_json_does_not_know_are_refused(run):
    with pytest.raises(ValueError, match="JSON"):
        run.record("odd", value=math.nan)
    assert run.events() == []


# Checkpoints and the model


def checkpoint(number: int, seed: int = 0, size: int = 30) -> Checkpoint:
    random = np.random.default_rng(seed)
    vector = random.standard_normal(size).astype(np.float32)
    total, momentum, squares = (random.standard_normal(size) * 1e-300 for _ in range(3))
    return Checkpoint(number, vector, total, number // 2, momentum, squares)


def same(a: Checkpoint, b: Checkpoint) -> bool:
    arrays = [(x.vector, x.total, x.momentum, x.second_moment) for x in (a, b)]
    return (a.round, a.count) == (b.round, b.count) and all(
        (one.dtype, one.tobytes()) == (other.dtype, other.tobytes())
        for one, other in zip(*arrays, strict=True)
    )


@settings(
    max_examples=20,
    deadline=None,
    derandomize=True,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
@given(number=st.integers(0, 999_999), seed=st.integers(0, 2**32), odd=st.sampled_from([0.0, -0.0]))
def test_a_checkpoint_comes_back_bit_by_bit(run, number, seed, odd):
    """A resumed run does the same rounds, so every bit counts: signs of zero, tiny numbers."""
    state = checkpoint(number, seed)
    state.vector[:3] = [odd, 1e-45, math.inf]
    for older in (run.path / "checkpoints").glob("*"):
        older.unlink()  # of the example before
    run.save_checkpoint(state)
    assert same(load_run(run.path).last_checkpoint(), state)


def test_the_newest_checkpoint_is_used(run):
    for number in (1, 2, 10, 9, 100):
        run.save_checkpoint(checkpoint(number))
    assert run.last_checkpoint().round == 100


def test_a_full_disk_leaves_the_checkpoint_before(run, monkeypatch):
    run.save_checkpoint(checkpoint(1))

    def full(fd: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(UserInputError, match="no space left"):
        run.save_checkpoint(checkpoint(2))
    assert same(run.last_checkpoint(), checkpoint(1))
    assert len(list((run.path / "checkpoints").iterdir())) == 1


def test_corrupt_checkpoints_are_refused_in_one_line(run):
    """Cut anywhere, or with a bit of the header turned: refused, or (a bit in the numbers is
    not ours to notice) read; never another error."""
    run.save_checkpoint(checkpoint(1))
    (path,) = (run.path / "checkpoints").iterdir()
    content = path.read_bytes()
    for cut in range(len(content)):
        path.write_bytes(content[:cut])
        with pytest.raises(UserInputError) as caught:
            run.last_checkpoint()
        assert str(path) in one_line(caught)
    header = 8 + int.from_bytes(content[:8], "little")
    refused = 0
    for place in range(header):
        broken = bytearray(content)
        broken[place] ^= 1 << (place % 8)
        path.write_bytes(bytes(broken))
        try:
            run.last_checkpoint()
        except UserInputError as error:
            refused += "\n" not in str(error)
    assert refused > header / 2


@pytest.mark.parametrize(
    "tensors",
    [
        {"other": np.zeros(3)},
        {"vector": np.zeros(3), "total": np.zeros(3), "round": np.array([1])},
        {
            "vector": np.zeros(3),
            "total": np.zeros(3),
            "round": np.zeros(0, dtype=np.int64),
            "count": np.zeros(1, dtype=np.int64),
        },
    ],
)
def test_tensors_of_something_else_are_not_a_checkpoint(run, tensors):
    run.save_checkpoint(checkpoint(1))
    (path,) = (run.path / "checkpoints").iterdir()
    path.write_bytes(save_tensors(tensors))
    with pytest.raises(UserInputError, match="is not a checkpoint") as caught:
        run.last_checkpoint()
    one_line(caught)


def test_the_model_comes_back_bit_by_bit(run):
    with pytest.raises(UserInputError, match="not finished"):
        run.model()
    model = initial_model(SMALL, 2)
    with torch.no_grad():
        for p in model.parameters():
            p.copy_(torch.randn_like(p))
    run.save_model(model)
    again = load_run(run.path).model()
    assert flatten(again).tobytes() == flatten(model).tobytes()
    assert not again.training
    assert run.is_finished


def test_a_model_that_does_not_fit_is_refused_in_one_line(run):
    run.save_model(initial_model(SMALL, 3))
    with pytest.raises(UserInputError, match="does not fit") as caught:
        run.model()
    one_line(caught)
    path = run.path / "model.safetensors"
    path.write_bytes(path.read_bytes()[:-1])
    with pytest.raises(UserInputError, match="cannot be read as safetensors") as caught:
        run.model()
    one_line(caught)


# Resuming


@pytest.mark.parametrize(
    ("key", "value", "says"),
    [
        ("training.learning_rate", 0.5, "training.learning_rate was 5.0, is now 0.5"),
        ("privacy.epsilon", 3.0, "privacy.epsilon was inf, is now 3.0"),
        ("model.fin.tokens", 3, "model.fin.tokens was 2, is now 3"),
        ("modalities.text.features", 32, "modalities.text.features was 16, is now 32"),
        ("data.labels", ["a"], "data.labels was"),
    ],
)
def test_resuming_with_another_option_names_it(run, key, value, says):
    """Noise was calibrated for the old options: going on with others would break the promise."""
    changed = json.loads(json.dumps(SMALL.model_dump(mode="json")))
    section = changed
    *path, last = key.split(".")
    for part in path:
        section = section[part]
    section[last] = value
    with pytest.raises(ConfigError) as caught:
        check_same_config(run, RunConfig.model_validate(changed))
    assert says in one_line(caught)


def test_resuming_with_the_modalities_in_another_order_is_refused(run):
    """The same options, but the vector would be read into the wrong modules."""
    content = SMALL.model_dump()
    content["modalities"] = dict(reversed(list(content["modalities"].items())))
    with pytest.raises(ConfigError, match=r"modalities\.order was") as caught:
        check_same_config(run, RunConfig.model_validate(content))
    one_line(caught)


def test_resuming_with_the_same_options_or_other_folders_is_fine(run):
    check_same_config(load_run(run.path), SMALL)
    content = SMALL.model_dump()
    content["data"]["root"] = "/elsewhere"
    check_same_config(run, RunConfig.model_validate(content))


# The lock


def try_lock(path: str, answer) -> None:
    try:
        with load_run(path).lock():
            answer.put("locked")
    except UserInputError as error:
        answer.put(str(error))


def lock_elsewhere(path: Path) -> str:
    """What happens to another process that wants to work on the run."""
    context = multiprocessing.get_context("fork")
    answer = context.Queue()
    process = context.Process(target=try_lock, args=(str(path), answer))
    process.start()
    found = answer.get(timeout=60)
    process.join(60)
    return found


def test_only_one_process_works_on_a_run(run):
    """Two processes on one run would both spend, and each count its own."""
    with run.lock():
        assert lock_elsewhere(run.path) == f"another process is working on {run.path}"
        with pytest.raises(UserInputError, match="another process"), load_run(run.path).lock():
            pass
    assert lock_elsewhere(run.path) == "locked"


def test_the_lock_is_free_again_after_an_error(run):
    with pytest.raises(ZeroDivisionError), run.lock():
        _ = 1 / 0
    with run.lock():
        pass
