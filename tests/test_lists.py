"""Lists from anywhere: whatever the bytes, they are jobs or one line that names the list."""

import io
import json

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from bigsleep import BigsleepError
from bigsleep.lists import read_jobs
from bigsleep.settings import OPTIONS

SOURCES = st.sampled_from(["stdin", "x.csv", "x.jsonl", "x.txt"])
NAMES = st.sampled_from(["prompt", "Prompt", "best-of", *OPTIONS, "nothing", ""])
TEXT = st.text(st.characters(exclude_categories=[]), max_size=30)
CELLS = TEXT | st.sampled_from(
    ['a "cat', '""', '"', "9" * 5000, "1e999", "nan", "-0", "٣", "1_0", "a\0b", "x" * 140_000]
)
VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.just(10**400) | st.floats() | TEXT,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(TEXT, inner, max_size=3),
    max_leaves=5,
)
LINE_ENDS = st.sampled_from(["\n", "\r\n", "\r", "\n\n", "\u2028", "\x85"])


def jobs_or_one_line(data: bytes, source: str) -> None:
    try:
        jobs = read_jobs(data, source, {})
    except BigsleepError as error:
        assert error.usage and source in str(error)
    else:
        assert all(isinstance(job.prompt, str) for job in jobs) and len({job.key for job in jobs}) == len(jobs)


@given(st.binary(), SOURCES)
@example(b"\xef\xbb\xbf\xef\xbb\xbfprompt,steps\na,1", "stdin")
@example("prompt,steps\nä,1".encode("utf-16"), "x.csv")
@example(b"\0\0\0", "x.txt")
def test_any_bytes(data, source):
    jobs_or_one_line(data, source)


@given(st.lists(NAMES, max_size=4), st.lists(st.lists(CELLS, max_size=4), max_size=4), LINE_ENDS, SOURCES)
def test_any_table(header, rows, end, source):
    text = end.join(",".join(cells) for cells in [header, *rows])
    jobs_or_one_line(text.encode("utf-8", "surrogatepass"), source)


@given(st.lists(st.dictionaries(NAMES, VALUES, max_size=4), max_size=4), st.booleans(), LINE_ENDS, SOURCES)
@example([{"lr": 10**400}], True, "\n", "x.jsonl")
def test_any_json(rows, with_prompt, end, source):
    text = end.join(json.dumps(row | ({"prompt": "a cat"} if with_prompt else {})) for row in rows)
    jobs_or_one_line(text.encode(), source)


@pytest.mark.parametrize("depth", [500, 900, 950, 980, 990, 1000, 2000, 100_000])
@pytest.mark.parametrize(("opening", "closing"), [("[", "]"), ('{"a":', "}"), ("[", "")])
def test_json_nested_deeper_than_any_parser_goes(depth, opening, closing):
    row = f'{{"prompt": "a cat", "steps": {opening * depth}1{closing * depth}}}'
    with pytest.raises(BigsleepError, match=r"x\.jsonl, line 1"):
        read_jobs(row.encode(), "x.jsonl", {})


def test_a_prompt_that_is_given_twice_is_text_all_the_same():
    with pytest.raises(BigsleepError, match="line 1"):
        read_jobs(b'{"prompt": "a cat", "Prompt": 5}', "x.jsonl", {})


def test_a_line_of_many_megabytes_is_one_prompt():
    (job,) = read_jobs(b"x" * 20_000_000, "stdin", {})
    assert len(job.prompt) == 20_000_000


def test_a_quote_that_is_never_closed_names_the_list():
    text = io.StringIO()
    text.write('prompt\n"a cat\n')
    text.writelines(f"line {i}\n" for i in range(100_000))
    with pytest.raises(BigsleepError, match=r"x\.csv, line \d+"):
        read_jobs(text.getvalue().encode(), "x.csv", {})
