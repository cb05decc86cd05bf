/* T1, T2, T5 and T6 for text indexes: what power loss, a failing disk and want of memory leave of documents,
 * of the snapshot beside them and of what searches find.
 *
 *   P1, P3  every document is as after one of the operations from the last durable one on: all of them as
 *           after the same one, since a log loses its end or nothing
 *   P5      opening never reports damage
 *   P7      an operation that fails has happened or not, and memory says what the log says
 *
 * Snapshots are written after any operation here, of a few documents, so that what is found in one and what
 * is read from the log behind it are mixed in every way. */
#include "check.h"

#include "base/mem.h"
#include "crash_states.h"
#include "engine/text_core.h"
#include "vfs_fault.h"

#define PATH MEM_DIR "/a.db"

enum { KEYS = 12, OPS = 48, GONE = -1, VALUES = 400 };

/* a<key>: add or replace; m<key>: metadata; d<key>: delete; b: the first three in one batch; B: all of them;
 * s: snapshot; k: one that the open index goes on with; f: flush; x: compact; o: close and open again. A key is
 * a letter. */
struct workload {
    const char *name, *script;
    bool synced;
    uint64_t budget;
};

static const struct workload workloads[] = {
    {"synced", "aA aB mA b dB aA", true, 800},
    {"unsynced", "b aA dB f aC mC b f aA", false, 1500},
    {"snapshot", "B s aA dB f s b aC s f", false, 1600},
    {"replaced", "B s o B dA s f b", false, 1200},
    {"reopened", "b o aA mB o dC aD o", false, 1200},
    {"compacted", "B s aA dB x aC s x b f", false, 1400},
    {"packed", "B dA mB aC x dD o aA x", true, 400},
    {"unpacked", "B dA mB f aC x dD B s o dE x f", false, 400},
    {"kept open", "B k aA dB mC k aB o dD k x aE k f", false, 600},
    {"made packs", "aA aB aC aD aE aF aG aH aI f dA x aJ dB x s o", false, 400},
};

struct document_state {
    long value, metadata;
};

struct world {
    const char *script;
    struct document_state states[OPS][KEYS]; /* after operation n */
    uint64_t ops;
    long next;
    bool synced, boasting; /* boasting: calls everything durable at once */
};

struct opened {
    syna_db *db;
    syna_text *index;
};

/* ---------------------------------------------------------------- the index */

static syna_rc open_index(bool synced, struct opened *o)
{
    syna_db_options log = {.size = sizeof log, .no_sync = !synced};
    syna_text_options given = {.size = sizeof given, .analyzer = "standard"}, options;
    CHECK_OK(text_options(&given, &options));
    *o = (struct opened){0};
    SYNA_TRY(db_open(PATH, &log, &o->db));
    syna_rc rc = text_new(o->db, &options, &o->index);
    if (rc != SYNA_SUCCESS) {
        struct status_record why = *status_get();
        db_close(o->db);
        *o = (struct opened){0};
        return status_set(&why);
    }
    return rc;
}

static syna_rc close_index(struct opened *o)
{
    syna_rc rc = SYNA_SUCCESS;
    if (o->index) {
        text_save(o->index);
        text_free(o->index);
        rc = db_close(o->db);
    }
    *o = (struct opened){0};
    return rc;
}

static syna_rc snapshot(syna_text *index)
{
    pthread_mutex_lock(&index->upkeep_lock);
    pthread_rwlock_wrlock(&index->state_lock);
    syna_rc rc = db_flush(index->db);
    if (rc == SYNA_SUCCESS)
        rc = text_follow(index);
    if (rc == SYNA_SUCCESS)
        rc = text_save_snapshot(index);
    pthread_rwlock_unlock(&index->state_lock);
    pthread_mutex_unlock(&index->upkeep_lock);
    return rc;
}

static syna_rc save_open(syna_text *index)
{
    pthread_mutex_lock(&index->upkeep_lock);
    syna_rc rc = text_save_open(index, false);
    pthread_mutex_unlock(&index->upkeep_lock);
    return rc;
}

/* ---------------------------------------------------------------- one operation */

static syna_rc add(struct world *w, syna_text *index, int first, int count)
{
    char ids[KEYS][4], texts[KEYS][48];
    syna_document documents[KEYS];
    size_t added;
    for (int i = 0; i < count; i++) {
        long value = w->next++;
        w->states[w->ops][first + i] = (struct document_state){value, GONE};
        snprintf(ids[i], sizeof ids[i], "%c", 'A' + first + i);
        snprintf(texts[i], sizeof texts[i], "v%ld common v%ld", value, value);
        documents[i] = (syna_document){
            .id = ids[i], .id_len = 1, .text = texts[i], .text_len = strlen(texts[i])};
    }
    return text_put(index, documents, (size_t)count, &added);
}

