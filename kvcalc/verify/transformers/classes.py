"""From a config.json to a model of the library's own class, with random weights."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from itertools import takewhile
from typing import TYPE_CHECKING

import torch
import transformers
from torch import Tensor, nn
from transformers.initialization import no_init_weights
from transformers.models.auto import modeling_auto

if TYPE_CHECKING:
    from transformers import PreTrainedConfig, PreTrainedModel

VERSION = str(transformers.__version__)
NUMBER = ".".join(takewhile(str.isdecimal, VERSION.split(".")))
"""VERSION without the suffix of a development version."""
TASKS = {  # in the order in which a class that stands in several of them is met
    "causal": modeling_auto.MODEL_FOR_CAUSAL_LM_MAPPING_NAMES,
    "itt": modeling_auto.MODEL_FOR_IMAGE_TEXT_TO_TEXT_MAPPING_NAMES,
    "s2s": modeling_auto.MODEL_FOR_SEQ_TO_SEQ_CAUSAL_LM_MAPPING_NAMES,
    "speech": modeling_auto.MODEL_FOR_SPEECH_SEQ_2_SEQ_MAPPING_NAMES,
    "mm": modeling_auto.MODEL_FOR_MULTIMODAL_LM_MAPPING_NAMES,
}
NOT_OF_THE_CLASS = ("quantization_config", "auto_map", "dtype", "torch_dtype")
"""Fields of a config.json about stored weights and remote code: the class is built without them."""
_STD = 0.02
_BLOCK_ELEMENTS = 1 << 20
"""Random numbers that are drawn once and repeated in every larger weight."""


def model_classes(model_type: str) -> dict[str, str]:
    """The tasks of a model type and the class that serves each; a class is named once."""
    classes: dict[str, str] = {}
    for task, names in TASKS.items():
        name = names.get(model_type)
        name = name[0] if isinstance(name, list | tuple) else name
        if name and name not in classes.values():
            classes[task] = name
    return classes


def class_name(model_type: object, architectures: object = ()) -> str | None:
    """The class that generates text for a model type, the config's own if possible; None if there is none."""
    if model_type not in transformers.CONFIG_MAPPING:
        return None
    names = [*model_classes(str(model_type)).values()]
    own = architectures if isinstance(architectures, list | tuple) else ()
    return next((name for name in (*own, *names) if name in names), None)


def config_of(values: Mapping[str, object]) -> PreTrainedConfig:
    """The library's config of a config.json."""
    fields = {name: value for name, value in values.items() if name not in NOT_OF_THE_CLASS}
    return transformers.CONFIG_MAPPING[str(values["model_type"])].from_dict(fields)


def text_part(config: PreTrainedConfig) -> tuple[str, PreTrainedConfig]:
    """The text model inside a wrapper: its class and its config."""
    inner = next((getattr(config, name) for name in ("thinker_config", "vlm_config") if hasattr(config, name)), None)
    inner = inner or config.get_text_config(decoder=True)
    return next(iter(model_classes(inner.model_type).values()), "BlipTextLMHeadModel"), inner


def build(
    name: str,
    config: PreTrainedConfig,
    dtype: torch.dtype = torch.bfloat16,
    device: str = "cpu",
    *,
    as_loaded: bool = True,
) -> PreTrainedModel:
    """A model with random weights and plain attention; it never stops early. On `meta` it takes no memory.

    as_loaded: with those weights in float32 which transformers loads so.
    """
    torch.manual_seed(0)
    model_class = getattr(transformers, name)
    text = config.get_text_config(decoder=True)
    if isinstance(text, model_class.config_class) and not isinstance(config, model_class.config_class):
        config = text
    plain = {"attn_implementation": "eager"}
    if device == "meta":  # grouped products want formats and alignments that a shape does not have
        plain["experts_implementation"] = "eager"
    with no_init_weights(), torch.device(device):
        model: PreTrainedModel = model_class._from_config(config, dtype=dtype, **plain).eval()
    if device != "meta":
        fill(model)
    for weight in kept_in_float32(model) if as_loaded else ():
        weight.data = weight.data.float()
    model.tie_weights()
    if not model.can_generate():
        return model
    for end in ("eos_token_id", "forced_eos_token_id", "forced_bos_token_id", "suppress_tokens"):
        setattr(model.generation_config, end, None)
    model.generation_config.decoder_start_token_id = 1
    model.generation_config.num_beams = 1
    return model


def fill(model: PreTrainedModel) -> None:
    """Random weights; large ones repeat one block, which is much faster than drawing each number."""
    block = torch.randn(_BLOCK_ELEMENTS, device=model.device) * _STD
    for weight in model.parameters():
        if not weight.is_floating_point():
            continue
        if weight.numel() <= _BLOCK_ELEMENTS:
            nn.init.normal_(weight, std=_STD)
        else:
            for chunk in weight.data.view(-1).split(_BLOCK_ELEMENTS):
                chunk.copy_(block[: len(chunk)])


def kept_in_float32(model: PreTrainedModel) -> Iterator[Tensor]:
    """Weights that transformers always loads as float32: caches inherit their dtype."""
    patterns = [re.compile(name.replace("*", ".*")) for name in model._get_dtype_plan(model.dtype)]
    for name, weight in (*model.named_parameters(), *model.named_buffers()):
        if weight.is_floating_point() and any(pattern.search(name) for pattern in patterns):
            yield weight
