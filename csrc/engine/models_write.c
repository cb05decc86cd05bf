/* models_write.c - saving a version.
 *
 *   write -> small: kept in memory         -> commit: one batch with the bytes, the record, the counter
 *         -> large: chunks into the log    -> commit: the same, with the manifest of the chunks
 *
 * The version number is taken inside the commit, under the writers' lock, so a save that fails uses none
 * up and one that is slow holds none back. */
#include "base/internal.h"

#include "base/crc32c.h"
#include "base/sha256.h"
#include "base/status.h"
#include "base/utf8.h"
#include "engine/db_blob.h"
#include "engine/models_core.h"

/* Up to here a model is one value; more than that goes to the log in chunks as it comes. */
#define SMALL_BYTES (1u << 20)
/* Hashed and copied while it is in the processor's cache. */
#define PIECE_BYTES (128u << 10)

struct syna_model_writer {
    syna_db *db;
    char *name, *metadata, *run_id, *format;
    struct sha256 sha;
    uint64_t size;
    struct buf small;
    syna_blob *blob; /* NULL while small */
    bool ended;
    char checksum[65];
    uint32_t version; /* taken by the commit */
};

/* ---------------------------------------------------------------- beginning */

static syna_rc check_text(const char *text, const char *what)
{
    if (text && !utf8_valid(text, strlen(text)))
        return syna_fail(SYNA_ERR_INVALID_PATH, SYNA_WHY_ARGUMENT, "%s is not UTF-8", what);
    return SYNA_SUCCESS;
}

static syna_rc check_facts(const syna_model_facts *facts)
{
    SYNA_TRY(check_text(facts->run_id, "the run id"));
    SYNA_TRY(check_text(facts->format, "the format"));
    const char *metadata = facts->metadata_json;
    if (metadata && !model_json_is_metadata(metadata, strlen(metadata)))
        return syna_fail(SYNA_ERR_GENERIC, SYNA_WHY_ARGUMENT,
                         "the metadata is no JSON object of strings: %.100s", metadata);
    return SYNA_SUCCESS;
}

/* NULL stays NULL. */
static bool copy_text(const char *text, char **out)
{
    *out = text ? mem_dup(text, strlen(text)) : NULL;
    return !text || *out;
}

syna_rc models_create(syna_db *db, const char *name, const syna_model_facts *given,
                      syna_model_writer **out)
{
    syna_model_facts facts = {.size = sizeof facts};
    if (given)
        memcpy(&facts, given, MIN((size_t)given->size, sizeof facts));
    SYNA_TRY(models_check_name(name));
    SYNA_TRY(check_facts(&facts));
    struct syna_model_writer *w = mem_zalloc(sizeof *w);
    if (!w)
        return syna_no_memory(sizeof *w);
    w->db = db;
    sha256_init(&w->sha);
    if (!copy_text(name, &w->name) || !copy_text(facts.metadata_json, &w->metadata) ||
        !copy_text(facts.run_id, &w->run_id) || !copy_text(facts.format, &w->format)) {
        models_writer_free(w);
        return syna_no_memory(strlen(name));
    }
    *out = w;
    return SYNA_SUCCESS;
}

void models_writer_free(syna_model_writer *w)
{
    if (!w)
        return;
    db_blob_free(w->blob);
    buf_dispose(&w->small);
    mem_free(w->name);
    mem_free(w->metadata);
    mem_free(w->run_id);
    mem_free(w->format);
    mem_free(w);
}

/* ---------------------------------------------------------------- writing */

/* The key is a place holder: the version's own is known in the commit. */
static syna_rc go_large(struct syna_model_writer *w)
{
    SYNA_TRY(db_blob_create(w->db, "model", 5, &w->blob));
    SYNA_TRY(db_blob_write(w->blob, w->small.bytes, w->small.len));
    buf_dispose(&w->small);
    return SYNA_SUCCESS;
}

static syna_rc write_piece(struct syna_model_writer *w, const uint8_t *data, size_t len)
{
    if (!w->blob && w->small.len + len > SMALL_BYTES)
        SYNA_TRY(go_large(w));
    sha256_add(&w->sha, data, len);
    w->size += len;
    if (w->blob)
        return db_blob_write(w->blob, data, len);
    return buf_append(&w->small, data, len) ? SYNA_SUCCESS : syna_no_memory(len);
}

static syna_rc check_open(const struct syna_model_writer *w)
{
    if (!w->ended)
        return SYNA_SUCCESS;
    return syna_fail(SYNA_ERR_GENERIC, SYNA_WHY_ARGUMENT,
                     "this model was committed, or an earlier write of it failed");
}

/* A whole chunk is written from where it is, and both checksums are taken in one pass. */
static syna_rc write_chunk(struct syna_model_writer *w, const uint8_t *data)
{
    uint32_t crc = 0;
    for (size_t at = 0; at < BLOB_CHUNK_BYTES; at += PIECE_BYTES) {
        sha256_add(&w->sha, data + at, PIECE_BYTES);
        crc = crc32c(crc, data + at, PIECE_BYTES);
    }
    w->size += BLOB_CHUNK_BYTES;
    return db_blob_write_chunk(w->blob, data, crc);
}

