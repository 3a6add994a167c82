"""The federation's certificate authority and the server's certificate, and the silos' node keys."""

import base64
import hashlib
import ipaddress
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from fedlaw_flwr.deploy.federation import Federation, is_address
from fedlaw_flwr.deploy.folder import FederationFolder, write_new, write_private

_CURVE = ec.SECP384R1()  # the curve Flower's node authentication takes
_CA_YEARS, _SERVER_YEARS = 10, 1


def make_authority(federation: Federation, folder: FederationFolder) -> bool:
    """Makes the CA's key and self-signed certificate, unless both are there; whether it did.

    Raises FileExistsError where only one of them is: half an authority is somebody's accident.
    """
    present = [path for path in (folder.ca_key, folder.ca_certificate) if path.exists()]
    if len(present) == 2:
        return False
    if present:
        raise FileExistsError(f"{present[0]} is there without its partner: restore both, or move it away")
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
    """Makes the server's key and a certificate for all the federation's names, unless both are there."""
    if folder.server_key.exists() and folder.server_certificate.exists():
        return False
    authority = x509.load_pem_x509_certificate(folder.ca_certificate.read_bytes())
    ca_key = _load_private(folder.ca_key)
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
    """A silo's key pair as Flower takes it: ECDSA P-384, OpenSSH format. FileExistsError if either file is there."""
    for path in (private, public):
        if path.exists():
            raise FileExistsError(
                f"{path} is there already; a silo's key is replaced by `fedlaw deploy rotate`, not here"
            )
    key = ec.generate_private_key(_CURVE)
    encoding, form = serialization.Encoding.PEM, serialization.PrivateFormat.OpenSSH
    write_private(private, key.private_bytes(encoding, form, serialization.NoEncryption()))
    write_new(public, public_key_line(key.public_key()))


def public_key_line(key: ec.EllipticCurvePublicKey) -> bytes:
    """The key as one OpenSSH line."""
    return key.public_bytes(serialization.Encoding.OpenSSH, serialization.PublicFormat.OpenSSH) + b"\n"


def load_public_key(path: Path) -> ec.EllipticCurvePublicKey:
    """The node key in this file. Raises ValueError for anything but an ECDSA P-384 public key in OpenSSH's format."""
    content = path.read_bytes()
    if b"PRIVATE KEY" in content:
        raise ValueError(f"{path} is a private key: it must never leave its silo; send the .pub file")
    try:
        key = serialization.load_ssh_public_key(content)
    except ValueError as error:
        raise ValueError(f"{path} is no OpenSSH public key: {error}") from None
    if not isinstance(key, ec.EllipticCurvePublicKey) or not isinstance(key.curve, ec.SECP384R1):
        raise ValueError(f"{path}: an ECDSA key on P-384 is needed, as `fedlaw join` makes it")
    return key


def fingerprint(path: Path) -> str:
    """SHA256 of a public key in the words of `ssh-keygen -l`, to be compared over another channel."""
    blob = load_public_key(path).public_bytes(serialization.Encoding.OpenSSH, serialization.PublicFormat.OpenSSH)
    digest = hashlib.sha256(base64.b64decode(blob.split()[1])).digest()
    return "SHA256:" + base64.b64encode(digest).decode().rstrip("=")


@dataclass(frozen=True)
class Finding:
    """One thing a check found: whether it is right, what was looked at, and what to do."""

    ok: bool
    what: str


def check_certificates(federation: Federation, folder: FederationFolder, now: datetime | None = None) -> list[Finding]:
    """Whether the server's certificate is the CA's, holds every name, and is valid for a month and more."""
    now = now or datetime.now(UTC)
    for path in (folder.ca_certificate, folder.server_certificate, folder.server_key):
        if not path.exists():
            return [Finding(False, f"{path} is missing: `fedlaw deploy init` makes it")]
    authority = x509.load_pem_x509_certificate(folder.ca_certificate.read_bytes())
    server = x509.load_pem_x509_certificate(folder.server_certificate.read_bytes())
    found = [_signed(server, authority, folder), _same_key(server, folder)]
    held = server.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    names = {str(name.value) for name in held}
    lacking = [name for name in federation.names if name not in names]
    renew = (
        f"move {folder.server_certificate.name} and {folder.server_key.name} away and run `fedlaw deploy init` again"
    )
    if lacking:
        found.append(Finding(False, f"the server's certificate does not hold {', '.join(lacking)}: {renew}"))
    else:
        found.append(Finding(True, f"the server's certificate holds {', '.join(federation.names)}"))
    for what, certificate in (("CA", authority), ("server", server)):
        left = int((certificate.not_valid_after_utc - now) / timedelta(days=1))
        begun = certificate.not_valid_before_utc <= now
        state = f"valid for {left} more days" if certificate.not_valid_after_utc >= now else f"expired {-left} days ago"
        advice = "" if left >= 30 and begun else f": {renew}" if begun else ": this machine's clock is behind"
        found.append(Finding(left >= 30 and begun, f"the {what}'s certificate is {state}{advice}"))
    return found


def _signed(server: x509.Certificate, authority: x509.Certificate, folder: FederationFolder) -> Finding:
    try:
        server.verify_directly_issued_by(authority)
    except (ValueError, TypeError, InvalidSignature):
        return Finding(False, f"{folder.server_certificate} was not signed by {folder.ca_certificate}")
    return Finding(True, "the server's certificate was signed by the federation's CA")


def _same_key(server: x509.Certificate, folder: FederationFolder) -> Finding:
    same = _load_private(folder.server_key).public_key() == server.public_key()
    return Finding(
        same, "the server's key and certificate " + ("belong together" if same else "do not belong together")
    )


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
    key = serialization.load_pem_private_key(path.read_bytes(), password=None)
    if not isinstance(key, ec.EllipticCurvePrivateKey):
        raise ValueError(f"{path}: an ECDSA key is expected")
    return key
