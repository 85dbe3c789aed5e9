"""The five uses of the cascade, one set of weights (sections 3 and 4.3 of the paper).

Each use is a list of segments (`timeline.Segment`), that is, what is known and what it shows; all the rest is shared:

    use            known                        y_e, what it shows
    generate       D_t's frames                 the prior's embedding of the prompt
    animate        the picture                  the picture's, mixed with the prompt's
    interpolate    both pictures                from the first one's to the last one's
    vary           D_t's frames                 the mean over the video's frames
    extend         the last frames of the video the mean over them, mixed with the prompt's
"""

import math
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import chain, pairwise
from typing import Any, Unpack

import numpy as np
import torch
import torch.nn.functional as F
from diffusers.utils.outputs import BaseOutput
from torch import Tensor

from .cascade import Cascade
from .chunks import in_no_grad, take, without_first, without_first_frame
from .decoding import Decoding
from .errors import UserError
from .media.inputs import Picture, Video, open_video, read_picture, sample_frames
from .media.pictures import Fit
from .sampling import Anchor, add_details, from_uint8
from .settings import Settings, VideoOptions, settle
from .timeline import KEY_FRAMES, MAX_FRAMES, Segment, Windows, frame_skip, key_frames


@dataclass
class MakeAVideoOutput(BaseOutput):
    """frames: "pt" (b, f, 3, h, w) in [0, 1]; "np" (b, f, h, w, 3) in [0, 1]; "pil" a list of lists of pictures;
    "stream" an iterator over (b, a few frames, 3, h, w) in [-1, 1]."""

    frames: Any


