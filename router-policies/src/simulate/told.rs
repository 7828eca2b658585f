//! The report of a world that came to its end.

use super::fleet::Place;
use super::report::{BackendRow, ProcessorRow, Report, Row};
use super::world::World;

impl World<'_> {
    pub(super) fn report(self) -> Report {
        let seconds = self.last_end.max(1e-9);
        let errors = self.latency.own_errors();
        let kinds: Vec<Row> = self
            .kinds
            .iter()
            .map(|known| Row {
                name: known.name.clone(),
                family: known.family.as_str().to_owned(),
                rule: known.rule.clone(),
                answered: known.answered,
                unanswered: known.unanswered,
                fallbacks: known.fallbacks,
                ttft_ms: known.ttft.told(),
                total_ms: known.total.told(),
            })
            .collect();
        let backends = self.places.iter().map(|place| {
            let places = f64::from(place.says.concurrency) * place.servers.len() as f64;
            let error = errors.iter().find(|error| error.backend == place.says.name);
            BackendRow {
                name: place.says.name.clone(),
                replicas: place.servers.len(),
                answered: place.answered,
                failed: place.failed,
                over_budget: place.over_budget,
                shed: place.shed,
                utilisation: place.busy_s / (places * seconds),
                in_work: place.busy_s / seconds,
                most_at_once: place.most_at_once,
                waited_ms: place.waited.told(),
                prediction_error: error.map(|error| (error.ttft, error.total)),
            }
        });
        let mut first = 0;
        let processors = self.given.processors.iter().map(|processor| {
            let own = &self.machines[first..first + processor.machines];
            first += processor.machines;
            let used: f64 = own.iter().map(|machine| machine.used).sum();
            let has = processor.capacity * processor.machines as f64 * seconds;
            ProcessorRow { name: processor.name.clone(), machines: processor.machines, utilisation: used / has }
        });
        let processors = processors.collect();
        let price = |place: &Place<'_>| place.says.price_per_hour * place.servers.len() as f64 * seconds / 3600.0;
        let sum = |of: fn(&Row) -> u64| kinds.iter().map(of).sum();
        Report {
            requests: self.arrived,
            unanswered: sum(|row| row.unanswered),
            seconds,
            all: Row {
                name: "all".to_owned(),
                family: String::new(),
                rule: String::new(),
                answered: sum(|row| row.answered),
                unanswered: sum(|row| row.unanswered),
                fallbacks: sum(|row| row.fallbacks),
                ttft_ms: self.ttft.told(),
                total_ms: self.total.told(),
            },
            backends: backends.collect(),
            processors,
            cost: self.places.iter().map(price).sum(),
            kinds,
        }
    }
}
