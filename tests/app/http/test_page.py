"""The page at `/`, in a real browser if one is installed."""

from __future__ import annotations

import base64
import io
import json
import os
import re
import shutil
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import numpy as np
import pytest
from fastapi.testclient import TestClient
from PIL import Image
from playwright.sync_api import Browser, FilePayload, Page, expect, sync_playwright

from app.benchmark.report.style import BASELINE_MARKS, COLOURS, MARKS, style_of
from app.benchmark.rows import BASELINES, NEIGHBOURS
from app.benchmark.splits import PROTOCOLS
from app.http.middleware.access import PAGE_FILES
from app.http.routes.home import POLICY
from app.service.keys import READ, Keys
from tests.app.http.test_access import Client, serve  # noqa: F401
from tests.app.service_process import Process

ROOT = Path(__file__).resolve().parents[3]
NAMES = ("chromium", "chromium-browser", "google-chrome")
NEEDS_CHROMIUM = "browser: install Chromium (apt install chromium)"
CHROMIUM = next(filter(None, map(shutil.which, NAMES)), None)
needs_browser = pytest.mark.skipif(CHROMIUM is None, reason=NEEDS_CHROMIUM)
NONE = "\N{EN DASH}"
JOB_VIEWS = ("benchmark", "recommend", "explain")
VIEWS = ("neighbours", "neighbours/demo/digit-0007", "collection", "duplicates", *JOB_VIEWS)


def test_the_page_loads_only_its_own_files(client: TestClient) -> None:
    page = client.get("/")
    assert page.headers["content-type"] == "text/html; charset=utf-8"
    assert page.headers["content-security-policy"] == POLICY
    assert "unsafe" not in POLICY
    for name, kind in (("page.css", "text/css"), ("main.js", "text/javascript")):
        assert f'"page/{name}"' in page.text
        part = client.get(f"/page/{name}")
        assert part.headers["content-type"] == f"{kind}; charset=utf-8"
    for name in ("nothing.js", "..%2Fhome.py", "%2E%2E", "__init__.py"):
        assert client.get(f"/page/{name}").status_code == 404


def test_the_api_reference_loads_only_files_of_the_service(client: TestClient) -> None:
    page = client.get("/docs")
    assert page.headers["content-type"] == "text/html; charset=utf-8"
    assert page.headers["content-security-policy"] == POLICY
    loaded = re.findall(r'(?:src|href)="([^"]*)"', page.text)
    assert set(loaded) == {
        "data:,",
        "page/swagger.css",
        "page/swagger.js",
        "page/docs.js",
        "openapi.json",
    }
    for path, kind in (
        ("swagger.js", "javascript"),
        ("swagger.css", "css"),
        ("docs.js", "javascr"),
    ):
        assert kind in client.get(f"/page/{path}").headers["content-type"]


@pytest.mark.parametrize("path", ["/", "/docs", "/page/swagger.js", "/page/page.css"])
def test_files_of_pages_are_compressed_where_that_is_accepted(
    client: TestClient, path: str
) -> None:
    plain = client.get(path, headers={"Accept-Encoding": "identity"})
    packed = client.get(path, headers={"Accept-Encoding": "gzip"})
    assert "content-encoding" not in plain.headers
    assert packed.headers["content-encoding"] == "gzip"
    assert packed.content == plain.content  # The client unpacks it.
    assert int(packed.headers["content-length"]) < int(plain.headers["content-length"])


def test_the_page_needs_no_key(serve: Client) -> None:  # noqa: F811
    client = serve(require_keys=True)
    for path in ("/", "/page/main.js", "/page/page.css", "/docs", "/page/swagger.js"):
        assert client.get(path).status_code == 200
    assert client.get("/page/main.js%2F..").status_code == 401
    for path in ("/page/main.js/../../v1/collections", "/page/..", "/page/main.js\n"):
        assert PAGE_FILES.fullmatch(path) is None


@pytest.fixture(scope="module")
def serving(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Process]:
    process = Process(tmp_path_factory.mktemp("page"))
    yield process
    process.stop()


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    # Chromium's sandbox does not run as root.
    arguments = ["--no-sandbox"] if os.geteuid() == 0 else []
    with sync_playwright() as playwright:
        opened = playwright.chromium.launch(executable_path=CHROMIUM, args=arguments)
        yield opened
        opened.close()


