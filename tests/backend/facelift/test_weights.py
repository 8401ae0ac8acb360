# SPDX-License-Identifier: GPL-3.0-or-later
"""FaceLift's weights are fetched with consent, completely, undamaged, and once."""

import hashlib
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from huggingface_hub import try_to_load_from_cache

from backend import download
from backend.errors import Cancelled, UserError
from backend.facelift import weights as facelift_weights
from tests.helpers.files import full_disk
from tests.helpers.hub import CONTENT, Hub


@pytest.fixture
def server(monkeypatch):
    server = Hub()
    digests = {
        name: hashlib.sha256(CONTENT[name]).hexdigest() for name, digest in facelift_weights.FILES.items() if digest
    }
    monkeypatch.setattr(facelift_weights, "FILES", facelift_weights.FILES | digests)
    monkeypatch.setattr(facelift_weights, "SIZE", sum(map(len, CONTENT.values())))
    monkeypatch.setattr(facelift_weights, "GSLRM_SIZE", len(CONTENT[facelift_weights.GSLRM]))
    yield server
    server.close()


def test_all_files_are_fetched_once_and_found_again(server, tmp_path):
    told = []
    weights = server.download(tmp_path, lambda stage, done: told.append(done))
    for name in facelift_weights.FILES:
        assert (tmp_path / name).read_bytes() == CONTENT[name]
    assert (
        weights
        == (tmp_path / facelift_weights.GSLRM, tmp_path / facelift_weights.DIFFUSION)
        == facelift_weights.find_weights(tmp_path)
    )
    assert sorted(name for name, _ in server.asked) == sorted(facelift_weights.FILES)
    assert told == sorted(told)
    assert len(told) > 50
    assert told[-1] == 1
    assert not list(tmp_path.rglob("*.part"))
    server.asked.clear()
    assert server.download(tmp_path) == weights
    assert server.asked == []


def test_nothing_is_fetched_without_consent(server, tmp_path):
    with pytest.raises(UserError, match=r"Adobe Research License.*accept it"):
        facelift_weights.download_weights(False, tmp_path, endpoint=server.address)
    assert server.asked == []
    assert facelift_weights.find_weights(tmp_path) is None


def test_the_licence_can_be_read_before_the_rest(server, tmp_path):
    assert facelift_weights.fetch_licence(tmp_path, server.address) == CONTENT[facelift_weights.LICENCE_FILE].decode()
    assert [name for name, _ in server.asked] == [facelift_weights.LICENCE_FILE]
    facelift_weights.fetch_licence(tmp_path, server.address)
    assert len(server.asked) == 1
    (tmp_path / "holiday.mp4").write_bytes(bytes(1000))  # somebody else's
    (tmp_path / f"{facelift_weights.LICENCE_FILE}.part").write_bytes(bytes(10))
    assert facelift_weights.count_downloaded_bytes(tmp_path) == len(CONTENT[facelift_weights.LICENCE_FILE]) + 10
    with pytest.raises(UserError, match=r"licence broke off \(no connection: .*try again"):
        facelift_weights.fetch_licence(tmp_path / "other", "http://127.0.0.1:9")


def test_weights_are_found_without_the_hubs_client(tmp_path, monkeypatch):
    """Which Blender's Python may lack."""
    monkeypatch.setitem(sys.modules, "huggingface_hub", None)
    assert facelift_weights.find_weights(tmp_path) is None
    for name in facelift_weights.FILES:
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    assert facelift_weights.find_weights(tmp_path) == (
        tmp_path / facelift_weights.GSLRM,
        tmp_path / facelift_weights.DIFFUSION,
    )


def test_a_stopped_download_goes_on_where_it_was(server, tmp_path):
    def stop(stage: str, done: float) -> None:
        if done > 0.5:
            raise Cancelled

    with pytest.raises(Cancelled):
        server.download(tmp_path, stop)
    assert facelift_weights.find_weights(tmp_path) is None
    server.asked.clear()
    told = []
    server.download(tmp_path, lambda stage, done: told.append(done))
    assert (tmp_path / facelift_weights.GSLRM).read_bytes() == CONTENT[facelift_weights.GSLRM]
    ((name, wanted),) = server.asked
    assert name == facelift_weights.GSLRM
    assert int(wanted.removeprefix("bytes=").partition("-")[0]) > 0.4 * len(CONTENT[facelift_weights.GSLRM])
    assert min(told) > 0.5
    assert told[-1] == 1


def test_a_connection_that_breaks_is_told_and_gone_on_with(server, tmp_path):
    server.broken_after = 10**7
    with pytest.raises(UserError, match=r"broke off .*missing.*it will go on"):
        server.download(tmp_path)
    server.broken_after = None
    server.download(tmp_path)
    assert (tmp_path / facelift_weights.GSLRM).read_bytes() == CONTENT[facelift_weights.GSLRM]
    assert server.asked[-1][1] == f"bytes={10**7}-"


