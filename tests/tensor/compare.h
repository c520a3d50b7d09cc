/* Numbers that kernels are tried on, and the count of those that differ. */
#ifndef COMPARE_H
#define COMPARE_H

#include <math.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

static int failures;

static uint64_t state = 88172645463325252u;
static uint64_t next(void) {
    state ^= state << 13;
    state ^= state >> 7;
    state ^= state << 17;
    return state;
}

/* Numbers of every kind: mostly ordinary, sometimes any bits at all, zeros and
 * infinities. */
static float any_float(int special) {
    const uint32_t bits = (uint32_t)(next() >> 20);
    float value;
    if (special && next() % 4 == 0) {
        memcpy(&value, &bits, sizeof value);
        return value;
    }
    if (special && next() % 8 == 0) {
        const float table[] = {0.0f,     -0.0f,    INFINITY, -INFINITY,
                               65504.0f, 65520.0f, 1e-7f,    5.96e-8f};
        return table[bits % 8];
    }
    return (float)((int32_t)bits) * 0x1p-30f;
}

static double any_double(int special) {
    const uint64_t bits = next();
    double value;
    if (special && next() % 4 == 0) {
        memcpy(&value, &bits, sizeof value);
        return value;
    }
    return special && next() % 8 == 0 ? (double)any_float(1) : (double)(int64_t)bits * 0x1p-62;
}

static void same(const char *what, const void *a, const void *b, size_t bytes, size_t n) {
    if (memcmp(a, b, bytes) != 0) {
        printf("%s differs at length %zu\n", what, n);
        failures++;
    }
}

static void close_to(const char *what, double a, double b, double size, size_t n) {
    if (!(fabs(a - b) <= 2 * (double)(n + 4) * 0x1p-53 * size)) {
        printf("%s differs at length %zu: %a and %a\n", what, n, a, b);
        failures++;
    }
}

/* NaN payloads may differ between a vector and a scalar product: all NaN become
 * one. */
#define CANONICAL(v, n)                                                                            \
    for (size_t k_ = 0; k_ < (n); k_++) {                                                          \
        if ((v)[k_] != (v)[k_]) (v)[k_] = 0;                                                       \
    }

#endif
