//! Entry point for libFuzzer: `MATYAN_FUZZ_TARGET` names the target; all arguments are
//! libFuzzer's own options. Before fuzzing starts, the seeds of the target are written to the
//! corpus directory in `MATYAN_FUZZ_SEEDS`.

#![no_main]

use std::{path::PathBuf, sync::OnceLock};

use libfuzzer_sys::fuzz_target;
use matyan_fuzz::{TARGETS, Target, seeds};

#[expect(clippy::disallowed_methods, reason = "libFuzzer owns the command line")]
fn setting(name: &str) -> Option<String> {
    std::env::var(name).ok()
}

fn target() -> &'static Target {
    static CHOSEN: OnceLock<&'static Target> = OnceLock::new();
    CHOSEN.get_or_init(|| {
        let name = setting("MATYAN_FUZZ_TARGET").unwrap_or_default();
        TARGETS.iter().find(|target| target.name == name).unwrap_or_else(|| {
            let names: Vec<_> = TARGETS.iter().map(|target| target.name).collect();
            panic!("MATYAN_FUZZ_TARGET must be one of {}", names.join(", "))
        })
    })
}

fuzz_target!(
    init: {
        if let Some(folder) = setting("MATYAN_FUZZ_SEEDS").map(PathBuf::from) {
            for (number, seed) in seeds(target().name).iter().enumerate() {
                std::fs::write(folder.join(format!("seed-{number}")), seed).expect("the corpus directory is writable");
            }
        }
    },
    |bytes: &[u8]| (target().run)(bytes)
);
