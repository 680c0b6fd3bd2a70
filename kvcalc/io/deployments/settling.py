"""Resolves a workload: its words parsed as the engine parses them, and what is missing, each with its place.

One step for all forms: variables are expanded, the launcher is found, and the rest goes to `kvcalc.io.engine_args`.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from kvcalc.errors import InvalidValueError
from kvcalc.errors.foreign import listed
from kvcalc.io.deployments.own import own_server
from kvcalc.io.deployments.reading.text import Text
from kvcalc.io.deployments.workload import Refused, Told, Workload
from kvcalc.io.engine_args import (
    PROGRAMS,
    UNKNOWN,
    Command,
    Refusal,
    could_be_secret,
    program_of,
    read_command,
    read_commands,
    version_of,
    without_secrets,
)
from kvcalc.report.deployments import Deployed, Note

_SHELLS = re.compile(r"(?:.*/)?(?:ba|z|da|a|k)?sh")
_WITH_TEXT = re.compile(r"-\w*c")
_LLAMA_CPP = "llama_cpp"
_OLLAMA = "ollama"
_ENGINES = {"tensorrt_llm": "trtllm", "llama_cpp_python": "llama_cpp"}
"""Programs whose engine is printed under another name."""
_NO_ENGINE = "no engine"
_IN_CONTAINER = re.compile(r"/(?:mnt|model[\w-]*|workspace|data|repository|opt|app|cache|root|var)(?:/|$)|model")
_NAMED = re.compile(r"\$\{?([A-Za-z_]\w*)")
_UNSET = re.compile(r"([A-Za-z_]\w*) is a variable that nothing sets")
_NAMELESS = "a variable is an unset variable"
_OF_SCRIPT = "an unset variable, such as a script argument"
_MODEL_FLAGS = ("--model", "--model-path", "--model-id", "-m", "--model-tag", "-hf", "--hf-repo", "model")
_ARGUMENT = re.compile(r"-|[\w.-]+/[\w.-]+$")
"""First word of an image's arguments: a flag, or a hub model."""
_NAMED_AFTER = re.compile(
    r"(?:^|/)(vllm|sglang)(?:[-_](?:openai|cpu|rocm|gpu|xpu|hpu|cuda|ascend|tpu)[\w.-]*)?(?::[^/]*)?$"
)
_POOLING = re.compile(r"--(?:runner|task|convert)(?:=|\s+)['\"]?(?:pooling|embed|embedding|classify|score|reward)\b")
_NO_MODEL = "unknown; name it in a plan (from: FILE, model: NAME)"
_OTHERS_START = "an image of this engine; its model is set where it is run"
_HIDDEN = "it decides the cache, and comes from a Secret or another object that is not among the files"
_GIVE = "pass its file, too, or --set NAME=VALUE"
_MOST_SHOWN = 3
_GPU_TOLD = "unknown; sizes can be computed, but a fit needs --gpu"
_REST_OF_NODES = ("data-parallel-size-local", "data-parallel-address", "nnodes", "data-parallel-hybrid-lb", "headless")


class Settled(NamedTuple):
    """A deployment with its source.

    command: None for an engine whose words are not parsed. refused: why it cannot be sized, except for an unknown GPU.
    lines: of its arguments by name, and of its model, as far as they are written there.
    """

    deployed: Deployed
    command: Command | None
    workload: Workload
    refused: tuple[Note, ...]
    lines: Mapping[str, int] = {}


class Outcome(NamedTuple):
    """The result of resolving a workload."""

    settled: tuple[Settled, ...] = ()
    refused: tuple[Note, ...] = ()
    told: tuple[Note, ...] = ()


class _Place(NamedTuple):
    """Places of a workload's words."""

    file: str
    workload: Workload
    script: Text | None = None

    def at(self, line: int) -> str:
        """FILE:LINE."""
        return f"{self.file}:{line}"

    def offset(self, command: Command) -> int:
        """Where the command begins in the script."""
        offset = 0
        for _ in range(command.line - 1 if self.script is not None else 0):
            offset = str(self.script).find("\n", offset) + 1
        return offset

    def line(self, command: Command) -> int:
        """The line of what starts the engine."""
        return self.workload.line if self.script is None else self.script.line_at(self.offset(command))

    def of(self, about: str, at: int | None, command: Command) -> int:
        """The line of a flag or a variable. at: its position among the words."""
        workload = self.workload
        if self.script is not None:
            found = self.script.find(about.partition("=")[0], self.offset(command))
            return self.script.line_at(found) if found >= 0 else self.line(command)
        if at is not None and at < len(workload.words):
            return workload.words[at].line
        value = workload.variables.get(about)
        return value.line if value is not None else workload.line


