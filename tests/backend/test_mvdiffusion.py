# SPDX-License-Identifier: GPL-3.0-or-later
"""FaceLift's multi-view diffusion: the published function, from a folder in the official layout."""

import json
import math
import runpy
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from diffusers.models.attention_processor import Attention, AttnProcessor2_0
from PIL import Image
from safetensors.torch import load_file, save_file

from backend.errors import Cancelled, UserError
from backend.mvdiffusion import MultiViewAttention, MultiViewDiffusion, build_unet, load_mvdiffusion
from tests.backend.tiny_mvdiffusion import SIZE, UNET, randomise, write_folder
from tests.conftest import SHARED

ORACLES = SHARED / "oracles"


def recorded_weights(path: Path) -> dict[str, torch.Tensor]:
    """The recorded oracle's random weights, which a function beside them makes."""
    state_from = runpy.run_path(str(ORACLES / "weights.py"))["state_from"]
    return state_from(json.loads(path.read_text()))


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    return write_folder(tmp_path_factory.mktemp("mvdiffusion") / "pipeckpts")


@pytest.fixture(scope="module")
def diffusion(folder) -> MultiViewDiffusion:
    return load_mvdiffusion(folder)


@pytest.fixture(scope="module")
def recorded(tmp_path_factory) -> tuple[MultiViewDiffusion, np.ndarray, dict[str, torch.Tensor]]:
    source = ORACLES / "mv_pipeline_tiny"
    target = tmp_path_factory.mktemp("recorded") / "pipeckpts"
    shutil.copytree(source / "pipeckpts", target, copy_function=shutil.copyfile)
    for path in target.glob("*"):
        path.chmod(0o755)
    weights = recorded_weights(target / "unet" / "diffusion_pytorch_model.weights.json")
    save_file(weights, target / "unet" / "diffusion_pytorch_model.safetensors")
    outputs = load_file(source / "outputs.safetensors")
    diffusion = load_mvdiffusion(target)
    diffusion.prompts = outputs["prompt_embeds"]  # it was recorded with others than the folder's own
    return diffusion, np.asarray(Image.open(source / "input.png")), outputs


def picture(seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (SIZE, SIZE, 3), np.uint8)


def seeded(seed: int = 4) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


@pytest.mark.oracle
def test_the_unet_is_the_published_function():
    source = ORACLES / "mv_unet_tiny6"
    unet = build_unet(json.loads((source / "config.json").read_text()))
    unet.load_state_dict(recorded_weights(source / "diffusion_pytorch_model.weights.json"))
    inputs, outputs = (load_file(source / f"{name}.safetensors") for name in ("inputs", "outputs"))
    inputs["class_labels"], sample, time = inputs.pop("class_labels"), inputs.pop("sample"), inputs.pop("timestep")
    with torch.no_grad():
        own_times, one_time = unet(sample, time, **inputs).sample, unet(sample, 481, **inputs).sample
    torch.testing.assert_close(own_times, outputs["output"], atol=1e-4, rtol=0)
    torch.testing.assert_close(one_time, outputs["output_scalar_t481"], atol=1e-4, rtol=0)


@pytest.mark.oracle
def test_the_conditioning_is_the_published_one(recorded):
    diffusion, front, outputs = recorded
    with torch.no_grad():
        embedding, latents = diffusion._embed(front, seeded()), diffusion._encode(front)
    torch.testing.assert_close(embedding, outputs["image_embeds"][6:], atol=1e-4, rtol=0)
    torch.testing.assert_close(latents, outputs["image_latents"][6:], atol=1e-4, rtol=0)


@pytest.mark.oracle
@pytest.mark.parametrize("guidance", [3, 1])
def test_every_step_is_the_published_one(recorded, guidance):
    diffusion, front, outputs = recorded
    steps = diffusion.denoise(front, seeded(), float(guidance), 5)
    for index, (time, latents) in enumerate(zip((801, 601, 401, 201, 1), steps, strict=True)):
        expected = outputs[f"gs{guidance}.step{index}_t{time}"]
        torch.testing.assert_close(latents, expected, atol=1e-3, rtol=0, msg=f"step {index}")
    views = diffusion.decode(latents)
    assert np.abs(views - 255 * outputs[f"gs{guidance}.images"].numpy()).max() < 0.55  # rounded to whole levels


