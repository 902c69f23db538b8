"""The rules of docs/own-catalog.md for one row and for the rows of one key, written again in plain Python, without Spark."""

from __future__ import annotations

import re
from collections import Counter, defaultdict
from datetime import UTC, datetime, timedelta, timezone
from decimal import ROUND_HALF_UP, Decimal
from math import floor, isfinite, isnan
from zoneinfo import ZoneInfo

import numpy as np

BLANKS = " \t\r\n\f\v\u00a0\ufeff"
NULL_WORDS = {"", "null", "NULL", "None", "nan", "NaN", "<NA>", "\\N"}
UNITS = {"seconds": 1, "milliseconds": 10**3, "microseconds": 10**6, "nanoseconds": 10**9}
Y1990, Y2100 = 631_152_000, 4_102_444_800
EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


class Rejected(Exception):
    """A value cannot be used, for the reason given."""


def id_of(value, kind, id_type, name):
    """Returns an ID in its type."""
    if value is None or (isinstance(value, float) and isnan(value)):
        raise Rejected(f"{name} is null")
    not_whole = f"{name} is not {'an integer' if id_type == 'integer' else 'a whole number'}"
    limit = {"float": 2**24, "double": 2**53}.get(kind)
    if kind == "string":
        text = value.strip(BLANKS)
        if text in NULL_WORDS:
            raise Rejected(f"{name} is null")
        if id_type == "string":
            return text
        if not (found := re.fullmatch("([+-]?[0-9]+)([.]0+)?", text)):
            raise Rejected(not_whole)
        number, limit = int(found[1]), 2**53 if found[2] else None
    else:
        if (isinstance(value, float) and not isfinite(value)) or value != int(value):
            raise Rejected(not_whole)
        number = int(value)
    if id_type == "integer" and limit is None and not -(2**63) <= number < 2**63:
        raise Rejected(f"{name} does not fit 64 bits")
    if id_type == "integer" and kind == "string" and not -(2**63) <= number < 2**63:
        raise Rejected(f"{name} does not fit 64 bits")
    if limit is not None and abs(number) >= limit:
        raise Rejected(f"{name} is too large for a float to hold all its digits")
    return number if id_type == "integer" else str(number)


def number_of(text):
    """Returns the number that a text spells in decimal digits, or None."""
    text = text.strip(BLANKS)
    if not re.fullmatch(r"[+-]?(\d+\.?\d*|\.\d+)(e[+-]?\d+)?", text, re.ASCII | re.IGNORECASE):
        return None
    return Decimal(text) if isfinite(float(text)) else None


def time_of(value, kind, unit):
    """Returns a time in UTC."""
    name = "event_timestamp"
    if value is None or (isinstance(value, str) and not value.strip(BLANKS)) or (kind == "double" and isnan(value)):
        raise Rejected(f"{name} is null")
    if unit == "timestamp":
        at = parsed_time(value.strip(BLANKS)) if kind == "string" else value
        if at is None:
            raise Rejected(f"{name} is not a timestamp")
        if not isinstance(at, datetime):
            at = datetime(at.year, at.month, at.day)
        at = at if at.tzinfo else at.replace(tzinfo=UTC)
        if not timedelta(0) <= at - EPOCH <= timedelta(seconds=Y2100):
            raise Rejected(f"{name} is not between 1970 and 2100")
        return at.astimezone(UTC)
    number = number_of(value) if kind == "string" else Decimal(repr(value)) if isfinite(value) else None
    if number is None:
        raise Rejected(f"{name} is not a number")
    for other, per_second in UNITS.items():
        if other != unit and Y1990 * per_second <= number <= Y2100 * per_second:
            raise Rejected(f"{name} is in {other}, not in {unit}")
    if not 0 <= number <= Y2100 * UNITS[unit]:
        raise Rejected(f"{name} is not between 1970 and 2100")
    exact = number.quantize(Decimal("1e-9"), ROUND_HALF_UP)
    return EPOCH + timedelta(microseconds=floor(exact * 10**6 / UNITS[unit]))


