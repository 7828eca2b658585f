//! The latency model of this gateway: asked when a request is planned, taught by a [`Lesson`] that travels with each
//! attempt, kept in a file across restarts. The clock is read here, so that the model needs none.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use weir_protocol::{EngineError, Event, Usage};
use weir_router_policies::latency::{Ask, LatencyModel, OwnError, Priors, Seen};
use weir_router_policies::{BackendFacts, BackendRole, Predicted};

use super::Standing;
use crate::config::latency::{ForesightSettings, written_first};

/// See the module.
pub struct Foresight {
    /// Shared with the gateways before and after this one.
    model: Arc<Mutex<LatencyModel>>,
    settings: ForesightSettings,
    facts: Vec<BackendFacts>,
}

impl Foresight {
    /// Goes on from the file, if there is one that can be read; else from the published figures.
    pub fn new(settings: ForesightSettings, facts: Vec<BackendFacts>) -> Arc<Self> {
        let mut model = LatencyModel::new(Priors::embedded(), settings.model);
        if let Some(file) = &settings.file {
            match std::fs::read_to_string(file) {
                Ok(text) => match model.load(&text) {
                    Ok(()) => model.retain(|name| facts.iter().any(|one| one.name == name)),
                    Err(why) => tracing::warn!(file = %file.display(), %why, "learnt latencies are not used"),
                },
                Err(why) if why.kind() == std::io::ErrorKind::NotFound => {}
                Err(why) => tracing::warn!(file = %file.display(), %why, "learnt latencies cannot be read"),
            }
        }
        Arc::new(Foresight { model: Arc::new(Mutex::new(model)), settings, facts })
    }

    /// This one's settings and backends, going on from what `old` has learnt.
    pub(super) fn succeeding(&self, old: &Foresight) -> Arc<Self> {
        let (settings, facts) = (self.settings.clone(), self.facts.clone());
        let next = Foresight { model: Arc::clone(&old.model), settings, facts };
        next.model().adopt(next.settings.model);
        Arc::new(next)
    }

    fn model(&self) -> MutexGuard<'_, LatencyModel> {
        // Each change is complete in itself, so what a panicking thread left is sound.
        self.model.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What each of `facts` would do with a request.
    pub(super) fn predicted(
        &self,
        facts: &[BackendFacts],
        ask: &Ask,
        in_flight: impl Fn(&str) -> u32,
    ) -> Vec<Predicted> {
        self.model().predictions(facts, ask, in_flight, unix())
    }

    /// What the published figures say of those that were not measured; for people only.
    pub(super) fn guessed(&self, facts: &[BackendFacts], ask: &Ask) -> Vec<Predicted> {
        self.model().guesses(facts, ask, unix())
    }

    /// Which of a plan's backends should be asked first for once, to see how it does.
    pub(super) fn probe(&self, backends: &[&str]) -> Option<usize> {
        if self.settings.model.probe_every == 0 {
            return None;
        }
        self.model().probe(backends, unix())
    }

    /// For an attempt that begins now.
    pub(super) fn lesson(self: &Arc<Self>, standing: &Standing, ask: &Ask) -> Option<Lesson> {
        let facts = self.facts.iter().find(|one| one.name == standing.name())?;
        // The attempt itself is in flight already.
        let others = standing.in_flight().saturating_sub(1);
        let ask = ask.at(facts, u32::try_from(others).unwrap_or(u32::MAX));
        Some(Lesson { foresight: Arc::clone(self), backend: facts.name.clone(), role: facts.role, ask, usage: None })
    }

    /// How wrong it was lately. A backend that is no more may still be learnt about, by answers that outlast it.
    pub fn errors(&self) -> Vec<OwnError> {
        let is_known = |error: &OwnError| self.facts.iter().any(|one| one.name == error.backend);
        self.model().own_errors().into_iter().filter(is_known).collect()
    }

    /// Saves it again and again, as long as somebody uses it.
    pub fn keep(self: &Arc<Self>) {
        if self.settings.file.is_none() {
            return;
        }
        let (every, foresight) = (self.settings.save_every, Arc::downgrade(self));
        tokio::spawn(async move {
            // At once, so that a file that cannot be written is told at the start.
            while let Some(foresight) = foresight.upgrade() {
                // A failure is warned about inside.
                let _ = tokio::task::spawn_blocking(move || foresight.save()).await;
                tokio::time::sleep(every).await;
            }
        });
    }

    /// Keeps what was learnt. A file that cannot be written is warned about and tried again.
    pub fn save(&self) {
        let Some(file) = &self.settings.file else { return };
        let text = self.model().save();
        let beside = written_first(file);
        // Renamed when whole: a gateway that dies while it writes leaves the old one.
        if let Err(why) = std::fs::write(&beside, text).and_then(|()| std::fs::rename(&beside, file)) {
            tracing::warn!(file = %file.display(), %why, "learnt latencies cannot be kept");
            // On a full disk what was written of it takes room. Not there is as good.
            let _ = std::fs::remove_file(&beside);
        }
    }
}

fn unix() -> f64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0.0, |since| since.as_secs_f64())
}

/// What one attempt will teach.
pub(crate) struct Lesson {
    foresight: Arc<Foresight>,
    backend: String,
    role: BackendRole,
    ask: Ask,
    usage: Option<Usage>,
}

