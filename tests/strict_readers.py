"""What kvcalc prints, read as strictly as whoever receives it would: terminals, runners, spreadsheets, XML and Markdown."""

from __future__ import annotations

import csv
import io
import json
import re
import string
from contextlib import redirect_stderr, redirect_stdout
from typing import NamedTuple
from xml.etree import ElementTree

import jsonschema

from kvcalc.cli import main
from kvcalc.formats.html import _SCRIPT as PAGE_SCRIPT
from kvcalc.report.notices import RULES


class Printed(NamedTuple):
    out: str
    err: str
    code: int


def run(*arguments: str) -> Printed:
    """A command line in this process, whose streams encode as a terminal's do."""
    out, err = (io.TextIOWrapper(io.BytesIO(), "utf-8", write_through=True) for _ in range(2))
    with redirect_stdout(out), redirect_stderr(err):
        code = main(list(arguments))
    return Printed(*(stream.buffer.getvalue().decode("utf-8") for stream in (out, err)), code)


def assert_inert(text: str) -> None:
    """Asserts that no character acts, on a terminal or on whoever reads a log."""
    strange = [char for char in text if char != "\n" and not char.isprintable()]
    assert not strange, strange[:5]


def commands(text: str) -> list[tuple[str, dict[str, str], str]]:
    """Workflow commands of a log, as the runner reads them. Source: actions/runner, ActionCommand.cs."""
    assert "##[" not in text
    assert "##vso[" not in text
    found = []
    for line in re.split(r"\r\n|\r|\n", text):
        if not line.lstrip().startswith("::"):
            continue
        match = re.fullmatch(r"::(?P<name>[a-z-]+)(?: (?P<properties>.*?))?::(?P<message>.*)", line.lstrip())
        assert match, line
        properties = dict(pair.split("=", 1) for pair in (match["properties"] or "").split(",") if pair)
        found.append((match["name"], properties, match["message"]))
    return found


def cells(row: str) -> list[str]:
    """Cells of a row of a table of GitHub's Markdown: a border is a bar behind an even number of backslashes."""
    assert row.startswith("|")
    return re.findall(r"((?:\\.|[^\\|])*)\|", row[1:].rstrip())


def read_strictly(format: str, text: str) -> None:
    """Asserts that a document is one of its format."""
    assert_inert(text)
    if format != "github":
        assert commands(text) == []
    if format == "json":
        json.loads(text)
    elif format == "csv":
        header, *rows = csv.reader(io.StringIO(text), strict=True)
        assert len(header) == len(set(header))
        assert all(re.fullmatch("[a-z][a-z0-9_]*", name) for name in header), header
        for row in rows:
            assert len(row) == len(header)
            assert not [cell for cell in row if cell[:1] in ("=", "+", "-", "@", "\t", "\r") and not is_number(cell)]
    elif format == "sarif":
        read_sarif(json.loads(text))
    elif format == "gitlab":
        read_gitlab(json.loads(text))
    elif format == "junit":
        ElementTree.fromstring(text.encode())
    elif format in READERS:
        READERS[format](text)
    elif format == "github":
        assert {name for name, *_ in commands(text)} <= {"error", "notice"}
        assert len(commands(text)) == len(text.splitlines())
        assert all({"file", "line", "title"} == properties.keys() for _, properties, _ in commands(text))


LATEX_SIGNS = (
    *("textbackslash", "textasciitilde", "textasciicircum", "textless", "textgreater", "textbar", "textasciigrave"),
    "char34",
)
TEXT_OF_LATEX = re.compile(
    r"""[^\\#$%&_{}~^<>|`"]|\\[#$%&_{}]|\\(?:""" + "|".join(LATEX_SIGNS) + r""")\{\}|\$\\(?:times|cdot)\$|\{\}"""
)
"""What may stand in a text: characters that stand for themselves, escaped ones, named signs, and what parts a ligature."""
OWN_LATEX = re.compile(
    r"% \\usepackage\{booktabs\}|\\(?:begin|end)\{table\}|\\centering|\\begin\{tabular\}\{[lr]+\}"
    r"|\\(?:top|mid|bottom)rule|\\end\{tabular\}|\\par\\smallskip|"
)
WORDS_OF_LATEX = re.compile(r"\\caption\{(.*)\}|\\parbox\{\\linewidth\}\{\\footnotesize (.*)\}\\par")


def read_latex(text: str) -> None:
    """Each line is one of the few that a table has, and its words are only words, of which none is a ligature."""
    columns = 0
    for line in text.splitlines():
        if begun := re.fullmatch(r"\\begin\{tabular\}\{([lr]+)\}", line):
            columns = len(begun[1])
        if OWN_LATEX.fullmatch(line):
            continue
        match = WORDS_OF_LATEX.fullmatch(line)
        if not match:
            assert line.endswith(r" \\"), line
        words = [match[1] or match[2] or ""] if match else re.split(r"(?<!\\)&", line.removesuffix(r" \\"))
        assert match or len(words) == columns, line
        for each in words:
            assert "".join(TEXT_OF_LATEX.findall(each)) == each, each
            assert not re.search("--|''|,,|``", each), each


