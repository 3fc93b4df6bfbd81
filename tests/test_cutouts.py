import random

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given
from hypothesis import strategies as st

from bigsleep.cutouts import cut, draw_cutouts

METHODS = ("nearest", "bilinear", "antialiased")


def drawn(count=40, least=0.5, most=0.95, augment=0.0, seed=0, resample="bilinear"):
    return draw_cutouts(count, least, most, augment, torch.Generator().manual_seed(seed), resample)


@given(st.integers(0, 10_000))
def test_plain_cutouts_lie_within_the_picture_and_the_asked_sizes(seed):
    theta = drawn(seed=seed).theta
    side = theta[:, 0, 0]
    assert (side >= 0.5).all() and (side <= 0.95).all()
    assert (theta[:, :, 2].abs() + side[:, None] <= 1 + 1e-6).all()


def test_sizes_are_big_sleeps_clipped_normal():
    side = drawn(20_000).theta[:, 0, 0]
    assert abs((side == 0.5).float().mean() - 0.159) < 0.01  # P(N(0.8, 0.3) < 0.5)
    assert abs((side == 0.95).float().mean() - 0.309) < 0.01


def test_a_cutout_is_the_crop_that_slicing_and_resizing_gives():
    image = torch.rand(1, 3, 64, 64)
    cutouts = drawn(1)
    # the middle half: pixels 16 to 48, at their own size
    cutouts.theta.copy_(torch.tensor([[[0.5, 0, 0], [0, 0.5, 0]]]))
    torch.testing.assert_close(cut(image, cutouts, 32), image[:, :, 16:48, 16:48])
    enlarged = F.interpolate(image[:, :, 16:48, 16:48], size=(64, 64), mode="bilinear")
    torch.testing.assert_close(cut(image, cutouts, 64)[..., 2:-2, 2:-2], enlarged[..., 2:-2, 2:-2])


def crop_of(pixels, resample):
    """A cutout of the ``pixels`` 13 to ``13 + pixels`` of a picture of 512."""
    one = drawn(1, resample=resample)
    side, middle = pixels / 512, (13 + pixels / 2) / 256 - 1
    one.theta.copy_(torch.tensor([[[side, 0, middle], [0, side, middle]]]))
    return one


@given(st.integers(200, 499))
def test_nearest_is_big_sleeps_way(pixels):
    image = torch.rand(1, 3, 512, 512)
    chosen = 13 + torch.arange(224) * pixels // 224  # as interpolate's nearest, without its rounding
    assert torch.equal(cut(image, crop_of(pixels, "nearest"), 224), image[:, :, chosen][..., chosen])


@pytest.mark.parametrize("pixels", [290, 358, 410, 486])
def test_antialiased_is_nearly_clips_own_reduction(pixels):
    image = torch.randn(1, 3, 512, 512, generator=torch.Generator().manual_seed(0))
    own = F.interpolate(image[..., 13 : 13 + pixels, 13 : 13 + pixels], size=(224, 224), mode="bicubic", antialias=True)
    far = {name: (cut(image, crop_of(pixels, name), 224) - own).var() / own.var() for name in METHODS}
    assert far["antialiased"] < 0.15 and far["antialiased"] <= far["bilinear"] < far["nearest"]


@pytest.mark.parametrize("resample", METHODS)
def test_each_cutout_has_its_own_gradient_in_the_image(resample):
    image = torch.rand(1, 3, 64, 64, requires_grad=True)
    six = drawn(6, augment=0.3, resample=resample)
    whole = cut(image, six, 16)
    parts = torch.cat([cut(image, six[i : i + 2], 16) for i in (0, 2, 4)])
    torch.testing.assert_close(whole, parts)
    weight = torch.randn_like(whole)
    one = torch.autograd.grad((whole * weight).sum(), image)[0]
    sum_of_parts = torch.autograd.grad((parts * weight).sum(), image)[0]
    torch.testing.assert_close(one, sum_of_parts)


@pytest.mark.parametrize(("resample", "kept"), [("nearest", 1.0), ("bilinear", 0.45), ("antialiased", 0.13)])
def test_how_much_of_white_noise_comes_through(resample, kept):
    image = torch.randn(1, 3, 512, 512, generator=torch.Generator().manual_seed(0))
    assert cut(image, crop_of(486, resample), 224).var().item() == pytest.approx(kept, abs=0.03)


@pytest.mark.parametrize("resample", METHODS)
def test_its_gradient_is_the_slope(resample):
    image, direction = torch.rand(2, 1, 3, 64, 64, generator=torch.Generator().manual_seed(1)).unbind(0)
    cutouts = drawn(6, augment=0.3, resample=resample)
    weight = torch.randn(6, 3, 24, 24, generator=torch.Generator().manual_seed(2))
    image.requires_grad_()
    (gradient,) = torch.autograd.grad((cut(image, cutouts, 24) * weight).sum(), image)
    with torch.no_grad():  # cutting is linear
        rise = ((cut(image + direction, cutouts, 24) - cut(image, cutouts, 24)) * weight).sum()
    torch.testing.assert_close((gradient * direction).sum(), rise, atol=1e-3, rtol=1e-4)


def test_the_same_seed_cuts_the_same():
    image = torch.rand(1, 3, 32, 32)
    pictures = [cut(image, drawn(augment=1.0, seed=3), 16, torch.Generator().manual_seed(1)) for _ in range(2)]
    assert torch.equal(*pictures)


def test_augmented_cutouts_are_tilted_mirrored_and_tinted():
    plain, augmented = drawn(200), drawn(200, augment=1.0)
    assert (plain.theta[:, 0, 1] == 0).all() and (plain.gain == 1).all()
    assert (augmented.theta[:, 0, 1] != 0).all() and (augmented.theta[:, 0, 0] < 0).any()
    assert augmented.gain.std() > 0.05


def big_sleeps_offset(most, chance):
    """Where its ``rand_cutout`` with ``center_bias`` puts a crop that has ``most`` pixels of room."""
    offset = int(chance.gauss(most / 2, most / 4))
    return offset if 0 <= offset <= most else chance.randint(0, most)


def test_with_centre_bias_crops_lie_where_big_sleeps_do():
    ours = draw_cutouts(20_000, 0.6, 0.6, 0.0, torch.Generator().manual_seed(0), center_bias=True).theta[:, 0, 2] / 0.4
    chance = random.Random(0)
    theirs = torch.tensor([big_sleeps_offset(10_000, chance) / 5000 - 1 for _ in range(20_000)])
    places = torch.linspace(0.05, 0.95, 7)
    torch.testing.assert_close(ours.quantile(places), theirs.quantile(places), atol=0.03, rtol=0)
    assert ours.std() < 0.53 < drawn(20_000, 0.6, 0.6).theta[:, 0, 2].std() / 0.4
