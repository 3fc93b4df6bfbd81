import subprocess
import sys


def run(program: str) -> str:
    return subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True).stdout.strip()


def test_a_dream_needs_neither_torchvision_nor_scipy():
    heavy = run(
        "import sys, bigsleep.dreamer; print([m for m in ('torchvision', 'scipy', 'clip') if m in sys.modules])"
    )
    assert heavy == "[]"


def test_who_imports_the_packages_afterwards_gets_all_of_them():
    assert run("import bigsleep.dreamer, clip; print(len(clip.available_models()))") == "9"
    assert (
        run("import bigsleep.dreamer, pytorch_pretrained_biggan as b; print(b.truncated_noise_sample().shape)")
        == "(1, 128)"
    )


def test_who_has_imported_them_before_keeps_them():
    assert (
        run("import clip; from bigsleep.models.perceptor import clip_model; print(clip_model is clip.model)") == "True"
    )
