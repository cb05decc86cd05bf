/* T5 and T6 for sparse vector stores: in a run of everything that a store does, the k-th allocation
 * or the k-th call to the system fails, for every k. What fails says so with its own error; a
 * search of the store opened again finds every row of what was acknowledged, and of the operation
 * that failed all or nothing. */
#include "check.h"

#include "engine/sparse.h"
#include "vfs_fault.h"
#include "vfs_mem.h"

#include <errno.h>

#define LOG MEM_DIR "/a.svs"

enum { KEYS = 6, BATCH = 4, OPS = 32, TERM = 7 };

/* i<key>: index; b: the first four in one call; d<key>: delete; f: flush; s: save; o: close and
 * open. */
#define EVERYTHING "b i4 s o i0 d1 s b d2 o i5 f b s o i1 o"

struct store {
    syna_db *db;
    syna_sparse *rows;
};

/* The values of all keys, 0 = not there. */
struct state {
    long values[KEYS];
};

struct world {
    struct state after[OPS]; /* of operation n; 0: before the first */
    uint64_t ops;            /* begun */
    long next;
};

static syna_rc open_store(struct store *s)
{
    syna_sparse_options options = {.size = sizeof options, .vocab_size = 100};
    syna_db_options log = {.size = sizeof log};
    *s = (struct store){0};
    SYNA_TRY(db_open(LOG, &log, &s->db));
    syna_rc rc = sparse_new(s->db, &options, &s->rows);
    if (rc != SYNA_SUCCESS) {
        struct status_record why = *status_get();
        db_close(s->db);
        *s = (struct store){0};
        return status_set(&why);
    }
    return rc;
}

static syna_rc close_store(struct store *s)
{
    if (!s->rows)
        return SYNA_SUCCESS;
    sparse_close_snapshot(s->rows);
    sparse_free(s->rows);
    syna_rc rc = db_close(s->db);
    *s = (struct store){0};
    return rc;
}

/* Rows of one term each, whose weight is the value. */
static syna_rc put(struct world *w, struct store *s, int first, int count)
{
    char names[KEYS][8];
    const char *keys[KEYS];
    uint32_t terms[KEYS];
    float weights[KEYS];
    uint64_t offsets[KEYS + 1] = {0};
    size_t added;
    for (int i = 0; i < count; i++) {
        snprintf(names[i], sizeof names[i], "k%d", first + i);
        keys[i] = names[i];
        terms[i] = TERM;
        w->after[w->ops].values[first + i] = w->next;
        weights[i] = (float)w->next++;
        offsets[i + 1] = (uint64_t)i + 1;
    }
    syna_sparse_rows rows = {.size = sizeof rows,
                             .count = (uint64_t)count,
                             .offsets = offsets,
                             .terms = terms,
                             .weights = weights,
                             .keys = keys};
    return sparse_index(s->rows, &rows, &added, NULL);
}

static syna_rc discard(struct world *w, struct store *s, int number)
{
    char key[8];
    int32_t deleted;
    snprintf(key, sizeof key, "k%d", number);
    w->after[w->ops].values[number] = 0;
    return sparse_delete(s->rows, key, strlen(key), &deleted);
}

static syna_rc search(struct store *s, struct state *found)
{
    uint64_t offsets[2] = {0, 1};
    uint32_t term = TERM;
    float weight = 1;
    syna_sparse_hit *hits = NULL;
    size_t count;
    syna_sparse_rows query = {
        .size = sizeof query, .count = 1, .offsets = offsets, .terms = &term, .weights = &weight};
    syna_sparse_search how = {.size = sizeof how, .k = UINT64_MAX};
    *found = (struct state){0};
    SYNA_TRY(sparse_search(s->rows, &query, &how, &hits, &count));
    for (size_t i = 0; i < count; i++) {
        int number = hits[i].key[1] - '0';
        CHECK(hits[i].key_len == 2 && number >= 0 && number < KEYS);
        CHECK_EQ(found->values[number], 0);
        found->values[number] = (long)hits[i].score;
    }
    CHECK_EQ(count, sparse_count(s->rows));
    syna_free_sparse_hits(hits);
    return SYNA_SUCCESS;
}

