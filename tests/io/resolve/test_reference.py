"""How people write a repository: by its name, with a revision, a file or a quantisation, or by its address."""

from __future__ import annotations

import pytest
from huggingface_hub.utils import validate_repo_id
from hypothesis import given
from hypothesis import strategies as st

from kvcalc.io.resolve.reference import Reference, reference_of

TEXTS = {
    "Qwen/Qwen3-8B": ("Qwen/Qwen3-8B", "main", "", ""),
    "gpt2": ("gpt2", "main", "", ""),
    "Qwen/Qwen3-8B@v1.0": ("Qwen/Qwen3-8B", "v1.0", "", ""),
    "Qwen/Qwen3-8B@refs/pr/3": ("Qwen/Qwen3-8B", "refs/pr/3", "", ""),
    "b/Q-GGUF:Q4_K_M": ("b/Q-GGUF", "main", "", "Q4_K_M"),
    "b/Q-GGUF@v1:UD-Q4_K_XL": ("b/Q-GGUF", "v1", "", "UD-Q4_K_XL"),
    "b/Q-GGUF/Q-Q4_K_M.gguf": ("b/Q-GGUF", "main", "Q-Q4_K_M.gguf", ""),
    "b/Q-GGUF/Q8_0/Q-Q8_0-00001-of-00002.gguf": ("b/Q-GGUF", "main", "Q8_0/Q-Q8_0-00001-of-00002.gguf", ""),
    "b/Q-GGUF@v1/Q.gguf": ("b/Q-GGUF", "v1", "Q.gguf", ""),
    "https://huggingface.co/Qwen/Qwen3-8B": ("Qwen/Qwen3-8B", "main", "", ""),
    "https://huggingface.co/Qwen/Qwen3-8B/": ("Qwen/Qwen3-8B", "main", "", ""),
    "https://huggingface.co/Qwen/Qwen3-8B/tree/v1": ("Qwen/Qwen3-8B", "v1", "", ""),
    "https://huggingface.co/Qwen/Qwen3-8B/blob/main/config.json?x=1": ("Qwen/Qwen3-8B", "main", "", ""),
    "https://huggingface.co/b/Q-GGUF/resolve/main/Q.gguf": ("b/Q-GGUF", "main", "Q.gguf", ""),
    "hf.co/b/Q-GGUF:Q8_0": ("b/Q-GGUF", "main", "", "Q8_0"),
    "hf://Qwen/Qwen3-8B@v1": ("Qwen/Qwen3-8B", "v1", "", ""),
}
NOT_WRITTEN_SO = [
    *("", "qwen3:8b", "org/", "/org", "a/b/c", "a/b@", "a/b:", "a/..", "../b", "a--b/c", "a/b-", "a/b.git", "a b/c"),
    *(
        "a/b@../c",
        "a/b/../c.gguf",
        "a/b\n",
        "https://example.com/a/b",
        "a/" + "b" * 95,
        "https://huggingface.co/",
        "é/b",
    ),
]


@pytest.mark.parametrize(("text", "parts"), TEXTS.items())
def test_a_repository_as_it_is_written(text, parts):
    assert reference_of(text) == Reference(*parts)


@pytest.mark.parametrize("text", NOT_WRITTEN_SO)
def test_what_is_not_written_so(text):
    assert reference_of(text) is None


@given(st.text(max_size=300) | st.text("ab./@:-_~%#? \n\0", max_size=40))
def test_no_reference_leads_out_of_a_folder_or_an_address(text):
    found = reference_of(text)
    if found is not None:
        validate_repo_id(found.id)  # as the library would have it
        for part in found:
            assert not {"", ".", ".."} & {*part.split("/")} or part == ""
            assert part.isascii() and part.isprintable()
            assert not {*part} & {*"?#%\\:@"}


@given(st.from_regex(r"[A-Za-z0-9_.-]{1,40}(/[A-Za-z0-9_.-]{1,60})?", fullmatch=True))
def test_names_that_are_taken_are_names_that_the_library_takes(text):
    found = reference_of(text)
    if found is not None:
        validate_repo_id(found.id)
