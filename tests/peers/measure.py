"""What transformers really holds as KV and state cache, measured on tiny random models on the CPU.

`python tests/peers/measure.py OUT.jsonl [TYPE...]` appends one row per model: its config.json and what its cache took.
Without types it takes every model type that transformers can generate text with. A type that cannot be run becomes a
row with `failed`, the reasons, instead of `cases`.
"""

from __future__ import annotations

import json
import os
import re
import sys
import traceback
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

os.environ.setdefault("TRANSFORMERS_VERBOSITY", "critical")
os.environ.setdefault("HF_HUB_OFFLINE", "1")

import torch
import transformers
from shrinking import VARIANTS, tiny_config
from torch import Tensor, nn
from transformers import DynamicCache, EncoderDecoderCache
from transformers.initialization import no_init_weights
from transformers.modeling_outputs import BaseModelOutput
from transformers.models.auto import modeling_auto

TASKS = {  # in the order in which a class that stands in several of them is met
    "causal": modeling_auto.MODEL_FOR_CAUSAL_LM_MAPPING_NAMES,
    "itt": modeling_auto.MODEL_FOR_IMAGE_TEXT_TO_TEXT_MAPPING_NAMES,
    "s2s": modeling_auto.MODEL_FOR_SEQ_TO_SEQ_CAUSAL_LM_MAPPING_NAMES,
    "speech": modeling_auto.MODEL_FOR_SPEECH_SEQ_2_SEQ_MAPPING_NAMES,
    "mm": modeling_auto.MODEL_FOR_MULTIMODAL_LM_MAPPING_NAMES,
}
Row = dict[str, Any]
DTYPES = {"bfloat16": torch.bfloat16, "float32": torch.float32}
CACHES = ("past_key_values", "cache_params", "mems", "state", "past_buckets_states")  # where a forward returns it
BOILERPLATE = {
    *("id2label", "label2id", "problem_type", "architectures", "transformers_version", "return_dict", "use_cache"),
    *("output_hidden_states", "output_attentions", "chunk_size_feed_forward", "tie_word_embeddings"),
    *("initializer_range", "attention_dropout"),
}


class Case(NamedTuple):
    """One run: a prefill of `prompt` tokens for `batch` sequences, then `decode` tokens one by one."""

    batch: int
    prompt: int
    decode: int
    cache: str = "default"
    mode: str = "forward"


CASES = (
    *(Case(1, 5, 0), Case(2, 16, 1), Case(3, 40, 0), Case(3, 40, 1), Case(2, 35, 3)),
    *(Case(2, 20, 3, cache, "generate") for cache in ("default", "static", "quantized_fp8")),
)
ENCODER_TOKENS = 24
GIVEN_CACHES: dict[str, Callable[[Any], Any]] = {
    "blt": lambda config: EncoderDecoderCache(DynamicCache(), DynamicCache()),  # fails to make its own
    "recurrent_gemma": lambda config: DynamicCache(config=config),  # does not return the one it makes
}
READS_ALL = {"cpmant"}  # at every step, not only the new token
LARGEST_WEIGHT = 1 << 22  # what is larger belongs to towers that text does not run through: it is left as it is


# ---- models ----------------------------------------------------------------------------------------------------------


def model_classes(model_type: str) -> dict[str, str]:
    """The tasks of a model type and the class that serves each; a class is named once."""
    classes: dict[str, str] = {}
    for task, names in TASKS.items():
        name = names.get(model_type)
        name = name[0] if isinstance(name, list | tuple) else name
        if name and name not in classes.values():
            classes[task] = name
    return classes


def build(class_name: str, config: Any, dtype: str = "bfloat16") -> Any:
    """A model with random weights and plain attention; it never stops early."""
    torch.manual_seed(0)
    torch.set_num_threads(1)
    model_class = getattr(transformers, class_name)
    text = config.get_text_config(decoder=True)
    if isinstance(text, model_class.config_class) and not isinstance(config, model_class.config_class):
        config = text
    with no_init_weights():
        model = model_class._from_config(config, dtype=DTYPES[dtype], attn_implementation="eager").eval()
    for weight in model.parameters():
        if weight.is_floating_point() and weight.numel() < LARGEST_WEIGHT:
            nn.init.normal_(weight, std=0.02)
    for weight in kept_in_float32(model):
        weight.data = weight.data.float()
    model.tie_weights()
    if not model.can_generate():
        return model
    for name in ("eos_token_id", "forced_eos_token_id", "forced_bos_token_id", "suppress_tokens"):
        setattr(model.generation_config, name, None)
    model.generation_config.decoder_start_token_id = 1
    model.generation_config.num_beams = 1
    return model


