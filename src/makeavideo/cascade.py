"""The networks of the cascade and what each of them does (figure 2 of the paper): P, D_t, F-up, SR_l_t and SR_h."""

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Self

import torch
import torch.nn.functional as F
from diffusers import DiffusionPipeline
from torch import Tensor

from .chunks import in_stretches
from .encoders import TextProjection, embed_images, embed_text, load_text_encoder
from .enlarger import Enlarger
from .flow import MASKED_CHANNELS, first_guess, seen_by_interpolator, seen_by_masked_interpolator
from .inflation import VideoUNet
from .loading import load_pipeline
from .sampling import TIMESTEPS, frame_noise, guide, sample, steps_of
from .super_resolution import SuperResolver
from .timeline import FRAME_SKIP, TRANSITION, spans
from .wordings import WordingTable

SR_LOW_FACTOR, SR_HIGH_FACTOR = 4, 3
SR_OVERLAP = 4
"""Frames that two stretches of a long video share in SR_l_t; there one passes into the other."""
SR_FRAMES = 16
"""Frames that SR_l_t enlarges together, beside those that it shares with the stretch before."""
STILL_CANDIDATES = 4
"""Pictures that D_t draws before a clip; the clip grows from the one most like the image embedding."""
REFINE_STRENGTH = 0.75
"""Part of D_t's steps that mend what F-up extrapolated."""
PRIOR_CANDIDATES = 4
"""Image embeddings drawn for a prompt; the one nearest to the text is kept (unCLIP draws two)."""


def grow_strength(fps: float) -> float:
    """Part of D_t's steps that make a clip of a picture: more at a low frame rate, where frames differ more."""
    return min(0.9, max(0.6, 0.75 + 0.05 * math.log2(8 / fps)))


@dataclass(frozen=True)
class Decoding:
    """How D_t is run.

    fps: frames a second; 0 if it does not matter.
    steps: evaluations of the network.
    guidance_scale: 1 turns guidance off.
    motion: strength of motion, 0 to 2, 1 the usual one; None if it does not matter, or D_t knows nothing of it.
    """

    fps: float
    steps: int
    guidance_scale: float
    motion: float | None = None
    generator: torch.Generator | None = None


