"""Drafts of another checkpoint in SGLang: pools of their own, with as many tokens as the model's.

    bytes of a token in it       of each layer of the draft, whatever its window, those of its own heads, in the model's
                                 format or speculative_draft_kv_cache_dtype
    what a token is charged      EAGLE, EAGLE3, STANDALONE: int(bytes of the model's token * layers of the draft
                                 / layers of the model), whatever the draft's pool takes; DFLASH: what it takes

Source: SGLang, model_executor/pool_configurator.py, model_runner_components/spec_aux_hidden_state.py,
mem_cache/draft_kv_budget.py, arg_groups/speculative_hook.py, configs/model_config.py (_config_draft_model).
"""

from __future__ import annotations

from dataclasses import replace

from kvcalc.attention.gqa import GroupedQueryAttention
from kvcalc.cache.dtypes import Dtype
from kvcalc.engines.sglang.compressed import is_compressed
from kvcalc.engines.sglang.resolution import cache_dtype, has_own_windows, rows_of
from kvcalc.engines.sglang.schedule import Schedule
from kvcalc.engines.sglang.served import served_model
from kvcalc.engines.sglang.settings import DFLASH, OWN, STANDALONE, SglangSettings
from kvcalc.engines.sglang.tensors import Rows, is_sliding
from kvcalc.engines.sglang.types import INKLING, LOADED_AS_PREDICTORS, is_of, type_of
from kvcalc.errors import InvalidValueError, NotApplicableError
from kvcalc.model import Model, with_drafter
from kvcalc.parallel import Parallel

_APART = "size the draft model by itself, or remove speculative_draft_model_path"


def drafted_by(model: Model, drafter: Model, settings: SglangSettings) -> Model:
    """`model` with the layers of another checkpoint that draft for it; unchanged if they are the model's own.

    Raises InvalidValueError without an algorithm, NotApplicableError for drafts whose pool is not modelled.
    """
    if settings.speculative_algorithm is None:
        raise InvalidValueError(
            f"{drafter.name} drafts, and speculative_algorithm does not say how",
            field="speculative_algorithm",
            help="set speculative_algorithm, for example EAGLE3",
        )
    if settings.speculative_algorithm in OWN and _are_predictors(drafter) and type_of(drafter) == type_of(model):
        return model
    if reason := _not_modelled(model, drafter, settings):
        raise NotApplicableError(reason, help=_APART)
    return with_drafter(model, drafter, served_model(drafter, _of_draft(settings)).groups)


def _not_modelled(model: Model, drafter: Model, settings: SglangSettings) -> str:
    """Why the pools of a draft are not modelled; empty if they are."""
    parts = [part for group in drafter.groups for part in group.parts]
    strange = next((part for part in parts if not isinstance(part, GroupedQueryAttention)), None)
    if _are_predictors(drafter):
        return (
            f"SGLang loads a {type_of(drafter)} checkpoint that drafts as layers of multi-token prediction, which are "
            f"not those of {model.name}"
        )
    if strange is not None:
        return f"kvcalc does not know the pool of {strange.label} layers that draft ({drafter.name})"
    if has_own_windows(drafter, settings) and any(map(is_sliding, drafter.groups)):
        return f"kvcalc does not know the two pools of a draft with windows ({drafter.name})"
    if is_compressed(model) or is_of(model, INKLING):
        return f"kvcalc does not know what SGLang sets aside next to {model.name} for drafts of another checkpoint"
    return ""


def _are_predictors(drafter: Model) -> bool:
    """Whether the checkpoint is loaded as its layers of multi-token prediction alone."""
    return is_of(drafter, LOADED_AS_PREDICTORS) or bool(drafter.draft_groups)


def check_ranks(model: Model, settings: SglangSettings, ranks: Parallel) -> None:
    """Raises NotApplicableError for drafts of another checkpoint on ranks whose share of them is not modelled."""
    if model.drafter is None:
        return
    if ranks.dp > 1 and settings.speculative_algorithm == STANDALONE:
        raise NotApplicableError(
            "Currently standalone speculative decoding does not support dp attention.", help="use dp=1"
        )
    for name, degree in (("data parallelism of attention", ranks.dp), ("pipeline stages", ranks.pp)):
        if degree > 1:
            raise NotApplicableError(
                f"kvcalc does not know how SGLang shares {model.drafter.name}, which drafts, with {name}",
                help="use tp alone, or remove speculative_draft_model_path",
            )


def all_rows(model: Model, settings: SglangSettings, kv_dtype: Dtype, schedule: Schedule) -> Rows:
    """How it stores tokens, those of another checkpoint that drafts, too. Raises as `rows_of` does."""
    own = rows_of(model, settings, kv_dtype, schedule)
    if model.drafter is None:
        return own
    return own._replace(drafts=rows_of(model.drafter, _of_draft(settings), kv_dtype, schedule))


def _of_draft(settings: SglangSettings) -> SglangSettings:
    """The settings as the draft's worker has them."""
    own = settings.speculative_draft_kv_cache_dtype
    return replace(settings, speculative_algorithm=None, kv_cache_dtype=settings.kv_cache_dtype if own is None else own)


def format_of_draft(drafter: Model, settings: SglangSettings, kv_dtype: Dtype) -> str:
    """kv_cache_dtype of the draft's pool as SGLang resolves it."""
    return cache_dtype(drafter, _of_draft(settings), kv_dtype)


def is_exact(model: Model, settings: SglangSettings) -> bool:
    """Whether tokens are charged what the draft's pool takes."""
    return model.drafter is not None and settings.speculative_algorithm == DFLASH
