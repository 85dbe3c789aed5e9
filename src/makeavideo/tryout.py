"""Components tried out while they are loaded: of some damage their libraries know nothing before they are used."""

from pathlib import Path
from typing import Any

import torch

from .errors import UserError, in_a_line
from .model_files import damaged


def try_out(scheduler: Any) -> None:
    """Two steps of nothing: a scheduler looks at most of its numbers only then. Raises whatever it raises."""
    scheduler.set_timesteps(2)
    sample = torch.full((1, 3, 4, 4), 0.5)
    for timestep in scheduler.timesteps:
        sample = scheduler.step(torch.full_like(sample, 0.25), timestep, sample).prev_sample
    if not sample.isfinite().all():
        raise UserError("its steps give no numbers")


def run_once(network: Any) -> None:
    """Two frames of nothing through a network without memory: some configs describe what is built and then cannot run.

    Networks of transformers look at their configs themselves.

    Raises:
        UserError: it cannot run, or what it gives is of another shape.
    """
    call = CALLS.get(type(network).__name__)
    if call is None:
        return
    try:
        with torch.no_grad(), torch.device("meta"):
            made, wanted = call(network.eval())
    except Exception as error:
        raise UserError(f"it cannot run, {in_a_line(error)}") from error
    if tuple(made.shape) != wanted:
        raise UserError(f"it cannot run, it gives {tuple(made.shape)} where {wanted} are wanted")


Called = tuple[torch.Tensor, tuple[int, ...]]
"""What a network made, and the shape that this should have."""


def embedding_length(network: Any) -> int:
    """Numbers of the y_e that D_t or F-up is told."""
    config = network.config
    return (config.conditioning or {}).get("dim") or config.unet_config.get("encoder_hid_dim") or 1


def video_unet(network: Any) -> Called:
    """D_t, F-up, or super-resolution by diffusion: the last one alone is told no image embedding."""
    config, unet = network.config, network.config.unet_config
    patch = config.space_to_depth
    side = patch * 2 ** len(unet["block_out_channels"])
    clip = torch.empty(1, 2, network.unet.conv_in.in_channels // patch**2, side, side)
    told: dict[str, Any] = {}
    if config.unet_class == "UNet2DConditionModel":
        told["added_cond_kwargs"] = {"image_embeds": torch.empty(1, embedding_length(network))}
    elif unet.get("class_embed_type") is not None:
        told["class_labels"] = torch.empty(1)
    made = network(clip, torch.empty(1), fps=torch.empty(1), own=True, **told).sample
    return made, (1, 2, network.out_channels, side, side)


def super_resolver(network: Any) -> Called:
    side, factor = 4 * network.config.patch, network.config.factor
    return network(torch.empty(1, 2, 3, side, side)), (1, 2, 3, factor * side, factor * side)


def prior(network: Any) -> Called:
    config, seen = network.config, {}
    numbers = config.embedding_dim
    if network.encoder_hidden_states_proj is not None:
        seen["encoder_hidden_states"] = torch.empty(1, config.num_embeddings, numbers)
    told = torch.empty(1, config.embedding_proj_dim or numbers)
    return network(torch.empty(1, numbers), torch.empty(1), told, **seen)[0], (1, config.clip_embed_dim or numbers)


def codec(network: Any) -> Called:
    side = 2 ** (len(network.config.block_out_channels) + 2)
    found = network.encode(torch.empty(1, 3, side, side))
    latents = found.latents if hasattr(found, "latents") else found.latent_dist.mode()
    whole = {"force_not_quantize": True} if hasattr(found, "latents") else {}
    return network.decode(latents, **whole).sample, (1, 3, side, side)


CALLS = {
    "VideoUNet": video_unet,
    "SuperResolver": super_resolver,
    "PriorTransformer": prior,
    "AutoencoderKL": codec,
    "VQModel": codec,
}


def load_tokenizer(component: Any, folder: Path) -> Any:
    """A tokenizer that has split texts of several lengths. Raises UserError, which names the file at fault."""
    try:
        tokenizer = component.from_pretrained(folder, local_files_only=True)
        if tokenizer.pad_token is None:
            damaged(folder / "tokenizer_config.json", "it names no pad_token")
        tokenizer(["a", "a a"], padding=True)
    except UserError:
        raise
    except BaseException as error:  # tokenizers panic too: of Rust's, no Exception, in no module
        if not isinstance(error, Exception) and type(error).__name__ != "PanicException":
            raise
        damaged(folder / file_at_fault(folder), in_a_line(error).rstrip("."))
    return tokenizer


def file_at_fault(folder: Path) -> str:
    """Which of a tokenizer's files cannot be used."""
    from tokenizers import Tokenizer

    words = folder / "tokenizer.json"
    try:
        if words.is_file():
            Tokenizer.from_file(str(words)).encode("a")
    except BaseException as error:
        if isinstance(error, KeyboardInterrupt):
            raise
        return words.name
    return "tokenizer_config.json"


def check_words(folder: Path, tokenizer: Any, known: int) -> None:
    """Raises UserError where a tokenizer's words are not those that its text encoder knows."""
    words, last = len(tokenizer), max(tokenizer.get_vocab().values(), default=-1)
    file = next((folder / name for name in ("tokenizer.json", "vocab.txt") if (folder / name).is_file()), folder)
    if not known - 128 < words <= known:  # some are padded to a round number
        damaged(file, f"it has {words} words, but the text encoder knows {known}")
    if last >= known:
        damaged(file, f"a word of it is number {last}, but the text encoder knows {known}")
