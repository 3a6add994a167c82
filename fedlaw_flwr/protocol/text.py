"""What somebody else's code said, fit for one line of a log that people read."""


def single_line(text: object, most: int = 400) -> str:
    """The text on one line, without control characters; what is longer than `most` ends in " ...", so that it shows."""
    read = str(text)[: 10 * most]
    line = " ".join("".join(c if c.isprintable() else " " for c in read).split())
    return line if len(line) <= most else f"{line[:most]} ..."
