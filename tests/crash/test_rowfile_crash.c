/* T1 and T2 for mapped vector stores: run operations over a recording memory file system, then recover
 * from every state that a power loss could have left, and compare with what had been promised:
 *
 *   P1, P3  the store is that of a checkpoint: one after which no checkpoint was acknowledged, and
 *           none that had not begun; never a part of one
 *   P5      opening never reports damage
 *   P6      a second crash, after more work on what the first one left, loses nothing either
 *
 * and every recovered file passes verify and leaks nothing. The broken variants at the end make the
 * mistakes that the two slots and the two syncs are there to prevent, and must be caught. */
#include "check.h"

#include "crash_states.h"
#include "engine/mmap_vectors.h"
#include "store/rowfile_format.h"

#define PATH MEM_DIR "/a.mmap"

enum { MOST = 32, DIMS = 40 };

/* ---------------------------------------------------------------- workloads */

/* i<key>: insert or replace; b: a batch of three; d<key>: delete; c: checkpoint; p: compact; o: close
 * and open again. Each checkpoint, compaction and closing that changes something ends an epoch. */
struct workload {
    const char *name, *script;
    uint64_t budget;
    bool big; /* rows enough to finish blocks */
};

static const struct workload workloads[] = {
    {"checkpoints", "i1 i2 c i3 i1 c d2 b c i4 o i5 c", 20000, false},
    {"replacements", "b c b c b c i1 c d1 c b o b c", 20000, false},
    {"compaction", "i1 i2 c i1 d2 i3 c p i4 c p i5 c d1 o", 20000, false},
    {"empty", "c o p o i1 d1 c p o", 8000, false},
    {"finished-blocks", "b c b c b c i7 c", 10000, true},
};

struct world {
    const struct workload *w;
    const struct vfs *table; /* over the recording one, or the recording one itself */
    uint64_t digests[MOST + 1]; /* of the rows after epoch n */
    uint64_t epochs;
    uint64_t seed, second_states;
    uint64_t depth, base_digest; /* a second crash: what the first left */
    float next;                  /* value of the next row */
};

static uint64_t digest_of(syna_mmap *store)
{
    syna_hit *hits;
    size_t count;
    uint64_t sum = 1469598103934665603u;
    CHECK_OK(mmap_vectors_rows(store, SYNA_SEARCH_VECTORS, &hits, &count));
    for (size_t i = 0; i < count; i++) {
        for (const char *k = hits[i].key; *k; k++)
            sum = (sum ^ (uint8_t)*k) * 1099511628211u;
        const uint8_t *v = (const uint8_t *)hits[i].vector;
        for (size_t b = 0; b < DIMS * sizeof(float); b++)
            sum = (sum ^ v[b]) * 1099511628211u;
    }
    syna_free_hits(hits);
    return sum ^ count;
}

static syna_rc open_store(bool read_only, syna_mmap **out)
{
    syna_mmap_options options = {.size = sizeof options,
                                 .dimensions = DIMS,
                                 .metric = SYNA_METRIC_EUCLIDEAN,
                                 .read_only = read_only};
    return mmap_vectors_open(PATH, &options, out);
}

static void put_rows(struct world *w, syna_mmap *store, int first, int count)
{
    const char *keys[600];
    static char names[600][8];
    static float rows[600][DIMS];
    size_t added;
    for (int i = 0; i < count; i++) {
        snprintf(names[i], sizeof names[i], "k%d", first + i);
        keys[i] = names[i];
        for (int d = 0; d < DIMS; d++)
            rows[i][d] = w->next + (float)d;
        w->next++;
    }
    CHECK_OK(mmap_vectors_insert(store, keys, NULL, rows[0], DIMS, (size_t)count, &added));
}

/* The state that an epoch promises: it has begun before the call that makes it, and is durable after. */
static void promise(struct world *w, syna_mmap *store)
{
    CHECK(w->epochs < MOST);
    w->digests[++w->epochs] = digest_of(store);
    record_mark(MARK_BEGUN, w->epochs);
}

static syna_mmap *step(struct world *w, syna_mmap *store, const char *op)
{
    char key[8];
    int32_t deleted;
    snprintf(key, sizeof key, "k%c", op[1]);
    switch (op[0]) {
    case 'i':
        put_rows(w, store, op[1] - '0', 1);
        return store;
    case 'b':
        put_rows(w, store, 0, w->w->big ? 300 : 3);
        return store;
    case 'd':
        CHECK_OK(mmap_vectors_delete(store, key, 2, &deleted));
        return store;
    case 'c':
        promise(w, store);
        CHECK_OK(mmap_vectors_checkpoint(store));
        break;
    case 'p':
        promise(w, store);
        CHECK_OK(mmap_vectors_compact(store, NULL, NULL));
        break;
    default:
        promise(w, store);
        CHECK_OK(mmap_vectors_close(store));
        store = NULL;
    }
    record_mark(MARK_DURABLE, w->epochs);
    if (!store)
        CHECK_OK(open_store(false, &store));
    return store;
}

/* Run a script; what is found at the start is epoch 0. The process dies at the end: nothing is closed
 * in the trace. */
