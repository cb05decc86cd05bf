/* Metadata of rows: any JSON object per row, kept as text, and as typed columns that filters scan.
 *
 * A field of an object is named by its path, nested objects by dots ("author.name"). Each field that
 * occurs has a column: one word a row for numbers (float64, and int64 exactly), booleans and null,
 * dictionary codes for strings; lists of scalars match when one of their elements does. What columns
 * cannot hold (objects inside lists) is kept in the text alone and is matched by $exists only.
 *
 * Filters are JSON:
 *   {"field": value}  {"field": {"$eq" "$ne" "$lt" "$lte" "$gt" "$gte": value}}
 *   {"field": {"$in": [..]}} {"field": {"$nin": [..]}} {"field": {"$exists": true}}
 *   {"field": {"$contains": value}} (a list has it, or a string has it as a part)
 *   {"$and": [..]} {"$or": [..]} {"$not": {..}}; several fields in one object: all of them
 * Numbers compare across int and float exactly; other types never equal each other, and order only
 * within their type. A row without the field matches $ne, $nin and $exists false only.
 *
 * Not thread-safe: calls marked (w) need the whole exclusively, the others share it. */
#ifndef SYNA_ENGINE_META_H
#define SYNA_ENGINE_META_H

#include "base/status.h"
#include "store/snapshot.h"

struct meta;

syna_rc meta_new(struct meta **out);
void meta_free(struct meta *meta);

/* Is this text one JSON object (RFC 8259, UTF-8, at most 64 deep)? ARGUMENT otherwise, naming the byte
 * and what was expected. */
syna_rc meta_check(const char *json, size_t len);

/* (w) What row has now; NULL: nothing. All or nothing: on an error the row keeps what it had. The text
 * must have passed meta_check. */
syna_rc meta_set(struct meta *meta, uint32_t row, const char *json, size_t len);
/* (w) Room so that meta_set of `rows` rows below `top` with `bytes` of text together cannot fail. */
syna_rc meta_reserve(struct meta *meta, uint32_t top, size_t rows, size_t bytes);
/* (w) The row is gone. */
void meta_clear(struct meta *meta, uint32_t row);
/* (w) What row `from` had belongs to row `to` now, which had nothing and is below it (or below a `top`
 * that room was made for). */
void meta_move(struct meta *meta, uint32_t from, uint32_t to);
/* The text of a row, borrowed until the next (w) call; NULL when it has none. */
const char *meta_text(const struct meta *meta, uint32_t row, size_t *len);
uint64_t meta_bytes(const struct meta *meta); /* NULL: 0 */

/* Sections "metarows" (u32 row, u32 length of each text, ascending) and "metatext" (the texts). (w)
 * loading, into metadata that is empty: *found false when they are not there or not sound; rows are
 * below `rows`. */
syna_rc meta_save(const struct meta *meta, struct snapshot_writer *writer);
syna_rc meta_load(struct meta *meta, struct snapshot *snapshot, uint32_t rows, bool *found);

/* A parsed filter: independent of any store, immutable. ARGUMENT when it is not one, naming the
 * operator or the byte. */
struct filter;
syna_rc filter_parse(const char *json, size_t len, struct filter **out);
void filter_free(struct filter *filter);

/* bits[i / 64] gets bit i % 64 for every row i < rows that is in `live` (one bit a row; NULL: all) and
 * matches; the other bits below the next multiple of 64 are cleared. *matches counts them. Columns are
 * scanned, several rows at a time. */
syna_rc meta_select(const struct meta *meta, const struct filter *filter, uint32_t rows,
                    const uint64_t *live, uint64_t *bits, uint64_t *matches);

#endif
