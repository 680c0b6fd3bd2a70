"""GGUF files: what their headers hold, and that no header, however made, does harm."""

from __future__ import annotations

import os
import resource
import struct
import subprocess
import sys
import time

import pytest
from gguf_files import ARRAY, STRING, TINY, UINT32, gguf, header, length, text, typed
from hypothesis import given
from hypothesis import strategies as st

import kvcalc
from kvcalc.errors import KvcalcError
from kvcalc.io.gguf import header as reader

SECONDS, MEGABYTES = 1, 100  # of the processor, which a busy machine does not change


def loaded(tmp_path, content: bytes, name: str = "model.gguf") -> kvcalc.Model:
    path = tmp_path / name
    path.write_bytes(content)
    return kvcalc.load(path)


@pytest.mark.parametrize("order", "<>")
@pytest.mark.parametrize("version", [1, 2, 3])
def test_every_version_and_byte_order_is_read(tmp_path, version, order):
    model = loaded(tmp_path, gguf(TINY, version, order))
    assert (model.name, model.max_model_len, model.model_type) == ("tiny", 4096, "llama")
    assert [(group.label, group.layers) for group in model.groups] == [("GQA-2", (0,)), ("MQA", (1,))]
    assert kvcalc.size(model, tokens=100, kv_dtype="fp16").total_bytes == 100 * 2 * (16 + 16) * (2 + 1)


def test_a_mapping_is_read_as_a_file_is(tmp_path):
    assert kvcalc.load(TINY).groups == loaded(tmp_path, gguf(TINY)).groups


def test_the_tokenizer_is_stepped_over_and_what_comes_after_it_is_read(tmp_path):
    tokens = {"tokenizer.ggml.tokens": [f"token {i}" for i in range(60_000)], "tokenizer.ggml.scores": [0] * 60_000}
    first = {"general.architecture": "llama"}
    after = {key: value for key, value in TINY.items() if key not in first}
    assert loaded(tmp_path, gguf(first | tokens | after)).groups == kvcalc.load(TINY).groups


def test_tensors_are_never_read(tmp_path):
    path = tmp_path / "large.gguf"
    with path.open("wb") as file:
        file.write(gguf(TINY, tensors=3))
        file.truncate(2**40)  # sparse: 1 TiB that takes no room
    assert kvcalc.load(path).groups == kvcalc.load(TINY).groups


def test_a_file_without_the_suffix_is_known_by_its_magic(tmp_path):
    assert loaded(tmp_path, gguf(TINY), "sha256-0123").groups == kvcalc.load(TINY).groups


def test_what_is_no_file_is_neither_waited_for_nor_looked_into(tmp_path):
    os.mkfifo(tmp_path / "pipe.gguf")
    (tmp_path / "folder.gguf").mkdir()
    for name in ("pipe.gguf", "folder.gguf"):
        with pytest.raises(kvcalc.InvalidFileError, match=r"is a (pipe, not a file|directory)|Is a directory"):
            kvcalc.load(tmp_path / name)
    os.mkfifo(tmp_path / "pipe")
    assert not reader.is_gguf(tmp_path / "pipe")
    with pytest.raises(kvcalc.InvalidFileError, match="no such file"):
        kvcalc.load(tmp_path / "nowhere.gguf")


def test_of_a_split_model_the_first_part_is_read(tmp_path):
    (tmp_path / "m-00002-of-00002.gguf").write_bytes(gguf({"split.no": 1, "split.count": 2}))
    with pytest.raises(kvcalc.InvalidFileError, match=r"is part 2 of 2, and m-00001-of-00002.gguf is not next to it"):
        kvcalc.load(tmp_path / "m-00002-of-00002.gguf")
    (tmp_path / "m-00001-of-00002.gguf").write_bytes(gguf(TINY | {"split.no": 0, "split.count": 2}))
    assert kvcalc.load(tmp_path / "m-00002-of-00002.gguf").groups == kvcalc.load(TINY).groups


def test_the_command_line_reads_a_gguf_file(cli, tmp_path):
    (tmp_path / "tiny.gguf").write_bytes(gguf(TINY))
    outcome = cli(f"size --model {tmp_path}/tiny.gguf --tokens 100 --format json")
    assert (outcome.code, outcome.stderr) == (0, "")
    assert '"total_bytes": 19200' in outcome.stdout
    explained = cli(f"size --model {tmp_path}/tiny.gguf --tokens 100 --explain", columns=160)
    assert "llama.attention.head_count_kv" in explained.stdout


