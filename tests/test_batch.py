"""Prompt lists read into jobs, and jobs run here."""

import json
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bigsleep import BigsleepError, Settings
from bigsleep.batch import Local, jobs_of
from bigsleep.lists import expanded, read_jobs, shard_of

QUICK = dict(model="emoji", image_size=128, steps=2, auditions=1, save_every=1)


def read(text, source="stdin", variations=1, expand=False, **options):
    return read_jobs(text.encode() if isinstance(text, str) else text, source, options, variations, expand)


def prompts(jobs):
    return [job.prompt for job in jobs]


def test_a_prompt_a_line_without_blank_lines_and_comments():
    jobs = read("a cat\n\n  # not this\r\n a dog \r\n\tan owl|night:-1")
    assert prompts(jobs) == ["a cat", "a dog", "an owl|night:-1"] and [job.index for job in jobs] == [1, 2, 3]


def test_choices_in_braces_are_a_prompt_each_where_asked_for():
    text = 'a {red, bright blue} cat\na dog\n{"prompt": 1}\n'
    assert prompts(read(text, "x.txt", expand=True)) == ["a red cat", "a bright blue cat", "a dog", '{"prompt": 1}']
    jobs = read(text, "x.txt", expand=True)
    assert [job.index for job in jobs] == [1, 2, 3, 4] and len({job.key for job in jobs}) == 4
    assert prompts(read(text, "x.txt"))[0] == "a {red, bright blue} cat"
    assert expanded("a {,big }{cat,dog}") == ["a cat", "a dog", "a big cat", "a big dog"]
    with pytest.raises(BigsleepError, match="1,048,576 prompts"):
        expanded("{0,1}" * 20)


@given(st.lists(st.text(st.characters(exclude_characters="\n\r", exclude_categories=["Cs"])).map(str.strip)))
def test_any_lines_are_the_prompts_they_look_like(lines):
    kept = [line for line in lines if line and not line.startswith(("#", "{", "\ufeff")) and line != "prompt"]
    assert prompts(read("\n".join(kept), source="list.txt")) == kept


@given(st.lists(st.tuples(st.text(st.characters(exclude_categories=["Cs"])), st.integers(0, 2**62)), min_size=1))
def test_json_lines_give_any_prompt_and_its_settings(rows):
    text = "\n".join(json.dumps({"prompt": prompt, "seed": seed}, ensure_ascii=False) for prompt, seed in rows)
    jobs = read(text, "x.jsonl")
    assert [(job.prompt, job.settings.seed) for job in jobs] == rows


def test_csv_columns_are_settings_by_name():
    jobs = read(
        'prompt,seed,cutout-min,avoid,time\n"a cat, black",1,0.7,night|rain,\nan owl,,,,1m30s\n\n# x,,,,\n', "x.csv"
    )
    assert prompts(jobs) == ["a cat, black", "an owl"]
    assert (jobs[0].settings.seed, jobs[0].settings.cutout_min, jobs[0].settings.avoid) == (1, 0.7, ("night", "rain"))
    assert (jobs[1].settings.seed, jobs[1].settings.time) == (None, 90)


def test_a_rows_settings_go_before_those_of_the_command():
    first, second = read('{"prompt": "a", "steps": 7}\n{"prompt": "b", "time": 3}', steps=5, lr=0.1)
    assert (first.settings.steps, first.settings.lr) == (7, 0.1)
    assert (second.settings.steps, second.settings.time) == (None, 3)


@pytest.mark.parametrize(
    ("text", "source", "kind"),
    [
        ("prompt,seed\na,1", "stdin", "csv"), ('"prompt"\n"a, b"', "stdin", "csv"), ('{"prompt": "a"}', "stdin", "json"),
        ("a, b\nprompt", "stdin", "text"), ("prompt, a red one\nb", "list.txt", "text"), ("\ufeffprompt\na", "stdin", "csv"),
        ("# from a sheet\nprompt,seed\na,1", "stdin", "csv"), ('# rows\n{"prompt": "a"}', "stdin", "json"),
    ],
)  # fmt: skip
def test_a_list_from_a_pipe_is_known_by_its_first_line(text, source, kind):
    found = prompts(read(text, source))
    assert found == {"csv": [found[0]], "json": ["a"], "text": text.split("\n")}[kind] and found[0] in (
        "a",
        "a, b",
        "prompt, a red one",
    )


