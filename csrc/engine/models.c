/* models.c - looking up: versions, the newest, the one in production, aliases, the history of stages. */
#include "base/internal.h"

#include "base/bytes.h"
#include "base/status.h"
#include "engine/models_core.h"
#include "io/vfs.h"

#define DIGITS 20 /* of a time in a key */

/* ---------------------------------------------------------------- one version */

static syna_rc no_version(syna_db *db, const char *name, uint32_t version)
{
    return syna_fail_at(SYNA_ERR_KEY_NOT_FOUND, SYNA_WHY_NONE, db_path(db), -1, 0,
                        version ? "model \"%.200s\" has no version %u"
                                : "there is no model \"%.200s\"",
                        name, version);
}

static syna_rc bad_record(syna_db *db, const char *name, uint32_t version)
{
    return syna_fail_at(SYNA_ERR_SERIALIZATION, SYNA_WHY_CORRUPT, db_path(db), -1, 0,
                        "the record of version %u of model \"%.200s\" is not what a registry writes",
                        version, name);
}

static syna_rc get_text(syna_db *db, const struct buf *key, char **out, size_t *len)
{
    int32_t type;
    void *text = NULL;
    SYNA_TRY(db_get_copy(db, (const char *)key->bytes, key->len, SYNA_TYPE_TEXT, &text, len, &type));
    *out = text;
    return SYNA_SUCCESS;
}

/* The ancestor keeps the format beside the record, or nowhere. */
static syna_rc format_beside(syna_db *db, const struct buf *key, struct model *m)
{
    char *text;
    size_t len;
    struct buf json = {0};
    syna_rc rc = get_text(db, key, &text, &len);
    if (rc == SYNA_ERR_KEY_NOT_FOUND)
        return SYNA_SUCCESS;
    SYNA_TRY(rc);
    bool enough = json_add_string(&json, text, len);
    mem_free(text);
    m->format = (char *)json.bytes;
    m->record.format = (struct json_span){m->format, json.len};
    return enough ? SYNA_SUCCESS : syna_no_memory(len);
}

syna_rc model_load(syna_db *db, const char *name, uint32_t version, struct model *out)
{
    struct buf key = {0};
    size_t len;
    memset(out, 0, sizeof *out);
    syna_rc rc = models_version_key(&key, name, version, "meta");
    if (rc == SYNA_SUCCESS)
        rc = get_text(db, &key, &out->text, &len);
    if (rc == SYNA_ERR_KEY_NOT_FOUND)
        rc = no_version(db, name, version);
    if (rc == SYNA_SUCCESS && !model_json_read(out->text, len, &out->record))
        rc = bad_record(db, name, version);
    if (rc == SYNA_SUCCESS && !out->record.format.at) {
        rc = models_version_key(&key, name, version, "format");
        if (rc == SYNA_SUCCESS)
            rc = format_beside(db, &key, out);
    }
    buf_dispose(&key);
    return rc;
}

void model_dispose(struct model *model)
{
    mem_free(model->text);
    mem_free(model->format);
    model->text = model->format = NULL;
}

syna_rc models_newest(syna_db *db, const char *name, uint32_t *version)
{
    struct buf versions = {0};
    *version = 0;
    syna_rc rc = models_versions(db, name, &versions);
    if (rc == SYNA_SUCCESS && versions.len == 0)
        rc = no_version(db, name, 0);
    if (rc == SYNA_SUCCESS)
        memcpy(version, versions.bytes + versions.len - sizeof *version, sizeof *version);
    buf_dispose(&versions);
    return rc;
}

syna_rc models_resolve(syna_db *db, const char *name, uint32_t *version)
{
    SYNA_TRY(models_check_name(name));
    return *version ? SYNA_SUCCESS : models_newest(db, name, version);
}

static syna_rc info(syna_db *db, const char *name, uint32_t version, struct buf *json)
{
    struct model m;
    json->len = 0;
    syna_rc rc = model_load(db, name, version, &m);
    if (rc == SYNA_SUCCESS &&
        (!model_json_write(json, name, version, &m.record) || !buf_append(json, "", 1)))
        rc = syna_no_memory(json->len);
    model_dispose(&m);
    return rc;
}

/* Give the text of `json`, which ends in a NUL, away or free it. */
static syna_rc give(struct buf *json, syna_rc rc, char **out, size_t *len)
{
    if (rc != SYNA_SUCCESS) {
        buf_dispose(json);
        return rc;
    }
    *out = (char *)json->bytes;
    *len = json->len - 1;
    return SYNA_SUCCESS;
}

syna_rc models_info(syna_db *db, const char *name, uint32_t version, char **out, size_t *len)
{
    struct buf json = {0};
    SYNA_TRY(models_resolve(db, name, &version));
    return give(&json, info(db, name, version, &json), out, len);
}

