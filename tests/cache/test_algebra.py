"""Laws of the expressions over t: what each says of itself is what counting finds, whatever it is made of."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from slot_laws import check
from strategies import expressions, few, starts

from kvcalc.cache.slots.algebra import Stretch
from kvcalc.cache.slots.primitives import (
    PROMPT,
    TOKENS,
    Above,
    Anew,
    AtMost,
    Ceil,
    Constant,
    Floor,
    Lower,
    Remainder,
    Sum,
    Switch,
)

HUGE = 10**12


# ---- numbers


@pytest.mark.parametrize(
    ("expression", "slots"),
    [
        (TOKENS, {0: 0, 5: 5}),
        (Constant(3), {0: 3, 5: 3}),
        (TOKENS + 2, {0: 2, 5: 7}),
        (TOKENS - 2, {0: -2, 5: 3}),
        (3 * TOKENS + 2 * Constant(5), {0: 10, 5: 25}),
        (TOKENS - Floor(TOKENS, 1, 2), {4: 2, 5: 3}),
        (Floor(TOKENS, 2, 3), {0: 0, 1: 0, 2: 1, 3: 2, 4: 2}),
        (Ceil(TOKENS, 2, 3), {0: 0, 1: 1, 2: 2, 3: 2, 4: 3}),
        (Remainder(TOKENS, 3), {2: 2, 3: 0, 4: 1}),
        (AtMost(TOKENS, 3), {2: 2, 3: 3, 4: 3}),
        (Above(TOKENS, 3), {2: 0, 3: 0, 4: 1}),
        (Lower(TOKENS, Ceil(TOKENS, 1, 2) + 2), {3: 3, 4: 4, 5: 5, 6: 5}),
        (Switch(3, TOKENS, Constant(1)), {2: 2, 3: 1}),
        (Anew(TOKENS), {2: 2}),
    ],
    ids=repr,
)
def test_primitives_count(expression, slots):
    assert {tokens: expression.slots(tokens) for tokens in slots} == slots
    assert expression.slots(np.array([*slots])).tolist() == [*slots.values()]


@pytest.mark.parametrize(
    ("expression", "stretches"),
    [
        (TOKENS, [(0, 1, 1)]),
        (Constant(3), [(0, 1, 0)]),
        (3 * TOKENS + 2, [(0, 1, 3)]),
        (Floor(TOKENS, 2, 3), [(0, 3, 2)]),
        (Ceil(TOKENS, 4, 6), [(0, 3, 2)]),
        (Ceil(TOKENS, 6, 3), [(0, 1, 2)]),
        (Floor(TOKENS, 0, 3), [(0, 1, 0)]),
        (Remainder(4 * TOKENS, 6), [(0, 3, 0)]),
        (AtMost(TOKENS, 3), [(0, 1, 1), (3, 1, 0)]),
        (Above(2 * TOKENS, 5), [(0, 1, 0), (3, 1, 2)]),
        (AtMost(TOKENS, 0), [(0, 1, 0)]),
        (Switch(4, TOKENS, Ceil(TOKENS, 1, 2)), [(0, 1, 1), (4, 2, 1)]),
        (Lower(TOKENS, Ceil(TOKENS, 3, 10) + 4), [(0, 1, 1), (6, 10, 3)]),
        (AtMost(Remainder(TOKENS, 5), 3), [(0, 5, 0)]),
        (AtMost(Remainder(TOKENS, 5) + 10, 3), [(0, 1, 0)]),
        (AtMost(Remainder(TOKENS, 5) + 3, 3), [(0, 1, 0)]),
        (Above(Switch(2, Remainder(TOKENS, 5), Constant(9)), 3), [(0, 1, 0), (2, 1, 0)]),
        (Lower(Floor(TOKENS, 1, 2) + Remainder(TOKENS, 3) - 1, Floor(TOKENS, 1, 2)), [(0, 6, 3)]),
        (AtMost(Floor(TOKENS, 1, 4) + Remainder(TOKENS, 4), 3), [(0, 4, 1), (3, 1, 0), (4, 4, 1), (6, 1, 0), (8, 4, 1), (9, 1, 0)]),
        (AtMost(Constant(9) - AtMost(TOKENS, 6), 5), [(0, 1, 0), (5, 1, -1), (6, 1, 0)]),
    ],
    ids=repr,
)  # fmt: skip
def test_how_primitives_repeat(expression, stretches):
    assert [tuple(stretch) for stretch in expression.stretches] == stretches


def test_inside_of_a_step_a_token_more_is_there():
    assert [e.in_step(5) for e in (TOKENS, Constant(3), AtMost(TOKENS, 5), Anew(AtMost(TOKENS, 5)))] == [6, 3, 5, 6]
    assert (2 * Anew(AtMost(TOKENS, 5)) + 1).in_step(5) == 13
    assert Anew(AtMost(TOKENS, 5)).over(Above(TOKENS, 2)).in_step(5) == 4


def test_one_after_the_other():
    inner = AtMost(TOKENS, 6)
    assert Above(TOKENS, 4).over(inner) == Above(inner, 4)
    assert Constant(3).over(inner) == Constant(3)
    assert (TOKENS + 1).over(inner).over(2 * TOKENS).slots(4) == 7
    assert Switch(4, TOKENS, Constant(0)).over(inner).stretches[1] == Stretch(4, 1, 0)
    assert Above(PROMPT, 4).takes_all_for_prompt
    assert not Above(PROMPT, 4).over(inner).takes_all_for_prompt
    assert Above(TOKENS, 4).over(AtMost(PROMPT, 6)).takes_all_for_prompt


def test_expressions_are_values():
    assert AtMost(TOKENS, 3) == AtMost(TOKENS, 3) != AtMost(TOKENS, 4)
    assert AtMost(TOKENS, 3) != Above(TOKENS, 3)
    assert TOKENS != PROMPT
    assert Anew(TOKENS) != 3
    assert len({Floor(TOKENS, 1, 2), Floor(TOKENS, 1, 2), Ceil(TOKENS, 1, 2)}) == 2
    assert repr(AtMost(TOKENS, 3)) == "AtMost((Cached(False),), 3)"


# ---- laws


@settings(max_examples=150)
@given(expressions())
@example(AtMost(Remainder(TOKENS, 7), 3))
@example(Switch(3, TOKENS, Constant(0)).over(Remainder(TOKENS, 5)))
@example(Lower(TOKENS - AtMost(TOKENS, 9), Floor(TOKENS, 1, 3)))
@example(Floor(Constant(20) - AtMost(TOKENS, 17), 2, 3))
@example(Above(TOKENS - 10, 0) + Remainder(TOKENS - 5, 3))
def test_what_an_expression_answers_is_what_counting_finds(expression):
    check(expression)


@given(expressions(), st.integers(0, 200), st.integers(0, 60))
def test_bounds_hold_and_are_exact_at_a_point(expression, first, more):
    numbers = [expression.slots(tokens) for tokens in range(first, first + more + 1)]
    least, most = expression.bounds(first, first + more)
    assert least <= min(numbers) <= max(numbers) <= most
    assert expression.bounds(first, first) == (numbers[0], numbers[0])


@given(expressions(), expressions(), st.integers(0, 100))
def test_one_after_the_other_is_one_of_the_other(outer, inner, tokens):
    held = inner.slots(tokens)
    if held >= 0:
        assert outer.over(inner).slots(tokens) == outer.slots(held)


@given(expressions(), st.integers(0, 200))
def test_a_step_is_that_of_one_token_more_where_nothing_is_chosen_anew(expression, tokens):
    if "Anew" not in repr(expression):
        assert expression.in_step(tokens) == expression.slots(tokens + 1)


@given(few, starts, st.integers(1, 10**6), st.integers(0, HUGE**2))
def test_what_is_far_away_is_found_as_fast(period, start, weight, limit):
    """By division: the first above a limit of 24 digits, of a sum whose period no one could walk."""
    total = Sum(
        (weight, Ceil(Above(TOKENS, start), 999_983, 1_000_003)),
        (3, Remainder(TOKENS, period)),
        (7, AtMost(TOKENS, 10**9)),
    )
    found = total.first_above(limit)
    assert total.slots(found) > limit
    assert all(total.slots(t) <= limit for t in range(max(0, found - 30), found))


@given(st.integers(1, 10**9), st.integers(1, 10**12))
@example(10**7, 10**8)  # 10^19 is between 2^63 and 2^64
def test_no_product_in_an_array_wraps(times, per):
    tokens = np.array([0, 1, 10**6, HUGE])
    for share in (Floor(TOKENS, min(times, per), per), Ceil(TOKENS, min(times, per), per)):
        assert share.slots(tokens).tolist() == [share.slots(int(t)) for t in tokens]
        assert share.slots(tokens).dtype == np.int64
