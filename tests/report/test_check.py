"""Findings that one can read: what is needed and what there is, the cause, and the next step."""

from __future__ import annotations

import pytest

from kvcalc.report.check import CheckReport, Finding
from kvcalc.units import GIB, IN_FULL, KIB, MIB, common_scale

LIMIT = ("h200 ", 140 * GIB, " x 0.9 - ", 46 * GIB, " weights")
FINDING = Finding("chat", "r1", 1000, 4, "fp8", 100 * GIB, 80 * GIB, LIMIT, 800, 3, False)


@pytest.mark.parametrize(
    ("changed", "lines"),
    [
        (
            {},
            (
                "needs 100.00 GiB, has 80.00 GiB: 20.00 GiB short",
                "r1, 1,000 tokens x 4 sequences, fp8; h200 140.00 GiB x 0.9 - 46.00 GiB weights",
                "would fit: 3 sequences of 1,000 tokens, or 4 sequences of 800 tokens",
            ),
        ),
        (
            {"available_bytes": 120 * GIB, "fits": True, "parallel": "TP 2"},
            (
                "needs 100.00 GiB on each GPU, has 120.00 GiB",
                "r1, 1,000 tokens x 4 sequences, fp8, TP 2; h200 140.00 GiB x 0.9 - 46.00 GiB weights",
            ),
        ),
        (
            {"available_bytes": 120 * GIB, "engine": "vllm", "limit": ("budget of ", 120 * GIB), "max_tokens": 0},
            (
                "needs 100.00 GiB, has 120.00 GiB, but the settings of vllm allow less",
                "r1, 1,000 tokens x 4 sequences, fp8; budget of 120.00 GiB",
                "would fit: 3 sequences of 1,000 tokens",
            ),
        ),
        (
            {"needed_bytes": 3 * MIB, "available_bytes": KIB, "limit": ("budget of ", KIB), "max_sequences": None},
            (
                "needs 3.00 MiB, has 0.00 MiB: 3.00 MiB short",
                "r1, 1,000 tokens x 4 sequences, fp8; budget of 0.00 MiB",
                "would fit: 4 sequences of 800 tokens",
            ),
        ),
        (
            {"available_bytes": -GIB, "limit": ("x",), "max_tokens": 0, "max_sequences": 0},
            (
                "needs 100.00 GiB, has -1.00 GiB: 101.00 GiB short",
                "r1, 1,000 tokens x 4 sequences, fp8; x",
                "nothing fits: weights and reserve take all memory; use more or larger GPUs",
            ),
        ),
        (
            {"available_bytes": 7, "limit": ("x",), "max_tokens": 0, "max_sequences": 0},
            (
                "needs 100.00 GiB, has 0.00 GiB: 100.00 GiB short",
                "r1, 1,000 tokens x 4 sequences, fp8; x",
                "nothing fits, not even one sequence of one token",
            ),
        ),
    ],
)
def test_a_finding_is_at_most_three_lines_in_one_unit(changed, lines):
    assert FINDING._replace(**changed).lines() == lines


def test_bytes_are_in_full_where_they_are_asked_for_and_in_json():
    exact = "needs 107,374,182,400 bytes, has 85,899,345,920 bytes: 21,474,836,480 bytes short"
    assert FINDING.lines(exact=True)[0] == exact
    assert FINDING.to_dict()["message"].startswith(f"{exact}; r1, ")
    assert FINDING.to_dict()["limit"] == "h200 150,323,855,360 bytes x 0.9 - 49,392,123,904 bytes weights"
    assert CheckReport((FINDING,), exact=True).sheets()[0].points[0].lines[0] == exact
    assert CheckReport((FINDING,), exact=True).notices()[0].lines[0] == exact


@pytest.mark.parametrize(
    ("numbers", "unit"),
    [
        ((0,), "bytes"),
        ((1023,), "bytes"),
        ((1024, 3), "KiB"),
        ((-MIB,), "MiB"),
        ((GIB, 1), "GiB"),
        ((9999 * GIB,), "GiB"),
    ],
)
def test_one_unit_is_that_of_the_largest_number(numbers, unit):
    assert common_scale(*numbers).name == unit


def test_words_and_bytes():
    assert IN_FULL.words(("a ", 1, " b ", 1000)) == "a 1 byte b 1,000 bytes"
    assert common_scale(GIB).words(("a ", GIB // 2)) == "a 0.50 GiB"
