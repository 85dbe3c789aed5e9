"""The page on which people compare two videos: Gradio, from this machine only, by mouse or by keyboard.

The page knows a pair by a random token. The videos come from /media/<token>/left and /media/<token>/right, so no
address says which folder or file a video is from. Nothing is loaded from another host: no web fonts, no CDN, no
analytics.
"""

import functools
import json
import os
import secrets
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from ..answers import say_what_is_wrong
from ..doors import KEEP_TOKEN, Doorkeeper, Site
from ..errors import UserError
from ..media.reader import read_video
from ..media.writer import write_video
from ..serving import (
    FONTS,
    PLAIN_PAGE,
    address,
    bound_sessions,
    escape,
    guard_files,
    listen,
    run_app,
)
from .pairs import Pair
from .store import QUESTIONS, Store

_SIDES = [("Left", "left"), ("Right", "right")]
_MEDIA_TYPES = {".mp4": "video/mp4", ".webm": "video/webm"}

_CSS = """
.videos { display: flex; gap: 1rem; }
.videos figure { flex: 1 1 0; min-width: 0; margin: 0; text-align: center; }
.videos video { width: 100%; max-height: 50vh; object-fit: contain; background: #808080; }
.prompt { font-size: 1.4rem; text-align: center; margin: .5rem 0; overflow-wrap: anywhere; }
.stage:focus { outline: none; }
#token { display: none !important; }
.stage button { border: 1px solid currentColor; border-radius: 4px; padding: .2rem .8rem; }
kbd { border: 1px solid currentColor; border-radius: 3px; padding: 0 .3rem; }
"""

# Both videos are fetched whole before either starts, so that neither waits for the network later. They start together,
# the one that runs ahead is put back, and the shorter one waits on its last frame until both start again. Gradio leaves
# the questions' groups without a name for screen readers: they get one here.
_JS = """
<script>
(() => {
  const questions = QUESTIONS;
  let shown = null, paused = false, urls = [];
  const stage = () => document.querySelector(".stage");
  const videos = () => [...document.querySelectorAll(".stage video")];
  const play = () => { if (!paused) videos().forEach(video => video.ended || video.play().catch(() => {})); };
  const pause = (value) => {
    paused = value;
    stage().querySelector("button").textContent = paused ? "Play" : "Pause";
    paused ? videos().forEach(video => video.pause()) : play();
  };
  const rewind = () => Promise.all(videos().map(video => new Promise(done => {
    video.addEventListener("seeked", done, {once: true});
    video.currentTime = 0;
  }))).then(play);
  const load = async (video) => {
    const caption = video.parentElement.querySelector("figcaption");
    caption.textContent = video.dataset.side;
    try {
      const reply = await fetch(video.dataset.src);
      if (!reply.ok) throw reply.status;
      const url = URL.createObjectURL(await reply.blob());
      urls.push(url);
      await new Promise((done, failed) => {
        video.addEventListener("canplaythrough", done, {once: true});
        video.addEventListener("error", failed, {once: true});
        video.src = url;
      });
    } catch {
      caption.textContent += ": this video cannot be shown";
    }
  };
  const start = async (token) => {
    shown = token;
    urls.forEach(url => URL.revokeObjectURL(url));
    urls = [];
    stage().removeAttribute("data-ready");
    pause(true);
    Object.entries(questions).forEach(([id, text]) => document.getElementById(id).setAttribute("aria-label", text));
    await Promise.all(videos().map(load));
    if (shown !== token || !stage()) return;
    stage().dataset.ready = token;
    stage().focus({preventScroll: true});
    pause(false);
  };
  setInterval(() => {
    // Gradio keeps the elements and changes what is in them: only the token says that the pair is another one
    if (!stage()) { shown = null; return; }
    if (stage().dataset.token !== shown) start(stage().dataset.token);
    const [one, two] = videos();
    if (paused || one.ended || two.ended || one.seeking || two.seeking) return;
    const ahead = one.currentTime - two.currentTime;
    if (Math.abs(ahead) > 0.08) (ahead > 0 ? one : two).currentTime = Math.min(one.currentTime, two.currentTime);
  }, 100);
  // ended does not bubble, so it is caught on its way down
  document.addEventListener("ended", () => { if (videos().every(video => video.ended)) rewind(); }, true);
  const choose = (question, side) => {
    document.querySelector(`#${Object.keys(questions)[question]} input[value="${side}"]`).click();
  };
  const keys = {
    "1": () => choose(0, "left"),
    "2": () => choose(0, "right"),
    "3": () => choose(1, "left"),
    "4": () => choose(1, "right"),
    "p": () => pause(!paused),
    "Enter": () => document.querySelector("#save").click(),
  };
  document.addEventListener("keydown", (event) => {
    const typing = event.target.matches("input:not([type=radio]), textarea");
    const pressing = event.key === "Enter" && event.target.matches("button, a");  // the browser does it
    const action = keys[event.key.length === 1 ? event.key.toLowerCase() : event.key];
    if (!stage() || typing || pressing || !action || event.repeat) return;
    if (event.ctrlKey || event.altKey || event.metaKey) return;
    event.preventDefault();
    action();
  });
  document.addEventListener("click", (event) => { if (event.target.matches(".stage button")) pause(!paused); });
})();
</script>
""".replace("QUESTIONS", json.dumps(QUESTIONS))

