"""A prefill and single decode steps, with the cache that a model makes by itself."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from inspect import signature
from typing import TYPE_CHECKING

from transformers import DynamicCache, EncoderDecoderCache, LlamaForCausalLM

from kvcalc.verify.transformers.inputs import ENCODER_TOKENS, Inputs, encoder_inputs, inputs_beside, token_ids

if TYPE_CHECKING:
    from transformers import Cache, PreTrainedConfig, PreTrainedModel

CACHES = ("cache", "past_key_values", "cache_params", "mems", "state", "past_buckets_states")
"""Where a forward returns it, the first that does; `cache` since 5.24, which knows some of the others as its names."""
GIVEN_CACHES: dict[str, Callable[[PreTrainedConfig], Cache]] = {
    "blt": lambda _config: EncoderDecoderCache(DynamicCache(), DynamicCache()),  # fails to make its own
    "recurrent_gemma": lambda config: DynamicCache(config=config),  # does not return the one it makes
}
READS_ALL = {"cpmant"}  # at every step, not only the new token
STEPS_IN_GENERATE = {"xlm", "xlnet"}
"""Types that decode only in generate(): what forwards return is not what they take."""


_GIVEN_AS = "cache" if "cache" in signature(LlamaForCausalLM.forward).parameters else "past_key_values"


def cache_after(
    model: PreTrainedModel,
    *,
    batch: int,
    prompt: int,
    decode: int = 0,
    encoder_tokens: int = ENCODER_TOKENS,
    progress: Callable[[int, int], None] = lambda _done, _all: None,
) -> object:
    """The cache after a prompt of `prompt` tokens in each of `batch` sequences and `decode` more, one by one, or None.

    progress: called with the passes done and all of them.
    """
    ids = token_ids(batch, prompt + decode, model.config).to(model.device)
    around = encoder_inputs(model, batch, encoder_tokens)
    name = "decoder_input_ids" if model.config.is_encoder_decoder else "input_ids"
    past: Inputs = {}
    if model.config.model_type in GIVEN_CACHES:
        past[_GIVEN_AS] = GIVEN_CACHES[model.config.model_type](model.config)
    ends = range(prompt, prompt + decode + 1)
    for step, (start, end) in enumerate(zip((0, *ends), ends, strict=False), start=1):
        new = ids[:, 0 if model.config.model_type in READS_ALL else start : end]
        output = model(**around, **inputs_beside(model, new), **{name: new}, **past, use_cache=True)
        past |= cache_in(output)
        progress(step, decode + 1)
    return next(iter(past.values()), None)


def cache_in(output: Mapping[str, object]) -> Inputs:
    """The cache in what a model returned, under its name there."""
    name = next((name for name in CACHES if output.get(name) is not None), None)
    return {name: output[name]} if name else {}
