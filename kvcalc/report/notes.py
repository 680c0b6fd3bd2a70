"""Notes below a table: each once, behind the names of all rows that it holds of."""

from collections.abc import Iterable


def once(notes: Iterable[tuple[str, str]]) -> tuple[str, ...]:
    """`a, b: the note`, of pairs of a row's name and a note, in the order in which notes were first met."""
    named: dict[str, dict[str, None]] = {}
    for name, note in notes:
        named.setdefault(note, {})[name] = None
    return tuple(f"{', '.join(names)}: {note}" for note, names in named.items())
