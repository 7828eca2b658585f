//! The LLaDA2-MoE architecture (LLaDA2.0 report §2; Ling-2.0 is the same with a causal mask): [`weights`] says which
//! tensors make it, [`recipe`] in what form, [`packing`] makes them so, [`matrix`] the products with either form;
//! [`forward`] what is done with them, with [`rowwise`] for the same where weights are small, [`batch`] for whose
//! rows they are, [`experts`] for its sparse half and [`head`] for its end, [`rope`] how positions enter, [`scratch`]
//! and [`clock`] its memory and its times. Must never know a decoder.

pub(crate) mod batch;
pub(crate) mod clock;
mod experts;
pub(crate) mod forward;
pub(crate) mod head;
pub(crate) mod matrix;
mod packing;
pub(crate) mod random;
pub(crate) mod recipe;
pub(crate) mod rope;
mod rowwise;
pub(crate) mod scratch;
#[cfg(test)]
mod tests;
pub(crate) mod weights;
