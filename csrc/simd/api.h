#ifndef GAMMA_API_H
#define GAMMA_API_H

#include <stddef.h>
#include <stdint.h>

/* What Python calls. cffi reads this file without its preprocessor lines; contracts are in
 * gamma/tensor/kernels. Every entry saves the floating-point control word, sets the default
 * (round to nearest, gradual underflow, no traps) and restores it. */

/* Names of instruction sets this processor runs, best first; NULL beyond the last. */
const char *gamma_available(int index);
/* 0 when `name` is now in use, -1 when this processor cannot run it. */
int gamma_select(const char *name);

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

/* C (N, columns) = A (N, K)·W (K, columns); W padded as in gamma_step. */
void gamma_product_f32(const float *A, const float *W, float *C, size_t N, size_t K,
                       size_t columns);
void gamma_product_f64(const double *A, const double *W, double *C, size_t N, size_t K,
                       size_t columns);

/* Adjoint of a convolution with channels last: out = scatter(rows·weight) on zeroed images.
 * rows (frames, h, w, lda), of which `out` channels count; images (frames, H, W, pixel), of which C
 * are written; kernel, strides, dilations, pads (top, left); weight (out, columns) holds kh·kw·C
 * columns and is padded as in gamma_step. At most `part` channels are summed at once, then the
 * parts. room: pixels whose columns fit into scratch, at least w. */
struct gamma_window {
    int64_t kh, kw, sh, sw, dh, dw, top, left, h, w, H, W, C, pixel, out, lda, columns, part, room;
    int64_t by, bx, oy, ox, ny, nx, segment; /* of gather: cells of the images */
    int64_t lines, wide;                     /* of gather: the kernel, in pixels */
};
void gamma_spread_f32(const float *rows, const float *weight, float *images, float *scratch,
                      size_t frames, const struct gamma_window *window);
void gamma_spread_f64(const double *rows, const double *weight, double *images, double *scratch,
                      size_t frames, const struct gamma_window *window);
/* The same by cells of by·bx pixels, ny lines of nx, the first of which begin oy and ox pixels
 * before the image, written or, with `add`, added to. A cell has for each of its lines the channels
 * of its pixels, filled up to a segment of whole eights, and ends in a whole panel of 64 bytes:
 * `columns` entries. The weight is panel by panel (columns of a panel, kh·kw, out, panel). near:
 * for each line, then each column of cells: how many places of the kernel reach it, and which from
 * which row or column of the rows (room for kh or kw pairs). Overwritten: lists, h·w·(parts of the
 * channels + out) + 1 entries; scratch, GAMMA_BROAD·(h·w·out + nx·columns + 24·by). Offsets into
 * either and into a panel fit in an int32_t. Channels that are 0 in all frames of a register block
 * are passed over unless `every`. */
enum { GAMMA_BROAD = 16 };
void gamma_gather_f32(const float *rows, const float *weight, float *images, const int64_t *near,
                      int32_t *lists, float *scratch, size_t frames,
                      const struct gamma_window *window, int every, int add);
void gamma_gather_f64(const double *rows, const double *weight, double *images, const int64_t *near,
                      int32_t *lists, double *scratch, size_t frames,
                      const struct gamma_window *window, int every, int add);

/* Convolution with channels first: images (frames, groups, C, H, W), weight (groups, out, C·kh·kw),
 * result (frames, groups, out, h, w), every entry one sum in F. copy: (C, rows, sw, span) entries,
 * where rows = (h - 1)·sh + (kh - 1)·dh + 1 and span = w + (kw - 1)·dw/sw + 64 bytes of entries;
 * offset: C·kh·kw. Both are overwritten. */
struct gamma_frame {
    int64_t kh, kw, sh, sw, dh, dw, top, left, h, w, H, W, C, out, groups, rows, span;
};
void gamma_correlate_f32(const float *images, const float *weight, float *result, float *copy,
                         int64_t *offset, size_t frames, const struct gamma_frame *frame);
void gamma_correlate_f64(const double *images, const double *weight, double *result, double *copy,
                         int64_t *offset, size_t frames, const struct gamma_frame *frame);