@pytest.fixture
def page(browser: Browser) -> Iterator[Page]:
    """A page that must log no error and send no request to another host."""
    context = browser.new_context(viewport={"width": 1280, "height": 900})
    page = context.new_page()
    errors: list[str] = []
    hosts: set[str | None] = set()
    page.on("console", lambda line: errors.append(line.text) if line.type == "error" else None)
    page.on("pageerror", lambda error: errors.append(str(error)))
    page.on("request", lambda request: hosts.add(urlsplit(request.url).hostname))
    page.set_default_timeout(10_000)
    yield page
    # The browser logs every refused request; the tests check those themselves.
    assert [text for text in errors if "Failed to load resource" not in text] == []
    assert hosts <= {"127.0.0.1", None}  # None for data: and blob: URLs.
    context.close()


def post(serving: Process, path: str, body: bytes, kind: str = "application/json") -> Any:
    request = urllib.request.Request(serving.url + path, body, {"Content-Type": kind})
    with urllib.request.urlopen(request, timeout=30) as answer:
        return json.loads(answer.read())


def shown(page: Page) -> list[tuple[str, int]]:
    """Return the ids and distances of the neighbours on the page."""
    page.locator(".near li").first.wait_for()
    found = page.locator(".near li").evaluate_all("all => all.map(one => one.dataset)")
    texts = page.locator(".near .distance b").all_inner_texts()
    assert texts == [one["distance"] for one in found]
    return [(one["id"], int(one["distance"])) for one in found]


@needs_browser
def test_the_api_reference_shows_and_makes_calls(page: Page, serving: Process) -> None:
    page.goto(f"{serving.url}/docs")
    expect(page.locator(".opblock-summary-path", has_text="/query")).to_be_visible()
    call = page.locator("#operations-health-healthz")
    call.locator(".opblock-summary").click()
    call.get_by_role("button", name="Try it out").click()
    call.get_by_role("button", name="Execute").click()
    answer = call.locator(".live-responses-table .response").first
    expect(answer.locator(".response-col_status")).to_contain_text("200")
    expect(answer.locator(".microlight").first).to_contain_text("ok")


@needs_browser
def test_angles_are_shown_if_they_are_asked_for(page: Page, serving: Process) -> None:
    page.goto(f"{serving.url}/#/neighbours/demo/digit-0007")
    expect(page.locator(".near li")).to_have_count(12)
    assert page.locator(".near .note").count() == 0
    page.get_by_label("Show the angle that each distance means").check()
    expect(page.locator(".near .note")).to_have_count(12)
    query = {"ids": ["digit-0007"], "k": 2, "calibrated": True}
    answer = post(serving, "/v1/collections/demo/query", json.dumps(query).encode())
    near, level = answer["results"][0][1], answer["certificates"][0]["calibration"]["level"]
    ends = [round(np.degrees(near[end])) for end in ("angle", "angle_low", "angle_high")]
    text = f"an angle of {{}}°, in {level:.0%} of cases {{}}° to {{}}°".format(*ends)
    text = text.replace("%", "\xa0%")
    expect(page.locator(".near .note").first).to_have_text(text)


@needs_browser
def test_every_view_fits_every_width(page: Page, serving: Process) -> None:
    page.goto(serving.url)
    for view in VIEWS:
        page.evaluate("view => { location.hash = `#/${view}`; }", view)
        expect(page.locator("#view > [data-view]")).to_have_attribute("data-view", view)
        for width in (1280, 390, 320):
            page.set_viewport_size({"width": width, "height": 800})
            assert page.evaluate("document.documentElement.scrollWidth") <= width
        assert page.locator("#view h1").count() == 1
        unnamed = "all => all.filter(one => !one.labels?.length && !one.ariaLabel).length"
        assert page.locator("#view input, #view select").evaluate_all(unnamed) == 0


