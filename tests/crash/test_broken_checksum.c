/* One more broken variant: a core without checksums. This program brings its own copy of
 * store/frame.c, in which every checksum is 0; T1 has to see wrong data. */
#include "check.h"

#include "base/crc32c.h"

static uint32_t no_checksum(uint32_t so_far, const void *bytes, size_t len)
{
    (void)so_far;
    (void)bytes;
    (void)len;
    return 0;
}

#define crc32c no_checksum
#include "../../csrc/store/frame.c"
#undef crc32c

#include "crash_db.h"

TEST(frames_without_a_checksum_are_caught)
{
    struct crash_db *w = calloc(1, sizeof *w);
    struct crash_result result;
    CHECK(w != NULL);
    w->name = "no checksum";
    w->seed = check_random();
    CHECK(script_parse(&w->script, "open 0 0 null 0 0 0\n"
                                   "put 0 0 text 40 1 0\n"
                                   "put 0 1 text 40 2 0\n"
                                   "close 0 0 null 0 0 0\n"));
    char why[512];
    CHECK(crash_db_record(w, why, sizeof why));
    struct crash_plan plan = {w->trace, NULL, w->seed, 0, crash_db_check, w};
    crash_enumerate(&plan, &result);
    printf("no checksum: %s after %llu states: %s\n", result.failed ? "caught" : "NOT CAUGHT",
           (unsigned long long)result.states, result.why);
    crash_db_dispose(w);
    free(w);
    CHECK(result.failed);
    CHECK(strstr(result.why, "never was") != NULL);
}
