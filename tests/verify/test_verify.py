"""`kvcalc verify`: caches of real torch modules, measured, against the prediction; and that a wrong one is noticed."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time

import psutil
import pytest
import torch
from layers import HIDDEN, LAYERS

import kvcalc
from kvcalc.cache.slots.primitives import AtMost
from kvcalc.io.presets import load_preset, preset_names
from kvcalc.model import LayerGroup, Model
from kvcalc.question import Question
from kvcalc.report.verification import MemoryReading
from kvcalc.verify import child, measure
from kvcalc.verify.child import in_child
from kvcalc.verify.measure import verify
from kvcalc.verify.modules import gqa
from kvcalc.verify.slices import first_layers, largest_slice

ENCODER_TOKENS = 700
"""For models whose cross-attention looks at as many tokens as a picture has."""


@pytest.fixture(autouse=True, scope="module")
def one_thread():
    """The cores are shared among the workers that run these tests."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def tiny(name: str, layers: int = 3) -> Model:
    return Model(name, (LayerGroup.of(name.replace(" ", "-"), range(layers), LAYERS[name]),))


def kinds_of(parts) -> tuple:
    limits = (limit for part in parts for limit, value in getattr(part, "reach", {}).items() if value)
    return (*map(type, parts), *limits)


# ---- equal, to the byte


SIZES = ((1, 1), (5, 2), (37, 3))
ROWS_WRITTEN, ROWS_ATTENDED = 8, 256
"""Longest prompt that goes through attention: too short for most of the sizes, and long enough for all."""
RUNS = [
    *(("bf16", size, attended) for size in SIZES for attended in (ROWS_WRITTEN, ROWS_ATTENDED)),
    *((dtype, SIZES[-1], ROWS_WRITTEN) for dtype in ("fp16", "fp32", "fp8")),
]


@pytest.mark.parametrize("name", LAYERS)
def test_every_kind_takes_what_was_predicted_on_the_cpu(name, monkeypatch):
    monkeypatch.setattr("kvcalc.verify.layer.HIDDEN_SIZE", HIDDEN)
    for dtype, (tokens, sequences), attended in RUNS:
        asked = {"tokens": tokens, "sequences": sequences, "kv_dtype": dtype}
        result = verify(tiny(name), device="cpu", decode_steps=3, attended_tokens=attended, **asked)
        assert result.equal, [tensor for tensor in result.tensors if not tensor.equal]
        assert result.storage_bytes == kvcalc.size(tiny(name), **asked).total_bytes


def test_every_combination_of_kinds_that_presets_have_is_among_them():
    of_presets = {kinds_of(group.parts) for name in preset_names() for group in load_preset(name).groups}
    assert of_presets <= {kinds_of(parts) for parts in LAYERS.values()}


@pytest.mark.slow
@pytest.mark.parametrize("name", preset_names())
def test_every_preset_at_full_size_without_memory(name):
    result = verify(load_preset(name), tokens=100_000, sequences=2, device="meta", encoder_tokens=ENCODER_TOKENS)
    assert result.equal, [tensor for tensor in result.tensors if not tensor.equal]
    assert result.predicted_bytes > 0


def test_a_long_prompt_goes_through_attention_where_it_is_asked_for():
    one_head = kvcalc.load(
        {"attention": "gqa", "num_layers": 1, "num_query_heads": 1, "num_kv_heads": 1, "head_dim": 2}
    )
    result = verify(one_head, tokens=6000, device="cpu", attended_tokens=6000)
    assert result.equal
    assert result.notes == ()


# ---- unequal, and noticed


def test_a_wrong_prediction_is_noticed(monkeypatch):
    """A rule that forgets a token."""
    monkeypatch.setattr(AtMost, "_value", lambda self, numbers: min(*numbers, self.limit - 1))
    result = verify(tiny("window"), tokens=40, device="cpu")
    assert not result.equal
    assert [tensor.verdict for tensor in result.tensors] == ["+96 bytes", "+96 bytes"]
    assert "not equal: 3 window k, 3 window v" in result.sheets()[0].lines[-1].value


def test_a_mismatch_ends_with_exit_code_1(cli, monkeypatch):
    monkeypatch.setattr(AtMost, "_value", lambda self, numbers: min(*numbers, self.limit - 1))
    monkeypatch.setattr(child, "in_child", lambda work, model, **named: measure.verify(model, **named))
    for line in ("verify --preset gpt-oss-20b --tokens 300 --device meta",):
        outcome = cli(line)
        assert outcome.code == 1
        assert "not equal: 12 sliding k, 12 sliding v" in outcome.stdout


