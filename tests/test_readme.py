"""Every command of the README runs, and its option list is the command's own."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
README = ROOT / "README.md"
HELPS = {
    name: re.compile(rf"(?<=<!-- {name} -->\n```text\n).*?(?=```\n<!-- /{name} -->)", re.DOTALL)
    for name in ("help", "batch help")
}
# Installing is what CI has done before it runs this; pytest is what runs it.
NOT_HERE = ("pip install", "python -m pytest", "git clone", "python -m benchmarks")


def help_text(name: str) -> str:
    environment = os.environ | {"COLUMNS": "100"}
    command = [sys.executable, "-m", "bigsleep", *name.replace("help", "--help").split()]
    return subprocess.run(command, env=environment, capture_output=True, text=True, check=True).stdout


def blocks(language: str) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", README.read_text(), re.DOTALL)


def commands() -> list[str]:
    lines = [line.split("  #")[0].strip() for block in blocks("bash") for line in block.splitlines()]
    return [line for line in lines if line and not line.startswith(("#", *NOT_HERE))]


@pytest.mark.parametrize("name", HELPS)
def test_the_option_lists_are_the_commands_own(name):
    assert HELPS[name].search(README.read_text()).group() == help_text(name)


@pytest.mark.slow
@pytest.mark.parametrize("command", commands())
def test_each_command_runs(command, bigsleep):
    folder = bigsleep.keywords["cwd"]
    path = os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])
    environment = os.environ | {"PATH": path}
    shell = ["bash", "-euo", "pipefail", "-c", command]
    done = subprocess.run(shell, cwd=folder, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


@pytest.mark.slow
@pytest.mark.parametrize("program", blocks("python"))
def test_each_program_runs(program, bigsleep):
    done = subprocess.run([sys.executable, "-c", program], cwd=bigsleep.keywords["cwd"], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


if __name__ == "__main__":
    for name, place in HELPS.items():
        README.write_text(place.sub(lambda _, name=name: help_text(name), README.read_text()))
