"""The cascade (figure 2 of the paper): prompt -> P -> y_e -> D_t -> F-up -> SR_l_t -> SR_h -> frames."""

import hashlib
import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from diffusers import DiffusionPipeline
from diffusers.utils import BaseOutput
from torch import Tensor

from .encoders import TextProjection, embed_text, load_text_encoder
from .errors import UserError
from .inflate import VideoUNet
from .sampling import TIMESTEPS, add_noise, frame_noise, guide, sample, upsample

KEY_FRAMES = 16
"""Frames that D_t makes, and the window that F-up works on."""
FRAME_SKIP = 5
"""F-up puts FRAME_SKIP - 1 new frames between two of D_t's: 16 -> 76."""
MAX_FRAMES = (KEY_FRAMES - 1) * FRAME_SKIP + 1
SR_LOW_FACTOR, SR_HIGH_FACTOR = 4, 3
PRIOR_CANDIDATES = 4
"""Image embeddings drawn for a prompt; the one nearest to the text is kept (unCLIP draws two)."""


@dataclass
class MakeAVideoOutput(BaseOutput):
    """frames: "pt" (batch, frames, 3, height, width) in [0, 1]; "np" (batch, frames, height, width, 3) in [0, 1];
    "pil" a list of lists of pictures."""

    frames: Tensor | np.ndarray | list


def key_frame_count(num_frames: int) -> int:
    """Frames that D_t has to make, before interpolation, for `num_frames` (at most 76) in the end."""
    return num_frames if num_frames <= KEY_FRAMES else math.ceil((num_frames - 1) / FRAME_SKIP) + 1


def windows(length: int) -> list[range]:
    """Stretches of 16 frames over `length` that share their border frames; the last one is moved back to fit."""
    if length <= KEY_FRAMES:
        return [range(length)]
    starts = [*range(0, length - KEY_FRAMES, KEY_FRAMES - 1), length - KEY_FRAMES]
    return [range(start, start + KEY_FRAMES) for start in starts]


def weights_hash(folder: str | Path) -> str:
    """First 16 hexadecimal digits of a hash over all weights of a pipeline folder."""
    digest = hashlib.blake2b()
    for file in sorted(Path(folder).rglob("*.safetensors")):
        digest.update(file.relative_to(folder).as_posix().encode())
        digest.update(file.read_bytes())
    return digest.hexdigest()[:16]


