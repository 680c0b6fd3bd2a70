"""Caches off the devices: bytes that engines printed or whose own code worked out, and laws over their settings."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

import kvcalc
from kvcalc.answers.tiers import tiers_of
from kvcalc.engines.sglang.settings import SglangSettings
from kvcalc.engines.sglang.tiers import tiers_of as hicache
from kvcalc.errors import InvalidValueError
from kvcalc.parallel import Parallel
from kvcalc.question import Question
from kvcalc.report.pool import Pool, PoolReport
from kvcalc.report.tiers import DISK, HOST, NodeTier, host_bytes
from kvcalc.units import GIB, MIB

ONE = Parallel()


def kept(preset, engine, settings=None, ranks=ONE, tokens=32_768, sequences=1, **more) -> dict[str, NodeTier]:
    question = Question.of(
        kvcalc.load(preset), tokens=tokens, sequences=sequences, engine=engine, engine_settings=settings
    )
    return {each.tier.name: each for each in tiers_of(question, ranks, **more)}


CHECKPOINTS = {
    # created context checkpoint 1 of 8 (..., size = 149.626 MiB): Qwen3.6-27B, ggml-org/llama.cpp#22929
    "qwen3.5-27b": 149.626,
    # erasing old context checkpoint (..., size = 75.376 MiB): Qwen3-Coder-Next, ggml-org/llama.cpp#19408
    "qwen3-next-80b-a3b": 75.376,
}


@pytest.mark.parametrize("preset", CHECKPOINTS)
def test_a_checkpoint_is_as_large_as_llama_server_logs_it(preset):
    """Headers are some hundred bytes."""
    (found, _) = kept(preset, "llama_cpp", {"defaults": "server", "n_seq_max": 1, "ctx_checkpoints": 1}).values()
    assert found.node_bytes / MIB == pytest.approx(CHECKPOINTS[preset], abs=0.0015)


def test_a_server_keeps_32_checkpoints_of_4_slots_and_8_gib_of_prompts():
    """149.625 MiB a state: 48 layers x (48 x 128 x 128 + 3 x 10,240) x 4 bytes; 18.70 GiB for 4 slots x 32."""
    found = kept("qwen3.5-27b", "llama_cpp", {"defaults": "server"})
    assert found["context checkpoints"].node_bytes == 4 * 32 * 48 * (48 * 128 * 128 + 3 * 10_240) * 4
    assert round(found["context checkpoints"].node_bytes / GIB, 2) == 18.70
    assert found["prompt cache"].node_bytes == 8 * GIB
    assert all(each.tier.at_most for each in found.values())


DEFAULTS = {
    "b6000": (),
    "2025-09-01": (3, None),
    "b7966": (8, 8192),
    "0.3.36": (32, 8192),
}
"""Checkpoints of a slot and MiB of prompts, where nobody says: #15293, #16453 and #16391; 8 in b7966 (#19408)."""


@pytest.mark.parametrize("version", DEFAULTS)
def test_defaults_of_a_server_by_version(version):
    found = kept("qwen3.5-27b", f"llama_cpp@{version}", {"defaults": "server", "n_seq_max": 1})
    state = 48 * (48 * 128 * 128 + 3 * 10_240) * 4
    if not DEFAULTS[version]:
        assert not found
        return
    checkpoints, prompts = DEFAULTS[version]
    assert found["context checkpoints"].node_bytes == checkpoints * state
    assert ("prompt cache" in found) == (prompts is not None)


def test_sliding_layers_are_checkpointed_by_their_cells():
    """gemma-3-27b: 52 sliding layers, 16 heads of 128 for K and V, 2 bytes; 1,024 + 512 cells of each stream."""
    settings = {"defaults": "server", "n_seq_max": 2, "ctx_checkpoints": 1, "cache_ram": 0}
    found = kept("gemma-3-27b", "llama_cpp", settings)
    assert found["context checkpoints"].node_bytes == 2 * 52 * 2 * 16 * 128 * 2 * (1024 + 512)
    assert not kept("gemma-3-27b", "llama_cpp", {**settings, "swa_full": True})
    assert not kept("llama-3.1-8b", "llama_cpp", settings)


def test_a_library_keeps_nothing_and_no_limit_is_said():
    assert not kept("qwen3.5-27b", "llama_cpp")
    found = kept("llama-3.1-8b", "llama_cpp", {"defaults": "server", "cache_ram": -1})
    assert found["prompt cache"].node_bytes is None
    assert "no limit" in str(found["prompt cache"])


