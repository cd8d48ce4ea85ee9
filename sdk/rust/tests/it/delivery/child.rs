//! Scripts as separate processes: this test program started again, with one test that does what
//! the environment says.

use std::{
    env,
    path::Path,
    process::{Child, Command, Stdio},
    time::Duration,
};

use matyan_sdk::{Run, RunOptions};

use crate::delivery::scene::SpoolRoot;

/// Description of a script.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Script<'a> {
    /// A mode that `a_script` knows.
    pub(crate) name: &'a str,
    pub(crate) gateway_url: &'a str,
    /// Base of the reading side, which is asked for the lines that the run has.
    pub(crate) backend_url: &'a str,
    pub(crate) run_id: &'a str,
    /// File for results.
    pub(crate) output: &'a Path,
}

/// Arguments that run `a_script` only.
const ARGUMENTS: [&str; 4] = ["--exact", "delivery::child::a_script", "--nocapture", "--test-threads=1"];

impl Script<'_> {
    pub(crate) fn start(&self, root: &SpoolRoot) -> Child {
        self.start_with(root, &[])
    }

    /// Starts with more environment variables.
    pub(crate) fn start_with(&self, root: &SpoolRoot, variables: &[(&str, &str)]) -> Child {
        let program = env::current_exe().expect("a running program has a path");
        let mut command = Command::new(program);
        command.args(ARGUMENTS).envs(variables.iter().copied());
        self.spawn(&mut command, root)
    }

    /// Starts with a file system of 6 MiB for spools. `used` bytes of it are taken. Only the script
    /// sees it.
    #[cfg(target_os = "linux")]
    pub(crate) fn start_on_small_disk(&self, root: &SpoolRoot, used: &str) -> Child {
        let program = env::current_exe().expect("a running program has a path");
        let shell = "mount -t tmpfs -o size=6m,mode=700 tmpfs \"$0\" && \
            { head -c \"$1\" /dev/zero > \"$0/other\"; shift; exec \"$@\"; }";
        let mut command = Command::new("unshare");
        command.args(["--map-root-user", "--mount", "sh", "-c", shell]).arg(root.path()).arg(used);
        self.spawn(command.arg(program).args(ARGUMENTS), root)
    }

    fn spawn(&self, command: &mut Command, root: &SpoolRoot) -> Child {
        command
            .env("MATYAN_TEST_SCRIPT", self.name)
            .env("MATYAN_TEST_RUN", self.run_id)
            .env("MATYAN_TEST_OUTPUT", self.output)
            .env("MATYAN_FRONTIER_URL", self.gateway_url)
            .env("MATYAN_BACKEND_URL", self.backend_url)
            .env("MATYAN_SPOOL_DIR", root.path())
            .stdout(Stdio::null())
            .spawn()
            .expect("the test program can be started")
    }
}

/// The script of a child process; nothing happens in the parent.
#[test]
fn a_script() {
    #[expect(clippy::disallowed_methods, reason = "the parent test says what to do")]
    let setting = |name: &str| env::var(name).ok();
    let Some(script) = setting("MATYAN_TEST_SCRIPT") else { return };
    let (config, warnings) = matyan_sdk::Config::from_process();
    // Nothing may be left outside of the directory of the test.
    let config = matyan_sdk::Config { fallback_dirs: Vec::new(), ..config };
    assert_eq!(warnings, Vec::<String>::new());
    let run_id = setting("MATYAN_TEST_RUN");
    let options =
        RunOptions { run_id, offline: script.ends_with("offline"), config, ..RunOptions::default() };
    let run = Run::new(options).expect("the options are valid");
    let output = setting("MATYAN_TEST_OUTPUT").expect("the parent names a file");
    match script.as_str() {
        "print" => super::kill::print_and_abort(&run),
        "count" => super::kill::count_forever(&run, Path::new(&output), |_| Duration::ZERO),
        "count slowly" => super::kill::count_forever(&run, Path::new(&output), |_| Duration::from_millis(1)),
        "count in a rush" => {
            super::kill::count_forever(&run, Path::new(&output), |step| {
                super::power_failure::log_artifact_after(&run, step);
                super::power_failure::pause_of_rush(step)
            });
        }
        "outage" => super::faults::outlast_an_outage(&run, Path::new(&output)),
        "fill" => super::space::fill(&run, Path::new(&output)),
        "continue offline" => super::order::continue_counting(&run, Path::new(&output)),
        "handles offline" => super::order::continue_by_handles(&run, Path::new(&output)),
        "share" | "offline" => super::processes::share(&run, Path::new(&output)),
        #[cfg(unix)]
        "fork" => super::processes::fork_while_tracking(&run, Path::new(&output)),
        #[cfg(unix)]
        "lines" => super::processes::print_in_children(&run, Path::new(&output)),
        #[cfg(target_os = "linux")]
        "descriptors" => super::processes::open_many_runs(&run, Path::new(&output)),
        other => panic!("no script is called {other}"),
    }
}
