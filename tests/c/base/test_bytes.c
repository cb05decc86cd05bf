/* Looking for the ends of zeros, byte by byte against eight at a time. */
#include "check.h"

#include "base/bytes.h"

TEST(the_ends_of_zeros_are_found_at_every_length_and_place)
{
    uint8_t bytes[40];
    for (size_t len = 0; len <= sizeof bytes; len++) {
        memset(bytes, 0, sizeof bytes);
        CHECK_EQ(nonzero_start(bytes, len), len);
        CHECK_EQ(nonzero_end(bytes, len), 0);
        for (size_t first = 0; first < len; first++)
            for (size_t last = first; last < len; last++) {
                memset(bytes, 0, sizeof bytes);
                bytes[first] = 0x80;
                bytes[last] = 1;
                CHECK_EQ(nonzero_start(bytes, len), first);
                CHECK_EQ(nonzero_end(bytes, len), last + 1);
            }
    }
}
