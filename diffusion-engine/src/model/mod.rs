//! The LLaDA2-MoE architecture (LLaDA2.0 report §2; Ling-2.0 is the same with a causal mask): [`weights`] says which
//! tensors make it, [`forward`] what is done with them, [`rope`] how positions enter. Must never know a decoder.

pub(crate) mod forward;
mod rope;
pub(crate) mod weights;
