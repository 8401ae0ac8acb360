# SPDX-License-Identifier: GPL-3.0-or-later
"""FaceLift's multi-view diffusion: the published function, from a folder in the official layout."""

import json
import runpy
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors import safe_open
from safetensors.torch import load_file, save_file

from backend.errors import Cancelled, UserError
from backend.facelift.mvdiffusion import DIFFUSERS_WEIGHTS, MultiViewDiffusion, build_unet, load_mvdiffusion
from tests.helpers.plain_mvdiffusion import PlainUNet, kept_signal, paint
from tests.helpers.shared import SHARED
from tests.helpers.tiny_mvdiffusion import IMAGE, SIZE, TEXT, UNET, randomise, write_folder

pytestmark = pytest.mark.slow

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


def changed(folder: Path, target: Path, part: str, **fields: object) -> Path:
    """A copy of a folder with other values in the config of a part."""
    shutil.copytree(folder, target)
    document = json.loads((target / part).read_text())
    (target / part).write_text(json.dumps(document | fields))
    return target


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


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("cd_attention_mid", True),
        ("cd_attention_last", True),
        ("addition_downsample", True),
        ("num_attention_heads", 8),
        ("selfattn_block", "self_rowwise"),
    ],
)
def test_a_config_of_another_network_is_refused_by_the_fields_name(field, value):
    with pytest.raises(UserError, match=f"'{field}'"):
        build_unet(UNET | {field: value})


@pytest.mark.oracle
def test_the_plain_unet_is_the_published_function():
    """So that it can stand for it at other sizes."""
    source = ORACLES / "mv_unet_tiny6"
    weights = recorded_weights(source / "diffusion_pytorch_model.weights.json")
    inputs, outputs = (load_file(source / f"{name}.safetensors") for name in ("inputs", "outputs"))
    names = ("sample", "timestep", "encoder_hidden_states", "class_labels")
    plain = PlainUNet(json.loads((source / "config.json").read_text()), weights)(*(inputs[name] for name in names))
    torch.testing.assert_close(plain, outputs["output64"], atol=5e-6, rtol=0)


@pytest.mark.parametrize(
    ("change", "seed", "shape"),
    [
        ({}, 5, (12, 8, 8, 8)),
        ({"sparse_mv_attention": False}, 6, (6, 8, 16, 8)),
        ({"multiview_attention": False}, 7, (5, 8, 8, 8)),
        ({"num_views": 4, "layers_per_block": 2}, 8, (8, 8, 4, 12)),
        (
            {
                "num_views": 2,
                "sparse_mv_attention": False,
                "block_out_channels": [32, 64, 96],
                "attention_head_dim": [4, 2, 6],
                "down_block_types": ["DownBlock2D", "CrossAttnDownBlockMV2D", "CrossAttnDownBlockMV2D"],
                "up_block_types": ["CrossAttnUpBlockMV2D", "CrossAttnUpBlockMV2D", "UpBlock2D"],
            },
            9,
            (4, 8, 8, 12),
        ),
    ],
)
def test_the_unet_is_the_plain_one_with_other_weights_sizes_and_views(change, seed, shape):
    config = UNET | change
    unet, generator = randomise(build_unet(config), seed), seeded(seed)
    sample, time = torch.randn(shape, generator=generator), torch.randint(1000, shape[:1], generator=generator)
    text, label = (torch.randn(shape[0], *rest, generator=generator) for rest in ((5, TEXT), (2 * IMAGE,)))
    with torch.no_grad():
        output = unet(sample, time, encoder_hidden_states=text, class_labels=label).sample
    expected = PlainUNet(config, unet.state_dict())(sample, time, text, label)
    torch.testing.assert_close(output.double(), expected, atol=1e-4, rtol=0)


