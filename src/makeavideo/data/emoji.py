"""The emoji set: captioned stills, unlabelled animations and vector pictures, built from pinned npm packages.

This is Make-A-Video's setting in the small: pictures *with* text (Fluent and Noto stills, captioned from Unicode
names and keywords) and videos *without* any (Fluent animations). A file's name is its concept's code point; for the
animations the name serves only to split train from held-out, never as text.

Layout of a finished build (``CODE`` as :func:`canonical_code` spells it)::

    images/CODE.webp + CODE.json       Fluent stills, 256 x 256, with alpha
    noto/CODE.png + CODE.json          Noto stills, 64 x 64, with alpha
    clips/CODE.webp                    Fluent animations (two frames or more), 24 fps, with alpha, no text
    vectors/CODE.png                   Fluent vector emoji rasterised at 768 x 768, with alpha
    noto-vectors/CODE.png              the same of Noto
    build.json                         counts, package versions, licences

Each folder is made under a temporary name and renamed when whole, so a killed build leaves nothing half-written
behind a final name, and running the build again goes on where it stopped.
"""

from __future__ import annotations

import base64
import functools
import hashlib
import io
import json
import os
import random
import re
import shutil
import subprocess
import tarfile
import unicodedata
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from importlib import resources
from pathlib import Path
from typing import Any

from PIL import Image

from makeavideo.errors import UserError

Progress = Callable[[str, int, int], None]
"""Called as ``progress(what, done, total)``."""

VECTOR_SIZE = 768
FORMAT = 1  # part of every manifest: raise it when the contents of a folder change
SKIN_TONES = frozenset({"1f3fb", "1f3fc", "1f3fd", "1f3fe", "1f3ff"})
MANIFEST = ".manifest.json"  # hidden: readers of picture folders must not take it for a caption file


# ---------------------------------------------------------------------------------------------- concepts


def canonical_code(name: str) -> str:
    """The one spelling of an emoji's code points: lower-case hexadecimal of at least four digits joined by dashes.

    Packages disagree (``23-fe0f-20e3``, ``0023-FE0F-20E3``; underscores and a missing end tag in the flags of
    England, Scotland and Wales), so the variation selector fe0f is left out and the end tag is put back.
    """
    parts = [part.zfill(4) for part in re.split("[-_]", name.lower())]
    parts = [part for part in parts if part != "fe0f"]
    if "e0067" in parts and parts[-1] != "e007f":
        parts.append("e007f")
    return "-".join(parts)


def code_of(emoji: str) -> str:
    """The canonical code of an emoji given as text."""
    return canonical_code("-".join(f"{ord(character):x}" for character in emoji))


def has_skin_tone(code: str) -> bool:
    """Whether any of the code points is one of the five skin-tone modifiers."""
    return not SKIN_TONES.isdisjoint(code.split("-"))


# Emoji that show the same thing on another person but do not share a base code point.
_SAME = (
    {"1f468", "1f469", "1f9d1"},  # man, woman, person
    {"1f466", "1f467", "1f9d2"},  # boy, girl, child
    {"1f474", "1f475", "1f9d3"},  # older people
    {"1f934", "1f478", "1fac5"},  # prince, princess, person with crown
    {"1f385", "1f936", "1f9d1-200d-1f384"},  # Santa, Mrs, Mx Claus
    {"1f57a", "1f483"},  # dancing
    {"1f930", "1fac3", "1fac4"},  # pregnant
    {"1f46b", "1f46c", "1f46d", "1f9d1-200d-1f91d-200d-1f9d1"},  # holding hands
    {"1f935", "1f470"},  # tuxedo and veil
)
_PERSON = {code: min(same) for same in _SAME for code in same}


def concept_group(code: str) -> str:
    """A name shared by all gender, direction and family variants of one emoji; a group falls on one side of the split.

    Otherwise "woman astronaut" in training would give away the held-out "man astronaut".
    """
    if code in _PERSON:
        return _PERSON[code]
    parts = [p for p in code.split("-") if p not in SKIN_TONES and p not in {"2640", "2642", "27a1"}]
    while parts and parts[-1] == "200d":
        parts.pop()
    parts = [p for i, p in enumerate(parts) if p != "200d" or parts[i + 1] != "200d"]
    people = sum(p in {"1f466", "1f467", "1f468", "1f469", "1f9d1", "1f9d2"} for p in parts)
    if people >= 2 and "2764" in parts:
        return "1f48f" if "1f48b" in parts else "1f491"
    if code == "1f46a" or (people >= 2 and "1f91d" not in parts):
        return "1f46a"
    joined = "-".join(_PERSON.get(p, p) if "-" not in _PERSON.get(p, p) else p for p in parts)
    return _PERSON.get(joined, joined)


