"""Where some vectors are far longer than others, a GravityWellIndex finds what it promises."""

import numpy as np
import pytest

from synadb import GravityWellIndex

ROWS, DIMS, ASKED = 9_000, 64, 60


def a_few_long_rows(rng, count):
    rows = rng.normal(size=(count, DIMS))
    rows[::50] *= 1000
    return rows


def lognormal_lengths(rng, count):
    return rng.normal(size=(count, DIMS)) * np.exp(2 * rng.normal(size=(count, 1)))


def heavy_tails(rng, count):
    return rng.standard_t(2, size=(count, DIMS))


def check(store, queries):
    truth = [hits[-1].score for hits in store.search_batch(queries, 10, nprobe=100_000)]
    for how in ({"nprobe": 50}, {"nprobe": 100}, {"recall": 0.9}, {"recall": 0.95}):
        least = how.get("recall", 0.98 if how.get("nprobe") == 50 else 1) - 0.03
        together = store.search_batch(queries, 10, **how)
        alone = [store.search(query, 10, **how) for query in queries]
        for found in (together, alone):
            near = [hit.score <= last for hits, last in zip(found, truth) for hit in hits]
            share = sum(near) / (10 * ASKED)
            said = store.explain(queries[0], 10, **how).recall
            assert share >= least, (how, share)
            assert share >= said - 0.05, (how, share, said)


@pytest.mark.parametrize("metric", ["cosine", "euclidean", "dot_product"])
@pytest.mark.parametrize("made", [a_few_long_rows, lognormal_lengths, heavy_tails])
def test_nprobe_and_recall_find_what_they_promise_among_outliers(tmp_path, metric, made):
    rng = np.random.default_rng(3)
    rows, queries = made(rng, ROWS).astype(np.float32), made(rng, ASKED).astype(np.float32)
    if made is a_few_long_rows:
        queries = rng.normal(size=queries.shape).astype(np.float32)
    path, half = tmp_path / "wells", ROWS // 2
    keys = [str(i) for i in range(ROWS)]
    with GravityWellIndex(path, DIMS, metric=metric) as store:
        store.initialize(rows[:half])
        store.insert_batch(keys[:half], rows[:half])
        check(store, queries)
        store.insert_batch(keys[half:], rows[half:])
        check(store, queries)
    with GravityWellIndex(path, DIMS, metric=metric) as store:
        check(store, queries)
