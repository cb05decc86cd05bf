/* The C interface of experiments: the seeds' path-keyed calls, handles, what a crash leaves, every kind of
 * bad argument, every failure of memory. */
#include "check.h"

#include <math.h>
#include <signal.h>
#include <synadb/experiment.h>

static const char *new_tracker(const char *name)
{
    const char *path = check_path(name);
    CHECK_OK(syna_exp_tracker_open(path));
    return path;
}

static void start(const char *path, const char *experiment, char id[SYNA_RUN_ID_ROOM])
{
    char *text = NULL;
    size_t len = 0;
    CHECK_OK(syna_exp_start_run(path, experiment, "[\"t1\"]", &text, &len));
    CHECK_EQ(len, 36);
    memcpy(id, text, SYNA_RUN_ID_ROOM);
    syna_free_text(text, len);
}

static syna_db *open_db(const char *path, uint8_t shared)
{
    syna_db *db = NULL;
    syna_db_options o = {.size = sizeof o, .no_sync = 1, .shared = shared};
    CHECK_OK(syna_db_open(path, &o, &db));
    return db;
}

TEST(the_seeds_calls_log_a_run)
{
    const char *path = new_tracker("e.db");
    char id[SYNA_RUN_ID_ROOM];
    start(path, "mnist", id);
    CHECK_OK(syna_exp_log_param(path, id, "lr", "0.001"));
    CHECK_OK(syna_exp_log_param(path, id, "empty", ""));
    for (int64_t i = 0; i < 5; i++)
        CHECK_OK(syna_exp_log_metric(path, id, "loss", 1.0 / (double)(i + 1), i));
    CHECK_OK(syna_exp_log_metric(path, id, "loss", 0.5, -1));
    CHECK_OK(syna_exp_log_artifact(path, id, "a/b.bin", (const uint8_t *)"abc", 3));
    CHECK_OK(syna_exp_log_artifact(path, id, "nothing", NULL, 0));
    CHECK_OK(syna_exp_end_run(path, id, SYNA_RUN_COMPLETED));
    CHECK_FAILS(syna_exp_end_run(path, id, SYNA_RUN_COMPLETED), SYNA_ERR_GENERIC, SYNA_WHY_CLOSED);
    CHECK_FAILS(syna_exp_log_metric(path, id, "loss", 1, -1), SYNA_ERR_GENERIC, SYNA_WHY_CLOSED);
    CHECK_FAILS(syna_exp_log_param(path, id, "a", "b"), SYNA_ERR_GENERIC, SYNA_WHY_CLOSED);
    CHECK_OK(syna_exp_tracker_close(path));
    CHECK_FAILS(syna_exp_log_param(path, id, "a", "b"), SYNA_ERR_DB_NOT_FOUND, SYNA_WHY_CLOSED);
    CHECK_FAILS(syna_exp_tracker_close(path), SYNA_ERR_DB_NOT_FOUND, SYNA_WHY_CLOSED);

    syna_db *db = open_db(path, 0); /* it is an ordinary database */
    char key[200];
    char buf[64];
    size_t len;
    int32_t type;
    snprintf(key, sizeof key, "exp/mnist/run/%s/param/lr", id);
    CHECK_OK(syna_db_get(db, key, strlen(key), buf, sizeof buf, &len, &type));
    CHECK_EQ(len, 5);
    CHECK_MEM(buf, "0.001", 5);
    snprintf(key, sizeof key, "exp/mnist/run/%s/artifact/a/b.bin", id);
    CHECK_OK(syna_db_get(db, key, strlen(key), buf, sizeof buf, &len, &type));
    CHECK_MEM(buf, "abc", 3);
    syna_metric_stats s = {.size = sizeof s};
    CHECK_OK(syna_run_metric_stats(db, id, "loss", &s));
    CHECK_EQ(s.count, 6);
    CHECK_EQ(s.latest_step, 5);
    CHECK(s.latest == 0.5 && s.min == 0.2 && s.max == 1.0);
    CHECK_OK(syna_db_close(db));
}

