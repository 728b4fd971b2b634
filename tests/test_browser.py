"""The built book in a real browser without a network; skipped without Chromium or before `make book`."""

import functools
import html
import http.server
import importlib.resources
import json
import re
import shutil
import subprocess
import threading
from pathlib import Path

import pytest

BOOK = Path(__file__).parents[1] / "_build" / "html"
CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
AXE = importlib.resources.files("axe_core_python") / "axe.min.js"
FLAGS = """--headless --no-sandbox --disable-gpu --disable-quic --no-first-run --disable-background-networking
--disable-component-update --disable-sync --disable-default-apps
--disable-extensions --hide-scrollbars""".split()

pytestmark = [
    pytest.mark.skipif(CHROMIUM is None, reason="no Chromium here: install it to look at the pages"),
    pytest.mark.skipif(not (BOOK / "index.html").is_file(), reason="no built book: run `make book` first"),
]

# A page of the same origin that holds the tested page in a frame, acts on it, and writes what it saw.
PROBE = """<!doctype html><title>probe</title>
<iframe id="frame" src="%s" style="width:%dpx;height:1200px;border:0"></iframe><pre id="seen"></pre>
<script>
const wait = (ms) => new Promise((done) => setTimeout(done, ms));
const frame = document.getElementById("frame");
frame.addEventListener("load", async () => {
  const page = frame.contentDocument, root = page.documentElement;
  const background = () => frame.contentWindow.getComputedStyle(page.body).backgroundColor;
  await wait(1500);
  const seen = {
    width: root.scrollWidth,
    formulas: page.querySelectorAll("mjx-container").length,
    formulaErrors: page.querySelectorAll("mjx-merror").length,
    written: page.querySelectorAll(".math").length,
    brokenImages: [...page.images].filter((i) => i.complete && i.naturalWidth === 0).map((i) => i.src),
    themes: [],
    violations: [],
    text: {},
  };
  const writing = () => [...page.querySelectorAll("figure.drawing")].map((drawing) => {
    const image = drawing.querySelector("img"), {paddingLeft} = frame.contentWindow.getComputedStyle(image);
    const shown = image.clientWidth - 2 * parseFloat(paddingLeft);
    return parseFloat(drawing.dataset.text) * 4 / 3 * shown / image.naturalWidth;
  });
  const axe = page.createElement("script");
  axe.src = "/axe.js";
  await new Promise((done) => { axe.onload = done; page.head.append(axe); });
  for (let step = 0; step < 3; step++) {
    const theme = root.dataset.theme;
    if (!seen.themes.some(([known]) => known === theme)) {
      // The list of references is marked up by docutils, with a role for its items that the rule has dropped.
      const looked = {include: [["body"]], exclude: [["div.citation-list"]]};
      const found = await frame.contentWindow.axe.run(looked, {resultTypes: ["violations"]});
      seen.rules = found.passes.length;
      for (const rule of found.violations.filter((rule) => ["serious", "critical"].includes(rule.impact)))
        for (const node of rule.nodes.slice(0, 3))
          seen.violations.push(`${rule.id} (${theme}): ${node.target} ${node.html.slice(0, 150)}`);
    }
    seen.themes.push([theme, background()]);
    page.querySelector("button.theme-switch-button").click();
    await wait(400);
  }
  for (const width of [400, 1400]) {
    frame.style.width = `${width}px`;
    await wait(300);
    seen.text[width] = writing();
  }
  document.getElementById("seen").textContent = JSON.stringify(seen);
});
</script>"""


class Handler(http.server.SimpleHTTPRequestHandler):
    """Serve the built book and, under ``/probe/WIDTH/PATH``, the probe around a page; note every failure."""

    failures: list[str] = []

    def do_GET(self):
        probe = re.match(r"/probe/(\d+)(/.*)", self.path)
        if probe:
            self.answer("text/html", (PROBE % (probe[2], int(probe[1]))).encode())
        elif self.path == "/axe.js":
            self.answer("text/javascript", AXE.read_bytes())
        else:
            super().do_GET()

    def answer(self, kind, body):
        self.send_response(200)
        self.send_header("Content-Type", f"{kind}; charset=utf-8")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_request(self, code="-", size="-"):
        if int(code) >= 400 and not self.path.endswith("favicon.ico"):
            self.failures.append(f"{code} {self.path}")

    def log_message(self, *arguments):
        pass


