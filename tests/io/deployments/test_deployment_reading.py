"""Lines and words: what stands where, through YAML in a string of YAML, HCL, units and Dockerfiles."""

from __future__ import annotations

import pytest
import yaml as pyyaml
from hypothesis import given
from hypothesis import strategies as st

from kvcalc.errors import InvalidFileError
from kvcalc.io.deployments.forms.dockerfile import instructions
from kvcalc.io.deployments.reading import hcl
from kvcalc.io.deployments.reading.flags import flag_name, flag_words
from kvcalc.io.deployments.reading.text import Text
from kvcalc.io.deployments.reading.units import entries, variables
from kvcalc.io.deployments.reading.words import listed, split
from kvcalc.io.deployments.reading.yaml import documents


def read(words: str):
    return documents(Text.of_file(words), "f.yaml")


@given(st.text("ab\n", max_size=40), st.integers(0, 40), st.integers(0, 40))
def test_a_part_of_a_text_has_its_lines(words, start, end):
    text = Text.of_file(words)
    part = text.part(start, end)
    assert part == words[start:end]
    for offset in range(len(part)):
        assert part.line_at(offset) == words[: start + offset].count("\n") + 1


@given(st.lists(st.text("ab\n", max_size=10), max_size=5))
def test_joined_texts_keep_their_lines(pieces):
    texts = [Text(words, (0,), (number,)) for number, words in enumerate(pieces, 10)]
    joined = Text.joined(texts)
    assert joined == "".join(pieces)
    offset = 0
    for number, words in enumerate(pieces, 10):
        assert all(joined.line_at(offset + at) == number for at in range(len(words)))
        offset += len(words)


@pytest.mark.parametrize(
    ("words", "line"),
    [
        ("a: |\n  one\n  two\n  find\n", 4),
        ("a: >-\n  one two\n  three\n\n  find\n", 5),
        ("a: one\n  two\n  find\n", 3),
        ('a: "one \\\n  two\n  find"\n', 3),
        ("a: 'one\n  it''s\n  find'\n", 3),
        ("a:\n- find\n", 2),
        ("x: &n {b: find}\na: *n\n", 1),
    ],
)
def test_a_word_of_a_scalar_has_its_own_line(words, line):
    (root,) = read(words)
    node = next(each for each in root.walk() if each.written is not None and "find" in each.text)
    assert node.text.line_at(node.text.index("find")) == line


def test_yaml_in_a_string_of_yaml_has_lines_of_the_outer_file():
    (root,) = read("a: 1\nb: |\n  c: 1\n  d: |\n    e:\n    - f\n")
    (inner,) = documents(root.at("b").text, "f.yaml")
    (innermost,) = documents(inner.at("d").text, "f.yaml")
    assert innermost.at("e", 0).line == 6


@pytest.mark.parametrize(
    "words",
    [
        "a: {b: [1, 2.5, true, null, x]}\nc: &z [1]\nd: *z\n---\ne: 1\n",
        "base: &b {x: 1, y: 2}\none: {<<: *b, y: 3}\ntwo:\n  <<: [{x: 5}, *b]\n",
        "text: |+\n  a\n\nfolded: >\n  b\n  c\nquoted: 'it''s'\nnumber: '8'\n",
    ],
)
def test_values_are_those_that_the_library_reads(words):
    assert [root.plain() for root in read(words)] == list(pyyaml.safe_load_all(words))


def test_nothing_is_where_nothing_stands():
    (root,) = read("a: {b: [x]}\nnumber: '12'\n")
    assert not root.at("a", "c", "d", 3)
    assert root.at("a", "c").line == 1
    assert root.at("a", "b", 1).text == ""
    assert root.at("number").count == 12
    assert root.at("a").count is None


BOMB = "a: &a [x,x,x,x,x,x,x,x,x]\n" + "".join(
    f"{chr(98 + n)}: &{chr(98 + n)} [{','.join(f'*{chr(97 + n)}' for _ in range(9))}]\n" for n in range(9)
)


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ("a: [\n", "f.yaml:2: is not valid YAML"),
        ("a: 1\na: 2\n", "f.yaml:2: the key 'a' is repeated; first on line 1"),
        ("a: *b\n", "f.yaml:1: the anchor 'b' is used before it is defined"),
        ("? [1]\n: 2\n", "f.yaml:1: a key must be plain text"),
        ("[" * 100 + "]" * 100, "f.yaml:1: is nested deeper than 64 levels"),
        ("- x\n" * 250_001, "contains more than 250,000 values"),
        ("a: \x00", "f.yaml: is not valid YAML"),
    ],
)
def test_what_cannot_be_read_is_refused_with_its_line(words, message):
    with pytest.raises(InvalidFileError) as raised:
        read(words)
    assert message in str(raised.value)


