"""The other torch modules, each against a slow and obvious reference in float64, and cached against uncached."""

from __future__ import annotations

import pytest
import torch
from layers import CLOSED, CROSS, CSA, ENCODED, GLA, HCA, HIDDEN, LAYERS, MAMBA2, MLSTM
from torch.nn.functional import logsigmoid, scaled_dot_product_attention

from kvcalc.attention.gla import GroupedLatentAttention
from kvcalc.attention.mla import MultiHeadLatentAttention
from kvcalc.verify.layer import Layer
from kvcalc.verify.modules import module_for
from kvcalc.verify.modules._delta_rule import gated_delta_rule
from kvcalc.verify.modules._module import Context, rotate
from kvcalc.verify.modules._recurrent import causal_conv
from kvcalc.verify.sharding import shard_of

TOKENS, SEQUENCES = 37, 2
EXACT = {"rtol": 0, "atol": 1e-10}


@pytest.fixture(autouse=True)
def seeded():
    torch.manual_seed(0)


@pytest.fixture(autouse=True)
def few_are_chosen(monkeypatch):
    """Indexers choose so few tokens that it matters which."""
    monkeypatch.setattr("kvcalc.verify.modules.indexer.IndexerModule.topk", 5)
    monkeypatch.setattr("kvcalc.verify.modules.compressed.CompressedModule.topk", 3)


def hidden(dtype=torch.float64, width=HIDDEN, tokens=TOKENS) -> torch.Tensor:
    return torch.randn(SEQUENCES, tokens, width, dtype=torch.float64).to(dtype)


def built(parts, dtype=torch.float64) -> Layer:
    layer = Layer(parts, dtype=dtype, device="cpu")
    if layer.hidden_size == HIDDEN:
        return layer
    layer.hidden_size = HIDDEN
    layer.parts = torch.nn.ModuleList(module_for(part)(part, HIDDEN, dtype=dtype, device="cpu") for part in parts)
    return layer


def cached(layer: Layer, inputs: torch.Tensor, steps, context=Context()) -> torch.Tensor:  # noqa: B008
    caches = layer.new_caches(SEQUENCES, TOKENS, layer.dtype)
    return torch.cat([layer(part, caches, context) for part in inputs.split(list(steps), dim=1)], dim=1)


@pytest.mark.parametrize("steps", [(16, 9, 1, 1, 10), (1,) * TOKENS, (30, 1, 6)], ids=len)
@pytest.mark.parametrize("name", LAYERS)
def test_cached_equals_uncached(name, steps):
    layer, inputs = built(LAYERS[name]), hidden()
    context = Context(encoded=hidden(tokens=ENCODED))
    torch.testing.assert_close(cached(layer, inputs, steps, context), layer(inputs, None, context), **EXACT)


@pytest.mark.parametrize(("dtype", "atol"), [(torch.float32, 1e-4), (torch.bfloat16, 0.05)])
@pytest.mark.parametrize("name", sorted(LAYERS.keys() - {"csa", "indexer", "gqa and indexer", "pooled indexer"}))
def test_cached_equals_uncached_in_the_models_dtype(name, dtype, atol):
    """Choosing tokens is left out: rounding may choose others."""
    layer, inputs = built(LAYERS[name], dtype), hidden(dtype)
    context = Context(encoded=hidden(dtype, tokens=ENCODED))
    with_cache, without = cached(layer, inputs, (16, 9, 1, 1, 10), context), layer(inputs, None, context)
    torch.testing.assert_close(with_cache, without, rtol=0, atol=atol * float(without.abs().max()))


# ---- recurrences against what they unroll to


def random(*shape: int) -> torch.Tensor:
    return torch.randn(SEQUENCES, *shape, dtype=torch.float64)


def test_a_causal_convolution_is_a_sum_over_the_last_inputs():
    inputs, before, weights = random(9, 3), random(3, 3), torch.randn(3, 4, dtype=torch.float64)
    outputs, after = causal_conv(inputs, before, weights)
    joined = torch.cat([before.transpose(1, 2), inputs], dim=1)
    for token in range(9):
        expected = sum(weights[:, tap] * joined[:, token + tap] for tap in range(4))
        torch.testing.assert_close(outputs[:, token], expected, **EXACT)
    torch.testing.assert_close(after, joined[:, -3:].transpose(1, 2), **EXACT)


