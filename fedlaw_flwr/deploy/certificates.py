"""The federation's certificate authority and the server's certificate, and the silos' node keys."""

import base64
import hashlib
import ipaddress
from datetime import UTC, datetime, timedelta
from pathlib import Path

from cryptography import x509
from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from fedlaw_flwr.config.findings import Finding, ok, wrong
from fedlaw_flwr.core.errors import AlreadyThere, InputError, NotThere
from fedlaw_flwr.deploy.federation import Federation
from fedlaw_flwr.deploy.folder import FederationFolder, write_new, write_private
from fedlaw_flwr.deploy.hostname import is_address

_CURVE = ec.SECP384R1()  # the curve Flower's node authentication takes
_CA_YEARS, _SERVER_YEARS = 10, 1
_DATE = "%Y-%m-%d %H:%M UTC"


def make_authority(federation: Federation, folder: FederationFolder) -> bool:
    """Makes the CA's key and self-signed certificate, unless the certificate is there.

    The key may be elsewhere: only `make_server_certificate` needs it, to sign.

    Returns:
        Whether the key and the certificate were made.

    Raises:
        AlreadyThere: If the certificate alone is missing: silos trust it already, and another one would not be theirs.
    """
    if folder.ca_certificate.exists():
        return False
    for path in (folder.ca_key, folder.server_certificate):
        if path.exists():
            raise AlreadyThere(f"{path} is there without ca.crt: put ca.crt back, or move {path.name} away")
    key = ec.generate_private_key(_CURVE)
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, f"{federation.name} federation CA")])
    certificate = (
        _unsigned(name, name, key.public_key(), _CA_YEARS)
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .add_extension(_usage(certificates=True), critical=True)
        .sign(key, hashes.SHA384())
    )
    write_private(folder.ca_key, _pem(key))
    write_new(folder.ca_certificate, certificate.public_bytes(serialization.Encoding.PEM))
    return True


def make_server_certificate(federation: Federation, folder: FederationFolder) -> bool:
    """Makes the server's key and a certificate for all the federation's names, unless both are there.

    Returns:
        Whether the key and the certificate were made.

    Raises:
        AlreadyThere: If one of the two is there without the other.
        NotThere: If the CA's key, which signs, is not here.
        InputError: If the CA's key is another CA's.
    """
    present = [path for path in (folder.server_key, folder.server_certificate) if path.exists()]
    if len(present) == 2:
        return False
    if present:
        raise AlreadyThere(f"{present[0]} is there without its partner: put that back, or move this away")
    if not folder.ca_key.exists():
        what = "is needed to sign the server's certificate: put it there, run this again, and take it away again"
        raise NotThere(f"{folder.ca_key} {what}")
    authority = load_certificate(folder.ca_certificate)
    ca_key = _load_private(folder.ca_key)
    if ca_key.public_key() != authority.public_key():
        raise InputError(f"{folder.ca_key} is not the key of ca.crt beside it: silos would not trust what it signs")
    key = ec.generate_private_key(_CURVE)
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, federation.superlink.host[:64])])
    names = [
        x509.IPAddress(ipaddress.ip_address(name)) if is_address(name) else x509.DNSName(name)
        for name in federation.names
    ]
    certificate = (
        _unsigned(subject, authority.subject, key.public_key(), _SERVER_YEARS)
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(_usage(certificates=False), critical=True)
        .add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH]), critical=False)
        .add_extension(x509.SubjectAlternativeName(names), critical=False)
        .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(ca_key.public_key()), critical=False)
        .sign(ca_key, hashes.SHA384())
    )
    write_private(folder.server_key, _pem(key))
    write_new(folder.server_certificate, certificate.public_bytes(serialization.Encoding.PEM))
    return True


def make_node_key(private: Path, public: Path) -> None:
    """Makes a silo's key pair as Flower takes it: ECDSA P-384, OpenSSH format.

    Args:
        private: The file for the private key.
        public: The file for the public key.

    Raises:
        AlreadyThere: If either file exists.
    """
    for path in (private, public):
        if path.exists():
            raise AlreadyThere(f"{path} is there already; a silo's key is replaced by `fedlaw deploy rotate`, not here")
    key = ec.generate_private_key(_CURVE)
    encoding, form = serialization.Encoding.PEM, serialization.PrivateFormat.OpenSSH
    write_private(private, key.private_bytes(encoding, form, serialization.NoEncryption()))
    write_new(public, public_key_line(key.public_key()))


