/* The hash table of a keydir: entry numbers in groups of twelve, each group one cache line.
 *
 * A key belongs into the group that the low bits of its hash name, or, when that is full, into the
 * next one of the sequence +1, +3, +6 ... (all groups, as their number is a power of two). A group
 * that made a key go on is marked `passed`; a search ends at the first group that is not. Nothing
 * is ever taken out: a deleted key keeps its entry.
 *
 * Growing: a table of twice the size is allocated, and each later addition moves two groups of the
 * old one. Until the move is over the old table stays whole and both are searched. The invariants:
 *
 *   1. Every entry is in `table`, or in a group of `old` from `moved` on.
 *   2. `table` has room for all entries, those still to be moved included.
 *
 * Keys are not read when entries move: position and tag follow from what is stored. */
#include "base/internal.h"

#include "store/keydir_core.h"

#define CACHE_LINE 64u

bool table_new(struct table *t, uint64_t groups)
{
    uint8_t *block = mem_zalloc((size_t)groups * sizeof(struct group) + CACHE_LINE - 1);
    if (!block)
        return false;
    prefer_huge_pages(block, (size_t)groups * sizeof(struct group));
    size_t skip = (size_t)(-(uintptr_t)block & (CACHE_LINE - 1));
    t->groups = (struct group *)(void *)(block + skip);
    t->mask = groups - 1;
    t->block = block;
    return true;
}

void table_free(struct table *t)
{
    mem_free(t->block);
    *t = (struct table){0};
}

/* Group `at`, checked where it lies in the checkpoint; NULL = damaged. */
static inline struct group *group_get(const struct keydir *dir, const struct table *t, uint64_t at)
{
    struct group *g = &t->groups[at];
    if (UNLIKELY(!t->block) && UNLIKELY(!snapshot_touch(dir->snapshot, g, sizeof *g)))
        return NULL;
    return g;
}

/* Is this the entry of the key? SYNA_ERR_KEY_NOT_FOUND = another key's. */
static inline syna_rc match(const struct keydir *dir, uint32_t id, uint32_t hash, const void *key,
                            size_t key_len)
{
    const struct packed_entry *p = entry_get(dir, id);
    if (UNLIKELY(!p))
        return KEYDIR_DAMAGED;
    if (p->hash != hash || packed_key_len(p) != key_len)
        return SYNA_ERR_KEY_NOT_FOUND;
    const uint8_t *found = entry_key(dir, p);
    if (UNLIKELY(!found))
        return KEYDIR_DAMAGED;
    return LIKELY(memcmp(found, key, key_len) == 0) ? SYNA_SUCCESS : keydir_judge(dir, p);
}

static inline syna_rc search_group(const struct keydir *dir, const struct group *g, uint64_t hash,
                                   const void *key, size_t key_len, uint32_t *id)
{
    uint32_t same = group_match(g, hash_tag(hash));
    for (; same; same &= same - 1) {
        uint32_t slot = (uint32_t)__builtin_ctz(same);
        syna_rc rc = match(dir, g->slots[slot], (uint32_t)hash, key, key_len);
        if (LIKELY(rc == SYNA_SUCCESS))
            *id = g->slots[slot];
        if (rc != SYNA_ERR_KEY_NOT_FOUND)
            return rc;
    }
    return SYNA_ERR_KEY_NOT_FOUND;
}

static inline syna_rc search_table(const struct keydir *dir, const struct table *t, uint64_t hash,
                                   const void *key, size_t key_len, uint32_t *id)
{
    uint64_t at = (uint32_t)hash & t->mask;
    for (uint64_t step = 1; step <= t->mask + 1; at = (at + step++) & t->mask) {
        const struct group *g = group_get(dir, t, at);
        if (UNLIKELY(!g))
            return KEYDIR_DAMAGED;
        syna_rc rc = search_group(dir, g, hash, key, key_len, id);
        if (rc != SYNA_ERR_KEY_NOT_FOUND || !g->passed)
            return rc;
    }
    return SYNA_ERR_KEY_NOT_FOUND;
}

