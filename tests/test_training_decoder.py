"""What the decoder learns beside pictures and clips: known frames, strength of motion, guidance, sharp edges."""

import shutil

import pytest
import torch
from safetensors.torch import load_file
from torch.nn.functional import mse_loss

from conftest import tiny_decoder
from makeavideo import UserError
from makeavideo.decoding import Decoding
from makeavideo.inflation import VideoUNet, add_motion, inflate, remove_pixel_path
from makeavideo.motion import change, clip_strength, usual_change
from makeavideo.pipeline import MakeAVideoPipeline
from makeavideo.sampling import frame_noise
from makeavideo.training.batches import Batches, on_device
from makeavideo.training.checkpoints import checkpoints
from makeavideo.training.looks import other_looks
from makeavideo.training.losses import gradient_loss, weighted_loss
from makeavideo.training.masks import draw_masks
from makeavideo.training.moved import moved
from makeavideo.training.optimizer import Muon, is_hidden, make_optimizer, orthogonalised
from makeavideo.training.recipe import OptimRecipe
from makeavideo.training.refusals import check_trainable
from makeavideo.training.stages import STAGES
from makeavideo.training.trainer import train
from tiny_training import SIZE, everything_of_the_decoder, papers_interpolator, recipe_of


@pytest.fixture(scope="module")
def values(tmp_path_factory) -> dict:
    return everything_of_the_decoder(tmp_path_factory.mktemp("decoder"))


def stage_of(values: dict, **changes):
    torch.manual_seed(0)
    return STAGES["decoder-video"](recipe_of(values, **changes), torch.device("cpu"))


@pytest.fixture(scope="module")
def trained(values):
    return train(recipe_of(values, sample_every=0)) / "decoder"


def test_it_starts_as_the_network_it_starts_from(values):
    start, stage = VideoUNet.from_pretrained(values["init_from"]), stage_of(values)
    x, y_e = torch.randn(2, 4, 3, SIZE, SIZE), {"added_cond_kwargs": {"image_embeds": torch.randn(2, 8)}}
    rates, motion = torch.tensor([5.0, 12.0]), torch.tensor([0.5, 2.0])
    with torch.no_grad():
        expected = start(x, 300, **y_e).sample
        made = stage.network(x, 300, fps=rates, motion=motion, **y_e).sample
    torch.testing.assert_close(made, expected, atol=1e-4, rtol=0)


def test_its_settings_are_kept_with_its_weights(trained):
    config = VideoUNet.from_pretrained(trained).config
    assert (config.pixel_channels, config.pixel_modulated, config.guidance) == (8, True, 2.0)
    assert (config.shared_noise, config.known_frames) == (0.5, True)
    scale, exponent = config.motion
    assert scale > 0 and 0 <= exponent <= 1


def test_every_weight_learns_and_the_loss_falls(values):
    stage = stage_of(values, condition_dropout=0.0, guidance=1.0)
    optimizer = make_optimizer(stage.network, stage.parameter_groups(), stage.recipe.optim, fused=False)
    keys = [(i % len(stage.dataset), i, 0.5) for i in range(3)]
    batch = on_device(Batches(stage.dataset, [keys], stage.complete)[0], torch.device("cpu"))
    losses = []
    for _ in range(6):
        loss = stage.loss(stage.network, dict(batch), torch.Generator().manual_seed(1))
        optimizer.zero_grad()
        loss.backward()
        assert all(p.grad is not None for p in stage.network.parameters())
        optimizer.step()
        losses.append(loss.item())
    assert losses[-1] < 0.6 * losses[0], losses


def test_a_run_that_goes_on_is_the_same_run(values, tmp_path):
    recipe = recipe_of(values, output=str(tmp_path), checkpoint_steps=2, sample_every=0)
    file = train(recipe) / "decoder" / "diffusion_pytorch_model.safetensors"
    whole = load_file(file)
    for path in (checkpoints(tmp_path)[-1], tmp_path / "final"):
        shutil.rmtree(path)
    train(recipe, resume=True)
    again = load_file(file)
    assert all(torch.equal(whole[name], again[name]) for name in whole)


