//! What is compiled into the binary: the default config, the default policy and the nano models, so that Weir runs
//! without a download. Bytes only; nothing here may interpret them.

/// The lowest config layer.
pub const CONFIG: &str = include_str!("../../config/weir.toml");

/// The routing rules used when `policy.file` is empty.
pub const POLICY: &str = include_str!("../../config/policies/default.toml");