impl std::fmt::Debug for Lesson {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Lesson").field("backend", &self.backend).field("ask", &self.ask).finish_non_exhaustive()
    }
}

impl Lesson {
    pub(crate) fn saw(&mut self, event: &Event) {
        if let Event::Usage(usage) = event {
            self.usage = Some(usage.clone());
        }
    }

    /// The answer is complete. One whose tokens nobody counted teaches nothing.
    pub(crate) fn finished(self, ttft: Duration, total: Duration) {
        let Some(usage) = self.usage else { return };
        let seen = Seen {
            ask: self.ask,
            ttft_s: ttft.as_secs_f64(),
            total_s: total.as_secs_f64(),
            prompt_tokens: usage.prompt_tokens,
            cached_tokens: usage.cached_tokens,
            completion_tokens: usage.completion_tokens,
            steps: usage.diffusion.as_ref().map(|stats| stats.steps),
        };
        self.foresight.model().seen(&self.backend, self.role, &seen, unix());
    }

    /// The attempt failed.
    pub(crate) fn failed(self, error: &EngineError) {
        if error.speaks_against_backend() {
            self.foresight.model().failed(&self.backend, unix());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::attempts::{AskingSettings, AttemptSettings};
    use weir_router_policies::classify::Family;

    fn facts() -> Vec<BackendFacts> {
        vec![BackendFacts {
            name: "gpu".into(),
            group: None,
            role: BackendRole::Ar,
            context_tokens: 4096,
            takes_images: false,
            takes_tools: true,
            honours_unsupported: true,
            local: true,
            bytes_per_token: 4.0,
        }]
    }

    fn ask() -> Ask {
        let (prompt_tokens, output_tokens) = (100, 20);
        Ask { family: Family::Chat, prompt_tokens, output_tokens, max_tokens: 0, continues: false, in_flight: 0 }
    }

    fn standing(name: &str) -> Arc<Standing> {
        Standing::new(name, &AskingSettings::default(), &AttemptSettings::default().standing)
    }

    fn taught(settings: ForesightSettings) -> Arc<Foresight> {
        let foresight = Foresight::new(settings, facts());
        for _ in 0..20 {
            let mut lesson = foresight.lesson(&standing("gpu"), &ask()).unwrap();
            let usage = Usage { prompt_tokens: 100, completion_tokens: 20, ..Usage::default() };
            lesson.saw(&Event::Usage(usage));
            lesson.finished(Duration::from_millis(50), Duration::from_millis(240));
        }
        foresight
    }

    #[test]
    fn attempts_teach_what_is_predicted() {
        let none = Foresight::new(ForesightSettings::default(), facts());
        assert!(none.predicted(&facts(), &ask(), |_| 0).is_empty(), "nothing was seen");
        assert!(none.lesson(&standing("stranger"), &ask()).is_none());
        let foresight = taught(ForesightSettings::default());
        let predicted = foresight.predicted(&facts(), &ask(), |_| 0);
        let [one] = predicted.as_slice() else { panic!("{predicted:?}") };
        assert!((40.0..70.0).contains(&one.ttft.expected_ms), "{one:?}");
        assert!((180.0..300.0).contains(&one.total.expected_ms), "{one:?}");
        assert_eq!(foresight.errors().len(), 1);
        for _ in 0..20 {
            let lesson = foresight.lesson(&standing("gpu"), &ask()).unwrap();
            lesson.failed(&EngineError::Upstream { status: 500, message: String::new(), retry_after: None });
        }
        assert!(foresight.predicted(&facts(), &ask(), |_| 0)[0].error_rate > 0.3);
    }

    #[test]
    fn nothing_is_said_of_a_backend_that_is_gone() {
        let before = taught(ForesightSettings::default());
        let other = BackendFacts { name: "other".into(), ..facts().remove(0) };
        let after = Foresight::new(ForesightSettings::default(), vec![other]).succeeding(&before);
        assert!(after.errors().is_empty());
        assert_eq!(before.errors().len(), 1);
    }

    #[test]
    fn what_was_learnt_is_kept_and_a_bad_file_is_left_alone() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("times.json");
        let settings = ForesightSettings { file: Some(file.clone()), ..ForesightSettings::default() };
        let foresight = taught(settings.clone());
        // As the gateway before a reload and the one after it do.
        std::thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| (0..50).for_each(|_| foresight.save()));
            }
            for _ in 0..50 {
                foresight.save();
                let whole = Foresight::new(settings.clone(), facts());
                assert_eq!(whole.predicted(&facts(), &ask(), |_| 0).len(), 1, "never half of it");
            }
        });
        assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 1, "nothing is left beside it");
        let again = Foresight::new(settings.clone(), facts());
        assert_eq!(again.predicted(&facts(), &ask(), |_| 0).len(), 1);
        std::fs::write(&file, "{\"version\":99}").unwrap();
        assert!(Foresight::new(settings.clone(), facts()).predicted(&facts(), &ask(), |_| 0).is_empty());
        std::fs::remove_file(&file).unwrap();
        assert!(Foresight::new(settings, facts()).errors().is_empty());
    }
}