def public_key_line(key: ec.EllipticCurvePublicKey) -> bytes:
    """The key as one OpenSSH line."""
    return key.public_bytes(serialization.Encoding.OpenSSH, serialization.PublicFormat.OpenSSH) + b"\n"


def load_public_key(path: Path) -> ec.EllipticCurvePublicKey:
    """The node key in this file.

    Raises:
        InputError: For anything but an ECDSA P-384 public key in OpenSSH's format.
    """
    content = path.read_bytes()
    if b"PRIVATE KEY" in content:
        raise InputError(f"{path} is a private key: it must never leave its silo; send the .pub file")
    try:
        key = serialization.load_ssh_public_key(content)
    except ValueError as error:
        raise InputError(f"{path} is no OpenSSH public key: {error}") from None
    if not isinstance(key, ec.EllipticCurvePublicKey) or not isinstance(key.curve, ec.SECP384R1):
        raise InputError(f"{path}: an ECDSA key on P-384 is needed, as `fedlaw join` makes it")
    return key


def load_node_key(path: Path) -> ec.EllipticCurvePrivateKey:
    """A silo's private key as Flower takes it.

    Raises:
        InputError: For anything but an ECDSA P-384 key in OpenSSH's format without a passphrase.
    """
    try:
        key = serialization.load_ssh_private_key(path.read_bytes(), password=None)
    except (ValueError, TypeError, UnsupportedAlgorithm) as error:  # the last two: it has a passphrase
        raise InputError(f"{path} is no OpenSSH private key without a passphrase: {error}") from None
    if not isinstance(key, ec.EllipticCurvePrivateKey) or not isinstance(key.curve, ec.SECP384R1):
        raise InputError(f"{path}: an ECDSA key on P-384 is needed, as `fedlaw join` makes it")
    return key


def fingerprint(path: Path) -> str:
    """SHA256 of the public key in this file in the words of `ssh-keygen -l`, to be compared over another channel."""
    return public_fingerprint(load_public_key(path))


def public_fingerprint(key: ec.EllipticCurvePublicKey) -> str:
    """SHA256 of a public key in the words of `ssh-keygen -l`."""
    digest = hashlib.sha256(base64.b64decode(public_key_line(key).split()[1])).digest()
    return "SHA256:" + base64.b64encode(digest).decode().rstrip("=")


def check_certificates(
    federation: Federation, folder: FederationFolder, now: datetime | None = None, least_days: int = 30
) -> list[Finding]:
    """Whether the server's certificate is the CA's, holds every name, and is valid for so many days and more.

    Args:
        federation: Its names are what the certificate must hold.
        folder: Where certificates and keys lie.
        now: The time to look at; the machine's own by default.
        least_days: A certificate that ends sooner is wrong.
    """
    now = now or datetime.now(UTC)
    for path in (folder.ca_certificate, folder.server_certificate, folder.server_key):
        if not path.exists():
            return [wrong(f"{path} is missing: `fedlaw deploy init {folder.file}` makes it")]
    try:
        authority, server = load_certificate(folder.ca_certificate), load_certificate(folder.server_certificate)
        found = [_signed(server, authority, folder), _same_key(server, folder)]
    except ValueError as error:
        return [wrong(str(error))]
    names = _names_in(server)
    lacking = [name for name in federation.names if name.lower() not in names]
    renew = _renewal(folder)
    if lacking:
        found.append(wrong(f"the server's certificate does not hold {', '.join(lacking)}: {renew}"))
    else:
        found.append(ok(f"the server's certificate holds {', '.join(federation.names)}"))
    renew_all = (
        f"move ca.* and server.* out of {folder.path}, run `fedlaw deploy init {folder.file}`, and give every silo the "
        "new ca.crt"
    )
    dates = [("CA", authority, renew_all), ("server", server, renew)]
    return [*found, *(check_dates(whose, which, what, now, least_days) for whose, which, what in dates)]


