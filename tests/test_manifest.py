"""The manifest: what it holds, and how it mends what a killed run left."""

import errno
import json
import os
import subprocess
import sys
from dataclasses import replace

import pytest
from PIL import Image

from bigsleep import BigsleepError, Settings
from bigsleep.batch import Outcome, jobs_of
from bigsleep.manifest import Manifest
from bigsleep.picture import Picture


@pytest.fixture(autouse=True)
def cache(tmp_path_factory, monkeypatch):
    monkeypatch.setenv("BIGSLEEP_CACHE", str(tmp_path_factory.mktemp("cache")))


def jobs(*prompts):
    return jobs_of(prompts, Settings(model="emoji"))


def outcome(job, seed=1):
    settings = {"seed": seed, "model": "emoji", "clip": "emoji"}
    recipe = {"prompt": job.prompt, "settings": settings, "score": 0.5, "step": 3, "versions": {}, "job": job.key}
    return Outcome(job, Picture(Image.new("RGB", (8, 8)), recipe).png(), recipe, 1.5, share=1.0)


def lines(folder, name="manifest.jsonl"):
    return [json.loads(line) for line in (folder / name).read_text().splitlines()]


def test_a_picture_is_kept_with_its_record(tmp_path):
    (job,) = jobs("a cat")
    with Manifest(tmp_path, template="{index:03d}-{slug}-{seed}") as manifest:
        assert manifest.keep(outcome(job, seed=7)).name == "001-a_cat-7.png"
    (record,) = lines(tmp_path)
    assert record["path"] == "001-a_cat-7.png" and record["seed"] == 7 and record["seconds"] == 1.5
    assert sorted(os.listdir(tmp_path)) == ["001-a_cat-7.png", "manifest.jsonl"]
    with Manifest(tmp_path) as manifest:
        assert manifest.done == {job.key}


def test_a_failure_is_recorded_and_not_done(tmp_path):
    (job,) = jobs("a cat")
    with Manifest(tmp_path) as manifest:
        manifest.add_failure(Outcome(job, error=BigsleepError("no luck")))
    assert lines(tmp_path)[0]["error"] == "no luck"
    with Manifest(tmp_path) as manifest:
        assert manifest.done == set()


def test_a_dream_stopped_early_is_not_kept(tmp_path):
    (job,) = jobs("a cat")
    with Manifest(tmp_path) as manifest:
        assert manifest.keep(replace(outcome(job), share=0.5)) is None
    assert os.listdir(tmp_path) == []


def test_a_line_half_written_is_cut_off_and_its_picture_found(tmp_path):
    one, two = jobs("a cat", "a dog")
    with Manifest(tmp_path) as manifest:
        manifest.keep(outcome(one))
        manifest.keep(outcome(two))
    whole = (tmp_path / "manifest.jsonl").read_bytes()
    for length in (len(whole) - 1, len(whole) - 40, whole.index(b"\n") + 2):
        (tmp_path / "manifest.jsonl").write_bytes(whole[:length])
        with Manifest(tmp_path) as manifest:
            assert manifest.done == {one.key}
            assert [record["path"] for record in manifest.adopt([one, two])] == ["a_dog.png"]
            assert manifest.done == {one.key, two.key}
        assert [record["path"] for record in lines(tmp_path)] == ["a_cat.png", "a_dog.png"]


def test_pictures_of_others_are_not_taken_for_ours(tmp_path):
    one, two = jobs("a cat", "a dog")
    Picture(Image.new("RGB", (8, 8)), {"prompt": "a dog"}).save(tmp_path / "a_dog.png")
    (tmp_path / "broken.png").write_bytes(b"no picture")
    with Manifest(tmp_path) as manifest:
        manifest.keep(outcome(one))
        assert list(manifest.adopt([one, two])) == []
        assert manifest.keep(outcome(two)).name == "a_dog-2.png"


def test_shards_have_manifests_of_their_own_and_know_of_each_others_work(tmp_path):
    one, two = jobs("a cat", "a dog")
    with Manifest(tmp_path, (1, 2)) as first, Manifest(tmp_path, (2, 2)) as second:
        first.keep(outcome(one))
        second.keep(outcome(two))
    assert len(lines(tmp_path, "manifest.1-of-2.jsonl")) == len(lines(tmp_path, "manifest.2-of-2.jsonl")) == 1
    with Manifest(tmp_path) as whole:
        assert whole.done == {one.key, two.key}


def test_one_process_at_a_time(tmp_path):
    program = f"from pathlib import Path; from bigsleep.manifest import Manifest; Manifest(Path({str(tmp_path)!r})).__enter__()"
    with Manifest(tmp_path):
        done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
        assert "BigsleepError: another bigsleep is at work" in done.stderr
    assert subprocess.run([sys.executable, "-c", program]).returncode == 0


def test_a_line_that_is_no_record_is_named(tmp_path):
    for line in ("[]", '{"key": 1}', "nonsense"):
        (tmp_path / "manifest.jsonl").write_text(f"{line}\n")
        with pytest.raises(BigsleepError, match="line 1"), Manifest(tmp_path):
            pass


def test_a_full_disk_is_told_in_one_line_and_leaves_nothing_half_done(tmp_path, monkeypatch):
    def full(_):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    (job,) = jobs("a cat")
    with Manifest(tmp_path) as manifest:
        monkeypatch.setattr(os, "fsync", full)
        for act in (lambda: manifest.keep(outcome(job)), lambda: manifest.add_failure(Outcome(job, error=Exception()))):
            with pytest.raises(BigsleepError, match="No space left"):
                act()
    assert not list(tmp_path.glob("*.png")) and not list(tmp_path.glob(".*"))


def test_forgetting_takes_the_lists_pictures_and_no_others(tmp_path):
    one, two, three = jobs("a cat", "a dog", "an owl")
    outside = tmp_path.parent / "precious.png"
    outside.touch()
    with Manifest(tmp_path) as manifest:
        for job in (one, two):
            manifest.keep(outcome(job))
        Picture(Image.new("RGB", (8, 8)), outcome(three).recipe).save(tmp_path / "an_owl.png")  # not recorded yet
        manifest.write(one, {"prompt": "a cat", "path": "../precious.png"})
    with Manifest(tmp_path) as manifest:
        manifest.forget([one, three])
        assert manifest.done == {two.key}
    assert sorted(os.listdir(tmp_path)) == ["a_dog.png", "manifest.jsonl"] and outside.exists()
    assert [record["prompt"] for record in lines(tmp_path)] == ["a dog"]


def test_forgetting_keeps_records_of_what_is_no_unicode(tmp_path):
    one, two = jobs("a cat", "a \ud800 dog")
    with Manifest(tmp_path) as manifest:
        manifest.keep(outcome(one))
        manifest.add_failure(Outcome(two, error=BigsleepError("no text")))
        manifest.forget([one])
    assert [record["prompt"] for record in lines(tmp_path)] == ["a \ud800 dog"]
