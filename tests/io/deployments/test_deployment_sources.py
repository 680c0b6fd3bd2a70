"""Where files come from: paths, folders, standard input, revisions of git; and input that means harm."""

from __future__ import annotations

import io
import json
import os
import subprocess
import time
from pathlib import Path

import pytest

from kvcalc.io.deployments import read_deployments
from kvcalc.io.deployments.documents import Source
from kvcalc.io.deployments.sources import MAX_FILE_BYTES

POD = """apiVersion: v1
kind: Pod
metadata: {name: NAME}
spec:
  nodeSelector: {nvidia.com/gpu.product: NVIDIA-L4}
  containers:
  - name: v
    image: vllm/vllm-openai:v0.10.2
    args: [--model=Qwen/Qwen3-4B, --max-model-len=LEN]
    resources: {limits: {nvidia.com/gpu: 1}}
"""


def pod(name="finch", length=4096):
    return POD.replace("NAME", name).replace("LEN", str(length))


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """An empty working directory."""
    monkeypatch.chdir(tmp_path)
    return tmp_path


def shown(cli, *words):
    outcome = cli(["deployments", *words, "--format", "json"])
    return json.loads(outcome.stdout)


def test_a_folder_is_read_and_what_holds_nothing_is_listed(cli, folder):
    (folder / "k8s").mkdir()
    (folder / "k8s" / "a.yaml").write_text(pod())
    (folder / "k8s" / "service.yaml").write_text("kind: Service\nspec: {selector: {app: vllm}}\n")
    (folder / "k8s" / "broken.yaml").write_text("kind: Pod\nvllm: [\n")
    (folder / "k8s" / "chart.yaml").write_text("{{- if .Values.x }}\nargs: [--model={{ .Values.vllm }}]\n{{- end }}\n")
    (folder / "k8s" / "unrelated.yaml").write_text("a: 1\n")
    (folder / ".git").mkdir()
    (folder / ".git" / "b.yaml").write_text(pod("hidden"))
    found = shown(cli, ".")
    assert [each["where"] for each in found["deployments"]] == ["k8s/a.yaml:9"]
    assert found["refused"] == []
    assert [(each["where"], each["why"][:24]) for each in found["skipped"]] == [
        ("k8s/broken.yaml:3", "is not valid YAML: did n"),
        ("k8s/chart.yaml:2", "an unrendered Helm templ"),
        ("k8s/service.yaml", "no deployments found in "),
    ]


def test_one_bad_file_spoils_no_other(cli, folder):
    (folder / "a.yaml").write_text(pod())
    (folder / "b.yaml").write_text("kind: Pod\nspec: [\n")
    found = shown(cli, "b.yaml", "a.yaml", "nowhere.yaml")
    assert [each["name"] for each in found["deployments"]] == ["finch"]
    assert [each["where"] for each in found["refused"]] == ["nowhere.yaml", "b.yaml:3"]


def test_standard_input_is_a_manifest_or_a_command(cli, folder, monkeypatch):
    for words, name, length in (
        (pod(), "finch", 4096),
        ("vllm serve Qwen/Qwen3-4B --max-model-len 8192\n", "stdin", 8192),
        ("#!/bin/sh\nL=2048\nvllm serve Qwen/Qwen3-4B --max-model-len $L\n", "stdin", 2048),
    ):
        stream = io.TextIOWrapper(io.BytesIO(words.encode()))
        monkeypatch.setattr("sys.stdin", stream)
        (found,) = shown(cli, "-")["deployments"]
        assert (found["name"], found["args"]) == (name, {"max-model-len": length})


def test_a_terminal_is_not_waited_for(cli, folder, monkeypatch):
    class Terminal(io.TextIOWrapper):
        def isatty(self):
            return True

    monkeypatch.setattr("sys.stdin", Terminal(io.BytesIO()))
    assert shown(cli, "-")["refused"][0]["why"] == "standard input is a terminal"


def git(*words):
    subprocess.run(["git", "-c", "user.name=a", "-c", "user.email=a@b", *words], check=True, capture_output=True)


