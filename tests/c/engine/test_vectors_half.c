/* Vector stores whose rows are kept as 16-bit floats: what comes back, that scores are those of the rounded
 * rows to the bit, what the file remembers, what is refused, and what stays when calls fail. */
#include "check.h"

#include "base/rng.h"
#include "engine/vectors.h"
#include "index/exact.h"
#include "math/half.h"

#include <math.h>

struct open_store {
    syna_db *db;
    syna_vectors *store;
};

static syna_rc open_how(struct open_store *o, const syna_vectors_options *options)
{
    syna_db_options log = {.size = sizeof log, .no_sync = 1};
    CHECK_OK(db_open(check_path("h.db"), &log, &o->db));
    syna_rc rc = vectors_new(o->db, options, &o->store);
    if (rc != SYNA_SUCCESS) {
        struct status_record why = *status_get();
        CHECK_OK(db_close(o->db));
        return status_set(&why);
    }
    return rc;
}

static syna_rc open_as(struct open_store *o, uint32_t dims, int32_t metric, uint8_t dtype)
{
    syna_vectors_options options = {.size = sizeof options, .dimensions = dims, .metric = metric,
                                    .no_absorber = 1, .dtype = dtype};
    return open_how(o, &options);
}

static void close_store(struct open_store *o)
{
    vectors_save(o->store);
    vectors_free(o->store);
    CHECK_OK(db_close(o->db));
}

static syna_rc put(syna_vectors *store, const char *key, const float *v, uint32_t dims)
{
    size_t added;
    struct vectors_batch row = {.keys = &key, .vectors = v, .dims = dims, .count = 1};
    return vectors_insert(store, &row, &added);
}

static float rounded(uint8_t dtype, float x)
{
    return dtype == SYNA_ROWS_FLOAT16    ? half_from_f16(half_to_f16(x))
           : dtype == SYNA_ROWS_BFLOAT16 ? half_from_bf16(half_to_bf16(x))
                                         : x;
}

/* ---------------------------------------------------------------- rows and scores */

#define ROWS 1500u /* codes are learned from 1,024 rows on */

static void fill(float *rows, uint32_t dims)
{
    uint64_t seed = 7;
    for (size_t i = 0; i < (size_t)ROWS * dims; i++)
        rows[i] = (float)(rng_next(&seed) >> 40) / 8388608.0f - 1;
}

static void insert_all(syna_vectors *store, const float *rows, uint32_t dims)
{
    static char texts[ROWS][8];
    static const char *keys[ROWS];
    size_t added;
    for (uint32_t i = 0; i < ROWS; i++) {
        snprintf(texts[i], sizeof texts[i], "%u", i);
        keys[i] = texts[i];
    }
    struct vectors_batch batch = {.keys = keys, .vectors = rows, .dims = dims, .count = ROWS};
    CHECK_OK(vectors_insert(store, &batch, &added));
    CHECK_EQ(added, ROWS);
}

static void check_gets(syna_vectors *store, const float *rows, uint32_t dims, uint8_t dtype)
{
    float got[128], expected[128];
    for (uint32_t i = 0; i < ROWS; i += 97) {
        char key[8];
        size_t len = (size_t)snprintf(key, sizeof key, "%u", i);
        CHECK_OK(vectors_get(store, key, len, got, dims));
        for (uint32_t j = 0; j < dims; j++)
            expected[j] = rounded(dtype, rows[(size_t)i * dims + j]);
        CHECK_MEM(got, expected, dims * sizeof *got);
    }
}

/* The hits of a store of floats that holds the rounded rows, and of `store`, are the same to the bit. */
static void check_same_hits(syna_vectors *store, syna_vectors *floats, const float *queries,
                            uint32_t dims, size_t count, uint32_t flags)
{
    syna_search how = {.size = sizeof how, .k = 20, .flags = flags | SYNA_SEARCH_VECTORS};
    size_t counts[2][8];
    syna_hit *a, *b;
    CHECK_OK(vectors_search(store, queries, count, dims, &how, &a, counts[0]));
    CHECK_OK(vectors_search(floats, queries, count, dims, &how, &b, counts[1]));
    CHECK_MEM(counts[0], counts[1], count * sizeof(size_t));
    for (size_t i = 0; i < 20 * count; i++) {
        CHECK_EQ(a[i].key_len, b[i].key_len);
        CHECK_MEM(a[i].key, b[i].key, a[i].key_len);
        CHECK_MEM(&a[i].score, &b[i].score, sizeof a[i].score);
        CHECK_MEM(a[i].vector, b[i].vector, dims * sizeof(float));
    }
    syna_free_hits(a);
    syna_free_hits(b);
}