syna_rc table_find(struct keydir *dir, uint64_t hash, const void *key, size_t key_len, uint32_t *id)
{
    syna_rc rc = search_table(dir, &dir->table, hash, key, key_len, id);
    if (UNLIKELY(dir->old.groups != NULL) && rc == SYNA_ERR_KEY_NOT_FOUND)
        rc = search_table(dir, &dir->old, hash, key, key_len, id);
    return rc;
}

/* Put an entry into the first free slot on its way. A table from a hostile checkpoint may have none
 * although it should. */
static syna_rc place(struct keydir *dir, uint32_t hash, uint8_t tag, uint32_t id)
{
    const struct table *t = &dir->table;
    uint64_t at = hash & t->mask;
    for (uint64_t step = 1; step <= t->mask + 1; at = (at + step++) & t->mask) {
        struct group *g = group_get(dir, t, at);
        if (UNLIKELY(!g))
            return KEYDIR_DAMAGED;
        uint32_t free_slots = group_match(g, 0);
        if (LIKELY(free_slots)) {
            uint32_t slot = (uint32_t)__builtin_ctz(free_slots);
            g->tags[slot] = tag;
            g->slots[slot] = id;
            return SYNA_SUCCESS;
        }
        g->passed = 1;
    }
    return KEYDIR_DAMAGED;
}

/* Moving is one cache miss for each entry and one for its new group; asking for all of them before
 * using the first lets them overlap. */
static syna_rc move_group(struct keydir *dir, const struct group *g)
{
    uint32_t hashes[GROUP_SLOTS], used = ~group_match(g, 0) & GROUP_MASK;
    for (uint32_t left = used; left; left &= left - 1) {
        uint32_t id = g->slots[__builtin_ctz(left)];
        if (LIKELY(id < dir->count))
            __builtin_prefetch(entry_at(dir, id));
    }
    for (uint32_t left = used; left; left &= left - 1) {
        uint32_t slot = (uint32_t)__builtin_ctz(left);
        const struct packed_entry *p = entry_get(dir, g->slots[slot]);
        if (UNLIKELY(!p))
            return KEYDIR_DAMAGED;
        hashes[slot] = p->hash;
        __builtin_prefetch(&dir->table.groups[p->hash & dir->table.mask], 1);
    }
    for (uint32_t left = used; left; left &= left - 1) {
        uint32_t slot = (uint32_t)__builtin_ctz(left);
        SYNA_TRY(place(dir, hashes[slot], g->tags[slot], g->slots[slot]));
    }
    return SYNA_SUCCESS;
}

static syna_rc move_groups(struct keydir *dir, uint64_t count)
{
    for (; count && dir->moved <= dir->old.mask; count--) {
        const struct group *g = group_get(dir, &dir->old, dir->moved);
        if (UNLIKELY(!g))
            return KEYDIR_DAMAGED;
        SYNA_TRY(move_group(dir, g));
        dir->moved++;
    }
    if (dir->moved > dir->old.mask)
        table_free(&dir->old);
    return SYNA_SUCCESS;
}

syna_rc table_add(struct keydir *dir, uint64_t hash, uint32_t id)
{
    if (UNLIKELY(dir->old.groups != NULL))
        SYNA_TRY(move_groups(dir, GROUPS_PER_STEP));
    return place(dir, (uint32_t)hash, hash_tag(hash), id);
}

static syna_rc grow(struct keydir *dir, uint64_t entries)
{
    uint64_t groups = dir->table.mask + 1;
    while (table_limit(groups) < entries)
        groups *= 2;
    /* Only a reservation for very many records can come while an earlier move is still going on. */
    if (dir->old.groups)
        SYNA_TRY(move_groups(dir, UINT64_MAX));
    struct table bigger;
    if (!table_new(&bigger, groups))
        return syna_no_memory((size_t)groups * sizeof(struct group));
    dir->old = dir->table;
    dir->moved = 0;
    dir->table = bigger;
    return SYNA_SUCCESS;
}

syna_rc table_reserve(struct keydir *dir, uint64_t entries)
{
    if (LIKELY(entries <= table_limit(dir->table.mask + 1)))
        return SYNA_SUCCESS;
    return grow(dir, entries);
}