def test_a_revision_of_git_is_read(cli, folder):
    git("init", "-q", "-b", "main")
    (folder / "deploy").mkdir()
    (folder / "deploy" / "a.yaml").write_text(pod(length=1024))
    git("add", ".")
    git("commit", "-qm", "one")
    (folder / "deploy" / "a.yaml").write_text(pod(length=2048))
    (before,) = shown(cli, "main:deploy/")["deployments"]
    (now,) = shown(cli, "deploy")["deployments"]
    assert (before["where"], before["args"]["max-model-len"]) == ("main:deploy/a.yaml:9", 1024)
    assert now["args"]["max-model-len"] == 2048
    (refusal,) = shown(cli, "nothing:deploy/")["refused"]
    assert "is neither a revision of this repository nor a file or folder" in refusal["why"]
    (refusal,) = shown(cli, "main:nowhere/")["refused"]
    assert refusal["why"] == "the revision has no such file"


@pytest.mark.parametrize(
    ("make", "why"),
    [
        pytest.param(lambda path: path.write_bytes(b"\xff\xfe"), "is not UTF-8 text", id="no text"),
        pytest.param(lambda path: path.write_bytes(b"x" * (MAX_FILE_BYTES + 1)), "is larger than", id="too large"),
        pytest.param(os.mkfifo, "is a pipe without a writer", id="pipe"),
        pytest.param(lambda path: path.symlink_to("/dev/zero"), "a device", id="device"),
    ],
)
def test_a_file_that_cannot_be_read_is_refused(cli, folder, make, why):
    make(folder / "a.yaml")
    (refusal,) = shown(cli, "a.yaml")["refused"]
    assert why in refusal["why"]


def read(name, words):
    return read_deployments([Source(name, words)])


DEEP = "llama-server " + "$(" * 5000


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("a.yaml", "a: &a [x,x]\n" + "".join(f"k{n}: &k{n} [*a,*a]\n" for n in range(9)) + POD),
        ("a.yaml", POD.replace("args:", "env: [{name: A, value: $(B)$(B)}, {name: B, value: $(A)$(A)}]\n    args:")),
        (
            "a.yaml",
            POD.replace("LEN", "$(A)").replace(
                "args:", "env: [" + ", ".join("{name: A, value: '$(A)$(A)x'}" for _ in range(40)) + "]\n    args:"
            ),
        ),
        ("s.yaml", "macros: {a: '${b}${b}', b: '${a}${a}'}\nmodels: {m: {cmd: 'llama-server -m ${a}'}}\n"),
        ("k/kustomization.yaml", "resources: [../k]\nbases: [.]\npatches: [{path: kustomization.yaml}]\n"),
        ("a.sh", "A=$B\nB=$A\n" + "A=$A$A\n" * 60 + "vllm serve $A\n"),
        ("a.sh", DEEP),
        ("a.sh", "vllm serve " + "'" * 9999),
        ("a.sh", "bash -c " * 2000 + "vllm serve x"),
        ("a.tf", "vllm = " + "(" * 50_000),
        ("a.py", "vllm = " + "(" * 5000),
        ("a.py", "import vllm\nx = " + "-" * 100_000 + "1"),
        ("a.json", '{"vllm":' * 2000),
        ("Dockerfile", "FROM a\n" + "CMD vllm \\\n" * 20_000),
        ("a.service", "[Service]\n" + "ExecStart=vllm \\\n" * 20_000),
        ("compose.yaml", "services: {a: {image: 'vllm/vllm-openai', command: '" + "${A:-" * 500 + "}" * 500 + "'}}"),
        ("values.yaml", "a: " * 1 + "{image: x, args: [y], b: " * 60 + "1" + "}" * 60),
        ("Modelfile", 'FROM x\nSYSTEM """' + "\n" * 100_000),
        ("a.py", "import vllm\ncmd = ['vllm', 'serve'" + ", 'x'" * 50_000 + "]\n" + "cmd += cmd\n" * 30),
    ],
)
def test_input_that_means_harm_ends_soon(name, words):
    began = time.process_time()
    read(name, words)
    assert time.process_time() - began < 3


def test_nothing_in_a_file_is_run(folder):
    mark = folder / "ran"
    read("a.sh", f"X=$(touch {mark})\nvllm serve $X `touch {mark}`\n")
    read("a.py", f"import vllm, os\nos.system('touch {mark}')\n")
    read("a.yaml", f"x: !!python/object/apply:os.system ['touch {mark}']\nvllm: 1\n")
    assert not Path(mark).exists()