def test_what_is_not_known_is_said():
    (found, _) = kept("deepseek-v4-flash", "llama_cpp", {"defaults": "server"}).values()
    assert found.node_bytes is None
    settings = {"enable_hierarchical_cache": True, "mem_fraction_static": 0.85}
    found = kept("deepseek-v4-flash", "sglang", settings, cache_bytes=50 * 10**9)["HiCache"]
    assert "kvcalc does not know how SGLang copies those of compressed attention" in str(found)


def test_ollama_starts_a_server_that_keeps_prompts():
    """27 prompts, 7377.676 MiB (limits: 8192.000 MiB ...): ollama/ollama#18265."""
    assert kept("llama-3.1-8b", "ollama")["prompt cache"].node_bytes == 8192 * MIB
    assert kept("gemma-3-27b", "ollama", sequences=4)["context checkpoints"].tier.words.startswith("4 slots x 32 of")
    assert not kept("llama-3.1-8b", "ollama@0.24")


HICACHE = {
    # slots of the device, bytes of one, ratio, size in GB, page: bytes, run of SGLang 0.5.23's HostKVCache
    (381_469, 131_072, 2.0, 0, 1): 99_999_940_608,
    (381_440, 131_072, 2.0, 0, 64): 100_000_595_968,
    (100_000, 70_272, 1.5, 0, 64): 10_541_924_352,
    (12_345, 98_304, 0.7, 0, 16): 850_919_424,
    (50_000, 70_272, 1.3, 0, 1): 4_567_750_272,
    (381_469, 131_072, 2.0, 30, 1): 30_000_021_504,
    (381_440, 131_072, 2.0, 30, 64): 30_006_050_816,
    (100_000, 70_272, 2.0, 7, 64): 7_002_464_256,
}


@pytest.mark.parametrize("case", HICACHE)
def test_hicache_is_as_large_as_sglang_makes_it(case):
    slots, slot_bytes, ratio, size, page = case
    pool = Pool("full", 1, "token", slots, (("kv", slot_bytes),), page)
    planned = PoolReport("m", "sglang", "", "", (0,), stages=((pool,),), resolved=(("page_size", page),))
    settings = SglangSettingsOf(enable_hierarchical_cache=True, hicache_ratio=ratio, hicache_size=size)
    (tier,) = hicache(settings, ONE, planned)
    assert tier.rank_bytes == HICACHE[case]
    assert not tier.at_most
    (shared,) = hicache(settings, Parallel(tp=4), planned)
    assert shared.replica_bytes == 4 * HICACHE[case]


class SglangSettingsOf(SglangSettings):
    """Settings alone."""

    def allocate(self, model, kv_dtype):
        raise NotImplementedError


def test_hicache_copies_each_pool():
    settings = {"enable_hierarchical_cache": True, "hicache_ratio": 2, "mem_fraction_static": 0.85}
    found = kept("gemma-3-27b", "sglang", settings, cache_bytes=20 * 10**9)["HiCache"].node_bytes
    assert found == pytest.approx(2 * 20 * 10**9, rel=1e-3)
    later = kept("gemma-3-27b", "sglang", settings)["HiCache"]
    assert later.node_bytes is None
    assert "kvcalc fit" in str(later)


def test_a_decode_side_keeps_requests_that_are_retracted():
    """SGLang 0.5.23, resolve_decode_retraction_backup: a fifth of the slots, or those of the longest request."""
    decode = {"disaggregation_mode": "decode", "disable_radix_cache": True, "mem_fraction_static": 0.85}
    token = 32 * 2 * 8 * 128 * 2

    def pool(memory: int, **more) -> int:
        settings = {**decode, "page_size": 64, "context_length": 32_768, **more}
        found = kept("llama-3.1-8b", "sglang", settings, cache_bytes=memory)
        return found["retracted requests"].node_bytes if found else 0

    slots = 40 * 10**9 // token // 64 * 64 - 64
    assert pool(40 * 10**9) == pytest.approx(slots * token / 5, abs=64 * token)
    small = 32_768 + 64 * 16  # tokens of the device: one request of 32,771 fills nearly all, in pages of 64
    assert pool((small + 64) * token) == (32_832 + 64) * token
    assert pool(40 * 10**9, disaggregation_decode_retraction_backup="cpu_tensor") == 0
    assert pool(40 * 10**9, disable_radix_cache=False) == 0
    assert not kept("r1", "sglang", decode, cache_bytes=40 * 10**9)  # latents are kept as tensors of each request
    whole = {**decode, "page_size": 64, "disaggregation_decode_enable_offload_kvcache": True}
    offloaded = kept("llama-3.1-8b", "sglang", whole, cache_bytes=40 * 10**9)["decode offloading"]
    assert offloaded.node_bytes == pytest.approx(2 * slots * token, abs=256 * token)


