/* Tensors over a real log: where the bytes lie, which conversions are refused, what hostile headers do,
 * compaction in the middle of a put, and a failure of memory or of the system at every call. Patterns,
 * replacement, crashes and views are tested from Python (tests/python/test_tensor.py). */
#include "db_fixture.h"

#include <semaphore.h>

#include "engine/tensor_core.h"

#include <math.h>

#define PATTERN "t/*"
#define ANY (SYNA_SELECT_ELEMENTS | SYNA_SELECT_PLAIN)

/* ---------------------------------------------------------------- a store for a test */

static syna_tensors *over(syna_db *db)
{
    syna_tensors *t;
    CHECK_OK(tensors_new(db, &t));
    return t;
}

static syna_tensor_spec spec_of(int32_t dtype, const uint64_t *count, int32_t codec)
{
    return (syna_tensor_spec){
        .size = sizeof(syna_tensor_spec), .dtype = dtype, .codec = codec, .dims = 1, .shape = count};
}

static syna_rc put_ints(syna_tensors *t, int64_t first, uint64_t count, int32_t codec)
{
    int64_t *data = malloc((size_t)count * sizeof *data + 1);
    for (uint64_t i = 0; i < count; i++)
        data[i] = first + (int64_t)i;
    syna_tensor_spec spec = spec_of(SYNA_DTYPE_INT64, &count, codec);
    syna_rc rc = tensors_put(t, "t/", 2, &spec, data);
    free(data);
    return rc;
}

static syna_rc append_ints(syna_tensors *t, int64_t first, uint64_t count)
{
    int64_t *data = malloc((size_t)count * sizeof *data + 1);
    uint64_t total;
    for (uint64_t i = 0; i < count; i++)
        data[i] = first + (int64_t)i;
    syna_tensor_spec spec = spec_of(SYNA_DTYPE_INT64, &count, SYNA_CODEC_NONE);
    syna_rc rc = tensors_append(t, "t/", 2, &spec, data, &total);
    free(data);
    return rc;
}

/* Everything under "t/": `count` ints that go up from *first. */
static syna_rc read_ints(syna_tensors *t, int64_t *first, uint64_t *count)
{
    syna_tensor_set *set;
    SYNA_TRY(tensors_select(t, PATTERN, strlen(PATTERN), ANY, &set));
    *count = tensor_set_count(set);
    int64_t *data = malloc((size_t)*count * sizeof *data + 1);
    syna_rc rc = tensor_set_read(set, 0, *count, data);
    *first = *count && rc == SYNA_SUCCESS ? data[0] : 0;
    for (uint64_t i = 0; rc == SYNA_SUCCESS && i < *count; i++)
        CHECK_EQ(data[i], *first + (int64_t)i);
    free(data);
    tensor_set_free(set);
    return rc;
}

static void check_ints(syna_tensors *t, int64_t first, uint64_t count)
{
    int64_t found;
    uint64_t n;
    CHECK_OK(read_ints(t, &found, &n));
    CHECK_EQ(n, count);
    CHECK_EQ(found, first);
}

static struct tensor_version *version(syna_tensors *t)
{
    struct tensor_version *v;
    CHECK_OK(tensor_version_find(t, false, "t/", 2, &v));
    return v;
}

/* ---------------------------------------------------------------- where the bytes lie */

TEST(data_begins_at_a_line_or_a_page)
{
    static const uint64_t counts[] = {1, 100, 131071, 131072, 524288, 524289, 2000000};
    syna_db *db = fast("t.db");
    syna_tensors *t = over(db);
    for (size_t i = 0; i < COUNT_OF(counts); i++) {
        check_note("%llu elements", (unsigned long long)counts[i]);
        put_int(db, "between", (int64_t)i); /* moves the end of the log by odd amounts */
        CHECK_OK(put_ints(t, 7, counts[i], SYNA_CODEC_NONE));
        struct tensor_version *v = version(t);
        uint64_t align = counts[i] * 8 >= TENSOR_PAGE_FROM ? TENSOR_PAGE : TENSOR_ALIGN;
        CHECK(v->one_piece);
        for (size_t k = 0; k < v->chunk_count; k++)
            CHECK_EQ((v->chunks[k].offset + FRAME_HEADER_BYTES + 1) % align, 0);
        tensor_version_unref(v);
        check_ints(t, 7, counts[i]);
    }
    tensors_free(t);
    CHECK_OK(db_close(db));
}