# ------------------------------------------------------------------------------------------------- split


@dataclass(frozen=True)
class EmojiSplit:
    """The committed split by concept. Both sets hold canonical codes (file stems) and are disjoint."""

    seed: int
    held_out_all: frozenset[str]
    """5 % of all concepts: used in no training stage."""
    held_out_motion: frozenset[str]
    """10 % of the animated concepts: stills may be used, motion never."""

    def train_images(self, keys: Iterable[str]) -> set[str]:
        """The keys whose stills may be trained on."""
        return set(keys) - self.held_out_all

    def train_clips(self, keys: Iterable[str]) -> set[str]:
        """The keys whose motion may be trained on."""
        return set(keys) - self.held_out_all - self.held_out_motion


@functools.cache
def split() -> EmojiSplit:
    """Read the committed split."""
    data = json.loads(resources.files("makeavideo.data").joinpath("emoji_split.json").read_text("utf-8"))
    return EmojiSplit(data["seed"], frozenset(data["held_out_all"]), frozenset(data["held_out_motion"]))


def train_images(keys: Iterable[str]) -> set[str]:
    """The keys whose stills may be trained on, by the committed split."""
    return split().train_images(keys)


def train_clips(keys: Iterable[str]) -> set[str]:
    """The keys whose motion may be trained on, by the committed split."""
    return split().train_clips(keys)


def draw_split(concepts: Iterable[str], animated: Iterable[str], seed: int = 0) -> EmojiSplit:
    """Draw a split: a pure function of the codes and the seed. Whole groups (:func:`concept_group`) are held out.

    This is how the committed file was made; it is not drawn again at run time, so that a new package version cannot
    move a concept from held-out to training.
    """
    concepts, animated = sorted(set(concepts)), set(animated)

    def draw(pool: list[str], wanted: int, salt: str) -> set[str]:
        groups: dict[str, list[str]] = {}
        for code in pool:
            groups.setdefault(concept_group(code), []).append(code)
        names = sorted(groups)
        random.Random(f"{seed} {salt}").shuffle(names)
        chosen: set[str] = set()
        for name in names:
            if len(chosen) + len(groups[name]) <= wanted:
                chosen.update(groups[name])
        return chosen

    held_out_all = draw(concepts, round(0.05 * len(concepts)), "all")
    rest = [code for code in concepts if code in animated and code not in held_out_all]
    held_out_motion = draw(rest, round(0.10 * len(animated)), "motion")
    return EmojiSplit(seed, frozenset(held_out_all), frozenset(held_out_motion))


# ---------------------------------------------------------------------------------------------- captions

