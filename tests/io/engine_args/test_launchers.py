"""How an engine is started: through other commands, in a container, by any of its launchers."""

from __future__ import annotations

import pytest

from kvcalc.errors import InvalidValueError
from kvcalc.io.engine_args import read_command, read_commands
from kvcalc.io.engine_args._program import version_of

SERVE = "vllm serve Qwen/Qwen3-8B --max-model-len 8192"
STARTED = [
    SERVE,
    f"/usr/local/bin/{SERVE}",
    f"env A=1 -u B {SERVE}",
    f"exec {SERVE}",
    f"nohup {SERVE} > log 2>&1 &",
    f"time -p {SERVE}",
    f"A=1 B='c d' nice -n 5 ionice -c 2 -n 0 {SERVE}",
    f"numactl --cpunodebind=0 -m 0 {SERVE}",
    f"taskset -c 0-31 {SERVE}",
    f"timeout -s KILL 3600 {SERVE}",
    f"stdbuf -oL {SERVE}",
    f"sudo -E -u me {SERVE}",
    f"uv run {SERVE}",
    f"uv run --with vllm --python 3.12 -- {SERVE}",
    f"uvx --from vllm==0.33 {SERVE}",
    f"poetry run {SERVE}",
    f"conda run -n serving --no-capture-output {SERVE}",
    f"srun -N 1 --gres=gpu:h100:8 --container-image x.sqsh {SERVE}",
    f"apptainer exec --nv --bind /a:/b vllm.sif {SERVE}",
    f"docker exec -it -e A=b box {SERVE}",
    f"tini -- {SERVE}",
    f"bash -c '{SERVE}'",
    f'bash -lc "cd /srv && exec {SERVE}"',
    f"sh -ec 'export A=1; {SERVE} | tee log'",
    f"nohup bash -c 'sleep 5; {SERVE}' &",
    f"cd /srv && source .venv/bin/activate && {SERVE}",
    f"export HF_HOME=/x; {SERVE}",
    "python -m vllm.entrypoints.openai.api_server --model Qwen/Qwen3-8B --max-model-len 8192",
    "python3.12 -u -m vllm.entrypoints.openai.api_server --model=Qwen/Qwen3-8B --max-model-len=8192",
    "python -m vllm.entrypoints.cli.main serve Qwen/Qwen3-8B --max-model-len 8192",
    "python3 -m dynamo.vllm --model Qwen/Qwen3-8B --max-model-len 8192 --migration-limit 3 --connector nixl",
    "docker run --gpus all -p 8000:8000 --ipc=host vllm/vllm-openai:latest --model Qwen/Qwen3-8B --max-model-len 8192",
    "docker run --rm -it vllm/vllm-openai Qwen/Qwen3-8B --max-model-len 8192",
    "podman run --device nvidia.com/gpu=all -v /a:/b:Z docker.io/vllm/vllm-openai:v0.33.0 --model Qwen/Qwen3-8B "
    "--max-model-len 8192",
    f"docker run --gpus all --entrypoint bash vllm/vllm-openai:latest -c '{SERVE}'",
    f"docker run --gpus all --entrypoint vllm vllm/vllm-openai {SERVE.removeprefix('vllm ')}",
    f"docker run --gpus all nvcr.io/nvidia/vllm:25.09-py3 {SERVE}",
    f"docker run rocm/vllm bash -c '{SERVE}'",
    f"docker run rocm/vllm bash -i -lc -- '{SERVE}'",
    SERVE.replace(" ", "\u00a0"),
    f"- {SERVE}",
    f"command: {SERVE}",
    "python -m vllm.entrypoints.grpc_server --model Qwen/Qwen3-8B --max-model-len 8192",
]


@pytest.mark.parametrize("line", STARTED)
def test_the_same_engine_however_it_is_started(line):
    command = read_command(line)
    assert (command.engine, command.model, command.args) == ("vllm", "Qwen/Qwen3-8B", {"max-model-len": 8192})
    assert command.refused == ()


