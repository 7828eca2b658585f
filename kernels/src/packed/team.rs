//! The threads that share a product: a fixed number, started once, each with its own scratch memory. A section is cut
//! into parts, taken by whoever is free, so that a disturbed thread does not hold up the rest: the caller takes them from
//! the front, the others from the back, so that a thread meets the same parts in one section after the other, finds in
//! its own cache what it wrote, and knows which part it will take next. Must never wait while it holds nothing to do,
//! and never allocate once its scratch has grown.

use std::cell::UnsafeCell;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::{Duration, Instant};

use crate::route::RouteScratch;

use super::alone::Alone;
use super::cores::{self, NotPinned};
use super::experts::Visits;
use super::inputs::Inputs;

/// How long a thread looks for the next section before it sleeps: sections of one forward follow each other within
/// microseconds.
const SPIN: Duration = Duration::from_micros(200);

/// A thread's own memory, kept from section to section.
#[derive(Debug, Default)]
pub struct ThreadScratch {
    floats: Vec<f32>,
    more: Vec<f32>,
    third: Vec<f32>,
    fourth: Vec<f32>,
    /// The part that the thread is likely to take next, if there is one of this number.
    pub(super) next: usize,
    pub(super) inputs: Inputs,
    /// For products of this thread's own rows.
    pub alone: Alone,
    /// Rows side by side, and what becomes of them.
    pub gathered: Vec<f32>,
    /// For choosing experts.
    pub route: RouteScratch,
    /// For those who visit them.
    pub visits: Visits,
}

impl ThreadScratch {
    /// Where `strips`, cut into `parts`, are gone on with: the first strip of the part that the thread is likely to take
    /// next; `strips` where there is none.
    pub(super) fn next_start(&self, strips: usize, parts: usize) -> usize {
        if self.next < parts { strips * self.next / parts } else { strips }
    }

    /// `length` floats that hold anything.
    pub fn floats(&mut self, length: usize) -> &mut [f32] {
        grown(&mut self.floats, length)
    }

    /// Such buffers, as many as there are lengths, and no more than four.
    pub fn buffers<const N: usize>(&mut self, lengths: [usize; N]) -> [&mut [f32]; N] {
        const { assert!(N <= 4, "there are four") };
        let ThreadScratch { floats, more, third, fourth, .. } = self;
        let mut all = [floats, more, third, fourth].into_iter();
        lengths.map(|length| all.next().map_or(&mut [][..], |buffer| grown(buffer, length)))
    }

    /// Two such buffers, and the gathered activations.
    pub(super) fn all(&mut self, length: usize) -> (&mut [f32], &mut [f32], &mut Inputs) {
        (grown(&mut self.floats, length), grown(&mut self.more, length), &mut self.inputs)
    }
}

fn grown(floats: &mut Vec<f32>, length: usize) -> &mut [f32] {
    if floats.len() < length {
        floats.resize(length, 0.0);
    }
    floats.get_mut(..length).unwrap_or_default()
}

/// A section's body, its lifetime forgotten; the section does not return while a thread is inside.
type Body = *const (dyn Fn(usize, &mut ThreadScratch) + Sync);

struct Section {
    body: Body,
    parts: usize,
    /// Who may take parts.
    threads: usize,
}

/// What threads write at once lies in lines of its own.
#[repr(align(128))]
struct Line(AtomicUsize);

struct Common {
    /// Counts sections.
    round: Line,
    section: UnsafeCell<Option<Section>>,
    /// Parts taken, and those from the back.
    taken: Line,
    taken_back: Line,
    /// Whether there is a section that helpers may enter.
    open: AtomicBool,
    /// Helpers in it. One that was not awake in time is not waited for.
    inside: AtomicUsize,
    panicked: AtomicBool,
    closed: AtomicBool,
    sleepers: Mutex<usize>,
    wake: Condvar,
}

// SAFETY: `section` is written while it is not open and nobody is inside, and read by who is inside and then saw it open.
unsafe impl Sync for Common {}
// SAFETY: the raw pointer inside is used within one section only.
unsafe impl Send for Common {}

/// A team of threads, the caller being one of them. One section runs at a time; a second caller works alone meanwhile.
pub struct Team {
    common: Arc<Common>,
    threads: usize,
    own: Mutex<ThreadScratch>,
    helpers: Vec<std::thread::JoinHandle<()>>,
    on_cores: bool,
}

/// The one that everybody in this process shares.
static SHARED: OnceLock<Team> = OnceLock::new();

