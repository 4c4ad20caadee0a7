//! A browser's WebSocket, as far as a test needs one: text in small frames.

use std::fs::File;
use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::os::fd::AsFd as _;
use std::time::{Duration, Instant};

/// How long the other side may say nothing before it is asked again.
const PATIENCE: Duration = Duration::from_secs(2);

/// Opens one from the network of the process `neighbour`, says `text` until an answer has `word`, and gives back that
/// answer; or what came instead.
pub fn ask(neighbour: u32, gateway: SocketAddr, head: &str, text: &str, word: &str) -> Result<String, String> {
    let network = File::open(format!("/proc/{neighbour}/ns/net")).unwrap();
    std::thread::scope(|scope| {
        let asking = scope.spawn(|| {
            // Only this thread moves.
            let kind = Some(rustix::thread::LinkNameSpaceType::Network);
            rustix::thread::move_into_link_name_space(network.as_fd(), kind).unwrap();
            talk(gateway, head, text, word)
        });
        asking.join().expect("a talk ends")
    })
}

fn talk(gateway: SocketAddr, head: &str, text: &str, word: &str) -> Result<String, String> {
    let failed = |what: &'static str| move |error: std::io::Error| format!("{what}: {error}");
    let mut stream = TcpStream::connect_timeout(&gateway, PATIENCE).map_err(failed("connect"))?;
    stream.set_read_timeout(Some(PATIENCE)).map_err(failed("set_read_timeout"))?;
    let request = format!(
        "GET {head}\r\nHost: localhost\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\n\
         Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
    );
    stream.write_all(request.as_bytes()).map_err(failed("send"))?;
    let mut come = Vec::new();
    let deadline = Instant::now() + PATIENCE * 10;
    let mut after = None;
    while Instant::now() < deadline {
        let Some(from) = after else {
            read_some(&mut stream, &mut come)?;
            after = come.windows(4).position(|end| end == b"\r\n\r\n").map(|at| at + 4);
            if after.is_some() && !come.starts_with(b"HTTP/1.1 101 ") {
                return Err(String::from_utf8_lossy(&come).into_owned());
            }
            continue;
        };
        stream.write_all(&frame(text)).map_err(failed("send"))?;
        read_some(&mut stream, &mut come)?;
        if let Some(found) = texts(&come[from..]).into_iter().find(|text| text.contains(word)) {
            return Ok(found);
        }
    }
    Err(String::from_utf8_lossy(&come).into_owned())
}

/// What is there within a moment; nothing is an answer too.
fn read_some(stream: &mut TcpStream, come: &mut Vec<u8>) -> Result<(), String> {
    let mut some = [0; 4096];
    match stream.read(&mut some) {
        Ok(0) => Err(format!("closed after {:?}", String::from_utf8_lossy(come))),
        Ok(length) => {
            come.extend_from_slice(&some[..length]);
            Ok(())
        }
        Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => Ok(()),
        Err(error) => Err(format!("receive: {error}")),
    }
}

/// A client's text in one frame. A mask of zeros leaves it as it is.
fn frame(text: &str) -> Vec<u8> {
    let length = u16::try_from(text.len()).expect("a short text");
    let [high, low] = length.to_be_bytes();
    [&[0x81, 0xfe, high, low, 0, 0, 0, 0], text.as_bytes()].concat()
}

/// The whole texts in what a server has sent.
fn texts(mut raw: &[u8]) -> Vec<String> {
    let mut found = Vec::new();
    while let [kind, length, rest @ ..] = raw {
        let (length, rest) = match (*length, rest) {
            (126, [high, low, rest @ ..]) => (usize::from(u16::from_be_bytes([*high, *low])), rest),
            (126.., _) => break,
            (short, rest) => (usize::from(short), rest),
        };
        if rest.len() < length {
            break;
        }
        if *kind == 0x81 {
            found.push(String::from_utf8_lossy(&rest[..length]).into_owned());
        }
        raw = &rest[length..];
    }
    found
}
