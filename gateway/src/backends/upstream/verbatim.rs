//! The upstream's own words beside the events they mean, where the caller speaks its dialect. The end is held back until
//! the answer is known to be complete. Must never pass on what was not read, nor read otherwise than it was passed on.

use weir_protocol::{Event, Verbatim};

use super::{Decoder, Shows};

/// Most bytes of pieces that mean nothing here before anything was said: they are kept until the first content.
const QUIET_MAX: usize = 256 * 1024;

/// Puts pieces beside their events.
#[derive(Debug)]
pub(super) struct Words {
    /// `None`: the caller does not speak this dialect, or something had to be mended.
    held: Option<Vec<String>>,
    /// Bytes of pieces that meant nothing.
    quiet: usize,
    /// Whether anything was said: from then on nothing is kept.
    spoken: bool,
}

impl Words {
    /// `pass`: whether the caller speaks the upstream's dialect.
    pub(super) fn new(pass: bool) -> Self {
        Words { held: pass.then(Vec::new), quiet: 0, spoken: false }
    }

    /// A piece was read as `events[from..]`; `None`: there was nothing more to read.
    pub(super) fn said(&mut self, piece: Option<String>, from: usize, decoder: &dyn Decoder, events: &mut Vec<Event>) {
        let Some(held) = &mut self.held else { return };
        let is_content = events.iter().skip(from).any(Event::is_content);
        self.spoken |= is_content;
        if !self.spoken && events.len() == from {
            self.quiet += piece.as_ref().map_or(0, String::len);
        }
        match (decoder.shows(), piece) {
            (shows, _) if shows == Shows::Mended || self.quiet > QUIET_MAX => return self.over(from, events),
            (Shows::Plain, Some(piece)) => held.push(decoder.reworded(&piece).unwrap_or(piece)),
            _ => {}
        }
        if is_content || decoder.has_ended() || !decoder.has_reason() {
            let words = held.drain(..).map(|piece| Event::Verbatim(Verbatim::Piece(piece)));
            events.splice(from..from, words);
        }
    }

    /// From `events[from..]` on they stand for themselves.
    pub(super) fn over(&mut self, from: usize, events: &mut Vec<Event>) {
        if self.held.take().is_some() {
            events.insert(from, Event::Verbatim(Verbatim::Over));
        }
    }

    /// The whole answer was read as `events[from..]`.
    pub(super) fn document(&mut self, text: Vec<u8>, from: usize, decoder: &dyn Decoder, events: &mut Vec<Event>) {
        if self.held.take().is_some()
            && decoder.shows() == Shows::Plain
            && let Ok(text) = String::from_utf8(text)
        {
            let text = decoder.reworded(&text).unwrap_or(text);
            events.insert(from, Event::Verbatim(Verbatim::Document(text)));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use weir_protocol::FinishReason;

    /// A decoder that has read so far.
    struct Read {
        shows: Shows,
        has_reason: bool,
        has_ended: bool,
    }

    impl Decoder for Read {
        fn take(&mut self, _: &str, _: &mut Vec<Event>) -> Result<(), weir_protocol::EngineError> {
            unreachable!("nothing is read here")
        }

        fn whole(&mut self, _: &[u8], _: &mut Vec<Event>) -> Result<(), weir_protocol::EngineError> {
            unreachable!("nothing is read here")
        }

        fn shows(&self) -> Shows {
            self.shows
        }

        fn answer(&self) -> &crate::backends::upstream::answer::Answer {
            unreachable!("it says itself how far it has come")
        }

        fn has_reason(&self) -> bool {
            self.has_reason
        }

        fn has_ended(&self) -> bool {
            self.has_ended
        }

        fn end(&mut self, _: &mut Vec<Event>) -> Result<(), weir_protocol::EngineError> {
            unreachable!("nothing is read here")
        }
    }

    const BEGUN: Read = Read { shows: Shows::Plain, has_reason: false, has_ended: false };
    const REASON: Read = Read { has_reason: true, ..BEGUN };
    const ENDED: Read = Read { has_ended: true, ..REASON };

    fn piece(text: &str) -> Event {
        Event::Verbatim(Verbatim::Piece(text.into()))
    }

    /// What becomes of a piece that was read as `events`.
    fn said(words: &mut Words, text: Option<&str>, read: &Read, mut events: Vec<Event>) -> Vec<Event> {
        words.said(text.map(str::to_owned), 0, read, &mut events);
        events
    }

    #[test]
    fn the_end_waits_until_the_answer_is_complete() {
        let mut words = Words::new(true);
        let text = || Event::TextDelta("a".into());
        let end = || Event::Finished { reason: FinishReason::Stop };
        assert_eq!(said(&mut words, Some("1"), &BEGUN, vec![text()]), [piece("1"), text()]);
        assert_eq!(said(&mut words, Some("2"), &REASON, vec![]), []);
        assert_eq!(said(&mut words, Some("3"), &REASON, vec![]), []);
        let done = Read { shows: Shows::Silent, ..ENDED };
        assert_eq!(said(&mut words, Some("[DONE]"), &done, vec![end()]), [piece("2"), piece("3"), end()]);
    }

    #[test]
    fn what_was_mended_ends_it() {
        let mut words = Words::new(true);
        let mended = Read { shows: Shows::Mended, ..BEGUN };
        assert_eq!(said(&mut words, Some("1"), &mended, vec![]), [Event::Verbatim(Verbatim::Over)]);
        assert_eq!(said(&mut words, Some("2"), &BEGUN, vec![]), []);
        assert_eq!(said(&mut Words::new(false), Some("1"), &BEGUN, vec![]), []);
    }

    #[test]
    fn nobody_can_make_us_hoard() {
        let mut words = Words::new(true);
        let long = "x".repeat(QUIET_MAX / 4);
        let told: Vec<Event> = (0..99).flat_map(|_| said(&mut words, Some(&long), &BEGUN, vec![])).collect();
        let pieces = || std::iter::repeat_n(piece(&long), 4);
        // It is said so: what follows stands for itself.
        assert_eq!(told, pieces().chain([Event::Verbatim(Verbatim::Over)]).collect::<Vec<_>>());
        let mut words = Words::new(true);
        assert_eq!(said(&mut words, Some("1"), &BEGUN, vec![Event::Foreign]), [piece("1"), Event::Foreign]);
        let told: Vec<Event> = (0..99).flat_map(|_| said(&mut words, Some(&long), &BEGUN, vec![])).collect();
        assert_eq!(told.len(), 99, "an answer under way loses nothing");
    }
}
