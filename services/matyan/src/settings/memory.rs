//! The memory of this machine, from which the default size of tables of runs follows.

use sysinfo::{ProcessRefreshKind, ProcessesToUpdate, System};

const LEAST_TABLE_BYTES: u64 = 256 << 20;
const MOST_TABLE_BYTES: u64 = 2 << 30;
/// The part of the memory that tables of runs may take.
const TABLE_PART: u64 = 8;

/// The default memory of tables of runs on this machine.
pub(super) fn default_table_bytes() -> usize {
    // The server starts even if the system does not say how much memory it has.
    table_bytes_of(usable_bytes().unwrap_or_default())
}

fn table_bytes_of(memory: u64) -> usize {
    let bytes = (memory / TABLE_PART).clamp(LEAST_TABLE_BYTES, MOST_TABLE_BYTES);
    usize::try_from(bytes).expect("tables of runs fit in an address space")
}

/// The memory of the machine, or of the control group of this process if that has less.
fn usable_bytes() -> Option<u64> {
    let mut system = System::new().ok()?;
    system.refresh_memory();
    let total = system.total_memory();
    Some(limit_of_group(&mut system).map_or(total, |limit| limit.min(total)))
}

fn limit_of_group(system: &mut System) -> Option<u64> {
    let process = sysinfo::get_current_pid().ok()?;
    let kind = ProcessRefreshKind::nothing();
    system.refresh_processes_specifics(ProcessesToUpdate::Some(&[process]), false, kind);
    Some(system.process(process)?.cgroup_limits()?.total_memory)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tables_take_an_eighth_within_bounds() {
        assert_eq!(table_bytes_of(0), 256 << 20);
        assert_eq!(table_bytes_of(1 << 30), 256 << 20);
        assert_eq!(table_bytes_of(8 << 30), 1 << 30);
        assert_eq!(table_bytes_of(1 << 40), 2 << 30);
    }

    #[test]
    fn the_default_is_a_valid_value_of_the_setting() {
        let default = default_table_bytes();
        assert_eq!(super::super::parse::table_bytes(&default.to_string()), Ok(default));
    }

    #[cfg(target_os = "linux")]
    #[test]
    fn the_memory_is_at_most_that_of_the_machine() {
        let machine = std::fs::read_to_string("/proc/meminfo").unwrap();
        let kilobytes = machine.lines().next().unwrap().split_whitespace().nth(1).unwrap();
        let total = kilobytes.parse::<u64>().unwrap() << 10;
        let usable = usable_bytes().unwrap();
        assert!(usable > 0 && usable <= total, "{usable} of {total}");
    }
}