_HELP = (
    "<p>Keys: <kbd>1</kbd> left or <kbd>2</kbd> right for the first question, <kbd>3</kbd> left or <kbd>4</kbd> right"
    " for the second, <kbd>Enter</kbd> saves and shows the next pair, <kbd>P</kbd> pauses and plays."
    " Or <kbd>Tab</kbd> from Pause to the answers to Save, and <kbd>Space</kbd> to choose.</p>"
)


def stage(token: str, prompt: str) -> str:
    """HTML of a pair: the prompt over two videos."""
    figures = "".join(
        f'<figure><video data-src="media/{token}/{side}" data-side="{name}" aria-label="{name} video" muted'
        f" playsinline></video><figcaption>{name}</figcaption></figure>"
        for name, side in _SIDES
    )
    return (
        f'<section class="stage" data-token="{token}" tabindex="-1" aria-label="Two videos to compare">'
        f'<p class="prompt">{escape(prompt)}</p>'
        f'<div class="videos">{figures}</div><button type="button">Pause</button></section>'
    )


def status(message: str) -> str:
    return f'<p role="status">{escape(message)}</p>'


@functools.lru_cache(maxsize=64)
def media(path: Path) -> tuple[bytes, str]:
    """What the browser gets for a file, and its type.

    A gif or webp becomes mp4: browsers cannot start, pause or seek a picture, so two of them would not keep in step.
    """
    if kind := _MEDIA_TYPES.get(path.suffix.lower()):
        return path.read_bytes(), kind
    clip = read_video(path)
    with tempfile.TemporaryDirectory() as folder:
        moved = Path(folder) / "clip.mp4"
        write_video(moved, clip.frames, fps=clip.fps or 1.0)
        return moved.read_bytes(), "video/mp4"


def make_app(store: Store, pairs: list[Pair], site: Site) -> Any:
    """The page as an ASGI application (FastAPI)."""
    os.environ["GRADIO_ANALYTICS_ENABLED"] = "False"  # read when Gradio is imported
    try:
        import gradio as gr
        from fastapi import FastAPI
        from gradio.themes import Base
    except ImportError:
        raise UserError("The page needs Gradio: run `pip install makeavideo[web]`.") from None

    by_name = {pair.name: pair for pair in pairs}
    app = FastAPI(openapi_url=None, docs_url=None, redoc_url=None)
    app.add_middleware(Doorkeeper, site=site)
    _add_media(app, store, by_name)
    with gr.Blocks(title="Which video is better?", analytics_enabled=False) as blocks:
        Page(store, by_name).wire(blocks)
    for block in blocks.blocks.values():
        guard_files(block, no_files)
    mounted = gr.mount_gradio_app(
        app,
        blocks,
        path="/",
        theme=Base(**FONTS),
        css=_CSS,
        head=_JS + KEEP_TOKEN,
        **PLAIN_PAGE,
    )
    bound_sessions(blocks)
    say_what_is_wrong(mounted, blocks)
    return mounted


def _add_media(app: Any, store: Store, by_name: dict[str, Pair]) -> None:
    """The addresses of the videos of pairs that are in somebody's hands."""
    from fastapi import HTTPException, Response

    @app.get("/media/{token}/{side}")
    def serve_media(token: str, side: str) -> Response:
        hand = store.find(token)
        if hand is None or side not in ("left", "right"):
            raise HTTPException(404)
        pair = by_name[hand.pair]
        body, kind = media(pair.a if (side == "left") == (hand.left == "A") else pair.b)
        # not kept by the browser: what it has shown is nobody's to look up later
        return Response(body, media_type=kind, headers={"Cache-Control": "no-store"})