KEY = text("k")
HEADLESS = {
    "general.architecture": "plamo2",
    **{f"plamo2.{key}": 4 for key in ("block_count", "ssm.conv_kernel", "ssm.time_step_rank", "ssm.state_size")},
    **{"plamo2.embedding_length": 64, "plamo2.ssm.inner_size": 64, "plamo2.ssm.group_count": 1},
    **{"plamo2.attention.head_count": [0, 2, 2, 4], "plamo2.attention.head_count_kv": [0, 2, 1, 4]},
}
LONG = 2**63
HOSTILE = {
    "empty": (b"", "is not a GGUF file: it starts with b''"),
    "another format": (b"PK\x03\x04" + bytes(100), "is not a GGUF file: it starts with"),
    "only the magic": (b"GGUF", "ends in the middle of a value: it needs 4 more bytes, and 0 are left"),
    "a version to come": (header(1, version=9), "has GGUF version 9; supported: 1 to 3"),
    "counts of 2^63": (header(LONG), "claims 9,223,372,036,854,775,808 keys; the limit is 16,384"),
    "more keys than there are": (header(5) + KEY + typed(1), "ends in the middle of a value: it needs 8 more bytes"),
    "a key of 2^63 bytes": (
        header(1) + length(LONG),
        "ends in the middle of a key: it needs 9,223,372,036,854,775,808",
    ),
    "a key too long": (header(1) + text("k" * 5000) + typed(1), "has a key of 5,000 bytes; the limit is 1,024"),
    "a key that is no text": (header(1) + text(b"\xff\xfe") + typed(1), "contains a key that is not UTF-8"),
    "a text that is no text": (
        header(1) + KEY + struct.pack("<I", STRING) + text(b"\xff"),
        "contains a text that is not",
    ),
    "a text of 2^63 bytes": (header(1) + KEY + struct.pack("<IQ", STRING, LONG), "ends in the middle of a text"),
    "a key twice": (header(2) + (KEY + typed(1)) * 2, "the key 'k' occurs twice"),
    "a type that is none": (header(1) + KEY + struct.pack("<I", 99), "is of type 99, which GGUF does not have"),
    "an array of 2^63 numbers": (header(1) + KEY + struct.pack("<IIQ", ARRAY, UINT32, LONG), "the middle of an array"),
    "an array of 2^63 strings": (header(1) + KEY + struct.pack("<IIQ", ARRAY, STRING, LONG), "of all arrays to 9,223,"),
    "an array of arrays": (header(1) + KEY + struct.pack("<IIQ", ARRAY, ARRAY, 2), "is an array of arrays"),
    "an array of no type": (header(1) + KEY + struct.pack("<IIQ", ARRAY, 77, 2), "is an array of type 77"),
    "a string in an array beyond the end": (
        header(2) + KEY + struct.pack("<IIQ", ARRAY, STRING, 1) + length(LONG),
        "ends in the middle of a text in an array",
    ),
    "metadata without end": (
        header(200) + b"".join(text(f"k{i}") + typed("x" * 4000) for i in range(200)),
        "exceeds the limit of the header's values",
    ),
    "a key without a name, twice": (header(2) + (text("") + typed(1)) * 2, "the key '' occurs twice"),
    "a key that breaks the line": (header(2) + (text("a\nb") + typed(1)) * 2, r"the key 'a\nb' occurs twice"),
    "arrays in arrays": (
        header(1) + KEY + struct.pack("<I", ARRAY) + struct.pack("<IQ", ARRAY, 1) * 1000,
        "is an array of arrays",
    ),
    "numbers that overflow in all": (header(1) + KEY + struct.pack("<IIQ", ARRAY, 12, 2**61), "the middle of an array"),
    "an architecture that is no text": (
        header(1) + text("general.architecture") + struct.pack("<I", STRING) + text(b"\xff\xfe"),
        "contains a text that is not UTF-8",
    ),
    "an architecture that breaks the line": (gguf({"general.architecture": "llama\n"}), r"architecture 'llama\n'"),
    "an architecture in a list": (gguf({"general.architecture": ["llama"]}), "of the architecture Array"),
    "layers that are a fraction": (gguf(TINY | {"llama.block_count": 2.0}), "block_count: block_count must be a whole"),
    "layers that are a truth": (gguf(TINY | {"llama.block_count": True}), "must be a whole number, not True"),
    "2^31 layers": (gguf(TINY | {"llama.block_count": 2**31}), "block_count must be at most 512, not 2147483648"),
    "no heads to work a width out from": (
        gguf(HEADLESS),
        "bad.gguf: attention.key_length is missing",
    ),
    "no architecture": (gguf({"general.name": "x"}), "no language model of the architecture None"),
}


