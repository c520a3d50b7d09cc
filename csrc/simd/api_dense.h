#ifndef GAMMA_API_DENSE_H
#define GAMMA_API_DENSE_H

#include <stddef.h>
#include <stdint.h>

/* Dense networks: walks through all layers, curves and their lines, boxes abreast, single steps. */

/* A smooth function: its pieces (at most 3) between breaks, convex (1) or concave (-1); what
 * evaluating it and its derivative in double may be off by, relatively and absolutely; whether
 * slopes must be numbers of float. */
enum {
    GAMMA_SIGMOID,
    GAMMA_TANH,
    GAMMA_ERF,
    GAMMA_ATAN,
    GAMMA_GELU,
    GAMMA_GELU_TANH,
    GAMMA_SILU,
    GAMMA_SOFTPLUS,
    GAMMA_EXP
};
/* narrow: what slopes must be: any number, one of float, or one in the range of float. */
enum { GAMMA_FLOAT = 1, GAMMA_FLOAT_RANGE };
struct gamma_curve {
    int kind, pieces, narrow;
    double breaks[2], curvature[3];
    double stationary, image[2]; /* where it has an extremum inside, or NaN; its range */
    double value_error, absolute_error, slope_error, slope_absolute, tiny;
    double apart, growth; /* gamma/ops/relaxation.py: up to where lines are parallel */
    double lean, most;    /* and how far from the middle they are best in a dense walk */
};

/* One dense layer of gamma_dense_walk; an activation follows all but the last and the `plain` ones:
 * the curve, or a ReLU where that is NULL.
 * stored: weight (m, n) as in the file, double when `wide`; bias (m) or NULL; row_sum (m) >= Σ|W|.
 * rows: weight (m, columns) in the rows' type, padded as in gamma_step; with starts and places,
 * which all layers of a network have or none, it is there as in gamma_step, and nothing else of it.
 * interval: γ of float64 sums of n terms; product: charge of a product per |a|·spread; inflate:
 * factor of weights summed over m entries; dot: γ of float64 sums of m terms; underflow: of a
 * product, per unit of its input's radii; size: of a weight, in the mean of squares. */
struct gamma_layer {
    size_t m, n, columns, wide, plain;
    const int64_t *starts;
    const int32_t *places;
    const void *stored, *rows;
    const double *bias, *row_sum;
    const struct gamma_curve *curve;
    double interval, product, inflate, dot, underflow, size;
};
/* flags: tighten hidden layers (1) or the output (2) by backward rows; bounds are there already
 * (4); make tables (8: rows need them); lines are there already (16); a row may bound a hidden
 * neuron from both sides, between lines of one slope (32). */
enum { GAMMA_REFINE = 1, GAMMA_OUTPUT = 2, GAMMA_KNOWN = 4, GAMMA_TABLES = 8, GAMMA_LINED = 16 };
enum { GAMMA_PARALLEL = 32 };
/* Rows of a dense walk that rise over `steps` descents, as those of gamma_ascent do, where all
 * activations are ReLUs. known: bounds of another walk over the same boxes: these are met with it,
 * and slopes start from those that its lines below have. factors (steps, 5): as of gamma_ascend.
 * risen (B, m), layer after layer: 1 where a hidden neuron gets rows. */
struct gamma_rise {
    size_t steps;
    const double *known, *factors;
    uint8_t *risen;
};
/* Bytes of `memory` that a walk of so many boxes needs, whose rows rise or do not: threads share
 * these, or the rows of each where boxes are fewer. */
size_t gamma_dense_room_f32(const struct gamma_layer *layers, size_t count, int rises, size_t boxes,
                            size_t threads);
size_t gamma_dense_room_f64(const struct gamma_layer *layers, size_t count, int rises, size_t boxes,
                            size_t threads);
