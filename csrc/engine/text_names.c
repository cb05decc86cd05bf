/* text_names.c - numbered strings: an array of bytes, an array of ends, a table of numbers. Ends are counted
 * within blocks of names, so that 32 bits are enough for them. */
#include "base/internal.h"

#include "base/bytes.h"
#include "engine/text_names.h"

#define BYTES_MAX ((uint64_t)1 << 40)
#define LENGTH_ROOM 10u /* bytes of a varint at most */

/* Where the names of a block start; ends are counted from there. */
static uint64_t *base_of(const struct names *n, uint32_t number)
{
    return array_at(&n->bases, number / NAMES_BLOCK);
}

static uint64_t end_of(const struct names *n, uint32_t number)
{
    return *base_of(n, number) + *(const uint32_t *)array_at(&n->ends, number);
}

static uint64_t start_of(const struct names *n, uint32_t number)
{
    return number % NAMES_BLOCK == 0 ? *base_of(n, number) : end_of(n, number - 1);
}

/* Bytes of all names. */
static uint64_t used(const struct names *n)
{
    return n->count == 0 ? 0 : end_of(n, n->count - 1);
}

const char *names_at(const struct names *n, uint32_t number, size_t *len)
{
    uint64_t start = start_of(n, number);
    *len = (size_t)(end_of(n, number) - start);
    return array_at(&n->bytes, (size_t)start);
}

static const char *key_of(void *context, uint32_t row, size_t *len)
{
    return names_at(context, row, len);
}

syna_rc names_init(struct names *n)
{
    *n = (struct names){0};
    row_keys_init(&n->table, key_of, n);
    SYNA_TRY(array_init(&n->bytes, 1, BYTES_MAX));
    SYNA_TRY(array_init(&n->bases, sizeof(uint64_t), NAMES_MAX / NAMES_BLOCK + 1));
    return array_init(&n->ends, sizeof(uint32_t), NAMES_MAX);
}

void names_dispose(struct names *n)
{
    array_dispose(&n->bytes);
    array_dispose(&n->ends);
    array_dispose(&n->bases);
    row_keys_dispose(&n->table);
    n->count = 0;
}

syna_rc names_reserve(struct names *n, size_t more, size_t bytes)
{
    if (more > NAMES_MAX - n->count)
        return syna_fail(SYNA_ERR_INTERNAL, SYNA_WHY_NONE,
                         "%zu names are more than a text index can number", n->count + more);
    SYNA_TRY(array_reserve(&n->bytes, (size_t)used(n) + bytes + 1));
    SYNA_TRY(array_reserve(&n->ends, n->count + more));
    SYNA_TRY(array_reserve(&n->bases, (n->count + more) / NAMES_BLOCK + 1));
    return row_keys_reserve(&n->table, more);
}

uint32_t names_add(struct names *n, const char *name, size_t len)
{
    uint64_t start = used(n);
    memcpy(array_at(&n->bytes, (size_t)start), name, len);
    if (n->count % NAMES_BLOCK == 0)
        *base_of(n, n->count) = start;
    *(uint32_t *)array_at(&n->ends, n->count) = (uint32_t)(start + len - *base_of(n, n->count));
    row_keys_set(&n->table, n->count);
    return n->count++;
}

uint64_t names_memory(const struct names *n)
{
    return array_bytes(&n->bytes) + array_bytes(&n->ends) + array_bytes(&n->bases) +
           row_keys_bytes(&n->table);
}

/* ---------------------------------------------------------------- snapshots */

static const char *section(const char *tag, const char *what, char name[9])
{
    snprintf(name, 9, "%s%s", tag, what);
    return name;
}

static syna_rc save_lengths(const struct names *n, struct snapshot_writer *writer)
{
    uint8_t lengths[4096];
    size_t used = 0;
    for (uint32_t i = 0; i < n->count; i++) {
        used += varint_put(lengths + used, end_of(n, i) - start_of(n, i));
        if (used < sizeof lengths - LENGTH_ROOM && i + 1 < n->count)
            continue;
        SYNA_TRY(snapshot_append(writer, lengths, used));
        used = 0;
    }
    return SYNA_SUCCESS;
}

syna_rc names_save(const struct names *n, const char *tag, struct snapshot_writer *writer)
{
    char name[9];
    SYNA_TRY(snapshot_section(writer, section(tag, "str", name)));
    SYNA_TRY(array_save(&n->bytes, (size_t)used(n), writer));
    SYNA_TRY(snapshot_section(writer, section(tag, "len", name)));
    return save_lengths(n, writer);
}

/* Ends and bases from lengths; false: they are not those of so many names in so many bytes. There is room. */
static bool take_lengths(struct names *n, const uint8_t *at, const uint8_t *stop, uint32_t count,
                         size_t bytes)
{
    uint64_t sum = 0, len;
    for (uint32_t i = 0; i < count; i++) {
        size_t used = varint_get(at, stop, &len);
        if (used == 0 || len > NAME_LEN_MAX)
            return false;
        if (i % NAMES_BLOCK == 0)
            *base_of(n, i) = sum;
        at += used;
        sum += len;
        *(uint32_t *)array_at(&n->ends, i) = (uint32_t)(sum - *base_of(n, i));
    }
    return at == stop && sum == bytes;
}

syna_rc names_load(struct names *n, const char *tag, struct snapshot *snapshot, uint32_t count,
                   const uint64_t *live, bool *found)
{
    char name[9];
    size_t bytes, lengths_len;
    void *strings = snapshot_find(snapshot, section(tag, "str", name), &bytes);
    const uint8_t *lengths = snapshot_find(snapshot, section(tag, "len", name), &lengths_len);
    *found = strings && lengths && count <= NAMES_MAX && count <= lengths_len &&
             snapshot_touch(snapshot, strings, bytes) &&
             snapshot_touch(snapshot, lengths, lengths_len);
    if (!*found)
        return SYNA_SUCCESS;
    SYNA_TRY(array_reserve(&n->bases, count / NAMES_BLOCK + 1));
    SYNA_TRY(array_reserve(&n->ends, count));
    *found = take_lengths(n, lengths, lengths + lengths_len, count, bytes);
    if (!*found)
        return SYNA_SUCCESS;
    array_dispose(&n->bytes);
    SYNA_TRY(array_init_head(&n->bytes, 1, BYTES_MAX, strings, bytes));
    n->count = count;
    SYNA_TRY(row_keys_reserve(&n->table, count));
    for (uint32_t i = 0; i < count; i++)
        if (!live || live[i / 64] >> i % 64 & 1)
            row_keys_set(&n->table, i);
    return SYNA_SUCCESS;
}
