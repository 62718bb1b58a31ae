"""The lab's page, as a browser shows it."""

from __future__ import annotations

from pathlib import Path

import pytest
from selenium.webdriver.common.by import By
from selenium.webdriver.common.keys import Keys
from selenium.webdriver.remote.webdriver import WebDriver

from gainstage.cli import main

TOPICS = ("chain", "crossover", "init", "recurrent", "clip", "norm", "symptoms", "exercises")


@pytest.fixture(scope="module")
def page(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("lab") / "lab.html"
    with pytest.raises(SystemExit) as ended:
        main(["lab", "all", "--quick", "--html", str(path)])
    assert ended.value.code == 0
    return path


def opened(browser: WebDriver, page: Path, width: int) -> None:
    size = {"width": width, "height": 900, "deviceScaleFactor": 1, "mobile": False}
    browser.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", size)
    browser.get(page.as_uri())


@pytest.mark.parametrize("width", [1280, 390])
def test_the_page_shows_every_topic_without_an_error(
    browser: WebDriver, page: Path, width: int
) -> None:
    opened(browser, page, width)
    for topic in TOPICS:
        assert browser.find_element(By.ID, topic).is_displayed()
    assert len(browser.find_elements(By.CSS_SELECTOR, "svg path.line")) > 20
    assert browser.execute_script("return document.documentElement.scrollWidth") <= width
    assert browser.get_log("browser") == []


@pytest.mark.parametrize(
    ("knob", "picture", "key"),
    [
        ("chain-weight", "chain-bench", Keys.ARROW_LEFT),
        ("chain-depth", "chain-bench", Keys.ARROW_RIGHT),
        ("chain-dtype", "chain-bench", Keys.ARROW_DOWN),
        ("chain-limit", "chain-bench", Keys.ARROW_RIGHT),
        ("time-weight", "time-bench", Keys.ARROW_RIGHT),
        ("time-steps", "time-bench", Keys.ARROW_RIGHT),
        ("clip-limit", "clip-bench", Keys.ARROW_RIGHT),
    ],
)
def test_a_knob_moves_its_picture_by_keyboard(
    browser: WebDriver, page: Path, knob: str, picture: str, key: str
) -> None:
    opened(browser, page, 1280)

    def drawn() -> str:
        svg = browser.find_element(By.ID, f"{picture}-picture")
        return str(svg.get_attribute("innerHTML"))

    before = drawn()
    said = browser.find_element(By.ID, f"{picture}-said").text
    browser.find_element(By.ID, knob).send_keys(key)
    assert drawn() != before
    assert browser.find_element(By.ID, f"{picture}-said").text != said
    assert browser.get_log("browser") == []


def test_the_bench_says_what_autograd_says(browser: WebDriver, page: Path) -> None:
    opened(browser, page, 1280)
    said = browser.find_element(By.ID, "chain-bench-said").text
    assert "2^19 = 524288" in said
    assert "float16 overflows from layer 16 on" in said
    assert "[3.714, 2.785, -1.857]" in browser.find_element(By.ID, "clip-bench-said").text


def test_the_page_asks_no_network_and_runs_one_script_only(page: Path) -> None:
    text = page.read_text(encoding="utf-8")
    assert "default-src 'none'; script-src 'sha256-" in text
    assert text.count("<script>") == 1
    assert "src=" not in text.replace("default-src", "")
    assert "https://" not in text
