"""Inputs that once ended in a traceback, in a number that nobody meant, or not at all: now each ends in its one line."""

from __future__ import annotations

import json
import shlex
import subprocess
import sys

import pytest
import yaml
from costs import cost

import kvcalc
from kvcalc.engines import ENGINES
from kvcalc.engines.base import engine_class
from kvcalc.engines.base.reading import typed

LONG, LONGER = "9" * 400, "9" * 4301
LLAMA = {
    "model_type": "llama",
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "hidden_size": 256,
}
PRESET = "num_layers: 2\nattention: gqa\nnum_query_heads: 2\nnum_kv_heads: 1\nhead_dim: 64\n"
GRIFFIN = {"model_type": "recurrent_gemma", "num_hidden_layers": 2, "num_attention_heads": 4, "hidden_size": 256}
GRIFFIN |= {"lru_width": 256, "conv1d_width": 4, "attention_window_size": 16}
M3 = {**LLAMA, "model_type": "minimax_m3", "head_dim": 64}
SIZE = "size -t 1 -m {}"

CONTEXT = f"llama_context: n_ctx = {LONGER}\nllama_kv_cache: size = 1.00 MiB, K (f16): 1.00 MiB, V (f16): 1.00 MiB\n"
FILES = {
    "1e8 draft layers": (SIZE, PRESET + "num_mtp_layers: 100000000", "num_mtp_layers must be at most 10,000, not 1000"),
    "1e12 draft layers": (SIZE, PRESET + "num_mtp_layers: 1000000000000", "must be at most 10,000, not 1000000000000"),
    "1e8 draft layers of a config": (SIZE, {**M3, "num_mtp_modules": 10**8}, "must be at most 10,000, not 100000000"),
    "no blocks": (SIZE, GRIFFIN | {"block_types": []}, "must be a list of recurrent and attention, not []"),
    "flags that are floats": (
        SIZE,
        M3 | {"sparse_attention_config": {"sparse_attention_freq": [0.5, 1]}},
        "2 flags of",
    ),
    "a duplicate key": (
        SIZE,
        '{"model_type":"llama","num_hidden_layers":2,"num_hidden_layers" :3}',
        "is repeated in one object",
    ),
    "a key of two lines": (
        "check {}",
        'deployments:\n  - {name: a, "x\\e[31m\\n::error::y": 1}',
        r"x\x1b[31m\n::error::y",
    ),
    "a tag of two lines": (SIZE, "name: !<x%0A::error::y> a", r"the tag x\n::error::y is not allowed"),
    "a name of 300 characters": ("check {}", {"model": "x" * 300, "budget": "1GB"}, "no model is called 'xxx"),
    "a path of 300 characters": ("check {}", {"model": f"./{'x' * 300}", "budget": "1GB"}, "File name too long"),
    "a budget of 400 digits": (
        "check {}",
        {"budget": int(LONG)},
        "budget must be at most 1,000,000,000,000,000,000 bytes",
    ),
    "a budget of 4,301 digits": (
        "check {}",
        f"deployments: [{{name: a, budget: {LONGER}}}]",
        "not a number that can be",
    ),
    "weights of 400 digits": ("check {}", {"gpu": "h100", "weights": int(LONG)}, "weights must be at most"),
    "a share of 400 digits": (
        "check {}",
        {"gpu": "h100", "weights": "1GB", "gpu_memory_utilization": int(LONG)},
        "gpu_memory_utilization must be above 0 and at most 1, not 999",
    ),
    "concurrency of 400 digits": (
        "check {}",
        {"budget": "1GB", "concurrency": int(LONG)},
        "concurrency must be at most",
    ),
    "ranks of 400 digits": ("check {}", {"budget": "1GB", "tp": int(LONG)}, "tp must be at most 16,384"),
    "a share that is no number": (
        "check {}",
        {"engine": "sglang", "engine_settings": {"mem_fraction_static": float("nan")}, "gpu": "h100", "weights": "1GB"},
        "mem_fraction_static must be above 0 and at most 1, not nan",
    ),
    "10,001 deployments": (
        "check {}",
        {"deployments": [{"name": "a"}] * 10_001},
        "has 10,001 entries; the limit is 10,000",
    ),
    "a log of 5,000 digits": (
        "explain-log {} -p r1",
        CONTEXT,
        "line 1 of the log has '9999",
    ),
    "mebibytes of 400 digits": (
        "explain-log {} -p r1",
        f"llama_kv_cache: size = {LONG}.00 MiB (4096 cells), K (f16): {LONG}.00 MiB, V (f16): 256.00 MiB\n",
        "which no engine prints",
    ),
    "tokens of 400 digits": ("explain-log {} -p r1", f"GPU KV cache size: {LONG} tokens\n", "which no engine prints"),
}


