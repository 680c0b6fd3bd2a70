"""Two sides of a comparison: files, folders, revisions of git repositories made here, and the working tree."""

from __future__ import annotations

import json
import os
import subprocess
from pathlib import Path

import pytest
from strict_readers import assert_inert, assert_message, run

from kvcalc.errors import InvalidFileError, KvcalcError
from kvcalc.io.checking import Given, of_files
from kvcalc.io.files import exists, is_folder, mounted, read_bytes
from kvcalc.io.sides import two_sides

OWN = "num_layers: 4\nattention: gqa\nnum_query_heads: 8\nnum_kv_heads: {}\nhead_dim: 64\n"


def plan(tokens: str = "1K", *, name: str = "chat", model: str = "r1", budget: str = "1GB") -> str:
    return f"deployments:\n  - name: {name}\n    model: {model}\n    tokens: {tokens}\n    budget: {budget}\n"


def git(*words: str, folder: Path | None = None) -> str:
    identity = ["-c", "user.name=a", "-c", "user.email=a@b.c", "-c", "protocol.file.allow=always"]
    done = subprocess.run(["git", *identity, *words], cwd=folder, capture_output=True, check=True)
    return os.fsdecode(done.stdout)


def commit(files: dict[str, str | bytes], *, remove: tuple[str, ...] = ()) -> None:
    """Commits files of the current folder's repository."""
    for name, content in files.items():
        Path(name).parent.mkdir(parents=True, exist_ok=True)
        Path(name).write_bytes(content if isinstance(content, bytes) else content.encode())
    for name in remove:
        Path(name).unlink()
    git("add", "-A")
    git("commit", "-qm", "x")


@pytest.fixture
def repository(tmp_path, monkeypatch):
    """An empty repository, which is the current folder."""
    folder = tmp_path / "repository"
    folder.mkdir()
    monkeypatch.chdir(folder)
    for name in [name for name in os.environ if name.startswith("GIT_")]:
        monkeypatch.delenv(name)
    git("init", "-q", "-b", "main")
    return folder


def tokens(base: str, head: str | None = None, *paths: str) -> list[list[tuple[str, str, int]]]:
    """File, name and tokens of the deployments of both sides."""
    with two_sides(base, head, paths) as sides:
        read = [of_files(side.files, Given()).deployments for side in sides]
    return [
        [(side.shown.get(each.file, each.file), each.name, each.asked.tokens) for each in deployments]
        for side, deployments in zip(sides, read, strict=True)
    ]


def two_commits() -> None:
    commit({"plans/a.yaml": plan("1K"), "plans/b.yaml": plan("1K"), "other/c.yaml": plan("3K"), "README.md": "x"})
    commit({"plans/a.yaml": plan("2K"), "plans/n.yml": plan("7K")}, remove=("plans/b.yaml",))


WAS = [("other/c.yaml", "chat", 3072), ("plans/a.yaml", "chat", 1024), ("plans/b.yaml", "chat", 1024)]
NOW = [("other/c.yaml", "chat", 3072), ("plans/a.yaml", "chat", 2048), ("plans/n.yml", "chat", 7168)]


@pytest.mark.parametrize(
    "words",
    [("main~1..main",), ("main~1..",), ("main~1", "main"), ("main~1",), ("HEAD^", "HEAD"), ("main~1...main",)],
)
def test_revisions_and_the_working_tree(repository, words):
    two_commits()
    assert tokens(*words) == [WAS, NOW]


def test_a_range_since_two_branches_parted(repository):
    commit({"a.yaml": plan("1K")})
    git("checkout", "-qb", "work")
    commit({"a.yaml": plan("2K")})
    git("checkout", "-q", "main")
    commit({"a.yaml": plan("5K")})
    assert tokens("main..work") == [[("a.yaml", "chat", 5120)], [("a.yaml", "chat", 2048)]]
    assert tokens("main...work") == [[("a.yaml", "chat", 1024)], [("a.yaml", "chat", 2048)]]


@pytest.mark.parametrize("words", [("main~1..main", "plans"), ("main~1", "main", "plans/"), ("main~1", "./plans")])
def test_only_below_a_path(repository, words):
    two_commits()
    assert tokens(*words) == [WAS[1:], NOW[1:]]


def test_paths_are_those_of_the_folder_from_which_is_asked(repository, monkeypatch):
    two_commits()
    monkeypatch.chdir("plans")
    assert tokens("main~1", "main", ".") == [
        [("a.yaml", "chat", 1024), ("b.yaml", "chat", 1024)],
        [("a.yaml", "chat", 2048), ("n.yml", "chat", 7168)],
    ]
    assert tokens("main~1..main", "../other/c.yaml")[0] == [("../other/c.yaml", "chat", 3072)]


