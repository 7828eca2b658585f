//! The commands of the `weir` binary. Nothing here may be needed by a request.
