"""Reads a recordio dataset with mxnet 1.9.1, the way insightface's trainers do. Not collected by pytest.

mxnet needs an environment of its own (Python 3.11, old NumPy):

    python3.11 -m venv /tmp/mx && /tmp/mx/bin/pip install mxnet==1.9.1 numpy==1.23.5
    python tests/data/mxnet_check.py write /tmp/mx-set         # with this project's environment
    /tmp/mx/bin/python tests/data/mxnet_check.py read /tmp/mx-set

`write` makes a dataset of 40 identities x 5 images, some of whose JPEGs carry RecordIO's magic number in a
comment, and notes every label and sha256; `read` needs mxnet and numpy only and compares.
"""

from __future__ import annotations

import hashlib
import json
import sys
from pathlib import Path


def write(root: Path) -> None:
    from stub_people import picture

    from v2f_engine.data import Encoder
    from v2f_engine.data.formats import get_format
    from v2f_engine.data.formats.protocol import Sample
    from v2f_engine.data.formats.recordio.frames import MAGIC_BYTES
    from v2f_engine.data.records.manifest import Manifest
    from v2f_engine.data.records.plan import Plan
    from v2f_engine.data.writing.open_run import open_run

    plan = Plan.of(40, 5, 50)
    kind = get_format("recordio")
    expected = []
    with open_run(root / "d", Manifest("recordio", kind.describe(), plan, Encoder().describe(), {})) as run:
        for number in run.missing():
            sink = run.sink(number)
            for identity in sink.shard.identities:
                for image in range(5):
                    data = Encoder().encode(picture(identity, image))
                    comment = (
                        MAGIC_BYTES * (image + 1) + b"x" * identity
                    )  # at every alignment, once and often
                    marker = b"\xff\xfe" + (len(comment) + 2).to_bytes(2, "big") + comment
                    data = data[:2] + marker + data[2:]
                    sink.write(Sample(identity, image, data))
                    expected.append([identity, hashlib.sha256(data).hexdigest()])
            run.commit(sink)
        run.finish()
    (root / "expected.json").write_text(json.dumps(expected))
    print(f"wrote {len(expected)} images")


def read(root: Path) -> None:
    import mxnet as mx
    import numpy as np

    expected = json.loads((root / "expected.json").read_text())
    records = mx.recordio.MXIndexedRecordIO(str(root / "d/train.idx"), str(root / "d/train.rec"), "r")
    header, _ = mx.recordio.unpack(records.read_idx(0))
    assert header.flag > 0, header
    last, end = int(header.label[0]), int(header.label[1])
    keys = np.array(range(1, last))
    assert len(keys) == len(expected), (len(keys), len(expected))
    decoded = 0
    for key in keys:
        header, image = mx.recordio.unpack(records.read_idx(int(key)))
        label = header.label if isinstance(header.label, (int, float)) else header.label[0]
        assert [int(label), hashlib.sha256(image).hexdigest()] == expected[key - 1], key
        decoded += mx.image.imdecode(image).asnumpy().shape == (112, 112, 3)
    ranges = []
    for key in range(last, end):
        header, image = mx.recordio.unpack(records.read_idx(key))
        ranges.append((int(header.label[0]), int(header.label[1])))
        assert image == b""
    assert ranges == [(1 + 5 * identity, 6 + 5 * identity) for identity in range(40)], ranges
    sequential = mx.recordio.MXRecordIO(str(root / "d/train.rec"), "r")
    count = 0
    while sequential.read() is not None:
        count += 1
    assert count == 1 + 200 + 40, count
    print(
        f"mxnet {mx.__version__}: {len(keys)} images equal, {decoded} decoded, {len(ranges)} identity records"
    )


if __name__ == "__main__":
    sys.path.insert(0, str(Path(__file__).parent))
    {"write": write, "read": read}[sys.argv[1]](Path(sys.argv[2]))
