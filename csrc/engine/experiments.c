/* experiments.c - a run's life: started, tagged, ended, resumed, deleted.
 *
 *     start --> running --end--> completed | failed | killed
 *                  ^------------------ resume --'
 *
 * The record of a run is read, changed and written as a whole, under a lock of this process: of two
 * ends one is refused. Between processes the later one wins. */
#include "base/internal.h"

#include "engine/experiments_core.h"
#include "io/vfs.h"

static const char *const status_names[] = {"running", "completed", "failed", "killed"};

/* ---------------------------------------------------------------- the lock */

/* Held while a record is changed, its commit included: this happens a few times in a run's life. */
static pthread_mutex_t change_lock = PTHREAD_MUTEX_INITIALIZER;
static pthread_once_t registered = PTHREAD_ONCE_INIT;

static void before_fork(void)
{
    pthread_mutex_lock(&change_lock);
}

static void after_fork(void)
{
    pthread_mutex_unlock(&change_lock);
}

static void register_hooks(void)
{
    pthread_atfork(before_fork, after_fork, after_fork);
}

static void lock_changes(void)
{
    pthread_once(&registered, register_hooks);
    pthread_mutex_lock(&change_lock);
}

/* ---------------------------------------------------------------- records */

/* The fields of a run's record as JSON values. */
struct run_fields {
    struct json_span id, experiment, started, ended, tags, parent;
    const char *status;
};

static bool add_field(struct buf *to, const char *name, struct json_span value,
                      const char *otherwise)
{
    return json_add_text(to, name) && json_add_span(to, value, otherwise);
}

static bool compose(struct buf *to, const struct run_fields *f)
{
    return add_field(to, "{\"id\":", f->id, "null") &&
           add_field(to, ",\"experiment_name\":", f->experiment, "null") &&
           json_add_text(to, ",\"status\":\"") && json_add_text(to, f->status) &&
           add_field(to, "\",\"started_at\":", f->started, "null") &&
           add_field(to, ",\"ended_at\":", f->ended, "null") &&
           add_field(to, ",\"tags\":", f->tags, "[]") &&
           add_field(to, ",\"parent\":", f->parent, "null") && json_add_text(to, "}");
}

static struct json_span span_of(const struct buf *b)
{
    return (struct json_span){(const char *)b->bytes, b->len};
}

/* Fields of a record that is there; records of the ancestor have another name for the experiment. */
static void take_fields(const char *json, size_t len, struct run_fields *f)
{
    f->id = json_field(json, len, "id");
    f->experiment = json_field(json, len, "experiment_name");
    if (!f->experiment.at)
        f->experiment = json_field(json, len, "experiment");
    f->started = json_field(json, len, "started_at");
    f->ended = json_field(json, len, "ended_at");
    f->tags = json_field(json, len, "tags");
    f->parent = json_field(json, len, "parent");
    f->status = status_names[0];
    for (size_t i = 1; i < COUNT_OF(status_names); i++)
        if (json_equals_word(json_field(json, len, "status"), status_names[i]))
            f->status = status_names[i];
}

/* ---------------------------------------------------------------- start */

/* A random UUID (RFC 9562, version 4). */
static syna_rc new_id(char id[SYNA_RUN_ID_ROOM])
{
    uint8_t b[16];
    int failed = syna_vfs->random(b, sizeof b);
    if (failed < 0)
        return syna_fail_at(SYNA_ERR_IO, SYNA_WHY_NONE, NULL, -1, -failed, "no random numbers");
    b[6] = (uint8_t)((b[6] & 0x0f) | 0x40);
    b[8] = (uint8_t)((b[8] & 0x3f) | 0x80);
    snprintf(id, SYNA_RUN_ID_ROOM,
             "%02x%02x%02x%02x-%02x%02x-%02x%02x-%02x%02x-%02x%02x%02x%02x%02x%02x", b[0], b[1],
             b[2], b[3], b[4], b[5], b[6], b[7], b[8], b[9], b[10], b[11], b[12], b[13], b[14],
             b[15]);
    return SYNA_SUCCESS;
}

static syna_rc check_tags(const char *tags_json)
{
    if (!tags_json || json_is_string_list(tags_json, strlen(tags_json)))
        return SYNA_SUCCESS;
    return syna_fail(SYNA_ERR_GENERIC, SYNA_WHY_ARGUMENT,
                     "the tags are %.80s, expected a JSON list of strings", tags_json);
}