static syna_rc set_metadata(struct world *w, syna_text *index, int number)
{
    char json[32], id = (char)('A' + number);
    struct document_state *state = &w->states[w->ops][number];
    if (state->value == GONE)
        return SYNA_SUCCESS;
    state->metadata = w->next++;
    snprintf(json, sizeof json, "{\"n\":%ld}", state->metadata);
    return text_set_metadata(index, &id, 1, json, strlen(json));
}

static syna_rc discard(struct world *w, syna_text *index, int number)
{
    char id = (char)('A' + number);
    int32_t deleted;
    w->states[w->ops][number] = (struct document_state){GONE, GONE};
    return text_delete(index, &id, 1, &deleted);
}

/* *durable: all operations so far are. */
static syna_rc operate(struct world *w, struct opened *o, const char *op, bool *durable)
{
    int number = op[1] - 'A';
    *durable = w->synced || w->boasting;
    switch (op[0]) {
    case 'a':
        return add(w, o->index, number, 1);
    case 'b':
        return add(w, o->index, 0, 3);
    case 'B':
        return add(w, o->index, 0, KEYS);
    case 'm':
        return set_metadata(w, o->index, number);
    case 'd':
        return discard(w, o->index, number);
    case 'x':
        return text_compact(o->index, NULL, NULL);
    case 's':
        *durable = true;
        return snapshot(o->index);
    case 'k':
        *durable = true;
        return save_open(o->index);
    case 'f':
        *durable = true;
        return text_flush(o->index);
    default:
        *durable = true;
        SYNA_TRY(close_index(o));
        return open_index(w->synced, o);
    }
}

/* All of the script, or as far as the first failure. */
static syna_rc run(struct world *w, struct opened *o, bool marked)
{
    syna_rc rc = SYNA_SUCCESS;
    const char *at = w->script;
    for (; rc == SYNA_SUCCESS && *at; at += strcspn(at, " "), at += strspn(at, " ")) {
        bool durable;
        CHECK(w->ops + 1 < OPS);
        w->ops++;
        memcpy(w->states[w->ops], w->states[w->ops - 1], sizeof w->states[0]);
        if (marked)
            record_mark(MARK_BEGUN, w->ops);
        rc = operate(w, o, at, &durable);
        if (marked && durable)
            record_mark(MARK_DURABLE, w->ops);
    }
    return rc;
}

static void start(struct world *w)
{
    w->ops = 0;
    w->next = 1;
    for (int k = 0; k < KEYS; k++)
        w->states[0][k] = (struct document_state){GONE, GONE};
}

/* ---------------------------------------------------------------- what is there */

static void read_states(syna_text *index, struct document_state found[KEYS])
{
    for (int k = 0; k < KEYS; k++) {
        char id = (char)('A' + k);
        syna_text_hit *hit = NULL;
        found[k] = (struct document_state){GONE, GONE};
        if (text_get(index, &id, 1, &hit) != SYNA_SUCCESS)
            continue;
        CHECK_EQ(sscanf(hit->text, "v%ld", &found[k].value), 1);
        if (hit->metadata)
            CHECK_EQ(sscanf(hit->metadata, "{\"n\":%ld}", &found[k].metadata), 1);
        mem_free(hit);
    }
}

static uint64_t frequency(syna_text *index, const char *term)
{
    uint64_t documents;
    CHECK_OK(text_frequency(index, term, strlen(term), &documents));
    return documents;
}

/* How many documents the words find, and the first of them. */
static size_t search(syna_text *index, const char *query, char *first)
{
    syna_text_search how = {.size = sizeof how, .k = UINT64_MAX};
    syna_text_hit *hits;
    size_t len = strlen(query), count;
    CHECK_OK(text_find(index, &query, &len, 1, &how, &hits, &count));
    *first = count ? hits[0].id[0] : '\0';
    mem_free(hits);
    return count;
}

static bool wrong(char *why, size_t cap, const char *what, long n, uint64_t found)
{
    snprintf(why, cap, "%s %ld: found %llu", what, n, (unsigned long long)found);
    return false;
}

