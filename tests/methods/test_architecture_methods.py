"""Methods that are other models: what YOCO's own code held, what all of them hold when they run, what they refuse."""

from __future__ import annotations

import gzip
import json
from pathlib import Path

import pytest
import torch
from layers import HIDDEN

import kvcalc
from kvcalc.attention.gqa import GroupedQueryAttention
from kvcalc.attention.gta import GroupedTiedAttention
from kvcalc.verify.mean_pooling import mean_pooled
from kvcalc.verify.measure import verify
from kvcalc.verify.modules import module_for

MEASURED = Path(__file__).parents[1] / "data/methods.jsonl.gz"
ROWS = [json.loads(line) for line in gzip.decompress(MEASURED.read_bytes()).splitlines()]
YOCO = [row for row in ROWS if row["from"] == "official" and row["method"] == "YOCO"]
SPECS = (
    "yoco",
    "yoco:sliding_window=16",
    "yoco:n_self_heads=2,n_attn_kv_heads=4",
    "mlkv",
    "mlkv:num_key_value_layers=3,num_key_value_heads=2",
    "mfa",
    "mfa:head_dim=32,key_reuse=true",
    "tpa",
    "tpa:rank=3",
    "gta",
    "gta:num_key_value_heads=1,rope_dim=2,repeat_rope=true",
    "gla",
    "gla:num_latent_heads=4,latent_head_dim=10,qk_rope_dim=6",
)
FIRST_OF_EACH = list({spec.partition(":")[0]: spec for spec in reversed(SPECS)}.values())


def heads(layers: int = 6, query: int = 4, kv: int = 2, width: int = 8, **reach) -> kvcalc.Model:
    """A model whose layers are alike."""
    facts = {"num_query_heads": query, "num_kv_heads": kv, "head_dim": width, **reach}
    return kvcalc.load({"name": "heads", "attention": "gqa", "num_layers": layers, **facts})


def changed(spec: str, model: kvcalc.Model | str = "llama3-8b") -> kvcalc.Model:
    return kvcalc.apply_method(kvcalc.load(model) if isinstance(model, str) else model, spec)


def elements(spec: str, model: kvcalc.Model | str = "llama3-8b") -> int:
    """Elements that one more token takes, over all layers."""
    return kvcalc.size(changed(spec, model), tokens=5000, kv_dtype="int8").bytes_per_token


# ---- what the authors' code held


@pytest.mark.parametrize("row", YOCO, ids=lambda row: f"{row['params']['self']}-{row['params']['max_seq_len']}")
def test_what_yocos_own_code_held(row):
    """It allocates max_seq_len slots at once, so the shared cache is that of so many tokens.

    The mask of the prompt that each of its self layers keeps (index_mask_bytes) is not of the cache, and not counted.
    """
    params = row["params"]
    width = params["dim"] // params["self_heads"]
    model = heads(params["layers"], params["self_heads"], params["kv_heads"], width)
    window = ",sliding_window=32" if params["self"] == "SWA32" else ""
    spec = f"yoco:n_self_heads={params['self_heads']},n_attn_kv_heads={params['kv_heads']}{window}"
    report = kvcalc.size(changed(spec, model), tokens=params["max_seq_len"], sequences=params["batch"])
    held = {group.name: group.bytes for group in report.groups}
    assert held == {"self": row["self_bytes"], "global": row["global_bytes"], "cross": 0}
    shapes = {tensor.name: tensor for group in report.groups if group.name == "self" for tensor in group.tensors}
    measured = row["state_shapes"].get("last_hidden_state") or row["state_shapes"]["prev_key"]
    each = shapes.get("recurrent_state") or shapes["k"]
    assert each.bytes == measured[2] * params["layers"] // 2


def test_every_measured_row_of_yoco_is_compared():
    assert len(YOCO) == 3


# ---- what they hold, and that it is what runs


