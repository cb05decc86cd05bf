/* hybrid_search.c - one search: the hot layer, then the cold one, then what counts of both (see hybrid_core.h)
 * merged by score. Both layers score from the full rows, so scores compare.
 *
 * Cold hits whose keys are outdated do not count; the cold layer is asked for a few more rows for them, and
 * for more again should that not do. */
#include "base/internal.h"

#include "base/hash.h"
#include "engine/hybrid_core.h"

#define QUICK_ROUNDS 4u /* then nothing may move while the search is made once more */
#define FIRST_EXTRA 16u

enum { BOTH, HOT_ONLY, COLD_ONLY };

struct hybrid_searching {
    syna_layers *store;
    const float *queries;
    size_t count;
    uint32_t dims;
    syna_layers_search_options how;
    syna_layers_explain explain;
    uint64_t extra; /* rows that the cold layer is asked for beyond k */
    syna_hit *hot, *cold;
    size_t *hot_counts, *cold_counts, *counts; /* a query each */
    struct layer_hit *merged;
    size_t merged_count;
};

/* ---------------------------------------------------------------- arguments */

static syna_rc check_how(const syna_layers_search_options *given, syna_layers_search_options *how)
{
    *how = (syna_layers_search_options){0};
    if (given->size < offsetof(syna_layers_search_options, radius))
        return syna_fail(SYNA_ERR_GENERIC, SYNA_WHY_ARGUMENT,
                         "syna_layers_search_options.size is %u, expected %zu", given->size,
                         sizeof *given);
    memcpy(how, given, MIN((size_t)given->size, sizeof *how));
    if (how->layers > COLD_ONLY)
        return syna_fail(SYNA_ERR_GENERIC, SYNA_WHY_ARGUMENT,
                         "layers is %u, expected 0 (both), 1 (hot) or 2 (cold)", how->layers);
    return SYNA_SUCCESS;
}

/* ---------------------------------------------------------------- the layers */

static syna_rc search_hot(struct hybrid_searching *s)
{
    const syna_layers_search_options *how = &s->how;
    s->explain.hot.size = sizeof s->explain.hot;
    syna_wells_search_options hot = {.size = sizeof hot,
                                     .flags = how->flags,
                                     .k = how->k,
                                     .radius = how->radius,
                                     .recall = how->recall,
                                     .nprobe = how->nprobe,
                                     .filter = how->filter,
                                     .filter_len = how->filter_len,
                                     .explain = &s->explain.hot};
    return gwi_search(s->store->hot, s->queries, s->count, s->dims, &hot, &s->hot, s->hot_counts);
}

static uint64_t cold_limit(const struct hybrid_searching *s)
{
    return s->how.k > UINT64_MAX - s->extra ? UINT64_MAX : s->how.k + s->extra;
}

static syna_rc search_cold(struct hybrid_searching *s)
{
    const syna_layers_search_options *how = &s->how;
    s->explain.cold.size = sizeof s->explain.cold;
    syna_buckets_search_options cold = {.size = sizeof cold,
                                        .flags = how->flags,
                                        .k = cold_limit(s),
                                        .radius = how->radius,
                                        .recall = how->recall,
                                        .ef_search = how->ef_search,
                                        .filter = how->filter,
                                        .filter_len = how->filter_len,
                                        .explain = &s->explain.cold};
    return cascade_store_search(s->store->cold, s->queries, s->count, s->dims, &cold, &s->cold,
                                s->cold_counts);
}

static void drop_hits(struct hybrid_searching *s)
{
    mem_free(s->hot);
    mem_free(s->cold);
    s->hot = s->cold = NULL;
}

/* ---------------------------------------------------------------- what counts */

/* Cold hits that count come first in their query's part of s->cold. A layer that is searched alone
 * shows the rows that are the newest there. map_lock is held shared. */
static syna_rc pass_over_query(struct hybrid_searching *s, syna_hit *hits, size_t *count,
                               uint64_t began)
{
    size_t kept = 0;
    for (size_t i = 0; i < *count; i++) {
        bool passed = outdated_has(&s->store->outdated, hits[i].key, hits[i].key_len, began);
        if (!passed && s->how.layers == COLD_ONLY)
            SYNA_TRY(gwi_contains(s->store->hot, hits[i].key, hits[i].key_len, &passed));
        if (passed)
            s->explain.passed++;
        else
            hits[kept++] = hits[i];
    }
    *count = kept;
    return SYNA_SUCCESS;
}