def settle(workload: Workload, file: str, folder: Path | None) -> Outcome:
    """All engines of a workload, in order; other commands are reported."""
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
    commands = _with_servers(commands)
    if not commands:
        own = own_server(workload.image, workload.variables, workload.line)
        if own is not None:
            refused = Note(place.at(workload.line), "engine", own.why)
            settled = _of_own(workload._replace(words=()), own.engine, own.args, own.model, place)
            return Outcome((settled._replace(refused=(refused,)),), (*notes[0], refused), notes[1])
        if workload.settings is not None:
            settled = _of_own(workload, workload.program, workload.settings, workload.model, place)
            return Outcome((settled,), notes[0], notes[1])
        return Outcome(refused=notes[0] if workload.program else (), told=_no_engine(place))
    used = workload.used | frozenset(_NAMED.findall(script or ""))
    read = [_settled(_versioned(_without(command, used), workload.image), place) for command in commands]
    return Outcome(
        tuple(settled for each in read for settled in each.settled),
        (*notes[0], *(note for each in read for note in each.refused)),
        (*notes[1], *(note for each in read for note in each.told)),
    )


def _with_servers(commands: Sequence[Command]) -> tuple[Command, ...]:
    """Commands, of which `ollama run M` behind `ollama serve` is what that server serves."""
    found: list[Command] = []
    for command in commands:
        before = found[-1] if found else None
        if before and before.program == command.program == _OLLAMA and before.model is None and command.model:
            found[-1] = before._replace(model=command.model, model_at=None)
        else:
            found.append(command)
    return tuple(found)


def _without(command: Command, used: frozenset[str]) -> Command:
    """A command without notes on variables that its own words use: these are the author's own."""
    refused = tuple(each for each in command.refused if each.about not in used)
    return command._replace(refused=refused, told=tuple(each for each in command.told if each.about not in used))


def _versioned(command: Command, image: str) -> Command:
    """A command with the version from its container image's tag."""
    if command.version or not image or not program_of(command.program).is_of(image):
        return command
    return command._replace(version=version_of(image))


def _notes(file: str, says: Sequence[Told | Refused]) -> tuple[tuple[Note, ...], tuple[Note, ...]]:
    """Refusals and notes of a form."""
    refused = tuple(Note(f"{file}:{each.line}", each.about, each.why) for each in says if isinstance(each, Refused))
    told = tuple(Note(f"{file}:{each.line}", each.about, each.why) for each in says if isinstance(each, Told))
    return refused, told


def _no_engine(place: _Place) -> tuple[Note, ...]:
    workload = place.workload
    unknown = UNKNOWN.search(workload.image)
    unset = f" that is known: its image is {_variable(unknown[0])}, which is unset" if unknown else ""
    why = _NO_ENGINE + unset
    return (Note(place.at(workload.line), workload.part or workload.name, why),)


def _script_of(words: Sequence[Text]) -> Text | None:
    """The text of `sh -c`; None for other commands."""
    if not words or not _SHELLS.fullmatch(words[0]):
        return None
    for index, word in enumerate(words[1:-1], 1):
        if _WITH_TEXT.fullmatch(word):
            return next((each for each in words[index + 1 :] if each != "--"), None)
    return None


def _speaks_of_engines(script: str) -> bool:
    return re.search(r"\b(?:vllm|sglang|llama-server|trtllm|lmdeploy|text-generation)\b", script) is not None


def _commands(workload: Workload, script: Text | None, folder: Path | None) -> tuple[Command, ...]:
    variables = {name: str(value) for name, value in workload.variables.items()}
    if script is not None:
        variables |= {name: f"${{{name}}}" for name in workload.secret if name not in variables}  # set, but unknown
        return read_commands(str(script), None if workload.bare else variables, folder=folder, files=workload.files)
    program = workload.program or _program_of(workload)
    known = [name.replace("-", "_") for name in PROGRAMS.names()]
    if (program and program not in known) or not (workload.words or program or workload.image):
        return ()
    try:
        words = [str(word) for word in workload.words]
        image = workload.image or None
        if image is not None and workload.is_command and words and not words[0].startswith("-"):
            read_command(words, variables, engine=workload.program or None)  # raises for another program
        files = workload.files
        return (read_command(words, variables, engine=program or None, image=image, folder=folder, files=files),)
    except InvalidValueError:
        return ()


