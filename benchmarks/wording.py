"""How well P understands words: is the right concept the nearest to its image embedding, before anything is drawn?

    python benchmarks/wording.py DATA [--prior table|diffusion] [--sentences FILE] [--json FILE]

DATA is the folder that `make-a-video data emoji` built. Four kinds of words: labels of training concepts, keywords
known from training (and those that one concept group alone has), keywords held out of all training, and sentences as
people type them, in evaluation/sentences.tsv, none of them used in training. Each becomes y_e by P; the stills of all
concepts, held-out ones too, are ordered by cosine to it, the best of each concept group counting. top-1 and top-5: the
share of words of which a right group comes first, or among five. Nearest still: the cosine to the likest still, so
whether y_e is one that the decoder knows. --prior table: known wordings (what the model does); diffusion: the paper's
prior. Of the table there is also its own ranking of the groups, before one picture is chosen.
"""

import argparse
import json
import random
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor

from makeavideo.data.images import CaptionedImages
from makeavideo.emoji.concepts import concept_group, split
from makeavideo.encoders import embed_images, embed_text
from makeavideo.errors import UserError
from makeavideo.evaluation.results import one_sentence, save_benchmark
from makeavideo.included import default_model
from makeavideo.loading import weights_hash
from makeavideo.pipeline import MakeAVideoPipeline

SENTENCES = Path(__file__).parents[1] / "evaluation" / "sentences.tsv"


@dataclass
class Questions:
    """Words, and for each the concept groups that are right."""

    words: list[str] = field(default_factory=list)
    right: list[set[str]] = field(default_factory=list)

    @classmethod
    def of(cls, answers: dict[str, set[str]]) -> "Questions":
        return cls(list(answers), list(answers.values()))

    def some(self, count: int, seed: int) -> "Questions":
        chosen = random.Random(f"{seed} wording").sample(range(len(self.words)), min(count, len(self.words)))
        return Questions([self.words[i] for i in chosen], [self.right[i] for i in chosen])


def read_sentences(path: Path) -> Questions:
    """A header, then a sentence, a tab and the codes that are right, in each line."""
    try:
        lines = path.read_text("utf-8").splitlines()[1:]
        pairs = [line.split("\t") for line in lines if line]
        return Questions([text for text, _ in pairs], [set(map(concept_group, codes.split())) for _, codes in pairs])
    except (OSError, ValueError) as error:
        raise UserError(f"The sentences {path} cannot be read ({error}): give lines of `sentence<tab>codes`.") from None


def questions(stills: CaptionedImages, sentences: Path) -> dict[str, Questions]:
    """All four kinds, by what they are called in the table."""
    labels: dict[str, set[str]] = {}
    owners: dict[str, set[str]] = {}
    keywords: dict[str, None] = {}
    held_out: dict[str, set[str]] = {}
    for index, key in enumerate(stills.keys):
        if key in split().held_out_all:
            continue
        source = next(source for source in stills.items[index].captions if source.extension == "json")
        said, group = json.loads(source.read()), concept_group(key)
        labels.setdefault(said["label"], set()).add(group)
        for word in stills.captions(index):  # "dog" is a keyword of the dog's face, and the dog is right too
            owners.setdefault(word, set()).add(group)
        keywords.update(dict.fromkeys(said["keywords"]))
        for word in said.get("held_out_keywords", ()):
            held_out.setdefault(word, set()).add(group)
    known = {word: owners[word] for word in keywords}
    return {
        "labels": Questions.of(labels),
        "known keywords": Questions.of(known),
        "known keywords of one group": Questions.of({word: right for word, right in known.items() if len(right) == 1}),
        "held-out keywords": Questions.of(held_out),
        "sentences": read_sentences(sentences),
    }


def ranks(scores: Tensor, groups: list[str], right: list[set[str]]) -> list[int]:
    """Place of the best right group, 0 the first; scores (questions, stills), the best still of a group counts."""
    names = sorted(set(groups))
    places = {name: place for place, name in enumerate(names)}
    of_still = torch.tensor([places[group] for group in groups])
    best = torch.full((len(scores), len(names)), -torch.inf)
    best.scatter_reduce_(1, of_still.expand(len(scores), -1), scores, "amax")
    found = []
    for row, wanted in zip(best, right, strict=True):
        known = [places[group] for group in wanted if group in places]
        found.append(int((row > row[known].max()).sum()) if known else len(names))
    return found