_SINGULAR_ENDINGS = ("ss", "us", "is", "lens", "claus", "news", "gas", "series")
_IRREGULAR_PLURALS = {"men", "women", "people", "children", "feet", "teeth", "mice", "dice", "skis"}
# Head words that stand without an article: substances, games and activities.
_MASS = {
    "rice", "bread", "sushi", "fire", "ice", "money", "butter", "salt", "bacon", "cheese", "honey", "fog", "wind",
    "snow", "water", "luggage", "broccoli", "garlic", "ginger", "tofu", "chocolate", "popcorn", "curry", "spaghetti",
    "meat", "milk", "tea", "badminton", "golf", "luck", "confetti", "hair", "pottery", "wood", "seaweed", "thread",
    "yarn", "bowling", "lacrosse", "hockey", "lightning", "sand", "sweat", "soap", "poo", "dna",
}  # fmt: skip
_PEOPLE = {"man", "woman", "person", "men", "women", "people", "mrs.", "mx", "santa"}
# Where the head of a noun phrase ends: "cup | with straw", "men | holding hands".
_HEAD_ENDS = re.compile(
    r" (?:with|without|of|in|and|on|at|over|behind|from|for|under|by|to|facing|holding|playing|showing|falling|up|down"
    r"|&)(?= |$)|[:,]"
)
_ADJECTIVES = {
    "Japanese", "Chinese", "French", "English", "Christmas", "American", "Tanabata", "Shinto", "Hindu", "T-Rex",
}  # fmt: skip
_VOWEL_SOUND = {"atm", "sos", "x-ray", "ng"}
_CONSONANT_SOUND = ("uni", "use", "euro", "one", "ufo")
# Labels that no rule turns into a phrase one would say.
_SPOKEN = {
    "camping": "a campsite with a tent", "foggy": "a foggy city", "locked": "a closed padlock",
    "unlocked": "an open padlock", "locked with key": "a padlock with a key", "locked with pen": "a padlock with a pen",
    "cooking": "an egg in a frying pan", "construction": "a construction barrier", "collision": "a collision star",
    "dashing away": "a puff of smoke", "dizzy": "a dizzy star", "zzz": "the letters zzz",
    "high voltage": "a lightning bolt", "breast-feeding": "a woman breast-feeding a baby",
    "rolling on the floor laughing": "a face rolling on the floor laughing", "star-struck": "a star-struck face",
    "index pointing up": "an index finger pointing up", "mate": "a cup of mate", "sake": "a bottle of sake",
    "index pointing at the viewer": "an index finger pointing at the viewer", "tennis": "a tennis ball",
    "money-mouth face": "a money-mouth face", "mount fuji": "mount fuji", "milky way": "the milky way",
    "statue of liberty": "the statue of liberty", "hourglass done": "an hourglass",
    "hourglass not done": "an hourglass with flowing sand", "thumbs up": "a thumbs up", "thumbs down": "a thumbs down",
    "flower playing cards": "a flower playing card", "ping pong": "a ping pong paddle", "motorway": "a motorway",
    "performing arts": "theatre masks", "kaaba": "the kaaba", "wedding": "a wedding chapel", "fly": "a fly",
    "horse racing": "a racing horse and its jockey", "golf": "a golf flag", "custard": "custard", "curry rice": "curry",
    "palms up together": "two palms up together", "person in bed": "a person in bed",
    "snowman without snow": "a snowman without snow", "hundred points": "the number one hundred",
    "link": "a chain link",
    "couple with heart": "a couple with a heart", "boxing glove": "a boxing glove", "pouring liquid": "pouring liquid",
    "baguette bread": "a baguette", "field hockey": "a field hockey stick", "ice hockey": "an ice hockey stick",
    "woman's clothes": "women's clothes", "bowling": "a bowling ball and pins", "ginger root": "ginger root",
    "broccoli": "broccoli", "x-ray": "an x-ray", "moai": "a moai statue", "map of japan": "a map of japan",
    "person fencing": "a person fencing", "santa claus": "santa claus", "mx claus": "mx claus",
    "mrs. claus": "mrs. claus", "pot of food": "a pot of food", "meat on bone": "meat on a bone",
    "piñata": "a piñata", "rock": "a rock", "hot springs": "hot springs", "japanese dolls": "japanese dolls",
}  # fmt: skip


def _head(label: str) -> list[str]:
    """The words up to and with the head noun."""
    return _HEAD_ENDS.split(label, maxsplit=1)[0].split() or label.split()


def _is_plural(label: str) -> bool:
    head = _head(label)
    if head[0].lower() in {"men", "women", "people"}:
        return True
    if head[0].lower() in _PEOPLE:
        return False
    word = head[-1].lower().strip("!")
    return word in _IRREGULAR_PLURALS or (word.endswith("s") and not word.endswith(_SINGULAR_ENDINGS) and len(word) > 3)


def with_article(label: str) -> str:
    """``label`` as a noun phrase: "red apple" to "a red apple", "open hands" and "cooked rice" as they are."""
    first, low = label.split()[0], label.lower()
    proper = first[0].isupper() and not first.isupper() and first not in _ADJECTIVES
    mass = first.lower() not in _PEOPLE and _head(label)[-1].lower() in _MASS
    if proper or mass or _is_plural(label) or first in {"the", "a", "an", "no", "not"}:
        return low
    word = first.lower()
    vowel = word in _VOWEL_SOUND or (word[0] in "aeiou" and not word.startswith(_CONSONANT_SOUND))
    return f"{'an' if vowel or word.startswith('hour') else 'a'} {low}"


