/* NEON (AArch64): two doubles, four floats. */
#include <arm_neon.h>

#include "elementwise.h"
#include "table.h"

#define LANES 2
#define VD float64x2_t
#define D_LOAD vld1q_f64
#define D_STORE vst1q_f64
#define D_ZERO vdupq_n_f64(0)
#define D_ADD vaddq_f64
#define D_MUL vmulq_f64
#define D_FMA(a, b, c) vfmaq_f64(c, a, b)
#define D_ABS vabsq_f64
#define D_SUM vaddvq_f64
#define D_PICK(x, plus, minus) vbslq_f64(vcltzq_f64(x), minus, plus)
#define D_KEEP(v) __asm__("" : "+w"(v))

#define VS float32x4_t
#define S_LOAD vld1q_f32
#define S_STORE vst1q_f32
#define S_MUL vmulq_f32
#define S_WIDEN(p) vcvt_f64_f32(vld1_f32(p))
#define S_PICK(x, plus, minus) vbslq_f32(vcltzq_f32(x), minus, plus)

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

#define VECTOR_BYTES 16
#define TALL 8
#define LANES_WORTH 5
#define LANE_GROUPS 1
#define BROAD 12
#define V_KEEP D_KEEP
#define FV VS
#define FV_LOAD S_LOAD
#define FV_STORE S_STORE
#define FV_ONE vdupq_n_f32
#define FV_FMA(a, b, c) vfmaq_f32(c, a, b)
#define DV VD
#define DV_LOAD D_LOAD
#define DV_STORE D_STORE
#define DV_ONE vdupq_n_f64
#define DV_FMA D_FMA
#define DV_ABS D_ABS
#define DV_MOST vmaxq_f64
#define PIXELS 2
#define PV VS
#define PV_LOAD FV_LOAD
#define PV_STORE FV_STORE
#define PV_FMA FV_FMA
#define PV_ZERO FV_ONE(0.0F)
#define PV_PAIR(x) vreinterpretq_f32_f64(vdupq_n_f64(x))
#define PV_SWAP(x) vrev64q_f32(x)
#define PV_EVEN(x) vtrn1q_f32(x, x)
#define PV_ABS vabsq_f32
#define PV_MOST vmaxq_f32
#define SINGLES 6
#define D_OF S_WIDEN
#define F_ABS vabsq_f32
#define POSITIONS 4

#include "product.h"
#include "rows_f32.h"
#include "rows_f64.h"
#include "decode.inc"
#include "stored.inc"

GAMMA_TABLE(neon);
