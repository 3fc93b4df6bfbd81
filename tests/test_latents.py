import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from bigsleep.latents import (
    Adam,
    Latents,
    MovingAverage,
    class_penalty,
    class_shares,
    differentiable_topk,
    draw_noise,
    noise_penalty,
)  # fmt: skip


def big_sleep_noise_loss(noise):
    """The regulariser of Big Sleep's published code, row by row."""
    loss = (1 - noise.std(dim=1)).abs().mean() + noise.mean(dim=1).abs().mean()
    loss = loss + 4 * max(noise.square().mean().item(), 1.0)
    for row in noise:
        centred = row - row.mean()
        z = centred / centred.square().mean().sqrt()
        loss = loss + ((z**4).mean() - 3).abs() / len(noise) + (z**3).mean().abs() / len(noise)
    return loss


@settings(deadline=None)
@given(st.integers(0, 10_000), st.floats(0.2, 3))
def test_the_noise_penalty_is_big_sleeps(seed, spread):
    noise = torch.randn(15, 128, generator=torch.Generator().manual_seed(seed)) * spread
    torch.testing.assert_close(noise_penalty(noise), big_sleep_noise_loss(noise), rtol=1e-5, atol=1e-5)


def test_the_class_penalty_of_a_sigmoid_is_big_sleeps():
    shares = torch.rand(15, 1000)
    smallest = shares.topk(999, largest=False, dim=1).values
    torch.testing.assert_close(class_penalty(shares, "sigmoid"), ((50 * smallest) ** 2).mean())


def test_the_class_penalty_of_a_softmax_is_least_for_one_class():
    one, many = torch.eye(10)[:1], torch.full((1, 10), 0.1)
    assert class_penalty(one, "softmax") < 1e-6 < class_penalty(many, "softmax")


@settings(deadline=None)
@given(st.integers(1, 5), st.integers(0, 1000))
def test_top_k_keeps_k_classes_and_a_gradient(k, seed):
    logits = torch.randn(3, 20, generator=torch.Generator().manual_seed(seed), requires_grad=True)
    shares = differentiable_topk(logits, k)
    assert (shares > 0).sum(1).tolist() == [k] * 3
    assert (shares.detach().argmax(1) == logits.argmax(1)).all() or k > 1
    shares.sum().backward()
    assert logits.grad.isfinite().all() and logits.grad.abs().sum() > 0


@pytest.mark.parametrize("temperature", [0.5, 2.0, 10.0])
def test_top_k_has_big_sleeps_temperature(temperature):
    logits = torch.randn(1, 20, generator=torch.Generator().manual_seed(0))
    first, second = logits[0].topk(2).indices
    shares = Latents(torch.zeros(1, 3), logits, "sigmoid", 2, temperature).forward()[1][0]
    others = torch.arange(20) != first
    torch.testing.assert_close(shares[first], (logits[0] / temperature).softmax(0)[first])
    torch.testing.assert_close(shares[second], (logits[0, others] / temperature).softmax(0).max())


@pytest.mark.parametrize("classes", ["sigmoid", "softmax"])
def test_shares_lie_within_0_and_1(classes):
    shares = class_shares(5 * torch.randn(4, 30), classes)
    assert shares.min() >= 0 and shares.max() <= 1
    if classes == "softmax":
        torch.testing.assert_close(shares.sum(1), torch.ones(4))


def test_tied_rows_stay_equal_and_part_when_released():
    latents = Latents(torch.randn(1, 8).expand(4, 8), torch.randn(1, 5).expand(4, 5), "softmax")
    adam = torch.optim.Adam(latents.parameters(), 0.1)
    weights = torch.randn(4, 8)

    def step(tied):
        adam.zero_grad()
        noise, shares = latents()
        ((noise * weights).sum() + (shares * weights[:, :5]).sum()).backward()
        if tied:
            latents.tie_gradients()
        adam.step()

    for _ in range(3):
        step(tied=True)
    assert (latents.noise == latents.noise[0]).all() and (latents.logits == latents.logits[0]).all()
    step(tied=False)
    assert not (latents.noise == latents.noise[0]).all()


