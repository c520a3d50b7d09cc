#ifndef GAMMA_API_ROWS_H
#define GAMMA_API_ROWS_H

#include <stddef.h>
#include <stdint.h>

/* Rows: through relaxations, planes of normalisations, dense layers, and all steps of an ascent. */

/* Rows: 0, or -1 with nothing touched when an entry of box is outside [0, B). */
int gamma_relax_rows_f32(float *A, double *d, const int64_t *box, const float *lower_slope,
                         const float *upper_slope, const double *lower_const,
                         const double *upper_const, size_t B, size_t N, size_t n);
int gamma_relax_rows_f64(double *A, double *d, const int64_t *box, const double *lower_slope,
                         const double *upper_slope, const double *lower_const,
                         const double *upper_const, size_t B, size_t N, size_t n);
int gamma_dot_rows_f32(const float *A, double *d, const int64_t *box, const double *vector,
                       size_t B, size_t N, size_t n);
int gamma_dot_rows_f64(const double *A, double *d, const int64_t *box, const double *vector,
                       size_t B, size_t N, size_t n);
int gamma_abs_dot_rows_f32(const float *A, double *d, const int64_t *box, const double *weight,
                           size_t B, size_t N, size_t n);
int gamma_abs_dot_rows_f64(const double *A, double *d, const int64_t *box, const double *weight,
                           size_t B, size_t N, size_t n);
/* relax_rows with a lower slope (N, n) of each row's own; the lines that its rows chose, at x; and
 * Adam's step of the slopes: factors are beta_1, 1 - beta_1, beta_2, 1 - beta_2 and the rate. */
int gamma_relax_own_rows_f32(float *A, double *d, const int64_t *box, const float *slope,
                             const double *base, const double *gain, const float *upper_slope,
                             const double *upper_const, size_t B, size_t N, size_t n);
int gamma_relax_own_rows_f64(double *A, double *d, const int64_t *box, const double *slope,
                             const double *base, const double *gain, const double *upper_slope,
                             const double *upper_const, size_t B, size_t N, size_t n);
int gamma_own_lines_f32(const float *A, const float *x, const int64_t *box, const float *slope,
                        const double *base, const double *gain, const float *upper_slope,
                        const double *upper_const, float *out, size_t B, size_t N, size_t n);
int gamma_ascend_f32(const float *A, const float *x, const int64_t *box, const float *centre,
                     const float *free, float *first, float *second, float *slope,
                     const double *factors, size_t B, size_t N, size_t n);
int gamma_own_lines_f64(const double *A, const double *x, const int64_t *box, const double *slope,
                        const double *base, const double *gain, const double *upper_slope,
                        const double *upper_const, double *out, size_t B, size_t N, size_t n);
int gamma_ascend_f64(const double *A, const double *x, const int64_t *box, const double *centre,
                     const double *free, double *first, double *second, double *slope,
                     const double *factors, size_t B, size_t N, size_t n);

/* Planes of a normalisation over G groups of n entries (gamma/ops/quotient.py), of each box: root
 * (G), steep, tilt, and which entries have planes below and above, (G, n) in the rows' type; low,
 * high (G), lower_const, upper_const (G, n). sums: of a float64 sum of as many terms as groups. */
struct gamma_planes {
    size_t groups, n;
    double shared, sums;
    const void *root, *steep, *tilt, *below, *above;
    const double *low, *high, *lower_const, *upper_const;
};
/* Rows A (N, G·n) past them, and the planes that they chose, at x. */
int gamma_pass_planes_f32(const struct gamma_planes *planes, float *A, double *d,
                          const int64_t *box, size_t B, size_t N);
int gamma_pass_planes_f64(const struct gamma_planes *planes, double *A, double *d,
                          const int64_t *box, size_t B, size_t N);
int gamma_plane_lines_f32(const struct gamma_planes *planes, const float *A, const float *x,
                          const int64_t *box, float *out, size_t B, size_t N);
int gamma_plane_lines_f64(const struct gamma_planes *planes, const double *A, const double *x,
                          const int64_t *box, double *out, size_t B, size_t N);

void gamma_interval_affine_f32(const float *W, const double *centre, const double *radius,
                               double *z, double *spread, size_t B, size_t m, size_t n);
void gamma_interval_affine_f64(const double *W, const double *centre, const double *radius,
                               double *z, double *spread, size_t B, size_t m, size_t n);

/* One step of a backward walk over dense layers; absent parts are NULL. In this order: entries
 * (N, n) pass the relaxation, d pays |entries|·pay and the loss of the row's box, and the rows are
 * multiplied by the weight (n, columns), of which `width` columns count; columns·sizeof(entry) is a
 * multiple of 64. With `starts` (n + 1) the weight has only its entries that are not 0, row by row:
 * those of row k from starts[k] on, in columns `places`. Tables are (B, n), loss (B). */
struct gamma_step {
    size_t n, width, columns;
    const int64_t *starts;
    const int32_t *places;
    const void *lower_slope, *upper_slope;
    const double *lower_const, *upper_const, *pay, *loss, *strip;
    const void *weight;
};
/* Rows A (N, steps[last].n) down to step 0, `block` rows at a time in scratch (2, block, widest).
 * A and d are overwritten. opposite: NULL, or the constants of the negated rows, which pay the
 * strips (gamma/propagate/rows/opposite.py). 0, -1 (box outside [0, B)) or -2 (widths that do not
 * meet). */