def kept_in_float32(model: Any) -> Iterator[Tensor]:
    """The weights which transformers loads as float32 whatever the dtype asked for: caches inherit their dtype."""
    patterns = [re.compile(name.replace("*", ".*")) for name in model._get_dtype_plan(model.dtype)]
    for name, weight in (*model.named_parameters(), *model.named_buffers()):
        if weight.is_floating_point() and any(pattern.search(name) for pattern in patterns):
            yield weight


def text_part(config: Any) -> tuple[str, Any]:
    """The text model inside a wrapper: its class and its config."""
    inner = next((getattr(config, name) for name in ("thinker_config", "vlm_config") if hasattr(config, name)), None)
    inner = inner or config.get_text_config(decoder=True)
    return next(iter(model_classes(inner.model_type).values()), "BlipTextLMHeadModel"), inner


# ---- inputs ----------------------------------------------------------------------------------------------------------


@dataclass
class Encoded(BaseModelOutput):
    """What an encoder returns, with the mask which a few of them add."""

    attention_mask: Tensor | None = None


def token_ids(batch: int, tokens: int, config: Any = None) -> Tensor:
    """Random tokens that are none of the special ones; audio models take several streams of them."""
    kind = config.model_type if config else None
    shape: tuple[int, ...] = (batch, tokens)
    if kind == "dia":
        shape = (batch, tokens, config.decoder_config.num_channels)
    elif kind == "kyutai_speech_to_text":
        shape = (batch, tokens, config.num_codebooks + 1)
    elif kind in ("musicgen_decoder", "musicgen_melody_decoder"):
        shape = (batch * config.num_codebooks, tokens)
    return torch.randint(3, 90, shape, generator=torch.Generator().manual_seed(tokens))


def encoder_inputs(model: Any, batch: int) -> Row:
    """What the decoder attends to besides its own tokens: encoded text, or else random encoder states."""
    config = model.config
    if not config.is_encoder_decoder:
        return {}
    if config.model_type == "switch_transformers":  # its encoder refuses to be run with use_cache
        return {"encoder_outputs": model.get_encoder()(token_ids(batch, ENCODER_TOKENS), output_router_logits=True)}
    if model.main_input_name == "input_ids":
        boxes = {"bbox": torch.zeros(batch, ENCODER_TOKENS, 4)} if config.model_type == "udop" else {}
        return {"input_ids": token_ids(batch, ENCODER_TOKENS), **boxes}
    encoder = model.get_encoder().config
    width = getattr(encoder, "hidden_size", None) or encoder.d_model
    states = torch.randn(batch, ENCODER_TOKENS, width, dtype=model.dtype)
    return {"encoder_outputs": Encoded(states, attention_mask=torch.ones(batch, ENCODER_TOKENS, dtype=torch.long))}


def inputs_beside(model: Any, ids: Tensor) -> Row:
    """What a few types ask for beside their tokens, although there is no picture and no sound."""
    config, (batch, tokens) = model.config, ids.shape[:2]
    if config.model_type == "kosmos-2":
        nothing = torch.zeros(batch, 0, config.text_config.embed_dim, dtype=model.dtype)
        return {"image_embeds": nothing, "image_embeds_position_mask": torch.zeros(batch, tokens)}
    if config.model_type == "idefics":
        picture = torch.randn(batch, 1, ENCODER_TOKENS, config.vision_config.embed_dim, dtype=model.dtype)
        return {"image_encoder_embeddings": picture, "image_attention_mask": torch.ones(batch, tokens, 1)}
    if config.model_type == "voxtral_realtime":
        sound = torch.randn(batch, tokens * config.downsample_factor, config.audio_config.hidden_size)
        return {"encoder_inputs_embeds": sound.to(model.dtype)}
    return {}


# ---- what a cache holds ----------------------------------------------------------------------------------------------


def tensors(value: Any) -> Iterator[Tensor]:
    """Every tensor inside a layer of a cache; single numbers are counters and scales, not states."""
    if isinstance(value, Tensor):
        if value.dim():
            yield value
    elif isinstance(value, list | tuple):
        for item in value:
            yield from tensors(item)
    elif isinstance(value, dict):
        yield from tensors([*value.values()])
    elif type(value).__module__.startswith("transformers.") and not isinstance(value, transformers.PreTrainedConfig):
        yield from tensors(vars(value))


