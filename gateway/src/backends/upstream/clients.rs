//! The clients of one upstream: each thread that serves connections has its own, so that the connections to the upstream
//! are driven where their answers go. Must never keep a request waiting for a client: where none can be had, the first does.

use std::sync::OnceLock;

use reqwest::Client;

use crate::config::BackendSettings;
use crate::threads::{PLACES, place};

/// See the module.
pub(super) struct Clients {
    first: Client,
    own: [OnceLock<Client>; PLACES],
}

impl Clients {
    /// With the first of them; the others come when they are needed.
    ///
    /// # Errors
    /// As [`super::client`].
    pub(super) fn new(settings: &BackendSettings) -> Result<Self, reqwest::Error> {
        Ok(Clients { first: super::client(settings)?, own: [const { OnceLock::new() }; PLACES] })
    }

    /// The caller's thread's own.
    pub(super) fn own(&self, settings: &BackendSettings) -> &Client {
        let own = self.own.get(place()).filter(|_| place() > 0);
        own.map_or(&self.first, |own| {
            own.get_or_init(|| super::client(settings).unwrap_or_else(|_| self.first.clone()))
        })
    }
}
