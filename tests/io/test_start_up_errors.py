"""Errors that ended start-ups, as people pasted them: what they state is predicted, and the ways out hold.

Each row says where it was published. Where a thread does not say which model it was, its shape is the one that gives
the bytes, and the row shows that the numbers of the error fit together.
"""

from __future__ import annotations

import json
import subprocess
import sys
from typing import Any, NamedTuple

import pytest
from hypothesis import given
from hypothesis import strategies as st

import kvcalc
from kvcalc.fleet.explain import explain
from kvcalc.io.engine_logs import read_lines
from kvcalc.io.said import read_said

GIB, MIB = 2**30, 2**20
V1 = (
    "ValueError: To serve at least one request with the model's max seq len ({}), {} GiB KV cache is needed, which is "
    "larger than the available KV cache memory ({} GiB). Based on the available memory, the estimated maximum model "
    "length is {}. Try increasing `gpu_memory_utilization` or decreasing `max_model_len` when initializing the engine."
)
V1_OLD = (
    "ERROR 04-05 01:12:55 [core.py:390] ValueError: To serve at least one request with the models's max seq len ({}), "
    "({} GiB KV cache is needed, which is larger than the available KV cache memory ({} GiB).{} Try increasing "
    "`gpu_memory_utilization` or decreasing `max_model_len` when initializing the engine."
)
V0 = (
    "ValueError: The model's max seq len ({}) is larger than the maximum number of tokens that can be stored in KV "
    "cache ({}). Try increasing `gpu_memory_utilization` or decreasing `max_model_len` when initializing the engine."
)
QWEN15 = {"model_type": "qwen2", "hidden_size": 4096, "num_hidden_layers": 32, "num_attention_heads": 32}
QWEN15 |= {"num_key_value_heads": 32, "max_position_embeddings": 32768}
VULKAN = """\
0.02.678.576 W llama_context: n_ctx_seq (1500160) > n_ctx_train (262144) -- possible training context overflow
ggml_vulkan: Device memory allocation of size 1632174080 failed.
0.05.982.175 E alloc_tensor_range: failed to allocate Vulkan0 buffer of size 1632174080
0.06.650.537 E llama_init_from_model: failed to initialize the context: failed to allocate buffer for kv cache
"""
ON_CPU = """\
ggml_aligned_malloc: insufficient memory (attempted to allocate 36000.00 MB)
alloc_tensor_range: failed to allocate CPU buffer of size 37748736000
llama_init_from_model: failed to initialize the context:
    failed to allocate buffer for kv cache (status code: 500)
"""
NO_BLOCKS = "ValueError: No available memory for the cache blocks. Try increasing `gpu_memory_utilization` when init"


class Row(NamedTuple):
    """An error: where it was published, the model, its text, the outcome, and the first word of each way out."""

    source: str
    model: Any
    text: str
    outcome: str
    ways: tuple[str, ...]
    given: dict[str, Any] = {}  # noqa: RUF012
    ranks: dict[str, int] = {}  # noqa: RUF012


