"""`--engine llama_cpp` against contexts of the real library: 603 of them, over 26 models of 23 architectures.

Each row of the data is a context of llama.cpp (as in llama-cpp-python 0.3.36) over a model that was metadata alone: the
metadata, the parameters, and the bytes that the library allocated, or that it refused.
"""

from __future__ import annotations

import gzip
import json
from datetime import date
from pathlib import Path

import numpy as np
import pytest
from gguf_files import TINY, gguf
from hypothesis import given
from hypothesis import strategies as st

import kvcalc
from kvcalc.cache.dtypes import dtype_named
from kvcalc.engines import Engine
from kvcalc.engines.base.footprint import Footprint
from kvcalc.engines.base.versions import Rule
from kvcalc.engines.llama_cpp import cells, engine
from kvcalc.engines.llama_cpp.versions import LlamaCppRelease

DATA = Path(__file__).parents[1] / "data" / "llama_cpp.jsonl.gz"
CRASHED = "graph assertion in the engine (unrelated to KV sizing)"
PRESETS = {
    "qwen3-30b-a3b": "qwen3-30b-a3b",
    "qwen3-8b": "qwen3-8b",
    "gemma-2-9b": "gemma-2-9b",
    "llama-4-scout (chunked)": "llama-4-scout",
    "command-r7b": "command-r7b",
    "deepseek-v3 (MLA)": "deepseek-v3",
    "deepseek-v2-lite (MLA)": "deepseek-v2-lite",
    "deepseek-v3.2 (DSA)": "deepseek-v3.2",
    "jamba-mini": "jamba-1.5-mini",
    "lfm2-1.2b": "lfm2-1.2b",
    "qwen3-next-80b": "qwen3-next-80b-a3b",
    "kimi-linear-48b": "kimi-linear-48b",
}
"""Models of the data of which there is a preset, written from a config.json."""


def rows():
    with gzip.open(DATA, "rt") as lines:
        yield from map(json.loads, lines)


MODELS: dict[str, kvcalc.Model] = {}


def model_of(row: dict) -> kvcalc.Model:
    """The row's model, read once; models of one name have the same metadata."""
    if row["model"] not in MODELS:
        keys = {f"{row['arch']}.{key}": value for key, value in row["metadata"].items()}
        MODELS[row["model"]] = kvcalc.load({"general.architecture": row["arch"], **keys})
    return MODELS[row["model"]]


def sized(model: kvcalc.Model, row: dict) -> kvcalc.Report:
    settings = {key: value for key, value in row["settings"].items() if key != "no_alloc"}
    tokens, sequences = settings.pop("n_ctx") or None, settings.pop("n_seq_max")
    return kvcalc.size(model, tokens=tokens, sequences=sequences, engine="llama_cpp", engine_settings=settings)


@pytest.fixture(scope="module")
def contexts() -> list[dict]:
    """Rows that the library accepted."""
    return [row for row in rows() if not row.get("rejected")]


@pytest.fixture(scope="module")
def reports(contexts) -> list[kvcalc.Report]:
    """Each of them, sized once."""
    return [sized(model_of(row), row) for row in contexts]


def test_every_context_is_predicted_to_the_byte(contexts, reports):
    assert len(contexts) == 584
    assert len({row["model"] for row in contexts}) == 26
    assert [
        row["model"] for row, ours in zip(contexts, reports, strict=True) if ours.total_bytes != row["engine_bytes"]
    ] == []


def test_what_the_library_refuses_is_refused():
    refused = [row for row in rows() if row.get("rejected")]
    assert len(refused) == 19
    for row in refused:
        if row["reject_kind"] == CRASHED:  # its memory was made; building the graph failed after that
            assert sized(model_of(row), row).total_bytes
            continue
        with pytest.raises(kvcalc.NotApplicableError, match=r"does not support different types of K .* and V"):
            sized(model_of(row), row)


def test_keys_values_and_states_are_each_what_the_library_logs(contexts, reports):
    """The log says K and V of each cache in MiB with two decimals."""
    for row, report in zip(contexts, reports, strict=True):
        tensors = [t for group in report.groups for t in group.tensors]
        ours = {
            "K": sum(t.bytes for t in tensors if t.name in ("k", "compressed_k", "index_k")),
            "V": sum(t.bytes for t in tensors if t.name in ("v", "index_v")),
            "R": sum(t.bytes for t in tensors if t.name.startswith(("conv_state", "shift_state"))),
            "S": sum(t.bytes for t in tensors if t.name in ("ssm_state", "recurrent_state", "wkv_state")),
        }
        for letter, bytes_ in ours.items():
            logged = [cache[f"{letter}_mib"] for cache in row["caches" if letter in "KV" else "recurrent"]]
            assert abs(sum(logged) - bytes_ / 2**20) <= 0.0051 * len(logged) + 1e-6, (row["model"], letter)


