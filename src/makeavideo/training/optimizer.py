"""AdamW, and Muon for the weights between a network's ends (Jordan et al. 2024; Moonlight, arXiv 2502.16982).

Muon moves a matrix along its momentum made orthogonal: no direction in which the weights could learn is drowned by a
few large ones. Updates are scaled to the size that AdamW's have, so both take the same learning rate.
"""

from typing import Any

import torch
from diffusers.optimization import get_scheduler
from torch import Tensor, nn

from ..errors import UserError
from .recipe import OptimRecipe, Recipe

# What stands at the ends of a network, or is a table or a small head: AdamW's, as Muon's authors advise.
ENDS = ("embed", "conv_in", "conv_out", "time_emb", "pixel", "proj_in", "proj_out", "hid_proj")
MOMENTUM = 0.95
UPDATE_SIZE = 0.2
"""Root mean square of an update in units of the learning rate: about that of AdamW's."""


def orthogonalised(matrices: Tensor, steps: int = 5, half: bool = False) -> Tensor:
    """The nearest matrices with singular values near 1, by Newton-Schulz of fifth order: (..., rows, columns).

    half: in bf16, which is accurate enough.
    """
    a, b, c = 3.4445, -4.7750, 2.0315
    x = matrices.bfloat16() if half else matrices
    tall = x.shape[-2] > x.shape[-1]
    x = x.mT if tall else x
    x = x / torch.linalg.matrix_norm(x.float(), keepdim=True).clamp(min=1e-7).to(x.dtype)
    for _ in range(steps):
        gram = x @ x.mT
        x = a * x + (b * gram + c * gram @ gram) @ x
    return (x.mT if tall else x).to(matrices.dtype)


def as_matrix(x: Tensor) -> Tensor:
    """A weight as (outputs, all that an output sees); a view of a convolution's weight in channels-last memory."""
    return x if x.ndim == 2 else x.movedim(1, -1).flatten(1)


class Muon(torch.optim.AdamW):
    """AdamW that follows Muon's rule in the parameter groups that say `muon: True`.

    half: whether that rule is computed in bf16.
    """

    def __init__(self, groups: list[dict], half: bool = False, **adamw):
        self.half = half
        super().__init__([{"muon": False, **group} for group in groups], **adamw)

    @torch.no_grad()
    def step(self, closure=None):
        loss = None if closure is None else torch.enable_grad()(closure)()
        groups = self.param_groups
        try:
            self.param_groups = [group for group in groups if not group["muon"]]
            super().step()
        finally:
            self.param_groups = groups
        for group in groups:
            if group["muon"]:
                alike: dict[torch.Size, list[Tensor]] = {}
                for parameter in group["params"]:
                    if parameter.grad is not None:
                        alike.setdefault(parameter.shape, []).append(parameter)
                for parameters in alike.values():  # together: on a GPU many small products take as long as large ones
                    self.follow_momentum(parameters, group)
        return loss

    def follow_momentum(self, parameters: list[Tensor], group: dict) -> None:
        """Moves weights of one shape."""
        ahead = torch.stack([as_matrix(self.looked_ahead(p, p.grad)) for p in parameters if p.grad is not None])
        size = UPDATE_SIZE * max(ahead.shape[1:]) ** 0.5
        for parameter, update in zip(parameters, orthogonalised(ahead, half=self.half), strict=True):
            if parameter.ndim > 2:
                update = update.unflatten(1, (*parameter.shape[2:], parameter.shape[1])).movedim(-1, 1)
            parameter.mul_(1 - group["lr"] * group["weight_decay"])
            parameter.sub_(update, alpha=group["lr"] * size)

    def looked_ahead(self, parameter: Tensor, gradient: Tensor) -> Tensor:
        """Nesterov's momentum of a weight, with its present gradient."""
        state = self.state[parameter]
        if not state:
            state["step"] = torch.zeros(())  # AdamW asks for it when a state is loaded
            state["momentum"] = torch.zeros_like(parameter)
        return gradient.lerp(state["momentum"].lerp_(gradient, 1 - MOMENTUM), MOMENTUM)


def is_hidden(name: str, parameter: Tensor) -> bool:
    """Whether a weight lies between a network's ends and is a matrix or a kernel."""
    return parameter.ndim >= 2 and not any(end in name for end in ENDS)


def make_optimizer(
    network: nn.Module, groups: list[dict], optim: OptimRecipe, fused: bool, half: bool = False
) -> torch.optim.Optimizer:
    """The recipe's optimiser for a stage's parameter groups; `half`: where it may, it computes in bf16."""
    settings: dict[str, Any] = {"betas": optim.betas, "weight_decay": optim.weight_decay, "fused": fused}
    if optim.kind == "adamw":
        return torch.optim.AdamW(groups, **settings)
    if optim.kind == "adamw8bit":
        return eight_bit()(groups, betas=optim.betas, weight_decay=optim.weight_decay)
    names = {id(parameter): name for name, parameter in network.named_parameters()}
    split = []
    for group in groups:
        hidden = [p for p in group["params"] if is_hidden(names[id(p)], p)]
        chosen = {id(p) for p in hidden}
        ends = [p for p in group["params"] if id(p) not in chosen]
        split += [{**group, "params": hidden, "muon": True}, {**group, "params": ends}]
    return Muon([group for group in split if group["params"]], half=half, **settings)


def eight_bit() -> Any:
    """AdamW whose state has eight bits a number. Raises UserError where bitsandbytes is not installed."""
    try:
        from bitsandbytes.optim import AdamW8bit  # type: ignore[import-not-found]
    except ImportError:
        raise UserError("optim.kind adamw8bit needs bitsandbytes: pip install bitsandbytes, or take adamw.") from None
    return AdamW8bit


def make_schedule(optimizer: torch.optim.Optimizer, recipe: Recipe) -> Any:
    """The recipe's schedule of the learning rate: a function of the step and of how many there will be."""
    optim = recipe.optim
    return get_scheduler(
        optim.schedule, optimizer, num_warmup_steps=optim.warmup_steps, num_training_steps=recipe.steps
    )


def rate_at(recipe: Recipe, step: int) -> float:
    """The learning rate of a recipe at a step."""
    rate = recipe.optim.learning_rate
    schedule = make_schedule(torch.optim.SGD([torch.zeros(1)], rate), recipe)
    return rate * schedule.lr_lambdas[0](step)


def tell_jump(begun: Recipe, recipe: Recipe, step: int) -> str | None:
    """A sentence, if a run goes on by another schedule than it was begun with, and its learning rate jumps there."""
    optim = begun.optim.model_copy(update={"learning_rate": recipe.optim.learning_rate})  # a new one is meant
    before, now = rate_at(begun.model_copy(update={"optim": optim}), step), rate_at(recipe, step)
    if abs(now - before) <= 0.01 * max(now, before):
        return None
    state = "was finished" if step >= begun.steps else "was begun"
    return (
        f"The {begun.optim.schedule} schedule of {begun.steps} steps {state}: with {recipe.steps} steps the learning "
        f"rate goes from {before:.2g} to {now:.2g} at step {step}; lower optim.learning_rate if it should not."
    )
