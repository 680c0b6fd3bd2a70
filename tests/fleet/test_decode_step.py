"""What a decode step reads: figures that others measured, numbers by hand, and laws over models, layouts and batches."""

from __future__ import annotations

from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

import kvcalc
from kvcalc.answers.size import sized
from kvcalc.errors import InvalidValueError, NotApplicableError
from kvcalc.fleet.routing import Routing
from kvcalc.question import Question
from kvcalc.report.decode import DecodeReport

DENSE = ("llama-3.1-8b", "gemma-3-27b", "qwen3.5-27b", "falcon-mamba-7b")
ROUTED = ("r1", "qwen3-30b-a3b", "gpt-oss-20b", "mixtral-8x7b", "longcat-flash", "dbrx")
INDEXED = ("deepseek-v3.2", "glm-5.2", "deepseek-v4-flash", "minimax-m3", "deepseek-v4.1")


def read_of(report: DecodeReport) -> dict[tuple[str, str], int]:
    return {(row.group, row.tensor): row.read_bytes for row in report.cache}


def test_gpt_fast_reads_as_much_for_a_token_of_llama_2_7b():
    """gpt-fast's README (0f925b5d): 104.9 tokens/s at 1397.31 GB/s; 5 tokens of prompt and 200 more fill 208 slots.

    It counts what is counted here, and a mask and rotary tables beside it: half a MB.
    """
    report = kvcalc.decode("llama-2-7b", tokens=208)
    assert report.step_bytes / 10**9 == pytest.approx(1397.31 / 104.9, rel=5e-4)
    assert (
        report.weights_bytes == 2 * (6_738_415_616 - 32_000 * 4096) + 2 * 4096
    )  # all but the embedding, of which a row
    assert report.cache_bytes == 32 * 2 * 4096 * 2 * 208


def test_a_floor_is_bytes_by_bandwidth():
    report = kvcalc.decode("llama-3.1-8b", tokens="32K", batch=16, gpu="h100")
    assert report.cache_bytes == 16 * 2**32
    assert report.seconds == Fraction(report.step_bytes, 3_350 * 10**9)


def test_an_indexer_reads_its_keys_and_what_it_chooses():
    """DeepSeek-V3.2: 61 layers, of 131,072 tokens 2,048 latents of 576, and all keys of 128."""
    report = kvcalc.decode("deepseek-v3.2", tokens="128K", dtype="fp8")
    assert report.cache_bytes == 61 * (2048 * 576 + 131_072 * 128)
    assert report.held_bytes == 61 * 131_072 * (576 + 128)


def test_a_layer_that_shares_an_index_reads_what_it_chose():
    """GLM-5.2: 78 layers read 2,048 latents, and 21 of them keys."""
    report = kvcalc.decode("glm-5.2", tokens="128K", dtype="fp8")
    assert report.cache_bytes == 78 * 2048 * 576 + 21 * 131_072 * 128


def test_blocks_that_an_indexer_chooses():
    """MiniMax-M3: 57 layers read 16 blocks of 128 tokens, 3 read all; 4 KV heads of 128, keys of 128."""
    token = 2 * 4 * 128 * 2
    assert (
        kvcalc.decode("minimax-m3", tokens="128K").cache_bytes
        == 57 * (2048 * token + 131_072 * 128 * 2) + 3 * 131_072 * token
    )


def test_compressed_entries_of_deepseek_v4():
    """CSA: a window of 128, 512 of the 32,768 entries, all of their keys; HCA: the window and all 1,024 entries."""
    report = kvcalc.decode("deepseek-v4-flash", tokens="128K", dtype="fp8")
    csa, hca = 128 * 512 + 512 * 512 + 32_768 * 128, 128 * 512 + 1024 * 512
    assert report.cache_bytes == 21 * csa + 20 * hca + 2 * 128 * 512


def test_nothing_is_guessed_of_what_is_chosen():
    with pytest.raises(NotApplicableError, match=r"the number of tokens that the indexer of indexed layers"):
        kvcalc.decode("glm-5.3-flash", tokens="8K")
    with pytest.raises(InvalidValueError, match=r"ep \(16\) is more than the 8 routed experts"):
        kvcalc.decode("mixtral-8x7b", tokens=8, tp=8, dp=2, ep=16)


