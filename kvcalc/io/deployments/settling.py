"""What a workload starts in the end: its words read as the engine reads them, and what is missing, each with its place.

One step for all forms: whichever wrote the words, variables are filled in, the launcher is found, and the rest goes to
`kvcalc.io.engine_args`.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from kvcalc.errors import InvalidValueError
from kvcalc.io.deployments.own import own_server
from kvcalc.io.deployments.reading.text import Text
from kvcalc.io.deployments.workload import Kind, Refused, Told, Workload
from kvcalc.io.engine_args import PROGRAMS, Command, read_command, read_commands
from kvcalc.io.engine_args._secrets import could_be_secret, without_secrets
from kvcalc.io.engine_args._shell import UNKNOWN
from kvcalc.report.deployments import Deployed, Note

_SHELLS = re.compile(r"(?:.*/)?(?:ba|z|da|a|k)?sh")
_WITH_TEXT = re.compile(r"-\w*c")
_ENGINES = {"tensorrt_llm": "trtllm", "llama_cpp_python": "llama_cpp"}
"""Programs whose engine goes by another name in what is printed."""
_NO_ENGINE = "no engine"
_IN_CONTAINER = re.compile(r"/(?:mnt|models?|workspace|data|repository|opt|app|cache|root|var)(?:/|$)|model")
_MODEL_WORD = re.compile(r"word \d+")
_MODEL_FLAGS = ("--model", "--model-path", "--model-id", "-m", "--model-tag", "-hf", "--hf-repo", "model")
_NAMED_AFTER = re.compile(
    r"(?:^|/)(vllm|sglang)(?:[-_](?:openai|cpu|rocm|gpu|xpu|hpu|cuda|ascend|tpu)[\w.-]*)?(?::[^/]*)?$"
)
_POOLING = re.compile(r"--(?:runner|task|convert)(?:=|\s+)['\"]?(?:pooling|embed|embedding|classify|score|reward)\b")
_GPU_TOLD = "which GPU is stated nowhere: bytes can be said, and a fit needs --gpu"
_REST_OF_NODES = ("data-parallel-size-local", "data-parallel-address", "nnodes", "data-parallel-hybrid-lb", "headless")


class Settled(NamedTuple):
    """A deployment with what it was read from. command: None for an engine whose words are not read."""

    deployed: Deployed
    command: Command | None
    workload: Workload
    refused: tuple[Note, ...]


class Outcome(NamedTuple):
    """All that came of a workload."""

    settled: tuple[Settled, ...] = ()
    refused: tuple[Note, ...] = ()
    told: tuple[Note, ...] = ()


class _Place(NamedTuple):
    """Where the words of a workload stand."""

    file: str
    workload: Workload
    script: Text | None = None

    def at(self, line: int) -> str:
        """FILE:LINE."""
        return f"{self.file}:{line}"

    def of(self, about: str) -> int:
        """The line of a flag, a variable or a numbered word."""
        workload = self.workload
        if _MODEL_WORD.fullmatch(about):
            number = int(about.removeprefix("word "))
            return self._word(number) if self.script is None else self.of_command(about)
        name = about.partition("=")[0]
        if self.script is not None and (at := self.script.find(name)) >= 0:
            return self.script.line_at(at)
        found = next(
            (word for word in workload.words if word == name or word.startswith((f"{name}=", f"{name} "))), None
        )
        near = (
            found
            if found is not None
            else next((w for w in workload.words if w.replace("_", "-").startswith(name)), None)
        )
        if near is not None:
            return near.line
        value = workload.variables.get(about)
        return value.line if value is not None else workload.line

    def _word(self, number: int) -> int:
        words = self.workload.words
        if not words:
            return self.workload.line
        flags = next((at for at, word in enumerate(words) if word.startswith("-") and len(word) > 2), 0)  # noqa: PLR2004
        first = 0 if words[0].startswith("-") else max(0, flags - 1)
        return words[min(len(words) - 1, first + number - 1)].line

    def of_command(self, text: str) -> int:
        """The line of a text of the script, or of the workload."""
        if self.script is None:
            return self.workload.line
        at = self.script.find(text)
        return self.script.line_at(at) if at >= 0 else self.script.line


def settle(workload: Workload, file: str, folder: Path | None) -> Outcome:
    """All engines of a workload, in order; what is none is told."""
    notes = _notes(file, workload.says)
    script = workload.script if workload.script is not None else _script_of(workload.words)
    place = _Place(file, workload, script)
    try:
        commands = _commands(workload, script, folder)
    except InvalidValueError as error:
        if script is None or not _speaks_of_engines(script):
            return Outcome(told=_no_engine(place)) if script is None else Outcome()
        refused = Note(place.at(script.line), "command", error.what)
        return Outcome(refused=(refused,))
    if not commands:
        own = own_server(workload.image, workload.variables, workload.line)
        if own is not None:
            settled = _of_own(workload, own.engine, own.args, own.model, place)
            refused = Note(place.at(workload.line), "engine", own.why)
            return Outcome((settled,), (*notes[0], refused), notes[1])
        if workload.settings is not None:
            settled = _of_own(workload, workload.program, workload.settings, workload.model, place)
            return Outcome((settled,), notes[0], notes[1])
        return Outcome(refused=notes[0] if workload.program else (), told=_no_engine(place))
    read = [_settled(command, place) for command in commands]
    return Outcome(
        tuple(settled for each in read for settled in each.settled),
        (*notes[0], *(note for each in read for note in each.refused)),
        (*notes[1], *(note for each in read for note in each.told)),
    )


def _notes(file: str, says: Sequence[Told | Refused]) -> tuple[tuple[Note, ...], tuple[Note, ...]]:
    """What a form refuses, and what it tells."""
    refused = tuple(Note(f"{file}:{each.line}", each.about, each.why) for each in says if isinstance(each, Refused))
    told = tuple(Note(f"{file}:{each.line}", each.about, each.why) for each in says if isinstance(each, Told))
    return refused, told


def _no_engine(place: _Place) -> tuple[Note, ...]:
    workload = place.workload
    return (Note(place.at(workload.line), workload.part or workload.name, _NO_ENGINE),)


def _script_of(words: Sequence[Text]) -> Text | None:
    """The text that a shell is given with -c; None where the words are no such command."""
    if not words or not _SHELLS.fullmatch(words[0]):
        return None
    for index, word in enumerate(words[1:-1], 1):
        if _WITH_TEXT.fullmatch(word):
            return words[index + 1]
    return None


def _speaks_of_engines(script: str) -> bool:
    return re.search(r"\b(?:vllm|sglang|llama-server|trtllm|lmdeploy|text-generation)\b", script) is not None


def _commands(workload: Workload, script: Text | None, folder: Path | None) -> tuple[Command, ...]:
    variables = {name: str(value) for name, value in workload.variables.items()}
    if script is not None:
        return read_commands(str(script), None if workload.bare else variables, folder=folder)
    program = workload.program or _program_of(workload)
    known = [name.replace("-", "_") for name in PROGRAMS.names()]
    if (program and program not in known) or not (workload.words or program or workload.image):
        return ()
    try:
        words = [str(word) for word in workload.words]
        image = workload.image or None
        return (read_command(words, variables, engine=program or None, image=image, folder=folder),)
    except InvalidValueError:
        return ()


def _program_of(workload: Workload) -> str:
    """The engine of an image that is built on the engine's own and named after it; its arguments stand alone."""
    if not workload.words or not workload.words[0].startswith("-"):
        return ""
    match = _NAMED_AFTER.search(workload.image.partition("@")[0])
    return match[1] if match else ""


