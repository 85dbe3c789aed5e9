"""The parts of the page that Gradio has no component for: HTML in which people's words are text, style and script."""

from __future__ import annotations

from ..serving import escape
from ..shapes import Shape
from .gallery import DOWNLOADS, Item
from .jobs import Job
from .requests import one_line
from .uploads import Source

__all__ = ["CSS", "HEAD", "PICK", "card", "gallery", "notice", "preview", "progress", "result", "shown_source"]

CSS = """
.gradio-container { max-width: 1180px !important; width: 100% !important; margin: 0 auto; }
.gradio-container > main, .gradio-container .contain { width: 100%; }
.tabs button[role=tab].selected { color: #1d4ed8; } .dark .tabs button[role=tab].selected { color: #93c5fd; }
.upload .wrap { color: #374151; font-size: .9rem; line-height: 1.3; padding-top: 1.6rem; }
.dark .upload .wrap { color: #e5e7eb; }
.upload .icon-wrap { display: none; } .upload .or { color: inherit; }
[id$="-look"]:not(:has(.shown-source)), #message:not(:has(.notice)), #progress:not(:has(p)) { display: none; }
.seed-row { align-items: end; } .seed-row button { min-height: 2.6rem; }
.gradio-container h1 { margin: .2rem 0 0; font-size: 1.6rem; }
.stage-box { background: #f3f4f6; border: 1px solid #6b7280; border-radius: 8px; overflow: hidden;
  aspect-ratio: 1; display: flex; align-items: center; justify-content: center; }
.stage-box video { width: 100%; height: 100%; object-fit: contain; display: block; }
.stage-box p { color: #374151; padding: 1rem; text-align: center; }
.dark .stage-box { background: #1f2937; } .dark .stage-box p { color: #e5e7eb; }
.bar { width: 100%; height: .8rem; accent-color: #1d4ed8; }
.progress p { margin: .2rem 0; }
.notice { border-left: 4px solid #b91c1c; background: #fef2f2; color: #7f1d1d; padding: .5rem .8rem; margin: 0; }
.notice.good { border-color: #1d4ed8; background: #eff6ff; color: #1e3a8a; }
.shown-source { display: flex; gap: .8rem; align-items: center; }
.shown-source img, .shown-source video { width: 96px; height: 96px; object-fit: contain; border: 1px solid #6b7280;
  border-radius: 6px; background: #fff; }
.shown-source span, .card p { overflow-wrap: anywhere; min-width: 0; }
.cards { display: grid; gap: 1rem; grid-template-columns: repeat(auto-fill, minmax(15rem, 1fr)); padding: 0;
  list-style: none; margin: 0; }
.card { border: 1px solid #6b7280; border-radius: 8px; overflow: hidden; }
.card video { width: 100%; aspect-ratio: 1; object-fit: contain; display: block; background: #f3f4f6; }
.card .words { padding: .6rem .8rem .8rem; }
.card p { margin: 0 0 .4rem; }
.card .title { font-weight: 600; }
.card .facts { font-size: .85rem; opacity: .85; }
.card .row { display: flex; flex-wrap: wrap; gap: .4rem; margin-top: .4rem; align-items: center; }
.card button, .card .row a { margin: 0 !important; border: 1px solid currentColor; border-radius: 6px;
  padding: .3rem .6rem;
  font-size: .9rem; line-height: 1.2; min-height: 2rem; display: inline-flex; align-items: center; cursor: pointer;
  color: inherit; text-decoration: none; background: transparent; }
.card button:hover, .card .row a:hover { background: rgba(29, 78, 216, .12); }
:focus-visible { outline: 3px solid #1d4ed8 !important; outline-offset: 2px; }
.dark :focus-visible { outline-color: #93c5fd !important; }
.dragging { outline: 4px dashed #1d4ed8; outline-offset: -8px; }
@media (max-width: 640px) {
  .gradio-container { padding: .4rem !important; }
  .tabs .tab-container button { padding: 0 .45rem; font-size: .85rem; }
}
"""

