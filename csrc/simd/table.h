/* The table of kernels: one instance per instruction set, filled by the compiler.
 *
 *   member            operation                   rounding            bytes read/entry
 *   relax             a' = a·slope, Σ a·const     one, sum in double  f32 28, f64 40
 *   relax_own         relax, a slope per entry    one, sum in double  f32 32, f64 48
 *   own_lines, ascend value of lines; Adam's step see elementwise.inc f32 36, 24; f64 48, 48
 *   planes, ..._lines a·(I - 1/n) - Σ a·s t, at x  see planes.inc      f32 12, 24; f64 24, 56
 *   dot_rows, abs_*   Σ a·v, Σ |a|·w              sum in double       f32 12, f64 16
 *   affine            W·c and |W|·r, B boxes      sum in double       W once: 4, 8
 *   product           A·W, W's rows padded        one per term        W once a block
 *   spread            products, then scatter-add  one per term        W once a block
 *   gather            the same by cells of it     one per term        W once some frames
 *   correlate         W·windows of images         one per term        image, W a piece
 *   convolve          W·c and |W|·r of images  one per term        W once PIXELS windows
 *   pass              interval pass of a network  as convolve, finish W once some boxes
 *   abreast           the same, mostly zeros      in double           W once 16 boxes
 *   dot, sum          Σ x·y, Σ x                  sum in double       f32 8/4, f64 16/8
 *   mul, mul_add      interval product (+ sum)    one step outward    f32 16/24, f64 double
 *   step, narrow      next number; double->float  directed            4, 8; 8
 *   midpoint, radius  centre and reach about it   in range; up        16; 24
 *   reach, outer      sets with symbols            see ellipsoid.inc   8
 *   normal_image, ... normalisations              see normal.inc      16
 *   finish, largest   ends of a linear node; |x|  up; up              32; 8
 *   relu              ends and centre             exact; in range     16
 *   image             f([lower, upper])           outward             16
 *   turned            columns as lines            exact               8, 16
 *   split             max(x, 0), min(x, 0)        exact               4, 8
 *   fold_last         scatter-add of windows      one per term        8, 16
 *   half_*            float -> float16            directed            4
 *   from_half         float16 -> float            exact               2
 *   decode[kind]      stored weights -> float     see decode.inc      0.56 (q4_k) to 4 (f32)
 *   stored_affine     W·c, |W|·r, (W∘W)·s stored  double; float       as stored, once
 *
 * Row kernels take `rows` rows of n entries, `stride` apart, that share their tables, and add to
 * one sum per row.
 */
#ifndef GAMMA_TABLE_H
#define GAMMA_TABLE_H

#include <stddef.h>
#include <stdint.h>

#include "api.h"

/* What the rows that a gather makes pay at once, where these are no longer read: d[k] loses |row k|
 * times the n entries of the weight of its box, summed as in abs_rows, of at most TILE. */
struct gamma_reach {
    const double *weight;
    const int64_t *box;
    double *d;
    size_t n;
};
/* Columns of rows that are summed together. */
enum { TILE = 4096 };

