//! Matrix products with cuBLASLt; bias, ReLU and the sum with the residual stream are part of the same launch.
//!
//! cuBLASLt proposes an algorithm for a shape, possibly another one for another number of rows. A row's result would
//! then depend on the number of rows. So one algorithm is chosen for each matrix, for [`REFERENCE_ROWS`], and used
//! for any number of rows. It must add up products in a fixed order, so reductions across blocks and workspaces are
//! not allowed.

use std::collections::HashMap;
use std::ffi::c_void;
use std::mem::size_of;
use std::sync::{Arc, Mutex, PoisonError};

use candle_core::cuda_backend::cudarc;
use cudarc::cublaslt::result::{self, CublasError};
use cudarc::cublaslt::sys::{
    cublasComputeType_t, cublasLtEpilogue_t, cublasLtHandle_t, cublasLtMatmulAlgo_t, cublasLtMatmulDesc_t,
    cublasLtMatmulDescAttributes_t as Attribute, cublasLtMatmulPreference_t,
    cublasLtMatmulPreferenceAttributes_t as Preference, cublasLtMatrixLayout_t, cudaDataType_t,
};
use cudarc::driver::CudaStream;

use crate::nn::device::{Element, Epilogue, Product};
use crate::{Error, Result};

/// Number of rows that algorithms are chosen for, between a single sentence and a full batch.
const REFERENCE_ROWS: usize = 256;

/// The key of an algorithm.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
struct Kind {
    element: Element,
    inputs: usize,
    outputs: usize,
    epilogue: Epilogue,
}

pub(super) struct Products {
    handle: cublasLtHandle_t,
    algorithms: Mutex<HashMap<Kind, cublasLtMatmulAlgo_t>>,
    stream: Arc<CudaStream>,
}

// SAFETY: a cuBLASLt handle may be used by several threads at once.
unsafe impl Send for Products {}
unsafe impl Sync for Products {}

impl Drop for Products {
    fn drop(&mut self) {
        // SAFETY: made by `new` and not used after this. An error has no recipient here.
        let _ = unsafe { result::destroy_handle(self.handle) };
    }
}

fn cublas_error(what: &str) -> impl Fn(CublasError) -> Error {
    move |error| Error::Device(format!("cuBLASLt, {what}: {error}"))
}

impl Products {
    pub(super) fn new(stream: Arc<CudaStream>) -> Result<Self> {
        stream.context().bind_to_thread().map_err(|e| super::driver_error("cuBLASLt", e))?;
        let handle = result::create_handle().map_err(cublas_error("opening"))?;
        Ok(Self { handle, algorithms: Mutex::default(), stream })
    }

    pub(super) fn run(&self, product: &Product) -> Result<()> {
        self.stream.context().bind_to_thread().map_err(|e| super::driver_error("cuBLASLt", e))?;
        let what =
            || format!("a product of {} rows, {} to {}", product.rows, product.inputs, product.outputs);
        self.queue(product).map_err(|error| cublas_error(&what())(error))
    }

    fn queue(&self, p: &Product) -> Result<(), CublasError> {
        let (one, zero) = (1f32, 0f32);
        let beta = if p.epilogue == Epilogue::Add { &one } else { &zero };
        let call = Call::new(p, p.rows)?;
        let algorithm = self.algorithm(p)?;
        let at = |address: u64| address as *const c_void;
        // SAFETY: descriptors live until the call returns; the caller guarantees the memory of all addresses.
        unsafe {
            result::matmul(
                self.handle,
                call.description.0,
                (&raw const one).cast(),
                std::ptr::from_ref(beta).cast(),
                at(p.weight),
                call.weight.0,
                at(p.x),
                call.x.0,
                at(p.y),
                call.y.0,
                p.y as *mut c_void,
                call.y.0,
                &raw const algorithm,
                std::ptr::null_mut(),
                0,
                self.stream.cu_stream().cast(),
            )
        }
    }

    fn algorithm(&self, p: &Product) -> Result<cublasLtMatmulAlgo_t, CublasError> {
        let kind = Kind { element: p.element, inputs: p.inputs, outputs: p.outputs, epilogue: p.epilogue };
        let mut algorithms = self.algorithms.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(algorithm) = algorithms.get(&kind) {
            return Ok(*algorithm);
        }
        let call = Call::new(p, REFERENCE_ROWS)?;
        let preferences = Preferences::new()?;
        // Only CUBLASLT_REDUCTION_SCHEME_NONE; the default has no workspace.
        preferences.set(Preference::CUBLASLT_MATMUL_PREF_REDUCTION_SCHEME_MASK, &0u32)?;
        // SAFETY: all descriptors are alive.
        let best = unsafe {
            result::get_matmul_algo_heuristic(
                self.handle,
                call.description.0,
                call.weight.0,
                call.x.0,
                call.y.0,
                call.y.0,
                preferences.0,
            )
        }?;
        algorithms.insert(kind, best.algo);
        Ok(best.algo)
    }
}

