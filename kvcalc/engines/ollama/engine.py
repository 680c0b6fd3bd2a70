"""Ollama: `tokens` is the whole context, num_ctx x num_parallel, and `sequences` is num_parallel."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Self

from kvcalc.cache.dtypes import Dtype, dtype_named
from kvcalc.engines.base import Allocation, Engine, Workload
from kvcalc.engines.base.beside import Beside
from kvcalc.engines.base.checks import check_unchanged
from kvcalc.engines.base.loading import GGUF
from kvcalc.engines.base.settings import count_from, flag, one_of, setting
from kvcalc.engines.llama_cpp.engine import Q8_0, LlamaCpp
from kvcalc.engines.ollama.own import PADDING, OwnEngine
from kvcalc.engines.ollama.server import BATCHES, by_batch, llama_server, loads_for_one
from kvcalc.engines.ollama.versions import OllamaRelease
from kvcalc.errors import InvalidValueError, NotApplicableError
from kvcalc.model import Model
from kvcalc.model.checkpoint import Widths
from kvcalc.parallel import Parallel
from kvcalc.report.tiers import Tier
from kvcalc.units import GIB

_TYPES = ("f16", "q8_0", "q4_0")
_COMPUTED = "bf16"
"""The default kv_dtype, which Ollama does not have: it stores f16, of equal size."""
_CONTEXT, _BY_MEMORY = 4096, {47 * GIB: 262_144, 23 * GIB: 32_768}
"""Default num_ctx, and the values that the memory of all GPUs raises it to (server/routes.go, Serve)."""
_BATCH = 512


@dataclass(frozen=True)
class Ollama(Engine):
    """Environment and options, with Ollama's names and defaults."""

    TITLE = "Ollama"
    VERIFIED = (
        "before 0.30 measured: 84 contexts of its own Go code over 14 models, equal to the byte; from 0.30 on "
        "llama_cpp with the flags that it passes, from source"
    )
    RELEASE = OllamaRelease
    SHARES_CONTEXT = True
    MAX_SEQUENCES = 256
    LOADS = GGUF
    HOLDS = {"k": ("c_kv", "kv"), "v": ("c_kv",), "compressed_k": ("compressed_kv",)}  # noqa: RUF012  # never changed

    version: str = setting(OllamaRelease.newest(), "version of Ollama; before 0.30 its own engine runs, then llama.cpp")
    kv_cache_type: str | None = setting(None, "OLLAMA_KV_CACHE_TYPE: f16, q8_0 or q4_0; default: f16, or kv_dtype")
    flash_attention: bool | None = setting(
        None, "OLLAMA_FLASH_ATTENTION; default: if the GPU supports it. Without it a quantised cache is not used"
    )
    num_batch: int | None = setting(
        None,
        "tokens computed at once; default: 512, and from 0.30 on 1,024 or 2,048 for contexts above 4,096 or 32,768",
    )
    num_parallel: int | None = setting(
        None, "sequences of the context; default: the requested sequences (if set, those must be 1)"
    )
    context_length: int | None = setting(
        None, "OLLAMA_CONTEXT_LENGTH of one sequence, if no tokens are given; default: by total_vram_bytes"
    )
    total_vram_bytes: int = setting(
        0, "memory of all GPUs: 23 GiB raise the default context from 4,096 to 32,768, 47 GiB to 262,144"
    )

    def __post_init__(self) -> None:
        if self.kv_cache_type is not None:
            one_of(self.kv_cache_type, "kv_cache_type", _TYPES)
        if self.flash_attention is not None:
            flag(self.flash_attention, "flash_attention")
        for field, value in (("num_batch", self.num_batch), ("num_parallel", self.num_parallel)):
            count_from(value, field, 1)
        count_from(self.context_length, "context_length", 1)
        count_from(self.total_vram_bytes, "total_vram_bytes", 0)

    @property
    def release(self) -> OllamaRelease:
        """The version's rules."""
        return OllamaRelease(self.version)

    @property
    def _lacks_flash(self) -> bool:
        return self.flash_attention is not None and not self.flash_attention

    def serving(self, sequences: int) -> Self:
        """With this number of sequences. Raises InvalidValueError if num_parallel differs."""
        if self.num_parallel not in (None, sequences) and sequences != 1:
            raise InvalidValueError(
                f"num_parallel ({self.num_parallel}) differs from the number of sequences ({sequences:,})",
                field="num_parallel",
                help="remove num_parallel: it is the number of sequences",
            )
        return replace(self, num_parallel=self.num_parallel or sequences)

    def own_context(self, model: Model) -> int | None:
        """num_parallel contexts of OLLAMA_CONTEXT_LENGTH, 4,096 or the value raised by memory; at most the model's."""
        length = self.context_length
        if length is None:
            raised = [tokens for least, tokens in _BY_MEMORY.items() if self.total_vram_bytes >= least]
            length = raised[0] if raised and self.release.context_by_memory else _CONTEXT
        return (self.num_parallel or 1) * min(length, model.max_model_len or length)

    def in_eight_bits(self) -> tuple[Ollama, Dtype]:
        """Blocks of q8_0."""
        return self, Q8_0

    def allocate(self, model: Model, kv_dtype: Dtype) -> Allocation:
        """Cells of the context. Raises NotApplicableError for unsupported layers."""
        check_unchanged(model, self.TITLE)
        return self._of_server(model, kv_dtype) if self.release.starts_llama_server else self._own(model, kv_dtype)

    def tiers(self, model: Model, kv_dtype: Dtype, ranks: Parallel, workload: Workload) -> tuple[Tier, ...]:
        """What llama-server keeps by its own defaults; Ollama passes no flag for it."""
        if not self.release.starts_llama_server:
            return ()
        own = workload._replace(sequences=1) if loads_for_one(model) else workload
        server = self.serving(workload.sequences)._server(model, self.num_batch or _BATCH, kv_dtype)
        return server.tiers(model, kv_dtype, ranks, own._replace(sequences=server.n_seq_max or 1))

    def beside(
        self, model: Model, kv_dtype: Dtype, ranks: Parallel, widths: Widths, tokens: int | None
    ) -> Beside | None:
        """What llama-server holds with Ollama's batch; None if Ollama's own engine ran, whose graphs are its own."""
        if not self.release.starts_llama_server:
            return None
        context = tokens or self.own_context(model) or 1
        batch = self.num_batch or max(batch for least, batch in BATCHES.items() if context >= least)
        return self._server(model, batch, kv_dtype).beside(model, kv_dtype, ranks, widths, context)

    def _own(self, model: Model, kv_dtype: Dtype) -> Allocation:
        name = _type_of(self, kv_dtype)
        engine = OwnEngine(
            sequences=self.num_parallel or 1,
            batch=self.num_batch or _BATCH,
            dtype=dtype_named("f16" if self._lacks_flash else name),
            padding=self.release.padding_without_flash if self._lacks_flash else PADDING,
            keeps_stop_token=self.release.keeps_stop_token,
        )
        return tuple(tuple(engine.of(model, group)) for group in model.groups)

    def _of_server(self, model: Model, kv_dtype: Dtype) -> Allocation:
        batches = BATCHES if self.num_batch is None else {1: self.num_batch}
        servers = {token: self._server(model, batch, kv_dtype) for token, batch in batches.items()}
        stored = {token: server.allocate(model, kv_dtype) for token, server in servers.items()}
        return tuple(
            by_batch({token: allocation[number] for token, allocation in stored.items()})
            for number in range(len(model.groups))
        )

    def _server(self, model: Model, batch: int, kv_dtype: Dtype) -> LlamaCpp:
        return llama_server(
            self.release.llama_cpp,
            sequences=1 if loads_for_one(model) else self.num_parallel or 1,
            batch=batch,
            cache_type=_type_of(self, kv_dtype),
            flash_attention=self.flash_attention,
        )

    def notes(self, model: Model) -> tuple[str, ...]:
        """Unused settings, and what runs the model."""
        if self.release.starts_llama_server:
            return (*self._of_the_start(model), *self._server_notes(model))
        if self.kv_cache_type in (None, "f16") or not self._lacks_flash:
            return ()
        return (f"without flash attention Ollama ignores {self.kv_cache_type} and stores f16",)

    def _of_the_start(self, model: Model) -> Iterator[str]:
        words = self._server(model, _BATCH, dtype_named("f16")).release_words
        yield f"Ollama {self.version} starts llama-server of llama.cpp {words}"
        if self.num_batch is None:
            yield "num_batch follows the context (512, 1,024 or 2,048), and is lower if memory is short"
        if loads_for_one(model) and (self.num_parallel or 1) > 1:
            yield (
                f"OLLAMA_NUM_PARALLEL ({self.num_parallel:,}) is ignored: Ollama loads this model for one sequence, "
                "and requests take turns in the whole context"
            )

    def _server_notes(self, model: Model) -> tuple[str, ...]:
        server = self._server(model, self.num_batch or _BATCH, dtype_named("f16"))
        return replace(server, type_k=None, type_v=None).notes(model)


def _type_of(settings: Ollama, kv_dtype: Dtype) -> str:
    """Type of the cache. Raises NotApplicableError for an unsupported one."""
    name = settings.kv_cache_type or (kv_dtype.name if kv_dtype.name != _COMPUTED else "f16")
    if name not in (*_TYPES, "fp16"):
        raise NotApplicableError(f"Ollama stores no cache in {kv_dtype}", help=f"use one of {', '.join(_TYPES)}")
    return "f16" if name == "fp16" else name
