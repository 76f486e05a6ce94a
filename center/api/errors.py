"""From the center's errors to HTTP answers, each in one place.

No answer repeats what was sent: it may hold a password.
"""

import logging

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse

from center import db
from center.calls import BusyError, NoAnswerError
from center.live import TooManyListenersError
from center.resources import ConflictError, NotFoundError
from wire import specs

_log = logging.getLogger("forecourt.api")


def install(app: FastAPI) -> None:
    """Answer the center's errors."""
    app.add_exception_handler(RequestValidationError, _invalid)
    app.add_exception_handler(specs.SpecError, _refused)
    app.add_exception_handler(NotFoundError, _missing)
    app.add_exception_handler(ConflictError, _conflict)
    app.add_exception_handler(TooManyListenersError, _busy)
    app.add_exception_handler(BusyError, _busy)
    app.add_exception_handler(NoAnswerError, _late)
    for error in db.UNAVAILABLE:
        app.add_exception_handler(error, _unavailable)


def problems(found: specs.SpecError) -> list[dict[str, object]]:
    """The problems of a resource as FastAPI writes those of a body."""
    return [
        {"loc": ["body", *problem.path], "msg": problem.message, "type": "value_error"}
        for problem in found.problems
    ]


def _invalid(_request: Request, error: Exception) -> JSONResponse:
    assert isinstance(error, RequestValidationError)
    if isinstance(error.body, dict) and isinstance(error.body.get("kind"), str):
        # Read again as a resource, whose problems name the fields as the operator wrote them.
        try:
            specs.parse(error.body)
        except specs.SpecError as refused:
            return JSONResponse({"detail": problems(refused)}, 422)
    detail = [
        {"loc": found["loc"], "msg": found["msg"], "type": found["type"]}
        for found in error.errors()
    ]
    return JSONResponse({"detail": detail}, 422)


def _refused(_request: Request, error: Exception) -> JSONResponse:
    assert isinstance(error, specs.SpecError)
    return JSONResponse({"detail": problems(error)}, 422)


def _missing(_request: Request, error: Exception) -> JSONResponse:
    return JSONResponse({"detail": str(error)}, 404)


def _conflict(_request: Request, error: Exception) -> JSONResponse:
    return JSONResponse({"detail": str(error)}, 409)


def _busy(_request: Request, error: Exception) -> JSONResponse:
    return JSONResponse({"detail": str(error)}, 503, {"Retry-After": "5"})


def _late(_request: Request, error: Exception) -> JSONResponse:
    return JSONResponse({"detail": str(error)}, 504)


def _unavailable(_request: Request, error: Exception) -> JSONResponse:
    _log.warning("the database cannot do it now: %s", str(error).partition("\n")[0])
    sentence = "the database cannot do it now; try again in a moment"
    return JSONResponse({"detail": sentence}, 503, {"Retry-After": "1"})
