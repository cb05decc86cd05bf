/* crash_db.c - record a script, recover from crash states, compare (crash_db.h). */
#include "check.h"

#include "base/rng.h"
#include "crash_db.h"

/* Contents are checked in every state; what costs as much again only in one of so many. */
enum { READER_FIRST = 4, REOPEN = 8, VERIFY = 16, STRICT = 64 };
enum { WRITER_PID = 4000, RECOVERY_PID = 5000 };

static bool fail(char *why, size_t cap, const char *what)
{
    const struct status_record *r = status_get();
    snprintf(why, cap, "%s: %d %s", what, r->code, r->message);
    return false;
}

/* ---------------------------------------------------------------- recording */

static bool syncs(const struct script *s, size_t i)
{
    for (size_t n = i + 1; n-- > 0;)
        if (s->ops[n].kind == DO_OPEN && s->ops[n].handle == s->ops[i].handle)
            return !(s->ops[n].how & OPEN_NO_SYNC);
    return true;
}

/* Does success of operation i promise that everything up to it survives power loss? */
static bool promises(const struct script *s, size_t i)
{
    uint8_t kind = s->ops[i].kind;
    return kind == DO_FLUSH || kind == DO_CLOSE || kind == DO_COMPACT ||
           (kind != DO_BACKUP && syncs(s, i));
}

static bool read_live(struct crash_db *w, struct script_run *run, size_t i, char *why, size_t cap)
{
    syna_db *db = run->db[w->script.ops[i].handle];
    w->states[i + 1] = w->states[i];
    if (!db)
        return true;
    return script_read(db, &w->states[i + 1]) == SYNA_SUCCESS ||
           fail(why, cap, "the live database cannot be read");
}

static bool check_model(struct crash_db *w, const struct script_model *m, size_t i, char *why,
                        size_t cap)
{
    struct script_state want;
    char difference[256];
    script_model_state(m, &want);
    if (!script_same_values(&w->states[i + 1], &want)) {
        script_difference(&w->states[i + 1], &want, difference, sizeof difference);
        snprintf(why, cap, "after operation %zu the live database differs from the model: %s", i,
                 difference);
        return false;
    }
    if (w->script.ops[i].kind == DO_COMPACT && w->script.ops[i].how == SYNA_COMPACT_HISTORY &&
        !script_same(&w->states[i], &w->states[i + 1])) {
        script_difference(&w->states[i + 1], &w->states[i], difference, sizeof difference);
        snprintf(why, cap, "compaction %zu with history changed it: %s", i, difference);
        return false;
    }
    return true;
}

static bool run_script(struct crash_db *w, struct script_run *run, struct script_model *m,
                       char *why, size_t cap)
{
    for (size_t i = 0; i < w->script.count; i++) {
        const struct script_op *op = &w->script.ops[i];
        record_mark(MARK_BEGUN, i + 1);
        if (script_step(run, op) != SYNA_SUCCESS) {
            char what[64];
            snprintf(what, sizeof what, "operation %zu failed", i);
            return fail(why, cap, what);
        }
        record_mark(MARK_ACKED, i + 1);
        if (promises(&w->script, i))
            record_mark(MARK_DURABLE, i + 1);
        if (!read_live(w, run, i, why, cap))
            return false;
        if (!m)
            continue;
        script_model_step(m, op);
        if (!check_model(w, m, i, why, cap))
            return false;
    }
    return true;
}

/* From a crash image the first operation is the recovery: what it shows was there before. */
static bool run_recorded(struct crash_db *w, struct mem_fs *fs, char *why, size_t cap)
{
    struct script_run run = {.path = CRASH_DB_PATH};
    struct script_model *m = w->start ? NULL : script_model_new();
    if (m)
        script_model_state(m, &w->states[0]);
    mem_fs_use(fs);
    record_begin(&vfs_mem, w->mistake);
    syna_test_set_vfs(&vfs_record);
    bool good = run_script(w, &run, m, why, cap);
    script_stop(&run);
    syna_test_set_vfs(NULL);
    w->trace = record_end();
    if (w->start)
        w->states[0] = w->states[1];
    if (good && mem_fs_faults(fs)[0]) {
        snprintf(why, cap, "%s", mem_fs_faults(fs));
        good = false;
    }
    script_model_free(m);
    return good;
}