struct seen {
    int count;
    char id[SYNA_RUN_ID_ROOM];
    char json[500];
    double value;
    int64_t step;
};

static int32_t see_run(void *context, const char *run_id, const char *json, size_t len)
{
    struct seen *s = context;
    s->count++;
    CHECK_EQ(strlen(json), len);
    snprintf(s->id, sizeof s->id, "%s", run_id);
    snprintf(s->json, sizeof s->json, "%s", json);
    return 0;
}

static int32_t see_latest(void *context, const char *run_id, int64_t step, double value)
{
    struct seen *s = context;
    s->count++;
    snprintf(s->id, sizeof s->id, "%s", run_id);
    s->step = step;
    s->value = value;
    return 0;
}

static int32_t stop_at_once(void *context, const char *run_id, int64_t step, double value)
{
    (void)run_id, (void)step, (void)value;
    ++*(int *)context;
    return 1;
}

static void log_one(syna_db *db, const char *id, const char *name, double value, int64_t step)
{
    CHECK_OK(syna_run_log_metrics(db, id, &name, &value, 1, step));
}

static void start_in(syna_db *db, const char *experiment, char id[SYNA_RUN_ID_ROOM])
{
    syna_run_options o = {.size = sizeof o, .experiment = experiment};
    CHECK_OK(syna_run_start(db, &o, id));
}

TEST(runs_are_listed_by_experiment_whatever_its_name)
{
    syna_db *db = open_db(check_path("e.db"), 0);
    const char *names[] = {"a", "a/b", "a/run/b", "a%2Fb", "run", ".run"};
    char id[COUNT_OF(names)][SYNA_RUN_ID_ROOM];
    for (size_t i = 0; i < COUNT_OF(names); i++)
        start_in(db, names[i], id[i]);
    log_one(db, id[0], "x/run/y/meta", 1, -1); /* looks like a run */
    for (size_t i = 0; i < COUNT_OF(names); i++) {
        struct seen s = {0};
        check_note("%s", names[i]);
        CHECK_OK(syna_runs(db, names[i], see_run, &s));
        CHECK_EQ(s.count, 1);
        CHECK_STR(s.id, id[i]);
    }
    struct seen all = {0};
    CHECK_OK(syna_runs(db, NULL, see_run, &all));
    CHECK_EQ(all.count, COUNT_OF(names));
    CHECK_OK(syna_db_close(db));
}

TEST(the_record_of_a_run_says_what_it_was_given)
{
    syna_db *db = open_db(check_path("e.db"), 0);
    char parent[SYNA_RUN_ID_ROOM], id[SYNA_RUN_ID_ROOM];
    start_in(db, "p", parent);
    syna_run_options o = {.size = sizeof o,
                          .experiment = "quote\"d",
                          .tags_json = "[\"x\", \"y\"]",
                          .parent = parent,
                          .system_json = "{\"python\":\"3\"}"};
    CHECK_OK(syna_run_start(db, &o, id));
    CHECK_OK(syna_run_set_tags(db, id, "[\"z\"]"));
    CHECK_OK(syna_run_end(db, id, SYNA_RUN_KILLED));
    char *json = NULL;
    CHECK_OK(syna_run_meta(db, id, &json));
    CHECK(strstr(json, "\"experiment_name\":\"quote\\\"d\""));
    CHECK(strstr(json, "\"status\":\"killed\""));
    CHECK(strstr(json, "\"tags\":[\"z\"]"));
    CHECK(strstr(json, parent));
    CHECK(!strstr(json, "\"ended_at\":null"));
    syna_free_text(json, strlen(json));
    CHECK_OK(syna_run_resume(db, id));
    CHECK_OK(syna_run_check(db, id));
    CHECK_OK(syna_run_meta(db, id, &json));
    CHECK(strstr(json, "\"status\":\"running\"") && strstr(json, "\"ended_at\":null"));
    syna_free_text(json, strlen(json));
    CHECK_OK(syna_db_close(db));
}

