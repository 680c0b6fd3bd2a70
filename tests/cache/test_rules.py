"""Named slot rules: their numbers, counted by hand, their words, and what all of them answer."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from slot_laws import check

from kvcalc.cache.slots.engines import (
    blocks,
    blocks_while_read,
    in_blocks,
    in_steps,
    room_and_steps,
    switched,
    whole_blocks,
    whole_until_next,
)
from kvcalc.cache.slots.layers import (
    ENCODER_TOKENS,
    EVERY_TOKEN,
    all_but_last,
    current_chunk,
    every_nth,
    last_tokens,
    once,
    pending,
    prompt_and_last,
    settled,
)
from kvcalc.cache.slots.methods import (
    all_but_first,
    chosen,
    chosen_share,
    cut_prompt,
    every_token_and_next,
    first_tokens,
    floored_shares,
    newest,
    packed,
    share_of_prompt,
    share_of_tokens,
    sinks_and_last,
    window_and_share,
    within,
)
from kvcalc.cache.slots.rule import ordinal
from kvcalc.errors import InvalidValueError
from kvcalc.methods._pyramid import Budget, pyramid

# ---- numbers

ROWS = [
    (EVERY_TOKEN, "every token", {0: 0, 7: 7}),
    (last_tokens(6), "last 6", {5: 5, 6: 6, 7: 6}),
    (current_chunk(6), "chunk of 6", {5: 5, 6: 6, 13: 6}),
    (prompt_and_last(6), "prompt + last 6", {5: 5, 100: 100}),
    (every_nth(4), "every 4th token", {3: 0, 4: 1, 11: 2}),
    (pending(4), "fewer than 4 pending", {3: 3, 4: 0, 9: 1}),
    (pending(4, 6), "fewer than 4 pending", {5: 0, 6: 0, 9: 3, 10: 0}),
    (settled(4), "all but those pending for 4", {3: 0, 4: 4, 9: 8}),
    (settled(4, 6), "all but those pending for 4", {5: 5, 6: 6, 9: 6, 10: 10, 13: 10}),
    (once(), "once", {0: 1, 100: 1}),
    (once(3, 5, "entries"), "entries from 5 on", {4: 0, 5: 3, 100: 3}),
    (all_but_last(4), "all but the last 4", {4: 0, 5: 1, 100: 96}),
    (whole_blocks(4), "blocks of 4", {0: 0, 4: 1, 5: 2}),
    (
        blocks_while_read(4, 10, 60, lambda start: max(0, start - 10) // 4, "in sight"),
        "in sight",
        {0: 0, 4: 1, 20: 5, 30: 6, 99: 6},
    ),
    (whole_blocks(4, 10, 1), "blocks of 4, up to 10", {0: 1, 4: 2, 9: 4, 100: 4}),
    (in_steps(256, 512), "in steps of 256", {0: 0, 1: 512, 256: 512, 257: 1024}),
    (in_steps(256, 256, 512, "two steps"), "two steps", {256: 256, 257: 512, 1000: 512}),
    (room_and_steps(5, 4), "room for 5, then in steps of 4", {0: 0, 1: 5, 5: 5, 6: 9, 9: 9, 10: 13}),
    (room_and_steps(5, 4, limit=12, words="a ring"), "a ring", {1: 5, 6: 9, 10: 12, 99: 12}),
    (switched(in_steps(8, 8), 13, once(9)), "in steps of 8; from 13 on once", {8: 8, 12: 16, 13: 9, 99: 9}),
    (
        whole_until_next(cut_prompt(6, 10), 10),
        "the whole prompt until the next token, then 6 of the prompt, and every token after it",
        {5: 5, 10: 10, 11: 7, 15: 11},
    ),
    (
        whole_until_next(cut_prompt(6), None),
        "the whole prompt until the next token, then 6 of the prompt",
        {10: 10, 11: 11},
    ),
    (blocks(4, EVERY_TOKEN), "blocks of 4 for every token", {0: 0, 1: 1, 4: 1, 5: 2}),
    (blocks(4, EVERY_TOKEN, 1), "blocks of 4 for every token", {0: 1, 3: 1, 4: 2}),
    (blocks(4, EVERY_TOKEN, 1, 3), "blocks of 4 for every token, 3 at least", {0: 3, 11: 3, 12: 4}),
    (in_blocks(8, share_of_tokens(1, 4), 1), "1 of 4, in blocks of 8", {0: 8, 28: 8, 29: 16}),
    (in_blocks(8, last_tokens(20), 1, 6), "last 20, in blocks of 8, room for 48 at least", {0: 48, 1000: 48}),
    (in_blocks(8, last_tokens(20), 1, 2), "last 20, in blocks of 8, room for 16 at least", {15: 16, 16: 24, 99: 24}),
    (first_tokens(6), "first 6", {1: 1, 6: 6, 7: 6}),
    (all_but_first(6), "all but the first 6", {1: 0, 6: 0, 7: 1, 10: 4}),
    (newest(6), "newest 6", {5: 5, 7: 6}),
    (every_token_and_next(), "every token and the next", {1: 2, 100: 101}),
    (sinks_and_last(6, 2), "2 sinks + last 4", {1: 1, 6: 6, 7: 6, 100: 6}),
    (chosen(6, "best 6"), "best 6", {1: 1, 6: 6, 100: 6}),
    (share_of_tokens(1, 4), "1 of 4", {0: 0, 1: 1, 4: 1, 5: 2, 8: 2, 9: 3}),
    (share_of_tokens(2, 5, 7), "first 7 + 2 of 5", {7: 7, 11: 11, 12: 12, 13: 13, 14: 13}),
    (share_of_tokens(0, 1, 4), "first 4", {3: 3, 4: 4, 5: 4, 100: 4}),
    (share_of_tokens(1, 1, 4), "first 4 + 1 of 1", {3: 3, 100: 100}),
    (chosen_share(3, 10, 4), "first 4 + 3 of 10", {1: 1, 4: 4, 5: 5, 6: 6, 7: 7, 8: 7, 10: 7, 11: 8, 100: 34}),
    (window_and_share(20, 1, 8), "last 20 + 1 of 8 before", {19: 19, 20: 20, 21: 21, 22: 21, 28: 21, 29: 22}),
    (window_and_share(20, 2, 5), "last 20 + 2 of 5 before", {22: 21, 23: 22, 25: 22, 26: 23}),
    (cut_prompt(6), "6 of the prompt", {5: 5, 6: 6, 100: 6}),
    (cut_prompt(6, 10), "6 of the prompt, and every token after it", {5: 5, 6: 6, 10: 6, 11: 7, 15: 11}),
    (cut_prompt(6, 4), "6 of the prompt, and every token after it", {4: 4, 5: 5, 6: 6, 7: 7, 15: 15}),
    (share_of_prompt(1, 2), "1 of 2 of the prompt", {1: 1, 2: 1, 3: 2, 101: 51}),
    (share_of_prompt(1, 2, 10), "1 of 2 of the prompt from 10 on", {9: 9, 10: 5, 11: 6}),
    (share_of_prompt(9, 10, 1), "9 of 10 of the prompt from 1 on", {1: 1, 10: 9, 11: 10, 20: 18}),
    (floored_shares((1, 4), (1, 5)), "1 of 4 and 1 of 5 of the prompt", {1: 0, 4: 1, 5: 2, 20: 9}),
    (pyramid(Budget(4, 128, 8, 20), 0), "layer 0's share of 128 per layer", {127: 127, 200: 128, 6000: 242}),
    (pyramid(Budget(4, 128, 8, 20), 3), "layer 3's share of 128 per layer", {127: 127, 200: 128, 6000: 14}),
    (pyramid(Budget(7, 26, 6, 3), 4), "layer 4's share of 26 per layer", {26: 26, 39: 26, 40: 24, 99: 24}),
    (pyramid(Budget(2, 26, 6, 3), 1), "layer 1's share of 26 per layer", {39: 26, 40: 12}),
    (pyramid(Budget(1, 26, 6, 20), 0), "layer 0's share of 26 per layer", {26: 26, 39: 26, 40: 40, 99: 45}),
    (packed(1, 2, EVERY_TOKEN), "1 of each, 2 to a slot: every token", {1: 1, 2: 1, 3: 2, 333: 167}),
    (packed(3, 2, EVERY_TOKEN), "3 of each, 2 to a slot: every token", {1: 2, 2: 3, 3: 5}),
    (packed(5, 1, last_tokens(7)), "5 for each: last 7", {1: 5, 7: 35, 8: 35}),
    (packed(1, 1, EVERY_TOKEN), "every token", {1: 1, 9: 9}),
    (
        packed(3, 10, settled(4, 6)),
        "3 of each, 10 to a slot: all but those pending for 4",
        {1: 1, 6: 2, 9: 2, 10: 3, 14: 5},
    ),
    (packed(4096, 100, EVERY_TOKEN), "4,096 of each, 100 to a slot: every token", {1: 41, 100: 4096}),
    (packed(3, 2, pending(4, 6)), "3 of each, 2 to a slot: fewer than 4 pending", {6: 0, 7: 2, 9: 5, 10: 0}),
    (packed(1, 3, share_of_tokens(1, 2)), "1 of each, 3 to a slot: 1 of 2", {6: 1, 7: 2, 12: 2, 13: 3}),
    (
        within(pending(4), cut_prompt(6, 10)),
        "fewer than 4 pending of 6 of the prompt, and every token after it",
        {3: 3, 4: 0, 6: 2, 10: 2, 11: 3, 12: 0},
    ),
    (within(all_but_last(4), sinks_and_last(6, 2)), "all but the last 4 of 2 sinks + last 4", {4: 0, 5: 1, 100: 2}),
    (within(newest(5), cut_prompt(3, 30)), "newest 5 of 3 of the prompt, and every token after it", {30: 3, 33: 5}),
    (
        within(once(6, 7, "newest 6 again"), cut_prompt(3, 30)),
        "newest 6 again from 7 on of 3 of the prompt, and every token after it",
        {30: 0, 33: 0, 34: 6},
    ),
    (
        within(every_nth(4), share_of_prompt(2, 3, 10)),
        "every 4th token of 2 of 3 of the prompt from 10 on",
        {9: 2, 10: 1, 11: 2, 16: 2, 17: 3},
    ),
    (
        within(pending(3), share_of_prompt(1, 2, 8)),
        "fewer than 3 pending of 1 of 2 of the prompt from 8 on",
        {7: 1, 8: 1},
    ),
    (within(settled(4), EVERY_TOKEN), "all but those pending for 4", {3: 0, 4: 4}),
]
RULES = [rule for rule, _, _ in ROWS]


@pytest.mark.parametrize(("rule", "words", "slots"), ROWS, ids=[words for _, words, _ in ROWS])
def test_slots_and_words_are_those_counted_by_hand(rule, words, slots):
    assert str(rule) == words
    assert {tokens: rule.slots(tokens) for tokens in slots} == slots


@pytest.mark.parametrize("rule", RULES, ids=str)
def test_what_a_rule_answers_is_what_counting_finds(rule):
    check(rule)


@pytest.mark.parametrize(
    ("rule", "saturates_at"),
    [
        (EVERY_TOKEN, None),
        (last_tokens(6), 6),
        (pending(4), 3),
        (pending(4, 6), 9),
        (pending(1), 0),
        (once(), 0),
        (once(3, 5), 5),
        (whole_blocks(4, 10), 9),
        (in_steps(256, 256, 512), 257),
        (room_and_steps(5, 4, limit=12), 10),
        (switched(in_steps(8, 8), 13, once(9)), 9),
        (cut_prompt(6), 6),
        (cut_prompt(6, 10), None),
        (share_of_tokens(0, 1, 4), 4),
        (within(first_tokens(4), cut_prompt(3, 30)), 31),
        (within(every_nth(4), last_tokens(30)), 28),
        (within(once(6, 7), cut_prompt(3, 30)), 34),
        (within(once(6, 7), cut_prompt(3)), 0),
    ],
    ids=str,
)
def test_where_rules_end(rule, saturates_at):
    assert rule.saturates_at == saturates_at


@pytest.mark.parametrize(
    ("rule", "period"),
    [
        (EVERY_TOKEN, 1),
        (last_tokens(6), 1),
        (pending(4, 6), 4),
        (in_steps(256, 512), 256),
        (packed(1, 2, EVERY_TOKEN), 2),
        (packed(4096, 100, EVERY_TOKEN), 25),
        (packed(4096, 100, share_of_tokens(1, 2)), 50),
        (packed(4096, 100, share_of_tokens(3, 10)), 250),
        (in_blocks(256, window_and_share(512, 2, 5)), 5 * 128 * 2),
        (floored_shares((1, 4), (1, 5)), 20),
    ],
    ids=str,
)
def test_after_how_many_tokens_growth_repeats(rule, period):
    assert rule.period == period


# ---- inside of a step


@pytest.mark.parametrize(
    ("rule", "in_step"),
    [
        (EVERY_TOKEN, {5: 6}),
        (last_tokens(6), {5: 6, 6: 6}),
        (sinks_and_last(6, 2), {6: 6}),
        (chosen(6, "best 6"), {3: 4, 6: 7, 100: 7}),
        (packed(3, 2, chosen(6, "best 6")), {100: 11}),
        (blocks(4, chosen(8, "best 8")), {100: 3}),
        (chosen_share(3, 10, 4), {10: 8, 100: 35}),
        (within(settled(4), chosen(7, "best 7")), {100: 8}),
        (once(3, 5), {3: 0, 4: 3}),
        (pending(4), {2: 3, 3: 0}),
    ],
    ids=str,
)
def test_inside_of_a_step(rule, in_step):
    assert {tokens: rule.in_step(tokens) for tokens in in_step} == in_step


# ---- what others ask of them


def test_rules_know_what_engines_and_ranks_ask_of_them():
    assert [rule.window for rule in (last_tokens(6), current_chunk(7), first_tokens(8), EVERY_TOKEN)] == [
        6,
        7,
        None,
        None,
    ]
    assert (prompt_and_last(5).generated_window, last_tokens(5).generated_window) == (5, None)
    assert [rule.constant for rule in (once(3), once(0), once(3, 5), last_tokens(3), pending(1))] == [
        3,
        0,
        None,
        None,
        None,
    ]
    assert packed(6, 4, EVERY_TOKEN).packing == (6, 4, EVERY_TOKEN)
    assert EVERY_TOKEN.packing is None


def test_who_takes_all_tokens_for_the_prompt():
    takes = [cut_prompt(6), share_of_prompt(1, 2, 9), floored_shares((1, 2)), pyramid(Budget(4, 128, 8, 20), 1)]
    assert all(rule.takes_all_for_prompt for rule in (*takes, *(within(pending(4), rule) for rule in takes)))
    others = [
        once(),
        ENCODER_TOKENS,
        EVERY_TOKEN,
        cut_prompt(6, 10),
        chosen(6, ""),
        within(pending(4), cut_prompt(6, 10)),
        whole_until_next(once(), None),
    ]
    assert not any(rule.takes_all_for_prompt for rule in others)


def test_rules_are_values():
    assert last_tokens(6) == last_tokens(6) != last_tokens(7)
    assert last_tokens(6) != current_chunk(6) != first_tokens(6)
    assert len({cut_prompt(6, 10), cut_prompt(6, 10), cut_prompt(6), EVERY_TOKEN}) == 3
    assert EVERY_TOKEN != "every token"
    assert repr(last_tokens(6)).startswith("SlotRule((AtMost((Cached(False),), 6),), None, None, 6, 'last 6')")


def test_tokens_of_an_encoder_are_asked_for():
    assert str(ENCODER_TOKENS) == "every encoder token"
    assert ENCODER_TOKENS.constant is None
    assert ENCODER_TOKENS.stretches == ((0, 1, 0),)
    for ask in (
        lambda: ENCODER_TOKENS.slots(5),
        lambda: ENCODER_TOKENS.in_step(5),
        lambda: ENCODER_TOKENS.first_above(5),
    ):
        with pytest.raises(InvalidValueError, match="the number of its encoder's tokens is unknown"):
            ask()


def test_ordinals():
    assert [ordinal(n) for n in (1, 2, 3, 4, 10, 11, 12, 13, 21, 22, 112, 1000)] == [
        *("1st", "2nd", "3rd", "4th", "10th", "11th", "12th", "13th", "21st", "22nd", "112th", "1,000th")
    ]


@given(st.integers(1, 300), st.none() | st.integers(0, 2000), st.integers(0, 3), st.integers(0, 5000))
def test_whole_blocks_are_the_fewest_that_hold_the_tokens(n, limit, extra, t):
    held = t if limit is None else min(t, limit)
    taken = whole_blocks(n, limit, extra).slots(t) - extra
    assert taken * n >= held > (taken - 1) * n or taken == held == 0
