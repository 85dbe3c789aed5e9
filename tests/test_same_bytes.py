"""The same seeds give the same bytes as when same_bytes.json was recorded: frames, files, weights after a few steps.
Where a change of them is meant: `pytest tests/test_same_bytes.py --record`, and commit the file with the change."""

import contextlib
import io
import json
import re
from pathlib import Path

import av
import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file

from conftest import one_thread, tiny_image_encoder
from makeavideo.inflation import VideoUNet
from makeavideo.media.formats import FORMATS
from makeavideo.media.inputs import open_video, read_picture, sample_frames
from makeavideo.media.reader import probe, read_recipe, read_video
from makeavideo.media.writer import write_video
from makeavideo.pipeline import MakeAVideoPipeline
from makeavideo.training.assemble import assemble
from makeavideo.training.recipe import Recipe
from makeavideo.training.trainer import train
from reference import Made, Reference, sha
from tiny_training import (
    RUNS,
    everything_of_the_decoder,
    make_resolver_data,
    papers_interpolator,
    recipe_of,
    resolver_recipe,
    settings,
)


@pytest.fixture(autouse=True, scope="module")
def alone():
    with one_thread():
        yield


@pytest.fixture(scope="module")
def reference(request, alone):
    anew = request.config.getoption("--record")
    if anew and hasattr(request.config, "workerinput"):
        raise pytest.UsageError("--record needs all records in one process: leave out -n")
    reference = Reference(anew)
    yield reference
    if anew and not request.session.testsfailed:
        reference.save()


# ---- frames of the five uses --------------------------------------------------------------------------------------

PICTURE = np.random.default_rng(0).integers(0, 256, (40, 60, 3), np.uint8)
CLIP = np.random.default_rng(1).integers(0, 256, (12, 40, 40, 3), np.uint8)
USES = {
    "generate": ("generate", ("a red cat",), {}),
    "generate 192": ("generate", ("a rocket",), {"size": 192, "num_frames": 7}),
    "generate negative": ("generate", (["a cat", "a blue rocket"], "red"), {"guidance_scale": 3.0, "num_frames": 4}),
    "generate long": ("generate", ("a rocket",), {"num_frames": 90, "fps": 30.0}),
    "loop": ("generate", ("a cat",), {"num_frames": 30, "loop": True}),
    "story": ("generate", ([("a rocket", 0.5), ("a cat", 0.75)],), {"num_frames": None, "output_type": "np"}),
    "animate": ("animate", (PICTURE, "a rocket"), {"size": 64}),
    "animate pad": ("animate", (PICTURE,), {"fit": "pad", "background": "#204060", "size": 192, "num_frames": 3}),
    "animate loop": ("animate", (PICTURE,), {"loop": True, "size": 64}),
    "interpolate": ("interpolate", (PICTURE, 255 - PICTURE), {"num_frames": 19, "size": 64}),
    "interpolate loop": ("interpolate", (PICTURE, 255 - PICTURE), {"num_frames": 20, "loop": True}),
    "vary": ("vary", (CLIP,), {"fps": 4.0, "num_frames": 6, "output_type": "stream"}),
    "extend": ("extend", (CLIP, "a cat"), {"num_frames": 12, "size": 64}),
    "extend loop": ("extend", (CLIP,), {"num_frames": 12, "loop": True}),
}


def loaded(folder: Path) -> MakeAVideoPipeline:
    pipe = MakeAVideoPipeline.load(folder, dtype="float32")  # whatever the machine is fast in
    pipe.set_progress_bar_config(disable=True)
    return pipe


@pytest.fixture(scope="module")
def pipe(tiny_model, alone):
    """Its layers over time start as the identity, its frame rate as nothing: moved, so that they count too."""
    pipe, generator = loaded(tiny_model), torch.Generator().manual_seed(0)
    for network in (pipe.decoder, pipe.interpolator, pipe.super_resolution_low, pipe.super_resolution_high):
        for _, parameter in sorted(network.named_parameters()):
            parameter.data += 0.03 * torch.randn(parameter.shape, generator=generator)
    return pipe


