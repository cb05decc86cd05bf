/* The workloads of T1, T2 and of the broken variants. A new one is a name and a script, of lines
 * `kind handle key type size id how` (tests/c/script.h). */
#ifndef SYNA_TESTS_WORKLOADS_H
#define SYNA_TESTS_WORKLOADS_H

#include <stddef.h>

struct workload {
    const char *name;
    const char *script;
    double share; /* of the states of a push */
};

static const struct workload workloads[] = {
    {"synced-puts",
     "open 0 0 null 0 0 0\n"
     "put 0 0 float 0 1 0\n"
     "put 0 1 int 0 2 0\n"
     "put 0 2 text 30 3 0\n"
     "put 0 0 float 0 4 0\n"
     "put 0 3 bytes 300 5 0\n"
     "put 0 4 vector 8 6 0\n"
     "put 0 2 null 0 7 0\n"
     "put 0 3 packed 20 8 0\n"
     "put 0 5 text 700 9 0\n"
     "close 0 0 null 0 0 0\n",
     1},
    {"unsynced-puts",
     "open 0 0 null 0 0 1\n"
     "put 0 0 int 0 1 0\n"
     "put 0 1 text 20 2 0\n"
     "flush 0 0 null 0 0 0\n"
     "put 0 0 int 0 3 0\n"
     "put 0 2 bytes 40 4 0\n"
     "put 0 1 text 25 5 0\n"
     "put 0 0 int 0 6 0\n"
     "flush 0 0 null 0 0 0\n"
     "put 0 3 float 0 7 0\n"
     "put 0 3 float 0 8 0\n"
     "close 0 0 null 0 0 0\n",
     2},
    {"batches",
     "open 0 0 null 0 0 0\n"
     "batch 0 0 null 3 1 0\n"
     "put 0 1 text 12 2 0\n"
     "batch 0 1 null 5 3 0\n"
     "batch 0 4 null 4 4 0\n"
     "close 0 0 null 0 0 0\n",
     1},
    {"unsynced-batches",
     "open 0 0 null 0 0 1\n"
     "batch 0 0 null 3 1 0\n"
     "batch 0 1 null 4 2 0\n"
     "put 0 1 text 12 3 0\n"
     "batch 0 2 null 2 4 0\n"
     "flush 0 0 null 0 0 0\n"
     "batch 0 3 null 3 5 0\n"
     "close 0 0 null 0 0 0\n",
     1},
    {"deletes-and-expiry",
     "open 0 0 null 0 0 0\n"
     "put 0 0 text 30 1 2\n"
     "put 0 1 int 0 2 1\n"
     "delete 0 0 null 0 0 0\n"
     "put 0 0 text 12 3 0\n"
     "delete 0 1 null 0 0 0\n"
     "delete 0 5 null 0 0 0\n"
     "put 0 1 float 0 4 2\n"
     "delete 0 0 null 0 0 0\n"
     "close 0 0 null 0 0 0\n",
     1},
    {"blobs",
     "open 0 0 null 0 0 0\n"
     "put 0 0 int 0 1 0\n"
     "blob 0 1 blob 5000 2 0\n"
     "put 0 0 int 0 3 0\n"
     "blob 0 1 blob 40 4 0\n"
     "blob 0 2 blob 0 5 0\n"
     "close 0 0 null 0 0 0\n",
     1},
    {"unsynced-blobs",
     "open 0 0 null 0 0 1\n"
     "blob 0 1 blob 900 1 0\n"
     "put 0 0 int 0 2 0\n"
     "blob 0 2 blob 60 3 0\n"
     "flush 0 0 null 0 0 0\n"
     "blob 0 1 blob 30 4 0\n"
     "close 0 0 null 0 0 0\n",
     0.5},
    {"histories",
     "open 0 0 null 0 0 0\n"
     "append 0 0 float 30 1 0\n"
     "append 0 1 int 50 2 0\n"
     "put 0 0 float 0 3 0\n"
     "append 0 0 float 3 4 0\n"
     "append 0 0 int 20 5 0\n"
     "append 0 2 float 100 6 0\n"
     "close 0 0 null 0 0 0\n",
     1},
    {"compaction",
     "open 0 0 null 0 0 0\n"
     "put 0 0 text 30 1 0\n"
     "put 0 0 text 31 2 0\n"
     "put 0 1 int 0 3 1\n"
     "put 0 2 bytes 100 4 0\n"
     "blob 0 3 blob 200 5 0\n"
     "delete 0 2 null 0 0 0\n"
     "append 0 4 float 20 6 0\n"
     "compact 0 0 null 0 0 0\n"
     "put 0 0 text 20 7 0\n"
     "put 0 2 int 0 8 0\n"
     "close 0 0 null 0 0 0\n",
     1},
    {"compaction-with-history",
     "open 0 0 null 0 0 0\n"
     "put 0 0 float 0 1 0\n"
     "put 0 0 float 0 2 0\n"
     "append 0 0 float 12 3 0\n"
     "put 0 1 text 20 4 2\n"
     "delete 0 1 null 0 0 0\n"
     "blob 0 2 blob 100 5 0\n"
     "append 0 3 int 40 6 0\n"
     "compact 0 0 null 0 0 1\n"
     "put 0 0 float 0 7 0\n"
     "append 0 3 int 9 8 0\n"
     "compact 0 0 null 0 0 1\n"
     "close 0 0 null 0 0 0\n",
     1},
    {"live-histories",
     "open 0 0 null 0 0 0\n"
     "append 0 0 float 40 1 0\n"
     "append 0 1 float 12 2 0\n"
     "put 0 2 text 20 3 1\n"
     "delete 0 1 null 0 0 0\n"
     "delete 0 0 null 0 0 0\n"
     "append 0 0 float 12 4 0\n"
     "blob 0 3 blob 100 5 0\n"
     "delete 0 3 null 0 0 0\n"
     "compact 0 0 null 0 0 2\n"
     "append 0 1 int 9 6 0\n"
     "compact 0 0 null 0 0 2\n"
     "close 0 0 null 0 0 0\n",
     1},
    {"compaction-unsynced",
     "open 0 0 null 0 0 1\n"
     "put 0 0 text 30 1 0\n"
     "put 0 0 text 31 2 0\n"
     "put 0 1 int 0 3 0\n"
     "compact 0 0 null 0 0 0\n"
     "put 0 0 text 20 4 0\n"
     "put 0 2 int 0 5 0\n"
     "compact 0 0 null 0 0 1\n"
     "put 0 2 int 0 6 0\n"
     "flush 0 0 null 0 0 0\n"
     "close 0 0 null 0 0 0\n",
     1},
    {"close-and-reopen",
     "open 0 0 null 0 0 0\n"
     "put 0 0 int 0 1 0\n"
     "close 0 0 null 0 0 0\n"
     "open 0 0 null 0 0 1\n"
     "put 0 1 int 0 2 0\n"
     "put 0 0 text 20 3 0\n"
     "close 0 0 null 0 0 0\n"
     "open 0 0 null 0 0 0\n"
     "close 0 0 null 0 0 0\n"
     "open 0 0 null 0 0 8\n"
     "put 0 2 text 25 4 0\n"
     "close 0 0 null 0 0 0\n",
     1},
    {"read-and-write-calls-only",
     "open 0 0 null 0 0 9\n"
     "put 0 0 int 0 1 0\n"
     "put 0 1 text 40 2 0\n"
     "flush 0 0 null 0 0 0\n"
     "put 0 0 int 0 3 0\n"
     "batch 0 2 null 3 4 0\n"
     "compact 0 0 null 0 0 0\n"
     "put 0 1 int 0 5 0\n"
     "close 0 0 null 0 0 0\n",
     1},
    {"key-checkpoint",
     "open 0 0 null 0 0 0\n"
     "put 0 5 bytes 1100000 1 0\n"
     "put 0 0 int 0 2 0\n"
     "close 0 0 null 0 0 0\n"
     "open 0 0 null 0 0 0\n"
     "put 0 0 int 0 3 0\n"
     "put 0 1 text 20 4 0\n"
     "put 0 5 bytes 100000 5 0\n"
     "close 0 0 null 0 0 0\n"
     "open 0 0 null 0 0 0\n"
     "put 0 2 int 0 6 0\n"
     "compact 0 0 null 0 0 0\n"
     "close 0 0 null 0 0 0\n",
     0.05},
    {"shared",
     "open 0 0 null 0 0 2\n"
     "put 0 0 int 0 1 0\n"
     "open 1 0 null 0 0 2\n"
     "put 1 1 text 20 2 0\n"
     "put 0 0 int 0 3 0\n"
     "batch 1 2 null 3 4 0\n"
     "delete 0 1 null 0 0 0\n"
     "close 0 0 null 0 0 0\n"
     "put 1 0 float 0 5 0\n"
     "close 1 0 null 0 0 0\n",
     1},
    {"shared-compaction",
     "open 0 0 null 0 0 2\n"
     "open 1 0 null 0 0 2\n"
     "put 0 0 int 0 1 0\n"
     "put 0 0 int 0 2 0\n"
     "put 1 1 text 20 3 0\n"
     "compact 0 0 null 0 0 0\n"
     "put 1 0 int 0 4 0\n"
     "put 0 2 int 0 5 0\n"
     "close 1 0 null 0 0 0\n"
     "close 0 0 null 0 0 0\n",
     1},
    {"backup",
     "open 0 0 null 0 0 0\n"
     "put 0 0 int 0 1 0\n"
     "put 0 1 text 20 2 0\n"
     "backup 0 0 null 0 1 0\n"
     "put 0 0 int 0 3 0\n"
     "blob 0 2 blob 50 4 0\n"
     "backup 0 0 null 0 2 0\n"
     "close 0 0 null 0 0 0\n",
     0.5},
    {"backup-of-nothing",
     "open 0 0 null 0 0 8\n"
     "backup 0 0 null 0 1 0\n"
     "compact 0 0 null 0 0 0\n"
     "compact 0 0 null 0 0 1\n"
     "backup 0 0 null 0 2 0\n"
     "put 0 0 int 0 1 0\n"
     "close 0 0 null 0 0 0\n",
     0.2},
};

#endif
