"""The tensors of a checkpoint: what a model's weights are made of, whatever format they are stored in.

A model's cache needs none of it; a GPU's memory does. Embeddings, attention, experts, towers and layers of multi-token
prediction are told apart, since ranks share some of them, copy others, and leave others unread.
"""

from __future__ import annotations

from math import prod
from typing import NamedTuple

PARTS = {
    "embedding": "vectors of tokens",
    "attention": "projections of attention, and of indexers",
    "state": "mixers with a state: Mamba, linear attention, convolutions",
    "mlp": "dense feed-forward layers",
    "shared experts": "experts that every token passes",
    "experts": "routed experts",
    "router": "scores of experts",
    "norm": "normalisation",
    "head": "logits of tokens",
    "encoder": "encoder of a sequence-to-sequence model",
    "vision": "towers and projectors of images, video and audio",
    "mtp": "layers of multi-token prediction",
}
"""Parts of a checkpoint, in the order in which they are shown."""


class WeightTensor(NamedTuple):
    """A tensor that one or several layers of a checkpoint have.

    part: one of PARTS. name: as the class has it, without the layer's index. layers: those that have it, none for a
    tensor that belongs to no layer. dtype: where that is not the checkpoint's format, as safetensors writes it (F32).
    shares: the tensor whose storage it uses; tied embeddings are stored once.
    """

    part: str
    name: str
    shape: tuple[int, ...]
    layers: tuple[int, ...] = ()
    dtype: str = ""
    shares: str = ""

    @property
    def elements(self) -> int:
        """Elements of it in one layer."""
        return prod(self.shape)

    @property
    def times(self) -> int:
        """How often it is stored; 0 where it uses another's storage."""
        return 0 if self.shares else max(1, len(self.layers))

    @property
    def parameters(self) -> int:
        """Elements of it in all layers."""
        return self.elements * self.times


class Inventory(NamedTuple):
    """Tensors of a checkpoint, and what they were counted from, such as `Qwen3ForCausalLM of transformers 5.24.0`."""

    tensors: tuple[WeightTensor, ...]
    source: str

    @property
    def parameters(self) -> int:
        """Parameters in all."""
        return sum(tensor.parameters for tensor in self.tensors)


class Checkpoint(NamedTuple):
    """Which weights are meant by a model's name.

    preset: whose tensors it has. repository: where it is published. format: of its weights, where the name says another
    than the preset's own repository has. path: the file or folder that named the model.
    """

    preset: str = ""
    repository: str = ""
    format: str = ""
    path: str = ""
