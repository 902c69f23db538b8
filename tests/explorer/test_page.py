"""The explorer's pages in Chromium, from a server and from a file: mouse, keyboard, phone, hostile titles."""

from __future__ import annotations

from urllib.parse import quote

import pytest

from tests.explorer.planted_store import HOSTILE

PAGES = ["#/", "#/tree", "#/tree/0.1", "#/map", "#/users", "#/collisions", "#/moves", "#/figures", "#/lineage"]
PAGES += ["#/item/long", "#/user/1", "#/map?prefix=0", "#/tree?color=positives"]
FOUND = {"sku-7": "#/item/sku-7", "0.1": "#/tree/0.1", "user/7": "#/user/user%2F7%20%3Cb%3E", "<img": "#/item/img"}
BOTH = pytest.mark.parametrize("place", ["server", "file"])


def item_hash(item_id: str) -> str:
    return f"#/item/{quote(item_id, safe='')}"


@BOTH
def test_from_the_overview_through_the_tree_to_an_item_and_back(visit, place):
    window = visit(place)
    window.open()

    window.page.get_by_role("link", name="Walk through the tree").click()
    window.wait_for("#/tree")
    window.page.wait_for_selector(".chart[data-drawn] canvas")
    window.page.locator("ul[aria-label='Prefixes below'] a").first.click()
    window.wait_for("#/tree/0")
    prefix = window.heading
    window.page.locator("section", has_text="Items below 0").locator("ul a.line").first.click()
    window.page.wait_for_selector("main[data-view=item]")
    levels = window.page.locator("li.level").count()
    window.page.go_back()
    window.wait_for("#/tree/0")

    assert prefix.startswith("Prefix 0")
    assert levels == 3
    assert window.heading == prefix


@BOTH
def test_a_click_into_the_treemap_and_into_the_map_opens_what_is_there(visit, place):
    window = visit(place)
    window.open("#/tree")
    window.page.wait_for_selector(".chart[data-drawn] canvas")

    window.page.locator(".chart").click(position={"x": 30, "y": 60})
    window.wait_for("#/tree/0")
    inside = window.heading
    window.open("#/map?prefix=0")
    window.page.wait_for_selector(".chart[data-drawn] canvas")
    items = window.page.locator("ul[aria-label='Highlighted items'] a").count()

    assert inside.startswith("Prefix 0")
    assert items > 0


@BOTH
def test_the_keyboard_searches_opens_and_goes_up(visit, place):
    window = visit(place)
    window.open()
    press = window.page.keyboard.press

    press("/")
    window.page.keyboard.type("lamp")
    window.page.wait_for_selector("#found a")
    press("ArrowDown")
    press("ArrowDown")
    press("ArrowUp")
    press("Enter")
    window.page.wait_for_selector("main[data-view=item]")
    title = window.heading
    press("Escape")
    window.page.wait_for_selector("main[data-view=tree]")
    prefix = window.heading
    press("Escape")
    window.page.wait_for_function("before => document.querySelector('h1').textContent !== before", arg=prefix)

    assert "lamp" in title.lower()
    assert len(prefix.split(" ")[1].split("\n")[0].split(".")) == 2


@BOTH
def test_the_search_finds_items_prefixes_and_users(visit, place):
    window = visit(place)
    window.open()

    found = {}
    for query, wanted in FOUND.items():
        window.page.get_by_role("combobox").fill(query)
        window.page.wait_for_selector(f"#found a[href='{wanted}']")
        found[query] = window.page.locator("#found a").first.get_attribute("href")

    assert found == FOUND


@BOTH
def test_arrow_keys_walk_through_a_list(visit, place):
    window = visit(place)
    window.open("#/tree")
    lines = window.page.locator("ul[aria-label='Prefixes below'] a")

    lines.first.focus()
    window.page.keyboard.press("ArrowDown")
    at = window.page.evaluate("document.activeElement.getAttribute('href')")

    assert at == lines.nth(1).get_attribute("href")


