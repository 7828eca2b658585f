//! The built-in LLaDA2 block-diffusion engine and its AR twin.
