/* text_names.c - numbered strings: an array of bytes, an array of ends, a table of numbers. */
#include "base/internal.h"

#include "engine/text_names.h"

#define BYTES_MAX ((uint64_t)1 << 40)

static uint64_t end_of(const struct names *n, uint32_t number)
{
    return *(const uint64_t *)array_at(&n->ends, number);
}

static uint64_t start_of(const struct names *n, uint32_t number)
{
    return number == 0 ? 0 : end_of(n, number - 1);
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
    return array_init(&n->ends, sizeof(uint64_t), NAMES_MAX);
}

void names_dispose(struct names *n)
{
    array_dispose(&n->bytes);
    array_dispose(&n->ends);
    row_keys_dispose(&n->table);
    n->count = 0;
}

syna_rc names_reserve(struct names *n, size_t more, size_t bytes)
{
    if (more > NAMES_MAX - n->count)
        return syna_fail(SYNA_ERR_INTERNAL, SYNA_WHY_NONE,
                         "%zu names are more than a text index can number", n->count + more);
    SYNA_TRY(array_reserve(&n->bytes, (size_t)start_of(n, n->count) + bytes + 1));
    SYNA_TRY(array_reserve(&n->ends, n->count + more));
    return row_keys_reserve(&n->table, more);
}

uint32_t names_add(struct names *n, const char *name, size_t len)
{
    uint64_t start = start_of(n, n->count);
    memcpy(array_at(&n->bytes, (size_t)start), name, len);
    *(uint64_t *)array_at(&n->ends, n->count) = start + len;
    row_keys_set(&n->table, n->count);
    return n->count++;
}

uint64_t names_memory(const struct names *n)
{
    return array_bytes(&n->bytes) + array_bytes(&n->ends) + row_keys_bytes(&n->table);
}

/* ---------------------------------------------------------------- snapshots */

static const char *section(const char *tag, const char *what, char name[9])
{
    snprintf(name, 9, "%s%s", tag, what);
    return name;
}

syna_rc names_save(const struct names *n, const char *tag, struct snapshot_writer *writer)
{
    char name[9];
    SYNA_TRY(snapshot_section(writer, section(tag, "str", name)));
    SYNA_TRY(array_save(&n->bytes, (size_t)start_of(n, n->count), writer));
    SYNA_TRY(snapshot_section(writer, section(tag, "end", name)));
    return array_save(&n->ends, n->count, writer);
}

static bool sound(const uint64_t *ends, uint32_t count, size_t bytes)
{
    uint64_t last = 0;
    for (uint32_t i = 0; i < count; i++) {
        if (ends[i] < last)
            return false;
        last = ends[i];
    }
    return last == bytes;
}

syna_rc names_load(struct names *n, const char *tag, struct snapshot *snapshot, uint32_t count,
                   const uint64_t *live, bool *found)
{
    char name[9];
    size_t bytes, ends_len;
    void *strings = snapshot_find(snapshot, section(tag, "str", name), &bytes);
    uint64_t *ends = snapshot_find(snapshot, section(tag, "end", name), &ends_len);
    *found = strings && ends && count <= NAMES_MAX && ends_len == count * sizeof *ends &&
             snapshot_touch(snapshot, strings, bytes) && snapshot_touch(snapshot, ends, ends_len) &&
             sound(ends, count, bytes);
    if (!*found)
        return SYNA_SUCCESS;
    array_dispose(&n->bytes);
    SYNA_TRY(array_init_head(&n->bytes, 1, BYTES_MAX, strings, bytes));
    array_dispose(&n->ends);
    SYNA_TRY(array_init_head(&n->ends, sizeof *ends, NAMES_MAX, ends, count));
    n->count = count;
    SYNA_TRY(row_keys_reserve(&n->table, count));
    for (uint32_t i = 0; i < count; i++)
        if (!live || live[i / 64] >> i % 64 & 1)
            row_keys_set(&n->table, i);
    return SYNA_SUCCESS;
}
