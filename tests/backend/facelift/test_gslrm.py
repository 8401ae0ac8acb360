# SPDX-License-Identifier: GPL-3.0-or-later
"""GS-LRM: the published function, its checkpoint read safely, and 4D-LRM-Large starting from it."""

import errno
import json
import math
import os
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from backend.errors import UserError
from backend.facelift.gslrm import (
    GSLRM,
    GSLRMConfig,
    PostFilter,
    Splats,
    load_gslrm,
    load_gslrm_halved,
    official_name,
)
from backend.rotations import rotation_from_quaternion
from backend.training.start import to_lrm4d
from tests.helpers.shared import SHARED
from tests.helpers.tiny_gslrm import TINY, random_model, save_checkpoint

DEMO_FILTER = PostFilter(scale=0.2, corner=0.75)  # of FaceLift's web demo
ORACLE = SHARED / "oracles" / "gslrm_tiny"


def rig(views: int = 3, height: int = 8, width: int = 12, batch: int = 1) -> tuple[torch.Tensor, ...]:
    generator = torch.Generator().manual_seed(1)
    images = torch.rand(batch, views, 3, height, width, generator=generator)
    poses = torch.eye(4).repeat(batch, views, 1, 1)
    poses[..., :3, :3] = torch.linalg.qr(torch.randn(batch, views, 3, 3, generator=generator)).Q
    poses[..., :3, 3] = torch.randn(batch, views, 3, generator=generator)
    intrinsics = torch.tensor([11.0, 9.0, width / 2 + 1, height / 2 - 1]).expand(batch, views, 4)
    return images, poses, intrinsics


@pytest.fixture(scope="module")
def recorded() -> tuple[Splats, dict[str, torch.Tensor]]:
    inputs, outputs = (load_file(ORACLE / f"{name}.safetensors") for name in ("inputs", "outputs"))
    model = load_gslrm(ORACLE / "state.safetensors", head_width=32)
    return model(inputs["image"], inputs["c2w"], inputs["fxfycxcy"]), outputs


@pytest.mark.oracle
def test_outputs_are_the_published_functions(recorded):
    splats, outputs = recorded
    for name, value in {
        "xyz": splats.position,
        "features": splats.harmonics,
        "scaling": splats.log_scale,
        "rotation": splats.rotation,
        "opacity": splats.logit[..., None],
    }.items():
        torch.testing.assert_close(value, outputs[f"raw.{name}"], atol=1e-4, rtol=0, msg=name)


@pytest.mark.oracle
def test_a_cloud_shows_at_any_time_what_the_published_rasteriser_receives(recorded):
    splats, outputs = recorded
    seen = {name.removeprefix("act.b0."): value for name, value in outputs.items() if name.startswith("act.b0.")}
    mean, covariance, opacity = (part[0] for part in splats.select(0).to_gaussians().at(torch.tensor([7.0])))
    axes = rotation_from_quaternion(seen["rotations"]) * seen["scales"][:, None, :]
    torch.testing.assert_close(mean, seen["means3D"], atol=1e-4, rtol=0)
    torch.testing.assert_close(opacity, seen["opacities"][:, 0], atol=1e-4, rtol=0)
    torch.testing.assert_close(covariance, axes @ axes.mT, atol=1e-5, rtol=0)


@pytest.mark.oracle
def test_the_post_filter_keeps_what_facelift_keeps(recorded):
    splats = recorded[0].select(0)
    counts = json.loads((ORACLE / "filters.json").read_text())
    everything = PostFilter(opacity=0, scale=math.inf, corner=math.inf, box=(math.inf,) * 3)
    published = PostFilter()
    steps = [PostFilter(published.opacity, everything.scale, everything.corner, everything.box)]
    steps += [PostFilter(published.opacity, published.scale, everything.corner, everything.box)]
    steps += [PostFilter(published.opacity, published.scale, published.corner, everything.box), published]
    assert everything.mask(splats).sum() == counts["before"]
    assert [step.mask(splats).sum().item() for step in steps] == list(counts["after_each_cli"].values())
    assert DEMO_FILTER.mask(splats).sum() == counts["after_gradio"]


@pytest.mark.oracle
def test_filtered_splats_are_those_of_facelifts_ply(recorded):
    splats = recorded[0].select(0)
    kept = splats.select(PostFilter().mask(splats))
    header, _, body = (ORACLE / "filtered_cli.ply").read_bytes().partition(b"end_header\n")
    lines = [line.split() for line in header.decode().splitlines() if line.startswith("property")]
    dtype = np.dtype([(name, {"float": "<f4", "uchar": "u1"}[kind]) for _, kind, name in lines])
    table = np.frombuffer(body, dtype)

    def columns(*names: str) -> np.ndarray:
        return np.stack([table[name] for name in names], -1)

    for value, names in (
        (kept.position, ("x", "y", "z")),
        (kept.harmonics[:, 0], ("f_dc_0", "f_dc_1", "f_dc_2")),
        (kept.log_scale, ("scale_0", "scale_1", "scale_2")),
        (kept.rotation, ("rot_0", "rot_1", "rot_2", "rot_3")),
        (kept.logit[:, None], ("opacity",)),
    ):
        np.testing.assert_allclose(value.numpy(), columns(*names), atol=1e-4, rtol=0)


