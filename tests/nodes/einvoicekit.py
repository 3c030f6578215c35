"""Electronic invoices as tests need them: UBL in parts, and Chinese ones from a seed, as XML and as OFD files."""

from __future__ import annotations

import io
import random
import zipfile
from xml.sax.saxutils import escape

from taxledger.ledger.records import uscc_check_character

DIGITAL = """<?xml version="1.0" encoding="UTF-8"?>
<EInvoice><Header><EIid>{number}</EIid><EInvoiceTag>SWEI3200</EInvoiceTag><Version>0.2</Version><InherentLabel>
<InIssuType><LabelCode>Y</LabelCode><LabelName>数电票</LabelName></InIssuType>
<EInvoiceType><LabelCode>01</LabelCode><LabelName>增值税专用发票</LabelName></EInvoiceType>
<GeneralOrSpecialVAT><LabelCode>01</LabelCode><LabelName>增值税专用发票</LabelName></GeneralOrSpecialVAT></InherentLabel>
</Header><EInvoiceData>
<SellerInformation><SellerIdNum>{seller}</SellerIdNum><SellerName>{seller_name}</SellerName></SellerInformation>
<BuyerInformation><BuyerIdNum>{buyer}</BuyerIdNum><BuyerName>{buyer_name}</BuyerName></BuyerInformation>
<BasicInformation><TotalAmWithoutTax>{net}</TotalAmWithoutTax><TotalTaxAm>{tax}</TotalTaxAm>
<TotalTax-includedAmount>{gross}</TotalTax-includedAmount><Drawer>王芳</Drawer>
<RequestTime>{date} 09:31:07</RequestTime></BasicInformation>{items}<SpecificInformation/>
<AdditionalInformation><Remark>{remark}</Remark></AdditionalInformation></EInvoiceData>
<SellerAuthentication><AuthenticationMethods>14</AuthenticationMethods></SellerAuthentication>
<TaxSupervisionInfo><InvoiceNumber>{number}</InvoiceNumber><IssueTime>{date} 09:31:09</IssueTime>
<TaxBureauCode>13200000000</TaxBureauCode><TaxBureauName>国家税务总局江苏省税务局</TaxBureauName></TaxSupervisionInfo>
</EInvoice>"""

ITEM = (
    "<IssuItemInformation><ItemName>{name}</ItemName><SpecMod/><MeaUnits>项</MeaUnits><Quantity>1</Quantity>"
    "<UnPrice>{net}</UnPrice><Amount>{net}</Amount><TaxRate>{rate}</TaxRate><ComTaxAm>{tax}</ComTaxAm>"
    "<TotaltaxIncludedAmount>{gross}</TotaltaxIncludedAmount></IssuItemInformation>"
)

OLDER = """<?xml version="1.0" encoding="utf-8"?>
<eInvoice xmlns:fp="http://www.edrm.org.cn/schema/e-invoice/2019" Version="1.0"><fp:DocID>01</fp:DocID>
<fp:InvoiceCode>{code}</fp:InvoiceCode><fp:InvoiceNo>{number}</fp:InvoiceNo><fp:IssueDate>{date}</fp:IssueDate>
<fp:Buyer><fp:BuyerName>{buyer_name}</fp:BuyerName><fp:BuyerTaxID>{buyer}</fp:BuyerTaxID></fp:Buyer>
<fp:Seller><fp:SellerName>{seller_name}</fp:SellerName><fp:SellerTaxID>{seller}</fp:SellerTaxID></fp:Seller>
<fp:TaxInclusiveTotalAmount>{gross}</fp:TaxInclusiveTotalAmount><fp:Note>{note}</fp:Note>
<fp:TaxTotalAmount>{tax}</fp:TaxTotalAmount><fp:TaxExclusiveTotalAmount>{net}</fp:TaxExclusiveTotalAmount>
<fp:GoodsInfos><fp:GoodsInfo><fp:Item>*餐饮服务*餐费</fp:Item><fp:Amount>{net}</fp:Amount><fp:TaxScheme>6%</fp:TaxScheme>
<fp:TaxAmount>{tax}</fp:TaxAmount></fp:GoodsInfo></fp:GoodsInfos></eInvoice>"""

