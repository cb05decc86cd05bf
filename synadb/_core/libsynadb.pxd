# Every extern declaration of the C interface, once. A section per header of include/synadb/.
from libc.stdint cimport int32_t, int64_t, uint8_t, uint16_t, uint32_t, uint64_t

# ------------------------------------------------------------------------------------- base.h
cdef extern from "synadb/base.h" nogil:
    enum:
        SYNA_SUCCESS
        SYNA_ERR_GENERIC
        SYNA_ERR_DB_NOT_FOUND
        SYNA_ERR_INVALID_PATH
        SYNA_ERR_IO
        SYNA_ERR_SERIALIZATION
        SYNA_ERR_KEY_NOT_FOUND
        SYNA_ERR_TYPE_MISMATCH
        SYNA_ERR_EMPTY_KEY
        SYNA_ERR_KEY_TOO_LONG
        SYNA_ERR_INTERNAL

    const char *syna_last_error()
    int32_t syna_last_reason()
    int32_t syna_last_errno()
    int64_t syna_last_offset()
    const char *syna_last_path()
    const char *syna_version()
    uint32_t syna_abi_version()

    ctypedef int32_t (*syna_progress_fn)(void *context, uint64_t done, uint64_t total) noexcept nogil

# --------------------------------------------------------------------------------------- kv.h
cdef extern from "synadb/kv.h" nogil:
    enum:
        SYNA_KEY_MAX
        SYNA_VALUE_MAX
        SYNA_TYPE_NULL
        SYNA_TYPE_FLOAT
        SYNA_TYPE_INT
        SYNA_TYPE_TEXT
        SYNA_TYPE_BYTES
        SYNA_TYPE_VECTOR
        SYNA_TYPE_PACKED
        SYNA_TYPE_BLOB
        SYNA_SCAN_KEYS
        SYNA_SCAN_VALUES
        SYNA_COMPACT_LATEST
        SYNA_COMPACT_HISTORY

    ctypedef struct syna_db:
        pass
    ctypedef struct syna_batch:
        pass
    ctypedef struct syna_scan:
        pass
    ctypedef struct syna_blob:
        pass

    ctypedef struct syna_db_options:
        uint32_t size
        uint8_t no_sync
        uint8_t no_compression
        uint8_t read_only
        uint8_t shared
        uint8_t must_exist
        uint8_t no_mmap
        uint32_t timeout_ms

    ctypedef struct syna_open_report:
        uint32_t size
        uint8_t clean
        uint8_t created
        uint8_t legacy
        uint8_t rebuilt
        uint8_t read_only
        uint32_t format_major
        uint32_t format_minor
        uint64_t frames_scanned
        uint64_t cut_offset
        uint64_t cut_bytes
        uint8_t cut_saved

    int32_t syna_db_open(const char *path, const syna_db_options *options, syna_db **out)
    int32_t syna_db_close(syna_db *db)
    int32_t syna_db_report(syna_db *db, syna_open_report *out)
    const char *syna_db_path(syna_db *db)

    ctypedef struct syna_put:
        uint32_t size
        uint64_t when_us
        uint64_t expires_us

    int32_t syna_db_put(syna_db *db, const char *key, size_t key_len, int32_t type,
                        const void *data, size_t len, const syna_put *how, uint64_t *offset)
    int32_t syna_db_put_float(syna_db *db, const char *key, size_t key_len, double value,
                              uint64_t *offset)
    int32_t syna_db_put_int(syna_db *db, const char *key, size_t key_len, int64_t value,
                            uint64_t *offset)
    int32_t syna_db_append_floats(syna_db *db, const char *key, size_t key_len,
                                  const double *values, const uint64_t *times_us, size_t count)
    int32_t syna_db_append_ints(syna_db *db, const char *key, size_t key_len,
                                const int64_t *values, const uint64_t *times_us, size_t count)
    int32_t syna_db_delete(syna_db *db, const char *key, size_t key_len, int32_t *deleted)
    int32_t syna_db_flush(syna_db *db)

    int32_t syna_batch_new(syna_db *db, syna_batch **out)
    int32_t syna_batch_put(syna_batch *batch, const char *key, size_t key_len, int32_t type,
                           const void *data, size_t len, const syna_put *how)
    int32_t syna_batch_delete(syna_batch *batch, const char *key, size_t key_len)
    size_t syna_batch_count(const syna_batch *batch)
    int32_t syna_batch_commit(syna_batch *batch)
    void syna_batch_free(syna_batch *batch)

    int32_t syna_db_get(syna_db *db, const char *key, size_t key_len, void *buf, size_t cap,
                        size_t *len, int32_t *type)
    int32_t syna_db_get_float(syna_db *db, const char *key, size_t key_len, double *out)
    int32_t syna_db_get_int(syna_db *db, const char *key, size_t key_len, int64_t *out)
    int32_t syna_db_get_at(syna_db *db, const char *key, size_t key_len, uint64_t at_us,
                           void *buf, size_t cap, size_t *len, int32_t *type)
    int32_t syna_db_exists(syna_db *db, const char *key, size_t key_len)
    int64_t syna_db_count(syna_db *db)
    int32_t syna_db_history_floats(syna_db *db, const char *key, size_t key_len, double *values,
                                   uint64_t *times_us, size_t cap, size_t *count)
    int32_t syna_db_history_ints(syna_db *db, const char *key, size_t key_len, int64_t *values,
                                 uint64_t *times_us, size_t cap, size_t *count)

    ctypedef struct syna_record:
        uint32_t size
        int32_t type
        int32_t deleted
        uint64_t time_us
        uint64_t expires_us
        const char *key
        size_t key_len
        const void *data
        size_t len

    ctypedef int32_t (*syna_record_fn)(void *context, const syna_record *record) noexcept nogil
    int32_t syna_db_history(syna_db *db, const char *key, size_t key_len, syna_record_fn visit,
                            void *context)

    int32_t syna_scan_new(syna_db *db, const char *prefix, size_t prefix_len,
                          const char *start, size_t start_len, const char *end, size_t end_len,
                          int32_t mode, syna_scan **out)
    int32_t syna_scan_next(syna_scan *scan, syna_record *record)
    void syna_scan_free(syna_scan *scan)

    int32_t syna_blob_create(syna_db *db, const char *key, size_t key_len, syna_blob **out)
    int32_t syna_blob_write(syna_blob *blob, const void *data, size_t len)
    int32_t syna_blob_finish(syna_blob *blob)
    int32_t syna_blob_open(syna_db *db, const char *key, size_t key_len, syna_blob **out)
    uint64_t syna_blob_size(const syna_blob *blob)
    int32_t syna_blob_read(syna_blob *blob, uint64_t offset, void *buf, size_t len, size_t *got)
    void syna_blob_free(syna_blob *blob)

    int32_t syna_db_compact(syna_db *db, int32_t mode, syna_progress_fn progress, void *context)
    int32_t syna_db_refresh(syna_db *db, int32_t *changed)
    int32_t syna_db_backup(syna_db *db, const char *to, syna_progress_fn progress, void *context)

    ctypedef struct syna_db_stats:
        uint32_t size
        uint32_t format_major
        uint32_t format_minor
        uint64_t keys
        uint64_t deleted_keys
        uint64_t frames
        uint64_t file_bytes
        uint64_t allocated_bytes
        uint64_t live_bytes
        uint64_t index_bytes
        uint64_t history_bytes
        uint64_t commits
        uint64_t syncs
        uint64_t durable_bytes
        uint64_t generation
        uint8_t uuid[16]

    int32_t syna_db_get_stats(syna_db *db, syna_db_stats *out)

    ctypedef struct syna_check:
        uint32_t size
        uint64_t frames
        uint64_t bytes
        uint64_t damaged
        uint64_t torn_bytes
        uint64_t records_saved

    ctypedef int32_t (*syna_finding_fn)(void *context, uint64_t offset,
                                        const char *text) noexcept nogil
    int32_t syna_verify(const char *path, syna_finding_fn visit, void *context,
                        syna_progress_fn progress, syna_check *out)
    int32_t syna_salvage(const char *path, const char *to, syna_finding_fn visit, void *context,
                         syna_progress_fn progress, syna_check *out)