/* Words find the documents that are there, and nothing counts those that are not. */
static bool agrees(const struct world *w, syna_text *index, const struct document_state found[KEYS],
                   char *why, size_t cap)
{
    long count = 0;
    char first, word[24];
    uint8_t has[VALUES] = {0};
    CHECK(w->next <= VALUES);
    for (int k = 0; k < KEYS; k++) {
        if (found[k].value == GONE)
            continue;
        count++;
        has[found[k].value] = 1;
        snprintf(word, sizeof word, "v%ld", found[k].value);
        if (search(index, word, &first) != 1 || first != 'A' + k)
            return wrong(why, cap, "value", found[k].value, (uint64_t)first);
    }
    if (search(index, "common", &first) != (size_t)count || frequency(index, "common") != (uint64_t)count ||
        text_count(index) != (uint64_t)count)
        return wrong(why, cap, "documents", count, frequency(index, "common"));
    for (long v = 1; v < w->next; v++) {
        snprintf(word, sizeof word, "v%ld", v);
        if (frequency(index, word) != has[v])
            return wrong(why, cap, "frequency of value", v, frequency(index, word));
    }
    return true;
}

static bool is_state(const struct world *w, uint64_t n, const struct document_state found[KEYS])
{
    return memcmp(w->states[n], found, sizeof w->states[n]) == 0;
}

static bool allowed(const struct world *w, uint64_t from, uint64_t to,
                    const struct document_state found[KEYS], char *why, size_t cap)
{
    for (uint64_t n = from; n <= to; n++)
        if (is_state(w, n, found))
            return true;
    size_t used = (size_t)snprintf(why, cap, "no operation %llu..%llu leaves", (unsigned long long)from,
                                   (unsigned long long)to);
    for (int k = 0; k < KEYS && used < cap; k++)
        if (found[k].value != GONE)
            used += (size_t)snprintf(why + used, cap - used, " %c=%ld/%ld", 'A' + k, found[k].value,
                                     found[k].metadata);
    return false;
}

/* ---------------------------------------------------------------- power loss */

/* A document more, a snapshot, and all is there once again. */
static bool goes_on(struct world *w, struct opened *o, struct document_state found[KEYS], char *why,
                    size_t cap)
{
    struct document_state after[KEYS];
    bool durable;
    struct world later = {.next = w->next, .synced = w->synced};
    memcpy(later.states[0], found, sizeof later.states[0]);
    CHECK_OK(operate(&later, o, "aL", &durable));
    CHECK_OK(operate(&later, o, "s", &durable));
    CHECK_OK(operate(&later, o, "o", &durable));
    read_states(o->index, after);
    return allowed(&later, 0, 0, after, why, cap) && agrees(&later, o->index, after, why, cap);
}

static bool check(void *context, struct mem_fs *image, const struct crash_point *at, char *why,
                  size_t cap)
{
    struct world *w = context;
    struct opened o;
    struct document_state found[KEYS];
    mem_fs_set_pid(image, 4711);
    mem_fs_use(image);
    syna_test_set_vfs(&vfs_mem);
    int64_t blocks = syna_test_live_blocks();
    bool good = open_index(w->synced, &o) == SYNA_SUCCESS;
    if (good) {
        read_states(o.index, found);
        good = allowed(w, at->marks[MARK_DURABLE], MAX(at->marks[MARK_BEGUN], at->marks[MARK_DURABLE]),
                       found, why, cap) &&
               agrees(w, o.index, found, why, cap) &&
               (at->number % 4 != 0 || goes_on(w, &o, found, why, cap));
        CHECK_OK(close_index(&o));
    } else {
        snprintf(why, cap, "opening: %.300s", status_get()->message);
    }
    good = good && crash_left_nothing(image, blocks, why, cap);
    syna_test_set_vfs(NULL);
    return good;
}

static struct trace *record(struct world *w, struct mem_fs *fs)
{
    struct opened o;
    mem_fs_use(fs);
    record_begin(&vfs_mem, MISTAKE_NONE);
    syna_test_set_vfs(&vfs_record);
    start(w);
    CHECK_OK(open_index(w->synced, &o));
    record_mark(MARK_DURABLE, 0);
    CHECK_OK(run(w, &o, true));
    struct trace *trace = record_end();
    syna_test_set_vfs(&vfs_mem);
    CHECK_OK(close_index(&o));
    syna_test_set_vfs(NULL);
    return trace;
}

