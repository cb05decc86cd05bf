/* Picks the level of the distance kernels, once. The processor check includes the operating system's
 * part (it must save the wide registers), which the compiler's run-time does for us. */
#include "base/internal.h"

#include "math/distance.h"

#define ENVIRONMENT "SYNADB_SIMD"

/* Best first. */
static const struct kernels *const levels[] = {
#if defined(__x86_64__)
    &kernels_avx512,
    &kernels_avx2,
#elif defined(__aarch64__)
    &kernels_neon,
#endif
    &kernels_scalar,
};

static bool machine_has(const struct kernels *level)
{
#if defined(__x86_64__)
    __builtin_cpu_init();
    if (level == &kernels_avx512)
        return __builtin_cpu_supports("avx512f");
    if (level == &kernels_avx2)
        return __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma");
#else
    (void)level;
#endif
    return true;
}

const struct kernels *kernels_find(const char *name)
{
    for (size_t i = 0; i < COUNT_OF(levels); i++)
        if (strcmp(levels[i]->name, name) == 0)
            return machine_has(levels[i]) ? levels[i] : NULL;
    return NULL;
}

static const struct kernels *choose(void)
{
    const char *wanted = getenv(ENVIRONMENT);
    const struct kernels *level = wanted ? kernels_find(wanted) : NULL;
    for (size_t i = 0; !level; i++) /* the scalar level always matches */
        if (machine_has(levels[i]))
            level = levels[i];
    return level;
}

const struct kernels *kernels_get(void)
{
    /* Two threads may both choose; they choose the same. */
    static const struct kernels *chosen;
    const struct kernels *level = __atomic_load_n(&chosen, __ATOMIC_RELAXED);
    if (!level) {
        level = choose();
        __atomic_store_n(&chosen, level, __ATOMIC_RELAXED);
    }
    return level;
}
