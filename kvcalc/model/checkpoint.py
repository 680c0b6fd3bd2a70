"""The tensors of a checkpoint: a model's weights, independent of their format.

Not needed for the cache, but for a GPU's memory. Embeddings, attention, experts, towers and multi-token-prediction
layers are separate parts, since ranks divide some of them, copy others, and do not load others.
"""

from __future__ import annotations

import re
from math import prod
from typing import NamedTuple

PARTS = {
    "embedding": "token embeddings",
    "attention": "projections of attention, and of indexers",
    "state": "layers with a state: Mamba, linear attention, convolutions",
    "mlp": "dense feed-forward layers",
    "shared experts": "experts that every token passes",
    "experts": "routed experts",
    "router": "expert routers",
    "norm": "normalisation",
    "head": "logits of tokens",
    "encoder": "encoder of a sequence-to-sequence model",
    "vision": "image, video and audio encoders with projectors",
    "mtp": "multi-token-prediction layers",
}
"""Parts of a checkpoint, in display order."""


class WeightTensor(NamedTuple):
    """A tensor of one or several layers of a checkpoint.

    part: one of PARTS. name: as in the class, without the layer's index. layers: those that have it, none for a tensor
    outside the layers. dtype: if different from the checkpoint's format, as in safetensors (F32). shares: the tensor
    whose storage it uses; tied embeddings are stored once.
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
        """Number of stored copies; 0 if it uses another's storage."""
        return 0 if self.shares else max(1, len(self.layers))

    @property
    def parameters(self) -> int:
        """Elements of it in all layers."""
        return self.elements * self.times


class Widths(NamedTuple):
    """Widths of activations.

    hidden_size: of the residual stream. intermediate_size: of all feed-forward layers that a token passes in a layer: a
    dense one, or its experts with the shared ones. vocab_size: logits per token. has_towers, has_states: whether there
    are images or recurrent layers, which take additional memory. tower_size: of the image encoder, 0 if unknown;
    any_image_size: whether it accepts images of any size, and videos, as patches in time.
    """

    hidden_size: int
    intermediate_size: int
    vocab_size: int
    has_towers: bool = False
    has_states: bool = False
    tower_size: int = 0
    any_image_size: bool = False


class Inventory(NamedTuple):
    """Tensors of a checkpoint, and their source, such as `Qwen3ForCausalLM of transformers 5.24.0`.

    experts_per_token: routed experts per token; 0 if there are none, or unknown.
    """

    tensors: tuple[WeightTensor, ...]
    source: str
    experts_per_token: int = 0

    @property
    def parameters(self) -> int:
        """Total number of parameters."""
        return sum(tensor.parameters for tensor in self.tensors)

    @property
    def widths(self) -> Widths | None:
        """Widths of activations; None if embeddings are not a separate part."""
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
        """Columns of the widest second matrix of a feed-forward part: the width of its activations."""
        return max((t.shape[-1] for t in self.tensors if t.part == part and _is_second(t)), default=0)


_PATCH = re.compile(r"patch_embed\w*\.(\w+\.)?weight$")
_SECOND = ("down_proj", "fc2", "dense_4h_to_h", "w2", "output_linear", "c_proj", "wo")


def _is_second(tensor: WeightTensor) -> bool:
    return tensor.name.endswith((*_SECOND, *(f"{name}.weight" for name in _SECOND)))


class Checkpoint(NamedTuple):
    """The weights of a model's name.

    preset: with the same tensors. repository: where it is published. format: of its weights, if the name implies
    another than that of the preset's repository. path: the file or folder that named the model. inventory: tensors
    counted from its config; not_counted: why there are none, in words. widths: of activations, where its config or file
    says them.
    """

    preset: str = ""
    repository: str = ""
    format: str = ""
    path: str = ""
    inventory: Inventory | None = None
    not_counted: str = ""
    widths: Widths | None = None
