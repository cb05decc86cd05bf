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
        SYNA_COMPACT_LIVE_HISTORY

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
    int32_t syna_scan_next_many(syna_scan *scan, syna_record *records, size_t cap, size_t *count)
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

# ---------------------------------------------------------------------------------- migrate.h
cdef extern from "synadb/migrate.h" nogil:
    ctypedef struct syna_migration:
        uint32_t size
        uint64_t frames
        uint64_t bytes
        uint64_t values
        uint64_t deletions
        uint64_t left_out
        uint64_t lost
        uint64_t damaged
        uint64_t torn_bytes
        uint64_t repacked
        uint64_t compressed
        uint64_t differences
        uint64_t poisoned
        double rounding

    int32_t syna_migrate(const char *path, const char *to, const char *const *leave_out,
                         size_t leave_out_count, syna_finding_fn visit, void *context,
                         syna_progress_fn progress, syna_migration *out)

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
        uint8_t index
        uint8_t read_only
        uint8_t no_absorber
        syna_progress_fn progress
        void *context
        uint32_t m
        uint32_t ef_construction
        uint32_t ef_search
        uint32_t threads
        uint8_t dtype
        uint8_t quantization

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
        const char *metadata
        size_t metadata_len

    enum:
        SYNA_SEARCH_EXACT
        SYNA_SEARCH_METADATA
        SYNA_METADATA_REPLACE

    ctypedef struct syna_explain:
        uint32_t size
        int32_t plan
        uint32_t ef
        float recall
        uint64_t codes
        uint64_t full
        uint64_t hops
        uint64_t matches

    ctypedef struct syna_search:
        uint32_t size
        uint32_t flags
        uint64_t k
        float radius
        uint32_t ef
        float recall
        syna_explain *explain
        const char *filter
        size_t filter_len

    int32_t syna_vectors_search(syna_vectors *store, const float *queries, size_t count,
                                uint32_t dimensions, const syna_search *how, syna_hit **hits,
                                size_t *counts)
    int32_t syna_vectors_rows(syna_vectors *store, uint32_t flags, syna_hit **hits, size_t *count)
    int32_t syna_vectors_rows_where(syna_vectors *store, const char *filter, size_t filter_len,
                                    uint32_t flags, syna_hit **hits, size_t *count)
    int32_t syna_vectors_insert_rows(syna_vectors *store, const char *const *keys,
                                     const size_t *key_lens, const float *vectors,
                                     uint32_t dimensions, const char *const *metadata,
                                     const size_t *metadata_lens, size_t count, size_t *added)
    int32_t syna_vectors_update_metadata(syna_vectors *store, const char *key, size_t key_len,
                                         const char *json, size_t json_len, uint32_t flags)
    int32_t syna_vectors_get_metadata(syna_vectors *store, const char *key, size_t key_len,
                                      char **json, size_t *json_len)
    int32_t syna_vectors_delete_where(syna_vectors *store, const char *filter, size_t filter_len,
                                      uint64_t *deleted)
    int32_t syna_vectors_count_where(syna_vectors *store, const char *filter, size_t filter_len,
                                     uint64_t *count)
    void syna_free_hits(syna_hit *hits)
    int32_t syna_vectors_build_index(syna_vectors *store, syna_progress_fn progress, void *context)
    int32_t syna_vectors_absorb(syna_vectors *store, syna_progress_fn progress, void *context)
    int32_t syna_vectors_has_index(syna_vectors *store)
    int32_t syna_vectors_refresh(syna_vectors *store, int32_t *changed)
    int32_t syna_vectors_flush(syna_vectors *store)

    ctypedef struct syna_vectors_stats:
        uint32_t size
        uint32_t dimensions
        int32_t metric
        uint8_t dtype
        uint8_t quantization
        uint64_t rows
        uint64_t memory_bytes
        uint64_t file_bytes
        char simd[16]
        uint64_t indexed_rows
        uint64_t dead_rows
        uint64_t changes
        uint32_t row_bytes
        uint32_t code_bytes

    int32_t syna_vectors_get_stats(syna_vectors *store, syna_vectors_stats *out)

