"""`kvcalc check` of deployments as they stand, and plans that refer to them."""

from __future__ import annotations

import json

import pytest
from strict_readers import read_strictly

DEPLOYMENT = """apiVersion: apps/v1
kind: Deployment
metadata: {name: NAME}
spec:
  template:
    spec:
      nodeSelector: {nvidia.com/gpu.product: NVIDIA-H100-80GB-HBM3}
      containers:
      - name: vllm
        image: vllm/vllm-openai:v0.10.2
        args: [--model=llama-3.1-8b, --max-model-len=131072]
        resources: {limits: {nvidia.com/gpu: 1}}
"""
UNSAID = DEPLOYMENT.replace("      nodeSelector: {nvidia.com/gpu.product: NVIDIA-H100-80GB-HBM3}\n", "")


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """An empty working directory."""
    monkeypatch.chdir(tmp_path)
    return tmp_path


def data(outcome):
    return json.loads(outcome.stdout)


def test_a_manifest_is_checked_as_a_plan_of_the_same_is(cli, folder):
    (folder / "k8s.yaml").write_text(DEPLOYMENT)
    (folder / "plan.yaml").write_text(
        "deployments:\n- name: NAME\n  args: vllm serve llama-3.1-8b --max-model-len 131072\n  engine: vllm@0.10.2\n"
        "  gpu: h100-80gb\n  weights: 16GB\n"
    )
    of_manifest = cli("check k8s.yaml --weights 16GB --format json")
    of_plan = cli("check plan.yaml --format json")
    assert of_manifest.code == of_plan.code == 0
    (one,), (other,) = data(of_manifest)["findings"], data(of_plan)["findings"]
    for field in ("needed_bytes", "available_bytes", "max_tokens", "max_sequences", "engine_version"):
        assert one[field] == other[field]
    assert (one["file"], one["line"], one["deployment"]) == ("k8s.yaml", 11, "NAME")


@pytest.mark.parametrize(
    ("words", "line", "error"),
    [
        (UNSAID, "", "a.yaml:10: neither budget nor gpu is given\nhelp: add --gpu h100-80gb"),
        (UNSAID.replace("llama-3.1-8b", "qwen3-tiny-next"), "--gpu h100", "a.yaml:10: model: no model is called"),
        (DEPLOYMENT.replace("llama-3.1-8b", "$(M)"), "", "a.yaml:11: model: M is an unset variable"),
        (DEPLOYMENT.replace("--model=llama-3.1-8b, ", ""), "", "a.yaml:11: model: unknown"),
        (
            DEPLOYMENT.replace("072]", "072, --tensor-parallel-size=2]"),
            "",
            "a.yaml:12: GPUs: tp 2 needs 2 GPUs, but has 1",
        ),
        (
            DEPLOYMENT + "---\n" + DEPLOYMENT.replace("llama-3.1-8b", "r1"),
            "--weights 16GB",
            "--weights: is the size of one model, but 2 are served: llama-3.1-8b, r1",
        ),
        (UNSAID, "--memory 64GB --weights 16GB", "--memory: 64GB device is not known to be an NVIDIA GPU"),
        (DEPLOYMENT, "--set x", "--set: value 1 is not of the form NAME=VALUE"),
        ("kind: Service\n", "", "no deployments found"),
    ],
)
def test_what_is_missing_is_asked_for(cli, folder, words, line, error):
    (folder / "a.yaml").write_text(words)
    outcome = cli(f"check a.yaml {line}")
    assert (outcome.code, outcome.stdout) == (2, "")
    assert error in outcome.stderr


def test_what_is_said_on_the_line_is_added(cli, folder):
    (folder / "a.yaml").write_text(UNSAID.replace("llama-3.1-8b", "$(MODEL)"))
    outcome = cli("check a.yaml --gpu h100 --weights 16GB --reserve 2GiB --set MODEL=llama-3.1-8b --format json")
    (finding,) = data(outcome)["findings"]
    assert "2,147,483,648 bytes reserve" in finding["limit"]


def test_users_and_a_budget_are_added_as_a_plan_has_them(cli, folder):
    """llama-3.1-8b keeps 131,072 bytes a token, in blocks of 16; the null block is one more."""
    (folder / "a.yaml").write_text(UNSAID)
    (found,) = data(cli("check a.yaml --budget 40GiB --users 40 --tokens 4K --format json"))["findings"]
    assert (found["workload"]["sequences"], found["workload"]["tokens"], found["fits"]) == (40, 4096, True)
    assert found["needed_bytes"] == 40 * 4096 * 131_072 + 16 * 131_072
    assert found["available_bytes"] == 40 * 2**30
    (folder / "plan.yaml").write_text(
        "deployments:\n- {name: NAME, from: a.yaml, budget: 40GiB, concurrency: 40, tokens: 4K}\n"
    )
    (planned,) = data(cli("check plan.yaml --format json"))["findings"]
    said = {"file": "", "line": 0, "notes": [], "message": ""}
    assert {**planned, **said} == {**found, **said}


