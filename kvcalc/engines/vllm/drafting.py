"""Speculative decoding: which layers draft, and how many tokens.

vLLM's planner treats draft layers like any others: they follow the model's last layer, and join its groups and blocks.
They are the model's own (multi-token prediction), or all layers of another checkpoint. A checkpoint of a type with
layers of multi-token prediction drafts with only these, and they are built from the model's own config.
Source: vLLM, config/speculative.py; v1/worker/gpu/spec_decode/; v1/spec_decode/ (the older runner).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import NamedTuple

from kvcalc.attention.gqa import GroupedQueryAttention
from kvcalc.attention.indexer import Indexer
from kvcalc.attention.mla import MultiHeadLatentAttention
from kvcalc.attention.none import NoCache
from kvcalc.engines.vllm import quirks
from kvcalc.engines.vllm.ranks import Ranks
from kvcalc.engines.vllm.settings import VllmSettings
from kvcalc.errors import InvalidValueError, NotApplicableError
from kvcalc.model import Attention, Model, with_drafter
from kvcalc.units import shown

_MTP, _LAYERLESS = "mtp", ("ngram", "ngram_gpu", "suffix")
"""Methods that draft with the model's own layers, or without layers."""
_DRAFT_MODEL, _TRAINED = "draft_model", ("eagle", "eagle3", "dflash")
"""Methods that draft with all layers of another checkpoint: of any decoder, or of one trained for this model."""
_KINDS = (GroupedQueryAttention, MultiHeadLatentAttention, Indexer, NoCache)
"""Parts of layers that draft for another model."""
_BACKEND = "attention_backend"
"""A field of the draft that may change its blocks."""


class Speculation(NamedTuple):
    """The drafts. has_layers: whether layers draft; modules: how many of them draft, one after the other.

    standalone: whether it is a separate model, which numbers its layers from 0 and reads nothing of the target's.
    cache_dtype: of the draft layers, if it differs from the model's.
    """

    has_layers: bool = False
    tokens: int = 0
    modules: int = 0
    standalone: bool = False
    cache_dtype: str | None = None


def draft_named_in(settings: VllmSettings) -> str | None:
    """The checkpoint that drafts, as speculative names it; None if nothing drafts, or no layers do."""
    asked = _asked(settings)
    named = asked.get("model")
    return named if isinstance(named, str) and named and _method_of(asked) not in _LAYERLESS else None


def speculation_of(model: Model, settings: VllmSettings, ranks: Ranks) -> Speculation:
    """The model's drafts under these settings.

    Raises NotApplicableError and InvalidValueError as vLLM does.
    """
    asked = _asked(settings, model.drafter)
    if not asked:
        return Speculation()
    method, number = _method_of(asked), asked.get("num_speculative_tokens")
    if method in _LAYERLESS:
        return Speculation(tokens=_tokens(number))
    own_format = _own_format(asked, settings)
    if model.drafter is not None and not _is_mtp(method, model.drafter):
        _check_draft(asked, model)
        standalone = method == _DRAFT_MODEL
        if standalone:
            _check_draft_model(asked, model, model.drafter, settings, ranks)
        return Speculation(True, _tokens(number), 1, standalone, own_format)
    if not _is_mtp(method, model.drafter):
        raise NotApplicableError(
            f"the layers of the draft model of speculative method {shown(method)} are not in this model's config",
            help=f"use {_MTP} or {' or '.join(_LAYERLESS)} here, or check the command line that names the draft model",
        )
    drafts = sum(len(group.layers) for group in (model.drafter or model).draft_groups)
    if quirks.is_one_of(model, quirks.UNMENTIONED_DRAFT):
        drafts = drafts or 1
    if not drafts:
        raise NotApplicableError(
            f"{model.name} has no multi-token-prediction layers for speculative method {shown(method)}",
            help="remove speculative",
        )
    tokens = _tokens(number, drafts)
    if tokens > drafts and tokens % drafts:
        raise NotApplicableError(
            f"num_speculative_tokens ({tokens}) must be divisible by n_predict={drafts}",
            help=f"use a multiple of {drafts} draft tokens",
        )
    return Speculation(True, tokens, min(drafts, tokens), cache_dtype=own_format)


def drafted_by(model: Model, drafter: Model, settings: VllmSettings) -> Model:
    """`model` with the layers of another checkpoint that draft for it.

    Raises NotApplicableError for a method whose layers are not those of the checkpoint's config, InvalidValueError
    where no tokens are drafted.
    """
    asked = _asked(settings, drafter)
    if not asked:
        raise InvalidValueError(
            f"speculative does not say how many tokens {drafter.name} drafts",
            field="speculative",
            help='set speculative, for example {"method": "draft_model", "num_speculative_tokens": 3}',
        )
    method = _method_of(asked)
    if _is_mtp(method, drafter):
        if drafter.model_type == model.model_type and _has_layers(drafter, model):
            return replace(model, drafter=drafter)  # another checkpoint of the same layers
        raise NotApplicableError(
            f"vLLM builds layers of multi-token prediction as the config of {model.name} has them, and those of "
            f"{drafter.name} ({drafter.model_type}) differ",
            help="draft with a checkpoint of the same model, or remove speculative",
        )
    if method != _DRAFT_MODEL and method not in _TRAINED:
        raise NotApplicableError(
            f"kvcalc does not know what layers of {drafter.name} cache under the speculative method {shown(method)}",
            help=f"use {_DRAFT_MODEL}, {', '.join(_TRAINED)} or {_MTP}, or remove the drafts",
        )
    return with_drafter(model, drafter, drafter.groups)


