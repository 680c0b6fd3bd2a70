"""The public API: names and signatures are a contract, and no misuse ends in anything but a KvcalcError."""

from __future__ import annotations

import inspect
import json
import re
from pathlib import Path

import numpy as np
import pytest
from mypy.api import run as mypy_run
from test_options import COMMANDS

import kvcalc
from kvcalc.engines import Engine

ROOT = Path(__file__).parents[1]
R1 = kvcalc.load("r1")


def test_the_names_of_the_contract_are_there():
    functions = {
        "load",
        "size",
        "sweep",
        "fit",
        "fit_gpus",
        "compare",
        "check",
        "diff",
        "presets",
        "gpus",
        "apply_method",
    }
    assert set(kvcalc.__all__) >= functions | {"Model", "Parallel", "Gpu", "Report", "KvcalcError"}
    assert set(kvcalc.__all__) <= set(dir(kvcalc))
    assert all(getattr(kvcalc, name) for name in kvcalc.__all__)


API_ONLY = {
    "size": {"engine_settings", "parallel", "sequences", "kv_dtype"},
    "compare": {"engine_settings", "sequences", "kv_dtype"},
    "fit_gpus": {"engine_settings", "parallel", "sequences", "kv_dtype", "num_gpus", "weights_bytes", "reserve_bytes"},
    "transfer": {"engine_settings", "kv_dtype"},
    "decode": {"engine_settings", "parallel", "sequences", "kv_dtype"},
    "plot": {"engine_settings", "parallel", "sequences", "kv_dtype"},
    "check": set(),
    "deployments": set(),
    "diff": {"max_growth"},
    "explain": {"engine_settings"},
    "traffic": {"engine_settings", "kv_dtype", "scheduler", "available_bytes"},
    "presets": set(),
}
"""Arguments that no option is called like: Python's own values, and names that were there before."""
COMMAND_ONLY = {
    "baseline",
    "update_baseline",
    "max_growth",
    "exact",
    "launch",
    "others",
    "format",
    "out",
    "named",
    "preset",
    "model",
    "length",
    "engine_set",
    "scheduler_set",
    "by_layer",
    "explain",
    "verify",
}
"""Options that say how an answer is shown or what it is compared with, or how a model is written: the first argument, in Python."""


OF_A_WORKLOAD = {"output", "quantile", "shared_prefix", "prefixes", "active"}
OF_REPLICAS = {*OF_A_WORKLOAD, "workload", "on"}
"""Options with which `kvcalc fit` answers as `kvcalc.replicas` does."""


@pytest.mark.parametrize(
    ("name", "command"),
    {
        "size": "size",
        "compare": "compare",
        "fit_gpus": "fit",
        "transfer": "transfer",
        "decode": "decode",
        "plot": "plot",
        "check": "check",
        "deployments": "deployments",
        "diff": "diff",
        "explain": "explain",
        "traffic": "traffic",
        "presets": "presets list",
    }.items(),
)
def test_a_function_takes_what_its_command_takes(name, command):
    options = {option.name for option in COMMANDS[command].takes} - COMMAND_ONLY
    options -= OF_REPLICAS if name == "fit_gpus" else set()
    assert set(inspect.signature(getattr(kvcalc, name)).parameters) - {"model"} - API_ONLY[name] == options


def test_replicas_are_those_of_the_command(cli):
    assert set(inspect.signature(kvcalc.replicas).parameters) > OF_REPLICAS - {"on"}
    line = (
        "fit llama3-8b -e vllm --gpu l40s,h100 --tp 2 --users 900 --workload 1K:5,4K:1 --output 200 --active 50 --json"
    )
    asked = {
        "users": 900,
        "workload": {"1K": 5, 4096: 1},
        "output": 200,
        "active": 50,
        "gpu": ["l40s", "h100"],
        "tp": 2,
    }
    assert kvcalc.replicas("llama3-8b", **asked).to_dict() == json.loads(cli(line).stdout)


def test_what_is_not_given_has_the_default_of_the_command(cli):
    printed = json.loads(cli("size r1 100000 --json").stdout)
    assert kvcalc.size("r1", tokens=100_000).to_dict() == printed


NAMES = ("r1", "deepseek-ai/DeepSeek-R1", "qwen3:8b", "presets/deepseek-r1.yaml")


