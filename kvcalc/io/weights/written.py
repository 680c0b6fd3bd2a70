"""Weights as people write them: bytes, parameters times bits, or a path.

671GB, 625GiB       bytes with their unit
70B x 4.5bit        parameters and bits of each; 70B x fp8, 8B @ bf16, 70B x 4.5 bpw
model.safetensors   a path (`kvcalc.io.weights.files`)
"""

from __future__ import annotations

import re
from fractions import Fraction
from math import ceil
from pathlib import Path

from kvcalc.errors import InvalidValueError
from kvcalc.fleet.weights import GIVEN, HOW_TO_SAY, Weights
from kvcalc.io.files import exists
from kvcalc.io.weights.files import SUFFIXES, bytes_of_path
from kvcalc.units import MAX_BYTES, parse_bytes, shown

_PARAMETERS = re.compile(
    r"(?P<number>\d{1,6}(?:\.\d{1,6})?)\s*(?P<unit>[MBT])\s*(?:params|parameters)?\s*[x×*@]\s*"
    r"(?:(?P<bits>\d{1,2}(?:\.\d{1,6})?)\s*-?(?:bits?|bpw)|(?P<format>[A-Za-z]\w{1,15}))",
    re.IGNORECASE,
)
_UNITS = {"M": 10**6, "B": 10**9, "T": 10**12}
_BITS = {
    "fp32": 32,
    "float32": 32,
    "bf16": 16,
    "fp16": 16,
    "float16": 16,
    "bfloat16": 16,
    "fp8": 8,
    "int8": 8,
    "int4": 4,
}


def read_weights(text: str | int, folder: Path = Path()) -> Weights:
    """The weights as given, or read from a path relative to `folder`.

    Raises InvalidValueError, InvalidFileError for a bad file.
    """
    if isinstance(text, str) and _names_a_file(text, folder):
        return Weights(bytes_of_path(folder / text), f"read from {text}")
    if isinstance(text, str) and (found := _PARAMETERS.fullmatch(text.strip())):
        return _of_parameters(found, text.strip())
    return Weights(parse_bytes(text, "weights"), GIVEN)


def _of_parameters(found: re.Match[str], text: str) -> Weights:
    """Parameters times bits, rounded up: an estimate without scales and parts that stay in 16 bits."""
    bits = Fraction(found["bits"]) if found["bits"] else _bits_of(found["format"], text)
    total_bytes = ceil(Fraction(found["number"]) * _UNITS[found["unit"].upper()] * bits / 8)
    if total_bytes > MAX_BYTES:
        raise InvalidValueError(
            f"weights must be at most {MAX_BYTES:,} bytes, not {shown(text)}", field="weights", help=HOW_TO_SAY
        )
    return Weights(total_bytes, f"{GIVEN} as {text}", estimate=True)


def _bits_of(name: str, text: str) -> int:
    bits = _BITS.get(name.lower())
    if bits is None:
        raise InvalidValueError(
            f"weights do not give the bits per parameter: {shown(text)}",
            field="weights",
            help=f"write bits, as in 70B x 4.5bit, or one of {', '.join(_BITS)}; --weights-dtype also counts scales "
            "and parts that stay in 16 bits",
        )
    return bits


def _names_a_file(text: str, folder: Path) -> bool:
    if "/" in text or text.endswith(SUFFIXES) or text in (".", ".."):
        return True
    return not text[:1].isdigit() and exists(folder / text)
