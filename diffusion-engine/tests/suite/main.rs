//! The engine through its public face, on real files.

mod answers;
mod dense;
mod dense_golden;
mod dense_hostile;
mod gguf;
mod gguf_file;
mod golden;
mod hostile_files;
mod inspection;
mod nano;
mod packing;
mod plain_forward;
mod reference_decoders;
mod sampled;
mod sharing;
mod structured;
mod support;
mod watched;