@pytest.mark.parametrize("name", NAMES)
def test_a_model_is_named_as_on_the_command_line(cli, monkeypatch, name):
    monkeypatch.chdir(ROOT)
    printed = json.loads(cli(f"size {name} 1K --json").stdout)
    assert kvcalc.size(name, tokens="1K").to_dict() == printed
    assert kvcalc.size(kvcalc.load(name), tokens=1024).to_dict() == printed


MANIFEST = "tests/data/deployments/k8s-deployment-args--equals/chat.yaml"
SAME = {
    "lengths, users, format": (
        lambda: kvcalc.size("r1", tokens="128K", dtype="fp8", batch=8),
        "size r1 128K --dtype fp8 --batch 8",
    ),
    "the older names": (
        lambda: kvcalc.size("r1", tokens=131072, kv_dtype="fp8", sequences=8),
        "size r1 128K --dtype fp8 --batch 8",
    ),
    "ranks": (lambda: kvcalc.size("llama3-8b", tokens="1k", tp=8, pp=2), "size llama3-8b 1k --tp 8 --pp 2"),
    "one rank": (
        lambda: kvcalc.size("llama3-8b", tokens="1k", tp=1, engine="llama.cpp"),
        "size llama3-8b 1k --tp 1 --engine llama.cpp",
    ),
    "ranks, as one": (
        lambda: kvcalc.size("r1", tokens="1k", parallel=kvcalc.Parallel(tp=8)),
        "size r1 1k --tp 8",
    ),
    "a version": (
        lambda: kvcalc.size("gemma-3-27b", tokens="32K", engine="vllm@0.25.1"),
        "size gemma-3-27b 32K --engine vllm@0.25.1",
    ),
    "an engine as people call it": (
        lambda: kvcalc.size("llama3-8b", engine="llama.cpp", batch="2"),
        "size llama3-8b --engine llama.cpp --batch 2",
    ),
    "settings as text": (
        lambda: kvcalc.size("r1", tokens=9, engine="vllm", engine_settings={"max_model_len": "32K"}),
        "size r1 9 --engine vllm --engine-set max_model_len=32K",
    ),
    "attention": (lambda: kvcalc.size("r1", tokens=9, attention="mqa"), "size r1 9 --attention mqa"),
    "a method": (
        lambda: kvcalc.size("llama3-8b", tokens="8K", method="snapkv:max_capacity_prompt=512"),
        "size llama3-8b 8K --method snapkv:max_capacity_prompt=512",
    ),
    "methods": (
        lambda: kvcalc.size("llama3-8b", tokens="8K", method=["gqa:4", "kivi:bits=2"]),
        "size llama3-8b 8K --method gqa:4 --method kivi:bits=2",
    ),
    "draft layers": (lambda: kvcalc.size("r1", tokens=9, mtp=True), "size r1 9 --mtp"),
    "GPUs": (
        lambda: kvcalc.fit_gpus("r1", gpu="h200", gpus=8, tp=8, weights="671GB", tokens="128K", engine="vllm"),
        "fit r1 --gpu h200 --gpus 8 --tp 8 --weights 671GB --tokens 128K --engine vllm",
    ),
    "GPUs by the older names": (
        lambda: kvcalc.fit_gpus(
            kvcalc.load("r1"),
            gpu="h200",
            num_gpus=8,
            parallel=kvcalc.Parallel(tp=8),
            weights_bytes=671 * 10**9,
            reserve_bytes=2**30,
        ),
        "fit r1 --gpu h200 --gpus 8 --tp 8 --weights 671GB --reserve 1GiB",
    ),
    "a GPU of the list": (
        lambda: kvcalc.fit_gpus("llama3-8b", gpu=next(g for g in kvcalc.gpus() if g.name == "h200"), weights="16GB"),
        "fit llama3-8b --gpu h200 --weights 16GB --gpus 1",
    ),
    "other memory": (
        lambda: kvcalc.fit_gpus("llama3-8b", memory="64GB", weights="16GB", utilization=0.9),
        "fit llama3-8b --memory 64GB --weights 16GB --utilization 0.9 --tp 1",
    ),
    "prefill and decode": (
        lambda: kvcalc.transfer("kimi-k2.5", tokens=8150, dtype="fp8", prefill="tp=4", decode="tp=8", link="400Gb/s"),
        "transfer kimi-k2.5 --tokens 8150 --dtype fp8 --from tp=4 --to tp=8 --link 400Gb/s",
    ),
    "prefill and decode, as one": (
        lambda: kvcalc.transfer("r1", tokens="8K", decode=kvcalc.Parallel(8), in_flight=4, mtp=True),
        "transfer r1 --tokens 8K --to tp=8 --in-flight 4 --mtp",
    ),
    "a decode step": (
        lambda: kvcalc.decode("r1", tokens="32K", batch=64, gpu="h200", tp=8),
        "decode r1 --tokens 32K --batch 64 --gpu h200 --tp 8",
    ),
    "a decode step at a bandwidth": (
        lambda: kvcalc.decode("llama3-8b", tokens=8192, bandwidth="1TB/s", weights_dtype="fp8"),
        "decode llama3-8b --tokens 8K --bandwidth 1TB/s --weights-dtype fp8",
    ),
    "curves": (
        lambda: kvcalc.plot(["r1", kvcalc.load("gpt-oss-20b")], tokens=["1K", 32768], batch=4, gpu="h200"),
        "plot r1 gpt-oss-20b --tokens 1K,32K --batch 4 --gpu h200",
    ),
    "curves of everything": (
        lambda: kvcalc.plot("llama3-8b", methods=["snapkv"], engine=["ideal", "vllm@0.25.1"], dtype="bf16,fp8"),
        "plot llama3-8b --methods snapkv --engine ideal,vllm@0.25.1 --dtype bf16,fp8",
    ),
    "curves of users": (
        lambda: kvcalc.plot("llama3.1-8b", max_users=True, gpu=["h100", "l40s"], tp=2, engine="vllm", tokens="32K"),
        "plot llama3.1-8b --max-users --gpu h100,l40s --tp 2 --engine vllm --tokens 32K",
    ),
    "variants": (
        lambda: kvcalc.compare("r1", tokens="1K,8192", variants=["mha", "gqa:8"]),
        "compare r1 -t 1K,8192 --variants mha,gqa:8",
    ),
    "the usual variants": (lambda: kvcalc.compare("falcon-7b", tokens=9), "compare falcon-7b -t 9"),
    "the usual lengths": (lambda: kvcalc.compare(["llama3-8b", "mistral-7b"]), "compare llama3-8b mistral-7b"),
    "models": (
        lambda: kvcalc.compare(["r1", kvcalc.load("llama3-8b")], tokens=["1K", 8192], dtype="fp8"),
        "compare r1 llama3-8b -t 1K,8192 --dtype fp8",
    ),
    "all methods": (
        lambda: kvcalc.compare("llama3-8b", tokens="8K", methods="all"),
        "compare llama3-8b -t 8K --methods all",
    ),
    "a plan": (lambda: kvcalc.check("examples/plans/prod.yaml"), "check examples/plans/prod.yaml"),
    "plans": (
        lambda: kvcalc.check([Path("examples/plans/prod.yaml"), "examples/plans/served.yaml"]),
        "check examples/plans/prod.yaml examples/plans/served.yaml",
    ),
    "a manifest, and what it leaves out": (
        lambda: kvcalc.check(MANIFEST, weights="65GB", batch=12, tokens=8192, memory="64GB"),
        f"check {MANIFEST} --weights 65GB --users 12 --tokens 8K --memory 64GB",
    ),
    "a manifest and a budget": (
        lambda: kvcalc.check(MANIFEST, budget=8 * 2**30, batch="3"),
        f"check {MANIFEST} --budget 8GiB --users 3",
    ),
    "a log": (
        lambda: kvcalc.explain(Path("tests/logs/vllm_qwen3_14b.log"), "qwen3-14b", gpu="h100"),
        "explain tests/logs/vllm_qwen3_14b.log qwen3-14b --gpu h100",
    ),
    "an error and its remedies": (
        lambda: kvcalc.explain("tests/logs/vllm_error_minimax.log", "minimax-m2.7", tp=2),
        "explain tests/logs/vllm_error_minimax.log minimax-m2.7 --tp 2",
    ),
    "a log with settings": (
        lambda: kvcalc.explain(
            "tests/logs/sglang_without_tp.log", kvcalc.load("qwen3-235b-a22b"), engine_settings={"page_size": "1"}, pp=1
        ),
        "explain tests/logs/sglang_without_tp.log qwen3-235b-a22b --engine-set page_size=1 --pp 1",
    ),
    "what files start": (
        lambda: kvcalc.deployments(MANIFEST, variables=["A=b"]),
        f"deployments {MANIFEST} --set A=b",
    ),
    "users of different lengths": (
        lambda: kvcalc.traffic(
            "llama3-8b", gpu="h100", context={1024: 5, "4K": 1}, output=200, tp=2, scheduler={"max_num_seqs": 64}
        ),
        "traffic llama3-8b --gpu h100 --context 1K:5,4K:1 --output 200 --tp 2 --scheduler-set max_num_seqs=64",
    ),
    "users of a pool of blocks": (
        lambda: kvcalc.traffic(
            "llama3-8b", context="p50=1K,max=4K", blocks="9K", quantile=99.9, shared_prefix=512, prefixes=2, active=50
        ),
        "traffic llama3-8b --context p50=1K,max=4K --blocks 9K --quantile 99.9 --shared-prefix 512 --prefixes 2 "
        "--active 50",
    ),
    "users of another engine": (
        lambda: kvcalc.traffic(
            "llama3-8b", context="1K", gpu="rtx-4090", weights="16GB", reserve="1GB", engine="sglang", dtype="fp8"
        ),
        "traffic llama3-8b --context 1K --gpu rtx-4090 --weights 16GB --reserve 1GB --engine sglang --dtype fp8",
    ),
    "two files": (
        lambda: kvcalc.diff("tests/plans/was/served.yaml", Path("tests/plans/now/served.yaml"), max_growth="60%"),
        "diff tests/plans/was/served.yaml tests/plans/now/served.yaml --max-growth 60%",
    ),
    "presets": (lambda: kvcalc.presets("deepseek v3", kind="MLA"), "presets list deepseek v3 --kind mla"),
}


