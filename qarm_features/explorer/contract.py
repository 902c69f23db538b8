"""What the explorer's pages are told. The server's JSON answers and the data inside a page of one file have these forms.

In: nothing. Out: typed dictionaries. Item and user IDs are always text here. A prefix is text as well: the codes of its
levels joined by dots, ``"12.3"`` for (c1 = 12, c2 = 3), and ``""`` for the whole catalog. Times are ISO 8601 in UTC.
"""

from __future__ import annotations

from typing import Any, TypedDict


class ItemLine(TypedDict):
    """An item in a list.

    Attributes:
        item_id: ID of the item.
        title: Its title, or the start of its text. Empty where it has neither.
        rq_codes: Its L codes.
        positives: Number of its positives in the log.
        picture: Whether ``picture(item_id)`` has a picture.
    """

    item_id: str
    title: str
    rq_codes: list[int]
    positives: int
    picture: bool


class TreeNode(TypedDict):
    """A prefix of semantic IDs.

    Attributes:
        prefix: The prefix.
        level: Number of its codes, from 0 for the whole catalog to L.
        items: Number of items of the catalog below it.
        children: Number of prefixes directly below it, 0 at level L.
        positives: Number of positives of its items.
        words: At most 5 words that its titles and texts have more often than the other items of its parent, the most
            distinguishing one first. None for the whole catalog and for a prefix of one item.
        typical: At most 4 items, those nearest to the mean of its embeddings first.
    """

    prefix: str
    level: int
    items: int
    children: int
    positives: int
    words: list[str]
    typical: list[ItemLine]


class Tree(TypedDict):
    """A prefix and what is directly below it, the largest first.

    Attributes:
        node: The prefix.
        children: At most ``limit`` prefixes below it.
        left_out: Number of prefixes below it that are not among ``children``.
        left_out_items: Number of their items.
    """

    node: TreeNode
    children: list[TreeNode]
    left_out: int
    left_out_items: int


class ItemList(TypedDict):
    """A page of items.

    Attributes:
        items: The items from ``offset`` on.
        total: Number of all items of the list.
    """

    items: list[ItemLine]
    total: int


class Near(TypedDict):
    """An item near another.

    Attributes:
        item: The item.
        value: Number of shared levels, cosine of the embeddings, or number of co-clicks, by the list it stands in.
    """

    item: ItemLine
    value: float


class PastId(TypedDict):
    """The semantic ID of an item in a release.

    Attributes:
        release: Name of the release's feature view.
        codebook_version: Its codebook version.
        rq_codes: The codes. None where the release does not have the item.
        published_at: Time of the release. None where it is not known.
    """

    release: str
    codebook_version: int
    rq_codes: list[int] | None
    published_at: str | None


class ItemPage(TypedDict):
    """All about one item.

    Attributes:
        item: The item.
        text: Its text, at most 10,000 characters of it. Empty where it has none.
        path: The prefixes of its levels, from level 1 to L, each with its meaning.
        by_prefix: At most 10 items that share the longest prefix with it.
        by_embedding: At most 10 items with the highest cosine.
        by_co_click: At most 10 items that users liked before or after it at other moments.
        history: Its semantic ID in each release, the latest first.
        collisions: Number of other items with the same semantic ID.
    """

    item: ItemLine
    text: str
    path: list[TreeNode]
    by_prefix: list[Near]
    by_embedding: list[Near]
    by_co_click: list[Near]
    history: list[PastId]
    collisions: int


class Candidate(TypedDict):
    """An item that a user was shown, or might be shown.

    Attributes:
        item: The item.
        score: Probability of a click by the ranking model. None where no model was trained.
        label: What happened: 1, 0, or None where the user was not shown the item.
        matches: For each level, the number of behaviors before the item was shown that share its codes up to this level.
        matched: Those behaviors that share at least the first code, those that share most first, at most 5.
    """

    item: ItemLine
    score: float | None
    label: int | None
    matches: list[int]
    matched: list[ItemLine]


class UserPage(TypedDict):
    """A user, what the user liked, and what a ranking model makes of it.

    Attributes:
        user_id: ID of the user.
        behavior: The user's latest positives, the latest first, each with its time.
        candidates: Items with scores, the highest first.
        model: Name and version of the ranking model that scored. Empty where there is none.
    """

    user_id: str
    behavior: list[tuple[str, ItemLine]]
    candidates: list[Candidate]
    model: str


class MapPoints(TypedDict):
    """A map of items, column by column.

    Attributes:
        item_id, title, x, y: IDs, titles and places of the P items of the map. Near items have similar embeddings.
        rq_codes: (P, L) codes.
        sampled: Whether these are a sample of the catalog.
        method: How the places were computed, as a sentence.
    """

    item_id: list[str]
    title: list[str]
    x: list[float]
    y: list[float]
    rq_codes: list[list[int]]
    sampled: bool
    method: str


