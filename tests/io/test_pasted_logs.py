"""Logs as people paste them: a line or two, of all versions, of which each number is predicted or its lack is named.

Numbers are those that were published where each row says; lines are in the engine's own form, and not more than decide.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import pytest
from costs import cost

import kvcalc
from kvcalc.fleet.explain import explain, explain_alone
from kvcalc.io.said import model_named_in, read_said

_TOO_LONG = "ValueError: To serve at least one request with the models's max seq len ({}), ({} GiB KV cache is needed, "
_TOO_LONG += "which is larger than the available KV cache memory ({} GiB).{}\n"
_ABOUT = " Based on the available memory, the estimated maximum model length is {}."
_FREE = "ValueError: Free memory on device {}({}/{} GiB) on startup is less than desired GPU memory utilization "
_FREE += "({}, {} GiB). Decrease GPU memory utilization or reduce GPU memory used by other processes."
_V1 = "INFO [gpu_worker.py:359] Available KV cache memory: {} GiB\nINFO [kv_cache_utils.py:1286] GPU KV cache size: {} "
_V1 += "tokens\n"
_SGLANG = "[2026-04-14 16:08:49 TP0] KV Cache is allocated. #tokens: {}, K size: {} GB, V size: {} GB\n"
_ARROW = "llama_kv_cache: size = {} MiB ({} cells, {} layers, {} seqs), K ({}): {} MiB, V ({}): {} MiB\n"


class Pasted(NamedTuple):
    """A published text. predicted: what the rows of the answer predict; explained: settings or words of the verdict."""

    source: str
    model: str
    text: str
    outcome: str = "agrees"
    predicted: tuple[str, ...] = ()
    explained: str = ""
    ranks: dict[str, int] = {}  # noqa: RUF012
    settings: dict[str, Any] = {}  # noqa: RUF012


VLLM = (
    Pasted(
        "vllm-project/vllm#34076: a length beyond the config's, which was allowed",
        "qwen3-30b-a3b",
        _TOO_LONG.format(262144, "24.0", "3.18", _ABOUT.format(34736)),
        predicted=("24.0 GiB", "34,736"),
    ),
    Pasted(
        "vllm-project/vllm#32105, GLM-4.6, whose shape is GLM-4.5's",
        "glm-4.5",
        _TOO_LONG.format(202752, "71.16", "28.57", _ABOUT.format(81392)),
        predicted=("71.16 GiB", "81,392"),
    ),
    Pasted(
        "stored file 15038081344, Qwen2.5-Coder 32B on an H100",
        "qwen2.5-32b",
        _TOO_LONG.format(32768, "8.00", "4.46", ""),
        predicted=("8.00 GiB",),
    ),
    Pasted(
        "vllm-project/vllm#13061: one of two ranks says what it had",
        "qwen2.5-14b",
        "INFO worker.py:267] model weights take 13.95GiB; the rest of the memory reserved for KV Cache is 8.69GiB.\n"
        "ValueError: The model's max seq len (131072) is larger than the maximum number of tokens that can be stored "
        "in KV cache (81536). Try increasing `gpu_memory_utilization`",
        "explained",
        explained="another rank had 7.46 GiB",
        ranks={"tp": 2},
    ),
    Pasted(
        "stored file 54704326210: less than nothing is left",
        "minimax-m2.7",
        "Available KV cache memory: -0.3 GiB\nValueError: No available memory for the cache blocks\n",
        predicted=("more than 0 needed",),
        ranks={"tp": 4},
    ),
    Pasted(
        "stored file 54704326210, the same with more memory and no length stated",
        "minimax-m2.7",
        _V1.format("0.65", "10,944"),
        predicted=("10,880, the longest that starts", "10,944"),
        ranks={"tp": 4},
    ),
    Pasted(
        "stored file 57085448703, Llama 2 13B in V0: 4 GiB of the host hold 327 blocks",
        "llama-2-13b",
        "INFO 08-22 15:27:25 llm_engine.py:196] # GPU blocks: 865, # CPU blocks: 327\n",
        predicted=("865", "327"),
    ),
    Pasted(
        "vllm-project/vllm#5248: a 7B of Llama's shape in V0 on two ranks",
        "llama-2-7b",
        "INFO 06-12 08:12:23 distributed_gpu_executor.py:45] # GPU blocks: 507, # CPU blocks: 1024\n",
        predicted=("507", "1,024"),
        ranks={"tp": 2},
    ),
    Pasted(
        "stored file 58892835812's GPU blocks with a smaller swap_space: nothing can be said",
        "qwen2.5-3b",
        "INFO gpu_executor.py] # GPU blocks: 10533, # CPU blocks: 3640\n",
        "undecided",
        predicted=("10,533", "7,281, if swap_space is 4"),
    ),
    Pasted(
        "stored file 16993415206: two ranks by their names, of a shape of 40 layers and 8 heads of 128",
        "devstral-small-2",
        "(Worker_TP0 pid=2412213) INFO 12-11 00:06:53 [gpu_worker.py:359] Available KV cache memory: 52.36 GiB\n"
        "(EngineCore_DP0 pid=2412130) INFO 12-11 00:06:53 [kv_cache_utils.py:1286] GPU KV cache size: 686,320 tokens\n"
        "(EngineCore_DP0 pid=2412130) INFO Maximum concurrency for 100,000 tokens per request: 6.86x\n"
        "(Worker_TP1 pid=2412214) 2025-12-11 00:06:54,210 - INFO - [Autotuner]: Autotuning process starts ...\n",
        predicted=("686,320", "6.86"),
    ),
    Pasted(
        "stored file 59920075651, Qwen2.5 7B in V0: less than nothing is left, and the host's blocks are the model's",
        "qwen2.5-7b",
        "the rest of the memory reserved for KV Cache is -0.94GiB.\n# cuda blocks: 0, # CPU blocks: 4681\n"
        "Maximum concurrency for 4200 tokens per request: 0.00x\n",
        predicted=("more than 0 needed", "more than 0 needed", "4,681"),
    ),
    Pasted(
        "stored file 12900719694: two starts, of which the last is judged",
        "llama-3.3-70b",
        "INFO Maximum concurrency for 131072 tokens per request: 8.23x\n"
        "INFO Maximum concurrency for 3200 tokens per request: 337.01x\n",
        "undecided",
        predicted=("337.01",),
        ranks={"tp": 8},
    ),
    Pasted(
        "stored file 63574967224, Qwen3.5 35B-A3B: an old version by its tokens, and two settings that nobody states",
        "qwen3.5-35b-a3b",
        _V1.format("5.69", "148,816") + "INFO Maximum concurrency for 32,768 tokens per request: 12.91x\n",
        "differs",
        explained="kv_cache_dtype=fp8 and enable_prefix_caching=True",
    ),
    Pasted(
        "stored file 63574967224, with them",
        "qwen3.5-35b-a3b",
        _V1.format("5.69", "148,816") + "INFO Maximum concurrency for 32,768 tokens per request: 12.91x\n",
        predicted=("148,816", "12.91"),
        settings={"kv_cache_dtype": "fp8", "enable_prefix_caching": True},
    ),
    Pasted(
        "stored file 53530895476, Qwen3.5 122B-A10B: three settings that nobody states",
        "qwen3.5-122b-a10b",
        _V1.format("24.05", "482,080") + "INFO Maximum concurrency for 262,144 tokens per request: 6.42x\n",
        "differs",
        explained="kv_cache_dtype=fp8 and speculative={'method': 'mtp', 'num_speculative_tokens': 1} and enable_prefix",
    ),
    Pasted(
        "vllm-project/vllm#10511, a start-up that was cut before its tokens",
        "llama-3-8b",
        "INFO 12-13 19:54:18 worker.py:243] available_kv_cache_memory    53.29GiB\n",
        "undecided",
        predicted=("about 436,544",),
        explained="GPU KV cache size",
    ),
    Pasted(
        "vllm-project/tpu-inference#145",
        "llama-3.1-8b",
        "INFO [kv_cache_utils.py:716] GPU KV cache size: 811,008 tokens\n"
        "INFO [kv_cache_utils.py:720] Maximum concurrency for 4,096 tokens per request: 198.00x\n",
        "undecided",
        explained="Available KV cache memory",
    ),
)
SGLANG = (
    Pasted(
        "stored file 18084549501, Llama 3.1 8B in 0.4: tokens at the end of the start-up",
        "llama-3.1-8b",
        "[2025-01-23 19:35:20 TP0] KV Cache is allocated. K size: 27.13 GB, V size: 27.13 GB.\n"
        "[2025-01-23 19:35:27 TP0] max_total_num_tokens=444500, max_prefill_tokens=16384, context_len=131072\n",
        predicted=("27.13 GB", "27.13 GB"),
    ),
    Pasted(
        "stored file 49361099215, Llama 3.1 8B",
        "llama-3.1-8b",
        _SGLANG.format(38141, "2.33", "2.33"),
        predicted=("2.33 GB", "2.33 GB"),
    ),
    Pasted(
        "stored file 5883226435, Llama 3.2 1B: a window broke the line",
        "llama-3.2-1b",
        "[2025-11-06 12:10:37] KV Cache is allocated. #tokens: 2405039, \nK size: 36.70 GB, V size: 36.70 GB\n",
        predicted=("36.70 GB", "36.70 GB"),
    ),
    Pasted(
        "stored file 1272019175, Kimi K2.5 on eight ranks",
        "kimi-k2.5",
        "[2026-02-26 16:41:18 TP7] KV Cache is allocated. #tokens: 2454421, KV size: 160.63 GB\n",
        predicted=("160.63 GB",),
    ),
    Pasted(
        "stored file 53944457073, Qwen3.5 9B: two ranks by their prefixes",
        "qwen3.5-9b",
        "[2026-04-14 16:08:49 TP1] Mamba Cache is allocated. max_mamba_cache_size: 186, conv_state size: 0.10GB, "
        "ssm_state size: 4.38GB \n" + _SGLANG.format(327310, "2.50", "2.50"),
        predicted=("2.50 GB", "2.50 GB", "0.10 GB", "4.38 GB"),
    ),
    Pasted(
        "stored file 66713818215, DeepSeek-R1 with DP attention and a format that its lines do not say",
        "deepseek-r1",
        "[2025-11-04 05:27:13 DP0 TP0 EP0] KV Cache is allocated. #tokens: 524288, KV size: 17.16 GB\n",
        "differs",
        explained="kv_cache_dtype=fp8_e4m3",
    ),
    Pasted(
        "sgl-project/sglang#18039: the line of the windows' pool alone, and the tokens of both",
        "mimo-v2-flash",
        "[2026-01-31 13:50:39 TP3] Use sliding window memory pool. full_layer_tokens=375360, swa_layer_tokens=300288\n"
        "[2026-01-31 13:50:39 TP1] KV Cache is allocated. #tokens: 300288, K size: 8.38 GB, V size: 5.59 GB\n",
        predicted=("8.38 GB", "5.59 GB", "2.01 GiB in full layers"),
        settings={"page_size": 64},
    ),
    Pasted(
        "sgl-project/sglang#29575: nothing but the last line",
        "qwen3-8b",
        "max_total_num_tokens=2086558, chunked_prefill_size=8192, max_running_requests=33, context_len=256000, "
        "available_gpu_mem=17.22 GB\n",
        "undecided",
        predicted=("286.55 GiB",),
        explained="KV Cache is allocated",
    ),
    Pasted(
        "stored file 55390610462: tokens and no sizes",
        "qwen3-32b",
        "KV Cache is allocated. dtype: torch.bfloat16, #tokens: 70950\n",
        "undecided",
        explained="states tokens and no bytes",
    ),
    Pasted(
        "sgl-project/sglang#322: the error alone, of a model whose config names no length",
        "gemma-3-27b",
        "RuntimeError: Not enough memory. Please try to increase --mem-fraction-static.\n",
        "undecided",
        explained="Load weight begin",
    ),
)
LLAMA_CPP = (
    Pasted(
        "stored file 25362796195, of a shape of 32 layers and 2,560 elements",
        "stablelm-3b",
        "I init: kv_size = 2048, offload = 1, type_k = 'f16', type_v = 'f16', n_layer = 32, can_shift = 1\n"
        "I llama_context_kv_self: KV self size  =  640.00 MiB, K (f16):  320.00 MiB, V (f16):  320.00 MiB\n",
        predicted=("320.00 MiB", "320.00 MiB"),
    ),
    Pasted(
        "stored file 4083491035, LLaMA 13B in 2023",
        "llama-2-13b",
        "llama_model_load_internal: n_ctx      = 512\nllama_init_from_file: kv self size  =  400.00 MB\n\n"
        "generate: n_ctx = 512, n_batch = 512, n_predict = 128, n_keep = 0\n",
        predicted=("400.00 MiB",),
    ),
    Pasted(
        "stored file 54987906846, Mistral 7B: the line alone",
        "mistral-7b-v0.3",
        _ARROW.format("512.00", 4096, 32, "1/1", "f16", "256.00", "f16", "256.00"),
        predicted=("256.00 MiB", "256.00 MiB"),
    ),
    Pasted(
        "stored file 65761599306, Ling 3.0 tiny: a stream for each of two sequences",
        "ling-3.0-tiny",
        _ARROW.format("54.00", 4096, 6, "2/2", "f16", "54.00", "f16", "0.00"),
        predicted=("54.00 MiB", "0.00 MiB"),
    ),
    Pasted(
        "stored file 63225873246, Qwen3.8 27B: a line that was cut before K and V",
        "qwen3.8-27b",
        "llama_kv_cache: size = 1088.00 MiB (32768 cells, 16 layers, 4/1 seqs)\n",
        "differs",
        explained="type_k=q8_0 and type_v=q8_0",
    ),
    Pasted(
        "stored file 71311639027, Qwen3.5 4B: two runs in two formats",
        "qwen3.5-4b",
        _ARROW.format("4096.00", 131072, 8, "1/1", "f16", "2048.00", "f16", "2048.00")
        + _ARROW.format("1152.00", 131072, 8, "1/1", "q4_0", " 576.00", "q4_0", " 576.00"),
        predicted=("2,048.00 MiB", "2,048.00 MiB"),
    ),
    Pasted(
        "stored file 18289010330, Llama 3.2 1B: without a number of streams",
        "llama-3.2-1b",
        "llama_kv_cache_unified: size =  128.00 MiB (  4096 cells,  16 layers,  1 seqs), K (f16):   64.00 MiB, "
        "V (f16):   64.00 MiB\n",
        predicted=("64.00 MiB", "64.00 MiB"),
    ),
    Pasted(
        "stored file 57750453327, Gemma 4 12B: four sequences in one stream, cut before K and V",
        "gemma-4-12b",
        "llama_kv_cache: size =   68.00 MiB ( 8192 cells,  8 layers, 4/1 seqs)\n"
        "llama_kv_cache: size =  765.00 MiB ( 4608 cells, 40 layers, 4/1 seqs)\n",
        "differs",
        explained="type_k=q8_0 and type_v=q8_0",
    ),
    Pasted(
        "stored file 67663730134, Gemma 4 12B: buffers of devices and slots, with a batch that it does not say",
        "gemma-4-12b",
        "I llama_context: n_ctx         = 8192\nI llama_context: kv_unified    = true\n"
        "I llama_kv_cache:    Vulkan0 KV buffer size =   128.00 MiB\n"
        "I llama_kv_cache:    Vulkan0 KV buffer size =  1920.00 MiB\n"
        "I srv    load_model: initializing, n_slots = 4, n_ctx_slot = 8192, kv_unified = 'true'\n",
        "differs",
        explained="n_ubatch=2048",
    ),
    Pasted(
        "stored file 1131611191, gpt-oss-20b with windows of 256 cells",
        "gpt-oss-20b",
        _ARROW.format("102.00", 8192, 12, "1/1", "q8_0", "51.00", "q8_0", "51.00")
        + _ARROW.format("3.19", 256, 12, "1/1", "q8_0", "1.59", "q8_0", "1.59"),
        "differs",
        explained="n_ubatch=128",
    ),
    Pasted(
        "stored file 57488598479, Qwen3.5 4B: states alone, whose cells are sequences",
        "qwen3.5-4b",
        "llama_memory_recurrent: size =   50.25 MiB (1 cells, 32 layers, 1 seqs), R (f32): 2.25 MiB, S (f32): 48.00 MiB\n",
        predicted=("2.25 MiB", "48.00 MiB"),
    ),
    Pasted(
        "stored file 68664296548, Qwen3.6 27B, in a writer's own words behind the size",
        "qwen3.6-27b",
        "llama_kv_cache:        size = 1536.00 MiB (24576 cells, 16 layers)   K(f16) 768 + V(f16) 768\n",
        predicted=("1,536.00 MiB",),
    ),
    Pasted(
        "stored file 60665970451, DeepSeek-V2-Lite of a GGUF file without the keys of MLA",
        "deepseek-v2-lite",
        _ARROW.format("1080.00", 4096, 27, "1/1", "f16", "648.00", "f16", "432.00"),
        "explained",
        explained="each head's key and value",
    ),
    Pasted(
        "ggml-org/llama.cpp#8101: 32 bytes to align a buffer of the CPU",
        "llama-3-8b",
        "llama_new_context_with_model: n_ctx      = 1048576\n"
        "ggml_backend_cpu_buffer_type_alloc_buffer: failed to allocate buffer of size 137438953504\n"
        "llama_kv_cache_init: failed to allocate buffer for kv cache\n",
        predicted=("137,438,953,472 + 32 to align it",),
    ),
)
OTHERS = (
    Pasted(
        "stored file 19789658215, Phi-4 in Ollama: a line without its context",
        "phi-4",
        'memory.required.full="9.6 GiB" memory.required.kv="400.0 MiB" memory.weights.total="8.2 GiB"\n',
        "undecided",
        explained="does not state its context",
    ),
    Pasted(
        "continuedev/continue#12689, Llama 3.1 8B in Ollama",
        "llama-3.1-8b",
        '"model requires more system memory (5.3 GiB) than is available (4.4 GiB)"',
        "undecided",
        explained="the error does not state the size of the cache",
    ),
    Pasted(
        "stored file 26725295630, Llama 3.1 8B in FP8 in TensorRT-LLM",
        "llama-3.1-8b",
        "[TensorRT-LLM][INFO] Number of tokens per block: 32.\n"
        "[TensorRT-LLM][INFO] [MemUsageChange] Allocated 16.05 GiB for max tokens in paged KV cache (263008)\n",
        "differs",
        explained="dtype=fp8",
    ),
    Pasted(
        "stored file 66094399229, Qwen3 0.6B in TensorRT-LLM",
        "qwen3-0.6b",
        "[TensorRT-LLM][INFO] [MemUsageChange] Allocated 68.69 GiB for max tokens in paged KV cache (643136).\n",
        predicted=("68.69 GiB",),
    ),
    Pasted(
        "NVIDIA/TensorRT-LLM#224: tokens and no bytes",
        "llama-2-7b",
        "[TensorRT-LLM][INFO] Using 10718 tokens in paged KV cache.\n",
        "undecided",
        explained="states tokens and no bytes",
    ),
    Pasted(
        "stored file 27267745796, InternLM 7B of Llama's shape in TurboMind of 2023: blocks of 128",
        "llama-2-7b",
        "[TM][INFO] [BlockManager] block_size = 64 MB\n[TM][INFO] [BlockManager] max_block_count = 159\n",
        "differs",
        explained="block_size=128",
    ),
    Pasted(
        "InternLM/lmdeploy#3825, Qwen3 8B",
        "qwen3-8b",
        "[TM][INFO] [BlockManager] block_size = 9.000 MB\n[TM][INFO] [BlockManager] max_block_count = 863\n",
        predicted=("9.000 MB", "55,232 tokens, 7.58 GiB"),
    ),
    Pasted(
        "BlockManager.cc of 2024, stored file 1477225937, prints bytes >> 20: 3.5 MB are 3",
        "qwen2.5-7b",
        "[TM][INFO] [BlockManager] block_size = 3 MB\n[TM][INFO] [BlockManager] max_block_count = 2000\n",
        predicted=("3 MB, of 3,670,016 B", "128,000 tokens, 6.84 GiB"),
    ),
    Pasted(
        "stored file 70933724306, TurboMind of 0.17: no blocks",
        "qwen3-8b",
        "[TM][INFO][turbomind.cc:319] Object cache budget: 55634.70 MB from free 63488.19 MB and ratio 0.876\n",
        "undecided",
        explained="no block that could be compared",
    ),
)


@pytest.mark.parametrize("row", (*VLLM, *SGLANG, *LLAMA_CPP, *OTHERS), ids=lambda row: row.source)
def test_what_is_pasted_is_judged_or_its_lack_is_named(row):
    reading, _ = read_said(row.text)
    report = explain(kvcalc.load(row.model), reading, ranks=row.ranks, settings=row.settings)
    assert report.outcome == row.outcome, report.verdict
    assert row.explained in report.verdict
    if row.predicted:
        assert tuple(compared.predicted for compared in report.compared) == row.predicted


@pytest.mark.parametrize(
    ("at", "free", "total", "share", "wanted", "fits"),
    [
        ("", "31.44", "47.38", "0.95", "45.01", "0.66"),  # vllm-project/vllm#20305
        ("cuda:0 ", "19.77", "22.05", "0.9", "19.84", "0.89"),  # pytorch/pytorch#175666
        ("", "0.49", "79.32", "0.6", "47.59", "0"),  # vllm-project/vllm-omni#276
        ("", "7.34", "139.72", "0.9", "125.75", "0.05"),  # vllm-project/vllm#23192
        ("", "3.22", "4.0", "0.9", "3.6", "0.8"),  # vllm-project/vllm#25837
        ("cuda:0 ", "104.87", "121.63", "0.87", "105.82", "0.86"),  # stored file 61491310219
    ],
)
def test_memory_of_other_processes_needs_no_model(at, free, total, share, wanted, fits):
    reading, _ = read_said(_FREE.format(at, free, total, share, wanted))
    report = explain_alone(reading)
    assert (report.outcome, report.needed, report.available) == ("agrees", f"{wanted} GiB", f"{free} GiB")
    assert report.ways[0].flags == f"--gpu-memory-utilization {fits}"
    assert explain(kvcalc.load("mixtral-8x7b"), reading).outcome == "agrees"


def test_an_error_that_a_model_decides_is_not_judged_without_one(cli, tmp_path):
    log = tmp_path / "vllm.log"
    log.write_text(_TOO_LONG.format(100000, "4.26", "4.25", ""))
    told = cli(f"explain {log}")
    assert told.code == 2
    words = " ".join(told.stdout.split())
    assert "needed 4.26 GiB for 100,000 tokens available 4.25 GiB" in words
    assert "undecided: the log does not describe its model; name it" in words


def test_a_log_without_a_context_length_is_not_judged_by_another():
    """ikawrakow/ik_llama.cpp#749, cut: the model's own length would not be the log's."""
    reading, _ = read_said("KV self size = 1005.79 MiB, c^KV (f16): 1005.79 MiB, kv^T (f16):    0.00 MiB\n")
    with pytest.raises(kvcalc.InvalidValueError, match="the log has no n_ctx"):
        explain(kvcalc.load("kimi-k2"), reading)


