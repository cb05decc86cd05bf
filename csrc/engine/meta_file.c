/* meta_file.c - metadata in snapshots: the texts one after the other, and whose they are. Columns are made
 * again when they are read. */
#include "base/internal.h"

#include "base/bytes.h"
#include "engine/meta_core.h"

#define ENTRY_BYTES 8u /* u32 row, u32 length */

static syna_rc save_rows(const struct texts *texts, struct snapshot_writer *w)
{
    SYNA_TRY(snapshot_section(w, "metarows"));
    for (uint32_t row = 0; row < texts_top(texts); row++) {
        const struct row_text *text = texts_row(texts, row);
        uint8_t entry[ENTRY_BYTES];
        if (!text->text)
            continue;
        store_u32(entry, row);
        store_u32(entry + 4, text->len);
        SYNA_TRY(snapshot_append(w, entry, sizeof entry));
    }
    return SYNA_SUCCESS;
}

syna_rc meta_save(const struct meta *meta, struct snapshot_writer *writer)
{
    const struct texts *texts = &meta->texts;
    SYNA_TRY(save_rows(texts, writer));
    SYNA_TRY(snapshot_section(writer, "metatext"));
    for (uint32_t row = 0; row < texts_top(texts); row++)
        if (texts_row(texts, row)->text)
            SYNA_TRY(snapshot_append(writer, texts_row(texts, row)->text, texts_row(texts, row)->len));
    return SYNA_SUCCESS;
}

static bool is_metadata(const char *text, size_t len)
{
    struct status_record why = *status_get();
    bool is = meta_check(text, len) == SYNA_SUCCESS;
    status_set(&why);
    return is;
}

syna_rc meta_load(struct meta *meta, struct snapshot *snapshot, uint32_t rows, bool *found)
{
    size_t entries_len, len;
    const uint8_t *entries = snapshot_find(snapshot, "metarows", &entries_len);
    const char *text = snapshot_find(snapshot, "metatext", &len);
    *found = entries && text && entries_len % ENTRY_BYTES == 0 &&
             snapshot_touch(snapshot, entries, entries_len) && snapshot_touch(snapshot, text, len);
    if (*found)
        SYNA_TRY(meta_reserve(meta, rows, entries_len / ENTRY_BYTES, len));
    for (size_t at = 0; *found && at < entries_len; at += ENTRY_BYTES) {
        uint32_t row = load_u32(entries + at), text_len = load_u32(entries + at + 4);
        *found = row < rows && text_len <= len && is_metadata(text, text_len);
        if (!*found)
            return SYNA_SUCCESS;
        SYNA_TRY(meta_set(meta, row, text, text_len));
        text += text_len;
        len -= text_len;
    }
    return SYNA_SUCCESS;
}
