/* The C test harness: registration, reporting, the test's directory, leak accounting.
 *
 * A test runs under sigsetjmp on the main thread; a failed check jumps back. Children and threads
 * cannot jump there, so a child exits with CHILD_FAILED and a thread ends itself after marking the
 * test as failed. */
#include "check.h"

#include <dirent.h>
#include <ftw.h>
#include <setjmp.h>
#include <stdarg.h>

enum { CHILD_FAILED = 99, PATHS = 64 };

static struct check_test *first_test, **last_test = &first_test;
static sigjmp_buf back;
static pthread_t runner;
static pid_t runner_pid;
static int failed_now; /* atomic: the running test failed */
static char note[256];
static char directory[512];
static char *paths[PATHS];
static unsigned path_count;
static uint64_t seed, random_state;
static bool keep;

void check_register(struct check_test *test)
{
    *last_test = test;
    last_test = &test->next;
}

/* There in builds for coverage only: a child counts what it ran, though it does not run atexit. */
int __llvm_profile_write_file(void) __attribute__((weak));

static _Noreturn void end_at_once(int status)
{
    fflush(NULL);
    if (__llvm_profile_write_file)
        __llvm_profile_write_file();
    _exit(status);
}

_Noreturn void check_fail(const char *file, int line, const char *format, ...)
{
    char text[2048];
    va_list args;
    va_start(args, format);
    vsnprintf(text, sizeof text, format, args);
    va_end(args);
    printf("%s:%d: %s%s%s%s (seed %llu)\n", file, line, text, note[0] ? " [" : "", note,
           note[0] ? "]" : "", (unsigned long long)seed);
    fflush(stdout);
    if (getpid() != runner_pid)
        end_at_once(CHILD_FAILED);
    __atomic_store_n(&failed_now, 1, __ATOMIC_RELEASE);
    if (!pthread_equal(pthread_self(), runner))
        pthread_exit(NULL);
    siglongjmp(back, 1);
}

void check_note(const char *format, ...)
{
    va_list args;
    va_start(args, format);
    vsnprintf(note, sizeof note, format, args);
    va_end(args);
}

void check_eq_(const char *file, int line, const char *what, long long got, long long want)
{
    if (got != want)
        check_fail(file, line, "%s is %lld (0x%llx), expected %lld (0x%llx)", what, got,
                   (unsigned long long)got, want, (unsigned long long)want);
}

static const char *record_text(void)
{
    const struct status_record *r = status_get();
    return r->code == SYNA_SUCCESS ? "no error recorded" : r->message;
}

void check_rc_(const char *file, int line, const char *what, syna_rc got, syna_rc want)
{
    if (got != want)
        check_fail(file, line, "%s returned %d, expected %d: %s", what, got, want, record_text());
}

void check_why_(const char *file, int line, const char *what, syna_rc got, syna_rc want,
                int32_t reason)
{
    check_rc_(file, line, what, got, want);
    const struct status_record *r = status_get();
    if (r->code != want || r->reason != reason)
        check_fail(file, line, "%s recorded code %d reason %d, expected %d and %d: %s", what,
                   r->code, r->reason, want, reason, record_text());
}

void check_str_(const char *file, int line, const char *what, const char *got, const char *want)
{
    if (!got || !want ? got != want : strcmp(got, want) != 0)
        check_fail(file, line, "%s is \"%s\", expected \"%s\"", what, got ? got : "(null)",
                   want ? want : "(null)");
}

void check_mem_(const char *file, int line, const char *what, const void *got, const void *want,
                size_t len)
{
    const uint8_t *a = got, *b = want;
    for (size_t i = 0; i < len; i++) {
        if (a[i] != b[i])
            check_fail(file, line, "%s differs at byte %zu of %zu: 0x%02x, expected 0x%02x", what,
                       i, len, a[i], b[i]);
    }
}

const char *check_path(const char *name)
{
    if (!directory[0]) {
        const char *tmp = getenv("TMPDIR");
        snprintf(directory, sizeof directory, "%s/syna-test-XXXXXX", tmp && tmp[0] ? tmp : "/tmp");
        if (!mkdtemp(directory)) {
            fprintf(stderr, "cannot create %s: %s\n", directory, strerror(errno));
            exit(2);
        }
    }
    char *path = NULL;
    if (asprintf(&path, "%s%s%s", directory, name[0] ? "/" : "", name) < 0)
        abort();
    for (unsigned i = 0; i < path_count; i++) {
        if (strcmp(paths[i], path) == 0) {
            free(path);
            return paths[i];
        }
    }
    if (path_count == PATHS) {
        fprintf(stderr, "check_path: more than %d paths in one test\n", PATHS);
        exit(2);
    }
    return paths[path_count++] = path;
}

