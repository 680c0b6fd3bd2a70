"""What a hub may do wrong: each ends in one line and a help, by a deadline, and never shows a token."""

from __future__ import annotations

import json
import os
import socket
import struct
import subprocess
import sys
import time

import pytest
from checkpoint_files import LLAMA, gguf_model, safetensors
from hub_server import COMMIT, OTHER, send

import kvcalc
from kvcalc.io.hub import client

RESOLVE = f"/org/tiny/resolve/{COMMIT}"
API = "/api/models/org/tiny/revision/main"
TOKEN = "hf_very_secret"


@pytest.fixture(autouse=True)
def tiny(hub, monkeypatch):
    """A repository, a token, and little patience."""
    from huggingface_hub import constants

    hub.add("org/tiny", {"config.json": LLAMA, "model.safetensors": safetensors({"a": (100, 30)})})
    monkeypatch.setenv("HF_TOKEN", TOKEN)
    monkeypatch.setattr(constants, "HF_HUB_DOWNLOAD_TIMEOUT", 1)
    monkeypatch.setattr(client, "WAITS", 1)
    return hub


def refused(cli, name: str = "org/tiny") -> str:
    """The one line of an error."""
    started = time.monotonic()
    out = cli(["size", name, "--hub"])
    assert time.monotonic() - started < 5
    assert (out.code, out.stdout) == (2, "")
    message, help = out.stderr.splitlines()
    assert help.startswith("help: ")
    assert TOKEN not in out.stderr
    return message + "\n" + help


# What a hub refuses ---------------------------------------------------------------------------------------------------


def test_no_such_repository(hub, cli):
    assert refused(cli, "org/other") == (
        "org/other: no such repository, or it is private\n"
        "help: check the name; for a private one set HF_TOKEN; the token that was sent has no access"
    )


def test_a_gated_repository(hub, cli, monkeypatch):
    hub.gated.add("org/tiny")
    assert refused(cli) == (
        "org/tiny/config.json: is gated: its authors grant access on request\n"
        "help: request access on its page, then set HF_TOKEN to a token of that account; the token that was sent has no access"
    )
    monkeypatch.delenv("HF_TOKEN")
    assert refused(cli).endswith("then set HF_TOKEN to a token of that account")
    monkeypatch.setenv("HF_TOKEN", hub.token)
    assert cli("size org/tiny --hub").code == 0


def test_no_such_revision(hub, cli):
    assert refused(cli, "org/tiny@v2") == (
        "org/tiny@v2: has no such revision\nhelp: name a branch, a tag or a commit, or remove the revision"
    )


def test_no_config(hub, cli):
    hub.add("org/tiny", {"README.md": b"", "pytorch_model.bin": b""})
    assert refused(cli) == (
        f"org/tiny@{COMMIT}: has no config.json, params.json, adapter_config.json and no GGUF file\n"
        "help: name the folder or the repository of a language model"
    )


@pytest.mark.parametrize(
    ("status", "headers", "message"),
    [
        (403, {}, "may not be read (403)"),
        (429, {"Retry-After": "3600"}, "the hub reports too many requests (429)"),
        (500, {}, "failed with status 500"),
        (503, {}, "failed with status 503"),
        (418, {}, "failed with status 418"),
        (451, {"X-Error-Message": f"Access is disabled {TOKEN}\x1b[31m"}, "failed with status 451"),
        (404, {}, "does not exist"),
        (304, {}, "failed with status 304"),
    ],
)
@pytest.mark.parametrize("path", [API, f"{RESOLVE}/config.json", f"{RESOLVE}/model.safetensors"])
def test_statuses(hub, cli, path, status, headers, message):
    hub.answers[path] = lambda handler: send(handler, status, b"<html>no</html>" * (status != 304), headers)
    assert message in refused(cli)


# What is no hub -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"<!doctype html><title>Sign in</title>",
        b"[]",
        b"{}",
        b'{"sha": "main", "siblings": []}',
        b'{"sha": 7, "siblings": []}',
        json.dumps({"sha": COMMIT, "siblings": 7}).encode(),
        json.dumps({"sha": COMMIT.upper(), "siblings": []}).encode(),
        b"\xff\xfe",
        b"[" * 100_000,
        b'{"sha": ' + b"9" * 10_000 + b"}",
    ],
)
def test_a_description_that_no_hub_gives(hub, cli, content):
    hub.answers[API] = lambda handler: send(handler, 200, content)
    assert refused(cli).startswith("org/tiny: ") or refused(cli).startswith("org/tiny:1: ")


@pytest.mark.parametrize("name", ["../../../etc/passwd", "/etc/passwd", "a/../../b", "a\nb", "", 7, None])
def test_names_of_files_that_lead_elsewhere_are_no_files(hub, cli, name):
    listing = {"sha": COMMIT, "siblings": [{"rfilename": name}, 7]}
    hub.answers[API] = lambda handler: send(handler, 200, json.dumps(listing).encode())
    assert "has no config.json" in refused(cli)


