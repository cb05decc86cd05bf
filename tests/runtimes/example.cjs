// SynaDB from Node.js: the handle interface of libsynadb through koffi (npm install koffi).
//
//   node example.cjs LIBRARY FOLDER
//
// Prints one JSON object. The structs below are those of the headers, field by field; `size` tells the
// library which release's layout the program knows.
"use strict";

const path = require("node:path");
const koffi = require("koffi");

const [libraryPath, folder] = process.argv.slice(2);
const library = koffi.load(libraryPath);

koffi.opaque("syna_db");
koffi.opaque("syna_vectors");
const DbOptions = koffi.struct("syna_db_options", {
  size: "uint32_t", no_sync: "uint8_t", no_compression: "uint8_t", read_only: "uint8_t",
  shared: "uint8_t", must_exist: "uint8_t", no_mmap: "uint8_t",
  reserved: koffi.array("uint8_t", 2), timeout_ms: "uint32_t",
});
const VectorsOptions = koffi.struct("syna_vectors_options", {
  size: "uint32_t", dimensions: "uint32_t", metric: "int32_t", no_sync: "uint8_t",
  index: "uint8_t", read_only: "uint8_t", no_absorber: "uint8_t", progress: "void *",
  context: "void *", m: "uint32_t", ef_construction: "uint32_t", ef_search: "uint32_t",
  threads: "uint32_t", dtype: "uint8_t", quantization: "uint8_t",
  reserved: koffi.array("uint8_t", 6),
});
const Search = koffi.struct("syna_search", {
  size: "uint32_t", flags: "uint32_t", k: "uint64_t", radius: "float", ef: "uint32_t",
  recall: "float", reserved: "uint32_t", explain: "void *", filter: "const char *",
  filter_len: "size_t",
});
const Hit = koffi.struct("syna_hit", {
  key: "const char *", vector: "void *", key_len: "uint32_t", score: "float",
  metadata: "const char *", metadata_len: "size_t",
});

