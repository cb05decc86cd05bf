/* The ancestor's files, read as they are: every way to a float makes deltas whole. */
#include "check.h"

#include "base/bytes.h"
#include "base/vec.h"
#include "engine/db.h"
#include "store/format.h"

static void add_float(struct buf *file, uint64_t stamp, uint8_t flags, const char *key, double value)
{
    uint8_t *p = buf_extend(file, FRAME_HEADER_BYTES + strlen(key) + 12);
    CHECK(p != NULL);
    store_u64(p + FRAME_AT_STAMP, stamp);
    store_u16(p + FRAME_AT_KEY_LEN, (uint16_t)strlen(key));
    store_u32(p + FRAME_AT_VAL_LEN, 12);
    p[FRAME_AT_FLAGS] = flags;
    memcpy(p + FRAME_HEADER_BYTES, key, strlen(key));
    p += FRAME_HEADER_BYTES + strlen(key);
    store_u32(p, ATOM_FLOAT);
    store_f64(p + 4, value);
}

static int32_t collect(void *context, const syna_record *record)
{
    double **at = context;
    CHECK_EQ(record->type, SYNA_TYPE_FLOAT);
    *(*at)++ = load_f64(record->data);
    return 0;
}

TEST(deltas_are_whole_in_gets_histories_and_time_travel)
{
    static const double stored[] = {10, 1.5, -2, 100, 0.25};
    static const uint8_t flags[] = {0, FRAME_DELTA, FRAME_DELTA, 0, FRAME_DELTA};
    static const double whole[] = {10, 11.5, 9.5, 100, 100.25};
    const uint64_t first = 1700000000000000u;
    struct buf bytes = {0};
    for (size_t i = 0; i < COUNT_OF(stored); i++) {
        add_float(&bytes, first + i, flags[i], "k", stored[i]);
        add_float(&bytes, first + i, 0, "other", 7);
    }
    const char *path = check_path("old.db");
    int fd = open(path, O_RDWR | O_CREAT, 0600);
    CHECK_EQ(write(fd, bytes.bytes, bytes.len), bytes.len);
    close(fd);
    buf_dispose(&bytes);

    syna_db *db;
    CHECK_OK(db_open(path, NULL, &db));
    syna_open_report report;
    db_get_report(db, &report);
    CHECK(report.legacy && report.read_only);

    uint64_t bits, values[8], times[8];
    size_t count, len;
    int32_t type;
    CHECK_OK(db_get_number(db, "k", 1, SYNA_TYPE_FLOAT, &bits));
    CHECK(load_f64(&bits) == 100.25);
    CHECK_OK(db_history_numbers(db, "k", 1, SYNA_TYPE_FLOAT, values, NULL, 8, &count));
    CHECK_EQ(count, 5);
    CHECK_MEM(values, whole, sizeof whole);
    CHECK_OK(db_history_numbers(db, "k", 1, SYNA_TYPE_FLOAT, values, times, 8, &count));
    CHECK_MEM(values, whole, sizeof whole);
    CHECK_EQ(times[4], first + 4);
    double seen[8], *at = seen;
    CHECK_OK(db_history(db, "k", 1, collect, &at));
    CHECK_MEM(seen, whole, sizeof whole);
    for (size_t i = 0; i < COUNT_OF(whole); i++) {
        double value;
        CHECK_OK(db_get_at(db, "k", 1, first + i, &value, sizeof value, &len, &type));
        CHECK(value == whole[i]);
    }
    CHECK_FAILS(db_delete(db, "k", 1, NULL), SYNA_ERR_GENERIC, SYNA_WHY_READ_ONLY);
    CHECK_OK(db_close(db));
}
