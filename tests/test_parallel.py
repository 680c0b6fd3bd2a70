"""Ranks that share a model: what each holds, in published numbers and in laws over every kind; uneven layouts."""

from __future__ import annotations

import json
from dataclasses import fields

import pytest
from hypothesis import given
from hypothesis import strategies as st
from strategies import dtypes, models, sequences, tokens

import kvcalc
from kvcalc.attention import KINDS, kind_named
from kvcalc.engines import Engine
from kvcalc.model import LayerGroup, Model
from kvcalc.parallel import MAX_RANKS, Parallel, can_shard, rank_models

KIB = 1024


def ranks_of(name: str, tokens: int = 1, **question):
    layout = {field: question.pop(field) for field in ("tp", "pp", "dp") if field in question}
    return kvcalc.size(kvcalc.load(name), tokens=tokens, parallel=Parallel(**layout), **question)


@pytest.mark.parametrize(
    ("tp", "kv_heads", "copies"),
    [
        (1, 8, 1),
        (2, 4, 1),
        (8, 1, 1),
        (16, 1, 2),  # vLLM, get_num_kv_heads: max(1, total_num_kv_heads // tensor_parallel_size)
        (64, 1, 8),
    ],
)
def test_llama_3_70b_splits_its_8_kv_heads_and_copies_them_beyond(tp, kv_heads, copies):
    """320 KiB a token in all: 80 layers x 8 KV heads x 128 x K and V x 2 bytes."""
    report = ranks_of("llama-3-70b", tp=tp)
    assert [rank.bytes for rank in report.per_rank] == tp * [kv_heads * 320 * KIB // 8]
    assert report.rank_bytes_sum == copies * 320 * KIB
    assert dict(report.per_rank[0].groups[0].tensors[0].dims) == {"num_kv_heads": kv_heads, "head_dim": 128}


@pytest.mark.parametrize("tp", [2, 8, 16])
def test_every_rank_holds_the_whole_latent(tp):
    """DeepSeek-R1, 70,272 bytes a token whatever the ranks: the latent has no heads to split."""
    report = ranks_of("r1", tp=tp)
    assert {rank.bytes for rank in report.per_rank} == {report.total_bytes} == {70_272}
    assert report.rank_bytes_sum == tp * 70_272


def test_expanded_latents_are_split():
    report = kvcalc.size(kvcalc.apply_method(kvcalc.load("r1"), "mla-naive"), tokens=10, parallel=Parallel(tp=8))
    assert report.rank_bytes_sum == report.total_bytes


def test_stages_share_the_layers_and_replicas_the_sequences():
    report = ranks_of("gpt-oss-20b", 8192, tp=2, pp=4, dp=3, sequences=6)
    places = [(r.rank, r.dp_rank, r.pp_rank, r.tp_rank, r.layers, r.sequences) for r in report.per_rank]
    assert places[:4] == [
        (0, 0, 0, 0, (0, 5), 2),
        (1, 0, 0, 1, (0, 5), 2),
        (2, 0, 1, 0, (6, 11), 2),
        (3, 0, 1, 1, (6, 11), 2),
    ]
    assert places[-1] == (23, 2, 3, 1, (18, 23), 2)
    assert report.rank_bytes_sum == report.total_bytes
    assert [group.layers for group in report.per_rank[2].groups] == [(6, 8, 10), (7, 9, 11)]


def test_a_stage_may_lack_a_group():
    report = ranks_of("gpt-oss-20b", 8192, pp=24)
    assert [group.name for group in report.per_rank[0].groups] == ["sliding"]
    assert [rank.bytes for rank in report.per_rank[:2]] == [2 * 128 * 1024, 2 * 8192 * 1024]
    assert "at least" in " ".join(line.value for line in report.summary())


# Engines that share what does not divide ------------------------------------------------------------------------------

PHI_4_HEAD = 40 * 128 * 2 * 2
"""Bytes of a token in one of Phi-4's 10 KV heads: 40 layers, K and V of 128 in bf16; 40 query heads."""


@pytest.mark.parametrize(
    ("engine", "tp", "heads"),
    [
        ("sglang", 4, 2),  # max(1, 10 // 4), model_config.py get_num_kv_heads
        ("sglang", 8, 1),
        ("sglang", 20, 1),
        ("tensorrt_llm", 4, 3),  # (10 + 4 - 1) // 4, resource_manager.py KVCacheManager
        ("tensorrt_llm", 8, 2),
        ("tensorrt_llm", 20, 1),
    ],
)
def test_engines_round_kv_heads_that_ranks_do_not_divide(engine, tp, heads):
    report = ranks_of("phi-4", 64, tp=tp, engine=engine)
    assert [rank.bytes for rank in report.per_rank] == tp * [heads * 64 * PHI_4_HEAD]
    assert dict(report.per_rank[0].groups[0].tensors[0].dims)["num_kv_heads"] == heads
    rounded = tp % 10 != 0
    assert any(f"num_kv_heads (10) do not divide among {tp} ranks" in note for note in report.notes) == rounded
    words = "more" if heads * tp > 10 else "less"
    assert any(line.value.endswith(f", {words} of k, v") for line in report.summary()) == rounded
    fitted = kvcalc.fit(kvcalc.load("phi-4"), engine=engine, available_bytes=2**33, parallel=Parallel(tp=tp))
    page = {"sglang": 1, "tensorrt_llm": 32}[engine]
    assert fitted.tokens == 2**33 // (heads * PHI_4_HEAD) // page * page
    assert any("do not divide" in note for note in fitted.notes) == rounded


def test_engines_give_layers_left_over_to_other_stages():
    """61 layers on 8 stages: 5 of 8 layers and 3 of 7. TensorRT-LLM has the larger first, SGLang last."""
    first, last = (
        [rank.layers[1] - rank.layers[0] + 1 for rank in ranks_of("r1", 1, pp=8, engine=engine).per_rank]
        for engine in ("tensorrt_llm", "sglang")
    )
    assert first == [8, 8, 8, 8, 8, 7, 7, 7]
    assert last == first[::-1]


@given(models(), st.sampled_from(["sglang", "tensorrt_llm"]), st.integers(1, 12), st.integers(1, 5))
def test_rounded_shares_lie_around_the_even_one(model, engine, tp, pp):
    """A rank's heads are less than one away from their tp-th part; stages have all layers, in order."""
    sharing = Engine.of(engine).sharing
    try:
        ranks = rank_models(model, Parallel(tp=tp, pp=pp), sharing)
    except kvcalc.InvalidValueError as refusal:
        assert refusal.help
        return
    stages = ranks[::tp]
    layers = [layer + rank.first_layer for rank in stages for layer in range(rank.model.num_layers)]
    assert layers == list(range(model.num_layers))
    assert max(rank.model.num_layers for rank in stages) - min(rank.model.num_layers for rank in stages) <= 1
    for group in model.groups:
        for part in group.parts:
            for name in part.ROUNDED:
                whole, own = part.shared_facts[name], part.shard(tp, sharing.kv_heads).shared_facts[name]
                assert own == 1 or abs(own * tp - whole) < tp


WHOLE_ON_EVERY_RANK = {
    "cca": set(),
    "compressed": {"kv", "compressed_kv", "index_k", "pending", "overlap"},
    "cross": set(),
    "gated-deltanet": set(),
    "gated-retention": set(),
    "gla": {"k_rope"},
    "gqa": set(),
    "gta": set(),  # as released, with a rotary key for each query head
    "hidden": {"hidden"},
    "indexer": {"index_k", "index_gate", "index_mask"},
    "kda": set(),
    "lightning": set(),
    "mamba": set(),
    "mamba2": set(),
    "mfa-kr": {"k"},
    "mla": {"c_kv", "k_rope"},
    "mla-naive": set(),
    "mlstm": set(),
    "ngram-conv": {"ngram_conv_state"},
    "none": set(),
    "prefix": set(),
    "region-summary": {"summary", "open_region"},
    "rg-lru": set(),
    "rwkv": {"shift_state"},
    "short-conv": set(),
    "tpa": {"b_k", "b_v"},
    "wkv": {"shift_state"},
}
"""Tensors shared by all heads, so that every rank needs all of it."""


def some_of(kind):
    """A part whose facts are all 24."""
    facts = {field.name: 24 for field in fields(kind) if "dtype" not in field.name}
    facts |= dict.fromkeys({"attention_chunk_size", "reference_window"} & facts.keys())
    return kind(**facts | dict.fromkeys(kind.FLAGS, True))


@pytest.mark.parametrize("tp", [2, 3, 8])
@pytest.mark.parametrize("name", KINDS.names())
def test_every_kind_says_what_ranks_split(name, tp):
    """A new kind is not there before somebody thought of it."""
    whole = some_of(kind_named(name))
    for tensor, own in zip(whole.tensors(), whole.shard(tp).tensors(), strict=True):
        ranks = 1 if tensor.name in WHOLE_ON_EVERY_RANK[name] else tp
        assert own.elements_per_slot * ranks == tensor.elements_per_slot, tensor.name
        assert own.slot_rule == tensor.slot_rule


@pytest.mark.parametrize("name", KINDS.names())
def test_heads_and_groups_are_copied_where_ranks_outnumber_them(name):
    kind = kind_named(name)
    few = some_of(kind)
    for field in kind.SPLIT_OR_COPIED:
        object.__setattr__(few, field, 2)
    shard = few.shard(8)
    assert [getattr(shard, field) for field in kind.SPLIT_OR_COPIED] == [1] * len(kind.SPLIT_OR_COPIED)
    assert few.copies(8) == bool(kind.SPLIT_OR_COPIED)
    assert not few.copies(2)


@st.composite
def layouts(draw):
    """A model, a layout that it can have, and sequences that divide."""
    model = draw(models())
    tps = [tp for tp in range(1, 17) if can_shard(model, tp)]
    pps = [pp for pp in range(1, model.num_layers + 1) if model.num_layers % pp == 0]
    layout = Parallel(draw(st.sampled_from(tps)), draw(st.sampled_from(pps)), draw(st.integers(1, 4)))
    return model, layout, layout.dp * draw(sequences)


@given(layouts(), tokens, dtypes)
def test_ranks_sum_to_at_least_the_whole_hold_at_most_it_and_are_models_as_any_other(layout, n, dtype):
    """And they sum to the whole just where nothing is on two of them, where no element shares its byte."""
    model, parallel, batch = layout
    report = kvcalc.size(model, tokens=n, sequences=batch, kv_dtype=dtype, parallel=parallel)
    check_sums(report, model, parallel)
    check_duplicates(kvcalc.size(model, tokens=n, sequences=batch, parallel=parallel), model, parallel)
    for rank, own in zip(report.per_rank, rank_models(model, parallel), strict=True):
        alone = kvcalc.size(own.model, tokens=n, sequences=batch // parallel.dp, kv_dtype=dtype)
        assert rank.bytes == alone.total_bytes
        assert rank.layers == (own.first_layer, own.first_layer + own.model.num_layers - 1)


def check_sums(report, model, parallel):
    assert len(report.per_rank) == parallel.num_ranks
    assert report.rank_bytes_sum >= report.total_bytes
    assert all(rank.bytes <= report.total_bytes for rank in report.per_rank)
    stages = report.per_rank[: parallel.tp * parallel.pp : parallel.tp]
    assert [r.layers[0] for r in stages[1:]] == [r.layers[1] + 1 for r in stages[:-1]]
    assert (stages[0].layers[0], stages[-1].layers[1]) == (0, model.num_layers - 1)


def check_duplicates(report, model, parallel):
    split = all(
        tensor.elements_per_slot == parallel.tp * own.elements_per_slot
        for group in model.groups
        for part in group.parts
        for tensor, own in zip(part.tensors(), part.shard(parallel.tp).tensors(), strict=True)
    )
    assert (report.rank_bytes_sum == report.total_bytes) == split
    assert any(line.label == "all ranks" for line in report.summary()) != split


@given(models(), tokens)
def test_one_rank_holds_the_model_itself(model, n):
    (only,) = rank_models(model, Parallel())
    assert only.model.groups == model.groups
    report = kvcalc.size(model, tokens=n, parallel=Parallel())
    assert [rank.bytes for rank in report.per_rank] == [report.total_bytes] == [report.rank_bytes_sum]
    assert report._replace(per_rank=(), parallel="") == kvcalc.size(model, tokens=n)


def test_what_a_method_changed_in_tensors_is_shared_too():
    """The slots and the format stay the method's; the heads are the rank's."""
    group = kvcalc.load("llama-3-70b").groups[0]
    narrow = tuple(tensor._replace(dtype=kvcalc.cache.dtypes.dtype_named("fp8")) for tensor in group.tensors)
    changed = Model("changed", (LayerGroup("all", (0,), group.parts, narrow),))
    report = kvcalc.size(changed, tokens=10, parallel=Parallel(tp=8))
    assert (report.total_bytes, report.per_rank[0].bytes) == (8 * 128 * 2 * 10, 128 * 2 * 10)


UNEVEN = {
    "query heads": (
        ("llama-3-70b", {"tp": 12}),
        "all layers: num_query_heads (64) is not a multiple of tp (12)",
        "tp 8 or 16 would work",
    ),
    "KV heads": (
        ("phi-4", {"tp": 8}),
        "all layers: num_kv_heads (10) is neither a multiple nor a divisor of tp (8)",
        "tp 5 or 10 would work",
    ),
    "of several groups": (
        ("recurrentgemma-2b", {"tp": 8}),
        "sliding layers: num_query_heads (10) is not a multiple of tp (8)",
        "tp 5 or 10 would work",
    ),
    "more ranks than heads": (
        ("r1", {"tp": 256}),
        "all layers: num_query_heads (128) is not a multiple of tp (256)",
        "tp 128 would work",
    ),
    "channels of copied heads": (
        ("zaya1-8b", {"tp": 4}),
        "all layers: tp (4) ranks hold copies of KV heads, and the channels in GQA-2 + CCA that belong to them are unknown",
        "tp 2 would work",
    ),
    "query heads in an engine that rounds KV heads": (
        ("phi-4", {"tp": 7, "engine": "sglang"}),
        "all layers: num_query_heads (40) is not a multiple of tp (7)",
        "tp 5 or 8 would work",
    ),
    "more stages than layers in an engine that has larger ones": (
        ("r1", {"pp": 62, "engine": "tensorrt_llm"}),
        "num_layers (61) is less than pp (62)",
        "pp 61 would work",
    ),
    "layers": (("r1", {"pp": 8}), "num_layers (61) is not a multiple of pp (8)", "pp 1 or 61 would work"),
    "more stages than layers": (("r1", {"pp": 62}), "num_layers (61) is not a multiple of pp (62)", "pp 61 would work"),
    "sequences": (
        ("r1", {"dp": 4, "sequences": 6}),
        "sequences (6) is not a multiple of dp (4)",
        "use 4 or 8 sequences",
    ),
    "too few sequences": (("r1", {"dp": 4}), "sequences (1) is not a multiple of dp (4)", "use 4 sequences"),
    "no rank": (("r1", {"tp": 0}), "tp must be at least 1, not 0", f"use a whole number from 1 to {MAX_RANKS:,}"),
    "half a rank": (
        ("r1", {"pp": 1.5}),
        "pp must be a whole number, not 1.5",
        f"use a whole number from 1 to {MAX_RANKS:,}",
    ),
    "too many ranks": (
        ("r1", {"tp": 128, "dp": 256}),
        "tp x pp x dp must be at most 16,384, not 32768",
        f"use a whole number from 1 to {MAX_RANKS:,}",
    ),
}


@pytest.mark.parametrize("case", UNEVEN)
def test_what_cannot_be_shared_evenly_is_told_with_what_can(case):
    (name, question), what, help = UNEVEN[case]
    with pytest.raises(kvcalc.InvalidValueError) as error:
        ranks_of(name, **question)
    assert (str(error.value), error.value.help) == (what, help)


def test_a_part_alone_says_what_works_for_it():
    with pytest.raises(kvcalc.InvalidValueError) as error:
        kvcalc.load("phi-4").groups[0].parts[0].shard(8)
    assert error.value.help == "tp 5 or 10 would work"


def test_the_command_line_refuses_uneven_layouts(cli):
    outcome = cli("size --preset llama3-70b --tokens 1 --tp 12")
    assert outcome == (
        "",
        "all layers: num_query_heads (64) is not a multiple of tp (12)\nhelp: tp 8 or 16 would work\n",
        2,
    )
    outcome = cli("size --preset llama3-70b --tokens 1 --tp -1")
    assert outcome.stderr.startswith("--tp, --pp, --dp: tp must be at least 1, not -1\n")


def test_json_has_each_rank_and_their_sum_only_where_ranks_were_asked_for(cli):
    data = json.loads(cli("size --preset llama3-70b --tokens 1 --batch 2 --tp 16 --dp 2 --format json").stdout)
    assert data["parallel"] == {"tp": 16, "pp": 1, "dp": 2}
    assert data["rank_bytes_sum"] == 2 * data["total_bytes"] == sum(rank["bytes"] for rank in data["per_rank"])
    assert data["per_rank"][17] == {
        "rank": 17,
        "tp_rank": 1,
        "pp_rank": 0,
        "dp_rank": 1,
        "layers": [0, 79],
        "sequences": 1,
        "bytes": 40960,
        "tensors": {"all.k": 20480, "all.v": 20480},
    }
    assert "per_rank" not in json.loads(cli("size --preset llama3-70b --tokens 1 --format json").stdout)
