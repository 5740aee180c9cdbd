"""Pieces of messages: hints for wrong names, reasons in one line."""

import difflib


def hint(name, known, count=1):
    """ " Did you mean 'conv1'?", or nothing where no name is near.

    Args:
        name: what was given.
        known: the names that there are.
        count: how many of them to name at most, the nearest first.
    """
    near = difflib.get_close_matches(str(name), list(known), n=count)
    return f" Did you mean {' or '.join(map(repr, near))}?" if near else ""


def first_line(error):
    """What an exception says first, or its type where it says nothing."""
    lines = str(error).strip().splitlines()
    return lines[0] if lines else type(error).__name__
