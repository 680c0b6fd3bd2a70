"""Token counts and byte counts, read and shown. The only place where a float is born, and only for show.

GB is 10^9 bytes and GiB is 2^30 bytes, always spelled out.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from itertools import pairwise
from operator import index
from typing import TYPE_CHECKING, NamedTuple, SupportsIndex

from kvcalc.errors import InvalidValueError

if TYPE_CHECKING:
    from fractions import Fraction

KB, MB, GB, TB = 10**3, 10**6, 10**9, 10**12
KIB, MIB, GIB, TIB = 2**10, 2**20, 2**30, 2**40

MAX_COUNT = 10**12
"""Largest plausible count of tokens, sequences or dimensions: a thousand times the longest context sold."""

MAX_BYTES = 10**18
"""Largest plausible count of bytes: a thousand times the weights of the largest model, a thousand times over."""

_TOKEN_SUFFIXES = {"": 1, "k": 10**3, "m": 10**6, "g": 10**9, "K": 2**10, "M": 2**20, "G": 2**30}
_BYTE_UNITS = {"B": 1, "kB": KB, "KB": KB, "MB": MB, "GB": GB, "TB": TB} | {
    "KiB": KIB,
    "MiB": MIB,
    "GiB": GIB,
    "TiB": TIB,
}
_OTHER_UNITS = {
    **{unit.lower(): size for unit, size in _BYTE_UNITS.items() if unit != "B"},
    **{
        unit.removesuffix("B"): size for unit, size in _BYTE_UNITS.items() if unit.endswith("iB")
    },  # as Kubernetes has it
}
"""Spellings that mean one size; 80G and 80Gb may mean two."""
_NUMBER = r"(?P<number>(?:\d{1,3}(?:,\d{3})+|\d[\d_]*)(?:\.\d+)?)"
"""163,840 and 163_840: commas stand between thousands or nowhere, so that a list is not a number."""
_TOKENS = re.compile(rf"{_NUMBER}\s*(?P<unit>[kmgKMG]?)(?P<binary>i?)", re.ASCII)
_BYTES = re.compile(rf"{_NUMBER}\s*(?P<unit>[A-Za-z]*)", re.ASCII)
_PERCENT = re.compile(r"(\d+(?:\.\d+)?)\s*%", re.ASCII)
_SHOWN_CHARACTERS = 40
_TOKENS_HELP = "write 100000, 100_000, 128k (= 128,000) or 128K (= 131,072)"


def shown(value: object) -> str:
    """`repr` of a bad value for a message, cut if it would fill the screen."""
    try:
        text = repr(value)
    except ValueError:  # an int with more digits than Python prints
        return f"an integer of {value.bit_length():,} bits" if isinstance(value, int) else "a value too long to print"
    return text if len(text) <= _SHOWN_CHARACTERS else f"{text[: _SHOWN_CHARACTERS - 3]}... ({len(text):,} characters)"


def positive_int(value: object, field: str, *, most: int = MAX_COUNT) -> int:
    """`value` if it is a whole number in 1..`most`. Raises InvalidValueError with the value and the field's name."""
    if type(value) is int and 0 < value <= most:
        return value
    number = _whole(value)
    if number is None:
        raise InvalidValueError(
            f"{field} must be a whole number, not {shown(value)}",
            field=field,
            help=_unquoted(value, field) if isinstance(value, str) else _range(most),
        )
    if number < 1:
        raise InvalidValueError(f"{field} must be at least 1, not {shown(number)}", field=field, help=_range(most))
    if number > most:
        raise InvalidValueError(
            f"{field} must be at most {most:,}, not {shown(number)}", field=field, help=_range(most)
        )
    return number


def _whole(value: object) -> int | None:
    """The int of a value, including numpy's; None for anything else."""
    if isinstance(value, bool) or not isinstance(value, SupportsIndex):
        return None
    try:
        return index(value)
    except TypeError:  # numpy's arrays say that they are numbers, whatever their length
        return None


