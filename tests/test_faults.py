"""The benchmark of faults: that it would notice what it says it finds nothing of."""

import json
import re
import subprocess
import sys
from pathlib import Path

import pytest
from PIL import Image

from benchmarks.faults import TESTED, Tried, examples, line
from benchmarks.kills import LISTING, all_made, wanting
from bigsleep.picture import Picture

TESTS = Path(__file__).parent


def test_each_test_that_it_names_is_there():
    for fault, (names, *beginnings) in TESTED.items():
        text = "".join((TESTS / f"{name}.py").read_text() for name in names.split())
        for beginning in beginnings:
            assert f"\ndef {beginning}" in text, (fault, beginning)


def test_half_a_picture_and_one_that_is_gone_are_noticed(tmp_path):
    path = tmp_path / "a.png"
    Image.new("RGB", (64, 64)).save(path)
    assert not list(wanting(tmp_path, {path}))
    path.write_bytes(path.read_bytes()[:-20])
    assert len(list(wanting(tmp_path, {path, tmp_path / "b.png"}))) == 2


def made(folder, prompts):
    """A list's folder as it is when it is done."""
    records = []
    for number, prompt in enumerate(prompts):
        Picture(Image.new("RGB", (8, 8)), {"prompt": prompt}).save(folder / f"{number}.png")
        records.append(json.dumps({"path": f"{number}.png"}))
    (folder / "manifest.jsonl").write_text("".join(f"{record}\n" for record in records))


def test_a_list_is_done_when_each_prompt_has_one_picture_and_one_record(tmp_path):
    made(tmp_path, LISTING)
    assert all_made(tmp_path) == []
    (tmp_path / ".bigsleep-host-1-x.tmp").write_bytes(b"half")
    assert all_made(tmp_path) == [".bigsleep-host-1-x.tmp was left behind"]


@pytest.mark.parametrize(("prompts", "times"), [([*LISTING, LISTING[0]], 2), (LISTING[1:], 0)])
def test_a_picture_made_twice_or_never_is_noticed(tmp_path, prompts, times):
    made(tmp_path, prompts)
    assert all_made(tmp_path) == [f"{LISTING[0]!r} was made {times} times"]


def test_a_picture_without_a_record_is_noticed(tmp_path):
    made(tmp_path, LISTING)
    (tmp_path / "manifest.jsonl").write_text("")
    assert all_made(tmp_path) == ["records and pictures differ"]


def test_examples_are_counted_by_the_tests_that_drew_them():
    said = """
tests/test_lists.py::test_any_bytes:

  - during reuse phase (0.00 seconds):
    - 3 passing examples, 0 failing examples, 0 invalid examples
  - during generate phase (0.17 seconds):
    - 97 passing, 0 failing, and 20 invalid test cases
  - Stopped because settings.max_examples=100
"""
    assert examples(said) == {"test_any_bytes": 100}


def test_a_row_of_the_table_says_how_often_what_happened():
    row = Tried(3)
    row.happened |= {"whole pictures in the end": 2, "in the middle of a write": 0, "603 MB": 1}
    assert line("a fault", row) == "| a fault | 3 | 2 whole pictures in the end; 603 MB | 0 |"


@pytest.mark.slow
def test_a_hundredth_of_it_loses_nothing(tmp_path):
    command = [sys.executable, "-m", "benchmarks.faults", "--share", "0.01", "--no-ray"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=600)
    last = json.loads(done.stdout.splitlines()[-1])
    assert done.returncode == 0 and last["lost"] == 0, done.stderr
    assert len(re.findall(r"(?m)^\| SIGKILL", done.stdout)) == 7 and len(last["faults"]) == 10


def test_each_test_that_the_security_policy_names_is_there():
    named = re.findall(r"`(test_\w+)`", (TESTS.parent / "SECURITY.md").read_text())
    defined = set(re.findall(r"(?m)^def (test_\w+)", "".join(path.read_text() for path in TESTS.glob("test_*.py"))))
    assert len(named) > 20 and set(named) <= defined, set(named) - defined
