"""What words and pictures mean: C_x, P and the image tower give the embeddings y_e that all else is made from."""

import math
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from .arguments import check_pictures
from .encoders import embed_images, embed_text
from .errors import UserError
from .figures import TIMESTEPS
from .prior import ask, draw
from .prompts import check_text
from .sampling import Generators, frame_noise, guide, is_unclip
from .sampling_config import SamplingConfig
from .steps import SteppedPipeline


class Meaning(SteppedPipeline):
    """The part of the cascade that makes y_e, (b, d); its components are those of `Cascade`."""

    tokenizer: Any
    text_encoder: Any
    text_projection: Any
    image_encoder: Any
    prior: Any
    prior_scheduler: Any
    wordings: Any

    @property
    def sampling(self) -> SamplingConfig:
        """How this model's networks are run, from its config."""
        return SamplingConfig.of(self.config.sampling)

    @property
    def text_shape(self) -> tuple[int, ...]:
        """Of what a prompt becomes: (text_embed_dim,), or (1 + tokens, d) where P sees the words (`prior`).

        Raises:
            UserError: no part of the model takes one.
        """
        if is_unclip(self.prior_scheduler):
            return 1 + self.prior.config.num_embeddings, self.prior.config.embedding_dim
        reader = self.wordings or self.text_projection
        if reader is None:
            raise UserError("This model has no part that takes a prompt or its embedding: give image_embeds.")
        return (reader.config.text_embed_dim,)

    def embed_prompts(self, prompts: list[str], generator: Generators) -> Tensor:
        """Image embeddings (b, d) for the prompts: C_x and P; as long as `embed_pictures`' are."""
        return self.embed_texts(self.read_prompts(prompts), generator)

    def read_prompts(self, prompts: list[str]) -> Tensor:
        """C_x: text embeddings (b, *text_shape).

        Raises:
            UserError: there is no text encoder, or a prompt is no text; what is made of it is no numbers.
        """
        for prompt in prompts:
            check_text(prompt)
        if self.text_encoder is None or self.tokenizer is None:
            raise UserError("This model has no text encoder: give prompt_embeds or image_embeds in place of a prompt.")
        embeds = embed_text(self.tokenizer, self.text_encoder, prompts, self._execution_device)
        return self.numbers(embeds, "text_encoder")

    def embed_texts(self, text: Tensor, generator: Generators) -> Tensor:
        """P (section 3.1): image embeddings (b, d) for text embeddings (b, *text_shape).

        Of the pictures whose known wordings are nearest; without such a table the best of a few draws of the diffusion.

        Raises:
            UserError: there is neither.
        """
        if self.wordings is not None:
            return self.wordings.draw(text, generator)
        if self.prior is None:
            raise UserError("This pipeline has no prior, P, which makes embeddings of prompts: give image_embeds.")
        how, unclip = self.sampling, is_unclip(self.prior_scheduler)
        repeated = text.repeat_interleave(how.prior_candidates, 0)
        null = self.read_prompts([""]).to(text).expand_as(repeated) if unclip else torch.zeros_like(repeated)

        def predict(x_t: Tensor, t: Tensor) -> Tensor:
            time = t if unclip else (t * TIMESTEPS).expand(len(x_t))
            given, free = (ask(self.prior, x_t, time, seen) for seen in (repeated, null))
            return guide(given, free, how.prior_guidance_scale)

        shape, device = (len(repeated), self.prior.config.embedding_dim), self._execution_device
        if unclip:
            with self.steps_shown("prior", how.prior_steps) as on_step:
                drawn = draw(predict, shape, self.prior_scheduler, how.prior_steps, generator, device, on_step)
        else:
            noise = frame_noise(shape, generator).to(device)
            drawn = self.run("prior", predict, noise, self.prior_scheduler, how.prior_steps)
        raw = self.prior.post_process_latents(drawn).float().unflatten(0, (len(text), -1))
        candidates = F.normalize(raw, dim=-1)
        meant = text[:, 0] if unclip else self.text_projection(text)
        best = torch.arange(len(text)), (candidates @ meant[:, :, None])[..., 0].argmax(1)
        return raw[best] if unclip else candidates[best] * math.sqrt(candidates.shape[-1])

    def embed_pictures(self, pictures: Tensor) -> Tensor:
        """The image tower's y_e of pictures (b, 3, h, w) in [-1, 1], any size: (b, d).

        Raises:
            UserError: there is no image tower, or these are no such pictures.
        """
        if self.image_encoder is None:
            raise UserError("This model has no image tower, which tells what a picture shows: give a prompt.")
        check_pictures(pictures)
        return self.numbers(embed_images(self.image_encoder, pictures.to(self._execution_device)), "image_encoder")
