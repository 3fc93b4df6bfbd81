"""The page that dreams, in a browser, and its API by requests, against the command as a user runs it."""

from __future__ import annotations

import http.client
import json
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import pytest
import requests
from PIL import Image

from bigsleep.picture import Picture, read_recipe
from tests.browser import chromium, grave_violations, watched  # noqa: F401
from tests.conftest import offline
from tests.test_gallery import EVIL, put

QUICK = ("--model", "emoji", "--image-size", "128", "--cutouts", "2", "--auditions", "1", "--layers", "1", "--save-every", "1", "--steps", "6")  # fmt: skip
PATIENCE = 240_000  # milliseconds; a dream takes some seconds on a machine that has nothing else to do
pytestmark = pytest.mark.filterwarnings("ignore::ResourceWarning")


@dataclass
class Served:
    """A running ``bigsleep web``: its address and its folder."""

    url: str
    folder: Path
    process: subprocess.Popen[str]

    def ask(self, **body: object) -> requests.Response:
        return requests.post(f"{self.url}/api/dreams", json=body, timeout=PATIENCE)

    def done(self, **body: object) -> list[dict]:
        """The dreams that a request comes to, at their end."""
        return requests.post(f"{self.url}/api/dreams?wait=1", json=body, timeout=PATIENCE).json()["dreams"]

    def dreams(self) -> list[dict]:
        return requests.get(f"{self.url}/api/dreams").json()["dreams"]

    def settle(self) -> None:
        """Wait until nothing is dreamt of."""
        while any(one["state"] in ("waiting", "dreaming") for one in self.dreams()):
            time.sleep(0.1)

    def stop_all(self) -> None:
        for dream in self.dreams():
            requests.delete(f"{self.url}/api/dreams/{dream['id']}")
        self.settle()


def start(folder: Path, home: Path, *args: str, stderr: int | None = None) -> Served:
    command = [sys.executable, "-m", "bigsleep", "web", "--port", "0", "--offline", "--output-dir", str(folder), *args]
    process = subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=stderr, text=True, env={**os.environ, **offline(home)}
    )
    assert process.stdout is not None
    return Served(process.stdout.readline().strip().rstrip("/"), folder, process)


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    base = tmp_path_factory.mktemp("web")
    (base / "out").mkdir()
    (base / "secret.png").write_bytes(Picture(Image.new("RGB", (8, 8), "red"), {"prompt": "a secret"}).png())
    (base / "out" / "secret.txt").write_text("a secret")
    (base / "out" / "link.png").symlink_to(base / "secret.png")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("NO_PROXY", "*")
        served = start(base / "out", base, *QUICK)
        yield served
    served.process.send_signal(signal.SIGINT)
    served.process.wait(timeout=60)


@pytest.fixture
def page(chromium, server):  # noqa: F811
    server.stop_all()
    page = chromium.new_page()
    page.asked, page.complaints = watched(page)
    page.goto(server.url)
    page.set_default_timeout(PATIENCE)
    yield page
    page.close()
    server.stop_all()


def dream_of(page, words: str, **options: str) -> None:
    page.fill("#prompt", words)
    for name, value in options.items():
        page.fill(f"[name={name}]", value)
    page.click("#dream")


def test_a_dream_grows_in_the_page_with_its_curve_and_no_other_host_is_asked(page, server):
    page.evaluate(
        "() => { window.seen = []; new MutationObserver(() => seen.push(document.getElementById('growing').src))"
        ".observe(document.getElementById('growing'), { attributeFilter: ['src'] }); }"
    )
    dream_of(page, "a red heart", seed="3")
    page.wait_for_selector("#stop:visible")
    page.wait_for_selector("#status:has-text('Done')")
    status = page.inner_text("#status")
    assert len(set(page.evaluate("() => window.seen"))) >= 5 and "step" in status and "seed 3" in status
    told = server.dreams()[-1]
    assert page.locator("#curve circle").count() == len(told["curve"]) == 6
    recipe = read_recipe(server.folder / told["name"])
    assert recipe["prompt"] == "a red heart" and recipe["score"] == pytest.approx(told["end"]["score"], abs=1e-5)
    assert page.locator("#grid .words").first.inner_text() == "a red heart"
    assert page.complaints == [] and all(address.startswith(server.url) for address in page.asked)