int gamma_chain_f32(const struct gamma_step *steps, size_t last, float *A, double *d,
                    double *opposite, const int64_t *box, float *scratch, size_t block,
                    size_t widest, size_t B, size_t N);
int gamma_chain_f64(const struct gamma_step *steps, size_t last, double *A, double *d,
                    double *opposite, const int64_t *box, double *scratch, size_t block,
                    size_t widest, size_t B, size_t N);

/* A node on the way of gamma_ascent's rows: the input (stage 0), a dense layer (`weight`), a sum, a
 * change of order, a normalisation (`planes`) or a ReLU (`base`), which reads the stage before it.
 * Of what has n entries or is a loss there is one for each box, unless rows assume something. Rows
 * over it have n entries and lie `back` apart, n filled up to whole 64 bytes.
 *   input   pay: what an entry costs, its radius rounded up; middle: the radius
 *   dense   weight (n, back of the stage before); turned (n of the stage before, back), its
 *           transpose; or, of mostly zeros, what is not 0: starts (n + 1) of its rows in weight,
 *           and columns; or, of a convolution with channels first, weight as gamma_gather takes it,
 *           with window, near, `every`, and a `room` and `lists` of entries for each row (near
 *           NULL: gamma_spread with a scratch of `room`), and turned, a frame and a `copy` of
 *           gamma_correlate's; pay (n) and loss: its charge, NULL where its reader carries it.
 *           Where a ReLU reads it, what assumptions about it meet: centre, rounded (n), carried (n)
 *           with carried_loss or NULL, and share, of the terms that they add to a constant
 *   sum     signs (0 elsewhere) of stage `from` and of stage `also` (elsewhere `from` again), and
 *           what a dense layer has besides its weight
 *   order   order (n): where each entry is in the stage before
 *   normalisation   planes; its entries begin `at` entries into a row of all ReLUs, as theirs do
 *   ReLU    the tables of gamma_relax_own_rows; free, fixed slopes, middle (centres); sides (4, n):
 *           constants of the lines of neurons <= 0, then >= 0, for positive and for negative
 *           entries; places (count) of those that cross 0, numbered from `number` on, and low, high
 *           (count) of their inputs. Its entries begin `at` entries into a row of all ReLUs.
 * joined: what one more rounding of an entry costs, where several stages read this one. No two
 * stages have the same slot while rows or trajectories over both are there. */
struct gamma_window;
struct gamma_frame;
struct gamma_stage {
    size_t n, back, number, count, at, room, lists, copy, from, also, slot;
    const void *weight, *turned, *free, *fixed, *upper_slope, *middle, *low, *high;
    const double *pay, *centre, *rounded, *carried, *base, *gain, *upper_const, *sides;
    const int64_t *places, *starts, *near;
    const int32_t *columns, *order;
    const struct gamma_window *window;
    const struct gamma_frame *frame;
    const struct gamma_planes *planes;
    const double *loss, *joined;
    double carried_loss, share;
    int every, signs[2];
};
/* Rows of gamma_ascent: the box of each (NULL: 0, the only one with assumptions or costs), what it
 * asks (asked (questions, n of the last stage), with a constant; over stage `second`, too, where
 * `beside`), the row of `slope` (owners, relus) that it starts from (NULL: its own), and depth
 * assumptions: numbers of ReLUs (-1: none), sides, multipliers. stage, place (relus): the dense
 * layer that a ReLU reads, and where. best gets the best bounds of `steps` descents (from
 * -infinity); slope and beta move unless cost is NULL, which else gets what relaxations cost at
 * last, (rows, relus). A row at its limit (NULL: none) takes no more steps, nor, if `paired`, does
 * its neighbour: 2k and 2k + 1 are. kept (NULL: not wanted): slopes and multipliers of the best
 * bounds. factors (steps, 5): as of gamma_ascend. */
struct gamma_cases {
    size_t rows, questions, owners, boxes, relus, depth, steps, paired, second;
    const int64_t *question, *owner, *box, *relu, *stage, *place;
    const int8_t *sign;
    const void *asked, *beside;
    const double *constant, *limit, *factors;
    void *slope, *cost, *kept_slope;
    double *beta, *best, *kept_beta;
};
/* Shared among threads, of which each takes `block` rows at a time, an even number (best as many as
 * gamma_ascent_block says), in memory of gamma_ascent_room bytes. 0, or -1 with nothing touched
 * when an index does not exist. */
size_t gamma_ascent_block_f32(const struct gamma_stage *stages, size_t last, size_t depth);
size_t gamma_ascent_block_f64(const struct gamma_stage *stages, size_t last, size_t depth);
size_t gamma_ascent_room_f32(const struct gamma_stage *stages, size_t last, size_t depth,
                             size_t block);
size_t gamma_ascent_room_f64(const struct gamma_stage *stages, size_t last, size_t depth,
                             size_t block);
int gamma_ascent_f32(const struct gamma_stage *stages, size_t last, const struct gamma_cases *cases,
                     void *memory, size_t block, size_t threads);
int gamma_ascent_f64(const struct gamma_stage *stages, size_t last, const struct gamma_cases *cases,
                     void *memory, size_t block, size_t threads);

#endif
