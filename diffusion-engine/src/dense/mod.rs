//! Dense chat models out of GGUF files (llama, qwen2, qwen3, gemma, gemma3) as one more model the engine runs: [`weights`]
//! (a checked model) → [`rotation`] and [`window`] (what the families differ in) → [`forward`]. Scheduling, K/V pages,
//! sampling and forms are the engine's own. Must never know where a file lies, or decide which token is written.

mod forward;
mod rotation;
pub(crate) mod weights;
mod window;
