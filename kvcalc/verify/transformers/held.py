"""What a cache of transformers holds: the tensors of each layer, and their bytes."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import chain
from typing import TYPE_CHECKING, Any, NamedTuple

from torch import Tensor, nn
from transformers import PreTrainedConfig

if TYPE_CHECKING:
    from transformers import PreTrainedModel

Layers = dict[str, list[list[Tensor]]]
"""The tensors of each layer, of the self-attention and of any cross-attention."""


class LayerBytes(NamedTuple):
    """What one layer holds.

    logical_bytes: each tensor once, however many names it has. storage_bytes: the memory behind them; what several
    layers share is divided among them.
    """

    shapes: tuple[tuple[int, ...], ...] = ()
    dtypes: tuple[str, ...] = ()
    logical_bytes: int = 0
    storage_bytes: int = 0


def held_by(model: PreTrainedModel, cache: object) -> Layers:
    """All of a model's state, in its cache and on its modules."""
    text = model.config.get_text_config(decoder=True)
    held = layers_of(cache, getattr(text, "num_hidden_layers", 0)) if cache is not None else {"self": []}
    on_modules = states_on_modules(model)
    if on_modules:
        own = held["self"] or [[] for _ in on_modules]
        held["self"] = [[*layer, *more] for layer, more in zip(own, on_modules, strict=True)]
    return held


def tensors(value: object) -> Iterator[Tensor]:
    """Every tensor inside a layer of a cache; single numbers are counters and scales, not states."""
    if isinstance(value, Tensor):
        if value.dim():
            yield value
    elif isinstance(value, list | tuple):
        for item in value:
            yield from tensors(item)
    elif isinstance(value, dict):
        yield from tensors([*value.values()])
    elif type(value).__module__.startswith("transformers.") and not isinstance(value, PreTrainedConfig):
        yield from tensors(vars(value))


def layers_of(cache: Any, layers: int) -> Layers:
    """The tensors of each of `layers` layers of a cache of any class."""
    if hasattr(cache, "cross_attention_cache"):
        both = {"self": cache.self_attention_cache, "cross": cache.cross_attention_cache}
        held = {name: layers_of(part, layers)["self"] for name, part in both.items()}
        return held if any(held["cross"]) else {"self": held["self"]}
    if hasattr(cache, "layers"):
        own = [list(tensors(layer)) for layer in cache.layers]
        for layer, state in enumerate(
            getattr(cache, "linear_cache", ())
        ):  # minimax keeps its states outside the layers
            own += [[] for _ in range(layer + 1 - len(own))]
            own[layer] += tensors(state)
        return {"self": own}
    if hasattr(cache, "rnn_state"):  # xlstm
        return {"self": [list(tensors(state)) for state in cache.rnn_state.values()]}
    if isinstance(cache, list | tuple) and len(cache) == layers:
        return {"self": [list(tensors(layer)) for layer in cache]}
    stacked = list(tensors(cache))
    if stacked and all(
        tensor.shape[-1] == layers for tensor in stacked
    ):  # rwkv stacks the layers in the last dimension
        return {"self": [[tensor[..., layer] for tensor in stacked] for layer in range(layers)]}
    return {"self": [stacked]}


def states_on_modules(model: nn.Module) -> list[list[Tensor]]:
    """States which a model keeps on its own modules, layer by layer (recurrent_gemma)."""
    stacks = [module for name, module in model.named_modules() if name.endswith("layers")]
    held = [[_module_states(layer) for layer in stack] for stack in stacks if isinstance(stack, nn.ModuleList)]
    return next((layers for layers in held if any(layers)), [])


def _module_states(layer: nn.Module) -> list[Tensor]:
    names = ("recurrent_states", "conv1d_state")
    found = (getattr(module, name, None) for module in layer.modules() for name in names)
    return [tensor for tensor in found if isinstance(tensor, Tensor)]


def counted(held: Layers) -> dict[str, list[LayerBytes]]:
    """Shapes and bytes of each layer. A tensor that several layers hold is the first one's."""
    seen: set[object] = set()
    distinct = {part: [[t for t in layer if _is_new(t, seen)] for layer in layers] for part, layers in held.items()}
    owners: dict[int, int] = {}
    for layer in chain.from_iterable(distinct.values()):
        for storage in _storages(layer):
            owners[storage] = owners.get(storage, 0) + 1
    return {part: [_layer_bytes(layer, owners) for layer in layers] for part, layers in distinct.items()}


def _is_new(tensor: Tensor, seen: set[object]) -> bool:
    """Whether a tensor has elements and is not a view seen before; remembers it."""
    storage = tensor.untyped_storage()._cdata
    view = (storage, tensor.storage_offset(), tensor.shape, tensor.stride(), tensor.dtype)
    new = tensor.numel() > 0 and view not in seen
    seen.add(view)
    return new


def _storages(layer: list[Tensor]) -> dict[int, int]:
    """Bytes of the distinct storages behind tensors."""
    return {tensor.untyped_storage()._cdata: tensor.untyped_storage().nbytes() for tensor in layer}


def _layer_bytes(layer: list[Tensor], owners: dict[int, int]) -> LayerBytes:
    return LayerBytes(
        shapes=tuple(tuple(tensor.shape) for tensor in layer),
        dtypes=tuple(str(tensor.dtype).removeprefix("torch.") for tensor in layer),
        logical_bytes=sum(tensor.numel() * tensor.element_size() for tensor in layer),
        storage_bytes=sum(nbytes // owners[storage] for storage, nbytes in _storages(layer).items()),
    )
