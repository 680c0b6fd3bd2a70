"""Model types that vLLM 0.33.0 has no class for, of those that kvcalc reads: its message when loading one.

Source: vLLM, model_executor/models/registry.py and transformers/base.py, run with transformers 5.20.2.
"""

from __future__ import annotations

from kvcalc.engines.base.support import Refusal, Support

_NEVER = {
    "big_bird": "BigBirdForCausalLM",
    "blip": "BlipForConditionalGeneration",
    "codegen": "CodeGenForCausalLM",
    "fsmt": "FSMTForConditionalGeneration",
    "gpt_neo": "GPTNeoForCausalLM",
    "gpt_neox_japanese": "GPTNeoXJapaneseForCausalLM",
    "led": "LEDForConditionalGeneration",
    "megatron-bert": "MegatronBertForCausalLM",
    "mvp": "MvpForConditionalGeneration",
    "openai-gpt": "OpenAIGPTLMHeadModel",
    "prophetnet": "ProphetNetForConditionalGeneration",
    "rembert": "RemBertForCausalLM",
    "roformer": "RoFormerForCausalLM",
    "speecht5": "SpeechT5ForSpeechToText",
    "trocr": "TrOCRForCausalLM",
    "xglm": "XGLMForCausalLM",
    "xlm": "XLMWithLMHeadModel",
    "yi": "YiForCausalLM",
}
"""Neither a class nor a fallback: the architecture."""
_DROPPED = {
    "aquila": ("AquilaForCausalLM", "0.24.0"),
    "baichuan": ("BaichuanForCausalLM", "0.23.0"),
    "internlm": ("InternLMForCausalLM", "0.23.0"),
    "minimax_m1": ("MiniMaxM1ForCausalLM", "0.23.0"),
    "minimax_text_01": ("MiniMaxText01ForCausalLM", "0.23.0"),
    "mpt": ("MptForCausalLM", "0.28.0"),
    "phi3small": ("Phi3SmallForCausalLM", "0.9.2"),
    "qwen": ("QWenLMHeadModel", "0.23.0"),
    "xverse": ("XverseForCausalLM", "0.23.0"),
}
"""A class until that version, and no fallback: the architecture."""
_WITHOUT_POSITIONS = {
    "bart": "BartDecoder",
    "bigbird_pegasus": "BigBirdPegasusDecoder",
    "blenderbot": "BlenderbotDecoder",
    "blenderbot-small": "BlenderbotSmallDecoder",
    "longt5": "LongT5Stack",
    "m2m_100": "M2M100Decoder",
    "marian": "MarianDecoder",
    "mbart": "MBartDecoder",
    "mt5": "MT5Stack",
    "nllb-moe": "NllbMoeDecoder",
    "pegasus": "PegasusDecoder",
    "pegasus_x": "PegasusXDecoder",
    "plbart": "PLBartDecoder",
    "seamless_m4t": "SeamlessM4TDecoder",
    "seamless_m4t_v2": "SeamlessM4Tv2Decoder",
    "speech_to_text": "Speech2TextDecoder",
    "switch_transformers": "SwitchTransformersStack",
    "t5": "T5Stack",
    "udop": "UdopStack",
    "umt5": "UMT5Stack",
}
"""Encoder-decoders, which the fallback treats as decoders: the class that it asks for positions."""
_NOT_DISPATCHED = {
    "bamba": ("Layer 0 (linear_attention)", "0.23.0"),
    "diffllama": ("Layer 0", ""),
    "minimax": ("Layer 1 (linear_attention)", "0.23.0"),
    "zamba": ("Layer 0 (linear_attention)", ""),
}
"""Layers that the fallback does not support, and the last version with a class."""
_SEVERAL_ATTENTIONS = ("idefics", "moonshine")
_NO_AUTO_MODEL = {"evolla": "EvollaConfig", "pop2piano": "Pop2PianoConfig"}
_OTHERS = {
    "axk2": "No valid MLA prefill backend found with mla_dimensions=(qk_nope_head_dim=64, qk_rope_head_dim=32, "
    "v_head_dim=64)",
    "git": "KeyError: 'vllm', the attention that the Transformers fallback wants",
}
_REFUSED = {
    **{
        name: Refusal(f"Model architectures ['{architecture}'] are not supported for now.")
        for name, architecture in _NEVER.items()
    },
    **{
        name: Refusal(
            f"Model architecture {architecture} was supported in vLLM until v{last}, and is not supported anymore.",
            last if last != "0.9.2" else "",  # older than any version that kvcalc knows
        )
        for name, (architecture, last) in _DROPPED.items()
    },
    **{
        name: Refusal(f"Argument position_ids not found in the forward method of {decoder}")
        for name, decoder in _WITHOUT_POSITIONS.items()
    },
    **{
        name: Refusal(
            f"{layer} does not dispatch through the Transformers attention interface and vLLM has no other way to "
            "handle it.",
            last,
        )
        for name, (layer, last) in _NOT_DISPATCHED.items()
    },
    **dict.fromkeys(
        _SEVERAL_ATTENTIONS,
        Refusal(
            "Layer 0 dispatches attention from more than one module, which one vLLM attention layer cannot represent"
        ),
    ),
    **{
        name: Refusal(f"Unrecognized configuration class {config} for this kind of AutoModel: AutoModel.")
        for name, config in _NO_AUTO_MODEL.items()
    },
    **{name: Refusal(words) for name, words in _OTHERS.items()},
}
SUPPORT = Support(
    "vLLM",
    "0.33.0",
    refused=_REFUSED,
    by_fallback=(
        *("arcee", "aria_text", "bitnet", "cwm", "doge", "flex_olmo", "gemma4_unified_text", "glm", "gpt_neox"),
        *("helium", "jais2", "jetmoe", "kolibri1", "mellum", "minimax_m3_vl_text", "mistral4", "modernbert-decoder"),
        *("moshi", "nanochat", "olmo", "olmo2", "olmo3", "persimmon", "phi", "phi4_multimodal", "phimoe", "seed_oss"),
        *("smollm3", "solar_open", "starcoder2", "vaultgemma", "youtu", "zaya"),
    ),
    undecided=(
        *("aya_vision", "canary", "chameleon", "cohere_compass_text", "cosmos3_omni", "deepseek_ocr2", "deepseek_vl"),
        *("deepseek_vl_hybrid", "dia", "dots1", "encoder-decoder", "fast_vlm", "florence2", "fun_asr_nano", "fuyu"),
        *("gemma4_unified_assistant", "glm46v", "glmga", "got_ocr2", "idefics2", "instructblip", "instructblipvideo"),
        *("janus", "kosmos-2", "kosmos-2.5", "ministral", "mllama", "moonshine_streaming", "musicflamingo"),
        *("musicgen", "musicgen_melody", "ovis2", "perception_lm", "pix2struct", "pp_chart2table", "pp_formulanet"),
        *("qwen2_5_omni_thinker", "qwen3_omni_moe_thinker", "speech-encoder-decoder", "t5gemma", "t5gemma2"),
        *("vibevoice", "video_llama_3", "video_llava", "vipllava", "vision-encoder-decoder", "voxtral_realtime"),
    ),
    cacheless=(
        *("bert", "bert-generation", "camembert", "data2vec-text", "electra", "ernie", "roberta"),
        *("roberta-prelayernorm", "roc_bert", "xlm-roberta", "xlm-roberta-xl", "xmod"),
    ),
)
