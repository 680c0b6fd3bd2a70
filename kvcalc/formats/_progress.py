"""A progress bar on a terminal's stderr, for work that takes longer than a second."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from time import monotonic

_PATIENCE_SECONDS = 1.0


@contextmanager
def progress_bar(words: str) -> Iterator[Callable[[int, int], None]]:
    """Function to call with work done and total; the bar appears after a second, and disappears at the end."""
    if not sys.stderr.isatty():
        yield lambda _done, _all: None
        return

    from rich.console import Console
    from rich.progress import Progress

    started = monotonic()
    with Progress(console=Console(stderr=True), transient=True, disable=False, auto_refresh=False) as bar:
        task = bar.add_task(words, total=None, visible=False)

        def show(done: int, whole: int) -> None:
            visible = monotonic() - started > _PATIENCE_SECONDS
            bar.update(task, completed=done, total=whole, visible=visible, refresh=visible)

        yield show
