"""Small layers of every kind and of every combination of kinds that presets have, for the tests of torch modules."""

from __future__ import annotations

from kvcalc.attention.cca import CompressedConvolution
from kvcalc.attention.compressed import CompressedAttention
from kvcalc.attention.cross import CrossAttention
from kvcalc.attention.gated_deltanet import GatedDeltaNet
from kvcalc.attention.gated_retention import GatedRetention
from kvcalc.attention.gla import GroupedLatentAttention
from kvcalc.attention.gqa import GroupedQueryAttention
from kvcalc.attention.gta import GroupedTiedAttention
from kvcalc.attention.hidden import HiddenStates
from kvcalc.attention.indexer import Indexer
from kvcalc.attention.kda import KimiDeltaAttention
from kvcalc.attention.lightning import LightningAttention
from kvcalc.attention.mamba import Mamba
from kvcalc.attention.mamba2 import Mamba2
from kvcalc.attention.mfa_kr import KeyReuseAttention
from kvcalc.attention.mla import MultiHeadLatentAttention
from kvcalc.attention.mla_naive import NaiveMultiHeadLatentAttention
from kvcalc.attention.mlstm import MatrixLstm
from kvcalc.attention.ngram_conv import NgramConvolution
from kvcalc.attention.none import NoCache
from kvcalc.attention.prefix import PrefixTokens
from kvcalc.attention.region_summary import RegionSummary
from kvcalc.attention.rg_lru import GatedLinearRecurrence
from kvcalc.attention.rwkv import Rwkv
from kvcalc.attention.short_conv import ShortConvolution
from kvcalc.attention.tpa import TensorProductAttention
from kvcalc.attention.wkv import MatrixWkv

HIDDEN, ENCODED = 48, 11