@pytest.mark.oracle
def test_the_official_configs_unet_has_the_official_weights_names():
    published = json.loads((ORACLES / "unet_keys.json").read_text())
    with torch.device("meta"):
        unet = build_unet(json.loads((ORACLES / "unet_config_reconstructed.json").read_text()))
    assert {name: list(value.shape) for name, value in unet.state_dict().items()} == published
    assert sum(value.numel() for value in unet.parameters()) == 870_184_644


@pytest.mark.parametrize("sparse", [True, False])
def test_a_view_attends_to_the_front_and_itself_or_to_all_views(sparse):
    """Against softmax over an explicit set of tokens, view by view; two heads side by side do not mix."""
    views, tokens, heads, channels = 3, 5, 2, 8
    attention = Attention(channels, heads=heads, dim_head=4)
    randomise(attention, 0)
    hidden = torch.randn(2 * views, tokens, channels, generator=seeded())
    mixed = MultiViewAttention(views, sparse)(attention, hidden)
    for sample in range(len(hidden)):
        first = sample - sample % views
        seen = [first, sample] if sparse else range(first, first + views)
        context = torch.cat([hidden[view] for view in seen])
        query, key, value = (
            projection(part).view(-1, heads, 4)
            for projection, part in (
                (attention.to_q, hidden[sample]),
                (attention.to_k, context),
                (attention.to_v, context),
            )
        )
        weight = torch.einsum("qhc,khc->hqk", query, key).div(math.sqrt(4)).softmax(-1)
        expected = attention.to_out[0](torch.einsum("hqk,khc->qhc", weight, value).flatten(1))
        torch.testing.assert_close(mixed[sample], expected, atol=1e-5, rtol=0)


def test_views_of_a_network_without_shared_attention_are_apart():
    unet = build_unet(UNET | {"multiview_attention": False})
    assert {type(processor) for processor in unet.attn_processors.values()} == {AttnProcessor2_0}


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("cd_attention_mid", True),
        ("cd_attention_last", True),
        ("addition_downsample", True),
        ("num_attention_heads", 8),
        ("num_views", 4),
        ("selfattn_block", "self_rowwise"),
    ],
)
def test_a_config_of_another_network_is_refused_by_the_fields_name(field, value):
    with pytest.raises(UserError, match=f"'{field}'"):
        build_unet(UNET | {field: value})


def test_a_step_is_ddims_closed_form_with_guidance(diffusion):
    """DDIM (arXiv 2010.02502, eq. 12 and 16, eta 1) for a prediction of v, with the recorded order of the noise."""
    config = diffusion.scheduler.config
    kept = torch.cumprod(1 - torch.linspace(config.beta_start**0.5, config.beta_end**0.5, 1000).double() ** 2, 0)
    generator = seeded(11)
    with torch.no_grad():
        seen, front = diffusion._embed(picture(), generator), diffusion._encode(picture())
    latents = torch.randn(6, 4, 8, 8, generator=generator)
    for time, latest in zip((501, 1), diffusion.denoise(picture(), seeded(11), 2.0, 2), strict=True):
        with torch.no_grad():
            with_picture, without = (
                diffusion.unet(
                    torch.cat([latents, shown * front], 1),
                    time,
                    encoder_hidden_states=diffusion.prompts,
                    class_labels=shown * seen,
                ).sample.double()
                for shown in (1, 0)
            )
        v = 2 * with_picture - without
        now, later = kept[time], kept[max(time - 500, 0)]
        clean = now.sqrt() * latents - (1 - now).sqrt() * v
        noise = now.sqrt() * v + (1 - now).sqrt() * latents
        spread = ((1 - later) / (1 - now) * (1 - now / later)).clamp_min(0).sqrt()
        fresh = torch.randn(6, 4, 8, 8, generator=generator)
        latents = later.sqrt() * clean + (1 - later - spread**2).clamp_min(0).sqrt() * noise + spread * fresh
        latents = latents.float()
        torch.testing.assert_close(latest, latents, atol=2e-4, rtol=0)


