"""Files and configs found next to a language model's: what each is, by its unique fields.

Source: files written by diffusers, sentence-transformers, timm, open_clip, tokenizers, transformers, peft and ModelOpt.
"""

from __future__ import annotations

from collections.abc import Mapping

from kvcalc.errors import UnknownArchitectureError
from kvcalc.io.documents import Document

_ADAPTER = "the config of an adapter"
_NAME_THE_BASE = "name its folder, or its base model: the cache is the base model's"
_NAME_THE_MODEL = "pass the config.json of a language model, or its folder"
_WITHOUT_TYPE: tuple[tuple[tuple[str, ...], str], ...] = (
    (("_diffusers_version",), "the config of a diffusers pipeline or of one of its parts"),
    (("peft_type",), _ADAPTER),
    (("word_embedding_dimension",), "the pooling layer of sentence-transformers"),
    (("__version__",), "the settings of sentence-transformers"),
    (("pretrained_cfg",), "the config of a timm model"),
    (("model_cfg", "preprocess_cfg"), "the config of an open_clip model"),
    (("producer", "quantization"), "ModelOpt's quantisation, which belongs to a config.json"),
    (("weight_map",), "the index of safetensors files"),
    (("tokenizer_class",), "the config of a tokenizer"),
    (("added_tokens", "model"), "a tokenizer"),
    (("image_processor_type",), "the config of an image processor"),
    (("feature_extractor_type",), "the config of a feature extractor"),
    (("processor_class",), "the config of a processor"),
    (("log_history",), "a training log"),
    (("eos_token_id", "transformers_version"), "a generation config"),
    (("multiple_of", "vision_num_cross_attention_layers"), "a params.json of Llama's vision models"),
    (("multiple_of", "attention_chunk_size"), "a params.json of Llama 4"),
)
"""Combinations of fields and their meaning, for files without model_type and architectures, in order of preference."""
ENCODERS = frozenset(
    (
        *("bert", "big_bird", "camembert", "data2vec-text", "electra", "ernie", "megatron-bert", "rembert", "roberta"),
        *("roberta-prelayernorm", "roc_bert", "roformer", "xlm-roberta", "xlm-roberta-xl", "xmod"),
    )
)
"""Types that cache tokens only if is_decoder is true; otherwise they are encoders."""
_OF_DECODERS = ("CausalLM", "LMHead", "Decoder")


def check_is_model(document: Document) -> None:
    """Raises UnknownArchitectureError, naming what a file is, if it is not a language model's config."""
    values = document.data
    what = _what(values) if isinstance(values, Mapping) else ""
    if what:
        raise UnknownArchitectureError(
            f"is {what}, not the config of a language model",
            where=document.where(),
            help=_NAME_THE_BASE if what == _ADAPTER else _NAME_THE_MODEL,
        )


def _what(values: Mapping[object, object]) -> str:
    if str(values.get("model_type")) in ENCODERS and values.get("is_decoder") is not True:
        return _encoder(values)
    if "model_type" in values or "architectures" in values or "attention" in values or "layers" in values:
        return ""
    return next((what for names, what in _WITHOUT_TYPE if all(name in values for name in names)), "")


def _encoder(values: Mapping[object, object]) -> str:
    """Only a named class that is not a decoder's shows that there is no cache."""
    classes = values.get("architectures")
    named = [name for name in classes if isinstance(name, str)] if isinstance(classes, list) else []
    if not named or any(word in name for name in named for word in _OF_DECODERS):
        return ""
    return "the config of an encoder, which caches no tokens (is_decoder is not true)"
