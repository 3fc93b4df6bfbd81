"""Prompt lists as a user runs them: files, pipes, interruptions, shards."""

import json
import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import pexpect
import pytest
from PIL import Image

from bigsleep.picture import read_recipe

QUICK = ("--model", "emoji", "--image-size", "128", "--cutouts", "4", "--steps", "2", "--auditions", "1")


def work(bigsleep) -> Path:
    return bigsleep.keywords["cwd"]


def write_list(bigsleep, *prompts: str, name: str = "list.txt") -> str:
    (work(bigsleep) / name).write_text("".join(f"{prompt}\n" for prompt in prompts))
    return name


def records(folder: Path) -> list[dict]:
    return [json.loads(line) for path in folder.glob("manifest*.jsonl") for line in path.read_text().splitlines()]


def pictures(folder: Path) -> list[str]:
    """The names of the pictures in a folder, each looked at."""
    for path in folder.glob("*.png"):
        Image.open(path).load()
    return sorted(path.name for path in folder.glob("*.png"))


def start(bigsleep, *args: str, **streams) -> subprocess.Popen:
    command = [sys.executable, "-m", "bigsleep", "batch", *args]
    return subprocess.Popen(command, cwd=work(bigsleep), text=True, **{"stdout": subprocess.PIPE, **streams})


def test_a_list_gives_a_picture_and_a_record_for_each_prompt_and_going_on_does_nothing_twice(bigsleep):
    file = write_list(bigsleep, "a cat", "# a comment", "", "a dog", "a cat")
    done = bigsleep("batch", file, *QUICK, "--output-dir", "out/deep")
    assert done.returncode == 0 and done.stdout.splitlines() == [
        f"out/deep/{x}.png" for x in ("a_cat", "a_dog", "a_cat-2")
    ]
    out = work(bigsleep) / "out/deep"
    assert sorted(os.listdir(out)) == ["a_cat-2.png", "a_cat.png", "a_dog.png", "manifest.jsonl"]
    assert pictures(out) and [record["path"] for record in records(out)] == ["a_cat.png", "a_dog.png", "a_cat-2.png"]
    (work(bigsleep) / file).write_text("an owl\na cat\na dog\na cat\n")
    again = bigsleep("batch", file, *QUICK, "--output-dir", "out/deep")
    assert again.stdout == "out/deep/an_owl.png\n" and "3 done before" in again.stderr
    assert len(records(out)) == 4
    forced = bigsleep("batch", file, *QUICK, "--output-dir", "out/deep", "--force", "--quiet")
    assert len(forced.stdout.splitlines()) == 4 and forced.stderr == ""
    assert pictures(out) == ["a_cat-2.png", "a_cat.png", "a_dog.png", "an_owl.png"] and len(records(out)) == 4


def test_json_for_other_programs(bigsleep):
    args = (*QUICK, "--seed", "3", "--variations", "2", "--name", "{index:02d}-{slug}-{seed}", "-q")
    done = bigsleep("batch", "-", *args, "--json", input="a cat\n")
    first, second = map(json.loads, done.stdout.splitlines())
    assert set(first) == {"prompt", "path", "seed", "score", "steps", "seconds", "model", "clip", "versions"}
    assert (first["path"], second["path"]) == ("01-a_cat-3.png", "01-a_cat-4.png")
    assert read_recipe(work(bigsleep) / second["path"])["settings"]["seed"] == 4


def test_a_prompt_with_choices_makes_a_picture_of_each(bigsleep):
    done = bigsleep("a {red,blue} heart", "a cat", *QUICK, "-q", "--expand")
    assert done.stdout.split() == ["a_red_heart.png", "a_blue_heart.png", "a_cat.png"], done.stderr


def test_paths_are_there_as_pictures_finish(bigsleep):
    file = write_list(bigsleep, *(f"a cat {i}" for i in range(40)))
    process = start(bigsleep, file, *QUICK, "-q")
    first = process.stdout.readline().strip()
    assert process.poll() is None and (work(bigsleep) / first).exists()
    process.kill()
    process.communicate()