def test_a_budget_stands_in_for_the_gpu_of_a_manifest(cli, folder):
    (folder / "a.yaml").write_text(DEPLOYMENT)
    (found,) = data(cli("check a.yaml --budget 1GB --format json"))["findings"]
    assert (found["available_bytes"], found["fits"]) == (10**9, False)
    (larger,) = data(cli("check a.yaml --memory 141GB --weights 16GB --format json"))["findings"]
    (smaller,) = data(cli("check a.yaml --weights 16GB --format json"))["findings"]
    assert larger["available_bytes"] > smaller["available_bytes"]


@pytest.mark.parametrize(
    ("line", "error"),
    [
        ("--gpu h100x", "--gpu: no GPU is called 'h100x'"),
        ("--users no --budget 1GB", "--users: batch must be a positive whole number, not 'no'"),
        ("--budget 1", "--budget: budget would be 1 byte"),
        ("--gpu h100 --budget 1GB", "--gpu: gpu and budget cannot both be given"),
        ("--gpu h100 --tokens much", "--tokens: tokens must be a positive whole number, not 'much'"),
        ("--gpu h100 --reserve 2", "--reserve: reserve would be 2 bytes"),
    ],
)
def test_what_is_added_wrongly_is_located_at_its_option(cli, folder, line, error):
    (folder / "a.yaml").write_text(DEPLOYMENT + "---\n" + DEPLOYMENT.replace("NAME", "second"))
    for command in ("check a.yaml", "diff a.yaml a.yaml"):
        outcome = cli(f"{command} {line}")
        assert (outcome.code, outcome.stdout) == (2, "")
        assert outcome.stderr.startswith(error)
        assert outcome.stderr.count("\n") == 2


def test_one_that_cannot_be_checked_leaves_the_others_alone(cli, folder):
    (folder / "a.yaml").write_text(
        DEPLOYMENT + "---\n" + DEPLOYMENT.replace("NAME", "second").replace("llama-3.1-8b", "$(M)")
    )
    (folder / "b.yaml").write_text("deployments:\n- name: x\n")
    (folder / "c.yaml").write_text("deployments:\n- {name: y, model: r1, tokens: 1K, budget: 1GB}\n")
    outcome = cli("check a.yaml b.yaml c.yaml --weights 16GB --format json")
    assert outcome.code == 2
    found = data(outcome)
    assert [each["deployment"] for each in found["findings"]] == ["NAME", "y"]
    assert [each["where"] for each in found["refused"]] == ["a.yaml:24", "b.yaml:2"]
    for format in ("table", "csv", "markdown", "github", "junit"):
        shown = cli(f"check a.yaml b.yaml c.yaml --weights 16GB --format {format}")
        assert shown.code == 2
        read_strictly(format, shown.stdout)
        assert "a.yaml" in shown.stdout


FROM = "deployments:\n- name: NAME\n  from: k8s.yaml\n  weights: 16GB\n"


def test_a_plan_refers_to_a_file_and_adds_to_it(cli, folder):
    (folder / "k8s.yaml").write_text(DEPLOYMENT)
    (folder / "plan.yaml").write_text(FROM + "  concurrency: 2\n")
    direct = cli("check k8s.yaml --weights 16GB --format json")
    (referred,) = data(cli("check plan.yaml --format json"))["findings"]
    (finding,) = data(direct)["findings"]
    assert referred["workload"] == {**finding["workload"], "sequences": 2}
    assert referred["available_bytes"] == finding["available_bytes"]
    (folder / "plan.yaml").write_text(FROM.replace("weights: 16GB", "budget: 20GB"))
    assert data(cli("check plan.yaml --format json"))["findings"][0]["available_bytes"] == 20 * 10**9


@pytest.mark.parametrize(
    ("plan", "manifest", "error"),
    [
        (FROM, None, "plan.yaml:3: deployments[0].from: k8s.yaml: no such file"),
        (FROM, "kind: Service\n", "'k8s.yaml' starts no known engine"),
        (
            FROM,
            DEPLOYMENT.replace("NAME", "a") + "---\n" + DEPLOYMENT.replace("NAME", "b"),
            "starts a, b, none of which is called 'NAME'",
        ),
        (FROM, DEPLOYMENT.replace("072]", "072, --kv-cache-dtype=$(X)]"), "X is an unset variable"),
        (FROM + "  args: vllm serve r1\n", DEPLOYMENT, "from and args both say what is started"),
    ],
)
def test_what_a_plan_cannot_refer_to(cli, folder, plan, manifest, error):
    (folder / "plan.yaml").write_text(plan)
    if manifest is not None:
        (folder / "k8s.yaml").write_text(manifest)
    outcome = cli("check plan.yaml")
    assert outcome.code == 2
    assert error in outcome.stderr


def test_a_revision_and_a_folder_are_checked_alike(cli, folder):
    (folder / "k8s").mkdir()
    (folder / "k8s" / "a.yaml").write_text(DEPLOYMENT)
    (folder / "k8s" / "vllm.txt").write_text("vllm serve x")
    outcome = cli("check . --weights 16GB --format json")
    assert outcome.code == 0
    assert [each["file"] for each in data(outcome)["findings"]] == ["k8s/a.yaml"]