ROWS = (
    Row(
        "eugr/spark-vllm-docker#396",
        "minimax-m2.7",
        "Available KV cache memory: 22.5 GiB\n" + V1.format(196608, "23.25", "22.5", 190272),
        "agrees",
        ("--max-model-len 190272", "--kv-cache-dtype fp8", "--tensor-parallel-size 4"),
        ranks={"tp": 2},
    ),
    Row(
        "vllm-project/vllm#34076, whose version counted the layers of all stages: as of one",
        "Qwen/Qwen3-Coder-30B-A3B-Instruct",
        V1_OLD.format(
            262144, "24.0", "3.18", " Based on the available memory, the estimated maximum model length is 34736."
        ),
        "agrees",
        ("--max-model-len 34736", "--kv-cache-dtype fp8 --max-model-len 69472"),
    ),
    Row(
        "Qwen3-32B in w4a16, stored file 28559968688; the sentence of the estimate was left empty by 0.9",
        "qwen3-32b",
        V1_OLD.format(40960, "10.00", "1.25", " Based on the available memory, "),
        "agrees",
        ("--max-model-len 5088", "--kv-cache-dtype fp8 --max-model-len 10192"),
    ),
    Row(
        "Qwen2.5-32B-Instruct-AWQ, stored file 71241891923",
        "qwen2.5-32b",
        V1_OLD.format(
            4096, "1.0", "0.58", " Based on the available memory, the estimated maximum model length is 2368."
        ),
        "agrees",
        ("--max-model-len 2368", "--kv-cache-dtype fp8", "--tensor-parallel-size 2"),
    ),
    Row(
        "a Qwen3-VL of 28 layers, stored file 19203168638, wrapped by hand",
        "qwen3-vl-2b",
        V1.format(262144, "28.00", "13.69", 128128).replace(" ", "\n", 9),
        "agrees",
        ("--max-model-len 128128", "--kv-cache-dtype fp8 --max-model-len", "--tensor-parallel-size 4"),
    ),
    Row(
        "the same with a model of 36 layers",
        "qwen3-vl-4b",
        V1.format(262144, "28.00", "13.69", 128128),
        "differs",
        (),
    ),
    Row(
        "vllm-project/vllm#16118: Llama 4 on 8 GPUs, whose chunks were allocated whole then",
        "llama-4-maverick",
        V1_OLD.format(1048576, "24.00", "9.97", ""),
        "agrees",
        ("--max-model-len 435376", "--kv-cache-dtype fp8 --max-model-len 870752"),
        given={"version": "0.10.2"},
        ranks={"tp": 8},
    ),
    Row(
        "QwenLM/Qwen3#295: 7,344 tokens are 459 blocks of 16",
        QWEN15,
        V0.format(32768, 7344),
        "undecided",
        ("--max-model-len 7344", "--kv-cache-dtype fp8 --max-model-len 14688", "--tensor-parallel-size 8"),
    ),
    Row(
        "QwenLM/Qwen3#16, the same model in int4: 24,320",
        QWEN15,
        V0.format(32768, 24320),
        "undecided",
        ("--max-model-len 24320", "--kv-cache-dtype fp8", "--tensor-parallel-size 2"),
    ),
    Row(
        "no numbers at all: a length is needed, and memory",
        "llama-3.1-8b",
        NO_BLOCKS,
        "undecided",
        ("more memory", "--kv-cache-dtype fp8", "--tensor-parallel-size 2"),
        given={"max_model_len": 8192},
    ),
    Row(
        "stored file 69756221467: another program holds memory of a 4 GB card",
        "qwen2.5-1.5b",
        "ValueError: Free memory on device (3.21/4.0 GiB) on startup is less than desired GPU memory utilization "
        "(0.85, 3.4 GiB). Decrease GPU memory utilization or reduce GPU memory used by other processes.",
        "agrees",
        ("--gpu-memory-utilization 0.8", "stop other processes on the GPU"),
    ),
    Row(
        "stored file 66898598757: 256,000 tokens on a machine of 14 GiB, exactly 36,000 MiB",
        "qwen3-8b",
        ON_CPU,
        "agrees",
        ("-c 128000", "-ctk q8_0", "-nkvo"),
        given={"n_ctx": 256_000},
    ),
    Row(
        "stored file 59289607393: Vulkan splits a buffer, of which this is a part",
        "qwen3.5-9b",
        VULKAN,
        "undecided",
        ("-c 750080", "-ctk q8_0", "-nkvo"),
    ),
    Row(
        "stored file 54999152747: gemma3:4b, where the cache is the least of it",
        "gemma-3-4b",
        "ollama._types.ResponseError: model requires more system memory (4.0 GiB) than is available (3.1 GiB)",
        "undecided",
        ("a smaller model",),
    ),
    Row(
        "ollama/ollama#6283: two sequences of 128,000 tokens",
        "llama-3.1-8b",
        'layers.model=33 memory.required.full="35.3 GiB" memory.required.kv="31.2 GiB" memory.weights.total="34.9 GiB"\n'
        "cmd=ollama_llama_server --ctx-size 256000 --batch-size 512 --parallel 2\n"
        "model requires more system memory (35.3 GiB) than is available (25.0 GiB)",
        "agrees",
        ("OLLAMA_NUM_PARALLEL=1", "num_ctx", "OLLAMA_FLASH_ATTENTION=1 OLLAMA_KV_CACHE_TYPE=q8_0"),
    ),
    Row(
        "arithmetic of SGLang's own: 7.92 - 23.2 * 0.5 is less than nothing",
        "qwen3-8b",
        "server_args=ServerArgs(model_path='Qwen/Qwen3-8B', tp_size=1, mem_fraction_static=0.5)\n"
        "Load weight begin. avail mem=23.2 GB\n"
        "Load weight end. type=Qwen3ForCausalLM, dtype=torch.bfloat16, avail mem=7.92 GB, mem usage=15.28 GB.\n"
        "RuntimeError: Not enough memory. Please try to increase --mem-fraction-static.",
        "agrees",
        ("--mem-fraction-static 0.91", "--mem-fraction-static 0.79 --kv-cache-dtype fp8_e4m3", "--tp 2"),
    ),
    Row(
        "sgl-project/sglang#4330: no line of memory",
        "qwen3-8b",
        "RuntimeError: Not enough memory. Please try to increase --mem-fraction-static.",
        "undecided",
        ("raise --mem-fraction-static", "raise --mem-fraction-static --kv-cache-dtype fp8_e4m3"),
    ),
)


