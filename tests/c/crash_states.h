/* Everything a power loss can leave (RELIABILITY 5, T1): each prefix of a trace, and for each
 * prefix the combinations of what happened to the effects that no sync had made certain:
 *
 *   bytes written   complete, absent, zeros (the size grew first), head only, head and then zeros,
 *                   tail only; cut at sector edges and at every byte of the first 64. Stores
 * through a map count per page. One choice per effect sizes           set or not names set or not,
 * since the last sync of the directory; a rename may also leave both
 *
 * Up to CRASH_COMBINATIONS per prefix are tried one by one; beyond that, or beyond the budget, the
 * telling ones first (nothing, everything, all but one, only one) and then a seeded sample. */
#ifndef SYNA_TESTS_CRASH_STATES_H
#define SYNA_TESTS_CRASH_STATES_H

#include "vfs_mem.h"
#include "vfs_record.h"

#define CRASH_COMBINATIONS 4000u

/* Marks that workloads set (record_mark) and checks get back: the value of the last one of its kind
 * in the prefix. Values only grow. */
enum crash_mark {
    MARK_BEGUN,   /* operations begun */
    MARK_ACKED,   /* acknowledged */
    MARK_DURABLE, /* acknowledged and promised to survive power loss */
    CRASH_MARKS
};

struct crash_point {
    size_t prefix; /* effects of the trace that were issued */
    uint64_t marks[CRASH_MARKS];
    bool complete; /* everything issued is there: what kill -9 leaves */
    /* What was chosen for the uncertain effects, in their order: the same prefix and choices give
     * the same image again. */
    const uint32_t *choices;
    size_t choice_count;
    uint64_t number; /* of the state in this run */
};

/* Recover from `image` (it may be changed) and compare with what the marks promise. false: `why`
 * was filled with one line. */
typedef bool (*crash_check)(void *context, struct mem_fs *image, const struct crash_point *at,
                            char *why, size_t cap);

struct crash_plan {
    const struct trace *trace;
    const struct mem_fs *start; /* the file system when the trace began */
    uint64_t seed;
    uint64_t budget; /* states, about; 0 = all that CRASH_COMBINATIONS allows */
    crash_check check;
    void *context;
};

#define CRASH_CHOICES 64u
struct crash_result {
    uint64_t states, prefixes, combinations; /* combinations: how many there would be in all */
    bool failed;                             /* then the rest describes the first failure */
    size_t prefix;
    uint32_t choices[CRASH_CHOICES];
    size_t choice_count;
    char why[512];
};

/* Stops at the first failure. */
void crash_enumerate(const struct crash_plan *plan, struct crash_result *out);

/* For a check that has closed what it opened: no descriptor is open, as many heap blocks live as the
 * `blocks` of before, and the file system met no misuse; otherwise `why` says what. */
bool crash_left_nothing(const struct mem_fs *image, int64_t blocks, char *why, size_t cap);

/* For a test: enumerate the states of a trace of the table in memory that began with nothing, with the real
 * table back at the end, and print under `name` how it went. */
bool crash_survives(const char *name, const struct trace *trace, uint64_t seed, uint64_t budget,
                    crash_check check, void *context);

/* One state of a trace again. false: the trace has no such state (it changed). */
bool crash_image(const struct trace *trace, const struct mem_fs *start, size_t prefix,
                 const uint32_t *choices, size_t count, struct mem_fs *image,
                 struct crash_point *at);

/* One state after the whole trace, chosen by the seed. */
void crash_sample(const struct trace *trace, const struct mem_fs *start, uint64_t seed,
                  struct mem_fs *image);

/* Make a failing state simpler: choices that need not be special become "complete". */
void crash_simplify(const struct crash_plan *plan, struct crash_result *failure);

/* Describe a choice, e.g. "head of 17 bytes". */
void crash_print(const struct trace *trace, const struct mem_fs *start,
                 const struct crash_result *failure, FILE *to);

#endif
