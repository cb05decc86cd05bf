/* T1 and T2 for databases: run a script over a recording memory file system, then recover from
 * every state that a crash could have left and compare with what had been promised:
 *
 *   P1, P2  the contents are those after n operations, durable <= n <= begun, for one n
 *   P3      so batches, blobs and compactions are there whole or not at all; a backup that has its
 *           name is complete
 *   P5      opening for writing never reports damage; a reader may open first and changes nothing
 *   P6      a second crash, during or after the recovery, loses nothing that the first recovery
 *           showed
 *
 * and that nothing leaks: descriptors, locks, memory, temp files. tests/crash/README.md shows how
 * to add a workload. */
#ifndef SYNA_TESTS_CRASH_DB_H
#define SYNA_TESTS_CRASH_DB_H

#include "crash_states.h"
#include "script.h"

#define CRASH_DB_PATH MEM_DIR "/a.db"

struct crash_db {
    /* -- what to do; set before crash_db_record */
    const char *name;
    struct script script;
    uint64_t seed;
    enum record_mistake mistake;
    uint32_t again; /* one state in this many is crashed a second time; 0 = none */

    /* -- what was recorded */
    struct mem_fs *start; /* NULL: nothing was there */
    struct trace *trace;
    struct script_state states[SCRIPT_OPS + 1]; /* after n operations */

    /* -- how it went */
    uint64_t second_states;
    uint32_t depth; /* 1 inside a second crash */
};

/* Run the script once; every call must succeed and agree with the model (from an empty start).
 * false: `why` tells what did not. */
bool crash_db_record(struct crash_db *w, char *why, size_t cap);
void crash_db_dispose(struct crash_db *w);

/* The crash_check of crash_states.h; context is a struct crash_db. */
bool crash_db_check(void *context, struct mem_fs *image, const struct crash_point *at, char *why,
                    size_t cap);

/* Record, enumerate about `budget` states (0: all), and report: on failure the script is shortened
 * while it still fails and the failing trace is written to a file whose path is printed. */
bool crash_db_run(struct crash_db *w, uint64_t budget, struct crash_result *out);

/* Run a kept trace file again: its state exactly, when the trace still has it, and in any case all
 * states of its script. */
bool crash_db_replay(const char *file, bool print);

#endif