class MakeAVideoPipeline(DiffusionPipeline):
    """Text to video without text-video pairs.

    Only the prior sees text; only decoder, interpolator and super_resolution_low have temporal layers.

    Args:
        tokenizer, text_encoder: C_x, frozen; mean-pooled sentence embeddings. None: the packaged all-MiniLM-L6-v2.
        text_projection: from the text encoder's space to the image tower's.
        image_encoder: the image tower; not used from text, but by every use that starts from a picture.
        prior: P; a PriorTransformer that predicts the clean image embedding.
        decoder: D_t, frames from an image embedding.
        interpolator: F-up, four more input channels: masked frames and mask.
        super_resolution_low: SR_l_t, x4, all frames together.
        super_resolution_high: SR_h, x3, each frame by itself.
        *_scheduler: flow-matching schedulers of diffusers.
    """

    _optional_components = ["tokenizer", "text_encoder"]  # noqa: RUF012
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
        super_resolution_low: VideoUNet,
        super_resolution_low_scheduler,
        super_resolution_high: VideoUNet,
        super_resolution_high_scheduler,
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
        )

    @classmethod
    def load(cls, folder: str | Path) -> "MakeAVideoPipeline":
        """`from_pretrained` from a folder on disk, on the best device and in the precision that it is fast in.

        Raises:
            UserError: no such folder, no pipeline in it, weights missing or pickled.
        """
        folder = Path(folder)
        if not (folder / "model_index.json").is_file():
            raise UserError(
                f"There is no model at {folder} (no model_index.json): give the folder of a MakeAVideoPipeline."
            )
        pickles = [p for ending in ("*.bin", "*.pt", "*.pth", "*.ckpt") for p in folder.rglob(ending)]
        if pickles and not any(folder.rglob("*.safetensors")):
            raise UserError(f"The weights {pickles[0]} are pickled, which can run code: convert them to .safetensors.")
        device = "cuda" if torch.cuda.is_available() else "cpu"
        fast = torch.bfloat16 if device == "cuda" or torch.cpu._is_avx512_bf16_supported() else torch.float32
        exact = dict.fromkeys(("text_encoder", "text_projection", "image_encoder", "prior"), torch.float32)
        try:
            pipe = cls.from_pretrained(folder, dtype={"default": fast, **exact}, use_safetensors=True)
        except (OSError, ValueError) as error:
            reason = str(error).split("\n")[0]
            raise UserError(f"The model at {folder} cannot be loaded ({reason}): download it again.") from None
        for network in (pipe.decoder, pipe.interpolator, pipe.super_resolution_low, pipe.super_resolution_high):
            network.to(memory_format=torch.channels_last)
        return pipe.to(device)

    @property
    def sizes(self) -> tuple[int, int, int]:
        """Pixels a side after D_t, after SR_l_t and after SR_h."""
        config = self.decoder.config
        base = config.unet_config["sample_size"] * config.space_to_depth
        return base, base * SR_LOW_FACTOR, base * SR_LOW_FACTOR * SR_HIGH_FACTOR

    def check_inputs(self, prompt, num_frames: int, fps: float, size: int, num_inference_steps: int) -> None:
        for text in [prompt] if isinstance(prompt, str) else prompt:
            if not text.strip():
                raise UserError("The prompt is empty: say in a few words what the video should show.")
        if not 1 <= num_frames <= MAX_FRAMES:
            raise UserError(f"--num-frames {num_frames} is not possible: choose from 1 to {MAX_FRAMES} frames.")
        if not 1 <= fps <= 60:
            raise UserError(f"--fps {fps:g} is not possible: choose from 1 to 60 frames a second.")
        if size not in self.sizes:
            known = ", ".join(str(s) for s in self.sizes)
            raise UserError(f"--size {size} is not possible: this model makes {known} pixels a side.")
        if not 1 <= num_inference_steps <= TIMESTEPS:
            raise UserError(f"--steps {num_inference_steps} is not possible: choose from 1 to {TIMESTEPS}.")

    @torch.no_grad()
    def __call__(
        self,
        prompt: str | list[str],
        negative_prompt: str | None = None,
        num_frames: int = MAX_FRAMES,
        fps: float = 24.0,
        size: int | None = None,
        num_inference_steps: int = 16,
        guidance_scale: float = 2.0,
        generator: torch.Generator | None = None,
        output_type: str = "pil",
        return_dict: bool = True,
        callback_on_step_end: Callable | None = None,
    ) -> MakeAVideoOutput | tuple:
        """Make one video for each prompt.

        Args:
            prompt: what to show.
            negative_prompt: what to steer away from.
            num_frames: 1 to 76; above 16, F-up fills in between the frames of D_t.
            fps: frames a second of the result; a lower rate means more motion from frame to frame.
            size: where to stop in the cascade, pixels a side (one of `sizes`; None: the largest).
            num_inference_steps: of D_t; the other stages need fewer.
            guidance_scale: of D_t; 1 turns guidance off.
            generator: a seeded CPU generator makes the result repeatable.
            output_type: "pil", "np" or "pt".
            callback_on_step_end: called as in diffusers, (pipeline, step, timestep, {"stage", "sample"}).

        Raises:
            UserError: empty prompt or impossible number.
        """
        size = size or self.sizes[-1]
        chunks = self.stream(
            prompt,
            negative_prompt,
            num_frames,
            fps,
            size,
            num_inference_steps,
            guidance_scale,
            generator,
            callback_on_step_end,
        )
        frames = (torch.cat(list(chunks), 1) + 1) / 2
        self.maybe_free_model_hooks()
        if output_type != "pt":
            frames = frames.permute(0, 1, 3, 4, 2).cpu().numpy()
        if output_type == "pil":
            frames = [self.numpy_to_pil(video) for video in frames]
        return MakeAVideoOutput(frames=frames) if return_dict else (frames,)

    @torch.no_grad()
    def stream(
        self,
        prompt: str | list[str],
        negative_prompt: str | None,
        num_frames: int,
        fps: float,
        size: int,
        num_inference_steps: int,
        guidance_scale: float,
        generator: torch.Generator | None = None,
        callback: Callable | None = None,
    ) -> Iterator[Tensor]:
        """As `__call__`, but yields (batch, a few frames, 3, size, size) in [-1, 1] as they come out of the cascade."""
        self.check_inputs(prompt, num_frames, fps, size, num_inference_steps)
        self._callback = callback
        prompts = [prompt] if isinstance(prompt, str) else list(prompt)
        y_e = self.embed_prompts(prompts, generator)
        negative = self.embed_prompts([negative_prompt], generator) if negative_prompt else torch.zeros_like(y_e[:1])
        interpolate = num_frames > KEY_FRAMES
        key_fps = fps / FRAME_SKIP if interpolate else fps
        count = key_frame_count(num_frames)
        video = self.decode(y_e, negative, count, key_fps, num_inference_steps, guidance_scale, generator)
        if interpolate:
            video = self.interpolate_keys(video, y_e, fps, max(1, num_inference_steps // 2), generator)[:, :num_frames]
        if size == self.sizes[0]:
            yield video.clamp(-1, 1)
            return
        video = self.upscale_low(video, fps, max(1, num_inference_steps // 4), generator)
        if size == self.sizes[1]:
            yield video.clamp(-1, 1)
            return
        for chunk in self.upscale_high(video, max(1, num_inference_steps // 8), generator):
            yield chunk.clamp(-1, 1)

    def embed_prompts(
        self, prompts: list[str], generator: torch.Generator | None, guidance_scale: float = 2.0
    ) -> Tensor:
        """P (section 3.1): image embeddings (batch, dim) for the prompts, the best of a few draws each."""
        text = embed_text(self.tokenizer, self.text_encoder, prompts)
        repeated = text.repeat_interleave(PRIOR_CANDIDATES, 0)
        null = torch.zeros_like(repeated)

        def predict(x_t, t):
            time = (t * TIMESTEPS).expand(len(x_t))
            known = self.prior(x_t, time, proj_embedding=repeated).predicted_image_embedding
            return guide(known, self.prior(x_t, time, proj_embedding=null).predicted_image_embedding, guidance_scale)

        shape = (len(repeated), self.prior.config.embedding_dim)
        x = self.run("prior", predict, shape, self.prior_scheduler, 16, generator)
        candidates = torch.nn.functional.normalize(self.prior.post_process_latents(x), dim=-1)
        candidates = candidates.unflatten(0, (len(prompts), PRIOR_CANDIDATES))
        likeness = (candidates @ self.text_projection(text)[:, :, None])[..., 0]
        best = candidates[torch.arange(len(prompts)), likeness.argmax(1)]
        return best * math.sqrt(best.shape[-1])

    def decode(self, y_e, negative, num_frames, fps, steps, guidance_scale, generator) -> Tensor:
        """D_t: (batch, num_frames, 3, h, w) at `fps` frames a second."""
        base = self.sizes[0]
        rates = torch.full((len(y_e),), float(fps), device=y_e.device)
        negative = negative.expand_as(y_e)

        def predict(x_t, t):
            known = self.denoise(self.decoder, x_t, t, rates, y_e)
            if guidance_scale == 1:
                return known
            return guide(known, self.denoise(self.decoder, x_t, t, rates, negative), guidance_scale)

        shape = (len(y_e), num_frames, 3, base, base)
        return self.run("decoder", predict, shape, self.decoder_scheduler, steps, generator).clamp(-1, 1)

    def interpolate_keys(self, keys: Tensor, y_e: Tensor, fps: float, steps: int, generator) -> Tensor:
        """F-up (section 3.3): FRAME_SKIP - 1 new frames between any two of `keys` (batch, k, 3, h, w)."""
        batch, count = keys.shape[:2]
        length = (count - 1) * FRAME_SKIP + 1
        given = keys.new_zeros(batch, length, *keys.shape[2:])
        given[:, ::FRAME_SKIP] = keys
        mask = keys.new_zeros(batch, length, 1, *keys.shape[3:])
        mask[:, ::FRAME_SKIP] = 1
        video = self.fill_masked(given, mask, y_e, fps, steps, generator)
        return video

    def fill_masked(self, given: Tensor, mask: Tensor, y_e: Tensor, fps: float, steps: int, generator) -> Tensor:
        """F-up on windows of 16 frames, all of them side by side; frames whose `mask` is 1 are kept as given."""
        spans = windows(given.shape[1])
        batch, count = len(given), len(spans)

        def cut(x: Tensor) -> Tensor:
            return torch.stack([x[:, list(span)] for span in spans], 1).flatten(0, 1)

        rates = torch.full((batch * count,), float(fps), device=given.device)
        y_e = y_e.repeat_interleave(count, 0)
        known, known_mask = cut(given), cut(mask)

        def predict(x_t, t):
            x_hat = self.denoise(self.interpolator, torch.cat([x_t, known, known_mask], 2), t, rates, y_e)
            return torch.lerp(x_hat, known, known_mask)

        made = self.run("interpolator", predict, known.shape, self.interpolator_scheduler, steps, generator)
        made = made.clamp(-1, 1).unflatten(0, (batch, count))
        video = given.clone()
        for number, span in enumerate(spans):
            video[:, list(span)] = made[:, number]
        return torch.lerp(video, given, mask)

    def upscale_low(self, video: Tensor, fps: float, steps: int, generator, noise_level: float = 0.0) -> Tensor:
        """SR_l_t: x4, all frames of a clip together."""
        rates = torch.full((len(video),), float(fps), device=video.device)
        net, scheduler = self.super_resolution_low, self.super_resolution_low_scheduler
        noise = frame_noise(video.shape, generator, shared=True).to(video.device)
        up = self.noised(video, noise, SR_LOW_FACTOR, noise_level)
        predict = self.super_resolver(net, up, noise_level, rates)
        return self.run("super_resolution_low", predict, up.shape, scheduler, steps, generator, shared=True).clamp(
            -1, 1
        )

    def upscale_high(self, video: Tensor, steps: int, generator, noise_level: float = 0.0, chunk: int = 4):
        """SR_h: x3, a few frames at a time (memory does not grow with length), the same noise for every frame."""
        net, scheduler = self.super_resolution_high, self.super_resolution_high_scheduler
        side = video.shape[-1] * SR_HIGH_FACTOR
        low_noise = frame_noise((len(video), 1, *video.shape[2:]), generator).to(video.device)
        noise = frame_noise((len(video), 1, 3, side, side), generator).to(video.device)
        with self.stage_bar("super_resolution_high", math.ceil(video.shape[1] / chunk)) as bar:
            for start in range(0, video.shape[1], chunk):
                part = video[:, start : start + chunk]
                up = self.noised(part, low_noise, SR_HIGH_FACTOR, noise_level)
                predict = self.super_resolver(net, up, noise_level, None)
                made = sample(predict, noise.expand_as(up), scheduler, steps)
                bar.update()
                self.notify("super_resolution_high", start // chunk, scheduler.timesteps[-1], made)
                yield made

    def noised(self, video: Tensor, noise: Tensor, factor: int, noise_level: float) -> Tensor:
        """Noise-conditioning augmentation of small frames, then bilinear up-sampling."""
        level = torch.full((len(video),), noise_level, device=video.device)
        return upsample(add_noise(video, noise, level), video.shape[-1] * factor)

    def super_resolver(self, network: VideoUNet, up: Tensor, noise_level: float, fps: Tensor | None):
        level = torch.full((len(up),), noise_level * TIMESTEPS, device=up.device)

        def predict(x_t, t):
            x = torch.cat([x_t, up], 2).to(network.dtype)
            return up + network(x, t * TIMESTEPS, fps=fps, class_labels=level).sample.float()

        return predict

    def denoise(self, network: VideoUNet, x_t: Tensor, t: Tensor, fps: Tensor, y_e: Tensor) -> Tensor:
        conditions = {"image_embeds": y_e.to(network.dtype)}
        return network(x_t.to(network.dtype), t * TIMESTEPS, fps=fps, added_cond_kwargs=conditions).sample.float()

    def run(self, stage: str, predict, shape, scheduler, steps: int, generator, shared: bool = False) -> Tensor:
        """One stage of the cascade from noise to sample, with its progress bar and callback."""
        noise = frame_noise(tuple(shape), generator, shared).to(self._execution_device)
        with self.stage_bar(stage, steps) as bar:

            def on_step(step, timestep, x_hat):
                bar.update()
                self.notify(stage, step, timestep, x_hat)

            return sample(predict, noise, scheduler, steps, on_step)

    def stage_bar(self, stage: str, total: int):
        self.set_progress_bar_config(**{**getattr(self, "_progress_bar_config", {}), "desc": stage.replace("_", " ")})
        return self.progress_bar(total=total)

    def notify(self, stage: str, step: int, timestep, sample: Tensor) -> None:
        if self._callback is not None:
            self._callback(self, step, timestep, {"stage": stage, "sample": sample})
