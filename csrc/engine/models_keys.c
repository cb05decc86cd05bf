/* models_keys.c - see models.h for the layout. "model/" NAME "/v" NUMBER "/" PART is read from the right:
 * PART has no slash, NUMBER is canonical, so the rest is the name, whatever it contains. */
#include "base/internal.h"

#include "base/status.h"
#include "engine/models.h"
#include "engine/models_keys.h"

#include <stdarg.h>

#define PREFIX "model/"
#define PREFIX_LEN (sizeof PREFIX - 1)

syna_rc models_check_name(const char *name)
{
    size_t len = strlen(name);
    if (len == 0 || len > SYNA_MODEL_NAME_MAX)
        return syna_fail(len ? SYNA_ERR_KEY_TOO_LONG : SYNA_ERR_EMPTY_KEY, SYNA_WHY_ARGUMENT,
                         "the model's name has %zu bytes; expected 1 to %u bytes of UTF-8", len,
                         SYNA_MODEL_NAME_MAX);
    return db_check_key(name, len);
}

syna_rc models_check_alias(const char *alias)
{
    size_t len = strlen(alias);
    if (len == 0 || len > SYNA_MODEL_ALIAS_MAX || strchr(alias, '/'))
        return syna_fail(SYNA_ERR_GENERIC, SYNA_WHY_ARGUMENT,
                         "the alias \"%.200s\" of %zu bytes; expected 1 to %u bytes without '/'",
                         alias, len, SYNA_MODEL_ALIAS_MAX);
    return db_check_key(alias, len);
}

syna_rc models_key(struct buf *key, const char *name, const char *format, ...)
{
    char tail[SYNA_MODEL_ALIAS_MAX + 64];
    va_list args;
    va_start(args, format);
    int len = vsnprintf(tail, sizeof tail, format, args);
    va_end(args);
    assert(len >= 0 && (size_t)len < sizeof tail);
    key->len = 0;
    if (!buf_append(key, PREFIX, PREFIX_LEN) || !buf_append(key, name, strlen(name)) ||
        !buf_append(key, "/", 1) || !buf_append(key, tail, (size_t)len + 1))
        return syna_no_memory(key->len + (size_t)len);
    key->len--;
    return SYNA_SUCCESS;
}

syna_rc models_version_key(struct buf *key, const char *name, uint32_t version, const char *part)
{
    return models_key(key, name, "v%u/%s", version, part);
}

/* The number whose last digit stands before `end`, preceded by "/v"; *start is where the "/v" is. */
static bool number_before(const char *key, size_t end, size_t *start, uint32_t *number)
{
    size_t at = end;
    uint64_t value = 0, scale = 1;
    while (at > 0 && key[at - 1] >= '0' && key[at - 1] <= '9' && end - at < 10) {
        at--;
        value += (uint64_t)(key[at] - '0') * scale;
        scale *= 10;
    }
    if (at == end || key[at] == '0' || value > UINT32_MAX || at < 2)
        return false;
    *start = at - 2;
    *number = (uint32_t)value;
    return key[at - 1] == 'v' && key[at - 2] == '/';
}

bool models_parse(const char *key, size_t len, const char *part, const char **name,
                  size_t *name_len, uint32_t *version)
{
    size_t part_len = strlen(part), start;
    if (len <= PREFIX_LEN + part_len + 1 || memcmp(key, PREFIX, PREFIX_LEN) != 0)
        return false;
    size_t slash = len - part_len - 1;
    if (key[slash] != '/' || memcmp(key + slash + 1, part, part_len) != 0)
        return false;
    if (!number_before(key, slash, &start, version) || start <= PREFIX_LEN)
        return false;
    *name = key + PREFIX_LEN;
    *name_len = start - PREFIX_LEN;
    return true;
}

static int by_number(const void *a, const void *b)
{
    uint32_t x, y;
    memcpy(&x, a, sizeof x);
    memcpy(&y, b, sizeof y);
    return (x > y) - (x < y);
}

static syna_rc collect(syna_scan *scan, size_t name_len, struct buf *versions)
{
    for (;;) {
        syna_record record = {.size = sizeof record};
        const char *found;
        size_t found_len;
        uint32_t version;
        syna_rc rc = db_scan_next(scan, &record);
        if (rc == SYNA_ERR_KEY_NOT_FOUND)
            return SYNA_SUCCESS;
        SYNA_TRY(rc);
        /* The prefix makes the name begin right; names that go on behind it are others. */
        if (models_parse(record.key, record.key_len, "meta", &found, &found_len, &version) &&
            found_len == name_len && !buf_append(versions, &version, sizeof version))
            return syna_no_memory(sizeof version);
    }
}

syna_rc models_versions(syna_db *db, const char *name, struct buf *versions)
{
    struct buf prefix = {0};
    syna_scan *scan = NULL;
    versions->len = 0;
    syna_rc rc = models_key(&prefix, name, "v");
    if (rc == SYNA_SUCCESS)
        rc = db_scan_new(db, (const char *)prefix.bytes, prefix.len, NULL, 0, NULL, 0,
                         SYNA_SCAN_KEYS, &scan);
    if (rc == SYNA_SUCCESS)
        rc = collect(scan, strlen(name), versions);
    db_scan_free(scan);
    buf_dispose(&prefix);
    if (rc == SYNA_SUCCESS && versions->len > 0)
        qsort(versions->bytes, versions->len / sizeof(uint32_t), sizeof(uint32_t), by_number);
    return rc;
}