@needs_browser
def test_a_click_shows_neighbours_and_the_bits_that_differ(page: Page, serving: Process) -> None:
    page.goto(serving.url)
    page.get_by_role("link", name="digit-0007, label 7").click()
    query = {"ids": ["digit-0007"], "k": 13, "codes": True}
    answer = post(serving, "/v1/collections/demo/query", json.dumps(query).encode())
    expected = answer["results"][0][1:]
    assert shown(page) == [(near["id"], near["distance"]) for near in expected]
    (code,) = (int(one, 16) for one in answer["codes"])
    labels = page.locator(".near svg").evaluate_all("all => all.map(one => one.ariaLabel)")
    for near, label in zip(expected, labels, strict=True):
        apart = f"{code ^ int(near['code'], 16):0128b}"
        places = [str(at) for at, bit in enumerate(apart) if bit == "1"]
        assert label == f"{near['distance']} of 128 bits differ: {', '.join(places)}"
    # Each differing bit has a cross of two strokes.
    paths = "all => all.flatMap(one => one.getAttribute('d').match(/l4.8/g)).length"
    crosses = page.locator(".near path.cross").evaluate_all(paths)
    assert crosses == sum(near["distance"] for near in expected)
    assert page.locator(".near img").count() == 12
    expect(page.locator("#status")).to_contain_text("12 neighbours of digit-0007")

    page.locator(".near a").first.click()
    expect(page.locator("#answer-title")).to_have_text(f"Nearest to {expected[0]['id']}")
    page.go_back()
    expect(page.locator("#answer-title")).to_have_text("Nearest to digit-0007")


def picture() -> bytes:
    image = np.random.default_rng(3).integers(0, 256, (6, 8, 3), np.uint8)
    file = io.BytesIO()
    Image.fromarray(image).resize((160, 120)).save(file, "PNG")
    return file.getvalue()


DROP = """([kind, data]) => {
    const bytes = Uint8Array.from(atob(data), (one) => one.charCodeAt(0));
    const dataTransfer = new DataTransfer();
    dataTransfer.items.add(new File([bytes], "mine.png", { type: kind }));
    const drop = new DragEvent("drop", { dataTransfer, bubbles: true, cancelable: true });
    document.querySelector(".drop").dispatchEvent(drop);
}"""


@needs_browser
def test_an_image_can_be_dropped_or_chosen(page: Page, serving: Process) -> None:
    page.goto(f"{serving.url}/#/neighbours/demo")
    page.locator(".drop").wait_for()
    page.evaluate(DROP, ["image/png", base64.b64encode(picture()).decode()])
    url = "/v1/collections/demo/query?k=12"
    (expected,) = post(serving, url, picture(), "image/png")["results"]
    assert shown(page) == [(near["id"], near["distance"]) for near in expected]
    expect(page.locator(".query strong")).to_have_text("mine.png")
    expect(page.locator(".query img")).to_have_js_property("naturalWidth", 160)
    file = FilePayload(name="notes.txt", mimeType="text/plain", buffer=b"no image")
    page.locator("#file").set_input_files(file)
    expect(page.locator(".answer .problem")).to_contain_text("cannot be read as PNG, JPEG")


@needs_browser
def test_codes_of_your_own_are_searched_and_described(page: Page, serving: Process) -> None:
    codes = np.packbits(np.random.default_rng(0).integers(0, 2, (30, 60), np.uint8), axis=1)
    in_hex = [code.tobytes().hex() for code in codes]
    serving.call("POST", "/v1/collections", {"name": "own", "n_bits": 60})
    items = [{"id": f"i{place:02}", "code": code} for place, code in enumerate(in_hex)]
    serving.call("PUT", "/v1/collections/own/items", {"items": items})
    try:
        page.goto(f"{serving.url}/#/neighbours/own")
        expect(page.locator(".answer .empty")).to_contain_text("Choose an item or give a code")
        page.get_by_label("Code in hex").fill(f" {in_hex[3].upper()} ")
        page.get_by_role("button", name="Search").first.click()
        query = {"codes": in_hex[3:4], "k": 12}
        (expected,) = serving.call("POST", "/v1/collections/own/query", query)["results"]
        assert shown(page) == [(near["id"], near["distance"]) for near in expected]
        page.get_by_label("Code in hex").fill("12")
        page.get_by_role("button", name="Search").first.click()
        expect(page.locator(".answer .problem")).to_contain_text("60 bits as 16 hexadecimal")
        page.get_by_label("Item id").fill("i05")
        page.get_by_role("button", name="Search").last.click()
        expect(page.locator(".query strong")).to_have_text("i05")
        page.goto(f"{serving.url}/#/collection/own")
        expect(page.locator(".facts")).to_contain_text("none: items come with codes")
        expect(page.locator("figure")).to_have_count(4)
    finally:
        serving.call("DELETE", "/v1/collections/own")


