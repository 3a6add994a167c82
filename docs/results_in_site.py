"""A hook of mkdocs: tables and figures of results/, which pages link to as ../../results/NAME, are part of the site."""

import re
from pathlib import Path
from typing import Any

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files
from mkdocs.structure.pages import Page


def on_files(files: Files, config: MkDocsConfig, **rest: Any) -> Files:
    """Adds the files of results/ that lie in that folder itself."""
    for path in sorted((Path(config.docs_dir).parent / "results").iterdir()):
        if path.suffix in (".svg", ".csv"):
            files.append(File.generated(config, f"results/{path.name}", abs_src_path=str(path)))
    return files


def on_page_markdown(markdown: str, page: Page, **rest: Any) -> str:
    """Lets links from a page to results/ lead to where they are in the site."""
    up = "../" * page.file.src_uri.count("/")
    return re.sub(r"\]\((?:\.\./)+results/", f"]({up}results/", markdown)
