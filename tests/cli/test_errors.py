"""One test for each thing a user can get wrong: the whole message, exit code 2, and nothing on stdout."""

from __future__ import annotations

import json
import os

import pytest

GOOD_PRESET = """\
name: mine
num_layers: 4
attention: gqa
num_query_heads: 8
num_kv_heads: 2
head_dim: 64
"""
GOOD_PLAN = """\
deployments:
  - name: chat
    model: r1
    tokens: 128K
    sequences: 2
    budget: 80GB
"""
LLAMA = {
    "model_type": "llama",
    "num_hidden_layers": 4,
    "num_attention_heads": 8,
    "num_key_value_heads": 2,
    "hidden_size": 512,
}

HUGE = "9" * 400

COMMAND_LINES = {
    "unknown preset": (
        "size --preset llama4-70b --tokens 1",
        "--preset: no model is called 'llama4-70b'\n"
        "help: did you mean 'llama3-70b' or 'llama2-70b' or 'llama-3-70b'? `kvcalc presets list` shows all of them",
    ),
    "unknown kind of attention": (
        "presets list --kind mlx",
        "--kind: no kind of attention is called 'mlx'\nhelp: did you mean 'mla'? `kvcalc presets list --help` lists them",
    ),
    "words of no preset": (
        "presets list qwen llama",
        "no preset matches 'qwen', 'llama'\nhelp: `kvcalc presets list` shows all of them; fewer words match more",
    ),
    "unknown dtype": (
        "size --preset r1 --tokens 1 --dtype bf61",
        "--dtype: no dtype is called 'bf61'\nhelp: did you mean 'bf16'?",
    ),
    "negative tokens": (
        "size --preset r1 --tokens -5",
        "--tokens: tokens must be a positive whole number, not '-5'\n"
        "help: write 100000, 100_000, 128k (= 128,000) or 128K (= 131,072)",
    ),
    "zero tokens": ("size --preset r1 --tokens 0", "--tokens: tokens must be at least 1, not 0"),
    "non-integer tokens": (
        "size --preset r1 --tokens 1.5",
        "--tokens: tokens must be a positive whole number, not '1.5'",
    ),
    "fraction of a binary suffix": (
        "size --preset r1 --tokens 1.5K",
        "--tokens: tokens: a fraction cannot take the binary suffix K, as in '1.5K'\n"
        "help: write 1.5k for 1500 tokens, or the whole number itself",
    ),
    "tokens of 400 digits": (
        f"size --preset r1 --tokens {HUGE}",
        "--tokens: tokens must be at most 1,000,000,000,000, not '999999999999999999999999999999999999... (402 characters)",
    ),
    "tokens that are no number": (
        "size --preset r1 --tokens many",
        "--tokens: tokens must be a positive whole number, not 'many'\n"
        "help: write 100000, 100_000, 128k (= 128,000) or 128K (= 131,072)",
    ),
    "zero batch": ("size --preset r1 --tokens 1 --batch 0", "--batch: batch must be at least 1, not 0"),
    "no model": (
        "size --tokens 1",
        "no model named\nhelp: name one: r1, Qwen/Qwen3-8B, qwen3:8b or path/to/config.json",
    ),
    "two models": (
        "size --tokens 1 --preset r1 --model x.yaml",
        "--preset and --model each name a model\nhelp: name one: r1, Qwen/Qwen3-8B, qwen3:8b or path/to/config.json",
    ),
    "a configuration that is none": (
        "size r1 1K --engine vllm --engine-set lmcache=5",
        "--engine-set: lmcache must be a mapping of names and values, not '5'\n"
        "help: for example lmcache: {max_local_cpu_size: 20}",
    ),
    "no tokens": (
        "verify --preset r1",
        "kvcalc verify: missing option '--tokens' / '-t'\nhelp: see `kvcalc verify --help`",
    ),
    "unknown option": (
        "size --prset r1",
        "kvcalc size: no such option: --prset (Possible options: --preset)\nhelp: see `kvcalc size --help`",
    ),
    "unknown command": (
        "siz",
        "no command is called 'siz'\nhelp: did you mean 'size'? `kvcalc --help` describes them",
    ),
    "unknown format": (
        "size --preset r1 --tokens 1 --format jsn",
        "--format: no format is called 'jsn'\nhelp: did you mean 'json'?",
    ),
    "format of another command": (
        "size --preset r1 --tokens 1 --format junit",
        "--format: the format junit renders findings of `kvcalc check` and `kvcalc diff` only\nhelp: use table, json, csv, markdown, latex, html, chart, svg, png, tikz",
    ),
    "unknown engine": (
        "size --preset r1 --tokens 1 --engine idel",
        "--engine: no engine is called 'idel'\nhelp: did you mean 'ideal'?",
    ),
    "unknown engine setting": (
        "size --preset r1 --tokens 1 --engine-set windw=full",
        "--engine-set: no setting of the engine ideal is called 'windw'\nhelp: did you mean 'window'?",
    ),
    "bad engine setting": (
        "size --preset r1 --tokens 1 --engine-set window=half",
        "--engine-set: window must be one of honoured, full, not 'half'\nhelp: write window=honoured",
    ),
    "engine setting without value": (
        "size --preset r1 --tokens 1 --engine-set window",
        "--engine-set: a setting is NAME=VALUE, not 'window'\nhelp: write window=full",
    ),
    "unknown attention": (
        "size --preset r1 --tokens 1 --attention mlaa",
        "--attention: no attention or method is called 'mlaa'\nhelp: did you mean 'mla' or 'mla-naive'?",
    ),
    "gqa without heads": (
        "size --preset r1 --tokens 1 --attention gqa",
        "--attention: attention gqa takes its number of KV heads, not ''\nhelp: write gqa:8 for 8 KV heads",
    ),
    "gqa whose heads do not divide": (
        "size --preset r1 --tokens 1 --attention gqa:7",
        "--attention: num_query_heads (128) is not a multiple of num_kv_heads (7)\n"
        "help: each KV head serves equally many query heads: 4 or 8 would work",
    ),
    "mla with one rank": (
        "size --preset r1 --tokens 1 --attention mla:512",
        "--attention: attention mla takes kv_lora_rank + qk_rope_head_dim, not '512'\nhelp: write mla:512+64",
    ),
    "mla with a rank of 0": (
        "size --preset r1 --tokens 1 --attention mla:0+64",
        "--attention: kv_lora_rank must be at least 1, not 0",
    ),
    "mha with an argument": (
        "size --preset r1 --tokens 1 --attention mha:8",
        "--attention: attention mha takes no argument, not '8'\nhelp: write mha without an argument",
    ),
    "two views": (
        "size --preset r1 --tokens 1 --by-layer --explain",
        "--by-layer and --explain cannot be combined\nhelp: pass only one of them",
    ),
    "variant that cannot be built": (
        "compare --preset falcon-7b --tokens 1 --variants mha,gqa:16",
        "--variants: num_query_heads (71) is not a multiple of num_kv_heads (16)\n"
        "help: each KV head serves equally many query heads: 1 or 71 would work",
    ),
    "models and a preset": (
        "compare r1 --preset r1 --tokens 1",
        "models are named both by arguments and by an option\n"
        "help: name several models as arguments, or one with --preset or --model",
    ),
    "unknown schema": (
        "schema plans",
        "KIND: no schema is called 'plans'\nhelp: did you mean 'plan' or 'replays' or 'explain'?",
    ),
    "missing file": (
        "size --tokens 1 --model nowhere.yaml",
        "nowhere.yaml: no such file\nhelp: check the path",
    ),
    "missing plan": ("check nowhere.yaml", "nowhere.yaml: no such file\nhelp: check the path"),
}

