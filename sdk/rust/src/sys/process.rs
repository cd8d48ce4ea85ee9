//! Identity of processes and of the machine, which says whether the owner of a spool still runs.

/// Start of the machine, which makes process ids comparable. Empty where it is unknown.
pub(crate) fn boot_id() -> String {
    let text = std::fs::read_to_string("/proc/sys/kernel/random/boot_id").unwrap_or_default();
    text.trim().to_owned()
}

/// The same as bytes. Absent where it is unknown.
pub(crate) fn boot() -> Option<[u8; 16]> {
    hex::decode(boot_id().replace('-', "")).ok()?.try_into().ok()
}

/// Name of this machine. Empty where it is unknown.
pub(crate) fn host() -> String {
    let text = std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default();
    text.trim().to_owned()
}

#[cfg(unix)]
pub(crate) fn parent_id() -> u32 {
    std::os::unix::process::parent_id()
}

#[cfg(not(unix))]
pub(crate) fn parent_id() -> u32 {
    0
}

/// State letter and start time of a process, from its `stat` file. The name of the program, in
/// parentheses before them, may contain anything.
fn stat(pid: u32) -> Option<(char, u64)> {
    let text = std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    let (_, after_name) = text.rsplit_once(')')?;
    let mut fields = after_name.split_whitespace();
    let state = fields.next()?.chars().next()?;
    // The state is field 3, and the start time field 22.
    let started = fields.nth(18)?.parse().ok()?;
    Some((state, started))
}

/// Start time of this process in ticks since the machine was started; 0 where it is unknown.
pub(crate) fn started() -> u64 {
    stat(std::process::id()).map_or(0, |(_, started)| started)
}

/// Whether the process that once had this id and start time still runs. False where processes
/// cannot be examined.
pub(crate) fn is_running(pid: u32, started: u64) -> bool {
    // A child that has ended is a zombie until its parent waits for it.
    stat(pid).is_some_and(|(state, now)| now == started && !matches!(state, 'Z' | 'X'))
}

#[cfg(all(test, target_os = "linux"))]
mod tests {
    use super::*;

    #[test]
    fn this_process_runs_and_an_earlier_one_with_its_id_does_not() {
        let pid = std::process::id();
        assert!(started() > 0);
        assert!(is_running(pid, started()));
        assert!(!is_running(pid, started() - 1));
    }

    #[test]
    fn a_zombie_does_not_run() {
        let mut child = std::process::Command::new("true").spawn().unwrap();
        let pid = child.id();
        while matches!(stat(pid), Some((state, _)) if state != 'Z') {
            std::thread::yield_now();
        }
        assert!(!is_running(pid, stat(pid).unwrap().1));
        child.wait().unwrap();
    }
}
