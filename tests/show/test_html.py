"""The report, as a browser shows it."""

from __future__ import annotations

import base64
import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from selenium import webdriver
from selenium.webdriver.common.by import By
from selenium.webdriver.common.keys import Keys
from selenium.webdriver.remote.webdriver import WebDriver

from conftest import FRONTEND, Ran, finish
from gainstage.errors import ConfigError
from gainstage.facts.codec import to_json
from gainstage.facts.fault import Fault, FaultEvidence, Site
from gainstage.facts.observation import ClipScaled, Observation
from gainstage.show.autopsy import trials_json
from gainstage.show.html import render_report, write_report
from gainstage.store.findings import findings_json
from gainstage.store.reader import load
from gainstage.store.sites import append_fault, append_observation

PICTURES = ("#loss", "#norm", "#heatmap", "#levels", "#headroom", "#time-steps", "#ratios")
MOVING = ("#loss", "#levels", "#headroom", "#time-steps", "#ratios")
ATTACK = "</script><img src=x onerror=alert(1)>"
SCRIPT = f"""
import torch
class Evil(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.add_module({ATTACK!r}, torch.nn.Linear(4, 4))
        self.cell = torch.nn.Linear(4, 4)
    def forward(self, x):
        x, h = list(self.children())[0](x), torch.zeros(8, 4)
        for t in range(12):
            h = torch.tanh(self.cell(h) + x)
        return h
torch.manual_seed(0)
model = torch.nn.Sequential(Evil(), *[torch.nn.Linear(4, 4) for _ in range(5)])
opt = torch.optim.SGD(model.parameters(), lr=0.01)
for step in range(60):
    opt.zero_grad()
    y = model(torch.randn(8, 4))
    loss = y.pow(2).mean() * (2.0 ** (2 * max(0, step - 30)))
    if step > 57:
        loss = loss + torch.log(torch.relu(y) * 0).mean()
    loss.backward()
    torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
    opt.step()
"""
TRIALS = {
    "baseline": {"outcome": ATTACK, "final_loss": None},
    "trials": [{"trial": "clip", "outcome": "ran", "final_loss": 0.25, "ran": [1, {"a": True}]}, 3],
    "best": {"remedy": "clip-global-norm", "why": ATTACK},
    "diff": f"-{ATTACK}",
}


