"""The stores that are compared, each used as its own documentation recommends for speed.

All of them at the same level of durability. Unsynced (the default here): a put is a commit of its
own and is in the page cache when it returns, so kill -9 loses nothing and power loss may. Synced:
a put is on disk when it returns. `reader()` and `writer()` hand out the store's own callables
wherever that is possible, so that no wrapper of ours slows a peer down.
"""

from __future__ import annotations

import importlib.util
import os
import sqlite3
from collections.abc import Callable, Iterable, Sequence
from itertools import islice
from pathlib import Path
from typing import Any

MAP_BYTES = 64 << 30

Reader = Callable[[Any], Any]
Writer = Callable[[Any, bytes], Any]


class Peer:
    """What a worker needs of a store. Keys are of the type that the store likes best."""

    name = ""
    module: str | None = None  # what has to be installed
    ordered = True
    threads = True  # one handle serves many threads at a time
    db: Any = None

    def __init__(self, folder: Path, sync: bool = False) -> None:
        raise NotImplementedError

    @staticmethod
    def key(text: str) -> Any:
        return text.encode()

    def reader(self, writes_between: bool) -> Reader:
        """A callable key -> value; it need not see later puts unless `writes_between`."""
        raise NotImplementedError

    def writer(self) -> Writer:
        raise NotImplementedError

    def put_many(self, pairs: Sequence[tuple[Any, bytes]]) -> None:
        """All pairs in one commit."""
        raise NotImplementedError

    def scan(self, start: Any, count: int) -> int:
        """Read `count` records with their values in key order from `start` on; how many came."""
        raise NotImplementedError

    def prefix(self, start: Any) -> int:
        """Read all records whose key begins with `start`, with their values; how many came."""
        raise NotImplementedError

    def close(self) -> None:
        raise NotImplementedError


class SynaPeer(Peer):
    name, module = "synadb", "synadb"

    def __init__(self, folder: Path, sync: bool = False) -> None:
        from synadb import SynaDB

        self.db = SynaDB(folder / "bench.db", sync_on_write=sync)

    @staticmethod
    def key(text: str) -> str:
        return text

    def reader(self, writes_between: bool) -> Reader:
        return self.db.get_bytes

    def writer(self) -> Writer:
        return self.db.put_bytes

    def put_many(self, pairs: Sequence[tuple[Any, bytes]]) -> None:
        self.db.put_many(pairs)

    def scan(self, start: Any, count: int) -> int:
        return sum(1 for _ in islice(self.db.scan(start=start), count))

    def prefix(self, start: Any) -> int:
        return sum(1 for _ in self.db.scan(prefix=start))

    def close(self) -> None:
        self.db.close()


class LmdbPeer(Peer):
    """LMDB without syncs; pages are written with write(2)."""

    name, module = "lmdb", "lmdb"
    writemap = False

    def __init__(self, folder: Path, sync: bool = False) -> None:
        import lmdb

        self.env = lmdb.open(
            str(folder / "lmdb"),
            map_size=MAP_BYTES,
            sync=sync,
            metasync=sync,
            writemap=self.writemap,
            map_async=self.writemap and not sync,
            max_spare_txns=4,
        )
        self.txn: Any = None

    def reader(self, writes_between: bool) -> Reader:
        if not writes_between:  # one transaction for all gets: its fastest way
            self.txn = self.env.begin()
            return self.txn.get
        return self._get

    def _get(self, key: bytes) -> Any:
        if self.txn is None:
            self.txn = self.env.begin()
        return self.txn.get(key)

    def writer(self) -> Writer:
        begin = self.env.begin

        def put(key: bytes, value: bytes) -> None:
            self.txn = None  # the next read has to see this put
            with begin(write=True) as txn:
                txn.put(key, value)

        return put

    def put_many(self, pairs: Sequence[tuple[Any, bytes]]) -> None:
        with self.env.begin(write=True) as txn:
            txn.cursor().putmulti(pairs)

    def scan(self, start: Any, count: int) -> int:
        if self.txn is None:
            self.txn = self.env.begin()
        cursor = self.txn.cursor()
        return sum(1 for _ in islice(cursor, count)) if cursor.set_range(start) else 0

    def prefix(self, start: Any) -> int:
        found = 0
        with self.env.begin() as txn:
            cursor = txn.cursor()
            if cursor.set_range(start):
                for key, _ in cursor:
                    if not key.startswith(start):
                        break
                    found += 1
        return found

    def close(self) -> None:
        self.txn = None
        self.env.sync(True)
        self.env.close()


class LmdbMapPeer(LmdbPeer):
    """LMDB changing its pages in a writable map."""

    name = "lmdb-map"
    writemap = True


