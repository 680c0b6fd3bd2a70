"""Meaning of a hub's status and X-Error-Code; its own text is never repeated.

Source: huggingface_hub, utils/_http.py.
"""

from __future__ import annotations

from kvcalc.errors import InvalidFileError, KvcalcError, UnknownNameError

UNAUTHORISED, FORBIDDEN, MISSING, TOO_MANY, BROKEN = 401, 403, 404, 429, 500
OTHER_WAYS = "download it and name its folder, or remove --hub"
_CODES = {UNAUTHORISED: "RepoNotFound", FORBIDDEN: "Forbidden", MISSING: "EntryNotFound", TOO_MANY: "TooMany"}
"""The error code implied by a status, if none is sent."""
_REFUSALS: dict[str, tuple[type[KvcalcError], str, str]] = {
    "GatedRepo": (
        InvalidFileError,
        "is gated: its authors grant access on request",
        "request access on its page, then set HF_TOKEN to a token of that account",
    ),
    "RepoNotFound": (
        UnknownNameError,
        "no such repository, or it is private",
        "check the name; for a private one set HF_TOKEN",
    ),
    "RevisionNotFound": (
        UnknownNameError,
        "has no such revision",
        "name a branch, a tag or a commit, or remove the revision",
    ),
    "EntryNotFound": (UnknownNameError, "does not exist", OTHER_WAYS),
    "Forbidden": (InvalidFileError, "may not be read (403)", "set HF_TOKEN to a token with read access"),
    "TooMany": (InvalidFileError, "the hub reports too many requests (429)", "wait, or set HF_TOKEN"),
}


def refused(status: int, code: str, where: str, *, has_token: bool) -> KvcalcError:
    """The error for a refused request. has_token: whether one was sent."""
    known = _REFUSALS.get(code) or _REFUSALS.get(_CODES.get(status, ""))
    if known is None:
        later = "try again later" if status >= BROKEN else "check HF_ENDPOINT"
        return InvalidFileError(f"failed with status {status}", where=where, help=f"{later}; or {OTHER_WAYS}")
    kind, what, help = known
    sent = "; the token that was sent has no access" if has_token and "HF_TOKEN" in help else ""
    return kind(what, where=where, help=help + sent)
