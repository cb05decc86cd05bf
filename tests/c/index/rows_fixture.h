/* Vectors of every unpleasant kind, and a row_set over them, for the tests of codes and exact search. */
#ifndef SYNA_TESTS_ROWS_FIXTURE_H
#define SYNA_TESTS_ROWS_FIXTURE_H

#include "check.h"

#include "index/exact.h"

#include <float.h>
#include <math.h>
#include <synadb/vector.h>

enum kind {
    PLAIN,      /* every element even in [-1, 1] */
    CLUSTERED,  /* a few centres and a little around them: many near ties */
    OUTLIERS,   /* some elements far beyond the step's reach */
    TINY,       /* lengths from 1e-30 up: squares underflow */
    HUGE_ONES,  /* lengths up to 1e25: squares overflow */
    MIXED,      /* magnitudes all over the place, zero rows among them */
    DUPLICATES, /* five different rows */
    EQUAL,      /* one row */
    ZEROS,
    OFFSET,     /* small differences on top of a large value */
    KINDS
};

static inline float even(void)
{
    return (float)(int32_t)(uint32_t)check_random() / 2147483648.0f;
}

static inline float fixture_element(enum kind kind, size_t row, size_t i)
{
    uint64_t mix = (row % (kind == CLUSTERED ? 7 : 5) + 1) * 0x9e3779b97f4a7c15u ^ i * 0xbf58476d1ce4e5b9u;
    float fixed = (float)((mix ^ mix >> 29) * 0x94d049bb133111ebu >> 40) / 8388608.0f - 1;
    switch (kind) {
    case PLAIN:
        return even();
    case CLUSTERED:
        return fixed + 0.02f * even();
    case OUTLIERS:
        return check_random() % 2000 == 0 ? 1000 * even() : even();
    case TINY:
        return even() * powf(10, -(float)(row % 30));
    case HUGE_ONES:
        return even() * powf(10, (float)(row % 26));
    case MIXED:
        return row % 11 == 0 ? 0 : even() * powf(10, (float)(row % 13) - 6);
    case DUPLICATES:
        return fixed;
    case EQUAL:
        return 0.3f;
    case ZEROS:
        return 0;
    default:
        return 1e6f + 16 * even();
    }
}

static inline void fixture_fill(enum kind kind, float *out, size_t rows, size_t dims)
{
    for (size_t r = 0; r < rows; r++)
        for (size_t i = 0; i < dims; i++)
            out[r * dims + i] = fixture_element(kind, r, i);
}

struct matrix {
    const float *data;
    size_t dims;
};

static inline const float *matrix_row(void *context, size_t i)
{
    const struct matrix *m = context;
    return m->data + i * m->dims;
}

static inline const float *matrix_full(void *context, uint32_t row)
{
    return matrix_row(context, row);
}

extern uint32_t codes_test_split_least; /* rows of so many bytes are split */
#define SPLIT_NONE UINT32_MAX
#define SPLIT_ALL 64u
#define SPLIT_USUAL 256u

/* A row set over `count` rows, trained on the first `trained` of them. The first `head` codes, errors
 * and norms stand in a part that belongs to somebody else. */
struct fixture {
    struct row_set set;
    struct matrix matrix;
    void *head[3];
};

static inline void fixture_array(struct array *a, size_t item, size_t count, size_t head, void **block)
{
    *block = head ? malloc(head * item) : NULL;
    CHECK_OK(array_init_head(a, item, count, *block, head));
    CHECK_OK(array_reserve(a, count));
}

static inline void fixture_init(struct fixture *f, const struct kernels *kernels, int32_t metric,
                                const float *data, size_t count, uint32_t dims, size_t trained,
                                size_t head)
{
    struct row_set *set = &f->set;
    *f = (struct fixture){.matrix = {data, dims}};
    set->kernels = kernels;
    codes_init(&set->codes, dims, metric);
    codes_split(&set->codes);
    if (trained)
        CHECK_OK(codes_train(&set->codes, trained, matrix_row, &f->matrix));
    fixture_array(&set->code_rows, set->codes.stride, count, head, &f->head[0]);
    fixture_array(&set->norms, sizeof(float), count, head, &f->head[1]);
    fixture_array(&set->errors, sizeof(float), count, head, &f->head[2]);
    for (size_t i = 0; i < count; i++) {
        const float *row = data + i * dims;
        *(float *)array_at(&set->norms, i) = vector_norm(kernels, row, dims);
        *(float *)array_at(&set->errors, i) =
            trained ? codes_encode(&set->codes, kernels, row, array_at(&set->code_rows, i)) : 0;
    }
    set->count = (uint32_t)count;
    set->full = matrix_full;
    set->context = &f->matrix;
}

static inline void fixture_dispose(struct fixture *f)
{
    array_dispose(&f->set.code_rows);
    array_dispose(&f->set.norms);
    array_dispose(&f->set.errors);
    for (int i = 0; i < 3; i++)
        free(f->head[i]);
}

#endif
