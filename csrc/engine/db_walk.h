/* A walk over the frames of any log file, damaged or not: for verify and salvage. It opens the file on
 * its own, read-only, and reads with pread, so it works beside a writer and maps nothing that someone
 * could cut off. Where no valid frame stands it looks byte by byte for the next one whose
 * checksum is right, with a budget, so that no file makes it run for ever. */
#ifndef SYNA_ENGINE_DB_WALK_H
#define SYNA_ENGINE_DB_WALK_H

#include "engine/progress.h"
#include "io/file.h"
#include "store/frame.h"

enum walk_event {
    WALK_FRAME, /* walk.frame, borrowed until the next call */
    WALK_GAP,   /* no frame in [gap_start, gap_end), a valid one behind it */
    WALK_END,   /* frames end at walk.at, bytes that are not zero at walk.data_end */
};

struct walk {
    struct file file;
    uint64_t size; /* of the file */
    bool legacy;   /* the ancestor's format: no checksums */
    bool empty;    /* nothing but zeros where a header should be */
    bool mended;   /* the header block was damaged and has been mended or guessed */
    struct header header;
    uint32_t seed;
    uint64_t start; /* of the first frame */
    uint64_t at;
    uint64_t last_stamp; /* of the last frame */
    struct frame frame;
    uint64_t gap_start, gap_end;
    uint64_t data_end;
    bool gave_up; /* the search ended because its budget was spent */

    struct buf window; /* bytes of the file at window_at */
    uint64_t window_at;
    struct buf probe; /* another window, for candidates of a search */
    uint64_t budget;  /* bytes that searches may still checksum */
    struct progress *progress;
};

/* Open and read the header block. WRONG_KIND for files that are not logs, NEWER_FORMAT; a damaged
 * header block is mended when one bit of it is wrong, else its uuid is taken from the key checkpoint
 * beside it, else SYNA_ERR_SERIALIZATION. Close it in any case. */
syna_rc walk_open(struct walk *w, const char *path, struct progress *progress);
void walk_close(struct walk *w);

syna_rc walk_next(struct walk *w, enum walk_event *event);

/* The valid frame at `offset`; its bytes are in *bytes. *good false when there is none. */
syna_rc walk_look(struct walk *w, uint64_t offset, struct buf *bytes, struct frame *f, bool *good);

#endif
