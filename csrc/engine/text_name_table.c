/* text_name_table.c - names in buckets, one bucket behind the other. Two passes over the names make it: the
 * first counts the names of each bucket, the second puts them there. */
#include "base/internal.h"

#include "base/hash.h"
#include "base/mem.h"
#include "engine/text_name_table.h"

#define BUCKET_NAMES 8u /* at most, on average */

static uint8_t tag_of(uint64_t hash)
{
    return (uint8_t)(1 + (hash >> 56) % 255);
}

static uint32_t bucket_of(const struct name_table *t, uint64_t hash)
{
    return (uint32_t)hash & (t->buckets - 1);
}

static bool is_live(const uint64_t *live, uint32_t number)
{
    return !live || (live[number / 64] >> number % 64 & 1);
}

void name_table_dispose(struct name_table *t)
{
    mem_free(t->starts);
    mem_free(t->numbers);
    mem_free(t->tags);
    *t = (struct name_table){0};
}

/* starts[b + 1] becomes where bucket b starts; filling it moves that on to where it ends, which is where the
 * next one starts. */
static void count_names(struct name_table *t, name_fn name_of, const void *context, uint32_t count,
                        const uint64_t *live)
{
    uint32_t sum = 0;
    for (uint32_t i = 0; i < count; i++) {
        size_t len;
        if (!is_live(live, i))
            continue;
        const char *name = name_of(context, i, &len);
        t->starts[bucket_of(t, hash_bytes(0, name, len)) + 1]++;
    }
    for (uint32_t b = 1; b <= t->buckets; b++) {
        uint32_t names = t->starts[b];
        t->starts[b] = sum;
        sum += names;
    }
    t->held = sum;
}

static void fill(struct name_table *t, name_fn name_of, const void *context, uint32_t count,
                 const uint64_t *live)
{
    for (uint32_t i = 0; i < count; i++) {
        size_t len;
        if (!is_live(live, i))
            continue;
        const char *name = name_of(context, i, &len);
        uint64_t hash = hash_bytes(0, name, len);
        uint32_t at = t->starts[bucket_of(t, hash) + 1]++;
        t->numbers[at] = i;
        t->tags[at] = tag_of(hash);
    }
}

syna_rc name_table_make(struct name_table *t, name_fn name, const void *context, uint32_t count,
                        const uint64_t *live)
{
    uint32_t buckets = 1;
    while (buckets < count / BUCKET_NAMES)
        buckets *= 2;
    size_t bytes = ((size_t)buckets + 1) * sizeof *t->starts;
    *t = (struct name_table){.buckets = buckets, .starts = mem_zalloc(bytes)};
    if (!t->starts)
        return syna_no_memory(bytes);
    count_names(t, name, context, count, live);
    t->numbers = mem_alloc(t->held * sizeof *t->numbers);
    t->tags = mem_alloc(t->held);
    if (!t->numbers || !t->tags) {
        name_table_dispose(t);
        return syna_no_memory((size_t)count * sizeof *t->numbers);
    }
    fill(t, name, context, count, live);
    return SYNA_SUCCESS;
}

/* Its place; `held` when there is none. */
static uint32_t place_of(const struct name_table *t, name_fn name_of, const void *context,
                         const char *name, size_t len)
{
    if (t->buckets == 0)
        return t->held;
    uint64_t hash = hash_bytes(0, name, len);
    uint32_t bucket = bucket_of(t, hash), stop = t->starts[bucket + 1];
    uint8_t tag = tag_of(hash);
    for (uint32_t at = t->starts[bucket]; at < stop; at++) {
        size_t have_len;
        if (t->tags[at] != tag)
            continue;
        const char *have = name_of(context, t->numbers[at], &have_len);
        if (have_len == len && memcmp(have, name, len) == 0)
            return at;
    }
    return t->held;
}

uint32_t name_table_find(const struct name_table *t, name_fn name_of, const void *context,
                         const char *name, size_t len)
{
    uint32_t at = place_of(t, name_of, context, name, len);
    return at < t->held ? t->numbers[at] : ROW_NONE;
}

bool name_table_remove(struct name_table *t, name_fn name_of, const void *context, const char *name,
                       size_t len)
{
    uint32_t at = place_of(t, name_of, context, name, len);
    if (at == t->held)
        return false;
    t->tags[at] = 0;
    return true;
}

uint64_t name_table_bytes(const struct name_table *t)
{
    size_t starts = t->buckets ? ((size_t)t->buckets + 1) * sizeof *t->starts : 0;
    return starts + t->held * (sizeof *t->numbers + sizeof *t->tags);
}