class MakeAVideoPipeline(Cascade):
    """Text to video without text-video pairs, and four other uses of the same weights.

        pipe = MakeAVideoPipeline.load("models/emoji")
        frames = pipe("a rocket", seconds=3).frames[0]
        frames = pipe.animate("photo.png", loop=True).frames[0]

    All uses take `VideoOptions`. Pictures and videos that are not square are cut at their centre (`fit="crop"`) or
    shown whole on the background (`fit="pad"`).
    """

    def settings(self, **options: Unpack[VideoOptions]) -> Settings:
        """The options with defaults filled in and the number of frames settled, as this model can do it.

        Raises:
            UserError: an impossible number.
        """
        s = settle(options, self.sizes, self.decoder.config.motion is not None)
        self._callback = s.callback_on_step_end
        return s

    # -----------------------------------------------------------------------------------------------------------------
    # The five uses

    @torch.no_grad()
    def __call__(
        self,
        prompt: str | list[str] | Sequence[tuple[str, float]] | None = None,
        negative_prompt: str | None = None,
        image_embeds: Tensor | None = None,
        **options: Unpack[VideoOptions],
    ) -> MakeAVideoOutput | tuple:
        """Text to video.

        Args:
            prompt: what to show; a list makes one video for each. A list of (prompt, seconds) is a story: one video
                that passes from one to the next.
            negative_prompt: what to steer away from.
            image_embeds: y_e (b, d) in place of what P would make of a prompt, for example `embed_pictures`'.
            options: see `VideoOptions`.

        Raises:
            UserError: empty prompt or impossible number.
        """
        texts, seconds = parts_of("" if prompt is None else prompt)
        if image_embeds is not None:
            if prompt is not None:
                raise UserError("Both a prompt and image_embeds are given: choose one of them.")
            if image_embeds.ndim != 2 or image_embeds.shape[1] != self.prior.config.embedding_dim:
                shape, dim = tuple(image_embeds.shape), self.prior.config.embedding_dim
                raise UserError(f"image_embeds has the shape {shape}: this model's embeddings are (batch, {dim}).")
        if seconds:
            if "num_frames" in options or "seconds" in options:
                raise UserError("A story has its own length: leave out --seconds and --num-frames.")
            if any(not part > 0 for part in seconds):
                raise UserError("Every prompt of a story needs more than 0 seconds.")
            options["seconds"] = sum(seconds)
        s = self.settings(**options)
        if image_embeds is not None:
            y_e = image_embeds.to(self._execution_device)
        elif texts and all(isinstance(text, str) and text.strip() for text in texts):
            y_e = self.embed_prompts(texts, s.generator)
        else:
            raise UserError("The prompt is empty: say in a few words what the video should show.")
        negative = self.embed_prompts([negative_prompt], s.generator) if negative_prompt else None
        return self.deliver(s, self.story(s, y_e, negative, seconds))

    def generate(self, *args: Any, **kwargs: Any) -> MakeAVideoOutput | tuple:
        """Text to video: `pipe.generate(...)` is `pipe(...)`."""
        return self(*args, **kwargs)

    @torch.no_grad()
    def animate(
        self,
        image: Picture,
        prompt: str | None = None,
        prompt_weight: float = 0.3,
        fit: Fit = "crop",
        background: str = "#ffffff",
        **options: Unpack[VideoOptions],
    ) -> MakeAVideoOutput | tuple:
        """Image animation (sections 3.3 and 4.3): the picture is the first frame, F-up extrapolates the others.

        Args:
            prompt, prompt_weight: mixes the prompt's embedding into the picture's, 0 (not at all) to 1.
        """
        s = self.settings(**options)
        picture = self.picture(image, s, fit, background)
        y_e = self.mixed(self.embed_pictures(picture[:, 0]), prompt, prompt_weight, s)
        anchors = [Anchor(0, picture), *([Anchor(s.num_frames, picture)] if s.loop else [])]
        return self.deliver(s, [Segment(lambda: self.small(picture), y_e, self.key_count(s))], anchors)

    @torch.no_grad()
    def interpolate(
        self,
        first: Picture,
        last: Picture,
        fit: Fit = "crop",
        background: str = "#ffffff",
        **options: Unpack[VideoOptions],
    ) -> MakeAVideoOutput | tuple:
        """Interpolation between two pictures (section 4.3): they are the first and the last frame, F-up makes the rest.

        With `loop`, the video goes on from the last picture back to the first. At most 76 frames each way.
        """
        s = self.settings(**options)
        ways = 2 if s.loop else 1
        if not 3 <= s.num_frames <= MAX_FRAMES * ways:
            raise UserError(
                f"Interpolation makes 3 to {MAX_FRAMES * ways} frames, not {s.num_frames}: "
                "choose another length, or a lower --fps."
            )
        pictures = [self.picture(image, s, fit, background) for image in (first, last)]
        y_first, y_last = (self.embed_pictures(picture[:, 0]) for picture in pictures)
        keys = self.key_count(s, last_is_given=True)
        turn = keys // 2 if s.loop else keys - 1
        segments = [
            Segment(lambda: self.small(pictures[0]), y_first, turn),
            Segment(lambda: self.small(pictures[1]), y_last, keys - turn),
        ]
        place = turn * frame_skip(s.num_frames, s.fps) if s.loop else s.num_frames - 1
        anchors = [Anchor(0, pictures[0]), Anchor(place, pictures[1])]
        if s.loop:
            anchors.append(Anchor(s.num_frames, pictures[0]))
        return self.deliver(s, segments, anchors, last_is_given=True)

    @torch.no_grad()
    def vary(
        self,
        video: Video,
        fit: Fit = "crop",
        background: str = "#ffffff",
        **options: Unpack[VideoOptions],
    ) -> MakeAVideoOutput | tuple:
        """Video variation (section 4.3): the mean embedding of the video's frames, through the cascade from D_t on."""
        s = self.settings(**options)
        y_e = self.embed_clip(sample_frames(video, KEY_FRAMES, self.sizes[0], fit, background))
        return self.deliver(s, [self.decoded(s, y_e, self.key_count(s))])

    @torch.no_grad()
    def extend(
        self,
        video: Video,
        prompt: str | None = None,
        prompt_weight: float = 0.3,
        fit: Fit = "crop",
        background: str = "#ffffff",
        **options: Unpack[VideoOptions],
    ) -> MakeAVideoOutput | tuple:
        """Long video (section 3.3): F-up extrapolates from the last frames of the video, window after window.

        The result is the video, followed by `num_frames` or `seconds` of new frames; with `loop` they lead back to the
        video's first frame. The frame rate is the video's own unless `fps` is given.

        Args:
            prompt, prompt_weight: mixes the prompt's embedding into that of the last frames, 0 (not at all) to 1.
        """
        if options.get("fps") is None:
            rate = open_video(video, self.sizes[0], None, fit, background).fps
            options["fps"] = min(60.0, max(1.0, rate))
        s = self.settings(**options)
        frames = open_video(video, s.size, s.fps, fit, background)
        return self.package(s, self.extended(s, frames, prompt, prompt_weight))

    def extended(
        self, s: Settings, frames: Iterable[np.ndarray], prompt: str | None, weight: float
    ) -> Iterator[Tensor]:
        """The given frames as they are, then the new ones."""
        skip = frame_skip(s.num_frames + KEY_FRAMES, s.fps)
        recent: list[Tensor] = []  # the last frames, small: what F-up continues
        ends: list[Tensor] = []  # the first frame and the last one
        for frame in frames:
            last = self.to_tensor(frame)
            yield last
            recent = [*recent, self.small(last)][-(self.sampling.context - 1) * skip - 1 :]
            ends = [*ends[:1], last]
        if not ends:
            raise UserError("The video holds no frames: choose another one.")
        first, last = ends[0], ends[-1]
        context = torch.cat(recent[::-1][::skip][::-1], 1)
        y_e = self.mixed(self.embed_clip(context[0]), prompt, weight, s)
        known = context.shape[1] - 1  # key frames before the one that the new frames follow
        new_keys = math.ceil(s.num_frames / skip) if not s.loop else max(0, round((s.num_frames + 1) / skip) - 1)
        segments = [Segment(lambda: context, y_e, known + 1 + new_keys)]
        anchors = [Anchor(0, last)]
        last_gap = skip
        if s.loop:
            segments.append(Segment(lambda: self.small(first), self.embed_pictures(first[:, 0]), 1))
            last_gap = s.num_frames + 1 - new_keys * skip
            anchors.append(Anchor(s.num_frames + 1, first))
        keys = key_frames(segments, False, self.windows(s, skip))
        small = self.between(without_first(keys, known), s, skip, last_gap)
        yield from without_first_frame(self.enlarge(take(small, s.num_frames + 1), s, anchors))

    # -----------------------------------------------------------------------------------------------------------------
    # What they share

    def key_count(self, s: Settings, last_is_given: bool = False) -> int:
        """Key frames of a video, without the one that closes a loop.

        Where the last frame is given, the last gap is about as long as the others, so that nothing jumps there.
        """
        skip = frame_skip(s.num_frames, s.fps)
        if s.loop:
            return max(1, round(s.num_frames / skip))
        gaps = (s.num_frames - 1) / skip
        return (max(1, round(gaps)) if last_is_given else math.ceil(gaps)) + 1

    def decoded(self, s: Settings, y_e: Tensor, count: int, negative: Tensor | None = None) -> Segment:
        """A segment that D_t starts."""
        how = replace(self.decoding(s, frame_skip(s.num_frames, s.fps)), negative=negative)
        return Segment(lambda: self.grow(y_e, min(count, KEY_FRAMES), how), y_e, count)

    def story(self, s: Settings, y_e: Tensor, negative: Tensor | None, seconds: list[float]) -> list[Segment]:
        """A segment for each part of a story, `seconds` long; without any one for a batch of videos."""
        keys = self.key_count(s)
        if not seconds:
            return [self.decoded(s, y_e, keys, negative)]
        ends = np.cumsum(seconds)
        borders = [0, *(round(end / ends[-1] * keys) for end in ends)]
        counts = [max(1, stop - start) for start, stop in pairwise(borders)]
        return [self.decoded(s, y_e[i : i + 1], count, negative) for i, count in enumerate(counts)]

    def windows(self, s: Settings, skip: int) -> Windows:
        """How key frames, `skip` frames apart, follow from others."""
        how, model = self.decoding(s, skip), self.sampling
        return Windows(
            lambda given, mask, y_e: self.extrapolate(given, mask, y_e, how), model.context, model.transition
        )

    def decoding(self, s: Settings, skip: int) -> Decoding:
        """How D_t makes key frames, `skip` frames apart."""
        return Decoding(s.fps / skip, s.num_inference_steps, s.guidance_scale, s.motion, s.generator)

    def deliver(
        self, s: Settings, segments: list[Segment], anchors: Sequence[Anchor] = (), last_is_given: bool = False
    ) -> MakeAVideoOutput | tuple:
        """Key frames, frames between them, enlarged."""
        skip, keys = frame_skip(s.num_frames, s.fps), self.key_count(s, last_is_given)
        last_gap = skip
        if s.loop:
            last_gap = s.num_frames - (keys - 1) * skip
        elif last_is_given:
            last_gap = s.num_frames - 1 - (keys - 2) * skip
        frames = self.between(key_frames(segments, s.loop, self.windows(s, skip)), s, skip, last_gap)
        return self.package(s, self.enlarge(take(frames, s.num_frames), s, anchors))

    def between(self, keys: Iterator[tuple[Tensor, Tensor]], s: Settings, skip: int, last_gap: int) -> Iterator[Tensor]:
        """All frames from the key frames, 16 of them at a time."""
        if skip == 1:
            yield from (chunk for chunk, _ in keys)
            return
        how = self.decoding(s, 1)
        held, held_y = next(keys)
        for chunk, y_e in chain([(held[:, :0], held_y[:, :0])], keys):
            held, held_y = torch.cat([held, chunk], 1), torch.cat([held_y, y_e], 1)
            while held.shape[1] > KEY_FRAMES:
                yield self.fill_between(held[:, :KEY_FRAMES], skip, held_y[:, :KEY_FRAMES], how)[:, :-1]
                held, held_y = held[:, KEY_FRAMES - 1 :], held_y[:, KEY_FRAMES - 1 :]
        yield self.fill_between(held, last_gap, held_y, how)

    def enlarge(self, small: Iterator[Tensor], s: Settings, anchors: Sequence[Anchor]) -> Iterator[Tensor]:
        """Super-resolution, and the given pictures' own detail, chunk by chunk."""
        if s.size == self.sizes[0]:
            yield from small
            return
        # Drawn here, so that a picture by itself and a frame of the video start from the same noise.
        seed = int(torch.randint(2**62, (1,), generator=s.generator))
        low_steps, high_steps = s.super_resolution_steps

        def super_resolve(chunks: Iterator[Tensor]) -> Iterator[tuple[Tensor, Tensor]]:
            pairs = self.upscale_low(chunks, s.fps, low_steps, torch.Generator().manual_seed(seed))
            if s.size == self.sizes[1]:
                return pairs
            return self.upscale_high(pairs, high_steps, torch.Generator().manual_seed(seed + 1))

        lows = [self.small(anchor.picture) for anchor in anchors]
        details = [
            anchor.picture - next(super_resolve(iter([low])))[1] for anchor, low in zip(anchors, lows, strict=True)
        ]
        place = 0
        for low, frames in super_resolve(small):
            yield add_details(frames, low, place, anchors, lows, details)
            place += frames.shape[1]

    def package(self, s: Settings, chunks: Iterator[Tensor]) -> MakeAVideoOutput | tuple:
        """The frames in the form that was asked for."""
        chunks = in_no_grad(chunk.clamp(-1, 1) for chunk in chunks)
        frames: Any = chunks
        if s.output_type != "stream":
            frames = (torch.cat(list(chunks), 1) + 1) / 2
            self.maybe_free_model_hooks()
            if s.output_type != "pt":
                frames = frames.permute(0, 1, 3, 4, 2).cpu().numpy()
            if s.output_type == "pil":
                frames = [self.numpy_to_pil(video) for video in frames]
        return MakeAVideoOutput(frames=frames) if s.return_dict else (frames,)

    # -----------------------------------------------------------------------------------------------------------------
    # Pictures and embeddings

    def to_tensor(self, frame: np.ndarray) -> Tensor:
        """uint8 (h, w, 3) -> (1, 1, 3, h, w) in [-1, 1] on the pipeline's device."""
        return from_uint8(frame[None, None]).to(self._execution_device)

    def picture(self, image: Picture, s: Settings, fit: Fit, background: str) -> Tensor:
        """(1, 1, 3, size, size)."""
        return self.to_tensor(read_picture(image, s.size, fit, background))

    def small(self, frames: Tensor) -> Tensor:
        """Frames at the size of D_t."""
        base = self.sizes[0]
        if frames.shape[-1] == base:
            return frames
        low = F.interpolate(frames.flatten(0, 1), (base, base), mode="bilinear", antialias=True, align_corners=False)
        return low.unflatten(0, frames.shape[:2])

    def embed_clip(self, frames: Tensor | Iterable[np.ndarray]) -> Tensor:
        """Mean embedding of a clip's frames (1, d), of the usual length."""
        if not torch.is_tensor(frames):
            frames = torch.cat([self.to_tensor(frame)[0] for frame in frames])
        return self.lengthened(self.embed_pictures(frames).mean(0, keepdim=True))

    def mixed(self, y_e: Tensor, prompt: str | None, weight: float, s: Settings) -> Tensor:
        """A picture's embedding (1, d) with the prompt's mixed in."""
        if not 0 <= weight <= 1:
            raise UserError(f"--prompt-weight {weight:g} is not possible: choose from 0 to 1.")
        if prompt is None or not prompt.strip() or weight == 0:
            return y_e
        return self.lengthened(torch.lerp(y_e, self.embed_prompts([prompt], s.generator), weight))

    @staticmethod
    def lengthened(y_e: Tensor) -> Tensor:
        return F.normalize(y_e, dim=-1) * math.sqrt(y_e.shape[-1])


def parts_of(prompt: str | list[str] | Sequence[tuple[str, float]]) -> tuple[list[str], list[float]]:
    """The texts of a prompt and, if it is a story, the seconds of each part; no seconds if it is none."""
    if isinstance(prompt, str):
        return [prompt], []
    story = [part for part in prompt if not isinstance(part, str)]
    if not story:
        return [part for part in prompt if isinstance(part, str)], []
    return [text for text, _ in story], [seconds for _, seconds in story]