MODEL_FILES = {
    "heads not divisible": (
        GOOD_PRESET.replace("num_kv_heads: 2", "num_kv_heads: 3"),
        "{file}:5: num_kv_heads: num_query_heads (8) is not a multiple of num_kv_heads (3)\n"
        "help: each KV head serves equally many query heads: 2 or 4 would work",
    ),
    "missing field": (
        GOOD_PRESET.replace("head_dim: 64\n", ""),
        "{file}:1: head_dim is missing\nhelp: gqa needs it; `kvcalc schema preset` lists all fields",
    ),
    "missing num_layers": ("attention: gqa\n", "{file}:1: num_layers is missing\nhelp: add num_layers"),
    "missing attention": (
        "num_layers: 2\n",
        "{file}:1: attention is missing\nhelp: add for example attention: gqa; `kvcalc schema preset` lists all kinds",
    ),
    "wrong type": (
        GOOD_PRESET.replace("head_dim: 64", 'head_dim: "64"'),
        "{file}:6: head_dim: head_dim must be a whole number, not '64'\n"
        "help: write it without quotes, as in head_dim: 64",
    ),
    "zero layers": (
        GOOD_PRESET.replace("num_layers: 4", "num_layers: 0"),
        "{file}:2: num_layers: num_layers must be at least 1, not 0",
    ),
    "too many layers": (
        GOOD_PRESET.replace("num_layers: 4", "num_layers: 1000000000"),
        "{file}:2: num_layers: num_layers must be at most 10,000, not 1000000000",
    ),
    "a boolean for a number": (
        GOOD_PRESET.replace("num_layers: 4", "num_layers: yes"),
        "{file}:2: num_layers: num_layers must be a whole number, not True",
    ),
    "not a number": (
        GOOD_PRESET.replace("head_dim: 64", "head_dim: .nan"),
        "{file}:6: head_dim: head_dim must be a whole number, not nan",
    ),
    "a number of 400 digits": (
        GOOD_PRESET.replace("head_dim: 64", f"head_dim: {HUGE}"),
        "{file}:6: head_dim: head_dim must be at most 1,000,000,000,000, "
        "not 9999999999999999999999999999999999999... (400 characters)",
    ),
    "a number of 5,000 digits": (
        GOOD_PRESET.replace("head_dim: 64", f"head_dim: {'9' * 5000}"),
        "{file}:6: head_dim: '999999999999999999999999999999999999... (5,002 characters) "
        "is not a number that can be read\nhelp: check the digits",
    ),
    "unknown key": (
        GOOD_PRESET + "num_kv_head: 2\n",
        "{file}:7: num_kv_head: no field is called 'num_kv_head'\nhelp: did you mean 'num_kv_heads' or 'num_query_heads'?",
    ),
    "duplicate key": (
        GOOD_PRESET + "num_layers: 5\n",
        "{file}:7: num_layers: the key 'num_layers' is repeated; first on line 2\nhelp: remove one of them",
    ),
    "unknown attention kind": (
        GOOD_PRESET.replace("gqa", "gca"),
        "{file}:3: attention: no attention kind is called 'gca'\nhelp: did you mean 'gta' or 'gqa' or 'gla'?",
    ),
    "a window and a chunk": (
        GOOD_PRESET + "sliding_window: 8\nattention_chunk_size: 16\n",
        "{file}:8: attention_chunk_size: sliding_window (8) and attention_chunk_size (16) cannot both limit one layer\n"
        "help: keep the one that the model uses",
    ),
    "layer types too short": (
        GOOD_PRESET + "layer_types: [a, a]\nlayers:\n  a: {}\n",
        "{file}:7: layer_types: layer_types has 2 names, but num_layers is 4\nhelp: give one name per layer",
    ),
    "layer of an unknown kind": (
        GOOD_PRESET + "layer_pattern: [ful]\nlayers:\n  full: {}\n",
        "{file}:7: layer_pattern: no kind of layer is called 'ful'\nhelp: did you mean 'full'?",
    ),
    "kind that no layer is of": (
        GOOD_PRESET + "layer_pattern: [a]\nlayers:\n  a: {}\n  b: {}\n",
        "{file}:10: layers.b: no layer has the kind b\nhelp: remove it or add it to the pattern",
    ),
    "unknown key beside layers that stand alone": (
        "num_layer: 2\nnum_layers: 2\nlayers:\n  a: {attention: gqa, num_query_heads: 2, num_kv_heads: 1, head_dim: 8}\n",
        "{file}:1: num_layer: no field is called 'num_layer'\nhelp: did you mean 'num_layers' or 'num_mtp_layers' or 'mtp_layer'?",
    ),
    "a name that a terminal would obey": (
        GOOD_PRESET.replace("mine", '"a\\x1b[2Jb"'),
        "{file}:1: name: must be printable text, not 'a\\x1b[2Jb'\nhelp: write it on one line, without control characters",
    ),
    "no kind of layer": (
        GOOD_PRESET + "layers: {}\n",
        "{file}:7: layers: layers is empty\nhelp: remove it if all layers are equal",
    ),
    "kinds without a pattern": (
        GOOD_PRESET + "layers:\n  a: {}\n  b: {}\n",
        "{file}:1: layer_pattern is missing\nhelp: assign the kinds to layers, for example layer_pattern: [a, b]",
    ),
    "not a mapping": ("- 1\n- 2\n", "{file}:1: must be a mapping of names to values, not [1, 2]"),
    "yaml syntax error": (
        "name: [1, 2\nnum_layers: 3\n",
        "{file}:2: is not valid YAML: did not find expected ',' or ']' while parsing a flow sequence\n"
        "help: check indentation and quotes",
    ),
    "a tag that builds an object": (
        "name: !!python/object/apply:os.system ['true']\n",
        "{file}:1: name: the tag !!python/object/apply:os.system is not allowed\nhelp: use plain values; quote dates",
    ),
    "a yaml bomb": (
        "a: &a [x, x, x, x, x, x, x, x, x, x]\n"
        + "".join(
            f"{c}: &{c} [{', '.join(f'*{p}' for _ in range(10))}]\n" for p, c in zip("abcdef", "bcdefg", strict=True)
        ),
        "expands to more than 125,000 values\nhelp: write aliases out",
    ),
    "a list inside itself": ("a: &a [*a]\n", "is nested deeper than 64 levels\nhelp: flatten it"),
    "an empty file": ("", "{file}: is empty\nhelp: `kvcalc presets show r1` prints an example"),
    "a file of comments": (
        "# nothing\n",
        "{file}: contains no values\nhelp: `kvcalc presets show r1` prints an example",
    ),
    "two documents": (
        "a: 1\n---\nb: 2\n",
        "{file}:2: is not valid YAML: but found another document expected a single document in the stream\n"
        "help: check indentation and quotes",
    ),
}

