"""Whose command it is: known by a signature, or by the topic it came on, and by nothing that it says of itself."""

from __future__ import annotations

from collections.abc import Mapping

from events.command_signature import KEY, SIGNATURE, is_signed, signing_secret
from execution.access_errors import InvalidApiKeyError
from execution.command_errors import UntrustedCommandError
from execution.keys import KeyRing
from execution.principal import Principal, Scope
from execution.settings import Settings

_WRITES = frozenset({Scope.WRITE})


class CommandTrust:
    """Says who has sent a record, if that can be known.

    A signature stands for an API key: its tenant, its scopes, its end and its revocation count. The brokers do not
    tell who has produced a record; so a topic to which only one tenant may write says it, where one is configured.
    """

    def __init__(self, keys: KeyRing, settings: Settings) -> None:
        self._keys = keys
        self._settings = settings

    async def sender_of(self, topic: str, headers: Mapping[str, bytes], data: bytes) -> Principal:
        """Who sends.

        Raises:
            UntrustedCommandError: nobody can know.
            DatabaseError: keys cannot be looked up now.
        """
        principal = await self._principal(topic, headers, data)
        claimed = headers.get("ce_tenant")
        if claimed is not None and claimed != principal.tenant_id.encode():
            raise UntrustedCommandError("its tenant is not its sender's")
        return principal

    async def _principal(self, topic: str, headers: Mapping[str, bytes], data: bytes) -> Principal:
        if (tenant := self._settings.kafka_commands_tenants.get(topic)) is not None:
            return Principal(tenant_id=tenant, scopes=_WRITES)
        if SIGNATURE in headers:
            return await self._signer(topic, headers, data)
        if self._settings.kafka_commands_allow_unsigned:
            return Principal(tenant_id=self._settings.tenant_id, scopes=_WRITES)
        raise UntrustedCommandError("it is not signed")

    async def _signer(self, topic: str, headers: Mapping[str, bytes], data: bytes) -> Principal:
        master = self._settings.kafka_commands_secret
        if master is None:
            raise UntrustedCommandError("it is signed, and EXECUTION_KAFKA_COMMANDS_SECRET is not set here")
        key = headers.get(KEY, b"").decode("ascii", errors="replace")
        if not is_signed(signing_secret(master.get_secret_value(), key), key, topic, headers, data):
            raise UntrustedCommandError("its signature is not that of its key")
        try:
            return await self._keys.principal_named(key)
        except InvalidApiKeyError as error:
            raise UntrustedCommandError(f"of its key, {error.problem}") from None
