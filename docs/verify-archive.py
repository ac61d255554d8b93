#!/usr/bin/env python3
"""Verifies an archive of audit records (`kekctl audit archive`) without any code of kekd's: with Python's own
library and, for the signature, the openssl command. docs/formats.md, "Archive of audit records", says what
the file is.

  python3 verify-archive.py FILE LOG-KEY.pem

Exit status: 0 verified; 1 refused, and why; 2 wrong usage."""

import base64
import hashlib
import subprocess
import sys
import tempfile


def refuse(why):
    sys.exit(f"REFUSED {why}")


def sha(*parts):
    return hashlib.sha256(b"".join(parts)).digest()


def root_of(leaves):
    """RFC 6962 section 2.1."""
    if len(leaves) == 1:
        return leaves[0]
    left = 1 << (len(leaves) - 1).bit_length() - 1
    return sha(b"\1", root_of(leaves[:left]), root_of(leaves[left:]))


def main(path, log_key):
    file = open(path, "rb")
    whole = hashlib.sha256(open(path, "rb").read()).hexdigest()
    line = lambda: file.readline().decode().rstrip("\n")
    if line() != "kekd-audit-archive-v1":
        refuse("the first line")
    instance = line().removeprefix("instance ")
    first, until = map(int, line().removeprefix("records ").split())
    outside = []
    while (text := line()).startswith("outside "):
        outside.append(bytes.fromhex(text.removeprefix("outside ")))
    note = file.read(int(text.removeprefix("note "))).decode()

    leaves = []
    for index in range(first, until):
        size = int.from_bytes(file.read(4), "big")
        record = file.read(size)
        if len(record) != size or size == 0:
            refuse(f"record {index}: the file ends")
        leaves.append(sha(b"\0", record))
    if file.read(1):
        refuse("the file goes on behind its last record")

    origin, size, root = note.split("\n")[:3]
    size, root = int(size), base64.b64decode(root)
    if origin != f"kekd/audit/{instance}":
        refuse("the note is of another log")

    def root_over(start, end):
        """From the records where they are all here, else from the next root outside, else from the halves."""
        if first <= start and end <= until:
            return root_of(leaves[start - first : end - first])
        if end <= first or until <= start:
            return outside.pop(0)
        middle = start + (1 << (end - start - 1).bit_length() - 1)
        return sha(b"\1", root_over(start, middle), root_over(middle, end))

    if root_over(0, size) != root or outside:
        refuse("the records and the roots outside do not make the root of the note")

    # C2SP signed-note: the key id of 4 bytes, then the ECDSA signature over the text.
    text, _, lines = note.partition("\n\n")
    spki = base64.b64decode("".join(open(log_key).read().split("-----")[2].split()))
    for signature in lines.splitlines():
        name, blob = signature.removeprefix("\u2014 ").split(" ")
        if name != origin or base64.b64decode(blob)[:4] != sha(spki)[:4]:
            continue
        with tempfile.NamedTemporaryFile() as out:
            out.write(base64.b64decode(blob)[4:])
            out.flush()
            command = ["openssl", "dgst", "-sha256", "-verify", log_key, "-signature", out.name]
            if subprocess.run(command, input=(text + "\n").encode(), capture_output=True).returncode:
                refuse("the signature in the note")
            print(f"records {first} to {until - 1} of the instance {instance} verify, SHA-256 {whole}")
            return
    refuse("no signature by the log")


if __name__ == "__main__":
    if len(sys.argv) != 3:
        sys.exit(2)
    main(*sys.argv[1:])
