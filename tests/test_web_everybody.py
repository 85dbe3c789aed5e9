"""The studio's page for everybody: contrast, names for screen readers, a narrow screen, the keyboard alone."""

from itertools import pairwise

import pytest
from PIL import Image

from studio_page import DOCS, NAMES, person, quick, real_weights

CONTRAST = """() => {
  const canvas = new OffscreenCanvas(1, 1).getContext("2d", {willReadFrequently: true});
  const parse = (colour) => {
    canvas.clearRect(0, 0, 1, 1);
    canvas.fillStyle = colour;
    canvas.fillRect(0, 0, 1, 1);
    const [r, g, b, a] = canvas.getImageData(0, 0, 1, 1).data;
    return [r, g, b, a / 255];
  };
  const over = ([r, g, b, a], under) => [r, g, b].map((c, i) => a * c + (1 - a) * under[i]);
  const light = (rgb) => {
    const [r, g, b] = rgb.map(c => c / 255).map(c => c <= .03928 ? c / 12.92 : ((c + .055) / 1.055) ** 2.4);
    return .2126 * r + .7152 * g + .0722 * b;
  };
  const up = (one) => one ? [one, ...up(one.parentElement)] : [];
  const low = [];
  const look = (one, text, colour) => {
    const {width, height} = one.getBoundingClientRect();
    if (!text.trim() || width < 2 || height < 2 || one.closest(":disabled, script, style")) return;
    if (!one.checkVisibility({opacityProperty: true, visibilityProperty: true})) return;
    const styles = up(one).map(one => getComputedStyle(one));
    const behind = styles.reduceRight((under, style) => over(parse(style.backgroundColor), under), [255, 255, 255]);
    const [r, g, b, a] = parse(colour), opacity = styles.reduce((all, style) => all * style.opacity, 1);
    const [x, y] = [light(over([r, g, b, a * opacity], behind)), light(behind)];
    const ratio = (Math.max(x, y) + .05) / (Math.min(x, y) + .05);
    if (ratio < 4.5) low.push(`${text.trim().slice(0, 30)}: ${ratio.toFixed(2)}`);
  };
  const walk = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
  while (walk.nextNode()) {
    const one = walk.currentNode.parentElement;
    look(one, walk.currentNode.textContent, getComputedStyle(one).color);
  }
  for (const one of document.querySelectorAll("input:not([type=radio], [type=checkbox]), textarea")) {
    look(one, one.value, getComputedStyle(one).color);
    if (one.placeholder) look(one, one.placeholder, getComputedStyle(one, "::placeholder").color);
  }
  return low;
}"""
CONTROLS = {"button", "checkbox", "combobox", "link", "progressbar", "radio", "slider", "spinbutton", "tab", "textbox"}
CONTROLS |= {"searchbox", "video"}


def nameless(page) -> list[str]:
    """The controls for which the browser tells a screen reader no name."""
    session = page.context.new_cdp_session(page)
    nodes = [one for one in session.send("Accessibility.getFullAXTree")["nodes"] if not one["ignored"]]
    session.detach()
    controls = [one for one in nodes if one["role"]["value"].lower() in CONTROLS]
    assert len(controls) > 15
    return [str(one) for one in controls if not one.get("name", {}).get("value", "").strip()]


