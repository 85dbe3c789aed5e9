"""The networks of the cascade and what each of them does (figure 2 of the paper): P, D_t, F-up, SR_l_t and SR_h.

Axes are those of `pseudo3d`: frames are (b, f, 3, h, w) in [-1, 1], image embeddings y_e (b, d) or, one a frame,
(b, f, d).
"""

import math
from collections.abc import Iterable, Iterator
from dataclasses import replace
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from .codec import check_codec, decode, encode
from .decoding import Decoding, Start
from .encoders import TextProjection
from .enlarger import Enlarger, enlarge_stretches
from .errors import UserError
from .figures import FRAME_SKIP, SR_HIGH_FACTOR, SR_LOW_FACTOR, TIMESTEPS, shrinkage
from .filling import filling_of
from .inflation import VideoUNet
from .loading import CheckedPipeline, check_part
from .meaning import Meaning
from .sampling import Generators, check_scheduler, frame_noise, guide, is_unclip
from .sampling_config import SamplingConfig
from .shapes import Shape, Shapes, shapes_from
from .super_resolution import SuperResolver
from .timeline import spans
from .unclip_enlarger import UnclipEnlarger
from .wordings import WordingTable


class Cascade(Meaning, CheckedPipeline):
    """The networks, and one method for what each of them does. None: it is refused in use, as far as it is needed.

    Only the prior sees text; only decoder, interpolator and super_resolution_low have temporal layers.

    Args:
        tokenizer, text_encoder: C_x, frozen; mean-pooled sentence embeddings. None: no prompts, only embeddings.
        text_projection: from the text encoder's space to the image tower's; None: it is the same one (CLIP).
        image_encoder: the image tower: pictures to embeddings, for the uses that start from pictures. None: none.
        prior: P; a PriorTransformer that predicts the clean image embedding. With an UnCLIPScheduler it is run as in
            diffusers' pipelines, and embeddings have the length that it gives them.
        codec: what D_t's latents are frames of: a VQModel or AutoencoderKL of diffusers; None: D_t makes the frames.
        wordings: known wordings and their pictures; where there are some, P looks up in place of diffusing.
        decoder: D_t, frames from an image embedding.
        interpolator: F-up, of either kind: `filling`. None: no more frames than D_t makes.
        super_resolution_low: SR_l_t, x4, all frames together; in one step (`SuperResolver`) or by diffusion. With an
            UnCLIPScheduler it is run as in diffusers' UnCLIPPipeline, its last step by `super_resolution_low_last`.
        super_resolution_high: SR_h, x3, each frame by itself; likewise. None of either: no size beyond.
        *_scheduler: flow-matching schedulers of diffusers.
        sampling: fields of `SamplingConfig`, in the saved config; what is not named is as usual.

    Raises:
        UserError: an impossible number in `sampling`, a scheduler that cannot work here.
    """

    _optional_components = [  # noqa: RUF012
        "tokenizer",
        "text_encoder",
        "text_projection",
        "image_encoder",
        "wordings",
        "codec",
        "interpolator",
        "interpolator_scheduler",
        "super_resolution_low",
        "super_resolution_low_scheduler",
        "super_resolution_low_last",
        "super_resolution_high",
        "super_resolution_high_scheduler",
    ]
    _exclude_from_cpu_offload = ["prior", "wordings"]  # noqa: RUF012  (they are used outside of their forward, too)
    model_cpu_offload_seq: Any = (
        "text_encoder->prior->decoder->interpolator->codec->super_resolution_low->super_resolution_low_last"
        "->super_resolution_high"
    )

    def __init__(
        self,
        tokenizer,
        text_encoder,
        text_projection: TextProjection | None,
        image_encoder,
        prior,
        prior_scheduler,
        decoder: VideoUNet,
        decoder_scheduler,
        interpolator: VideoUNet | None = None,
        interpolator_scheduler=None,
        super_resolution_low: VideoUNet | SuperResolver | None = None,
        super_resolution_low_scheduler=None,
        super_resolution_high: VideoUNet | SuperResolver | None = None,
        super_resolution_high_scheduler=None,
        wordings: WordingTable | None = None,
        codec=None,
        super_resolution_low_last: VideoUNet | None = None,
        sampling: dict[str, Any] | None = None,
    ):
        super().__init__()
        parts = dict(
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
            codec=codec,
            super_resolution_low_last=super_resolution_low_last,
        )
        for name, part in parts.items():
            check_part(name, part)
        self.register_modules(**parts)
        check_codec(codec)
        if interpolator is not None:
            filling_of(interpolator.config.extra_channels, codec is not None)  # or refuse it now
            if decoder is not None and interpolator.out_channels != decoder.out_channels:
                channels = f"{interpolator.out_channels} channels and the decoder {decoder.out_channels}"
                raise UserError(f"The F-up network makes frames of {channels}: take one trained for this decoder.")
        names_noise = getattr(super_resolution_low, "parametrization", None) is not None
        for name, component in self.components.items():
            draws = name == "prior_scheduler" or (name == "super_resolution_low_scheduler" and names_noise)
            unclip = draws and is_unclip(component)
            if name.endswith("_scheduler") and component is not None and not unclip:
                check_scheduler(component)
        self.register_to_config(sampling=SamplingConfig.of(sampling).as_dict())

    @property
    def sizes(self) -> tuple[int, ...]:
        """Pixels of the longest side after D_t, SR_l_t and SR_h, as far as there are such networks, as trained."""
        return self.shapes.sizes

    @property
    def shapes(self) -> Shapes:
        """What shapes of frames it makes."""
        names = ("decoder", "interpolator", "super_resolution_low", "super_resolution_high")
        networks = {name: getattr(self, name) for name in names}
        configs = {name: None if network is None else network.config for name, network in networks.items()}
        return shapes_from(configs, self.shrinkage, self.sampling.any_shape)

    @property
    def shrinkage(self) -> int:
        """Pixels along each side of a frame that become one of what D_t works on."""
        return 1 if self.codec is None else shrinkage(self.codec.config.block_out_channels)

    @property
    def frame_shape(self) -> tuple[int, int, int]:
        """(channels, height, width) of a frame as D_t and F-up work on it: of its latents, where there is a codec."""
        return self.worked_on(self.shapes.base)

    def worked_on(self, small: Shape) -> tuple[int, int, int]:
        """As `frame_shape`, of frames that have this shape at the size of D_t."""
        return self.decoder.out_channels, small.height // self.shrinkage, small.width // self.shrinkage

    def latents_of(self, frames: Tensor) -> Tensor:
        """Frames (b, f, 3, h, w) at the size of D_t, as it works on them."""
        return frames if self.codec is None else encode(self.codec, frames)

    def frames_of(self, latents: Tensor) -> Iterator[Tensor]:
        """The frames (b, a few, 3, h, w) in [-1, 1] that D_t's are."""
        return iter([latents]) if self.codec is None else decode(self.codec, latents)

    def in_range(self, frames: Tensor) -> Tensor:
        """What D_t or F-up made, within [-1, 1] where it is frames; latents know no such bound."""
        return frames.clamp(-1, 1) if self.codec is None else frames

    @property
    def at_once(self) -> frozenset[str]:
        """The super-resolution networks that take one step, whatever number of steps is asked for."""
        names = ("super_resolution_low", "super_resolution_high")
        return frozenset(name for name in names if isinstance(getattr(self, name), SuperResolver))

    def decode(
        self,
        y_e: Tensor,
        num_frames: int,
        how: Decoding,
        start: Start | None = None,
        stage: str = "decoder",
        noise: Tensor | None = None,
    ) -> Tensor:
        """D_t (section 3.2): frames (b, num_frames, 3, h, w) from an image embedding.

        Args:
            y_e: (b, d), or one a frame, (b, num_frames, d).
            start: what to begin with, and what of it is kept; None: noise.
            stage: what progress is shown as.
            noise: shaped as the result; None: drawn.
        """
        config = self.decoder.config
        rates = torch.full((len(y_e),), float(how.fps), device=y_e.device)
        strength = -1.0 if how.motion is None or num_frames == 1 else how.motion
        motion = torch.full((len(y_e),), strength, device=y_e.device)
        self._guidance_scale = how.guidance_scale
        negative = torch.zeros_like(y_e[:1]) if how.negative is None else how.negative
        away_from = negative[:, None] if negative.ndim < y_e.ndim else negative
        # of the candidates of one video, and of its frames, all steer away from the same
        away_from = away_from.repeat_interleave(len(y_e) // len(away_from), 0).expand_as(y_e)
        if y_e.ndim == 3:
            y_e, away_from = y_e.flatten(0, 1), away_from.flatten(0, 1)
        given: Any = None  # frames, and which of them are kept
        mask: Any = None
        if start is not None and start.mask is not None:
            given, mask = start.frames, start.mask[:, :, None, None, None]
        seen = given if config.known_frames else None
        towards_seen = 1.0 if how.frame_guidance is None else how.frame_guidance / config.frame_guidance

        def predict(x_t: Tensor, t: Tensor) -> Tensor:
            unseen = x_t, t
            if seen is not None:
                x_t, t = torch.lerp(x_t, seen, mask), t * (1 - mask[:, :, 0, 0, 0])
            x_hat = self.denoise(self.decoder, x_t, t, rates, y_e, motion)
            if seen is not None and towards_seen != 1:
                x_hat = guide(x_hat, self.denoise(self.decoder, *unseen, rates, y_e, motion), towards_seen)
            scale = self._guidance_scale / config.guidance  # of the guidance, a part may be trained in
            if how.negative is not None:
                scale = 1 + (self._guidance_scale - 1) / config.guidance
            if scale != 1:
                x_hat = guide(x_hat, self.denoise(self.decoder, x_t, t, rates, away_from, motion), scale)
            x_hat = self.decoder.bounded(x_hat)
            # a kept frame's prediction is itself, so that it moves along its own line from noise to picture
            return x_hat if given is None else torch.lerp(x_hat, given, mask)

        if noise is None:
            shape = (len(rates), num_frames, *(how.frame_shape or self.frame_shape))
            noise = frame_noise(shape, how.generator, config.shared_noise)
        noise = noise.to(self._execution_device, torch.float32)
        # where kept frames are seen nothing else need be begun with
        begin = None if start is None or (seen is not None and start.strength == 1) else start
        levels = self.decoder.levels(how.steps)
        return self.in_range(self.run(stage, predict, noise, self.decoder_scheduler, how.steps, begin, levels=levels))

    def draw_still(self, y_e: Tensor, how: Decoding) -> Tensor:
        """D_t on clips of one frame, that is, text to image: the best of a few draws, (b, 1, 3, h, w)."""
        candidates = 1 if self.image_encoder is None else self.sampling.still_candidates
        repeated = y_e.repeat_interleave(candidates, 0)
        drawn = self.decode(repeated, 1, replace(how, fps=0), stage="still")
        if candidates == 1:
            return drawn
        pictures = torch.cat(list(self.frames_of(drawn.transpose(0, 1))), 1)[0]
        likeness = F.cosine_similarity(self.embed_pictures(pictures), repeated).unflatten(0, (len(y_e), -1))
        return drawn.unflatten(0, (len(y_e), -1))[torch.arange(len(y_e)), likeness.argmax(1)]

    def grow(self, y_e: Tensor, num_frames: int, how: Decoding, noise: Tensor | None = None) -> Tensor:
        """A picture, and then D_t's clip of it: (b, num_frames, 3, h, w) from y_e (b, d).

        One frame is easier to get right than sixteen at once, and cheap enough to choose among several. All frames
        begin with the picture, noised (SDEdit); a D_t that has learnt to see known frames keeps it as the first one.

        noise: what the clip begins with, and with its first frame the picture, which is then the only one drawn.
        """
        if noise is None:
            still = self.draw_still(y_e, how)
        else:
            still = self.decode(y_e, 1, replace(how, fps=0), stage="still", noise=noise[:, :1])
        if num_frames == 1:
            return still
        copies, mask = still.expand(-1, num_frames, -1, -1, -1), None
        if self.decoder.config.known_frames:
            mask = torch.zeros(copies.shape[:2], device=copies.device)
            mask[:, 0] = 1
        return self.decode(y_e, num_frames, *self.growing(how, copies, mask), noise=noise)

    def growing(self, how: Decoding, frames: Tensor, mask: Tensor | None) -> tuple[Decoding, Start]:
        """How D_t is run where it begins with these frames, noised, and keeps those of the mask."""
        goes_on = mask is not None and int(mask[0].sum()) > 1
        motion = None if how.motion is None else self.sampling.told_motion(how.motion, goes_on)
        start = Start(frames, self.sampling.grow_strength_at(how.fps, how.motion), mask)
        # over windows it would add up; none is trained in for them either
        guidance = None if goes_on else self.sampling.frame_guidance
        return replace(how, motion=motion, frame_guidance=guidance), start

    def extrapolate(self, given: Tensor, mask: Tensor, y_e: Tensor, how: Decoding) -> Tensor:
        """Key frames that follow from given ones: by D_t, if it has learnt to see known frames.

        It begins with what stands at the other places of `given`, noised, as a clip begins with its picture. Otherwise
        by F-up (section 3.3); D_t then mends what it made, so that faults do not add up over windows. Next to a given
        frame F-up's own frames stay, and pass into D_t's over a few. Arguments as those of `fill`.
        """
        count = given.shape[1]
        if self.decoder.config.known_frames:
            return self.decode(y_e, count, *self.growing(how, given, mask), "extrapolate")
        if self.interpolator is None:
            raise UserError("This model has no F-up network, which goes on from given frames: train or load one.")
        filled = self.fill(given, mask, y_e, how)
        mended = self.decode(y_e, count, how, Start(filled, self.sampling.refine_strength, mask), "extrapolate")
        places = torch.arange(count, device=mask.device)
        away = (places[:, None] - places).abs()[None].masked_fill(mask[:, None] < 0.5, count).amin(2)
        share = (away / (self.sampling.transition + 1)).clamp(max=1)
        return torch.lerp(filled, mended, share[:, :, None, None, None].to(filled))

    def fill(self, given: Tensor, mask: Tensor, y_e: Tensor, how: Decoding) -> Tensor:
        """F-up (section 3.3): makes the frames that are not given.

        Args:
            given: (b, f, 3, h, w); what stands where `mask` is 0 does not matter.
            mask: (b, f), 1 where a frame is given; that frame is kept as it is.
            y_e: (b, f, d).
            how: its frame rate is that of the frames; steps and generator are for the paper's F-up.
        """
        filling = filling_of(self.interpolator.config.extra_channels, self.codec is not None)(given, mask)
        rates = torch.full((len(given),), float(how.fps), device=given.device)

        def predict(x_t: Tensor, t: Tensor) -> Tensor:
            # clip after clip: together they are no faster on a processor, and decide the peak of memory
            clips = zip(filling.seen(x_t).split(1), rates.split(1), y_e, strict=True)
            return filling.answer(torch.cat([self.denoise(self.interpolator, x, t, fps, y) for x, fps, y in clips]))

        noise, steps = filling.noise(how.generator), filling.steps(how.steps)
        levels, scheduler = self.interpolator.levels(steps), self.interpolator_scheduler
        answer = self.run("interpolator", predict, noise, scheduler, steps, shown=filling.frames, levels=levels)
        return filling.frames(answer)

    def fill_between(self, keys: Tensor, last_gap: int, y_e: Tensor, how: Decoding) -> Tensor:
        """F-up between key frames, on stretches of 16 frames that share key frames.

        Args:
            keys: (b, k, 3, h, w), FRAME_SKIP frames apart, the last two `last_gap`.
            y_e: (b, k, d).
            how: as for `fill`, at the frame rate of the result.

        Returns:
            (b, f, 3, h, w), from the first key frame to the last.
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
            start = next(place for place in places if place in span)  # before it, F-up had nothing to fill from
            given[:, start : span.stop] = made[:, number, start - span.start :]
        return given

    def upscale_low(
        self, chunks: Iterable[Tensor], fps: float, steps: int, generator: Generators
    ) -> Iterator[tuple[Tensor, Tensor]]:
        """SR_l_t: x4, all frames of a stretch together; yields (small frames, large frames).

        Args:
            chunks: the video (b, a few frames, 3, h, w), piece by piece.
            steps: where SR_l_t diffuses.
        """
        network, scheduler = self.super_resolution_low, self.super_resolution_low_scheduler
        how = self.sampling
        steps = how.super_resolution_steps or steps
        enlarge: Enlarger | UnclipEnlarger = Enlarger(network, scheduler, SR_LOW_FACTOR, steps, generator)
        if is_unclip(scheduler):
            last = self.super_resolution_low_last
            enlarge = UnclipEnlarger(network, last, scheduler, SR_LOW_FACTOR, steps, generator)

        def enlarge_stretch(low: Tensor) -> Tensor:
            rates = torch.full((len(low),), float(fps), device=low.device)
            with self.steps_shown("super_resolution_low", enlarge.steps) as on_step:
                return enlarge(low, rates, on_step)

        return enlarge_stretches(chunks, enlarge_stretch, how.super_resolution_frames, how.super_resolution_overlap)

    def upscale_high(
        self, chunks: Iterable[tuple[Tensor, Tensor]], steps: int, generator: Generators, part: int = 4
    ) -> Iterator[tuple[Tensor, Tensor]]:
        """SR_h: x3, each frame by itself; takes and yields (small frames, frames), `part` at a time."""
        network, scheduler = self.super_resolution_high, self.super_resolution_high_scheduler
        enlarge = Enlarger(network, scheduler, SR_HIGH_FACTOR, steps, generator)
        for low, video in chunks:
            parts = zip(low.split(part, 1), video.split(part, 1), strict=True)
            with self.steps_shown("super_resolution_high", math.ceil(video.shape[1] / part)) as on_step:
                for number, (small, frames) in enumerate(parts):
                    made = enlarge(frames)
                    changed = on_step(number, torch.zeros((), device=made.device), made, made)
                    yield small, made if changed is None else changed

    def denoise(
        self, network: VideoUNet, x_t: Tensor, t: Tensor, fps: Tensor, y_e: Tensor, motion: Tensor | None = None
    ) -> Tensor:
        """What D_t or F-up says about a noised clip x_t, in float32; shapes as those of `VideoUNet.forward`."""
        conditions = {"image_embeds": y_e.to(network.dtype)}
        t = t * TIMESTEPS
        made = network(x_t, t, fps=fps, motion=motion, added_cond_kwargs=conditions)
        return made.sample.float()
