"""Documents found by their words: built, added one by one, searched."""

from __future__ import annotations

import importlib.util
import os

from context import Context
from measure import Run, Sample, contest, figures, run_worker
from report import US, Row, Section, at_least, at_least_times, at_most

_BARE = "tantivy, texts not kept"
_NEEDS = {"synadb": "synadb", "bm25s": "bm25s", "tantivy": "tantivy", _BARE: "tantivy"}
_WORKERS = {_BARE: "tantivy-bare"}
_DOCUMENTS = 50_000
_MANY = 500_000  # documents, from which on the floor beside bm25s is higher
_QUERIES = 2_000


def run(context: Context) -> Section:
    """The texts are those of the file in $SYNADB_BENCH_TEXTS, JSON lines with a field "text".

    There are $SYNADB_BENCH_DOCUMENTS of them, where that is set, such as 600000 for the second
    size; from 500,000 on other floors are meant. A file of fewer texts is added to by texts put
    together of its own.
    """
    source = os.environ.get("SYNADB_BENCH_TEXTS", "made")
    kind = "made texts" if source == "made" else "real texts"
    given = os.environ.get("SYNADB_BENCH_DOCUMENTS")
    documents = int(given) if given else min(_DOCUMENTS, context.sizes.keys)
    queries = min(_QUERIES, documents)
    section = Section("text", f"{documents:,} {kind}, {queries:,} queries of two to six words")
    names = [name for name, module in _NEEDS.items() if importlib.util.find_spec(module)]

    def runner(name: str) -> Run:
        def one(_repeat: int) -> list[Sample]:
            folder = context.fresh("text", name)
            try:
                return run_worker(
                    "worker_text.py",
                    _WORKERS.get(name, name),
                    folder,
                    source,
                    documents,
                    queries,
                    context.seed,
                )
            finally:
                context.discard(folder)

        return one

    results = contest({name: runner(name) for name in names}, context.sizes.repeats, "text")
    build = Row("build", "index in bulk", "docs / CPU-s", figures(results, lambda s: s[0].per_cpu))
    search = Row("search", "ten best", "queries / CPU-s", figures(results, lambda s: s[-1].per_cpu))
    keepers = {name: runs for name, runs in results.items() if name in (US, "tantivy")}
    disk = Row(
        "disk",
        "files, texts included",
        "MB",
        figures(keepers, lambda s: s[-1].extra["disk"] / 1e6),
        higher_is_better=False,
    )
    alone = {name: runs for name, runs in results.items() if name != "tantivy"}
    index = Row(
        "index",
        "files of the index alone, without texts",
        "MB",
        figures(alone, lambda s: s[-1].extra["index"] / 1e6),
        higher_is_better=False,
    )
    ours = {US: results[US]} if US in results else {}
    add = Row("add", "one by one, unsynced", "docs / CPU-s", figures(ours, lambda s: s[1].per_cpu))
    reopen = Row("open", "opened again", "docs / CPU-s", figures(ours, lambda s: s[2].per_cpu))
    memory = Row(
        "memory",
        "of its own, opened again: ids, terms, postings; what is mapped is not in it",
        "bytes / posting",
        figures(ours, lambda s: s[-1].extra["memory"]),
        higher_is_better=False,
    )
    section.rows += [build, add, reopen, search, disk, index, memory]
    section.floors += [
        at_least_times(build, 1.0, ["bm25s"], "bulk"),
        at_least(add.value(US), 20_000, "docs / CPU-s", "one by one"),
        at_least_times(
            search, 5.0 if documents >= _MANY else 3.0, ["bm25s"], "search beside bm25s"
        ),
        at_least_times(search, 5.0, ["tantivy"], "search beside tantivy"),
        at_most(memory.value(US), 6.0, "bytes / posting", "memory"),
    ]
    theirs = disk.value("tantivy")
    if theirs:
        section.floors.append(
            at_most(disk.value(US), 1.5 * theirs, "MB", "files, beside 1.5 times tantivy's")
        )
    section.notes.append(
        "bm25s: backend numba, one thread, all queries in one call; its tokenizer without stems. "
        "tantivy: en_stem, one writing thread, once with its texts and once without. bm25s keeps "
        "no texts. SynaDB's index alone is the snapshot beside the log, which holds texts and keys."
    )
    return section
