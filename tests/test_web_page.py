"""The studio's page in a real browser; what is slow has the trained weights."""

import re

import pytest
from PIL import Image

from makeavideo.media.reader import probe, read_recipe, read_video
from makeavideo.web.gallery import Gallery
from studio_page import MARKUP, NAMES, clip, drop, person, quick, real_weights, studio


@real_weights
def test_generate_watch_download_and_restore(browser, site, tmp_path):
    url, folder = site
    with person(browser, url) as ada:
        page = ada.page
        ada.make("generate")
        ada.said("The prompt is empty")
        ada.page.locator("#generate-prompt textarea").fill(MARKUP)
        ada.settings("generate", seconds=2, fps=10, steps=4)
        page.locator("#generate-dice").click()
        page.get_by_label("Loop").first.check()
        ada.make("generate")
        seen = []
        while not page.locator("#view .card").count():
            shown = page.evaluate("document.querySelector('#view [data-version]')?.dataset.version")
            if shown and shown not in seen:
                seen.append(shown)
                text = page.inner_text("#progress")
                assert re.search(r"\d+ %", text), text
            page.wait_for_timeout(50)
        assert seen[0] == "sketch" and len(seen) >= 2, seen
        ada.said("Your video is ready.")
        name = ada.result()
        info = probe(folder / name)
        assert (info.num_frames, info.width, info.recipe["prompt"], info.recipe["loop"]) == (20, 64, MARKUP, True)
        # markup is text, in the title and in the gallery
        assert page.locator("#view .card .title").inner_text() == MARKUP
        assert page.locator("#gallery .card .title").first.inner_text() == MARKUP
        assert page.locator(".card b, .card img").count() == 0
        page.locator("#view video").scroll_into_view_if_needed()  # it plays where it is looked at
        page.wait_for_function(
            "document.querySelector('#view video').loop && document.querySelector('#view video').currentTime > 0",
            polling=250,  # not with the frames that the browser draws, which may be none
        )
        files = {}
        for ending in ("mp4", "webm", "gif", "webp"):
            with page.expect_download() as download:
                page.locator("#view .card").get_by_role("link", name=ending, exact=True).click()
            files[ending] = tmp_path / f"made.{ending}"
            download.value.save_as(files[ending])
            assert read_recipe(files[ending]) == info.recipe

        # a fresh page; dropping the file brings everything back, and the same video
        page.reload()
        page.get_by_role("tab", name="Animate").click()
        drop(page, files["gif"])
        ada.said("The settings are as they were.")
        assert page.get_by_role("tab", name="Generate").get_attribute("aria-selected") == "true"
        panel = ada.panel("generate")
        assert page.locator("#generate-prompt textarea").input_value() == MARKUP
        assert panel.get_by_label("Seed").input_value() == str(info.recipe["seed"])
        assert panel.get_by_label("Length in seconds").input_value() == "2"
        assert panel.get_by_label("Frames a second").input_value() == "10"
        assert panel.get_by_label("Loop").is_checked() and panel.get_by_label("64 (quick)").is_checked()
        ada.make("generate")
        ada.said("Your video is ready.")
        again = ada.result()
        assert again != name and (folder / again).read_bytes() == (folder / name).read_bytes()
        names = page.eval_on_selector_all("#gallery .card", "all => all.map(one => one.dataset.item)")
        assert names[:2] == [again, name], "newest first"


@real_weights
def test_stop_keeps_the_best_version(browser, site):
    url, folder = site
    with person(browser, url) as ada:
        ada.page.locator("#generate-prompt textarea").fill("a rocket")
        ada.settings("generate", seconds=3, fps=24, steps=16, size="256")
        ada.make("generate")
        ada.page.locator("#progress").get_by_text("Adding detail").wait_for(timeout=600_000)
        ada.page.get_by_role("button", name="Stop").click()
        ada.said("Stopped: the best version so far is kept.")
        info = probe(folder / ada.result())
        assert (info.num_frames, info.width, info.fps) == (72, 64, 24)
        assert info.recipe["size"] == 256, "its settings make the whole video"
        ada.page.locator("#view .card").get_by_text("stopped early").wait_for()


@real_weights
def test_animate_an_upload_then_go_on_from_the_gallery(browser, site, tmp_path):
    url, folder = site
    picture = tmp_path / "Ball <i>.png"
    Image.fromarray(read_video(clip(tmp_path / "x.mp4")).frames[0]).save(picture)
    with person(browser, url) as ada:
        page = ada.page
        ada.tab("Animate")
        ada.make("animate")
        ada.said("The picture is missing")
        bad = tmp_path / "bad.png"
        bad.write_text("no picture")
        page.locator("#animate-image input[type=file]").set_input_files(bad)
        ada.said("bad.png is not a picture")
        page.locator("#animate-image input[type=file]").set_input_files(picture)
        page.locator("#animate-image-look img").wait_for()
        ada.settings("animate")
        ada.make("animate")
        ada.said("Your video is ready.")
        first = ada.result()
        assert page.locator("#view .card .title i").count() == 0
        info = probe(folder / first)
        assert info.recipe["use"] == "animate" and info.num_frames == 16

        card = page.locator(f"#gallery .card[data-item='{first}']")
        card.get_by_role("button", name="Continue this").click()
        ada.said("Taken into Continue")
        ada.settings("extend", seconds=1)
        ada.make("extend")
        ada.said("Your video is ready.")
        longer = ada.result()
        assert probe(folder / longer).num_frames == 16 + 8
        assert probe(folder / longer).recipe["studio"]["video"]["name"] == first

        card.get_by_role("button", name="Vary this").click()
        ada.said("Taken into Vary")
        page.locator("#vary-video-look video").wait_for()
        card.get_by_role("button", name="Animate this frame").click()
        ada.said("Taken into Animate")
        page.locator("#animate-image-look").get_by_text(" s.png").wait_for()
        # and back to the exact settings, the picture included
        card.get_by_role("button", name="Use its settings").click()
        ada.said("The settings are as they were.")
        page.locator("#animate-image-look").get_by_text("Ball").wait_for()
        assert ada.panel("animate").get_by_label("Seed").input_value() == str(info.recipe["seed"])


