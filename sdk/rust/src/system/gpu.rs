//! GPUs by NVIDIA's management library, which is opened at run time and may be missing.

use matyan_value::{Context, Map, Value};
use nvml_wrapper::{Nvml, enum_wrappers::device::TemperatureSensor};

use super::metric::{SystemMetric, with_context};

pub(super) struct Gpus {
    library: Nvml,
    count: u32,
}

impl Gpus {
    /// Opens the library. None on machines without it or without a GPU.
    pub(super) fn open() -> Option<Self> {
        let library = Nvml::init().ok()?;
        let count = library.device_count().ok().filter(|count| *count > 0)?;
        Some(Self { library, count })
    }

    pub(super) fn sample(&self, metrics: &mut Vec<SystemMetric>) {
        for index in 0..self.count {
            let Ok(device) = self.library.device_by_index(index) else { continue };
            let memory = device.memory_info().ok().filter(|memory| memory.total > 0);
            let values = [
                ("__system__gpu", device.utilization_rates().ok().map(|rates| f64::from(rates.gpu))),
                (
                    "__system__gpu_memory_percent",
                    memory.map(|memory| memory.used as f64 / memory.total as f64 * 100.0),
                ),
                ("__system__gpu_temp", device.temperature(TemperatureSensor::Gpu).ok().map(f64::from)),
                (
                    "__system__gpu_power_watts",
                    device.power_usage().ok().map(|milliwatts| f64::from(milliwatts) / 1000.0),
                ),
            ];
            let context = Context::new(&Map::from([("gpu".to_owned(), Value::Integer(i64::from(index)))]));
            let known = values.into_iter().filter_map(|(name, value)| Some((name, value?)));
            metrics.extend(known.map(|(name, value)| with_context(name, context.clone(), value)));
        }
    }
}
