/* hybrid_keys.c - the keys whose cold row is out of date, each with the stamp from which on it is. */
#include "base/internal.h"

#include "engine/hybrid_core.h"

static struct outdated_key *at(const struct outdated *o, size_t i)
{
    return (struct outdated_key *)(void *)o->list.bytes + i;
}

static const char *name_of(void *context, uint32_t place, size_t *len)
{
    const struct outdated_key *found = at(context, place);
    *len = found->len;
    return found->key;
}

void outdated_init(struct outdated *o)
{
    *o = (struct outdated){0};
    row_keys_init(&o->names, name_of, o);
}

void outdated_dispose(struct outdated *o)
{
    for (size_t i = 0; i < o->count; i++)
        mem_free(at(o, i)->key);
    row_keys_dispose(&o->names);
    buf_dispose(&o->list);
    o->count = 0;
}

syna_rc outdated_add(struct outdated *o, const char *key, size_t len, uint64_t stamp)
{
    struct outdated_key added = {.key = mem_dup(key, len), .len = len, .stamp = stamp};
    if (!added.key)
        return syna_no_memory(len);
    syna_rc rc = row_keys_reserve(&o->names, 1);
    if (rc == SYNA_SUCCESS && !buf_append(&o->list, &added, sizeof added))
        rc = syna_no_memory(sizeof added);
    if (rc != SYNA_SUCCESS) {
        mem_free(added.key);
        return rc;
    }
    row_keys_set(&o->names, (uint32_t)o->count++);
    return SYNA_SUCCESS;
}

bool outdated_has(const struct outdated *o, const char *key, size_t len, uint64_t stamp)
{
    if (o->count == 0)
        return false;
    uint32_t place = row_keys_find(&o->names, key, len);
    return place != ROW_NONE && at(o, place)->stamp <= stamp;
}

/* The last one takes the place of the removed one. */
static void remove_place(struct outdated *o, size_t place)
{
    struct outdated_key gone = *at(o, place), last = *at(o, o->count - 1);
    row_keys_remove(&o->names, gone.key, gone.len);
    if (place != o->count - 1) {
        row_keys_remove(&o->names, last.key, last.len);
        *at(o, place) = last;
        row_keys_set(&o->names, (uint32_t)place);
    }
    mem_free(gone.key);
    o->count--;
    o->list.len -= sizeof gone;
}

bool outdated_remove(struct outdated *o, const char *key, size_t len)
{
    uint32_t place = o->count ? row_keys_find(&o->names, key, len) : ROW_NONE;
    if (place == ROW_NONE)
        return false;
    remove_place(o, place);
    return true;
}

void outdated_cut(struct outdated *o, size_t count)
{
    while (o->count > count)
        remove_place(o, o->count - 1);
}

void outdated_stamp(struct outdated *o, size_t first, uint64_t stamp)
{
    for (size_t i = first; i < o->count; i++)
        at(o, i)->stamp = stamp;
}