def test_a_name_that_the_hub_gives_itself_is_shown_and_never_a_path(hub, cli):
    listing = {"id": "../../\x1b[31mevil", "sha": COMMIT, "siblings": [{"rfilename": "config.json"}]}
    hub.answers[API] = lambda handler: send(handler, 200, json.dumps(listing).encode())
    out = cli("size org/tiny --hub")
    assert out.code == 0
    assert "evil" not in out.stdout


@pytest.mark.parametrize("content", [b"", b"nonsense", b"[1]", b"\xff\xff", b'{"model_type": 7}', b'"' * 100])
def test_a_config_that_is_none(hub, cli, content):
    hub.answers[f"{RESOLVE}/config.json"] = lambda handler: send(handler, 200, content)
    assert refused(cli).startswith(f"org/tiny@{COMMIT}/config.json")


def test_a_file_of_another_commit(hub, cli):
    hub.answers[f"{RESOLVE}/config.json"] = lambda handler: send(
        handler, 200, json.dumps(LLAMA).encode(), {"X-Repo-Commit": OTHER}
    )
    assert f"was requested at {COMMIT}, but is from commit {OTHER}" in refused(cli)


# How long and how much ------------------------------------------------------------------------------------------------


def endless(handler) -> None:
    """Zeros without an end, as fast as they are taken."""
    handler.send_response(200)
    handler.end_headers()
    while True:
        handler.wfile.write(bytes(2**16))


def trickle(handler) -> None:
    """A byte now and then, so that no single wait is long."""
    handler.send_response(200)
    handler.end_headers()
    for _ in range(100):
        handler.wfile.write(b" ")
        time.sleep(0.1)


def trickled_headers(handler) -> None:
    """A header that takes as long."""
    handler.wfile.write(b"HTTP/1.1 200 OK\r\nX: ")
    for _ in range(100):
        handler.wfile.write(b"x")
        time.sleep(0.1)


def silent(_) -> None:
    time.sleep(4)


PATHS = [API, f"{RESOLVE}/config.json"]
HEADER = f"{RESOLVE}/model.safetensors"


@pytest.mark.parametrize("path", PATHS)
def test_an_endless_answer_is_larger_than_it_may_be(hub, cli, path):
    hub.answers[path] = endless
    assert "is larger than the limit of" in refused(cli)


def test_an_endless_header_ends_with_what_was_asked_for(hub, cli):
    hub.answers[HEADER] = endless
    assert "cannot be read in parts, and is too large to read completely" in refused(cli)


@pytest.mark.parametrize("path", [*PATHS, HEADER])
@pytest.mark.parametrize("answer", [trickle, trickled_headers, silent])
def test_a_slow_answer_is_given_up(hub, cli, path, answer):
    hub.answers[path] = answer
    message = refused(cli)
    assert f"{hub.host} did not answer in time\nhelp: HF_HUB_DOWNLOAD_TIMEOUT=3 waits longer" in message or (
        path == HEADER and answer is trickle and "cannot be read in parts" in message
    )


def test_all_requests_of_a_name_have_one_deadline(hub, cli, monkeypatch):
    monkeypatch.setattr(client, "ALL_WAITS", 0)
    assert "did not answer in time" in refused(cli)


def test_a_huge_file_is_not_read(hub, cli):
    def huge(handler) -> None:
        handler.send_response(200)
        handler.send_header("Content-Length", str(10**12))
        handler.end_headers()
        endless(handler)

    hub.answers[f"{RESOLVE}/config.json"] = huge
    assert "is larger than the limit of 2,097,152 bytes" in refused(cli)


def test_a_compressed_answer_is_not_unpacked(hub, cli):
    hub.answers[f"{RESOLVE}/config.json"] = lambda handler: send(handler, 200, b"x", {"Content-Encoding": "gzip"})
    assert "was sent compressed, which was not requested" in refused(cli)


def test_a_part_where_the_whole_was_asked_for(hub, cli):
    hub.answers[API] = lambda handler: send(handler, 206, b"{}", {"Content-Range": "bytes 0-1/9"})
    assert "was sent in part, although all of it was requested" in refused(cli)


def test_redirects_end(hub, cli):
    hub.answers[API] = lambda handler: send(handler, 302, b"", {"Location": API})
    assert "is redirected more than 8 times" in refused(cli)


def test_an_endless_redirect_is_not_read(hub, cli):
    def redirect(handler) -> None:
        handler.send_response(307)
        handler.send_header("Location", f"{API}-moved")
        handler.end_headers()
        while True:
            handler.wfile.write(bytes(2**16))

    hub.answers[API] = redirect
    hub.answers[f"{API}-moved"] = lambda handler: send(
        handler, 200, json.dumps({"sha": COMMIT, "siblings": [{"rfilename": "config.json"}]}).encode()
    )
    assert cli("size org/tiny --hub").code == 0


