//! What a product is to cublasLt: its shape, and the descriptors made from it.
//!
//! cublasLt's matrices have their columns side by side. A row-major (l, d) is a column-major (d, l),
//! so y = x Wᵀ becomes yᵀ = W xᵀ: cublasLt's A is W, transposed, B is x, C and D are y.

use std::fmt;

use candle_core::cuda_backend::cudarc::cublaslt::{result, sys};

use crate::cuda::{Error, Result};

/// Everything that decides which algorithm is best.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) struct Problem {
    pub(crate) rows: usize,
    pub(crate) inputs: usize,
    pub(crate) outputs: usize,
    /// From row to row, in values.
    pub(crate) input_stride: usize,
    pub(crate) output_stride: usize,
    /// Of x and W.
    pub(crate) element: Element,
    pub(crate) epilogue: Fused,
    pub(crate) biased: bool,
    pub(crate) accumulates: bool,
    pub(crate) alignments: Alignments,
}

/// What a refusal tells of it: `e4m3 (rows, in) → out, Gelu, bias`.
impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { rows, inputs, outputs, element, epilogue, .. } = self;
        write!(f, "{element:?} ({rows}, {inputs}) → {outputs}, {epilogue:?}")?;
        f.write_str(if self.biased { ", bias" } else { "" })?;
        f.write_str(if self.accumulates { ", sum" } else { "" })
    }
}

/// What x and W are stored as. The product of e4m3 is bf16, of the others what they are.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum Element {
    F32,
    Bf16,
    E4m3,
}

/// What is done to the product and its bias.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum Fused {
    Plain,
    Gelu,
}

/// What the addresses of W, x, C and y are multiples of: powers of two up to 256.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) struct Alignments(pub(crate) [u32; 4]);

/// Where everything is.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Matrices {
    pub(crate) weight: u64,
    pub(crate) x: u64,
    /// What the product is added to; contiguous.
    pub(crate) onto: Option<u64>,
    pub(crate) y: u64,
    pub(crate) bias: Option<u64>,
    /// Of W's rows and of x's, where they are e4m3.
    pub(crate) scales: Option<[u64; 2]>,
}

impl Matrices {
    pub(crate) fn alignments(&self) -> Alignments {
        let of = |address: u64| 1 << address.trailing_zeros().min(8);
        Alignments([self.weight, self.x, self.onto.unwrap_or(self.y), self.y].map(of))
    }
}

impl Problem {
    /// Whether cublasLt is worth asking.
    pub(crate) fn check(&self) -> Result<()> {
        let multiple = if self.element == Element::E4m3 { 16 } else { 8 };
        let fits = [self.inputs, self.outputs, self.output_stride]
            .iter()
            .all(|count| count.is_multiple_of(multiple));
        if fits && self.rows > 0 {
            return Ok(());
        }
        Err(Error::Unsupported { kernel: "linear", what: "this width" })
    }

    /// cublasLt's A (W, which it transposes), B (x), C (what is added) and D (y), as it sees them.
    fn shapes(&self) -> [ColumnMajor; 4] {
        let of = |rows, columns, stride| ColumnMajor { rows, columns, stride };
        // What is added is contiguous; where nothing is, y stands in for it.
        let onto_stride = if self.accumulates { self.outputs } else { self.output_stride };
        [
            of(self.inputs, self.outputs, self.inputs),
            of(self.inputs, self.rows, self.input_stride),
            of(self.outputs, self.rows, onto_stride),
            of(self.outputs, self.rows, self.output_stride),
        ]
    }

    /// Floating-point operations.
    pub(crate) fn operations(&self) -> f64 {
        2.0 * self.rows as f64 * self.inputs as f64 * self.outputs as f64
    }
}

/// The descriptors of one problem.
pub(super) struct Descriptors {
    pub(super) operation: Operation,
    pub(super) a: Layout,
    pub(super) b: Layout,
    pub(super) c: Layout,
    pub(super) d: Layout,
}

impl Descriptors {
    pub(super) fn new(problem: &Problem) -> Result<Self> {
        let (stored, result) = problem.element.types();
        let [a, b, c, d] = problem.shapes();
        Ok(Self {
            operation: Operation::new(problem)?,
            a: Layout::new(stored, a)?,
            b: Layout::new(stored, b)?,
            c: Layout::new(result, c)?,
            d: Layout::new(result, d)?,
        })
    }
}

impl Element {
    /// Of x and W, and of y.
    fn types(self) -> (sys::cudaDataType, sys::cudaDataType) {
        use sys::cudaDataType_t::{CUDA_R_8F_E4M3, CUDA_R_16BF, CUDA_R_32F};
        match self {
            Self::F32 => (CUDA_R_32F, CUDA_R_32F),
            Self::Bf16 => (CUDA_R_16BF, CUDA_R_16BF),
            Self::E4m3 => (CUDA_R_8F_E4M3, CUDA_R_16BF),
        }
    }
}

