"""Secrets in settings: types that hide them, and a filter that takes them out of every text that people may see.

In: settings that may hold credentials. Out: values that show ``***`` unless they are asked for, and texts without the
secrets that this process has loaded.
"""

from __future__ import annotations

import json
import logging
import os
import re
import traceback
from collections.abc import Iterable
from pathlib import Path
from typing import Annotated, Any, TextIO
from urllib.parse import quote, quote_plus, unquote

from pydantic import BeforeValidator, Secret, SecretStr

HIDDEN = "***"
# Names of settings, options and variables whose values are secrets. Spark takes it as its spark.redaction.regex too.
SECRET_NAME = (
    r"(?i)secret|passw|passphrase|pwd|token|credential|private|(access|account|api|encryption|shared|auth)[._-]?key|"
    r"(^|[._-])(sas|sig|signature|dsn|key|auth)($|[._-])"
)
_SECRET_NAME = re.compile(SECRET_NAME)
_SAYS_HOW = re.compile(
    r"(?i)(provider|class|path|file|location|type|algorithm|enabled|size|timeout|parallelism|seconds|version|mode)$"
)
_VARIABLE = re.compile(r"\$\{([A-Za-z_]\w*)\}")
# ``user:password@`` in front of a server. What follows the colon is no port, and a container of Azure has no colon.
_USER_INFO = re.compile(r"(?<=://)([^/@\s:'\"]*:(?!\d+(?:[/?#,\s'\"]|$))[^\s'\"]*)@")
_ASSIGNED = re.compile(
    r"(?i)((?:passwo?r?d?|pwd|passphrase|secret|(?:access|auth|session|api|bearer)[._-]?(?:token|key))['\"]?"
    r"(?:=|:\s*(?=['\"])))('[^']*'|\"[^\"]*\"|[^\s,;&'\"]+)"
)
_QUERY = re.compile(r"(?<=[?&])([^=&\s]+)=([^&\s'\"]*)")
_SHORTEST = 4  # A shorter secret would be found in half of all words.
_PLAIN = re.compile(r"(?i)true|false|none|null|auto|default|simple|require|\s*|\d{1,5}")

_known: set[str] = set()
_pattern: re.Pattern[str] | None = None


def _expanded(value: Any, encode: bool = False) -> Any:
    """Return a text with the values of the environment variables that it names as ``${NAME}``."""
    if not isinstance(value, str):
        return value

    def value_of(found: re.Match[str]) -> str:
        name = found[1]
        if name not in os.environ:
            raise ValueError(f"the variable {name} is not set. Run: export {name}=...")
        before_host = "://" in value and found.start() < value.rfind("@")
        return quote(os.environ[name], safe="") if encode and before_host else os.environ[name]

    return _VARIABLE.sub(value_of, value)


def _encoded(value: Any) -> Any:
    """Return a URI, or refuse one whose credentials end at a slash of their own."""
    if isinstance(value, str) and "/" in (_user_info(value) or ""):
        raise ValueError(
            "its credentials hold a /, which must be written as %2F; a variable ${NAME} is encoded by itself"
        )
    return value


class SecretUri(Secret[str]):
    """A path or URI that may hold credentials, which are not shown. ``get_secret_value()`` returns all of it.

    Example:
        >>> str(SecretUri("s3://me:hunter2@bucket/media?region=eu&secret_key=x")), str(SecretUri("media"))
        ('s3://***@bucket/media?region=eu&secret_key=***', 'media')
    """

    def _display(self) -> str:
        uri = self.get_secret_value()
        info = _user_info(uri)
        return without_credentials(uri if info is None else uri.replace(f"://{info}@", f"://{HIDDEN}@", 1))


# A text of qarm.yaml that may be a secret, or name environment variables as ``${NAME}``.
SecretText = Annotated[SecretStr, BeforeValidator(_expanded)]
# In a URI the value of a variable is percent-encoded where credentials stand.
SecretPlace = Annotated[SecretUri, BeforeValidator(lambda value: _encoded(_expanded(value, encode=True)))]


def is_secret_name(name: str) -> bool:
    """Return True if the name of an option says that its value is a secret, and not for example the file that holds it.

    Example:
        >>> [is_secret_name(f"fs.s3a.{name}") for name in ("secret.key", "endpoint", "aws.credentials.provider")]
        [True, False, False]
    """
    return _SECRET_NAME.search(name) is not None and not _SAYS_HOW.search(name)


