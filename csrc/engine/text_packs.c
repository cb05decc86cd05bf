/* text_packs.c - documents that stand in packs: read, and made rows of. Rules 1 and 2 of text_pack.h are kept
 * here. */
#include "base/internal.h"

#include "base/status.h"
#include "engine/text_core.h"

/* ---------------------------------------------------------------- reading */

static syna_rc not_there(void **block, const struct status_record *why)
{
    mem_free(*block);
    *block = NULL;
    status_set(why);
    return SYNA_ERR_KEY_NOT_FOUND;
}

/* The document in a pack. */
static syna_rc read_packed(const syna_text *index, const char *id, size_t id_len, uint32_t pack,
                           void **block, size_t *len, syna_document *d)
{
    char name[PACK_NAME_LEN];
    int32_t type;
    struct status_record why = *status_get();
    pack_name(pack, name);
    syna_rc rc = db_get_copy(index->db, name, sizeof name, SYNA_TYPE_PACKED, block, len, &type);
    if (rc == SYNA_ERR_KEY_NOT_FOUND || rc == SYNA_ERR_TYPE_MISMATCH) {
        *block = NULL;
        return not_there(block, &why);
    }
    SYNA_TRY(rc);
    return pack_find(*block, *len, id, id_len, d) ? SYNA_SUCCESS : not_there(block, &why);
}

syna_rc text_newest(const syna_text *index, const char *id, size_t id_len, uint32_t pack,
                    void **block, size_t *len, syna_document *d)
{
    struct text_name name;
    int32_t type;
    struct status_record why = *status_get();
    *block = NULL;
    if (id_len > SYNA_TEXT_ID_MAX || id_len == 0)
        return SYNA_ERR_KEY_NOT_FOUND;
    text_name_of(id, id_len, &name);
    syna_rc rc = db_get_copy(index->db, name.bytes, name.len, SYNA_TYPE_PACKED, block, len, &type);
    if (rc == SYNA_ERR_KEY_NOT_FOUND || rc == SYNA_ERR_TYPE_MISMATCH) {
        *block = NULL;
        status_set(&why);
        return rc == SYNA_ERR_KEY_NOT_FOUND && pack
                   ? read_packed(index, id, id_len, pack, block, len, d)
                   : SYNA_ERR_KEY_NOT_FOUND;
    }
    SYNA_TRY(rc);
    d->id = id;
    d->id_len = id_len;
    return document_decode(*block, *len, d) ? SYNA_SUCCESS : not_there(block, &why);
}

syna_rc text_stands_alone(const syna_text *index, const char *id, size_t id_len, bool *alone)
{
    struct text_name name;
    text_name_of(id, id_len, &name);
    return db_exists(index->db, name.bytes, name.len, alone);
}

syna_rc text_hash(const syna_document *d, struct buf *scratch, uint64_t *hash)
{
    SYNA_TRY(document_encode(d, scratch));
    *hash = record_hash(scratch->bytes, scratch->len);
    return SYNA_SUCCESS;
}

/* ---------------------------------------------------------------- rows */

/* Is it a document that text_put would have taken? The error record stays as it is. */
static bool is_ours(const syna_document *d)
{
    struct status_record why = *status_get();
    bool ours = document_check(d) == SYNA_SUCCESS && db_check_key(d->id, d->id_len) == SYNA_SUCCESS;
    if (!ours)
        status_set(&why);
    return ours;
}

static syna_rc apply_one(syna_text *index, const syna_document *d, uint32_t number, bool anew,
                         struct buf *scratch)
{
    struct text_rows *rows = &index->rows;
    uint32_t row = names_find(&rows->ids, d->id, d->id_len);
    bool alone;
    uint64_t hash;
    if (!is_ours(d) || (row != ROW_NONE && text_row_pack(rows, row) > number))
        return SYNA_SUCCESS;
    SYNA_TRY(text_stands_alone(index, d->id, d->id_len, &alone));
    if (!alone)
        SYNA_TRY(text_hash(d, scratch, &hash));
    if (!alone && (anew || row == ROW_NONE || hash != text_row_hash(rows, row)))
        return text_apply_document(index, d, hash, number);
    if (row != ROW_NONE)
        return runs_set(&rows->packs, row, number);
    return SYNA_SUCCESS;
}

syna_rc text_apply_pack(syna_text *index, uint32_t number, const void *record, size_t len, bool anew)
{
    struct pack_reader pack;
    syna_document d;
    struct buf scratch = {0};
    syna_rc rc = SYNA_SUCCESS;
    index->last_pack = MAX(index->last_pack, number);
    if (!pack_open(record, len, &pack))
        return SYNA_SUCCESS; /* none of ours */
    while (rc == SYNA_SUCCESS && pack_next(&pack, &d))
        rc = apply_one(index, &d, number, anew, &scratch);
    buf_dispose(&scratch);
    return rc;
}

/* ---------------------------------------------------------------- writing */

syna_rc text_new_pack(const syna_text *index, uint32_t *last)
{
    char name[PACK_NAME_LEN];
    bool exists = true;
    while (exists) {
        if (*last >= UINT32_MAX - 2)
            return syna_fail_at(SYNA_ERR_INTERNAL, SYNA_WHY_NONE, db_path(index->db), -1, 0,
                                "its packs have used up their numbers");
        pack_name(++*last, name);
        SYNA_TRY(db_exists(index->db, name, sizeof name, &exists));
    }
    return SYNA_SUCCESS;
}

syna_rc text_put_pack(syna_batch *batch, uint32_t number, struct pack *pack)
{
    char name[PACK_NAME_LEN];
    size_t len;
    const uint8_t *record = pack_record(pack, &len);
    pack_name(number, name);
    return db_batch_put(batch, name, sizeof name, SYNA_TYPE_PACKED, record, len, NULL);
}
