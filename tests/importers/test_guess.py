# ruff: noqa: E501  a shop is a line
"""The columns of 27 shops, by the names that they give to them in English, German and Spanish, or by no name at all."""

from __future__ import annotations

import pytest

from qarm_features.importers.guessing.guess import guess_items, guess_log, log_likeness, profiles
from qarm_features.importers.guessing.meeting import overlaps
from qarm_features.importers.guessing.names import words
from qarm_features.importers.guessing.sample import read_sample
from tests.importers.imported import write_files

COLORS = ("red", "blue", "green", "rot", "azul")
# The value of row n, by its kind.
KINDS = {
    "sku": lambda n: f"A-{n % 30:03}",
    "ean": lambda n: f"40123450{n % 30:05}",
    "int": lambda n: str(n % 30 + 1),
    "row": lambda n: str(n + 1),
    "title": lambda n: f"Shirt {COLORS[n % 5]} {n % 30}",
    "words": lambda n: f"A warm and soft shirt, {COLORS[n % 5]}, for all days",
    "color": lambda n: COLORS[n % 5],
    "price": lambda n: f"{n % 7}.95",
    "image": lambda n: f"pictures/{n % 30}.jpg",
    "user": lambda n: f"u{n % 9}",
    "usernr": lambda n: str(500_000 + n % 9),
    "iso": lambda n: f"2024-01-{n % 28 + 1:02}T10:15:00Z",
    "sec": lambda n: str(1_700_000_000 + n * 3600),
    "ms": lambda n: str(1_700_000_000_000 + n * 3_600_000),
    "german": lambda n: f"{n % 28 + 1:02}.01.2024 10:15",
    "click": lambda n: str(n % 2),
    "bool": lambda n: ("true", "false")[n % 2],
    "stars": lambda n: str(n % 5 + 1),
    "event": lambda n: ("view", "cart", "purchase")[n % 3],
    "pieces": lambda n: str(n % 4 + 1),
}
# Header and kinds of the catalog; of the log; what is sure, in the order of ROLES ("-" is no column); roles that are asked.
ROLES = ("items.item_id", "items.title", "items.text", "interactions.user_id", "interactions.item_id")
ROLES += ("interactions.event_timestamp", "interactions.label")
SHOPS = [
    ("sku:sku name:title category:color", "customer_id:user sku:sku clicked_at:iso clicked:click", "sku name name,category customer_id sku clicked_at clicked", ""),
    ("item_id:int title:title description:words", "user_id:usernr item_id:int timestamp:sec rating:stars", "item_id title title,description user_id item_id timestamp rating", ""),
    ("productId:sku productName:title brand:color price:price", "visitorId:user productId:sku eventTime:ms isClick:click", "productId productName productName,brand visitorId productId eventTime isClick", ""),
    ("Artikelnummer:sku Bezeichnung:title Warengruppe:color Preis:price", "Kundennummer:user Artikelnummer:sku Bestelldatum:iso Bewertung:stars", "Artikelnummer Bezeichnung Bezeichnung,Warengruppe Kundennummer Artikelnummer Bestelldatum Bewertung", ""),
    ("Art.-Nr.:sku Titel:title Beschreibung:words Marke:color", "Kd.Nr.:usernr Art.-Nr.:sku Zeitpunkt:iso", "Art.-Nr. Titel Titel,Beschreibung,Marke Kd.Nr. Art.-Nr. Zeitpunkt -", ""),
    ("Código Artículo:sku Nombre:title Categoría:color Precio:price", "ID Cliente:user Código Artículo:sku Fecha Compra:iso Valoración:stars", "Código Artículo|Nombre|Nombre,Categoría|ID Cliente|Código Artículo|Fecha Compra|Valoración", ""),
    ("id_producto:int titulo:title descripcion:words marca:color", "id_usuario:usernr id_producto:int fecha_hora:iso comprado:click", "id_producto titulo titulo,descripcion,marca id_usuario id_producto fecha_hora comprado", ""),
    ("id:sku title:title genres:color", "user:user item:sku ts:sec label:click", "id title title,genres user item ts label", ""),
    ("asin:sku title:title features:words imageURL:image", "reviewerID:user asin:sku unixReviewTime:sec overall:stars", "asin title title,features reviewerID asin unixReviewTime overall", ""),
    ("movieId:int title:title genres:color", "userId:usernr movieId:int rating:stars timestamp:sec", "movieId title title,genres userId movieId timestamp rating", ""),
    ("Produktnummer:sku Produktname:title Hersteller:color Bild:image", "Nutzer:user Produktnummer:sku Zeit:ms geklickt:bool", "Produktnummer Produktname Produktname,Hersteller Nutzer Produktnummer Zeit geklickt", ""),
    ("referencia:sku nombre_producto:title familia:color", "cliente:user referencia:sku fecha:iso", "referencia nombre_producto nombre_producto,familia cliente referencia fecha -", ""),
    ("ARTIKEL_ID:int ARTIKELBEZEICHNUNG:title FARBE:color", "BENUTZER_ID:usernr ARTIKEL_ID:int KAUFDATUM:iso MENGE:pieces", "ARTIKEL_ID ARTIKELBEZEICHNUNG ARTIKELBEZEICHNUNG,FARBE BENUTZER_ID ARTIKEL_ID KAUFDATUM -", ""),
    ("video_id:sku headline:title tags:color", "uid:user video_id:sku time:sec liked:click", "video_id headline headline,tags uid video_id time liked", ""),
    ("business_id:sku name:title categories:color", "review_id:row user_id:user business_id:sku stars:stars date:iso", "business_id name name,categories user_id business_id date stars", ""),
    ("product code:sku product title:title long description:words", "buyer:user product code:sku order date:iso quantity:pieces", "product code|product title|product title,long description|buyer|product code|order date|-", ""),
    ("sku:sku name:title", "user_id:row sku:sku timestamp:iso", "sku name name user_id sku timestamp -", ""),
    # Asked, and not guessed:
    ("product_name:title category:color", "user_id:user product_name:title timestamp:iso", "-", "items.item_id interactions.item_id"),
    ("a:sku b:title c:color", "d:user e:sku f:sec", "-", "items.item_id items.text interactions.item_id interactions.user_id interactions.event_timestamp"),
    ("sku:sku ean:ean name:title", "user_id:user article:row created_at:iso", "-", "items.item_id"),
    ("item_id:int name:title", "user_id:usernr item_id:int order_date:iso event_time:iso", "-", "interactions.event_timestamp"),
    ("item_id:int name:title", "session:user item_id:int timestamp:sec", "-", "interactions.user_id"),
    ("sku:sku name:title", "kunde:user sku:sku datum:german", "-", "interactions.event_timestamp"),
    ("sku:sku name:title", "user_id:user sku:sku timestamp:iso event_type:event", "-", "interactions.label"),
    ("sku:sku name:title", "user_id:user sku:sku timestamp:iso flag:click", "-", "interactions.label"),
    ("sku:sku name:title", "user_id:user sku:sku timestamp:iso rating:stars click:click", "-", "interactions.label"),
    ("sku:sku color:price", "user_id:user sku:sku timestamp:iso", "-", "items.text"),
]  # fmt: skip


