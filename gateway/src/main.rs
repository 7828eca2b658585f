//! The `weir` binary: hands over to [`weir_gateway::cli`], where each command lives.

/// Half of what a small request costs is memory taken and given back.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> std::process::ExitCode {
    weir_gateway::cli::main()
}
