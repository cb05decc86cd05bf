"""Real texts with real vectors, for the tests of searches that use both.

The one-line descriptions of Debian packages and their MiniLM embeddings, where SYNADB_DATA names a
folder that holds them or it lies beside the source tree; else the docstrings of the standard
library, which are on every machine, and vectors that latent semantic analysis makes of them."""

import functools
import json
import os
import subprocess
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from synadb.demo import lsa, words
from synadb.demo.corpus import collect

ROOT = Path(__file__).resolve().parents[1]
PLACES = [os.environ.get("SYNADB_DATA"), ROOT.parent / "shared" / "data"]
DATA = next((Path(p) for p in PLACES if p and (Path(p) / "text384_base.npy").is_file()), None)


@dataclass
class Corpus:
    """Documents, and questions of the same kind that are not among them. Texts are different."""

    keys: list
    texts: list
    metadata: list  # {"section": str, "size": int}
    rows: np.ndarray
    queries: list  # (vector, text)


def lines(name, count):
    """The first records of a file of JSON lines."""
    with subprocess.Popen(["zstd", "-dcq", str(DATA / name)], stdout=subprocess.PIPE) as unpack:
        taken = [json.loads(line) for line, _ in zip(unpack.stdout, range(count))]
        unpack.stdout.close()
    return taken


def first_of_each(texts):
    """Where each text stands for the first time."""
    seen = set()
    return [i for i, text in enumerate(texts) if not (text in seen or seen.add(text))]


def debian(count, asked):
    known = lines("text384_base.jsonl.zst", 3 * count)
    taken = first_of_each([d["text"] for d in known])[:count]
    questions = lines("text384_query.jsonl.zst", asked)
    vectors = np.load(DATA / "text384_query.npy", mmap_mode="r")[: len(questions)]
    return Corpus(
        [known[i]["name"] for i in taken],
        [known[i]["text"] for i in taken],
        [{"section": known[i]["section"], "size": known[i]["size"]} for i in taken],
        np.load(DATA / "text384_base.npy", mmap_mode="r")[taken].astype(np.float32),
        [(v.astype(np.float32), q["text"]) for v, q in zip(vectors, questions)],
    )


def library(count, asked):
    documents = sorted(collect(), key=lambda d: (hash_of(d.name), d.name))
    counts = [words.weighted([(d.summary, 1.0)]) for d in documents]
    taken = first_of_each([tuple(sorted(terms)) for terms in counts])[: 2 * (count + asked)]
    vectors = lsa.train([counts[i] for i in taken], 384).embed([counts[i] for i in taken])
    told = [(documents[i], vector) for i, vector in zip(taken, vectors) if vector.any()]
    known = [d for d, _ in told[:count]]
    return Corpus(
        [d.name for d in known],
        [d.summary for d in known],
        [{"section": d.module.split(".")[0], "size": len(d.text)} for d in known],
        np.array([vector for _, vector in told[:count]]),
        [(vector, d.summary) for d, vector in told[count : count + asked]],
    )


def hash_of(name):
    """A number that mixes the order of names, the same in every process."""
    value = 5381
    for byte in name.encode():
        value = (value * 33 + byte) & 0xFFFFFFFF
    return value * 2654435761 & 0xFFFFFFFF


@functools.lru_cache
def corpus(count, asked):
    """`count` documents and `asked` questions."""
    made = (library if DATA is None else debian)(count, asked)
    assert len(made.keys) == count and len(made.queries) == asked
    return made