def answer(row: Row):
    reading = read_lines(row.text.splitlines())
    assert reading is not None
    return explain(kvcalc.load(row.model), reading, settings=row.given, ranks=row.ranks)


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row.source)
def test_an_error_is_checked_and_answered_with_ways_out(row):
    report = answer(row)
    assert report.outcome == row.outcome, report.verdict
    assert report.refusal
    assert len(report.ways) == len(row.ways)
    for way, wanted in zip(report.ways, row.ways, strict=True):
        assert way.flags.startswith(wanted)
        assert way.gives


def test_every_kind_of_outcome_is_there():
    outcomes = [row.outcome for row in ROWS]
    assert {outcome: outcomes.count(outcome) for outcome in set(outcomes)} == {
        "agrees": 10,
        "differs": 1,
        "undecided": 6,
    }


def test_a_way_out_of_vllm_fits_and_nothing_longer_does():
    """What `--max-model-len` says fits the memory by vLLM's own check, and one block more does not."""
    report = answer(ROWS[2])
    longest = int(report.ways[0].flags.split()[1])
    model, usable = kvcalc.load("qwen3-32b"), int(1.245 * GIB)
    in_fp8 = int(report.ways[1].flags.split()[-1])
    for length, change in ((longest, {}), (in_fp8, {"kv_cache_dtype": "fp8"})):
        settings = {"version": "0.10.2", **change}
        kvcalc.fit(model, available_bytes=usable + 1, engine_settings={**settings, "max_model_len": length})
        with pytest.raises(kvcalc.NotApplicableError):
            kvcalc.fit(model, available_bytes=usable, engine_settings={**settings, "max_model_len": length + 64})


def test_utilisation_is_raised_where_the_gpu_is_named():
    """0.75 GiB more of a GPU: the share that has them, rounded up, and nothing costs less."""
    reading = read_lines(ROWS[0].text.splitlines())
    report = explain(kvcalc.load("minimax-m2.7"), reading, settings={"gpu": "h100-80gb"}, ranks={"tp": 2})
    assert report.ways[0].flags == "--gpu-memory-utilization 0.93"
    text = "Free memory on device cuda:0 (78.1/79.18 GiB)\n" + ROWS[0].text
    from_the_log = explain(kvcalc.load("minimax-m2.7"), read_lines(text.splitlines()), ranks={"tp": 2})
    assert from_the_log.ways[0].flags == "--gpu-memory-utilization 0.93"


def test_tokens_of_v0_are_checked_where_the_memory_is_stated():
    """github.com/vllm-project/vllm/issues/2418: 229 blocks of 16 are its 3,664 tokens."""
    text = "# GPU blocks: 229, # CPU blocks: 512\n" + V0.format(4096, 3664)
    text += "\nthe rest of the memory reserved for KV Cache is 1.79GiB."
    report = explain(kvcalc.load("llama-2-7b"), read_lines(text.splitlines()))
    assert (report.outcome, report.compared[0].predicted) == ("agrees", "3,664")
    other = explain(kvcalc.load("llama-2-13b"), read_lines(text.splitlines()))
    assert other.outcome == "differs"


