/* The mistakes of RELIABILITY 2, each made on the engine's behalf by the recording table: T1 and T2
 * have to catch every one. A suite that passes with the mistake in it would prove nothing. */
#include "check.h"

#include "crash_db.h"
#include "workloads.h"

enum { BUDGET = 3000 };

/* A tail of three unsynced frames, each as long as the one that comes after the second crash: cut
 * carelessly, the last of them fits behind it. */
static const char three_alike[] = "open 0 0 null 0 0 1\n"
                                  "put 0 1 text 40 9001 0\n"
                                  "put 0 1 text 40 9002 0\n"
                                  "put 0 1 text 40 9003 0\n";

static const char *script_of(const char *name)
{
    if (strcmp(name, "three-alike") == 0)
        return three_alike;
    for (size_t i = 0; i < COUNT_OF(workloads); i++)
        if (strcmp(workloads[i].name, name) == 0)
            return workloads[i].script;
    check_fail(__FILE__, __LINE__, "no workload is named %s", name);
}

static bool survives(enum record_mistake mistake, const char *workload, uint32_t again)
{
    struct crash_db *w = calloc(1, sizeof *w);
    struct crash_result result;
    CHECK(w != NULL);
    w->name = workload;
    w->seed = 1;
    w->mistake = mistake;
    w->again = again;
    CHECK(script_parse(&w->script, script_of(workload)));
    bool good = crash_db_run(w, BUDGET, &result);
    printf("%-15s in %-20s %s after %llu + %llu states: %s\n", record_mistake_name(mistake),
           workload, good ? "survives" : "fails", (unsigned long long)result.states,
           (unsigned long long)w->second_states, result.why);
    CHECK(result.states > 0);
    crash_db_dispose(w);
    free(w);
    return good;
}

/* again: what shows only after a second crash needs many of them. */
static void must_be_caught(enum record_mistake mistake, const char *workload, uint32_t again)
{
    check_note("%s in %s", record_mistake_name(mistake), workload);
    CHECK(!survives(mistake, workload, again));
}

/* What fails below fails because of the mistake. */
TEST(without_a_mistake_the_same_workloads_survive)
{
    CHECK(survives(MISTAKE_NONE, "synced-puts", 0));
    CHECK(survives(MISTAKE_NONE, "unsynced-puts", 0));
    CHECK(survives(MISTAKE_NONE, "batches", 0));
    CHECK(survives(MISTAKE_NONE, "shared-compaction", 0));
    CHECK(survives(MISTAKE_NONE, "three-alike", 25));
}

TEST(a_directory_that_is_not_synced_is_caught)
{
    must_be_caught(MISTAKE_NO_SYNC_DIR, "synced-puts", 0);
    must_be_caught(MISTAKE_NO_SYNC_DIR, "shared-compaction", 0);
}

TEST(a_commit_that_is_not_synced_is_caught)
{
    must_be_caught(MISTAKE_NO_SYNC, "synced-puts", 0);
    must_be_caught(MISTAKE_NO_SYNC, "unsynced-puts", 0);
}

TEST(a_new_file_that_is_named_before_it_is_synced_is_caught)
{
    must_be_caught(MISTAKE_NO_SYNC_TEMP, "synced-puts", 0);
    must_be_caught(MISTAKE_NO_SYNC_TEMP, "shared-compaction", 0);
    must_be_caught(MISTAKE_RENAME_FIRST, "shared-compaction", 0);
}

TEST(rewriting_in_place_is_caught)
{
    must_be_caught(MISTAKE_IN_PLACE, "shared-compaction", 0);
}

TEST(a_cut_that_is_not_synced_is_caught)
{
    must_be_caught(MISTAKE_NO_SYNC_CUT, "three-alike", 5);
}

TEST(a_cut_of_the_first_bytes_only_is_caught)
{
    must_be_caught(MISTAKE_CUT_HEAD, "three-alike", 5);
}

TEST(a_batch_whose_frames_all_say_commit_is_caught)
{
    must_be_caught(MISTAKE_ALWAYS_COMMIT, "batches", 0);
}

TEST(a_commit_that_claims_what_was_not_synced_is_caught)
{
    must_be_caught(MISTAKE_ALWAYS_DURABLE, "unsynced-puts", 0);
}
