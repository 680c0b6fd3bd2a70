"""Shell texts as the commands in them: held against a real shell, and what no shell is asked."""

from __future__ import annotations

import shutil
import subprocess

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kvcalc.errors import InvalidValueError, KvcalcError
from kvcalc.io.engine_args import read_commands
from kvcalc.io.engine_args._lexer import computed
from kvcalc.io.engine_args._shell import statements

BASH = shutil.which("bash") or ""
needs_bash = pytest.mark.skipif(not BASH, reason="no shell to ask")
SHOW = 'show() { printf \'%s\\0\' "$#" "$@"; }\n'
"""Prints how many words it was given, and each."""


def by_shell(text: str) -> list[tuple[str, ...]]:
    done = subprocess.run(
        [BASH, "-c", SHOW + text], capture_output=True, text=True, timeout=20, env={"PATH": ""}, check=False
    )
    parts, calls = done.stdout.split("\0")[:-1], []
    while parts:
        count = int(parts[0])
        calls.append(tuple(parts[1 : 1 + count]))
        parts = parts[1 + count :]
    return calls


def by_us(text: str) -> list[tuple[str, ...]]:
    return [each.words[1:] for each in statements(text, {}) if each.words[0] == "show"]


TEXTS = [
    "show a b  c",
    "show 'a b' \"c d\" e\\ f",
    "show '' \"\" a",
    "show a'b'\"c\"d",
    'show "a\\"b" \'a\\b\' a\\\\b "a\\nb"',
    "show a # b",
    "show a#b '# c' \"# d\"",
    "# show x\nshow y",
    "show a \\\n  b \\\n  c",
    "show a; show b;show c",
    "show a 3> /dev/null; show b 2>&1; show c 2> /dev/null d 3>&1",
    "show a && show b",
    "M=x; show $M \"$M\" ${M} '$M' a$M-b",
    "M='a b'; show $M \"$M\"",
    "M='a  b c'; show x$M-y",
    'show ${L:-5} ${L-6} "${L:-a b}" ${L:-a b}',
    'L=7; show ${L:-5} ${L:+set} ${X:+set} "${X:+set}"',
    'L=; show ${L:-5} "${L-6}" ${L:+set}',
    "A=1 B=$A; show $B",
    "A=1; A=2 show $A; show $A",
    "A=x; A+=y; show $A",
    'ARGS=(--a 1 "b c"); ARGS+=(--d); show "${ARGS[@]}" end',
    'ARGS=(); show "${ARGS[@]}" end',
    'ARGS=(--a "b c"); show ${ARGS[*]}',
    "N=4; show $((N * 2 + 1)) $((1024*32)) $(( -7 / 2 )) $((-7 % 3))",
    "export A=1 B=2; show $A$B",
    'if [ "${E:-0}" = 1 ]; then A=yes; else A=no; fi; show $A',
    'if [ -z "$E" ]; then show empty; fi; if [ -n "$E" ]; then show full; fi',
    'E=1; [ "$E" = 1 ] && A=(--eager); [ "$E" = 2 ] && A+=(--more); show "${A[@]}"',
    '[ -n "$X" ] || X=5; show $X',
    'E=2; if [ "$E" = 1 ]; then show one; elif [ "$E" = 2 ]; then show two; else show three; fi',
    ": <<EOF 3> /dev/null\nshow not this\nEOF\nshow this",
    "show {a b} !x",
    'show --json \'{"a": {"b": [1, 2]}}\' --x="y z"',
    "D=${E:-${F:-deep}}; show $D",
    "show $'a b' \"x$\" y$ '$'",
    "(show a; show b)\n{ show c; }",
    "A=b\nshow \"$A\"'c'$A",
    'show "${A:-"b c"}"',
    "set -x; show a",
    "true\n\n\nshow a\n",
    ': "${M:=x y}"; show "$M" ${M}; M=; show "${M=5}" "${M:=6}" $M',
    "P=a/b/c.tar.gz; show ${P#*/} ${P##*/} ${P%.*} ${P%%.*} ${P#z} ${P%z} ${P##*z}",
    "P=a-b-a; show ${P/a/x} ${P//a/x} ${P//a} ${P/z/x} ${P//-/_}",
    'set -- --a "b c"; show "$@" end; show $1 "$2"; shift; show "$@" ${1}',
    'set --; show "$@" end',
    'set -eu -- x; show "${@}"',
]


@needs_bash
@pytest.mark.parametrize("text", TEXTS)
def test_words_are_those_of_a_shell(text):
    assert by_us(text) == by_shell(text)


def test_commands_that_another_may_hinder_are_read_all():
    """Whether a program succeeds is not known here."""
    assert by_us("show b || show c") == [("b",)]
    assert by_us("cd x && show b | cat") == [("b",)]


@needs_bash
@given(
    st.lists(
        st.sampled_from(
            ["a", "b c", "x'y", 'q"r', "s\\t", "$Z", "#h", "--f=1", "", "{}", "é", "*", "~", "a;b", "&", "|", "(", "<"]
        ),
        min_size=1,
        max_size=5,
    )
)
def test_quoted_words_come_back_as_they_were(words):
    import shlex

    assert by_us("show " + " ".join(shlex.quote(word) for word in words)) == [tuple(words)]


@given(st.text(alphabet="ab $'\"\\{}()[]=+-:;|&<>#\n`*@1?!", max_size=40))
def test_no_text_ends_but_in_commands_or_an_error(text):
    for environment in (None, {}):
        try:
            statements(text, environment)
        except InvalidValueError as error:
            assert error.help


