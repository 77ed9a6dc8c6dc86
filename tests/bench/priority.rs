//! Shields a measurement from its neighbours, where that is allowed: on machines that schedule by session, each
//! with a fair share whatever its processes' own priority, as desktops and many servers do.

use std::fs;

/// Puts the sessions of these processes before others. Without the right to do so nothing happens.
pub fn prefer(processes: impl IntoIterator<Item = u32>) {
    for pid in processes {
        let _ = fs::write(format!("/proc/{pid}/autogroup"), "-15");
    }
}
