"""Every problem that the service answers with: one table, in English and in Chinese, and our errors mapped to it.

The table is repeated in docs/lending.md; a test compares the two. Codes are stable, titles are not.
"""

from __future__ import annotations

from typing import Any

from starlette.responses import JSONResponse, Response

from taxledger.api.problems import MEDIA_TYPE, ProblemError
from taxledger.ledger.errors import (
    EncodingError,
    InputError,
    RefusedError,
    TaxledgerError,
    UnavailableError,
    VerificationError,
)

__all__ = ["PROBLEMS", "ProblemRow", "problem_of", "problem_response"]

ProblemRow = tuple[int, str, str]
"""(HTTP status, title, title in Chinese)."""

PROBLEMS: dict[str, ProblemRow] = {
    # --- the request ------------------------------------------------------------------------
    "malformed": (400, "The bytes of the request can't be read", "请求内容无法读取"),
    "key_missing": (401, "No API key was sent", "未提供接口密钥"),
    "key_unknown": (401, "The API key is not known here", "接口密钥无效"),
    "scope_missing": (403, "The API key does not have the scope", "接口密钥无此权限"),
    "not_found": (404, "There is no such route", "无此接口"),
    "method_not_allowed": (405, "The route does not take this method", "接口不支持此方法"),
    "body_too_large": (413, "The body is larger than the limit", "请求内容过大"),
    "media_type_unsupported": (415, "The route does not take this content type", "不支持此内容类型"),
    "request_invalid": (422, "A field, parameter or path part is not valid", "字段或参数不符合要求"),
    # --- applications and consents ------------------------------------------------------------
    "product_unknown": (404, "There is no such product", "无此产品"),
    "loan_unknown": (404, "There is no such loan", "无此贷款"),
    "application_conflict": (409, "Another application has this id", "该编号已用于另一申请"),
    "as_of_not_allowed": (403, "Only an officer chooses the decision date", "审批基准日只能由信贷人员指定"),
    "security_not_taken": (422, "The product takes no security", "该产品不接受担保物"),
    "consent_signature_invalid": (403, "The consent's signature does not hold", "授权书签名无效"),
    "consent_subject_mismatch": (403, "The consent is of another enterprise", "授权书属于其他企业"),
    "consent_recipient_mismatch": (403, "The consent is for another lender", "授权书的接收方不是本机构"),
    "consent_custodian_mismatch": (
        403,
        "The consent does not name a custodian",
        "授权书未列明所需的数据机构",
    ),
    "consent_not_in_force": (403, "The consent is not in force", "授权书不在有效期内"),
    "consent_without_pledge": (403, "The consent does not allow pledging", "授权书未允许质押"),
    # --- the loan's life ------------------------------------------------------------------------
    "loan_state": (409, "The loan's state does not allow it", "贷款当前状态不允许此操作"),
    "loan_undecided": (409, "Nothing was decided yet", "尚未审批"),
    "offer_missing": (409, "Nothing was offered", "尚无要约"),
    "offer_expired": (409, "The offer has ended", "要约已失效"),
    "acceptance_signature_invalid": (403, "The acceptance's signature does not hold", "承诺书签名无效"),
    "acceptance_key_mismatch": (403, "Not signed by the key of the consent", "承诺书的签名密钥与授权书不同"),
    "acceptance_offer_mismatch": (409, "The acceptance names another offer", "承诺书指向另一要约"),
    "amount_outside_offer": (422, "The amount is not within the offer", "金额超出要约"),
    "term_outside_offer": (422, "The term is not within the offer", "期限超出要约"),
    "account_outside_offer": (422, "The offer fixes another account", "收款账户与要约不符"),
    "line_open": (409, "Another loan of the product is open", "企业已有该产品的未结清贷款"),
    "draw_signature_invalid": (403, "The order's signature does not hold", "支用指令签名无效"),
    "draw_key_mismatch": (403, "The order is not signed by the key of the consent", "支用指令的签名密钥不符"),
    "draw_contract_mismatch": (409, "The order names another contract", "支用指令指向另一合同"),
    "draw_number": (409, "The order's number is not the next one", "支用序号不连续"),
    "draw_expired": (409, "The order has ended", "支用指令已失效"),
    "line_closed": (409, "Nothing more is paid out under this contract", "该合同不再放款"),
    "line_matured": (409, "The line has ended", "额度已到期"),
    "line_exceeded": (409, "More than the line would be owed", "超出可用额度"),
    "repayment_conflict": (409, "The reference stands for another repayment", "该流水号已用于另一笔还款"),
    "overpayment": (409, "More than what is owed", "还款金额超过应还金额"),
    "value_date_order": (409, "The value date is before the last movement", "起息日早于上一笔交易"),
    "value_date_future": (422, "The value date is still to come", "起息日尚未到来"),
    "refused": (422, "A rule refused the request", "请求被规则拒绝"),
    # --- the service ----------------------------------------------------------------------------
    "internal": (500, "The service made a mistake", "服务内部错误"),
    "unavailable": (503, "The service can't answer now, try again later", "服务暂不可用，请稍后重试"),
}

_RETRY = frozenset({"unavailable"})


def problem_of(error: TaxledgerError) -> ProblemError:
    """The problem that tells a caller about one of our errors.

    A signature or a key that does not hold is the caller's, and has a row of its own; any other VerificationError
    speaks of what is stored here: the caller did nothing wrong, and the log says more.
    """
    if isinstance(error, ProblemError):
        return error
    if isinstance(error, RefusedError | VerificationError) and error.code in PROBLEMS:
        return ProblemError(error.code, str(error).removeprefix(f"{error.code}: "))
    if isinstance(error, RefusedError):
        return ProblemError("refused", str(error).removeprefix(f"{error.code}: "), reason=error.code)
    if isinstance(error, EncodingError):
        return ProblemError("malformed", str(error))
    if isinstance(error, InputError):
        return ProblemError("request_invalid", str(error))
    if isinstance(error, UnavailableError):
        return ProblemError("unavailable", "the node, the database or another worker; try again later")
    return ProblemError("internal", "unexpected condition; the service's log says more")


def problem_body(error: ProblemError, request_id: str) -> dict[str, Any]:
    """The members of an RFC 9457 body."""
    status, title, title_zh = PROBLEMS[error.code]
    return {
        "type": f"/problems/{error.code}",
        "title": title,
        "title_zh": title_zh,
        "status": status,
        "detail": error.detail,
        "instance": f"urn:taxledger:request:{request_id}",
        "code": error.code,
        **error.more,
    }


def problem_response(error: ProblemError, request_id: str) -> Response:
    """The answer for a problem."""
    status = PROBLEMS[error.code][0]
    headers = {}
    if status == 401:
        headers["WWW-Authenticate"] = 'Bearer realm="taxledger-lending"'
    if error.code in _RETRY:
        headers["Retry-After"] = "1"
    if status == 405 and isinstance(error.more.get("allow"), str):
        headers["Allow"] = error.more["allow"]
    return JSONResponse(
        problem_body(error, request_id), status_code=status, headers=headers, media_type=MEDIA_TYPE
    )