def _has_layers(drafter: Model, model: Model) -> bool:
    """Whether a checkpoint has the draft layers that a model's config says how to build; further ones are not read."""
    own, drafts = _parts(model), _parts(drafter)
    return drafts[: len(own)] == own if own else not drafts


def _parts(model: Model) -> list[tuple[Attention, ...]]:
    """Parts of each layer of multi-token prediction."""
    return [group.parts for group in model.draft_groups for _ in group.layers]


def _asked(settings: VllmSettings, drafter: Model | None = None) -> Mapping[str, object]:
    """The setting, once known to be a mapping; with the draft model if it names none."""
    speculative = settings.speculative
    if not speculative:
        return {}
    if not isinstance(speculative, Mapping):
        raise InvalidValueError(
            f"speculative must be a mapping, not {shown(speculative)}",
            field="speculative",
            help='for example {"method": "mtp", "num_speculative_tokens": 1}',
        )
    return speculative if drafter is None else {"model": drafter.name, **speculative}


def _method_of(asked: Mapping[str, object]) -> str:
    """The method, or vLLM's guess from the draft model's name."""
    given = asked.get("method")
    if given is not None and given != _DRAFT_MODEL:
        return str(given)
    draft = str(asked.get("model") or "").lower()
    if not draft:
        return str(given or _MTP)
    if draft in ("ngram", "[ngram]"):
        return _LAYERLESS[0]
    marks = {"eagle-": "eagle", "eagle3": "eagle3", "dflash": "dflash", "dspark": "dspark"}
    return next((method for mark, method in marks.items() if mark in draft), _DRAFT_MODEL)


def _is_mtp(method: str, drafter: Model | None) -> bool:
    """Whether layers of multi-token prediction draft, as vLLM has it of any checkpoint whose type has such layers."""
    if method == _MTP or method.endswith("_mtp"):
        return True
    return method == _DRAFT_MODEL and drafter is not None and quirks.is_one_of(drafter, quirks.DRAFTS_AS_MTP)


def _own_format(asked: Mapping[str, object], settings: VllmSettings) -> str | None:
    """Format of the draft's own cache, if it has one."""
    given = asked.get("kv_cache_dtype")
    known = settings.release.cache_dtypes
    if given is not None and given != "auto" and given not in known:
        raise NotApplicableError(
            f"vLLM {settings.version} has no kv_cache_dtype {shown(given)}", help=f"use one of {', '.join(known)}"
        )
    return None if given is None else str(given)


def _check_draft(asked: Mapping[str, object], model: Model) -> None:
    """Raises NotApplicableError for another checkpoint's layers whose blocks are unknown."""
    strange = [part for group in model.draft_groups for part in group.parts if not isinstance(part, _KINDS)]
    if strange:
        raise NotApplicableError(
            f"kvcalc does not know what {strange[0].label} layers of a draft cache",
            help="draft with a model of only attention layers, or remove speculative",
        )
    if asked.get(_BACKEND) is not None:
        raise NotApplicableError(
            f"kvcalc does not know the blocks of a draft's own kernels ({_BACKEND} of speculative)",
            help=f"remove {_BACKEND} from speculative",
        )


def _check_draft_model(
    asked: Mapping[str, object], model: Model, drafter: Model, settings: VllmSettings, ranks: Ranks
) -> None:
    """Raises NotApplicableError for a draft model that vLLM does not accept for this one."""
    if not settings.release.draft_models:
        raise NotApplicableError(
            f"Speculative decoding with draft model is not supported yet by vLLM {settings.version}",
            help="choose a later version, or another method",
        )
    tp = asked.get("draft_tensor_parallel_size")
    if tp is not None and tp != ranks.tp:
        raise NotApplicableError(
            f"draft_tensor_parallel_size ({shown(tp)}) and tensor_parallel_size ({ranks.tp}) must be the same",
            help="remove draft_tensor_parallel_size",
        )
    if ranks.pp > 1:
        raise NotApplicableError(
            "vLLM cannot start a draft model on pipeline stages: it runs on the last, where its layers wait for the "
            "output of another (assert intermediate_tensors is not None)",
            help="use pp=1, an eagle, or remove speculative",
        )
    own, others = model.published.vocab_size, drafter.published.vocab_size
    if own and others and own != others and not asked.get("use_heterogeneous_vocab"):
        raise NotApplicableError(
            f"Target and draft model should have the same vocabulary size: {own:,} of {model.name}, {others:,} of "
            f"{drafter.name}",
            help="draft with a model of the same vocabulary",
        )


def _tokens(asked: object, default: int = 0) -> int:
    if asked is None and default:
        return default
    if type(asked) is not int or asked < 1:
        raise InvalidValueError(
            f"num_speculative_tokens must be a whole number of at least 1, not {shown(asked)}",
            field="speculative",
            help='for example {"method": "mtp", "num_speculative_tokens": 1}',
        )
    return asked
