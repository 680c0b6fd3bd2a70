"""Requests to a hub, each with a limit of bytes and a deadline; the only importer of huggingface_hub.

The library decides the hub, the token, the cache and offline mode (HF_ENDPOINT, HF_TOKEN and its file, HF_HUB_CACHE,
HF_HUB_OFFLINE, HF_HUB_DOWNLOAD_TIMEOUT), builds addresses, and opens connections with its proxies and certificates.
Answers are read here: its own downloads have no limits on size and time.

Only the status and X-Error-Code of a server's error are used, never its text. No address and no header is shown: they
may contain a token.
"""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from queue import Empty, SimpleQueue
from threading import Thread
from typing import TYPE_CHECKING, Any, NamedTuple, TypeVar

from kvcalc.errors import InvalidFileError, KvcalcError
from kvcalc.errors.extras import install
from kvcalc.io.hub.refusals import OTHER_WAYS, refused

if TYPE_CHECKING:
    from types import ModuleType

Result = TypeVar("Result")
INSTALL = install("hub")
OLDEST = 1
"""First supported major version of huggingface_hub."""
OK, PARTIAL = 200, 206
WAITS, ALL_WAITS = 3, 12
"""Limits as multiples of HF_HUB_DOWNLOAD_TIMEOUT: for one request, and for everything read for one name."""
MAX_REDIRECTS = 8
_RANGE = re.compile(r"bytes (\d{1,18})-(\d{1,18})/(\d{1,18})")
_HOST = re.compile(r"https?://(?:[^@/?#]*@)?([\w.-]+(?::\d+)?)(?:[/?#]|$)")
"""An address's host and port, without a name and a password before it."""


class Answer(NamedTuple):
    """A hub's answer. total_bytes: of the whole file, if a range was requested.

    headers: of the hub itself, before redirecting to file storage; names in lower case.
    """

    content: bytes
    headers: Mapping[str, str]
    total_bytes: int | None = None


class Client:
    """Reads for one name, with a common deadline. Raises KvcalcError if the library is not installed."""

    def __init__(self) -> None:
        self._library = _library()
        constants = self._library.constants
        self._seconds = int(constants.HF_HUB_DOWNLOAD_TIMEOUT)
        self._ends = time.monotonic() + ALL_WAITS * self._seconds
        self.cache = Path(constants.HF_HUB_CACHE)
        self.is_offline = bool(constants.HF_HUB_OFFLINE)
        self.has_symlinks = not vars(constants).get("HF_HUB_DISABLE_SYMLINKS")  # of recent versions
        self._endpoint = str(constants.ENDPOINT)

    @property
    def host(self) -> str:
        """The hub's host, possibly a mirror; never the rest of its address."""
        found = _HOST.match(self._endpoint)
        return found[1] if found else "HF_ENDPOINT"

    def repository(self, id: str, revision: str, most: int) -> Answer:
        """The hub's description of a repository at a revision, as JSON."""
        where = id if revision == "main" else f"{id}@{revision}"
        return self._get(f"{self._endpoint}/api/models/{id}/revision/{revision.replace('/', '%2F')}", where, most)

    def file(self, id: str, commit: str, file: str, most: int) -> Answer:
        """A whole file of at most `most` bytes."""
        return self._get(self._address(id, commit, file), f"{id}/{file}", most)

    def part(self, id: str, commit: str, file: str, first: int, number: int) -> Answer:
        """Bytes of a file from `first`: `number`, or as many as are left."""
        return self._get(self._address(id, commit, file), f"{id}/{file}", number, first)

    def _address(self, id: str, commit: str, file: str) -> str:
        return str(self._library.hf_hub_url(id, file, revision=commit, endpoint=self._endpoint))

    def _get(self, address: str, where: str, most: int, first: int | None = None) -> Answer:
        seconds = min(WAITS * self._seconds, self._ends - time.monotonic())
        if seconds <= 0:
            raise self._late(where)
        request = _Request(self._library, address, where, most, first, self._seconds, time.monotonic() + seconds)
        try:
            return _within(seconds, request.answer)
        except KvcalcError:
            raise
        except TimeoutError:
            raise self._late(where) from None
        except Exception as error:  # anything raised by any client version; its text may contain an address
            raise self._failed(where, type(error)) from None

    def _late(self, where: str) -> InvalidFileError:
        return InvalidFileError(
            f"{self.host} did not answer in time",
            where=where,
            help=f"HF_HUB_DOWNLOAD_TIMEOUT={3 * self._seconds} waits longer; or {OTHER_WAYS}",
        )

    def _failed(self, where: str, kind: type[Exception]) -> InvalidFileError:
        names = {base.__name__ for base in kind.__mro__}
        if "OfflineModeIsEnabled" in names:
            return InvalidFileError(
                "is not in the cache, and HF_HUB_OFFLINE is set", where=where, help="unset HF_HUB_OFFLINE"
            )
        if "TimeoutException" in names:
            return self._late(where)
        if names & {"ConnectError", "ProxyError", "UnsupportedProtocol", "InvalidURL"}:
            return InvalidFileError(
                f"{self.host} cannot be reached ({kind.__name__})",
                where=where,
                help="check the connection, HF_ENDPOINT and HTTPS_PROXY; HF_HUB_OFFLINE=1 reads only the cache",
            )
        return InvalidFileError(
            f"the answer of {self.host} was interrupted ({kind.__name__})",
            where=where,
            help=f"try again; or {OTHER_WAYS}",
        )


