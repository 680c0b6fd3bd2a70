"""Foreign words: whatever comes from a file, a name, a path, a log or a flag passes `visible` before it is shown.

Characters that act on a terminal or a parser instead of being read (control characters of both sets, escape sequences,
marks that turn the direction of text, line and paragraph separators, halves of surrogate pairs, code points that are no
characters) are shown as the escapes that Python writes for them, and never sent. Each format then escapes what its own
grammar wants escaped (`kvcalc/formats/_escapes.py`).
"""

from __future__ import annotations

from collections.abc import Sequence

MOST_NAME, MOST_TEXT = 200, 2000
"""Longest name and longest sentence that are shown whole, in characters."""
MOST_LISTED, _MOST_IN_LIST = 20, 80
"""Longest list of names that is spelled out, and longest name in one: together they are shorter than MOST_TEXT."""
_COMMAND = r"(?<!\S):(?=:)"
"""Where the runner of a workflow might read a command: it trims a line before it looks for `::`."""
_OLD_COMMAND = r"#(?=#(?:vso)?\[)"
"""The older form of such a command, `##[error]` and `##vso[...]`, which may stand anywhere in a line."""


def visible(text: str, most: int = MOST_TEXT) -> str:
    r"""`text` as it may be shown: on one line, without a character that acts, at most `most` characters long.

    An escape sequence becomes `\x1b[31m`, a line break `\n`, an override of direction `\u202e`; of a text that is
    longer the beginning is shown, an ellipsis, and how long it was. What was shown once may be shown again.
    """
    shown = text if len(text) <= most else text[:most]
    if not shown.isprintable():
        shown = "".join([char if char.isprintable() else _escaped(char) for char in shown])
    if "::" in shown or "##" in shown:
        import re  # hardly any text has these: start-up is budgeted

        shown = re.sub(_OLD_COMMAND, r"\\x23", re.sub(_COMMAND, r"\\x3a", shown))
    if len(shown) <= most and len(text) <= most:
        return shown
    length = f"… ({len(text):,} characters)"
    return f"{shown[: max(0, most - len(length))]}{length}"


def name_shown(name: object) -> str:
    """A name as part of a sentence: visible, and no longer than a name is."""
    return visible(str(name), MOST_NAME)


def quoted(name: object) -> str:
    """A name in quotes, as `repr` writes it, and no longer than a name is."""
    return name_shown(repr(name if len(str(name)) <= MOST_NAME else f"{str(name)[:MOST_NAME]}…"))


def place_shown(place: str) -> str:
    """A place, such as `file:line: path.to.field`: of one that is too long the beginning and the end."""
    most = MOST_TEXT // 4
    return visible(place if len(place) <= 2 * most else f"{place[:most]}…{place[-most:]}")


def listed(names: Sequence[str], most: int = MOST_LISTED) -> str:
    """Names of a list, separated by commas; of a long one the first, and how many more there are."""
    shown = ", ".join(visible(name, _MOST_IN_LIST) for name in names[:most])
    return shown if len(names) <= most else f"{shown} and {len(names) - most:,} more"


def _escaped(char: str) -> str:
    return char.encode("unicode_escape").decode("ascii")