# ------------------------------------------------------------ vector.h: memory-mapped stores
cdef extern from "synadb/vector.h" nogil:
    ctypedef struct syna_mmap:
        pass

    ctypedef struct syna_mmap_pin:
        pass

    ctypedef struct syna_mmap_options:
        uint32_t size
        uint32_t dimensions
        int32_t metric
        uint8_t read_only
        uint64_t initial_capacity

    int32_t syna_mmap_open(const char *path, const syna_mmap_options *options, syna_mmap **out)
    int32_t syna_mmap_close(syna_mmap *store)
    int32_t syna_mmap_insert(syna_mmap *store, const char *key, size_t key_len,
                             const float *vector, uint32_t dimensions)
    int32_t syna_mmap_insert_batch(syna_mmap *store, const char *const *keys,
                                   const size_t *key_lens, const float *vectors,
                                   uint32_t dimensions, size_t count, size_t *added)
    int32_t syna_mmap_delete(syna_mmap *store, const char *key, size_t key_len, int32_t *deleted)
    int32_t syna_mmap_get(syna_mmap *store, const char *key, size_t key_len, float *out,
                          uint32_t dimensions)
    int32_t syna_mmap_view(syna_mmap *store, const char *key, size_t key_len, const float **out,
                           syna_mmap_pin **pin)
    void syna_mmap_unpin(syna_mmap_pin *pin)
    int32_t syna_mmap_contains(syna_mmap *store, const char *key, size_t key_len)
    uint64_t syna_mmap_count(syna_mmap *store)
    int32_t syna_mmap_search(syna_mmap *store, const float *queries, size_t count,
                             uint32_t dimensions, const syna_search *how, syna_hit **hits,
                             size_t *counts)
    int32_t syna_mmap_rows(syna_mmap *store, uint32_t flags, syna_hit **hits, size_t *count)
    int32_t syna_mmap_build_index(syna_mmap *store, syna_progress_fn progress, void *context)
    int32_t syna_mmap_has_index(syna_mmap *store)
    int32_t syna_mmap_checkpoint(syna_mmap *store)
    int32_t syna_mmap_refresh(syna_mmap *store, int32_t *changed)
    int32_t syna_mmap_compact(syna_mmap *store, syna_progress_fn progress, void *context)
    int32_t syna_mmap_verify(const char *path, syna_finding_fn visit, void *context,
                             syna_progress_fn progress, syna_check *out)

    ctypedef struct syna_mmap_stats:
        uint32_t size
        uint32_t dimensions
        int32_t metric
        uint64_t rows
        uint64_t dead_rows
        uint64_t capacity
        uint64_t unsaved_rows
        uint64_t checkpoints
        uint64_t generation
        uint64_t memory_bytes
        uint64_t file_bytes
        uint8_t uuid[16]
        char simd[16]
        uint64_t indexed_rows

    int32_t syna_mmap_get_stats(syna_mmap *store, syna_mmap_stats *out)
# ----------------------------------------------------------------------------- end of vector.h

