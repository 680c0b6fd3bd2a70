"""SGLang's pools for DeepSeek-V4: how many tokens fit in the remaining memory, on a rank of each pipeline stage.

    bytes of a window token  = page of the window / 256 * layers + 8 / 256 * row of states * CSA layers
    bytes of a token         = ratio * that + CSA layers * (page / 64 + index key) / 4 + HCA layers * (page / 2) / 128
    max_total_num_tokens     = floor((available - states of HCA) / bytes of a token / 256) * 256
    tokens of the window     = floor(max_total_num_tokens * ratio / 256) * 256

States of HCA are 128 rows for each concurrent request, plus one. Every pool has spare pages, equal to a page of 256
tokens, for padded writes. Quotients and the ratio are floats, as in SGLang. With drafts, rings have twice as many rows,
and a token counts (layers + 1) / layers times.
Source: SGLang, model_executor/pool_configurator.py (DSV4PoolConfigurator).
"""

from __future__ import annotations

from typing import NamedTuple

from kvcalc.attention.compressed import CompressedAttention
from kvcalc.cache.dtypes import BF16
from kvcalc.engines.sglang.compressed import CSA_RATE, HCA_RATE, PAGE, ring_rows, tensors_of
from kvcalc.engines.sglang.pools import check_sliding_pool
from kvcalc.engines.sglang.schedule import Schedule
from kvcalc.engines.sglang.settings import SglangSettings
from kvcalc.engines.sglang.stage import SLIDING
from kvcalc.errors import NotApplicableError
from kvcalc.model import DRAFTS, Attention, LayerGroup, Model
from kvcalc.report.pool import Pool

DEFAULT_RATIO = 0.1
"""Default swa_full_tokens_ratio of DeepSeek-V4 (arg_groups/model_overrides/deepseek_v4.py)."""
_WINDOW, _CSA, _HCA = None, CSA_RATE, HCA_RATE