static void compare_with_floats(uint32_t dims, int32_t metric, uint8_t dtype)
{
    struct open_store o, plain;
    float *rows = mem_alloc((size_t)ROWS * dims * sizeof *rows);
    syna_db_options log = {.size = sizeof log, .no_sync = 1};
    syna_vectors_options options = {.size = sizeof options, .dimensions = dims, .metric = metric,
                                    .no_absorber = 1};
    check_note("%u dimensions, metric %d, dtype %d", dims, metric, dtype);
    char name[32];
    snprintf(name, sizeof name, "p%u-%d-%d.db", dims, metric, dtype);
    fill(rows, dims);
    CHECK_OK(open_as(&o, dims, metric, dtype));
    insert_all(o.store, rows, dims);
    check_gets(o.store, rows, dims, dtype);
    for (size_t i = 0; i < (size_t)ROWS * dims; i++)
        rows[i] = rounded(dtype, rows[i]);
    CHECK_OK(db_open(check_path(name), &log, &plain.db));
    CHECK_OK(vectors_new(plain.db, &options, &plain.store));
    insert_all(plain.store, rows, dims);
    for (int reopened = 0; reopened < 2; reopened++) {
        check_same_hits(o.store, plain.store, rows, dims, 1, 0);
        check_same_hits(o.store, plain.store, rows, dims, 8, SYNA_SEARCH_EXACT);
        close_store(&o);
        CHECK_OK(open_as(&o, dims, metric, SYNA_ROWS_DEFAULT));
    }
    CHECK_OK(vectors_build_index(o.store, NULL, NULL));
    CHECK_OK(vectors_build_index(plain.store, NULL, NULL));
    check_same_hits(o.store, plain.store, rows, dims, 8, 0); /* the same codes, the same graph */
    close_store(&o);
    CHECK_OK(open_as(&o, dims, metric, dtype));
    CHECK(vectors_has_index(o.store));
    check_same_hits(o.store, plain.store, rows, dims, 8, 0);
    CHECK_OK(db_compact(o.db, SYNA_COMPACT_LATEST, NULL, NULL));
    check_same_hits(o.store, plain.store, rows, dims, 8, SYNA_SEARCH_EXACT);
    close_store(&o);
    close_store(&plain);
    mem_free(rows);
}

TEST(scores_are_those_of_the_rounded_rows_to_the_bit)
{
    compare_with_floats(33, SYNA_METRIC_COSINE, SYNA_ROWS_FLOAT16); /* an odd number is filled up */
}

TEST(euclidean_scores_are_too)
{
    compare_with_floats(64, SYNA_METRIC_EUCLIDEAN, SYNA_ROWS_FLOAT16);
}

TEST(so_are_those_of_bfloat16)
{
    compare_with_floats(40, SYNA_METRIC_DOT_PRODUCT, SYNA_ROWS_BFLOAT16);
}

TEST(a_row_takes_half_the_bytes_in_the_file)
{
    struct open_store o;
    float *rows = mem_alloc((size_t)ROWS * 100 * sizeof *rows);
    syna_vectors_stats stats = {.size = sizeof stats};
    fill(rows, 100);
    CHECK_OK(open_as(&o, 100, SYNA_METRIC_COSINE, SYNA_ROWS_FLOAT16));
    insert_all(o.store, rows, 100);
    CHECK_OK(vectors_get_stats(o.store, &stats));
    CHECK_EQ(stats.dtype, SYNA_ROWS_FLOAT16);
    CHECK_EQ(stats.row_bytes, 200);
    CHECK_EQ(stats.code_bytes, 128);
    CHECK(stats.file_bytes < ROWS * (200u + 64u)); /* frame, key and checksum */
    close_store(&o);
    mem_free(rows);
}

