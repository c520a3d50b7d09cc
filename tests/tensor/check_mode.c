/* The entry points work in the default floating-point mode whatever the
 * caller's, and restore it.
 */
#include <stdint.h>
#include <stdio.h>

#include "api.h"

#if defined(__x86_64__)
#include <xmmintrin.h>
static void set_mode(uint64_t mode) { _mm_setcsr((unsigned)mode); }
static uint64_t get_mode(void) { return _mm_getcsr(); }
/* Flush to zero, denormals are zero, round up. */
#define HOSTILE (0x1f80u | 0x8000u | 0x0040u | 0x4000u)
#else
static void set_mode(uint64_t mode) { __asm__ volatile("msr fpcr, %0" : : "r"(mode)); }
static uint64_t get_mode(void) {
    uint64_t mode;
    __asm__ volatile("mrs %0, fpcr" : "=r"(mode));
    return mode;
}
/* Flush to zero, round towards +inf. */
#define HOSTILE ((1u << 24) | (1u << 22))
#endif

static int failures;
static void expect(const char *what, int good) {
    if (!good) {
        printf("%s: wrong under a hostile mode\n", what);
        failures++;
    }
}

int main(void) {
    enum { N = 33 };
    double x[N], y[N], z[1], spread[1], d[1] = {0};
    float single[N], low[N], high[N];
    const int64_t box[1] = {0};
    for (int i = 0; i < N; i++) {
        x[i] = y[i] = 0x1p-535;
        single[i] = 0x1p-140f;
    }
    const char *name;
    for (int k = 0; (name = gamma_available(k)) != NULL; k++) {
        if (gamma_select(name) != 0) {
            return 99;
        }
        printf("%s\n", name);
        set_mode(HOSTILE);
        const double dot = gamma_dot_f64(x, y, N);
        const double sum = gamma_sum_f32(single, N);
        gamma_interval_affine_f64(x, y, y, z, spread, 1, 1, N);
        d[0] = 0;
        const int status = gamma_dot_rows_f64(x, d, box, y, 1, 1, N);
        gamma_interval_mul_f32(single, single, single, single, low, high, N);
        const uint64_t after = get_mode();
        set_mode(
#if defined(__x86_64__)
            0x1f80u
#else
            0
#endif
        );
        expect("dot", dot == N * 0x1p-1070);
        expect("sum", sum == N * 0x1p-140);
        expect("interval_affine", z[0] == N * 0x1p-1070 && spread[0] == z[0]);
        expect("dot_rows", status == 0 && d[0] == N * 0x1p-1070);
        expect("interval_mul", low[0] == -0x1p-149f && high[N - 1] == 0x1p-149f);
        expect("control word restored", (after & HOSTILE) == HOSTILE);
    }
    return failures != 0;
}
