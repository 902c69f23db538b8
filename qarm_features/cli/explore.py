"""``qarm explore``: shows the latest explorer of a project in a browser, or writes it as one page."""

from __future__ import annotations

import json
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from qarm_features.settings.load import Settings, load_settings
from qarm_features.terminal import literal, plain_console

if TYPE_CHECKING:
    from qarm_features.explorer.bundle import Progress
    from qarm_features.explorer.store import Explorer

_ANYWHERE = ("0.0.0.0", "::")
_OWN = ("127.0.0.1", "localhost", "::1")


def explore(
    config: Annotated[Path, typer.Option(help="Settings of the project.")] = Path("qarm.yaml"),
    host: Annotated[str, typer.Option(help="Address to listen at. Others than 127.0.0.1 open it to a network.")] = (
        "127.0.0.1"
    ),
    port: Annotated[int, typer.Option(help="Port to listen at, 0 for a free one.", min=0, max=65535)] = 8474,
    html: Annotated[
        Path | None, typer.Option("--html", help="Write one page that needs no server to this file, and start none.")
    ] = None,
    force: Annotated[bool, typer.Option("--force", help="With --html: replace the file if it exists.")] = False,
    open_browser: Annotated[bool, typer.Option("--open", help="Open the page in a browser.")] = False,
) -> None:
    """Shows what the semantic IDs mean: tree, map, items, users, collisions, moves, figures, lineage.

    It needs neither Spark nor a feature store: it reads what build-explorer wrote. It stops with Ctrl-C.
    """
    from qarm_features.explorer.store import Explorer

    settings = load_settings(config)
    explorer = Explorer.latest(settings.artifacts_path)
    if older := older_than_promoted(settings, explorer.summary()):
        _say(older)
    if html is not None:
        _write(explorer, html, force=force)
    else:
        _serve(explorer, host, port, open_browser=open_browser)


def older_than_promoted(settings: Settings, summary: Any) -> str | None:
    """Return a sentence if readers were pointed at a release after the explorer was built; None if they were not.

    Args:
        settings: Settings of the project, whose artifacts hold the record of promotions.
        summary: Summary of the explorer.
    """
    record = settings.artifacts_path / "releases" / "promoted.json"
    promoted = json.loads(record.read_text()) if record.is_file() else {}
    version = promoted.get("codebook_version", summary["codebook_version"])
    latest = max((entry.get("at", "") for entry in promoted.get("history", ())), default="")
    if version != summary["codebook_version"]:
        what = f"codebook version {summary['codebook_version']}, and readers get version {version}"
    elif latest[:19] > summary["made_at"][:19]:
        what = f"data of {summary['made_at'][:10]}, and the release was published again after that"
    else:
        return None
    return f"This explorer shows {what}. To renew it, run: qarm build-explorer"


def _serve(explorer: Explorer, host: str, port: int, *, open_browser: bool) -> None:
    from qarm_features.explorer.server import listen, make_app, serve, url_of

    opened = listen(host, port)
    url = url_of(opened)
    if host not in _OWN:
        _say("Everybody who reaches this address can read the catalog and the pages of users.")
    names = frozenset({socket.gethostname().lower() if host in _ANYWHERE else host.lower()})
    typer.echo(f"The explorer is at {url} (Ctrl-C stops it)")
    if open_browser:
        typer.launch(url)
    try:
        serve(make_app(explorer, names=names), opened)
    except KeyboardInterrupt:
        pass  # uvicorn has ended what it had begun, and passes the signal on
    finally:
        explorer.close()
    typer.echo("The explorer has stopped.")


def _write(explorer: Explorer, path: Path, *, force: bool) -> None:
    from qarm_features.explorer.bundle import write_page

    with _progress() as progress:
        items = write_page(explorer, path, force=force, progress=progress)
    shown = explorer.summary()["items"]
    sample = f", a sample of {shown:,}" if items < shown else ""
    size = path.stat().st_size / 1e6
    _say(f"{path} holds {items:,} items{sample} ({size:,.1f} MB). It opens in any browser, without a network.")


@contextmanager
def _progress() -> Iterator[Progress]:
    from rich.progress import Progress as Bar

    console = plain_console(stderr=True)
    with Bar(console=console, transient=True, disable=not console.is_terminal) as bar:
        task = bar.add_task("items", total=None)
        yield lambda done, total: bar.update(task, completed=done, total=total)


def _say(sentence: str) -> None:
    plain_console(stderr=True).print(literal(sentence), soft_wrap=True)
