/* replay - run kept crash traces again and show what happens.
 *
 *     replay [-q] TRACE...        exit status 0: all states pass
 *
 * A trace is written by the crash tests when a state fails (the path is printed), and kept in
 * tests/crash/traces for ever. */
#include "check.h"

#include "crash_db.h"

int main(int argc, char **argv)
{
    bool good = true, quiet = argc > 1 && strcmp(argv[1], "-q") == 0;
    int first = quiet ? 2 : 1;
    if (first >= argc) {
        fprintf(stderr, "usage: %s [-q] TRACE...\n", argv[0]);
        return 2;
    }
    for (int i = first; i < argc; i++) {
        printf("%s\n", argv[i]);
        good = crash_db_replay(argv[i], !quiet) && good;
    }
    return good ? 0 : 1;
}
