/* models_read.c - reading a version, with its SHA-256 compared on the way. */
#include "base/internal.h"

#include "base/sha256.h"
#include "base/status.h"
#include "engine/db_blob.h"
#include "engine/models_core.h"
#include "io/map.h"

struct syna_model_reader {
    syna_db *db;
    syna_blob *blob;
    struct buf json; /* with a NUL */
    char *name;
    uint32_t version;
    char checksum[65];
    struct sha256 sha;
    uint64_t hashed; /* the first bytes of the content that went into `sha` */
    bool compared;
};

/* ---------------------------------------------------------------- opening */

static syna_rc check_size(const struct syna_model_reader *r, uint64_t size)
{
    if (size == db_blob_size(r->blob))
        return SYNA_SUCCESS;
    return syna_fail_at(SYNA_ERR_SERIALIZATION, SYNA_WHY_CORRUPT, db_path(r->db), -1, 0,
                        "version %u of model \"%.200s\" has %llu bytes, expected %llu", r->version,
                        r->name, (unsigned long long)db_blob_size(r->blob),
                        (unsigned long long)size);
}

static syna_rc open_blob(struct syna_model_reader *r)
{
    struct buf key = {0};
    syna_rc rc = models_version_key(&key, r->name, r->version, "data");
    if (rc == SYNA_SUCCESS)
        rc = db_blob_open(r->db, (const char *)key.bytes, key.len, &r->blob);
    if (rc == SYNA_SUCCESS)
        db_blob_stream(r->blob);
    buf_dispose(&key);
    if (rc == SYNA_ERR_KEY_NOT_FOUND)
        return syna_fail_at(rc, SYNA_WHY_NONE, db_path(r->db), -1, 0,
                            "version %u of model \"%.200s\" has no data", r->version, r->name);
    return rc;
}

static syna_rc open_reader(struct syna_model_reader *r)
{
    struct model m;
    syna_rc rc = model_load(r->db, r->name, r->version, &m);
    if (rc == SYNA_SUCCESS) {
        memcpy(r->checksum, m.record.checksum, sizeof r->checksum);
        if (!model_json_write(&r->json, r->name, r->version, &m.record) ||
            !buf_append(&r->json, "", 1))
            rc = syna_no_memory(r->json.len);
    }
    if (rc == SYNA_SUCCESS)
        rc = open_blob(r);
    if (rc == SYNA_SUCCESS)
        rc = check_size(r, m.record.size_bytes);
    model_dispose(&m);
    return rc;
}

syna_rc models_open(syna_db *db, const char *name, uint32_t version, syna_model_reader **out)
{
    SYNA_TRY(models_resolve(db, name, &version));
    struct syna_model_reader *r = mem_zalloc(sizeof *r);
    if (!r)
        return syna_no_memory(sizeof *r);
    r->db = db;
    r->version = version;
    r->name = mem_dup(name, strlen(name));
    sha256_init(&r->sha);
    syna_rc rc = r->name ? open_reader(r) : syna_no_memory(strlen(name));
    if (rc != SYNA_SUCCESS) {
        models_reader_free(r);
        return rc;
    }
    *out = r;
    return SYNA_SUCCESS;
}

uint64_t models_size(const syna_model_reader *reader)
{
    return db_blob_size(reader->blob);
}

const char *models_reader_json(const syna_model_reader *reader, size_t *len)
{
    *len = reader->json.len - 1;
    return (const char *)reader->json.bytes;
}

void models_reader_free(syna_model_reader *reader)
{
    if (!reader)
        return;
    db_blob_free(reader->blob);
    buf_dispose(&reader->json);
    mem_free(reader->name);
    mem_free(reader);
}

/* ---------------------------------------------------------------- reading */

static syna_rc compare(struct syna_model_reader *r)
{
    uint8_t digest[32];
    char text[65];
    struct sha256 copy = r->sha; /* a reader may come back to the end */
    sha256_finish(&copy, digest);
    for (size_t i = 0; i < sizeof digest; i++)
        snprintf(text + 2 * i, 3, "%02x", digest[i]);
    r->compared = strcmp(text, r->checksum) == 0;
    if (r->compared)
        return SYNA_SUCCESS;
    return syna_fail_at(SYNA_ERR_SERIALIZATION, SYNA_WHY_CORRUPT, db_path(r->db), -1, 0,
                        "version %u of model \"%.100s\" has checksum %.16s..., expected %.16s...",
                        r->version, r->name, text, r->checksum);
}

/* What is read from the front on is hashed; a reader may go back, and then reads on. */
struct hashing {
    struct syna_model_reader *reader;
    uint64_t offset;
};

static void see(void *context, const uint8_t *bytes, size_t len)
{
    struct hashing *h = context;
    struct syna_model_reader *r = h->reader;
    uint64_t offset = h->offset;
    h->offset += len;
    if (offset > r->hashed || offset + len <= r->hashed)
        return;
    size_t skip = (size_t)(r->hashed - offset);
    sha256_add(&r->sha, bytes + skip, len - skip);
    r->hashed = offset + len;
}

syna_rc models_read(syna_model_reader *r, uint64_t offset, void *buf, size_t len, size_t *got)
{
    struct hashing h = {r, offset};
    struct blob_watch watch = {see, &h};
    size_t done;
    *got = 0;
    map_advise_fresh(buf, len);
    SYNA_TRY(db_blob_read_watched(r->blob, offset, buf, len, &watch, &done));
    if (!r->compared && r->hashed == models_size(r))
        SYNA_TRY(compare(r));
    *got = done;
    return SYNA_SUCCESS;
}
