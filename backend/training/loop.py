# SPDX-License-Identifier: GPL-3.0-or-later
"""The trainer: synthetic scenes in, weights out. One GPU, bf16, AdamW, warm-up - stable - decay, EMA, resumable.

    python -m backend train --config small.toml --assets DIR --out runs/small [--minutes 20] [--weights FILE]

A run folder holds config.json, log.csv, state.pt (all that resuming needs) and the averaged weights as
<model>.safetensors + .json, ready for the product. Files are replaced whole, so a run survives a kill at any moment.
"""

from __future__ import annotations

import csv
import json
import math
import os
import time
import tomllib
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import asdict, dataclass, fields
from pathlib import Path

import torch
from safetensors.torch import load_file
from torch import Tensor

from ..errors import UserError
from ..lrm4d import LRM4D
from ..models import CONFIGS, save_weights
from ..rasterize import linear_to_srgb, render
from .losses import reconstruction_loss
from .scenes import SceneBatch, SceneSampler


@dataclass(frozen=True)
class TrainConfig:
    """A run, as its TOML file writes it. shapes: [inputs, scenes] pairs, taken in turn, of about equal cost."""

    model: str
    steps: int
    warmup: int = 500
    decay: int = 4000
    learning_rate: float = 5e-4
    weight_decay: float = 0.05
    clip: float = 1.0
    ema: float = 0.9995
    resolution: int = 128
    shapes: tuple[tuple[int, int], ...] = ((4, 24), (8, 16), (12, 10))
    targets: int = 6
    heads_share: float = 0.75
    ssim_weight: float = 0.05
    alpha_weight: float = 0.5
    seed: int = 0
    save_every: int = 1000

    def rate(self, step: int) -> float:
        """The learning rate: linear warm-up, stable, linear decay to zero over the last `decay` steps."""
        return self.learning_rate * min(1.0, (step + 1) / self.warmup, (self.steps - step) / max(1, self.decay))

    def batch(self, step: int) -> tuple[int, int, int, int]:
        """What a step asks of the sampler: scenes, inputs, targets, resolution."""
        inputs, scenes = self.shapes[step % len(self.shapes)]
        return scenes, inputs, self.targets, self.resolution


def read_config(path: Path) -> TrainConfig:
    """Reads a TOML file of TrainConfig's fields.

    Raises:
        UserError: unreadable, a field that is not known, or a required one missing.
    """
    try:
        values = tomllib.loads(path.read_text(encoding="utf-8"))
    except (OSError, tomllib.TOMLDecodeError) as error:
        raise UserError(f"{path} cannot be read as TOML ({error}); correct it.") from None
    unknown = values.keys() - {field.name for field in fields(TrainConfig)}
    if unknown:
        raise UserError(f"{path} sets {', '.join(sorted(unknown))}, which the trainer does not know; remove it.")
    if "shapes" in values:
        values["shapes"] = tuple(tuple(shape) for shape in values["shapes"])
    try:
        return TrainConfig(**values)
    except TypeError as error:
        raise UserError(f"{path} is incomplete ({error}); add what is missing.") from None


def predict(model: LRM4D, batch: SceneBatch, inputs: int) -> tuple[Tensor, Tensor]:
    """Reconstructs from the first `inputs` views and renders the others: linear color and alpha of the targets."""
    seen = batch.images[:, :inputs]
    pictures = over_white_encoded(seen).permute(0, 1, 4, 2, 3)
    rig = (batch.camera_to_world, batch.intrinsics, batch.times)
    bf16 = torch.autocast(seen.device.type, torch.bfloat16, enabled=seen.is_cuda)
    with bf16:
        cloud = model(pictures, *(part[:, :inputs] for part in rig))
    height, width = seen.shape[2:4]
    return render(cloud, *(part[:, inputs:] for part in rig), width, height)


