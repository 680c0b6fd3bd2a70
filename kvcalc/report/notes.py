"""Notes below a table: each once, after the names of all rows it applies to."""

from collections.abc import Iterable


def once(notes: Iterable[tuple[str, str]]) -> tuple[str, ...]:
    """`a, b: the note`, from pairs of row name and note, in order of first occurrence."""
    named: dict[str, dict[str, None]] = {}
    for name, note in notes:
        named.setdefault(note, {})[name] = None
    return tuple(f"{', '.join(names)}: {note}" for note, names in named.items())