impl std::fmt::Debug for Team {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Team").field("threads", &self.threads).finish_non_exhaustive()
    }
}

impl Team {
    /// A team of `threads`, at least the caller. Where the system refuses a thread there are fewer.
    pub fn new(threads: usize) -> Team {
        Team::start(threads, |_| ())
    }

    /// A team whose helpers each stay on a core of their own; the first is left to the callers.
    ///
    /// # Errors
    /// They cannot.
    pub fn on_cores(threads: usize) -> Result<Team, NotPinned> {
        let cores = cores::for_each_of(threads)?;
        let (tell, told) = std::sync::mpsc::channel();
        let mut team = Team::start(threads, move |index| {
            let put = cores.get(index).map_or(Ok(()), |core| cores::stay_on(*core));
            // Who asked waits for it.
            let _ = tell.send(put);
        });
        told.iter().take(team.helpers.len()).collect::<Result<(), _>>()?;
        team.on_cores = true;
        Ok(team)
    }

    /// `begin` is what a helper does first, given its index from 1.
    fn start(threads: usize, begin: impl Fn(usize) + Clone + Send + 'static) -> Team {
        let common = Arc::new(Common {
            round: Line(AtomicUsize::new(0)),
            section: UnsafeCell::new(None),
            taken: Line(AtomicUsize::new(0)),
            taken_back: Line(AtomicUsize::new(0)),
            open: AtomicBool::new(false),
            inside: AtomicUsize::new(0),
            panicked: AtomicBool::new(false),
            closed: AtomicBool::new(false),
            sleepers: Mutex::new(0),
            wake: Condvar::new(),
        });
        let mut helpers = Vec::new();
        for index in 1..threads {
            let (common, begin) = (Arc::clone(&common), begin.clone());
            let named = std::thread::Builder::new().name(format!("weir-kernel-{index}"));
            let life = move || {
                begin(index);
                help(&common);
            };
            match named.spawn(life) {
                Ok(helper) => helpers.push(helper),
                Err(_) => break,
            }
        }
        Team { common, threads: 1 + helpers.len(), own: Mutex::default(), helpers, on_cores: false }
    }

    /// Threads that this process may use at once.
    pub fn most_threads() -> usize {
        std::thread::available_parallelism().map_or(1, std::num::NonZero::get)
    }

    /// The team that everybody in this process shares, as many threads as it may use; they sleep while nobody asks.
    pub fn shared() -> &'static Team {
        SHARED.get_or_init(|| Team::new(Team::most_threads()))
    }

    /// [`Team::shared`], its helpers on cores of their own; before anybody else asks for it.
    ///
    /// # Errors
    /// They cannot be, and are not.
    pub fn shared_on_cores() -> Result<&'static Team, NotPinned> {
        let mut refused = None;
        let team = SHARED.get_or_init(|| {
            Team::on_cores(Team::most_threads()).unwrap_or_else(|why| {
                refused = Some(why);
                Team::new(Team::most_threads())
            })
        });
        match refused {
            Some(why) => Err(why),
            None if team.on_cores => Ok(team),
            None => Err(NotPinned::Late),
        }
    }

    /// How many threads work, the caller included.
    pub fn threads(&self) -> usize {
        self.threads
    }

    /// Wakes threads that sleep, for a section that will come within microseconds: they look for it until then.
    pub fn wake(&self) {
        let sleepers = sleepers(&self.common);
        if *sleepers > 0 {
            self.common.round.0.fetch_add(1, Ordering::SeqCst);
            drop(sleepers);
            self.common.wake.notify_all();
        }
    }

    /// Runs `body(part, scratch)` for every part below `parts`, and returns when all are done.
    ///
    /// # Panics
    /// When `body` does.
    pub(super) fn run(&self, parts: usize, body: impl Fn(usize, &mut ThreadScratch) + Sync) {
        let mut own = match self.own.try_lock() {
            Ok(own) => own,
            Err(std::sync::TryLockError::Poisoned(poisoned)) => poisoned.into_inner(),
            Err(std::sync::TryLockError::WouldBlock) => {
                return alone(parts, &body, &mut ThreadScratch::default());
            }
        };
        if self.helpers.is_empty() || parts <= 1 {
            return alone(parts, &body, &mut own);
        }
        self.share(parts, &body, &mut own);
    }

    fn share(&self, parts: usize, body: &(dyn Fn(usize, &mut ThreadScratch) + Sync), own: &mut ThreadScratch) {
        let common = &*self.common;
        // SAFETY: only the lifetime is changed; this function does not return while a helper is inside.
        let body: Body = unsafe { std::mem::transmute(std::ptr::from_ref(body)) };
        // SAFETY: not open and nobody inside: the last section waited for that, and there is one at a time (`own` is locked).
        unsafe { *common.section.get() = Some(Section { body, parts, threads: self.threads }) };
        common.taken.0.store(0, Ordering::Relaxed);
        common.taken_back.0.store(0, Ordering::Relaxed);
        common.open.store(true, Ordering::SeqCst);
        common.round.0.fetch_add(1, Ordering::SeqCst);
        if *sleepers(common) > 0 {
            common.wake.notify_all();
        }
        let mine = catch_unwind(AssertUnwindSafe(|| common.work(own, true)));
        // All parts are taken. Who took one is inside; who comes in now finds it closed.
        common.open.store(false, Ordering::SeqCst);
        let mut looks = 0u32;
        while common.inside.load(Ordering::SeqCst) > 0 {
            looks = looks.wrapping_add(1);
            if looks.is_multiple_of(4096) {
                std::thread::yield_now();
            } else {
                std::hint::spin_loop();
            }
        }
        let theirs = common.panicked.swap(false, Ordering::SeqCst);
        if let Err(panic) = mine {
            std::panic::resume_unwind(panic);
        }
        assert!(!theirs, "a kernel thread panicked");
    }
}