@pytest.mark.parametrize("channels_of_decay", [1, 6])
def test_the_delta_rule_is_a_product_of_matrices(channels_of_decay):
    """S_t = (I - b k k^T) diag(a) S_(t-1) + b k v^T, written out as matrices."""
    query, key, value = random(9, 2, 6), random(9, 2, 6), random(9, 2, 5)
    decay, beta = random(9, 2, channels_of_decay).sigmoid(), random(9, 2, 1).sigmoid()
    outputs, last = gated_delta_rule(query, key, value, decay, beta, torch.zeros(2, 2, 6, 5, dtype=torch.float64))
    state = torch.zeros(SEQUENCES, 2, 6, 5, dtype=torch.float64)
    for t in range(9):
        k, b = key[:, t, :, :, None], beta[:, t, :, :, None]
        forget = torch.diag_embed(decay[:, t].expand(-1, -1, 6))
        state = (torch.eye(6, dtype=torch.float64) - b * k @ k.mT) @ forget @ state + b * k @ value[:, t, :, None]
        torch.testing.assert_close(outputs[:, t], (state.mT @ query[:, t, :, :, None])[..., 0], **EXACT)
    torch.testing.assert_close(last, state, **EXACT)


def test_lightning_attention_is_a_decayed_sum_over_the_past():
    (module,) = built(LAYERS["lightning"]).modules_of_parts()
    inputs = hidden(tokens=9)
    q, k, v = torch.nn.functional.silu(module.qkv_proj(inputs)).unflatten(-1, (3, 3, 6)).unbind(2)
    distance = torch.arange(9)[:, None] - torch.arange(9)
    weights = torch.where(distance >= 0, module.rates ** distance.clamp(min=0), 0)  # (H, t, s)
    mixed = torch.einsum("hts,bthd,bshd,bshv->bthv", weights, q, k, v)
    torch.testing.assert_close(module(inputs), module.o_proj(mixed.flatten(2)), **EXACT)


@pytest.mark.parametrize("chunk", [1, 4, 256])
def test_gated_retention_is_a_recurrence_over_rotated_keys(chunk, monkeypatch):
    """Token by token at its absolute position, as the authors' decoding has it, however long the chunks are."""
    monkeypatch.setattr("kvcalc.verify.modules.gated_retention.CHUNK_TOKENS", chunk)
    (module,) = built(LAYERS["gated retention"]).modules_of_parts()
    inputs, outputs = hidden(tokens=9), []
    state = torch.zeros(SEQUENCES, 3, 6, 6, dtype=torch.float64)
    for t in range(9):
        x = inputs[:, t]
        q, k, v = module.qkv_proj(x).unflatten(-1, (3, 3, 6)).unbind(1)
        at = torch.tensor([t])
        q, k = rotate(q[:, :, None], at), rotate(k[:, :, None], at) * 6**-0.5
        decay = module.decay_proj(x).sigmoid() ** (1 / 16)
        state = decay[..., None, None] * state + k.mT @ v[:, :, None]
        mixed = (q @ state)[:, :, 0]
        mixed = mixed / (mixed.square().mean(-1, keepdim=True) + 1e-5).sqrt()
        outputs.append(module.o_proj(torch.nn.functional.silu(module.gate_proj(x)) * mixed.flatten(1)))
    torch.testing.assert_close(module(inputs), torch.stack(outputs, dim=1), **EXACT)


def test_mamba_is_a_sum_over_the_past_with_the_decay_between():
    (module,) = built(LAYERS["mamba"]).modules_of_parts()
    x, step, b, c = random(9, 20), random(9, 20).exp(), random(9, 5), random(9, 5)
    outputs, _ = module._scan(x, step, b, c, torch.zeros(SEQUENCES, 20, 5, dtype=torch.float64))
    a = -module.log_a.exp()
    for t in range(9):
        state = sum(
            torch.exp(step[:, s + 1 : t + 1].sum(1)[..., None] * a) * (step[:, s] * x[:, s])[..., None] * b[:, s, None]
            for s in range(t + 1)
        )
        torch.testing.assert_close(outputs[:, t], (state * c[:, t, None]).sum(-1), **EXACT)