# ---------------------------------------------------------------------------------- cascade.h
cdef extern from "synadb/cascade.h" nogil:
    enum:
        SYNA_CASCADE_LARGE
        SYNA_CASCADE_SMALL
        SYNA_CASCADE_HIGH_RECALL
        SYNA_CASCADE_FAST_SEARCH
        SYNA_PLAN_SCAN
        SYNA_PLAN_EXACT
        SYNA_PLAN_GRAPH

    ctypedef struct syna_buckets:
        pass

    ctypedef struct syna_buckets_options:
        uint32_t size
        uint32_t dimensions
        int32_t metric
        uint8_t read_only
        uint8_t preset
        uint32_t num_hyperplanes
        uint32_t bucket_capacity
        uint32_t nprobe
        uint32_t threads
        float recall
        uint64_t initial_capacity
        syna_progress_fn progress
        void *context

    void syna_free_json(char *json)
    int32_t syna_buckets_open(const char *path, const syna_buckets_options *options,
                              syna_buckets **out)
    int32_t syna_buckets_close(syna_buckets *index)
    int32_t syna_buckets_insert(syna_buckets *index, const char *key, size_t key_len,
                                const float *vector, uint32_t dimensions)
    int32_t syna_buckets_insert_batch(syna_buckets *index, const char *const *keys,
                                      const size_t *key_lens, const float *vectors,
                                      uint32_t dimensions, const char *const *metadata,
                                      const size_t *metadata_lens, size_t count,
                                      syna_progress_fn progress, void *context, size_t *added)
    int32_t syna_buckets_update_metadata(syna_buckets *index, const char *key, size_t key_len,
                                         const char *json, size_t json_len, uint32_t flags)
    int32_t syna_buckets_delete(syna_buckets *index, const char *key, size_t key_len,
                                int32_t *deleted)
    int32_t syna_buckets_get(syna_buckets *index, const char *key, size_t key_len, float *out,
                             uint32_t dimensions)
    int32_t syna_buckets_get_metadata(syna_buckets *index, const char *key, size_t key_len,
                                      char **out, size_t *len)
    int32_t syna_buckets_contains(syna_buckets *index, const char *key, size_t key_len)
    uint64_t syna_buckets_count(syna_buckets *index)

    ctypedef struct syna_buckets_explain:
        uint32_t size
        int32_t plan
        uint32_t ef
        float recall
        uint64_t buckets
        uint64_t codes
        uint64_t full
        uint64_t hops
        uint64_t matches
        uint64_t total
        uint64_t buckets_there

    ctypedef struct syna_buckets_search_options:
        uint32_t size
        uint32_t flags
        uint64_t k
        float radius
        float recall
        uint32_t nprobe
        uint32_t ef_search
        const char *filter
        size_t filter_len
        syna_buckets_explain *explain

    int32_t syna_buckets_search(syna_buckets *index, const float *queries, size_t count,
                                uint32_t dimensions, const syna_buckets_search_options *how,
                                syna_hit **hits, size_t *counts)
    int32_t syna_buckets_rows(syna_buckets *index, uint32_t flags, syna_hit **hits, size_t *count)
    int32_t syna_buckets_flush(syna_buckets *index)
    int32_t syna_buckets_save(syna_buckets *index)
    int32_t syna_buckets_refresh(syna_buckets *index, int32_t *changed)
    int32_t syna_buckets_compact(syna_buckets *index, syna_progress_fn progress, void *context)
    int32_t syna_buckets_verify(const char *path, syna_finding_fn visit, void *context,
                                syna_progress_fn progress, syna_check *out)

    ctypedef struct syna_buckets_stats:
        uint32_t size
        uint32_t dimensions
        int32_t metric
        uint32_t num_hyperplanes
        uint32_t bucket_capacity
        uint32_t nprobe
        float recall
        uint32_t hash_bits
        uint64_t buckets
        uint64_t rows
        uint64_t dead_rows
        uint64_t indexed_rows
        uint64_t unsaved_rows
        uint64_t generation
        uint64_t index_bytes
        uint64_t memory_bytes
        uint64_t file_bytes
        uint8_t uuid[16]
        char simd[16]

    int32_t syna_buckets_get_stats(syna_buckets *index, syna_buckets_stats *out)
# -------------------------------------------------------------------------- end of cascade.h

# ------------------------------------------------------------------------------- experiment.h
cdef extern from "synadb/experiment.h" nogil:
    void syna_free_text(char *text, size_t len)

    enum:
        SYNA_RUN_RUNNING
        SYNA_RUN_COMPLETED
        SYNA_RUN_FAILED
        SYNA_RUN_KILLED
        SYNA_RUN_ID_ROOM

    ctypedef struct syna_run_options:
        uint32_t size
        const char *experiment
        const char *tags_json
        const char *parent
        const char *system_json

    int32_t syna_run_start(syna_db *db, const syna_run_options *options, char *id)
    int32_t syna_run_check(syna_db *db, const char *run_id)
    int32_t syna_run_log_params(syna_db *db, const char *run_id, const char *const *names,
                                const char *const *values, size_t count)
    int32_t syna_run_log_metrics(syna_db *db, const char *run_id, const char *const *names,
                                 const double *values, size_t count, int64_t step)
    int32_t syna_run_log_artifact(syna_db *db, const char *run_id, const char *name,
                                  const void *data, size_t len, const char *kind)
    int32_t syna_run_set_tags(syna_db *db, const char *run_id, const char *tags_json)
    int32_t syna_run_end(syna_db *db, const char *run_id, int32_t status)
    int32_t syna_run_resume(syna_db *db, const char *run_id)
    int32_t syna_run_delete(syna_db *db, const char *run_id, int64_t *deleted)
    int32_t syna_run_meta(syna_db *db, const char *run_id, char **out_json)

    ctypedef int32_t (*syna_run_fn)(void *context, const char *run_id, const char *json,
                                    size_t json_len) noexcept nogil
    int32_t syna_runs(syna_db *db, const char *experiment, syna_run_fn visit, void *context)
    int32_t syna_run_metric(syna_db *db, const char *run_id, const char *name, int64_t *steps,
                            double *values, uint64_t *times_us, size_t cap, size_t *count)

    ctypedef struct syna_metric_stats:
        uint32_t size
        uint64_t count
        int64_t latest_step
        double latest
        double min
        double max
        double mean

    int32_t syna_run_metric_stats(syna_db *db, const char *run_id, const char *name,
                                  syna_metric_stats *out)

    ctypedef int32_t (*syna_latest_fn)(void *context, const char *run_id, int64_t step,
                                       double value) noexcept nogil
    int32_t syna_runs_latest(syna_db *db, const char *experiment, const char *metric,
                             syna_latest_fn visit, void *context)
