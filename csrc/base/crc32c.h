/* CRC32C (Castagnoli polynomial 0x1EDC6F41, reflected), by table, SSE4.2 or ARMv8, picked once at
 * run time. crc32c(0, "123456789", 9) == 0xE3069283. */
#ifndef SYNA_BASE_CRC32C_H
#define SYNA_BASE_CRC32C_H

#include "base/internal.h"

/* The checksum of the bytes so far plus these: crc32c(crc32c(0, a), b) == crc32c(0, a followed by b). */
uint32_t crc32c(uint32_t so_far, const void *bytes, size_t len);

/* The checksum of two runs of bytes, one behind the other, from theirs; the second has `len` bytes.
 * Costs about a microsecond, whatever the length. */
uint32_t crc32c_join(uint32_t first, uint32_t second, uint64_t len);

/* crc32c by table; for tests. */
uint32_t crc32c_table(uint32_t so_far, const void *bytes, size_t len);

#endif
