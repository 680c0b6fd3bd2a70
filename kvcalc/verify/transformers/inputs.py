"""A model's inputs: random tokens, and its encoder's output."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor
from transformers.modeling_outputs import BaseModelOutput

if TYPE_CHECKING:
    from transformers import PreTrainedModel

ENCODER_TOKENS = 24
Inputs = dict[str, object]


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


def encoder_inputs(model: PreTrainedModel, batch: int, tokens: int = ENCODER_TOKENS) -> Inputs:
    """What the decoder attends to besides its own tokens: encoded text, or else random encoder states."""
    config = model.config
    if not config.is_encoder_decoder:
        return {}
    ids = token_ids(batch, tokens).to(model.device)
    if config.model_type == "switch_transformers":  # its encoder refuses to be run with use_cache
        return {"encoder_outputs": model.get_encoder()(ids, output_router_logits=True)}
    if model.main_input_name == "input_ids":
        boxes = torch.zeros(batch, tokens, 4, device=model.device)
        return {"input_ids": ids, **({"bbox": boxes} if config.model_type == "udop" else {})}
    encoder = model.get_encoder().config
    width = getattr(encoder, "hidden_size", None) or encoder.d_model
    states = torch.randn(batch, tokens, width, dtype=model.dtype, device=model.device)
    return {"encoder_outputs": Encoded(states, attention_mask=torch.ones_like(ids))}


def inputs_beside(model: PreTrainedModel, ids: Tensor) -> Inputs:
    """What a few types require besides tokens, even without pictures or sound."""
    config, (batch, tokens) = model.config, ids.shape[:2]
    dtype, device = model.dtype, model.device
    if config.model_type == "kosmos-2":
        nothing = torch.zeros(batch, 0, config.text_config.embed_dim, dtype=dtype, device=device)
        return {"image_embeds": nothing, "image_embeds_position_mask": torch.zeros(batch, tokens, device=device)}
    if config.model_type == "idefics":
        picture = torch.randn(batch, 1, ENCODER_TOKENS, config.vision_config.embed_dim, dtype=dtype, device=device)
        seen = torch.ones(batch, tokens, 1, device=device)
        return {"image_encoder_embeddings": picture, "image_attention_mask": seen}
    if config.model_type == "voxtral_realtime":
        frames, width = tokens * config.downsample_factor, config.audio_config.hidden_size
        sound = torch.randn(batch, frames, width, dtype=dtype, device=device)
        return {"encoder_inputs_embeds": sound}
    return {}
