#ifndef GAMMA_API_IMAGES_H
#define GAMMA_API_IMAGES_H

#include <stddef.h>
#include <stdint.h>

/* Images: convolutions and their adjoints, IBP in one pass, rows over windows, CROWN in one call. */

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
 * channels + out) + 1 + by·⌈bx·C/4⌉·(5·kh·kw + 1) entries; scratch,
 * GAMMA_BROAD·(h·w·out + nx·columns + 24·by). Offsets into either and into a panel fit in an
 * int32_t. Channels that are 0 in all frames of a register block are passed over unless `every`. */
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

#endif
