/* NEON (AArch64): two doubles, and two floats widened to them. */
#include <arm_neon.h>

#include "elementwise.h"
#include "table.h"

#define LANES 2
#define VD float64x2_t
#define D_LOAD vld1q_f64
#define D_STORE vst1q_f64
#define D_ZERO vdupq_n_f64(0)
#define D_ONE vdupq_n_f64
#define D_ADD vaddq_f64
#define D_MUL vmulq_f64
#define D_FMA(a, b, c) vfmaq_f64(c, a, b)
#define D_ABS vabsq_f64
#define D_SUM vaddvq_f64
#define D_PICK(x, yes, no) vbslq_f64(vcgezq_f64(x), yes, no)

#define VS float32x2_t
#define S_LOAD vld1_f32
#define S_STORE vst1_f32
#define S_MUL vmul_f32
#define S_WIDEN vcvt_f64_f32
#define S_PICK(x, yes, no) vbsl_f32(vcgez_f32(x), yes, no)

/* The vector conversion follows FPCR's rounding mode; the integer one needs no mode switch. */
static void half_down(const float *x, uint16_t *out, size_t n) {
    for (size_t i = 0; i < n; i++) {
        out[i] = half_directed(x[i], 0);
    }
}

static void half_up(const float *x, uint16_t *out, size_t n) {
    for (size_t i = 0; i < n; i++) {
        out[i] = half_directed(x[i], 1);
    }
}

static void from_half(const uint16_t *x, float *out, size_t n) {
    size_t i = 0;
    for (; i + 4 <= n; i += 4) {
        vst1q_f32(out + i, vcvt_f32_f16(vreinterpret_f16_u16(vld1_u16(x + i))));
    }
    for (; i < n; i++) {
        out[i] = half_value(x[i]);
    }
}

#define FV float32x4_t
#define FV_LOAD vld1q_f32
#define FV_STORE vst1q_f32
#define FV_ONE vdupq_n_f32
#define FV_FMA(a, b, c) vfmaq_f32(c, a, b)
#define VECTOR_BYTES 16
#define TALL 8

#include "product.h"
#include "rows.h"

GAMMA_TABLE(neon);
