//! From files to checked values. What a file claims is bounded by the bytes it has; every error names the file and
//! the tensor or field. Must never know how a model computes.
//!
//! Reading order: [`open`] → [`source`] → [`config`] → [`tensors`] with [`elements`] and [`safetensors`] → [`gguf`] (with
//! its cursor) and what it is turned into: [`gguf_names`], [`gguf_config`] and [`gguf_dense`], [`gguf_tokenizer`]
//! with [`gguf_split`], [`gguf_blocks`] → [`tokenizer`] → [`text_stream`] → [`template`] with its helpers
//! [`messages`], [`escape`] and [`json`].

pub(crate) mod config;
pub(crate) mod elements;
mod escape;
mod gguf;
pub(crate) mod gguf_blocks;
mod gguf_config;
mod gguf_cursor;
pub(crate) mod gguf_dense;
pub(crate) mod gguf_names;
mod gguf_split;
mod gguf_tokenizer;
mod json;
mod messages;
pub(crate) mod open;
mod safetensors;
pub(crate) mod source;
pub(crate) mod template;
pub(crate) mod tensors;
pub(crate) mod text_stream;
pub(crate) mod tokenizer;
