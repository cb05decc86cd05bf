/* db_ancestor_copy.c - a log of the ancestor into a new log of ours (db_ancestor_copy.h).
 *
 *   1. The source is only read. The target gets its name when it is complete and on disk.
 *   2. Records keep their order and their times: a time that would go back is raised in the stamp, and
 *      kept as the event time.
 *   3. A record that cannot be copied is told of and skipped; behind a place that is no record reading
 *      goes on where the next one begins. Nothing is skipped in silence.
 *
 * Vectors that hold NaN or infinities, which the ancestor took, are none here, where a search could not
 * rank them: they are stored as packed arrays, in which nothing of them is lost. */
#include "base/internal.h"

#include <stdlib.h>

#include "engine/db_ancestor.h"
#include "engine/db_ancestor_copy.h"
#include "engine/db_check.h"
#include "engine/db_out.h"

/* Key bytes shown in a message. */
#define SHOWN 200

struct name {
    const char *text;
    size_t len;
};

struct copy {
    struct walk walk;
    struct progress progress;
    struct findings to;
    syna_check check; /* where findings count the damage */
    syna_migration *out;
    struct out_log new_log;
    struct ancestor ancestor;
    struct name *leave_out; /* sorted */
    size_t leave_out_count;
    struct buf scratch, packed, frame;
};

/* ---------------------------------------------------------------- the keys to leave out */

static int compare(const void *a, const void *b)
{
    const struct name *x = a, *y = b;
    size_t len = MIN(x->len, y->len);
    int order = len ? memcmp(x->text, y->text, len) : 0;
    return order ? order : (x->len > y->len) - (x->len < y->len);
}

static syna_rc take_names(struct copy *c, const char *const *names, size_t count)
{
    if (count == 0)
        return SYNA_SUCCESS;
    if (count > SIZE_MAX / sizeof *c->leave_out)
        return syna_no_memory(SIZE_MAX);
    c->leave_out = mem_alloc(count * sizeof *c->leave_out);
    if (!c->leave_out)
        return syna_no_memory(count * sizeof *c->leave_out);
    for (size_t i = 0; i < count; i++)
        c->leave_out[i] = (struct name){names[i], strlen(names[i])};
    c->leave_out_count = count;
    qsort(c->leave_out, count, sizeof *c->leave_out, compare);
    return SYNA_SUCCESS;
}

static bool is_left_out(const struct copy *c, const struct frame *f)
{
    struct name wanted = {(const char *)f->key, f->key_len};
    return c->leave_out_count > 0 &&
           bsearch(&wanted, c->leave_out, c->leave_out_count, sizeof wanted, compare) != NULL;
}

/* ---------------------------------------------------------------- records */

/* A float32 array of one dimension as a packed value (csrc/FORMATS.md, Packed values). */
static syna_rc pack_vector(struct copy *c, struct value *v)
{
    static const uint8_t head[] = {1, 0x20, 0, 3, '<', 'f', '4', 0, 1};
    uint8_t count[5];
    size_t used = 0;
    for (size_t rest = v->len / sizeof(float); used == 0 || rest > 0; rest >>= 7)
        count[used++] = (uint8_t)((rest & 0x7f) | (rest > 0x7f ? 0x80 : 0));
    c->packed.len = 0;
    if (!buf_append(&c->packed, head, sizeof head) || !buf_append(&c->packed, count, used) ||
        !buf_append(&c->packed, v->data, v->len))
        return syna_no_memory(v->len);
    v->type = SYNA_TYPE_PACKED;
    v->data = c->packed.bytes;
    v->len = c->packed.len;
    return SYNA_SUCCESS;
}

static syna_rc repack(struct copy *c, const struct frame *f, struct value *v)
{
    SYNA_TRY(pack_vector(c, v));
    finding_note(&c->to, f->offset,
                 "changed: the vector of \"%.*s\" is empty or not finite; it is kept as an array",
                 (int)MIN(f->key_len, SHOWN), (const char *)f->key);
    c->out->repacked++;
    return SYNA_SUCCESS;
}

static syna_rc write_value(struct copy *c, const struct frame *f, struct value *v)
{
    size_t start;
    uint8_t flags = f->flags & FRAME_TOMBSTONE;
    if (f->stamp < c->new_log.last_stamp)
        v->event_us = f->stamp;
    c->frame.len = 0;
    if (!frame_begin(&c->frame, f->key, f->key_len, &start))
        return syna_no_memory(f->key_len);
    SYNA_TRY(value_encode(v, true, &c->frame, &flags));
    if (!frame_finish(&c->frame, start, flags))
        return syna_no_memory(FRAME_CRC_BYTES);
    return out_frame(&c->new_log, c->frame.bytes, f->stamp, NULL);
}

/* What a deletion carries says nothing; ours carries nothing. */
static syna_rc copy_deletion(struct copy *c, const struct frame *f)
{
    struct value nothing = {.type = SYNA_TYPE_NULL};
    SYNA_TRY(write_value(c, f, &nothing));
    c->out->deletions++;
    return SYNA_SUCCESS;
}

static syna_rc copy_value(struct copy *c, const struct frame *f)
{
    struct value v;
    SYNA_TRY(ancestor_value(&c->ancestor, f, c->walk.file.path, &c->scratch, &v));
    syna_rc rc = value_check(&v);
    if (rc != SYNA_SUCCESS && v.type == SYNA_TYPE_VECTOR)
        rc = repack(c, f, &v);
    SYNA_TRY(rc);
    SYNA_TRY(write_value(c, f, &v));
    c->out->values++;
    c->out->compressed += (f->flags & FRAME_LZ4) != 0;
    return SYNA_SUCCESS;
}

