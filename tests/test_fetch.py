"""One file from one address, against a loopback server that cuts, resets, stalls, lies and never ends."""

import hashlib
import os
import ssl
import time

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis.strategies import booleans, integers, lists, sampled_from, tuples

from bigsleep.models import fetch as fetch_module
from bigsleep.models.fetch import FetchFailed, fetch, note_of
from tests import faulty

DATA = os.urandom(300_000)
SHA256 = hashlib.sha256(DATA).hexdigest()


@pytest.fixture
def host(monkeypatch):
    """A server that publishes DATA as /x; waits are short, and a try must bring 1000 bytes."""
    for name in [name for name in os.environ if name.lower().endswith("_proxy")]:
        monkeypatch.delenv(name)
    for name, value in {"STALL": 0.3, "PAUSE": 0.01, "PATIENCE": 2.0, "GAIN": 1000}.items():
        monkeypatch.setattr(fetch_module, name, value)
    with faulty.serving() as host:
        host.files["/x"] = DATA
        yield host


@pytest.fixture
def part(tmp_path):
    return tmp_path / "x.part"


def get(host, part, sha256=SHA256, most=1_000_000, **options) -> bytes:
    found, _ = fetch(f"{host.url}/x", part, most, sha256, quiet=True, **options)
    assert found == hashlib.sha256(part.read_bytes()).hexdigest()
    assert set(part.parent.iterdir()) == {part, note_of(part)}
    note_of(part).unlink()  # as when it gets its final name
    return part.read_bytes()


def test_a_good_server_is_asked_once(host, part):
    assert get(host, part) == DATA and host.ranges() == [None]


@pytest.mark.parametrize("fault", [faulty.cut, faulty.reset, faulty.stall])
def test_what_breaks_off_is_gone_on_with_where_it_broke_off(host, part, fault):
    host.plays["/x"] = [fault(100_000), fault(50_000), faulty.whole]
    assert get(host, part) == DATA
    first, second, third = host.ranges()
    assert first is None and second == "bytes=100000-" and third == "bytes=150000-"
    assert host.asked[1][1]["If-Range"] == faulty.VERSION


def test_a_connection_that_breaks_time_and_again_is_enough_as_long_as_something_comes(host, part):
    host.plays["/x"] = [faulty.cut(20_000)]
    assert get(host, part) == DATA and len(host.asked) == 15


def test_a_part_of_an_earlier_run_is_gone_on_with_and_one_of_another_address_is_not(host, part):
    host.plays["/x"] = [faulty.cut(100_000), faulty.status(404)]
    with pytest.raises(FetchFailed, match="HTTP 404"):
        get(host, part)
    assert part.stat().st_size == 100_000
    host.files["/y"] = DATA[::-1]
    host.plays["/y"] = [faulty.cut(0), faulty.status(404)]
    with pytest.raises(FetchFailed):
        fetch(f"{host.url}/y", part, 1_000_000, quiet=True)
    host.plays["/x"] = [faulty.cut(100_000), faulty.status(404)]
    with pytest.raises(FetchFailed):
        get(host, part)
    host.plays["/x"] = [faulty.whole]
    assert get(host, part) == DATA
    assert host.ranges() == [None, "bytes=100000-", None, None, None, "bytes=100000-", "bytes=100000-"]


def test_a_server_without_range_starts_over(host, part):
    host.plays["/x"] = [faulty.cut(100_000), faulty.without_range]
    assert get(host, part) == DATA and host.ranges() == [None, "bytes=100000-"]


def test_a_server_that_names_no_version_is_not_asked_for_the_rest(host, part):
    host.plays["/x"] = [faulty.cut(100_000, faulty.without_range), faulty.without_range]
    assert get(host, part) == DATA and host.ranges() == [None, None]


@pytest.mark.parametrize("play", [faulty.of_another_version, faulty.from_elsewhere, faulty.status(416)])
def test_two_versions_of_a_file_are_never_put_together(host, part, play):
    host.plays["/x"] = [faulty.cut(100_000), play, faulty.whole]
    assert get(host, part, sha256="") == DATA and host.ranges() == [None, "bytes=100000-", None]


