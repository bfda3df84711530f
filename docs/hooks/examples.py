"""The page of examples, written from `examples/` when the site is built: what each says of itself, and its code."""

from __future__ import annotations

import ast
from pathlib import Path
from typing import Any

from mkdocs.structure.files import File, Files

URI = "examples.md"
HEAD = """# Examples

Eight run by themselves on a CPU in seconds, `python examples/NAME.py`, and are run by the tests; `--out DIR` says where
their results go. `brightness_attribute.py` is what `v2f generate --attribute` loads.

"""


def page(folder: Path) -> str:
    parts = [HEAD]
    for path in sorted(folder.glob("*.py")):
        source = path.read_text()
        said = ast.get_docstring(ast.parse(source)) or ""
        code = source.split('"""', 2)[2].strip()
        parts.append(f"## {path.name}\n\n{said}\n\n```python\n{code}\n```\n\n")
    return "".join(parts)


def on_files(files: Files, config: Any) -> Files:
    files.append(File.generated(config, URI, content=page(Path(config.config_file_path).parent / "examples")))
    return files