@pytest.mark.parametrize(
    ("spec", "number"),
    [
        ("yoco", 2 * 8 * 128),
        ("yoco:sliding_window=1024", 2 * 8 * 128),
        ("yoco:n_attn_kv_heads=4", 2 * 4 * 128),
        ("mlkv", 6 * 2 * 1 * 128),
        ("mlkv:num_key_value_layers=8,num_key_value_heads=4", 8 * 2 * 4 * 128),
        ("mlkv:num_key_value_layers=32,num_key_value_heads=8", 32 * 2 * 8 * 128),
        ("mfa", 32 * 2 * 256),
        ("mfa:key_reuse=true", 32 * 256),
        ("mfa:head_dim=512", 32 * 2 * 512),
        ("tpa", 32 * (2 + 2) * (32 + 128)),
        ("tpa:rank=1", 32 * (1 + 1) * (32 + 128)),
        ("gta", 32 * (8 * 128 + 64)),
        ("gta:num_key_value_heads=4,rope_dim=32", 32 * (4 * 128 + 32)),
        ("gta:repeat_rope=true", 32 * (8 * 128 + 32 * 64)),
        ("gla", 32 * (2 * 256 + 64)),
        ("gla:num_latent_heads=4,latent_head_dim=128,qk_rope_dim=32", 32 * (4 * 128 + 32)),
    ],
)
def test_elements_of_a_token(spec, number):
    """The paper's formula, written out for llama-3-8b: 32 layers, 32 query and 8 KV heads of 128."""
    assert elements(spec) == number


def test_the_rotary_key_of_gta_is_one_unless_said_otherwise():
    facts = {"num_query_heads": 8, "num_kv_heads": 2, "head_dim": 64, "qk_rope_head_dim": 32}
    assert sum(t.elements_per_slot for t in GroupedTiedAttention(**facts).tensors()) == 2 * 64 + 32
    assert (
        sum(t.elements_per_slot for t in GroupedTiedAttention(**facts, repeats_rope=True).tensors()) == 2 * 64 + 8 * 32
    )


def test_what_does_not_grow():
    """A state of 24 heads of 128 x 128 is 786,432 bytes a layer in YOCO-3B, a window 2 x window x dim elements."""
    model = heads(26, 24, 8, 128)
    states, window = (
        kvcalc.size(changed(spec, model), tokens=2048).groups[0] for spec in ("yoco", "yoco:sliding_window=1024")
    )
    assert (states.num_layers, states.bytes) == (13, 13 * 786_432)
    assert window.bytes == 13 * 2 * 1024 * 24 * 128 * 2
    assert kvcalc.size(kvcalc.load("yoco-3b"), tokens=1).groups[0].bytes == 10_223_616
    fp8 = kvcalc.size(changed("yoco", model), tokens=2048, kv_dtype="fp8")
    assert fp8.groups[0].bytes == states.bytes  # a state stays in the model's own format
    assert fp8.groups[1].bytes * 2 == 2048 * 4096


@pytest.mark.parametrize("spec", SPECS)
@pytest.mark.parametrize("reach", [{}, {"sliding_window": 7}], ids=["full", "window"])
def test_what_was_predicted_is_what_runs(spec, reach, monkeypatch):
    """Every token of a small model, through attention and its own cache."""
    monkeypatch.setattr("kvcalc.verify.layer.HIDDEN_SIZE", HIDDEN)
    model = changed(spec, heads(**reach))
    for dtype, tokens, sequences in (("bf16", 37, 2), ("fp32", 5, 1), ("fp8", 20, 3)):
        asked = {"tokens": tokens, "sequences": sequences, "kv_dtype": dtype}
        result = verify(model, device="cpu", **asked)
        assert result.equal, [tensor for tensor in result.tensors if not tensor.equal]
        assert result.storage_bytes == kvcalc.size(model, **asked).total_bytes > 0


@pytest.mark.parametrize("spec", FIRST_OF_EACH)
def test_a_large_model_without_memory(spec):
    """One of each method: other parameters run on small models, above."""
    model = changed(spec)
    result = verify(model, device="meta", tokens=1000)
    assert result.equal
    assert result.storage_bytes == kvcalc.size(model, tokens=1000).total_bytes