# ----------------------------------------------------------------------- end of experiment.h

# ----------------------------------------------------------------------------------- tensor.h
cdef extern from "synadb/tensor.h" nogil:
    enum:
        SYNA_TENSOR_DIMS_MAX
        SYNA_TENSOR_CHUNKED
        SYNA_SELECT_ELEMENTS
        SYNA_SELECT_CHUNKS
        SYNA_SELECT_PLAIN
        SYNA_SELECT_NAME

    ctypedef struct syna_tensors:
        pass
    ctypedef struct syna_tensor_set:
        pass
    ctypedef struct syna_tensor_pin:
        pass

    ctypedef struct syna_tensor_spec:
        uint32_t size
        int32_t dtype
        int32_t codec
        uint32_t flags
        uint32_t dims
        uint64_t per_chunk
        const uint64_t *shape

    ctypedef struct syna_tensor_part:
        uint32_t size
        int32_t dtype
        int32_t codec
        uint32_t flags
        uint32_t plain
        uint32_t dims
        uint64_t shape[64]
        uint64_t first
        uint64_t count
        uint64_t elements
        uint64_t first_key
        uint64_t keys
        uint64_t per_chunk
        uint64_t stored_bytes
        uint32_t digits
        uint32_t prefix_len
        const char *prefix

    int32_t syna_tensors_open(const char *path, const syna_db_options *options, syna_tensors **out)
    int32_t syna_tensors_close(syna_tensors *tensors)
    int32_t syna_tensors_flush(syna_tensors *tensors)
    int32_t syna_tensors_put(syna_tensors *tensors, const char *prefix, size_t prefix_len,
                             const syna_tensor_spec *spec, const void *data)
    int32_t syna_tensors_append(syna_tensors *tensors, const char *prefix, size_t prefix_len,
                                const syna_tensor_spec *spec, const void *data, uint64_t *total)
    int32_t syna_tensors_delete(syna_tensors *tensors, const char *pattern, size_t pattern_len,
                                uint32_t select, uint64_t *deleted)
    int32_t syna_tensors_select(syna_tensors *tensors, const char *pattern, size_t pattern_len,
                                uint32_t select, syna_tensor_set **out)
    void syna_tensor_set_free(syna_tensor_set *set)
    uint64_t syna_tensor_set_count(const syna_tensor_set *set)
    size_t syna_tensor_set_parts(const syna_tensor_set *set)
    int32_t syna_tensor_set_dtype(const syna_tensor_set *set)
    int32_t syna_tensor_set_part(const syna_tensor_set *set, size_t index, syna_tensor_part *out)
    const char *syna_tensor_set_plain_key(const syna_tensor_set *set, uint64_t index, size_t *len)
    int32_t syna_tensor_set_read(syna_tensor_set *set, uint64_t first, uint64_t count, void *out)
    int32_t syna_tensor_set_rows(syna_tensor_set *set, uint64_t row, const int64_t *rows,
                                 size_t count, void *out)
    int32_t syna_tensor_set_view(syna_tensor_set *set, const void **data, syna_tensor_pin **pin)
    void syna_tensor_unpin(syna_tensor_pin *pin)
