"""The report in a real browser: it draws, its controls work, it loads nothing, and no name of a silo is run.

Needs Chromium or Chrome, its driver and selenium: Debian's packages `chromium` and `chromium-driver` are enough. With
FEDLAW_SCREENSHOTS=FOLDER set, the pictures are kept there to be looked at.
"""

import base64
import json
import os
import shutil
from pathlib import Path

import pytest
from scripted_runs import HOSTILE, Scripted, but, hostile, large, reviewed

from fedlaw_flwr.reporting.page import render
from fedlaw_flwr.reporting.report import page_data, page_of, write_report

pytestmark = pytest.mark.slow

CHARTS = ("curve", "weight-map", "terms", "weight", "score", "alignment", "loss", "norm", "spent")
MARKS = """
const found = {};
document.querySelectorAll(".chart").forEach((one) => {
  if (one.closest("figure").hidden) return;
  const paths = [...one.querySelectorAll("svg path")].filter((path) => {
    const box = path.getBBox();
    return box.width > 1 || box.height > 1;
  }).length;
  const canvas = one.querySelector("canvas");
  let colours = 0;
  if (canvas) {
    const pixels = canvas.getContext("2d").getImageData(0, 0, canvas.width, canvas.height).data;
    colours = new Set(new Uint32Array(pixels.buffer)).size;
  }
  found[one.id] = [paths, colours];
});
return found;
"""


@pytest.fixture(scope="module")
def browser():
    webdriver = pytest.importorskip("selenium.webdriver", reason="selenium is not installed")
    from selenium.webdriver.chrome.service import Service

    program = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome", "chrome"))), None)
    driver = shutil.which("chromedriver")
    if program is None or driver is None:
        pytest.skip("neither Chromium nor its driver is installed")
    options = webdriver.ChromeOptions()
    options.binary_location = program
    for argument in ("--headless=new", "--no-sandbox", "--disable-gpu", "--hide-scrollbars"):
        options.add_argument(argument)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL", "performance": "ALL"})
    with webdriver.Chrome(options=options, service=Service(driver)) as found:
        found.set_script_timeout(60)
        yield found


class Open:
    """A report open in the browser."""

    def __init__(self, browser, path, width=1280, theme=None, ending=""):
        self.browser = browser
        browser.get("about:blank")
        browser.get_log("browser")
        browser.get_log("performance")
        browser.execute_cdp_cmd(
            "Emulation.setDeviceMetricsOverride",
            {"width": width, "height": 1000, "deviceScaleFactor": 1, "mobile": width < 500},
        )
        media = [{"name": "prefers-color-scheme", "value": theme or "light"}]
        browser.execute_cdp_cmd("Emulation.setEmulatedMedia", {"media": "", "features": media})
        browser.get(path.resolve().as_uri() + ending)
        self.run("localStorage.clear()")
        self.wait("document.documentElement.dataset.ready === 'true'")

    def run(self, script, *arguments):
        return self.browser.execute_script(script, *arguments)

    def wait(self, condition):
        from selenium.webdriver.support.ui import WebDriverWait

        WebDriverWait(self.browser, 60).until(lambda _: self.run(f"return {condition}"))

    def click(self, selector):
        self.run("document.querySelector(arguments[0]).click()", selector)

    def text(self, selector):
        return self.run("return document.querySelector(arguments[0]).textContent", selector)

    def pick(self, silo):
        """Chooses a silo in the picker, by the beginning of what it is called there."""
        chosen = "[...list.options].findIndex((one) => one.textContent.startsWith(arguments[0]))"
        change = f"list.value = {chosen}; list.dispatchEvent(new Event('change'))"
        self.run(f"const list = document.getElementById('silo'); {change}", silo)

    def marks(self):
        return self.run(MARKS)

    def console(self):
        return [entry["message"] for entry in self.browser.get_log("browser")]

    def loaded(self):
        """Every address that was asked for since the page was opened."""
        events = (json.loads(entry["message"])["message"] for entry in self.browser.get_log("performance"))
        asked = [
            event["params"]["request"]["url"] for event in events if event["method"] == "Network.requestWillBeSent"
        ]
        return [address for address in asked if not address.startswith("data:")]

    def picture(self, name):
        folder = os.environ.get("FEDLAW_SCREENSHOTS")
        size = self.run("return [document.documentElement.scrollWidth, document.documentElement.scrollHeight]")
        clip = {"x": 0, "y": 0, "width": size[0], "height": size[1], "scale": 1}
        taken = self.browser.execute_cdp_cmd(
            "Page.captureScreenshot", {"captureBeyondViewport": True, "clip": clip, "format": "png"}
        )
        content = base64.b64decode(taken["data"])
        if folder:
            Path(folder).mkdir(parents=True, exist_ok=True)
            (Path(folder) / f"{name}.png").write_bytes(content)
        return content