def test_mamba2_is_attention_with_a_decay_in_place_of_softmax():
    (module,) = built([MAMBA2]).modules_of_parts()
    x, step, b, c = random(9, 4, 6), random(9, 4).exp(), random(9, 4, 5), random(9, 4, 5)
    outputs, _ = module._scan(x, step, b, c, torch.zeros(SEQUENCES, 4, 6, 5, dtype=torch.float64))
    total = (step * -module.log_a.exp()).cumsum(1)  # (B, t, H)
    between = (total[:, :, None] - total[:, None]).masked_fill(torch.ones(9, 9).triu(1).bool()[..., None], -torch.inf)
    expected = torch.einsum("btsh,bths,bsh,bshp->bthp", between.exp(), torch.einsum("bthn,bshn->bths", c, b), step, x)
    torch.testing.assert_close(outputs, expected, **EXACT)


def test_mlstm_is_gated_attention_without_a_running_maximum():
    (module,) = built([MLSTM]).modules_of_parts()
    inputs = hidden(tokens=9)
    q, k, v = (w(inputs).unflatten(-1, (2, -1)) for w in (module.q_proj, module.k_proj, module.v_proj))
    enter, keep = module.gates(inputs).chunk(2, dim=-1)
    total = logsigmoid(keep).cumsum(1)
    weights = (total[:, :, None] - total[:, None] + enter[:, None]).exp()  # (B, t, s, H)
    weights = weights.masked_fill(torch.ones(9, 9).triu(1).bool()[..., None], 0)
    scores = torch.einsum("btsh,bthd,bshd->btsh", weights, q, k * 4**-0.5)
    below = scores.sum(2).abs().clamp(min=1)
    mixed = torch.einsum("btsh,bshv->bthv", scores, v) / below[..., None]
    torch.testing.assert_close(module(inputs), module.o_proj(mixed.flatten(2)), **EXACT)


def test_rg_lru_is_a_product_of_decays():
    (module,) = built(LAYERS["rg-lru"]).modules_of_parts()
    inputs = hidden(tokens=9)
    x, gate = module.in_proj(inputs).chunk(2, dim=-1)
    x, _ = causal_conv(x, module.first_states(SEQUENCES)["conv_state"], module.conv)
    r, i = module.gates(x).sigmoid().chunk(2, dim=-1)
    a = torch.exp(-8 * torch.nn.functional.softplus(module.log_lambda) * r)
    state = torch.stack(
        [sum(a[:, s + 1 : t + 1].prod(1) * (1 - a[:, s] ** 2).sqrt() * i[:, s] * x[:, s] for s in range(t + 1))
         for t in range(9)], dim=1)  # fmt: skip
    torch.testing.assert_close(module(inputs), module.out_proj(state * torch.nn.functional.gelu(gate)), **EXACT)


def test_a_matrix_of_wkv_is_a_faded_sum_over_the_past():
    (module,) = built(LAYERS["wkv"]).modules_of_parts()
    projected = torch.randn(SEQUENCES, TOKENS, 4 * 24, dtype=torch.float64)
    outputs, state = module._wkv(projected, module.first_states(SEQUENCES)["wkv_state"])
    r, k, v, d = projected.unflatten(-1, (4, 4, 6)).unbind(2)  # (B, N, H, D)
    decay = torch.exp(-torch.exp(d))
    for t in (0, 1, TOKENS - 1):
        now = (r[:, t] * module.bonus * k[:, t]).sum(-1, keepdim=True) * v[:, t]
        past = sum(
            ((r[:, t] * decay[:, i + 1 : t].prod(1) * k[:, i]).sum(-1, keepdim=True) * v[:, i] for i in range(t)), 0
        )
        torch.testing.assert_close(outputs[:, t].unflatten(-1, (4, 6)), now + past, **EXACT)
    last = sum(torch.einsum("bhk,bhv->bhkv", decay[:, i + 1 :].prod(1) * k[:, i], v[:, i]) for i in range(TOKENS))
    torch.testing.assert_close(state, last, **EXACT)


