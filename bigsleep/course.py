"""Dreams under way, alone or together: their searches stepped, weaker ones dropped, snapshots out."""

from __future__ import annotations

import copy
import itertools
import math
import time
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import replace
from itertools import pairwise
from statistics import stdev
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from bigsleep.budget import halvings
from bigsleep.errors import BigsleepError, out_of_memory
from bigsleep.history import MOST_UNDONE
from bigsleep.layers import described
from bigsleep.loading import too_small
from bigsleep.origin import Going, Mark
from bigsleep.search import Search
from bigsleep.snapshot import Progress, Snapshot
from bigsleep.state import fitted

if TYPE_CHECKING:
    from bigsleep.dreamer import Dream
    from bigsleep.goal import Goal
    from bigsleep.settings import Settings


MANY = 1000  # auditions, which take long enough to be told of


class Course:
    """A dream under way: how far it is, and its searches, one for each seed that is still in."""

    def __init__(self, dreaming: Dream) -> None:
        self.dreaming, self.settings, self.optimizer = dreaming, dreaming.settings, dreaming.models.optimizer
        self.until = dreaming.origin.until
        dreaming.best = None
        goal, first = dreaming.goal(), self.settings.seed
        assert first is not None, "complete settings have a seed"
        going = dreaming.origin.going
        start = dreaming.begun() if going is None else going.best.latents
        if start is None and self.settings.auditions > MANY:
            dreaming.note(f"{self.settings.auditions:,} auditions come first")
        seeds = range(first, first + self.settings.best_of)
        self.searches = [self.begin(goal, replace(self.settings, seed=seed), start) for seed in seeds]
        self.rungs = halvings(self.settings.best_of)
        self.began, self.step, self.share, self.done = time.monotonic(), 0, 0.0, False
        self.score: float | None = None
        self.scores: list[tuple[float, float]] = []  # with the share of the dream at which each was seen
        if going is not None:
            self.resume(going)
        if dreaming.origin.carried is not None:
            self.carry(dreaming.origin.carried)
        self.trail()

    def begin(self, goal: Goal, settings: Settings, start: Mapping[str, Tensor] | None) -> Search:
        """A search, begun at ``start`` or at the best of its auditions."""
        began, heard, origin = time.monotonic(), 0, self.dreaming.origin

        def enough(count: int) -> bool:
            nonlocal heard
            heard = count
            if self.dreaming.on_step:
                seconds = time.monotonic() - began
                self.dreaming.on_step(Progress(0, 0.0, seconds, None, heard, settings.auditions))
            return self.dreaming.stopped.is_set() or (self.replays() and heard == origin.heard)

        assert settings.seed is not None
        random = torch.Generator().manual_seed(settings.seed)
        search = self.optimizer.search(goal, settings, random, self.dreaming.plan, start, enough)
        search.heard = heard if heard < settings.auditions else 0
        return search

    def replays(self) -> bool:
        """Whether a picture is to be seen again to the byte, and so in passes of the same sizes as then."""
        return self.until is not None

    def step_in_company(self) -> None:
        """A step among as many searches as then, for a pass of another size rounds otherwise; all but one are copies."""
        (search,) = self.searches
        runs = self.dreaming.origin.company or ((1, 1, 0),)
        ends = itertools.accumulate(steps for steps, _, _ in runs)
        _, size, place = next((run for run, end in zip(runs, ends, strict=True) if self.step < end), runs[-1])
        crowd = [search if i == place else copy.deepcopy(search) for i in range(size)]
        self.optimizer.step(crowd, [self.share] * size)
        search.met(size, place)

    def carry(self, latents: Mapping[str, Tensor]) -> None:
        """Begin with the noise of other ``latents``, in as many layers as both have."""
        for search in self.searches:
            state = search.shown()
            noise = {name: part for name, part in latents.items() if name.endswith(".noise") and name in state}
            search.show({**state, **{name: part.expand_as(state[name]) for name, part in noise.items()}})

    def trail(self) -> None:
        """Remember what the searches show, where a film is wanted."""
        if self.dreaming.trails is None:
            return
        for search in self.searches:
            assert search.settings.seed is not None
            shown = {name: tensor.half().cpu() for name, tensor in search.shown().items()}
            self.dreaming.trails.setdefault(search.settings.seed, []).append(shown)

    def resume(self, going: Going) -> None:
        """Go on where a dream was broken off; its best so far is a picture again."""
        search, best = self.searches[0], going.best
        shot = self.shoot(search)
        if shot is None:
            raise self.diverged()
        origin = self.dreaming.origin
        shot = replace(shot, share=going.share, company=origin.company, undone=best.undone, heard=origin.heard)
        self.dreaming.best = replace(shot, score=best.score, step=best.step, seed=best.seed)
        search.restore(fitted(going.state, search.state()))
        search.history.undone, search.history.running = going.undone
        self.step, self.share, self.scores = going.step, going.share, list(going.scores)
        search.company = [list(run) for run in self.dreaming.origin.company] or [[going.step, 1, 0]]
        search.heard = self.dreaming.origin.heard
        self.began -= going.share * (self.settings.time or 0.0)

    def advance(self) -> Snapshot | None:
        """Count the step that all searches have just made; a snapshot where one is due."""
        self.step += 1
        self.trail()
        return self.look()

    def look(self) -> Snapshot | None:
        """How far the dream is now; a snapshot where one is due."""
        self.share = self.reached()
        hopeful = [search for search in self.searches if not search.history.hopeless]
        self.searches = hopeful or self.searches
        # Asked for before the first step, a stop is meant as well.
        self.done = not hopeful or self.share >= 1 or self.dreaming.stopped.is_set()
        if self.done:
            self.dreaming.stopped.clear()
        keep = self.survivors()
        due = keep == 1 and self.until is None and self.step % self.settings.save_every == 0
        if not (due or self.done or keep < len(self.searches)):
            return None
        shot = self.select(keep)
        if shot is None or self.share >= 1:
            return shot
        if not hopeful:
            return self.ended(shot, f"{MOST_UNDONE} steps in a row led to no number: ended with the best before them")
        if keep == 1 and not self.done and self.settings.until == "plateau" and settled(self.scores):
            return self.ended(shot, "no better for a fifth of the dream: done")
        return shot

    def ended(self, shot: Snapshot, why: str) -> Snapshot:
        """``shot`` as the last of a dream that ends before its time, but is done."""
        self.done, self.share, self.dreaming.broken_off = True, 1.0, None
        self.dreaming.note(f"{why} after {self.step} steps")
        return replace(shot, share=1.0, last=True)

    def reached(self) -> float:
        """How much of the dream is done, by steps or by the clock."""
        if self.step == self.until:
            return 1.0
        if self.settings.time is not None:
            return min(1.0, (time.monotonic() - self.began) / self.settings.time)
        assert self.settings.steps is not None, "complete settings have steps or a time"
        return self.step / self.settings.steps if self.settings.steps else 1.0

    def survivors(self) -> int:
        """How many searches go on from here."""
        keep = len(self.searches)
        while self.rungs and self.share >= self.rungs[0]:
            del self.rungs[0]
            keep = (keep + 1) // 2
        return 1 if self.done else keep

    def select(self, keep: int) -> Snapshot | None:
        """Go on with the ``keep`` searches that score best; the snapshot of the first of them.

        Where none has a score, its last step is about to be undone: all go on, and at the end the best before it counts.
        """
        shots = [(search, shot) for search in self.searches if (shot := self.shoot(search)) is not None]
        if not shots:
            if not self.done:
                return None
            if self.dreaming.best is None:
                raise self.diverged()
            return replace(self.dreaming.best, share=self.share, last=True)
        shots.sort(key=lambda shot: shot[1].score, reverse=True)
        self.searches = [search for search, _ in shots[:keep]]
        shot = shots[0][1]
        self.score = shot.score
        self.scores.append((self.share, shot.score))
        if self.dreaming.best is None or shot.score > self.dreaming.best.score:
            self.dreaming.best = shot
        self.dreaming.broken_off = self.broken_off() if keep == 1 else None
        return shot

    def broken_off(self) -> Going:
        """All that the dream could go on from at this step."""
        best, state = self.dreaming.best, self.searches[0].state()
        assert best is not None, "there is a snapshot"
        mark = Mark(best.latents, best.step, best.score, best.seed, best.undone)
        kept = {name: part.detach().clone() for name, part in state.items()}
        history = self.searches[0].history
        return Going(self.step, self.share, kept, mark, tuple(self.scores), (history.undone, history.running))

    def shoot(self, search: Search) -> Snapshot | None:
        """A search's snapshot; None where there is nothing but NaN to see."""
        image = self.optimizer.render(search)
        score = self.optimizer.score(search, image)
        if not math.isfinite(score):
            return None
        image = self.optimizer.finished(search, self.settings.image_size).cpu()
        assert search.settings.seed is not None
        seed, latents = search.settings.seed, search.shown()
        layers = search.layers.averaged(search.average.values())
        generator, plan = self.dreaming.models.generator, self.dreaming.plan
        told = described(layers, plan.parts, generator.class_names if generator.alpha else None) if plan else ()
        company = tuple(tuple(run) for run in search.company)
        undone, heard = search.history.undone, search.heard
        return Snapshot(image, score, self.step, seed, self.share, self.done, latents, told, company, undone, heard)

    def diverged(self) -> BigsleepError:
        return BigsleepError(f"the dream diverged by step {self.step}: give it a smaller --lr or --class-lr")

    def tell(self) -> None:
        if self.dreaming.on_step:
            seconds = time.monotonic() - self.began
            self.dreaming.on_step(Progress(self.step, self.share, seconds, self.score))


