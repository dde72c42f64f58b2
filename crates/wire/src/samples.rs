//! Bytes for tests: headers and frames taken from public captures, in hexadecimal.

use std::vec::Vec;

/// The bytes that pairs of hexadecimal digits state; spaces and line ends are left out.
pub(crate) fn hex(digits: &str) -> Vec<u8> {
    let digits: Vec<u8> = digits
        .bytes()
        .filter(|byte| !byte.is_ascii_whitespace())
        .collect();
    let value = |digit: u8| (digit as char).to_digit(16).expect("a hexadecimal digit") as u8;
    digits
        .chunks(2)
        .map(|pair| value(pair[0]) << 4 | value(pair[1]))
        .collect()
}

/// SYN of 10.1.2.1 to 10.34.0.1 port 23 with an MSS option, as IPv4.
pub(crate) const IP4_TCP_SYN: &str = "45c0002c00000000ff06a4e70a0102010a220001
    2af9001798320ffb0000000060021020a240000002040218";

/// UDP datagram of 10.24.82.188 port 38448 to 10.188.1.1 port 53, 4 bytes of payload, as IPv4.
pub(crate) const IP4_UDP: &str = "4500002000004000401100000a1852bc0abc01019630003500 0c0000 a686ed01";

/// UDP datagram of dead::beef port 30000 to cafe::babe port 13000, 4 bytes of payload, as IPv6.
pub(crate) const IP6_UDP: &str = "60000000000c1140dead000000000000000000000000beefcafe00000000000000000000
    0000babe753032c8000c83d258585858";

/// Ethernet header before IPv4.
pub(crate) const ETHERNET_IP4: &str = "00130249 9d0000b0d0e4131108 00";
