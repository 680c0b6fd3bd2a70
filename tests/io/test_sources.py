"""Checkpoints as people have them: which file of a folder is read, what it is called, and what is no model."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from checkpoint_files import LLAMA, LLAMA_TOKEN_BYTES, gguf_model

import kvcalc
from kvcalc.errors import InvalidFileError, KvcalcError, NotApplicableError, UnknownArchitectureError

PARAMS = {"dim": 256, "n_layers": 2, "n_heads": 4, "n_kv_heads": 2, "head_dim": 64, "hidden_dim": 512}
META = {
    "dim": 256,
    "n_layers": 2,
    "n_heads": 4,
    "n_kv_heads": 2,
    "multiple_of": 256,
    "norm_eps": 1e-5,
    "vocab_size": 100,
}
GGUF = gguf_model({"token_embd.weight": (64, 10)})


def folder(path: Path, files: dict[str, object]) -> Path:
    for name, content in files.items():
        (path / name).parent.mkdir(parents=True, exist_ok=True)
        (path / name).write_bytes(content if isinstance(content, bytes) else json.dumps(content).encode())
    return path


def token_bytes(model) -> int:
    return kvcalc.size(model, tokens=1).total_bytes


@pytest.mark.parametrize(
    ("files", "read"),
    [
        ({"config.json": LLAMA}, "config.json"),
        ({"params.json": PARAMS}, "params.json"),
        ({"config.json": LLAMA, "params.json": {}, "tiny.gguf": GGUF}, "config.json"),
        ({"config.json": LLAMA, "adapter_config.json": {}}, "config.json"),
        ({"config.json": LLAMA, "original/params.json": {}}, "config.json"),
        ({"original/params.json": META}, "original/params.json"),
        ({"tiny.gguf": GGUF, "mmproj-tiny.gguf": b"", "README.md": b""}, "tiny.gguf"),
        ({"tiny-00001-of-00002.gguf": GGUF, "tiny-00002-of-00002.gguf": b""}, "tiny-00001-of-00002.gguf"),
        (
            {"refs/main": b"abc\n", "snapshots/abc/config.json": LLAMA, "snapshots/old/config.json": {}},
            "snapshots/abc/config.json",
        ),
        ({"snapshots/abc/config.json": LLAMA}, "snapshots/abc/config.json"),
    ],
)
def test_a_folder_is_read_by_one_of_its_files(tmp_path, files, read):
    model = kvcalc.load(folder(tmp_path / "tiny", files))
    assert model.source == str(tmp_path / "tiny" / read)
    assert model.num_layers == 2


@pytest.mark.parametrize(
    ("files", "message", "help"),
    [
        (
            {},
            "has no config.json, params.json, adapter_config.json and no GGUF file",
            "name the folder or the repository",
        ),
        ({"a.gguf": GGUF, "b.gguf": GGUF}, "and 2 GGUF files", "name one of them: a.gguf, b.gguf"),
        ({"model_index.json": {}}, "is a diffusers pipeline, not a language model", "text_encoder"),
        ({"snapshots/a/config.json": LLAMA, "snapshots/b/config.json": LLAMA}, "has no config.json", "name the folder"),
    ],
)
def test_a_folder_that_says_no_model_or_several_is_refused(tmp_path, files, message, help):
    path = folder(tmp_path / "tiny", files)
    path.mkdir(exist_ok=True)
    with pytest.raises(InvalidFileError, match=message) as refused:
        kvcalc.load(path)
    assert help in refused.value.help


def test_models_are_called_as_their_folder_or_their_repository(tmp_path):
    assert kvcalc.load(folder(tmp_path / "my-llama", {"original/params.json": META})).name == "my-llama"
    assert kvcalc.load(folder(tmp_path / "tiny-7.5B", {"config.json": LLAMA})).name == "tiny-7.5B"
    cached = folder(
        tmp_path / "models--org--tiny-7.5B", {"refs/main": b"abc", "snapshots/abc/config.json": LLAMA, "blobs/x": b""}
    )
    assert kvcalc.load(cached).name == "org/tiny-7.5B"
    assert kvcalc.load(cached / "snapshots" / "abc").name == "org/tiny-7.5B"
    assert kvcalc.load(cached / "snapshots" / "abc" / "config.json").name == "org/tiny-7.5B"


# Meta's own format ----------------------------------------------------------------------------------------------------

LLAMA_2_7B = {"dim": 4096, "multiple_of": 256, "n_heads": 32, "n_layers": 32, "norm_eps": 1e-05, "vocab_size": -1}
LLAMA_3_8B = {
    **{"dim": 4096, "n_layers": 32, "n_heads": 32, "n_kv_heads": 8, "vocab_size": 128256, "multiple_of": 1024},
    **{"ffn_dim_multiplier": 1.3, "norm_eps": 1e-05, "rope_theta": 500000.0},
}


@pytest.mark.parametrize(("params", "preset"), [(LLAMA_2_7B, "llama-2-7b"), (LLAMA_3_8B, "llama-3-8b")])
def test_metas_params_are_those_of_the_converted_model(params, preset):
    """Figures: params.json as published with Llama 2 7B and Llama 3 8B; without n_kv_heads there are n_heads."""
    model = kvcalc.load(params)
    assert token_bytes(model) == token_bytes(kvcalc.load(preset))
    assert model.max_model_len is None  # which the file does not say
    assert model.notes == ()


def test_metas_params_with_layers_that_they_do_not_describe_are_refused():
    with pytest.raises(UnknownArchitectureError, match=r"is a params\.json of Llama 4"):
        kvcalc.load({**LLAMA_3_8B, "attention_chunk_size": 8192, "nope_layer_interval": 4})
    with pytest.raises(UnknownArchitectureError, match=r"is a params\.json of Llama's vision models"):
        kvcalc.load({**LLAMA_3_8B, "vision_num_cross_attention_layers": 8})


# What is no model's config --------------------------------------------------------------------------------------------

NO_MODELS = {
    "the config of a diffusers pipeline or of one of its parts": {
        "_class_name": "UNet2DConditionModel",
        "_diffusers_version": "0.30.0",
        "attention_head_dim": 8,
    },
    "the config of an adapter": {"peft_type": "LORA", "base_model_name_or_path": "org/base", "r": 8},
    "the pooling layer of sentence-transformers": {"word_embedding_dimension": 384, "pooling_mode_mean_tokens": True},
    "the settings of sentence-transformers": {"__version__": {"sentence_transformers": "3.0.1"}, "prompts": {}},
    "the config of a timm model": {"architecture": "vit_base_patch16_224", "num_classes": 1000, "pretrained_cfg": {}},
    "the config of an open_clip model": {"model_cfg": {"embed_dim": 512}, "preprocess_cfg": {}},
    "ModelOpt's quantisation, which belongs to a config.json": {"producer": {}, "quantization": {}},
    "the index of safetensors files": {"metadata": {"total_size": 1}, "weight_map": {}},
    "the config of a tokenizer": {"tokenizer_class": "LlamaTokenizer", "model_max_length": 4096},
    "a tokenizer": {"version": "1.0", "added_tokens": [], "model": {"type": "BPE"}},
    "the config of an image processor": {"image_processor_type": "CLIPImageProcessor", "size": {}},
    "the config of a feature extractor": {"feature_extractor_type": "WhisperFeatureExtractor"},
    "the config of a processor": {"processor_class": "LlavaProcessor"},
    "a generation config": {"eos_token_id": 2, "transformers_version": "4.44.0"},
    "a training log": {"global_step": 10, "log_history": []},
}


@pytest.mark.parametrize(("what", "values"), NO_MODELS.items(), ids=NO_MODELS)
def test_other_configs_are_refused_with_what_they_are(tmp_path, what, values):
    path = folder(tmp_path, {"config.json": values}) / "config.json"
    with pytest.raises(UnknownArchitectureError) as refused:
        kvcalc.load(path)
    assert str(refused.value) == f"{path}:1: is {what}, not the config of a language model"


BERT = {"model_type": "bert", "num_hidden_layers": 12, "num_attention_heads": 12, "hidden_size": 768}


@pytest.mark.parametrize("name", ["BertModel", "BertForMaskedLM", "BertForSequenceClassification"])
def test_an_encoder_caches_no_tokens(name):
    with pytest.raises(UnknownArchitectureError, match="is the config of an encoder, which caches no tokens"):
        kvcalc.load({**BERT, "architectures": [name]})


@pytest.mark.parametrize(
    "more", [{}, {"is_decoder": True, "architectures": ["BertModel"]}, {"architectures": ["BertLMHeadModel"]}]
)
def test_a_bert_that_may_be_a_decoder_is_read(more):
    assert token_bytes(kvcalc.load({**BERT, **more})) == 12 * 2 * 768 * 2


# Models of several towers ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "values",
    [
        {"model_type": "internvl_chat", "llm_config": LLAMA, "vision_config": {"hidden_size": 1024}},
        {"model_type": "deepseek_vl_v2", "language_config": LLAMA, "projector_config": {}},
        {"model_type": "llava", "text_config": LLAMA, "vision_config": {"num_hidden_layers": 24}},
        {
            "model_type": "qwen2_5_omni",
            "thinker_config": {"text_config": LLAMA},
            "talker_config": {"num_hidden_layers": 9},
        },
    ],
    ids=lambda values: values["model_type"],
)
def test_the_text_part_is_what_is_sized(values):
    model = kvcalc.load(values)
    assert token_bytes(model) == LLAMA_TOKEN_BYTES
    assert model.notes == ()


# Adapters -------------------------------------------------------------------------------------------------------------


def adapter(kind: str, base: object = "Qwen/Qwen3-8B", **more: object) -> dict[str, object]:
    return {"peft_type": kind, "base_model_name_or_path": base, "task_type": "CAUSAL_LM", **more}


@pytest.mark.parametrize("kind", ["LORA", "lora", "ADALORA", "IA3", "OFT", "VERA", "LN_TUNING", "TRAINABLE_TOKENS"])
def test_the_cache_of_an_adapter_is_that_of_its_base(tmp_path, kind):
    path = folder(tmp_path / "mine", {"adapter_config.json": adapter(kind), "adapter_model.safetensors": b""})
    model = kvcalc.load(path)
    assert model.groups == kvcalc.load("qwen3-8b").groups
    assert model.notes[0] == "mine is an adapter of Qwen/Qwen3-8B: the cache is the base model's"
    assert kvcalc.load(path / "adapter_config.json") == model


def test_the_base_may_be_a_folder(tmp_path):
    base = folder(tmp_path / "base", {"config.json": LLAMA})
    path = folder(tmp_path / "mine", {"adapter_config.json": adapter("LORA", str(base))})
    assert token_bytes(kvcalc.load(path)) == LLAMA_TOKEN_BYTES


@pytest.mark.parametrize("kind", ["PREFIX_TUNING", "PROMPT_TUNING", "P_TUNING", "MULTITASK_PROMPT_TUNING", "CARTRIDGE"])
def test_adapters_whose_tokens_take_slots_are_refused(tmp_path, kind):
    path = folder(tmp_path, {"adapter_config.json": adapter(kind, num_virtual_tokens=20)})
    with pytest.raises(NotApplicableError) as refused:
        kvcalc.load(path)
    assert str(refused.value) == (
        f"{path / 'adapter_config.json'}:1: peft_type: is a {kind} adapter of Qwen/Qwen3-8B, whose 20 virtual tokens use "
        "slots of the cache before every prompt"
    )
    assert refused.value.help == "size Qwen/Qwen3-8B and include them in --tokens"


@pytest.mark.parametrize(
    ("values", "kind", "message"),
    [
        (
            adapter("SHADOW"),
            UnknownArchitectureError,
            "is an adapter of the kind 'SHADOW', whose cache is unknown",
        ),
        (adapter("LORA", None), InvalidFileError, "does not name the base model of the adapter"),
        (
            adapter("LORA", "org/unheard-of"),
            KvcalcError,
            "adapter_config.json: base_model_name_or_path: org/unheard-of is not a known repository",
        ),
        (adapter(7), KvcalcError, "peft_type: must be text, not 7"),
        ({}, InvalidFileError, "does not name the base model of the adapter"),
        ([], KvcalcError, "must be a mapping"),
    ],
)
def test_adapters_that_are_refused(tmp_path, values, kind, message):
    path = folder(tmp_path, {"adapter_config.json": values})
    with pytest.raises(kind, match=message):
        kvcalc.load(path)


def test_an_adapter_of_an_adapter_ends(tmp_path):
    path = folder(tmp_path / "mine", {"adapter_config.json": adapter("LORA", str(tmp_path / "mine"))})
    with pytest.raises(InvalidFileError, match="and itself the base of an adapter"):
        kvcalc.load(path)
