//! Wrong files and what is said about them.
