/* The ancestor's logs into new ones (db_ancestor_copy.h): what comes over, what is left out, told of or
 * refused, and that a call which fails leaves nothing. */
#include "check.h"

#include <dirent.h>
#include <math.h>

#include "base/bytes.h"
#include "base/vec.h"
#include "engine/db.h"
#include "engine/db_ancestor_copy.h"
#include "store/format.h"
#include "vfs_fault.h"

#define T0 1700000000000000u

static void add(struct buf *file, const char *key, uint8_t flags, const void *atom, size_t len)
{
    size_t key_len = strlen(key);
    uint8_t *p = buf_extend(file, FRAME_HEADER_BYTES + key_len + len);
    CHECK(p != NULL);
    store_u64(p + FRAME_AT_STAMP, T0 + file->len);
    store_u16(p + FRAME_AT_KEY_LEN, (uint16_t)key_len);
    store_u32(p + FRAME_AT_VAL_LEN, (uint32_t)len);
    p[FRAME_AT_FLAGS] = flags;
    memcpy(p + FRAME_HEADER_BYTES, key, key_len);
    memcpy(p + FRAME_HEADER_BYTES + key_len, atom, len);
}

static void add_float(struct buf *file, const char *key, uint8_t flags, double value)
{
    uint8_t atom[12];
    store_u32(atom, ATOM_FLOAT);
    store_f64(atom + 4, value);
    add(file, key, flags, atom, sizeof atom);
}

static void add_vector(struct buf *file, const char *key, const float *values, uint16_t count)
{
    uint8_t atom[14 + 4 * 300];
    store_u32(atom, ATOM_VECTOR);
    store_u64(atom + 4, count);
    memcpy(atom + 12, values, count * sizeof *values);
    store_u16(atom + 12 + 4 * count, count);
    add(file, key, 0, atom, 14u + 4u * count);
}

static void spill(const char *name, const struct buf *bytes)
{
    int fd = open(check_path(name), O_RDWR | O_CREAT | O_TRUNC, 0600);
    CHECK_EQ(write(fd, bytes->bytes, bytes->len), bytes->len);
    close(fd);
}

struct told {
    size_t lines;
    char last[400];
    int32_t stop;
};

static int32_t tell(void *context, uint64_t offset, const char *text)
{
    struct told *t = context;
    t->lines++;
    snprintf(t->last, sizeof t->last, "%llu %s", (unsigned long long)offset, text);
    return t->stop;
}

static syna_rc migrate(const char *const *leave_out, size_t count, struct told *t, syna_migration *out)
{
    return db_migrate(check_path("old.db"), check_path("new.db"), leave_out, count, tell, t, NULL, out);
}

static syna_db *fresh(void)
{
    syna_db *db;
    syna_check found = {.size = sizeof found};
    CHECK_OK(db_verify(check_path("new.db"), NULL, NULL, NULL, &found));
    CHECK_EQ(found.damaged, 0);
    CHECK_OK(db_open(check_path("new.db"), NULL, &db));
    return db;
}

static bool exists(const char *name)
{
    struct stat st;
    return stat(check_path(name), &st) == 0;
}

/* Two keys, each with a whole float and two differences. */
static void small(struct buf *file)
{
    add_float(file, "a", 0, 1);
    add_float(file, "b", 0, 10);
    add_float(file, "a", FRAME_DELTA, 0.5);
    add_float(file, "b", FRAME_DELTA, 5);
    add_float(file, "a", FRAME_DELTA, 0.25);
    add_float(file, "b", FRAME_DELTA, 2);
}

static void check_history(syna_db *db, const char *key, const double *wanted, size_t count)
{
    double values[32];
    size_t found;
    CHECK_OK(db_history_numbers(db, key, strlen(key), SYNA_TYPE_FLOAT, (uint64_t *)(void *)values, NULL,
                                COUNT_OF(values), &found));
    CHECK_EQ(found, count);
    CHECK_MEM(values, wanted, count * sizeof *wanted);
}

TEST(histories_come_over_with_differences_made_whole)
{
    struct buf file = {0};
    struct told t = {0};
    syna_migration m;
    small(&file);
    spill("old.db", &file);
    CHECK_OK(migrate(NULL, 0, &t, &m));
    CHECK_EQ(m.frames, 6);
    CHECK_EQ(m.bytes, file.len);
    CHECK_EQ(m.values, 6);
    CHECK_EQ(m.differences, 4);
    CHECK_EQ(m.lost + m.damaged + m.torn_bytes + m.deletions + m.left_out + m.poisoned + m.repacked, 0);
    CHECK_EQ(t.lines, 0);
    syna_db *db = fresh();
    check_history(db, "a", (double[]){1, 1.5, 1.75}, 3);
    check_history(db, "b", (double[]){10, 15, 17}, 3);
    CHECK_OK(db_close(db));
    buf_dispose(&file);
}

