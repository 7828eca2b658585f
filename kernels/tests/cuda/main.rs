//! The GPU kernels (kernels/cuda), compiled for the host, against f64 loops and the CPU kernels, through the launchers a
//! GPU is driven with. Every case runs twice, threads and blocks ascending and descending, and must give the same bits.
//! Without a C++ compiler all of it is ignored, and counted so.

mod attention;
mod experts;
#[path = "../support/host_device.rs"]
mod host_device;
mod products;
mod shim;
mod small;
#[path = "../support/mod.rs"]
mod support;

use host_device::HostDevice;
use weir_kernels::cuda::{Gpu, WeightFormat};

pub(crate) const SEED: u64 = 11;

/// Runs `case` in both orders and returns what it gave; fails when the bits differ.
pub(crate) fn both_orders<T: PartialEq + std::fmt::Debug>(what: &str, case: impl Fn(&Gpu<HostDevice>) -> T) -> T {
    let ascending = case(&Gpu::new(HostDevice::new(false)));
    let descending = case(&Gpu::new(HostDevice::new(true)));
    assert!(ascending == descending, "{what}: the order of threads or blocks shows");
    ascending
}

/// The bits of `values`, for comparing NaN, too.
pub(crate) fn bits(values: &[f32]) -> Vec<u32> {
    values.iter().map(|value| value.to_bits()).collect()
}

/// `values[n, k]` as the device reads them.
pub(crate) fn as_stored(format: WeightFormat, values: &[f32], n: usize, k: usize) -> Vec<f32> {
    use weir_kernels::cuda::format::{pack, unpack};
    let packed = pack(format, values, n, k).expect("shape");
    unpack(format, &packed, n, k).expect("shape")
}
