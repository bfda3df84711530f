"""The fake Hub behaves as the real client expects: what it takes it gives back; it refuses what the Hub refuses."""

from __future__ import annotations

from pathlib import Path

import pytest
from fake_hub import FakeHub


def test_a_folder_goes_up_and_comes_down_through_the_real_client(hub: FakeHub, tmp_path: Path) -> None:
    from huggingface_hub import HfApi, snapshot_download

    made = tmp_path / "made"
    (made / "deep").mkdir(parents=True)
    (made / "README.md").write_text("---\nlicense: mit\n---\nwords\n")
    (made / "deep" / "big file.tar").write_bytes(bytes(range(256)) * 4096)
    (made / "note.txt").write_text("é\n")
    api = HfApi()
    hub.page = 2
    assert api.whoami()["name"] == "ada"
    api.create_repo("ada/things", repo_type="dataset", private=True)
    api.upload_folder(repo_id="ada/things", repo_type="dataset", folder_path=made)
    found = hub.files("ada/things")
    assert found == {p.relative_to(made).as_posix(): p.read_bytes() for p in made.rglob("*") if p.is_file()}
    back = snapshot_download("ada/things", repo_type="dataset", local_dir=tmp_path / "back")
    assert {name: (Path(back) / name).read_bytes() for name in found} == found
    assert api.repo_info("ada/things", repo_type="dataset").private is True
    (info,) = api.get_paths_info("ada/things", ["note.txt"], repo_type="dataset")
    assert info.size == 3
    assert sum("/lfs/" in line for line in hub.asked if line.startswith("PUT")) == 1


def test_it_refuses_what_the_hub_refuses(hub: FakeHub, tmp_path: Path) -> None:
    from huggingface_hub import HfApi
    from huggingface_hub.errors import HfHubHTTPError, RepositoryNotFoundError, RevisionNotFoundError

    hub.create("dataset", "bob/secret", private=True)
    hub.create("dataset", "ada/open")
    api = HfApi()
    with pytest.raises(RepositoryNotFoundError):
        api.repo_info("ada/none", repo_type="dataset")
    with pytest.raises(RepositoryNotFoundError):
        api.repo_info("bob/secret", repo_type="dataset")
    with pytest.raises(RevisionNotFoundError):
        api.repo_info("ada/open", repo_type="dataset", revision="v9")
    for token, name, status in (
        ("hf_wrong", "ada/x", 401),
        ("hf_of_bob", "ada/x", 403),
        ("hf_of_ada", "ada/open", 409),
    ):
        with pytest.raises(HfHubHTTPError) as refused:
            HfApi(token=token).create_repo(name, repo_type="dataset")
        assert refused.value.response.status_code == status
    card = tmp_path / "README.md"
    card.write_text("---\nlicense: mine\n---\n")
    with pytest.raises(ValueError, match="license"):
        api.upload_file(
            path_or_fileobj=card, path_in_repo="README.md", repo_id="ada/open", repo_type="dataset"
        )