static bool survives(const struct workload *workload, bool boasting)
{
    struct world w = {.script = workload->script, .synced = workload->synced, .boasting = boasting};
    uint64_t seed = check_random();
    struct mem_fs *fs = mem_fs_new(seed);
    struct trace *trace = record(&w, fs);
    bool good = crash_survives(workload->name, trace, seed,
                               (uint64_t)check_rounds((int64_t)workload->budget), check, &w);
    trace_free(trace);
    mem_fs_free(fs);
    return good;
}

TEST(P1_P3_P5_documents_and_what_searches_find_are_of_one_moment_after_every_crash)
{
    for (size_t i = 0; i < COUNT_OF(workloads); i++) {
        check_note("%s", workloads[i].name);
        CHECK(survives(&workloads[i], false));
    }
}

TEST(what_is_called_durable_too_early_is_noticed)
{
    CHECK(!survives(&workloads[1], true));
}

/* ---------------------------------------------------------------- failures at every call */

struct failing {
    bool memory;  /* allocations, else calls to the system */
    bool forever; /* and all after it */
    int system;
    const char *script;
};

/* With faults off: what memory says is what a new opening finds. */
static void memory_is_as_the_log(const struct world *w, struct opened *o)
{
    struct document_state before[KEYS], after[KEYS];
    char why[400];
    read_states(o->index, before);
    if (!agrees(w, o->index, before, why, sizeof why))
        check_fail(__FILE__, __LINE__, "%s", why);
    CHECK_OK(close_index(o));
    CHECK_OK(open_index(w->synced, o));
    read_states(o->index, after);
    CHECK_MEM(after, before, sizeof after);
}

/* One round: the k-th call fails. false: there are fewer. */
static bool fail_at(const struct failing *f, int64_t k)
{
    struct mem_fs *fs = mem_fs_new(7);
    struct world w = {.script = f->script, .synced = true};
    struct document_state found[KEYS];
    struct opened o;
    char why[400];
    mem_fs_use(fs);
    fault_begin(&vfs_mem);
    syna_test_set_vfs(&vfs_fault);
    start(&w);
    CHECK_OK(open_index(w.synced, &o));
    if (f->memory)
        fault_alloc(k, f->forever);
    else
        fault_arm(&(struct fault){.at = k, .system = f->system, .forever = f->forever});
    syna_rc rc = run(&w, &o, false);
    bool fired = f->memory ? fault_alloc_fired() > 0 : fault_fired() > 0;
    fault_alloc(0, false);
    fault_arm(NULL);
    if (!fired)
        CHECK_OK(rc);
    if (rc != SYNA_SUCCESS && f->memory)
        CHECK_FAILS(rc, SYNA_ERR_INTERNAL, SYNA_WHY_NO_MEMORY);
    if (o.index && f->memory)
        memory_is_as_the_log(&w, &o);
    close_index(&o); /* after a failed sync it fails, too */
    CHECK_OK(open_index(w.synced, &o));
    read_states(o.index, found);
    if (!allowed(&w, rc == SYNA_SUCCESS ? w.ops : w.ops - 1, w.ops, found, why, sizeof why) ||
        !agrees(&w, o.index, found, why, sizeof why))
        check_fail(__FILE__, __LINE__, "%s", why);
    CHECK_OK(close_index(&o));
    CHECK_EQ(mem_fs_open_count(fs), 0);
    CHECK_STR(mem_fs_faults(fs), "");
    syna_test_set_vfs(NULL);
    mem_fs_free(fs);
    return fired;
}

/* Not player_fail_each: a document has a text and metadata, packs need more keys than a player has, and
 * after an allocation that failed the index that is still open is compared with the log, too. */
static void fail_each(struct failing f)
{
    int64_t k = 0;
    bool more = true;
    while (more) {
        k++;
        check_note("%s %lld%s, errno %d", f.memory ? "allocation" : "call", (long long)k,
                   f.forever ? " and all after it" : "", f.system);
        more = fail_at(&f, k);
    }
    CHECK(k > 100); /* a run has so many calls at least */
}

#define EVERYTHING "B mA s o b dD s B aA x s o mB dC dE x aD aE aF aG aH x"

TEST(P7_every_allocation_may_fail)
{
    fail_each((struct failing){.memory = true, .script = EVERYTHING});
    fail_each((struct failing){.memory = true, .forever = true, .script = EVERYTHING});
}

TEST(P7_every_call_to_the_system_may_fail)
{
    fail_each((struct failing){.system = EIO, .script = EVERYTHING});
    fail_each((struct failing){.system = ENOSPC, .forever = true, .script = EVERYTHING});
    fail_each((struct failing){.system = EINTR, .script = EVERYTHING});
}
