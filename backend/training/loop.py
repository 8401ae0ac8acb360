# SPDX-License-Identifier: GPL-3.0-or-later
"""The trainer: synthetic scenes in, weights out. bf16, Muon, warm-up - stable - decay, EMA, resumable.

    python -m backend train --config small.toml --assets DIR --out runs/small [--minutes 20] [--weights FILE]
    torchrun --nproc-per-node 4 -m backend train ...        # every GPU trains on scenes of its own

A run folder holds config.json, log.csv, a checkpoint (all that resuming needs), the averaged weights as
<model>.safetensors + .json, ready for the product, and pictures of what they make of four validation scenes. Files are
replaced whole, so a run survives a kill at any moment. GPUs hold the model each (DDP) or share it (FSDP2).
"""

from __future__ import annotations

import csv
import json
import math
import time
from collections.abc import Iterable
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import asdict
from functools import partial
from pathlib import Path

import numpy as np
import torch
import torch.distributed as dist
import torch.nn as nn
from PIL import Image
from torch import Tensor
from torch.distributed.checkpoint.state_dict import (
    StateDictOptions,
    get_state_dict,
    set_model_state_dict,
    set_state_dict,
)
from torch.nn.parallel import DistributedDataParallel
from torch.utils.checkpoint import checkpoint

from ..errors import UserError
from ..files import replacing
from ..logs import log
from ..lrm4d import LRM4D
from ..models import CONFIGS, load_model, save_weights
from ..transformer import transformer_blocks
from .checkpoints import find_checkpoint, load_checkpoint, save_checkpoint
from .config import Batch, TrainConfig
from .losses import GeometryErrors
from .muon import Muon
from .perceptual import MOBILENET, MobileNetV2
from .predict import Most, count_most, predict_views
from .processes import largest, processes
from .scenes.sampler import SceneBatch, SceneSampler
from .sharding import local, local_gradient, shard, whole
from .start import can_grow, grow, load_start
from .tasks import Task
from .validate import validation_scenes, validation_sheet

LOGGED = ("loss", "psnr", *GeometryErrors._fields)
LOG_EVERY = 50  # steps
MOST_FAILURES = 10  # steps in a row without a finite gradient
WHOLE = StateDictOptions(full_state_dict=True, cpu_offload=True)  # of a sharded model too


def make_optimizers(model: LRM4D, config: TrainConfig) -> list[torch.optim.Optimizer]:
    """Make Muon for the blocks' matrices, AdamW for all else that learns."""

    def matrices(parts: Iterable[nn.Module]) -> list[Tensor]:
        linear = (module for part in parts for module in part.modules() if isinstance(module, nn.Linear))
        return [module.weight for module in linear if module.weight.requires_grad]

    weights, hidden = matrices([model]), matrices(transformer_blocks(model))

    def without(values: Iterable[Tensor], others: list[Tensor]) -> list[Tensor]:
        return [value for value in values if not any(value is other for other in others)]

    groups = [
        {"params": without(weights, hidden), "weight_decay": config.weight_decay},
        {"params": without(_learning(model), weights), "weight_decay": 0.0},
    ]
    fused = next(model.parameters()).is_cuda
    adamw = torch.optim.AdamW(groups, lr=config.learning_rate, betas=(0.9, 0.95), fused=fused)
    return [Muon(hidden, config.learning_rate, config.weight_decay), adamw]