class CompressedStage(NamedTuple):
    """What one rank stores.

    layers: by compression, None for the window of every layer. bytes_of: of one layer's page of each tensor, or of one
    ring of its states. window: tokens a query sees. draft_layers: layers that draft, which have a window.
    """

    layers: dict[int | None, int]
    bytes_of: dict[int | None, dict[str, int]]
    window: int
    draft_layers: int

    @classmethod
    def of(cls, model: Model, schedule: Schedule) -> CompressedStage:
        """Stage of a rank's model. Raises NotApplicableError for layers of other kinds."""
        layers: dict[int | None, int] = {_WINDOW: 0, _CSA: 0, _HCA: 0}
        bytes_of: dict[int | None, dict[str, int]] = {_WINDOW: {}, _CSA: {}, _HCA: {}}
        window = draft_layers = 0
        for group in model.groups:
            for part in group.parts:
                check_compressed(model, group, part)
                assert isinstance(part, CompressedAttention)
                stored = tuple(tensors_of(group, part, schedule))
                if group.name == DRAFTS:
                    draft_layers += len(group.layers)
                    continue
                stored = tuple(tensors_of(group, part, schedule))
                window = max(window, part.sliding_window)
                layers[_WINDOW] += len(group.layers)
                if part.compress_rate is not None:
                    layers[part.compress_rate] += len(group.layers)
                for tensor in stored:
                    rate = _WINDOW if tensor.name == "kv" else part.compress_rate
                    bytes_of[rate][tensor.name] = tensor.bytes_per_slot(BF16)
        return cls(layers, bytes_of, window, draft_layers)

    def tokens_in(self, settings: SglangSettings, schedule: Schedule, available_bytes: int) -> int:
        """max_total_num_tokens in this memory, or 0."""
        requests = schedule.requests or 1
        fixed_bytes = self._hca_states(schedule, requests).bytes if self.layers[_HCA] else 0
        token_bytes = self._token_bytes(settings)
        if schedule.drafts:
            token_bytes *= (self.layers[_WINDOW] + 1) / self.layers[_WINDOW]
        return int(max(available_bytes - fixed_bytes, 0) / token_bytes) // PAGE * PAGE

    def _token_bytes(self, settings: SglangSettings) -> float:
        window, csa, hca = (self.bytes_of[rate] for rate in (_WINDOW, _CSA, _HCA))
        window_token = window["kv"] / PAGE * self.layers[_WINDOW] + csa.get("states", 0) / PAGE * self.layers[_CSA]
        csa_page = csa.get("compressed_kv", 0) + csa.get("index_k", 0)
        compressed = csa_page / PAGE * self.layers[_CSA] + hca.get("compressed_kv", 0) / PAGE * self.layers[_HCA]
        return _ratio(settings) * window_token + compressed

    def pools(self, settings: SglangSettings, schedule: Schedule, tokens: int) -> tuple[Pool, ...]:
        """The pools for this number of tokens. Raises NotApplicableError if no request fits."""
        window_tokens = window_tokens_of(settings, tokens)
        check_sliding_pool(window_tokens, self.window, PAGE)
        page = f"page of {PAGE}"
        found = [self._pool(SLIDING, _WINDOW, page, window_tokens // PAGE, 1, "kv")]
        if csa := self.layers[_CSA]:
            rows = ring_rows(_CSA, drafts=schedule.drafts is not None)
            found.append(self._pool("csa", _CSA, page, tokens // PAGE, _CSA, "compressed_kv", "index_k"))
            row_bytes = self.bytes_of[_CSA]["states"] // rows * csa
            slots = window_tokens // PAGE * rows
            found.append(Pool("csa states", csa, "row", slots, (("states", row_bytes),), spare_rows(slots, rows, _CSA)))
        if self.layers[_HCA]:
            found.append(self._pool("hca", _HCA, page, tokens // PAGE, _HCA, "compressed_kv"))
            found.append(self._hca_states(schedule, schedule.requests_at_a_time(tokens)))
        if drafts := self.draft_layers:
            held = (("kv", self.bytes_of[_WINDOW]["kv"] * drafts),)
            found.append(Pool("drafts", drafts, page, window_tokens // PAGE, held, 1))
        return tuple(found)

    def log_line(self, settings: SglangSettings, schedule: Schedule, tokens: int) -> str:
        """SGLang's log line with the sizes of its pools; states of HCA are sized afterwards."""
        window, rows = window_tokens_of(settings, tokens), ring_rows(_CSA, drafts=schedule.drafts is not None)
        return (
            f"DSV4 pool sizes: full={tokens}, swa={window}, c4={tokens // CSA_RATE}, c128={tokens // HCA_RATE}, "
            f"c4_state={window // PAGE * rows}, c128_state=0"
        )

    def _pool(self, name: str, rate: int | None, slot: str, slots: int, spare: int, *tensors: str) -> Pool:
        held = tuple((tensor, self.bytes_of[rate][tensor] * self.layers[rate]) for tensor in tensors)
        return Pool(name, self.layers[rate], slot, slots, held, spare)

    def _hca_states(self, schedule: Schedule, requests: int) -> Pool:
        rows = ring_rows(_HCA, drafts=schedule.drafts is not None)
        slots = (requests + 1) * rows
        row_bytes = self.bytes_of[_HCA]["states"] // rows * self.layers[_HCA]
        spare = spare_rows(slots, rows, _HCA)
        return Pool("hca states", self.layers[_HCA], "row", slots, (("states", row_bytes),), spare)


def check_compressed(model: Model, group: LayerGroup, part: Attention) -> None:
    """Raises NotApplicableError for a layer of another kind, which these pools do not support."""
    if not isinstance(part, CompressedAttention):
        raise NotApplicableError(
            f"SGLang's pools of DeepSeek-V4 do not support {part.label} layers, which the {group.name} layers of "
            f"{model.name} are",
            help="try another --engine",
        )


def spare_rows(rows: int, ring: int, rate: int) -> int:
    """Spare rows: one ring and one row, rounded up to a whole entry."""
    return -(-(rows + ring + 1) // rate) * rate - rows


def window_tokens_of(settings: SglangSettings, tokens: int) -> int:
    """Tokens of the window's pool for this number of other tokens."""
    return int(tokens * _ratio(settings)) // PAGE * PAGE


def _ratio(settings: SglangSettings) -> float:
    return DEFAULT_RATIO if settings.swa_full_tokens_ratio is None else settings.swa_full_tokens_ratio
