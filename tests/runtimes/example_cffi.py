"""SynaDB through its C interface, with cffi: what any runtime that can call C does.

    python example_cffi.py LIBRARY FOLDER

Prints one JSON object. cffi reads C declarations; these are the headers', cut to what is used here.
"""

from __future__ import annotations

import json
import os
import sys

import cffi

DECLARATIONS = """
    const char *syna_last_error(void);
    int32_t syna_last_reason(void);

    typedef struct syna_db syna_db;
    typedef struct {
        uint32_t size;
        uint8_t no_sync, no_compression, read_only, shared, must_exist, no_mmap, reserved[2];
        uint32_t timeout_ms;
    } syna_db_options;
    int32_t syna_db_open(const char *path, const syna_db_options *options, syna_db **out);
    int32_t syna_db_close(syna_db *db);
    int32_t syna_db_put(syna_db *db, const char *key, size_t key_len, int32_t type,
                        const void *data, size_t len, const void *how, uint64_t *offset);
    int32_t syna_db_append_floats(syna_db *db, const char *key, size_t key_len,
                                  const double *values, const uint64_t *times_us, size_t count);
    int32_t syna_db_get(syna_db *db, const char *key, size_t key_len, void *buf, size_t cap,
                        size_t *len, int32_t *type);
    int32_t syna_db_history_floats(syna_db *db, const char *key, size_t key_len, double *values,
                                   uint64_t *times_us, size_t cap, size_t *count);
    int64_t syna_db_count(syna_db *db);

    typedef struct syna_vectors syna_vectors;
    typedef struct {
        uint32_t size, dimensions;
        int32_t metric;
        uint8_t no_sync, index, read_only, no_absorber;
        void *progress, *context;
        uint32_t m, ef_construction, ef_search, threads;
        uint8_t dtype, quantization, reserved[6];
    } syna_vectors_options;
    typedef struct {
        uint32_t size, flags;
        uint64_t k;
        float radius;
        uint32_t ef;
        float recall;
        uint32_t reserved;
        void *explain;
        const char *filter;
        size_t filter_len;
    } syna_search;
    typedef struct {
        const char *key;
        const float *vector;
        uint32_t key_len;
        float score;
        const char *metadata;
        size_t metadata_len;
    } syna_hit;
    int32_t syna_vectors_open(const char *path, const syna_vectors_options *options,
                              syna_vectors **out);
    int32_t syna_vectors_close(syna_vectors *store);
    int32_t syna_vectors_insert(syna_vectors *store, const char *key, size_t key_len,
                                const float *vector, uint32_t dimensions);
    int32_t syna_vectors_search(syna_vectors *store, const float *queries, size_t count,
                                uint32_t dimensions, const syna_search *how, syna_hit **hits,
                                size_t *counts);
    void syna_free_hits(syna_hit *hits);
"""

ffi = cffi.FFI()
ffi.cdef(DECLARATIONS)
SUCCESS, TEXT, BYTES = 1, 3, 4


class Refused(Exception):
    """An error of the library: its code, its reason, its message."""

    def __init__(self, lib, code):
        super().__init__(ffi.string(lib.syna_last_error()).decode())
        self.code, self.reason = code, lib.syna_last_reason()


class Handle:
    """Something open; leaving its block closes it."""

    def __init__(self, lib, close, handle):
        self._lib, self._close, self._handle = lib, close, handle

    def __enter__(self):
        return self

    def __exit__(self, *exc_info):
        self._check(self._close(self._handle))

    def _check(self, code):
        if code != SUCCESS:
            raise Refused(self._lib, code)


