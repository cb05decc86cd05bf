/* db_fork.c - what fork() does to open databases.
 *
 * Before the fork every lock of every live handle is taken, so that the child gets each index in a
 * whole state. The parent just lets go. The child gives its copies fresh locks, marks them
 * `inherited` - reads go on, writes are refused - and closes the descriptor that carries the writer
 * lock without unlocking it: the lock belongs to the open file description, which the parent still
 * has, and a child that kept it would pin the lock after the parent's end (reproduced, RELIABILITY 2). */
#include "base/internal.h"

#include "engine/db_core.h"

static pthread_mutex_t live_lock = PTHREAD_MUTEX_INITIALIZER;
static syna_db *live; /* all open handles, guarded by live_lock */
static pthread_once_t registered = PTHREAD_ONCE_INIT;

static void before_fork(void)
{
    pthread_mutex_lock(&live_lock);
    for (syna_db *db = live; db; db = db->next_live) {
        pthread_mutex_lock(&db->write_lock);
        pthread_mutex_lock(&db->queue_lock);
        pthread_rwlock_wrlock(&db->state_lock);
    }
}

static void unlock_all(syna_db *db)
{
    pthread_rwlock_unlock(&db->state_lock);
    pthread_mutex_unlock(&db->queue_lock);
    pthread_mutex_unlock(&db->write_lock);
}

static void after_fork_parent(void)
{
    for (syna_db *db = live; db; db = db->next_live)
        unlock_all(db);
    pthread_mutex_unlock(&live_lock);
}

static void after_fork_child(void)
{
    for (syna_db *db = live; db; db = db->next_live) {
        unlock_all(db);
        db_init_locks(db); /* threads that waited for them are not here */
        db->inherited = true;
        db->leading = false;
        db->first = NULL;
        db->last = &db->first;
        lock_forget(&db->lock);
    }
    pthread_mutex_unlock(&live_lock);
}

static void register_hooks(void)
{
    pthread_atfork(before_fork, after_fork_parent, after_fork_child);
}

void db_fork_add(syna_db *db)
{
    pthread_once(&registered, register_hooks);
    pthread_mutex_lock(&live_lock);
    db->next_live = live;
    db->prev_live = &live;
    if (live)
        live->prev_live = &db->next_live;
    live = db;
    pthread_mutex_unlock(&live_lock);
}

void db_fork_remove(syna_db *db)
{
    pthread_mutex_lock(&live_lock);
    *db->prev_live = db->next_live;
    if (db->next_live)
        db->next_live->prev_live = db->prev_live;
    pthread_mutex_unlock(&live_lock);
}
