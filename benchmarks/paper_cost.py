"""What would the paper's sizes cost to train? Operations are counted on torch's device without memory.

    python benchmarks/paper_cost.py [RECIPES ...] [--gpus 64] [--peak 989] [--utilisation 0.35] [--json FILE]

The networks of recipes/paper are built and step once, forwards and backwards, under torch's counter: multiplications
and additions of convolutions, products and attention, each an operation; a frozen image tower is asked too. What is not
counted: normalisations, activations, the optimiser, frozen text encoders, samples in between. Days are arithmetic, not
measured: operations over `--peak` (TFLOP/s, the default an H100's dense bf16) times `--utilisation`, which is assumed.
"""

import argparse
import math
from pathlib import Path
from typing import Any

import torch
from torch.utils.flop_counter import FlopCounterMode

from makeavideo.encoders import TextProjection
from makeavideo.errors import UserError
from makeavideo.evaluation.results import one_sentence, save_benchmark
from makeavideo.filling import Masked
from makeavideo.inflation import inflate, widen_input
from makeavideo.training.networks import build, build_unet
from makeavideo.training.recipe import Recipe, load_recipe
from makeavideo.training.stages.clip import ImageTextNetwork

TEXT_DIM = 384
"""Numbers of a text's embedding, of the included text encoder."""
DAY = 86_400


def started_from(recipe: Recipe, all_recipes: list[Recipe]) -> Recipe:
    """The recipe whose network another one starts from."""
    for other in all_recipes:
        if recipe.init_from is not None and Path(recipe.init_from).is_relative_to(other.output):
            return other
    raise UserError(f"{recipe.init_from}, where {recipe.stage} starts from, is none of the recipes' output.")


def unet_of(recipe: Recipe, all_recipes: list[Recipe]) -> Any:
    """The network that a stage of diffusion trains."""
    if recipe.init_from is None:
        return build_unet(recipe, 6 if recipe.stage.startswith("sr") else 3)
    network = unet_of(started_from(recipe, all_recipes), all_recipes)
    if recipe.video and network.config.temporal == "none":
        network = inflate(network, recipe.temporal or "pseudo3d")
    return widen_input(network, Masked.extra_channels) if recipe.stage == "interpolator" else network


def tower_of(recipe: Recipe) -> Any:
    from transformers import CLIPVisionConfig, CLIPVisionModelWithProjection

    return CLIPVisionModelWithProjection(CLIPVisionConfig(image_size=recipe.data.shape[0], **recipe.network))


def asked(recipe: Recipe, all_recipes: list[Recipe], samples: int) -> tuple[Any, Any]:
    """(network, a call of it on so many samples that gives what it is trained on), both without memory."""
    from diffusers.models.transformers.prior_transformer import PriorTransformer

    clip = next(other for other in all_recipes if other.stage == "clip")
    dim, t = clip.network["projection_dim"], torch.empty(samples)
    if recipe.stage == "clip":
        pair: Any = ImageTextNetwork(tower_of(recipe), TextProjection(TEXT_DIM, dim))
        views = torch.empty(2 * samples, 3, *recipe.data.shape)
        return pair, lambda: torch.cat(pair(views, torch.empty(samples, TEXT_DIM))[:2])
    if recipe.stage == "prior":
        sizes = {"embedding_dim": dim, "embedding_proj_dim": TEXT_DIM, "num_embeddings": 0}
        prior = build(PriorTransformer, {**recipe.network, **sizes, "encoder_hid_proj_type": None})
        noisy, text = torch.empty(samples, dim), torch.empty(samples, TEXT_DIM)
        return prior, lambda: prior(noisy, t, proj_embedding=text).predicted_image_embedding
    network = unet_of(recipe, all_recipes)
    frames, channels = recipe.data.num_frames if recipe.video else 1, network.config.extra_channels
    channels += 6 if recipe.stage.startswith("sr") else 3
    x, fps = torch.empty(samples, frames, channels, *recipe.data.shape), t if recipe.video else None
    if recipe.stage.startswith("sr"):
        return network, lambda: network(x, t, fps=fps, class_labels=t).sample
    tower = tower_of(clip).requires_grad_(False)
    picture = torch.empty(samples, 3, *recipe.data.shape)

    def told() -> torch.Tensor:
        known = {"image_embeds": tower(pixel_values=picture).image_embeds}
        return network(x, t, fps=fps, encoder_hidden_states=None, added_cond_kwargs=known).sample

    return network, told


def count(recipe: Recipe, all_recipes: list[Recipe], samples: int = 1) -> dict[str, float]:
    """Weights, and operations of a sample's step; with gradient checkpointing all blocks are asked a second time."""
    with torch.device("meta"):
        network, ask = asked(recipe, all_recipes, samples)
        with FlopCounterMode(display=False) as forwards:
            made = ask()
        with FlopCounterMode(display=False) as backwards:
            made.float().sum().backward()
    once, back = forwards.get_total_flops() / samples, backwards.get_total_flops() / samples
    step = once * (2 if recipe.gradient_checkpointing else 1) + back
    size = sum(weight.numel() for weight in network.parameters())
    return {"weights": size, "forwards": once, "backwards": back, "step": step}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    own = Path(__file__).parents[1] / "recipes" / "paper"
    parser.add_argument("recipes", type=Path, nargs="*", help="of one cascade; none: all of recipes/paper")
    parser.add_argument("--gpus", type=int, default=64, help="processes, each of the recipe's batch_size")
    parser.add_argument("--peak", type=float, default=989.0, help="TFLOP/s of a GPU")
    parser.add_argument("--utilisation", type=float, default=0.35, help="part of the peak that is reached")
    parser.add_argument("--json", type=Path, help="write the figures")
    arguments = parser.parse_args()
    if not (arguments.gpus > 0 and arguments.peak > 0 and 0 < arguments.utilisation <= 1):
        raise UserError("--gpus and --peak must be above 0, --utilisation above 0 and at most 1.")
    recipes = [load_recipe(path) for path in arguments.recipes or sorted(own.glob("*.yaml"))]
    if not any(recipe.stage == "clip" for recipe in recipes):
        raise UserError("The recipes lack one of stage clip, whose image tower the others ask: name it too.")
    rate = arguments.peak * 1e12 * arguments.utilisation
    print(f"{'':16}{'weights':>10}{'a sample':>14}{'samples':>12}{'the run':>14}{'GPU-days':>10}")
    figures: dict[str, dict[str, float]] = {}
    for recipe in recipes:
        found = count(recipe, recipes)
        samples = recipe.steps * recipe.batch_size * recipe.gradient_accumulation * arguments.gpus
        found |= {"samples": samples, "run": samples * found["step"], "GPU-days": samples * found["step"] / rate / DAY}
        figures[recipe.stage] = found
        size, step = f"{found['weights'] / 1e6:,.0f} M", f"{found['step'] / 1e9:,.0f} GFLOP"
        run, days = f"{found['run']:.1e} FLOP", f"{found['GPU-days']:,.0f}"
        print(f"{recipe.stage:16}{size:>10}{step:>14}{samples / 1e6:>10,.0f} M{run:>14}{days:>10}", flush=True)
    whole = math.fsum(found["GPU-days"] for found in figures.values())
    days = whole / arguments.gpus
    print(f"all: {whole:,.0f} GPU-days, {days:,.0f} days of {arguments.gpus} GPUs; counted, not measured")
    if arguments.json:
        save_benchmark(arguments.json, "paper_cost", arguments, figures)


if __name__ == "__main__":
    one_sentence(main)