/* Boxes from..to of B. lower, upper, centre: the input (B, n). bounds, layer after layer: centre,
 * spread, noise, lower, upper, then lower, upper, centre of the activation, each (B, m). slopes
 * (2, B, m) and constants (2, B, m) a layer, losses (layers, B), all as gamma_relu_tables and
 * gamma_line_tables make them, of the lines that gamma_lines finds, (4, B, m) a layer (NULL without
 * curves); of a plain layer there is its charge, as constants. facts: NULL, or what is known of
 * hidden layers, lower and upper ends (2, B, m) a
 * layer; bounds are met with it. rows, seconds (layers): neurons bounded by rows and time taken are
 * added. factors: inflation of the input's radii, 1.01·u of the rows, the share of live neurons up
 * to which dead ones are dropped. rise: NULL, or how rows rise; then slopes, constants and losses
 * are not used. Returns how many ends cross. */
size_t gamma_dense_walk_f32(const struct gamma_layer *layers, size_t count, const double *lower,
                            const double *upper, const double *centre, const double *facts,
                            double *bounds, float *slopes, double *constants, double *losses,
                            double *lines, int64_t *rows, double *seconds, void *memory,
                            const double *factors, const struct gamma_rise *rise, size_t B,
                            size_t from, size_t to, int flags, size_t threads);
size_t gamma_dense_walk_f64(const struct gamma_layer *layers, size_t count, const double *lower,
                            const double *upper, const double *centre, const double *facts,
                            double *bounds, double *slopes, double *constants, double *losses,
                            double *lines, int64_t *rows, double *seconds, void *memory,
                            const double *factors, const struct gamma_rise *rise, size_t B,
                            size_t from, size_t to, int flags, size_t threads);

/* IBP through dense layers by what is not 0 in their weights: `count` sums in an order, of products
 * of a weight with the numbers in a slot, where the n inputs are in the first ones.
 *   starts (count + 1), places, weight   terms of each; those of a ReLU's reader are halved, for
 *                                        what it leaves is the sum of its ends
 *   charge (count, 2)                    an offset, and what a radius gains by it and by underflow
 *   to, kind                             a slot, or the number of the last layer's sum, of m
 *   rows                                 how many sums from this one on have the same places, and
 *                                        take no slot of these
 *   grow, share                          of a sum of radii; of a centre, what its products round
 * low, high: ends (B, m) of boxes from..to, each as alone. memory: gamma_abreast_room doubles.
 * Returns of how many boxes numbers leave the range of double: their ends are not to be used. */
enum { GAMMA_ABREAST = 16, GAMMA_ABREAST_ROWS = 4 }; /* boxes, sums that come together */
enum gamma_abreast_kind { GAMMA_ABREAST_RELU, GAMMA_ABREAST_PLAIN, GAMMA_ABREAST_LAST };
struct gamma_abreast {
    size_t count, n, m, slots;
    const int64_t *starts;
    const int32_t *places, *to;
    const uint8_t *kind, *rows;
    const double *weight, *charge;
    double grow, share;
};
size_t gamma_abreast_room(const struct gamma_abreast *all, size_t threads);
size_t gamma_abreast_ends(const struct gamma_abreast *all, const double *lower, const double *upper,
                          double *memory, double *low, double *high, size_t from, size_t to,
                          size_t threads);

/* floor, ceiling (n): an enclosure of f over [lower, upper]. */
void gamma_image(const struct gamma_curve *curve, const double *lower, const double *upper,
                 double *floor, double *ceiling, size_t n);
/* lines (4, n): slope and intercept below f on [lower, upper], then above; where no line is known
 * or worth having, slope 0 and the image's end. Slopes that are given (NULL: none) are taken. */
void gamma_lines(const struct gamma_curve *curve, const double *lower, const double *upper,
                 const double *floor, const double *ceiling, const double *lower_slope,
                 const double *upper_slope, double *lines, size_t n, size_t threads);
/* The same for groups of n neurons, (4, groups, n), each with lines of one slope on both sides
 * where that is worth it (gamma/ops/parallel.py); least, most (groups, n): bounds of the function's
 * values. memory: 4·n numbers. */
