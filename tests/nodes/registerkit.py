"""Made documents of registers, as their publishers form them: returns, lists, declarations, meter readings."""

from __future__ import annotations

import random
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from taxledger.nodes.sources.documents import FORMATS, DocumentSource, detect
from taxledger.nodes.sources.formats import SourceOptions
from taxledger.nodes.sources.rows import BadRow, Item, RowChange, SourceRow

MVA = "no:skatteetaten:fastsetting:avgift:mva:skattemeldingformerverdiavgift:v1.0"
TITLE_69B = "Información actualizada al {} de {} de {}\nListado completo de contribuyentes\n"
HEADER_69B = (
    "RFC,Situación del contribuyente,Publicación página SAT presuntos,Publicación DOF presuntos,"
    "Publicación página SAT desvirtuados,Publicación DOF desvirtuados,Publicación página SAT definitivos,"
    "Publicación DOF definitivos,Publicación página SAT sentencia favorable,Publicación DOF sentencia favorable\n"
)
KR_HEADER = (
    "Declaration ID,Date,Office ID,Import Type,Importer ID,Seller ID,HS6 Code,Country of Origin,Item Price,"
    "Fraud\n"
)
WCO = 'xmlns:md="urn:wco:datamodel:WCO:DocumentMetaData-DMS:2" xmlns="urn:wco:datamodel:WCO:DEC-DMS:2"'


def read(
    *paths: Path, subject: str | None = None, dated: str | None = None, source: str | None = None
) -> list[Item]:
    """All rows of files that go together, each told by its content, in the order in which they are read."""
    formats = {path: source or detect(path) for path in paths}
    schema = FORMATS[next(iter(formats.values()))].schema
    opened = DocumentSource(schema, formats, SourceOptions(subject=subject, dated=dated))
    return [row for path in opened.formats for row in opened.rows(path)]


def named(row: Item, kind: str) -> dict[str, Any]:
    """The fields of a good row by name."""
    assert isinstance(row, SourceRow), row
    schema = next(each.schema for each in FORMATS.values() if each.schema.name == kind)
    schema.check_fields(row.values)
    return dict(schema.named(row.values))


def codes(rows: Sequence[Item]) -> list[str]:
    """The code of every bad row, the name of the type of every other."""
    return [row.code if isinstance(row, BadRow) else type(row).__name__ for row in rows]


def fields(row: Item) -> dict[str, Any]:
    assert isinstance(row, RowChange), row
    return dict(row.fields)


def write(path: Path, text: str, encoding: str = "utf-8") -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(text.encode(encoding))
    return path


# --- filings --------------------------------------------------------------------------------


def mva_return(
    *lines: tuple[str, int | None, int], period: str = "mars-april", element: str = "ToMaaneder", total: int = 0,
    number: str = "7", category: str = "alminnelig", organisation: str = "913238254", year: str = "2021",
) -> str:  # fmt: skip
    """A Norwegian return; a line is (code, base or None, tax)."""
    specified = "".join(
        f"<mvaSpesifikasjonslinje><mvaKode>{code}</mvaKode>"
        + (f"<grunnlag>{base}</grunnlag>" if base is not None else "")
        + f"<merverdiavgift>{tax}</merverdiavgift></mvaSpesifikasjonslinje>"
        for code, base, tax in lines
    )
    return (
        f'<mvaMeldingDto xmlns="{MVA}"><innsending><regnskapssystemsreferanse>{number}</regnskapssystemsreferanse>'
        "</innsending><skattegrunnlagOgBeregnetSkatt><skattleggingsperiode><periode>"
        f"<skattleggingsperiode{element}>{period}</skattleggingsperiode{element}></periode><aar>{year}</aar>"
        f"</skattleggingsperiode><fastsattMerverdiavgift>{total}</fastsattMerverdiavgift>{specified}"
        f"</skattegrunnlagOgBeregnetSkatt><skattepliktig><organisasjonsnummer>{organisation}</organisasjonsnummer>"
        f"</skattepliktig><meldingskategori>{category}</meldingskategori></mvaMeldingDto>"
    )


