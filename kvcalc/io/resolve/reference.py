"""References to Hugging Face Hub repositories, with a revision, a file or a quantisation.

    Qwen/Qwen3-8B                    the whole repository, at main
    Qwen/Qwen3-8B@b968826            at a branch, a tag, a commit or refs/pr/1
    bartowski/Q-GGUF:Q4_K_M          the GGUF file of that quantisation, as llama.cpp's -hf names it
    bartowski/Q-GGUF/Q-Q4_K_M.gguf   that file
    https://huggingface.co/Qwen/Qwen3-8B/tree/main, hf.co/..., hf://...

Source: huggingface_hub, utils/_validators.py (names); llama.cpp, common/arg.cpp (-hf).
"""

from __future__ import annotations

import re
from typing import NamedTuple

MAIN = "main"
LONGEST_ID = 96
"""Longest name on the Hub, in characters."""
_WORD = r"[A-Za-z0-9_][\w.-]*"
_REVISION = r"(?:refs/[\w-]+/[\w.-]+|[\w.-]+)"
_FILE = r"(?:[\w.+ -]+/)*[\w.+ -]+\.gguf"
_REFERENCE = (
    rf"(?P<id>{_WORD}(?:/{_WORD})?)(?:@(?P<revision>{_REVISION}))?(?:/(?P<file>{_FILE})|:(?P<quantisation>[\w.-]+))?"
)
_ADDRESS = r"(?:(?:https?://)?(?:www\.)?(?:huggingface\.co|hf\.co)/|hf://)(?P<rest>[^?#]+)(?:[?#].*)?"
_PAGE = rf"(?P<id>{_WORD}/{_WORD})/(?:tree|blob|resolve)/(?P<revision>[^/]+)(?:/(?P<file>.*))?"
LONGEST = 1000
"""Longest URL, in characters."""


class Reference(NamedTuple):
    """A repository as named. revision: default main; file, quantisation: of a GGUF file."""

    id: str
    revision: str = MAIN
    file: str = ""
    quantisation: str = ""


def reference_of(text: str) -> Reference | None:
    """The repository in a text; None if it does not have the form of one."""
    if len(text) > LONGEST:
        return None
    if (address := re.fullmatch(_ADDRESS, text)) is not None:
        text = address["rest"].rstrip("/")
        if (page := re.fullmatch(_PAGE, text, re.ASCII)) is not None:
            file = page["file"] or ""
            text = f"{page['id']}@{page['revision']}" + (f"/{file}" if file.endswith(".gguf") else "")
    found = re.fullmatch(_REFERENCE, text, re.ASCII)
    if found is None or not _is_id(found["id"]) or ".." in text:
        return None
    if found["quantisation"] and "/" not in found["id"]:  # qwen3:8b is an Ollama tag
        return None
    return Reference(found["id"], found["revision"] or MAIN, found["file"] or "", found["quantisation"] or "")


def _is_id(text: str) -> bool:
    words = text.split("/")
    return (
        len(text) <= LONGEST_ID
        and "--" not in text
        and not text.endswith((".git", ".gguf"))
        and not any(word[-1] in "-." for word in words)
    )