class Collision(TypedDict):
    """A semantic ID that several items share.

    Attributes:
        rq_codes: The semantic ID.
        items: Number of items that share it.
        equal_contents: Number of them whose content another of them has as well.
        examples: At most 5 of the items.
    """

    rq_codes: list[int]
    items: int
    equal_contents: int
    examples: list[ItemLine]


class MovedBranch(TypedDict):
    """A prefix of the last release and where its items are now.

    Attributes:
        prefix: The prefix of level 1 in the release before.
        items: Its items in both releases.
        kept: Share of them that kept their whole semantic ID.
        kept_first: Share of them that kept their first code.
        to: At most 5 prefixes of level 1 that most of its items have now, with the number of items.
    """

    prefix: str
    items: int
    kept: float
    kept_first: float
    to: list[tuple[str, int]]


class Moves(TypedDict):
    """A release compared with the one before.

    Attributes:
        before: Name of the release before. None where there is none.
        now: Name of the release that is explored.
        items_in_both, kept, new_items, gone_items: Numbers of items.
        branches: The prefixes of level 1, those with most moved items first, at most 200.
    """

    before: str | None
    now: str
    items_in_both: int
    kept: int
    new_items: int
    gone_items: int
    branches: list[MovedBranch]


class Figure(TypedDict):
    """A figure of the release.

    Attributes:
        group: Heading that it stands under: "codes", "neighbors" or "ranking".
        name: What it is, in words.
        value: The value.
        low, high: Interval of 95%, by resampled users. None where it was not measured.
        history: The value in earlier releases as (name, value), the oldest first.
        higher_is_better: None where neither direction is.
    """

    group: str
    name: str
    value: float
    low: float | None
    high: float | None
    history: list[tuple[str, float]]
    higher_is_better: bool | None


class LineageNode(TypedDict):
    """Something that the release was made of: a table, an encoder, codebooks, a ranking model, the release itself.

    Attributes:
        name: Such as ``"items"`` or ``"codebooks v2"``.
        kind: "source", "table", "artifact" or "release".
        version: Version of the Delta table or of the artifact. None where there is none.
        made_at: Time of this version. None where it is not known.
        made_of: Names of the nodes that it was made of.
        details: Further facts as text.
    """

    name: str
    kind: str
    version: int | None
    made_at: str | None
    made_of: list[str]
    details: dict[str, str]


class Summary(TypedDict):
    """What is explored.

    Attributes:
        project: Name of the project.
        release: Name of the release's feature view.
        published_at: Time of the release. None where it is not known.
        made_at: Time at which the explorer's data was made.
        codebook_version, encoder_version, num_levels: Of the release.
        codebook_sizes: Number of centroids of each level.
        items: Number of items of the release.
        shown_items: Number of items that the explorer has. Fewer than ``items`` means that it has a sample.
        distinct_ids: Number of distinct semantic IDs.
        colliding_items: Number of items that share their semantic ID.
        users: Number of users that have a page.
        releases: Names of all releases, the latest first.
        rejected: Number of rejected rows by (table, reason), the most frequent first, at most 20.
        level_uses: For each level, (centroids in use, centroids).
    """

    project: str
    release: str
    published_at: str | None
    made_at: str
    codebook_version: int
    encoder_version: int
    num_levels: int
    codebook_sizes: list[int]
    items: int
    shown_items: int
    distinct_ids: int
    colliding_items: int
    users: int
    releases: list[str]
    rejected: list[tuple[str, str, int]]
    level_uses: list[tuple[int, int]]


class Found(TypedDict):
    """Result of a search.

    Attributes:
        items: At most 20 items, the best first.
        users: At most 5 user IDs that equal the query or start with it.
        prefixes: The prefix of the query, if the query is one that exists, such as ``"12.3"``.
    """

    items: list[ItemLine]
    users: list[str]
    prefixes: list[TreeNode]


class UserLine(TypedDict):
    """A user in a list.

    Attributes:
        user_id: ID of the user.
        positives: Number of positives on the user's page.
    """

    user_id: str
    positives: int


class UserList(TypedDict):
    """A part of the users that have a page.

    Attributes:
        users: The users from ``offset`` on.
        total: Number of all of them.
    """

    users: list[UserLine]
    total: int


# The answers of the server by their paths. An ID is no part of a path, because a browser takes "." and ".." out of paths.
PATHS: dict[str, Any] = {
    "/api/summary": Summary,
    "/api/tree?prefix=&limit=": Tree,
    "/api/items?prefix=&offset=&limit=": ItemList,
    "/api/search?q=": Found,
    "/api/item?item_id=": ItemPage,
    "/api/picture?item_id=": bytes,
    "/api/users?offset=&limit=": UserList,
    "/api/user?user_id=": UserPage,
    "/api/map": MapPoints,
    "/api/collisions?offset=&limit=": list[Collision],
    "/api/moves": Moves,
    "/api/figures": list[Figure],
    "/api/lineage": list[LineageNode],
}