def test_rwkv_is_a_weighted_mean_over_the_past():
    (module,) = built(LAYERS["rwkv"]).modules_of_parts()
    key, value = random(9, 20), random(9, 20)
    outputs, _ = module._wkv(key, value, module.first_states(SEQUENCES)["wkv_state"])
    for t in range(9):
        past = [torch.exp(key[:, i] - (t - 1 - i) * module.decay.exp()) for i in range(t)]
        weights = torch.stack([*past, torch.exp(module.bonus + key[:, t])], dim=1)
        expected = (weights * value[:, : t + 1]).sum(1) / weights.sum(1)
        torch.testing.assert_close(outputs[:, t], expected, **EXACT)


# ---- attention of other kinds against SDPA and loops


def test_cross_attention_is_sdpa_over_what_was_encoded():
    (module,) = built([CROSS]).modules_of_parts()
    inputs, encoded = hidden(), hidden(tokens=ENCODED)
    q, k, v = (
        w(x).view(SEQUENCES, -1, 3, 8).transpose(1, 2)
        for w, x in ((module.q_proj, inputs), (module.k_proj, encoded), (module.v_proj, encoded))
    )
    expected = module.o_proj(scaled_dot_product_attention(q, k, v).transpose(1, 2).flatten(2))
    torch.testing.assert_close(module(inputs, None, Context(encoded=encoded)), expected, **EXACT)


def test_a_prefix_is_seen_by_every_token():
    attention, prefix = (layer := built(LAYERS["prefix"])).modules_of_parts()
    inputs, at = hidden(), torch.arange(TOKENS)
    rows = attention.project(inputs, at)
    keys, values = (
        torch.cat([learned.expand(SEQUENCES, -1, -1, -1), rows[name]], dim=2).repeat_interleave(3, dim=1)
        for name, learned in (("k", prefix.keys), ("v", prefix.values))
    )
    query = rotate(attention.q_proj(inputs).view(SEQUENCES, TOKENS, 6, 8).transpose(1, 2), at)
    mask = torch.cat([torch.ones(TOKENS, 5), torch.ones(TOKENS, TOKENS).tril()], dim=1).bool()
    mixed = scaled_dot_product_attention(query, keys, values, attn_mask=mask)
    torch.testing.assert_close(layer(inputs), attention.o_proj(mixed.transpose(1, 2).flatten(2)), **EXACT)


def softmax_attention(query, key, value, scale) -> torch.Tensor:
    """One sequence, one head, token by token: what each query makes of the tokens so far."""
    rows = [(query[t] @ key[: t + 1].T * scale).softmax(-1) @ value[: t + 1] for t in range(len(query))]
    return torch.stack(rows)


def test_tensor_products_are_sums_over_the_rank():
    """Each head's key and value is written out as a sum of scaled vectors, rotated once it is whole."""
    (module,) = built(LAYERS["tpa"]).modules_of_parts()
    inputs, at, outputs = hidden(tokens=9), torch.arange(9), []

    def of_head(x, a, b, head, rank):
        over_heads, over_width = a(x).unflatten(-1, (6, rank)), b(x).unflatten(-1, (rank, -1))
        return sum(over_heads[:, head, r, None] * over_width[:, r] for r in range(rank)) / rank

    for x in inputs:
        mixed = [
            softmax_attention(
                rotate(of_head(x, module.a_q, module.b_q, head, 6), at),
                rotate(of_head(x, module.a_k, module.b_k, head, 2), at),
                of_head(x, module.a_v, module.b_v, head, 3),
                8**-0.5,
            )
            for head in range(6)
        ]
        outputs.append(module.o_proj(torch.cat(mixed, dim=-1)))
    torch.testing.assert_close(module(inputs), torch.stack(outputs), **EXACT)


