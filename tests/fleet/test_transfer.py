"""What prefill sends to decode: numbers worked out elsewhere, and laws over models and layouts."""

from __future__ import annotations

from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kvcalc.answers.size import sized
from kvcalc.errors import InvalidValueError, KvcalcError, NotApplicableError
from kvcalc.fleet.transfer import transfer
from kvcalc.io.loading import load
from kvcalc.io.presets import load_preset
from kvcalc.parallel import Parallel
from kvcalc.question import Question
from kvcalc.units import parse_rate


def asked(preset: str, tokens: int, engine: str = "ideal", kv_dtype: str = "bf16") -> Question:
    return Question.of(load_preset(preset), tokens=tokens, kv_dtype=kv_dtype, engine=engine)


def test_a_latent_in_fp8_goes_whole_to_each_decode_rank():
    """Kimi-K2.5 in fp8 at 8,150 tokens: 61 layers x (512 + 64) x 1 byte x 8,150 = 286,358,400 bytes."""
    report = transfer(asked("kimi-k2.5", 8150, kv_dtype="fp8"), prefill=Parallel(4), decode=Parallel(8))
    assert report.request_bytes == report.staged_bytes == 286_358_400
    assert report.sent_bytes == 8 * 286_358_400
    assert [(pair.prefill_rank, pair.decode_rank) for pair in report.pairs] == [(rank % 4, rank) for rank in range(8)]


def test_heads_go_to_whoever_holds_them():
    """llama-3.1-70b has 8 KV heads: 2 ranks of 4 heads each send 4 ranks 2 heads each."""
    report = transfer(asked("llama-3.1-70b", 1000), prefill=Parallel(2), decode=Parallel(4))
    two_heads = 80 * 2 * 2 * 128 * 2 * 1000  # layers, K and V, heads, head_dim, bytes, tokens
    assert list(report.pairs) == [(0, 0, two_heads), (0, 1, two_heads), (1, 2, two_heads), (1, 3, two_heads)]
    assert report.busiest_bytes == 2 * two_heads


def test_a_link_takes_its_time():
    report = transfer(
        asked("llama-3.1-8b", 8192),
        prefill=Parallel(),
        decode=Parallel(),
        link_bytes_per_second=parse_rate("400Gb/s", "link"),
        in_flight=3,
    )
    assert report.request_bytes == 2**30
    assert report.seconds * 50 * 10**9 == 2**30
    assert report.prefill_tokens_per_second == 8192 * 50 * 10**9 // 2**30
    assert report.staged_bytes == 3 * 2**30


def test_whole_blocks_are_sent_where_the_engine_stores_in_blocks():
    report = transfer(asked("llama-3.1-8b", 8150, "vllm"), prefill=Parallel(2), decode=Parallel(1))
    assert report.request_bytes == -(-8150 // 16) * 16 * 131_072


def test_a_request_of_opt_66b_as_distserve_counts_it():
    """DistServe (OSDI 2024, section 3.3): 512 tokens of OPT-66B take 1.13 GB, which is 1.125 x 2^30 bytes."""
    config = {"model_type": "opt", "num_hidden_layers": 64, "hidden_size": 9216, "num_attention_heads": 72}
    report = transfer(
        Question.of(load({**config, "max_position_embeddings": 2048}), tokens=512),
        prefill=Parallel(),
        decode=Parallel(),
        link_bytes_per_second=parse_rate("90Gb/s", "link"),
    )
    assert report.request_bytes == 9 * 2**27
    assert report.seconds == Fraction(9 * 2**27 * 8, 90 * 10**9)


def test_what_an_engine_holds_of_windows_is_told_from_what_is_sent():
    whole = transfer(asked("gemma-3-27b", 32_768, "vllm"), prefill=Parallel(), decode=Parallel())
    least = transfer(asked("gemma-3-27b", 32_768), prefill=Parallel(), decode=Parallel())
    (note,) = [note for note in whole.notes if "windows" in note]
    assert f"{least.request_bytes:,}" in note
    full = transfer(asked("llama-3.1-8b", 32_768, "vllm"), prefill=Parallel(), decode=Parallel())
    assert not [note for note in full.notes if "windows" in note]


@given(
    st.sampled_from(["r1", "llama-3.1-70b", "gemma-3-27b", "qwen3-30b-a3b", "gpt-oss-20b"]),
    st.tuples(st.sampled_from([1, 2, 4, 8, 16]), st.sampled_from([1, 2])),
    st.tuples(st.sampled_from([1, 2, 4, 8, 16]), st.sampled_from([1, 2])),
    st.integers(1, 10_000),
    st.sampled_from(["ideal", "vllm"]),
)
def test_every_decode_rank_gets_what_it_holds(preset, prefill, decode, tokens, engine):
    question = asked(preset, tokens, engine)
    try:
        ranks = sized(question._replace(parallel=Parallel(*decode))).per_rank
        report = transfer(question, prefill=Parallel(*prefill), decode=Parallel(*decode))
    except KvcalcError:
        return
    received = dict.fromkeys(range(len(ranks)), 0)
    for pair in report.pairs:
        received[pair.decode_rank] += pair.bytes
    assert received == {rank.rank: rank.bytes for rank in ranks}
    assert report.sent_bytes >= report.request_bytes


def test_what_cannot_be_sent_is_explained():
    with pytest.raises(NotApplicableError, match=r"decode context parallelism \(dcp 2\)"):
        transfer(asked("r1", 8), prefill=Parallel(tp=2, dcp=2), decode=Parallel())


RATES = {
    "400Gb/s": 50 * 10**9,
    "400Gbps": 50 * 10**9,
    "50GB/s": 50 * 10**9,
    "1.5 GiB/s": 3 * 2**29,
    "10Mbit/s": 1_250_000,
}


@pytest.mark.parametrize("text", RATES)
def test_a_rate_is_bits_or_bytes(text):
    assert parse_rate(text, "link") == RATES[text]


@pytest.mark.parametrize("text", ["400G", "400", "400Gb", "0Gb/s", "fast", "1b/s", "-1GB/s", "400 parsecs/s"])
def test_anything_else_is_no_rate(text):
    with pytest.raises(InvalidValueError, match="link must be a rate"):
        parse_rate(text, "link")
