/* db_check_index.c - does the key checkpoint agree with the log? The checkpoint is opened as an open
 * does it and brought up to date; a second index is made from the log alone; then they are compared,
 * key by key and record by record. A checkpoint that is missing, stale or damaged is no error:
 * whoever opens the log rebuilds it. */
#include "base/internal.h"

#include "engine/db_check.h"
#include "store/history.h"
#include "store/keydir.h"

/* A writer beside us may append between two replays: then replay the one that is behind again. */
#define TRIES 5

/* A log opened for reading, with an index over it. */
struct indexed {
    struct kvlog log;
    struct keydir *dir;
    struct progress *progress;
};

static syna_rc apply(void *context, const struct frame *f)
{
    struct indexed *x = context;
    SYNA_TRY(keydir_apply(x->dir, f));
    return progress_tick(x->progress, f->len);
}

static syna_rc replay(struct indexed *x)
{
    struct kvlog_recovery recovery;
    return kvlog_replay(&x->log, apply, x, &recovery);
}

static void dispose(struct indexed *x)
{
    keydir_free(x->dir);
    if (x->log.file.path)
        kvlog_close(&x->log);
}

static syna_rc same_history(struct indexed *saved, struct indexed *made, const struct entry *a,
                            const struct entry *b, bool *same)
{
    struct history_cursor i, j;
    *same = history_records(saved->dir, a) == history_records(made->dir, b);
    if (!*same || !a->history)
        return SYNA_SUCCESS;
    SYNA_TRY(history_seek(saved->dir, a, 0, &i));
    SYNA_TRY(history_seek(made->dir, b, 0, &j));
    for (;;) {
        *same = i.offset == j.offset;
        syna_rc rc = history_next(&i), other = history_next(&j);
        if (!*same || rc != SYNA_SUCCESS || other != SYNA_SUCCESS) {
            *same = *same && rc == other;
            return rc == SYNA_ERR_KEY_NOT_FOUND ? SYNA_SUCCESS : rc;
        }
    }
}

static syna_rc compare_key(struct indexed *saved, struct indexed *made, uint32_t id,
                           struct findings *to)
{
    struct entry a, b;
    bool same = true;
    SYNA_TRY(keydir_entry(made->dir, id, &b));
    const uint8_t *key = kvlog_key(&made->log, b.offset);
    syna_rc rc = keydir_find(saved->dir, key, b.key_len, &a);
    if (rc == SYNA_ERR_KEY_NOT_FOUND)
        same = false;
    else
        SYNA_TRY(rc);
    if (same)
        same = a.offset == b.offset && a.type == b.type && a.flags == b.flags &&
               a.payload == b.payload;
    if (same)
        SYNA_TRY(same_history(saved, made, &a, &b, &same));
    if (!same)
        finding_damage(to, b.offset, "the key checkpoint disagrees with the log on key \"%.*s\"",
                       (int)MIN(b.key_len, 200), (const char *)key);
    return SYNA_SUCCESS;
}

static syna_rc compare(struct indexed *saved, struct indexed *made, struct findings *to)
{
    uint32_t count = keydir_count(made->dir);
    if (keydir_count(saved->dir) != count)
        finding_damage(to, made->log.end, "the key checkpoint has %u keys, the log %u",
                       keydir_count(saved->dir), count);
    for (uint32_t id = 0; id < count; id++) {
        SYNA_TRY(compare_key(saved, made, id, to));
        SYNA_TRY(finding_status(to));
        SYNA_TRY(progress_tick(made->progress, 64));
    }
    return SYNA_SUCCESS;
}

/* Bring both to the same end of the log. *level false: the writer beside us is too fast. */
static syna_rc replay_both(struct indexed *saved, struct indexed *made, bool *level)
{
    SYNA_TRY(replay(made));
    for (int i = 0; i < TRIES; i++) {
        SYNA_TRY(replay(saved));
        *level = saved->log.end == made->log.end;
        if (*level)
            return SYNA_SUCCESS;
        SYNA_TRY(replay(made));
    }
    return SYNA_SUCCESS;
}

static syna_rc check(struct indexed *saved, struct indexed *made, const char *path,
                     const char *index_path, struct findings *to)
{
    bool level = false;
    SYNA_TRY(kvlog_open(&saved->log, path, false, false));
    SYNA_TRY(keydir_load(&saved->log, index_path, &saved->dir));
    if (!saved->dir)
        return SYNA_SUCCESS;
    SYNA_TRY(kvlog_open(&made->log, path, false, false));
    if (made->log.device != saved->log.device || made->log.inode != saved->log.inode)
        return SYNA_SUCCESS; /* compacted between the two opens */
    SYNA_TRY(keydir_new(&made->log, &made->dir));
    SYNA_TRY(replay_both(saved, made, &level));
    return level ? compare(saved, made, to) : SYNA_SUCCESS;
}

syna_rc check_index(const char *path, struct progress *progress, struct findings *to)
{
    struct indexed saved = {.progress = progress}, made = {.progress = progress};
    struct buf index_path = {0};
    if (!buf_append(&index_path, path, strlen(path)) || !buf_append(&index_path, ".idx", 5)) {
        buf_dispose(&index_path);
        return syna_no_memory(strlen(path) + 5);
    }
    syna_rc rc = check(&saved, &made, path, (const char *)index_path.bytes, to);
    if (rc == KEYDIR_DAMAGED) {
        finding_note(to, 0, "the key checkpoint has a damaged page; the next writer replaces it");
        rc = SYNA_SUCCESS;
    }
    dispose(&saved);
    dispose(&made);
    buf_dispose(&index_path);
    return rc;
}
