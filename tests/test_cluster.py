"""Lists on a Ray cluster: the handing out of jobs whatever dies, and a real cluster of two nodes."""

import contextlib
import json
import logging
import random
import subprocess
import sys
import time
from types import SimpleNamespace

import psutil
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bigsleep import BigsleepError, Settings
from bigsleep.batch import Outcome, jobs_of
from bigsleep.cluster import LIVES, Cluster
from bigsleep.errors import ShortOfMemory


class RayError(Exception):
    pass


class RayTaskError(RayError):
    def __init__(self, cause):
        self.cause = cause


class OutOfMemoryError(RayError):
    pass


class FakeRay:
    """As much of Ray as the driver uses. Calls end in any order; ``deadly`` jobs and bad luck take workers down.

    The first ``short`` workers have memory for ``bears`` jobs and no more.
    """

    exceptions = SimpleNamespace(RayError=RayError, RayTaskError=RayTaskError, OutOfMemoryError=OutOfMemoryError)

    def __init__(self, chance, slots=3, luck=1.0, deadly=(), refusal=None, trouble=None, short=0, bears=1):
        self.chance, self.slots, self.luck, self.deadly, self.refusal = chance, slots, luck, deadly, refusal
        self.trouble, self.short, self.bears = trouble, short, bears
        self.calls, self.ended, self.workers = {}, 0, 0

    def init(self, *_, **__): ...

    def shutdown(self):
        self.ended += 1

    def nodes(self):
        return [{"Alive": True, "Resources": {"CPU": float(self.slots)}}, {"Alive": False, "Resources": {"CPU": 64.0}}]

    def remote(self, _):
        return SimpleNamespace(options=lambda **_: SimpleNamespace(remote=self.start))

    def start(self, *_):
        self.workers += 1
        alive, done, short = [True], [], self.workers <= self.short

        def dreamt(jobs):
            error = ShortOfMemory("too little") if short and len(done) >= self.bears else None
            done.extend(jobs)
            return self.call(alive, [Outcome(job, share=1.0, error=error) for job in jobs], jobs)

        load = SimpleNamespace(remote=lambda _: self.call(alive, ["a note"]))
        return SimpleNamespace(load=load, run=SimpleNamespace(remote=dreamt), alive=alive)

    def kill(self, worker):
        worker.alive[0] = False

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


def test_a_worker_whose_memory_ends_is_replaced_and_fails_nothing_that_others_can_do(monkeypatch):
    fake = FakeRay(random.Random(1), slots=3, short=2)
    cluster, notes = cluster_of(fake, monkeypatch)
    outcomes = list(cluster.outcomes(jobs_of(map(str, range(20)), Settings())))
    assert len(outcomes) == 20 and not any(outcome.error for outcome in outcomes)
    assert fake.workers == 5 and sum("a worker died" in note for note in notes) == 2


def test_where_memory_is_too_small_everywhere_each_job_says_so_at_once(monkeypatch):
    cluster, _ = cluster_of(FakeRay(random.Random(1), slots=1, short=1, bears=0), monkeypatch)
    outcomes = list(cluster.outcomes(jobs_of(["a", "b"], Settings())))
    assert [type(outcome.error) for outcome in outcomes] == [ShortOfMemory] * 2


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


@contextlib.contextmanager
def real(**head):
    """A real cluster of this machine."""
    from ray.cluster_utils import Cluster as Nodes

    logging.getLogger("ray").setLevel(logging.ERROR)
    nodes = Nodes(initialize_head=True, head_node_args=head | {"include_dashboard": False})
    try:
        yield nodes
    finally:
        nodes.shutdown()


def processes_of(node):
    """A node's own process, and its workers that dream."""
    raylet = psutil.Process(node.all_processes["raylet"][0].process.pid)
    return raylet, [child for child in raylet.children() if "".join(child.cmdline()[:1]).startswith("ray::Worker")]


PROMPTS = [f"cat {number:02d}" for number in range(12)]


