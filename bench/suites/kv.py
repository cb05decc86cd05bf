"""Gets and puts of 64-byte values, overwritten keys, durable puts, prefix scans."""

from __future__ import annotations

from pathlib import Path

from context import PYTHON, C, Context
from measure import Sample, contest, figure, figures
from peers import ALL
from report import US, Floor, Row, Section, at_least, at_least_times, at_most
from workloads import BATCH, VALUE_BYTES

PER_CPU = "op / CPU-s"
LMDB = ["lmdb", "lmdb-map"]
THREADS = 8
NOISE = 1.10  # two measurements of the same thing may differ by this much


def run(context: Context) -> Section:
    section = Section("kv", f"Keys of 16 bytes, values of {VALUE_BYTES}")
    for language in context.languages():
        _get(context, section, language)
        _put(context, section, language)
        _batch(context, section, language)
        _overwritten(context, section, language)
    _durable(context, section)
    _prefix(context, section)
    section.notes.append(
        "Puts are commits of their own and survive kill -9 in every store (not power loss): "
        "LMDB with MDB_NOSYNC (lmdb-map: and MDB_WRITEMAP), RocksDB with its log written and not "
        "synced, SQLite with a write-ahead log and synchronous=OFF. lmdb-fresh renews its read "
        "transaction for every get, as SynaDB in effect does; lmdb keeps one for all. "
        "dict+file is a hash table in memory and one write() a put: the limit, without promises."
    )
    return section


def _per_cpu(samples: list[Sample]) -> float:
    return samples[0].per_cpu


def load(context: Context, language: str, keys: int, value_bytes: int) -> dict[str, Path]:
    """A filled store for every contestant."""
    folders = {}
    for name in context.contestants(language):
        folders[name] = context.fresh(language, name, "loaded")
        context.task(language, name, "load", folders[name], keys, value_bytes)
    return folders


def _get(context: Context, section: Section, language: str) -> None:
    sizes = context.sizes
    folders = load(context, language, sizes.keys, VALUE_BYTES)
    results = contest(
        {
            name: lambda _, name=name, folder=folder: context.task(
                language, name, "get", folder, sizes.keys, VALUE_BYTES, sizes.gets
            )
            for name, folder in folders.items()
        },
        sizes.repeats,
        f"get, {language}",
    )
    for folder in folders.values():
        context.discard(folder)
    row = Row(
        f"get_{language}",
        f"get, random, {sizes.keys:,} keys, {language}",
        PER_CPU,
        figures(results, _per_cpu),
    )
    section.rows.append(row)
    section.floors.append(
        at_least_times(row, 1.3 if language == PYTHON else 3.0, LMDB, f"get, 64 B, {language}")
    )


def _put(context: Context, section: Section, language: str) -> None:
    row = _writing(context, language, "put", "put, unsynced", context.sizes.puts, VALUE_BYTES)
    section.rows.append(row)
    if language == PYTHON:
        section.floors.append(
            at_least_times(row, 1.5, [*LMDB, "rocksdict", "sqlite3"], "put, 64 B, no sync")
        )


def _batch(context: Context, section: Section, language: str) -> None:
    row = _writing(
        context,
        language,
        "batch",
        f"put in commits of {BATCH:,}",
        context.sizes.puts * 5,
        VALUE_BYTES,
        BATCH,
    )
    section.rows.append(row)
    if language == PYTHON:
        section.floors.append(
            at_least_times(row, 1.5, [*LMDB, "rocksdict", "sqlite3"], "put_many, 64 B")
        )


def _writing(context: Context, language: str, task: str, what: str, *arguments: object) -> Row:
    results = contest(
        {
            name: context.on_fresh_folder(language, name, task, *arguments)
            for name in context.contestants(language)
        },
        context.sizes.repeats,
        f"{task}, {language}",
    )
    return Row(f"{task}_{language}", f"{what}, {language}", PER_CPU, figures(results, _per_cpu))