def test_known_frames_are_clean_and_count_nothing(values):
    data = {key: x for key, x in values["data"].items() if not key.startswith("still")}
    data |= {"known_frames": 1.0, "other_looks": 0.0}
    stage = stage_of(values, condition_dropout=0.0, guidance=1.0, data=data)
    seen = {}

    def spy(sample, timestep, **_):
        seen.update(x=sample, t=timestep)
        return type("Output", (), {"sample": sample + wrong})

    batch = on_device(Batches(stage.dataset, [[(1, i, 0.5) for i in range(3)]], stage.complete)[0], torch.device("cpu"))
    x = batch["pixels"]
    wrong = torch.zeros_like(x)
    first = stage.loss(spy, dict(batch), torch.Generator().manual_seed(2))
    known = seen["t"] == 0
    assert torch.equal(known, batch["known"] == 1)
    assert known.any(1).all() and not known.all(1).any()
    torch.testing.assert_close(seen["x"][known], x[known])
    assert ((seen["x"] - x)[~known].abs().flatten(1).amax(1) > 1e-3).all()
    levels = [clip[~row].unique() for clip, row in zip(seen["t"], known, strict=True)]
    assert all(len(level) == 1 for level in levels)  # the others share one level
    wrong[known] = 9.0  # whatever is said of known frames
    assert torch.equal(stage.loss(spy, dict(batch), torch.Generator().manual_seed(2)), first)


def test_other_looks_change_all_frames_of_a_clip_alike_and_nothing_else():
    still = torch.full((6, 1, 3, 32, 32), 1.0)
    still[:, :, 0, 10:20, 8:22] = -0.5
    clips = still.expand(-1, 4, -1, -1, -1)
    changed = other_looks(clips, torch.Generator().manual_seed(0))
    assert torch.equal(changed, other_looks(clips, torch.Generator().manual_seed(0)))
    assert changed.shape == clips.shape
    assert changed.abs().max() <= 1
    torch.testing.assert_close(changed, changed[:, :1].expand_as(changed))  # what stands still stands still
    torch.testing.assert_close(changed[:, :, :, 0], torch.ones_like(changed[:, :, :, 0]))  # white around it
    assert ((changed - clips).abs().flatten(1).amax(1) > 0.1).all()
    assert (changed[0] - changed[1]).abs().max() > 0.1  # each clip in its own way


def test_a_grey_clip_keeps_its_hue():
    grey = torch.linspace(-1, 1, 32).expand(4, 2, 3, 32, 32)
    changed = other_looks(grey, torch.Generator().manual_seed(1))
    torch.testing.assert_close(changed[:, :, :1].expand_as(changed), changed, atol=1e-4, rtol=0)


def test_clips_of_another_look_have_a_known_frame_and_half_of_their_meanings(values):
    stage = stage_of(values, data=values["data"] | {"other_looks": 1.0})
    x = torch.rand(64, 4, 3, SIZE, SIZE) * 2 - 1
    wanted = torch.ones(64, 4)
    wanted[:32, 0] = 0
    changed, seen = stage.other_looks(x, wanted, torch.Generator().manual_seed(0))
    assert torch.equal(changed[32:], x[32:])
    assert not any(torch.equal(a, b) for a, b in zip(changed[:32], x, strict=False))
    own = [torch.equal(a, b) for a, b in zip(seen[:32], changed[:32], strict=True)]
    assert 6 < sum(own) < 26
    assert all(torch.equal(s, c if o else k) for s, c, k, o in zip(seen[:32], changed, x, own, strict=False))


def test_guidance_settles_at_its_scale(values):
    """A network whose answer is moved to its target, again and again, ends at null + scale * (true - null)."""
    stage = stage_of(values, condition_dropout=0.0, guidance=2.0)
    x, null = torch.rand(2, 1, 3, SIZE, SIZE), torch.full((2, 1, 3, SIZE, SIZE), 0.2)
    conditions = stage.conditioner.some(x, torch.zeros(2), torch.Generator().manual_seed(0))
    conditions.dropped[1] = True

    def without(sample, timestep, added_cond_kwargs, **_):
        assert not added_cond_kwargs["image_embeds"].any()
        return type("Output", (), {"sample": null})

    answer = x.clone()
    for _ in range(60):
        answer = stage.guided(without, x, answer, x, torch.tensor([0.5, 0.5]), conditions, torch.zeros(2))
    torch.testing.assert_close(answer[0], null[0] + 2 * (x[0] - null[0]))
    assert torch.equal(answer[1], x[1])  # what is shown without y_e stays what it was