impl Drop for Team {
    fn drop(&mut self) {
        self.common.closed.store(true, Ordering::SeqCst);
        self.common.round.0.fetch_add(1, Ordering::SeqCst);
        drop(sleepers(&self.common));
        self.common.wake.notify_all();
        for helper in self.helpers.drain(..) {
            // A helper that panicked has said so.
            let _ = helper.join();
        }
    }
}

impl Common {
    /// Takes parts until there is none left.
    fn work(&self, scratch: &mut ThreadScratch, is_caller: bool) {
        // SAFETY: written before it was opened, not changed while a thread is inside.
        let Some(section) = (unsafe { &*self.section.get() }) else { return };
        // SAFETY: the section's caller waits until every thread is done.
        let body = unsafe { &*section.body };
        let mut front = 0;
        loop {
            let taken = self.taken.0.fetch_add(1, Ordering::Relaxed);
            if taken >= section.parts {
                return;
            }
            // As many are taken from both ends together as were counted, so the ends do not meet.
            let (part, next) = if is_caller {
                (front, front + 1)
            } else {
                let part = section.parts - 1 - self.taken_back.0.fetch_add(1, Ordering::Relaxed);
                (part, part.wrapping_sub(section.threads - 1))
            };
            front += 1;
            scratch.next = next;
            body(part, scratch);
        }
    }
}

/// All parts by one thread.
fn alone(parts: usize, body: &impl Fn(usize, &mut ThreadScratch), scratch: &mut ThreadScratch) {
    for part in 0..parts {
        scratch.next = part + 1;
        body(part, scratch);
    }
}

/// A helper's life.
fn help(common: &Common) {
    let mut scratch = ThreadScratch::default();
    let mut seen = 0;
    loop {
        wait(common, seen);
        seen = common.round.0.load(Ordering::SeqCst);
        if common.closed.load(Ordering::SeqCst) {
            return;
        }
        common.inside.fetch_add(1, Ordering::SeqCst);
        if common.open.load(Ordering::SeqCst)
            && catch_unwind(AssertUnwindSafe(|| common.work(&mut scratch, false))).is_err()
        {
            common.panicked.store(true, Ordering::SeqCst);
        }
        common.inside.fetch_sub(1, Ordering::SeqCst);
    }
}

/// Until the round is another than `seen`: looking for a while, then asleep.
fn wait(common: &Common, seen: usize) {
    let began = Instant::now();
    let mut looks = 0u32;
    while common.round.0.load(Ordering::SeqCst) == seen {
        std::hint::spin_loop();
        looks = looks.wrapping_add(1);
        if looks.is_multiple_of(64) && began.elapsed() > SPIN {
            let mut sleepers = sleepers(common);
            *sleepers += 1;
            while common.round.0.load(Ordering::SeqCst) == seen {
                sleepers = common.wake.wait(sleepers).unwrap_or_else(PoisonError::into_inner);
            }
            *sleepers -= 1;
            return;
        }
    }
}

/// The lock holds a number only; a panic cannot leave it half changed.
fn sleepers(common: &Common) -> MutexGuard<'_, usize> {
    common.sleepers.lock().unwrap_or_else(PoisonError::into_inner)
}
