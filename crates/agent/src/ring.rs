//! The event ring, drained by the unprivileged process.

use std::io;
use std::os::fd::OwnedFd;

use aya::maps::{Map, MapData, RingBuf};
use wire::event::{Event, HEADER_LEN};

use crate::sys::Plain;

/// Consumer end of the ring.
pub struct EventRing(RingBuf<MapData>);

impl std::fmt::Debug for EventRing {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("EventRing")
    }
}

impl EventRing {
    /// Maps the ring. The descriptor must be writable: the consumer's position lives in it.
    pub fn open(map: OwnedFd) -> io::Result<Self> {
        let data = MapData::from_fd(map).map_err(io::Error::other)?;
        let map = Map::from_map_data(data).map_err(io::Error::other)?;
        RingBuf::try_from(map).map(Self).map_err(io::Error::other)
    }

    /// Hands at most `max` events to `each`: the event and the frame's first bytes. Returns how
    /// many there were.
    pub fn drain(&mut self, max: usize, mut each: impl FnMut(&Event, &[u8])) -> usize {
        let mut drained = 0;
        while drained < max
            && let Some(item) = self.0.next()
        {
            drained += 1;
            if let Some(event) = Event::from_bytes(&item)
                && let Some(frame) = item.get(HEADER_LEN..)
            {
                let captured = usize::from(event.captured).min(frame.len());
                each(&event, &frame[..captured]);
            }
        }
        drained
    }
}
