"""The failures that strangers bring, and what to do about each.

In: all that an error says. Out: one sentence for people, or None for a failure that is not known.
"""

from __future__ import annotations

import re

_FILE = re.compile(
    r"reading file (?:file:)?(?://)?(/[^\s'\"]+|\w+://[^\s'\"]+)"
    r"|(?:FileNotFound|AccessDenied|AccessControl|NoSuchFile)Exception: (?:File )?(?:file:)?([^\s:]+)"
    r"|Path does not exist: (?:file:)?(\S+)"
    r"|Cannot create (?:file:)?(\S+)"
    r"|Errno \d+\][^:\n]*: '([^']+)'"
)
_CAUSE = re.compile(r"^Caused by: (?:[\w$]+\.)*([\w$]+(?:: .*)?)$", re.MULTILINE)
_AGAIN = "and run the same command again"

# The first rule whose pattern occurs wins. What can hide behind any other error stands first. {what} is the file, or what
# the error says where no file is known; {says} is what the error says.
_RULES: tuple[tuple[str, str], ...] = (
    (
        r"java\.lang\.OutOfMemoryError|GC overhead limit|SparkOutOfMemoryError",
        "The JVM of Spark ran out of memory. Raise spark.driver.memory, and on a cluster spark.executor.memory, under "
        f"spark.conf of qarm.yaml, {_AGAIN}.",
    ),
    (
        r"Python worker exited unexpectedly|ExecutorLostFailure|exit code 137|exitcode\s*:\s*-9|return code -9|SIGKILL",
        "A worker process was killed, most often because memory ran out. Use smaller batches in qarm.yaml "
        f"(encoder.batch_size, alignment.micro_batch_size, ranking.batch_size) or fewer cores in spark.master, {_AGAIN}.",
    ),
    (
        r"MemoryError|OutOfMemoryError|CUDA out of memory|ArrowMemory|bad_alloc|DefaultCPUAllocator",
        "Memory ran out ({says}). Use smaller batches in qarm.yaml (encoder.batch_size, alignment.micro_batch_size, "
        f"ranking.batch_size), {_AGAIN}.",
    ),
    (
        r"No space left on device|Disk quota exceeded",
        f"The disk is full ({{says}}). Free space or move the folder, {_AGAIN}.",
    ),
    (
        r"Permission denied|AccessControlException|AccessDenied|Forbidden|Read-only file system",
        f"{{what}} may not be read or written by this user. Change its permissions, {_AGAIN}.",
    ),
    (
        r"redis\.exceptions\.",
        "The online store Redis refused or was lost: {says}. Start it or correct online_store in feature_store.yaml, "
        f"{_AGAIN}.",
    ),
    (
        r"psycopg|sqlalchemy\.exc\.|sqlite3\.",
        "The database of the feature store refused or was lost: {says}. Start it or correct feature_store.yaml, "
        f"{_AGAIN}.",
    ),
    (
        r"PATH_NOT_FOUND|FILE_NOT_EXIST|FileNotFound|NoSuchFile|TABLE_OR_VIEW_NOT_FOUND|DELTA_TABLE_NOT_FOUND"
        r"|DELTA_PATH_DOES_NOT_EXIST|TableNotFoundError",
        f"{{what}} does not exist. Correct the path or the table in qarm.yaml, {_AGAIN}.",
    ),
    (
        r"DATA_TYPE_MISMATCH|CANNOT_MERGE_SCHEMA|SchemaColumnConvertNotSupported|DELTA_FAILED_TO_MERGE_FIELDS",
        "{what} has a column of another type than the files beside it: {says}. Write all files with one schema, "
        f"{_AGAIN}.",
    ),
    (
        r"DELTA_(PROTOCOL(?!_CHANGED)|UNSUPPORTED|INVALID_PROTOCOL)|reader features",
        "A Delta table needs a feature that this version of Delta lacks: {says}. Upgrade delta-spark and deltalake, or "
        "drop the feature from the table.",
    ),
    (
        r"FAILED_READ_FILE|ArrowInvalid|ArrowIOError|EOFException|not a Parquet file|safetensors.*[Ee]rror|BadGzip|zlib",
        f"{{what}} cannot be read, because it is damaged, cut off or of another format ({{cause}}). Replace it, {_AGAIN}.",
    ),
    (
        r"Concurrent(Append|Delete|Modification|Transaction|Write)\w*Exception|DELTA_CONCURRENT"
        r"|DELTA_(METADATA|PROTOCOL)_CHANGED",
        "Another process changed the same Delta table in the meantime, so nothing was written. Run the same command again.",
    ),
    (
        r"Class [\w.]*S3AFileSystem not found|No FileSystem for scheme|ClassNotFoundException: Class org\.apache\.hadoop\.fs",
        "Spark lacks the package for this kind of path: {says}. Name it in spark.conf, for example "
        "spark.jars.packages: org.apache.hadoop:hadoop-aws:3.5.0.",
    ),
    (
        r"Py4JNetworkError|Py4JError: Answer from Java side is empty|py4j.*(refused|reset)|Py4JException: .*closed",
        "The JVM of Spark ended unexpectedly, most often because memory ran out. Raise spark.driver.memory under "
        f"spark.conf of qarm.yaml, {_AGAIN}.",
    ),
    (
        r"ConnectException|UnknownHostException|ConnectionRefused|Connection refused|Name or service not known|timed out",
        f"A server could not be reached: {{says}}. Check the address and the network, {_AGAIN}.",
    ),
    (
        r"ChildFailedError|TorchDistributor failed|CalledProcessError",
        "A training process ended without a message of its own. What it printed last is in artifacts/logs/training.log.",
    ),
)


