/* product.inc, correlate.inc and gather.inc for float and for double, convolve.inc and those of
 * interval passes for double, single.inc and pairs.inc for float. The including file has defined
 * V_* for both: FV, FV_LOAD, ... for floats, DV, DV_LOAD, ... for doubles, VECTOR_BYTES (or
 * SCALAR_PRODUCT) and TALL. */
#ifndef GAMMA_PRODUCT_H
#define GAMMA_PRODUCT_H

#include <string.h>

#include "table.h"

/* Vectors of at most 32 bytes: others, where these are longer. */
#ifndef FS
#define FS FV
#define FS_LOAD FV_LOAD
#define FS_STORE FV_STORE
#define FS_ONE FV_ONE
#define FS_FMA FV_FMA
#define DS DV
#define DS_LOAD DV_LOAD
#define DS_STORE DV_STORE
#define DS_ONE DV_ONE
#define DS_FMA DV_FMA
#endif

/* Rows of a matrix that are asked for before their turn: they lie too far apart for a processor to
 * foresee which come next. */
enum { ROWS_AHEAD = 12 };

/* Accumulators of LANES doubles in the sum of a row, see rows.inc. */
#define CHAINS_F32 2
#define CHAINS_F64 4

#ifdef __clang__
#define MIXED(bits, x, y, ...) __builtin_shufflevector(x, y, __VA_ARGS__)
#else
#define MIXED(bits, x, y, ...) __builtin_shuffle(x, y, (bits){__VA_ARGS__})
#endif
/* Four floats or two doubles. */
typedef uint32_t QUAD __attribute__((vector_size(16)));
typedef uint64_t PAIR __attribute__((vector_size(16)));

/* A square of them turned. */
static inline __attribute__((always_inline)) void turn_small_f32(QUAD *x) {
    const QUAD a = MIXED(QUAD, x[0], x[1], 0, 4, 1, 5), b = MIXED(QUAD, x[2], x[3], 0, 4, 1, 5);
    const QUAD c = MIXED(QUAD, x[0], x[1], 2, 6, 3, 7), d = MIXED(QUAD, x[2], x[3], 2, 6, 3, 7);
    x[0] = MIXED(QUAD, a, b, 0, 1, 4, 5);
    x[1] = MIXED(QUAD, a, b, 2, 3, 6, 7);
    x[2] = MIXED(QUAD, c, d, 0, 1, 4, 5);
    x[3] = MIXED(QUAD, c, d, 2, 3, 6, 7);
}

static inline __attribute__((always_inline)) void turn_small_f64(PAIR *x) {
    const PAIR a = MIXED(PAIR, x[0], x[1], 0, 2), b = MIXED(PAIR, x[0], x[1], 1, 3);
    x[0] = a;
    x[1] = b;
}

#define F float
#define CHAINS CHAINS_F32
#define V_DOUBLES D_OF
#define UI uint32_t
#define SMALL QUAD
#define SIDE 4
#define PANEL 16
#define FN(name) name##_f32
#define V FV
#define V_LOAD FV_LOAD
#define V_STORE FV_STORE
#define V_ONE FV_ONE
#define V_FMA FV_FMA
#define SHORT_V FS
#define SHORT_LOAD FS_LOAD
#define SHORT_STORE FS_STORE
#define SHORT_ONE FS_ONE
#define SHORT_FMA FS_FMA
#ifdef SCALAR_PRODUCT
#define WIDTH 1
#else
#define WIDTH (VECTOR_BYTES / 4)
#endif
#include "product.inc"
#include "correlate.inc"
#include "turn.inc"
#include "gather.inc"
#undef F
#undef CHAINS
#undef V_DOUBLES
#undef UI
#undef SMALL
#undef SIDE
#undef PANEL
#undef FN
#undef V
#undef V_LOAD
#undef V_STORE
#undef V_ONE
#undef V_FMA
#undef SHORT_V
#undef SHORT_LOAD
#undef SHORT_STORE
#undef SHORT_ONE
#undef SHORT_FMA
#undef WIDTH

#define F double
#define CHAINS CHAINS_F64
#define V_DOUBLES DV_LOAD
#define UI uint64_t
#define SMALL PAIR
#define SIDE 2
#define PANEL 8
#define FN(name) name##_f64
#define V DV
#define V_LOAD DV_LOAD
#define V_STORE DV_STORE
#define V_ONE DV_ONE
#define V_FMA DV_FMA
#define SHORT_V DS
#define SHORT_LOAD DS_LOAD
#define SHORT_STORE DS_STORE
#define SHORT_ONE DS_ONE
#define SHORT_FMA DS_FMA
#ifdef SCALAR_PRODUCT
#define WIDTH 1
#else
#define WIDTH (VECTOR_BYTES / 8)
#endif
#include "product.inc"
#include "correlate.inc"
#include "turn.inc"
#include "gather.inc"
#undef F
#undef CHAINS
#undef V_DOUBLES
#undef UI
#undef SMALL
#undef SIDE
#undef PANEL
#undef FN
#undef V
#undef V_LOAD
#undef V_STORE
#undef V_ONE
#undef V_FMA
#undef SHORT_V
#undef SHORT_LOAD
#undef SHORT_STORE
#undef SHORT_ONE
#undef SHORT_FMA
#undef WIDTH

#include "convolve.inc"

#include "abreast.inc"

#include "single.inc"

#include "pairs.inc"

#include "smooth.inc"

#include "layout.inc"
#include "beside.inc"
#include "live.inc"

#include "passes.inc"

#endif
