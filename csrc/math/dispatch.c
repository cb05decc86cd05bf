/* Picks the level of the distance kernels, once. The processor check includes the operating system's
 * part (it must save the wide registers), which the compiler's run-time does for us. */
#include "base/internal.h"

#include "math/distance.h"
#include "math/int8.h"

#if defined(__x86_64__)
#include <asm/prctl.h>
#include <cpuid.h>
#include <sys/syscall.h>
#ifndef ARCH_REQ_XCOMP_PERM
#define ARCH_REQ_XCOMP_PERM 0x1023
#endif
#elif defined(__aarch64__)
#include <sys/auxv.h>
#endif

#define ENVIRONMENT "SYNADB_SIMD"

/* Best first. */
static const struct kernels *const levels[] = {
#if defined(__x86_64__)
#if defined(INT8_AMX)
    &kernels_amx,
#endif
    &kernels_avx512vpop,
    &kernels_avx512vnni,
    &kernels_avx512,
    &kernels_avx2vnni,
    &kernels_avx2,
#elif defined(__aarch64__)
#if defined(INT8_NEONDOT)
    &kernels_neondot,
#endif
    &kernels_neon,
#endif
    &kernels_scalar,
};

#if defined(__x86_64__)
/* Older compilers' __builtin_cpu_supports does not know AVX-VNNI: leaf 7.1, EAX bit 4. */
static bool has_avxvnni(void)
{
    unsigned a = 0, b = 0, c = 0, d = 0;
    return __get_cpuid_count(7, 1, &a, &b, &c, &d) && (a >> 4 & 1);
}

/* Nor F16C: leaf 1, ECX bit 29. */
static bool has_f16c(void)
{
    unsigned a = 0, b = 0, c = 0, d = 0;
    return __get_cpuid(1, &a, &b, &c, &d) && (c >> 29 & 1);
}

#if defined(INT8_AMX)
/* Tile registers: leaf 7, EDX bits 24 and 25. Their 8 KiB are saved for processes that asked for it only;
 * threads that are there already have leave, too. */
#define TILE_DATA 18

static bool has_amx(void)
{
    unsigned a = 0, b = 0, c = 0, d = 0;
    return __get_cpuid_count(7, 0, &a, &b, &c, &d) && (d >> 24 & 3) == 3 &&
           syscall(SYS_arch_prctl, ARCH_REQ_XCOMP_PERM, TILE_DATA) == 0 && int8_amx_agrees();
}
#endif

static bool machine_has(const struct kernels *level)
{
    __builtin_cpu_init();
#if defined(INT8_AMX)
    if (level == &kernels_amx)
        return machine_has(&kernels_avx512vpop) && has_amx();
#endif
    if (level == &kernels_avx512vpop)
        return machine_has(&kernels_avx512vnni) && __builtin_cpu_supports("avx512vpopcntdq");
    if (level == &kernels_avx512vnni)
        return machine_has(&kernels_avx512) && __builtin_cpu_supports("avx512vnni");
    if (level == &kernels_avx512)
        return machine_has(&kernels_avx2) && __builtin_cpu_supports("avx512f") &&
               __builtin_cpu_supports("avx512bw") && __builtin_cpu_supports("avx512vl") &&
               __builtin_cpu_supports("avx512dq");
    if (level == &kernels_avx2vnni)
        return machine_has(&kernels_avx2) && has_avxvnni();
    if (level == &kernels_avx2)
        return __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma") && has_f16c();
    return true;
}
#else
static bool machine_has(const struct kernels *level)
{
#if defined(INT8_NEONDOT)
    if (level == &kernels_neondot)
        return getauxval(AT_HWCAP) & HWCAP_ASIMDDP;
#endif
    (void)level;
    return true;
}
#endif

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
