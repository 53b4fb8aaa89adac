//! Lets the process keep freed memory.
//!
//! glibc's malloc returns large blocks to the system when they are freed and maps them again, page by page, for the next tensor. An
//! update allocates hundreds of tensors of up to 64 MB; a third of its time went there.

/// Lets the process keep the memory that it frees. To be called before there are other threads. Where
/// malloc is not glibc's, nothing changes; where it does not take a setting, it is slower only.
pub fn keep_freed_memory() {
    #[cfg(all(target_os = "linux", target_env = "gnu"))]
    for (setting, bytes) in [
        // Larger blocks get a mapping of their own, which goes with them: no tensor's.
        (libc::M_MMAP_THRESHOLD, 1 << 30),
        // So much may lie free at the end of the heap.
        (libc::M_TRIM_THRESHOLD, libc::c_int::MAX),
        // The heap grows by so much more than is asked for.
        (libc::M_TOP_PAD, 256 << 20),
    ] {
        // SAFETY: mallopt takes two numbers and changes malloc's own settings only.
        unsafe { libc::mallopt(setting, bytes) };
    }
}