static syna_rc step(struct world *w, struct store *s, const char *op)
{
    int number = op[1] - '0';
    CHECK(w->ops + 1 < OPS);
    w->ops++;
    w->after[w->ops] = w->after[w->ops - 1];
    switch (op[0]) {
    case 'i':
        return put(w, s, number, 1);
    case 'b':
        return put(w, s, 0, BATCH);
    case 'd':
        return discard(w, s, number);
    case 'f':
        return sparse_flush(s->rows);
    case 's':
        return sparse_save(s->rows);
    default:
        SYNA_TRY(close_store(s));
        return open_store(s);
    }
}

/* All of the script, with a search after each operation, up to the first failure. */
static syna_rc run(struct world *w, struct store *s)
{
    struct state found;
    for (const char *at = EVERYTHING; *at; at += strcspn(at, " "), at += strspn(at, " ")) {
        SYNA_TRY(step(w, s, at));
        SYNA_TRY(search(s, &found));
        CHECK_MEM(&found, &w->after[w->ops], sizeof found);
    }
    return SYNA_SUCCESS;
}

struct failing {
    bool memory;  /* allocations, else calls to the system */
    bool forever; /* and all after it */
    int system;
};

static void arm(const struct failing *f, int64_t k)
{
    if (f->memory)
        fault_alloc(k, f->forever);
    else
        fault_arm(&(struct fault){.at = k, .system = f->system, .forever = f->forever});
}

/* false: nothing fired. */
static bool disarm(const struct failing *f)
{
    bool fired = f->memory ? fault_alloc_fired() > 0 : fault_fired() > 0;
    fault_alloc(0, false);
    fault_arm(NULL);
    return fired;
}

/* Room for a mapping that is not there is memory that is not there. */
static void check_error(const struct failing *f, enum fault_call call, syna_rc rc)
{
    if (f->memory || (call == FAULT_RESERVE && rc != SYNA_ERR_IO))
        CHECK_FAILS(rc, SYNA_ERR_INTERNAL, SYNA_WHY_NO_MEMORY);
    else
        CHECK_EQ(rc, SYNA_ERR_IO);
}

/* One round: the k-th call fails. false: there are fewer. */
static bool fail_at(const struct failing *f, int64_t k)
{
    struct mem_fs *fs = mem_fs_new(7);
    struct world w = {.next = 1};
    struct state found;
    struct store s;
    mem_fs_use(fs);
    fault_begin(&vfs_mem);
    syna_test_set_vfs(&vfs_fault);
    CHECK_OK(open_store(&s));
    arm(f, k);
    syna_rc rc = run(&w, &s);
    enum fault_call call = fault_first();
    bool fired = disarm(f);
    if (rc != SYNA_SUCCESS)
        check_error(f, call, rc);
    CHECK(fired || rc == SYNA_SUCCESS);
    close_store(&s); /* after a failed sync it fails, too */
    CHECK_OK(open_store(&s));
    CHECK_OK(search(&s, &found));
    if (rc == SYNA_SUCCESS || memcmp(&found, &w.after[w.ops - 1], sizeof found) != 0)
        CHECK_MEM(&found, &w.after[w.ops], sizeof found);
    CHECK_OK(close_store(&s));
    CHECK_EQ(mem_fs_open_count(fs), 0);
    CHECK_STR(mem_fs_faults(fs), "");
    syna_test_set_vfs(NULL);
    mem_fs_free(fs);
    return fired;
}

static void fail_each(struct failing f)
{
    int64_t k = 1;
    for (bool more = true; more; k++) {
        check_note("%s %lld%s, errno %d", f.memory ? "allocation" : "call", (long long)k,
                   f.forever ? " and all after it" : "", f.system);
        more = fail_at(&f, k);
    }
    CHECK(k > 50); /* a run has so many at least */
}

TEST(P7_every_allocation_may_fail)
{
    fail_each((struct failing){.memory = true});
    fail_each((struct failing){.memory = true, .forever = true});
}

TEST(P7_every_call_to_the_system_may_fail)
{
    fail_each((struct failing){.system = EIO});
    fail_each((struct failing){.system = ENOSPC, .forever = true});
    fail_each((struct failing){.system = EINTR});
}
