/* text_rows.c - the rows in memory: ids, terms, postings, metadata, side by side under one number. */
#include "base/internal.h"

#include "base/bytes.h"
#include "engine/text_core.h"

/* ---------------------------------------------------------------- all rows */

syna_rc text_rows_init(struct text_rows *rows)
{
    *rows = (struct text_rows){0};
    SYNA_TRY(names_init(&rows->ids));
    SYNA_TRY(names_init(&rows->words));
    SYNA_TRY(array_init(&rows->hashes, sizeof(uint64_t), NAMES_MAX));
    SYNA_TRY(runs_init(&rows->packs));
    SYNA_TRY(forward_init(&rows->forward, 0));
    SYNA_TRY(array_init(&rows->found, sizeof(uint32_t), NAMES_MAX));
    SYNA_TRY(meta_new(&rows->meta));
    return postings_new(POSTINGS_COUNTS, NULL, NULL, &rows->postings);
}

void text_rows_dispose(struct text_rows *rows)
{
    names_dispose(&rows->ids);
    names_dispose(&rows->words);
    array_dispose(&rows->hashes);
    runs_dispose(&rows->packs);
    forward_dispose(&rows->forward);
    array_dispose(&rows->found);
    if (rows->meta)
        meta_free(rows->meta);
    postings_free(rows->postings);
    *rows = (struct text_rows){0};
}

/* Bytes of items that stand in memory of their own and have been written. */
static uint64_t in_use(const struct array *a, size_t count)
{
    return (count - MIN(count, a->head_count)) * a->item;
}

uint64_t text_rows_memory(const struct text_rows *rows)
{
    struct postings_facts facts;
    postings_get_facts(rows->postings, &facts);
    return facts.memory_bytes + names_memory(&rows->ids) + names_memory(&rows->words) +
           in_use(&rows->hashes, rows->ids.count) + runs_memory(&rows->packs) +
           forward_memory(&rows->forward) + in_use(&rows->found, rows->words.count) +
           meta_bytes(rows->meta);
}

/* ---------------------------------------------------------------- numbers of terms */

void row_terms_dispose(struct row_terms *t)
{
    buf_dispose(&t->numbers);
    buf_dispose(&t->counts);
}

static int by_number(const void *left, const void *right)
{
    uint32_t a = *(const uint32_t *)left, b = *(const uint32_t *)right;
    return a < b ? -1 : a > b;
}

/* Runs of one number become one number and a count. */
static void count_runs(struct row_terms *t)
{
    uint32_t *numbers = (uint32_t *)(void *)t->numbers.bytes;
    uint32_t *counts = (uint32_t *)(void *)t->counts.bytes;
    qsort(numbers, t->length, sizeof *numbers, by_number);
    t->count = 0;
    for (uint32_t i = 0; i < t->length; i++) {
        if (t->count > 0 && numbers[t->count - 1] == numbers[i]) {
            counts[t->count - 1]++;
        } else {
            numbers[t->count] = numbers[i];
            counts[t->count++] = 1;
        }
    }
}

static syna_rc number_of(struct text_rows *rows, const char *term, size_t len, uint32_t *number)
{
    *number = names_find(&rows->words, term, len);
    if (*number != ROW_NONE)
        return SYNA_SUCCESS;
    SYNA_TRY(array_reserve(&rows->found, rows->words.count + 1));
    SYNA_TRY(names_reserve(&rows->words, 1, len));
    *number = names_add(&rows->words, term, len);
    *(uint32_t *)array_at(&rows->found, *number) = 0;
    return SYNA_SUCCESS;
}

syna_rc text_intern(struct text_rows *rows, const struct terms_found *terms, struct row_terms *out)
{
    size_t bytes = terms->count * sizeof(uint32_t);
    out->numbers.len = out->counts.len = 0;
    if (!buf_reserve(&out->numbers, bytes) || !buf_reserve(&out->counts, bytes))
        return syna_no_memory(bytes);
    uint32_t *numbers = (uint32_t *)(void *)out->numbers.bytes;
    const uint8_t *at = terms->bytes.bytes;
    for (uint32_t i = 0; i < terms->count; i++) {
        SYNA_TRY(number_of(rows, (const char *)at + 1, at[0], &numbers[i]));
        at += 1 + at[0];
    }
    out->length = terms->count;
    count_runs(out);
    return SYNA_SUCCESS;
}

/* ---------------------------------------------------------------- room */

void text_room_add(struct text_room *room, const syna_document *d, const struct row_terms *terms)
{
    room->rows++;
    room->ids += d->id_len;
    room->postings += terms->count;
    room->metadata += d->metadata ? d->metadata_len + 1 : 0;
}

syna_rc text_rows_reserve(struct text_rows *rows, const struct text_room *promised,
                          const struct text_room *more)
{
    size_t count = promised->rows + more->rows, postings = promised->postings + more->postings;
    size_t top = rows->ids.count + count;
    if (top > NAMES_MAX)
        return syna_fail(SYNA_ERR_INTERNAL, SYNA_WHY_NONE,
                         "%zu documents are more than a text index can number", top);
    SYNA_TRY(names_reserve(&rows->ids, count, promised->ids + more->ids));
    SYNA_TRY(array_reserve(&rows->hashes, top));
    SYNA_TRY(runs_reserve(&rows->packs, count));
    SYNA_TRY(forward_reserve(&rows->forward, count, postings));
    size_t metadata = promised->metadata + more->metadata;
    if (metadata > 0) /* without any, no row needs a place for it */
        SYNA_TRY(meta_reserve(rows->meta, (uint32_t)top, count, metadata));
    return postings_reserve(rows->postings, count, postings);
}