@pytest.fixture(scope="module")
def report(tmp_path_factory):
    """A run of eight silos: one attacker is caught, one silo loses its weight later, one is silent once."""
    run = Scripted(
        tmp_path_factory.mktemp("run"), silos=8, attackers=["silo 7"], max_byzantine=2, num_rounds=6, weight_rounds=4
    )
    agrees = [0.012] * 7 + [-0.05]
    run.learned(agrees, [0.4] * 8).learned(but(agrees, silo_2=-0.3), [0.4] * 8)
    run.gate("silo 4", "no answer within 600 s", kind="silent").learned(agrees, [0.4] * 8, absent=["silo 4"])
    run.learned(agrees, [0.4] * 8).frozen().frozen().end()
    return write_report(run.folder)


@pytest.mark.parametrize("width", [390, 768, 1280, 1920])
@pytest.mark.parametrize("theme", ["light", "dark"])
def test_at_every_width_every_chart_has_marks_and_nothing_runs_over_the_edge(browser, report, width, theme):
    page = Open(browser, report, width, theme)
    assert page.run("return document.documentElement.dataset.theme") == theme
    marks = page.marks()
    assert set(marks) == set(CHARTS)
    assert all(paths >= 3 for paths, _ in marks.values()), marks
    assert page.run("return document.documentElement.scrollWidth") <= width
    smallest = page.run(
        "return Math.min(...[...document.querySelectorAll('.chart svg text, main *')]"
        ".filter((one) => one.textContent.trim()).map((one) => parseFloat(getComputedStyle(one).fontSize)))"
    )
    assert smallest >= 11
    assert len(page.picture(f"report-{width}-{theme}")) > 20_000
    assert page.console() == []


def test_the_page_loads_nothing_but_itself(browser, report):
    page = Open(browser, report)
    for selector in ("#theme", "[data-axis=bytes]", "[data-kind=lines]", "[data-order=name]", "[data-unit=seconds]"):
        page.click(selector)
    assert page.loaded() == [report.resolve().as_uri()]
    assert page.console() == []


def test_the_picker_shows_another_silo_and_the_address_names_it(browser, report):
    page = Open(browser, report)
    first = page.text("#said")
    assert first == "silo 2: It pointed against the others in round 2."  # an honest silo that was excluded comes first
    page.pick("silo 4")
    assert page.text("#said").startswith("silo 4: ")
    assert "It gave no reply: no answer within 600 s." in page.text("#changes")
    assert page.run("return location.hash") == "#silo-4"
    page.click("#next")
    assert page.text("#said").startswith("silo 5: ")


def test_a_link_to_a_silo_opens_the_page_at_it(browser, report):
    page = Open(browser, report, ending="#silo-2")
    assert page.text("#said").startswith("silo 2: It pointed against the others")
    page.wait("Math.abs(document.getElementById('one').getBoundingClientRect().top) < 400")
    page.click("a.chip[href='#silo-5']")
    assert page.text("#said").startswith("silo 5: ") and page.run("return location.hash") == "#silo-5"


def test_the_theme_is_chosen_and_remembered(browser, report):
    page = Open(browser, report)
    colour = "return getComputedStyle(document.body).backgroundColor"
    light = page.run(colour)
    page.click("#theme")
    assert page.run("return document.documentElement.dataset.theme") == "dark" and page.run(colour) != light
    browser.refresh()
    page.wait("document.documentElement.dataset.ready === 'true'")
    assert page.run("return document.documentElement.dataset.theme") == "dark"
    assert all(paths >= 3 for paths, _ in page.marks().values())


def test_one_slider_moves_the_round_in_every_chart(browser, report):
    page = Open(browser, report)
    assert "weights are frozen" in page.text("#round-facts")
    page.run("const r = document.getElementById('round'); r.value = 2; r.dispatchEvent(new Event('input'))")
    assert page.text("#round-number") == "2 of 6"
    assert "weights are learned" in page.text("#round-facts") and "2 excluded" in page.text("#round-facts")
    lines = page.run(
        "return ['curve', 'weight', 'loss', 'spent'].map((id) => echarts.getInstanceByDom(document.getElementById(id))"
        ".getOption().series.find((one) => one.markLine).markLine.data[0].xAxis)"
    )
    assert lines == [2, 2, 2, 2]


def test_the_page_can_be_used_with_the_keyboard_alone(browser, report):
    from selenium.webdriver.common.keys import Keys

    page = Open(browser, report)
    body = browser.switch_to.active_element
    body.send_keys(Keys.TAB)
    assert page.run("return document.activeElement.textContent") == "Skip to the summary"
    page.run("document.getElementById('round').focus()")
    browser.switch_to.active_element.send_keys(Keys.ARROW_LEFT)
    assert page.text("#round-number") == "5 of 6"
    chip = "a.chip[href='#silo-2']"
    page.run("document.querySelector(arguments[0]).focus()", chip)
    browser.switch_to.active_element.send_keys(Keys.ENTER)
    assert page.text("#said").startswith("silo 2: ")
    unnamed = page.run(
        "return [...document.querySelectorAll('button, select, input')].filter((one) => !one.textContent.trim()"
        " && !one.getAttribute('aria-label') && !one.labels?.length).length"
    )
    assert unnamed == 0
    assert page.run("return document.getElementById('curve').getAttribute('aria-label')").startswith(
        "Accuracy over round"
    )