TEST(metrics_come_in_the_order_of_steps_and_the_last_of_two_counts)
{
    syna_db *db = open_db(check_path("e.db"), 0);
    char id[SYNA_RUN_ID_ROOM];
    start_in(db, "e", id);
    const int64_t logged[] = {3, 1, INT64_MAX - 1, 1, -1, 0};
    for (size_t i = 0; i < COUNT_OF(logged); i++)
        log_one(db, id, "m", (double)i, logged[i]);
    int64_t steps[8];
    double values[8];
    uint64_t times[8];
    size_t count;
    CHECK_OK(syna_run_metric(db, id, "m", steps, values, times, 8, &count));
    const int64_t want[] = {0, 1, 3, INT64_MAX - 1, INT64_MAX};
    const double want_values[] = {5, 3, 0, 2, 4};
    CHECK_EQ(count, COUNT_OF(want));
    CHECK_MEM(steps, want, sizeof want);
    CHECK_MEM(values, want_values, sizeof want_values);
    CHECK(times[0] >= times[1] && times[1] > 1000000000000000u);
    const char *name = "m";
    CHECK_FAILS(syna_run_log_metrics(db, id, &name, values, 1, -1), SYNA_ERR_GENERIC,
                SYNA_WHY_ARGUMENT); /* no step is left */
    syna_metric_stats s = {.size = sizeof s};
    CHECK_OK(syna_run_metric_stats(db, id, "m", &s));
    CHECK(s.latest == 4 && s.min == 0 && s.max == 5 && s.mean == 14.0 / 5 && s.count == 5);
    CHECK_OK(syna_run_metric(db, id, "other", NULL, NULL, NULL, 0, &count));
    CHECK_EQ(count, 0);
    CHECK_FAILS(syna_run_metric_stats(db, id, "other", &s), SYNA_ERR_KEY_NOT_FOUND, SYNA_WHY_NONE);
    CHECK_OK(syna_db_close(db));
}

/* Against the whole history: whatever is logged, the newest record tells the same. */
TEST(the_newest_record_knows_the_latest_value_of_any_history)
{
    syna_db *db = open_db(check_path("e.db"), 0);
    char id[SYNA_RUN_ID_ROOM];
    for (int round = 0; round < 30; round++) {
        start_in(db, "e", id);
        for (int i = 0; i < 40; i++) {
            bool by_count = check_random() % 3 > 0;
            log_one(db, id, "m", (double)(check_random() % 100),
                    by_count ? -1 : (int64_t)(check_random() % 50));
            int64_t steps[64];
            double values[64];
            size_t count;
            struct seen s = {0};
            CHECK_OK(syna_run_metric(db, id, "m", steps, values, NULL, 64, &count));
            CHECK_OK(syna_runs_latest(db, "e", "m", see_latest, &s));
            syna_metric_stats stats = {.size = sizeof stats};
            CHECK_OK(syna_run_metric_stats(db, id, "m", &stats));
            double least = INFINITY, greatest = -INFINITY, sum = 0;
            for (size_t k = 0; k < count; k++) {
                least = fmin(least, values[k]);
                greatest = fmax(greatest, values[k]);
                sum += values[k];
                CHECK(k == 0 || steps[k] > steps[k - 1]);
            }
            CHECK_EQ(s.step, steps[count - 1]);
            CHECK(s.value == values[count - 1] && stats.latest == s.value);
            CHECK(stats.min == least && stats.max == greatest && stats.mean == sum / (double)count);
            CHECK_EQ(stats.count, count);
        }
        CHECK_OK(syna_run_delete(db, id, NULL));
    }
    CHECK_OK(syna_db_close(db));
}