bool crash_db_record(struct crash_db *w, char *why, size_t cap)
{
    struct mem_fs *fs = mem_fs_new(w->seed);
    if (w->start)
        mem_fs_copy(fs, w->start);
    mem_fs_set_seed(fs, w->seed);
    mem_fs_set_clock(fs, SCRIPT_PROBE_US, 1);
    mem_fs_set_pid(fs, WRITER_PID + (int)w->depth);
    mem_fs_set_strict(fs, w->depth == 0);
    bool good = run_recorded(w, fs, why, cap);
    mem_fs_free(fs);
    return good;
}

void crash_db_dispose(struct crash_db *w)
{
    trace_free(w->trace);
    w->trace = NULL;
}

/* ---------------------------------------------------------------- recovering */

/* Is `got` the state after n operations for some n that is allowed? */
static bool is_allowed(const struct crash_db *w, const struct crash_point *at,
                       const struct script_state *got, const char *who, char *why, size_t cap)
{
    uint64_t low = at->marks[at->complete ? MARK_ACKED : MARK_DURABLE];
    uint64_t high = at->marks[MARK_BEGUN];
    char difference[256];
    for (uint64_t n = low; n <= high; n++)
        if (script_same(got, &w->states[n]))
            return true;
    for (uint64_t n = 0; n <= w->script.count; n++) {
        if (script_same(got, &w->states[n])) {
            snprintf(why, cap, "%s finds the state after %llu operations, expected %llu to %llu%s",
                     who, (unsigned long long)n, (unsigned long long)low, (unsigned long long)high,
                     at->complete ? " (nothing was lost)" : "");
            return false;
        }
    }
    script_difference(got, &w->states[low], difference, sizeof difference);
    snprintf(why, cap, "%s finds a state that never was; against %llu operations: %s", who,
             (unsigned long long)low, difference);
    return false;
}

static bool read_only_first(const struct crash_db *w, struct mem_fs *image,
                            const struct crash_point *at, char *why, size_t cap)
{
    syna_db_options options = {.size = sizeof options, .read_only = 1};
    struct script_state got;
    syna_db *db;
    if (!mem_fs_find(image, CRASH_DB_PATH))
        return true;
    if (db_open(CRASH_DB_PATH, &options, &db) != SYNA_SUCCESS)
        return fail(why, cap, "a reader cannot open it");
    syna_rc rc = script_read(db, &got);
    db_close(db);
    if (rc != SYNA_SUCCESS)
        return fail(why, cap, "a reader cannot read it");
    if (mem_fs_changes(image)) {
        snprintf(why, cap, "opening it read-only changed something");
        return false;
    }
    return is_allowed(w, at, &got, "a reader", why, cap);
}

static bool no_damage(const char *path, char *why, size_t cap)
{
    syna_check found = {.size = sizeof found};
    if (db_verify(path, NULL, NULL, NULL, &found) != SYNA_SUCCESS)
        return fail(why, cap, "verify fails");
    if (found.damaged)
        snprintf(why, cap, "verify reports damage in %llu places",
                 (unsigned long long)found.damaged);
    return found.damaged == 0;
}

static syna_rc open_again(const struct crash_db *w, syna_db **db)
{
    uint8_t how = w->script.ops[0].how;
    syna_db_options options = {.size = sizeof options,
                               .shared = (how & OPEN_SHARED) != 0,
                               .no_mmap = (how & OPEN_NO_MMAP) != 0};
    return db_open(CRASH_DB_PATH, &options, db);
}

static bool recover(const struct crash_db *w, const struct crash_point *at,
                    struct script_state *got, char *why, size_t cap)
{
    syna_db *db;
    if (open_again(w, &db) != SYNA_SUCCESS)
        return fail(why, cap, "it cannot be opened for writing");
    bool good = script_read(db, got) == SYNA_SUCCESS || fail(why, cap, "it cannot be read");
    if (db_close(db) != SYNA_SUCCESS && good)
        good = fail(why, cap, "it cannot be closed");
    return good && is_allowed(w, at, got, "recovery", why, cap);
}

