"""HTML: a self-contained page for any document: tables, charts, notes, and sections if it has them.

It loads nothing from a network, follows the reader's light or dark theme, prints well, and needs no script; with
scripts, charts show the number under the pointer, and a click copies a command.
"""

from __future__ import annotations

from collections.abc import Iterator
from hashlib import sha256
from typing import TextIO

from kvcalc import __version__
from kvcalc.formats import _html
from kvcalc.formats._html import html
from kvcalc.formats._palette import LIGHT
from kvcalc.report.chart import charts_of
from kvcalc.report.page import Part, Section, Sectioned
from kvcalc.report.sheet import Document

_POLICY = "default-src 'none'; style-src 'unsafe-inline'; script-src 'unsafe-inline'; img-src data:"
"""Nothing is loaded from elsewhere."""
_STYLE = """
:root { color-scheme: light dark; }
body { margin: 0; }
.kvcalc main, .kvcalc header, .kvcalc footer { max-width: 64rem; margin: 0 auto; padding: 0 1.25rem; }
.kvcalc header { padding-top: 1.5rem; }
.kvcalc footer { color: var(--muted); font-size: 0.875rem; padding-bottom: 2rem; }
.kvcalc h1 { font-size: 1.6rem; line-height: 1.25; margin: 0 0 0.4rem; overflow-wrap: anywhere; }
.kvcalc h2 { font-size: 1.3rem; margin: 2.4rem 0 0.4rem; overflow-wrap: anywhere; }
.kvcalc h3 { font-size: 1.05rem; margin: 1.8rem 0 0.2rem; overflow-wrap: anywhere; }
.kvcalc section.deployment { border-top: 1px solid var(--grid); margin-top: 2rem; }
.kvcalc .badge { font-size: 0.8rem; font-weight: 600; padding: 0.1rem 0.55rem; border-radius: 0.8rem;
  border: 1.5px solid currentColor; vertical-align: middle; margin-left: 0.6rem; white-space: nowrap; }
.kvcalc .lead { color: var(--muted); margin: 0.2rem 0 0.6rem; }
.kvcalc a { color: var(--link); }
.kvcalc nav ul { list-style: none; padding: 0; display: flex; flex-wrap: wrap; gap: 0.3rem 1.2rem; }
.kvcalc .command { display: flex; align-items: start; gap: 0.5rem; background: var(--raised); border-radius: 0.4rem;
  padding: 0.4rem 0.7rem; margin: 0.6rem 0; }
.kvcalc .command code { flex: 1; font: 0.8125rem/1.5 ui-monospace, "SF Mono", Menlo, Consolas, monospace;
  white-space: pre-wrap; overflow-wrap: anywhere; }
.kvcalc button { font: inherit; font-size: 0.8125rem; color: var(--link); background: none; cursor: pointer;
  border: 1px solid currentColor; border-radius: 0.3rem; padding: 0.1rem 0.5rem; }
#kvcalc-tip { position: fixed; pointer-events: none; background: var(--words); color: var(--surface); z-index: 9;
  padding: 0.25rem 0.55rem; border-radius: 0.3rem; font-size: 0.8125rem; max-width: 20rem; display: none; }
.kvcalc g.tip:hover path, .kvcalc g.tip:hover use { stroke: var(--words) !important; stroke-width: 2 !important; }
.kvcalc .skip { position: absolute; left: -99rem; }
.kvcalc .skip:focus { position: static; }
@media print {
  .kvcalc { LIGHT font-size: 10pt; }
  .kvcalc button, .kvcalc nav, .kvcalc .skip { display: none; }
  .kvcalc .wide { overflow: visible; }
  .kvcalc figure, .kvcalc tr, .kvcalc .command { break-inside: avoid; }
  .kvcalc h2, .kvcalc h3 { break-after: avoid; }
  .kvcalc figure svg { min-width: 0; }
  .kvcalc details::details-content { content-visibility: visible; block-size: auto; }
}
""".strip()
_SCRIPT = """
document.querySelectorAll(".command").forEach(function (box) {
  var button = document.createElement("button");
  button.type = "button";
  button.textContent = "copy";
  button.addEventListener("click", function () {
    var words = box.querySelector("code").textContent;
    if (navigator.clipboard) { navigator.clipboard.writeText(words); }
    var range = document.createRange();
    range.selectNodeContents(box.querySelector("code"));
    getSelection().removeAllRanges();
    getSelection().addRange(range);
    button.textContent = navigator.clipboard ? "copied" : "selected";
    setTimeout(function () { button.textContent = "copy"; }, 1500);
  });
  box.appendChild(button);
});
var tip = document.createElement("div");
tip.id = "kvcalc-tip";
document.querySelector(".kvcalc").appendChild(tip);
document.querySelectorAll("figure svg").forEach(function (drawing) {
  var parts = Array.from(drawing.querySelectorAll("g.tip")).map(function (part) {
    var title = part.querySelector("title");
    var said = title.textContent;
    title.remove();
    part.setAttribute("aria-label", said);
    return { part: part, said: said };
  });
  function away(box, x, y) {
    var right = Math.max(box.left - x, x - box.right, 0);
    var down = Math.max(box.top - y, y - box.bottom, 0);
    return right * right + down * down;
  }
  drawing.addEventListener("pointermove", function (event) {
    var best = null;
    var least = 30 * 30;
    parts.forEach(function (each) {
      var far = away(each.part.getBoundingClientRect(), event.clientX, event.clientY);
      if (least > far) { least = far; best = each; }
    });
    tip.style.display = best ? "block" : "none";
    if (best) {
      tip.textContent = best.said;
      var left = Math.min(event.clientX + 14, innerWidth - tip.offsetWidth - 8);
      tip.style.left = Math.max(8, left) + "px";
      var below = event.clientY + 18;
      tip.style.top = (below + tip.offsetHeight > innerHeight ? event.clientY - tip.offsetHeight - 12 : below) + "px";
    }
  });
  drawing.addEventListener("pointerleave", function () { tip.style.display = "none"; });
});
addEventListener("beforeprint", function () {
  document.querySelectorAll("details").forEach(function (each) { each.open = true; });
});
""".strip()


