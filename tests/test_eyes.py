"""Several perceptors at once, and open_clip's."""

import weakref

import pytest
import torch

from benchmarks.beside_big_sleep import small_clip
from benchmarks.step import under_clips
from bigsleep import BigsleepError, Models, Settings, dream
from bigsleep.goal import Goal
from bigsleep.loading import complete_settings
from bigsleep.models.catalogue import check_names, clips_of, load_perceptor
from bigsleep.models.eyes import Eyes
from bigsleep.models.openclip import OpenClip
from bigsleep.models.perceptor import Perceptor
from bigsleep.optimizer import Optimizer

open_clip = pytest.importorskip("open_clip")


def small_openclip():
    torch.manual_seed(4)
    model = open_clip.CLIP(
        48,
        open_clip.CLIPVisionCfg(layers=2, width=64, head_width=32, patch_size=16, image_size=96),
        open_clip.CLIPTextCfg(width=64, heads=2, layers=1),
    )
    model.visual.image_mean, model.visual.image_std = (0.5, 0.5, 0.5), (0.3, 0.3, 0.3)
    return OpenClip(model, open_clip.get_tokenizer("ViT-B-32"), "small")


@pytest.fixture(scope="module")
def pair():
    return [Perceptor(small_clip().state_dict(), "large"), small_openclip()]


@pytest.fixture(scope="module")
def models():
    return Models.load(Settings(model="emoji", precision="fp32", device="cpu"))


def begun(models, perceptor, texts=("a red heart", "night")):
    """A loop over a perceptor, with a search for ``texts``."""
    loop = Optimizer(models.generator, perceptor)
    settings = complete_settings(
        Settings(seed=1, layers="1", init="random", auditions=1, cutouts=7, augment=0.0, cutout_max=1.0), models
    )
    goal = Goal(perceptor.encode_text(list(texts)), torch.tensor([1.0, -0.5]))
    return loop, loop.search(goal, settings, torch.Generator().manual_seed(3))


def test_names_and_weights_of_several_clips():
    assert clips_of("ViT-L/14@336px") == [("ViT-L/14@336px", 1.0)]
    named = clips_of("ViT-B/32:2 | openclip:ViT-B-32/laion2b_s34b_b79k:0.5|openclip:hf-hub:owner/name")
    assert named == [
        ("ViT-B/32", 2.0), ("openclip:ViT-B-32/laion2b_s34b_b79k", 0.5), ("openclip:hf-hub:owner/name", 1.0)
    ]  # fmt: skip
    with pytest.raises(BigsleepError, match="unknown CLIP 'ViT-B/33'"):
        check_names("auto", "ViT-B/32|ViT-B/33:0.5")
    with pytest.raises(BigsleepError, match="weighs 0"):
        check_names("auto", "ViT-B/32|RN50:0")


def test_the_cosine_of_several_is_the_weighted_mean_of_theirs(pair):
    eyes, pixels = Eyes(pair, [1.0, 3.0]), torch.rand(2, 3, 224, 224)
    assert eyes.size == 224
    text, image = eyes.encode_text(["a house"]), eyes.encode_images(pixels)
    torch.testing.assert_close(image.norm(dim=1), torch.ones(2))
    reduced = torch.nn.functional.interpolate(pixels, size=(96, 96), mode="bicubic", antialias=True)
    cosines = [
        perceptor.encode_images(seen) @ perceptor.encode_text(["a house"]).T
        for perceptor, seen in zip(pair, (pixels, reduced), strict=True)
    ]
    torch.testing.assert_close(image @ text.T, 0.25 * cosines[0] + 0.75 * cosines[1])


def test_several_let_their_text_towers_go_and_have_them_back_for_the_next_words():
    alone, eyes = load_perceptor("emoji"), load_perceptor("emoji|emoji:3")
    for texts in (["a house"], ["a garden", "night"]):
        both = eyes.encode_text(texts)
        torch.testing.assert_close(
            both, torch.cat([0.5 * alone.encode_text(texts), 0.75**0.5 * alone.encode_text(texts)], 1)
        )
        assert [eye.perceptor.text for eye in eyes.eyes] == [None, None]
    assert alone.text is not None, "one alone keeps what it will need again"


