#![allow(unsafe_code)]
//! A GPU through CUDA's driver, NVRTC and cuBLAS, all found at run time.

use super::device::{Args, Device, KERNELS, Product};
use cudarc::cublas::{result as cublas, sys as cublas_sys};
use cudarc::driver::{result as cuda, sys as cuda_sys};
use cudarc::nvrtc;
use skimjit_models::{Error, Result};
use std::collections::HashMap;
use std::ffi::{CString, c_void};
use std::fmt::Display;
use std::sync::Arc;

/// Threads of a block.
const BLOCK: usize = 256;

/// What all engines of a GPU share.
struct Gpu {
    device: cuda_sys::CUdevice,
    context: cuda_sys::CUcontext,
    module: cuda_sys::CUmodule,
    blas: cublas_sys::cublasHandle_t,
}

// SAFETY: the handles are plain names; every use makes the context current on its own thread first, and
// engines are used by one thread at a time.
unsafe impl Send for Gpu {}
// SAFETY: as above: nothing behind the handles is changed without the driver's own locks.
unsafe impl Sync for Gpu {}

impl Drop for Gpu {
    fn drop(&mut self) {
        // SAFETY: all were made when the GPU was opened, in this context, and nothing uses them any more.
        unsafe {
            let _ = cuda::ctx::set_current(self.context);
            let _ = cublas::destroy_handle(self.blas);
            let _ = cuda::module::unload(self.module);
            let _ = cuda::primary_ctx::release(self.device);
        }
    }
}

/// A GPU and the memory of one engine on it.
pub struct Driver {
    gpu: Arc<Gpu>,
    functions: HashMap<&'static str, cuda_sys::CUfunction>,
    allocated: Vec<u64>,
}

// SAFETY: functions are names like the handles of the GPU.
unsafe impl Send for Driver {}

fn fault(error: impl Display, doing: &str) -> Error {
    Error::new(format!("an error of the GPU when {doing}: {error}"))
        .field("--device")
        .hint("see `nvidia-smi`; use --device cpu, or smaller batches when its memory was full")
}

/// Of kernels that the driver does not load.
fn unloadable(error: cuda::DriverError) -> Error {
    let fault = fault(error, "loading kernels");
    match error.0 {
        cuda_sys::CUresult::CUDA_ERROR_UNSUPPORTED_PTX_VERSION => {
            fault.hint("libnvrtc is newer than the driver: update the driver, or install the CUDA version that `nvidia-smi` names")
        }
        _ => fault,
    }
}

/// Says which of CUDA's libraries is missing.
fn find_libraries() -> Result<()> {
    // SAFETY: they try to load a library, which runs its own start code, as calling it would.
    let found = unsafe {
        [
            ("libcuda (NVIDIA's driver)", cuda_sys::is_culib_present()),
            ("libnvrtc", nvrtc::sys::is_culib_present()),
            ("libcublas", cublas_sys::is_culib_present()),
        ]
    };
    match found.iter().find(|(_, found)| !found) {
        None => Ok(()),
        Some((missing, _)) => Err(Error::new(format!("no {missing}"))
            .field("--device")
            .expected("an NVIDIA driver, and CUDA's libraries nvrtc and cublas in the library path")
            .hint("install them, or use --device cpu")),
    }
}

/// The kernels for GPUs of any kind.
pub fn compile() -> Result<nvrtc::Ptx> {
    nvrtc::compile_ptx(KERNELS)
        .map_err(|error| Error::new(format!("kernels that NVRTC refuses: {error:?}")))
}

impl Driver {
    /// Opens GPU `number`.
    pub fn open(number: usize) -> Result<Self> {
        find_libraries()?;
        cuda::init().map_err(|error| fault(error, "starting the driver"))?;
        let count = cuda::device::get_count().map_err(|error| fault(error, "counting"))?;
        let ordinal = i32::try_from(number).ok().filter(|&number| number < count);
        let Some(ordinal) = ordinal else {
            return Err(Error::new(format!("cuda:{number}"))
                .field("--device")
                .expected(format!("a GPU from cuda:0 on; there are {count}")));
        };
        let device = cuda::device::get(ordinal).map_err(|error| fault(error, "opening"))?;
        let image = CString::new(compile()?.to_src())
            .map_err(|error| Error::new(format!("kernels with a zero in them: {error}")))?;
        // SAFETY: the device exists; its context is made current before the module and cuBLAS are made in it;
        // the image is PTX that ends with a zero.
        let opened = unsafe {
            let retained = cuda::primary_ctx::retain(device);
            let context = retained.map_err(|error| fault(error, "opening"))?;
            cuda::ctx::set_current(context).map_err(|error| fault(error, "opening"))?;
            let module = cuda::module::load_data(image.as_ptr().cast::<c_void>());
            (context, module.map_err(unloadable)?)
        };
        let blas = cublas::create_handle()
            .map_err(|error| fault(format!("{error:?}"), "starting cuBLAS"))?;
        Ok(Self::on(Arc::new(Gpu {
            device,
            context: opened.0,
            module: opened.1,
            blas,
        })))
    }

