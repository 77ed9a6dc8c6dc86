//! How the C library hands out memory. librdkafka allocates a buffer per fetch and frees it on another
//! thread; with the defaults each one is mapped, faulted in page by page, and unmapped again.

/// Keeps freed memory for the next fetch instead of giving it back to the system. To be called once,
/// before the first thread starts; does nothing where the C library is not glibc.
///
/// Other allocators (jemalloc, mimalloc, tcmalloc) were measured in its place and gained nothing more.
pub fn keep_freed_memory() {
    #[cfg(all(target_os = "linux", target_env = "gnu"))]
    {
        const MIB: i32 = 1 << 20;
        /// The largest that glibc takes (`DEFAULT_MMAP_THRESHOLD_MAX` on 64 bits).
        const MMAP_THRESHOLD: i32 = 32 * MIB;
        /// How much an arena keeps at its end, and by how much it grows. How much librdkafka keeps at all is
        /// bounded by `source.queue_bytes`.
        const KEPT: i32 = 64 * MIB;
        for (parameter, value) in [
            (libc::M_MMAP_THRESHOLD, MMAP_THRESHOLD),
            (libc::M_TRIM_THRESHOLD, KEPT),
            (libc::M_TOP_PAD, KEPT),
        ] {
            // SAFETY: takes two integers and has no precondition; a value it does not like changes nothing.
            let accepted = unsafe { libc::mallopt(parameter, value) };
            debug_assert_eq!(accepted, 1, "glibc takes the threshold");
        }
    }
}
