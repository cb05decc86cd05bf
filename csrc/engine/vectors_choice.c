/* vectors_choice.c - which rows a filter chooses, remembered from one search to the next.
 *
 * Programs ask many questions with one filter. What it chose last is kept, with its text, and used as long
 * as no row and no metadata has changed since. It is shared by counting: a search that goes on with it
 * holds it, whatever others put in its place meanwhile.
 *
 * Invariant: a choice never changes once it is in store->choice; only `holders` does. */
#include "base/internal.h"

#include "engine/vectors_search.h"

struct choice {
    size_t holders;    /* atomic: searches, and the store */
    uint64_t revision; /* of the store when it was made */
    uint64_t matches;
    uint64_t *bits;
    size_t len;
    char text[];
};

syna_rc vectors_select(const syna_vectors *store, const struct filter *filter, uint64_t **bits,
                       uint64_t *matches)
{
    size_t bytes = (store->set.count / 64 + 1) * sizeof **bits;
    *bits = mem_zalloc(bytes);
    *matches = 0;
    if (!*bits)
        return syna_no_memory(bytes);
    if (store->set.count == 0)
        return SYNA_SUCCESS;
    syna_rc rc = meta_select(store->meta, filter, store->set.count, vectors_live_bits(store), *bits,
                             matches);
    if (rc != SYNA_SUCCESS) {
        mem_free(*bits);
        *bits = NULL;
    }
    return rc;
}

void choice_release(struct choice *choice)
{
    if (!choice || __atomic_sub_fetch(&choice->holders, 1, __ATOMIC_ACQ_REL) > 0)
        return;
    mem_free(choice->bits);
    mem_free(choice);
}

static syna_rc make(const syna_vectors *store, const char *text, size_t len, struct choice **out)
{
    struct filter *filter;
    struct choice *made = mem_alloc(sizeof *made + len);
    if (!made)
        return syna_no_memory(sizeof *made + len);
    *made = (struct choice){.holders = 1, .revision = store->revision, .len = len};
    memcpy(made->text, text, len);
    syna_rc rc = filter_parse(text, len, &filter);
    if (rc == SYNA_SUCCESS) {
        rc = vectors_select(store, filter, &made->bits, &made->matches);
        filter_free(filter);
    }
    if (rc != SYNA_SUCCESS) {
        choice_release(made);
        return rc;
    }
    *out = made;
    return SYNA_SUCCESS;
}

/* The one that is kept, if it is of this text and of now. */
static struct choice *kept(syna_vectors *store, const char *text, size_t len)
{
    pthread_mutex_lock(&store->choice_lock);
    struct choice *choice = store->choice;
    if (choice && (choice->revision != store->revision || choice->len != len ||
                   memcmp(choice->text, text, len) != 0))
        choice = NULL;
    if (choice)
        __atomic_add_fetch(&choice->holders, 1, __ATOMIC_RELAXED);
    pthread_mutex_unlock(&store->choice_lock);
    return choice;
}

static void keep(syna_vectors *store, struct choice *choice)
{
    __atomic_add_fetch(&choice->holders, 1, __ATOMIC_RELAXED);
    pthread_mutex_lock(&store->choice_lock);
    struct choice *old = store->choice;
    store->choice = choice;
    pthread_mutex_unlock(&store->choice_lock);
    choice_release(old);
}

syna_rc vectors_choose(syna_vectors *store, const char *text, size_t len, struct choice **out,
                       const uint64_t **bits, uint64_t *matches)
{
    *out = kept(store, text, len);
    if (!*out) {
        SYNA_TRY(make(store, text, len, out));
        keep(store, *out);
    }
    *bits = (*out)->bits;
    *matches = (*out)->matches;
    return SYNA_SUCCESS;
}
