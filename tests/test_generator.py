"""The folded BigGAN against pytorch_pretrained_biggan's own, on random weights in the published layout."""

from functools import partial
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from pytorch_pretrained_biggan.model import BigGANBatchNorm

from benchmarks.random_models import biggan_config, random_biggan
from bigsleep.errors import BigsleepError
from bigsleep.models.generator import Generator, doubled, statistics_at
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
    weight = F.interpolate(torch.randn(1, 3, 8, 8), size=(128, 128), mode="bicubic")
    full, low = (
        torch.autograd.grad((g(noise, classes) * weight).sum(), noise)[0].flatten()
        for g in (generator, generator.lowered(torch.bfloat16))
    )
    assert torch.cosine_similarity(full, low, dim=0).item() > 0.99


@settings(max_examples=50, deadline=None)  # the first comparison imports what compares
@given(st.floats(0.001, 1.0))
def test_statistics_between_two_truncations_lie_between_theirs(truncation):
    rows = torch.arange(51.0)[:, None]  # row i holds i, so that the right answer is 50 t
    torch.testing.assert_close(statistics_at(rows, truncation).item(), 50 * truncation, atol=1e-4, rtol=1e-4)


def test_at_a_grid_point_no_neighbour_leaks_in():
    for i in range(51):
        rows = torch.full((51, 1), float("nan"))
        rows[i] = 7.0
        assert statistics_at(rows, i / 50).item() == 7.0, i / 50


@pytest.mark.parametrize(("truncation", "librarys"), [(0.14, 8), (0.28, 15), (0.56, 29), (0.58, 28), (0.94, 46)])
def test_at_these_grid_points_the_library_takes_the_row_beside(library, truncation, librarys):
    rows = torch.arange(51.0)[:, None]
    assert statistics_at(rows, truncation).item() == round(50 * truncation) != librarys
    generator = Generator(CONFIG, library.state_dict(), librarys / 50)
    noises, class_rows, noise, classes = equal_rows(CONFIG, generator.stages)
    with torch.no_grad():
        ours = generator(noises, class_rows)
        torch.testing.assert_close(ours, library(noise, classes, truncation), atol=1e-5, rtol=1e-5)


def test_at_all_other_grid_points_it_takes_ours_as_the_documents_say():
    norm = BigGANBatchNorm(1, conditional=False)
    norm.running_means[:, 0] = torch.arange(51.0)
    norm.weight.data.fill_(-1), norm.bias.data.zero_()
    points = [i / 50 for i in range(1, 51)]
    found = [norm(torch.zeros(1, 1, 1, 1), truncation).item() for truncation in points]
    beside = [point for point, row in zip(points, found, strict=True) if round(row) != round(50 * point)]
    said = f"{', '.join(map(str, beside[:-1]))} and {beside[-1]}"
    for page in (statistics_at.__doc__, (Path(__file__).parent.parent / "docs/biggan.md").read_text()):
        assert said in " ".join(page.split())


def test_in_fp16_its_convolutions_stay_in_fp32(library):
    generator = Generator(CONFIG, library.state_dict()).lowered(torch.float16)
    assert generator.dtype == torch.float32 and generator.last_scale.dtype == torch.float32


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


def kept_bytes(forward, weights):
    """Bytes that ``forward()`` keeps for its backward pass, the parameters of the module ``weights`` apart."""
    kept, known = {}, {parameter.untyped_storage().data_ptr() for parameter in weights.parameters()}

    def keep(tensor):
        kept[tensor.untyped_storage().data_ptr()] = tensor.untyped_storage().nbytes()
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        picture = forward()
    assert picture.requires_grad
    return sum(size for place, size in kept.items() if place not in known)


def test_it_keeps_far_less_than_the_library_for_the_backward_pass(library):
    frozen = random_biggan(CONFIG).requires_grad_(False)
    generator = Generator(CONFIG, library.state_dict())
    rows, class_rows, noise, classes = equal_rows(CONFIG, generator.stages)
    noise.requires_grad_()
    rows = noise[:, None].expand(-1, generator.stages, -1)
    plain = kept_bytes(lambda: frozen(noise, classes, 1.0), frozen)
    assert kept_bytes(lambda: generator(rows, class_rows), generator) < 0.6 * plain