def test_a_part_that_was_damaged_on_the_disk_is_fetched_anew(host, part):
    host.plays["/x"] = [faulty.cut(100_000), faulty.status(404)]
    with pytest.raises(FetchFailed):
        get(host, part)
    part.write_bytes(b"?" * 100_000)
    host.plays["/x"] = [faulty.whole]
    assert get(host, part) == DATA and host.ranges()[-2:] == ["bytes=100000-", None]


def test_a_part_that_is_whole_is_not_asked_for_again(host, part):
    """As after a kill between the last byte and the renaming."""
    host.plays["/x"] = [faulty.cut(100_000), faulty.status(404)]
    with pytest.raises(FetchFailed):
        get(host, part)
    part.write_bytes(DATA)
    assert get(host, part) == DATA and len(host.asked) == 2


@pytest.mark.parametrize(
    ("play", "reason"),
    [
        (faulty.status(404), "HTTP 404"), (faulty.status(200), "empty"), (faulty.status(403), "HTTP 403"),
        (faulty.status(200, b"<p>Sign in</p>", Content_Type="text/html; charset=utf-8"), "web page"),
        (faulty.status(200, b"\n <!DOCTYPE html><html>Sign in</html>", Content_Type="application/octet-stream"), "web page"),
        (faulty.status(200, DATA[:-1]), "SHA256"), (faulty.status(200, DATA + b"x"), "SHA256"),
        (faulty.saying(Content_Length=10**15), "cannot be right"), (faulty.endless, "does not end"),
    ],
)  # fmt: skip
def test_what_is_wrong_for_good_is_asked_for_once_and_thrown_away(host, part, play, reason):
    host.plays["/x"] = [play]
    with pytest.raises(FetchFailed, match=reason):
        get(host, part)
    assert len(host.asked) == 1 and list(part.parent.iterdir()) == []


@pytest.mark.parametrize(
    ("play", "reason"),
    [
        (faulty.status(503), "HTTP 503, 5 times"), (faulty.status(429), "HTTP 429, 5 times"),
        (faulty.cut(0), "5 times"), (faulty.cut(0, faulty.without_range), "5 times"), (faulty.reset(0), "5 times"),
        (faulty.cut(200_000, faulty.without_range), "5 times"), (faulty.stall(0), "5 times"),
        (faulty.trickle, "bytes a second, 5 times"),
    ],
)  # fmt: skip
def test_tries_are_bounded(host, part, play, reason):
    host.plays["/x"] = [play]
    with pytest.raises(FetchFailed, match=reason):
        get(host, part)
    assert len(host.asked) in (5, 6)  # the first try may have brought something


def test_retry_after_is_honoured(host, part):
    host.plays["/x"] = [faulty.status(503, Retry_After=1), faulty.whole]
    began = time.monotonic()
    assert get(host, part) == DATA and 1 <= time.monotonic() - began < 2


def test_a_server_that_wants_to_be_asked_tomorrow_is_left_at_once(host, part):
    host.plays["/x"] = [faulty.status(503, Retry_After=86400)]
    with pytest.raises(FetchFailed, match=r"HTTP 503, to be asked again in \d+ seconds"):
        get(host, part)
    assert len(host.asked) == 1


def test_a_length_that_is_not_told_before_is_no_fault(host, part):
    host.plays["/x"] = [faulty.chunked]
    assert get(host, part) == DATA


def test_chunks_that_break_off_are_noticed(host, part):
    host.plays["/x"] = [faulty.cut(1500, faulty.chunked), faulty.chunked]
    assert get(host, part, sha256="") == DATA and len(host.asked) == 2