def parse_tokens(text: str | int, field: str = "tokens") -> int:
    """Token count from `100000`, `100_000`, `128k` (128,000), `128K` or `128Ki` (131,072), likewise m/M and g/G.

    Lower case is decimal and upper case binary, as vLLM reads `--max-model-len`; only a decimal suffix may follow a
    fraction (`1.5k`).
    """
    if not isinstance(text, str):
        return positive_int(text, field)
    match = _TOKENS.fullmatch(text.strip())
    if match is None or (match["binary"] and match["unit"] not in tuple("KMG")):
        raise InvalidValueError(
            f"{field} must be a positive whole number, not {shown(text)}",
            field=field,
            help=_TOKENS_HELP,
        )
    unit = match["unit"]
    if len(text) > _SHOWN_CHARACTERS:
        raise InvalidValueError(
            f"{field} must be at most {MAX_COUNT:,}, not {shown(text)}", field=field, help=_TOKENS_HELP
        )
    number = _exact(match["number"])
    if number.denominator != 1 and unit.isupper():
        decimal = number * _TOKEN_SUFFIXES[unit.lower()]
        raise InvalidValueError(
            f"{field}: a fraction cannot take the binary suffix {unit}, as in {shown(text)}",
            field=field,
            help=f"write {match['number']}{unit.lower()} for {decimal} tokens, or the whole number itself",
        )
    tokens = number * _TOKEN_SUFFIXES[unit]
    if tokens > MAX_COUNT:
        raise InvalidValueError(
            f"{field} must be at most {MAX_COUNT:,}, not {shown(text)}", field=field, help=_TOKENS_HELP
        )
    if tokens.denominator != 1:
        raise InvalidValueError(
            f"{field} must be a positive whole number, not {shown(text)}", field=field, help=_TOKENS_HELP
        )
    return positive_int(int(tokens), field)


def parse_token_list(text: str, field: str = "tokens") -> list[int]:
    """Token counts with commas between them, `1K,32K`; `163,840` is one number, as kvcalc itself prints it.

    Raises InvalidValueError for ambiguous text, such as `1,024,8192`.
    """
    if _TOKENS.fullmatch(text.strip()):
        return [parse_tokens(text, field)]
    parts = text.split(",")
    if any(part.strip().startswith("0") for part in parts[1:]) or any(map(_is_thousands, pairwise(parts))):
        raise InvalidValueError(
            f"{field} could be one number or several: {shown(text)}",
            field=field,
            help="pass several separately (-t 1024 -t 8192), or without thousands separators (1024,8192)",
        )
    return [parse_tokens(part, field) for part in parts]


def _is_thousands(neighbours: tuple[str, str]) -> bool:
    """Whether the parts on both sides of a comma could be one number."""
    before, after = (part.strip() for part in neighbours)
    return len(after) == len("000") and after.isdigit() and before.isdigit() and len(before) <= len(after)


def parse_bytes(text: str | int, field: str) -> int:
    """Byte count from a number of bytes or one with a unit: `80GB` (80 x 10^9), `80GiB` (80 x 2^30).

    Raises InvalidValueError for anything else, and for a number so small that its unit must be missing or wrong.
    """
    number = _parsed_bytes(text, field)
    written = str(text).strip().replace(",", "").replace("_", "")
    as_parameters = field == "weights" and written == f"{number}B"
    if 0 < number < MIB and (written.isdigit() or as_parameters):
        meant = f"; {number} billion parameters in bf16 are {2 * number}GB" if as_parameters else ""
        raise InvalidValueError(
            f"{field} would be {plural(number, 'byte')}{meant}",
            field=field,
            help=f"add a unit: {number}GB (10^9 bytes each), {number}GiB (2^30), MB, MiB, kB, KiB, TB, TiB",
        )
    return number


