//! `/ws`: sends back each message. RFC 6455, sections 4.2 and 5.

use std::io;
use std::time::Duration;

use base64::Engine;
use hyper::body::Incoming;
use hyper::header::{CONNECTION, HeaderValue, UPGRADE};
use hyper::{Request, Response, StatusCode};
use hyper_util::rt::TokioIo;
use sha1::{Digest, Sha1};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::time::timeout;

use super::body::SimBody;
use super::serve::{insert, said};

/// Largest frame taken.
const FRAME_BYTES_MAX: u64 = 1024 * 1024;
/// Longest silence of a client.
const IDLE_MAX: Duration = Duration::from_secs(300);
/// RFC 6455, section 1.3.
const GUID: &str = "258EAFA5-E914-47DA-95CA-C5AB0DC85B11";

const CLOSE: u8 = 8;
const PING: u8 = 9;
const PONG: u8 = 10;
const FINAL: u8 = 0x80;

pub(crate) fn upgrade(mut request: Request<Incoming>) -> Response<SimBody> {
    let header = |name: &str| {
        request
            .headers()
            .get(name)
            .and_then(|value| value.to_str().ok())
            .unwrap_or_default()
    };
    let (key, version) = (header("sec-websocket-key"), header("sec-websocket-version"));
    if !header("upgrade").eq_ignore_ascii_case("websocket") || key.is_empty() || version != "13" {
        let mut response = said(
            StatusCode::UPGRADE_REQUIRED,
            "expected a WebSocket handshake of version 13",
        );
        insert(response.headers_mut(), "sec-websocket-version", "13");
        return response;
    }
    let digest = Sha1::new().chain_update(key).chain_update(GUID).finalize();
    let accept = base64::engine::general_purpose::STANDARD.encode(digest);
    // The first of those offered: the echo speaks any.
    let protocol = header("sec-websocket-protocol")
        .split(',')
        .next()
        .unwrap_or_default()
        .trim()
        .to_owned();
    let mut response = Response::new(SimBody::empty());
    *response.status_mut() = StatusCode::SWITCHING_PROTOCOLS;
    let headers = response.headers_mut();
    headers.insert(CONNECTION, HeaderValue::from_static("Upgrade"));
    headers.insert(UPGRADE, HeaderValue::from_static("websocket"));
    insert(headers, "sec-websocket-accept", &accept);
    if !protocol.is_empty() {
        insert(headers, "sec-websocket-protocol", &protocol);
    }
    tokio::spawn(async move {
        if let Ok(upgraded) = hyper::upgrade::on(&mut request).await {
            // A client that leaves without a close frame is no matter here.
            let _ = echo(&mut TokioIo::new(upgraded)).await;
        }
    });
    response
}

async fn echo<S: AsyncRead + AsyncWrite + Unpin>(stream: &mut S) -> io::Result<()> {
    loop {
        let frame = timeout(IDLE_MAX, read(stream))
            .await
            .map_err(|_| io::ErrorKind::TimedOut)??;
        match frame {
            Frame::Bad(code) => {
                write(stream, FINAL | CLOSE, &code.to_be_bytes()).await?;
                return stream.shutdown().await;
            }
            Frame::Good(first, payload) => match first & 0x0f {
                CLOSE => {
                    write(stream, FINAL | CLOSE, &payload).await?;
                    return stream.shutdown().await;
                }
                PING => write(stream, FINAL | PONG, &payload).await?,
                PONG => {}
                // Text, binary and what continues them: frame by frame, as they came.
                _ => write(stream, first, &payload).await?,
            },
        }
    }
}

enum Frame {
    /// The first byte, and the payload without its mask.
    Good(u8, Vec<u8>),
    /// The code to close with.
    Bad(u16),
}

async fn read<S: AsyncRead + Unpin>(stream: &mut S) -> io::Result<Frame> {
    let mut head = [0; 2];
    stream.read_exact(&mut head).await?;
    let [first, second] = head;
    let is_masked = second & 0x80 != 0;
    let is_known = matches!(first & 0x0f, 0..=2 | CLOSE | PING | PONG);
    if !is_masked || !is_known || first & 0x70 != 0 {
        return Ok(Frame::Bad(1002));
    }
    let length = match second & 0x7f {
        126 => u64::from(stream.read_u16().await?),
        127 => stream.read_u64().await?,
        length => u64::from(length),
    };
    if length > FRAME_BYTES_MAX {
        return Ok(Frame::Bad(1009));
    }
    let mut mask = [0; 4];
    stream.read_exact(&mut mask).await?;
    let mut payload = vec![0; length as usize];
    stream.read_exact(&mut payload).await?;
    for (byte, mask) in payload.iter_mut().zip(mask.iter().cycle()) {
        *byte ^= mask;
    }
    Ok(Frame::Good(first, payload))
}

async fn write<S: AsyncWrite + Unpin>(stream: &mut S, first: u8, payload: &[u8]) -> io::Result<()> {
    let mut frame = vec![first];
    match payload.len() {
        length @ 0..=125 => frame.push(length as u8),
        length @ 126..=0xffff => {
            frame.push(126);
            frame.extend_from_slice(&(length as u16).to_be_bytes());
        }
        length => {
            frame.push(127);
            frame.extend_from_slice(&(length as u64).to_be_bytes());
        }
    }
    frame.extend_from_slice(payload);
    stream.write_all(&frame).await?;
    stream.flush().await
}
