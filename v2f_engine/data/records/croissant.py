"""`croissant.json` beside every set: what it is, for mlcroissant and for whoever searches data sets by it.

It follows from the manifest as the card does, so the manifest does not vouch for it. Relative addresses: it is read
from the set's own folder. Specification: https://docs.mlcommons.org/croissant/docs/croissant-spec.html (1.0) and its
vocabulary for responsible AI.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from v2f_engine.atomic import write_file
from v2f_engine.data.layout import CROISSANT, IMAGES, LMDB, MANIFEST, PARQUET, PROPERTY, REC
from v2f_engine.data.records.front_matter import pretty_name
from v2f_engine.data.records.licences import PUBLIC_DOMAIN, licence_chain, nobody_exists, strictest
from v2f_engine.data.records.manifest import Manifest
from v2f_engine.data.records.markdown import one_line
from v2f_engine.data.records.pieces import Piece

_TERMS = (
    "citeAs column conformsTo extract field fileProperty fileObject fileSet format includes isLiveDataset jsonPath key "
    "md5 parentField path recordSet references regex repeated replace samplingRate separator source subField transform "
    "equivalentProperty"
)
_JSON, _VOCABULARY = {"@type": "@json"}, {"@type": "@vocab"}
CONTEXT: Mapping[str, Any] = {
    "@language": "en",
    "@vocab": "https://schema.org/",
    "sc": "https://schema.org/",
    "cr": "http://mlcommons.org/croissant/",
    "rai": "http://mlcommons.org/croissant/RAI/",
    "dct": "http://purl.org/dc/terms/",
    **{term: f"cr:{term}" for term in _TERMS.split()},
    "conformsTo": "dct:conformsTo",
    "data": {"@id": "cr:data", **_JSON},
    "examples": {"@id": "cr:examples", **_JSON},
    "dataType": {"@id": "cr:dataType", **_VOCABULARY},
}
CITED = (
    "Wu, H., Singh, J., Tian, S., Zheng, L., Bowyer, K. W.: Vec2Face: Scaling Face Dataset Generation with Loosely "
    "Constrained Vectors. ICLR 2025, arXiv 2409.02979"
)
CC0 = "https://creativecommons.org/publicdomain/zero/1.0/"
_CONTENT = {"extract": {"fileProperty": "content"}}
FIELDS: Mapping[str, Mapping[str, Any]] = {
    "imagefolder": {
        "image": _CONTENT,
        "label": {"extract": {"fileProperty": "filepath"}, "transform": {"regex": f".*/{IMAGES}/([0-9]+)/"}},
    },
    "webdataset": {
        "image": _CONTENT,
        "label": {"extract": {"fileProperty": "filename"}, "transform": {"regex": "([0-9]+)_"}},
    },
    "parquet": {
        "image": {"extract": {"column": "image"}, "transform": {"jsonPath": "bytes"}},
        "label": {"extract": {"column": "label"}},
    },
}
"""Format -> where a record's image and identity come from. No reader of Croissant looks into the other formats."""
OF_ONE_FILE: Mapping[str, tuple[str, ...]] = {"lmdb": (LMDB,), "recordio": (REC, PROPERTY)}


def croissant(manifest: Manifest) -> dict[str, Any] | None:
    """The JSON-LD of a finished set; None for a format that has no files."""
    files = _distribution(manifest)
    if files is None:
        return None
    settings = manifest.settings
    licence = strictest(link["licence"] for link in licence_chain(settings))
    return {
        "@context": dict(CONTEXT),
        "@type": "sc:Dataset",
        "conformsTo": ["http://mlcommons.org/croissant/1.0", "http://mlcommons.org/croissant/RAI/1.0"],
        "name": pretty_name(manifest),
        "description": _description(manifest),
        "license": CC0 if licence == PUBLIC_DOMAIN else f"{licence}: see the licence chain in README.md",
        "keywords": [
            *(["synthetic"] if nobody_exists(settings) else []),
            "face-recognition",
            manifest.format,
        ],
        "version": "1.0.0",
        **({"citeAs": CITED} if "model" in settings else {}),
        **_responsible(manifest),
        "distribution": files,
        **_records(manifest.format),
    }


def write_croissant(root: Path, manifest: Manifest, writer: str = "croissant") -> Path | None:
    """Writes it whole or not at all; one that is no file of ours stays.

    Returns:
        its path; None where there is nothing to describe or the file is somebody else's.
    """
    path = root / CROISSANT
    content = croissant_bytes(manifest)
    if content is None or (path.is_file() and f'"{MANIFEST}"'.encode() not in path.read_bytes()):
        return None
    write_file(path, content, writer)
    return path