# --------------------------------------------------------------------------------- registry.h
cdef extern from "synadb/registry.h" nogil:
    enum:
        SYNA_MODEL_NAME_MAX
        SYNA_MODEL_ALIAS_MAX

    ctypedef struct syna_model_facts:
        uint32_t size
        const char *metadata_json
        const char *run_id
        const char *format

    ctypedef struct syna_model_saved:
        uint32_t size
        uint32_t version
        uint64_t size_bytes
        char checksum[65]

    ctypedef struct syna_model_writer:
        pass
    ctypedef struct syna_model_reader:
        pass

    int32_t syna_models_create(syna_db *db, const char *name, const syna_model_facts *facts,
                               syna_model_writer **out)
    int32_t syna_models_write(syna_model_writer *writer, const void *data, size_t len)
    int32_t syna_models_commit(syna_model_writer *writer, syna_model_saved *out)
    void syna_models_writer_free(syna_model_writer *writer)

    int32_t syna_models_open(syna_db *db, const char *name, uint32_t version,
                             syna_model_reader **out)
    uint64_t syna_models_size(const syna_model_reader *reader)
    int32_t syna_models_read(syna_model_reader *reader, uint64_t offset, void *buf, size_t len,
                             size_t *got)
    const char *syna_models_reader_json(const syna_model_reader *reader, size_t *len)
    void syna_models_reader_free(syna_model_reader *reader)
    int32_t syna_models_info(syna_db *db, const char *name, uint32_t version, char **out_json,
                             size_t *out_len)

    ctypedef int32_t (*syna_model_fn)(void *context, const char *name, uint32_t version,
                                      const char *json, size_t json_len) noexcept nogil
    int32_t syna_models_list(syna_db *db, const char *name, syna_model_fn visit, void *context)
    int32_t syna_models_set_stage(syna_db *db, const char *name, uint32_t version, int32_t stage)
    int32_t syna_models_production(syna_db *db, const char *name, uint32_t *version)
    int32_t syna_models_stages(syna_db *db, const char *name, char **out_json, size_t *out_len)
    int32_t syna_models_set_alias(syna_db *db, const char *name, const char *alias,
                                  uint32_t version)
    int32_t syna_models_alias(syna_db *db, const char *name, const char *alias, uint32_t *version)
    int32_t syna_models_aliases(syna_db *db, const char *name, syna_model_fn visit, void *context)
    int32_t syna_models_delete(syna_db *db, const char *name, uint32_t version, uint32_t *deleted)

# ------------------------------------------------------------------------------------ arrow.h
cdef extern from "synadb/arrow.h" nogil:
    enum:
        ARROW_FLAG_NULLABLE
        SYNA_COLUMN_KEY
        SYNA_COLUMN_TYPE
        SYNA_COLUMN_TIME
        SYNA_COLUMN_EXPIRES
        SYNA_COLUMN_VALUE
        SYNA_COLUMNS_ALL
        SYNA_TYPE_ANY

    struct ArrowSchema:
        const char *format
        const char *name
        const char *metadata
        int64_t flags
        int64_t n_children
        ArrowSchema **children
        ArrowSchema *dictionary
        void (*release)(ArrowSchema *) noexcept nogil
        void *private_data

    struct ArrowArray:
        int64_t length
        int64_t null_count
        int64_t offset
        int64_t n_buffers
        int64_t n_children
        const void **buffers
        ArrowArray **children
        ArrowArray *dictionary
        void (*release)(ArrowArray *) noexcept nogil
        void *private_data

    struct ArrowArrayStream:
        int (*get_schema)(ArrowArrayStream *, ArrowSchema *out) noexcept nogil
        int (*get_next)(ArrowArrayStream *, ArrowArray *out) noexcept nogil
        const char *(*get_last_error)(ArrowArrayStream *) noexcept nogil
        void (*release)(ArrowArrayStream *) noexcept nogil
        void *private_data

    ctypedef struct syna_records_options:
        uint32_t size
        int32_t type
        const char *key
        size_t key_len
        const char *pattern
        size_t pattern_len
        uint8_t history
        uint8_t strict
        uint32_t columns
        uint32_t dimensions
        uint32_t batch_rows

    ctypedef struct syna_records:
        pass

    int32_t syna_records_new(syna_db *db, const syna_records_options *options, syna_records **out)
    int32_t syna_records_next(syna_records *records, syna_record *record)
    void syna_records_free(syna_records *records)
    int32_t syna_arrow_stream(syna_db *db, const syna_records_options *options,
                              ArrowArrayStream *out)
    int32_t syna_arrow_schema(const syna_records_options *options, ArrowSchema *out)
    int32_t syna_db_let_go(syna_db *db)
    int32_t syna_batch_delete_at(syna_batch *batch, const char *key, size_t key_len,
                                 uint64_t when_us)

