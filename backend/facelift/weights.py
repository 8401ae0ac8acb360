# SPDX-License-Identifier: GPL-3.0-or-later
"""FaceLift's official weights: finding them on this machine, and downloading them from the Hugging Face Hub.

Their licence is the Adobe Research License, for non-commercial research only; a download needs the user's consent. One
revision is pinned, and downloaded weights are checked against their SHA-256. The Hub states none for small files, which
are checked to be of their kind. What other programs have downloaded with the Hub's own client is found in its cache.
Downloads do not use that client, because it starts a broken file again from the beginning, and one has 3.7 GB.
"""

from __future__ import annotations

import json
import os
from collections.abc import Collection
from http.client import HTTPException
from pathlib import Path
from typing import NamedTuple

from ..download import CACHE, RemoteFile, count_bytes, download_error, download_files, fetch_file, is_right
from ..errors import Progress, UserError, no_progress

REPOSITORY, REVISION = "wlyu/OpenFaceLift", "3ebac9f8e2d791f02507b8aa61520e1ba379a115"
ENDPOINT = os.environ.get("HF_ENDPOINT", "https://huggingface.co")
FOLDER = CACHE / "facelift" / REVISION
LICENCE = "Adobe Research License 1.2, for non-commercial research only"
SIZE = 9_316_311_496  # bytes of the weights; the other files have less than 2 MB
GSLRM_SIZE = 3_723_000_000  # of these, GS-LRM's
TITLE = "FaceLift's weights"
LICENCE_FILE = "LICENSE"
GSLRM, DIFFUSION = "gslrm/ckpt_0000000000021125.pt", "mvdiffusion/pipeckpts"
# paths in the repository, and the SHA-256 of those that hold weights
FILES = {
    LICENCE_FILE: None,
    f"{DIFFUSION}/model_index.json": None,
    f"{DIFFUSION}/feature_extractor/preprocessor_config.json": None,
    f"{DIFFUSION}/image_encoder/config.json": None,
    f"{DIFFUSION}/image_normalizer/config.json": None,
    f"{DIFFUSION}/image_noising_scheduler/scheduler_config.json": None,
    f"{DIFFUSION}/scheduler/scheduler_config.json": None,
    f"{DIFFUSION}/text_encoder/config.json": None,
    f"{DIFFUSION}/tokenizer/merges.txt": None,
    f"{DIFFUSION}/tokenizer/special_tokens_map.json": None,
    f"{DIFFUSION}/tokenizer/tokenizer_config.json": None,
    f"{DIFFUSION}/tokenizer/vocab.json": None,
    f"{DIFFUSION}/unet/config.json": None,
    f"{DIFFUSION}/vae/config.json": None,
    f"{DIFFUSION}/image_normalizer/diffusion_pytorch_model.safetensors": (
        "a726e7159498c008a99fad02cb52280065ee93432f2af192a8511b7ddcf997a3"
    ),
    f"{DIFFUSION}/vae/diffusion_pytorch_model.safetensors": (
        "3e4c08995484ee61270175e9e7a072b66a6e4eeb5f0c266667fe1f45b90daf9a"
    ),
    f"{DIFFUSION}/text_encoder/model.safetensors": "bc1827c465450322616f06dea41596eac7d493f4e95904dcb51f0fc745c4e13f",
    f"{DIFFUSION}/image_encoder/model.safetensors": "ae616c24393dd1854372b0639e5541666f7521cbe219669255e865cb7f89466a",
    f"{DIFFUSION}/unet/diffusion_pytorch_model.safetensors": (
        "2389a09216381a2020ac751c58735408feb4e76797c6f2393e66c7a0cedc1629"
    ),
    GSLRM: "705e9aa37c7ea964bb06f25db060c12676a93d9ce6a365ac8b50128a3dc12662",
}


PARTS = (DIFFUSION, GSLRM)  # painting needs one, lifting the other; the licence is not needed to use them


class FaceLiftWeights(NamedTuple):
    """Where the weights are: the file for gslrm.load_gslrm and the folder for mvdiffusion.load_mvdiffusion.

    Only the parts are there that were asked for.
    """

    gslrm: Path
    diffusion: Path