@real_weights
def test_every_example_runs_on_a_click(browser, site):
    url, folder = site
    made = []
    with person(browser, url) as ada:
        for use, name in NAMES.items():
            ada.tab(name)
            ada.page.locator(f"#{use}-example").click()
            ada.page.wait_for_function(
                "known => [...document.querySelectorAll('#view .card')].some(one => !known.includes(one.dataset.item))",
                arg=made,
                timeout=600_000,
            )
            made.append(ada.result())
            info = probe(folder / made[-1])
            assert (info.recipe["use"], info.width) == (use, 64)
            assert info.num_frames == (24 + 16 if use == "extend" else 16)
            assert read_video(folder / made[-1]).frames.std() > 20, "it shows something"


@real_weights
def test_the_small_clip_is_seen_before_the_large_one(browser, site):
    url, folder = site
    with person(browser, url) as ada:
        page = ada.page
        page.locator("#generate-prompt textarea").fill("a happy dog")
        ada.settings("generate", seconds=5, fps=4, steps=4, size="256")  # F-up and SR have two windows of frames
        ada.make("generate")
        seen = []
        while not page.locator("#view .card").count():
            shown = page.evaluate("""() => {
                const [box, video] = ["figure", "video"].map(one => document.querySelector("#view " + one));
                return box && video?.videoWidth ? [box.dataset.version, video.videoWidth] : null;
            }""")
            if shown and shown not in seen:
                seen.append(shown)
            page.wait_for_timeout(50)
        assert [width for _, width in seen] == [64] * (len(seen) - 1) + [256], seen
        assert seen[0][0] == "sketch" and seen[-1][0] == "large"
        info = probe(folder / ada.result())
        assert (info.num_frames, info.width) == (20, 256)


@quick
@pytest.mark.slow
def test_the_gallery_is_there_again_after_a_restart(browser, quick_site, tiny_model):
    url, folder = quick_site
    with person(browser, url) as ada:
        ada.page.locator("#generate-prompt textarea").fill("a red rocket")
        ada.settings("generate", seconds=1, fps=10, size="16 (quick)")
        ada.make("generate")
        ada.said("Your video is ready.")
    with studio(folder, 4, tiny_model) as again, person(browser, again) as ada:
        ada.page.locator("#gallery .card").first.wait_for()
        shown = ada.page.eval_on_selector_all("#gallery .card", "all => all.map(one => one.dataset.item)")
        made = [item.name for item in Gallery(folder).items()]
        assert made and shown == made[:12]


@quick
def test_a_story_is_told_and_restored(browser, quick_site):
    url, folder = quick_site
    with person(browser, url) as ada:
        page, prompt = ada.page, ada.page.locator("#generate-prompt textarea")
        prompt.fill("a red rocket\n<i>a cat</i> | 1.5 s")
        ada.settings("generate", seconds=1, fps=10, size="16 (quick)")
        ada.make("generate")
        ada.said("Your video is ready.")
        assert page.locator("#view .card .title").inner_text() == "a red rocket, then <i>a cat</i>"
        info = probe(folder / ada.result())
        assert info.recipe["prompt"] == [["a red rocket", 1.0], ["<i>a cat</i>", 1.5]] and info.num_frames == 25
        prompt.fill("")
        page.locator("#view").get_by_role("button", name="Use its settings").click()
        ada.said("The settings are as they were.")
        assert prompt.input_value() == "a red rocket | 1 s\n<i>a cat</i> | 1.5 s"
        assert ada.panel("generate").get_by_label("Length in seconds").input_value() == "2.5"


@real_weights
def test_two_people_a_queue_and_one_of_them_stops(browser, site):
    url, folder = site
    with person(browser, url) as ada, person(browser, url) as bob, person(browser, url) as eve:
        for one, words in ((ada, "a rocket"), (bob, "a red apple"), (eve, "a cat")):
            one.page.locator("#generate-prompt textarea").fill(words)
            one.settings("generate", steps=8)
        ada.make("generate")
        ada.page.locator("#progress progress").wait_for()
        bob.make("generate")
        bob.page.locator("#progress").get_by_text("place 1 in the queue").wait_for()
        eve.make("generate")
        eve.said("The queue is full: 1 videos are waiting")
        # a page that is loaded again finds its place
        bob.page.reload()
        bob.page.locator("#progress").get_by_text("place 1 in the queue").wait_for()
        ada.page.get_by_role("button", name="Stop").click()
        ada.said("Stopped")
        bob.said("Your video is ready.")
        recipe = probe(folder / bob.result()).recipe
        assert recipe["prompt"] == "a red apple" and recipe["num_inference_steps"] == 8
        assert probe(folder / bob.result()).num_frames == 16
