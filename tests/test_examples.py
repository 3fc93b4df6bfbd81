"""The pipelines in examples/, run as they stand, and the lists beside them."""

import os
import subprocess
import sys
from pathlib import Path

import imageio_ffmpeg
import pytest
from PIL import Image

from bigsleep.lists import read_jobs

EXAMPLES = Path(__file__).parent.parent / "examples"
QUICK = ("--model", "emoji", "--image-size", "128", "--time", "0.1s", "--auditions", "1", "-q")


def run(bigsleep, script: str, *args: str) -> Path:
    """Run an example in the tests' folder, which it returns."""
    folder = bigsleep.keywords["cwd"]
    path = os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])
    environment = os.environ | {"PATH": path, "FFMPEG": imageio_ffmpeg.get_ffmpeg_exe()}
    command = ["bash", str(EXAMPLES / script), str(EXAMPLES / "prompts.txt"), *args, *QUICK]
    done = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return folder


@pytest.mark.slow
def test_a_list_to_a_contact_sheet(bigsleep):
    sheet = Image.open(run(bigsleep, "sheet.sh", "sheet.png") / "sheet.png")
    assert sheet.size == (512, 512)
    corners = [sheet.crop((x, y, x + 256, y + 256)) for y in (0, 256) for x in (0, 256)]
    assert all(len(corner.getcolors(256 * 256)) > 100 for corner in corners), "a picture in each place"


@pytest.mark.slow
def test_a_list_to_a_video(bigsleep):
    video = run(bigsleep, "video.sh", "out.mp4") / "out.mp4"
    frames, seconds = imageio_ffmpeg.count_frames_and_secs(str(video))
    assert (frames, seconds) == (100, 4.0)


@pytest.mark.slow
def test_paths_into_another_tool(bigsleep):
    folder = run(bigsleep, "jpegs.sh", "out") / "out"
    assert sorted(path.stem for path in folder.glob("*.jpg")) == sorted(path.stem for path in folder.glob("*.png"))
    assert len(list(folder.glob("*.jpg"))) == 4


@pytest.mark.slow
def test_the_films(bigsleep):
    path = os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])
    command = ["bash", str(EXAMPLES / "films.sh"), "out", "--steps", "2", "--auditions", "1", "-q"]
    done = subprocess.run(
        command, cwd=bigsleep.keywords["cwd"], env=os.environ | {"PATH": path}, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    out = bigsleep.keywords["cwd"] / "out"
    assert [Image.open(out / film).n_frames for film in ("growth.webp", "morph.webp")] == [40, 40]
    assert imageio_ffmpeg.count_frames_and_secs(str(out / "story.mp4"))[0] == 75


@pytest.mark.slow
def test_the_evening_and_the_pictures(bigsleep):
    path = os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])
    environment, folder = os.environ | {"PATH": path}, bigsleep.keywords["cwd"]
    told = {}
    for script, *options in (["evening.sh", "out"], ["make.sh", ".", "--steps", "1", "--image-size", "128"]):
        command = ["bash", str(EXAMPLES / script), *options, "--auditions", "1"]
        done = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
        told[script] = done.stdout.splitlines()
    assert told["evening.sh"][-4:] == ["sheet.png", "dog.png", "lion.png", "morph.webp"]
    shown = {path.name for path in (EXAMPLES / "pictures").glob("*.png")}
    assert {path.name for path in folder.glob("*.png")} == set(told["make.sh"]) == shown


@pytest.mark.slow
def test_what_each_part_of_a_dream_brings_on_one_strip(bigsleep):
    path = os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])
    command = ["bash", str(EXAMPLES / "strip.sh"), ".", "--cutouts", "1"]
    done = subprocess.run(command, cwd=bigsleep.keywords["cwd"], env=os.environ | {"PATH": path}, text=True)
    assert done.returncode == 0 and Image.open(bigsleep.keywords["cwd"] / "strip.png").width > 6 * 160


def test_the_lists_can_be_read():
    assert len(read_jobs((EXAMPLES / "prompts.txt").read_bytes(), "prompts.txt", {})) == 4
    jobs = read_jobs((EXAMPLES / "prompts.csv").read_bytes(), "prompts.csv", {})
    assert [job.settings.steps for job in jobs] == [40, None, 80] and jobs[1].settings.avoid == ("dog", "mouse")


@pytest.mark.slow
def test_the_notebook_runs_top_to_bottom_and_its_picture_grows(tmp_path, monkeypatch):
    nbclient = pytest.importorskip("nbclient", reason="nbclient is not installed")
    import nbformat

    monkeypatch.chdir(tmp_path)
    notebook = nbformat.read(EXAMPLES / "bigsleep.ipynb", as_version=4)
    shown: list[bytes] = []

    class Client(nbclient.NotebookClient):
        def process_message(self, message, cell, index):
            picture = message["content"].get("data", {}).get("image/png")
            if picture:
                shown.append(picture)
            return super().process_message(message, cell, index)

    Client(notebook, timeout=600).execute()
    assert len(set(shown)) >= 5 and (tmp_path / "house.png").exists()
    assert any("image/png" in output.get("data", {}) for output in notebook.cells[3].outputs)
