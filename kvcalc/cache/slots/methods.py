"""Slot rules of what methods leave: chosen tokens, shares of a prompt, packed codes."""

from __future__ import annotations

from kvcalc.cache.slots.layers import EVERY_TOKEN
from kvcalc.cache.slots.primitives import PROMPT, TOKENS, Above, Anew, AtMost, Ceil, Floor, Lower, Sum, Switch
from kvcalc.cache.slots.rule import SlotRule


def within(outer: SlotRule, inner: SlotRule) -> SlotRule:
    """`outer` of what `inner` keeps, as tokens that are chosen and quantised: `outer` itself where that is all."""
    return outer if inner == EVERY_TOKEN else SlotRule(outer.over(inner), f"{outer} of {inner}")


def packed(units: int, per_slot: int, rule: SlotRule) -> SlotRule:
    """ceil(s * units / per_slot) slots, where s are the slots of another rule: units of several tokens share a slot.

    units: how many of what is packed one of the other rule's slots has, all heads together (groups of elements, say).
    per_slot: how many of them share a slot. rule: when they come.
    """
    whole, rest = divmod(units, per_slot)
    if rest:
        words = f"{units:,} of each, {per_slot:,} to a slot: {rule}"
    else:
        words = str(rule) if whole == 1 else f"{whole:,} for each: {rule}"
    return SlotRule(Ceil(rule, units, per_slot), words, packing=(units, per_slot, rule))


# ---- tokens of one format


def first_tokens(limit: int) -> SlotRule:
    """min(t, limit) slots: the first tokens, which are kept in another format than those after them."""
    return SlotRule(AtMost(TOKENS, limit), f"first {limit:,}")


def all_but_first(count: int) -> SlotRule:
    """max(0, t - count) slots: all tokens after the first."""
    return SlotRule(Above(TOKENS, count), f"all but the first {count:,}")


def newest(limit: int) -> SlotRule:
    """min(t, limit) slots: the newest tokens, which are kept in another format than those before them."""
    return SlotRule(AtMost(TOKENS, limit), f"newest {limit:,}")


def every_token_and_next() -> SlotRule:
    """T + 1 slots: a mask that is already as long as the next step needs it."""
    return SlotRule(TOKENS + 1, "every token and the next")


# ---- tokens of a sequence


def sinks_and_last(limit: int, sinks: int) -> SlotRule:
    """min(t, limit) slots: the first `sinks` tokens and the newest of the others."""
    return SlotRule(AtMost(TOKENS, limit), f"{sinks:,} sinks + last {limit - sinks:,}")


def chosen(limit: int, words: str) -> SlotRule:
    """min(t, limit) slots: the tokens that a method thinks most of, chosen once each step has added its own."""
    return SlotRule(Anew(AtMost(TOKENS, limit)), words)


def share_of_tokens(kept: int, of: int, first: int = 0) -> SlotRule:
    """min(t, first + ceil(t * kept / of)) slots: a share of all tokens so far, beside a few that always stay.

    It grows by no more than one with each token, so that what is dropped is never missed.
    """
    share = f"{kept:,} of {of:,}"
    if first:
        share = f"first {first:,} + {share}" if kept else f"first {first:,}"
    return SlotRule(Lower(TOKENS, Ceil(TOKENS, kept, of) + first), share)


def chosen_share(kept: int, of: int, first: int = 0) -> SlotRule:
    """The same slots, of the tokens that a method thinks most of, chosen once each step has added its own."""
    rule = share_of_tokens(kept, of, first)
    return SlotRule(Anew(rule), str(rule))


def window_and_share(window: int, kept: int, of: int) -> SlotRule:
    """min(t, window) + ceil(max(0, t - window) * kept / of) slots: the newest tokens, and a share of those before."""
    before = Ceil(Above(TOKENS, window), kept, of)
    return SlotRule(AtMost(TOKENS, window) + before, f"last {window:,} + {kept:,} of {of:,} before")


# ---- tokens of a prompt that is cut once


def cut_prompt(limit: int, prompt: int | None = None) -> SlotRule:
    """min(p, limit) slots of a prompt of p tokens, cut once, and one for each token after it.

    prompt: p; None as long as nobody says where the prompt ends: then all tokens are taken for it.
    """
    words = f"{limit:,} of the prompt"
    if prompt is None:
        return SlotRule(AtMost(PROMPT, limit), words)
    after = Above(TOKENS, max(prompt, limit))  # of which min(t, limit) counts none
    return SlotRule(AtMost(TOKENS, limit) + after, f"{words}, and every token after it")


def share_of_prompt(kept: int, of: int, from_token: int = 0) -> SlotRule:
    """ceil(t * kept / of) slots of a prompt of t tokens, from from_token on; all of a shorter one."""
    share = Ceil(PROMPT, kept, of)
    reach = f" from {from_token:,} on" if from_token else ""
    return SlotRule(Switch(from_token, PROMPT, share), f"{kept:,} of {of:,} of the prompt{reach}")


def floored_shares(*shares: tuple[int, int]) -> SlotRule:
    """floor(t * a / b) slots for each share (a, b) of a prompt of t tokens, added up."""
    words = " and ".join(f"{kept:,} of {of:,}" for kept, of in shares)
    return SlotRule(Sum(*((1, Floor(PROMPT, kept, of)) for kept, of in shares)), f"{words} of the prompt")