/// A product in cuBLASLt's column-major order: `yᵀ [outputs, rows] = W · xᵀ`.
struct Call {
    description: Description,
    weight: Matrix,
    x: Matrix,
    y: Matrix,
}

impl Call {
    fn new(p: &Product, rows: usize) -> Result<Self, CublasError> {
        let element = data_type(p.element);
        let (to, epilogue) = match p.epilogue {
            Epilogue::Store => (element, cublasLtEpilogue_t::CUBLASLT_EPILOGUE_BIAS),
            Epilogue::Relu => (element, cublasLtEpilogue_t::CUBLASLT_EPILOGUE_RELU_BIAS),
            Epilogue::Add | Epilogue::Wide => {
                (cudaDataType_t::CUDA_R_32F, cublasLtEpilogue_t::CUBLASLT_EPILOGUE_BIAS)
            }
        };
        let description = Description::new()?;
        // CUBLAS_OP_T: the weight matrix is row-major.
        description.set(Attribute::CUBLASLT_MATMUL_DESC_TRANSA, &1i32)?;
        description.set(Attribute::CUBLASLT_MATMUL_DESC_EPILOGUE, &epilogue)?;
        // The bias has the type of the result by default.
        description.set(Attribute::CUBLASLT_MATMUL_DESC_BIAS_POINTER, &p.bias)?;
        Ok(Self {
            description,
            weight: Matrix::new(element, p.inputs, p.outputs)?,
            x: Matrix::new(element, p.inputs, rows)?,
            y: Matrix::new(to, p.outputs, rows)?,
        })
    }
}

fn data_type(element: Element) -> cudaDataType_t {
    match element {
        Element::F32 => cudaDataType_t::CUDA_R_32F,
        Element::Bf16 => cudaDataType_t::CUDA_R_16BF,
        Element::F16 => cudaDataType_t::CUDA_R_16F,
    }
}

/// Accumulates in f32, without TF32 for f32 operands.
struct Description(cublasLtMatmulDesc_t);

impl Description {
    fn new() -> Result<Self, CublasError> {
        let sums = cublasComputeType_t::CUBLAS_COMPUTE_32F;
        result::create_matmul_desc(sums, cudaDataType_t::CUDA_R_32F).map(Self)
    }

    /// `value` must have the type of the attribute.
    fn set<T>(&self, attribute: Attribute, value: &T) -> Result<(), CublasError> {
        // SAFETY: the descriptor is alive; the value is read before this returns.
        unsafe {
            let value: *const c_void = std::ptr::from_ref(value).cast();
            result::set_matmul_desc_attribute(self.0, attribute, value, size_of::<T>())
        }
    }
}

impl Drop for Description {
    fn drop(&mut self) {
        // SAFETY: made by `new` and not used after this. An error has no recipient here.
        let _ = unsafe { result::destroy_matmul_desc(self.0) };
    }
}

/// A dense column-major matrix.
struct Matrix(cublasLtMatrixLayout_t);

impl Matrix {
    fn new(of: cudaDataType_t, height: usize, width: usize) -> Result<Self, CublasError> {
        result::create_matrix_layout(of, height as u64, width as u64, height as i64).map(Self)
    }
}

impl Drop for Matrix {
    fn drop(&mut self) {
        // SAFETY: as for `Description`.
        let _ = unsafe { result::destroy_matrix_layout(self.0) };
    }
}

/// Constraints on the choice of an algorithm.
struct Preferences(cublasLtMatmulPreference_t);

impl Preferences {
    fn new() -> Result<Self, CublasError> {
        result::create_matmul_pref().map(Self)
    }

    fn set<T>(&self, preference: Preference, value: &T) -> Result<(), CublasError> {
        // SAFETY: as for `Description`.
        unsafe {
            let value: *const c_void = std::ptr::from_ref(value).cast();
            result::set_matmul_pref_attribute(self.0, preference, value, size_of::<T>())
        }
    }
}

impl Drop for Preferences {
    fn drop(&mut self) {
        // SAFETY: as for `Description`.
        let _ = unsafe { result::destroy_matmul_pref(self.0) };
    }
}
