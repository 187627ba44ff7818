//! What was needed for a moment goes back to the machine.
//!
//! Loading programs and listing a cluster take tens of megabytes that are free again at once. glibc keeps them, and then
//! the agent looks several times as large as it is.

/// Gives free memory back. It takes less than a millisecond where there is little to give.
#[cfg(target_env = "gnu")]
pub fn give_back() {
    // SAFETY: malloc_trim(3) takes no pointer, may be called at any time by any thread, and touches free memory only.
    unsafe { libc::malloc_trim(0) };
}

/// Other allocators do it by themselves.
#[cfg(not(target_env = "gnu"))]
pub fn give_back() {}
