//! The memory a packet socket shares with the kernel: TPACKET_V3, blocks of frames.
//!
//! The kernel fills a block and hands it over whole; what is in it is ours until it is given back.
//! A block that is not full is handed over after [`RETIRE_MS`]. (linux/if_packet.h, and "Packet
//! MMAP" in the kernel's documentation.)

use std::io;
use std::mem::offset_of;
use std::os::fd::{AsRawFd, OwnedFd};
use std::ptr::NonNull;
use std::sync::atomic::{AtomicU32, Ordering};

/// Bytes in a block. A frame must fit one, and a frame of segmentation offload may have half a
/// million bytes ("BIG TCP"), of which capture files hold 256 KiB.
pub(super) const BLOCK_LEN: usize = 512 * 1024;
/// Milliseconds after which a block is handed over with what is in it.
const RETIRE_MS: u32 = 50;

/// Where a frame's sockaddr_ll begins after its header: the next multiple of TPACKET_ALIGNMENT.
const ADDRESS_AT: usize = size_of::<libc::tpacket3_hdr>().next_multiple_of(libc::TPACKET_ALIGNMENT);
const STATUS_AT: usize =
    offset_of!(libc::tpacket_block_desc, hdr) + offset_of!(libc::tpacket_hdr_v1, block_status);

/// Mapped blocks of one socket, and a place in them.
#[derive(Debug)]
pub(super) struct Ring {
    base: NonNull<u8>,
    block_count: usize,
    /// The block being read, or the next one to be.
    block_index: usize,
    frame: Option<FramePlace>,
}

/// The frame to be read next in the block we hold.
#[derive(Debug, Clone, Copy)]
struct FramePlace {
    at: usize,
    frames_left: u32,
}

/// A frame in a block, as the kernel describes it.
#[derive(Debug, Clone, Copy)]
pub(super) struct RawFrame<'a> {
    pub(super) header: libc::tpacket3_hdr,
    /// `sll_pkttype`: PACKET_HOST, PACKET_OUTGOING and so on.
    pub(super) packet_type: u8,
    pub(super) data: &'a [u8],
}

// SAFETY: the mapping belongs to this value alone and is reached through `&mut self` only.
unsafe impl Send for Ring {}

impl Ring {
    /// Gives `socket` a ring of about `length` bytes, at least two blocks, and maps it.
    pub(super) fn map(socket: &OwnedFd, length: usize) -> io::Result<Self> {
        let block_count = (length / BLOCK_LEN).max(2);
        let count = u32::try_from(block_count).map_err(|_| io::ErrorKind::InvalidInput)?;
        let request = libc::tpacket_req3 {
            tp_block_size: BLOCK_LEN as u32,
            tp_block_nr: count,
            // In this version frames are as long as they are: only the products must agree.
            tp_frame_size: BLOCK_LEN as u32,
            tp_frame_nr: count,
            tp_retire_blk_tov: RETIRE_MS,
            tp_sizeof_priv: 0,
            tp_feature_req_word: 0,
        };
        super::set_option(socket, libc::PACKET_RX_RING, &request)?;
        // SAFETY: a fresh mapping at an address of the kernel's choice, over the ring just made.
        let base = unsafe {
            libc::mmap(
                std::ptr::null_mut(),
                block_count * BLOCK_LEN,
                libc::PROT_READ | libc::PROT_WRITE,
                libc::MAP_SHARED,
                socket.as_raw_fd(),
                0,
            )
        };
        if base == libc::MAP_FAILED {
            return Err(io::Error::last_os_error());
        }
        let base = NonNull::new(base.cast()).ok_or(io::ErrorKind::InvalidData)?;
        Ok(Self {
            base,
            block_count,
            block_index: 0,
            frame: None,
        })
    }