@pytest.mark.parametrize("weights", [None, "1GB"])
def test_weights_whose_tensors_are_not_known_are_not_counted(weights):
    config = {"model_type": "gpt_neox", "num_hidden_layers": 2, "hidden_size": 64, "num_attention_heads": 4}
    report = kvcalc.decode(config, tokens=8, weights=weights)
    assert report.step_bytes == report.cache_bytes == 2 * 2 * 64 * 2 * 8
    assert report.costs_more_from is None
    assert [note for note in report.notes if "are not counted" in note]


def test_quest_reads_an_eighth():
    """Quest, section 3.4: of 64K tokens, with pages of 16 and a budget of 4K, 1/16 + 4K/64K = 1/8 is read."""
    whole = kvcalc.decode("llama-2-7b", tokens="64K")
    paged = kvcalc.decode("llama-2-7b", tokens="64K", quest="4096,full_layers=0")
    assert paged.cache_bytes * 8 == whole.cache_bytes
    first = kvcalc.decode("llama-2-7b", tokens="64K", quest="token_budget=4K,page_size=16")
    assert first.cache_bytes == whole.cache_bytes * 2 // 32 + paged.cache_bytes * 30 // 32
    assert kvcalc.decode("llama-2-7b", tokens="64K", pp=2, quest="4096").cache_bytes == first.cache_bytes


@given(st.sampled_from(("llama-3.1-8b", "gemma-3-27b")), st.integers(1, 100_000), st.integers(1, 5000))
def test_quest_reads_no_more_than_pages_and_budget(name, tokens, budget):
    whole, paged = (kvcalc.decode(name, tokens=tokens, quest=quest) for quest in (None, str(budget)))
    keys = sum(row.read_bytes for row in paged.cache if row.tensor == "keys of pages")
    assert paged.cache_bytes - keys <= whole.cache_bytes
    assert (paged.cache_bytes - keys == whole.cache_bytes) is (tokens <= budget)


def test_quest_chooses_among_keys():
    with pytest.raises(NotApplicableError, match="no layer of deepseek-r1 caches K and V of every token"):
        kvcalc.decode("r1", tokens=8, quest="1024")


@pytest.mark.parametrize("spec", ["pages=2", "page_size=16", "token_budget=x", "1,token_budget=2"])
def test_other_parameters_are_none_of_quest(spec):
    with pytest.raises(InvalidValueError):
        kvcalc.decode("llama-2-7b", tokens=8, quest=spec)


def test_a_config_says_what_its_indexer_chooses():
    config = kvcalc.load({"model_type": "deepseek_v32", "num_hidden_layers": 2, "index_topk": 64})
    assert config.published.index_topk == 64


EXPECTED = {
    (8, 2, 1): Fraction(2),
    (8, 2, 2): Fraction(7, 2),  # 8 x (1 - 9/16)
    (128, 8, 2): Fraction(128) * (1 - Fraction(15, 16) ** 2),
    (4, 4, 3): Fraction(4),
}


@pytest.mark.parametrize("case", EXPECTED)
def test_experts_that_tokens_are_expected_to_choose(case):
    number, per_token, tokens = case
    found = Routing(number, per_token, number).expected(tokens) * number
    assert abs(found - EXPECTED[case]) < Fraction(1, 2**100)


def test_experts_that_do_nothing_are_not_read():
    """LongCat-Flash: 12 of 768, of which 256 pass their input on."""
    routing = Routing(512, 12, 768)
    assert routing.least() == 0
    assert abs(routing.expected(1) * 512 - 8) < Fraction(1, 2**100)


@given(st.integers(1, 512), st.integers(1, 16), st.integers(1, 10**6), st.integers(1, 10**6))
def test_more_tokens_never_choose_fewer_experts(number, per_token, tokens, more):
    routing = Routing(number, min(per_token, number), number)
    few, many = routing.expected(tokens), routing.expected(tokens + more)
    assert 0 < few <= many + Fraction(1, 2**90)
    assert many <= 1
    assert routing.least() <= few + Fraction(1, 2**100)


