"""Chinese electronic invoices made from a seed: the fully digital XML, and an OFD file around the older one."""

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
