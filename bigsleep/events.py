"""What happens to a dream, as plain tables: what ``--progress json`` prints and what the page is told. See docs/events.md."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from bigsleep.batch import Job, Outcome, reason

if TYPE_CHECKING:
    from bigsleep.dreamer import Dream
    from bigsleep.snapshot import Progress

VERSION = 1  # greater where a field goes or changes its meaning; new fields may come at any time


def event(kind: str, job: Job, **told: Any) -> dict[str, Any]:
    return {"event": kind, "version": VERSION, "job": job.key, **told}


def started(job: Job, dreaming: Dream) -> dict[str, Any]:
    """A dream begins: with what, and for how long. ``steps`` is None where there is a ``time`` in seconds instead."""
    told = {name: getattr(dreaming.settings, name) for name in ("seed", "model", "clip", "steps", "time", "image_size")}
    return event("start", job, prompt=job.prompt, **told)


def stepped(job: Job, progress: Progress) -> dict[str, Any]:
    """A step is done, or a part of the auditions; the score is that of the last snapshot, None before there is one."""
    heard = {} if progress.step else {"heard": progress.heard, "auditions": progress.auditions}
    return event(
        "step", job, step=progress.step, share=round(progress.share, 4), score=progress.score,
        seconds=round(progress.seconds, 2), seconds_left=round(progress.seconds_left, 2), **heard,
    )  # fmt: skip


def came(outcome: Outcome, path: str) -> dict[str, Any]:
    """A picture on the way, or the end of a dream, at ``path``."""
    if outcome.last:
        return event("done", outcome.job, share=round(outcome.share, 4), **outcome.record(path))
    return event(
        "snapshot", outcome.job, step=outcome.recipe["step"], share=round(outcome.share, 4),
        score=outcome.recipe["score"], seconds=round(outcome.seconds, 2), path=path,
    )  # fmt: skip


def failed(job: Job, error: Exception) -> dict[str, Any]:
    """A dream came to nothing; why, in one line."""
    return event("failed", job, prompt=job.prompt, error=" ".join(reason(error).split()))
