"""A function that is called in a process beside this one: its answer, its lines, its end, and the end of this one."""

from __future__ import annotations

import functools
import os
import signal
import subprocess
import sys
import time

import pytest

from qarm_features.jobs.process_beside import ProcessBeside


def call_beside(function, *args, on_text, load=None, **kwargs):
    with ProcessBeside(load) as process:
        return process.call(function, *args, on_text=on_text, **kwargs)


def doubled(number, *, times=2):
    print("on stdout", flush=True)
    print("on stderr", file=sys.stderr, flush=True)
    return number * times, os.getpid()


def fails():
    raise KeyError("this one")


def dies():
    os.kill(os.getpid(), signal.SIGKILL)


def remembers():
    sys.remembered = os.getpid()
    print("loaded", flush=True)


def remembered():
    return sys.remembered, os.getpid()


def waits(path):
    with open(path, "w") as file:
        file.write(str(os.getpid()))
    time.sleep(600)


def is_alive(process):
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    return True


def test_the_answer_and_every_line_come_back_from_another_process():
    lines = []

    answer, process = call_beside(doubled, 3, times=5, on_text=lines.append)

    assert (answer, sorted(lines)) == (15, ["on stderr\n", "on stdout\n"])
    assert process != os.getpid()


def test_what_was_loaded_before_the_call_is_there_and_its_lines_come_back():
    lines = []

    before, process = call_beside(remembered, on_text=lines.append, load=remembers)

    assert (before, lines) == (process, ["loaded\n"])


def test_a_process_that_gets_no_call_ends_with_the_context(tmp_path):
    with ProcessBeside(functools.partial(waits, tmp_path / "pid")):
        until(lambda: (tmp_path / "pid").is_file() and (tmp_path / "pid").read_text())
        process = int((tmp_path / "pid").read_text())

    assert not is_alive(process)


@pytest.mark.parametrize("load", [fails, dies])
def test_an_end_while_loading_is_told_at_the_call(load):
    lines = []

    with ProcessBeside(load) as process:
        process._process.wait()
        with pytest.raises(subprocess.CalledProcessError):
            process.call(doubled, 1, on_text=lines.append)

    assert load is dies or any("KeyError: 'this one'" in line for line in lines)


def test_a_file_of_the_project_stands_in_for_no_module(tmp_path, monkeypatch):
    (tmp_path / "pickle.py").write_text("raise SystemExit('the wrong module')")
    monkeypatch.chdir(tmp_path)

    assert call_beside(doubled, 1, on_text=print)[0] == 2


@pytest.mark.parametrize(
    ("function", "end", "said"),
    [
        (fails, "returned non-zero exit status 1", "KeyError: 'this one'"),
        (dies, "died with <Signals.SIGKILL: 9>", None),
    ],
)
def test_an_end_without_an_answer_is_told_with_its_cause(function, end, said):
    lines = []

    with pytest.raises(subprocess.CalledProcessError, match=end):
        call_beside(function, on_text=lines.append)

    assert said is None or any(said in line for line in lines)


def test_the_process_ends_with_a_driver_that_is_killed(tmp_path):
    driver = (
        "from tests.jobs.test_process_beside import call_beside, waits\n"
        f"call_beside(waits, {str(tmp_path / 'pid')!r}, on_text=print)\n"
    )
    paths = os.pathsep.join(path for path in sys.path if path)
    killed = subprocess.Popen([sys.executable, "-c", driver], env={**os.environ, "PYTHONPATH": paths})
    try:
        until(lambda: (tmp_path / "pid").is_file() and (tmp_path / "pid").read_text())
        process = int((tmp_path / "pid").read_text())
        assert is_alive(process)
    finally:
        killed.kill()
        killed.wait()

    until(lambda: not is_alive(process))


def until(condition, seconds=60):
    """Waits for a condition, and fails where it never holds."""
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "the condition never held"
        time.sleep(0.02)
