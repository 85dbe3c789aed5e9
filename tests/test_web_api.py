"""The studio over HTTP: as the documentation says, and what nobody may read."""

import http.client
import json
import os
import re
import shlex
import subprocess
import sys
import urllib.error
import urllib.parse
import urllib.request
from pathlib import Path

from PIL import Image

from makeavideo.media.reader import read_recipe
from makeavideo.web.uploads import (
    MAX_BYTES,
)
from studio_page import DOCS, ROOT, begin, call, get, quick, real_weights, told, told_all


@quick
def test_a_client_of_the_api_leaves_room_for_others(quick_site):
    url, _ = quick_site
    wish = ["a cat", 1, 720, 60, 192, False, 2.0, 100, "", None]
    mine = [begin(url, "generate", *wish) for _ in range(3)]
    tokens = [told(url, "generate", one)["job"] for one in mine]
    refused = told_all(url, "generate", begin(url, "generate", *wish))
    assert "event: error" in refused and "2 videos of yours are waiting already" in refused
    others = http.client.HTTPConnection(*url[7:-1].split(":"), source_address=("127.0.0.2", 0))
    others.request(
        "POST", "/gradio_api/call/generate", json.dumps({"data": wish}), {"Content-Type": "application/json"}
    )
    tokens.append(told(url, "generate", json.loads(others.getresponse().read())["event_id"])["job"])
    assert json.loads(call(url, "status").split("data: ")[1])[0] == {"waiting": 3, "limit": 4}
    for token in reversed(tokens):
        assert "event: complete" in call(url, "stop", token)
    assert "There is no such job" in call(url, "stop", "unknown")


@quick
def test_too_large_an_upload_is_refused_while_it_arrives(quick_site):
    url, folder = quick_site
    before = set((folder / "uploads" / "incoming").rglob("*"))
    body = b'--x\r\nContent-Disposition: form-data; name="files"; filename="a.png"\r\n\r\n'
    body += bytes(MAX_BYTES + 1) + b"\r\n--x--\r\n"
    headers = {"Content-Type": "multipart/form-data; boundary=x"}
    assert get(f"{url}gradio_api/upload", data=body, headers=headers)[0] == 413
    assert set((folder / "uploads" / "incoming").rglob("*")) == before


@quick
def test_nothing_outside_the_gallery_can_be_read(quick_site, tmp_path):
    url, folder = quick_site
    secret = tmp_path / "secret.txt"
    secret.write_text("TOP-SECRET")
    picture = tmp_path / "secret.png"
    Image.new("RGB", (8, 8)).save(picture)
    for place, name in (
        (folder, "link.mp4"),
        (folder / "uploads" / "incoming", "link.txt"),
        (folder / "uploads", "b" * 32),
    ):
        (place / name).symlink_to(secret)
    up = urllib.parse.quote("../" * 12 + str(secret).lstrip("/"), safe="")
    tries = [f"gradio_api/file={secret}", f"gradio_api/file=file://{secret}", f"gradio_api/file/{secret}"]
    tries += [f"gradio_api/file={folder}/uploads/incoming/../../../{secret.name}", f"gradio_api/file={up}"]
    tries += [f"gradio_api/file={folder}/uploads/incoming/link.txt", "gradio_api/file=/etc/passwd", f"file={secret}"]
    tries += [
        "gradio_api/file=http://127.0.0.1:1/x",
        "gradio_api/proxy=http://127.0.0.1:1/x",
        "GRADIO_API/../etc/passwd",
    ]
    tries += [f"media/gallery/{up}", "media/gallery/link.mp4", f"media/upload/{up}", f"media/upload/{'b' * 32}"]
    tries += [
        f"media/job/{up}/1.mp4",
        f"static/{up}",
        f"assets/{up}",
        f"svelte/{up}",
        f"gradio_api/file={ROOT}/README.md",
    ]
    tries += [f"media/gallery/..%2f..%2f{secret.name[:-4]}.mp4", f"gradio_api/file={folder}/.formats"]
    for path in tries:
        status, body = get(url + path)
        assert status in (400, 403, 404, 405), (path, status)
        assert b"TOP-SECRET" not in body and b"root:" not in body
    # files that a client names instead of uploading them, to the API and to the page's own functions
    for path in (
        str(picture),
        f"file://{picture}",
        f"{folder}/uploads/incoming/../../../{picture.name}",
        "/etc/passwd",
    ):
        file = {"path": path, "meta": {"_type": "gradio.FileData"}}
        assert "event: error" in call(url, "animate", file)
        assert "event: error" in call(url, "vary", path)
    config = json.loads(get(f"{url}config")[1])
    uploads = [one for one in config["dependencies"] if one["targets"] and one["targets"][0][1] == "upload"]
    assert len(uploads) >= 6
    for one in uploads:
        for path in (str(picture), f"{folder}/link.mp4", "http://127.0.0.1:1/x.png", "https://example.com/x.png"):
            file = {"path": path, "meta": {"_type": "gradio.FileData"}}
            body = json.dumps({"data": [file], "fn_index": one["id"], "session_hash": "sly"}).encode()
            status, reply = get(f"{url}gradio_api/run/predict", data=body, headers={"Content-Type": "application/json"})
            assert status >= 400, (path, reply)
    for link in (folder / "link.mp4", folder / "uploads" / "incoming" / "link.txt", folder / "uploads" / ("b" * 32)):
        link.unlink()


@real_weights
def test_the_documented_examples_run(site, tmp_path):
    url, _ = site
    blocks = dict(re.findall(r"```(sh|python)\n(.*?)```", (DOCS / "web.md").read_text(), re.S))
    environment = {**os.environ, "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}"}
    Image.new("RGB", (64, 64), "orange").save(tmp_path / "picture.png")
    for program, code in (("sh", blocks["sh"]), ("python", blocks["python"])):
        code = code.replace("http://127.0.0.1:7860/", url)
        command = ["bash", "-euc", code] if program == "sh" else [sys.executable, "-c", code]
        run = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=200)
        assert run.returncode == 0, f"{shlex.join(command[:1])}: {run.stdout}{run.stderr}"
    assert read_recipe(tmp_path / "dog.mp4")["prompt"] == "a happy dog"
    assert read_recipe(tmp_path / "moving.mp4")["use"] == "animate"
    assert read_recipe(tmp_path / "longer.mp4")["use"] == "extend"