/* ---------------------------------------------------------------- one row */

/* The row has the term no longer; numbers beyond what there is, of a damaged snapshot, are passed over. */
static void uncount_term(void *context, uint32_t term)
{
    struct text_rows *rows = context;
    uint32_t *found = term < rows->words.count ? array_at(&rows->found, term) : NULL;
    if (found && *found > 0) {
        --*found;
        rows->live_postings--;
    }
}

bool text_rows_drop(struct text_rows *rows, const char *id, size_t id_len)
{
    uint32_t row = names_find(&rows->ids, id, id_len);
    if (row == ROW_NONE)
        return false;
    names_forget(&rows->ids, id, id_len);
    rows->live_words -= postings_length(rows->postings, row);
    forward_each(&rows->forward, rows->postings, rows->words.count, row, uncount_term, rows);
    postings_drop(rows->postings, row);
    meta_clear(rows->meta, row);
    return true;
}

bool text_rows_put(struct text_rows *rows, const syna_document *d, const struct row_terms *terms,
                   uint64_t hash, uint32_t pack)
{
    uint32_t before = names_find(&rows->ids, d->id, d->id_len);
    if (pack == 0 && before != ROW_NONE) /* it stands there still, behind the record */
        pack = text_row_pack(rows, before);
    bool replaced = text_rows_drop(rows, d->id, d->id_len);
    struct postings_row row = {.terms = terms->numbers.bytes,
                               .values = terms->counts.bytes,
                               .count = terms->count,
                               .length = terms->length};
    const uint32_t *numbers = (const uint32_t *)(const void *)terms->numbers.bytes;
    uint32_t number = postings_add(rows->postings, &row);
    forward_put(&rows->forward, numbers, terms->count);
    for (uint32_t i = 0; i < terms->count; i++)
        ++*(uint32_t *)array_at(&rows->found, numbers[i]);
    names_add(&rows->ids, d->id, d->id_len);
    *(uint64_t *)array_at(&rows->hashes, number) = hash;
    runs_add(&rows->packs, pack);
    if (d->metadata)
        meta_set(rows->meta, number, d->metadata, d->metadata_len); /* was checked, has room */
    rows->live_words += terms->length;
    rows->live_postings += terms->count;
    return !replaced;
}

/* ---------------------------------------------------------------- packing */

static syna_rc read_terms(const struct text_rows *from, uint32_t row, struct row_terms *out)
{
    const uint8_t *at, *stop;
    uint64_t delta;
    uint32_t number = 0;
    forward_row(&from->forward, row, &at, &stop);
    size_t bytes = (size_t)(stop - at) * sizeof(uint32_t);
    out->count = 0;
    out->length = postings_length(from->postings, row);
    out->numbers.len = out->counts.len = 0;
    if (!buf_reserve(&out->numbers, bytes) || !buf_reserve(&out->counts, bytes))
        return syna_no_memory(bytes);
    uint32_t *numbers = (uint32_t *)(void *)out->numbers.bytes;
    uint32_t *counts = (uint32_t *)(void *)out->counts.bytes;
    for (size_t n; at < stop && (n = varint_get(at, stop, &delta)) > 0; at += n) {
        number += (uint32_t)delta;
        counts[out->count] = postings_term_count(from->postings, row, number);
        numbers[out->count++] = number;
    }
    return SYNA_SUCCESS;
}

static syna_rc copy_rows(const struct text_rows *from, struct text_rows *to, struct row_terms *terms)
{
    static const struct text_room nothing = {0};
    for (uint32_t row = 0; row < from->ids.count; row++) {
        if (!postings_is_live(from->postings, row))
            continue;
        struct text_room room = {0};
        syna_document d = {0};
        SYNA_TRY(read_terms(from, row, terms));
        d.id = names_at(&from->ids, row, &d.id_len);
        d.metadata = meta_text(from->meta, row, &d.metadata_len);
        text_room_add(&room, &d, terms);
        SYNA_TRY(text_rows_reserve(to, &nothing, &room));
        text_rows_put(to, &d, terms, text_row_hash(from, row), text_row_pack(from, row));
    }
    return postings_settle(to->postings);
}

syna_rc text_rows_pack(struct text_rows *rows)
{
    struct text_rows fresh;
    struct row_terms terms = {0};
    SYNA_TRY(forward_recall(&rows->forward, rows->postings, rows->words.count));
    syna_rc rc = text_rows_init(&fresh);
    for (uint32_t i = 0; rc == SYNA_SUCCESS && i < rows->words.count; i++) {
        size_t len;
        uint32_t number;
        const char *word = names_at(&rows->words, i, &len);
        rc = number_of(&fresh, word, len, &number);
    }
    if (rc == SYNA_SUCCESS)
        rc = copy_rows(rows, &fresh, &terms);
    row_terms_dispose(&terms);
    if (rc != SYNA_SUCCESS) {
        text_rows_dispose(&fresh);
        return rc;
    }
    text_rows_dispose(rows);
    *rows = fresh;
    names_moved(&rows->ids);
    names_moved(&rows->words);
    return SYNA_SUCCESS;
}
