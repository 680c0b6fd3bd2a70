"""Attention windows that share a pool's memory, and how they shrink if one request does not fit.

A rank assigns its layers to the windows of max_attention_window in turn. Several windows share the memory equally,
regardless of max_tokens. If one request's full windows take all of the memory or more, they are filled from the
smallest on: each token is charged for all layers whose window is not full yet, until memory or max_tokens runs out.
Larger windows also end there, and windows of equal size merge.

    tokens of a window = those of the one before + min(what is left // bytes of a token in the layers left, its own)

Scales of nvfp4 are not charged. Source: TensorRT-LLM, _torch/pyexecutor/resource_manager.py
(adjust_window_sizes_for_vswa, calculate_max_num_blocks_for_vswa).
"""

from __future__ import annotations

from typing import NamedTuple

from kvcalc.engines.tensorrt_llm.settings import TensorrtLlmSettings

_NVFP4_ELEMENTS, _NVFP4_CODES = 9, 8
"""Bytes of a block of nvfp4, and those without scales."""


class Held(NamedTuple):
    """What the layers of one window hold per token: their number, and bytes by tensor."""

    layers: int
    tensors: tuple[tuple[str, int], ...]

    @property
    def token_bytes(self) -> int:
        """Bytes of a token, all tensors and layers."""
        return sum(size for _, size in self.tensors)

    def charged_bytes(self, settings: TensorrtLlmSettings) -> int:
        """Bytes of a token, as several windows are charged for it."""
        return self.token_bytes * _NVFP4_CODES // _NVFP4_ELEMENTS if settings.dtype == "nvfp4" else self.token_bytes

    def with_layers_of(self, other: Held) -> Held:
        """Both together."""
        found = dict(self.tensors)
        for name, size in other.tensors:
            found[name] = found.get(name, 0) + size
        return Held(self.layers + other.layers, tuple(found.items()))


Windows = dict[int, Held]
"""What each window's layers hold, by the window in tokens; 0: full attention without a longest request."""


def shrunk(windows: Windows, settings: TensorrtLlmSettings, memory_bytes: int) -> Windows:
    """The windows that share this much memory: unchanged if it has room for one full request."""
    charged = {window: held.charged_bytes(settings) for window, held in windows.items()}
    one_request_bytes = sum(window * each_bytes for window, each_bytes in charged.items())
    if 0 in windows or one_request_bytes < memory_bytes:
        return windows
    found: Windows = {}
    for window, tokens in _filled(charged, settings.max_tokens, memory_bytes).items():
        held = windows[window]
        found[tokens] = found[tokens].with_layers_of(held) if tokens in found else held
    return found


def _filled(charged: dict[int, int], max_tokens: int | None, memory_bytes: int) -> dict[int, int]:
    """Tokens that each window holds of one request, smaller windows first."""
    found, tokens, before = {}, 0, 0
    for window in sorted(charged):
        if memory_bytes > 0:
            each_bytes = sum(size for other, size in charged.items() if other >= window)
            more = min(memory_bytes // each_bytes, window - before)
            tokens += more
            memory_bytes -= more * each_bytes
            if tokens < window:
                memory_bytes = 0
            if max_tokens is not None and tokens >= max_tokens:
                tokens, memory_bytes = max_tokens, 0
        found[window] = tokens
        before = window
    return found


def shared_blocks(windows: Windows, settings: TensorrtLlmSettings, memory_bytes: int) -> dict[int, int]:
    """Blocks of each window, from equal shares of the memory. The share is a float, as in TensorRT-LLM."""
    share = memory_bytes * (1.0 / len(windows)) if windows else 0
    return {
        window: int(share / held.charged_bytes(settings) // settings.tokens_per_block)
        for window, held in windows.items()
    }