TEST(a_metric_survives_both_kinds_of_compaction)
{
    syna_db *db = open_db(check_path("e.db"), 0);
    char id[SYNA_RUN_ID_ROOM];
    start_in(db, "e", id);
    for (int i = 0; i < 10; i++)
        log_one(db, id, "m", 10 - i, -1);
    CHECK_OK(syna_db_compact(db, SYNA_COMPACT_HISTORY, NULL, NULL));
    log_one(db, id, "m", 20, -1);
    syna_metric_stats s = {.size = sizeof s};
    CHECK_OK(syna_run_metric_stats(db, id, "m", &s));
    CHECK(s.count == 11 && s.max == 20 && s.min == 1 && s.latest_step == 10);
    CHECK_OK(syna_db_compact(db, SYNA_COMPACT_LATEST, NULL, NULL));
    CHECK_OK(syna_run_metric_stats(db, id, "m", &s)); /* one point is left, with its step */
    CHECK(s.count == 1 && s.min == 20 && s.latest_step == 10);
    log_one(db, id, "m", 1, -1);
    CHECK_OK(syna_run_metric_stats(db, id, "m", &s));
    CHECK(s.count == 2 && s.min == 1 && s.max == 20 && s.latest_step == 11);
    CHECK_OK(syna_db_close(db));
}

TEST(the_latest_values_are_those_of_the_experiment_asked_for)
{
    syna_db *db = open_db(check_path("e.db"), 0);
    char a[SYNA_RUN_ID_ROOM], b[SYNA_RUN_ID_ROOM], c[SYNA_RUN_ID_ROOM];
    start_in(db, "e", a);
    start_in(db, "f", b);
    start_in(db, "e", c);
    log_one(db, a, "m", 1, 3);
    log_one(db, b, "m", 2, 4);
    log_one(db, c, "m/n", 3, 5);
    struct seen s = {0};
    CHECK_OK(syna_runs_latest(db, "e", "m", see_latest, &s));
    CHECK(s.count == 1 && s.value == 1 && s.step == 3);
    CHECK_STR(s.id, a);
    s = (struct seen){0};
    CHECK_OK(syna_runs_latest(db, NULL, "m", see_latest, &s));
    CHECK_EQ(s.count, 2);
    int stopped = 0;
    CHECK_OK(syna_runs_latest(db, NULL, "m", stop_at_once, &stopped));
    CHECK_EQ(stopped, 1);
    CHECK_OK(syna_db_close(db));
}

TEST(deleting_a_run_takes_all_of_it_and_nothing_else)
{
    syna_db *db = open_db(check_path("e.db"), 0);
    char a[SYNA_RUN_ID_ROOM], b[SYNA_RUN_ID_ROOM];
    const char *name = "p", *value = "v";
    start_in(db, "e", a);
    start_in(db, "e", b);
    log_one(db, a, "m", 1, -1);
    CHECK_OK(syna_run_log_params(db, a, &name, &value, 1));
    CHECK_OK(syna_run_log_artifact(db, a, "x", "y", 1, "kind"));
    int64_t deleted = 0, before = syna_db_count(db);
    CHECK_OK(syna_run_delete(db, a, &deleted));
    CHECK_EQ(deleted, 6); /* pointer, record, metric, param, artifact, kind */
    CHECK_EQ(syna_db_count(db), before - 6);
    CHECK_FAILS(syna_run_check(db, a), SYNA_ERR_KEY_NOT_FOUND, SYNA_WHY_NONE);
    CHECK_FAILS(syna_run_delete(db, a, &deleted), SYNA_ERR_KEY_NOT_FOUND, SYNA_WHY_NONE);
    CHECK_OK(syna_run_check(db, b));
    CHECK_OK(syna_db_close(db));
}

TEST(an_artifact_without_a_kind_takes_the_old_kind_away)
{
    syna_db *db = open_db(check_path("e.db"), 0);
    char id[SYNA_RUN_ID_ROOM], key[200];
    start_in(db, "e", id);
    snprintf(key, sizeof key, "exp/e/run/%s/kind/x", id);
    CHECK_OK(syna_run_log_artifact(db, id, "x", "{}", 2, "json"));
    CHECK_EQ(syna_db_exists(db, key, strlen(key)), 1);
    CHECK_OK(syna_run_log_artifact(db, id, "x", "{}", 2, NULL));
    CHECK_EQ(syna_db_exists(db, key, strlen(key)), 0);
    CHECK_OK(syna_db_close(db));
}