/* ---------------------------------------------------------------- lists */

/* A version deleted since its key was seen is left out. */
static syna_rc visit_one(syna_db *db, const char *name, uint32_t version, struct buf *json,
                         syna_model_fn visit, void *context, bool *stop)
{
    syna_rc rc = info(db, name, version, json);
    if (rc == SYNA_ERR_KEY_NOT_FOUND)
        return SYNA_SUCCESS;
    SYNA_TRY(rc);
    *stop = visit(context, name, version, (const char *)json->bytes, json->len - 1) != 0;
    return SYNA_SUCCESS;
}

static syna_rc list_name(syna_db *db, const char *name, syna_model_fn visit, void *context,
                         size_t *count, bool *stop)
{
    struct buf versions = {0}, json = {0};
    syna_rc rc = models_versions(db, name, &versions);
    for (size_t at = 0; rc == SYNA_SUCCESS && !*stop && at < versions.len; at += sizeof(uint32_t)) {
        rc = visit_one(db, name, load_u32(versions.bytes + at), &json, visit, context, stop);
        ++*count;
    }
    buf_dispose(&versions);
    buf_dispose(&json);
    return rc;
}

/* Names, NUL-terminated one behind the other, and where each begins (size_t[]): one for every version met.
 * Versions of one name need not be met together, for names that begin with it stand between them. */
struct names {
    struct buf texts, starts;
};

static syna_rc collect_names(syna_scan *scan, struct names *names)
{
    for (;;) {
        syna_record record = {.size = sizeof record};
        const char *name;
        size_t len, start = names->texts.len;
        uint32_t version;
        syna_rc rc = db_scan_next(scan, &record);
        if (rc == SYNA_ERR_KEY_NOT_FOUND)
            return SYNA_SUCCESS;
        SYNA_TRY(rc);
        if (!models_parse(record.key, record.key_len, "meta", &name, &len, &version))
            continue;
        if (!buf_append(&names->texts, name, len) || !buf_append(&names->texts, "", 1) ||
            !buf_append(&names->starts, &start, sizeof start))
            return syna_no_memory(len);
    }
}

static const char *name_at(const struct buf *texts, const void *start)
{
    size_t at;
    memcpy(&at, start, sizeof at);
    return (const char *)texts->bytes + at;
}

static int by_name(const void *a, const void *b, void *texts)
{
    return strcmp(name_at(texts, a), name_at(texts, b));
}

static syna_rc list_names(syna_db *db, struct names *names, syna_model_fn visit, void *context,
                          size_t *count)
{
    const char *before = "";
    bool stop = false;
    if (names->starts.len > 0)
        qsort_r(names->starts.bytes, names->starts.len / sizeof(size_t), sizeof(size_t), by_name,
                &names->texts);
    for (size_t at = 0; !stop && at < names->starts.len; at += sizeof(size_t)) {
        const char *name = name_at(&names->texts, names->starts.bytes + at);
        if (strcmp(name, before) != 0)
            SYNA_TRY(list_name(db, name, visit, context, count, &stop));
        before = name;
    }
    return SYNA_SUCCESS;
}

static syna_rc list_all(syna_db *db, syna_model_fn visit, void *context, size_t *count)
{
    struct names names = {0};
    syna_scan *scan;
    SYNA_TRY(db_scan_new(db, "model/", 6, NULL, 0, NULL, 0, SYNA_SCAN_KEYS, &scan));
    syna_rc rc = collect_names(scan, &names);
    db_scan_free(scan);
    if (rc == SYNA_SUCCESS)
        rc = list_names(db, &names, visit, context, count);
    buf_dispose(&names.texts);
    buf_dispose(&names.starts);
    return rc;
}

syna_rc models_list(syna_db *db, const char *name, syna_model_fn visit, void *context,
                    size_t *count)
{
    size_t ignored = 0;
    bool stop = false;
    count = count ? count : &ignored;
    *count = 0;
    if (!name)
        return list_all(db, visit, context, count);
    SYNA_TRY(models_check_name(name));
    return list_name(db, name, visit, context, count, &stop);
}

/* ---------------------------------------------------------------- production */