def frames_of(pipe: MakeAVideoPipeline, use: str, *inputs, seed: int = 0, **options) -> Made:
    """What a use makes; the digest in levels of 0 to 255."""
    generator = torch.Generator().manual_seed(seed)
    options = {"num_frames": 18, "size": 16, "num_inference_steps": 2, "output_type": "pt", **options}
    options = {key: x for key, x in options.items() if x is not None}
    frames = getattr(pipe, use)(*inputs, generator=generator, **options).frames
    if options["output_type"] == "stream":
        frames = (torch.cat(list(frames), 1) + 1) / 2
    return Made(sha(frames), np.asarray(frames) * 255)


@pytest.mark.parametrize("name", USES)
def test_frames(pipe, reference, name):
    use, inputs, options = USES[name]
    reference.check(f"frames of {name}", frames_of(pipe, use, *inputs, **options))


@pytest.mark.parametrize("change", [{"seed": 1}, {"num_frames": 19}, {"num_inference_steps": 3}, {"fps": 12.0}])
def test_another_seed_or_one_frame_more_is_seen(pipe, reference, change):
    if reference.anew:
        pytest.skip("nothing to compare with")
    assert_seen(reference, "frames of generate", frames_of(pipe, "generate", "a red cat", **change))


def assert_seen(reference: Reference, name: str, made: Made) -> None:
    """By the digest, and by the hash where one is known."""
    wrong = reference.differences(name, made)
    assert any(one.startswith("digest") for one in wrong), wrong
    known = name in reference.hashes.get(reference.keys[made.by], {})
    assert any(one.startswith("hash") for one in wrong) == known


# ---- files --------------------------------------------------------------------------------------------------------

RECIPE = {"prompt": "a red cät", "seed": 7, "story": [["a", 0.5]], "weights": None}


def drawing(count: int = 14, height: int = 48, width: int = 64) -> np.ndarray:
    """Slopes that drift, a square that moves and some texture, of whole numbers: uint8 (count, height, width, 3)."""
    t, y, x = np.meshgrid(np.arange(count), np.arange(height), np.arange(width), indexing="ij")
    frames = np.stack([4 * x + 3 * t, 255 - 5 * y, 2 * (x + y) + 5 * t], -1).clip(0, 255)
    frames[(abs(x - 3 * t - 8) < 6) & (abs(y - 20) < 6)] = (220, 40, 30)
    frames[:, :8] = np.random.default_rng(2).integers(100, 140, (8, width, 3))
    return frames.astype(np.uint8)


def read_back(path: Path, near: float = 1.0) -> Made:
    """A file's bytes, its frames and all that is said of it."""
    clip, info = read_video(path), probe(path)
    files = sorted(path.iterdir()) if path.is_dir() else [path]
    facts = {"info": [*info[:3], round(info.fps, 3), round(info.duration, 3), info.codec]}
    facts |= {"times": np.round(clip.times, 3).tolist(), "fps": round(clip.fps, 3)}
    facts |= {"recipes": [info.recipe, read_recipe(path)], "files": [file.name for file in files]}
    content = [part for file in files for part in (file.name, file.read_bytes())]
    return Made(sha(*content, clip.frames, clip.times), clip.frames, "files", near, facts=facts)


@pytest.mark.parametrize("ending", FORMATS)
def test_files(reference, tmp_path, ending):
    frames = drawing(1 if ending == ".png" else 14)
    write_video(tmp_path / f"clip{ending}", frames, 12.5, RECIPE)
    lossy = ending in (".mp4", ".webm", ".gif", ".webp")
    reference.check(f"file {ending or 'folder'}", read_back(tmp_path / f"clip{ending}", 8 if lossy else 1))


