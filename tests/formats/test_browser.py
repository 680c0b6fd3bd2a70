"""Pages in a real, headless Chromium: `pytest -m browser`. No console error, no network, readable in both themes and without scripts.

What the page is asked runs in it, as a script that is added at its end; what it answers is read out of the DOM that
Chromium prints. The rules are those of WCAG 2.2 that axe-core checks, too: its names stand next to them.
"""

from __future__ import annotations

import html
import json
import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest

pytestmark = pytest.mark.browser
CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
ROOT = Path(__file__).parents[2]
PAGES = {
    "report": "report examples/plans tests/plans/too_large.yaml tests/plans/served_too_large.yaml",
    "plot": "plot gpt-oss-20b llama3-70b --tokens 128K --gpu h200 --format html",
    "size": "size r1 -t 100000 --explain --format html",
    "tiers": "size qwen3.5-27b -e llama_cpp --engine-set defaults=server -t 32K --format html",
    "decode": "decode qwen3-30b-a3b -t 32K -b 8 --gpu h100 --format html",
    "traffic": "traffic llama3-8b --blocks 2000 --context examples/traces/azure.csv --format html",
    "replay": "replay examples/traces/mooncake.jsonl llama3-8b --blocks 3000 --step-ms 20 --curve --steps --format html",
    "compare": "compare r1 llama3-70b -t 1K,32K --format html",
    "presets": "presets list --format html",
}
ASKED = r"""
function rgb(text) { return (text.match(/[\d.]+/g) || []).map(Number); }
function luminance(colour) {
  return colour.slice(0, 3).map(v => v / 255).map(c => c > 0.04045 ? Math.pow((c + 0.055) / 1.055, 2.4) : c / 12.92)
    .reduce((sum, c, i) => sum + c * [0.2126, 0.7152, 0.0722][i], 0);
}
function contrast(a, b) {
  const [low, high] = [luminance(a), luminance(b)].sort((x, y) => x - y);
  return (high + 0.05) / (low + 0.05);
}
function behind(element) {
  for (let at = element; at; at = at.parentElement) {
    const colour = rgb(getComputedStyle(at).backgroundColor);
    if (colour.length === 3 || colour[3] > 0) return colour;
  }
  return [255, 255, 255];
}
document.querySelectorAll("details").forEach(each => { each.open = true; });
const found = { contrast: [], small: [] };
const walker = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
while (walker.nextNode()) {
  const parent = walker.currentNode.parentElement;
  if (!walker.currentNode.data.trim() || parent.closest("script, style, title, .skip, #kvcalc-tip")) continue;
  const style = getComputedStyle(parent);
  const drawn = parent.closest("svg");
  if (drawn && (style.fill.includes("255, 255, 254") || style.fill.includes("13, 17, 22"))) continue;  // on a part
  const ratio = contrast(rgb(drawn ? style.fill : style.color), behind(parent));
  if (ratio < 4.5) found.contrast.push([walker.currentNode.data.trim().slice(0, 40), ratio]);
}
const all = name => Array.from(document.querySelectorAll(name));
const ids = all("[id]").map(each => each.id);
found.levels = all("h1,h2,h3,h4,h5,h6").map(each => Number(each.tagName[1]));
found.lang = document.documentElement.lang;
found.title = document.title;
found.twice = ids.filter((id, i) => ids.indexOf(id) !== i);
found.unnamed = [
  ...all("a, button, summary").filter(each => !each.textContent.trim()),
  ...all("svg[role=img]").filter(each => !document.getElementById(each.getAttribute("aria-labelledby"))),
  ...all("[role=region]").filter(each => !each.getAttribute("aria-label")),
].map(each => each.outerHTML.slice(0, 80));
found.drawings = all("figure svg").length;
found.heads = all("th").filter(each => !each.getAttribute("scope")).length;
found.stuck = all("div, svg").filter(each => each.scrollWidth > each.clientWidth + 1 && each.clientWidth
  && getComputedStyle(each).overflowX === "auto" && each.tabIndex !== 0).length;
found.wide = document.documentElement.scrollWidth - innerWidth;
found.loaded = performance.getEntriesByType("resource").map(each => each.name);
found.dark = matchMedia("(prefers-color-scheme: dark)").matches;
found.surface = getComputedStyle(document.body).backgroundColor;
found.buttons = all(".command button").length;
found.commands = all(".command").length;
const drawing = document.querySelector("figure svg");
if (drawing) {
  drawing.scrollIntoView();
  const box = drawing.querySelector("g.tip").getBoundingClientRect();
  const at = { clientX: box.x + box.width / 2, clientY: box.y + box.height / 2, bubbles: true };
  drawing.dispatchEvent(new PointerEvent("pointermove", at));
  const tip = document.getElementById("kvcalc-tip");
  found.tip = [getComputedStyle(tip).display, tip.textContent];
  found.inside = tip.getBoundingClientRect().right <= innerWidth && tip.getBoundingClientRect().left >= 0;
}
const answer = document.createElement("pre");
answer.id = "answer";
answer.textContent = JSON.stringify(found);
document.body.appendChild(answer);
"""


@pytest.fixture(scope="module", autouse=True)
def _there_is_one():
    if CHROMIUM is None:
        pytest.fail("there is no Chromium: apt-get install chromium")


