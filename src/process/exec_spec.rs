//! What the exec shim is told, and what it answers, as bytes on the socket between daemon and shim.
//!
//! Decides the shape only. It never passes through arguments or environment, as it holds secrets.
//! A request is a length (4 bytes, little endian) and records: a letter, the value, a zero byte.

use std::ffi::CString;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use crate::ground::user::Credentials;

/// Everything the shim needs.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct ExecSpec {
    /// Absolute path of the program.
    pub program: CString,
    /// Its arguments, its own name first.
    pub argv: Vec<CString>,
    /// `NAME=value`, the whole environment.
    pub env: Vec<CString>,
    /// Working directory.
    pub cwd: CString,
    /// User and groups to take.
    pub credentials: Option<Credentials>,
    /// Port of 127.0.0.1 to listen on and to hand over as descriptor 3.
    pub listen: Option<u16>,
}

/// Where in the shim something failed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub enum Stage {
    /// Nothing failed: exec follows.
    Ready = 1,
    /// Reading the request.
    Request = 2,
    /// Listening on the port.
    Listen = 3,
    /// Taking the groups or the user.
    User = 4,
    /// Entering the working directory.
    Directory = 5,
    /// Executing the program.
    Exec = 6,
}

impl Stage {
    /// Reads the byte on the wire.
    pub fn parse(byte: u8) -> Option<Self> {
        let all = [Self::Ready, Self::Request, Self::Listen, Self::User, Self::Directory, Self::Exec];
        all.into_iter().find(|stage| *stage as u8 == byte)
    }
}

impl ExecSpec {
    /// The request's bytes, its length first.
    pub fn encode(&self) -> Vec<u8> {
        let mut bytes = vec![0; 4];
        let mut put = |letter: u8, value: &[u8]| {
            bytes.push(letter);
            bytes.extend_from_slice(value);
            bytes.push(0);
        };
        put(b'p', self.program.as_bytes());
        put(b'd', self.cwd.as_bytes());
        self.argv.iter().for_each(|value| put(b'a', value.as_bytes()));
        self.env.iter().for_each(|value| put(b'e', value.as_bytes()));
        if let Some(credentials) = &self.credentials {
            put(b'u', credentials.uid.to_string().as_bytes());
            put(b'g', credentials.gid.to_string().as_bytes());
            credentials.groups.iter().for_each(|group| put(b's', group.to_string().as_bytes()));
        }
        self.listen.iter().for_each(|port| put(b'l', port.to_string().as_bytes()));
        let length = u32::try_from(bytes.len() - 4).unwrap_or(u32::MAX);
        bytes[..4].copy_from_slice(&length.to_le_bytes());
        bytes
    }

    /// Reads a request's records (without its length); `None` if they are damaged.
    pub fn decode(records: &[u8]) -> Option<Self> {
        let mut spec = Self::default();
        for record in records.strip_suffix(&[0])?.split(|byte| *byte == 0) {
            let (letter, value) = record.split_first()?;
            let text = || CString::new(value).ok();
            let number = || std::str::from_utf8(value).ok()?.parse::<u32>().ok();
            match letter {
                b'p' => spec.program = text()?,
                b'd' => spec.cwd = text()?,
                b'a' => spec.argv.push(text()?),
                b'e' => spec.env.push(text()?),
                b'u' => spec.credentials = Some(Credentials { uid: number()?, gid: 0, groups: Vec::new() }),
                b'g' => spec.credentials.as_mut()?.gid = number()?,
                b's' => spec.credentials.as_mut()?.groups.push(number()?),
                b'l' => spec.listen = Some(u16::try_from(number()?).ok()?),
                _ => return None,
            }
        }
        (!spec.program.is_empty()).then_some(spec)
    }
}

/// A path as the system wants it; `None` if it holds a zero byte.
pub fn c_path(path: &Path) -> Option<CString> {
    CString::new(path.as_os_str().as_bytes()).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_request_reads_back_as_written() {
        let spec = ExecSpec {
            program: c"/bin/sh".into(),
            argv: vec![c"sh".into(), c"".into(), c"a\nb".into()],
            env: vec![c"A=".into(), c"B=x=y".into()],
            cwd: c"/".into(),
            credentials: Some(Credentials { uid: 1, gid: 2, groups: vec![2, 3] }),
            listen: Some(8080),
        };
        let bytes = spec.encode();
        assert_eq!(bytes[..4], u32::try_from(bytes.len() - 4).unwrap().to_le_bytes());
        assert!(ExecSpec::decode(&bytes[4..]) == Some(spec));
        assert!(ExecSpec::decode(&bytes[4..bytes.len() - 1]).is_none());
        assert!(ExecSpec::decode(b"").is_none());
        assert!(ExecSpec::decode(b"z\0").is_none());
    }
}