def parsed_time(text):
    """Returns the time that a text in ISO 8601 names, or None. It has a zone if the text has one."""
    clock = r"(\d\d?)(?::(\d\d?)(?::(\d\d?)(?:\.(\d{1,9}))?)?)?"
    zone = r" ?(Z|UTC|GMT|[+-]\d\d(?::?\d\d)?|[A-Z][A-Za-z_]+/[A-Za-z_/-]+)"
    found = re.fullmatch(rf"(\d{{4}})-(\d\d?)-(\d\d?)(?:[T ]{clock}(?:{zone})?)?", text, re.ASCII)
    if not found:
        return None
    *numbers, fraction, zone = found.groups()
    try:
        at = datetime(*[int(number or 0) for number in numbers], int((fraction or "0").ljust(6, "0")[:6]))
        if zone is None:
            return at
        if zone in ("Z", "UTC", "GMT"):
            return at.replace(tzinfo=UTC)
        if "/" in zone:
            return at.replace(tzinfo=ZoneInfo(zone))
        hours, minutes = int(zone[1:3]), int(zone[3:].lstrip(":") or 0)
        if minutes > 59 or 60 * hours + minutes > 18 * 60:
            return None
        return at.replace(tzinfo=timezone((-1 if zone[0] == "-" else 1) * timedelta(hours=hours, minutes=minutes)))
    except (ValueError, KeyError):
        return None


def label_of(value, kind):
    """Returns the number of a label."""
    if value is None or (isinstance(value, float) and isnan(value)):
        raise Rejected("label is null")
    if kind == "string":
        word = value.strip(BLANKS)
        if not word:
            raise Rejected("label is null")
        if word.lower() in ("true", "false"):
            return float(word.lower() == "true")
        value = number_of(word)
        if value is None:
            raise Rejected("label is not a number")
    elif kind == "float":
        value = float(str(np.float32(value)))
    if not isfinite(value):
        raise Rejected("label is not a number")
    return float(value)


def settle_interactions(rows, rule, positive_from):
    """Keeps one of the rows of each key.

    Args:
        rows: ``(line, key, label, order)`` of each accepted row.
        rule: ``interactions.duplicates``.
        positive_from: ``interactions.positive_from``.

    Returns:
        ``(*key, label, order)`` by line, and the reasons of the other lines.
    """
    accepted, reasons = {}, {}
    of_key = defaultdict(list)
    for row in rows:
        of_key[row[1]].append(row)
    for key, group in of_key.items():

        def preference(row):
            line, _, number, order = row
            latest = (order is None, -(order or 0)) if rule == "latest" else ()
            return (*latest, -number, order is None, order or 0, line)

        best, *others = sorted(group, key=preference)
        total = sum(sorted({(row[2], row[3] or 0, row[3] is None): row[2] for row in group}.values()))
        accepted[best[0]] = (*key, int((total if rule == "sum" else best[2]) >= positive_from), best[3])
        for row in others:
            other = " with other content" if row[2] != best[2] else ""
            reasons[row[0]] = f"interaction is a duplicate{other}"
    return accepted, reasons


def settle_items(rows, rule):
    """Keeps one of the rows of each item.

    Args:
        rows: ``(line, item_id, title, text, changed)`` of each accepted row.
        rule: ``items.duplicates``.

    Returns:
        ``(item_id, title, text)`` by line, and the reasons of the other lines.
    """
    accepted, reasons = {}, {}
    of_item = defaultdict(list)
    for row in rows:
        of_item[row[1]].append(row)
    for group in of_item.values():
        times = Counter(row[2:4] for row in group)

        def most_frequent(row, times=times):
            line, _, title, text, _ = row
            return (-times[row[2:4]], -len(" ".join(filter(None, (title, text)))), title or "", text, line)

        group.sort(key=most_frequent)
        if rule == "first":
            group.sort(key=lambda row: row[0])
        if rule == "latest":
            group.sort(key=lambda row: lateness(row[4]), reverse=True)  # a stable sort, also in reverse
        best, *others = group
        accepted[best[0]] = best[1:4]
        for row in others:
            other = " with other content" if row[2:4] != best[2:4] else ""
            reasons[row[0]] = f"item_id is a duplicate{other}"
    return accepted, reasons


def lateness(changed):
    """Returns a key that is larger for a later value: numbers after text, and text after nothing."""
    number = None if changed is None else number_of(changed)
    text = "" if changed is None else changed.strip(BLANKS)
    return (number is not None, float(number or 0), changed is not None, text)