def test_the_working_tree_has_what_is_new_and_not_what_is_ignored(repository):
    two_commits()
    for name in ("new.yaml", "ignored.yaml"):
        Path(name).write_text(plan("9K"))
    Path(".gitignore").write_text("ignored.yaml\n")
    Path("plans/n.yml").unlink()
    assert tokens("main")[1] == [("new.yaml", "chat", 9216), *NOW[:2]]


def test_a_model_is_read_at_its_revision(repository):
    commit({"plans/a.yaml": plan(model="../models/own.yaml"), "models/own.yaml": OWN.format(2)})
    commit({"models/own.yaml": OWN.format(4)})
    done = run("diff", "main~1", "main")
    assert done.code == 0
    assert "      models/own.yaml:4: num_kv_heads 2 -> 4" in done.out
    assert "main~1" not in done.out.splitlines()[-1]
    Path("models/own.yaml").write_text(OWN.format(8))
    assert "models/own.yaml:4: num_kv_heads 4 -> 8" in run("diff", "main").out


def test_a_model_that_was_not_there_is_not_read_from_the_disk(repository):
    commit({"plans/a.yaml": plan(model="../own.yaml")})
    Path("own.yaml").write_text(OWN.format(4))
    done = run("diff", "main~0..main", "plans/a.yaml")
    assert_message(done)
    assert "main:/plans/a.yaml:3: deployments[0].model: main:/plans/../own.yaml: no such file" in done.err


def test_a_model_outside_of_the_repository_is_no_file_of_a_revision(repository):
    (repository.parent / "own.yaml").write_text(OWN.format(4))
    commit({"a.yaml": plan(model="../own.yaml")})
    done = run("diff", "main..main", "a.yaml")
    assert_message(done)
    assert "no such file" in done.err


def test_what_was_broken_before_is_said_and_what_is_broken_now_fails(repository):
    commit({"a.yaml": plan("x"), "b.yaml": plan("1K")})
    commit({"a.yaml": plan("1K")})
    done = run("diff", "main~1", "main", "-f", "json")
    assert done.code == 0
    (note,) = json.loads(done.out)["passed_over"]
    assert (note["where"], note["about"]) == ("main~1:/a.yaml:4", "deployments[0].tokens")
    back = run("diff", "main", "main~1")
    assert back.code == 1
    assert "main~1:/a.yaml:4: chat: no longer sized" in back.out
    assert "removed" not in back.out


HOSTILE = (
    "a b.yaml",
    "é.yaml",
    "new\nline.yaml",
    "-f.yaml",
    "'\"$(id).yaml",
    ":(top)x.yaml",
    "*.yaml",
    "\x1b[31m.yaml",
)


@pytest.mark.parametrize("name", [*HOSTILE, os.fsdecode(b"\xff.yaml")])
def test_hostile_names_of_files(repository, name):
    commit({name: plan("1K"), "x.yaml": plan("1K")})
    commit({name: plan("2K")})
    there = name if not name.startswith("-") else f"./{name}"
    for paths in ([], [there]):
        done = run("diff", "main~1", "main", *paths, "-f", "json")
        assert done.code == 0, done.err
        assert_inert(done.out)
        assert '"unchanged": 1' in done.out if not paths else '"unchanged": 0' in done.out
    assert run("diff", "main~1", "main", there).out.count("1K -> 2K") == 1


@pytest.mark.parametrize(
    "name", ["--output=x", "-p", "main:a.yaml", "main\n", "\x1b[31m", "main^{blob}", "$(touch pwned)", "a..b..c"]
)
def test_hostile_names_of_revisions(repository, name):
    commit({"a.yaml": plan("1K")})
    for words in ([name], ["main", name], [f"main..{name}"]):
        with pytest.raises(KvcalcError) as raised:
            tokens(*words)
        assert raised.value.help
        assert_inert(str(raised.value))
    assert sorted(path.name for path in repository.iterdir()) == [".git", "a.yaml"]


def test_a_branch_of_a_strange_name(repository):
    commit({"a.yaml": plan("1K")})
    git("branch", "feature/é-{x}")
    git("branch", "a'b$(id)")
    commit({"a.yaml": plan("2K")})
    for branch in ("feature/é-{x}", "a'b$(id)", "main@{0}~1"):
        assert tokens(branch, "main") == [[("a.yaml", "chat", 1024)], [("a.yaml", "chat", 2048)]]