static syna_rc check_options(syna_db *db, const syna_run_options *o)
{
    struct buf parent = {0};
    SYNA_TRY(db_check_key(o->experiment, strlen(o->experiment)));
    SYNA_TRY(check_tags(o->tags_json));
    if (o->system_json && !json_is_object(o->system_json, strlen(o->system_json)))
        return syna_fail(SYNA_ERR_GENERIC, SYNA_WHY_ARGUMENT,
                         "the system facts are %.80s, expected a JSON object", o->system_json);
    if (!o->parent)
        return SYNA_SUCCESS;
    syna_rc rc = run_find(db, o->parent, &parent);
    buf_dispose(&parent);
    return rc;
}

static syna_rc compose_new(const syna_run_options *o, const char *id, struct buf *meta)
{
    struct buf texts[4] = {{0}};
    struct run_fields f = {.status = status_names[SYNA_RUN_RUNNING]};
    bool enough = json_add_string(&texts[0], id, strlen(id)) &&
                  json_add_string(&texts[1], o->experiment, strlen(o->experiment)) &&
                  json_add_time(&texts[2], syna_vfs->now_us()) &&
                  (!o->parent || json_add_string(&texts[3], o->parent, strlen(o->parent)));
    f.id = span_of(&texts[0]);
    f.experiment = span_of(&texts[1]);
    f.started = span_of(&texts[2]);
    f.parent = o->parent ? span_of(&texts[3]) : f.ended;
    if (o->tags_json)
        f.tags = (struct json_span){o->tags_json, strlen(o->tags_json)};
    enough = enough && compose(meta, &f);
    for (size_t i = 0; i < COUNT_OF(texts); i++)
        buf_dispose(&texts[i]);
    return enough ? SYNA_SUCCESS : syna_no_memory(strlen(o->experiment));
}

static syna_rc put_text(syna_batch *batch, const struct buf *key, const void *text, size_t len)
{
    return db_batch_put(batch, (const char *)key->bytes, key->len, SYNA_TYPE_TEXT, text, len, NULL);
}

/* The pointer, the record and the facts, which make a run, into one batch. */
static syna_rc fill_batch(syna_batch *batch, const syna_run_options *o, const char *id,
                          struct buf *run, struct buf *key, struct buf *meta)
{
    SYNA_TRY(key_of_experiment(run, o->experiment));
    SYNA_TRY(key_add(run, id));
    SYNA_TRY(key_add(key, POINTER_PREFIX));
    SYNA_TRY(key_add(key, id));
    SYNA_TRY(put_text(batch, key, run->bytes, run->len));
    SYNA_TRY(compose_new(o, id, meta));
    SYNA_TRY(key_in_run(key, run, "/", "meta"));
    SYNA_TRY(put_text(batch, key, meta->bytes, meta->len));
    if (!o->system_json)
        return SYNA_SUCCESS;
    SYNA_TRY(key_in_run(key, run, "/", "system"));
    return put_text(batch, key, o->system_json, strlen(o->system_json));
}

syna_rc exp_start(syna_db *db, const syna_run_options *o, char id[SYNA_RUN_ID_ROOM])
{
    struct buf run = {0}, key = {0}, meta = {0};
    syna_batch *batch = NULL;
    char fresh[SYNA_RUN_ID_ROOM];
    SYNA_TRY(check_options(db, o));
    SYNA_TRY(new_id(fresh));
    syna_rc rc = db_batch_new(db, &batch);
    if (rc == SYNA_SUCCESS)
        rc = fill_batch(batch, o, fresh, &run, &key, &meta);
    if (rc == SYNA_SUCCESS)
        rc = db_batch_commit(batch);
    if (rc == SYNA_SUCCESS)
        memcpy(id, fresh, sizeof fresh);
    db_batch_free(batch);
    buf_dispose(&meta);
    buf_dispose(&key);
    buf_dispose(&run);
    return rc;
}

/* ---------------------------------------------------------------- changes */

/* What becomes of a run's record. */
struct change {
    const char *status; /* NULL: stays */
    bool must_run, ends, starts_again;
    const char *tags_json; /* NULL: stay */
};

static syna_rc apply(const struct change *how, const char *json, size_t len, struct buf *meta)
{
    struct buf now = {0};
    struct run_fields f;
    take_fields(json, len, &f);
    bool enough = !how->ends || json_add_time(&now, syna_vfs->now_us());
    if (how->status)
        f.status = how->status;
    if (how->ends)
        f.ended = span_of(&now);
    if (how->starts_again)
        f.ended = (struct json_span){NULL, 0};
    if (how->tags_json)
        f.tags = (struct json_span){how->tags_json, strlen(how->tags_json)};
    enough = enough && compose(meta, &f);
    buf_dispose(&now);
    return enough ? SYNA_SUCCESS : syna_no_memory(len);
}