/* Interval step of a convolution over boxes from..to of B: centre and radius of the input
 * (B, groups, C, H, W), weight by panels of GAMMA_PANEL output channels (groups, panels, kh·kw·C,
 * GAMMA_PANEL), places of the kernel before channels, zeros for channels beyond `out`. out: centre,
 * spread, noise, lower, upper (B, groups, out, h, w); bias (one box) may be NULL, the rest as in
 * gamma_finish. copy: (rows, span, C, 2) entries, where rows is as above and span = (w - 1)·sw +
 * (kw - 1)·dw + 1, and after them room for kh·kw·C numbers. Returns how many ends contradict each
 * other. */
enum { GAMMA_PANEL = 8 };
size_t gamma_convolve(const double *centre, const double *radius, const double *weight,
                      const double *bias, const double *row_sum, double *copy, double *out,
                      const double *factors, size_t B, size_t from, size_t to,
                      const struct gamma_frame *frame);

/* A node of a network for gamma_pass: the input (the first), a convolution of node reads[0]
 * (reads[1] is -1), or the sum of sign[0] and sign[1] times two nodes; then a ReLU, with `hinge`,
 * or `curve`, unless that is NULL. Nodes that read it are among readers[0]..readers[1]. Its values
 * lie in an image of rows·span pixels, channels last, the inside (H, W) of which begins at (top,
 * left): room for the pads of all convolutions that read it. C divides by groups. Of the input,
 * entries are `across` apart from channel to channel and `along` from pixel to pixel; with
 * `planar`, where that is 1 and no sum reads it, its image is one channel after the other, and its
 * charges are (C, W, 2). weight: (groups, panels, kh·kw·C of the group, GAMMA_PANEL); bias (groups,
 * panels, GAMMA_PANEL) or NULL; row_sum (groups, panels, H·W, GAMMA_PANEL), of a sum (H, W, C);
 * factors: of gamma_finish. pairs: NULL, or the weight as floats w, |w| for products in float32, by
 * blocks of GAMMA_BLOCK and groups of GAMMA_GROUP terms; shift (groups, panels, GAMMA_PANEL, 2):
 * floats near the bias, and what these and the sums lose; tilt: what rounding it would add to the
 * sum of the source's reaches, as it is compared; shows: up to which share of these a charge for
 * centres does not show; lines, ends: NULL, or where these weights are mostly 0 the lines of a
 * panel that are not, panel after panel, and of each panel how many there are of all before its
 * first block and up to the end of each. charge (W, C, 2): of those of the node's readers, per |c|
 * and per reach; rate: per |c| on average (0: none of the network's nodes has pairs). */
enum { GAMMA_NODES = 256, GAMMA_BLOCK = 8, GAMMA_GROUP = 64, GAMMA_ALIKE = 16 };
struct gamma_node {
    int64_t C, H, W, top, left, rows, span, across, along;
    int64_t reads[2], readers[2], sign[2], kh, kw, sh, sw, dh, dw, pad_top, pad_left, groups, hinge,
        late, kept, planar;
    const double *weight, *bias, *row_sum;
    double factors[2];
    const float *pairs, *shift, *charge;
    const int64_t *lines, *ends;
    const struct gamma_curve *curve;
    double rate, tilt, shows;
};
/* Ends of the last of count nodes (at most GAMMA_NODES), low and high (B, C, H, W), for boxes
 * from..to of B, whose input is (B, C·H·W). most[1] boxes at a time go through all nodes but the
 * late ones, from the first of which on all are late, and these take most[0]; nodes that late ones
 * read, and these, are kept. With most[2] the others are multiples of GAMMA_ALIKE, and so many
 * boxes of one radius, near to each other, share products of their reaches with what reads an input
 * of one pixel (`alike`). threads: that share the boxes, most[0] each; memory: gamma_pass_room
 * doubles for each. Returns how many ends of any node contradict each other. */
size_t gamma_pass_room(const struct gamma_node *nodes, size_t count, const size_t *most);
size_t gamma_pass(const struct gamma_node *nodes, size_t count, const double *lower,
                  const double *upper, double *memory, double *low, double *high, size_t from,
                  size_t to, const size_t *most, size_t threads);

/* relax_rows and abs_dot_rows for rows (N, h, w, C) that lie on images (H, W): row r is of
 * place[r], where[3·place..] = box, y, x of its first pixel, which may lie outside. Entries outside
 * become 0. Tables are (B, H, W, C); shape = h w H W C. 0, or -1 when a place or a box does not
 * exist. */
