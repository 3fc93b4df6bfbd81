"""Disks that fill up, folders that vanish, pictures that others delete, clocks that jump, while it dreams; what it leaves behind."""

import json
import os
import platform
import shutil
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest
from PIL import Image

from bigsleep.disk import sweep, write_beside
from bigsleep.picture import read_recipe

QUICK = ("--model", "emoji", "--image-size", "128", "--cutouts", "4", "--auditions", "1", "--save-every", "1")
# A small disk of its own for the command, in a namespace that no other process sees; filled, emptied or locked by lines on stdin.
ON_A_SMALL_DISK = """
mount -t tmpfs -o size=$1 tmpfs out && shift || exit 99
"$@" 3<&- & command=$!
(while read line; do eval "$line"; echo done >&2; done) <&3 & helper=$!
wait $command; code=$?
kill $helper; rm -f out/filler; cp -r out kept
exit $code
"""


def whole(folder: Path) -> list[str]:
    """The names of all that is in a folder, its pictures looked at."""
    for path in folder.glob("*.png"):
        Image.open(path).load()
    return sorted(os.listdir(folder))


def started(bigsleep, *args: str) -> subprocess.Popen:
    folder = bigsleep.keywords["cwd"]
    (folder / "out").mkdir(exist_ok=True)
    command = [sys.executable, "-m", "bigsleep", *args, *QUICK, "--output-dir", "out"]
    return subprocess.Popen(command, cwd=folder, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def until(process: subprocess.Popen, words: str) -> None:
    while words not in (line := process.stderr.readline()):
        assert line or process.poll() is None, process.returncode


def test_a_picture_that_somebody_deletes_meanwhile_is_there_again_at_the_end(bigsleep):
    process = started(bigsleep, "a cat", "--steps", "8")
    until(process, "score")
    (bigsleep.keywords["cwd"] / "out/a_cat.png").unlink()
    stdout, _ = process.communicate(timeout=60)
    assert process.returncode == 0 and stdout == "out/a_cat.png\n"
    assert whole(bigsleep.keywords["cwd"] / "out") == ["a_cat.png"]


def test_a_folder_that_is_away_for_a_while_costs_nothing(bigsleep):
    out = bigsleep.keywords["cwd"] / "out"
    process = started(bigsleep, "a cat", "--steps", "100000")
    until(process, "score")
    out.rename(out.with_name("elsewhere"))
    until(process, "could not be written")
    out.mkdir()
    until(process, "score")
    process.terminate()
    stdout, _ = process.communicate(timeout=60)
    assert stdout == "out/a_cat.png\n" and whole(out) == whole(out.with_name("elsewhere")) == ["a_cat.png"]


def test_a_folder_that_never_comes_back_ends_it_in_one_line(bigsleep):
    process = started(bigsleep, "a cat", "--steps", "8", "-q")
    out = bigsleep.keywords["cwd"] / "out"
    while not (out / "a_cat.png").exists():
        time.sleep(0.01)
    shutil.rmtree(out, ignore_errors=True)
    stdout, stderr = process.communicate(timeout=60)
    assert process.returncode == 1 and stdout == "" and len(stderr.splitlines()) == 1 and "No such file" in stderr


class SmallDisk:
    """The command with a disk of ``size`` as its output folder, which ends up as the folder ``kept``."""

    def __init__(self, bigsleep, size: str, *args: str) -> None:
        folder = bigsleep.keywords["cwd"]
        (folder / "out").mkdir(exist_ok=True)
        read, self.orders = os.pipe()
        command = [sys.executable, "-m", "bigsleep", *args, *QUICK, "--output-dir", "out"]
        script = ["unshare", "--user", "--map-root-user", "--mount", "bash", "-c", ON_A_SMALL_DISK, "bash", size]
        self.process = subprocess.Popen(
            ["bash", "-c", f'exec 3<&{read}; exec "$@"', "bash", *script, *command], cwd=folder, pass_fds=[read],
            stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        )  # fmt: skip
        os.close(read)
        self.kept = folder / "kept"

    def do(self, line: str) -> None:
        """Have a line of shell done on the disk."""
        os.write(self.orders, f"{line}\n".encode())
        until(self.process, "done")

    def ended(self) -> tuple[int, str, str]:
        stdout, stderr = self.process.communicate(timeout=120)
        os.close(self.orders)
        return self.process.returncode, stdout, stderr


@pytest.fixture(scope="module")
def namespaces():
    probe = ["unshare", "--user", "--map-root-user", "--mount", "mount", "-t", "tmpfs", "tmpfs", "/mnt"]
    try:
        subprocess.run(probe, check=True, capture_output=True)
    except (OSError, subprocess.CalledProcessError):
        pytest.skip("no mount namespaces of one's own here")


FAULTS = {"fills up": ("cat /dev/zero > out/filler", "No space"), "read-only": ("mount -o remount,ro out", "Read-only")}


@pytest.mark.slow
@pytest.mark.parametrize("fault", FAULTS)
def test_a_disk_that_fails_midway_leaves_what_was_written_whole(bigsleep, namespaces, fault):
    order, words = FAULTS[fault]
    disk = SmallDisk(bigsleep, "1m", "a cat", "--steps", "30")
    until(disk.process, "score")
    disk.do(f"{order} 2>/dev/null")
    until(disk.process, words)
    code, stdout, stderr = disk.ended()
    assert code == 1 and stdout == "" and words in stderr.splitlines()[-1] and "Traceback" not in stderr
    assert whole(disk.kept) == ["a_cat.png"]


@pytest.mark.slow
def test_a_disk_with_room_again_is_written_to_again(bigsleep, namespaces):
    disk = SmallDisk(bigsleep, "1m", "a cat", "--steps", "100000")
    until(disk.process, "score")
    disk.do("cat /dev/zero > out/filler 2>/dev/null")
    until(disk.process, "No space")
    disk.do("rm out/filler")
    until(disk.process, "score")
    disk.do("kill -TERM $command")
    _, stdout, _ = disk.ended()
    assert stdout == "out/a_cat.png\n" and whole(disk.kept) == ["a_cat.png"]


@pytest.mark.slow
def test_a_list_on_a_full_disk_says_so_and_is_finished_where_there_is_room(bigsleep, namespaces):
    folder = bigsleep.keywords["cwd"]
    (folder / "list.txt").write_text("".join(f"a cat {i}\n" for i in range(12)))
    disk = SmallDisk(bigsleep, "120k", "batch", "list.txt", "--steps", "1", "-q", "--seed", "1")
    code, stdout, stderr = disk.ended()
    assert code == 1 and "No space" in stderr and "Traceback" not in stderr
    before = [Path(line).name for line in stdout.splitlines()]
    assert before and {*before, "manifest.jsonl"} == set(whole(disk.kept))
    shutil.rmtree(folder / "out")
    disk.kept.rename(folder / "out")
    again = bigsleep("batch", "list.txt", *QUICK, "--steps", "1", "-q", "--seed", "1", "--output-dir", "out")
    assert again.returncode == 0 and len(before) + len(again.stdout.splitlines()) == 12
    records = [json.loads(line) for line in (folder / "out/manifest.jsonl").read_text().splitlines()]
    made = [record["path"] for record in records if "path" in record]
    assert sorted([*made, "manifest.jsonl"]) == whole(folder / "out") and len(made) == 12


def test_a_record_for_which_there_is_half_the_room_leaves_the_others_whole(tmp_path):
    program = """
import resource, sys
from pathlib import Path
from bigsleep import BigsleepError, Settings
from bigsleep.batch import Outcome, jobs_of
from bigsleep.manifest import Manifest
resource.setrlimit(resource.RLIMIT_FSIZE, (1000, 1000))
folder = Path(sys.argv[1])
with Manifest(folder) as manifest:
    try:
        for job in jobs_of(["x" * 100] * 20, Settings()):
            manifest.add_failure(Outcome(job, error=BigsleepError("no")))
    except BigsleepError as error:
        print(error)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1000, 1000))
"""
    environment = os.environ | {"BIGSLEEP_CACHE": str(tmp_path / "cache")}
    done = subprocess.run(
        [sys.executable, "-c", program, str(tmp_path)], env=environment, capture_output=True, text=True
    )
    assert "could not be written" in done.stdout and done.stderr == ""
    data = (tmp_path / "manifest.jsonl").read_bytes()
    assert data.endswith(b"\n") and all(map(json.loads, data.splitlines())) and 500 < len(data) <= 1000


def test_pictures_that_would_have_the_same_name_are_all_kept_when_overwriting_older_ones(bigsleep):
    old = bigsleep.keywords["cwd"] / "a_cat.png"
    old.write_bytes(b"older")
    for _ in range(2):
        done = bigsleep("a cat", "A cat!", *QUICK, "--steps", "1", "--overwrite", "--variations", "2", "-q")
        assert done.stdout.splitlines() == ["a_cat.png", "a_cat-2.png", "a_cat-3.png", "a_cat-4.png"]
    prompts = [read_recipe(old.with_name(name))["prompt"] for name in done.stdout.splitlines()]
    assert prompts == ["a cat", "a cat", "A cat!", "A cat!"] and len(whole(old.parent)) == 4


@pytest.fixture
def writer(tmp_path):
    """Another process, in the middle of writing a picture to ``out``; and its temporary file."""
    program = "import sys; from pathlib import Path; from bigsleep.disk import write_beside\n"
    program += "print(write_beside(b'x', Path(sys.argv[1]) / 'a.png'), flush=True); sys.stdin.read()"
    (tmp_path / "out").mkdir()
    command = [sys.executable, "-c", program, str(tmp_path / "out")]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        yield process, Path(process.stdout.readline().strip())
        process.kill()


def test_sweeping_removes_what_killed_processes_left_and_nothing_else(writer):
    process, left = writer
    process.kill()
    process.wait()
    folder = left.parent
    ours = write_beside(b"x", folder / "b.png")
    # The number of a process that has gone may be another's by now: here, ours.
    reborn = ours.with_name(f".bigsleep-{platform.node()}-{os.getpid()}-1.00-abc.tmp")
    theirs = folder / ".bigsleep-another-machine-1-1.00-abc.tmp"
    nobodys = [folder / ".bigsleep-.tmp", folder / f".bigsleep-{platform.node()}-b-c-d.tmp"]
    for path in (reborn, theirs, *nobodys):
        path.touch()
    sweep(folder)
    assert set(folder.iterdir()) == {ours, theirs, *nobodys}


@pytest.mark.parametrize("dated", [0, -1, 100_000])
@pytest.mark.parametrize("set_by", [0, 1, -1, 100_000, -100_000])
def test_no_clock_that_jumps_makes_the_living_dead_or_the_dead_live(writer, tmp_path, monkeypatch, dated, set_by):
    """A clock that is so many hours off when a file is dated, and set by others afterwards; Linux dates its start by it."""
    process, temporary = writer
    os.utime(temporary, (time.time() + 3600 * dated,) * 2)
    if sys.platform == "linux":
        processes, start = tmp_path / "proc", psutil.boot_time()
        processes.mkdir()
        (processes / "stat").write_text(f"btime {start + 3600 * set_by:.0f}\n")
        (processes / str(process.pid)).symlink_to(f"/proc/{process.pid}")
        monkeypatch.setattr(psutil, "PROCFS_PATH", str(processes))
        assert psutil.boot_time() - start == 3600 * set_by
    sweep(temporary.parent)
    assert temporary.exists()
    process.kill()
    process.wait()
    sweep(temporary.parent)
    assert not temporary.exists()