CONFIGS = {
    "text for a number": (
        {**LLAMA, "num_hidden_layers": "61"},
        "{file}:3: num_hidden_layers: num_hidden_layers must be a whole number, not '61'\n"
        "help: write it without quotes, as in num_hidden_layers: 64",
    ),
    "NaN": (
        {**LLAMA, "num_hidden_layers": float("nan")},
        "{file}:3: num_hidden_layers: num_hidden_layers must be a whole number, not nan",
    ),
    "1e400": (
        json.dumps(LLAMA, indent=1).replace('layers": 4', 'layers": 1e400'),
        "{file}:3: num_hidden_layers: num_hidden_layers must be a whole number, not inf",
    ),
    "a number of 400 digits": (
        {**LLAMA, "num_hidden_layers": int(HUGE)},
        "{file}:3: num_hidden_layers: num_hidden_layers must be at most 10,000, "
        "not 9999999999999999999999999999999999999... (400 characters)",
    ),
    "a number of 5,000 digits": (
        json.dumps(LLAMA).replace("512", "9" * 5000),
        "{file}: contains a number that cannot be read: Exceeds the limit (4300 digits) for integer string conversion: "
        "value has 5000 digits; use sys.set_int_max_str_digits() to increase the limit\nhelp: check its digits",
    ),
    "missing field": (
        {k: v for k, v in LLAMA.items() if k != "num_attention_heads"} | {"model_type": "internlm2"},
        "{file}:1: num_attention_heads is missing\nhelp: add num_attention_heads",
    ),
    "null field": (
        {**LLAMA, "num_attention_heads": None},
        "{file}:1: num_attention_heads is null\nhelp: add num_attention_heads",
    ),
    "heads not divisible": (
        {**LLAMA, "num_key_value_heads": 3},
        "{file}:5: num_key_value_heads: num_query_heads (8) is not a multiple of num_kv_heads (3)\n"
        "help: each KV head serves equally many query heads: 2 or 4 would work",
    ),
    "hidden size not divisible": (
        {**LLAMA, "hidden_size": 513},
        "{file}:6: hidden_size: hidden_size (513) is not a multiple of num_attention_heads (8), and there is no head_dim\n"
        "help: add head_dim if the model sets it explicitly",
    ),
    "unknown family": (
        {**LLAMA, "model_type": "lama"},
        "{file}:2: model_type: unknown model_type 'lama'; its cache is decided by "
        "num_hidden_layers 4, num_attention_heads 8, num_key_value_heads 2, hidden_size 512\n"
        "help: nearest known: llama, mllama, llama4; state its attention with --assume gqa or mha or mla, or write its facts as a preset (`kvcalc schema preset`) and pass that with --model",
    ),
    "no family": (
        {"architectures": ["Who"], "num_hidden_layers": 4},
        "{file}:1: model_type is missing; its cache is decided by num_hidden_layers 4\n"
        "help: state its attention with --assume gqa or mha or mla, or write its facts as a preset (`kvcalc schema preset`) and pass that with --model",
    ),
    "layer types too short": (
        {**LLAMA, "model_type": "gpt_oss", "layer_types": ["full_attention"]},
        "{file}:7: layer_types: layer_types has 1 entries, but num_hidden_layers is 4\nhelp: give one entry per layer",
    ),
    "unknown layer type": (
        {**LLAMA, "model_type": "gpt_oss", "layer_types": ["mamba"] * 4},
        "{file}:7: layer_types: layer_types names linear layers, "
        "but gpt_oss supports full, sliding, chunked, reference\n"
        "help: write the model's facts as a preset and pass that with --model",
    ),
    "a latent without its rotary key": (
        {**LLAMA, "model_type": "kimi_k2", "kv_lora_rank": 512},
        "{file}:1: qk_rope_head_dim is missing\nhelp: add qk_rope_head_dim",
    ),
    "duplicate key": (
        '{"model_type": "llama",\n "head_dim": 64,\n "head_dim": 128}',
        "{file}:3: head_dim: the key 'head_dim' is repeated in one object\nhelp: remove one of them",
    ),
    "json syntax error": (
        '{"model_type": "llama",\n "head_dim": }',
        "{file}:2: is not valid JSON: Expecting value (column 14)\nhelp: check the line",
    ),
    "json nested a million deep": ("[" * 10**6, "{file}: is nested too deeply to read\nhelp: flatten it"),
    "an empty file": ("", "{file}: is empty\nhelp: `kvcalc presets show r1` prints an example"),
}