def test_a_server_that_knows_no_ranges_sends_the_whole_again(server, tmp_path):
    (tmp_path / facelift_weights.GSLRM).parent.mkdir()
    (tmp_path / f"{facelift_weights.GSLRM}.part").write_bytes(b"old")
    server.ranges = False
    told = []
    server.download(tmp_path, lambda stage, done: told.append(done))
    assert (tmp_path / facelift_weights.GSLRM).read_bytes() == CONTENT[facelift_weights.GSLRM]
    assert told[-1] == 1


def test_a_part_that_is_the_whole_already_is_enough(server, tmp_path):
    (tmp_path / facelift_weights.GSLRM).parent.mkdir()
    (tmp_path / f"{facelift_weights.GSLRM}.part").write_bytes(CONTENT[facelift_weights.GSLRM])
    server.download(tmp_path)
    assert (tmp_path / facelift_weights.GSLRM).read_bytes() == CONTENT[facelift_weights.GSLRM]


def test_a_damaged_file_is_refused_and_fetched_anew(server, tmp_path):
    server.content[facelift_weights.GSLRM] = CONTENT[facelift_weights.GSLRM][::-1]
    with pytest.raises(UserError, match=r"21125\.pt' of FaceLift's weights arrived damaged"):
        server.download(tmp_path)
    assert facelift_weights.find_weights(tmp_path) is None
    server.content = dict(CONTENT)
    server.download(tmp_path)
    assert (tmp_path / facelift_weights.GSLRM).read_bytes() == CONTENT[facelift_weights.GSLRM]


def test_what_the_network_or_the_disk_lacks_is_told(server, tmp_path, monkeypatch):
    del server.content["LICENSE"]
    with pytest.raises(UserError, match=r"broke off .*404.*update Facet4D"):
        server.download(tmp_path)
    server.close()
    with pytest.raises(UserError, match=r"broke off \(no connection: .*check the network"):
        server.download(tmp_path)
    monkeypatch.setattr(facelift_weights, "SIZE", 10**18)
    with pytest.raises(UserError, match=r"need 1000000000\.0 GB more"):
        server.download(tmp_path)


def test_a_server_without_time_is_asked_again(server, tmp_path):
    server.refusals = [429, 503, 503, 429]
    assert server.download(tmp_path)
    server.refusals, licence = [503] * 5, tmp_path / "other"
    with pytest.raises(UserError, match=r"too much to do, 503\); try again in some minutes"):
        facelift_weights.fetch_licence(licence, server.address)
    assert not server.refusals and not (licence / "LICENSE").exists()


def test_a_pause_ends_when_the_user_stops():
    def stop(_: int) -> None:
        raise Cancelled

    with pytest.raises(Cancelled):
        download._pause(1e9, stop)


@pytest.mark.parametrize("status, told", [(401, "without a login, 401"), (403, "login"), (500, "server answers 500")])
def test_what_the_server_refuses_is_told(server, tmp_path, status, told):
    server.refusals = [status]
    with pytest.raises(UserError, match=rf"weights broke off \(.*{told}"):
        server.download(tmp_path)


def test_a_full_disk_is_told_and_gone_on_from(server, tmp_path):
    with full_disk(10**6), pytest.raises(UserError, match=r"the disk of .* is full\); free some space"):
        server.download(tmp_path)
    server.download(tmp_path)
    assert (tmp_path / facelift_weights.GSLRM).read_bytes() == CONTENT[facelift_weights.GSLRM]


def test_the_page_of_a_network_that_wants_a_login_is_not_taken_for_a_file(server, tmp_path):
    part = tmp_path / f"{facelift_weights.GSLRM}.part"
    part.parent.mkdir()
    part.write_bytes(CONTENT[facelift_weights.GSLRM][:1000])
    server.page = b"<!DOCTYPE html><html><body>Welcome to the hotel</body></html>"
    with pytest.raises(UserError, match=r"answered with a web page.*log in with a browser"):
        server.download(tmp_path)
    with pytest.raises(UserError, match="answered with a web page"):
        facelift_weights.fetch_licence(tmp_path, server.address)
    assert part.stat().st_size == 1000 and not (tmp_path / "LICENSE").exists()

    # an earlier version stored it, and some networks do not say what they send
    (tmp_path / "LICENSE").write_bytes(server.page)
    page, server.page = server.page, None
    assert facelift_weights.fetch_licence(tmp_path, server.address) == CONTENT["LICENSE"].decode()
    server.content[f"{facelift_weights.DIFFUSION}/vae/config.json"] = page
    with pytest.raises(UserError, match=r"'config.json' of FaceLift's weights arrived damaged"):
        server.download(tmp_path)