TEST(keys_can_be_left_out)
{
    struct buf file = {0};
    struct told t = {0};
    syna_migration m;
    small(&file);
    add_float(&file, "ab", 0, 7);
    add_float(&file, "", 0, 7); /* no record: its key is empty, so it is a gap */
    add_float(&file, "z", 0, 8);
    spill("old.db", &file);
    const char *const names[] = {"b", "absent", "zz", "a", "a"};
    CHECK_OK(migrate(names, COUNT_OF(names), &t, &m));
    CHECK_EQ(m.left_out, 6);
    CHECK_EQ(m.values, 2);
    CHECK_EQ(m.differences, 0);
    CHECK_EQ(m.damaged, 1);
    CHECK_EQ(t.lines, 1);
    syna_db *db = fresh();
    uint64_t keys;
    CHECK_OK(db_count(db, &keys));
    CHECK_EQ(keys, 2);
    check_history(db, "ab", (double[]){7}, 1);
    check_history(db, "z", (double[]){8}, 1);
    CHECK_OK(db_close(db));
    buf_dispose(&file);
}

/* What a writer with the delta flag stores of a series, and the bound that is told about it. */
TEST(the_rounding_told_is_a_bound)
{
    struct buf file = {0};
    struct told t = {0};
    syna_migration m;
    double put[400], sum = 0, largest = 0;
    for (size_t i = 0; i < COUNT_OF(put); i++) {
        put[i] = (double)((i * 2654435761u) % 1000003u) / 997.0 - 300.0;
        double stored = i ? put[i] - put[i - 1] : put[i];
        add_float(&file, "k", i ? FRAME_DELTA : 0, stored);
        sum = i ? sum + stored : stored;
        largest = fmax(largest, fabs(sum - put[i]));
    }
    spill("old.db", &file);
    CHECK_OK(migrate(NULL, 0, &t, &m));
    CHECK(largest > 0 && largest <= m.rounding);
    CHECK(m.rounding < 1e-9);
    buf_dispose(&file);
}

TEST(what_infinity_swallowed_is_counted)
{
    struct buf file = {0};
    struct told t = {0};
    syna_migration m;
    add_float(&file, "k", 0, INFINITY);
    add_float(&file, "k", FRAME_DELTA, 1);
    add_float(&file, "k", FRAME_DELTA, 1);
    add_float(&file, "k", 0, 1);
    add_float(&file, "k", FRAME_DELTA, 1);
    spill("old.db", &file);
    CHECK_OK(migrate(NULL, 0, &t, &m));
    CHECK_EQ(m.differences, 3);
    CHECK_EQ(m.poisoned, 2);
    CHECK(isfinite(m.rounding));
    syna_db *db = fresh();
    check_history(db, "k", (double[]){INFINITY, INFINITY, INFINITY, 1, 2}, 5);
    CHECK_OK(db_close(db));
    buf_dispose(&file);
}

TEST(vectors_that_are_none_here_are_kept_as_arrays)
{
    struct buf file = {0};
    struct told t = {0};
    syna_migration m;
    float values[300] = {1, NAN};
    add_vector(&file, "long", values, 300);
    values[1] = 2;
    add_vector(&file, "good", values, 3);
    add_vector(&file, "empty", values, 0);
    spill("old.db", &file);
    CHECK_OK(migrate(NULL, 0, &t, &m));
    CHECK_EQ(m.repacked, 2);
    CHECK_EQ(m.values, 3);
    CHECK_EQ(t.lines, 2);
    CHECK(strstr(t.last, "\"empty\"") && strstr(t.last, "array"));
    syna_db *db = fresh();
    uint8_t room[2000];
    size_t len;
    int32_t type;
    CHECK_OK(db_get(db, "good", 4, room, sizeof room, &len, &type));
    CHECK_EQ(type, SYNA_TYPE_VECTOR);
    CHECK_OK(db_get(db, "long", 4, room, sizeof room, &len, &type));
    CHECK_EQ(type, SYNA_TYPE_PACKED);
    static const uint8_t head[] = {1, 0x20, 0, 3, '<', 'f', '4', 0, 1, 0xac, 0x02}; /* 300 */
    CHECK_EQ(len, sizeof head + sizeof values);
    CHECK_MEM(room, head, sizeof head);
    values[1] = NAN;
    CHECK_MEM(room + sizeof head, values, sizeof values);
    CHECK_OK(db_get(db, "empty", 5, room, sizeof room, &len, &type));
    CHECK_EQ(len, 10);
    CHECK_EQ(room[9], 0);
    CHECK_OK(db_close(db));
    buf_dispose(&file);
}