PLANS = {
    "unknown field": (
        GOOD_PLAN.replace("sequences", "sequence"),
        "{file}:5: deployments[0].sequence: no field of a plan is called 'sequence'\nhelp: did you mean 'sequences'?",
    ),
    "missing field": (
        GOOD_PLAN.replace("    model: r1\n", ""),
        "{file}:2: deployments[0]: model is missing\nhelp: add model; `kvcalc schema plan` lists all",
    ),
    "wrong type": (
        GOOD_PLAN.replace("sequences: 2", "sequences: two"),
        "{file}:5: deployments[0].sequences: sequences must be a valid integer, not 'two'\n"
        "help: `kvcalc schema plan` describes the file",
    ),
    "zero sequences": (
        GOOD_PLAN.replace("sequences: 2", "sequences: 0"),
        "{file}:5: deployments[0].sequences: sequences must be at least 1, not 0",
    ),
    "negative tokens": (
        GOOD_PLAN.replace("128K", "-1"),
        "{file}:4: deployments[0].tokens: tokens must be at least 1, not -1",
    ),
    "unknown model": (
        GOOD_PLAN.replace("r1", "r2"),
        "{file}:3: deployments[0].model: no model is called 'r2'\nhelp: `kvcalc presets list` shows all of them",
    ),
    "unknown gpu": (
        GOOD_PLAN.replace("budget: 80GB", "gpu: h300\n    weights: 1GB"),
        "{file}:6: deployments[0].gpu: no GPU is called 'h300'\n"
        "help: did you mean 'h800' or 'h200' or 'h100'? `kvcalc gpus` lists them; for unlisted devices pass the memory, such as 64GB",
    ),
    "gpu without weights": (
        GOOD_PLAN.replace("budget: 80GB", "gpu: h200").replace("r1", "yoco-3b"),
        "{file}:6: deployments[0].gpu: weights size unknown\n"
        "help: add weights: 671GB, 625GiB or `70B x 4.5bit`, or the path of a model.safetensors.index.json, "
        "safetensors files or a GGUF file",
    ),
    "a GPU of several sizes": (
        GOOD_PLAN.replace("budget: 80GB", "gpu: v100\n    weights: 1GB"),
        "{file}:6: deployments[0].gpu: 'v100' is ambiguous\nhelp: write v100-16gb (16.94 GB) or v100-32gb (34.07 GB)",
    ),
    "memory without weights": (
        GOOD_PLAN.replace("budget: 80GB", "memory: 64GB").replace("r1", "yoco-3b"),
        "{file}:6: deployments[0].memory: weights size unknown\n"
        "help: add weights: 671GB, 625GiB or `70B x 4.5bit`, or the path of a model.safetensors.index.json, "
        "safetensors files or a GGUF file",
    ),
    "memory without a unit": (
        GOOD_PLAN.replace("budget: 80GB", "memory: 64\n    weights: 1GB"),
        "{file}:6: deployments[0].memory: memory would be 64 bytes\nhelp: add a unit: 64GB (10^9 bytes each), 64GiB (2^30), MB, MiB, kB, KiB, TB, TiB",
    ),
    "memory and budget": (
        GOOD_PLAN + "    memory: 64GB\n",
        "{file}:7: deployments[0].memory: memory and budget cannot both be given\n"
        "help: a budget is the memory left for the cache",
    ),
    "gpu and budget": (
        GOOD_PLAN + "    gpu: h200\n",
        "{file}:7: deployments[0].gpu: gpu and budget cannot both be given\n"
        "help: a budget is the memory left for the cache",
    ),
    "no limit": (
        GOOD_PLAN.replace("    budget: 80GB\n", ""),
        "{file}:2: deployments[0]: neither budget nor gpu is given\n"
        "help: add budget: 80GB, or gpu: h100-80gb with weights: 16GB",
    ),
    "ambiguous unit": (
        GOOD_PLAN.replace("80GB", "80G"),
        "{file}:6: deployments[0].budget: budget must be a number of bytes with its unit, not '80G'\nhelp: write GB or GiB",
    ),
    "utilization above 1": (
        GOOD_PLAN.replace("budget: 80GB", "gpu: h200\n    weights: 1GB\n    gpu_memory_utilization: 92"),
        "{file}:8: deployments[0].gpu_memory_utilization: "
        "gpu_memory_utilization must be above 0 and at most 1, not 92.0",
    ),
    "utilization that is no number": (
        GOOD_PLAN.replace("budget: 80GB", "gpu: h200\n    weights: 1GB\n    gpu_memory_utilization: .inf"),
        "{file}:8: deployments[0].gpu_memory_utilization: gpu_memory_utilization must be a number, not inf",
    ),
    "name taken": (
        GOOD_PLAN + GOOD_PLAN.split("\n", 1)[1],
        "{file}:7: deployments[1].name: the name 'chat' is already used by the deployment on line 2\n"
        "help: give each deployment its own name",
    ),
    "no deployments": (
        "deployments: []\n",
        "{file}:1: deployments: deployments must be a list of deployments, not []\n"
        "help: `kvcalc schema plan` describes the file",
    ),
    "not a plan": (
        "- 1\n",
        "{file}:1: {file} must be a mapping of names to values, not [1]\nhelp: `kvcalc schema plan` describes the file",
    ),
}


