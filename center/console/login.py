"""Logging in and out: a token or a one-time code becomes a session's cookie.

Here: the form, the cookie, the slowing down of guesses. Not here: what a session opens (guard).
"""

import html
from pathlib import Path
from string import Template
from typing import Annotated

from fastapi import APIRouter, Form, Request
from fastapi.responses import HTMLResponse, PlainTextResponse, RedirectResponse, Response

from center import auth
from center.console.guard import same_origin
from center.desk import AtDesk, Desk

MAX_SECRET = 200

router = APIRouter(include_in_schema=False)

_PAGE = Template((Path(__file__).parent / "login.html").read_text(encoding="utf-8"))
_HEADERS = {
    "Cache-Control": "no-store",
    "Referrer-Policy": "same-origin",  # with less, browsers would send `Origin: null`
    "X-Frame-Options": "DENY",
    "Content-Security-Policy": (
        "default-src 'none'; style-src 'unsafe-inline'; form-action 'self'; "
        "base-uri 'none'; frame-ancestors 'none'"
    ),
}


@router.get("/login")
def login_page(request: Request, desk: AtDesk, code: str | None = None) -> Response:
    """The form; with a code, the login itself."""
    if code is None:
        return _form()
    return _log_in(request, desk, code, "This code is used up or too old. Ask for a new one.")


@router.post("/login")
def log_in(request: Request, desk: AtDesk, token: Annotated[str, Form()] = "") -> Response:
    """The form's answer."""
    if not same_origin(request.headers, needed=False):
        return PlainTextResponse("a page of another site sent this form", 403)
    return _log_in(request, desk, token.strip(), "This center does not know that token.")


@router.get("/logout")
def log_out(request: Request, desk: AtDesk) -> Response:
    """End the session, here and in the browser."""
    cookie = request.cookies.get(auth.COOKIE)
    if cookie:
        with desk.database.transaction() as connection:
            auth.logout(connection, cookie)
    answer = RedirectResponse("/login", 303, {"Cache-Control": "no-store"})
    answer.delete_cookie(auth.COOKIE, path="/", httponly=True, samesite="strict")
    return answer


def _log_in(request: Request, desk: Desk, secret: str, refusal: str) -> Response:
    address = request.client.host if request.client else ""
    wait_s = desk.throttle.must_wait_s(address)
    if wait_s > 0:
        return _form(f"Too many tries. Wait {wait_s:.0f} s and try again.", 429)
    cookie = None
    if 0 < len(secret) <= MAX_SECRET:
        with desk.database.transaction() as connection:
            cookie = auth.login(connection, secret, desk.clock.now_ms())
    if cookie is None:
        desk.throttle.failed(address)
        return _form(refusal, 401)
    answer = RedirectResponse("/console", 303, {"Cache-Control": "no-store"})
    answer.set_cookie(
        auth.COOKIE,
        cookie,
        max_age=auth.SESSION_S,
        path="/",
        secure=request.url.scheme == "https",
        httponly=True,
        samesite="strict",
    )
    return answer


def _form(problem: str = "", status: int = 200) -> HTMLResponse:
    shown = f'<p class="problem" role="alert">{html.escape(problem)}</p>' if problem else ""
    return HTMLResponse(_PAGE.substitute(problem=shown), status, _HEADERS)
