"""The emoji builder on a tiny set of packages made here, through a stand-in npm on PATH."""

import base64
import hashlib
import io
import json
import os
import re
import subprocess
import sys
import tarfile
from pathlib import Path

import pytest
from PIL import Image

from makeavideo import UserError
from makeavideo.emoji import build, concepts, packages, phrases, words

APPLE, ROCKET, WAVE = "1f34e", "1f680", "1f44b"


def picture(kind: str, size: int = 16, frames: int = 1) -> bytes:
    images = [Image.new("RGBA", (size, size), (40 * i % 256, 200, 90, 120)) for i in range(frames)]
    out = io.BytesIO()
    more = {"save_all": True, "append_images": images[1:], "duration": 42} if frames > 1 else {}
    images[0].save(out, kind, **({"lossless": True} if kind == "WEBP" else {}), **more)
    return out.getvalue()


def tarball(path: Path, files: dict[str, bytes | object]) -> str:
    """Write an npm-like tarball and return its integrity."""
    with tarfile.open(path, "w:gz") as tar:
        for name, data in files.items():
            data = data if isinstance(data, bytes) else json.dumps(data).encode()
            info = tarfile.TarInfo(f"package/{name}")
            info.size = len(data)
            tar.addfile(info, io.BytesIO(data))
    return "sha512-" + base64.b64encode(hashlib.sha512(path.read_bytes()).digest()).decode()


def hold_out(monkeypatch: pytest.MonkeyPatch, *keywords: str) -> None:
    monkeypatch.setattr(build, "held_out_keywords", lambda: frozenset(keywords))


def drawn() -> dict:
    """Packages of pictures: role -> (name, files)."""
    square = {"body": '<rect width="10" height="10" fill="red"/>', "width": 32, "height": 32}
    return {
        "stills": (
            "@x/stills",
            {
                f"assets/{code}.webp": picture("WEBP")
                for code in (APPLE, ROCKET, WAVE, f"{WAVE}-1f3fb", "23-fe0f-20e3", "0023-fe0f-20e3", "1f9ff")
            },
        ),
        "clips": (
            "@x/clips",
            {
                f"assets/{APPLE}.webp": picture("WEBP"),
                f"assets/{ROCKET}.webp": picture("WEBP", frames=5),
                f"assets/{WAVE}-1f3ff.webp": picture("WEBP", frames=5),
            },
        ),
        "noto": ("noto-png", {f"img/google/64/{code}.png": picture("PNG", 64) for code in (APPLE, f"{WAVE}-1f3fb")}),
        "vectors": (
            "@y/vectors",
            {
                "chars.json": {},
                "icons.json": {
                    "height": 32,
                    "icons": {"red-apple": square, "rocket": square, "keycap-hashtag": square},
                    "aliases": {"waving-hand": {"parent": "rocket", "hFlip": True}},
                },
            },
        ),
        "noto-vectors": ("@y/noto", {"chars.json": {APPLE: "apple"}, "icons.json": {"icons": {"apple": square}}}),
    }


def named() -> dict:
    """Packages that the codes and icons go by: name -> files."""
    labels = {
        "1F34E": ("red apple", 4),
        "1F680": ("rocket", 5),
        "1F44B": ("waving hand", 1),
        "0023-FE0F-20E3": ("keycap: #", 8),
    }
    return {
        "emojibase-data": {
            "en/data.json": [
                {"hexcode": k, "label": v[0], "group": v[1], "tags": ["thing", "fruit"]} for k, v in labels.items()
            ],
            **{
                f"en/shortcodes/{kind}.json": {"1F34E": "apple_fruit", "1F680": ["rocket_ship"]}
                for kind in words.SHORTCODES
            },
        },
        "emojilib": {"dist/emoji-en-US.json": {"\N{RED APPLE}": ["red_apple", "fruit", ":D", "mac"]}},
        "unicode-emoji-json": {"data-by-emoji.json": {"\N{RED APPLE}": {"name": "red apple"}}},
    }