# A file that is dropped beside the upload fields is one whose settings are wanted. Videos play when they are looked at;
# where less motion is wanted, only on the controls. Gradio gives its file fields no name: they get that of their label;
# and its tabs do not hear the arrow keys, Home and End.
HEAD = """
<meta name="color-scheme" content="light dark">
<script>
(() => {
  document.documentElement.lang = "en";
  const calm = matchMedia("(prefers-reduced-motion: reduce)");
  const restore = () => document.querySelector("#restore input[type=file]");
  const outside = (event) => !event.target.closest?.(".upload") && event.dataTransfer?.types.includes("Files");
  document.addEventListener("dragover", (event) => {
    if (!outside(event)) return;
    event.preventDefault();
    document.body.classList.add("dragging");
  });
  document.addEventListener("dragleave", () => document.body.classList.remove("dragging"));
  document.addEventListener("drop", (event) => {
    document.body.classList.remove("dragging");
    if (!outside(event) || !restore()) return;
    event.preventDefault();
    restore().files = event.dataTransfer.files;
    restore().dispatchEvent(new Event("change", {bubbles: true}));
  });
  document.addEventListener("keydown", (event) => {
    const tab = event.target.closest?.("[role=tab]");
    const tabs = tab ? [...tab.parentElement.querySelectorAll("[role=tab]")] : [];
    const at = tabs.indexOf(tab), last = tabs.length - 1;
    const places = {ArrowRight: at < last ? at + 1 : 0, ArrowLeft: at > 0 ? at - 1 : last, Home: 0, End: last};
    const to = tabs[places[event.key]];
    if (!to) return;
    event.preventDefault();
    to.click();
    to.focus();
  });
  const known = new WeakMap();  // video -> whether it is in sight
  const play = (video) => { if (!calm.matches) video.play().catch(() => {}); };
  const seen = new IntersectionObserver(entries => entries.forEach(({target, isIntersecting}) => {
    known.set(target, isIntersecting);
    isIntersecting ? play(target) : target.pause();
  }));
  setInterval(() => {
    document.querySelectorAll("video").forEach(video => {
      if (!known.has(video)) {
        known.set(video, false);
        seen.observe(video);
      } else if (known.get(video) && video.paused && !video.currentTime) play(video);  // it was moved before it began
    });
    document.querySelectorAll(".upload").forEach(box => {
      const name = box.querySelector("label")?.textContent.trim();
      box.querySelectorAll("button:not([aria-label]), input[type=file]").forEach(one => {
        if (name && one.getAttribute("aria-label") !== name) one.setAttribute("aria-label", name);
      });
    });
  }, 300);
})();
</script>
"""

PICK = """
element.addEventListener("click", (event) => {
  const button = event.target.closest("[data-pick]");
  if (!button) return;
  const video = button.closest(".card")?.querySelector("video");
  trigger("click", {pick: button.dataset.pick, name: button.dataset.name, time: video ? video.currentTime : 0});
});
"""
"""Script of a gr.HTML with cards: a click on one of their buttons becomes an event with what, of which, and when."""

_VERSIONS = {
    "sketch": "First idea",
    "first": "Small clip",
    "smooth": "Smooth version",
    "large": "Large version",
}
_USES = {
    "generate": "Generated",
    "animate": "Animated picture",
    "interpolate": "Joined pictures",
    "vary": "Variation",
    "extend": "Continued video",
}
_PLAYS = "muted loop playsinline"


def notice(message: str, good: bool = False) -> str:
    """A sentence that screen readers speak at once."""
    if not message:
        return ""
    return f'<p class="notice{" good" if good else ""}" role="{"status" if good else "alert"}">{escape(message)}</p>'


def preview(job: Job | None) -> str:
    """The newest version of a video in the making."""
    if job is None or not job.version:
        waiting = "Your video appears here." if job is None else "The first pictures appear here in a moment."
        return f'<div class="stage-box"><p>{waiting}</p></div>'
    name = _VERSIONS[job.preview_name]
    return (
        f'<figure class="stage-box" data-version="{job.preview_name}">'
        f'<video src="media/job/{job.token}/{job.version}.mp4" {_PLAYS} autoplay controls'
        f' aria-label="Preview: {name}"></video>'
        "</figure>"
    )