def test_each_view_reads_its_own_text(diffusion):
    """Texts differ from the view's name on: after the start and 26 letters, five letters later in front_*."""
    assert diffusion.prompts.shape[:2] == (6, 77)
    differs = (diffusion.prompts != diffusion.prompts[0]).any(-1)
    first = [row.nonzero()[0].item() for row in differs[1:]]
    assert first == [32, 27, 27, 27, 32]


def test_the_seed_alone_decides_the_views(diffusion):
    views = diffusion.generate(picture(), seeded(), steps=2)
    assert views.shape == (6, SIZE, SIZE, 3)
    assert views.dtype == np.uint8
    diffusion.generate(picture(1), seeded(), steps=3)
    assert np.array_equal(diffusion.generate(picture(), seeded(), steps=2), views)
    assert not np.array_equal(diffusion.generate(picture(), seeded(5), steps=2), views)


def test_progress_is_told_each_step_and_can_stop_it(diffusion):
    told = []
    diffusion.generate(picture(), seeded(), steps=3, progress=lambda stage, done: told.append(done))
    assert told == pytest.approx([0, 0.25, 0.5, 0.75, 1])

    def stop(stage: str, done: float) -> None:
        if done > 0.4:
            raise Cancelled

    with pytest.raises(Cancelled):
        diffusion.generate(picture(), seeded(), steps=3, progress=stop)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_half_precision_paints_nearly_the_same(folder, diffusion, dtype):
    full = diffusion.generate(picture(), seeded(), steps=2)
    half = load_mvdiffusion(folder, dtype=dtype)
    assert half.unet.dtype == dtype
    difference = np.abs(half.generate(picture(), seeded(), steps=2).astype(float) - full)
    assert difference.mean() < 2.5


@pytest.mark.gpu
def test_offloading_changes_where_parts_wait_and_nothing_else(folder):
    kept, offloaded = (load_mvdiffusion(folder, "cuda", torch.float16, offload) for offload in (False, True))
    views = [model.generate(picture(), seeded(), steps=2) for model in (kept, offloaded)]
    assert np.array_equal(*views)
    assert {part.device.type for part in (offloaded.unet, offloaded.vae, offloaded.image_encoder)} == {"cpu"}


def test_a_picture_of_another_size_is_refused(diffusion):
    with pytest.raises(ValueError, match="64, 64, 3"):
        diffusion.generate(picture()[:32], seeded())


@pytest.mark.parametrize(
    "part",
    [
        "unet/config.json",
        "unet/diffusion_pytorch_model.safetensors",
        "vae/diffusion_pytorch_model.safetensors",
        "image_encoder/model.safetensors",
        "text_encoder/model.safetensors",
        "image_normalizer/diffusion_pytorch_model.safetensors",
        "scheduler/scheduler_config.json",
        "tokenizer/vocab.json",
        "feature_extractor/preprocessor_config.json",
    ],
)
@pytest.mark.parametrize("damage", ["missing", "half"])
def test_a_folder_that_is_incomplete_or_damaged_is_named(folder, tmp_path, part, damage):
    broken = tmp_path / "pipeckpts"
    shutil.copytree(folder, broken)
    content = (broken / part).read_bytes()
    (broken / part).unlink()
    if damage == "half":
        (broken / part).write_bytes(content[: len(content) // 2])
    with pytest.raises(UserError, match=f"{part.split('/')[0]}.*download it again"):
        load_mvdiffusion(broken)


@pytest.mark.parametrize("part", ["unet", "vae", "image_encoder", "text_encoder"])
def test_weights_that_lack_a_tensor_are_refused(folder, tmp_path, part):
    broken = tmp_path / "pipeckpts"
    shutil.copytree(folder, broken)
    (weights,) = (broken / part).glob("*.safetensors")
    state = load_file(weights)
    removed = max(name for name in state if name.endswith("weight"))
    del state[removed]
    weights.unlink()
    save_file(state, weights, {"format": "pt"})
    with pytest.raises(UserError, match=part):
        load_mvdiffusion(broken)
