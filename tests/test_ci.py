"""What runs kvcalc in CI, run as each runner would: the GitHub action, the GitLab template, the pre-commit hooks."""

from __future__ import annotations

import json
import os
import re
import shlex
import subprocess
import sys
from pathlib import Path
from typing import NamedTuple

import pytest
import yaml
from strict_readers import commands, read_strictly

ROOT = Path(__file__).parents[1]
ACTION = yaml.safe_load((ROOT / "action.yml").read_text())
JOB = yaml.safe_load((ROOT / "templates/kvcalc.gitlab-ci.yml").read_text())["kvcalc"]
HOOKS = {hook["id"]: hook for hook in yaml.safe_load((ROOT / ".pre-commit-hooks.yaml").read_text())}
WORKFLOW = yaml.safe_load((ROOT / "examples/github-workflow.yaml").read_text())
OF_THE_RUNNER = ["bash", "--noprofile", "--norc", "-eo", "pipefail"]
"""How GitHub runs `shell: bash`. Source: GitHub Actions, "Workflow syntax", jobs.<id>.steps[*].shell."""


def plan(tokens: str, budget: str = "1GB") -> str:
    return f"deployments:\n  - name: chat\n    model: r1\n    tokens: {tokens}\n    budget: {budget}\n"


def script(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    path.chmod(0o755)


@pytest.fixture
def checkout(tmp_path, monkeypatch):
    """A repository whose last commit raised a length, with kvcalc and a `gh` that notes what it is asked."""
    folder = tmp_path / "checkout"
    (folder / "plans").mkdir(parents=True)
    monkeypatch.chdir(folder)
    for name in [name for name in os.environ if name.startswith(("GIT_", "CI_", "GITHUB_"))]:
        monkeypatch.delenv(name)
    kvcalc = f'#!/bin/sh\nPYTHONPATH={shlex.quote(str(ROOT))} exec {shlex.quote(sys.executable)} -m kvcalc "$@"\n'
    script(tmp_path / "temp/kvcalc/bin/kvcalc", kvcalc)
    script(tmp_path / "bin/kvcalc", kvcalc)
    script(
        tmp_path / "bin/gh",
        f'#!/bin/sh\nfor word; do echo "$word"; done >> {tmp_path}/asked\ncat {tmp_path}/comments\n',
    )
    (tmp_path / "comments").write_text("")
    monkeypatch.setenv("PATH", f"{tmp_path}/bin:{os.environ['PATH']}")
    for words in (["init", "-q", "-b", "main"], ["config", "user.name", "a"], ["config", "user.email", "a@b.c"]):
        subprocess.run(["git", *words], check=True)
    committed("1K")
    committed("2K")
    return folder


def committed(tokens: str, budget: str = "1GB") -> None:
    Path("plans/a.yaml").write_text(plan(tokens, budget))
    subprocess.run(["git", "add", "-A"], check=True)
    subprocess.run(["git", "commit", "-qm", "x"], check=True)


def revision(name: str) -> str:
    return subprocess.run(["git", "rev-parse", name], capture_output=True, text=True, check=True).stdout.strip()


# GitHub --------------------------------------------------------------------------------------------------------------


class Ran(NamedTuple):
    """An action that ran. code: of the step that failed, 0 if none did; log: of all steps; summary, outputs: its own."""

    code: int
    log: str
    summary: str
    outputs: dict[str, str]


def evaluated(text: str, context: dict[str, str]) -> str:
    """A text with its expressions, of which those that the action has are known: names, ||, &&, != ''."""
    return re.sub(r"\$\{\{(.*?)\}\}", lambda match: value(match[1], context), text)


def value(expression: str, context: dict[str, str]) -> str:
    if "||" in expression:
        return next((found for part in expression.split("||") if (found := value(part, context))), "")
    if "&&" in expression:
        return (
            value(expression.rsplit("&&", maxsplit=1)[-1], context)
            if all(value(p, context) for p in expression.split("&&"))
            else ""
        )
    name, unequal, _ = expression.strip().partition(" != ''")
    found = context.get(name.strip(), "")
    return ("true" if found else "") if unequal else found


def outputs(path: Path) -> dict[str, str]:
    return dict(line.split("=", 1) for line in path.read_text().splitlines()) if path.exists() else {}


def run_action(temp: Path, event: dict[str, str] | None = None, *, install: bool = False, **inputs: str) -> Ran:
    context = {f"github.event.{name}": text for name, text in (event or {}).items()}
    for name, about in ACTION["inputs"].items():
        context[f"inputs.{name}"] = inputs.get(name.replace("-", "_"), evaluated(about["default"], context))
    files = {name: temp / name.lower() for name in ("GITHUB_STEP_SUMMARY", "GITHUB_ENV", "GITHUB_PATH")}
    runner = {**{name: str(path) for name, path in files.items()}, "RUNNER_TEMP": str(temp), "GITHUB_REPOSITORY": "o/r"}
    runner["GITHUB_ACTION_PATH"] = str(ROOT)
    log, code = "", 0
    for number, step in enumerate(ACTION["runs"]["steps"]):
        if (step["name"].startswith("Install") and not install) or not value_of_if(step, context):
            continue
        out, file = temp / f"output{number}", temp / f"step{number}.sh"
        file.write_text(step["run"])
        own = {name: evaluated(text, context) for name, text in step.get("env", {}).items()}
        done = subprocess.run(
            [*OF_THE_RUNNER, str(file)],
            env={**os.environ, **runner, **own, "GITHUB_OUTPUT": str(out)},
            capture_output=True,
            text=True,
            check=False,
        )
        log += done.stdout + done.stderr
        context |= {f"steps.{step.get('id')}.outputs.{name}": text for name, text in outputs(out).items()}
        if done.returncode:
            code = done.returncode
            break
    summary = files["GITHUB_STEP_SUMMARY"].read_text() if files["GITHUB_STEP_SUMMARY"].exists() else ""
    found = {name: evaluated(about["value"], context) for name, about in ACTION["outputs"].items()}
    return Ran(code, log, summary, found)


def value_of_if(step: dict, context: dict[str, str]) -> bool:
    return bool(evaluated(step["if"], context)) if "if" in step else True


def test_no_input_is_a_part_of_a_script():
    for step in ACTION["runs"]["steps"]:
        assert step["shell"] == "bash"
        assert "${{" not in step["run"]


def test_the_action_sums_up_what_a_pull_request_changes(checkout, tmp_path):
    done = run_action(tmp_path / "temp", {"pull_request.base.sha": revision("main~1"), "pull_request.number": "7"})
    assert done.code == 0, done.log
    assert "| chat | changed | 0.07 | 0.13 | +100.0% |" in done.summary
    assert "  - plans/a.yaml:4: tokens 1K -> 2K" in done.summary
    read_strictly("markdown", done.summary)
    ((name, properties, _),) = commands(done.log)
    assert (name, properties["file"], properties["line"]) == ("notice", "plans/a.yaml", "2")
    read_strictly("sarif", Path(done.outputs["sarif"]).read_text())
    assert done.outputs["code"] == "0"
    assert Path(done.outputs["summary"]).read_text() == done.summary


def test_the_action_fails_where_something_no_longer_fits(checkout, tmp_path):
    committed("2K", "1MB")
    done = run_action(tmp_path / "temp", {"pull_request.base.sha": revision("main~1")})
    assert (done.code, done.outputs["code"]) == (1, "1")
    assert "| chat | no longer fits |" in done.summary
    assert "kv-cache-too-large" in Path(done.outputs["sarif"]).read_text()
    assert [name for name, *_ in commands(done.log)] == ["error"]


def test_the_action_fails_past_the_growth_that_is_agreed_to(checkout, tmp_path):
    base = revision("main~1")
    assert run_action(tmp_path / "temp", base=base, max_growth="100%").code == 0
    done = run_action(tmp_path / "temp", base=base, max_growth="99.9%")
    assert done.code == 1
    assert "grew too much" in done.summary


@pytest.mark.parametrize("event", [{}, {"before": "0" * 40}])
def test_without_a_base_the_action_shows_what_there_is(checkout, tmp_path, event):
    done = run_action(tmp_path / "temp", event)
    assert done.code == 0
    assert done.summary.startswith("### Capacity check: all fit")


def test_the_action_says_what_is_bad_input(checkout, tmp_path):
    Path("plans/a.yaml").write_text("deployments: [1]\n")
    done = run_action(tmp_path / "temp", base="main")
    assert (done.code, done.outputs["code"]) == (2, "2")
    assert "plans/a.yaml:1: deployments[0]" in done.log
    assert run_action(tmp_path / "temp", base="--upload-pack=touch pwned").code == 2
    assert not Path("pwned").exists()


def test_the_action_fetches_a_base_that_is_not_there(checkout, tmp_path, monkeypatch):
    base = revision("main~1")
    subprocess.run(["git", "config", "uploadpack.allowAnySHA1InWant", "true"], check=True)
    clone = tmp_path / "shallow"
    subprocess.run(["git", "clone", "-q", "--depth=1", f"file://{checkout}", str(clone)], check=True)
    monkeypatch.chdir(clone)
    done = run_action(tmp_path / "temp", {"pull_request.base.sha": base})
    assert done.code == 0, done.log
    assert "tokens 1K -> 2K" in done.summary


@pytest.mark.parametrize(
    "hostile", ['plans"; touch pwned; "', "$(touch pwned)", "`touch pwned`", "plans; touch pwned", "-f\nplans", "'"]
)
def test_hostile_inputs_of_the_action_are_words(checkout, tmp_path, hostile):
    for name in ("paths", "base", "max_growth", "options"):
        run_action(tmp_path / "temp", **{"base": "main~1", name: hostile})
    assert sorted(path.name for path in checkout.iterdir()) == [".git", "plans"]


COMPOSE = """services:
  llm:
    image: vllm/vllm-openai:v0.25.1
    command: --model Qwen/Qwen3-8B --max-model-len {length}
"""


def test_the_action_is_told_what_a_compose_file_does_not_say(checkout, tmp_path):
    """Which GPU, and how many users: without them nothing fits or does not."""
    Path("compose.yaml").write_text(COMPOSE.format(length="8192"))
    subprocess.run(["git", "add", "compose.yaml"], check=True)
    subprocess.run(["git", "commit", "-qm", "compose"], check=True)
    Path("compose.yaml").write_text(COMPOSE.format(length="16384"))
    assert run_action(tmp_path / "temp", base="", paths="compose.yaml").code == 2
    done = run_action(tmp_path / "temp", base="HEAD", paths="compose.yaml", options="--gpu=l40s\n--users=2\n")
    assert done.code == 0, done.log
    assert "max-model-len 8192 -> 16384" in done.summary
    crowded = run_action(tmp_path / "temp", base="", paths="compose.yaml", options="--gpu=l40s\n--users=2000")
    assert crowded.code == 1


def test_paths_of_the_action_are_lines_and_patterns(checkout, tmp_path):
    Path("plans/b c.yaml").write_text(plan("4K").replace("chat", "more"))
    Path("d.yaml").write_text(plan("4K").replace("chat", "other"))
    done = run_action(tmp_path / "temp", base="", paths="plans/b c.yaml\n*.yaml\n")
    assert re.findall(r"^\| (\w+) \| fits", done.summary, re.MULTILINE) == ["more", "other"]


@pytest.mark.parametrize(
    ("known", "method", "where"), [("", "POST", "issues/7/comments"), ("42\n43\n", "PATCH", "issues/comments/42")]
)
def test_the_action_keeps_one_comment(checkout, tmp_path, known, method, where):
    (tmp_path / "comments").write_text(known)
    event = {"pull_request.base.sha": revision("main~1"), "pull_request.number": "7"}
    done = run_action(tmp_path / "temp", event, token="t")
    assert done.code == 0, done.log
    asked = (tmp_path / "asked").read_text().splitlines()
    assert asked[asked.index("--method") + 1] == method
    assert f"repos/o/r/{where}" in asked[asked.index("--silent") :]
    body = Path(asked[-1].removeprefix("body=@")).read_text()
    assert body == f"<!-- kvcalc -->\n{done.summary}"


def test_a_token_that_may_not_comment_is_a_warning(checkout, tmp_path):
    script(tmp_path / "bin/gh", "#!/bin/sh\nexit 1\n")
    event = {"pull_request.base.sha": revision("main~1"), "pull_request.number": "7"}
    done = run_action(tmp_path / "temp", event, token="t")
    assert done.code == 0
    assert ("warning", {}) in [(name, properties) for name, properties, _ in commands(done.log)]


def test_without_a_token_nobody_is_asked(checkout, tmp_path):
    run_action(tmp_path / "temp", {"pull_request.base.sha": revision("main~1"), "pull_request.number": "7"})
    assert not (tmp_path / "asked").exists()


@pytest.mark.slow
def test_the_action_installs_itself(checkout, tmp_path):
    temp = tmp_path / "fresh"
    temp.mkdir()
    done = run_action(temp, base="main~1", install=True, python=sys.executable)
    assert done.code == 0, done.log
    assert "tokens 1K -> 2K" in done.summary


def test_the_workflow_uses_this_action_with_inputs_that_it_has():
    (job,) = WORKFLOW["jobs"].values()
    (step,) = [step for step in job["steps"] if step["uses"].startswith("kvcalc/kvcalc@")]
    assert step["with"].keys() <= ACTION["inputs"].keys()
    assert "pip install kvcalc" not in (ROOT / "examples/github-workflow.yaml").read_text()  # no release is there


# GitLab --------------------------------------------------------------------------------------------------------------


def run_job(folder: Path, **variables: str) -> tuple[int, str]:
    """Runs the job's script as one, as GitLab's runner does, but what installs kvcalc. Returns exit code and log."""
    lines = [line for line in JOB["script"] if not re.search(r"-m venv|pip install", line)]
    assert len(JOB["script"]) - len(lines) == 2
    done = subprocess.run(
        ["bash", "-eo", "pipefail"],
        input="\n".join(lines),
        env={**os.environ, **JOB["variables"], **variables},
        cwd=folder,
        capture_output=True,
        text=True,
        check=False,
    )
    return done.returncode, done.stdout + done.stderr


def test_the_gitlab_job_reports_code_quality_and_tests(checkout):
    committed("2K", "1MB")
    code, log = run_job(checkout, CI_MERGE_REQUEST_DIFF_BASE_SHA=revision("main~1"))
    assert code == 1, log
    assert "chat: no longer fits" in log
    reports = JOB["artifacts"]["reports"]
    (issue,) = json.loads(Path(reports["codequality"]).read_text())
    assert issue["location"] == {"path": "plans/a.yaml", "lines": {"begin": 2}}
    read_strictly("gitlab", Path(reports["codequality"]).read_text())
    read_strictly("junit", Path(reports["junit"]).read_text())


def test_the_gitlab_job_passes_fails_and_refuses(checkout):
    base = revision("main~1")
    assert run_job(checkout)[0] == 0
    assert run_job(checkout, CI_MERGE_REQUEST_DIFF_BASE_SHA=base)[0] == 0
    assert run_job(checkout, CI_MERGE_REQUEST_DIFF_BASE_SHA=base, KVCALC_MAX_GROWTH="10%")[0] == 1
    assert run_job(checkout, CI_MERGE_REQUEST_DIFF_BASE_SHA="0" * 40)[0] == 2
    assert run_job(checkout, KVCALC_PATHS="nowhere")[0] == 2
    assert run_job(checkout, KVCALC_PATHS='$(touch pwned)\n"; touch pwned; "')[0] == 2
    assert run_job(checkout, KVCALC_OPTIONS="--bogus")[0] == 2
    Path("compose.yaml").write_text(COMPOSE.format(length="8192"))
    compose = {"KVCALC_PATHS": "compose.yaml", "CI_MERGE_REQUEST_DIFF_BASE_SHA": base}
    assert run_job(checkout, KVCALC_PATHS="compose.yaml")[0] == 2
    assert run_job(checkout, KVCALC_OPTIONS="--gpu=l40s\n--users=2\n", **compose)[0] == 0
    assert run_job(checkout, KVCALC_OPTIONS="--gpu=l40s\n--users=2000\n", **compose)[0] == 1
    assert not Path("pwned").exists()


def test_the_gitlab_job_runs_in_a_plain_shell_too(checkout):
    lines = [line for line in JOB["script"] if not re.search(r"-m venv|pip install", line)]
    environment = {**os.environ, **JOB["variables"], "KVCALC_PATHS": "plans/*.yaml"}
    done = subprocess.run(
        ["sh", "-e"], input="\n".join(lines), env=environment, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr


# pre-commit ----------------------------------------------------------------------------------------------------------


def run_hook(name: str, *files: str) -> subprocess.CompletedProcess[str]:
    """Runs a hook on those of the files that are its own, as pre-commit does."""
    hook = HOOKS[name]
    chosen = [file for file in files if re.search(hook["files"], file)]
    assert chosen
    return subprocess.run([*shlex.split(hook["entry"]), *chosen], capture_output=True, text=True, check=False)


def test_the_hook_of_plans_checks_the_files_that_are_committed(checkout):
    Path("plans/b.yaml").write_text(plan("4K", "1MB"))
    assert run_hook("kvcalc-check", "plans/a.yaml", "README.md").returncode == 0
    done = run_hook("kvcalc-check", "plans/a.yaml", "plans/b.yaml", "values.yaml")
    assert done.returncode == 1
    assert "plans/b.yaml:2: chat" in done.stdout


def test_the_hook_of_models_validates_them(checkout):
    Path("models").mkdir()
    Path("models/own.yaml").write_text(
        "num_layers: 1\nattention: gqa\nnum_query_heads: 2\nnum_kv_heads: 1\nhead_dim: 64\n"
    )
    assert run_hook("kvcalc-presets", "models/own.yaml").returncode == 0
    Path("models/own.yaml").write_text("num_layers: 1\nattention: gqa\n")
    assert run_hook("kvcalc-presets", "models/own.yaml").returncode == 2


def test_every_hook_is_run_here_and_is_installed_as_the_project_is():
    assert set(HOOKS) == {"kvcalc-check", "kvcalc-presets"}
    assert {(hook["language"], hook["entry"].split()[0]) for hook in HOOKS.values()} == {("python", "kvcalc")}