def test_one_bad_prompt_does_not_stop_the_rest(bigsleep):
    file = write_list(bigsleep, "a cat", "a|", "word " * 100, "a dog")
    for _ in range(2):
        done = bigsleep("batch", file, *QUICK, "--parallel", "2", "-q")
        assert done.returncode == 1
        assert len(done.stderr.splitlines()) == 3 and "empty phrase" in done.stderr and "2 of 4" in done.stderr
    assert pictures(work(bigsleep)) == ["a_cat.png", "a_dog.png"]
    assert sorted(record["prompt"] for record in records(work(bigsleep)) if "path" in record) == ["a cat", "a dog"]


def test_a_prompt_that_is_no_text_is_one_more_bad_prompt(bigsleep):
    done = bigsleep("batch", "-", *QUICK, "-q", input='{"prompt": "a \\ud800 cat"}\n')
    assert done.returncode == 1 and "UTF-8" in done.stderr and "1 of 1" in done.stderr
    assert records(work(bigsleep))[0]["prompt"] == "a \ud800 cat"


@pytest.mark.parametrize(
    ("args", "message"),
    [
        (("missing.txt",), "missing.txt"), (("bad.csv",), "bad.csv, line 3"), (("-", "--shard", "3/2"), "3/8"),
        (("-", "--name", "{x}"), "{slug}"), (("-", "--steps", "-1"), "--steps"), ((".",), "cannot be read"),
        (("-", "--output-dir", "bad.csv"), "bad.csv"), (("-", "--parallel", "0"), "--parallel"), ((), "FILE"),
        (("--ray", "bad.csv"), "before --ray, which took bad.csv"),
    ],
)  # fmt: skip
def test_what_cannot_be_read_gets_one_line_exit_2_and_writes_nothing(bigsleep, args, message):
    (work(bigsleep) / "bad.csv").write_text("prompt,steps\na,1\nb,one\n")
    done = bigsleep("batch", *args, input="a cat\n")
    assert done.returncode == 2 and done.stdout == ""
    assert len(done.stderr.splitlines()) == 1 and message in done.stderr
    assert os.listdir(work(bigsleep)) == ["bad.csv"]


def test_an_empty_list_is_done_at_once(bigsleep):
    done = bigsleep("batch", "-", *QUICK, input="# nothing\n")
    assert done.returncode == 0 and done.stdout == ""


def test_models_that_cannot_be_had_end_it_in_one_line(bigsleep):
    done = bigsleep("batch", "-", "--model", "biggan-deep-128", "-q", input="a cat\na dog\n")
    assert done.returncode == 1 and len(done.stderr.splitlines()) == 1 and "--model emoji" in done.stderr
    assert records(work(bigsleep)) == []


def test_bare_prompts_and_prompts_from_a_pipe_are_dreamt_of_together(bigsleep):
    done = bigsleep("a cat", "a dog", "an owl", *QUICK, "--parallel", "3", "-q")
    assert sorted(done.stdout.splitlines()) == ["a_cat.png", "a_dog.png", "an_owl.png"] and done.stderr == ""
    done = bigsleep("-", *QUICK, "-q", "-0", input="a house\na boat\n")
    assert done.stdout == "a_house.png\0a_boat.png\0"
    names = ["a_boat.png", "a_cat.png", "a_dog.png", "a_house.png", "an_owl.png"]
    assert sorted(os.listdir(work(bigsleep))) == names
    assert bigsleep("-", *QUICK, input="\n").returncode == 2


def test_the_best_of_several_seeds_is_named_by_its_own(bigsleep):
    done = bigsleep("a cat", *QUICK, "--steps", "4", "--best-of", "3", "--seed", "5", "--name", "{slug}-{seed}", "-q")
    (name,) = os.listdir(work(bigsleep))
    assert done.stdout == f"{name}\n"
    settings = read_recipe(work(bigsleep) / name)["settings"]
    assert name == f"a_cat-{settings['seed']}.png" and settings["seed"] in (5, 6, 7)