def test_aliases_share_what_they_name_and_unfold_nothing():
    (root,) = read(BOMB)
    assert sum(1 for _ in root.walk()) < 200


@pytest.mark.parametrize(
    ("words", "found"),
    [
        ('a \'b c\' "d\\"e" f\\ g', ["a", "b c", 'd"e', "f g"]),
        ("--x '{\"a\": 1}'", ["--x", '{"a": 1}']),
        ("a \\\n b", ["a", "b"]),
        ("'open quote", ["open quote"]),
        ("", []),
    ],
)
def test_words_are_divided_as_a_shell_divides_them(words, found):
    assert split(Text.of_file(words)) == found


def test_a_list_of_a_dockerfile_is_one_only_as_json():
    assert listed(Text.on(3, '["a", "b"]')) == ["a", "b"]
    assert listed(Text.on(3, "[a, b]")) is None
    assert listed(Text.on(3, "a b")) is None


@pytest.mark.parametrize(
    ("name", "flag"),
    [("maxModelLen", "max-model-len"), ("max_model_len", "max-model-len"), ("dtype", "dtype"), ("v1", "v1")],
)
def test_names_of_settings_are_flags(name, flag):
    assert flag_name(name) == flag


def test_settings_are_words_of_a_command_line():
    (root,) = read("a: true\nb: false\nc: [x, y]\nd: {e: 1}\nf: 8\ng:\n")
    words = list(flag_words(root.items()))
    assert words == ["--a", "--no-b", "--c", "x", "y", '--d={"e": 1}', "--f=8"]
    assert [word.line for word in words] == [1, 2, 3, 3, 3, 4, 5]
    assert "--no-b" not in list(flag_words(root.items(), off=False))


HCL = """# a comment
job "x" { // another
  count = 2 /* and a third */
  list  = ["a", 1, true, var.n, # last
  ]
  map { k = "v" }
  map { k = "w" }
  text = <<EOF
{ not read }
EOF
  call = tostring(var.m)
  sum  = 1 + 2
}
"""


def test_hcl_is_read_with_its_lines():
    root = hcl.parse(Text.of_file(HCL), "f.tf")
    job = root.at("job", 0)
    assert job.at("count").value == 2
    assert [item.plain() for item in job.at("list").each()] == ["a", 1, True, "${var.n}"]
    assert [each.at("k").text for each in job.at("map").each()] == ["v", "w"]
    assert job.at("call").text == "${var.m}"
    assert job.at("sum").text == "${1+2}"
    assert job.at("call").line == 11


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ("a {\n", "f.tf:2: cannot be read as HCL: a block does not end"),
        ("a = [\n", "a list does not end"),
        ("a = \n", "a value is missing"),
        ("a b\n", "is followed by neither = nor a block"),
        ("a = <<EOF\nx\n", "a heredoc does not end"),
        ("= 1\n", "starts neither an attribute nor a block"),
        ("a {" * 100, "is nested deeper than 64 levels"),
        ("a = " + "[" * 100, "is nested deeper than 64 levels"),
    ],
)
def test_hcl_that_cannot_be_read_is_refused_with_its_line(words, message):
    with pytest.raises(InvalidFileError) as raised:
        hcl.parse(Text.of_file(words), "f.tf")
    assert message in str(raised.value)


def test_entries_of_a_unit_go_on_behind_a_backslash():
    found = list(entries(Text.of_file("# no\n[Service]\nExecStart=a \\\n  b\nEnvironment=A=1\n")))
    assert [(each.section, each.name, split(each.value)) for each in found] == [
        ("Service", "ExecStart", ["a", "b"]),
        ("Service", "Environment", ["A=1"]),
    ]
    assert [word.line for word in split(found[0].value)] == [3, 4]


def test_variables_of_an_env_file():
    found = variables(Text.of_file("A=1\nexport B='x y'\n# C=2\nD=\"z\" \nE=v # why\nbroken\n"))
    assert found == {"A": "1", "B": "x y", "D": "z", "E": "v"}


def test_instructions_of_a_dockerfile():
    text = 'FROM a\n# no\nRUN x \\\n # no\n y\nRUN <<EOF\nCMD no\nEOF\nCMD ["b"]\n'
    found = [(name, " ".join(rest.split())) for name, rest in instructions(Text.of_file(text))]
    assert found == [("FROM", "a"), ("RUN", "x y"), ("RUN", "<<EOF"), ("CMD", '["b"]')]
