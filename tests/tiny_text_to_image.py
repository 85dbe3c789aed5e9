"""Text-to-image pipelines of diffusers' own classes, tiny and random, saved as people have them."""

import json
from pathlib import Path

import torch
from diffusers import (
    AutoencoderKL,
    DDIMScheduler,
    DDPMScheduler,
    KandinskyV22Pipeline,
    KandinskyV22PriorPipeline,
    PriorTransformer,
    StableUnCLIPPipeline,
    UnCLIPScheduler,
    UNet2DConditionModel,
    UNet2DModel,
    VQModel,
)
from diffusers.pipelines.deprecated.unclip.pipeline_unclip import UnCLIPPipeline
from diffusers.pipelines.deprecated.unclip.text_proj import UnCLIPTextProjModel
from diffusers.pipelines.stable_diffusion.stable_unclip_image_normalizer import StableUnCLIPImageNormalizer
from transformers import (
    CLIPTextConfig,
    CLIPTextModel,
    CLIPTextModelWithProjection,
    CLIPTokenizer,
    CLIPVisionConfig,
    CLIPVisionModelWithProjection,
)

DIM, TOKENS = 16, 11
"""Of embeddings and of the states of words; and how many words a prompt has. With the four of the embedding they are
not as many as positions at any size, which diffusers takes for a mask of positions."""
TRANSFORMER = {"hidden_size": DIM, "intermediate_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2}
BLOCKS = {"block_out_channels": (32, 64), "layers_per_block": 1, "sample_size": 8, "norm_num_groups": 8}


def tokenizer(folder: Path) -> CLIPTokenizer:
    """CLIP's, of letters."""
    folder.mkdir(parents=True, exist_ok=True)
    letters = "abcdefghijklmnopqrstuvwxyz"
    words = ["<|startoftext|>", "<|endoftext|>", *letters, *(f"{letter}</w>" for letter in letters)]
    (folder / "vocab.json").write_text(json.dumps({word: number for number, word in enumerate(words)}))
    (folder / "merges.txt").write_text("#version: 0.2\n")
    return CLIPTokenizer.from_pretrained(folder, model_max_length=TOKENS)


def text_encoder() -> CLIPTextModelWithProjection:
    config = CLIPTextConfig(
        **TRANSFORMER,
        vocab_size=54,
        max_position_embeddings=TOKENS,
        projection_dim=DIM,
        bos_token_id=0,
        eos_token_id=1,
        pad_token_id=1,
    )
    return CLIPTextModelWithProjection(config)


def image_encoder() -> CLIPVisionModelWithProjection:
    return CLIPVisionModelWithProjection(
        CLIPVisionConfig(**TRANSFORMER, image_size=16, patch_size=8, projection_dim=DIM)
    )


def prior() -> PriorTransformer:
    made = PriorTransformer(
        num_attention_heads=2, attention_head_dim=8, num_layers=2, embedding_dim=DIM, num_embeddings=TOKENS
    )
    for weight in (made.clip_mean, made.positional_embedding, made.prd_embedding):
        torch.nn.init.normal_(weight, std=0.5)
    torch.nn.init.uniform_(made.clip_std, 0.5, 2.0)
    return made


def unclip_scheduler(**kwargs) -> UnCLIPScheduler:
    usual = {"variance_type": "fixed_small_log", "prediction_type": "sample", "clip_sample_range": 5.0}
    return UnCLIPScheduler(**{**usual, **kwargs})


UNCLIP_BLOCKS = {
    **BLOCKS,
    "down_block_types": ("ResnetDownsampleBlock2D", "SimpleCrossAttnDownBlock2D"),
    "mid_block_type": "UNetMidBlock2DSimpleCrossAttn",
    "up_block_types": ("SimpleCrossAttnUpBlock2D", "ResnetUpsampleBlock2D"),
    "resnet_time_scale_shift": "scale_shift",
    "attention_head_dim": 8,
    "cross_attention_dim": 24,
}
"""Kandinsky's and Karlo's."""


def kandinsky_unet() -> UNet2DConditionModel:
    """Names its variance too, in the last four of eight channels."""
    return UNet2DConditionModel(
        **UNCLIP_BLOCKS,
        in_channels=4,
        out_channels=8,
        addition_embed_type="image",
        encoder_hid_dim_type="image_proj",
        encoder_hid_dim=DIM,
    )


def movq() -> VQModel:
    return VQModel(
        block_out_channels=(32, 64),
        down_block_types=("DownEncoderBlock2D", "AttnDownEncoderBlock2D"),
        up_block_types=("AttnUpDecoderBlock2D", "UpDecoderBlock2D"),
        latent_channels=4,
        num_vq_embeddings=12,
        norm_type="spatial",
        vq_embed_dim=4,
        layers_per_block=1,
        norm_num_groups=8,
    )


def card(folder: Path, **fields) -> None:
    """A model card, as repositories on the hub have them."""
    lines = [f"{key}: {value}" for key, value in fields.items()]
    (folder / "README.md").write_text("\n".join(["---", *lines, "---", "# A model", ""]))


def kandinsky(folder: Path) -> tuple[KandinskyV22PriorPipeline, KandinskyV22Pipeline]:
    """Saved as folder/prior and folder/decoder, with the cards of the two repositories."""
    torch.manual_seed(0)
    first = KandinskyV22PriorPipeline(
        prior=prior(),
        image_encoder=image_encoder(),
        text_encoder=text_encoder(),
        tokenizer=tokenizer(folder / "words"),
        scheduler=unclip_scheduler(clip_sample_range=10.0),
        image_processor=None,
    )
    betas = {"beta_schedule": "linear", "beta_start": 0.00085, "beta_end": 0.012, "clip_sample": False}
    scheduler = DDPMScheduler(**betas, variance_type="learned_range")
    second = KandinskyV22Pipeline(kandinsky_unet(), scheduler, movq())
    for pipe, name in ((first, "prior"), (second, "decoder")):
        pipe.set_progress_bar_config(disable=True)
        pipe.save_pretrained(folder / name)
    card(folder / "prior", license="apache-2.0")
    card(folder / "decoder", license="apache-2.0", prior=folder / "prior")
    return first, second


def karlo_decoder() -> UNet2DConditionModel:
    """Told an embedding as class, and words; it names its variance too."""
    return UNet2DConditionModel(
        **UNCLIP_BLOCKS,
        in_channels=3,
        out_channels=6,
        class_embed_type="identity",
    )


def karlo_super_resolution() -> UNet2DModel:
    return UNet2DModel(
        **{**BLOCKS, "sample_size": 32},
        in_channels=6,
        out_channels=3,
        down_block_types=("ResnetDownsampleBlock2D",) * 2,
        up_block_types=("ResnetUpsampleBlock2D",) * 2,
        add_attention=False,
        resnet_time_scale_shift="scale_shift",
    )


def karlo(folder: Path) -> UnCLIPPipeline:
    """Saved as `folder`. It has no image tower: that is CLIP's, which is saved as folder/../tower."""
    torch.manual_seed(1)
    projection = UnCLIPTextProjModel(
        clip_extra_context_tokens=4, clip_embeddings_dim=DIM, time_embed_dim=128, cross_attention_dim=24
    )
    torch.nn.init.normal_(projection.learned_classifier_free_guidance_embeddings)
    pipe = UnCLIPPipeline(
        prior=prior(),
        decoder=karlo_decoder(),
        text_encoder=text_encoder(),
        tokenizer=tokenizer(folder.parent / "words"),
        text_proj=projection,
        super_res_first=karlo_super_resolution(),
        super_res_last=karlo_super_resolution(),
        prior_scheduler=unclip_scheduler(),
        decoder_scheduler=unclip_scheduler(
            variance_type="learned_range", prediction_type="epsilon", clip_sample_range=1.0
        ),
        super_res_scheduler=unclip_scheduler(prediction_type="epsilon", clip_sample_range=1.0),
    )
    pipe.set_progress_bar_config(disable=True)
    pipe.save_pretrained(folder)
    card(folder, license="creativeml-openrail-m")
    image_encoder().save_pretrained(folder.parent / "tower")
    return pipe


def stable_unclip(folder: Path) -> StableUnCLIPPipeline:
    """Saved as `folder`; of velocity, as Stable Diffusion 2.1 is."""
    torch.manual_seed(2)
    unet = UNet2DConditionModel(
        **{**BLOCKS, "norm_num_groups": 32},
        down_block_types=("CrossAttnDownBlock2D", "DownBlock2D"),
        up_block_types=("UpBlock2D", "CrossAttnUpBlock2D"),
        attention_head_dim=(2, 4),
        class_embed_type="projection",
        projection_class_embeddings_input_dim=2 * DIM,
        cross_attention_dim=DIM,
        use_linear_projection=True,
    )
    blocks = {"down_block_types": ("DownEncoderBlock2D",) * 2, "up_block_types": ("UpDecoderBlock2D",) * 2}
    normaliser = StableUnCLIPImageNormalizer(DIM)
    torch.nn.init.normal_(normaliser.mean)
    pipe = StableUnCLIPPipeline(
        prior_tokenizer=tokenizer(folder.parent / "words"),
        prior_text_encoder=text_encoder(),
        prior=prior(),
        prior_scheduler=DDPMScheduler(
            variance_type="fixed_small_log",
            prediction_type="sample",
            clip_sample=True,
            clip_sample_range=5.0,
            beta_schedule="squaredcos_cap_v2",
        ),
        image_normalizer=normaliser,
        image_noising_scheduler=DDPMScheduler(beta_schedule="squaredcos_cap_v2"),
        tokenizer=tokenizer(folder.parent / "words"),
        text_encoder=CLIPTextModel(text_encoder().config),
        unet=unet,
        scheduler=DDIMScheduler(
            beta_schedule="scaled_linear",
            beta_start=0.00085,
            beta_end=0.012,
            prediction_type="v_prediction",
            clip_sample=False,
            steps_offset=1,
        ),
        vae=AutoencoderKL(block_out_channels=(32, 64), latent_channels=4, **blocks),
    )
    pipe.set_progress_bar_config(disable=True)
    pipe.save_pretrained(folder)
    card(folder, license="openrail++")
    return pipe
