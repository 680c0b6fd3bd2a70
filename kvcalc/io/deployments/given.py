"""Variables that the user sets because no file does: --set NAME=VALUE."""

from __future__ import annotations

import re
from collections.abc import Sequence

from kvcalc.errors import InvalidValueError

_NAME = re.compile(r"[A-Za-z_][\w.-]*")


def variables_of(written: Sequence[str]) -> dict[str, str]:
    """Variables by name. Raises InvalidValueError for another form; no value is quoted."""
    found: dict[str, str] = {}
    for number, text in enumerate(written, 1):
        name, equals, value = text.partition("=")
        if not equals or not _NAME.fullmatch(name):
            raise InvalidValueError(
                f"value {number} is not of the form NAME=VALUE",
                help="write MODEL_ID=Qwen/Qwen3-8B",
            )
        found[name] = value
    return found
