//! The `weir` binary: hands over to [`weir_gateway::cli`], where each command lives.

fn main() -> std::process::ExitCode {
    weir_gateway::cli::main()
}