static syna_rc write_some(struct syna_model_writer *w, const uint8_t *data, size_t len, size_t *done)
{
    size_t room = w->blob ? db_blob_room(w->blob) : SMALL_BYTES;
    if (room == BLOB_CHUNK_BYTES && len >= room) {
        *done = room;
        return write_chunk(w, data);
    }
    *done = MIN(MIN(len, room), (size_t)PIECE_BYTES);
    return write_piece(w, data, *done);
}

syna_rc models_write(syna_model_writer *w, const void *data, size_t len)
{
    SYNA_TRY(check_open(w));
    const uint8_t *at = data;
    syna_rc rc = SYNA_SUCCESS;
    for (size_t n; rc == SYNA_SUCCESS && len > 0; at += n, len -= n) {
        n = 0;
        rc = write_some(w, at, len, &n);
    }
    w->ended = rc != SYNA_SUCCESS;
    return rc;
}

/* ---------------------------------------------------------------- the commit */

static syna_rc take_number(struct syna_model_writer *w, struct model_counter *counter)
{
    SYNA_TRY(models_counter_read(w->db, w->name, counter));
    if (counter->next > UINT32_MAX)
        return syna_fail_at(SYNA_ERR_GENERIC, SYNA_WHY_ARGUMENT, db_path(w->db), -1, 0,
                            "model \"%.200s\" has had %u versions; there are no more", w->name,
                            UINT32_MAX);
    w->version = (uint32_t)counter->next++;
    return SYNA_SUCCESS;
}

static syna_rc put_data(struct syna_model_writer *w, syna_batch *batch, struct buf *key)
{
    SYNA_TRY(models_version_key(key, w->name, w->version, "data"));
    if (w->blob)
        return db_blob_rename(w->blob, (const char *)key->bytes, key->len);
    return db_batch_put(batch, (const char *)key->bytes, key->len, SYNA_TYPE_BYTES, w->small.bytes,
                        w->small.len, NULL);
}

static syna_rc put_format(struct syna_model_writer *w, syna_batch *batch, struct buf *key)
{
    const char *format = w->format ? w->format : "raw";
    SYNA_TRY(models_version_key(key, w->name, w->version, "format"));
    return db_batch_put(batch, (const char *)key->bytes, key->len, SYNA_TYPE_TEXT, format,
                        strlen(format), NULL);
}

/* Append a text as JSON; span->len becomes its length there. */
static bool add_json(struct buf *to, const char *text, struct json_span *span)
{
    size_t start = to->len;
    if (!text)
        return true;
    if (!json_add_string(to, text, strlen(text)))
        return false;
    *span = (struct json_span){NULL, to->len - start};
    return true;
}

/* Where the texts are in the buffer is known once it moves no more. */
static syna_rc put_record(struct syna_model_writer *w, syna_batch *batch, uint64_t now_us)
{
    struct buf json = {0};
    struct model_record r = {.size_bytes = w->size, .stage_us = now_us};
    memcpy(r.checksum, w->checksum, sizeof r.checksum);
    bool enough = add_json(&json, w->run_id, &r.run_id) && add_json(&json, w->format, &r.format);
    size_t created = json.len;
    syna_rc rc = enough && json_add_time(&json, now_us) ? SYNA_SUCCESS : syna_no_memory(json.len);
    if (rc == SYNA_SUCCESS) {
        const char *texts = (const char *)json.bytes;
        r.run_id.at = w->run_id ? texts : NULL;
        r.format.at = w->format ? texts + r.run_id.len : NULL;
        r.created_at = (struct json_span){texts + created, json.len - created};
        if (w->metadata)
            r.metadata = (struct json_span){w->metadata, strlen(w->metadata)};
        rc = models_record_put(batch, w->name, w->version, &r);
    }
    buf_dispose(&json);
    return rc;
}

static syna_rc build(void *context, syna_batch *batch)
{
    struct syna_model_writer *w = context;
    struct model_counter counter;
    struct buf key = {0};
    SYNA_TRY(take_number(w, &counter));
    uint64_t now_us = models_now(&counter);
    syna_rc rc = put_data(w, batch, &key);
    if (rc == SYNA_SUCCESS)
        rc = put_format(w, batch, &key);
    if (rc == SYNA_SUCCESS)
        rc = put_record(w, batch, now_us);
    if (rc == SYNA_SUCCESS)
        rc = models_event_put(batch, w->name, w->version,
                              models_stage_names[SYNA_STAGE_DEVELOPMENT], now_us);
    if (rc == SYNA_SUCCESS)
        rc = models_counter_put(batch, w->name, &counter);
    buf_dispose(&key);
    return rc;
}

static void finish_checksum(struct syna_model_writer *w)
{
    uint8_t digest[32];
    sha256_finish(&w->sha, digest);
    for (size_t i = 0; i < sizeof digest; i++)
        snprintf(w->checksum + 2 * i, 3, "%02x", digest[i]);
}

syna_rc models_commit(syna_model_writer *w, syna_model_saved *out)
{
    SYNA_TRY(check_open(w));
    w->ended = true;
    finish_checksum(w);
    SYNA_TRY(w->blob ? db_blob_finish_with(w->blob, build, w) : db_update(w->db, build, w));
    out->version = w->version;
    out->size_bytes = w->size;
    memcpy(out->checksum, w->checksum, sizeof out->checksum);
    return SYNA_SUCCESS;
}
