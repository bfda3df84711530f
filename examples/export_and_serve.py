"""The generator as one ONNX file, and that file behind a small HTTP server: `GET /face?person=3&image=1` is a JPEG.

The export is checked before it is kept: how many grey levels it is off, and whether a recogniser sees the same people.
`--serve 8000` keeps serving on this machine's own address; without it three requests are made and the server ends.
"""

import argparse
import urllib.request
from http.server import BaseHTTPRequestHandler, HTTPServer
from io import BytesIO
from pathlib import Path
from threading import Thread
from urllib.parse import parse_qs, urlsplit

from PIL import Image

import v2f_engine as v2f
from v2f_engine.export.onnx import export_onnx


def main(out: Path, port: int | None) -> None:
    out.mkdir(parents=True, exist_ok=True)
    exported = export_onnx("mini", out / "mini.onnx", check_images=8)
    parity = exported.parity
    print(
        f"{exported.path}: at most {parity.max_grey} grey levels off, identity cosine {parity.min_cosine:.4f}"
    )
    engine = v2f.Engine.load(exported.path)
    people = engine.sample_identities(10, seed=0)

    class Faces(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            asked = {name: int(values[0]) for name, values in parse_qs(urlsplit(self.path).query).items()}
            person, image = asked["person"], asked["image"]
            batch = next(iter(engine.images(people, image + 1, select=range(person, person + 1))))
            jpeg = BytesIO()
            Image.fromarray(batch.images[image]).save(jpeg, "JPEG", quality=95)
            self.send_response(200)
            self.send_header("Content-Type", "image/jpeg")
            self.end_headers()
            self.wfile.write(jpeg.getvalue())

        def log_message(self, *words: object) -> None:
            """Says nothing of each request."""

    server = HTTPServer(("127.0.0.1", port or 0), Faces)
    print(f"http://127.0.0.1:{server.server_port}/face?person=3&image=1")
    if port is not None:
        server.serve_forever()
    Thread(target=server.serve_forever, daemon=True).start()
    for person in (0, 3, 9):
        address = f"http://127.0.0.1:{server.server_port}/face?person={person}&image=1"
        with urllib.request.urlopen(address) as answer:
            (out / f"person_{person}.jpg").write_bytes(answer.read())
        print(out / f"person_{person}.jpg", Image.open(out / f"person_{person}.jpg").size)
    server.shutdown()


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, default=Path("served"))
    parser.add_argument("--serve", type=int, metavar="PORT")
    typed = parser.parse_args()
    main(typed.out, typed.serve)