def _program_of(workload: Workload) -> str:
    """The engine of an image derived from the engine's own and named after it; its arguments stand alone."""
    if workload.is_command or not workload.words or not _ARGUMENT.match(workload.words[0]):
        return ""
    match = _NAMED_AFTER.search(workload.image.partition("@")[0])
    return match[1] if match else ""


class _One(NamedTuple):
    settled: tuple[Settled, ...]
    refused: tuple[Note, ...]
    told: tuple[Note, ...]


def _settled(command: Command, place: _Place) -> _One:
    workload = place.workload
    line = place.line(command)
    if workload.is_image and command.model is None and not command.args and not command.refused:
        return _One((), (), (Note(place.at(line), command.title, _OTHERS_START),))
    model, model_refused = _model(command, place, line)
    refused = [*_refusals(command, place), *model_refused]
    args: dict[str, object] = {name: value for name, value in command.args.items() if not _is_unknown(value)}
    args |= workload.settings or {}
    gpus = workload.gpus if workload.gpus is not None else command.gpus
    ranks = _ranks(command)
    said = _said_ranks(command)
    if gpus is None and said:
        gpus = ranks
    elif gpus is not None and ranks > gpus and said and not any(name in args for name in _REST_OF_NODES):
        where = place.at(workload.gpus_line if workload.gpus is not None else line)
        refused.append(Note(where, "GPUs", f"{said} needs {ranks} GPUs, but has {gpus}: it would not start"))
    if command.engine is None and not any(_is_of_engine(refusal, command) for refusal in command.refused):
        decides = f"; its cache is decided by {command.title and _decides(command)}" if _decides(command) else ""
        refused.append(Note(place.at(line), "engine", f"{command.title} is not modelled{decides}"))
    if _pools(place):
        refused.append(
            Note(
                place.at(line), "model", "it runs as a pooling model (--runner), which keeps no KV cache between steps"
            )
        )
    unknown = _of_absent(command, place)
    refused += unknown.refused
    blocking = tuple(refused)
    if workload.kind is not None and workload.kind.name is None:
        refused.append(Note(place.at(workload.kind.line), "GPU", workload.kind.why))
    told = [*_tells(command, place), *unknown.told]
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
    settled = Settled(deployed, command, workload, blocking, dict(_lines(command, place)))
    return _One((settled,), tuple(refused), tuple(told))


def _lines(command: Command, place: _Place) -> Iterator[tuple[str, int]]:
    """The line of each argument, and of the model."""
    spelled = {name: re.escape(name).replace(r"\-", "[-_]") for name in command.args}
    flags = {name: re.compile(rf"(?<!\S)--?{words}(?=[\s=]|$)") for name, words in spelled.items()}
    if command.model:
        flags["model"] = re.compile(rf"(?<![\w./-]){re.escape(command.model)}(?![\w./-])")
    for name, flag in flags.items():
        if place.script is not None:
            match = flag.search(place.script, place.offset(command))
            if match:
                yield name, place.script.line_at(match.start())
        elif word := next((each for each in place.workload.words if flag.search(each)), None):
            yield name, word.line


def _of_absent(command: Command, place: _Place) -> _One:
    """Variables that decide the cache and are not known: of sources that are not there, or in a Secret."""
    program, workload = program_of(command.program), place.workload
    deciding = [name for name in program.deciding_variables if name not in workload.variables]
    hidden = [
        Note(place.at(workload.line), name, _HIDDEN, f"--set {name}=VALUE")
        for name in deciding
        if name in workload.secret
    ]
    notes = [
        (
            each,
            Note(
                place.at(each.line),
                each.what,
                f"not among the files; it may set {listed(deciding, _MOST_SHOWN)}",
                _GIVE,
            ),
        )
        for each in workload.absent
        if deciding
    ]
    stops = [note for each, note in notes if program.by_variables and not (each.may_be or each.hidden)]
    return _One((), (*hidden, *stops), tuple(note for _, note in notes if note not in stops))


def _is_unknown(value: object) -> bool:
    """Whether a value contains an unset variable, which is refused."""
    return isinstance(value, str) and UNKNOWN.search(value) is not None


def _decides(command: Command) -> str:
    return program_of(command.program).decides


def _name(command: Command, workload: Workload) -> str:
    return command.container if workload.script is not None and command.container else workload.name


