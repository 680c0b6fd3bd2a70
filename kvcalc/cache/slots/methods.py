"""Slot rules of methods: selected tokens, shares of a prompt, packed codes."""

from __future__ import annotations

from kvcalc.cache.slots.layers import EVERY_TOKEN
from kvcalc.cache.slots.primitives import PROMPT, TOKENS, Above, Anew, AtMost, Ceil, Floor, Lower, Sum, Switch
from kvcalc.cache.slots.rule import SlotRule


def within(outer: SlotRule, inner: SlotRule) -> SlotRule:
    """`outer` of what `inner` keeps, such as selected tokens that are quantised; just `outer` if `inner` keeps all."""
    return outer if inner == EVERY_TOKEN else SlotRule(outer.over(inner), f"{outer} of {inner}")


def packed(units: int, per_slot: int, rule: SlotRule) -> SlotRule:
    """ceil(s * units / per_slot) slots, where s are the slots of another rule: units of several tokens share a slot.

    units: packed items per slot of the other rule, for all heads together (such as groups of elements). per_slot: items
    per packed slot. rule: the other rule.
    """
    whole, rest = divmod(units, per_slot)
    if rest:
        words = f"{units:,} of each, {per_slot:,} to a slot: {rule}"
    else:
        words = str(rule) if whole == 1 else f"{whole:,} for each: {rule}"
    return SlotRule(Ceil(rule, units, per_slot), words, packing=(units, per_slot, rule))


# ---- tokens of one format


def first_tokens(limit: int) -> SlotRule:
    """min(t, limit) slots: the first tokens, kept in another format than later ones."""
    return SlotRule(AtMost(TOKENS, limit), f"first {limit:,}")


def all_but_first(count: int) -> SlotRule:
    """max(0, t - count) slots: all tokens after the first."""
    return SlotRule(Above(TOKENS, count), f"all but the first {count:,}")


def newest(limit: int) -> SlotRule:
    """min(t, limit) slots: the newest tokens, kept in another format than earlier ones."""
    return SlotRule(AtMost(TOKENS, limit), f"newest {limit:,}")


def every_token_and_next() -> SlotRule:
    """T + 1 slots: a mask already sized for the next step."""
    return SlotRule(TOKENS + 1, "every token and the next")


# ---- tokens of a sequence


def sinks_and_last(limit: int, sinks: int) -> SlotRule:
    """min(t, limit) slots: the first `sinks` tokens and the newest others."""
    return SlotRule(AtMost(TOKENS, limit), f"{sinks:,} sinks + last {limit - sinks:,}")


def chosen(limit: int, words: str) -> SlotRule:
    """min(t, limit) slots: the highest-scored tokens, selected after each step has added its token."""
    return SlotRule(Anew(AtMost(TOKENS, limit)), words)


def share_of_tokens(kept: int, of: int, first: int = 0) -> SlotRule:
    """min(t, first + ceil(t * kept / of)) slots: a share of all tokens so far, plus a few that always stay.

    It grows by at most one per token, so that a dropped token is never needed again.
    """
    share = f"{kept:,} of {of:,}"
    if first:
        share = f"first {first:,} + {share}" if kept else f"first {first:,}"
    return SlotRule(Lower(TOKENS, Ceil(TOKENS, kept, of) + first), share)


def chosen_share(kept: int, of: int, first: int = 0) -> SlotRule:
    """The same slots for the highest-scored tokens, selected after each step has added its token."""
    rule = share_of_tokens(kept, of, first)
    return SlotRule(Anew(rule), str(rule))


def window_and_share(window: int, kept: int, of: int) -> SlotRule:
    """min(t, window) + ceil(max(0, t - window) * kept / of) slots: the newest tokens, and a share of those before."""
    before = Ceil(Above(TOKENS, window), kept, of)
    return SlotRule(AtMost(TOKENS, window) + before, f"last {window:,} + {kept:,} of {of:,} before")


# ---- tokens of a prompt cut once


def cut_prompt(limit: int, prompt: int | None = None) -> SlotRule:
    """min(p, limit) slots of a prompt of p tokens, cut once, and one for each token after it.

    prompt: p; None if unknown: then all tokens are assumed to be prompt.
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
