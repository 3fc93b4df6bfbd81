"""Our image and text forward passes against clip-anytorch's, and open_clip's files through our loader."""

import pytest
import torch
import torch.nn.functional as F
from clip import tokenize
from clip.model import CLIP, convert_weights
from safetensors.torch import save_file

from bigsleep.errors import BigsleepError
from bigsleep.models.catalogue import load_perceptor
from bigsleep.models.perceptor import MEAN, STD, Perceptor, tokens_of
from tests.conftest import OnGPU

SMALL = dict(embed_dim=64, context_length=77, vocab_size=49408, transformer_width=64, transformer_heads=1)
VIT = dict(**SMALL, transformer_layers=2, image_resolution=64, vision_layers=3, vision_width=128, vision_patch_size=16)
RESNET = dict(**SMALL, transformer_layers=2, image_resolution=64, vision_layers=(1, 2, 1, 1), vision_width=32,
              vision_patch_size=None)  # fmt: skip


def reference(shape) -> CLIP:
    """clip-anytorch's model with random weights and settled batch norms; numbers that fp16 can hold."""
    torch.manual_seed(0)
    model = CLIP(**shape)
    for module in model.modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            module.running_mean.normal_(0, 0.1)
            module.running_var.uniform_(0.5, 2)
            torch.nn.init.uniform_(module.weight, 0.5, 1.5)
    convert_weights(model)
    return model.float().eval()


@pytest.mark.parametrize("shape", [VIT, RESNET], ids=["ViT", "ResNet"])
def test_image_features_and_their_gradient_are_clips(shape):
    model = reference(shape)
    perceptor = Perceptor(model.state_dict(), "test")
    pixels = torch.rand(3, 3, 64, 64, requires_grad=True)
    normalised = (pixels - torch.tensor(MEAN)[:, None, None]) / torch.tensor(STD)[:, None, None]
    expected, ours = F.normalize(model.encode_image(normalised), dim=1), perceptor.encode_images(pixels)
    torch.testing.assert_close(ours, expected, atol=1e-5, rtol=1e-5)
    weight = torch.randn_like(ours)
    gradients = [torch.autograd.grad((f * weight).sum(), pixels)[0].flatten() for f in (ours, expected)]
    assert torch.cosine_similarity(*gradients, dim=0) > 0.9999


def test_a_gpus_way_of_attention_gives_the_same_features():
    perceptor, pixels = Perceptor(reference(VIT).state_dict(), "test"), torch.rand(2, 3, 64, 64)
    with torch.no_grad():
        expected, ours = perceptor.encode_images(pixels), perceptor.encode_images(pixels.as_subclass(OnGPU))
    torch.testing.assert_close(ours.as_subclass(torch.Tensor), expected, atol=1e-6, rtol=1e-5)


def test_text_features_are_clips():
    model = reference(VIT)
    texts = ["a house", "a much longer text about the house by the sea, with a garden", "!"]
    expected = F.normalize(model.encode_text(tokenize(texts)), dim=1).detach()
    torch.testing.assert_close(Perceptor(model.state_dict(), "test").encode_text(texts), expected, atol=1e-5, rtol=1e-5)


def test_in_bf16_the_gradient_points_the_same_way():
    perceptor = Perceptor(reference(VIT).state_dict(), "test")
    pixels = torch.rand(4, 3, 64, 64, requires_grad=True)
    goal = F.normalize(torch.randn(64), dim=0)
    full, low = (
        torch.autograd.grad((p.encode_images(pixels) @ goal).sum(), pixels)[0].flatten()
        for p in (perceptor, perceptor.lowered(torch.bfloat16))
    )
    assert torch.cosine_similarity(full, low, dim=0) > 0.99


def test_a_text_of_77_tokens_passes_and_one_of_78_is_refused_with_the_count():
    words = "house " * 75
    assert tokens_of([words]).shape == (1, 77)
    with pytest.raises(BigsleepError, match="78 tokens") as caught:
        tokens_of([words + "house"])
    assert caught.value.usage


def test_exclamation_marks_count_as_tokens():
    with pytest.raises(BigsleepError, match="tokens"):
        tokens_of(["! ? " * 80])


def test_a_file_that_is_no_clip_is_refused(tmp_path):
    save_file({"some.weight": torch.zeros(3)}, tmp_path / "other.safetensors")
    with pytest.raises(BigsleepError, match="no CLIP"):
        load_perceptor(str(tmp_path / "other.safetensors"))


@pytest.mark.slow
@pytest.mark.parametrize("name", ["ViT-B-32-quickgelu", "RN50-quickgelu"])
def test_open_clips_weights_give_open_clips_features(name, tmp_path):
    open_clip = pytest.importorskip("open_clip")
    torch.manual_seed(0)
    model = open_clip.create_model(name, pretrained=None).eval()
    # What the hub holds came from OpenAI's fp16.
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.copy_(parameter.half())
    save_file({key: value.contiguous() for key, value in model.state_dict().items()}, tmp_path / "clip.safetensors")
    perceptor = load_perceptor(str(tmp_path / "clip.safetensors"))
    pixels, texts = torch.rand(2, 3, 224, 224), ["a house", "a bowl of cherries on a table"]
    normalised = (pixels - torch.tensor(MEAN)[:, None, None]) / torch.tensor(STD)[:, None, None]
    with torch.no_grad():
        torch.testing.assert_close(
            perceptor.encode_images(pixels), model.encode_image(normalised, normalize=True), atol=1e-5, rtol=1e-5
        )
        torch.testing.assert_close(
            perceptor.encode_text(texts), model.encode_text(tokenize(texts), normalize=True), atol=1e-5, rtol=1e-5
        )
