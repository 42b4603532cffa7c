"""Checks that a program holds, of every kernel file, the code that its build asked for.

Usage: check_architectures.py PROGRAM 80-real 90a-real 90-virtual

Reads the section .nv_fatbin of an ELF file: one container per .cu file, in it one entry per architecture, either machine
code (`real`) or PTX (`virtual`), which later GPUs compile when the program starts. Machine code of 90a is listed as 90.
Exit status 1 with the first container that has other entries.
"""

import struct
import sys

CONTAINER = struct.Struct("<IHHQ")  # magic, version, bytes of this header, bytes of all entries
ENTRY = struct.Struct("<HHIQIIHHI")  # kind, -, bytes of this header, bytes of the payload, -, -, -, -, architecture
MAGIC = 0xBA55ED50
KINDS = {1: "virtual", 2: "real"}


def section(path, wanted):
    with open(path, "rb") as file:
        data = file.read()
    if data[:6] != b"\x7fELF\x02\x01":
        sys.exit(f"{path}: not a 64-bit little-endian ELF file")
    (table,) = struct.unpack_from("<Q", data, 0x28)
    size, count, names = struct.unpack_from("<HHH", data, 0x3A)
    headers = [struct.unpack_from("<IIQQQQ", data, table + i * size) for i in range(count)]
    texts = headers[names][4]
    for name, _, _, _, offset, length in headers:
        begin = texts + name
        if data[begin : data.index(b"\0", begin)].decode() == wanted:
            return data[offset : offset + length]
    sys.exit(f"{path}: no section {wanted}, so it has no CUDA kernels")


def containers(data):
    at = 0
    while at + CONTAINER.size <= len(data):
        magic, _, header, length = CONTAINER.unpack_from(data, at)
        if magic != MAGIC:
            at += 8  # padding between containers
            continue
        entries, end = [], at + header + length
        at += header
        while at < end:
            kind, _, entry_header, payload, *_, architecture = ENTRY.unpack_from(data, at)
            entries.append(f"{architecture}-{KINDS.get(kind, kind)}")
            at += entry_header + payload
        yield sorted(entries)


def main():
    program, *asked = sys.argv[1:]
    expected = set()
    for name in asked:
        number, _, kind = name.partition("-")
        for one in [kind] if kind else ["real", "virtual"]:  # a bare number asks for both
            expected.add(f"{number.rstrip('af')}-{one}")
    found = list(containers(section(program, ".nv_fatbin")))
    if not found:
        sys.exit(f"{program}: no containers in .nv_fatbin")
    for index, entries in enumerate(found):
        if set(entries) != expected:
            sys.exit(f"{program}: kernel file {index} has {entries}, asked for {sorted(expected)}")
    print(f"{program}: {len(found)} kernel files, each with {', '.join(sorted(expected))}")


if __name__ == "__main__":
    main()
