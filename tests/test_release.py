"""What makes a release: the version, the changelog, the workflow, the image, the lock. No tag is needed to build one."""

from __future__ import annotations

import re
import subprocess
import tomllib
from pathlib import Path

import jsonschema
import pytest
import yaml

import kvcalc

ROOT = Path(__file__).parents[1]
CHANGELOG = (ROOT / "CHANGELOG.md").read_text("utf-8")
RELEASE = yaml.safe_load((ROOT / ".github/workflows/release.yml").read_text())
CI = yaml.safe_load((ROOT / ".github/workflows/ci.yml").read_text())
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
KINDS = ("Added", "Changed", "Deprecated", "Removed", "Fixed", "Security")
SEMANTIC = r"(0|[1-9]\d*)\.(0|[1-9]\d*)\.(0|[1-9]\d*)"


def notes(folder: Path, tag: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([folder / ".ci/release", tag], capture_output=True, text=True, check=False)


@pytest.fixture
def checkout(tmp_path):
    """What .ci/release reads, at another version."""
    (tmp_path / ".ci").mkdir()
    (tmp_path / "kvcalc").mkdir()
    (tmp_path / ".ci/release").write_bytes((ROOT / ".ci/release").read_bytes())
    (tmp_path / ".ci/release").chmod(0o755)
    (tmp_path / "kvcalc/__init__.py").write_text('__version__ = "1.2.3"\n')
    (tmp_path / "CHANGELOG.md").write_text(
        "# Changelog\n\n## [Unreleased]\n\n### Added\n\n- more\n\n## [1.2.3] - 2026-12-01\n\n### Fixed\n\n- a & b\n\n"
        "## [1.2.2] - 2026-11-01\n\n- old\n\n[1.2.3]: https://x\n"
    )
    return tmp_path


def test_the_notes_of_a_release_are_its_section(checkout):
    done = notes(checkout, "v1.2.3")
    assert (done.returncode, done.stdout.strip(), done.stderr) == (0, "### Fixed\n\n- a & b", "")


@pytest.mark.parametrize("tag", ["v1.2.2", "1.2.3", "v1.2.3-rc1", "main"])
def test_a_tag_of_another_version_is_refused(checkout, tag):
    done = notes(checkout, tag)
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr.startswith(f"the tag is {tag}, and kvcalc/__init__.py says 1.2.3")


def test_a_version_without_notes_is_refused(checkout):
    (checkout / "kvcalc/__init__.py").write_text('__version__ = "1.2.4"\n')
    done = notes(checkout, "v1.2.4")
    assert (done.returncode, done.stdout) == (1, "")
    assert "no section '## [1.2.4] - DATE'" in done.stderr


def test_this_version_has_notes():
    assert re.fullmatch(SEMANTIC, kvcalc.__version__)
    assert notes(ROOT, f"v{kvcalc.__version__}").stdout.startswith("### ")


def test_the_changelog_keeps_its_form():
    """Source: keepachangelog.com/en/1.1.0: newest first, dated, changes grouped by kind, each version a link."""
    heads = re.findall(r"^## (.*)$", CHANGELOG, re.MULTILINE)
    assert heads[0] == "[Unreleased]"
    dated = [re.fullmatch(rf"\[({SEMANTIC})\] - (\d{{4}}-\d\d-\d\d)", head) for head in heads[1:]]
    assert all(dated), heads
    dates = [match[5] for match in dated]
    assert dates == sorted(dates, reverse=True)
    assert set(re.findall(r"^### (.*)$", CHANGELOG, re.MULTILINE)) <= set(KINDS)
    linked = set(re.findall(r"^\[(.*?)\]: https://", CHANGELOG, re.MULTILINE))
    assert linked == {head.partition("]")[0].removeprefix("[") for head in heads}


def test_the_workflow_publishes_what_was_built_and_tested_and_holds_no_token():
    assert RELEASE[True] == {"push": {"tags": ["v*"]}}  # YAML 1.1 reads the key `on` as true
    jobs = RELEASE["jobs"]
    assert RELEASE["permissions"] == CI["permissions"] == {"contents": "read"}
    assert jobs["pypi"]["permissions"] == {"id-token": "write"}
    assert jobs["pypi"]["environment"] == "pypi"
    assert jobs["pypi"]["needs"] == "build"
    assert all(job.get("needs") for name, job in jobs.items() if name != "build")
    (publish,) = [step for step in jobs["pypi"]["steps"] if step["uses"].startswith("pypa/gh-action-pypi-publish")]
    assert "with" not in publish
    steps = [step.get("run", "") for step in jobs["build"]["steps"]]
    order = [
        next(i for i, run in enumerate(steps) if word in run)
        for word in (".ci/release", "pytest", "-m build", "wheel_test")
    ]
    assert order == sorted(order)
    text = (ROOT / ".github/workflows/release.yml").read_text()
    assert re.findall(r"secrets\.(\w+)", text) == ["GITHUB_TOKEN"]
    for job in (*jobs.values(), *CI["jobs"].values()):
        for step in job["steps"]:
            assert "${{ github.event" not in step.get("run", "")


def test_ci_runs_all_and_each_python_that_is_named():
    assert [step["run"] for step in CI["jobs"]["all"]["steps"] if "run" in step] == [".ci/run"]
    named = re.findall(r"Python :: (3\.\d+)", " ".join(PROJECT["classifiers"]))
    assert CI["jobs"]["tests"]["strategy"]["matrix"]["python"] == named


def test_the_image_installs_what_was_built_and_runs_as_nobody_special():
    lines = [line for line in (ROOT / "Dockerfile").read_text().splitlines() if line and not line.startswith("#")]
    assert [line.split()[0] for line in lines if line[0].isalpha()] == [
        *("FROM", "COPY", "RUN", "FROM", "RUN", "USER", "WORKDIR", "ENTRYPOINT")
    ]
    assert lines[-1] == 'ENTRYPOINT ["kvcalc"]'
    assert "USER kvcalc" in lines
    ignored = (ROOT / ".dockerignore").read_text().split()
    needed = {"kvcalc", "presets", "vectors", "pyproject.toml", "README.md", "LICENSE"}
    assert not needed & set(ignored)


def test_the_lock_has_each_version_that_the_tests_pin():
    locked = dict(re.findall(r"^([A-Za-z0-9._-]+)==(\S+)$", (ROOT / "requirements-dev.lock").read_text(), re.MULTILINE))
    locked = {name.lower().replace("_", "-"): version for name, version in locked.items()}
    needs = [*PROJECT["dependencies"], *PROJECT["optional-dependencies"]["dev"]]
    for need in needs:
        name, pinned = re.match(r"([A-Za-z0-9._-]+)(?:\[.*\])?(?:==(\S+))?", need).groups()
        assert name.lower().replace("_", "-") in locked, need
        assert pinned in (None, locked[name.lower().replace("_", "-")]), need


CFF = {
    "type": "object",
    "required": ["cff-version", "message", "title", "authors"],
    "properties": {
        "cff-version": {"const": "1.2.0"},
        "type": {"enum": ["software", "dataset"]},
        "license": {"const": PROJECT["license"]},
        "authors": {
            "type": "array",
            "minItems": 1,
            "items": {
                "type": "object",
                "properties": {name: {"type": "string"} for name in ("name", "family-names", "given-names", "orcid")},
                "additionalProperties": False,
                "minProperties": 1,
            },
        },
    },
    "propertyNames": {
        "enum": [
            *(
                "abstract",
                "authors",
                "cff-version",
                "contact",
                "date-released",
                "doi",
                "identifiers",
                "keywords",
                "license",
            ),
            *("message", "preferred-citation", "references", "repository-code", "title", "type", "url", "version"),
        ]
    },
}
"""What CITATION.cff must be. Source: Citation File Format 1.2.0, schema.json."""


def test_the_citation_is_one():
    citation = yaml.safe_load((ROOT / "CITATION.cff").read_text())
    jsonschema.Draft202012Validator(CFF).validate(citation)
    assert citation["repository-code"] in PROJECT["urls"]["Changelog"]


@pytest.mark.parametrize("path", sorted(ROOT.glob(".github/ISSUE_TEMPLATE/*.yml")), ids=lambda path: path.stem)
def test_an_issue_template_is_a_form(path):
    form = yaml.safe_load(path.read_text())
    if path.stem == "config":
        assert form["contact_links"][0]["url"].endswith("/security/advisories/new")
        return
    assert {"name", "description", "body"} <= form.keys()
    ids = [field["id"] for field in form["body"]]
    assert len(ids) == len(set(ids))
    assert {field["type"] for field in form["body"]} <= {"textarea", "input"}
    assert all(field["attributes"]["label"] for field in form["body"])


def test_own_hooks_run_what_ci_runs():
    hooks = yaml.safe_load((ROOT / ".pre-commit-config.yaml").read_text())["repos"][0]["hooks"]
    for hook in hooks:
        command = hook["entry"].removeprefix(".venv/bin/").removesuffix(" --force-exclude")
        assert command.split()[0] in ("ruff", "mypy", "kvcalc")
        if command.split()[0] != "kvcalc":
            assert f".venv/bin/{command.split()[0]}" in (ROOT / ".ci/run").read_text()


@pytest.mark.parametrize("page", [ROOT / "README.md", *ROOT.glob("docs/**/*.md")], ids=lambda path: path.name)
def test_no_page_installs_what_is_not_published(page):
    """No release is on PyPI yet: a page installs from a clone, or from the repository."""
    assert not re.search(r"pip install (?:-q )?['\"]?kvcalc", page.read_text("utf-8"))