@pytest.mark.parametrize("frame_guidance", [1.0, 2.0])
def test_guidance_leads_away_from_what_is_said_without_known_frames_where_there_are_some(values, frame_guidance):
    data = {key: x for key, x in values["data"].items() if not key.startswith("still")}
    data |= {"known_frames": 0.5, "other_looks": 0.0}
    stage = stage_of(values, condition_dropout=0.0, guidance=2.0, frame_guidance=frame_guidance, data=data)
    known = torch.tensor([[1.0, 0, 0, 0], [0, 0, 0, 0]])
    x, calls = torch.rand(2, 4, 3, SIZE, SIZE) * 2 - 1, []

    def answers(sample, timestep, added_cond_kwargs, **_):
        """The truth; off by a tenth without y_e, by a fifth where a frame is known and not shown."""
        meant = added_cond_kwargs["image_embeds"].any(1)
        shown = (timestep.reshape(2, -1) == 0).any(1)
        calls.append((meant.tolist(), shown.tolist()))
        off = torch.where(meant, 0.0, 0.1) + torch.where(given.any(1) & ~shown, 0.2, 0.0)
        return type("Output", (), {"sample": (x + off.view(2, 1, 1, 1, 1)).clone().requires_grad_()})

    losses = []
    for given in (known, known[:1].expand(2, -1), torch.zeros(2, 4)):
        generator = torch.Generator().manual_seed(0)
        losses.append(stage.clip_loss(answers, x, torch.full((2,), 8.0), generator, given if given.any() else None))
    assert losses[0] > 0 and (losses[1] > 0) == (frame_guidance > 1) and losses[2] > 0
    assert frame_guidance > 1 or losses[2] > losses[0]
    # processes that share a divided network call it equally often
    assert calls[:2] == [([True, True], [True, False]), ([True, False], [False, False])]
    assert calls[2:4] == [([True, True], [True, True]), ([True, True], [False, False])]
    assert calls[4:] == [([True, True], [False, False]), ([False, False], [False, False])]
    assert stage.network.config.frame_guidance == frame_guidance
    # of two frames a window is continued: nothing is trained in
    given = torch.tensor([[1.0, 1, 0, 0]]).expand(2, -1)
    assert stage.clip_loss(answers, x, torch.full((2,), 8.0), torch.Generator().manual_seed(0), given) == 0


def test_moved_pictures_keep_all_that_is_seen():
    picture = torch.ones(3, 3, 64, 64)
    picture[:, 0, 16:44, 20:40], picture[:, 1, 24:30, 24:30] = -0.5, -1.0
    rates = torch.tensor([8.0, 8.0, 1e6], dtype=torch.float64)
    clips = moved(picture, rates, 16, torch.Generator().manual_seed(4))
    assert clips.shape == (3, 16, 3, 32, 32) and clips.dtype == torch.float32
    assert torch.equal(clips, moved(picture, rates, 16, torch.Generator().manual_seed(4)))
    assert clips.abs().max() <= 1 + 1e-5
    torch.testing.assert_close(clips[..., 0, :], torch.ones_like(clips[..., 0, :]))  # white comes in from outside
    change = clips.diff(dim=1).abs().flatten(1).mean(1)
    assert (change[:2] > 1e-3).all() and change[2] < 1e-4  # a swing takes its time, whatever the frame rate
    assert (clips[0] - clips[1]).abs().max() > 0.1
    assert (clips[:, :, 1].flatten(2).amin(2) < -0.5).all()  # the small part is in every frame


def test_moved_pictures_take_the_place_of_clips(values, training_data):
    data = {key: x for key, x in values["data"].items() if not key.startswith("still")}
    data |= {"moved_stills": [str(training_data / "images")], "moved_share": 1.0, "known_frames": 0.0}
    stage = stage_of(values, guidance=1.0, data=data)
    seen = []
    stage.clip_loss = lambda network, x, *_: seen.append(x)
    batch = on_device(Batches(stage.dataset, [[(1, i, 0.5) for i in range(3)]], stage.complete)[0], torch.device("cpu"))
    assert batch["moving"].shape == (3, 1, 2 * SIZE, 2 * SIZE, 3)
    stage.loss(None, dict(batch), torch.Generator().manual_seed(2))
    assert seen[0].shape == batch["pixels"].shape and not torch.equal(seen[0], batch["pixels"])
    with pytest.raises(UserError, match="moved_stills have the shape of"):
        check_trainable(
            stage.recipe.model_copy(update={"data": stage.recipe.data.model_copy(update={"buckets": [(8, 8)]})})
        )


def test_losses_of_frames():
    x = torch.randn(2, 3, 3, 8, 8)
    off = x + 0.1
    level = torch.tensor([0.5, 0.2])
    expected = (0.01 / level**2).mean()
    torch.testing.assert_close(weighted_loss(off, x, level, 0.1), expected)
    torch.testing.assert_close(weighted_loss(off, x, level[:, None].expand(2, 3), 0.1), expected)
    wanted = torch.tensor([[1.0, 0, 0], [0, 0, 0]])
    torch.testing.assert_close(weighted_loss(off, x, level, 0.1, wanted), torch.tensor(0.04))
    assert gradient_loss(off, x, level, 0.1) < 1e-5  # a shift of all pixels changes no edge
    blurred = x.roll(1, -1)
    torch.testing.assert_close(
        gradient_loss(blurred, x, torch.full((2,), 0.5), 0.1),
        2 * sum((blurred - x).diff(dim=d).abs().mean() for d in (-1, -2)),
    )
    assert gradient_loss(blurred, x, torch.full((2,), 0.9), 0.1) == 0