def phrase(label: str, group: int | None) -> str:
    """The label as natural words with its article: flags, keycaps, families and "person: blond hair" rewritten."""
    low = label.lower()
    if low in _SPOKEN:
        return _SPOKEN[low]
    if re.fullmatch(r"\w+(-thirty| o'clock)", low):
        return f"a clock showing {low}"
    kind, colon, rest = low.partition(": ")
    if colon and kind == "flag":
        the = rest.endswith("islands") or re.match(
            r"(united|isle|netherlands|philippines|bahamas|dominican rep|central af|european un|gambia|comoros|maldives"
            r"|seychelles|british indian)",
            rest,
        )
        return f"the flag of {'the ' if the else ''}{rest}"
    if colon and kind == "keycap":
        return f"a keycap with {rest}"
    if colon and kind in {"family", "kiss", "couple with heart"}:
        *most, last = [f"a {one}" for one in rest.split(", ")]
        joined = f"{', '.join(most)} and {last}" if most else last
        return {
            "family": f"a family with {joined}",
            "kiss": f"{joined} kissing",
            "couple with heart": f"{joined} with a heart",
        }[kind]
    if colon and rest == "bald":
        return f"a bald {kind}"
    if colon and ("hair" in rest or rest == "beard"):
        return f"{with_article(kind)} with {'a ' if rest == 'beard' else ''}{rest}"
    if colon:
        return f"{with_article(kind)}, {rest}"
    named = r"(sign|symbol|button|arrow|mark|square|circle|heart|diamond|triangle|star|cross|asterisk|loop|arrows)\b"
    if group == 8 and not re.search(named, low):
        return f"the {low} symbol"
    return with_article(label)


_TEMPLATES = {
    "fluent": (
        "a picture of {x}", "an emoji of {x}", "a 3d icon of {x}", "a cartoon of {x}", "a 3d rendering of {x}",
        "an icon showing {x}", "a shiny 3d emoji of {x}", "{x} on a plain background", "an image of {x}",
        "a cute 3d drawing of {x}",
    ),
    "noto": (
        "a picture of {x}", "an emoji of {x}", "a flat icon of {x}", "a cartoon of {x}", "a flat drawing of {x}",
        "an icon showing {x}", "a small emoji of {x}", "{x} on a plain background", "an image of {x}",
        "a simple drawing of {x}",
    ),
}  # fmt: skip


def _clean(words: Iterable[str]) -> list[str]:
    """Lower-case, readable, without repetitions or emoticons such as ":D"."""
    out: dict[str, None] = {}
    for word in words:
        word = re.sub(r"\s+", " ", word.replace("_", " ").lower()).strip(" .")
        if len(word) > 1 and re.search(r"[^\W\d]{2}", word) and not word.startswith(("+", "-", ":")):
            out[word] = None
    return list(out)


def captions_for(
    label: str, keywords: list[str], names: list[str], group: int | None = None, style: str = "fluent"
) -> list[str]:
    """Eight to fourteen captions of one concept, the lower-case label first. A pure function of its arguments."""
    spoken, low = phrase(label, group), label.lower()
    templates = list(_TEMPLATES[style])
    rng = random.Random(f"{style} {label}")
    first, rest = templates[:3], templates[3:]
    rng.shuffle(rest)
    out = [low, spoken, *(t.format(x=spoken) for t in first + rest[:2])]
    words = _clean(keywords)
    if words:
        out.append(f"{low}, {', '.join(words[:3])}")
    if len(words) > 2:
        out.append(", ".join(words[:6]))
    if len(words) > 4:
        out.append(", ".join(rng.sample(words, 3)))
    out.extend(name for name in _clean(names)[:4])
    out.extend(t.format(x=spoken) for t in rest[2:])  # only as many as needed to reach eight
    seen = list(dict.fromkeys(out))
    sources = len(seen) - (len(rest) - 2)
    return seen[: min(14, max(8, sources))]