def duration(seconds: float) -> str:
    seconds = max(1, round(seconds))
    return f"{seconds} s" if seconds < 90 else f"{round(seconds / 60)} min"


def progress(job: Job | None, position: int = 0) -> str:
    """Stage, per cent and time left; or the place in the queue."""
    if job is None or job.over:
        return ""
    if job.state == "waiting":
        others = position - 1
        ahead = "you are next" if not others else f"{others} before you" if others > 1 else "one before you"
        return f'<div class="progress"><p role="status">Waiting: place {position} in the queue, {ahead}.</p></div>'
    percent = round(100 * job.share)
    left = f", about {duration(job.seconds_left)} left" if job.seconds_left is not None else ""
    version = f" You see: {_VERSIONS[job.preview_name].lower()}." if job.preview_name else ""
    # only the stage is spoken: a number that changes twice a second would never let a screen reader rest
    return (
        f'<div class="progress"><p role="status">{job.stage}.{version}</p>'
        f'<progress class="bar" max="100" value="{percent}" aria-label="Progress"></progress>'
        f"<p>{percent} %{left}</p></div>"
    )


def _facts(item: Item) -> str:
    info, recipe = item.info, item.recipe
    facts = [f"{info.duration:.1f} s", f"{info.width} x {info.height}", f"{info.fps:g} frames/s"]
    if "seed" in recipe:
        facts.append(f"seed {recipe['seed']}")
    if recipe.get("loop"):
        facts.append("loop")
    wanted = recipe.get("num_frames")
    shape = Shape(info.height, info.width).written
    if recipe.get("size", shape) != shape or (isinstance(wanted, int) and info.num_frames < wanted):
        facts.append("stopped early")
    return " · ".join(escape(str(fact)) for fact in facts)


def card(item: Item, level: str = "h3") -> str:
    """A finished video with everything that can be done with it."""
    recipe = item.recipe
    use = _USES.get(str(recipe.get("use")), "Video")
    inputs = [recipe[name] for name in ("image", "first", "last", "video") if isinstance(recipe.get(name), str)]
    title = one_line(recipe.get("prompt")) or " to ".join(inputs) or item.name
    picks = (
        ("extend", "Continue this"),
        ("vary", "Vary this"),
        ("animate", "Animate this frame"),
        ("restore", "Use its settings"),
    )
    name = escape(item.name)
    buttons = "".join(
        f'<button type="button" data-pick="{pick}" data-name="{name}">{label}</button>' for pick, label in picks
    )
    links = "".join(f'<a href="media/gallery/{item.name[:-4]}.{ending}" download>{ending}</a>' for ending in DOWNLOADS)
    return (
        f'<article class="card" data-item="{name}" aria-label="{escape(title)}">'
        f'<video src="media/gallery/{name}" {_PLAYS} controls preload="metadata"'
        f' aria-label="{use}: {escape(title)}"></video><div class="words">'
        f'<p class="title">{escape(title)}</p><p class="facts">{use} · {_facts(item)}</p>'
        f'<div class="row">{buttons}</div><div class="row"><span>Download</span>{links}</div></div></article>'
    )


def result(item: Item) -> str:
    return card(item)


def gallery(items: list[Item], shown: int) -> str:
    if not items:
        return "<p>Nothing was made yet: what you make appears here.</p>"
    cards = "".join(f"<li>{card(item)}</li>" for item in items[:shown])
    return f'<ul class="cards" aria-label="{len(items)} videos, newest first">{cards}</ul>'


def shown_source(source: Source | None, kind: str) -> str:
    """What a use starts from."""
    if source is None:
        return ""
    where = (
        f"media/gallery/{escape(source.name)}" if source.where == "gallery" else f"media/upload/{escape(source.name)}"
    )
    look = (
        f'<img src="{where}" alt="">'
        if kind == "picture"
        else f'<video src="{where}" {_PLAYS} aria-label="The chosen video"></video>'
    )
    return f'<div class="shown-source">{look}<span>{escape(source.shown)}</span></div>'