const syna = {};
for (const declaration of [
  "const char *syna_version()",
  "const char *syna_last_error()",
  "int32_t syna_last_reason()",
  "int32_t syna_db_open(const char *path, const syna_db_options *options, _Out_ syna_db **out)",
  "int32_t syna_db_close(syna_db *db)",
  "int32_t syna_db_put(syna_db *db, const char *key, size_t key_len, int32_t type, const void *data," +
    " size_t len, const void *how, void *offset)",
  "int32_t syna_db_put_float(syna_db *db, const char *key, size_t key_len, double value, void *offset)",
  "int32_t syna_db_append_floats(syna_db *db, const char *key, size_t key_len," +
    " const double *values, const uint64_t *times_us, size_t count)",
  "int32_t syna_db_get(syna_db *db, const char *key, size_t key_len, void *buf, size_t cap," +
    " _Out_ size_t *len, _Out_ int32_t *type)",
  "int32_t syna_db_history_floats(syna_db *db, const char *key, size_t key_len, _Out_ double *values," +
    " _Out_ uint64_t *times_us, size_t cap, _Out_ size_t *count)",
  "int64_t syna_db_count(syna_db *db)",
  "int32_t syna_vectors_open(const char *path, const syna_vectors_options *options," +
    " _Out_ syna_vectors **out)",
  "int32_t syna_vectors_close(syna_vectors *store)",
  "int32_t syna_vectors_insert(syna_vectors *store, const char *key, size_t key_len," +
    " const float *vector, uint32_t dimensions)",
  "int32_t syna_vectors_search(syna_vectors *store, const float *queries, size_t count," +
    " uint32_t dimensions, const syna_search *how, _Out_ void **hits, _Out_ size_t *counts)",
  "void syna_free_hits(void *hits)",
]) {
  const name = declaration.match(/\b(syna_\w+)\(/)[1];
  syna[name] = library.func(declaration);
}

const SUCCESS = 1;
const TEXT = 3;
const BYTES = 4;

/** An error of the library: its code, its reason, its message. */
class SynaError extends Error {
  constructor(code) {
    super(syna.syna_last_error());
    this.code = code;
    this.reason = syna.syna_last_reason();
  }
}

function check(code) {
  if (code !== SUCCESS) throw new SynaError(code);
}

/** An open database; close it, or everything that was not synced waits for the operating system. */
class Database {
  constructor(file, options = {}) {
    const out = [null];
    check(syna.syna_db_open(file, { size: koffi.sizeof(DbOptions), ...options }, out));
    this.handle = out[0];
  }

  // Keys are bytes with a length: a length in characters would cut some.
  static key(text) {
    return [text, Buffer.byteLength(text)];
  }

  put(key, value) {
    const data = Buffer.from(value);
    const type = typeof value === "string" ? TEXT : BYTES;
    check(syna.syna_db_put(this.handle, ...Database.key(key), type, data, data.length, null, null));
  }

  append(key, values, times) {
    check(
      syna.syna_db_append_floats(
        this.handle, ...Database.key(key), Float64Array.from(values),
        BigUint64Array.from(times), values.length,
      ),
    );
  }

  get(key) {
    const length = [0];
    const type = [0];
    let room = Buffer.alloc(16);
    for (;;) {
      check(
        syna.syna_db_get(this.handle, ...Database.key(key), room, room.length, length, type),
      );
      if (length[0] <= room.length) break;
      room = Buffer.alloc(Number(length[0])); // it was too small, and nothing was copied
    }
    const bytes = room.subarray(0, Number(length[0]));
    return type[0] === TEXT ? bytes.toString("utf8") : bytes;
  }

  history(key) {
    const count = [0];
    const ask = (values, times, cap) =>
      check(
        syna.syna_db_history_floats(this.handle, ...Database.key(key), values, times, cap, count),
      );
    ask(null, null, 0);
    const values = new Float64Array(Number(count[0]));
    const times = new BigUint64Array(values.length);
    ask(values, times, values.length);
    return { values: [...values], times: [...times].map(Number) };
  }

  get count() {
    return Number(syna.syna_db_count(this.handle));
  }

  close() {
    const handle = this.handle;
    this.handle = null;
    check(syna.syna_db_close(handle));
  }
}

/** An open store of vectors. */
class Vectors {
  constructor(file, dimensions) {
    const out = [null];
    const options = { size: koffi.sizeof(VectorsOptions), dimensions };
    check(syna.syna_vectors_open(file, options, out));
    this.handle = out[0];
    this.dimensions = dimensions;
  }

  insert(key, vector) {
    const row = Float32Array.from(vector);
    check(syna.syna_vectors_insert(this.handle, ...Database.key(key), row, row.length));
  }

  search(query, k) {
    const hits = [null];
    const counts = [0];
    const how = { size: koffi.sizeof(Search), k };
    const row = Float32Array.from(query);
    check(syna.syna_vectors_search(this.handle, row, 1, row.length, how, hits, counts));
    try {
      const found = koffi.decode(hits[0], koffi.array(Hit, Number(counts[0])));
      return found.map(({ key, score }) => ({ key, score }));
    } finally {
      syna.syna_free_hits(hits[0]); // keys were copied into strings before
    }
  }

  close() {
    const handle = this.handle;
    this.handle = null;
    check(syna.syna_vectors_close(handle));
  }
}

function refusal(call) {
  try {
    call();
  } catch (error) {
    if (error instanceof SynaError) return { code: error.code, reason: error.reason };
    throw error;
  }
  return null;
}

const result = {};
const file = path.join(folder, "sensors.db");
const start = 1_700_000_000_000_000;

const db = new Database(file);
db.append("temperature", [23.5, 24.1, 24.8], [0, 60, 120].map((s) => BigInt(start + s * 1_000_000)));
db.put("name", "Fühler 1 \u{1F680}");
db.put("schlüssel/é", Buffer.from([0, 1, 255]));
result.missing = refusal(() => db.get("absent"));
result.empty_key = refusal(() => db.put("", "x"));
db.close();

const again = new Database(file, { read_only: 1 });
result.history = again.history("temperature");
result.name = again.get("name");
result.bytes = [...again.get("schlüssel/é")];
result.count = again.count;
result.read_only = refusal(() => again.put("name", "x"));
again.close();

const store = new Vectors(path.join(folder, "vectors.db"), 4);
[[1, 0, 0, 0], [0, 1, 0, 0], [1, 1, 0, 0]].forEach((row, i) => store.insert(`doc${i}`, row));
result.wrong_length = refusal(() => store.insert("doc3", [1, 2]));
result.hits = store.search([1, 0.5, 0, 0], 2).map(({ key, score }) => [key, score.toFixed(4)]);
store.close();

console.log(JSON.stringify(result));
