"""Forms beyond those of `tests/data/deployments`: a table of files, and by hand what they start (`forms.yaml`)."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml

from kvcalc.io.deployments import read_deployments
from kvcalc.io.deployments.forms import FORMS, Form, forms
from kvcalc.io.deployments.skipping import report_of
from kvcalc.io.deployments.sources import found, opener

ROWS = yaml.safe_load((Path(__file__).parent / "forms.yaml").read_text())
COLUMNS = ("name", "engine", "version", "model", "args", "gpus", "gpu", "replicas", "role", "where")


@pytest.fixture
def read(tmp_path, monkeypatch):
    """Reads files by their contents."""

    def read(files: dict[str, str], given: list[str] | None = None, **variables: str):
        monkeypatch.chdir(tmp_path)
        for name, words in files.items():
            (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
            (tmp_path / name).write_text(words)
        gathered = found(given or list(files))
        return report_of(gathered, read_deployments(gathered.sources, variables, opener))

    return read


@pytest.mark.parametrize("row", ROWS, ids=lambda row: f"{row['form']}: {row['given'][0]}")
def test_a_file_starts_what_it_says(row, read):
    report = read(row["files"], row["given"])
    rows = [
        [getattr(each, column) or None if column == "version" else getattr(each, column) for column in COLUMNS]
        for each in report.deployments
    ]
    assert rows == row["found"]
    assert [[note.where, note.about] for note in report.refused] == row["refused"]


def test_a_form_is_a_file_and_those_for_anything_come_last():
    found_forms = forms()
    assert len(found_forms) == len(FORMS.names()) >= 28
    general = [form.general for form in found_forms]
    assert general == sorted(general)
    assert all(isinstance(form, Form) for form in found_forms)


POD = """
apiVersion: v1
kind: Pod
metadata: {name: p}
spec:
  containers:
  - name: v
    image: vllm/vllm-openai:v0.10.2
    args: ["--model=$(MODEL_ID)", "--max-model-len=$(LEN)"]
    env: [{name: LEN, value: "4096"}]
"""


def test_a_variable_that_nothing_sets_is_refused_and_can_be_set(read):
    report = read({"p.yaml": POD})
    assert [(note.where, note.about, note.why) for note in report.refused] == [
        ("p.yaml:9", "model", "MODEL_ID is an unset variable")
    ]
    assert report.deployments[0].model is None
    set_by_user = read({"p.yaml": POD}, MODEL_ID="Qwen/Qwen3-8B", LEN="8192")
    assert set_by_user.refused == ()
    assert set_by_user.deployments[0].model == "Qwen/Qwen3-8B"
    assert set_by_user.deployments[0].args == {"max-model-len": 8192}


def test_a_secret_is_asked_for_by_its_variable(read):
    pod = POD.replace("env: [", "env: [{name: MODEL_ID, valueFrom: {secretKeyRef: {name: s, key: k}}}, ")
    (refusal,) = read({"p.yaml": pod}).refused
    assert refusal.why.startswith("MODEL_ID comes from a Secret")
    assert "--set MODEL_ID=" in refusal.why


CONFIG = "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: c}\ndata: {MODEL_ID: Qwen/Qwen3-%s}\n"
FROM_CONFIG = POD.replace("    env:", "    envFrom: [{configMapRef: {name: c}}]\n    env:")


@pytest.mark.parametrize(
    ("files", "model"),
    [
        pytest.param(
            {"a/p.yaml": FROM_CONFIG, "a/c.yaml": CONFIG % "8B", "b/c.yaml": CONFIG % "4B"},
            "Qwen/Qwen3-8B",
            id="folder",
        ),
        pytest.param(
            {"p.yaml": f"{FROM_CONFIG}---\n{CONFIG % '8B'}", "c.yaml": CONFIG % "4B"}, "Qwen/Qwen3-8B", id="same file"
        ),
        pytest.param(
            {"p.yaml": FROM_CONFIG, "a/c.yaml": CONFIG % "8B", "b/c.yaml": CONFIG % "4B"}, None, id="two elsewhere"
        ),
    ],
)
def test_of_several_objects_of_one_name_the_nearest_is_meant(read, files, model):
    assert [each.model for each in read(files).deployments] == [model]


def test_of_1500_variables_none_but_the_one_that_matters_is_named(read):
    filler = "".join(f"    - {{name: FILLER_{n}, value: x}}\n" for n in range(1500))
    pod = POD.replace(
        '    env: [{name: LEN, value: "4096"}]\n', f'    env:\n{filler}    - {{name: LEN, value: "4096"}}\n'
    )
    report = read({"p.yaml": pod.replace("$(MODEL_ID)", "Qwen/Qwen3-8B")})
    assert report.deployments[0].args == {"max-model-len": 4096}
    assert "FILLER" not in str(report.to_dict())


ODD = {
    "override.yaml": "base: {model: {a: b}, resources: {x: 1}, backend: {sglang_config: {decode: {tp: 1}}}}\noverride_a: 3\n",
    "backend.yaml": "model: {path: 3}\nresources: {agg_workers: 2}\nbackend: {vllm_config: {aggregated: {x: 1}}}\n",
    "recipe.yaml": "model: {model_id: a/b, base_args: 3, base_env: [1]}\nvariants: {default: 3, x: {extra_args: {a: 1}}}\n",
    "scenario.yaml": "scenario: [1, {name: [a], common: {model: 3}, standalone: {parallelism: 3}}]\n",
    "booster.yaml": "kind: ModelBooster\nspec: {backend: {type: vLLM, workers: [1, {config: [a], pods: -3}]}}\n",
    "app.yaml": "kind: Application\nspec: {source: {helm: {parameters: [{name: 'a[9].b', value: 1}, {name: ..., value: 2}]}}}\n",
    "kustomization.yaml": "configMapGenerator: [1, {name: [a], literals: 3, envs: [{}], files: [=]}]\nresources: [x]\n",
    "values.yaml": "image: 3\nreplicaCount: x\nvllm: {maxModelLen: [1], tensorParallelSize: {a: 1}, dtype: x, maxNumSeqs: 3}\n",
    "compose.yaml": "services: {a: {image: ollama, env_file: {path: 3}}, b: {image: x/vllm-y, env_file: [[1]]}}\n",
    "main.tf": 'resource "kubernetes_manifest" "a" { manifest = 3 }\n',
    "Dockerfile": "FROM\nFROM a AS b\nFROM b AS b\nENTRYPOINT\nCMD\n",
    "script.sh": "set -- a b\nshift 9\nsource .\n. x\nkubectl apply -f - <<E\n: [\n",
}


@pytest.mark.parametrize("name", ODD)
def test_odd_shapes_end_in_no_traceback(name, read):
    report = read({name: ODD[name]})
    assert all(note.where for note in (*report.refused, *report.told))
