"""Running servers: what their pages state is read, judged and shown, and nothing that a server does hurts.

The metrics are those of a real vLLM 0.32.0 on a CPU, before, during and after one request of 900 tokens and 54 more.
Pages of other servers are in the form that their sources write; they answer on the loopback.
"""

from __future__ import annotations

import gzip
import json
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import cache
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

import kvcalc
from kvcalc.fleet.explain import explain
from kvcalc.io.live import Server, UnreachableError
from kvcalc.io.said import read_said
from kvcalc.io.servers import SERVERS, ask, saved

DATA = Path(__file__).parents[1] / "data"
Answer = Callable[[BaseHTTPRequestHandler], None]


@cache
def metrics(when: str) -> tuple[str, dict[str, Any]]:
    with gzip.open(DATA / "vllm_metrics.jsonl.gz", "rt") as lines:
        rows = {row["when"]: row for row in map(json.loads, lines)}
    return rows[when]["metrics"], rows[when]["config"]


@contextmanager
def answering(pages: dict[str, str | bytes | Answer]) -> Iterator[tuple[str, list[str]]]:
    """A server on the loopback with these pages; its address, and the paths that it was asked for."""
    asked: list[str] = []

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            asked.append(self.path)
            page = pages.get(self.path)
            if page is None:
                self.send_error(404)
            elif callable(page):
                page(self)
            else:
                self.send_response(200)
                self.end_headers()
                self.wfile.write(page.encode() if isinstance(page, str) else page)

        do_POST = do_GET  # noqa: N815

        def log_message(self, *_: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
    try:
        yield f"http://127.0.0.1:{server.server_port}", asked
    finally:
        server.shutdown()
        server.server_close()


def vllm_pages(when: str = "during") -> dict[str, str | bytes | Answer]:
    models = {"object": "list", "data": [{"id": "gemma", "root": "vsrv/gemma3_text", "max_model_len": 2048}]}
    return {
        "/metrics": metrics(when)[0],
        "/v1/models": json.dumps(models),
        "/version": json.dumps({"version": "0.32.0+cpu"}),
    }


# What is read ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("when", "blocks"), [("before", 0), ("during", 33)])
def test_a_prediction_agrees_with_a_running_vllm_to_the_last_digit(when, blocks):
    """num_gpu_blocks 1024, kv_cache_size_tokens 20763, kv_cache_max_concurrency 10.138613861386139; 33 blocks in use."""
    text, config = metrics(when)
    with answering(vllm_pages(when)) as (address, _):
        reading, where = read_said(address)
    report = explain(kvcalc.load(config), reading, file=where)
    assert [(one.predicted, one.agrees) for one in report.compared] == [
        ("1,024", True),
        ("20,763", True),
        ("10.138613861386139", True),
    ]
    assert report.verdict == "the prediction agrees with the server, to the last digit"
    assert report.room.used.startswith(f"{blocks} of 1,023 blocks")
    assert dict(report.room.requests)[2048] == (1023 - blocks) // 101  # 10.1386 requests of 2,048 are 1,024 blocks
    assert where == address
    of_text = explain(kvcalc.load(config), saved(text))
    assert (of_text.outcome, of_text.room) == ("agrees", report.room)


def test_what_would_raise_the_room_of_a_vllm_is_said():
    report = explain(kvcalc.load(metrics("during")[1]), saved(metrics("during")[0]))
    assert report.ways[0].flags == "--kv-cache-dtype fp8"
    assert report.ways[0].gives == "20.28 concurrent requests of max_model_len instead of 10.14"


def test_another_model_does_not_agree_with_the_server():
    config = {**metrics("during")[1], "num_key_value_heads": 4}
    assert explain(kvcalc.load(config), saved(metrics("during")[0])).outcome == "differs"


def test_the_longest_request_follows_from_the_metrics_alone():
    """int(10.138613861386139 * 2048) is 20,763, and no other length gives it."""
    assert saved(metrics("before")[0]).settings["max_model_len"] == 2048


def test_of_replicas_the_one_with_the_fewest_blocks_is_judged():
    text = metrics("during")[0]
    line = next(line for line in text.splitlines() if line.startswith("vllm:cache_config_info{"))
    other = line.replace('engine="0"', 'engine="1"').replace('num_gpu_blocks="1024"', 'num_gpu_blocks="1022"')
    reading = saved(f"{text}\n{other}\n")
    assert reading.numbers()["blocks"].text == "1022"
    assert "2 replicas" in reading.notes[0]


SGLANG = {
    "model_path": "Qwen/Qwen3-235B-A22B-FP8",
    "tp_size": 4,
    "page_size": 1,
    "kv_cache_dtype": "auto",
    "mem_fraction_static": 0.88,
    "api_key": "sk-secret-0",
    "admin_api_key": "sk-secret-1",
    "max_total_num_tokens": 367404,
    "version": "0.5.23",
    "internal_states": [{"memory_usage": {"weight": 57.1, "kvcache": 16.47, "token_capacity": 367404}}],
}


def test_a_running_sglang_is_judged_by_its_pool():
    """github.com/vllm-project/vllm/issues/21348: K and V of 8.23 GB each; 367,405 x 94 x 512 bytes are both."""
    used = 'sglang:num_used_tokens{model_name="q"} 100000.0\nsglang:num_running_reqs{model_name="q"} 3.0\n'
    with answering({"/get_server_info": json.dumps(SGLANG), "/metrics": used}) as (address, asked):
        reading, _ = read_said(address)
    report = explain(kvcalc.load("qwen3-235b-a22b"), reading)
    assert (report.outcome, report.compared[0].predicted) == ("agrees", "16.47 GB")
    assert report.room.used == "100,000 of 367,404 tokens (27.2%); 3 requests running"
    assert dict(report.room.requests)[32_768] == 267_404 // 32_768
    assert report.ways[0].gives.endswith("instead of 367,404")
    assert "secret" not in str(reading)
    assert set(asked) >= {"/get_server_info", "/metrics"}
    assert explain(kvcalc.load("qwen3-30b-a3b"), reading).outcome == "differs"


LLAMA_CPP = {
    "default_generation_settings": {"n_ctx": 8192, "params": {"temperature": 0.8}},
    "total_slots": 4,
    "model_path": "/models/Qwen_Qwen3-8B-Q4_K_M.gguf",
    "build_info": "b7079-1568d13c2",
    "chat_template": "{{ secret_prompt }}",
}


def test_a_running_llama_cpp_says_its_slots_and_not_its_bytes():
    slots = [{"id": number, "is_processing": number < 3, "prompt": "my secret"} for number in range(4)]
    with answering({"/props": json.dumps(LLAMA_CPP), "/slots": json.dumps(slots)}) as (address, _):
        reading, _ = read_said(address)
    report = explain(kvcalc.load("qwen3-8b"), reading)
    assert (report.outcome, report.missing) == ("undecided", "the server does not report the size of its cache")
    assert report.room.used == (  # 147,456 bytes each
        "3 of 4 slots of 8,192 tokens; the cache takes 1.12 GiB if they share one context, 4.50 GiB if not"
    )
    told = explain(kvcalc.load("qwen3-8b"), reading, settings={"kv_unified": True})
    assert told.room.used.endswith("the cache takes 1,207,959,552 bytes (1.12 GiB)")
    assert report.room.requests == ((8192, 1),)
    assert reading.settings["version"] == "b7079"
    assert "secret" not in str(reading)


def test_a_server_of_v0_shows_the_size_of_its_blocks():
    """Stored file 60398974218, Qwen2.5-Coder 1.5B: 4 GiB of the host hold 9,362 blocks of 458,752 bytes."""
    labels = 'block_size="16",cache_dtype="auto",enable_prefix_caching="False",gpu_memory_utilization="0.9",'
    labels += 'num_cpu_blocks="9362",num_gpu_blocks="81767",swap_space_bytes="4294967296"'
    text = f"vllm:cache_config_info{{{labels}}} 1.0\n"
    text += 'vllm:num_requests_running{model_name="Qwen/Qwen2.5-Coder-1.5B-Instruct"} 0.0\n'
    reading = saved(text)
    report = explain(kvcalc.load("qwen2.5-1.5b"), reading)
    assert (reading.model, report.outcome) == ("Qwen/Qwen2.5-Coder-1.5B-Instruct", "agrees")
    assert [compared.predicted for compared in report.compared] == ["81,767", "9,362"]
    assert explain(kvcalc.load("qwen2.5-3b"), reading).outcome == "differs"


def test_metrics_of_sglang_alone_state_tokens_and_their_use():
    """Stored file 69222301734 in its form: replicas of attention, of which the least is judged."""
    labels = 'model_name="Qwen/Qwen3-8B",engine_type="unified",tp_rank="0",pp_rank="0"'
    text = "".join(
        f'sglang:max_total_num_tokens{{{labels},dp_rank="{rank}"}} {tokens}.0\n'
        for rank, tokens in enumerate((60_000, 59_000))
    )
    text += f'sglang:num_used_tokens{{{labels},dp_rank="0"}} 1200\nsglang:num_running_reqs{{{labels},dp_rank="0"}} 2\n'
    reading = saved(text)
    report = explain(kvcalc.load("qwen3-8b"), reading)
    assert (reading.model, report.outcome) == ("Qwen/Qwen3-8B", "undecided")
    assert "states tokens and no bytes" in report.verdict
    assert report.compared[0].predicted == "8.10 GiB"  # 59,001 of 147,456 bytes
    assert report.room.used == "1,200 of 59,000 tokens (2.0%); 2 requests running"
    with answering({"/metrics": text}) as (address, _):
        assert read_said(address)[0].numbers()["tokens"].text == "59000"


def test_gb_of_sglang_are_rounded_to_two_decimals_whatever_json_drops():
    info = {"model_path": "m", "max_total_num_tokens": 20480, "internal_states": [{"memory_usage": {"kvcache": 0.2}}]}
    printed = saved(json.dumps(info)).numbers()["pool size"]
    assert printed.is_print_of(int(0.204 * 2**30))
    assert not printed.is_print_of(int(0.206 * 2**30))


def test_an_older_ollama_does_not_say_how_long_its_context_is():
    text = json.dumps({"models": [{"name": "llama3.1:8b", "size": 6654289920, "size_vram": 6654289920}]})
    report = explain(kvcalc.load("llama-3.1-8b"), saved(text))
    assert (report.outcome, report.missing) == ("undecided", "the server does not report the size of its cache")
    assert report.notes[-1].startswith("this version of Ollama does not report its context")


def test_an_ollama_without_a_loaded_model_has_no_cache():
    with (
        answering({"/api/ps": '{"models":[]}'}) as (address, _),
        pytest.raises(kvcalc.InvalidFileError, match="no model is loaded"),
    ):
        read_said(address)


def test_a_running_ollama_describes_its_model(cli):
    """The metadata of the GGUF file name the model, so that nobody has to."""
    info = {
        "general.architecture": "llama",
        "llama.block_count": 32,
        "llama.context_length": 131072,
        "llama.embedding_length": 4096,
        "llama.attention.head_count": 32,
        "llama.attention.head_count_kv": 8,
        "tokenizer.ggml.tokens": None,
    }
    running = {"models": [{"name": "llama3.1:8b", "size": 6654289920, "size_vram": 6654289920, "context_length": 8192}]}
    pages = {
        "/api/ps": json.dumps(running),
        "/api/version": json.dumps({"version": "0.11.4"}),
        "/api/show": json.dumps({"model_info": info, "modelfile": "# secret"}),
    }
    with answering(pages) as (address, _):
        said = cli(f"explain {address} -f json")
    assert said.code == 2
    report = json.loads(said.stdout)
    assert report["outcome"] == "undecided"
    assert report["room"]["used"] == "a context of 8,192 tokens, 1,073,741,824 bytes of cache (1.00 GiB)"
    assert "secret" not in said.stdout


# Who is asked ---------------------------------------------------------------------------------------------------------


def test_only_the_address_is_asked_whatever_proxies_the_environment_names(monkeypatch):
    with answering({}) as (proxy, asked_of_proxy), answering(vllm_pages()) as (address, _):
        for name in ("http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY"):
            monkeypatch.setenv(name, proxy)
        monkeypatch.delenv("no_proxy", raising=False)
        reading, _ = read_said(address)
    assert reading.engine == "vllm"
    assert asked_of_proxy == []


@pytest.mark.parametrize("code", [301, 302, 303, 307, 308])
def test_a_redirect_is_not_followed(code):
    with answering(vllm_pages()) as (elsewhere, asked):

        def redirect(handler: BaseHTTPRequestHandler) -> None:
            handler.send_response(code)
            handler.send_header("Location", f"{elsewhere}/metrics")
            handler.end_headers()

        with answering({"/metrics": redirect}) as (address, _), pytest.raises(kvcalc.InvalidFileError) as refusal:
            read_said(address)
    assert asked == []
    assert f"/metrics: {code}, a redirect, which is not followed" in str(refusal.value)


def test_a_page_of_the_address_stands_for_its_server():
    with answering(vllm_pages()) as (address, _):
        for path in ("/", "/metrics", "/v1", "/v1/models", "/version"):
            assert read_said(address + path)[1] == address


def test_pages_that_need_a_key_are_left_out():
    """vLLM guards /v1 with --api-key, and not its metrics."""

    def refuse(handler: BaseHTTPRequestHandler) -> None:
        handler.send_error(401)

    with answering({**vllm_pages(), "/v1/models": refuse}) as (address, _):
        reading, _ = read_said(address)
    assert reading.settings["max_model_len"] == 2048


@pytest.mark.parametrize(
    ("address", "words"),
    [
        ("http://u:hunter2@127.0.0.1:1", "the address contains a user name or a password, which is not sent"),
        ("http://127.0.0.1:99999", "the address cannot be read"),
        ("http://[::1", "the address cannot be read"),
        ("http://", "has no host"),
        ("http://127.0.0.1:1", "cannot be read: "),
        ("HTTPS://127.0.0.1:1", "cannot be read: "),
        ("http://none.invalid:1", "cannot be read: "),
    ],
)
def test_an_address_that_cannot_be_asked_is_refused(cli, address, words):
    said = cli(["explain", address, "r1"])
    assert said.code == 2
    assert words in said.stderr
    assert "hunter2" not in said.stderr
    assert said.stderr.splitlines()[1].startswith("help: ")


# Hostile servers ------------------------------------------------------------------------------------------------------


def drip(handler: BaseHTTPRequestHandler) -> None:
    """A byte now and then, without end."""
    handler.send_response(200)
    handler.end_headers()
    with pytest.raises(OSError):
        while True:
            handler.wfile.write(b"x")
            time.sleep(0.02)


def drip_headers(handler: BaseHTTPRequestHandler) -> None:
    with pytest.raises(OSError):
        handler.wfile.write(b"HTTP/1.0 200 OK\r\n")
        while True:
            handler.wfile.write(b"x")
            time.sleep(0.02)


def hang(handler: BaseHTTPRequestHandler) -> None:
    time.sleep(2)


@pytest.mark.parametrize("page", [drip, drip_headers, hang])
def test_a_slow_server_is_given_up_in_time(page):
    began = time.monotonic()
    with answering({"/metrics": page}) as (address, _), pytest.raises(UnreachableError) as refusal:
        ask(Server(address, seconds=0.3).get, "vllm")
    assert time.monotonic() - began < 5
    assert "within 0.3 seconds" in str(refusal.value)


def endless(handler: BaseHTTPRequestHandler) -> None:
    handler.send_response(200)
    handler.end_headers()
    try:
        while True:
            handler.wfile.write(b"x" * 2**16)
    except OSError:
        pass


def test_an_endless_answer_is_cut_off():
    with answering({"/metrics": endless}) as (address, _):
        server = Server(address, most_bytes=2**20)
        assert ask(server.get, "vllm") is None
    assert server.answered["/metrics"] == "more than 1,048,576 bytes"


def no_http(handler: BaseHTTPRequestHandler) -> None:
    handler.wfile.write(b"\x00\xff\x1b[31m SSH-2.0-OpenSSH\r\n")


def claims_more(handler: BaseHTTPRequestHandler) -> None:
    handler.send_response(200)
    handler.send_header("Content-Length", "1000000000000")
    handler.end_headers()
    handler.wfile.write(b"{}")


HOSTILE = {
    "bytes": bytes(range(256)) * 100,
    "an empty page": b"",
    "null": b"null",
    "a deep list": b"[" * 200_000,
    "a huge number": b'vllm:cache_config_info{num_gpu_blocks="' + b"9" * 5000 + b'"} 1.0\n',
    "no number": b'vllm:cache_config_info{num_gpu_blocks="NaN",kv_cache_size_tokens="inf"} nan\n',
    "no blocks": b'vllm:cache_config_info{num_gpu_blocks="0"} 1.0\n',
    "lists for numbers": json.dumps({key: [[]] for key in SGLANG}).encode(),
    "text for lists": json.dumps({"models": "x", "internal_states": "x", "data": 3}).encode(),
    "no HTTP": no_http,
    "a longer answer than comes": claims_more,
}


@pytest.mark.parametrize("page", HOSTILE.values(), ids=HOSTILE)
def test_a_page_of_anything_ends_in_a_message(cli, page):
    paths = [path for name in SERVERS.names() for path in SERVERS.module(name).PAGES]
    with answering(dict.fromkeys(paths, page)) as (address, _):
        said = cli(["explain", address, "r1"])
    assert said.code == 2
    assert "\x1b" not in said.stderr
    assert len(said.stderr.splitlines()) == 2


def test_escapes_of_a_server_are_shown_and_not_sent(cli):
    pages = vllm_pages()
    pages["/v1/models"] = json.dumps({"data": [{"root": "\x1b[31m\u202eevil", "max_model_len": 2048}]})
    with answering(pages) as (address, _):
        said = cli(["explain", address])
    assert said.code == 2
    assert "\x1b" not in said.stderr
    assert "\u202e" not in said.stderr
    assert "\\x1b[31m" in said.stderr


def test_every_engine_that_answers_is_explained():
    from kvcalc.fleet.explain import EXPLAINERS

    assert set(SERVERS.names()) <= set(EXPLAINERS.names())
