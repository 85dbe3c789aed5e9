"""What a recipe asks for and a stage cannot do, said before anything is loaded."""

from pathlib import Path

from ..errors import UserError
from ..model_files import codec_of
from ..shapes import Shape
from .recipe import Recipe

DIVIDED = ("decoder-image", "decoder-video", "interpolator", "sr-low-image", "sr-low-video", "sr-high-image")


def check_trainable(recipe: Recipe) -> None:
    """Refuse what a stage cannot train, or would ignore, before anything is loaded.

    Raises:
        UserError: with what to change in the recipe.
    """
    if not recipe.video and (recipe.temporal or recipe.train == "temporal"):
        key = "temporal" if recipe.temporal else "train"
        raise UserError(f"The network of {recipe.stage} has no temporal layers: take {key} out of the recipe.")
    if recipe.stage == "prior" and recipe.init_from is not None:
        raise UserError("The prior always begins from scratch: take init_from out of the recipe.")
    if recipe.stage != "prior" and recipe.data.embeddings is not None:
        raise UserError(f"Embeddings are for the prior, {recipe.stage} sees pixels: take data.embeddings out.")
    if recipe.init_from is not None and recipe.network:
        raise UserError("The recipe has network and init_from, which brings its own network: take one of them out.")
    if recipe.train == "temporal" and recipe.init_from is None:
        raise UserError("train: temporal would keep random spatial weights: add init_from, or set train to all.")
    if recipe.train == "path" and recipe.stage != "interpolator":
        raise UserError("train: path is for the interpolator, which has one: set train to all or temporal.")
    if recipe.train == "path" and recipe.guess == "none":
        raise UserError("train: path needs the path of guess: flow, the paper's F-up has none: set train to all.")
    if recipe.train == "text" and (recipe.stage != "clip" or recipe.init_from is None):
        raise UserError(
            "train: text keeps the image tower of a stage clip: add init_from to that recipe, or take it out."
        )
    if recipe.noise.bridge and not (recipe.stage == "decoder-video" and recipe.data.known_frames):
        raise UserError("noise.bridge leads from known frames, of decoder-video with data.known_frames: set it to 0.")
    if recipe.noise.bridge_levels[0] > recipe.noise.bridge_levels[1]:
        raise UserError("noise.bridge_levels has the larger level first: turn them around.")
    check_additions(recipe)
    check_buckets(recipe)
    check_divided(recipe)
    check_codec(recipe)


def check_codec(recipe: Recipe) -> None:
    """Refuse frames that a codec makes no whole latents of. Raises UserError."""
    if recipe.codec is None or not Path(recipe.codec).is_dir():
        return  # that there is none is said where it is loaded
    side = codec_of(Path(recipe.codec))[1]
    for shape in {recipe.data.shape, *map(tuple, recipe.data.shapes)}:
        if any(length % side for length in shape):
            key = "buckets" if recipe.data.buckets and shape != recipe.data.shape else "size"
            raise UserError(
                f"data.{key} {Shape(*shape).written} is not possible: the codec makes one latent of {side}x{side} "
                f"pixels: choose multiples of {side}."
            )


def check_additions(recipe: Recipe) -> None:
    """Refuse a LoRA, prompts or clips that are held out where a stage has no use for them. Raises UserError."""
    decoder = recipe.stage in ("decoder-image", "decoder-video")
    if recipe.lora_rank and not decoder:
        raise UserError(f"lora_rank is for the decoder's stages, not {recipe.stage}: take it out of the recipe.")
    if recipe.codec and not (decoder or recipe.stage == "interpolator"):
        raise UserError(f"codec is for decoder and interpolator, not {recipe.stage}: take it out of the recipe.")
    if recipe.codec and recipe.stage == "interpolator" and recipe.guess != "none":
        raise UserError("The guess is along the flow of pixels, and F-up of a codec's latents has none: guess: none.")
    if recipe.train == "lora" and not (recipe.lora_rank and recipe.init_from):
        raise UserError("train: lora needs init_from, a network that stays as it is, and lora_rank, such as 16.")
    if recipe.lora_rank and recipe.train not in ("lora", "temporal"):
        raise UserError("A LoRA stands in for training the spatial weights: set train to lora or temporal.")
    if recipe.prompts is not None and recipe.stage != "decoder-video":
        raise UserError(f"prompts are for decoder-video, not {recipe.stage}: take them out of the recipe.")
    if recipe.data.held_out and recipe.stage not in ("decoder-video", "interpolator"):
        raise UserError(f"data.held_out is for decoder-video and interpolator, not {recipe.stage}: take it out.")
    if recipe.pixel_channels and recipe.train in ("temporal", "lora"):
        raise UserError(f"train: {recipe.train} keeps a new path at full resolution at zero: take pixel_channels out.")


def check_buckets(recipe: Recipe) -> None:
    """Refuse buckets where they are of no use. Raises UserError."""
    buckets, stage = recipe.data.buckets, recipe.stage
    if not buckets:
        return
    if stage not in ("decoder-image", "decoder-video", "interpolator"):
        raise UserError(f"data.buckets is for decoder and interpolator, not {stage}: take it out of the recipe.")
    if recipe.data.moved_stills:
        raise UserError("data.moved_stills have the shape of data.size, not of data.buckets: take one of them out.")
    if recipe.data.crop is not None:
        raise UserError("data.buckets cut to their own shapes, and data.crop to another: take one of them out.")
    if len({height / width for height, width in buckets}) < len(buckets) or len(buckets) > 256:
        raise UserError("data.buckets has two of the same proportions, or more than 256: of these keep one.")


def check_divided(recipe: Recipe) -> None:
    """Refuse to divide what cannot be divided among processes. Raises UserError."""
    if not recipe.shard:
        return
    if recipe.stage not in DIVIDED or recipe.network.get("class") == "SuperResolver":
        raise UserError(f"shard is for diffusion UNets, and {recipe.stage} has a small network: take shard out.")
    if recipe.optim.kind != "adamw" or recipe.lora_rank:
        key = "lora_rank" if recipe.lora_rank else f"optim.kind {recipe.optim.kind}"
        raise UserError(f"shard cannot be combined with {key}: take one of them out of the recipe.")