syna_rc models_production(syna_db *db, const char *name, uint32_t *version)
{
    struct buf versions = {0};
    uint64_t since = 0;
    uint32_t best = 0;
    SYNA_TRY(models_check_name(name));
    syna_rc rc = models_versions(db, name, &versions);
    for (size_t at = 0; rc == SYNA_SUCCESS && at < versions.len; at += sizeof(uint32_t)) {
        struct model m;
        uint32_t candidate = load_u32(versions.bytes + at);
        rc = model_load(db, name, candidate, &m);
        if (rc == SYNA_ERR_KEY_NOT_FOUND)
            rc = SYNA_SUCCESS; /* deleted meanwhile */
        else if (rc == SYNA_SUCCESS && m.record.stage == SYNA_STAGE_PRODUCTION &&
                 m.record.stage_us >= since) {
            since = m.record.stage_us;
            best = candidate;
        }
        model_dispose(&m);
    }
    buf_dispose(&versions);
    if (rc == SYNA_SUCCESS && best == 0)
        return syna_fail_at(SYNA_ERR_KEY_NOT_FOUND, SYNA_WHY_NONE, db_path(db), -1, 0,
                            "model \"%.200s\" has no version in production", name);
    if (rc == SYNA_SUCCESS)
        *version = best;
    return rc;
}

/* ---------------------------------------------------------------- the record of a name */

syna_rc models_counter_read(syna_db *db, const char *name, struct model_counter *out)
{
    struct buf key = {0};
    char *text = NULL;
    size_t len = 0;
    uint32_t newest;
    *out = (struct model_counter){1, 0};
    syna_rc rc = models_key(&key, name, "registry");
    if (rc == SYNA_SUCCESS)
        rc = get_text(db, &key, &text, &len);
    buf_dispose(&key);
    if (rc == SYNA_ERR_KEY_NOT_FOUND) { /* a new name, or one from a file of the ancestor */
        rc = models_newest(db, name, &newest);
        out->next = (uint64_t)newest + 1;
        return rc == SYNA_ERR_KEY_NOT_FOUND ? SYNA_SUCCESS : rc;
    }
    SYNA_TRY(rc);
    bool good = json_is_object(text, len) && model_json_number(text, len, "next", &out->next) &&
                model_json_number(text, len, "last_us", &out->last_us) && out->next > 0;
    mem_free(text);
    if (good)
        return SYNA_SUCCESS;
    return syna_fail_at(SYNA_ERR_SERIALIZATION, SYNA_WHY_CORRUPT, db_path(db), -1, 0,
                        "the record of model \"%.200s\" is not what a registry writes", name);
}

uint64_t models_now(struct model_counter *counter)
{
    counter->last_us = MAX(syna_vfs->now_us(), counter->last_us + 1);
    return counter->last_us;
}

static syna_rc put_text(syna_batch *batch, const struct buf *key, const void *text, size_t len)
{
    return db_batch_put(batch, (const char *)key->bytes, key->len, SYNA_TYPE_TEXT, text, len, NULL);
}

syna_rc models_counter_put(syna_batch *batch, const char *name, const struct model_counter *counter)
{
    struct buf key = {0};
    char text[80];
    int len = snprintf(text, sizeof text, "{\"next\": %llu, \"last_us\": %llu}",
                       (unsigned long long)counter->next, (unsigned long long)counter->last_us);
    syna_rc rc = models_key(&key, name, "registry");
    if (rc == SYNA_SUCCESS)
        rc = put_text(batch, &key, text, (size_t)len);
    buf_dispose(&key);
    return rc;
}

syna_rc models_record_put(syna_batch *batch, const char *name, uint32_t version,
                          const struct model_record *record)
{
    struct buf key = {0}, json = {0};
    syna_rc rc = models_version_key(&key, name, version, "meta");
    if (rc == SYNA_SUCCESS && !model_json_write(&json, name, version, record))
        rc = syna_no_memory(json.len);
    if (rc == SYNA_SUCCESS)
        rc = put_text(batch, &key, json.bytes, json.len);
    buf_dispose(&key);
    buf_dispose(&json);
    return rc;
}

/* ---------------------------------------------------------------- the history of stages */

syna_rc models_event_put(syna_batch *batch, const char *name, uint32_t version, const char *stage,
                         uint64_t time_us)
{
    struct buf key = {0};
    char text[40];
    int len = snprintf(text, sizeof text, "%u %s", version, stage ? stage : "deleted");
    syna_rc rc = models_key(&key, name, "stage/%0*llu", DIGITS, (unsigned long long)time_us);
    if (rc == SYNA_SUCCESS)
        rc = put_text(batch, &key, text, (size_t)len);
    buf_dispose(&key);
    return rc;
}

static bool is_event(const syna_record *r, size_t prefix_len)
{
    if (r->type != SYNA_TYPE_TEXT || r->key_len != prefix_len + DIGITS)
        return false;
    for (size_t i = prefix_len; i < r->key_len; i++)
        if (r->key[i] < '0' || r->key[i] > '9')
            return false;
    return memchr(r->data, ' ', r->len) != NULL;
}

