/* The inside of a gravity well index; for the gwi*.c files only. Rows, keys, metadata, locks and files are
 * those of row_store.h; what is added is a partition.
 *
 * Rows that were inserted are fresh: not in a list, and scored by every search. Whoever finds enough of
 * them, and nobody at work, puts them into lists (gwi_maintain). */
#ifndef SYNA_ENGINE_GWI_CORE_H
#define SYNA_ENGINE_GWI_CORE_H

#include "engine/gwi.h"
#include "engine/row_store.h"
#include "index/partition.h"

#define GWI_SMALL 4096u /* rows up to which every search looks at all */

struct syna_wells {
    struct row_store base;
    struct partition part;
    struct snapshot *snapshot; /* that the lists stand in; NULL: they do not */
    uint32_t branching, levels, threads;
    uint32_t saved_end; /* rows that the saved lists cover, 0 = none are saved */
    bool sampled;       /* a sample was given */
    bool lists_changed; /* trained since they were saved */
    bool passing; /* gwi_pass_on */
    bool searched; /* atomic: since recall was measured */
};
static inline syna_wells *gwi_of(struct row_store *base)
{
    return (syna_wells *)(void *)base;
}

/* gwi_index.c: what is due for the lists, see row_store_kind.tend; what fails is tried again another time
 * and not told. */
syna_rc gwi_maintain(struct row_store *store, syna_progress_fn progress, void *context);
/* Before a search: recall is measured if that is due and was put off, because nobody searched. */
void gwi_measure_for_search(struct syna_wells *store);
/* The same where a search is sure to come, before lists are saved or after a training that was asked for.
 * index_lock is held. */
void gwi_measure_for_later(struct syna_wells *store);
/* No lists. */
void gwi_drop_lists(struct row_store *store);

/* gwi_file.c: see row_store_kind. */
syna_rc gwi_load_lists(struct row_store *store);
syna_rc gwi_save_lists(struct row_store *store, enum row_save why);

#endif