def _model(command: Command, place: _Place, line: int) -> tuple[str | None, list[Note]]:
    """The model, and what is missing."""
    workload, said = place.workload, command.model
    if workload.model is not None and (said is None or _IN_CONTAINER.match(said)):
        return _model_of_form(workload.model, place)
    if said is not None:
        return said, []
    if workload.runs_many:
        return None, [Note(place.at(line), "model", workload.runs_many)]
    shown = _path_with_variable(command, workload.words) if place.script is None else None
    refused = any(_is_of_model(refusal, command) for refusal in command.refused)
    if shown is not None or refused or command.program == "ollama":
        return shown, []
    return None, [Note(place.at(line), "model", _NO_MODEL)]


def _model_of_form(model: Text, place: _Place) -> tuple[str | None, list[Note]]:
    """The model named by the form, unless it is an unset variable or could be a secret."""
    if UNKNOWN.search(model):
        return None, [Note(place.at(model.line), "model", f"{_variable(model)} is not set in the files")]
    if could_be_secret(model):
        return None, [Note(place.at(model.line), "model", "not shown: it could be a secret")]
    return str(model), []


def _is_of_model(refusal: Refusal, command: Command) -> bool:
    return refusal.about in _MODEL_FLAGS or (refusal.at is not None and refusal.at == command.model_at)


def _variable(text: str) -> str:
    match = re.search(r"[A-Za-z_][\w.]*", text)
    return match[0] if match else "a variable"


def _is_of_engine(refusal: Refusal, command: Command) -> bool:
    return refusal.about == command.title


def _path_with_variable(command: Command, words: Sequence[Text]) -> str | None:
    """A model path that contains a variable."""
    at = command.model_at
    given = words[at : at + 2] if at is not None else ()
    paths = [word.partition("=")[2] if word.startswith("-") else str(word) for word in given]
    return next((path for path in paths if UNKNOWN.sub("", path).strip("/") and _is_holed(path)), None)


def _is_holed(path: str) -> bool:
    return UNKNOWN.search(path) is not None and not could_be_secret(path)


def _ranks(command: Command) -> int:
    parallel = command.parallel
    return parallel.get("tp", 1) * parallel.get("pp", 1) * parallel.get("dp", 1)


def _said_ranks(command: Command) -> str:
    """The given degrees, in words; empty if none."""
    return " x ".join(f"{name} {command.parallel[name]}" for name in ("tp", "pp", "dp") if name in command.parallel)


def _pools(place: _Place) -> bool:
    text = place.script if place.script is not None else " ".join(place.workload.words)
    return _POOLING.search(text) is not None


def _refusals(command: Command, place: _Place) -> Iterator[Note]:
    secret = place.workload.secret
    for refusal in command.refused:
        about = refusal.about
        if _is_of_model(refusal, command) or _is_of_engine(refusal, command):
            about = "model" if _is_of_model(refusal, command) else "engine"
        why = refusal.why
        hidden = next((name for name in secret if name in why), None)
        if hidden is not None:
            why = (
                f"{hidden} comes from a Secret or another object that is not among the files: pass --set {hidden}=VALUE"
            )
        why = _OF_SCRIPT if why == _NAMELESS else why
        unset = _UNSET.match(why)
        help = "" if hidden else f"--set {unset[1]}=VALUE, or {refusal.help}" if unset else refusal.help
        yield Note(place.at(place.of(refusal.about, refusal.at, command)), about, why, help)


def _tells(command: Command, place: _Place) -> Iterator[Note]:
    yield from (Note(place.at(place.of(said.about, said.at, command)), said.about, said.why) for said in command.told)


def _of_own(workload: Workload, engine: str, args: Mapping[str, object], model: Text | None, place: _Place) -> Settled:
    """An engine with its own settings; one built on llama.cpp is sized as llama.cpp."""
    deployed = Deployed(
        name=workload.name,
        engine=engine,
        model=None if model is None or could_be_secret(model) or UNKNOWN.fullmatch(model) else str(model),
        args=without_secrets(dict(args)),
        gpus=workload.gpus,
        gpu=workload.kind.name if workload.kind else None,
        replicas=workload.replicas,
        role=workload.role,
        where=place.at(workload.line),
        replicas_max=workload.replicas_max,
    )
    command = read_command(list(workload.words), engine=_LLAMA_CPP) if workload.words else None
    return Settled(deployed, command, workload, ())
