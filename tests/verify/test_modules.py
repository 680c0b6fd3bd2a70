"""The torch modules are right as attention: against SDPA, each other, and masked full attention, in float64."""

from __future__ import annotations

import pytest
import torch
from torch.nn.functional import scaled_dot_product_attention

from kvcalc.attention.gqa import GroupedQueryAttention
from kvcalc.attention.mla import MultiHeadLatentAttention
from kvcalc.attention.mla_naive import NaiveMultiHeadLatentAttention
from kvcalc.verify.modules import module_for
from kvcalc.verify.modules._attention import attention, products
from kvcalc.verify.modules._module import rotate

HIDDEN, TOKENS, SEQUENCES = 48, 37, 2
LATENT = {"num_query_heads": 4, "qk_rope_head_dim": 6, "qk_nope_head_dim": 10, "v_head_dim": 12}
REACHES = ({}, {"sliding_window": 7}, {"attention_chunk_size": 8}, {"sliding_window": 1}, {"sliding_window": 100})
EXACT = {"rtol": 0, "atol": 1e-10}


def gqa(kv_heads: int, heads: int = 6, **reach) -> GroupedQueryAttention:
    return GroupedQueryAttention(num_query_heads=heads, num_kv_heads=kv_heads, head_dim=8, v_head_dim=10, **reach)


def mla(**reach) -> MultiHeadLatentAttention:
    return MultiHeadLatentAttention(**LATENT, kv_lora_rank=16, **reach)


def built(facts, dtype=torch.float64):
    return module_for(facts)(facts, HIDDEN, dtype=dtype, device="cpu")


def hidden(dtype=torch.float64) -> torch.Tensor:
    return torch.randn(SEQUENCES, TOKENS, HIDDEN, dtype=torch.float64).to(dtype)


def cached(module, inputs: torch.Tensor, steps=(16, 9, 1, 1, 10)) -> torch.Tensor:
    """Output of a prefill in chunks and decode steps with a cache."""
    cache = module.new_cache(SEQUENCES, TOKENS, module.dtype)
    outputs = [module(part, cache) for part in inputs.split(list(steps), dim=1)]
    return torch.cat(outputs, dim=1)


ALL = [*(gqa(n, **reach) for n in (1, 2, 6) for reach in REACHES), *(mla(**reach) for reach in REACHES)]


@pytest.mark.parametrize("facts", ALL, ids=repr)
@pytest.mark.parametrize("steps", [(16, 9, 1, 1, 10), (1,) * TOKENS, (TOKENS,), (30, 1, 6)], ids=len)
def test_cached_equals_uncached(facts, steps):
    module, inputs = built(facts), hidden()
    torch.testing.assert_close(cached(module, inputs, steps), module(inputs), **EXACT)


@pytest.mark.parametrize(("dtype", "atol"), [(torch.float32, 1e-5), (torch.bfloat16, 3e-2)])
@pytest.mark.parametrize("facts", [gqa(2), mla(), gqa(2, sliding_window=7)], ids=repr)
def test_cached_equals_uncached_in_the_models_dtype(facts, dtype, atol):
    module, inputs = built(facts, dtype), hidden(dtype)
    torch.testing.assert_close(cached(module, inputs), module(inputs), rtol=0, atol=atol)


@pytest.mark.parametrize("reach", REACHES, ids=repr)
def test_grouped_heads_equal_masked_sdpa_over_repeated_heads(reach):
    """Against torch's attention over the whole sequence, with its mask written out token by token."""
    module, inputs = built(gqa(2, **reach)), hidden()
    at = torch.arange(TOKENS)
    query = module.q_proj(inputs).view(SEQUENCES, TOKENS, 6, 8).transpose(1, 2)
    key = module.k_proj(inputs).view(SEQUENCES, TOKENS, 2, 8).transpose(1, 2).repeat_interleave(3, dim=1)
    value = module.v_proj(inputs).view(SEQUENCES, TOKENS, 2, 10).transpose(1, 2).repeat_interleave(3, dim=1)

    def sees(query_at: int, key_at: int) -> bool:
        if "sliding_window" in reach:
            return 0 <= query_at - key_at < reach["sliding_window"]
        if "attention_chunk_size" in reach:
            size = reach["attention_chunk_size"]
            return key_at <= query_at and key_at // size == query_at // size
        return key_at <= query_at

    mask = torch.tensor([[sees(q, k) for k in range(TOKENS)] for q in range(TOKENS)])
    mixed = scaled_dot_product_attention(rotate(query, at), rotate(key, at), value, attn_mask=mask)
    expected = module.o_proj(mixed.transpose(1, 2).reshape(SEQUENCES, TOKENS, 60))
    torch.testing.assert_close(module(inputs), expected, **EXACT)