    /// The next frame; `None` if the kernel has not handed one over yet. Gives a block back when the
    /// frame after its last one is asked for.
    #[inline]
    pub(super) fn next(&mut self) -> Option<RawFrame<'_>> {
        // Every block is looked at once at most, so that empty ones cannot keep us.
        for _ in 0..=self.block_count {
            match self.frame {
                Some(place) if place.frames_left > 0 => return self.take(place),
                Some(_) => self.give_back(),
                None => {}
            }
            self.begin_block()?;
        }
        None
    }

    fn status(&self) -> &AtomicU32 {
        // SAFETY: `block_index` is below `block_count`, so this is inside the mapping, which lives as
        // long as `self`; blocks are aligned to pages; the kernel writes this word atomically.
        unsafe {
            let status = self.base.add(self.block_index * BLOCK_LEN + STATUS_AT);
            AtomicU32::from_ptr(status.as_ptr().cast())
        }
    }

    fn begin_block(&mut self) -> Option<()> {
        // Acquire: the block's contents are read after the word that says they are ours.
        if self.status().load(Ordering::Acquire) & libc::TP_STATUS_USER == 0 {
            return None;
        }
        let block = self.block();
        let description: libc::tpacket_block_desc = read(block, 0)?;
        // SAFETY: the union has this one member.
        let header = unsafe { description.hdr.bh1 };
        self.frame = Some(FramePlace {
            at: header.offset_to_first_pkt as usize,
            frames_left: header.num_pkts,
        });
        Some(())
    }

    fn give_back(&mut self) {
        self.frame = None;
        // Release: our reads come before the kernel's next writes.
        self.status().store(libc::TP_STATUS_KERNEL, Ordering::Release);
        self.block_index = (self.block_index + 1) % self.block_count;
    }

    /// The block being read. Only called while it is ours.
    fn block<'a>(&self) -> &'a [u8] {
        // SAFETY: inside the mapping, and the kernel does not write to a block that is ours. The
        // lifetime is tied to `&mut self` by `next`, so no slice outlives `give_back`.
        unsafe {
            let block = self.base.add(self.block_index * BLOCK_LEN);
            std::slice::from_raw_parts(block.as_ptr(), BLOCK_LEN)
        }
    }

    /// The kernel's offsets are checked all the same: the rest of a block that lies is passed over.
    #[inline]
    fn take(&mut self, place: FramePlace) -> Option<RawFrame<'_>> {
        let block = self.block();
        let frame = read_frame(block, place.at);
        let next_at = frame
            .as_ref()
            .map_or(0, |frame| frame.header.tp_next_offset as usize);
        self.frame = Some(FramePlace {
            at: place.at + next_at,
            frames_left: if next_at == 0 { 0 } else { place.frames_left - 1 },
        });
        frame
    }
}

impl Drop for Ring {
    fn drop(&mut self) {
        // SAFETY: the mapping made in `map`, which nobody refers to any more. Failure would leave it
        // in place, which is all that could be done about it.
        unsafe {
            libc::munmap(self.base.as_ptr().cast(), self.block_count * BLOCK_LEN);
        }
    }
}

#[inline]
fn read_frame(block: &[u8], at: usize) -> Option<RawFrame<'_>> {
    let header: libc::tpacket3_hdr = read(block, at)?;
    let address: libc::sockaddr_ll = read(block, at + ADDRESS_AT)?;
    let data_at = at + usize::from(header.tp_mac);
    let data = block.get(data_at..data_at + header.tp_snaplen as usize)?;
    Some(RawFrame {
        header,
        packet_type: address.sll_pkttype,
        data,
    })
}

/// A plain kernel structure at `at`.
#[inline]
fn read<T: Copy>(block: &[u8], at: usize) -> Option<T> {
    let bytes = block.get(at..at + size_of::<T>())?;
    // SAFETY: the bytes are there, and the structures read here hold integers only, for which any
    // bytes are a value.
    Some(unsafe { bytes.as_ptr().cast::<T>().read_unaligned() })
}
