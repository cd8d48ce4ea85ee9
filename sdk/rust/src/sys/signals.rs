//! Signals of the I/O thread: none, so that signals for the script interrupt the script.

#![expect(unsafe_code, reason = "the mask of a thread is set through libc")]

/// Blocks every signal for the calling thread.
#[cfg(unix)]
pub(crate) fn block_in_this_thread() {
    // SAFETY: `sigfillset` initializes the set before it is used, and a null pointer for the old
    // mask is allowed.
    unsafe {
        let mut all = std::mem::zeroed();
        libc::sigfillset(&raw mut all);
        libc::pthread_sigmask(libc::SIG_SETMASK, &raw const all, std::ptr::null_mut());
    }
}

#[cfg(not(unix))]
pub(crate) fn block_in_this_thread() {}
