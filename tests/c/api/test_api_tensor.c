/* The C interface of tensors: the seeds' path-keyed calls, handles, views, and a code for every kind of
 * bad argument. */
#include "check.h"

#include <synadb.h>

static const char *open_new(const char *name)
{
    const char *path = check_path(name);
    CHECK_OK(syna_open_with_config(path, 0));
    return path;
}

TEST(a_program_stores_and_loads_by_path)
{
    const char *path = open_new("t.db");
    const double values[3] = {1, 2.5, -3};
    const int64_t large = INT64_C(9007199254740993);
    void *data;
    size_t len;
    CHECK_EQ(syna_tensor_put(path, "values/", values, 3, SYNA_DTYPE_FLOAT64), 3);
    CHECK_OK(syna_tensor_get(path, "values/*", SYNA_DTYPE_FLOAT32, &data, &len));
    CHECK_EQ(len, 3);
    CHECK_MEM(data, ((const float[3]){1, 2.5f, -3}), 12);
    syna_free_tensor_data(data, len, SYNA_DTYPE_FLOAT32);
    CHECK_FAILS(syna_tensor_get(path, "values/*", SYNA_DTYPE_INT32, &data, &len),
                SYNA_ERR_TYPE_MISMATCH, SYNA_WHY_NONE);
    CHECK(data == NULL && len == 0);
    CHECK(syna_put_int(path, "plain/a", large) > 0);
    CHECK_OK(syna_tensor_get(path, "plain/*", SYNA_DTYPE_INT64, &data, &len));
    CHECK_EQ(len, 1);
    CHECK_MEM(data, &large, 8);
    syna_free_tensor_data(data, len, SYNA_DTYPE_INT64);
    CHECK_EQ(syna_tensor_put(path, "values/", NULL, 0, SYNA_DTYPE_INT32), 0);
    CHECK_OK(syna_tensor_get(path, "values/*", SYNA_DTYPE_INT32, &data, &len));
    CHECK_EQ(len, 0);
    syna_free_tensor_data(data, len, SYNA_DTYPE_INT32);
    CHECK_OK(syna_tensor_get(path, "nothing*", SYNA_DTYPE_INT32, &data, &len));
    CHECK_EQ(len, 0);
    syna_free_tensor_data(data, len, SYNA_DTYPE_INT32);
    syna_free_tensor_data(NULL, 0, 0);
    CHECK_OK(syna_close(path));
}

TEST(bad_arguments_of_path_keyed_calls_have_negative_codes)
{
    const char *path = check_path("t.db");
    const float one = 1;
    void *data;
    size_t len;
    CHECK_RC(syna_tensor_put(path, "x", &one, 1, SYNA_DTYPE_FLOAT32), SYNA_ERR_DB_NOT_FOUND);
    CHECK_RC(syna_tensor_get(path, "x", SYNA_DTYPE_FLOAT32, &data, &len), SYNA_ERR_DB_NOT_FOUND);
    open_new("t.db");
    CHECK_RC(syna_tensor_put(path, NULL, &one, 1, SYNA_DTYPE_FLOAT32), SYNA_ERR_INVALID_PATH);
    CHECK_RC(syna_tensor_put(path, "x", NULL, 1, SYNA_DTYPE_FLOAT32), SYNA_ERR_INVALID_PATH);
    CHECK_RC(syna_tensor_put(path, "x", &one, 1, SYNA_DTYPE_FLOAT16), SYNA_ERR_INVALID_PATH);
    CHECK_RC(syna_tensor_put(path, "x", &one, 1, -1), SYNA_ERR_INVALID_PATH);
    CHECK_RC(syna_tensor_put(path, "\xff", &one, 1, 0), SYNA_ERR_INVALID_PATH);
    CHECK_RC(syna_tensor_put(path, "x", &one, SIZE_MAX / 2, 0), SYNA_ERR_INVALID_PATH);
    CHECK_RC(syna_tensor_put(NULL, "x", &one, 1, 0), SYNA_ERR_INVALID_PATH);
    CHECK_RC(syna_tensor_get(path, NULL, 0, &data, &len), SYNA_ERR_INVALID_PATH);
    CHECK_RC(syna_tensor_get(path, "x", 99, &data, &len), SYNA_ERR_INVALID_PATH);
    CHECK_RC(syna_tensor_get(path, "x", 0, NULL, &len), SYNA_ERR_INVALID_PATH);
    CHECK_RC(syna_tensor_get(path, "x", 0, &data, NULL), SYNA_ERR_INVALID_PATH);
    CHECK_OK(syna_close(path));
}

static syna_tensors *handle(const char *name)
{
    syna_tensors *t;
    syna_db_options options = {.size = sizeof options, .no_sync = 1};
    CHECK_OK(syna_tensors_open(check_path(name), &options, &t));
    return t;
}

