"""BigGAN-deep-512 and ViT-B/32 at full size, random weights, in the files that are published, through the real loader."""

import os
import subprocess
import sys

import pytest
import torch
from clip.model import CLIP
from PIL import Image
from safetensors.torch import save_file

from benchmarks.random_models import VIT_B_32, biggan_config, random_biggan
from bigsleep.models.catalogue import load_generator
from bigsleep.picture import read_recipe
from tests.conftest import Server
from tests.test_generator import halves, regions

pytestmark = pytest.mark.slow

BIGGAN, CLIP_FILE = "biggan-deep-512/pytorch_model.bin", "ViT-B-32/open_clip_model.safetensors"


@pytest.fixture(scope="module")
def hosts(tmp_path_factory):
    """A loopback server that is a mirror of both models, and its folder."""
    folder = tmp_path_factory.mktemp("hosts")
    for file in (BIGGAN, CLIP_FILE):
        (folder / file).parent.mkdir()
    torch.save(random_biggan(biggan_config(512)).state_dict(), folder / BIGGAN)
    torch.manual_seed(0)
    save_file({name: value.contiguous() for name, value in CLIP(**VIT_B_32).state_dict().items()}, folder / CLIP_FILE)
    server = Server(folder)
    yield server, folder
    server.server.shutdown()


def test_the_whole_command_fetches_both_and_makes_a_step_at_512(hosts, tmp_path):
    server, _ = hosts
    environment = {name: value for name, value in os.environ.items() if not name.lower().endswith("_proxy")}
    environment |= {"HOME": str(tmp_path), "BIGSLEEP_CACHE": str(tmp_path / "cache"), "HF_HOME": str(tmp_path / "hf"),
                    "BIGSLEEP_MIRROR": server.url}  # fmt: skip
    args = ["a beautiful house", "--steps", "1", "--cutouts", "8", "--seed", "1", "--output-dir", str(tmp_path)]
    for output in ("a_beautiful_house.png", "a_beautiful_house-2.png"):
        done = subprocess.run(
            [sys.executable, "-m", "bigsleep", *args], env=environment, capture_output=True, text=True
        )
        assert done.stdout == f"{tmp_path / output}\n", done.stderr
        assert "built-in" not in done.stderr
        image = Image.open(tmp_path / output)
        image.load()
        assert image.size == (512, 512)
        settings = read_recipe(tmp_path / output)["settings"]
        assert (settings["model"], settings["clip"], settings["lr"]) == ("biggan-deep-512", "ViT-B/32", 0.07)
    assert sorted(server.requests) == [("GET", f"/{CLIP_FILE}"), ("GET", f"/{BIGGAN}")], "once each, for both runs"


@pytest.fixture(scope="module")
def generator(hosts):
    """The 512 generator, from a folder of one's own, at truncation 0.5."""
    _, folder = hosts
    local = folder / "local"
    local.mkdir()
    (local / "pytorch_model.bin").symlink_to(folder / BIGGAN)
    (local / "config.json").write_text(biggan_config(512).to_json_string())
    return load_generator(str(local), truncation=0.5)


def test_with_equal_rows_the_picture_is_the_librarys(generator):
    assert generator.stages == 15 and generator.size == 512 and generator.class_names[1] == "goldfish"
    library = random_biggan(biggan_config(512))
    noise, classes = torch.randn(1, 128), torch.eye(1000)[[207]]
    with torch.no_grad():
        expected = library(noise, classes, 0.5)
        ours = generator(noise[:, None].expand(-1, 15, -1), classes[:, None].expand(-1, 15, -1))
    assert expected.std() > 0.01, "a flat picture would prove nothing"
    torch.testing.assert_close(ours, expected, atol=1e-5, rtol=1e-5)


def test_two_equal_layers_are_one_and_two_others_two_regions(generator):
    noise = torch.randn(1, 1, 15, 128).expand(-1, 2, -1, -1)
    classes = torch.eye(1000)[[207, 207]][None, :, None].expand(-1, -1, 15, -1)
    with torch.no_grad():
        one = generator(noise[:, 0], classes[:, 0])
        torch.testing.assert_close(generator(noise, classes, halves(512)[None]), one, atol=1e-5, rtol=1e-5)
    found = regions(generator, torch.eye(1000)[[207, 483]])
    assert found.diag().max() < 0.4 and found.fliplr().diag().min() > 0.75
