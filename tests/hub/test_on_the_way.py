"""What happens on the way: stops, damage, wrong tokens, no network; strangers' files and names that would escape."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from fake_hub import FakeHub, in_process
from sets_to_push import made, tree
from test_push_and_pull import run

from v2f_engine.data.layout import MANIFEST, WORK
from v2f_engine.data.records.verify import verify_dataset
from v2f_engine.errors import ConfigError, DiskFull, HubError
from v2f_engine.hub import landing, push


@pytest.fixture(scope="module")
def shards(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return made(tmp_path_factory.mktemp("shards") / "set", "webdataset")


def test_an_interrupted_push_goes_on_with_what_is_missing(
    hub: FakeHub, shards: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(push, "PER_COMMIT", 3)
    commits: list[str] = []

    def second_commit(method: str, path: str, number: int) -> int | None:
        commits.extend([path] if "/commit/" in path else [])
        return 500 if "/commit/" in path and len(commits) == 2 else None

    hub.trouble = second_commit
    with pytest.raises(HubError, match="the Hub answered 500"):
        run("push", shards, "ada/faces", "--yes")
    there = hub.files("ada/faces")
    assert len(there) == 3
    assert MANIFEST not in there
    before = len(hub.asked)
    run("push", shards, "ada/faces", "--yes")
    assert hub.files("ada/faces") == tree(shards)
    sent = [line for line in hub.asked[before:] if line.startswith("PUT")]
    assert len(sent) <= len(tree(shards)) - 3


def test_a_killed_push_leaves_no_set_and_goes_on(hub: FakeHub, shards: Path, tmp_path: Path) -> None:
    """SIGKILL when the manifest is about to go up: all data is there, and nothing that a pull takes for a set."""
    words = [sys.executable, "-m", "v2f_engine", "push", str(shards), "ada/faces", "--yes", "--quiet"]
    running = subprocess.Popen(words)
    commits: list[str] = []

    def kill(method: str, path: str, number: int) -> int | None:
        commits.extend([path] if "/commit/" in path else [])
        if len(commits) == 2 and running.poll() is None:
            os.kill(running.pid, signal.SIGKILL)
            running.wait()
            return 500
        return None

    hub.trouble = kill
    assert running.wait(120) == -signal.SIGKILL
    assert hub.files("ada/faces")
    assert MANIFEST not in hub.files("ada/faces")
    run("push", shards, "ada/faces", "--yes")
    assert hub.files("ada/faces") == tree(shards)


def test_ctrl_c_says_what_is_kept_and_how_to_go_on(hub: FakeHub, shards: Path, tmp_path: Path) -> None:
    run("push", shards, "ada/faces", "--yes")
    words = [sys.executable, "-m", "v2f_engine", "pull", "ada/faces", "--out", str(tmp_path / "out")]
    running = subprocess.Popen(words, stderr=subprocess.PIPE, text=True)
    seen: list[str] = []

    def interrupt(method: str, path: str, number: int) -> int | None:
        seen.extend([path] if "/cdn/" in path else [])
        if len(seen) == 3 and running.poll() is None:
            os.kill(running.pid, signal.SIGINT)
            time.sleep(1.0)
        return None

    hub.trouble = interrupt
    _, said = running.communicate(timeout=120)
    assert running.returncode == 130
    assert "stopped by SIGINT: what arrived in" in said
    assert "the same command resumes" in said
    assert not (tmp_path / "out" / MANIFEST).exists()
    hub.trouble = lambda method, path, number: None
    run("pull", "ada/faces", "--out", tmp_path / "out")
    assert tree(tmp_path / "out") == tree(shards)


def test_an_interrupted_pull_goes_on(hub: FakeHub, shards: Path, tmp_path: Path) -> None:
    run("push", shards, "ada/faces", "--yes")
    out = tmp_path / "out"
    stored = [
        sha for sha, content in hub.blobs.items() if content == (shards / "shard-000002.tar").read_bytes()
    ]
    hub.trouble = lambda method, path, number: 403 if path.endswith(f"/cdn/{stored[0]}") else None
    with pytest.raises(HubError, match=r"shard-000002\.tar: .* does not allow it"):
        run("pull", "ada/faces", "--out", out)
    assert (out / WORK / landing.STATE).is_file()
    assert not (out / MANIFEST).exists()
    fetched = set(tree(out))
    hub.trouble = lambda method, path, number: None
    before = len(hub.asked)
    run("pull", "ada/faces", "--out", out)
    assert tree(out) == tree(shards)
    asked = [line for line in hub.asked[before:] if line.startswith("GET") and "/resolve/" in line]
    assert fetched
    assert not [line for line in asked for name in fetched if line.endswith(f"/{name}")]


def test_damage_at_the_hub_is_found_and_mended_by_pushing_again(
    hub: FakeHub, shards: Path, tmp_path: Path
) -> None:
    run("push", shards, "ada/faces", "--yes")
    hub.damage("ada/faces", "shard-000001.tar", bit=9000)
    out = tmp_path / "out"
    for _ in range(2):
        with pytest.raises(HubError, match=r"not what was pushed: shard 1: shard-000001\.tar"):
            run("pull", "ada/faces", "--out", out)
        assert not (out / MANIFEST).exists()
        assert not (out / "shard-000001.tar").exists()
    good = (shards / "shard-000001.tar").read_bytes()
    hub.store(good, lfs=True)
    hub.lose("ada/faces", "shard-000000.tar")
    with pytest.raises(HubError, match=r"not whole: shard-000000\.tar is missing"):
        run("pull", "ada/faces", "--out", tmp_path / "other")
    assert not (tmp_path / "other").exists(), "nothing came, so nothing is left"
    hub.put("dataset", "ada/faces", {"shard-000001.tar": good[:-1] + b"x"})
    with pytest.raises(HubError, match=r"shard-000001\.tar has another size or sha256"):
        run("pull", "ada/faces", "--out", tmp_path / "other")
    assert "2 files sent" in run("push", shards, "ada/faces", "--yes")
    run("pull", "ada/faces", "--out", tmp_path / "other")
    assert verify_dataset(tmp_path / "other").ok
    (tmp_path / "other" / "shard-000001.tar").write_bytes(good[:-1] + b"x")
    with pytest.raises(Exception, match="was pulled before and is damaged now"):
        run("pull", "ada/faces", "--out", tmp_path / "other")


@pytest.mark.parametrize(
    ("token", "words", "said"),
    [
        (None, "push {set} ada/faces --yes", "a token is needed and none was found"),
        ("hf_wrong", "push {set} ada/faces --yes", "the token is not valid there"),
        ("hf_wrong", "pull bob/open --out {out}", "the token is not valid there"),
        ("hf_of_bob", "push {set} ada/faces --yes", "does not allow it"),
        (None, "pull ada/secret --out {out}", "no dataset or model of this name"),
        ("hf_of_bob", "pull ada/secret --out {out}", "or a private one that this token may not see"),
        ("hf_of_ada", "pull ada/none --out {out}", "no dataset or model of this name"),
    ],
)
def test_who_may_not_is_told_so(
    token: str | None,
    words: str,
    said: str,
    hub: FakeHub,
    shards: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    in_process(monkeypatch, hub, tmp_path / "home", token)
    hub.put("dataset", "ada/secret", {"a.txt": b"a"}, private=True)
    hub.put("dataset", "bob/open", {"a.txt": b"a"})
    with pytest.raises(HubError, match=said) as refused:
        run(*words.format(set=shards, out=tmp_path / "out").split())
    assert "hf_" not in str(refused.value)
    assert refused.value.exit_code == 1
    assert not (tmp_path / "out").exists()


def test_no_network(hub: FakeHub, shards: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from huggingface_hub import constants

    run("push", shards, "ada/faces", "--yes")
    url = hub.url
    monkeypatch.setattr(constants, "ENDPOINT", "http://127.0.0.1:9")
    for words in (("push", shards, "ada/faces", "--yes"), ("pull", "ada/faces", "--out", tmp_path / "out")):
        with pytest.raises(HubError, match=r"127\.0\.0\.1:9 cannot be reached") as refused:
            run(*words)
        assert "repeat the command" in str(refused.value)
    monkeypatch.setattr(constants, "ENDPOINT", url)
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    with pytest.raises(HubError, match="HF_HUB_OFFLINE is set"):
        run("pull", "ada/faces", "--out", tmp_path / "out")
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    monkeypatch.setattr(landing, "SPARE", 1 << 60)
    with pytest.raises(DiskFull, match="nothing was fetched"):
        run("pull", "ada/faces", "--out", tmp_path / "out")


@pytest.mark.parametrize(
    "name", ["../evil.txt", "a/../../evil.txt", "/etc/evil", "a//b", "./a", "a\\..\\b", "a\nb", "x" * 300]
)
def test_a_name_that_would_leave_the_folder_is_refused(name: str, hub: FakeHub, tmp_path: Path) -> None:
    hub.put("dataset", "bob/traps", {"fine.txt": b"fine", name: b"evil"})
    with pytest.raises(HubError, match="no safe place in a folder"):
        run("pull", "bob/traps", "--out", tmp_path / "deep" / "out")
    assert not [path for path in tmp_path.rglob("*") if path.is_file() and b"evil" in path.read_bytes()]


def test_names_of_repositories_are_checked(hub: FakeHub, tmp_path: Path) -> None:
    for name in ("faces", "a/b/c", "/x", "../x", "ada/fa ces", "datasets/ada"):
        with pytest.raises((ConfigError, HubError)) as refused:
            run("pull", name, "--out", tmp_path / "out")
        assert "--" not in str(refused.value) or name not in ("faces",)
    assert not hub.repos


def test_a_strangers_set_is_fetched_read_and_not_run(hub: FakeHub, shards: Path, tmp_path: Path) -> None:
    """As HSFace lies on the Hub: folders of pictures, a card, a loading script that nobody runs."""
    faces = made(tmp_path / "made", "imagefolder")
    pictures = {
        f"HSFace/{name.removeprefix('images/')}": data for name, data in tree(faces).items() if ".jpg" in name
    }
    trap = f"import pathlib\npathlib.Path({str(tmp_path / 'ran')!r}).touch()\n".encode()
    hub.put(
        "dataset",
        "bob/HSFace",
        {**pictures, "HSFace.py": trap, "README.md": b"# HSFace\n", ".hidden/x": b"x"},
    )
    said = run("pull", "bob/HSFace", "--out", tmp_path / "out")
    assert "no set of this engine" in said
    assert "sound: " in said
    assert "18 images, 6 identities" in said
    assert not (tmp_path / "ran").exists()
    assert set(tree(tmp_path / "out")) == {*pictures, "HSFace.py", "README.md"}
    assert not (tmp_path / "out" / WORK).exists()
    hub.put("dataset", "bob/broken", {"a.tar": b"no tar at all" * 100})
    with pytest.raises(AssertionError, match="NOT sound"):
        run("pull", "bob/broken", "--out", tmp_path / "broken")


@pytest.mark.slow
def test_weights_there_and_back(hub: FakeHub, tmp_path: Path) -> None:
    from v2f_engine.models.registry import MINI
    from v2f_engine.models.vec2face import Vec2Face

    source = MINI / "generator.safetensors"
    said = run("push", source, "ada/mini", "--yes")
    assert "4 files sent" in said
    there = hub.files("ada/mini", kind="model")
    assert there["generator.safetensors"] == source.read_bytes()
    card = there["README.md"].decode()
    assert card.startswith("---\nlicense: cc0-1.0\nlibrary_name: v2f-engine\n")
    assert set(there) == {"generator.safetensors", "statistics.safetensors", "card.json", "README.md"}
    said = run("pull", "ada/mini", "--out", tmp_path / "out")
    assert "sound: " in said
    assert (tmp_path / "out" / "generator.safetensors").read_bytes() == source.read_bytes()
    Vec2Face.from_pretrained("mini").save_pretrained(tmp_path / "saved")
    run("push", tmp_path / "saved" / "model.safetensors", "ada/saved", "--yes")
    assert hub.files("ada/saved", kind="model") == tree(tmp_path / "saved"), "the library's own folder, whole"
    Vec2Face.from_pretrained("ada/saved", fetch=True)
    copy = tmp_path / "mine" / "generator.safetensors"
    copy.parent.mkdir()
    from safetensors.numpy import load_file, save_file

    tensors = load_file(source)
    save_file({name: value + 1 for name, value in tensors.items()}, copy)
    with pytest.raises(HubError, match=r"something else|other content of generator\.safetensors"):
        run("push", copy, "ada/mini", "--yes")
    with pytest.raises(ConfigError, match=r"a pickle, which runs code"):
        run("push", tmp_path / "x.pth", "ada/mini", "--yes")
