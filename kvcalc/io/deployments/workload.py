"""What a form hands on: an engine that a document may start, with all that the document says of it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

from kvcalc.io.deployments.reading.text import Text

ALL_GPUS = "all GPUs of the host: how many is not known here"
"""Why the number of GPUs is not said; what the engine's ranks take is."""


class Told(NamedTuple):
    """What a reader is to know, with its line in the document."""

    line: int
    about: str
    why: str


class Refused(NamedTuple):
    """What cannot be read or is not there, with its line in the document."""

    line: int
    about: str
    why: str


class Kind(NamedTuple):
    """Which GPU a document asks for. name: the device, None where what is said is not enough, and then why."""

    name: str | None
    line: int
    why: str = ""


class Workload(NamedTuple):
    """An engine that may be started: whether one is, its words say.

    name, part: of the deployment, and of what stands below it, which is named only where there are several. group: what
    the parts have in common. line: of what starts it. words: a command as a list, or the arguments of its image.
    is_command: whether the first is a program for sure. script: a text of a shell in their place. program: whose
    arguments the words are, where the form says it.
    variables: its environment. used: those that its words name. secret: names of variables whose values are not to be
    had. model: what the form says.
    settings: of an engine without a command line. gpus: of one replica over all its nodes, with its line. kind: which.
    memory_bytes, container_gpus: memory limit and GPUs of one container, where it states them.
    replicas: None where another document says it. runs_many: why no model is said. bare: whether it is a command line
    alone, which has no environment. files: that it finds at a path. says: what else is to be said of it.
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
    files: Mapping[str, Text] = {}
    says: tuple[Told | Refused, ...] = ()