@pytest.mark.parametrize("case", SAME)
def test_a_call_gives_what_its_command_prints(cli, monkeypatch, case):
    monkeypatch.chdir(ROOT)
    call, line = SAME[case]
    assert call().to_dict() == json.loads(cli(f"{line} --json").stdout)


PRINTED = (
    "lengths, users, format",
    "GPUs",
    "variants",
    "a plan",
    "two files",
    "an error and its remedies",
    "what files start",
)


@pytest.mark.parametrize("case", PRINTED)
def test_an_answer_is_printed_as_its_command_prints_it(cli, monkeypatch, case):
    monkeypatch.chdir(ROOT)
    call, line = SAME[case]
    assert f"{call()}\n" == cli(line).stdout


CHAT = {"name": "chat", "model": "r1", "tokens": "128K", "budget": "80GB"}


def test_a_plan_may_be_a_mapping():
    whole = kvcalc.check({"deployments": [CHAT]})
    assert [(f.deployment, f.needed_bytes, f.fits) for f in whole.findings] == [("chat", 131_072 * 70_272, True)]
    assert kvcalc.check(CHAT) == kvcalc.check([CHAT]) == whole
    too_large = kvcalc.check({**CHAT, "budget": "8GB"})
    assert (too_large.fits, too_large.findings[0].needed_bytes) == (False, 9_210_691_584)


