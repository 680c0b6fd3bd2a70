"""Python that serves a model: Modal, BentoML, Ray, vLLM's LLM class. Only constants are read; nothing is run.

Literals, names assigned once to literals, f-strings and lists of them, and `"..." if NAME else "..."` are read; a list
that begins with an engine's command is a command. Anything computed becomes an unset variable.
"""

from __future__ import annotations

import ast
import re
import warnings
from collections.abc import Iterator, Mapping

from kvcalc.errors import InvalidFileError
from kvcalc.io.deployments.documents import PYTHON, Around, Document
from kvcalc.io.deployments.forms import Form, Read
from kvcalc.io.deployments.kinds import kind_of
from kvcalc.io.deployments.reading.flags import flag_name
from kvcalc.io.deployments.reading.python import UNKNOWN, joined, value_of
from kvcalc.io.deployments.reading.text import Text
from kvcalc.io.deployments.reading.words import split
from kvcalc.io.deployments.workload import Kind, Workload

_SPEAKS = re.compile(r"vllm|sglang|llama-server|trtllm|lmdeploy")
_COMMAND = re.compile(r"vllm serve|sglang|llama-server|trtllm-serve|lmdeploy serve|vllm\.entrypoints")
_ENGINE_CLASSES = ("LLM", "EngineArgs", "AsyncEngineArgs")
_GPU = re.compile(r"([A-Za-z][\w-]*)(?::(\d+))?!?")
_MOST_NODES = 200_000
_DEEPEST = 40


def _read(document: Document, around: Around) -> Iterator[Read]:
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            tree = ast.parse(str(document.text))
        if sum(1 for _ in ast.walk(tree)) > _MOST_NODES:
            return
    except (SyntaxError, ValueError, RecursionError, MemoryError) as error:
        line = error.lineno if isinstance(error, SyntaxError) and error.lineno else 1
        raise InvalidFileError(
            "is not valid Python", where=f"{document.file}:{line}", help="check its brackets"
        ) from error
    known: dict[str, object] = {name: str(value) for name, value in around.given.items()}
    reader = _Program()
    reader.body(tree.body, known)
    name = reader.app or document.stem
    for index, (line, words, gpu) in enumerate(reader.commands):
        count, kind = gpu
        yield Workload(
            name=name,
            line=line,
            words=tuple(Text.on(line, word) for word in words),
            gpus=count,
            gpus_line=line,
            kind=kind,
            replicas=None,
            program="vllm" if words[:1] and words[0].startswith("-") else "",
            group=id(tree),
            part=str(index + 1) if len(reader.commands) > 1 else "",
        )


_Gpus = tuple[int | None, Kind | None]


