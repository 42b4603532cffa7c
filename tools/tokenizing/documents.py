"""What happens to documents before they are encoded: which side of the split they are on, and where long ones are cut."""
import re

import xxhash

from .errors import InputError

HASHED = 1 << 16  # characters of a document's beginning that decide its side
PIECE = 1 << 18  # characters
CONTEXT = 1000  # characters on each side of a cut that are encoded to check it
LONGEST_PIECE = 1 << 24
TRIES = 16  # places per stretch of text where a cut is tried


class Piece:
    """A part of a document, fit for one call of the tokenizer."""
    __slots__ = ("text", "validation", "ends")

    def __init__(self, text, validation, ends):
        self.text, self.validation, self.ends = text, validation, ends


def is_validation(beginning, fraction):
    """Whether the document that begins with these characters is held out: a function of the text alone."""
    return xxhash.xxh3_64_intdigest(beginning[:HASHED].encode("utf-8", "replace")) < fraction * 2**64


class Documents:
    """The documents of one source, without the empty ones, which it counts."""

    def __init__(self, source, val_fraction):
        self.source, self.val_fraction = source, val_fraction
        self.empty = 0

    def parts(self):
        """(text, ends, validation) in order; the first part of a document is at least HASHED characters, or all of it."""
        held, validation, begun = "", False, False
        for text, ends in self.source.read():
            if begun:
                yield text, ends, validation
                begun = not ends
                continue
            held += text
            if not ends and len(held) < HASHED:
                continue
            if not held:
                self.empty += 1
                continue
            validation = is_validation(held, self.val_fraction)
            yield held, ends, validation
            held, begun = "", not ends

    def pieces(self, tokenizer):
        """The same as Pieces of about PIECE characters, cut where that changes no token."""
        held, begin, limit = "", 0, PIECE
        for text, ends, validation in self.parts():
            held, begin = held[begin:] + text, 0
            while len(held) - begin >= limit + CONTEXT:
                cut = place_to_cut(held[begin:begin + limit + CONTEXT], limit, tokenizer)
                if cut is not None:
                    yield Piece(held[begin:begin + cut], validation, False)
                    begin, limit = begin + cut, PIECE
                elif limit < LONGEST_PIECE:
                    limit *= 2
                else:
                    raise InputError(f"{self.source.path}: {LONGEST_PIECE} characters without a place where this tokenizer lets a "
                                     "document be cut; split the text with --document-separator, or use another tokenizer")
            if ends:
                yield Piece(held[begin:], validation, True)
                held, begin, limit = "", 0, PIECE


BEFORE_LINES = re.compile(r"(?<=\S\n)(?=\S)")
BEFORE_SPACES = re.compile(r"(?<=\S)(?= \S)")


def place_to_cut(text, limit, tokenizer):
    """The last place before `limit` where both sides encoded apart give the tokens of the whole; None if none is found. Depends on
    text[:limit + CONTEXT] only."""
    begin = limit // 2
    for places in (BEFORE_LINES, BEFORE_SPACES):
        found = [match.start() for match in places.finditer(text, begin, limit)]
        for cut in found[-TRIES:][::-1]:
            left, right = text[max(0, cut - CONTEXT):cut], text[cut:cut + CONTEXT]
            if tokenizer.encode(left) + tokenizer.encode(right) == tokenizer.encode(left + right):
                return cut
    return None
