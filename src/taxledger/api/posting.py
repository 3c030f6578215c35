"""What POST routes share: the header that names a request, its problems, its body in OpenAPI, subjects, questions."""

from __future__ import annotations

from typing import Annotated, Any

from fastapi import Header
from pydantic import BaseModel

from taxledger.api.models import DossierRequest
from taxledger.api.problems import ProblemError
from taxledger.ledger.errors import InputError
from taxledger.ledger.query import Query
from taxledger.ledger.records import parse_subject

__all__ = ["POST_PROBLEMS", "IdempotencyKey", "query_of", "request_body", "subject_of"]

POST_PROBLEMS = (
    "malformed",
    "body_too_large",
    "media_type_unsupported",
    "idempotency_key_invalid",
    "idempotency_mismatch",
)

IdempotencyKey = Annotated[
    str | None,
    Header(
        alias="Idempotency-Key", description="1 to 128 characters; the same key and body: the same answer"
    ),
]


def request_body(model: type[BaseModel], **others: Any) -> dict[str, Any]:
    """What OpenAPI says of a body that the route reads itself, after it has looked at the key."""
    content = {**others, "application/json": {"schema": model.model_json_schema()}}
    return {"requestBody": {"required": True, "content": content}}


def subject_of(text: str) -> str:
    """The subject in its one form; the problem does not quote it."""
    try:
        return parse_subject(text)
    except InputError:
        raise ProblemError(
            "request_invalid", "subject: expected scheme:identifier of a known scheme"
        ) from None


def query_of(asked: DossierRequest, issuer: int | None = None) -> Query:
    """The question of a body, to the issuer it names or to another."""
    return Query(
        subject=subject_of(asked.subject),
        issuer=asked.issuer if issuer is None else issuer,
        kinds=tuple(sorted(set(asked.kinds))),
        from_period=asked.from_,
        to_period=asked.to,
    )
