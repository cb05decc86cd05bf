/* What the tables of file_handles.h and log_handles.h have in common: entries for open stores, which are
 * counted, in one of three states that are always seen under the table's lock:
 *
 *     (none) --open--> OPENING --> OPEN --last close--> CLOSING --> (none)
 *                         \--failure--> (none)
 *
 * Threads that want an entry that is OPENING or CLOSING wait for `moved`. No call that can block is made
 * with the lock held. Few stores are open at once, so a list does. And what fork() does to all of it. */
#ifndef SYNA_API_OPEN_TABLE_H
#define SYNA_API_OPEN_TABLE_H

#include "base/internal.h"

enum open_state { OPENING, OPEN, CLOSING };

/* The first member of what a kind of table has for each store. */
struct open_entry {
    struct open_entry *next;
    void *store; /* NULL while OPENING */
    enum open_state state;
    bool inherited; /* by fork */
    uint32_t openings;
    uint32_t pins; /* path-keyed calls in progress */
};

/* The first member of a table; the rest is the kind's. */
struct open_table {
    pthread_mutex_t lock;
    pthread_cond_t moved;
    struct open_entry *first;      /* the newest */
    struct open_kind *kind;        /* NULL until open_table_list */
    struct open_table *next_table; /* of the kind */
};
#define OPEN_TABLE_INIT                                                                          \
    {                                                                                            \
        .lock = PTHREAD_MUTEX_INITIALIZER, .moved = PTHREAD_COND_INITIALIZER                     \
    }

/* All tables of one kind. Each kind has fork hooks of its own, since hooks run in the reverse order of
 * their registration and the kinds are registered at different times. */
struct open_kind {
    void (*register_hooks)(void); /* pthread_atfork of calls to open_kind_before_fork and _after_fork */
    void (*release)(struct open_entry *entry); /* free it and what it holds, the store excepted */
    void (*before_fork)(const struct open_table *table, void *store);
    void (*after_fork)(const struct open_table *table, void *store, bool child);
    pthread_once_t registered;
    pthread_mutex_t lock;
    struct open_table *tables; /* guarded by `lock` */
};
#define OPEN_KIND_INIT                                                                           \
    .registered = PTHREAD_ONCE_INIT, .lock = PTHREAD_MUTEX_INITIALIZER

/* Make a table known to the fork hooks of its kind. Again does nothing. */
void open_table_list(struct open_table *table, struct open_kind *kind);

/* From before a fork until after it every lock is held: first of the kind, then of its tables, then what
 * the stores lock. */
void open_kind_before_fork(struct open_kind *kind);
void open_kind_after_fork(struct open_kind *kind, bool child);

/* ---- with the table's lock held */

/* An entry that is OPENING, in the list. */
void open_table_add(struct open_table *table, struct open_entry *entry);
/* It has its store and one opening. */
void open_table_opened(struct open_table *table, struct open_entry *entry, void *store);
/* Take it out of the list and release it. */
void open_table_remove(struct open_table *table, struct open_entry *entry);
/* The entry of a store, NULL when there is none. */
struct open_entry *open_table_find(const struct open_table *table, const void *store);
/* Give back one opening. true: it was the last one. Then the entry is CLOSING, its calls have ended, and
 * the caller closes the store and removes the entry. */
bool open_table_close(struct open_table *table, struct open_entry *entry);
/* The end of a call, NULL and calls that a forked child has forgotten included. */
void open_table_unpin(struct open_table *table, struct open_entry *entry);

#endif
