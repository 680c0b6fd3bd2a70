"""Files as documents: the grammar of each, and lookups across all of them.

Each file is read once; its values keep their place. An unreadable file is refused on its own.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import PurePosixPath
from typing import NamedTuple, Self

from kvcalc.errors import InvalidFileError
from kvcalc.io.deployments.reading import yaml
from kvcalc.io.deployments.reading.text import Text
from kvcalc.io.deployments.reading.tree import NOTHING, Node

YAML, SHELL, UNIT, DOCKER, MODELFILE, HCL, PYTHON, ENV, PROPERTIES = (
    "yaml", "shell", "unit", "dockerfile", "modelfile", "hcl", "python", "env", "properties"
)  # fmt: skip
_SUFFIXES = {
    **dict.fromkeys((".yaml", ".yml", ".json", ".yaml.j2", ".tpl"), YAML),
    **dict.fromkeys(
        (".sh", ".bash", ".zsh", ".sbatch", ".slurm", ".slurm.sh", ".job", ".bat", ".ps1", ".txt", ".md"), SHELL
    ),
    **dict.fromkeys((".service", ".container", ".conf", ".pod", ".kube"), UNIT),
    **dict.fromkeys((".hcl", ".nomad", ".tf", ".tfvars"), HCL),
    ".py": PYTHON,
    ".env": ENV,
    ".properties": PROPERTIES,
    ".modelfile": MODELFILE,
}
_NAMES = (
    (re.compile(r"(.*[._-])?(Dockerfile|Containerfile)([._-].*)?"), DOCKER),
    (re.compile(r"(.*[._-])?Modelfile([._-].*)?"), MODELFILE),
    (re.compile(r"\.env([._-].*)?"), ENV),
)
_SHEBANG = re.compile(r"#!\S*(?:/|\s)(?:ba|z|da|k)?sh\b")
_MANIFEST = re.compile(r"(?m)^(?:apiVersion|kind|services|deployments|models|applications|model): *\S?|^\s*\{")
_UNIT = re.compile(r"(?m)^\[(?:Service|Unit|Container)\]\s*$")
_DOCKER = re.compile(r"(?mi)\A(?:\s*#.*\n|\s*\n|ARG .*\n)*FROM [\w./:@${}-]+(?: AS \w+)?\s*$")
_TEMPLATE = re.compile(r"\{\{")
_CONTROL = re.compile(r"\{\{-?\s*(?:if|range|with|define|include|end|template|toYaml)\b|\{\{-|-\}\}")
_ARGUMENT = re.compile(r"--[\w-]+.*\{\{|\{\{.*--[\w-]+")
STDIN = "stdin"
"""Name of standard input."""
RENDER = "an unrendered Helm template: helm template ... | kvcalc check -"


class Source(NamedTuple):
    """A file's displayed name, and its text."""

    name: str
    words: str


class Document(NamedTuple):
    """A document in a file. root: its values, if its grammar has any; text: the whole file.

    prefix: for names, from outside the file, such as a GitOps application's.
    """

    file: str
    grammar: str
    root: Node
    text: Text
    prefix: str = ""

    @property
    def kind(self) -> str:
        """Kubernetes' kind."""
        return str(self.root.at("kind").text)

    @property
    def group(self) -> str:
        """Kubernetes' API group."""
        return str(self.root.at("apiVersion").text).rpartition("/")[0]

    @property
    def name(self) -> str:
        """Kubernetes' name, or that of the file."""
        return str(self.root.at("metadata", "name").text) or self.stem

    @property
    def folder(self) -> str:
        """The file's folder, with its separator; empty for one without."""
        return self.file[: self.file.rfind("/") + 1]

    @property
    def stem(self) -> str:
        """The file's own name."""
        return PurePosixPath(self.file).name

    def inside(self, root: Node, prefix: str = "") -> Document:
        """A document within this one."""
        return self._replace(root=root, prefix=prefix or self.prefix)


