"""Whatever a path names, and however large it is: the end comes at once, and it is one line."""

from __future__ import annotations

import json
import os
import struct
import subprocess
import sys
import threading
from pathlib import Path

import pytest
from costs import cost

import kvcalc
from kvcalc.io.files import read_bytes

PRESET = "num_layers: 2\nattention: gqa\nnum_query_heads: 2\nnum_kv_heads: 1\nhead_dim: 64\n"
LLAMA = {"model_type": "llama", "num_hidden_layers": 2, "num_attention_heads": 4, "hidden_size": 256}
KV_KEYS = {f"kv_cache_num_layers{n}": 1 for n in range(30_000)}
MOST_BYTES = 200 * 10**6
MOST_SECONDS = 4
"""Twice what is promised: the machine may be busy, and start-up is counted, too."""


LARGE = {
    "600,000 unknown keys": (
        "json",
        lambda: json.dumps(LLAMA | {f"k{n}": 1 for n in range(600_000)}),
        "is larger than 2,097,152 bytes (8,288,983)",
    ),
    "7 MB of YAML": ("yaml", lambda: PRESET + "".join(f"k{n}: 1\n" for n in range(700_000)), "larger than 2,097,152"),
    "1 MB of keys": (
        "yaml",
        lambda: PRESET + "".join(f"k{n}: 1\n" for n in range(130_000)),
        "more than 125,000 values",
    ),
    "1 MB of lists": ("yaml", lambda: "x: [" + "[]," * 300_000 + "1]", "contains more than 125,000 values"),
    "aliases": ("yaml", lambda: "a: &a [1,1,1,1,1,1]\nb: [" + "*a," * 40_000 + "1]", "more than 125,000 values"),
    "fields like others": (
        "json",
        lambda: json.dumps(LLAMA | KV_KEYS, separators=(",", ":")),
        "30,004 fields; the limit is 4,096",
    ),
    "layers": ("json", lambda: json.dumps(LLAMA | {"layer_types": ["a"] * 200_000}), "has 200000 entries"),
}


@pytest.mark.parametrize("case", LARGE)
def test_a_large_file_is_read_and_refused_for_little(tmp_path, case):
    suffix, text, what = LARGE[case]
    file = tmp_path / f"config.{suffix}"
    file.write_text(text())
    took = cost("size", "-t", "1", "-m", str(file))
    assert took.code == 2
    assert what in took.err
    assert len(took.err.splitlines()) == 2
    assert took.seconds < MOST_SECONDS
    assert took.peak_bytes < MOST_BYTES


def entries(number: int) -> dict[str, object]:
    return {f"layers.{n}.w": {"dtype": "F32", "shape": [1], "data_offsets": [4 * n, 4 * n + 4]} for n in range(number)}


HEADERS = {
    "many tensors": (
        lambda: "{" + '"a":{"dtype":"F32","shape":[1],"data_offsets":[0,4]},' * 1_850_000,
        "values; the limit is 1,048,576",
    ),
    "long metadata": (lambda: json.dumps({"__metadata__": {"all": "x" * 98_900_000}}), ""),
    "nested": (lambda: "[" * 99_000_000, "has a header that is not JSON"),
    "both": (lambda: json.dumps({**entries(130_000), "__metadata__": {"all": "x" * 80_000_000}}), ""),
    "long names": (lambda: json.dumps({f"{n}{'x' * 950}": 0 for n in range(100_000)}), "at None of 520,000 bytes"),
}


@pytest.mark.parametrize("case", HEADERS)
def test_a_header_of_99_mb_is_read_or_refused(tmp_path, case):
    text, what = HEADERS[case]
    header = text().encode()
    file = tmp_path / "model.safetensors"
    with file.open("wb") as out:
        out.write(struct.pack("<Q", len(header)))
        out.write(header)
        out.truncate(out.tell() + 4 * 130_000)
    took = cost("fit", "-p", "llama-3-8b", "-t", "1K", "--gpu", "h100", "--weights", str(file))
    assert took.code == (2 if what else 0), took.err
    assert what in took.err
    assert took.seconds < 2 * 3
    assert took.peak_bytes < 500 * 10**6