def test_what_the_server_promises_is_checked_where_nothing_is_published(host, part):
    right, wrong = hashlib.md5(DATA).hexdigest(), "0" * 32
    for header, is_md5 in (
        ({"ETag": f'"{right}"'}, True),
        ({"ETag": f'"{wrong}"'}, False),
        ({"X_Linked_Etag": SHA256}, True),
    ):
        host.plays["/x"] = [faulty.saying(**header)]
        assert get(host, part, sha256="", etag_is_md5=is_md5) == DATA
    for header in ({"ETag": f'"{wrong}"'}, {"X_Linked_Etag": f'"{"0" * 64}"'}):
        host.plays["/x"] = [faulty.saying(**header)]
        with pytest.raises(FetchFailed, match=r"that it should have"):
            get(host, part, sha256="", etag_is_md5=True)


def test_redirects_are_followed_and_the_hubs_digest_is_read_where_it_redirects(host, part):
    host.files["/real"] = DATA
    host.plays["/x"] = [faulty.status(302, Location="/real", X_Linked_Etag=f'"{SHA256}"')]
    assert get(host, part, sha256="") == DATA
    host.plays["/x"] = [faulty.status(302, Location="/real", X_Linked_Etag=f'"{"0" * 64}"')]
    with pytest.raises(FetchFailed, match="should have"):
        get(host, part, sha256="")


def test_redirects_without_end_end(host, part):
    host.plays["/x"] = [faulty.status(302, Location="/x")]
    with pytest.raises(FetchFailed, match="redirects"):
        get(host, part)


def test_a_redirect_to_plain_http_is_not_followed(host, part, tmp_path, monkeypatch):
    trustme = pytest.importorskip("trustme")
    authority = trustme.CA()
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    authority.issue_cert("localhost").configure_cert(context)
    certificate = tmp_path.parent / f"{tmp_path.name}.pem"
    authority.cert_pem.write_to_path(str(certificate))
    with faulty.serving(context) as safe:
        safe.plays["/x"] = [faulty.status(302, Location=f"{host.url}/x")]
        with pytest.raises(FetchFailed, match="certificate"):
            get(safe, part)
        monkeypatch.setenv("REQUESTS_CA_BUNDLE", str(certificate))
        with pytest.raises(FetchFailed, match="without encryption"):
            get(safe, part)
        assert host.asked == []
        safe.files["/x"], safe.plays["/x"] = DATA, [faulty.whole]
        assert get(safe, part) == DATA


def test_where_nobody_answers_that_is_known_at_once(host, part):
    for url in ("http://127.0.0.1:9/x", "http://no-such-host.invalid/x"):
        began = time.monotonic()
        with pytest.raises(FetchFailed, match="no answer"):
            fetch(url, part, 1000, quiet=True)
        assert time.monotonic() - began < 5


def test_proxies_are_honoured(host, part, monkeypatch):
    """A proxy is asked for the whole address."""
    monkeypatch.setenv("http_proxy", host.url)
    host.files["http://weights.invalid/x"] = DATA
    fetch("http://weights.invalid/x", part, 1_000_000, SHA256, quiet=True)
    assert part.read_bytes() == DATA


FAULTS = {
    "cut": faulty.cut, "reset": faulty.reset, "without range": lambda count: faulty.cut(count, faulty.without_range),
    "in chunks": lambda count: faulty.cut(count, faulty.chunked), "another version": lambda _: faulty.of_another_version,
    "elsewhere": lambda _: faulty.from_elsewhere, "503": lambda _: faulty.status(503), "416": lambda _: faulty.status(416),
    "404": lambda _: faulty.status(404), "page": lambda _: faulty.status(200, b"<html>", Content_Type="text/html"),
}  # fmt: skip


@settings(max_examples=100, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(lists(tuples(sampled_from(sorted(FAULTS)), integers(0, len(DATA))), max_size=8), booleans())
def test_whatever_happens_on_the_way_it_is_the_file_or_an_error(host, tmp_path_factory, faults, known):
    part = tmp_path_factory.mktemp("any") / "x.part"
    host.plays["/x"] = [*(FAULTS[name](count) for name, count in faults), faulty.whole]
    host.asked.clear()
    try:
        assert get(host, part, sha256=SHA256 if known else "") == DATA
    except FetchFailed as error:
        assert str(error) and "\n" not in str(error)
    assert len(host.asked) <= len(faults) + 1
