"""Words that could be secrets: never printed, whatever is wrong with them.

A message names a flag or a variable and its place. A value is shown only if it is a number, or a short plain word of a
flag with such values.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

HIDDEN = "(not shown)"
"""Shown instead of a value that could be a secret."""
_TOKENS = re.compile(
    r"(?<![A-Za-z0-9])(?:(?:hf_|gh[opsur]_|github_pat_|glpat-|gsk_|nvapi-|npm_|pypi-|rpa_|r8_|xai-|pplx-|whsec_|shpat_|"
    r"dckr_pat_|sk[-_]|xox[a-z]-|ya29\.|AIza|eyJ)[A-Za-z0-9_.-]{6}|(?:AKIA|ASIA)[A-Z0-9]{8}|-----BEGIN|"
    r"ssh-(?:rsa|ed25519) |(?i:bearer|basic|token)\s)"
)
"""Prefixes of credentials, and what precedes them in a header."""
_IN_URL = re.compile(
    r"[A-Za-z][\w+.-]*://[^/\s]*@|[?&][\w-]*(?:key|token|sig|signature|password|secret|credential)[\w-]*=",
    re.IGNORECASE,
)
_NAMES = re.compile(
    r"secret|token$|_token|password|passwd|passphrase|credential|api[_-]?key|access[_-]?key|private|auth", re.I
)
"""Names whose values are secrets."""
_PARTS = re.compile(r"[^A-Za-z0-9+=]+")
_FLAG = re.compile(r"--?[A-Za-z][A-Za-z0-9_.+-]{0,79}")
_VARIABLE = re.compile(r"[A-Za-z_][A-Za-z0-9_]{0,79}")
_PLAIN = re.compile(r"[A-Za-z0-9_.,:+/ -]{0,40}")
_NUMBER = re.compile(r"-?[0-9][0-9_,]*(\.[0-9]+)?[kKmMgG]?i?")
_RANDOM = re.compile(r"(?=[^0-9]*[0-9])(?=[^A-Za-z]*[A-Za-z])[A-Za-z0-9+]{24,}={0,2}")
"""An unbroken run of letters and digits, longer than any name of a format or a kernel."""
_DIGESTS = re.compile(r"(?<=snapshots/)[0-9a-f]{40}(?![0-9A-Za-z])|(?<=sha256[-:])[0-9a-f]{64}(?![0-9A-Za-z])")
"""A commit in Hugging Face's cache, and a digest of a blob or an image, which are not secrets."""


def could_be_secret(text: str) -> bool:
    """Whether a word has a prefix of credentials, an address with credentials, or a long run of characters."""
    if is_credential(text):
        return True
    return any(map(_RANDOM.fullmatch, _PARTS.split(_DIGESTS.sub("", text))))


def is_credential(text: str) -> bool:
    """Whether a word has a prefix of credentials, or an address with credentials: no name does."""
    return bool(_TOKENS.search(text) or _IN_URL.search(text))


def flag_shown(word: str) -> str:
    """Name of a flag, safe for messages."""
    name = word.partition("=")[0]
    return name if _FLAG.fullmatch(name) and not could_be_secret(name) else "an argument that is not shown"


def variable_shown(name: str) -> str:
    """Name of a variable, safe for messages."""
    return name if _VARIABLE.fullmatch(name) and not could_be_secret(name) else "a variable"


def value_shown(text: str) -> str:
    """Value of a flag, safe for messages: a number or a short plain word."""
    if _NUMBER.fullmatch(text) or (_PLAIN.fullmatch(text) and not could_be_secret(text)):
        return repr(text)
    return f"a value of {len(text):,} characters"


def without_secrets(value: Any, name: str = "") -> Any:
    """A JSON value with possible secrets removed, by key or prefix."""
    if name and _NAMES.search(name) and not isinstance(value, bool | int | float | None):
        return HIDDEN
    if isinstance(value, str):
        return HIDDEN if could_be_secret(value) else value
    if isinstance(value, Mapping):
        return {
            key if not could_be_secret(str(key)) else HIDDEN: without_secrets(one, str(key))
            for key, one in value.items()
        }
    if isinstance(value, Sequence):
        return [without_secrets(one) for one in value]
    return value