def croissant_bytes(manifest: Manifest) -> bytes | None:
    """Of the file; the same for the same manifest."""
    found = croissant(manifest)
    return None if found is None else (json.dumps(found, indent=1) + "\n").encode()


def _description(manifest: Manifest) -> str:
    plan = manifest.plan
    who = "Nobody in it exists. " if nobody_exists(manifest.settings) else ""
    return (
        f"{plan.identities:,} identities, {manifest.images:,} aligned faces of 112x112 pixels, format "
        f"{manifest.format}. {who}Every setting, weight and file is in {MANIFEST}, with its sha256."
    )


def _responsible(manifest: Manifest) -> dict[str, Any]:
    """How the data came to be, as the vocabulary for responsible AI has it."""
    settings = manifest.settings
    chain = "; ".join(
        f"{link['part']} {one_line(link['name'])} ({one_line(link['licence'])}; {one_line(link['trained_on'])})"
        for link in licence_chain(settings)
    )
    made = nobody_exists(settings)
    return {
        "rai:dataCollection": f"{'Made by software, no photograph taken' if made else 'Converted'}: {chain}.",
        "rai:dataCollectionType": ["Synthetic" if made else "Secondary Data Analysis"],
        "rai:dataAnnotationProtocol": [
            "The label is the identity that the image was made of; nobody annotated."
        ]
        if made
        else ["Labels as in the source."],
        "rai:personalSensitiveInformation": [
            "No image is of a person that exists; weights may have been trained on photographs, as above."
            if made
            else "Faces, as in the source."
        ],
        "rai:dataUseCases": ["Training and evaluating face recognition"],
        "rai:dataLimitations": [
            "Recognisers trained on synthetic faces are weaker on twins and large poses than those trained on "
            "photographs (arXiv 2507.17192)."
        ],
        "rai:dataBiases": [
            "Recognisers trained on synthetic faces are more biased than those trained on photographs (arXiv "
            "2507.17192); no attribute of the people here was balanced unless the settings say so."
        ],
    }


def _file(name: str, kind: str, size: int, sha256: str) -> dict[str, Any]:
    return {
        "@type": "cr:FileObject",
        "@id": name,
        "name": name.rpartition("/")[2],
        "contentUrl": name,
        "contentSize": f"{size} B",
        "encodingFormat": kind,
        "sha256": sha256,
    }


def _set(includes: list[str], kind: str, within: list[str] | None = None) -> dict[str, Any]:
    inside = {"containedIn": [{"@id": name} for name in within]} if within else {}
    return {"@type": "cr:FileSet", "@id": "files", "name": "files", **inside, "encodingFormat": kind,
            "includes": includes}  # fmt: skip


def _distribution(manifest: Manifest) -> list[dict[str, Any]] | None:
    """Its files with their hashes, as far as the manifest has one for the whole file, and the set that is read."""
    whole = manifest.to_bytes()
    first = _file(MANIFEST, "application/json", len(whole), hashlib.sha256(whole).hexdigest())
    png = manifest.encoder.get("codec") == "png"
    picture, ending = ("image/png", "png") if png else ("image/jpeg", "jpg")
    pieces = [piece for shard in manifest.shards for piece in shard.pieces]
    if manifest.format == "imagefolder":
        return [first, _set([f"{IMAGES}/*/*.{ending}"], picture)]
    if manifest.format == "webdataset":
        tars = [_piece(piece, "application/x-tar") for piece in pieces if piece.name.endswith(".tar")]
        return [first, *tars, _set([f"*.{ending}"], picture, [tar["@id"] for tar in tars])]
    if manifest.format == "parquet":
        kind = "application/x-parquet"
        tables = [_piece(piece, kind) for piece in pieces if piece.name.startswith(f"{PARQUET}/")]
        return [first, *tables, _set([f"{PARQUET}/train-*.parquet"], kind)]
    if manifest.format in OF_ONE_FILE:
        return [first, _set(list(OF_ONE_FILE[manifest.format]), "application/octet-stream")]
    return None


def _piece(piece: Piece, kind: str) -> dict[str, Any]:
    return _file(piece.name, kind, piece.bytes, piece.sha256)


def _records(format: str) -> dict[str, Any]:
    """The record set `faces` of fields `image` and `label`, where a reader of Croissant can take it from the files."""
    if format not in FIELDS:
        return {}
    kinds = {"image": "sc:ImageObject", "label": "sc:Integer"}
    fields = [
        {"@type": "cr:Field", "@id": f"faces/{name}", "name": name, "dataType": kinds[name],
         "source": {"fileSet": {"@id": "files"}, **where}}
        for name, where in FIELDS[format].items()
    ]  # fmt: skip
    return {"recordSet": [{"@type": "cr:RecordSet", "@id": "faces", "name": "faces", "field": fields}]}
