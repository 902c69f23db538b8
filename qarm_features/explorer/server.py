"""A local server that answers the explorer's pages. It only reads, and nothing of it leaves the machine by default.

In: an ``Explorer``, which answers the paths of ``contract.py``. Out: a FastAPI application with the page at ``/``, its
files at ``/page/`` and JSON at ``/api/``. Every error is JSON with one sentence: ``{"error": "..."}``.
"""

from __future__ import annotations

import ipaddress
import socket
from collections.abc import Awaitable, Callable
from typing import Annotated, Any

from qarm_features.explorer.page_files import INDEX, PAGE, content_type
from qarm_features.explorer.store import Explorer, ExplorerError
from qarm_features.extras import naming_extra

with naming_extra("The pages of the explorer", "explore"):
    import uvicorn
    from fastapi import FastAPI, Query, Request
    from fastapi.exceptions import RequestValidationError
    from fastapi.responses import FileResponse, JSONResponse, Response
    from starlette.exceptions import HTTPException
    from starlette.middleware.gzip import GZipMiddleware

# Scripts, styles and pictures come from this server alone, and so does every answer.
HEADERS = {
    "Content-Security-Policy": (
        "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; connect-src 'self'; "
        "base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
    ),
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Cache-Control": "no-cache",
}
_PICTURES = {b"\xff\xd8\xff": "image/jpeg", b"\x89PNG": "image/png", b"RIFF": "image/webp", b"GIF8": "image/gif"}
_MOST = 1000  # items or prefixes of one answer
_Limit = Annotated[int, Query(ge=1, le=_MOST)]
_Offset = Annotated[int, Query(ge=0)]
_Text = Annotated[str, Query(max_length=500)]


def make_app(explorer: Explorer, *, names: frozenset[str] = frozenset()) -> FastAPI:
    """Return the application.

    Args:
        explorer: What answers.
        names: Host names besides ``localhost`` under which the server may be asked. Addresses are always allowed, because a
            page of a stranger can only point a name of its own to this machine.
    """
    app = FastAPI(docs_url=None, redoc_url=None, openapi_url=None)
    app.add_middleware(GZipMiddleware, minimum_size=1000, compresslevel=5)
    _guard(app, names | {"localhost"})
    _say_errors_as_sentences(app)
    _add_answers(app, explorer)

    @app.get("/")
    def index() -> Response:
        return FileResponse(INDEX, media_type="text/html")

    @app.get("/page/{name:path}")
    def page_file(name: str) -> Response:
        kind = content_type(name)
        if kind is None or not (PAGE / name).is_file():
            raise HTTPException(404, f"There is no file {name} among the files of the page.")
        return FileResponse(PAGE / name, media_type=kind)

    return app


def _add_answers(app: FastAPI, explorer: Explorer) -> None:
    """Add the paths of the contract."""
    app.get("/api/summary", response_model=None)(explorer.summary)
    app.get("/api/map", response_model=None)(explorer.map)
    app.get("/api/moves", response_model=None)(explorer.moves)
    app.get("/api/figures", response_model=None)(explorer.figures)
    app.get("/api/lineage", response_model=None)(explorer.lineage)

    @app.get("/api/tree")
    def tree(prefix: _Text = "", limit: _Limit = 200) -> Any:
        return explorer.tree(prefix, limit)

    @app.get("/api/items")
    def items(prefix: _Text = "", offset: _Offset = 0, limit: _Limit = 50) -> Any:
        return explorer.items(prefix, offset, limit)

    @app.get("/api/search")
    def search(q: _Text = "") -> Any:
        return explorer.search(q)

    @app.get("/api/item")
    def item(item_id: str) -> Any:
        return explorer.item(item_id)

    @app.get("/api/users")
    def users(offset: _Offset = 0, limit: _Limit = 50) -> Any:
        return explorer.users(offset, limit)

    @app.get("/api/user")
    def user(user_id: str) -> Any:
        return explorer.user(user_id)

    @app.get("/api/collisions")
    def collisions(offset: _Offset = 0, limit: _Limit = 50) -> Any:
        return explorer.collisions(offset, limit)

    @app.get("/api/picture")
    def picture(item_id: str) -> Response:
        data = explorer.picture(item_id)
        if data is None:
            raise HTTPException(404, f"Item {item_id} has no picture.")
        return Response(data, media_type=picture_type(data), headers={"Cache-Control": "private, max-age=600"})