def test_bytes_of_sglang_without_tokens_are_refused():
    reading, _ = read_said("[TP0] KV Cache is allocated. K size: 27.13 GB, V size: 27.13 GB.\n")
    with pytest.raises(kvcalc.InvalidValueError, match="tokens unknown"):
        explain(kvcalc.load("llama-3.1-8b"), reading)
    assert explain(kvcalc.load("llama-3.1-8b"), reading, settings={"max_total_tokens": 444_500}).agrees


@pytest.mark.parametrize(
    "line",
    [
        "2024-05-07T12:39:22.141566Z  INFO text_generation_router: Setting max batch total tokens to 801568",
        '{"level":"INFO","message":"Setting max batch total tokens to 801568","target":"text_generation_router"}',
    ],
)
def test_a_log_of_tgi_is_named(line):
    with pytest.raises(kvcalc.InvalidFileError, match="a log of TGI, whose cache is not modelled: it holds 801,568"):
        read_said(line)


@pytest.mark.parametrize(
    "line",
    [
        "Engine 000: Avg prompt throughput: 5.4 tokens/s, Running: 1 reqs, Waiting: 0 reqs, GPU KV cache usage: 2.8%",
        "INFO [worker.py:575] Free memory on device (60.86/61.27 GiB) on startup. Desired GPU memory utilization is "
        "(0.9, 55.14 GiB). Actual usage: 1.14 GiB for weights. Replace gpu_memory_utilization with "
        "`--kv-cache-memory=57403864576` (53.46 GiB) to fit in",  # vllm-project/vllm-ascend#8289
        "WARN vllm_rs::utils::kvcache_allocator: KVCache Allocation: 8192 GPU blocks (48.00 GB), max usable kvcache "
        "tokens 524288, scheduling limits [2 seqs x 262144 tokens]",  # guoqingbao/xinfer#195
    ],
)
def test_lines_that_only_sound_like_a_cache_are_none(line):
    with pytest.raises(kvcalc.InvalidFileError, match="no cache reported in"):
        read_said(line)


