"""The argument of `kvcalc explain`: a file, a pipe, a server's address, or the pasted text itself."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from kvcalc.engines import Engine
from kvcalc.engines.base.versions import NEAREST
from kvcalc.errors import InvalidFileError, InvalidValueError, KvcalcError
from kvcalc.errors.foreign import listed, name_shown
from kvcalc.fleet.explain import Reading, explain_alone, explain_unnamed
from kvcalc.io.drafting import Drafting
from kvcalc.io.engine_logs import log_text, looked_for, read_lines, split_lines
from kvcalc.io.engine_logs._outside import error_outside
from kvcalc.io.files import exists
from kvcalc.io.loading import load, load_named
from kvcalc.model import Model, with_draft_layers
from kvcalc.report.log import LogReport
from kvcalc.units import plural

if TYPE_CHECKING:
    from kvcalc.io.live import Server

STDIN = "-"
_SCHEMES = ("http://", "https://")
_PASTED = "the pasted text"
_IN_CACHE = re.compile(r"\bmodels--([\w.-]+?)--([\w.-]+)")
_IS_PATH = re.compile(r"[/~.]|[A-Za-z]:|.*\\\\|.*/.*/")


def read_said(word: str, engine: str | None = None) -> tuple[Reading, str]:
    """What a log, an error or a server says about its cache, and its name.

    word: a path, `-` for standard input, http://host:port, or the text. engine: that wrote it, None to detect. Raises
    InvalidFileError if nothing reports a cache, UnreachableError for a server that does not answer, UnknownNameError
    for an unknown engine.
    """
    if is_address(word):
        from kvcalc.io.live import Server

        return _of_server(Server(word), engine)
    path = Path("/dev/stdin" if word == STDIN else word)
    if word != STDIN and _is_text(word, path):
        return _of_text(word, _PASTED, engine), _PASTED
    where = "standard input" if word == STDIN else word
    return _of_text(log_text(path, where), where, engine), where


def is_address(word: str) -> bool:
    """Whether a word is the address of a server."""
    return word.lower().startswith(_SCHEMES) and not any(map(str.isspace, word))


def _is_text(word: str, path: Path) -> bool:
    """Whether a word is the text itself: several words that do not name an existing file."""
    return len(word.split()) > 2 and not exists(path)  # noqa: PLR2004


def _of_text(text: str, where: str, engine: str | None) -> Reading:
    from kvcalc.io.servers import saved

    lines = split_lines(text)
    reading = read_lines(lines, engine) or saved(text, engine)
    if reading is None and (error := error_outside(lines)) is not None:
        raise InvalidFileError(error[1], where=f"{where}:{error[0]}", help=error[2])
    if reading is None:
        raise InvalidFileError(
            f"no cache reported in {plural(len(lines), 'line')}", where=where, help=f"looked for {looked_for(engine)}"
        )
    return reading


def _of_server(server: Server, engine: str | None) -> tuple[Reading, str]:
    from kvcalc.io.servers import ask

    reading = ask(server.get, engine)
    if reading is None:
        answers = listed([f"{path}: {words}" for path, words in server.answered.items()])
        raise InvalidFileError(
            f"no page states a cache ({answers})",
            where=server.address,
            help="pass its output as a file: curl ADDRESS/metrics > metrics.txt, or its start-up log",
        )
    return reading, server.address


def model_named_in(reading: Reading) -> Model | None:
    """The model that a log or a server names or describes; None if it is not certain.

    A path belongs to the machine that wrote the log and is not opened: its last parts may be a repository's name.
    Ambiguous names are not used.
    """
    if reading.metadata:
        return load(dict(reading.metadata))
    for name in _names_of(reading.model):
        try:
            model = load_named(name)
        except KvcalcError:
            continue
        note = f"the log names {name_shown(reading.model)}; predicted as {model.name}"
        return replace(model, notes=(*model.notes, note))
    return None


def model_or_answer(reading: Reading, where: str, *, mtp: bool = False) -> Model | LogReport:
    """The model that a log or a server names, with its draft layers for mtp; else what can be said without one.

    Raises InvalidValueError if neither is certain, or the model has no such layers.
    """
    alone = explain_alone(reading, file=where)
    if alone is not None:
        return alone
    served = model_named_in(reading)
    if served is not None:
        return with_draft_layers(served) if mtp else served
    unnamed = explain_unnamed(reading, file=where)
    if unnamed is not None:
        return unnamed
    named = f" ({reading.model})" if reading.model else ""
    stated = f"; the log has: {reading.stated}" if reading.stated else ""
    raise InvalidValueError(
        f"this {reading.engine} log does not describe its model{named}",
        where=where,
        help=f"name the model: --preset r1, or --model path/to/config.json{stated}",
    )


def drafted_as_said(
    model: Model, reading: Reading, settings: Mapping[str, object], draft: str | None = None, *, hub: bool = False
) -> Model:
    """`model` with the layers of its draft checkpoint: `draft`, or the one in a log, if that is certain.

    settings: of the engine, over the log's. Raises as `kvcalc.io.drafting` does.
    """
    try:
        engine = Engine.of(f"{reading.engine}@{NEAREST}", {**reading.settings, **settings})
    except KvcalcError:
        return model  # reported by the explanation
    if draft is not None:
        return Drafting(engine, draft, hub=hub).of(model)
    for name in _names_of(engine.draft_model or ""):
        try:
            drafter = load_named(name)
        except KvcalcError:
            continue
        return Drafting(engine, drafter).of(model)
    return model


def _names_of(logged: str) -> Iterator[str]:
    """Possible names of a logged model: a repository, as written, in a hub cache path, or at a path's end."""
    if found := _IN_CACHE.search(logged):
        yield f"{found[1]}/{found[2]}"
    elif not _IS_PATH.match(logged):
        yield from ([logged] if logged and not exists(Path(logged)) else [])
    else:
        parts = [part for part in re.split(r"[/\\]", logged) if part]
        names = ("/".join(parts[-2:]), parts[-1]) if len(parts) > 1 else tuple(parts)
        yield from (name for name in names if not exists(Path(name)))