@pytest.mark.parametrize("ending", [".apng", ".mkv", ".mov"])
def test_files_that_are_only_read(reference, tmp_path, ending):
    path, frames = tmp_path / f"clip{ending}", drawing(6)
    if ending == ".apng":
        pictures = [Image.fromarray(frame) for frame in frames]
        pictures[0].save(path, format="PNG", save_all=True, append_images=pictures[1:], duration=[40, 80] * 3)
    else:
        with av.open(str(path), "w", options={"fflags": "+bitexact"}) as container:
            stream = container.add_stream("ffv1" if ending == ".mkv" else "png", rate=10)
            stream.width, stream.height, stream.pix_fmt = 64, 48, "bgr0" if ending == ".mkv" else "rgb24"
            for frame in frames:
                container.mux(stream.encode(av.VideoFrame.from_ndarray(frame).reformat(format=stream.pix_fmt)))
            container.mux(stream.encode())
    reference.check(f"file {ending}", read_back(path))


@pytest.fixture(scope="module")
def inputs(tmp_path_factory) -> Path:
    """Of each kind one: a turned photo, a picture that one can see through, a clip."""
    folder = tmp_path_factory.mktemp("inputs")
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.fromarray(drawing(1)[0]).save(folder / "turned.jpg", exif=exif, quality=95)
    clear = np.dstack([drawing(1)[0], np.arange(48 * 64).reshape(48, 64) % 256]).astype(np.uint8)
    Image.fromarray(clear).save(folder / "clear.png")
    write_video(folder / "clip.webp", drawing(), 12.5, RECIPE)
    write_video(folder / "clip.mp4", drawing(), 12.5, RECIPE)
    return folder


INPUTS = {
    "picture, turned": lambda folder: read_picture(folder / "turned.jpg"),
    "picture, cropped": lambda folder: read_picture(folder / "turned.jpg", 16),
    "picture, clear": lambda folder: read_picture(folder / "clear.png", 24, "pad", "#ff8000"),
    "video": lambda folder: np.stack(list(open_video(folder / "clip.mp4", 16))),
    "video at another rate": lambda folder: np.stack(list(open_video(folder / "clip.webp", 20, 8, "pad"))),
    "samples": lambda folder: sample_frames(folder / "clip.webp", 5, 16),
}


@pytest.mark.parametrize("name", INPUTS)
def test_inputs(reference, inputs, name):
    frames = INPUTS[name](inputs)
    reference.check(f"input {name}", Made(sha(frames), frames, "files", 6))


# ---- weights after a few steps ------------------------------------------------------------------------------------


def weights_of(final: Path, printed: str) -> Made:
    """All that a run exports. The digest looks at matrices and kernels: a bias may learn nothing but rounding."""
    parts, weights = [], []
    for file in sorted(final.rglob("*")):
        if file.name == "config.json":
            values = json.loads(file.read_text())
            parts.append(json.dumps({key: x for key, x in sorted(values.items()) if key[0] != "_"}))
        if file.suffix != ".safetensors":
            continue
        for key, tensor in sorted(load_file(file).items()):
            parts += [str(file.relative_to(final)), key, tensor]
            weights += [tensor.double().numpy().ravel()] if tensor.ndim > 1 else []
    losses = [float(x) for x in re.findall(r"step \d+ loss (\S+)", printed)]
    assert weights and len(losses) >= 2
    return Made(sha(*parts), np.concatenate(weights), near=2e-4, places=32, strays=3, losses=losses)


def quietly_trained(recipe: Recipe) -> Made:
    with contextlib.redirect_stdout(io.StringIO()) as out:
        final = train(recipe)
    return weights_of(final, out.getvalue())


@pytest.mark.xdist_group("stages")
@pytest.mark.parametrize("name", RUNS)
def test_weights_of_every_stage(cascade, reference, name):
    runs, printed = cascade
    reference.check(f"weights of {name}", weights_of(runs / name / "final", printed[name]))