@pytest.mark.parametrize(
    ("settings", "sparse", "guidance", "steps", "seed"),
    [
        ({}, True, 2.0, 3, 11),
        ({"timestep_spacing": "trailing", "set_alpha_to_one": True}, False, 1.0, 4, 12),
        ({"timestep_spacing": "linspace", "prediction_type": "epsilon"}, True, 7.5, 2, 13),
        ({"prediction_type": "sample", "clip_sample": True, "clip_sample_range": 1.5}, True, 0.5, 3, 14),
        (
            {"beta_schedule": "linear", "beta_end": 0.02, "num_train_timesteps": 500, "steps_offset": 0},
            True,
            3.0,
            3,
            15,
        ),
        ({"beta_schedule": "squaredcos_cap_v2"}, False, 3.0, 2, 16),
    ],
)
def test_every_step_is_the_plain_one_with_other_settings(folder, tmp_path, settings, sparse, guidance, steps, seed):
    """Plain are the UNet, DDIM, guidance, noise and conditioning; diffusers' and transformers' the encoders alone."""
    middle = changed(folder, tmp_path / "middle", "scheduler/scheduler_config.json", **settings)
    source = changed(middle, tmp_path / "folder", "unet/config.json", sparse_mv_attention=sparse)
    diffusion = load_mvdiffusion(source)
    unet = PlainUNet(UNET | {"sparse_mv_attention": sparse}, load_file(source / "unet" / DIFFUSERS_WEIGHTS))
    scheduler = json.loads((source / "scheduler/scheduler_config.json").read_text())
    noising = json.loads((source / "image_noising_scheduler/scheduler_config.json").read_text())
    front, generator = picture(seed), seeded(seed)

    small = np.asarray(Image.fromarray(front).resize((28, 28), Image.Resampling.BICUBIC)) / 255
    small = (small - [0.48145466, 0.4578275, 0.40821073]) / [0.26862954, 0.26130258, 0.27577711]
    with torch.no_grad():
        small = torch.tensor(small, dtype=torch.float32).permute(2, 0, 1)[None]
        embedding = diffusion.image_encoder(small).image_embeds
        pixels = (torch.tensor(front).permute(2, 0, 1)[None] / 127.5 - 1).half().float()
        latents = diffusion.vae.encode(pixels).latent_dist.mean[0] * 0.18215
    mean, deviation = (diffusion.normaliser[index].double() for index in (0, 1))
    kept, noise = kept_signal(noising)[0], torch.randn(6, IMAGE, generator=generator)
    embeddings = deviation * (kept.sqrt() * (embedding - mean) / deviation + (1 - kept).sqrt() * noise) + mean
    level = torch.tensor([1.0, 0.0]).repeat_interleave(IMAGE // 2).expand(6, -1)
    label = torch.cat([embeddings, level], 1)

    expected = paint(unet, scheduler, latents, label, diffusion.prompts, generator, guidance, steps)
    painted = list(diffusion.denoise(front, seeded(seed), guidance, steps))
    assert len(painted) == steps
    for index, (mine, plain) in enumerate(zip(painted, expected, strict=True)):
        torch.testing.assert_close(mine.double(), plain, atol=1e-3, rtol=1e-3, msg=f"step {index}")


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("num_views", 4),
        ("in_channels", 4),
        ("cross_attention_dim", 24),
        ("projection_class_embeddings_input_dim", 2048),
        ("class_embed_type", "timestep"),
        ("addition_embed_type", "text"),
        ("prediction_type", "flow"),
        ("timestep_spacing", "karras"),
    ],
)
def test_a_part_that_does_not_fit_the_others_is_refused_by_the_fields_name(folder, tmp_path, field, value):
    part = "unet/config.json" if field in UNET or "embed" in field else "scheduler/scheduler_config.json"
    broken = changed(folder, tmp_path / "pipeckpts", part, **{field: value})
    with pytest.raises(UserError, match=f"'{field}' to {value!r}, but only .* is supported"):
        load_mvdiffusion(broken)


