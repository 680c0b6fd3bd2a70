"""Aliases for the options of `options.py`: spellings that engines and people use.

--max-model-len 32k   as   --tokens 32k          --json   as   --format json          version   as   --version
"""

from __future__ import annotations

from collections.abc import Sequence

from kvcalc.errors import KvcalcError

SPELLINGS: dict[str, tuple[str, ...]] = {
    **dict.fromkeys(("--context", "--ctx", "--seq-len", "--max-model-len", "-c"), ("--tokens",)),
    **dict.fromkeys(("--users", "--sequences", "--concurrency", "-n"), ("--batch",)),
    **dict.fromkeys(("--kv-cache-dtype", "--cache-type"), ("--dtype",)),
    "--json": ("--format", "json"),
}
"""The option that each alias stands for; a value after the alias becomes the option's."""
_OF_KVCALC = {"version": "--version", "-v": "--version", "-V": "--version", "help": "--help"}
_ENDS_OPTIONS = "--"


def spelled_out(line: Sequence[str]) -> list[str]:
    """The command line with aliases replaced by options."""
    if line and line[0] in _OF_KVCALC:
        return [*line[1:], _OF_KVCALC[line[0]]] if line[0] == "help" else [_OF_KVCALC[line[0]], *line[1:]]
    words: list[str] = []
    for index, word in enumerate(line):
        if word == _ENDS_OPTIONS:
            return [*words, *line[index:]]
        name, equals, value = word.partition("=")
        option = SPELLINGS.get(name)
        if option is None or (equals and len(option) > 1):
            words.append(word)
        else:
            words += [f"{option[0]}={value}"] if equals else option
    return words


def as_written(line: Sequence[str], error: KvcalcError) -> KvcalcError:
    """The error, at the option as the line spells it."""
    words = line[: line.index(_ENDS_OPTIONS)] if _ENDS_OPTIONS in line else line
    names = (word.partition("=")[0] for word in words)
    written = {SPELLINGS[name][0]: name for name in names if name in SPELLINGS}
    option, colon, rest = error.where.partition(": ")
    if option in written and option not in words:
        error.where = f"{written[option]}{colon}{rest}"
    return error


def others(flags: Sequence[str]) -> list[str]:
    """The aliases of an option, with or without a value."""
    return [name for name, option in SPELLINGS.items() if option[0] in flags]
