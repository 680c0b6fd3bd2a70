"""Shell scripts and command lines, including Slurm jobs. Nothing in them is ever run.

Source: slurm.schedmd.com/sbatch.html for #SBATCH.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

from kvcalc.io.deployments.documents import SHELL, STDIN, Around, Document
from kvcalc.io.deployments.forms import Form, Read
from kvcalc.io.deployments.kinds import kind_of
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
"""Options whose values Slurm hands on as variables."""
FENCE = re.compile(r"^\s*(?:```|~~~)")


def _read(document: Document, around: Around) -> Iterator[Read]:
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
    """Nodes of a job, where their number is said."""
    said = options.get("--nodes", options.get("-N"))
    return said if said is not None and said.isdecimal() else None


def _of_slurm(options: dict[str, Text], gpus: int | None) -> dict[str, Text]:
    """Variables that Slurm sets for a job, as far as its options say them."""
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
    """GPUs that a job asks for by task."""
    said = options.get("--gpus-per-task")
    match = None if said is None else _GPUS.fullmatch(said)
    if said is None or match is None:
        return None, None, 1
    of_node, of_job = options.get("--ntasks-per-node"), options.get("--ntasks", options.get("-n"))
    tasks = nodes * int(of_node) if of_node is not None and of_node.isdecimal() else nodes
    tasks = int(of_job) if of_job is not None and of_job.isdecimal() else tasks
    return int(match[2]) * tasks, kind_of(match[1], said.line) if match[1] else None, said.line


FORM = Form("shell script", SHELL, lambda _: True, _read, general=True)
