"""Foreign words: whatever comes from a file, a name, a path, a log or a flag passes `visible` before it is shown.

Characters that control a terminal or a parser (C0 and C1 control characters, escape sequences, bidirectional marks,
line and paragraph separators, lone surrogates, noncharacters) are shown as Python escapes and never sent. Each format
then escapes what its own grammar requires (`kvcalc/formats/_escapes.py`).
"""

from __future__ import annotations

from collections.abc import Sequence

MOST_NAME, MOST_TEXT = 200, 2000
"""Longest name and longest sentence shown in full, in characters."""
MOST_LISTED, _MOST_IN_LIST = 20, 80
"""Longest list of names shown in full, and longest name in it: together shorter than MOST_TEXT."""
_COMMAND = r"(?<!\S):(?=:)"
"""Where a workflow runner might see a command: it trims a line before it looks for `::`."""
_OLD_COMMAND = r"#(?=#(?:vso)?\[)"
"""The older form of such a command, `##[error]` and `##vso[...]`, which may appear anywhere in a line."""


def visible(text: str, most: int = MOST_TEXT) -> str:
    r"""`text` made safe to show: one line, no control characters, at most `most` characters long.

    An escape sequence becomes `\x1b[31m`, a line break `\n`, an override of direction `\u202e`; longer texts are cut,
    with an ellipsis and their length. Applying it twice changes nothing.
    """
    shown = text if len(text) <= most else text[:most]
    if not shown.isprintable():
        shown = "".join([char if char.isprintable() else _escaped(char) for char in shown])
    if "::" in shown or "##" in shown:
        import re  # rare, and start-up is budgeted

        shown = re.sub(_OLD_COMMAND, r"\\x23", re.sub(_COMMAND, r"\\x3a", shown))
    if len(shown) <= most and len(text) <= most:
        return shown
    length = f"… ({len(text):,} characters)"
    return f"{shown[: max(0, most - len(length))]}{length}"


def name_shown(name: object) -> str:
    """A name as part of a sentence: visible, and cut to the length of a name."""
    return visible(str(name), MOST_NAME)


def quoted(name: object) -> str:
    """A name in quotes, as `repr` writes it, and cut to the length of a name."""
    return name_shown(repr(name if len(str(name)) <= MOST_NAME else f"{str(name)[:MOST_NAME]}…"))


def place_shown(place: str) -> str:
    """A place, such as `file:line: path.to.field`; long ones are cut in the middle."""
    most = MOST_TEXT // 4
    return visible(place if len(place) <= 2 * most else f"{place[:most]}…{place[-most:]}")


def listed(names: Sequence[str], most: int = MOST_LISTED) -> str:
    """A comma-separated list of names; long lists show the first ones and the number of the rest."""
    shown = ", ".join(visible(name, _MOST_IN_LIST) for name in names[:most])
    return shown if len(names) <= most else f"{shown} and {len(names) - most:,} more"


def _escaped(char: str) -> str:
    return char.encode("unicode_escape").decode("ascii")