@real_weights
@pytest.mark.parametrize(
    ("device", "width", "height", "scheme"),
    [("desktop", 1280, 900, "light"), ("phone", 390, 844, "light"), ("desktop", 1280, 900, "dark")],
)
def test_everybody_can_use_it(browser, site, device, width, height, scheme, tmp_path, request):
    """With --pictures it also makes the screenshots of docs/web anew."""
    url, _ = site
    pictures = DOCS / "web" if request.config.getoption("pictures") else tmp_path
    with person(browser, url, width=width, height=height, scheme=scheme) as ada:
        page, wrong = ada.page, set()

        def check() -> None:
            wrong.update(page.evaluate(CONTRAST), nameless(page))
            if page.evaluate("document.documentElement.scrollWidth") > width:
                wrong.add("cut off at the side")

        assert page.evaluate("document.documentElement.lang") == "en"
        assert page.evaluate("document.body.classList.contains('dark')") == (scheme == "dark")
        for use, name in NAMES.items():
            ada.tab(name)
            page.locator(f"#{use}-make").wait_for()
            page.wait_for_timeout(500)
            if scheme == "light":
                shot = pictures / f"{use}-{device}.png"
                page.evaluate("scrollTo(0, 0)")
                page.screenshot(path=shot)
                Image.open(shot).quantize(128).save(shot, optimize=True)
                assert shot.stat().st_size < 150_000
            ada.panel(use).get_by_role("button", name="More").click()
            ada.panel(use).get_by_label("number input for Steps").wait_for()
            check()
        ada.tab("Animate")
        ada.make("animate")
        ada.said("The picture is missing")
        check()
        ada.tab("Generate")  # this one takes long enough to be looked at
        page.locator("#generate-example").click()
        page.locator("#progress progress").wait_for()
        check()
        page.get_by_role("button", name="Stop").click()
        page.locator("#message [role=status]").wait_for(timeout=600_000)
        check()
        assert wrong == set()


FOCUSED = """() => {
  const at = document.activeElement;
  const name = at.textContent || at.getAttribute("aria-label") || at.labels?.[0]?.textContent || "";
  const box = (at.type === "file" ? at.parentElement : at).getBoundingClientRect();
  return {
    name: `${at.closest("[id]")?.id || ""} ${name.trim()}`,
    box: [box.left + scrollX, box.top + scrollY, box.bottom + scrollY],
    inside: Boolean(at.closest("[role=tabpanel]")),
    seen: getComputedStyle(at).outlineStyle !== "none",
  };
}"""
STOPS = """panel => [...panel.querySelectorAll("button, input, textarea, video")].filter(one =>
  one.checkVisibility({visibilityProperty: true}) && !one.disabled && one.tabIndex >= 0).length"""


@quick
def test_it_works_by_keyboard(browser, quick_site):
    url, _ = quick_site
    with person(browser, url) as ada:
        page = ada.page
        page.locator("[role=tab][aria-selected=true]").focus()
        for key, name in (
            ("ArrowRight", "Animate"),
            ("End", "Continue"),
            ("ArrowRight", "Generate"),
            ("ArrowLeft", "Continue"),
            ("Home", "Generate"),
        ):
            page.keyboard.press(key)
            tab = page.get_by_role("tab", name=name, exact=True)
            page.wait_for_function("one => one.ariaSelected === 'true'", arg=tab.element_handle())
            assert tab.evaluate("one => one === document.activeElement")
        page.keyboard.press("Tab")
        page.keyboard.press("Enter")
        assert page.get_by_role("tab", name="Animate").get_attribute("aria-selected") == "true"
        for use, name in NAMES.items():
            ada.tab(name)
            panel = ada.panel(use)
            panel.get_by_role("button", name="More").click()
            panel.get_by_label("number input for Steps").wait_for()
            page.get_by_role("tab", name="Continue").focus()
            order = []
            while not order or (order[-1]["inside"] and len(order) < 40):
                page.keyboard.press("Tab")
                order.append(page.evaluate(FOCUSED))
            assert not order.pop()["inside"]
            names = [one["name"] for one in order]
            assert len(order) == panel.evaluate(STOPS), names
            assert all(one["seen"] for one in order), names
            for before, after in pairwise(order):
                (left, top, bottom), (next_left, next_top, _) = before["box"], after["box"]
                assert next_top >= bottom - 1 or (next_left > left and next_top >= top - 40), (before, after)
            wanted = {
                "generate": [f"{use}-prompt"],
                "animate": [f"{use}-image", f"{use}-prompt"],
                "interpolate": [f"{use}-first", f"{use}-last"],
                "vary": [f"{use}-video"],
                "extend": [f"{use}-video", f"{use}-prompt"],
            }[use]
            wanted += ["Length", "Frames", "64", f"{use}-seed", f"{use}-dice", "Loop", "More", "Steps"]
            wanted += [f"{use}-make", f"{use}-example"]
            places = [next((i for i, one in enumerate(names) if word in one), None) for word in wanted]
            assert None not in places and places == sorted(places), (names, places)