static bool reopens_the_same(const struct crash_db *w, const struct script_state *first, char *why,
                             size_t cap)
{
    struct script_state got;
    syna_db *db;
    if (open_again(w, &db) != SYNA_SUCCESS)
        return fail(why, cap, "it cannot be opened a second time");
    syna_rc rc = script_read(db, &got);
    db_close(db);
    if (rc != SYNA_SUCCESS)
        return fail(why, cap, "it cannot be read after opening it a second time");
    if (!script_same(&got, first)) {
        char difference[256];
        script_difference(&got, first, difference, sizeof difference);
        snprintf(why, cap, "opened again it differs: %s", difference);
        return false;
    }
    return true;
}

static bool check_backup(const struct crash_db *w, struct mem_fs *image, size_t i,
                         const struct crash_point *at, char *why, size_t cap)
{
    struct script_run run = {.path = CRASH_DB_PATH};
    syna_db_options options = {.size = sizeof options, .read_only = 1};
    struct script_state got;
    char path[256];
    syna_db *db;
    script_backup_path(&run, w->script.ops[i].id, path, sizeof path);
    if (!mem_fs_find(image, path)) {
        if (at->marks[MARK_ACKED] > i)
            snprintf(why, cap, "a finished backup is gone");
        return at->marks[MARK_ACKED] <= i;
    }
    if (db_open(path, &options, &db) != SYNA_SUCCESS)
        return fail(why, cap, "the backup cannot be opened");
    syna_rc rc = script_read(db, &got);
    db_close(db);
    if (rc != SYNA_SUCCESS)
        return fail(why, cap, "the backup cannot be read");
    if (!script_same(&got, &w->states[i])) {
        snprintf(why, cap, "the backup is not what was backed up");
        return false;
    }
    return true;
}

static bool check_backups(const struct crash_db *w, struct mem_fs *image,
                          const struct crash_point *at, char *why, size_t cap)
{
    for (size_t i = 0; i < w->script.count; i++)
        if (w->script.ops[i].kind == DO_BACKUP && !check_backup(w, image, i, at, why, cap))
            return false;
    return true;
}

static bool nothing_leaks(struct mem_fs *image, int64_t blocks, char *why, size_t cap)
{
    const char *name;
    if (mem_fs_faults(image)[0]) {
        snprintf(why, cap, "%s", mem_fs_faults(image));
        return false;
    }
    if (mem_fs_open_count(image) || syna_test_live_blocks() != blocks) {
        snprintf(why, cap, "%zu descriptors and %lld blocks of memory leak",
                 mem_fs_open_count(image), (long long)(syna_test_live_blocks() - blocks));
        return false;
    }
    for (size_t i = 0; (name = mem_fs_name(image, i, NULL)); i++) {
        if (strstr(name, ".tmp-") && !strstr(name, ".backup")) {
            snprintf(why, cap, "%s was left behind", name);
            return false;
        }
    }
    return true;
}

/* ---------------------------------------------------------------- the second crash */

static bool crash_again(struct crash_db *w, const struct mem_fs *image,
                        const struct script_state *first, char *why, size_t cap)
{
    struct crash_db *inner = calloc(1, sizeof *inner);
    struct crash_result result = {0};
    struct mem_fs *start = mem_fs_new(0);
    if (!inner)
        abort();
    mem_fs_copy(start, image);
    *inner = (struct crash_db){.seed = w->seed + 1, .mistake = w->mistake, .depth = w->depth + 1};
    inner->start = start;
    script_parse(&inner->script, "open 0 0 null 0 0 0\n"
                                 "put 0 1 text 40 9001 0\n"
                                 "batch 0 2 null 3 901 0\n"
                                 "close 0 0 null 0 0 0\n");
    inner->script.ops[0].how = w->script.ops[0].how & (OPEN_NO_MMAP | OPEN_SHARED);
    bool good = crash_db_record(inner, why, cap);
    if (good && !script_same(&inner->states[0], first)) {
        snprintf(why, cap, "a second recovery from the same state finds something else");
        good = false;
    }
    if (good) {
        struct crash_plan plan = {inner->trace, start, w->seed, 120, crash_db_check, inner};
        crash_enumerate(&plan, &result);
        w->second_states += result.states;
        good = !result.failed;
        if (!good)
            snprintf(why, cap, "second crash after %zu effects: %.400s", result.prefix, result.why);
    }
    crash_db_dispose(inner);
    mem_fs_free(start);
    free(inner);
    return good;
}