void gamma_parallel_lines(const struct gamma_curve *curve, const double *lower, const double *upper,
                          const double *floor, const double *ceiling, const double *least,
                          const double *most, double *lines, double *memory, size_t groups,
                          size_t n, size_t threads);

/* Steps of small dense networks; layouts in layers.inc. The first returns how many ends cross. */
size_t gamma_dense_interval_f32(const float *W, const double *bias, const double *row_sum,
                                const double *lower, const double *upper, const double *centre,
                                double *radius, double *out, const double *factors, size_t B,
                                size_t m, size_t n);
size_t gamma_dense_interval_f64(const double *W, const double *bias, const double *row_sum,
                                const double *lower, const double *upper, const double *centre,
                                double *radius, double *out, const double *factors, size_t B,
                                size_t m, size_t n);
/* For many boxes: forward (n, ·) and sizes (n, ·) are Wᵀ and |W|ᵀ, padded as in gamma_step; radii
 * are multiplied in the type of sizes. factors: those of gamma_finish, then factor and addend that
 * make up for the rounding of their sums, and the share of inputs that are not 0 up to which the
 * others are left out. memory: gamma_boxes_room(m, n) doubles. */
size_t gamma_boxes_room(size_t m, size_t n);
size_t gamma_dense_boxes_f32(const double *forward, const float *sizes, const double *bias,
                             const double *row_sum, const double *lower, const double *upper,
                             const double *centre, void *memory, double *out, const double *factors,
                             size_t B, size_t m, size_t n);
size_t gamma_dense_boxes_f64(const double *forward, const double *sizes, const double *bias,
                             const double *row_sum, const double *lower, const double *upper,
                             const double *centre, void *memory, double *out, const double *factors,
                             size_t B, size_t m, size_t n);
void gamma_relu_tables_f32(const double *lower, const double *upper, const double *centre,
                           const double *after, const double *charge, float *slopes,
                           double *constants, double *loss, const double *factors, size_t B,
                           size_t n);
void gamma_relu_tables_f64(const double *lower, const double *upper, const double *centre,
                           const double *after, const double *charge, double *slopes,
                           double *constants, double *loss, const double *factors, size_t B,
                           size_t n);
/* The same where rows have lower slopes of their own, of the neurons keep (m), NULL: of all. slopes
 * (4, B, m): own lower slope, upper slope, 1 where the lower one is free, else 0, centre. constants
 * (3, B, m): below (of slope 0 where it is free), above, and what a lower slope of 1 adds. */
void gamma_hinge_f32(const double *lower, const double *upper, const double *centre,
                     const double *after, const double *charge, const int64_t *keep, float *slopes,
                     double *constants, double *loss, const double *factors, size_t B, size_t n,
                     size_t m);
void gamma_hinge_f64(const double *lower, const double *upper, const double *centre,
                     const double *after, const double *charge, const int64_t *keep, double *slopes,
                     double *constants, double *loss, const double *factors, size_t B, size_t n,
                     size_t m);
/* Tables of lines (B, n) below and above a function of one entry, on [lower, upper] about centre:
 * as gamma_relu_tables makes those of a ReLU. Slopes are numbers of the rows' type. */
struct gamma_two_lines {
    const double *lower_slope, *lower_intercept, *upper_slope, *upper_intercept;
};
void gamma_line_tables_f32(const struct gamma_two_lines *lines, const double *lower,
                           const double *upper, const double *centre, const double *after,
                           const double *charge, float *slopes, double *constants, double *loss,
                           const double *factors, size_t B, size_t n);
void gamma_line_tables_f64(const struct gamma_two_lines *lines, const double *lower,
                           const double *upper, const double *centre, const double *after,
                           const double *charge, double *slopes, double *constants, double *loss,
                           const double *factors, size_t B, size_t n);

#endif
