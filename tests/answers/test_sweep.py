"""Sweeps: arrays of points, exact or refused."""

from __future__ import annotations

import numpy as np
import pytest

import kvcalc

R1 = kvcalc.load("r1")
GEMMA = kvcalc.load("gemma-3-27b")


def test_tokens_and_sequences_broadcast():
    swept = kvcalc.sweep(GEMMA, tokens=[[1], [8192], [131072]], sequences=[1, 2])
    assert swept.tolist() == [[507904, 1015808], [1107296256, 2214592512], [11173625856, 22347251712]]


def test_several_models_are_stacked():
    swept = kvcalc.sweep([R1, GEMMA], tokens=np.array([1, 131072]))
    assert swept.tolist() == [[70272, 9210691584], [507904, 11173625856]]


def test_engine_settings_count():
    assert kvcalc.sweep(GEMMA, tokens=131072, engine_settings={"window": "full"}) == 66571993088


def test_what_would_wrap_is_refused_with_the_number():
    tokens = np.full(3, 10**12)
    with pytest.raises(kvcalc.InvalidValueError, match="a total of 70,272,000,000,000,000,000,000 bytes does not fit"):
        kvcalc.sweep(R1, tokens=tokens, sequences=10**6)


def test_the_largest_total_that_fits_is_given():
    sequences = (2**63 - 1) // (70_272 * 10**6)
    assert kvcalc.sweep(R1, tokens=10**6, sequences=sequences) == 70_272 * 10**6 * sequences
    with pytest.raises(kvcalc.InvalidValueError):
        kvcalc.sweep(R1, tokens=10**6, sequences=sequences + 1)


@pytest.mark.parametrize(
    ("tokens", "message"),
    [
        ([0, 5], "tokens must be at least 1, not 0"),
        ([1.5], "tokens must be whole numbers, not of numpy dtype float64"),
        ([True], "tokens must be whole numbers, not of numpy dtype bool"),
        (
            np.array([2**64 - 1], dtype=np.uint64),
            "tokens must be at most 1,000,000,000,000, not 18,446,744,073,709,551,615",
        ),
        ([10**13], "tokens must be at most 1,000,000,000,000, not 10,000,000,000,000"),
        (["many"], "tokens must be a positive whole number, not 'many'"),
    ],
)
def test_bad_points_are_refused(tokens, message):
    with pytest.raises(kvcalc.InvalidValueError, match=f"^{message}$"):
        kvcalc.sweep(R1, tokens=tokens)


def test_small_integer_types_do_not_wrap():
    assert kvcalc.sweep(R1, tokens=np.array([200], dtype=np.uint8)).tolist() == [200 * 70_272]


def test_no_points_are_no_totals():
    assert kvcalc.sweep(R1, tokens=np.array([], dtype=np.int64)).tolist() == []


def test_shapes_that_do_not_go_together_are_named():
    with pytest.raises(
        kvcalc.InvalidValueError, match=r"tokens of shape \(2,\) and sequences of shape \(3,\) do not broadcast"
    ):
        kvcalc.sweep(R1, tokens=[1, 2], sequences=[1, 2, 3])


def test_ragged_lists_are_refused():
    with pytest.raises(kvcalc.InvalidValueError, match="tokens must be an array of whole numbers"):
        kvcalc.sweep(R1, tokens=[[1, 2], [3]])


def test_no_models_are_no_totals():
    assert kvcalc.sweep([], tokens=[1, 2]).shape == (0, 2)
