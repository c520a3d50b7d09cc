/* product.inc, correlate.inc and gather.inc for float and for double, convolve.inc and those of interval
 * passes for double, single.inc for float. The including file has defined V_* for both: FV, FV_LOAD, ... for floats, DV, DV_LOAD, ... for doubles,
 * VECTOR_BYTES (or SCALAR_PRODUCT) and TALL. */
#ifndef GAMMA_PRODUCT_H
#define GAMMA_PRODUCT_H

#include <string.h>

#include "api.h"

typedef uint32_t QUAD __attribute__((vector_size(16)));
#ifdef __clang__
#define MIXED(x, y, a, b, c, d) __builtin_shufflevector(x, y, a, b, c, d)
#else
#define MIXED(x, y, a, b, c, d) __builtin_shuffle(x, y, (QUAD){a, b, c, d})
#endif

/* Four numbers of 32 bits of each of some frames, step[i] numbers from `from`, number by number, in
 * fours of frames, the last of which repeats itself; and of each number the bits of all frames, but
 * for the sign. */
static inline __attribute__((always_inline)) void turn_quads(const void *from, const size_t *step,
                                                             QUAD (*to)[(BROAD + 3) / 4],
                                                             uint32_t *bits, const size_t frames) {
    QUAD any = {0, 0, 0, 0};
    for (size_t i = 0; i < frames; i += 4) {
        QUAD x[4];
        for (size_t k = 0; k < 4; k++) {
            const size_t frame = i + k < frames ? i + k : frames - 1;
            memcpy(&x[k], (const uint32_t *)from + step[frame], sizeof x[k]);
            any |= x[k];
        }
        const QUAD a = MIXED(x[0], x[1], 0, 4, 1, 5), b = MIXED(x[2], x[3], 0, 4, 1, 5);
        const QUAD c = MIXED(x[0], x[1], 2, 6, 3, 7), d = MIXED(x[2], x[3], 2, 6, 3, 7);
        to[0][i / 4] = MIXED(a, b, 0, 1, 4, 5);
        to[1][i / 4] = MIXED(a, b, 2, 3, 6, 7);
        to[2][i / 4] = MIXED(c, d, 0, 1, 4, 5);
        to[3][i / 4] = MIXED(c, d, 2, 3, 6, 7);
    }
    any <<= 1;
    memcpy(bits, &any, sizeof any);
}

#define F float
#define UI uint32_t
#define FN(name) name##_f32
#define V FV
#define V_LOAD FV_LOAD
#define V_STORE FV_STORE
#define V_ONE FV_ONE
#define V_FMA FV_FMA
#ifdef SCALAR_PRODUCT
#define WIDTH 1
#else
#define WIDTH (VECTOR_BYTES / 4)
#endif
#include "product.inc"
#include "correlate.inc"
#include "gather.inc"
#undef F
#undef UI
#undef FN
#undef V
#undef V_LOAD
#undef V_STORE
#undef V_ONE
#undef V_FMA
#undef WIDTH

#define F double
#define UI uint64_t
#define FN(name) name##_f64
#define V DV
#define V_LOAD DV_LOAD
#define V_STORE DV_STORE
#define V_ONE DV_ONE
#define V_FMA DV_FMA
#ifdef SCALAR_PRODUCT
#define WIDTH 1
#else
#define WIDTH (VECTOR_BYTES / 8)
#endif
#include "product.inc"
#include "correlate.inc"
#include "gather.inc"
#undef F
#undef UI
#undef FN
#undef V
#undef V_LOAD
#undef V_STORE
#undef V_ONE
#undef V_FMA
#undef WIDTH

#include "convolve.inc"

#include "single.inc"

#include "layout.inc"
#include "beside.inc"

#include "passes.inc"

#endif
