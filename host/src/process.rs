//! What this process is to the system: whose it is, and that nobody else looks into its memory.

/// The user whose process this is. Its entry in `/proc` does not tell: it belongs to root once [`keep_secrets`] was called.
pub fn user() -> u32 {
    // SAFETY: takes nothing, has no precondition and cannot fail.
    unsafe { libc::geteuid() }
}

/// Keeps passwords and messages in this process: no core dump has them, and other processes of the same user can neither
/// read its memory and environment in `/proc` nor attach to it. Debuggers and profilers then need root. To be called
/// before settings are read; where the system does not know one of them, the other applies.
pub fn keep_secrets() {
    let none = libc::rlimit { rlim_cur: 0, rlim_max: 0 };
    // SAFETY: the limit is valid for as long as the call takes; the other call takes numbers. Both change nothing but
    // what the system does with this process.
    unsafe {
        libc::setrlimit(libc::RLIMIT_CORE, &raw const none);
        #[cfg(target_os = "linux")]
        libc::prctl(libc::PR_SET_DUMPABLE, 0, 0, 0, 0);
    }
}