def said() -> dict:
    """Packages of words: name -> files."""
    annotations = {"\N{RED APPLE}": {"tts": ["cooking apple"], "default": ["fruit", "orchard", "forbidden"]}}
    return {
        "cldr-annotations-full": {
            f"annotations/{language}/annotations.json": {"annotations": {"annotations": annotations}}
            for language in words.ENGLISH
        },
        "@emoji-mart/data": {
            "sets/15/all.json": {
                "emojis": {"apple": {"name": "Red Apple", "keywords": ["snack"], "skins": [{"unified": "1f34e"}]}}
            }
        },
    }


@pytest.fixture
def store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder of fake packages, the pinned table that goes with it, and an npm that serves from it."""
    store = tmp_path / "registry"
    store.mkdir()
    everything = [(role, name, files) for role, (name, files) in drawn().items()]
    everything += [("names", name, files) for name, files in named().items()]
    everything += [("words", name, files) for name, files in said().items()]
    hold_out(monkeypatch, "forbidden")
    table = {}
    for role, name, files in everything:
        package = packages.Package(name, "1.0.0", "", "MIT", role)
        integrity = tarball(store / package.filename, files)
        table[name] = packages.Package(name, "1.0.0", integrity, "MIT", role)
    (store / "table.json").write_text(json.dumps([vars(package) for package in table.values()]))
    monkeypatch.setattr(packages, "packages", lambda: table)
    monkeypatch.setattr(build, "packages", lambda: table)

    bin_folder = tmp_path / "bin"
    bin_folder.mkdir()
    npm = bin_folder / "npm"
    npm.write_text(  # npm pack NAME@VERSION --pack-destination FOLDER
        f"""#!{sys.executable}
import shutil, sys
name, version = sys.argv[2].rsplit("@", 1)
file = name.lstrip("@").replace("/", "-") + "-" + version + ".tgz"
open("{store}/calls", "a").write(file + "\\n")
shutil.copy("{store}/" + file, sys.argv[4])
"""
    )
    npm.chmod(0o755)
    monkeypatch.setenv("PATH", str(bin_folder))
    return store


def visible(folder: Path) -> set[str]:
    return {p.name for p in folder.iterdir() if not p.name.startswith(".")}


def test_build(store: Path, tmp_path: Path) -> None:
    out = tmp_path / "set"
    report = build.build_emoji(out)
    assert visible(out) == {"images", "clips", "noto", "vectors", "noto-vectors", "build.json"}
    codes = {APPLE, ROCKET, WAVE, "0023-20e3"}  # no skin tones, one spelling each, none that nobody names
    assert visible(out / "images") == {f"{c}{e}" for c in codes for e in (".webp", ".json")}
    assert visible(out / "clips") == {f"{ROCKET}.webp"}  # the one-frame animation does not move
    assert visible(out / "noto") == {f"{APPLE}.png", f"{APPLE}.json"}
    assert visible(out / "vectors") == {f"{c}.png" for c in codes}
    assert visible(out / "noto-vectors") == {f"{APPLE}.png"}

    with Image.open(out / "images" / f"{APPLE}.webp") as image:
        assert image.mode == "RGBA" and image.getpixel((3, 3))[3] == 120
    with Image.open(out / "clips" / f"{ROCKET}.webp") as clip:
        assert clip.n_frames == 5
    with (
        Image.open(out / "vectors" / f"{ROCKET}.png") as vector,
        Image.open(out / "vectors" / f"{WAVE}.png") as flipped,
    ):
        assert vector.size == (768, 768) and vector.mode == "RGBA"
        assert vector.getpixel((50, 50)) == (255, 0, 0, 255) and vector.getpixel((700, 50))[3] == 0
        assert flipped.getpixel((50, 50))[3] == 0 and flipped.getpixel((700, 50)) == (255, 0, 0, 255)

    sidecar = json.loads((out / "images" / f"{APPLE}.json").read_text())
    assert sidecar == {
        "label": "red apple",
        "phrase": "a red apple",
        "names": ["apple fruit", "cooking apple"],
        "keywords": ["thing", "fruit", "mac", "orchard", "snack"],
        "group": APPLE,
        "concept": APPLE,
        "held_out_keywords": ["forbidden"],
    }
    assert report["counts"]["clips"] == {"items": 1, "frames": 5, "seen": 2}
    assert json.loads((out / "build.json").read_text()) == report
    assert {"name", "version", "licence", "integrity"} == report["packages"][0].keys()


def test_a_second_run_does_nothing(store: Path, tmp_path: Path) -> None:
    out = tmp_path / "set"
    first = build.build_emoji(out)
    times = {p: p.stat().st_mtime_ns for p in out.rglob("*")}
    assert build.build_emoji(out) == first
    assert {p: p.stat().st_mtime_ns for p in out.rglob("*")} == times
    assert len((store / "calls").read_text().split()) == len(packages.packages())


@pytest.mark.parametrize("damage", ["missing file", "truncated file", "no manifest"])
def test_a_half_written_folder_is_made_anew(store: Path, tmp_path: Path, damage: str) -> None:
    out = tmp_path / "set"
    build.build_emoji(out)
    victim = out / "images" / f"{APPLE}.webp"
    whole = victim.read_bytes()
    if damage == "missing file":
        victim.unlink()
    elif damage == "truncated file":
        victim.write_bytes(whole[:10])
    else:
        (out / "images" / build.MANIFEST).unlink()
    clip = (out / "clips" / f"{ROCKET}.webp").stat().st_mtime_ns
    build.build_emoji(out)
    assert victim.read_bytes() == whole
    assert (out / "clips" / f"{ROCKET}.webp").stat().st_mtime_ns == clip  # whole folders are left alone


@pytest.mark.parametrize("stage", ["images", "clips", "vectors"])
def test_killed_and_run_again(store: Path, tmp_path: Path, stage: str) -> None:
    out, reference = tmp_path / "set", tmp_path / "reference"
    script = f"""
