"""No word that could be a secret is printed, whatever is wrong with it and wherever it stands."""

from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kvcalc.errors import KvcalcError
from kvcalc.io.engine_args import read_arguments, read_commands
from kvcalc.io.engine_args._secrets import could_be_secret, flag_shown, value_shown, without_secrets

SECRETS = [
    "hf_abcDEFghiJKLmnoPQRstuVWXyz0123456",
    "sk-proj-0123456789abcdef",
    "ghp_0123456789abcdefghijABCDEFGHIJ",
    "Bearer abcdef",
    "https://me:hunter2@host/v1",
    "https://host/v1?api_key=hunter2",
    "eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiIx.c2ln",
    "AKIAIOSFODNN7EXAMPLE",
    "0123456789abcdef0123456789abcdef",
    "nvapi-abcdef",
]
PLACES = [
    "export HF_TOKEN={}; vllm serve m",
    "export HF_TOKEN={}; vllm serve m --block-size x",
    "HF_TOKEN={} vllm serve m --omni",
    "VLLM_CACHE_SALT_MEMORY={} vllm serve m",
    "vllm serve m {}",
    "vllm serve {}",
    "vllm serve --model {}",
    "vllm serve m --api-key {} --max-num 3",
    "vllm serve m --api-key={} --omni",
    "vllm serve m --hf-token {} {}",
    "vllm serve m --max-model-len {}",
    "vllm serve m --gpu-memory-utilization {}",
    "vllm serve m --kv-cache-dtype {}",
    "vllm serve m --enforce-eager={}",
    "vllm serve m --enable-prefix-caching {}",
    "vllm serve m --{}",
    "vllm serve m --kv-cache-{} 1",
    "vllm serve m --speculative-config {}",
    "vllm serve m --kv-transfer-config.{} x",
    "vllm serve m --unheard-of {}",
    "vllm serve m --unheard-of={}",
    "vllm serve m --config {}",
    "vllm serve m --cpu-offload-gb {}",
    "vllm serve m --attention-config '{{\"{}\": 1}}'",
    "vllm serve m --hf-overrides '{{\"{}\": 1}}'",
    "{} vllm serve m",
    "{}",
    "echo {} | vllm serve m --omni",
    "docker run -e HF_TOKEN={} vllm/vllm-openai --model m --omni",
    "docker run -e HF_TOKEN={} vllm/vllm-openai:{} --model m --omni",
    "bash -c 'export T={}; vllm serve m {}'",
    "llama-server -m m -ctk {}",
    "llama-server -m m -{}",
    "ollama serve {}",
    "python -m sglang.launch_server --model-path m --disaggregation-mode {}",
    "vllm serve m '--api-key {}'",
    "vllm serve ${{{}}}",
]


def said(line: str) -> str:
    """All that is said of a line: messages, their help, and the normal form."""
    try:
        commands = read_commands(line)
    except KvcalcError as error:
        return f"{error} {error.help}"
    parts = [(one.told, one.ignored, one.refused, one.weighed, one.args, one.model, one.draft) for one in commands]
    try:
        read_arguments(line)
    except KvcalcError as error:
        parts.append(f"{error} {error.help}")
    return repr(parts)


@pytest.mark.parametrize("place", PLACES)
@pytest.mark.parametrize("secret", SECRETS)
def test_a_secret_is_in_no_message(place, secret):
    if "'" in place or " " not in secret:
        line = place.replace("{}", secret) if "{{" not in place else place.format(*[secret] * place.count("{}"))
    else:
        line = place.replace("{}", f"'{secret}'")
    assert secret not in said(line)
    assert "hunter2" not in said(line)


@pytest.mark.parametrize(
    "place", [place for place in PLACES if "{{" not in place and "'" not in place and not re.search(r"[-.]\{\}", place)]
)
def test_a_word_that_looks_like_none_is_shown_only_where_a_value_belongs(place):
    """A password is a word as any other: what stands where no value decides anything is never quoted."""
    decides = any(
        flag in place for flag in ("--max-model", "--gpu-mem", "--kv-cache-dtype", "-ctk", "serve {}", "--model {}")
    )
    decides = decides or "vllm-openai:{}" in place
    assert ("swordfish" in said(place.replace("{}", "swordfish"))) <= decides


@given(st.from_regex(r"(hf_|sk-|ghp_|glpat-)[A-Za-z0-9]{8,40}", fullmatch=True), st.sampled_from(PLACES))
def test_no_credential_is_in_any_message(secret, place):
    line = place.format(*[secret] * place.count("{}")) if "{{" in place else place.replace("{}", secret)
    assert secret not in said(line)


@pytest.mark.parametrize(
    "name",
    [
        "meta-llama/Llama-3.1-8B-Instruct",
        "Qwen/Qwen3-30B-A3B-Instruct-2507-FP8",
        "/models/Qwen3.5-35B-A3B-Q4_K_M.gguf",
        "unsloth/gemma-4-31B-it-qat-GGUF:UD-Q4_K_XL",
        "nvidia/NVIDIA-Nemotron-3-Super-120B-A12B-BF16",
        "s3://bucket/models/llama",
        "https://huggingface.co/a/b/resolve/main/x.gguf",
        "skywork/Skywork-R1",
        "Asian-model",
        "turboquant_4bit_nc",
        "FLASHINFER_MLA",
        "/root/.cache/huggingface/hub/models--Qwen--Qwen3-8B/snapshots/9c925d64d72725edaf899c6cb9c377fd0709d9c5",
        "/root/.ollama/models/blobs/sha256-" + "6a0746a1ec1aef3e" * 4,
    ],
)
def test_names_of_models_and_formats_are_no_secrets(name):
    assert not could_be_secret(name)


def test_values_in_json_are_taken_out_by_their_names_and_beginnings():
    value = {
        "kv_connector": "LMCacheConnectorV1",
        "kv_connector_extra_config": {"password": "swordfish", "url": "redis://u:swordfish@h", "n": [1, "hf_abcdefgh"]},
        "api_key": "x",
        "num_tokens": 3,
    }
    assert without_secrets(value) == {
        "kv_connector": "LMCacheConnectorV1",
        "kv_connector_extra_config": {"password": "(not shown)", "url": "(not shown)", "n": [1, "(not shown)"]},
        "api_key": "(not shown)",
        "num_tokens": 3,
    }


def test_what_is_shown_of_a_word():
    assert flag_shown("--max-num=3") == "--max-num"
    assert flag_shown("--hf_abcdefgh") == flag_shown("--a b") == "an argument that is not shown"
    assert (value_shown("128K"), value_shown("fp9")) == ("'128K'", "'fp9'")
    assert value_shown("hf_abcdefgh") == "a value of 11 characters"