def test_the_moving_average_starts_without_a_bias_and_follows():
    module = torch.nn.Linear(1, 1, bias=False)
    average = MovingAverage(module, 0.9)
    torch.testing.assert_close(average.values()[0], module.weight.detach())
    for value in (1.0, 2.0):
        module.weight.data.fill_(value)
        average.update(1000)
    # weights 0.9 and 1, over their sum
    torch.testing.assert_close(average.values()[0].item(), (0.9 * 1 + 2) / 1.9)


@pytest.mark.parametrize("decay", [0.5, 0.9, 0.99, 0.9999])
def test_what_is_shown_is_never_older_than_a_few_per_cent_of_the_run(decay):
    module = torch.nn.Linear(1, 1, bias=False).double()
    average = MovingAverage(module, decay)
    for step in range(1, 401):
        module.weight.data.fill_(step)
        average.update(step)
        assert step - average.values()[0].item() < 0.05 * step
    assert 400 - average.values()[0].item() == pytest.approx(min(decay / (1 - decay), 19), rel=0.02)


def test_truncated_noise_is_a_cut_off_normal_times_the_truncation():
    random = torch.Generator().manual_seed(0)
    noise = draw_noise(4, 50_000, truncation=0.5, generator=random)
    assert 0.95 < noise.abs().max() <= 1.0, "two deviations, halved"
    assert noise.std().item() == pytest.approx(0.5 * 0.8796, abs=0.002)  # of N(0, 1) between -2 and 2
    again = torch.Generator().manual_seed(3)
    whole = draw_noise(3, 7, generator=again)
    assert torch.equal(whole, torch.randn(3, 7, generator=again.manual_seed(3))), "at 1 it stays N(0, 1)"


def test_noise_is_pulled_to_what_its_truncation_draws():
    random = torch.Generator().manual_seed(0)
    for truncation in (0.3, 1.0):
        noise = torch.randn(15, 128, generator=random) * truncation
        assert noise_penalty(noise, truncation) < noise_penalty(noise * 1.5, truncation)
        assert noise_penalty(noise, truncation) < noise_penalty(noise / 1.5, truncation)


def test_steps_stay_within_the_truncation():
    latents = Latents(torch.full((2, 3), 5.0), torch.zeros(2, 4), "softmax")
    latents.clamp(1.0)
    assert (latents.noise == 5).all()
    latents.clamp(0.5)
    assert (latents.noise == 1).all()


def test_rows_are_shortened_to_what_they_may_be_and_no_further():
    latents = Latents(torch.tensor([[3.0, 4.0], [0.3, 0.4]]), torch.zeros(2, 4), "softmax")
    latents.clamp(1.0, torch.ones(2, 1))
    torch.testing.assert_close(latents.lengths(), torch.tensor([[1.0], [0.125**0.5]]))
    torch.testing.assert_close(latents.noise[0] / latents.noise[0, 0], torch.tensor([1.0, 4 / 3]))


def test_adam_goes_as_torchs_own():
    torch.manual_seed(0)
    ours, theirs = (torch.nn.ParameterList([torch.linspace(-1, 1, 12).view(3, 4), torch.ones(5)]) for _ in range(2))
    adam, reference = (
        Adam((ours[0], 0.1), (ours[1], 0.02)),
        torch.optim.Adam([{"params": [theirs[0]]}, {"params": [theirs[1]]}]),
    )
    for step in range(20):
        scale = 1 - step / 40
        for parameters in (ours, theirs):
            (parameters[0].pow(4).sum() * (step - 5) + parameters[1].sin().sum()).backward()
        for group, rate in zip(reference.param_groups, (0.1, 0.02), strict=True):
            group["lr"] = rate * scale
        adam.step(scale)
        reference.step()
        reference.zero_grad()
    for one, other in zip(ours, theirs, strict=True):
        torch.testing.assert_close(one, other, atol=1e-7, rtol=1e-6)
        assert one.grad is None