PAGE = """<?xml version="1.0" encoding="UTF-8"?><ofd:OFD xmlns:ofd="http://www.ofdspec.org/2016"><ofd:DocBody>
<ofd:DocInfo><ofd:CustomDatas>{said}</ofd:CustomDatas></ofd:DocInfo></ofd:DocBody></ofd:OFD>"""


def credit_code(random_: random.Random) -> str:
    """A unified social credit code with its right check character."""
    body = "91320" + "".join(random_.choices("0123456789", k=3)) + "MA" + "".join(
        random_.choices("0123456789ABCDEFGHJKLMNPQRTUWXY", k=7)
    )  # fmt: skip
    return body + uscc_check_character(body)


def yuan(fen: int) -> str:
    return f"{'-' if fen < 0 else ''}{abs(fen) // 100}.{abs(fen) % 100:02}"


def digital_number(random_: random.Random, year: int = 2024) -> str:
    """Year, province, channel and sequence."""
    return f"{year % 100:02}32{random_.choice((1, 2)):01}{random_.randrange(10**15):015}"


def digital(fields: dict[str, str], lines: list[tuple[str, int, int, str]]) -> bytes:
    """A fully digital invoice; a line is (name, net fen, tax fen, rate as written)."""
    net, tax = sum(line[1] for line in lines), sum(line[2] for line in lines)
    amounts = {"net": yuan(net), "tax": yuan(tax), "gross": yuan(net + tax)}
    items = "".join(
        ITEM.format(name=escape(name), net=yuan(n), tax=yuan(t), gross=yuan(n + t), rate=rate)
        for name, n, t, rate in lines
    )
    shown = {name: escape(value) for name, value in {**amounts, "remark": "", **fields}.items()}
    return DIGITAL.format(items=items, **shown).encode()


def ofd(invoice: bytes, said: dict[str, str], attached: str = "Doc_0/Attachs/original_invoice.xml") -> bytes:
    """An OFD file around an invoice's XML whose page says ``said``."""
    page = "".join(
        f'<ofd:CustomData Name="{name}">{escape(value)}</ofd:CustomData>' for name, value in said.items()
    )
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("OFD.xml", PAGE.format(said=page))
        archive.writestr(attached, invoice)
    return packed.getvalue()


# --- UBL ------------------------------------------------------------------------------------

UBL = """<?xml version="1.0"?>
<{root} xmlns="urn:oasis:names:specification:ubl:schema:xsd:{root}-2"
 xmlns:cac="urn:oasis:names:specification:ubl:schema:xsd:CommonAggregateComponents-2"
 xmlns:cbc="urn:oasis:names:specification:ubl:schema:xsd:CommonBasicComponents-2">
<cbc:ID>{number}</cbc:ID><cbc:IssueDate>2024-03-01+01:00</cbc:IssueDate>{type}
<cbc:DocumentCurrencyCode>{currency}</cbc:DocumentCurrencyCode>
{references}
<cac:AccountingSupplierParty><cac:Party><cac:PartyTaxScheme><cbc:CompanyID>DE 123456789</cbc:CompanyID><cac:TaxScheme>
<cbc:ID>VAT</cbc:ID></cac:TaxScheme></cac:PartyTaxScheme><cac:PartyLegalEntity><cbc:RegistrationName>Seller
 GmbH</cbc:RegistrationName></cac:PartyLegalEntity></cac:Party></cac:AccountingSupplierParty>
<cac:AccountingCustomerParty><cac:Party><cac:PartyLegalEntity><cbc:RegistrationName>Buyer AB</cbc:RegistrationName>
</cac:PartyLegalEntity></cac:Party></cac:AccountingCustomerParty>
{taxes}<cac:LegalMonetaryTotal>{totals}</cac:LegalMonetaryTotal>
<cac:InvoiceLine><cac:Item><cbc:Name>Bolts &amp;  nuts</cbc:Name></cac:Item></cac:InvoiceLine></{root}>"""


def amount(name: str, value: str, currency: str = "EUR") -> str:
    return f'<cbc:{name} currencyID="{currency}">{value}</cbc:{name}>'


def tax_total(value: str, currency: str = "EUR", rates: tuple[str, ...] = ("19",)) -> str:
    parts = "".join(
        f"<cac:TaxSubtotal><cac:TaxCategory><cbc:Percent>{rate}</cbc:Percent></cac:TaxCategory></cac:TaxSubtotal>"
        for rate in rates
    )
    return f"<cac:TaxTotal>{amount('TaxAmount', value, currency)}{parts}</cac:TaxTotal>"


