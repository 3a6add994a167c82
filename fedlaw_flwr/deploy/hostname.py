"""What may be the server's name: a DNS name or an IP address, and nothing around it."""

import ipaddress
import re

from fedlaw_flwr.core.errors import InputError

_LABEL = re.compile(r"[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?")
_LONGEST = 253


def host(text: str) -> str:
    """The name or address that silos call and that the server's certificate holds, as the certificate spells it.

    Args:
        text: A DNS name in ASCII, an IPv4 address, or an IPv6 address without brackets.

    Returns:
        A name in lower case; an address in its shortest form.

    Raises:
        InputError: For anything else, with where it goes or how it is written.
    """
    if not text:
        raise InputError("the name or the address by which silos reach the server is expected")
    if any(c.isspace() or not c.isprintable() for c in text):
        raise InputError("there is a space or an invisible character in it")
    if "://" in text or "/" in text or "@" in text:
        name = re.sub(r"^[^/]*://", "", text).partition("/")[0].rpartition("@")[2]
        around = f"without a scheme, a user or a path{_with_port(name)}"
        raise InputError(f"a host alone is expected, {around}: {_bare(name)}")
    if text.startswith("[") or text.endswith("]"):
        raise InputError(f"an IPv6 address is written without brackets{_with_port(text)}: {_bare(text)}")
    address = text.partition("%")[0]
    if "%" in text and is_address(address):
        raise InputError(f"an address with a zone (%{text.partition('%')[2]}) is this machine's alone")
    if is_address(text):
        found = ipaddress.ip_address(text)
        if found.is_unspecified or found.is_multicast:
            raise InputError("no silo can call this address: name the one by which silos reach the server")
        return str(found)
    if text.count(":") == 1:
        raise InputError(f"a host alone is expected{_with_port(text)}: {_bare(text)}")
    if ":" in text:
        raise InputError("this is no IPv6 address")
    if not text.isascii():
        raise InputError(f"a certificate holds names in ASCII{_in_ascii(text)}")
    return _name(text)


def is_address(name: str) -> bool:
    """Whether this names a host by an IP address."""
    try:
        ipaddress.ip_address(name)
    except ValueError:
        return False
    return True


def _name(text: str) -> str:
    """A DNS name in lower case. Raises InputError for what is none."""
    name = text.lower()
    if name.endswith("."):
        raise InputError(f"a host is written without a dot at its end: {name.rstrip('.')}")
    labels = name.split(".")
    if re.fullmatch(r"\d+|0x[0-9a-f]*", labels[-1]):
        raise InputError("this is no IPv4 address, which has four numbers from 0 to 255 without leading zeros")
    if "_" in name:
        raise InputError("an underscore is not allowed in a host's name; certificates are not accepted for such names")
    if "*" in name:
        raise InputError("silos call one name: a wildcard is none")
    if wrong := [label for label in labels if not _LABEL.fullmatch(label)]:
        allowed = "letters, digits and hyphens are allowed, 63 at most, no hyphen first or last"
        raise InputError(f"{wrong[0]!r} is no part of a host's name: {allowed}")
    if len(name) > _LONGEST:
        raise InputError(f"a host's name has at most {_LONGEST} characters, and this has {len(name)}")
    return name


def _bare(text: str) -> str:
    """What is left of this without its brackets and its port."""
    if text.startswith("["):
        return text[1:].partition("]")[0]
    return text if text.count(":") > 1 else text.partition(":")[0]


def _with_port(text: str) -> str:
    """Where the port goes that stands in this text; nothing where there is none."""
    port = text.rpartition(":")[2] if text.startswith("[") or text.count(":") == 1 else ""
    return f", and the port in a line of its own (port: {port})" if port.isdecimal() and text != port else ""


def _in_ascii(text: str) -> str:
    """How this name is written in ASCII, as far as httpx's library for it is here and knows."""
    try:
        import idna

        return f": {idna.encode(text, uts46=True).decode()}"
    except (ImportError, UnicodeError):  # of which idna's own error is one
        return ", an international one in its form that begins with xn--"
