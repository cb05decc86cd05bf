/* sparse_row.c - one row as bytes: what the log holds, and how pairs as callers give them become it. Pure. */
#include "base/internal.h"

#include "base/bytes.h"
#include "engine/sparse_core.h"

#include <float.h>
#include <math.h>

static float weight_at(const struct sparse_row *row, uint32_t i)
{
    uint32_t bits = load_u32(row->weights + (size_t)i * 4);
    float weight;
    memcpy(&weight, &bits, sizeof weight);
    return weight;
}

static bool is_finite(float x)
{
    return fabsf(x) <= FLT_MAX;
}

bool sparse_row_parse(const uint8_t *bytes, size_t len, struct sparse_row *out)
{
    if (len < SPARSE_ROW_HEAD)
        return false;
    uint32_t count = load_u32(bytes), metadata_len = load_u32(bytes + 4);
    if (count > SYNA_SPARSE_TERMS_MAX ||
        SPARSE_ROW_HEAD + (uint64_t)count * 8 + metadata_len != len)
        return false;
    out->count = count;
    out->metadata_len = metadata_len;
    out->terms = bytes + SPARSE_ROW_HEAD;
    out->weights = out->terms + (size_t)count * 4;
    out->metadata = metadata_len ? (const char *)out->weights + (size_t)count * 4 : NULL;
    return true;
}

bool sparse_row_sound(const struct sparse_row *row, uint32_t vocabulary)
{
    uint64_t least = 0;
    for (uint32_t i = 0; i < row->count; i++) {
        uint32_t term = load_u32(row->terms + (size_t)i * 4);
        float weight = weight_at(row, i);
        if (term < least || term >= vocabulary || !is_finite(weight) || weight == 0)
            return false;
        least = (uint64_t)term + 1;
    }
    return true;
}

/* ---------------------------------------------------------------- from pairs in any order */

struct pair {
    uint32_t term;
    uint32_t place; /* in what was given: equal terms are added up in that order */
};

static int by_term(const void *left, const void *right)
{
    const struct pair *a = left, *b = right;
    if (a->term != b->term)
        return a->term < b->term ? -1 : 1;
    return a->place < b->place ? -1 : a->place > b->place;
}

static syna_rc check_pairs(const uint32_t *terms, const float *weights, uint64_t count,
                           uint32_t vocabulary, const char *what, bool *ascending)
{
    *ascending = true;
    if (count > SYNA_SPARSE_TERMS_MAX)
        return syna_fail(SYNA_ERR_GENERIC, SYNA_WHY_ARGUMENT, "%s has %llu pairs, at most %u fit",
                         what, (unsigned long long)count, SYNA_SPARSE_TERMS_MAX);
    for (uint64_t i = 0; i < count; i++) {
        if (terms[i] >= vocabulary)
            return syna_fail(SYNA_ERR_GENERIC, SYNA_WHY_ARGUMENT,
                             "%s: index %u at position %llu, expected 0..%u (the vocabulary's size "
                             "is %u)",
                             what, terms[i], (unsigned long long)i, vocabulary - 1, vocabulary);
        if (!is_finite(weights[i]))
            return syna_fail(SYNA_ERR_GENERIC, SYNA_WHY_ARGUMENT,
                             "%s: the value at position %llu is %f, expected a finite number", what,
                             (unsigned long long)i, (double)weights[i]);
        if ((i > 0 && terms[i] <= terms[i - 1]) || weights[i] == 0)
            *ascending = false;
    }
    return SYNA_SUCCESS;
}

/* Merge sorted pairs into terms and weights; -1 when a sum is too large for a float, at *bad. */
static int64_t merge(const struct pair *pairs, const float *given, uint32_t count, uint8_t *terms,
                     float *weights, uint32_t *bad)
{
    uint32_t kept = 0;
    for (uint32_t i = 0; i < count;) {
        uint32_t term = pairs[i].term;
        double sum = 0;
        for (; i < count && pairs[i].term == term; i++)
            sum += (double)given[pairs[i].place];
        if (!is_finite((float)sum)) {
            *bad = term;
            return -1;
        }
        if ((float)sum == 0)
            continue;
        store_u32(terms + (size_t)kept * 4, term);
        weights[kept++] = (float)sum;
    }
    return kept;
}

static syna_rc append_sorted(uint8_t *at, const uint32_t *terms, const float *weights, uint32_t count,
                             const char *what, uint32_t *kept)
{
    size_t bytes = (size_t)count * (sizeof(struct pair) + sizeof(float));
    struct pair *pairs = mem_alloc(bytes);
    if (!pairs)
        return syna_no_memory(bytes);
    float *sums = (float *)(void *)(pairs + count);
    for (uint32_t i = 0; i < count; i++)
        pairs[i] = (struct pair){terms[i], i};
    qsort(pairs, count, sizeof *pairs, by_term);
    uint32_t bad = 0;
    int64_t merged = merge(pairs, weights, count, at, sums, &bad);
    if (merged >= 0) {
        *kept = (uint32_t)merged;
        memcpy(at + (size_t)*kept * 4, sums, (size_t)*kept * 4);
    }
    mem_free(pairs);
    if (merged >= 0)
        return SYNA_SUCCESS;
    return syna_fail(SYNA_ERR_GENERIC, SYNA_WHY_ARGUMENT,
                     "%s: the values of index %u add up to more than a float can hold", what, bad);
}

syna_rc sparse_row_append(struct buf *to, const uint32_t *terms, const float *weights, uint64_t count,
                          uint32_t vocabulary, const char *metadata, size_t metadata_len,
                          const char *what)
{
    bool ascending;
    uint32_t kept = (uint32_t)count;
    SYNA_TRY(check_pairs(terms, weights, count, vocabulary, what, &ascending));
    size_t room = SPARSE_ROW_HEAD + (size_t)count * 8 + metadata_len;
    if (!buf_reserve(to, room))
        return syna_no_memory(room);
    uint8_t *head = to->bytes + to->len, *at = head + SPARSE_ROW_HEAD;
    if (!ascending) {
        SYNA_TRY(append_sorted(at, terms, weights, (uint32_t)count, what, &kept));
    } else if (count) {
        memcpy(at, terms, (size_t)count * 4);
        memcpy(at + (size_t)count * 4, weights, (size_t)count * 4);
    }
    store_u32(head, kept);
    store_u32(head + 4, (uint32_t)metadata_len);
    if (metadata_len)
        memcpy(at + (size_t)kept * 8, metadata, metadata_len);
    to->len += SPARSE_ROW_HEAD + (size_t)kept * 8 + metadata_len;
    return SYNA_SUCCESS;
}
