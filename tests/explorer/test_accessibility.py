"""Every page of the explorer passes axe, the checker of the rules WCAG 2.2 A and AA, bright and dark, and on a phone."""

from __future__ import annotations

import pytest
from axe_playwright_python.sync_playwright import Axe

from tests.explorer.test_page import PAGES

RULES = ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "wcag22aa", "best-practice"]
WINDOWS = {
    "bright": {"color_scheme": "light"},
    "dark": {"color_scheme": "dark"},
    "phone": {"color_scheme": "light", "viewport": {"width": 390, "height": 844}},
}


def broken_rules(window) -> list[str]:
    """Each rule that the page of a window breaks, with the element and what axe says about it."""
    answer = Axe().run(window.page, options={"runOnly": RULES}).response
    return [
        f"{rule['id']}: {node['target']} {node['failureSummary']}"
        for rule in answer["violations"]
        for node in rule["nodes"]
    ]


@pytest.mark.parametrize(
    "kind", [kind if kind == "bright" else pytest.param(kind, marks=pytest.mark.slow) for kind in WINDOWS]
)
def test_no_page_breaks_a_rule(visit, kind):
    window = visit("server", reduced_motion="reduce", **WINDOWS[kind])
    broken = {}

    for page in PAGES if kind == "bright" else PAGES[::2]:
        window.open(page)
        broken |= {page: rules} if (rules := broken_rules(window)) else {}

    assert broken == {}


def test_a_release_without_a_ranking_model_breaks_no_rule_either(visit):
    window = visit("bare", reduced_motion="reduce")
    broken = {}

    for page in ("#/users", "#/moves", "#/figures", "#/map"):
        window.open(page)
        broken |= {page: rules} if (rules := broken_rules(window)) else {}

    assert broken == {}


def test_the_checker_sees_a_picture_without_words(visit):
    window = visit("server")
    window.open()

    window.page.evaluate("document.querySelector('main').append(document.createElement('img'))")

    assert [rule.split(":")[0] for rule in broken_rules(window)] == ["image-alt"]
