"""llama.cpp: what one of its contexts allocates, byte for byte.

`tokens` is n_ctx, the whole context (None: the model's), which `sequences` (n_seq_max) share. Alignment of tensors in a
GPU buffer is not counted.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Self

from kvcalc.attention.mla import MultiHeadLatentAttention
from kvcalc.attention.none import NoCache
from kvcalc.cache.dtypes import Dtype, dtype_named
from kvcalc.engines.base import Allocation, Engine, Workload
from kvcalc.engines.base.beside import Beside
from kvcalc.engines.base.loading import GGUF
from kvcalc.engines.base.settings import count_from, one_of, setting
from kvcalc.engines.llama_cpp.architectures import (
    DRAFTS,
    EXPANDS_LATENT,
    K_ONLY_INDEX,
    ROLLS_BACK,
    SKIPS_EMPTY_LAYERS,
    STREAM_FOR_EACH_SEQUENCE,
    WINDOWED,
    WITHOUT_CACHE,
    WITHOUT_FLASH_ATTENTION,
    architecture_of,
)
from kvcalc.engines.llama_cpp.beside import beside
from kvcalc.engines.llama_cpp.cells import MAX_SEQUENCES, Cells
from kvcalc.engines.llama_cpp.drafting import DEFAULT_TYPE, SIMPLE, apart, drafted_by
from kvcalc.engines.llama_cpp.tensors import STATES, Layout, head_widths, widest_values
from kvcalc.engines.llama_cpp.tiers import UNLIMITED, Kept, tiers_of
from kvcalc.engines.llama_cpp.versions import LlamaCppRelease
from kvcalc.errors import InvalidValueError, NotApplicableError, UnknownNameError
from kvcalc.model import Model, with_draft_layers
from kvcalc.model.checkpoint import Widths
from kvcalc.parallel import Parallel
from kvcalc.report.tiers import Tier
from kvcalc.units import plural, shown

LIBRARY, CLI, SERVER = "library", "cli", "server"
TYPES = ("f32", "f16", "bf16", "q8_0", "q4_0", "q4_1", "iq4_nl", "q5_0", "q5_1")
"""Types of K and V."""
_DTYPES = frozenset(map(dtype_named, TYPES))
Q8_0 = dtype_named("q8_0")
_OFF, _AUTO, _ON = "off", "auto", "on"
_FLAG: Mapping[str | int, bool] = {
    **dict.fromkeys((1, "true", "on", "yes", "enabled"), True),
    **dict.fromkeys((0, "false", "off", "no", "disabled"), False),
}
_FLASH_ATTENTION: Mapping[str | int, str] = {
    **{-1: _AUTO, "auto": _AUTO},
    **{flag: _ON if on else _OFF for flag, on in _FLAG.items()},
}


@dataclass(frozen=True)
class LlamaCpp(Engine):
    """Parameters of a context, named as in llama.cpp (llama_context_params); None: as given by `defaults`."""

    TITLE = "llama.cpp"
    VERIFIED = (
        "0.3.36 measured: 1,853 contexts of the real library over 35 architectures, equal to the byte; other versions "
        "from source"
    )
    RELEASE = LlamaCppRelease
    SHARES_CONTEXT = True
    MAX_SEQUENCES = MAX_SEQUENCES
    LOADS = GGUF
    HOLDS = {"k": ("c_kv", "kv"), "v": ("c_kv",), "compressed_k": ("compressed_kv",)}  # noqa: RUF012  # never changed

    version: str = setting(
        LlamaCppRelease.newest(),
        "version of llama-cpp-python, for its copy of llama.cpp; or a build (b7079) or a date",
    )
    defaults: str = setting(
        LIBRARY,
        "whose defaults apply: library (swa_full), cli (llama-cli, no swa_full), or server (llama-server: if "
        "sequences is 1 and n_seq_max is not given, it opens 4 slots over one kv_unified context)",
    )
    n_batch: int = setting(2048, "tokens submitted at once")
    n_ubatch: int = setting(512, "tokens computed at once; 0: n_batch")
    n_seq_max: int | None = setting(
        None, "sequences of the context; default: the requested sequences (if set, those must be 1)"
    )
    n_rs_seq: int = setting(
        0, "extra copies of recurrent states, to roll back drafts; ignored by architectures that cannot"
    )
    type_k: str | None = setting(None, "type of K; default: kv_dtype")
    type_v: str | None = setting(None, "type of V; default: kv_dtype")
    swa_full: bool | None = setting(None, "cells for the whole context in sliding layers as well")
    kv_unified: bool | None = setting(
        None, "one cache for all sequences, any of which may fill it; otherwise each has its share"
    )
    flash_attn: str = setting(_AUTO, "on, off or auto (1, 0, -1); auto counts as on when memory is allocated")
    spec_type: str | None = setting(None, "draft-simple, to draft with another model; default: none")
    model_draft: str | None = setting(None, "model that drafts, in a context of its own: a name or a path")
    type_k_draft: str | None = setting(None, "type of K of the draft; default: f16")
    type_v_draft: str | None = setting(None, "type of V of the draft; default: f16")
    ctx_checkpoints: int | None = setting(
        None, "context checkpoints of each slot in host memory; default: 32 for server, otherwise 0"
    )
    cache_ram: int | None = setting(
        None, "MiB of prompts in host memory, -1 for no limit; default: 8,192 for server, otherwise 0"
    )

    def __post_init__(self) -> None:
        one_of(self.defaults, "defaults", (LIBRARY, CLI, SERVER))
        for field, value in (("n_batch", self.n_batch), ("n_ubatch", self.n_ubatch), ("n_rs_seq", self.n_rs_seq)):
            count_from(value, field, 0)
        if not (self.n_batch or self.n_ubatch):
            raise InvalidValueError("n_batch and n_ubatch cannot both be zero", field="n_batch", help="write n_batch=1")
        count_from(self.n_seq_max, "n_seq_max", 1)
        count_from(self.ctx_checkpoints, "ctx_checkpoints", 0)
        if self.cache_ram != UNLIMITED:
            count_from(self.cache_ram, "cache_ram", 0)
        if self.spec_type is not None:
            one_of(self.spec_type, "spec_type", ("none", SIMPLE))
        for field in ("type_k", "type_v", "type_k_draft", "type_v_draft"):
            name = getattr(self, field)
            self._set(field, None if name is None else _cache_type(name, field).name)
        for field, word in (("swa_full", self.swa_full), ("kv_unified", self.kv_unified)):
            self._set(field, _meant(word, field, _FLAG))
        self._set("flash_attn", _meant(self.flash_attn, "flash_attn", _FLASH_ATTENTION) or _AUTO)

    def _set(self, field: str, value: object) -> None:
        object.__setattr__(self, field, value)

    @property
    def release_words(self) -> str:
        """The version in words: its copy of llama.cpp, a build or a date."""
        if self.version in LlamaCppRelease.PACKAGES:
            return f"llama-cpp-python {self.version}"
        day = LlamaCppRelease.day_of(self.version)
        return self.version if self.version == str(day) else f"{self.version}, about {day}"

    @property
    def release(self) -> LlamaCppRelease:
        """The version's rules."""
        return LlamaCppRelease(self.version)

    def in_eight_bits(self) -> tuple[LlamaCpp, Dtype]:
        """Blocks of q8_0."""
        return self, Q8_0

    def beside(
        self, model: Model, kv_dtype: Dtype, ranks: Parallel, widths: Widths, tokens: int | None
    ) -> Beside | None:
        """The compute buffer of a batch over the cells of one stream, and the backend's context."""
        del kv_dtype, ranks
        context = tokens or self.own_context(model) or 0
        settings = self if self.n_seq_max else self.serving(1)
        streams = 1 if settings.kv_unified else settings.n_seq_max or 1
        ubatch = min(self.n_batch, self.n_ubatch or self.n_batch)
        return beside(widths, model, -(-context // streams), ubatch, flash_attn=self.flash_attn != _OFF)

    def tiers(self, model: Model, kv_dtype: Dtype, ranks: Parallel, workload: Workload) -> tuple[Tier, ...]:
        """Context checkpoints and prompts that a server keeps in host memory."""
        del ranks
        settings, of_server = self.serving(workload.sequences), self.defaults == SERVER
        release = self.release
        checkpoints, cache_ram = self.ctx_checkpoints, self.cache_ram
        if checkpoints is None:
            checkpoints = release.server_checkpoints if of_server else 0
        if cache_ram is None:
            cache_ram = release.server_cache_ram if of_server else 0
        if not (checkpoints or cache_ram):
            return ()
        architecture, slots = architecture_of(model), settings.n_seq_max or 1
        cells = _cells(architecture, settings, flash_attn=settings.flash_attn != _OFF, hybrid=_is_hybrid(model))
        windows = architecture in WINDOWED and release.window_caches and not settings.swa_full
        kept = Kept(slots, cells.streams, checkpoints, cache_ram, windows, cells.state_rows)
        return tuple(tiers_of(model, settings.allocate(model, kv_dtype), kept, workload.tokens, kv_dtype))

    def serving(self, sequences: int) -> Self:
        """With a value for each setting, for this number of sequences.

        Raises InvalidValueError if n_seq_max differs, or exceeds llama.cpp's limit.
        """
        asked = self.n_seq_max
        if asked is not None and sequences not in (1, asked):
            raise InvalidValueError(
                f"n_seq_max ({asked:,}) differs from the number of sequences ({sequences:,})",
                field="n_seq_max",
                help="remove n_seq_max: it is the number of sequences",
            )
        slots = self.release.server_slots
        opens_slots = self.defaults == SERVER and asked is None and sequences == 1 < slots
        count = slots if opens_slots else asked or sequences
        self._check_sequences(count)
        return replace(
            self,
            n_seq_max=count,
            swa_full=self.defaults == LIBRARY if self.swa_full is None else self.swa_full,
            kv_unified=opens_slots if self.kv_unified is None else self.kv_unified,
        )

    def _check_sequences(self, count: int) -> None:
        if count > MAX_SEQUENCES:
            raise InvalidValueError(
                f"n_seq_max must be at most {MAX_SEQUENCES}, not {count:,}",
                field="sequences",
                help=f"use at most {MAX_SEQUENCES} sequences",
            )
        if self.n_batch < count:
            raise InvalidValueError(
                f"n_batch ({self.n_batch:,}) must be at least n_seq_max ({count:,}), or llama.cpp aborts",
                field="n_batch",
                help=f"write n_batch={count}, or remove it",
            )

    def allocate(self, model: Model, kv_dtype: Dtype) -> Allocation:
        """Tensors of the context with these settings.

        Raises NotApplicableError if llama.cpp does not support the model, or refuses this context for it.
        """
        own, drafter = apart(model)
        if drafter is not None:
            return (*self.allocate(own, kv_dtype), *self._of_draft().allocate(drafter, kv_dtype))
        architecture = architecture_of(model)
        _check_unchanged(model)
        if architecture in DRAFTS:
            raise NotApplicableError(
                f"{model.name} ({architecture}) is a draft model, which shares the context of another model",
                help="size the model that it drafts for",
            )
        layout = _layout(model, architecture, self.serving(1), kv_dtype)
        _check_types(model, architecture, layout)
        if not self.release.hybrid_memory and _is_hybrid(model):
            first = next(iter(LlamaCppRelease.hybrid_memory.since))
            raise NotApplicableError(
                f"this llama.cpp does not yet support states next to attention, as {model.name} has",
                help=f"use a version from {LlamaCppRelease.day_of(first)} or later",
            )
        if architecture in WITHOUT_CACHE:
            return tuple(() for _ in model.groups)
        return tuple(layout.of(model, group) for group in model.groups)

    def _of_draft(self) -> LlamaCpp:
        """The parameters of the draft's context."""
        return replace(self, type_k=self.type_k_draft or DEFAULT_TYPE, type_v=self.type_v_draft or DEFAULT_TYPE)

    @property
    def draft_model(self) -> str | None:
        """model_draft."""
        return self.model_draft

    def drafted_by(self, model: Model, drafter: Model) -> Model:
        """With all layers of the draft."""
        return drafted_by(model, drafter, self.spec_type, self.release)

    def served(self, model: Model) -> Model:
        """With the layers for multi-token prediction, in versions that cached them with the others, or another's."""
        if model.drafter is not None:
            return with_draft_layers(model) if model.draft_groups else model
        counted = self.release.counts_draft_layers.split(", ")
        return with_draft_layers(model) if model.draft_groups and architecture_of(model) in counted else model

    def notes(self, model: Model) -> tuple[str, ...]:
        """Notes on unexpected behaviour of llama.cpp with this model."""
        architecture = architecture_of(model)
        if architecture in WITHOUT_CACHE:
            return (f"llama.cpp has no cache for {architecture}: each run processes the whole text",)
        found = [_slots(self)] if self.defaults == SERVER else []
        if not self.release.is_measured:
            found.append(f"the rules of llama.cpp {self.release_words} come from its source, not from measurements")
        limits = ("sliding_window", "attention_chunk_size")
        if architecture == "qwen4exp":
            found.append("the short history of its per-layer embeddings is not counted")
        if architecture not in WINDOWED and any(limit in group.facts for group in model.groups for limit in limits):
            found.append(f"llama.cpp ignores the windows of {architecture}: every layer keeps every token")
        if model.drafter is not None:
            found.append(f"compute buffers of {model.drafter.name}, which drafts, are not counted")
        types = [f"{name} is stored as {kind}" for name, kind in (("K", self.type_k), ("V", self.type_v)) if kind]
        return (*found, *([", ".join(types)] if types else []))

    def policies(self) -> dict[str, Engine]:
        """The sets of defaults, the active one first."""
        order = (self.defaults, *(name for name in (LIBRARY, CLI, SERVER) if name != self.defaults))
        return {f"defaults of the {name}": replace(self, defaults=name) for name in order}


def _slots(settings: LlamaCpp) -> str:
    slots = f"llama-server with {plural(settings.n_seq_max or 1, 'slot')} (n_seq_max, its -np)"
    return f"{slots} over one cache" if settings.kv_unified else f"{slots}, each with its share"


def _is_hybrid(model: Model) -> bool:
    parts = [part for group in model.groups for part in group.parts if not isinstance(part, NoCache)]
    return any(isinstance(part, STATES) for part in parts) and not all(isinstance(part, STATES) for part in parts)


def _layout(model: Model, architecture: str, settings: LlamaCpp, kv_dtype: Dtype) -> Layout:
    release = settings.release
    expands = architecture in EXPANDS_LATENT
    parts = (part for group in model.groups for part in group.parts)
    widest_v, widest_v_head = widest_values(model)
    flash_attn = settings.flash_attn != _OFF and architecture not in WITHOUT_FLASH_ATTENTION
    return Layout(
        cells=_cells(architecture, settings, flash_attn=flash_attn, hybrid=_is_hybrid(model)),
        type_k=_cache_type(kv_dtype.name, "kv_dtype") if settings.type_k is None else dtype_named(settings.type_k),
        type_v=_cache_type(kv_dtype.name, "kv_dtype") if settings.type_v is None else dtype_named(settings.type_v),
        windows=architecture in WINDOWED and release.window_caches,
        expands=expands,
        latent=not expands and any(isinstance(part, MultiHeadLatentAttention) for part in parts),
        k_only_index=architecture in K_ONLY_INDEX,
        flash_attn=flash_attn,
        empty_layers=architecture not in SKIPS_EMPTY_LAYERS,
        widens=not flash_attn and release.widest_values,
        widest_v=widest_v,
        widest_v_head=widest_v_head,
        latent_values=release.latent_values,
        indexes=release.index_caches,
    )


def _cells(architecture: str, settings: LlamaCpp, *, flash_attn: bool, hybrid: bool) -> Cells:
    release = settings.release
    sequences, unified = settings.n_seq_max or 1, bool(settings.kv_unified) or not release.streams
    own_streams = not unified or architecture in STREAM_FOR_EACH_SEQUENCE
    copies = 1 + (settings.n_rs_seq if architecture in ROLLS_BACK and release.rollback_rows else 0)
    ubatch = min(settings.n_batch, settings.n_ubatch or settings.n_batch)
    return Cells(
        sequences=sequences,
        streams=sequences if own_streams else 1,
        kv_unified=unified,
        swa_full=bool(settings.swa_full),
        ubatch=ubatch if release.window_spare == "n_ubatch" else settings.n_batch,
        state_rows=sequences * copies,
        padding=release.padding if flash_attn else release.padding_without_flash,
        shared=release.hybrid_shares or not hybrid,
    )


def _check_unchanged(model: Model) -> None:
    """Raises NotApplicableError for a method that selects what to keep, which llama.cpp does not support."""
    for group in model.groups:
        if not group.is_as_built:
            raise NotApplicableError(
                f"llama.cpp does not support the method: with it, {group.name} layers of {model.name} keep other "
                "tensors than their own",
                help="remove --method, or use --engine ideal; type_k and type_v set the formats",
            )


def _check_types(model: Model, architecture: str, layout: Layout) -> None:
    """Raises NotApplicableError for types of K and V that llama_init_from_model refuses."""
    type_k, type_v = layout.type_k, layout.type_v
    without_v = (layout.latent and not layout.latent_values) or architecture in STREAM_FOR_EACH_SEQUENCE
    if type_k != type_v and without_v:
        raise NotApplicableError(
            f"llama.cpp does not support different types of K ({type_k}) and V ({type_v}) for {architecture}",
            help=f"write type_v={type_k}: such a model stores only K",
        )
    if type_v.block_elements > 1 and not layout.flash_attn:
        raise NotApplicableError(
            f"a quantised V ({type_v}) requires flash_attn, which is off", help="write flash_attn=on, or type_v=f16"
        )
    for key, value in head_widths(model, expands=layout.expands) if layout.flash_attn else ():
        for name, kind, width in (("K", type_k, key), ("V", type_v, value)):
            if width % kind.block_elements:
                raise NotApplicableError(
                    f"{name} of type {kind} comes in blocks of {kind.block_elements}, which do not divide a head of "
                    f"{width}",
                    help=f"write type_{name.lower()}=f16",
                )


def _cache_type(name: object, field: str) -> Dtype:
    """Type of K or V, by llama.cpp's or kvcalc's name. Raises InvalidValueError for an unsupported one."""
    try:
        dtype = dtype_named(str(name))
    except UnknownNameError:
        dtype = None
    if dtype not in _DTYPES:
        raise InvalidValueError(
            f"{field} must be one of {', '.join(TYPES)}, not {shown(name)}", field=field, help=f"write {field}=q8_0"
        )
    return dtype


def _meant(value: object, field: str, words: Mapping[str | int, object]) -> object:
    """Value of a flag; None if not given."""
    if value is None:
        return None
    key = value.lower() if isinstance(value, str) else value
    if not isinstance(key, str | int) or key not in words:
        raise InvalidValueError(f"{field} must be on or off, not {shown(value)}", field=field, help=f"write {field}=on")
    return words[key]