WATCH = """() => {
    window.seen = [];
    new MutationObserver(() => {
        const [state, bar] = [document.querySelector("#state"), document.querySelector("progress")];
        if (state) window.seen.push([state.textContent, bar.max]);
    }).observe(document.body, { subtree: true, childList: true, characterData: true });
}"""


def test_page_and_report_draw_with_the_same_colours_and_marks() -> None:
    page, report = ROOT / "app" / "http" / "page", ROOT / "app" / "benchmark" / "report"
    colours = [
        re.findall(r"--c\d: (#\w+)", path.read_text())
        for path in (page / "page.css", report / "shared_style.html")
    ]
    assert colours[0] == colours[1]
    assert len(colours[0]) == 2 * COLOURS  # light and dark
    script = (page / "curves.js").read_text()
    assert f"const COLOURS = {COLOURS};" in script
    assert re.findall(r'"(m[^"]+z)"', script) == [*MARKS, *BASELINE_MARKS.values()]
    assert re.findall(r'^  "(\S+)": "m', script, re.MULTILINE) == list(BASELINE_MARKS)


def test_the_page_offers_every_protocol_and_baseline() -> None:
    script = (ROOT / "app" / "http" / "page" / "benchmark.js").read_text()
    assert f"const PROTOCOLS = {json.dumps([*PROTOCOLS, NEIGHBOURS])};" in script
    baselines = re.search(r"const BASELINES = \{(.*)\};", script)
    assert baselines
    names = re.findall(r'(\[RAW\]|"[\w-]+"): "', baselines[1])
    assert [name.strip('"').replace("[RAW]", "raw") for name in names] == list(BASELINES)


@needs_browser
def test_an_explanation_is_shown_with_the_plots_of_its_report(page: Page, serving: Process) -> None:
    new = {"dataset": "digits", "laws": ["training", "labels"], "items": 50}
    job = serving.call("POST", "/v1/explanations", new)["id"]
    page.goto(f"{serving.url}/#/explain/{job}")
    expect(page.locator("[data-law]")).to_have_count(2, timeout=60_000)
    expect(page.locator("#run-title")).to_have_text("What theory says about digits")
    result = json.loads(serving.get(f"/v1/explanations/{job}"))["result"]
    for finding in result["findings"]:
        shown = page.locator(f"[data-law={finding['law']['key']}]")
        for text in (finding["answer"], finding["law"]["statement"], finding["law"]["limit"]):
            expect(shown).to_contain_text(text)
        expect(shown.locator("td")).to_have_text([one["text"] for one in finding["figures"]])
        captions = [plot["caption"] for plot in finding["plots"]]
        expect(shown.locator("figcaption")).to_have_text(captions)
        for plot, caption in zip(shown.locator("svg").all(), captions, strict=True):
            assert (plot.get_attribute("aria-label") or "").startswith(caption)
            assert plot.evaluate("plot => plot.getBBox().width") > 100
    for width in (1280, 320):
        page.set_viewport_size({"width": width, "height": 800})
        assert page.evaluate("document.documentElement.scrollWidth") <= width
    expect(page.locator("[data-job]")).to_have_text("done")
    page.route("**/v1/explanations", lambda route: route.fulfill(status=429, json={"detail": "no"}))
    page.get_by_role("button", name="Start").click()
    expect(page.locator("form .problem")).to_have_text("no")


