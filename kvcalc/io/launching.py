"""Command lines written by the tables that parse them: settings, layout, format and length as an engine's own flags.

Values that differ from the engine's defaults are written, and values without a flag are refused by name.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING

from kvcalc.engines import Engine
from kvcalc.engines.base.plan import Planner
from kvcalc.errors import NotApplicableError
from kvcalc.fleet.fewest import NODE_GPUS
from kvcalc.io.engine_args import Degree, Flag, Names, Program, Sets, program_of
from kvcalc.parallel import Parallel
from kvcalc.report.launch import COMPOSE, KUBERNETES, Launch
from kvcalc.units import count, plural, shown

if TYPE_CHECKING:
    from kvcalc.fleet.on_gpus import OnGpus

SERVERS = {"vllm": "vllm", "sglang": "sglang", "llama-server": "llama_cpp"}
"""Engines by their launch program."""
FORMS = (*SERVERS, COMPOSE, KUBERNETES)
_IMAGES = {
    "vllm": "vllm/vllm-openai:v{version}",
    "sglang": "lmsysorg/sglang:v{version}",
    "llama_cpp": "ghcr.io/ggml-org/llama.cpp:server-cuda",
}
_PORTS = {"vllm": 8000, "sglang": 30000, "llama_cpp": 8080}
_LISTEN = ("--host", "0.0.0.0")  # in a container with a published port
_IN_CONTAINER: Mapping[str, tuple[tuple[str, ...], tuple[str, ...]]] = {
    "vllm": (("vllm", "serve"), ()),
    "sglang": (("python3", "-m", "sglang.launch_server"), _LISTEN),
    "llama_cpp": (("/app/llama-server",), _LISTEN),
}
"""Command in each image, and the arguments to listen on all interfaces."""
_NOT_FLAGS = ("version", "gpu", "defaults")
"""Settings that a command line does not set."""
_BY_DEFAULT = {"usage": "server", "use_v2_model_runner": True}
"""vLLM settings without a flag, and their value in a server."""
_ALWAYS = ("gpu_memory_utilization", "n_seq_max")
"""Settings that are always written, because their defaults differ between versions."""
_SHARED = ("type_k", "type_v")
_FORMAT = "kv_cache_dtype"
_EXPERTS = {"vllm": "enable-expert-parallel"}
_JSON = {"speculative": "speculative-config"}
_GGUF = re.compile(r"q\d(?:_k)?(?:_[sml01])?")


def launch_of(question: OnGpus, ranks: Parallel, tokens: int, form: str, says: tuple[str, ...]) -> Launch:
    """The command that starts a question's engine on these ranks for requests of up to `tokens` tokens.

    Raises NotApplicableError for what a command line cannot express.
    """
    engine = question.asked.engine
    if engine.name not in SERVERS.values():
        raise NotApplicableError(
            f"kvcalc writes command lines for {', '.join(SERVERS)}, but the engine is {engine.name}",
            help="name one: --engine vllm",
        )
    if question.asked.model.methods:
        changed = ", ".join(each.name for each in question.asked.model.methods)
        raise NotApplicableError(f"no flag applies {changed} to the model", help="remove --method and --attention")
    replicas = ranks.dp if form == KUBERNETES and ranks.ep <= ranks.tp else 1
    within = Parallel(ranks.tp, ranks.pp, ranks.dp // replicas, ranks.dcp, ranks.ep)
    if form in (COMPOSE, KUBERNETES) and within.num_ranks > NODE_GPUS:
        raise NotApplicableError(
            f"{within} takes {plural(within.num_ranks, 'GPU')}, but --as {form} writes one node of {NODE_GPUS}",
            help=f"print only the command: --as {_server(engine)}; or choose another layout: --tp {NODE_GPUS}",
        )
    words = tuple(_words(question, within, tokens))
    if form in (COMPOSE, KUBERNETES):
        start, listen = _IN_CONTAINER[engine.name]
        words = (*start, *words[len(program_of(engine.name).commands[0].split()) :], *listen)
    return Launch(
        words=words,
        port=_PORTS[engine.name],
        image=_IMAGES[engine.name].format(version=engine.version),
        name=re.sub(r"[^a-z0-9-]+", "-", question.asked.model.name.lower()).strip("-") or "model",
        gpu=question.gpu.written or question.gpu.name,
        gpus=within.num_ranks,
        replicas=replicas,
        says=says,
    )


def _server(engine: Engine) -> str:
    return next(name for name, of in SERVERS.items() if of == engine.name)


def _words(question: OnGpus, ranks: Parallel, tokens: int) -> Iterator[str]:
    engine = question.asked.serving if question.asked.engine.SHARES_CONTEXT else question.asked.engine
    program = program_of(engine.name)
    yield from program.commands[0].split()
    yield from _model(question, program)
    settings = _settings(question, engine, tokens, program)
    for flag in program.flags:
        if isinstance(flag.does, Degree):
            degree = getattr(ranks, flag.does.degree)
            yield from (f"--{flag.name}", str(degree)) if degree > 1 else ()
        elif isinstance(flag.does, Sets) and flag.does.setting in settings:
            yield from _said(flag, settings.pop(flag.does.setting))
        elif flag.name in _JSON.values():
            named = next(name for name, of in _JSON.items() if of == flag.name)
            yield from (f"--{flag.name}", json.dumps(settings.pop(named))) if named in settings else ()
        elif isinstance(flag.does, Names) and flag.does.what == "tokens":
            yield from (f"--{flag.name}", str(tokens))
    yield from _experts(engine, ranks)
    if settings:
        name, value = next(iter(settings.items()))
        raise NotApplicableError(
            f"{program.title} has no flag for {name} ({shown(value)})",
            help=f"remove {name}, or set it where you start the engine",
        )


def _model(question: OnGpus, program: Program) -> tuple[str, ...]:
    weights, own = question.weights, question.asked.model.checkpoint
    if program.engine == "llama_cpp" and not own.path and not _GGUF.fullmatch(weights.form):
        raise NotApplicableError(
            f"llama-server needs GGUF files, but these weights are {weights.form or 'given'}",
            help="choose a format: --weights-dtype q4_k_m, or name the file",
        )
    name = own.path or weights.repository or ("" if weights.form not in ("", own.format) else own.repository)
    if not name or name.startswith("ollama:"):
        stored = f" in {weights.form}" if weights.form else ""
        raise NotApplicableError(
            f"no known repository of {question.asked.model.name}{stored} to start",
            help="name the model by its repository or path",
        )
    if program.takes_model:
        return (name,)
    if program.engine == "llama_cpp":
        tag = f":{weights.form.upper()}" if _GGUF.fullmatch(weights.form) and not own.path else ""
        return ("--model", name) if own.path else ("--hf-repo", f"{name}{tag}")
    flag = next(flag for flag in program.flags if isinstance(flag.does, Names) and flag.does.what == "model")
    return (f"--{flag.name}", name)


def _settings(question: OnGpus, engine: Engine, tokens: int, program: Program) -> dict[str, object]:
    """Settings that a line must contain: those other than the defaults, the cache's format, and the longest request."""
    plain = Engine.of(engine.name, {**({"version": engine.version} if engine.version else {}), **program.defaults})
    if engine.SHARES_CONTEXT:
        plain = plain.serving(question.asked.sequences)
    stored = question.asked.kv_dtype
    engine = engine.storing(question.asked.model, stored)
    default: Mapping[str, object] = {**plain.settings_by_name(), **_BY_DEFAULT}
    found: dict[str, object] = {
        name: value
        for name, value in engine.settings_by_name().items()
        if name not in _NOT_FLAGS and (value != default.get(name) or name in _ALWAYS)
    }
    if not stored.is_computed_in:
        names = _SHARED if engine.SHARES_CONTEXT else (_FORMAT,)
        found |= {name: stored.name for name in names if default.get(name) == getattr(engine, name)}
    if isinstance(engine, Planner) and program.length:
        found[program.length] = tokens
    return found


