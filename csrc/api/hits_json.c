/* hits_json.c - search results as JSON text. Numbers have nine significant digits, which bring the same
 * float back, and a point for their decimals whatever the program's locale says. */
#include "base/internal.h"

#include "api/hits_json.h"
#include "base/vec.h"

static bool put_text(struct buf *to, const char *text)
{
    return buf_append(to, text, strlen(text));
}

/* A key is valid UTF-8 without NUL; quotes, backslashes and control characters are escaped. */
static bool put_string(struct buf *to, const char *bytes, size_t len)
{
    bool enough = put_text(to, "\"");
    for (size_t i = 0; i < len && enough; i++) {
        char escaped[8];
        unsigned char c = (unsigned char)bytes[i];
        if (c != '"' && c != '\\' && c >= 0x20) {
            enough = buf_append(to, &c, 1);
            continue;
        }
        snprintf(escaped, sizeof escaped, c < 0x20 ? "\\u%04x" : "\\%c", c);
        enough = put_text(to, escaped);
    }
    return enough && put_text(to, "\"");
}

static bool put_number(struct buf *to, float value)
{
    char text[40];
    int len = snprintf(text, sizeof text, "%.9g", (double)value);
    size_t start = to->len;
    for (int i = 0; i < len; i++) {
        bool plain = (text[i] >= '0' && text[i] <= '9') || strchr("+-e", text[i]);
        if (!plain && to->len > start && to->bytes[to->len - 1] == '.')
            continue; /* the rest of a decimal point of several bytes */
        if (!buf_append(to, plain ? &text[i] : ".", 1))
            return false;
    }
    return true;
}

static bool put_vector(struct buf *to, const float *vector, uint32_t dims)
{
    bool enough = put_text(to, ",\"vector\":[");
    for (uint32_t i = 0; i < dims && enough; i++)
        enough = (i == 0 || put_text(to, ",")) && put_number(to, vector[i]);
    return enough && put_text(to, "]");
}

static bool put_hit(struct buf *to, const syna_hit *hit, uint32_t dims)
{
    return put_text(to, "{\"key\":") && put_string(to, hit->key, hit->key_len) &&
           put_text(to, ",\"score\":") && put_number(to, hit->score) &&
           (dims == 0 || put_vector(to, hit->vector, dims)) &&
           (!hit->metadata || (put_text(to, ",\"metadata\":") &&
                               buf_append(to, hit->metadata, hit->metadata_len))) &&
           put_text(to, "}");
}

syna_rc hits_json(const syna_hit *hits, size_t count, uint32_t dims, char **out, size_t *len)
{
    struct buf json = {0};
    bool enough = put_text(&json, "[");
    for (size_t i = 0; i < count && enough; i++)
        enough = (i == 0 || put_text(&json, ",")) && put_hit(&json, &hits[i], dims);
    if (!enough || !buf_append(&json, "]", 2)) {
        buf_dispose(&json);
        return syna_no_memory(json.len);
    }
    *out = (char *)json.bytes;
    if (len)
        *len = json.len - 1;
    return SYNA_SUCCESS;
}