class _Request(NamedTuple):
    """A request for a file or a part. first: start of the part; None for the whole file. ends: deadline."""

    library: ModuleType
    address: str
    where: str
    most: int
    first: int | None
    wait_seconds: int
    ends: float

    def answer(self) -> Answer:
        """Sends the request and follows redirects. Raises KvcalcError if the hub refuses."""
        client = self.library.utils.get_session()
        request = client.build_request("GET", self.address, headers=self._headers(), timeout=self.wait_seconds)
        own: Mapping[str, str] | None = None
        for _ in range(MAX_REDIRECTS):
            response = client.send(request, stream=True, follow_redirects=False)
            try:
                headers = {name.lower(): value for name, value in response.headers.items()}
                own = {**headers, **own} if own else headers
                if response.next_request is None:
                    return self._read(response, headers, own)
                request = response.next_request  # without the token if it is another host
            finally:
                response.close()
        raise self._wrong(f"is redirected more than {MAX_REDIRECTS} times")

    def _headers(self) -> dict[str, str]:
        from kvcalc import __version__

        agent = f"kvcalc/{__version__}; hf_hub/{self.library.__version__}"
        headers = {"user-agent": agent, "accept-encoding": "identity"}
        if token := self.library.utils.get_token_to_send(None):
            headers["authorization"] = f"Bearer {token}"
        if self.first is not None:
            headers["range"] = f"bytes={self.first}-{self.first + self.most - 1}"
        return headers

    def _read(self, response: Any, headers: Mapping[str, str], own: Mapping[str, str]) -> Answer:
        status = int(response.status_code)
        if status not in (OK, PARTIAL):
            code, sent = own.get("x-error-code", ""), "authorization" in self._headers()
            raise refused(status, code, self.where, has_token=sent)
        if headers.get("content-encoding", "identity") != "identity":
            raise self._wrong("was sent compressed, which was not requested")
        if self.first is None and status == PARTIAL:
            raise self._wrong("was sent in part, although all of it was requested")
        if self.first is None:
            return Answer(self._content(response, self.most, whole=True), own)
        if status == OK and self.first == 0 and (length := headers.get("content-length", "")).isdecimal():
            return Answer(self._content(response, self.most, whole=False), own, int(length))
        found = _RANGE.fullmatch(headers.get("content-range", ""))
        if status != PARTIAL or found is None or int(found[1]) != self.first:
            raise self._wrong("cannot be read in parts, and is too large to read completely")
        number = min(self.most, int(found[3]) - self.first)
        content = self._content(response, number, whole=False)
        if len(content) < number:
            raise self._wrong(f"ends after {len(content):,} bytes of a part of {number:,}")
        return Answer(content, own, int(found[3]))

    def _content(self, response: Any, most: int, *, whole: bool) -> bytes:
        """The content, up to `most` bytes; whole: more is an error."""
        content = bytearray()
        for chunk in response.iter_raw():
            if time.monotonic() > self.ends:
                raise TimeoutError
            content += chunk
            if whole and len(content) > most:
                raise self._wrong(f"is larger than the limit of {most:,} bytes")
            if len(content) >= most and not whole:
                break
        return bytes(content[:most])

    def _wrong(self, what: str) -> InvalidFileError:
        return InvalidFileError(what, where=self.where, help=OTHER_WAYS)


def _library() -> ModuleType:
    """huggingface_hub with the required imports. Raises KvcalcError if it is missing or too old."""
    try:
        import huggingface_hub
        import huggingface_hub.constants
        import huggingface_hub.utils
    except ImportError:
        raise KvcalcError("--hub needs huggingface_hub, which is not installed", help=INSTALL) from None
    except ValueError:  # HF_HUB_DOWNLOAD_TIMEOUT=soon
        raise KvcalcError(
            "--hub: huggingface_hub cannot parse its environment variables",
            help="check HF_HUB_DOWNLOAD_TIMEOUT and the other HF_ variables",
        ) from None
    version = huggingface_hub.__version__
    if int(version.partition(".")[0]) < OLDEST:
        raise KvcalcError(f"--hub needs huggingface_hub {OLDEST} or newer, but {version} is installed", help=INSTALL)
    return huggingface_hub


def _within(seconds: float, work: Callable[[], Result]) -> Result:
    """The result of `work`. Raises TimeoutError after `seconds`, also if it waits for name resolution.

    A late thread is abandoned: it ends with its next chunk, or with this process.
    """
    done: SimpleQueue[tuple[Result | None, Exception | None]] = SimpleQueue()

    def run() -> None:
        try:
            done.put((work(), None))
        except Exception as error:
            done.put((None, error))

    Thread(target=run, daemon=True, name="kvcalc-hub").start()
    try:
        result, error = done.get(timeout=seconds)
    except Empty:
        raise TimeoutError from None
    if error is not None:
        raise error
    return result  # type: ignore[return-value]  # no error: the work's own