def over_white_encoded(images: Tensor) -> Tensor:
    """Premultiplied linear RGBA [..., 4] as a product's picture: straight, encoded, then laid over white [..., 3]."""
    alpha = images[..., 3:]
    return linear_to_srgb(images[..., :3] / alpha.clamp_min(1e-6)).clamp(0, 1) * alpha + (1 - alpha)


class Prefetch:
    """Makes the next step's scenes while this step runs, in a thread and on a CUDA stream of its own."""

    def __init__(self, sampler: SceneSampler, device: torch.device):
        self._sampler, self._device = sampler, device
        self._stream = torch.cuda.Stream(device) if device.type == "cuda" else None
        self._thread = ThreadPoolExecutor(1)
        self._pending: tuple[tuple, dict, Future] | None = None

    def state_dict(self) -> dict:
        """The sampler's state before the scenes that were made ahead."""
        return self._sampler.state_dict() if self._pending is None else self._pending[1]

    def load_state_dict(self, state: dict) -> None:
        self._sampler.load_state_dict(state)
        self._pending = None

    def take(self, arguments: tuple, following: tuple) -> SceneBatch:
        """The scenes of sample(*arguments), and starts on those of sample(*following)."""
        if self._pending is None or self._pending[0] != arguments:
            self._start(arguments)
        batch, ready = self._pending[2].result()
        if ready is not None:
            stream = torch.cuda.current_stream(self._device)
            stream.wait_event(ready)
            for tensor in vars(batch).values():
                tensor.record_stream(stream)
        self._start(following)
        return batch

    def _start(self, arguments: tuple) -> None:
        self._pending = (arguments, self._sampler.state_dict(), self._thread.submit(self._sample, arguments))

    def _sample(self, arguments: tuple) -> tuple[SceneBatch, torch.cuda.Event | None]:
        if self._stream is None:
            return self._sampler.sample(*arguments), None
        with torch.cuda.stream(self._stream):
            batch = self._sampler.sample(*arguments)
            return batch, self._stream.record_event()


class Run:
    """A training run's state: everything that `state.pt` holds."""

    def __init__(self, config: TrainConfig, assets: Path, device: torch.device):
        torch.manual_seed(config.seed)
        self.config = config
        self.model = LRM4D(CONFIGS[config.model]).to(device)
        self.average = {name: value.detach().clone() for name, value in self.model.named_parameters()}
        matrices = [value for value in self.model.parameters() if value.ndim > 1]
        vectors = [value for value in self.model.parameters() if value.ndim == 1]
        groups = [{"params": matrices, "weight_decay": config.weight_decay}, {"params": vectors, "weight_decay": 0.0}]
        self.optimizer = torch.optim.AdamW(
            groups, lr=config.learning_rate, betas=(0.9, 0.95), fused=device.type == "cuda"
        )
        sampler = SceneSampler(assets, device, config.seed, heads_share=config.heads_share)
        self.scenes = Prefetch(sampler, device)
        self.step = 0

    def state_dict(self) -> dict:
        return {
            "model": self.model.state_dict(),
            "average": self.average,
            "optimizer": self.optimizer.state_dict(),
            "scenes": self.scenes.state_dict(),
            "step": self.step,
        }

    def load_state_dict(self, state: dict) -> None:
        self.model.load_state_dict(state["model"])
        self.optimizer.load_state_dict(state["optimizer"])
        self.scenes.load_state_dict(state["scenes"])
        self.average = {name: value.to(self.average[name]) for name, value in state["average"].items()}
        self.step = state["step"]

    def advance(self) -> tuple[Tensor, Tensor]:
        """One step -> loss and PSNR (tensors, so that nothing waits for the device)."""
        config = self.config
        arguments = config.batch(self.step)
        batch, inputs = self.scenes.take(arguments, config.batch(self.step + 1)), arguments[1]
        color, alpha = predict(self.model, batch, inputs)
        truth = batch.images[:, inputs:]
        loss, decibels = reconstruction_loss(color, alpha, truth, config.ssim_weight, config.alpha_weight)
        self.optimizer.zero_grad(set_to_none=True)
        loss.backward()
        parameters = list(self.model.parameters())
        norm = torch.nn.utils.clip_grad_norm_(parameters, config.clip)
        healthy = norm.isfinite()
        for parameter in parameters:  # a step with a non-finite gradient changes nothing but the momenta's decay
            parameter.grad = torch.where(healthy, parameter.grad, 0)
        for group in self.optimizer.param_groups:
            group["lr"] = config.rate(self.step)
        self.optimizer.step()
        keep = min(config.ema, (self.step + 1) / (self.step + 10))
        with torch.no_grad():
            torch._foreach_lerp_(list(self.average.values()), [p.detach() for p in parameters], 1 - keep)
        self.step += 1
        return loss.detach(), decibels


