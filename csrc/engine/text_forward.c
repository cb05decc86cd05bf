/* text_forward.c - rows to terms: appended by writers, and made of the postings for rows of a snapshot.
 *
 * Postings are turned round in two passes over all terms: the first counts the bytes of each row, the
 * second writes them. postings_mark gives the rows of a term as bits, so a pass costs a look at the bits
 * of all rows for each term. */
#include "base/internal.h"

#include "base/bytes.h"
#include "engine/text_forward.h"

#define BYTES_MAX ((uint64_t)1 << 40)
#define VARINT_MAX 5u
#define COST_TURN 4u /* turning a posting round, in terms that a single row is asked for */

syna_rc forward_init(struct forward *f, uint32_t first)
{
    *f = (struct forward){.first = first};
    SYNA_TRY(array_init(&f->bytes, 1, BYTES_MAX));
    return array_init(&f->ends, sizeof(uint64_t), POSTINGS_ROWS_MAX);
}

void forward_dispose(struct forward *f)
{
    array_dispose(&f->bytes);
    array_dispose(&f->ends);
    mem_free(f->old_bytes);
    mem_free(f->old_ends);
    *f = (struct forward){0};
}

/* ---------------------------------------------------------------- rows that are added */

static uint64_t end_of(const struct forward *f, uint32_t i)
{
    return *(const uint64_t *)array_at(&f->ends, i);
}

static uint64_t start_of(const struct forward *f, uint32_t i)
{
    return i == 0 ? 0 : end_of(f, i - 1);
}

uint64_t forward_memory(const struct forward *f)
{
    uint64_t own = start_of(f, f->count) + f->count * f->ends.item; /* written; there is more room */
    return f->old_ends ? own + f->first * sizeof *f->old_ends + f->old_ends[f->first - 1] : own;
}

syna_rc forward_reserve(struct forward *f, size_t rows, size_t terms)
{
    SYNA_TRY(array_reserve(&f->ends, f->count + rows));
    return array_reserve(&f->bytes, (size_t)start_of(f, f->count) + terms * VARINT_MAX + 1);
}

void forward_put(struct forward *f, const uint32_t *terms, uint32_t count)
{
    uint64_t at = start_of(f, f->count);
    uint32_t last = 0;
    for (uint32_t i = 0; i < count; i++) {
        uint8_t bytes[10];
        size_t n = varint_put(bytes, terms[i] - last);
        memcpy(array_at(&f->bytes, (size_t)at), bytes, n);
        at += n;
        last = terms[i];
    }
    *(uint64_t *)array_at(&f->ends, f->count++) = at;
}

/* ---------------------------------------------------------------- rows of a snapshot */

struct turning {
    const struct postings *p;
    uint32_t rows;   /* the first ones */
    uint64_t *bits;  /* zero between terms */
    uint32_t *last;  /* of each row, the term before */
    uint64_t *ends;  /* of each row: bytes counted, then where the next of them goes */
    uint8_t *bytes;  /* NULL: they are counted */
};

static void turn_row(struct turning *t, uint32_t row, uint32_t term)
{
    uint8_t counted[10];
    uint8_t *to = t->bytes ? t->bytes + t->ends[row] : counted;
    t->ends[row] += varint_put(to, term - t->last[row]);
    t->last[row] = term;
}

static void turn_all(struct turning *t, uint32_t terms)
{
    size_t words = ((size_t)postings_count(t->p) + 63) / 64;
    const uint64_t *live = postings_live(t->p);
    memset(t->last, 0, t->rows * sizeof *t->last);
    for (uint32_t term = 0; term < terms; term++) {
        postings_mark(t->p, term, t->bits);
        for (size_t i = 0; i < words; i++) {
            uint64_t bits = t->bits[i];
            if (LIKELY(bits == 0))
                continue;
            t->bits[i] = 0;
            for (bits &= live[i]; bits; bits &= bits - 1) {
                uint32_t row = (uint32_t)(i * 64) + (uint32_t)__builtin_ctzll(bits);
                if (row < t->rows)
                    turn_row(t, row, term);
            }
        }
    }
}

/* Counts become where each row starts; returns the sum. */
static uint64_t starts_of(uint64_t *counts, uint32_t rows)
{
    uint64_t sum = 0;
    for (uint32_t row = 0; row < rows; row++) {
        uint64_t count = counts[row];
        counts[row] = sum;
        sum += count;
    }
    return sum;
}

static syna_rc turn(struct turning *t, uint32_t terms)
{
    size_t words = ((size_t)postings_count(t->p) + 63) / 64;
    t->bits = mem_zalloc(words * sizeof *t->bits);
    t->last = mem_alloc(t->rows * sizeof *t->last);
    t->ends = mem_zalloc(t->rows * sizeof *t->ends);
    if (!t->bits || !t->last || !t->ends)
        return syna_no_memory(t->rows * sizeof *t->ends);
    turn_all(t, terms);
    uint64_t sum = starts_of(t->ends, t->rows);
    t->bytes = mem_alloc((size_t)sum + 1);
    if (!t->bytes)
        return syna_no_memory((size_t)sum + 1);
    turn_all(t, terms);
    return SYNA_SUCCESS;
}

syna_rc forward_recall(struct forward *f, const struct postings *p, uint32_t terms)
{
    struct turning t = {.p = p, .rows = f->first};
    if (f->first == 0 || f->old_ends)
        return SYNA_SUCCESS;
    syna_rc rc = turn(&t, terms);
    mem_free(t.bits);
    mem_free(t.last);
    if (rc == SYNA_SUCCESS) {
        f->old_bytes = t.bytes;
        f->old_ends = t.ends;
        return SYNA_SUCCESS;
    }
    mem_free(t.bytes);
    mem_free(t.ends);
    return rc;
}

/* ---------------------------------------------------------------- reading */

void forward_row(const struct forward *f, uint32_t row, const uint8_t **at, const uint8_t **stop)
{
    uint64_t start, end;
    if (row < f->first) {
        start = row == 0 ? 0 : f->old_ends[row - 1];
        end = f->old_ends[row];
        *at = f->old_bytes + start;
    } else {
        start = start_of(f, row - f->first);
        end = end_of(f, row - f->first);
        *at = start == end ? NULL : array_at(&f->bytes, (size_t)start);
    }
    *stop = *at ? *at + (end - start) : NULL;
}

/* Rows are looked for one by one until that has cost as much as making the terms of all. Without memory for
 * these it goes on so. */
static bool known(struct forward *f, const struct postings *p, uint32_t terms, uint32_t row)
{
    struct postings_facts facts;
    if (row >= f->first || f->old_ends)
        return true;
    postings_get_facts(p, &facts);
    if (f->asked < facts.postings * COST_TURN) {
        f->asked += terms;
        return false;
    }
    struct status_record why = *status_get();
    if (forward_recall(f, p, terms) == SYNA_SUCCESS)
        return true;
    status_set(&why);
    return false;
}

void forward_each(struct forward *f, const struct postings *p, uint32_t terms, uint32_t row,
                  forward_fn visit, void *context)
{
    const uint8_t *at, *stop;
    uint64_t term = 0, delta;
    if (!known(f, p, terms, row)) {
        for (uint32_t i = 0; i < terms; i++)
            if (postings_term_count(p, row, i) > 0)
                visit(context, i);
        return;
    }
    forward_row(f, row, &at, &stop);
    for (size_t n; at < stop && (n = varint_get(at, stop, &delta)) > 0; at += n) {
        term += delta;
        visit(context, (uint32_t)term);
    }
}