def test_the_command_line_predicts_and_runs(cli, monkeypatch):
    from kvcalc.verify import child, measure

    monkeypatch.setattr(child, "in_child", lambda work, model, **named: measure.verify(model, **named))
    outcome = cli("size --preset llama-3.2-1b --tokens 100 --method yoco:sliding_window=16 --verify", columns=120)
    assert outcome.code == 0
    assert "equal, to the byte" in outcome.stdout
    assert "as YOCO: 8 layers of 32 heads of 64 with the last 16 tokens; layer 8 caches 8 KV heads" in outcome.stdout


@pytest.mark.parametrize("spec", ["mlkv:num_key_value_layers=5", "mlkv:num_key_value_layers=6", "mlkv"])
def test_layers_with_keys_and_values_are_spread_from_the_first_on(spec):
    groups = {group.name: group.layers for group in changed(spec, heads(12)).groups}
    expected = {"=5": (0, 2, 4, 7, 9), "=6": (0, 2, 4, 6, 8, 10), "kv": (0, 6)}[spec[-2:]]
    assert groups["all"] == expected


def test_windows_and_chunks_stay_but_for_yoco_which_forgets_by_itself():
    windowed = heads(sliding_window=7)
    for spec in ("mlkv", "mfa", "mfa:key_reuse=true", "tpa", "gta", "gla"):
        assert kvcalc.size(changed(spec, windowed), tokens=1000).bytes_per_token == 0
    assert kvcalc.size(changed("yoco", windowed), tokens=1000).bytes_per_token == 2 * 2 * 8 * 2


def test_layers_of_several_kinds_are_changed_one_by_one():
    """Sliding and full layers keep their reach; a state between them stays as it is."""
    gpt_oss = changed("gta", "gpt-oss-20b")
    assert [group.label for group in gpt_oss.groups] == ["GTA-8", "GTA-8"]
    jamba = changed("tpa", "jamba-1.5-mini")
    assert {group.label for group in jamba.groups} == {"TPA 2+2", "Mamba"}
    assert "unchanged layers" in jamba.notes[-1]


def test_a_latent_model_takes_the_heads_that_papers_compare_it_with():
    r1 = elements("gla", "r1")
    assert r1 == 61 * (2 * 256 + 64) == 61 * 576  # as much as its MLA
    assert elements("gta", "r1") == 61 * (128 * 128 + 64)
    assert elements("yoco", "deepseek-v2") == 2 * 128 * 128
    assert changed("gla", "r1").groups[0].parts[0].qk_nope_head_dim == 128


def test_they_compose():
    """A selection after another architecture; an architecture after a selection would undo it, and is refused."""
    model = changed("snapkv:max_capacity_prompt=100", changed("yoco"))
    assert model.name == "llama-3-8b as YOCO with SnapKV"
    (states, shared, _) = kvcalc.size(model, tokens=5000).groups
    assert (states.bytes, shared.bytes) == (16 * 32 * 128 * 128 * 2, 100 * 4096)
    cla = changed("cla", changed("gta"))
    assert kvcalc.size(cla, tokens=10).total_bytes * 2 == kvcalc.size(changed("gta"), tokens=10).total_bytes
    fewer = changed("cla", changed("snapkv"))  # keeps what the layers keep, in fewer of them
    assert kvcalc.size(fewer, tokens=5000).total_bytes == 16 * 2048 * 4096


# ---- ratios of the abstracts


def test_ratios_that_follow_from_the_formulas():
    """MLKV 6x and CLA2 2x under MQA; MFA-KR -93.7 % for heads of 2,048 in all; GTA about half of GQA."""
    pythia = heads(12, 12, 12, 64)
    mqa = changed("mqa", pythia)
    assert elements("mqa", pythia) == 6 * elements("mlkv", pythia)
    assert elements("mqa", pythia) == 2 * elements("cla", mqa)
    wide = heads(24, 16, 16, 128)
    before = kvcalc.size(wide, tokens=1, kv_dtype="int8").total_bytes
    assert round(1 - elements("mfa:key_reuse=true", wide) / before, 4) == 0.9375
    assert 2 * elements("gta", wide) == before + 24 * 2 * 64


def test_transformer_against_yoco_in_its_own_shape():
    """104 GiB against 4.01 GiB at 1M, 52 against 2.01 at 512K."""
    model = heads(26, 24, 8, 128)
    for tokens, whole, shared in ((2**20, 104, 4.01), (2**19, 52, 2.01)):
        assert kvcalc.size(model, tokens=tokens).total_bytes == whole * 2**30
        yoco = kvcalc.size(changed("yoco", model), tokens=tokens).total_bytes / 2**30
        assert round(yoco, 2) == shared


