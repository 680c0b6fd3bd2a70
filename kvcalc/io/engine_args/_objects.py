"""Flags with a JSON object: which keys decide the cache, which are ignored, and which are refused by name."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from kvcalc.engines.base.reading import read_value
from kvcalc.errors import InvalidValueError
from kvcalc.io.engine_args._rows import words
from kvcalc.io.engine_args._secrets import could_be_secret

if TYPE_CHECKING:
    from kvcalc.io.engine_args._reading import Reading
    from kvcalc.io.engine_args._rows import Given

_NOTHING = ("", "null", "None", "{}")
_LENGTHS = ("rope_parameters", "rope_scaling", "rope_theta", "original_max_position_embeddings", "factor", "yarn")
_NAMES_ONLY = (
    "architectures",
    "auto_map",
    "torch_dtype",
    "dtype",
    "tie_word_embeddings",
    "quantization_config",
    "use_cache",
)
_NESTED = ("text_config", "llm_config", "language_config", "thinker_config")
_KEY = re.compile(r"[A-Za-z_][A-Za-z0-9_.]{0,60}")
_HYBRID_CONNECTORS = frozenset(
    words("""
    NixlConnector NixlPullConnector NixlPushConnector MooncakeConnector MooncakeStoreConnector MoRIIOConnector
    OffloadingConnector SimpleCPUOffloadConnector DecodeBenchConnector UMBPStoreConnector
""")
)
"""Connectors of vLLM 0.33 that support several kinds of layers (SupportsHMA)."""
_PLAIN_CONNECTORS = frozenset(
    words("""
    LMCacheConnector LMCacheConnectorV1 LMCacheMPConnector P2pNcclConnector PyNcclConnector ExampleConnector
    SharedStorageConnector HF3FSKVConnector FlexKVConnectorV1
""")
)
_HYBRID_SINCE = (0, 24)
"""vLLM up to 0.20.2 disables its hybrid manager for every connector; 0.24.0 asks the connector."""
_PASSES = frozenset(
    words("""
    flash_attn_version flash_attn_max_num_splits_for_cuda_graph tokenspeed_mla_min_split_kv
    tq_max_kv_splits_for_cuda_graph use_trtllm_attention disable_flashinfer_q_quantization mla_prefill_backend
    use_prefill_query_quantization trtllm_ragged_backend indexer_sparse_logits indexer_tp_shard_min_rows
    sparse_mla_force_mqa sparse_mla_prefill_workspace_factor flex_attn_block_m flex_attn_block_n flex_attn_q_block_size
    flex_attn_kv_block_size use_prefill_decode_attention use_cudnn_prefill disable_flashinfer_prefill
""")
)
"""Keys of an attention config that select kernels with the same block size."""
_OF_BLOCKS = frozenset(
    words("""
    enable_block_reuse enable_partial_reuse copy_on_partial_reuse event_buffer_max_size onboard_blocks
    secondary_offload_min_priority attention_dp_events_gather_period_ms use_uvm
""")
)
"""Fields of TensorRT-LLM's cache for block reuse."""


def json_of(given: Given, reading: Reading) -> dict[str, Any] | None:
    """The object of a flag; None if it has no effect or is invalid, which is refused."""
    if given.parts is not None:
        return dict(given.parts)
    if given.text.strip() in _NOTHING or reading.is_unknown(given, given.text):
        return None
    try:
        value = read_value(given.text, "json", given.spelled)
    except InvalidValueError as error:
        reading.refuse(given, "must be a JSON object", error.help, wrong=True)
        return None
    return value if isinstance(value, dict) else None


def speculative(given: Given, reading: Reading) -> None:
    """Drafts: the setting, and the draft checkpoint if it is a separate one."""
    found = json_of(given, reading)
    if found is not None:
        reading.settings["speculative"] = found
        _draft_of(found, reading)


def speculative_part(given: Given, reading: Reading) -> None:
    """--spec-method, --spec-model and --spec-tokens, each a field of the same setting."""
    field = {"spec-method": "method", "spec-model": "model", "spec-tokens": "num_speculative_tokens"}[given.flag.name]
    value = reading.value(given, "") if field == "num_speculative_tokens" else given.text
    if value is None or reading.is_unknown(given, given.text):
        return
    found = dict(reading.settings.get("speculative") or {})
    reading.settings["speculative"] = {**found, field: value}
    _draft_of(reading.settings["speculative"], reading)


def _draft_of(found: Mapping[str, Any], reading: Reading) -> None:
    draft = found.get("model")
    if isinstance(draft, str) and draft and not could_be_secret(draft) and draft not in ("ngram", "[ngram]"):
        reading.draft = draft


def model_overrides(given: Given, reading: Reading) -> None:
    """Fields of the model's config: length fields raise the longest request, others are refused by name."""
    found = json_of(given, reading)
    for key, value in _fields(found or {}):
        name = key.rpartition(".")[2]
        if name == "max_position_embeddings" and isinstance(value, int):
            reading.overrides["max_model_len"] = value
        elif name in _LENGTHS or name.startswith("rope_"):
            reading.overrides.setdefault("max_model_len", None)
        elif name not in _NAMES_ONLY:
            shown = key if _KEY.fullmatch(key) and not could_be_secret(key) else "a field"
            reading.refuse(given, f"{shown} may change the model's shape", "pass the changed config.json as model")
            return
    if found:
        reading.tell(given, "its fields change the longest request, not the bytes per token")


