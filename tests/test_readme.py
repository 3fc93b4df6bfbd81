"""Every command of the README and of some documents runs, and the list of options is the commands' own."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from docs import options

ROOT = Path(__file__).parent.parent
# Installing is what CI has done before it runs this; pytest is what runs it; the page is tested in test_web.
NOT_HERE = ("pip install", "python -m pytest", "git clone", "python -m benchmarks", "pipx", "uv ")
RUN = ("README.md", "docs/lists.md", "docs/pictures.md", "docs/events.md")


def blocks(page: str, language: str) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", (ROOT / page).read_text(), re.DOTALL)


def commands(block: str) -> list[str]:
    lines = [line.split("  #")[0].strip() for line in block.splitlines()]
    return [line for line in lines if line and not line.startswith(("#", *NOT_HERE))]


def sessions() -> list[list[str]]:
    """The commands of each block that has some; those of a block may go on from one another."""
    return [told for page in RUN for block in blocks(page, "bash") if (told := commands(block))]


def run(command: list[str], folder: Path) -> None:
    path = os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])
    done = subprocess.run(command, cwd=folder, env=os.environ | {"PATH": path}, capture_output=True, text=True)
    assert done.returncode == 0, (command, done.stderr)


def test_the_list_of_options_is_the_commands_own():
    assert options.PAGE.read_text() == options.page(), "python -m docs.options writes it anew"


def test_the_readme_is_short_and_what_it_points_to_is_there():
    for page in (ROOT / "README.md", *(ROOT / "docs").glob("*.md")):
        text = page.read_text()
        targets = re.findall(r"\]\(([^)#]+)", text)
        missing = [one for one in targets if "://" not in one and not (page.parent / one).exists()]
        assert missing == [], page
    assert len((ROOT / "README.md").read_text().splitlines()) < 200


@pytest.mark.slow
@pytest.mark.parametrize("session", sessions(), ids=lambda session: session[0][:60])
def test_the_commands_of_a_block_run_in_turn(session, bigsleep):
    for command in session:
        run(["bash", "-euo", "pipefail", "-c", command], bigsleep.keywords["cwd"])


@pytest.mark.slow
@pytest.mark.parametrize("program", blocks("README.md", "python"))
def test_each_program_runs(program, bigsleep):
    run([sys.executable, "-c", program], bigsleep.keywords["cwd"])