def test_tables_and_pictures_are_handed_out(browser, report):
    page = Open(browser, report)
    page.run(
        "window.saved = []; const was = URL.createObjectURL;"
        "URL.createObjectURL = (blob) => { blob.text().then((text) => saved.push(text)); return was.call(URL, blob); };"
        "HTMLAnchorElement.prototype.click = () => {};"
    )
    for selector in ("[data-csv=curve]", "[data-csv=silos]", "[data-svg=weight-map]", "#events-file"):
        before = page.run("return saved.length")
        page.click(selector)
        page.wait(f"saved.length > {before}")
    curve, silos, picture, events = page.run("return saved")
    assert curve.splitlines()[0] == "run,round,bytes,seconds,accuracy,loss" and len(curve.splitlines()) == 8
    assert silos.splitlines()[1].startswith('silo 2,"honest, excluded",,0,It pointed against the others in round 2.,')
    assert silos.splitlines()[2].startswith("silo 7,attacker caught,inverse_gradient,0,It pointed against the others")
    assert picture.startswith("<svg") and "silo 7" in picture
    assert events == (report.parent / "events.jsonl").read_text()
    assert page.console() == []


def test_a_hostile_name_is_text_everywhere(browser, tmp_path):
    hostile(tmp_path)
    page = Open(browser, write_report(tmp_path), 1280)
    assert page.run("return document.querySelectorAll('main img, main script, svg script').length") == 0
    rows = page.run("return [...document.querySelectorAll('#silo option')].map((one) => one.textContent)")
    assert any(row.startswith(HOSTILE) for row in rows)
    for row in rows:
        page.pick(row)
        assert row.startswith(page.text("#said").split(": ")[0])
    page.run(
        "echarts.getInstanceByDom(document.getElementById('weight-map'))"
        ".dispatchAction({type: 'showTip', seriesIndex: 0, dataIndex: 0})"
    )
    assert page.run("return document.querySelectorAll('.tip').length") == 1
    assert page.run("return document.querySelectorAll('.tip img, .tip script').length") == 0
    page.picture("hostile")
    assert page.console() == [] and page.loaded() == [(tmp_path / "report.html").resolve().as_uri()]


def test_200_silos_over_400_rounds_are_drawn(browser, tmp_path):
    page = Open(browser, write_report(large(tmp_path)))
    marks = page.marks()
    assert marks["weight-map"][1] > 50  # a canvas, with the colours of many weights
    assert all(paths >= 3 for name, (paths, _) in marks.items() if name != "weight-map")
    line = "return parseFloat(document.querySelector('.round-line').style.left)"
    last = page.run(line)
    page.run("const r = document.getElementById('round'); r.value = 100; r.dispatchEvent(new Event('input'))")
    assert page.run(line) < last / 2  # the map is not drawn again for it
    page.picture("large")
    assert page.console() == []


def test_who_vouches_for_whom_is_drawn(browser, tmp_path):
    run = reviewed(tmp_path, silos=12)
    page = page_of(run)
    path = tmp_path / "report.html"
    path.write_text(render(page, page_data(run, page, {})))
    shown = Open(browser, path)
    marks = shown.marks()
    assert marks["review"][0] >= 12 * 11 - 22 and marks["approval"][0] >= 1
    shown.picture("review")
    assert shown.console() == []


@pytest.mark.parametrize(
    "strategy", [{"strategy": "cw_median"}, {"strategy": "krum", "max_byzantine": 1}], ids=lambda one: one["strategy"]
)
def test_a_rule_without_weights_has_a_page_too(browser, tmp_path, strategy):
    kept = {"kept": ["silo 1"]} if strategy["strategy"] == "krum" else {}
    run = Scripted(tmp_path, **strategy).by_rule(**kept).by_rule(**kept).end()
    page = Open(browser, write_report(run.folder))
    assert {"curve", "weight-map", "loss", "spent"} <= set(page.marks()) and page.console() == []


def test_a_run_that_failed_before_its_first_round_has_a_page_without_charts(browser, tmp_path):
    Scripted(tmp_path, attackers=["silo 5"], started=False).end("failed", reason="ValueError: no data")
    page = Open(browser, write_report(tmp_path))
    assert page.marks() == {} and page.console() == []
    assert "The run failed before its first round was over" in page.text(".alarm")


def test_on_paper_charts_fit_and_what_is_said_of_silos_is_unfolded(browser, report):
    page = Open(browser, report, theme="dark")
    printed = browser.execute_cdp_cmd("Page.printToPDF", {"printBackground": True})
    assert base64.b64decode(printed["data"])[:4] == b"%PDF"
    page.run("dispatchEvent(new Event('beforeprint'))")
    assert page.run(
        "return [...document.querySelectorAll('#silos details, #summary details')].every((one) => one.open)"
    )
    widest = page.run("return Math.max(...[...document.querySelectorAll('.chart svg')].map((one) => one.clientWidth))")
    assert 300 < widest <= 680
    page.run("dispatchEvent(new Event('afterprint'))")
    assert page.console() == []