TEST(rows_added_one_by_one_make_few_chunks_and_are_written_few_times)
{
    syna_db *db = fast("t.db");
    syna_tensors *t = over(db);
    CHECK_OK(put_ints(t, 0, 0, SYNA_CODEC_NONE));
    for (int64_t i = 0; i < 2000; i++)
        CHECK_OK(append_ints(t, i * 4, 4));
    check_ints(t, 0, 8000);
    struct tensor_version *v = version(t);
    CHECK(v->chunk_count <= 12);
    tensor_version_unref(v);
    tensors_free(t);
    CHECK_OK(db_close(db));
}

/* ---------------------------------------------------------------- converting */

static double half_value(uint16_t bits)
{
    int e = bits >> 10 & 31, m = bits & 1023;
    double v = e == 31 ? (m ? (double)NAN : (double)INFINITY)
                       : e ? ldexp(1024 + m, e - 25) : ldexp(m, -24);
    return bits & 0x8000 ? -v : v;
}

TEST(every_half_becomes_its_value)
{
    for (uint32_t bits = 0; bits < 65536; bits++) {
        uint16_t half = (uint16_t)bits;
        double got, want = half_value(half);
        size_t bad;
        tensor_convert(SYNA_DTYPE_FLOAT16, &half, SYNA_DTYPE_FLOAT64, &got, 1, &bad);
        CHECK_EQ(bad, 1);
        CHECK((isnan(got) && isnan(want)) || (got == want && signbit(got) == signbit(want)));
    }
}

TEST(eight_bit_floats_become_their_values)
{
    static const struct { int32_t dtype; uint8_t bits; double value; } cases[] = {
        {SYNA_DTYPE_FLOAT8_E4M3, 0x7e, 448}, {SYNA_DTYPE_FLOAT8_E4M3, 0x78, 256},
        {SYNA_DTYPE_FLOAT8_E4M3, 0x38, 1}, {SYNA_DTYPE_FLOAT8_E4M3, 0x01, 0x1p-9},
        {SYNA_DTYPE_FLOAT8_E4M3, 0xfe, -448}, {SYNA_DTYPE_FLOAT8_E5M2, 0x3c, 1},
        {SYNA_DTYPE_FLOAT8_E5M2, 0x7b, 57344}, {SYNA_DTYPE_FLOAT8_E5M2, 0x7c, (double)INFINITY},
        {SYNA_DTYPE_FLOAT8_E5M2, 0x81, -0x1p-16},
    };
    for (size_t i = 0; i < COUNT_OF(cases); i++) {
        double got;
        size_t bad;
        tensor_convert(cases[i].dtype, &cases[i].bits, SYNA_DTYPE_FLOAT64, &got, 1, &bad);
        CHECK(got == cases[i].value);
    }
}

static void check_refused(int32_t from, const void *value, int32_t to, bool refused)
{
    uint8_t out[8];
    size_t bad;
    tensor_convert(from, value, to, out, 1, &bad);
    CHECK_EQ(bad, refused ? 0 : 1);
}

TEST(integers_are_had_only_from_what_is_one_and_fits)
{
    static const struct { double value; bool i32, i64; } cases[] = {
        {0.5, true, true}, {-1, false, false}, {0x1p31, true, false}, {-0x1p31, false, false},
        {0x1p63, true, true}, {-0x1p63, true, false}, {(double)NAN, true, true},
        {(double)INFINITY, true, true}, {-0.0, false, false},
    };
    for (size_t i = 0; i < COUNT_OF(cases); i++) {
        check_note("case %zu", i);
        check_refused(SYNA_DTYPE_FLOAT64, &cases[i].value, SYNA_DTYPE_INT32, cases[i].i32);
        check_refused(SYNA_DTYPE_FLOAT64, &cases[i].value, SYNA_DTYPE_INT64, cases[i].i64);
    }
    uint64_t top = UINT64_MAX, fits = INT64_MAX;
    double wide;
    size_t bad;
    check_refused(SYNA_DTYPE_UINT64, &top, SYNA_DTYPE_INT64, true);
    check_refused(SYNA_DTYPE_UINT64, &fits, SYNA_DTYPE_INT64, false);
    tensor_convert(SYNA_DTYPE_UINT64, &top, SYNA_DTYPE_FLOAT64, &wide, 1, &bad);
    CHECK(wide == 0x1p64);
    double complex_one[2] = {1, 0}, complex_i[2] = {0, 1};
    check_refused(SYNA_DTYPE_COMPLEX128, complex_one, SYNA_DTYPE_INT32, false);
    check_refused(SYNA_DTYPE_COMPLEX128, complex_i, SYNA_DTYPE_FLOAT32, true);
}

