"""A config whose model fits a memory: what no cache depends on is made small first, then the last layers go.

A field's effect on the cache is tested: a change stays only if every layer's prediction is the same.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from typing import NamedTuple, TypeGuard

from kvcalc.errors import KvcalcError, NotApplicableError
from kvcalc.units import both_units, count, plural

Values = Mapping[str, object]
Path = tuple[str, ...]
"""Keys from the top of a config to a field."""
_SMALL = (
    (re.compile(r"(padded_)?vocab_size(_per_layer_input)?"), 512),
    (re.compile(r"n_routed_experts|num_(local_)?experts|moe_num_experts"), 32),  # routers pick up to 22, of 8 groups
    (re.compile(r"(?!mamba|linear)\w*(intermediate_size|ffn_dim|ffn_hidden_size|d_ff|ff_dim)(_mlp)?"), 128),
)
"""Fields that weights depend on and no cache does, and what they become."""
_LAYERS = re.compile(r"(num_hidden_|num_|num_decoder_|decoder_)layers|n_layers?")
_DRAFT_LAYERS = re.compile(r"num_nextn_predict_layers|mtp_num_hidden_layers|num_mtp_layers")
_SHARING = "num_kv_shared_layers"
_TOKEN = re.compile(r"(pad|bos|eos)_token_id")
_ON_META = "--device meta builds the whole model without memory"


class Fitted(NamedTuple):
    """A config that fits, how many of the model's first layers it has, and what was changed, in words."""

    values: Values
    layers: int
    changes: str = ""


def fitted(
    values: Values,
    memory_bytes: int,
    *,
    needs: Callable[[Values], int],
    cache_of: Callable[[Values], tuple[object, ...]],
    least: int,
) -> Fitted:
    """The config itself if its model fits in memory_bytes, else a smaller one.

    needs: bytes that the model of a config takes to run. cache_of: what each of its layers is predicted to hold.
    least: fewest layers that have one of each kind. Raises KvcalcError if those do not fit, NotApplicableError if the
    config does not show its layers.
    """
    whole = cache_of(values)
    if needs(values) <= memory_bytes:
        return Fitted(values, len(whole))
    narrow, changes = _narrowed(values, lambda changed: cache_of(changed) == whole)
    part, layers = narrow, len(whole)
    while (needed := needs(part)) > memory_bytes:
        if layers == least:
            raise KvcalcError(
                f"at least {plural(least, 'layer')} are needed to have one of each kind, and they need "
                f"{both_units(needed)} of {both_units(memory_bytes)} that are free",
                help=f"{_ON_META}; or use fewer tokens",
            )
        most = max(least, min(layers - 1, layers * memory_bytes // needed))
        cuts = ((number, first_layers(narrow, len(whole), number)) for number in range(most, least - 1, -1))
        fit = next(((number, cut) for number, cut in cuts if cache_of(cut) == whole[:number]), None)
        if fit is None:
            raise NotApplicableError(
                f"the model does not fit in {both_units(memory_bytes)}, and its config cannot be cut to its first "
                f"{plural(most, 'layer')} or fewer",
                help=_ON_META,
            )
        layers, part = fit
    if layers < len(whole):
        changes.append(f"the first {count(layers)} of {count(len(whole))} layers (1/{_factor(len(whole), layers)})")
    return Fitted(part, layers, "; ".join(changes))


def _narrowed(values: Values, same_cache: Callable[[Values], bool]) -> tuple[Values, list[str]]:
    """The config with each field small that no layer's cache depends on, and those fields."""
    changes: dict[str, None] = {}
    for path, value, small in list(_large(values)):
        changed = _with(values, path, small)
        if same_cache(changed):
            values = changed
            before, after = (item[0] if isinstance(item, list) else item for item in (value, small))
            changes[f"{'.'.join(path)} {count(before)} -> {count(after)} (1/{_factor(before, after)})"] = None
    for path, token in list(_fields(values)):
        if _TOKEN.fullmatch(path[-1]) and type(token) is int and changes:  # a padding row has to be in the vocabulary
            values = _with(values, path, min(token, 2))
    return values, list(changes)


def _large(values: Values) -> Iterator[tuple[Path, int | list[int], int | list[int]]]:
    """Fields that can be small: where, what they are, and what they become."""
    for path, value in _fields(values):
        small = next((small for pattern, small in _SMALL if pattern.fullmatch(path[-1])), 0)
        if small and type(value) is int and value > small:
            yield path, value, small
        elif small and isinstance(value, list) and value and all(type(n) is int and n > small for n in value):
            yield path, value, [small] * len(value)


def first_layers(values: Values, layers: int, kept: int) -> Values:
    """The config with only the first `kept` of its `layers` layers, by the fields that count or list them."""
    drafts = next((value for path, value in _fields(values) if _DRAFT_LAYERS.fullmatch(path[-1]) and value), 0)
    lengths = {layers, layers + drafts} if type(drafts) is int else {layers}
    for path, value in list(_fields(values)):
        if _LAYERS.fullmatch(path[-1]) and value == layers:
            values = _with(values, path, kept)
        elif _lists_layers(value, path[-1]) and len(value) in lengths:
            values = _with(values, path, value[:kept])
        elif path[-1] == _SHARING and type(value) is int:  # the last layers share, and those go first
            values = _with(values, path, max(0, value - (layers - kept)))
    return values


def _lists_layers(value: object, name: str) -> TypeGuard[list[object] | str]:
    """Whether a field may have an item, or a letter, for each layer."""
    return isinstance(value, list) or (isinstance(value, str) and name.endswith("pattern"))


def _fields(values: Values, inside: Path = ()) -> Iterator[tuple[Path, object]]:
    """Every field of a config and of its sections."""
    for name, value in values.items():
        if isinstance(value, Mapping):
            yield from _fields(value, (*inside, name))
        else:
            yield (*inside, name), value


def _with(values: Values, path: Path, new: object) -> Values:
    """The config with another value in one place."""
    name, *rest = path
    section = values[name]
    return {**values, name: _with(section, tuple(rest), new) if isinstance(section, Mapping) else new}


def _factor(before: int, after: int) -> str:
    """How many times smaller, to one decimal."""
    whole, tenth = divmod(10 * before // after, 10)
    return f"{count(whole)}.{tenth}" if tenth else count(whole)