static struct trace *record(struct world *w, struct mem_fs *fs, const char *script,
                            enum record_mistake mistake)
{
    syna_mmap *store;
    mem_fs_use(fs);
    record_begin(&vfs_mem, mistake);
    syna_test_set_vfs(w->table);
    CHECK_OK(open_store(false, &store));
    w->epochs = 0;
    w->digests[0] = digest_of(store);
    record_mark(MARK_DURABLE, 0);
    for (const char *at = script; *at; at += strcspn(at, " "), at += strspn(at, " "))
        store = step(w, store, at);
    struct trace *trace = record_end();
    syna_test_set_vfs(&vfs_mem);
    CHECK_OK(mmap_vectors_close(store));
    syna_test_set_vfs(NULL);
    return trace;
}

/* ---------------------------------------------------------------- recovery */

static bool check(void *context, struct mem_fs *image, const struct crash_point *at, char *why,
                  size_t cap);

/* Work on, and crash, on what a crash left. */
static bool again(const struct world *w, const struct mem_fs *image, char *why, size_t cap)
{
    struct world inner = *w;
    struct crash_result result;
    struct mem_fs *fs = mem_fs_new(w->seed);
    inner.depth = 1;
    inner.next = w->next + 1000;
    mem_fs_copy(fs, image);
    struct trace *trace = record(&inner, fs, "i1 i6 c", MISTAKE_NONE);
    struct crash_plan plan = {trace, image, w->seed, 150, check, &inner};
    crash_enumerate(&plan, &result);
    ((struct world *)(uintptr_t)w)->second_states += result.states;
    if (result.failed)
        snprintf(why, cap, "after a second crash: %.200s", result.why);
    trace_free(trace);
    mem_fs_free(fs);
    return !result.failed;
}

static bool recovered(const struct world *w, const struct crash_point *at, uint64_t found)
{
    for (uint64_t n = at->marks[MARK_DURABLE]; n <= MAX(at->marks[MARK_BEGUN], at->marks[MARK_DURABLE]);
         n++)
        if (found == w->digests[n])
            return true;
    return false;
}

static bool complain(char *why, size_t cap, const char *what)
{
    snprintf(why, cap, "%s: %.300s", what, status_get()->message);
    return false;
}

static bool read_back(const struct world *w, const struct crash_point *at, bool read_only,
                      bool may_be_missing, char *why, size_t cap)
{
    syna_mmap *store;
    syna_rc rc = open_store(read_only, &store);
    if (rc != SYNA_SUCCESS && may_be_missing && status_get()->system == ENOENT)
        return true;
    if (rc != SYNA_SUCCESS)
        return complain(why, cap, read_only ? "a reader" : "a writer");
    bool good = recovered(w, at, digest_of(store));
    if (!good)
        snprintf(why, cap, "the rows are not those of checkpoint %llu to %llu",
                 (unsigned long long)at->marks[MARK_DURABLE],
                 (unsigned long long)at->marks[MARK_BEGUN]);
    mmap_vectors_close(store);
    return good;
}

static bool sound(char *why, size_t cap)
{
    syna_check found = {.size = sizeof found};
    if (mmap_vectors_verify(PATH, NULL, NULL, NULL, &found) != SYNA_SUCCESS)
        return complain(why, cap, "verify");
    if (found.damaged)
        snprintf(why, cap, "verify finds damage in %llu places", (unsigned long long)found.damaged);
    return found.damaged == 0;
}

enum { AGAIN = 150 };

static bool check(void *context, struct mem_fs *image, const struct crash_point *at, char *why,
                  size_t cap)
{
    const struct world *w = context;
    struct mem_fs *before = NULL;
    if (w->depth == 0 && at->number % AGAIN == 7) {
        before = mem_fs_new(0);
        mem_fs_copy(before, image);
    }
    mem_fs_set_pid(image, 4711);
    mem_fs_use(image);
    syna_test_set_vfs(&vfs_mem);
    int64_t blocks = syna_test_live_blocks();
    bool good = read_back(w, at, true, at->marks[MARK_BEGUN] == 0, why, cap) &&
                read_back(w, at, false, false, why, cap) && sound(why, cap);
    good = good && crash_left_nothing(image, blocks, why, cap);
    syna_test_set_vfs(NULL);
    if (good && before)
        good = again(w, before, why, cap);
    mem_fs_free(before);
    return good;
}

static bool survives(const struct workload *workload, const struct vfs *table,
                     enum record_mistake mistake, uint64_t budget)
{
    struct world w = {.w = workload, .table = table, .seed = check_random()};
    struct crash_result result;
    struct mem_fs *fs = mem_fs_new(w.seed);
    struct trace *trace = record(&w, fs, workload->script, mistake);
    struct crash_plan plan = {trace, NULL, w.seed, budget, check, &w};
    crash_enumerate(&plan, &result);
    syna_test_set_vfs(NULL);
    printf("%-16s %-12s %7llu states at %llu points, %6llu after a second crash: %s %s\n",
           workload->name, record_mistake_name(mistake), (unsigned long long)result.states,
           (unsigned long long)result.prefixes, (unsigned long long)w.second_states,
           result.failed ? "fails," : "good", result.why);
    if (result.failed && table == &vfs_record && mistake == MISTAKE_NONE) {
        crash_simplify(&plan, &result);
        crash_print(trace, NULL, &result, stdout);
    }
    trace_free(trace);
    mem_fs_free(fs);
    return !result.failed;
}

