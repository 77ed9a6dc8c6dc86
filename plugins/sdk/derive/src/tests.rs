//! Errors that authors read.
