/* Codes: the bounds always hold, on data made to break them; the three forms of comparison agree; the
 * step fits the data; and codes are the same at every level. */
#include "rows_fixture.h"

#include "base/crc32c.h"
#include "math/int8.h"

static const int32_t metrics[] = {SYNA_METRIC_COSINE, SYNA_METRIC_EUCLIDEAN, SYNA_METRIC_DOT_PRODUCT};
#define EACH_METRIC(m) for (size_t m = 0; m < COUNT_OF(metrics); m++)

static bool is_cosine(const struct row_set *set)
{
    return set->codes.metric == SYNA_METRIC_COSINE;
}

/* How many of the rows' intervals are narrower than everything. */
static size_t check_bounds(const struct row_set *set, const float *query)
{
    size_t narrow = 0;
    uint8_t *room = mem_alloc_aligned(set->codes.stride, 64);
    struct code_query q;
    float norm = vector_norm(set->kernels, query, set->codes.dims);
    codes_query(&set->codes, set->kernels, query, room, &q);
    for (uint32_t i = 0; i < set->count; i++) {
        const uint8_t *code = array_at(&set->code_rows, i);
        float error = *(float *)array_at(&set->errors, i), length = *(float *)array_at(&set->norms, i);
        float rank = row_set_rank(set, query, norm, i), lowest, highest;
        int32_t integer;
        codes_many(&set->codes, set->kernels, &q, &code, 1, &integer);
        codes_bounds(&set->codes, &q, integer, error, length, &lowest, &highest);
        check_note("metric %d, dims %u, row %u: integer %d, %g <= %g <= %g, error %g + %g",
                   set->codes.metric, set->codes.dims, i, integer, (double)lowest, (double)rank,
                   (double)highest, (double)error, (double)q.error);
        CHECK(lowest <= rank && rank <= highest);
        struct code_limit limit;
        codes_limit_init(&limit, &set->codes, &q, lowest);
        CHECK(codes_limit(&limit, error, length) >= integer);
        codes_limit_init(&limit, &set->codes, &q, rank);
        CHECK(codes_limit(&limit, error, length) >= integer);
        CHECK(codes_limit(&limit, error * 1.5f, length * 2) >= integer);
        narrow += lowest > -FLT_MAX && highest < FLT_MAX;
    }
    mem_free_aligned(room);
    return narrow;
}

static size_t check_kind(enum kind kind, int32_t metric, uint32_t dims, size_t count)
{
    size_t narrow = 0;
    float *data = malloc((count + 8) * dims * sizeof *data), *queries = data + count * dims;
    struct fixture f;
    fixture_fill(kind, data, count, dims);
    for (enum kind k = PLAIN; k < KINDS; k++) {
        for (size_t i = 0; i < dims; i++)
            queries[i] = fixture_element(k, 3, i);
        if (k == PLAIN) {
            /* Trained on half of the rows: what comes later may not fit. */
            fixture_init(&f, kernels_get(), metric, data, count, dims, (count + 1) / 2, 0);
            narrow += check_bounds(&f.set, data + count / 2 * dims);
        }
        narrow += check_bounds(&f.set, queries);
    }
    fixture_dispose(&f);
    free(data);
    return narrow;
}

TEST(a_rank_lies_between_its_bounds)
{
    static const uint32_t dims[] = {1, 2, 3, 31, 64, 65, 128, 384, 1000};
    for (enum kind kind = PLAIN; kind < KINDS; kind++)
        EACH_METRIC(m)
            for (size_t d = 0; d < COUNT_OF(dims); d++)
                /* The squares of what huge rows leave out overflow: then nothing is certain. */
                CHECK(check_kind(kind, metrics[m], dims[d], dims[d] > 100 ? 40 : 120) > 0 ||
                      kind == HUGE_ONES);
}

TEST(a_rank_lies_between_its_bounds_at_the_largest_length)
{
    EACH_METRIC(m)
        CHECK(check_kind(OUTLIERS, metrics[m], 65535, 4) > 0);
}