def test_a_steps_likeness_and_gradient_are_the_weighted_mean_of_each_perceptors_at_its_own_size(models, pair):
    image = torch.rand(1, 3, 128, 128, generator=torch.Generator().manual_seed(2))
    found = []
    for perceptor in (*pair, Eyes(pair, [1.0, 3.0])):
        loop, search = begun(models, perceptor)
        search.random.manual_seed(9)  # the same cutouts for all
        loop.chunk = 3
        found.append(loop.likeness_gradient([search], image.clone()))
    (one, slope), (other, other_slope), (both, both_slope) = found
    torch.testing.assert_close(both, 0.25 * one + 0.75 * other, atol=1e-6, rtol=1e-5)
    torch.testing.assert_close(both_slope, 0.25 * slope + 0.75 * other_slope, atol=1e-8, rtol=1e-4)
    assert (slope - other_slope).norm() > 0.5 * slope.norm(), "alike, they would prove nothing"


def most_kept(act):
    """The most bytes that are kept for backward passes at any moment while ``act()`` runs."""
    now, most = 0, 0

    class Kept:
        def __init__(self, tensor):
            nonlocal now, most
            self.tensor, size = tensor, tensor.nbytes
            now += size
            most = max(most, now)
            weakref.finalize(self, gone, size)

    def gone(size):
        nonlocal now
        now -= size

    with torch.autograd.graph.saved_tensors_hooks(Kept, lambda kept: kept.tensor):
        act()
    return most


def test_several_keep_no_more_at_once_than_the_largest_alone(models, pair):
    image = torch.rand(1, 3, 128, 128)
    most = []
    for perceptor in (*pair, Eyes(pair, [1.0, 1.0])):
        loop, search = begun(models, perceptor)
        most.append(most_kept(lambda loop=loop, search=search: loop.likeness_gradient([search], image.clone())))
    assert min(most) > 0 and most[2] <= 1.1 * max(most[:2])


def test_a_dream_under_several_is_recorded_and_comes_again(bigsleep):
    args = ("a cat", "--model", "emoji", "--clip", "emoji", "--clip", "emoji:0.5", "--steps", "1", "--init", "random")
    assert bigsleep(*args, "--seed", "1", "-q", "-o", "one.png").returncode == 0
    picture = dream("a cat", model="emoji", clip="emoji|emoji:0.5", steps=1, init="random", seed=1)
    assert picture.recipe["settings"]["clip"] == "emoji|emoji:0.5"
    done = bigsleep("redo", "one.png", "-q", "-o", "again.png")
    folder = bigsleep.keywords["cwd"]
    assert done.returncode == 0, done.stderr
    assert (folder / "one.png").read_bytes() == (folder / "again.png").read_bytes()


def test_what_open_clip_has_not_is_refused_in_one_line():
    for name, message in [
        ("ViT-B-33/laion", "no ViT-B-33: choose"), ("ViT-B-32", "add one of .*laion2b_s34b_b79k"),
        ("ViT-B-32/nonsense", "cannot be had"),
    ]:  # fmt: skip
        with pytest.raises(BigsleepError, match=message) as caught:
            load_perceptor(f"openclip:{name}")
        assert "\n" not in str(caught.value)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["ViT-B-32", "RN50", "convnext_base", "ViT-B-16-SigLIP", "MobileCLIP-S1"])
def test_every_family_of_open_clip_gives_its_own_features(name, tmp_path, monkeypatch):
    torch.manual_seed(0)
    model = open_clip.create_model(name, pretrained=None).eval()
    torch.save(model.state_dict(), tmp_path / "weights.pt")
    tokens = torch.randint(1, 30_000, (2, model.context_length))
    monkeypatch.setattr(open_clip, "get_tokenizer", lambda _: lambda texts: tokens[: len(texts)])  # some are fetched
    perceptor = load_perceptor(f"openclip:{name}/{tmp_path / 'weights.pt'}")
    pixels = torch.rand(2, 3, perceptor.size, perceptor.size, requires_grad=True)
    mean, std = (torch.tensor(part)[:, None, None] for part in (model.visual.image_mean, model.visual.image_std))
    ours, own = perceptor.encode_images(pixels), model.encode_image((pixels - mean) / std, normalize=True)
    torch.testing.assert_close(ours, own, atol=1e-5, rtol=1e-5)
    weight = torch.randn_like(own)
    slope, expected = (torch.autograd.grad((features * weight).sum(), pixels)[0] for features in (ours, own))
    torch.testing.assert_close(slope, expected, atol=1e-5, rtol=1e-4)
    with torch.no_grad():
        text = model.encode_text(tokens, normalize=True)
    torch.testing.assert_close(perceptor.encode_text(["a", "b"]), text, atol=1e-5, rtol=1e-5)
    low = perceptor.lowered(torch.bfloat16).encode_images(pixels)
    assert torch.cosine_similarity(low, own).min() > 0.99


@pytest.mark.slow
def test_at_full_size_two_peak_hardly_higher_than_the_larger_alone():
    found = under_clips("512/64")  # a process each
    assert found["ratio"] <= 1.1, found