#define GAMMA_MEMBERS(F, S)                                                                        \
    void (*relax_##S)(F *, size_t stride, size_t rows, const F *, const F *, const double *,       \
                      const double *, size_t n, double *sums);                                     \
    void (*relax_own_##S)(F *, size_t stride, size_t rows, const F *slope, const double *base,     \
                          const double *gain, const F *, const double *, size_t n, double *sums);  \
    void (*dot_rows_##S)(const F *, size_t stride, size_t rows, const double *, size_t n,          \
                         double *sums);                                                            \
    void (*abs_rows_##S)(const F *, size_t stride, size_t rows, const double *, size_t n,          \
                         double *sums);                                                            \
    void (*affine_##S)(const F *, const double *, const double *, double *, double *, size_t,      \
                       size_t, size_t);                                                            \
    void (*product_##S)(const F *, size_t, const F *, F *, size_t, size_t, size_t, int);           \
    void (*product_at_##S)(const F *, size_t, const F *, F *, size_t, size_t, const int64_t *,     \
                           size_t);                                                                \
    void (*spread_##S)(const F *, const F *, F *, F *, size_t, const struct gamma_window *);       \
    size_t (*gather_##S)(const F *, const F *, F *, const int64_t *, int32_t *, F *, size_t,       \
                         const struct gamma_window *, int every, int add,                          \
                         const struct gamma_reach *);                                              \
    void (*correlate_##S)(const F *, const F *, F *, F *, int64_t *, size_t,                       \
                          const struct gamma_frame *);                                             \
    double (*dot_##S)(const F *, const F *, size_t);                                               \
    double (*sum_##S)(const F *, size_t);                                                          \
    void (*mul_##S)(const F *, const F *, const F *, const F *, F *, F *, size_t);                 \
    void (*mul_add_##S)(const F *, const F *, const F *, const F *, const F *, const F *, F *,     \
                        F *, size_t);                                                              \
    void (*split_##S)(const F *, F *, F *, size_t);                                                \
    void (*step_##S)(const F *, F *, size_t, int);                                                 \
    void (*own_lines_##S)(const F *, const F *, const F *, const double *, const double *,         \
                          const F *, const double *, F *, size_t);                                 \
    void (*ascend_##S)(const F *, const F *, const F *, const F *, F *, F *, F *, const double *,  \
                       size_t);                                                                    \
    void (*planes_##S)(F *, const F *, const F *, const F *, F, const double *, const double *,    \
                       size_t groups, size_t n, double *ends);                                     \
    void (*plane_lines_##S)(const F *, const F *, const F *, const F *, const F *, F, const F *,   \
                            const F *, const double *, const double *, const double *,             \
                            const double *, F *, size_t groups, size_t n);                         \
    void (*turned_##S)(const F *, F *, size_t, size_t);                                            \
    void (*fold_last_##S)(const F *, F *, size_t, const int64_t *);

/* Rows and columns of the tile that stored weights are decoded into; positions that meet it. */
enum { STORED_PANEL = 16, STORED_TILE = 256, STORED_POSITIONS = 16 };

/* `blocks` blocks at x to floats at y; not 0 when one of them is infinite or not a number. */
typedef uint32_t gamma_decode(const uint8_t *x, size_t blocks, float *y);

/* What stored weights of n columns meet: `count` rows each of centres, radii and squares, (count,
 * n), and where the sums go, (count, m). */
struct gamma_stored {
    const double *centre;
    const float *radius, *square;
    double *out[3];
    size_t count[3];
};

/* Entries of the image of a box that gamma_pass keeps of a node: whole lines of cache, an odd
 * number of them, so that the same pixels of some boxes do not meet in the same part of a cache. */
static inline size_t gamma_pass_entries(const struct gamma_node *node) {
    return ((size_t)(node->rows * node->span * node->C + 7) / 8 | 1) * 8;
}

/* Pixels of such an image and the ends of its lines. */
static inline size_t gamma_pass_starts(const struct gamma_node *node) {
    return (size_t)(node->rows * (node->span + 1));
}

/* An enclosure of a function by those of the C library; see gamma_image. */
void gamma_library_image(const struct gamma_curve *curve, const double *lower, const double *upper,
                         double *floor, double *ceiling, size_t n);

struct gamma_table {
    const char *name;
    GAMMA_MEMBERS(float, f32)
    GAMMA_MEMBERS(double, f64)
    void (*narrow)(const double *, float *, size_t, int);
    void (*midpoint)(const double *, const double *, double *, size_t);
    void (*radius_about)(const double *, const double *, const double *, double *, size_t);
    size_t (*finish)(const double *, const double *, double, double *, double *, double *, double *,
                     double *, const double *, size_t);
    double (*largest)(const double *, size_t);
    void (*reach)(const double *, size_t blocks, size_t each, size_t n, double factor, double extra,
                  double *, double *);
    void (*outer)(const struct gamma_blocks *, size_t vector, double *, double *, double *,
                  double *);
    void (*normal_image)(const struct gamma_normal *, size_t first, size_t end, double *, double *,
                         double *);
    void (*quotients)(const struct gamma_normal *, size_t first, size_t end, const float *,
                      const double *, const double *, const double *, const double *, double *,
                      double *);
    void (*groups)(const struct gamma_normal *, size_t first, size_t end, const float *,
                   const double *, const double *, double *, double *);
    void (*normal_set)(const struct gamma_normal_set *, size_t part, double *);
    void (*ball)(const struct gamma_blocks *, size_t vector, double, double *, double *);
    void (*convolve)(const double *, const double *, const double *, double *, int64_t *, double *,
                     double *, const struct gamma_frame *);
    size_t (*pass)(const struct gamma_node *, size_t, const double *, const double *, double *,
                   double *, double *, size_t boxes, const size_t *most);
    size_t (*abreast)(const struct gamma_abreast *, const double *, const double *, double *,
                      double *, double *, size_t boxes);
    void (*relu)(const double *, const double *, double *, double *, double *, size_t);
    void (*image)(const struct gamma_curve *, const double *, const double *, double *, double *,
                  size_t);
    void (*half_down)(const float *, uint16_t *, size_t);
    void (*half_up)(const float *, uint16_t *, size_t);
    void (*from_half)(const uint16_t *, float *, size_t);
    gamma_decode *decode[GAMMA_KINDS];
    uint32_t (*stored_affine)(gamma_decode *, const size_t *layout, const uint8_t *,
                              size_t row_bytes, const struct gamma_stored *, size_t m, size_t n);
};

extern const struct gamma_table gamma_scalar;
#if defined(__x86_64__)
extern const struct gamma_table gamma_avx2, gamma_avx512;
#elif defined(__aarch64__)
extern const struct gamma_table gamma_neon;
#endif

#define GAMMA_ENTRIES(S)                                                                           \
    .relax_own_##S = relax_own_##S, .own_lines_##S = own_lines_##S, .ascend_##S = ascend_##S,      \
    .relax_##S = relax_##S, .dot_rows_##S = dot_rows_##S, .abs_rows_##S = abs_rows_##S,            \
    .affine_##S = affine_##S, .product_##S = product_##S, .product_at_##S = product_at_##S,        \
    .spread_##S = spread_##S, .gather_##S = gather_##S, .correlate_##S = correlate_##S,            \
    .dot_##S = dot_##S, .sum_##S = sum_##S, .mul_##S = mul_##S, .mul_add_##S = mul_add_##S,        \
    .planes_##S = planes_##S, .plane_lines_##S = plane_lines_##S, .split_##S = split_##S,          \
    .fold_last_##S = fold_last_##S, .step_##S = step_##S, .turned_##S = turned_##S

/* Ends every instruction set's file, after the kernels it defines or includes. */
#define GAMMA_TABLE(ISA)                                                                           \
    const struct gamma_table gamma_##ISA = {                                                       \
        .name = #ISA,                                                                              \
        GAMMA_ENTRIES(f32),                                                                        \
        GAMMA_ENTRIES(f64),                                                                        \
        .narrow = narrow,                                                                          \
        .midpoint = midpoint,                                                                      \
        .radius_about = radius_about,                                                              \
        .finish = finish,                                                                          \
        .largest = largest,                                                                        \
        .reach = reach,                                                                            \
        .outer = outer,                                                                            \
        .normal_image = normal_image,                                                              \
        .quotients = quotients,                                                                    \
        .groups = groups,                                                                          \
        .normal_set = normal_set,                                                                  \
        .ball = ball,                                                                              \
        .convolve = convolve,                                                                      \
        .pass = pass,                                                                              \
        .abreast = abreast,                                                                        \
        .relu = relu,                                                                              \
        .image = image,                                                                            \
        .half_down = half_down,                                                                    \
        .half_up = half_up,                                                                        \
        .from_half = from_half,                                                                    \
        .decode = {decode_f32, decode_f16, decode_bf16, decode_q8_0, decode_q4_0, decode_q4_1,     \
                   decode_q5_0, decode_q5_1, decode_q4_k, decode_q5_k, decode_q6_k},               \
        .stored_affine = stored_affine,                                                            \
    }

#endif
