//! Sizes, durations and CPU shares as people write them in configuration and specs.
//!
//! Sizes are 1024-based as in systemd (`512M`, `1G`), durations are `500ms`, `30s`, `1h 30m`, CPU quota is `150%` of one CPU.

use std::fmt;
use std::time::Duration;

/// Why a text is not a quantity. Display tells value and remedy apart by `: `.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{value:?} is not a {kind}")]
pub struct QuantityError {
    /// `size`, `duration` or `CPU quota`.
    pub kind: &'static str,
    /// What was given.
    pub value: String,
    /// How to write it.
    pub hint: &'static str,
}

/// A number of bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ByteSize(pub u64);

impl ByteSize {
    /// Parses `512M`, `1G`, `64K` or plain bytes; fractions such as `1.5G` are allowed.
    ///
    /// # Errors
    /// The text is no size, or is 0, or does not fit 64 bits.
    pub fn parse(text: &str) -> Result<Self, QuantityError> {
        let error = || QuantityError { kind: "size", value: text.into(), hint: "write 1G, 512M or a number of bytes" };
        let digits = text.trim_end_matches(|c: char| c.is_ascii_alphabetic());
        let shift = match &text[digits.len()..] {
            "" | "B" => 0,
            "K" => 10,
            "M" => 20,
            "G" => 30,
            "T" => 40,
            _ => return Err(error()),
        };
        let bytes = if digits.contains('.') {
            let number: f64 = parse_plain(digits).ok_or_else(error)?;
            let bytes = number * (1u64 << shift) as f64;
            if bytes >= u64::MAX as f64 { None } else { Some(bytes as u64) }
        } else {
            digits
                .parse::<u64>()
                .ok()
                .filter(|_| digits.starts_with(|c: char| c.is_ascii_digit()))
                .and_then(|n| n.checked_mul(1 << shift))
        };
        match bytes {
            Some(bytes) if bytes > 0 => Ok(Self(bytes)),
            _ => Err(error()),
        }
    }
}

impl fmt::Display for ByteSize {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (shift, unit) in [(40, "T"), (30, "G"), (20, "M"), (10, "K")] {
            if self.0 != 0 && self.0.trailing_zeros() >= shift {
                return write!(f, "{}{unit}", self.0 >> shift);
            }
        }
        write!(f, "{}", self.0)
    }
}

/// A share of CPU time, in percent of one CPU.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct CpuQuota(pub u32);

impl CpuQuota {
    /// Parses `150%`.
    ///
    /// # Errors
    /// The text is no whole, positive percentage.
    pub fn parse(text: &str) -> Result<Self, QuantityError> {
        text.strip_suffix('%')
            .filter(|digits| digits.bytes().all(|b| b.is_ascii_digit()))
            .and_then(|digits| digits.parse().ok())
            .filter(|percent| *percent > 0)
            .map(Self)
            .ok_or_else(|| QuantityError {
                kind: "CPU quota",
                value: text.into(),
                hint: "write a percentage of one CPU, such as 50% or 200%",
            })
    }
}

impl fmt::Display for CpuQuota {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}%", self.0)
    }
}

/// A duration for people: whole seconds from one second on, milliseconds below.
pub fn short_duration(duration: Duration) -> String {
    format_duration(match duration.as_secs() {
        0 => Duration::from_millis(duration.as_millis() as u64),
        seconds => Duration::from_secs(seconds),
    })
}