@dataclass(frozen=True)
class Concept:
    """What is known of one emoji in words."""

    code: str
    label: str
    group: int | None
    keywords: tuple[str, ...]
    names: tuple[str, ...]

    def sidecar(self, style: str) -> bytes:
        """The caption file of one picture (UTF-8 JSON)."""
        data = {
            "captions": captions_for(self.label, list(self.keywords), list(self.names), self.group, style),
            "label": self.label.lower(),
            "keywords": list(self.keywords),
        }
        return json.dumps(data, ensure_ascii=False, indent=1).encode()


# ---------------------------------------------------------------------------------------------- packages


@dataclass(frozen=True)
class Package:
    """One pinned npm package."""

    name: str
    version: str
    integrity: str
    licence: str
    contents: str

    @property
    def filename(self) -> str:
        """The tarball's name as ``npm pack`` gives it."""
        return f"{self.name.lstrip('@').replace('/', '-')}-{self.version}.tgz"


def packages() -> dict[str, Package]:
    """The pinned packages by name."""
    data = json.loads(resources.files("makeavideo.data").joinpath("emoji_packages.json").read_text("utf-8"))
    return {entry["name"]: Package(**entry) for entry in data}


def _integrity(path: Path) -> str:
    digest = hashlib.sha512()
    with path.open("rb") as file:
        while block := file.read(1 << 20):
            digest.update(block)
    return "sha512-" + base64.b64encode(digest.digest()).decode()


def fetch_packages(cache: Path, progress: Progress | None = None) -> dict[str, Path]:
    """Download what the cache lacks through the npm client; check every tarball's sha512 against the pinned value.

    Raises :class:`UserError` when npm is missing, a download fails or a checksum does not match.
    """
    wanted = packages()
    cache.mkdir(parents=True, exist_ok=True)
    found: dict[str, Path] = {}
    for i, package in enumerate(wanted.values()):
        if progress:
            progress(f"package {package.name}", i, len(wanted))
        path = cache / package.filename
        if not (path.is_file() and _integrity(path) == package.integrity):
            _download(package, path)
        found[package.name] = path
    if progress:
        progress("packages", len(wanted), len(wanted))
    return found


def _download(package: Package, path: Path) -> None:
    npm = shutil.which("npm")
    spec = f"{package.name}@{package.version}"
    if npm is None:
        raise UserError(f"npm is not installed, and {spec} is not in {path.parent}: install Node.js (it brings npm).")
    # A folder of its own, so that an interrupted download never carries the final name.
    partial = path.parent / f".{package.filename}.partial"
    shutil.rmtree(partial, ignore_errors=True)
    partial.mkdir()
    try:
        done = subprocess.run(
            [npm, "pack", spec, "--pack-destination", str(partial)], capture_output=True, text=True, check=False
        )
        made = partial / package.filename
        if done.returncode != 0 or not made.is_file():
            why = next((line for line in done.stderr.splitlines() if "error" in line.lower()), "no file came")
            raise UserError(f"npm could not download {spec} ({why.strip()}): check the network and run again.")
        actual = _integrity(made)
        if actual != package.integrity:
            raise UserError(
                f"The checksum of {spec} is {actual[:24]}... where {package.integrity[:24]}... was expected: "
                "the download is damaged or was changed; run again, and do not use it if this repeats."
            )
        os.replace(made, path)
    finally:
        shutil.rmtree(partial, ignore_errors=True)


def _members(path: Path, pattern: str) -> Iterator[tuple[str, bytes]]:
    """(canonical code, bytes) of the tarball's files whose path matches; its first group is the code, no skin tones."""
    regex = re.compile(pattern)
    with tarfile.open(path) as tar:
        for member in tar:
            match = regex.fullmatch(member.name)
            if member.isfile() and match:
                code = canonical_code(match.group(1))
                if not has_skin_tone(code):
                    yield code, tar.extractfile(member).read()  # type: ignore[union-attr]


def _json(path: Path, member: str) -> Any:
    with tarfile.open(path) as tar:
        return json.load(tar.extractfile(f"package/{member}"))  # type: ignore[arg-type]


