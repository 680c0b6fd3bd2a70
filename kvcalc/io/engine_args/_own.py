"""Flags with special parsing, for any engine; JSON flags are in `_objects.py`."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from kvcalc.io.engine_args._devices import listed_gpus
from kvcalc.io.engine_args._secrets import could_be_secret
from kvcalc.units import GIB

if TYPE_CHECKING:
    from kvcalc.io.engine_args._reading import Reading
    from kvcalc.io.engine_args._rows import Given, Variable

_OFF = ("", "0", "false", "False")
_MOST_OF_ADAPTERS = 65_536
_SURELY_ALL = 99
"""Numbers of layers that mean all of them."""
_DRAFT_PATHS = ("speculative_draft_model_path", "model_draft")
"""Settings of engines that name the model that drafts."""
_SIMPLE, _LAYERLESS = "draft-simple", ("none", "ngram-mod", "ngram-simple", "ngram-cache")
"""Types of llama.cpp's speculation: by another model, and without any cache."""
_LOADING_ADAPTERS = ("enable-lora", "lora-paths")
_LMCACHE_FILES = ("LMCACHE_CONFIG_FILE", "lmcache-config-file")
_GIB = re.compile(r"\d{1,7}(\.\d{1,9})?")


def block_sizes_of_states(given: Given, reading: Reading) -> None:
    """--mamba-cache-mode: none and align follow from prefix caching; all is from older versions and stores more."""
    if given.text in ("none", "align", "auto"):
        reading.ignores(given, "the mode follows from --enable-prefix-caching", tells=True)
    else:
        reading.refuse(given, "only none and align are modelled", "use only --enable-prefix-caching")


def offloaded_weights(given: Given, reading: Reading) -> None:
    """--cpu-offload-gb: GiB of each GPU's weights kept on the host; the cache stays on the GPU."""
    if reading.is_unknown(given, given.text):
        return
    if not _GIB.fullmatch(given.text):
        reading.refuse(given, "must be a number of GiB", f"write {given.spelled} 10", wrong=True)
        return
    from fractions import Fraction

    reading.offloaded_bytes = int(Fraction(given.text) * GIB)
    if reading.offloaded_bytes:
        reading.ignores(given, f"{given.text} GiB of each GPU's weights are kept on the host", tells=True)


def adapters(given: Given, reading: Reading) -> None:
    """--enable-lora, --max-loras and --max-lora-rank of vLLM: slots for adapters, and the maximum rank."""
    if given.flag.name == "enable-lora":
        if not given.off:
            reading.adapters = {**(reading.adapters or {})}
            reading.weighs(given, "adapters take memory in addition to the weights; the cache is unchanged", "adapters")
    elif reading.has("enable-lora") and not reading.is_unknown(given, given.text):
        if not given.text.isdecimal() or not 0 < int(given.text) <= _MOST_OF_ADAPTERS:
            reading.refuse(given, "must be a whole number from 1", f"write {given.spelled} 16", wrong=True)
            return
        reading.adapters = {**(reading.adapters or {}), given.flag.name.replace("-", "_"): int(given.text)}
        reading.ignores(given, "adapters, loaded only with --enable-lora")


def pooled_adapters(given: Given, reading: Reading) -> None:
    """Arguments of SGLang's adapters: that there are any, and the slots, the rank and the modules of its pool."""
    name = given.flag.name
    if name in _LOADING_ADAPTERS:
        if not given.off:
            reading.adapters = {**(reading.adapters or {})}
            reading.weighs(given, "adapters take memory in addition to the weights; the cache is unchanged", "adapters")
        return
    if not any(map(reading.has, _LOADING_ADAPTERS)) or reading.is_unknown(given, given.text):
        return
    if name == "lora-target-modules":
        value: object = tuple(word for words in given.values for word in words.split(","))
    elif given.text.isdecimal() and 0 < int(given.text) <= _MOST_OF_ADAPTERS:
        value = int(given.text)
    else:
        reading.refuse(given, "must be a whole number from 1", f"write {given.spelled} 16", wrong=True)
        return
    reading.adapters = {**(reading.adapters or {}), name.replace("-", "_"): value}
    reading.ignores(given, "adapters, which --enable-lora loads")


def lmcache(given: Given, reading: Reading) -> None:
    """A variable or a flag of LMCache: host memory and disk per rank."""
    name = given.flag.name
    if name in _LMCACHE_FILES:
        if not reading.has_lmcache_file:
            reading.tell(
                given,
                "LMCache's file is not next to the input: put it there, or set LMCACHE_MAX_LOCAL_CPU_SIZE; 5 GiB per "
                "rank is assumed",
            )
        return
    if reading.is_unknown(given, given.text):
        return
    field = name.removeprefix("LMCACHE_").lower()
    own = dict(reading.settings.get("lmcache") or {})
    if field == "local_disk":
        own[field] = bool(given.text)
    elif _GIB.fullmatch(given.text):
        own[field] = float(given.text)
    else:
        reading.refuse(given, "must be a number of GiB", f"write {name}=20", wrong=True)
        return
    reading.settings["lmcache"] = own


def lmcache_variables() -> tuple[Variable, ...]:
    """LMCache's own variables, for any engine."""
    from kvcalc.io.engine_args._rows import Flag, Reads, Variable

    names = ("LMCACHE_MAX_LOCAL_CPU_SIZE", "LMCACHE_MAX_LOCAL_DISK_SIZE", "LMCACHE_LOCAL_DISK", "LMCACHE_CONFIG_FILE")
    return tuple(Variable(name, Flag(name, Reads(lmcache, decides=name not in _LMCACHE_FILES))) for name in names)


