/* vectors_recall.c - measure what recall the graph gives (hnsw_calibrate), beside writers and searches.
 *
 * That takes some hundred searches, among them exact ones: too long to keep writers waiting, and a
 * writer that waits keeps searches waiting. So it works on copies of what changes meanwhile: the live
 * bits, the places of rows, and the struct of the graph, whose links stand still under index_lock. The
 * view that the places belong to is kept, should a compaction come. */
#include "base/internal.h"

#include "engine/vectors_core.h"

/* The rows as they were. */
struct still {
    struct row_set set;
    struct hnsw graph; /* a copy, which owns the scratch of its walks and nothing else */
    struct hnsw owner; /* gets the scratch in the end */
    const struct db_view *view;
    uint64_t *places;
    uint64_t *live; /* NULL: all rows */
    float *nothing; /* stands for a dead row that a compaction left behind */
};

static const float *still_row(void *context, uint32_t row)
{
    const struct still *s = context;
    return s->places[row] ? vectors_row_at(s->view, s->places[row]) : s->nothing;
}

/* Shared. */
static syna_rc copy_rows(syna_vectors *store, struct still *s)
{
    uint32_t count = store->graph.linked;
    size_t words = store->set.count / 64 + 1;
    s->places = mem_alloc(MAX(count, 1u) * sizeof *s->places);
    s->nothing = mem_zalloc(vectors_dims(store) * sizeof *s->nothing);
    if (!s->places || !s->nothing)
        return syna_no_memory(count * sizeof *s->places);
    for (uint32_t row = 0; row < count; row++)
        s->places[row] = *(const uint64_t *)array_at(&store->places, row);
    if (vectors_live_bits(store)) {
        s->live = mem_alloc(words * sizeof *s->live);
        if (!s->live)
            return syna_no_memory(words * sizeof *s->live);
        memcpy(s->live, vectors_live_bits(store), words * sizeof *s->live);
    }
    return SYNA_SUCCESS;
}

static syna_rc take(syna_vectors *store, struct still *s)
{
    pthread_rwlock_rdlock(&store->state_lock);
    syna_rc rc = copy_rows(store, s);
    s->view = store->kept_view = store->view; /* whoever changes the view is kept out by the lock */
    s->set = store->set;
    s->set.full = still_row;
    s->set.context = s;
    pthread_mutex_lock(&store->graph.idle_lock); /* searches change it in passing */
    s->graph = store->graph;
    pthread_mutex_unlock(&store->graph.idle_lock);
    s->graph.idle = NULL;
    pthread_mutex_init(&s->graph.idle_lock, NULL);
    pthread_rwlock_unlock(&store->state_lock);
    return rc;
}

/* The results go to the graph: it is the one that was measured. */
static void settle(syna_vectors *store, struct still *s, syna_rc rc)
{
    struct db_view *old = NULL;
    pthread_rwlock_wrlock(&store->state_lock);
    if (rc == SYNA_SUCCESS)
        store->graph.measured = s->graph.measured;
    if (store->kept_view != store->view)
        old = store->kept_view;
    store->kept_view = NULL;
    pthread_rwlock_unlock(&store->state_lock);
    db_view_free(old);
}

syna_rc vectors_calibrate(syna_vectors *store)
{
    struct still s = {0};
    SYNA_TRY(hnsw_init(&s.owner, store->graph.degree / 2, store->graph.ef_construction));
    syna_rc rc = take(store, &s);
    if (rc == SYNA_SUCCESS)
        rc = hnsw_calibrate(&s.graph, &s.set, s.live);
    settle(store, &s, rc);
    s.owner.idle = s.graph.idle;
    hnsw_dispose(&s.owner);
    pthread_mutex_destroy(&s.graph.idle_lock);
    mem_free(s.places);
    mem_free(s.live);
    mem_free(s.nothing);
    return rc;
}
