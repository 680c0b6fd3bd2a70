"""A secret in whatever place of a file is printed by no command in no format."""

from __future__ import annotations

import pytest
from strict_readers import run

from kvcalc.formats import FOR_ANYTHING, FOR_FINDINGS

SECRETS = ("sk-SEALED0123456789abcdef", "hf_SEALEDabcdefghijklmnopqrst")
POD = """kind: Pod
metadata: {name: p}
spec:
  nodeSelector: {nvidia.com/gpu.product: LABEL}
  containers:
  - name: v
    image: vllm/vllm-openai:v0.10.2
    args: [--model, MODEL, --max-model-len, LENGTH, --kv-cache-dtype, DTYPE, --api-key, KEY, STRAY, --kv-transfer-config, 'JSON']
    env: [{name: HF_TOKEN, value: TOKEN}, {name: VLLM_ATTENTION_BACKEND, value: BACKEND}, {name: VLLM_X_MEMORY, value: OWN}]
    resources: {limits: {nvidia.com/gpu: COUNT}}
"""
FILES = {
    "pod.yaml": POD,
    "compose.yaml": "services:\n  a:\n    image: vllm/vllm-openai:v1\n    command: --model MODEL --api-key KEY --max-model-len LENGTH STRAY\n"
    "    environment: {HF_TOKEN: TOKEN, VLLM_X_MEMORY: OWN}\n    deploy: {resources: {reservations: {devices: [{count: COUNT}]}}}\n",
    "run.sh": "export HF_TOKEN=TOKEN\nKEY='KEY'\nvllm serve MODEL --api-key $KEY --max-model-len LENGTH STRAY\necho OWN\n",
    "a.service": "[Service]\nEnvironment=HF_TOKEN=TOKEN\nEnvironment=VLLM_X_MEMORY=OWN\nExecStart=/bin/vllm serve MODEL --api-key KEY STRAY\n",
    "Dockerfile": 'FROM vllm/vllm-openai:v1\nENV HF_TOKEN=TOKEN\nCMD ["--model", "MODEL", "--api-key", "KEY", "STRAY"]\n',
    "Modelfile": "FROM MODEL\nPARAMETER num_ctx LENGTH\n",
    "config.yaml": "apiKeys: [KEY]\nmodels:\n  a: {cmd: 'llama-server -m MODEL --api-key KEY -c LENGTH STRAY', env: [T=TOKEN]}\n",
    "values.yaml": "servingEngineSpec:\n  vllmApiKey: KEY\n  modelSpec:\n  - {name: a, modelURL: MODEL, hf_token: TOKEN, requestGPU: COUNT, vllmConfig: {maxModelLen: LENGTH, dtype: DTYPE}}\n",
    "ray.yaml": "applications:\n- args:\n    llm_configs:\n    - model_loading_config: {model_id: a, model_source: MODEL}\n      accelerator_type: LABEL\n"
    "      engine_kwargs: {max_model_len: LENGTH, kv_cache_dtype: DTYPE}\n      runtime_env: {env_vars: {HF_TOKEN: TOKEN}}\n",
    "sky.yaml": "resources: {accelerators: LABEL}\nenvs: {HF_TOKEN: TOKEN}\nrun: vllm serve MODEL --api-key KEY --max-model-len LENGTH\n",
    "dstack.yml": "type: service\nenv: [HF_TOKEN=TOKEN]\ncommands: ['vllm serve MODEL --api-key KEY']\nresources: {gpu: LABEL}\n",
    "kubeai.yaml": "apiVersion: kubeai.org/v1\nkind: Model\nmetadata: {name: a}\nspec: {url: MODEL, engine: VLLM, args: [--api-key=KEY], env: {HF_TOKEN: TOKEN}, resourceProfile: LABEL}\n",
    "a.tf": 'variable "key" { default = "KEY" }\nresource "docker_container" "a" {\n  image = "vllm/vllm-openai:v1"\n  command = ["--model", "MODEL", "--api-key", var.key]\n  env = ["HF_TOKEN=TOKEN"]\n}\n',
    "serve.py": 'import vllm\nKEY = "KEY"\ncmd = ["vllm", "serve", "MODEL", "--api-key", KEY, "STRAY"]\nos.environ["HF_TOKEN"] = "TOKEN"\n',
    "engine.yaml": "model: MODEL\nmax-model-len: LENGTH\napi-key: KEY\nkv-cache-dtype: DTYPE\nhf-token: TOKEN\n",
    "local.yaml": "name: a\nbackend: llama-cpp\ncontext_size: LENGTH\ncache_type_k: DTYPE\nparameters: {model: MODEL}\n",
    "serving.properties": "option.model_id=MODEL\noption.dtype=DTYPE\noption.max_model_len=LENGTH\noption.hf_token=TOKEN\n",
    "task.yml": "- hosts: a\n  tasks:\n  - name: run\n    docker_container: {name: a, image: vllm/vllm-openai, command: '--model MODEL --api-key KEY', env: {HF_TOKEN: TOKEN}}\n",
}  # fmt: skip
PLACES = ("LABEL", "MODEL", "LENGTH", "DTYPE", "KEY", "STRAY", "JSON", "TOKEN", "BACKEND", "OWN", "COUNT")
SOUND = {
    "LABEL": "l4", "MODEL": "Qwen/Qwen3-4B", "LENGTH": "4096", "DTYPE": "auto", "KEY": "k", "STRAY": "--enforce-eager",
    "JSON": "{}", "TOKEN": "t", "BACKEND": "FLASHINFER", "OWN": "o", "COUNT": "1",
}  # fmt: skip


@pytest.mark.parametrize("file", FILES)
@pytest.mark.parametrize("place", PLACES)
def test_a_secret_is_not_printed_wherever_it_stands(file, place, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for secret in SECRETS:
        words = FILES[file].replace(place, f'{{"a": "{secret}"}}' if place == "JSON" else secret)
        for name, value in SOUND.items():
            words = words.replace(name, value) if name != place else words
        (tmp_path / file).write_text(words)
        for command, formats in (("deployments", FOR_ANYTHING), ("check", (*FOR_ANYTHING, *FOR_FINDINGS))):
            for format in formats:
                done = run(command, file, "--format", format)
                assert "SEALED" not in done.out + done.err


def test_a_secret_that_is_set_is_not_printed(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "a.sh").write_text("vllm serve $M --max-model-len $L\n")
    for word in SECRETS:
        for given in (f"M={word}", f"L={word}", word, f"{word}=x=y"):
            done = run("deployments", "a.sh", "--set", given)
            assert "SEALED" not in done.out + done.err
