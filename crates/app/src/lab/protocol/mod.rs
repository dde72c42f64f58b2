//! The lab's protocols, both ends of each beside one another: `serve…` for the server host, the rest
//! for its clients.

use std::io;

use tokio::io::{AsyncRead, AsyncReadExt};

pub(crate) mod bulk;
pub(crate) mod dns;
pub(crate) mod http;
pub(crate) mod ssh;
pub(crate) mod tls;

/// What the other side did was not the protocol.
fn unexpected(what: &str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, what.to_owned())
}

/// Waits for the other side's close; anything before it is against the protocol.
async fn expect_close<S: AsyncRead + Unpin>(stream: &mut S) -> io::Result<()> {
    match stream.read(&mut [0; 1]).await? {
        0 => Ok(()),
        _ => Err(unexpected("the connection's end, and no more bytes")),
    }
}
