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

import pytest
from PIL import Image

from makeavideo.media.reader import probe, read_recipe
from makeavideo.web.uploads import (
    MAX_BYTES,
)
from studio_page import DOCS, ROOT, begin, call, get, quick, real_weights, token_header, told, told_all


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
        "POST",
        "/gradio_api/call/generate",
        json.dumps({"data": wish}),
        {"Content-Type": "application/json", **token_header(url)},
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
    headers = {"Content-Type": "multipart/form-data; boundary=x", **token_header(url)}
    assert get(f"{url}gradio_api/upload", data=body, headers=headers)[0] == 413
    assert set((folder / "uploads" / "incoming").rglob("*")) == before


@quick
def test_other_sites_and_clients_without_the_token_change_nothing(quick_site):
    url, folder = quick_site
    before = sorted(folder.rglob("*"))
    wish = json.dumps({"data": ["a cat", 1, 2, 8, 16, False, 1.0, 1, ""]}).encode()
    form = b'--x\r\nContent-Disposition: form-data; name="files"; filename="a.png"\r\n\r\nabc\r\n--x--\r\n'
    kinds = ("application/json", "application/json", "multipart/form-data; boundary=x")
    token, evil = token_header(url), url[7:-1].replace("127.0.0.1", "evil.example")
    paths = ("call/generate", "queue/join", "upload")
    for path, body, kind in zip(paths, (wish, wish, form), kinds, strict=True):
        for headers in ({}, {"Authorization": "Bearer x"}, {"Host": evil, "Origin": f"http://{evil}", **token}):
            assert get(f"{url}gradio_api/{path}", data=body, headers={"Content-Type": kind, **headers})[0] == 403, path
        assert get(f"{url}gradio_api/{path}", data=body, headers={"Origin": f"http://{evil}", **token})[0] == 403
    for path in ("", "config", "gradio_api/info", "gradio_api/call/gallery/x", "media/gallery/x.mp4"):
        assert get(url + path, headers={"Host": evil})[0] == 403
    assert sorted(folder.rglob("*")) == before


@quick
def test_settings_of_a_wrong_type_get_one_sentence(quick_site):
    url, _ = quick_site
    right = ["a cat", 1, 2, 8, 16, False, 1.0, 1, "", None]
    wrong = ((0, 5), (0, ["a"]), (1, "x"), (1, 1.5), (2, True), (3, "8"), (4, {}), (5, "no"), (6, []), (8, 7), (9, "x"))
    for place, value in wrong:
        said = call(url, "generate", *right[:place], value, *right[place + 1 :])
        assert "event: error" in said and re.search(r"is .*: give (a|true)", said), (place, value, said)


@quick
def test_what_no_page_sends_is_one_sentence(quick_site):
    url, _ = quick_site
    right = ["a cat", 1, 2, 8, 16, False, 1.0, 1, "", None]
    for place, value, sentence in (
        (0, "a \ud800 cat", "The prompt is no text, its letter 3 is none in UTF-8"),
        (8, "\ud800", "is no text, its letter 1"),
        (4, "9" * 200_000, "--size 9999"),
    ):
        said = call(url, "generate", *right[:place], value, *right[place + 1 :])
        assert "event: error" in said and sentence in said and len(said) < 400, said[:400]


def form(head: str, content: bytes = b"abc", end: bytes = b"--x--\r\n") -> bytes:
    """An upload of one part."""
    return b"--x\r\nContent-Disposition: form-data; " + head.encode() + b"\r\n\r\n" + content + b"\r\n" + end


JSON, FORM = "application/json", "multipart/form-data; boundary=x"
NO_FORM, NO_FILE = "no multipart form", "brings no file"
PICTURE = 'name="files"; filename="a.png"'


@quick
@pytest.mark.parametrize(
    ("path", "kind", "body", "status", "sentence"),
    [
        ("call/nothing", JSON, b'{"data": []}', 404, "There is no such endpoint"),
        ("call/v2/nothing", JSON, b"{}", 404, "There is no such endpoint"),
        ("call/v2/generate", JSON, b'{"wish": 1}', 400, "not as it should be"),
        ("queue/join", JSON, b'{"data": [], "fn_index": 1000000000, "session_hash": "a"}', 404, "no such endpoint"),
        ("queue/join", JSON, b'{"data": NaN, "fn_index": 1, "session_hash": "a"}', 422, "The request's data is"),
        ("queue/join", JSON, b"{", 400, "The request is no JSON"),
        ("call/generate/zzz", "", None, 404, "There is no such event"),
        ("upload", "multipart/form-data; boundary=" + "b" * 5000, b"x", 400, NO_FORM),
        ("upload", "multipart/form-data", b"x", 400, NO_FORM),
        ("upload", FORM, b"x" * 100, 400, NO_FORM),
        ("upload", FORM, form('name="files"'), 400, NO_FORM),
        ("upload?upload_id=a", FORM, form('name="files"'), 400, NO_FORM),
        ("upload", FORM, form(PICTURE, b"a" * 1000, b""), 400, "is cut off"),
        ("upload", FORM, form(PICTURE, end=form(PICTURE, end=b"")), 400, "is cut off"),
        ("upload", FORM, form('name="other"'), 400, NO_FILE),
        ("upload", FORM, form(PICTURE + "\r\nX: " + "a" * 20_000), 413, "too large"),
    ],
    ids=lambda value: str(value)[:30],
)
def test_what_is_wrong_with_a_request_is_one_sentence(quick_site, path, kind, body, status, sentence):
    headers = {"Content-Type": kind, **token_header(quick_site[0])}
    found, said = get(f"{quick_site[0]}gradio_api/{path}", data=body, headers=headers)
    detail = json.loads(said)["detail"]
    assert found == status and sentence in detail and len(detail) < 150 and detail.count(". ") == 0, (found, said)