def _fields(found: Mapping[str, Any], prefix: str = "") -> list[tuple[str, Any]]:
    """Fields, including those of the nested text model."""
    fields: list[tuple[str, Any]] = []
    for key, value in found.items():
        if key in _NESTED and isinstance(value, Mapping) and not prefix:
            fields.extend(_fields(value, f"{key}."))
        else:
            fields.append((f"{prefix}{key}", value))
    return fields


def attention_config(given: Given, reading: Reading) -> None:
    """The backend, which decides the block size; keys that select kernels are ignored."""
    for key, value in (json_of(given, reading) or {}).items():
        if key == "backend" and isinstance(value, str):
            reading.settings["attention_backend"] = value
        elif key not in _PASSES:
            shown = key if _KEY.fullmatch(key) and not could_be_secret(key) else "a field"
            reading.refuse(given, f"the effect of {shown} on memory is unknown")


def kv_transfer(given: Given, reading: Reading) -> None:
    """A connector does not change the bytes of a block, but may disable the hybrid manager."""
    found = json_of(given, reading)
    if not found:
        return
    connectors = _connectors(found)
    strange = [name for name in connectors if name not in _HYBRID_CONNECTORS | _PLAIN_CONNECTORS]
    if strange or not connectors:
        reading.refuse(given, "the effect of its connector on the cache layout is unknown")
        return
    version = tuple(int(part) for part in (reading.version or "99").split(".")[:2] if part.isdecimal())
    hybrid = version >= _HYBRID_SINCE and all(name in _HYBRID_CONNECTORS for name in connectors)
    if not hybrid and not reading.has("disable-hybrid-kv-cache-manager"):
        reading.settings["disable_hybrid_kv_cache_manager"] = True
    kept = "" if hybrid else "; vLLM then allocates windows as full attention"
    if reading.knows("kv_transfer_config") and not _KEEPING.isdisjoint(connectors):
        reading.settings["kv_transfer_config"] = _sizes(found)
    reading.tell(
        given,
        f"{', '.join(connectors)} does not change the bytes of a block, and its own buffers are not counted{kept}",
    )
    role = {"kv_producer": "prefill", "kv_consumer": "decode"}.get(str(found.get("kv_role")))
    reading.role = role or reading.role


_KEEPING = frozenset(
    words("""
    OffloadingConnector SimpleCPUOffloadConnector LMCacheConnector LMCacheConnectorV1 LMCacheMPConnector
""")
)
"""Connectors that keep blocks off the device."""
_SIZES = ("cpu_bytes_to_use", "cpu_bytes_to_use_per_rank", "lmcache.max_local_cpu_size", "lmcache.max_local_disk_size")
"""Caches that connectors keep off the device, by their settings."""


def _sizes(found: Mapping[str, Any]) -> dict[str, Any]:
    """A connector and the caches it keeps off the device; other settings may contain addresses and passwords."""
    extra = found.get("kv_connector_extra_config")
    extra = extra if isinstance(extra, Mapping) else {}
    kept: dict[str, Any] = {name: extra[name] for name in _SIZES if isinstance(extra.get(name), int | float)}
    kept |= {name: True for name in ("lmcache.local_disk", "secondary_tiers") if extra.get(name)}
    inner = extra.get("connectors")
    if isinstance(inner, list):
        kept["connectors"] = [_sizes(each) for each in inner if isinstance(each, Mapping)]
    return {"kv_connector": found.get("kv_connector"), "kv_connector_extra_config": kept}


def _connectors(found: Mapping[str, Any]) -> list[str]:
    """Names of the connectors, including those combined in one."""
    name = found.get("kv_connector")
    if name != "MultiConnector":
        return [name] if isinstance(name, str) else []
    extra = found.get("kv_connector_extra_config")
    inner = extra.get("connectors") if isinstance(extra, Mapping) else None
    each = [one for one in inner if isinstance(one, Mapping)] if isinstance(inner, list) else []
    return [found_name for one in each for found_name in _connectors(one)]


def cache_config(given: Given, reading: Reading) -> None:
    """TensorRT-LLM's kv_cache_config: the engine's fields, irrelevant ones, and others, refused by name."""
    for key, value in (json_of(given, reading) or {}).items():
        field = {"kv_cache_dtype": "dtype"}.get(key, key)
        if field in ("dtype", "tokens_per_block", "free_gpu_memory_fraction", "max_tokens", "host_cache_size"):
            reading.settings[field] = value
        elif field == "max_attention_window":
            reading.settings[field] = value or ()
        elif field not in _OF_BLOCKS:
            shown = key if _KEY.fullmatch(key) and not could_be_secret(key) else "a field"
            reading.refuse(given, f"the effect of {shown} on the cache is unknown")