def without_credentials(text: str) -> str:
    """Return a text without the credentials in its URIs.

    Example:
        >>> without_credentials("could not open redis://:hunter2@host:6379/0 and abfss://box@me.net/x")
        'could not open redis://***@host:6379/0 and abfss://box@me.net/x'
    """
    text = _USER_INFO.sub(f"{HIDDEN}@", text)
    if "?" not in text:
        return text
    return _QUERY.sub(lambda found: f"{found[1]}={HIDDEN}" if is_secret_name(found[1]) else found[0], text)


def credentials_of(text: str) -> list[str]:
    """Return the passwords and keys that a URI or a connection string holds, as they stand there and decoded.

    Example:
        >>> credentials_of("s3://me:a%2Fb@bucket"), credentials_of("host:6379,ssl=true,password=hunter2")
        (['me', 'a%2Fb', 'a/b'], ['hunter2'])
    """
    info = _user_info(text)
    found = [] if info is None else info.split(":", 1)
    found += [part for info in _USER_INFO.findall(text) for part in info.split(":", 1)]
    found += [value for name, value in _QUERY.findall(text) if is_secret_name(name)]
    found += [value.strip("'\"") for _, value in _ASSIGNED.findall(text)]
    return list(dict.fromkeys(form for part in found for form in (part, unquote(part)) if form))


def _user_info(uri: str) -> str | None:
    """Return ``user:password`` of a text that is a URI as a whole; None where it has none."""
    rest = uri.partition("://")[2]
    authority = rest.partition("/")[0]
    if ":" not in authority or re.fullmatch(r"[^:@]*:\d+", authority):  # a server, its port, or a container of Azure
        return None
    info, at, _ = (authority if "@" in authority else rest).rpartition("@")
    return info if at else None


def remember_secrets(values: Iterable[str]) -> None:
    """Hide these values from now on in every text that ``redacted`` returns."""
    global _pattern
    new = {value for value in values if _is_worth_hiding(value)} - _known
    if new:
        _known.update(new)
        forms = sorted({form for value in _known for form in _forms(value)}, key=lambda form: (-len(form), form))
        _pattern = re.compile("|".join(map(re.escape, forms)))


def secrets_of_environment() -> list[str]:
    """Return the values of the environment variables whose names say that they are secrets; a path that exists is none."""
    found = [value for name, value in os.environ.items() if is_secret_name(name)]
    return [value for value in found if not os.path.exists(value)]  # PWD is the working directory


def redacted(text: str) -> str:
    """Return a text without the secrets that this process knows, and without credentials in URIs.

    Example:
        >>> remember_secrets(["it's a #secret"])
        >>> redacted("FATAL: it's a #secret, s3://me:other@bucket, password='third'")
        'FATAL: ***, s3://***@bucket, password=***'
    """
    if _pattern is not None:
        text = _pattern.sub(HIDDEN, text)
    return _ASSIGNED.sub(lambda found: f"{found[1]}{HIDDEN}", without_credentials(text))


class RedactingFilter(logging.Filter):
    """Takes secrets out of log records. It belongs on a handler, so that it sees the records of every logger."""

    def filter(self, record: logging.LogRecord) -> bool:
        """Return True, after the message and the traceback of a record have lost their secrets."""
        message = record.getMessage()
        clean = redacted(message)
        if clean != message:
            record.msg, record.args = clean, ()
        if record.exc_info and record.exc_info[1] is not None:
            record.exc_text = redacted("".join(traceback.format_exception(record.exc_info[1])).rstrip())
            record.exc_info = None
        return True


def open_private(path: Path) -> TextIO:
    """Open a new text file that only its owner may read, in place of one that existed with other permissions."""
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
    os.fchmod(descriptor, 0o600)
    return os.fdopen(descriptor, "w", encoding="utf-8", errors="replace")


def _is_worth_hiding(value: str) -> bool:
    return len(value) >= _SHORTEST and not _PLAIN.fullmatch(value)


def _forms(value: str) -> set[str]:
    """Return a secret as logs, URIs and error messages write it."""
    lines = [line for line in value.splitlines() if len(line) > _SHORTEST]
    plain = {value, " ".join(value.split()), *(lines if len(lines) > 1 else ())}
    written = {
        form
        for one in plain
        for form in (
            *(one, quote(one, safe=""), quote(one), quote_plus(one), repr(one)[1:-1]),
            *(json.dumps(one)[1:-1], json.dumps(one, ensure_ascii=False)[1:-1], one.replace("'", "''")),
        )
    }
    return {form for form in written if len(form) >= _SHORTEST}
