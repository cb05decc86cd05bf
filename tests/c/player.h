/* Short scripts of operations on a store of rows, played in worlds where the power or a call fails, and
 * what has to be there afterwards. A script is words: a letter, which says what to do, and for some a
 * key's digit: "i1 d2 f". A row is a number that no other row has, so what a store holds is a number a key.
 *
 * A test says how its store is opened, closed and read, and what the letters do. */
#ifndef SYNA_TESTS_PLAYER_H
#define SYNA_TESTS_PLAYER_H

#include "crash_states.h"

#define PLAYER_KEYS 6
#define PLAYER_OPS 64
#define PLAYER_GONE (-1L) /* the value of a key without a row */

struct player;

struct player_store {
    syna_rc (*open_store)(void *store);
    syna_rc (*close_store)(void *store); /* nothing when opening it failed */
    syna_rc (*read_values)(void *store, long values[PLAYER_KEYS]);
    /* One operation. Notes with player_row and player_drop what it should lead to, before it fails, too.
     * *durable, false before: all operations so far survive a power loss. */
    syna_rc (*operate)(struct player *p, char what, int key, bool *durable);
    /* What an opening after a crash found. false: `why` says what is wrong. */
    bool (*check)(struct player *p, const struct crash_point *at, char *why, size_t cap);
    int openings; /* after a crash, each with its check: what is recovered stays */
};

struct player {
    const struct player_store *kind;
    void *store; /* the test's own */
    const char *script;
    long values[PLAYER_OPS][PLAYER_KEYS]; /* after operation n; 0: before the first */
    uint64_t ops;                         /* begun */
    long next;                            /* row; 0: 1 */
};

/* The number for a new row under this key. */
long player_row(struct player *p, int key);
void player_drop(struct player *p, int key);
syna_rc player_reopen(struct player *p);

/* ---- power loss */

/* Play the script on `fs`, recording; the store is closed behind it. */
struct trace *player_record(struct player *p, struct mem_fs *fs);
/* A crash_check, whose context is a player: open, check, close, and nothing leaked. */
bool player_recovers(void *context, struct mem_fs *image, const struct crash_point *at, char *why,
                     size_t cap);
/* Record, and recover from about `budget` states that a power loss could leave. */
bool player_survives(struct player *p, const char *name, uint64_t seed, uint64_t budget);
/* The values are those after one operation from the last durable one on. */
bool player_allows(const struct player *p, const struct crash_point *at,
                   const long found[PLAYER_KEYS], char *why, size_t cap);
/* Each value is that after one such operation, perhaps not the same one. */
bool player_allows_each(const struct player *p, const struct crash_point *at,
                        const long found[PLAYER_KEYS], char *why, size_t cap);

/* ---- failing calls */

struct failing {
    bool memory;  /* allocations, else calls to the system */
    bool forever; /* and all after it */
    int system;   /* errno */
};

/* The script once for every k, whose k-th call fails: the error says so, and a store opened again holds
 * what was acknowledged, and of the operation that failed all or nothing. Returns how many calls there
 * are. */
int64_t player_fail_each(struct player *p, struct failing f);

#endif
