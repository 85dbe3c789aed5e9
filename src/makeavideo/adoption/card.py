"""The model card of an adopted cascade: what it is made of, and the licence of what it starts from."""

from collections.abc import Sequence

from .adopted import Adopted
from .source import Source

UNTRAINED = "It has not been trained on videos yet: it makes that model's pictures."
USE = """```python
from makeavideo import MakeAVideoPipeline

pipe = MakeAVideoPipeline.load("{name}")
frames = pipe("a dog surfing", num_frames=16, num_inference_steps=30, guidance_scale={guidance:g}).frames[0]
```"""


def card_of(adopted: Adopted, name: str) -> str:
    """README.md. The weights are a derivative of their sources, so it carries their licences.

    name: of the folder.
    """
    licences = [source.licence or "unknown" for source in adopted.sources]
    same = licences[0] if len(set(licences)) == 1 else "other"
    lines = ["---", f"license: {same}", "base_model:", *(f"- {source.name}" for source in adopted.sources)]
    lines += ["library_name: makeavideo", "pipeline_tag: text-to-video", "---", f"# {name}", ""]
    lines += ["A Make-A-Video cascade (Singer et al. 2022, https://arxiv.org/abs/2209.14792) that starts as a"]
    lines += [f"text-to-image model. {UNTRAINED}", ""]
    lines += [USE.format(name=name, guidance=adopted.guidance), "", "## Licence", ""]
    lines += ["These weights are derived from the following ones, and their licences go with them:", ""]
    lines += [f"- {described(source)}" for source in adopted.sources]
    for title, sentences in (("Taken", adopted.found), ("Made", adopted.made), ("Missing", adopted.missing)):
        lines += ["", f"## {title}", "", *(f"- {sentence}" for sentence in sentences)]
    return "\n".join([*lines, ""])


def retold(card: str, trained: Sequence[str]) -> str:
    """The card of a cascade of which networks have been trained since: what they are of stays, and so the licence.

    trained: their names.
    """
    gone = {"decoder": "- motion:", "interpolator": "- F-up:", "super_resolution_low": "- super-resolution:"}
    ends = tuple(gone[name] for name in trained if name in gone)
    kept = [line for line in card.splitlines() if not (ends and line.startswith(ends))]
    since = f"Trained on videos or pictures since: {', '.join(trained)}."
    return "\n".join(line.replace(UNTRAINED, since) for line in [*kept, ""])


def described(source: Source) -> str:
    link = source.card.get("license_link")
    return f"{source.name} ({source.kind}): {source.licence or 'its card names no licence'}" + (
        f", {link}" if link else ""
    )