def settled(scores: list[tuple[float, float]]) -> bool:
    """Whether the best of ``scores``, each with its share of a dream, rose by no more than their noise for a fifth.

    The noise is the deviation of neighbours' differences, over the root of 2 as each has two of it.
    """
    now = scores[-1][0]
    before = [score for share, score in scores if share <= now - 0.2 + 1e-9]
    since = [score for share, score in scores if share > now - 0.2 + 1e-9]
    if len(before) < 3 or len(since) < 3:
        return False
    steps = [later - earlier for earlier, later in pairwise(before[-len(since) :] + since)]
    return max(since) <= max(before) + stdev(steps) / math.sqrt(2)


def together(dreams: Iterable[Dream], parallel: int = 1) -> Iterator[tuple[Dream, Snapshot | Exception]]:
    """Dream of many prompts, ``parallel`` of them in one batch; snapshots of any as they come.

    The next dream begins as soon as one has ended. An exception instead of a snapshot ends its dream, and no other.
    ``dreams`` is read as there is room.
    """
    waiting, courses = iter(dreams), list[Course]()
    while True:
        while sum(len(course.searches) for course in courses) < parallel:
            dreaming = next(waiting, None)
            if dreaming is None:
                break
            try:
                course = Course(dreaming)
                # A dream without steps is over before the first, and so is one that was broken off at its end.
                at_once = course.look() if course.reached() >= 1 else None
            except Exception as error:
                yield dreaming, explained(error, dreaming)
                continue
            if at_once is None:
                courses.append(course)
            else:
                yield dreaming, at_once
        if not courses:
            return
        for optimizer in dict.fromkeys(course.optimizer for course in courses):
            group = [course for course in courses if course.optimizer is optimizer]
            try:
                step_all(group, parallel)
            except Exception as error:
                for course in group:
                    courses.remove(course)
                    yield course.dreaming, explained(error, course.dreaming)
        for course in list(courses):
            try:
                snapshot = course.advance()
            except Exception as error:
                courses.remove(course)
                yield course.dreaming, explained(error, course.dreaming)
                continue
            if course.done:
                courses.remove(course)
            course.tell()  # of the step first: what comes of it may be the last that is heard of the dream
            if snapshot is not None:
                yield course.dreaming, snapshot


def step_all(courses: list[Course], parallel: int) -> None:
    """One step of all searches of ``courses``, ``parallel`` at a time; of dreams that are seen again, as it was then."""
    for course in courses:
        if course.replays():
            course.step_in_company()
    pairs = [(search, course.share) for course in courses if not course.replays() for search in course.searches]
    for begin in range(0, len(pairs), parallel):
        searches, shares = zip(*pairs[begin : begin + parallel], strict=True)
        courses[0].optimizer.step(searches, shares)
        alike = len({search.shape() for search in searches}) == 1
        for place, search in enumerate(searches):
            search.met(*(len(searches), place) if alike else (0, 0))


def explained(error: Exception, dreaming: Dream) -> Exception:
    if out_of_memory(error):
        return too_small(dreaming.models.device, dreaming.models.model)
    return error
