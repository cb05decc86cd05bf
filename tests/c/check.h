/* The C test harness. A file of tests is one executable:
 *
 *     #include "check.h"
 *
 *     TEST(an_empty_file_has_no_frames)
 *     {
 *         struct file f = FILE_NONE;
 *         CHECK_OK(file_open(&f, check_path("a.db"), VFS_WRITE | VFS_CREATE));
 *         ...
 *     }
 *
 * Include it first: it lets tests call the heap and the kernel, which the core may not. The first
 * failed check ends its test with file, line and values, in a thread it ends that thread too, in a
 * forked child the child (exit status 99). After each test the harness demands that every block of
 * the core and every descriptor that the test took was given back, and removes its directory.
 * Nothing here allocates through base/mem.c or touches files through the vfs table, so checks work
 * while either is made to fail.
 *
 * Run `test_x [-l] [-k] [part of a name]...`: -l lists, -k keeps the directories. The last line is
 * always "N passed, N failed"; the exit status is 0 only when none failed. */
#ifndef SYNA_TESTS_CHECK_H
#define SYNA_TESTS_CHECK_H

#ifndef SYNA_MAY_CALL_HEAP
#define SYNA_MAY_CALL_HEAP
#endif
#ifndef SYNA_MAY_CALL_KERNEL
#define SYNA_MAY_CALL_KERNEL
#endif
#include "base/internal.h"

#include "base/mem.h"
#include "base/status.h"

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/types.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

struct check_test {
    const char *name;
    void (*run)(void);
    struct check_test *next;
};
void check_register(struct check_test *test);

#define TEST(test_name)                                                             \
    static void test_name(void);                                                    \
    __attribute__((constructor)) static void check_register_##test_name(void)       \
    {                                                                               \
        static struct check_test test_of_##test_name = {#test_name, test_name, NULL}; \
        check_register(&test_of_##test_name);                                       \
    }                                                                               \
    static void test_name(void)

/* Report a failure and end the test. */
_Noreturn void check_fail(const char *file, int line, const char *format, ...)
    __attribute__((format(printf, 3, 4)));

/* What a loop is at, shown when a later check of this test fails: check_note("k = %d", k). */
void check_note(const char *format, ...) __attribute__((format(printf, 1, 2)));

/* Absolute path of `name` in the test's own directory (under $TMPDIR or /tmp). "" is the directory
 * itself. The string lives until the test ends. */
const char *check_path(const char *name);

/* Run `body(context)` in a forked child and return its wait status (0 = it returned). */
int check_child(void (*body)(void *context), void *context);

/* Run this executable again, in a shell, with environment settings and arguments: for what a process
 * decides once. Returns its output, to be read and given to pclose, whose result is its status.
 * $CHECK_EMULATOR is put before it where the machine cannot run it directly. */
FILE *check_run_self(const char *settings, const char *arguments);

/* A pseudorandom number; the seed is printed with every failure and taken from $CHECK_SEED. */
uint64_t check_random(void);
/* Rounds for loops that more time makes stronger: `count` times $CHECK_SCALE (default 1). */
int64_t check_rounds(int64_t count);

void check_eq_(const char *file, int line, const char *what, long long got, long long want);
void check_rc_(const char *file, int line, const char *what, syna_rc got, syna_rc want);
void check_why_(const char *file, int line, const char *what, syna_rc got, syna_rc want,
                int32_t reason);
void check_str_(const char *file, int line, const char *what, const char *got, const char *want);
void check_mem_(const char *file, int line, const char *what, const void *got, const void *want,
                size_t len);

#define CHECK(condition)                                      \
    do {                                                      \
        if (!(condition))                                     \
            check_fail(__FILE__, __LINE__, "%s", #condition); \
    } while (0)

/* Integers (also bool, enum, sizes), the one under test first. */
#define CHECK_EQ(got, want) \
    check_eq_(__FILE__, __LINE__, #got, (long long)(got), (long long)(want))
/* A call's status code; the error record is shown when it differs. */
#define CHECK_RC(call, code) check_rc_(__FILE__, __LINE__, #call, (call), (code))
#define CHECK_OK(call) CHECK_RC(call, SYNA_SUCCESS)
/* A failure with this code and this reason in the error record. */
#define CHECK_FAILS(call, code, reason) check_why_(__FILE__, __LINE__, #call, (call), (code), (reason))
#define CHECK_STR(got, want) check_str_(__FILE__, __LINE__, #got, (got), (want))
#define CHECK_MEM(got, want, len) check_mem_(__FILE__, __LINE__, #got, (got), (want), (len))

/* tests/c/check_main.c calls this; programs with a main of their own may too. */
int check_main(int argc, char **argv);

#endif
