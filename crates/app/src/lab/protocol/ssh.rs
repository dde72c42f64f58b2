//! The clear start of SSH (RFC 4253): banners and key exchange offers, then a refused log-in.
//!
//! There are no ciphers: after the offers, packets have SSH's shape and random contents, which is what
//! a log-in looks like from outside.

use std::io;

use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};

use super::super::random::Random;
use super::{expect_close, unexpected};

const SERVER_BANNER: &str = "SSH-2.0-WeirLab_1.0\r\n";
const CLIENT_BANNER: &str = "SSH-2.0-WeirLabClient_1.0\r\n";
/// RFC 4253 section 4.2.
const BANNER_BYTES_MAX: usize = 255;
/// RFC 4253 section 6.1.
const PACKET_BYTES_MAX: usize = 35_000;

const SSH_MSG_DISCONNECT: u8 = 1;
const SSH_MSG_KEXINIT: u8 = 20;
const SSH_MSG_USERAUTH_REQUEST: u8 = 50;
const SSH_MSG_USERAUTH_FAILURE: u8 = 51;

/// Failed log-ins the server takes on one connection.
const TRIES_MAX: u32 = 3;

/// Server's side of one connection. Every log-in fails; after three, or when asked, it closes.
pub(crate) async fn serve<S: AsyncRead + AsyncWrite + Unpin>(
    stream: &mut S,
    random: &mut Random,
) -> io::Result<()> {
    stream.write_all(SERVER_BANNER.as_bytes()).await?;
    read_banner(stream).await?;
    stream
        .write_all(&packet(SSH_MSG_KEXINIT, &offer(random), random))
        .await?;
    read_packet(stream).await?;
    for _ in 0..TRIES_MAX {
        match read_packet(stream).await?.first() {
            Some(&SSH_MSG_DISCONNECT) => return stream.shutdown().await,
            _ => {
                let refusal = packet(SSH_MSG_USERAUTH_FAILURE, b"\0\0\0\x08password\0", random);
                stream.write_all(&refusal).await?;
            }
        }
    }
    stream.shutdown().await
}

/// Client's side up to the key exchange offers, then a farewell.
pub(crate) async fn look<S: AsyncRead + AsyncWrite + Unpin>(
    stream: &mut S,
    random: &mut Random,
) -> io::Result<()> {
    greet(stream, random).await?;
    let farewell = packet(SSH_MSG_DISCONNECT, &[0; 12], random);
    stream.write_all(&farewell).await?;
    expect_close(stream).await
}

/// Client's side with log-ins until the server has enough; how many were refused.
pub(crate) async fn try_passwords<S: AsyncRead + AsyncWrite + Unpin>(
    stream: &mut S,
    random: &mut Random,
) -> io::Result<u32> {
    greet(stream, random).await?;
    let mut refused = 0;
    for _ in 0..TRIES_MAX {
        let mut secret = [0; 48];
        random.fill(&mut secret);
        let request = packet(SSH_MSG_USERAUTH_REQUEST, &secret, random);
        stream.write_all(&request).await?;
        match read_packet(stream).await?.first() {
            Some(&SSH_MSG_USERAUTH_FAILURE) => refused += 1,
            _ => return Err(unexpected("the refusal of a log-in")),
        }
    }
    expect_close(stream).await?;
    Ok(refused)
}

async fn greet<S: AsyncRead + AsyncWrite + Unpin>(stream: &mut S, random: &mut Random) -> io::Result<()> {
    read_banner(stream).await?;
    stream.write_all(CLIENT_BANNER.as_bytes()).await?;
    stream
        .write_all(&packet(SSH_MSG_KEXINIT, &offer(random), random))
        .await?;
    read_packet(stream).await?;
    Ok(())
}

/// Cookie and name lists of SSH_MSG_KEXINIT (RFC 4253 section 7.1).
fn offer(random: &mut Random) -> Vec<u8> {
    let mut body = vec![0; 16];
    random.fill(&mut body);
    for names in [
        "curve25519-sha256",
        "ssh-ed25519",
        "aes256-ctr",
        "aes256-ctr",
        "hmac-sha2-256",
        "hmac-sha2-256",
        "none",
        "none",
        "",
        "",
    ] {
        body.extend((names.len() as u32).to_be_bytes());
        body.extend(names.as_bytes());
    }
    body.extend([0; 5]);
    body
}

/// Length, padding length, kind, body, padding to a multiple of eight (RFC 4253 section 6).
fn packet(kind: u8, body: &[u8], random: &mut Random) -> Vec<u8> {
    let unpadded = 4 + 1 + 1 + body.len();
    let padding = 4 + (8 - (unpadded + 4) % 8) % 8;
    let mut packet = Vec::with_capacity(unpadded + padding);
    packet.extend(((unpadded - 4 + padding) as u32).to_be_bytes());
    packet.push(padding as u8);
    packet.push(kind);
    packet.extend(body);
    let end = packet.len();
    packet.resize(end + padding, 0);
    random.fill(&mut packet[end..]);
    packet
}

/// Kind and body of the next packet.
async fn read_packet<S: AsyncRead + Unpin>(stream: &mut S) -> io::Result<Vec<u8>> {
    let length = stream.read_u32().await? as usize;
    if !(6..=PACKET_BYTES_MAX).contains(&length) {
        return Err(unexpected("an SSH packet of 6 to 35000 bytes"));
    }
    let mut packet = vec![0; length];
    stream.read_exact(&mut packet).await?;
    let padding = usize::from(packet.remove(0));
    let kept = packet.len().saturating_sub(padding);
    packet.truncate(kept);
    Ok(packet)
}

/// Byte by byte, so that nothing behind the line is taken.
async fn read_banner<S: AsyncRead + Unpin>(stream: &mut S) -> io::Result<()> {
    let mut line = Vec::new();
    while line.len() < BANNER_BYTES_MAX {
        match stream.read_u8().await? {
            b'\n' if line.starts_with(b"SSH-2.0-") => return Ok(()),
            b'\n' => break,
            byte => line.push(byte),
        }
    }
    Err(unexpected("a banner that starts with SSH-2.0-"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn both_ends_agree() {
        for tries in [false, true] {
            let (mut near, mut far) = tokio::io::duplex(4096);
            let server = tokio::spawn(async move { serve(&mut far, &mut Random::new(1, "server")).await });
            let mut random = Random::new(1, "client");
            if tries {
                let refused = try_passwords(&mut near, &mut random).await;
                assert_eq!(refused.expect("a refusal"), TRIES_MAX);
            } else {
                look(&mut near, &mut random).await.expect("a farewell");
            }
            server.await.expect("no panic").expect("a clean end");
        }
    }

    #[test]
    fn packets_have_the_shape_of_rfc_4253() {
        for body_bytes in 0..40 {
            let built = packet(SSH_MSG_KEXINIT, &vec![0; body_bytes], &mut Random::new(1, ""));
            assert_eq!(built.len() % 8, 0);
            assert!(built[4] >= 4);
        }
    }
}
