"""The result of a form: an engine that a document may start, with everything the document says about it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

from kvcalc.io.deployments.reading.text import Text

ALL_GPUS = "all GPUs of the host: their number is unknown"
"""Why the number of GPUs is unknown; the engine's ranks are then used."""


class Told(NamedTuple):
    """A note, with its line in the document."""

    line: int
    about: str
    why: str


class Refused(NamedTuple):
    """Something unreadable or missing, with its line in the document."""

    line: int
    about: str
    why: str


class Kind(NamedTuple):
    """The GPU requested by a document. name: the device; None if it is not clear, and then why."""

    name: str | None
    line: int
    why: str = ""


class Absent(NamedTuple):
    """A source of variables that is not among the files. what: its kind and name; may_be: whether it may be missing.

    hidden: whether it is a Secret.
    """

    line: int
    what: str
    may_be: bool = False
    hidden: bool = False


class Workload(NamedTuple):
    """An engine that may be started; its words decide.

    name, part: of the deployment, and of what stands below it, which is named only where there are several. group: what
    the parts have in common. line: of what starts it. words: a command as a list, or the arguments of its image.
    is_command: whether the first is a program for sure. script: a text of a shell in their place. program: whose
    arguments the words are, where the form says it.
    variables: its environment. used: those that its words name. secret: names of variables whose values are not to be
    had. model: what the form says.
    settings: of an engine without a command line. gpus: of one replica over all its nodes, with its line. kind: which.
    memory_bytes, container_gpus: memory limit and GPUs of one container, where it states them.
    replicas: None if in another document. runs_many: why there is no model. bare: whether it is only a command line,
    without an environment. is_image: whether it is an image to build, whose arguments may be where it is run. files:
    available to it at a path. says: other notes.
    """

    name: str
    line: int
    words: tuple[Text, ...] = ()
    script: Text | None = None
    is_command: bool = False
    image: str = ""
    program: str = ""
    variables: Mapping[str, Text] = {}
    used: frozenset[str] = frozenset()
    secret: frozenset[str] = frozenset()
    absent: tuple[Absent, ...] = ()
    model: Text | None = None
    settings: Mapping[str, object] | None = None
    gpus: int | None = None
    gpus_line: int = 0
    memory_bytes: int | None = None
    container_gpus: int | None = None
    kind: Kind | None = None
    replicas: int | None = 1
    replicas_max: int | None = None
    role: str | None = None
    part: str = ""
    group: int = 0
    runs_many: str = ""
    bare: bool = False
    is_image: bool = False
    files: Mapping[str, Text] = {}
    says: tuple[Told | Refused, ...] = ()