def ubl(**changed: str) -> str:
    totals = amount("TaxExclusiveAmount", "100.00") + amount("TaxInclusiveAmount", "119.00")
    parts = {
        "root": "Invoice",
        "number": "R-1",
        "type": "",
        "currency": "EUR",
        "references": "",
        "taxes": tax_total("19.00"),
    }
    return UBL.format(**{**parts, "totals": totals, **changed})


REFERENCE = (
    "<cac:BillingReference><cac:InvoiceDocumentReference><cbc:ID>{}</cbc:ID></cac:InvoiceDocumentReference>"
    "</cac:BillingReference>"
)


# --- CII ------------------------------------------------------------------------------------

CII = """<?xml version="1.0"?>
<rsm:CrossIndustryInvoice xmlns:rsm="urn:un:unece:uncefact:data:standard:CrossIndustryInvoice:100"
 xmlns:ram="urn:un:unece:uncefact:data:standard:ReusableAggregateBusinessInformationEntity:100"
 xmlns:udt="urn:un:unece:uncefact:data:standard:UnqualifiedDataType:100">
<rsm:ExchangedDocument><ram:ID>{number}</ram:ID><ram:TypeCode>{type}</ram:TypeCode><ram:IssueDateTime>
<udt:DateTimeString format="{form}">20240301</udt:DateTimeString></ram:IssueDateTime></rsm:ExchangedDocument>
<rsm:SupplyChainTradeTransaction><ram:IncludedSupplyChainTradeLineItem><ram:SpecifiedTradeProduct>
<ram:Name>Bolts &amp; nuts</ram:Name></ram:SpecifiedTradeProduct></ram:IncludedSupplyChainTradeLineItem>
<ram:ApplicableHeaderTradeAgreement><ram:SellerTradeParty><ram:Name>Seller GmbH</ram:Name>
<ram:SpecifiedTaxRegistration><ram:ID schemeID="FC">123/456</ram:ID></ram:SpecifiedTaxRegistration>
<ram:SpecifiedTaxRegistration><ram:ID schemeID="VA">DE123456789</ram:ID></ram:SpecifiedTaxRegistration>
</ram:SellerTradeParty><ram:BuyerTradeParty><ram:Name>Buyer AB</ram:Name></ram:BuyerTradeParty>
</ram:ApplicableHeaderTradeAgreement><ram:ApplicableHeaderTradeSettlement>
<ram:InvoiceCurrencyCode>{currency}</ram:InvoiceCurrencyCode>
{rates}{references}<ram:SpecifiedTradeSettlementHeaderMonetarySummation>{totals}
</ram:SpecifiedTradeSettlementHeaderMonetarySummation></ram:ApplicableHeaderTradeSettlement>
</rsm:SupplyChainTradeTransaction></rsm:CrossIndustryInvoice>"""

_ISSUER_ID = "<ram:IssuerAssignedID>{}</ram:IssuerAssignedID>"
CII_REFERENCE = f"<ram:InvoiceReferencedDocument>{_ISSUER_ID}</ram:InvoiceReferencedDocument>"


def cii_totals(net: str, tax: str, gross: str, currency: str = "EUR", more: str = "") -> str:
    return (
        f"<ram:TaxBasisTotalAmount>{net}</ram:TaxBasisTotalAmount>"
        f'<ram:TaxTotalAmount currencyID="{currency}">{tax}</ram:TaxTotalAmount>{more}'
        f"<ram:GrandTotalAmount>{gross}</ram:GrandTotalAmount>"
    )


def cii(*, rates: tuple[str, ...] = ("19",), **changed: str) -> str:
    parts = {"number": "R-1", "type": "380", "form": "102", "currency": "EUR", "references": ""}
    taxes = "".join(
        f"<ram:ApplicableTradeTax><ram:RateApplicablePercent>{each}</ram:RateApplicablePercent></ram:ApplicableTradeTax>"
        for each in rates
    )
    parts["totals"] = cii_totals("100.00", "19.00", "119.00")
    return CII.format(**{**parts, **changed}, rates=taxes)
