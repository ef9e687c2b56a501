"""The pages in a real browser: they work, and nothing leaves them."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from ntm.experiment.results import find_runs, group, read_results
from ntm.views.report import section, write
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

    head = table.locator("th", has_text="above best possible")
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
