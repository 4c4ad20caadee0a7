//! Numbers and identifiers that order things: operations, sequence numbers, generations, runs.

use std::fmt;

/// Identifies an operation: 128 bits that sort by time of creation, written as 26 letters of Crockford's base 32 (a ULID).
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct OperationId(pub u128);

const CROCKFORD: &[u8; 32] = b"0123456789ABCDEFGHJKMNPQRSTVWXYZ";

impl OperationId {
    /// Joins milliseconds since 1970 and 80 random bits.
    pub fn from_parts(unix_ms: u64, random: u128) -> Self {
        let low = random & ((1 << 80) - 1);
        Self((u128::from(unix_ms) << 80) | low)
    }

    /// Parses the 26 letters; `None` if they are no ULID.
    pub fn parse(text: &str) -> Option<Self> {
        if text.len() != 26 || text.as_bytes()[0] > b'7' {
            return None;
        }
        text.bytes()
            .try_fold(0u128, |value, byte| {
                let digit = CROCKFORD.iter().position(|c| *c == byte.to_ascii_uppercase())?;
                Some((value << 5) | digit as u128)
            })
            .map(Self)
    }
}

impl fmt::Display for OperationId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let text: String = (0..26).rev().map(|i| char::from(CROCKFORD[(self.0 >> (5 * i)) as usize & 31])).collect();
        f.pad(&text)
    }
}

/// Order of commit at the entry. The highest accepted one of an app wins. 0 = none yet.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Seq(pub u64);

/// Number of a spec's version; the first is 1.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Generation(pub u64);

/// Fencing number of an entry's reign; grows with every promotion.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Epoch(pub u64);

/// Which daemon an entry is: made from its state directory and its machine. Cheap to clone.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct EntryId(std::sync::Arc<str>);

impl EntryId {
    /// Longest allowed, in bytes.
    pub const MAX: usize = 128;

    /// Accepts 1 to 128 printable ASCII characters without spaces and bars, which part what is signed.
    pub fn parse(text: &str) -> Option<Self> {
        let fits =
            (1..=Self::MAX).contains(&text.len()) && text.bytes().all(|byte| byte.is_ascii_graphic() && byte != b'|');
        fits.then(|| Self(text.into()))
    }

    /// The text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for EntryId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&self.0)
    }
}

/// The fencing token of orders: a worker follows the highest epoch it has seen, and in it the entry that came first.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Reign {
    /// Grows with every start of an entry.
    pub epoch: Epoch,
    /// Which entry.
    pub entry: EntryId,
}

macro_rules! number_display {
    ($($name:ident),*) => {$(
        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                fmt::Display::fmt(&self.0, f)
            }
        }
        impl $name {
            /// The number after this one.
            #[must_use]
            pub fn next(self) -> Self {
                Self(self.0 + 1)
            }
        }
    )*};
}
number_display!(Seq, Generation, Epoch);

/// One life of an app's process: the command that asked for it, and which attempt since then.
///
/// Every spawned process carries its run, so that what is heard of an earlier life is never taken for the present one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Run {
    /// Sequence number of the command that started it.
    pub seq: Seq,
    /// 0 for the first attempt, then one more for each automatic restart.
    pub attempt: u32,
}

impl fmt::Display for Run {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.seq, self.attempt)
    }
}

impl Run {
    /// Parses what `Display` writes.
    pub fn parse(text: &str) -> Option<Self> {
        let (seq, attempt) = text.split_once('.')?;
        Some(Self { seq: Seq(seq.parse().ok()?), attempt: attempt.parse().ok()? })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_operation_id_reads_back_as_written() {
        for value in [0, 1, u128::MAX, 0x0193_4af1_c0de_u128 << 80 | 77] {
            let id = OperationId(value);
            assert_eq!(OperationId::parse(&id.to_string()), Some(id));
        }
        assert_eq!(OperationId::parse("01K"), None);
        assert_eq!(OperationId::parse("8ZZZZZZZZZZZZZZZZZZZZZZZZZ"), None);
        assert_eq!(OperationId::parse("01KUUUUUUUUUUUUUUUUUUUUUUU"), None);
    }

    #[test]
    fn operation_ids_sort_by_time() {
        assert!(OperationId::from_parts(1, u128::MAX) < OperationId::from_parts(2, 0));
    }

    #[test]
    fn a_run_reads_back_as_written() {
        let run = Run { seq: Seq(12), attempt: 3 };
        assert_eq!(Run::parse(&run.to_string()), Some(run));
        assert_eq!(Run::parse("x.1"), None);
    }
}