@pytest.mark.xdist_group("stages")
def test_frames_of_the_trained_cascade(cascade, training_data, reference, tmp_path):
    """With super-resolution by diffusion, as in the paper."""
    pipe = loaded(assemble(cascade[0], tmp_path / "model", str(training_data / "text")))
    reference.check("frames of trained", frames_of(pipe, "generate", "a red cat", num_frames=3, size=192))


@pytest.mark.xdist_group("stages")
@pytest.mark.parametrize("name", ["sr-low-video", "interpolator", "clip-finish"])
def test_another_seed_of_training_is_seen(cascade, training_data, reference, tmp_path, name):
    if reference.anew:
        pytest.skip("nothing to compare with")
    recipe = recipe_of(settings(cascade[0], training_data, name), seed=4, output=str(tmp_path / "run"))
    assert_seen(reference, f"weights of {name}", quietly_trained(recipe))


@pytest.mark.xdist_group("same bytes")
def test_weights_of_all_that_the_decoder_learns_and_the_papers_interpolator(reference, tiny_model, tmp_path):
    values = everything_of_the_decoder(tmp_path)
    reference.check("weights of decoder-video, all of it", quietly_trained(recipe_of(values)))
    decoder = tmp_path / "run" / "final" / "decoder"
    recipe = papers_interpolator(values, decoder, tmp_path / "filler").model_copy(update={"log_every": 2})
    reference.check("weights of interpolator, the paper's", quietly_trained(recipe))
    pipe = loaded(tiny_model)
    pipe.decoder = VideoUNet.from_pretrained(decoder).float().eval()
    pipe.interpolator = VideoUNet.from_pretrained(tmp_path / "filler" / "final" / "interpolator").float().eval()
    reference.check("frames of all that D_t learns", frames_of(pipe, "generate", "a red cat", motion=0.5))


@pytest.mark.xdist_group("same bytes")
def test_weights_of_super_resolution_in_one_step(reference, tiny_model, tmp_path):
    """With a discriminator and the decoder's own frames; SR_l_t and SR_h from it."""
    data = make_resolver_data(tmp_path)
    torch.manual_seed(0)
    tiny_image_encoder().save_pretrained(tmp_path / "tower")
    own = {"crops": 2, "adversarial_weight": 0.1, "discriminator_width": 8}
    start = str(tmp_path / "low" / "final" / "super_resolution_low")
    low = {
        "data": {"roots": [str(data / "images")], "size": 64, "crop": 32},
        "image_encoder": str(tmp_path / "tower"),
        "super_resolution": {**own, "decoder": str(tiny_model / "decoder"), "cleaned_variants": 2},
    }
    video = {"init_from": start, "network": {}, "super_resolution": own}
    high = {"super_resolution": {"crops": 2, "super_resolution_low": start}}
    for name, changes in (("low-image", low), ("low-video", video), ("high-image", high)):
        recipe = resolver_recipe(data, tmp_path / name.removesuffix("-image"), f"sr-{name}", **changes)
        reference.check(f"weights of sr-{name}, one step", quietly_trained(recipe))


def test_everything_is_recorded_and_no_more(reference):
    """Names of what is not made any more leave the file too."""
    if reference.anew:
        pytest.skip("nothing to compare with")
    stages = {f"weights of {name}" for name in RUNS} | {"frames of trained", "frames of all that D_t learns"}
    others = {"weights of decoder-video, all of it", "weights of interpolator, the paper's"}
    others |= {f"weights of sr-{name}, one step" for name in ("low-image", "low-video", "high-image")}
    files = {f"file {ending or 'folder'}" for ending in (*FORMATS, ".apng", ".mkv", ".mov")}
    made = {f"frames of {name}" for name in USES} | {f"input {name}" for name in INPUTS} | stages | others | files
    assert set(reference.digests) == made