int gamma_relax_windows_f32(float *A, double *d, const int64_t *place, const int64_t *where,
                            const float *lower_slope, const float *upper_slope,
                            const double *lower_const, const double *upper_const,
                            const int64_t *shape, size_t B, size_t P, size_t N);
int gamma_relax_windows_f64(double *A, double *d, const int64_t *place, const int64_t *where,
                            const double *lower_slope, const double *upper_slope,
                            const double *lower_const, const double *upper_const,
                            const int64_t *shape, size_t B, size_t P, size_t N);
int gamma_abs_dot_windows_f32(float *A, double *d, const int64_t *place, const int64_t *where,
                              const double *weight, const int64_t *shape, size_t B, size_t P,
                              size_t N);
int gamma_abs_dot_windows_f64(double *A, double *d, const int64_t *place, const int64_t *where,
                              const double *weight, const int64_t *shape, size_t B, size_t P,
                              size_t N);

/* What rows meet at a node on their way: tables for each box, with channels last where the node is
 * an image; NULL where it costs nothing. */
struct gamma_met {
    const void *lower_slope, *upper_slope;
    const double *lower_const, *upper_const, *loss, *pay, *pay_loss, *join, *strip;
};
/* Tables of a node of C channels of P pixels over B boxes, made from its bounds (B, C, P) into
 * memory that stays theirs:
 *   charge  of a linear node: B·(n + 1) + n doubles for n = C·P. mass: radii of its inputs, summed
 *   reach   what rows over it cost when they end there (`pay`) or are rounded once more (`join`),
 *           radius·factors[0]·factors[1]: (B + 1)·n doubles
 *   relu    of a ReLU of an input with these bounds: lower, upper, centre; after: its own centre;
 *           spread, noise, mass: of the charge of that input that it carries, or NULL. With `strip`
 *           what the negated rows pay. B·(2·n + 1) + 5·n doubles, B·n more with `strip`, and after
 *           them 2·(B + 1)·n elements
 * factors of the first and the last: see meet.inc. */
void gamma_meet_charge(struct gamma_met *met, const double *spread, const double *noise,
                       const double *mass, double *memory, const double *factors, size_t B,
                       size_t C, size_t P);
void gamma_meet_reach(struct gamma_met *met, const double *lower, const double *upper,
                      const double *centre, double *memory, const double *factors, size_t B,
                      size_t C, size_t P, int join);
void gamma_meet_relu_f32(struct gamma_met *met, const double *lower, const double *upper,
                         const double *centre, const double *after, const double *spread,
                         const double *noise, const double *mass, double *memory,
                         const double *factors, size_t B, size_t C, size_t P, int strip);
void gamma_meet_relu_f64(struct gamma_met *met, const double *lower, const double *upper,
                         const double *centre, const double *after, const double *spread,
                         const double *noise, const double *mass, double *memory,
                         const double *factors, size_t B, size_t C, size_t P, int strip);
/* Rows of the matrix of a linear node of `size` neurons, `pixels` to a channel in lines of `width`:
 * in groups of `out` channels, each of kernels (own, kh, kw) over an image with C channels, or,
 * where weight is NULL, units over the node itself. A row has (h, w, C) entries: the window from
 * its first pixel, or the whole image (`framed`). */
struct gamma_start {
    int64_t size, pixels, width, out, own, kh, kw, sh, sw, dh, dw, top, left, h, w, C, framed;
    const void *weight;
};
/* Rows of N neurons in boxes: then, where opposite is NULL, as many of their negatives, or else
 * those from `above` on negated and the constants of the others' negatives in opposite. d:
 * constants, from the node's centre, and factors as in gamma_meet_charge, from its bounds. where:
 * box, y, x of each place (room for N), whose number is returned, or SIZE_MAX when a neuron or one
 * of the B boxes does not exist; neurons of a place come together. */
size_t gamma_start_f32(const struct gamma_start *start, const int64_t *boxes,
                       const int64_t *neurons, const double *centre, const double *spread,
                       const double *noise, const double *mass, const double *factors, float *rows,
                       double *d, double *opposite, int64_t *box, int64_t *place, int64_t *where,
                       size_t above, size_t B, size_t N);