def read_concepts(tarballs: dict[str, Path]) -> dict[str, Concept]:
    """Labels and keywords of every emoji without a skin tone, joined from the naming packages."""
    emojibase = _json(tarballs["emojibase-data"], "en/data.json")
    lib = {code_of(k): v for k, v in _json(tarballs["emojilib"], "dist/emoji-en-US.json").items()}
    unicode_names = {
        code_of(k): v["name"] for k, v in _json(tarballs["unicode-emoji-json"], "data-by-emoji.json").items()
    }
    short = {
        canonical_code(k): [v] if isinstance(v, str) else v
        for k, v in _json(tarballs["emojibase-data"], "en/shortcodes/emojibase.json").items()
    }
    out = {}
    for entry in emojibase:
        code = canonical_code(entry["hexcode"])
        if has_skin_tone(code):
            continue
        extra = lib.get(code, [])
        label = entry["label"].replace("\N{RIGHT SINGLE QUOTATION MARK}", "'")
        label = label.replace("\N{LEFT DOUBLE QUOTATION MARK}", "").replace("\N{RIGHT DOUBLE QUOTATION MARK}", "")
        keywords = _clean([*entry.get("tags", []), *extra[1:]])[:16]
        names = [unicode_names.get(code, ""), *extra[:1], *short.get(code, [])]
        if label.startswith("flag: "):
            names = [f"{label[6:]} flag", *names]
        names = [n for n in _clean(names) if n != label.lower()]
        out[code] = Concept(code, label, entry.get("group"), tuple(keywords), tuple(names))
    return out


def _slug(label: str) -> str:
    """A label as iconify names its icons."""
    plain = unicodedata.normalize("NFKD", label).encode("ascii", "ignore").decode().lower().replace("&", "and")
    return re.sub("[^a-z0-9]+", "-", plain.replace("'", "").replace(".", "")).strip("-")


def _icon_names(label: str, others: Iterable[str]) -> Iterator[str]:
    """The names an icon of this label may have, likeliest first."""
    special = {
        "keycap: #": "keycap-hashtag", "keycap: *": "keycap-asterisk", "phoenix": "phoenix-bird", "piñata": "piata",
        "smiling face with open hands": "hugging-face", "face with crossed-out eyes": "knocked-out-face",
        "enraged face": "pouting-face", "mermaid": "woman-merpeople", "red triangle pointed up": "red-triangle",
    }  # fmt: skip
    if label in special:
        yield special[label]
    for name in (label, *others):
        slug = _slug(name)
        yield slug
        yield slug.replace("blond-", "blonde-")
        if slug.startswith("flag-"):
            yield f"flag-for-{slug[5:]}"
    person, _, rest = _slug(label).partition("-")
    if person in {"deaf", "men", "women", "people"}:
        swap = {"deaf": f"{rest}-deaf", "men": f"man-{rest}", "women": f"woman-{rest}", "people": f"person-{rest}"}
        yield swap[person]
    yield f"person-{_slug(label)}"
    yield _slug(label).replace("merperson", "person-merpeople").replace("merman", "man-merpeople")


def _icons(path: Path, concepts: Iterable[Concept]) -> dict[str, str]:
    """SVG text by code from an iconify JSON package (whose icons go by name, not by code)."""
    data = _json(path, "icons.json")
    icons, aliases = data["icons"], data.get("aliases", {})
    chars = {canonical_code(k): v for k, v in _json(path, "chars.json").items()}
    out = {}
    for concept in concepts:
        tried = (chars.get(concept.code, ""), *_icon_names(concept.label, concept.names))
        name = next((n for n in tried if n in icons or n in aliases), None)
        if name is None:
            continue
        icon = icons[name] if name in icons else {**icons[aliases[name]["parent"]], **aliases[name]}
        left, top = icon.get("left", 0), icon.get("top", 0)
        width, height = icon.get("width", data.get("width", 16)), icon.get("height", data.get("height", 16))
        body = icon["body"]
        if icon.get("hFlip"):  # an alias may be the mirror image of its parent ("pointing left" of "pointing right")
            body = f'<g transform="matrix(-1 0 0 1 {2 * left + width} 0)">{body}</g>'
        out[concept.code] = (
            '<svg xmlns="http://www.w3.org/2000/svg" xmlns:xlink="http://www.w3.org/1999/xlink" '
            f'viewBox="{left} {top} {width} {height}">{body}</svg>'
        )
    return out


# ------------------------------------------------------------------------------------------------- build