TEST(bounds_of_ordinary_rows_are_narrow)
{
    enum { ROWS = 200, DIMS = 384 };
    float *data = malloc(ROWS * DIMS * sizeof *data);
    fixture_fill(PLAIN, data, ROWS, DIMS);
    EACH_METRIC(m) {
        struct fixture f;
        struct code_query q;
        fixture_init(&f, kernels_get(), metrics[m], data, ROWS, DIMS, ROWS, 0);
        uint8_t *room = mem_alloc_aligned(f.set.codes.stride, 64);
        codes_query(&f.set.codes, f.set.kernels, data, room, &q);
        float norm = *(float *)array_at(&f.set.norms, 0);
        for (uint32_t i = 1; i < ROWS; i++) {
            const uint8_t *code = array_at(&f.set.code_rows, i);
            float lowest, highest, rank = row_set_rank(&f.set, data, norm, i);
            int32_t integer;
            codes_many(&f.set.codes, f.set.kernels, &q, &code, 1, &integer);
            codes_bounds(&f.set.codes, &q, integer, *(float *)array_at(&f.set.errors, i),
                         *(float *)array_at(&f.set.norms, i), &lowest, &highest);
            float scale = is_cosine(&f.set) ? 1 : norm * *(float *)array_at(&f.set.norms, i);
            CHECK(highest - lowest < (is_cosine(&f.set) ? 0.04f : 0.12f) * scale);
            CHECK(fabsf(codes_rank(&q, integer) - rank) <= (highest - lowest) / 2 + 1e-4f * scale);
        }
        mem_free_aligned(room);
        fixture_dispose(&f);
    }
    free(data);
}

TEST(one_many_scan_and_tile_agree)
{
    enum { ROWS = 90 };
    EACH_METRIC(m) {
        for (uint32_t dims = 1; dims < 200; dims += 37) {
            struct fixture f;
            struct code_query q;
            int32_t many[ROWS], scan[ROWS], *tile = malloc(ROWS * ROWS * sizeof *tile);
            const uint8_t *rows[ROWS];
            float *data = malloc(ROWS * dims * sizeof *data);
            fixture_fill(OUTLIERS, data, ROWS, dims);
            fixture_init(&f, kernels_get(), metrics[m], data, ROWS, dims, ROWS, 0);
            const struct codes *codes = &f.set.codes;
            for (uint32_t i = 0; i < ROWS; i++)
                rows[i] = array_at(&f.set.code_rows, i);
            uint8_t *room = mem_alloc_aligned(codes->stride, 64);
            void *scratch = malloc(codes_tile_scratch(codes, ROWS, ROWS));
            codes_tile(codes, f.set.kernels, rows, ROWS, rows, ROWS, tile, ROWS, scratch);
            for (uint32_t i = 0; i < ROWS; i++) {
                codes_query_row(codes, rows[i], room, &q);
                codes_many(codes, f.set.kernels, &q, rows, ROWS, many);
                codes_scan(codes, f.set.kernels, &q, rows[0], ROWS, scan);
                CHECK_MEM(scan, many, sizeof many);
                CHECK_MEM(tile + i * ROWS, many, sizeof many);
                CHECK(q.error == 0 && (metrics[m] != SYNA_METRIC_EUCLIDEAN || many[i] == 0));
            }
            mem_free_aligned(room);
            free(scratch);
            free(data);
            free(tile);
            fixture_dispose(&f);
        }
    }
}

