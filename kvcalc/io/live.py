"""A running server over HTTP: the only code of kvcalc that reads from an address.

Only the given address is contacted. Redirects are not followed; proxies from the environment are not used, so that the
numbers come from that server; a user name and password in the address are refused. All answers together have a
deadline, and each has a size limit.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from threading import Thread
from typing import Any
from urllib.error import HTTPError, URLError
from urllib.parse import SplitResult, urlsplit

from kvcalc.errors import InvalidValueError, KvcalcError
from kvcalc.errors.foreign import name_shown, visible

MOST_BYTES = 8 * 2**20
"""Largest answer read; the metrics of a server with many models are under 1 MiB."""
SECONDS = 10.0
"""Deadline of all answers of a server together."""
_PIECE = 64 * 2**10
_EXAMPLE = "write it as http://127.0.0.1:8000"


class UnreachableError(KvcalcError):
    """A server does not answer, or not in time."""


class Server:
    """Pages of one address, each requested once.

    answered: outcome of each page, in words, for the error if nothing useful came. Raises InvalidValueError for an
    invalid address.
    """

    def __init__(self, address: str, *, seconds: float = SECONDS, most_bytes: int = MOST_BYTES) -> None:
        self.address = _base(address)
        self.answered: dict[str, str] = {}
        self._deadline = time.monotonic() + seconds
        self._seconds = seconds
        self._most_bytes = most_bytes
        self._pages: dict[tuple[str, bytes | None], str | None] = {}

    def get(self, path: str, body: bytes | None = None) -> str | None:
        """Text of a page, or of the answer to a JSON body; None if the server has no such page.

        Raises UnreachableError if it does not answer in time.
        """
        if (path, body) not in self._pages:
            self._pages[path, body] = self._fetched(path, body)
        return self._pages[path, body]

    def _fetched(self, path: str, body: bytes | None) -> str | None:
        try:
            text = self._in_time(lambda: _read(self.address + path, body, self._left(), self._most_bytes, self._left))
        except HTTPError as error:
            self.answered[path] = _status(error)
            error.close()
            return None
        except _TooLargeError:
            self.answered[path] = f"more than {self._most_bytes:,} bytes"
            return None
        except TimeoutError:
            raise self._late(path) from None
        except (URLError, OSError, ValueError) as error:
            reason = getattr(error, "reason", error)
            if isinstance(reason, TimeoutError):
                raise self._late(path) from None
            raise self._unreachable(reason) from None
        except Exception as error:  # http.client's own errors about invalid HTTP
            raise self._unreachable(error) from None
        self.answered[path] = f"{len(text):,} characters"
        return text

    def _in_time(self, read: Callable[[], str]) -> str:
        """Result of `read`, in a thread that is abandoned if a server sends endless headers."""
        found: list[Any] = []

        def run() -> None:
            try:
                found.append(read())
            except BaseException as error:  # re-raised by the caller
                found.append(error)

        thread = Thread(target=run, daemon=True)
        thread.start()
        thread.join(self._left())
        if not found:
            raise TimeoutError
        if isinstance(found[0], BaseException):
            raise found[0]
        return str(found[0])

    def _left(self) -> float:
        """Seconds until the deadline. Raises TimeoutError if none are left."""
        left = self._deadline - time.monotonic()
        if left <= 0:
            raise TimeoutError
        return left

    def _late(self, path: str) -> UnreachableError:
        return UnreachableError(
            f"did not answer {path} within {self._seconds:g} seconds",
            where=self.address,
            help="save its answers to a file, and pass that: curl ADDRESS/metrics > metrics.txt",
        )

    def _unreachable(self, reason: object) -> UnreachableError:
        words = getattr(reason, "strerror", None) or visible(str(reason), 200) or type(reason).__name__
        return UnreachableError(
            f"cannot be read: {words}", where=self.address, help="check the address, and that the server runs"
        )


class _TooLargeError(Exception):
    """An answer exceeds the size limit."""


def _base(address: str) -> str:
    """Scheme, host and base path of an address, without a page."""
    try:
        parts = urlsplit(address)
        port = parts.port
    except ValueError as error:
        raise InvalidValueError(f"the address cannot be read: {visible(str(error), 200)}", help=_EXAMPLE) from None
    if parts.username is not None or parts.password is not None:
        raise InvalidValueError("the address contains a user name or a password, which is not sent", help=_EXAMPLE)
    if not parts.hostname or not parts.hostname.isascii():
        raise InvalidValueError(f"{name_shown(_without_query(parts))} has no host", help=_EXAMPLE)
    host = f"[{parts.hostname}]" if ":" in parts.hostname else parts.hostname
    path = parts.path.rstrip("/")
    for page in ("/metrics", "/v1/models", "/v1", "/version", "/get_server_info", "/props", "/slots", "/api/ps"):
        path = path.removesuffix(page)
    return f"{parts.scheme}://{host}{'' if port is None else f':{port}'}{path}"


def _without_query(parts: SplitResult) -> str:
    return f"{parts.scheme}://{parts.netloc}"


def _status(error: HTTPError) -> str:
    if error.code in range(300, 400):
        return f"{error.code}, a redirect, which is not followed"
    if error.code in (401, 403):
        return f"{error.code}, needs a key"
    return str(error.code)


def _read(url: str, body: bytes | None, seconds: float, most_bytes: int, left: Callable[[], float]) -> str:
    """Text of a page, read in pieces up to a size and a time."""
    from urllib.request import HTTPRedirectHandler, ProxyHandler, Request, build_opener

    class Stay(HTTPRedirectHandler):
        """Follows no redirect, which then ends as the error of its status."""

        def redirect_request(self, *_: object) -> None:
            return None

    headers = {"Accept-Encoding": "identity", "User-Agent": "kvcalc"}
    if body is not None:
        headers["Content-Type"] = "application/json"
    opener = build_opener(ProxyHandler({}), Stay())
    parts, size = [], 0
    with opener.open(Request(url, data=body, headers=headers), timeout=seconds) as answer:  # http alone
        while piece := answer.read1(_PIECE):
            left()
            size += len(piece)
            if size > most_bytes:
                raise _TooLargeError
            parts.append(piece)
    return b"".join(parts).decode("utf-8-sig", errors="replace")