@pytest.mark.oracle
def test_the_default_sizes_are_the_official_checkpoints():
    published = json.loads((SHARED / "oracles" / "gslrm_keys.json").read_text())
    with torch.device("meta"):
        ours = {official_name(name): list(value.shape) for name, value in GSLRM(GSLRMConfig()).state_dict().items()}
    assert ours == {name: shape for name, shape in published.items() if not name.startswith("loss_calculator.")}
    assert (len(ours), sum(map(math.prod, ours.values()))) == (151, 303_565_824)


def twin(model: GSLRM, images: np.ndarray, poses: np.ndarray, intrinsics: np.ndarray) -> dict[str, np.ndarray]:
    """The paper's function for one subject, pixel by pixel and head by head, in numpy's double precision."""
    config = model.config
    weight = {official_name(name): value.double().numpy() for name, value in model.state_dict().items()}

    def norm(x: np.ndarray, name: str) -> np.ndarray:
        centred = x - x.mean(-1, keepdims=True)
        return centred / np.sqrt((centred**2).mean(-1, keepdims=True) + 1e-5) * weight[f"{name}.weight"]

    views, _, height, width = images.shape
    tokens, geometry = [], []
    for view in range(views):
        fx, fy, cx, cy = intrinsics[view]
        centre, turn = poses[view, :3, 3], poses[view, :3, :3]
        for top in range(0, height, config.patch):
            for left in range(0, width, config.patch):
                token = []
                for row in range(top, top + config.patch):
                    for column in range(left, left + config.patch):
                        ray = turn @ [(column + 0.5 - cx) / fx, (row + 0.5 - cy) / fy, 1]
                        ray = ray / np.linalg.norm(ray)
                        nearest = centre - (centre @ ray) * ray
                        token += [2 * images[view, :, row, column] - 1, ray, nearest]
                        geometry.append((centre, ray, -centre @ ray))
                tokens.append(np.concatenate(token))
    x = np.stack(tokens) @ weight["patch_embedder.1.weight"].T
    x = norm(np.concatenate([weight["gaussian_position_embeddings"], x]), "input_layer_norm")
    size = config.width // config.heads
    for layer in range(config.layers):
        name = f"transformer_layers.{layer}"
        q, k, v = np.split(norm(x, f"{name}.norm1") @ weight[f"{name}.attn.to_qkv.weight"].T, 3, axis=-1)
        heads = []
        for head in range(config.heads):
            own = slice(head * size, (head + 1) * size)
            scores = np.exp(q[:, own] @ k[:, own].T / np.sqrt(size))
            heads.append(scores / scores.sum(-1, keepdims=True) @ v[:, own])
        x = x + np.concatenate(heads, -1) @ weight[f"{name}.attn.fc.weight"].T
        hidden = norm(x, f"{name}.norm2") @ weight[f"{name}.mlp.mlp.0.weight"].T
        hidden = hidden * (1 + np.vectorize(math.erf)(hidden / math.sqrt(2))) / 2
        x = x + hidden @ weight[f"{name}.mlp.mlp.2.weight"].T
    free = (
        norm(x[: config.free_gaussians], "gaussian_upsampler.layernorm") @ weight["gaussian_upsampler.linear.weight"].T
    )
    bound = norm(x[config.free_gaussians :], "pixel_gaussian_decoder.0") @ weight["pixel_gaussian_decoder.1.weight"].T
    raw = np.concatenate([free, bound.reshape(-1, free.shape[1])])
    position = raw[:, :3].copy()
    for index, (centre, ray, nearest) in enumerate(geometry, config.free_gaussians):
        depth = nearest + 1.8 * (2 / (1 + np.exp(-raw[index, :3].mean())) - 1)
        position[index] = centre + depth * ray
    colors = 3 * (config.sh_degree + 1) ** 2
    return {
        "position": position,
        "harmonics": raw[:, 3 : 3 + colors].reshape(len(raw), -1, 3),
        "log_scale": np.minimum(raw[:, 3 + colors : 6 + colors] - 2.3, -1.2),
        "rotation": raw[:, 6 + colors : 10 + colors],
        "logit": raw[:, 10 + colors] - 2,
    }


