"""What is shipped: wheel and sdist built by the real frontend, compared with git's files, installed and run."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import sysconfig
import tarfile
import tomllib
import venv
import zipfile
from pathlib import Path

import pytest
import yaml

from v2f_engine.version import VERSION

ROOT = Path(__file__).parents[1]
PYPROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())
PACKAGES = {"v2f_engine/": "v2f_engine/", "kernels/v2f_kernels/": "v2f_kernels/"}
"""A folder of the clone -> what it is in a wheel."""
BESIDE = {
    "CHANGELOG.md", "CITATION.cff", "LICENSE", "MANIFEST.in", "README.md",
    "constraints.txt", "pyproject.toml", "setup.py",
}  # fmt: skip
"""What an sdist holds of the clone's root."""
MADE = {"PKG-INFO", "setup.cfg"}


def run(*words: str | Path, **how: object) -> subprocess.CompletedProcess[str]:
    done = subprocess.run([str(word) for word in words], capture_output=True, text=True, check=False, **how)  # type: ignore[call-overload]
    assert done.returncode == 0, (done.stdout + done.stderr)[-3000:]
    return done  # type: ignore[no-any-return]


def tracked() -> set[str]:
    """Files of the working tree that are git's, and those that will be: others work here, too."""
    listed = run("git", "-C", ROOT, "ls-files", "-co", "--exclude-standard", "-z").stdout.split("\0")
    return {name for name in listed if name and (ROOT / name).is_file()}


