"""Plans that refer to a file: `from: k8s/vllm.yaml` is the engine that the file starts."""

from __future__ import annotations

from pathlib import Path

from kvcalc.errors import InvalidValueError
from kvcalc.errors.foreign import listed, quoted
from kvcalc.io.deployments import read_deployments
from kvcalc.io.deployments.sources import found, opener
from kvcalc.io.engine_args import Command
from kvcalc.report.deployments import Deployed, Note


def referred(folder: Path, path: str, name: str) -> tuple[Deployed, Command]:
    """The engine that a file starts; by name if there are several. Raises KvcalcError with what the file lacks."""
    files = found([str(folder / path)])
    read = read_deployments(files.sources, opener=opener)
    wrong = (*files.refused, *read.unread.values())
    if wrong:
        raise wrong[0].error()
    named = [each for each in read.settled if each.deployed.name == name] if len(read.settled) > 1 else read.settled
    if len(named) != 1:
        names = [each.deployed.name for each in read.settled]
        raise InvalidValueError(
            f"{quoted(path)} starts {listed(names) or 'no engine'}, none of which is called {quoted(name)}"
            if names
            else f"{quoted(path)} starts no known engine",
            help="give the entry the name of the deployment" if names else "`kvcalc deployments FILE` shows more",
        )
    (settled,) = named
    missing: tuple[Note, ...] = tuple(note for note in settled.refused if note.about != "model")
    if missing:
        raise missing[0].error()
    if settled.command is None:
        raise InvalidValueError(
            f"{settled.deployed.engine} is not modelled", help="write the engine's arguments as args"
        )
    return settled.deployed, settled.command
