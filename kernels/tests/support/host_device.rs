//! The GPU kernels compiled for the host (kernels/cuda/host), as a device for tests. Every buffer lies between guards
//! that must be untouched when it is dropped. Must never be part of a program.

use std::alloc::{Layout, alloc, dealloc};
use std::collections::hash_map::DefaultHasher;
use std::ffi::{CStr, CString, c_char, c_int, c_void};
use std::hash::{Hash, Hasher};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;

use weir_kernels::cuda::{Argument, Device, DeviceError, Grid};

const GUARD: usize = 256;
const GUARD_BYTE: u8 = 0xa5;

type Launch =
    unsafe extern "C" fn(*const c_char, *const u32, u32, usize, *const *const c_void, c_int, c_int) -> *const c_char;

/// Runs kernels on this CPU, one thread after the other.
#[derive(Debug, Clone, Copy)]
pub(crate) struct HostDevice {
    launch: Launch,
    /// Whether threads and blocks run from the last to the first.
    descending: bool,
}

impl HostDevice {
    pub(crate) fn new(descending: bool) -> Self {
        HostDevice { launch: library(), descending }
    }
}

/// Memory between two guards.
pub(crate) struct HostBuffer {
    start: *mut u8,
    bytes: usize,
}

// SAFETY: the memory belongs to the buffer alone.
unsafe impl Send for HostBuffer {}

impl HostBuffer {
    fn layout(bytes: usize) -> Layout {
        Layout::from_size_align(bytes + 2 * GUARD, GUARD).expect("a test's size")
    }

    fn new(bytes: usize) -> Self {
        // SAFETY: the size is not zero; all of it is filled below.
        unsafe {
            let start = alloc(HostBuffer::layout(bytes));
            assert!(!start.is_null(), "no memory for {bytes} bytes");
            std::ptr::write_bytes(start, GUARD_BYTE, bytes + 2 * GUARD);
            std::ptr::write_bytes(start.add(GUARD), 0, bytes);
            HostBuffer { start, bytes }
        }
    }

    fn at(&self, at: usize, length: usize) -> *mut u8 {
        assert!(at + length <= self.bytes, "{length} bytes at {at} of {}", self.bytes);
        // SAFETY: inside the memory.
        unsafe { self.start.add(GUARD + at) }
    }
}

impl Drop for HostBuffer {
    fn drop(&mut self) {
        // SAFETY: the memory has a guard on either side; it is given back once.
        let untouched = unsafe {
            let before = std::slice::from_raw_parts(self.start, GUARD);
            let behind = std::slice::from_raw_parts(self.start.add(GUARD + self.bytes), GUARD);
            let untouched = before.iter().chain(behind).all(|byte| *byte == GUARD_BYTE);
            dealloc(self.start, HostBuffer::layout(self.bytes));
            untouched
        };
        assert!(untouched || std::thread::panicking(), "a kernel wrote beside a buffer of {} bytes", self.bytes);
    }
}

impl Device for HostDevice {
    type Buffer = HostBuffer;

    fn name(&self) -> String {
        "host".into()
    }

    fn alloc(&self, bytes: usize) -> Result<HostBuffer, DeviceError> {
        Ok(HostBuffer::new(bytes))
    }

    fn upload(&self, to: &mut HostBuffer, at: usize, bytes: &[u8]) -> Result<(), DeviceError> {
        // SAFETY: `at` checks the range.
        unsafe { std::ptr::copy_nonoverlapping(bytes.as_ptr(), to.at(at, bytes.len()), bytes.len()) };
        Ok(())
    }

    fn download(&self, from: &HostBuffer, at: usize, bytes: &mut [u8]) -> Result<(), DeviceError> {
        // SAFETY: `at` checks the range.
        unsafe { std::ptr::copy_nonoverlapping(from.at(at, bytes.len()), bytes.as_mut_ptr(), bytes.len()) };
        Ok(())
    }