@pytest.mark.parametrize("name", HOSTILE)
def test_a_hostile_header_ends_in_one_clear_line(name, tmp_path, cli):
    content, message = HOSTILE[name]
    (tmp_path / "bad.gguf").write_bytes(content)
    start = time.process_time()
    outcome = cli(["size", "--model", str(tmp_path / "bad.gguf"), "--tokens", "1"])
    assert time.process_time() - start < SECONDS
    what, help = outcome.stderr.splitlines()
    assert (outcome.code, outcome.stdout) == (2, "")
    assert message in what
    assert "bad.gguf" in what
    assert help.startswith("help: ")


@pytest.mark.parametrize("cut", range(0, len(gguf(TINY)), 7))
def test_a_file_cut_short_anywhere_is_refused(cut, tmp_path):
    with pytest.raises(kvcalc.InvalidFileError):
        loaded(tmp_path, gguf(TINY)[:cut])


def _sparse(path, head: bytes, size: int) -> None:
    with path.open("wb") as file:
        file.write(head)
        file.truncate(size)


GREEDY = {
    "as many strings as may be": header(1) + KEY + struct.pack("<IIQ", ARRAY, STRING, reader.MAX_STRINGS),
    "too many strings": header(1) + KEY + struct.pack("<IIQ", ARRAY, STRING, reader.MAX_STRINGS + 1),
    "a gigabyte of numbers": header(2) + KEY + struct.pack("<IIQ", ARRAY, UINT32, 2**28),
    "as many keys as may be": header(reader.MAX_PAIRS),
}


@pytest.mark.parametrize("name", GREEDY)
def test_a_greedy_header_takes_little_time_and_memory(name, tmp_path):
    """A file of 16 GiB of zeros behind the header: all that it claims is there."""
    path = tmp_path / "greedy.gguf"
    _sparse(path, GREEDY[name], 2**34)
    script = (
        "import resource, sys, time, kvcalc, kvcalc.io.gguf.header, kvcalc.io.gguf\n"
        "before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss\n"
        "start = time.process_time()\n"
        "try:\n    kvcalc.load(sys.argv[1])\n"
        "except kvcalc.KvcalcError as error:\n    assert chr(10) not in str(error)\n"
        "print(time.process_time() - start, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before)"
    )
    done = subprocess.run([sys.executable, "-c", script, path], capture_output=True, text=True, check=True)
    seconds, kibibytes = map(float, done.stdout.split())
    assert seconds < SECONDS
    assert kibibytes < MEGABYTES * 1000


def test_the_bound_on_memory_can_be_broken():
    """What the guard above measures does rise with what is built."""
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    script = "import resource; x = b'x' * 110_000_000; print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert int(done.stdout) > MEGABYTES * 1000
    assert before > 0


@given(st.binary(max_size=400), st.integers(0, len(gguf(TINY))), st.integers(0, 60))
def test_no_bytes_end_in_anything_but_an_answer_or_an_error(tmp_path_factory, patch, at, dropped):
    """A good header with any bytes put over it or into it."""
    good = gguf(TINY)
    path = tmp_path_factory.getbasetemp() / "fuzzed.gguf"
    path.write_bytes(good[:at] + patch + good[at + dropped :])
    try:
        model = kvcalc.load(path)
        kvcalc.size(model, tokens=1000, engine="llama_cpp")
    except KvcalcError as error:
        assert "\n" not in str(error)