/* ---------------------------------------------------------------- what is remembered and refused */

TEST(the_file_remembers_what_its_rows_are)
{
    struct open_store o;
    syna_vectors_stats stats = {.size = sizeof stats};
    const float v[2] = {1, 2};
    CHECK_OK(open_as(&o, 2, SYNA_METRIC_COSINE, SYNA_ROWS_BFLOAT16));
    CHECK_OK(put(o.store, "a", v, 2));
    close_store(&o);
    CHECK_FAILS(open_as(&o, 2, SYNA_METRIC_COSINE, SYNA_ROWS_FLOAT16), SYNA_ERR_GENERIC,
                SYNA_WHY_ARGUMENT);
    CHECK(strstr(status_get()->message, "bfloat16, opened with float16"));
    CHECK_FAILS(open_as(&o, 2, SYNA_METRIC_COSINE, SYNA_ROWS_FLOAT32), SYNA_ERR_GENERIC,
                SYNA_WHY_ARGUMENT);
    CHECK_FAILS(open_as(&o, 2, SYNA_METRIC_COSINE, 4), SYNA_ERR_GENERIC, SYNA_WHY_ARGUMENT);
    CHECK_OK(open_as(&o, 0, 0, SYNA_ROWS_DEFAULT));
    CHECK_OK(vectors_get_stats(o.store, &stats));
    CHECK_EQ(stats.dtype, SYNA_ROWS_BFLOAT16);
    const syna_vectors_options other = {.size = sizeof other, .dimensions = 2, .dtype = SYNA_ROWS_FLOAT16};
    CHECK_FAILS(vectors_reopen(o.store, &other), SYNA_ERR_GENERIC, SYNA_WHY_ARGUMENT);
    close_store(&o);
}

TEST(an_empty_store_takes_another_dtype)
{
    struct open_store o;
    const float v[2] = {1, 2.00048828125f}; /* half-way between two halves: to the even one */
    float got[2];
    int32_t deleted;
    CHECK_OK(open_as(&o, 2, SYNA_METRIC_COSINE, SYNA_ROWS_DEFAULT));
    CHECK_OK(put(o.store, "a", v, 2));
    CHECK_OK(vectors_delete(o.store, "a", 1, &deleted));
    const syna_vectors_options other = {.size = sizeof other, .dimensions = 2, .dtype = SYNA_ROWS_FLOAT16};
    CHECK_OK(vectors_reopen(o.store, &other));
    CHECK_OK(put(o.store, "a", v, 2));
    close_store(&o);
    CHECK_OK(open_as(&o, 2, SYNA_METRIC_COSINE, SYNA_ROWS_FLOAT16));
    CHECK_OK(vectors_get(o.store, "a", 1, got, 2));
    CHECK(got[0] == 1 && got[1] == 2);
    close_store(&o);
}

TEST(rows_of_floats_are_not_taken_for_halves)
{
    struct open_store o;
    const float v[2] = {1, 2};
    CHECK_OK(open_as(&o, 2, SYNA_METRIC_COSINE, SYNA_ROWS_DEFAULT));
    CHECK_OK(db_put(o.db, "vec/plain", 9, SYNA_TYPE_VECTOR, v, sizeof v, NULL, NULL));
    close_store(&o);
    CHECK_FAILS(open_as(&o, 2, SYNA_METRIC_COSINE, SYNA_ROWS_FLOAT16), SYNA_ERR_GENERIC,
                SYNA_WHY_ARGUMENT);
    CHECK(strstr(status_get()->message, "kept as float32"));
}

