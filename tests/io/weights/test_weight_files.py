"""Bytes of weights, as somebody says or as files say: what headers hold, and that no header does harm."""

from __future__ import annotations

import json
import struct
from pathlib import Path

import pytest
from gguf_files import TINY, gguf, text
from hypothesis import given
from hypothesis import strategies as st

from kvcalc.errors import InvalidFileError, InvalidValueError, KvcalcError
from kvcalc.fleet.weights import weights_of
from kvcalc.io.presets import load_preset, preset_names
from kvcalc.io.weights import read_weights
from kvcalc.methods import apply_method


def safetensors(header: object, data_bytes: int = 0) -> bytes:
    raw = header if isinstance(header, bytes) else json.dumps(header).encode()
    return struct.pack("<Q", len(raw)) + raw + bytes(data_bytes)


def tensor(first: int, end: int) -> dict:
    return {"dtype": "BF16", "shape": [(end - first) // 2], "data_offsets": [first, end]}


def with_tensors(*infos: tuple[str, tuple[int, ...], int], data_bytes: int = 0) -> bytes:
    """A GGUF file that lists these tensors: name, dimensions, type."""
    listed = b"".join(
        text(name) + struct.pack("<I", len(dims)) + struct.pack(f"<{len(dims)}Q", *dims) + struct.pack("<IQ", kind, 0)
        for name, dims, kind in infos
    )
    return gguf(TINY, tensors=len(infos)) + listed + bytes(data_bytes)


def weights_bytes(text, folder=Path()) -> int:
    return read_weights(text, folder).bytes


def written(tmp_path, name: str, content: bytes):
    path = tmp_path / name
    path.write_bytes(content)
    return path


@pytest.mark.parametrize(
    ("given_text", "expected"),
    [("671GB", 671 * 10**9), ("625GiB", 625 * 2**30), ("1.5kB", 1500), ("1048576", 2**20), (2**20, 2**20)],
)
def test_bytes_may_be_given_with_their_unit(given_text, expected):
    assert weights_bytes(given_text) == expected


# Published ---------------------------------------------------------------------------------------------------------

PUBLISHED = [model for model in map(load_preset, preset_names()) if model.weights_bytes is not None]


def test_weights_that_nobody_gives_or_published_are_asked_for():
    with pytest.raises(InvalidValueError, match=r"^weights size unknown$"):
        weights_of(load_preset("gpt-oss-20b"))
    with pytest.raises(InvalidValueError, match=r"^weights size unknown; as gqa the model was never published$"):
        weights_of(apply_method(load_preset("r1"), "gqa:8"))
    assert weights_of(apply_method(load_preset("llama-3.1-8b"), "snapkv")).bytes == 16_060_556_376


def test_weights_that_are_given_win():
    assert weights_of(load_preset("r1"), 10**9)[:2] == (10**9, "given")
    read = read_weights("1GB")
    assert weights_of(load_preset("r1"), read) is read


def test_published_weights_say_which_files_of_which_revision():
    assert len(PUBLISHED) == 17
    for model in PUBLISHED:
        repository, _, revision = model.weights_source.removesuffix(", safetensors files").partition(" at ")
        assert len(repository.split("/")) == 2, model.name
        assert len(bytes.fromhex(revision)) == 6, model.name


@pytest.mark.parametrize(
    ("name", "vocabulary", "hidden", "intermediate", "biases"),
    [
        ("llama-3.1-8b", 128_256, 4096, 14_336, 0),
        ("llama-3.1-70b", 128_256, 8192, 28_672, 0),
        ("llama-3.1-405b", 128_256, 16_384, 53_248, 0),
        ("qwen2.5-7b", 152_064, 3584, 18_944, 1),
        ("qwen2.5-14b", 152_064, 5120, 13_824, 1),
        ("qwen2.5-32b", 152_064, 5120, 27_648, 1),
        ("qwen2.5-72b", 152_064, 8192, 29_568, 1),
    ],
)
def test_published_weights_are_the_models_parameters_and_the_headers_of_their_files(
    name, vocabulary, hidden, intermediate, biases
):
    """2 bytes for each of: embeddings, head, and in each layer q, k, v, o, gate, up, down and two norms."""
    model = load_preset(name)
    facts = model.groups[0].facts
    kv = facts["num_kv_heads"] * facts["head_dim"]
    layer = 2 * hidden * hidden + 2 * hidden * kv + 3 * hidden * intermediate + 2 * hidden + biases * (hidden + 2 * kv)
    parameters = 2 * vocabulary * hidden + hidden + model.num_layers * layer
    assert 0 < model.weights_bytes - 2 * parameters < 256 * 1024


# safetensors -------------------------------------------------------------------------------------------------------


def test_an_index_says_its_total(tmp_path):
    index = {"metadata": {"total_size": 16_060_522_496}, "weight_map": {}}
    path = written(tmp_path, "model.safetensors.index.json", json.dumps(index).encode())
    assert weights_bytes(str(path)) == weights_bytes(str(tmp_path)) == 16_060_522_496
    index["metadata"]["total_size"] = 1.6e10  # as some writers put it
    path.write_text(json.dumps(index))
    assert weights_bytes(str(path)) == 16_000_000_000


def test_a_file_is_the_sum_of_its_tensors_without_its_header(tmp_path):
    header = {"__metadata__": {"format": "pt"}, "a": tensor(0, 600), "b": tensor(600, 1000)}
    path = written(tmp_path, "model.safetensors", safetensors(header, 1000))
    assert weights_bytes(str(path)) == 1000


def test_a_folder_is_the_sum_of_its_files(tmp_path):
    for number, size in enumerate((100, 200, 400)):
        written(tmp_path, f"model-{number}.safetensors", safetensors({"a": tensor(0, size)}, size))
    assert weights_bytes(str(tmp_path)) == 700
    assert weights_bytes(tmp_path.name, tmp_path.parent) == 700  # as a plan names it, relative to its own folder


@pytest.mark.parametrize(
    ("content", "what"),
    [
        (b"abc", "has no safetensors header: it is too short for one, and the file has 3"),
        (struct.pack("<Q", 2**63) + b"{}", "has no safetensors header: it claims 9,223,372,036,854,775,808 bytes"),
        (struct.pack("<Q", 3) + b"{}", "has no safetensors header: it claims 3 bytes, and the file has 10"),
        (safetensors(b"\xff{"), "has a header that is not JSON"),
        (safetensors(b"[" * 5000), "has a header that is not JSON"),
        (safetensors([1]), "has a header that is not a JSON object, but [1]"),
        (safetensors({"a": 1}), "puts 'a' at None of 0 bytes of data"),
        (safetensors({"a": tensor(0, 10)}, 9), "puts 'a' at [0, 10] of 9 bytes of data"),
        (safetensors({"a": {"data_offsets": [5, 2]}}, 9), "puts 'a' at [5, 2] of 9 bytes of data"),
        (safetensors({"a": {"data_offsets": [-5, 2]}}, 9), "puts 'a' at [-5, 2] of 9 bytes of data"),
        (safetensors({"a": {"data_offsets": [0, "9"]}}, 9), "puts 'a' at [0, '9'] of 9 bytes of data"),
        (safetensors({"a": tensor(0, 8), "b": tensor(0, 8)}, 9), "has tensors of 16 bytes, but 9 bytes of data"),
    ],
)
def test_a_hostile_file_is_refused_by_name(tmp_path, content, what):
    path = written(tmp_path, "model.safetensors", content)
    with pytest.raises(InvalidFileError) as error:
        weights_bytes(str(path))
    assert str(error.value).startswith(f"{path}: {what}")
    assert error.value.help


def test_a_header_longer_than_any_is_not_read(tmp_path):
    path = tmp_path / "model.safetensors"
    with path.open("wb") as sparse:
        sparse.write(struct.pack("<Q", 10**9))
        sparse.truncate(2 * 10**9)
    with pytest.raises(InvalidFileError, match="it claims 1,000,000,000 bytes"):
        weights_bytes(str(path))


@pytest.mark.parametrize("total", [None, "16GB", -1, 1.5, True, [1]])
def test_an_index_without_a_total_is_refused(tmp_path, total):
    path = written(tmp_path, "model.safetensors.index.json", json.dumps({"metadata": {"total_size": total}}).encode())
    with pytest.raises(InvalidFileError, match=r"has no metadata\.total_size in bytes"):
        weights_bytes(str(path))


@pytest.mark.parametrize("content", ["[]", "{}", '{"metadata": 1}'])
def test_an_index_that_is_none_is_refused(tmp_path, content):
    path = written(tmp_path, "model.safetensors.index.json", content.encode())
    with pytest.raises(InvalidFileError, match=r"has no metadata\.total_size"):
        weights_bytes(str(path))


@given(st.binary(max_size=200))
def test_no_file_ends_in_a_traceback(tmp_path_factory, content):
    folder = tmp_path_factory.mktemp("files")
    for name in ("model.safetensors", "model.gguf", "model.safetensors.index.json"):
        path = written(folder, name, content)
        try:
            assert weights_bytes(str(path)) >= 0
        except KvcalcError as error:
            assert error.help


# GGUF --------------------------------------------------------------------------------------------------------------


def test_a_gguf_file_is_the_sum_of_the_tensors_that_it_lists(tmp_path):
    """f32 4 bytes, f16 2, q8_0 34 for 32, q4_K 144 for 256, q6_K 210 for 256, mxfp4 17 for 32."""
    infos = [
        *(("norm", (64,), 0), ("embed", (64, 10), 1), ("q8", (64, 4), 8), ("q4_k", (512, 3), 12)),
        *(("q6_k", (256, 5), 14), ("mxfp4", (64, 2, 3), 39)),
    ]
    expected = 64 * 4 + 640 * 2 + 8 * 34 + 6 * 144 + 5 * 210 + 12 * 17
    path = written(tmp_path, "model.gguf", with_tensors(*infos, data_bytes=expected))
    assert weights_bytes(str(path)) == expected
    assert weights_bytes(str(tmp_path)) == expected


def test_a_split_model_is_the_sum_of_its_parts(tmp_path):
    for number, width in ((1, 10), (2, 20)):
        content = with_tensors(("a", (width,), 0), data_bytes=4 * width)
        written(tmp_path, f"big-{number:05}-of-00002.gguf", content)
    assert weights_bytes(str(tmp_path / "big-00002-of-00002.gguf")) == 120
    (tmp_path / "big-00001-of-00002.gguf").unlink()
    with pytest.raises(InvalidFileError, match="is one of 2 parts, of which 1 exist"):
        weights_bytes(str(tmp_path / "big-00002-of-00002.gguf"))


@pytest.mark.parametrize(
    ("content", "what"),
    [
        (with_tensors(("a", (2**40, 2**20), 0)), "lists tensors of 4,611,686,018,427,387,904 bytes, but 0 are left"),
        (with_tensors(("a", (64,), 99), data_bytes=64), "stores 'a' in an unknown type 99"),
        (with_tensors(("a", (1,) * 5, 0)), "gives 'a' 5 dimensions; the limit is 4"),
        (with_tensors(("a", (), 0)), "gives 'a' 0 dimensions; the limit is 4"),
        (gguf(TINY, tensors=2**40), "claims 1,099,511,627,776 tensors; the limit is 16,384"),
        (with_tensors(("a" * 300, (1,), 0)), "has a tensor's name of 300 bytes; the limit is 256"),
        (with_tensors(("a\nb", (1,), 99)), r"stores 'a\nb' in an unknown type 99"),
        (gguf(TINY, tensors=1), "ends in the middle of a value"),
    ],
)
def test_a_hostile_list_of_tensors_is_refused_by_name(tmp_path, content, what):
    path = written(tmp_path, "model.gguf", content)
    with pytest.raises(InvalidFileError) as error:
        weights_bytes(str(path))
    assert what in str(error.value)
    assert error.value.help


# Paths -------------------------------------------------------------------------------------------------------------


def test_paths_that_hold_no_weights_are_refused(tmp_path):
    (tmp_path / "empty").mkdir()
    (tmp_path / "readme.md").write_text("weights")
    for number in (1, 2):
        written(tmp_path, f"{number}.gguf", with_tensors())
    for name, what in {
        "empty": "is a folder with no safetensors and no GGUF",
        "readme.md": "contains no known weights",
        "nowhere/model.safetensors": "no such file",
        "./nowhere": "no such file",
        ".": "is a folder with 2 GGUF files, possibly several models",
    }.items():
        with pytest.raises(InvalidFileError) as error:
            weights_bytes(name, tmp_path)
        assert what in str(error.value)
        assert error.value.help
