/* AVX2 with FMA and F16C. */
#include "elementwise.h"
#include "half_f16c.h"
#include "layer_avx.h"
#include "table.h"

#define VECTOR_BYTES 32
#define TALL 4
#define LANES_WORTH 8
#define LANE_GROUPS 2 /* sums of one vector are too few to hide the latency of the multiply-add */
#define BROAD 6
#define V_KEEP D_KEEP
#define FV VS
#define FV_LOAD S_LOAD
#define FV_STORE S_STORE
#define FV_ONE _mm256_set1_ps
#define FV_FMA _mm256_fmadd_ps
#define DV VD
#define DV_LOAD D_LOAD
#define DV_STORE D_STORE
#define DV_ONE _mm256_set1_pd
#define DV_FMA D_FMA
#define DV_ABS D_ABS
#define DV_MOST _mm256_max_pd
#define PIXELS 2
#define PV VS
#define PV_LOAD FV_LOAD
#define PV_STORE FV_STORE
#define PV_FMA FV_FMA
#define PV_ZERO FV_ONE(0.0F)
#define PV_PAIR(x) _mm256_castpd_ps(_mm256_set1_pd(x))
#define PV_SWAP(x) _mm256_permute_ps(x, 0xB1)
#define PV_EVEN _mm256_moveldup_ps
#define PV_ABS F_ABS
#define PV_MOST _mm256_max_ps
#define SINGLES 6
#define D_OF S_WIDEN
#define F_ABS(x) _mm256_andnot_ps(_mm256_set1_ps(-0.0f), x)
#define POSITIONS 2

#include "product.h"
#include "rows_f32.h"
#include "rows_f64.h"
#include "decode.inc"
#include "stored.inc"

GAMMA_TABLE(avx2);