def test_caches_have_as_many_cells_as_the_library_logs(contexts, reports):
    compared = 0
    for row, report in zip(contexts, reports, strict=True):
        if row["arch"] == "deepseek4" or not row["caches"]:
            continue
        slots = {t.slots for group in report.groups for t in group.tensors if t.name == "k"}
        assert slots == {cache["cells"] * cache["n_stream"] for cache in row["caches"] if cache["layers"]}, row["model"]
        compared += 1
    assert compared == 540


@pytest.mark.parametrize("name", PRESETS)
def test_a_config_says_what_the_gguf_file_of_it_says(name, contexts):
    compared = 0
    model = kvcalc.load(PRESETS[name])
    for row in contexts:
        if row["model"] == name and row["settings"]["n_ctx"]:
            assert sized(model, row).total_bytes == row["engine_bytes"], row["settings"]
            compared += 1
    assert compared >= 18


RULES = {
    "n_ctx in steps of 256": lambda patch: patch.setattr(LlamaCppRelease, "padding", Rule("", 32, {}, "")),
    "n_ubatch beside the window": lambda patch: patch.setattr(
        cells.Cells, "sliding", lambda self, window: self._cells("", limit=self._padded(window * self.sequences))
    ),
    "a window for each sequence of a unified cache": lambda patch: patch.setattr(
        cells.Cells, "sliding", lambda self, window: self._cells("", limit=self._padded(window + self.ubatch))
    ),
    "sliding layers in caches of their own": lambda patch: patch.setattr(engine, "WINDOWED", frozenset()),
    "V as wide as the widest without flash attention": lambda patch: patch.setattr(
        engine, "widest_values", lambda model: (0, 0)
    ),
    "layers without heads": lambda patch: patch.setattr(engine, "SKIPS_EMPTY_LAYERS", frozenset({"deci"})),
    "states kept for drafts": lambda patch: patch.setattr(engine, "ROLLS_BACK", frozenset()),
    "a stream for each sequence": lambda patch: patch.setattr(engine, "STREAM_FOR_EACH_SEQUENCE", frozenset()),
}  # fmt: skip


@pytest.mark.parametrize("rule", RULES)
def test_without_any_one_rule_contexts_differ(rule, contexts, monkeypatch):
    RULES[rule](monkeypatch)
    assert any(sized(model_of(row), row).total_bytes != row["engine_bytes"] for row in contexts)