class _One(NamedTuple):
    settled: tuple[Settled, ...]
    refused: tuple[Note, ...]
    told: tuple[Note, ...]


def _settled(command: Command, place: _Place) -> _One:
    workload = place.workload
    line = _line(command, place)
    model, model_refused = _model(command, place, line)
    refused = [*_refusals(command, place), *model_refused]
    args: dict[str, object] = {name: value for name, value in command.args.items() if not _is_unknown(value)}
    args |= workload.settings or {}
    gpus = workload.gpus if workload.gpus is not None else command.gpus
    ranks = _ranks(command)
    if gpus is None and _said_ranks(command):
        gpus = ranks
    elif gpus is not None and ranks > gpus and not any(name in args for name in _REST_OF_NODES):
        where = place.at(workload.gpus_line if workload.gpus is not None else line)
        refused.append(
            Note(where, "GPUs", f"{_said_ranks(command)} needs {ranks} GPUs, and there are {gpus}: it would not start")
        )
    if command.engine is None:
        decides = f"; there decide {command.title and _decides(command)}" if _decides(command) else ""
        refused.append(Note(place.at(line), "engine", f"{command.title} is not modelled{decides}"))
    if _pools(place):
        refused.append(
            Note(place.at(line), "model", "it pools (--runner): such a model keeps no KV cache between steps")
        )
    if workload.kind is not None and workload.kind.name is None:
        refused_kind = Note(place.at(workload.kind.line), "GPU", workload.kind.why)
        refused.append(refused_kind)
    told = [*_tells(command, place)]
    if workload.kind is None:
        told.append(Note(place.at(line), "GPU", _GPU_TOLD))
    if command.engine is None and model is None:
        return _One((), tuple(refused), ())
    deployed = Deployed(
        name=_name(command, workload),
        engine=_ENGINES.get(command.program, command.program),
        model=model,
        args=without_secrets(args),
        gpus=gpus,
        gpu=workload.kind.name if workload.kind else None,
        replicas=workload.replicas,
        role=workload.role or command.role,
        where=place.at(line),
        version=command.version or "",
        replicas_max=workload.replicas_max,
    )
    return _One((Settled(deployed, command, workload, tuple(refused)),), tuple(refused), tuple(told))