# ------------------------------------------------------------------------------------- text.h
cdef extern from "synadb/text.h" nogil:
    enum:
        SYNA_TEXT_ID_MAX
        SYNA_TEXT_TEXTS
        SYNA_TEXT_METADATA
        SYNA_TEXT_ALL

    ctypedef struct syna_text:
        pass
    ctypedef void (*syna_stem_fn)(void *context, char *word, size_t *len, size_t room) noexcept nogil

    ctypedef struct syna_text_options:
        uint32_t size
        uint8_t no_sync
        uint8_t read_only
        uint8_t must_exist
        uint8_t bm25_given
        double k1
        double b
        const char *analyzer
        syna_stem_fn stem
        void *stem_context
        syna_progress_fn progress
        void *context

    ctypedef struct syna_document:
        const char *id
        size_t id_len
        const char *text
        size_t text_len
        const char *metadata
        size_t metadata_len

    ctypedef struct syna_text_hit:
        const char *id
        const char *text
        const char *metadata
        size_t text_len
        size_t metadata_len
        uint32_t id_len
        float score

    ctypedef struct syna_text_explain:
        uint32_t size
        uint32_t terms
        uint64_t postings
        uint64_t scored
        uint64_t candidates
        uint64_t verified

    ctypedef struct syna_text_search:
        uint32_t size
        uint32_t flags
        uint64_t k
        const char *filter
        size_t filter_len
        syna_text_explain *explain

    ctypedef struct syna_span:
        uint64_t start
        uint64_t end

    ctypedef struct syna_text_stats:
        uint32_t size
        uint32_t analyzer_version
        char analyzer[32]
        double k1
        double b
        uint64_t documents
        uint64_t dead_rows
        uint64_t terms
        uint64_t postings
        double average_length
        uint64_t memory_bytes
        uint64_t file_bytes

    int32_t syna_text_open(const char *path, const syna_text_options *options, syna_text **out)
    int32_t syna_text_close(syna_text *index)
    int32_t syna_text_put(syna_text *index, const syna_document *documents, size_t count,
                          size_t *added)
    int32_t syna_text_delete(syna_text *index, const char *id, size_t id_len, int32_t *deleted)
    int32_t syna_text_set_metadata(syna_text *index, const char *id, size_t id_len,
                                   const char *metadata, size_t metadata_len)
    int32_t syna_text_get(syna_text *index, const char *id, size_t id_len, syna_text_hit **out)
    int32_t syna_text_contains(syna_text *index, const char *id, size_t id_len)
    uint64_t syna_text_count(syna_text *index)
    int32_t syna_text_ids(syna_text *index, syna_text_hit **hits, size_t *count)
    int32_t syna_text_find(syna_text *index, const char *const *queries, const size_t *lens,
                           size_t count, const syna_text_search *how, syna_text_hit **hits,
                           size_t *counts)
    void syna_free_text_hits(syna_text_hit *hits)
    int32_t syna_text_spans(syna_text *index, const char *query, size_t query_len,
                            const char *text, size_t text_len, syna_span **spans, size_t *count)
    void syna_free_spans(syna_span *spans)
    int32_t syna_text_terms(syna_text *index, const char *text, size_t text_len, char **out,
                            size_t *len)
    int32_t syna_text_frequency(syna_text *index, const char *term, size_t term_len,
                                uint64_t *documents)
    int32_t syna_text_flush(syna_text *index)
    int32_t syna_text_compact(syna_text *index, syna_progress_fn progress, void *context)
    int32_t syna_text_refresh(syna_text *index, int32_t *changed)
    int32_t syna_text_get_stats(syna_text *index, syna_text_stats *out)

# ------------------------------------------------------------ gwi.h
cdef extern from "synadb/gwi.h" nogil:
    enum:
        SYNA_GWI_NPROBE

    ctypedef struct syna_wells:
        pass

    ctypedef struct syna_wells_options:
        uint32_t size
        uint32_t dimensions
        int32_t metric
        uint8_t read_only
        uint32_t branching_factor
        uint32_t num_levels
        uint32_t threads
        uint64_t initial_capacity

    int32_t syna_wells_open(const char *path, const syna_wells_options *options, syna_wells **out)
    int32_t syna_wells_close(syna_wells *index)
    int32_t syna_wells_initialize(syna_wells *index, const float *vectors, size_t count,
                                  uint32_t dimensions, syna_progress_fn progress, void *context)
    int32_t syna_wells_train(syna_wells *index, syna_progress_fn progress, void *context)
    int32_t syna_wells_insert(syna_wells *index, const char *key, size_t key_len,
                              const float *vector, uint32_t dimensions)
    int32_t syna_wells_insert_batch(syna_wells *index, const char *const *keys,
                                    const size_t *key_lens, const float *vectors,
                                    uint32_t dimensions, const char *const *metadata,
                                    const size_t *metadata_lens, size_t count, size_t *added)
    int32_t syna_wells_update_metadata(syna_wells *index, const char *key, size_t key_len,
                                       const char *json, size_t json_len, uint32_t flags)
    int32_t syna_wells_delete(syna_wells *index, const char *key, size_t key_len, int32_t *deleted)
    int32_t syna_wells_get(syna_wells *index, const char *key, size_t key_len, float *out,
                           uint32_t dimensions)
    int32_t syna_wells_get_metadata(syna_wells *index, const char *key, size_t key_len, char **out,
                                    size_t *len)
    int32_t syna_wells_contains(syna_wells *index, const char *key, size_t key_len)
    uint64_t syna_wells_count(syna_wells *index)

    ctypedef struct syna_wells_explain:
        uint32_t size
        uint32_t wells
        float recall
        uint32_t exact
        uint64_t queries
        uint64_t lists
        uint64_t rows
        uint64_t full
        uint64_t matches
        uint64_t total

    ctypedef struct syna_wells_search_options:
        uint32_t size
        uint32_t flags
        uint64_t k
        float radius
        float recall
        uint64_t nprobe
        const char *filter
        size_t filter_len
        syna_wells_explain *explain

    int32_t syna_wells_search(syna_wells *index, const float *queries, size_t count,
                              uint32_t dimensions, const syna_wells_search_options *how,
                              syna_hit **hits, size_t *counts)
    int32_t syna_wells_rows(syna_wells *index, uint32_t flags, syna_hit **hits, size_t *count)
    int32_t syna_wells_flush(syna_wells *index)
    int32_t syna_wells_refresh(syna_wells *index, int32_t *changed)
    int32_t syna_wells_compact(syna_wells *index, syna_progress_fn progress, void *context)
    int32_t syna_wells_verify(const char *path, syna_finding_fn visit, void *context,
                              syna_progress_fn progress, syna_check *out)

    ctypedef struct syna_wells_stats:
        uint32_t size
        uint32_t dimensions
        int32_t metric
        uint32_t branching_factor
        uint32_t num_levels
        uint32_t wells
        uint32_t initialized
        uint64_t rows
        uint64_t dead_rows
        uint64_t fresh_rows
        uint64_t trained_rows
        uint64_t splits
        uint64_t unsaved_rows
        uint64_t generation
        uint64_t memory_bytes
        uint64_t file_bytes
        uint8_t uuid[16]
        char simd[16]

    int32_t syna_wells_get_stats(syna_wells *index, syna_wells_stats *out)