def padded(number: int) -> int:
    return -(-number // 256) * 256


@given(
    st.integers(1, 2**20),
    st.integers(1, 256),
    st.booleans(),
    st.integers(1, 2**14),
    st.integers(0, 4096),
    st.integers(0, 4096),
)
def test_cells_are_those_of_the_arithmetic_as_it_is_written_there(n_ctx, n_seq_max, unified, window, n_batch, n_ubatch):
    """llama_context's own steps, one by one, against the two numbers that they come down to."""
    batch = min(n_ctx, n_batch)
    ubatch = min(batch, n_batch if n_ubatch == 0 else n_ubatch)
    per_sequence = padded(n_ctx) if unified else padded(padded(n_ctx) // n_seq_max)
    streams = 1 if unified else n_seq_max
    swa = padded(min(per_sequence, window * (n_seq_max if unified else 1) + ubatch))
    asked = min(n_batch, n_ubatch or n_batch)
    context = cells.Cells(n_seq_max, streams, unified, swa_full=False, ubatch=asked, state_rows=n_seq_max)
    assert context.full().slots(n_ctx) == per_sequence * streams
    assert context.sliding(window).slots(n_ctx) == swa * streams


GEMMA = kvcalc.load("gemma-3-27b")


def total(model=GEMMA, tokens: int | None = 32768, sequences: int = 1, **settings) -> int:
    report = kvcalc.size(model, tokens=tokens, sequences=sequences, engine="llama_cpp", engine_settings=settings)
    return report.total_bytes


def test_defaults_are_those_of_library_cli_or_server():
    full, sliding = 10 * 32768 * 8192, 52 * 8192  # 16 heads of 128 in K and V, 2 bytes each
    assert total() == total(defaults="library") == full + sliding * 32768
    assert total(defaults="cli") == full + sliding * 1536
    assert total(defaults="server") == full + sliding * (4 * 1024 + 512)  # 4 slots over one cache
    assert total(defaults="server", n_seq_max=1) == total(defaults="cli")
    assert total(defaults="server", sequences=4) == total(defaults="cli", sequences=4) == full + 4 * sliding * 1536
    assert total(defaults="server", swa_full=True) == total()


@pytest.mark.parametrize("yes", [True, 1, "on", "true", "ON"])
def test_flags_may_be_written_in_any_way(yes):
    assert total(swa_full="off", kv_unified=yes, sequences=2) == total(swa_full=0, kv_unified=True, sequences=2)
    assert total(flash_attn=yes, type_v="q8_0") == total(flash_attn="auto", type_v="q8_0")


def test_the_dtype_holds_for_k_and_v_unless_a_type_is_given():
    def of(dtype: str, **settings) -> int:
        return kvcalc.size(GEMMA, tokens=1024, kv_dtype=dtype, engine="llama_cpp", engine_settings=settings).total_bytes

    assert of("fp16") * 34 == of("q8_0") * 64
    assert of("q8_0", type_k="f16", type_v="f16") == of("bf16")


def test_without_tokens_the_context_is_the_models_own():
    tiny = kvcalc.load(TINY)
    assert total(tiny, None) == total(tiny, 4096) == 4096 * 2 * (16 + 16) * (2 + 1)
    report = kvcalc.size(tiny, tokens=None, engine="llama_cpp")
    assert report.tokens == 4096


def test_one_context_is_reported_as_one():
    report = kvcalc.size(GEMMA, tokens=8192, sequences=4, engine="llama_cpp")
    assert report.to_dict()["shares_context"] is True
    assert (
        report.heading()
        == "gemma-3-27b, 8,192 tokens for 4 sequences, bf16, llama_cpp (llama-cpp-python 0.3.36) engine"
    )
    assert report.growth == (62 * 8192 * 1024, 1024)
    assert not [line for line in report.summary() if "each sequence" in line.value or line.label == "per sequence"]


def test_settings_in_force_are_reported():
    report = kvcalc.size(GEMMA, tokens=8192, engine="llama_cpp", engine_settings={"defaults": "server"})
    settings = dict(report.engine_settings)
    assert (settings["n_seq_max"], settings["swa_full"], settings["kv_unified"]) == (4, False, True)
    assert report.notes == ("llama-server with 4 slots (n_seq_max, its -np) over one cache",)


@given(st.integers(1, 2**36), st.integers(1, 8), st.booleans(), st.booleans())
def test_what_fits_is_the_inverse_of_what_is_allocated(budget, sequences, unified, full):
    settings = {"kv_unified": unified, "swa_full": full}
    context = Footprint.of(GEMMA, Engine.of("llama_cpp", settings).serving(sequences), dtype_named("f16"))
    most = context.max_tokens(budget)
    assert (0 if not most else total(tokens=most, sequences=sequences, **settings)) <= budget
    assert total(tokens=most + 1, sequences=sequences, **settings) > budget


@pytest.mark.parametrize("name", ["gemma-3-27b", "qwen3-next-80b-a3b", "deepseek-v4-flash"])
@pytest.mark.parametrize(
    "settings", [{}, {"kv_unified": 1, "swa_full": 0}, {"n_rs_seq": 2, "defaults": "cli"}], ids=str
)
def test_a_sweep_is_the_size_at_each_point(name, settings):
    model, tokens, sequences = kvcalc.load(name), np.array([[1], [255], [5000], [131072]]), np.array([1, 2, 3, 7])
    swept = kvcalc.sweep([model], tokens=tokens, sequences=sequences, engine="llama_cpp", engine_settings=settings)
    assert swept[0].tolist() == [
        [total(model, int(n), int(count), **settings) for count in sequences] for (n,) in tokens.tolist()
    ]


def test_a_plan_says_how_many_sequences_can_share_the_context(cli, tmp_path):
    plan = tmp_path / "plan.yaml"
    plan.write_text(
        "deployments:\n  - name: chat\n    model: qwen3-next-80b-a3b\n    tokens: 32K\n    sequences: 2\n"
        "    budget: 1.2GB\n    engine: llama_cpp\n    engine_settings: {defaults: cli}\n"
    )
    (finding,) = json.loads(cli(f"check {plan} --format json").stdout)["findings"]
    model = kvcalc.load("qwen3-next-80b-a3b")
    assert finding["needed_bytes"] == total(model, 32768, 2)
    fits = [count for count in range(1, 257) if total(model, 32768, count) <= 1_200_000_000]
    assert finding["max_sequences"] == max(fits)
    most = finding["max_tokens"]
    assert total(model, most, 2) <= 1_200_000_000 < total(model, most + 1, 2)


LLAMA = kvcalc.load("llama-3-8b")
REFUSED = {
    "a quantised V without flash attention": (
        lambda: total(LLAMA, flash_attn=0, type_v="q8_0"),
        "a quantised V (q8_0) requires flash_attn, which is off",
    ),
    "a head that blocks do not divide": (
        lambda: total(kvcalc.load(TINY), type_k="q8_0"),
        "K of type q8_0 comes in blocks of 32, which do not divide a head of 16",
    ),
    "a row that blocks do not divide": (
        lambda: total(kvcalc.load(TINY), type_k="q8_0", flash_attn="off"),
        "a row of k has 16 elements, which q8_0 cannot store in blocks of 32",
    ),
    "different types for MLA": (
        lambda: total(kvcalc.load("r1"), type_k="q8_0", type_v="f16"),
        "llama.cpp does not support different types of K (q8_0) and V (fp16) for deepseek2",
    ),
    "a type that it does not store": (
        lambda: total(LLAMA, type_k="fp8"),
        "type_k must be one of f32, f16, bf16, q8_0, q4_0, q4_1, iq4_nl, q5_0, q5_1, not 'fp8'",
    ),
    "a dtype that it does not store": (
        lambda: kvcalc.size(LLAMA, tokens=1, kv_dtype="int8", engine="llama_cpp"),
        "kv_dtype must be one of f32, f16, bf16, q8_0, q4_0, q4_1, iq4_nl, q5_0, q5_1, not 'int8'",
    ),
    "a model that it does not run": (
        lambda: total(kvcalc.load("zamba2-7b")),
        "llama.cpp has no architecture for zamba2-7b (model_type zamba2)",
    ),
    "a method": (
        lambda: total(kvcalc.apply_method(LLAMA, "streaming-llm")),
        "llama.cpp does not support the method: with it, all layers of llama-3-8b with StreamingLLM keep other tensors than their own",
    ),
    "a kind of layer in a model that it runs": (
        lambda: total(kvcalc.load({**PRESET, "attention": "mlstm", **MLSTM})),
        "llama.cpp has no mLSTM layers, as all layers of mine are",
    ),
    "a draft model": (
        lambda: total(kvcalc.load({key.replace("llama", "eagle3"): v for key, v in EAGLE.items()})),
        "tiny (eagle3) is a draft model, which shares the context of another model",
    ),
    "ranks": (
        lambda: kvcalc.size(LLAMA, tokens=1, engine="llama_cpp", parallel=kvcalc.Parallel(tp=2)),
        "engine llama_cpp holds one context in one process, so there are no ranks",
    ),
    "too many sequences": (lambda: total(LLAMA, sequences=257), "n_seq_max must be at most 256, not 257"),
    "a batch of fewer tokens than sequences": (
        lambda: total(LLAMA, sequences=8, n_batch=7),
        "n_batch (7) must be at least n_seq_max (8), or llama.cpp aborts",
    ),
    "types that an encoder does not take, though it has no cache": (
        lambda: total(kvcalc.load(BERT), type_v="q8_0"),
        "V of type q8_0 comes in blocks of 32, which do not divide a head of 16",
    ),
    "sequences twice": (
        lambda: total(LLAMA, sequences=2, n_seq_max=3),
        "n_seq_max (3) differs from the number of sequences (2)",
    ),
    "no batch": (lambda: total(LLAMA, n_batch=0, n_ubatch=0), "n_batch and n_ubatch cannot both be zero"),
    "defaults of nobody": (lambda: total(LLAMA, defaults="ollama"), "defaults must be one of library, cli, server"),
    "a flag that is none": (lambda: total(LLAMA, swa_full="maybe"), "swa_full must be on or off, not 'maybe'"),
    "a negative count": (lambda: total(LLAMA, n_rs_seq=-1), "n_rs_seq must be at least 0, not -1"),
    "a misspelt setting": (lambda: total(LLAMA, n_ubach=1), "no setting of the engine llama_cpp is called 'n_ubach'"),
    "no context at all": (
        lambda: total(GEMMA, None),
        "the context of gemma-3-27b is unknown, and no tokens are given",
    ),
}
PRESET = {"name": "mine", "num_layers": 2, "model_type": "llama"}
MLSTM = {"mlstm_num_heads": 2, "mlstm_qk_head_dim": 4, "mlstm_v_head_dim": 4}
EAGLE = {
    **{key: value for key, value in TINY.items() if key != "general.architecture"},
    "general.architecture": "eagle3",
}


BERT = {key.replace("llama", "bert"): value for key, value in TINY.items()} | {"general.architecture": "bert"}


@pytest.mark.parametrize("name", REFUSED)
def test_what_cannot_be_is_refused_with_the_reason(name):
    ask, message = REFUSED[name]
    with pytest.raises(kvcalc.KvcalcError) as error:
        ask()
    assert message in str(error.value)
    assert error.value.help


def test_an_encoder_has_no_cache():
    report = kvcalc.size(kvcalc.load(BERT), tokens=512, engine="llama_cpp")
    assert report.total_bytes == 0
    assert report.notes == ("llama.cpp has no cache for bert: each run processes the whole text",)


def test_windows_that_are_ignored_are_said_to_be():
    report = kvcalc.size(kvcalc.load("mistral-7b-v0.1"), tokens=32768, engine="llama_cpp")
    assert report.total_bytes == 32 * 32768 * 2 * 8 * 128 * 2
    assert "llama.cpp ignores the windows of llama: every layer keeps every token" in report.notes


GEMMA_270M = {
    "general.architecture": "gemma3",
    "gemma3.block_count": 18,
    "gemma3.attention.head_count": 4,
    "gemma3.attention.head_count_kv": 1,
    "gemma3.attention.key_length": 256,
    "gemma3.attention.value_length": 256,
    "gemma3.attention.sliding_window": 512,
}
_LLAMA_CPP = "https://github.com/ggml-org/llama.cpp"
LOGGED = (
    ("deepseek-v4-flash", 131072, {}, ("k",), "32.25 MiB", f"{_LLAMA_CPP}/issues/25468: SWA"),
    ("deepseek-v4-flash", 131072, {}, ("compressed_k",), "692.00 MiB", f"{_LLAMA_CPP}/issues/25468: CSA 672, HCA 20"),
    ("deepseek-v4-flash", 131072, {}, ("index_k",), "168.00 MiB", f"{_LLAMA_CPP}/issues/25468: lightning-indexer"),
    ("glm-5.2", 65536, {"type_k": "q8_0", "type_v": "q8_0"}, ("index_k",), "178.50 MiB", f"{_LLAMA_CPP}/issues/26382"),
    ("qwen3.6-27b", 4096, {"n_seq_max": 3}, ("conv_state",), "16.88 MiB", f"{_LLAMA_CPP}/pull/23792: R"),
    ("qwen3.6-27b", 4096, {"n_seq_max": 3}, ("recurrent_state",), "432.00 MiB", f"{_LLAMA_CPP}/pull/23792: S"),
    (GEMMA_270M, 1024, {"n_seq_max": 3}, ("k", "v"), "27.00 MiB", "https://github.com/unslothai/unsloth/pull/7530"),
    ("llama-3.1-8b", 4096, {}, ("k", "v"), "512.00 MiB", f"{_LLAMA_CPP}/pull/10136"),
    ("llama-3-8b", 1048576, {}, ("k", "v"), "131072.00 MiB", f"{_LLAMA_CPP}/issues/8101: 137438953504 with 32 to align"),
    ("r1", 32768, {}, ("k",), "2196.00 MiB", f"{_LLAMA_CPP}/pull/11446: K^R 244 and c^KV 1952"),
    ("r1", 32768, {"type_k": "q8_0", "type_v": "q8_0"}, ("k",), "1166.62 MiB",
     "https://github.com/ikawrakow/ik_llama.cpp/pull/259"),
)  # fmt: skip
"""What users saw in their logs: model, n_ctx, settings, tensors, their size, and where."""


@pytest.mark.parametrize(("model", "tokens", "settings", "names", "logged", "source"), LOGGED)
def test_what_users_saw_in_their_logs(model, tokens, settings, names, logged, source):
    settings = {"defaults": "cli"} | settings
    report = kvcalc.size(kvcalc.load(model), tokens=tokens, engine="llama_cpp", engine_settings=settings)
    bytes_ = sum(t.bytes for group in report.groups for t in group.tensors if t.name in names)
    assert f"{bytes_ / 2**20:.2f} MiB" == logged, source


def test_the_command_line_needs_no_tokens_where_the_context_is_the_models_own(cli, tmp_path):
    (tmp_path / "tiny.gguf").write_bytes(gguf(TINY))
    outcome = cli(f"size --model {tmp_path}/tiny.gguf --engine llama_cpp --format json")
    assert json.loads(outcome.stdout)["workload"]["tokens"] == 4096
    lengths = json.loads(cli(f"size --model {tmp_path}/tiny.gguf --format json").stdout)
    assert [length["workload"]["tokens"] for length in lengths] == [1024, 4096]


def test_a_policy_that_the_settings_rule_out_is_left_out_and_refuses_nothing():
    """A server opens 4 slots, which a batch of 1 cannot serve: the library's context is sized all the same."""
    report = kvcalc.size(
        kvcalc.load("llama3-8b"), tokens=100, engine="llama_cpp", engine_settings={"n_batch": 1, "n_ubatch": 1}
    )
    assert report.total_bytes == 256 * 131_072
    assert "defaults of the server" not in dict(report.other_policies)


# Versions: rules that were read, worked out by hand --------------------------------------------------------------------

OF_R1 = 61 * 2  # layers and bytes of an element of f16: DeepSeek-R1
OF_GEMMA_LAYER = (
    16 * 128 * 2 * 2
)  # heads of a layer of Gemma 3 27B, K and V, f16: 52 sliding layers of 1,024, and 10 full ones
VERSIONS = {
    "MLA has no V since 2026-01-24": (
        "r1",
        1024,
        {},
        {"2026-01-23": 1024 * 1088 * OF_R1, "2026-01-24": 1024 * 576 * OF_R1},
    ),
    "by builds between known ones": ("r1", 1024, {}, {"b7700": 1024 * 1088 * OF_R1, "b8000": 1024 * 576 * OF_R1}),
    "by copies": ("r1", 1024, {}, {"0.3.16": 1024 * 1088 * OF_R1, "0.3.17": 1024 * 576 * OF_R1}),
    "windows have caches since 2025-05-20, beside a batch": (
        "gemma-3-27b",
        8192,
        {"swa_full": False},
        {
            "2025-05-19": 62 * 8192 * OF_GEMMA_LAYER,
            "2025-05-20": (52 * (1024 + 2048) + 10 * 8192) * OF_GEMMA_LAYER,
            "2025-05-31": (52 * (1024 + 512) + 10 * 8192) * OF_GEMMA_LAYER,
        },
    ),
    "streams since b5913": (
        "gemma-3-27b",
        8192,
        {"swa_full": False, "n_seq_max": 4},
        {
            "b5912": (52 * (4 * 1024 + 512) + 10 * 8192) * OF_GEMMA_LAYER,
            "b5913": (52 * 4 * (1024 + 512) + 10 * 8192) * OF_GEMMA_LAYER,
        },
    ),
    "steps of 32 without flash attention, none, and 256": (
        "qwen3-8b",
        1001,
        {"flash_attn": "off"},
        {
            "2025-08-30": 1024 * 36 * 8 * 128 * 2 * 2,
            "2025-10-28": 1001 * 36 * 8 * 128 * 2 * 2,
            "2025-11-07": 1024 * 36 * 8 * 128 * 2 * 2,
        },
    ),
    "flash attention is off where nobody says until 2025-08-30": (
        "qwen3-8b",
        1025,
        {},
        {"2025-08-29": 1056 * 36 * 8 * 128 * 2 * 2, "2025-08-30": 1280 * 36 * 8 * 128 * 2 * 2},
    ),
    "four slots of a server since 2025-11-02": (
        "gemma-3-27b",
        8192,
        {"defaults": "server"},
        {
            "2025-11-01": (52 * (1024 + 512) + 10 * 8192) * OF_GEMMA_LAYER,
            "2025-11-10": (52 * (4 * 1024 + 512) + 10 * 8192) * OF_GEMMA_LAYER,
        },
    ),
    "layers that guess tokens are not cached since 0.3.17": (
        "glm-4.5",
        256,
        {},
        {"0.3.16": 256 * 93 * 8 * 128 * 2 * 2, "0.3.17": 256 * 92 * 8 * 128 * 2 * 2},
    ),
    "index keys since 0.3.24": (
        "deepseek-v3.2",
        256,
        {},
        {"0.3.20": 256 * 576 * OF_R1, "0.3.24": 256 * (576 + 128) * OF_R1},
    ),
}


def by_version(name: str, tokens: int, version: str, settings: dict) -> kvcalc.Report:
    model = kvcalc.load(name)
    return kvcalc.size(model, tokens=tokens, kv_dtype="fp16", engine=f"llama_cpp@{version}", engine_settings=settings)


@pytest.mark.parametrize(("name", "tokens", "settings", "wanted"), VERSIONS.values(), ids=VERSIONS)
def test_versions_store_what_their_sources_say(name, tokens, settings, wanted):
    assert {version: by_version(name, tokens, version, settings).total_bytes for version in wanted} == wanted


def test_each_stream_of_a_hybrid_had_all_of_the_context_for_a_while():
    once, now = (by_version("jamba-1.5-mini", 1024, version, {"n_seq_max": 2}) for version in ("b6000", "0.3.36"))
    kv = 4 * 8 * 128 * 2 * 2  # layers, heads, head_dim, K and V, f16
    assert once.total_bytes - now.total_bytes == 1024 * kv


def test_what_a_user_sets_comes_before_what_a_version_has():
    assert by_version("qwen3-8b", 1025, "2025-08-29", {"flash_attn": "on"}).total_bytes == 1280 * 36 * 8 * 128 * 2 * 2


def test_a_version_that_was_only_read_says_so():
    read = "the rules of llama.cpp b6000, about 2025-07-25 come from its source, not from measurements"
    assert read in by_version("qwen3-8b", 256, "b6000", {}).notes
    assert by_version("qwen3-8b", 256, "b6000", {}).engine_version == "b6000, about 2025-07-25"
    assert by_version("qwen3-8b", 256, "2025-07-25", {}).engine_version == "2025-07-25"
    measured = by_version("qwen3-8b", 256, "0.3.36", {})
    assert (measured.notes, measured.engine_version) == ((), "llama-cpp-python 0.3.36")


def test_states_beside_attention_are_refused_before_there_was_a_memory_for_both():
    with pytest.raises(kvcalc.NotApplicableError, match="does not yet support states next to attention") as refusal:
        by_version("jamba-1.5-mini", 256, "2025-06-18", {})
    assert refusal.value.help == "use a version from 2025-06-19 or later"
    assert by_version("falcon-mamba-7b", 256, "2025-06-18", {}).total_bytes


def test_days_of_builds_lie_in_proportion_between_those_that_are_known():
    days = {build: str(LlamaCppRelease.day_of(f"b{build}")) for build in (5554, 5555, 5857, 5885, 6496)}
    assert days == {
        **{5554: "2025-05-31", 5555: "2025-05-31", 5857: "2025-07-09", 5885: "2025-07-12", 6496: "2025-09-15"}
    }


@given(
    st.dates(date(2025, 4, 16), date(2026, 8, 24)),
    st.sampled_from(["r1", "gemma-3-27b", "gpt-oss-20b", "nemotron-h-8b", "deepseek-v3.2", "glm-4.5"]),
    st.integers(1, 20_000),
    st.integers(1, 4),
)
def test_on_any_day_more_tokens_take_no_less_and_what_fits_is_the_inverse(day, name, tokens, sequences):
    llama_cpp = Engine.of(f"llama_cpp@{day}", {"swa_full": False}).serving(sequences)
    try:
        footprint = llama_cpp.footprint(kvcalc.load(name), dtype_named("fp16"))
    except kvcalc.NotApplicableError as refusal:
        assert "does not yet support states next to attention" in str(refusal)
        return
    taken = footprint.bytes(tokens)
    assert taken <= footprint.bytes(tokens + 1)
    most = footprint.max_tokens(taken)
    assert most is not None
    assert footprint.bytes(most) <= taken < footprint.bytes(most + 1)
