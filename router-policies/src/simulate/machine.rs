//! Machines whose servers share them. Whatever is in work on a machine goes on at once, slower the more there is: by what
//! a server says of its own requests, and by the processor once more is asked of it than it has. Each server has a clock
//! that counts seconds of undisturbed work, so that a change of pace is one multiplication and not one for each request.
//! Must never draw, and must never know what its marks are for.

use std::cmp::Reverse;
use std::collections::BinaryHeap;

/// What a request comes to when so much of it is done.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Mark {
    pub(super) request: u32,
    /// The attempt's; one that was given up has another by then.
    pub(super) ticket: u64,
    pub(super) what: Reached,
}

/// See [`Mark`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Reached {
    FirstContent,
    End,
    Failure,
}

/// Where a server is: its machine, and which of the machine's servers it is.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Seat {
    pub(super) machine: usize,
    member: usize,
}

/// A server, as its machine sees it.
#[derive(Debug)]
struct Member {
    /// What each other request on the server adds, as a share.
    slowdown: f64,
    /// What a request takes of the processor.
    demand: f64,
    running: u32,
    /// Seconds of undisturbed work that each of its requests could have done.
    clock: f64,
    /// By the clock, as bits: of numbers that are not negative they have the numbers' order.
    due: BinaryHeap<Reverse<(u64, u64, Mark)>>,
}

/// See the module.
#[derive(Debug)]
pub(super) struct Machine {
    capacity: f64,
    members: Vec<Member>,
    /// The member whose mark comes next.
    next: usize,
    /// Which of the moments told is the last: earlier ones are void.
    generation: u64,
    made: u64,
    at: f64,
    /// Seconds of the processor that were used.
    pub(super) used: f64,
}

impl Machine {
    /// `capacity`: what it has for requests, in their `demand`; infinite where nothing is shared.
    pub(super) fn new(capacity: f64) -> Self {
        Machine { capacity, members: Vec::new(), next: 0, generation: 0, made: 0, at: 0.0, used: 0.0 }
    }

    /// One more server on it, the `machine`-th of all.
    pub(super) fn seat(&mut self, machine: usize, slowdown: f64, demand: f64) -> Seat {
        self.members.push(Member { slowdown, demand, running: 0, clock: 0.0, due: BinaryHeap::new() });
        Seat { machine, member: self.members.len() - 1 }
    }

    fn demand(&self) -> f64 {
        self.members.iter().map(|member| member.demand * f64::from(member.running)).sum()
    }

    /// How quickly work goes on at a member, 1 being undisturbed.
    fn pace(&self, member: &Member, demand: f64) -> f64 {
        let share = if demand > self.capacity { self.capacity / demand } else { 1.0 };
        share / (1.0 + member.slowdown * f64::from(member.running.saturating_sub(1)))
    }

    fn advance(&mut self, now: f64) {
        let passed = (now - self.at).max(0.0);
        self.at = self.at.max(now);
        if passed == 0.0 {
            return;
        }
        let demand = self.demand();
        self.used += passed * demand.min(self.capacity);
        for at in 0..self.members.len() {
            let pace = self.pace(&self.members[at], demand);
            if self.members[at].running > 0 {
                self.members[at].clock += passed * pace;
            }
        }
    }

    /// A request begins.
    pub(super) fn begins(&mut self, seat: Seat, now: f64) {
        self.advance(now);
        self.members[seat.member].running += 1;
    }

    /// A request is over, or given up.
    pub(super) fn leaves(&mut self, seat: Seat, now: f64) {
        self.advance(now);
        let member = &mut self.members[seat.member];
        member.running = member.running.saturating_sub(1);
    }

    /// After so many seconds of undisturbed work from now on `mark` is reached.
    pub(super) fn due(&mut self, seat: Seat, work: f64, mark: Mark, now: f64) {
        self.advance(now);
        self.made += 1;
        let member = &mut self.members[seat.member];
        member.due.push(Reverse(((member.clock + work.max(0.0)).to_bits(), self.made, mark)));
    }

    /// When the next mark is reached if nothing changes before, and the word by which [`Self::reached`] knows that
    /// nothing did. Marks that are not `alive` any more are dropped.
    pub(super) fn next(&mut self, alive: impl Fn(&Mark) -> bool, now: f64) -> Option<(f64, u64)> {
        self.advance(now);
        self.generation += 1;
        let demand = self.demand();
        let mut first: Option<(f64, usize)> = None;
        for at in 0..self.members.len() {
            while let Some(Reverse((clock, _, mark))) = self.members[at].due.peek() {
                if !alive(mark) {
                    self.members[at].due.pop();
                    continue;
                }
                let member = &self.members[at];
                let wait = (f64::from_bits(*clock) - member.clock).max(0.0) / self.pace(member, demand);
                if first.is_none_or(|(least, _)| wait < least) {
                    first = Some((wait, at));
                }
                break;
            }
        }
        let (wait, at) = first?;
        self.next = at;
        Some((self.at + wait, self.generation))
    }

    /// The mark reached at the moment told with this word; `None` if something changed since.
    pub(super) fn reached(&mut self, generation: u64, now: f64) -> Option<Mark> {
        if generation != self.generation {
            return None;
        }
        self.advance(now);
        let member = self.members.get_mut(self.next)?;
        let Reverse((clock, _, mark)) = member.due.pop()?;
        member.clock = member.clock.max(f64::from_bits(clock));
        Some(mark)
    }
}