OWN_TIKZ = re.compile(
    r"% \\usepackage\{pgfplots\} \\pgfplotsset\{compat=1\.18\}|\\(?:begin|end)\{tikzpicture\}|\\begin\{axis\}\[|\]|\\end\{axis\}"
    r"|\\definecolor\{kvcalc[a-z]+\}\{HTML\}\{[0-9A-F]{6}\}"
    r"|\\addplot\[[\w ,*=]+\] coordinates \{(?:\(\d+(?:\.\d+)?,\d+(?:\.\d+)?\) ?)*\};"
    r"|\\fill\[\w+, draw=white\] \(axis cs:\d+,0\) rectangle \(axis cs:\d+,1\); % \d+ bytes|"
)
"""Lines of a picture without a word of anybody else."""
WORDS_OF_TIKZ = re.compile(
    r"% (.*)|  title=\{(.*)\}, title style=\{align=left, text width=\\linewidth\},|\\addlegendentry\{(.*)\}"
    r"|\\draw\[red, densely dashed\] \(axis cs:\d+,\d+\.6\) -- \(axis cs:\d+,-0\.6\) "
    r"node\[above left, font=\\footnotesize\] \{(.*)\};"
)
OPTION_OF_TIKZ = re.compile(r"  (?:[xy]ticklabels=\{((?:\{.*\},?)*)\}|[xy]label=\{(.*)\}|([\w .,;=%{}()!/*\\-]+)),")


def read_tikz(text: str) -> None:
    """Each line is one of the few that a picture has, braces pair, and words are only words."""
    for line in text.splitlines():
        if OWN_TIKZ.fullmatch(line):
            continue
        match = WORDS_OF_TIKZ.fullmatch(line) or OPTION_OF_TIKZ.fullmatch(line)
        assert match, line
        if match.re is OPTION_OF_TIKZ:
            labels = re.findall(r"\{((?:\\.|\{\}|[^{}\\])*)\},?", match[1]) if match[1] else []
            words = [*labels, match[2] or ""]
            assert not match[1] or "".join(f"{{{label}}}," for label in labels)[:-1] == match[1], line
        else:
            words = [next((group for group in match.groups() if group), "")]
        for each in words:
            assert "".join(TEXT_OF_LATEX.findall(each)) == each, each


OF_SVG = {"svg", "title", "defs", "style", "g", "path", "use", "text", "tspan", "clipPath", "rect"}
OF_HTML = {
    *(
        "html",
        "head",
        "meta",
        "title",
        "style",
        "body",
        "header",
        "main",
        "footer",
        "nav",
        "section",
        "script",
        "a",
        "br",
    ),
    *("h1", "h2", "h3", "h4", "p", "strong", "ul", "li", "dl", "dt", "dd", "div", "span", "code", "details", "summary"),
    *("table", "thead", "tbody", "tr", "th", "td", "figure", "figcaption"),
}


def read_svg(text: str) -> None:
    """An XML document of drawings and words: nothing that runs or asks a network."""
    read_elements(ElementTree.fromstring(text.encode()), OF_SVG)


def read_html(text: str) -> None:
    """A page that is well-formed XML, of the elements that kvcalc writes; its one script is kvcalc's own."""
    doctype, _, rest = text.partition("\n")
    assert doctype == "<!DOCTYPE html>"
    root = ElementTree.fromstring(rest.encode())
    read_elements(root, OF_HTML | OF_SVG)
    assert [script.text.strip() for script in root.iter("script")] == [PAGE_SCRIPT]
    assert len(list(root.iter("h1"))) == 1
    assert root.get("lang") == "en"


def read_elements(root: ElementTree.Element, known: set[str]) -> None:
    """Elements of known names, none of which acts or asks a network."""
    names = {element.tag.rpartition("}")[2] for element in root.iter()}
    assert names <= known, names - known
    for element in root.iter():
        for name, value in element.attrib.items():
            assert not name.rpartition("}")[2].startswith("on"), name
            assert "href" not in name or value.startswith("#"), value


def an_object(**required):
    """The schema of an object that has these and nothing else."""
    return {"type": "object", "properties": required, "required": [*required], "additionalProperties": False}