def test_a_view_that_keeps_more_alive_is_shown(monkeypatch):
    new_cache = gqa.GroupedQueryModule.new_cache

    def of_twice_the_size(self, sequences, capacity, dtype):
        cache = new_cache(self, sequences, capacity, dtype)
        for slots in cache.values():
            slots.data = torch.cat([slots.data, slots.data])[: slots.data.shape[0]]
        return cache

    monkeypatch.setattr(gqa.GroupedQueryModule, "new_cache", of_twice_the_size)
    result = verify(tiny("gqa", layers=1), tokens=10, device="cpu")
    assert [tensor.verdict for tensor in result.tensors] == ["a view of 640 bytes", "a view of 640 bytes"]


@pytest.mark.parametrize(
    ("reading", "equal"),
    [
        (MemoryReading("resident", 10**9, 10**9 + 10**7), True),
        (MemoryReading("resident", 10**9, 10**9 + 10**7 + 1), False),
        (MemoryReading("resident", 10**9, 10**9 - 10**7 - 1), False),
        (MemoryReading("resident", 256 * 2**20 - 1, 0), True),
        (MemoryReading("resident", 256 * 2**20, 0), False),
        (MemoryReading("allocated", 1024, 1024), True),
        (MemoryReading("allocated", 1024, 1536), False),
    ],
)
def test_memory_is_held_to_1_percent_of_what_is_resident_and_to_the_byte_of_what_was_allocated(reading, equal):
    assert reading.equal is equal


# ---- slices