/* ---------------------------------------------------------------- the check */

static bool check_state(struct crash_db *w, struct mem_fs *image, const struct crash_point *at,
                        struct script_state *got, char *why, size_t cap)
{
    uint64_t n = at->number;
    int64_t blocks = syna_test_live_blocks();
    if (n % READER_FIRST == 0 && !read_only_first(w, image, at, why, cap))
        return false;
    if (n % VERIFY == 1 && mem_fs_find(image, CRASH_DB_PATH) && !no_damage(CRASH_DB_PATH, why, cap))
        return false;
    if (!recover(w, at, got, why, cap))
        return false;
    if (n % REOPEN == 2 && !reopens_the_same(w, got, why, cap))
        return false;
    if (!check_backups(w, image, at, why, cap))
        return false;
    return nothing_leaks(image, blocks, why, cap);
}

bool crash_db_check(void *context, struct mem_fs *image, const struct crash_point *at, char *why,
                    size_t cap)
{
    struct crash_db *w = context;
    struct script_state got;
    struct mem_fs *before = NULL;
    if (w->again && w->depth == 0 && at->number % w->again == w->again / 2) {
        before = mem_fs_new(0);
        mem_fs_copy(before, image);
    }
    mem_fs_set_clock(image, SCRIPT_PROBE_US + 1000000, 1);
    mem_fs_set_pid(image, RECOVERY_PID);
    mem_fs_set_strict(image, at->number % STRICT == 3);
    mem_fs_use(image);
    syna_test_set_vfs(&vfs_mem);
    bool good = check_state(w, image, at, &got, why, cap);
    syna_test_set_vfs(NULL);
    if (good && before)
        good = crash_again(w, before, &got, why, cap);
    mem_fs_free(before);
    return good;
}

/* ---------------------------------------------------------------- running and reporting */

static bool record_and_enumerate(struct crash_db *w, uint64_t budget, struct crash_result *out)
{
    memset(out, 0, sizeof *out);
    crash_db_dispose(w);
    w->second_states = 0;
    if (!crash_db_record(w, out->why, sizeof out->why)) {
        out->failed = true;
        return false;
    }
    struct crash_plan plan = {w->trace, w->start, w->seed, budget, crash_db_check, w};
    crash_enumerate(&plan, out);
    return !out->failed;
}

/* Leave out operations, from the last to the first, as long as something still fails. */
static void shorten(struct crash_db *w, uint64_t budget, struct crash_result *failure)
{
    for (size_t i = w->script.count; i-- > 1;) {
        struct script was = w->script;
        struct crash_result result;
        w->script.count--;
        memmove(&w->script.ops[i], &w->script.ops[i + 1],
                (w->script.count - i) * sizeof w->script.ops[0]);
        if (record_and_enumerate(w, budget, &result) || strstr(result.why, "not a script"))
            w->script = was;
        else
            *failure = result;
    }
    record_and_enumerate(w, budget, failure);
}

static void write_failure(const struct crash_db *w, const struct crash_result *failure, FILE *to)
{
    fprintf(to, "# %s: %s\n", w->name, failure->why);
    fprintf(to, "# Run again with: replay <this file>\n");
    fprintf(to, "seed %llu\nmistake %s\nagain %u\nprefix %zu\nchoices", (unsigned long long)w->seed,
            record_mistake_name(w->mistake), w->again, failure->prefix);
    for (size_t i = 0; i < failure->choice_count; i++)
        fprintf(to, " %u", failure->choices[i]);
    fprintf(to, "\nscript\n");
    script_print(&w->script, to);
    if (w->trace)
        crash_print(w->trace, w->start, failure, to);
}