# --- customs --------------------------------------------------------------------------------


def declaration(
    reference: str = "LRN1", *, type_code: str = "EXD", accepted: str | None = "20240125094643+01",
    trader: str = "GB417869120000", items: Sequence[tuple[int, str, str, str]] = ((1, "Tea", "10", "100"),),
) -> str:  # fmt: skip
    """A declaration; an item is (number, description, net mass, price in GBP)."""
    date = f"<S:DateTimeString xmlns:S='u' formatCode='304'>{accepted}</S:DateTimeString>"
    date = f"<AcceptanceDateTime>{date}</AcceptanceDateTime>"
    party = "Exporter" if type_code.startswith("EX") else "Agent"
    importer = f"<Importer><ID>{trader}</ID></Importer>" if type_code.startswith("IM") else ""
    return (
        f"<md:MetaData {WCO}><Declaration>{date if accepted else ''}<FunctionCode>9</FunctionCode>"
        f"<FunctionalReferenceID>{reference}</FunctionalReferenceID><TypeCode>{type_code}</TypeCode>"
        f"<Declarant><ID>GB999</ID></Declarant><{party}><ID>{trader}</ID></{party}><GoodsShipment>"
        "<Consignee><Name>PK Ltd</Name></Consignee><Destination><CountryCode>PK</CountryCode></Destination>"
        f"<ExportCountry><ID>GB</ID></ExportCountry>{''.join(_item(*each) for each in items)}{importer}"
        "</GoodsShipment></Declaration></md:MetaData>"
    )


def _item(number: int, description: str, mass: str, price: str) -> str:
    line = f"<InvoiceLine><ItemChargeAmount currencyID='GBP'>{price}</ItemChargeAmount></InvoiceLine>"
    words = f"<Description>{description}</Description>" if description else ""
    weight = f"<GoodsMeasure><NetNetWeightMeasure>{mass}</NetNetWeightMeasure></GoodsMeasure>" if mass else ""
    return (
        f"<GovernmentAgencyGoodsItem><SequenceNumeric>{number}</SequenceNumeric><Commodity>{words}{weight}"
        f"{line if price else ''}</Commodity><GovernmentProcedure><CurrentCode>10</CurrentCode><PreviousCode>40"
        "</PreviousCode></GovernmentProcedure></GovernmentAgencyGoodsItem>"
    )


def amendment(
    reference: str = "LRN1", mrn: str = "24GBMRN1", body: str = "", *, type_code: str = "COR"
) -> str:
    """An amendment (COR) or cancellation (INV)."""
    return (
        f"<md:MetaData {WCO}><Declaration><FunctionCode>13</FunctionCode><FunctionalReferenceID>{reference}"
        f"</FunctionalReferenceID><ID>{mrn}</ID><TypeCode>{type_code}</TypeCode>{body}</Declaration></md:MetaData>"
    )


def amended_item(number: int, *, mass: str = "", price: str = "") -> str:
    return f"<GoodsShipment>{_item(number, '', mass, price)}</GoodsShipment>"


def notification(
    code: str, reference: str = "LRN1", mrn: str = "24GBMRN1", *, issued: str = "20240126", body: str = "",
    accepted: str = "",
) -> str:  # fmt: skip
    date = (
        f"<AcceptanceDateTime><DateTimeString>{accepted}</DateTimeString></AcceptanceDateTime>"
        if accepted
        else ""
    )
    return (
        f"<MetaData><Response><FunctionCode>{code}</FunctionCode><IssueDateTime><DateTimeString>{issued}000000Z"
        f"</DateTimeString></IssueDateTime><Declaration>{date}<FunctionalReferenceID>{reference}"
        f"</FunctionalReferenceID><ID>{mrn}</ID>{body}</Declaration></Response></MetaData>"
    )