class _Folder:
    """A sub-folder of the build that gets its final name only when whole.

    Files are written one by one under a temporary folder's name that carries a fingerprint of the inputs; an
    interrupted run leaves that folder, and the next one with the same inputs keeps its whole files.
    """

    def __init__(self, root: Path, name: str, inputs: Iterable[Package]) -> None:
        text = json.dumps([FORMAT, name, [p.integrity for p in inputs]])
        self.fingerprint = hashlib.sha256(text.encode()).hexdigest()[:16]
        self.path = root / name
        self.partial = root / f".{name}.{self.fingerprint}.partial"
        self.written: set[str] = set()

    def manifest(self) -> dict[str, Any] | None:
        """What the finished folder says of itself, or None if it is absent, old or not whole."""
        try:
            manifest = json.loads((self.path / MANIFEST).read_text("utf-8"))
            sizes = {e.name: e.stat().st_size for e in os.scandir(self.path) if e.name != MANIFEST}
        except (OSError, ValueError):
            return None
        whole = manifest.get("fingerprint") == self.fingerprint and manifest.get("sizes") == sizes
        return manifest if whole else None

    def has(self, name: str) -> bool:
        """Whether an interrupted run already wrote this file."""
        if (self.partial / name).is_file():
            self.written.add(name)
            return True
        return False

    def put(self, name: str, data: bytes) -> None:
        """Write one file atomically."""
        self.partial.mkdir(parents=True, exist_ok=True)
        temporary = self.partial / (name + ".tmp")
        temporary.write_bytes(data)
        os.replace(temporary, self.partial / name)
        self.written.add(name)

    def finish(self, **facts: Any) -> dict[str, Any]:
        """Write the manifest, drop leftovers and give the folder its final name."""
        self.partial.mkdir(parents=True, exist_ok=True)
        for entry in list(os.scandir(self.partial)):
            if entry.name not in self.written:
                os.unlink(entry.path)
        sizes = {e.name: e.stat().st_size for e in os.scandir(self.partial)}
        manifest = {"fingerprint": self.fingerprint, **facts, "sizes": sizes}
        (self.partial / MANIFEST).write_text(json.dumps(manifest), "utf-8")
        # An outdated folder steps aside first, so that its name is gone for no longer than two renames take.
        old = self.path.parent / f".{self.path.name}.old.partial"
        shutil.rmtree(old, ignore_errors=True)
        if self.path.exists():
            os.replace(self.path, old)
        os.replace(self.partial, self.path)
        for stale in self.path.parent.glob(f".{self.path.name}.*.partial"):
            shutil.rmtree(stale, ignore_errors=True)
        return manifest


def _build_stills(
    folder: _Folder, tarball: Path, pattern: str, ending: str, style: str, concepts: dict[str, Concept], tell: Progress
) -> dict[str, Any]:
    done = 0
    for code, data in _members(tarball, pattern):
        if code not in concepts or f"{code}{ending}" in folder.written:
            continue  # unknown to the naming packages, or a second spelling of the same emoji
        folder.put(f"{code}.json", concepts[code].sidecar(style))
        folder.put(f"{code}{ending}", data)
        done += 1
        tell(folder.path.name, done, len(concepts))
    return folder.finish(items=done)


def _build_clips(folder: _Folder, tarballs: list[Path], codes: set[str], tell: Progress) -> dict[str, Any]:
    frames: dict[str, int] = {}
    seen: set[str] = set()
    for tarball in tarballs:
        for code, data in _members(tarball, r"package/assets/([0-9a-fA-F_-]+)\.webp"):
            if code not in codes or code in seen:
                continue
            seen.add(code)
            with Image.open(io.BytesIO(data)) as image:
                count = getattr(image, "n_frames", 1)
            if count >= 2:
                folder.put(f"{code}.webp", data)
                frames[code] = count
            tell(folder.path.name, len(seen), len(codes))
    return folder.finish(items=len(frames), frames=sum(frames.values()), seen=len(seen))