size_t gamma_start_f64(const struct gamma_start *start, const int64_t *boxes,
                       const int64_t *neurons, const double *centre, const double *spread,
                       const double *noise, const double *mass, const double *factors, double *rows,
                       double *d, double *opposite, int64_t *box, int64_t *place, int64_t *where,
                       size_t above, size_t B, size_t N);
/* A move of gamma_walk of the rows in slot `from`, which lie over windows or whole images
 * (`framed`) of shape h w H W C; a place of first pixel y x has its window there at y·grid[0] +
 * grid[2] and x·grid[1] + grid[3].
 *   MARK, FOLLOW   remember d; the constants of the negated rows are charged what d was since
 *   RELAX          relax_rows, then d -= loss; those constants pay for the strips
 *   PAY, JOIN      abs_dot_rows with the node's charge, with that of one more rounding
 *   GATHER, SPREAD a convolution's adjoint into `to`, from channel offsets[0] to offsets[1]
 *   REACH          GATHER and then PAY of what it leaves in `to`, which nothing reads behind that
 *   ZERO, COPY     of slot `to`, whose images are `target` pixels high and wide
 *   ADD, FRAME     windows added to `to` at `corner`, or where each row's place is */
enum gamma_moves {
    GAMMA_MARK,
    GAMMA_FOLLOW,
    GAMMA_RELAX,
    GAMMA_PAY,
    GAMMA_JOIN,
    GAMMA_GATHER,
    GAMMA_SPREAD,
    GAMMA_ZERO,
    GAMMA_COPY,
    GAMMA_ADD,
    GAMMA_FRAME,
    GAMMA_REACH
};
struct gamma_move {
    int64_t kind, node, from, to, framed, add, shape[5], grid[4], target[2], corner[2], offsets[2];
    const void *weight;
    const int64_t *near;
    struct gamma_window window;
};
/* Moves over `slots` blocks of rows with rooms[i] entries a row, `block` rows at a time; the first
 * `given` slots are the caller's, of all rows. scratch, lists: entries that products need beside
 * the slots. */
enum { GAMMA_SLOTS = 64, GAMMA_LINE = 16 };
struct gamma_walk {
    const struct gamma_move *moves;
    const struct gamma_met *met;
    const int64_t *rooms;
    size_t count, slots, given, block, scratch, lists;
    int every;
};
/* Rows N of places P (first: box, y, x) in boxes B; blocks, d and opposite (the constants of the
 * negated rows, or NULL) are overwritten. spots: 3·count·P entries; for each of `threads`: memory,
 * scratch, then `block` rows of each slot that is not given, filled up to multiples of GAMMA_LINE;
 * lists; before, `block` entries. 0, or -1 when a place or a box does not exist. */
int gamma_walk_f32(const struct gamma_walk *walk, float *const *blocks, double *d, double *opposite,
                   const int64_t *box, const int64_t *place, const int64_t *first, int64_t *spots,
                   float *memory, int32_t *lists, double *before, size_t B, size_t P, size_t N,
                   size_t threads);
int gamma_walk_f64(const struct gamma_walk *walk, double *const *blocks, double *d,
                   double *opposite, const int64_t *box, const int64_t *place, const int64_t *first,
                   int64_t *spots, double *memory, int32_t *lists, double *before, size_t B,
                   size_t P, size_t N, size_t threads);

/* A node of C channels of P pixels of a network of images, for gamma_images.
 *   values   of the input, a ReLU and an image laid flat lower, upper, centre and radius (B·n each,
 *            n = C·P), of a convolution, a sum or a dense layer (whose P is 1) centre, spread,
 *            noise, lower, upper and radius, then the sum of radii of each box
 *   tables, joins, reach (NULL: none) what gamma_met gets, where it is `met` (a charge, lines, or,
 *            of the input, radii)
 *   mask     a byte for each neuron that got rows
 *   asked    rows are made by gamma_images_ask alone
 *   lines    of the image that is laid flat, which become columns
 *   single   the weight of a dense layer is float; else, as a convolution's, it is double
 *   carries  a ReLU with the charge of what it reads
 *   most     neurons whose rows a call makes, by start and walk (NULL: none needs rows)
 *   sided    those of more while few keep both signs go by signs (NULL: they are not made here)
 *   charge   factors as in meet.inc; join: of gamma_meet_reach; the others: of gamma_convolve */