def must_be_trusted(federation: Federation, folder: FederationFolder, now: datetime | None = None) -> None:
    """Looks at the certificates before a server is started: what silos would refuse is said here.

    A server whose certificate has ended starts all the same and answers nobody.

    Raises:
        InputError: A sentence for each thing that is wrong: which certificate, when it ends or begins, what renews it.
    """
    found = check_certificates(federation, folder, now, least_days=0)
    if said := [finding.what for finding in found if finding.kind == "wrong"]:
        raise InputError("\n".join(said))


def load_certificate(path: Path) -> x509.Certificate:
    """The certificate in this file.

    Raises:
        InputError: If the file holds no certificate; the text has the file's path.
    """
    try:
        return x509.load_pem_x509_certificate(path.read_bytes())
    except ValueError as error:
        raise InputError(f"{path} is no certificate: {error}") from None


def check_dates(
    whose: str, certificate: x509.Certificate, renew: str, now: datetime | None = None, least_days: int = 30
) -> Finding:
    """Whether a certificate is valid for so many days and more.

    Args:
        whose: Whose certificate it is, for the sentence.
        certificate: The certificate.
        renew: What to do where it is not valid for long enough.
        now: The time to judge by.
        least_days: The least number of days it must still be valid.
    """
    now = now or datetime.now(UTC)
    begin, end = certificate.not_valid_before_utc, certificate.not_valid_after_utc
    what = f"the {whose}'s certificate"
    if now < begin:
        clock = f"this machine's clock is behind, at {now:{_DATE}}, or it was made by one that is ahead: set the clock"
        return wrong(f"{what} is not valid yet, but from {begin:{_DATE}} on: {clock}")
    if now > end:
        return wrong(f"{what} expired {(now - end).days} days ago, on {end:{_DATE}}: {renew}")
    if (left := (end - now).days) < least_days:
        return wrong(f"{what} is valid for {left} more days, until {end:{_DATE}}: {renew}")
    return ok(f"{what} is valid for {left} more days")


def _renewal(folder: FederationFolder) -> str:
    """The commands that make the server a new certificate."""
    key = "" if folder.ca_key.exists() else f"put ca.key back into {folder.path}, then "
    away = f"mv {folder.server_certificate} {folder.server_key} ELSEWHERE/"
    return f"to renew it, {key}`{away}` and `fedlaw deploy init {folder.file}`"


def _names_in(server: x509.Certificate) -> set[str]:
    """The names and addresses that the certificate holds, in lower case."""
    try:
        held = server.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    except x509.ExtensionNotFound:
        return set()
    return {str(name.value).lower() for name in held}


def _signed(server: x509.Certificate, authority: x509.Certificate, folder: FederationFolder) -> Finding:
    try:
        server.verify_directly_issued_by(authority)
    except (ValueError, TypeError, InvalidSignature):
        return wrong(f"{folder.server_certificate} was not signed by {folder.ca_certificate}")
    return ok("the server's certificate was signed by the federation's CA")


def _same_key(server: x509.Certificate, folder: FederationFolder) -> Finding:
    if _load_private(folder.server_key).public_key() != server.public_key():
        return wrong("the server's key and certificate do not belong together")
    return ok("the server's key and certificate belong together")


def _unsigned(
    subject: x509.Name, issuer: x509.Name, key: ec.EllipticCurvePublicKey, years: int
) -> x509.CertificateBuilder:
    now = datetime.now(UTC)
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(key)
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - timedelta(minutes=5))  # clocks of other institutions
        .not_valid_after(now + timedelta(days=365 * years))
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key), critical=False)
    )


def _usage(certificates: bool) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=not certificates,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        key_cert_sign=certificates,
        crl_sign=certificates,
        encipher_only=False,
        decipher_only=False,
    )


def _pem(key: ec.EllipticCurvePrivateKey) -> bytes:
    return key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )


def _load_private(path: Path) -> ec.EllipticCurvePrivateKey:
    try:
        key = serialization.load_pem_private_key(path.read_bytes(), password=None)
    except (ValueError, TypeError, UnsupportedAlgorithm) as error:  # the last two: it has a passphrase
        raise InputError(f"{path} is no private key in PEM without a passphrase: {error}") from None
    if not isinstance(key, ec.EllipticCurvePrivateKey):
        raise InputError(f"{path}: an ECDSA key is expected")
    return key
