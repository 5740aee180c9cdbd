"""Runs programs in this process and looks at what they leave."""

import contextlib
import dataclasses
import hashlib
import io
import sys

import pytest


@dataclasses.dataclass(frozen=True)
class Result:
    """What a program left behind: exit code, standard output and error."""

    code: int
    out: str
    err: str


def run_program(main, *arguments, **names):
    """Runs a program as from the command line.

    Args:
        main: its `main`.
        *arguments: its arguments.
        **names: its further arguments of `program.run`.

    Returns:
        A `Result`.
    """
    from absl import app
    from absl.testing import flagsaver

    from tfcompress.cli import program

    # Else the first program would define --help and the saver take it away.
    app.define_help_flags()
    out, err = io.StringIO(), io.StringIO()
    argv, sys.argv = sys.argv, ["program", *map(str, arguments)]
    try:
        with (
            flagsaver.flagsaver(),
            contextlib.redirect_stdout(out),
            contextlib.redirect_stderr(err),
            pytest.raises(SystemExit) as caught,
        ):
            program.run(main, **names)
    finally:
        sys.argv = argv
    return Result(caught.value.code or 0, out.getvalue(), err.getvalue())


def snapshot(*folders):
    """Dictionary path -> (time, hash) of all files below folders."""
    return {
        path: (
            path.stat().st_mtime_ns,
            hashlib.sha256(path.read_bytes()).hexdigest(),
        )
        for folder in folders
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }


def assert_succeeds(main, *arguments, **names):
    """Runs a program that must end well; gives its `Result`."""
    result = run_program(main, *arguments, **names)
    assert result.code == 0, result.err
    return result


def assert_refused(main, arguments, parts, watched=(), **names):
    """Runs a program that must stop at once, with one line on the screen.

    Args:
        main: its `main`.
        arguments: its arguments.
        parts: texts that the line must have.
        watched: folders whose files must all stay as they are.
        **names: see `run_program`.
    """
    before = snapshot(*watched)
    result = run_program(main, *arguments, **names)
    assert result.code not in (0, None)
    assert result.err.startswith("error: "), result.err
    assert result.err.count("\n") == 1 and result.err.endswith("\n")
    for part in parts:
        assert part in result.err, result.err
    after = snapshot(*watched)
    assert {path: after.get(path) for path in before} == before
