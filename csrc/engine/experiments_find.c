/* experiments_find.c - the keys of runs, from a run's id to its keys, and lists of runs. */
#include "base/internal.h"

#include "engine/experiments_core.h"

/* ---------------------------------------------------------------- keys */

syna_rc key_add(struct buf *key, const char *text)
{
    size_t len = strlen(text);
    return buf_append(key, text, len) ? SYNA_SUCCESS : syna_no_memory(len);
}

/* '/' would make keys that can be read in two ways, '%' is what it is written with. */
static syna_rc key_add_escaped(struct buf *key, const char *text)
{
    for (const char *part = text;; part++) {
        size_t plain = strcspn(part, "/%");
        if (!buf_append(key, part, plain))
            return syna_no_memory(plain);
        part += plain;
        if (*part == 0)
            return SYNA_SUCCESS;
        SYNA_TRY(key_add(key, *part == '/' ? "%2F" : "%25"));
    }
}

syna_rc key_of_experiment(struct buf *key, const char *experiment)
{
    SYNA_TRY(db_check_key(experiment, strlen(experiment)));
    SYNA_TRY(key_add(key, "exp/"));
    SYNA_TRY(key_add_escaped(key, experiment));
    return key_add(key, "/run/");
}

syna_rc key_in_run(struct buf *key, const struct buf *run, const char *part, const char *name)
{
    key->len = 0;
    SYNA_TRY(db_check_key(name, strlen(name)));
    if (!buf_append(key, run->bytes, run->len))
        return syna_no_memory(run->len);
    SYNA_TRY(key_add(key, part));
    return key_add(key, name);
}

static const char *find(const char *at, const char *end, const char *what)
{
    return memmem(at, (size_t)(end - at), what, strlen(what));
}

/* Ours have one segment for the experiment; in the ancestor's the name may hold slashes, so the first
 * "/run/" is where it ends. */
bool run_key_parse(const char *key, size_t len, struct run_key *out)
{
    const char *end = key + len;
    if (len < 4 || memcmp(key, "exp/", 4) != 0)
        return false;
    const char *mark = find(key + 4, end, "/run/");
    if (!mark || mark == key + 4)
        return false;
    const char *id = mark + 5;
    const char *slash = memchr(id, '/', (size_t)(end - id));
    if (!slash || slash == id || slash - id >= SYNA_RUN_ID_ROOM)
        return false;
    out->run = (struct json_span){key, (size_t)(slash - key)};
    out->id = (struct json_span){id, (size_t)(slash - id)};
    out->rest = (struct json_span){slash + 1, (size_t)(end - slash - 1)};
    return true;
}

static bool span_is(struct json_span span, const char *text)
{
    return span.len == strlen(text) && memcmp(span.at, text, span.len) == 0;
}

syna_rc keys_walk(syna_db *db, const struct buf *prefix, key_fn visit, void *context)
{
    syna_scan *scan;
    syna_record record = {.size = sizeof record};
    SYNA_TRY(db_scan_new(db, (const char *)prefix->bytes, prefix->len, NULL, 0, NULL, 0,
                         SYNA_SCAN_KEYS, &scan));
    syna_rc rc = SYNA_SUCCESS;
    while (rc == SYNA_SUCCESS) {
        rc = db_scan_next(scan, &record);
        if (rc == SYNA_ERR_KEY_NOT_FOUND) {
            rc = SYNA_SUCCESS;
            break;
        }
        if (rc == SYNA_SUCCESS)
            rc = visit(context, &record);
    }
    db_scan_free(scan);
    return rc;
}

/* ---------------------------------------------------------------- one run */

/* SYNA_ERR_KEY_NOT_FOUND when there is no pointer. */
static syna_rc follow_pointer(syna_db *db, const char *run_id, struct buf *run)
{
    char *prefix;
    size_t len, lead = sizeof POINTER_PREFIX - 1, id_len = strlen(run_id);
    int32_t type;
    char key[sizeof POINTER_PREFIX + SYNA_RUN_ID_ROOM] = POINTER_PREFIX;
    memcpy(key + lead, run_id, id_len); /* run_find has looked at its length */
    SYNA_TRY(db_get_copy(db, key, lead + id_len, SYNA_TYPE_TEXT, (void **)&prefix, &len, &type));
    bool enough = buf_append(run, prefix, len);
    mem_free(prefix);
    return enough ? SYNA_SUCCESS : syna_no_memory(len);
}

struct search {
    const char *run_id;
    struct buf *run;
};

static syna_rc is_this_run(void *context, const syna_record *record)
{
    struct search *s = context;
    struct run_key parts;
    if (!run_key_parse(record->key, record->key_len, &parts) || !span_is(parts.id, s->run_id) ||
        !span_is(parts.rest, "meta"))
        return SYNA_SUCCESS;
    return buf_append(s->run, parts.run.at, parts.run.len) ? STOP_WALK
                                                          : syna_no_memory(parts.run.len);
}

/* The ancestor's runs have no pointers. Its files are read-only until they are migrated. */
static syna_rc search_run(syna_db *db, const char *run_id, struct buf *run)
{
    struct buf prefix = {0};
    struct search s = {run_id, run};
    syna_rc rc = key_add(&prefix, "exp/");
    if (rc == SYNA_SUCCESS)
        rc = keys_walk(db, &prefix, is_this_run, &s);
    buf_dispose(&prefix);
    if (rc == SYNA_SUCCESS)
        return syna_fail_at(SYNA_ERR_KEY_NOT_FOUND, SYNA_WHY_NONE, db_path(db), -1, 0,
                            "there is no run with the id \"%.80s\"", run_id);
    return rc == STOP_WALK ? SYNA_SUCCESS : rc;
}

