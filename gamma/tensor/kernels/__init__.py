"""The kernels the walks call: compiled C when it is there, NumPy otherwise, one face for both.

Contract of every kernel
    * arrays are C-contiguous, native byte order, float32 or float64 ("f": the dtype of the first
      array); anything else is a UsageError that names the argument;
    * elementwise results have the same bits on every instruction set and in NumPy;
    * sums are accumulated in float64 in an unspecified order: |error| <= g64_k Σ|terms|, k the
      number of terms (plus two for the fused ones), which the caller charges; in compiled kernels
      a row's order does not depend on the rows around it;
    * NaN goes in, NaN (or the infinite end of an interval) comes out; nothing is raised or warned.

``isa`` names what is in use: "avx512", "avx2", "neon", "scalar" or "numpy". The environment
variable GAMMA_ISA pins it on import; a name this machine cannot run is a UsageError.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from gamma.tensor.kernels import backend
from gamma.tensor.kernels.arguments import padded as padded
from gamma.tensor.kernels.ascent import Ascent as Ascent
from gamma.tensor.kernels.ascent import Assumable as Assumable
from gamma.tensor.kernels.ascent import Climbers as Climbers
from gamma.tensor.kernels.ascent import DenseStage as DenseStage
from gamma.tensor.kernels.ascent import ImageStage as ImageStage
from gamma.tensor.kernels.ascent import InputStage as InputStage
from gamma.tensor.kernels.ascent import Laid as Laid
from gamma.tensor.kernels.ascent import OrderStage as OrderStage
from gamma.tensor.kernels.ascent import Place as Place
from gamma.tensor.kernels.ascent import PlaneStage as PlaneStage
from gamma.tensor.kernels.ascent import ReluStage as ReluStage
from gamma.tensor.kernels.ascent import Stage as Stage
from gamma.tensor.kernels.ascent import SumStage as SumStage
from gamma.tensor.kernels.ascent import ascent as ascent
from gamma.tensor.kernels.backend import NAMES as NAMES
from gamma.tensor.kernels.backend import available as available
from gamma.tensor.kernels.backend import pinned as pinned
from gamma.tensor.kernels.backend import use as use
from gamma.tensor.kernels.course import Course as Course
from gamma.tensor.kernels.course import Move as Move
from gamma.tensor.kernels.course import Product as Product
from gamma.tensor.kernels.course import course as course
from gamma.tensor.kernels.elementwise import Curve as Curve
from gamma.tensor.kernels.elementwise import dot as dot
from gamma.tensor.kernels.elementwise import erf as erf
from gamma.tensor.kernels.elementwise import erfc as erfc
from gamma.tensor.kernels.elementwise import f16_down as f16_down
from gamma.tensor.kernels.elementwise import f16_to_f32 as f16_to_f32
from gamma.tensor.kernels.elementwise import f16_up as f16_up
from gamma.tensor.kernels.elementwise import image as image
from gamma.tensor.kernels.elementwise import interval_mul as interval_mul
from gamma.tensor.kernels.elementwise import lines as lines
from gamma.tensor.kernels.elementwise import midpoint as midpoint
from gamma.tensor.kernels.elementwise import narrow_down as narrow_down
from gamma.tensor.kernels.elementwise import narrow_up as narrow_up
from gamma.tensor.kernels.elementwise import parallel_lines as parallel_lines
from gamma.tensor.kernels.elementwise import pos_neg_split as pos_neg_split
from gamma.tensor.kernels.elementwise import radius_about as radius_about
from gamma.tensor.kernels.elementwise import safe_mul_add as safe_mul_add
from gamma.tensor.kernels.elementwise import step_down as step_down
from gamma.tensor.kernels.elementwise import step_up as step_up
from gamma.tensor.kernels.elementwise import sum as sum
from gamma.tensor.kernels.images import PANEL as PANEL
from gamma.tensor.kernels.images import PIXELS as PIXELS
from gamma.tensor.kernels.images import SEGMENT as SEGMENT
from gamma.tensor.kernels.images import Cells as Cells
from gamma.tensor.kernels.images import Convolution as Convolution
from gamma.tensor.kernels.images import Frame as Frame
from gamma.tensor.kernels.images import Image as Image
from gamma.tensor.kernels.images import Scatter as Scatter
from gamma.tensor.kernels.images import abs_dot_windows as abs_dot_windows
from gamma.tensor.kernels.images import convolution as convolution
from gamma.tensor.kernels.images import correlate as correlate
from gamma.tensor.kernels.images import fold_last as fold_last
from gamma.tensor.kernels.images import gather as gather
from gamma.tensor.kernels.images import relax_windows as relax_windows
from gamma.tensor.kernels.images import spread as spread
from gamma.tensor.kernels.images import turned as turned
from gamma.tensor.kernels.interval import dense_boxes as dense_boxes
from gamma.tensor.kernels.interval import dense_interval as dense_interval
from gamma.tensor.kernels.interval import interval_affine as interval_affine
from gamma.tensor.kernels.interval import interval_finish as interval_finish
from gamma.tensor.kernels.interval import largest as largest
from gamma.tensor.kernels.interval import relu as relu
from gamma.tensor.kernels.interval import sum_interval as sum_interval
from gamma.tensor.kernels.met import Met as Met
from gamma.tensor.kernels.met import MetTables as MetTables
from gamma.tensor.kernels.met import met_tables as met_tables
from gamma.tensor.kernels.network import ImageBatch as ImageBatch
from gamma.tensor.kernels.network import ImageNetwork as ImageNetwork
from gamma.tensor.kernels.network import ImageNode as ImageNode
from gamma.tensor.kernels.network import Signs as Signs
from gamma.tensor.kernels.network import image_network as image_network
from gamma.tensor.kernels.normal import Groups as Groups
from gamma.tensor.kernels.normal import groups as groups
from gamma.tensor.kernels.normal import normal_image as normal_image
from gamma.tensor.kernels.normal import normal_sets as normal_sets
from gamma.tensor.kernels.normal import quotients as quotients
from gamma.tensor.kernels.planes import Planes as Planes
from gamma.tensor.kernels.planes import pass_planes as pass_planes
from gamma.tensor.kernels.planes import plane_lines as plane_lines
from gamma.tensor.kernels.rows import Chain as Chain
from gamma.tensor.kernels.rows import DenseLayer as DenseLayer
from gamma.tensor.kernels.rows import DenseNetwork as DenseNetwork
from gamma.tensor.kernels.rows import Rise as Rise
from gamma.tensor.kernels.rows import Sparse as Sparse
from gamma.tensor.kernels.rows import abs_dot_rows as abs_dot_rows
from gamma.tensor.kernels.rows import ascend as ascend
from gamma.tensor.kernels.rows import chain as chain
from gamma.tensor.kernels.rows import dense_network as dense_network
from gamma.tensor.kernels.rows import dot_rows as dot_rows
from gamma.tensor.kernels.rows import hinge_tables as hinge_tables
from gamma.tensor.kernels.rows import line_tables as line_tables
from gamma.tensor.kernels.rows import own_lines as own_lines
from gamma.tensor.kernels.rows import product as product
from gamma.tensor.kernels.rows import relax_own_rows as relax_own_rows
from gamma.tensor.kernels.rows import relax_rows as relax_rows
from gamma.tensor.kernels.sets import Layer as Layer
from gamma.tensor.kernels.sets import Strips as Strips
from gamma.tensor.kernels.sets import balls as balls
from gamma.tensor.kernels.sets import layer_set as layer_set
from gamma.tensor.kernels.sets import outer as outer
from gamma.tensor.kernels.sets import reach as reach
from gamma.tensor.kernels.sets import strips_set as strips_set
from gamma.tensor.kernels.sets import swing as swing
from gamma.tensor.kernels.starts import Neurons as Neurons
from gamma.tensor.kernels.starts import Rows as Rows
from gamma.tensor.kernels.starts import Starts as Starts
from gamma.tensor.kernels.starts import starts as starts
from gamma.tensor.kernels.stored import decode_rare as decode_rare
from gamma.tensor.kernels.stored import decode_rows as decode_rows
from gamma.tensor.kernels.stored import stored_affine as stored_affine

if TYPE_CHECKING:
    isa: str
else:

    def __getattr__(name: str) -> str:
        """``isa`` as it is now: `use` changes it."""
        if name == "isa":
            return backend.isa
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
