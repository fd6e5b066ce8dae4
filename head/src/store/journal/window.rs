//! A part of a segment at hand, so that values which follow each other take one read together.

use super::{Place, Result, segment::Segment};

/// What is read at once, unless a value is longer.
const BYTES: usize = 64 * 1024;

/// The part of a segment that was read last.
#[derive(Debug, Default)]
pub(crate) struct Window {
    segment: u64,
    begin: usize,
    bytes: Vec<u8>,
}

impl Window {
    /// The value at a place of this segment.
    pub(super) fn read(&mut self, segment: &Segment, place: Place) -> Result<sled::IVec> {
        if self.find(place).is_none() {
            let length = BYTES.max(place.length as usize);
            self.bytes = segment.read_up_to(place.offset, length)?;
            (self.segment, self.begin) = (place.segment, place.offset as usize);
        }
        match self.find(place) {
            Some(value) => Ok(value.into()),
            // The segment ends too early: reading the value alone says so.
            None => segment.read(place.offset, place.length).map(Into::into),
        }
    }

    fn find(&self, place: Place) -> Option<&[u8]> {
        if self.segment != place.segment {
            return None;
        }
        let begin = (place.offset as usize).checked_sub(self.begin)?;
        self.bytes.get(begin..begin + place.length as usize)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::journal::segment::{self, Fill};

    #[test]
    fn a_value_is_the_same_through_a_window_wherever_it_stands() {
        let dir = tempfile::tempdir().unwrap();
        let segment = Segment::make(dir.path(), 1, None, Fill::Reserved).unwrap();
        let bytes: Vec<u8> = (0..200_000_u32).map(|n| (n % 251) as u8).collect();
        segment.write(&bytes, segment::FIRST_FRAME).unwrap();
        let mut window = Window::default();
        let end = segment::BYTES as u32;
        let places = [
            (64, 10),
            (74, 300),
            (65_000, 600),
            (65_600, 20),
            (70, 5),
            (1_000, 100_000),
            (101_000, 0),
            (end - 7, 7),
            (64, 1),
        ];
        for (offset, length) in places {
            let place = Place {
                segment: 1,
                offset,
                length,
            };
            let value = window.read(&segment, place).unwrap();
            assert_eq!(*value, *segment.read(offset, length).unwrap());
        }
        let beyond = Place {
            segment: 1,
            offset: end - 7,
            length: 8,
        };
        assert!(window.read(&segment, beyond).is_err());
    }
}