/* *short_of: a query had all the rows that it asked for, and has fewer than it wants now. */
static syna_rc pass_over(struct hybrid_searching *s, uint64_t began, bool *short_of)
{
    syna_hit *hits = s->cold;
    uint64_t asked = cold_limit(s);
    *short_of = false;
    for (size_t q = 0; q < s->count; q++) {
        size_t found = s->cold_counts[q];
        SYNA_TRY(pass_over_query(s, hits, &s->cold_counts[q], began));
        if (found == asked && s->cold_counts[q] < s->how.k)
            *short_of = true;
        hits += found;
        s->counts[q] = found; /* the length of its part */
    }
    return SYNA_SUCCESS;
}

/* ---------------------------------------------------------------- merging */

/* The keys of some hits, for telling which others have one of them. */
struct key_table {
    uint32_t *places; /* 1 + number of the hit; 0 = free */
    size_t mask;
    const syna_hit *hits;
};

static size_t key_place(const struct key_table *t, const syna_hit *hit, bool *found)
{
    size_t place = (size_t)hash_bytes(0, hit->key, hit->key_len) & t->mask;
    *found = false;
    for (; t->places[place]; place = (place + 1) & t->mask) {
        const syna_hit *there = &t->hits[t->places[place] - 1];
        *found = there->key_len == hit->key_len && memcmp(there->key, hit->key, hit->key_len) == 0;
        if (*found)
            break;
    }
    return place;
}

static syna_rc key_table_fill(struct key_table *t, const syna_hit *hits, size_t count)
{
    size_t places = 16;
    bool found;
    while (places < 2 * count)
        places *= 2;
    *t = (struct key_table){
        .places = mem_zalloc(places * sizeof *t->places), .mask = places - 1, .hits = hits};
    if (!t->places)
        return syna_no_memory(places * sizeof *t->places);
    for (size_t i = 0; i < count; i++)
        t->places[key_place(t, &hits[i], &found)] = (uint32_t)(i + 1);
    return SYNA_SUCCESS;
}

/* Of two rows with one score the cold one was ingested first. */
static size_t merge_query(struct hybrid_searching *s, const struct key_table *keys,
                          const syna_hit *hot, size_t hot_count, const syna_hit *cold,
                          size_t cold_count)
{
    size_t count = 0, limit = (size_t)MIN(s->how.k, (uint64_t)(hot_count + cold_count)), h = 0, c = 0;
    struct layer_hit *out = s->merged + s->merged_count;
    while (count < limit && (h < hot_count || c < cold_count)) {
        bool copied = false;
        if (c < cold_count && (h == hot_count || cold[c].score <= hot[h].score)) {
            key_place(keys, &cold[c], &copied);
            if (!copied)
                out[count++] = (struct layer_hit){&cold[c], SYNA_LAYER_COLD};
            c++;
        } else {
            out[count++] = (struct layer_hit){&hot[h++], SYNA_LAYER_HOT};
        }
    }
    return count;
}

/* A layer that was not searched has no hits at all. */
static const syna_hit *hits_from(const syna_hit *hits, size_t at)
{
    return hits ? hits + at : NULL;
}

static syna_rc merge(struct hybrid_searching *s)
{
    size_t most = 0, hot_at = 0, cold_at = 0;
    for (size_t q = 0; q < s->count; q++)
        most += s->hot_counts[q] + s->cold_counts[q];
    s->merged = mem_alloc(most * sizeof *s->merged);
    if (!s->merged)
        return syna_no_memory(most * sizeof *s->merged);
    for (size_t q = 0; q < s->count; q++) {
        struct key_table keys;
        const syna_hit *hot = hits_from(s->hot, hot_at), *cold = hits_from(s->cold, cold_at);
        hot_at += s->hot_counts[q];
        cold_at += s->counts[q];
        SYNA_TRY(key_table_fill(&keys, hot, s->hot_counts[q]));
        s->counts[q] = merge_query(s, &keys, hot, s->hot_counts[q], cold, s->cold_counts[q]);
        mem_free(keys.places);
        s->merged_count += s->counts[q];
    }
    return SYNA_SUCCESS;
}

/* ---------------------------------------------------------------- rounds */

/* *again: the round does not count. */
static syna_rc search_round(struct hybrid_searching *s, bool *again)
{
    syna_layers *store = s->store;
    uint64_t epoch = __atomic_load_n(&store->epoch, __ATOMIC_ACQUIRE);
    uint64_t began = __atomic_load_n(&store->stamp, __ATOMIC_ACQUIRE);
    bool short_of = false;
    s->explain.rounds++;
    *again = false;
    if (s->how.layers != COLD_ONLY)
        SYNA_TRY(search_hot(s));
    if (s->how.layers == HOT_ONLY)
        return SYNA_SUCCESS;
    SYNA_TRY(search_cold(s));
    pthread_rwlock_rdlock(&store->map_lock);
    syna_rc rc = pass_over(s, began, &short_of);
    *again = short_of || epoch != __atomic_load_n(&store->epoch, __ATOMIC_ACQUIRE);
    pthread_rwlock_unlock(&store->map_lock);
    if (short_of)
        s->extra = s->extra * 4 + FIRST_EXTRA;
    return rc;
}