@needs_browser
def test_a_benchmark_can_be_started_and_followed(page: Page, serving: Process) -> None:
    page.goto(f"{serving.url}/#/benchmark")
    page.evaluate(WATCH)
    page.get_by_label("Code lengths").fill("8, 16")
    for method in ("rabitq", "random-net-2", "sign"):
        page.get_by_label(method).uncheck()
    page.get_by_role("button", name="Start").click()
    expect(page.locator("table tbody tr")).to_have_count(3, timeout=30_000)
    seen = page.evaluate("window.seen")
    assert any(most == 3 and "of 3 steps done. Now: " in text for text, most in seen)
    (job,) = json.loads(serving.get("/v1/benchmarks"))
    result = json.loads(serving.get(f"/v1/benchmarks/{job['id']}"))["result"]["results"]
    rows = [row.split("\t") for row in page.locator("tbody tr").all_inner_texts()]
    assert [(row[0], row[1], row[2].removeprefix("★ ")) for row in rows] == [
        (one["method"], str(one["n_bits"] or NONE), f"{100 * one['map']:.2f}") for one in result
    ]
    # One line per method, with a point per code length.
    assert page.locator("svg.chart polyline").count() == 2
    points = page.locator("svg.chart .c0 polyline").get_attribute("points")
    assert points is not None
    assert len(points.split()) == 2
    # Methods look as they do in the report.
    for group, method in zip(page.locator("svg.chart .line").all(), ("raw", "lsh"), strict=True):
        style = style_of(method)
        assert group.get_attribute("class") == f"line {style.css}"
        marks = [mark.get_attribute("d") or "" for mark in group.locator(".mark").all()]
        assert len(marks) == 3  # one in the legend
        assert all(mark.endswith(style.mark) for mark in marks)
    expect(page.locator("[data-job]")).to_have_text("done")
    expect(page.get_by_label("Code lengths")).to_have_value("8, 16")
    expect(page.get_by_label("random-net-2")).not_to_be_checked()
    page.get_by_label("Code lengths").fill("9999")
    page.get_by_role("button", name="Start").click()
    expect(page.locator("form .problem")).to_contain_text("bits must be from 1 to 4096")
    for method in ("raw", "lsh"):
        page.locator(f"input[value={method}]").uncheck()
    page.get_by_role("button", name="Start").click()
    expect(page.locator("form .problem")).to_have_text("Choose at least one method.")
    with page.expect_navigation():
        page.get_by_role("link", name="Full report").click()
    expect(page.locator("h1")).to_have_text("Binary codes on digits")


@needs_browser
def test_a_recommendation_is_shown_and_made(page: Page, serving: Process) -> None:
    new = {"dataset": "digits", "recall": 0.3, "methods": ["lsh"], "max_bits": 16, "items": 300}
    job = post(serving, "/v1/recommendations", json.dumps(new).encode())["id"]
    page.goto(f"{serving.url}/#/recommend/{job}")
    expect(page.locator(".headline")).to_contain_text("Use lsh with ", timeout=30_000)
    result = json.loads(serving.get(f"/v1/recommendations/{job}"))["result"]
    expect(page.locator(".headline")).to_have_text(result["answer"].replace("`", ""))
    expect(page.locator(".answer")).to_contain_text(result["notes"][0])
    expect(page.locator(".answer tbody tr")).to_have_count(len(result["candidates"]))
    expect(page.locator("svg.chart .interval")).to_have_count(len(result["candidates"]))
    expect(page.get_by_label("Goal")).to_have_value("recall")
    expect(page.get_by_label("Share of the true neighbours")).to_have_value("0.3")
    # Fields that the goal does not use do not keep the form from being sent.
    page.locator("#k").fill("")
    assert not page.locator("form.stack").evaluate("form => form.checkValidity()")
    page.get_by_label("Goal").select_option("within")
    assert page.locator("form.stack").evaluate("form => form.checkValidity()")
    page.get_by_label("Make its encoder").fill("demo")
    page.get_by_role("button", name="Make").click()
    expect(page.locator("form .problem")).to_contain_text("already a collection 'demo'")
    page.get_by_label("Make its encoder").fill("recommended")
    page.get_by_role("button", name="Make").click()
    expect(page.locator(".answer form")).to_contain_text("query it with rerank 200 by descriptors")
    made = json.loads(serving.get("/v1/collections/recommended"))
    assert made["n_bits"] == result["recommended"]["n_bits"]
    serving.call("DELETE", "/v1/collections/recommended")