def test_a_draft_in_a_log_of_llama_cpp_is_not_added_to_the_model():
    """Its context is printed after the model's, by the same lines (ggml-org/llama.cpp#11200 has both)."""
    text = "llama_context: n_ctx = 4096\n" + _ARROW.format("512.00", 4096, 32, "1/1", "f16", "256.00", "f16", "256.00")
    text += "llama_context: n_ctx = 4096\n" + _ARROW.format("112.00", 4096, 28, "1/1", "f16", "56.00", "f16", "56.00")
    report = explain(kvcalc.load("llama-3.1-8b"), read_said(text)[0])
    assert report.agrees
    assert report.notes[-1] == "the log has several contexts: the largest is compared, not that of line 4"


def test_the_form_of_a_line_dates_a_build_of_llama_cpp():
    """Gemma 2 before sliding layers had caches of their own (ggml-org/llama.cpp#13194): all 8,192 cells in 26 layers."""
    text = "llama_new_context_with_model: n_ctx      = 8192\n"
    text += "llama_new_context_with_model: KV self size  =  832.00 MiB, K (f16):  416.00 MiB, V (f16):  416.00 MiB\n"
    assert explain(kvcalc.load("gemma-2-2b"), read_said(text)[0]).agrees
    newer = _ARROW.format("832.00", 8192, 26, "1/1", "f16", "416.00", "f16", "416.00")
    assert read_said(newer)[0].supposed == {}
    assert read_said(newer.replace("kv_cache", "kv_cache_unified"))[0].supposed["version"] == "2025-08-15"
    assert (
        read_said(newer.replace("kv_cache", "kv_cache_unified").replace("1/1", "1"))[0].supposed["version"]
        < "2025-07-16"
    )