class Database(Handle):
    """An open database."""

    def __init__(self, lib, path, **options):
        out = ffi.new("syna_db **")
        given = ffi.new("syna_db_options *", {"size": ffi.sizeof("syna_db_options"), **options})
        if lib.syna_db_open(os.fsencode(path), given, out) != SUCCESS:
            raise Refused(lib, 0)
        super().__init__(lib, lib.syna_db_close, out[0])

    def put(self, key, value):
        kind, data = (TEXT, value.encode()) if isinstance(value, str) else (BYTES, value)
        raw = key.encode()
        self._check(
            self._lib.syna_db_put(
                self._handle, raw, len(raw), kind, data, len(data), ffi.NULL, ffi.NULL
            )
        )

    def append(self, key, values, times):
        raw = key.encode()
        self._check(
            self._lib.syna_db_append_floats(self._handle, raw, len(raw), values, times, len(values))
        )

    def get(self, key):
        raw, room = key.encode(), 16
        length, kind = ffi.new("size_t *"), ffi.new("int32_t *")
        while True:
            buffer = ffi.new("char[]", room)
            self._check(
                self._lib.syna_db_get(self._handle, raw, len(raw), buffer, room, length, kind)
            )
            if length[0] <= room:
                break
            room = length[0]  # it was too small, and nothing was copied
        data = ffi.buffer(buffer, length[0])[:]
        return data.decode() if kind[0] == TEXT else data

    def history(self, key):
        raw, count = key.encode(), ffi.new("size_t *")
        history = self._lib.syna_db_history_floats
        self._check(history(self._handle, raw, len(raw), ffi.NULL, ffi.NULL, 0, count))
        values, times = ffi.new("double[]", count[0]), ffi.new("uint64_t[]", count[0])
        self._check(history(self._handle, raw, len(raw), values, times, len(values), count))
        return {"values": list(values), "times": list(times)}

    def __len__(self):
        return self._lib.syna_db_count(self._handle)


class Vectors(Handle):
    """An open store of vectors."""

    def __init__(self, lib, path, dimensions):
        out = ffi.new("syna_vectors **")
        options = ffi.new(
            "syna_vectors_options *",
            {"size": ffi.sizeof("syna_vectors_options"), "dimensions": dimensions},
        )
        if lib.syna_vectors_open(os.fsencode(path), options, out) != SUCCESS:
            raise Refused(lib, 0)
        super().__init__(lib, lib.syna_vectors_close, out[0])

    def insert(self, key, vector):
        raw = key.encode()
        self._check(self._lib.syna_vectors_insert(self._handle, raw, len(raw), vector, len(vector)))

    def search(self, query, k):
        hits, counts = ffi.new("syna_hit **"), ffi.new("size_t *")
        how = ffi.new("syna_search *", {"size": ffi.sizeof("syna_search"), "k": k})
        self._check(
            self._lib.syna_vectors_search(self._handle, query, 1, len(query), how, hits, counts)
        )
        try:
            return [
                (ffi.string(hits[0][i].key).decode(), hits[0][i].score) for i in range(counts[0])
            ]
        finally:
            self._lib.syna_free_hits(hits[0])


def refusal(call, *arguments):
    try:
        call(*arguments)
    except Refused as error:
        return {"code": error.code, "reason": error.reason}
    return None


def main(library, folder):
    lib = ffi.dlopen(library)
    result = {}
    start = 1_700_000_000_000_000

    path = os.path.join(folder, "sensors.db")
    with Database(lib, path) as db:
        times = [start + seconds * 1_000_000 for seconds in (0, 60, 120)]
        db.append("temperature", [23.5, 24.1, 24.8], times)
        db.put("name", "Fühler 1 \U0001f680")
        db.put("schlüssel/é", bytes([0, 1, 255]))
        result["missing"] = refusal(db.get, "absent")
        result["empty_key"] = refusal(db.put, "", "x")

    with Database(lib, path, read_only=1) as db:
        result["history"] = db.history("temperature")
        result["name"] = db.get("name")
        result["bytes"] = list(db.get("schlüssel/é"))
        result["count"] = len(db)
        result["read_only"] = refusal(db.put, "name", "x")

    with Vectors(lib, os.path.join(folder, "vectors.db"), 4) as store:
        for number, row in enumerate([[1, 0, 0, 0], [0, 1, 0, 0], [1, 1, 0, 0]]):
            store.insert(f"doc{number}", row)
        result["wrong_length"] = refusal(store.insert, "doc3", [1, 2])
        hits = store.search([1, 0.5, 0, 0], 2)
        result["hits"] = [[key, f"{score:.4f}"] for key, score in hits]

    print(json.dumps(result))


if __name__ == "__main__":
    main(*sys.argv[1:])