class Scenes:
    """The batches that steps train on: fresh ones, made ahead in a thread and on a CUDA stream of its own, and replays.

    Making scenes costs as much as training on them, so each fresh batch is followed by `replays` steps on batches drawn
    from the last `pool` ones. Which, the step alone decides: a run that was stopped makes its pool again and goes on.
    """

    def __init__(self, sampler: SceneSampler, config: TrainConfig, device: torch.device):
        self._sampler, self._config, self._device = sampler, config, device
        self._network = CONFIGS[config.model]
        self._stream = torch.cuda.Stream(device) if device.type == "cuda" else None
        self._thread = ThreadPoolExecutor(1)
        self._made: dict[int, Future] = {}

    def take(self, step: int) -> tuple[SceneBatch, Most]:
        """Return the step's scenes and the most that one of them shows; starts on the next fresh ones."""
        batch, most, ready = self._future(self.number(step)).result()
        if ready is not None:
            stream = torch.cuda.current_stream(self._device)
            stream.wait_event(ready)
            for tensor in vars(batch).values():
                tensor.record_stream(stream)
        newest = step // (1 + self._config.replays)
        self._future(newest + 1)
        self._made = {key: value for key, value in self._made.items() if key > newest - self._config.pool}
        return batch, most

    def number(self, step: int) -> int:
        """Return the batch that a step trains on; the same in every process, so that all wait alike for one another."""
        newest, replay = divmod(step, 1 + self._config.replays)
        if not replay:
            return newest
        age = np.random.default_rng([self._config.seed, step]).integers(min(self._config.pool, newest + 1))
        return newest - int(age)

    def _future(self, number: int) -> Future:
        if number not in self._made:
            self._made[number] = self._thread.submit(self._sample, number)
        return self._made[number]

    def _sample(self, number: int) -> tuple[SceneBatch, Most, torch.Event | None]:
        with torch.cuda.stream(self._stream):  # does nothing where there is none
            inputs, resolution, scenes, missing, rig = self._config.batch(number)
            targets = self._config.targets
            batch = self._sampler.sample(number, scenes, inputs, targets, resolution, missing, rig)
            return batch, count_most(batch, self._network), self._stream.record_event() if self._stream else None