def sentence_for(text: str, says: str) -> str | None:
    """Returns what a known failure means and what to do, in one line; None for another failure.

    Args:
        text: All that the error says, with the stack of the JVM if it came from there.
        says: Message of the error in one line.

    Example:
        >>> sentence_for("redis.exceptions.ConnectionError: refused", "ConnectionError: refused")[:50]
        'The online store Redis refused or was lost: Connec'
    """
    for pattern, sentence in _RULES:
        if re.search(pattern, text):
            found = _FILE.search(text)
            file = next(part for part in found.groups() if part).rstrip(".,") if found else says
            causes = _CAUSE.findall(text)
            parts = {"what": file, "says": says.rstrip("."), "cause": _cut(causes[-1] if causes else says).rstrip(".")}
            line = sentence.format(**parts)
            return line[0].upper() + line[1:] if not found else line
    return None


def first_sentence(message: str) -> str:
    r"""Returns what an error of Spark, Java or Python says, in one line without codes, plans and stacks.

    Example:
        >>> first_sentence("[PATH_NOT_FOUND] Path does not exist: file:/x. SQLSTATE: 42K03\n\tat org.apache.Spark")
        'Path does not exist: file:/x.'
    """
    message = re.sub(r"^An error occurred while calling [^\n]*\n: ", "", message)
    message = re.split(r"\n\s+at |\nDriver stacktrace|;?\n'?[A-Z]\w+ \[|\n== SQL|\n\n", message)[0]
    lost = re.search(r"Lost task [^\n]*? executor \w+\): (.*)", message, re.DOTALL)
    message = lost[1] if lost else message
    message = re.sub(r"^(?:[a-z]\w*\.)+([A-Z][\w$]*): ", r"\1: ", message)
    message = re.sub(r"^SparkException: |\[[A-Z][A-Z0-9_.]+\] |;? ?SQLSTATE: \w+;?", "", message)
    return _cut(" ".join(message.split()))


def _cut(text: str, longest: int = 400) -> str:
    return text if len(text) <= longest else text[:longest].rsplit(" ", 1)[0] + " ..."