# ---- shared by ranks


@pytest.mark.parametrize(
    ("spec", "tp", "of_rank"),
    [
        ("gla", 2, 1 * 256 + 64),
        ("gla", 4, 1 * 256 + 64),  # a copy of a latent for each two ranks
        ("mla:512+64", 2, 512 + 64),  # what GLA is for
        ("gta", 2, 4 * 128 + 64),
        ("gta:repeat_rope=true", 2, 4 * 128 + 16 * 64),
        ("gta", 16, 1 * 128 + 64),
        ("tpa", 2, 4 * (16 + 128)),
        ("mfa", 2, 2 * 256),
        ("mfa:key_reuse=true", 2, 256),
    ],
)
def test_what_a_rank_holds_of_a_token(spec, tp, of_rank):
    report = kvcalc.size(changed(spec), tokens=1, kv_dtype="int8", parallel=kvcalc.Parallel(tp=tp))
    assert {rank.bytes for rank in report.per_rank} == {32 * of_rank}


def test_ranks_of_yoco_share_heads_and_states():
    report = kvcalc.size(changed("yoco"), tokens=100, parallel=kvcalc.Parallel(tp=4))
    assert report.rank_bytes_sum == report.total_bytes == 4 * report.most_rank_bytes


def test_latents_that_ranks_cannot_share():
    with pytest.raises(
        kvcalc.InvalidValueError, match=r"num_latent_heads \(4\) is neither a multiple nor a divisor of tp \(6\)"
    ):
        kvcalc.size(changed("gla:num_latent_heads=4", heads(query=12)), tokens=1, parallel=kvcalc.Parallel(tp=6))


# ---- what they refuse


@pytest.mark.parametrize(
    ("spec", "message", "help"),
    [
        ("yoco:n_self_heads=3", "n_self_heads (3) does not divide dim (4,096), the width of all query heads", "remove it for 32"),
        ("yoco:n_self_heads=0", "n_self_heads must be at least 1, not 0", ""),
        ("yoco:sliding_window=0", "sliding_window must be at least 1, not 0", ""),
        ("yoco:sliding_window=wide", "sliding_window must be a number, not 'wide'", "sliding_window=1"),
        ("yoco:n_attn_kv_heads=7", "num_query_heads (32) is not a multiple of num_kv_heads (7)", "4 or 8 would work"),
        ("mlkv:num_key_value_layers=33", "num_key_value_layers (33) is more than the 32 layers of llama-3-8b", "1 to 32"),
        ("mlkv:num_key_value_layers=0", "num_key_value_layers must be at least 1, not 0", ""),
        ("mlkv:num_key_value_heads=5", "num_query_heads (32) is not a multiple of num_kv_heads (5)", "4 or 8 would work"),
        ("mlkv:num_key_value_heads=0", "num_key_value_heads must be at least 1, not 0", ""),
        ("mfa:head_dim=0", "head_dim must be at least 1, not 0", ""),
        ("mfa:key_reuse=yes", "key_reuse must be true or false, not 'yes'", "write key_reuse=true"),
        ("tpa:rank=0", "k_rank must be at least 1, not 0", ""),
        ("gta:num_key_value_heads=3", "num_query_heads (32) is not a multiple of num_kv_heads (3)", "2 or 4 would work"),
        ("gta:rope_dim=129", "qk_rope_head_dim (129) is wider than head_dim (128), of which it is a part", "head: 64"),
        ("gla:num_latent_heads=3", "num_query_heads (32) is not a multiple of num_latent_heads (3)", "each latent serves"),
        ("gla:latent_head_dim=0", "latent_head_dim must be at least 1, not 0", ""),
    ],
)  # fmt: skip
def test_bad_parameters(cli, spec, message, help):
    outcome = cli(f"size --preset llama3-8b --tokens 1000 --method {spec}")
    assert (outcome.code, outcome.stdout) == (2, "")
    assert outcome.stderr.startswith(f"--method: {message}")
    assert help in outcome.stderr