def test_a_later_start_up_that_came_through_is_what_counts():
    text = ROWS[0].text + "\nAvailable KV cache memory: 28.74 GiB\nGPU KV cache size: 242,976 tokens\n"
    reading = read_lines(text.splitlines())
    assert reading.refusal is None
    assert reading.numbers()["tokens"].text == "242,976"


@pytest.mark.parametrize("end", ["\n", "\r\n", "\r"])
def test_ends_of_lines_and_colours_change_nothing(end, tmp_path):
    file = tmp_path / "engine.log"
    coloured = "\x1b[31mERROR\x1b[0m " + ROWS[0].text.replace("\n", end) + "\x1b[?25h"
    file.write_bytes(coloured.encode())
    reading, _ = read_said(str(file))
    assert reading.refusal.numbers["longest"].text == "190272"
    reading, _ = read_said(json.dumps({"log": ROWS[0].text, "stream": "stderr"}))  # of a container's log
    assert reading.refusal.numbers["longest"].text == "190272"


def test_a_secret_of_the_arguments_is_never_printed(cli, tmp_path):
    log = tmp_path / "vllm.log"
    secret = "sk-very-secret-123"
    log.write_text(
        f"non-default args: {{'api_key': ['{secret}'], 'hf_token': '{secret}', 'max_model_len': 196608}}\n{ROWS[0].text}"
    )
    for format in ("table", "json", "markdown", "csv"):
        said = cli(f"explain {log} minimax-m2.7 --tp 2 -f {format}")
        assert said.code == 0
        assert secret not in said.stdout + said.stderr


# Where it comes from ------------------------------------------------------------------------------------------------


def test_an_error_is_read_as_it_is_pasted(cli):
    said = cli(["explain", ROWS[0].text, "minimax-m2.7", "--tp", "2", "-f", "json"])
    assert said.code == 0
    report = json.loads(said.stdout)
    assert report["file"] == "the pasted text"
    assert report["ways"][0]["flags"] == "--max-model-len 190272"
    assert cli(["explain-log", ROWS[0].text, "minimax-m2.7", "--tp", "2", "-f", "json"]).stdout == said.stdout


def test_an_error_that_a_window_broke_within_words_is_read():
    text = ROWS[0].text
    at = text.index("cache is needed") + 4
    broken = text[:40] + "\n" + text[40:at] + "\n" + text[at:]
    one, other = (read_lines(each.splitlines()).refusal.numbers for each in (text, broken))
    assert {name: str(printed) for name, printed in other.items()} == {name: str(each) for name, each in one.items()}


@pytest.mark.parametrize(
    ("text", "words"),
    [
        (
            "RuntimeError: Not enough memory to allocate KV cache.\nPossible fixes: increase --mem-fraction-static, ...",
            "mem_fraction_static leaves no memory",
        ),
        (
            'msg="model request too large for system" requested="33.3 GiB" available="7.7 GiB" total="15.4 GiB"',
            "need more memory than is free",
        ),
    ],
)
def test_what_other_versions_say_is_the_same_error(text, words):
    assert words in read_lines(text.splitlines()).refusal.words


OUTSIDE = {
    "torch.OutOfMemoryError: CUDA out of memory. Tried to allocate 2.00 GiB. GPU 0 has a total capacity of 79.15 GiB of "
    "which 1.20 GiB is free.": ("2.00 GiB more were requested, 1.20 GiB were free", "gpu_memory_utilization"),
    "CUDA out of memory. Tried to allocate 1.63 GiB (GPU 0; 44.56 GiB total capacity; 27.91 GiB already allocated; "
    "565.31 MiB free; 27.93 GiB reserved)": (
        "1.63 GiB more were requested, 565.31 MiB were free",
        "fewer sequences",
    ),
    "RuntimeError: CUDA out of memory occurred when warming up sampler with 1024 dummy requests.": (
        "a first batch of 1,024 requests",
        "--max-num-seqs",
    ),
    "ValueError: User-specified max_model_len (65536) is greater than the derived max_model_len "
    "(max_position_embeddings=40960 or model_max_length=None in model's config.json).": (
        "max_model_len is 65,536, but the model's config ends at 40,960",
        "VLLM_ALLOW_LONG_MAX_MODEL_LEN=1",
    ),
    "llama_model_load: error loading model: unable to allocate CUDA0 buffer": ("the weights do not fit", "-ngl"),
    "Error: 500 Internal Server Error: memory layout cannot be allocated": (
        "no layout of the model's layers",
        "num_ctx",
    ),
    "RuntimeError: No enough gpu memory for kv cache.": ("LMDeploy has no memory left", "--cache-max-entry-count"),
    "Not enough memory to handle 4096 prefill tokens. You need": (
        "a batch of 4,096 tokens",
        "max-batch-prefill-tokens",
    ),
}
"""Errors of a start-up that no cache is to blame for: what they say, and what to do."""


