/* stopwords.c - English words that are in nearly every text. */
#include "base/internal.h"

#include "index/analyzer.h"

/* Words of one length stand together. */
static const char *const of_length[] = {
    "",
    "a",
    "anasatbebyifinisitnoofonorto",
    "andareforhasnotthewas",
    "intosuchthatthenthustheythiswillwith",
    "theirtherethese",
};

bool stopword_english(const char *word, size_t len)
{
    if (len == 0 || len >= COUNT_OF(of_length))
        return false;
    for (const char *at = of_length[len]; *at; at += len)
        if (memcmp(at, word, len) == 0)
            return true;
    return false;
}
