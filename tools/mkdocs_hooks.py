"""The pages of docs/ for MkDocs: rewrites links out of the folder, and adds pages of the top folder."""

from __future__ import annotations

import posixpath
import re
from pathlib import Path
from typing import Any

from mkdocs.structure.files import File, Files

ROOT = Path(__file__).parents[1]
OF_THE_TOP = {"CONTRIBUTING.md": "contributing.md", "CHANGELOG.md": "changelog.md"}
"""Files of the top folder that are also pages, by their names on the site."""
_LINK = re.compile(r"\]\((?![a-z]+:|#)([^)#\s]+)(#[^)\s]*)?\)")


def on_files(files: Files, config: Any) -> Files:
    """Adds the pages of the top folder."""
    for name, page in OF_THE_TOP.items():
        files.append(File.generated(config, page, content=(ROOT / name).read_text("utf-8")))
    return files


def on_page_markdown(markdown: str, *, page: Any, config: Any, files: Any) -> str:  # noqa: ARG001
    """Turns links out of docs/ into those of the site or of the repository. A link to nothing fails the build."""
    own = page.file.src_uri
    tops = {page: name for name, page in OF_THE_TOP.items()}
    folder = "" if own in tops else posixpath.join("docs", posixpath.dirname(own))

    def link(match: re.Match[str]) -> str:
        to = posixpath.normpath(posixpath.join(folder, match[1]))
        anchor = match[2] or ""
        if to in OF_THE_TOP:
            target = OF_THE_TOP[to]
        elif to.startswith("docs/"):
            target = to.removeprefix("docs/")
        elif (ROOT / to).exists():
            kind = "tree" if (ROOT / to).is_dir() else "blob"
            return f"]({config.repo_url.rstrip('/')}/{kind}/main/{to}{anchor})"
        else:
            return match[0]
        return f"]({posixpath.relpath(target, posixpath.dirname(own) or '.')}{anchor})"

    return _LINK.sub(link, markdown)
