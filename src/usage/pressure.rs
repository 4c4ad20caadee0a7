//! Reads how much work waited for CPU, memory and I/O: the kernel's pressure stall information.

use std::fs;

/// Share of the last ten seconds, in percent, in which some task waited.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Pressure {
    /// For a CPU.
    pub cpu: f32,
    /// For memory.
    pub memory: f32,
    /// For I/O.
    pub io: f32,
}

impl Pressure {
    /// The host's present figures; none where the kernel keeps none (`psi=0`, or older than 4.20).
    pub(super) fn read() -> Option<Self> {
        let of = |name: &str| avg10(&fs::read_to_string(format!("/proc/pressure/{name}")).ok()?);
        Some(Self { cpu: of("cpu")?, memory: of("memory")?, io: of("io")? })
    }
}

/// The figure of the `some` line over ten seconds.
pub(super) fn avg10(text: &str) -> Option<f32> {
    let line = text.lines().find_map(|line| line.strip_prefix("some "))?;
    line.split(' ').find_map(|field| field.strip_prefix("avg10="))?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_average_of_the_some_line_is_taken() {
        let text = "some avg10=1.70 avg60=10.41 avg300=5.06 total=28\nfull avg10=9.00 avg60=0.00 avg300=0.00 total=0\n";
        assert_eq!(avg10(text), Some(1.7));
        assert_eq!(avg10("full avg10=9.00"), None);
        assert_eq!(avg10(""), None);
    }
}
