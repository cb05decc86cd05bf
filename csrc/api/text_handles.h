/* The table of open text indexes: opening the log behind one twice gives the same counted handle. */
#ifndef SYNA_API_TEXT_HANDLES_H
#define SYNA_API_TEXT_HANDLES_H

#include "engine/text.h"

syna_rc text_handles_open(const char *path, const syna_text_options *options, syna_text **out);
/* Give back one opening; the last one saves, frees and closes the log. */
syna_rc text_handles_close(syna_text *index);

#endif
