"""Pieces of messages: hints for wrong names, reasons in one line."""

import difflib


def hint(name, known):
    """ " Did you mean 'conv1'?", or nothing where no name is near."""
    near = difflib.get_close_matches(str(name), list(known), n=1)
    return f" Did you mean {near[0]!r}?" if near else ""


def first_line(error):
    """What an exception says first, or its type where it says nothing."""
    lines = str(error).strip().splitlines()
    return lines[0] if lines else type(error).__name__