def test_no_driver_filter_or_hook_of_the_repository_runs(repository):
    commit({".gitattributes": "*.yaml filter=own diff=own\n", "a.yaml": plan("1K")})
    for setting in ("filter.own.clean", "filter.own.smudge", "diff.own.textconv", "core.fsmonitor", "core.pager"):
        git("config", setting, f"touch {repository}/pwned; cat")
    assert tokens("main", "main") == [[("a.yaml", "chat", 1024)]] * 2
    assert tokens("main")[1] == [("a.yaml", "chat", 1024)]
    assert not Path("pwned").exists()


def test_links_lead_where_they_lead_and_not_out_of_the_repository(repository):
    secret = repository.parent / "secret.yaml"
    secret.write_text(plan("6K"))
    Path("plans").mkdir()
    Path("link.yaml").symlink_to("plans/a.yaml")
    Path("out.yaml").symlink_to(secret)
    Path("loop.yaml").symlink_to("loop.yaml")
    Path("folder").symlink_to("plans")
    commit({"plans/a.yaml": plan("1K")})
    assert tokens("main", "main")[0] == [("link.yaml", "chat", 1024), ("plans/a.yaml", "chat", 1024)]
    commit({"m.yaml": plan(model="folder/own.yaml"), "plans/own.yaml": OWN.format(2)})
    assert ("m.yaml", "chat", 1024) in tokens("main", "main")[0]


def test_submodules_are_said_and_not_read(repository):
    inner = repository.parent / "inner"
    inner.mkdir()
    git("init", "-q", "-b", "main", folder=inner)
    (inner / "a.yaml").write_text(plan("8K"))
    git("add", "-A", folder=inner)
    git("commit", "-qm", "x", folder=inner)
    commit({"a.yaml": plan("1K")})
    git("submodule", "--quiet", "add", str(inner), "vendor")
    git("commit", "-qm", "y")
    assert tokens("main", "main")[0] == [("a.yaml", "chat", 1024)]
    done = run("diff", "main", "main")
    assert "main:/vendor  submodule  submodules are not read" in done.out


def test_other_files_are_counted_and_broken_plans_are_not_passed_over(repository):
    commit(
        {
            "a.yaml": plan("1K"),
            "values.yaml": "deployments:\n  web: {}\n",
            "chart.yaml": "deployments: {{ .x }}\n",
            "pods.yaml": "a: 1\n---\nb: 2\n",
            "package.json": '{"deployments": {}}',
            "binary.json": b"\xff\xfe",
        }
    )
    assert tokens("main")[1] == [("a.yaml", "chat", 1024)]
    assert run("diff", "main").code == 0
    Path("b.yaml").write_text("deployments:\n  - name: x\n   model: r1\n")
    done = run("diff", "main")
    assert done.code == 1
    assert "b.yaml:3  the file  is not valid YAML" in done.out
    commit({"b.yaml": Path("b.yaml").read_text()})
    still = run("diff", "main")
    assert still.code == 0
    assert "Ignored" in still.out
    assert "b.yaml:3" in still.out


POD = """\
apiVersion: v1
kind: Pod
metadata: {{name: {name}}}
spec:
  containers:
  - name: vllm
    image: vllm/vllm-openai:v0.10.2
    args: ["--model", "deepseek-ai/DeepSeek-R1", "--max-model-len", "{length}"]
"""


def test_one_of_two_that_cannot_be_sized_any_more_hides_no_other(repository):
    pods = {name: POD.format(name=name, length=4096) for name in ("wren", "lark")}
    commit({"pods.yaml": "---\n".join(pods.values())})
    Path("pods.yaml").write_text(
        "---\n".join((pods["wren"].replace("4096", "$(LEN)"), pods["lark"].replace("4096", "8192")))
    )
    done = run("diff", "main", "--budget", "40GB", "--users", "1", "-f", "json")
    assert done.code == 1
    answer = json.loads(done.out)
    assert [(each["deployment"], each["verdict"], each["fails"]) for each in answer["changes"]] == [
        ("lark", "changed", False),
        ("wren", "no longer sized", True),
    ]
    (note,) = answer["changes"][1]["refused"]
    assert (note["where"], note["about"]) == ("pods.yaml:8", "--max-model-len")
    assert answer["refused"] == []


def test_a_file_that_is_too_large_is_refused(repository):
    commit({"a.yaml": plan("1K") + "#" * 3_000_000})
    done = run("diff", "main..main", "a.yaml")
    assert_message(done)
    assert "main:/a.yaml: is larger than 2,097,152 bytes" in done.err