def taxes(*amounts: tuple[str, str], currency: str = "GBP") -> str:
    """The goods item of a notification of tax; (type, amount)."""
    fees = "".join(
        f"<DutyTaxFee><TypeCode>{type_}</TypeCode><Payment><PaymentAmount currencyID='{currency}'>{amount}"
        "</PaymentAmount></Payment></DutyTaxFee>"
        for type_, amount in amounts
    )
    return (
        "<GoodsShipment><GovernmentAgencyGoodsItem><SequenceNumeric>1</SequenceNumeric><Commodity>"
        f"{fees}</Commodity></GovernmentAgencyGoodsItem></GoodsShipment>"
    )


# --- meters ---------------------------------------------------------------------------------


def feed(
    *readings: tuple[int, int, int, int | None], kind: str = "0", uom: str = "72", multiplier: int = 0,
    flow: str = "1", currency: str = "840", customer: str = "C1", reading: str = "01", zone: str = "", part: int = 1,
    behaviour: str = "4",
) -> str:  # fmt: skip
    """A Green Button feed; a reading is (start, seconds, value, cost or None)."""
    point = f"/espi/1_1/resource/RetailCustomer/{customer}/UsagePoint/P1"
    meter = f"{point}/MeterReading/{reading}"
    intervals = "".join(
        "<IntervalReading>"
        + (f"<cost>{cost}</cost>" if cost is not None else "")
        + f"<timePeriod><duration>{seconds}</duration><start>{start}</start></timePeriod><value>{value}</value>"
        "</IntervalReading>"
        for start, seconds, value, cost in readings
    )
    return (
        '<feed xmlns="http://www.w3.org/2005/Atom">'
        + _entry(point, f"<UsagePoint {_NS}><ServiceCategory><kind>{kind}</kind></ServiceCategory></UsagePoint>")
        + (_entry("/LTP/1", f"<LocalTimeParameters {_NS}>{zone}</LocalTimeParameters>") if zone else "")
        + _entry(meter, f"<MeterReading {_NS}/>", related="/ReadingType/7")
        + _entry(
            "/ReadingType/7",
            f"<ReadingType {_NS}><accumulationBehaviour>{behaviour}</accumulationBehaviour><currency>{currency}"
            f"</currency><flowDirection>{flow}</flowDirection><powerOfTenMultiplier>{multiplier}"
            f"</powerOfTenMultiplier><uom>{uom}</uom></ReadingType>",
        )
        + _entry(
            f"{meter}/IntervalBlock/{part}", f"<IntervalBlock {_NS}>{intervals}</IntervalBlock>",
            up=f"{meter}/IntervalBlock",
        )
        + "</feed>"
    )  # fmt: skip


_NS = 'xmlns="http://naesb.org/espi"'


def _entry(self_: str, content: str, *, related: str = "", up: str = "") -> str:
    links = f'<link rel="self" href="{self_}"/>'
    links += f'<link rel="related" href="{related}"/>' if related else ""
    links += f'<link rel="up" href="{up}"/>' if up else ""
    return f"<entry>{links}<content>{content}</content></entry>"


# --- broken files ---------------------------------------------------------------------------


def broken(data: bytes, random_: random.Random, count: int) -> list[bytes]:
    """Cut, flipped and shuffled copies of a file."""
    made = []
    for number in range(count):
        copy = bytearray(data)
        if number % 3 == 0:
            del copy[random_.randrange(len(copy)) :]
        elif number % 3 == 1:
            for _ in range(random_.randint(1, 8)):
                copy[random_.randrange(len(copy))] ^= 1 << random_.randrange(8)
        else:
            a, b = sorted(random_.randrange(len(copy)) for _ in range(2))
            at = random_.randrange(len(copy))
            copy[at:at] = copy[a : min(b, a + 400)]
        made.append(bytes(copy))
    return made
