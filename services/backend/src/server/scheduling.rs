//! Scheduling of threads whose work can wait.
//!
//! A low priority is not enough: it limits a thread's share of the processor, but Linux lets a running thread finish its
//! time slice of some milliseconds, even if another thread is ready. An acknowledgement passes through several threads,
//! and could wait at each. Since Linux 6.12, a thread with shorter slices interrupts a thread with longer slices, so
//! these threads ask for the longest.
//!
//! Threads that need no share of a busy processor have the policy for idle cores instead. The system treats a core that
//! only runs such threads as idle: a thread that becomes ready is placed there, rather than behind another thread of
//! the usual policy, and runs at once.

/// Lets other threads interrupt the current one as soon as they are ready. If the system refuses, the first thread logs a
/// warning.
#[cfg(target_os = "linux")]
pub fn interruptible() {
    linux::schedule(None);
}

/// Elsewhere, threads have no slices of their own.
#[cfg(not(target_os = "linux"))]
pub fn interruptible() {}

/// Lets other threads interrupt the current one as soon as they are ready, and gives it this niceness, unless its own is as
/// high already. If the system refuses, the first thread logs a warning.
#[cfg(target_os = "linux")]
pub(crate) fn yield_to_others(niceness: i32) {
    linux::schedule(Some(niceness));
}

/// Elsewhere, niceness is a property of the whole process.
#[cfg(not(target_os = "linux"))]
pub(crate) fn yield_to_others(_: i32) {}

/// Lets the current thread run on cores that are otherwise idle: next to a busy thread of the usual policy, it gets a
/// three-hundredth of a core. If the system refuses, the thread gets the highest niceness.
#[cfg(target_os = "linux")]
pub fn run_on_idle_cores() {
    linux::schedule_on_idle_cores();
}

/// Elsewhere, threads have no policies of their own.
#[cfg(not(target_os = "linux"))]
pub fn run_on_idle_cores() {}

#[cfg(target_os = "linux")]
mod linux {
    use std::{io, sync::Once, time::Duration};

    use rustix::process::{getpriority_process, setpriority_process};

    /// The longest slice that Linux gives.
    const SLICE: Duration = Duration::from_millis(100);

    const HIGHEST_NICENESS: i32 = 19;

    static WARNING: Once = Once::new();

    /// Gives the current thread the policy for idle cores, or the highest niceness.
    pub(super) fn schedule_on_idle_cores() {
        let attributes = attributes(libc::SCHED_IDLE as u32, 0);
        if set(&attributes).is_err() {
            schedule(Some(HIGHEST_NICENESS));
        }
    }

    /// Gives the current thread the longest slices, and at least this niceness; without one, it keeps its own.
    pub(super) fn schedule(niceness: Option<i32>) {
        if let Err(error) = try_schedule(niceness) {
            WARNING.call_once(|| {
                tracing::warn!(
                    %error,
                    "failed to set the scheduling of threads; acknowledgements may wait for queries"
                );
            });
        }
    }

    fn try_schedule(niceness: Option<i32>) -> io::Result<()> {
        let current = getpriority_process(None)?;
        let niceness = niceness.map_or(current, |niceness| niceness.max(current));
        let Err(error) = set_attributes(niceness) else { return Ok(()) };
        // Some sandboxes only allow the older call.
        if current < niceness {
            setpriority_process(None, niceness)?;
        }
        Err(error)
    }

    /// Sets the niceness and the length of slices of the current thread, whatever its policy. Older kernels ignore the
    /// length.
    fn set_attributes(niceness: i32) -> io::Result<()> {
        set(&libc::sched_attr {
            sched_nice: niceness,
            sched_runtime: SLICE.as_nanos() as u64,
            ..attributes(0, libc::SCHED_FLAG_KEEP_POLICY as u64)
        })
    }

    fn attributes(policy: u32, flags: u64) -> libc::sched_attr {
        libc::sched_attr {
            size: size_of::<libc::sched_attr>() as u32,
            sched_policy: policy,
            sched_flags: flags,
            sched_nice: 0,
            sched_priority: 0,
            sched_runtime: 0,
            sched_deadline: 0,
            sched_period: 0,
        }
    }

    /// Sets attributes of the current thread.
    fn set(attributes: &libc::sched_attr) -> io::Result<()> {
        #[expect(unsafe_code, reason = "the attributes outlive the call, which only reads them")]
        let result = unsafe {
            const CURRENT_THREAD: libc::pid_t = 0;
            const NO_FLAGS: libc::c_uint = 0;
            libc::syscall(libc::SYS_sched_setattr, CURRENT_THREAD, std::ptr::from_ref(attributes), NO_FLAGS)
        };
        if result == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
    }
}

/// The policy of the current thread.
#[cfg(all(test, target_os = "linux"))]
pub(crate) fn current_policy() -> u32 {
    tests::attributes().sched_policy
}

#[cfg(all(test, target_os = "linux"))]
mod tests {
    use super::*;

    /// The niceness of the current thread and the length of its slices in nanoseconds.
    fn niceness_and_slice() -> (i32, u64) {
        let attributes = attributes();
        (attributes.sched_nice, attributes.sched_runtime)
    }

    pub(super) fn attributes() -> libc::sched_attr {
        let mut attributes = libc::sched_attr {
            size: 0,
            sched_policy: 0,
            sched_flags: 0,
            sched_nice: 0,
            sched_priority: 0,
            sched_runtime: 0,
            sched_deadline: 0,
            sched_period: 0,
        };
        let size = size_of::<libc::sched_attr>();
        #[expect(unsafe_code, reason = "the call fills the attributes and is given their size")]
        let result = unsafe { libc::syscall(libc::SYS_sched_getattr, 0, &raw mut attributes, size, 0) };
        assert_eq!(result, 0, "{}", std::io::Error::last_os_error());
        attributes
    }

    #[test]
    fn rule_130_others_interrupt_a_thread_that_yields() {
        let (before, slice_before) = niceness_and_slice();
        yield_to_others(before + 1);
        let (niceness, slice) = niceness_and_slice();
        assert_eq!(niceness, before + 1);
        // Kernels before 6.12 know no slices of a thread.
        assert!(slice == slice_before && slice == 0 || slice == 100_000_000, "{slice_before} {slice}");
        yield_to_others(before);
        assert_eq!(niceness_and_slice().0, before + 1, "a priority is never raised");
    }

    #[test]
    fn rule_130_an_interruptible_thread_keeps_its_priority() {
        let (before, slice_before) = niceness_and_slice();
        interruptible();
        let (niceness, slice) = niceness_and_slice();
        assert_eq!(niceness, before);
        assert!(slice == slice_before && slice == 0 || slice == 100_000_000, "{slice_before} {slice}");
    }

    #[test]
    fn rule_130_a_thread_may_leave_all_but_idle_cores_to_others() {
        // The thread of a test keeps its policy.
        let policy = std::thread::spawn(|| {
            run_on_idle_cores();
            current_policy()
        });
        assert_eq!(policy.join().unwrap(), libc::SCHED_IDLE as u32);
    }
}
