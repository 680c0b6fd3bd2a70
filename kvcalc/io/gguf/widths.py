"""How wide a GGUF model's activations are, by the metadata of its file."""

from __future__ import annotations

from kvcalc.io.gguf.header import TOKENS, Array
from kvcalc.io.gguf.metadata import Metadata
from kvcalc.model.checkpoint import Widths

_STATES = ("ssm.", "wkv.", "kda.", "shortconv.")


def widths_of(metadata: Metadata) -> Widths | None:
    """Widths by the metadata; None if one of the three is missing."""
    hidden = _size(metadata, "embedding_length")
    dense = _size(metadata, "feed_forward_length")
    expert = _size(metadata, "expert_feed_forward_length") or dense
    routed = _size(metadata, "expert_used_count") * expert
    shared = _size(metadata, "expert_shared_feed_forward_length") or _size(metadata, "expert_shared_count") * expert
    widest = max(dense, routed + shared)
    vocab = _size(metadata, "vocab_size") or _tokens(metadata.values.get(TOKENS))
    if not (hidden and widest and vocab):
        return None
    has_states = any(key.partition(".")[2].startswith(_STATES) for key in metadata.values)
    return Widths(hidden, widest, vocab, has_states=has_states)


def _size(metadata: Metadata, name: str) -> int:
    """A key's value, the largest of a list; 0 without one."""
    value = metadata.values.get(metadata.key(name))
    sizes = value if isinstance(value, list) else [value]
    return max((size for size in sizes if type(size) is int), default=0)


def _tokens(value: object) -> int:
    return value.length if isinstance(value, Array) else len(value) if isinstance(value, list) else 0