/* Whatever is asked of split rows, the numbers are those of rows that are not. */
TEST(split_rows_give_the_same_numbers)
{
    enum { ROWS = 37 };
    EACH_METRIC(m) {
        for (uint32_t dims = 1; dims < 900; dims += 59) {
            struct fixture f[2];
            struct code_query query[2];
            int32_t many[2][ROWS], scan[2][ROWS], tile[2][ROWS * ROWS];
            const uint8_t *rows[2][ROWS];
            float *data = malloc(ROWS * dims * sizeof *data);
            fixture_fill(OUTLIERS, data, ROWS, dims);
            for (int s = 0; s < 2; s++) {
                codes_test_split_least = s ? SPLIT_ALL : SPLIT_NONE;
                fixture_init(&f[s], kernels_get(), metrics[m], data, ROWS, dims, ROWS, 0);
                const struct codes *codes = &f[s].set.codes;
                const struct kernels *kernels = f[s].set.kernels;
                CHECK_EQ(codes->split, s == 1);
                CHECK_EQ(codes->stride, f[0].set.codes.stride);
                uint8_t *room = mem_alloc_aligned(codes->stride, 64);
                void *scratch = malloc(codes_tile_scratch(codes, ROWS, ROWS));
                for (uint32_t i = 0; i < ROWS; i++)
                    rows[s][i] = array_at(&f[s].set.code_rows, i);
                codes_query(codes, kernels, data, room, &query[s]);
                codes_many(codes, kernels, &query[s], rows[s], ROWS, many[s]);
                codes_query_row(codes, rows[s][1], room, &query[s]);
                codes_scan(codes, kernels, &query[s], rows[s][0], ROWS, scan[s]);
                codes_tile(codes, kernels, rows[s], ROWS - 5, rows[s] + 2, ROWS - 2, tile[s], ROWS, scratch);
                codes_tile(codes, kernels, rows[s], 3, rows[s], 3, tile[s], ROWS, scratch);
                mem_free_aligned(room);
                free(scratch);
            }
            CHECK_MEM(many[0], many[1], sizeof many[0]);
            CHECK_MEM(scan[0], scan[1], sizeof scan[0]);
            for (size_t r = 0; r < ROWS - 5; r++)
                CHECK_MEM(tile[0] + r * ROWS, tile[1] + r * ROWS, (r < 3 ? 3 : ROWS - 2) * sizeof *tile[0]);
            CHECK_MEM(f[0].set.errors.tail, f[1].set.errors.tail, ROWS * sizeof(float));
            uint8_t *split = malloc(f[0].set.codes.stride);
            for (size_t r = 0; r < ROWS; r++) {
                codes_split_row(&f[1].set.codes, rows[0][r], split);
                CHECK_MEM(split, rows[1][r], f[0].set.codes.stride);
            }
            free(split);
            for (int s = 0; s < 2; s++)
                fixture_dispose(&f[s]);
            free(data);
        }
    }
    codes_test_split_least = SPLIT_USUAL;
}

TEST(smaller_integers_are_nearer)
{
    enum { DIMS = 24 };
    float data[3][DIMS];
    for (int i = 0; i < DIMS; i++) {
        data[0][i] = (float)(i + 1);
        data[1][i] = (float)(i + 1) + 0.4f * (float)(i % 3);
        data[2][i] = -(float)(i + 1);
    }
    EACH_METRIC(m) {
        struct fixture f;
        struct code_query q;
        int32_t out[3];
        fixture_init(&f, kernels_get(), metrics[m], data[0], 3, DIMS, 3, 0);
        uint8_t *room = mem_alloc_aligned(f.set.codes.stride, 64);
        codes_query(&f.set.codes, f.set.kernels, data[0], room, &q);
        codes_scan(&f.set.codes, f.set.kernels, &q, array_at(&f.set.code_rows, 0), 3, out);
        CHECK(out[0] < out[2] && out[1] < out[2]);
        mem_free_aligned(room);
        fixture_dispose(&f);
    }
}

