#ifndef GAMMA_API_H
#define GAMMA_API_H

#include <stddef.h>
#include <stdint.h>

/* What Python calls. cffi reads this file and those it includes; contracts are in
 * gamma/tensor/kernels. Every entry saves the floating-point control word, sets the default
 * (round to nearest, gradual underflow, no traps) and restores it. */

/* Names of instruction sets this processor runs, best first; NULL beyond the last. */
const char *gamma_available(int index);
/* 0 when `name` is now in use, -1 when this processor cannot run it. */
int gamma_select(const char *name);

#include "api_rows.h"
#include "api_dense.h"
#include "api_images.h"

/* geometry = kh kw sh sw top left dh dw Ho Wo H W C. */
void gamma_fold_last_f32(const float *cols, float *out, size_t frames, const int64_t *geometry);
void gamma_fold_last_f64(const double *cols, double *out, size_t frames, const int64_t *geometry);
/* The columns of each x (a, b) as lines: out (N, b, a). */
void gamma_turned_f32(const float *x, float *out, size_t N, size_t a, size_t b);
void gamma_turned_f64(const double *x, double *out, size_t N, size_t a, size_t b);

void gamma_interval_mul_f32(const float *al, const float *au, const float *bl, const float *bu,
                            float *lower, float *upper, size_t n);
void gamma_interval_mul_f64(const double *al, const double *au, const double *bl, const double *bu,
                            double *lower, double *upper, size_t n);
void gamma_safe_mul_add_f32(const float *al, const float *au, const float *bl, const float *bu,
                            const float *cl, const float *cu, float *lower, float *upper, size_t n);
void gamma_safe_mul_add_f64(const double *al, const double *au, const double *bl, const double *bu,
                            const double *cl, const double *cu, double *lower, double *upper,
                            size_t n);
void gamma_pos_neg_split_f32(const float *x, float *positive, float *negative, size_t n);
void gamma_pos_neg_split_f64(const double *x, double *positive, double *negative, size_t n);
/* One step outward, in the direction of up (1) or down (0). */
void gamma_step_f32(const float *x, float *out, size_t n, int up);
void gamma_step_f64(const double *x, double *out, size_t n, int up);
void gamma_narrow(const double *x, float *out, size_t n, int up);
void gamma_midpoint(const double *lower, const double *upper, double *out, size_t n);
void gamma_radius_about(const double *lower, const double *upper, const double *centre, double *out,
                        size_t n);
double gamma_dot_f32(const float *x, const float *y, size_t n);
double gamma_dot_f64(const double *x, const double *y, size_t n);
double gamma_sum_f32(const float *x, size_t n);
double gamma_sum_f64(const double *x, size_t n);

void gamma_f16_down(const float *x, uint16_t *out, size_t n);
void gamma_f16_up(const float *x, uint16_t *out, size_t n);
void gamma_f16_to_f32(const uint16_t *x, float *out, size_t n);

/* Weights as files store them; layouts in decode.inc. Rows of n weights, a multiple of a block's,
 * start row_bytes apart. */
enum gamma_kind {
    GAMMA_F32,
    GAMMA_F16,
    GAMMA_BF16,
    GAMMA_Q8_0,
    GAMMA_Q4_0,
    GAMMA_Q4_1,
    GAMMA_Q5_0,
    GAMMA_Q5_1,
    GAMMA_Q4_K,
    GAMMA_Q5_K,
    GAMMA_Q6_K,
    GAMMA_KINDS
};
/* Weights and bytes of a block. */
size_t gamma_block(int kind, int bytes);
/* out (m, n). 0, or not 0 when a weight is infinite or not a number. */
int gamma_decode_rows(int kind, const uint8_t *raw, size_t row_bytes, float *out, size_t m,
                      size_t n);
/* z = W·centre, spread = |W|·radius and power = (W∘W)·square, (count, m), of (count, n) each, where
 * counts are those of centres, radii and squares; returns as above. */
int gamma_stored_affine(int kind, const uint8_t *raw, size_t row_bytes, const double *centre,
                        const float *radius, const float *square, double *z, double *spread,
                        double *power, const size_t *counts, size_t m, size_t n);

void gamma_erf(const double *x, double *out, size_t n);
void gamma_erfc(const double *x, double *out, size_t n);

/* The elementwise part of an interval step, see interval.inc: z, spread, noise, lower, upper (B,
 * m), of an input with |centre| at most largest (B). Returns how many ends contradict each
 * other. */
size_t gamma_finish(const double *bias, const double *row_sum, const double *largest, double *z,
                    double *spread, double *noise, double *lower, double *upper,
                    const double *factors, size_t B, size_t m);
/* Interval step of Σ ±x over boxes of m entries each: parts: the centres of `count` inputs, then
 * their radii; signs 1 or -1; out (5, B, m) and the rest as in gamma_finish. */
size_t gamma_sum_interval(double *const *parts, const int64_t *signs, size_t count,
                          const double *row_sum, double *out, const double *factors, size_t B,
                          size_t m);
/* The largest |x| of each row (B, n), rounded up. */
void gamma_largest(const double *x, double *out, size_t B, size_t n);
/* Σ over blocks of `each` columns (n) of √(Σ squares), times factor, plus extra where squares of
 * what moves may underflow: out (n). work: n. */
void gamma_reach(const double *columns, size_t blocks, size_t each, size_t n, double factor,
                 double extra, double *out, double *work);
/* Sets Σ columns·ξ + [-rest, rest] of vectors of d entries: of each of `parts` parts columns
 * (counts, vectors, d) of blocks of lengths symbols, `symbols` together. g: of float64 sums. */
