"""The shipped models, or those that match words and a kind of attention."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from functools import cache

from kvcalc.answers.size import sized
from kvcalc.attention import KINDS, kind_named
from kvcalc.errors import InvalidValueError, UnknownNameError
from kvcalc.errors.foreign import listed
from kvcalc.io.presets import load_preset, parameters_of, preset_aliases, preset_names
from kvcalc.model import Attention, Model
from kvcalc.question import Question
from kvcalc.report.gallery import Entry, Gallery
from kvcalc.units import shown

_BY_HEADS = ("mha", "mqa")
"""Names for grouped-query attention with as many KV heads as query heads, and with one."""


def gallery(words: str | Sequence[str] = (), kind: str | None = None) -> Gallery:
    """Presets that match every word in name, alias, model_type or source, and have such layers.

    kind: one of `attention_kinds`. Raises UnknownNameError if no preset matches.
    """
    wanted = [word.lower() for word in _words(words)]
    aliases: dict[str, list[str]] = {}
    for alias, name in preset_aliases().items():
        aliases.setdefault(name, []).append(alias)
    entries = (_entry(name, tuple(aliases.get(name, ()))) for name in preset_names())
    found = tuple(e for e in entries if _says(e, wanted) and (kind is None or kind in e.kinds))
    if not found:
        of_kind = "" if kind is None else f" with {kind} layers"
        described = f" matches {listed([shown(word) for word in wanted])}" if wanted else " is shipped"
        raise UnknownNameError(
            f"no preset{of_kind}{described}", help="`kvcalc presets list` shows all of them; fewer words match more"
        )
    return Gallery(found)


def attention_kinds() -> list[str]:
    """Kinds of attention by name; mha and mqa are gqa with as many KV heads as query heads, and with one."""
    return sorted({*KINDS.names(), *_BY_HEADS})


def attention_kind(name: str) -> str:
    """The kind of that name, in any case. Raises UnknownNameError."""
    known = attention_kinds()
    if str(name).lower() not in known:
        see = "`kvcalc presets list --help` lists them"
        raise UnknownNameError.among("kind of attention", str(name), known, see=see)
    return str(name).lower()


def _words(words: str | Sequence[str]) -> Iterator[str]:
    for word in [words] if isinstance(words, str) else words:
        if not isinstance(word, str):
            raise InvalidValueError(f"a word must be text, not {shown(word)}", field="words", help="for example 'qwen'")
        yield from word.split()


def _says(entry: Entry, words: Iterable[str]) -> bool:
    text = "\n".join((entry.name, *entry.aliases, entry.model_type, entry.source)).lower()
    return all(word in text for word in words)


def _entry(name: str, aliases: tuple[str, ...]) -> Entry:
    model = load_preset(name)
    first, growth = _in_bytes(model)
    return Entry(
        name=name,
        aliases=aliases,
        attention=tuple((len(group.layers), group.name, group.label) for group in model.groups),
        kinds=tuple(dict.fromkeys(_kind(part) for group in model.groups for part in group.parts)),
        max_model_len=model.max_model_len,
        parameters=parameters_of(name),
        first_token_bytes=first,
        growth=growth,
        model_type=model.model_type,
        source=model.source,
    )


def _kind(part: Attention) -> str:
    by_heads = part.label.lower()
    return by_heads if by_heads in _BY_HEADS else _names()[type(part)]


@cache
def _names() -> dict[type[Attention], str]:
    return {kind_named(name): name for name in KINDS.names()}


def _in_bytes(model: Model) -> tuple[int | None, tuple[int, int] | None]:
    """Bytes of the first token, and the growth of the cache from then on."""
    try:
        report = sized(Question.of(model, tokens=1))
    except InvalidValueError:  # cross-attention to an unknown number of encoder tokens
        return None, None
    return report.total_bytes, report.growth