@pytest.fixture
def page(cli, tmp_path, monkeypatch):
    """The file of a page."""
    monkeypatch.chdir(ROOT)

    def of(name: str, script: str = "") -> Path:
        done = cli(PAGES[name])
        assert done.code in (0, 1), done.stderr
        file = tmp_path / f"{name}.html"
        file.write_text(done.stdout.replace("</body>", f"<script>{script}</script></body>") if script else done.stdout)
        return file

    return of


def shown(file: Path, tmp_path: Path, width: int, *more: str) -> subprocess.CompletedProcess[str]:
    options = (
        "--headless=new",
        "--no-sandbox",
        "--disable-gpu",
        "--hide-scrollbars",
        "--enable-logging=stderr",
        "--v=0",
    )
    return subprocess.run(
        [
            CHROMIUM,
            *options,
            "--host-resolver-rules=MAP * ~NOTFOUND",
            f"--user-data-dir={tmp_path / 'profile'}",
            f"--window-size={width},1000",
            *more,
            f"file://{file}",
        ],
        capture_output=True,
        text=True,
        timeout=120,
        check=True,
    )


def asked(file: Path, tmp_path: Path, width: int = 900, *more: str) -> tuple[dict[str, Any], list[str]]:
    """What a page answers, and what its console says."""
    done = shown(file, tmp_path, width, "--dump-dom", *more)
    answer = re.search(r'<pre id="answer">(.*?)</pre>', done.stdout, re.DOTALL)
    assert answer, done.stderr[-2000:]
    return json.loads(html.unescape(answer[1])), [line for line in done.stderr.splitlines() if "CONSOLE" in line]


@pytest.mark.parametrize("scheme", ["dark", "light"])
@pytest.mark.parametrize("name", PAGES)
def test_a_page_is_accessible_in_both_themes(page, tmp_path, name, scheme):
    blink = f"--blink-settings=preferredColorScheme={int(scheme == 'light')}"
    found, console = asked(page(name, ASKED), tmp_path, 900, blink)
    assert console == []
    assert found["dark"] == (scheme == "dark")
    assert found["surface"] == ("rgb(20, 24, 29)" if scheme == "dark" else "rgb(255, 255, 255)")
    assert found["contrast"] == []  # color-contrast
    assert found["levels"].count(1) == 1  # page-has-heading-one
    assert all(b - a <= 1 for a, b in zip(found["levels"], found["levels"][1:], strict=False))  # heading-order
    assert (found["lang"], bool(found["title"])) == ("en", True)  # html-has-lang, document-title
    assert found["twice"] == []  # duplicate-id
    assert found["unnamed"] == []  # link-name, button-name, svg-img-alt, aria-regions
    assert found["heads"] == 0  # scope-attr-valid
    assert found["stuck"] == 0  # scrollable-region-focusable
    assert found["loaded"] == []
    assert (found["drawings"] > 0) == (name != "presets")


@pytest.mark.parametrize("width", [400, 900, 1400])
@pytest.mark.parametrize("name", PAGES)
def test_a_page_fits_its_window(page, tmp_path, name, width):
    found, console = asked(page(name, ASKED), tmp_path, width)
    assert console == []
    assert found["wide"] <= 0
    shown(page(name), tmp_path, width, f"--screenshot={tmp_path / 'shot.png'}")
    assert (tmp_path / "shot.png").read_bytes().startswith(b"\x89PNG")


def test_with_scripts_a_chart_says_the_number_under_the_pointer_and_commands_can_be_copied(page, tmp_path):
    found, _ = asked(page("report", ASKED), tmp_path)
    assert found["tip"][0] == "block"
    assert re.search(r"weights: [\d,]+ bytes", found["tip"][1])
    assert found["inside"]
    assert found["buttons"] == found["commands"] >= 20
    assert found["drawings"] >= 20


def test_without_scripts_all_is_there(page, tmp_path):
    """The same page, but for its buttons; and each point says its number on hovering, by a title."""
    from PIL import Image

    file = page("report")
    pictures = []
    allowed, refused = html.escape("script-src 'unsafe-inline'"), html.escape("script-src 'none'")
    assert file.read_text().count(allowed) == 1
    (tmp_path / "none.html").write_text(file.read_text().replace(allowed, refused))
    for name, each in (("with", file), ("without", tmp_path / "none.html")):
        shown(each, tmp_path, 900, "--window-size=900,3000", f"--screenshot={tmp_path / name}.png")
        pictures.append(Image.open(tmp_path / f"{name}.png").convert("L"))
    drawn, without = (sum(picture.histogram()[:200]) for picture in pictures)
    assert drawn > 50_000
    assert pictures[0].tobytes() != pictures[1].tobytes()  # buttons are missing
    assert 0.95 * drawn < without < 1.05 * drawn  # and what follows them moves up
    assert file.read_text().count("<title>") >= 200


def test_it_prints(page, tmp_path):
    shown(page("report"), tmp_path, 900, f"--print-to-pdf={tmp_path / 'page.pdf'}", "--no-pdf-header-footer")
    assert (tmp_path / "page.pdf").read_bytes().startswith(b"%PDF")


def test_the_questions_notice_what_is_wrong(page, tmp_path):
    file = page("size", ASKED)
    bad = "<h4 style='color: #bbb; background: #fff'>pale</h4><a href='#x'></a><img src='http://kvcalc.test/x.png'/>"
    file.write_text(file.read_text().replace("<footer>", f"{bad}<footer>"))
    found, console = asked(file, tmp_path)
    assert found["contrast"] and found["unnamed"]
    assert not all(b - a <= 1 for a, b in zip(found["levels"], found["levels"][1:], strict=False))
    assert any("Content Security Policy" in line for line in console)