def test_many_points_are_swept_as_people_write_them():
    assert kvcalc.sweep("r1", tokens="1K,32K").tolist() == [1024 * 70_272, 32_768 * 70_272]
    assert kvcalc.sweep("r1", tokens=["1K", 32_768], dtype="fp8", batch=2).tolist() == [1024 * 70_272, 32_768 * 70_272]
    assert kvcalc.sweep(["r1"], tokens="1K", kv_dtype="bf16", sequences=[1, 3]).tolist() == [
        [1024 * 70_272, 3 * 1024 * 70_272]
    ]


def test_memory_is_written_with_its_unit():
    assert kvcalc.fit("r1", available_bytes="40GiB", tp=8) == kvcalc.fit(
        kvcalc.load("r1"), available_bytes=40 * 2**30, parallel=kvcalc.Parallel(tp=8)
    )
    assert kvcalc.fit("r1", available_bytes=["40GiB", 30 * 2**30], pp=2).available_bytes == (40 * 2**30, 30 * 2**30)


REFUSED = {
    "a log of nothing": (lambda: kvcalc.explain("LICENSE"), "LICENSE: no cache reported in"),
    "a log of an unnamed model": (
        lambda: kvcalc.explain("tests/logs/trtllm_tinyllama.log"),
        "tests/logs/trtllm_tinyllama.log: this tensorrt_llm log does not describe its model",
    ),
    "a log of an unknown engine": (
        lambda: kvcalc.explain("tests/logs/vllm_qwen3_14b.log", "qwen3-14b", engine="vlm"),
        "log: no engine with supported logs is called 'vlm'",
    ),
    "a setting that a log's engine lacks": (
        lambda: kvcalc.explain("tests/logs/vllm_qwen3_14b.log", "qwen3-14b", engine_settings={"block_sze": 1}),
        "engine_settings: no setting of the engine vllm is called 'block_sze'",
    ),
    "a pool of no size": (lambda: kvcalc.traffic("llama3-8b", context="1K"), "pool size unknown"),
    "weights as large as the GPU": (
        lambda: kvcalc.traffic("llama3-8b", context="1K", gpu="4090", weights="900GB"),
        "gpu: weights and reserve leave no memory of rtx-4090",
    ),
    "two GPUs for one pool": (
        lambda: kvcalc.traffic("llama3-8b", context="1K", gpu="4090,h100"),
        "gpu: no GPU is called '4090,h100'",
    ),
    "steps of no time": (
        lambda: kvcalc.replays("llama3-8b", "examples/traces", blocks=9, step_seconds=0),
        "expected seconds above 0, not 0",
    ),
    "a floor of no GPU": (
        lambda: kvcalc.replays("llama3-8b", "examples/traces", blocks=9, step_seconds="floor"),
        "step_seconds: no GPU whose bandwidth sets a floor",
    ),
    "a variable without a value": (
        lambda: kvcalc.deployments(MANIFEST, variables=["A"]),
        "variables: value 1 is not of the form NAME=VALUE",
    ),
    "two batches": (
        lambda: kvcalc.size("r1", tokens=1, batch=2, sequences=3),
        "batch (2) and sequences (3) are the same",
    ),
    "two formats": (
        lambda: kvcalc.size("r1", tokens=1, dtype="fp8", kv_dtype="bf16"),
        "dtype ('fp8') and kv_dtype ('bf16') are the same",
    ),
    "two numbers of GPUs": (
        lambda: kvcalc.fit_gpus("r1", gpu="h200", gpus=8, num_gpus=4),
        "gpus (8) and num_gpus (4) are the same",
    ),
    "a plot of users on no GPU": (lambda: kvcalc.plot("r1", max_users=True), "memory: no GPU given"),
    "a plot of bytes on ranks": (lambda: kvcalc.plot("r1", tp=2), "the bytes of a cache do not depend on parallel"),
    "a plot of nothing": (lambda: kvcalc.plot([]), "no model named"),
    "settings of two engines": (
        lambda: kvcalc.plot("r1", engine="ideal,vllm", engine_settings={"block_size": 32}),
        "engine_settings: engine_settings applies to one engine",
    ),
    "two weights": (
        lambda: kvcalc.fit_gpus("r1", gpu="h200", weights="671GB", weights_bytes=1),
        "weights ('671GB') and weights_bytes (1) are the same",
    ),
    "two reserves": (
        lambda: kvcalc.fit_gpus("r1", gpu="h200", reserve="1GB", reserve_bytes=0),
        "reserve ('1GB') and reserve_bytes (0) are the same",
    ),
    "two layouts": (
        lambda: kvcalc.size("r1", tokens=1, parallel=kvcalc.Parallel(tp=8), tp=4),
        "parallel (TP 8) and tp (4) both set the layout",
    ),
    "a layout that is none": (lambda: kvcalc.size("r1", tokens=1, parallel=8), "parallel must be a Parallel, not 8"),
    "no tokens": (lambda: kvcalc.size("r1"), "no tokens given"),
    "several tokens": (lambda: kvcalc.size("r1", tokens=["1K", "2K"]), "tokens must be one number, not ['1K', '2K']"),
    "an array": (lambda: kvcalc.size("r1", tokens=np.array([1, 2])), "tokens must be one number, not array([1, 2])"),
    "tokens that are no number": (
        lambda: kvcalc.size("r1", tokens="many"),
        "tokens must be a positive whole number, not 'many'",
    ),
    "a batch that is none": (
        lambda: kvcalc.size("r1", tokens=1, batch="x"),
        "batch must be a positive whole number, not 'x'",
    ),
    "an unknown model": (lambda: kvcalc.size("llama4-70b", tokens=1), "model: no model is called 'llama4-70b'"),
    "an unknown format": (lambda: kvcalc.size("r1", tokens=1, dtype="bf61"), "dtype: no dtype is called 'bf61'"),
    "an unknown format, older": (
        lambda: kvcalc.size("r1", tokens=1, kv_dtype="bf61"),
        "kv_dtype: no dtype is called 'bf61'",
    ),
    "an unknown engine": (lambda: kvcalc.size("r1", tokens=1, engine="vlm"), "engine: no engine is called 'vlm'"),
    "an unknown setting": (
        lambda: kvcalc.size("r1", tokens=1, engine="vllm", engine_settings={"block_sze": 3}),
        "engine_settings: no setting of the engine vllm is called 'block_sze'",
    ),
    "an unknown attention": (
        lambda: kvcalc.size("r1", tokens=1, attention="mqq"),
        "attention: no attention or method is called 'mqq'",
    ),
    "a method that is no text": (
        lambda: kvcalc.size("r1", tokens=1, method=[5]),
        "method: a method must be text, not 5",
    ),
    "methods that are no list": (
        lambda: kvcalc.size("r1", tokens=1, method=5),
        "method must be a text or a list of texts, not 5",
    ),
    "an assumption of a model": (
        lambda: kvcalc.size(R1, tokens=1, assume="gqa"),
        "assume does not apply to a loaded Model (deepseek-r1)",
    ),
    "an unknown GPU": (lambda: kvcalc.fit_gpus("r1", gpu="h2000"), "gpu: no GPU is called 'h2000'"),
    "no GPU": (lambda: kvcalc.fit_gpus("r1"), "memory: no GPU given"),
    "memory without a unit": (lambda: kvcalc.fit_gpus("r1", memory="80"), "memory would be 80 bytes"),
    "an engine with settings twice": (
        lambda: kvcalc.size("r1", tokens=1, engine=Engine.of("vllm"), engine_settings={"block_size": 32}),
        "engine vllm is given with its settings, and engine_settings as well",
    ),
    "variants of several": (
        lambda: kvcalc.compare(["r1", "llama3-8b"], tokens=1, variants="mha"),
        "variants compares one model, but several are named",
    ),
    "no models": (lambda: kvcalc.compare([], tokens=1), "no model named"),
    "no lengths": (lambda: kvcalc.compare("r1", tokens=[]), "no tokens given"),
    "an unknown method": (
        lambda: kvcalc.compare("r1", tokens=1, methods="snapvk"),
        "methods: no attention or method is called 'snapvk'",
    ),
    "a plan that is none": (lambda: kvcalc.check(5), "a plan is a path or a mapping, not 5"),
    "an empty plan": (lambda: kvcalc.check({}), "plan: deployments is missing"),
    "a deployment of two": (
        lambda: kvcalc.check({"deployments": [CHAT, CHAT]}),
        "plan: deployments[1].name: the name 'chat' is already used by deployments[0]",
    ),
    "an unknown kind": (lambda: kvcalc.presets(kind="mlx"), "kind: no kind of attention is called 'mlx'"),
    "words of no preset": (
        lambda: kvcalc.presets("qwen", kind="wkv"),
        "no preset with wkv layers matches 'qwen'",
    ),
    "a word that is none": (lambda: kvcalc.presets([1]), "a word must be text, not 1"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_a_wrong_argument_is_named(case):
    call, message = REFUSED[case]
    with pytest.raises(kvcalc.KvcalcError) as error:
        call()
    assert str(error.value).startswith(message)
    assert error.value.help


USAGE = """
import numpy as np
from pathlib import Path
import kvcalc

report = kvcalc.size("r1", tokens="128K", dtype="fp8", batch=8, tp=8, method=["gqa:8"])
total: int = report.total_bytes
values = report.to_dict()
values["total_bytes"]
kvcalc.size(Path("config.json"), tokens=1)
kvcalc.size({"model_type": "llama"}, tokens=1, parallel=kvcalc.Parallel(tp=2), engine_settings={"block_size": 16})
fitted = kvcalc.fit_gpus("r1", gpu=kvcalc.gpus()[0], weights="671GB", utilization=0.9)
context: int | None = fitted.max_tokens
side: kvcalc.Comparison = kvcalc.compare(["r1", kvcalc.load("r1")], tokens=["1K", 8192])
under: kvcalc.MethodComparison = kvcalc.compare("r1", tokens=1, methods="all")
checked: bool = kvcalc.check(["plan.yaml", {"deployments": []}]).fits
names = [entry.name for entry in kvcalc.presets("qwen", kind="mla").entries]
swept = kvcalc.sweep("r1", tokens=np.arange(1, 9))
first: int = int(swept[0])
kvcalc.fit("r1", available_bytes="40GiB").to_dict()
"""
MISUSE = {
    'kvcalc.size("r1", tokens=1.5)': "arg-type",
    'kvcalc.size("r1", tokens=[1, 2])': "arg-type",
    'kvcalc.size("r1", token=1)': "call-arg",
    "kvcalc.size(5, tokens=1)": "arg-type",
    'report: kvcalc.Report = kvcalc.compare("r1", tokens=1)': "assignment",
    'kvcalc.compare("r1", tokens=1, variants="mha", methods="all")': "call-overload",
}


def types_found(program: str) -> list[tuple[str, str]]:
    """Errors that a user's mypy finds, in strict mode: line and code of each."""
    found, _, _ = mypy_run(["--strict", "--config-file=", "-c", program])
    return re.findall(r"^<string>:(\d+): error: .*\[([\w-]+)\]$", found, re.MULTILINE)


def test_types_are_as_they_are_used():
    assert types_found(USAGE) == []


def test_what_is_no_argument_is_found_by_type():
    wanted = [(str(line), code) for line, code in enumerate(MISUSE.values(), 2)]
    assert types_found("\n".join(["import kvcalc", *MISUSE])) == wanted


def test_a_report_names_groups_and_tensors():
    report = kvcalc.size(R1, tokens=100_000, sequences=2, kv_dtype="bfloat16", engine="ideal", engine_settings={})
    (group,) = report.groups
    c_kv, k_rope = group.tensors
    assert (c_kv.name, c_kv.dims, c_kv.dtype, c_kv.slots) == ("c_kv", (("kv_lora_rank", 512),), "bf16", 100_000)
    assert (c_kv.bytes, k_rope.bytes) == (2 * 61 * 100_000 * 1024, 2 * 61 * 100_000 * 128)
    assert (report.bytes_per_token, report.fixed_bytes_per_sequence) == (70_272, 0)
    assert all(type(n) is int for n in (report.total_bytes, report.bytes_per_sequence, report.bytes_per_token))


def test_integers_of_numpy_are_integers():
    report = kvcalc.size(R1, tokens=np.int64(100_000), sequences=np.uint8(2))
    assert type(report.total_bytes) is int
    assert report.total_bytes == 2 * 7_027_200_000


@pytest.mark.parametrize(
    "misuse",
    [
        lambda: kvcalc.size(R1, tokens=1.0),
        lambda: kvcalc.size(R1, tokens=True),
        lambda: kvcalc.size(R1, tokens=None),
        lambda: kvcalc.size(R1, tokens=1, sequences=0),
        lambda: kvcalc.size(R1, tokens=1, kv_dtype=16),
        lambda: kvcalc.size(R1, tokens=1, engine="vlm"),
        lambda: kvcalc.size(R1, tokens=1, engine=None),
        lambda: kvcalc.size(R1, tokens=1, engine="_private"),
        lambda: kvcalc.size(R1, tokens=1, engine="ideal.x"),
        lambda: kvcalc.size(R1, tokens=1, engine_settings=["window"]),
        lambda: kvcalc.size(R1, tokens=1, engine_settings={"window": []}),
        lambda: kvcalc.size(R1, tokens=1, engine_settings={1: 2}),
        lambda: kvcalc.apply_method(R1, None),
        lambda: kvcalc.load(None),
        lambda: kvcalc.load(b"r1"),
        lambda: kvcalc.load({}),
        lambda: kvcalc.load({1: 2}),
        lambda: kvcalc.load({"num_layers": 1, "layer_pattern": ["a"], "layers": {5: {}, "a": {}}}),
        lambda: kvcalc.load({"model_type": 5}),
        lambda: kvcalc.load({"model_type": "llama", "text_config": 5}),
        lambda: kvcalc.load({"model_type": []}),
        lambda: kvcalc.load("\0.yaml"),
        lambda: kvcalc.load("/"),
        lambda: kvcalc.apply_method(R1, ""),
        lambda: kvcalc.apply_method(R1, "gqa:²"),
        lambda: kvcalc.apply_method(R1, "mla:١+64"),
    ],
)
def test_misuse_is_a_kvcalc_error(misuse):
    with pytest.raises(kvcalc.KvcalcError):
        misuse()