def picture_type(data: bytes) -> str:
    """Return the content type of a picture by its first bytes; one that no browser shows where they are unknown."""
    return next((kind for start, kind in _PICTURES.items() if data.startswith(start)), "application/octet-stream")


def _guard(app: FastAPI, names: frozenset[str]) -> None:
    @app.middleware("http")
    async def guard(request: Request, call_next: Callable[[Request], Awaitable[Response]]) -> Response:
        host = request.headers.get("host", "")
        if not is_own_host(host, names):
            response: Response = _error(
                403, f"The server was asked as {host!r}, must be asked by its address, for example 127.0.0.1."
            )
        elif request.method != "GET":
            response = _error(405, f"The method is {request.method}, must be GET. The explorer only reads.")
        else:
            response = await call_next(request)
        for name, value in HEADERS.items():
            response.headers.setdefault(name, value)
        return response


def is_own_host(host: str, names: frozenset[str]) -> bool:
    """Say whether a Host header is an address or one of the names. A name of a stranger can lead here by DNS rebinding.

    Example:
        >>> is_own_host("127.0.0.1:8000", frozenset()), is_own_host("[::1]:80", frozenset())
        (True, True)
        >>> is_own_host("evil.example:8000", frozenset({"localhost"}))
        False
    """
    name = host[1:].partition("]")[0] if host.startswith("[") else host.partition(":")[0]
    try:
        return bool(ipaddress.ip_address(name))
    except ValueError:
        return name.lower() in names


def _say_errors_as_sentences(app: FastAPI) -> None:
    @app.exception_handler(HTTPException)
    def stated(request: Request, error: HTTPException) -> Response:
        found = error.detail if error.detail != "Not Found" else f"There is no page {request.url.path}."
        return _error(error.status_code, found)

    @app.exception_handler(ExplorerError)
    def absent(request: Request, error: ExplorerError) -> Response:
        return _error(404, str(error))

    @app.exception_handler(Exception)
    def failed(request: Request, error: Exception) -> Response:
        return _error(500, "The server failed at this request. Its terminal shows the error.")

    @app.exception_handler(RequestValidationError)
    def malformed(request: Request, error: RequestValidationError) -> Response:
        first = error.errors()[0]
        return _error(400, f"{first['loc'][-1]} is {first['input']!r}: {first['msg'].lower()}.")


def _error(status: int, sentence: str) -> Response:
    return JSONResponse({"error": sentence}, status_code=status)


def listen(host: str, port: int) -> socket.socket:
    """Open the port before anything else starts.

    Args:
        host: Address or name to listen at.
        port: Port, 0 for a free one.

    Raises:
        ValueError: The address or the port cannot be taken.
    """
    try:
        family = socket.AF_INET6 if ":" in host else socket.AF_INET
        return socket.create_server((host, port), family=family)
    except OSError as error:
        reason = error.strerror or str(error)
        raise ValueError(f"{host} port {port} cannot be opened: {reason}. Choose another with --port.") from error


def url_of(opened: socket.socket) -> str:
    """Return the URL of an opened port, as a browser on this machine types it."""
    host, port = opened.getsockname()[:2]
    host = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(host, host)
    return f"http://[{host}]:{port}/" if ":" in host else f"http://{host}:{port}/"


def serve(app: FastAPI, opened: socket.socket) -> None:
    """Answer until the process is interrupted."""
    uvicorn.Server(uvicorn.Config(app, log_level="warning", access_log=False)).run(sockets=[opened])
