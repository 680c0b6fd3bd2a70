"""What runs on a GPU: numbers against float64, bytes against the prediction and the allocator, and ends that are clean.

`pytest -m cuda` where there is one; `pytest -m cuda --device cpu` rehearses every line without.
"""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import time

import psutil
import pytest
import torch
from layers import ENCODED, HIDDEN, LAYERS
from policy_runs import SPECS as POLICY_SPECS
from policy_runs import check_every_step
from quantised_runs import SPECS as QUANTISED_SPECS
from quantised_runs import VARIANTS, check_every_step_of
from torch import Tensor

import kvcalc
from kvcalc.model import LayerGroup, Model, without_origins
from kvcalc.parallel import Parallel
from kvcalc.verify.child import OutOfMemoryError, in_child
from kvcalc.verify.layer import Layer
from kvcalc.verify.measure import verify
from kvcalc.verify.memory import CUDA_ROUNDING_BYTES, AllocatorMeter, rounded_up
from kvcalc.verify.modules._attention import attention
from kvcalc.verify.modules._module import Context
from kvcalc.verify.ranks import verify_ranks

pytestmark = pytest.mark.cuda

TOKENS, SEQUENCES, STEPS = 37, 2, 25
CHUNKS = (16, 9, 1, 1, 10)
TOLERANCES = {torch.bfloat16: 3e-2, torch.float16: 4e-3, torch.float32: 1e-3}
"""|output - float64's| / |float64's|. float32 leaves room for cuDNN's convolutions, which are TF32 by default."""


@pytest.fixture(scope="session")
def device(request: pytest.FixtureRequest) -> str:
    chosen: str = request.config.getoption("--device")
    if chosen == "cuda" and not torch.cuda.is_available():
        pytest.fail("torch finds no CUDA device; --device cpu rehearses these tests", pytrace=False)
    return chosen


@pytest.fixture(autouse=True)
def small(monkeypatch):
    """Small layers, and one thread: the cores are shared among the workers that run these tests."""
    monkeypatch.setattr("kvcalc.verify.layer.HIDDEN_SIZE", HIDDEN)
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


def of_kind(name: str, layers: int = 3) -> Model:
    return Model(name, (LayerGroup.of(name.replace(" ", "-"), range(layers), LAYERS[name]),))


# ---- numbers


def off(output: Tensor, exact: Tensor) -> float:
    return float((output.cpu().double() - exact).norm() / exact.norm())


@pytest.mark.parametrize("dtype", TOLERANCES, ids=str)
@pytest.mark.parametrize("name", LAYERS)
def test_every_kind_computes_what_float64_does_cached_and_uncached(name, dtype, device):
    with torch.no_grad():
        layer = Layer(LAYERS[name], dtype=dtype, device=device)
        exact = Layer(LAYERS[name], dtype=torch.float64, device="cpu")
        exact.load_state_dict({key: weight.cpu().double() for key, weight in layer.state_dict().items()})
        hidden = torch.randn(SEQUENCES, TOKENS, HIDDEN).to(dtype)
        encoded = torch.randn(SEQUENCES, ENCODED, HIDDEN).to(dtype)
        expected = exact(hidden.double(), context=Context(encoded=encoded.double()))
        around = Context(encoded=encoded.to(device))
        caches = layer.new_caches(SEQUENCES, TOKENS, dtype)
        parts = hidden.to(device).split(list(CHUNKS), dim=1)
        cached = torch.cat([layer(part, caches, around) for part in parts], dim=1)
        uncached = layer(hidden.to(device), context=around)
    errors = off(cached, expected), off(uncached, expected)
    assert max(errors) < TOLERANCES[dtype], errors


@pytest.mark.parametrize("width", [64, 128, 192, 256, 512, 576])
@pytest.mark.parametrize("kv_heads", [1, 2, 8])
def test_a_decode_step_over_many_tokens_computes_what_float64_does(width, kv_heads, device):
    """Widths at which one kernel of CUDA hands over to another."""
    made = torch.Generator().manual_seed(width)
    query, key, value = (
        torch.randn(2, heads, tokens, width, generator=made).bfloat16()
        for heads, tokens in ((8, 1), (kv_heads, 3000), (kv_heads, 3000))
    )
    exact = attention(*(rows.double() for rows in (query, key, value)), None, width**-0.5)
    output = attention(*(rows.to(device) for rows in (query, key, value)), None, width**-0.5)
    assert off(output, exact) < TOLERANCES[torch.bfloat16]


# ---- bytes


@pytest.mark.parametrize("dtype", ["bf16", "fp16", "fp32", "fp8"])
@pytest.mark.parametrize("name", LAYERS)
def test_every_kind_takes_what_was_predicted(name, dtype, device):
    for tokens, sequences, attended in ((37, 3, 256), (4099, 2, 8)):
        asked = {"tokens": tokens, "sequences": sequences, "kv_dtype": dtype}
        result = verify(of_kind(name), device=device, decode_steps=3, attended_tokens=attended, **asked)
        assert result.equal, ([tensor for tensor in result.tensors if not tensor.equal], result.memory)
        assert result.storage_bytes == kvcalc.size(of_kind(name), **asked).total_bytes
        if device == "cuda":
            assert result.memory is not None
            assert result.memory.requested_bytes == result.storage_bytes


