/* The paths that are known to mean one open file: its canonical path, and absolute ones that led to it.
 * They save asking the system. */
#ifndef SYNA_API_SPELLINGS_H
#define SYNA_API_SPELLINGS_H

#include "base/internal.h"

struct spelling;
struct spellings {
    char *canonical; /* owned */
    struct spelling *others;
};

bool spellings_have(const struct spellings *s, const char *path);
/* Remember a path that led here, if it is absolute; without memory it is not remembered. */
void spellings_add(struct spellings *s, const char *path);
void spellings_dispose(struct spellings *s);

#endif
