"""Where single pictures go, and what is left out of them."""

from __future__ import annotations

import io
from dataclasses import replace
from pathlib import Path
from typing import Protocol

from PIL import Image

from bigsleep.batch import Job, Outcome
from bigsleep.disk import numbered, save, save_new
from bigsleep.picture import Picture, name_of


class Keeper(Protocol):
    """What puts outcomes where they belong."""

    def keep(self, outcome: Outcome) -> Path | None: ...

    def add_failure(self, outcome: Outcome) -> None: ...


class Bare:
    """Has another keeper keep pictures without recipes and states."""

    def __init__(self, keeper: Keeper) -> None:
        self.keeper, self.add_failure = keeper, keeper.add_failure

    def keep(self, outcome: Outcome) -> Path | None:
        with Image.open(io.BytesIO(outcome.png)) as image:
            return self.keeper.keep(replace(outcome, png=Picture(image).png(bare=True)))


class Files:
    """The files of dreams that are shown as they go: each snapshot replaces the one before."""

    def __init__(
        self, output: Path | None, folder: Path, template: str, overwrite: bool, save_progress: bool, alone: bool
    ) -> None:
        self.output, self.folder, self.template = output, folder, template
        self.overwrite, self.save_progress, self.alone = overwrite, save_progress, alone
        self.taken: set[Path] = set()
        self.written: dict[str, tuple[Path, Path]] = {}  # by job: the name that was wanted and the one that was free

    def target(self, job: Job, seed: int, model: str) -> Path:
        return self.output or self.folder / name_of(self.template, job.index, job.variation, job.prompt, seed, model)

    def keep(self, outcome: Outcome) -> Path:
        """Write a snapshot to its job's file; where that is. A name with the seed changes with the best seed."""
        settings = outcome.recipe["settings"]
        wanted = self.target(outcome.job, settings["seed"], settings["model"])
        before, path = self.written.get(outcome.job.key, (None, None))
        if path is not None and before == wanted:
            save(outcome.png, path)
        else:
            old, path = path, self.put(outcome.png, wanted)
            if old is not None:
                old.unlink(missing_ok=True)
        self.written[outcome.job.key] = wanted, path
        if self.save_progress and not outcome.last:
            self.put(outcome.png, path.with_name(f"{path.stem}.{outcome.recipe['step']:04d}.png"))
        return path

    def put(self, png: bytes, wanted: Path) -> Path:
        """Write a new file; where it went. Nothing that this run has made is overwritten: prompts may share a name."""
        if self.overwrite:
            path = next(path for path in numbered(wanted) if path not in self.taken)
            save(png, path)
        else:
            path = save_new(png, wanted)
        self.taken.add(path)
        return path

    def add_failure(self, outcome: Outcome) -> None:
        """There is no record to keep; a failure with no others to go on with is raised."""
        if self.alone and outcome.error is not None:
            raise outcome.error