def _parsed_bytes(text: str | int, field: str) -> int:
    if not isinstance(text, str):
        if isinstance(text, bool) or not isinstance(text, int) or text < 0:
            raise InvalidValueError(
                f"{field} must be a number of bytes, not {shown(text)}", field=field, help="write 80GB, 80GiB or bytes"
            )
        return _possible_bytes(text, field)
    match = _BYTES.fullmatch(text.strip())
    unit = (match["unit"] or "B") if match else ""
    size = _BYTE_UNITS.get(unit) or _OTHER_UNITS.get(unit)
    if match is None or size is None or len(text) > _SHOWN_CHARACTERS:
        ambiguous = match is not None and unit in tuple("kKmMgGtT")
        known = f"{unit.upper()}B or {unit.upper()}iB" if ambiguous else "80GB (10^9 bytes each) or 80GiB (2^30)"
        raise InvalidValueError(
            f"{field} must be a number of bytes with its unit, not {shown(text)}", field=field, help=f"write {known}"
        )
    return _possible_bytes(int(_exact(match["number"]) * size), field)


def _possible_bytes(number: int, field: str) -> int:
    if number > MAX_BYTES:
        raise InvalidValueError(
            f"{field} must be at most {MAX_BYTES:,} bytes, not {shown(number)}", field=field, help="write 80GB or 80GiB"
        )
    return number


_RATE = re.compile(rf"{_NUMBER}\s*(?P<prefix>[kMGT]i?|)(?P<what>b|bit|B|byte)s?\s*(?:/s|ps)", re.ASCII)
_PREFIXES = {"": 1, "k": KB, "M": MB, "G": GB, "T": TB, "ki": KIB, "Mi": MIB, "Gi": GIB, "Ti": TIB}
_BITS_OF_A_BYTE = 8


def parse_rate(text: str, field: str) -> int:
    """Bytes per second, rounded down, from `400Gb/s` (bits, as links are sold), `400Gbps` or `50GB/s` (bytes)."""
    match = _RATE.fullmatch(text.strip()) if len(text) <= _SHOWN_CHARACTERS else None
    bits = match is not None and match["what"] in ("b", "bit")
    rate = 0
    if match is not None:
        rate = int(_exact(match["number"]) * _PREFIXES[match["prefix"]] / (_BITS_OF_A_BYTE if bits else 1))
    if not 0 < rate <= MAX_BYTES:
        raise InvalidValueError(
            f"{field} must be a rate, not {shown(text)}", field=field, help="write 400Gb/s (bits) or 50GB/s (bytes)"
        )
    return rate


def parse_percent(text: str, field: str) -> Fraction:
    """A share from `10%` or `2.5 %`: 1/10, 1/40. Raises InvalidValueError for a bare number, which is ambiguous."""
    from fractions import Fraction

    match = _PERCENT.fullmatch(text.strip()) if len(text) <= _SHOWN_CHARACTERS else None
    if match is None:
        raise InvalidValueError(
            f"{field} must be a percentage, not {shown(text)}", field=field, help="write 10% or 2.5%; 0% for none"
        )
    return Fraction(match[1]) / 100


def count(number: int) -> str:
    """`100000` as `100,000`."""
    return f"{number:,}"


def short_tokens(tokens: int) -> str:
    """`131072` as `128K`, `128000` as `128k`, `100001` as `100,001`: as short as the exact number can be."""
    whole = [f"{tokens // factor}{unit}" for unit, factor in _TOKEN_SUFFIXES.items() if unit and tokens % factor == 0]
    return min((*whole, count(tokens)), key=len)


def short_share(share: float) -> str:
    """`0.99` as `99%`, `0.5396` as `53.96%`."""
    return f"{100 * share:.4g}%"


_ROUNDS_UP = 0.9995
"""Share of a unit from which on three digits round to all of it."""


