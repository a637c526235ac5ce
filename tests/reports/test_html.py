"""The HTML report as text, and in a real browser."""

import json
import os
import re
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from selenium import webdriver
from selenium.webdriver.common.by import By
from selenium.webdriver.common.keys import Keys
from selenium.webdriver.remote.webelement import WebElement
from selenium.webdriver.support.ui import Select

from miasbench.harness.cli import main
from miasbench.results.store import RunStore, find_runs

from ..support.records import rewrite

EVIL = "<script>alert(1)</script>"
SETS = [f"phantom_{name}:train=3,valid=4,test=8,size=64" for name in ("brain_mri", "liver_ct")]


def bench(*arguments: object) -> None:
    with pytest.raises(SystemExit) as end:
        main([str(argument) for argument in arguments])
    assert end.value.code == 0


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> RunStore:
    folder = tmp_path_factory.mktemp("results")
    shared = ("--methods", "intensity,ae", "--epochs", 1, "--size", 64, "--results", folder)
    bench("run", "--dataset", SETS[0], "--dataset", SETS[1], *shared)
    return find_runs(folder)[0]


@pytest.fixture(scope="module")
def page(run: RunStore, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("out")
    bench("report", run.folder, "--out", out)
    return out / "report.html"


def embedded(page: Path) -> dict[str, Any]:
    found = re.search(r'<script type="application/json" id="data">(.*?)</script>', page.read_text(), re.DOTALL)
    assert found
    return json.loads(found[1])


def test_the_page_needs_nothing_else(page: Path) -> None:
    sources = re.findall(r"""(?:src|href)=["']([^"']*)""", page.read_text())
    assert sources
    assert all(source.startswith(("data:", "#")) for source in sources)
    assert "@import" not in page.read_text()


def test_its_numbers_are_those_of_the_tables(page: Path, run: RunStore) -> None:
    scores = run.scores()
    rows = embedded(page)["scores"]
    for row in rows:
        if row["policy"] == "own or valid_dice":
            continue
        own = scores[(scores["dataset"] == row["dataset"]) & (scores["method"] == row["method"])]
        for metric, found in row["values"].items():
            (value,) = own.loc[own["policy"].isin([row["policy"], "none"]) & (own["metric"] == metric), "value"]
            assert found["value"] == value
    assert {row["dataset"] for row in rows} == set(SETS)
    assert {row["policy"] for row in rows if row["oracle"]} == {"oracle_dice"}
    cases = run.cases()
    for dataset, listed in embedded(page)["cases"].items():
        of_policy = cases[(cases["dataset"] == dataset) & (cases["policy"] == "valid_dice") & cases["dice"].notna()]
        assert {one["case"] for one in listed} == set(of_policy["case"])


@pytest.mark.usefixtures("undrawn")
def test_names_from_data_stay_text(run: RunStore, tmp_path: Path) -> None:
    copy = RunStore(tmp_path / "copy")
    shutil.copytree(run.folder.path, copy.folder.path)
    for name, table in (("cases", run.cases()), ("scores", run.scores()), ("curves", run.curves())):
        evil = table.assign(method=table["method"].replace("ae", EVIL))
        copy.write_tables({name: evil.assign(case=EVIL + evil["case"]) if "case" in evil else evil})

    def change(record: dict[str, Any]) -> None:
        record["cells"][0]["method"] = record["environment"]["command"] = EVIL

    rewrite(copy, change)
    bench("report", copy.folder, "--out", tmp_path / "out")
    text = (tmp_path / "out" / "report.html").read_text()
    assert EVIL not in text
    assert "alert(1)" in text


@pytest.fixture(scope="module")
def browser() -> Iterator[webdriver.Chrome]:
    chromium, driver = shutil.which("chromium"), shutil.which("chromedriver")
    if not (chromium and driver):
        if os.environ.get("MIASBENCH_TEST_CHROMIUM"):
            pytest.fail("chromium or chromedriver is missing")
        pytest.skip("chromium and chromedriver are not installed")
    options = webdriver.ChromeOptions()
    options.binary_location = str(chromium)
    for argument in ("--headless=new", "--no-sandbox", "--disable-dev-shm-usage", "--window-size=1280,900"):
        options.add_argument(argument)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
    opened = webdriver.Chrome(options=options, service=webdriver.ChromeService(str(driver)))
    yield opened
    opened.quit()


@pytest.fixture
def opened(browser: webdriver.Chrome, page: Path) -> Iterator[webdriver.Chrome]:
    browser.set_window_size(1280, 900)
    browser.get(page.as_uri())
    yield browser
    assert [entry for entry in browser.get_log("browser") if entry["level"] == "SEVERE"] == []


def find(opened: webdriver.Chrome, selector: str) -> WebElement:
    return opened.find_element(By.CSS_SELECTOR, selector)


def texts(opened: webdriver.Chrome, selector: str) -> list[str]:
    return [element.text for element in opened.find_elements(By.CSS_SELECTOR, selector)]


@pytest.mark.slow
class TestInChromium:
    def test_a_column_is_sorted_by_mouse_and_by_keyboard(self, opened: webdriver.Chrome) -> None:
        find(opened, '#score-table button[data-column="method"]').click()
        assert texts(opened, "#score-table tbody th") == ["ae", "intensity"]
        header = '#score-table th:has(button[data-column="method"])'
        assert find(opened, header).get_attribute("aria-sort") == "ascending"
        opened.switch_to.active_element.send_keys(Keys.ENTER)
        assert texts(opened, "#score-table tbody th") == ["intensity", "ae"]
        assert find(opened, header).get_attribute("aria-sort") == "descending"

    def test_dataset_and_policy_are_switched_and_an_oracle_is_marked(self, opened: webdriver.Chrome) -> None:
        before = texts(opened, "#score-table td")
        Select(find(opened, "#score-dataset")).select_by_value(SETS[1])
        assert texts(opened, "#score-table td") != before
        Select(find(opened, "#score-policy")).select_by_value("oracle_dice")
        assert len(opened.find_elements(By.CSS_SELECTOR, "#score-table tr.oracle")) == 2
        assert opened.find_elements(By.CSS_SELECTOR, '#score-table td.best[data-column="dice"]') == []
        assert find(opened, "#score-table caption").text == f"{SETS[1]}: masks of oracle_dice"

    def test_the_slider_reads_the_curve(self, opened: webdriver.Chrome, page: Path) -> None:
        slider = find(opened, "#share")
        slider.send_keys(Keys.END)
        shown = dict(zip(texts(opened, "#curve-table th[scope=row]"), texts(opened, "#curve-table td"), strict=False))
        assert find(opened, "#share-text").text == "100 %"
        curves = embedded(page)["curves"][SETS[0]]
        values = texts(opened, "#curve-table tr td:first-of-type")
        assert sorted(values) == sorted(f"{curve['dice'][-1]:.3f}" for curve in curves.values())
        assert shown
        slider.send_keys(Keys.HOME)
        assert texts(opened, "#curve-table tr td:first-of-type") != values

    def test_cases_are_walked_by_arrow_keys_and_filtered(self, opened: webdriver.Chrome) -> None:
        buttons = opened.find_elements(By.CSS_SELECTOR, "#case-list button")
        count = len(buttons)
        names = [button.text for button in buttons]
        assert names == sorted(names)
        buttons[0].click()
        opened.switch_to.active_element.send_keys(Keys.ARROW_DOWN)
        assert opened.switch_to.active_element.text == names[1]
        assert names[1].split()[-1] in find(opened, "#case caption").text
        opened.switch_to.active_element.send_keys(Keys.ARROW_UP, Keys.ARROW_UP)
        assert opened.switch_to.active_element.text == names[0]
        low = find(opened, "#dice-low")
        low.clear()
        low.send_keys("1")
        assert len(opened.find_elements(By.CSS_SELECTOR, "#case-list button")) < count

    def test_overlays_are_switched_on_and_off(self, opened: webdriver.Chrome) -> None:
        for layer, shown in (("truth", True), ("map", False), ("mask", True)):
            picture = f'#case img[data-layer="{layer}"]'
            assert find(opened, picture).is_displayed() is shown
            find(opened, f"#show-{layer}").click()
            assert find(opened, picture).is_displayed() is not shown
        widths = "return [...document.querySelectorAll('#case img')].map((one) => one.naturalWidth)"
        assert all(width > 0 for width in opened.execute_script(widths))

    def test_prompts_are_shown_and_a_case_is_enlarged(
        self, opened: webdriver.Chrome, page: Path, tmp_path: Path
    ) -> None:
        data = embedded(page)
        for case in data["images"][SETS[0]].values():
            case["methods"]["ae"]["prompts"] = [[10, 20], [5, 6, 30, 40]]
        text = re.sub(
            r'(id="data">).*?(</script>)', lambda found: f"{found[1]}{json.dumps(data)}{found[2]}", page.read_text()
        )
        (tmp_path / "prompts.html").write_text(text)
        opened.get((tmp_path / "prompts.html").as_uri())
        Select(find(opened, "#case-method")).select_by_value("ae")
        assert len(opened.find_elements(By.CSS_SELECTOR, '#case svg[data-layer="prompt"] rect')) == 2, "black and white"
        assert find(opened, '#case svg[data-layer="prompt"]').get_dom_attribute("viewBox") == "-0.5 -0.5 64 64"
        before = find(opened, "#case .stack").size["width"]
        find(opened, "#case button.zoom").send_keys(Keys.ENTER)
        large = find(opened, "#large .stack")
        assert large.size["width"] > 1.5 * before
        assert large.find_elements(By.CSS_SELECTOR, "svg rect")
        opened.switch_to.active_element.send_keys(Keys.ESCAPE)
        assert not find(opened, "#large").is_displayed()
        find(opened, "#show-prompt").click()
        assert not opened.find_elements(By.CSS_SELECTOR, '#case svg[data-layer="prompt"]')

    def test_the_best_has_no_dagger_and_the_slider_names_its_seed(self, opened: webdriver.Chrome) -> None:
        assert "†" not in find(opened, "#score-table td.best").text
        assert find(opened, "#curve-table caption").text == "DICE at the slider's threshold, of seed 0 alone"
        assert texts(opened, "#score-dataset option") == ["phantom_brain_mri", "phantom_liver_ct"]

    @pytest.mark.parametrize("width", [390, 800, 1400, 1920])
    def test_no_column_is_cut_without_a_word_at_any_width(self, opened: webdriver.Chrome, width: int) -> None:
        opened.execute_cdp_cmd(
            "Emulation.setDeviceMetricsOverride",
            {"width": width, "height": 900, "deviceScaleFactor": 1, "mobile": width < 500},
        )
        opened.execute_script("window.dispatchEvent(new Event('resize'))")
        cut, hinted, letters, page_width = opened.execute_script(
            "const wide = document.querySelector('#scores .wide');"
            "const scale = document.querySelector('#curves svg').getScreenCTM().a;"
            "return [wide.scrollWidth > wide.clientWidth, !wide.previousElementSibling.hidden, 12 * scale,"
            " document.documentElement.scrollWidth]"
        )
        opened.execute_cdp_cmd("Emulation.clearDeviceMetricsOverride", {})
        assert cut == hinted == (width < 1000)
        assert letters > 11, "the axes can be read"
        assert page_width <= width, "the page itself is not scrolled sideways"

    def test_what_a_promise_means_stands_above_the_table(self, opened: webdriver.Chrome) -> None:
        assert find(opened, "#promises p").is_displayed()
        assert "open: the promise lies within the interval" in find(opened, "#promises p").text

    def test_every_control_has_a_label_and_every_image_a_text(self, opened: webdriver.Chrome) -> None:
        unlabelled = "return [...document.querySelectorAll('select, input')].filter((one) => !one.labels.length).length"
        assert opened.execute_script(unlabelled) == 0
        assert opened.execute_script("return [...document.images].filter((one) => !one.alt).length") == 0
        assert len(opened.find_elements(By.TAG_NAME, "main")) == len(opened.find_elements(By.TAG_NAME, "h1")) == 1

    def test_a_phone_does_not_scroll_sideways(self, opened: webdriver.Chrome) -> None:
        opened.execute_cdp_cmd(
            "Emulation.setDeviceMetricsOverride",
            {"width": 375, "height": 800, "deviceScaleFactor": 1, "mobile": True},
        )
        width = opened.execute_script("return document.documentElement.scrollWidth")
        opened.execute_cdp_cmd("Emulation.clearDeviceMetricsOverride", {})
        assert width == 375

    def test_names_are_never_markup(self, opened: webdriver.Chrome, page: Path, tmp_path: Path) -> None:
        text = page.read_text().replace('"ae"', r'"\u003cimg src=x onerror=alert(1)\u003e"')
        (tmp_path / "evil.html").write_text(text)
        opened.get((tmp_path / "evil.html").as_uri())
        assert "<img src=x onerror=alert(1)>" in texts(opened, "#score-table tbody th")
        assert opened.find_elements(By.CSS_SELECTOR, 'img[src="x"]') == []