/* ---------------------------------------------------------------- processes */

static void log_until_killed(void *context)
{
    const char *path = context;
    char id[SYNA_RUN_ID_ROOM];
    CHECK_OK(syna_exp_tracker_open(path));
    start(path, "e", id);
    CHECK_OK(syna_exp_log_param(path, id, "p", "v"));
    for (int i = 0; i < 500; i++)
        CHECK_OK(syna_exp_log_metric(path, id, "m", i, -1));
    kill(getpid(), SIGKILL);
}

TEST(P2_a_killed_process_leaves_its_run_readable_and_running)
{
    char path[600];
    snprintf(path, sizeof path, "%s", check_path("e.db"));
    int status = check_child(log_until_killed, path);
    CHECK(WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL);
    syna_db *db = open_db(path, 1);
    struct seen s = {0};
    size_t count;
    CHECK_OK(syna_runs(db, "e", see_run, &s));
    CHECK_EQ(s.count, 1);
    CHECK(strstr(s.json, "\"status\":\"running\""));
    CHECK_OK(syna_run_metric(db, s.id, "m", NULL, NULL, NULL, 0, &count));
    CHECK_EQ(count, 500); /* not one that was acknowledged is missing */
    CHECK_OK(syna_run_resume(db, s.id));
    log_one(db, s.id, "m", 1, -1);
    CHECK_OK(syna_run_end(db, s.id, SYNA_RUN_COMPLETED));
    CHECK_OK(syna_db_close(db));
}

enum { LOGGERS = 4, EACH = 150 };

struct logger {
    char path[600];
    char id[SYNA_RUN_ID_ROOM];
    int number;
};

static void log_many(void *context)
{
    struct logger *l = context;
    CHECK_OK(syna_exp_tracker_open(l->path));
    for (int i = 0; i < EACH; i++)
        CHECK_OK(syna_exp_log_metric(l->path, l->id, "m", l->number * 1000 + i, -1));
    CHECK_OK(syna_exp_tracker_close(l->path));
}

TEST(P9_processes_and_threads_that_log_one_metric_at_once_lose_nothing)
{
    struct logger loggers[LOGGERS];
    pid_t children[LOGGERS];
    char path[600], id[SYNA_RUN_ID_ROOM];
    snprintf(path, sizeof path, "%s", check_path("e.db"));
    CHECK_OK(syna_exp_tracker_open(path));
    start(path, "e", id);
    CHECK_OK(syna_exp_tracker_close(path));
    for (int i = 0; i < LOGGERS; i++) {
        loggers[i].number = i;
        memcpy(loggers[i].path, path, sizeof path);
        memcpy(loggers[i].id, id, sizeof id);
        children[i] = fork();
        CHECK(children[i] >= 0);
        if (children[i] == 0) {
            log_many(&loggers[i]);
            _exit(0);
        }
    }
    for (int i = 0; i < LOGGERS; i++) {
        int status;
        CHECK_EQ(waitpid(children[i], &status, 0), children[i]);
        CHECK_EQ(status, 0);
    }
    syna_db *db = open_db(path, 0);
    static int64_t steps[LOGGERS * EACH];
    static double values[LOGGERS * EACH];
    static bool seen[LOGGERS][EACH];
    size_t count;
    CHECK_OK(syna_run_metric(db, id, "m", steps, values, NULL, LOGGERS * EACH, &count));
    CHECK_EQ(count, LOGGERS * EACH);
    for (size_t i = 0; i < count; i++) {
        CHECK_EQ(steps[i], i);
        seen[(int)values[i] / 1000][(int)values[i] % 1000] = true;
    }
    for (int i = 0; i < LOGGERS * EACH; i++)
        CHECK(seen[i / EACH][i % EACH]);
    syna_metric_stats s = {.size = sizeof s};
    CHECK_OK(syna_run_metric_stats(db, id, "m", &s));
    CHECK(s.count == LOGGERS * EACH && s.latest == values[count - 1]);
    CHECK(s.min == 0 && s.max == (LOGGERS - 1) * 1000 + EACH - 1);
    CHECK_OK(syna_db_close(db));
}