def test_strength_of_motion():
    generator = torch.Generator().manual_seed(0)
    rates = torch.tensor([2.0, 4.0, 8.0, 16.0, 30.0])
    clips = torch.stack([torch.randn(40, 3, 4, 4, generator=generator).cumsum(0) * rate**-0.6 for rate in rates])
    changes = change(clips)
    usual = usual_change(changes.tolist(), rates.tolist())
    assert usual[1] == pytest.approx(0.6, abs=0.05)
    strengths = clip_strength(clips, rates, usual)
    assert strengths.mean().item() == pytest.approx(1, abs=0.01) and strengths.std() < 0.1
    still = clips[:, :1].expand(-1, 40, -1, -1, -1)
    assert (clip_strength(still, rates, usual) == 0).all() and (clip_strength(clips[:, :1], rates, usual) == -1).all()
    assert usual_change([0.0], [5.0])[0] > 0  # a folder in which nothing moves


@pytest.mark.parametrize("shared", [0.0, 0.3, 1.0])
def test_noise_that_frames_share(shared):
    noise = frame_noise((4, 6, 3, 32, 32), torch.Generator().manual_seed(0), shared)
    assert noise.var().item() == pytest.approx(1, abs=0.03)
    assert (noise[:, 0] * noise[:, 1]).mean().item() == pytest.approx(shared, abs=0.03)


def test_masks_leave_something_to_make():
    masks = draw_masks(300, 16, torch.Generator().manual_seed(0))
    assert (masks.sum(1) >= 1).all() and (masks.sum(1) < 16).all()
    assert (masks[:, 0] == 1).float().mean() > 0.5


def test_muon_is_torchs_own():
    """On matrices, against torch.optim.Muon; a kernel moves as its matrix does."""
    torch.manual_seed(0)
    start, goal = torch.randn(6, 10), torch.randn(6, 10)
    ours, theirs = (torch.nn.Parameter(start.clone()) for _ in range(2))
    kernel = torch.nn.Parameter(start.reshape(6, 5, 1, 2).clone())
    settings = {"lr": 0.01, "weight_decay": 0.1}
    mine = Muon([{"params": [ours, kernel], "muon": True}], **settings)
    other = torch.optim.Muon([theirs], momentum=0.95, adjust_lr_fn="match_rms_adamw", **settings)
    for _ in range(5):
        for optimizer, parameters in ((mine, (ours, kernel)), (other, (theirs,))):
            optimizer.zero_grad()
            sum(mse_loss(p.reshape(6, 10), goal) for p in parameters).backward()
            optimizer.step()
    # torch's works in bfloat16
    torch.testing.assert_close(ours, theirs, atol=2e-3, rtol=0)
    assert (ours - start).abs().max() > 0.02
    singular = torch.linalg.svdvals(orthogonalised(torch.randn(8, 20)))
    assert singular.min() > 0.5 and singular.max() < 1.3


def test_muon_moves_what_is_hidden_and_adamw_the_ends(values):
    stage = stage_of(values)
    optimizer = make_optimizer(stage.network, stage.parameter_groups(), OptimRecipe(kind="muon"), fused=False)
    names = {id(p): name for name, p in stage.network.named_parameters()}
    hidden = {names[id(p)] for group in optimizer.param_groups if group["muon"] for p in group["params"]}
    assert "mid_block.resnets.0.conv1.weight" in hidden and "mid_block.attentions.0.to_q.weight" in hidden
    assert not any(name.startswith(("conv_in", "conv_out", "time_embedding", "pixel")) for name in hidden)
    grouped = [p for group in optimizer.param_groups for p in group["params"]]
    assert {id(p) for p in grouped} == set(names) and len(grouped) == len(names)
    assert not is_hidden("mid_block.resnets.0.norm1.weight", torch.zeros(8))


@pytest.fixture
def pipe(tiny_model, trained) -> MakeAVideoPipeline:
    pipe = MakeAVideoPipeline.load(tiny_model)
    pipe.set_progress_bar_config(disable=True)
    pipe.decoder = VideoUNet.from_pretrained(trained).float().eval()
    return pipe


