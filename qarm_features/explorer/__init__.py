"""The explorer shows a release to people: items, prefixes, users and what a release changed."""
