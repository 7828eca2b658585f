//! The host shim finds out what is wrong with a kernel, or the other tests would mean little.

use weir_kernels::cuda::{Argument, Device, DeviceError, Grid};

use crate::host_device::HostDevice;

fn launch(device: &HostDevice, kernel: &str, arguments: usize) -> (Result<(), DeviceError>, Vec<u8>) {
    let buffer = device.alloc(64 * 4).expect("memory");
    let grid = Grid { blocks: [1, 1, 1], threads: 64, shared_bytes: 64 * 4 };
    let list: Vec<_> = (0..arguments).map(|_| Argument::Memory(&buffer)).collect();
    // SAFETY: the kernels write 64 ints.
    let result = unsafe { device.launch(kernel, grid, &list) };
    let mut bytes = vec![0; 64 * 4];
    device.download(&buffer, 0, &mut bytes).expect("memory");
    (result, bytes)
}

#[test]
#[cfg_attr(not(weir_cxx), ignore = "no C++ compiler")]
fn a_missing_barrier_shows_as_a_difference_between_the_orders() {
    let [up, down] = [false, true].map(|order| launch(&HostDevice::new(order), "wrong_without_barrier", 1));
    assert!(up.0.is_ok() && down.0.is_ok());
    assert_ne!(up.1, down.1);
}

#[test]
#[cfg_attr(not(weir_cxx), ignore = "no C++ compiler")]
fn barriers_that_do_not_meet_and_overruns_are_errors() {
    let device = HostDevice::new(false);
    for (kernel, arguments, word) in [
        ("wrong_diverging", 1, "meet"),
        ("wrong_shared_size", 1, "behind"),
        ("wrong_diverging", 2, "parameters"),
        ("no_such_kernel", 0, "name"),
    ] {
        let error = launch(&device, kernel, arguments).0.expect_err(kernel);
        assert!(error.to_string().contains(word), "{kernel}: {error}");
    }
    // Threads that were left in the middle of a kernel do not wake up in the next one.
    assert!(launch(&device, "wrong_without_barrier", 1).0.is_ok());
}

#[test]
#[cfg_attr(not(weir_cxx), ignore = "no C++ compiler")]
#[should_panic(expected = "beside a buffer")]
fn writing_beside_a_buffer_is_seen() {
    let device = HostDevice::new(false);
    let buffer = device.alloc(32).expect("memory");
    let grid = Grid { blocks: [1, 1, 1], threads: 32, shared_bytes: 32 * 4 };
    // SAFETY: 128 bytes are written where 32 are: into the guard, which is memory of the same buffer.
    let _ = unsafe { device.launch("wrong_without_barrier", grid, &[Argument::Memory(&buffer)]) };
}
