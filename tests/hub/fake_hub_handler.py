"""The requests of `fake_hub.FakeHub`: a table of routes, each a method of `Handler`."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qs, unquote, urlsplit

if TYPE_CHECKING:
    from fake_hub import FakeHub, Repo, Stored

REPO = r"(?P<kind>model|dataset)s/(?P<name>[^/]+/[^/]+)"
PAGE = r"/(?:(?P<kind>dataset)s/)?(?P<name>[^/]+/[^/]+?)"
ROUTES = (
    ("GET", r"/api/whoami-v2", "whoami"),
    ("POST", r"/api/repos/create", "create"),
    ("POST", r"/api/validate-yaml", "validate"),
    ("POST", rf"/api/{REPO}/preupload/(?P<revision>[^/]+)", "preupload"),
    ("POST", rf"/api/{REPO}/commit/(?P<revision>[^/]+)", "commit"),
    ("POST", rf"/api/{REPO}/branch/(?P<revision>[^/]+)", "branch"),
    ("POST", rf"/api/{REPO}/paths-info/(?P<revision>[^/]+)", "paths"),
    ("GET", rf"/api/{REPO}/tree/(?P<revision>[^/]+)(?:/(?P<path>.+))?", "tree"),
    ("GET", rf"/api/{REPO}/refs", "refs"),
    ("GET", rf"/api/{REPO}(?:/revision/(?P<revision>[^/]+))?", "info"),
    ("POST", rf"{PAGE}\.git/info/lfs/objects/batch", "batch"),
    ("PUT", r"/lfs/(?P<oid>[0-9a-f]{64})", "upload"),
    ("GET", r"/cdn/(?P<oid>[0-9a-f]{64})", "cdn"),
    ("HEAD", rf"{PAGE}/resolve/(?P<revision>[^/]+)/(?P<path>.+)", "resolve"),
    ("GET", rf"{PAGE}/resolve/(?P<revision>[^/]+)/(?P<path>.+)", "resolve"),
)
WRITES = {"preupload", "commit", "branch", "batch"}


class Refused(Exception):
    """An answer that is no success: its status, and what the Hub's headers say."""

    def __init__(self, status: int, code: str = "", message: str = "") -> None:
        super().__init__(message)
        self.status, self.code, self.message = status, code, message