@pytest.mark.parametrize("name", ["gta", "gta as released"])
def test_tied_attention_head_by_head(name):
    """A head's value is its group's whole state, its key the first half of that and the rotary key of all heads."""
    (module,) = built(LAYERS[name]).modules_of_parts()
    inputs, at, outputs = hidden(tokens=9), torch.arange(9), []
    for x in inputs:
        queries, states = module.q_proj(x).unflatten(-1, (6, 8)), module.kv_proj(x).unflatten(-1, (2, 8))
        rotary = rotate(module.k_rope_proj(x), at)
        mixed = []
        for head in range(6):
            state = states[:, head // 3]
            query = torch.cat([queries[:, head, :4], rotate(queries[:, head, 4:], at)], dim=-1)
            mixed.append(softmax_attention(query, torch.cat([state[:, :4], rotary], dim=-1), state, 8**-0.5))
        outputs.append(module.o_proj(torch.cat(mixed, dim=-1)))
    torch.testing.assert_close(module(inputs), torch.stack(outputs), **EXACT)


def test_grouped_latents_head_by_head():
    """Expanded: each head's key and value is multiplied out of its own group's latent."""
    (module,) = built([GLA]).modules_of_parts()
    inputs, at, outputs = hidden(tokens=9), torch.arange(9), []
    for x in inputs:
        queries, latents = module.q_proj(x).unflatten(-1, (6, 16)), module.kv_down(x).unflatten(-1, (2, 16))
        latents = latents / (latents.square().mean(-1, keepdim=True) + 1e-6).sqrt()
        rotary = rotate(module.k_rope_proj(x), at)
        mixed = []
        for head in range(6):
            latent = latents[:, head // 3]
            key = torch.cat([latent @ module.w_uk[head].T, rotary], dim=-1)
            query = torch.cat([queries[:, head, :10], rotate(queries[:, head, 10:], at)], dim=-1)
            mixed.append(softmax_attention(query, key, latent @ module.w_uv[head].T, 16**-0.5))
        outputs.append(module.o_proj(torch.cat(mixed, dim=-1)))
    torch.testing.assert_close(module(inputs), torch.stack(outputs), **EXACT)


def test_one_latent_for_all_heads_is_multi_head_latent_attention():
    one = GroupedLatentAttention(**{**GLA.__dict__, "num_latent_heads": 1})
    latent = {name: value for name, value in GLA.__dict__.items() if "latent" not in name}
    (grouped,) = built([one]).modules_of_parts()
    (whole,) = built([MultiHeadLatentAttention(**latent, kv_lora_rank=GLA.latent_head_dim)]).modules_of_parts()
    whole.load_state_dict(grouped.state_dict())
    inputs = hidden()
    torch.testing.assert_close(grouped(inputs), whole(inputs), **EXACT)


def test_a_reused_key_is_its_value():
    """Each head over the one rotated key; the value is a gated projection of the key before it was rotated."""
    (module,) = built(LAYERS["mfa-kr"]).modules_of_parts()
    inputs, at, outputs = hidden(tokens=9), torch.arange(9), []
    for x in inputs:
        shared, key = module.q_down(x), module.k_proj(x)
        shared = shared / (shared.square().mean(-1, keepdim=True) + 1e-6).sqrt()
        value = torch.stack([k + module.reuse_gate * (module.reuse_proj.weight @ k) for k in key])
        mixed = [
            softmax_attention(rotate(shared @ module.q_up[head].T, at), rotate(key, at), value, 10**-0.5)
            for head in range(3)
        ]
        outputs.append(module.o_proj(torch.cat(mixed, dim=-1)))
    torch.testing.assert_close(module(inputs), torch.stack(outputs), **EXACT)


@pytest.mark.parametrize("tp", [2, 3, 6])
@pytest.mark.parametrize("name", ["gta", "gta as released", "gla", "tpa", "mfa-kr"])
def test_outputs_of_ranks_add_up(name, tp):
    """Each rank with its own heads and latents, or a copy where there are too few, and what all share whole."""
    (facts,) = LAYERS[name]
    if not facts.can_shard(tp):
        assert (name, tp) in {("gta", 3), ("gta as released", 3), ("gla", 3), ("mfa-kr", 2), ("mfa-kr", 6)}
        return
    (module,) = built([facts]).modules_of_parts()
    inputs, total = hidden(), 0
    for rank in range(tp):
        shard = shard_of(module, tp, rank)
        cache = shard.new_cache(SEQUENCES, TOKENS, torch.float64)
        total = total + torch.cat([shard(part, cache) for part in inputs.split([30, 1, 6], dim=1)], dim=1)
        sizes = {tensor.name: tensor.elements_per_slot for tensor in facts.shard(tp).tensors()}
        assert {n: held.data.numel() // (SEQUENCES * TOKENS) for n, held in cache.items()} == sizes
    torch.testing.assert_close(total, module(inputs), **EXACT)


def test_an_indexer_that_chooses_everything_changes_nothing():
    layer, inputs = built(LAYERS["indexer"]), hidden()
    attention, indexer = layer.modules_of_parts()
    chosen = layer(inputs)
    assert not torch.allclose(chosen, attention(inputs), **EXACT)  # five of 37 tokens are not all
    indexer.topk = TOKENS
    torch.testing.assert_close(layer(inputs), attention(inputs), **EXACT)


@pytest.mark.parametrize("name", ["indexer", "pooled indexer"])
def test_the_indexer_chooses_the_highest_scores(name):
    """Token by token: I(t, s) = sum over j of w_j relu(q_j . k_s), the five highest of the tokens so far."""
    _, indexer = built(LAYERS[name]).modules_of_parts()
    inputs, at = hidden(), torch.arange(TOKENS)
    chosen = indexer.advise(inputs, None, Context()).chosen
    keys = rotate(indexer.k_proj(inputs), at)
    if indexer.gate_proj is not None:
        gates, plain = indexer.gate_proj(inputs).exp(), keys.clone()
        for s in range(TOKENS):
            block = slice(s - s % 4, s + 1)
            keys[:, s] = (gates[:, block] * plain[:, block]).sum(1) / gates[:, block].sum(1)
    queries = rotate(indexer.q_proj(inputs).view(SEQUENCES, TOKENS, 8, 6).transpose(1, 2), at)
    for sequence in range(SEQUENCES):
        for t in range(TOKENS):
            weights = indexer.head_weights(inputs[sequence, t])
            scores = [float(weights @ (queries[sequence, :, t] @ keys[sequence, s]).relu()) for s in range(t + 1)]
            best = sorted(range(t + 1), key=scores.__getitem__)[-5:]
            assert set(chosen[sequence, t].nonzero().flatten().tolist()) >= set(best)
            assert int(chosen[sequence, t, : t + 1].sum()) == min(5, t + 1)


@pytest.mark.parametrize("facts", [CSA, HCA, CLOSED], ids=["csa", "hca", "closed groups"])
def test_compressed_attention_token_by_token(facts):
    """Entries made in a loop, and softmax over the window and the entries that are complete."""
    (module,) = built([facts]).modules_of_parts()
    module.topk = TOKENS  # all entries
    inputs, rate = hidden()[:1], facts.compress_rate
    kv = rotate(module.kv_proj(inputs), torch.arange(TOKENS))[0]
    projected = module.compressor(inputs)[0].unflatten(-1, (2, module.entries, -1))  # token, kv or gate, entry, width
    projected = projected.float() if facts.closed_groups else projected
    entries = []
    for block in range(TOKENS // rate):
        own = projected[block * rate : (block + 1) * rate, :, module.entries - 1]
        if facts is CSA and block:
            own = torch.cat([projected[(block - 1) * rate : block * rate, :, 0], own])
        entries.append((own[:, 1].softmax(dim=0) * own[:, 0]).sum(0)[: facts.head_dim].to(kv.dtype))
    queries = rotate(module.q_proj(inputs).view(1, TOKENS, 4, 8).transpose(1, 2), torch.arange(TOKENS))[0]
    mixed = []
    for t in range(TOKENS):
        rows = torch.stack([*kv[max(0, t - 6) : t + 1], *entries[: (t + 1) // rate]])
        mixed.append((queries[:, t] @ rows.T * 8**-0.5).softmax(-1) @ rows)
    expected = module.o_proj(torch.stack(mixed).flatten(1))[None]
    torch.testing.assert_close(module(inputs), expected, **EXACT)


# ---- the guards themselves


@pytest.mark.parametrize("name", ["rwkv", "mamba2", "csa", "short conv"])
def test_a_forgotten_state_is_noticed(name):
    """Caches cleared between two steps give another output."""
    layer, inputs = built(LAYERS[name]), hidden()
    caches = layer.new_caches(SEQUENCES, TOKENS, torch.float64)
    first = layer(inputs[:, :30], caches)
    for cache in caches:
        for held in cache.values():
            held.data.zero_()
    second = layer(inputs[:, 30:], caches)
    assert not torch.allclose(torch.cat([first, second], dim=1), layer(inputs), **EXACT)