/* SERIALIZATION and ARGUMENT tell why the record cannot come over; other codes are failures. */
static syna_rc copy_record(struct copy *c, const struct frame *f)
{
    SYNA_TRY(db_check_key(f->key, f->key_len));
    return f->flags & FRAME_TOMBSTONE ? copy_deletion(c, f) : copy_value(c, f);
}

static syna_rc on_frame(struct copy *c)
{
    const struct frame *f = &c->walk.frame;
    c->out->frames++;
    c->out->bytes += f->len;
    if (is_left_out(c, f)) {
        c->out->left_out++;
        return SYNA_SUCCESS;
    }
    syna_rc rc = copy_record(c, f);
    bool its_own = rc == SYNA_ERR_SERIALIZATION ||
                   (rc != SYNA_SUCCESS && status_get()->reason == SYNA_WHY_ARGUMENT);
    if (!its_own)
        return rc;
    finding_note(&c->to, f->offset, "lost: record of \"%.*s\": %s", (int)MIN(f->key_len, SHOWN),
                 (const char *)f->key, finding_reason(c->walk.file.path, f->offset));
    c->out->lost++;
    return SYNA_SUCCESS;
}

static void on_gap(struct copy *c)
{
    finding_damage(&c->to, c->walk.gap_start,
                   "lost: %llu bytes are no record; reading goes on at %llu",
                   (unsigned long long)(c->walk.gap_end - c->walk.gap_start),
                   (unsigned long long)c->walk.gap_end);
}

static void on_end(struct copy *c)
{
    uint64_t tail = c->walk.at;
    if (c->walk.gave_up)
        finding_damage(&c->to, tail, "lost: all behind here; too much of it looks like records");
    if (c->walk.data_end <= tail)
        return;
    c->out->torn_bytes = c->walk.data_end - tail;
    finding_note(&c->to, tail, "left out: %llu bytes at the end that are no whole record",
                 (unsigned long long)c->out->torn_bytes);
}

static syna_rc copy_all(struct copy *c)
{
    enum walk_event event;
    do {
        SYNA_TRY(walk_next(&c->walk, &event));
        if (event == WALK_FRAME)
            SYNA_TRY(on_frame(c));
        else if (event == WALK_GAP)
            on_gap(c);
        else
            on_end(c);
        SYNA_TRY(finding_status(&c->to));
    } while (event != WALK_END);
    c->out->damaged = c->check.damaged;
    c->out->differences = c->ancestor.differences;
    c->out->poisoned = c->ancestor.poisoned;
    c->out->rounding = c->ancestor.rounding;
    return SYNA_SUCCESS;
}

/* ---------------------------------------------------------------- files */

static syna_rc taken(const char *to)
{
    return syna_fail_at(SYNA_ERR_IO, SYNA_WHY_NONE, to, -1, EEXIST, "a migration goes to a new file");
}

static syna_rc begin(struct copy *c, const char *to)
{
    struct header h = {.major = FORMAT_MAJOR, .minor = FORMAT_MINOR, .kind = KIND_LOG, .generation = 1};
    int rc = syna_vfs->random(h.uuid, sizeof h.uuid);
    if (rc < 0)
        return syna_fail_at(SYNA_ERR_IO, SYNA_WHY_NONE, to, -1, -rc,
                            "the system gave no random bytes for a new file's identity");
    return out_begin(&c->new_log, to, c->walk.file.path, &h, &c->progress);
}

static syna_rc finish(struct copy *c, const char *to)
{
    bool exists = false;
    SYNA_TRY(out_engine(&c->new_log, ENGINE_CLOSE));
    SYNA_TRY(out_flush(&c->new_log));
    SYNA_TRY(file_sync(&c->new_log.file));
    c->progress.done = c->progress.total;
    SYNA_TRY(progress_ask(&c->progress));
    SYNA_TRY(out_publish_new(&c->new_log.file, to, &exists));
    return exists ? taken(to) : SYNA_SUCCESS;
}

static syna_rc migrate_path(struct copy *c, const char *path, const char *to)
{
    struct vfs_stat st;
    if (syna_vfs->stat_path(to, &st) == 0)
        return taken(to);
    SYNA_TRY(walk_open(&c->walk, path, &c->progress));
    if (!c->walk.legacy)
        return syna_fail_at(SYNA_ERR_SERIALIZATION, SYNA_WHY_WRONG_KIND, path, -1, 0,
                            "not a log of the ancestor's: there is nothing to migrate");
    SYNA_TRY(progress_ask(&c->progress));
    SYNA_TRY(begin(c, to));
    SYNA_TRY(copy_all(c));
    return finish(c, to);
}

syna_rc db_migrate(const char *path, const char *to, const char *const *leave_out,
                   size_t leave_out_count, syna_finding_fn visit, void *context,
                   syna_progress_fn progress, syna_migration *out)
{
    struct copy c = {.walk.file = FILE_NONE,
                     .new_log.file = FILE_NONE,
                     .progress = {.ask = progress, .context = context, .what = "migration"},
                     .to = {.visit = visit, .context = context},
                     .out = out};
    char *canonical;
    c.to.out = &c.check;
    memset(out, 0, sizeof *out);
    out->size = sizeof *out;
    SYNA_TRY(db_canonical_path(path, &canonical));
    syna_rc rc = take_names(&c, leave_out, leave_out_count);
    if (rc == SYNA_SUCCESS)
        rc = migrate_path(&c, canonical, to);
    struct status_record why = *status_get();
    walk_close(&c.walk);
    out_discard(&c.new_log);
    ancestor_dispose(&c.ancestor);
    mem_free(c.leave_out);
    buf_dispose(&c.scratch);
    buf_dispose(&c.packed);
    buf_dispose(&c.frame);
    mem_free(canonical);
    return rc == SYNA_SUCCESS ? rc : status_set(&why);
}