    fn on(gpu: Arc<Gpu>) -> Self {
        Self {
            gpu,
            functions: HashMap::new(),
            allocated: Vec::new(),
        }
    }

    /// Makes the GPU that of this thread.
    fn enter(&self) -> Result<()> {
        // SAFETY: the context lives as long as the GPU.
        let entered = unsafe { cuda::ctx::set_current(self.gpu.context) };
        entered.map_err(|error| fault(error, "entering"))
    }

    fn function(&mut self, name: &'static str) -> Result<cuda_sys::CUfunction> {
        if let Some(&function) = self.functions.get(name) {
            return Ok(function);
        }
        let text = CString::new(name).unwrap_or_default();
        // SAFETY: the module lives as long as the GPU.
        let found = unsafe { cuda::module::get_function(self.gpu.module, text) };
        let function = found.map_err(|error| fault(error, "looking for a kernel"))?;
        self.functions.insert(name, function);
        Ok(function)
    }
}

impl Device for Driver {
    fn allocate(&mut self, count: usize) -> Result<u64> {
        self.enter()?;
        let bytes = 4 * count.max(1);
        // SAFETY: the memory is written below before anybody reads it, and freed once, with the engine.
        let allocated = unsafe { cuda::malloc_sync(bytes) };
        let address = allocated.map_err(|error| {
            fault(
                error,
                &format!("allocating {} MiB", bytes.div_ceil(1 << 20)),
            )
        })?;
        self.allocated.push(address);
        self.zero(address, count)?;
        Ok(address)
    }

    fn upload(&mut self, address: u64, data: &[f32]) -> Result<()> {
        self.enter()?;
        // SAFETY: the engine passes addresses of its own arrays, of as many elements as the data.
        let copied = unsafe { cuda::memcpy_htod_sync(address, data) };
        copied.map_err(|error| fault(error, "copying to it"))
    }

    fn download(&self, address: u64, data: &mut [f32]) -> Result<()> {
        self.enter()?;
        // SAFETY: as above; a synchronous copy waits for all kernels before it.
        let copied = unsafe { cuda::memcpy_dtoh_sync(data, address) };
        copied.map_err(|error| fault(error, "copying from it"))
    }

    fn zero(&mut self, address: u64, count: usize) -> Result<()> {
        self.enter()?;
        // SAFETY: the engine passes addresses of its own arrays, of so many elements.
        let zeroed = unsafe { cuda::memset_d8_sync(address, 0, 4 * count) };
        zeroed.map_err(|error| fault(error, "clearing memory"))
    }

    fn launch(&mut self, kernel: &'static str, args: &Args) -> Result<()> {
        self.enter()?;
        let function = self.function(kernel)?;
        let blocks = (args.n[0] as usize).div_ceil(BLOCK);
        let Some(blocks) = u32::try_from(blocks).ok().filter(|&blocks| blocks > 0) else {
            return Ok(());
        };
        let mut args = *args;
        let mut pointers = [(&raw mut args).cast::<c_void>()];
        let grid = (blocks, 1, 1);
        // SAFETY: every kernel takes one struct, which is `Args` by its layout, and copies it at the call; threads
        // beyond the first number do nothing; addresses are those of the engine's arrays, and the tests run the same
        // launches on the CPU.
        let launched = unsafe {
            cuda::launch_kernel(
                function,
                grid,
                (BLOCK as u32, 1, 1),
                0,
                std::ptr::null_mut(),
                &mut pointers,
            )
        };
        launched.map_err(|error| fault(error, &format!("running kernel {kernel}")))
    }

    fn multiply(&mut self, product: &Product) -> Result<()> {
        self.enter()?;
        let call = product.sgemm();
        if call.size.contains(&0) {
            return Ok(());
        }
        let [m, n, k] = call.size.map(|size| size as i32);
        let kind = |transposed: bool| match transposed {
            false => cublas_sys::cublasOperation_t::CUBLAS_OP_N,
            true => cublas_sys::cublasOperation_t::CUBLAS_OP_T,
        };
        let (alpha, beta) = (1.0f32, if product.accumulate { 1.0f32 } else { 0.0 });
        // SAFETY: the operands are arrays of the engine with m·k, k·n and m·n elements; factors are read at the call.
        let multiplied = unsafe {
            cublas::sgemm(
                self.gpu.blas,
                kind(call.a.1),
                kind(call.b.1),
                m,
                n,
                k,
                &raw const alpha,
                call.a.0 as *const f32,
                call.a.2 as i32,
                call.b.0 as *const f32,
                call.b.2 as i32,
                &raw const beta,
                call.c as *mut f32,
                call.ldc as i32,
            )
        };
        multiplied.map_err(|error| fault(format!("{error:?}"), "multiplying"))
    }

    fn fresh(&self) -> Result<Box<dyn Device>> {
        Ok(Box::new(Self::on(Arc::clone(&self.gpu))))
    }
}

impl Drop for Driver {
    fn drop(&mut self) {
        if self.enter().is_err() {
            return;
        }
        for &address in &self.allocated {
            // SAFETY: it was allocated here, is freed once, and the engine that used it is gone.
            let _ = unsafe { cuda::free_sync(address) };
        }
    }
}