@BOTH
def test_the_page_of_a_user_shows_scores_and_the_behaviors_that_explain_them(visit, place):
    window = visit(place)
    window.open("#/users")

    window.page.get_by_role("link", name="user/7 <b>").click()
    window.page.wait_for_selector("main[data-view=user]")
    candidate = window.page.locator("li.candidate").first
    candidate.hover()

    assert window.heading == "User user/7 <b>"
    assert "90%" in candidate.inner_text()
    assert "Because of" in candidate.inner_text()
    assert window.page.locator(".timeline li.lit").count() > 0


@BOTH
def test_a_hostile_title_is_shown_as_it_is_and_runs_nothing(visit, place):
    window = visit(place)

    shown = {}
    for item_id in HOSTILE:
        window.open(item_hash(item_id))
        shown[item_id] = window.page.evaluate("document.querySelector('h1').textContent")

    assert shown == {**HOSTILE, "untitled": "untitled"}
    assert window.page.evaluate("window.broken") is None
    assert window.page.locator("img[src='x']").count() == 0


@BOTH
def test_every_page_fits_a_phone_has_a_heading_and_a_name_for_each_chart(visit, place):
    window = visit(place, viewport={"width": 360, "height": 740}, has_touch=True)

    wide, unnamed = [], []
    for hash_ in PAGES:
        window.open(hash_)
        if window.page.evaluate("document.documentElement.scrollWidth") > 360:
            wide.append(hash_)
        unnamed += window.page.evaluate(
            """[...document.querySelectorAll('.chart, svg[role=img], button, a, input')].filter((one) =>
               !(one.getAttribute('aria-label') || one.textContent.trim() || one.title)).map((one) => one.outerHTML)"""
        )
        assert window.page.locator("h1").count() == 1

    assert wide == []
    assert unnamed == []


def test_the_switch_changes_the_colors_and_they_stay(visit):
    window = visit("server", color_scheme="light")
    window.open()
    ground = "getComputedStyle(document.body).backgroundColor"
    light = window.page.evaluate(ground)

    window.page.get_by_role("button", name="Switch to dark").click()
    dark = window.page.evaluate(ground)
    window.page.reload()
    window.wait_for("#/")

    assert light != dark == window.page.evaluate(ground)


CONTRASTS = """async () => {
  const { codeColor, heat } = await import('/page/js/colors.js');
  const linear = (x) => (x <= 0.03928 ? x / 12.92 : ((x + 0.055) / 1.055) ** 2.4);
  const light = (color) => [1, 3, 5].map((at) => linear(parseInt(color.slice(at, at + 2), 16) / 255));
  const contrast = ([r, g, b]) => 1.05 / (0.2126 * r + 0.7152 * g + 0.0722 * b + 0.05);
  const colors = [...Array(256).keys()].flatMap((code) => [codeColor(code), heat(code / 255)]);
  return Math.min(...colors.map((color) => contrast(light(color))));
}"""  # of white text, by the definition of WCAG 2.2


def test_white_text_can_be_read_on_the_color_of_every_code(visit):
    window = visit("server")
    window.open()

    assert window.page.evaluate(CONTRASTS) >= 4.5


def test_an_empty_page_says_what_fills_it_and_a_sample_says_so(visit):
    window = visit("bare")
    said = {}
    for hash_ in ("#/moves", "#/figures", "#/user/1", "#/tree", "#/map"):
        window.open(hash_)
        said[hash_] = window.page.locator("main").inner_text()

    assert "first release" in said["#/moves"]
    assert "qarm fit-codebooks" in said["#/moves"]
    assert "qarm train-ranking-model" in said["#/figures"]
    assert "qarm train-ranking-model" in said["#/user/1"]
    assert "This is a sample: 300 of 5,000 items" in said["#/tree"]
    assert "This is a sample" in said["#/map"]


def test_what_does_not_exist_is_said_in_a_sentence(visit):
    window = visit("file")

    window.open("#/item/none")
    item = window.page.locator("main").inner_text()
    window.open("#/nowhere")

    assert "Item none is not in this file." in item
    assert window.heading == "No such page"
