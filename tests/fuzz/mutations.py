"""Inputs spoiled at random: text, bytes, trees of values, and the words of a command line."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from random import Random
from typing import Any

FEW = (1, 1, 2, 4)
"""Changes of one input: a single one gets furthest."""
NUMBERS = (0, -1, 1, 2, 7, 61, 2**31, 2**63, 2**64, 10**5, 10**13, 10**400, 1.5, -0.0, 1e308, 1e-320)
NOT_FINITE = (float("nan"), float("inf"), float("-inf"))
SCALARS = (*NUMBERS, *NOT_FINITE, None, True, False, "", "61", "llama", "auto", "fp8", "x" * 300, "\x1b[31m", "a\nb")
TREES = ([], {}, [None], [1], [[1, 2]], [{}], {"a": 1}, {"": None}, ["full_attention"] * 200, {"x" * 200: []})
WORDS = (
    *("0", "-1", "1", "7", "1e999", "1e-99999999", "-0.0", "nan", "NaN", ".nan", ".inf", "-Infinity", "9" * 400),
    *("null", "true", "yes", "~", "''", '"', "1,8", "163,840", "1_000", "0x10", "128K", "1.5GB", "10 %", "½", "٣"),
    *("\x00", "\x1b[31m", "\x1b]0;x\x07", "\u202e", "\u2028", "\x85", "\ufeff", "\ufffe", "漢", "\r\n::error::x"),
    *("!!python/object:os.system", "!x", "&a", "*a", "<<: *a", "- ", "---", "...", "%", "|", ">", "#", ": ", "{", "}"),
    *("[", "]", ",", "=", "@", "\\", "$(x)", "${A:-1}", "`x`", "../", "/dev/null", "x" * 300, "--x", "--", "-t", ""),
)


def spoiled_text(random: Random, text: str, others: Sequence[str]) -> str:
    """A text with a few changes: words put in, parts dropped, doubled, moved, or taken from another text."""
    for _ in range(random.choice(FEW)):
        first, end = sorted(random.randint(0, len(text)) for _ in range(2))
        end = min(end, first + random.choice((0, 1, 3, 20, 200)))
        part = random.choice((random.choice(WORDS), "", text[first:end] * 2, slice_of(random, random.choice(others))))
        text = text[:first] + part + text[end:]
    return text


def slice_of(random: Random, text: str) -> str:
    first = random.randint(0, len(text))
    return text[first : first + random.choice((1, 5, 40))]


def spoiled_bytes(random: Random, raw: bytes) -> bytes:
    """Bytes with a few changes: other bits, extreme lengths, parts that are dropped, doubled or cut off."""
    changed = bytearray(raw)
    for _ in range(random.choice(FEW)):
        at = random.randrange(len(changed) + 1)
        match random.randrange(5):
            case 0 if at < len(changed):
                changed[at] ^= 1 << random.randrange(8)
            case 1:
                width = random.choice((1, 4, 8))
                changed[at : at + width] = random.choice((b"\xff", b"\0", b"\x7f")) * width
            case 2:
                del changed[at : at + random.choice((1, 4, 8, 64))]
            case 3:
                changed[at:at] = changed[at : at + random.choice((1, 4, 8, 64))]
            case _ if random.random() < 1 / 4:
                del changed[at:]
    return bytes(changed)


def spoiled_tree(random: Random, tree: Any, others: Sequence[Any]) -> Any:
    """A copy of nested mappings and lists with a few changes, wherever in it."""
    tree = copy.deepcopy(tree)
    for _ in range(random.choice(FEW)):
        holders = list(holders_of(tree))
        if not holders:
            return random.choice((*SCALARS, *TREES))
        spoil(random, random.choice(holders), list(holders_of(random.choice(others))) or holders)
    return tree


def holders_of(tree: Any):
    """Every mapping and list that holds something."""
    if isinstance(tree, dict | list) and tree:
        yield tree
        for value in tree.values() if isinstance(tree, dict) else tree:
            yield from holders_of(value)


def spoil(random: Random, holder: dict | list, elsewhere: list) -> None:
    """Changes one entry in place."""
    key = random.choice(list(holder)) if isinstance(holder, dict) else random.randrange(len(holder))
    match random.randrange(6):
        case 0:
            del holder[key]
        case 1:
            holder[key] = random.choice((random.choice(SCALARS), copy.deepcopy(random.choice(TREES))))
        case 2:
            holder[key] = random.choice(([holder[key]], {"a": holder[key]}, str(holder[key])[:1000]))
        case 3 if isinstance(holder, dict):
            holder[str(key)[:-1] + random.choice("abs_")] = holder.pop(key)
        case 4 if isinstance(holder[key], int | float):
            holder[key] = random.choice((holder[key] + 1, -holder[key], holder[key] * 1000, holder[key] // 3))
        case _:
            other = random.choice(elsewhere)
            if isinstance(other, dict) and isinstance(holder, dict):
                name = random.choice(list(other))
                holder[name] = copy.deepcopy(other[name])
            else:
                holder[key] = copy.deepcopy(other)


def spoiled_words(random: Random, words: Sequence[str], others: Sequence[Sequence[str]]) -> list[str]:
    """The words of a command line with a few changes."""
    words = list(words)
    for _ in range(random.choice(FEW)):
        at = random.randint(0, len(words))
        other = random.choice(others)
        match random.randrange(5):
            case 0:
                del words[at : at + 1]
            case 1:
                words[at : at + 1] = [random.choice(WORDS)]
            case 2 if at < len(words):
                words[at] = spoiled_text(random, words[at], [random.choice(other) if other else ""])
            case 3:
                words[at:at] = other[(first := random.randint(0, len(other))) : first + 2]
            case _:
                words[at : at + 1] = other[-1:]
    return words
