/* text.c - open a text index: take its rows from the snapshot or read the documents; remember the analyser.
 *
 * A document is a packed value under "doc/<id>", or stands in a pack (text_pack.h); values of other types or
 * shapes there are not ours and left alone. "text-index/config" is written in the commit of the first document. */
#include "base/internal.h"

#include "base/status.h"
#include "engine/progress.h"
#include "engine/text_core.h"

#define TEXT_INDEX_SUFFIX ".text"
#define TEXT_ANALYZER "english"
#define REMADE_ROWS 1000u /* a snapshot of so many that did not fit is replaced at once */
#define K1_DEFAULT 1.2
#define B_DEFAULT 0.75

/* ---------------------------------------------------------------- options */

syna_rc text_options(const syna_text_options *given, syna_text_options *out)
{
    *out = (syna_text_options){.size = sizeof *out};
    if (given->size < offsetof(syna_text_options, k1))
        return syna_fail(SYNA_ERR_GENERIC, SYNA_WHY_ARGUMENT,
                         "syna_text_options.size is %u, expected %zu", given->size, sizeof *out);
    memcpy(out, given, MIN((size_t)given->size, sizeof *out));
    if (!out->bm25_given) {
        out->k1 = K1_DEFAULT;
        out->b = B_DEFAULT;
    }
    if (!(out->k1 >= 0 && out->k1 <= 1000))
        return syna_fail(SYNA_ERR_GENERIC, SYNA_WHY_ARGUMENT, "k1 is %g, expected 0..1000", out->k1);
    if (!(out->b >= 0 && out->b <= 1))
        return syna_fail(SYNA_ERR_GENERIC, SYNA_WHY_ARGUMENT, "b is %g, expected 0..1", out->b);
    return SYNA_SUCCESS;
}

/* ---------------------------------------------------------------- the analyser */

/* Files without "packs" have none: who does not know them refuses a file that may have some. */
size_t text_config_text(const syna_text *index, char text[TEXT_CONFIG_ROOM])
{
    return (size_t)snprintf(text, TEXT_CONFIG_ROOM, "{\"analyzer\":\"%s\",\"version\":%u,\"packs\":1}",
                            index->analyzer.name, index->analyzer.version);
}

struct config {
    char name[32];
    unsigned version;
    bool packs;
};

static bool parse_config(const char *text, size_t len, struct config *config)
{
    int used = 0;
    if (sscanf(text, "{\"analyzer\":\"%31[^\"]\",\"version\":%9u%n", config->name,
               &config->version, &used) != 2)
        return false;
    config->packs = strcmp(text + used, ",\"packs\":1}") == 0;
    return strlen(text) == len && (config->packs || strcmp(text + used, "}") == 0);
}

static syna_rc read_config(syna_text *index, struct config *config, bool *found)
{
    char *text;
    size_t len;
    int32_t type;
    syna_rc rc = db_get_copy(index->db, TEXT_CONFIG_KEY, strlen(TEXT_CONFIG_KEY), SYNA_TYPE_TEXT,
                             (void **)&text, &len, &type);
    *found = rc == SYNA_SUCCESS;
    if (rc == SYNA_ERR_KEY_NOT_FOUND)
        return SYNA_SUCCESS;
    SYNA_TRY(rc);
    if (parse_config(text, len, config))
        index->packs_told = config->packs;
    else
        rc = syna_fail_at(SYNA_ERR_SERIALIZATION, SYNA_WHY_CORRUPT, db_path(index->db), -1, 0,
                          "key %s holds %.80s, expected an analyser and its version",
                          TEXT_CONFIG_KEY, text);
    mem_free(text);
    return rc;
}

/* The analyser of the file, which the caller must have asked for, if for any. */
static syna_rc take_remembered(syna_text *index, const syna_text_options *o,
                               const struct config *config)
{
    const char *path = db_path(index->db);
    if (o->analyzer && strcmp(o->analyzer, config->name) != 0)
        return syna_fail_at(SYNA_ERR_GENERIC, SYNA_WHY_ARGUMENT, path, -1, 0,
                            "its analyser is \"%s\", opened with \"%.100s\"", config->name,
                            o->analyzer);
    if (analyzer_init(&index->analyzer, config->name, o->stem, o->stem_context) != SYNA_SUCCESS)
        return syna_fail_at(SYNA_ERR_GENERIC, SYNA_WHY_ARGUMENT, path, -1, 0,
                            "its analyser is \"%s\", which is not known here", config->name);
    if (index->analyzer.version != config->version)
        return syna_fail_at(SYNA_ERR_SERIALIZATION, SYNA_WHY_NEWER_FORMAT, path, -1, 0,
                            "its analyser is \"%s\" version %u, expected version %u", config->name,
                            config->version, index->analyzer.version);
    return SYNA_SUCCESS;
}

static syna_rc choose_analyzer(syna_text *index, const syna_text_options *o)
{
    struct config config;
    SYNA_TRY(read_config(index, &config, &index->configured));
    if (index->configured)
        return take_remembered(index, o, &config);
    return analyzer_init(&index->analyzer, o->analyzer ? o->analyzer : TEXT_ANALYZER, o->stem,
                         o->stem_context);
}

/* An index without documents takes the analyser that the file got meanwhile. */
syna_rc text_check_config(syna_text *index)
{
    struct config config;
    const struct analyzer *a = &index->analyzer;
    SYNA_TRY(read_config(index, &config, &index->configured));
    if (!index->configured || (strcmp(config.name, a->name) == 0 && config.version == a->version))
        return SYNA_SUCCESS;
    syna_text_options as_before = {.stem = a->stem, .stem_context = a->context};
    struct analyzer before = *a;
    syna_rc rc = take_remembered(index, &as_before, &config);
    if (rc != SYNA_SUCCESS) {
        index->analyzer = before;
        index->configured = false;
    }
    return rc;
}

