/* text_read.c - get and list documents, facts, and the blocks that results are. */
#include "base/internal.h"

#include "engine/text_core.h"

/* ---------------------------------------------------------------- single documents */

syna_rc text_missing(const syna_text *index, const char *id, size_t id_len)
{
    return syna_fail_at(SYNA_ERR_KEY_NOT_FOUND, SYNA_WHY_NONE, db_path(index->db), -1, 0,
                        "no document has the id %.*s", (int)MIN(id_len, (size_t)200), id);
}

syna_rc text_read(const syna_text *index, const char *id, size_t id_len, uint32_t pack,
                  void **block, size_t *len, syna_document *d)
{
    syna_rc rc = text_newest(index, id, id_len, pack, block, len, d);
    return rc == SYNA_ERR_KEY_NOT_FOUND ? text_missing(index, id, id_len) : rc;
}

bool text_contains(syna_text *index, const char *id, size_t id_len)
{
    pthread_rwlock_rdlock(&index->state_lock);
    bool found = names_find(&index->rows.ids, id, id_len) != ROW_NONE;
    pthread_rwlock_unlock(&index->state_lock);
    return found;
}

uint64_t text_count(syna_text *index)
{
    pthread_rwlock_rdlock(&index->state_lock);
    uint64_t count = postings_live_count(index->rows.postings);
    pthread_rwlock_unlock(&index->state_lock);
    return count;
}

/* Whether there is a row, and the pack that it stands in. */
static bool find_pack(syna_text *index, const char *id, size_t id_len, uint32_t *pack)
{
    pthread_rwlock_rdlock(&index->state_lock);
    uint32_t row = names_find(&index->rows.ids, id, id_len);
    *pack = row == ROW_NONE ? 0 : text_row_pack(&index->rows, row);
    pthread_rwlock_unlock(&index->state_lock);
    return row != ROW_NONE;
}

syna_rc text_get(syna_text *index, const char *id, size_t id_len, syna_text_hit **out)
{
    struct hit_list list = {0};
    syna_document d;
    void *block;
    size_t len;
    uint32_t pack, before;
    syna_rc rc;
    if (!find_pack(index, id, id_len, &pack))
        return text_missing(index, id, id_len);
    do { /* once more when it has moved to another pack meanwhile */
        before = pack;
        rc = text_read(index, id, id_len, pack, &block, &len, &d);
    } while (rc == SYNA_ERR_KEY_NOT_FOUND && find_pack(index, id, id_len, &pack) &&
             pack != before);
    SYNA_TRY(rc);
    rc = hit_list_add(&list, id, id_len, &d, SYNA_TEXT_TEXTS | SYNA_TEXT_METADATA, 0);
    mem_free(block);
    if (rc == SYNA_SUCCESS)
        rc = hit_list_finish(&list, out);
    hit_list_dispose(&list);
    return rc;
}

/* ---------------------------------------------------------------- results */

static bool add_string(struct buf *to, const char *text, size_t len)
{
    uint8_t *at = buf_extend(to, len + 1);
    if (!at)
        return false;
    if (len > 0)
        memcpy(at, text, len);
    at[len] = '\0';
    return true;
}

/* The pointers say only whether there is a string; hit_list_finish sets them. */
syna_rc hit_list_add(struct hit_list *list, const char *id, size_t id_len, const syna_document *d,
                     uint32_t flags, float score)
{
    syna_text_hit hit = {.id = id, .id_len = (uint32_t)id_len, .score = score};
    bool enough = add_string(&list->strings, id, id_len);
    if (flags & SYNA_TEXT_TEXTS) {
        hit.text = "";
        hit.text_len = d->text_len;
        enough = enough && add_string(&list->strings, d->text, d->text_len);
    }
    if ((flags & SYNA_TEXT_METADATA) && d->metadata) {
        hit.metadata = "";
        hit.metadata_len = d->metadata_len;
        enough = enough && add_string(&list->strings, d->metadata, d->metadata_len);
    }
    enough = enough && buf_append(&list->hits, &hit, sizeof hit);
    return enough ? SYNA_SUCCESS : syna_no_memory(list->strings.len);
}