@pytest.mark.parametrize("place", ["file:///etc/passwd", "ftp://127.0.0.1/x", "http://", "://", "http://[::1", "\x7f"])
def test_redirects_to_no_address(hub, cli, place):
    hub.answers[f"{RESOLVE}/config.json"] = lambda handler: send(handler, 302, b"", {"Location": place})
    refused(cli)


def test_the_token_stays_with_the_hub(hub, cli):
    cli("size org/tiny --hub")
    hub.answers[f"{RESOLVE}/config.json"] = lambda handler: send(handler, 302, b"", {"Location": f"{hub.store}/config"})
    cli("size org/tiny --hub")
    assert {request.authorization for request in hub.requests if request.host == "hub"} == {f"Bearer {TOKEN}"}
    assert {request.authorization for request in hub.requests if request.host == "store"} == {""}


def test_a_connection_that_breaks_off(hub, cli):
    def breaks(handler) -> None:
        handler.send_response(200)
        handler.send_header("Content-Length", "1000")
        handler.end_headers()
        handler.wfile.write(b"{")
        handler.close_connection = True

    hub.answers[f"{RESOLVE}/config.json"] = breaks
    assert f"the answer of {hub.host} was interrupted (RemoteProtocolError)" in refused(cli)


def test_what_is_no_http(hub, cli):
    def other(handler) -> None:
        handler.wfile.write(b"SSH-2.0-OpenSSH_9.6\r\n")
        handler.close_connection = True

    hub.answers[API] = other
    assert "was interrupted" in refused(cli)


# Headers of weights ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "416"),
        (b"\1\2\3", "it is too short for one, and the file has 3"),
        (struct.pack("<Q", 10**15) + bytes(100), "it claims 1,000,000,000,000,000 bytes, and the file has 108"),
        (struct.pack("<Q", 50) + bytes(100), "has a header that is not JSON"),
        (struct.pack("<Q", 2) + b"[]" + bytes(100), "has a header that is not a JSON object, but"),
        (safetensors({"a": (100,)})[:-1], "puts 'a' at [0, 200] of 199 bytes of data"),
    ],
)
def test_wrong_headers_of_safetensors(hub, cli, content, message):
    if not content:
        hub.answers[HEADER] = lambda handler: send(handler, 416)
    hub.add("org/tiny", {"config.json": LLAMA, "model.safetensors": content})
    assert message in refused(cli)


@pytest.mark.parametrize(
    "range", ["bytes 0-7", "bytes 0-7/*", "bytes 1-8/100", "bytes 0-7/" + "9" * 40, "items 0-7/100", ""]
)
def test_wrong_words_of_a_part(hub, cli, range):
    hub.answers[HEADER] = lambda handler: send(handler, 206, bytes(8), {"Content-Range": range})
    assert "cannot be read in parts, and is too large to read completely" in refused(cli)


def test_a_part_that_is_shorter_than_it_claims(hub, cli):
    hub.answers[HEADER] = lambda handler: send(handler, 206, bytes(4), {"Content-Range": "bytes 0-7/100"})
    assert "ends after 4 bytes of a part of 8" in refused(cli)


def test_a_file_that_changes_its_size(hub, cli):
    sizes = iter((1000, 2000))

    def changing(handler) -> None:
        first, _, last = handler.headers["range"].removeprefix("bytes=").partition("-")
        content = struct.pack("<Q", 100) if first == "0" else b" " * 100
        send(handler, 206, content, {"Content-Range": f"bytes {first}-{last}/{next(sizes)}"})

    hub.answers[HEADER] = changing
    assert "changed its size from 1,000 to 2,000 bytes" in refused(cli)


def test_a_gguf_file_that_is_none(hub, cli):
    hub.add("org/tiny-GGUF", {"tiny.gguf": b"GGML" + bytes(100)})
    assert "is not a GGUF file" in refused(cli, "org/tiny-GGUF")
    hub.add("org/tiny-GGUF", {"tiny.gguf": gguf_model({"a": (64, 64)})[:-1]})
    assert "lists tensors of 8,192 bytes, but 8,191 are left in the file" in refused(cli, "org/tiny-GGUF")


@pytest.mark.parametrize(
    "index", [b"nonsense", b"[]", b'{"metadata": {"total_size": -1}}', b'{"metadata": {"total_size": "x"}}']
)
def test_an_index_that_is_none(hub, cli, index):
    hub.add("org/tiny", {"config.json": LLAMA, "model.safetensors.index.json": index})
    assert refused(cli).startswith(f"org/tiny@{COMMIT}/model.safetensors.index.json")


# No hub at all --------------------------------------------------------------------------------------------------------