def tops(places: list[int]) -> dict[str, float]:
    count = len(places)
    return {f"top-{limit}": sum(place < limit for place in places) / count for limit in (1, 5)}


def embed_stills(pipe: MakeAVideoPipeline, stills: CaptionedImages) -> Tensor:
    pixels = [
        torch.cat([stills[i, 0]["pixels"] for i in range(a, min(a + 64, len(stills)))])
        for a in range(0, len(stills), 64)
    ]
    with torch.no_grad():
        return torch.cat(
            [F.normalize(embed_images(pipe.image_encoder, part.to(pipe.device)).cpu(), dim=-1) for part in pixels]
        )


@torch.no_grad()
def in_parts(embed: Callable[[list[str]], Tensor], words: list[str]) -> Tensor:
    return torch.cat([embed(words[start : start + 128]).cpu() for start in range(0, len(words), 128)])


def measure(pipe: MakeAVideoPipeline, asked: dict[str, Questions], stills: Tensor, keys: list[str], seed: int) -> dict:
    """Figures of each kind of words; `stills` (n, dim) unit vectors, keys their codes."""
    groups = [concept_group(key) for key in keys]
    generator = torch.Generator().manual_seed(seed)
    figures = {}
    for kind, questions in asked.items():
        y_e = F.normalize(in_parts(lambda words: pipe.embed_prompts(words, generator), questions.words), dim=-1)
        scores = y_e @ stills.T
        nearest = scores.amax(1)
        figures[kind] = {
            "words": len(questions.words),
            **tops(ranks(scores, groups, questions.right)),
            "nearest still": float(nearest.mean()),
            "nearest still, worst tenth": float(nearest.quantile(0.1)),
        }
        if pipe.wordings is not None:
            likely = in_parts(
                lambda words: pipe.wordings(embed_text(pipe.tokenizer, pipe.text_encoder, words)), questions.words
            )
            owned = [keys[int(i)] for i in (pipe.wordings.pictures.float() @ stills.T).argmax(1)]
            own = tops(ranks(likely, [concept_group(key) for key in owned], questions.right))
            figures[kind] |= {f"table's {name}": value for name, value in own.items()}
    return figures


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path)
    parser.add_argument("--model", type=Path, default=default_model())
    parser.add_argument("--prior", choices=["table", "diffusion"], default="table")
    parser.add_argument("--sentences", type=Path, default=SENTENCES)
    parser.add_argument("--most", type=int, default=2000, help="words of each kind, drawn by seed")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--json", type=Path)
    arguments = parser.parse_args()
    pipe = MakeAVideoPipeline.load(arguments.model)
    pipe.set_progress_bar_config(disable=True)
    if arguments.prior == "table" and pipe.wordings is None:
        raise UserError(f"{arguments.model} has no table of wordings: give --prior diffusion.")
    if arguments.prior == "diffusion":
        pipe.wordings = None
    stills = CaptionedImages(arguments.data / "images", pipe.image_encoder.config.image_size, need_captions=False)
    asked = {
        kind: some.some(arguments.most, arguments.seed) for kind, some in questions(stills, arguments.sentences).items()
    }
    figures = measure(pipe, asked, embed_stills(pipe, stills), stills.keys, arguments.seed)
    print(f"y_e by: {'the table of known wordings' if pipe.wordings else 'the diffusion prior'}")
    for kind, found in figures.items():
        rest = ", ".join(
            f"{name} {value:.1%}" if "top" in name else f"{name} {value:.2f}"
            for name, value in found.items()
            if name != "words"
        )
        print(f"{kind} ({found['words']}): {rest}")
    if arguments.json:
        save_benchmark(arguments.json, "wording", arguments, figures, weights_hash(arguments.model))


if __name__ == "__main__":
    one_sentence(main)