def test_two_programs_do_not_add_to_one_part(server, tmp_path):
    other_told = []

    def download_too(stage: str, done: float) -> None:
        if 0.3 < done < 0.9 and not other_told:
            with pytest.raises(UserError, match="Another program is downloading FaceLift's weights") as caught:
                server.download(tmp_path)
            other_told.append(caught)

    server.download(tmp_path, download_too)
    assert other_told
    assert (tmp_path / facelift_weights.GSLRM).read_bytes() == CONTENT[facelift_weights.GSLRM]


def test_what_other_programs_fetched_is_found(tmp_path, monkeypatch):
    """In the layout of the Hub's cache, where its own client finds the same file."""
    monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path))
    assert facelift_weights.find_weights(tmp_path / "none") is None
    snapshot = tmp_path / "models--wlyu--OpenFaceLift" / "snapshots" / facelift_weights.REVISION
    for name in facelift_weights.FILES:
        assert facelift_weights.find_weights(tmp_path / "none") is None
        (snapshot / name).parent.mkdir(parents=True, exist_ok=True)
        (snapshot / name).write_bytes(b"")
    assert facelift_weights.find_weights(tmp_path / "none") == (
        snapshot / facelift_weights.GSLRM,
        snapshot / facelift_weights.DIFFUSION,
    )
    repository, revision = facelift_weights.REPOSITORY, facelift_weights.REVISION
    found = try_to_load_from_cache(repository, facelift_weights.GSLRM, tmp_path, revision)
    assert found == str(snapshot / facelift_weights.GSLRM)


@pytest.mark.parametrize("variable", ["HF_HUB_CACHE", "HF_HOME", "XDG_CACHE_HOME", ""])
def test_the_cache_is_where_the_hubs_client_has_it(tmp_path, variable):
    names = ("HF_HUB_CACHE", "HF_HOME", "XDG_CACHE_HOME", "HUGGINGFACE_HUB_CACHE")
    environment = {name: value for name, value in os.environ.items() if name not in names} | {"HOME": str(tmp_path)}
    if variable:
        environment[variable] = str(tmp_path / "chosen")
    ask = "from huggingface_hub import constants; print(constants.HF_HUB_CACHE)"
    told = subprocess.run([sys.executable, "-c", ask], env=environment, capture_output=True, text=True, check=True)
    weights = Path(told.stdout.strip(), "models--wlyu--OpenFaceLift", "snapshots", facelift_weights.REVISION)
    weights = weights / facelift_weights.GSLRM
    weights.parent.mkdir(parents=True)
    weights.touch()
    ask = "from backend.facelift import weights; print(weights.find_in_cache(weights.GSLRM) / weights.GSLRM)"
    found = subprocess.run([sys.executable, "-c", ask], env=environment, capture_output=True, text=True, check=True)
    assert found.stdout.strip() == str(weights)


def test_only_the_parts_that_are_needed_are_fetched_and_looked_for(server, tmp_path):
    """Painting needs no GS-LRM, lifting nothing else, and neither the licence's text."""
    parts = {facelift_weights.DIFFUSION: "diffusion", facelift_weights.GSLRM: "gslrm"}
    for part, other in ((*parts,), (*reversed(parts),)):
        folder = tmp_path / parts[part]
        facelift_weights.download_weights(True, folder, endpoint=server.address, parts=(part,))
        (folder / facelift_weights.LICENCE_FILE).unlink()
        found = facelift_weights.find_weights(folder, (part,))
        assert found and getattr(found, parts[part]).exists() and not getattr(found, parts[other]).exists()
        assert facelift_weights.find_weights(folder) is None
    assert facelift_weights.sum_sizes(facelift_weights.PARTS) == facelift_weights.SIZE


def test_a_plain_folder_counts_if_it_is_complete(tmp_path):
    for name in facelift_weights.FILES:
        assert facelift_weights.find_weights(tmp_path) is None
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_bytes(b"")
    assert facelift_weights.find_weights(tmp_path) == (
        tmp_path / facelift_weights.GSLRM,
        tmp_path / facelift_weights.DIFFUSION,
    )


@pytest.mark.slow
def test_the_pinned_files_are_those_that_loading_needs(tmp_path):
    """The parts of a folder that the tests load, by the same names."""
    from tests.helpers.tiny_mvdiffusion import write_folder

    folder = write_folder(tmp_path / "pipeckpts")
    written = {path.relative_to(folder).as_posix() for path in folder.rglob("*.*")}
    pinned = {
        Path(name).relative_to(facelift_weights.DIFFUSION).as_posix()
        for name in facelift_weights.FILES
        if name.startswith(facelift_weights.DIFFUSION)
    }
    assert written - pinned <= {"text_encoder/generation_config.json"}
    assert {name for name in pinned if name.endswith(".safetensors")} <= written
    assert json.loads((folder / "model_index.json").read_text())["_class_name"] == "StableUnCLIPImg2ImgPipeline"
