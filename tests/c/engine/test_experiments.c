/* Runs in the engine: parts of histories by number, failures of the file at every call, and that what
 * failed changed nothing. (The whole interface: api/test_api_experiments.c.) */
#include "db_fixture.h"

#include "engine/db_tail.h"
#include "engine/experiments.h"

/* ---------------------------------------------------------------- parts of histories */

struct part {
    int64_t values[64];
    size_t count, deletions;
    size_t stop_at;
};

static syna_rc see(void *context, const syna_record *record)
{
    struct part *p = context;
    if (record->deleted) {
        p->deletions++;
        return SYNA_SUCCESS;
    }
    CHECK_EQ(record->type, SYNA_TYPE_INT);
    memcpy(&p->values[p->count++], record->data, sizeof(int64_t));
    return p->count == p->stop_at ? SYNA_ERR_TYPE_MISMATCH : SYNA_SUCCESS;
}

static struct part read_part(syna_db *db, uint64_t first, uint64_t count, uint64_t all)
{
    struct part p = {.count = 0};
    uint64_t records = UINT64_MAX;
    CHECK_OK(db_tail(db, "k", 1, first, count, see, &p, &records));
    CHECK_EQ(records, all);
    return p;
}

TEST(a_part_of_a_history_is_what_was_asked_for)
{
    syna_db *db = fast("t.db");
    CHECK_EQ(read_part(db, 0, 9, 0).count, 0);
    put_int(db, "k", 0);
    CHECK_EQ(read_part(db, DB_TAIL_LAST, 2, 1).count, 1);
    for (int i = 1; i < 50; i++)
        put_int(db, "k", i);
    struct part p = read_part(db, DB_TAIL_LAST, 2, 50);
    CHECK(p.count == 2 && p.values[0] == 48 && p.values[1] == 49);
    p = read_part(db, 7, 30, 50); /* more than fits without memory */
    CHECK(p.count == 30 && p.values[0] == 7 && p.values[29] == 36);
    CHECK_EQ(read_part(db, 0, UINT64_MAX, 50).count, 50);
    CHECK_EQ(read_part(db, 50, 1, 50).count, 0);
    CHECK_EQ(read_part(db, 3, 0, 50).count, 0);
    p = (struct part){.stop_at = 3};
    uint64_t records;
    CHECK_RC(db_tail(db, "k", 1, 0, 50, see, &p, &records), SYNA_ERR_TYPE_MISMATCH);
    CHECK_EQ(p.count, 3);
    del(db, "k");
    p = read_part(db, DB_TAIL_LAST, 2, 51);
    CHECK(p.count == 1 && p.deletions == 1);
    CHECK_OK(db_close(db));
}

TEST(a_part_is_the_same_after_opening_again)
{
    syna_db *db = fast("t.db");
    for (int i = 0; i < 20; i++)
        put_int(db, "k", i);
    CHECK_OK(db_close(db));
    db = fast("t.db");
    struct part p = read_part(db, 5, 3, 20);
    CHECK(p.count == 3 && p.values[0] == 5);
    put_int(db, "k", 20);
    p = read_part(db, DB_TAIL_LAST, 2, 21);
    CHECK(p.values[0] == 19 && p.values[1] == 20);
    CHECK_OK(db_close(db));
}

/* ---------------------------------------------------------------- failures of the file */

static syna_rc log_run(syna_db *db, char id[SYNA_RUN_ID_ROOM])
{
    const char *names[] = {"a", "b"}, *values[] = {"1", "2"};
    const double numbers[] = {1, 2};
    syna_run_options o = {.size = sizeof o, .experiment = "e"};
    SYNA_TRY(exp_start(db, &o, id));
    SYNA_TRY(exp_log_params(db, id, names, values, 2));
    SYNA_TRY(exp_log_metrics(db, id, names, numbers, 2, -1));
    SYNA_TRY(exp_log_artifact(db, id, "x", "y", 1, "k"));
    return exp_end(db, id, SYNA_RUN_COMPLETED);
}

TEST(a_damaged_point_is_reported_and_never_another_value)
{
    const char *name = "m";
    char id[SYNA_RUN_ID_ROOM];
    syna_db *db = fast("t.db");
    syna_run_options o = {.size = sizeof o, .experiment = "e"};
    CHECK_OK(exp_start(db, &o, id));
    for (int i = 0; i < 5; i++)
        CHECK_OK(exp_log_metrics(db, id, &name, &(double){i}, 1, -1));
    CHECK_OK(db_close(db));
    syna_db_stats stats = {.size = sizeof stats};
    db = fast("t.db");
    CHECK_OK(db_get_stats(db, &stats));
    int fd = open(check_path("t.db"), O_RDWR);
    off_t end = (off_t)stats.file_bytes, at = 0;
    char block[8192];
    ssize_t got = pread(fd, block, sizeof block, end > 8192 ? end - 8192 : 0);
    CHECK(got > 0);
    double wanted = 3; /* of the record before the last */
    for (ssize_t i = 0; i + 8 <= got; i++)
        if (memcmp(block + i, &wanted, 8) == 0) {
            at = (end > 8192 ? end - 8192 : 0) + i;
            break;
        }
    CHECK(at > 0);
    uint8_t flipped = (uint8_t)(((uint8_t *)&wanted)[7] ^ 0x10);
    CHECK_EQ(pwrite(fd, &flipped, 1, at + 7), 1);
    close(fd);
    size_t count;
    CHECK_FAILS(exp_metric(db, id, name, NULL, NULL, NULL, 0, &count), SYNA_ERR_SERIALIZATION,
                SYNA_WHY_CORRUPT);
    CHECK_RC(exp_log_metrics(db, id, &name, &(double){9}, 1, -1), SYNA_ERR_SERIALIZATION);
    db_close(db);
}

TEST(a_run_that_was_ended_is_durable_and_there_again)
{
    char id[SYNA_RUN_ID_ROOM];
    syna_db *db = open_with("t.db", (syna_db_options){.no_sync = 1, .shared = 1});
    CHECK_OK(log_run(db, id));
    syna_db_stats stats = {.size = sizeof stats};
    CHECK_OK(db_get_stats(db, &stats));
    CHECK_EQ(stats.durable_bytes, stats.file_bytes);
    CHECK_OK(db_close(db));
    db = reader("t.db");
    char *json;
    size_t len, count;
    CHECK_OK(exp_meta(db, id, &json, &len));
    CHECK(strstr(json, "\"status\":\"completed\""));
    mem_free(json);
    CHECK_OK(exp_metric(db, id, "b", NULL, NULL, NULL, 0, &count));
    CHECK_EQ(count, 1);
    CHECK_FAILS(exp_resume(db, id), SYNA_ERR_GENERIC, SYNA_WHY_READ_ONLY);
    CHECK_OK(db_close(db));
}