@pytest.fixture(scope="module")
def address():
    Handler.failures.clear()
    handler = functools.partial(Handler, directory=str(BOOK))
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    thread.join()
    server.server_close()


def open_page(url: str, folder: Path, *flags: str) -> tuple[str, str, set[str]]:
    """Return the DOM after the scripts, what the console said, and the hosts that were asked for."""
    log = folder / "net.json"
    command = [
        CHROMIUM,
        *FLAGS,
        *flags,
        f"--user-data-dir={folder / 'profile'}",
        "--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE 127.0.0.1",
        "--enable-logging=stderr",
        "--virtual-time-budget=15000",
        f"--log-net-log={log}",
        "--dump-dom",
        url,
    ]
    result = subprocess.run(command, capture_output=True, text=True, timeout=120)
    # The theme reports its own state there too, so only what a browser calls an error counts.
    lines = [line for line in result.stderr.splitlines() if "CONSOLE" in line]
    console = "\n".join(line for line in lines if re.search(r"Uncaught|Failed|Refused|Error\b", line))
    started = re.findall(r'"url":"(https?://[^"/:]+)', log.read_text(errors="replace"))
    return result.stdout, console, set(started)


def pages() -> list[str]:
    return sorted(
        str(path.relative_to(BOOK))
        for folder in ("book", "notebooks")
        for path in BOOK.glob(f"{folder}/*.html")
    )


@pytest.mark.parametrize("page", pages())
def test_a_page_works_without_a_network_in_both_themes_and_on_a_narrow_screen(address, page, tmp_path):
    Handler.failures.clear()
    dom, console, hosts = open_page(f"{address}/probe/400/{page}", tmp_path, "--window-size=1400,1300")
    assert console == ""
    assert Handler.failures == []
    assert {host for host in hosts if host != "http://127.0.0.1" and "google" not in host} == set()
    seen = json.loads(html.unescape(re.search(r'<pre id="seen">(.*?)</pre>', dom, flags=re.DOTALL)[1]))
    assert seen["width"] <= 400
    assert seen["brokenImages"] == []
    for width, least in (("400", 9), ("1400", 11)):
        assert all(size >= least for size in seen["text"][width]), f"writing in pictures, px at {width} px"
    assert seen["violations"] == [] and seen["rules"] >= 15
    assert seen["formulaErrors"] == 0
    assert seen["formulas"] >= seen["written"]
    if page == "book/reading.html":
        assert seen["formulas"] >= 5
    backgrounds = dict(seen["themes"])
    assert set(backgrounds) == {"light", "dark"}
    assert backgrounds["light"] != backgrounds["dark"]


def test_the_ledger_shows_what_its_address_asks_for_and_says_how_many(address, tmp_path):
    dom, console, _ = open_page(f"{address}/book/claims.html?label=undecided", tmp_path)
    rows = re.findall(r'<tr id="[^"]+" ([^>]*)>', dom)
    shown = [row for row in rows if "hidden" not in row]
    assert console == "" and rows
    assert shown == [row for row in rows if 'data-label="undecided"' in row]
    assert re.search(rf"<output[^>]*>{len(shown)} of {len(rows)} claims</output>", dom)


def test_the_entry_page_opens_the_landing_page(address, tmp_path):
    dom, _, _ = open_page(f"{address}/index.html", tmp_path)
    assert "The four papers" in dom


def test_every_page_describes_itself_and_is_in_the_sitemap():
    listed = (BOOK / "sitemap.xml").read_text(encoding="utf-8")
    told = {}
    for page in pages():
        text = (BOOK / page).read_text(encoding="utf-8")
        assert f"/{page}</loc>" in listed
        described = re.findall(r'<meta [^>]*(?:name|property)="(?:og:)?description"[^>]*>', text)
        contents = {html.unescape(re.search(r'content="([^"]*)"', tag)[1]) for tag in described}
        assert len(described) == 2 and len(contents) == 1, (page, described)
        told[page] = contents.pop()
        assert len(told[page]) >= 40 and "Open in Colab" not in told[page], page
        image = re.search(r'<meta property="og:image" content="[^"]*/(_static/[^"]+)"', text)
        assert (BOOK / image[1]).is_file()
    assert len(set(told.values())) == len(told)
