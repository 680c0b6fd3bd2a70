"""Dockerfiles: the last ENTRYPOINT and CMD, with ARG and ENV of the last stage, and its base image.

Source: docs.docker.com/reference/dockerfile.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import NamedTuple

from kvcalc.io.deployments.documents import DOCKER, Around, Document
from kvcalc.io.deployments.forms import Form, Read
from kvcalc.io.deployments.forms.compose import filled
from kvcalc.io.deployments.reading.text import Text
from kvcalc.io.deployments.reading.words import listed, split
from kvcalc.io.deployments.workload import Workload

_INSTRUCTION = re.compile(r"\s*([A-Za-z]+)\s+")
_PAIR = re.compile(r"([A-Za-z_]\w*)=(.*)", re.DOTALL)
_AS = re.compile(r"\s+as\s+", re.IGNORECASE)
_PLATFORM = re.compile(r"^--platform=\S+\s+")
_HEREDOC = re.compile(r"<<-?['\"]?(\w+)['\"]?")


def _read(document: Document, around: Around) -> Iterator[Read]:
    last = _last_stage(document.text)
    if last is None:
        return
    image, entry, command, values = last
    values = {**values, **around.given}
    start = command if command is not None else entry
    script = next((each for each in (entry, command) if each is not None and listed(each) is None), None)
    words = [word for each in (entry, command) if each is not None for word in listed(each) or ()]
    line = start.line if start is not None else 1
    yield Workload(
        name=document.stem,
        line=line,
        words=() if script is not None else tuple(words),
        script=script,
        is_command=entry is not None,
        image=str(image),
        variables=values,
        is_image=True,
    )


class _Stage(NamedTuple):
    """A stage: its base image, command, and variables."""

    image: str
    entry: Text | None
    command: Text | None
    values: Mapping[str, Text]


def _last_stage(text: Text) -> _Stage | None:
    """The last stage, including what it inherits from its base stage."""
    stages: dict[str, _Stage] = {}
    stage: _Stage | None = None
    arguments: dict[str, Text] = {}
    alias = ""
    for name, rest in instructions(text):
        if name == "FROM":
            base, *named = _AS.split(_PLATFORM.sub("", filled(rest, arguments)).strip(), maxsplit=1)
            alias = named[0].lower() if named else ""
            stage = stages.get(base.lower(), _Stage(base, None, None, dict(arguments)))
        elif stage is None:
            arguments.update(_pairs(rest, arguments) if name == "ARG" else ())
        elif name in ("ENV", "ARG"):
            stage = stage._replace(values={**stage.values, **dict(_pairs(rest, stage.values))})
        elif name == "ENTRYPOINT":
            stage = stage._replace(entry=rest, command=None)
        elif name == "CMD":
            stage = stage._replace(command=rest)
        if stage is not None:
            stages[alias] = stage
    return stage


def instructions(text: Text) -> Iterator[tuple[str, Text]]:
    """Instructions with their arguments; lines ending in a backslash continue, comments in between are dropped."""
    pieces: list[Text] = []
    heredoc = ""
    for line in text.by_line():
        if heredoc:
            heredoc = "" if line.strip() == heredoc else heredoc
            continue
        if line.lstrip().startswith("#") or (not line.strip() and not pieces):
            continue
        more = line.rstrip().endswith("\\")
        pieces.append(line.part(0, len(line.rstrip()) - 1) if more else line)
        pieces.append(Text.on(line.line, " "))
        if more:
            continue
        whole, pieces = Text.joined(pieces), []
        match = _INSTRUCTION.match(whole)
        if match is not None:
            yield match[1].upper(), whole.part(match.end(), len(whole)).stripped()
            opened = _HEREDOC.search(whole) if match[1].upper() in ("RUN", "COPY", "ADD") else None
            heredoc = opened[1] if opened else ""


def _pairs(rest: Text, values: Mapping[str, Text]) -> Iterator[tuple[str, Text]]:
    words = split(filled(rest, values))
    matches = [(_PAIR.fullmatch(word), word) for word in words]
    for match, word in matches:
        if match is not None:
            yield match[1], Text.on(word.line, match[2])
    if words and matches[0][0] is None and len(words) > 1:  # ENV NAME value, the older way
        yield str(words[0]), Text.on(words[0].line, " ".join(words[1:]))


FORM = Form("Dockerfile", DOCKER, lambda _: True, _read)