def written(tmp_path, content, line) -> str:
    """Path of a file with the content; a dict is a config, or for `check` an entry of a plan or all of it."""
    file = tmp_path / ("config.json" if not isinstance(content, str) or content.startswith("{") else "file.yaml")
    if isinstance(content, dict) and line.startswith("check"):
        file = tmp_path / "plan.yaml"
        entry = {"name": "a", "model": "r1", "tokens": 1024, **content}
        content = yaml.safe_dump(content if "deployments" in content else {"deployments": [entry]})
    file.write_text(content if isinstance(content, str) else json.dumps(content))
    return str(file)


def assert_one_line(outcome, what: str) -> None:
    assert outcome.code == 2
    assert outcome.stdout == ""
    assert what in outcome.stderr
    assert [line.startswith("help: ") for line in outcome.stderr.splitlines()] == [False, True]


def test_a_pattern_that_repeats_ten_thousand_names_is_cut(tmp_path):
    names = [[["global"] * 9000, 9999]] * 5
    config = {"model_type": "gpt_neo", "num_layers": 9999, "num_heads": 2, "hidden_size": 64, "attention_types": names}
    took = cost("size", "-t", "1", "-m", written(tmp_path, config, SIZE))
    assert took.code == 0
    assert took.seconds < 3
    assert took.peak_bytes < 200 * 10**6


@pytest.mark.parametrize("case", FILES)
def test_a_file_ends_in_one_line(cli, tmp_path, case):
    line, content, what = FILES[case]
    assert_one_line(cli(line.format(written(tmp_path, content, line))), what)


COMMANDS = {
    "size -p r1 -t " + LONGER: "tokens must be at most",
    "size -p r1 -t 1 -b " + LONGER: "batch must be at most",
    "size -p " + "x" * 300 + " -t 1": "no model is called 'xxx",
    "size -p r1 -t 1 --attention gqa:" + LONGER: "takes its number of KV heads",
    "size -p r1 -t 1 --method streaming-llm:window_length=" + LONGER: "",
    "size -p r1 -t 1 -e llama_cpp --engine-set n_batch=" + LONGER: "n_batch must be",
    "size -p r1 -t 1 -e vllm --engine-set kv_cache_dtype_skip_layers=" + LONG: "",
    "size -p r1 -t 1 --tp " + LONG: "tp must be at most 16,384",
    "size -p r1 -t 1 --tp " + LONGER: "",
    "fit -p r1 -t 1K --gpu h200 --utilization 1e-99999999": "utilization must be a number, not '1e-99999999'",
    "fit -p r1 -t 1K --gpu h200 --utilization " + LONGER: "utilization must be a number, not '999",
    "fit -p r1 -t 1K --gpu h200 --weights " + LONGER + "GB": "weights must be a number of bytes with its unit",
    "fit -p r1 -t 1K --gpu h200 --weights 99999999999999999999GB": "weights must be at most 1,000,000,000,000,000,000 bytes",
}


@pytest.mark.parametrize("line", COMMANDS, ids=lambda line: line[:60])
def test_a_command_line_ends_in_one_line(cli, line):
    outcome = cli(line)
    if outcome.code:
        assert_one_line(outcome, COMMANDS[line])
    assert COMMANDS[line] == "" or outcome.code == 2


WRONG = (
    *(float("nan"), float("inf"), -float("inf"), -0.0, 1e-300, 1.5, -1, 10**13, 10**400, True, b"x", ("a",)),
    *("x", "", LONG, LONGER, "0x10", [], ["a"], [float("nan")], {}, {"a": 1}, {"method": []}),
    {"method": "mtp", "num_speculative_tokens": 10**12},
)


