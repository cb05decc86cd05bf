/* The C example of the documents that this library was made from, as it stands there (seed_example.inc,
 * character for character), run in a folder of its own. */
#include "check.h"

#include <synadb/kv.h>

#pragma GCC diagnostic push
#pragma GCC diagnostic ignored "-Wstrict-prototypes"
#define main seed_main
#include "seed_example.inc"
#undef main
#pragma GCC diagnostic pop

static void run_seed(void *output)
{
    CHECK_EQ(chdir(check_path("")), 0);
    CHECK(freopen(output, "w", stdout) != NULL);
    CHECK_EQ(seed_main(), 0);
    fflush(stdout);
}

TEST(the_example_for_c_prints_what_it_announces_and_leaves_what_it_wrote)
{
    const char *output = check_path("output"), *path = check_path("my_data.db");
    char text[200] = "";
    CHECK_EQ(check_child(run_seed, (void *)(uintptr_t)output), 0);
    FILE *f = fopen(output, "r");
    CHECK(f != NULL);
    text[fread(text, 1, sizeof text - 1, f)] = 0;
    fclose(f);
    CHECK_STR(text, "Temperature: 24.100000\nHistory (2 values): 23.500000 24.100000\n");

    CHECK_EQ(syna_open(path), 1);
    CHECK_EQ(syna_exists(path, "count"), 0);
    CHECK_EQ(syna_exists(path, "name"), 1);
    size_t len;
    double *history = syna_get_history_tensor(path, "temperature", &len);
    CHECK_EQ(len, 1); /* compacted */
    CHECK(history[0] == 24.1);
    syna_free_tensor(history, len);
    CHECK_EQ(syna_close(path), 1);
}
