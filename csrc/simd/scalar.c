/* The specification and the fallback: one entry at a time, sums from left to right in double. */
#include "elementwise.h"
#include "table.h"

#define SCALAR_KERNELS(F, S)                                                                       \
    static void relax_##S(F *a, size_t stride, size_t rows, const F *lower_slope,                  \
                          const F *upper_slope, const double *lower_const,                         \
                          const double *upper_const, size_t n, double *out) {                      \
        for (size_t i = 0; i < rows; i++) {                                                        \
            double sum = 0;                                                                        \
            for (size_t j = 0; j < n; j++) {                                                       \
                const F x = a[i * stride + j];                                                     \
                sum += (double)x * (x >= (F)0 ? lower_const[j] : upper_const[j]);                  \
                a[i * stride + j] = x * (x >= (F)0 ? lower_slope[j] : upper_slope[j]);             \
            }                                                                                      \
            out[i] += sum;                                                                         \
        }                                                                                          \
    }                                                                                              \
    static void relax_own_##S(F *a, size_t stride, size_t rows, const F *slope,                    \
                              const double *base, const double *gain, const F *upper_slope,        \
                              const double *upper_const, size_t n, double *out) {                  \
        for (size_t i = 0; i < rows; i++) {                                                        \
            double sum = 0;                                                                        \
            for (size_t j = 0; j < n; j++) {                                                       \
                const F x = a[i * stride + j], s = slope[i * stride + j];                          \
                const double below = base[j] + (double)s * gain[j];                                \
                sum += (double)x * (x >= (F)0 ? below : upper_const[j]);                           \
                a[i * stride + j] = x * (x >= (F)0 ? s : upper_slope[j]);                          \
            }                                                                                      \
            out[i] += sum;                                                                         \
        }                                                                                          \
    }                                                                                              \
    static void dot_rows_##S(const F *a, size_t stride, size_t rows, const double *v, size_t n,    \
                             double *out) {                                                        \
        for (size_t i = 0; i < rows; i++) {                                                        \
            double sum = 0;                                                                        \
            for (size_t j = 0; j < n; j++) {                                                       \
                sum += (double)a[i * stride + j] * v[j];                                           \
            }                                                                                      \
            out[i] += sum;                                                                         \
        }                                                                                          \
    }                                                                                              \
    static void abs_rows_##S(const F *a, size_t stride, size_t rows, const double *w, size_t n,    \
                             double *out) {                                                        \
        for (size_t i = 0; i < rows; i++) {                                                        \
            double sum = 0;                                                                        \
            for (size_t j = 0; j < n; j++) {                                                       \
                sum += fabs((double)a[i * stride + j]) * w[j];                                     \
            }                                                                                      \
            out[i] += sum;                                                                         \
        }                                                                                          \
    }                                                                                              \
    static void affine_##S(const F *W, const double *centre, const double *radius, double *z,      \
                           double *spread, size_t B, size_t m, size_t n) {                         \
        for (size_t i = 0; i < m; i++) {                                                           \
            for (size_t b = 0; b < B; b++) {                                                       \
                z[b * m + i] = spread[b * m + i] = 0;                                              \
                dot_rows_##S(W + i * n, n, 1, centre + b * n, n, z + b * m + i);                   \
                abs_rows_##S(W + i * n, n, 1, radius + b * n, n, spread + b * m + i);              \
            }                                                                                      \
        }                                                                                          \
    }                                                                                              \
    static double dot_##S(const F *x, const F *y, size_t n) {                                      \
        double sum = 0;                                                                            \
        for (size_t j = 0; j < n; j++) {                                                           \
            sum += (double)x[j] * (double)y[j];                                                    \
        }                                                                                          \
        return sum;                                                                                \
    }                                                                                              \
    static double sum_##S(const F *x, size_t n) {                                                  \
        double sum = 0;                                                                            \
        for (size_t j = 0; j < n; j++) {                                                           \
            sum += (double)x[j];                                                                   \
        }                                                                                          \
        return sum;                                                                                \
    }

SCALAR_KERNELS(float, f32)
SCALAR_KERNELS(double, f64)

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
    for (size_t i = 0; i < n; i++) {
        out[i] = half_value(x[i]);
    }
}

#define FV float
#define FV_LOAD *
#define FV_STORE(to, x) (*(to) = (x))
#define FV_ONE
#define FV_FMA(a, b, c) ((a) * (b) + (c))
#define DV double
#define DV_LOAD *
#define DV_STORE(to, x) (*(to) = (x))
#define DV_ONE
#define DV_FMA(a, b, c) ((a) * (b) + (c))
#define DV_ABS fabs
#define DV_MOST larger
#define PIXELS 2

/* Pairs of floats take 16 bytes at a time, which every processor has. */
typedef float FOUR __attribute__((vector_size(16)));

static inline FOUR load_four(const float *from) {
    FOUR x;
    memcpy(&x, from, sizeof x);
    return x;
}

static inline void store_four(float *to, FOUR x) { memcpy(to, &x, sizeof x); }

static inline FOUR pair_of(double x) {
    float both[2];
    memcpy(both, &x, sizeof both);
    return (FOUR){both[0], both[1], both[0], both[1]};
}

static inline FOUR swapped(FOUR x) { return (FOUR){x[1], x[0], x[3], x[2]}; }

static inline FOUR evens_of(FOUR x) { return (FOUR){x[0], x[0], x[2], x[2]}; }

static inline FOUR sizes_of(FOUR x) {
    return (FOUR){fabsf(x[0]), fabsf(x[1]), fabsf(x[2]), fabsf(x[3])};
}

static inline FOUR most_of(FOUR x, FOUR y) {
    return (FOUR){x[0] > y[0] ? x[0] : y[0], x[1] > y[1] ? x[1] : y[1], x[2] > y[2] ? x[2] : y[2],
                  x[3] > y[3] ? x[3] : y[3]};
}

#define PV FOUR
#define PV_LOAD load_four
#define PV_STORE store_four
#define PV_FMA(a, b, c) ((a) * (b) + (c))
#define PV_ZERO ((FOUR){0.0F, 0.0F, 0.0F, 0.0F})
#define PV_PAIR pair_of
#define PV_SWAP swapped
#define PV_EVEN evens_of
#define PV_ABS sizes_of
#define PV_MOST most_of
#define SINGLES 2
#define TALL 4
#define LANES_WORTH 5
#define LANE_GROUPS 1
#define BROAD 4
#define V_KEEP(v) (void)(v)
#define SCALAR_PRODUCT
#define D_OF(p) ((double)*(p))
#define F_ABS fabsf
#define POSITIONS 1

#include "product.h"
#include "decode.inc"
#include "stored.inc"

GAMMA_TABLE(scalar);