def test_what_does_not_fit_is_cut_to_fewer_layers_then_to_fewer_tokens():
    asked = Question.of(tiny("mha", layers=10), tokens=100, sequences=2)
    layer_bytes = kvcalc.size(tiny("mha", layers=1), tokens=100, sequences=2).total_bytes
    for memory, layers, tokens in [
        (10 * layer_bytes, 10, 100),
        (10 * layer_bytes - 1, 9, 100),
        (layer_bytes, 1, 100),
        (layer_bytes - 1, 1, 99),
        (layer_bytes // 100, 1, 1),
    ]:
        part = largest_slice(asked, memory)
        assert (part.model.num_layers, part.tokens) == (layers, tokens)
    with pytest.raises(kvcalc.InvalidValueError, match="not even one token of one layer fits"):
        largest_slice(asked, layer_bytes // 100 - 1)


def test_a_slice_is_said_and_equal_on_its_own():
    model = tiny("mha", layers=10)
    whole = kvcalc.size(model, tokens=100).total_bytes
    result = verify(model, tokens=100, device="cpu", memory_bytes=whole // 2)
    assert result.equal
    assert result.predicted_bytes == whole // 2
    assert f"a slice was run: 5 of 10 layers, 100 of 100 tokens; the bytes above are the slice's. Extrapolated to the full model: {whole:,} bytes" in result.notes[0]  # fmt: skip


def test_the_first_layers_keep_their_kinds():
    part = first_layers(load_preset("gpt-oss-20b"), 3)
    assert part.layer_names == ("sliding", "full", "sliding")


# ---- the command, in a process of its own


@pytest.mark.slow
def test_a_fresh_process_finds_its_pages(cli):
    """270 MB of cache on the CPU, and the process grew by as much."""
    outcome = cli("verify --preset llama-3-8b --tokens 2060 --format json")
    assert outcome.code == 0, outcome.stderr
    data = json.loads(outcome.stdout)
    assert data["storage_bytes"] == data["predicted_bytes"] == 2060 * 131_072
    assert data["memory"]["kind"] == "resident"
    assert data["memory"]["equal"] is True
    assert abs(data["memory"]["measured_bytes"] - 2060 * 131_072) < 2_700_000


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("--preset r1 --tokens 10 --dtype int4", "torch has no tensors of int4"),
        ("--preset r1 --tokens 10 --device tpu", "device must be one of cpu, cuda, meta, not 'tpu'"),
        ("--preset r1 --tokens 1k,2k --device meta", "--tokens: verify needs a single token count"),
        ("--preset r1 --tokens 10 --decode-steps 0 --device meta", "decode_steps must be at least 1, not 0"),
        ("--preset r1 --tokens 10 --encoder-tokens -3 --device meta", "encoder_tokens must be at least 1, not -3"),
        ("--preset r1 --tokens 10 --layers 0 --device meta", "layers must be at least 1, not 0"),
        ("--preset r1 --tokens 10 --attended-tokens 0 --device meta", "attended_tokens must be at least 1, not 0"),
    ],
)  # fmt: skip
def test_what_cannot_be_verified_is_explained(cli, monkeypatch, line, message):
    monkeypatch.setattr(child, "in_child", lambda work, model, **named: measure.verify(model, **named))
    outcome = cli(f"verify {line}")
    assert outcome.code == 2
    assert outcome.stdout == ""
    assert message in outcome.stderr
    assert "help: " in outcome.stderr


def test_without_torch_the_command_to_install_it_is_named_in_one_line(cli, monkeypatch):
    monkeypatch.setitem(sys.modules, "torch", None)
    for line in ("verify --preset r1 --tokens 10", "size --preset r1 --tokens 10 --verify"):
        outcome = cli(line)
        assert outcome.code == 2
        assert outcome.stdout == ""
        assert (
            outcome.stderr
            == "verify needs torch, which is not installed: pip install 'kvcalc[verify] @ git+https://github.com/kvcalc/kvcalc'\n"
        )


@pytest.mark.parametrize(
    ("work", "message"),
    [
        ("fail_with_no_memory", "memory ran out while the caches were filled"),
        ("be_killed", "was killed (signal 9), as happens when memory runs out"),
        ("leave", "ended without an answer (exit code 7)"),
        ("refuse", "here: no"),
    ],
)
def test_an_end_without_an_answer_becomes_one_line(work, message):
    with pytest.raises(kvcalc.KvcalcError) as caught:
        in_child(f"child_entries:{work}")
    assert message in str(caught.value)
    assert caught.value.help


def wait_for_children(process: psutil.Process) -> list[psutil.Process]:
    for _ in range(600):
        children = process.children(recursive=True)
        if children:
            return children
        time.sleep(0.05)
    raise AssertionError("it started no process")


@pytest.mark.slow
@pytest.mark.parametrize("stop", [signal.SIGINT, signal.SIGKILL])
def test_whoever_is_stopped_leaves_no_process_behind(stop):
    code = (
        "import signal; signal.signal(signal.SIGINT, signal.default_int_handler)\n"  # whoever started us may ignore it
        "from kvcalc.cli import main; raise SystemExit(main('verify --preset llama-3-8b --tokens 3000'.split()))"
    )
    line = [sys.executable, "-c", code]
    started = subprocess.Popen(line, stdout=subprocess.PIPE, stderr=subprocess.PIPE, start_new_session=True)
    children = wait_for_children(psutil.Process(started.pid))
    time.sleep(2)
    os.killpg(started.pid, stop) if stop == signal.SIGINT else started.kill()
    _, errors = started.communicate(timeout=60)
    psutil.wait_procs(children, timeout=30)
    assert not [process for process in children if process.is_running()]
    assert b"Traceback" not in errors
    if stop == signal.SIGINT:
        assert started.returncode == 130


def test_the_result_as_json_and_beside_the_size(cli, monkeypatch):
    monkeypatch.setattr(child, "in_child", lambda work, model, **named: measure.verify(model, **named))
    outcome = cli("verify --preset r1 --tokens 100000 --device meta --format json")
    data = json.loads(outcome.stdout)
    assert outcome.code == 0
    assert data["equal"] is True
    assert data["storage_bytes"] == 7_027_200_000
    assert [tensor["shape"] for tensor in data["tensors"]] == [[1, 100_000, 512], [1, 100_000, 64]]
    outcome = cli("size --preset qwen2.5-0.5b --tokens 100 --verify --format json")
    report, verification = json.loads(outcome.stdout)
    assert outcome.code == 0
    assert report["total_bytes"] == verification["storage_bytes"] == verification["predicted_bytes"]


@pytest.mark.parametrize(
    "line",
    ["--engine transformers", "--by-layer", "--engine-set window=full", "--tokens 20", "--explain"],
)
def test_size_verifies_one_answer_of_the_ideal_engine(cli, line):
    outcome = cli(f"size --preset qwen2.5-0.5b --tokens 10 --verify {line}")
    assert outcome.code == 2
    assert outcome.stderr.startswith("--verify: ")


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("--against vllm --preset r1", "--against: no library to verify against is called 'vllm'"),
        ("--against transformers --preset r1", "--against transformers: --preset applies to kvcalc's own modules only"),
        ("--against transformers", "--against transformers: the library's class is built from a config.json"),
        (
            "--against transformers --model x --tp 2",
            "--against transformers: --tp applies to kvcalc's own modules only",
        ),
    ],
)
def test_what_is_verified_against_another_library_comes_from_a_config(cli, line, message):
    outcome = cli(f"verify --tokens 10 {line}")
    assert outcome.code == 2
    assert outcome.stderr.splitlines()[0] == message


def test_without_transformers_the_command_to_install_it_is_named(cli, monkeypatch):
    monkeypatch.setitem(sys.modules, "transformers", None)
    outcome = cli("verify --against transformers --model x --tokens 10")
    assert (
        outcome.stderr
        == "verify needs transformers, which is not installed: pip install 'kvcalc[against] @ git+https://github.com/kvcalc/kvcalc'\n"
    )