class Around(NamedTuple):
    """All documents given together, and variables set by the user.

    by_file, by_name: the same by path, and by kind and name. opener: text of a file that was not given, by its path;
    None if it does not exist. here: the current document.
    """

    documents: Sequence[Document]
    given: Mapping[str, Text]
    by_file: Mapping[str, Sequence[Document]]
    by_name: Mapping[tuple[str, str], Sequence[Document]]
    opener: Callable[[str], str | None]
    here: Document | None = None

    @classmethod
    def of(
        cls,
        documents: Sequence[Document],
        given: Mapping[str, Text],
        opener: Callable[[str], str | None],
        made: Sequence[Document] = (),
    ) -> Self:
        """Indexes documents."""
        by_file: dict[str, list[Document]] = {}
        by_name: dict[tuple[str, str], list[Document]] = {}
        for document in documents:
            by_file.setdefault(_normal(document.file), []).append(document)
        for document in (*documents, *made):
            if document.kind:
                by_name.setdefault((document.kind, document.name), []).append(document)
        return cls(documents, given, by_file, by_name, opener)

    def named(self, kinds: Sequence[str], name: str) -> Document | None:
        """The document of one of these kinds and that name: in the same file, else folder, else the only one."""
        found = [each for kind in kinds for each in self.by_name.get((kind, name), ())]
        here = self.here
        if here is not None and len(found) > 1:
            found = (
                [each for each in found if each.file == here.file]
                or [each for each in found if each.folder == here.folder]
                or found
            )
        return found[0] if len(found) == 1 else None

    def files(self, path: str) -> Sequence[Document]:
        """Documents of a file."""
        return self.by_file.get(_normal(path), ())

    def beside(self, document: Document, name: str) -> Sequence[Document]:
        """Documents of a file in the folder of another, given or not; none if it cannot be read."""
        path = document.folder + name
        found = self.files(path)
        if found or not name:
            return found
        words = self.opener(path)
        try:
            return documents_of(Source(path, words)) if words is not None else []
        except InvalidFileError:
            return []


def _normal(path: str) -> str:
    parts: list[str] = []
    for part in path.replace("\\", "/").split("/"):
        if part == ".." and parts and parts[-1] != "..":
            parts.pop()
        elif part not in ("", "."):
            parts.append(part)
    return "/".join(parts)


def grammar_of(source: Source) -> str:
    """The grammar of a file, by its name, else by its beginning."""
    name = PurePosixPath(source.name).name
    for pattern, grammar in _NAMES:
        if pattern.fullmatch(name):
            return grammar
    suffix = PurePosixPath(name).suffix.lower()
    if suffix in _SUFFIXES:
        return _SUFFIXES[suffix]
    head = source.words[:4096]
    if _SHEBANG.match(head):
        return SHELL
    if _UNIT.search(head):
        return UNIT
    if _DOCKER.match(head):
        return DOCKER
    return YAML if _MANIFEST.search(head) else SHELL


def documents_of(source: Source) -> list[Document]:
    """Documents of a file. Raises InvalidFileError with the line, also for an unrendered template."""
    words = source.words.removeprefix("\ufeff").replace("\r\n", "\n")
    text = Text.of_file(words)
    grammar = grammar_of(source._replace(words=words))
    if grammar != YAML:
        return [Document(source.name, grammar, NOTHING, text)]
    if _CONTROL.search(words) and _is_template(words):
        raise _template(source.name, words)
    try:
        roots = yaml.documents(text, source.name)
    except InvalidFileError as error:
        if _TEMPLATE.search(words):
            raise _template(source.name, words) from error
        raise
    return [Document(source.name, YAML, item, text) for root in roots for item in _items(root)]


def _is_template(words: str) -> bool:
    """Whether a line is only a template directive: then the file is not YAML."""
    return any(_CONTROL.match(line.strip()) and line.rstrip().endswith("}}") for line in words.splitlines())


def _template(name: str, words: str) -> InvalidFileError:
    lines = words.splitlines()
    found = next((n for n, line in enumerate(lines, 1) if _ARGUMENT.search(line)), 0)
    first = found or next((n for n, line in enumerate(lines, 1) if _TEMPLATE.search(line)), 1)
    return InvalidFileError(RENDER, where=f"{name}:{first}", help="render it first")


def _items(root: Node) -> Iterator[Node]:
    """The items of a List, or the document itself."""
    if str(root.at("kind").text).endswith("List") and root.at("items").each():
        yield from root.at("items").each()
    elif isinstance(root.value, list) and all(item.is_mapping and "kind" in item for item in root.each()):
        yield from root.each()
    else:
        yield root