def _overwritten(context: Context, section: Section, language: str) -> None:
    """How much longer a get takes when the key was written many times."""
    sizes = context.sizes
    results = contest(
        {
            name: context.on_fresh_folder(
                language, name, "over", sizes.overwrites, VALUE_BYTES, sizes.gets
            )
            for name in context.contestants(language)
        },
        sizes.repeats,
        f"overwritten, {language}",
    )
    row = Row(
        f"over_{language}",
        f"get after {sizes.overwrites:,} overwrites / after one put, {language}",
        "time ratio",
        figures(results, lambda samples: samples[0].per_cpu / samples[1].per_cpu),
        higher_is_better=False,
    )
    section.rows.append(row)
    section.floors.append(
        at_most(row.value(US), NOISE, "x", f"get after {sizes.overwrites:,} overwrites, {language}")
    )


def _durable(context: Context, section: Section) -> None:
    """Commits a second by the clock: what is waited for is the disk. One thread and many take
    turns of a fraction of a second, and their ratio is that of neighbours."""
    sizes = context.sizes
    results = contest(
        {
            name: context.on_fresh_folder(
                PYTHON,
                name,
                "durable",
                sizes.durable,
                VALUE_BYTES,
                THREADS if ALL[name].threads else 1,
                sizes.durable_rounds,
            )
            for name in context.peers
        },
        min(sizes.repeats, 3),
        "durable",
    )
    threaded = {name: runs for name, runs in results.items() if ALL[name].threads}
    ones = {name: _turns(runs, 0, 2 if name in threaded else 1) for name, runs in results.items()}
    many = {name: _turns(runs, 1, 2) for name, runs in threaded.items()}
    for threads, turns in ((1, ones), (THREADS, many)):
        section.rows.append(
            Row(
                f"durable_{threads}",
                f"durable put, {threads} thread{'s' * (threads > 1)}, Python",
                "commits / s (clock)",
                {name: figure([turn.per_wall for turn in of]) for name, of in turns.items()},
            )
        )
    ratio = Row(
        "durable_ratio",
        f"durable put, {THREADS} threads / the turn of 1 thread before, Python",
        "ratio (clock)",
        {
            name: figure([turn.per_wall / one.per_wall for one, turn in zip(ones[name], of)])
            for name, of in many.items()
        },
        note=_without_a_store(context),
    )
    section.rows.append(ratio)
    section.floors += [
        _one_sync_a_commit(ones[US]),
        at_least(ratio.value(US), 5, "x those of one", f"durable commits, {THREADS} threads"),
    ]


def _without_a_store(context: Context) -> str:
    """What C threads reach that write and sync and do nothing else, on this disk: with quick syncs
    the threads' own change of turns is what bounds the ratio."""
    if not context.program:
        return ""
    sizes = context.sizes
    run = context.on_fresh_folder(
        C, "limit", "durable", sizes.durable, VALUE_BYTES, THREADS, sizes.durable_rounds
    )
    samples = [sample for repeat in range(min(sizes.repeats, 3)) for sample in run(repeat)]
    one, many = samples[::2], samples[1::2]
    ratio = figure([turn.per_wall / alone.per_wall for alone, turn in zip(one, many)])
    alone = figure([turn.per_wall for turn in one])
    return (
        f"the limit: C threads that write and sync without a store, {ratio.value:.2f} "
        f"({alone.value:,.0f} commits / s by one)"
    )


def _turns(runs: list[list[Sample]], first: int, step: int) -> list[Sample]:
    return [turn for run in runs for turn in run[first::step]]


def _one_sync_a_commit(turns: list[Sample]) -> Floor:
    syncs = [turn.extra["syncs"] / turn.operations for turn in turns]
    return Floor(
        "durable put: syncs a commit, 1 thread",
        "exactly 1",
        f"{min(syncs):g} to {max(syncs):g}",
        min(syncs) == max(syncs) == 1.0,
    )


def _prefix(context: Context, section: Section) -> None:
    keys = context.sizes.open_keys
    results = contest(
        {
            name: context.on_fresh_folder(PYTHON, name, "prefix", keys)
            for name in context.peers
            if ALL[name].ordered
        },
        min(context.sizes.repeats, 3),
        "prefix scan",
    )
    for at, which, limit in ((0, "first", 300.0), (1, "later", 0.15)):
        row = Row(
            f"prefix_{which}",
            f"scan of a prefix, 200 of {keys:,} keys, {which}, Python",
            "ms (CPU)",
            figures(results, lambda samples, at=at: 1e3 * samples[at].cpu),
            higher_is_better=False,
        )
        section.rows.append(row)
        section.floors.append(at_most(row.value(US), limit, "ms", f"prefix scan, {which}"))