@pytest.mark.slow
def test_a_reload_finds_the_running_dream_and_stop_keeps_the_best(page, server):
    dream_of(page, "an owl", steps="100000")
    page.wait_for_selector("#curve circle:nth-child(2)")
    page.reload()
    page.wait_for_selector("#status:has-text('Step')")
    assert page.inner_text("#of") == "an owl" and page.locator("#curve circle").count() >= 2
    page.click("#stop")
    page.wait_for_selector("#status:has-text('the best so far is kept')")
    told = server.dreams()[-1]
    assert read_recipe(server.folder / told["name"])["score"] == pytest.approx(
        max(s for _, s in told["curve"]), abs=1e-5
    )


@pytest.mark.slow
def test_two_tabs_queue_and_closing_one_stops_nothing(page, server, chromium):  # noqa: F811
    other = chromium.new_page()
    other.goto(server.url)
    dream_of(other, "a tree", steps="100000")
    other.wait_for_selector("#curve circle")
    dream_of(page, "a cat")
    page.wait_for_selector("#queue:has-text('a cat (waits)')")
    other.wait_for_selector("#queue:has-text('a cat (waits)')")
    other.close()
    page.wait_for_timeout(500)
    assert server.dreams()[-2]["state"] == "dreaming"
    page.click("#stop")  # of the tree, which this page shows as it is the one that runs
    page.wait_for_selector("#of:has-text('a cat')")
    page.wait_for_selector("#status:has-text('Done')")


@pytest.mark.slow
def test_from_the_history_a_picture_is_gone_on_from_steered_and_varied(page, server):
    first = server.done(prompt="a fish", seed=5)[0]
    page.wait_for_selector("#grid .words:has-text('a fish')")

    def chosen(button: str, words: str | None = None) -> None:
        page.locator("#grid button", has_text="a fish").last.click()
        if words:
            page.fill("#steer", words)
        page.click(button)
        page.wait_for_selector("#large", state="hidden")

    chosen("#continue")
    chosen("#continue", "a blue fish")
    server.settle()
    page.wait_for_selector("#status:has-text('Done')")
    assert page.inner_text("#of") == "a blue fish"
    chosen("#vary")
    page.wait_for_selector("#queue li")
    server.stop_all()
    told = server.dreams()
    again, steered, *varied = told[[one["id"] for one in told].index(first["id"]) + 1 :]
    assert (again["prompt"], steered["prompt"]) == ("a fish", "a blue fish") and len(varied) == 3
    assert read_recipe(server.folder / steered["name"])["prompt"] == "a blue fish"
    assert varied[0]["start"]["seed"] != 5 and page.complaints == []
    page.locator("#grid button", has_text="a fish").last.click()
    assert "--seed 5" in page.inner_text("#command") and page.get_attribute("#download", "href").endswith(first["name"])


@pytest.mark.slow
def test_two_pictures_morph_into_a_film(server):
    names = [server.done(prompt=words, seed=1)[0]["name"] for words in ("a sun", "a moon")]
    film = server.done(morph=names)[0]
    assert film["state"] == "done" and film["end"]["frames"] == Image.open(server.folder / film["name"]).n_frames
    assert requests.get(f"{server.url}/pictures/{film['name']}").headers["content-type"] == "image/webp"


def test_a_dream_that_fails_says_why_and_the_next_one_is_dreamt(page, server):
    dream_of(page, "house " * 90)
    page.wait_for_selector("#status.failed:has-text('tokens')")
    dream_of(page, "|")
    page.wait_for_selector("#wrong:has-text('empty phrase')")
    page.fill("[name=time]", "soon")
    dream_of(page, "a house")
    page.wait_for_selector("#wrong:has-text('takes a number')")
    assert server.done(prompt="a house", steps=1)[0]["state"] == "done"