TEST(what_would_become_infinite_is_refused_and_nothing_of_the_batch_is_kept)
{
    struct open_store o;
    const char *keys[2] = {"good", "large"};
    const float rows[2][2] = {{65519.96f, -65504}, {1, -65520}};
    struct vectors_batch batch = {.keys = keys, .vectors = rows[0], .dims = 2, .count = 2};
    size_t added;
    float got[2];
    CHECK_OK(open_as(&o, 2, SYNA_METRIC_EUCLIDEAN, SYNA_ROWS_FLOAT16));
    CHECK_FAILS(vectors_insert(o.store, &batch, &added), SYNA_ERR_GENERIC, SYNA_WHY_ARGUMENT);
    CHECK(strstr(status_get()->message,
                 "row 1, key large: element 1 is -65520, too large for float16, expected at most 65504"));
    CHECK_EQ(vectors_count(o.store), 0);
    batch.count = 1;
    CHECK_OK(vectors_insert(o.store, &batch, &added));
    CHECK_OK(vectors_get(o.store, "good", 4, got, 2));
    CHECK(got[0] == 65504 && got[1] == -65504);
    const float wrong[2] = {1, NAN};
    CHECK_FAILS(put(o.store, "nan", wrong, 2), SYNA_ERR_GENERIC, SYNA_WHY_ARGUMENT);
    CHECK(strstr(status_get()->message, "expected a finite number"));
    close_store(&o);
}

TEST(bfloat16_takes_the_sizes_of_floats_up_to_its_own_largest)
{
    struct open_store o;
    const float v = 3e38f, large = 3.4e38f;
    float got;
    CHECK_OK(open_as(&o, 1, SYNA_METRIC_EUCLIDEAN, SYNA_ROWS_BFLOAT16));
    CHECK_OK(put(o.store, "v", &v, 1));
    CHECK_OK(vectors_get(o.store, "v", 1, &got, 1));
    CHECK(got == half_from_bf16(half_to_bf16(v)));
    CHECK_FAILS(put(o.store, "large", &large, 1), SYNA_ERR_GENERIC, SYNA_WHY_ARGUMENT);
    CHECK(strstr(status_get()->message, "too large for bfloat16"));
    close_store(&o);
}

TEST(the_most_dimensions_and_the_smallest_elements_survive)
{
    struct open_store o;
    static float v[SYNA_DIMENSIONS_MAX], got[SYNA_DIMENSIONS_MAX];
    for (uint32_t i = 0; i < SYNA_DIMENSIONS_MAX; i++)
        v[i] = half_from_f16((uint16_t)(i % 0x7c00 | (i & 1) << 15)); /* every finite half there is */
    CHECK_OK(open_as(&o, SYNA_DIMENSIONS_MAX, SYNA_METRIC_COSINE, SYNA_ROWS_FLOAT16));
    CHECK_OK(put(o.store, "v", v, SYNA_DIMENSIONS_MAX));
    close_store(&o);
    CHECK_OK(open_as(&o, SYNA_DIMENSIONS_MAX, SYNA_METRIC_COSINE, SYNA_ROWS_FLOAT16));
    CHECK_OK(vectors_get(o.store, "v", 1, got, SYNA_DIMENSIONS_MAX));
    CHECK_MEM(got, v, sizeof v);
    close_store(&o);
}

/* ---------------------------------------------------------------- failures at every call */

static bool fail_at(void *context, size_t bytes)
{
    int *left = context;
    (void)bytes;
    return --*left != 0;
}

TEST(without_memory_at_any_call_an_insert_is_there_whole_or_not_at_all)
{
    const char *keys[2] = {"b", "c"};
    const float rows[3] = {1, 2, 3};
    struct vectors_batch batch = {.keys = keys, .vectors = rows, .dims = 1, .count = 2};
    struct open_store o;
    CHECK_OK(open_as(&o, 1, SYNA_METRIC_EUCLIDEAN, SYNA_ROWS_FLOAT16));
    for (int k = 1;; k++) {
        int left = k;
        int32_t deleted;
        size_t added;
        check_note("k = %d", k);
        syna_test_set_alloc(fail_at, &left);
        syna_rc rc = vectors_insert(o.store, &batch, &added);
        syna_test_set_alloc(NULL, NULL);
        if (rc != SYNA_SUCCESS)
            CHECK_FAILS(rc, SYNA_ERR_INTERNAL, SYNA_WHY_NO_MEMORY);
        CHECK_EQ(vectors_count(o.store), rc == SYNA_SUCCESS ? 2 : 0);
        CHECK_OK(vectors_delete(o.store, "b", 1, &deleted));
        CHECK_OK(vectors_delete(o.store, "c", 1, &deleted));
        if (left > 0)
            break;
    }
    close_store(&o);
}