class Cascade(DiffusionPipeline):
    """The networks, and one method for what each of them does.

    Only the prior sees text; only decoder, interpolator and super_resolution_low have temporal layers. Frames are
    (batch, frames, 3, height, width) in [-1, 1], image embeddings y_e (batch, dim) or, one a frame, (batch, frames,
    dim).

    Args:
        tokenizer, text_encoder: C_x, frozen; mean-pooled sentence embeddings. None: the packaged all-MiniLM-L6-v2.
        text_projection: from the text encoder's space to the image tower's.
        image_encoder: the image tower: pictures to embeddings, for the uses that start from pictures.
        prior: P; a PriorTransformer that predicts the clean image embedding.
        wordings: known wordings and their pictures; where there are some, P looks up in place of diffusing.
        decoder: D_t, frames from an image embedding.
        interpolator: F-up, five more input channels: `flow.seen_by_interpolator`; the paper's has four.
        super_resolution_low: SR_l_t, x4, all frames together; in one step (`SuperResolver`) or by diffusion.
        super_resolution_high: SR_h, x3, each frame by itself; likewise.
        *_scheduler: flow-matching schedulers of diffusers.
    """

    _callback: Callable | None = None
    _optional_components = ["tokenizer", "text_encoder", "wordings"]  # noqa: RUF012
    model_cpu_offload_seq = "text_encoder->prior->decoder->interpolator->super_resolution_low->super_resolution_high"

    def __init__(
        self,
        tokenizer,
        text_encoder,
        text_projection: TextProjection,
        image_encoder,
        prior,
        prior_scheduler,
        decoder: VideoUNet,
        decoder_scheduler,
        interpolator: VideoUNet,
        interpolator_scheduler,
        super_resolution_low: VideoUNet | SuperResolver,
        super_resolution_low_scheduler,
        super_resolution_high: VideoUNet | SuperResolver,
        super_resolution_high_scheduler,
        wordings: WordingTable | None = None,
    ):
        super().__init__()
        if text_encoder is None:
            tokenizer, text_encoder = load_text_encoder()
        self.register_modules(
            tokenizer=tokenizer,
            text_encoder=text_encoder,
            text_projection=text_projection,
            image_encoder=image_encoder,
            prior=prior,
            prior_scheduler=prior_scheduler,
            decoder=decoder,
            decoder_scheduler=decoder_scheduler,
            interpolator=interpolator,
            interpolator_scheduler=interpolator_scheduler,
            super_resolution_low=super_resolution_low,
            super_resolution_low_scheduler=super_resolution_low_scheduler,
            super_resolution_high=super_resolution_high,
            super_resolution_high_scheduler=super_resolution_high_scheduler,
            wordings=wordings,
        )

    @classmethod
    def load(cls, folder: str | Path) -> Self:
        """From a folder on disk, ready to run: `loading.load_pipeline`."""
        return load_pipeline(cls, folder)

    @property
    def sizes(self) -> tuple[int, int, int]:
        """Pixels a side after D_t, after SR_l_t and after SR_h."""
        config = self.decoder.config
        base = config.unet_config["sample_size"] * config.space_to_depth
        return base, base * SR_LOW_FACTOR, base * SR_LOW_FACTOR * SR_HIGH_FACTOR

    @property
    def at_once(self) -> frozenset[str]:
        """The super-resolution networks that take one step, whatever number of steps is asked for."""
        names = ("super_resolution_low", "super_resolution_high")
        return frozenset(name for name in names if isinstance(getattr(self, name), SuperResolver))

    def embed_prompts(
        self, prompts: list[str], generator: torch.Generator | None, guidance_scale: float = 2.0
    ) -> Tensor:
        """P (section 3.1): image embeddings (batch, dim) for the prompts.

        Of the pictures whose known wordings are nearest; without such a table the best of a few draws of the diffusion.
        """
        text = embed_text(self.tokenizer, self.text_encoder, prompts)
        if self.wordings is not None:
            return self.wordings.draw(text, generator)
        repeated = text.repeat_interleave(PRIOR_CANDIDATES, 0)
        null = torch.zeros_like(repeated)

        def predict(x_t, t):
            time = (t * TIMESTEPS).expand(len(x_t))
            known = self.prior(x_t, time, proj_embedding=repeated).predicted_image_embedding
            return guide(known, self.prior(x_t, time, proj_embedding=null).predicted_image_embedding, guidance_scale)

        shape = (len(repeated), self.prior.config.embedding_dim)
        x = self.run("prior", predict, shape, self.prior_scheduler, 16, generator)
        candidates = F.normalize(self.prior.post_process_latents(x), dim=-1)
        candidates = candidates.unflatten(0, (len(prompts), PRIOR_CANDIDATES))
        likeness = (candidates @ self.text_projection(text)[:, :, None])[..., 0]
        best = candidates[torch.arange(len(prompts)), likeness.argmax(1)]
        return best * math.sqrt(best.shape[-1])

    def embed_pictures(self, pictures: Tensor) -> Tensor:
        """The image tower's y_e of pictures (batch, 3, h, w) in [-1, 1], any size: (batch, dim)."""
        return embed_images(self.image_encoder, pictures.to(self.image_encoder.device))

    def decode(
        self,
        y_e: Tensor,
        negative: Tensor | None,
        num_frames: int,
        how: Decoding,
        start: Tensor | None = None,
        strength: float = 1.0,
        mask: Tensor | None = None,
        stage: str = "decoder",
    ) -> Tensor:
        """D_t (section 3.2): frames from an image embedding.

        Args:
            y_e: (batch, dim), or one a frame, (batch, num_frames, dim); `negative` (1, dim) in place of the null one.
            start, strength: frames to begin with, as in `sampling.sample`.
            mask: (batch, num_frames), 1 where a frame of `start` is kept; the others are made to go with it.
            stage: what progress is shown as.

        Returns:
            (batch, num_frames, 3, h, w).
        """
        config, base = self.decoder.config, self.sizes[0]
        rates = torch.full((len(y_e),), float(how.fps), device=y_e.device)
        motion = -1.0 if how.motion is None or num_frames == 1 else how.motion
        motion = torch.full((len(y_e),), motion, device=y_e.device)
        # of the guidance, a part may be trained in
        scale = how.guidance_scale / config.guidance
        if negative is not None:
            scale = 1 + (how.guidance_scale - 1) / config.guidance
        away_from = torch.zeros_like(y_e) if negative is None else negative.expand_as(y_e)
        if y_e.ndim == 3:
            y_e, away_from = y_e.flatten(0, 1), away_from.flatten(0, 1)
        kept = None if mask is None else mask[:, :, None, None, None]

        def predict(x_t, t):
            if kept is not None and config.known_frames:
                x_t, t = torch.lerp(x_t, start, kept), t * (1 - mask)
            x_hat = self.denoise(self.decoder, x_t, t, rates, y_e, motion)
            if scale != 1:
                x_hat = guide(x_hat, self.denoise(self.decoder, x_t, t, rates, away_from, motion), scale)
            # a kept frame's prediction is itself, so that it moves along its own line from noise to picture
            return x_hat if kept is None else torch.lerp(x_hat, start, kept)

        noise = frame_noise((len(rates), num_frames, 3, base, base), how.generator, config.shared_noise)
        noise = noise.to(self._execution_device)
        begin = None if config.known_frames and mask is not None else start
        made = self.run(stage, predict, noise, self.decoder_scheduler, how.steps, None, None, begin, strength)
        return made.clamp(-1, 1)

    def draw_still(self, y_e: Tensor, negative: Tensor | None, how: Decoding) -> Tensor:
        """D_t on clips of one frame, that is, text to image: the best of a few draws, (batch, 1, 3, h, w)."""
        repeated = y_e.repeat_interleave(STILL_CANDIDATES, 0)
        drawn = self.decode(repeated, negative, 1, replace(how, fps=0), stage="still")
        likeness = F.cosine_similarity(self.embed_pictures(drawn[:, 0]), repeated).unflatten(0, (len(y_e), -1))
        return drawn.unflatten(0, (len(y_e), -1))[torch.arange(len(y_e)), likeness.argmax(1)]

    def grow(self, y_e: Tensor, negative: Tensor | None, num_frames: int, how: Decoding) -> Tensor:
        """A picture, and then D_t's clip of it: (batch, num_frames, 3, h, w) from y_e (batch, dim).

        One frame is easier to get right than sixteen at once, and cheap enough to choose among several. A D_t that has
        learnt to see known frames begins the clip with the picture; another one is given it with noise (SDEdit).
        """
        still = self.draw_still(y_e, negative, how)
        if num_frames == 1:
            return still
        start = still.expand(-1, num_frames, -1, -1, -1)
        if not self.decoder.config.known_frames:
            return self.decode(y_e, negative, num_frames, how, start, grow_strength(how.fps))
        mask = torch.zeros(start.shape[:2], device=start.device)
        mask[:, 0] = 1
        return self.decode(y_e, negative, num_frames, how, start, mask=mask)

    def extrapolate(self, given: Tensor, mask: Tensor, y_e: Tensor, how: Decoding) -> Tensor:
        """Key frames that follow from given ones: by D_t, if it has learnt to see known frames.

        Otherwise by F-up (section 3.3); D_t then mends what it made, so that faults do not add up over windows. Next to
        a given frame F-up's own frames stay, and pass into D_t's over a few. Arguments as those of `fill`.
        """
        if self.decoder.config.known_frames:
            return self.decode(y_e, None, given.shape[1], how, given, mask=mask, stage="extrapolate")
        filled = self.fill(given, mask, y_e, how)
        mended = self.decode(y_e, None, filled.shape[1], how, filled, REFINE_STRENGTH, mask, "extrapolate")
        places = torch.arange(filled.shape[1], device=mask.device)
        away = (places[:, None] - places).abs()[None].masked_fill(mask[:, None] < 0.5, len(places)).amin(2)
        share = (away / (TRANSITION + 1)).clamp(max=1)
        return torch.lerp(filled, mended, share[:, :, None, None, None].to(filled))

    def fill(self, given: Tensor, mask: Tensor, y_e: Tensor, how: Decoding) -> Tensor:
        """F-up (section 3.3): makes the frames that are not given.

        The paper's does it by diffusion. One that corrects a guess does it in one step from t = 1, where the noise says
        nothing about the frames; so its mean is taken in place of a draw, of which the network would let some through.

        Args:
            given: (batch, frames, 3, h, w); what stands where `mask` is 0 does not matter.
            mask: (batch, frames), 1 where a frame is given; that frame is kept as it is.
            y_e: (batch, frames, dim).
            how: its frame rate is that of the frames; steps and generator are for the paper's F-up.
        """
        masked = self.interpolator.config.extra_channels == MASKED_CHANNELS
        rates = torch.full((len(given),), float(how.fps), device=given.device)
        guess, unit = (given, None) if masked else first_guess(given, mask)
        mask = mask[:, :, None, None, None].expand(-1, -1, 1, *given.shape[3:])

        def predict(x_t, t):
            if masked:
                seen = seen_by_masked_interpolator(x_t, given, mask)
            else:
                seen = seen_by_interpolator(x_t, guess, unit, mask)
            # clip after clip: together they are no faster on a processor, and decide the peak of memory
            parts = zip(seen.split(1), rates.split(1), y_e, strict=True)
            made = torch.cat([self.denoise(self.interpolator, x, t, fps, y) for x, fps, y in parts])
            return torch.lerp(made, given, mask) if masked else made * (1 - mask)

        def frames(made: Tensor) -> Tensor:
            return torch.lerp((made if masked else guess + unit * made).clamp(-1, 1), given, mask)

        noise, steps = torch.zeros_like(given), 1
        if masked:
            noise, steps = frame_noise(tuple(given.shape), how.generator).to(given.device), how.steps
        return frames(self.run("interpolator", predict, noise, self.interpolator_scheduler, steps, frames=frames))

    def fill_between(self, keys: Tensor, last_gap: int, y_e: Tensor, how: Decoding) -> Tensor:
        """F-up between key frames, on stretches of 16 frames that share key frames.

        Args:
            keys: (batch, k, 3, h, w), FRAME_SKIP frames apart, the last two `last_gap`.
            y_e: (batch, k, dim).
            how: as for `fill`, at the frame rate of the result.

        Returns:
            (batch, frames, 3, h, w), from the first key frame to the last.
        """
        batch, count = keys.shape[:2]
        if count == 1:
            return keys
        length = (count - 2) * FRAME_SKIP + last_gap + 1
        places = [*range(0, FRAME_SKIP * (count - 1), FRAME_SKIP), length - 1]
        given, mask = keys.new_zeros(batch, length, *keys.shape[2:]), keys.new_zeros(batch, length)
        given[:, places], mask[:, places] = keys, 1
        y_e = y_e[:, torch.arange(length, device=y_e.device) // FRAME_SKIP]
        stretches = spans(length)

        def cut(x: Tensor) -> Tensor:
            return torch.stack([x[:, list(span)] for span in stretches], 1).flatten(0, 1)

        made = self.fill(cut(given), cut(mask), cut(y_e), how).unflatten(0, (batch, -1))
        for number, span in enumerate(stretches):
            given[:, list(span)] = made[:, number]
        return given

    def upscale_low(
        self, chunks: Iterator[Tensor], fps: float, steps: int, generator
    ) -> Iterator[tuple[Tensor, Tensor]]:
        """SR_l_t: x4, all frames of a chunk together; yields (small frames, large frames).

        A chunk sees the last frames of the one before, and where they overlap one passes into the other. So there is
        no seam and memory does not grow with length.
        """
        stage = "super_resolution_low"
        network, scheduler = self.super_resolution_low, self.super_resolution_low_scheduler
        enlarge = Enlarger(network, scheduler, SR_LOW_FACTOR, steps, generator)
        before = None  # the last frames: small, and large as made so far
        for chunk in in_stretches(chunks, SR_FRAMES):
            low = chunk if before is None else torch.cat([before[0], chunk], 1)
            rates = torch.full((len(low),), float(fps), device=low.device)
            with self.stage_bar(stage, enlarge.steps) as bar:

                def on_step(step, timestep, made, bar=bar):
                    bar.update()
                    self.notify(stage, step, timestep, made)

                made = enlarge(low, rates, on_step)
            if before is not None:
                shared = before[1].shape[1]
                share = torch.linspace(0, 1, shared + 2, device=made.device)[1:-1].view(1, -1, 1, 1, 1)
                made = torch.cat([torch.lerp(before[1], made[:, :shared], share), made[:, shared:]], 1)
            keep = min(SR_OVERLAP, low.shape[1])
            before = low[:, -keep:], made[:, -keep:]
            if made.shape[1] > keep:
                yield low[:, :-keep], made[:, :-keep]
        if before is not None:
            yield before

    def upscale_high(self, chunks: Iterator[tuple], steps: int, generator, part: int = 4):
        """SR_h: x3, each frame by itself; takes and yields (small frames, frames), `part` at a time."""
        stage = "super_resolution_high"
        network, scheduler = self.super_resolution_high, self.super_resolution_high_scheduler
        enlarge = Enlarger(network, scheduler, SR_HIGH_FACTOR, steps, generator)
        for low, video in chunks:
            with self.stage_bar(stage, math.ceil(video.shape[1] / part)) as bar:
                for start in range(0, video.shape[1], part):
                    made = enlarge(video[:, start : start + part])
                    bar.update()
                    self.notify(stage, start // part, torch.zeros((), device=made.device), made)
                    yield low[:, start : start + part], made

    def denoise(
        self, network: VideoUNet, x_t: Tensor, t: Tensor, fps: Tensor, y_e: Tensor, motion: Tensor | None = None
    ) -> Tensor:
        conditions = {"image_embeds": y_e.to(network.dtype)}
        t = t * TIMESTEPS
        made = network(x_t.to(network.dtype), t, fps=fps, motion=motion, added_cond_kwargs=conditions)
        return made.sample.float()

    def run(
        self,
        stage: str,
        predict,
        noise: Tensor | tuple,
        scheduler,
        steps: int,
        generator=None,
        frames=None,
        start: Tensor | None = None,
        strength: float = 1.0,
    ) -> Tensor:
        """One stage of the cascade from noise (given, or of this shape) to sample, with progress bar and callback.

        frames: what the callback is shown of a prediction; the prediction itself if None.
        start, strength: as in `sampling.sample`.
        """
        if not torch.is_tensor(noise):
            noise = frame_noise(tuple(noise), generator).to(self._execution_device)
        with self.stage_bar(stage, steps if start is None else steps_of(steps, strength)) as bar:

            def on_step(step, timestep, x_hat):
                bar.update()
                self.notify(stage, step, timestep, x_hat if frames is None else frames(x_hat))

            return sample(predict, noise, scheduler, steps, on_step, start, strength)

    def stage_bar(self, stage: str, total: int):
        self.set_progress_bar_config(**{**getattr(self, "_progress_bar_config", {}), "desc": stage.replace("_", " ")})
        return self.progress_bar(total=total)

    def notify(self, stage: str, step: int, timestep, sample: Tensor) -> None:
        if self._callback is not None:
            self._callback(self, step, timestep, {"stage": stage, "sample": sample})