def _said(flag: Flag, value: object) -> tuple[str, ...]:
    if flag.takes == "switch":
        return (f"--{flag.name}" if value else f"--no-{flag.name}",)
    if isinstance(value, list | tuple):
        return (f"--{flag.name}", *map(str, value))
    if isinstance(value, bool):
        return (f"--{flag.name}", "on" if value else "off")
    return (f"--{flag.name}", f"{value:g}" if isinstance(value, float) else str(value))


def _experts(engine: Engine, ranks: Parallel) -> tuple[str, ...]:
    if ranks.ep == 1:
        return ()
    flag = _EXPERTS.get(engine.name)
    if flag is None or ranks.ep != ranks.tp * ranks.dp:
        raise NotApplicableError(
            f"kvcalc knows no {engine.TITLE} arguments for EP {ranks.ep} in {ranks}",
            help="choose a layout without EP: --tp, --pp, --dp",
        )
    return (f"--{flag}",)


def said_of(question: OnGpus, ranks: Parallel, users: str, tokens: int, *, estimate: bool) -> str:
    """The capacity of a layout, as a comment in a file."""
    about = " (estimate)" if estimate else ""
    each = "sharing" if question.asked.engine.SHARES_CONTEXT else "of"
    return (
        f"{count(ranks.num_ranks)} x {question.gpu.name}, {ranks}: {users} users {each} {count(tokens)} tokens{about}"
    )
