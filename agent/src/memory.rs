//! What was needed for a moment goes back to the machine.
//!
//! Loading programs and listing a cluster take tens of megabytes that are free again at once. glibc keeps them, and then
//! the agent looks several times as large as it is.

/// How much may be free at the end of an arena before it goes back. Without a word, glibc lets this grow to twice the largest
/// block that was ever freed; the kernel's own type information is one of 5 MiB, so 11 MiB would stay.
#[cfg(target_env = "gnu")]
const KEPT: libc::c_int = 256 << 10;

/// Says how free memory is kept, before there is any.
#[cfg(target_env = "gnu")]
pub fn keep_little() {
    for option in [libc::M_TRIM_THRESHOLD, libc::M_MMAP_THRESHOLD] {
        // SAFETY: mallopt(3) takes no pointer. It fails for an option that is not known, and then all is as it was.
        unsafe { libc::mallopt(option, KEPT) };
    }
}

/// Gives free memory back. It takes less than a millisecond where there is little to give.
#[cfg(target_env = "gnu")]
pub fn give_back() {
    // SAFETY: malloc_trim(3) takes no pointer, may be called at any time by any thread, and touches free memory only.
    unsafe { libc::malloc_trim(0) };
}

/// Other allocators do it by themselves.
#[cfg(not(target_env = "gnu"))]
pub fn keep_little() {}

/// Other allocators do it by themselves.
#[cfg(not(target_env = "gnu"))]
pub fn give_back() {}