UNKNOWN_FLAG = """\
deployments:
  - name: a
    args: vllm serve r1 --max-model-len 1K --some-new-thing 7
    gpu: h200
"""


@pytest.mark.parametrize("format", ["table", "json", "csv", "markdown", "github", "junit"])
def test_what_was_ignored_or_assumed_is_in_every_format(cli, tmp_path, format):
    file = tmp_path / "plan.yaml"
    file.write_text(UNKNOWN_FLAG)
    outcome = cli(f"check {file} --format {format}", columns=200)
    assert outcome.code == 1
    for words in ("not a known flag of vLLM", "--some-new-thing", "weights of"):
        assert words in outcome.stdout


def assert_error(outcome, expected: str) -> None:
    assert outcome.code == 2
    assert outcome.stdout == ""
    assert "Traceback" not in outcome.stderr
    assert expected in outcome.stderr
    assert outcome.stderr.splitlines()[-1].startswith("help: ")
    assert "help: " not in expected or outcome.stderr.endswith(expected.rsplit("\n", 1)[-1] + "\n")


@pytest.mark.parametrize("case", COMMAND_LINES)
def test_a_wrong_command_line_is_explained(cli, case):
    line, expected = COMMAND_LINES[case]
    assert_error(cli(line), expected)


@pytest.mark.parametrize("case", MODEL_FILES)
def test_a_wrong_model_file_is_explained(cli, tmp_path, case):
    text, expected = MODEL_FILES[case]
    file = tmp_path / "model.yaml"
    file.write_text(text)
    assert_error(cli(f"size --tokens 10 --model {file}"), expected.replace("{file}", str(file)))


