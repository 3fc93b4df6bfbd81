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

HUB_PATH = "timm/vit_base_patch32_clip_224.openai/resolve/main/open_clip_model.safetensors"


@pytest.fixture(scope="module")
def hosts(tmp_path_factory):
    """A loopback server that publishes both models as their hosts do, and its folder."""
    folder = tmp_path_factory.mktemp("hosts")
    config = biggan_config(512)
    torch.save(random_biggan(config).state_dict(), folder / "biggan-deep-512-pytorch_model.bin")
    (folder / "biggan-deep-512-config.json").write_text(config.to_json_string())
    (folder / HUB_PATH).parent.mkdir(parents=True)
    torch.manual_seed(0)
    save_file({name: value.contiguous() for name, value in CLIP(**VIT_B_32).state_dict().items()}, folder / HUB_PATH)
    server = Server(folder)
    server.headers[f"/{HUB_PATH}"] = {"ETag": '"' + "a" * 40 + '"', "X-Repo-Commit": "b" * 40}
    yield server, folder
    server.server.shutdown()


# The command, told that the BigGANs are published on the loopback server. HF_ENDPOINT says so of CLIP.
COMMAND = """
import sys
from pytorch_pretrained_biggan import model
for table in (model.PRETRAINED_MODEL_ARCHIVE_MAP, model.PRETRAINED_CONFIG_ARCHIVE_MAP):
    for name, url in table.items():
        table[name] = sys.argv[1] + "/" + url.rsplit("/", 1)[1]
from bigsleep.cli import main
main(sys.argv[2:])
"""


def test_the_whole_command_fetches_both_and_makes_a_step_at_512(hosts, tmp_path):
    server, _ = hosts
    environment = {name: value for name, value in os.environ.items() if not name.lower().endswith("_proxy")}
    environment |= {"HOME": str(tmp_path), "BIGSLEEP_CACHE": str(tmp_path / "cache"), "HF_HOME": str(tmp_path / "hf"),
                    "HF_ENDPOINT": server.url}  # fmt: skip
    args = ["a beautiful house", "--steps", "1", "--cutouts", "8", "--seed", "1", "--output-dir", str(tmp_path)]
    for output in ("a_beautiful_house.png", "a_beautiful_house-2.png"):
        done = subprocess.run(
            [sys.executable, "-c", COMMAND, server.url, *args], env=environment, capture_output=True, text=True
        )
        assert done.stdout == f"{tmp_path / output}\n", done.stderr
        assert "built-in" not in done.stderr
        image = Image.open(tmp_path / output)
        image.load()
        assert image.size == (512, 512)
        settings = read_recipe(tmp_path / output)["settings"]
        assert (settings["model"], settings["clip"], settings["lr"]) == ("biggan-deep-512", "ViT-B/32", 0.07)
    fetched = [path for method, path in server.requests if method == "GET" and not path.startswith("/api/")]
    assert len(fetched) == len(set(fetched)) == 3, "each file is fetched once, and the second run finds all"


@pytest.fixture(scope="module")
def generator(hosts):
    """The 512 generator, from a folder of one's own, at truncation 0.5."""
    _, folder = hosts
    local = folder / "local"
    local.mkdir()
    (local / "pytorch_model.bin").symlink_to(folder / "biggan-deep-512-pytorch_model.bin")
    (local / "config.json").symlink_to(folder / "biggan-deep-512-config.json")
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