def set_to(monkeypatch, endpoint: str) -> None:
    from huggingface_hub import constants

    monkeypatch.setattr(constants, "ENDPOINT", endpoint)


def test_no_connection(hub, cli, monkeypatch):
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        host = f"127.0.0.1:{unused.getsockname()[1]}"
        set_to(monkeypatch, f"http://{host}")
        assert refused(cli) == (
            f"org/tiny: {host} cannot be reached (ConnectError)\n"
            "help: check the connection, HF_ENDPOINT and HTTPS_PROXY; HF_HUB_OFFLINE=1 reads only the cache"
        )


@pytest.mark.parametrize("endpoint", ["", "hub", "ftp://127.0.0.1", "http://", "http://[", "file:///etc"])
def test_an_endpoint_that_is_no_address(hub, cli, monkeypatch, endpoint):
    set_to(monkeypatch, endpoint)
    refused(cli)


def test_a_password_in_the_endpoint_is_not_shown(hub, cli, monkeypatch):
    set_to(monkeypatch, f"http://me:{TOKEN}@127.0.0.1:9")
    assert "127.0.0.1:9 cannot be reached" in refused(cli)


@pytest.mark.parametrize("token", ["hf_very_secret\r\nX: 1", "hf_very_secretß", " "])
def test_a_token_that_cannot_be_sent_is_not_shown(hub, cli, monkeypatch, token):
    monkeypatch.setenv("HF_TOKEN", token)
    out = cli("size org/tiny --hub")
    assert TOKEN not in out.stdout + out.stderr
    assert "Traceback" not in out.stderr


@pytest.mark.parametrize(
    "name", ["", "qwen3:8b", "org/", "a/b/c", "org/tiny@", "org/..", "org/a--b", "a/-", "a b", "x" * 97]
)
def test_what_is_not_written_as_a_repository(hub, cli, name):
    if name:
        assert "does not have the form of a Hub repository" in refused(cli, name)
    assert hub.requests == []


def test_a_preset_that_was_read_from_no_repository(hub, cli):
    assert "the preset rwkv-4-7b does not come from a Hub repository" in refused(cli, "rwkv-4-7b")


def test_without_the_extra_it_says_how_to_install_it(hub, cli, monkeypatch):
    monkeypatch.setitem(sys.modules, "huggingface_hub", None)
    assert refused(cli) == (
        "--hub needs huggingface_hub, which is not installed\nhelp: pip install 'kvcalc[hub] @ git+https://github.com/kvcalc/kvcalc'"
    )


def test_an_old_library_is_refused(hub, cli, monkeypatch):
    import huggingface_hub

    monkeypatch.setattr(huggingface_hub, "__version__", "0.36.2")
    assert "--hub needs huggingface_hub 1 or newer, but 0.36.2 is installed" in refused(cli)


def test_names_that_cannot_be_resolved_say_that_the_hub_can_be_asked(hub, cli):
    out = cli("size org/unheard-of")
    assert out.code == 2
    assert "--hub" in out.stderr
    assert hub.requests == []


# The network ----------------------------------------------------------------------------------------------------------

NO_NETWORK = """
import socket, sys

def refuse(*_, **__):
    raise AssertionError("a connection was opened")

socket.socket.connect = socket.socket.connect_ex = socket.create_connection = socket.getaddrinfo = refuse
from kvcalc.cli import main
import kvcalc
for line in ("size r1", "size Qwen/Qwen3-8B 32k", "fit r1 --gpu h200 --gpus 8", "compare r1 llama3-70b --tokens 1K",
             "size org/unheard-of", "presets list", "size hf.co/org/tiny", "size --help"):
    main(line.split())
kvcalc.load("Qwen/Qwen3-8B")
print("huggingface_hub" in sys.modules, "httpx2" in sys.modules, file=sys.stderr)
"""


def run_without_network(script: str) -> subprocess.CompletedProcess:
    own = {name: value for name, value in os.environ.items() if not name.startswith(("HF_", "TRANSFORMERS_"))}
    command = [sys.executable, "-c", script]
    return subprocess.run(command, check=False, capture_output=True, text=True, timeout=60, env=own)


def test_without_the_flag_nothing_is_connected_to():
    done = run_without_network(NO_NETWORK)
    assert done.returncode == 0, done.stderr
    assert "a connection was opened" not in done.stdout + done.stderr
    assert done.stderr.splitlines()[-1] == "False False"


def test_a_connection_is_noticed():
    flagged = NO_NETWORK.replace('"size r1",', '"size org/tiny --hub", "size r1",')
    done = run_without_network(flagged)
    assert "was interrupted (AssertionError)" in done.stderr


def test_no_error_is_a_traceback(hub, cli):
    with pytest.raises(kvcalc.KvcalcError):
        kvcalc.load("org/other", hub=True)