_LOADED = """\
build: 4879 (f08f4b31) with cc (GCC) 13.2.0 for x86_64-linux-gnu
llama_model_loader: - kv   0:                       general.architecture str              = llama
llama_model_loader: - kv   2:                               general.name str              = Meta Llama 3.1 8B Instruct
llama_model_loader: - kv   8:                               general.tags arr[str,6]       = ["facebook", "meta", "py...
llama_model_loader: - kv  10:                          llama.block_count u32              = 32
llama_model_loader: - kv  11:                       llama.context_length u32              = 131072
llama_model_loader: - kv  12:                     llama.embedding_length u32              = 4096
llama_model_loader: - kv  14:                 llama.attention.head_count u32              = 32
llama_model_loader: - kv  15:              llama.attention.head_count_kv {}
llama_model_loader: - kv  17:     llama.attention.layer_norm_rms_epsilon f32              = 0.000010
llama_model_loader: - kv  23:                      tokenizer.ggml.tokens arr[str,128256]  = ["!", "#", "$", "%", "&", ...
llama_context: n_ctx         = 4096
llama_context: KV self size  =  512.00 MiB, K (f16):  256.00 MiB, V (f16):  256.00 MiB
"""


def test_a_log_of_llama_cpp_describes_its_model(cli, tmp_path):
    log = tmp_path / "llama.log"
    log.write_text(_LOADED.format("u32              = 8"))
    assert cli(f"explain {log}").code == 0
    log.write_text(_LOADED.format("u32              = 4"))
    assert cli(f"explain {log}").code == 1
    log.write_text(_LOADED.format("arr[i32,32]      = [8, 8, 8, 8, 8, 8, 8, 8, 8, 8, 8, 8, 8, 8, 8, ..."))
    told = cli(f"explain {log}")
    assert told.code == 2
    assert "does not describe its model" in told.stderr


