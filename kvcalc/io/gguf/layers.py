"""The kind of each layer of a GGUF model."""

from __future__ import annotations

from itertools import chain

from kvcalc.attention.cross import CrossAttention
from kvcalc.io.families._decoder import (
    ALL,
    CHUNKED,
    CSA,
    FULL,
    HCA,
    HYBRID,
    INDEXED,
    LINEAR,
    NO_CACHE,
    READS_CACHE,
    READS_SLIDING,
    SHARED,
    SHARED_SLIDING,
    SLIDING,
    Decoder,
    Layer,
)
from kvcalc.io.gguf.architectures import (
    ALL_RECURRENT,
    ALWAYS_LATENT,
    BLOCKS,
    BOTH,
    DRAFTS_WITH_THE_REST,
    EXAONE4_WITH_WINDOWS,
    EXPANDED_LATENT,
    FULL_EVERY,
    INDEXERS,
    INDEXERS_BY_LAYER,
    KV_FROM_START,
    LATENT,
    LONG_CONTEXT_OF_GLM,
    RECURRENT,
    WINDOWS,
)
from kvcalc.io.gguf.metadata import Facts, Metadata
from kvcalc.io.gguf.parts import (
    HEADS,
    KV_HEADS,
    WINDOW,
    compressed_layer,
    expanded_layer,
    heads_layer,
    indexer,
    latent_layer,
    recurrent_layer,
)
from kvcalc.model import DRAFTS

MOST_LAYERS = 512
"""llama.cpp's limit of layers (LLAMA_MAX_LAYERS)."""
NONE = "no-cache"
_SLIDING, _CHUNKED = "sliding_window", "attention_chunk_size"
_KIND_OF_REACH = {_SLIDING: SLIDING, _CHUNKED: CHUNKED, "": FULL}
_KIND_OF_RATIO = {0: SLIDING, 4: CSA}
_FIRST_INDEXERS, _INDEXER_EVERY = 2, 4


def decoder(metadata: Metadata) -> Decoder:
    """Layers as read by llama.cpp from the metadata of their architecture."""
    return _Layers(metadata).decoder()