def test_a_clip_begins_with_its_picture(pipe):
    how = Decoding(8, 3, 2.0, 1.0, torch.Generator().manual_seed(0))
    with torch.no_grad():
        y_e = pipe.embed_prompts(["a red cat"], torch.Generator().manual_seed(0))
        still = pipe.draw_still(y_e, how)
        how = Decoding(8, 3, 2.0, 1.0, torch.Generator().manual_seed(0))
        clip = pipe.grow(y_e, 5, how)
        assert clip.shape == (1, 5, 3, SIZE, SIZE)
        torch.testing.assert_close(clip[:, :1], still)
        given, mask = torch.rand(1, 5, 3, SIZE, SIZE), torch.tensor([[1.0, 1, 0, 0, 1]])
        made = pipe.extrapolate(given, mask, y_e[:, None].expand(-1, 5, -1), how)
    torch.testing.assert_close(made[mask > 0], given[mask > 0])
    assert (made - given)[mask == 0].abs().mean() > 1e-3


@pytest.mark.parametrize("guidance, calls", [(2.0, 1), (1.0, 2), (4.0, 2)])
def test_trained_guidance_needs_no_second_evaluation(pipe, guidance, calls):
    count = []
    forward = pipe.decoder.forward
    pipe.decoder.forward = lambda *args, **kwargs: (count.append(1), forward(*args, **kwargs))[1]
    with torch.no_grad():
        pipe.decode(torch.randn(1, 8), 3, Decoding(8, 4, guidance))
    assert len(count) == 4 * calls


def test_motion_is_told_to_the_decoder(pipe):
    options = {"num_frames": 4, "size": SIZE, "num_inference_steps": 2, "output_type": "pt"}
    pipe.decoder.time_embedding.motion["temporal"].linear_2.weight.data.normal_()

    def video(**more):
        return pipe("a red cat", generator=torch.Generator().manual_seed(0), **options, **more).frames

    assert torch.equal(video(), video(motion=1.0))
    assert not torch.equal(video(motion=0.2), video(motion=2.0))
    with pytest.raises(UserError, match="--motion 3 is not possible"):
        video(motion=3.0)


def test_a_model_without_motion_says_so(tiny_model):
    pipe = MakeAVideoPipeline.load(tiny_model)
    with pytest.raises(UserError, match="leave out --motion"):
        pipe("a cat", motion=1.0)


def test_the_papers_interpolator(values, trained, tiny_model, tmp_path):
    """Masked frames and the mask on four more channels; it starts as D_t, is diffused, and keeps what is given."""
    recipe = papers_interpolator(values, trained, tmp_path)
    stage = STAGES["interpolator"](recipe, torch.device("cpu"))
    decoder = remove_pixel_path(VideoUNet.from_pretrained(trained).float())
    x, rest = torch.randn(1, 4, 3, SIZE, SIZE), torch.randn(1, 4, 4, SIZE, SIZE)
    y_e = {"added_cond_kwargs": {"image_embeds": torch.randn(1, 8)}}
    with torch.no_grad():
        expected = decoder(x, 300, torch.tensor([8.0]), **y_e).sample
        made = stage.network(torch.cat([x, rest], 2), 300, torch.tensor([8.0]), **y_e).sample
    torch.testing.assert_close(made, expected, atol=1e-4, rtol=0)

    pipe = MakeAVideoPipeline.load(tiny_model)
    pipe.set_progress_bar_config(disable=True)
    pipe.interpolator = VideoUNet.from_pretrained(train(recipe) / "interpolator").float().eval()
    assert pipe.interpolator.config.extra_channels == 4
    keys, y_e = torch.rand(1, 3, 3, SIZE, SIZE), torch.randn(1, 3, 8)
    with torch.no_grad():
        videos = [
            pipe.fill_between(keys, 5, y_e, Decoding(24, 3, 1.0, generator=torch.Generator().manual_seed(seed)))
            for seed in (0, 0, 1)
        ]
    assert videos[0].shape[1] == 11 and torch.equal(videos[0], videos[1])
    torch.testing.assert_close(videos[0][:, ::5], keys)
    assert not torch.equal(videos[0][:, 1], videos[2][:, 1])
    with pytest.raises(UserError, match="4 extra channels and guess: flow needs 5"):
        STAGES["interpolator"](
            recipe.model_copy(update={"guess": "flow", "init_from": str(tmp_path / "final" / "interpolator")}),
            torch.device("cpu"),
        )


def test_motion_can_be_added_once_more_to_a_saved_network(tmp_path):
    network = add_motion(inflate(tiny_decoder(), space_to_depth=4), (0.1, 0.5))
    network.save_pretrained(tmp_path)
    assert "motion" in VideoUNet.from_pretrained(tmp_path).time_embedding._modules