def layered(generator, batch=2, size=128, seed=0):
    """Noise, class shares and soft masks for two layers of each picture of a batch."""
    random = torch.Generator().manual_seed(seed)
    noise = torch.randn(batch, 2, generator.stages, 128, generator=random)
    classes = torch.rand(batch, 2, generator.stages, generator.num_classes, generator=random) / generator.num_classes
    first = torch.rand(batch, 1, size // 8, size // 8, generator=random)
    first = F.interpolate(first, size, mode="bilinear")
    return noise, classes, torch.cat([first, 1 - first], 1)


def test_two_layers_of_equal_latents_are_one(library):
    generator = Generator(CONFIG, library.state_dict())
    noise, classes, masks = layered(generator)
    noise[:, 1], classes[:, 1] = noise[:, 0], classes[:, 0]
    with torch.no_grad():
        one = generator(noise[:, 0], classes[:, 0])
        torch.testing.assert_close(generator(noise, classes, masks), one, atol=1e-5, rtol=1e-5)


def test_a_layer_alone_in_its_mask_is_the_picture(library):
    generator = Generator(CONFIG, library.state_dict())
    noise, classes, masks = layered(generator)
    masks[:, 0], masks[:, 1] = 0, 1
    with torch.no_grad():
        alone = generator(noise[:, 1], classes[:, 1])
        torch.testing.assert_close(generator(noise, classes, masks), alone, atol=1e-5, rtol=1e-5)


def halves(size):
    left = (torch.arange(size) < size / 2).float().expand(size, size)
    return torch.stack([left, 1 - left])


def regions(generator, classes, seed=0):
    """How far a picture of two layers, left and right, is in each half from what each layer makes alone.

    ``[half, layer]``, as shares of how far the two lone pictures are from each other there.
    """
    noise = torch.randn(1, 2, 1, 128, generator=torch.Generator().manual_seed(seed)).expand(
        -1, -1, generator.stages, -1
    )
    rows = classes[None, :, None].expand(-1, -1, generator.stages, -1)
    with torch.no_grad():
        lone = torch.cat([generator(noise[:, i], rows[:, i]) for i in range(2)])
        both = generator(noise, rows, halves(generator.size)[None])
    far = torch.stack([(both - lone).abs().mean((1, 2)), (lone[0] - lone[1]).abs().mean((0, 1)).expand(2, -1)])
    left, right = far.unflatten(2, (2, -1)).mean(3).unbind(2)
    return torch.stack([left[0] / left[1], right[0] / right[1]])


@pytest.mark.parametrize("seed", range(4))
def test_two_layers_side_by_side_show_two_regions(library, seed):
    found = regions(Generator(CONFIG, library.state_dict()), torch.eye(20)[[3, 7]], seed)
    assert found.diag().max() < 0.4, "each half is its own layer's picture, some pixels at the seam apart"
    assert found.fliplr().diag().min() > 0.75, "and not the other's"


def plain_forward(generator, noise, classes, masks):
    """The generator's pictures in layers, by operations that autograd knows."""

    def mixed(rows, size):  # [B, L, F] → [B, F, size, size]
        return torch.einsum("blf,blhw->bfhw", rows, F.adaptive_avg_pool2d(masks, size))

    conditions = torch.cat([noise, classes @ generator.embeddings.T], 3).unbind(2)
    begin = F.linear(conditions[0], generator.gen_z_weight, generator.gen_z_bias)
    begin = begin.unflatten(2, (4, 4, generator.channels)).permute(0, 1, 4, 2, 3)
    x, stage = (begin * F.adaptive_avg_pool2d(masks, 4)[:, :, None]).sum(1), 1
    for layer in generator.layers:
        if not hasattr(layer, "norms"):
            x = layer(x)
            continue
        skip = x[:, : layer.outs]
        for norm, conv in zip(layer.norms, layer.convs, strict=True):
            scale, shift = (mixed(rows, x.shape[2]) for rows in norm(conditions[stage]))
            x = conv(torch.relu(x * scale + shift))
        x = x + F.interpolate(skip, size=x.shape[2:], mode="nearest")
        stage += 1
    return generator.conv_to_rgb(torch.relu(x * generator.last_scale + generator.last_shift)).tanh()


def test_gradients_of_layers_are_autograds(library):
    generator = Generator(CONFIG, library.state_dict())
    given = [part.requires_grad_() for part in layered(generator)]
    weight = torch.randn(2, 3, 128, 128)
    ours, expected = (forward(*given) for forward in (generator, partial(plain_forward, generator)))
    torch.testing.assert_close(ours, expected, atol=1e-5, rtol=1e-5)
    both = zip(*(torch.autograd.grad((picture * weight).sum(), given) for picture in (ours, expected)), strict=True)
    for name, (found, wanted) in zip(("noise", "classes", "masks"), both, strict=True):
        assert (found - wanted).norm() < 1e-3 * wanted.norm(), name


def test_layers_in_bf16_point_the_same_way(library):
    generator = Generator(CONFIG, library.state_dict())
    given = [part.requires_grad_() for part in layered(generator, batch=1)]
    weight = F.interpolate(torch.randn(1, 3, 8, 8), size=(128, 128), mode="bicubic")
    full, low = (
        torch.autograd.grad((g(*given) * weight).sum(), given) for g in (generator, generator.lowered(torch.bfloat16))
    )
    for name, found, wanted in zip(("noise", "classes", "masks"), low, full, strict=True):
        assert torch.cosine_similarity(found.flatten(), wanted.flatten(), dim=0) > 0.98, name


def test_layers_keep_hardly_more_for_the_backward_pass_than_one(library):
    generator = Generator(CONFIG, library.state_dict())
    noise, classes, masks = layered(generator)
    noise.requires_grad_()
    one = kept_bytes(lambda: generator(noise[:, 0], classes[:, 0]), generator)
    assert kept_bytes(lambda: generator(noise, classes, masks), generator) < 1.15 * one


def test_on_apple_doubling_is_the_same_without_its_interpolate(monkeypatch):
    x = torch.randn(2, 3, 5, 4, requires_grad=True)
    weight = torch.randn(2, 3, 10, 8)
    expected = doubled(x)
    (gradient,) = torch.autograd.grad((expected * weight).sum(), x)

    class OnApple(torch.Tensor):
        device = torch.device("mps")

    with monkeypatch.context() as patched:
        patched.setattr(F, "interpolate", None)
        apple = x.as_subclass(OnApple)
        ours = doubled(apple)
    assert torch.equal(ours.as_subclass(torch.Tensor), expected)
    (found,) = torch.autograd.grad((ours * weight).sum(), x)
    torch.testing.assert_close(found.as_subclass(torch.Tensor), gradient)
