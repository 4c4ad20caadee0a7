//! Connects to an instance's address.

use std::io;

use nbs_core::launch::Address;
use tokio::net::{TcpStream, UnixStream};

use super::words;

/// A connection to an instance.
pub enum Connection {
    /// Over 127.0.0.1.
    Tcp(TcpStream),
    /// Over a unix socket.
    Unix(UnixStream),
}

/// Connects.
///
/// # Errors
/// Why it cannot, in words.
pub async fn connect(address: Option<&Address>) -> Result<Connection, String> {
    let connected = match address {
        None => return Err("it listens nowhere, so nothing can be asked".to_string()),
        Some(Address::Port(port)) => connect_port(*port).await.map(Connection::Tcp),
        Some(Address::Unix(path)) => UnixStream::connect(path).await.map(Connection::Unix),
    };
    connected.map_err(|error| words::of_io(&error))
}

async fn connect_port(port: u16) -> io::Result<TcpStream> {
    let stream = TcpStream::connect(("127.0.0.1", port)).await?;
    // While nobody listens, the kernel may give us the wanted port as our own and connect us to ourselves. That is no
    // answer of the app, and it would keep the app from binding: closed by a reset, so that nothing lingers.
    if stream.local_addr()? == stream.peer_addr()? {
        stream.set_zero_linger()?;
        return Err(io::ErrorKind::ConnectionRefused.into());
    }
    Ok(stream)
}