@pytest.mark.parametrize(("text", "expected"), OUTSIDE.items())
def test_an_error_outside_of_the_cache_is_named_with_a_way_out(text, expected):
    with pytest.raises(kvcalc.InvalidFileError) as refusal:
        read_said(f"INFO starting\n{text}")
    assert expected[0] in refusal.value.what
    assert expected[1] in refusal.value.help
    assert refusal.value.where == "the pasted text:2"


def test_an_error_is_read_from_a_pipe():
    command = [sys.executable, "-m", "kvcalc", "explain", "-", "minimax-m2.7", "--tp", "2"]
    done = subprocess.run(command, input=ROWS[0].text, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.startswith("standard input: minimax-m2.7 in vllm")


def test_a_word_that_is_no_file_is_not_taken_for_a_text(cli):
    assert cli("explain none.log r1").stderr.startswith("none.log: no such file")
    assert cli(["explain", "a text of no engine", "r1"]).stderr.startswith(
        "the pasted text: no cache reported in 1 line"
    )


def test_the_model_that_a_log_names_is_taken(cli):
    (text,) = (row.text for row in ROWS if row.source.startswith("arithmetic of SGLang"))
    said = cli(["explain", text])
    assert said.code == 0
    assert "the log names Qwen/Qwen3-8B; predicted as qwen3-8b" in said.stdout
    cached = text.replace("Qwen/Qwen3-8B", "/root/.cache/huggingface/hub/models--Qwen--Qwen3-8B/snapshots/ab")
    assert cli(["explain", cached]).code == 0
    unknown = cli(["explain", text.replace("Qwen/Qwen3-8B", "/models/mine")])
    assert unknown.code == 2
    assert "does not describe its model (/models/mine)" in unknown.stderr


@given(st.sampled_from([row.text for row in ROWS]), st.data())
def test_spoiled_errors_are_read_or_refused(text, data):
    place = data.draw(st.integers(0, len(text) - 1))
    spoiled = text[:place] + data.draw(st.sampled_from(["", "9" * 30, "\n", "-", "(", "0", "\x00"])) + text[place + 1 :]
    try:
        reading = read_lines(spoiled.splitlines())
        if reading is not None:
            explain(kvcalc.load("tinyllama-1.1b"), reading)
    except kvcalc.KvcalcError as refusal:
        assert refusal.help


TOO_LONG = (
    "ValueError: To serve at least one request with the models's max seq len (131072), (16.00 GiB KV cache is needed, "
    "which is larger than the available KV cache memory (9.27 GiB)."
)
ESTIMATED = f"{TOO_LONG} Based on the available memory, the estimated maximum model length is 75888."


def test_an_error_without_a_model_is_answered_by_its_own_numbers(cli):
    """9.27 of 16 GiB are at least 9.265 / 16.005 of 131,072 tokens, unless vLLM itself says how many."""
    told = cli(["explain", TOO_LONG])
    assert told.code == 2
    for words in ("needed         16.00 GiB for 131,072 tokens", "available      9.27 GiB", "--max-model-len 75875"):
        assert words in told.stdout
    assert "if every layer grows with the length" in " ".join(told.stdout.split())
    assert "about 8.00 GiB" in told.stdout
    assert "does not describe its model; name it" in " ".join(told.stdout.split())
    assert "--max-model-len 75888: the longest request in 9.27 GiB, vLLM's own estimate" in " ".join(
        cli(["explain", ESTIMATED]).stdout.split()
    )
    tight = cli(["explain", TOO_LONG.replace("9.27", "7.27")]).stdout
    assert "fp8" not in tight
    assert "undecided" not in cli(["explain", ESTIMATED, "llama3.1-8b"]).stdout