def test_a_cut_list_of_words_hides_no_shape():
    """Tokens and tags are always cut, and say nothing about the cache."""
    reading, _ = read_said(_LOADED.format("u32              = 8"))
    assert reading.metadata["llama.block_count"] == 32
    assert "general.tags" not in reading.metadata


def test_what_ollama_loaded_is_read_from_its_log():
    """Stored file 46251143487: the file's own name, before its context is known."""
    text = (
        'msg=load request="{Operation:commit LoraPath:[] Parallel:1 BatchSize:512 FlashAttention:Enabled KvSize:4096 '
    )
    text += (
        'KvCacheType: NumThreads:4}"\nmsg="" architecture=qwen3moe file_type=unknown name=Qwen3-Coder-30B-A3B-Instruct '
    )
    text += 'description="" num_tensors=579\nmsg="kv cache" device=CPU size="384.0 MiB"\n'
    reading, _ = read_said(text)
    served = model_named_in(reading)
    assert explain(served, reading).agrees


@pytest.mark.parametrize(
    "line",
    [
        "ggml_backend_cuda_buffer_type_alloc_buffer: allocating 512.00 MiB on device 0: cudaMalloc failed: out of memory",
        "ggml_vulkan: Device memory allocation of size 536870912 failed.",
        "ggml_metal_buffer: error: failed to allocate buffer, size =   512.00 MiB",
        "alloc_tensor_range: failed to allocate CUDA0 buffer of size 536870912",
    ],
)
def test_a_buffer_of_any_backend_is_read(line):
    text = f"llama_context: n_ctx = 4096\n{line}\nfailed to initialize the context: failed to allocate buffer for kv cache\n"
    report = explain(kvcalc.load("llama-3.1-8b"), read_said(text)[0])
    assert (report.outcome, len(report.ways)) == ("agrees", 3)
    assert report.needed == "512.00 MiB for 4,096 tokens"