def layers_of(cache: Any, layers: int) -> dict[str, list[list[Tensor]]]:
    """The tensors of each layer, for the self-attention and, where there is one, the cross-attention."""
    if hasattr(cache, "cross_attention_cache"):
        both = {"self": cache.self_attention_cache, "cross": cache.cross_attention_cache}
        held = {name: layers_of(part, layers)["self"] for name, part in both.items()}
        return held if any(held["cross"]) else {"self": held["self"]}
    if hasattr(cache, "layers"):
        held = [list(tensors(layer)) for layer in cache.layers]
        for layer, state in enumerate(getattr(cache, "linear_cache", ())):  # minimax keeps its states beside the layers
            held += [[] for _ in range(layer + 1 - len(held))]
            held[layer] += tensors(state)
        return {"self": held}
    if hasattr(cache, "rnn_state"):  # xlstm
        return {"self": [list(tensors(state)) for state in cache.rnn_state.values()]}
    if isinstance(cache, list | tuple) and len(cache) == layers:
        return {"self": [list(tensors(layer)) for layer in cache]}
    held = list(tensors(cache))
    if held and all(tensor.shape[-1] == layers for tensor in held):  # rwkv stacks the layers in the last dimension
        return {"self": [[tensor[..., layer] for tensor in held] for layer in range(layers)]}
    return {"self": [held]}


def states_on_modules(model: nn.Module) -> list[list[Tensor]]:
    """States which a model keeps on its own modules, layer by layer (recurrent_gemma)."""
    stacks = [module for name, module in model.named_modules() if name.endswith("layers")]
    held = [[_module_states(layer) for layer in stack] for stack in stacks if isinstance(stack, nn.ModuleList)]
    return next((layers for layers in held if any(layers)), [])


def _module_states(layer: nn.Module) -> list[Tensor]:
    names = ("recurrent_states", "conv1d_state")
    found = (getattr(module, name, None) for module in layer.modules() for name in names)
    return [tensor for tensor in found if isinstance(tensor, Tensor)]


def counted(held: dict[str, list[list[Tensor]]]) -> dict[str, Any]:
    """Bytes by layer, each tensor once however many names it has, and the bytes of the storages behind them."""
    seen: set[Any] = set()
    storages: dict[int, int] = {}

    def size(tensor: Tensor) -> int:
        view = (tensor.data_ptr(), tensor.shape, tensor.stride(), tensor.dtype)
        if not tensor.numel() or view in seen:
            return 0
        seen.add(view)
        storages[tensor.untyped_storage().data_ptr()] = tensor.untyped_storage().nbytes()
        return tensor.numel() * tensor.element_size()

    layer_bytes = {part: [sum(map(size, layer)) for layer in layers] for part, layers in held.items()}
    total = sum(map(sum, layer_bytes.values()))
    return {"bytes": total, "storage_bytes": sum(storages.values()), "layer_bytes": layer_bytes}


# ---- runs ------------------------------------------------------------------------------------------------------------


def run(model: Any, case: Case) -> Row:
    """Run one case and return it as a row of measured numbers."""
    torch.manual_seed(0)
    with torch.no_grad():
        cache, tokens = (generated if case.mode == "generate" else forwarded)(model, case)
    text = model.config.get_text_config(decoder=True)
    held = layers_of(cache, getattr(text, "num_hidden_layers", 0)) if cache is not None else {"self": []}
    on_modules = states_on_modules(model)
    if on_modules:
        own = held["self"] or [[] for _ in on_modules]
        held["self"] = [[*layer, *more] for layer, more in zip(own, on_modules, strict=True)]
    row = {"mode": case.mode, "cache": case.cache, "dtype": str(model.dtype).removeprefix("torch.")}
    row |= {"batch": case.batch, "prompt_tokens": case.prompt, "decode_steps": case.decode, "cached_tokens": tokens}
    cross = [tensor for layer in held.get("cross", []) for tensor in layer]
    if cross and model.config.is_encoder_decoder:
        row["encoder_len"] = cross[0].shape[-2]
    return row | counted(held)


def forwarded(model: Any, case: Case) -> tuple[Any, int]:
    """The cache after a prefill and single decode steps, with the cache that the model makes by itself."""
    ids = token_ids(case.batch, case.prompt + case.decode, model.config)
    around = encoder_inputs(model, case.batch)
    name = "decoder_input_ids" if model.config.is_encoder_decoder else "input_ids"
    past: Row = {}
    if model.config.model_type in GIVEN_CACHES:
        past["past_key_values"] = GIVEN_CACHES[model.config.model_type](model.config)
    ends = range(case.prompt, case.prompt + case.decode + 1)
    for start, end in zip((0, *ends), ends, strict=False):
        new = ids[:, 0 if model.config.model_type in READS_ALL else start : end]
        output = model(**around, **inputs_beside(model, new), **{name: new}, **past, use_cache=True)
        past |= {key: output[key] for key in CACHES if output.get(key) is not None}
    return next(iter(past.values()), None), case.prompt + case.decode


