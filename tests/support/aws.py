"""AWS KMS on this machine: moto's server in a process of its own, behind a proxy that makes it more like the real one.

Where moto does otherwise than AWS's API reference says, ``AwsDialect`` puts it right, so that the adapter need not:

* To ``Decrypt``, moto answers AccessDeniedException for a ciphertext whose key it does not find or which is not the one
  named. AWS answers InvalidCiphertextException and IncorrectKeyException.
* moto cannot decrypt under a multi-Region key. Here one is an ordinary key under another name, and a replica is the
  same key under another region's.
"""

from __future__ import annotations

import base64
import json
import os
import re
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Final
from urllib.parse import urlencode

import boto3
import pytest

from tests.support.kms_faults import Answer, Asked, FaultProxy, Request
from vault.kms.aws import AwsKms, open_aws
from vault.ports import Kms

HOME: Final = "eu-central-1"
REPLICAS: Final = ("eu-west-1", "us-east-1")
ALIAS: Final = "alias/evergrant"
SECRET_KEY: Final = "not-to-be-seen/in+any+message"
SESSION_TOKEN: Final = "IQoJ-not-to-be-seen-either"

_ACCESS_KEY = "AKIAIOSFODNN7EXAMPLE"  # of AWS's own documentation
_START_S = 60.0
_SERVER = """
import os, sys, threading
threading.Thread(target=lambda: (sys.stdin.read(), os._exit(0)), daemon=True).start()
from moto.server import main
main(["-H", "127.0.0.1", "-p", sys.argv[1]])
"""


def refusal(code: str, status: int = 400, message: str = "") -> Answer:
    """What AWS answers when it does not do what it was asked."""
    body = json.dumps({"__type": code, "message": message}).encode()
    return Answer(status, body, {"content-type": "application/x-amz-json-1.1"})


class AwsDialect:
    """KMS as AWS speaks it, and the differences between moto and AWS."""

    def __init__(self) -> None:
        self.keys: set[str] = set()
        """Ids of the keys there are."""
        self.replicated: dict[str, str] = {}
        """Ids of multi-Region keys, and the id moto knows each by."""

    def read(self, request: Request) -> Asked:
        said = json.loads(request.body or b"{}")
        operation = request.headers.get("x-amz-target", "").rpartition(".")[2]
        region = re.search(r"/([a-z0-9-]+)/kms/aws4_request", request.headers.get("authorization", ""))
        context = said.get("EncryptionContext", {})
        return Asked(operation, said.get("KeyId", ""), region[1] if region else "", context)

    def onward(self, request: Request, asked: Asked) -> Request:
        body, headers = request.body.decode(), dict(request.headers)
        for name, known_as in self.replicated.items():
            body = body.replace(name, known_as)
        if asked.region in REPLICAS:
            body = body.replace(f"arn:aws:kms:{asked.region}:", f"arn:aws:kms:{HOME}:")
            headers["authorization"] = headers["authorization"].replace(f"/{asked.region}/kms/", f"/{HOME}/kms/")
        return request._replace(path="/", body=body.encode(), headers=headers)

    def back(self, answer: Answer, request: Request, asked: Asked) -> Answer:
        body = answer.body.decode()
        if asked.operation == "Decrypt" and answer.status == 400 and "AccessDeniedException" in body:
            sealed_by = base64.b64decode(json.loads(request.body)["CiphertextBlob"])[:36].decode(errors="replace")
            return refusal("IncorrectKeyException" if sealed_by in self.keys else "InvalidCiphertextException")
        for name, known_as in self.replicated.items():
            if name in asked.key:
                body = body.replace(known_as, name)
        if asked.region in REPLICAS:
            body = body.replace(f"arn:aws:kms:{HOME}:", f"arn:aws:kms:{asked.region}:")
        return answer._replace(body=body.encode())


@dataclass(frozen=True)
class AwsStandIn:
    """A KMS with two keys, an alias for the first and a multi-Region key; and the proxy before it."""

    proxy: FaultProxy
    key: str
    other: str
    replicated: str
    """With replicas in ``REPLICAS``. All three are ARNs in ``HOME``."""
    admin: Any
    """A client that goes past the proxy."""

    def uri(self, key: str, **parameters: str) -> str:
        """What stands after ``aws-kms:``, with the proxy as endpoint."""
        return f"{key}?{urlencode({'endpoint': self.proxy.url + '/{region}', **parameters})}"

    def open(self, key: str = "", **parameters: str) -> Kms:
        """A KMS as ``open_kms`` would make it; the first key, when none is named."""
        return open_aws(self.uri(key or self.key, **parameters))

    def with_replicas(self, **parameters: str) -> AwsKms:
        """The multi-Region key, with its replicas."""
        kms = self.open(self.replicated, replicas=",".join(REPLICAS), **parameters)
        assert isinstance(kms, AwsKms)
        return kms

    def point_alias(self, key: str) -> None:
        """Let the alias name this key."""
        self.admin.update_alias(AliasName=ALIAS, TargetKeyId=key)


@contextmanager
def aws_stand_in() -> Iterator[AwsStandIn]:
    """Start moto and the proxy, make the keys. It takes two seconds, ten on a busy machine."""
    dialect = AwsDialect()
    with moto_server() as target, FaultProxy(target, dialect) as proxy:
        admin = boto3.client(
            "kms", HOME, endpoint_url=f"http://{target}", aws_access_key_id=_ACCESS_KEY, aws_secret_access_key="any"
        )
        key, other, third = (admin.create_key()["KeyMetadata"] for _ in range(3))
        dialect.keys |= {each["KeyId"] for each in (key, other, third)}
        name = "mrk-" + third["KeyId"].replace("-", "")
        dialect.replicated[name] = third["KeyId"]
        admin.create_alias(AliasName=ALIAS, TargetKeyId=key["KeyId"])
        yield AwsStandIn(proxy, key["Arn"], other["Arn"], third["Arn"].replace(third["KeyId"], name), admin)


@contextmanager
def moto_server() -> Iterator[str]:
    """Run moto's server on a free port and yield ``HOST:PORT``. It ends with us, however we end."""
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    command = [sys.executable, "-c", _SERVER, str(port)]
    server = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        _wait_for(server, port)
        yield f"127.0.0.1:{port}"
    finally:
        server.kill()
        server.communicate()


def _wait_for(server: subprocess.Popen[bytes], port: int) -> None:
    deadline = time.monotonic() + _START_S
    while True:
        try:
            socket.create_connection(("127.0.0.1", port), timeout=1).close()
            return
        except OSError:
            if server.poll() is not None or time.monotonic() > deadline:
                raise RuntimeError(f"moto's server does not answer (exit status {server.poll()})") from None
            time.sleep(0.02)


def use_credentials(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let boto3 find our credentials in the environment, and nothing of the machine's own."""
    for name in [name for name in os.environ if name.startswith("AWS_") or name.lower().endswith("_proxy")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", _ACCESS_KEY)
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", SECRET_KEY)
    monkeypatch.setenv("AWS_SESSION_TOKEN", SESSION_TOKEN)
    forget_the_machine(monkeypatch)


def forget_the_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let boto3 find no files and ask no metadata service."""
    monkeypatch.setenv("AWS_CONFIG_FILE", os.devnull)
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", os.devnull)
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