NAMES = ["yoco", "mlkv", "mfa", "tpa", "gta", "gla"]


@pytest.mark.parametrize("name", NAMES)
def test_models_without_keys_and_values(name):
    with pytest.raises(kvcalc.NotApplicableError, match=r"mamba-2\.8b") as error:
        changed(name, "mamba-2.8b")
    assert "Mamba" in error.value.what
    assert error.value.help


@pytest.mark.parametrize(
    ("model", "spec", "message"),
    [
        ("gpt-oss-20b", "yoco", "YOCO caches once for all layers, but gpt-oss-20b has GQA-8"),
        ("gpt-oss-20b", "mlkv", "MLKV shares one kind of cache among layers, but gpt-oss-20b has GQA-8"),
        ("glm-5", "yoco", "YOCO caches once for all layers, but glm-5 has MLA 512+64 + indexer 128"),
        ("r1", "yoco", "YOCO halves the layers, but deepseek-r1 has 61"),
    ],
)
def test_models_whose_layers_cannot_share(model, spec, message):
    with pytest.raises(kvcalc.NotApplicableError) as error:
        changed(spec, model)
    assert error.value.what.startswith(message)
    assert error.value.help


@pytest.mark.parametrize("name", ["gqa:4", "mla", *NAMES])
def test_another_architecture_would_undo_a_selection(name):
    with pytest.raises(kvcalc.NotApplicableError, match="layers were already changed by a method"):
        changed(name, changed("snapkv"))


# ---- heads pooled to fewer


def pooled_slowly(weight: torch.Tensor, num_kv_heads: int, head_dim: int) -> torch.Tensor:
    """Row by row: the mean of the rows that stand at its place in each head of its group."""
    group = weight.shape[0] // head_dim // num_kv_heads
    rows = []
    for head in range(num_kv_heads):
        for row in range(head_dim):
            members = [weight[(head * group + member) * head_dim + row] for member in range(group)]
            rows.append(sum(members) / group)
    return torch.stack(rows)


@pytest.mark.parametrize("kv_heads", [1, 2, 3, 6])
def test_mean_pooling_is_a_mean_over_the_heads_of_a_group(kv_heads):
    weight = torch.randn(6 * 8, HIDDEN, dtype=torch.float64)
    pooled = mean_pooled(weight, kv_heads, 8)
    assert pooled.shape == (kv_heads * 8, HIDDEN)
    torch.testing.assert_close(pooled, pooled_slowly(weight, kv_heads, 8), rtol=0, atol=1e-12)
    bias = mean_pooled(weight[:, 0], kv_heads, 8)
    torch.testing.assert_close(bias, pooled[:, 0], rtol=0, atol=1e-12)
    assert mean_pooled(weight.to(torch.bfloat16), kv_heads, 8).dtype == torch.bfloat16


def test_pooling_to_as_many_heads_changes_nothing():
    weight = torch.randn(6 * 8, HIDDEN)
    assert torch.equal(mean_pooled(weight, 6, 8), weight)