@given(st.sampled_from(DENSE + ROUTED + INDEXED), st.integers(1, 200_000), st.integers(1, 300))
def test_nothing_is_read_that_is_not_held(name, tokens, batch):
    report = kvcalc.decode(name, tokens=tokens, batch=batch)
    held = sized(Question.of(kvcalc.load(name), tokens=tokens, sequences=batch)).total_bytes
    assert report.cache_bytes <= report.held_bytes == held
    if name in DENSE + ROUTED:
        assert report.cache_bytes == held
    for part in report.weights:
        assert part.least_bytes <= part.expected_bytes <= part.held_bytes
    assert report.step_bytes <= report.expected_step_bytes
    longer = kvcalc.decode(name, tokens=tokens + 4096, batch=batch)
    more = kvcalc.decode(name, tokens=tokens, batch=batch + 1)
    assert report.cache_bytes <= longer.cache_bytes
    assert report.cache_bytes * (batch + 1) == more.cache_bytes * batch
    assert report.expected_weights_bytes <= more.expected_weights_bytes


@given(st.integers(1024, 100_000), st.integers(1, 100_000))
def test_a_window_is_read_to_its_end_and_no_further(tokens, more):
    short, long = (read_of(kvcalc.decode("gemma-3-27b", tokens=t)) for t in (tokens, tokens + more))
    assert short["sliding", "k"] == long["sliding", "k"] == 52 * 16 * 128 * 2 * 1024
    assert short["full", "k"] < long["full", "k"]


@given(st.sampled_from(("llama-3.1-8b", "r1", "deepseek-v3.2", "qwen3-30b-a3b")), st.integers(1, 64))
def test_the_crossover_is_where_the_cache_overtakes(name, batch):
    start = kvcalc.decode(name, tokens=1, batch=batch).costs_more_from
    assert start is not None
    before, there = (kvcalc.decode(name, tokens=tokens, batch=batch) for tokens in (start - 1 or 1, start))
    assert there.cache_bytes > there.expected_weights_bytes
    assert start == 1 or before.cache_bytes <= before.expected_weights_bytes


def test_windows_alone_never_overtake():
    assert kvcalc.decode("falcon-mamba-7b", tokens=1).costs_more_from is None


@given(st.sampled_from((1, 2, 4, 8)), st.sampled_from((1, 2, 4)), st.integers(1, 50_000))
def test_ranks_share_what_divides(tp, pp, tokens):
    """llama-3.1-8b has 8 KV heads and 32 layers; norms are copied."""
    whole = kvcalc.decode("llama-3.1-8b", tokens=tokens)
    shared = kvcalc.decode("llama-3.1-8b", tokens=tokens, tp=tp, pp=pp)
    assert shared.cache_bytes * tp == whole.cache_bytes
    norms = {part.part: part.least_bytes for part in whole.weights}["norm"]
    assert abs(shared.weights_bytes - (whole.weights_bytes - norms) / tp - norms) < 10


def test_every_rank_reads_the_whole_latent():
    whole, shared = (kvcalc.decode("r1", tokens="8K", tp=tp) for tp in (1, 8))
    assert whole.cache_bytes == shared.cache_bytes


def test_replicas_that_share_experts_choose_together():
    apart = kvcalc.decode("r1", tokens="8K", batch=64, tp=1, dp=8, ep=8)
    alone = kvcalc.decode("r1", tokens="8K", batch=8)
    assert apart.experts is not None
    assert alone.experts is not None
    assert (apart.experts.tokens, apart.experts.on_gpu, alone.experts.tokens) == (64, 32, 8)
    assert apart.experts.least == 1
    assert apart.cache_bytes == alone.cache_bytes


def test_layers_that_share_a_cache_read_it_again():
    """Gemma 4 E2B: of 28 sliding layers 12 cache 512 tokens of 1 head of 256, of 7 full ones 3 cache heads of 512."""
    report = kvcalc.decode("gemma-4-e2b", tokens=8192)
    assert report.cache_bytes == 2 * 2 * (28 * 512 * 256 + 7 * 8192 * 512)
    assert report.held_bytes == 2 * 2 * (12 * 512 * 256 + 3 * 8192 * 512)
    assert kvcalc.decode("gemma-4-e2b", tokens=8192, pp=7).cache_bytes == report.cache_bytes


def test_sharing_among_layers_saves_memory_and_no_reads():
    whole = kvcalc.decode("llama-3.1-8b", tokens=4096)
    shared = kvcalc.decode("llama-3.1-8b", tokens=4096, attention="cla:sharing_factor=2")
    assert (shared.cache_bytes, shared.held_bytes * 2) == (whole.cache_bytes, whole.held_bytes)