struct syncing {
    syna_db *db;
    char id[SYNA_RUN_ID_ROOM];
};

static void *log_synced(void *context)
{
    struct syncing *s = context;
    for (int i = 0; i < 20; i++)
        log_one(s->db, s->id, "m", i, -1);
    return NULL;
}

TEST(concurrent_loggers_share_their_syncs)
{
    struct syncing s = {0};
    syna_db_options o = {.size = sizeof o, .shared = 1};
    CHECK_OK(syna_db_open(check_path("e.db"), &o, &s.db));
    start_in(s.db, "e", s.id);
    syna_db_stats before = {.size = sizeof before}, after = {.size = sizeof after};
    CHECK_OK(syna_db_get_stats(s.db, &before));
    pthread_t threads[LOGGERS];
    for (int i = 0; i < LOGGERS; i++)
        CHECK_EQ(pthread_create(&threads[i], NULL, log_synced, &s), 0);
    for (int i = 0; i < LOGGERS; i++)
        pthread_join(threads[i], NULL);
    CHECK_OK(syna_db_get_stats(s.db, &after));
    CHECK_EQ(after.commits - before.commits, LOGGERS * 20);
    CHECK(after.syncs - before.syncs <= LOGGERS * 20); /* never more than one a commit */
    size_t count;
    CHECK_OK(syna_run_metric(s.db, s.id, "m", NULL, NULL, NULL, 0, &count));
    CHECK_EQ(count, LOGGERS * 20);
    CHECK_OK(syna_db_close(s.db));
}

TEST(a_tracker_uses_a_database_that_is_open_here_already)
{
    const char *path = check_path("e.db");
    syna_db *db = open_db(path, 0);
    char id[SYNA_RUN_ID_ROOM];
    CHECK_OK(syna_exp_tracker_open(path));
    start(path, "e", id);
    CHECK_OK(syna_run_check(db, id));
    CHECK_OK(syna_exp_tracker_close(path));
    CHECK_OK(syna_db_close(db));
}

/* ---------------------------------------------------------------- bad input, failures */