static syna_rc change_record(syna_db *db, const char *run_id, const struct change *how,
                             struct buf *run, struct buf *meta)
{
    char *json;
    size_t len;
    bool changed;
    struct buf key = {0};
    SYNA_TRY(db_refresh(db, &changed)); /* another process may have changed it */
    SYNA_TRY(how->must_run ? run_enter(db, run_id, run) : run_find(db, run_id, run));
    SYNA_TRY(run_record(db, run, &json, &len));
    syna_rc rc = apply(how, json, len, meta);
    mem_free(json);
    if (rc == SYNA_SUCCESS)
        rc = key_in_run(&key, run, "/", "meta");
    if (rc == SYNA_SUCCESS)
        rc = db_put(db, (const char *)key.bytes, key.len, SYNA_TYPE_TEXT, meta->bytes, meta->len,
                    NULL, NULL);
    buf_dispose(&key);
    return rc;
}

static syna_rc change_run(syna_db *db, const char *run_id, const struct change *how)
{
    struct buf run = {0}, meta = {0};
    lock_changes();
    syna_rc rc = change_record(db, run_id, how, &run, &meta);
    pthread_mutex_unlock(&change_lock);
    buf_dispose(&meta);
    buf_dispose(&run);
    return rc;
}

syna_rc exp_end(syna_db *db, const char *run_id, int32_t status)
{
    if (status < SYNA_RUN_COMPLETED || status > SYNA_RUN_KILLED)
        return syna_fail(SYNA_ERR_GENERIC, SYNA_WHY_ARGUMENT,
                         "status %d; expected %d (completed), %d (failed) or %d (killed)", status,
                         SYNA_RUN_COMPLETED, SYNA_RUN_FAILED, SYNA_RUN_KILLED);
    struct change how = {.status = status_names[status], .must_run = true, .ends = true};
    SYNA_TRY(change_run(db, run_id, &how));
    return db_flush(db);
}

syna_rc exp_resume(syna_db *db, const char *run_id)
{
    struct change how = {.status = status_names[SYNA_RUN_RUNNING], .starts_again = true};
    return change_run(db, run_id, &how);
}

syna_rc exp_set_tags(syna_db *db, const char *run_id, const char *tags_json)
{
    SYNA_TRY(check_tags(tags_json));
    struct change how = {.tags_json = tags_json};
    return change_run(db, run_id, &how);
}

/* ---------------------------------------------------------------- delete */

static syna_rc delete_key(void *context, const syna_record *record)
{
    return db_batch_delete(context, record->key, record->key_len);
}

static syna_rc fill_deletion(syna_db *db, const char *run_id, struct buf *run, syna_batch *batch)
{
    bool changed, exists;
    struct buf key = {0};
    SYNA_TRY(db_refresh(db, &changed));
    SYNA_TRY(run_find(db, run_id, run));
    SYNA_TRY(key_add(run, "/"));
    SYNA_TRY(keys_walk(db, run, delete_key, batch));
    syna_rc rc = key_add(&key, POINTER_PREFIX);
    if (rc == SYNA_SUCCESS)
        rc = key_add(&key, run_id);
    if (rc == SYNA_SUCCESS)
        rc = db_exists(db, (const char *)key.bytes, key.len, &exists);
    if (rc == SYNA_SUCCESS && exists)
        rc = db_batch_delete(batch, (const char *)key.bytes, key.len);
    buf_dispose(&key);
    return rc;
}

syna_rc exp_delete(syna_db *db, const char *run_id, int64_t *deleted)
{
    struct buf run = {0};
    syna_batch *batch = NULL;
    lock_changes();
    syna_rc rc = db_batch_new(db, &batch);
    if (rc == SYNA_SUCCESS)
        rc = fill_deletion(db, run_id, &run, batch);
    size_t count = rc == SYNA_SUCCESS ? db_batch_count(batch) : 0;
    if (rc == SYNA_SUCCESS)
        rc = db_batch_commit(batch);
    pthread_mutex_unlock(&change_lock);
    if (rc == SYNA_SUCCESS)
        *deleted = (int64_t)count;
    db_batch_free(batch);
    buf_dispose(&run);
    return rc;
}