@pytest.mark.parametrize("case", CONFIGS)
def test_a_wrong_config_json_is_explained(cli, tmp_path, case):
    config, expected = CONFIGS[case]
    file = tmp_path / "config.json"
    file.write_text(config if isinstance(config, str) else json.dumps(config, indent=1))
    assert_error(cli(f"size --tokens 10 --model {file}"), expected.replace("{file}", str(file)))


@pytest.mark.parametrize("case", PLANS)
def test_a_wrong_plan_is_explained(cli, tmp_path, case):
    text, expected = PLANS[case]
    file = tmp_path / "plan.yaml"
    file.write_text(text)
    assert_error(cli(f"check {file}"), expected.replace("{file}", str(file)))


def test_the_good_files_of_these_tests_are_good(cli, tmp_path):
    for name, text, line in (
        ("model.yaml", GOOD_PRESET, "size --tokens 10 --model {}"),
        ("config.json", json.dumps(LLAMA), "size --tokens 10 --model {}"),
        ("plan.yaml", GOOD_PLAN, "check {}"),
    ):
        (tmp_path / name).write_text(text)
        assert cli(line.format(tmp_path / name)).code == 0


def test_a_file_of_a_gigabyte_is_refused_unread(cli, tmp_path):
    file = tmp_path / "model.yaml"
    with file.open("wb") as sparse:
        sparse.truncate(10**9)
    assert_error(
        cli(f"size --tokens 1 --model {file}"),
        f"{file}: is larger than 2,097,152 bytes (1,000,000,000), too large for a configuration file\n"
        "help: pass a preset or plan (YAML) or a config.json",
    )