@given(st.integers(-50, 50), st.sampled_from("+-*/%"), st.integers(-50, 50))
def test_sums_are_those_of_a_shell(one, operator, other):
    by_hand = {
        "+": lambda: one + other,
        "-": lambda: one - other,
        "*": lambda: one * other,
        "/": lambda: int(one / other),
        "%": lambda: one - other * int(one / other),
    }
    expected = "$(...)" if operator in "/%" and other == 0 else str(by_hand[operator]())
    assert computed(f"{one} {operator} {other}") == expected


@pytest.mark.parametrize("text", ["9" * 30, "2 ** 9", "1 << 3", "a", "", "(1", "1/0", "1.5", "-" * 70 + "1"])
def test_other_sums_are_not_known(text):
    assert computed(text) in ("$(...)", "1")


def test_a_bare_line_takes_no_default():
    assert statements("show ${A:-5}")[0].words == ("show", "${A}")
    assert statements("show ${A:-5}", {})[0].words == ("show", "5")
    assert statements("show ${A:-5}", {"A": "6"})[0].words == ("show", "6")
    assert statements("A=7; show ${A:-5}")[0].words == ("show", "7")


UNKNOWN = {
    "show $X": "${X}",
    "show ${X}": "${X}",
    "show ${X?not set}": "${X}",
    "show $(hostname)": "$(...)",
    "show $(HOST_IP)": "$(HOST_IP)",
    "if [ -e /x ]; then A=1; fi; show ${A:-2}": "${A}",
    "if [ -e /x ]; then A=1; fi; : ${A:=2}; show $A": "${A}",
    "A=b; show ${A,,}": "${A}",
    "show ${X#a}": "${X}",
    "show $(nvidia-smi -L | wc -l)": "$(...)",
    "show `nproc`": "$(...)",
    "show ${env.HOME}": "${env.HOME}",
    "show $1": "${1}",
    'show "$@"': "${@}",
    "show $((X * 2))": "$(...)",
    "for i in 1 2; do A=$i; done; show $A": "${A}",
    "if grep -q x y; then A=1; fi; show $A": "${A}",
    "test -f x && A=1; show $A": "${A}",
}


@pytest.mark.parametrize(("text", "word"), UNKNOWN.items())
def test_what_is_not_known_stays_in_the_word(text, word):
    assert by_us(text) == [(word,)]


def test_a_file_that_is_sourced_sets_variables():
    files = {"a.env": "M=x\nset -a\n. b.sh\n", "b.sh": "N=${N:-2}\nexport TOP=$M\nshow 1\n. b.sh\n"}
    found = statements("set -a; source a.env\nshow $M $N $TOP", {}, files.get)[-1]
    assert found.words == ("show", "x", "2", "x")
    assert found.variables["TOP"] == "x"
    assert statements("source none.env; show $M", {}, files.get)[0].words == ("show", "${M}")
    assert statements("if [ -f a.env ]; then . a.env; fi; show $M", {}, files.get)[-1].words == ("show", "x")
    assert statements("if [ -f x ]; then . a.env; fi; show $M", {}, files.get)[-1].words == ("show", "${M}")


@pytest.mark.parametrize(
    "text",
    [
        'eval "vllm serve x --port 1"',
        'C="vllm serve x"; eval "$C" --port 1',
        "ssh -p 22 me@host 'cd /srv && vllm serve x --port 1'",
        "tmux new-session -d -s v 'vllm serve x --port 1'",
        "screen -dmS v vllm serve x --port 1",
        "gosu app vllm serve x --port 1",
    ],
)
def test_commands_that_are_handed_on_as_a_text(text):
    (command,) = read_commands(text, {})
    assert (command.engine, command.model) == ("vllm", "x")


def test_variables_of_a_container_that_stand_in_a_file(tmp_path):
    (tmp_path / "o.env").write_text("OLLAMA_CONTEXT_LENGTH=8192\nOLLAMA_NUM_PARALLEL='2'\n")
    line = "docker run --env-file o.env --env-file none.env -e OLLAMA_NUM_PARALLEL=4 ollama/ollama"
    (command,) = read_commands(line, {}, folder=tmp_path)
    assert command.args == {"OLLAMA_CONTEXT_LENGTH": 8192, "OLLAMA_NUM_PARALLEL": 4}


def test_each_command_has_its_line_and_its_variables():
    text = "# a\nexport A=1\nB=2 vllm serve x --port 1 &\n\nsleep 1\nvllm serve \\\n  y\n"
    first, second = read_commands(text, {})
    assert (first.model, first.line, second.model, second.line) == ("x", 3, "y", 6)
    assert [each.variables for each in statements("export A=1; B=2 x; y", {})] == [{"A": "1", "B": "2"}, {"A": "1"}]


def test_the_command_of_a_pipe_is_the_one_that_serves():
    text = "cd /srv && vllm serve m --max-model-len 8K 2>&1 | tee -a serve.log"
    (command,) = read_commands(text)
    assert (command.model, command.args) == ("m", {"max-model-len": 8192})


def test_text_that_is_no_command_starts_nothing():
    for text in ("", "\n\n", "# vllm serve m", "echo vllm serve m", "pip install vllm", "cat <<EOF\nvllm serve m\nEOF"):
        assert read_commands(text) == ()


@given(st.text(max_size=80))
def test_any_text_is_read_or_refused(text):
    try:
        read_commands("vllm serve m " + text)
    except KvcalcError as error:
        assert error.help
