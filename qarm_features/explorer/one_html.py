"""The page's HTML, styles and scripts as one text.

In: the files of ``page/``. Out: what stands before and behind the data in a page of one file. A policy in the page allows
the scripts that stand in it, by their hashes, and nothing else: no request leaves it.
"""

from __future__ import annotations

import base64
import hashlib
import re
from pathlib import Path

from qarm_features.explorer.page_files import INDEX, PAGE

_IMPORT = re.compile(r'^import \{([^}]*)\} from "([^"]+)";\n', re.M)
_EXPORT = re.compile(r"^export ((?:async )?(?:function|class|const) (\w+))", re.M)
_STYLE = re.compile(r'<link rel="stylesheet" href="page/([^"]+)">\n')
_START = "js/app.js"
_LIBRARY = "vendor/echarts.min.js"


def around_data() -> tuple[str, str]:
    """Return everything before the data, and everything behind them. Both are read at once, as the one names the other."""
    library = _harmless((PAGE / _LIBRARY).read_text())
    modules = joined_modules()
    text = INDEX.read_text()
    styles = "".join((PAGE / name).read_text() for name in _STYLE.findall(text))
    text = _STYLE.sub("", text)
    text = text.replace(f'<script type="module" src="page/{_START}"></script>\n', "")
    icon = base64.b64encode((PAGE / "icon.svg").read_bytes()).decode()
    text = text.replace('href="page/icon.svg"', f'href="data:image/svg+xml;base64,{icon}"')
    policy = _policy((library, modules), styles)
    head = f'<meta http-equiv="Content-Security-Policy" content="{policy}">\n<style>{styles}</style>\n'
    before = text.replace("</head>", f"{head}</head>").replace("</body>\n</html>\n", "")
    return before, f"<script>{library}</script>\n<script>{modules}</script>\n</body>\n</html>\n"


def joined_modules() -> str:
    """Return all modules as one script. Each becomes a function that returns what it exports, after those it imports.

    Modules may only use what can be joined in this way: ``import { a, b } from "./file.js";`` and
    ``export function``, ``export async function``, ``export class`` and ``export const``.
    """
    done: dict[str, str] = {}
    _join(_START, done, ())
    body = "\n".join(done.values())
    return _harmless(f'"use strict";\nconst modules = {{}};\n{body}')


def _join(name: str, done: dict[str, str], above: tuple[str, ...]) -> None:
    if name in above:
        raise ValueError(f"{name} imports itself by way of {', '.join(above)}. Modules of the page must not.")
    if name in done:
        return
    text = (PAGE / name).read_text()
    for _, other in _IMPORT.findall(text):
        _join(_beside(name, other), done, (*above, name))
    exported = ", ".join(word for _, word in _EXPORT.findall(text))
    text = _IMPORT.sub(lambda found: f'const {{{found[1]}}} = modules["{_beside(name, found[2])}"];\n', text)
    text = _EXPORT.sub(r"\1", text)
    done[name] = f'modules["{name}"] = (() => {{\n{text}\nreturn {{ {exported} }};\n}})();'


def _beside(name: str, other: str) -> str:
    return (PAGE / name).parent.joinpath(other).resolve().relative_to(PAGE.resolve()).as_posix()


def _harmless(script: str) -> str:
    """Return a script in which nothing ends its tag. Inside of strings and comments the escapes mean the same."""
    return script.replace("</script", "<\\/script").replace("<!--", "<\\!--")


def _policy(scripts: tuple[str, ...], styles: str) -> str:
    return (
        f"default-src 'none'; script-src {' '.join(map(_hash, scripts))}; style-src {_hash(styles)}; img-src data:; "
        "base-uri 'none'; form-action 'none'"
    )


def _hash(text: str) -> str:
    return f"'sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}'"


def files() -> list[Path]:
    """Return the modules of the page in the order in which they are joined."""
    done: dict[str, str] = {}
    _join(_START, done, ())
    return [PAGE / name for name in done]
