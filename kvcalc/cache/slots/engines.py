"""Slot rules of engines: whole blocks, steps, spare slots."""

from __future__ import annotations

from collections.abc import Callable

from kvcalc.cache.slots.primitives import TOKENS, Above, AtMost, Ceil, Constant, Switch
from kvcalc.cache.slots.rule import SlotRule


def whole_blocks(n: int, limit: int | None = None, extra: int = 0) -> SlotRule:
    """ceil(min(t, limit) / n) + extra slots: blocks of n tokens, allocated whole.

    limit: most tokens held; None: all. extra: blocks in addition to those filled by tokens.
    """
    held = TOKENS if limit is None else AtMost(TOKENS, limit)
    reach = "" if limit is None else f", up to {limit:,}"
    return SlotRule(Ceil(held, 1, n) + extra, f"blocks of {n:,}{reach}")


def blocks_while_read(n: int, batch: int, longest: int, freed: Callable[[int], int], words: str) -> SlotRule:
    """Most blocks of n tokens held while t tokens are read in batches and blocks out of the window are freed.

    freed: blocks freed before the batch that starts at a token, never fewer than before. A batch that ends at token e
    holds ceil(e / n) minus those; the fullest batch up to t decides. longest: most tokens examined.
    """
    filled, most = Ceil(TOKENS, 1, n), 0
    fuller: dict[int, tuple[int, int]] = {}  # by freed blocks: most before, and then
    for start in range(0, longest, batch):
        gone = freed(start)
        held = -(-min(start + batch, longest) // n) - gone
        if held > most:
            fuller[gone] = (fuller.get(gone, (most, 0))[0], held)
            most = held
    first, *later = (AtMost(Above(filled, gone + before), then - before) for gone, (before, then) in fuller.items())
    return SlotRule(sum(later, start=first), words)


def in_steps(every: int, slots_each: int, limit: int | None = None, words: str = "") -> SlotRule:
    """min(ceil(t / every) * slots_each, limit) slots: an engine that takes memory in whole steps, used or not.

    every: tokens per step. slots_each: slots of a step. limit: most slots, a multiple of slots_each;
    None: unlimited. words: for a report.
    """
    held = TOKENS if limit is None else AtMost(TOKENS, limit // slots_each * every)
    return SlotRule(slots_each * Ceil(held, 1, every), words or f"in steps of {every:,}")


def room_and_steps(room: int, step: int, *, limit: int | None = None, words: str = "") -> SlotRule:
    """min(room + step * ceil((t - room) / step), limit) slots: the initial room, and steps once it is full.

    limit: most slots; None: unlimited. 0 tokens have 0 slots.
    """
    grown = step * Ceil(Above(TOKENS, room), 1, step) + room
    held = grown if limit is None else AtMost(grown, limit)
    return SlotRule(Switch(1, Constant(0), held), words or f"room for {room:,}, then in steps of {step:,}")


def switched(before: SlotRule, token: int, after: SlotRule, words: str = "") -> SlotRule:
    """Slots of one rule before `token` tokens, and of another from there on, for engines that switch layouts."""
    return SlotRule(Switch(token, before, after), words or f"{before}; from {token:,} on {after}")


def whole_until_next(cut: SlotRule, prompt: int | None) -> SlotRule:
    """All of a prompt of `prompt` tokens, and from the next token on what `cut` leaves of it: a view holds the whole.

    prompt: None if its length is unknown: then all tokens are prompt.
    """
    words = f"the whole prompt until the next token, then {cut}"
    return SlotRule(TOKENS if prompt is None else Switch(prompt + 1, TOKENS, cut), words)


def blocks(size: int, rule: SlotRule, spare: int = 0, least: int = 0) -> SlotRule:
    """max(least, ceil((s + spare) / size)) slots: blocks of `size` tokens for the s slots of another rule.

    spare: slots kept free for new tokens. least: blocks allocated from the start.
    """
    # what exceeds the initial blocks needs more of them
    more = Ceil(Above(rule + spare, least * size), 1, size)
    reach = f", {least:,} at least" if least else ""
    return SlotRule(more + least, f"blocks of {size:,} for {rule}{reach}")


def in_blocks(size: int, rule: SlotRule, spare: int = 0, least: int = 0) -> SlotRule:
    """Size * max(least, ceil((s + spare) / size)) slots: the capacity of such blocks."""
    reach = f", room for {least * size:,} at least" if least else ""
    return SlotRule(size * blocks(size, rule, spare, least), f"{rule}, in blocks of {size:,}{reach}")
