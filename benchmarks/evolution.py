"""Does a phase without gradients bring anything?

    pip install cma
    python -m benchmarks.evolution FOLDER [--each 6]

CMA-ES (Hansen 2016) over the noise and the shares of the five best of some auditions in single classes, as FuseDream mixes
them, beside what the same time buys otherwise: more auditions, or more steps. ``with a step each`` gives every candidate a
step of Adam before it is judged, and CMA-ES is told where it went, as arXiv 2207.02907 does on BigGAN. Single things in one
picture from a random start, judged as ``benchmarks.recipes`` does. Writes ``evolution.json`` and a sheet of pictures into
FOLDER.
"""

from __future__ import annotations

import json
import time
from collections.abc import Sequence
from dataclasses import asdict, replace
from pathlib import Path

import click
import torch
from torch import Tensor

from benchmarks.recipes import ALONE, Judges, asked_of, bootstrap, row
from benchmarks.scenes import reduced, save_sheet
from bigsleep import Dream, Models, Settings
from bigsleep.layers import Layers, latents_of
from bigsleep.optimizer import AUDITION_CUTOUTS
from bigsleep.search import Search
from bigsleep.start import BASIS, TOGETHER

CANDIDATES = 12
SIGMA = 0.5  # that CMA-ES begins with, of noise whose deviation is 1
HAIR = 1e-4  # the share of all classes, so that a logarithm can be taken of those that are not mixed in


class Trial:
    """One prompt's search, which can be begun from any noise and class logits."""

    def __init__(self, prompt: str, settings: Settings, models: Models) -> None:
        dream = Dream(prompt, settings, models=models)
        self.optimizer, self.goal, self.settings = models.optimizer, dream.goal(), dream.settings
        self.start, self.generator = models.optimizer.start, models.generator
        self.random = torch.Generator().manual_seed(1)
        self.seen = Search(self.goal, self.settings, self.random).evaluation[:AUDITION_CUTOUTS]

    def scores(self, noise: Tensor, logits: Tensor) -> Tensor:
        """Scores ``[N]`` of starts ``[N, S, Z]`` and ``[N, S, C]``."""
        pairs = zip(noise.split(TOGETHER), logits.split(TOGETHER), strict=True)
        return torch.cat([self.start.audition(self.goal, self.settings, self.seen, *pair) for pair in pairs])

    def auditions(self, count: int) -> tuple[Tensor, Tensor]:
        """The best five of ``count`` random starts in single classes."""
        noise, logits = self.start.random_latents(count, replace(self.settings, init="classes"), self.random)
        best = self.scores(noise, logits).topk(BASIS).indices
        return noise[best], logits[best]

    def decoded(self, points: Sequence[Tensor], basis: Tensor) -> tuple[Tensor, Tensor]:
        """Noise and logits of points ``[Z + 5]``: noise, and the logits of the shares of the ``basis`` ``[5, C]``."""
        both = torch.stack([torch.as_tensor(point, dtype=torch.float32) for point in points])
        noise, weights = both[:, :-BASIS], both[:, -BASIS:]
        shares = weights.softmax(1) @ basis.softmax(1)
        logits = (shares + HAIR / shares.shape[1]).log()
        stages = self.generator.stages
        return noise[:, None].expand(-1, stages, -1), logits[:, None].expand(-1, stages, -1)

    def evolved(self, noise: Tensor, logits: Tensor, generations: int, steps: int) -> tuple[Tensor, Tensor]:
        """The best that CMA-ES finds from the five; each candidate first makes ``steps`` of Adam."""
        import cma

        basis = logits[:, 0]
        middle = torch.cat([noise[0, 0], torch.tensor([2.0, *[0.0] * (BASIS - 1)])])
        options = {"popsize": CANDIDATES, "seed": 1, "verbose": -9}
        evolution = cma.CMAEvolutionStrategy(middle.tolist(), SIGMA, options)
        best, found = -float("inf"), (noise[:1], logits[:1])
        for _ in range(generations):
            points = evolution.ask()
            candidates = self.decoded(points, basis)
            if steps:
                candidates = self.stepped(*candidates, steps)
                # Their noise is what CMA-ES can be told; classes left the basis.
                points = [
                    [*map(float, rows[0]), *point[-BASIS:]] for rows, point in zip(candidates[0], points, strict=True)
                ]
            scores = self.scores(*candidates)
            evolution.tell(points, (-scores).tolist())
            top = int(scores.argmax())
            if scores[top] > best:
                best, found = float(scores[top]), (candidates[0][top : top + 1], candidates[1][top : top + 1])
        return found

    def begun(self, noise: Tensor, logits: Tensor) -> Search:
        search = Search(self.goal, self.settings, self.random)
        search.begin(Layers([self.start.whole(latents_of(noise, logits, self.settings))]))
        return search

    def stepped(self, noise: Tensor, logits: Tensor, steps: int) -> tuple[Tensor, Tensor]:
        """Where ``steps`` of Adam lead from each."""
        searches = [self.begun(*both) for both in zip(noise, logits, strict=True)]
        for _ in range(steps):
            self.optimizer.step(searches, [0.0] * len(searches))
        latents = [next(iter(search.layers)).latents for search in searches]
        return torch.stack([one.noise.detach() for one in latents]), torch.stack(
            [one.logits.detach() for one in latents]
        )

    def dreamt(self, noise: Tensor, logits: Tensor, steps: int) -> tuple[Tensor, float]:
        """The picture after ``steps`` from the first of the starts, and its score."""
        search = self.begun(noise[0], logits[0])
        for step in range(steps):
            self.optimizer.step([search], [step / steps])
        image = self.optimizer.render(search)
        return image, self.optimizer.score(search, image)