TEST(the_codec_gives_back_every_byte)
{
    enum { MOST = 5000 };
    uint8_t plain[MOST], packed[MOST], back[MOST], scratch[MOST];
    for (int round = 0; round < 200; round++) {
        size_t item = (size_t)1 << check_random() % 5, len = 1 + check_random() % MOST;
        uint64_t range = 1 + check_random() % 4;
        for (size_t i = 0; i < len; i++)
            plain[i] = (uint8_t)(check_random() % range);
        size_t n = tensor_pack(plain, packed, len, item, scratch);
        CHECK(n <= len - len / 10);
        if (n == 0)
            continue;
        CHECK(tensor_unpack(packed, n, back, len, item, scratch));
        CHECK_MEM(back, plain, len);
        packed[check_random() % n] ^= (uint8_t)(1 + check_random() % 255);
        tensor_unpack(packed, n, back, len, item, scratch); /* whatever it says, within bounds */
    }
}

/* ---------------------------------------------------------------- hostile headers */

TEST(a_header_with_any_byte_changed_is_refused_or_adds_up)
{
    struct tensor_shape shape = {
        .dtype = SYNA_DTYPE_FLOAT32, .dims = 2, .shape = {1000, 1200}, .per_chunk = 0};
    struct tensor_chunk chunks[2] = {{.plain = BLOB_CHUNK_BYTES}, {.plain = 4800000 - BLOB_CHUNK_BYTES}};
    struct tensor_chunk out[2];
    struct buf header = {0};
    struct tensor_shape got;
    CHECK_OK(tensor_shape_count(&shape));
    CHECK(tensor_header_encode(&shape, chunks, 2, &header));
    CHECK_OK(tensor_header_decode(header.bytes, header.len, "p", 0, &got, out, 2));
    CHECK_EQ(got.bytes, 4800000);
    for (size_t at = 4; at < header.len; at++)
        for (int bit = 0; bit < 8; bit++) {
            header.bytes[at] ^= (uint8_t)(1 << bit);
            if (tensor_header_decode(header.bytes, header.len, "p", 0, &got, out, 2) == SYNA_SUCCESS) {
                CHECK_EQ(out[0].plain + out[1].plain, got.bytes);
                CHECK(got.dims <= SYNA_TENSOR_DIMS_MAX && tensor_item_bytes(got.dtype));
            }
            header.bytes[at] ^= (uint8_t)(1 << bit);
        }
    CHECK_FAILS(tensor_header_decode(header.bytes, header.len - 1, "p", 0, &got, out, 2),
                SYNA_ERR_SERIALIZATION, SYNA_WHY_CORRUPT);
    CHECK_FAILS(tensor_header_decode(header.bytes, header.len, "p", 0, &got, out, 1),
                SYNA_ERR_SERIALIZATION, SYNA_WHY_CORRUPT);
    buf_dispose(&header);
}

/* ---------------------------------------------------------------- beside compaction */

struct beside {
    syna_db *db;
    bool stop;
    int compactions;
};

static void *compact_all_the_time(void *context)
{
    struct beside *b = context;
    while (!__atomic_load_n(&b->stop, __ATOMIC_ACQUIRE)) {
        CHECK_OK(db_compact(b->db, SYNA_COMPACT_LATEST, NULL, NULL));
        b->compactions++;
    }
    return NULL;
}

