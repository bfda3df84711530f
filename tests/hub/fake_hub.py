"""A small Hugging Face Hub on 127.0.0.1: the endpoints that huggingface_hub 2.4 calls, with the Hub's own refusals.

    with FakeHub() as hub:
        hub.url             for HF_ENDPOINT; or `in_process(monkeypatch, hub, folder)` where the library is imported
        hub.files(repo)     what stands on a branch, as bytes
        hub.damage(...)     flips one bit of what is stored
        hub.trouble = f     f(method, path, nth of this method) -> a status to answer instead, or None

Large files go by LFS and not by Xet (HF_HUB_DISABLE_XET=1): the client's Xet is a closed protocol of its own.
"""

from __future__ import annotations

import base64
import hashlib
import json
import threading
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from http.server import ThreadingHTTPServer
from pathlib import Path
from typing import Any

import yaml
from fake_hub_handler import Handler

TOKENS = {"hf_of_ada": "ada", "hf_of_bob": "bob"}
"""Token -> who it belongs to; each may write below their own name alone."""
LFS_ENDINGS = (
    ".jpg",
    ".jpeg",
    ".png",
    ".tar",
    ".parquet",
    ".npy",
    ".safetensors",
    ".onnx",
    ".lmdb",
    ".rec",
    ".bin",
)
"""What the `.gitattributes` of a new repository send by LFS; so goes whatever is no text, and all above 10 MB."""
LICENCES = frozenset(
    {
        "apache-2.0",
        "mit",
        "cc0-1.0",
        "cc-by-4.0",
        "cc-by-sa-4.0",
        "cc-by-nc-4.0",
        "cc-by-nc-sa-4.0",
        "gpl-3.0",
        "other",
    }
)
"""Some of the names that the Hub knows."""


@dataclass(frozen=True)
class Stored:
    """A file of a commit: its content is `FakeHub.blobs[sha256]`."""

    sha256: str
    size: int
    blob: str
    lfs: bool

    @property
    def etag(self) -> str:
        return self.sha256 if self.lfs else self.blob


@dataclass
class Repo:
    """A repository: commits by hash, branches by name."""

    kind: str
    name: str
    private: bool
    commits: dict[str, dict[str, Stored]] = field(default_factory=dict)
    branches: dict[str, str] = field(default_factory=dict)

    def commit(self, branch: str, files: dict[str, Stored]) -> str:
        listing = json.dumps([branch, len(self.commits), sorted((n, f.sha256) for n, f in files.items())])
        oid = hashlib.sha1(listing.encode()).hexdigest()
        self.commits[oid] = files
        self.branches[branch] = oid
        return oid

    def at(self, revision: str) -> str | None:
        """The commit of a branch's name or of a commit's own hash."""
        return self.branches.get(revision) or (revision if revision in self.commits else None)


