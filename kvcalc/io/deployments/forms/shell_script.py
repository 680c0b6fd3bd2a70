"""Shell scripts and command lines, including Slurm jobs. Nothing in them is ever run.

What `kubectl apply -f -` is given by a here-document is read as the manifests that it is, with the script's variables.
Source: slurm.schedmd.com/sbatch.html for #SBATCH.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

from kvcalc.io.deployments.documents import SHELL, STDIN, YAML, Around, Document
from kvcalc.io.deployments.forms import Form, Read
from kvcalc.io.deployments.forms.compose import filled
from kvcalc.io.deployments.kinds import kind_of
from kvcalc.io.deployments.reading import yaml
from kvcalc.io.deployments.reading.text import Text
from kvcalc.io.deployments.workload import Kind, Workload

_OPTION = re.compile(r"\s*#SBATCH\s+(--[\w-]+|-\w)(?:[= ]\s*|(?<=-\w))(\S+)?")
_GRES = re.compile(r"(?:gres/)?gpu(?::([A-Za-z][\w.-]*))?(?::(\d+))?(?:\(.*\))?")
_GPUS = re.compile(r"(?:([A-Za-z][\w.-]*):)?(\d+)")
_PER_NODE = ("--gres", "--gpus-per-node")
_IN_ALL = ("-G", "--gpus")
_HANDED_ON = {
    "--gpus-per-node": "SLURM_GPUS_PER_NODE",
    "--ntasks-per-node": "SLURM_NTASKS_PER_NODE",
    "-n": "SLURM_NTASKS",
    "--ntasks": "SLURM_NTASKS",
}
"""Options whose values Slurm passes on as variables."""
_APPLIED = re.compile(r"\bkubectl\s+(?:\S+\s+)*?(?:apply|create|replace)\b")
_HERE = re.compile(r"<<(-?)\s*(['\"]?)([A-Za-z_]\w*)\2")
_ASSIGNED = re.compile(r"\s*(?:export\s+|local\s+|readonly\s+)?([A-Za-z_]\w*)=(.*)")
FENCE = re.compile(r"^\s*(?:```|~~~)")


def _read(document: Document, around: Around) -> Iterator[Read]:
    for manifest in _applied(document, around):
        for root in yaml.documents(manifest, document.file):
            yield document.inside(root)._replace(grammar=YAML)
    options = dict(_options(document.text))
    name = options.get("--job-name", options.get("-J"))
    gpus, kind, line = _gpus(options)
    yield Workload(
        name=str(name) if name is not None else document.stem,
        line=1,
        script=_commands(document),
        variables={**_of_slurm(options, gpus), **around.given},
        gpus=gpus,
        gpus_line=line,
        kind=kind,
        group=id(document.text),
        bare=document.file == STDIN and "\n" not in document.text.strip() and not around.given,
    )


def _applied(document: Document, around: Around) -> Iterator[Text]:
    """Manifests that a script hands to kubectl in here-documents."""
    if "kubectl" not in document.text or "<<" not in document.text:
        return
    values: dict[str, Text] = {}
    lines = list(document.text.by_line())
    at = 0
    while at < len(lines):
        line = lines[at]
        at += 1
        if (assigned := _ASSIGNED.fullmatch(line)) is not None:
            _assign(values, assigned[1], Text.on(line.line, assigned[2].strip().strip("\"'")))
        opened = _HERE.search(line)
        if opened is None:
            continue
        start = at
        while at < len(lines) and lines[at].strip() != opened[3]:
            at += 1
        if _APPLIED.search(line):
            text = Text.joined(piece for each in lines[start:at] for piece in (each, Text.on(each.line, "\n")))
            yield text if opened[2] else filled(text, {**values, **around.given})
        at += 1


def _assign(values: dict[str, Text], name: str, value: Text) -> None:
    """Notes what a script sets; a name that it sets to several things, or to what a command prints, is not known."""
    value = filled(value, values)
    if name in values and values[name] != value:
        value = Text.on(value.line, f"${{{name}}}")
    if "$(" not in value and "`" not in value:
        values[name] = value


def _commands(document: Document) -> Text:
    """The script; for Markdown its code blocks."""
    if not document.file.endswith(".md"):
        return document.text
    pieces, inside = [], False
    for line in document.text.by_line():
        if FENCE.match(line):
            inside = not inside
        elif inside and not line.lstrip().startswith(("$ ", "# ")):
            pieces += [line, Text.on(line.line, "\n")]
        elif inside and line.lstrip().startswith("$ "):
            start = line.index("$ ") + 2
            pieces += [line.part(start, len(line)), Text.on(line.line, "\n")]
    return Text.joined(pieces) if pieces else Text.on(1, "")


def _options(text: Text) -> Iterator[tuple[str, Text]]:
    """Options of #SBATCH lines."""
    if "#SBATCH" not in text:
        return
    for line in text.by_line():
        match = _OPTION.match(line)
        if match is not None:
            yield match[1], Text.on(line.line, match[2] or "")


def _nodes(options: dict[str, Text]) -> Text | None:
    """Nodes of a job, if given."""
    said = options.get("--nodes", options.get("-N"))
    return said if said is not None and said.isdecimal() else None


def _of_slurm(options: dict[str, Text], gpus: int | None) -> dict[str, Text]:
    """Variables that Slurm sets for a job, as far as its options determine them."""
    nodes = _nodes(options)
    found = {} if nodes is None else dict.fromkeys(("SLURM_NNODES", "SLURM_JOB_NUM_NODES"), nodes)
    count = int(nodes) if nodes is not None else 1
    if options and gpus is not None and gpus % count == 0:
        found["SLURM_GPUS_ON_NODE"] = Text.on(1, str(gpus // count))
    if options:
        found |= {name: Text.on(1, "0") for name in ("SLURM_PROCID", "SLURM_NODEID", "SLURM_LOCALID")}
    for option, variable in _HANDED_ON.items():
        said = options.get(option)
        if said is not None and said.isdecimal():
            found[variable] = said
    return found


def _gpus(options: dict[str, Text]) -> tuple[int | None, Kind | None, int]:
    """GPUs of a job across its nodes, their kind, and the line."""
    nodes = int(_nodes(options) or 1)
    for option in (*_PER_NODE, *_IN_ALL):
        said = options.get(option)
        if said is None:
            continue
        match = (_GRES if option == "--gres" else _GPUS).fullmatch(said)
        if match is None:
            continue
        count = int(match[2] or 1) * (nodes if option in _PER_NODE else 1)
        return count, kind_of(match[1], said.line) if match[1] else None, said.line
    return _of_tasks(options, nodes)


def _of_tasks(options: dict[str, Text], nodes: int) -> tuple[int | None, Kind | None, int]:
    """GPUs requested per task."""
    said = options.get("--gpus-per-task")
    match = None if said is None else _GPUS.fullmatch(said)
    if said is None or match is None:
        return None, None, 1
    of_node, of_job = options.get("--ntasks-per-node"), options.get("--ntasks", options.get("-n"))
    tasks = nodes * int(of_node) if of_node is not None and of_node.isdecimal() else nodes
    tasks = int(of_job) if of_job is not None and of_job.isdecimal() else tasks
    return int(match[2]) * tasks, kind_of(match[1], said.line) if match[1] else None, said.line


FORM = Form("shell script", SHELL, lambda _: True, _read, general=True)