PATHS = {
    "a FIFO without a writer": ("fifo", "is a pipe without a writer"),
    "a FIFO in the place of a GGUF file": ("fifo.gguf", "is a pipe, not a file"),
    "an endless device": ("/dev/zero", "is a device, not a file"),
    "no device at all": ("/dev/null", "is a device, not a file"),
    "messages of the kernel": ("/proc/kmsg", ""),
    "a folder": ("folder.yaml", "Is a directory"),
    "a name of 300 characters": ("x" * 300 + ".yaml", "File name too long"),
    "a path of 5,000 characters": ("x/" * 2500, "File name too long"),
    "a link to itself": ("loop/config.json", "Too many levels of symbolic links"),
}


OTHERWISE = {
    **{(command, "fifo.gguf"): "is a pipe without a writer" for command in ("check", "explain-log -p r1")},
    ("check", "folder.yaml"): "no deployments found",
}
"""What a command says that reads pipes, or folders."""


@pytest.mark.parametrize("case", PATHS)
@pytest.mark.parametrize("command", ["size -t 1 -m", "check", "explain-log -p r1", "presets validate"])
def test_what_is_no_file_is_refused_at_once(tmp_path, case, command):
    name, what = PATHS[case]
    for fifo in ("fifo", "fifo.gguf"):
        os.mkfifo(tmp_path / fifo)
    (tmp_path / "folder.yaml").mkdir()
    (tmp_path / "loop").mkdir()
    (tmp_path / "loop" / "config.json").symlink_to("config.json")
    done = subprocess.run(
        [sys.executable, "-m", "kvcalc", *command.split(), str(tmp_path / name)],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 2
    assert done.stdout == ""
    assert "Traceback" not in done.stderr
    assert len(done.stderr.splitlines()) == 2
    of_command = OTHERWISE.get((command, name), what)
    assert of_command in done.stderr


@pytest.mark.parametrize("name", ["fifo", "fifo.yaml"])
def test_a_pipe_that_somebody_writes_to_is_read(tmp_path, name):
    fifo = tmp_path / name
    os.mkfifo(fifo)
    writer = threading.Thread(target=fifo.write_text, args=(PRESET,))
    writer.start()
    assert loaded_soon(str(fifo)).num_layers == 2
    writer.join(10)


def loaded_soon(path: str) -> kvcalc.Model:
    """The model of a pipe whose writer may not have opened it yet."""
    for _ in range(1000):
        try:
            return kvcalc.load(path)
        except kvcalc.InvalidFileError as error:
            assert "is a pipe without a writer" in str(error)
            threading.Event().wait(0.01)
    raise AssertionError("nobody wrote")


def test_the_standard_input_is_read():
    done = subprocess.run(
        [sys.executable, "-m", "kvcalc", "size", "-t", "1", "-m", "/dev/stdin"],
        input=PRESET,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0
    assert "512 bytes" in done.stdout


def test_a_pipe_without_an_end_is_left(tmp_path):
    with subprocess.Popen(["yes"], stdout=subprocess.PIPE) as writer:
        with pytest.raises(kvcalc.InvalidFileError, match="is larger than 100 bytes"):
            read_bytes_of(writer.stdout.fileno())
        writer.kill()


def read_bytes_of(descriptor: int) -> bytes:
    return read_bytes(Path(f"/dev/fd/{descriptor}"), 100, "configuration file", "try another")


def test_a_duplicate_key_is_found_however_it_is_written(tmp_path):
    for text in (
        '{"k":1,"k" :2}',
        '{"k":1,"k"\n\t:2}',
        '{"a":{"k" :1,"k":2},"b\\":":1}',
        '{"k\\" :":1,"x":[{"y":1,"y":1}]}',
    ):
        file = tmp_path / "config.json"
        file.write_text(text)
        with pytest.raises(kvcalc.InvalidFileError, match="is repeated in one object"):
            kvcalc.load(file)