# ----------------------------------------------------------------------------------- vector.h
cdef extern from "synadb/vector.h" nogil:
    enum:
        SYNA_METRIC_COSINE
        SYNA_METRIC_EUCLIDEAN
        SYNA_METRIC_DOT_PRODUCT
        SYNA_DIMENSIONS_MAX
        SYNA_SEARCH_VECTORS
        SYNA_SEARCH_RADIUS

    ctypedef struct syna_vectors:
        pass

    ctypedef struct syna_vectors_options:
        uint32_t size
        uint32_t dimensions
        int32_t metric
        uint8_t no_sync
        syna_progress_fn progress
        void *context

    int32_t syna_vectors_open(const char *path, const syna_vectors_options *options,
                              syna_vectors **out)
    int32_t syna_vectors_close(syna_vectors *store)
    int32_t syna_vectors_insert(syna_vectors *store, const char *key, size_t key_len,
                                const float *vector, uint32_t dimensions)
    int32_t syna_vectors_insert_batch(syna_vectors *store, const char *const *keys,
                                      const size_t *key_lens, const float *vectors,
                                      uint32_t dimensions, size_t count, size_t *added)
    int32_t syna_vectors_delete(syna_vectors *store, const char *key, size_t key_len,
                                int32_t *deleted)
    int32_t syna_vectors_get(syna_vectors *store, const char *key, size_t key_len, float *out,
                             uint32_t dimensions)
    int32_t syna_vectors_contains(syna_vectors *store, const char *key, size_t key_len)
    uint64_t syna_vectors_count(syna_vectors *store)

    ctypedef struct syna_hit:
        const char *key
        const float *vector
        uint32_t key_len
        float score

    ctypedef struct syna_search:
        uint32_t size
        uint32_t flags
        uint64_t k
        float radius

    int32_t syna_vectors_search(syna_vectors *store, const float *queries, size_t count,
                                uint32_t dimensions, const syna_search *how, syna_hit **hits,
                                size_t *counts)
    int32_t syna_vectors_rows(syna_vectors *store, uint32_t flags, syna_hit **hits, size_t *count)
    void syna_free_hits(syna_hit *hits)
    int32_t syna_vectors_flush(syna_vectors *store)

    ctypedef struct syna_vectors_stats:
        uint32_t size
        uint32_t dimensions
        int32_t metric
        uint64_t rows
        uint64_t memory_bytes
        uint64_t file_bytes
        char simd[16]

    int32_t syna_vectors_get_stats(syna_vectors *store, syna_vectors_stats *out)
# ----------------------------------------------------------------------------- end of vector.h
