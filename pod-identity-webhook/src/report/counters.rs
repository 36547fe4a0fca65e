//! Counters with one label.

use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::registry::Registry;

/// Counters by the values of one label.
#[derive(Debug, Clone)]
pub(super) struct Counters {
    label: &'static str,
    family: Family<[(&'static str, &'static str); 1], Counter>,
}

impl Counters {
    /// Registers a counter for each value, so that an alert sees the first increment.
    pub(super) fn register<const N: usize>(
        registry: &mut Registry,
        name: &'static str,
        help: &'static str,
        label: &'static str,
        values: [&'static str; N],
    ) -> Self {
        let counters = Self { label, family: Family::default() };
        values.iter().for_each(|value| drop(counters.family.get_or_create(&[(label, value)])));
        registry.register(name, help, counters.family.clone());
        counters
    }

    pub(super) fn increment(&self, value: &'static str) {
        self.family.get_or_create(&[(self.label, value)]).inc();
    }
}
