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
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any, Self, Unpack

import diffusers
import numpy as np
import torch
import torch.nn.functional as F
from diffusers.pipelines.pipeline_utils import DiffusionPipeline
from torch import Tensor

from .arguments import check_generators, check_one, check_tensor, check_vectors, is_given, parts_of, texts_of
from .assembly import Assembly, MakeAVideoOutput
from .chunks import take, without_first, without_first_frame
from .errors import UserError
from .figures import KEY_FRAMES, MOST_VIDEOS
from .kinds import is_whole
from .machine import dtype_of
from .media.inputs import Picture, Video, open_video, read_picture, sample_frames, shape_of, shape_of_video
from .media.pictures import Fit
from .nesting import SHORT
from .sampling import Anchor, is_unclip
from .settings import Settings, VideoOptions, check_given, check_interpolation, check_mixed, keep_shape, takes_options
from .timeline import Segment, frame_skip, key_frames
from .tryout import embedding_length


class MakeAVideoPipeline(Assembly):
    """Text to video without text-video pairs, and four other uses of the same weights.

        pipe = MakeAVideoPipeline.load("models/emoji")
        frames = pipe("a rocket", seconds=3).frames[0]
        frames = pipe.animate("photo.png", loop=True).frames[0]

    All uses take `VideoOptions`. Pictures and videos of another shape are cut at their centre (`fit="crop"`), shown
    whole on the background (`fit="pad"`), or give the new video their shape (`fit="keep"`; `size` is its longest side).
    """

    @classmethod
    def from_text_to_image(
        cls,
        source: str | Path,
        *,
        prior: str | None = None,
        image_encoder: str | None = None,
        dtype: torch.dtype | str = torch.float32,
    ) -> Self:
        """A cascade that starts as a text-to-image pipeline of diffusers: Kandinsky 2.2, Karlo or Stable unCLIP.

        Before any training it makes that pipeline's pictures, 16 of one meaning. What was found, made and is missing,
        and the licence, stand in the model card that `save_pretrained` writes, as `make-a-video adopt` does.

        Args:
            source, prior, image_encoder, dtype: as for `adoption.kinds.adopt`.

        Raises:
            UserError: nothing that can be adopted; the sentence says what it is, and what can be done.
        """
        from .adoption.card import card_of
        from .adoption.kinds import adopt

        adopted = adopt(source, prior, image_encoder, dtype_of(dtype))
        pipe = cls(**adopted.components, sampling=adopted.sampling)
        pipe.card = partial(card_of, replace(adopted, components={}))
        return pipe

    @classmethod
    def from_pipe(cls, pipeline: DiffusionPipeline, **options: Any) -> Self:
        """Another pipeline of the same networks, which are not in memory twice.

        Args:
            pipeline: of this kind.
            options: components, and `sampling`, in place of the pipeline's; `dtype` of the networks, which are then
                the other pipeline's in it too. None: as they are.

        Raises:
            UserError: a pipeline of another kind, an option that there is not.
        """
        if not isinstance(pipeline, cls):
            raise UserError(
                f"A {type(pipeline).__name__} has not the networks of a {cls.__name__}: load one from its folder, or "
                "make one of a text-to-image model with from_text_to_image."
            )
        dtype = options.pop("dtype", options.pop("torch_dtype", None))
        parts = {**pipeline.components, "sampling": pipeline.config["sampling"]}
        for name in options.keys() - parts.keys():
            raise UserError(f"There is no option {name!r} here: choose from dtype, {', '.join(parts)}.")
        made = cls(**{**parts, **options})
        made.card = pipeline.card
        return made if dtype is None else made.to(dtype=dtype)

    # -----------------------------------------------------------------------------------------------------------------
    # The five uses

    @takes_options
    @torch.no_grad()
    def __call__(
        self,
        prompt: str | list[str] | Sequence[tuple[str, float]] | None = None,
        negative_prompt: str | list[str] | None = None,
        num_videos_per_prompt: int = 1,
        prompt_embeds: Tensor | None = None,
        negative_prompt_embeds: Tensor | None = None,
        image_embeds: Tensor | None = None,
        latents: Tensor | None = None,
        **options: Unpack[VideoOptions],
    ) -> MakeAVideoOutput | tuple:
        """Text to video.

        Args:
            prompt: what to show; a list makes one video for each. A list of (prompt, seconds) is a story: one video
                that passes from one to the next.
            negative_prompt: what to steer away from; a list has one for each prompt.
            num_videos_per_prompt: of each prompt; they follow one another.
            prompt_embeds, negative_prompt_embeds: in place of the texts, what `encode_prompt` makes of them.
            image_embeds: y_e (b, d) in place of what P would make of a prompt, for example `embed_pictures`'.
            latents: the noise that D_t begins with, (videos, key frames, *frame_shape), at most 16 key frames.
            options: see `VideoOptions`.

        Raises:
            UserError: empty prompt or impossible number.
        """
        check_one(prompt=prompt, prompt_embeds=prompt_embeds, image_embeds=image_embeds)
        check_one(negative_prompt=negative_prompt, negative_prompt_embeds=negative_prompt_embeds)
        parts: list[str] | None = None
        seconds: list[float] = []
        if prompt_embeds is None and image_embeds is None:
            parts, seconds = parts_of("" if prompt is None else prompt)
        if seconds:
            if "num_frames" in options or "seconds" in options:
                raise UserError("A story has its own length: leave out --seconds and --num-frames.")
            if latents is not None or num_videos_per_prompt != 1:
                raise UserError("A story is one video, and draws its own noise: leave out latents and the number.")
            options["seconds"] = sum(seconds)
        s = self.freely(self.settings(**options))
        texts, negative_texts = self.encode_prompt(parts, negative_prompt)
        y_e, negative = self.shown(
            s,
            num_videos_per_prompt,
            texts if prompt_embeds is None else prompt_embeds,
            negative_texts if negative_prompt_embeds is None else negative_prompt_embeds,
            image_embeds,
            one_video=bool(seconds),
        )
        if seconds:
            return self.deliver(s, self.story(s, y_e, negative, seconds))
        keys = self.key_count(s)
        wanted = (len(y_e), min(keys, KEY_FRAMES), *self.worked_on(s.small))
        check_tensor("latents", latents)
        if latents is not None and latents.shape != wanted:
            raise UserError(f"latents have the shape {tuple(latents.shape)}: these videos begin with {wanted}.")
        return self.deliver(s, [self.decoded(s, y_e, keys, negative, latents)])

    generate = __call__

    def encode_prompt(
        self, prompt: str | list[str] | None, negative_prompt: str | list[str] | None = None
    ) -> tuple[Tensor | None, Tensor | None]:
        """C_x (section 3.1): text embeddings (prompts, text_embed_dim), and of what to steer away from.

        Either is None where nothing is said. One negative prompt goes for all prompts.

        Raises:
            UserError: an empty text, or not one negative prompt for each prompt.
        """
        todo = "say what to steer away from, or give none at all"
        negatives = texts_of(negative_prompt, "A negative prompt", todo) if is_given(negative_prompt) else None
        prompts = None if prompt is None else texts_of(prompt)
        prompt_embeds = None if prompts is None else self.read_prompts(prompts)
        negative_prompt_embeds = None if negatives is None else self.read_prompts(negatives)
        return prompt_embeds, negative_prompt_embeds

    @takes_options
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
        """Image animation (sections 3.3 and 4.3): the picture is the first frame, D_t or F-up goes on from it.

        Args:
            prompt, prompt_weight: mixes the prompt's embedding into the picture's, 0 (not at all) to 1.
        """
        check_mixed(prompt, prompt_weight)
        fit = keep_shape(options, fit, self.shapes, lambda: shape_of(image))
        s = self.one_video(**options)
        picture = self.picture(image, s, fit, background)
        y_e = self.mixed(self.embed_pictures(picture[:, 0]), prompt, prompt_weight, s)
        anchors = [Anchor(0, picture), *([Anchor(s.num_frames, picture)] if s.loop else [])]
        return self.deliver(s, [Segment(lambda: self.known(picture, s), y_e, self.key_count(s))], anchors)

    @takes_options
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

        With `loop`, the video goes on from the last picture back to the first. At most 76 frames each way. With
        `fit="keep"` it has the first picture's shape.
        """
        fit = keep_shape(options, fit, self.shapes, lambda: shape_of(first))
        s = self.one_video(**options)
        check_interpolation(s)
        pictures = [self.picture(image, s, fit, background) for image in (first, last)]
        y_first, y_last = (self.embed_pictures(picture[:, 0]) for picture in pictures)
        keys = self.key_count(s, last_is_given=True)
        turn = keys // 2 if s.loop else keys - 1
        segments = [
            Segment(lambda: self.known(pictures[0], s), y_first, turn),
            Segment(lambda: self.known(pictures[1], s), y_last, keys - turn),
        ]
        place = turn * frame_skip(s.num_frames, s.fps) if s.loop else s.num_frames - 1
        anchors = [Anchor(0, pictures[0]), Anchor(place, pictures[1])]
        if s.loop:
            anchors.append(Anchor(s.num_frames, pictures[0]))
        return self.deliver(s, segments, anchors, last_is_given=True)

    @takes_options
    @torch.no_grad()
    def vary(
        self,
        video: Video,
        fit: Fit = "crop",
        background: str = "#ffffff",
        **options: Unpack[VideoOptions],
    ) -> MakeAVideoOutput | tuple:
        """Video variation (section 4.3): the mean embedding of the video's frames, through the cascade from D_t on."""
        fit = keep_shape(options, fit, self.shapes, lambda: shape_of_video(video))
        s = self.freely(self.one_video(**options))
        y_e = self.embed_clip(sample_frames(video, KEY_FRAMES, self.sizes[0], fit, background))
        return self.deliver(s, [self.decoded(s, y_e, self.key_count(s))])

    @takes_options
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
        """Long video (section 3.3): D_t or F-up goes on from the last frames of the video, window after window.

        The result is the video, followed by `num_frames` or `seconds` of new frames; with `loop` they lead back to the
        video's first frame. The frame rate is the video's own unless `fps` is given.

        Args:
            prompt, prompt_weight: mixes the prompt's embedding into that of the last frames, 0 (not at all) to 1.
        """
        check_mixed(prompt, prompt_weight)
        fit = keep_shape(options, fit, self.shapes, lambda: shape_of_video(video))
        if options.get("fps") is None:
            rate = open_video(video, self.sizes[0], None, fit, background).fps
            options["fps"] = min(60.0, max(1.0, rate))
        s = self.one_video(**options)
        if s.output_type == "latent":
            raise UserError(
                "extend gives the video's own frames too, which are no latents: choose another output_type."
            )
        frames = open_video(video, s.made, s.fps, fit, background)
        check_given(frames.duration)
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
            recent = [*recent, self.small(last, s)][-(self.sampling.context - 1) * skip - 1 :]
            ends = [*ends[:1], last]
        if not ends:
            raise UserError("The video holds no frames: choose another one.")
        first, last = ends[0], ends[-1]
        context = torch.cat(recent[::-1][::skip][::-1], 1)
        y_e = self.mixed(self.embed_clip(context[0]), prompt, weight, s)
        known = context.shape[1] - 1  # key frames before the one that the new frames follow
        new_keys = math.ceil(s.num_frames / skip) if not s.loop else max(0, round((s.num_frames + 1) / skip) - 1)
        segments = [Segment(lambda: self.latents_of(context), y_e, known + 1 + new_keys)]
        anchors = [Anchor(0, last)]
        last_gap = skip
        if s.loop:
            segments.append(Segment(lambda: self.known(first, s), self.embed_pictures(first[:, 0]), 1))
            last_gap = s.num_frames + 1 - new_keys * skip
            anchors.append(Anchor(s.num_frames + 1, first))
        keys = key_frames(segments, False, self.windows(s, skip))
        small = self.between(without_first(keys, known), s, skip, last_gap)
        yield from without_first_frame(self.enlarge(take(small, s.num_frames + 1), s, anchors))

    # -----------------------------------------------------------------------------------------------------------------
    # Pictures and embeddings

    def shown(
        self,
        s: Settings,
        repeats: int,
        texts: Tensor | None,
        negative_texts: Tensor | None,
        y_e: Tensor | None,
        one_video: bool,
    ) -> tuple[Tensor, Tensor | None]:
        """y_e (b, d) of every video, and of what each steers away from: P, where texts are given and y_e is not.

        Args:
            repeats: videos of each text.
            one_video: the texts are those of a story.
        """
        for name, vectors in (("prompt_embeds", texts), ("negative_prompt_embeds", negative_texts)):
            if vectors is not None:
                check_vectors(name, vectors, *self.text_shape)
        check_vectors("image_embeds", y_e, embedding_length(self.decoder))
        if not is_whole(repeats) or not 1 <= repeats <= MOST_VIDEOS:
            said = f"choose from 1 to {MOST_VIDEOS:,}"
            raise UserError(f"num_videos_per_prompt {SHORT.repr(repeats)} is not possible: {said}.")
        repeats = int(repeats)
        given = texts if y_e is None else y_e
        assert given is not None
        prompts = len(given)
        check_generators(s.generator, 1 if one_video else prompts * repeats)
        if negative_texts is not None:
            wanted = 1 if one_video else prompts
            if len(negative_texts) not in (1, wanted):
                raise UserError(f"{len(negative_texts)} negative prompts are given: give one, or one for each prompt.")
            negative_texts = negative_texts.expand(wanted, *self.text_shape)

        def repeated(vectors: Tensor) -> Tensor:
            return vectors.to(self._execution_device, torch.float32).repeat_interleave(repeats, 0)

        shown = repeated(given) if y_e is not None else self.embed_texts(repeated(given), s.generator)
        if negative_texts is None:
            return shown, None
        return shown, self.embed_texts(repeated(negative_texts), s.generator)

    def one_video(self, **options: Unpack[VideoOptions]) -> Settings:
        """`settings` of a use that makes one video."""
        s = self.settings(**options)
        check_generators(s.generator, 1)
        return s

    def picture(self, image: Picture, s: Settings, fit: Fit, background: str) -> Tensor:
        """(1, 1, 3, height, width)."""
        return self.to_tensor(read_picture(image, s.made, fit, background))

    def embed_clip(self, frames: Tensor | Iterable[np.ndarray]) -> Tensor:
        """Mean embedding of a clip's frames (1, d), of the usual length."""
        if not torch.is_tensor(frames):
            frames = torch.cat([self.to_tensor(frame)[0] for frame in frames])
        found = self.embed_pictures(frames)
        return self.lengthened(found.mean(0, keepdim=True), found.norm(dim=-1).mean())

    def mixed(self, y_e: Tensor, prompt: str | None, weight: float, s: Settings) -> Tensor:
        """A picture's embedding (1, d) with the prompt's mixed in."""
        if prompt is None or not prompt.strip() or weight == 0:
            return y_e
        meant = self.embed_prompts([prompt], s.generator)
        return self.lengthened(torch.lerp(y_e, meant, weight), torch.lerp(y_e.norm(), meant.norm(), weight))

    def lengthened(self, y_e: Tensor, length: Tensor) -> Tensor:
        """A mean of embeddings, as long as they are; of ours, that is always the same."""
        return F.normalize(y_e, dim=-1) * (length if is_unclip(self.prior_scheduler) else math.sqrt(y_e.shape[-1]))


setattr(
    diffusers, MakeAVideoPipeline.__name__, MakeAVideoPipeline
)  # where DiffusionPipeline looks for a folder's class
