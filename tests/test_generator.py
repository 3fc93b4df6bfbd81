"""The folded BigGAN against pytorch_pretrained_biggan's own, on random weights in the published layout."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from benchmarks.random_models import biggan_config, random_biggan
from bigsleep.errors import BigsleepError
from bigsleep.models.generator import Generator, statistics_at
from tests.conftest import OnGPU

CONFIG = biggan_config(128, channel_width=16, num_classes=20)


@pytest.fixture(scope="module")
def library():
    return random_biggan(CONFIG)


def equal_rows(config, stages, seed=0):
    """Noise and class shares ``[1, S, ...]``, the same for each stage, and the library's single ones."""
    random = torch.Generator().manual_seed(seed)
    noise = torch.randn(1, config.z_dim, generator=random)
    classes = torch.rand(1, config.num_classes, generator=random) / config.num_classes
    return noise[:, None].expand(-1, stages, -1), classes[:, None].expand(-1, stages, -1), noise, classes


@pytest.mark.parametrize("truncation", [0.02, 0.3, 0.5, 1.0])
def test_with_equal_rows_its_pictures_are_the_librarys(library, truncation):
    generator = Generator(CONFIG, library.state_dict(), truncation)
    rows, class_rows, noise, classes = equal_rows(CONFIG, generator.stages)
    with torch.no_grad():
        torch.testing.assert_close(
            generator(rows, class_rows), library(noise, classes, truncation), atol=1e-5, rtol=1e-5
        )


def test_alpha_is_the_last_convolutions_fourth_channel(library):
    state = library.state_dict()
    plain, generator = Generator(CONFIG, state), Generator(CONFIG, state, alpha=True)
    # The fourth channel's weights put first: then the library's red is alpha.
    state["generator.conv_to_rgb.weight_orig"] = state["generator.conv_to_rgb.weight_orig"].roll(-3, 0)
    state["generator.conv_to_rgb.weight_u"] = state["generator.conv_to_rgb.weight_u"].roll(-3)
    state["generator.conv_to_rgb.bias"] = state["generator.conv_to_rgb.bias"].roll(-3)
    rows, class_rows, _, _ = equal_rows(CONFIG, generator.stages)
    with torch.no_grad():
        picture = generator(rows, class_rows)
        torch.testing.assert_close(picture[:, :3], plain(rows, class_rows))
        torch.testing.assert_close(picture[:, 3], Generator(CONFIG, state)(rows, class_rows)[:, 0])
    assert generator.alpha and picture.shape == (1, 4, 128, 128) and picture[:, 3].std() > 0.01


def test_its_gradient_is_the_librarys(library):
    generator = Generator(CONFIG, library.state_dict())
    _, _, noise, classes = equal_rows(CONFIG, generator.stages)
    noise.requires_grad_()
    weight = torch.randn(1, 3, 128, 128)
    ours = generator(noise[:, None].expand(-1, generator.stages, -1), classes[:, None].expand(-1, generator.stages, -1))
    (gradient,) = torch.autograd.grad((ours * weight).sum(), noise)
    (expected,) = torch.autograd.grad((library(noise, classes, 1.0) * weight).sum(), noise)
    assert torch.cosine_similarity(gradient, expected).item() > 0.9999


def test_a_gpus_way_of_its_sums_gives_the_same_gradient(library):
    generator = Generator(CONFIG, library.state_dict())
    classes, weight = torch.rand(2, generator.stages, 20) / 20, torch.randn(2, 3, 128, 128)
    noise = torch.randn(2, generator.stages, 128)
    expected, ours = (
        torch.autograd.grad((generator(rows, classes) * weight).sum(), rows)[0].as_subclass(torch.Tensor)
        for rows in (noise.clone().requires_grad_(), noise.as_subclass(OnGPU).requires_grad_())
    )
    assert torch.cosine_similarity(ours.flatten(), expected.flatten(), dim=0) > 0.9999


