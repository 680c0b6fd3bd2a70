"""Other memory of llama.cpp on a device: its compute buffer, and the backend's own context.

    with flash attention:     u * max(4 * (V + 2h), 4 * (4h + 3ff) + 2c)
    without:                  u * max(4 * (V + 2h), 4 * (3h + 2q + 2k) + 4c * (heads + 1))

u: n_ubatch; V: vocabulary; h: hidden size; ff: active feed-forward width per token; q, k: heads and KV heads times
head_dim; c: cells of a stream. Everything is on one device. Source: 90 contexts of the llama.cpp in llama-cpp-python
0.3.36, whose reported buffers agree within 0.02%; CUDA's own memory, 451 to 711 MiB, as printed by llama.cpp.
"""

from __future__ import annotations

from fractions import Fraction

from kvcalc.engines.base.beside import Beside
from kvcalc.model import Model
from kvcalc.model.checkpoint import Widths
from kvcalc.report.beside import Term
from kvcalc.units import MIB

_FLOAT_BYTES, _HALF_BYTES = 4, 2
_PRINTED = "llama.cpp's reports"
_BACKEND_MIB = (400, 750)
_OTHER_BUILDS = (Fraction(9, 10), Fraction(6, 5))
"""Ratios of other builds' and backends' reports to this rule."""


def compute_bytes(widths: Widths, model: Model, cells: int, ubatch: int, *, flash_attn: bool) -> int:
    """Bytes of the compute buffer of a batch of `ubatch` tokens over `cells` cells."""
    h = widths.hidden_size
    logits = _FLOAT_BYTES * (widths.vocab_size + 2 * h)
    if flash_attn:
        layer = _FLOAT_BYTES * (4 * h + 3 * widths.intermediate_size) + _HALF_BYTES * cells
        return ubatch * max(logits, layer)
    heads, q, k = _heads(model)
    layer = _FLOAT_BYTES * (3 * h + 2 * q + 2 * k) + _FLOAT_BYTES * cells * (heads + 1)
    return ubatch * max(logits, layer)


def _heads(model: Model) -> tuple[int, int, int]:
    """Query heads, and the widths of all query and KV heads, of the widest layer."""
    found = [(0, 0, 0)]
    for group in model.groups:
        facts = group.facts
        heads, dim = facts.get("num_query_heads", 0), facts.get("head_dim", 0)
        found.append((heads, heads * dim, facts.get("num_kv_heads", 0) * dim))
    return max(found)


def beside(widths: Widths, model: Model, cells: int, ubatch: int, *, flash_attn: bool) -> Beside:
    """The interval on one device."""
    buffer = compute_bytes(widths, model, cells, ubatch, flash_attn=flash_attn)
    low, high = (int(buffer * share) for share in _OTHER_BUILDS)
    least, most = _BACKEND_MIB
    found = [
        Term("compute buffer", low, high, "its rule in 90 contexts"),
        Term("the backend's context", least * MIB, most * MIB, _PRINTED),
    ]
    if widths.has_towers:
        found.append(Term.of("an encoder of images", 0, 1, _PRINTED))
    return Beside(tuple(found))
