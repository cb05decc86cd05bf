/* The TensorEngine component: arrays in aligned chunks of a log. Functions mirror tensor.h and have its
 * contract; only what differs is said here.
 *
 * Files: tensor_core.h the structs; tensor_format.c the header of a stored tensor; tensor_version.c one
 * stored version: load, check, read, map; tensor_write.c put, append, delete; tensor_select.c patterns
 * to sets; tensor_set.c reading sets; tensor_convert.c dtypes. */
#ifndef SYNA_ENGINE_TENSOR_H
#define SYNA_ENGINE_TENSOR_H

#include "engine/db.h"
#include <synadb/tensor.h>

/* A face over an open database, which is borrowed and must outlive it. */
syna_rc tensors_new(syna_db *db, syna_tensors **out);
void tensors_free(syna_tensors *tensors);
syna_db *tensors_db(const syna_tensors *tensors);

/* Bytes of an element, 0 for no dtype of ours. */
size_t tensor_item_bytes(int32_t dtype);

/* ---- tensor_write.c */
syna_rc tensors_put(syna_tensors *tensors, const char *prefix, size_t prefix_len,
                    const syna_tensor_spec *spec, const void *data);
syna_rc tensors_append(syna_tensors *tensors, const char *prefix, size_t prefix_len,
                       const syna_tensor_spec *spec, const void *data, uint64_t *total);
syna_rc tensors_delete(syna_tensors *tensors, const char *pattern, size_t pattern_len,
                       uint32_t select, uint64_t *deleted);

/* ---- tensor_select.c */
syna_rc tensors_select(syna_tensors *tensors, const char *pattern, size_t pattern_len,
                       uint32_t select, syna_tensor_set **out);
void tensor_set_free(syna_tensor_set *set);

/* ---- tensor_set.c */
uint64_t tensor_set_count(const syna_tensor_set *set);
int32_t tensor_set_dtype(const syna_tensor_set *set);
syna_rc tensor_set_part(const syna_tensor_set *set, size_t index, syna_tensor_part *out);
syna_rc tensor_set_read(syna_tensor_set *set, uint64_t first, uint64_t count, void *out);
syna_rc tensor_set_read_as(syna_tensor_set *set, uint64_t first, uint64_t count, int32_t dtype,
                           void *out);
syna_rc tensor_set_rows(syna_tensor_set *set, uint64_t row, const int64_t *rows, size_t count,
                        void *out);
syna_rc tensor_set_view(syna_tensor_set *set, const void **data, syna_tensor_pin **pin);
void tensor_unpin(syna_tensor_pin *pin);

#endif
