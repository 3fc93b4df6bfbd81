"""Lists on a Ray cluster: the handing out of jobs whatever dies, and a real cluster of two nodes."""

import json
import logging
import random
import subprocess
import sys
from types import SimpleNamespace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bigsleep import BigsleepError, Settings
from bigsleep.batch import Outcome, jobs_of
from bigsleep.cluster import LIVES, Cluster


class RayError(Exception):
    pass


class RayTaskError(RayError):
    def __init__(self, cause):
        self.cause = cause


class FakeRay:
    """As much of Ray as the driver uses. Calls end in any order; ``deadly`` jobs and bad luck take workers down."""

    exceptions = SimpleNamespace(RayError=RayError, RayTaskError=RayTaskError)

    def __init__(self, chance, slots=3, luck=1.0, deadly=(), refusal=None, trouble=None):
        self.chance, self.slots, self.luck, self.deadly, self.refusal = chance, slots, luck, deadly, refusal
        self.trouble, self.calls, self.ended, self.workers = trouble, {}, 0, 0

    def init(self, *_, **__): ...

    def shutdown(self):
        self.ended += 1

    def nodes(self):
        return [{"Alive": True, "Resources": {"CPU": float(self.slots)}}, {"Alive": False, "Resources": {"CPU": 64.0}}]

    def remote(self, _):
        return SimpleNamespace(options=lambda **_: SimpleNamespace(remote=self.start))

    def start(self, *_):
        self.workers += 1
        alive = [True]
        return SimpleNamespace(
            load=SimpleNamespace(remote=lambda _: self.call(alive, ["a note"])),
            run=SimpleNamespace(remote=lambda jobs: self.call(alive, [Outcome(job, share=1.0) for job in jobs], jobs)),
        )

    def call(self, alive, answer, jobs=()):
        self.calls[len(self.calls)] = alive, answer, jobs
        return len(self.calls) - 1

    def wait(self, calls, num_returns, timeout):
        return [self.chance.choice(calls)], None

    def get(self, call):
        alive, answer, jobs = self.calls[call]
        if self.refusal:
            raise RayTaskError(self.refusal)
        if self.trouble and jobs and "trouble" in {job.prompt for job in jobs}:
            raise RayTaskError(self.trouble)
        if {job.prompt for job in jobs} & set(self.deadly) or self.chance.random() > self.luck:
            alive[0] = False
        if not alive[0]:
            raise RayError("died")
        return answer


def cluster_of(fake, monkeypatch, **options):
    monkeypatch.setitem(sys.modules, "ray", fake)
    monkeypatch.setattr("bigsleep.cluster.RECRUIT", 0.0)
    monkeypatch.setattr("bigsleep.cluster.LIVES", options.pop("lives", LIVES))
    notes = []
    return Cluster("", Settings(model="emoji"), note=notes.append, **options), notes


@settings(max_examples=100, deadline=None)
@given(seed=st.integers(0, 10**6), slots=st.integers(1, 5), parallel=st.integers(1, 4), luck=st.floats(0.3, 1.0))
def test_whatever_dies_each_job_comes_to_one_end(seed, slots, parallel, luck):
    with pytest.MonkeyPatch.context() as monkeypatch:
        fake = FakeRay(random.Random(seed), slots, luck)
        jobs = jobs_of(map(str, range(20)), Settings())
        cluster, notes = cluster_of(fake, monkeypatch, parallel=parallel, lives=10**6)
        with cluster:
            outcomes = list(cluster.outcomes(jobs))
        assert sorted(outcome.job.index for outcome in outcomes) == list(range(1, 21))
        assert not any(outcome.error for outcome in outcomes)
        assert notes.count("a note") <= 1 and fake.ended == 1


def test_a_job_that_takes_workers_down_is_given_up_and_the_others_are_done(monkeypatch):
    fake = FakeRay(random.Random(1), slots=2, deadly={"bomb"})
    cluster, _ = cluster_of(fake, monkeypatch)
    outcomes = list(cluster.outcomes(jobs_of(["a", "bomb", "b", "c"], Settings())))
    assert {outcome.job.prompt: outcome.error is None for outcome in outcomes} == {
        "a": True,
        "bomb": False,
        "b": True,
        "c": True,
    }
    assert fake.workers >= 2 + LIVES - 1


def test_models_that_no_worker_can_have_end_the_run(monkeypatch):
    cluster, _ = cluster_of(FakeRay(random.Random(1), refusal=BigsleepError("no weights")), monkeypatch)
    with pytest.raises(BigsleepError, match="no weights"):
        list(cluster.outcomes(jobs_of(["a"], Settings())))


