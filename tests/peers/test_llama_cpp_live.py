"""The engine `llama_cpp` against the library itself: `pytest -m llama_cpp`, with llama-cpp-python installed.

Three small models, of which the test writes the metadata, and one of each measured architecture; contexts of each in
several settings; the sizes that the library logs for its caches, in MiB with two decimals, against ours.
"""

from __future__ import annotations

import gzip
import json
import re
import subprocess
import sys
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from random import Random

import pytest
from gguf_files import gguf

import kvcalc

pytestmark = pytest.mark.llama_cpp

SCRIPT = Path(__file__).with_name("llama_cpp_contexts.py")
_SIZE = re.compile(
    r"^(?:llama_kv_cache: |llama_memory_recurrent: |llama_dsv4_comp_state: .*, layers = \d+, )size = +([\d.]+) MiB"
)


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


DATA = Path(__file__).parents[1] / "data" / "llama_cpp.jsonl.gz"
TYPES = ("f32", "f16", "bf16", "q8_0", "q4_0", "q5_1")
NUM_CONTEXTS = 20


def measured_models() -> dict[str, dict]:
    """Metadata of a model of each architecture of which contexts were measured once."""
    with gzip.open(DATA, "rt") as lines:
        rows = [json.loads(line) for line in lines]
    epsilons = {f"attention.layer_norm_{name}": 1e-5 for name in ("epsilon", "rms_epsilon")}
    common = {"vocab_size": 256, "feed_forward_length": 512, "logit_scale": 1.0, **epsilons}
    return {
        row["arch"]: {
            "general.architecture": row["arch"],
            **{f"{row['arch']}.{key}": value for key, value in (common | row["metadata"]).items()},
            "tokenizer.ggml.model": "no_vocab",
        }
        for row in reversed(rows)
    }


MEASURED = measured_models()


def random_settings(random: Random) -> dict:
    """Settings of a context that does not take more memory for states than a small machine has."""
    settings = {"n_ctx": random.choice([0, 256, random.randint(1000, 200_000)]), "n_seq_max": random.randint(1, 8)}
    choices = {
        "n_ubatch": [0, 1, 100, 512, 2048],
        "n_batch": [256, 512, 2048, 8192],
        "swa_full": [True, False],
        "kv_unified": [True, False],
        "flash_attn": [-1, 0, 1],
        "n_rs_seq": [0, 1, 3],
        "type_k": TYPES,
        "type_v": TYPES,
    }
    return settings | {name: random.choice(values) for name, values in choices.items() if random.random() < 0.5}


def logged(path: Path, contexts: Sequence[dict]) -> list[dict | None]:
    """What the library says of each context; None where it ended with an assertion of its own, on its graph."""
    answers: list[dict | None] = []
    while len(answers) < len(contexts):
        rest = json.dumps(contexts[len(answers) :])
        done = subprocess.run([sys.executable, SCRIPT, path, rest], capture_output=True, text=True, check=False)
        answers += [json.loads(line) for line in done.stdout.splitlines() if line.startswith("{")]
        if done.returncode:
            assert "GGML_ASSERT" in done.stderr, done.stderr
            answers.append(None)
    return answers


def agrees(path: Path, settings: dict, theirs: dict) -> bool:
    """Whether both refuse the context, or both have as many bytes; asserted. True where it was not refused."""
    model = kvcalc.load(path)
    ours = {key: value for key, value in settings.items() if key not in ("n_ctx", "n_seq_max")}
    question = {"tokens": settings["n_ctx"] or None, "sequences": settings.get("n_seq_max", 1)}
    ask = partial(
        kvcalc.size, model, **question, engine="llama_cpp", engine_settings={"type_k": "f16", "type_v": "f16"} | ours
    )
    if theirs["refused"]:
        with pytest.raises(kvcalc.NotApplicableError):
            ask()
        return False
    sizes = [float(found[1]) for line in theirs["log"] if (found := _SIZE.match(line))]
    assert sizes
    assert ask().total_bytes / 2**20 == pytest.approx(sum(sizes), abs=0.0051 * len(sizes), rel=0), settings
    return True


@pytest.mark.parametrize("name", MODELS)
def test_the_library_logs_what_we_say(name, tmp_path):
    path = tmp_path / f"{name}.gguf"
    path.write_bytes(gguf(MODELS[name]))
    answers = logged(path, SETTINGS)
    assert [agrees(path, *both) for both in zip(SETTINGS, answers, strict=True)] == [True] * 5 + [False]


@pytest.mark.parametrize("architecture", MEASURED)
def test_so_it_does_of_random_contexts(architecture, tmp_path):
    random = Random(architecture)
    path = tmp_path / f"{architecture}.gguf"
    path.write_bytes(gguf(MEASURED[architecture]))
    contexts = [random_settings(random) for _ in range(NUM_CONTEXTS)]
    answers = logged(path, contexts)
    asked = [both for both in zip(contexts, answers, strict=True) if both[1] is not None]
    assert sum(agrees(path, *both) for both in asked) >= NUM_CONTEXTS // 4


def test_a_wrong_size_is_noticed(tmp_path):
    path = tmp_path / "llama.gguf"
    path.write_bytes(gguf(MODELS["llama"]))
    (answer,) = logged(path, SETTINGS[:1])
    with pytest.raises(AssertionError):
        agrees(path, SETTINGS[0] | {"type_k": "q8_0"}, answer)