class FakeHub:
    """The server; `page` is how many files a page of a listing holds."""

    def __init__(self, page: int = 1000) -> None:
        self.page = page
        self.repos: dict[tuple[str, str], Repo] = {}
        self.blobs: dict[str, bytes] = {}
        self.asked: list[str] = []
        self.trouble: Callable[[str, str, int], int | None] = lambda method, path, number: None
        self.lock = threading.RLock()
        self._counts: Counter[str] = Counter()

    def __enter__(self) -> FakeHub:
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), type("Of", (Handler,), {"hub": self}))
        self._server.daemon_threads = True
        port = self._server.server_address[1]
        self.url, self.elsewhere = f"http://127.0.0.1:{port}", f"http://localhost:{port}"
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.02,), daemon=True)
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()

    def note(self, method: str, path: str) -> int | None:
        """Writes a request down; the status to answer instead of doing it, if any."""
        with self.lock:
            self.asked.append(f"{method} {path}")
            self._counts[method] += 1
            return self.trouble(method, path, self._counts[method])

    def create(self, kind: str, name: str, private: bool = False) -> Repo:
        repo = Repo(kind, name, private)
        self.repos[kind, name] = repo
        rules = "".join(f"*{ending} filter=lfs diff=lfs merge=lfs -text\n" for ending in LFS_ENDINGS)
        repo.commit("main", {".gitattributes": self.store(rules.encode(), lfs=False)})
        return repo

    def store(self, content: bytes, lfs: bool) -> Stored:
        sha256 = hashlib.sha256(content).hexdigest()
        self.blobs[sha256] = content
        blob = hashlib.sha1(b"blob %d\0" % len(content) + content).hexdigest()
        return Stored(sha256, len(content), blob, lfs)

    def put(self, kind: str, name: str, files: Mapping[str, bytes], private: bool = False) -> Repo:
        """A repository of a stranger, as it stands after some pushes."""
        repo = self.repos.get((kind, name)) or self.create(kind, name, private)
        there = dict(repo.commits[repo.branches["main"]])
        there |= {
            path: self.store(content, by_lfs(path, len(content), content[:512]))
            for path, content in files.items()
        }
        repo.commit("main", there)
        return repo

    def files(self, name: str, kind: str = "dataset", revision: str = "main") -> dict[str, bytes]:
        """What stands there, without `.gitattributes`."""
        repo = self.repos[kind, name]
        listing = repo.commits[repo.branches[revision]]
        return {path: self.blobs[file.sha256] for path, file in listing.items() if path != ".gitattributes"}

    def damage(self, name: str, path: str, kind: str = "dataset", bit: int = 100) -> None:
        """One bit of a stored file turns; names, sizes and etags stay."""
        repo = self.repos[kind, name]
        sha256 = repo.commits[repo.branches["main"]][path].sha256
        content = bytearray(self.blobs[sha256])
        content[bit // 8 % len(content)] ^= 1 << bit % 8
        self.blobs[sha256] = bytes(content)

    def lose(self, name: str, path: str, kind: str = "dataset") -> None:
        """A file is gone from the branch."""
        repo = self.repos[kind, name]
        there = dict(repo.commits[repo.branches["main"]])
        del there[path]
        repo.commit("main", there)

    def committed(self, repo: Repo, branch: str, lines: list[dict[str, Any]]) -> str | None:
        """Applies the lines of a commit; None where one names content that was never uploaded."""
        files = dict(repo.commits[repo.branches[branch]])
        for line in lines:
            value = line["value"]
            if line["key"] == "file":
                files[value["path"]] = self.store(base64.b64decode(value["content"]), lfs=False)
            elif line["key"] == "lfsFile":
                if value["oid"] not in self.blobs:
                    return None
                files[value["path"]] = self.store(self.blobs[value["oid"]], lfs=True)
            elif line["key"] == "deletedFile":
                files.pop(value["path"], None)
            elif line["key"] == "deletedFolder":
                files = {p: f for p, f in files.items() if not p.startswith(value["path"].rstrip("/") + "/")}
        return repo.commit(branch, files)


def by_lfs(path: str, size: int, sample: bytes) -> bool:
    return path.lower().endswith(LFS_ENDINGS) or size > 10 << 20 or b"\0" in sample


def faults_of_card(text: str) -> list[str]:
    """What the Hub refuses in the head of a README.md; it takes one without a head."""
    if not text.startswith("---\n"):
        return []
    try:
        head = yaml.safe_load(text[4:].split("\n---", 1)[0])
    except yaml.YAMLError as error:
        return [str(error)]
    if not isinstance(head, dict):
        return ["the head must be a mapping"]
    faults = []
    if "license" in head and head["license"] not in LICENCES:
        faults.append(f'"license" must be one of {", ".join(sorted(LICENCES))}')
    if (
        head.get("license") == "other"
        and not str(head.get("license_name", "")).replace("-", "").replace(".", "").isalnum()
    ):
        faults.append('"license_name" must be lower-case letters, digits, dots and dashes')
    faults += [
        f'"{name}" must be an array'
        for name in ("task_categories", "size_categories", "tags", "configs")
        if name in head and not isinstance(head[name], list)
    ]
    return faults


def environment(hub: FakeHub, home: Path, token: str | None = "hf_of_ada") -> dict[str, str]:
    """Variables for a process that shall talk to `hub` and to nothing else; its cache and token live in `home`."""
    found = {"HF_ENDPOINT": hub.url, "HF_HOME": str(home), "HF_HUB_DISABLE_XET": "1", "HF_HUB_DISABLE_TELEMETRY": "1",
             "NO_PROXY": "127.0.0.1,localhost"}  # fmt: skip
    return found if token is None else {**found, "HF_TOKEN": token}


def in_process(monkeypatch: Any, hub: FakeHub, home: Path, token: str | None = "hf_of_ada") -> None:
    """The same for this process, where huggingface_hub has read its variables already."""
    from huggingface_hub import constants

    for name, value in environment(hub, home, token).items():
        monkeypatch.setenv(name, value)
    if token is None:
        monkeypatch.delenv("HF_TOKEN", raising=False)
    monkeypatch.setattr(constants, "ENDPOINT", hub.url)
    template = f"{hub.url}/{{repo_id}}/resolve/{{revision}}/{{filename}}"
    monkeypatch.setattr(constants, "HUGGINGFACE_CO_URL_TEMPLATE", template)
    monkeypatch.setattr(constants, "HF_HUB_DISABLE_XET", True)
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(home / "hub"))
    monkeypatch.setattr(constants, "HF_TOKEN_PATH", str(home / "token"))
    monkeypatch.setattr(constants, "AGENT_HARNESSES_PATH", str(home / ".agent_harnesses.json"))