PROGRAMS = {
    "python -m sglang.launch_server --model-path m": ("sglang", "m"),
    "python3 -m sglang.launch_server --model m": ("sglang", "m"),
    "sglang serve --model-path m": ("sglang", "m"),
    "python3 -m dynamo.sglang --model-path m": ("sglang", "m"),
    "docker run lmsysorg/sglang:v0.5.9 python3 -m sglang.launch_server --model-path m": ("sglang", "m"),
    "trtllm-serve m": ("tensorrt_llm", "m"),
    "trtllm-serve serve m": ("tensorrt_llm", "m"),
    "mpirun -n 8 --allow-run-as-root trtllm-llmapi-launch trtllm-serve m": ("tensorrt_llm", "m"),
    "lmdeploy serve api_server m": ("lmdeploy", "m"),
    "mlx_lm.server --model m": ("mlx_lm", "m"),
    "mlx_lm.generate --model m --prompt hello": ("mlx_lm", "m"),
    "python -m mlx_lm.server --model m": ("mlx_lm", "m"),
    "llama-server -m m": ("llama_cpp", "m"),
    "./build/bin/llama-server -hf m": ("llama_cpp", "m"),
    "llama-cli -m m -p hello": ("llama_cpp", "m"),
    ".\\llama-server.exe -m m": ("llama_cpp", "m"),
    "C:\\llama\\bin\\llama-server.exe -m m": ("llama_cpp", "m"),
    "docker run ghcr.io/ggml-org/llama.cpp:server-cuda -m m": ("llama_cpp", "m"),
    "python -m llama_cpp.server --model m": ("llama_cpp", "m"),
    "ollama run m 'Why is the sky blue?'": ("ollama", "m"),
    "ollama serve": ("ollama", None),
    "docker run -e OLLAMA_NUM_PARALLEL=2 ollama/ollama": ("ollama", None),
    "text-generation-launcher --model-id m": (None, "m"),
    "docker run ghcr.io/huggingface/text-generation-inference:3.0 --model-id m": (None, "m"),
}


@pytest.mark.parametrize(("line", "engine_and_model"), PROGRAMS.items())
def test_every_launcher(line, engine_and_model):
    command = read_command(line)
    assert (command.engine, command.model) == engine_and_model


def test_llama_clis_defaults_are_its_own():
    defaults = {line: read_command(f"{line} -m m").settings["defaults"] for line in ("llama-server", "llama-cli")}
    assert defaults == {"llama-server": "server", "llama-cli": "cli"}
    python = read_command("python -m llama_cpp.server --model m --type_k 8 --flash_attn true")
    assert python.settings == {"defaults": "library", "type_k": "q8_0", "flash_attn": "on"}
    assert python.tokens == 2048


def test_a_container_says_its_name_its_gpus_and_the_version():
    command = read_command(
        """docker run -d --name lantern --gpus '"device=2,3"' --ipc=host --shm-size 16g -p 8000:8000 -e VLLM_USE_V1=1 \\
        -e HF_TOKEN="$HF_TOKEN" -v "$HOME/.cache:/root/.cache" vllm/vllm-openai:v0.11.0 --model m -tp 2"""
    )
    assert (command.container, command.gpus, command.version) == ("lantern", 2, "0.11.0")
    assert (command.image, command.model, command.parallel) == ("vllm/vllm-openai:v0.11.0", "m", {"tp": 2})
    assert (command.refused, command.told) == ((), ())


@pytest.mark.parametrize(
    ("option", "gpus"),
    [
        ("--gpus all", None),
        ("--gpus 4", 4),
        ("--gpus=2", 2),
        ("--gpus device=0", 1),
        ("""--gpus '"device=0,1,2"'""", 3),
        ("--device nvidia.com/gpu=0 --device nvidia.com/gpu=1", 2),
        ("--device nvidia.com/gpu=all", None),
        ("-e CUDA_VISIBLE_DEVICES=0,1", 2),
        ("--ipc=host", None),
    ],
)
def test_gpus_of_a_container(option, gpus):
    assert read_command(f"docker run {option} vllm/vllm-openai:latest --model m").gpus == gpus


@pytest.mark.parametrize(
    ("image", "version"),
    [
        ("vllm/vllm-openai:v0.11.0", "0.11.0"),
        ("docker.io/vllm/vllm-openai:v0.10.1.1", "0.10.1"),
        ("vllm/vllm-openai:v0.33.0-x86_64", "0.33.0"),
        ("vllm/vllm-openai:v0.9.0@sha256:0123", "0.9.0"),
        ("registry:5000/vllm/vllm-openai:v0.12.0", "0.12.0"),
        ("vllm/vllm-openai:latest", None),
        ("lmcache/vllm-openai:v0.3.9", None),
        ("vllm/vllm-openai:nightly-0123abc", None),
        ("vllm/vllm-openai", None),
        ("registry:5000/vllm/vllm-openai", None),
        ("lmsysorg/sglang:v0.5.9-cu129", "0.5.9"),
        ("ollama/ollama:0.12.3", "0.12.3"),
        ("ghcr.io/ggml-org/llama.cpp:server-cuda-b7079", "b7079"),
        ("nvcr.io/nvidia/tensorrt-llm/release:1.1.0", "1.1.0"),
    ],
)
def test_versions_of_images(image, version):
    assert version_of(image) == version