def test_images_can_be_begun_with_and_no_image_is_told_from_one(page, server, tmp_path):
    Image.new("RGB", (40, 40), "green").save(tmp_path / "green.jpg")
    (tmp_path / "no.png").write_bytes(b"no image")
    page.set_input_files("#image_prompt", tmp_path / "no.png")
    page.wait_for_selector("#wrong:has-text('what was sent is no image')")
    page.set_input_files("#image_prompt", tmp_path / "green.jpg")
    page.wait_for_selector(".chosen:has-text('green.jpg')")
    dream_of(page, "a leaf", steps="1")
    page.wait_for_selector("#of:has-text('a leaf')")
    server.settle()
    name = server.dreams()[-1]["name"]
    assert len(read_recipe(server.folder / name)["settings"]["image_prompt"]) == 1


@pytest.mark.slow
def test_nothing_in_a_prompt_a_recipe_or_a_name_does_anything_to_the_page(page, server):
    for number, words in enumerate(EVIL):
        put(server.folder, words.replace("/", "∕").replace("\ud800", "x") + ".png", words, made=number, model=EVIL[0])
    for words in EVIL[:6]:
        dream_of(page, words, steps="0")
    server.stop_all()
    page.reload()
    page.wait_for_selector("#grid button")
    count = page.locator("#grid button").count()
    for number in range(count):
        page.locator("#grid button").nth(number).click()
        assert page.locator("#picture").evaluate(
            "async (image) => { await image.decode(); return image.naturalWidth; }"
        )
        page.keyboard.press("Escape")
    assert page.locator("script").count() == 1 and page.complaints == []
    assert "<script>alert(1)</script>" in page.locator("#grid .words").all_text_contents()
    for path in server.folder.glob("*alert*"):
        path.unlink()


def raw(
    server: Served, path: str, method: str = "GET", headers: dict[str, str] | None = None, body: str = ""
) -> tuple[int, bytes]:
    """A request with its path as it is: other clients tidy it up."""
    host = server.url.removeprefix("http://")
    connection = http.client.HTTPConnection(host, timeout=60)
    connection.putrequest(method, path, skip_host=True)
    for name, value in ({"Host": host, "Content-Length": str(len(body))} | (headers or {})).items():
        connection.putheader(name, value)
    connection.endheaders(body.encode())
    answer = connection.getresponse()
    return answer.status, answer.read()


STRAY = (
    "../secret.png", "..%2fsecret.png", "%2e%2e/secret.png", "%2e%2e%2fsecret.png", "..%5csecret.png", "....//secret.png",
    "secret.txt", "link.png", "%2fetc%2fpasswd", "/etc/passwd", "secret.png%00.png", ".", "..", "", "manifest.jsonl",
)  # fmt: skip


@pytest.mark.parametrize("name", STRAY)
@pytest.mark.parametrize("room", ["/pictures/", "/thumbs/"])
def test_nothing_outside_the_folder_is_served(server, room, name):
    status, body = raw(server, room + name)
    assert status in (404, 405) and b"secret" not in body.replace(b"there is no such", b"") and b"root:" not in body


@pytest.mark.parametrize(
    "name", ["../secret.png", "/etc/passwd", "link.png", "secret.txt", "..\\secret.png", "upload-../x", 7]
)
@pytest.mark.parametrize("option", ["from", "start", "image_prompt", "morph", "model", "clip"])
def test_no_option_reads_a_file_outside_the_folder(server, option, name):
    before = len(server.dreams())
    answer = server.ask(**{"prompt": "a house", option: [name, name] if option == "morph" else name})
    assert answer.status_code in (400, 404) and "error" in answer.json()
    assert len(server.dreams()) == before


@pytest.mark.parametrize(
    ("body", "kind", "status"),
    [
        ('{"prompt": "x"}', "text/plain", 415), ("{", "application/json", 400), ("[1]", "application/json", 400),
        ('{"prompt": 7}', "application/json", 400), ('{"prompt": ""}', "application/json", 400),
        ('{"prompt": "x", "stepz": 1}', "application/json", 400), ('{"prompt": "x", "steps": "many"}', "application/json", 400),
        ('{"prompt": "x", "variations": 1000000}', "application/json", 400), ("[" * 9999, "application/json", 400),
    ],
)  # fmt: skip
def test_what_is_no_request_gets_a_line_and_nothing_is_dreamt(server, body, kind, status):
    found, answer = raw(server, "/api/dreams", "POST", {"Content-Type": kind}, body)
    assert found == status and len(json.loads(answer)["error"].splitlines()) == 1


