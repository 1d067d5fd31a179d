"""Certificates and kubeconfigs of the node, made by openssl; they live as long as the node."""

import json
import os
import subprocess
from base64 import b64encode
from dataclasses import dataclass
from pathlib import Path

_DAYS = "30"


@dataclass(frozen=True, slots=True)
class Authority:
    """A certificate authority and the folder of everything that it signed.

    Attributes:
        folder: holds `<name>.crt` and `<name>.key` of the authority and of each certificate.
        name: the authority's own name.
    """

    folder: Path
    name: str

    @classmethod
    def make(cls, folder: Path, name: str) -> "Authority":
        """Make a new authority."""
        authority = cls(folder, name)
        _openssl(
            "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-days", _DAYS,
            "-subj", f"/CN={name}", "-keyout", str(authority.key(name)), "-out", str(authority.certificate(name)),
        )  # fmt: skip
        return authority

    def certificate(self, name: str) -> Path:
        """Return the path of a certificate."""
        return self.folder / f"{name}.crt"

    def key(self, name: str) -> Path:
        """Return the path of a private key."""
        return self.folder / f"{name}.key"

    def sign(self, name: str, subject: str, alternative_names: str = "") -> None:
        """Make a key and a certificate for `subject`, such as `/O=system:nodes/CN=system:node:a`."""
        command = [
            "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-days", _DAYS,
            "-CA", str(self.certificate(self.name)), "-CAkey", str(self.key(self.name)), "-subj", subject,
            "-addext", "basicConstraints=critical,CA:FALSE", "-addext", "extendedKeyUsage=clientAuth,serverAuth",
            "-keyout", str(self.key(name)), "-out", str(self.certificate(name)),
        ]  # fmt: skip
        _openssl(*command, *(["-addext", f"subjectAltName={alternative_names}"] if alternative_names else []))

    def kubeconfig(self, name: str, server: str) -> str:
        """Return a kubeconfig, as JSON, for the holder of a certificate; it refers to no other file."""
        user = {
            "client-certificate-data": _encoded(self.certificate(name)),
            "client-key-data": _encoded(self.key(name)),
        }
        cluster = {"server": server, "certificate-authority-data": _encoded(self.certificate(self.name))}
        return json.dumps(
            {
                "apiVersion": "v1",
                "kind": "Config",
                "clusters": [{"name": "node", "cluster": cluster}],
                "users": [{"name": name, "user": user}],
                "contexts": [{"name": "node", "context": {"cluster": "node", "user": name}}],
                "current-context": "node",
            },
            indent=1,
        )


def make_key(path: Path) -> None:
    """Make an RSA key, for signing the tokens of service accounts."""
    _openssl("genrsa", "-out", str(path), "2048")


def write_private(path: Path, text: str) -> Path:
    """Write a file that nobody else can read."""
    with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "w") as file:
        file.write(text)
    return path


def _encoded(path: Path) -> str:
    return b64encode(path.read_bytes()).decode()


def _openssl(*arguments: str) -> None:
    subprocess.run(["openssl", *arguments], check=True, capture_output=True, stdin=subprocess.DEVNULL)
