/* SHA-256: the published vectors, pieces of every size, and the scalar path against the processor's. */
#include "check.h"

#include "base/sha256.h"

static void digest_of(const void *bytes, size_t len, uint8_t digest[32])
{
    struct sha256 s;
    sha256_init(&s);
    sha256_add(&s, bytes, len);
    sha256_finish(&s, digest);
}

static void check_hex(const uint8_t digest[32], const char *hex)
{
    char text[65];
    for (size_t i = 0; i < 32; i++)
        snprintf(text + 2 * i, 3, "%02x", digest[i]);
    CHECK_STR(text, hex);
}

/* FIPS 180-4 examples and the NIST short-message set. */
TEST(published_values)
{
    uint8_t d[32];
    digest_of("", 0, d);
    check_hex(d, "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855");
    digest_of("abc", 3, d);
    check_hex(d, "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad");
    digest_of("abcdbcdecdefdefgefghfghighijhijkijkljklmklmnlmnomnopnopq", 56, d);
    check_hex(d, "248d6a61d20638b8e5c026930c3e6039a33ce45964ff2167f6ecedd419db06c1");
    digest_of("abcdefghbcdefghicdefghijdefghijkefghijklfghijklmghijklmn"
              "hijklmnoijklmnopjklmnopqklmnopqrlmnopqrsmnopqrstnopqrstu",
              112, d);
    check_hex(d, "cf5b16a778af8380036ce59e7b0492370b249b11e8f07a51afac45037afee9d1");
    digest_of("\xbd", 1, d);
    check_hex(d, "68325720aabd7c82f30f554b313d0570c95accbb7dc4b5aae11204c08ffe732b");
}

TEST(a_million_letters)
{
    static uint8_t letters[1000];
    memset(letters, 'a', sizeof letters);
    struct sha256 s;
    sha256_init(&s);
    for (int i = 0; i < 1000; i++)
        sha256_add(&s, letters, sizeof letters);
    uint8_t d[32];
    sha256_finish(&s, d);
    check_hex(d, "cdc76e5c9914fb9281a1c7e284d73e67f1809a48a497200e046d39ccc7112cd0");
}

TEST(pieces_of_any_size_give_the_same_digest)
{
    uint8_t bytes[400], whole[32], pieces[32];
    for (size_t i = 0; i < sizeof bytes; i++)
        bytes[i] = (uint8_t)check_random();
    for (size_t len = 0; len < sizeof bytes; len++) {
        digest_of(bytes, len, whole);
        struct sha256 s;
        sha256_init(&s);
        for (size_t at = 0; at < len;) {
            size_t piece = check_random() % 130;
            piece = MIN(piece, len - at);
            sha256_add(&s, bytes + at, piece);
            at += piece;
        }
        sha256_finish(&s, pieces);
        check_note("%zu bytes", len);
        CHECK_MEM(pieces, whole, 32);
    }
}

/* A chained digest over every length, which the run with SYNADB_SIMD=scalar must repeat. */
static void chain(uint8_t d[32])
{
    uint8_t bytes[300];
    struct sha256 s;
    sha256_init(&s);
    for (size_t len = 0; len < sizeof bytes; len++) {
        memset(bytes, (int)(len * 7), len);
        sha256_add(&s, bytes, len);
    }
    sha256_finish(&s, d);
}

TEST(both_paths_agree)
{
    uint8_t d[32];
    chain(d);
    if (getenv("SHA_CHAIN")) {
        for (size_t i = 0; i < 32; i++)
            printf("%02x", d[i]);
        printf("\n");
        return;
    }
    FILE *out = check_run_self("SYNADB_SIMD=scalar SHA_CHAIN=1", "both_paths published million pieces");
    char line[80];
    bool seen = false;
    while (fgets(line, sizeof line, out)) {
        if (strlen(line) == 65) {
            line[64] = 0;
            check_hex(d, line);
            seen = true;
        }
    }
    CHECK_EQ(pclose(out), 0);
    CHECK(seen);
}
