"""Notebooks as pages, with the outputs that are stored in them: nothing is executed to build the site."""

from __future__ import annotations

import base64
import json
from pathlib import Path
from typing import Any

from mkdocs.structure.files import File, Files

HEAD = "*This page is [the notebook]({path}), with the outputs stored in it; a test executes it.*\n\n"


def text_of(value: str | list[str]) -> str:
    return value if isinstance(value, str) else "".join(value)


def page(notebook: dict[str, Any], name: str) -> tuple[str, dict[str, bytes]]:
    """(the page, its pictures by name) of a notebook of format 4."""
    parts, pictures = [], {}
    for cell in notebook["cells"]:
        source = text_of(cell["source"]).strip()
        if cell["cell_type"] == "markdown":
            parts.append(source + "\n\n")
            continue
        parts.append(f"```python\n{source}\n```\n\n")
        for output in cell["outputs"]:
            data = output.get("data", {})
            kind = next((kind for kind in ("image/png", "image/jpeg") if kind in data), None)
            if kind:
                picture = f"{name}-{len(pictures)}.{kind.rpartition('/')[2]}"
                pictures[picture] = base64.b64decode(text_of(data[kind]))
                parts.append(f"![output]({picture})\n\n")
            elif "text/html" in data:
                parts.append(text_of(data["text/html"]).strip() + "\n\n")
            else:
                said = text_of(data.get("text/plain", output.get("text", ""))).rstrip()
                parts.append(f"```text\n{said}\n```\n\n")
    return "".join(parts), pictures


def on_files(files: Files, config: Any) -> Files:
    for path in sorted(Path(config.docs_dir).glob("notebooks/*.ipynb")):
        body, pictures = page(json.loads(path.read_text()), path.stem)
        title, _, rest = body.partition("\n")
        text = f"{title}\n\n{HEAD.format(path=path.name)}{rest}"
        files.append(File.generated(config, f"notebooks/{path.stem}.md", content=text))
        for name, data in pictures.items():
            files.append(File.generated(config, f"notebooks/{name}", content=data))
    return files
