"""Amazon Reviews 2023, Yelp and Steam: one object a line."""

import json

import pytest

from qarm_features.importers.objects import LONGEST_LITERAL
from qarm_features.importers.plan import ImportFailed
from tests.importers.imported import imported

META = (
    '{"main_category": "All Beauty", "title": "Soap", "average_rating": 4.8, "features": ["mild", "red"], "description": [], '
    '"price": 12.50, "images": [{"thumb": "t.jpg", "large": "l.jpg"}], "store": "Acme", "categories": ["Beauty", "Soap"], '
    '"details": {"Size": "L"}, "parent_asin": "B01"}\n'
    '{"title": "No list", "price": null, "features": "one", "parent_asin": "B02", "images": []}\n'
    '["not", "an", "object"]\n'
    '{"title": "\\ud800 half", "parent_asin": "B03"}\n'
)
REVIEWS = (
    '{"rating": 5.0, "title": "Good", "text": "x", "images": [], "asin": "B01X", "parent_asin": "B01", "user_id": "U1", '
    '"timestamp": 1588687728923, "helpful_vote": 0, "verified_purchase": true}\n'
    '{"rating": 1.0, "parent_asin": "B99", "asin": "B99"\n'
    '{"rating": null, "parent_asin": "B02", "asin": "B02", "user_id": "U2", "timestamp": "yesterday"}\n'
)


def test_amazon_keeps_digits_lists_and_what_only_ingest_can_judge(tmp_path):
    files = {"meta_All_Beauty.jsonl.gz": META, "All_Beauty.jsonl.gz": REVIEWS}

    items, log, left_of_items, left_of_log, plan = imported(tmp_path, "amazon", files)

    first, second = items
    assert first == {
        "parent_asin": "B01",
        "title": "Soap",
        "main_category": "All Beauty",
        "store": "Acme",
        "categories": ["Beauty", "Soap"],
        "features": ["mild", "red"],
        "description": [],
        "price": "12.50",
        "image_url": "l.jpg",
    }
    assert (second["features"], second["price"], second["image_url"]) == (["one"], None, None)
    assert left_of_items == {"a line that is no JSON object": 1, "text with half of a pair of surrogates": 1}
    assert log == [
        {
            "user_id": "U1",
            "parent_asin": "B01",
            "asin": "B01X",
            "rating": "5.0",
            "timestamp": "1588687728923",
            "verified_purchase": "true",
            "helpful_vote": "0",
        },
        dict.fromkeys(log[0]) | {"user_id": "U2", "parent_asin": "B02", "asin": "B02", "timestamp": "yesterday"},
    ]
    assert left_of_log == {"a line that is no JSON object": 1}
    assert plan.settings["interactions.timestamp_unit"].value == "milliseconds"


@pytest.mark.parametrize(
    ("files", "message"),
    [
        (
            {"All_Beauty.jsonl": REVIEWS, "meta_Toys.jsonl": META},
            "Only one of the two files is there for All_Beauty.jsonl, Toys.jsonl",
        ),
        ({"All_Beauty.jsonl": REVIEWS}, "Only one of the two files is there for All_Beauty.jsonl"),
        (
            {"Toys.jsonl": '{"reviewerID": "A", "asin": "B", "overall": 5}\n', "meta_Toys.jsonl": META},
            "must have the keys parent_asin, user_id, timestamp; the first has reviewerID, asin, overall. .* 2014 or 2018",
        ),
    ],
)
def test_amazon_files_without_their_partner_or_of_other_years_are_refused(tmp_path, files, message):
    with pytest.raises(ImportFailed, match=message):
        imported(tmp_path, "amazon", files)


def test_yelp_reads_both_names_of_its_files(tmp_path):
    business = {
        "business_id": "b1",
        "name": "Café",
        "categories": "Coffee, Food",
        "city": "Tucson",
        "is_open": 1,
        "hours": None,
    }
    review = {
        "review_id": "r1",
        "user_id": "u1",
        "business_id": "b1",
        "stars": 4.0,
        "date": "2016-03-09 20:56:38",
        "text": "\n",
    }

    items, log, _, _, _ = imported(
        tmp_path,
        "yelp",
        {
            "yelp_academic_dataset_business.json": json.dumps(business) + "\r\n",
            "yelp_academic_dataset_review.json": json.dumps(review),
        },
    )

    assert items == [
        {
            "business_id": "b1",
            "name": "Café",
            "categories": "Coffee, Food",
            "city": "Tucson",
            "state": None,
            "stars": None,
            "review_count": None,
            "is_open": "1",
        }
    ]
    assert log == [
        {"review_id": "r1", "user_id": "u1", "business_id": "b1", "stars": "4.0", "date": "2016-03-09 20:56:38"}
    ]


GAMES = (
    "{u'publisher': u'Kotoshiro', u'genres': [u'Action', u'Indie'], u'app_name': u'Lost \\u2122 Summoner', u'price': 4.99, "
    "u'early_access': False, u'id': u'761140'}\n"
    "{u'app_name': __import__('os').system('touch broken')}\n"
    '{"app_name": "As JSON", "id": "20", "early_access": false}\n'
    "{u'app_name': u'No ID'}\n" + "[" * 5000 + "\n" + "{'id': '" + "x" * LONGEST_LITERAL + "'}\n"
)


def test_steam_reads_literals_of_python_and_runs_no_code(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    reviews = "{u'username': u'Chaos', u'hours': 0.1, u'product_id': u'761140', u'date': u'2017-12-17', u'page': 1}\n"

    items, log, left_out, _, plan = imported(
        tmp_path, "steam", {"steam_games.json.gz": GAMES, "steam_reviews.json": reviews}
    )

    assert [(row["id"], row["app_name"]) for row in items] == [
        ("761140", "Lost ™ Summoner"),
        ("20", "As JSON"),
        (None, "No ID"),
    ]
    assert (items[0]["genres"], items[0]["price"]) == (["Action", "Indie"], "4.99")
    assert left_out == {"a line that is no dict of Python": 2, "a line of more than 1,048,576 bytes": 1}
    assert not (tmp_path / "broken").exists()
    assert log == [
        {
            "username": "Chaos",
            "product_id": "761140",
            "date": "2017-12-17",
            "hours": "0.1",
            "products": None,
            "early_access": None,
        }
    ]
    assert "interactions.label" not in plan.settings


def test_the_reviews_of_a_steam_user_become_a_row_each(tmp_path):
    users = (
        "{'user_id': 'js41637', 'reviews': [{'posted': 'Posted June 24, 2014.', 'item_id': '20', 'recommend': True}, "
        "{'posted': 'Posted July 3.', 'item_id': '30', 'recommend': False}, 'broken']}\n"
        "{'user_id': 'silent', 'reviews': []}\n"
    )

    _, log, _, left_out, _ = imported(
        tmp_path, "steam", {"steam_games.json": GAMES, "australian_user_reviews.json": users}
    )

    assert log == [
        {"user_id": "js41637", "item_id": "20", "posted": "2014-06-24", "recommend": "true"},
        {"user_id": "js41637", "item_id": "30", "posted": "Posted July 3.", "recommend": "false"},
    ]
    assert left_out == {"a review that is no dict": 1, "a user without reviews": 1}


def test_steam_files_without_times_are_refused(tmp_path):
    with pytest.raises(
        ImportFailed, match="australian_users_items.json has no times, so that it cannot be a click log"
    ):
        imported(tmp_path, "steam", {"steam_games.json": GAMES, "australian_users_items.json": "{}"})
