"""Reading what a request carries: content type, JSON bodies as models, base64. No problem quotes what was sent."""

from __future__ import annotations

import base64
import binascii
from typing import TypeVar

from fastapi import Request
from pydantic import BaseModel, ValidationError

from taxledger.api.problems import ProblemError

__all__ = ["base64_bytes", "media_type_of", "parse_body"]

_Model = TypeVar("_Model", bound=BaseModel)


def media_type_of(request: Request) -> str:
    return request.headers.get("content-type", "").partition(";")[0].strip().lower()


def parse_body(model: type[_Model], request: Request, body: bytes) -> _Model:
    """The JSON body as a model; the problem names fields and reasons, never values."""
    if media_type_of(request) != "application/json":
        raise ProblemError("media_type_unsupported", "expected application/json")
    try:
        return model.model_validate_json(body)
    except ValidationError as error:
        rows = error.errors(include_url=False, include_context=False, include_input=False)
        if any(row["type"] == "json_invalid" for row in rows):
            raise ProblemError("malformed", "the body is not JSON") from None
        fields = [{"field": ".".join(map(str, row["loc"]))[:64], "reason": row["type"]} for row in rows[:16]]
        raise ProblemError(
            "request_invalid", "the body does not have the form of this route", errors=fields
        ) from None


def base64_bytes(text: str, what: str) -> bytes:
    """Canonical standard base64 as bytes."""
    try:
        data = base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError):
        raise ProblemError("malformed", f"{what}: not base64") from None
    if base64.b64encode(data).decode() != text:
        raise ProblemError("malformed", f"{what}: not the one canonical form of base64")
    return data
