"""Traces of requests: the forms that are read, and what is refused with its line."""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path

import pytest

from kvcalc.engines.base.traffic import Request
from kvcalc.errors import InvalidFileError
from kvcalc.io.traces import count_lines, read_lengths, read_trace

TWENTY_MS = Fraction(20, 1000)
EXAMPLES = Path(__file__).parents[2] / "examples" / "traces"
AZURE = """TIMESTAMP,ContextTokens,GeneratedTokens
2023-11-16 18:17:03.9799600,4808,10
2023-11-16 18:17:04.0319600,110,27
2023-11-16 18:17:06.0000000,1,1
"""
MOONCAKE = """{"timestamp": 1000, "input_length": 1100, "output_length": 500, "hash_ids": [46, 47, 48]}
{"timestamp": 4025, "input_length": 512, "output_length": 2, "hash_ids": [46]}
"""


def written(tmp_path, text, name="trace"):
    path = tmp_path / name
    path.write_text(text)
    return path


def test_azures_trace_by_its_times(tmp_path):
    """Times as in AzureLLMInferenceTrace_code.csv: seven digits of a second."""
    requests = list(read_trace(written(tmp_path, AZURE), TWENTY_MS))
    assert [(r.arrival_step, r.prompt, r.output_segment, r.output_tokens) for r in requests] == [
        (0, ((None, 4808),), None, 10),
        (2, ((None, 110),), None, 27),
        (101, ((None, 1),), None, 1),
    ]


def test_mooncakes_trace_by_its_blocks(tmp_path):
    requests = list(read_trace(written(tmp_path, MOONCAKE), Fraction(1)))
    assert requests == [
        Request(1, 0, ((46, 512), (47, 512), (48, 76)), None, 500),
        Request(2, 3, ((46, 512),), None, 2),
    ]


@pytest.mark.parametrize(
    ("text", "want"),
    [
        ("prompt_tokens,output_tokens\n10,2\n20,3\n", [(0, 10, 2), (0, 20, 3)]),
        ("arrival_step,prompt_tokens,output_tokens\n4,10,2\n4,20,3\n\n", [(4, 10, 2), (4, 20, 3)]),
        ("\ufeffoutput_tokens,arrival_seconds,prompt_tokens\n2,0.5,10\n3,0.56,20\n", [(0, 10, 2), (3, 20, 3)]),
        (
            '{"prompt_tokens": 10, "completion_tokens": 2}\n\n{"input_tokens": 7, "output_tokens": 1}',
            [(0, 10, 2), (0, 7, 1)],
        ),
        ('{"prompt": [["a", 4], [null, 6]], "output_tokens": 2, "arrival_step": 9}', [(9, 10, 2)]),
    ],
)
def test_counts(tmp_path, text, want):
    path = written(tmp_path, text)
    requests = list(read_trace(path, TWENTY_MS))
    assert [(r.arrival_step, r.prompt_tokens, r.output_tokens) for r in requests] == want
    assert [tuple(lengths) for lengths in read_lengths(path)] == [row[1:] for row in want]


@pytest.mark.parametrize(
    ("text", "line", "words"),
    [
        ("", "", "contains no request"),
        ("a,b\n1,2\n", ":1", "has no column for prompt tokens in its first line"),
        ("prompt_tokens,output_tokens\n1,2\n1\n", ":3", "has none of output_tokens"),
        ("prompt_tokens,output_tokens\n1,x\n", ":2", "output_tokens must be a whole number of at least 1, not 'x'"),
        ("prompt_tokens,output_tokens\n0,1\n", ":2", "prompt_tokens must be a whole number of at least 1, not '0'"),
        ("prompt_tokens,output_tokens\n1e9,1\n", ":2", "must be a whole number"),
        ('{"prompt_tokens": 1}\n', ":1", "has none of output_tokens"),
        ('{"prompt_tokens": 1, "output_tokens": 1}\n[]\n', ":2", "is not a JSON object on one line"),
        ('{"input_length": 600, "output_length": 1, "hash_ids": [1]}', ":1", "600 tokens are 2 blocks of 512"),
        ('{"prompt": [[1.5, 2]], "output_tokens": 1}', ":1", "prompt must be a list of [segment, tokens]"),
        ("timestamp,prompt_tokens,output_tokens\nnoon,1,1\n", ":2", "timestamp must be milliseconds, or a date"),
        ("arrival_seconds,prompt_tokens,output_tokens\nnan,1,1\n", ":2", "a time must be a number"),
        ("arrival_step,prompt_tokens,output_tokens\n2,1,1\n1,1,1\n", ":3", "comes before the previous request"),
    ],
)
def test_what_is_wrong_is_told_with_its_line(tmp_path, text, line, words):
    path = written(tmp_path, text)
    with pytest.raises(InvalidFileError) as caught:
        list(read_trace(path, TWENTY_MS))
    assert caught.value.where == f"{path}{line}"
    assert words in caught.value.what


def test_times_need_a_step(tmp_path):
    with pytest.raises(InvalidFileError, match="has times, but the duration of a step is unknown") as caught:
        list(read_trace(written(tmp_path, AZURE)))
    assert caught.value.help == "pass --step-ms 25, or with a GPU --step-ms floor"


def test_the_examples_are_read():
    assert {path.name: count_lines(path) for path in EXAMPLES.iterdir()} == {
        "azure.csv": 201,
        "counts.jsonl": 60,
        "mooncake.jsonl": 120,
    }
    for path in EXAMPLES.iterdir():
        assert sum(1 for _ in read_trace(path, TWENTY_MS)) in {200, 60, 120}
