"""A program as finally started: its words, variables and container."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple, Self


class Started(NamedTuple):
    """A program and its arguments, or those of a container.

    words: the program first if is_command; for a container possibly only arguments.

    image, name: of the container. gpus: that it may use, if given. line: in the text, from 1. skipped: words before its
    own. files: written by the text before, by path. through: a wrapper script. variable_files: files with more
    variables.
    """

    words: tuple[str, ...]
    variables: Mapping[str, str]
    is_command: bool = True
    image: str | None = None
    name: str | None = None
    gpus: int | None = None
    line: int = 0
    skipped: int = 0
    files: Mapping[str, str] = {}
    through: str = ""
    variable_files: tuple[str, ...] = ()

    def inside(self, outer: Started) -> Self:
        """The same, in a container."""
        return self._replace(
            image=self.image or outer.image,
            name=self.name or outer.name,
            gpus=outer.gpus if self.gpus is None else self.gpus,
            skipped=self.skipped + outer.skipped,
            variable_files=(*outer.variable_files, *self.variable_files),
        )
