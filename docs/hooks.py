"""What the site needs beside Markdown: pages from the root, links that leave docs/, no fetching."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

from mkdocs.exceptions import PluginError
from mkdocs.structure.files import File

FROM_ROOT = ("CHANGELOG.md", "CONTRIBUTING.md")
LINK = re.compile(r"\[([^\]]+)\]\((\.\./)?([^)#:\s]+)(#[^)\s]*)?\)")
FETCHED = re.compile(r"<(?:script|img|iframe)[^>]* src=\"?https?://|<link[^>]* href=\"?https?://")


def on_files(files: Any, config: Any) -> Any:
    """Pages out of files of the repository's root."""
    root = Path(config.config_file_path).parent
    for name in FROM_ROOT:
        text = (root / name).read_text(encoding="utf-8")
        files.append(File.generated(config, name.lower(), content=_as_in_docs(text)))
    return files


def on_page_markdown(markdown: str, config: Any, **_: Any) -> str:
    """Links to files of the repository that are no pages: to the repository, or told as paths."""

    def link(found: re.Match[str]) -> str:
        words, out, path, part = found.groups(default="")
        if not out:
            return found[0]
        if path in FROM_ROOT:
            return f"[{words}]({path.lower()}{part})"
        if config.repo_url:
            return f"[{words}]({config.repo_url.rstrip('/')}/blob/main/{path}{part})"
        return f"{words} (`{path}`)"

    return LINK.sub(link, markdown)


def on_post_build(config: Any) -> None:
    """Refuse a site whose pages fetch something from elsewhere."""
    for page in Path(config.site_dir).rglob("*.html"):
        if found := FETCHED.search(page.read_text(encoding="utf-8")):
            raise PluginError(f"{page.name} would fetch from elsewhere: {found[0]}")


def _as_in_docs(text: str) -> str:
    """A page of the root with its links as a page of docs/ has them."""

    def link(found: re.Match[str]) -> str:
        words, _, path, part = found.groups(default="")
        here = path.removeprefix("docs/")
        return f"[{words}]({here if here != path else f'../{path}'}{part})"

    return LINK.sub(link, text)