def write(document: Document, stream: TextIO) -> None:
    """Writes a page of the document."""
    stream.write("\n".join(_page(document)) + "\n")


def fragment(document: Document) -> str:
    """The document as part of another page, such as a notebook."""
    name = (
        "k" + sha256(repr(document).encode("utf-8", "surrogatepass")).hexdigest()[:10]
    )  # separated from its neighbours
    pieces = "\n".join(_document(document, 3, name))
    return f'<div class="kvcalc" style="padding: 0.8rem 1rem"><style>{_html.STYLE}</style>\n{pieces}\n</div>'


def _page(document: Document) -> Iterator[str]:
    title, comes_to, command = _heading(document)
    style = f"{_html.STYLE}\n{_STYLE.replace('LIGHT', _html.theme(LIGHT))}"
    yield "<!DOCTYPE html>"
    yield '<html lang="en"><head><meta charset="utf-8"/>'
    yield '<meta name="viewport" content="width=device-width, initial-scale=1"/>'
    yield f'<meta http-equiv="Content-Security-Policy" content="{html(_POLICY)}"/>'
    yield f'<meta name="generator" content="kvcalc {__version__}"/>'
    yield f"<title>{html(title)}</title>"
    yield f"<style>\n{style}\n</style></head>"
    yield '<body class="kvcalc"><a class="skip" href="#main">To the answers</a>'
    yield f"<header><h1>{html(title)}</h1>"
    if comes_to:
        yield f'<p class="lead">{html(comes_to)}</p>'
    yield from _command(command)
    yield '</header><main id="main">'
    if not _html.draws() and charts_of(document):
        yield f'<p class="lead">{html(_html.NO_CHARTS)}</p>'
    yield from _sections(document) if isinstance(document, Sectioned) else _document(document, 2, "chart", titled=False)
    yield f"</main><footer><p>kvcalc {__version__}: exact bytes; estimates are marked as such.</p></footer>"
    yield f"<script>\n{_SCRIPT}\n</script></body></html>"


def _heading(document: Document) -> tuple[str, str, str]:
    """Title, summary, and the command that made it."""
    if isinstance(document, Sectioned):
        return document.heading()
    return document.sheets()[0].title, "", ""


def _command(command: str) -> Iterator[str]:
    if command:
        yield f'<div class="command"><code>{html(command)}</code></div>'


def _sections(document: Sectioned) -> Iterator[str]:
    sections = document.sections()
    yield "<h2>Verdicts</h2>"
    first, *others = document.summary().sheets()
    yield from _html.sheet(first, 3, titled=False)
    for sheet in others:
        yield from _html.sheet(sheet, 3)
    if len(sections) > 1:
        named = [(i, each.title + ("" if each.fits else f": {each.verdict}")) for i, each in enumerate(sections)]
        links = "".join(f'<li><a href="#d{i}">{html(words)}</a></li>' for i, words in named)
        yield f'<nav aria-label="Deployments"><ul>{links}</ul></nav>'
    for index, section in enumerate(sections):
        yield from _section(section, index)


def _section(section: Section, index: int) -> Iterator[str]:
    style = "answer" if section.fits else "alarm"
    badge = f'<span class="badge {style}">{html(section.verdict)}</span>'
    yield f'<section class="deployment" aria-labelledby="d{index}"><h2 id="d{index}">{html(section.title)} {badge}</h2>'
    yield from _html.lines(section.lines)
    for number, part in enumerate(section.parts):
        yield from _part(part, f"d{index}-{number}")
    yield from _html.notes(section.notes)
    yield "</section>"


def _part(part: Part, name: str) -> Iterator[str]:
    yield f"<h3>{html(part.title)}</h3>"
    yield f'<p class="lead">{html(part.about)}</p>'
    if part.document is not None:
        if part.folded:
            yield f"<details><summary>{html(part.title)}: tables</summary>"
        yield from _document(part.document, 4, name)
        yield from ["</details>"] if part.folded else []
    yield from [f"<p>{html(part.remark)}</p>"] if part.remark else []
    yield from _command(part.command)


def _document(document: Document, level: int, name: str, *, titled: bool = True) -> Iterator[str]:
    """The charts of a document, then its tables; tables already shown as a chart start collapsed."""
    charts, sheets = charts_of(document) if _html.draws() else (), document.sheets()
    said = {note for sheet in sheets for note in sheet.notes}
    for number, chart in enumerate(charts):
        own = tuple(note for note in chart.notes if note not in said)
        yield _html.chart(chart._replace(notes=own), f"{name}-{number}")
    for number, sheet in enumerate(sheets):
        drawn = bool(charts) and number == 0  # the chart has the title
        yield from _html.sheet(sheet, level, titled=not drawn and (titled or number > 0), folded=drawn)