def file_of(described: str, rows: int) -> str:
    """Returns a CSV file from ``name:kind name:kind``."""
    columns, name = [], []
    for word in described.split(" "):
        name.append(word)
        if ":" in word:
            columns.append(" ".join(name).rpartition(":")[::2])
            name = []
    lines = [";".join(name for name, _ in columns)]
    lines += [";".join(KINDS[kind](n) for _, kind in columns) for n in range(rows)]
    return "\n".join(lines) + "\n"


def guesses_of(folder):
    catalog, log = read_sample(folder / "catalog.csv"), read_sample(folder / "log.csv")
    items, interactions = profiles(catalog), profiles(log)
    assert log_likeness(items) <= log_likeness(interactions)
    met = overlaps(catalog, items, log, interactions)
    return {guess.role: guess for guess in guess_items(items, met[0]) + guess_log(interactions, met[1])}


@pytest.mark.parametrize(("catalog", "log", "sure", "asked"), SHOPS, ids=[shop[0] for shop in SHOPS])
def test_a_column_is_guessed_where_its_name_and_values_agree_and_asked_for_elsewhere(
    tmp_path, catalog, log, sure, asked
):
    write_files(tmp_path, {"catalog.csv": file_of(catalog, 30), "log.csv": file_of(log, 60)})

    guesses = guesses_of(tmp_path)

    assert {role for role, guess in guesses.items() if not guess.sure} == set(asked.split())
    if not asked:
        wanted = sure.split("|" if "|" in sure else " ")
        assert [guesses[role].column or "-" for role in ROLES] == wanted


def test_a_name_becomes_words_without_accents_and_capital_letters():
    assert words("Código_Artículo") == ["codigo", "articulo"]
    assert words("eventTimeStamp") == ["event", "time", "stamp"]
    assert words("Straße-Nr.") == ["strasse", "nr"]


@pytest.mark.parametrize(
    ("kind", "unit"), [("sec", "seconds"), ("ms", "milliseconds"), ("iso", "timestamp"), ("row", None)]
)
def test_the_unit_of_a_time_is_that_in_which_it_is_plausible(tmp_path, kind, unit):
    write_files(tmp_path, {"log.csv": file_of(f"user_id:user time:{kind}", 60)})

    assert profiles(read_sample(tmp_path / "log.csv"))["time"].unit == unit
