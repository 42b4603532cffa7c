#!/usr/bin/env python3
"""Reads TensorBoard's event files in a folder, in the order of their names, with nothing of TensorBoard: prints one JSON object an event,
{"step", "wall_time", then "version", "session" or "scalars"}. A wrong checksum, length or field ends it with status 1."""
import glob
import json
import os
import struct
import sys


def crc32c(data):
    crc = 0xffffffff
    for byte in data:
        crc ^= byte
        for _ in range(8):
            crc = crc >> 1 ^ (0x82f63b78 if crc & 1 else 0)
    return crc ^ 0xffffffff


def masked(data):
    crc = crc32c(data)
    return ((crc >> 15 | crc << 17) + 0xa282ead8) & 0xffffffff


def records(data):
    at = 0
    while at < len(data):
        length, length_crc = struct.unpack_from("<QI", data, at)
        assert length_crc == masked(data[at:at + 8]), "checksum of a length"
        body = data[at + 12:at + 12 + length]
        assert len(body) == length, "a record is cut short"
        assert struct.unpack_from("<I", data, at + 12 + length)[0] == masked(body), "checksum of a record"
        yield body
        at += 16 + length


def varint(data, at):
    value = shift = 0
    while True:
        value |= (data[at] & 0x7f) << shift
        at, shift = at + 1, shift + 7
        if data[at - 1] < 0x80:
            return value, at


def fields(data):
    """(number, value) of a message of protocol buffers."""
    at = 0
    while at < len(data):
        key, at = varint(data, at)
        if key & 7 == 0:
            value, at = varint(data, at)
        elif key & 7 == 1:
            value, at = struct.unpack_from("<d", data, at)[0], at + 8
        elif key & 7 == 5:
            value, at = struct.unpack_from("<f", data, at)[0], at + 4
        else:
            assert key & 7 == 2, "a wire type"
            length, at = varint(data, at)
            value, at = data[at:at + length], at + length
            assert len(value) == length
        yield key >> 3, value


def event(data):
    found = dict(fields(data))
    shown = {"wall_time": found[1], "step": found[2]}
    if 3 in found:
        shown["version"] = found[3].decode()
    if 5 in found:
        values = [dict(fields(value)) for number, value in fields(found[5]) if number == 1]
        shown["scalars"] = {value[1].decode(): value[2] for value in values}
        assert len(shown["scalars"]) == len(values), "a tag is there twice"
    if 7 in found:
        shown["session"] = dict(fields(found[7]))[1]
    assert set(found) <= {1, 2, 3, 5, 7}
    return shown


if __name__ == "__main__":
    assert crc32c(b"123456789") == 0xe3069283  # the check value of CRC-32C
    for path in sorted(glob.glob(os.path.join(glob.escape(sys.argv[1]), "events.out.tfevents.*"))):
        with open(path, "rb") as file:
            for body in records(file.read()):
                print(json.dumps({"file": os.path.basename(path), **event(body)}))