@pytest.fixture(scope="module")
def exploded(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the folder of a run that failed, with a module name that is an attack."""
    cwd = tmp_path_factory.mktemp("exploded")
    (cwd / "<b>train.py").write_text(SCRIPT)
    ran: Ran = finish(
        [sys.executable, "-m", "gainstage", "run", "--out", "run", "<b>train.py"], cwd
    )
    assert ran.code == 0, ran.err
    (ran.folder / "trials.json").write_text(json.dumps(TRIALS))
    site = Site("log", ATTACK, ATTACK, f"/{ATTACK}.py", 1)
    known = FaultEvidence(reason="outside-domain", domain=ATTACK, operands={ATTACK: ATTACK})
    append_fault(
        ran.folder, 0, Fault(60, "domain", "loss", site, known, ATTACK, 3, (1, 2), (site,))
    )
    append_observation(ran.folder, 0, Observation(ClipScaled(parameters=2), 0, f"/{ATTACK}.py", 3))
    return ran.folder


def opened(browser: WebDriver, run: Path, width: int = 1280, scheme: str = "light") -> None:
    path = run.parent / "report.html"
    write_report(load(run), path)
    size = {"width": width, "height": 900, "deviceScaleFactor": 1, "mobile": False}
    browser.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", size)
    media = {"media": "", "features": [{"name": "prefers-color-scheme", "value": scheme}]}
    browser.execute_cdp_cmd("Emulation.setEmulatedMedia", media)
    browser.get(path.as_uri())


def text_of(browser: WebDriver, css: str) -> str:
    return browser.find_element(By.CSS_SELECTOR, css).text


def inked(browser: WebDriver, css: str) -> int:
    """Return a fingerprint of a picture: 0 for one of fewer than nine colours."""
    return browser.execute_script(
        "const c = document.querySelector(`${arguments[0]} canvas`);"
        "const d = new Uint32Array("
        "  c.getContext('2d').getImageData(0, 0, c.width, c.height).data.buffer);"
        "return new Set(d).size > 8 ? d.reduce((h, x) => (Math.imul(h, 31) + x) >>> 0, 7) : 0",
        css,
    )


@pytest.mark.parametrize(("width", "scheme"), [(1280, "light"), (390, "dark")])
def test_the_report_draws_every_picture(
    browser: WebDriver, exploded: Path, width: int, scheme: str
) -> None:
    opened(browser, exploded, width, scheme)
    assert text_of(browser, ".verdict").startswith("FAILED at step")
    for picture in PICTURES:
        assert inked(browser, picture) != 0, f"{picture} is empty"
    page_width = browser.execute_script("return document.documentElement.scrollWidth")
    assert page_width <= width
    assert browser.get_log("browser") == []


def test_what_a_run_says_is_text_and_never_markup(browser: WebDriver, exploded: Path) -> None:
    opened(browser, exploded)
    assert text_of(browser, "h1") == "<b>train.py"
    assert browser.find_elements(By.CSS_SELECTOR, "img, b") == []
    (sentence,) = [each.text for each in load(exploded).faults() if each.step == 60]
    assert ATTACK in sentence
    assert sentence in text_of(browser, "main")
    assert f"/{ATTACK}.py:3 clips gradients" in text_of(browser, "main")
    assert text_of(browser, "pre[aria-label=repair]") == f"-{ATTACK}"
    chain = browser.find_elements(By.CSS_SELECTOR, ".chain .module")
    assert ATTACK in [each.get_attribute("textContent") for each in chain]
    names = browser.execute_script(
        "return JSON.parse(document.getElementById('data').textContent)"
        ".ranks[0].tensors.map(t => t.name)"
    )
    assert any("<img src=x" in name for name in names)


def test_a_click_on_a_symptom_brings_its_step_into_all_pictures(
    browser: WebDriver, exploded: Path
) -> None:
    opened(browser, exploded)
    label = browser.find_element(By.CSS_SELECTOR, ".pictures").get_attribute
    assert label("aria-label") == "pictures of steps 0 to 59"
    step = load(exploded).findings.symptoms[0].step
    browser.find_element(By.CSS_SELECTOR, ".symptoms button").click()
    assert label("aria-label") == f"pictures of steps {step - 10} to {min(59, step + 10)}"
    assert text_of(browser, ".chosen") == f"step {step}"


def test_the_slider_takes_the_ledger_through_the_sampled_steps(
    browser: WebDriver, exploded: Path
) -> None:
    opened(browser, exploded)
    slider = browser.find_element(By.ID, "step")
    slider.send_keys(Keys.HOME)
    before = {each: inked(browser, each) for each in MOVING}
    assert text_of(browser, "#ledger p").startswith("step 0: gradients gain")
    slider.send_keys(Keys.ARROW_RIGHT)
    assert text_of(browser, "#ledger p").startswith("step 1: gradients gain")
    assert text_of(browser, ".chosen") == "step 1"
    assert slider.get_attribute("aria-valuetext") == "step 1"
    slider.send_keys(Keys.END)
    assert {each: inked(browser, each) for each in MOVING}.keys() == before.keys()
    for each, picture in before.items():
        assert inked(browser, each) != picture, f"{each} did not move"


def test_a_module_filters_every_picture_and_the_keyboard_reaches_all(
    browser: WebDriver, exploded: Path
) -> None:
    opened(browser, exploded)
    names = "return [...document.querySelectorAll('#ledger tbody td:first-child')]"
    names += ".map(td => td.textContent)"
    assert len(browser.execute_script(names)) == 7
    before = inked(browser, "#heatmap")
    browser.find_element(By.ID, "filter").send_keys("0.cell")
    assert browser.execute_script(names) == ["1 0.cell.weight"]
    assert inked(browser, "#heatmap") != before
    browser.find_element(By.ID, "filter").clear()
    browser.execute_script("document.activeElement.blur(); window.scrollTo(0, 0)")
    reached: list[str] = []
    for _ in range(40):
        webdriver.ActionChains(browser).send_keys(Keys.TAB).perform()
        reached.append(
            browser.execute_script(
                "const e = document.activeElement;"
                "return e.id || e.className || e.getAttribute('aria-label') || e.tagName"
            )
        )
    for wanted in ("copy", "critical", "step", "filter", "order of the tensors", "SUMMARY"):
        assert wanted in reached
    button = browser.find_element(By.CSS_SELECTOR, ".symptoms button:last-of-type")
    button.send_keys(Keys.ENTER)
    step = button.find_element(By.CSS_SELECTOR, ".at").text
    assert text_of(browser, ".chosen") == step


@pytest.mark.parametrize(("width", "scheme"), [(1280, "light"), (390, "dark")])
def test_axe_finds_no_serious_problem(
    browser: WebDriver, exploded: Path, packages: Path, width: int, scheme: str
) -> None:
    opened(browser, exploded, width, scheme)
    browser.execute_script((packages / "node_modules/axe-core/axe.min.js").read_text())
    found = browser.execute_async_script("axe.run().then(arguments[0])")
    assert found["passes"], "axe has looked at nothing"
    said = [
        (each["id"], [node["html"][:120] for node in each["nodes"]])
        for each in found["violations"]
        if each["impact"] in ("serious", "critical")
    ]
    assert said == []


def test_a_report_can_be_printed(browser: WebDriver, exploded: Path) -> None:
    opened(browser, exploded)
    printed = browser.execute_cdp_cmd("Page.printToPDF", {"printBackground": True})
    assert base64.b64decode(printed["data"]).startswith(b"%PDF")
    browser.execute_cdp_cmd("Emulation.setEmulatedMedia", {"media": "print"})
    assert not browser.find_element(By.CSS_SELECTOR, ".controls").is_displayed()
    assert browser.find_element(By.CSS_SELECTOR, ".answers").is_displayed()


def test_trials_that_are_no_trials_are_left_out(tmp_path: Path, exploded: Path) -> None:
    copy = tmp_path / "run"
    shutil.copytree(exploded, copy)
    for text in ("[]", "no JSON", '{"trials": 3, "baseline": []}'):
        (copy / "trials.json").write_text(text)
        found = trials_json(load(copy))
        assert found is None or found["rows"] == []


def test_the_data_in_the_page_are_those_of_the_record(exploded: Path) -> None:
    run = load(exploded)
    page = render_report(run)
    text = page.split('id="data">')[1].split("</script>")[0]
    data = json.loads(text)
    assert data["schema"] == "gainstage.report/1"
    assert data["symptoms"] == json.loads(to_json(findings_json(run.findings)))["symptoms"]
    assert data["ranks"][0]["step"] == run.block().step.tolist()


def test_a_report_that_cannot_be_written_says_where(exploded: Path, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="cannot write the report to"):
        write_report(load(exploded), tmp_path / "none" / "report.html")
    with pytest.raises(ConfigError, match="a folder; name a file in it"):
        write_report(load(exploded), tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_the_committed_front_end_is_the_one_that_its_sources_build(packages: Path) -> None:
    bundle = packages.parent / "src/gainstage/show/bundle"
    bundle.mkdir(parents=True)
    subprocess.run(["npm", "run", "build", "--silent"], cwd=packages, check=True, timeout=200)
    for name in ("report.js", "dashboard.js"):
        built = (bundle / name).read_bytes()
        committed = FRONTEND.parent / "src/gainstage/show/bundle" / name
        assert built == committed.read_bytes(), "run `make frontend` and commit what it builds"
        assert len(built) < 200_000