def test_what_stays_in_memory_is_noticed(device):
    """The guard itself: a storage that is still held, and one more that was never predicted."""
    if device == "cpu":
        return  # no allocator to ask
    meter = AllocatorMeter()
    held = [torch.empty(1000, dtype=torch.uint8, device=device) for _ in range(2)]
    meter_reading = meter.reading([1000, 1000], let_go=held.pop)
    assert (meter_reading.measured_bytes, meter_reading.requested_bytes) == (2 * CUDA_ROUNDING_BYTES, 1000)
    assert not meter_reading.equal
    assert meter.reading([1000], let_go=held.clear).equal
    assert rounded_up(1000) == 2 * CUDA_ROUNDING_BYTES


RUNS = [(spec, name) for spec, names in POLICY_SPECS for name in names.split()]


@pytest.mark.parametrize(("spec", "name"), RUNS, ids="-".join)
def test_a_policy_takes_the_predicted_bytes_after_every_step(spec, name, device):
    check_every_step(spec, name, STEPS, device)


QUANTISED_RUNS = [
    *((spec, name) for spec in QUANTISED_SPECS for name in ("mha", "gqa")),
    *((s, "gqa") for s in VARIANTS),
]


@pytest.mark.parametrize(("spec", "name"), QUANTISED_RUNS, ids="-".join)
def test_a_quantised_cache_takes_the_predicted_bytes_after_every_step(spec, name, device):
    check_every_step_of(spec, name, STEPS, device)


@pytest.mark.parametrize(
    "method", ["snapkv:max_capacity_prompt=64", "kivi:group_size=32,residual_length=64", "h2o-mask-only"]
)
def test_the_memory_of_a_method_is_measured(method, device):
    facts = {"attention": "gqa", "num_layers": 3, "num_query_heads": 4, "num_kv_heads": 4, "head_dim": 64}
    model = kvcalc.apply_method(kvcalc.load(facts), method)
    result = verify(model, tokens=300, sequences=2, device=device)
    assert result.equal, (result.tensors, result.memory)
    assert (result.memory is not None) == (device == "cuda")


# ---- ends


WIDE = {"attention": "gqa", "num_layers": 60, "num_query_heads": 8, "num_kv_heads": 8, "head_dim": 128}
"""100 MB a layer at 25,600 tokens."""


def test_memory_that_runs_out_is_one_line_with_a_slice_that_fits(device):
    work = "child_entries:verify_with_little_memory"
    model, asked = without_origins(kvcalc.load(WIDE)), {"tokens": 25_600, "sequences": 1}
    with pytest.raises(OutOfMemoryError) as caught:
        in_child(work, model, device, 2**30, **asked)
    assert re.fullmatch(
        r"memory ran out in layer \d+ of 60 layers, after [\d,]+ bytes \(.*\) of caches", str(caught.value)
    )
    layers = int(re.search(r"--layers (\d+) fits", caught.value.help)[1])
    assert 2 <= layers <= 10
    assert in_child(work, model, device, 2**30, layers=layers, **asked).equal


def wait_for_children(process: psutil.Process) -> list[psutil.Process]:
    for _ in range(600):
        if children := process.children(recursive=True):
            return children
        time.sleep(0.05)
    raise AssertionError("it started no process")


@pytest.mark.parametrize("seconds", [1, 6, 12])
def test_whoever_stops_it_leaves_no_process_behind(seconds, device):
    code = (
        "import signal; signal.signal(signal.SIGINT, signal.default_int_handler)\n"  # whoever started us may ignore it
        "from kvcalc.cli import main; raise SystemExit(main("
        f"'verify --preset llama-3-8b --tokens 8000 --decode-steps 5000 --device {device}'.split()))"
    )
    started = subprocess.Popen(
        [sys.executable, "-c", code], stdout=subprocess.PIPE, stderr=subprocess.PIPE, start_new_session=True
    )
    children = wait_for_children(psutil.Process(started.pid))
    time.sleep(seconds)
    os.killpg(started.pid, signal.SIGINT)
    _, errors = started.communicate(timeout=60)
    psutil.wait_procs(children, timeout=30)
    assert not [process for process in children if process.is_running()]
    assert b"Traceback" not in errors
    assert started.returncode == 130


# ---- ranks


def test_a_rank_is_connected_and_measures_its_own(device):
    result = verify_ranks(of_kind("gqa"), Parallel(), tokens=300, sequences=2, device=device)
    assert result.backend == ("nccl" if device == "cuda" else "gloo")
    assert result.equal