# Auditions, generations of CMA-ES, Adam's steps for each candidate, and steps at the end.
WAYS = {
    "60 auditions": (60, 0, 0, 0),
    "300 auditions": (300, 0, 0, 0),
    "60 auditions, CMA-ES": (60, 20, 0, 0),
    "60 auditions, 40 steps": (60, 0, 0, 40),
    "60 auditions, 100 steps": (60, 0, 0, 100),
    "300 auditions, 40 steps": (300, 0, 0, 40),
    "60 auditions, CMA-ES, 40 steps": (60, 20, 0, 40),
    "60 auditions, CMA-ES with a step each, 40 steps": (60, 5, 1, 40),
}
BASE = "300 auditions, 40 steps"


@click.command()
@click.argument("folder", type=click.Path(path_type=Path, file_okay=False))
@click.option("--each", default=6, show_default=True, help="A fourth of the single things.")
def main(folder: Path, each: int) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    settings = Settings.of({"model": "emoji", "seed": 1, **ALONE})
    models = Models.load(settings)
    judges = Judges(asked_of("random", each, models), models)
    seen, scores = {}, {}
    for name, (auditions, generations, own, steps) in WAYS.items():
        pictures, told, began = [], [], time.process_time()
        for prompt in judges.prompts:
            trial = Trial(prompt, settings, models)
            start = trial.auditions(auditions)
            if generations:
                start = trial.evolved(*start, generations, own)
            image, score = trial.dreamt(*start, steps)
            pictures.append(reduced(image))
            told.append(score)
        seen[name] = judges(torch.stack(pictures), (time.process_time() - began) / len(judges.prompts))
        scores[name] = bootstrap(torch.tensor(told))
        click.echo(json.dumps({"name": name, "score": scores[name], "likeness": bootstrap(seen[name].likeness)}))
    rows = [row(name, one, seen[BASE]) | {"score": scores[name]} for name, one in seen.items()]
    figures = {"prompts": len(judges.prompts), "base": BASE, "settings": asdict(settings), "rows": rows}
    (folder / "evolution.json").write_text(json.dumps(figures, indent=1) + "\n")
    shown = slice(None, None, max(1, len(judges.prompts) // 8))
    save_sheet(
        folder / "evolution.png", judges.prompts[shown], [list(one.pictures[shown]) for one in seen.values()], None
    )
    click.echo(json.dumps({"evolution": rows}))


if __name__ == "__main__":
    main()
