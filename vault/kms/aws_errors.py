"""What a failure at AWS KMS means, in one of our own words. Nothing AWS or a stranger said goes into a message.

Words for what passes by itself: ``throttled``, ``unavailable``, ``timeout``. Words for what somebody must mend:
``denied``, ``disabled``, ``pending_deletion``, ``invalid_state``, ``not_found``, ``unsuitable``, ``refused``. And
``no_credentials``, which passes if there is a service that gives them and it did not answer.
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Final

from vault.errors import CannotOpen, KeyUnavailable

_TRANSIENT = frozenset({"throttled", "unavailable", "timeout"})

_STALE_CREDENTIALS = frozenset({
    "ExpiredToken", "ExpiredTokenException", "InvalidClientTokenId", "InvalidSignatureException",
    "SignatureDoesNotMatch", "UnrecognizedClientException",
})  # fmt: skip

_BY_CODE: Final[Mapping[str, str]] = MappingProxyType({
    **dict.fromkeys(_STALE_CREDENTIALS, "denied"),
    **dict.fromkeys((
        "AccessDenied", "AccessDeniedException", "IncompleteSignature", "InvalidIdentityToken",
        "MissingAuthenticationToken", "MissingAuthenticationTokenException", "NotAuthorized", "OptInRequired",
        "RequestExpired",
    ), "denied"),
    **dict.fromkeys((
        "LimitExceeded", "LimitExceededException", "RequestLimitExceeded", "Throttling", "ThrottlingException",
        "TooManyRequestsException",
    ), "throttled"),
    **dict.fromkeys(("DependencyTimeoutException", "RequestTimeout", "RequestTimeoutException"), "timeout"),
    **dict.fromkeys(("IDPCommunicationError", "KMSInternalException", "KeyUnavailableException"), "unavailable"),
    **dict.fromkeys(("InvalidArnException", "NotFoundException"), "not_found"),
    "DisabledException": "disabled",
    "InvalidKeyUsageException": "unsuitable",
})  # fmt: skip
"""Codes of KMS, of the gateway in front of every AWS service, and of STS, from which credentials may come."""

_ABOUT_THE_CIPHERTEXT = frozenset({"IncorrectKeyException", "InvalidCiphertextException"})

_BY_CLASS: Final[Mapping[str, tuple[str, bool]]] = MappingProxyType({
    "ConnectTimeoutError": ("timeout", True),
    "ReadTimeoutError": ("timeout", True),
    **dict.fromkeys((
        "ConfigNotFound", "ConfigParseError", "InvalidConfigError", "NoCredentialsError", "PartialCredentialsError",
        "ProfileNotFound", "RefreshWithMFAUnsupportedError", "SSOError", "TokenRetrievalError",
    ), ("no_credentials", False)),
    **dict.fromkeys(("CredentialRetrievalError", "MetadataRetrievalError"), ("no_credentials", True)),
    "ParamValidationError": ("refused", False),
})  # fmt: skip
"""boto's errors by the name of their class or of one it derives from, for boto is imported late."""


def failure(error: Exception, operation: str, key_id: str) -> CannotOpen | KeyUnavailable:
    """Say in our words what boto3 raised. What is not known passes by itself if it came from the way there.

    Args:
        error: The exception; only its class, its code and its HTTP status count.
        operation: ``encrypt``, ``decrypt`` or ``describe_key``.
        key_id: The key, as it is named in our error.
    """
    answer = _answer(error)
    if answer is None:
        names = [cls.__name__ for cls in type(error).__mro__]
        word, transient = next((_BY_CLASS[name] for name in names if name in _BY_CLASS), ("unavailable", True))
        return KeyUnavailable(key_id, word, transient=transient)
    code, message, status = answer
    # Key and sizes were checked before they were sent, so that it is the ciphertext or the context which is not valid.
    if code in _ABOUT_THE_CIPHERTEXT or (operation == "decrypt" and code == "ValidationException"):
        return CannotOpen()
    word = _state(message) if code == "KMSInvalidStateException" else _BY_CODE.get(code) or _by_status(code, status)
    return KeyUnavailable(key_id, word, transient=word in _TRANSIENT)


def is_about_credentials(error: Exception) -> bool:
    """Whether credentials were missing or are past their time, so that reading them anew may help."""
    answer = _answer(error)
    if answer is not None:
        return answer[0] in _STALE_CREDENTIALS
    return any(_BY_CLASS.get(cls.__name__, ("",))[0] == "no_credentials" for cls in type(error).__mro__)


def unreadable(key_id: str) -> KeyUnavailable:
    """An answer that is none of KMS's: from something in between, which may be gone next time."""
    return KeyUnavailable(key_id, "unavailable", transient=True)


def _answer(error: Exception) -> tuple[str, str, int] | None:
    """Code, message and HTTP status of a ``ClientError``."""
    response = getattr(error, "response", None)
    if not isinstance(response, Mapping):
        return None
    said, about = response.get("Error", {}), response.get("ResponseMetadata", {})
    status = about.get("HTTPStatusCode")
    return str(said.get("Code", "")), str(said.get("Message", "")), status if isinstance(status, int) else 0


def _state(message: str) -> str:
    """Which of our words a key's state is. AWS tells states apart in prose only.

    A key whose store is not connected is in the state Unavailable, one just being made in Creating: both pass.
    """
    said = message.lower().replace("_", " ")
    if "pending deletion" in said or "pendingdeletion" in said or "pending replica deletion" in said:
        return "pending_deletion"
    return "unavailable" if any(word in said for word in ("unavailable", "creating", "key store")) else "invalid_state"


def _by_status(code: str, status: int) -> str:
    """What an unknown code means. boto takes the status for the code when the answer has none."""
    if status in (401, 403):
        return "denied"
    if status == 429:
        return "throttled"
    is_from_kms = bool(code) and not code.isdigit()
    return "refused" if is_from_kms and status < 500 else "unavailable"
