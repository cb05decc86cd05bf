/* player.c - see player.h. */
#include "check.h"

#include "player.h"
#include "vfs_fault.h"

long player_row(struct player *p, int key)
{
    return p->values[p->ops][key] = p->next++;
}

void player_drop(struct player *p, int key)
{
    p->values[p->ops][key] = PLAYER_GONE;
}

syna_rc player_reopen(struct player *p)
{
    SYNA_TRY(p->kind->close_store(p->store));
    return p->kind->open_store(p->store);
}

/* With the store open. */
static void start(struct player *p)
{
    p->ops = 0;
    p->next = MAX(p->next, 1);
    CHECK_OK(p->kind->read_values(p->store, p->values[0]));
}

/* All of the script, or as far as the first failure. Marks are for who records. */
static syna_rc play(struct player *p)
{
    for (const char *at = p->script; *at; at += strcspn(at, " "), at += strspn(at, " ")) {
        bool durable = false;
        CHECK(p->ops + 1 < PLAYER_OPS);
        p->ops++;
        memcpy(p->values[p->ops], p->values[p->ops - 1], sizeof p->values[0]);
        record_mark(MARK_BEGUN, p->ops);
        SYNA_TRY(p->kind->operate(p, at[0], at[1] - '0', &durable));
        if (durable)
            record_mark(MARK_DURABLE, p->ops);
    }
    return SYNA_SUCCESS;
}

/* ---------------------------------------------------------------- power loss */

struct trace *player_record(struct player *p, struct mem_fs *fs)
{
    mem_fs_use(fs);
    record_begin(&vfs_mem, MISTAKE_NONE);
    syna_test_set_vfs(&vfs_record);
    CHECK_OK(p->kind->open_store(p->store));
    start(p);
    record_mark(MARK_DURABLE, 0);
    CHECK_OK(play(p));
    struct trace *trace = record_end();
    syna_test_set_vfs(&vfs_mem);
    CHECK_OK(p->kind->close_store(p->store));
    syna_test_set_vfs(NULL);
    return trace;
}

static bool read_back(struct player *p, const struct crash_point *at, char *why, size_t cap)
{
    for (int i = 0; i < p->kind->openings; i++) {
        if (p->kind->open_store(p->store) != SYNA_SUCCESS) {
            snprintf(why, cap, "opening: %.300s", status_get()->message);
            return false;
        }
        bool good = p->kind->check(p, at, why, cap);
        CHECK_OK(p->kind->close_store(p->store));
        if (!good)
            return false;
    }
    return true;
}

bool player_recovers(void *context, struct mem_fs *image, const struct crash_point *at, char *why,
                     size_t cap)
{
    mem_fs_set_pid(image, 4711);
    mem_fs_use(image);
    syna_test_set_vfs(&vfs_mem);
    int64_t blocks = syna_test_live_blocks();
    bool good = read_back(context, at, why, cap);
    good = good && crash_left_nothing(image, blocks, why, cap);
    syna_test_set_vfs(NULL);
    return good;
}

bool player_survives(struct player *p, const char *name, uint64_t seed, uint64_t budget)
{
    struct mem_fs *fs = mem_fs_new(seed);
    struct trace *trace = player_record(p, fs);
    bool good = crash_survives(name, trace, seed, budget, player_recovers, p);
    trace_free(trace);
    mem_fs_free(fs);
    return good;
}

/* The last operation that may be there. */
static uint64_t last_begun(const struct crash_point *at)
{
    return MAX(at->marks[MARK_BEGUN], at->marks[MARK_DURABLE]);
}

bool player_allows(const struct player *p, const struct crash_point *at,
                   const long found[PLAYER_KEYS], char *why, size_t cap)
{
    for (uint64_t n = at->marks[MARK_DURABLE]; n <= last_begun(at); n++)
        if (memcmp(p->values[n], found, sizeof p->values[n]) == 0)
            return true;
    snprintf(why, cap, "k0..k5 are %ld %ld %ld %ld %ld %ld: no state from operation %llu on", found[0],
             found[1], found[2], found[3], found[4], found[5],
             (unsigned long long)at->marks[MARK_DURABLE]);
    return false;
}

bool player_allows_each(const struct player *p, const struct crash_point *at,
                        const long found[PLAYER_KEYS], char *why, size_t cap)
{
    uint64_t durable = at->marks[MARK_DURABLE];
    for (int key = 0; key < PLAYER_KEYS; key++) {
        uint64_t n = durable;
        while (n <= last_begun(at) && p->values[n][key] != found[key])
            n++;
        if (n > last_begun(at)) {
            snprintf(why, cap, "k%d is %ld, was %ld when all was covered", key, found[key],
                     p->values[durable][key]);
            return false;
        }
    }
    return true;
}

/* ---------------------------------------------------------------- failing calls */

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
static bool fail_at(struct player *p, const struct failing *f, int64_t k)
{
    struct mem_fs *fs = mem_fs_new(7);
    long found[PLAYER_KEYS];
    mem_fs_use(fs);
    fault_begin(&vfs_mem);
    syna_test_set_vfs(&vfs_fault);
    CHECK_OK(p->kind->open_store(p->store));
    p->next = 1;
    start(p);
    arm(f, k);
    syna_rc rc = play(p);
    enum fault_call call = fault_first();
    bool fired = disarm(f);
    if (rc != SYNA_SUCCESS)
        check_error(f, call, rc);
    CHECK(fired || rc == SYNA_SUCCESS);
    p->kind->close_store(p->store); /* after a failed sync it fails, too */
    CHECK_OK(p->kind->open_store(p->store));
    CHECK_OK(p->kind->read_values(p->store, found));
    if (rc == SYNA_SUCCESS || memcmp(found, p->values[p->ops - 1], sizeof found) != 0)
        CHECK_MEM(found, p->values[p->ops], sizeof found);
    CHECK_OK(p->kind->close_store(p->store));
    CHECK_EQ(mem_fs_open_count(fs), 0);
    CHECK_STR(mem_fs_faults(fs), "");
    syna_test_set_vfs(NULL);
    mem_fs_free(fs);
    return fired;
}

int64_t player_fail_each(struct player *p, struct failing f)
{
    int64_t k = 0;
    bool more = true;
    while (more) {
        k++;
        check_note("%s %lld%s, errno %d", f.memory ? "allocation" : "call", (long long)k,
                   f.forever ? " and all after it" : "", f.system);
        more = fail_at(p, &f, k);
    }
    return k - 1;
}
