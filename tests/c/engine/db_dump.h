/* The state of a database as text, to compare before and after, and a database with a record of every kind. */
#ifndef SYNA_TESTS_DB_DUMP_H
#define SYNA_TESTS_DB_DUMP_H

#include "db_fixture.h"

#include <stdarg.h>

#include "base/crc32c.h"
#include "base/rng.h"
#include "store/column.h"
#include "store/format.h"

struct dump {
    char *text;
    size_t len, cap;
};

__attribute__((format(printf, 2, 3))) static inline void say(struct dump *d, const char *format, ...)
{
    va_list args;
    if (d->cap - d->len < 400)
        d->text = realloc(d->text, d->cap = d->cap * 2 + 4000);
    CHECK(d->text);
    va_start(args, format);
    d->len += (size_t)vsnprintf(d->text + d->len, d->cap - d->len, format, args);
    va_end(args);
}

static inline int32_t say_record(void *context, const syna_record *r)
{
    say(context, "  %d %d %llu %llu %zu %08x\n", r->deleted, r->type, (unsigned long long)r->time_us,
        (unsigned long long)r->expires_us, r->len, r->len ? crc32c(0, r->data, r->len) : 0);
    return 0;
}

/* The newest value of a key and its whole history. */
static inline void say_key(syna_db *db, struct dump *d, const char *key, bool history)
{
    void *data = NULL;
    size_t len;
    int32_t type;
    syna_rc rc = db_get_copy(db, key, strlen(key), -1, &data, &len, &type);
    if (rc == SYNA_SUCCESS)
        say(d, "%.50s = %d %zu %08x\n", key, type, len, len ? crc32c(0, data, len) : 0);
    else
        say(d, "%.50s is missing\n", key);
    mem_free(rc == SYNA_SUCCESS ? data : NULL);
    CHECK(rc == SYNA_SUCCESS || rc == SYNA_ERR_KEY_NOT_FOUND);
    if (history)
        CHECK_OK(db_history(db, key, strlen(key), say_record, d));
}

static inline char *dump_keys(syna_db *db, const char *const *keys, size_t count, bool history)
{
    struct dump d = {0};
    say(&d, "%llu keys\n", (unsigned long long)count_of(db));
    for (size_t i = 0; i < count; i++)
        say_key(db, &d, keys[i], history);
    return d.text;
}

static inline void same(char *got, char *want)
{
    size_t at = 0;
    while (got[at] && got[at] == want[at])
        at++;
    bool equal = got[at] == want[at];
    if (!equal)
        fprintf(stderr, "differs behind\n%.*s\ngot\n%.200s\nwant\n%.200s\n", (int)MIN(at, (size_t)400),
                got + at - MIN(at, (size_t)400), got + at, want + at);
    free(got);
    CHECK(equal);
}

static inline syna_db_stats stats_of(syna_db *db)
{
    syna_db_stats stats = {.size = sizeof stats};
    CHECK_OK(db_get_stats(db, &stats));
    return stats;
}

static inline void append_floats(syna_db *db, const char *key, const double *values, const uint64_t *times,
                          size_t count)
{
    CHECK_OK(db_append_numbers(db, key, strlen(key), SYNA_TYPE_FLOAT, (const uint64_t *)(const void *)values,
                               times, count));
}

static const char *const some_keys[] = {"i", "f", "t", "v", "n", "p", "old", "ttl", "over", "blob", "hist"};

static inline void fill_with_everything(syna_db *db)
{
    static const float vector[3] = {1, 2, 3};
    double numbers[20];
    uint64_t times[20];
    char text[3000];
    syna_blob *blob;
    memset(text, 'z', sizeof text);
    for (int i = 0; i < 20; i++) {
        numbers[i] = i * 0.5;
        times[i] = 5000 + (uint64_t)i;
    }
    for (int i = 0; i < 50; i++) {
        put_int(db, "i", i);
        put_float(db, "f", i * 0.25);
        put(db, "t", SYNA_TYPE_TEXT, text, sizeof text - (size_t)i);
        put_int(db, "old", i);
    }
    put(db, "v", SYNA_TYPE_VECTOR, vector, sizeof vector);
    put(db, "n", SYNA_TYPE_NULL, NULL, 0);
    put(db, "p", SYNA_TYPE_PACKED, "\x90", 1);
    put_how(db, "ttl", 7, (syna_put){.expires_us = syna_vfs->now_us() + 3600000000u, .when_us = 1234});
    put_int(db, "over", 1);
    put_how(db, "over", 2, (syna_put){.expires_us = syna_vfs->now_us() - 1});
    del(db, "old");
    CHECK_OK(db_blob_create(db, "blob", 4, &blob));
    CHECK_OK(db_blob_write(blob, text, sizeof text));
    CHECK_OK(db_blob_finish(blob));
    db_blob_free(blob);
    append_floats(db, "hist", numbers, times, 20);
}

static inline void key_of(char *key, int index, int i)
{
    snprintf(key, 32, "w%d/%d", index, i);
}

#endif
