"""Write unicode_classes.h and unicode_folds.h from this interpreter's unicodedata.

    python make_unicode.py classes > unicode_classes.h
    python make_unicode.py folds > unicode_folds.h

Two tables of ranges. Classes say which characters make words; foldings say what a character becomes
so that case, accents, widths and ligatures do not matter: the composed form of its compatibility
decomposition after case folding, without the accents of alphabetic scripts, and only what makes
words. Another Unicode version is another analyser version (analyzer.h): files remember theirs."""

import sys
import unicodedata as ud

OTHER, LETTER, DIGIT, MARK, IDEOGRAPH = range(5)

# Written without spaces between words: pairs of neighbours are searched instead.
UNSPACED = [
    (0x0E00, 0x0E7F),
    (0x0E80, 0x0EFF),
    (0x1000, 0x109F),
    (0x1100, 0x11FF),
    (0x1780, 0x17FF),
    (0x2E80, 0x2FDF),
    (0x3005, 0x3007),
    (0x3021, 0x3029),
    (0x3031, 0x3035),
    (0x3040, 0x30FF),
    (0x3130, 0x318F),
    (0x31A0, 0x31FF),
    (0x3400, 0x4DBF),
    (0x4E00, 0x9FFF),
    (0xA960, 0xA97F),
    (0xAC00, 0xD7FF),
    (0xF900, 0xFAFF),
    (0xFF66, 0xFFDC),
    (0x1B000, 0x1B2FF),
    (0x20000, 0x3FFFF),
]
# Marks that are accents, vowel points and the like: searching without them is usual.
ACCENTS = [
    (0x0300, 0x036F),
    (0x0483, 0x0489),
    (0x0591, 0x05C7),
    (0x0610, 0x061A),
    (0x064B, 0x065F),
    (0x0670, 0x0670),
    (0x06D6, 0x06ED),
    (0x1AB0, 0x1AFF),
    (0x1DC0, 0x1DFF),
    (0x20D0, 0x20FF),
    (0xFE00, 0xFE0F),
    (0xFE20, 0xFE2F),
]
# A thousand doubles of ideographs, for round trips to old character sets: left as they are.
COMPATIBLE = [(0xF900, 0xFAFF), (0x2F800, 0x2FA1F)]
# Letters with a stroke and the like, which Unicode does not decompose.
STROKES = {
    "ø": "o",
    "ł": "l",
    "đ": "d",
    "ħ": "h",
    "ı": "i",  # noqa: RUF001
    "æ": "ae",
    "œ": "oe",
    "þ": "th",
    "ð": "d",
    "ŧ": "t",
    "ŋ": "n",
    "ɓ": "b",
    "ƈ": "c",
    "ɗ": "d",
    "ɠ": "g",
    "ƙ": "k",
    "ƥ": "p",
    "ƭ": "t",
    "ƴ": "y",
    "ƶ": "z",
}


def within(c, ranges):
    return any(a <= c <= b for a, b in ranges)


def class_of(c):
    kind = ud.category(chr(c))
    if kind in ("Mn", "Mc", "Me") or c in (0x200C, 0x200D, 0x00AD, 0x0640):
        return MARK
    if kind[0] == "N" and kind != "Nl" and not 0x3000 <= c <= 0x4DFF:
        return DIGIT
    if kind[0] == "L" or kind == "Nl":
        return IDEOGRAPH if within(c, UNSPACED) else LETTER
    return OTHER


def silent(c):
    """Marks that searching does without, joiners, soft hyphens."""
    return within(c, ACCENTS) or c in (0x200C, 0x200D, 0x00AD, 0x0640)


def fold(c):
    if class_of(c) == MARK:
        return "" if silent(c) else chr(c)
    text = chr(c)
    for _ in range(2):
        text = ud.normalize("NFKD", text.casefold())
    text = "".join(STROKES.get(x, x) for x in text if not silent(ord(x)))
    text = "".join(x for x in ud.normalize("NFC", text) if class_of(ord(x)) != OTHER)
    return text


def class_ranges():
    ranges = []
    for c in range(0x80, 0x110000):
        kind = class_of(c)
        if ranges and ranges[-1][2] == kind and ranges[-1][1] == c - 1:
            ranges[-1][1] = c
        elif kind != OTHER:
            ranges.append([c, c, kind])
    return ranges


def foldings():
    """(first, last, step, delta) where one becomes one, and the others with their text."""
    ones, texts = [], []
    for c in range(0x80, 0x110000):
        if class_of(c) == OTHER or 0xD800 <= c < 0xE000 or within(c, COMPATIBLE):
            continue
        to = fold(c)
        if to == chr(c):
            continue
        if len(to) != 1:
            texts.append((c, to))
            continue
        delta = ord(to) - c
        if ones and ones[-1][3] == delta and c - ones[-1][1] in (1, 2):
            first, last, step, _ = ones[-1]
            if first == last or c - last == step:
                ones[-1] = (first, c, c - last, delta)
                continue
        ones.append((c, c, 1, delta))
    return ones, texts


def rows(items):
    line = "   "
    for item in items:
        if len(line) + len(item) > 98:
            yield line
            line = "   "
        line += " " + item
    yield line


def table(head, items):
    print(head + " = {")
    print("\n".join(rows(items)))
    print("};\n")


def text_pool(texts):
    """All texts in one, shared where they repeat; {character: (offset, length in bytes)}."""
    pool, places = b"", {}
    for c, to in sorted(texts, key=lambda t: -len(t[1].encode())):
        raw = to.encode()
        at = pool.find(raw)
        if at < 0:
            at, pool = len(pool), pool + raw
        places[c] = (at, len(raw))
    return pool, places


def classes():
    print("/* first, last, class */")
    table(
        "static const struct class_range class_ranges[]",
        [f"{{{first:#x}, {last:#x}, {kind}}}," for first, last, kind in class_ranges()],
    )


def folds():
    ones, texts = foldings()
    pool, places = text_pool(texts)
    print("/* first, last, step, what to add */")
    table(
        "static const struct fold_range fold_ranges[]",
        [f"{{{first:#x}, {last:#x}, {step}, {delta}}}," for first, last, step, delta in ones],
    )
    print("/* character, where its text begins in fold_texts, bytes */")
    table(
        "static const struct fold_text fold_places[]",
        [f"{{{c:#x}, {places[c][0]}, {places[c][1]}}}," for c, _ in texts],
    )
    table("static const unsigned char fold_texts[]", [f"{b}," for b in pool])


def main(what):
    guard = "SYNA_INDEX_UNICODE_" + what.upper() + "_H"
    print(
        "/* Made by make_unicode.py from Unicode " + ud.unidata_version + "; not to be edited. */"
    )
    print("#ifndef " + guard + "\n#define " + guard + "\n")
    {"classes": classes, "folds": folds}[what]()
    print("#endif")


main(sys.argv[1])