import json, os, signal
from pathlib import Path
from makeavideo.emoji import build, packages
table = [packages.Package(**entry) for entry in json.loads(Path({str(store / "table.json")!r}).read_text())]
build.held_out_keywords = lambda: frozenset(["forbidden"])
build.packages = packages.packages = lambda: {{p.name: p for p in table}}
def progress(what, done, total):
    if what == {stage!r} and done == 1:
        os.kill(os.getpid(), signal.SIGKILL)
build.build_emoji(Path({str(out)!r}), progress=progress)
"""
    done = subprocess.run([sys.executable, "-c", script], check=False, env={**os.environ})
    assert done.returncode == -9
    assert not (out / stage).exists() and not (out / "build.json").exists()
    build.build_emoji(out)
    build.build_emoji(reference)

    def files(root: Path) -> dict[str, bytes]:
        return {
            str(p.relative_to(root)): p.read_bytes()
            for p in root.rglob("*")
            if p.is_file() and p.name != build.MANIFEST
        }

    assert files(out) == files(reference)  # nothing lost, and no leftovers


def test_checksum_mismatch(store: Path, tmp_path: Path) -> None:
    package = packages.packages()["noto-png"]
    with (store / package.filename).open("ab") as file:
        file.write(b"!")
    with pytest.raises(UserError, match=re.escape("checksum of noto-png@1.0.0")):
        build.build_emoji(tmp_path / "set")
    assert not (tmp_path / "set" / ".packages" / package.filename).exists()


def test_a_damaged_cache_is_downloaded_again(store: Path, tmp_path: Path) -> None:
    cache = tmp_path / "cache"
    packages.fetch_packages(cache)
    (cache / "noto-png-1.0.0.tgz").write_bytes(b"half")
    packages.fetch_packages(cache)
    assert (store / "calls").read_text().split().count("noto-png-1.0.0.tgz") == 2
    assert len((store / "calls").read_text().split()) == len(packages.packages()) + 1


def test_failures_are_sentences(store: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (store / "emojilib-1.0.0.tgz").unlink()
    with pytest.raises(UserError, match=r"npm could not download emojilib@1\.0\.0"):
        build.build_emoji(tmp_path / "set")
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match="choose a writable folder"):
        build.build_emoji(tmp_path / "file" / "set")
    monkeypatch.setenv("PATH", str(tmp_path / "empty"))
    with pytest.raises(UserError, match="npm is not installed"):
        build.build_emoji(tmp_path / "other")


# --------------------------------------------------------------------------------------- names and words


def test_codes() -> None:
    assert concepts.canonical_code("23-FE0F-20e3") == concepts.canonical_code("0023-20E3") == "0023-20e3"
    assert concepts.canonical_code("1f3f4-e0067_e0062_e0065_e006e_e0067").endswith("-e006e-e0067-e007f")
    assert concepts.has_skin_tone("1f44b-1f3fb") and not concepts.has_skin_tone("1f3f4")


def test_variants_share_a_group() -> None:
    groups = [
        ("1f468-200d-1f680", "1f469-200d-1f680", "1f9d1-200d-1f680"),  # astronauts
        ("1f64b", "1f64b-200d-2642", "1f64b-200d-2640"),  # raising a hand
        ("1f46a", "1f468-200d-1f469-200d-1f467", "1f469-200d-1f466"),  # families
        ("1f491", "1f468-200d-2764-200d-1f468"),
        ("1f385", "1f936", "1f9d1-200d-1f384"),
    ]
    names = [{concepts.concept_group(code) for code in group} for group in groups]
    assert all(len(name) == 1 for name in names) and len(set.union(*names)) == len(groups)
    assert concepts.concept_group("2764-200d-1f525") != concepts.concept_group("2764")


@pytest.mark.parametrize(
    ("label", "group", "expected"),
    [
        ("red apple", 4, "a red apple"),
        ("unicorn", 3, "a unicorn"),
        ("octopus", 3, "an octopus"),
        ("hourglass done", 5, "an hourglass"),
        ("open hands", 1, "open hands"),
        ("glasses", 7, "glasses"),
        ("cooked rice", 4, "cooked rice"),
        ("cup with straw", 4, "a cup with straw"),
        ("bow and arrow", 6, "a bow and arrow"),
        ("men holding hands", 1, "men holding hands"),
        ("woman lifting weights", 1, "a woman lifting weights"),
        ("man: curly hair", 1, "a man with curly hair"),
        ("man: bald", 1, "a bald man"),
        ("family: man, woman, girl", 1, "a family with a man, a woman and a girl"),
        ("flag: United States", 9, "the flag of the united states"),
        ("flag: France", 9, "the flag of france"),
        ("keycap: 3", 8, "a keycap with 3"),
        ("Aries", 8, "the aries symbol"),
        ("Christmas tree", 6, "a christmas tree"),
        ("Tokyo tower", 5, "tokyo tower"),
        ("four o'clock", 5, "a clock showing four o'clock"),
    ],
)
def test_phrases(label: str, group: int, expected: str) -> None:
    assert phrases.phrase(label, group) == expected


def test_a_held_out_keyword_takes_along_what_contains_it() -> None:
    concept = words.Concept(APPLE, "red apple", 4, ("fruit", "fruit bowl", "fruity", "snack"), ("fruit, red", "apple"))
    kept = words.hold_out(concept, frozenset({"fruit"}))
    assert kept.keywords == ("fruity", "snack") and kept.names == ("apple",) and kept.held_out == ("fruit",)


def test_drawing_held_out_keywords_spares_the_words_of_labels() -> None:
    every = [words.Concept(f"{i:x}", f"thing {i}", 4, ("thing", "all", f"word {i}"), ()) for i in range(100)]
    drawn = words.draw_held_out_keywords(every)
    assert drawn == words.draw_held_out_keywords(reversed(every)) != words.draw_held_out_keywords(every, seed=1)
    assert len(drawn) == 10 and "thing" not in drawn and set(drawn) <= {"all", *(f"word {i}" for i in range(100))}


def test_the_committed_held_out_keywords() -> None:
    digest = hashlib.sha256("\n".join(sorted(words.held_out_keywords())).encode()).hexdigest()
    assert len(words.held_out_keywords()) == 389 and digest[:16] == "7d36fc767642602b"


def test_new_words_change_caption_files_and_nothing_that_is_slow_to_make(
    store: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = tmp_path / "set"
    build.build_emoji(out)
    slow = {p: p.stat().st_mtime_ns for name in ("clips", "vectors", "noto-vectors") for p in (out / name).iterdir()}
    hold_out(monkeypatch, "orchard")
    build.build_emoji(out)
    for folder in ("images", "noto"):
        sidecar = json.loads((out / folder / f"{APPLE}.json").read_text())
        assert sidecar["held_out_keywords"] == ["orchard"] and "forbidden" in sidecar["keywords"]
    assert {p: p.stat().st_mtime_ns for p in slow} == slow
