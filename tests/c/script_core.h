/* What script.c and its model share. */
#ifndef SYNA_TESTS_SCRIPT_CORE_H
#define SYNA_TESTS_SCRIPT_CORE_H

#include "script.h"

/* The i-th number of an append, or the number of a put (i 0), as bits. */
uint64_t script_number(int32_t type, uint32_t id, uint32_t i);
/* When a put with this `how` expires; 0 = never. */
uint64_t script_expiry(uint8_t how);
/* The i-th entry of a batch: mostly puts, some deletes, of neighbouring keys. */
struct script_op script_batch_entry(const struct script_op *op, uint32_t i);

/* ---- digests */
uint64_t script_mix(uint64_t sum, uint64_t word);
uint64_t script_digest(int32_t type, const void *data, size_t len);
void script_add_record(struct script_key_state *k, int32_t type, bool deleted, const void *data,
                       size_t len, uint64_t expires, uint64_t time);

#endif