def find_weights(folder: Path | str = FOLDER, parts: Collection[str] = PARTS) -> FaceLiftWeights | None:
    """Find parts of the official weights, in a folder laid out as the repository or in the Hub's cache.

    Return None if neither has all files of these parts.
    """
    names = _files_of(parts)
    for root in filter(None, (Path(folder), find_in_cache(names[-1]))):
        if all((root / name).is_file() for name in names):
            return FaceLiftWeights(root / GSLRM, root / DIFFUSION)
    return None


def sum_sizes(parts: Collection[str]) -> int:
    """Return the bytes of parts of the weights."""
    return (SIZE - GSLRM_SIZE) * (DIFFUSION in parts) + GSLRM_SIZE * (GSLRM in parts)


def _files_of(parts: Collection[str]) -> list[str]:
    return [name for name in FILES if name.startswith(tuple(parts))]


def find_in_cache(name: str) -> Path | None:
    """Return the folder of the pinned revision in the cache of the Hub's own client; None if it lacks a file.

    The client itself takes half a second to import, so this follows its documented layout and variables.
    """
    cache = os.environ.get("XDG_CACHE_HOME", "~/.cache")
    home = os.environ.get("HF_HOME", f"{cache}/huggingface")
    hub = Path(os.path.expandvars(os.environ.get("HF_HUB_CACHE", f"{home}/hub"))).expanduser()
    snapshot = hub / f"models--{REPOSITORY.replace('/', '--')}" / "snapshots" / REVISION
    return snapshot if (snapshot / name).is_file() else None


def count_downloaded_bytes(folder: Path | str = FOLDER) -> int:
    """Count the bytes of the repository's files that a folder already has, incomplete files included."""
    return count_bytes(Path(folder) / name for name in FILES)


def fetch_licence(folder: Path | str = FOLDER, endpoint: str = ENDPOINT) -> str:
    """Return the text of the weights' licence; download it if the folder lacks it.

    Raises:
        UserError: the Hub cannot be reached, or the folder cannot be written.
    """
    path, remote = Path(folder) / LICENCE_FILE, _remote_file(LICENCE_FILE, endpoint)
    try:
        if not is_right(path, remote):
            fetch_file(remote, path, "the weights' licence")
        return path.read_text(encoding="utf-8", errors="replace")
    except (OSError, HTTPException) as error:
        raise download_error(error, "the weights' licence", path.parent) from None


def download_weights(
    licence_accepted: bool,
    folder: Path | str = FOLDER,
    progress: Progress = no_progress,
    endpoint: str = ENDPOINT,
    parts: Collection[str] = PARTS,
) -> FaceLiftWeights:
    """Download the parts of the official weights that the folder lacks; a broken download is continued.

    licence_accepted: whether the user has read LICENCE and agreed. endpoint: the Hub's address, or a mirror's.

    Raises:
        UserError: the licence is not accepted, the Hub cannot be reached, a file arrived damaged, or the disk is full.
        Cancelled: whatever `progress` raises, after each MiB at the latest.
    """
    if not licence_accepted:
        raise UserError(f"FaceLift's weights are under the {LICENCE}; accept it to download them.")
    folder = Path(folder)
    files = {folder / name: _remote_file(name, endpoint) for name in (LICENCE_FILE, *_files_of(parts))}
    download_files(files, TITLE, sum_sizes(parts), folder, progress)
    return FaceLiftWeights(folder / GSLRM, folder / DIFFUSION)


def _remote_file(name: str, endpoint: str) -> RemoteFile:
    url = f"{endpoint}/{REPOSITORY}/resolve/{REVISION}/{name}"
    return RemoteFile(url, FILES[name], lambda content: _is_of_kind(name, content))


def _is_of_kind(name: str, content: bytes) -> bool:
    """Return whether a small file can be what its name says, and not the web page of a network that wants a login."""
    if name.endswith(".json"):
        try:
            return isinstance(json.loads(content), dict)
        except (ValueError, RecursionError):
            return False
    return bool(content.strip()) and not content.lstrip().startswith(b"<")