/* ---------------------------------------------------------------- opening */

struct loading {
    syna_text *index;
    struct progress progress;
};

static syna_rc load_document(void *context, const syna_record *record)
{
    struct loading *loading = context;
    syna_text *index = loading->index;
    uint32_t pack = pack_number(record->key, record->key_len);
    if (pack)
        SYNA_TRY(text_apply_pack(index, pack, record->data, record->len, false));
    else if (record->key_len > DOC_PREFIX_LEN &&
             memcmp(record->key, DOC_PREFIX, DOC_PREFIX_LEN) == 0)
        SYNA_TRY(text_apply_record(index, record->key, record->key_len, record->data, record->len,
                                   false));
    if (postings_due(index->rows.postings))
        SYNA_TRY(postings_settle(index->rows.postings));
    return progress_step(&loading->progress, 1);
}

static syna_rc load_from_log(syna_text *index, const syna_text_options *o)
{
    struct loading loading = {
        .index = index,
        .progress = {.ask = o->progress, .context = o->context, .what = "reading documents"},
    };
    index->followed = db_view_end(index->view);
    return db_newest(index->db, LOG_PREFIX, LOG_PREFIX_LEN, SYNA_TYPE_PACKED,
                     &loading.progress.total, load_document, &loading);
}

/* All documents had to be read, since the snapshot is damaged, of an earlier format, or not there: the next
 * opening is to have one. */
static void replace_snapshot(syna_text *index)
{
    struct status_record why = *status_get();
    if (!db_is_writer(index->db) || index->rows.ids.count < REMADE_ROWS || index->changes == 0)
        return;
    pthread_mutex_lock(&index->upkeep_lock);
    if (text_save_open(index, false) != SYNA_SUCCESS)
        status_set(&why);
    pthread_mutex_unlock(&index->upkeep_lock);
}

static syna_rc load(syna_text *index, const syna_text_options *o)
{
    bool loaded;
    SYNA_TRY(text_load_snapshot(index, &loaded));
    if (!loaded)
        SYNA_TRY(load_from_log(index, o));
    index->opening = true;
    SYNA_TRY(text_follow(index));
    index->opening = false;
    SYNA_TRY(text_maintain(index));
    if (!loaded)
        replace_snapshot(index);
    return SYNA_SUCCESS;
}

static void init_locks(syna_text *index)
{
    pthread_rwlockattr_t attr;
    pthread_rwlockattr_init(&attr);
#ifdef __GLIBC__
    /* Searches one after the other must not keep writes out. */
    pthread_rwlockattr_setkind_np(&attr, PTHREAD_RWLOCK_PREFER_WRITER_NONRECURSIVE_NP);
#endif
    pthread_rwlock_init(&index->state_lock, &attr);
    pthread_rwlockattr_destroy(&attr);
    pthread_mutex_init(&index->upkeep_lock, NULL);
    pthread_mutex_init(&index->pack_lock, NULL);
}

static syna_rc open_into(syna_text *index, const syna_text_options *o)
{
    size_t len = strlen(db_path(index->db)) + sizeof TEXT_INDEX_SUFFIX;
    index->index_path = mem_alloc(len);
    if (!index->index_path)
        return syna_no_memory(len);
    snprintf(index->index_path, len, "%s" TEXT_INDEX_SUFFIX, db_path(index->db));
    index->k1 = o->k1;
    index->b = o->b;
    SYNA_TRY(db_view_new(index->db, &index->view));
    SYNA_TRY(choose_analyzer(index, o));
    SYNA_TRY(text_rows_init(&index->rows));
    return load(index, o);
}

syna_rc text_new(syna_db *db, const syna_text_options *options, syna_text **out)
{
    syna_text *index = mem_zalloc(sizeof *index);
    if (!index)
        return syna_no_memory(sizeof *index);
    index->db = db;
    init_locks(index);
    syna_rc rc = open_into(index, options);
    if (rc == SYNA_SUCCESS)
        *out = index;
    else
        text_free(index);
    return rc;
}

void text_free(syna_text *index)
{
    text_rows_dispose(&index->rows);
    snapshot_close(index->snapshot);
    db_view_free(index->view);
    pthread_rwlock_destroy(&index->state_lock);
    pthread_mutex_destroy(&index->upkeep_lock);
    pthread_mutex_destroy(&index->pack_lock);
    mem_free(index->index_path);
    mem_free(index);
}

syna_rc text_reopen(syna_text *index, const syna_text_options *o)
{
    syna_rc rc = SYNA_SUCCESS;
    pthread_rwlock_wrlock(&index->state_lock);
    if (o->analyzer && strcmp(o->analyzer, index->analyzer.name) != 0) {
        if (!index->configured && index->promised.rows == 0)
            rc = analyzer_init(&index->analyzer, o->analyzer, o->stem, o->stem_context);
        else
            rc = syna_fail_at(SYNA_ERR_GENERIC, SYNA_WHY_ARGUMENT, db_path(index->db), -1, 0,
                              "its analyser is \"%s\", opened with \"%.100s\"",
                              index->analyzer.name, o->analyzer);
    }
    pthread_rwlock_unlock(&index->state_lock);
    return rc;
}

/* ---------------------------------------------------------------- fork */

void text_before_fork(syna_text *index)
{
    pthread_rwlock_wrlock(&index->state_lock);
}

void text_after_fork(syna_text *index, bool child)
{
    if (!child) {
        pthread_rwlock_unlock(&index->state_lock);
        return;
    }
    init_locks(index);
    index->promised = (struct text_room){0}; /* writers are not here to settle */
    index->done = index->begun;
}