@needs_browser
def test_near_duplicates_are_found_and_shown_as_groups(page: Page, serving: Process) -> None:
    page.goto(f"{serving.url}/#/duplicates/demo")
    expect(page.get_by_text("No search yet")).to_be_visible()
    page.get_by_label("Radius").fill("10")
    page.get_by_role("button", name="Start").click()
    groups = page.locator(".groups > li")
    groups.first.wait_for()
    job = page.url.rpartition("/")[2]
    with urllib.request.urlopen(f"{serving.url}/v1/jobs/{job}/groups", timeout=30) as answer:
        lines = [json.loads(line) for line in answer]
    assert groups.count() == min(10, len(lines))
    expect(page.locator(".answer")).to_contain_text(f"in {len(lines)} group")
    shown = groups.first.locator("a").evaluate_all("all => all.map(one => one.title)")
    assert shown == lines[0]["items"][:12]
    expect(groups.first.locator("h3")).to_contain_text(f"{len(lines[0]['items'])} items")
    farthest = max(distance for _, _, distance in lines[0]["pairs"])
    expect(groups.first.locator("h3")).to_contain_text(f"at most {farthest} bit")
    expect(groups.first.locator("img")).to_have_count(len(shown))
    with page.expect_download() as saved:
        page.get_by_role("link", name="Download all groups").click()
    assert len(saved.value.path().read_text().splitlines()) == len(lines)
    expect(page.get_by_role("link", name="radius 10")).to_have_attribute("aria-current", "true")
    groups.first.locator("a").first.click()
    expect(page.locator(".near li").first).to_be_visible()


@needs_browser
def test_the_collection_view_shows_statistics(page: Page, serving: Process) -> None:
    page.goto(f"{serving.url}/#/collection/demo")
    found = json.loads(serving.get("/v1/collections/demo/statistics"))
    mean, codes = found["bits"]["mean_correlation"], found["buckets"]["codes"]
    expect(page.locator("figure").nth(1)).to_contain_text(f"|r| is {mean:.3f}")
    expect(page.locator("figure").nth(2)).to_contain_text(
        f"1,797 items have {codes:,} different codes"
    )
    bars = page.locator(".bar").get_attribute("d") or ""
    assert bars.count("M") == 128
    cells = "all => all.map(one => one.getAttribute('d')).join('').split('M').length - 1"
    assert page.locator("figure > .heat path").evaluate_all(cells) == 64 * 64


@needs_browser
def test_the_collection_view_shows_drift_and_accepts_it(page: Page, serving: Process) -> None:
    page.goto(f"{serving.url}/#/collection/demo")
    expect(page.get_by_text("Drift is watched from 2,000 items on.")).to_be_visible()
    serving.call("POST", "/v1/collections", {"name": "drifting", "n_bits": 16})
    rng = np.random.default_rng(0)
    for first, n, share in ((0, 2000, 0.5), (2000, 1000, 0.7)):
        codes = np.packbits(rng.random((n, 16)) < share, axis=1)
        rows = [{"id": str(first + i), "code": bytes(code).hex()} for i, code in enumerate(codes)]
        serving.call("PUT", "/v1/collections/drifting/items", {"items": rows})
        serving.get("/v1/collections/drifting/statistics")
    page.goto(f"{serving.url}/#/collection/drifting")
    figure = page.locator("figure").filter(
        has=page.get_by_role("heading", name="Drift", exact=True)
    )
    expect(figure).to_contain_text("New items differ from the reference.")
    tests = json.loads(serving.get("/v1/collections/drifting/statistics"))["drift"]["tests"]
    (bit,) = tests[0]["bits"]
    assert figure.locator("tbody tr").first.text_content() == (
        f"ones of bit {bit}{tests[0]['before']:.3f}{tests[0]['after']:.3f}0.001"
    )
    figure.get_by_role("button").click()
    expect(figure).to_contain_text("No new items have been tested since the reference was taken.")
    expect(figure.get_by_role("button")).to_have_count(0)
    assert not json.loads(serving.get("/v1/collections/drifting/statistics"))["drift"]["alarm"]


