//! Settings that do nothing as they stand: without the one that switches them on, or behind one that always comes first. Must
//! never complain of what nobody typed.

use super::resolve::Checks;
use super::written::BackendWritten;

impl Checks<'_> {
    /// Settings of a section that do nothing without `switch`, which nobody typed. Who typed that it is off may keep them.
    fn idle(&mut self, section: &[&str], switch: &str, others: &[&str], help: &str) {
        let path = |key: &str| section.iter().chain([&key]).map(|part| (*part).to_owned()).collect::<Vec<_>>();
        if self.layered.is_typed(&path(switch)) {
            return;
        }
        for other in others.iter().map(|other| path(other)).filter(|other| self.layered.is_typed(other)) {
            let message = format!("does nothing without `{switch}` beside it");
            self.found.push(self.layered.diagnostic(&other, message, help));
        }
    }

    pub(super) fn idle_settings(&mut self) {
        let policy = "name one: a file or a profile";
        self.idle(&["policy", "shadow"], "policy", &["sample"], policy);
        let rails = ["share", "error_rise", "ttft_ratio", "invalid_rise", "min_requests"];
        self.idle(&["policy", "canary"], "policy", &rails, policy);
        self.idle(&["attempts"], "hedge", &["hedge_after_ms", "hedge_min_ms"], "set `hedge = true`");
        self.idle(&["request_log"], "enabled", &["file", "content"], "set `enabled = true`");
        let collector = "name the collector, like `http://127.0.0.1:4318`";
        self.idle(&["tracing", "otlp"], "endpoint", &["headers_env", "sample", "service"], collector);
    }

    /// How long a backend may take; a wait longer than the whole never ends one.
    pub(super) fn waits(&mut self, index: &str, typed: &BackendWritten) {
        self.at_least_one(&["backend", index, "total_timeout_ms"], typed.total_timeout_ms);
        let usual = BackendWritten::default();
        let waits = [
            ("connect_timeout_ms", typed.connect_timeout_ms, usual.connect_timeout_ms),
            ("headers_timeout_ms", typed.headers_timeout_ms, usual.headers_timeout_ms),
            ("first_content_timeout_ms", typed.first_content_timeout_ms, usual.first_content_timeout_ms),
            ("idle_timeout_ms", typed.idle_timeout_ms, usual.idle_timeout_ms),
        ];
        for (key, value, usual) in waits {
            let path = ["backend", index, key];
            self.at_least_one(&path, value);
            // The defaults, copied or not, are no mistake of who wants the whole to be shorter.
            if value != usual && value > typed.total_timeout_ms {
                let message = format!("never ends a wait: `total_timeout_ms` is {}", typed.total_timeout_ms);
                self.say(&path, message, "raise that, or lower this");
            }
        }
    }
}
