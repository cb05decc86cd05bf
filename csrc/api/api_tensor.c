/* The C interface of tensors (synadb/tensor.h): check pointers, find the database, call the engine. */
#include "base/internal.h"

#include "api/api_args.h"
#include "api/handles.h"
#include "engine/tensor.h"
#include "engine/tensor_core.h"

/* ---------------------------------------------------------------- handles */

int32_t syna_tensors_open(const char *path, const syna_db_options *options, syna_tensors **out)
{
    syna_db *db;
    REQUIRE(out);
    *out = NULL;
    SYNA_TRY(check_path(path));
    SYNA_TRY(syna_db_open(path, options, &db));
    syna_rc rc = tensors_new(db, out);
    if (rc != SYNA_SUCCESS) {
        struct status_record why = *status_get();
        handles_close(db);
        status_set(&why);
    }
    return rc;
}

int32_t syna_tensors_close(syna_tensors *tensors)
{
    REQUIRE(tensors);
    syna_db *db = tensors_db(tensors);
    tensors_free(tensors);
    return handles_close(db);
}

int32_t syna_tensors_flush(syna_tensors *tensors)
{
    REQUIRE(tensors);
    return db_flush(tensors_db(tensors));
}

/* Data may be missing only for a tensor without elements. What is wrong with the spec itself is for the
 * engine to tell. */
static syna_rc require_spec(const syna_tensor_spec *spec, const void *data)
{
    bool empty = false;
    REQUIRE(spec);
    if (spec->size < sizeof *spec || spec->dims > SYNA_TENSOR_DIMS_MAX)
        return SYNA_SUCCESS;
    if (spec->dims)
        REQUIRE(spec->shape);
    for (uint32_t i = 0; i < spec->dims; i++)
        empty |= spec->shape[i] == 0;
    if (!empty)
        REQUIRE(data);
    return SYNA_SUCCESS;
}

int32_t syna_tensors_put(syna_tensors *tensors, const char *prefix, size_t prefix_len,
                         const syna_tensor_spec *spec, const void *data)
{
    REQUIRE(tensors);
    REQUIRE(prefix);
    SYNA_TRY(require_spec(spec, data));
    return tensors_put(tensors, prefix, prefix_len, spec, data);
}

int32_t syna_tensors_append(syna_tensors *tensors, const char *prefix, size_t prefix_len,
                            const syna_tensor_spec *spec, const void *data, uint64_t *total)
{
    uint64_t ignored;
    REQUIRE(tensors);
    REQUIRE(prefix);
    SYNA_TRY(require_spec(spec, data));
    return tensors_append(tensors, prefix, prefix_len, spec, data, total ? total : &ignored);
}

int32_t syna_tensors_delete(syna_tensors *tensors, const char *pattern, size_t pattern_len,
                            uint32_t select, uint64_t *deleted)
{
    uint64_t ignored;
    REQUIRE(tensors);
    REQUIRE(pattern);
    return tensors_delete(tensors, pattern, pattern_len, select, deleted ? deleted : &ignored);
}

int32_t syna_tensors_select(syna_tensors *tensors, const char *pattern, size_t pattern_len,
                            uint32_t select, syna_tensor_set **out)
{
    REQUIRE(out);
    *out = NULL;
    REQUIRE(tensors);
    REQUIRE(pattern);
    return tensors_select(tensors, pattern, pattern_len, select, out);
}

/* ---------------------------------------------------------------- sets */

void syna_tensor_set_free(syna_tensor_set *set)
{
    tensor_set_free(set);
}

uint64_t syna_tensor_set_count(const syna_tensor_set *set)
{
    return set ? tensor_set_count(set) : 0;
}

size_t syna_tensor_set_parts(const syna_tensor_set *set)
{
    return set ? set->run_count : 0;
}

int32_t syna_tensor_set_dtype(const syna_tensor_set *set)
{
    return set ? tensor_set_dtype(set) : SYNA_DTYPE_FLOAT32;
}

int32_t syna_tensor_set_part(const syna_tensor_set *set, size_t index, syna_tensor_part *out)
{
    REQUIRE(set);
    REQUIRE(out);
    return tensor_set_part(set, index, out);
}

const char *syna_tensor_set_plain_key(const syna_tensor_set *set, uint64_t index, size_t *len)
{
    if (!set || !len || index >= set->plain_count)
        return NULL;
    *len = (size_t)(set->key_at[index + 1] - set->key_at[index] - 1);
    return set->names + set->key_at[index];
}

int32_t syna_tensor_set_read(syna_tensor_set *set, uint64_t first, uint64_t count, void *out)
{
    REQUIRE(set);
    if (count)
        REQUIRE(out);
    return tensor_set_read(set, first, count, out);
}