def test_when_the_reader_goes_away_it_ends_quietly_with_its_work_saved(bigsleep):
    file = write_list(bigsleep, *(f"a cat {i}" for i in range(30)))
    process = start(bigsleep, file, *QUICK, "-q", stderr=subprocess.PIPE)
    process.stdout.readline()
    process.stdout.close()
    assert process.stderr.read() == "" and process.wait(timeout=30) == 0
    names = pictures(work(bigsleep))
    assert 1 <= len(names) < 30 and sorted(record["path"] for record in records(work(bigsleep))) == names


def test_interrupted_it_exits_with_130_and_goes_on_from_there(bigsleep):
    file = write_list(bigsleep, *(f"a cat {i}" for i in range(8)))
    process = start(bigsleep, file, *QUICK, "--steps", "6", "-q", stderr=subprocess.PIPE)
    printed = [process.stdout.readline().strip() for _ in range(2)]
    process.send_signal(signal.SIGINT)
    more, errors = process.communicate(timeout=30)
    printed += more.splitlines()
    assert process.returncode == 130 and errors == ""
    assert pictures(work(bigsleep)) == sorted(printed) and 2 <= len(printed) < 8
    rest = bigsleep("batch", file, *QUICK, "--steps", "6", "-q").stdout.splitlines()
    assert pictures(work(bigsleep)) == sorted(printed + rest) == sorted(f"a_cat_{i}.png" for i in range(8))


@pytest.mark.slow
def test_shards_share_a_folder(bigsleep):
    file = write_list(bigsleep, *(f"a cat {i}" for i in range(5)))
    both = [start(bigsleep, file, *QUICK, "-q", "--threads", "1", "--shard", f"{number}/2") for number in (1, 2)]
    printed = [process.communicate(timeout=60)[0].splitlines() for process in both]
    assert [len(part) for part in printed] == [3, 2]
    assert pictures(work(bigsleep)) == sorted(printed[0] + printed[1])
    whole = bigsleep("batch", file, *QUICK)
    assert whole.stdout == "" and "5 done before" in whole.stderr


def test_on_a_terminal_one_bar_for_the_list_with_time_left(bigsleep):
    write_list(bigsleep, *(f"a cat {i}" for i in range(4)))
    args = ["-m", "bigsleep", "batch", "list.txt", *QUICK, "--steps", "6"]
    child = pexpect.spawn(sys.executable, args, cwd=work(bigsleep), dimensions=(24, 100), encoding="utf-8", timeout=60)
    child.expect(r"\d+%\|.*[12]/4 \[\d\d:\d\d<\d\d:\d\d")
    child.expect(pexpect.EOF)
    assert "a_cat_3.png" in child.before


@pytest.mark.slow
def test_killed_five_times_at_random_it_makes_each_picture_once(bigsleep):
    things = ("cat", "dog", "owl", "house", "boat", "apple", "tree", "star", "heart", "fish")
    prompts = [f"a {colour} {thing} {i}" for i in range(2) for colour in ("red", "blue", "old") for thing in things]
    listing = "".join(f"{prompt}\n" for prompt in prompts)
    args = ("-", *QUICK, "--parallel", "4", "-q", "--output-dir", "out")
    chance, out = random.Random(0), work(bigsleep) / "out"
    kills = 0
    while kills < 5:
        before = len(list(out.glob("*.png")))
        process = start(bigsleep, *args, stdin=subprocess.PIPE)
        process.stdin.write(listing)
        process.stdin.close()
        process.stdin = None
        while len(list(out.glob("*.png"))) < before + 5:  # it has got somewhere
            assert process.poll() is None
            time.sleep(0.01)
        time.sleep(chance.uniform(0, 0.5))
        assert process.poll() is None
        process.send_signal(signal.SIGKILL)
        process.communicate()
        kills += 1
    assert 0 < len(pictures(out)) < 60
    assert bigsleep("batch", *args, input=listing).returncode == 0
    names = pictures(out)
    assert len(names) == 60
    assert sorted(record["path"] for record in records(out)) == names and len({r["key"] for r in records(out)}) == 60
    assert sorted(os.listdir(out)) == sorted([*names, "manifest.jsonl"])
    assert {read_recipe(out / name)["prompt"] for name in names} == set(prompts)