    unsafe fn launch(
        &self,
        kernel: &str,
        grid: Grid,
        arguments: &[Argument<'_, HostBuffer>],
    ) -> Result<(), DeviceError> {
        let values: Vec<[u8; 8]> = arguments
            .iter()
            .map(|argument| {
                let mut value = [0; 8];
                match argument {
                    Argument::Memory(buffer) => value = (buffer.at(0, 0) as usize).to_ne_bytes(),
                    Argument::Null => {}
                    Argument::Int(int) => value[..4].copy_from_slice(&int.to_ne_bytes()),
                    Argument::Float(float) => value[..4].copy_from_slice(&float.to_ne_bytes()),
                }
                value
            })
            .collect();
        let pointers: Vec<*const c_void> = values.iter().map(|value| value.as_ptr().cast()).collect();
        let name = CString::new(kernel).expect("a name");
        // SAFETY: the caller promises the arguments; name, grid and parameters outlive the call.
        let wrong = unsafe {
            (self.launch)(
                name.as_ptr(),
                grid.blocks.as_ptr(),
                grid.threads,
                grid.shared_bytes as usize,
                pointers.as_ptr(),
                pointers.len() as c_int,
                c_int::from(self.descending),
            )
        };
        if wrong.is_null() {
            return Ok(());
        }
        // SAFETY: a text of the library.
        let message = unsafe { CStr::from_ptr(wrong) }.to_string_lossy().into_owned();
        Err(DeviceError::Device { what: kernel.into(), message })
    }
}

/// Compiles the kernels, once for each state of their sources, and loads them, once for each program.
fn library() -> Launch {
    static LAUNCH: OnceLock<Launch> = OnceLock::new();
    *LAUNCH.get_or_init(|| {
        let file = compiled();
        // SAFETY: our own library, which does nothing when it is loaded.
        let library = unsafe { libloading::Library::new(&file) }.expect("the host kernels load");
        let library = Box::leak(Box::new(library));
        // SAFETY: the function has this type (kernels/cuda/host/run.cpp).
        *unsafe { library.get::<Launch>(b"weir_host_launch\0") }.expect("the host kernels have their entry")
    })
}

fn compiled() -> PathBuf {
    // The engine's tests use this file, too.
    let crates = Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("a crate lies in the repository");
    let sources = crates.join("kernels/cuda");
    let mut hasher = DefaultHasher::new();
    for folder in [sources.clone(), sources.join("host")] {
        let entries = std::fs::read_dir(&folder).expect("kernels/cuda");
        let mut files: Vec<PathBuf> = entries.filter_map(|entry| Some(entry.ok()?.path())).collect();
        files.sort();
        for file in files.iter().filter(|file| file.is_file()) {
            std::fs::read(file).expect("a source").hash(&mut hasher);
        }
    }
    let here = std::env::current_exe().expect("this program");
    let library = here.with_file_name(format!("weir-cuda-host-{:016x}.so", hasher.finish()));
    if library.is_file() {
        return library;
    }
    let unfinished = library.with_extension(format!("{}.so", std::process::id()));
    let compiler = std::env::var_os("CXX").unwrap_or_else(|| "c++".into());
    let output = Command::new(compiler)
        .args(["-std=c++17", "-O2", "-fPIC", "-shared", "-pthread", "-Wall", "-Wextra", "-Werror"])
        .args(["-Wno-unknown-pragmas", "-U_FORTIFY_SOURCE", "-ffp-contract=off"])
        // A load that a GPU would refuse ends the program, and so does what C++ leaves undefined.
        .args(["-fsanitize=alignment,shift,bounds,null,signed-integer-overflow"])
        .arg("-fsanitize-undefined-trap-on-error")
        .arg("-o")
        .arg(&unfinished)
        .arg(sources.join("host/run.cpp"))
        .output()
        .expect("a C++ compiler");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    std::fs::rename(&unfinished, &library).expect("the library's place");
    library
}
