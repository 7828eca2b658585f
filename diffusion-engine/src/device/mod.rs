//! The same model on a GPU: [`weights`] (what lies there), [`memory`] (what a forward works in), [`forward`] (what is
//! done). Everything from the embeddings to the logits stays on the device; token ids go there, logits come back.
//! Generic over the device, so that tests run it with the kernels compiled for the host. Has never run on a GPU
//! (docs/cuda.md). Must never know a decoder.

pub(crate) mod forward;
mod memory;
#[cfg(test)]
mod tests;
pub(crate) mod weights;