static int remove_entry(const char *path, const struct stat *info, int type, struct FTW *at)
{
    (void)info;
    (void)type;
    (void)at;
    return remove(path);
}

static void remove_directory(void)
{
    if (directory[0] && !keep)
        nftw(directory, remove_entry, 16, FTW_DEPTH | FTW_PHYS);
    else if (directory[0])
        printf("kept %s\n", directory);
    directory[0] = 0;
    while (path_count)
        free(paths[--path_count]);
}

int check_child(void (*body)(void *context), void *context)
{
    fflush(NULL);
    pid_t pid = fork();
    if (pid == 0) {
        body(context);
        end_at_once(0);
    }
    int status = -1;
    while (pid > 0 && waitpid(pid, &status, 0) < 0 && errno == EINTR)
        continue;
    return status;
}

FILE *check_run_self(const char *settings, const char *arguments)
{
    char self[1024], command[2500];
    ssize_t len = readlink("/proc/self/exe", self, sizeof self - 1);
    CHECK(len > 0);
    self[len] = 0;
    const char *emulator = getenv("CHECK_EMULATOR");
    int need = snprintf(command, sizeof command, "%s %s '%s' %s", settings,
                        emulator ? emulator : "", self, arguments);
    CHECK(need > 0 && (size_t)need < sizeof command);
    fflush(NULL);
    FILE *out = popen(command, "r");
    CHECK(out != NULL);
    return out;
}

/* Threads may draw at once; which of them gets which number is then up to them. */
uint64_t check_random(void)
{
    uint64_t z = __atomic_add_fetch(&random_state, 0x9e3779b97f4a7c15u, __ATOMIC_RELAXED);
    z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9u;
    z = (z ^ (z >> 27)) * 0x94d049bb133111ebu;
    return z ^ (z >> 31);
}

int64_t check_rounds(int64_t count)
{
    const char *scale = getenv("CHECK_SCALE");
    double rounds = (double)count * (scale ? strtod(scale, NULL) : 1.0);
    return rounds < 1 ? 1 : (int64_t)rounds;
}

static int open_descriptors(void)
{
    DIR *dir = opendir("/proc/self/fd");
    int count = 0;
    while (dir && readdir(dir))
        count++;
    if (dir)
        closedir(dir);
    return count;
}

/* Blocks and descriptors may be given back by a thread that is just ending: wait for it briefly. */
static void check_leaks(int64_t blocks, int descriptors)
{
    for (int wait = 0; wait < 100; wait++) {
        if (syna_test_live_blocks() == blocks && open_descriptors() == descriptors)
            return;
        usleep(2000);
    }
    printf("%lld blocks and %d descriptors were not given back\n",
           (long long)(syna_test_live_blocks() - blocks), open_descriptors() - descriptors);
    failed_now = 1;
}

static void run_and_come_back(const struct check_test *test)
{
    if (sigsetjmp(back, 1) == 0)
        test->run();
}

static bool run_test(const struct check_test *test)
{
    int64_t blocks = syna_test_live_blocks();
    int descriptors = open_descriptors();
    failed_now = 0;
    note[0] = 0;
    random_state = seed;
    run_and_come_back(test);
    if (!__atomic_load_n(&failed_now, __ATOMIC_ACQUIRE))
        check_leaks(blocks, descriptors);
    remove_directory();
    if (failed_now)
        printf("FAILED %s\n", test->name);
    fflush(stdout);
    return !failed_now;
}

static bool wanted(const struct check_test *test, int argc, char **argv)
{
    bool any = false;
    for (int i = 1; i < argc; i++) {
        if (argv[i][0] == '-')
            continue;
        any = true;
        if (strstr(test->name, argv[i]))
            return true;
    }
    return !any;
}

int check_main(int argc, char **argv)
{
    bool list = false;
    for (int i = 1; i < argc; i++) {
        list |= strcmp(argv[i], "-l") == 0;
        keep |= strcmp(argv[i], "-k") == 0;
    }
    const char *given = getenv("CHECK_SEED");
    seed = given ? strtoull(given, NULL, 0) : 20260101;
    runner = pthread_self();
    runner_pid = getpid();

    int passed = 0, failed = 0;
    for (struct check_test *test = first_test; test; test = test->next) {
        if (!wanted(test, argc, argv))
            continue;
        if (list)
            printf("%s\n", test->name);
        else if (run_test(test))
            passed++;
        else
            failed++;
    }
    if (!list)
        printf("%d passed, %d failed\n", passed, failed);
    if (failed)
        end_at_once(1); /* without the leak report of what the failed tests left */
    return !list && passed == 0;
}
