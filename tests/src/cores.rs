//! Threads and processes on chosen cores only, so that a server and the generator of its load do not share any. A core
//! is a processor as the system numbers them, which may be one of two threads of a physical core.

use std::{
    io,
    process::{Child, Command},
    thread,
};

#[cfg(target_os = "linux")]
use rustix::thread::{CpuSet, sched_getaffinity, sched_setaffinity};

/// The cores that the current thread may use, in ascending order.
#[cfg(target_os = "linux")]
pub fn allowed() -> io::Result<Vec<usize>> {
    let set = sched_getaffinity(None)?;
    Ok((0..CpuSet::MAX_CPU).filter(|core| set.is_set(*core)).collect())
}

/// Elsewhere, the system chooses the cores.
#[cfg(not(target_os = "linux"))]
pub fn allowed() -> io::Result<Vec<usize>> {
    Err(io::ErrorKind::Unsupported.into())
}

/// Restricts the current thread to these cores, and with it the threads and processes that it starts from now on.
#[cfg(target_os = "linux")]
pub fn pin(cores: &[usize]) -> io::Result<()> {
    let mut set = CpuSet::new();
    for core in cores {
        set.set(*core);
    }
    sched_setaffinity(None, &set).map_err(io::Error::from)
}

/// Elsewhere, the system chooses the cores.
#[cfg(not(target_os = "linux"))]
pub fn pin(_: &[usize]) -> io::Result<()> {
    Err(io::ErrorKind::Unsupported.into())
}

/// Starts a command on these cores; without any, on the cores of the current thread. A process inherits the cores of
/// the thread that starts it, so a separate thread starts it, and the current one keeps its cores.
pub fn spawn(command: &mut Command, cores: &[usize]) -> io::Result<Child> {
    if cores.is_empty() {
        return command.spawn();
    }
    let spawn = || {
        pin(cores)?;
        command.spawn()
    };
    thread::scope(|scope| scope.spawn(spawn).join()).expect("starting a process does not panic")
}

#[cfg(all(test, target_os = "linux"))]
mod tests {
    use std::process::Stdio;

    use super::*;

    #[test]
    fn a_process_runs_on_its_cores_and_the_thread_that_starts_it_keeps_its_own() {
        let cores = allowed().unwrap();
        let last = cores[cores.len() - 1];
        let mut command = Command::new("grep");
        command.args(["Cpus_allowed_list:", "/proc/self/status"]).stdout(Stdio::piped());
        let output = spawn(&mut command, &[last]).unwrap().wait_with_output().unwrap();
        let text = String::from_utf8(output.stdout).unwrap();
        assert_eq!(text.trim_end(), format!("Cpus_allowed_list:\t{last}"));
        assert_eq!(allowed().unwrap(), cores);
    }
}
