"""A discriminator for super-resolution: it learns to tell large frames that were made from real ones."""

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.utils.parametrizations import spectral_norm

SLOPE = 0.2


class Discriminator(nn.Module):
    """Judges squares of 26 pixels, each by itself (PatchGAN), beside the small frames that they are made from."""

    def __init__(self, width: int):
        super().__init__()
        sizes = [(6, width, 4, 2), (width, 2 * width, 4, 2), (2 * width, 2 * width, 3, 1), (2 * width, 1, 3, 1)]
        self.layers = nn.ModuleList(
            spectral_norm(nn.Conv2d(before, after, kernel, stride, padding=1))
            for before, after, kernel, stride in sizes
        )

    def forward(self, pictures: Tensor, up: Tensor) -> tuple[Tensor, list[Tensor]]:
        """Pictures and up-sampled small ones (n, 3, h, w) -> scores (n, 1, h / 4, w / 4) and each layer's features."""
        x = torch.cat([pictures, up], 1).contiguous(memory_format=torch.channels_last)
        features = []
        for layer in self.layers[:-1]:
            x = F.leaky_relu(layer(x), SLOPE)
            features.append(x)
        return self.layers[-1](x), features


class Adversary:
    """The discriminator with its optimiser; it learns one step whenever the network is judged.

    Relativistic: a square has to look more real than the real one beside it. state_dict holds all of it.
    """

    def __init__(self, width: int, learning_rate: float, device: torch.device):
        self.network: Any = Discriminator(width)
        self.network.to(device, memory_format=torch.channels_last)  # type: ignore[call-overload]
        self.optimizer = torch.optim.Adam(self.network.parameters(), learning_rate, betas=(0.5, 0.99))

    def judge(self, real: Tensor, made: Tensor, up: Tensor) -> tuple[Tensor, Tensor]:
        """(adversarial loss, L1 of the features) of `made`, after one step of the discriminator; all (n, 3, h, w)."""
        self.learn(real, made.detach(), up)
        self.network.requires_grad_(False)
        with torch.no_grad():
            real_scores, real_features = self.network(real, up)
        scores, features = self.network(made, up)
        self.network.requires_grad_(True)
        pairs = zip(features, real_features, strict=True)
        apart = sum((F.l1_loss(a, b) for a, b in pairs), scores.new_zeros(()))
        return F.softplus(real_scores - scores).mean(), apart / len(features)

    def learn(self, real: Tensor, made: Tensor, up: Tensor) -> None:
        self.optimizer.zero_grad()
        loss = F.softplus(self.network(made, up)[0] - self.network(real, up)[0]).mean()
        loss.backward()
        if torch.distributed.is_available() and torch.distributed.is_initialized():
            for parameter in self.network.parameters():
                torch.distributed.all_reduce(parameter.grad, torch.distributed.ReduceOp.SUM)
                parameter.grad /= torch.distributed.get_world_size()
        self.optimizer.step()

    def state_dict(self) -> dict:
        return {"network": self.network.state_dict(), "optimizer": self.optimizer.state_dict()}

    def load_state_dict(self, state: dict) -> None:
        self.network.load_state_dict(state["network"])
        self.optimizer.load_state_dict(state["optimizer"])