def generated(model: Any, case: Case) -> tuple[Any, int]:
    """The cache after `generate()`, which never feeds its last token back."""
    kind: dict[str, Any] = {}
    if case.cache == "static":
        kind = {"cache_implementation": "static"}
    if case.cache == "quantized_fp8":
        kind = {"cache_implementation": "quantized", "cache_config": {"backend": "fp8"}}
    ids = token_ids(case.batch, case.prompt, model.config)
    around = encoder_inputs(model, case.batch)
    if model.config.is_encoder_decoder:
        ids[:, 0] = model.generation_config.decoder_start_token_id  # else generate() puts it in front
    around |= inputs_beside(model, ids)
    around["decoder_input_ids" if model.config.is_encoder_decoder else "input_ids"] = ids
    output = model.generate(
        **around, **kind, max_new_tokens=case.decode + 1, do_sample=False, return_dict_in_generate=True,
        disable_compile=True, use_cache=True,
    )  # fmt: skip
    cache = next((output[key] for key in CACHES if output.get(key) is not None), None)
    return cache, output.sequences.shape[1] - 1


def measured(model: Any, cases: Iterable[Case]) -> tuple[list[Row], list[Row]]:
    """Every case that the model can run, and those it refuses with the reason; the first one has to work."""
    first, *others = cases
    rows, refused = [run(model, first)], []
    for case in others:
        try:
            rows.append(run(model, case))
        except Exception as error:  # a cache that this type refuses, or steps that it cannot take
            refused.append({**case._asdict(), "reason": reason(error)})
    return rows, refused


def reason(error: Exception) -> str:
    """An error in one line, with the place where it was raised."""
    place = traceback.extract_tb(error.__traceback__)[-1]
    message = " ".join(str(error).split())[:160]
    return f"{type(error).__name__}: {message} ({Path(place.filename).name}:{place.lineno})"


# ---- rows ------------------------------------------------------------------------------------------------------------


def saved(config: Any) -> dict[str, Any]:
    """The config as transformers saves it, without what says nothing about a cache."""

    def plain(value: Any) -> Any:
        if isinstance(value, dict):
            return {key: plain(item) for key, item in value.items() if key not in BOILERPLATE}
        return value

    return plain(json.loads(config.to_json_string(use_diff=False)))


def rows_of(
    model_type: str,
    variant: str,
    dtypes: Iterable[str] = ("bfloat16", "float32"),
    cases: Sequence[Case] = CASES,
) -> Iterator[Row]:
    """A row for every task of a model type, or the reason why there is none."""
    for task, class_name in model_classes(model_type).items():
        row: Row = {"model_type": model_type, "task": task, "variant": variant}
        try:
            row |= _row(model_type, class_name, tiny_config(model_type, variant, task), dtypes, cases)
        except LookupError:  # no such variant of this type
            continue
        yield row


def _row(model_type: str, class_name: str, given: Row, dtypes: Iterable[str], cases: Sequence[Case]) -> Row:
    """The whole model run on text, else its text part alone; in the first dtype that it works in."""
    failures = []
    for part, dtype in ((part, dtype) for part in ("full", "text") for dtype in dtypes):
        try:
            config = transformers.CONFIG_MAPPING[model_type](**given)
            name, used = (class_name, config) if part == "full" else text_part(config)
            model = build(name, used, dtype)
            used = model.config if part == "full" else config
            held, refused = measured(model, cases)
        except Exception as error:
            failures.append(f"{part} in {dtype}: {reason(error)}")
            continue
        return {"part": part, "config": saved(used), "config_in": given, "cases": held, "refused": refused}
    return {"failed": failures}


def main(out: str, *types: str) -> None:
    """Append the rows of the types to a file."""
    for model_type in types or sorted({name for names in TASKS.values() for name in names}):
        rows = [row for variant in VARIANTS for row in rows_of(model_type, variant)]
        if any(case["dtype"] == "bfloat16" for row in rows for case in row.get("cases", [])):
            rows += rows_of(model_type, "a", ("float32",))
        with Path(out).open("a") as file:
            file.writelines(json.dumps(row) + "\n" for row in rows)


if __name__ == "__main__":
    main(*sys.argv[1:])