@pytest.mark.parametrize(
    ("line", "words"),
    [
        (
            "ValueError: The memory capacity is unbalanced. Some GPUs may be occupied by other processes.",
            "other processes",
        ),
        ("Error: llama runner process has terminated: cudaMalloc failed: out of memory", "does not say for what"),
    ],
)
def test_errors_without_sizes_are_named(line, words):
    with pytest.raises(kvcalc.InvalidFileError, match=words):
        read_said(line)


def test_an_error_without_its_context_says_what_its_buffer_would_hold():
    """36,000 MiB are 256,000 tokens of 147,456 bytes, whatever length the model was made for."""
    reading, _ = read_said(
        "alloc_tensor_range: failed to allocate CPU buffer of size 37748736000\nfailed to allocate buffer for kv cache\n"
    )
    report = explain(kvcalc.load("qwen3-8b"), reading)
    assert (report.outcome, report.needed) == ("undecided", "35.16 GiB for 256,000 tokens")
    assert report.compared[0].predicted == "holds 256,000 tokens"
    assert report.ways[0].flags == "-c 128000"


_REPEATED = (
    "llama_kv_cache: size = 1.00 MiB ( ",
    "llama runner process has terminated ",
    "out of memory. Tried to allocate 1.0 GiB ",
    "using device CUDA0 (",
    "[TP0 ",
    "Worker_",
    "abc ",
)


@pytest.mark.parametrize("words", _REPEATED, ids=str.strip)
def test_a_line_of_half_a_megabyte_is_read_at_once(tmp_path, words):
    """A pattern that begins at every word must not run to the end of the line each time."""
    file = tmp_path / "engine.log"
    file.write_text(words * (500_000 // len(words)) + "\n")
    took = cost("explain", str(file), "llama-3.1-8b")
    assert took.code == 2
    assert took.seconds < 10  # minutes, where it does
