"""How a program is started: wrapper commands, container and variables.

    CUDA_VISIBLE_DEVICES=0,1 nohup uv run vllm serve M --max-model-len 8192
    docker run --gpus all -e A=b vllm/vllm-openai:v0.11.0 --model M
    bash -c 'exec python3 -m sglang.launch_server --model-path M'

A command that starts another one is a row of `_STARTERS`: its options with values, and the number of its own words
before the command it starts.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import NamedTuple

from kvcalc.io.engine_args._containers import container
from kvcalc.io.engine_args._shell import Statement, statements
from kvcalc.io.engine_args._started import Started

_ASSIGNED = re.compile(r"([A-Za-z_]\w*)=(.*)", re.DOTALL)
_PYTHON = re.compile(r"(python|pypy)[0-9.]*")
_SHELLS = ("bash", "sh", "zsh", "dash", "ash", "ksh", "cmd", "fish")
_WRAPPER = re.compile(r"\.(?:ba)?sh$|entry-?point$")
_DEEPEST = 12
"""Most nested commands; real command lines have fewer."""


class Starter(NamedTuple):
    """Options with values, and the number of its own words before the command it starts."""

    options: frozenset[str] = frozenset()
    own_words: int = 0


def _options(text: str, own_words: int = 0) -> Starter:
    return Starter(frozenset(text.split()), own_words)


_OF_TMUX = _options("-s -n -c -e -F -t -x -y")
_OF_SSH = _options("-b -c -D -E -e -F -I -i -J -L -l -m -O -o -p -Q -R -S -W -w", own_words=1)
_RUN_BY_UV = _options(
    "--with --with-editable --with-requirements --python -p --extra --group --index --index-url --default-index -i "
    "--extra-index-url --env-file --project --package --directory --from --find-links -f --no-extra --no-group "
    "--link-mode --torch-backend --index-strategy --cache-dir --config-file"
)
_OF_SLURM = _options(
    "-n --ntasks -N --nodes -c --cpus-per-task -p --partition -t --time -G --gpus --gres --gpus-per-node "
    "--gpus-per-task -w --nodelist -J --job-name -A --account -o --output -e --error --mem --container-image "
    "--container-mounts --container-workdir --mpi -x --exclude -C --constraint -q --qos --export -D --chdir"
)
_OF_MPI = _options("-n -np --np -N --npernode -x -H --host --hostfile --map-by --bind-to --rank-by -mca --mca")
_OF_APPTAINER = _options("--bind -B --env --env-file --pwd --home -H --overlay -o --workdir -W", own_words=1)
_STARTERS = {
    **{"env": _options("-u --unset -C --chdir"), "exec": _options("-a"), "time": _options("-o -f --output --format")},
    **{"nohup": Starter(), "command": Starter(), "setsid": Starter(), "then": Starter()},
    "screen": _options("-S -dmS -c -e -h -p -s -t -T -U -X"),
    "nice": _options("-n --adjustment"),
    "ionice": _options("-c -n --class --classdata"),
    "numactl": _options(
        "-N -m -C -i -p --cpunodebind --membind --physcpubind --interleave --preferred --cpubind --localalloc-to"
    ),
    "taskset": _options("", own_words=1),
    "chrt": _options("", own_words=1),
    "timeout": _options("-s -k --signal --kill-after", own_words=1),
    "stdbuf": _options("-i -o -e --input --output --error"),
    "sudo": _options("-u -g -h -p -C -D -r -t -U --user --group --preserve-env"),
    "doas": _options("-u -C"),
    **{"tini": _options("-p -e"), "dumb-init": _options("-r"), "unbuffer": Starter(), "catchsegv": Starter()},
    **{"uv run": _RUN_BY_UV, "uvx": _RUN_BY_UV, "uv tool run": _RUN_BY_UV, "pipx run": _options("--spec --python")},
    **{"poetry run": Starter(), "pdm run": Starter(), "pixi run": _options("-e --environment --manifest-path")},
    **dict.fromkeys(("conda run", "mamba run", "micromamba run"), _options("-n --name -p --prefix --cwd")),
    "srun": _OF_SLURM,
    **dict.fromkeys(("mpirun", "mpiexec", "orterun"), _OF_MPI),
    **{"gdb": _options("-ex -x --command"), "-": Starter(), "%": Starter(), "$": Starter(), "command:": Starter()},
    **{"cmd:": Starter(), "run:": Starter()},
    **{"shifter": Starter(), "with-contenv": Starter()},
    **dict.fromkeys(("gosu", "su-exec", "s6-setuidgid"), _options("", own_words=1)),
    "trtllm-llmapi-launch": Starter(),
    **dict.fromkeys(("apptainer exec", "singularity exec", "apptainer run", "singularity run"), _OF_APPTAINER),
    **dict.fromkeys(
        ("docker exec", "podman exec", "nerdctl exec"),
        _options("-e --env --env-file -u --user -w --workdir --detach-keys", own_words=1),
    ),
    "kubectl exec": _options("-n --namespace -c --container", own_words=1),
    "opentelemetry-instrument": _options(
        "--service_name --traces_exporter --metrics_exporter --exporter_otlp_endpoint"
    ),
    "nsys profile": _options("-o --output -t --trace -c --capture-range --capture-range-end --cuda-graph-trace -y -d"),
    "ray job submit": _options("--address --working-dir --runtime-env-json --runtime-env --submission-id"),
}
"""By their name, or their first words."""


def started(words: Sequence[str], variables: Mapping[str, str] | None = None, depth: int = 0) -> list[Started]:
    """What a command finally starts; several if it passes a shell several commands."""
    rest = list(words)
    found: dict[str, str] = dict(variables or {})
    through = ""
    while depth < _DEEPEST:
        rest = _without_assignments(rest, found)
        if not rest:
            return []
        name = base_name(rest[0])
        text = _handed_on(name, rest[1:])
        if text is not None:
            found_in = statements(text, found)
            return [one for each in found_in for one in of_statement(each, depth + 1)] or [Started(tuple(rest), found)]
        if name in _SHELLS:
            return _of_shell(rest[1:], found, depth + 1) or [Started(tuple(rest), found)]
        contained = container(name, rest[1:], found)
        if contained is not None:
            contained = contained._replace(skipped=len(words) - len(contained.words))
            inner = started(contained.words, contained.variables, depth + 1) if contained.is_command else []
            return [one.inside(contained) for one in inner] or [contained]
        starter = _starter(name, rest)
        if starter is None and _is_wrapper(name, rest):
            starter, through = (Starter(), 1), name
        if starter is None:
            break
        rest = _behind(rest, *starter, found)
        depth += 1
    return [Started(tuple(rest), found, skipped=len(words) - len(rest), through=through)]


def _without_assignments(words: list[str], found: dict[str, str]) -> list[str]:
    for index, word in enumerate(words):
        match = _ASSIGNED.fullmatch(word)
        if match is None:
            return words[index:]
        found[match[1]] = match[2]
    return []


def _starter(name: str, words: Sequence[str]) -> tuple[Starter, int] | None:
    """The row of a wrapper command, and the number of words of its name."""
    for length in (3, 2, 1):
        key = " ".join((name, *words[1:length]))
        if len(words) >= length and key in _STARTERS:
            return _STARTERS[key], length
    return None


def _handed_on(name: str, words: Sequence[str]) -> str | None:
    """The text that a command hands to a shell: all words of `eval`, those behind ssh's host and tmux's options."""
    if name == "eval":
        return " ".join(words)
    if name == "tmux" and words[:1] in (["new"], ["new-session"], ["new-window"], ["neww"]):
        return " ".join(_behind(list(words), _OF_TMUX, 1, {})) or None
    if name == "ssh":
        return " ".join(_behind(["ssh", *words], _OF_SSH, 1, {})) or None
    return None


def _is_wrapper(name: str, words: Sequence[str]) -> bool:
    """Whether it is a wrapper script, which by convention runs the command after it: `/entrypoint.sh vllm serve M`."""
    return len(words) > 1 and not words[1].startswith("-") and _WRAPPER.search(name) is not None


def _behind(words: Sequence[str], starter: Starter, length: int, found: dict[str, str]) -> list[str]:
    """The words after a wrapper, its options and its own words."""
    at, own = length, starter.own_words
    while at < len(words):
        word = words[at]
        if word == "--":
            at += 1
            break
        match = _ASSIGNED.fullmatch(word)
        if word.startswith("-") and len(word) > 1:
            at += 2 if word in starter.options else 1
        elif match is not None and not own:
            found[match[1]] = match[2]
            at += 1
        elif own:
            own -= 1
            at += 1
        else:
            break
    return list(words[at:])


def _of_shell(words: Sequence[str], variables: Mapping[str, str], depth: int) -> list[Started]:
    """What the text of `sh -c` starts; nothing for a script file."""
    for index, word in enumerate(words):
        if word.startswith("-") and "c" in word and not word.startswith("--"):
            text = next((each for each in words[index + 1 :] if each != "--"), None)
            found = statements(text, variables) if text is not None else []
            return [one for each in found for one in of_statement(each, depth)]
    return []


def of_statement(statement: Statement, depth: int = 0) -> list[Started]:
    """What a command in a text starts."""
    return [
        one._replace(line=statement.line, files={**one.files, **statement.files})
        for one in started(statement.words, statement.variables, depth)
    ]


def base_name(word: str) -> str:
    """A program without its folder and its .exe, and any version of Python."""
    name = re.split(r"[/\\]", word)[-1]
    name = name[:-4] if name.lower().endswith(".exe") else name
    return "python" if _PYTHON.fullmatch(name) else name


def starts_a_shell(words: Sequence[str]) -> bool:
    """Whether a container is opened with a shell."""
    return bool(words) and base_name(words[0]) in _SHELLS


def program_words(words: Sequence[str]) -> list[str]:
    """The program by its name, and Python without options of its own."""
    if not words:
        return []
    name, rest = base_name(words[0]), list(words[1:])
    if name == "python":
        while rest and rest[0].startswith("-") and rest[0] not in ("-m", "-c"):
            del rest[: 2 if rest[0] in ("-W", "-X") else 1]
    return [name, *rest]
