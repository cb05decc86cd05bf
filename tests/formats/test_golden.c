/* T14: files written by earlier releases open and show what they always showed (P16), and this
 * release writes the same bytes: a format that changes without a new version is a mistake.
 *
 * GOLDEN_WRITE=1 writes the files that do not exist yet; those that do are never touched. */
#include "check.h"

#include "golden.h"

static int32_t print_record(void *context, const syna_record *r)
{
    FILE *to = context;
    const uint8_t *bytes = r->data;
    fprintf(to, "%.*s time %llu expires %llu ", (int)r->key_len, r->key,
            (unsigned long long)r->time_us, (unsigned long long)r->expires_us);
    if (r->deleted)
        fprintf(to, "deleted");
    else
        fprintf(to, "type %d, %zu bytes ", r->type, r->len);
    for (size_t i = 0; !r->deleted && i < r->len; i++)
        fprintf(to, "%02x", bytes[i]);
    fprintf(to, "\n");
    return 0;
}

static void print_newest(syna_db *db, const char *key, FILE *to)
{
    uint8_t value[4096];
    size_t len;
    int32_t type;
    syna_rc rc = db_get(db, key, 2, value, sizeof value, &len, &type);
    if (rc == SYNA_ERR_KEY_NOT_FOUND)
        fprintf(to, "%s is not there\n", key);
    else
        fprintf(to, "%s is of type %d, %zu bytes\n", key, type, len);
    CHECK(rc == SYNA_ERR_KEY_NOT_FOUND || rc == SYNA_SUCCESS);
}

/* All that a reader sees, as text. The caller frees it. */
static char *contents(const char *path)
{
    syna_db_options options = {.size = sizeof options, .read_only = 1};
    char *text = NULL;
    size_t len = 0;
    uint64_t live;
    syna_db *db;
    CHECK_OK(db_open(path, &options, &db));
    FILE *to = open_memstream(&text, &len);
    for (char digit = '0'; digit < (char)('0' + SCRIPT_KEYS); digit++) {
        char key[3] = {'k', digit, 0};
        CHECK_OK(db_history(db, key, 2, print_record, to));
        print_newest(db, key, to);
    }
    CHECK_OK(db_count(db, &live));
    fprintf(to, "%llu keys live\n", (unsigned long long)live);
    fclose(to);
    CHECK_OK(db_close(db));
    return text;
}

static void write_missing(const char *path, const void *bytes, size_t len)
{
    FILE *f = getenv("GOLDEN_WRITE") ? fopen(path, "wxb") : NULL;
    if (f) {
        CHECK_EQ(fwrite(bytes, 1, len, f), len);
        fclose(f);
        printf("wrote %s\n", path);
    }
}

static char *contents_in(struct mem_fs *fs)
{
    mem_fs_set_clock(fs, SCRIPT_PROBE_US + 1000000, 1);
    mem_fs_use(fs);
    syna_test_set_vfs(&vfs_mem);
    char *text = contents(GOLDEN_PATH);
    syna_test_set_vfs(NULL);
    return text;
}

static void for_each_golden(void (*check)(const struct golden *g))
{
    for (size_t i = 0; i < COUNT_OF(goldens); i++) {
        check_note("%s", goldens[i].name);
        check(&goldens[i]);
    }
}

static void same_bytes(const struct golden *g)
{
    struct script_state states[SCRIPT_OPS + 1];
    struct mem_fs *fs = mem_fs_new(42);
    uint8_t kept[16384];
    char path[600];
    size_t size;
    golden_make(g, fs, states);
    const uint8_t *bytes = mem_fs_bytes(fs, mem_fs_find(fs, GOLDEN_PATH), &size);
    CHECK(size <= 8192);
    golden_file(g->name, ".db", path, sizeof path);
    write_missing(path, bytes, size);
    CHECK_EQ(golden_read(path, kept, sizeof kept), size);
    CHECK_MEM(bytes, kept, size);
    char *text = contents_in(fs);
    golden_file(g->name, ".txt", path, sizeof path);
    write_missing(path, text, strlen(text));
    free(text);
    mem_fs_free(fs);
}

TEST(P16_this_release_writes_the_same_bytes)
{
    for_each_golden(same_bytes);
}

static void same_contents(const struct golden *g)
{
    struct mem_fs *fs = mem_fs_new(7);
    uint8_t kept[16384];
    static char want[65536];
    char path[600];
    size_t len = golden_read(golden_file(g->name, ".db", path, sizeof path), kept, sizeof kept);
    mem_fs_write(fs, mem_fs_create(fs, GOLDEN_PATH), 0, kept, len);
    char *got = contents_in(fs);
    len = golden_read(golden_file(g->name, ".txt", path, sizeof path), (uint8_t *)want,
                      sizeof want - 1);
    want[len] = 0;
    CHECK_STR(got, want);
    free(got);
    mem_fs_free(fs);
}

TEST(P16_kept_files_show_what_they_always_showed)
{
    for_each_golden(same_contents);
}

static void takes_more(const struct golden *g)
{
    uint8_t kept[16384];
    char path[600];
    size_t len = golden_read(golden_file(g->name, ".db", path, sizeof path), kept, sizeof kept);
    const char *copy = check_path(g->name);
    FILE *f = fopen(copy, "wb");
    CHECK(f && fwrite(kept, 1, len, f) == len);
    fclose(f);
    for (int mode = SYNA_COMPACT_HISTORY; mode >= SYNA_COMPACT_LATEST; mode--) {
        syna_check found = {.size = sizeof found};
        syna_db *db;
        CHECK_OK(db_open(copy, NULL, &db));
        CHECK_OK(db_put(db, "k0", 2, SYNA_TYPE_TEXT, "more", 4, NULL, NULL));
        CHECK_OK(db_compact(db, mode, NULL, NULL));
        CHECK_OK(db_close(db));
        CHECK_OK(db_verify(copy, NULL, NULL, NULL, &found));
        CHECK_EQ(found.damaged, 0);
    }
}

TEST(P16_kept_files_are_written_to_and_compacted)
{
    for_each_golden(takes_more);
}
