/* rows.inc for double: one stream from memory at a time is the fastest. */
#include <math.h>

#define F double
#define FN(name) name##_f64
#define VE VD
#define E_LANES LANES
#define E_LOAD D_LOAD
#define E_STORE D_STORE
#define E_MUL D_MUL
#define E_PICK D_PICK
#define E_WIDEN D_LOAD
#define ROWS 1
#define CHAINS CHAINS_F64
#include "rows.inc"
