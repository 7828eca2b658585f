//! From files to checked values. What a file claims is bounded by the bytes it has; every error names the file and
//! the tensor or field. Must never know how a model computes.
//!
//! Reading order: [`source`] → [`config`] → [`safetensors`] → [`tokenizer`] → [`text_stream`] → [`template`] with its
//! helpers [`messages`], [`escape`] and [`json`].

pub(crate) mod config;
mod escape;
mod json;
mod messages;
pub(crate) mod safetensors;
pub(crate) mod source;
pub(crate) mod template;
pub(crate) mod text_stream;
pub(crate) mod tokenizer;