/// A matrix whose columns are side by side in memory, `stride` values from one to the next.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct ColumnMajor {
    rows: usize,
    columns: usize,
    stride: usize,
}

/// A matrix's type, shape and leading dimension.
pub(super) struct Layout(pub(super) sys::cublasLtMatrixLayout_t);

impl Layout {
    fn new(element: sys::cudaDataType, shape: ColumnMajor) -> Result<Self> {
        let (rows, columns) = (shape.rows as u64, shape.columns as u64);
        Ok(Self(result::create_matrix_layout(element, rows, columns, shape.stride as i64)?))
    }
}

impl Drop for Layout {
    fn drop(&mut self) {
        // SAFETY: made by `new`, and destroyed here alone. There is nothing to do about a refusal.
        let _ = unsafe { result::destroy_matrix_layout(self.0) };
    }
}

/// What is computed.
pub(super) struct Operation(pub(super) sys::cublasLtMatmulDesc_t);

impl Operation {
    fn new(problem: &Problem) -> Result<Self> {
        use sys::cublasLtMatmulDescAttributes_t as Attribute;
        // In f32 as in the reference: no tf32.
        let this = Self(result::create_matmul_desc(
            sys::cublasComputeType_t::CUBLAS_COMPUTE_32F,
            sys::cudaDataType_t::CUDA_R_32F,
        )?);
        // CUBLAS_OP_T, which cublasLt's bindings leave out.
        let transposed = 1i32;
        // SAFETY: the attribute is a 32-bit number.
        unsafe { this.set(Attribute::CUBLASLT_MATMUL_DESC_TRANSA, &transposed) }?;
        let epilogue = problem.epilogue.of_cublas(problem.biased) as i32;
        // SAFETY: the attribute is a 32-bit number.
        unsafe { this.set(Attribute::CUBLASLT_MATMUL_DESC_EPILOGUE, &epilogue) }?;
        if problem.biased {
            let element = problem.element.types().1 as i32;
            // SAFETY: the attribute is a 32-bit number.
            unsafe { this.set(Attribute::CUBLASLT_MATMUL_DESC_BIAS_DATA_TYPE, &element) }?;
        }
        if problem.element == Element::E4m3 {
            let mode = sys::cublasLtMatmulMatrixScale_t::CUBLASLT_MATMUL_MATRIX_SCALE_OUTER_VEC_32F;
            let (mode, fast) = (mode as i32, 1i8);
            // SAFETY: the modes are 32-bit numbers, the flag is one of 8 bits.
            unsafe {
                this.set(Attribute::CUBLASLT_MATMUL_DESC_A_SCALE_MODE, &mode)?;
                this.set(Attribute::CUBLASLT_MATMUL_DESC_B_SCALE_MODE, &mode)?;
                this.set(Attribute::CUBLASLT_MATMUL_DESC_FAST_ACCUM, &fast)?;
            }
        }
        Ok(this)
    }

    /// Points the operation to one call's bias and scales.
    pub(super) fn point(&self, matrices: &Matrices) -> Result<()> {
        use sys::cublasLtMatmulDescAttributes_t as Attribute;
        // SAFETY: each of the three attributes is an address on the device.
        unsafe {
            if let Some(bias) = &matrices.bias {
                self.set(Attribute::CUBLASLT_MATMUL_DESC_BIAS_POINTER, bias)?;
            }
            if let Some([of_weight, of_rows]) = &matrices.scales {
                self.set(Attribute::CUBLASLT_MATMUL_DESC_A_SCALE_POINTER, of_weight)?;
                self.set(Attribute::CUBLASLT_MATMUL_DESC_B_SCALE_POINTER, of_rows)?;
            }
        }
        Ok(())
    }

    /// # Safety
    /// `T` is what the attribute is stored as.
    unsafe fn set<T>(
        &self,
        attribute: sys::cublasLtMatmulDescAttributes_t,
        value: &T,
    ) -> Result<()> {
        let (place, bytes) = (std::ptr::from_ref(value).cast(), size_of::<T>());
        // SAFETY: the descriptor lives as long as `self`, the value until the call is over, and the
        // caller vouches for its type.
        Ok(unsafe { result::set_matmul_desc_attribute(self.0, attribute, place, bytes) }?)
    }
}

