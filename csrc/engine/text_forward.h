/* The terms of each row of a text index: what dropping a row takes back, and what packing copies.
 *
 * A snapshot does not have them, because its postings say the same the other way round. So of the rows that
 * came with one nothing is known at first. As long as few of them go, each is looked for in the postings,
 * term by term; then the terms of all of them are made of the postings at once.
 *
 * Not thread-safe: calls marked (w) need the whole exclusively, the others share it. */
#ifndef SYNA_ENGINE_TEXT_FORWARD_H
#define SYNA_ENGINE_TEXT_FORWARD_H

#include "index/array.h"
#include "index/postings.h"

struct forward {
    struct array bytes; /* of the rows from `first` on: the differences of sorted terms, as varints */
    struct array ends;  /* uint64 each: where they end */
    uint32_t first;     /* rows before it came with a snapshot */
    uint32_t count;     /* rows from it on */
    uint8_t *old_bytes; /* the same of the rows before, when they have been made; of live ones then */
    uint64_t *old_ends; /* NULL: they have not */
    uint64_t asked;     /* terms that rows before `first` were asked for meanwhile */
};

/* `first` rows came with a snapshot. A struct of zeros may be disposed of. */
syna_rc forward_init(struct forward *f, uint32_t first);
void forward_dispose(struct forward *f);

/* (w) Room for so many more rows with so many terms in all. */
syna_rc forward_reserve(struct forward *f, size_t rows, size_t terms);
/* (w) The next row: terms ascending, none twice. There must be room. */
void forward_put(struct forward *f, const uint32_t *terms, uint32_t count);

/* (w) Make the terms of all rows that came with a snapshot, and are live, of the postings, in which terms
 * are below `terms`. Nothing when they are there. */
syna_rc forward_recall(struct forward *f, const struct postings *p, uint32_t terms);

typedef void (*forward_fn)(void *context, uint32_t term);
/* (w) Each term of a live row. Cannot fail: without memory for forward_recall it takes longer. */
void forward_each(struct forward *f, const struct postings *p, uint32_t terms, uint32_t row,
                  forward_fn visit, void *context);

/* The varints of a row: [*at, *stop). Of a row that came with a snapshot forward_recall comes before. */
void forward_row(const struct forward *f, uint32_t row, const uint8_t **at, const uint8_t **stop);

uint64_t forward_memory(const struct forward *f);

#endif
