# SPDX-License-Identifier: GPL-3.0-or-later
"""FaceLift's multi-view diffusion written out plainly, as an oracle: functions of weights by their official names.

Latent Diffusion's UNet (arXiv 2112.10752) with attention across views (FaceLift, arXiv 2412.17812), and DDIM (arXiv
2010.02502) with eta 1, in double precision. Only torch's convolutions, norms and matrix products are used.
"""

import math
from collections.abc import Iterator, Mapping

import torch
import torch.nn.functional as F
from torch import Tensor


class PlainUNet:
    """The UNet of a config; weights by their names."""

    def __init__(self, config: Mapping, weights: Mapping[str, Tensor]):
        self.config = config
        self.weights = {name: value.double() for name, value in weights.items()}
        self.groups = config.get("norm_num_groups", 32)

    def __call__(self, sample: Tensor, time: Tensor, text: Tensor, label: Tensor) -> Tensor:
        """sample [N, 8, H, W], time [N], text [N, T, C], label [N, L] -> [N, 4, H, W]."""
        config, sample, text, label = self.config, sample.double(), text.double(), label.double()
        widths, heads = config["block_out_channels"], config["attention_head_dim"]
        layers = config["layers_per_block"]
        half = widths[0] // 2
        angles = time.double()[:, None] * torch.exp(-math.log(10000) * torch.arange(half).double() / half)
        signal = self._perceptron("time_embedding", torch.cat([angles.cos(), angles.sin()], 1))
        signal = signal + self._perceptron("class_embedding", label)

        x = self._conv("conv_in", sample)
        skipped = [x]
        for level, kind in enumerate(config["down_block_types"]):
            for layer in range(layers):
                x = self._layer(f"down_blocks.{level}", layer, "CrossAttn" in kind, x, signal, text, heads[level])
                skipped.append(x)
            if level < len(widths) - 1:
                x = self._conv(f"down_blocks.{level}.downsamplers.0.conv", x, stride=2)
                skipped.append(x)
        x = self._layer("mid_block", 0, True, x, signal, text, heads[-1])
        x = self._resnet("mid_block.resnets.1", x, signal)
        for level, kind in enumerate(config["up_block_types"]):
            for layer in range(layers + 1):
                x = torch.cat([x, skipped.pop()], 1)
                x = self._layer(f"up_blocks.{level}", layer, "CrossAttn" in kind, x, signal, text, heads[-1 - level])
            if level < len(widths) - 1:
                x = x.repeat_interleave(2, 2).repeat_interleave(2, 3)
                x = self._conv(f"up_blocks.{level}.upsamplers.0.conv", x)
        return self._conv("conv_out", F.silu(self._group_norm("conv_norm_out", x, 1e-5)))

    def _layer(self, block: str, layer: int, attends: bool, x: Tensor, signal: Tensor, text: Tensor, heads: int):
        x = self._resnet(f"{block}.resnets.{layer}", x, signal)
        return self._transformer(f"{block}.attentions.{layer}", x, text, heads) if attends else x

    def _resnet(self, name: str, x: Tensor, signal: Tensor) -> Tensor:
        y = self._conv(f"{name}.conv1", F.silu(self._group_norm(f"{name}.norm1", x, 1e-5)))
        y = y + self._linear(f"{name}.time_emb_proj", F.silu(signal))[:, :, None, None]
        y = self._conv(f"{name}.conv2", F.silu(self._group_norm(f"{name}.norm2", y, 1e-5)))
        return y + (self._conv(f"{name}.conv_shortcut", x) if f"{name}.conv_shortcut.weight" in self.weights else x)

    def _transformer(self, name: str, x: Tensor, text: Tensor, heads: int) -> Tensor:
        tokens = self._group_norm(f"{name}.norm", x, 1e-6).flatten(2).transpose(1, 2)
        tokens = self._linear(f"{name}.proj_in", tokens)
        block = f"{name}.transformer_blocks.0"
        own = self._norm(f"{block}.norm1", tokens)
        seen = [torch.cat([own[other] for other in self._seen_by(view)]) for view in range(len(own))]
        tokens = tokens + self._attention(f"{block}.attn1", own, seen, heads)
        tokens = tokens + self._attention(f"{block}.attn2", self._norm(f"{block}.norm2", tokens), text, heads)
        content, gate = self._linear(f"{block}.ff.net.0.proj", self._norm(f"{block}.norm3", tokens)).chunk(2, -1)
        tokens = tokens + self._linear(f"{block}.ff.net.2", content * F.gelu(gate))
        return x + self._linear(f"{name}.proj_out", tokens).transpose(1, 2).reshape(x.shape)

    def _seen_by(self, sample: int) -> list[int]:
        """The samples whose tokens one sample's look at; those of a head are side by side, the front first."""
        views = self.config["num_views"]
        front = sample - sample % views
        if not self.config["multiview_attention"]:
            return [sample]
        return [front, sample] if self.config["sparse_mv_attention"] else list(range(front, front + views))

    def _attention(self, name: str, tokens: Tensor, contexts: list[Tensor] | Tensor, heads: int) -> Tensor:
        """Of every sample's tokens to a context of its own, head by head."""
        mixed = []
        for own, context in zip(tokens, contexts, strict=True):
            parts = zip(
                self._linear(f"{name}.to_q", own).chunk(heads, -1),
                self._linear(f"{name}.to_k", context).chunk(heads, -1),
                self._linear(f"{name}.to_v", context).chunk(heads, -1),
                strict=True,
            )
            seen = [(q @ k.T / math.sqrt(q.shape[1])).softmax(-1) @ v for q, k, v in parts]
            mixed.append(torch.cat(seen, -1))
        return self._linear(f"{name}.to_out.0", torch.stack(mixed))

    def _perceptron(self, name: str, x: Tensor) -> Tensor:
        return self._linear(f"{name}.linear_2", F.silu(self._linear(f"{name}.linear_1", x)))

    def _linear(self, name: str, x: Tensor) -> Tensor:
        return F.linear(x, self.weights[f"{name}.weight"], self.weights.get(f"{name}.bias"))

    def _conv(self, name: str, x: Tensor, stride: int = 1) -> Tensor:
        weight = self.weights[f"{name}.weight"]
        return F.conv2d(x, weight, self.weights[f"{name}.bias"], stride, weight.shape[-1] // 2)

    def _norm(self, name: str, x: Tensor) -> Tensor:
        return F.layer_norm(x, x.shape[-1:], self.weights[f"{name}.weight"], self.weights[f"{name}.bias"], 1e-5)

    def _group_norm(self, name: str, x: Tensor, epsilon: float) -> Tensor:
        return F.group_norm(x, self.groups, self.weights[f"{name}.weight"], self.weights[f"{name}.bias"], epsilon)


def kept_signal(config: Mapping) -> Tensor:
    """The share of the signal's variance [T] that a scheduler's config leaves at every time."""
    count = config["num_train_timesteps"]
    if config["beta_schedule"] == "squaredcos_cap_v2":
        whole = torch.cos((torch.arange(count + 1).double() / count + 0.008) / 1.008 * math.pi / 2) ** 2
        return torch.cumprod((whole[1:] / whole[:-1]).clamp_min(1 - 0.999), 0)
    power = {"linear": 1, "scaled_linear": 2}[config["beta_schedule"]]
    ends = (config[name] ** (1 / power) for name in ("beta_start", "beta_end"))
    return torch.cumprod(1 - torch.linspace(*ends, count).double() ** power, 0)


def ddim_times(config: Mapping, steps: int) -> list[int]:
    count = config["num_train_timesteps"]
    if config["timestep_spacing"] == "leading":
        return [index * (count // steps) + config["steps_offset"] for index in reversed(range(steps))]
    if config["timestep_spacing"] == "trailing":
        return [round(count - index * count / steps) - 1 for index in range(steps)]
    return [round(index * (count - 1) / (steps - 1)) for index in reversed(range(steps))]


def ddim_step(config: Mapping, steps: int, time: int, latents: Tensor, output: Tensor, fresh: Tensor) -> Tensor:
    """Eq. 12 with the deviation of eq. 16, eta 1."""
    kept, before = kept_signal(config), time - config["num_train_timesteps"] // steps
    first = 1.0 if config["set_alpha_to_one"] else kept[0]
    now, later = kept[time], kept[before] if before >= 0 else torch.as_tensor(first).double()
    if config["prediction_type"] == "v_prediction":
        clean = now.sqrt() * latents - (1 - now).sqrt() * output
        noise = now.sqrt() * output + (1 - now).sqrt() * latents
    elif config["prediction_type"] == "epsilon":
        clean, noise = (latents - (1 - now).sqrt() * output) / now.sqrt(), output
    else:
        clean, noise = output, (latents - now.sqrt() * output) / (1 - now).sqrt()
    if config["clip_sample"]:
        limit = config["clip_sample_range"]
        clean = clean.clamp(-limit, limit)
    spread = ((1 - later) / (1 - now) * (1 - now / later)).clamp_min(0).sqrt()
    return later.sqrt() * clean + (1 - later - spread**2).clamp_min(0).sqrt() * noise + spread * fresh


def paint(
    unet: PlainUNet,
    scheduler: Mapping,
    front: Tensor,
    embedding: Tensor,
    prompts: Tensor,
    generator: torch.Generator,
    guidance: float,
    steps: int,
) -> Iterator[Tensor]:
    """The latents [6, 4, S, S] after every step; of the picture front [4, S, S] and embedding [6, L]."""
    views = len(prompts)
    latents = torch.randn(views, *front.shape, generator=generator).double()
    for time in ddim_times(scheduler, steps):
        outputs = []
        for shown in (1, 0):
            sample = torch.cat([latents, (shown * front).expand_as(latents)], 1)
            outputs.append(unet(sample, torch.full((views,), time), prompts, shown * embedding))
        output = outputs[1] + guidance * (outputs[0] - outputs[1])
        fresh = torch.randn(latents.shape, generator=generator)
        latents = ddim_step(scheduler, steps, time, latents, output, fresh)
        yield latents
