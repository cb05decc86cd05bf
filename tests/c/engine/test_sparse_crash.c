/* T1 for sparse vector stores: whatever a power loss leaves of the log and of the saved index, every key has
 * the row of the last operation that a flush, a save or a closing covered, or of a later one, and the
 * index says the same as the rows:
 *
 *   P1, P3  no acknowledged and flushed row is lost, no row is there twice
 *   P4      a batch is there whole or not at all
 *   P5      opening never reports damage
 *
 * The broken variant at the end says that rows are flushed when they are not, and must be caught. */
#include "sparse_player.h"

/* i<key>: index; m<key>: other metadata; b: the first three in one call; d<key>: delete; f: flush; s: save;
 * o: close and open. */
struct workload {
    const char *name, *script;
    uint64_t budget;
};

static const struct workload workloads[] = {
    {"rows", "i1 i2 f i1 d2 f i3", 3000},
    {"batches", "b f b i1 f b", 3000},
    {"saved", "b s i1 d2 s i4 f", 3000},
    {"reopened", "b o i1 d0 o b d1", 3000},
    {"metadata", "b m1 f m1 m2 i1 f m1 s m0 o m2 d1", 3000},
};

static bool forgets_to_flush;

static syna_rc operate(struct player *p, char what, int key, bool *durable)
{
    struct sparse_store *s = p->store;
    *durable = strchr("fso", what) != NULL;
    switch (what) {
    case 'i':
        return sparse_player_put(p, key, 1);
    case 'm':
        return sparse_player_describe(p, key);
    case 'b':
        return sparse_player_put(p, 0, 3);
    case 'd':
        return sparse_player_delete(p, key);
    case 'f':
        return forgets_to_flush ? SYNA_SUCCESS : sparse_flush(s->rows);
    case 's':
        SYNA_TRY(sparse_save(s->rows));
        return sparse_flush(s->rows);
    default:
        return player_reopen(p);
    }
}

/* The log is a prefix of what was written. */
static bool check(struct player *p, const struct crash_point *at, char *why, size_t cap)
{
    long found[PLAYER_KEYS];
    CHECK_OK(sparse_player_read(p->store, found));
    return player_allows(p, at, found, why, cap);
}

static bool survives(const struct workload *workload)
{
    static const struct player_store kind = {.open_store = sparse_player_open,
                                             .close_store = sparse_player_close,
                                             .read_values = sparse_player_read,
                                             .operate = operate,
                                             .check = check,
                                             .openings = 2};
    struct sparse_store store = {.no_sync = true};
    struct player p = {.kind = &kind, .store = &store, .script = workload->script};
    return player_survives(&p, workload->name, check_random(),
                           (uint64_t)check_rounds((int64_t)workload->budget));
}

TEST(P1_P3_P4_P5_every_row_is_there_once_after_every_crash)
{
    for (size_t i = 0; i < COUNT_OF(workloads); i++) {
        check_note("%s", workloads[i].name);
        CHECK(survives(&workloads[i]));
    }
}

TEST(rows_that_are_not_flushed_are_noticed)
{
    forgets_to_flush = true;
    bool good = survives(&workloads[0]);
    forgets_to_flush = false;
    CHECK(!good);
}
