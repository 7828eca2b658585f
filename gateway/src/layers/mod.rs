//! One layer, one file. Nothing here may know a dialect beyond asking `api` to render an error.