class RocksPeer(Peer):
    """RocksDB through rocksdict, raw bytes, write-ahead log on (synced only when asked)."""

    name, module = "rocksdict", "rocksdict"

    def __init__(self, folder: Path, sync: bool = False) -> None:
        from rocksdict import BlockBasedOptions, Options, Rdict, ReadOptions, WriteOptions

        table = BlockBasedOptions()
        table.set_bloom_filter(10, False)
        options = Options(raw_mode=True)
        options.create_if_missing(True)
        options.set_block_based_table_factory(table)
        write = WriteOptions()
        write.sync = sync
        self.db = Rdict(str(folder / "rocksdb"), options)
        self.db.set_write_options(write)
        self.write, self.read_options = write, ReadOptions()

    def reader(self, writes_between: bool) -> Reader:
        return self.db.get

    def writer(self) -> Writer:
        return self.db.put

    def put_many(self, pairs: Sequence[tuple[Any, bytes]]) -> None:
        from rocksdict import WriteBatch

        batch = WriteBatch(raw_mode=True)
        for key, value in pairs:
            batch.put(key, value)
        self.db.write(batch, self.write)

    def scan(self, start: Any, count: int) -> int:
        return sum(1 for _ in islice(self.db.items(from_key=start), count))

    def prefix(self, start: Any) -> int:
        found = 0
        for key, _ in self.db.items(from_key=start):
            if not key.startswith(start):
                break
            found += 1
        return found

    def close(self) -> None:
        self.db.close()


class SqlitePeer(Peer):
    """SQLite, one transaction a put, write-ahead log; synchronous OFF, or FULL when synced."""

    name = "sqlite3"
    threads = False

    def __init__(self, folder: Path, sync: bool = False) -> None:
        self.db = sqlite3.connect(
            folder / "bench.sqlite", isolation_level=None, check_same_thread=False
        )
        self.db.execute("PRAGMA journal_mode=WAL")
        self.db.execute(f"PRAGMA synchronous={'FULL' if sync else 'OFF'}")
        self.db.execute(f"PRAGMA mmap_size={MAP_BYTES}")
        self.db.execute("CREATE TABLE IF NOT EXISTS kv(k BLOB PRIMARY KEY, v BLOB) WITHOUT ROWID")

    def reader(self, writes_between: bool) -> Reader:
        execute = self.db.cursor().execute

        def get(key: bytes) -> Any:
            return execute("SELECT v FROM kv WHERE k=?", (key,)).fetchone()[0]

        return get

    def writer(self) -> Writer:
        execute = self.db.cursor().execute

        def put(key: bytes, value: bytes) -> None:
            execute("INSERT OR REPLACE INTO kv VALUES(?,?)", (key, value))

        return put

    def put_many(self, pairs: Sequence[tuple[Any, bytes]]) -> None:
        self.db.execute("BEGIN")
        self.db.executemany("INSERT OR REPLACE INTO kv VALUES(?,?)", pairs)
        self.db.execute("COMMIT")

    def scan(self, start: Any, count: int) -> int:
        sql = "SELECT k, v FROM kv WHERE k>=? ORDER BY k LIMIT ?"
        return len(self.db.execute(sql, (start, count)).fetchall())

    def prefix(self, start: Any) -> int:
        end = start[:-1] + bytes([start[-1] + 1])
        sql = "SELECT k, v FROM kv WHERE k>=? AND k<? ORDER BY k"
        return len(self.db.execute(sql, (start, end)).fetchall())

    def close(self) -> None:
        self.db.close()


class DictPeer(Peer):
    """The limit: a dict, and a file to which every put is written. It has no order, no checksums,
    no history and no recovery; nothing that keeps promises can be expected to reach it."""

    name = "dict+file"
    ordered = False

    def __init__(self, folder: Path, sync: bool = False) -> None:
        self.path, self.sync = folder / "bench.log", sync
        self.data: dict[bytes, bytes] = {}
        if self.path.exists():
            self._load()
        self.fd = os.open(self.path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)

    def _load(self) -> None:
        raw, at = self.path.read_bytes(), 0
        while at < len(raw):
            middle = at + 4 + int.from_bytes(raw[at : at + 2], "little")
            end = middle + int.from_bytes(raw[at + 2 : at + 4], "little")
            self.data[raw[at + 4 : middle]] = raw[middle:end]
            at = end

    @staticmethod
    def _record(key: bytes, value: bytes) -> bytes:
        return len(key).to_bytes(2, "little") + len(value).to_bytes(2, "little") + key + value

    def reader(self, writes_between: bool) -> Reader:
        return self.data.__getitem__

    def writer(self) -> Writer:
        data, fd, write, record = self.data, self.fd, os.write, self._record

        def put(key: bytes, value: bytes) -> None:
            write(fd, record(key, value))
            data[key] = value

        def put_synced(key: bytes, value: bytes) -> None:
            put(key, value)
            os.fdatasync(fd)

        return put_synced if self.sync else put

    def put_many(self, pairs: Sequence[tuple[Any, bytes]]) -> None:
        os.write(self.fd, b"".join(self._record(key, value) for key, value in pairs))
        self.data.update(pairs)

    def close(self) -> None:
        os.close(self.fd)


ALL: dict[str, type[Peer]] = {
    peer.name: peer for peer in (SynaPeer, LmdbPeer, LmdbMapPeer, RocksPeer, SqlitePeer, DictPeer)
}


def available(names: Iterable[str] | None = None) -> list[str]:
    """The peers that can run here, in the order of the tables."""
    wanted = set(names) if names else set(ALL)
    return [
        name
        for name, peer in ALL.items()
        if name in wanted and (peer.module is None or importlib.util.find_spec(peer.module))
    ]
