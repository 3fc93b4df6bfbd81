"""What is optimised: a noise vector and a class vector for each stage of the generator, and their moving average."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from types import MappingProxyType

import torch
from torch import Tensor, nn

MOST_NOISE = 2.0  # where BigGAN's authors and FuseDream cut the noise off, times the truncation
TEMPERATURE = 2.0  # Big Sleep's, of the classes that are kept where they are counted
HEAD_START = 0.9  # share of the class that a start by words, or in one class, begins with
LONGEST = 1.2  # of rows of noise that no penalty holds; those that are drawn are shorter
MOST_AGE = 0.05  # of the picture shown, as a share of the steps made


def differentiable_topk(logits: Tensor, k: int, temperature: float = TEMPERATURE) -> Tensor:
    """Big Sleep's top-k ``[..., C]``: each chosen class keeps its softmax share among those not chosen before it."""
    chosen = torch.zeros_like(logits)
    for _ in range(k):
        value, index = (logits / temperature).softmax(-1).max(-1, keepdim=True)
        chosen = chosen.scatter(-1, index, value)
        logits = logits.scatter(-1, index, float("-inf"))
    return chosen


def favour(logits: Tensor, nearest: Sequence[int], classes: str) -> None:
    """Give each of several rows of ``logits`` ``[A, R, C]`` one of the ``nearest`` classes in turn, in place."""
    if classes == "linear":
        logits.zero_()
    others = 1 if classes == "sigmoid" else logits.shape[2] - 1
    value = 1.0 if classes == "linear" else math.log(HEAD_START / (1 - HEAD_START) * others)
    for i, row in enumerate(logits):
        row[:, nearest[i % len(nearest)]] = value


class Latents(nn.Module):
    """One dream's parameters: ``noise`` ``[S, Z]`` and class ``logits`` ``[S, C]``, a row per generator stage.

    While ``tied``, all rows are equal and stay so, because :meth:`tie_gradients` gives them one gradient; to release
    the stages is to stop calling it, and Adam's moments go on.
    """

    def __init__(
        self,
        noise: Tensor,
        logits: Tensor,
        classes: str,
        max_classes: int | None = None,
        temperature: float = TEMPERATURE,
    ) -> None:
        super().__init__()
        self.noise = nn.Parameter(noise.clone())
        self.logits = nn.Parameter(logits.clone())
        self.classes, self.max_classes, self.temperature = classes, max_classes, temperature

    def forward(self) -> tuple[Tensor, Tensor]:
        """``(noise [S, Z], class shares [S, C])``."""
        return self.noise, class_shares(self.logits, self.classes, self.max_classes, self.temperature)

    def plain(self) -> Latents:
        """Latents of the same picture that are nothing but rows."""
        return self

    def lengths(self) -> Tensor:
        """Of each row of noise the root of its mean square ``[S, 1]``, about 1 of one that is drawn."""
        return self.noise.detach().square().mean(1, keepdim=True).sqrt()

    @torch.no_grad()
    def clamp(self, truncation: float, longest: Tensor | None = None) -> None:
        """Keep the noise within what :func:`draw_noise` draws, where that is bounded, and rows at most ``longest`` ``[S, 1]``."""
        if truncation < 1:
            self.noise.clamp_(-MOST_NOISE * truncation, MOST_NOISE * truncation)
        if longest is not None:
            self.noise.div_((self.lengths() / longest).clamp_min(1))

    def tie_gradients(self) -> None:
        """Give all rows the mean of their gradients."""
        for parameter in (self.noise, self.logits):
            if parameter.grad is not None:
                parameter.grad = parameter.grad.mean(0, keepdim=True).expand_as(parameter).contiguous()