syna_rc hit_list_finish(struct hit_list *list, syna_text_hit **hits)
{
    size_t count = list->hits.len / sizeof **hits;
    *hits = mem_alloc(list->hits.len + list->strings.len);
    if (!*hits)
        return syna_no_memory(list->hits.len + list->strings.len);
    char *at = (char *)(*hits + count);
    if (count > 0) {
        memcpy(*hits, list->hits.bytes, list->hits.len);
        memcpy(at, list->strings.bytes, list->strings.len);
    }
    for (size_t i = 0; i < count; i++) {
        syna_text_hit *hit = *hits + i;
        hit->id = at;
        at += hit->id_len + 1;
        if (hit->text) {
            hit->text = at;
            at += hit->text_len + 1;
        }
        if (hit->metadata) {
            hit->metadata = at;
            at += hit->metadata_len + 1;
        }
    }
    return SYNA_SUCCESS;
}

void hit_list_dispose(struct hit_list *list)
{
    buf_dispose(&list->hits);
    buf_dispose(&list->strings);
}

static syna_rc list_ids(const syna_text *index, struct hit_list *list, size_t *count)
{
    const struct text_rows *rows = &index->rows;
    *count = 0;
    for (uint32_t row = 0; row < rows->ids.count; row++) {
        size_t len;
        if (!postings_is_live(rows->postings, row))
            continue;
        const char *id = names_at(&rows->ids, row, &len);
        SYNA_TRY(hit_list_add(list, id, len, NULL, 0, 0));
        ++*count;
    }
    return SYNA_SUCCESS;
}

syna_rc text_ids(syna_text *index, syna_text_hit **hits, size_t *count)
{
    struct hit_list list = {0};
    pthread_rwlock_rdlock(&index->state_lock);
    syna_rc rc = list_ids(index, &list, count);
    pthread_rwlock_unlock(&index->state_lock);
    if (rc == SYNA_SUCCESS)
        rc = hit_list_finish(&list, hits);
    hit_list_dispose(&list);
    return rc;
}

/* ---------------------------------------------------------------- facts */

struct listing {
    struct buf lines;
    bool no_memory;
};

static bool add_line(void *context, const struct token *token)
{
    struct listing *l = context;
    l->no_memory = !buf_append(&l->lines, token->term, token->len) || !buf_append(&l->lines, "\n", 1);
    return !l->no_memory;
}

syna_rc text_terms(syna_text *index, const char *text, size_t len, char **out, size_t *out_len)
{
    struct listing l = {0};
    pthread_rwlock_rdlock(&index->state_lock);
    struct analyzer analyzer = index->analyzer;
    pthread_rwlock_unlock(&index->state_lock);
    analyze(&analyzer, text, len, ANALYZE_TEXT, add_line, &l);
    *out = l.no_memory ? NULL : mem_dup(l.lines.bytes ? (const char *)l.lines.bytes : "", l.lines.len);
    *out_len = l.lines.len;
    buf_dispose(&l.lines);
    return *out ? SYNA_SUCCESS : syna_no_memory(*out_len);
}

syna_rc text_frequency(syna_text *index, const char *term, size_t len, uint64_t *documents)
{
    pthread_rwlock_rdlock(&index->state_lock);
    uint32_t number = names_find(&index->rows.words, term, len);
    *documents = number == ROW_NONE ? 0 : text_found(&index->rows, number);
    pthread_rwlock_unlock(&index->state_lock);
    return SYNA_SUCCESS;
}

syna_rc text_get_stats(syna_text *index, syna_text_stats *out)
{
    syna_db_stats log = {.size = sizeof log};
    SYNA_TRY(db_get_stats(index->db, &log));
    syna_text_stats stats = {.size = out->size, .file_bytes = log.file_bytes, .k1 = index->k1,
                             .b = index->b};
    pthread_rwlock_rdlock(&index->state_lock);
    const struct text_rows *rows = &index->rows;
    stats.analyzer_version = index->analyzer.version;
    memcpy(stats.analyzer, index->analyzer.name, sizeof stats.analyzer);
    stats.documents = postings_live_count(rows->postings);
    stats.dead_rows = rows->ids.count - stats.documents;
    stats.terms = rows->words.count;
    stats.postings = rows->live_postings;
    stats.average_length =
        stats.documents ? (double)rows->live_words / (double)stats.documents : 0;
    stats.memory_bytes = text_rows_memory(rows);
    pthread_rwlock_unlock(&index->state_lock);
    memcpy(out, &stats, MIN((size_t)out->size, sizeof stats));
    return SYNA_SUCCESS;
}
