/* T1 and T2: every state that a power loss could leave of the workloads, and of pseudorandom
 * scripts, and again after a second crash. One seed decides all ($CHECK_SEED), CHECK_SCALE
 * multiplies the number of states. */
#include "check.h"

#include "crash_db.h"
#include "workloads.h"

#include <dirent.h>

/* States of T1 in a push: a bound, workloads with fewer combinations do not reach their share of it,
 * and how many those have follows the lengths of the paths, too. LEAST there must be. One state in
 * AGAIN is crashed a second time, in about AGAIN states. */
enum {
    STATES = 700000,
    LEAST = 225000,
    ROUND_STATES = 1600000,
    AGAIN = 120,
    RANDOM_SCRIPTS = 20,
    RANDOM_STATES = 1500
};

static uint64_t states, second_states, bad;
static double seconds;

static double clock_now(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + (double)t.tv_nsec / 1e9;
}

static bool survive(const char *name, const struct script *script, uint64_t budget)
{
    struct crash_db *w = calloc(1, sizeof *w);
    struct crash_result result;
    CHECK(w != NULL);
    w->name = name;
    w->script = *script;
    w->seed = check_random();
    w->again = AGAIN;
    double start = clock_now();
    bool good = crash_db_run(w, budget, &result);
    printf("%-26s %7llu states of %.3g at %llu points, %6llu after a second crash, %.1f s\n", name,
           (unsigned long long)result.states, (double)result.combinations,
           (unsigned long long)result.prefixes, (unsigned long long)w->second_states,
           clock_now() - start);
    fflush(stdout);
    states += result.states;
    second_states += w->second_states;
    bad += !good;
    seconds += clock_now() - start;
    crash_db_dispose(w);
    free(w);
    return good;
}

/* All workloads once, with about this many states together; how many of them failed. */
static int survive_all(uint64_t budget)
{
    double shares = 0;
    int failed = 0;
    for (size_t i = 0; i < COUNT_OF(workloads); i++)
        shares += workloads[i].share;
    for (size_t i = 0; i < COUNT_OF(workloads); i++) {
        struct script script;
        check_note("%s", workloads[i].name);
        CHECK(script_parse(&script, workloads[i].script));
        failed += !survive(workloads[i].name, &script,
                           (uint64_t)((double)budget * workloads[i].share / shares));
    }
    return failed;
}

/* More states than ROUND_STATES come from other seeds: there are only so many to a prefix. */
TEST(P1_P2_P3_P5_P6_every_crash_state_of_every_workload)
{
    int failed = 0;
    for (int64_t left = check_rounds(STATES); left > 0; left -= ROUND_STATES)
        failed += survive_all((uint64_t)MIN(left, (int64_t)ROUND_STATES));
    CHECK_EQ(failed, 0);
    printf("%llu crash states and %llu after a second crash in %.1f s, %llu bad\n",
           (unsigned long long)states, (unsigned long long)second_states, seconds,
           (unsigned long long)bad);
    CHECK(states >= (uint64_t)MIN(check_rounds(LEAST), LEAST));
    CHECK(second_states >= (uint64_t)MIN(check_rounds(LEAST / 4), LEAST / 4));
}

TEST(P1_P2_P3_P5_P6_crash_states_of_random_scripts)
{
    int failed = 0;
    for (int64_t i = 0; i < check_rounds(RANDOM_SCRIPTS); i++) {
        struct script script;
        char name[32];
        uint64_t seed = check_random();
        script_random(&script, seed, 14, seed % 3 ? OPEN_NO_SYNC : 0);
        snprintf(name, sizeof name, "random-%lld", (long long)i);
        failed += !survive(name, &script, RANDOM_STATES);
    }
    CHECK_EQ(failed, 0);
}

/* Every trace that ever failed stays here. */
TEST(traces_that_failed_once_pass_now)
{
    DIR *folder = opendir(CRASH_TRACE_FOLDER);
    struct dirent *entry;
    CHECK(folder != NULL);
    while ((entry = readdir(folder))) {
        char path[1024];
        if (!strstr(entry->d_name, ".trace"))
            continue;
        snprintf(path, sizeof path, "%s/%s", CRASH_TRACE_FOLDER, entry->d_name);
        check_note("%s", entry->d_name);
        CHECK(crash_db_replay(path, false));
    }
    closedir(folder);
}
