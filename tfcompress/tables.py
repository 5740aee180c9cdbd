"""Tables of aligned text."""

import numbers
import re

PERCENT = re.compile(r"[\d.]+ %")


def table(headers, rows):
    """Rows of cells as lines of text in aligned columns.

    Args:
        headers: title of each column.
        rows: lists of cells: strings, numbers or None, as many as headers.

    Returns:
        Lines joined by newlines; columns of numbers are aligned to the right.
    """
    rows = [list(row) for row in rows]
    cells = [list(headers), *([show(cell) for cell in row] for row in rows)]
    widths = [max(len(row[i]) for row in cells) for i in range(len(headers))]
    right = [
        any(is_number(row[i]) for row in rows) for i in range(len(headers))
    ]
    cells.insert(1, ["-" * width for width in widths])
    return "\n".join(
        "  ".join(
            cell.rjust(width) if to_right else cell.ljust(width)
            for cell, width, to_right in zip(row, widths, right, strict=True)
        ).rstrip()
        for row in cells
    )


def percent(part, whole):
    """`part` of `whole` as text, such as "12.5 %"; "?" if one is unknown."""
    if part is None or not whole:
        return "?"
    return f"{100 * part / whole:.1f} %"


def is_number(cell):
    """Whether a cell belongs into a column of numbers."""
    if isinstance(cell, str):
        return PERCENT.fullmatch(cell) is not None
    return isinstance(cell, numbers.Number)


def show(cell):
    """The text of a cell."""
    if cell is None:
        return "?"
    if isinstance(cell, float):
        return f"{cell:.4g}"
    return f"{cell:,}" if isinstance(cell, int) else str(cell)
