import subprocess
import sys

import pytest
import torch
from clip.model import CLIP
from safetensors.torch import save_file
from torchvision.models import ResNet50_Weights

from benchmarks.random_models import VIT_B_32, biggan_config, random_biggan
from bigsleep.models.catalogue import imagenet_names
from bigsleep.picture import read_recipe

# As in an environment that has none of what only tests and benchmarks import.
WITHOUT = """
import sys
for name in ("setuptools", "pkg_resources", "scipy", "torchvision", "boto3", "open_clip"):
    sys.modules[name] = None
from bigsleep.commands import main
main(sys.argv[1:])
"""


def run(program: str) -> str:
    return subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True).stdout.strip()


def dream_without(folder, *options: str) -> dict:
    short = ("--steps", "1", "--image-size", "128", "-q", "-o", str(folder / "a.png"))
    command = [sys.executable, "-c", WITHOUT, "a cat", *short, *options]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return read_recipe(folder / "a.png")


def test_a_dream_needs_no_package_that_only_tests_and_benchmarks_import(tmp_path):
    assert dream_without(tmp_path, "--model", "emoji", "--init", "words")["settings"]["model"] == "emoji"


@pytest.mark.slow
def test_nor_does_one_with_full_size_models_that_begins_from_class_names(tmp_path):
    torch.save(random_biggan(biggan_config(128)).state_dict(), tmp_path / "pytorch_model.bin")
    (tmp_path / "config.json").write_text(biggan_config(128).to_json_string())
    torch.manual_seed(0)
    clip = {name: value.contiguous() for name, value in CLIP(**VIT_B_32).state_dict().items()}
    save_file(clip, tmp_path / "clip.safetensors")
    model = ("--model", str(tmp_path), "--clip", str(tmp_path / "clip.safetensors"), "--init", "words")
    assert dream_without(tmp_path, *model, "--cutouts", "4")["settings"]["init"] == "words"


def test_the_class_names_are_torchvisions():
    assert imagenet_names() == ResNet50_Weights.DEFAULT.meta["categories"]


def test_a_dream_imports_nothing_that_it_does_not_use():
    heavy = ("torchvision", "scipy", "setuptools", "pkg_resources", "clip", "boto3", "torch._dynamo", "sympy")
    program = "import sys, bigsleep; bigsleep.dream('a cat', model='emoji', image_size=128, steps=1, auditions=1)"
    assert run(f"{program}; print([name for name in {heavy} if name in sys.modules])") == "[]"


@pytest.mark.slow
def test_who_imports_the_packages_afterwards_gets_all_of_them():
    program = "import bigsleep.dreamer, clip, pytorch_pretrained_biggan as b"
    asked = "print(len(clip.available_models()), b.truncated_noise_sample().shape)"
    assert run(f"{program}; {asked}") == "9 (1, 128)"


@pytest.mark.slow
def test_who_has_imported_them_before_keeps_them():
    assert (
        run("import clip; from bigsleep.models.perceptor import clip_model; print(clip_model is clip.model)") == "True"
    )
