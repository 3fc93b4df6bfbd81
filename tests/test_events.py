"""Progress as events: what other programs read of a dream."""

from __future__ import annotations

import json

import pytest

QUICK = ("--model", "emoji", "--image-size", "128", "--cutouts", "4", "--steps", "3", "--save-every", "1", "--auditions", "2", "--seed", "1")  # fmt: skip
QUICK += ("--progress", "json")


def events(stderr: str) -> list[dict]:
    return [json.loads(line) for line in stderr.splitlines()]


def kinds(told: list[dict]) -> list[str]:
    return [one["event"] for one in told]


def test_a_dream_tells_its_start_each_step_each_snapshot_and_its_end(bigsleep):
    done = bigsleep("a cat", *QUICK)
    told = events(done.stderr)
    assert (
        done.stdout == "a_cat.png\n"
        and {one["version"] for one in told} == {1}
        and len({one["job"] for one in told}) == 1
    )
    assert kinds(told)[0] == "start" and kinds(told).count("step") == 3 and kinds(told).count("snapshot") == 3
    start, *_, last = told
    assert (start["prompt"], start["seed"], start["model"], start["steps"]) == ("a cat", 1, "emoji", 3)
    assert [one["step"] for one in told if one["event"] == "step"] == [1, 2, 3]
    end = next(one for one in told if one["event"] == "done")
    assert end["path"] == "a_cat.png" and end["score"] == max(
        one["score"] for one in told if one["event"] == "snapshot"
    )
    assert last["share"] == 1


def test_before_the_first_step_auditions_are_told_of(bigsleep):
    told = events(bigsleep("a cat", *QUICK, "--layers", "1", "--init", "random", "--auditions", "20").stderr)
    steps = [(one["step"], one.get("heard"), one.get("auditions")) for one in told if one["event"] == "step"]
    assert steps == [(0, 8, 20), (0, 16, 20), (0, 20, 20), (1, None, None), (2, None, None), (3, None, None)]
    assert [one["seconds_left"] for one in told if one["event"] == "step"][2] == 0


def test_a_list_tells_which_picture_is_meant_and_what_failed_and_why(bigsleep):
    (bigsleep.keywords["cwd"] / "list.txt").write_text("a cat\n" + "house " * 90 + "\na dog\n")
    done = bigsleep("batch", "list.txt", *QUICK, "--output-dir", "out")
    *told, summary = done.stderr.splitlines()
    told = events("\n".join(told))
    assert done.returncode == 1 and summary == "bigsleep: 1 of 3 pictures could not be made"
    ends = [one for one in told if one["event"] in ("done", "failed")]
    assert sorted(kinds(ends)) == ["done", "done", "failed"] and len({one["job"] for one in ends}) == 3
    assert "tokens" in next(one["error"] for one in ends if one["event"] == "failed")
    assert told[0]["event"] == "note" and "3 pictures" in told[0]["text"]


@pytest.mark.parametrize("args", [("", *QUICK), ("a cat", *QUICK, "--steps", "x")])
def test_wrong_usage_is_still_one_line_of_text(bigsleep, args):
    done = bigsleep(*args)
    assert done.returncode == 2 and len(done.stderr.splitlines()) == 1 and done.stderr.startswith("bigsleep: ")
