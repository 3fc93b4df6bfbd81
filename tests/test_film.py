import builtins
import io
import subprocess
import sys

import pytest
from PIL import Image, ImageSequence

from bigsleep.errors import BigsleepError
from bigsleep.film import MOST_FRAMES, at_equal_change, check_film, write_film


def frames(count, size=64):
    return (Image.new("RGB", (size, size), (255 * i // max(1, count - 1), 0, 128)) for i in range(count))


@pytest.mark.parametrize("ending", ["mp4", "webm"])
def test_a_film_has_its_frames_at_their_times(tmp_path, ending):
    av = pytest.importorskip("av")
    write_film(frames(30), tmp_path / f"film.{ending}", fps=10)
    with av.open(str(tmp_path / f"film.{ending}")) as film:
        reds = [frame.to_image().getpixel((32, 32))[0] for frame in film.decode(video=0)]
        assert float(film.streams.video[0].average_rate) == 10
    assert len(reds) == 30 and reds[0] < 12 and reds[-1] > 235 and reds == sorted(reds)
    assert [path.name for path in tmp_path.iterdir()] == [f"film.{ending}"]


@pytest.mark.parametrize("ending", ["gif", "webp"])
def test_gif_and_webp_need_pillow_alone(tmp_path, ending, monkeypatch):
    monkeypatch.setattr(builtins, "__import__", without_av(builtins.__import__))
    check_film(tmp_path / f"film.{ending}")
    write_film(frames(8), tmp_path / f"film.{ending}", fps=10)
    with Image.open(tmp_path / f"film.{ending}") as film:
        assert sum(1 for _ in ImageSequence.Iterator(film)) == 8
        film.seek(7)
        assert film.convert("RGB").getpixel((32, 32))[0] > 240


def without_av(real):
    def refuse(name, *args, **kwargs):
        if name == "av":
            raise ImportError(name)
        return real(name, *args, **kwargs)

    return refuse


def test_without_pyav_it_says_which_extra(tmp_path, monkeypatch):
    monkeypatch.setattr(builtins, "__import__", without_av(builtins.__import__))
    with pytest.raises(BigsleepError, match=r"bigsleep\[video\]") as caught:
        check_film(tmp_path / "film.mp4")
    assert caught.value.usage


@pytest.mark.parametrize("name", ["film.avi", "film", "missing/film.gif"])
def test_where_no_film_can_be_written_is_known_beforehand(tmp_path, name):
    with pytest.raises(BigsleepError) as caught:
        check_film(tmp_path / name)
    assert caught.value.usage


@pytest.mark.parametrize("ending", ["mp4", "webm", "gif", "webp"])
def test_a_film_that_fails_leaves_what_was_there(tmp_path, ending):
    def broken():
        yield from frames(5)
        raise RuntimeError("the dream is over")

    (tmp_path / f"film.{ending}").write_bytes(b"precious")
    with pytest.raises(RuntimeError):
        write_film(broken(), tmp_path / f"film.{ending}", fps=10)
    assert [path.read_bytes() for path in tmp_path.iterdir()] == [b"precious"]


@pytest.mark.parametrize("ending", ["mp4", "webm", "gif", "webp"])
def test_on_a_full_disk_nothing_half_written_is_left(tmp_path, ending):
    program = f"""
import os, resource, signal
from pathlib import Path
from PIL import Image
from bigsleep.errors import BigsleepError
from bigsleep.film import write_film
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (20000, 20000))
noise = (Image.frombytes("RGB", (128, 128), os.urandom(128 * 128 * 3)) for _ in range(40))
try:
    write_film(noise, Path("film.{ending}"), 10)
except BigsleepError as error:
    print(error)
"""
    done = subprocess.run([sys.executable, "-c", program], cwd=tmp_path, capture_output=True, text=True)
    assert f"film.{ending} could not be written" in done.stdout, done.stderr
    assert list(tmp_path.iterdir()) == []


def test_a_gif_that_would_fill_the_memory_is_refused(tmp_path):
    with pytest.raises(BigsleepError, match=r"\.mp4"):
        write_film(frames(MOST_FRAMES + 1, 8), tmp_path / "film.gif", fps=10)


def test_places_at_equal_change_pass_slowly_where_much_happens():
    places = list(at_equal_change([0.0, 8.0, 1.0, 0.0], 10))
    assert places[0] <= 1 and sum(1 <= place < 2 for place in places) >= 7 and places == sorted(places)
    assert list(at_equal_change([0.0, 0.0], 3))[-1] <= 2 and list(at_equal_change([1.0], 1)) == [0.0]


def test_pictures_of_odd_sides_are_filmed_too(tmp_path):
    pytest.importorskip("av")
    write_film(frames(3, 65), tmp_path / "film.mp4", fps=10)
    assert (tmp_path / "film.mp4").stat().st_size > 0
    assert io.BytesIO((tmp_path / "film.mp4").read_bytes()).read(12)[4:8] == b"ftyp"
