//! Lets the process keep freed memory.
//!
//! glibc's malloc returns large blocks to the system when they are freed, and maps them again, page by page, for the
//! next tensor. An update allocates hundreds of tensors of up to 64 MB; that took a third of its time.

/// Lets the process keep the memory that it frees. Call it before other threads start. It has no effect with other
/// allocators than glibc's; if a setting is refused, training is only slower.
pub fn keep_freed_memory() {
    #[cfg(all(target_os = "linux", target_env = "gnu"))]
    for (setting, bytes) in [
        // Larger blocks get their own mapping, which is released with them. No tensor is that large.
        (libc::M_MMAP_THRESHOLD, 1 << 30),
        // Number of bytes that may stay free at the end of the heap.
        (libc::M_TRIM_THRESHOLD, libc::c_int::MAX),
        // Number of bytes by which the heap grows beyond what is requested.
        (libc::M_TOP_PAD, 256 << 20),
    ] {
        // SAFETY: mallopt takes two numbers and changes only settings of malloc.
        unsafe { libc::mallopt(setting, bytes) };
    }
}