class _Program:
    """Statements in order, with the known names."""

    def __init__(self) -> None:
        self.app = ""
        self.commands: list[tuple[int, list[str], _Gpus]] = []
        self._joined: set[str] = set()

    def body(
        self, statements: list[ast.stmt], known: dict[str, object], gpu: _Gpus = (None, None), depth: int = 0
    ) -> None:
        """Commands of a body; lists grow as it is read."""
        if depth > _DEEPEST:
            return
        lists: dict[str, int] = {}
        for statement in statements:
            self._statement(statement, known, gpu, lists, depth)
        for name, line in lists.items():
            value = known.get(name)
            if isinstance(value, list) and _starts(value):
                words = [str(word) for word in value]
                if name in self._joined:  # a shell splits it again
                    words = [str(word) for word in split(Text.on(1, " ".join(words)))]
                self.commands.append((line, words, gpu))

    def _statement(
        self, statement: ast.stmt, known: dict[str, object], gpu: _Gpus, lists: dict[str, int], depth: int
    ) -> None:
        match statement:
            case (
                ast.Assign(targets=[ast.Name(id=name)], value=value)
                | ast.AnnAssign(target=ast.Name(id=name), value=ast.expr() as value)
            ):
                known[name] = value_of(value, known)
                if isinstance(known[name], list) and _starts(known[name]):
                    lists[name] = statement.lineno
            case ast.AugAssign(target=ast.Name(id=name), op=ast.Add(), value=value):
                before, more = known.get(name), value_of(value, known)
                if isinstance(before, list) and isinstance(more, list):
                    known[name] = joined(before, more)
            case ast.Expr(
                value=ast.Call(
                    func=ast.Attribute(value=ast.Name(id=name), attr="append" | "extend" as how), args=[value]
                )
            ):
                before, more = known.get(name), value_of(value, known)
                if isinstance(before, list):
                    known[name] = (
                        [*before, *(more if isinstance(more, list) else [more])] if how == "extend" else [*before, more]
                    )
            case ast.Return(value=ast.expr() as value):
                returned = value_of(value, known)
                if isinstance(returned, list) and _starts(returned) and not isinstance(value, ast.Name):
                    self.commands.append((statement.lineno, [str(word) for word in returned], gpu))
            case ast.FunctionDef() | ast.AsyncFunctionDef() | ast.ClassDef():
                own = next(
                    (found for each in statement.decorator_list if (found := _gpus(each, known)) != (None, None)), gpu
                )
                self.app = self.app or _service_name(statement.decorator_list, known)
                self.body(statement.body, dict(known), own, depth + 1)
                return
            case ast.If() | ast.With() | ast.Try() | ast.For() | ast.While():
                for part in ("body", "orelse", "finalbody"):
                    for inner in getattr(statement, part, []):
                        self._statement(inner, known, gpu, lists, depth + 1) if depth < _DEEPEST else None
                return
        self._calls(statement, known, gpu, lists)

    def _calls(self, statement: ast.stmt, known: dict[str, object], gpu: _Gpus, lists: dict[str, int]) -> None:
        """Calls in a statement: an app's name, a command, an engine."""
        for node in ast.walk(statement):
            if not isinstance(node, ast.Call):
                continue
            name = (
                node.func.attr
                if isinstance(node.func, ast.Attribute)
                else node.func.id
                if isinstance(node.func, ast.Name)
                else ""
            )
            if name == "join" and len(node.args) == 1 and isinstance(node.args[0], ast.Name):
                self._joined.add(node.args[0].id)
            if name == "App" and not self.app:
                first = (
                    node.args[0]
                    if node.args
                    else next((each.value for each in node.keywords if each.arg == "name"), None)
                )
                value = value_of(first, known) if first is not None else None
                self.app = value if isinstance(value, str) and value != UNKNOWN else ""
            elif name in _ENGINE_CLASSES:
                self.commands.append((node.lineno, _engine_words(node, known), gpu))
            elif name in ("Popen", "run", "call", "check_call", "check_output", "system") and node.args:
                value = value_of(node.args[0], known)
                if isinstance(value, list) and _starts(value) and not isinstance(node.args[0], ast.Name):
                    self.commands.append((node.lineno, [str(word) for word in value], gpu))
                elif isinstance(value, str) and _COMMAND.search(value) and not lists:
                    self.commands.append((node.lineno, [str(word) for word in split(Text.on(1, value))], gpu))


def _starts(words: object) -> bool:
    return isinstance(words, list) and bool(_COMMAND.search(" ".join(str(word) for word in words[:4])))


def _engine_words(call: ast.Call, known: Mapping[str, object]) -> list[str]:
    """Keywords of vLLM's LLM class as flags."""
    words = []
    if call.args:
        words.append(f"--model={value_of(call.args[0], known)}")
    for keyword in call.keywords:
        value = value_of(keyword.value, known)
        if keyword.arg and isinstance(value, str | int | float):
            flag = flag_name(keyword.arg)
            words.append(f"--{flag}" if value is True else f"--no-{flag}" if value is False else f"--{flag}={value}")
    return words or ["--model=" + UNKNOWN]


def _service_name(decorators: list[ast.expr], known: Mapping[str, object]) -> str:
    """A service's name from BentoML's decorator."""
    for each in decorators:
        if isinstance(each, ast.Call) and isinstance(each.func, ast.Attribute) and each.func.attr == "service":
            name = next((value_of(k.value, known) for k in each.keywords if k.arg == "name"), "")
            return name if isinstance(name, str) and UNKNOWN not in name else ""
    return ""


def _gpus(decorator: ast.expr, known: Mapping[str, object]) -> _Gpus:
    """GPUs requested by a decorator: Modal's gpu, Bento's resources."""
    if not isinstance(decorator, ast.Call):
        return None, None
    for keyword in decorator.keywords:
        value = value_of(keyword.value, known)
        line = keyword.value.lineno
        if keyword.arg == "gpu":
            if isinstance(value, list) and value:
                return None, Kind(None, line, "any of several GPUs")
            match = _GPU.fullmatch(str(value))
            if match is not None and UNKNOWN not in str(value):
                return int(match[2] or 1), kind_of(match[1], line, bare=True)
        if keyword.arg == "resources" and isinstance(value, dict):
            count, name = value.get("gpu"), value.get("gpu_type")
            if isinstance(name, str) and UNKNOWN in name:
                name = None
            return count if isinstance(count, int) else None, kind_of(str(name), line) if name else None
    return None, None


FORM = Form("Python program", PYTHON, lambda document: _SPEAKS.search(document.text) is not None, _read)
