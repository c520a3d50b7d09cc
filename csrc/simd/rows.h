/* rows.inc for float and for double. The including file has defined the vector layer: VD, D_* and
 * LANES for doubles, VS and S_* for as many floats. */
#ifndef GAMMA_ROWS_H
#define GAMMA_ROWS_H

#include <math.h>

#define F float
#define FN(name) name##_f32
#define VE VS
#define E_LOAD S_LOAD
#define E_STORE S_STORE
#define E_MUL S_MUL
#define E_PICK S_PICK
#define E_WIDEN S_WIDEN
#include "rows.inc"
#undef F
#undef FN
#undef VE
#undef E_LOAD
#undef E_STORE
#undef E_MUL
#undef E_PICK
#undef E_WIDEN

#define F double
#define FN(name) name##_f64
#define VE VD
#define E_LOAD D_LOAD
#define E_STORE D_STORE
#define E_MUL D_MUL
#define E_PICK D_PICK
#define E_WIDEN(x) (x)
#include "rows.inc"
#undef F
#undef FN
#undef VE
#undef E_LOAD
#undef E_STORE
#undef E_MUL
#undef E_PICK
#undef E_WIDEN

#endif