VALUES = (
    st.none() | st.booleans() | st.integers(-(2**70), 2**70) | st.floats() | st.text(max_size=5)
    | st.lists(st.integers(-1, 5) | st.booleans() | st.text(max_size=2), max_size=4)
)  # fmt: skip
KEYS = (
    *("block_count", "context_length", "embedding_length", "nextn_predict_layers", "attention.head_count"),
    *("attention.head_count_kv", "attention.key_length", "attention.value_length", "attention.sliding_window"),
    *("attention.sliding_window_pattern", "attention.key_length_mla", "attention.value_length_mla"),
    *("attention.kv_lora_rank", "attention.indexer.key_length", "attention.indexer.types", "attention.compress_ratios"),
    *("attention.shared_kv_layers", "attention.recurrent_layers", "full_attention_interval", "feed_forward_length"),
    *("ssm.conv_kernel", "ssm.inner_size", "ssm.state_size", "ssm.time_step_rank", "ssm.group_count", "wkv.head_size"),
    *("kda.head_dim", "shortconv.l_cache", "rope.dimension_count", "leading_dense_block_count", "num_loops"),
)


@given(st.data())
def test_any_metadata_is_a_model_or_an_error(data):
    """Every architecture, with sound numbers, of which a few are replaced by anything."""
    from kvcalc.engines.llama_cpp.architectures import MODEL_TYPES

    architecture = data.draw(st.sampled_from(sorted(MODEL_TYPES)))
    metadata = {key: data.draw(st.integers(0, 8)) for key in KEYS} | {"block_count": 4, "embedding_length": 64}
    metadata |= data.draw(st.dictionaries(st.sampled_from(KEYS), VALUES, max_size=4))
    named = {f"{architecture}.{key}": value for key, value in metadata.items() if value is not None}
    try:
        model = kvcalc.load({"general.architecture": architecture, **named})
        kvcalc.size(model, tokens=1000, sequences=2, engine="llama_cpp")
    except KvcalcError as error:
        assert "\n" not in str(error)
        assert error.help


@pytest.mark.parametrize(
    ("metadata", "message"),
    [
        ({"general.architecture": "lama"}, "no language model of the architecture 'lama'"),
        ({"general.architecture": 7}, "no language model of the architecture 7"),
        ({"llama.block_count": 0}, "model: llama.block_count: block_count must be at least 1, not 0"),
        ({"llama.block_count": 513}, "block_count must be at most 512, not 513"),
        (
            {"llama.nextn_predict_layers": 3},
            "nextn_predict_layers: leaves no layer for the model: 3 of 2 layers (block_count)",
        ),
        ({"llama.attention.head_count_kv": [1]}, "head_count_kv: has 1 entries for 2 layers"),
        ({"llama.attention.head_count_kv": [1, -1]}, "must be at least 1, not -1"),
        ({"llama.attention.head_count_kv": "two"}, "must be a whole number, not 'two'"),
        ({"llama.attention.head_count_kv": 3}, "num_query_heads (4) is not a multiple of num_kv_heads (3)"),
        ({"llama.attention.head_count": 0}, "layer 0 has KV heads but no query heads"),
    ],
)
def test_bad_metadata_is_refused_by_its_key(metadata, message):
    with pytest.raises(KvcalcError) as error:
        kvcalc.load(TINY | metadata)
    assert message in str(error.value)
    assert error.value.help


def test_a_gguf_file_needs_no_assumption():
    with pytest.raises(kvcalc.InvalidValueError, match="GGUF metadata does not need it"):
        kvcalc.load(TINY, assume="gqa")


def test_a_key_that_is_not_read_is_named():
    model = kvcalc.load(TINY | {"llama.attention.sliding_window": 4096})
    assert model.notes == ("keys that llama.cpp does not read for this architecture: llama.attention.sliding_window",)


@pytest.mark.parametrize(
    ("more", "widths"),
    [
        ({"llama.vocab_size": 128_256}, (64, 256, 128_256)),
        ({"tokenizer.ggml.tokens": [f"token {i}" for i in range(5_000)]}, (64, 256, 5_000)),
        ({"llama.vocab_size": 9, "llama.expert_used_count": 2, "llama.expert_feed_forward_length": 300}, (64, 600, 9)),
        ({}, None),
    ],
)
def test_widths_of_activations_are_those_of_the_metadata(tmp_path, more, widths):
    sizes = {"llama.embedding_length": 64, "llama.feed_forward_length": 256}
    found = loaded(tmp_path, gguf(TINY | sizes | more)).checkpoint.widths
    assert (None if found is None else found[:3]) == widths