TEST(a_deletion_deletes_whatever_it_carries)
{
    struct buf file = {0};
    struct told t = {0};
    syna_migration m;
    add_float(&file, "k", 0, 1);
    add_float(&file, "k", FRAME_TOMBSTONE, 5);
    add_float(&file, "k", FRAME_TOMBSTONE | FRAME_LZ4, 5); /* no LZ4 block */
    add_float(&file, "k", FRAME_DELTA, 2);
    add_float(&file, "gone", 0, 1);
    add_float(&file, "gone", FRAME_TOMBSTONE | FRAME_DELTA, 5);
    spill("old.db", &file);
    CHECK_OK(migrate(NULL, 0, &t, &m));
    CHECK_EQ(m.values, 3);
    CHECK_EQ(m.deletions, 3);
    CHECK_EQ(m.lost, 0);
    syna_db *db = fresh();
    check_history(db, "k", (double[]){1, 3}, 2);
    uint64_t keys;
    CHECK_OK(db_count(db, &keys));
    CHECK_EQ(keys, 1);
    CHECK_OK(db_close(db));
    buf_dispose(&file);
}

TEST(a_new_file_that_exists_is_not_touched)
{
    struct buf file = {0}, other = {0};
    struct told t = {0};
    syna_migration m;
    small(&file);
    spill("old.db", &file);
    CHECK(buf_append(&other, "mine", 4));
    spill("new.db", &other);
    CHECK_FAILS(migrate(NULL, 0, &t, &m), SYNA_ERR_IO, SYNA_WHY_NONE);
    CHECK_EQ(status_get()->system, EEXIST);
    struct stat st;
    CHECK_EQ(stat(check_path("new.db"), &st), 0);
    CHECK_EQ(st.st_size, 4);
    buf_dispose(&file);
    buf_dispose(&other);
}

TEST(our_own_logs_are_refused)
{
    struct told t = {0};
    syna_migration m;
    syna_db *db;
    CHECK_OK(db_open(check_path("old.db"), NULL, &db));
    CHECK_OK(db_close(db));
    CHECK_FAILS(migrate(NULL, 0, &t, &m), SYNA_ERR_SERIALIZATION, SYNA_WHY_WRONG_KIND);
    CHECK(!exists("new.db"));
}

TEST(a_visitor_and_a_progress_function_can_stop_it)
{
    struct buf file = {0};
    struct told t = {.stop = 1};
    syna_migration m;
    float nan = NAN;
    add_vector(&file, "v", &nan, 1);
    small(&file);
    spill("old.db", &file);
    CHECK_FAILS(migrate(NULL, 0, &t, &m), SYNA_ERR_GENERIC, SYNA_WHY_CANCELLED);
    CHECK_EQ(t.lines, 1);
    CHECK(!exists("new.db"));
    buf_dispose(&file);
}

/* ---------------------------------------------------------------- every call fails once */

static void check_attempt(bool fired, syna_rc rc, const char *what, int64_t k)
{
    check_note("%s, k = %lld", what, (long long)k);
    if (rc == SYNA_SUCCESS)
        CHECK_EQ(unlink(check_path("new.db")), 0);
    else
        CHECK(fired);
    CHECK(!exists("new.db"));
}

TEST(no_memory_at_any_allocation_leaves_nothing)
{
    struct buf file = {0};
    const char *const names[] = {"b"};
    float nan = NAN;
    small(&file);
    add_vector(&file, "v", &nan, 1);
    spill("old.db", &file);
    buf_dispose(&file);
    size_t failures = 0;
    for (int64_t k = 1;; k++) {
        struct told t = {0};
        syna_migration m;
        fault_alloc(k, false);
        syna_rc rc = migrate(names, 1, &t, &m);
        bool fired = fault_alloc_fired() > 0;
        fault_alloc(0, false);
        if (rc != SYNA_SUCCESS) {
            CHECK_EQ(status_get()->reason, SYNA_WHY_NO_MEMORY);
            failures++;
        }
        check_attempt(fired, rc, "no memory", k);
        if (!fired)
            break;
    }
    CHECK(failures > 5);
}

TEST(no_failing_call_of_the_system_leaves_anything)
{
    static const int systems[] = {EIO, ENOSPC};
    struct buf file = {0};
    small(&file);
    spill("old.db", &file);
    buf_dispose(&file);
    fault_begin(syna_vfs);
    syna_test_set_vfs(&vfs_fault);
    for (size_t i = 0; i < COUNT_OF(systems); i++)
        for (int64_t k = 1;; k++) {
            struct told t = {0};
            syna_migration m;
            /* A temp file that cannot be removed has to stay. */
            fault_arm(&(struct fault){
                .at = k, .system = systems[i], .only = ~(1u << FAULT_REMOVE)});
            syna_rc rc = migrate(NULL, 0, &t, &m);
            bool fired = fault_fired() > 0;
            fault_arm(NULL);
            check_attempt(fired, rc, strerror(systems[i]), k);
            if (!fired)
                break;
        }
    syna_test_set_vfs(NULL);
    DIR *dir = opendir(check_path(""));
    size_t names = 0;
    for (struct dirent *e = readdir(dir); e; e = readdir(dir))
        names += e->d_name[0] != '.';
    closedir(dir);
    CHECK_EQ(names, 1); /* old.db */
}
