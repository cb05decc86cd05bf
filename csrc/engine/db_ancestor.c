/* db_ancestor.c - read the ancestor's delta-encoded floats (db_ancestor.h). */
#include "base/internal.h"

#include "base/hash.h"
#include "engine/db_ancestor.h"

#include <math.h>

#define FIRST_CAP 64u

void ancestor_dispose(struct ancestor *a)
{
    buf_dispose(&a->keys);
    mem_free(a->slots);
    memset(a, 0, sizeof *a);
}

static struct ancestor_slot *find(const struct ancestor *a, uint64_t hash, const void *key, size_t len)
{
    size_t i = (size_t)hash & (a->cap - 1);
    for (;; i = (i + 1) & (a->cap - 1)) {
        struct ancestor_slot *s = &a->slots[i];
        if (s->hash == 0)
            return s;
        if (s->hash == hash && s->len == len && memcmp(a->keys.bytes + s->at, key, len) == 0)
            return s;
    }
}

/* At most half of the slots are taken. */
static bool make_room(struct ancestor *a)
{
    if (a->count * 2 < a->cap)
        return true;
    struct ancestor bigger = {.cap = a->cap ? a->cap * 2 : FIRST_CAP, .keys = a->keys};
    bigger.slots = mem_zalloc(bigger.cap * sizeof *bigger.slots);
    if (!bigger.slots)
        return false;
    for (size_t i = 0; i < a->cap; i++) {
        const struct ancestor_slot *s = &a->slots[i];
        if (s->hash)
            *find(&bigger, s->hash, a->keys.bytes + s->at, s->len) = *s;
    }
    mem_free(a->slots);
    a->slots = bigger.slots;
    a->cap = bigger.cap;
    return true;
}

/* The running float of a key; *is_new when it has none yet. NULL = no memory. */
static struct ancestor_slot *running(struct ancestor *a, const struct frame *f, bool *is_new)
{
    uint64_t hash = hash_bytes(0, f->key, f->key_len) | 1;
    if (!make_room(a))
        return NULL;
    struct ancestor_slot *s = find(a, hash, f->key, f->key_len);
    *is_new = s->hash == 0;
    if (*is_new) {
        size_t at = a->keys.len;
        if (!buf_append(&a->keys, f->key, f->key_len))
            return NULL;
        *s = (struct ancestor_slot){hash, at, f->key_len, 0, 0};
        a->count++;
    }
    return s;
}

/* Half a unit in the last place: what rounding to this float may have changed. */
static double half_unit(double x)
{
    return (nextafter(fabs(x), INFINITY) - fabs(x)) / 2;
}

static void add_difference(struct ancestor *a, struct ancestor_slot *s, double stored)
{
    a->differences++;
    if (!isfinite(s->running))
        a->poisoned++;
    s->running += stored;
    if (!isfinite(s->running))
        return;
    s->error += half_unit(stored) + half_unit(s->running);
    a->rounding = fmax(a->rounding, s->error);
}

syna_rc ancestor_value(struct ancestor *a, const struct frame *f, const char *path,
                       struct buf *scratch, struct value *out)
{
    bool is_new;
    SYNA_TRY(value_decode(f, path, scratch, out));
    if (out->type != SYNA_TYPE_FLOAT || f->flags & FRAME_TOMBSTONE)
        return SYNA_SUCCESS;
    struct ancestor_slot *s = running(a, f, &is_new);
    if (!s)
        return syna_no_memory(sizeof *a->slots);
    double stored = load_f64(out->data);
    if (f->flags & FRAME_DELTA && !is_new) {
        add_difference(a, s, stored);
    } else {
        s->running = stored;
        s->error = 0;
    }
    a->whole = s->running;
    out->data = &a->whole;
    return SYNA_SUCCESS;
}