TEST(P1_P3_P5_P6_every_crash_state_of_every_workload)
{
    for (size_t i = 0; i < COUNT_OF(workloads); i++) {
        check_note("%s", workloads[i].name);
        CHECK(survives(&workloads[i], &vfs_record, MISTAKE_NONE,
                       (uint64_t)check_rounds((int64_t)workloads[i].budget)));
    }
}

/* ---------------------------------------------------------------- broken variants */

/* A table over the recording one that makes one of the mistakes of RELIABILITY 2 in the core's place:
 * what is recorded is what would really have happened. */
static struct vfs broken;
static bool slot_written; /* since the last sync that was passed on */

static bool is_slot(size_t len, uint64_t offset)
{
    return len == SLOT_BYTES && (offset == SLOT_OFFSET || offset == SLOT_OFFSET + SLOT_BYTES);
}

/* The slot before is overwritten, too: torn writes then leave none. */
static int64_t write_in_place(vfs_fd fd, const void *buf, size_t len, uint64_t offset)
{
    if (is_slot(len, offset))
        vfs_record.write_at(fd, buf, len, 2 * SLOT_OFFSET + SLOT_BYTES - offset);
    return vfs_record.write_at(fd, buf, len, offset);
}

/* Data and slot in one sync: only the one behind the slot is passed on. */
static int64_t write_and_remember(vfs_fd fd, const void *buf, size_t len, uint64_t offset)
{
    slot_written = is_slot(len, offset) || offset == 0; /* a new file is made as it should be */
    return vfs_record.write_at(fd, buf, len, offset);
}

static int sync_after_slot(vfs_fd fd)
{
    bool wanted = slot_written;
    slot_written = false;
    return wanted ? vfs_record.sync_data(fd) : 0;
}

/* The two halves in the other order: the slot, its sync, and only then the CRCs that it relies on. */
static struct {
    vfs_fd fd;
    uint64_t offset;
    size_t len;
    uint8_t bytes[256];
} held[16];
static size_t held_count;

static int64_t write_slot_first(vfs_fd fd, const void *buf, size_t len, uint64_t offset)
{
    if (is_slot(len, offset)) {
        slot_written = true;
        return vfs_record.write_at(fd, buf, len, offset);
    }
    if (len > sizeof held[0].bytes || held_count == COUNT_OF(held))
        return vfs_record.write_at(fd, buf, len, offset); /* the header of a new file */
    held[held_count].fd = fd;
    held[held_count].offset = offset;
    held[held_count].len = len;
    memcpy(held[held_count++].bytes, buf, len);
    return (int64_t)len;
}

static int sync_slot_first(vfs_fd fd)
{
    if (!slot_written && held_count > 0)
        return 0;
    vfs_record.sync_data(fd);
    for (size_t i = 0; i < held_count; i++)
        vfs_record.write_at(held[i].fd, held[i].bytes, held[i].len, held[i].offset);
    held_count = 0;
    slot_written = false;
    return vfs_record.sync_data(fd);
}

static bool broken_survives(int64_t (*write_at)(vfs_fd, const void *, size_t, uint64_t),
                            int (*sync_data)(vfs_fd), const struct workload *workload)
{
    broken = vfs_record;
    slot_written = false;
    held_count = 0;
    if (write_at)
        broken.write_at = write_at;
    if (sync_data)
        broken.sync_data = sync_data;
    return survives(workload, &broken, MISTAKE_NONE, 5000);
}

TEST(a_slot_that_is_overwritten_in_place_is_caught)
{
    CHECK(!broken_survives(write_in_place, NULL, &workloads[0]));
}

TEST(data_and_slot_in_one_sync_are_caught)
{
    CHECK(!broken_survives(write_and_remember, sync_after_slot, &workloads[0]));
    CHECK(!broken_survives(write_and_remember, sync_after_slot, &workloads[4]));
}

TEST(a_slot_that_is_synced_before_its_checksums_is_caught)
{
    CHECK(!broken_survives(write_slot_first, sync_slot_first, &workloads[4]));
}

TEST(the_mistakes_of_creating_and_replacing_files_are_caught)
{
    CHECK(!survives(&workloads[0], &vfs_record, MISTAKE_NO_SYNC, 5000));
    CHECK(!survives(&workloads[0], &vfs_record, MISTAKE_NO_SYNC_DIR, 5000));
    CHECK(!survives(&workloads[2], &vfs_record, MISTAKE_NO_SYNC_TEMP, 5000));
    CHECK(!survives(&workloads[2], &vfs_record, MISTAKE_IN_PLACE, 5000));
    CHECK(!survives(&workloads[2], &vfs_record, MISTAKE_RENAME_FIRST, 5000));
}