@quick
def test_what_a_call_leaves_out_is_its_default(quick_site):
    url, folder = quick_site
    before = set(folder.glob("*.mp4"))
    made = call(url, "generate", "a cat", 1, None, 60, None, False, 1.0, 1)
    assert "event: complete" in made, made
    (file,) = set(folder.glob("*.mp4")) - before
    recipe = read_recipe(file)
    assert (recipe["num_frames"], recipe["size"], recipe["motion"]) == (76, 64, None)
    info = json.loads(get(f"{url}gradio_api/info")[1])["named_endpoints"]["/generate"]["parameters"]
    assert [one["parameter_name"] for one in info if not one["parameter_has_default"]] == ["prompt"]
    said = call(url, "generate", "a cat", 1, 2, 8, [16, 32], False, 1.0, 0)
    assert "The steps must lie between 1 and 100" in said, "a shape as Python has it"
    for name, given, sentence in (
        ("generate", [], "/generate takes 1 to 10 values, not 0"),
        ("generate", ["a cat"] * 11, "/generate takes 1 to 10 values, not 11"),
        ("stop", [], "/stop takes 1 value, not 0"),
        ("status", [1], "/status takes 0 values, not 1"),
    ):
        said = call(url, name, *given)
        assert "event: error" in said and f'"{sentence}: see docs/web.md."' in said, said


@quick
def test_what_is_sent_to_the_page_s_own_functions_is_looked_at(quick_site):
    url, _ = quick_site
    headers = {"Content-Type": JSON, **token_header(url)}
    config = json.loads(get(f"{url}config")[1])
    functions = [one for one in config["dependencies"] if one["api_name"] in ("on_make", "on_upload", "on_restore")]
    for one in functions:
        for given in ([], ["x"] * len(one["inputs"])):
            body = json.dumps({"data": given, "fn_index": one["id"], "session_hash": f"wrong{one['id']}"}).encode()
            assert get(f"{url}gradio_api/queue/join", data=body, headers=headers)[0] == 200
            said = get(f"{url}gradio_api/queue/data?session_hash=wrong{one['id']}")[1].decode()
            (over,) = [json.loads(line[6:]) for line in said.split("\n\n") if "process_completed" in line]
            error = over["output"]["error"]
            assert re.search(r"takes \d+ values?, not 0|of another kind than it takes", error), error
    assert b"session_not_found" in get(f"{url}gradio_api/queue/data?session_hash=nobody")[1]
    status, said = get(f"{url}gradio_api/file={'a' * 5000}")
    assert status == 403 and len(said) < 300
    status, said = get(f"{url}assets/{'a' * 5000}")
    assert status == 404 and b"There is nothing at this address." in said
    for name in ("generate", "stop"):  # not past the queue
        assert get(f"{url}gradio_api/run/{name}", data=b'{"data": ["a"]}', headers=headers)[0] == 404


@quick
def test_a_video_of_another_shape(quick_site):
    url, folder = quick_site
    before = set(folder.glob("*.mp4"))
    made = call(url, "generate", "a cat", 1, 3, 8, "24x16", False, 1.0, 1, "", None)
    assert "event: complete" in made, made
    (file,) = set(folder.glob("*.mp4")) - before
    assert (probe(file).width, probe(file).height, read_recipe(file)["size"]) == (24, 16, "24x16")
    refused = call(url, "generate", "a cat", 1, 3, 8, "25x16", False, 1.0, 1, "", None)
    assert "event: error" in refused and "--size 25x16 is not possible" in refused


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
            headers = {"Content-Type": "application/json", **token_header(url)}
            assert get(f"{url}gradio_api/queue/join", data=body, headers=headers)[0] == 200
            reply = get(f"{url}gradio_api/queue/data?session_hash=sly")[1]
            assert b"This is not an uploaded file" in reply and b"gallery" not in reply, (path, reply)
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
        code = code.replace("TOKEN", token_header(url)["Authorization"].removeprefix("Bearer "))
        command = ["bash", "-euc", code] if program == "sh" else [sys.executable, "-c", code]
        run = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=200)
        assert run.returncode == 0, f"{shlex.join(command[:1])}: {run.stdout}{run.stderr}"
    assert read_recipe(tmp_path / "dog.mp4")["prompt"] == "a happy dog"
    assert read_recipe(tmp_path / "moving.mp4")["use"] == "animate"
    assert read_recipe(tmp_path / "longer.mp4")["use"] == "extend"
