/* Elementwise kernels for float and double, and the scalar float16 conversions. */
#ifndef GAMMA_ELEMENTWISE_H
#define GAMMA_ELEMENTWISE_H

#include <math.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include "api.h"

#define F float
#define UI uint32_t
#define ROOT sqrtf
#define FN(name) name##_f32
#include "elementwise.inc"
#include "planes.inc"
#undef F
#undef UI
#undef ROOT
#undef FN

#define F double
#define UI uint64_t
#define ROOT sqrt
#define FN(name) name##_f64
#include "elementwise.inc"
#include "planes.inc"
#undef F
#undef UI
#undef ROOT
#undef FN

#include "narrow.inc"

#include "interval.inc"

#include "ellipsoid.inc"

#include "normal.inc"
#include "normal_set.inc"

/* x rounded to float16 towards +inf (up) or -inf; NaN gives that infinity. */
static inline uint16_t half_directed(float x, int up) {
    uint32_t bits, half, rest;
    memcpy(&bits, &x, sizeof bits);
    const uint32_t sign = (bits >> 16) & 0x8000u;
    const uint32_t size = bits & 0x7fffffffu;
    if (size > 0x7f800000u) {
        return up ? 0x7c00u : 0xfc00u;
    }
    if (size == 0x7f800000u) {
        return (uint16_t)(sign | 0x7c00u);
    }
    if (size >= 0x47800000u) { /* 65536 and above: truncates to the largest */
        half = 0x7bffu;
        rest = 1;
    } else if (size >= 0x38800000u) { /* normal in float16: rebias, drop 13 bits */
        half = (size - 0x38000000u) >> 13;
        rest = size & 0x1fffu;
    } else { /* subnormal in float16: units of 2^-24 */
        const uint32_t exponent = size >> 23;
        const uint32_t shift = 126u - exponent;
        const uint32_t whole = (size & 0x7fffffu) | (exponent ? 0x800000u : 0u);
        half = shift < 32u ? whole >> shift : 0u;
        rest = shift < 32u ? whole & ((1u << shift) - 1u) : whole;
    }
    /* Away from zero the carry runs into the exponent, and from 65504 into infinity. */
    const int away = (sign != 0) != (up != 0);
    return (uint16_t)(sign | (half + (away && rest != 0)));
}

static inline float half_value(uint16_t half) {
    const uint32_t sign = (uint32_t)(half & 0x8000u) << 16;
    const uint32_t size = half & 0x7fffu;
    uint32_t bits;
    float value;
    if (size >= 0x7c00u) { /* infinity; NaN becomes quiet, as the machine does */
        bits = sign | 0x7f800000u | (size & 0x3ffu) << 13 | (size > 0x7c00u ? 0x400000u : 0u);
    } else if (size >= 0x400u) {
        bits = sign | ((size << 13) + 0x38000000u);
    } else { /* subnormal: size·2^-24 is exact in float */
        value = (float)size * 0x1p-24f;
        memcpy(&bits, &value, sizeof bits);
        bits |= sign;
    }
    memcpy(&value, &bits, sizeof value);
    return value;
}

#endif
