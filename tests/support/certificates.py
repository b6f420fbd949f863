"""A certificate authority of a test's own, by the `openssl` program."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest

_EXTENSIONS = """
[req]
distinguished_name = name
prompt = no
[name]
CN = {name}
[authority]
basicConstraints = critical, CA:TRUE
keyUsage = critical, keyCertSign
subjectKeyIdentifier = hash
[holder]
basicConstraints = critical, CA:FALSE
keyUsage = critical, digitalSignature
subjectAltName = {names}
subjectKeyIdentifier = hash
authorityKeyIdentifier = keyid
"""
_KEY = ("-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1")


class Authority:
    """Signs certificates; each is one PEM file with its key (PKCS #8) in it."""

    def __init__(self, folder: Path, name: str = "authority") -> None:
        if shutil.which("openssl") is None:
            pytest.skip("there is no openssl here, to make certificates with")
        folder.mkdir(parents=True, exist_ok=True)
        self._folder = folder
        self._key = folder / f"{name}.key"
        self.file = folder / f"{name}.pem"
        """Its own certificate: what whoever trusts it is given."""
        _request(self._configuration(name, ""), "authority", self._key, self.file)

    def issue(self, name: str, names: str = "IP:127.0.0.1", *, password: str | None = None) -> Path:
        """The file with a certificate for these names and its key, which a password may protect."""
        key, certificate = self._folder / f"{name}.key", self._folder / f"{name}.crt"
        signed_by = ("-CA", str(self.file), "-CAkey", str(self._key))
        _request(self._configuration(name, names), "holder", key, certificate, *signed_by, password=password)
        together = self._folder / f"{name}.pem"
        together.write_text(key.read_text() + certificate.read_text())
        return together

    def _configuration(self, name: str, names: str) -> Path:
        file = self._folder / f"{name}.cnf"
        file.write_text(_EXTENSIONS.format(name=name, names=names or "DNS:nobody"))
        return file


def _request(
    configuration: Path, extensions: str, key: Path, certificate: Path, *others: str, password: str | None = None
) -> None:
    protection = ("-passout", f"pass:{password}") if password else ("-nodes",)
    files = ("-config", str(configuration), "-keyout", str(key), "-out", str(certificate))
    command = ["openssl", "req", "-x509", *_KEY, "-days", "30", *protection, *files, "-extensions", extensions, *others]
    subprocess.run(command, check=True, capture_output=True, timeout=30)