def test_the_texts_are_embedded_once_for_an_encoder(folder, tmp_path, diffusion):
    """And kept in the folder, as long as the encoder is the same and what is kept is whole."""
    target = tmp_path / "pipeckpts"
    shutil.copytree(folder, target)
    kept = target / "prompts.safetensors"
    assert torch.equal(load_mvdiffusion(target).prompts, diffusion.prompts)
    with safe_open(kept, "pt") as file:
        metadata = file.metadata()
    save_file({"prompts": diffusion.prompts + 1}, kept, metadata)
    assert torch.equal(load_mvdiffusion(target).prompts, diffusion.prompts + 1)
    kept.write_bytes(b"half")
    assert torch.equal(load_mvdiffusion(target).prompts, diffusion.prompts)
    assert torch.equal(load_file(kept)["prompts"], diffusion.prompts)
    encoder = target / "text_encoder" / "model.safetensors"
    save_file({name: 2 * value for name, value in load_file(encoder).items()}, encoder, {"format": "pt"})
    assert not torch.equal(load_mvdiffusion(target).prompts, diffusion.prompts)


def test_a_folder_that_older_libraries_wrote_is_read(folder, tmp_path, diffusion):
    """Their text and image encoders store positions too, and their VAE names its attention otherwise."""
    target = tmp_path / "pipeckpts"
    shutil.copytree(folder, target, ignore=shutil.ignore_patterns("prompts.safetensors"))
    for part, name in (("text_encoder", "text_model"), ("image_encoder", "vision_model")):
        path = target / part / "model.safetensors"
        state = load_file(path) | {f"{name}.embeddings.position_ids": torch.arange(5)[None]}
        save_file(state, path, {"format": "pt"})
    path = target / "vae" / DIFFUSERS_WEIGHTS
    state = load_file(path)
    for new, old in {"to_q": "query", "to_k": "key", "to_v": "value", "to_out.0": "proj_attn"}.items():
        state = {name.replace(f".{new}.", f".{old}."): value for name, value in state.items()}
    save_file(state, path, {"format": "pt"})
    views, expected = (model.generate(picture(), seeded(), steps=1) for model in (load_mvdiffusion(target), diffusion))
    assert np.abs(views.astype(int) - expected).max() <= 1


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
    shutil.copytree(folder, broken, ignore=shutil.ignore_patterns("prompts.safetensors"))
    content = (broken / part).read_bytes()
    (broken / part).unlink()
    if damage == "half":
        (broken / part).write_bytes(content[: len(content) // 2])
    with pytest.raises(UserError, match=f"{part.split('/')[0]}.*download it again"):
        load_mvdiffusion(broken)


def test_no_pickle_is_read_where_safetensors_are_missing(folder, tmp_path):
    broken = tmp_path / "pipeckpts"
    shutil.copytree(folder, broken)
    for part in ("vae", "image_encoder"):
        (weights,) = (broken / part).glob("*.safetensors")
        state = load_file(weights)
        weights.unlink()
        name = "pytorch_model.bin" if part == "image_encoder" else "diffusion_pytorch_model.bin"
        torch.save(state, broken / part / name)
        with pytest.raises(UserError, match=rf"\({weights} is missing\); download it again"):
            load_mvdiffusion(broken)
        save_file(state, weights, {"format": "pt"})


@pytest.mark.parametrize("part", ["unet", "vae", "image_encoder", "text_encoder", "image_normalizer"])
def test_weights_that_lack_a_tensor_are_refused(folder, tmp_path, part):
    broken = tmp_path / "pipeckpts"
    shutil.copytree(folder, broken)
    (weights,) = (broken / part).glob("*.safetensors")
    state = load_file(weights)
    removed = max(state, key=lambda name: (name.endswith("weight"), name))
    del state[removed]
    weights.unlink()
    save_file(state, weights, {"format": "pt"})
    with pytest.raises(UserError, match=part):
        load_mvdiffusion(broken)