TEST(bad_arguments_are_refused_and_change_nothing)
{
    const char *path = new_tracker("e.db");
    char id[SYNA_RUN_ID_ROOM], *text = NULL;
    start(path, "e", id);
    syna_db *db = open_db(path, 1);
    int64_t keys = syna_db_count(db);
    CHECK_RC(syna_exp_start_run(path, NULL, NULL, &text, NULL), SYNA_ERR_INVALID_PATH);
    CHECK_RC(syna_exp_start_run(path, "e", NULL, NULL, NULL), SYNA_ERR_INVALID_PATH);
    CHECK_RC(syna_exp_start_run(NULL, "e", NULL, &text, NULL), SYNA_ERR_INVALID_PATH);
    CHECK_RC(syna_exp_start_run(path, "", NULL, &text, NULL), SYNA_ERR_EMPTY_KEY);
    CHECK_RC(syna_exp_start_run(path, "\xff", NULL, &text, NULL), SYNA_ERR_INVALID_PATH);
    CHECK_FAILS(syna_exp_start_run(path, "e", "[1]", &text, NULL), SYNA_ERR_GENERIC,
                SYNA_WHY_ARGUMENT);
    CHECK_FAILS(syna_exp_start_run(path, "e", "tag", &text, NULL), SYNA_ERR_GENERIC,
                SYNA_WHY_ARGUMENT);
    CHECK(text == NULL);
    CHECK_RC(syna_exp_log_metric(path, "nobody", "m", 1, 0), SYNA_ERR_KEY_NOT_FOUND);
    CHECK_RC(syna_exp_log_metric(path, "", "m", 1, 0), SYNA_ERR_KEY_NOT_FOUND);
    CHECK_RC(syna_exp_log_metric(path, id, "", 1, 0), SYNA_ERR_EMPTY_KEY);
    CHECK_RC(syna_exp_log_metric(path, id, NULL, 1, 0), SYNA_ERR_INVALID_PATH);
    CHECK_RC(syna_exp_log_metric(path, NULL, "m", 1, 0), SYNA_ERR_INVALID_PATH);
    CHECK_RC(syna_exp_log_param(path, id, "p", NULL), SYNA_ERR_INVALID_PATH);
    CHECK_RC(syna_exp_log_param(path, id, "p", "\xff"), SYNA_ERR_INVALID_PATH);
    CHECK_RC(syna_exp_log_artifact(path, id, "a", NULL, 3), SYNA_ERR_INVALID_PATH);
    CHECK_FAILS(syna_exp_end_run(path, id, SYNA_RUN_RUNNING), SYNA_ERR_GENERIC, SYNA_WHY_ARGUMENT);
    CHECK_FAILS(syna_exp_end_run(path, id, 4), SYNA_ERR_GENERIC, SYNA_WHY_ARGUMENT);
    char *longer = malloc(70000);
    memset(longer, 'x', 69999);
    longer[69999] = 0;
    CHECK_RC(syna_exp_log_param(path, id, longer, "v"), SYNA_ERR_KEY_TOO_LONG);
    CHECK_RC(syna_exp_start_run(path, longer, NULL, &text, NULL), SYNA_ERR_KEY_TOO_LONG);
    free(longer);
    char fresh[SYNA_RUN_ID_ROOM];
    syna_run_options o = {.size = sizeof o, .experiment = "e", .parent = "nobody"};
    CHECK_RC(syna_run_start(db, &o, fresh), SYNA_ERR_KEY_NOT_FOUND);
    o = (syna_run_options){.size = sizeof o, .experiment = "e", .system_json = "[]"};
    CHECK_FAILS(syna_run_start(db, &o, fresh), SYNA_ERR_GENERIC, SYNA_WHY_ARGUMENT);
    o.size = 2;
    CHECK_FAILS(syna_run_start(db, &o, fresh), SYNA_ERR_INVALID_PATH, SYNA_WHY_ARGUMENT);
    CHECK_FAILS(syna_run_set_tags(db, id, "{}"), SYNA_ERR_GENERIC, SYNA_WHY_ARGUMENT);
    CHECK_EQ(syna_db_count(db), keys);
    CHECK_OK(syna_run_check(db, id));
    CHECK_OK(syna_db_close(db));
    CHECK_OK(syna_exp_tracker_close(path));
}

TEST(a_batch_of_metrics_with_one_bad_name_logs_none)
{
    syna_db *db = open_db(check_path("e.db"), 0);
    char id[SYNA_RUN_ID_ROOM];
    start_in(db, "e", id);
    const char *names[] = {"a", "", "c"};
    const double values[] = {1, 2, 3};
    size_t count;
    CHECK_RC(syna_run_log_metrics(db, id, names, values, 3, 0), SYNA_ERR_EMPTY_KEY);
    CHECK_OK(syna_run_metric(db, id, "a", NULL, NULL, NULL, 0, &count));
    CHECK_EQ(count, 0);
    names[1] = "b";
    CHECK_OK(syna_run_log_metrics(db, id, names, values, 3, 0));
    CHECK_OK(syna_run_log_metrics(db, id, NULL, NULL, 0, 0));
    CHECK_OK(syna_run_metric(db, id, "c", NULL, NULL, NULL, 0, &count));
    CHECK_EQ(count, 1);
    CHECK_OK(syna_db_close(db));
}

