/* row_keys.c - the table of row_keys.h: linear probing over row numbers, a byte of the hash beside each. */
#include "base/internal.h"

#include "base/hash.h"
#include "base/mem.h"
#include "engine/row_keys.h"

#define FEWEST_PLACES 64u

/* Three quarters full at most. */
static size_t places_for(size_t keys)
{
    size_t places = FEWEST_PLACES;
    while (places / 4 * 3 < keys)
        places *= 2;
    return places;
}

void row_keys_init(struct row_keys *keys,
                   const char *(*key)(void *context, uint32_t row, size_t *len), void *context)
{
    *keys = (struct row_keys){.key = key, .context = context};
}

static void release(struct row_keys *keys)
{
    if (!keys->borrowed) {
        mem_free(keys->rows);
        mem_free(keys->tags);
    }
    keys->borrowed = false;
}

void row_keys_dispose(struct row_keys *keys)
{
    release(keys);
    row_keys_init(keys, keys->key, keys->context);
}

static uint8_t tag_of(uint64_t hash)
{
    return (uint8_t)(1 + (hash >> 56) % 255);
}

static size_t next(const struct row_keys *keys, size_t at)
{
    return (at + 1) & (keys->place_count - 1);
}

static bool is_key(const struct row_keys *keys, size_t at, const char *key, size_t len)
{
    size_t have_len;
    const char *have = keys->key(keys->context, keys->rows[at], &have_len);
    return have_len == len && memcmp(have, key, len) == 0;
}

/* Where the key stands, or the free place where it would. */
static size_t place_of(const struct row_keys *keys, const char *key, size_t len, uint8_t *tag)
{
    uint64_t hash = hash_bytes(0, key, len);
    size_t at = (size_t)hash & (keys->place_count - 1);
    *tag = tag_of(hash);
    while (keys->tags[at] && !(keys->tags[at] == *tag && is_key(keys, at, key, len)))
        at = next(keys, at);
    return at;
}

uint32_t row_keys_find(const struct row_keys *keys, const char *key, size_t len)
{
    uint8_t tag;
    if (keys->used == 0)
        return ROW_NONE;
    size_t at = place_of(keys, key, len, &tag);
    return keys->tags[at] ? keys->rows[at] : ROW_NONE;
}

void row_keys_set(struct row_keys *keys, uint32_t row)
{
    size_t len;
    uint8_t tag;
    const char *key = keys->key(keys->context, row, &len);
    size_t at = place_of(keys, key, len, &tag);
    keys->used += keys->tags[at] == 0;
    keys->tags[at] = tag;
    keys->rows[at] = row;
}

/* Take the place out and let those behind it that may stand nearer to home move up. */
void row_keys_remove(struct row_keys *keys, const char *key, size_t len)
{
    uint8_t tag;
    if (keys->used == 0)
        return;
    size_t hole = place_of(keys, key, len, &tag);
    if (!keys->tags[hole])
        return;
    for (size_t at = next(keys, hole); keys->tags[at]; at = next(keys, at)) {
        size_t other_len, mask = keys->place_count - 1;
        const char *other = keys->key(keys->context, keys->rows[at], &other_len);
        size_t home = (size_t)hash_bytes(0, other, other_len) & mask;
        if (((at - home) & mask) < ((at - hole) & mask))
            continue;
        keys->rows[hole] = keys->rows[at];
        keys->tags[hole] = keys->tags[at];
        hole = at;
    }
    keys->tags[hole] = 0;
    keys->used--;
}

syna_rc row_keys_reserve(struct row_keys *keys, size_t more)
{
    size_t places = places_for(keys->used + more);
    if (places <= keys->place_count)
        return SYNA_SUCCESS;
    struct row_keys bigger = *keys;
    bigger.rows = mem_alloc(places * sizeof *bigger.rows);
    bigger.tags = mem_zalloc(places);
    if (!bigger.rows || !bigger.tags) {
        mem_free(bigger.rows);
        mem_free(bigger.tags);
        return syna_no_memory(places * 5);
    }
    bigger.place_count = places;
    bigger.used = 0;
    bigger.borrowed = false;
    for (size_t at = 0; at < keys->place_count; at++)
        if (keys->tags[at])
            row_keys_set(&bigger, keys->rows[at]);
    release(keys);
    *keys = bigger;
    return SYNA_SUCCESS;
}

void row_keys_clear(struct row_keys *keys)
{
    if (keys->place_count)
        memset(keys->tags, 0, keys->place_count);
    keys->used = 0;
}

uint64_t row_keys_bytes(const struct row_keys *keys)
{
    return keys->borrowed ? 0 : keys->place_count * (sizeof *keys->rows + 1);
}

/* ---------------------------------------------------------------- snapshots */

syna_rc row_keys_save(const struct row_keys *keys, struct snapshot_writer *writer)
{
    SYNA_TRY(snapshot_section(writer, "keyrows"));
    SYNA_TRY(snapshot_append(writer, keys->rows, keys->place_count * sizeof *keys->rows));
    SYNA_TRY(snapshot_section(writer, "keytags"));
    return snapshot_append(writer, keys->tags, keys->place_count);
}

/* Every place names a row that exists, and there are free places, so that every look-up ends. */
static bool sound(const uint32_t *rows, const uint8_t *tags, size_t places, size_t row_count,
                  size_t *used)
{
    *used = 0;
    for (size_t at = 0; at < places; at++) {
        if (tags[at] && rows[at] >= row_count)
            return false;
        *used += tags[at] != 0;
    }
    return *used <= places / 4 * 3;
}

void row_keys_load(struct row_keys *keys, struct snapshot *snapshot, size_t row_count, bool *found)
{
    size_t rows_len, places, used;
    uint32_t *rows = snapshot_find(snapshot, "keyrows", &rows_len);
    uint8_t *tags = snapshot_find(snapshot, "keytags", &places);
    *found = false;
    if (!rows || !tags || places < FEWEST_PLACES || (places & (places - 1)) ||
        rows_len != places * sizeof *rows || !snapshot_touch(snapshot, rows, rows_len) ||
        !snapshot_touch(snapshot, tags, places) || !sound(rows, tags, places, row_count, &used))
        return;
    release(keys);
    keys->rows = rows;
    keys->tags = tags;
    keys->place_count = places;
    keys->used = used;
    keys->borrowed = true;
    *found = true;
}