syna_rc run_find(syna_db *db, const char *run_id, struct buf *run)
{
    bool changed = false;
    size_t len = strlen(run_id);
    run->len = 0;
    if (len == 0 || len >= SYNA_RUN_ID_ROOM || db_check_key(run_id, len) != SYNA_SUCCESS)
        return syna_fail_at(SYNA_ERR_KEY_NOT_FOUND, SYNA_WHY_NONE, db_path(db), -1, 0,
                            "a run's id is 36 characters, not \"%.80s\"", run_id);
    syna_rc rc = follow_pointer(db, run_id, run);
    if (rc != SYNA_ERR_KEY_NOT_FOUND)
        return rc;
    SYNA_TRY(db_refresh(db, &changed));
    if (changed && (rc = follow_pointer(db, run_id, run)) != SYNA_ERR_KEY_NOT_FOUND)
        return rc;
    return search_run(db, run_id, run);
}

syna_rc run_record(syna_db *db, const struct buf *run, char **json, size_t *len)
{
    struct buf key = {0};
    int32_t type;
    syna_rc rc = key_in_run(&key, run, "/", "meta");
    if (rc == SYNA_SUCCESS)
        rc = db_get_copy(db, (const char *)key.bytes, key.len, SYNA_TYPE_TEXT, (void **)json, len,
                         &type);
    if (rc == SYNA_SUCCESS && !json_is_object(*json, *len)) {
        rc = syna_fail_at(SYNA_ERR_SERIALIZATION, SYNA_WHY_WRONG_KIND, db_path(db), -1, 0,
                          "key \"%.*s\" holds \"%.80s\", expected the record of a run",
                          (int)MIN(key.len, (size_t)200), (const char *)key.bytes, *json);
        mem_free(*json);
    }
    buf_dispose(&key);
    return rc;
}

syna_rc exp_meta(syna_db *db, const char *run_id, char **json, size_t *len)
{
    struct buf run = {0};
    syna_rc rc = run_find(db, run_id, &run);
    if (rc == SYNA_SUCCESS)
        rc = run_record(db, &run, json, len);
    buf_dispose(&run);
    return rc;
}

/* ---------------------------------------------------------------- lists */

struct listing {
    syna_db *db;
    syna_run_fn visit;
    void *context;
    struct buf run;
};

static syna_rc visit_run(void *context, const syna_record *record)
{
    struct listing *l = context;
    struct run_key parts;
    char id[SYNA_RUN_ID_ROOM];
    char *json;
    size_t len;
    if (!run_key_parse(record->key, record->key_len, &parts) || !span_is(parts.rest, "meta"))
        return SYNA_SUCCESS;
    memcpy(id, parts.id.at, parts.id.len);
    id[parts.id.len] = 0;
    l->run.len = 0;
    if (!buf_append(&l->run, parts.run.at, parts.run.len))
        return syna_no_memory(parts.run.len);
    syna_rc rc = run_record(l->db, &l->run, &json, &len);
    if (rc == SYNA_ERR_KEY_NOT_FOUND) /* deleted meanwhile */
        return SYNA_SUCCESS;
    SYNA_TRY(rc);
    int32_t stop = l->visit(l->context, id, json, len);
    mem_free(json);
    return stop ? STOP_WALK : SYNA_SUCCESS;
}

/* Would an experiment of this name have other keys in a file of the ancestor, which escapes nothing?
 * Not one that reads as another name escaped: its keys are those of that one. */
static bool has_raw_keys(const char *experiment)
{
    bool escaped = true;
    if (strchr(experiment, '/'))
        return true;
    for (const char *p = strchr(experiment, '%'); p && escaped; p = strchr(p + 1, '%'))
        escaped = strncmp(p, "%2F", 3) == 0 || strncmp(p, "%25", 3) == 0;
    return !escaped;
}

syna_rc experiment_walk(syna_db *db, const char *experiment, key_fn visit, void *context)
{
    struct buf prefix = {0};
    syna_rc rc = experiment ? key_of_experiment(&prefix, experiment) : key_add(&prefix, "exp/");
    if (rc == SYNA_SUCCESS)
        rc = keys_walk(db, &prefix, visit, context);
    if (rc == SYNA_SUCCESS && experiment && has_raw_keys(experiment)) {
        prefix.len = 0; /* as the ancestor wrote it */
        rc = key_add(&prefix, "exp/");
        if (rc == SYNA_SUCCESS)
            rc = key_add(&prefix, experiment);
        if (rc == SYNA_SUCCESS)
            rc = key_add(&prefix, "/run/");
        if (rc == SYNA_SUCCESS)
            rc = keys_walk(db, &prefix, visit, context);
    }
    buf_dispose(&prefix);
    return rc == STOP_WALK ? SYNA_SUCCESS : rc;
}

syna_rc exp_runs(syna_db *db, const char *experiment, syna_run_fn visit, void *context)
{
    struct listing l = {db, visit, context, {0}};
    syna_rc rc = experiment_walk(db, experiment, visit_run, &l);
    buf_dispose(&l.run);
    return rc;
}
