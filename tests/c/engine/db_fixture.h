/* What the tests of an open database share: opening, putting, reading back, damaging a file. */
#ifndef SYNA_TESTS_DB_FIXTURE_H
#define SYNA_TESTS_DB_FIXTURE_H

#include "check.h"

#include <dirent.h>

#include "engine/db.h"
#include "io/vfs.h"
#include "vfs_fault.h"

static inline syna_db *open_with(const char *name, syna_db_options options)
{
    syna_db *db = NULL;
    options.size = sizeof options;
    CHECK_OK(db_open(check_path(name), &options, &db));
    return db;
}

/* Unsynced: most tests are not about the disk. */
static inline syna_db *fast(const char *name)
{
    return open_with(name, (syna_db_options){.no_sync = 1});
}

static inline syna_db *reader(const char *name)
{
    return open_with(name, (syna_db_options){.read_only = 1});
}

static inline void put(syna_db *db, const char *key, int32_t type, const void *data, size_t len)
{
    CHECK_OK(db_put(db, key, strlen(key), type, data, len, NULL, NULL));
}

static inline void put_int(syna_db *db, const char *key, int64_t value)
{
    put(db, key, SYNA_TYPE_INT, &value, sizeof value);
}

static inline void put_float(syna_db *db, const char *key, double value)
{
    put(db, key, SYNA_TYPE_FLOAT, &value, sizeof value);
}

static inline void put_text(syna_db *db, const char *key, const char *text)
{
    put(db, key, SYNA_TYPE_TEXT, text, strlen(text));
}

static inline void put_how(syna_db *db, const char *key, int64_t value, syna_put how)
{
    how.size = sizeof how;
    CHECK_OK(db_put(db, key, strlen(key), SYNA_TYPE_INT, &value, sizeof value, &how, NULL));
}

static inline void del(syna_db *db, const char *key)
{
    int32_t deleted;
    CHECK_OK(db_delete(db, key, strlen(key), &deleted));
    CHECK_EQ(deleted, 1);
}

static inline int64_t int_of(syna_db *db, const char *key)
{
    uint64_t bits = 0;
    CHECK_OK(db_get_number(db, key, strlen(key), SYNA_TYPE_INT, &bits));
    return (int64_t)bits;
}

static inline bool has(syna_db *db, const char *key)
{
    bool exists;
    CHECK_OK(db_exists(db, key, strlen(key), &exists));
    return exists;
}

static inline void text_is(syna_db *db, const char *key, const char *want)
{
    void *text = NULL;
    size_t len;
    int32_t type;
    CHECK_OK(db_get_copy(db, key, strlen(key), SYNA_TYPE_TEXT, &text, &len, &type));
    bool same = strcmp(text, want) == 0 && len == strlen(want);
    mem_free(text);
    CHECK(same);
}

static inline uint64_t count_of(syna_db *db)
{
    uint64_t count;
    CHECK_OK(db_count(db, &count));
    return count;
}

static inline void compact(syna_db *db, int32_t mode)
{
    CHECK_OK(db_compact(db, mode, NULL, NULL));
}

/* ---- files, behind the core's back */

static inline uint64_t size_of(const char *name)
{
    struct stat st;
    CHECK_EQ(stat(check_path(name), &st), 0);
    return (uint64_t)st.st_size;
}

static inline bool there(const char *name)
{
    return access(check_path(name), F_OK) == 0;
}

static inline void poke(const char *name, uint64_t offset, const void *bytes, size_t len)
{
    int fd = open(check_path(name), O_RDWR);
    CHECK(fd >= 0);
    CHECK_EQ(pwrite(fd, bytes, len, (off_t)offset), len);
    close(fd);
}

static inline void flip(const char *name, uint64_t offset, unsigned bit)
{
    uint8_t byte;
    int fd = open(check_path(name), O_RDWR);
    CHECK(fd >= 0);
    CHECK_EQ(pread(fd, &byte, 1, (off_t)offset), 1);
    byte ^= (uint8_t)(1u << bit);
    CHECK_EQ(pwrite(fd, &byte, 1, (off_t)offset), 1);
    close(fd);
}

/* Names in the test's directory that contain `part`; removes them when asked to. */
static inline int names_with(const char *part, bool remove)
{
    int count = 0;
    DIR *folder = opendir(check_path(""));
    CHECK(folder);
    for (struct dirent *e; (e = readdir(folder)) != NULL;)
        if (strstr(e->d_name, part)) {
            count++;
            if (remove)
                CHECK_EQ(unlinkat(dirfd(folder), e->d_name, 0), 0);
        }
    closedir(folder);
    return count;
}

static inline bool temp_left(void)
{
    return names_with(".tmp-", false) > 0;
}

/* The whole file; free it. */
static inline uint8_t *slurp(const char *name, size_t *len)
{
    *len = (size_t)size_of(name);
    uint8_t *bytes = malloc(*len + 1);
    int fd = open(check_path(name), O_RDONLY);
    CHECK(bytes && fd >= 0);
    CHECK_EQ(read(fd, bytes, *len), *len);
    close(fd);
    return bytes;
}

static inline void spill(const char *name, const void *bytes, size_t len)
{
    int fd = open(check_path(name), O_RDWR | O_CREAT | O_TRUNC, 0666);
    CHECK(fd >= 0);
    CHECK_EQ(write(fd, bytes, len), len);
    close(fd);
}

/* Where `needle` stands in the file, at or behind `from`. */
static inline uint64_t find_bytes(const char *name, const void *needle, size_t len, uint64_t from)
{
    size_t size;
    uint8_t *bytes = slurp(name, &size);
    uint8_t *at = memmem(bytes + from, size - (size_t)from, needle, len);
    uint64_t found = at ? (uint64_t)(at - bytes) : UINT64_MAX;
    free(bytes);
    CHECK(found != UINT64_MAX);
    return found;
}

/* ---- damage by the number of findings */

static inline syna_check verify(const char *name)
{
    syna_check found = {.size = sizeof found};
    CHECK_OK(db_verify(check_path(name), NULL, NULL, NULL, &found));
    return found;
}

static inline void sound(const char *name)
{
    syna_check found = verify(name);
    CHECK_EQ(found.damaged, 0);
    CHECK_EQ(found.torn_bytes, 0);
}

#endif
