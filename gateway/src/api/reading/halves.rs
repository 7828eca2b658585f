//! Characters beyond 16 bits are two escapes in JSON, `\ud83d\ude00`. A client or server that cuts its texts by 16-bit
//! units writes one half alone, which no reader of JSON takes. Must never touch a pair, nor what is no escape.

/// What stands for a half whose other half is nowhere: U+FFFD.
const LOST: &str = "\\ufffd";
/// Of an escape such as `\ud83d`.
const ESCAPE_LEN: usize = 6;

/// The text with that in place of lone halves; `None`: there are none.
pub(crate) fn without(text: &str) -> Option<String> {
    mend(text, |_, mended| mended.push_str(LOST))
}

/// The halves of a stream's pieces: a server may cut a text between the two.
#[derive(Debug, Default)]
pub(crate) struct Halves {
    /// The first one, as it was written, until the other comes. One that stays alone is no character and dropped.
    first: Option<String>,
}

impl Halves {
    /// The next piece, so that each pair is in one.
    pub(crate) fn mend(&mut self, piece: String) -> String {
        if !piece.contains("\\u") {
            return piece;
        }
        let mended = mend(&piece, |half, mended| match (is_first(half), self.first.take()) {
            (true, _) => self.first = Some(format!("\\u{half:04x}")),
            (false, Some(first)) => mended.extend([first.as_str(), &format!("\\u{half:04x}")]),
            (false, None) => mended.push_str(LOST),
        });
        mended.unwrap_or(piece)
    }
}

/// The text with what `lone` makes of each lone half; `None`: there are none.
fn mend(text: &str, mut lone: impl FnMut(u16, &mut String)) -> Option<String> {
    let (mut mended, mut from, mut at) = (String::new(), 0, 0);
    while let Some(found) = text.as_bytes().get(at..).and_then(|rest| rest.iter().position(|byte| *byte == b'\\')) {
        let start = at + found;
        at = match escape(text, start) {
            Some(unit) if is_first(unit) && escape(text, start + ESCAPE_LEN).is_some_and(is_second) => {
                start + 2 * ESCAPE_LEN
            }
            Some(unit) if is_first(unit) || is_second(unit) => {
                mended.push_str(text.get(from..start)?);
                lone(unit, &mut mended);
                from = start + ESCAPE_LEN;
                from
            }
            Some(_) => start + ESCAPE_LEN,
            // Another escape: a backslash and one letter.
            None => start + 2,
        };
    }
    (from > 0).then(|| {
        mended.push_str(text.get(from..).unwrap_or_default());
        mended
    })
}

/// The unit that is escaped here.
fn escape(text: &str, at: usize) -> Option<u16> {
    let digits = text.get(at..at.checked_add(ESCAPE_LEN)?)?.strip_prefix("\\u")?;
    // `from_str_radix` takes a sign, too.
    digits.bytes().all(|byte| byte.is_ascii_hexdigit()).then(|| u16::from_str_radix(digits, 16).ok()).flatten()
}

fn is_first(unit: u16) -> bool {
    (0xd800..0xdc00).contains(&unit)
}

fn is_second(unit: u16) -> bool {
    (0xdc00..0xe000).contains(&unit)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lone_halves_are_replaced_and_all_else_stays() {
        for whole in [r#""a""#, r#""\ud83d\ude00 \ud55c \\ud83d \n""#, "\"\\", "\\u", "\\u+123", "é\\é"] {
            assert_eq!(without(whole), None, "{whole}");
        }
        assert_eq!(without(r#"{"é":"\ud83d"}"#).as_deref(), Some(r#"{"é":"\ufffd"}"#));
        assert_eq!(without(r"\uDE00\ud83d\ud83d\ude00\\\ud83d").as_deref(), Some(r"\ufffd\ufffd\ud83d\ude00\\\ufffd"));
    }

    #[test]
    fn halves_in_two_pieces_come_together() {
        let mut halves = Halves::default();
        let mut mend = |piece: &str| halves.mend(piece.to_owned());
        assert_eq!(mend(r#"{"t":"a\ud83d"}"#), r#"{"t":"a"}"#);
        assert_eq!(mend(r#"{"ping":1}"#), r#"{"ping":1}"#);
        assert_eq!(mend(r#"{"t":"\ude00b\ud83d\ude00"}"#), r#"{"t":"\ud83d\ude00b\ud83d\ude00"}"#);
        assert_eq!(mend(r#"{"t":"\ude00"}"#), r#"{"t":"\ufffd"}"#);
    }
}
