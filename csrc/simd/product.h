/* product.inc, correlate.inc and gather.inc for float and for double, convolve.inc
 * and passes.inc for double, single.inc for float. The
 * including file has defined V_* for both: FV, FV_LOAD, ... for floats, DV, DV_LOAD, ... for doubles,
 * VECTOR_BYTES (or SCALAR_PRODUCT) and TALL. */
#ifndef GAMMA_PRODUCT_H
#define GAMMA_PRODUCT_H

#include "api.h"

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

#include "passes.inc"

#endif
