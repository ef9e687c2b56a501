"""The pages in a real browser: they work, and nothing leaves them."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from datetime import datetime
from pathlib import Path

import numpy as np
import pytest

from ntm.analysis.results import find_runs, group, read_results
from ntm.analysis.trace import NTMTrace, Trace
from ntm.memory.ntm import NTMConfig
from ntm.views.explorer import write as write_explorer
from ntm.views.report import section, write
from tests.views.test_plots import trace_of
from tests.views.test_report import made

pytest.importorskip("playwright")
from playwright import sync_api


@pytest.fixture(scope="module")
def browser() -> Iterator[sync_api.Browser]:
    with sync_api.sync_playwright() as playwright:
        system = shutil.which("chromium") or shutil.which("chromium-browser")
        own = Path(playwright.chromium.executable_path)
        if not system and not own.exists():
            pytest.skip(
                "no Chromium here: apt-get install chromium, or playwright install chromium"
            )
        found = playwright.chromium.launch(executable_path=system, args=["--no-sandbox"])
        yield found
        found.close()


class Opened:
    """A page, and all that it complained about or asked for."""

    def __init__(self, browser: sync_api.Browser, file: Path, width: int) -> None:
        self.page = browser.new_page(viewport={"width": width, "height": 900})
        self.complaints: list[str] = []
        self.requests: list[str] = []
        self.page.on("console", lambda message: self.complaints.append(message.text))
        self.page.on("pageerror", lambda error: self.complaints.append(str(error)))
        self.page.on("request", lambda request: self.requests.append(request.url))
        self.page.goto(file.as_uri())
        self.page.wait_for_load_state("load")

    def is_quiet(self) -> bool:
        """Nothing on the console, and nothing asked for but the page and what lies in it."""
        outside = [url for url in self.requests[1:] if not url.startswith("data:")]
        return not self.complaints and not outside

    def fits(self) -> bool:
        """No sideways scrolling of the page as a whole."""
        wide = self.page.evaluate("document.documentElement.scrollWidth - window.innerWidth")
        return bool(wide <= 0)


@pytest.fixture(scope="module")
def report(tmp_path_factory: pytest.TempPathFactory) -> Path:
    runs = tmp_path_factory.mktemp("runs")
    for seed in (1, 2, 3):
        made(runs / "a" / str(seed), [8, 0.4 / seed], seed=seed)
        gru = {"controller": {"kind": "gru", "size": 11}}
        made(runs / "b" / str(seed), [9, 5, seed], seed=seed, model=gru)
    found, _ = read_results(find_runs([runs]))
    out = tmp_path_factory.mktemp("out")
    write(out, [section(t, groups, {}) for t, groups in group(found).items()], [], "6 runs")
    return out / "report.html"


@pytest.mark.parametrize("width", [360, 1280])
def test_the_report_is_quiet_and_fits(browser: sync_api.Browser, report: Path, width: int) -> None:
    opened = Opened(browser, report, width)
    assert opened.is_quiet(), (opened.complaints, opened.requests)
    assert opened.fits()
    images = opened.page.locator("img")
    assert images.count() >= 6
    assert images.evaluate_all("images => images.every(i => i.complete && i.naturalWidth > 0)")


def test_a_column_is_sorted_by_the_mouse_and_by_the_keyboard(
    browser: sync_api.Browser, report: Path
) -> None:
    opened = Opened(browser, report, 1280)
    table = opened.page.locator("table.sortable").first

    def models() -> list[str]:
        return list(table.locator("tbody td:first-child").all_inner_texts())

    head = table.locator("th", has_text="excess bits")
    head.locator("button").click()
    assert head.get_attribute("aria-sort") == "ascending"
    assert models() == ["NTM with LSTM 11", "NTM with GRU 11"]
    head.locator("button").press("Enter")
    assert head.get_attribute("aria-sort") == "descending"
    assert models() == ["NTM with GRU 11", "NTM with LSTM 11"]
    solved = table.locator("th", has_text="sequences to solved")
    solved.locator("button").press("Space")
    assert models() == ["NTM with LSTM 11", "NTM with GRU 11"]  # what never solved comes last
    assert head.get_attribute("aria-sort") is None
    assert opened.is_quiet()


# The explorer


@pytest.fixture(scope="module")
def pages(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Of NTMs small and large, and of a baseline."""
    folder = tmp_path_factory.mktemp("pages")
    small = NTMConfig(slots=7, width=5, read_heads=2, write_heads=3)
    traces = {"small": trace_of(small), "baseline": trace_of(None), "large": large_trace()}
    for name, trace in traces.items():
        write_explorer(trace, name, folder / f"{name}.html")
    return {name: folder / f"{name}.html" for name in traces}


