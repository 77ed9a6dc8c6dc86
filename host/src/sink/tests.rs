//! Database tests of the sink.