@torch.no_grad()
def validate(model: LRM4D, assets: Path, scenes: int, inputs: int, resolution: int, heads_share: float) -> dict:
    """PSNR and matte error on held-out synthetic scenes made from a fixed seed."""
    device = next(model.parameters()).device
    sampler = SceneSampler(assets, device, seed=20261, split="val", heads_share=heads_share)
    decibels, mattes = [], []
    for _ in range(math.ceil(scenes / 8)):
        batch = sampler.sample(8, inputs, 4, resolution)
        color, alpha = predict(model, batch, inputs)
        truth = batch.images[:, inputs:]
        _, value = reconstruction_loss(color, alpha, truth, 0.0, 0.0)
        decibels.append(value)
        mattes.append((alpha - truth[..., 3]).abs().mean())
    return {"psnr": round(torch.stack(decibels).mean().item(), 3), "matte": round(torch.stack(mattes).mean().item(), 5)}


def train(config: TrainConfig, assets: Path, out: Path, minutes: float = math.inf, weights: Path | None = None) -> Run:
    """Trains, or goes on from out/state.pt, until the last step or the time is up; starts from `weights` if given."""
    deadline = time.monotonic() + 60 * minutes
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    out.mkdir(parents=True, exist_ok=True)
    run = Run(config, assets, device)
    state = out / "state.pt"
    if state.exists():
        run.load_state_dict(torch.load(state, map_location=device, weights_only=True))
    elif weights is not None:
        run.model.load_state_dict({name: value.float() for name, value in load_file(weights).items()})
        run.average = {name: value.detach().clone() for name, value in run.model.named_parameters()}
    if device.type == "cuda":
        for block in run.model.blocks:
            block.compile(dynamic=False)
    (out / "config.json").write_text(json.dumps(asdict(config), indent=1) + "\n")
    log = out / "log.csv"
    fresh = not log.exists()
    with log.open("a", newline="") as file:
        writer = csv.writer(file)
        if fresh:
            writer.writerow(["step", "loss", "psnr", "rate", "seconds"])
        recent, start = [], time.monotonic()
        while run.step < config.steps and time.monotonic() < deadline:
            recent.append(torch.stack(run.advance()))
            if run.step % 100 == 0:
                loss, decibels = torch.stack(recent).nanmean(0).tolist()
                recent = []
                row = [run.step, f"{loss:.5f}", f"{decibels:.3f}", f"{config.rate(run.step):.2e}"]
                writer.writerow([*row, f"{time.monotonic() - start:.1f}"])
                file.flush()
                print(*row, f"{time.monotonic() - start:.1f}s", flush=True)
            if run.step % config.save_every == 0:
                save(run, out)
    save(run, out)
    return run


def save(run: Run, out: Path) -> None:
    """Writes state.pt and the averaged weights, each by replacing the old file whole."""
    partial = out / "state.pt.part"
    torch.save(run.state_dict(), partial)
    os.replace(partial, out / "state.pt")
    save_weights(run.average, run.config.model, out / f"{run.config.model}.safetensors", {"step": run.step})
