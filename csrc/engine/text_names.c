/* text_names.c - numbered strings: an array of bytes, and where each of them ends, in one of two ways. Names that
 * are added have ends, counted within blocks of names, so that 32 bits are enough for them; names of a snapshot
 * have lengths, to be added up from the mark before. */
#include "base/internal.h"

#include "base/bytes.h"
#include "base/mem.h"
#include "engine/text_names.h"

#define BYTES_MAX ((uint64_t)1 << 40)
#define LENGTH_ROOM 10u /* bytes of a varint at most */
#define LENGTH_BYTE 128u /* a varint of a byte is less */

/* Where the names of a block start; ends are counted from there. */
static uint64_t *base_of(const struct names *n, uint32_t number)
{
    return array_at(&n->bases, (number - n->mapped) / NAMES_BLOCK);
}

static uint32_t *end_at(const struct names *n, uint32_t number)
{
    return array_at(&n->ends, number - n->mapped);
}

static uint64_t mapped_start(const struct names *n, uint32_t number)
{
    uint64_t start = n->marks[number / NAMES_MARKED];
    for (uint32_t i = number & ~(NAMES_MARKED - 1); i < number; i++)
        start += n->lengths[i];
    return start;
}

static uint64_t end_of(const struct names *n, uint32_t number)
{
    if (number < n->mapped)
        return mapped_start(n, number) + n->lengths[number];
    return *base_of(n, number) + *end_at(n, number);
}

static uint64_t start_of(const struct names *n, uint32_t number)
{
    if (number < n->mapped)
        return mapped_start(n, number);
    return (number - n->mapped) % NAMES_BLOCK == 0 ? *base_of(n, number) : end_of(n, number - 1);
}

/* Bytes of all names. */
static uint64_t used(const struct names *n)
{
    return n->count == 0 ? 0 : end_of(n, n->count - 1);
}

const char *names_at(const struct names *n, uint32_t number, size_t *len)
{
    uint64_t start = start_of(n, number);
    *len = number < n->mapped ? n->lengths[number] : (size_t)(end_of(n, number) - start);
    return array_at(&n->bytes, (size_t)start);
}

static const char *key_of(void *context, uint32_t row, size_t *len)
{
    return names_at(context, row, len);
}

static const char *name_of(const void *context, uint32_t number, size_t *len)
{
    return names_at(context, number, len);
}

uint32_t names_find(const struct names *n, const char *name, size_t len)
{
    uint32_t number = name_table_find(&n->old, name_of, n, name, len);
    return number != ROW_NONE ? number : row_keys_find(&n->table, name, len);
}

void names_forget(struct names *n, const char *name, size_t len)
{
    if (!name_table_remove(&n->old, name_of, n, name, len))
        row_keys_remove(&n->table, name, len);
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
    mem_free(n->marks);
    n->marks = NULL;
    name_table_dispose(&n->old);
    row_keys_dispose(&n->table);
    n->count = n->mapped = 0;
}

syna_rc names_reserve(struct names *n, size_t more, size_t bytes)
{
    if (more > NAMES_MAX - n->count)
        return syna_fail(SYNA_ERR_INTERNAL, SYNA_WHY_NONE,
                         "%zu names are more than a text index can number", n->count + more);
    SYNA_TRY(array_reserve(&n->bytes, (size_t)used(n) + bytes + 1));
    size_t own = n->count - n->mapped + more;
    SYNA_TRY(array_reserve(&n->ends, own));
    SYNA_TRY(array_reserve(&n->bases, own / NAMES_BLOCK + 1));
    return row_keys_reserve(&n->table, more);
}

uint32_t names_add(struct names *n, const char *name, size_t len)
{
    uint64_t start = used(n);
    memcpy(array_at(&n->bytes, (size_t)start), name, len);
    if ((n->count - n->mapped) % NAMES_BLOCK == 0)
        *base_of(n, n->count) = start;
    *end_at(n, n->count) = (uint32_t)(start + len - *base_of(n, n->count));
    row_keys_set(&n->table, n->count);
    return n->count++;
}

/* Arrays have more memory than is in use, but the system gives pages only when they are written. */
uint64_t names_memory(const struct names *n)
{
    uint64_t own = n->count - n->mapped, head = n->bytes.head_count;
    return (used(n) - MIN(used(n), head)) + own * n->ends.item +
           (own + NAMES_BLOCK - 1) / NAMES_BLOCK * n->bases.item +
           (n->marks ? (n->mapped + NAMES_MARKED - 1) / NAMES_MARKED * sizeof *n->marks : 0) +
           name_table_bytes(&n->old) + row_keys_bytes(&n->table);
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
        *end_at(n, i) = (uint32_t)(sum - *base_of(n, i));
    }
    return at == stop && sum == bytes;
}

static syna_rc make_ends(struct names *n, const uint8_t *lengths, size_t len, uint32_t count,
                         size_t bytes, bool *sound)
{
    SYNA_TRY(array_reserve(&n->bases, count / NAMES_BLOCK + 1));
    SYNA_TRY(array_reserve(&n->ends, count));
    *sound = take_lengths(n, lengths, lengths + len, count, bytes);
    return SYNA_SUCCESS;
}

/* The lengths of the section are used as they stand: each is a byte. */
static syna_rc make_marks(struct names *n, const uint8_t *lengths, uint32_t count, size_t bytes,
                          bool *sound)
{
    uint64_t sum = 0;
    uint8_t longest = 0;
    size_t size = ((size_t)count + NAMES_MARKED - 1) / NAMES_MARKED * sizeof *n->marks;
    n->marks = mem_alloc(size);
    if (!n->marks)
        return syna_no_memory(size);
    for (uint32_t i = 0; i < count; i++) {
        if (i % NAMES_MARKED == 0)
            n->marks[i / NAMES_MARKED] = sum;
        sum += lengths[i];
        longest = MAX(longest, lengths[i]);
    }
    *sound = sum == bytes && longest < LENGTH_BYTE;
    n->lengths = lengths;
    n->mapped = count;
    return SYNA_SUCCESS;
}

syna_rc names_load(struct names *n, const char *tag, struct snapshot *snapshot, uint32_t count,
                   const uint64_t *live, bool *found)
{
    char name[9];
    size_t bytes, len;
    void *strings = snapshot_find(snapshot, section(tag, "str", name), &bytes);
    const uint8_t *lengths = snapshot_find(snapshot, section(tag, "len", name), &len);
    *found = strings && lengths && count <= NAMES_MAX && count <= len &&
             snapshot_touch(snapshot, strings, bytes) && snapshot_touch(snapshot, lengths, len);
    if (!*found)
        return SYNA_SUCCESS;
    SYNA_TRY(len == count ? make_marks(n, lengths, count, bytes, found)
                          : make_ends(n, lengths, len, count, bytes, found));
    if (!*found)
        return SYNA_SUCCESS;
    array_dispose(&n->bytes);
    SYNA_TRY(array_init_head(&n->bytes, 1, BYTES_MAX, strings, bytes));
    n->count = count;
    return name_table_make(&n->old, name_of, n, count, live);
}