class Basis(Latents):
    """FuseDream's latents: ``K`` sets, mixed in shares that each dimension has of its own; sets and shares are optimised.

    ``noise`` ``[2K, Z]`` holds the sets' noise and below it the logits of its shares, ``logits`` ``[2K, E]`` the sets' class
    embeddings and theirs. Each stage has the mixture, as the shortest class shares that ``embeddings`` ``[E, C]`` embed so.
    """

    embeddings: Tensor
    shortest: Tensor

    def __init__(self, noise: Tensor, logits: Tensor, embeddings: Tensor, stages: int) -> None:
        super().__init__(noise, logits, "linear")
        self.register_buffer("embeddings", embeddings.detach(), persistent=False)
        inverse = torch.linalg.pinv(embeddings.detach().cpu().double()).T  # Apple's GPUs have no such numbers
        self.register_buffer("shortest", inverse.float().to(embeddings.device), persistent=False)
        self.stages = stages

    @classmethod
    def of(cls, noise: Tensor, shares: Tensor, embeddings: Tensor, stages: int, random: torch.Generator) -> Basis:
        """A basis of sets with noise ``[K, Z]`` and class ``shares`` ``[K, C]``, mixed by chance."""
        embedded = shares @ embeddings.detach().to(shares.device).T
        noise, embedded = (torch.cat([part, torch.randn(part.shape, generator=random)]) for part in (noise, embedded))
        return cls(noise, embedded, embeddings, stages)

    @classmethod
    def around(cls, rows: Latents, count: int, embeddings: Tensor) -> Basis:
        """A basis of ``count`` sets that are all the same: the first of ``rows``."""
        noise, shares = (part.detach()[:1] for part in rows.forward())
        embedded = shares @ embeddings.detach().to(shares.device).T
        noise, embedded = (
            torch.cat([part, torch.zeros_like(part)]) for part in (noise.expand(count, -1), embedded.expand(count, -1))
        )
        return cls(noise, embedded, embeddings, len(rows.noise))

    def forward(self) -> tuple[Tensor, Tensor]:
        noise, embedded = mixed(self.noise), mixed(self.logits)
        return noise.expand(self.stages, -1), (embedded @ self.shortest).expand(self.stages, -1)

    def plain(self) -> Latents:
        noise, shares = self.forward()
        return Latents(noise.detach(), shares.detach(), "linear")

    @torch.no_grad()
    def clamp(self, truncation: float, longest: Tensor | None = None) -> None:
        """Keep the sets' noise within two deviations, as FuseDream does at any truncation."""
        self.noise[: len(self.noise) // 2].clamp_(-MOST_NOISE * truncation, MOST_NOISE * truncation)

    def tie_gradients(self) -> None:
        """Nothing: the stages have but one mixture."""


def mixed(basis: Tensor) -> Tensor:
    """The mixture ``[1, D]`` of what a ``basis`` ``[2K, D]`` holds above, in the shares whose logits it holds below."""
    sets, shares = basis.chunk(2)
    return (shares.softmax(0) * sets).sum(0, keepdim=True)


def class_shares(
    logits: Tensor, classes: str, max_classes: int | None = None, temperature: float = TEMPERATURE
) -> Tensor:
    """Class logits ``[..., C]`` to shares: a sigmoid each, a softmax over all, themselves, or the ``max_classes`` best.

    But for ``linear`` ones, which are what they are, shares are in 0..1.
    """
    if max_classes is not None:
        return differentiable_topk(logits, max_classes, temperature)
    if classes == "linear":
        return logits
    return logits.sigmoid() if classes == "sigmoid" else logits.softmax(-1)


def draw_noise(*shape: int, truncation: float = 1.0, generator: torch.Generator) -> Tensor:
    """Noise from N(0, 1); below a ``truncation`` of 1 that many times an N(0, 1) cut off at 2, as BigGAN's authors do."""
    if truncation == 1:
        return torch.randn(*shape, generator=generator)
    return truncation * nn.init.trunc_normal_(torch.empty(*shape), a=-MOST_NOISE, b=MOST_NOISE, generator=generator)


def noise_penalty(noise: Tensor, truncation: float = 1.0) -> Tensor:
    """Big Sleep's pull of each row of ``noise`` ``[S, Z]`` to N(0, 1): mean, spread, norm, skewness, kurtosis.

    To N(0, 1) times ``truncation``.
    """
    noise = noise / truncation
    spread = (1 - noise.std(1)).abs().mean()
    mean = noise.mean(1).abs().mean()
    norm = 4 * noise.square().mean().clamp_min(1)
    z = (noise - noise.mean(1, keepdim=True)) / noise.std(1, correction=0, keepdim=True)
    skewness = z.pow(3).mean(1).abs().mean()
    kurtosis = (z.pow(4).mean(1) - 3).abs().mean()
    return spread + mean + norm + skewness + kurtosis


def class_penalty(shares: Tensor, classes: str) -> Tensor:
    """What keeps class shares ``[S, C]`` few: Big Sleep's square of all but the greatest, or a softmax's entropy.

    Nothing does where they are ``linear``.
    """
    if classes == "linear":
        return shares.new_zeros(())
    if classes == "sigmoid":
        rest = shares.square().sum(1) - shares.max(1).values.square()
        return 2500 * rest.mean() / (shares.shape[1] - 1)
    return -(shares * shares.clamp_min(1e-12).log()).sum(1).mean()


class Adam:
    """Adam (Kingma and Ba 2015), with a step size for each parameter, to the bit as torch's own goes.

    ``torch.optim`` imports torch's compiler when the first optimizer is made, which takes a second of every start.
    """

    def __init__(self, *rated: tuple[nn.Parameter, float]) -> None:
        self.parts = [(part, rate, torch.zeros_like(part), torch.zeros_like(part)) for part, rate in rated]
        self.steps = 0

    @torch.no_grad()
    def step(self, scale: float, scales: Mapping[nn.Parameter, float] = MappingProxyType({})) -> None:
        """Follow the gradients, at ``scale`` times the step sizes or what ``scales`` has instead, and forget them."""
        self.steps += 1
        first, second = 1 - 0.9**self.steps, math.sqrt(1 - 0.999**self.steps)
        for part, rate, mean, square in self.parts:
            assert part.grad is not None, "a step follows a backward pass"
            mean.lerp_(part.grad, 1 - 0.9)
            square.mul_(0.999).addcmul_(part.grad, part.grad, value=1 - 0.999)
            part.addcdiv_(mean, (square.sqrt() / second).add_(1e-8), value=-rate * scales.get(part, scale) / first)
        self.forget_gradients()

    def forget_gradients(self) -> None:
        for part, *_ in self.parts:
            part.grad = None


class MovingAverage:
    """Exponential moving average of a module's parameters, free of the start's bias (Adam's correction).

    Its mean age is ``decay / (1 - decay)`` steps, but at most ``MOST_AGE`` of those made.
    """

    def __init__(self, module: nn.Module, decay: float) -> None:
        self.module, self.decay, self.weight = module, decay, 0.0
        self.sums = [torch.zeros_like(parameter) for parameter in module.parameters()]

    @torch.no_grad()
    def update(self, steps: int) -> None:
        """Take in the parameters as they are after ``steps``."""
        decay = min(self.decay, 1 - 1 / (1 + MOST_AGE * steps))
        self.weight = decay * self.weight + 1 - decay
        for total, parameter in zip(self.sums, self.module.parameters(), strict=True):
            total.lerp_(parameter, 1 - decay)

    def values(self) -> list[Tensor]:
        """The averages, in the order of ``module.parameters()``; the parameters themselves before any update."""
        if self.weight == 0:
            return [parameter.detach().clone() for parameter in self.module.parameters()]
        return [total / self.weight for total in self.sums]