def test_offloading_is_of_a_replica_and_lmcache_of_a_rank():
    ranks = Parallel(tp=4, dp=2)
    offloaded = kept("llama-3.1-8b", "vllm", {"kv_offloading_size": 64}, ranks)["KV offloading"]
    assert (offloaded.tier.replica_bytes, offloaded.node_bytes) == (64 * GIB, 128 * GIB)
    connector = {"kv_connector": "OffloadingConnector", "kv_connector_extra_config": {"cpu_bytes_to_use": 10 * GIB}}
    by_connector = kept("llama-3.1-8b", "vllm", {"kv_transfer_config": connector}, ranks)["KV offloading"]
    assert by_connector.node_bytes == 20 * GIB
    lmcache = {"kv_transfer_config": {"kv_connector": "LMCacheConnectorV1"}, "lmcache": {"max_local_cpu_size": 20}}
    each = kept("llama-3.1-8b", "vllm", lmcache, ranks)["LMCache"]
    assert (each.tier.rank_bytes, each.node_bytes) == (20 * GIB, 8 * 20 * GIB)
    by_default = kept("llama-3.1-8b", "vllm", {"kv_transfer_config": {"kv_connector": "LMCacheConnectorV1"}})
    assert by_default["LMCache"].node_bytes == 5 * GIB
    assert not kept("llama-3.1-8b", "vllm", {"kv_transfer_config": {"kv_connector": "NixlConnector"}})


def test_several_connectors_and_disks_add_up():
    several = {
        "kv_connector": "MultiConnector",
        "kv_connector_extra_config": {
            "connectors": [
                {"kv_connector": "NixlConnector"},
                {"kv_connector": "SimpleCPUOffloadConnector"},
                {
                    "kv_connector": "LMCacheConnectorV1",
                    "kv_connector_extra_config": {"lmcache.local_disk": True, "lmcache.max_local_disk_size": 100},
                },
            ]
        },
    }
    question = Question.of(
        kvcalc.load("llama-3.1-8b"), tokens=8, engine="vllm", engine_settings={"kv_transfer_config": several}
    )
    found = tiers_of(question, ONE)
    assert [(each.tier.medium, each.node_bytes) for each in found] == [
        (HOST, 8 * GIB),
        (HOST, 5 * GIB),
        (DISK, 100 * GIB),
    ]
    assert host_bytes(found) == 13 * GIB


def test_a_rank_of_tensorrt_llm_has_its_own():
    found = kept("llama-3.1-8b", "tensorrt_llm", {"host_cache_size": 2**34}, Parallel(tp=4))
    assert found["host cache"].node_bytes == 4 * 2**34


BAD = {
    "cpu_bytes_to_use must be specified": {"kv_transfer_config": {"kv_connector": "OffloadingConnector"}},
    "cpu_bytes_to_use must be a number of bytes": {
        "kv_transfer_config": {
            "kv_connector": "OffloadingConnector",
            "kv_connector_extra_config": {"cpu_bytes_to_use": "many"},
        }
    },
    "max_local_cpu_size must be a number of GiB": {
        "kv_transfer_config": {"kv_connector": "LMCacheConnectorV1"},
        "lmcache": {"max_local_cpu_size": "x"},
    },
    "kv_offloading_size must be a number above 0": {"kv_offloading_size": -1},
    "kv_offloading_backend must be one of native, lmcache": {"kv_offloading_backend": "disk"},
}


@pytest.mark.parametrize("message", BAD)
def test_what_is_no_size_is_refused(message):
    with pytest.raises(InvalidValueError, match=message):
        kept("llama-3.1-8b", "vllm", BAD[message])


@given(st.integers(1, 4), st.integers(1, 3), st.integers(1, 4), st.integers(1, 16), st.integers(1, 100))
def test_nodes_hold_what_their_ranks_do(tp, pp, dp, per_node, size):
    """A rank's share is the same on every node, so that all nodes together hold no less than all replicas."""
    ranks = Parallel(tp=2**tp, pp=pp, dp=dp)
    (found,) = kept("llama-3.1-8b", "tensorrt_llm", {"host_cache_size": size}, ranks, gpus_per_node=per_node).values()
    assert found.num_gpus == min(per_node, ranks.num_ranks)
    assert found.node_bytes == found.num_gpus * size