TEST(a_set_tells_its_parts_and_gives_rows_and_views)
{
    syna_tensors *t = handle("t.db");
    const uint64_t shape[2] = {3, 2};
    const int16_t data[6] = {1, 2, 3, 4, 5, 6};
    const int64_t rows[2] = {2, 0};
    int16_t got[4];
    syna_tensor_spec spec = {
        .size = sizeof spec, .dtype = SYNA_DTYPE_INT16, .dims = 2, .shape = shape};
    syna_tensor_part part = {.size = sizeof part};
    syna_tensor_set *set;
    syna_tensor_pin *pin;
    const void *view;
    uint64_t total, deleted;
    CHECK_OK(syna_tensors_put(t, "x/", 2, &spec, data));
    CHECK_OK(syna_tensors_select(t, "x/*", 3, SYNA_SELECT_ELEMENTS, &set));
    CHECK_EQ(syna_tensor_set_count(set), 6);
    CHECK_EQ(syna_tensor_set_parts(set), 1);
    CHECK_EQ(syna_tensor_set_dtype(set), SYNA_DTYPE_INT16);
    CHECK_OK(syna_tensor_set_part(set, 0, &part));
    CHECK(part.dims == 2 && part.shape[0] == 3 && part.digits == 4 && part.prefix_len == 2);
    CHECK_OK(syna_tensor_set_rows(set, 2, rows, 2, got));
    CHECK_MEM(got, ((const int16_t[4]){5, 6, 1, 2}), 8);
    CHECK_FAILS(syna_tensor_set_rows(set, 2, (const int64_t[1]){3}, 1, got), SYNA_ERR_GENERIC,
                SYNA_WHY_ARGUMENT);
    CHECK_FAILS(syna_tensor_set_rows(set, 4, rows, 1, got), SYNA_ERR_GENERIC, SYNA_WHY_ARGUMENT);
    CHECK_FAILS(syna_tensor_set_read(set, 5, 2, got), SYNA_ERR_GENERIC, SYNA_WHY_ARGUMENT);
    CHECK_OK(syna_tensor_set_view(set, &view, &pin));
    CHECK_OK(syna_tensors_append(t, "x/", 2, &spec, data, &total));
    CHECK_EQ(total, 6);
    CHECK_EQ(syna_tensor_set_count(set), 6); /* as it was */
    syna_tensor_set_free(set);
    CHECK_OK(syna_tensors_delete(t, "*", 1, SYNA_SELECT_ELEMENTS, &deleted));
    CHECK_EQ(deleted, 12);
    CHECK_OK(syna_compact(check_path("t.db")));
    CHECK_OK(syna_tensors_flush(t));
    CHECK_OK(syna_tensors_close(t));
    CHECK_MEM(view, data, sizeof data);
    syna_tensor_unpin(pin);
}

TEST(bad_arguments_of_handles_change_nothing)
{
    syna_tensors *t = handle("t.db"), *none;
    const uint64_t shape[2] = {2, 2}, huge[2] = {UINT64_MAX, 2};
    const uint8_t data[4] = {0, 1, 2, 3};
    syna_tensor_spec good = {
        .size = sizeof good, .dtype = SYNA_DTYPE_UINT8, .dims = 2, .shape = shape}, bad;
    syna_tensor_set *set;
    CHECK_RC(syna_tensors_open(NULL, NULL, &none), SYNA_ERR_INVALID_PATH);
    CHECK_RC(syna_tensors_open(check_path("t.db"), NULL, NULL), SYNA_ERR_INVALID_PATH);
    CHECK_RC(syna_tensors_put(NULL, "x", 1, &good, data), SYNA_ERR_INVALID_PATH);
    CHECK_RC(syna_tensors_put(t, "x", 1, &good, NULL), SYNA_ERR_INVALID_PATH);
    CHECK_RC(syna_tensors_put(t, "x", 1, NULL, data), SYNA_ERR_INVALID_PATH);
    CHECK_RC(syna_tensors_put(t, "x\0y", 3, &good, data), SYNA_ERR_GENERIC);
#define REFUSED(field, value)                                                            \
    do {                                                                                 \
        bad = good;                                                                      \
        bad.field = (value);                                                             \
        CHECK_FAILS(syna_tensors_put(t, "x", 1, &bad, data), SYNA_ERR_GENERIC, SYNA_WHY_ARGUMENT); \
    } while (0)
    REFUSED(size, 8);
    REFUSED(dtype, 17);
    REFUSED(dtype, -1);
    REFUSED(codec, 2);
    REFUSED(dims, 65);
    REFUSED(shape, huge);
    REFUSED(flags, SYNA_TENSOR_CHUNKED); /* per_chunk is 0 */
    REFUSED(dtype, SYNA_DTYPE_BOOL);     /* a byte that is neither 0 nor 1 */
    CHECK_RC(syna_tensors_append(t, "x", 1, &good, data, NULL), SYNA_ERR_KEY_NOT_FOUND);
    CHECK_RC(syna_tensors_select(t, NULL, 0, 1, &set), SYNA_ERR_INVALID_PATH);
    CHECK_OK(syna_tensors_select(t, "*", 1, SYNA_SELECT_ELEMENTS | SYNA_SELECT_CHUNKS, &set));
    CHECK_EQ(syna_tensor_set_parts(set), 0);
    syna_tensor_set_free(set);
    syna_tensor_set_free(NULL);
    syna_tensor_unpin(NULL);
    CHECK_OK(syna_tensors_close(t));
}