/* "3 production" at a time, as JSON. */
static bool add_event(struct buf *json, const syna_record *r, size_t prefix_len)
{
    const char *text = r->data, *space = memchr(text, ' ', r->len);
    size_t skip = prefix_len;
    while (skip + 1 < r->key_len && r->key[skip] == '0')
        skip++;
    return json_add_text(json, json->len > 1 ? ", {\"version\": " : "{\"version\": ") &&
           buf_append(json, text, (size_t)(space - text)) && json_add_text(json, ", \"stage\": ") &&
           json_add_string(json, space + 1, r->len - (size_t)(space + 1 - text)) &&
           json_add_text(json, ", \"at\": ") &&
           buf_append(json, r->key + skip, r->key_len - skip) && json_add_text(json, "}");
}

static syna_rc collect_events(syna_scan *scan, size_t prefix_len, struct buf *json)
{
    bool enough = json_add_text(json, "[");
    while (enough) {
        syna_record record = {.size = sizeof record};
        syna_rc rc = db_scan_next(scan, &record);
        if (rc == SYNA_ERR_KEY_NOT_FOUND)
            break;
        SYNA_TRY(rc);
        enough = !is_event(&record, prefix_len) || add_event(json, &record, prefix_len);
    }
    return enough && buf_append(json, "]", 2) ? SYNA_SUCCESS : syna_no_memory(json->len);
}

syna_rc models_stages(syna_db *db, const char *name, char **out, size_t *len)
{
    struct buf prefix = {0}, json = {0};
    syna_scan *scan = NULL;
    SYNA_TRY(models_check_name(name));
    syna_rc rc = models_key(&prefix, name, "stage/");
    if (rc == SYNA_SUCCESS)
        rc = db_scan_new(db, (const char *)prefix.bytes, prefix.len, NULL, 0, NULL, 0,
                         SYNA_SCAN_VALUES, &scan);
    if (rc == SYNA_SUCCESS)
        rc = collect_events(scan, prefix.len, &json);
    db_scan_free(scan);
    buf_dispose(&prefix);
    return give(&json, rc, out, len);
}

/* ---------------------------------------------------------------- aliases */

syna_rc models_alias(syna_db *db, const char *name, const char *alias, uint32_t *version)
{
    struct buf key = {0};
    uint64_t number = 0;
    SYNA_TRY(models_check_name(name));
    SYNA_TRY(models_check_alias(alias));
    syna_rc rc = models_key(&key, name, "@%s", alias);
    if (rc == SYNA_SUCCESS)
        rc = db_get_number(db, (const char *)key.bytes, key.len, SYNA_TYPE_INT, &number);
    buf_dispose(&key);
    if (rc == SYNA_ERR_KEY_NOT_FOUND)
        return syna_fail_at(rc, SYNA_WHY_NONE, db_path(db), -1, 0,
                            "model \"%.200s\" has no alias \"%.200s\"", name, alias);
    if (rc == SYNA_SUCCESS)
        *version = (uint32_t)number;
    return rc;
}

static syna_rc visit_aliases(syna_scan *scan, const char *name, size_t prefix_len,
                             syna_model_fn visit, void *context)
{
    struct buf alias = {0};
    syna_rc rc;
    for (;;) {
        syna_record record = {.size = sizeof record};
        rc = db_scan_next(scan, &record);
        if (rc != SYNA_SUCCESS)
            break;
        size_t len = record.key_len - prefix_len;
        if (record.type != SYNA_TYPE_INT || memchr(record.key + prefix_len, '/', len))
            continue;
        uint32_t version = (uint32_t)load_u64(record.data);
        alias.len = 0;
        if (!buf_append(&alias, record.key + prefix_len, len) || !buf_append(&alias, "", 1)) {
            rc = syna_no_memory(len);
            break;
        }
        if (visit(context, name, version, (const char *)alias.bytes, len) != 0)
            break;
    }
    buf_dispose(&alias);
    return rc == SYNA_ERR_KEY_NOT_FOUND ? SYNA_SUCCESS : rc;
}

syna_rc models_aliases(syna_db *db, const char *name, syna_model_fn visit, void *context)
{
    struct buf prefix = {0};
    syna_scan *scan = NULL;
    SYNA_TRY(models_check_name(name));
    syna_rc rc = models_key(&prefix, name, "@");
    if (rc == SYNA_SUCCESS)
        rc = db_scan_new(db, (const char *)prefix.bytes, prefix.len, NULL, 0, NULL, 0,
                         SYNA_SCAN_VALUES, &scan);
    if (rc == SYNA_SUCCESS)
        rc = visit_aliases(scan, name, prefix.len, visit, context);
    db_scan_free(scan);
    buf_dispose(&prefix);
    return rc;
}
