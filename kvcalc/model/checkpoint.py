"""The tensors of a checkpoint: what a model's weights are made of, whatever format they are stored in.

A model's cache needs none of it; a GPU's memory does. Embeddings, attention, experts, towers and layers of multi-token
prediction are told apart, since ranks share some of them, copy others, and leave others unread.
"""

from __future__ import annotations

import re
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


class Widths(NamedTuple):
    """What activations are as wide as.

    hidden_size: of the residual stream. intermediate_size: of all feed-forward layers that one token passes in a layer:
    a dense one, or its experts with the shared ones. vocab_size: logits of a token. has_towers, has_states: whether
    there are images or recurrent layers, which take memory of their own. tower_size: of the encoder of images, 0 where
    its patches are not told apart; any_image_size: whether it sees images of any size, and videos, as patches in time.
    """

    hidden_size: int
    intermediate_size: int
    vocab_size: int
    has_towers: bool = False
    has_states: bool = False
    tower_size: int = 0
    any_image_size: bool = False


class Inventory(NamedTuple):
    """Tensors of a checkpoint, and what they were counted from, such as `Qwen3ForCausalLM of transformers 5.24.0`.

    experts_per_token: routed experts that a token passes; 0 where there are none, or nobody says.
    """

    tensors: tuple[WeightTensor, ...]
    source: str
    experts_per_token: int = 0

    @property
    def parameters(self) -> int:
        """Parameters in all."""
        return sum(tensor.parameters for tensor in self.tensors)

    @property
    def widths(self) -> Widths | None:
        """What activations are as wide as; None where embeddings are not told apart."""
        table = next(
            (t for t in self.tensors if t.part == "embedding" and len(t.shape) == len(("vocab", "hidden"))), None
        )
        if table is None:
            return None
        vocab_size, hidden_size = table.shape
        dense = self._rows("mlp")
        routed = self._rows("experts") * self.experts_per_token + self._rows("shared experts")
        parts = {tensor.part for tensor in self.tensors}
        patch = next((t.shape for t in self.tensors if t.part == "vision" and _PATCH.search(t.name)), ())
        return Widths(
            hidden_size,
            max(dense, routed),
            vocab_size,
            has_towers="vision" in parts,
            has_states="state" in parts,
            tower_size=patch[0] if patch else 0,
            any_image_size=len(patch) == len(("width", "colours", "time", "height", "breadth")),
        )

    def _rows(self, part: str) -> int:
        """Columns of the widest second matrix of a feed-forward part: what its activations are as wide as."""
        return max((t.shape[-1] for t in self.tensors if t.part == part and _is_second(t)), default=0)


_PATCH = re.compile(r"patch_embed\w*\.(\w+\.)?weight$")
_SECOND = ("down_proj", "fc2", "dense_4h_to_h", "w2", "output_linear", "c_proj", "wo")


def _is_second(tensor: WeightTensor) -> bool:
    return tensor.name.endswith((*_SECOND, *(f"{name}.weight" for name in _SECOND)))


class Checkpoint(NamedTuple):
    """Which weights are meant by a model's name.

    preset: whose tensors it has. repository: where it is published. format: of its weights, where the name says another
    than the preset's own repository has. path: the file or folder that named the model. inventory: tensors counted from
    its config; not_counted: why there are none, in words. widths: of activations, where its config or file says them.
    """

    preset: str = ""
    repository: str = ""
    format: str = ""
    path: str = ""
    inventory: Inventory | None = None
    not_counted: str = ""
    widths: Widths | None = None
