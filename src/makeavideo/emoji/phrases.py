"""What one would say of an emoji: its label as a phrase with its article, and words made readable."""

from __future__ import annotations

import re
from collections.abc import Iterable

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


def clean(words: Iterable[str]) -> list[str]:
    """Lower-case, readable, without repetitions or emoticons such as ":D"."""
    out: dict[str, None] = {}
    for word in words:
        word = re.sub(r"\s+", " ", word.replace("_", " ").lower()).strip(" .")
        if len(word) > 1 and re.search(r"[^\W\d]{2}", word) and not word.startswith(("+", "-", ":")):
            out[word] = None
    return list(out)