# ------------------------------------------------------------ hybrid.h
cdef extern from "synadb/hybrid.h" nogil:
    enum:
        SYNA_LAYER_COLD
        SYNA_LAYER_HOT

    ctypedef struct syna_layers:
        pass

    ctypedef struct syna_layers_options:
        uint32_t size
        uint32_t dimensions
        int32_t metric
        uint8_t preset
        uint8_t read_only
        float recall
        uint32_t threads
        uint64_t promote_rows
        uint64_t hot_capacity

    int32_t syna_layers_open(const char *hot_path, const char *cold_path,
                             const syna_layers_options *options, syna_layers **out)
    int32_t syna_layers_close(syna_layers *store)
    int32_t syna_layers_initialize_hot(syna_layers *store, const float *vectors, size_t count,
                                       uint32_t dimensions, syna_progress_fn progress, void *context)
    int32_t syna_layers_ingest_batch(syna_layers *store, const char *const *keys,
                                     const size_t *key_lens, const float *vectors,
                                     uint32_t dimensions, const char *const *metadata,
                                     const size_t *metadata_lens, size_t count, size_t *added)
    int32_t syna_layers_update_metadata(syna_layers *store, const char *key, size_t key_len,
                                        const char *json, size_t len, int32_t replace)
    int32_t syna_layers_delete(syna_layers *store, const char *key, size_t key_len,
                               int32_t *deleted)
    int32_t syna_layers_get(syna_layers *store, const char *key, size_t key_len, float *out,
                            uint32_t dimensions)
    int32_t syna_layers_get_metadata(syna_layers *store, const char *key, size_t key_len,
                                     char **out, size_t *len)
    int32_t syna_layers_contains(syna_layers *store, const char *key, size_t key_len)

    ctypedef struct syna_layers_explain:
        uint32_t size
        uint32_t rounds
        uint64_t passed
        syna_wells_explain hot
        syna_buckets_explain cold

    ctypedef struct syna_layers_search_options:
        uint32_t size
        uint32_t flags
        uint64_t k
        float radius
        float recall
        uint64_t nprobe
        uint32_t ef_search
        uint32_t layers
        const char *filter
        size_t filter_len
        syna_layers_explain *explain

    int32_t syna_layers_search(syna_layers *store, const float *queries, size_t count,
                               uint32_t dimensions, const syna_layers_search_options *how,
                               syna_hit **hits, uint8_t **sources, size_t *counts)
    int32_t syna_layers_rows(syna_layers *store, uint32_t flags, syna_hit **hits,
                             uint8_t **sources, size_t *count)
    int32_t syna_layers_promote(syna_layers *store, syna_progress_fn progress, void *context,
                                size_t *moved)
    int32_t syna_layers_flush_hot(syna_layers *store)
    int32_t syna_layers_save_cold(syna_layers *store)
    int32_t syna_layers_save(syna_layers *store)
    int32_t syna_layers_refresh(syna_layers *store, int32_t *changed)
    int32_t syna_layers_compact(syna_layers *store, syna_progress_fn progress, void *context)

    ctypedef struct syna_layers_stats:
        uint32_t size
        uint32_t dimensions
        int32_t metric
        uint32_t promoting
        uint64_t rows
        uint64_t hot_rows
        uint64_t cold_rows
        uint64_t outdated_rows
        uint64_t promotions
        uint64_t promoted_rows
        uint64_t promote_rows
        syna_wells_stats hot
        syna_buckets_stats cold

    int32_t syna_layers_get_stats(syna_layers *store, syna_layers_stats *out)
    uint64_t syna_layers_count_in(syna_layers *store, uint32_t layer)
    uint64_t syna_layers_count(syna_layers *store)