def focus(page: Page) -> str:
    return str(page.evaluate("document.activeElement.outerHTML"))


@needs_browser
def test_the_page_can_be_used_by_keyboard(page: Page, serving: Process) -> None:
    page.goto(serving.url)
    page.locator(".items a").first.wait_for()

    def tab_to(wanted: str) -> None:
        for _ in range(60):
            page.keyboard.press("Tab")
            if wanted in focus(page):
                return
        raise AssertionError(f"{wanted} was not reached")

    page.keyboard.press("Tab")
    assert "Skip to content" in focus(page)
    for stop in ('"#/collection"', 'id="collections"', 'id="file"', 'id="id"', "digit-0003"):
        tab_to(stop)
    page.keyboard.press("Enter")
    assert len(shown(page)) == 12
    expect(page.locator("#answer-title")).to_be_focused()
    page.keyboard.press("Tab")
    first = shown(page)[0][0]
    assert f">{first}<" in focus(page)
    page.keyboard.press("Enter")
    expect(page.locator("#answer-title")).to_have_text(f"Nearest to {first}")
    expect(page.locator("#answer-title")).to_be_focused()


@needs_browser
def test_the_page_asks_for_a_key_and_shows_problems(page: Page, tmp_path: Path) -> None:
    keys = Keys(tmp_path)
    _, secret = keys.create("page", READ)
    keys.close()
    process = Process(tmp_path, BITCELL_DEMO="false")
    try:
        page.goto(process.url)
        expect(page.locator("#access-reason")).to_contain_text(
            "answers only requests with an API key"
        )
        field = page.get_by_label("API key", exact=True)
        expect(field).to_be_focused()
        for key, message in (("wrong", "refused this key: it is wrong"), (secret, "")):
            field.fill(key)
            page.keyboard.press("Enter")
            if message:
                expect(page.locator("#access-reason")).to_contain_text(message)
        expect(page.locator("#view h1")).to_have_text("No collection yet")
        page.get_by_role("link", name="Benchmark", exact=True).click()
        page.get_by_role("button", name="Start").click()
        expect(page.locator("form .problem")).to_have_text("the key 'page' may only read")
        assert page.evaluate("Object.values(sessionStorage)") == [secret]
        assert page.evaluate("localStorage.length") == 0
        page.get_by_role("button", name="Forget key").click()
        expect(field).to_be_visible()
        assert page.evaluate("sessionStorage.length") == 0
    finally:
        process.stop()


@needs_browser
def test_other_collections_and_empty_ones(page: Page, serving: Process) -> None:
    new = {"name": "plain", "method": "lsh", "n_bits": 20, "dimension": 3}
    post(serving, "/v1/encoders", json.dumps(new).encode())
    new = {"name": "points", "encoder": "plain"}
    post(serving, "/v1/collections", json.dumps(new).encode())
    page.goto(f"{serving.url}/#/neighbours/points")
    expect(page.locator(".empty")).to_contain_text("This collection is empty")
    page.get_by_role("link", name="Collection", exact=True).click()
    expect(page.locator(".empty")).to_contain_text("This collection is empty")
    items = [{"id": one, "descriptor": [1, 2, 3]} for one in ("<b>x</b>", "a/b c", "%")]
    request = urllib.request.Request(
        f"{serving.url}/v1/collections/points/items",
        json.dumps({"items": items}).encode(),
        {"Content-Type": "application/json"},
        method="PUT",
    )
    urllib.request.urlopen(request, timeout=30).close()
    for item in items:
        page.goto(f"{serving.url}/#/neighbours/points")
        page.get_by_role("link", name=str(item["id"]), exact=True).click()
        assert [found for _, found in shown(page)] == [0, 0]
        expect(page.locator("#answer-title")).to_have_text(f"Nearest to {item['id']}")
    expect(page.locator(".ask")).to_contain_text("Search by image needs a collection of GIST")
    page.goto(f"{serving.url}/#/neighbours/points/nobody")
    expect(page.locator(".problem")).to_contain_text("there is no item 'nobody'")
    page.goto(f"{serving.url}/#/collection/none")
    expect(page.locator(".problem")).to_contain_text("there is no collection 'none'")
