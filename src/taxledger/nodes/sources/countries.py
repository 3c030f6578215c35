"""ISO 3166-1: the two letters of a country that a document names with three, or with letters of its own."""

from __future__ import annotations

__all__ = ["country_code"]

_PAIRS = (
    "AFG:AF ALB:AL ARE:AE ARG:AR ARM:AM AUS:AU AUT:AT AZE:AZ BEL:BE BGD:BD BGR:BG BIH:BA BLR:BY BOL:BO "
    "BRA:BR CAN:CA CHE:CH CHL:CL CHN:CN CMR:CM COL:CO CRI:CR CYP:CY CZE:CZ DEU:DE DNK:DK DOM:DO DZA:DZ "
    "ECU:EC EGY:EG ESP:ES EST:EE ETH:ET FIN:FI FRA:FR FRO:FO GBR:GB GEO:GE GHA:GH GIB:GI GRC:GR GTM:GT "
    "HKG:HK HND:HN HRV:HR HUN:HU IDN:ID IND:IN IRL:IE IRN:IR IRQ:IQ ISL:IS ISR:IL ITA:IT JOR:JO JPN:JP "
    "KAZ:KZ KEN:KE KOR:KR KWT:KW LBN:LB LIE:LI LKA:LK LTU:LT LUX:LU LVA:LV MAC:MO MAR:MA MCO:MC MDA:MD "
    "MEX:MX MKD:MK MLT:MT MNE:ME MNG:MN MYS:MY NGA:NG NLD:NL NOR:NO NPL:NP NZL:NZ PAK:PK PAN:PA PER:PE "
    "PHL:PH POL:PL PRT:PT PRY:PY QAT:QA ROU:RO RUS:RU SAU:SA SEN:SN SGP:SG SLV:SV SMR:SM SRB:RS SVK:SK "
    "SVN:SI SWE:SE THA:TH TUN:TN TUR:TR TWN:TW TZA:TZ UGA:UG UKR:UA URY:UY USA:US UZB:UZ VAT:VA VEN:VE "
    "VNM:VN XKX:XK ZAF:ZA ZMB:ZM ZWE:ZW"
)
_SHORT = {**dict(pair.split(":") for pair in _PAIRS.split()), "UK": "GB", "EL": "GR"}
"""The European Union writes UK and EL in its older forms."""


def country_code(text: str) -> str:
    """``FRA`` and ``FR`` are ``FR``; what is not known stays as it is, "" stays ""."""
    code = text.strip().upper()
    return _SHORT.get(code, code)