class Run:
    """A training run's state: everything that a checkpoint holds. With torchrun, one process of several alike."""

    def __init__(self, config: TrainConfig, assets: Path, device: torch.device):
        torch.manual_seed(config.seed)  # the same weights in every process
        joined = dist.is_initialized()
        self.rank, self.processes = (dist.get_rank(), dist.get_world_size()) if joined else (0, 1)
        self.config = config
        self.device = device
        self.model = LRM4D(CONFIGS[config.model]).to(device)
        if config.corrections_only:
            self.model.requires_grad_(False)
            for part in (self.model.corrector, self.model.step_sizes):
                part.requires_grad_(True)
        _prepare(self.model, config)
        self.network = self.model
        if joined and config.fsdp:
            shard(self.model)
        elif joined:
            self.network = DistributedDataParallel(self.model)
        self.average = {name: value.detach().clone() for name, value in self.model.named_parameters()}
        self.optimizers = make_optimizers(self.model, config)
        # the pack is optional as long as nobody asks for the term
        perceives = config.perceptual_weight or config.missing_perceptual_weight
        features = MobileNetV2(assets / MOBILENET).to(device) if perceives else None
        self.task = Task(self.network, config, features)
        shares = {name: getattr(config, name) for name in ("heads_share", "busts_share", "close_up_share")}
        sampler = SceneSampler(assets, device, config.seed + 1000 * self.rank, **shares)
        self.scenes = Scenes(sampler, config, device)
        # one process alone makes pictures of what was learnt
        kind = "heads" if config.heads_share else "shapes"
        self.pictured = None if self.rank else validation_scenes(kind, assets, device)
        self.licence = "GPL-3.0-or-later"
        self.failures = torch.zeros((), dtype=torch.long, device=device)  # steps without a finite gradient, in a row
        self.step = 0

    def state_dict(self) -> dict:
        """Return all that going on needs, in as many processes as may be; each has its own part of it."""
        model, optimizers = get_state_dict(self.model, self.optimizers)
        own = {"step": self.step, "licence": self.licence}
        return {"model": model, "optimizers": optimizers, "average": self.average, **own}

    def go_on(self, folder: Path) -> None:
        """Take over the checkpoint of another run, of any number of processes.

        Raises:
            UserError: see checkpoints.load_checkpoint.
        """
        state = self.state_dict()
        load_checkpoint(state, folder, self.config.model)
        set_state_dict(
            self.model,
            self.optimizers,
            model_state_dict=state["model"],
            optim_state_dict=state["optimizers"],
        )
        self.step, self.licence = state["step"], state["licence"]

    def start_from(self, weights: dict[str, Tensor]) -> None:
        """Give the model and its average a model's weights; what that did not have stays as it is."""
        lacking = {name: whole(value) for name, value in self.model.state_dict().items() if name not in weights}
        set_model_state_dict(self.model, {**lacking, **weights}, options=WHOLE)
        self.average = {name: value.detach().clone() for name, value in self.model.named_parameters()}

    def advance(self) -> Tensor:
        """Train one step -> the figures of LOGGED [5], left on the device so that nothing waits for it."""
        config = self.config
        parameters = _learning(self.model)  # before the network runs: then FSDP2 puts whole ones in their place
        for parameter in parameters:
            parameter.grad = None
        batch, most = self.scenes.take(self.step)
        loss, decibels, errors = self.task.score(batch, most, self._refinements(), (config.seed, self.step), self.rank)
        # DDP waits for every gradient, also of what this step does without
        loss = loss + sum(0 * value.sum() for value in self._sometimes_idle())
        loss.backward()
        norm = torch.nn.utils.clip_grad_norm_(parameters, config.clip)
        healthy = whole(norm).isfinite()
        self.failures = torch.where(healthy, 0, self.failures + 1)
        for parameter in parameters:  # a step with a non-finite gradient changes nothing but the momenta's decay
            local_gradient(parameter).masked_fill_(~healthy, 0)
        for optimizer in self.optimizers:
            for group in optimizer.param_groups:
                group["lr"] = config.rate(self.step)
            optimizer.step()
        keep = min(config.ema, (self.step + 1) / (self.step + 10))
        with torch.no_grad():
            averages = [local(value) for value in self.average.values()]
            torch._foreach_lerp_(averages, [local(parameter) for parameter in self.model.parameters()], 1 - keep)
        self.step += 1
        return torch.stack([loss.detach(), decibels, *(error.detach() for error in errors)])

    def _refinements(self) -> int:
        """Return how many refinements the step makes: clouds shall be as good as can be after any number, or none.

        Where corrections alone learn, every other step makes all of them, as the product does, and the others some.
        """
        most = self.model.config.refinements
        if not self.config.corrections_only:
            return self.step % (most + 1)
        return most if self.step % 2 == 0 else 1 + self.step // 2 % max(most - 1, 1)

    def _sometimes_idle(self) -> list[Tensor]:
        """Return the parameters that some steps do without."""
        config, model = self.model.config, self.model
        idle: list[Tensor] = [model.step_sizes] if config.refinements else []
        idle += model.corrector.parameters() if config.corrections else []
        return [*idle, model.unseen, model.level.weight] if config.completes else idle


def train(config: TrainConfig, assets: Path, out: Path, minutes: float = math.inf, weights: Path | None = None) -> Run:
    """Train, or go on from a checkpoint, until the last step or the time is up; start from `weights` if given.

    Raises:
        UserError: no state or weights that fit, a batch too large for the GPU, or nothing but broken steps.
    """
    deadline = time.monotonic() + 60 * minutes
    with processes() as device:
        return _train(config, assets, out, deadline, weights, device)


