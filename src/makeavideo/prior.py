"""P as unCLIP has it (section 3.1): its scheduler draws noise at every step, and it sees the words one by one.

A prompt is then one tensor (1 + tokens, d): the text embedding, and below it the states of its tokens, zeros where
there is none.
"""

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor

from .sampling import Generators, OnStep, frame_noise


def ask(prior: Any, x_t: Tensor, timestep: Tensor, text: Tensor) -> Tensor:
    """The clean embedding (b, d) that P sees in x_t (b, d), float32.

    text: (b, text_embed_dim), or with states (b, 1 + tokens, d).
    """
    seen = {"proj_embedding": text.to(prior.dtype)}
    if text.ndim == 3:
        embedding, states = seen["proj_embedding"][:, 0], seen["proj_embedding"][:, 1:]
        mask = text[:, 1:].ne(0).any(-1)
        seen = {"proj_embedding": embedding, "encoder_hidden_states": states, "attention_mask": mask}
    return prior(x_t.to(prior.dtype), timestep, **seen).predicted_image_embedding.float()


def generator_a_row(generator: Generators, rows: int) -> list[torch.Generator] | None:
    """One for each row of a batch, so that a row draws the same whatever else is in the batch."""
    if generator is None:
        return None
    given = list(generator) if isinstance(generator, Sequence) else [generator]
    return [one for one in given for _ in range(rows // len(given))]


def draw(
    predict: Callable[[Tensor, Tensor], Tensor],
    shape: tuple[int, int],
    scheduler: Any,
    steps: int,
    generator: Generators,
    device: torch.device,
    on_step: OnStep,
) -> Tensor:
    """Embeddings (b, d) by UnCLIPScheduler, as diffusers' pipelines draw them.

    Args:
        predict: (x_t, timestep) -> the clean embedding.
        steps: 2 or more.
    """
    generators = generator_a_row(generator, shape[0])
    x_t = frame_noise(shape, generators).to(device)
    scheduler.set_timesteps(max(2, steps))
    timesteps = [*scheduler.timesteps, None]
    for step, timestep in enumerate(timesteps[:-1]):
        x_hat = predict(x_t, timestep)
        after = timesteps[step + 1]
        x_t = scheduler.step(x_hat, timestep, x_t, prev_timestep=after, generator=generators).prev_sample
        changed = on_step(step, timestep, x_t, x_hat)
        if changed is None:
            return x_hat
        x_t = changed
    return x_t
