"""Laws of command lines: beginnings, equals signs and order change nothing of what is read."""

from __future__ import annotations

import shlex

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kvcalc.errors import KvcalcError
from kvcalc.io.engine_args import Command, program_of, read_command
from kvcalc.io.engine_args._removed import removed_in

PREFIXED = ["vllm", "sglang", "lmdeploy", "mlx_lm"]
VALUES = {
    "vllm": {
        **{"tensor-parallel-size": "2", "pipeline-parallel-size": "2", "max-model-len": "32k", "block-size": "64"},
        **{"kv-cache-dtype": "fp8", "gpu-memory-utilization": "0.8", "max-num-seqs": "64", "dtype": "bfloat16"},
        **{"quantization": "awq", "port": "8000", "served-model-name": "x", "cpu-offload-gb": "4", "seed": "1"},
        **{"speculative-config": '{"method": "mtp"}', "hf-overrides": '{"rope_theta": 1}', "swap-space": "4"},
        **{"kv-cache-memory-bytes": "5", "num-gpu-blocks-override": "9", "unheard-of": "1"},
    },
    "sglang": {
        **{"tp-size": "4", "dp-size": "2", "mem-fraction-static": "0.8", "page-size": "16", "context-length": "8K"},
        **{"kv-cache-dtype": "fp8_e4m3", "max-running-requests": "48", "ep-size": "2", "host": "x"},
        **{"disaggregation-mode": "decode", "chunked-prefill-size": "4096"},
    },
    "llama_cpp": {
        **{"ctx-size": "8192", "parallel": "2", "cache-type-k": "q8_0", "cache-type-v": "q4_0", "batch-size": "512"},
        **{"n-gpu-layers": "20", "flash-attn": "on", "port": "1"},
    },
    "lmdeploy": {"tp": "2", "session-len": "8192", "cache-max-entry-count": "0.5", "quant-policy": "8"},
    "mlx_lm": {"kv-bits": "8", "max-kv-size": "512", "port": "1"},
    "tensorrt_llm": {"tp-size": "2", "max-seq-len": "4096", "kv-cache-free-gpu-memory-fraction": "0.8"},
}
BEGINNING = {
    **{"vllm": "vllm serve m", "sglang": "sglang serve --model-path m", "llama_cpp": "llama-server -m m"},
    **{
        "lmdeploy": "lmdeploy serve api_server m",
        "mlx_lm": "mlx_lm.server --model m",
        "tensorrt_llm": "trtllm-serve m",
    },
}


def what_is_read(command: Command) -> tuple[object, ...]:
    """All of it but places and the spelling of what is ignored."""
    refused = sorted((one.why, one.help) for one in command.refused)
    told = sorted(one.why for one in command.told)
    return (
        command.model,
        dict(command.args),
        dict(command.settings),
        dict(command.parallel),
        command.tokens,
        told,
        refused,
    )


def line_of(program: str, flags: list[str]) -> Command:
    return read_command([*shlex.split(BEGINNING[program]), *flags])


@pytest.mark.parametrize("program", PREFIXED)
def test_every_beginning_that_no_other_flag_has_is_the_flag(program):
    known = program_of(program).spelled
    gone = removed_in(program_of(program), None)
    names = [name for name, each in known.items() if not (each.flag.apart or each.flag.name in gone)]
    values = VALUES[program]
    tried = 0
    for name, value in values.items():
        if name not in known or known[name].flag.name in gone:
            continue
        whole = what_is_read(line_of(program, [f"--{name}", value]))
        for end in range(2, len(name)):
            others = {(known[other].flag.name, known[other].off) for other in names if other.startswith(name[:end])}
            if name[:end] not in known and others == {(known[name].flag.name, False)}:
                tried += 1
                assert what_is_read(line_of(program, [f"--{name[:end]}", value])) == whole
    assert tried > 2


@pytest.mark.parametrize("program", VALUES)
def test_an_equals_sign_is_a_blank(program):
    for name, value in VALUES[program].items():
        apart, joined = line_of(program, [f"--{name}", value]), line_of(program, [f"--{name}={value}"])
        assert what_is_read(apart) == what_is_read(joined)


@given(st.sampled_from(sorted(VALUES)), st.data())
def test_the_order_of_different_flags_changes_nothing(program, data):
    names = data.draw(st.lists(st.sampled_from(sorted(VALUES[program])), unique=True, max_size=6))
    flags = [[f"--{name}", VALUES[program][name]] for name in names]
    others = data.draw(st.permutations(flags))
    one, other = (line_of(program, [word for flag in each for word in flag]) for each in (flags, others))
    assert what_is_read(one) == what_is_read(other)


@given(st.sampled_from(sorted(VALUES)), st.data())
def test_the_last_of_a_flag_counts_whatever_came_before(program, data):
    name = data.draw(st.sampled_from(sorted(set(VALUES[program]) - {"unheard-of", "flash-attn"})))
    before = data.draw(st.sampled_from(["1", "x", "0.5", "{}"]))
    value = VALUES[program][name]
    twice = line_of(program, [f"--{name}", before, f"--{name}", value])
    assert what_is_read(twice) == what_is_read(line_of(program, [f"--{name}", value]))


@pytest.mark.parametrize("program", ["vllm", "sglang"])
def test_underscores_are_dashes(program):
    for name, value in VALUES[program].items():
        dashes, underscores = (line_of(program, [f"--{each}", value]) for each in (name, name.replace("-", "_")))
        assert what_is_read(dashes) == what_is_read(underscores)


@given(st.lists(st.text(max_size=12), max_size=6), st.sampled_from(sorted(BEGINNING)))
def test_any_words_are_read(words, program):
    command = line_of(program, words)
    assert all(one.about and one.why and one.help for one in command.refused)


@given(st.dictionaries(st.text("ABCDEFGLMNOPRSTUVX_", min_size=1, max_size=12), st.text(max_size=12), max_size=4))
def test_any_variables_are_read(variables):
    for line in ("vllm serve m", "ollama serve", "llama-server -m m", "text-generation-launcher"):
        try:
            read_command(line, {f"VLLM_{name}": value for name, value in variables.items()} | variables)
        except KvcalcError as error:
            raise AssertionError(line) from error
