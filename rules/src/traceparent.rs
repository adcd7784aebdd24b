//! Which span of which trace something belongs to, as W3C writes it: `00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01`.
//!
//! The form is that of [Trace Context](https://www.w3.org/TR/trace-context-2/#traceparent-header), versions above 00 are read as far as 00 goes.

use std::fmt;
use std::str::FromStr;

/// The flags that version 00 knows: sampled, and a trace id made by chance.
const KNOWN_FLAGS: u8 = 0b11;
/// The length of version 00.
const LENGTH: usize = 55;

/// A span, with the trace that it is a part of.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Traceparent {
    trace_id: u128,
    span_id: u64,
    flags: u8,
}

/// What isn't a traceparent; whoever receives one goes on as if there were none.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("not a traceparent")]
pub struct BadTraceparent;

impl Traceparent {
    /// A span by its numbers; `None` where one of them is 0, which names nothing. Of the flags those count that version 00 knows.
    #[must_use]
    pub fn new(trace_id: u128, span_id: u64, flags: u8) -> Option<Self> {
        (trace_id != 0 && span_id != 0).then_some(Self {
            trace_id,
            span_id,
            flags: flags & KNOWN_FLAGS,
        })
    }

    /// The trace.
    #[must_use]
    pub fn trace_id(&self) -> u128 {
        self.trace_id
    }

    /// The trace as traces and logs write it: 32 digits.
    #[must_use]
    pub fn trace_id_text(&self) -> String {
        format!("{:032x}", self.trace_id)
    }

    /// The span in it.
    #[must_use]
    pub fn span_id(&self) -> u64 {
        self.span_id
    }

    /// The flags; the lowest says that the trace is recorded.
    #[must_use]
    pub fn flags(&self) -> u8 {
        self.flags
    }

    /// Whether the trace is recorded.
    #[must_use]
    pub fn is_sampled(&self) -> bool {
        self.flags & 1 == 1
    }
}

impl FromStr for Traceparent {
    type Err = BadTraceparent;

    fn from_str(text: &str) -> Result<Self, BadTraceparent> {
        Self::read(text).ok_or(BadTraceparent)
    }
}

impl Traceparent {
    fn read(text: &str) -> Option<Self> {
        let (own, more) = text.split_at_checked(LENGTH)?;
        let mut parts = own.split('-');
        let version = hex(parts.next()?, 2)?;
        let trace_id = hex(parts.next()?, 32)?;
        let span_id = u64::try_from(hex(parts.next()?, 16)?).ok()?;
        let flags = u8::try_from(hex(parts.next()?, 2)?).ok()?;
        let is_known = match version {
            0 => more.is_empty(),
            0xff => false,
            _ => more.is_empty() || more.starts_with('-'),
        };
        if !is_known || parts.next().is_some() {
            return None;
        }
        Self::new(trace_id, span_id, flags)
    }
}

impl fmt::Display for Traceparent {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            trace_id,
            span_id,
            flags,
        } = self;
        write!(out, "00-{trace_id:032x}-{span_id:016x}-{flags:02x}")
    }
}

/// A number of so many digits, which must be lower case.
fn hex(digits: &str, length: usize) -> Option<u128> {
    let is_plain = |digit: u8| digit.is_ascii_digit() || (b'a'..=b'f').contains(&digit);
    if digits.len() != length || !digits.bytes().all(is_plain) {
        return None;
    }
    u128::from_str_radix(digits, 16).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    const GOOD: &str = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";

    #[test]
    fn a_good_one_is_read_and_written_as_it_was() {
        let read: Traceparent = GOOD.parse().expect("a good one");
        assert_eq!(read.to_string(), GOOD);
        assert!(read.is_sampled());
        assert_eq!(
            (read.trace_id(), read.span_id(), read.flags()),
            (
                0x4bf9_2f35_77b3_4da6_a3ce_929d_0e0e_4736,
                0x00f0_67aa_0ba9_02b7,
                1
            )
        );
    }

    #[test]
    fn one_of_a_later_version_is_read_as_far_as_it_is_known() {
        let rest = &GOOD[2..];
        for later in [format!("01{rest}"), format!("cc{rest}-what-is-new")] {
            let read: Traceparent = later.parse().expect("a later one");
            assert_eq!(read.to_string(), GOOD, "{later}");
        }
        let unknown_flags = GOOD.replace("-01", "-fd");
        let read: Traceparent = unknown_flags.parse().expect("one with more flags");
        assert_eq!(read.to_string(), GOOD);
    }

    #[test]
    fn what_is_no_traceparent_is_refused() {
        let (id, span) = (&GOOD[3..35], &GOOD[36..52]);
        for bad in [
            String::new(),
            "00".to_owned(),
            format!("ff-{id}-{span}-01"),
            format!("00-{}-{span}-01", "0".repeat(32)),
            format!("00-{id}-{}-01", "0".repeat(16)),
            format!("00-{}-{span}-01", id.to_uppercase()),
            format!("00-{id}-{span}-1"),
            format!("00-{id}-{span}-01-more"),
            format!("00-{id}-{span}-01 "),
            format!("01-{id}-{span}-01more"),
            format!("00-{id}_{span}-01"),
            format!("0g-{id}-{span}-01"),
            format!("00-{}é{span}-01", &id[..31]),
            format!("00-+{}-{span}-01", &id[1..]),
        ] {
            assert_eq!(bad.parse::<Traceparent>(), Err(BadTraceparent), "{bad}");
        }
    }
}
