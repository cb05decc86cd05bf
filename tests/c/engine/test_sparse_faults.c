/* T5 and T6 for sparse vector stores: in a run of everything that a store does, the k-th allocation
 * or the k-th call to the system fails, for every k. What fails says so with its own error; a
 * search of the store opened again finds every row of what was acknowledged, and of the operation
 * that failed all or nothing. */
#include "sparse_player.h"

/* i<key>: index; m<key>: other metadata; b: the first four in one call; d<key>: delete; f: flush; s: save; o: close and
 * open. */
#define EVERYTHING "b i4 m4 s o i0 m0 m0 d1 s b m3 d2 o i5 f b s o i1 m1 o"

static syna_rc step(struct player *p, char what, int key)
{
    struct sparse_store *s = p->store;
    switch (what) {
    case 'i':
        return sparse_player_put(p, key, 1);
    case 'm':
        return sparse_player_describe(p, key);
    case 'b':
        return sparse_player_put(p, 0, 4);
    case 'd':
        return sparse_player_delete(p, key);
    case 'f':
        return sparse_flush(s->rows);
    case 's':
        return sparse_save(s->rows);
    default:
        return player_reopen(p);
    }
}

/* With a search after each. */
static syna_rc operate(struct player *p, char what, int key, bool *durable)
{
    long found[PLAYER_KEYS];
    *durable = true;
    SYNA_TRY(step(p, what, key));
    SYNA_TRY(sparse_player_read(p->store, found));
    CHECK_MEM(found, p->values[p->ops], sizeof found);
    return SYNA_SUCCESS;
}

static void fail_each(struct failing f)
{
    static const struct player_store kind = {.open_store = sparse_player_open,
                                             .close_store = sparse_player_close,
                                             .read_values = sparse_player_read,
                                             .operate = operate};
    struct sparse_store store = {.no_sync = false};
    struct player p = {.kind = &kind, .store = &store, .script = EVERYTHING};
    CHECK(player_fail_each(&p, f) >= 50); /* a run has so many at least */
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
