"""What somebody else's code said, fit for one line of a log that people read."""

import re

_ANSI = re.compile(r"\x1b\[[0-9;?]*[A-Za-z]")
_WRAPPED = re.compile(r"'>$|^Exception ClientAppException occurred\. Message: ")
"""What Flower puts around an exception's text in the reason of an error reply."""
_TRACED = re.compile(r'^<class |^Traceback |^ray::|\n\s+File "')
"""How a traceback begins."""
_LEAST = 20
"""Fewer characters of a text's beginning tell nothing."""
_ENDS = 20
"""An `error: ...` with more lines after it is not what ended the program."""


def single_line(text: object, most: int = 400) -> str:
    """The text on one line, without control characters; what is longer than `most` ends in " ...", so that it shows."""
    read = str(text)[: 10 * most]
    line = " ".join("".join(c if c.isprintable() else " " for c in read).split())
    return line if len(line) <= most else f"{line[:most].rstrip()} ..."


def cause(text: object, most: int = 400) -> str:
    """What an error says, on one line: all of it where it is short, else with its last line, where the cause stands.

    A traceback begins with the frames that the error passed and ends with what is wrong, so only its last line is kept.
    Of other errors of many lines the beginning is kept too, as far as there is room. Of a last line that is too long
    itself, the beginning is kept.

    Args:
        text: An exception, or the text of one; lines without a letter or digit are passed over.
        most: The characters that are kept of it, without the " ..." that shows where something was left out.
            Default: 400.
    """
    whole = str(text)
    line = single_line(whole, most)
    if len(whole) <= 10 * most and not line.endswith(" ..."):
        return line
    ends = [part for part in whole[-10 * most :].splitlines() if any(c.isalnum() for c in part)]
    if len(ends) < 2:  # one long line: it begins with what it is about
        return line
    last = single_line(_WRAPPED.sub("", _WRAPPED.sub("", ends[-1].strip())), most)
    room = most - len(last) - len(" ... ")
    if room < _LEAST or _TRACED.search(whole[: 10 * most]):
        return f"... {last}" if len(last) <= most - 4 else last
    return f"{single_line(whole, room)} {last}"


def last_sentence(log: str, most: int = 600) -> str:
    """What a program's log says last: its `error: ...` to the end, else its last line with a letter or digit.

    Args:
        log: The end of the log. Colours and the frames that Flower draws around an error are left out.
        most: The characters that are kept.

    Returns:
        One line, "" for a log that says nothing.
    """
    lines = [_ANSI.sub("", line).strip(" │╭╮╰╯─") for line in log.splitlines()]
    lines = [line for line in lines if any(c.isalnum() for c in line)]
    errors = [index for index, line in enumerate(lines) if line.startswith("error: ")]
    if errors and errors[-1] >= len(lines) - _ENDS:
        return single_line(" ".join(lines[errors[-1] :]).removeprefix("error: "), most)
    return single_line(lines[-1], most) if lines else ""
