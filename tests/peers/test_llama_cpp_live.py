"""The engine `llama_cpp` against the library itself: `pytest -m llama_cpp`, with llama-cpp-python installed.

Three small models, of which the test writes the metadata; contexts of each in several settings; the sizes that the
library logs for its caches, in MiB with two decimals, against ours.
"""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path

import pytest
from gguf_files import gguf

import kvcalc

pytestmark = pytest.mark.llama_cpp

SCRIPT = Path(__file__).with_name("llama_cpp_contexts.py")
_SIZE = re.compile(r"^(?:llama_kv_cache|llama_memory_recurrent): size = +([\d.]+) MiB")


@pytest.fixture(autouse=True)
def _installed():
    pytest.importorskip("llama_cpp")


def metadata(architecture: str, **keys) -> dict:
    common = {
        "context_length": 8192,
        "embedding_length": 512,
        "feed_forward_length": 512,
        "vocab_size": 256,
        "attention.layer_norm_rms_epsilon": 1e-5,
    }
    named = {f"{architecture}.{key.replace('__', '.')}": value for key, value in (common | keys).items()}
    return {"general.architecture": architecture, **named, "tokenizer.ggml.model": "no_vocab"}


MODELS = {
    "llama": metadata(
        "llama", block_count=4, attention__head_count=8, attention__head_count_kv=4, rope__dimension_count=64
    ),
    "gemma3": metadata(
        "gemma3",
        block_count=12,
        attention__head_count=8,
        attention__head_count_kv=4,
        attention__key_length=64,
        attention__value_length=64,
        attention__sliding_window=512,
    ),
    "mamba": metadata(
        "mamba",
        block_count=6,
        feed_forward_length=0,
        attention__head_count=0,
        ssm__conv_kernel=4,
        ssm__inner_size=1024,
        ssm__state_size=16,
        ssm__time_step_rank=32,
    ),
}
SETTINGS = (
    {"n_ctx": 4096},
    {"n_ctx": 5000, "n_seq_max": 3},
    {"n_ctx": 0, "swa_full": False},
    {"n_ctx": 8192, "n_seq_max": 4, "kv_unified": True, "swa_full": False},
    {"n_ctx": 8192, "type_k": "q8_0", "type_v": "q4_0", "n_ubatch": 2048, "swa_full": False},
    {"n_ctx": 4096, "type_v": "q8_0", "flash_attn": 0},
)


def logged(path: Path, settings: dict) -> dict:
    done = subprocess.run(
        [sys.executable, SCRIPT, path, json.dumps(settings)], capture_output=True, text=True, check=True
    )
    return json.loads(done.stdout.splitlines()[-1])


@pytest.mark.parametrize("settings", SETTINGS, ids=lambda settings: ",".join(f"{k}={v}" for k, v in settings.items()))
@pytest.mark.parametrize("name", MODELS)
def test_the_library_logs_what_we_say(name, settings, tmp_path):
    path = tmp_path / f"{name}.gguf"
    path.write_bytes(gguf(MODELS[name]))
    theirs = logged(path, settings)
    ours = {key: value for key, value in settings.items() if key not in ("n_ctx", "n_seq_max")}
    question = {"tokens": settings["n_ctx"] or None, "sequences": settings.get("n_seq_max", 1)}
    types = {"type_k": "f16", "type_v": "f16"}
    if theirs["refused"]:
        with pytest.raises(kvcalc.NotApplicableError):
            kvcalc.size(kvcalc.load(path), **question, engine="llama_cpp", engine_settings=types | ours)
        return
    report = kvcalc.size(kvcalc.load(path), **question, engine="llama_cpp", engine_settings=types | ours)
    sizes = [float(found[1]) for line in theirs["log"] if (found := _SIZE.match(line))]
    assert sizes
    assert report.total_bytes / 2**20 == pytest.approx(sum(sizes), abs=0.0051 * len(sizes), rel=0)


def test_a_quantised_v_without_flash_attention_is_refused_by_both(tmp_path):
    path = tmp_path / "llama.gguf"
    path.write_bytes(gguf(MODELS["llama"]))
    assert logged(path, SETTINGS[-1])["refused"]
    assert not logged(path, SETTINGS[0])["refused"]
