import subprocess
import sys


def run(program: str) -> str:
    return subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True).stdout.strip()


def test_a_dream_imports_nothing_that_it_does_not_use():
    heavy = ("torchvision", "scipy", "clip", "boto3", "torch._dynamo", "sympy")
    program = "import sys; from bigsleep import dream; dream('a cat', model='emoji', steps=1, auditions=1)"
    assert run(f"{program}; print([name for name in {heavy} if name in sys.modules])") == "[]"


def test_who_imports_the_packages_afterwards_gets_all_of_them():
    program = "import bigsleep.dreamer, clip, pytorch_pretrained_biggan as b"
    asked = "print(len(clip.available_models()), b.truncated_noise_sample().shape)"
    assert run(f"{program}; {asked}") == "9 (1, 128)"


def test_who_has_imported_them_before_keeps_them():
    assert (
        run("import clip; from bigsleep.models.perceptor import clip_model; print(clip_model is clip.model)") == "True"
    )