@pytest.mark.parametrize("kv_heads", [1, 2, 4])
def test_heads_that_are_equal_in_their_group_stay_the_same_model(kv_heads):
    """Multi-head attention whose heads repeat gives the output of the pooled model, which has none to repeat."""
    whole = GroupedQueryAttention(num_query_heads=8, num_kv_heads=8, head_dim=6, v_head_dim=10)
    fewer = GroupedQueryAttention(num_query_heads=8, num_kv_heads=kv_heads, head_dim=6, v_head_dim=10)
    before, after = (module_for(f)(f, HIDDEN, dtype=torch.float64, device="cpu") for f in (whole, fewer))
    for name, width in (("k_proj", 6), ("v_proj", 10)):
        one = torch.randn(kv_heads, 1, width, HIDDEN, dtype=torch.float64)
        weight = one.expand(-1, 8 // kv_heads, -1, -1).reshape(8 * width, HIDDEN)
        getattr(before, name).weight.copy_(weight)
        pooled = mean_pooled(weight, kv_heads, width)
        torch.testing.assert_close(pooled, one.reshape(kv_heads * width, HIDDEN), rtol=0, atol=1e-14)
        getattr(after, name).weight.copy_(pooled)
    for name in ("q_proj", "o_proj"):
        getattr(after, name).weight.copy_(getattr(before, name).weight)
    inputs = torch.randn(2, 11, HIDDEN, dtype=torch.float64)
    torch.testing.assert_close(before(inputs), after(inputs), rtol=0, atol=1e-10)


def test_heads_that_differ_do_not():
    """The guard itself: pooling different heads gives another output."""
    whole, fewer = (GroupedQueryAttention(num_query_heads=4, num_kv_heads=n, head_dim=6) for n in (4, 2))
    before, after = (module_for(f)(f, HIDDEN, dtype=torch.float64, device="cpu") for f in (whole, fewer))
    for name in ("q_proj", "o_proj"):
        getattr(after, name).weight.copy_(getattr(before, name).weight)
    for name in ("k_proj", "v_proj"):
        getattr(after, name).weight.copy_(mean_pooled(getattr(before, name).weight, 2, 6))
    inputs = torch.randn(2, 11, HIDDEN, dtype=torch.float64)
    assert not torch.allclose(before(inputs), after(inputs), rtol=0, atol=1e-3)


@pytest.mark.parametrize(
    ("shape", "kv_heads", "head_dim", "message"),
    [
        ((48, 5), 4, 8, r"the weight has 6 heads, which is not a multiple of num_kv_heads \(4\)"),
        ((48, 5), 12, 8, r"the weight has 6 heads, which is not a multiple of num_kv_heads \(12\)"),
        ((48, 5), 2, 7, r"the weight has 48 rows, not a multiple of head_dim \(7\)"),
        ((0, 5), 2, 7, r"the weight has 0 rows, not a multiple of head_dim \(7\)"),
        ((), 2, 7, r"the weight has 0 rows, not a multiple of head_dim \(7\)"),
        ((48, 5), 0, 8, "num_kv_heads must be at least 1, not 0"),
        ((48, 5), 2, 0, "head_dim must be at least 1, not 0"),
    ],
)
def test_heads_that_cannot_be_pooled(shape, kv_heads, head_dim, message):
    with pytest.raises(kvcalc.InvalidValueError, match=message) as error:
        mean_pooled(torch.zeros(shape), kv_heads, head_dim)
    assert error.value.help


def test_a_tied_state_has_room_for_its_rotary_key():
    with pytest.raises(kvcalc.InvalidValueError, match=r"qk_rope_head_dim \(9\) is wider than head_dim \(8\)"):
        GroupedTiedAttention(num_query_heads=2, num_kv_heads=1, head_dim=8, qk_rope_head_dim=9)


# Layers that guess tokens ahead -------------------------------------------------------------------------------------

DRAFTING = {"speculative": {"method": "mtp", "num_speculative_tokens": 1}}


@pytest.mark.parametrize("spec", ["mha", "mqa", "gqa:8", "mla:256+64", "gta", "tpa", "mlkv:num_key_value_layers=61"])
def test_draft_layers_are_built_as_the_others(spec):
    """Of DeepSeek-R1, whose draft layer is one more of the same: as it is where it is part of the model."""
    from kvcalc.methods import apply_method

    changed = apply_method(kvcalc.load("r1"), spec)
    (layers,), (drafts,) = changed.groups, changed.draft_groups
    assert drafts.parts == layers.parts
    assert drafts.tensors == layers.tensors
    assert drafts.layers == (61,)


def test_a_draft_layer_of_vllm_is_the_what_ifs_in_size_fit_and_compare():
    """62 layers of 8 KV heads: 16 tokens of keys and values of 128 elements in 16 bits."""
    from kvcalc.methods import apply_method

    as_gqa = apply_method(kvcalc.load("r1"), "gqa:8")
    asked = {"engine": "vllm", "engine_settings": DRAFTING | {"max_model_len": 4096}}
    block = 62 * 16 * 8 * (128 + 128) * 2
    assert kvcalc.size(as_gqa, tokens=16, **asked).total_bytes == block
    assert kvcalc.fit(as_gqa, available_bytes=40 * 2**30, **asked).bytes_per_block == (block,)
