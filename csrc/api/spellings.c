/* spellings.c - a list of paths is short, so it is simply read: see spellings.h. */
#include "base/internal.h"

#include "api/spellings.h"
#include "base/mem.h"

struct spelling {
    struct spelling *next;
    char text[];
};

bool spellings_have(const struct spellings *s, const char *path)
{
    for (const struct spelling *other = s->others; other; other = other->next)
        if (strcmp(other->text, path) == 0)
            return true;
    return strcmp(s->canonical, path) == 0;
}

void spellings_add(struct spellings *s, const char *path)
{
    if (path[0] != '/' || spellings_have(s, path))
        return;
    size_t len = strlen(path) + 1;
    struct spelling *other = mem_alloc(sizeof *other + len);
    if (!other)
        return;
    memcpy(other->text, path, len);
    other->next = s->others;
    s->others = other;
}

void spellings_dispose(struct spellings *s)
{
    for (struct spelling *other = s->others, *next; other; other = next) {
        next = other->next;
        mem_free(other);
    }
    mem_free(s->canonical);
}
