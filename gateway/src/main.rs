//! The `weir` binary: hands over to [`weir_gateway::cli`], where each command lives.

/// A small request is mostly many small pieces of memory. Without huge pages, which would double what is resident.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> std::process::ExitCode {
    weir_gateway::cli::main()
}
