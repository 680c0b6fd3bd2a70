"""The voice of messages, help, docstrings and pages: short and plain, in the words of the field."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
PAGES = ("README.md", "CONTRIBUTING.md", "CHANGELOG.md", "SECURITY.md", "docs/**/*.md")

BANNED = {
    r"nobody|somebody|anybody": "name who it is, such as the user; or: is unknown",
    r"who(m)?ever": "the caller, the user",
    r"so (many|much)(?! as)": "this many, this much; or the number",
    r"at hand": "current",
    r"taken for": "treated as, assumed to be",
    r"(is|are|was|were|be|been) told": "gets, is called with, is reported",
    r"beside": "next to, in addition to, besides",
    r"that (it|they) (has|have)": "its, their",
    r"for instance": "for example",
    r"in (the )?place of": "instead of",
    r"leave (the )?\S+( \S+)? out": "remove",
    r"leave (the )?\S+ at": "set, use",
    r"(in|out)side of": "inside, outside",
    r"held against": "compared with, checked against",
    r"works? out|worked out": "computes, derives, resolves",
    r"anew(?!\()": "again",
    r"asked back": "refused with the candidates",
    r"guess(es|ed)? (\w+ )?ahead|guessed tokens?": "drafts, draft tokens",
    r"raises \w+ where": "Raises ... if",
    r"(none|0) where": "None if, 0 if",
    r"passed over": "ignored",
    r"kin": "related",
    r"some \d+": "about",
    r"how few": "the fewest",
    r"what binds": "the limiting factor",
    r"by the same rule": "extrapolated",
    r"whose rules hold": "drop it: version of vLLM",
    r"whose (file|log|memory) it is": "the engine that wrote it, the engine that allocates it",
    r"(at|behind) the door": "at the entry point",
    r"turns? the question round": "answers the inverse question",
    r"and (?!there)\w+ is none": "is not",
    r"not known here": "unknown",
}
"""Phrases that a native engineer stumbles over, and what to write instead."""

_EACH = {re.compile(rf"\b(?:{phrase})\b", re.IGNORECASE): better for phrase, better in BANNED.items()}
_ANY = re.compile(rf"\b(?:{'|'.join(BANNED)})\b", re.IGNORECASE)
_SEAM = re.compile(r"""(["'])\s*\\?\n\s*[rf]*\1""")
_CODE = re.compile(r"`[^`]*`")
_BLANKS = re.compile(r"\s+")


def texts(path: Path) -> Iterator[tuple[int, str]]:
    """Texts of a file with their lines: a page as a whole, and the strings of a module, which names are not part of."""
    source = path.read_text("utf-8")
    if path.suffix == ".md":
        yield 1, source
    elif _ANY.search(_BLANKS.sub(" ", _SEAM.sub("", source))):  # others need not be parsed
        nodes = list(ast.walk(ast.parse(source)))
        joined = [node for node in nodes if isinstance(node, ast.JoinedStr)]
        for node in joined:
            parts = [part.value if isinstance(part, ast.Constant) else "_" for part in node.values]
            yield node.lineno, "".join(parts)
        parts_of_joined = {id(part) for node in joined for part in node.values}
        for node in nodes:
            if isinstance(node, ast.Constant) and isinstance(node.value, str) and id(node) not in parts_of_joined:
                yield node.lineno, node.value if " " in node.value else ""


def stumbles(path: Path) -> Iterator[str]:
    """Each banned phrase of a file: where it is, and what to write instead."""
    for line, text in texts(path):
        plain = _BLANKS.sub(" ", _CODE.sub("``", text))
        for phrase, better in _EACH.items() if _ANY.search(plain) else ():
            for found in phrase.finditer(plain):
                around = plain[max(0, found.start() - 40) : found.end() + 30]
                yield f"{path}:{line}: {found[0]!r} in '{around}'; better: {better}"


def test_no_text_makes_a_native_engineer_stumble():
    files = [*(ROOT / "kvcalc").rglob("*.py"), *(path for page in PAGES for path in ROOT.glob(page))]
    assert len(files) > 600
    assert [each for path in files for each in stumbles(path)] == []


STILTED = {
    "docstring.py": '"""Tokens, 0 where there are none."""\n',
    "joined.py": 'def text(n: int) -> str:\n    return f"{n} of so "\\\n        f"many tokens"\n',
    "message.py": 'HELP = (\n    "leave the engine"\n    " at ideal"\n)\n',
    "page.md": "Scores of 3.76 GB\nbeside it.\n",
}


@pytest.mark.parametrize("name", STILTED)
def test_a_stilted_text_is_found_with_a_better_one(tmp_path, name):
    (tmp_path / name).write_text(STILTED[name])
    (found,) = stumbles(tmp_path / name)
    assert re.fullmatch(rf".*{name}:\d: '.*; better: .+", found)


@pytest.mark.parametrize("text", ['beside = "None"  # beside\n', '"""Bytes besides the weights: `Engine.beside`."""\n'])
def test_names_and_code_are_free(tmp_path, text):
    (tmp_path / "module.py").write_text(text)
    assert list(stumbles(tmp_path / "module.py")) == []
