/* models_change.c - stages, aliases, deletion: each one update of the log, checked and made under one
 * hold of the writers' lock. */
#include "base/internal.h"

#include "base/status.h"
#include "engine/models_core.h"

struct change {
    syna_db *db;
    const char *name, *alias;
    uint32_t version;
    int32_t stage;
    uint32_t deleted;
};

/* ---------------------------------------------------------------- stages */

static syna_rc build_stage(void *context, syna_batch *batch)
{
    struct change *c = context;
    struct model m;
    struct model_counter counter;
    syna_rc rc = model_load(c->db, c->name, c->version, &m);
    if (rc == SYNA_SUCCESS)
        rc = models_counter_read(c->db, c->name, &counter);
    if (rc == SYNA_SUCCESS) {
        m.record.stage = c->stage;
        m.record.stage_us = models_now(&counter);
        rc = models_record_put(batch, c->name, c->version, &m.record);
    }
    if (rc == SYNA_SUCCESS)
        rc = models_event_put(batch, c->name, c->version, models_stage_names[c->stage],
                              counter.last_us);
    if (rc == SYNA_SUCCESS)
        rc = models_counter_put(batch, c->name, &counter);
    model_dispose(&m);
    return rc;
}

syna_rc models_set_stage(syna_db *db, const char *name, uint32_t version, int32_t stage)
{
    struct change c = {.db = db, .name = name, .version = version, .stage = stage};
    SYNA_TRY(models_check_name(name));
    if (stage < 0 || stage >= MODELS_STAGES)
        return syna_fail(SYNA_ERR_GENERIC, SYNA_WHY_ARGUMENT, "stage %d, expected 0 to %d", stage,
                         MODELS_STAGES - 1);
    return db_update(db, build_stage, &c);
}

/* ---------------------------------------------------------------- aliases */

static syna_rc build_alias(void *context, syna_batch *batch)
{
    struct change *c = context;
    struct model m;
    struct buf key = {0};
    int64_t number = c->version;
    syna_rc rc = model_load(c->db, c->name, c->version, &m);
    model_dispose(&m);
    if (rc == SYNA_SUCCESS)
        rc = models_key(&key, c->name, "@%s", c->alias);
    if (rc == SYNA_SUCCESS)
        rc = db_batch_put(batch, (const char *)key.bytes, key.len, SYNA_TYPE_INT, &number,
                          sizeof number, NULL);
    buf_dispose(&key);
    return rc;
}

static syna_rc remove_alias(syna_db *db, const char *name, const char *alias)
{
    struct buf key = {0};
    syna_rc rc = models_key(&key, name, "@%s", alias);
    if (rc == SYNA_SUCCESS)
        rc = db_delete(db, (const char *)key.bytes, key.len, NULL);
    buf_dispose(&key);
    return rc;
}

syna_rc models_set_alias(syna_db *db, const char *name, const char *alias, uint32_t version)
{
    struct change c = {.db = db, .name = name, .alias = alias, .version = version};
    SYNA_TRY(models_check_name(name));
    SYNA_TRY(models_check_alias(alias));
    return version ? db_update(db, build_alias, &c) : remove_alias(db, name, alias);
}

/* ---------------------------------------------------------------- deletion */

static syna_rc delete_part(const struct change *c, syna_batch *batch, uint32_t version,
                           const char *part, struct buf *key)
{
    bool exists;
    SYNA_TRY(models_version_key(key, c->name, version, part));
    SYNA_TRY(db_exists(c->db, (const char *)key->bytes, key->len, &exists));
    return exists ? db_batch_delete(batch, (const char *)key->bytes, key->len) : SYNA_SUCCESS;
}

static syna_rc delete_version(struct change *c, syna_batch *batch, uint32_t version,
                              struct model_counter *counter)
{
    static const char *const parts[] = {"data", "format", "meta"};
    struct buf key = {0};
    syna_rc rc = SYNA_SUCCESS;
    for (size_t i = 0; rc == SYNA_SUCCESS && i < COUNT_OF(parts); i++)
        rc = delete_part(c, batch, version, parts[i], &key);
    buf_dispose(&key);
    if (rc == SYNA_SUCCESS)
        rc = models_event_put(batch, c->name, version, NULL, models_now(counter));
    c->deleted++;
    return rc;
}

struct alias_deletion {
    const struct change *change;
    syna_batch *batch;
    syna_rc rc;
};

static int32_t delete_alias(void *context, const char *name, uint32_t version, const char *alias,
                            size_t len)
{
    struct alias_deletion *d = context;
    struct buf key = {0};
    (void)len;
    if (d->change->version != 0 && d->change->version != version)
        return 0;
    d->rc = models_key(&key, name, "@%s", alias);
    if (d->rc == SYNA_SUCCESS)
        d->rc = db_batch_delete(d->batch, (const char *)key.bytes, key.len);
    buf_dispose(&key);
    return d->rc != SYNA_SUCCESS;
}

static syna_rc delete_aliases(const struct change *c, syna_batch *batch)
{
    struct alias_deletion d = {c, batch, SYNA_SUCCESS};
    SYNA_TRY(models_aliases(c->db, c->name, delete_alias, &d));
    return d.rc;
}

static syna_rc build_deletion(void *context, syna_batch *batch)
{
    struct change *c = context;
    struct buf versions = {0};
    struct model_counter counter;
    c->deleted = 0;
    syna_rc rc = models_versions(c->db, c->name, &versions);
    if (rc == SYNA_SUCCESS)
        rc = models_counter_read(c->db, c->name, &counter);
    for (size_t at = 0; rc == SYNA_SUCCESS && at < versions.len; at += sizeof(uint32_t)) {
        uint32_t version;
        memcpy(&version, versions.bytes + at, sizeof version);
        if (c->version == 0 || c->version == version)
            rc = delete_version(c, batch, version, &counter);
    }
    buf_dispose(&versions);
    if (rc == SYNA_SUCCESS && c->deleted > 0)
        rc = delete_aliases(c, batch);
    if (rc == SYNA_SUCCESS && c->deleted > 0)
        rc = models_counter_put(batch, c->name, &counter);
    return rc;
}

syna_rc models_delete(syna_db *db, const char *name, uint32_t version, uint32_t *deleted)
{
    struct change c = {.db = db, .name = name, .version = version};
    *deleted = 0;
    SYNA_TRY(models_check_name(name));
    SYNA_TRY(db_update(db, build_deletion, &c));
    *deleted = c.deleted;
    return SYNA_SUCCESS;
}
