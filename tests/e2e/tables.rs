//! Tables that change under a running host, and tables of every sort that an operator may have.

pub mod case;
mod columns;
mod dropped;
mod encoding;
mod names;
mod partitions;
mod privileges;
mod rejected;
mod storage;
mod types;