@pytest.mark.parametrize(
    ("text", "source", "message"),
    [
        (b"a\nb\n\xff\n", "stdin", "line 3.*UTF-8"), ('{"prompt": "a"}\n\n{"prompt"', "stdin", "line 3.*JSON"),
        ('{"prompt": "a"}\n["a"]', "stdin", "line 2.*prompt"), ('{"seed": 1}', "x.jsonl", "line 1.*prompt"),
        ("prompt,seeds\na,1", "x.csv", "line 1.*'seeds'.*seed"), ("seed\n1", "x.csv", "line 1.*prompt"),
        ("prompt,seed\na,1\nb,x", "x.csv", "line 3.*--seed"), ("prompt,seed\na,1,2", "x.csv", "line 2.*quotes"),
        ('prompt\n"a\n', "x.csv", "line 2"), ('{"prompt": "a", "steps": -1}', "stdin", "line 1.*--steps"),
        ('{"prompt": "a", "avoid": [1]}', "stdin", "line 1.*--avoid"), ('{"prompt": "a", "x": 1}', "stdin", "line 1.*'x'"),
    ],
)  # fmt: skip
def test_a_list_that_cannot_be_read_is_refused_with_the_line(text, source, message):
    with pytest.raises(BigsleepError, match=message) as caught:
        read(text, source)
    assert caught.value.usage and "\n" not in str(caught.value)


def test_keys_tell_jobs_apart_and_outlive_changes_of_the_list():
    def keys(text, variations=1, **options):
        return [job.key for job in read(text, variations=variations, **options)]

    before = keys("a\nb\na", variations=2)
    assert len(set(before)) == 6
    assert set(before) <= set(keys("# new\nc\nb\na\na", variations=2)), "moved prompts are still the same jobs"
    assert keys("a", device="cuda", threads=1) == keys("a") != keys("a", steps=5)
    assert keys("prompt,steps\na,5") == keys("a", steps=5), "where a setting comes from does not matter"


def test_variations_have_seeds_of_their_own():
    seeds = [job.settings.seed for job in read("a\nb", variations=3, seed=10)]
    assert seeds == [10, 11, 12, 10, 11, 12]
    assert [job.settings.seed for job in read("a", variations=2, seed=10, best_of=4)] == [10, 14]
    assert [job.settings.seed for job in read("a", variations=2)] == [None, None]


@given(st.integers(1, 12), st.integers(0, 40), st.integers(1, 3))
def test_shards_part_the_list(count, length, variations):
    jobs = jobs_of(map(str, range(length)), Settings(), variations)
    shards = [shard_of(jobs, number, count) for number in range(1, count + 1)]
    assert sorted((job for part in shards for job in part), key=lambda job: (job.index, job.variation)) == jobs
    assert max(map(len, shards)) - min(map(len, shards)) <= variations


@pytest.mark.parametrize("parallel", [1, 3])
def test_every_job_comes_to_one_end_whatever_befalls_the_others(parallel):
    texts = ["a cat", "", "a dog", "word " * 100, "an owl"]
    jobs = jobs_of(texts, Settings(**QUICK))
    jobs[2] = replace(jobs[2], settings=replace(jobs[2].settings, model="/dev/null"))
    outcomes = {outcome.job.index: outcome for outcome in Local(parallel).outcomes(jobs)}
    assert sorted(outcomes) == [1, 2, 3, 4, 5]
    assert {index for index, outcome in outcomes.items() if outcome.error} == {2, 3, 4}
    for index in (1, 5):
        assert outcomes[index].share == 1 and outcomes[index].png.startswith(b"\x89PNG")
        assert outcomes[index].recipe["prompt"] == texts[index - 1]


def test_models_are_loaded_once_and_a_broken_one_is_tried_once(monkeypatch):
    from bigsleep import Models

    asked, load = [], Models.load
    monkeypatch.setattr(Models, "load", lambda settings, *rest: asked.append(settings.model) or load(settings, *rest))
    jobs = [
        replace(job, settings=Settings(**QUICK | {"model": ["emoji", "/dev/null"][job.index % 2]}))
        for job in jobs_of(["a", "b", "c", "d"], Settings())
    ]
    outcomes = list(Local().outcomes(jobs))
    assert len(outcomes) == 4 and sorted(asked) == ["/dev/null", "emoji"]


def test_stopped_it_ends_what_runs_and_begins_nothing():
    local = Local(2, on_step=lambda job, progress: local.stop())
    outcomes = list(local.outcomes(jobs_of("abcdef", Settings(**QUICK | {"steps": 50}))))
    assert sorted(outcome.job.prompt for outcome in outcomes) == ["a", "b"]
    assert all(0 < outcome.share < 1 for outcome in outcomes)


def test_snapshots_come_on_request_and_the_last_is_the_best():
    (job,) = jobs_of(["a cat"], Settings(**QUICK | {"steps": 4, "seed": 1}))
    *shots, last = Local(snapshots=True).outcomes([job])
    assert [shot.recipe["step"] for shot in shots] == [1, 2, 3, 4] and not any(shot.last for shot in shots)
    assert last.last and last.recipe["score"] == max(shot.recipe["score"] for shot in shots)