def device_ids(given: Given, reading: Reading) -> None:
    """--device-ids 0,1: the visible GPUs."""
    reading.gpus = listed_gpus(given.text)


def config_file(given: Given, reading: Reading) -> None:
    """An argument file, which is read if it is next to the input (`_files.py`)."""
    if not reading.has_file:
        what = "arguments in a file that is not next to the input"
        reading.refuse(given, what, "write them on the command line, or put the file next to it")


def prefills(given: Given, reading: Reading) -> None:
    """A worker that runs prefill for others."""
    if not given.off:
        reading.role = "prefill"


def role(given: Given, reading: Reading) -> None:
    """The role of a worker in disaggregated serving."""
    halves = {"context": "prefill", "generation": "decode", "prefill": "prefill", "decode": "decode"}
    reading.role = halves.get(given.text.lower())


def draft(given: Given, reading: Reading) -> None:
    """A draft checkpoint, with its own layers."""
    if not reading.is_unknown(given, given.text) and not could_be_secret(given.text):
        reading.draft = given.text
        reading.settings |= {name: given.text for name in _DRAFT_PATHS if reading.knows(name)}


def spec_types(given: Given, reading: Reading) -> None:
    """--spec-type of llama.cpp: how tokens are guessed, by another model or from what was read."""
    named = [each.strip() for each in given.text.split(",")]
    if reading.is_unknown(given, given.text):
        return
    if any(each not in (_SIMPLE, *_LAYERLESS) for each in named):
        reading.refuse(given, "speculative decoding may have its own cache")
    elif _SIMPLE in named:
        reading.settings["spec_type"] = _SIMPLE


def attention_replicas(given: Given, reading: Reading) -> None:
    """Attention in groups of ranks, each with its own requests: of tp ranks in dp groups, tp / dp divide the heads.

    --dp-size N --enable-dp-attention is --attn-dp-size N; without --dp-size nothing changes.
    """
    groups = reading.parallel.get("dp", 1) if given.flag.takes == "switch" else reading.value(given, "") or 1
    if given.off or groups == 1:
        reading.ignores(given, "one group: no effect on attention")
        return
    ranks = reading.parallel.get("tp", 1)
    if ranks % groups:
        reading.refuse(
            given,
            f"tp ({ranks}) is not a multiple of its groups ({groups})",
            "write --tp-size 8 --dp-size 8",
            wrong=True,
        )
        return
    reading.parallel |= {"tp": ranks // groups, "dp": groups}
    reading.weighs(
        given,
        f"attention runs in {groups} groups of {ranks // groups} ranks, each of which holds its weights",
        "ranks",
    )


def expert_parallel(given: Given, reading: Reading) -> None:
    """--enable-expert-parallel: the tensor-parallel ranks of all replicas divide the routed experts."""
    ranks = reading.parallel.get("tp", 1) * reading.parallel.get("dp", 1)
    if given.off or ranks == 1:
        return
    reading.parallel["ep"] = ranks
    if reading.has_replicas:
        why = "replicas then divide the experts, and no GPU holds all weights of its rank"
        reading.weighs(given, why, "experts")


def disaggregation(given: Given, reading: Reading) -> None:
    """The prefill or decode worker; decode keeps no prefixes by default."""
    mode = given.text
    if mode in ("null", "none", ""):
        return
    if mode not in ("prefill", "decode"):
        reading.refuse(given, "must be prefill or decode", f"write {given.spelled} prefill", wrong=True)
        return
    reading.role = mode
    if mode == "decode" and not reading.has("disaggregation-decode-enable-radix-cache"):
        reading.settings["disable_radix_cache"] = True
    if mode == "decode":
        reading.settings["disaggregation_mode"] = mode
    kept = "; no prefixes are kept, and slots for requests in flight are not counted" if mode == "decode" else ""
    reading.tell(given, f"this is the {mode} worker{kept}")


def layers_on_gpu(given: Given, reading: Reading) -> None:
    """-ngl: a layer that is not on the GPU has its cache in host memory."""
    text = given.text
    if re.fullmatch(r"\d{1,3}", text) and int(text) < _SURELY_ALL:
        where = "the cache is in host memory" if text == "0" else f"layers beyond {text} have their cache on the host"
        reading.tell(given, f"{where}: the bytes include all layers")


def cache_space(given: Given, reading: Reading) -> None:
    """VLLM_CPU_KVCACHE_SPACE: GiB of the cache, if vLLM runs on a CPU."""
    if _GIB.fullmatch(given.text) and float(given.text):
        reading.settings["kv_cache_memory_bytes"] = int(float(given.text) * GIB)


def allows_hybrid(given: Given, reading: Reading) -> None:
    """A variable that lets chunked-attention layers keep only their chunks (Llama 4)."""
    if given.text not in _OFF and not reading.has("disable-hybrid-kv-cache-manager"):
        reading.settings["disable_hybrid_kv_cache_manager"] = False


def lifts_length(given: Given, reading: Reading) -> None:
    """A variable that lets a request exceed the length in the model's config."""
    if given.text not in _OFF:
        reading.overrides.setdefault("max_model_len", None)
        reading.ignores(given, "requests may then exceed the length in the model's config")