@pytest.mark.slow
@pytest.mark.parametrize(
    ("config", "shape"),
    [
        (TINY, {}),
        (GSLRMConfig(layers=1, width=64, heads=2, patch=8), {"views": 1, "height": 16, "width": 24}),
        (GSLRMConfig(layers=3, width=48, heads=3, patch=2, free_gaussians=0, sh_degree=2), {"views": 5, "batch": 2}),
        (GSLRMConfig(layers=2, width=32, heads=1, patch=4, free_gaussians=1, sh_degree=3), {"views": 7, "width": 4}),
    ],
)
def test_outputs_are_the_papers_function_at_other_sizes(config, shape, tmp_path):
    """Views, rectangular pictures, patches, cameras, colors of higher degrees: against plain loops, via a file."""
    model = random_model(config, seed=len(shape))
    loaded = load_gslrm(save_checkpoint(model, tmp_path / "ckpt.pt"), head_width=config.width // config.heads)
    assert loaded.config == config
    parts = rig(**shape)
    splats = loaded(*parts)
    for index in range(len(parts[0])):
        one = splats.select(index)
        for name, value in twin(model, *(part[index].double().numpy() for part in parts)).items():
            np.testing.assert_allclose(getattr(one, name).numpy(), value, atol=1e-4, rtol=0, err_msg=name)


@pytest.mark.parametrize("post_filter", [PostFilter(), DEMO_FILTER, PostFilter(0.3, 0.2, 0.1, (0.5, 0.7, 0.2))])
def test_the_post_filter_keeps_what_the_plain_rules_keep(post_filter):
    """FaceLift's four rules, one Gaussian at a time, some of them on the thresholds."""
    generator = torch.Generator().manual_seed(3)
    position = (torch.rand(4000, 3, generator=generator) * 2.4 - 1.2).mul(10).round().div(10)
    position[:50] = torch.tensor(post_filter.box)
    log_scale = torch.randn(4000, 3, generator=generator) - 3
    logit = 3 * torch.randn(4000, generator=generator)
    splats = Splats(position, torch.zeros(4000, 1, 3), log_scale, torch.ones(4000, 4), logit)
    least, largest, corner, *box = np.float32(
        [post_filter.opacity, post_filter.scale, post_filter.corner, *post_filter.box]
    )
    kept = []
    for (x, y, z), size, opacity in zip(position.tolist(), log_scale.exp().tolist(), logit.tolist(), strict=True):
        faint = 1 / (1 + math.exp(-opacity)) <= least
        large = z <= 0 and max(size) >= largest
        floats = abs(x) > corner and abs(y) > corner and z < -corner
        outside = abs(x) > box[0] or abs(y) > box[1] or abs(z) > box[2]
        kept.append(not (faint or large or floats or outside))
    assert 0 < sum(kept) < 4000
    assert post_filter.mask(splats).tolist() == kept


def test_rays_and_heads_stay_in_float32_under_autocast():
    """In half precision centres would leave their rays by a pixel."""
    images, poses, intrinsics = rig()
    with torch.autocast("cpu", torch.bfloat16):
        splats = random_model()(images, poses, intrinsics).select(0)
    assert all(tensor.dtype == torch.float32 for tensor in splats)
    own = splats.position[TINY.free_gaussians :].view(3, -1, 3)  # view by view
    local = (own - poses[0, :, None, :3, 3]) @ poses[0, :, :3, :3]
    seen = local[..., :2] / local[..., 2:] * intrinsics[0, :, None, :2] + intrinsics[0, :, None, 2:]
    first_patch = seen[0, : TINY.patch**2].view(TINY.patch, TINY.patch, 2)
    expected = torch.arange(TINY.patch) + 0.5
    assert (first_patch[..., 0] - expected).abs().max() < 1e-2
    assert (first_patch[..., 1] - expected[:, None]).abs().max() < 1e-2


def test_pictures_that_do_not_divide_are_refused():
    images, *rest = rig()
    with pytest.raises(ValueError, match="11 x 8"):
        random_model()(images[..., :11], *rest)


def test_a_training_checkpoint_is_read_with_sizes_inferred(tmp_path):
    model = random_model()
    loaded = load_gslrm(save_checkpoint(model, tmp_path / "ckpt.pt"), head_width=16)
    assert loaded.config == TINY
    for mine, theirs in zip(model(*rig()), loaded(*rig()), strict=True):
        assert torch.equal(mine, theirs)


@pytest.mark.skipif(not Path("/proc/self/statm").exists(), reason="memory is measured as Linux tells it")
def test_the_optimiser_in_a_checkpoint_takes_no_memory(tmp_path):
    path = save_checkpoint(random_model(), tmp_path / "ckpt.pt", optimizer={"state": {0: torch.ones(2**25)}})

    def resident() -> int:
        return int(Path("/proc/self/statm").read_text().split()[1]) * 4096

    before = resident()
    model = load_gslrm(path, head_width=16)  # kept while measured
    assert model.config == TINY
    assert path.stat().st_size > 2**27
    assert resident() - before < 2**25


def test_a_checkpoint_is_converted_once_to_half_the_size(tmp_path):
    """Beside itself; what is kept serves until the checkpoint changes, and is not needed."""
    model = random_model(GSLRMConfig(layers=2, width=128, heads=2, patch=4))
    source = save_checkpoint(model, tmp_path / "ckpt.pt")
    first = load_gslrm_halved(source)
    kept = tmp_path / "ckpt.safetensors"
    assert kept.stat().st_size < 0.52 * 4 * sum(value.numel() for value in model.parameters())
    assert [path.name for path in sorted(tmp_path.iterdir())] == ["ckpt.pt", "ckpt.safetensors"]
    for value in model.parameters():
        if value.ndim > 1:
            value.data = value.half().float()
    again, stored = load_gslrm_halved(source), load_gslrm(kept)
    for outputs in zip(model(*rig()), first(*rig()), again(*rig()), stored(*rig()), strict=True):
        assert all(torch.equal(outputs[0], other) for other in outputs[1:])
    kept.write_bytes(b"half")
    assert torch.equal(load_gslrm_halved(source).embed.weight, model.embed.weight)
    other = random_model(GSLRMConfig(layers=1, width=64, heads=1))
    save_checkpoint(other, source)
    os.utime(source, (0, 0))  # it may be older than what is kept
    assert load_gslrm_halved(source).config == other.config


def test_a_checkpoint_is_read_where_nothing_can_be_written(tmp_path, monkeypatch):
    source = save_checkpoint(random_model(GSLRMConfig(layers=1, width=64, heads=1)), tmp_path / "ckpt.pt")

    def full(path: Path, content: bytes) -> None:
        path.touch()
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(Path, "write_bytes", full)
    assert load_gslrm_halved(source).config.layers == 1
    assert list(tmp_path.iterdir()) == [source]


class Intruder:
    def __reduce__(self):
        return Path.touch, (Path("intruded"),)


def test_a_checkpoint_that_carries_code_is_refused(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    path = save_checkpoint(random_model(), tmp_path / "ckpt.pt", optimizer=Intruder())
    with pytest.raises(UserError, match="damaged"):
        load_gslrm(path)
    assert not (tmp_path / "intruded").exists()


def test_unusable_checkpoints_are_refused_in_plain_words(tmp_path):
    good = save_checkpoint(random_model(), tmp_path / "good.pt").read_bytes()
    state = {official_name(name): value for name, value in random_model().state_dict().items()}
    (tmp_path / "half.pt").write_bytes(good[: len(good) // 2])
    (tmp_path / "page.pt").write_text("<html>Access denied</html>")
    (tmp_path / "half.safetensors").write_bytes(b"\x10")
    torch.save([1, 2], tmp_path / "list.pt")
    torch.save({"model": {"encoder.weight": torch.ones(3)}}, tmp_path / "other.pt")
    torch.save(state | {"extra.weight": torch.ones(3)}, tmp_path / "extra.pt")
    torch.save({**state, "input_layer_norm.weight": torch.ones(3)}, tmp_path / "shape.pt")
    for name, words in {
        "none.pt": "There is no GS-LRM checkpoint",
        "half.pt": "damaged",
        "page.pt": "damaged",
        "half.safetensors": "damaged",
        "list.pt": "damaged",
        "other.pt": "holds no GS-LRM",
        "extra.pt": r"not a GS-LRM \(extra.weight do",
        "shape.pt": r"not a GS-LRM \(input_layer_norm.weight do",
    }.items():
        with pytest.raises(UserError, match=words):
            load_gslrm(tmp_path / name, head_width=16)


def test_large_starts_as_the_static_function():
    """4D-LRM made from a GS-LRM shows the same Gaussians at every time, whenever the pictures were taken."""
    model = random_model(GSLRMConfig(layers=2, width=32, heads=2, patch=4))
    images, poses, intrinsics = rig()
    expected = model(images, poses, intrinsics).select(0).to_gaussians()
    free = model.config.free_gaussians
    with torch.no_grad():
        cloud = to_lrm4d(model).predict(images, poses, intrinsics, torch.tensor([[-1.0, 0.3, 1.0]])).select(0)
    cloud = cloud.select(torch.arange(len(cloud)).roll(free))  # the free ones first
    assert torch.allclose(cloud.color, expected.color, atol=1e-5)
    times = torch.tensor([-1.0, 0.0, 0.4, 1.0])
    for mine, theirs in zip(cloud.at(times), expected.at(times), strict=True):
        assert (mine - theirs).abs().max() < 1e-4


def test_colors_that_depend_on_the_view_cannot_start_4d_lrm():
    with pytest.raises(ValueError, match="degree 1"):
        to_lrm4d(random_model())