def test_each_stage_listens_to_its_own_row(library):
    generator = Generator(CONFIG, library.state_dict())
    rows, classes, _, _ = equal_rows(CONFIG, generator.stages)
    with torch.no_grad():
        before = generator(rows, classes)
        for stage in range(generator.stages):
            changed = rows.clone()
            changed[:, stage] += 1
            assert (generator(changed, classes) - before).abs().max() > 1e-4, stage


def test_a_batch_is_its_pictures_and_their_gradients_side_by_side(library):
    generator = Generator(CONFIG, library.state_dict())
    noise = torch.randn(3, generator.stages, 128, requires_grad=True)
    classes = torch.rand(3, generator.stages, 20) / 20
    weight = torch.randn(3, 3, 128, 128)
    together = generator(noise, classes)
    (gradient,) = torch.autograd.grad((together * weight).sum(), noise)
    for i in range(3):
        alone = generator(noise[i : i + 1], classes[i : i + 1])
        torch.testing.assert_close(together[i], alone[0], atol=1e-5, rtol=1e-5)
        (expected,) = torch.autograd.grad((alone * weight[i]).sum(), noise)
        assert torch.cosine_similarity(gradient[i].flatten(), expected[i].flatten(), dim=0) > 0.9999


def test_bf16_points_the_same_way(library):
    generator = Generator(CONFIG, library.state_dict())
    noise = torch.randn(1, generator.stages, 128, requires_grad=True)
    classes = torch.rand(1, generator.stages, 20) / 20
    # CLIP asks for coarse changes, not for white noise.
    weight = torch.nn.functional.interpolate(torch.randn(1, 3, 8, 8), size=(128, 128), mode="bicubic")
    full, low = (
        torch.autograd.grad((g(noise, classes) * weight).sum(), noise)[0].flatten()
        for g in (generator, generator.lowered(torch.bfloat16))
    )
    assert torch.cosine_similarity(full, low, dim=0).item() > 0.99


@settings(max_examples=50)
@given(st.floats(0.001, 1.0))
def test_statistics_between_two_truncations_lie_between_theirs(truncation):
    rows = torch.arange(51.0)[:, None]  # row i holds i, so that the right answer is 50 t
    torch.testing.assert_close(statistics_at(rows, truncation).item(), 50 * truncation, atol=1e-4, rtol=1e-4)


def test_at_a_grid_point_no_neighbour_leaks_in():
    rows = torch.full((51, 1), float("nan"))
    rows[15] = 7.0
    assert statistics_at(rows, 0.3).item() == 7.0


def test_nothing_of_it_is_trained(library):
    assert not any(parameter.requires_grad for parameter in Generator(CONFIG, library.state_dict()).parameters())


def test_a_checkpoint_that_lacks_a_tensor_or_has_it_in_another_shape_is_refused(library):
    state = dict(library.state_dict())
    wrong = state | {"generator.conv_to_rgb.bias": torch.zeros(5)}
    with pytest.raises(BigsleepError, match=r"conv_to_rgb\.bias is \(5,\)"):
        Generator(CONFIG, wrong)
    del state["generator.gen_z.bias"]
    with pytest.raises(BigsleepError, match=r"lacks generator\.gen_z\.bias"):
        Generator(CONFIG, state)


def test_it_keeps_far_less_than_the_library_for_the_backward_pass(library):
    def kept_bytes(forward, weights):
        kept = {}

        def keep(tensor):
            kept[tensor.untyped_storage().data_ptr()] = tensor.untyped_storage().nbytes()
            return tensor

        with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
            picture = forward()
        assert picture.requires_grad
        return sum(size for place, size in kept.items() if place not in weights)

    frozen = random_biggan(CONFIG).requires_grad_(False)
    generator = Generator(CONFIG, library.state_dict())
    rows, class_rows, noise, classes = equal_rows(CONFIG, generator.stages)
    noise.requires_grad_()
    rows = noise[:, None].expand(-1, generator.stages, -1)
    ours = kept_bytes(
        lambda: generator(rows, class_rows), {p.untyped_storage().data_ptr() for p in generator.parameters()}
    )
    plain = kept_bytes(
        lambda: frozen(noise, classes, 1.0), {p.untyped_storage().data_ptr() for p in frozen.parameters()}
    )
    assert ours < 0.6 * plain
