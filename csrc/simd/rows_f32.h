/* rows.inc for float: VE has 2·LANES floats, so that a step of two chains is one of them. Widening
 * takes most of the time of a sum, reading the table the rest: four rows share that. */
#include <math.h>

#define F float
#define FN(name) name##_f32
#define VE VS
#define E_LANES (2 * LANES)
#define E_LOAD S_LOAD
#define E_STORE S_STORE
#define E_MUL S_MUL
#define E_PICK S_PICK
#define E_WIDEN S_WIDEN
#define ROWS 4
#define CHAINS CHAINS_F32
#include "rows.inc"
#undef F
#undef FN
#undef VE
#undef E_LANES
#undef E_LOAD
#undef E_STORE
#undef E_MUL
#undef E_PICK
#undef E_WIDEN
#undef ROWS
#undef CHAINS