def _is_unknown(value: object) -> bool:
    """Whether a value holds a variable that nothing sets, which is refused."""
    return isinstance(value, str) and UNKNOWN.search(value) is not None


def _decides(command: Command) -> str:
    from kvcalc.io.engine_args import program_of

    return program_of(command.program).decides


def _name(command: Command, workload: Workload) -> str:
    return command.container if workload.script is not None and command.container else workload.name


def _line(command: Command, place: _Place) -> int:
    """The line of the command, counted in its script."""
    if place.script is None or not command.line:
        return place.workload.line
    offset = 0
    for _ in range(command.line - 1):
        offset = place.script.find("\n", offset) + 1
    return place.script.line_at(offset)


def _model(command: Command, place: _Place, line: int) -> tuple[str | None, list[Note]]:
    """The model, and what is missing of it."""
    workload = place.workload
    said = command.model
    if workload.model is not None and (said is None or _IN_CONTAINER.match(said)):
        text = str(workload.model)
        if UNKNOWN.search(text):
            return None, [
                Note(place.at(workload.model.line), "model", f"{_variable(text)} is set nowhere in the files")
            ]
        return (
            (None, [Note(place.at(workload.model.line), "model", "not shown: it could be a secret")])
            if could_be_secret(text)
            else (text, [])
        )
    if said is not None:
        return said, []
    shown = _path_with_variable(workload.words)
    refused_already = any(
        refusal.about in _MODEL_FLAGS or _MODEL_WORD.fullmatch(refusal.about) for refusal in command.refused
    )
    if workload.runs_many:
        return shown, [Note(place.at(line), "model", workload.runs_many)]
    if shown is not None or refused_already or command.program == "ollama":
        return shown, []
    return None, [Note(place.at(line), "model", "nothing says which model is served: give --model")]


def _variable(text: str) -> str:
    match = re.search(r"[A-Za-z_][\w.]*", text)
    return match[0] if match else "a variable"


def _path_with_variable(words: Sequence[Text]) -> str | None:
    """A path of a model of which a variable is but a part."""
    for word in words:
        path = word.partition("=")[2] if word.startswith("-") else str(word)
        if path.endswith((".gguf", ".safetensors")) and UNKNOWN.search(path) and not could_be_secret(path):
            return path
    return None


def _ranks(command: Command) -> int:
    parallel = command.parallel
    return parallel.get("tp", 1) * parallel.get("pp", 1) * parallel.get("dp", 1)


def _said_ranks(command: Command) -> str:
    """The degrees that are written, in words; empty where none is."""
    return " x ".join(f"{name} {command.parallel[name]}" for name in ("tp", "pp", "dp") if name in command.parallel)


def _pools(place: _Place) -> bool:
    text = place.script if place.script is not None else " ".join(place.workload.words)
    return _POOLING.search(text) is not None


def _refusals(command: Command, place: _Place) -> Iterator[Note]:
    secret = place.workload.secret
    for refusal in command.refused:
        about = "model" if _MODEL_WORD.fullmatch(refusal.about) else refusal.about
        why = refusal.why
        hidden = next((name for name in secret if name in why), None)
        if hidden is not None:
            why = f"{hidden} comes from a Secret or another object that is not among the files: --set {hidden}=VALUE"
        yield Note(place.at(place.of(refusal.about)), about, why)


def _tells(command: Command, place: _Place) -> Iterator[Note]:
    yield from (Note(place.at(place.of(said.about)), said.about, said.why) for said in command.told)


def _of_own(workload: Workload, engine: str, args: Mapping[str, object], model: Text | None, place: _Place) -> Settled:
    """An engine whose settings are its own."""
    kind: Kind | None = workload.kind
    deployed = Deployed(
        name=workload.name,
        engine=engine,
        model=None if model is None or could_be_secret(model) or UNKNOWN.fullmatch(model) else str(model),
        args=without_secrets(dict(args)),
        gpus=workload.gpus,
        gpu=kind.name if kind else None,
        replicas=workload.replicas,
        role=workload.role,
        where=place.at(workload.line),
        replicas_max=workload.replicas_max,
    )
    return Settled(deployed, None, workload, ())