def short_count(number: int) -> str:
    """`671026419200` as `671B`, `8030261248` as `8.03B`: parameters, as in model names."""
    for name, size in (("T", 10**12), ("B", 10**9), ("M", 10**6)):
        if number >= size * (_ROUNDS_UP if name != "M" else 1):
            return f"{number / size:.3g}{name}"
    return f"{number:,}"


def gigabytes(number_bytes: int) -> str:
    """`7027200000` as `7.03 GB`, in the largest decimal unit that leaves a number of at least 1."""
    return _scaled(number_bytes, (("TB", TB), ("GB", GB), ("MB", MB), ("kB", KB)))


def gibibytes(number_bytes: int) -> str:
    """`7027200000` as `6.54 GiB`, in the largest binary unit that leaves a number of at least 1."""
    return _scaled(number_bytes, (("TiB", TIB), ("GiB", GIB), ("MiB", MIB), ("KiB", KIB)))


def milliseconds(seconds: Fraction) -> str:
    """`24.994 ms`."""
    return f"{float(seconds * 1000):,.3f} ms"  # milli


def exact_bytes(number_bytes: int) -> str:
    """`671000000000` as `671GB`, `8589934592` as `8GiB`: as short as the exact number can be written with its unit."""
    whole = [f"{number_bytes // size}{name}" for name, size in _BYTE_UNITS.items() if number_bytes % size == 0]
    return min(whole, key=len)


def both_units(number_bytes: int) -> str:
    """`7027200000` as `7,027,200,000 bytes (7.03 GB, 6.54 GiB)`; small numbers need no second name."""
    exact = f"{number_bytes:,} byte{'' if number_bytes == 1 else 's'}"
    if abs(number_bytes) < KB:
        return exact
    return f"{exact} ({gigabytes(number_bytes)}, {gibibytes(number_bytes)})"


class Scale(NamedTuple):
    """A common unit for several numbers of bytes. size: its bytes; 0: print every number in full."""

    name: str
    size: int

    def of(self, number_bytes: int) -> str:
        """`85899345920` as `80.00 GiB`, or as `85,899,345,920 bytes`."""
        return f"{number_bytes / self.size:,.2f} {self.name}" if self.size else plural(number_bytes, "byte")

    def words(self, parts: Iterable[str | int]) -> str:
        """Text with numbers of bytes in it."""
        return "".join(part if isinstance(part, str) else self.of(part) for part in parts)


IN_FULL = Scale("bytes", 0)


def common_scale(*numbers_bytes: int) -> Scale:
    """The largest binary unit up to GiB in which the largest of the numbers is at least 1."""
    most = max(map(abs, numbers_bytes), default=0)
    found = (Scale(name, size) for name, size in (("GiB", GIB), ("MiB", MIB), ("KiB", KIB)) if most >= size)
    return next(found, IN_FULL)


def ratio(part_bytes: int, whole_bytes: int) -> float | None:
    """A part of a whole, for display; None if the whole is 0."""
    return part_bytes / whole_bytes if whole_bytes else None


def plural(number: int, noun: str) -> str:
    """`1 sequence`, `2 sequences`, `100,000 tokens`."""
    return f"{number:,} {noun}{'' if number == 1 else 's'}"


def _unquoted(text: str, field: str) -> str:
    return f"write it without quotes, as in {field}: 64" if text.strip().isdecimal() else "write a number, such as 64"


def _range(most: int) -> str:
    return f"use a whole number from 1 to {most:,}"


def _exact(number: str) -> int | Fraction:
    """Exact value of digits with separators; a fraction if there is a decimal point."""
    digits = number.replace("_", "").replace(",", "")
    if "." not in digits:
        return int(digits)
    from fractions import Fraction  # brings decimal with it; most counts are whole

    return Fraction(digits)


def _scaled(number_bytes: int, units: tuple[tuple[str, int], ...]) -> str:
    for name, size in units:
        if abs(number_bytes) >= size:
            return f"{number_bytes / size:,.2f} {name}"
    return f"{number_bytes:,} B"