struct gamma_blocks {
    size_t parts, symbols, vectors, d;
    const double *const *columns;
    const size_t *counts, *lengths;
    const double *rest;
    double g;
};
/* How far a vector of such a set lies from middle (d), and the box around it: out (3, d): reach,
 * lower, upper; the reaches of parts times factors plus extras, as in gamma_reach. work: 2·d.
 * Returns how many entries are not finite. */
size_t gamma_swing(const struct gamma_blocks *x, const double *middle, const double *factors,
                   const double *extras, double *out, double *work);
/* A dense layer (m outputs of d entries) behind each vector of such a set: turned (d, columns),
 * lines padded with zeros to whole 64 bytes, as it is and absolute. middle, before: of the set and
 * of the node before (vectors, d); drift: how far values lie from that middle; after, noise (NULL:
 * none): of the node (vectors, m). g: of its sums. factors, extras: of the reaches of the set's
 * parts, then of those of `more`. */
struct gamma_matrix {
    size_t m, columns;
    const double *weight, *absolute, *middle, *before, *drift, *after, *noise;
    double g;
    const double *factors, *extras;
};
/* The set behind it: out (5 + symbols, vectors, m): its middle, its rest, and reach and ends as
 * gamma_swing has them with the parts of `more`, which are over the outputs; then the columns.
 * work: gamma_layer_room doubles. Returns how many entries are not finite. */
size_t gamma_layer_room(const struct gamma_matrix *layer, const struct gamma_blocks *set,
                        size_t threads);
size_t gamma_layer_set(const struct gamma_matrix *layer, const struct gamma_blocks *set,
                       const struct gamma_blocks *more, double *out, double *work, size_t threads);
/* Lines below and above (d): slopes, constants; of a function of each entry of such a set. middle,
 * before: of the set and of its node; swing, lower, upper: what is known of its values; after: of
 * the node behind. factors, extras: of the reaches of the set's parts. */
struct gamma_strips {
    const double *below, *above, *low, *high;
    const double *middle, *before, *swing, *lower, *upper, *after, *factors, *extras;
};
/* The set behind them: out (5 + symbols, d) as of gamma_layer_set. work: 3·d. */
size_t gamma_strips_set(const struct gamma_strips *lines, const struct gamma_blocks *set,
                        double *out, double *work);
/* Ellipsoids around them: matrix (vectors, d, d), error (vectors), scale (vectors, d), of
 * gamma/ops/ellipsoid.py. work: d + symbols·(d + 1). */
void gamma_outer(const struct gamma_blocks *x, double *matrix, double *error, double *scale,
                 double *work);
/* Groups of n entries of one box that are normalised together (normal.inc): centred or as they are.
 * lower, upper, centre, radius (groups, n); gammas: of float64 sums, by the names below, but for
 * that of rows; single: rows are of float32. */
enum {
    GAMMA_N4,
    GAMMA_N8,
    GAMMA_N16,
    GAMMA_2N16,
    GAMMA_2N32,
    GAMMA_4N16,
    GAMMA_NN8,
    GAMMA_ROWS,
    GAMMA_DOT
};
struct gamma_normal {
    size_t groups, n;
    int centred, single;
    double epsilon;
    const double *lower, *upper, *centre, *radius, *gammas;
};
/* Their images. work: 10·n for each thread. */
void gamma_normal_image(const struct gamma_normal *x, double *lower, double *upper, double *work,
                        size_t threads);
/* Their planes between floor and ceiling about `after` (groups, n); weights (groups, K, n) of
 * linear forms, K = 2 where centred, else 1, and their ends (groups, K, 2), NULL: of the box. out:
 * steep, tilt, below, above, lower and upper constants (6, groups, n); root, both ends of the gap and
 * what rows lose for each smallest number (4, groups). work: 12·n for each thread. */
void gamma_quotients(const struct gamma_normal *x, const float *weights, const double *forms,
                     const double *floor, const double *ceiling, const double *after, double *out,
                     double *work, size_t threads);
/* What is known of c and v in them, where mean(δ²) is at most square (groups), NULL: of the box. out:
 * c0, its ends, astray, slopes of v (5, groups, n); least, most, base, below, above (5, groups).
 * work: 11·n for each thread. */
void gamma_groups(const struct gamma_normal *x, const float *weights, const double *forms,
                  const double *square, double *out, double *work, size_t threads);
/* Sets behind them, of gamma/ops/normalized.py. x: about the middle of a set of x's, a vector of it
 * each group; swing (groups, n): how far it reaches; sums (parts, 2): factor and extra of the parts'
 * reaches. out ((symbols + n + 3), groups, n): columns of the symbols, of an ellipsoid around the
 * last product in each group and of the line of w; an interval; the middle. */
struct gamma_normal_set {
    const struct gamma_normal *x;
    const struct gamma_blocks *set;
    const double *swing, *sums;
    double *out;
};
/* work: for each thread gamma_normal_set_room doubles. */
size_t gamma_normal_set_room(const struct gamma_blocks *set);
void gamma_normal_sets(const struct gamma_normal_set *job, double *work, size_t threads);
/* Columns (d, vectors, d) that span ellipsoids around the vectors of a set, infinite where there is
 * none. g: of their factorisations. work: for each thread gamma_balls_room doubles. */
size_t gamma_balls_room(const struct gamma_blocks *set);
void gamma_balls(const struct gamma_blocks *set, double g, double *out, double *work,
                 size_t threads);
/* out (4, n): lower, upper, centre, radius. */
void gamma_relu(const double *lower, const double *upper, double *out, size_t n);

#endif