def _build_vectors(folder: _Folder, tarball: Path, concepts: list[Concept], tell: Progress) -> dict[str, Any]:
    try:
        import resvg_py
    except ImportError:
        raise UserError('Rasterising vector emoji needs resvg-py: pip install "makeavideo[data]".') from None
    icons = _icons(tarball, concepts)
    bad: list[str] = []
    for done, (code, svg) in enumerate(sorted(icons.items()), 1):
        if not folder.has(f"{code}.png"):
            try:
                png = resvg_py.svg_to_bytes(
                    svg_string=svg, width=VECTOR_SIZE, height=VECTOR_SIZE, skip_system_fonts=True
                )
            except Exception:  # resvg reports a malformed drawing by whatever its binding raises
                bad.append(code)
                continue
            folder.put(f"{code}.png", bytes(png))
        tell(folder.path.name, done, len(icons))
    return folder.finish(items=len(icons) - len(bad), unreadable=bad)


def build_emoji(directory: Path, cache: Path | None = None, progress: Progress | None = None) -> dict[str, Any]:
    """Build the emoji set in ``directory`` (layout: this module's docstring) and return what ``build.json`` says.

    ``cache`` keeps the npm tarballs (default ``directory/.packages``, about 850 MB). Running again on a finished
    build is instant; a folder that is missing, outdated or not whole is made anew.

    Raises :class:`UserError` for a folder that cannot be written, a missing npm, a failed download, or a checksum
    mismatch.
    """
    directory = Path(directory)
    cache = directory / ".packages" if cache is None else Path(cache)
    pinned = packages()
    tell: Progress = progress or (lambda what, done, total: None)
    by_contents: dict[str, list[Package]] = {}
    for package in pinned.values():
        by_contents.setdefault(package.contents, []).append(package)
    naming = by_contents["names"]
    stills = by_contents["stills"]
    plan = {
        "images": [*stills, *naming],
        "clips": [*by_contents["clips"], *stills, *naming],
        "noto": [*by_contents["noto"], *stills, *naming],
        "vectors": [*by_contents["vectors"], *stills, *naming],
        "noto-vectors": [*by_contents["noto-vectors"], *stills, *naming],
    }
    try:
        directory.mkdir(parents=True, exist_ok=True)
        folders = {name: _Folder(directory, name, inputs) for name, inputs in plan.items()}
        manifests = {name: folder.manifest() for name, folder in folders.items()}
        if any(manifest is None for manifest in manifests.values()):
            tarballs = fetch_packages(cache, progress)
            known = read_concepts(tarballs)
            still = r"package/assets/([0-9a-fA-F_-]+)\.webp"
            codes = {code for code, _ in _members(tarballs[stills[0].name], still)} & known.keys()
            concepts = {code: known[code] for code in sorted(codes)}

            def one(name: str) -> Path:
                return tarballs[by_contents[name][0].name]

            makers: dict[str, Callable[[_Folder], dict[str, Any]]] = {
                "images": lambda f: _build_stills(f, one("stills"), still, ".webp", "fluent", concepts, tell),
                "clips": lambda f: _build_clips(f, [tarballs[p.name] for p in by_contents["clips"]], codes, tell),
                "noto": lambda f: _build_stills(
                    f, one("noto"), r"package/img/google/64/([0-9a-fA-F_-]+)\.png", ".png", "noto", concepts, tell
                ),
                "vectors": lambda f: _build_vectors(f, one("vectors"), list(concepts.values()), tell),
                "noto-vectors": lambda f: _build_vectors(f, one("noto-vectors"), list(concepts.values()), tell),
            }
            for name, folder in folders.items():
                if manifests[name] is None:
                    manifests[name] = makers[name](folder)
        counts = {}
        for name, manifest in manifests.items():
            assert manifest is not None
            counts[name] = {k: v for k, v in manifest.items() if k not in {"fingerprint", "sizes"}}
        report = {
            "counts": counts,
            "packages": [
                {"name": p.name, "version": p.version, "licence": p.licence, "integrity": p.integrity}
                for p in pinned.values()
            ],
        }
        text = json.dumps(report, indent=1)
        target = directory / "build.json"
        if not target.is_file() or target.read_text("utf-8") != text:
            temporary = directory / ".build.json.tmp"
            temporary.write_text(text, "utf-8")
            os.replace(temporary, target)
    except OSError as error:
        raise UserError(f"Cannot build the emoji set in {directory} ({error}): choose a writable folder.") from error
    return report
