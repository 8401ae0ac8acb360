# SPDX-License-Identifier: GPL-3.0-or-later
"""Malformed weights, cards and training configs end in one sentence; a model that is accepted reconstructs."""

import json
from dataclasses import asdict
from io import BytesIO

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from safetensors.torch import save

from backend.facelift.gslrm import load_gslrm
from backend.lrm4d import LRM4D
from backend.models import load_model
from backend.options import ReconstructOptions
from backend.reconstruct import reconstruct
from backend.training.config import read_config
from tests.helpers import mutations, tiny_gslrm
from tests.helpers.captures import small_capture
from tests.helpers.limits import ends_well
from tests.helpers.tiny_run import TINY

pytestmark = pytest.mark.slow

CAPTURE = small_capture(2, 16, 16)
OPTIONS = ReconstructOptions(complete="off", refinements=0)
CARD = {"model": "small", "licence": "GPL-3.0-or-later", "config": asdict(TINY)}
CONFIG = """model = "small"
steps = 4
warmup = 2
decay = 1
learning_rate = 0.001
batches = [[2, 16, 2], [3, 24, 1, 2, "clip"]]
targets = 1
heads_share = 0.5
fsdp = false
seed = 1
"""


def weights() -> bytes:
    torch.manual_seed(0)
    return save(LRM4D(TINY).state_dict())


def checkpoint() -> bytes:
    buffer = BytesIO()
    tiny_gslrm.save_checkpoint(tiny_gslrm.random_model(), buffer)
    return buffer.getvalue()


WEIGHTS, CHECKPOINT = weights(), checkpoint()


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("models")


def use(path) -> None:
    """Load a model, and reconstruct from two small pictures."""
    cloud = reconstruct(CAPTURE, OPTIONS, load_model(path))
    assert all(np.isfinite(tensor.numpy()).all() for tensor in cloud.tensors())


def run(folder, card: bytes, content: bytes) -> None:
    (folder / "tiny.safetensors").write_bytes(content)
    (folder / "tiny.json").write_bytes(card)
    ends_well(use, folder / "tiny.safetensors")


@given(mutations.documents(CARD))
def test_card(folder, card):
    run(folder, card, WEIGHTS)


@given(mutations.files(WEIGHTS, int.from_bytes(WEIGHTS[:8], "little")))
def test_weights(folder, content):
    run(folder, json.dumps(CARD).encode(), content)


@given(st.sampled_from(sorted(LRM4D(TINY).state_dict())), st.sampled_from(mutations.FLOATS))
def test_a_single_weight(folder, name, value):
    state = LRM4D(TINY).state_dict()
    if state[name].numel():
        state[name].view(-1)[0] = value
    run(folder, json.dumps(CARD).encode(), save(state))


@given(mutations.texts(CONFIG))
def test_training_config(folder, content):
    (folder / "config.toml").write_bytes(content)
    ends_well(read_config, folder / "config.toml")


@given(mutations.files(CHECKPOINT, 2000))
def test_checkpoint(folder, content):
    (folder / "gslrm.pt").write_bytes(content)
    ends_well(load_gslrm, folder / "gslrm.pt", 16)


def test_the_good_files_are_read(folder):
    """Without this, the tests above could pass because everything is refused."""
    (folder / "tiny.safetensors").write_bytes(WEIGHTS)
    (folder / "tiny.json").write_text(json.dumps(CARD))
    (folder / "gslrm.pt").write_bytes(CHECKPOINT)
    (folder / "config.toml").write_text(CONFIG)
    assert load_model(folder / "tiny.safetensors").config == TINY
    assert load_gslrm(folder / "gslrm.pt", 16).config == tiny_gslrm.TINY
    assert read_config(folder / "config.toml").steps == 4