/// Parses `500ms`, `30s`, `1h 30m`, `0s`. A bare number is refused, as nobody can tell its unit.
///
/// # Errors
/// The text is no duration, or is longer than 100 years.
pub fn parse_duration(text: &str) -> Result<Duration, QuantityError> {
    let error = || QuantityError { kind: "duration", value: text.into(), hint: "write 500ms, 30s, 5m or 1h 30m" };
    let mut rest = text.trim();
    let mut total = 0f64;
    if rest.is_empty() {
        return Err(error());
    }
    while !rest.is_empty() {
        let number_end = rest.find(|c: char| !c.is_ascii_digit() && c != '.').ok_or_else(error)?;
        let number = parse_plain(&rest[..number_end]).ok_or_else(error)?;
        rest = rest[number_end..].trim_start();
        let unit_end = rest.find(|c: char| !c.is_ascii_alphabetic()).unwrap_or(rest.len());
        let seconds = match &rest[..unit_end] {
            "us" => 1e-6,
            "ms" => 1e-3,
            "s" | "sec" => 1.0,
            "m" | "min" => 60.0,
            "h" => 3600.0,
            "d" => 86_400.0,
            _ => return Err(error()),
        };
        total += number * seconds;
        rest = rest[unit_end..].trim_start();
    }
    if total > 100.0 * 366.0 * 86_400.0 {
        return Err(error());
    }
    Ok(Duration::from_micros((total * 1e6).round() as u64))
}

fn parse_plain(digits: &str) -> Option<f64> {
    let plain =
        digits.starts_with(|c: char| c.is_ascii_digit()) && digits.bytes().all(|b| b.is_ascii_digit() || b == b'.');
    plain.then(|| digits.parse().ok()).flatten()
}

/// Writes a duration the way `parse_duration` reads it: at most two units, the largest first.
pub fn format_duration(duration: Duration) -> String {
    let micros = duration.as_micros();
    if micros == 0 {
        return "0s".into();
    }
    if micros < 1000 {
        return format!("{micros}us");
    }
    if duration < Duration::from_secs(1) {
        return format!("{}ms", duration.as_millis());
    }
    if duration < Duration::from_secs(10) && duration.subsec_millis() != 0 {
        let text = format!("{:.3}", duration.as_secs_f64());
        return format!("{}s", text.trim_end_matches('0').trim_end_matches('.'));
    }
    let seconds = duration.as_secs();
    let units = [(86_400, "d"), (3600, "h"), (60, "m"), (1, "s")];
    let parts: Vec<String> = units
        .iter()
        .scan(seconds, |left, (size, unit)| {
            let count = *left / size;
            *left %= size;
            Some((count, unit))
        })
        .filter(|(count, _)| *count > 0)
        .take(2)
        .map(|(count, unit)| format!("{count}{unit}"))
        .collect();
    parts.join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_are_1024_based() {
        assert_eq!(ByteSize::parse("1K"), Ok(ByteSize(1024)));
        assert_eq!(ByteSize::parse("512M"), Ok(ByteSize(512 << 20)));
        assert_eq!(ByteSize::parse("1.5G"), Ok(ByteSize(3 << 29)));
        assert_eq!(ByteSize::parse("4096"), Ok(ByteSize(4096)));
        for bad in ["", "G", "1 gig", "-1G", "0", "1g", "99999999999T", "+5", "1e9", "1.2.3G"] {
            assert!(ByteSize::parse(bad).is_err(), "{bad}");
        }
        assert_eq!(ByteSize(512 << 20).to_string(), "512M");
    }

    #[test]
    fn durations_need_a_unit() {
        assert_eq!(parse_duration("500ms"), Ok(Duration::from_millis(500)));
        assert_eq!(parse_duration("1h 30m"), Ok(Duration::from_secs(5400)));
        assert_eq!(parse_duration("1h30m"), Ok(Duration::from_secs(5400)));
        assert_eq!(parse_duration("0s"), Ok(Duration::ZERO));
        for bad in ["", "30", "s", "30 parsecs", "-1s", "1s garbage", "9999999d"] {
            assert!(parse_duration(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn a_written_duration_reads_back() {
        for text in ["500ms", "30s", "1h 30m", "1.5s", "2d", "0s"] {
            let duration = parse_duration(text).unwrap();
            assert_eq!(parse_duration(&format_duration(duration)), Ok(duration), "{text}");
        }
        assert_eq!(format_duration(Duration::from_secs(5400)), "1h 30m");
    }

    #[test]
    fn cpu_quota_is_a_percentage() {
        assert_eq!(CpuQuota::parse("150%"), Ok(CpuQuota(150)));
        for bad in ["150", "%", "0%", "-5%", "1.5%", "+5%"] {
            assert!(CpuQuota::parse(bad).is_err(), "{bad}");
        }
    }
}