def test_a_cache_for_half_of_the_layers_is_read_by_each():
    """YOCO-3B: 13 layers have a state each, and 13 read one cache of 8 heads of 128."""
    read = read_of(kvcalc.decode("yoco-3b", tokens=1000))
    cache = 2 * 1000 * 8 * 128 * 2
    assert read["global", "k"] + read["global", "v"] == cache
    assert read["cross", "k of global"] + read["cross", "v of global"] == 12 * cache


@pytest.mark.parametrize("engine", ["vllm", "sglang"])
def test_sparse_attention_reads_rows_as_the_engine_stores_them(engine):
    """DeepSeek-V4-Flash: entries of 584 bytes (448 fp8, 64 bf16, 8 of scales), index keys of 128 fp8 and a float32.

    vLLM 0.33 models/deepseek_v4 and SGLang mem_cache/deepseek_v4_memory_pool.py pad pages; padding is not read.
    """
    report = kvcalc.decode("deepseek-v4-flash", tokens="128K", engine=engine, gpu="h200")
    csa, hca = (128 + 512) * 584 + 32_768 * 132, (128 + 1024) * 584
    assert report.cache_bytes == 21 * csa + 20 * hca + 2 * 128 * 584
    assert report.cache_bytes < report.held_bytes


def test_latents_in_fp8_are_read_with_their_scales():
    """fp8_ds_mla of vLLM: 512 fp8, 4 scales in float32 and 64 in bf16 are 656 bytes; index keys 132."""
    report = kvcalc.decode("deepseek-v3.2", tokens="128K", dtype="fp8", engine="vllm", gpu="h200", tp=8)
    assert report.cache_bytes == 61 * (2048 * 656 + 131_072 * 132)


def test_ranks_hold_heads_as_the_engine_shares_them():
    """vLLM: with 16 ranks each of 8 KV heads is there twice. SGLang: 3 ranks of 8 heads hold 2 each."""
    whole = kvcalc.decode("llama-3.1-8b", tokens=4096, engine="vllm").cache_bytes
    assert kvcalc.decode("llama-3.1-8b", tokens=4096, engine="vllm", tp=16).cache_bytes * 8 == whole
    assert whole == 4096 * 131_072


def test_what_an_engine_let_go_is_not_read():
    """LMDeploy keeps one table for all layers of Gemma 2, so that full ones see what the sliding ones' blocks hold."""
    report = kvcalc.decode("gemma-2-2b", tokens=5000, engine="lmdeploy")
    assert read_of(report)["full", "k"] == 13 * 4160 * 4 * 256 * 2 <= report.held_bytes


def test_tables_beside_the_logits_are_read_by_rows():
    """Gemma 4 E2B: tied logits 262,144 x 1,536 and a projection 8,960 x 1,536 whole, of 262,144 x 8,960 one row."""
    report = kvcalc.decode("gemma-4-e2b", tokens=8)
    embedding = next(part for part in report.weights if part.part == "embedding")
    assert abs(embedding.least_bytes - 2 * (1536 * (262_144 + 8_960) + 8_960)) <= 1


@given(
    st.sampled_from(("vllm", "sglang", "lmdeploy", "tensorrt_llm", "transformers", "mlx_lm")),
    st.sampled_from(("llama-3.1-8b", "gemma-3-27b", "r1", "qwen3-next-80b-a3b", "gpt-oss-20b", "gemma-2-9b")),
    st.integers(1, 50_000),
    st.integers(1, 5),
)
def test_no_engine_reads_what_it_does_not_hold(engine, name, tokens, batch):
    try:
        report = kvcalc.decode(name, tokens=tokens, batch=batch, engine=engine)
    except NotApplicableError:
        return
    assert 0 < report.cache_bytes <= report.held_bytes
    assert report.cache_bytes == batch * kvcalc.decode(name, tokens=tokens, engine=engine).cache_bytes


REFUSED = {
    "pages that no kernel chooses": (
        {"engine": "vllm", "quest": "1024"},
        "no kernel of vLLM chooses pages as Quest does",
    ),
    "ranks of one process": ({"engine": "llama_cpp", "tp": 2}, "holds one context in one process"),
    "experts": ({"engine": "llama_cpp", "dp": 2, "ep": 2}, "share no experts"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_what_an_engine_does_not_do_is_refused(case):
    asked, words = REFUSED[case]
    with pytest.raises(NotApplicableError, match=words):
        kvcalc.decode("llama-3.1-8b", tokens=4096, **asked)