def test_the_tag_of_another_image_is_no_version_of_vllm():
    assert read_command(f"docker run nvcr.io/nvidia/vllm:25.09-py3 {SERVE}").version is None


def test_an_image_alone_says_whose_arguments_they_are():
    command = read_command(["--model", "m", "-tp", "2"], image="vllm/vllm-openai:v0.11.0")
    assert (command.engine, command.model, command.parallel, command.version) == ("vllm", "m", {"tp": 2}, "0.11.0")
    with pytest.raises(InvalidValueError, match="it does not begin with a known command"):
        read_command(["--model", "m"], image="ghcr.io/me/own:1")


@pytest.mark.parametrize(
    "line", ["docker run -it --entrypoint /bin/bash vllm/vllm-openai:v0.10.0", "docker run -it vllm/vllm-openai bash"]
)
def test_a_shell_in_the_image_of_an_engine_starts_none(line):
    assert read_commands(line) == ()


@pytest.mark.parametrize(
    ("words", "places"),
    [
        ("lmdeploy serve api_server <model_path> --server-port 23333", [3]),
        ("vllm serve <model name> --max-model-len 8192", [2]),
        ("vllm serve ... --max-model-len <length>", [2, 3]),
        (["vllm", "serve", "<your-model>", "--max-model-len", "<n>"], [2, 3]),
    ],
)
def test_a_place_that_is_left_open_is_no_model_and_no_redirection(words, places):
    command = read_command(words)
    assert command.model is None
    assert [(refusal.at, refusal.why) for refusal in command.refused] == [
        (at, "an unfilled placeholder") for at in places
    ]


def test_a_list_of_words_is_taken_as_it_is():
    words = ["vllm", "serve", "my model", "--served-model-name", "a;b", "--hf-overrides", '{"rope_scaling": null}']
    command = read_command(words)
    assert (command.model, command.refused, command.model_at) == ("my model", (), 2)
    assert read_command(["sh", "-c", "vllm serve $M --port 1"], {"M": "x"}).model == "x"
    assert read_command(["vllm", "serve", "$(MODEL_ID)"]).model is None


def test_places_are_those_of_the_list():
    words = ["env", "A=1", "python3", "-u", "-m", "vllm.entrypoints.openai.api_server", "--model", "m", "--omni", "x"]
    command = read_command(words)
    assert [(one.about, one.at) for one in command.refused] == [("word 10", 9), ("--omni", 8)]
    assert command.model_at == 6


def test_several_engines_of_one_text():
    text = "vllm serve a --port 1 &\nvllm serve b --port 2 &\nwait\n"
    assert [(one.model, one.line) for one in read_commands(text)] == [("a", 1), ("b", 2)]


def test_a_file_of_arguments_stands_before_the_line(tmp_path):
    (tmp_path / "x.yaml").write_text(
        "model: m\nmax-model-len: 32000\ntensor_parallel_size: 4\nenable-prefix-caching: true\nport: 1\n"
        "served-model-name: [a, b]\nhf-overrides: {rope_scaling: {factor: 4}}\n"
    )
    command = read_command("vllm serve --config x.yaml -tp 2 --stray 1 --block-size x", folder=tmp_path)
    assert (command.model, command.parallel, command.refused[0].at) == ("m", {"tp": 2}, 8)
    assert (command.args["max-model-len"], command.args["enable-prefix-caching"]) == (32_000, True)
    assert [one.about for one in command.refused] == ["--block-size"]
    for line in (
        "vllm serve m --config y.yaml",
        f"vllm serve m --config {tmp_path}/x.yaml",
        "vllm serve m --config=x.txt",
    ):
        assert [one.about for one in read_command(line, folder=tmp_path).refused] == ["--config"]


def test_the_file_of_tensorrt_llm_wins_over_the_line(tmp_path):
    (tmp_path / "x.yaml").write_text(
        "kv_cache_config:\n  dtype: fp8\n  free_gpu_memory_fraction: 0.8\n  tokens_per_block: 64\n"
        "  enable_block_reuse: false\ntensor_parallel_size: 4\nprint_iter_log: true\n"
    )
    command = read_command("trtllm-serve m --tp_size 2 --extra_llm_api_options x.yaml", folder=tmp_path)
    assert command.parallel == {"tp": 4}
    assert command.settings == {"dtype": "fp8", "free_gpu_memory_fraction": 0.8, "tokens_per_block": 64}
    assert command.refused == ()
    (tmp_path / "x.yaml").write_text("kv_cache_config: {pool_ratio: [1, 2]}\n")
    command = read_command("trtllm-serve m --config x.yaml", folder=tmp_path)
    assert [one.why for one in command.refused] == ["the effect of pool_ratio on the cache is unknown"]