TEST(other_values_where_a_record_should_be_are_no_crash)
{
    syna_db *db = open_db(check_path("e.db"), 0);
    char id[SYNA_RUN_ID_ROOM], key[200];
    size_t count;
    start_in(db, "e", id);
    snprintf(key, sizeof key, "exp/e/run/%s/metric/m", id);
    CHECK_OK(syna_db_put(db, key, strlen(key), SYNA_TYPE_BYTES, "junk", 4, NULL, NULL));
    CHECK_RC(syna_run_metric(db, id, "m", NULL, NULL, NULL, 0, &count), SYNA_ERR_TYPE_MISMATCH);
    const char *name = "m";
    CHECK_RC(syna_run_log_metrics(db, id, &name, &(double){1}, 1, 0), SYNA_ERR_TYPE_MISMATCH);
    snprintf(key, sizeof key, "exp/e/run/%s/meta", id);
    CHECK_OK(syna_db_put(db, key, strlen(key), SYNA_TYPE_TEXT, "{\"status\":", 10, NULL, NULL));
    CHECK_FAILS(syna_run_check(db, id), SYNA_ERR_SERIALIZATION, SYNA_WHY_WRONG_KIND);
    CHECK_OK(syna_db_close(db));
}

struct countdown {
    int64_t left;
};

static bool count_down(void *context, size_t bytes)
{
    struct countdown *c = context;
    (void)bytes;
    return c->left-- != 0;
}

/* Everything a run goes through, with the allocation of one number failing. */
static syna_rc whole_run(syna_db *db, int64_t fail_at)
{
    struct countdown c = {fail_at};
    char id[SYNA_RUN_ID_ROOM] = "";
    const char *names[] = {"a", "b"}, *values[] = {"1", "2"};
    const double numbers[] = {1, 2};
    syna_run_options o = {.size = sizeof o, .experiment = "e/f", .tags_json = "[\"t\"]"};
    struct seen s = {0};
    size_t count;
    syna_metric_stats stats = {.size = sizeof stats};
    syna_test_set_alloc(count_down, &c);
    syna_rc rc = syna_run_start(db, &o, id);
    if (rc == SYNA_SUCCESS)
        rc = syna_run_log_params(db, id, names, values, 2);
    if (rc == SYNA_SUCCESS)
        rc = syna_run_log_metrics(db, id, names, numbers, 2, 3);
    if (rc == SYNA_SUCCESS)
        rc = syna_run_log_metrics(db, id, names, numbers, 1, 3);
    if (rc == SYNA_SUCCESS)
        rc = syna_run_log_artifact(db, id, "x", "y", 1, "k");
    if (rc == SYNA_SUCCESS)
        rc = syna_run_metric_stats(db, id, "a", &stats);
    if (rc == SYNA_SUCCESS)
        rc = syna_run_metric(db, id, "a", NULL, NULL, NULL, 0, &count);
    if (rc == SYNA_SUCCESS)
        rc = syna_runs(db, "e/f", see_run, &s);
    if (rc == SYNA_SUCCESS)
        rc = syna_runs_latest(db, "e/f", "a", see_latest, &s);
    if (rc == SYNA_SUCCESS)
        rc = syna_run_end(db, id, SYNA_RUN_FAILED);
    if (rc == SYNA_SUCCESS)
        rc = syna_run_delete(db, id, NULL);
    syna_test_set_alloc(NULL, NULL);
    struct status_record why = *status_get();
    if (rc != SYNA_SUCCESS && id[0])
        CHECK_OK(syna_run_delete(db, id, NULL));
    status_set(&why);
    return rc;
}

TEST(P7_every_failed_allocation_is_an_error_and_the_next_try_works)
{
    syna_db *db = open_db(check_path("e.db"), 0);
    CHECK_OK(whole_run(db, -1));
    int64_t at = 0;
    for (syna_rc rc = SYNA_ERR_INTERNAL; rc != SYNA_SUCCESS; at++) {
        check_note("allocation %lld", (long long)at);
        rc = whole_run(db, at);
        CHECK(rc == SYNA_SUCCESS || (rc == SYNA_ERR_INTERNAL && syna_last_reason() == SYNA_WHY_NO_MEMORY));
        CHECK(at < 2000);
    }
    CHECK(at > 20);
    CHECK_OK(syna_db_close(db));
}
