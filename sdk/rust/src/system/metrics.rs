//! Resource metrics, with the names and contexts that existing dashboards expect. Percentages of
//! the machine are percentages of the container where it has its own limits.

use std::time::{Duration, Instant};

use sysinfo::{MINIMUM_CPU_UPDATE_INTERVAL, Networks, Pid, ProcessRefreshKind, ProcessesToUpdate, System};

use super::{
    gpu::Gpus,
    metric::{SystemMetric, plain},
};

/// Samples this process and its machine. Rates and CPU use are averages since the previous sample.
pub struct MetricsSampler {
    usage: Option<Usage>,
    networks: Option<Networks>,
    gpus: Option<Gpus>,
    sampled: Option<Instant>,
}

impl Default for MetricsSampler {
    fn default() -> Self {
        Self::new()
    }
}

impl MetricsSampler {
    /// Opens the sources; sources that this machine lacks stay silent.
    pub fn new() -> Self {
        Self {
            usage: Usage::open(),
            networks: Networks::new_with_refreshed_list().ok(),
            gpus: Gpus::open(),
            sampled: None,
        }
    }

    /// Returns the current values. The first call waits for a fraction of a second, because CPU use
    /// needs two readings.
    pub fn sample(&mut self) -> Vec<SystemMetric> {
        let since = match self.sampled.replace(Instant::now()) {
            Some(before) => Some(before.elapsed()),
            None => {
                #[expect(clippy::disallowed_methods, reason = "a rate of use needs time to pass")]
                std::thread::sleep(MINIMUM_CPU_UPDATE_INTERVAL);
                None
            }
        };
        let mut metrics = Vec::new();
        if let Some(usage) = &mut self.usage {
            usage.sample(&mut metrics, since);
        }
        if let Some((used, total)) = root_disk() {
            metrics.extend(percent("__system__disk_percent", used, total));
        }
        if let Some(networks) = &mut self.networks {
            sample_networks(networks, &mut metrics, since);
        }
        if let Some(gpus) = &self.gpus {
            gpus.sample(&mut metrics);
        }
        metrics
    }
}

/// CPU, memory, and disk traffic of this process, and memory of the machine.
struct Usage {
    system: System,
    process: Pid,
}

impl Usage {
    fn open() -> Option<Self> {
        let mut usage = Self { system: System::new().ok()?, process: sysinfo::get_current_pid().ok()? };
        usage.refresh();
        Some(usage)
    }

    fn refresh(&mut self) {
        let kind = ProcessRefreshKind::nothing().with_cpu().with_memory().with_disk_usage();
        self.system.refresh_processes_specifics(ProcessesToUpdate::Some(&[self.process]), false, kind);
        self.system.refresh_memory();
    }

    fn sample(&mut self, metrics: &mut Vec<SystemMetric>, since: Option<Duration>) {
        self.refresh();
        let total = self.system.total_memory();
        let used = total.saturating_sub(self.system.available_memory());
        metrics.extend(percent("__system__memory_percent", used, total));
        let Some(process) = self.system.process(self.process) else { return };
        metrics.push(plain("__system__cpu", f64::from(process.cpu_usage())));
        metrics.extend(percent("__system__p_memory_percent", process.memory(), total));
        let disk = process.disk_usage();
        metrics.extend(rate("__system__disk_read_bytes_per_s", disk.read_bytes, since));
        metrics.extend(rate("__system__disk_written_bytes_per_s", disk.written_bytes, since));
        // Without its own limit, a control group has the memory of the machine.
        if let Some(limits) = process.cgroup_limits().filter(|limits| limits.total_memory < total) {
            let used = limits.total_memory.saturating_sub(limits.free_memory);
            metrics.extend(percent("__system__cgroup_memory_percent", used, limits.total_memory));
        }
    }
}

fn sample_networks(networks: &mut Networks, metrics: &mut Vec<SystemMetric>, since: Option<Duration>) {
    networks.refresh(true);
    let mut received = 0;
    let mut sent = 0;
    for (_, network) in networks.iter().filter(|(name, _)| *name != "lo" && *name != "lo0") {
        received += network.received();
        sent += network.transmitted();
    }
    metrics.extend(rate("__system__network_received_bytes_per_s", received, since));
    metrics.extend(rate("__system__network_sent_bytes_per_s", sent, since));
}

/// Used and total bytes of the root directory's file system, as `df` counts them.
#[cfg(unix)]
fn root_disk() -> Option<(u64, u64)> {
    let disk = rustix::fs::statvfs("/").ok()?;
    let used = disk.f_blocks.saturating_sub(disk.f_bfree);
    Some((used * disk.f_frsize, (used + disk.f_bavail) * disk.f_frsize))
}

#[cfg(not(unix))]
fn root_disk() -> Option<(u64, u64)> {
    let disks = sysinfo::Disks::new_with_refreshed_list().ok()?;
    let disk = disks.iter().find(|disk| disk.mount_point() == std::path::Path::new("C:\\"))?;
    Some((disk.total_space().saturating_sub(disk.available_space()), disk.total_space()))
}

fn percent(name: &'static str, part: u64, whole: u64) -> Option<SystemMetric> {
    (whole > 0).then(|| plain(name, part as f64 / whole as f64 * 100.0))
}

/// The rate of a counter that was reset by the previous sample; none before there is one.
fn rate(name: &'static str, bytes: u64, since: Option<Duration>) -> Option<SystemMetric> {
    since.filter(|since| !since.is_zero()).map(|since| plain(name, bytes as f64 / since.as_secs_f64()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_sample_has_this_process_and_its_machine() {
        let mut sampler = MetricsSampler::new();
        let first = sampler.sample();
        let value = |metrics: &[SystemMetric], name| {
            metrics.iter().find(|metric| metric.name == name).map(|metric| metric.value)
        };
        for name in ["__system__p_memory_percent", "__system__memory_percent"] {
            let percent = value(&first, name).expect("every machine has memory");
            assert!(percent > 0.0 && percent <= 100.0, "{name}: {percent}");
        }
        assert!(value(&first, "__system__cpu").is_some_and(|cpu| cpu >= 0.0));
        assert_eq!(
            value(&first, "__system__network_sent_bytes_per_s"),
            None,
            "no rate before a second sample"
        );
        #[expect(clippy::disallowed_methods, reason = "a rate needs time to pass")]
        std::thread::sleep(Duration::from_millis(20));
        let second = sampler.sample();
        assert!(value(&second, "__system__network_sent_bytes_per_s").is_some_and(|rate| rate >= 0.0));
    }

    #[test]
    fn values_have_five_digits() {
        assert_eq!(plain("x", 1.0 / 3.0).value, 0.33333);
        assert_eq!(percent("x", 1, 0).map(|metric| metric.value), None);
    }
}