enum gamma_images_kind {
    GAMMA_IMAGE_INPUT,
    GAMMA_IMAGE_CONVOLUTION,
    GAMMA_IMAGE_SUM,
    GAMMA_IMAGE_RELU,
    GAMMA_IMAGE_FLAT,
    GAMMA_IMAGE_DENSE
};
enum { GAMMA_IMAGE_NEURONS = 48, GAMMA_IMAGE_SIGNS = 48 };
/* Rows of the side of a neuron's centre: to node `first`, a ReLU (down; NULL where they start
 * there), over which they lie by shape, grid and framed as in gamma_move, and from there on
 * (rest). */
struct gamma_signs {
    int64_t first, framed, shape[5], grid[4];
    const struct gamma_walk *down, *rest;
};
struct gamma_image {
    int64_t kind, inputs, reads[2], C, P, most, sided, carries, met, single, asked, lines;
    double *values, *tables, *joins, *reach;
    uint8_t *mask;
    const void *weight;
    const double *bias, *row_sum;
    double factors[2], charge[7], join[2];
    struct gamma_frame frame;
    const struct gamma_start *start;
    const struct gamma_walk *walk;
    const struct gamma_signs *signs;
};
/* Rows of a node that a call has not finished: neurons listed at first, of which `count` are at
 * stake (with `other` their second side) and `done` of these have rows. one, strips: whether one
 * side comes first, here and at some node before. */
struct gamma_pause {
    int64_t listed, count, done, one, other, strips;
};
/* Bounds and tables of nodes from..to of a network over B boxes, the input's ends and centre in
 * place. Returns `to`, or a node whose rows are not made. Where neurons are listed there, these are
 * more than its `most`: a call from it on, with the same work, goes on with them. Else only its
 * interval is known, and the caller, having bounded it, goes on behind it with `resume`. rows: of
 * each node the neurons that got rows; seconds: of each; open: the share of those last bounded that
 * kept both signs, and what are few; crossed: ends that contradict each other, at the node that is
 * returned. work: B + rooms[0] + 2·B·rooms[1] doubles, and for each of `threads` rooms[2] +
 * rooms[3] + 11·GAMMA_IMAGE_NEURONS doubles and 2·rooms[4] + rooms[5] + rooms[6] elements, and 9
 * doubles more, filled up to multiples of GAMMA_LINE, where rooms are the largest, over all nodes,
 * copy of gamma_convolve, neurons of a box, spots and lists (in pairs) of gamma_walk, rows of its
 * first slot, its memory, rows over the first ReLU. */
size_t gamma_images_f32(const struct gamma_image *nodes, struct gamma_met *met, void *work,
                        const size_t *rooms, int64_t *rows, double *seconds, double *open,
                        int64_t *crossed, struct gamma_pause *pause, size_t B, size_t from,
                        size_t to, int resume, size_t threads);
size_t gamma_images_f64(const struct gamma_image *nodes, struct gamma_met *met, void *work,
                        const size_t *rooms, int64_t *rows, double *seconds, double *open,
                        int64_t *crossed, struct gamma_pause *pause, size_t B, size_t from,
                        size_t to, int resume, size_t threads);

/* Both bounds of all neurons of node `index` that vary by rows, its interval and the bounds of all
 * nodes before it known; where `tables` is set, theirs are made first. Returns whether it ended
 * amid the rows, with which the next call goes on. The rest as in gamma_images. */
int gamma_images_ask_f32(const struct gamma_image *nodes, struct gamma_met *met, void *work,
                         const size_t *rooms, int64_t *crossed, struct gamma_pause *pause, size_t B,
                         size_t index, int tables, size_t threads);
int gamma_images_ask_f64(const struct gamma_image *nodes, struct gamma_met *met, void *work,
                         const size_t *rooms, int64_t *crossed, struct gamma_pause *pause, size_t B,
                         size_t index, int tables, size_t threads);

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
/* The largest |x| of each row (B, n), rounded up. */
/* Interval step of Σ ±x over boxes of m entries each: parts: the centres of `count` inputs, then
 * their radii; signs 1 or -1; out (5, B, m) and the rest as in gamma_finish. */
size_t gamma_sum_interval(double *const *parts, const int64_t *signs, size_t count,
                          const double *row_sum, double *out, const double *factors, size_t B,
                          size_t m);
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
