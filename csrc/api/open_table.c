/* open_table.c - entries of open stores and what a fork does to them, see open_table.h. */
#include "base/internal.h"

#include "api/open_table.h"

/* ---------------------------------------------------------------- entries */

void open_table_add(struct open_table *table, struct open_entry *entry)
{
    entry->state = OPENING;
    entry->next = table->first;
    table->first = entry;
}

void open_table_opened(struct open_table *table, struct open_entry *entry, void *store)
{
    entry->store = store;
    entry->state = OPEN;
    entry->openings = 1;
    pthread_cond_broadcast(&table->moved);
}

void open_table_remove(struct open_table *table, struct open_entry *entry)
{
    struct open_entry **at = &table->first;
    while (*at != entry)
        at = &(*at)->next;
    *at = entry->next;
    table->kind->release(entry);
    pthread_cond_broadcast(&table->moved);
}

struct open_entry *open_table_find(const struct open_table *table, const void *store)
{
    struct open_entry *entry = table->first;
    while (entry && (entry->store != store || entry->state == OPENING))
        entry = entry->next;
    return entry;
}

bool open_table_close(struct open_table *table, struct open_entry *entry)
{
    if (--entry->openings > 0)
        return false;
    entry->state = CLOSING;
    while (entry->pins > 0)
        pthread_cond_wait(&table->moved, &table->lock);
    return true;
}

void open_table_unpin(struct open_table *table, struct open_entry *entry)
{
    if (entry && entry->pins > 0 && --entry->pins == 0 && entry->state == CLOSING)
        pthread_cond_broadcast(&table->moved);
}

/* ---------------------------------------------------------------- fork */

void open_table_list(struct open_table *table, struct open_kind *kind)
{
    pthread_once(&kind->registered, kind->register_hooks);
    pthread_mutex_lock(&kind->lock);
    if (!table->kind) {
        table->kind = kind;
        table->next_table = kind->tables;
        kind->tables = table;
    }
    pthread_mutex_unlock(&kind->lock);
}

void open_kind_before_fork(struct open_kind *kind)
{
    pthread_mutex_lock(&kind->lock);
    for (struct open_table *table = kind->tables; table; table = table->next_table) {
        pthread_mutex_lock(&table->lock);
        for (struct open_entry *entry = table->first; entry; entry = entry->next)
            if (entry->state == OPEN)
                kind->before_fork(table, entry->store);
    }
}

/* The threads of the parent that made calls, waited, opened or closed are not here to go on. */
static void forget_threads(struct open_table *table)
{
    pthread_cond_init(&table->moved, NULL);
    for (struct open_entry *entry = table->first, *next; entry; entry = next) {
        next = entry->next;
        entry->pins = 0;
        entry->inherited = true;
        if (entry->state != OPEN)
            open_table_remove(table, entry);
    }
}

void open_kind_after_fork(struct open_kind *kind, bool child)
{
    for (struct open_table *table = kind->tables; table; table = table->next_table) {
        if (child)
            forget_threads(table);
        for (struct open_entry *entry = table->first; entry; entry = entry->next)
            if (entry->state == OPEN)
                kind->after_fork(table, entry->store, child);
        pthread_mutex_unlock(&table->lock);
    }
    pthread_mutex_unlock(&kind->lock);
}