class Page:
    """The components, and what changes on the page when somebody presses one. Made inside `gr.Blocks`."""

    def __init__(self, store: Store, by_name: dict[str, Pair]) -> None:
        import gradio as gr

        self.store, self.by_name, self.update = store, by_name, gr.update
        # One name for the browser's storage and its key, so that a rater is known after a restart of the server.
        self.saved = gr.BrowserState("", storage_key="makeavideo-rater", secret="makeavideo-rater")
        self.message = gr.HTML(status("Loading ..."))
        with gr.Column(visible=False) as self.welcome:
            self.name = gr.Textbox(label="Your name, always the same one; left empty, a random one is made up")
            self.begin = gr.Button("Start", variant="primary", elem_id="start")
        with gr.Column(visible=False) as self.rating:
            self.videos = gr.HTML()
            # kept in the page and not in Gradio's session: an answer still counts after a restart of the server
            self.token = gr.Textbox(elem_id="token")
            with gr.Row():
                self.radios = [gr.Radio(_SIDES, label=label, elem_id=key) for key, label in QUESTIONS.items()]
            self.save = gr.Button("Save and show the next pair", variant="primary", elem_id="save")
            gr.HTML(_HELP)
        self.leave = gr.Button("Rate under another name", size="sm", visible=False)

    def wire(self, blocks: Any) -> None:
        import gradio as gr

        outputs = [
            self.saved,
            self.message,
            self.welcome,
            self.rating,
            self.videos,
            self.token,
            *self.radios,
            self.leave,
        ]
        quiet: dict[str, Any] = {"show_progress": "hidden", "api_visibility": "private", "outputs": outputs}
        blocks.load(self.said(self.on_load), [self.saved], **quiet)
        gr.on([self.begin.click, self.name.submit], self.said(self.on_start), [self.name], **quiet)
        self.save.click(self.said(self.on_save), [self.saved, self.token, *self.radios], **quiet)
        self.leave.click(self.ask_name, None, **quiet)

    def said(self, act: Callable[..., dict[Any, Any]]) -> Callable[..., dict[Any, Any]]:
        """`act`, of which the page says what it refuses, such as a vote on a full disk; the answers stay chosen."""

        @functools.wraps(act)
        def call(*given: Any) -> dict[Any, Any]:
            try:
                return act(*given)
            except UserError as error:
                return {self.message: status(str(error))}

        return call

    def ask_name(self) -> dict[Any, Any]:
        return {
            self.saved: "",
            self.message: status("You will see two videos at a time. Tell us which one is better."),
            self.welcome: self.update(visible=True),
            self.rating: self.update(visible=False),
            self.videos: "",
            self.leave: self.update(visible=False),
        }

    def show_next(self, rater: str, note: str = "") -> dict[Any, Any]:
        done, total = self.store.progress(rater)
        hand = self.store.hand_out(rater)
        line = f"{note}You rate as {rater}: {done} of {total} pairs done."
        if hand is None:
            line += " Thank you: there is nothing left for you to rate."
        return {
            self.saved: rater,
            self.message: status(line),
            self.welcome: self.update(visible=False),
            self.rating: self.update(visible=hand is not None),
            self.videos: stage(hand.token, self.by_name[hand.pair].prompt) if hand else "",
            self.token: hand.token if hand else "",
            self.leave: self.update(visible=True),
            **{radio: None for radio in self.radios},
        }

    def on_load(self, saved: Any) -> dict[Any, Any]:
        rater = name_of(saved)
        return self.show_next(rater) if rater else self.ask_name()

    def on_start(self, typed: Any) -> dict[Any, Any]:
        return self.show_next(name_of(typed) or f"rater-{secrets.token_hex(4)}")

    def on_save(self, saved: Any, held: Any, *answers: str | None) -> dict[Any, Any]:
        rater, held = name_of(saved), name_of(held)
        if not rater:
            return self.ask_name()
        given = [answer for answer in answers if answer is not None]
        if len(given) < len(QUESTIONS):
            return {self.message: status("Please answer both questions.")}
        if self.store.vote(held, dict(zip(QUESTIONS, given, strict=True))):
            return self.show_next(rater)
        return self.show_next(rater, "That pair is no longer yours to rate, here is another one. ")


def name_of(given: Any) -> str:
    """What a browser says that somebody, or a pair in his hands, is called: one line of at most 80 characters; "" for
    anything but a text."""
    return " ".join(given.encode("utf-8", "replace").decode().split())[:80] if isinstance(given, str) else ""


def no_files(path: Any) -> None:
    """This page takes no files; Gradio would copy any that a client names to where it can be read."""
    raise PermissionError(f"not a file of this page: {path}")


def run(store: Store, pairs: list[Pair], host: str, port: int, allow_hosts: Sequence[str] = ()) -> None:
    """Serve until Ctrl-C.

    allow_hosts: further names under which the page may be opened, such as a proxy's.

    Raises:
        UserError: Gradio is missing, or the address cannot be listened on.
    """
    site = Site.at(host, allow_hosts)
    with listen(host, port) as listener:
        app = make_app(store, pairs, site)
        print(f"{len(pairs)} pairs, votes in {store.path}")
        print(f"Rate at {address(listener, host)} (Ctrl-C ends)", flush=True)
        run_app(app, listener)
