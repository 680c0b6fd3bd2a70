"""Model types that SGLang 0.5.23 has no class for, of those that kvcalc reads.

SGLang falls back to transformers 5.19.0's class if that supports other attention (is_backend_compatible); its pools
hold every head, latents expanded. SGLang's planner works for any type, so a type that its loader refuses still has a
size, with a note.
Source: SGLang, srt/models/registry.py, srt/model_loader; the classes of transformers 5.19.0.
"""

from __future__ import annotations

from kvcalc.engines.base.support import Refusal, Support

_INCOMPATIBLE = (
    *("bamba", "big_bird", "biogpt", "blip", "bloom", "codegen", "deepseek_vl_hybrid", "evolla", "falcon", "git"),
    *("gpt_neo", "gpt_neox_japanese", "inkling_text", "jamba", "megatron-bert", "mpt", "musicgen", "musicgen_melody"),
    *("olmo_hybrid", "openai-gpt", "rembert", "roformer", "trocr", "xglm", "xlm", "zamba", "zamba2"),
)
"""Neither a class nor one of transformers that supports other attention."""
_UNKNOWN = (*("aquila", "internlm", "kolibri1", "molmo2", "moss_transcribe_diarize", "yi"),)
"""Neither a class nor one of transformers."""
SUPPORT = Support(
    "SGLang",
    "0.5.23",
    refused={
        **dict.fromkeys(
            _INCOMPATIBLE, Refusal("no class in SGLang, and transformers' class is not compatible with it")
        ),
        **dict.fromkeys(_UNKNOWN, Refusal("no class in SGLang, and none in transformers")),
    },
    by_fallback=(
        *("aria", "aria_text", "audioflamingo3", "axk1", "axk2", "aya_vision", "bert", "bert-generation", "bitnet"),
        *("blip-2", "camembert", "chameleon", "cohere_compass", "cohere_compass_text", "cosmos3_omni", "ctrl", "cwm"),
        *("data2vec-text", "deepseek_ocr2", "diffllama", "doge", "dots1", "electra", "emu3", "ernie", "exaone4_5"),
        *("fast_vlm", "flex_olmo", "fun_asr_nano", "fuyu", "gemma4_unified_text", "glm", "glm46v", "glmga"),
        *("got_ocr2", "gpt_neox", "granite4_vision", "granite_speech", "granite_speech_plus", "helium", "hunyuan_vl"),
        *("hyperclovax", "hyperclovax_vision_v2", "idefics", "idefics2", "idefics3", "instructblip"),
        *("instructblipvideo", "jais2", "jetmoe", "kosmos-2", "kosmos-2.5", "kyutai_speech_to_text", "llava_next"),
        *("llava_next_video", "llava_onevision", "minimax_m3_vl_text", "ministral", "mistral4", "modernbert-decoder"),
        *("moshi", "musicflamingo", "nanochat", "nemotron", "olmo3", "ovis2", "paligemma", "perception_lm"),
        *("phi4_multimodal", "pp_chart2table", "qianfan_ocr", "qwen2_5_omni_thinker", "qwen3_omni_moe_thinker"),
        *("roberta", "roberta-prelayernorm", "roc_bert", "seed_oss", "smollm3", "smolvlm", "solar_open"),
        *("vaultgemma", "vibevoice", "vibevoice_asr", "video_llama_3", "video_llava", "vipllava", "voxtral_realtime"),
        *("xlm-roberta", "xlm-roberta-xl", "xmod", "youtu"),
    ),
)
