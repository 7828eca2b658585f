//! The engine through its public face, on real files.

mod answers;
mod golden;
mod hostile_files;
mod nano;
mod plain_forward;
mod reference_decoders;
mod support;