TEST(the_step_represents_all_but_the_farthest_elements)
{
    enum { ROWS = 500, DIMS = 100 };
    float *data = malloc(ROWS * DIMS * sizeof *data);
    fixture_fill(PLAIN, data, ROWS, DIMS);
    data[0] = 1000, data[5] = -2000, data[1234] = 500; /* of 50,000 elements 25 are clipped */
    struct matrix matrix = {data, DIMS};
    struct codes codes;
    codes_init(&codes, DIMS, SYNA_METRIC_DOT_PRODUCT);
    CHECK_OK(codes_train(&codes, ROWS, matrix_row, &matrix));
    CHECK(codes.step * 127 > 1.29f && codes.step * 127 <= 1.3001f); /* farther, for products */
    codes_init(&codes, DIMS, SYNA_METRIC_EUCLIDEAN);
    CHECK_OK(codes_train(&codes, ROWS, matrix_row, &matrix));
    CHECK(codes.low >= -1 && codes.low < -0.99f);
    CHECK(codes.low + codes.step * 127 > 0.99f && codes.low + codes.step * 127 <= 1.0001f);
    free(data);
}

TEST(codes_are_the_same_at_every_level)
{
    enum { DIMS = 300 };
    static const char *const names[] = {"scalar", "avx2", "avx2vnni", "avx512", "avx512vnni", "avx512vpop", "amx", "neon", "neondot"};
    static const uint32_t fixed[] = {0x6e7337d7, 0x14eb20ba, 0xdf824c07};
    float data[10 * DIMS];
    uint64_t state = 7;
    for (size_t i = 0; i < COUNT_OF(data); i++)
        data[i] = (float)(int32_t)(uint32_t)(state = state * 6364136223846793005u + 1442695040888963407u) / 65536.0f;
    struct matrix matrix = {data, DIMS};
    EACH_METRIC(m) {
        struct codes codes;
        codes_init(&codes, DIMS, metrics[m]);
        CHECK_EQ(codes.stride, 320);
        CHECK_OK(codes_train(&codes, 10, matrix_row, &matrix));
        uint8_t want[320], got[320];
        float error = codes_encode(&codes, &kernels_scalar, data, want);
        CHECK_EQ(crc32c(0, want, sizeof want), fixed[m]); /* and on every machine, for ever */
        for (size_t l = 0; l < COUNT_OF(names); l++) {
            if (!kernels_find(names[l]))
                continue;
            float other = codes_encode(&codes, kernels_find(names[l]), data, got);
            CHECK_MEM(got, want, sizeof want);
            CHECK_MEM(&other, &error, sizeof error);
        }
        for (size_t i = DIMS; i < 320; i++)
            CHECK_EQ(want[i], metrics[m] == SYNA_METRIC_EUCLIDEAN ? 0 : 128);
    }
}

TEST(rows_at_odd_addresses_are_encoded)
{
    char bytes[65 * sizeof(float) + 1];
    float row[65];
    for (int i = 0; i < 65; i++)
        row[i] = even();
    memcpy(bytes + 1, row, sizeof row);
    struct matrix matrix = {row, 65};
    EACH_METRIC(m) {
        struct codes codes;
        uint8_t want[128], got[128];
        codes_init(&codes, 65, metrics[m]);
        CHECK_OK(codes_train(&codes, 1, matrix_row, &matrix));
        float error = codes_encode(&codes, kernels_get(), row, want);
        CHECK(codes_encode(&codes, kernels_get(), (const float *)(const void *)(bytes + 1), got) == error);
        CHECK_MEM(got, want, sizeof want);
    }
}

static bool refuse(void *context, size_t bytes)
{
    (void)context;
    (void)bytes;
    return false;
}

TEST(training_without_memory_changes_nothing)
{
    float row[4] = {1, 2, 3, 4};
    struct matrix matrix = {row, 4};
    struct codes codes;
    codes_init(&codes, 4, SYNA_METRIC_COSINE);
    syna_test_set_alloc(refuse, NULL);
    syna_rc rc = codes_train(&codes, 1, matrix_row, &matrix);
    syna_test_set_alloc(NULL, NULL);
    CHECK_FAILS(rc, SYNA_ERR_INTERNAL, SYNA_WHY_NO_MEMORY);
    CHECK(codes.step == 0);
}