class Listed:
    """A list on a cluster, of which two pictures are made."""

    def __init__(self, bigsleep, nodes) -> None:
        self.folder = bigsleep.keywords["cwd"]
        args = ("--model", "emoji", "--steps", "12", "--auditions", "1", "--output-dir", "out", "--json")
        command = [sys.executable, "-m", "bigsleep", "batch", "-", *args, "--ray", nodes.address]
        pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
        self.process = subprocess.Popen(command, cwd=self.folder, text=True, **pipes)
        self.process.stdin.write("".join(f"{prompt}\n" for prompt in PROMPTS))
        self.process.stdin.close()
        self.printed = [self.process.stdout.readline() for _ in range(2)]

    def dreaming(self, node) -> psutil.Process:
        """A worker of a node, in the middle of a dream."""
        while self.process.poll() is None:
            for worker in processes_of(node)[1]:
                with contextlib.suppress(psutil.NoSuchProcess, IndexError):
                    if ".run" in worker.cmdline()[0]:
                        return worker
        raise AssertionError("it was done before a worker of the node dreamt")

    def made(self) -> str:
        """What it said, when each picture has been made once, and recorded."""
        self.printed += self.process.stdout.readlines()
        said = self.process.stderr.read()
        assert self.process.wait(timeout=60) == 0, said
        assert sorted(json.loads(line)["prompt"] for line in self.printed) == PROMPTS
        records = (self.folder / "out/manifest.jsonl").read_text().splitlines()
        assert len(records) == len(list((self.folder / "out").glob("*.png"))) == len(PROMPTS)
        return said


@pytest.mark.slow
@pytest.mark.parametrize(("seconds", "dead"), [(2, False), (8, True)], ids=["waited for", "taken for dead"])
def test_a_node_that_is_slow_but_not_dead_costs_nothing(bigsleep, seconds, dead):
    """Stopped as a whole, and going on later: before Ray gives it up, or when its prompts are long with others."""
    patience = {"health_check_period_ms": 500, "health_check_timeout_ms": 500, "health_check_failure_threshold": 8}
    with real(num_cpus=1, **({"_system_config": patience} if dead else {})) as nodes:  # else fifteen seconds and more
        slow = nodes.add_node(num_cpus=1)
        listed = Listed(bigsleep, nodes)
        listed.dreaming(slow)
        raylet, workers = processes_of(slow)
        for process in (raylet, *workers):
            process.suspend()
        time.sleep(seconds)
        for process in (raylet, *workers):
            with contextlib.suppress(psutil.NoSuchProcess):
                process.resume()
        assert ("a worker died" in listed.made()) == dead


def limited(worker):
    worker.rlimit(psutil.RLIMIT_AS, (worker.memory_info().vms,) * 2)


@pytest.mark.slow
@pytest.mark.parametrize("ends", [limited, psutil.Process.kill], ids=["its limit", "the kernel's killer"])
def test_a_worker_whose_memory_ends_midway_costs_no_picture(bigsleep, ends):
    with real(num_cpus=2) as nodes:
        listed = Listed(bigsleep, nodes)
        ends(listed.dreaming(nodes.head_node))
        assert "a worker died; others get its prompts" in listed.made()


@pytest.mark.slow
def test_nodes_without_memory_for_any_worker_end_it_in_a_line_that_says_what_to_lower(bigsleep, monkeypatch):
    monkeypatch.setenv("RAY_memory_usage_threshold", "0.01")
    monkeypatch.setenv("RAY_memory_monitor_refresh_ms", "100")
    with real(num_cpus=1) as nodes:
        done = bigsleep("batch", "-", "--model", "emoji", "-q", "--ray", nodes.address, input="a cat\n")
    assert done.returncode == 1 and done.stdout == "" and len(done.stderr.splitlines()) == 1
    assert "memory ends" in done.stderr and "--parallel" in done.stderr


@pytest.mark.slow
def test_two_nodes_one_killed_midway_make_each_picture_once_with_the_bytes_of_a_local_run(bigsleep):
    folder = bigsleep.keywords["cwd"]
    things = ("cat", "house", "apple", "boat", "flower wearing a hat", "bird at night")
    prompts = [f"a {colour} {thing}" for colour in ("red", "green", "yellow", "dark") for thing in things]
    listing = "".join(f"{prompt}\n" for prompt in prompts)
    args = ["batch", "-", "--model", "emoji", "--steps", "12", "--auditions", "2", "--seed", "5", "-q", "--json"]
    with real(num_cpus=1) as nodes:
        second = nodes.add_node(num_cpus=1)
        command = [sys.executable, "-m", "bigsleep", *args, "--output-dir", "ray", "--ray", nodes.address]
        process = subprocess.Popen(command, cwd=folder, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        process.stdin.write(listing)
        process.stdin.close()
        printed = [process.stdout.readline() for _ in range(6)]
        nodes.remove_node(second, allow_graceful=False)
        printed += process.stdout.readlines()
        assert process.wait(timeout=60) == 0
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