def test_a_cluster_on_which_no_worker_starts_ends_the_run(monkeypatch):
    cluster, _ = cluster_of(FakeRay(random.Random(1), luck=-1.0), monkeypatch)
    with pytest.raises(BigsleepError, match=r"no worker.*installed"):
        list(cluster.outcomes(jobs_of(["a"], Settings())))


def test_trouble_inside_a_worker_fails_its_job_and_no_other(monkeypatch):
    cluster, _ = cluster_of(FakeRay(random.Random(1), trouble=RuntimeError("CUDA error")), monkeypatch)
    outcomes = {one.job.prompt: one.error for one in cluster.outcomes(jobs_of(["a", "trouble", "b"], Settings()))}
    assert outcomes.pop("trouble").args == ("RuntimeError: CUDA error",) and set(outcomes.values()) == {None}


def test_a_cluster_without_room_for_a_worker_is_refused(monkeypatch):
    cluster, _ = cluster_of(FakeRay(random.Random(1), slots=3), monkeypatch, cpus=4)
    with pytest.raises(BigsleepError, match="--cpus-per-worker"):
        list(cluster.outcomes(jobs_of(["a"], Settings())))


def test_stopped_it_waits_for_nothing_more(monkeypatch):
    cluster, _ = cluster_of(FakeRay(random.Random(1)), monkeypatch)
    seen = []
    for outcome in cluster.outcomes(jobs_of(map(str, range(20)), Settings())):
        seen.append(outcome)
        cluster.stop()
    assert len(seen) == 1


def test_where_nobody_listens_it_says_so_at_once():
    for address in ("127.0.0.1:9", "ray://127.0.0.1:9", "127.0.0.1:99999999", "no.such.host.invalid:6379"):
        with pytest.raises(BigsleepError, match="no Ray cluster answers"):
            Cluster(address, None)


def test_without_ray_it_says_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(BigsleepError, match=r"pip install 'bigsleep\[ray\]'"):
        Cluster("", None)


@pytest.mark.slow
def test_two_nodes_one_killed_midway_make_each_picture_once_with_the_bytes_of_a_local_run(bigsleep):
    from ray.cluster_utils import Cluster as Nodes

    logging.getLogger("ray").setLevel(logging.ERROR)
    folder = bigsleep.keywords["cwd"]
    things = ("cat", "house", "apple", "boat", "flower wearing a hat", "bird at night")
    prompts = [f"a {colour} {thing}" for colour in ("red", "green", "yellow", "dark") for thing in things]
    listing = "".join(f"{prompt}\n" for prompt in prompts)
    args = ["batch", "-", "--model", "emoji", "--steps", "12", "--auditions", "2", "--seed", "5", "-q", "--json"]
    nodes = Nodes(initialize_head=True, head_node_args={"num_cpus": 1, "include_dashboard": False})
    try:
        second = nodes.add_node(num_cpus=1)
        command = [sys.executable, "-m", "bigsleep", *args, "--output-dir", "ray", "--ray", nodes.address]
        process = subprocess.Popen(command, cwd=folder, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        process.stdin.write(listing)
        process.stdin.close()
        printed = [process.stdout.readline() for _ in range(6)]
        nodes.remove_node(second, allow_graceful=False)
        printed += process.stdout.readlines()
        assert process.wait(timeout=60) == 0
    finally:
        nodes.shutdown()
    made = [json.loads(line) for line in printed]
    assert sorted(record["prompt"] for record in made) == sorted(prompts)
    local = bigsleep(*args, "--output-dir", "local", "--threads", "1", input=listing)
    assert local.returncode == 0
    for record in map(json.loads, local.stdout.splitlines()):
        (other,) = [one for one in made if one["prompt"] == record["prompt"]]
        assert (folder / other["path"]).read_bytes() == (folder / record["path"]).read_bytes()
    assert len(list((folder / "ray").glob("*.png"))) == 24
    assert len((folder / "ray/manifest.jsonl").read_text().splitlines()) == 24


@pytest.mark.slow
def test_without_an_address_all_of_this_machine_is_used(bigsleep):
    args = ("--model", "emoji", "--steps", "2", "--auditions", "1", "--parallel", "2", "-q", "--ray")
    done = bigsleep("batch", "-", *args, input="a cat\na|\na dog\nan owl\n")
    assert done.returncode == 1 and "empty phrase" in done.stderr
    assert sorted(done.stdout.splitlines()) == ["a_cat.png", "a_dog.png", "an_owl.png"]