@pytest.mark.parametrize("name", [name.replace("-", "_") for name in ENGINES.names()])
def test_a_setting_of_any_type_is_a_number_or_an_error(name):
    engine, model = engine_class(name), kvcalc.load("gemma-3-1b")
    for setting in engine.setting_names():
        for value in WRONG:
            for settings in ({setting: value}, typed_or_none(engine, {setting: value})):
                try:
                    total = kvcalc.size(model, tokens=100, engine=name, engine_settings=settings).total_bytes
                    assert type(total) is int
                except kvcalc.KvcalcError as error:
                    assert len(str(error)) < 4000


def typed_or_none(engine, settings: dict[str, object]) -> dict[str, object] | None:
    """Settings as a command line has them typed; none where it refuses them."""
    try:
        return typed(engine, settings)
    except kvcalc.KvcalcError:
        return None


def test_a_whole_number_written_as_a_float_is_one():
    config = {**LLAMA, "num_hidden_layers": 2.0, "hidden_size": 256.0, "head_dim": 64.0}
    assert kvcalc.load(config).groups == kvcalc.load({**LLAMA, "head_dim": 64}).groups
    with pytest.raises(kvcalc.KvcalcError, match=r"must be a whole number, not 64\.5"):
        kvcalc.load({**LLAMA, "head_dim": 64.5})
    with pytest.raises(kvcalc.KvcalcError, match="must be a whole number, not 1e"):
        kvcalc.load({**LLAMA, "head_dim": 1e300})


def test_minus_zero_makes_no_float_of_a_total():
    mla = {"model_type": "deepseek_v3", "num_hidden_layers": 2, "num_attention_heads": 4, "num_key_value_heads": 4}
    mla |= {"hidden_size": 256, "kv_lora_rank": 32, "qk_rope_head_dim": -0.0, "qk_nope_head_dim": 32, "v_head_dim": 32}
    for engine in ("ideal", "vllm"):
        assert type(kvcalc.size(kvcalc.load(mla), tokens=10, engine=engine).total_bytes) is int
    assert kvcalc.load(mla).groups == kvcalc.load(mla | {"qk_rope_head_dim": 0}).groups


def test_what_a_setting_limits_is_not_called_too_large(cli, tmp_path):
    entry = {"engine": "tensorrt_llm", "engine_settings": {"max_tokens": 1000}, "tokens": 4096, "concurrency": 2}
    plan = written(tmp_path, {"model": "mimo-7b", "gpu": "h100", "weights": "1GB", **entry}, "check")
    outcome = cli(f"check {plan}", columns=400)
    assert outcome.code == 1
    assert "OVER LIMIT" in outcome.stdout
    lines = [line.strip() for line in outcome.stdout.splitlines()]
    assert [line for line in lines if "short" in line] == []
    assert [line for line in lines if line.endswith(", but the settings of tensorrt_llm allow less")]
    assert "would fit: 2 sequences of 480 tokens" in lines


@pytest.mark.parametrize(
    ("limit", "arguments", "what"),
    [
        ("-v 400000", "--layers 1", "torch needs 1,000,000,000 bytes of address space to load"),
        ("-v 400000", "--layers 1 --tp 2", "torch needs 1,000,000,000 bytes of address space to load"),
        ("-n 30", "--layers 1 --tp 2", "2 ranks need up to 56 open files, but this process may open 30"),
    ],
)
def test_a_limit_of_the_shell_ends_verify_in_one_line(limit, arguments, what):
    pytest.importorskip("torch")
    command = shlex.join([sys.executable, "-m", "kvcalc", "verify", "-p", "llama-3-8b", "-t", "10"])
    done = subprocess.run(
        ["bash", "-c", f"ulimit {limit}; exec {command} {arguments}"], capture_output=True, text=True, check=False
    )
    assert done.returncode == 2
    assert done.stdout == ""
    assert what in done.stderr
    assert len(done.stderr.splitlines()) == 2


def test_heads_of_any_number_are_refused_at_once():
    """2,139,062,036 query heads over 5 KV heads took 18 seconds to find what would do."""
    facts = {"num_layers": 1, "attention": "gqa", "num_query_heads": 2_139_062_036, "num_kv_heads": 5, "head_dim": 64}
    with pytest.raises(kvcalc.InvalidValueError, match="is not a multiple of num_kv_heads") as refused:
        kvcalc.load(facts)
    assert refused.value.help == "each KV head serves equally many query heads: 4 or 2139062036 would work"