int32_t syna_tensor_set_read_as(syna_tensor_set *set, uint64_t first, uint64_t count,
                                int32_t dtype, void *out)
{
    REQUIRE(set);
    if (count)
        REQUIRE(out);
    return tensor_set_read_as(set, first, count, dtype, out);
}

int32_t syna_tensor_set_rows(syna_tensor_set *set, uint64_t row, const int64_t *rows, size_t count,
                             void *out)
{
    REQUIRE(set);
    if (count) {
        REQUIRE(rows);
        REQUIRE(out);
    }
    return tensor_set_rows(set, row, rows, count, out);
}

int32_t syna_tensor_set_view(syna_tensor_set *set, const void **data, syna_tensor_pin **pin)
{
    REQUIRE(set);
    REQUIRE(data);
    REQUIRE(pin);
    return tensor_set_view(set, data, pin);
}

void syna_tensor_unpin(syna_tensor_pin *pin)
{
    tensor_unpin(pin);
}

/* ---------------------------------------------------------------- path-keyed */

static syna_rc check_dtype(int32_t dtype)
{
    if (dtype >= SYNA_DTYPE_FLOAT32 && dtype <= SYNA_DTYPE_INT64)
        return SYNA_SUCCESS;
    return syna_fail(SYNA_ERR_INVALID_PATH, SYNA_WHY_ARGUMENT,
                     "dtype %d, expected FLOAT32, FLOAT64, INT32 or INT64", dtype);
}

static syna_rc put_in(syna_db *db, const char *prefix, const void *data, size_t len, int32_t dtype)
{
    syna_tensors *tensors;
    uint64_t shape = len;
    syna_tensor_spec spec = {.size = sizeof spec, .dtype = dtype, .dims = 1, .shape = &shape};
    SYNA_TRY(tensors_new(db, &tensors));
    syna_rc rc = tensors_put(tensors, prefix, strlen(prefix), &spec, data);
    tensors_free(tensors);
    return rc;
}

int32_t syna_tensor_put(const char *path, const char *key_prefix, const void *data, size_t len,
                        int32_t dtype)
{
    syna_rc rc;
    REQUIRE(key_prefix);
    if (len)
        REQUIRE(data);
    SYNA_TRY(check_dtype(dtype));
    syna_db *db = handles_enter(path, &rc);
    if (!db)
        return rc;
    rc = put_in(db, key_prefix, data, len, dtype);
    handles_leave(db);
    return rc == SYNA_SUCCESS ? (int32_t)MIN(len, (size_t)INT32_MAX) : not_zero(rc);
}

/* Elements and plain values, else chunks. */
static syna_rc select_either(syna_tensors *tensors, const char *pattern, syna_tensor_set **set)
{
    size_t len = strlen(pattern);
    SYNA_TRY(tensors_select(tensors, pattern, len, SYNA_SELECT_ELEMENTS | SYNA_SELECT_PLAIN, set));
    if ((*set)->run_count)
        return SYNA_SUCCESS;
    tensor_set_free(*set);
    return tensors_select(tensors, pattern, len, SYNA_SELECT_CHUNKS, set);
}

static syna_rc read_all(syna_tensor_set *set, int32_t dtype, void **out, size_t *out_len)
{
    uint64_t count = tensor_set_count(set);
    size_t bytes;
    if (__builtin_mul_overflow(count, tensor_item_bytes(dtype), &bytes))
        return syna_no_memory(SIZE_MAX);
    void *data = mem_alloc(bytes);
    if (!data)
        return syna_no_memory(bytes);
    syna_rc rc = tensor_set_read_as(set, 0, count, dtype, data);
    if (rc != SYNA_SUCCESS) {
        mem_free(data);
        return rc;
    }
    *out = data;
    *out_len = (size_t)count;
    return SYNA_SUCCESS;
}

static syna_rc get_from(syna_db *db, const char *pattern, int32_t dtype, void **out, size_t *out_len)
{
    syna_tensors *tensors;
    syna_tensor_set *set;
    SYNA_TRY(tensors_new(db, &tensors));
    syna_rc rc = select_either(tensors, pattern, &set);
    if (rc == SYNA_SUCCESS) {
        rc = read_all(set, dtype, out, out_len);
        tensor_set_free(set);
    }
    tensors_free(tensors);
    return rc;
}

int32_t syna_tensor_get(const char *path, const char *pattern, int32_t dtype, void **out_data,
                        size_t *out_len)
{
    syna_rc rc;
    REQUIRE(out_data);
    REQUIRE(out_len);
    *out_data = NULL;
    *out_len = 0;
    REQUIRE(pattern);
    SYNA_TRY(check_dtype(dtype));
    syna_db *db = handles_enter(path, &rc);
    if (!db)
        return rc;
    rc = get_from(db, pattern, dtype, out_data, out_len);
    handles_leave(db);
    return rc;
}

void syna_free_tensor_data(void *data, size_t len, int32_t dtype)
{
    (void)len;
    (void)dtype;
    mem_free(data);
}
