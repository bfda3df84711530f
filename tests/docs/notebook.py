"""Executes the notebook as a reader would; run as a script it stores the outputs, which the site shows."""

from __future__ import annotations

import asyncio
import base64
import io
import tempfile
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
NOTEBOOK = ROOT / "docs/notebooks/tour.ipynb"


def executed(folder: Path) -> Any:
    """The notebook with fresh outputs, run in a folder by a kernel of this environment."""
    import nbformat
    from nbclient import NotebookClient

    notebook = nbformat.read(NOTEBOOK, as_version=4)
    client = NotebookClient(
        notebook,
        timeout=300,
        kernel_name="python3",
        coalesce_streams=True,  # a slow machine sends a line in pieces
        resources={"metadata": {"path": str(folder)}},
    )
    asyncio.run(client.async_execute())
    for cell in notebook.cells:
        cell.metadata.pop("execution", None)
    return notebook


def lighter(notebook: Any) -> Any:
    """The same with each picture once, as a JPEG on white: 1.4 MB become 60 kB."""
    from PIL import Image

    for cell in notebook.cells:
        for output in cell.get("outputs", []):
            data = output.get("data", {})
            if "image/png" in data:
                picture = Image.open(io.BytesIO(base64.b64decode(data.pop("image/png")))).convert("RGBA")
                white, jpeg = Image.new("RGBA", picture.size, "white"), io.BytesIO()
                white.alpha_composite(picture)
                white.convert("RGB").save(jpeg, "JPEG", quality=80)
                data["image/jpeg"] = base64.b64encode(jpeg.getvalue()).decode()
                data.pop("text/html", None)
    return notebook


if __name__ == "__main__":
    import nbformat

    with tempfile.TemporaryDirectory() as folder:
        nbformat.write(lighter(executed(Path(folder))), NOTEBOOK)