class Handler(BaseHTTPRequestHandler):
    hub: FakeHub
    protocol_version = "HTTP/1.1"

    def log_message(self, format: str, *words: object) -> None:
        """Nothing on the terminal: `hub.asked` has it."""

    def handle_one_request(self) -> None:
        try:
            super().handle_one_request()
        except (ConnectionError, TimeoutError):  # the client was killed, which a test may be about
            self.close_connection = True

    def do_GET(self) -> None:
        self._answer()

    do_HEAD = do_POST = do_PUT = do_GET

    def _answer(self) -> None:
        body = self._body()
        parts = urlsplit(self.path)
        self.query = {name: values[-1] for name, values in parse_qs(parts.query).items()}
        path = parts.path
        trouble = self.hub.note(self.command, path)
        try:
            if trouble is not None:
                raise Refused(trouble, message="Trouble that a test asked for")
            for method, pattern, name in ROUTES:
                found = re.fullmatch(pattern, path)
                if method == self.command and found:
                    given = {
                        key: unquote(value) if value else None for key, value in found.groupdict().items()
                    }
                    with self.hub.lock:
                        self._routed(name, given, body)
                    return
            raise Refused(404, message=f"no such page: {self.command} {path}")
        except Refused as refused:
            headers = {"X-Error-Code": refused.code, "X-Error-Message": refused.message}
            self._send({"error": refused.message}, refused.status, {k: v for k, v in headers.items() if v})

    def _body(self) -> bytes:
        if self.headers.get("Transfer-Encoding", "").lower() != "chunked":
            return self.rfile.read(int(self.headers.get("Content-Length") or 0))
        body = b""
        while size := int(self.rfile.readline(), 16):
            body += self.rfile.read(size)
            self.rfile.readline()
        self.rfile.readline()
        return body

    def _send(self, value: object, status: int = 200, headers: dict[str, str] | None = None) -> None:
        content = value if isinstance(value, bytes) else json.dumps(value).encode()
        self.send_response(status)
        for name, text in (headers or {}).items():
            self.send_header(name, text)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(content)

    def _routed(self, name: str, given: dict[str, str | None], body: bytes) -> None:
        who = self._who()
        page: Callable[..., None] = getattr(self, f"_{name}")
        if "name" in given:
            repo = self._repo(given, who)
            if name in WRITES:
                self._may_write(repo.name, who)
            revision = given.get("revision")
            if revision is not None and name != "branch" and repo.at(revision) is None:
                raise Refused(404, "RevisionNotFound", f"Invalid rev id: {revision}")
            rest = {key: value for key, value in given.items() if key not in ("kind", "name")}
            page(repo, body, **rest)
        else:
            page(who, body, **given)

    def _who(self) -> str | None:
        """Whose token came along; None without one."""
        from fake_hub import TOKENS

        typed = self.headers.get("Authorization")
        if typed is None:
            return None
        if (token := typed.removeprefix("Bearer ")) not in TOKENS:
            raise Refused(401, message="Invalid credentials in Authorization header")
        return TOKENS[token]

    def _repo(self, given: dict[str, str | None], who: str | None) -> Repo:
        """What may be seen; the Hub says 401 to strangers and 404 to others of a private one, as of none."""
        repo = self.hub.repos.get((given["kind"] or "model", given["name"] or ""))
        if repo is None or (repo.private and repo.name.split("/")[0] != who):
            raise Refused(401 if who is None else 404, "RepoNotFound", "Repository not found")
        return repo

    def _may_write(self, name: str, who: str | None) -> None:
        if who is None:
            raise Refused(401, message="Unauthorized")
        if name.split("/")[0] != who:
            raise Refused(403, message=f"You don't have the rights to write below {name.split('/')[0]}")

    def _whoami(self, who: str | None, body: bytes) -> None:
        if who is None:
            raise Refused(401, message="Unauthorized")
        self._send({"type": "user", "name": who, "orgs": [], "auth": {"type": "access_token"}})

    def _create(self, who: str | None, body: bytes) -> None:
        asked = json.loads(body)
        name = f"{asked.get('organization') or who}/{asked['name']}"
        self._may_write(name, who)
        kind = asked.get("type") or "model"
        url = f"{self.hub.url}/{'datasets/' if kind == 'dataset' else ''}{name}"
        if (kind, name) in self.hub.repos:
            self._send({"error": "You already created this repo", "url": url}, 409)
            return
        self.hub.create(kind, name, asked.get("visibility") == "private" or bool(asked.get("private")))
        self._send({"url": url, "name": name, "id": name})

    def _validate(self, who: str | None, body: bytes) -> None:
        from fake_hub import faults_of_card

        faults = faults_of_card(json.loads(body)["content"])
        self._send(
            {"errors": [{"message": fault} for fault in faults], "warnings": []}, 400 if faults else 200
        )

    def _preupload(self, repo: Repo, body: bytes, revision: str) -> None:
        import base64

        from fake_hub import by_lfs

        there = repo.commits[repo.at(revision) or ""]
        answers = []
        for file in json.loads(body)["files"]:
            lfs = by_lfs(file["path"], file["size"], base64.b64decode(file["sample"]))
            known = there.get(file["path"])
            mode = "lfs" if lfs else "regular"
            answers.append({"path": file["path"], "uploadMode": mode, "shouldIgnore": False,
                            "oid": known.etag if known else None})  # fmt: skip
        self._send({"files": answers})

    def _batch(self, repo: Repo, body: bytes) -> None:
        objects = []
        for one in json.loads(body)["objects"]:
            there = one["oid"] in self.hub.blobs
            upload = {"upload": {"href": f"{self.hub.url}/lfs/{one['oid']}"}}
            objects.append({**one, **({} if there else {"actions": upload})})
        self._send({"transfer": "basic", "objects": objects})

    def _upload(self, who: str | None, body: bytes, oid: str) -> None:
        if hashlib.sha256(body).hexdigest() != oid:
            raise Refused(400, message="the content has another sha256")
        self.hub.blobs[oid] = body
        self._send(b"", headers={"ETag": f'"{oid}"'})

    def _commit(self, repo: Repo, body: bytes, revision: str) -> None:
        lines = [json.loads(line) for line in body.splitlines()]
        if revision not in repo.branches:
            raise Refused(404, "RevisionNotFound", f"no branch {revision}")
        parent = lines[0]["value"].get("parentCommit")
        if parent is not None and parent != repo.branches[revision]:
            raise Refused(412, message="A commit has happened since. Please refresh and try again.")
        oid = self.hub.committed(repo, revision, lines[1:])
        if oid is None:
            raise Refused(400, message="a file of the commit was never uploaded")
        url = f"{self.hub.url}/{'datasets/' if repo.kind == 'dataset' else ''}{repo.name}/commit/{oid}"
        self._send({"success": True, "commitOid": oid, "commitUrl": url, "hookOutput": ""})

    def _branch(self, repo: Repo, body: bytes, revision: str) -> None:
        if revision in repo.branches:
            raise Refused(409, message="Reference already exists")
        repo.branches[revision] = repo.branches["main"]
        self._send({})

    def _refs(self, repo: Repo, body: bytes) -> None:
        branches = [
            {"name": n, "ref": f"refs/heads/{n}", "targetCommit": c} for n, c in repo.branches.items()
        ]
        self._send({"branches": branches, "tags": [], "converts": []})

    def _info(self, repo: Repo, body: bytes, revision: str | None) -> None:
        oid = repo.at(revision or "main")
        siblings = [{"rfilename": path} for path in sorted(repo.commits[oid or ""])]
        self._send({"_id": "0" * 24, "id": repo.name, "sha": oid, "private": repo.private, "tags": [],
                    "author": repo.name.split("/")[0], "siblings": siblings, "downloads": 0, "likes": 0,
                    "gated": False, "disabled": False})  # fmt: skip

    def _tree(self, repo: Repo, body: bytes, revision: str, path: str | None) -> None:
        """Files and folders below `path`; all of them, or its own alone, a page at a time."""
        files = repo.commits[repo.at(revision) or ""]
        top = f"{path}/" if path else ""
        listed = {name: _entry(name, file) for name, file in files.items() if name.startswith(top)}
        if path and not listed:
            raise Refused(404, "EntryNotFound", f"{path} does not exist on {revision}")
        for name in list(listed):
            below = name.removeprefix(top).split("/")[:-1]
            for depth in range(1, len(below) + 1):
                folder = top + "/".join(below[:depth])
                listed[folder] = {"type": "directory", "path": folder, "oid": "0" * 40, "size": 0}
        deep = self.query.get("recursive", "false").lower() == "true"
        rows = [one for name, one in sorted(listed.items()) if deep or "/" not in name.removeprefix(top)]
        start = int(self.query.get("cursor", 0))
        end = start + self.hub.page
        url = f"{self.hub.url}{urlsplit(self.path).path}?recursive={deep}&cursor={end}"
        self._send(rows[start:end], headers={"Link": f'<{url}>; rel="next"'} if end < len(rows) else None)

    def _paths(self, repo: Repo, body: bytes, revision: str) -> None:
        asked = parse_qs(body.decode()).get("paths", [])
        there = repo.commits[repo.at(revision) or ""]
        self._send([_entry(path, there[path]) for path in asked if path in there])

    def _resolve(self, repo: Repo, body: bytes, revision: str, path: str) -> None:
        oid = repo.at(revision) or ""
        file = repo.commits[oid].get(path)
        if file is None:
            self._send(
                {"error": "Entry not found"}, 404, {"X-Error-Code": "EntryNotFound", "X-Repo-Commit": oid}
            )
            return
        headers = {"X-Repo-Commit": oid, "ETag": f'"{file.etag}"'}
        if file.lfs:
            linked = {"X-Linked-Etag": f'"{file.sha256}"', "X-Linked-Size": str(file.size)}
            place = {"Location": f"{self.hub.elsewhere}/cdn/{file.sha256}"}
            self._send(b"", 302, {**headers, **linked, **place})
        else:
            self._send(self.hub.blobs[file.sha256], headers=headers)

    def _cdn(self, who: str | None, body: bytes, oid: str) -> None:
        if who is not None:  # as a store of signed addresses does
            raise Refused(400, message="Only one auth mechanism allowed: the token was sent to another host")
        content = self.hub.blobs[oid]
        asked = re.fullmatch(r"bytes=(\d+)-(\d*)", self.headers.get("Range") or "")
        if asked is None:
            self._send(content, headers={"ETag": f'"{oid}"'})
            return
        start, end = int(asked[1]), int(asked[2] or len(content) - 1)
        span = f"bytes {start}-{end}/{len(content)}"
        self._send(content[start : end + 1], 206, {"ETag": f'"{oid}"', "Content-Range": span})


def _entry(path: str, file: Stored) -> dict[str, Any]:
    lfs = {"lfs": {"oid": file.sha256, "size": file.size, "pointerSize": 130}} if file.lfs else {}
    return {"type": "file", "path": path, "size": file.size, "oid": file.blob, **lfs}