def test_a_directory_without_config_json_is_explained(cli, tmp_path):
    assert_error(
        cli(f"size --tokens 1 --model {tmp_path}"),
        f"{tmp_path}: has no config.json, params.json, adapter_config.json and no GGUF file\n"
        "help: name the folder or the repository of a language model",
    )


def test_a_file_that_is_not_text_is_explained(cli, tmp_path):
    file = tmp_path / "model.yaml"
    file.write_bytes(b"name: \xff\xfe")
    assert_error(
        cli(f"size --tokens 1 --model {file}"),
        f"{file}: is not UTF-8 text: byte 6 is 0xff\nhelp: pass a preset or plan (YAML) or a config.json",
    )


@pytest.mark.parametrize("text", ["[" * 100_000, "{a: " * 100_000, "- " * 100_000])
def test_yaml_nested_a_hundred_thousand_deep_ends_in_a_message(cli, tmp_path, text):
    file = tmp_path / "model.yaml"
    file.write_text(text)
    outcome = cli(f"size --tokens 1 --model {file}")
    assert outcome.code == 2
    assert str(file) in outcome.stderr
    assert outcome.stdout == ""


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read every file")
def test_a_file_that_may_not_be_read_is_explained(cli, tmp_path):
    file = tmp_path / "model.yaml"
    file.write_text(GOOD_PRESET)
    file.chmod(0)
    assert_error(cli(f"size --tokens 1 --model {file}"), f"{file}: cannot be read: Permission denied")


@pytest.mark.parametrize(
    ("line", "message"),
    [
        (
            "compare r1 llama3-8b -t 1k --variants mha",
            "--variants: variants compares one model, but several are named",
        ),
        (
            "compare r1 llama3-8b -t 1k --methods all",
            "--methods: methods compares one model, but several are named",
        ),
        ("size -p r1 -t 1 -b 1,8", "--batch: batch must be a positive whole number, not '1,8'"),
        ("size -p r1 -t 1,024,8192", "--tokens: tokens could be one number or several: '1,024,8192'"),
        (
            "fit -p r1 --gpu h200 --weights 8B",
            "--weights: weights would be 8 bytes; 8 billion parameters in bf16 are 16GB",
        ),
    ],
)
def test_what_was_read_as_something_else_is_refused(cli, line, message):
    outcome = cli(line)
    assert (outcome.code, outcome.stdout) == (2, "")
    assert outcome.stderr.splitlines()[0] == message


def test_one_model_by_its_name_alone_is_compared_as_by_its_option(cli):
    for options in ("", "--variants mha,mla", "--methods snapkv"):
        by_name, by_option = cli(f"compare r1 -t 100k {options}"), cli(f"compare -p r1 -t 100k {options}")
        assert by_name == by_option
