"""What officers, enterprises and auditors read: decision, report, archive, alerts, products, health."""

from __future__ import annotations

from typing import Annotated, Literal

from fastapi import APIRouter, Path, Query, Request
from fastapi.concurrency import run_in_threadpool
from starlette.responses import Response

from taxledger.api.problems import ProblemError
from taxledger.lending.decision import encode_decision
from taxledger.lending.products.product import Product
from taxledger.lending.service import models
from taxledger.lending.service.access import APPLY, CORE, OFFICER, needs
from taxledger.lending.service.context import Count, LoanId, context_of, find_loan, problems
from taxledger.lending.service.shown import alert_body, product_body, product_row

__all__ = ["ARCHIVE", "router"]

ARCHIVE = "application/vnd.taxledger.loan-archive"
_PAGE_POLICY = (
    "default-src 'none'; style-src 'unsafe-inline'; font-src data:; base-uri 'none'; form-action 'none'; "
    "frame-ancestors 'none'; sandbox"
)
"""Of the report: it holds its own, narrower policy, which allows its one style sheet by hash. Both apply."""

_Language = Annotated[Literal["zh", "en"], Query(description="of the report")]
router = APIRouter()


@router.get("/healthz", tags=["service"], summary="The process answers", response_model=models.Health)
async def health() -> models.Health:
    return models.Health(status="ok")


@router.get(
    "/v1/loans/{loan}/decision",
    tags=["papers"],
    summary="The last decision, its own bytes: every rule with value, threshold and verdict",
    dependencies=[needs(APPLY, OFFICER)],
    response_class=Response,
    responses={
        200: {
            "content": {"application/json": {}},
            "description": "The decision's one form (docs/products.md); ETag is its SHA-256",
        },
        **problems("loan_unknown", "loan_undecided"),
    },
)
async def show_decision(request: Request, loan: LoanId) -> Response:
    found = await find_loan(request, loan)
    if found.decision is None:
        raise ProblemError("loan_undecided", f"{found.id} is {found.state.value}")
    decision = await run_in_threadpool(context_of(request).desk.engine.decision, found)
    return Response(
        encode_decision(decision),
        media_type="application/json",
        headers={"ETag": f'"{found.decision.hex()}"'},
    )


@router.get(
    "/v1/loans/{loan}/report.html",
    tags=["papers"],
    summary="The officer's report: one page",
    dependencies=[needs(OFFICER)],
    response_class=Response,
    responses={
        200: {"content": {"text/html": {}}, "description": "One page that asks for nothing else"},
        **problems("loan_unknown", "loan_undecided"),
    },
)
async def report_page(request: Request, loan: LoanId, language: _Language = "zh") -> Response:
    await find_loan(request, loan)
    data = await run_in_threadpool(context_of(request).desk.report, loan, language=language, pdf=False)
    return Response(data, media_type="text/html", headers={"Content-Security-Policy": _PAGE_POLICY})


@router.get(
    "/v1/loans/{loan}/report.pdf",
    tags=["papers"],
    summary="The officer's report as a PDF",
    dependencies=[needs(OFFICER)],
    response_class=Response,
    responses={
        200: {"content": {"application/pdf": {}}, "description": "The same as the page"},
        **problems("loan_unknown", "loan_undecided"),
    },
)
async def report_document(request: Request, loan: LoanId, language: _Language = "zh") -> Response:
    await find_loan(request, loan)
    data = await run_in_threadpool(context_of(request).desk.report, loan, language=language, pdf=True)
    return Response(data, media_type="application/pdf", headers=_file(f"{loan}.pdf"))


@router.get(
    "/v1/loans/{loan}/archive",
    tags=["papers"],
    summary="Everything of a loan in one sealed file, which `lend verify-archive` checks offline",
    dependencies=[needs(OFFICER)],
    response_class=Response,
    responses={
        200: {"content": {ARCHIVE: {}}, "description": "An archive (docs/lending.md)"},
        **problems("loan_unknown"),
    },
)
async def show_archive(request: Request, loan: LoanId) -> Response:
    await find_loan(request, loan)
    data = await run_in_threadpool(context_of(request).desk.archive, loan)
    return Response(data, media_type=ARCHIVE, headers=_file(f"{loan}.loan"))


def _file(name: str) -> dict[str, str]:
    """``name`` is an id of a loan, which holds nothing that a header has to escape."""
    return {"Content-Disposition": f'attachment; filename="{name}"'}


@router.get(
    "/v1/alerts",
    tags=["loans"],
    summary="What the watch has found, the newest first",
    dependencies=[needs(OFFICER)],
    response_model=models.AlertsBody,
    responses=problems(),
)
async def list_alerts(
    request: Request,
    loan: Annotated[str | None, Query(pattern=r"^[0-9A-Za-z][0-9A-Za-z-]{0,27}$")] = None,
    limit: Annotated[Count, Query(ge=1, le=1_000)] = 100,
) -> Response:
    found = await run_in_threadpool(context_of(request).desk.watch.alerts, loan)
    body = models.AlertsBody(alerts=[alert_body(each) for each in found[::-1][:limit]])
    return Response(body.model_dump_json(), media_type="application/json")


@router.get(
    "/v1/products",
    tags=["products"],
    summary="What is lent",
    dependencies=[needs(APPLY, OFFICER, CORE)],
    response_model=models.ProductsBody,
    responses=problems(),
)
async def list_products(request: Request) -> Response:
    keeper = context_of(request).desk.keeper

    def load() -> list[Product]:
        return [keeper.product(each) for each in keeper.ids]

    body = models.ProductsBody(products=[product_row(each) for each in await run_in_threadpool(load)])
    return Response(body.model_dump_json(), media_type="application/json")


@router.get(
    "/v1/products/{product}",
    tags=["products"],
    summary="A product with its rules and their thresholds",
    dependencies=[needs(APPLY, OFFICER, CORE)],
    response_model=models.ProductBody,
    responses=problems("product_unknown"),
)
async def show_product(
    request: Request, product: Annotated[str, Path(pattern=r"^[a-z][a-z0-9_]{0,63}$")]
) -> Response:
    keeper = context_of(request).desk.keeper
    if product not in keeper.ids:
        raise ProblemError("product_unknown", "GET /v1/products lists the products")
    found = await run_in_threadpool(keeper.product, product)
    return Response(product_body(found).model_dump_json(), media_type="application/json")
