//! Fresh ids of requests, answers and calls. The system is asked for the randomness of many at once: a call for each would
//! cost more than the id. Must never make a secret.

use std::cell::RefCell;

use ring::rand::{SecureRandom, SystemRandom};
use uuid::{Builder, Uuid};

const BYTES: usize = size_of::<uuid::Bytes>();
/// Ids made of one question to the system.
const AT_ONCE: usize = 32;

thread_local! {
    static UNUSED: RefCell<Vec<uuid::Bytes>> = const { RefCell::new(Vec::new()) };
}

/// A fresh one.
pub(crate) fn fresh() -> Uuid {
    let bytes = UNUSED.with_borrow_mut(|unused| {
        if unused.is_empty() {
            let mut random = [0; BYTES * AT_ONCE];
            // Without randomness there is none below either, and that says so.
            if SystemRandom::new().fill(&mut random).is_ok() {
                unused.extend(random.as_chunks().0);
            }
        }
        unused.pop()
    });
    bytes.map_or_else(Uuid::new_v4, |bytes| Builder::from_random_bytes(bytes).into_uuid())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_id_comes_twice() {
        let make = || (0..3 * AT_ONCE).map(|_| fresh()).collect::<Vec<_>>();
        let threads: Vec<_> = (0..4).map(|_| std::thread::spawn(make)).collect();
        let mut ids: Vec<Uuid> = threads.into_iter().flat_map(|thread| thread.join().unwrap()).collect();
        assert!(ids.iter().all(|id| id.get_version_num() == 4));
        let count = ids.len();
        ids.sort_unstable();
        ids.dedup();
        assert_eq!(ids.len(), count);
    }
}