def test_other_sites_are_not_answered(server):
    assert raw(server, "/api/pictures", headers={"Host": "evil.example"})[0] == 400
    assert "default-src 'none'" in requests.get(server.url).headers["content-security-policy"]


def test_the_options_are_those_of_the_settings(server, page):
    told = requests.get(f"{server.url}/api/options").json()["options"]
    from bigsleep.settings import OPTIONS

    assert [one["name"] for one in told] == list(OPTIONS)
    for name in set(OPTIONS) - {"start", "image_prompt"}:
        assert page.locator(f"#o-{name}").count() == 1


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [400, 1280])
def test_the_page_fits_and_axe_finds_nothing_grave(chromium, server, scheme, width):  # noqa: F811
    put(server.folder, "a_long_one.png", "w" * 200)
    page = chromium.new_page(color_scheme=scheme, viewport={"width": width, "height": 800})
    page.goto(server.url)
    page.click("#ask summary")
    page.wait_for_selector("#grid button")
    assert grave_violations(page) == [] and page.evaluate("() => document.documentElement.scrollWidth") <= width
    page.locator("#grid button").first.click()
    assert grave_violations(page) == []
    page.close()


def test_a_host_that_others_reach_asks_for_a_password(bigsleep):
    done = bigsleep("web", "--host", "0.0.0.0")
    assert done.returncode == 2 and len(done.stderr.splitlines()) == 1 and "--password" in done.stderr


def test_with_a_password_only_who_knows_it_is_let_in(tmp_path, monkeypatch):
    monkeypatch.setenv("NO_PROXY", "*")
    served = start(tmp_path, tmp_path, "--password", "geheim", *QUICK)
    try:
        assert requests.get(served.url).status_code == 401
        assert requests.get(f"{served.url}/api/pictures", auth=("me", "wrong")).status_code == 401
        assert requests.get(f"{served.url}/api/pictures", auth=("me", "geheim")).json() == {"pictures": []}
    finally:
        served.process.send_signal(signal.SIGINT)
        assert served.process.wait(timeout=60) in (0, 130, -2)


@pytest.mark.slow
def test_ended_with_a_page_open_and_an_answer_awaited_it_says_nothing_and_keeps_the_best(tmp_path, monkeypatch):
    monkeypatch.setenv("NO_PROXY", "*")
    served = start(tmp_path, tmp_path, *QUICK, stderr=subprocess.PIPE)
    following = requests.get(f"{served.url}/api/events", stream=True)
    with ThreadPoolExecutor() as pool:
        awaited = pool.submit(served.done, prompt="a cat", steps=100000)
        while not (dreams := served.dreams()) or not dreams[0]["curve"]:
            time.sleep(0.1)
        served.process.send_signal(signal.SIGINT)
        assert awaited.result(timeout=60)[0]["state"] == "done"
    assert b'"event": "done"' in following.content
    served.process.wait(timeout=60)
    assert served.process.stderr.read().strip() == "" and len(list(tmp_path.glob("*.png"))) == 1


def test_a_port_that_is_taken_is_one_line(server, bigsleep):
    done = bigsleep("web", "--port", server.url.rpartition(":")[2])
    assert done.returncode == 2 and len(done.stderr.splitlines()) == 1 and "--port" in done.stderr


def test_without_the_extra_it_says_what_to_install():
    program = "import sys; sys.modules['starlette'] = None; from bigsleep.commands import main; main(['web'])"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert done.returncode == 2 and done.stderr.strip().endswith("pip install 'bigsleep[web]'")


@pytest.mark.slow
@pytest.mark.parametrize("language", ["bash", "python"])
def test_the_examples_of_the_document_work(server, tmp_path, monkeypatch, language):
    text = (Path(__file__).parent.parent / "docs" / "web.md").read_text()
    program = next(one for one in re.findall(rf"```{language}\n(.*?)```", text, re.DOTALL) if "/api/" in one)
    program = program.replace("http://127.0.0.1:7860", server.url)
    monkeypatch.chdir(tmp_path)
    done = subprocess.run(
        ["bash" if language == "bash" else sys.executable, "-c", program], capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    assert Image.open(tmp_path / "heart.png").size == (128, 128), "as the page was begun"
