"""What is published: an archive of the sources, and a wheel that dreams where it is installed."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import sysconfig
import tarfile
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
BESIDE = {
    "CHANGELOG.md",
    "CITATION.cff",
    "LICENSE",
    "MANIFEST.in",
    "PKG-INFO",
    "README.md",
    "pyproject.toml",
    "setup.cfg",
}
pytestmark = pytest.mark.slow


def tracked() -> set[str]:
    listed = subprocess.run(["git", "ls-files"], cwd=ROOT, capture_output=True, text=True)
    if listed.returncode:
        pytest.skip("this is no clone")
    return set(listed.stdout.splitlines())


def built(kind: str, source: Path, out: Path) -> Path:
    program = f"import sys; from setuptools import build_meta; print(build_meta.build_{kind}(sys.argv[1]))"
    done = subprocess.run([sys.executable, "-c", program, str(out)], cwd=source, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return out / done.stdout.splitlines()[-1]


@pytest.fixture(scope="module")
def archives(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """The archive of what is tracked, and the wheel built from what is in it."""
    base = tmp_path_factory.mktemp("package")
    for name in tracked():
        if (ROOT / name).is_file():
            (base / "clone" / name).parent.mkdir(parents=True, exist_ok=True)
            (base / "clone" / name).write_bytes((ROOT / name).read_bytes())
    archive = built("sdist", base / "clone", base)
    with tarfile.open(archive) as opened:
        opened.extractall(base / "unpacked", filter="data")
    return archive, built("wheel", next((base / "unpacked").iterdir()), base)


def test_the_archive_holds_the_package_and_what_tells_of_it(archives):
    with tarfile.open(archives[0]) as archive:
        names = {name.partition("/")[2] for name in archive.getnames() if not archive.getmember(name).isdir()}
    package = {name for name in tracked() if name.startswith("bigsleep/")}
    assert {name for name in names if ".egg-info/" not in name} == package | BESIDE


def test_the_wheel_holds_the_package_and_its_licences_and_asks_for_no_page(archives):
    with zipfile.ZipFile(archives[1]) as wheel:
        names = set(wheel.namelist())
        told = wheel.read(next(name for name in names if name.endswith("/METADATA"))).decode()
    package = {name for name in tracked() if name.startswith("bigsleep/")}
    beside = {name.partition("/")[2] for name in names if ".dist-info/" in name}
    assert {name for name in names if ".dist-info/" not in name} == package
    licences = {"licenses/LICENSE", "licenses/bigsleep/models/emoji/NOTICE.md"}
    assert beside == licences | {"METADATA", "WHEEL", "RECORD", "entry_points.txt", "top_level.txt"}
    needed = {re.split(r"[^\w.-]", line)[0].lower() for line in re.findall(r"Requires-Dist: ([^;\n]*)\n", told)}
    assert "torch" in needed and not needed & {"gradio", "starlette", "uvicorn", "ray", "av", "rich", "chafa.py"}
    assert "Project-URL" in told and "Classifier" in told and "License-Expression: MIT" in told
    assert archives[1].stat().st_size < 32e6


def test_installed_from_the_wheel_in_an_environment_of_its_own_it_dreams(archives, tmp_path):
    home = tmp_path / "new"
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", home], check=True)
    bin_, site = home / "bin", next(home.glob("lib/python*/site-packages"))
    install = [
        sys.executable,
        "-m",
        "pip",
        "--python",
        home,
        "install",
        "--quiet",
        "--no-deps",
        "--no-index",
        archives[1],
    ]
    subprocess.run(install, check=True)
    # What it depends on is that of this environment, whose own bigsleep is not seen by this.
    (site / "others.pth").write_text(sysconfig.get_path("purelib"))
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    command = [bin_ / "bigsleep", "a cat", "--model", "emoji", "--steps", "1", "--auditions", "1", "-q"]
    done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True)
    assert done.stdout == "a_cat.png\n" and (tmp_path / "a_cat.png").exists(), done.stderr
    program = "import bigsleep; print(bigsleep.__file__)"
    where = subprocess.run(
        [bin_ / "python", "-c", program], cwd=tmp_path, env=environment, capture_output=True, text=True
    )
    assert where.stdout.startswith(str(site))
    page = subprocess.run([bin_ / "bigsleep", "gallery", "."], cwd=tmp_path, env=environment, capture_output=True)
    assert page.returncode == 0 and "a cat" in (tmp_path / "index.html").read_text()