def large_trace(steps: int = 1000, slots: int = 128, width: int = 20) -> Trace:
    """1000 steps of 128 slots, of which nothing is true but the shapes and equations 3 and 4."""
    rng = np.random.default_rng(1)
    weights = rng.dirichlet(np.full(slots, 0.02), (steps, 2))
    erase, add = rng.random((steps, 1, width)), rng.uniform(-1, 1, (steps, 1, width))
    memory = np.zeros((steps, slots, width))
    for t in range(1, steps):
        w = weights[t, 1][:, None]
        memory[t] = memory[t - 1] * (1 - w * erase[t]) + w * add[t]
    reads = np.einsum("tn,tnw->tw", weights[:, 0], memory)[:, None]
    machine = NTMTrace(
        memory=memory, weights=weights, reads=reads,
        key=rng.uniform(-1, 1, (steps, 2, width)), beta=rng.random((steps, 2)),
        gate=rng.random((steps, 2)), shift=rng.dirichlet(np.ones(3), (steps, 2)),
        gamma=1 + rng.random((steps, 2)), erase=erase, add=add,
    )  # fmt: skip
    bits = rng.integers(0, 2, (steps, 8)).astype(float)
    mask = (np.arange(steps) >= 500).astype(float)
    return Trace(bits, bits, mask, bits, machine)


def picture(page: sync_api.Page, canvas: str) -> str:
    found: str = page.evaluate(f"document.getElementById('{canvas}').toDataURL()")
    return found


@pytest.mark.parametrize("width", [360, 1280])
@pytest.mark.parametrize("name", ["small", "baseline", "large"])
def test_the_explorer_is_quiet_and_fits(
    browser: sync_api.Browser, pages: dict[str, Path], name: str, width: int
) -> None:
    opened = Opened(browser, pages[name], width)
    opened.page.keyboard.press("End")
    opened.page.keyboard.press("Home")
    assert opened.is_quiet(), (opened.complaints, opened.requests)
    assert opened.fits()
    assert opened.page.locator("#matrix").count() == (name != "baseline")


def test_scrubbing_changes_the_picture_and_what_is_read_aloud(
    browser: sync_api.Browser, pages: dict[str, Path]
) -> None:
    opened = Opened(browser, pages["small"], 1280)
    page = opened.page
    before = picture(page, "matrix")
    page.locator("#step").fill("5")
    assert page.locator("#at").inner_text() == "step 5 of 8, answering"
    assert picture(page, "matrix") != before
    assert page.locator("#spoken").inner_text().startswith("Step 5: input 0 0 0 0; target ")
    for key, step in (("ArrowRight", 6), ("ArrowLeft", 5), ("Home", 0), ("End", 8), ("PageUp", 0)):
        page.keyboard.press(key)
        assert page.locator("#step").input_value() == str(step)
    assert picture(page, "matrix") == before
    page.locator("#on").click()
    assert page.locator("#step").input_value() == "1"
    page.locator("#inputs").click(position={"x": 5, "y": 5})
    assert page.locator("#step").input_value() == "0"
    assert opened.is_quiet()


def test_it_plays_and_pauses(browser: sync_api.Browser, pages: dict[str, Path]) -> None:
    page = Opened(browser, pages["small"], 1280).page
    page.clock.install(time=datetime(2014, 10, 20))
    page.clock.pause_at(datetime(2014, 10, 21))  # time is now the test's: load changes nothing
    page.locator("#speed").select_option("20")
    page.locator("h1").click()
    page.keyboard.press("Space")
    assert page.locator("#play").inner_text() == "Pause"
    page.clock.run_for(8 * 50)
    assert page.locator("#at").inner_text() == "step 8 of 8, answering"
    assert page.locator("#play").inner_text() == "Pause"
    page.clock.run_for(50)
    assert page.locator("#play").inner_text() == "Play"  # it stops at the end
    page.locator("#speed").select_option("2")
    page.locator("h1").click()
    page.keyboard.press("Space")  # from the start again
    page.clock.run_for(500)
    assert page.locator("#at").inner_text() == "step 1 of 8"
    page.keyboard.press("Space")
    assert page.locator("#play").inner_text() == "Play"
    page.clock.run_for(5000)
    assert page.locator("#at").inner_text() == "step 1 of 8"


def test_the_page_computes_the_memory_and_shows_values(
    browser: sync_api.Browser, pages: dict[str, Path]
) -> None:
    trace = large_trace()
    assert trace.ntm is not None
    opened = Opened(browser, pages["large"], 1280)
    for step in (999, 31, 32, 33, 500):
        found = np.array(opened.page.evaluate(f"Array.from(memoryAt({step}))")).reshape(128, 20)
        np.testing.assert_allclose(found, trace.ntm.memory[step], atol=1e-4)
    opened.page.locator("#used").uncheck()
    opened.page.locator("#step").fill("999")
    box = opened.page.locator("#matrix").bounding_box()
    assert box is not None
    opened.page.mouse.move(
        box["x"] + box["width"] * 3.5 / 20, box["y"] + box["height"] * 40.5 / 128
    )
    value = trace.ntm.memory[999, 40, 3]
    assert opened.page.locator("#tip").inner_text() == f"slot 40, column 3: {value:.3f}"
    assert opened.is_quiet()
