"""Files of small checkpoints for tests, written field by field; nothing here is shared with a reader."""

from __future__ import annotations

import json
import struct
from math import prod

from gguf_files import TINY, gguf, text

LLAMA = {
    "model_type": "llama",
    "architectures": ["LlamaForCausalLM"],
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "hidden_size": 256,
    "max_position_embeddings": 4096,
}
"""2 layers x K and V x 2 heads x 64 x 2 bytes: 1,024 bytes a token in bf16."""
LLAMA_TOKEN_BYTES = 2 * 2 * 2 * 64 * 2
WIDTHS = {"BF16": 2, "F32": 4, "F8_E4M3": 1}


def safetensors(tensors: dict[str, tuple[int, ...]], dtype: str = "BF16") -> bytes:
    """A whole file, with zeros for data."""
    header, at = {}, 0
    for name, shape in tensors.items():
        end = at + WIDTHS[dtype] * prod(shape)
        header[name] = {"dtype": dtype, "shape": list(shape), "data_offsets": [at, end]}
        at = end
    raw = json.dumps(header).encode()
    return struct.pack("<Q", len(raw)) + raw + bytes(at)


def gguf_model(tensors: dict[str, tuple[int, ...]], metadata: dict | None = None) -> bytes:
    """A whole GGUF file of float16 tensors, with zeros for data."""
    infos = b"".join(
        text(name) + struct.pack(f"<I{len(shape)}QIQ", len(shape), *shape, 1, 0) for name, shape in tensors.items()
    )
    head = gguf(TINY if metadata is None else metadata, tensors=len(tensors))
    return head + infos + bytes(2 * sum(map(prod, tensors.values())))