def _train(
    config: TrainConfig, assets: Path, out: Path, deadline: float, weights: Path | None, device: torch.device
) -> Run:
    out.mkdir(parents=True, exist_ok=True)
    run = Run(config, assets, device)
    if checkpoint := find_checkpoint(out):
        run.go_on(checkpoint)
    elif weights is not None:
        given, run.licence = load_start(weights)
        own = run.model.config
        if not can_grow(given.config, own):
            raise UserError(f"The weights {weights} are of another form than '{config.model}'; train it from scratch.")
        run.start_from(grow(given.state_dict(), given.config, own))
    if run.rank == 0:
        with replacing(out / "config.json") as part:
            part.write_text(json.dumps(asdict(config), indent=1) + "\n")
    recent, scenes, start = [], 0, time.monotonic()
    logged = start
    while run.step < config.steps:
        batch = config.batch(run.scenes.number(run.step))
        try:
            recent.append(run.advance())
        except torch.OutOfMemoryError:
            raise UserError(_too_large(batch)) from None
        scenes += batch.scenes
        if run.step % LOG_EVERY == 0:
            figures, recent = torch.stack(recent).nanmean(0).tolist(), []
            if int(run.failures) >= MOST_FAILURES:
                raise UserError(
                    f"The last {int(run.failures)} steps had no finite gradient; lower learning_rate and go on "
                    f"from the last good state in {out}."
                )
            now = time.monotonic()
            speed, scenes, logged = run.processes * scenes / (now - logged), 0, now
            memory = largest(torch.cuda.max_memory_allocated() / 2**30 if device.type == "cuda" else 0.0, device)
            if run.rank == 0:
                _log(out, [run.step, *figures, config.rate(run.step), speed, memory, now - start])
            if largest(float(now > deadline), device):  # all leave the loop together
                break
        if run.step % config.save_every == 0 and not run.failures:
            save(run, out)
    save(run, out)
    return run


def save(run: Run, out: Path) -> None:
    """Write a checkpoint and the averaged weights, which replace the old ones whole, and pictures of these weights."""
    save_checkpoint(run.state_dict(), out, run.step)
    average = {name: whole(value).cpu() for name, value in run.average.items()}
    if run.pictured is None:  # the first process alone writes
        return
    card = {"licence": run.licence, "trained_on": "synthetic scenes", "step": run.step}
    weights = out / f"{run.config.model}.safetensors"
    save_weights(average, run.config.model, weights, card)
    model = load_model(weights, run.device)
    sheet = validation_sheet(partial(predict_views, model), run.pictured, *run.config.batch(0)[:2])
    (out / "pictures").mkdir(exist_ok=True)
    with replacing(out / "pictures" / f"{run.step:07}.png") as part:
        Image.fromarray(sheet).save(part, "PNG")


def _prepare(model: LRM4D, config: TrainConfig) -> None:
    """Combine what is slow on a GPU into kernels, and let the blocks' activations be computed twice if so set."""
    compiled = model.embed.weight.is_cuda
    for block in transformer_blocks(model):
        # the forward methods, not the modules, so that FSDP2's hooks stay outside
        forward = torch.compile(block.forward, dynamic=True) if compiled else block.forward
        keep = partial(checkpoint, forward, use_reentrant=False, preserve_rng_state=False)
        block.forward = keep if config.activation_checkpointing else forward


def _learning(model: nn.Module) -> list[nn.Parameter]:
    """Return a model's parameters that are not frozen."""
    return [parameter for parameter in model.parameters() if parameter.requires_grad]


def _too_large(batch: Batch) -> str:
    """Say what to do when a batch does not fit."""
    advice = "its first two or set activation_checkpointing"
    if batch.scenes > 1:
        advice = f"its third number, say to {batch.scenes // 2}"
    shape = list(batch[:3] if not batch.missing else batch)
    return f"The batch {shape} does not fit into the GPU's memory; lower {advice}."


def _log(out: Path, figures: list[float]) -> None:
    path = out / "log.csv"
    row = [f"{figure:.6g}" for figure in figures]
    with path.open("a", newline="") as file:
        writer = csv.writer(file)
        if file.tell() == 0:
            writer.writerow(["step", *LOGGED, "rate", "scenes_per_second", "memory", "seconds"])
        writer.writerow(row)
    log.info(" ".join(row))
