//! The Huffman code of HPACK (RFC 7541, appendix B).
//!
//! It is canonical: symbols in the order of their codes, and how many codes there are of each length, say
//! all of it.

/// Number of codes of each length in bits.
const COUNTS: [u16; 31] = [
    0, 0, 0, 0, 0, 10, 26, 32, 6, 0, 5, 3, 2, 6, 2, 3, 0, 0, 0, 3, 8, 13, 26, 29, 12, 4, 15, 19, 29, 0, 4,
];

/// Symbols in the order of their codes; 256 is the end of a text.
const SYMBOLS: [u16; 257] = [
    48, 49, 50, 97, 99, 101, 105, 111, 115, 116, 32, 37, 45, 46, 47, 51, 52, 53, 54, 55, 56, 57, 61, 65, 95,
    98, 100, 102, 103, 104, 108, 109, 110, 112, 114, 117, 58, 66, 67, 68, 69, 70, 71, 72, 73, 74, 75, 76, 77,
    78, 79, 80, 81, 82, 83, 84, 85, 86, 87, 89, 106, 107, 113, 118, 119, 120, 121, 122, 38, 42, 44, 59, 88,
    90, 33, 34, 40, 41, 63, 39, 43, 124, 35, 62, 0, 36, 64, 91, 93, 126, 94, 125, 60, 96, 123, 92, 195, 208,
    128, 130, 131, 162, 184, 194, 224, 226, 153, 161, 167, 172, 176, 177, 179, 209, 216, 217, 227, 229, 230,
    129, 132, 133, 134, 136, 146, 154, 156, 160, 163, 164, 169, 170, 173, 178, 181, 185, 186, 187, 189, 190,
    196, 198, 228, 232, 233, 1, 135, 137, 138, 139, 140, 141, 143, 147, 149, 150, 151, 152, 155, 157, 158,
    165, 166, 168, 174, 175, 180, 182, 183, 188, 191, 197, 231, 239, 9, 142, 144, 145, 148, 159, 171, 206,
    215, 225, 236, 237, 199, 207, 234, 235, 192, 193, 200, 201, 202, 205, 210, 213, 218, 219, 238, 240, 242,
    243, 255, 203, 204, 211, 212, 214, 221, 222, 223, 241, 244, 245, 246, 247, 248, 250, 251, 252, 253, 254,
    2, 3, 4, 5, 6, 7, 8, 11, 12, 14, 15, 16, 17, 18, 19, 20, 21, 23, 24, 25, 26, 27, 28, 29, 30, 31, 127,
    220, 249, 10, 13, 22, 256,
];

const END: u16 = 256;

/// A text, at most `max` bytes of it; `None` if it is not coded as it should be.
pub(super) fn decode(bytes: &[u8], max: usize) -> Option<Vec<u8>> {
    let mut out = Vec::with_capacity((bytes.len() * 8 / 5).min(max));
    // Of the code so far: its bits, how many, the first code of this length, and where its symbol is.
    let (mut code, mut len, mut first, mut at) = (0u32, 0usize, 0u32, 0u32);
    for byte in bytes {
        for shift in (0..8).rev() {
            code = code << 1 | u32::from(byte >> shift & 1);
            first <<= 1;
            len += 1;
            let count = u32::from(*COUNTS.get(len)?);
            if code.wrapping_sub(first) < count {
                let symbol = SYMBOLS[(at + code - first) as usize];
                if symbol == END {
                    return None;
                }
                if out.len() < max {
                    out.push(symbol as u8);
                }
                (code, len, first, at) = (0, 0, 0, 0);
            } else {
                first += count;
                at += count;
            }
        }
    }
    // Padding is fewer than 8 bits, all of them set.
    (len < 8 && code == (1 << len) - 1).then_some(out)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn examples_of_the_rfc() {
        // RFC 7541, C.4 and C.6.
        let text = b"\xf1\xe3\xc2\xe5\xf2\x3a\x6b\xa0\xab\x90\xf4\xff";
        assert_eq!(decode(text, 99).as_deref(), Some(&b"www.example.com"[..]));
        assert_eq!(
            decode(b"\xa8\xeb\x10\x64\x9c\xbf", 99).as_deref(),
            Some(&b"no-cache"[..])
        );
        assert_eq!(decode(b"\x64\x02", 99).as_deref(), Some(&b"302"[..]));
        assert_eq!(decode(b"", 99).as_deref(), Some(&b""[..]));
        assert_eq!(decode(b"\xff\xff\xff\xff", 99), None);
    }

    #[test]
    fn every_code_is_there_once() {
        assert_eq!(
            COUNTS.iter().map(|&n| usize::from(n)).sum::<usize>(),
            SYMBOLS.len()
        );
        let mut seen = [false; 257];
        for symbol in SYMBOLS {
            assert!(!std::mem::replace(&mut seen[usize::from(symbol)], true));
        }
    }
}