TEXT = {"type": "string", "minLength": 1}
MESSAGE = an_object(text=TEXT)
LOCATION = an_object(
    physicalLocation=an_object(
        artifactLocation={
            "type": "object",
            "properties": {"uri": TEXT, "uriBaseId": {"const": "%SRCROOT%"}},
            "required": ["uri"],
            "additionalProperties": False,
        },
        region=an_object(startLine={"type": "integer", "minimum": 1}),
    )
)
RESULT = an_object(
    ruleId={"enum": [rule.id for rule in RULES]},
    ruleIndex={"type": "integer", "minimum": 0, "maximum": len(RULES) - 1},
    level={"enum": ["none", "note", "warning", "error"]},
    message=MESSAGE,
    locations={"type": "array", "items": LOCATION, "minItems": 1, "maxItems": 10},
    partialFingerprints=an_object(primaryLocationLineHash={"type": "string", "pattern": "^[0-9a-f]{16,}:[1-9][0-9]*$"}),
)
RULE = an_object(
    id=TEXT,
    name={"type": "string", "maxLength": 255, "pattern": "^[A-Za-z]+$"},
    shortDescription=an_object(text={"type": "string", "maxLength": 1024}),
    fullDescription=an_object(text={"type": "string", "maxLength": 1024}),
    help=MESSAGE,
    defaultConfiguration=an_object(level={"enum": ["error"]}),
)
SARIF = jsonschema.Draft202012Validator(
    {
        "type": "object",
        "properties": {
            "$schema": {"type": "string", "pattern": "^https://docs.oasis-open.org/sarif/.*/sarif-schema-2.1.0.json$"},
            "version": {"const": "2.1.0"},
            "runs": {
                "type": "array",
                "minItems": 1,
                "maxItems": 20,
                "items": an_object(
                    tool=an_object(
                        driver=an_object(
                            name=TEXT,
                            version=TEXT,
                            semanticVersion={"type": "string", "pattern": r"^\d+\.\d+\.\d+"},
                            informationUri={"type": "string", "pattern": "^https://"},
                            rules={"type": "array", "items": RULE},
                        )
                    ),
                    columnKind={"enum": ["utf16CodeUnits", "unicodeCodePoints"]},
                    results={"type": "array", "items": RESULT, "maxItems": 25_000},
                ),
            },
        },
        "required": ["$schema", "version", "runs"],
        "additionalProperties": False,
    }
)
"""The part of SARIF 2.1.0 that is written, with what GitHub's code scanning asks of it and its limits."""
GITLAB = jsonschema.Draft202012Validator(
    {
        "type": "array",
        "items": an_object(
            description=TEXT,
            check_name={"enum": [rule.id for rule in RULES]},
            fingerprint={"type": "string", "pattern": "^[0-9a-f]{32,64}$"},
            severity={"enum": ["info", "minor", "major", "critical", "blocker"]},
            location=an_object(path=TEXT, lines=an_object(begin={"type": "integer", "minimum": 1})),
        ),
    }
)
"""GitLab's code quality report, all of whose fields it asks for."""


def read_sarif(log) -> None:
    SARIF.validate(log)
    for run in log["runs"]:
        rules = [rule["id"] for rule in run["tool"]["driver"]["rules"]]
        assert len(set(rules)) == len(rules)
        prints = [result["partialFingerprints"]["primaryLocationLineHash"] for result in run["results"]]
        assert len(set(prints)) == len(prints)
        for result in run["results"]:
            assert rules[result["ruleIndex"]] == result["ruleId"]
            assert_inert(result["message"]["text"])
            uri = result["locations"][0]["physicalLocation"]["artifactLocation"]["uri"]
            assert set(uri) <= set(string.ascii_letters + string.digits + "%-._~/")  # RFC 3986, 3.3
            assert re.fullmatch(r"(?:[^%]|%[0-9A-F]{2})+", uri)
            assert not uri.startswith(("./", "//"))


def read_gitlab(issues) -> None:
    GITLAB.validate(issues)
    assert len({issue["fingerprint"] for issue in issues}) == len(issues)
    for issue in issues:
        assert_inert(issue["description"] + issue["location"]["path"])
        assert not issue["location"]["path"].startswith("./")


def is_number(cell: str) -> bool:
    return bool(re.fullmatch(r"[+-]?[\d.,e-]+%?", cell))


def read_markdown(text: str) -> None:
    assert "<" not in text
    width = 0
    for line in text.splitlines():
        if not line.startswith("|"):
            assert not line or line.startswith(("### ", "- ", "  - "))
            width = 0
            continue
        width = width or len(cells(line))
        assert len(cells(line)) == width > 0
        assert not re.search(r"(?<!\\)(?:\\\\)*`", line)


def assert_message(done: Printed) -> None:
    """Asserts that an error is two lines that a person may read."""
    assert done.out == ""
    assert_inert(done.err)
    assert commands(done.err) == []
    lines = done.err.splitlines()
    assert len(lines) == 2
    assert max(map(len, lines)) < 4000


READERS = {"markdown": read_markdown, "latex": read_latex, "tikz": read_tikz, "svg": read_svg, "html": read_html}