def test_one_head_per_group_is_multi_head_attention():
    module, inputs = built(gqa(6)), hidden()
    at = torch.arange(TOKENS)
    query, key = (p(inputs).view(SEQUENCES, TOKENS, 6, 8).transpose(1, 2) for p in (module.q_proj, module.k_proj))
    value = module.v_proj(inputs).view(SEQUENCES, TOKENS, 6, 10).transpose(1, 2)
    mixed = scaled_dot_product_attention(rotate(query, at), rotate(key, at), value, is_causal=True)
    expected = module.o_proj(mixed.transpose(1, 2).reshape(SEQUENCES, TOKENS, 60))
    torch.testing.assert_close(cached(module, inputs), expected, **EXACT)


def test_one_group_is_multi_query_attention():
    """All groups given the same weights equal the one group that has them."""
    many, one, inputs = built(gqa(3)), built(gqa(1)), hidden()
    for name in ("q_proj", "o_proj"):
        getattr(one, name).weight.copy_(getattr(many, name).weight)
    for name in ("k_proj", "v_proj"):
        getattr(many, name).weight.copy_(getattr(one, name).weight.repeat(3, 1))
    torch.testing.assert_close(cached(many, inputs), cached(one, inputs), **EXACT)


@pytest.mark.parametrize("reach", REACHES, ids=repr)
def test_absorbed_latent_attention_equals_the_naive_one(reach):
    absorbed, inputs = built(mla(**reach)), hidden()
    naive = built(NaiveMultiHeadLatentAttention(**LATENT, **reach))
    naive.rank, naive.kv_down, naive.w_uk, naive.w_uv = absorbed.rank, absorbed.kv_down, absorbed.w_uk, absorbed.w_uv
    naive.load_state_dict(absorbed.state_dict())
    torch.testing.assert_close(cached(absorbed, inputs), cached(naive, inputs), **EXACT)


def test_rotation_depends_on_the_distance_alone():
    query, key = torch.randn(2, 1, 8, dtype=torch.float64)
    at = lambda position: torch.tensor([position])  # noqa: E731
    near, far = (rotate(query, at(5 + d)) @ rotate(key, at(2 + d)).T for d in (0, 1000))
    torch.testing.assert_close(near, far, **EXACT)


def test_a_forgotten_token_is_noticed():
    """The guard itself: a ring that is one slot short gives another output."""
    module, inputs = built(gqa(2, sliding_window=7)), hidden()
    expected = module(inputs)
    module.reach = module.reach._replace(window=6)
    assert not torch.allclose(cached(module, inputs), expected, **EXACT)


def test_a_query_meets_latents_part_by_part_as_it_meets_them_joined():
    """The way that a single query takes on CUDA."""
    for facts in (mla(), MultiHeadLatentAttention(**{**LATENT, "qk_rope_head_dim": 0}, kv_lora_rank=16)):
        module, inputs = built(facts), hidden()
        positions = torch.arange(TOKENS)
        rows = module.project(inputs, positions)
        nope, rope = module.queries(inputs[:, -1:], positions[-1:])
        into_latent = torch.einsum("bhnd,hdc->bhnc", nope, module.w_uk)
        query, key = torch.cat([into_latent, rope], dim=-1), torch.cat([*rows.values()], dim=-1)[:, None]
        joined = attention(query, key, key, None, module.scale)[..., : module.rank]
        torch.testing.assert_close(module._part_by_part((into_latent, rope), tuple(rows.values())), joined, **EXACT)


@pytest.mark.parametrize(("kv_heads", "widths"), [(1, (8, 8)), (2, (8, 8)), (6, (8, 8)), (2, (8, 10))])
def test_plain_products_equal_the_fused_kernel(kv_heads, widths):
    query, key, value = (
        torch.randn(2, heads, tokens, width, dtype=torch.float64)
        for heads, tokens, width in ((6, 1, widths[0]), (kv_heads, TOKENS, widths[0]), (kv_heads, TOKENS, widths[1]))
    )
    folded = query.unflatten(1, (kv_heads, -1)).flatten(2, 3)
    mixed = products([(folded, key)], value, 0.3).reshape(2, 6, 1, widths[1])
    torch.testing.assert_close(mixed, attention(query, key, value, None, 0.3), **EXACT)
