"""`docker run` and similar commands: image, variables, GPUs and arguments."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence

from kvcalc.io.engine_args._rows import words
from kvcalc.io.engine_args._started import Started

_RUNTIMES = ("docker", "podman", "nerdctl", "nvidia-docker", "enroot")
_ALONE = frozenset(
    words("""
    -d --detach -i --interactive -t --tty -it -ti -dit -itd -di -id -td --rm --init --privileged --read-only
    --no-healthcheck -P --publish-all --sig-proxy --oom-kill-disable --disable-content-trust --replace -q --quiet
    --tls-verify --no-hosts --use-api-socket --rmi
""")
)
"""Options without a value; all others take one."""
_DEVICES = re.compile(r"device=([\w,:-]+)")
_COUNT = re.compile(r"[1-9][0-9]{0,4}")
_CDI = re.compile(r"nvidia\.com/gpu=(\w+)")


def container(name: str, given_words: Sequence[str], variables: Mapping[str, str]) -> Started | None:
    """What `docker run` starts: the words after its image. None for another command."""
    after = list(given_words[1:]) if given_words[:1] == ["container"] else list(given_words)
    if name not in _RUNTIMES or after[:1] not in (["run"], ["create"]):
        return None
    given: list[tuple[str, str]] = []
    rest = after[1:]
    while rest and rest[0].startswith("-"):
        option, equals, value = rest.pop(0).partition("=")
        if equals or option in _ALONE:
            given.append((option, value))
        elif len(option) > 2 and option[1] != "-" and option[1] in "epvw":  # noqa: PLR2004  # -eA=b
            given.append((option[:2], option[2:]))
        else:
            given.append((option, rest.pop(0) if rest else ""))
    if not rest:
        return None
    image, rest = rest[0], rest[1:]
    entry = _last(given, "--entrypoint")
    if entry is not None:
        rest = [*([entry] if entry else []), *rest]
    is_command = entry is not None or not (not rest or rest[0].startswith("-"))
    return Started(
        tuple(rest),
        dict(_variables(given, variables)),
        is_command,
        image,
        _last(given, "--name"),
        _gpus(given),
        variable_files=tuple(value for option, value in given if option == "--env-file"),
    )


def _last(given: Sequence[tuple[str, str]], *names: str) -> str | None:
    return next((value for option, value in reversed(given) if option in names), None)


def _variables(given: Sequence[tuple[str, str]], outer: Mapping[str, str]) -> Iterator[tuple[str, str]]:
    """Variables of the container: those set, and those passed through."""
    for option, value in given:
        if option in ("-e", "--env"):
            name, equals, own = value.partition("=")
            if equals:
                yield name, own
            elif name in outer:
                yield name, outer[name]


def _gpus(given: Sequence[tuple[str, str]]) -> int | None:
    """GPUs that the container may use; None if unknown, as with --gpus all."""
    asked = _last(given, "--gpus")
    if asked is not None:
        text = asked.strip("\"'")
        devices = _DEVICES.search(text)
        if devices is not None:
            return len(devices[1].split(","))
        count = text.removeprefix("count=")
        return int(count) if _COUNT.fullmatch(count) else None
    named = [match[1] for option, value in given if option == "--device" and (match := _CDI.search(value))]
    return len(named) if named and "all" not in named else None
