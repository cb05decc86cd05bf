/* A mapped vector store for a test: one-dimensional rows are easy to say where they are. */
#ifndef SYNA_TESTS_MMAP_FIXTURE_H
#define SYNA_TESTS_MMAP_FIXTURE_H

#include "check.h"

#include "engine/mmap_vectors.h"

static inline syna_rc open_as(const char *path, uint32_t dims, int32_t metric, bool read_only,
                       syna_mmap **out)
{
    syna_mmap_options options = {.size = sizeof options,
                                 .dimensions = dims,
                                 .metric = metric,
                                 .read_only = read_only,
                                 .initial_capacity = 4};
    return mmap_vectors_open(path, &options, out);
}

static inline syna_mmap *open_store(const char *path, uint32_t dims)
{
    syna_mmap *store;
    CHECK_OK(open_as(path, dims, SYNA_METRIC_EUCLIDEAN, false, &store));
    return store;
}

static inline syna_mmap *open_reader(const char *path, uint32_t dims)
{
    syna_mmap *store;
    CHECK_OK(open_as(path, dims, SYNA_METRIC_EUCLIDEAN, true, &store));
    return store;
}

static inline syna_rc insert(syna_mmap *store, const char *key, const float *v, uint32_t dims)
{
    size_t added, len = strlen(key);
    return mmap_vectors_insert(store, &key, &len, v, dims, 1, &added);
}

/* One-dimensional rows: easy to say where they are. */
static inline void put(syna_mmap *store, const char *key, float x)
{
    CHECK_OK(insert(store, key, &x, 1));
}

static inline void drop(syna_mmap *store, const char *key)
{
    int32_t deleted;
    CHECK_OK(mmap_vectors_delete(store, key, strlen(key), &deleted));
    CHECK(deleted);
}

static inline const char *joined(const syna_hit *hits, size_t count)
{
    static char text[4096];
    text[0] = '\0';
    for (size_t i = 0; i < count; i++) {
        CHECK_EQ(hits[i].key_len, strlen(hits[i].key));
        snprintf(text + strlen(text), sizeof text - strlen(text), "%s%s", i ? " " : "",
                 hits[i].key);
    }
    return text;
}

/* The keys found around x, nearest first, joined by spaces. */
static inline void check_found(syna_mmap *store, float x, uint64_t k, const char *expected)
{
    syna_search how = {.size = sizeof how, .k = k};
    syna_hit *hits;
    size_t count;
    CHECK_OK(mmap_vectors_search(store, &x, 1, 1, &how, &hits, &count));
    CHECK_STR(joined(hits, count), expected);
    syna_free_hits(hits);
}

/* All rows as "key=x", in the order written. */
static inline const char *rows_of(syna_mmap *store)
{
    static char text[8192];
    syna_hit *hits;
    size_t count;
    CHECK_OK(mmap_vectors_rows(store, SYNA_SEARCH_VECTORS, &hits, &count));
    CHECK_EQ(mmap_vectors_count(store), count);
    text[0] = '\0';
    for (size_t i = 0; i < count; i++)
        snprintf(text + strlen(text), sizeof text - strlen(text), "%s%s=%g", i ? " " : "",
                 hits[i].key, (double)hits[i].vector[0]);
    syna_free_hits(hits);
    return text;
}

static inline void check_rows(syna_mmap *store, const char *expected)
{
    CHECK_STR(rows_of(store), expected);
}

static inline void check_sound(const char *path)
{
    syna_check found = {.size = sizeof found};
    CHECK_OK(mmap_vectors_verify(path, NULL, NULL, NULL, &found));
    CHECK_EQ(found.damaged, 0);
}

/* What a crash leaves: the file closed without a checkpoint. A forked child does it. */
struct crash {
    const char *path;
    void (*body)(syna_mmap *store);
};

static inline void crash_child(void *context)
{
    const struct crash *c = context;
    c->body(open_store(c->path, 1));
    _exit(0);
}

static inline void crash_after(const char *path, void (*body)(syna_mmap *store))
{
    struct crash c = {path, body};
    CHECK_EQ(check_child(crash_child, &c), 0);
}

/* The bytes of a file, to be freed. */
static inline uint8_t *file_bytes(const char *path, size_t *len)
{
    int fd = open(path, O_RDONLY);
    CHECK(fd >= 0);
    *len = (size_t)lseek(fd, 0, SEEK_END);
    uint8_t *bytes = malloc(*len + 1);
    CHECK(pread(fd, bytes, *len, 0) == (ssize_t)*len);
    close(fd);
    return bytes;
}

static inline void write_file(const char *path, const uint8_t *bytes, size_t len)
{
    int fd = open(path, O_WRONLY | O_CREAT | O_TRUNC, 0666);
    CHECK(fd >= 0 && write(fd, bytes, len) == (ssize_t)len);
    close(fd);
}

#endif