ATTENTION = GroupedQueryAttention(num_query_heads=6, num_kv_heads=2, head_dim=8)
LATENT = MultiHeadLatentAttention(
    num_query_heads=4, kv_lora_rank=16, qk_rope_head_dim=6, qk_nope_head_dim=10, v_head_dim=12
)
NAIVE = NaiveMultiHeadLatentAttention(num_query_heads=4, qk_rope_head_dim=6, qk_nope_head_dim=10, v_head_dim=12)
DELTA = GatedDeltaNet(
    linear_num_key_heads=2, linear_num_value_heads=4, linear_key_head_dim=6, linear_value_head_dim=5, linear_conv_kernel=4
)  # fmt: skip
KDA = KimiDeltaAttention(linear_num_heads=3, linear_head_dim=6, linear_conv_kernel=4)
MAMBA2 = Mamba2(mamba_num_heads=4, mamba_head_dim=6, mamba_num_groups=2, mamba_state_size=5, mamba_conv_kernel=4)
MLSTM = MatrixLstm(mlstm_num_heads=2, mlstm_qk_head_dim=4, mlstm_v_head_dim=6)
CSA = CompressedAttention(num_query_heads=4, head_dim=8, sliding_window=7, compress_rate=4, index_head_dim=6)
CLOSED = CompressedAttention(
    num_query_heads=4, head_dim=8, sliding_window=7, compress_rate=2, index_head_dim=6, closed_groups=True
)
HCA = CompressedAttention(num_query_heads=4, head_dim=8, sliding_window=7, compress_rate=5)
NGRAMS = NgramConvolution(ngram_conv_channels=20, ngram_conv_columns=9)
TPA = TensorProductAttention(num_query_heads=6, head_dim=8, k_rank=2, v_rank=3, v_head_dim=10)
GTA = GroupedTiedAttention(num_query_heads=6, num_kv_heads=2, head_dim=8, qk_rope_head_dim=4)
GLA = GroupedLatentAttention(
    num_query_heads=6, num_latent_heads=2, latent_head_dim=16, qk_rope_head_dim=6, qk_nope_head_dim=10, v_head_dim=12
)
RETENTION = GatedRetention(linear_num_heads=3, linear_head_dim=6)
KEY_REUSE = KeyReuseAttention(num_query_heads=3, head_dim=10)
CROSS = CrossAttention(cross_num_kv_heads=3, cross_head_dim=8, encoder_tokens=ENCODED)
LAYERS = {
    "gqa": [ATTENTION],
    "mha": [GroupedQueryAttention(num_query_heads=4, num_kv_heads=4, head_dim=8, v_head_dim=12)],
    "mqa": [GroupedQueryAttention(num_query_heads=4, num_kv_heads=1, head_dim=8)],
    "window": [GroupedQueryAttention(num_query_heads=6, num_kv_heads=2, head_dim=8, sliding_window=7)],
    "chunk": [GroupedQueryAttention(num_query_heads=6, num_kv_heads=2, head_dim=8, attention_chunk_size=16)],
    "reference window": [GroupedQueryAttention(num_query_heads=6, num_kv_heads=2, head_dim=8, reference_window=9)],
    "mla": [LATENT],
    "mla, window": [MultiHeadLatentAttention(**{**LATENT.__dict__, "sliding_window": 7})],
    "mla without positions": [MultiHeadLatentAttention(**{**LATENT.__dict__, "qk_rope_head_dim": 0})],
    "mla naive": [NAIVE],
    "gated deltanet": [DELTA],
    "kda": [KDA],
    "lightning": [LightningAttention(linear_num_heads=3, linear_head_dim=6)],
    "gated retention": [RETENTION],
    "mfa-kr": [KEY_REUSE],
    "mfa-kr, window": [KeyReuseAttention(num_query_heads=3, head_dim=10, sliding_window=7)],
    "tpa": [TPA],
    "tpa, window": [TensorProductAttention(**{**TPA.__dict__, "v_head_dim": None, "sliding_window": 7})],
    "gta": [GTA],
    "gta, chunk": [GroupedTiedAttention(**{**GTA.__dict__, "attention_chunk_size": 16})],
    "gta as released": [GroupedTiedAttention(**{**GTA.__dict__, "repeats_rope": True})],
    "gla": [GLA],
    "gla, window": [GroupedLatentAttention(**{**GLA.__dict__, "sliding_window": 7})],
    "gla without positions": [GroupedLatentAttention(**{**GLA.__dict__, "qk_rope_head_dim": 0})],
    "mamba": [Mamba(mamba_intermediate_size=20, mamba_state_size=5, mamba_conv_kernel=4)],
    "mamba2": [MAMBA2],
    "mamba2 of another width": [Mamba2(**{**MAMBA2.__dict__, "mamba_intermediate_size": 30})],
    "mlstm": [MLSTM],
    "rg-lru": [GatedLinearRecurrence(lru_width=20, lru_conv_kernel=4)],
    "rwkv": [Rwkv(hidden_size=HIDDEN, attention_hidden_size=20)],
    "wkv": [MatrixWkv(hidden_size=HIDDEN, wkv_num_heads=4, wkv_head_dim=6)],
    "wkv without channel mix": [MatrixWkv(hidden_size=HIDDEN, wkv_num_heads=4, wkv_head_dim=6, wkv_token_shifts=1)],
    "short conv": [ShortConvolution(conv_channels=20, conv_kernel=3)],
    "kernel of one": [ShortConvolution(conv_channels=20, conv_kernel=1)],
    "n-gram conv": [NGRAMS],
    "gated deltanet and n-gram conv": [DELTA, NGRAMS],
    "cca": [CompressedConvolution(cca_conv_channels=20, cca_conv_columns=3, cca_value_width=6)],
    "hidden": [HiddenStates(hidden_size=HIDDEN)],
    "hidden, limited": [HiddenStates(hidden_size=HIDDEN, memory_tokens=9)],
    "csa": [CSA],
    "hca": [HCA],
    "closed groups": [CLOSED],
    "closed groups of one": [CompressedAttention(**{**CLOSED.__dict__, "compress_rate": 1})],
    "window alone": [CompressedAttention(num_query_heads=4, head_dim=8, sliding_window=7)],
    "cross": [ATTENTION, CROSS],
    "prefix": [ATTENTION, PrefixTokens(prefix_tokens=5, num_kv_heads=2, head_dim=8)],
    "indexer": [LATENT, Indexer(index_head_dim=6)],
    "gqa and indexer": [ATTENTION, Indexer(index_head_dim=6, index_dtype="fp32")],
    "gqa and summaries of regions": [ATTENTION, RegionSummary(summary_dim=6, region_tokens=5)],
    "pooled indexer": [LATENT, Indexer(index_head_dim=6, index_pooling=True)],
    "cross alone": [CROSS],
    "attention and cca": [
        ATTENTION,
        CompressedConvolution(cca_conv_channels=20, cca_conv_columns=3, cca_value_width=6),
    ],
    "attention and short conv": [ATTENTION, ShortConvolution(conv_channels=20, conv_kernel=3)],
    "window and short conv": [
        GroupedQueryAttention(num_query_heads=6, num_kv_heads=2, head_dim=8, sliding_window=7),
        ShortConvolution(conv_channels=20, conv_kernel=3),
    ],
    "attention and mamba2": [ATTENTION, MAMBA2],
    "none": [NoCache()],
}