static void start_extra(struct hybrid_searching *s)
{
    pthread_rwlock_rdlock(&s->store->map_lock);
    size_t outdated = s->store->outdated.count;
    pthread_rwlock_unlock(&s->store->map_lock);
    s->extra = MIN((uint64_t)outdated, FIRST_EXTRA);
}

/* Rounds of a search that asks for more and more end by themselves; those that movements spoil end by
 * keeping movements out. */
static syna_rc search_rounds(struct hybrid_searching *s)
{
    bool again = true, locked = false;
    syna_rc rc = SYNA_SUCCESS;
    start_extra(s);
    for (uint32_t round = 0; rc == SYNA_SUCCESS && again; round++) {
        drop_hits(s);
        if (round == QUICK_ROUNDS) {
            pthread_mutex_lock(&s->store->write_lock);
            locked = true;
        }
        rc = search_round(s, &again);
    }
    if (locked)
        pthread_mutex_unlock(&s->store->write_lock);
    return rc;
}

/* ---------------------------------------------------------------- results */

static size_t text_bytes(const syna_hit *hit)
{
    return hit->key_len + 1 + (hit->metadata ? hit->metadata_len + 1 : 0);
}

static const char *put_text(char **to, const char *text, size_t len)
{
    char *start = *to;
    memcpy(start, text, len);
    start[len] = '\0';
    *to += len + 1;
    return start;
}

syna_rc hybrid_copy_hits(const struct layer_hit *from, size_t count, uint32_t dims, syna_hit **hits,
                         uint8_t **sources)
{
    size_t texts = 0, vectors = 0, row_bytes = dims * sizeof(float);
    for (size_t i = 0; i < count; i++) {
        texts += text_bytes(from[i].hit);
        vectors += from[i].hit->vector != NULL;
    }
    size_t bytes = count * (sizeof **hits + 1) + vectors * row_bytes + texts;
    syna_hit *out = mem_alloc(bytes);
    if (!out)
        return syna_no_memory(bytes);
    float *vector = (float *)(void *)(out + count);
    uint8_t *source = (uint8_t *)(out + count) + vectors * row_bytes;
    char *text = (char *)source + count;
    for (size_t i = 0; i < count; i++) {
        const syna_hit *hit = from[i].hit;
        out[i] = *hit;
        out[i].key = put_text(&text, hit->key, hit->key_len);
        if (hit->metadata)
            out[i].metadata = put_text(&text, hit->metadata, hit->metadata_len);
        if (hit->vector) {
            out[i].vector = memcpy(vector, hit->vector, row_bytes);
            vector += dims;
        }
        source[i] = from[i].layer;
    }
    *hits = out;
    if (sources)
        *sources = source;
    return SYNA_SUCCESS;
}

static void give_explain(const struct hybrid_searching *s)
{
    syna_layers_explain *to = s->how.explain, from = s->explain;
    if (!to)
        return;
    from.size = to->size;
    memcpy(to, &from, MIN((size_t)to->size, sizeof from));
}

static syna_rc search_all(struct hybrid_searching *s, syna_hit **hits, uint8_t **sources,
                          size_t *counts)
{
    s->hot_counts = mem_zalloc(3 * s->count * sizeof *s->hot_counts);
    if (!s->hot_counts)
        return syna_no_memory(3 * s->count * sizeof *s->hot_counts);
    s->cold_counts = s->hot_counts + s->count;
    s->counts = s->cold_counts + s->count;
    SYNA_TRY(hybrid_begin_view(s->store));
    syna_rc rc = search_rounds(s);
    hybrid_end_view(s->store);
    SYNA_TRY(rc);
    SYNA_TRY(merge(s));
    SYNA_TRY(hybrid_copy_hits(s->merged, s->merged_count, s->dims, hits, sources));
    if (s->count)
        memcpy(counts, s->counts, s->count * sizeof *counts);
    give_explain(s);
    return SYNA_SUCCESS;
}

syna_rc hybrid_search(syna_layers *store, const float *queries, size_t count, uint32_t dims,
                      const syna_layers_search_options *given, syna_hit **hits, uint8_t **sources,
                      size_t *counts)
{
    struct hybrid_searching s = {
        .store = store, .queries = queries, .count = count, .dims = dims};
    SYNA_TRY(check_how(given, &s.how));
    syna_rc rc = search_all(&s, hits, sources, counts);
    drop_hits(&s);
    mem_free(s.merged);
    mem_free(s.hot_counts);
    return rc;
}
