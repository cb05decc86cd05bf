/* The error record: what it keeps, what it cuts, and that threads do not share it. */
#include "check.h"

TEST(a_failure_returns_its_code_and_fills_the_record)
{
    CHECK_EQ(syna_fail(SYNA_ERR_TYPE_MISMATCH, SYNA_WHY_NONE, "key %s: %d", "k", 7),
             SYNA_ERR_TYPE_MISMATCH);
    const struct status_record *r = status_get();
    CHECK_EQ(r->code, SYNA_ERR_TYPE_MISMATCH);
    CHECK_EQ(r->reason, SYNA_WHY_NONE);
    CHECK_EQ(r->system, 0);
    CHECK_EQ(r->offset, -1);
    CHECK_STR(r->path, "");
    CHECK_STR(r->message, "key k: 7");
    CHECK_STR(syna_last_error(), "key k: 7");
    CHECK_EQ(syna_last_offset(), -1);
}

TEST(a_failure_in_a_file_names_file_offset_and_the_systems_word)
{
    syna_fail_at(SYNA_ERR_IO, SYNA_WHY_NONE, "/d/a.db", 4096, EACCES, "read of %d", 3);
    CHECK_STR(syna_last_error(), "/d/a.db: offset 4096: read of 3: Permission denied");
    CHECK_STR(syna_last_path(), "/d/a.db");
    CHECK_EQ(syna_last_errno(), EACCES);
    CHECK_EQ(syna_last_offset(), 4096);
    CHECK_EQ(syna_last_reason(), SYNA_WHY_NONE);

    syna_fail_at(SYNA_ERR_GENERIC, SYNA_WHY_ARGUMENT, NULL, -1, 0, "only %s", "this");
    CHECK_STR(syna_last_error(), "only this");
    CHECK_STR(syna_last_path(), "");
}

TEST(a_full_disk_is_its_own_reason_unless_another_was_given)
{
    const int full[] = {ENOSPC, EDQUOT, EFBIG};
    for (size_t i = 0; i < COUNT_OF(full); i++) {
        syna_fail_at(SYNA_ERR_IO, SYNA_WHY_NONE, "a", -1, full[i], "write");
        CHECK_EQ(syna_last_reason(), SYNA_WHY_NO_SPACE);
        syna_fail_at(SYNA_ERR_IO, SYNA_WHY_SYNC_FAILED, "a", -1, full[i], "sync");
        CHECK_EQ(syna_last_reason(), SYNA_WHY_SYNC_FAILED);
    }
}

/* Every length around the limit, ended by characters of one to four bytes: the message is always cut
 * between characters. */
TEST(long_texts_are_cut_between_characters)
{
    const char *last[] = {"x", "\xc3\xa9", "\xe2\x82\xac", "\xf0\x9f\x98\x80"};
    char text[700];
    for (size_t kind = 0; kind < COUNT_OF(last); kind++) {
        for (size_t len = 490; len < 530; len++) {
            memset(text, 'a', len);
            text[len] = 0;
            strcat(text, last[kind]);
            syna_fail(SYNA_ERR_GENERIC, SYNA_WHY_NONE, "%s", text);
            size_t got = strlen(syna_last_error());
            size_t whole = len + strlen(last[kind]);
            check_note("%zu + %zu bytes", len, strlen(last[kind]));
            CHECK_EQ(got, whole <= 511 ? whole : MIN(len, (size_t)511));
            CHECK_MEM(syna_last_error(), text, got);
        }
    }
}

TEST(a_long_path_is_known_by_its_end)
{
    char path[1000];
    for (size_t i = 0; i < 900; i += 2)
        memcpy(path + i, "\xc3\xa9", 2);
    memcpy(path + 900, "/end.db", 8);
    syna_fail_at(SYNA_ERR_IO, SYNA_WHY_NONE, path, 5, EIO, "read failed");
    const char *kept = syna_last_path();
    size_t len = strlen(kept);
    CHECK(len == 254 || len == 255);
    CHECK_EQ((uint8_t)kept[0], 0xc3);
    CHECK_STR(kept, path + 907 - len);
    CHECK(strstr(syna_last_error(), "/end.db: offset 5: read failed: ") != NULL);
    CHECK_MEM(syna_last_error(), "...", 3);
}

static void *fail_elsewhere(void *context)
{
    (void)context;
    CHECK_EQ(status_get()->code, SYNA_SUCCESS);
    CHECK_STR(syna_last_error(), "");
    CHECK_EQ(syna_last_offset(), -1);
    syna_fail(SYNA_ERR_INTERNAL, SYNA_WHY_NO_MEMORY, "elsewhere");
    CHECK_STR(syna_last_error(), "elsewhere");
    return NULL;
}

TEST(each_thread_has_a_record_of_its_own)
{
    syna_fail(SYNA_ERR_GENERIC, SYNA_WHY_ARGUMENT, "here");
    pthread_t threads[8];
    for (size_t i = 0; i < COUNT_OF(threads); i++)
        CHECK_EQ(pthread_create(&threads[i], NULL, fail_elsewhere, NULL), 0);
    for (size_t i = 0; i < COUNT_OF(threads); i++)
        pthread_join(threads[i], NULL);
    CHECK_STR(syna_last_error(), "here");
}

static void *carry(void *record)
{
    CHECK_EQ(status_set(record), SYNA_ERR_IO);
    CHECK_STR(syna_last_error(), "the leader's: No space left on device");
    CHECK_EQ(syna_last_reason(), SYNA_WHY_NO_SPACE);
    return NULL;
}

TEST(a_record_can_be_carried_to_another_thread)
{
    syna_fail_at(SYNA_ERR_IO, SYNA_WHY_NONE, NULL, -1, ENOSPC, "the leader's");
    struct status_record record = *status_get();
    pthread_t thread;
    CHECK_EQ(pthread_create(&thread, NULL, carry, &record), 0);
    pthread_join(thread, NULL);
    CHECK_EQ(status_set(status_get()), SYNA_ERR_IO); /* onto itself */
}

static bool refuse(void *context, size_t bytes)
{
    (void)context;
    (void)bytes;
    return false;
}

TEST(reporting_out_of_memory_does_not_allocate)
{
    syna_test_set_alloc(refuse, NULL);
    syna_rc rc = syna_no_memory(12345);
    syna_test_set_alloc(NULL, NULL);
    CHECK_EQ(rc, SYNA_ERR_INTERNAL);
    CHECK_EQ(syna_last_reason(), SYNA_WHY_NO_MEMORY);
    CHECK_STR(syna_last_error(), "no memory for 12345 bytes");
}

TEST(the_library_tells_its_version)
{
    CHECK_STR(syna_version(), SYNA_VERSION);
    CHECK_EQ(syna_abi_version(), SYNA_ABI_VERSION);
}
