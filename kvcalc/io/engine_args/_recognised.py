"""The engine of bare arguments in a container without an engine's own image: by its name, and by the flags.

Deployments often use a derived image. If it is named after the engine, one flag that decides the cache is enough;
otherwise every flag must belong to this engine and no other.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence

from kvcalc.io.engine_args._line import divided
from kvcalc.io.engine_args._program import Program
from kvcalc.io.engine_args._rows import Names

_BESIDE = re.compile(
    r"router|gateway|exporter|proxy|simulator|[-_]sim\b|web-?ui|[-_]ui\b|client|operator|controller|bench|swap|"
    r"download|loader|sidecar|epp\b|evaluat|monitor|dashboard"
)
"""Parts of image names that work with an engine but are not one."""
_ARGUMENTS = re.compile(r"-|[\w.-]+/[\w.-]+$")
"""First word of arguments: a flag, or a hub model."""
_SURE = 2
"""Number of deciding flags that identify an engine without its name."""


def recognised(
    words: Sequence[str], image: str, variables: Mapping[str, str], programs: Mapping[str, Program]
) -> tuple[str, int] | None:
    """The program that an image starts, and the words before its arguments; None if it is not certain."""
    name = image.partition("@")[0].rpartition("/")[2].lower()
    if _BESIDE.search(name):
        return None
    named = [each for each, program in programs.items() if program.built and re.search(program.built, name)]
    for each in named:
        before = int(list(words[:1]) == programs[each].commands[0].split()[1:])
        if _is_of(words[before:], programs[each], variables):
            return each, before
    if named or not words or not words[0].startswith("-"):
        return None
    sure = [each for each, program in programs.items() if _has_all(words, program)]
    return (sure[0], 0) if len(sure) == 1 else None


def _is_of(words: Sequence[str], program: Program, variables: Mapping[str, str]) -> bool:
    """Whether a candidate program accepts these words; without words, whether variables identify it."""
    if not words:
        return any(name in variables for name in program.shown_by)
    decide, unknown = _counts(words, program)
    return _ARGUMENTS.match(words[0]) is not None and decide > 0 and unknown <= decide


def _has_all(words: Sequence[str], program: Program) -> bool:
    """Whether all words are long flags of it, since short ones are of many programs."""
    decide, unknown = _counts(words, program)
    long = all(given.spelled.startswith("--") for given in divided(words, program).given)
    return decide >= _SURE and not unknown and long


def _counts(words: Sequence[str], program: Program) -> tuple[int, int]:
    """Flags that decide its cache or name its model, and words that are not its flags."""
    line = divided(words, program)
    decide = [given for given in line.given if given.flag.does.decides or isinstance(given.flag.does, Names)]
    strays = line.strays[int(program.takes_model) :]
    return len(decide), len(line.unknown) + len(line.wrong) + len(strays)
