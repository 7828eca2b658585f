//! How much memory the request bodies in work take, and whose they are: by estimate, from a body's first bytes until its
//! request's answer has ended or was dropped. Must never let one tenant fill what is there for all, nor keep out a small
//! body because of large ones.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// What takes less is not counted: places bound it.
const SMALL: usize = 256 * 1024;
/// A body of fewer bytes takes less than that whatever it holds.
const TINY: usize = 2 * 1024;
/// Times a body's bytes are there: as they came, as values, as what was understood, and as they are sent on.
const COPIES: usize = 4;
/// Bytes that a JSON value, a key and an object take beside their text, as measured: a body of nothing but small objects
/// takes sixty times its size.
const VALUE: usize = 64;
const KEY: usize = 100;
const OBJECT: usize = 400;

/// What a body of this length takes at least.
pub(crate) fn least(length: usize) -> usize {
    length.saturating_mul(COPIES)
}

/// What this body takes once it is read as JSON. Counts what text may hold, too: that is cheap, and errs to the safe side.
pub(super) fn whole(body: &[u8]) -> usize {
    if body.len() <= TINY {
        return least(body.len());
    }
    // Sums of so many fit a byte, and unchecked ones are counted sixteen at once.
    let parts = body.chunks(240).map(|part| {
        let of =
            |wanted: u8| usize::from(part.iter().fold(0u8, |sum, byte| sum.wrapping_add((*byte == wanted).into())));
        VALUE * (of(b',') + of(b'[')) + KEY * of(b':') + OBJECT * of(b'{')
    });
    least(body.len()) + parts.sum::<usize>()
}

/// What is held. It outlives a config: a reload must not forget it.
#[derive(Debug, Default)]
pub struct Held(Mutex<Shares>);

#[derive(Debug, Default)]
struct Shares {
    all: usize,
    /// By tenant; none for those who hold nothing.
    of: HashMap<Option<Arc<str>>, usize>,
}

impl Held {
    /// Bytes held.
    pub fn bytes(&self) -> usize {
        self.shares().all
    }

    fn shares(&self) -> MutexGuard<'_, Shares> {
        // Each change is complete in itself, so what a panicking thread left is sound.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The memory there is for bodies.
#[derive(Clone)]
pub struct BodyMemory {
    held: Arc<Held>,
    all: usize,
    /// Of one tenant, beside its first body.
    share: usize,
}

/// Why a body finds no room.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Full {
    /// All together hold too much.
    All,
    /// Its tenant does.
    Tenant,
    /// It would not fit alone.
    Never,
}

impl BodyMemory {
    /// `bytes` of `held`; where there are several tenants, half of them at most for one.
    pub fn new(bytes: usize, tenants: usize, held: Arc<Held>) -> Self {
        let share = if tenants > 1 { bytes / 2 } else { bytes };
        BodyMemory { held, all: bytes, share }
    }

    /// A body of this tenant, of which nothing has come yet.
    pub(super) fn of(&self, tenant: Option<Arc<str>>) -> Hold {
        Hold { memory: self.clone(), tenant, bytes: 0 }
    }
}

/// The memory of one body; dropping it gives it back.
pub(super) struct Hold {
    memory: BodyMemory,
    tenant: Option<Arc<str>>,
    bytes: usize,
}

impl Hold {
    /// Whether it counts.
    pub(super) fn counts(&self) -> bool {
        self.bytes > 0
    }

    /// The body takes, or will take, `bytes`.
    ///
    /// # Errors
    /// There is no room for so many; what it had it keeps.
    pub(super) fn grow(&mut self, bytes: usize) -> Result<(), Full> {
        let more = bytes.saturating_sub(self.bytes);
        if more == 0 || bytes <= SMALL {
            return Ok(());
        }
        if bytes > self.memory.all {
            return Err(Full::Never);
        }
        let mut shares = self.memory.held.shares();
        if shares.all.saturating_add(more) > self.memory.all {
            return Err(Full::All);
        }
        let own = shares.of.get(&self.tenant).copied().unwrap_or_default();
        // One alone may be larger than a share.
        if own > self.bytes && own.saturating_add(more) > self.memory.share {
            return Err(Full::Tenant);
        }
        shares.all += more;
        *shares.of.entry(self.tenant.clone()).or_default() += more;
        self.bytes = bytes;
        Ok(())
    }
}

impl Drop for Hold {
    fn drop(&mut self) {
        if !self.counts() {
            return;
        }
        let mut shares = self.memory.held.shares();
        shares.all = shares.all.saturating_sub(self.bytes);
        if let Some(own) = shares.of.get_mut(&self.tenant) {
            *own = own.saturating_sub(self.bytes);
            if *own == 0 {
                shares.of.remove(&self.tenant);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Of what counts.
    const MB: usize = 1 << 20;

    fn hold(memory: &BodyMemory, tenant: &str, bytes: usize) -> Result<Hold, Full> {
        let mut hold = memory.of(Some(tenant.into()));
        hold.grow(bytes).map(|()| hold)
    }

    #[test]
    fn what_is_held_is_given_back() {
        let held = Arc::new(Held::default());
        let memory = BodyMemory::new(4 * MB, 0, Arc::clone(&held));
        let mut first = hold(&memory, "", 3 * MB).ok().unwrap();
        assert_eq!(hold(&memory, "", 2 * MB).err(), Some(Full::All));
        assert!(hold(&memory, "", SMALL).is_ok_and(|small| !small.counts()));
        assert_eq!(hold(&memory, "", 4 * MB + 1).err(), Some(Full::Never));
        assert_eq!((first.grow(4 * MB), first.grow(MB), held.bytes()), (Ok(()), Ok(()), 4 * MB));
        // Another config, and what the old one's requests hold.
        let smaller = BodyMemory::new(MB, 0, Arc::clone(&held));
        assert_eq!(hold(&smaller, "", MB).err(), Some(Full::All));
        drop(first);
        assert_eq!((held.bytes(), held.shares().of.len()), (0, 0));
        assert!(hold(&smaller, "", MB).is_ok());
    }

    #[test]
    fn one_tenant_leaves_room_for_the_others() {
        let held = Arc::new(Held::default());
        let memory = BodyMemory::new(4 * MB, 2, Arc::clone(&held));
        let mine = [hold(&memory, "a", MB).ok().unwrap(), hold(&memory, "a", MB).ok().unwrap()];
        assert_eq!(hold(&memory, "a", SMALL + 1).err(), Some(Full::Tenant));
        let other = hold(&memory, "b", MB);
        assert!(other.is_ok());
        drop((mine, other));
        assert!(hold(&memory, "a", 3 * MB).is_ok(), "a large one alone");
        assert_eq!(held.bytes(), 0);
    }

    #[test]
    fn many_small_parts_weigh_more_than_a_long_text() {
        let text = format!("[\"{}\"]", "x".repeat(8000));
        let parts = format!("[{}]", "{\"a\":0},".repeat(1000));
        assert_eq!(whole(text.as_bytes()), least(text.len()) + VALUE);
        assert_eq!(whole(parts.as_bytes()), least(parts.len()) + VALUE * 1001 + (KEY + OBJECT) * 1000);
    }
}