@pytest.fixture(scope="module")
def tree(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, set[str]]:
    """A copy of the clone as git has it, with what building and testing leave behind: none of that may be shipped."""
    copy, names = tmp_path_factory.mktemp("clone"), tracked()
    for name in names:
        if name.startswith(("bench/results", "tests/golden", "docs/")):
            continue
        (copy / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(ROOT / name, copy / name)
    for left in (
        "v2f_engine/__pycache__/a.cpython-311.pyc",
        "kernels/v2f_kernels/_C.so",
        "csrc/old.so",
        "out/x.py",
    ):
        (copy / left).parent.mkdir(parents=True, exist_ok=True)
        (copy / left).write_bytes(b"left behind")
    return copy, names


@pytest.fixture(scope="module")
def built(tree: tuple[Path, set[str]], tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """`sdist`, and the `wheel` that is made of it, by `python -m build`; without the extension, which takes long."""
    out = tmp_path_factory.mktemp("dist")
    environment = {**os.environ, "V2F_NO_EXTENSION": "1"}
    done = run(sys.executable, "-m", "build", "--no-isolation", "--outdir", out, tree[0], env=environment)
    assert "would be ignored" not in done.stdout + done.stderr, "`make setup` begins with pages of warnings"
    (wheel,), (sdist,) = out.glob("*.whl"), out.glob("*.tar.gz")
    return {"wheel": wheel, "sdist": sdist}


def test_a_wheel_holds_what_git_has_and_nothing_else(
    built: dict[str, Path], tree: tuple[Path, set[str]]
) -> None:
    wanted = {
        place + name.removeprefix(folder)
        for name in tree[1]
        for folder, place in PACKAGES.items()
        if name.startswith(folder)
    }
    with zipfile.ZipFile(built["wheel"]) as wheel:
        held = {name for name in wheel.namelist() if ".dist-info/" not in name}
    assert held == wanted
    assert {"v2f_engine/py.typed", "v2f_kernels/py.typed"} <= held, "a user's mypy takes everything for Any"


def test_an_sdist_holds_what_a_wheel_is_built_of_and_nothing_else(
    built: dict[str, Path], tree: tuple[Path, set[str]]
) -> None:
    wanted = {name for name in tree[1] if name.startswith((*PACKAGES, "csrc/"))} | BESIDE
    with tarfile.open(built["sdist"]) as sdist:
        held = {member.name.partition("/")[2] for member in sdist.getmembers() if member.isfile()}
    assert {name for name in held if not name.startswith("v2f_engine.egg-info/")} - MADE == wanted


def test_a_wheel_of_the_tree_is_the_wheel_of_the_sdist(
    built: dict[str, Path], tree: tuple[Path, set[str]], tmp_path: Path
) -> None:
    environment = {**os.environ, "V2F_NO_EXTENSION": "1"}
    run(
        sys.executable,
        "-m",
        "build",
        "--no-isolation",
        "--wheel",
        "--outdir",
        tmp_path,
        tree[0],
        env=environment,
    )
    contents = []
    for path in (built["wheel"], next(tmp_path.glob("*.whl"))):
        with zipfile.ZipFile(path) as wheel:
            contents.append(
                {name: wheel.read(name) for name in wheel.namelist() if not name.endswith("/RECORD")}
            )
    assert contents[0] == contents[1]


def test_metadata_says_one_version_and_the_extras(built: dict[str, Path]) -> None:
    with zipfile.ZipFile(built["wheel"]) as wheel:
        (name,) = (name for name in wheel.namelist() if name.endswith(".dist-info/METADATA"))
        text = wheel.read(name).decode()
    assert f"\nVersion: {VERSION}\n" in text
    assert "\nLicense-Expression: Apache-2.0\n" in text
    assert set(re.findall(r"^Provides-Extra: (.+)$", text, re.M)) == set(
        PYPROJECT["project"]["optional-dependencies"]
    )


def environment_of(place: Path, *, visible: bool) -> Path:
    """The python of a new virtual environment; `visible`: it sees what this one's has, but not the clone."""
    venv.EnvBuilder(with_pip=True, symlinks=True).create(place)
    python = place / "bin/python"
    if visible:
        site = Path(
            run(python, "-c", "import sysconfig; print(sysconfig.get_path('purelib'))").stdout.strip()
        )
        (site / "outer.pth").write_text(f"{sysconfig.get_path('purelib')}\n")
    return python


def outside(place: Path) -> dict[str, object]:
    """An empty folder and an environment that names no source."""
    place.mkdir(exist_ok=True)
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    return {"cwd": place, "env": environment}


def snippet() -> str:
    """The first Python of README.md, with counts that take seconds."""
    (code, *_) = re.findall(r"```python\n(.*?)```", (ROOT / "README.md").read_text(), re.S)
    for long, short in (
        ("n_ids=1000, images_per_id=50", "n_ids=2, images_per_id=2"),
        ("(1000,", "(3,"),
        ("images_per_id=50", "images_per_id=2"),
    ):
        assert long in code
        code = code.replace(long, short)
    return code


def use(python: Path, place: Path, extension: bool) -> None:
    """What a user does first, from an empty folder."""
    how = outside(place)
    command = python.parent / "v2f"
    found = run(
        python,
        "-c",
        "import v2f_engine, v2f_kernels; print(v2f_engine.__file__, v2f_kernels.__file__)",
        **how,
    )
    assert str(ROOT) not in found.stdout, "the clone is not what is tried"
    assert run(command, "--version", **how).stdout.strip() == f"v2f {VERSION}"
    run(command, "generate", "--ids", "2", "--images", "2", "--out", "set", **how)
    run(command, "verify", "set", **how)
    assert VERSION in (place / "set/manifest.json").read_text()
    told = run(command, "env", "--device", "cpu", **how).stdout
    assert ("compiled extension: avx" in told or "compiled extension: scalar" in told) is extension, told
    (place / "snippet.py").write_text(snippet())
    run(python, "snippet.py", **how)


def test_an_installed_wheel_works_and_says_that_it_has_no_extension(
    built: dict[str, Path], tmp_path: Path
) -> None:
    python = environment_of(tmp_path / "env", visible=True)
    run(python, "-m", "pip", "install", "-q", "--no-deps", "--no-index", built["wheel"])
    use(python, tmp_path / "empty", extension=False)


def installed(tree: Path, place: Path, **environment: str) -> Path:
    """The python of an environment with the wheel that this environment's setuptools builds of the tree."""
    python = environment_of(place / "env", visible=True)
    shutil.rmtree(tree / "build", ignore_errors=True)  # of another test, with or without the extension
    words = ("-m", "build", "--no-isolation", "--wheel", "--outdir", place / "dist", tree)
    run(sys.executable, *words, env={**os.environ, **environment})
    (wheel,) = (place / "dist").glob("*.whl")
    run(python, "-m", "pip", "install", "-q", "--no-deps", "--no-index", wheel)
    return python


@pytest.mark.slow
def test_the_extension_is_built_where_a_compiler_is(tree: tuple[Path, set[str]], tmp_path: Path) -> None:
    use(installed(tree[0], tmp_path), tmp_path / "empty", extension=True)


@pytest.mark.slow
def test_without_a_compiler_it_installs_and_says_so(tree: tuple[Path, set[str]], tmp_path: Path) -> None:
    python = installed(tree[0], tmp_path, CC="/nowhere/cc", CXX="/nowhere/c++")
    use(python, tmp_path / "empty", extension=False)


@pytest.mark.slow
def test_a_fresh_environment_fetches_what_it_needs(tree: tuple[Path, set[str]], tmp_path: Path) -> None:
    """Isolated build, real index: what a stranger's pip does; torch is the one that CI has."""
    python = environment_of(tmp_path / "env", visible=False)
    run(sys.executable, "-m", "build", "--wheel", "--outdir", tmp_path, tree[0])
    (wheel,) = tmp_path.glob("*.whl")
    run(python, "-m", "pip", "install", "-q", "-c", ROOT / "constraints.txt", wheel)
    use(python, tmp_path / "empty", extension=True)
    run(python, "-m", "pip", "check", **outside(tmp_path / "empty"))
    run(python, "-m", "pip", "uninstall", "-y", "v2f-engine", **outside(tmp_path / "empty"))
    left = [path for path in tmp_path.glob("env/lib/python*/site-packages/v2f_*/**/*") if path.is_file()]
    assert not [path for path in left if path.suffix != ".pyc"], (
        "uninstalling leaves nothing but compiled caches"
    )


def test_the_changelog_begins_with_this_version() -> None:
    heads = re.findall(r"^## \[(.+?)\](?: - (\d{4}-\d\d-\d\d))?$", (ROOT / "CHANGELOG.md").read_text(), re.M)
    released = [(name, day) for name, day in heads if name != "Unreleased"]
    assert released[0][0] == VERSION
    assert all(re.fullmatch(r"\d+\.\d+\.\d+", name) and day for name, day in released)
    assert [day for _, day in released] == sorted((day for _, day in released), reverse=True)


def test_the_citation_is_of_this_version_and_names_the_papers() -> None:
    cited = yaml.safe_load((ROOT / "CITATION.cff").read_text())
    assert cited["version"] == VERSION
    assert f"[{VERSION}] - {cited['date-released']}" in (ROOT / "CHANGELOG.md").read_text()
    assert {paper["identifiers"][0]["value"] for paper in cited["references"]} == {
        "arXiv:2409.02979", "arXiv:2507.17192",
    }  # fmt: skip
    assert cited["license"] == PYPROJECT["project"]["license"]


def test_the_version_stands_in_one_place() -> None:
    assert PYPROJECT["project"]["dynamic"] == ["version"]
    assert "version" not in PYPROJECT["project"]


@pytest.mark.parametrize("name", ["Dockerfile", "Dockerfile.cuda"])
def test_a_container_file_copies_all_that_a_wheel_is_built_of(name: str) -> None:
    text = (ROOT / name).read_text()
    copied = {word for line in re.findall(r"^COPY (?!--from)(.+)$", text, re.M) for word in line.split()[:-1]}
    assert copied == (BESIDE | {"csrc", "kernels", "v2f_engine"})
    assert copied <= {
        line.lstrip("!") for line in (ROOT / ".dockerignore").read_text().split() if line[0] == "!"
    }
    extras = re.search(r"^ARG EXTRAS=(.+)$", text, re.M)
    assert extras
    assert set(extras[1].split(",")) <= set(PYPROJECT["project"]["optional-dependencies"])
    stage = text.rpartition("\nFROM ")[2]
    assert "\nUSER v2f\n" in stage
    assert 'ENTRYPOINT ["v2f"]' in stage
    assert "--no-cache-dir" in text
