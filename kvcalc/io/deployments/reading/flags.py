"""Settings as command-line words: `maxModelLen: 8192` is --max-model-len=8192."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator

from kvcalc.io.deployments.reading.text import Text
from kvcalc.io.deployments.reading.tree import Node

_HUMP = re.compile(r"(?<=[a-z0-9])(?=[A-Z])")


def flag_words(settings: Iterable[tuple[str, Node]], *, off: bool = True) -> Iterator[Text]:
    """One word per setting. off: whether a false switch is turned off explicitly, or just omitted."""
    for name, node in settings:
        flag = f"--{flag_name(name)}"
        if node.value is None:
            continue
        if node.value is True:
            yield Text.on(node.line, flag)
        elif node.value is False:
            if off:
                yield Text.on(node.line, flag.replace("--", "--no-", 1))
        elif node.is_mapping:
            yield Text.on(node.line, f"{flag}={json.dumps(node.plain())}")
        elif node.each():
            yield Text.on(node.line, flag)
            yield from (item.text for item in node.each())
        elif node.text:
            yield Text.on(node.line, f"{flag}={node.text}")


def flag_name(name: str) -> str:
    """`maxModelLen` and `max_model_len` as `max-model-len`."""
    return _HUMP.sub("-", name).replace("_", "-").lower()


def names(text: str) -> frozenset[str]:
    """Names, separated by blanks."""
    return frozenset(text.split())
