"""A small hub on the loopback, for tests: what huggingface.co answers to the requests that huggingface_hub makes.

Files stand in repositories, at commits; large ones are stored on another host (`store`), where the hub redirects to.
What a hub does wrong is a function of `answers`, by path: it gets the handler and does as it likes.
"""

from __future__ import annotations

import hashlib
import json
import re
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import NamedTuple

COMMIT = "b968826d9c46dd6066d109eabc6255188de91218"
OTHER = "0123456789abcdef0123456789abcdef01234567"
_RANGE = re.compile(r"bytes=(\d+)-(\d+)")


class Request(NamedTuple):
    host: str
    path: str
    range: str
    authorization: str


class Hub:
    """A hub with a store of large files. repositories: files by repository and commit; refs: commits by revision."""

    def __init__(self) -> None:
        self.repositories: dict[str, dict[str, dict[str, bytes]]] = {}
        self.refs: dict[tuple[str, str], str] = {}
        self.large: set[str] = set()
        self.gated: set[str] = set()
        self.private: set[str] = set()
        self.renamed: dict[str, str] = {}
        self.token = "hf_right"
        self.answers: dict[str, Callable[[BaseHTTPRequestHandler], None]] = {}
        self.requests: list[Request] = []
        self._hub, self._store = (_server(self, name) for name in ("hub", "store"))
        self.endpoint, self.store = (f"http://127.0.0.1:{s.server_address[1]}" for s in (self._hub, self._store))
        self.host = self.endpoint.removeprefix("http://")

    def add(self, name: str, files: dict[str, object], commit: str = COMMIT, revision: str = "main") -> None:
        """A commit of a repository; what is not bytes is written as JSON."""
        content = {file: c if isinstance(c, bytes) else json.dumps(c).encode() for file, c in files.items()}
        self.repositories.setdefault(name, {})[commit] = content
        self.refs[name, revision] = self.refs[name, commit] = commit
        self.large |= {file for file in content if file.endswith((".safetensors", ".gguf"))}

    @property
    def paths(self) -> list[str]:
        return [request.path for request in self.requests if request.host == "hub"]

    def close(self) -> None:
        for server in (self._hub, self._store):
            server.shutdown()
            server.server_close()

    # What it answers ------------------------------------------------------------------------------------------------

    def answer(self, handler: BaseHTTPRequestHandler, host: str) -> None:
        path = handler.path.partition("?")[0]
        sent = handler.headers
        self.requests.append(Request(host, path, sent.get("range", ""), sent.get("authorization", "")))
        if path in self.answers:
            self.answers[path](handler)
        elif host == "store":
            send(handler, 200, self._blob(path.removeprefix("/")))
        elif (api := re.fullmatch(r"/api/models/(.+)/revision/([^/]+)", path)) is not None:
            self._describe(handler, api[1], api[2].replace("%2F", "/"))
        elif (file := re.fullmatch(r"/(.+?)/resolve/([^/]+)/(.+)", path)) is not None:
            self._send_file(handler, *file.groups())
        else:
            send(handler, 404)

    def _knows(self, handler: BaseHTTPRequestHandler, name: str, revision: str) -> str | None:
        """The commit; None where an error was sent."""
        may = handler.headers.get("authorization") == f"Bearer {self.token}"
        if name not in self.repositories or (name in self.private and not may):
            send(handler, 401, headers={"X-Error-Code": "RepoNotFound", "X-Error-Message": "Repository not found"})
        elif (name, revision) not in self.refs:
            send(handler, 404, headers={"X-Error-Code": "RevisionNotFound"})
        else:
            return self.refs[name, revision]
        return None

    def _describe(self, handler: BaseHTTPRequestHandler, name: str, revision: str) -> None:
        if name in self.renamed:
            place = handler.path.replace(name, self.renamed[name])
            send(handler, 307, headers={"Location": place})
        elif (commit := self._knows(handler, name, revision)) is not None:
            files = [{"rfilename": file} for file in self.repositories[name][commit]]
            body = json.dumps({"_id": "6", "id": name, "sha": commit, "gated": False, "siblings": files}).encode()
            send(handler, 200, body, {"Content-Type": "application/json; charset=utf-8"})

    def _send_file(self, handler: BaseHTTPRequestHandler, name: str, revision: str, file: str) -> None:
        if name in self.renamed:
            send(handler, 307, headers={"Location": handler.path.replace(name, self.renamed[name])})
            return
        commit = self._knows(handler, name, revision)
        if commit is None:
            return
        headers = {"X-Repo-Commit": commit}
        content = self.repositories[name][commit].get(file)
        if name in self.gated and handler.headers.get("authorization") != f"Bearer {self.token}":
            send(handler, 403 if handler.headers.get("authorization") else 401, headers={"X-Error-Code": "GatedRepo"})
        elif content is None:
            send(handler, 404, headers={**headers, "X-Error-Code": "EntryNotFound"})
        elif file in self.large:
            etag = hashlib.sha256(content).hexdigest()
            sizes = {"X-Linked-Etag": f'"{etag}"', "X-Linked-Size": str(len(content))}
            send(handler, 302, headers={**headers, **sizes, "Location": f"{self.store}/{etag}"})
        else:
            blob = hashlib.sha1(b"blob %d\0" % len(content) + content).hexdigest()
            send(handler, 200, content, {**headers, "ETag": f'"{blob}"'})

    def _blob(self, digest: str) -> bytes:
        contents = (c for commits in self.repositories.values() for files in commits.values() for c in files.values())
        return next(content for content in contents if hashlib.sha256(content).hexdigest() == digest)


def send(
    handler: BaseHTTPRequestHandler, status: int, content: bytes = b"", headers: dict[str, str] | None = None
) -> None:
    """An answer; of content the range that was asked for."""
    asked = _RANGE.fullmatch(handler.headers.get("range", ""))
    headers = dict(headers or {})
    if status == 200 and asked:
        first, last = int(asked[1]), min(int(asked[2]), len(content) - 1)
        headers["Content-Range"] = f"bytes {first}-{last}/{len(content)}"
        status, content = 206, content[first : last + 1]
    handler.send_response(status)
    for name, value in {"Content-Length": str(len(content)), **headers}.items():
        handler.send_header(name, value)
    handler.end_headers()
    if handler.command != "HEAD":
        handler.wfile.write(content)


def _server(hub: Hub, host: str) -> ThreadingHTTPServer:
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self) -> None:
            try:
                hub.answer(self, host)
            except OSError:  # whoever asked has gone
                self.close_connection = True

        def do_HEAD(self) -> None:
            self.do_GET()

        def log_message(self, *_: object) -> None:
            pass

    class Server(ThreadingHTTPServer):
        daemon_threads = True

        def handle_error(self, *_: object) -> None:
            """A client that hangs up is no error, and stderr is the command's."""

    server = Server(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True).start()
    return server


@contextmanager
def running() -> Iterator[Hub]:
    hub = Hub()
    try:
        yield hub
    finally:
        hub.close()