def test_an_object_that_is_not_in_the_clone_is_named(repository):
    commit({"a.yaml": plan("1K")})
    blob = git("rev-parse", "HEAD:a.yaml").strip()
    Path(".git/objects", blob[:2], blob[2:]).unlink()
    for words in (["main..main", "a.yaml"], ["main..main"]):
        done = run("diff", *words)
        assert_message(done)
        assert "main:/a.yaml: is not in this clone" in done.err


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ("nope", "'nope' is neither a revision of this repository nor a file or folder"),
        ("main..nope", "'nope' is neither a revision of this repository nor a file or folder"),
        ("main...nope", "'nope' is not a revision of this repository"),
        ("main nothere.yaml", "nothere.yaml: is neither in main nor in the working tree"),
        ("main main nothere.yaml", "nothere.yaml: is neither in main nor in main"),
        ("main ../elsewhere", "../elsewhere is outside the repository"),
        ("same", "BASE: 'same' is both a file or folder here and a revision\nhelp: write ./same for the file, "),
        ("main same", "HEAD: 'same' is both a file or folder here and a revision"),
        ("a.yaml", "HEAD: nothing to compare a.yaml with"),
        ("a.yaml main", "main: no such file or folder"),
        ("a.yaml plans", "HEAD: a.yaml is a file, but plans is a folder"),
        ("a.yaml a.yaml x", "PATHS: 'x' does not apply to a comparison of two files"),
        ("plans plans x", "x: is neither in plans nor in plans"),
        ("main --max-growth 10", "--max-growth: max_growth must be a percentage, not '10'"),
    ],
)
def test_what_is_refused(repository, words, said):
    commit({"a.yaml": plan("1K"), "same/b.yaml": plan("1K"), "plans/b.yaml": plan("1K")})
    git("branch", "same")
    done = run("diff", *words.split())
    assert_message(done)
    assert said in done.err


def test_explicit_words_are_never_ambiguous(repository):
    commit({"same/b.yaml": plan("1K")})
    git("branch", "same")
    assert tokens("./same", "same/") == [[("same/b.yaml", "chat", 1024)]] * 2
    assert tokens("refs/heads/same")[0] == [("same/b.yaml", "chat", 1024)]


def test_outside_of_a_repository(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("GIT_CEILING_DIRECTORIES", str(tmp_path.parent))
    done = run("diff", "main")
    assert_message(done)
    assert "'main' is not a file or folder, and as a revision: git: not a git repository" in done.err


def test_without_git(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PATH", str(tmp_path))
    done = run("diff", "main")
    assert_message(done)
    assert "git is not installed here" in done.err


def test_two_files_and_two_folders(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for name, length in (("one/a.yaml", "1K"), ("other/a.yaml", "2K"), ("one/x/b.yaml", "3K")):
        Path(name).parent.mkdir(parents=True, exist_ok=True)
        Path(name).write_text(plan(length))
    assert "1K -> 2K" in run("diff", "one/a.yaml", "other/a.yaml").out
    done = run("diff", "one", "other/")
    assert "1K -> 2K" in done.out
    assert "one/x/b.yaml:2: chat: removed" in done.out
    assert "1 change" in run("diff", "one", "other", "x").out
    assert run("diff", "one", "./one/").out == "Nothing changed from one to one: 2 deployments\n"


class Tree:
    """A tree of one file."""

    def kind(self, path: str) -> int:
        return {".": 0o040000, "a": 0o100000, "pipe": 0o010000}.get(path, 0)

    def content(self, path: str) -> bytes:
        return b"inside"


def test_a_mounted_tree_is_read_as_a_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Path("a").write_text("outside")
    with mounted("v1:", Tree()) as root:
        assert is_folder(root)
        assert read_bytes(root / "a", 10, "text", "") == b"inside"
        assert read_bytes(Path("a"), 10, "text", "") == b"outside"
        assert not exists(root / "b")
        assert not exists(root / ".." / "a")
        assert exists(Path("a"))
        for name, said in (
            ("../a", "no such file"),
            ("b", "no such file"),
            (".", "is a directory"),
            ("pipe", "is a pipe"),
        ):
            with pytest.raises(InvalidFileError, match=said):
                read_bytes(root / name, 10, "text", "")
        with pytest.raises(InvalidFileError, match="is larger than 3 bytes"):
            read_bytes(root / "a", 3, "text", "")
    assert not exists(Path("v1:/a"))
