//! Metrics with one label whose values are known when the program starts.

use std::fmt::Debug;

use prometheus_client::encoding::EncodeMetric;
use prometheus_client::metrics::TypedMetric;
use prometheus_client::metrics::family::Family;
use prometheus_client::registry::Registry;

/// A family with one label. The series of known values exist from the start with the value 0, so that an alert sees the
/// first event. They are found without a lock.
///
/// ```
/// use pod_identity_runtime::metrics::ByLabel;
/// use prometheus_client::metrics::counter::Counter;
/// use prometheus_client::registry::Registry;
///
/// let mut registry = Registry::default();
/// let refused = ByLabel::<Counter>::new("reason", ["busy", "too_large"]);
/// refused.register(&mut registry, "pod_identity_example_refused", "Refused requests by reason");
/// refused.of("busy").inc();
/// assert_eq!((refused.of("busy").get(), refused.of("too_large").get()), (1, 0));
/// ```
#[derive(Debug, Clone)]
pub struct ByLabel<M> {
    label: &'static str,
    known: Vec<(&'static str, M)>,
    family: Family<[(&'static str, &'static str); 1], M>,
}

impl<M: Clone + Debug + Default + EncodeMetric + TypedMetric + Send + Sync + 'static> ByLabel<M> {
    /// Makes the series of these values.
    pub fn new(label: &'static str, values: impl IntoIterator<Item = &'static str>) -> Self {
        let family = Family::<[(&'static str, &'static str); 1], M>::default();
        let series = |value| (value, family.get_or_create_owned(&[(label, value)]));
        Self { label, known: values.into_iter().map(series).collect(), family: family.clone() }
    }

    /// Registers the family.
    pub fn register(&self, registry: &mut Registry, name: &str, help: &str) {
        registry.register(name, help, self.family.clone());
    }

    /// Returns the metric of a value. A value that was not known at the start gets a series now.
    pub fn of(&self, value: &'static str) -> M {
        let known = self.known.iter().find(|(known, _)| *known == value);
        known.map_or_else(
            || self.family.get_or_create_owned(&[(self.label, value)]),
            |(_, metric)| metric.clone(),
        )
    }
}
