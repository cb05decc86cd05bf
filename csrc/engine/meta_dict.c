/* meta_dict.c - strings with numbers and counted references. Open addressing by linear probing; removal
 * shifts later places back, so look-ups never degrade. */
#include "base/internal.h"

#include "base/hash.h"
#include "engine/meta_core.h"

#define SEED 0x73796e61u
#define PLACES_FIRST 64u

void dict_init(struct dict *dict)
{
    *dict = (struct dict){.next_free = DICT_NONE};
}

void dict_dispose(struct dict *dict)
{
    for (uint32_t i = 0; i < dict_top(dict); i++)
        mem_free(dict_at(dict, i)->bytes);
    buf_dispose(&dict->words);
    mem_free(dict->places);
    dict_init(dict);
}

uint64_t dict_memory(const struct dict *dict)
{
    return dict->bytes + dict->words.cap + dict->place_count * sizeof *dict->places;
}

/* ---------------------------------------------------------------- places */

/* Where the string stands, or would be put. There is a free place. */
static size_t place_of(const struct dict *dict, uint64_t hash, const char *bytes, size_t len)
{
    size_t mask = dict->place_count - 1, at = hash & mask;
    while (dict->places[at] != DICT_NONE) {
        const struct dict_word *word = dict_at(dict, dict->places[at]);
        if (word->hash == hash && word->len == len && memcmp(word->bytes, bytes, len) == 0)
            break;
        at = (at + 1) & mask;
    }
    return at;
}

static bool grow_places(struct dict *dict)
{
    if (dict->used + 1 <= dict->place_count / 4 * 3)
        return true;
    size_t count = MAX((size_t)PLACES_FIRST, dict->place_count * 2), mask = count - 1;
    uint32_t *places = mem_alloc(count * sizeof *places);
    if (!places)
        return false;
    memset(places, 0xff, count * sizeof *places);
    for (uint32_t i = 0; i < dict_top(dict); i++) {
        if (!dict_at(dict, i)->bytes)
            continue;
        size_t at = dict_at(dict, i)->hash & mask;
        while (places[at] != DICT_NONE)
            at = (at + 1) & mask;
        places[at] = i;
    }
    mem_free(dict->places);
    dict->places = places;
    dict->place_count = count;
    return true;
}

static void remove_place(struct dict *dict, size_t at)
{
    size_t mask = dict->place_count - 1;
    for (size_t next = (at + 1) & mask; dict->places[next] != DICT_NONE; next = (next + 1) & mask) {
        size_t home = dict_at(dict, dict->places[next])->hash & mask;
        if (((next - home) & mask) < ((next - at) & mask))
            continue; /* its home lies behind the gap */
        dict->places[at] = dict->places[next];
        at = next;
    }
    dict->places[at] = DICT_NONE;
}

/* ---------------------------------------------------------------- numbers */

uint32_t dict_find(const struct dict *dict, const char *bytes, size_t len)
{
    if (dict->place_count == 0)
        return DICT_NONE;
    return dict->places[place_of(dict, hash_bytes(SEED, bytes, len), bytes, len)];
}

static uint32_t new_number(struct dict *dict)
{
    uint32_t number = dict->next_free;
    if (number != DICT_NONE) {
        dict->next_free = dict_at(dict, number)->len;
        return number;
    }
    if (dict_top(dict) >= DICT_NONE - 1)
        return DICT_NONE;
    number = (uint32_t)dict_top(dict);
    struct dict_word *word = (struct dict_word *)(void *)buf_extend(&dict->words, sizeof *word);
    if (!word)
        return DICT_NONE;
    word->bytes = NULL;
    return number;
}

uint32_t dict_take(struct dict *dict, const char *bytes, size_t len)
{
    if (!grow_places(dict))
        return DICT_NONE;
    uint64_t hash = hash_bytes(SEED, bytes, len);
    size_t at = place_of(dict, hash, bytes, len);
    uint32_t number = dict->places[at];
    if (number != DICT_NONE) {
        struct dict_word *known = dict_at(dict, number);
        known->refs += known->refs < UINT32_MAX; /* a count that is full stays so, and the word too */
        return number;
    }
    char *copy = mem_dup(bytes, len);
    number = copy ? new_number(dict) : DICT_NONE;
    if (number == DICT_NONE) {
        mem_free(copy);
        return DICT_NONE;
    }
    *dict_at(dict, number) =
        (struct dict_word){.bytes = copy, .len = (uint32_t)len, .refs = 1, .hash = hash};
    dict->places[at] = number;
    dict->used++;
    dict->bytes += len + 1;
    return number;
}

void dict_give(struct dict *dict, uint32_t number)
{
    struct dict_word *word = dict_at(dict, number);
    if (word->refs == UINT32_MAX || --word->refs > 0)
        return;
    remove_place(dict, place_of(dict, word->hash, word->bytes, word->len));
    dict->bytes -= word->len + 1;
    dict->used--;
    mem_free(word->bytes);
    *word = (struct dict_word){.len = dict->next_free};
    dict->next_free = number;
}