impl Fused {
    fn of_cublas(self, biased: bool) -> sys::cublasLtEpilogue_t {
        match (self, biased) {
            (Self::Plain, false) => sys::cublasLtEpilogue_t::CUBLASLT_EPILOGUE_DEFAULT,
            (Self::Plain, true) => sys::cublasLtEpilogue_t::CUBLASLT_EPILOGUE_BIAS,
            (Self::Gelu, false) => sys::cublasLtEpilogue_t::CUBLASLT_EPILOGUE_GELU,
            (Self::Gelu, true) => sys::cublasLtEpilogue_t::CUBLASLT_EPILOGUE_GELU_BIAS,
        }
    }
}

impl Drop for Operation {
    fn drop(&mut self) {
        // SAFETY: made by `new`, and destroyed here alone. There is nothing to do about a refusal.
        let _ = unsafe { result::destroy_matmul_desc(self.0) };
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn matrices() -> Matrices {
        Matrices { weight: 0x1000, x: 0x1010, onto: None, y: 0x1008, bias: None, scales: None }
    }

    #[test]
    fn alignments_are_powers_of_two_up_to_256() {
        assert_eq!(matrices().alignments(), Alignments([256, 16, 8, 8]));
        let onto = Matrices { onto: Some(0x1040), ..matrices() };
        assert_eq!(onto.alignments(), Alignments([256, 16, 64, 8]));
    }

    #[test]
    fn widths_that_do_not_fit_are_left_to_the_reference() {
        let problem = Problem {
            rows: 5,
            inputs: 24,
            outputs: 40,
            input_stride: 24,
            output_stride: 40,
            element: Element::Bf16,
            epilogue: Fused::Plain,
            biased: true,
            accumulates: false,
            alignments: matrices().alignments(),
        };
        assert!(problem.check().is_ok());
        assert!(Problem { element: Element::E4m3, ..problem }.check().is_err());
        assert!(Problem { outputs: 3, output_stride: 3, ..problem }.check().is_err());
        assert!(Problem { rows: 0, ..problem }.check().is_err());
    }

    /// D = Aᵀ B + C of column-major matrices, by hand, is y = x Wᵀ + c of row-major ones, whose rows may
    /// be apart.
    #[test]
    fn cublaslts_view_of_the_matrices_is_a_linear_layer() {
        let (rows, inputs, outputs, input_stride, output_stride) = (3, 8, 16, 24, 40);
        let problem = Problem {
            rows,
            inputs,
            outputs,
            input_stride,
            output_stride,
            element: Element::F32,
            epilogue: Fused::Plain,
            biased: false,
            accumulates: true,
            alignments: matrices().alignments(),
        };
        // Small whole numbers: sums are exact.
        let fill = |count: usize, by: usize| (0..count).map(|i| (i * by % 17) as f32).collect();
        let weight: Vec<f32> = fill(outputs * inputs, 5);
        let x: Vec<f32> = fill(rows * input_stride, 7);
        let onto: Vec<f32> = fill(rows * outputs, 3);
        let [a, b, c, d] = problem.shapes();
        assert_eq!((a.columns, b.columns, a.rows), (d.rows, d.columns, b.rows));
        let mut y = vec![f32::NAN; rows * output_stride];
        for column in 0..d.columns {
            for row in 0..d.rows {
                let products = (0..a.rows)
                    .map(|k| weight[row * a.stride + k] * x[column * b.stride + k])
                    .sum::<f32>();
                y[column * d.stride + row] = products + onto[column * c.stride + row];
            }
        }
        for row in 0..rows {
            for output in 0..output_stride {
                let found = y[row * output_stride + output];
                if output >= outputs {
                    assert!(found.is_nan(), "what lies between the rows is left alone");
                    continue;
                }
                let products = (0..inputs)
                    .map(|i| x[row * input_stride + i] * weight[output * inputs + i])
                    .sum::<f32>();
                assert_eq!(found, products + onto[row * outputs + output]);
            }
        }
    }

    /// cublasLt's descriptors need no device: what it takes for an attribute's size is checked here.
    #[test]
    fn cublaslt_takes_the_descriptors_of_every_kind_of_problem() {
        for element in [Element::F32, Element::Bf16, Element::E4m3] {
            for epilogue in [Fused::Plain, Fused::Gelu] {
                for biased in [false, true] {
                    let problem = Problem {
                        rows: 5,
                        inputs: 32,
                        outputs: 64,
                        input_stride: 48,
                        output_stride: 80,
                        element,
                        epilogue,
                        biased,
                        accumulates: false,
                        alignments: matrices().alignments(),
                    };
                    let descriptors = Descriptors::new(&problem).unwrap();
                    let scales = (element == Element::E4m3).then_some([0x2000, 0x3000]);
                    let bias = biased.then_some(0x4000);
                    let matrices = Matrices { bias, scales, ..matrices() };
                    descriptors.operation.point(&matrices).unwrap();
                }
            }
        }
    }
}
