/* The key table of a vector store. Names are blocks of their own, so that a deleted key gives its
 * memory back at once. Slots hold row numbers only; the key is compared through the name. Removal
 * shifts later slots back instead of leaving marks, so look-ups never degrade. */
#include "base/internal.h"

#include "base/hash.h"
#include "engine/db.h"
#include "engine/vector_keys.h"

#include <synadb/vector.h>

#define FEWEST_SLOTS 64u

syna_rc row_name_new(const char *key, size_t key_len, struct row_name **out)
{
    if (!key)
        return syna_fail(SYNA_ERR_INVALID_PATH, SYNA_WHY_ARGUMENT, "the key is a null pointer");
    if (key_len == 0)
        return syna_fail(SYNA_ERR_EMPTY_KEY, SYNA_WHY_ARGUMENT, "the key is empty");
    if (key_len > SYNA_VECTOR_KEY_MAX)
        return syna_fail(SYNA_ERR_KEY_TOO_LONG, SYNA_WHY_ARGUMENT,
                         "the key has %zu bytes, at most %u fit", key_len, SYNA_VECTOR_KEY_MAX);
    SYNA_TRY(db_check_key(key, key_len));
    struct row_name *name = mem_alloc(sizeof *name + ROW_PREFIX_LEN + key_len + 1);
    if (!name)
        return syna_no_memory(key_len);
    name->len = (uint32_t)(ROW_PREFIX_LEN + key_len);
    memcpy(name->bytes, ROW_PREFIX, ROW_PREFIX_LEN);
    memcpy(name->bytes + ROW_PREFIX_LEN, key, key_len);
    name->bytes[name->len] = '\0';
    *out = name;
    return SYNA_SUCCESS;
}

void row_name_free(struct row_name *name)
{
    mem_free(name);
}

static struct row_name **name_at(const struct vector_keys *keys, uint32_t row)
{
    return (struct row_name **)(void *)keys->names.bytes + row;
}

static size_t row_count(const struct vector_keys *keys)
{
    return keys->names.len / sizeof(struct row_name *);
}

void vector_keys_dispose(struct vector_keys *keys)
{
    for (size_t row = 0; row < row_count(keys); row++)
        row_name_free(*name_at(keys, (uint32_t)row));
    buf_dispose(&keys->names);
    mem_free(keys->slots);
    *keys = (struct vector_keys){0};
}

static size_t home(const struct vector_keys *keys, const char *key, size_t key_len)
{
    return (size_t)hash_bytes(0, key, key_len) & (keys->slot_count - 1);
}

static size_t home_of_row(const struct vector_keys *keys, uint32_t row)
{
    const struct row_name *name = *name_at(keys, row);
    return home(keys, row_name_key(name), row_name_key_len(name));
}

static size_t next(const struct vector_keys *keys, size_t slot)
{
    return (slot + 1) & (keys->slot_count - 1);
}

static void put_slot(struct vector_keys *keys, uint32_t row)
{
    size_t slot = home_of_row(keys, row);
    while (keys->slots[slot])
        slot = next(keys, slot);
    keys->slots[slot] = row + 1;
}

static size_t slot_of_row(const struct vector_keys *keys, uint32_t row)
{
    size_t slot = home_of_row(keys, row);
    while (keys->slots[slot] != row + 1)
        slot = next(keys, slot);
    return slot;
}

static syna_rc grow_slots(struct vector_keys *keys, size_t wanted)
{
    size_t count = MAX(keys->slot_count, FEWEST_SLOTS);
    while (count < 2 * wanted)
        count *= 2;
    if (count == keys->slot_count)
        return SYNA_SUCCESS;
    uint32_t *slots = mem_zalloc(count * sizeof *slots);
    if (!slots)
        return syna_no_memory(count * sizeof *slots);
    uint32_t *old = keys->slots;
    size_t old_count = keys->slot_count;
    keys->slots = slots;
    keys->slot_count = count;
    for (size_t i = 0; i < old_count; i++)
        if (old[i])
            put_slot(keys, old[i] - 1);
    mem_free(old);
    return SYNA_SUCCESS;
}

syna_rc vector_keys_reserve(struct vector_keys *keys, size_t more, size_t rows)
{
    size_t have = row_count(keys);
    if (rows > have && !buf_reserve(&keys->names, (rows - have) * sizeof(struct row_name *)))
        return syna_no_memory(rows * sizeof(struct row_name *));
    return grow_slots(keys, keys->used + more);
}

uint32_t vector_keys_find(const struct vector_keys *keys, const char *key, size_t key_len)
{
    if (keys->used == 0)
        return ROW_NONE;
    for (size_t slot = home(keys, key, key_len); keys->slots[slot]; slot = next(keys, slot)) {
        const struct row_name *name = *name_at(keys, keys->slots[slot] - 1);
        if (row_name_key_len(name) == key_len && memcmp(row_name_key(name), key, key_len) == 0)
            return keys->slots[slot] - 1;
    }
    return ROW_NONE;
}

const struct row_name *vector_keys_name(const struct vector_keys *keys, uint32_t row)
{
    return row < row_count(keys) ? *name_at(keys, row) : NULL;
}

/* Room for it was reserved. */
static void set_name(struct vector_keys *keys, uint32_t row, struct row_name *name)
{
    while (row_count(keys) <= row)
        memset(buf_extend(&keys->names, sizeof name), 0, sizeof name);
    *name_at(keys, row) = name;
}

void vector_keys_add(struct vector_keys *keys, uint32_t row, struct row_name *name)
{
    set_name(keys, row, name);
    put_slot(keys, row);
    keys->used++;
    keys->name_bytes += sizeof *name + name->len + 1;
}

void vector_keys_move(struct vector_keys *keys, uint32_t from, uint32_t to)
{
    keys->slots[slot_of_row(keys, from)] = to + 1;
    struct row_name *name = *name_at(keys, from);
    *name_at(keys, from) = NULL;
    set_name(keys, to, name);
}

/* Empty `hole`, moving back each later slot of its run that would no longer be found behind it. */
static void close_hole(struct vector_keys *keys, size_t hole)
{
    size_t mask = keys->slot_count - 1;
    for (size_t at = next(keys, hole); keys->slots[at]; at = next(keys, at)) {
        size_t from_home = (at - home_of_row(keys, keys->slots[at] - 1)) & mask;
        if (from_home < ((at - hole) & mask))
            continue;
        keys->slots[hole] = keys->slots[at];
        hole = at;
    }
    keys->slots[hole] = 0;
}

void vector_keys_remove(struct vector_keys *keys, uint32_t row)
{
    struct row_name *name = *name_at(keys, row);
    close_hole(keys, slot_of_row(keys, row));
    *name_at(keys, row) = NULL;
    keys->used--;
    keys->name_bytes -= sizeof *name + name->len + 1;
    row_name_free(name);
}

void vector_keys_truncate(struct vector_keys *keys, uint32_t rows)
{
    keys->names.len = MIN(keys->names.len, rows * sizeof(struct row_name *));
}

uint64_t vector_keys_bytes(const struct vector_keys *keys)
{
    return keys->names.cap + keys->slot_count * sizeof *keys->slots + keys->name_bytes;
}