static void report(struct crash_db *w, uint64_t budget, struct crash_result *failure)
{
    char path[512];
    const char *folder = getenv("CRASH_TRACES");
    printf("%s (seed %llu): %s\n", w->name, (unsigned long long)w->seed, failure->why);
    fflush(stdout);
    shorten(w, budget, failure);
    struct crash_plan plan = {w->trace, w->start, w->seed, budget, crash_db_check, w};
    if (w->trace)
        crash_simplify(&plan, failure);
    snprintf(path, sizeof path, "%s/crash-%s-%llu.trace", folder ? folder : "/tmp", w->name,
             (unsigned long long)w->seed);
    FILE *file = fopen(path, "w");
    write_failure(w, failure, file ? file : stdout);
    if (file)
        fclose(file);
    printf("shortest failing trace (%zu operations): %s\n", w->script.count, path);
}

bool crash_db_run(struct crash_db *w, uint64_t budget, struct crash_result *out)
{
    if (record_and_enumerate(w, budget, out))
        return true;
    if (w->mistake == MISTAKE_NONE) {
        struct crash_result shortest = *out;
        report(w, budget, &shortest);
    }
    return false;
}

/* ---------------------------------------------------------------- kept traces */

static bool take_word(const char *text, const char *word, const char **rest)
{
    const char *at = strstr(text, word);
    while (at && at != text && at[-1] != '\n')
        at = strstr(at + 1, word);
    *rest = at ? at + strlen(word) : NULL;
    return at != NULL;
}

static bool parse_failure(const char *text, struct crash_db *w, struct crash_result *r)
{
    const char *at;
    char mistake[32];
    if (!take_word(text, "seed ", &at))
        return false;
    w->seed = strtoull(at, NULL, 10);
    if (take_word(text, "mistake ", &at) && sscanf(at, "%31s", mistake) == 1)
        w->mistake = record_mistake_from(mistake);
    if (take_word(text, "again ", &at))
        w->again = (uint32_t)strtoul(at, NULL, 10);
    if (take_word(text, "prefix ", &at))
        r->prefix = strtoull(at, NULL, 10);
    if (take_word(text, "choices", &at)) {
        for (char *end; r->choice_count < CRASH_CHOICES; at = end) {
            unsigned long choice = strtoul(at, &end, 10);
            if (end == at || memchr(at, '\n', (size_t)(end - at)))
                break;
            r->choices[r->choice_count++] = (uint32_t)choice;
        }
    }
    return w->mistake != MISTAKES && take_word(text, "script\n", &at) &&
           script_parse(&w->script, at);
}

static bool replay_state(struct crash_db *w, const struct crash_result *r, bool print)
{
    struct mem_fs *image = mem_fs_new(0);
    struct crash_point at;
    char why[512] = "";
    bool good = true;
    if (print)
        crash_print(w->trace, w->start, r, stdout);
    if (crash_image(w->trace, w->start, r->prefix, r->choices, r->choice_count, image, &at)) {
        at.number = w->again ? w->again / 2 : 0;
        good = crash_db_check(w, image, &at, why, sizeof why);
        printf("that state: %s%s\n", good ? "good" : "BAD: ", why);
    } else {
        printf("that state: the trace has changed and no longer has it\n");
    }
    mem_fs_free(image);
    return good;
}

bool crash_db_replay(const char *file, bool print)
{
    char text[16384];
    FILE *f = fopen(file, "r");
    size_t len = f ? fread(text, 1, sizeof text - 1, f) : 0;
    struct crash_db *w = calloc(1, sizeof *w);
    struct crash_result r = {0}, all;
    if (f)
        fclose(f);
    text[len] = 0;
    if (!w || !parse_failure(text, w, &r)) {
        printf("%s: not a trace file\n", file);
        free(w);
        return false;
    }
    w->name = file;
    bool good = crash_db_record(w, r.why, sizeof r.why);
    if (good)
        good = replay_state(w, &r, print);
    else
        printf("recording failed: %s\n", r.why);
    if (good)
        good = record_and_enumerate(w, 20000, &all);
    if (good)
        printf("all states: %llu, good\n", (unsigned long long)all.states);
    crash_db_dispose(w);
    free(w);
    return good;
}