cdef extern from "synadb/sparse.h" nogil:
    enum:
        SYNA_SPARSE_METADATA
        SYNA_SPARSE_MIN_SCORE
        SYNA_SPARSE_TERMS_MAX
    const uint32_t SYNA_SPARSE_VOCABULARY_MAX

    ctypedef struct syna_sparse:
        pass

    ctypedef struct syna_sparse_options:
        uint32_t size
        uint32_t vocab_size
        uint8_t no_sync
        uint8_t read_only
        uint8_t must_exist
        syna_progress_fn progress
        void *context

    int32_t syna_sparse_open(const char *path, const syna_sparse_options *options,
                             syna_sparse **out)
    int32_t syna_sparse_close(syna_sparse *store)

    ctypedef struct syna_sparse_rows:
        uint32_t size
        uint64_t count
        const uint64_t *offsets
        const uint32_t *terms
        const float *weights
        const char *const *keys
        const size_t *key_lens
        const char *const *metadata
        const size_t *metadata_lens

    int32_t syna_sparse_index(syna_sparse *store, const syna_sparse_rows *rows, size_t *added)
    int32_t syna_sparse_update_metadata(syna_sparse *store, const char *key, size_t key_len,
                                        const char *json, size_t json_len, uint32_t flags)
    int32_t syna_sparse_delete(syna_sparse *store, const char *key, size_t key_len,
                               int32_t *deleted)

    ctypedef struct syna_sparse_row:
        const uint32_t *terms
        const float *weights
        const char *metadata
        uint32_t count
        uint32_t metadata_len

    int32_t syna_sparse_get(syna_sparse *store, const char *key, size_t key_len,
                            syna_sparse_row **row)
    void syna_free_sparse_row(syna_sparse_row *row)
    int32_t syna_sparse_get_metadata(syna_sparse *store, const char *key, size_t key_len, char **out,
                                     size_t *len)
    int32_t syna_sparse_contains(syna_sparse *store, const char *key, size_t key_len)
    uint64_t syna_sparse_count(syna_sparse *store)

    ctypedef struct syna_sparse_hit:
        const char *key
        const char *metadata
        uint32_t key_len
        uint32_t metadata_len
        float score

    ctypedef struct syna_sparse_explain:
        uint32_t size
        uint32_t windows
        uint64_t postings
        uint64_t scored
        uint64_t matches

    ctypedef struct syna_sparse_search:
        uint32_t size
        uint32_t flags
        uint64_t k
        float min_score
        float recall
        const char *filter
        size_t filter_len
        syna_sparse_explain *explain

    int32_t syna_sparse_search_many(syna_sparse *store, const syna_sparse_rows *queries,
                                    const syna_sparse_search *how, syna_sparse_hit **hits,
                                    size_t *counts)
    int32_t syna_sparse_list(syna_sparse *store, uint32_t flags, syna_sparse_hit **hits,
                             size_t *count)
    void syna_free_sparse_hits(syna_sparse_hit *hits)
    int32_t syna_sparse_flush(syna_sparse *store)
    int32_t syna_sparse_save(syna_sparse *store)
    int32_t syna_sparse_refresh(syna_sparse *store, int32_t *changed)

    ctypedef struct syna_sparse_stats:
        uint32_t size
        uint32_t vocab_size
        uint64_t rows
        uint64_t pairs
        uint64_t dead_rows
        uint64_t memory_bytes
        uint64_t mapped_bytes
        uint64_t file_bytes
        uint32_t windows
        uint32_t fresh_rows

    int32_t syna_sparse_get_stats(syna_sparse *store, syna_sparse_stats *out)
