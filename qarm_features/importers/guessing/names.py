"""Names that shops give to columns, in English, German and Spanish, by the role of the column.

In: the name of a column. Out: how well it fits a role.
"""

from __future__ import annotations

import re
import unicodedata

# Names without spaces, underscores, accents and capital letters.
NAMES: dict[str, str] = {
    "item_id": "itemid item sku skuid productid product prodid articleid article articlenumber itemnumber itemcode "
    "productcode asin parentasin movieid videoid trackid songid bookid isbn newsid businessid gameid appid "
    "adid listingid variantid ean gtin upc contentid docid documentid postid offerid artikelnummer artikelnr "
    "artnr artikel artikelid produktid produktnummer produktnr produkt idarticulo articulo articuloid "
    "codigoarticulo idproducto producto productoid codigoproducto referencia codigo iditem",
    "user_id": "userid user customerid customer customernumber custid clientid client visitorid memberid accountid "
    "buyerid buyer shopperid uid personid reviewerid username kundennummer kundennr kunde kundenid kdnr nutzer "
    "nutzerid benutzer benutzerid besucher besucherid cliente idcliente clienteid usuario idusuario usuarioid "
    "codigocliente numerocliente comprador",
    "event_timestamp": "timestamp time ts date datetime eventtime eventtimestamp eventdate createdat created clickedat "
    "orderedat purchasedat viewedat orderdate purchasedate unixreviewtime zeit zeitpunkt zeitstempel datum bestelldatum "
    "kaufdatum uhrzeit fecha fechahora fechapedido fechacompra marcadetiempo momento",
    "label": "label rating score stars click clicked isclick isclicked purchased bought target conversion converted "
    "liked overall bewertung sterne geklickt gekauft klick valoracion puntuacion calificacion estrellas clic "
    "comprado nota",
    "event": "event eventtype eventname action actiontype activity ereignis aktion ereignistyp evento tipoevento accion",
    "title": "title name productname itemname producttitle movietitle headline appname titel bezeichnung "
    "artikelbezeichnung artikelname produktname produktbezeichnung titulo nombre nombreproducto nombrearticulo",
    "text": "text description desc longdescription shortdescription productdescription category categories "
    "maincategory subcategory brand genre genres tags features abstract summary color colour material "
    "manufacturer keywords author artist subtitle beschreibung produktbeschreibung artikelbeschreibung "
    "kategorie kategorien warengruppe marke hersteller farbe descripcion descripcionproducto categoria "
    "categorias marca familia fabricante texto",
    "image": "image imagepath imagefile imageurl img picture photo thumbnail bild bilddatei bildpfad foto imagen "
    "imagenurl rutaimagen",
    "price": "price unitprice saleprice listprice cost preis vkpreis einzelpreis verkaufspreis precio preciounitario "
    "importe",
}
_JOINED = {role: frozenset(names.split()) for role, names in NAMES.items()}
_ROW_IDS = frozenset({"id", "key", "code", "nr", "no", "number", "nummer", "numero"})
EXACT, PART, GENERIC = 0.6, 0.35, 0.45


def words(name: str) -> list[str]:
    """Returns the words of a name in small letters without accents.

    Args:
        name: Name of a column.

    Example:
        >>> words("Código Artículo"), words("eventTimestamp"), words("ARTIKEL-NR.")
        (['codigo', 'articulo'], ['event', 'timestamp'], ['artikel', 'nr'])
    """
    plain = unicodedata.normalize("NFKD", name.replace("ß", "ss"))
    plain = "".join(letter for letter in plain if not unicodedata.combining(letter))
    return re.findall(r"[a-z0-9]+", re.sub(r"([a-z])([A-Z])", r"\1 \2", plain).lower())


def name_score(role: str, name: str) -> float:
    """Returns how well a name fits a role: 0.6 if it is known, 0.35 if a word of it is, else 0.

    Args:
        role: Key of ``NAMES``.
        name: Name of a column.
    """
    parts = words(name)
    if "".join(parts) in _JOINED[role]:
        return EXACT
    return PART if any(part in _JOINED[role] for part in parts) else 0.0


def is_generic(name: str) -> bool:
    """Returns whether a name says that a column is an ID, but not of what.

    Args:
        name: Name of a column.
    """
    return "".join(words(name)) in _ROW_IDS