TEST(puts_and_appends_beside_compaction)
{
    syna_db *db = fast("t.db");
    syna_tensors *t = over(db);
    struct beside b = {.db = db};
    pthread_t thread;
    CHECK_OK(put_ints(t, 0, 10, SYNA_CODEC_NONE));
    CHECK_EQ(pthread_create(&thread, NULL, compact_all_the_time, &b), 0);
    for (int round = 0; round < 10; round++) {
        CHECK_OK(put_ints(t, round, 1200000, round % 3 ? SYNA_CODEC_NONE : SYNA_CODEC_LZ4));
        check_ints(t, round, 1200000);
        CHECK_OK(append_ints(t, round + 1200000, 1000));
        check_ints(t, round, 1201000);
    }
    __atomic_store_n(&b.stop, true, __ATOMIC_RELEASE);
    pthread_join(thread, NULL);
    CHECK(b.compactions > 0);
    tensors_free(t);
    CHECK_OK(db_close(db));
}

/* ---------------------------------------------------------------- failures */

/* Put, append, read, view, delete; what is read is always one of the states in between. */
static syna_rc everything(syna_tensors *t)
{
    syna_tensor_set *set;
    syna_tensor_pin *pin = NULL;
    const void *data;
    int64_t first;
    uint64_t count, deleted;
    SYNA_TRY(put_ints(t, 100, 700000, SYNA_CODEC_NONE));
    SYNA_TRY(append_ints(t, 700100, 10));
    SYNA_TRY(read_ints(t, &first, &count));
    SYNA_TRY(put_ints(t, 200, 3000, SYNA_CODEC_LZ4));
    SYNA_TRY(tensors_select(t, PATTERN, strlen(PATTERN), ANY, &set));
    syna_rc rc = tensor_set_view(set, &data, &pin);
    tensor_unpin(pin);
    tensor_set_free(set);
    SYNA_TRY(rc);
    return tensors_delete(t, PATTERN, strlen(PATTERN), ANY, &deleted);
}

static void check_state(syna_tensors *t)
{
    int64_t first;
    uint64_t count;
    CHECK_OK(read_ints(t, &first, &count));
    CHECK((first == 1 && count == 5) || (first == 100 && (count == 700000 || count == 700010)) ||
          (first == 200 && count == 3000) || count == 0);
}

TEST(without_memory_at_any_call_a_whole_state_is_there)
{
    syna_db *db = fast("t.db");
    for (int64_t k = 1;; k++) {
        check_note("allocation %lld", (long long)k);
        syna_tensors *t = over(db);
        CHECK_OK(put_ints(t, 1, 5, SYNA_CODEC_NONE));
        fault_alloc(k, false);
        syna_rc rc = everything(t);
        bool fired = fault_alloc_fired() > 0;
        fault_alloc(0, false);
        if (fired && rc != SYNA_SUCCESS)
            CHECK_FAILS(rc, SYNA_ERR_INTERNAL, SYNA_WHY_NO_MEMORY);
        check_state(t);
        tensors_free(t);
        if (!fired) {
            CHECK_OK(rc);
            break;
        }
    }
    CHECK_OK(db_close(db));
}

static void fail_system(int system, bool forever)
{
    for (int64_t k = 1;; k++) {
        char name[48];
        snprintf(name, sizeof name, "f%d-%lld.db", system + forever, (long long)k);
        check_note("errno %d, call %lld", system, (long long)k);
        syna_db *db = open_with(name, (syna_db_options){0});
        syna_tensors *t = over(db);
        CHECK_OK(put_ints(t, 1, 5, SYNA_CODEC_NONE));
        fault_arm(&(struct fault){.at = k, .system = system, .forever = forever});
        syna_rc rc = everything(t);
        bool fired = fault_fired() > 0;
        fault_arm(NULL);
        if (rc != SYNA_SUCCESS)
            CHECK_RC(rc, SYNA_ERR_IO);
        check_state(t);
        tensors_free(t);
        db_close(db);
        db = fast(name);
        t = over(db);
        check_state(t);
        CHECK_OK(put_ints(t, 1, 5, SYNA_CODEC_NONE));
        tensors_free(t);
        CHECK_OK(db_close(db));
        CHECK_EQ(unlink(check_path(name)), 0);
        if (!fired) {
            CHECK_OK(rc);
            CHECK(k > 10); /* it does call the system */
            return;
        }
    }
}

TEST(when_the_system_fails_at_any_call_a_whole_state_is_there)
{
    fault_begin(&vfs_posix);
    syna_test_set_vfs(&vfs_fault);
    fail_system(EIO, false);
    fail_system(ENOSPC, true);
    syna_test_set_vfs(NULL);
}