class _Layers:
    """What all layers need, read once. `trunk` layers come before those for multi-token prediction."""

    def __init__(self, metadata: Metadata) -> None:
        self.metadata = metadata
        self.architecture = metadata.architecture
        self.count = metadata.integer("block_count", most=MOST_LAYERS)
        drafts = metadata.whole("nextn_predict_layers")
        if drafts > self.count:
            raise metadata.wrong(
                "nextn_predict_layers",
                f"leaves no layer for the model: {drafts} of {self.count} layers (block_count)",
                "include them in block_count",
            )
        self.trunk = self.count - drafts
        self.heads = metadata.by_layer(HEADS, self.count, [0] * self.count)
        self.kv_heads = metadata.by_layer(KV_HEADS, self.count, self.heads)
        self.blocks = [0] * self.count
        if self.architecture in BLOCKS:
            self.blocks = metadata.by_layer("feed_forward_length", self.count, self.blocks)
        self.window, self.sliding = self._windows()
        self.recurrent = self._recurrent()
        self.indexed = self._indexed()
        self.latent = self._is_latent()
        self.ratios = self._ratios()

    def decoder(self) -> Decoder:
        """Groups of equal layers by name; multi-token-prediction layers are separate if llama.cpp separates them."""
        own = self.trunk if self.trunk and self.architecture not in DRAFTS_WITH_THE_REST else self.count
        groups: dict[str, Layer] = {}
        names = [self._named(groups, *self._layer(index)) for index in range(own)]
        names += self._repeats(groups, names)
        if len(groups) == 1:
            groups = {ALL: groups[names[0]]}
            names = [ALL] * len(names)
        drafts = [self._named(groups, DRAFTS, self._attention(index)) for index in range(own, self.count)]
        return Decoder(tuple(names), groups, self.metadata.origin("block_count"), tuple(drafts), self._notes(own))

    def _notes(self, own: int) -> tuple[str, ...]:
        found = []
        if own > self.trunk:
            found.append(
                f"the last {own - self.trunk} of its layers are for multi-token prediction; llama.cpp caches them "
                "with the rest"
            )
        if self.architecture in LATENT and not self.latent:
            rank = self.metadata.whole("attention.kv_lora_rank")
            found.append(
                f"an old file without the metadata that MLA needs to cache its latent of {rank}: every head has its "
                "own keys and values"
            )
        return tuple(found)

    def _repeats(self, groups: dict[str, Layer], names: list[str]) -> list[str]:
        """Layers not counted by the file: a stack that runs several times, a router after the last layer."""
        if self.architecture == "nanbeige":
            loops = self.metadata.whole("num_loops", 1) or 1
            if loops * self.count > MOST_LAYERS:
                raise self.metadata.wrong(
                    "num_loops",
                    f"{loops} times {self.count} layers exceed llama.cpp's limit of {MOST_LAYERS}",
                    "check num_loops",
                )
            return names * (loops - 1)
        if self.architecture == "graniteswitch":
            return [self._named(groups, "router", heads_layer(self.metadata, 1, 1, "", 0))]
        return []

    def _layer(self, index: int) -> tuple[str, Layer]:
        """Kind and parts of a layer."""
        states = None
        if self.recurrent[index]:
            states = recurrent_layer(self.metadata, RECURRENT[self.architecture], self.heads[0])
            if self.architecture not in BOTH:
                return LINEAR, states
        if index >= KV_FROM_START.get(self.architecture, self.count) or index >= self.count - self._sharing():
            return (SHARED_SLIDING, READS_SLIDING) if self._reach(index) else (SHARED, READS_CACHE)
        if not self.kv_heads[index] or self.blocks[index]:
            return NONE, NO_CACHE
        if self.ratios:
            return _KIND_OF_RATIO.get(self.ratios[index], HCA), self._attention(index)
        if states is not None:
            return HYBRID, self._attention(index) + states
        kind = INDEXED if self.indexed[index] else _KIND_OF_REACH[self._reach(index)]
        return kind, self._attention(index)

    def _attention(self, index: int) -> Layer:
        metadata, heads, kv_heads = self.metadata, self.heads[index], self.kv_heads[index]
        if not (heads and self.heads[0]) and self.architecture != "plamo2":
            raise metadata.wrong(HEADS, f"layer {index} has KV heads but no query heads", "check both lists")
        if self.ratios:
            return compressed_layer(metadata, heads, kv_heads, self.ratios[index])
        reach = self._reach(index)
        if self.latent:
            layer = latent_layer(metadata, heads, kv_heads, reach, self.window)
        elif self.architecture in LATENT | EXPANDED_LATENT and heads == kv_heads:
            layer = expanded_layer(metadata, heads)
        else:
            layer = heads_layer(metadata, heads, kv_heads, reach, self.window)
        if self.architecture == "t5":
            cross = Facts(metadata).put("cross_num_kv_heads", kv_heads, KV_HEADS)
            layer += cross.put("cross_head_dim", getattr(layer.parts[0], "head_dim"), HEADS).build(CrossAttention)  # noqa: B009
        return layer + indexer(metadata) if self.indexed[index] else layer

    def _reach(self, index: int) -> str:
        if not self.sliding[index]:
            return ""
        return _CHUNKED if WINDOWS[self.architecture].chunked else _SLIDING

    def _windows(self) -> tuple[int, list[bool]]:
        """The reach of sliding layers, and which layers slide."""
        metadata, none = self.metadata, [False] * self.count
        spec = WINDOWS.get(self.architecture)
        if spec is None or (self.architecture == "exaone4" and self.trunk != EXAONE4_WITH_WINDOWS):
            return 0, none
        window = metadata.integer(WINDOW) if spec.needed else metadata.whole(WINDOW, spec.window or 0)
        if not window:
            return 0, none
        pattern = metadata.value("attention.sliding_window_pattern")
        if isinstance(pattern, list) or (pattern is None and spec.every is None):
            return spec.always or window, metadata.flags("attention.sliding_window_pattern", self.count)
        every = metadata.whole("attention.sliding_window_pattern", spec.every or 0)
        full = 0 if spec.full_first else every - 1
        sliding = [not every or index % every != full for index in range(self.trunk)]
        return spec.always or window, sliding + [False] * (self.count - self.trunk)

    def _recurrent(self) -> list[bool]:
        metadata, architecture, trunk = self.metadata, self.architecture, self.trunk
        if architecture not in RECURRENT:
            return [False] * self.count
        if architecture in ALL_RECURRENT | BOTH:
            flags = [True] * trunk
        elif architecture in FULL_EVERY and isinstance(metadata.value("attention.recurrent_layers"), list):
            flags = metadata.flags("attention.recurrent_layers", self.count)[:trunk]
        elif architecture in FULL_EVERY:
            every = metadata.whole("full_attention_interval", FULL_EVERY[architecture]) or FULL_EVERY[architecture]
            flags = [(index + 1) % every != 0 for index in range(trunk)]
        else:
            flags = [not (kv or block) for kv, block in zip(self.kv_heads, self.blocks, strict=True)][:trunk]
        return flags + [False] * (self.count - trunk)

    def _indexed(self) -> list[bool]:
        """Which layers have their own indexer."""
        metadata, none = self.metadata, [False] * self.count
        if self.architecture not in INDEXERS or not metadata.whole("attention.indexer.key_length"):
            return none
        if self.architecture == "hy_v4" and not metadata.whole("attention.indexer.top_k"):
            return none
        flags = [not recurrent for recurrent in self.recurrent[: self.trunk]]
        if self.architecture == "minimax-m3":
            dense = metadata.whole("leading_dense_block_count")
            return [index >= dense for index in range(self.count)]
        types = metadata.value("attention.indexer.types")
        if self.architecture in INDEXERS_BY_LAYER and isinstance(types, list):
            own = metadata.flags("attention.indexer.types", self.trunk)
            flags = [flag and has_own for flag, has_own in zip(flags, own, strict=True)]
        elif self.architecture == "glm-dsa" and metadata.whole("context_length") >= LONG_CONTEXT_OF_GLM:
            period = [_FIRST_INDEXERS % _INDEXER_EVERY]
            flags = [index < _FIRST_INDEXERS or index % _INDEXER_EVERY in period for index in range(self.trunk)]
        if self.architecture == "dots3note":
            flags = [flag and not sliding for flag, sliding in zip(flags, self.sliding, strict=False)]
        return flags + [False] * (self.count - self.trunk)

    def _is_latent(self) -> bool:
        if self.architecture in ALWAYS_LATENT:
            return True
        keys = ("attention.key_length_mla", "attention.value_length_mla")
        return self.architecture in LATENT and all(key in self.metadata for key in keys)

    def _ratios(self) -> list[int]:
        """DeepSeek-V4: tokens per compressed entry for each layer, 0 for window only."""
        if self.architecture != "deepseek4":
            return []
        name = "attention.compress_ratios"
        ratios = self.metadata.value(name)
        if not isinstance(ratios, list) or len(ratios) < self.count:
            raise self.metadata.wrong(name, f"must have an entry for each of the {self.count} layers", "list them all")
        return self.metadata.by_layer(name, len(ratios), [])[: self.count]

    def _sharing(self) -> int:
        """Layers at the end that read another's cache."""
        if self.architecture != "gemma4":
            return 0
        sharing = self.metadata.whole("attention.shared_kv_layers")
        if sharing >= self.count:
            raise self.metadata.wrong(
                "attention.shared_kv_layers",
                f"{sharing} of {self.count} layers leaves none with a cache",
                "check the value",
            )
        return sharing

    @staticmethod
    def _named(groups: dict[str, Layer], kind: str, layer: Layer) -> str:
        """Name of the group of equal layers: `kind`, with a number if there are several."""
        numbered = chain([kind], (f"{kind}-{number}" for number in range(2, MOST_LAYERS + 2)))
        name = next(name for name in numbered if name not in groups or groups[name].parts == layer.parts)
        groups.setdefault(name, layer)
        return name
