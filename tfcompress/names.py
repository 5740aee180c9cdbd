"""Hints for names that were not found."""

import difflib


def hint(name, known):
    """ " Did you mean 'conv1'?", or nothing where no name is near."""
    near = difflib.get_close_matches(str(name), list(known), n=1)
    return f" Did you mean {near[0]!r}?" if near else ""
